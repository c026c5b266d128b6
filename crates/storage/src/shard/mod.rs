//! Hold other people's shards, and say so only when they are on disk.
//!
//! Append-only segments are the truth; the index is a cache of them. Upon a put the bytes are hashed, queued,
//! and written by the one writer together with whatever else waits; after one sync the deals' trees advance,
//! the index follows, and acks are signed. Upon opening, the index is read up to its watermark and the
//! segments are scanned from there; a torn tail is cut off, which only loses what nobody was told of.
//!
//! A failed write or sync stops the store for good: what the disk then holds is unknown until it is opened
//! anew. Nothing here reads a clock; batches form from what arrived during the last sync.

mod compact;
mod decline;
mod keep;
mod plan;
mod record;
mod recover;
mod scrub;
mod state;
mod writer;

#[cfg(test)]
mod cramped;
#[cfg(test)]
mod rot;
#[cfg(test)]
mod tests;

use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

use bytes::{Buf, Bytes};
use commonware_runtime::{Blob, Error as RuntimeError, ReadOptions, Storage};
use futures::{
    SinkExt,
    channel::{mpsc, oneshot},
};
use hodei_types::{
    ack::{Ack, Signer, Statement},
    decline::Ground,
    holding::Node,
    index::{Index, IndexError},
    slice::{self, CHUNK_BYTES, ShardId, SliceError},
};

use crate::{
    prove::{self, Drawn, ProveError},
    wire::{Held, LISTED_MAX, UploadId},
};
pub use decline::DECLINED_MAX;
use record::HEADER_BYTES;
pub use scrub::{Lost, Mark, Removed, Scrubbed};
use state::{Location, State};
pub use writer::Writer;

/// How a store is laid out.
#[derive(Clone, Debug)]
pub struct Config {
    /// Partition of the runtime's storage.
    pub partition: String,
    /// Bytes promised; the store never takes more.
    pub pledge_bytes: u64,
    /// Bytes of a new segment, preallocated.
    pub segment_bytes: u64,
    /// Bytes that may wait for the writer; beyond it a put is refused as busy.
    pub queue_bytes_max: u64,
    /// In each statement signed.
    pub chain_id: u64,
}

/// No smaller pledge holds a useful store.
pub const PLEDGE_BYTES_MIN: u64 = 16 * 1024 * 1024;
/// A segment holds at least one batch.
const SEGMENT_BYTES_MIN: u64 = 8 * 1024 * 1024;

impl Config {
    /// For production: 256 MiB segments, 64 MiB waiting.
    pub fn new(partition: &str, pledge_bytes: u64, chain_id: u64) -> Self {
        Self {
            partition: partition.into(),
            pledge_bytes,
            segment_bytes: 256 << 20,
            queue_bytes_max: 64 << 20,
            chain_id,
        }
    }

    /// A small pledge has small segments, so that there are several to compact.
    fn segment_bytes(&self) -> u64 {
        let bytes = self.segment_bytes.min(self.pledge_bytes / 8).max(SEGMENT_BYTES_MIN);
        bytes - bytes % record::ALIGN
    }
}

/// Why the store did not do it.
#[derive(Clone, Debug, thiserror::Error)]
pub enum StoreError {
    #[error("{free_bytes} bytes are free of what was pledged")]
    Full { free_bytes: u64 },
    #[error("{queued_bytes} bytes wait for the disk")]
    Busy { queued_bytes: u64 },
    #[error("expected shard {expected}, the bytes hash to {found}")]
    WrongBytes { expected: ShardId, found: ShardId },
    #[error(transparent)]
    Length(#[from] SliceError),
    #[error("deal {deal} is over, or lost part of its history to the disk")]
    DealBroken { deal: u64 },
    #[error("deal {deal}: {error}")]
    Prove { deal: u64, error: ProveError },
    #[error("shard {0} is on disk but damaged")]
    Damaged(ShardId),
    #[error("shard {0} is declined")]
    Declined(ShardId),
    #[error("{known} shards are declined and {more} more were named, at most {DECLINED_MAX} can be")]
    DeclinedFull { known: usize, more: usize },
    #[error("the pledge of {0} bytes is below {PLEDGE_BYTES_MIN}")]
    Pledge(u64),
    #[error("segment {segment} belongs to another node or version")]
    Foreign { segment: u64 },
    #[error("{0}")]
    Index(#[from] IndexError),
    #[error("disk: {0}")]
    Disk(Arc<RuntimeError>),
    /// A write failed before; open the store anew.
    #[error("the store has stopped")]
    Stopped,
}

impl From<RuntimeError> for StoreError {
    fn from(error: RuntimeError) -> Self {
        Self::Disk(Arc::new(error))
    }
}

/// Part of a shard, with what is needed to check it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slice {
    pub shard_bytes: u32,
    pub bytes: Bytes,
    /// Hashes beside the slice, 32 bytes each.
    pub hashes: Vec<u8>,
}

/// A provider's shards; clones share it.
pub struct Store<E: Storage, I: Index> {
    inner: Arc<Inner<E, I>>,
    writer: mpsc::Sender<Op>,
}

impl<E: Storage, I: Index> Clone for Store<E, I> {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone(), writer: self.writer.clone() }
    }
}

struct Inner<E: Storage, I: Index> {
    storage: E,
    index: I,
    config: Config,
    signer: Arc<Signer>,
    state: Mutex<State<E::Blob>>,
    queued_bytes: Arc<AtomicU64>,
    /// The ledger's time, as far as it was told: what is kept until then may go.
    told_ms: AtomicU64,
    stopped: AtomicBool,
}

/// Bytes counted as waiting until this is dropped, be it with a cancelled put.
struct Ticket {
    queued_bytes: Arc<AtomicU64>,
    bytes: u64,
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.queued_bytes.fetch_sub(self.bytes, Ordering::AcqRel);
    }
}

/// A shard to be stored.
struct Put {
    deal: u64,
    id: ShardId,
    upload: UploadId,
    bytes: Bytes,
    ticket: Ticket,
    done: oneshot::Sender<Result<Held, StoreError>>,
}

/// What the writer is asked to make durable.
enum Op {
    Put(Put),
    Release {
        deal: u64,
        ids: Vec<ShardId>,
        done: oneshot::Sender<Result<Vec<ShardId>, StoreError>>,
    },
    Keep {
        deal: u64,
        ids: Vec<ShardId>,
        until_ms: u64,
        done: oneshot::Sender<Result<Vec<bool>, StoreError>>,
    },
    Decline {
        ids: Vec<ShardId>,
        time_ms: u64,
        ground: Ground,
        done: oneshot::Sender<Result<(), StoreError>>,
    },
    Forget {
        deal: u64,
        done: oneshot::Sender<Result<(), StoreError>>,
    },
    Posted {
        deal: u64,
        sequence: u64,
        done: oneshot::Sender<Result<(), StoreError>>,
    },
    /// From here on each alone, between two batches.
    Compact {
        done: oneshot::Sender<Result<Option<u64>, StoreError>>,
    },
    Judge {
        deal: u64,
        id: ShardId,
        done: oneshot::Sender<Result<Option<scrub::Judged>, StoreError>>,
    },
    NoticeRemoved {
        done: oneshot::Sender<Result<Removed, StoreError>>,
    },
}

impl<E: Storage, I: Index> Store<E, I> {
    /// Opens or creates the store, recovering what is durable. Run the writer for as long as the store is
    /// used; it ends when the last clone is dropped or the disk fails.
    pub async fn open(
        storage: E,
        config: Config,
        signer: Arc<Signer>,
        index: I,
    ) -> Result<(Self, Writer<E, I>), StoreError> {
        if config.pledge_bytes < PLEDGE_BYTES_MIN {
            return Err(StoreError::Pledge(config.pledge_bytes));
        }
        let node = signer.node();
        let state = recover::recover(&storage, &config.partition, &node, &index).await?;
        let inner = Arc::new(Inner {
            storage,
            index,
            config,
            signer,
            state: Mutex::new(state),
            queued_bytes: Arc::default(),
            told_ms: AtomicU64::new(0),
            stopped: AtomicBool::new(false),
        });
        // Bounded by bytes; the channel's own bound only keeps tiny operations from piling up.
        let (writer, ops) = mpsc::channel(64);
        Ok((Self { inner: inner.clone(), writer }, Writer::new(inner, ops)))
    }

    /// Refuses, before the body, what there is no room or no time for.
    pub fn admit(&self, len: u32) -> Result<(), StoreError> {
        slice::check_length(len.into())?;
        if self.inner.stopped.load(Ordering::Acquire) {
            return Err(StoreError::Stopped);
        }
        let queued_bytes = self.queued_bytes();
        let bytes = record::record_bytes(len);
        if queued_bytes + bytes > self.inner.config.queue_bytes_max {
            return Err(StoreError::Busy { queued_bytes });
        }
        let free_bytes = self.free_bytes();
        if bytes > free_bytes { Err(StoreError::Full { free_bytes }) } else { Ok(()) }
    }

    /// Stores a shard for a deal; returns once it is durable. The same again gives an ack of the same
    /// position. Dropping the future does not undo it.
    pub async fn put(&self, deal: u64, id: ShardId, upload: UploadId, bytes: Bytes) -> Result<Held, StoreError> {
        let len = u32::try_from(bytes.len()).map_err(|_| SliceError::Length(bytes.len() as u64))?;
        self.admit(len)?;
        let found = ShardId::of(&bytes);
        if found != id {
            return Err(StoreError::WrongBytes { expected: id, found });
        }
        let ticket = Ticket { queued_bytes: self.inner.queued_bytes.clone(), bytes: record::record_bytes(len) };
        ticket.queued_bytes.fetch_add(ticket.bytes, Ordering::AcqRel);
        self.ask(|done| Op::Put(Put { deal, id, upload, bytes, ticket, done })).await
    }

    /// Ends the deal's holding of these shards, but for those that are kept; gives those it let go of. Their bytes stay
    /// until a root without them is on the ledger ([`Store::posted`]).
    pub async fn release(&self, deal: u64, ids: &[ShardId]) -> Result<Vec<ShardId>, StoreError> {
        let ids = ids.to_vec();
        self.ask(|done| Op::Release { deal, ids, done }).await
    }

    /// The deal has ended on the ledger: nothing of it is owed any more.
    pub async fn forget(&self, deal: u64) -> Result<(), StoreError> {
        self.ask(|done| Op::Forget { deal, done }).await
    }

    /// The ledger has the deal's root of change `sequence`: what was released before may go.
    pub async fn posted(&self, deal: u64, sequence: u64) -> Result<(), StoreError> {
        self.ask(|done| Op::Posted { deal, sequence, done }).await
    }

    /// Rewrites the segment with most to gain, if one is more than 40 % dead. Gives the bytes won.
    pub async fn compact(&self) -> Result<Option<u64>, StoreError> {
        self.ask(|done| Op::Compact { done }).await
    }

    /// `len` bytes from `offset` of a shard, both in whole KiB; 0 means to the end. `None` if the deal does
    /// not hold it or there are no such bytes.
    pub async fn get(&self, deal: u64, id: ShardId, offset: u32, len: u32) -> Result<Option<Slice>, StoreError> {
        let Some(location) = self.inner.locate(deal, &id).await? else { return Ok(None) };
        if !self.lock().holds(deal, &location) || self.declined(&id).is_some() {
            return Ok(None);
        }
        let shard = self.read(deal, id, &location).await?;
        let end = if len == 0 { location.len } else { offset.saturating_add(len) };
        let chunk = CHUNK_BYTES as u32;
        if offset >= end || end > location.len || !offset.is_multiple_of(chunk) || !end.is_multiple_of(chunk) {
            return Ok(None);
        }
        let hashes = slice::prove(&shard, (offset / chunk) as usize..(end / chunk) as usize).concat();
        let bytes = shard.slice(offset as usize..end as usize);
        Ok(Some(Slice { shard_bytes: location.len, bytes, hashes }))
    }

    /// Whether the deal still counts this shard although its bytes are gone.
    pub async fn is_lost(&self, deal: u64, id: ShardId) -> Result<bool, StoreError> {
        let location = self.inner.locate(deal, &id).await?;
        Ok(location.is_some_and(|location| location.lost && self.lock().counts(deal, location.position)))
    }

    /// Which of these the deal holds.
    pub async fn has(&self, deal: u64, ids: &[ShardId]) -> Result<Vec<bool>, StoreError> {
        let mut held = Vec::with_capacity(ids.len());
        for id in ids {
            let location = self.inner.locate(deal, id).await?;
            held.push(
                location.is_some_and(|location| self.lock().holds(deal, &location)) && self.declined(id).is_none(),
            );
        }
        Ok(held)
    }

    /// The deal's newest statement, signed, and the entries of its tree; `None` while it is empty.
    #[expect(clippy::unused_async, reason = "trees too large for memory will be read from disk")]
    pub async fn state(&self, deal: u64) -> Result<(Option<Ack>, u64), StoreError> {
        let statement = self.lock().statement(deal, None);
        Ok(match statement {
            Some((statement, shards, _)) => {
                (Some(self.inner.signer.ack(self.inner.config.chain_id, statement)), shards)
            }
            None => (None, 0),
        })
    }

    /// Shards the deal holds from position `from` on, each with its KiB, at most so many as one message lists; where to
    /// go on, and where the deal's tree ends.
    #[expect(clippy::unused_async, reason = "trees too large for memory will be read from disk")]
    pub async fn list(&self, deal: u64, from: u64) -> Result<(Vec<(ShardId, u16)>, u64, u64), StoreError> {
        let state = self.lock();
        let Some(deal) = state.deals.get(&deal) else { return Ok((Vec::new(), 0, 0)) };
        let (end, mut next, mut held) = (deal.tree.shards(), from, Vec::new());
        while next < end && held.len() < LISTED_MAX {
            held.extend(deal.tree.entry(next as u32).filter(|entry| entry.2.is_none()).map(|(id, kib, _)| (id, kib)));
            next += 1;
        }
        Ok((held, next, end))
    }

    /// Chunks of 1 KiB the deal holds.
    pub fn leaves(&self, deal: u64) -> u64 {
        self.lock().deals.get(&deal).map_or(0, |deal| deal.tree.leaves())
    }

    /// Deals with anything in the store, in order.
    pub fn deals(&self) -> Vec<u64> {
        self.lock().deals.keys().copied().collect()
    }

    /// The proof of a drawn leaf against any root the deal ever had.
    pub async fn prove(&self, deal: u64, root: [u8; 32], leaves: u64, leaf: u64) -> Result<Vec<u8>, StoreError> {
        let wrap = |error| StoreError::Prove { deal, error };
        let drawn: Drawn = match self.lock().deals.get(&deal) {
            Some(deal) => deal.tree.find(&root, leaves, leaf).map_err(wrap)?,
            None => return Err(wrap(ProveError::UnknownRoot { leaves })),
        };
        let location = self.inner.locate(deal, &drawn.id).await?.filter(|location| !location.lost);
        let shard = self.read(deal, drawn.id, &location.ok_or(StoreError::Damaged(drawn.id))?).await?;
        prove::prove(&drawn, &shard).ok_or(StoreError::Damaged(drawn.id))
    }

    /// Bytes a put may still take.
    pub fn free_bytes(&self) -> u64 {
        self.free_bytes_on(u64::MAX)
    }

    /// The same on a disk that has only `disk_bytes` left: a segment takes room as it is written.
    pub fn free_bytes_on(&self, disk_bytes: u64) -> u64 {
        let config = &self.inner.config;
        let pledged = self.lock().free_bytes(config.pledge_bytes, config.segment_bytes());
        pledged.min(disk_bytes).saturating_sub(self.queued_bytes())
    }

    /// Bytes of the pledge that no put takes: a segment's worth, into which another is written anew.
    pub fn reserve_bytes(&self) -> u64 {
        self.inner.config.segment_bytes()
    }

    /// Bytes its segments take on the disk, that is what was written of each.
    pub fn used_bytes(&self) -> u64 {
        self.lock().used_bytes()
    }

    /// Bytes of shards that deals count, lost ones included.
    pub fn held_bytes(&self) -> u64 {
        self.lock().deals.values().map(|deal| deal.tree.leaves() * CHUNK_BYTES as u64).sum()
    }

    /// Bytes waiting for the writer.
    pub fn queued_bytes(&self) -> u64 {
        self.inner.queued_bytes.load(Ordering::Acquire)
    }

    /// Whether a failed write has stopped the store.
    pub fn is_stopped(&self) -> bool {
        self.inner.stopped.load(Ordering::Acquire)
    }

    fn lock(&self) -> MutexGuard<'_, State<E::Blob>> {
        self.inner.lock()
    }

    /// The whole shard; one that is not there any more is marked lost, unless it only moved.
    async fn read(&self, deal: u64, id: ShardId, location: &Location) -> Result<Bytes, StoreError> {
        match self.inner.read(&id, location).await {
            Err(StoreError::Damaged(_) | StoreError::Disk(_)) => {}
            read => return read,
        }
        self.judge(deal, id).await?;
        let again = self.inner.locate(deal, &id).await?.filter(|location| !location.lost);
        self.inner.read(&id, &again.ok_or(StoreError::Damaged(id))?).await
    }

    async fn ask<T>(&self, op: impl FnOnce(oneshot::Sender<Result<T, StoreError>>) -> Op) -> Result<T, StoreError> {
        let (done, answer) = oneshot::channel();
        self.writer.clone().send(op(done)).await.map_err(|_| StoreError::Stopped)?;
        answer.await.map_err(|_| StoreError::Stopped)?
    }
}

impl<E: Storage, I: Index> Inner<E, I> {
    fn lock(&self) -> MutexGuard<'_, State<E::Blob>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn locate(&self, deal: u64, id: &ShardId) -> Result<Option<Location>, StoreError> {
        Ok(self.index.get(&state::location_key(deal, id)).await?.and_then(|value| Location::decode(&value)))
    }

    /// The whole shard, checked against its id.
    async fn read(&self, id: &ShardId, location: &Location) -> Result<Bytes, StoreError> {
        let blob = self.lock().segments.get(&location.segment).map(|segment| segment.blob.clone());
        let blob = blob.ok_or(StoreError::Damaged(*id))?;
        let from = location.offset + HEADER_BYTES as u64;
        let len = location.len as usize;
        let mut bytes = blob.read_at(from, len, ReadOptions::default()).await?.freeze();
        let bytes = bytes.copy_to_bytes(len);
        if ShardId::of(&bytes) == *id { Ok(bytes) } else { Err(StoreError::Damaged(*id)) }
    }

    /// The ack of the entry at `position`, over the deal's newest root.
    fn held(&self, deal: u64, position: u32) -> Result<Held, StoreError> {
        let found = self.lock().statement(deal, Some(position));
        let (statement, shards, path): (Statement, u64, Vec<Node>) = found.ok_or(StoreError::DealBroken { deal })?;
        let path = path.iter().flat_map(Node::to_bytes).collect();
        Ok(Held { ack: self.signer.ack(self.config.chain_id, statement), shards, path })
    }
}
