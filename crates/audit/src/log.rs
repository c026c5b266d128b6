//! Keep a log: append events, make them durable in groups, sign checkpoints, prove what they hold.
//!
//! Upon `append`: sequence, salt and leaf are fixed, the record joins the batch in memory. Upon `sync`: whoever
//! holds the disk writes everything that waits, once, and syncs; the others find their event durable. Upon
//! `checkpoint`: size and root of this moment, signed after the events behind them are durable. A write or
//! sync that fails stops the log for good: what a failed fsync left on disk nobody knows.

use crate::{
    checkpoint::Signed,
    recovery,
    segment::{self, RECORD_BYTES, TILE_BYTES},
    tree::{Position, TILE_LEAVES, Tree},
};
use alloy_primitives::B256;
use commonware_runtime::{Blob, Storage, WriteOptions};
use futures::lock::Mutex as AsyncMutex;
use hodei_types::{
    ack::Signer,
    event::{Actor, Event, EventError, Fields, Kind, Salt},
    transport::NodeKey,
};
use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard},
};

/// What may wait in memory for the disk; an append beyond it is refused until a sync.
pub const PENDING_BYTES_MAX: usize = 8 << 20;

/// What a log is told at its start.
#[derive(Clone, Debug)]
pub struct Config {
    /// Prefix of the storage partitions it keeps for itself.
    pub partition: String,
    pub genesis: B256,
    /// Secret the salts come from: who has it can tell what the leaves say, destroying it redacts them.
    pub salt_key: [u8; 32],
    /// A segment is closed once it is this long.
    pub segment_bytes: u64,
}

impl Config {
    /// Segments of 8 MiB: one is read whole at a start.
    pub fn new(partition: impl Into<String>, genesis: B256, salt_key: [u8; 32]) -> Self {
        Self { partition: partition.into(), genesis, salt_key, segment_bytes: 8 << 20 }
    }

    pub(crate) fn salt(&self, log: &NodeKey, sequence: u64) -> Salt {
        let mut hasher = blake3::Hasher::new_keyed(&self.salt_key);
        hasher.update(&log.0);
        hasher.update(&sequence.to_be_bytes());
        Salt(hasher.finalize().as_bytes()[..16].try_into().expect("16 of 32 bytes"))
    }

    pub(crate) fn segments(&self) -> String {
        format!("{}-segments", self.partition)
    }

    pub(crate) fn tree(&self) -> String {
        format!("{}-tree", self.partition)
    }
}

/// Why a log did not do what was asked.
#[derive(Clone, Debug, thiserror::Error)]
pub enum LogError {
    #[error("log storage: {0}")]
    Storage(#[from] Arc<commonware_runtime::Error>),
    #[error("the log stopped after a failed write; restart to recover what is durable")]
    Stopped,
    #[error("event refused: {0}")]
    Event(#[from] EventError),
    #[error("{PENDING_BYTES_MAX} bytes wait for the disk already")]
    Full,
    #[error("event {sequence} is damaged on disk")]
    Corrupt { sequence: u64 },
    #[error("the log has {found} events and root {found_root}, but {signed} with root {signed_root} were signed")]
    Rewritten { signed: u64, signed_root: B256, found: u64, found_root: B256 },
    #[error("this folder holds the log of another key or network")]
    Foreign,
    #[error("event {sequence} is not among the first {size}")]
    Absent { sequence: u64, size: u64 },
}

impl From<commonware_runtime::Error> for LogError {
    fn from(error: commonware_runtime::Error) -> Self {
        Self::Storage(Arc::new(error))
    }
}

/// Records waiting for the disk, all of one segment.
pub(crate) struct Chunk {
    start: Position,
    bytes: Vec<u8>,
    /// Sequence after the chunk's last.
    next: u64,
}

/// What is known without the disk; never locked across an await.
pub(crate) struct State {
    pub(crate) tree: Tree,
    pub(crate) pending: VecDeque<Chunk>,
    pub(crate) pending_bytes: usize,
    /// Events on disk.
    pub(crate) durable: u64,
    /// Where the next record goes.
    pub(crate) end: Position,
    pub(crate) signed: Option<Signed>,
    /// Events of the longest checkpoint known to be anchored.
    pub(crate) anchored: u64,
    pub(crate) stopped: bool,
}

/// The open files; who holds the lock has the disk.
pub(crate) struct Io<B> {
    pub(crate) segment: u64,
    pub(crate) blob: B,
    /// Durable bytes of it.
    pub(crate) end: u64,
    pub(crate) tiles: B,
    pub(crate) tiles_written: u64,
    pub(crate) records: B,
    /// Checkpoint records written.
    pub(crate) count: u64,
}

pub(crate) struct Inner<E: Storage> {
    pub(crate) storage: E,
    pub(crate) config: Config,
    signer: Signer,
    state: Mutex<State>,
    pub(crate) io: AsyncMutex<Io<E::Blob>>,
}

/// A node's or client's log. Clones share it.
pub struct Log<E: Storage> {
    pub(crate) inner: Arc<Inner<E>>,
}

impl<E: Storage> Clone for Log<E> {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone() }
    }
}

impl<E: Storage> Log<E> {
    /// Opens the log, or begins it: drops a torn tail, refuses a history that is not the signed one.
    pub async fn open(storage: E, config: Config, signer: Signer) -> Result<Self, LogError> {
        let mut cached = true;
        loop {
            let recovered = recovery::recover(&storage, &config, &signer, cached).await;
            let error = match recovered {
                Ok((state, io)) => {
                    let (state, io) = (Mutex::new(state), AsyncMutex::new(io));
                    return Ok(Self { inner: Arc::new(Inner { storage, config, signer, state, io }) });
                }
                Err(error) => error,
            };
            // The tile cache may be what is damaged: the second time events alone decide.
            match error {
                LogError::Corrupt { .. } | LogError::Rewritten { .. } if cached => cached = false,
                error => return Err(error),
            }
        }
    }

    /// Whose log this is.
    pub fn key(&self) -> NodeKey {
        self.inner.signer.node()
    }

    /// Events so far, durable or not: the next one's sequence.
    pub fn len(&self) -> u64 {
        self.state().tree.size()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The last checkpoint signed.
    pub fn signed(&self) -> Option<Signed> {
        self.state().signed.clone()
    }

    /// The last checkpoint signed, if it is not known to be anchored: of a node that died in between, too.
    pub fn unanchored(&self) -> Option<Signed> {
        let state = self.state();
        state.signed.clone().filter(|signed| signed.size > state.anchored)
    }

    /// Events known to be anchored.
    pub fn anchored_events(&self) -> u64 {
        self.state().anchored
    }

    /// Fixes the next event and returns its sequence; durable only after [`Log::sync`].
    ///
    /// `fields` is given the leaf's salt, with which it hides contents ([`Salt::content`]).
    pub fn append(
        &self,
        time_ms: u64,
        kind: Kind,
        actor: Actor,
        fields: impl FnOnce(&Salt) -> Fields,
    ) -> Result<u64, LogError> {
        let mut state = self.state();
        if state.stopped {
            return Err(LogError::Stopped);
        }
        let sequence = state.tree.size();
        let salt = self.inner.config.salt(&self.key(), sequence);
        let event = Event { sequence, time_ms, kind, actor, fields: fields(&salt) }.encode()?;
        if state.pending_bytes + event.len() > PENDING_BYTES_MAX {
            return Err(LogError::Full);
        }
        if state.end.offset >= self.inner.config.segment_bytes {
            state.end = Position { segment: sequence, offset: 0 };
        }
        let at = state.end;
        state.tree.push(salt.leaf(&event), at);
        if state.pending.back().is_none_or(|chunk| chunk.start.segment != at.segment) {
            state.pending.push_back(Chunk { start: at, bytes: Vec::new(), next: sequence });
        }
        let chunk = state.pending.back_mut().expect("one was pushed");
        let before = chunk.bytes.len();
        segment::write(&mut chunk.bytes, sequence, &event);
        chunk.next = sequence + 1;
        let added = chunk.bytes.len() - before;
        state.pending_bytes += added;
        state.end.offset += added as u64;
        Ok(sequence)
    }

    /// [`Log::append`] and [`Log::sync`].
    pub async fn record(
        &self,
        time_ms: u64,
        kind: Kind,
        actor: Actor,
        fields: impl FnOnce(&Salt) -> Fields,
    ) -> Result<u64, LogError> {
        let sequence = self.append(time_ms, kind, actor, fields)?;
        self.sync_to(sequence + 1).await?;
        Ok(sequence)
    }

    /// Returns once every event appended before the call is durable. Safe to cancel.
    pub async fn sync(&self) -> Result<(), LogError> {
        let target = self.len();
        self.sync_to(target).await
    }

    pub(crate) async fn sync_to(&self, target: u64) -> Result<(), LogError> {
        if self.durable(target)? {
            return Ok(());
        }
        let mut io = self.inner.io.lock().await;
        while !self.durable(target)? {
            // A copy: whoever is cancelled here leaves the batch for the next, who writes it again.
            let (start, bytes, next) = {
                let state = self.state();
                let chunk = state.pending.front().expect("what is not durable is pending");
                (chunk.start, chunk.bytes.clone(), chunk.next)
            };
            if start.segment != io.segment {
                self.write_tiles(&mut io).await?;
                self.checked(io.tiles.sync().await)?;
                let name = start.segment.to_be_bytes();
                // Nothing was written yet: an open that fails may be tried again.
                (io.blob, _) = self.inner.storage.open(&self.inner.config.segments(), &name).await?;
                (io.segment, io.end) = (start.segment, 0);
            }
            let written = bytes.len();
            self.checked(io.blob.write_at(start.offset, bytes, WriteOptions::default()).await)?;
            self.checked(io.blob.sync().await)?;
            io.end = start.offset + written as u64;
            let mut state = self.state();
            state.durable = next;
            state.pending_bytes -= written;
            let chunk = state.pending.front_mut().expect("only the holder of the disk takes chunks away");
            chunk.bytes.drain(..written);
            chunk.start.offset += written as u64;
            if chunk.bytes.is_empty() {
                state.pending.pop_front();
            }
        }
        self.write_tiles(&mut io).await
    }

    /// Signs what is appended by now; `None` if nothing was since the last checkpoint.
    pub async fn checkpoint(&self) -> Result<Option<Signed>, LogError> {
        let (size, root) = {
            let state = self.state();
            if state.tree.size() == state.signed.as_ref().map_or(0, |signed| signed.size) {
                return Ok(None);
            }
            (state.tree.size(), state.tree.root())
        };
        self.sync_to(size).await?;
        let signed = Signed::new(self.inner.config.genesis, &self.inner.signer, size, root);
        let mut io = self.inner.io.lock().await;
        // Another call may have signed a longer log meanwhile: never go back.
        if self.state().signed.as_ref().is_some_and(|last| last.size >= size) {
            return Ok(None);
        }
        self.write_record(&mut io, &signed, 0).await?;
        self.checked(io.records.sync().await)?;
        self.state().signed = Some(signed.clone());
        Ok(Some(signed))
    }

    /// Notes, durably, that a checkpoint's cohort was anchored in block `height`: for receipts made later.
    pub async fn anchored(&self, signed: &Signed, height: u64) -> Result<(), LogError> {
        let mut io = self.inner.io.lock().await;
        self.write_record(&mut io, signed, height).await?;
        self.checked(io.records.sync().await)?;
        let mut state = self.state();
        state.anchored = state.anchored.max(signed.size);
        Ok(())
    }

    async fn write_record(&self, io: &mut Io<E::Blob>, signed: &Signed, height: u64) -> Result<(), LogError> {
        let record = segment::write_record(io.count, signed, height);
        let offset = io.count * RECORD_BYTES as u64;
        self.checked(io.records.write_at(offset, record.to_vec(), WriteOptions::default()).await)?;
        io.count += 1;
        Ok(())
    }

    /// Notes tiles whose events are durable. A cache: what is torn here is read from the events again.
    async fn write_tiles(&self, io: &mut Io<E::Blob>) -> Result<(), LogError> {
        let first = io.tiles_written;
        let (mut records, mut next) = (Vec::new(), first);
        {
            let state = self.state();
            while (next + 1) * TILE_LEAVES <= state.durable {
                let (start, root) = state.tree.tile(next).expect("its events are in the tree");
                records.extend_from_slice(&segment::write_tile(next, start, root));
                next += 1;
            }
        }
        if next > first {
            let offset = first * TILE_BYTES as u64;
            self.checked(io.tiles.write_at(offset, records, WriteOptions::default()).await)?;
            io.tiles_written = next;
        }
        Ok(())
    }

    fn durable(&self, target: u64) -> Result<bool, LogError> {
        let state = self.state();
        match (state.durable >= target, state.stopped) {
            (true, _) => Ok(true),
            (false, true) => Err(LogError::Stopped),
            (false, false) => Ok(false),
        }
    }

    /// Stops the log on a failed write or sync.
    fn checked(&self, result: Result<(), commonware_runtime::Error>) -> Result<(), LogError> {
        result.map_err(|error| {
            tracing::error!(%error, "audit log stopped");
            self.state().stopped = true;
            error.into()
        })
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.inner.state.lock().expect("no holder of the lock panics")
    }
}
