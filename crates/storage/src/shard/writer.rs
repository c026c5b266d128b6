//! Write what waits, sync once, then acknowledge.
//!
//! Upon an operation: gather what else waits, up to 4 MiB; lay it out behind the head segment's end, or in a
//! new segment if it does not fit; write; sync; and only then let trees and index advance and answer. Since
//! a batch is never split over segments and the next begins after the sync, only the last batch of the last
//! segment can be torn.

use std::{
    collections::BTreeMap,
    io::ErrorKind,
    sync::{Arc, atomic::Ordering},
};

use bytes::Bytes;
use commonware_runtime::{Blob, Error as RuntimeError, IoBuf, Storage, WriteOptions};
use futures::{
    StreamExt,
    channel::{mpsc, oneshot},
};
use hodei_types::{
    index::{Change as IndexChange, Index},
    slice::ShardId,
};

use super::{
    Inner, Op, StoreError, decline, keep,
    plan::{Plan, Reply},
    record::{ALIGN, HEADER_BYTES, Header, Kind, record_bytes},
    recover::{self, segment_header},
    state::{self, Entry, Location, Segment},
};
use crate::prove::Change;

/// A batch is closed once it has this much: a sync costs about as much as writing it.
pub(super) const BATCH_BYTES: u64 = 4 << 20;
/// The index survives a crash up to here at least; what is later is scanned again.
const BATCHES_PER_DURABLE_INDEX: u64 = 64;

/// The one task that writes.
pub struct Writer<E: Storage, I: Index> {
    inner: Arc<Inner<E, I>>,
    ops: mpsc::Receiver<Op>,
}

/// Whether a write found no room: with blocks reserved as they are written, a later sync then meets none either.
fn is_full(error: &RuntimeError) -> bool {
    let RuntimeError::Io(error) = error else { return false };
    matches!(error.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge)
}

impl<E: Storage, I: Index> Writer<E, I> {
    pub(super) fn new(inner: Arc<Inner<E, I>>, ops: mpsc::Receiver<Op>) -> Self {
        Self { inner, ops }
    }

    /// Writes until the last store is dropped, or until a write fails: then everything is refused.
    pub async fn run(mut self) {
        let mut next = self.ops.next().await;
        while let Some(first) = next.take() {
            let mut ops = Vec::new();
            let mut bytes = 0;
            let mut op = Some(first);
            let mut alone = None;
            while let Some(taken) = op.take() {
                if let Op::Compact { .. } | Op::Judge { .. } | Op::NoticeRemoved { .. } = taken {
                    alone = Some(taken);
                    break;
                }
                bytes += taken.bytes();
                ops.push(taken);
                if bytes < BATCH_BYTES {
                    op = self.ops.try_recv().ok();
                }
            }
            let result = self.inner.commit(ops).await;
            let result = match (result, alone) {
                (Ok(()), Some(op)) => self.inner.between_batches(op).await,
                (result, _) => result,
            };
            if let Err(error) = result {
                tracing::error!(%error, "the shard store stops");
                self.inner.stopped.store(true, Ordering::Release);
                return;
            }
            next = self.ops.next().await;
        }
    }
}

impl Op {
    /// On disk.
    fn bytes(&self) -> u64 {
        match self {
            Self::Put(put) => record_bytes(put.bytes.len() as u32),
            Self::Release { ids, .. } => ids.len() as u64 * ALIGN,
            Self::Keep { ids, .. } | Self::Decline { ids, .. } => record_bytes((ids.len() * 32) as u32),
            Self::Forget { .. } => ALIGN,
            Self::Posted { .. } | Self::Compact { .. } | Self::Judge { .. } | Self::NoticeRemoved { .. } => 0,
        }
    }
}

/// Answers, and gives the error a store does not survive.
fn answer<T>(done: oneshot::Sender<Result<T, StoreError>>, result: Result<T, StoreError>) -> Result<(), StoreError> {
    // No room to move things to harms nothing: what was copied is a copy.
    let failed = result.as_ref().err().filter(|error| !matches!(error, StoreError::Full { .. })).cloned();
    let _ = done.send(result);
    failed.map_or(Ok(()), Err)
}

impl<E: Storage, I: Index> Inner<E, I> {
    /// What is done alone, while nothing is being written.
    async fn between_batches(&self, op: Op) -> Result<(), StoreError> {
        match op {
            Op::Compact { done } => answer(done, self.compact().await),
            Op::Judge { deal, id, done } => answer(done, self.look_again(deal, id).await),
            Op::NoticeRemoved { done } => answer(done, self.forget_removed().await),
            op => self.commit(vec![op]).await,
        }
    }

    async fn commit(&self, ops: Vec<Op>) -> Result<(), StoreError> {
        let mut plan = Plan::default();
        for op in ops {
            self.plan(op, &mut plan).await?;
        }
        let places = match self.append(&mut plan.records).await {
            Ok(places) => places,
            Err(full @ StoreError::Full { .. }) => {
                plan.replies.into_iter().for_each(|reply| reply.refuse(&full));
                return Ok(());
            }
            Err(error) => return Err(error),
        };
        let changes = self.apply(&plan, &places).await?;
        let durable = self.lock().batch.is_multiple_of(BATCHES_PER_DURABLE_INDEX);
        if !changes.is_empty() {
            self.index.apply(changes, durable).await?;
        }
        for reply in plan.replies {
            // Nobody waits any more? It is durable all the same.
            match reply {
                Reply::Held { deal, position, ticket, done } => {
                    drop(ticket);
                    drop(done.send(self.held(deal, position)));
                }
                Reply::Released { ids, done } => drop(done.send(Ok(ids))),
                Reply::Kept { held, done } => drop(done.send(Ok(held))),
                Reply::Done(done) => drop(done.send(Ok(()))),
            }
        }
        Ok(())
    }

    /// Makes sure that `bytes` fit one segment, opening a new one if needed. The last one the pledge allows is
    /// reserved for what frees space.
    pub(super) async fn room(&self, bytes: u64, frees: bool) -> Result<(), StoreError> {
        let (number, segment_bytes) = {
            let state = self.lock();
            let rest = state.segments.last_key_value().map_or(0, |(_, head)| head.size - head.end);
            if bytes <= rest {
                return Ok(());
            }
            let segment_bytes = self.config.segment_bytes();
            let taken: u64 = state.segments.values().map(|segment| segment.size).sum();
            let reserve = if frees { 0 } else { segment_bytes };
            let fits = taken + segment_bytes + reserve <= self.config.pledge_bytes;
            if !fits || bytes + ALIGN > segment_bytes {
                return Err(StoreError::Full { free_bytes: rest });
            }
            (state.last_segment + 1, segment_bytes)
        };
        let name = number.to_be_bytes();
        let made = self.make_segment(number, segment_bytes).await;
        match made {
            Ok(blob) => {
                let segment = Segment { blob: Arc::new(blob), end: ALIGN, size: segment_bytes, dead: 0 };
                let mut state = self.lock();
                state.last_segment = number;
                state.segments.insert(number, segment);
                Ok(())
            }
            Err(error) => {
                // Most likely the disk is full although the pledge is not: nothing was promised for it.
                tracing::warn!(%error, number, "a new segment could not be made");
                self.lock().last_segment = number;
                let _ = self.storage.remove(&self.config.partition, Some(&name)).await;
                Err(StoreError::Full { free_bytes: 0 })
            }
        }
    }

    /// As long as it will ever be, but only its header written: filling it with zeros would write every byte twice.
    async fn make_segment(&self, number: u64, bytes: u64) -> Result<E::Blob, StoreError> {
        let (blob, _) = self.storage.open(&self.config.partition, &number.to_be_bytes()).await?;
        blob.resize(bytes).await?;
        // Not inside the call: a guard must not live over the wait.
        let batch = self.lock().batch;
        blob.write_at(0, segment_header(&self.signer.node(), number, batch), WriteOptions::default()).await?;
        blob.sync().await?;
        Ok(blob)
    }

    /// Writes records behind the head's end and syncs. Gives where each begins.
    /// If the disk is full it says so, and all is as before.
    pub(super) async fn append(&self, records: &mut [(Header, Bytes)]) -> Result<Vec<(u64, u64)>, StoreError> {
        if records.is_empty() {
            return Ok(Vec::new());
        }
        let (segment, mut at, size, blob, batch) = {
            let state = self.lock();
            let (number, head) = state.segments.last_key_value().expect("room was made");
            (*number, head.end, head.size, head.blob.clone(), state.batch + 1)
        };
        let start = at;
        let (mut places, mut bufs) = (Vec::with_capacity(records.len()), Vec::with_capacity(records.len() * 3));
        for (header, payload) in records {
            header.batch = batch;
            places.push((segment, at));
            bufs.push(IoBuf::from(header.encode().to_vec()));
            bufs.push(IoBuf::from(payload.clone()));
            let padding = header.record_bytes() as usize - HEADER_BYTES - payload.len();
            bufs.push(IoBuf::from(&[0u8; ALIGN as usize][..padding]));
            at += header.record_bytes();
        }
        // Its reader, if one ever comes, is elsewhere and later: the machine's owner has better use for the memory.
        if let Err(error) = blob.write_at(start, bufs, WriteOptions::DONT_CACHE).await {
            if !is_full(&error) {
                return Err(error.into());
            }
            // Nothing of it was promised. What arrived of it goes: it must never be taken for a later record.
            recover::cut_tail(&*blob, start, size).await?;
            tracing::warn!(%error, segment, "the disk is full although the pledge is not");
            return Err(StoreError::Full { free_bytes: 0 });
        }
        blob.sync().await?;
        let mut state = self.lock();
        state.batch = batch;
        state.segments.get_mut(&segment).expect("the head stays").end = at;
        Ok(places)
    }

    /// Lets the trees follow what is on disk; gives what the index must learn.
    async fn apply(&self, plan: &Plan, places: &[(u64, u64)]) -> Result<Vec<IndexChange>, StoreError> {
        let mut changes = Vec::new();
        // Entries of the index that change, read before the lock is taken.
        let mut entries = BTreeMap::new();
        for (header, _) in &plan.records {
            let key = (header.deal, header.position);
            if header.kind == Kind::Release && !entries.contains_key(&key) {
                let stored = self.index.get(&state::entry_key(header.deal, header.position)).await?;
                entries.extend(stored.and_then(|value| Entry::decode(&value)).map(|entry| (key, entry)));
            }
        }
        let mut moved = Vec::new();
        for (header, _) in plan.records.iter().filter(|(header, _)| header.kind == Kind::Append) {
            moved.push(self.locate(header.deal, &header.id).await?);
        }
        let mut moved = moved.into_iter();
        let keeps = plan.records.iter().filter(|(header, _)| header.kind == Kind::Keep);
        for (header, payload) in keeps.filter(|(header, _)| !plan.ended.contains(&header.deal)) {
            changes.extend(keep::changes(&self.index, header, payload).await?);
        }
        let mut ended = Vec::new();
        for deal in &plan.ended {
            ended.extend(self.records_of(*deal).await?);
        }
        let mut settled = Vec::new();
        for (deal, sequence) in &plan.posted {
            for (position, id) in self.settling(*deal, *sequence) {
                let location = self.locate(*deal, &id).await?;
                settled.extend(location.filter(|location| location.position == position));
            }
        }
        let mut state = self.lock();
        for ((header, payload), (segment, offset)) in plan.records.iter().zip(places) {
            let Header { deal, position, id, leaves, sequence, len, .. } = *header;
            match header.kind {
                Kind::Append => {
                    let tree = &mut state.deals.entry(deal).or_default().tree;
                    if sequence > tree.sequence() {
                        let at = tree.apply(Change::Append { id, leaves });
                        assert_eq!((at, tree.sequence()), (Some(position), sequence), "planned on this state");
                        let entry = Entry { id, leaves, appended: sequence, released: 0 };
                        entries.insert((deal, position), entry);
                    }
                    state.lost.remove(&(deal, id));
                    // Stored again after a release: the older record's bytes are not needed twice.
                    if let Some(Location { segment, len, .. }) = moved.next().flatten() {
                        state.bury(segment, record_bytes(len));
                    }
                    let location = Location { segment: *segment, offset: *offset, len, position, lost: false };
                    changes.push((state::location_key(deal, &id), Some(location.encode())));
                }
                Kind::Release => {
                    let tree = &mut state.deals.entry(deal).or_default().tree;
                    let at = tree.apply(Change::Release { position });
                    assert_eq!((at, tree.sequence()), (Some(position), sequence), "planned on this state");
                    if let Some(entry) = entries.get_mut(&(deal, position)) {
                        entry.released = sequence;
                    }
                    state.lost.remove(&(deal, id));
                }
                Kind::Forget => {
                    state.deals.remove(&deal);
                    state.lost.retain(|(of, _), _| *of != deal);
                    state.forgotten.insert(deal);
                    changes.push((state::deal_key(deal), Some(state::encode_deal(0, true))));
                }
                Kind::Spent | Kind::Keep => {}
                Kind::Decline => changes.extend(decline::take(&mut state.declined, header, payload)),
            }
        }
        for (key, location) in ended {
            changes.push((key, None));
            if let Some(Location { segment, len, .. }) = location {
                state.bury(segment, record_bytes(len));
            }
        }
        let known = entries.into_iter().filter(|((deal, _), _)| !plan.ended.contains(deal));
        changes.extend(known.map(|((deal, at), entry)| (state::entry_key(deal, at), Some(entry.encode()))));
        for (deal, sequence) in &plan.posted {
            if let Some(known) = state.deals.get_mut(deal) {
                known.posted = known.posted.max(*sequence);
                changes.push((state::deal_key(*deal), Some(state::encode_deal(known.posted, false))));
            }
        }
        for Location { segment, len, .. } in settled {
            state.bury(segment, record_bytes(len));
        }
        if !changes.is_empty() {
            changes.extend(state.facts());
        }
        Ok(changes)
    }

    /// What a root of change `sequence` on the ledger frees.
    fn settling(&self, deal: u64, sequence: u64) -> Vec<(u32, ShardId)> {
        let state = self.lock();
        let known = state.deals.get(&deal);
        known.map(|deal| deal.tree.released_between(deal.posted, sequence)).unwrap_or_default()
    }

    /// Index keys of all a deal has, with locations where there are any.
    async fn records_of(&self, deal: u64) -> Result<Vec<(Vec<u8>, Option<Location>)>, StoreError> {
        let mut found = Vec::new();
        for tag in [b'e', b'l', b'k'] {
            let mut from = [&[tag][..], &deal.to_be_bytes()].concat();
            let to = [&[tag][..], &deal.wrapping_add(1).to_be_bytes()].concat();
            loop {
                let page = self.index.range(&from, &to, recover::PAGE).await?;
                let Some((last, _)) = page.last() else { break };
                from = [&last[..], &[0]].concat();
                let location = |value: &[u8]| if tag == b'l' { Location::decode(value) } else { None };
                found.extend(page.into_iter().map(|(key, value)| (key, location(&value))));
            }
        }
        Ok(found)
    }
}
