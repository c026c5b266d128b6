//! Keep shards until a time that only moves away.
//!
//! Whoever may put shards into a deal may have them kept: until the ledger's time is past what was said, nobody's
//! release lets go of them. It is written behind them as a record of its own and holds for as long as the deal. The store
//! reads no clock: it is told the ledger's time, and while it was told none what is kept stays.

use bytes::Bytes;
use commonware_runtime::Storage;
use hodei_types::{index::Index, slice::ShardId};
use std::sync::atomic::Ordering;

use super::{
    Inner, Op, Store, StoreError,
    plan::{Plan, Reply, bare},
    record::{Header, Kind, record_bytes},
    state,
};
use futures::channel::oneshot;

const ID_BYTES: usize = 32;

impl<E: Storage, I: Index> Store<E, I> {
    /// Keeps those of these shards that the deal holds until a time in milliseconds since 1970, or for longer if they
    /// are kept for longer already; returns once that is durable. Says of each whether it is held.
    pub async fn keep(&self, deal: u64, ids: &[ShardId], until_ms: u64) -> Result<Vec<bool>, StoreError> {
        let ids = ids.to_vec();
        self.ask(|done| Op::Keep { deal, ids, until_ms, done }).await
    }

    /// Until when each is kept; 0 if it never was.
    pub async fn kept(&self, deal: u64, ids: &[ShardId]) -> Result<Vec<u64>, StoreError> {
        let mut kept = Vec::with_capacity(ids.len());
        for id in ids {
            kept.push(self.inner.kept_until(deal, id).await?);
        }
        Ok(kept)
    }

    /// Takes the ledger's time, in milliseconds since 1970; an earlier one than before is nothing.
    pub fn tell(&self, time_ms: u64) {
        self.inner.told_ms.fetch_max(time_ms, Ordering::AcqRel);
    }
}

impl<E: Storage, I: Index> Inner<E, I> {
    async fn kept_until(&self, deal: u64, id: &ShardId) -> Result<u64, StoreError> {
        let stored = self.index.get(&state::kept_key(deal, id)).await?;
        Ok(stored.and_then(|value| value.try_into().ok()).map_or(0, u64::from_be_bytes))
    }

    /// Whether a release must leave the shard, what the batch keeps included.
    pub(super) async fn is_kept(&self, deal: u64, id: &ShardId, plan: &Plan) -> Result<bool, StoreError> {
        let until_ms = match plan.kept.get(&(deal, *id)) {
            Some(until_ms) => *until_ms,
            None => self.kept_until(deal, id).await?,
        };
        Ok(until_ms > self.told_ms.load(Ordering::Acquire))
    }

    pub(super) async fn plan_keep(
        &self,
        (deal, ids, until_ms): (u64, Vec<ShardId>, u64),
        done: oneshot::Sender<Result<Vec<bool>, StoreError>>,
        plan: &mut Plan,
    ) -> Result<(), StoreError> {
        if let Err(full) = self.room(plan.bytes + record_bytes((ids.len() * ID_BYTES) as u32), false).await {
            let _ = done.send(Err(full));
            return Ok(());
        }
        let is_open = self.open_for_changes(deal, plan);
        let (mut held, mut fresh) = (Vec::with_capacity(ids.len()), Vec::new());
        for id in ids {
            let is_held = is_open && self.holding(deal, &id, plan).await?.is_some();
            held.push(is_held);
            let before = match plan.kept.get(&(deal, id)) {
                Some(until_ms) => *until_ms,
                None => self.kept_until(deal, &id).await?,
            };
            if is_held && before < until_ms {
                plan.kept.insert((deal, id), until_ms);
                fresh.extend_from_slice(&id.0);
            }
        }
        if !fresh.is_empty() {
            let header = Header {
                len: fresh.len() as u32,
                payload_crc: crc32fast::hash(&fresh),
                ..bare(Kind::Keep, deal, until_ms, 0, ShardId([0; 32]))
            };
            plan.push(header, fresh.into());
        }
        plan.replies.push(Reply::Kept { held, done });
        Ok(())
    }

    /// Whether the deal still counts one of the shards that a record keeps.
    pub(super) async fn keeps_any(&self, deal: u64, payload: &[u8]) -> Result<bool, StoreError> {
        for id in ids(payload) {
            if let Some(location) = self.locate(deal, &id).await?
                && self.lock().counts(deal, location.position)
            {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

/// What a record keeps.
pub(super) fn ids(payload: &[u8]) -> impl Iterator<Item = ShardId> + use<'_> {
    payload.chunks_exact(ID_BYTES).map(|id| ShardId(id.try_into().expect("32 bytes")))
}

/// What the index says of a record's shards, `before` being what it says of each now.
pub(super) async fn changes<I: Index>(
    index: &I,
    header: &Header,
    payload: &Bytes,
) -> Result<Vec<hodei_types::index::Change>, StoreError> {
    let mut changes = Vec::new();
    for id in ids(payload) {
        let key = state::kept_key(header.deal, &id);
        let stored = index.get(&key).await?;
        let before = stored.and_then(|value| value.try_into().ok()).map_or(0, u64::from_be_bytes);
        changes.push((key, Some(before.max(header.sequence).to_be_bytes().to_vec())));
    }
    Ok(changes)
}
