//! Decide what a batch will change, before a byte of it is written.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use commonware_runtime::Storage;
use futures::channel::oneshot;
use hodei_types::{
    index::Index,
    slice::{CHUNK_BYTES, ShardId},
};

use super::{
    Inner, Op, Put, StoreError, Ticket,
    record::{ALIGN, Header, Kind, record_bytes},
    state::{self, Entry, Location},
};
use crate::wire::Held;

/// What to answer once the batch is durable.
pub(super) enum Reply {
    Held { deal: u64, position: u32, ticket: Ticket, done: oneshot::Sender<Result<Held, StoreError>> },
    Released { ids: Vec<ShardId>, done: oneshot::Sender<Result<Vec<ShardId>, StoreError>> },
    Kept { held: Vec<bool>, done: oneshot::Sender<Result<Vec<bool>, StoreError>> },
    Done(oneshot::Sender<Result<(), StoreError>>),
}

impl Reply {
    pub(super) fn refuse(self, error: &StoreError) {
        // Nobody waits any more? Then nobody is told.
        match self {
            Self::Held { done, .. } => drop(done.send(Err(error.clone()))),
            Self::Released { done, .. } => drop(done.send(Err(error.clone()))),
            Self::Kept { done, .. } => drop(done.send(Err(error.clone()))),
            Self::Done(done) => drop(done.send(Err(error.clone()))),
        }
    }
}

/// A batch as planned, in terms of the state before it.
#[derive(Default)]
pub(super) struct Plan {
    pub(super) records: Vec<(Header, Bytes)>,
    pub(super) bytes: u64,
    pub(super) replies: Vec<Reply>,
    pub(super) posted: BTreeMap<u64, u64>,
    /// Per deal: changes so far, entries so far.
    pub(super) next: BTreeMap<u64, (u64, u32)>,
    pub(super) fresh: BTreeMap<(u64, ShardId), u32>,
    pub(super) going: BTreeSet<(u64, u32)>,
    pub(super) kept: BTreeMap<(u64, ShardId), u64>,
    pub(super) ended: BTreeSet<u64>,
    pub(super) declined: BTreeSet<ShardId>,
}

impl<E: Storage, I: Index> Inner<E, I> {
    pub(super) async fn plan(&self, op: Op, plan: &mut Plan) -> Result<(), StoreError> {
        match op {
            Op::Put(Put { deal, id, upload, bytes, ticket, done }) => {
                if plan.declined.contains(&id) || self.lock().declined.contains_key(&id) {
                    let _ = done.send(Err(StoreError::Declined(id)));
                } else if !self.open_for_changes(deal, plan) {
                    let _ = done.send(Err(StoreError::DealBroken { deal }));
                } else if let Some(position) = self.holding(deal, &id, plan).await? {
                    plan.replies.push(Reply::Held { deal, position, ticket, done });
                } else if let Err(full) = self.room(plan.bytes + record_bytes(bytes.len() as u32), false).await {
                    let _ = done.send(Err(full));
                } else {
                    let (sequence, position) = match self.place_of_lost(deal, &id, plan).await? {
                        Some(place) => place,
                        None => {
                            let (sequence, position) = self.next(deal, plan);
                            plan.next.insert(deal, (sequence, position + 1));
                            (sequence, position)
                        }
                    };
                    plan.fresh.insert((deal, id), position);
                    let header = Header {
                        kind: Kind::Append,
                        len: bytes.len() as u32,
                        leaves: (bytes.len() / CHUNK_BYTES) as u16,
                        position,
                        deal,
                        sequence,
                        batch: 0,
                        id,
                        upload,
                        payload_crc: crc32fast::hash(&bytes),
                    };
                    plan.push(header, bytes);
                    plan.replies.push(Reply::Held { deal, position, ticket, done });
                }
            }
            Op::Decline { ids, time_ms, ground, done } => self.plan_decline((ids, time_ms, ground), done, plan).await,
            Op::Release { deal, ids, done } => {
                let mut released = Vec::new();
                if self.open_for_changes(deal, plan) {
                    if let Err(full) = self.room(plan.bytes + ids.len() as u64 * ALIGN, true).await {
                        let _ = done.send(Err(full));
                        return Ok(());
                    }
                    for id in ids {
                        let Some(position) = self.counted(deal, &id, plan).await? else { continue };
                        // What is declined goes, whatever was promised of it: its provider says so under its key.
                        if !self.lock().declined.contains_key(&id) && self.is_kept(deal, &id, plan).await? {
                            continue;
                        }
                        let (sequence, entries) = self.next(deal, plan);
                        plan.next.insert(deal, (sequence, entries));
                        plan.going.insert((deal, position));
                        plan.fresh.remove(&(deal, id));
                        plan.push(bare(Kind::Release, deal, sequence, position, id), Bytes::new());
                        released.push(id);
                    }
                }
                plan.replies.push(Reply::Released { ids: released, done });
            }
            Op::Keep { deal, ids, until_ms, done } => self.plan_keep((deal, ids, until_ms), done, plan).await?,
            Op::Forget { deal, done } => {
                let known = self.lock().forgotten.contains(&deal);
                if !known && !plan.ended.contains(&deal) {
                    if let Err(full) = self.room(plan.bytes + ALIGN, true).await {
                        let _ = done.send(Err(full));
                        return Ok(());
                    }
                    plan.ended.insert(deal);
                    plan.push(bare(Kind::Forget, deal, 0, 0, ShardId([0; 32])), Bytes::new());
                }
                plan.replies.push(Reply::Done(done));
            }
            Op::Posted { deal, sequence, done } => {
                plan.posted.insert(deal, sequence);
                plan.replies.push(Reply::Done(done));
            }
            // Taken out before a batch is planned.
            Op::Compact { .. } | Op::Judge { .. } | Op::NoticeRemoved { .. } => {}
        }
        Ok(())
    }

    pub(super) fn open_for_changes(&self, deal: u64, plan: &Plan) -> bool {
        let state = self.lock();
        let broken = state.deals.get(&deal).is_some_and(|deal| deal.broken);
        !broken && !state.forgotten.contains(&deal) && !plan.ended.contains(&deal)
    }

    /// The position under which the deal holds the shard, batch included.
    pub(super) async fn holding(&self, deal: u64, id: &ShardId, plan: &Plan) -> Result<Option<u32>, StoreError> {
        if let Some(position) = plan.fresh.get(&(deal, *id)) {
            return Ok(Some(*position));
        }
        let Some(location) = self.locate(deal, id).await? else { return Ok(None) };
        let held = self.lock().holds(deal, &location) && !plan.going.contains(&(deal, location.position));
        Ok(held.then_some(location.position))
    }

    /// The same, be its bytes there or lost.
    async fn counted(&self, deal: u64, id: &ShardId, plan: &Plan) -> Result<Option<u32>, StoreError> {
        if let Some(position) = plan.fresh.get(&(deal, *id)) {
            return Ok(Some(*position));
        }
        let Some(Location { position, .. }) = self.locate(deal, id).await? else { return Ok(None) };
        let counted = self.lock().counts(deal, position) && !plan.going.contains(&(deal, position));
        Ok(counted.then_some(position))
    }

    /// Change and position of a shard that the deal counts and whose bytes are lost: they return there.
    async fn place_of_lost(&self, deal: u64, id: &ShardId, plan: &Plan) -> Result<Option<(u64, u32)>, StoreError> {
        let Some(position) = self.counted(deal, id, plan).await? else { return Ok(None) };
        let entry = self.index.get(&state::entry_key(deal, position)).await?.and_then(|value| Entry::decode(&value));
        Ok(entry.filter(|entry| entry.id == *id).map(|entry| (entry.appended, position)))
    }

    /// Number of the deal's next change, and its entries so far.
    fn next(&self, deal: u64, plan: &Plan) -> (u64, u32) {
        let (changes, entries) = plan.next.get(&deal).copied().unwrap_or_else(|| {
            let state = self.lock();
            state.deals.get(&deal).map_or((0, 0), |deal| (deal.tree.sequence(), deal.tree.shards() as u32))
        });
        (changes + 1, entries)
    }
}

impl Plan {
    pub(super) fn push(&mut self, header: Header, payload: Bytes) {
        self.bytes += header.record_bytes();
        self.records.push((header, payload));
    }
}

/// A record without payload.
pub(super) fn bare(kind: Kind, deal: u64, sequence: u64, position: u32, id: ShardId) -> Header {
    let (len, leaves, batch, upload, payload_crc) = (0, 0, 0, [0; 16], crc32fast::hash(&[]));
    Header { kind, len, leaves, position, deal, sequence, batch, id, upload, payload_crc }
}
