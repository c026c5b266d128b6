//! Refuse shards from now on, whatever the deal.
//!
//! Upon a decline: the ids are written behind the shards as a record of their own; from then on none of them is taken,
//! given or said to be held. What deals hold of them is then released, kept or not, so that each deal's next root is
//! without it. Their bytes stay, given to nobody, until a root without them is on the ledger: a challenge may name them
//! until then, and who declines must neither be slashed for it nor be paid for what it does not prove.

use bytes::Bytes;
use commonware_runtime::Storage;
use futures::channel::oneshot;
use hodei_types::{
    decline::Ground,
    index::{Change, Index},
    slice::ShardId,
};
use std::collections::BTreeMap;

use super::{
    Inner, Op, Store, StoreError, keep,
    plan::{Plan, Reply, bare},
    record::{Header, Kind, record_bytes},
    recover::PAGE,
    state::Refusal,
};
use crate::wire::IDS_MAX;

/// Ids that a provider declines at most: 4 MiB of memory, and 16 GiB of the largest shards.
pub const DECLINED_MAX: usize = 1 << 16;
/// Of one record.
const BATCH: usize = 4096;
const KEY_TAG: u8 = b'x';

impl<E: Storage, I: Index> Store<E, I> {
    /// Refuses these from now on; since when, in milliseconds since 1970, stays what was said first. Gives what deals
    /// held of them and hold no more. All of it is durable; the same again does what is left of it.
    pub async fn decline(
        &self,
        ids: &[ShardId],
        time_ms: u64,
        ground: Ground,
    ) -> Result<Vec<(u64, ShardId)>, StoreError> {
        let (known, more) = {
            let state = self.lock();
            (state.declined.len(), ids.iter().filter(|id| !state.declined.contains_key(*id)).count())
        };
        if known + more > DECLINED_MAX {
            return Err(StoreError::DeclinedFull { known, more });
        }
        for ids in ids.chunks(BATCH) {
            let ids = ids.to_vec();
            self.ask(|done| Op::Decline { ids, time_ms, ground, done }).await?;
        }
        self.release_declined().await
    }

    /// Releases what deals still hold of what is declined: nothing, unless a decline was interrupted.
    pub async fn release_declined(&self) -> Result<Vec<(u64, ShardId)>, StoreError> {
        let mut all = Vec::new();
        for deal in self.deals() {
            let held = self.held_declined(deal);
            for ids in held.chunks(IDS_MAX) {
                all.extend(self.release(deal, ids).await?.into_iter().map(|id| (deal, id)));
            }
        }
        Ok(all)
    }

    fn held_declined(&self, deal: u64) -> Vec<ShardId> {
        let state = self.lock();
        let Some(deal) = state.deals.get(&deal).filter(|_| !state.declined.is_empty()) else { return Vec::new() };
        let entries = (0..deal.tree.shards()).filter_map(|at| deal.tree.entry(at as u32));
        let held = entries.filter(|(id, _, released)| released.is_none() && state.declined.contains_key(id));
        held.map(|(id, ..)| id).collect()
    }

    /// Since when, in milliseconds since 1970, and on what ground a shard is declined.
    pub fn declined(&self, id: &ShardId) -> Option<(u64, Ground)> {
        self.lock().declined.get(id).copied()
    }

    /// All that is declined, in order of their ids.
    pub fn all_declined(&self) -> Vec<(ShardId, u64, Ground)> {
        self.lock().declined.iter().map(|(id, (time_ms, ground))| (*id, *time_ms, *ground)).collect()
    }

    /// How many are.
    pub fn declined_shards(&self) -> usize {
        self.lock().declined.len()
    }
}

impl<E: Storage, I: Index> Inner<E, I> {
    pub(super) async fn plan_decline(
        &self,
        (ids, time_ms, ground): (Vec<ShardId>, u64, Ground),
        done: oneshot::Sender<Result<(), StoreError>>,
        plan: &mut Plan,
    ) {
        // What a provider must refuse it can write down where it takes nothing new any more.
        if let Err(full) = self.room(plan.bytes + record_bytes((ids.len() * 32) as u32), true).await {
            let _ = done.send(Err(full));
            return;
        }
        let mut fresh = Vec::new();
        for id in ids {
            if !self.lock().declined.contains_key(&id) && plan.declined.insert(id) {
                fresh.push(id);
            }
        }
        if !fresh.is_empty() {
            let (header, payload) = record(&fresh, time_ms, ground);
            plan.push(header, payload);
        }
        plan.replies.push(Reply::Done(done));
    }

    /// All that is declined, to be written again where a record of it has rotted.
    pub(super) fn declined_records(&self) -> Vec<(Header, Bytes)> {
        let mut told: BTreeMap<Refusal, Vec<ShardId>> = BTreeMap::new();
        for (id, refusal) in &self.lock().declined {
            told.entry(*refusal).or_default().push(*id);
        }
        let records = |((time_ms, ground), ids): (Refusal, Vec<ShardId>)| {
            ids.chunks(BATCH).map(|ids| record(ids, time_ms, ground)).collect::<Vec<_>>()
        };
        told.into_iter().flat_map(records).collect()
    }
}

/// The record that declines these; behind the shards it stands for any deal.
fn record(ids: &[ShardId], time_ms: u64, ground: Ground) -> (Header, Bytes) {
    let payload: Vec<u8> = ids.iter().flat_map(|id| id.0).collect();
    let header = Header {
        len: payload.len() as u32,
        leaves: ground as u16,
        payload_crc: crc32fast::hash(&payload),
        ..bare(Kind::Decline, 0, time_ms, 0, ShardId([0; 32]))
    };
    (header, payload.into())
}

/// Takes in what a record declines; gives what the index must learn. The earlier time stays.
pub(super) fn take(declined: &mut BTreeMap<ShardId, Refusal>, header: &Header, payload: &Bytes) -> Vec<Change> {
    let Some(ground) = Ground::from_code(header.leaves.into()) else { return Vec::new() };
    let mut changes = Vec::new();
    for id in keep::ids(payload) {
        if declined.contains_key(&id) || declined.len() >= DECLINED_MAX {
            continue;
        }
        declined.insert(id, (header.sequence, ground));
        let value = [&header.sequence.to_be_bytes()[..], &[ground as u8]].concat();
        changes.push(([&[KEY_TAG], &id.0[..]].concat(), Some(value)));
    }
    changes
}

/// What the index says is declined.
pub(super) async fn known<I: Index>(index: &I) -> Result<BTreeMap<ShardId, Refusal>, StoreError> {
    let mut declined = BTreeMap::new();
    let (mut from, end) = (vec![KEY_TAG], [KEY_TAG + 1]);
    loop {
        let page = index.range(&from, &end, PAGE).await?;
        for (key, value) in &page {
            let id = key.get(1..).and_then(|id| id.try_into().ok()).map(ShardId);
            let Some((time, [code])) = value.split_first_chunk() else { continue };
            if let (Some(id), Some(ground)) = (id, Ground::from_code((*code).into())) {
                declined.insert(id, (u64::from_be_bytes(*time), ground));
            }
        }
        match page.into_iter().next_back() {
            Some((last, _)) if declined.len() < DECLINED_MAX => from = [&last[..], &[0]].concat(),
            _ => return Ok(declined),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shard::{
        Store,
        tests::{MIB, check_proofs, put, shard, with_store},
    };
    use commonware_runtime::{Runner as _, deterministic::Runner};
    use hodei_types::{holding, index::Ordered};

    fn id(i: u32) -> ShardId {
        ShardId::of(&shard(i, MIB as usize))
    }

    #[test]
    fn what_is_declined_is_neither_given_nor_taken_and_is_proven_until_a_root_without_it_is_posted() {
        Runner::default().start(|context| async move {
            with_store(&context, 64 * MIB, Ordered::default(), async |store: Store<_, _>| {
                for i in 0..4 {
                    put(&store, 7, i, MIB as usize).await.unwrap();
                }
                put(&store, 8, 1, MIB as usize).await.unwrap();
                store.keep(7, &[id(1)], 1 << 50).await.unwrap();
                let before = store.state(7).await.unwrap().0.unwrap().statement;
                store.posted(7, before.sequence).await.unwrap();
                // Kept, in two deals, and one that nobody brought yet.
                let released = store.decline(&[id(1), id(9)], 1000, Ground::Court).await.unwrap();
                assert_eq!(released, [(7, id(1)), (8, id(1))]);
                assert_eq!(store.decline(&[id(1)], 2000, Ground::Terms).await.unwrap(), []);
                assert_eq!(store.all_declined().len(), 2);
                assert_eq!(store.declined(&id(1)), Some((1000, Ground::Court)), "what was said first stays");
                assert_eq!(store.has(7, &[id(0), id(1), id(2)]).await.unwrap(), [true, false, true]);
                assert_eq!(store.get(7, id(1), 0, 0).await.unwrap(), None);
                for (deal, i) in [(7, 1), (8, 1), (9, 9)] {
                    let refused = put(&store, deal, i, MIB as usize).await;
                    assert!(matches!(refused, Err(StoreError::Declined(_))), "{refused:?}");
                }
                // It is paid for less from the next root on; the one before is proven to its last leaf until then.
                let after = store.state(7).await.unwrap().0.unwrap().statement;
                assert_eq!((before.leaves, after.leaves), (4096, 3072));
                check_proofs(&store, 7, 511).await;
                for leaf in (0..before.leaves).step_by(509) {
                    let proof = store.prove(7, before.root, before.leaves, leaf).await.expect("its bytes are there");
                    assert_eq!(holding::verify(&before.root, before.leaves, leaf, &proof), Ok(()));
                }
                store.posted(7, after.sequence).await.unwrap();
                assert!(store.prove(7, after.root, after.leaves, 1500).await.is_ok());
            })
            .await;
        });
    }

    #[test]
    fn what_is_declined_outlives_restarts_lost_indexes_and_compaction() {
        Runner::default().start(|context| async move {
            let named: Vec<ShardId> = (0..3).map(id).collect();
            with_store(&context, 64 * MIB, Ordered::default(), async |store: Store<_, _>| {
                for i in 0..40 {
                    put(&store, 7, i, MIB as usize).await.unwrap();
                }
                store.decline(&named, 1000, Ground::Report).await.unwrap();
                let all: Vec<ShardId> = (3..40).map(id).collect();
                store.release(7, &all).await.unwrap();
                store.posted(7, store.state(7).await.unwrap().0.unwrap().statement.sequence).await.unwrap();
                while store.compact().await.unwrap().is_some() {}
                assert!(store.used_bytes() < 30 * MIB, "{} bytes", store.used_bytes());
            })
            .await;
            // An index that is kept, and none.
            let index = Ordered::default();
            for index in [index.clone(), index, Ordered::default()] {
                with_store(&context, 64 * MIB, index, async |store: Store<_, _>| {
                    let known: Vec<_> = named.iter().map(|id| store.declined(id)).collect();
                    assert_eq!(known, [Some((1000, Ground::Report)); 3]);
                    assert_eq!(store.declined_shards(), 3);
                    assert!(matches!(put(&store, 7, 1, MIB as usize).await, Err(StoreError::Declined(_))));
                    assert_eq!(store.release_declined().await.unwrap(), []);
                })
                .await;
            }
        });
    }

    #[test]
    fn no_more_is_declined_than_the_list_holds() {
        Runner::default().start(|context| async move {
            with_store(&context, 64 * MIB, Ordered::default(), async |store: Store<_, _>| {
                let ids: Vec<ShardId> =
                    (0..=DECLINED_MAX as u32).map(|i| ShardId(*blake3::hash(&i.to_be_bytes()).as_bytes())).collect();
                let refused = store.decline(&ids, 1, Ground::Terms).await;
                assert!(matches!(refused, Err(StoreError::DeclinedFull { known: 0, .. })), "{refused:?}");
                assert_eq!(store.declined_shards(), 0, "all or nothing");
                store.decline(&ids[1..], 1, Ground::Terms).await.unwrap();
                let refused = store.decline(&ids[..2], 1, Ground::Terms).await;
                assert!(
                    matches!(refused, Err(StoreError::DeclinedFull { known: DECLINED_MAX, more: 1 })),
                    "{refused:?}"
                );
                assert_eq!(store.decline(&ids[5..9], 1, Ground::Terms).await.unwrap(), [], "what is in it is no more");
            })
            .await;
        });
    }
}
