//! Flip bytes under a store, take its files away, and see that it stops claiming what is gone.

use commonware_runtime::{
    Blob as _, Runner as _, Storage as _, WriteOptions,
    deterministic::{Context, Runner},
};
use hodei_types::{decline::Ground, holding, index::Ordered, slice::ShardId};

use super::{
    Scrubbed, Store, StoreError, record,
    tests::{MIB, check_proofs, put, shard, with_store},
};

const LEN: usize = 4096;

fn id(i: u32) -> ShardId {
    ShardId::of(&shard(i, LEN))
}

/// One bit of the payload of the record after `records` others, in the first segment.
async fn rot(context: &Context, records: u64) {
    let (blob, _) = context.open("shards", &1u64.to_be_bytes()).await.unwrap();
    let at = record::ALIGN + records * record::record_bytes(LEN as u32) + 1000;
    let byte = blob.read_at(at, 1, Default::default()).await.unwrap().freeze().coalesce().as_ref()[0];
    blob.write_at(at, vec![byte ^ 4], WriteOptions::SYNC).await.unwrap();
}

/// A whole pass, a few shards at a time.
async fn pass(store: &Store<Context, Ordered>) -> Scrubbed {
    let mut whole = Scrubbed::default();
    loop {
        let part = store.scrub(whole.next.as_ref(), 3 * LEN as u64).await.unwrap();
        assert!(part.shards <= 3, "throttled");
        whole.shards += part.shards;
        whole.bytes += part.bytes;
        whole.lost.extend(part.lost);
        whole.next = part.next;
        if whole.next.is_none() {
            return whole;
        }
    }
}

#[test]
fn what_has_rotted_is_found_told_once_and_not_claimed() {
    Runner::default().start(|context| async move {
        let index = Ordered::default();
        let before = with_store(&context, 16 * MIB, index.clone(), async |store: Store<_, _>| {
            for i in 0..20 {
                put(&store, 7, i, LEN).await.unwrap();
            }
            let found = pass(&store).await;
            assert_eq!((found.shards, found.bytes, found.lost.len()), (20, 20 * LEN as u64, 0));
            store.state(7).await.unwrap().0.unwrap().statement
        })
        .await;
        rot(&context, 4).await;
        rot(&context, 11).await;
        with_store(&context, 16 * MIB, index.clone(), async |store: Store<_, _>| {
            assert_eq!(store.has(7, &[id(4)]).await.unwrap(), vec![true], "nobody has looked yet");
            let mut lost: Vec<ShardId> = pass(&store).await.lost.iter().map(|lost| lost.id).collect();
            lost.sort_unstable();
            let mut rotted = vec![id(4), id(11)];
            rotted.sort_unstable();
            assert_eq!(lost, rotted);
            assert_eq!(pass(&store).await.lost, vec![], "told once");
            assert_eq!(store.lost(), (2, 2 * LEN as u64));
            assert_eq!(store.has(7, &[id(3), id(4), id(11)]).await.unwrap(), vec![true, false, false]);
            assert_eq!(store.get(7, id(4), 0, 0).await.unwrap(), None);
            for leaf in 0..before.leaves {
                let proof = store.prove(7, before.root, before.leaves, leaf).await;
                match leaf / 4 {
                    4 | 11 => assert!(matches!(proof, Err(StoreError::Damaged(_))), "leaf {leaf} of what is gone"),
                    _ => assert_eq!(holding::verify(&before.root, before.leaves, leaf, &proof.unwrap()), Ok(())),
                }
            }
        })
        .await;
        with_store(&context, 16 * MIB, index.clone(), async |store: Store<_, _>| {
            assert_eq!(store.has(7, &[id(4)]).await.unwrap(), vec![false], "a restart does not make it whole");
            // Brought again, it is where it was: what both sides signed before is true again.
            let held = put(&store, 7, 4, LEN).await.unwrap();
            assert_eq!((held.ack.statement.position, held.ack.statement.sequence), (4, before.sequence));
            assert_eq!(held.ack.statement.root, before.root);
            assert_eq!(store.get(7, id(4), 0, 0).await.unwrap().unwrap().bytes, shard(4, LEN));
            // The other its owner gives up.
            assert_eq!(store.release(7, &[id(11)]).await.unwrap(), vec![id(11)]);
            check_proofs(&store, 7, 1).await;
        })
        .await;
        // From the index, and from the segments alone: what rotted there was a shard, not the deal's history.
        for index in [index, Ordered::default()] {
            with_store(&context, 16 * MIB, index, async |store: Store<_, _>| {
                check_proofs(&store, 7, 1).await;
                assert_eq!(store.leaves(7), 19 * 4);
                assert_eq!(store.has(7, &[id(4), id(11)]).await.unwrap(), vec![true, false]);
            })
            .await;
        }
    });
}

#[test]
fn whoever_reads_finds_rot_before_the_scrub_does() {
    Runner::default().start(|context| async move {
        let index = Ordered::default();
        with_store(&context, 16 * MIB, index.clone(), async |store: Store<_, _>| {
            for i in 0..3 {
                put(&store, 7, i, LEN).await.unwrap();
            }
        })
        .await;
        rot(&context, 1).await;
        with_store(&context, 16 * MIB, index, async |store: Store<_, _>| {
            assert!(matches!(store.get(7, id(1), 0, 0).await, Err(StoreError::Damaged(_))));
            assert_eq!(store.has(7, &[id(0), id(1)]).await.unwrap(), vec![true, false]);
            assert_eq!(store.lost(), (1, LEN as u64));
        })
        .await;
    });
}

#[test]
fn compaction_does_not_carry_rot_to_where_it_would_hide_what_follows() {
    Runner::default().start(|context| async move {
        const BIG: usize = 256 * 1024;
        let index = Ordered::default();
        let first = (8 * MIB - record::ALIGN) / record::record_bytes(BIG as u32);
        with_store(&context, 32 * MIB, index.clone(), async |store: Store<_, _>| {
            for i in 0..=first as u32 {
                put(&store, 7, i, BIG).await.unwrap();
            }
            // Half of the first segment goes.
            let gone: Vec<_> = (0..first as u32).filter(|i| i % 2 == 1).map(|i| ShardId::of(&shard(i, BIG))).collect();
            store.release(7, &gone).await.unwrap();
            let sequence = store.state(7).await.unwrap().0.unwrap().statement.sequence;
            store.posted(7, sequence).await.unwrap();
        })
        .await;
        {
            let (blob, _) = context.open("shards", &1u64.to_be_bytes()).await.unwrap();
            let at = record::ALIGN + 2 * record::record_bytes(BIG as u32) + 5000;
            blob.write_at(at, vec![0; 64], WriteOptions::SYNC).await.unwrap();
        }
        let wanted = with_store(&context, 32 * MIB, index.clone(), async |store: Store<_, _>| {
            assert!(store.compact().await.unwrap().is_some());
            store.state(7).await.unwrap()
        })
        .await;
        for index in [index, Ordered::default()] {
            with_store(&context, 32 * MIB, index, async |store: Store<_, _>| {
                assert_eq!(store.state(7).await.unwrap(), wanted, "no change was lost with the rot");
                pass_big(&store).await;
                for i in (0..first as u32).step_by(2) {
                    let id = ShardId::of(&shard(i, BIG));
                    assert_eq!(store.has(7, &[id]).await.unwrap(), vec![i != 2], "shard {i}");
                }
            })
            .await;
        }
    });
}

#[test]
fn what_is_declined_is_written_anew_where_a_record_of_it_has_rotted() {
    Runner::default().start(|context| async move {
        const BIG: usize = 256 * 1024;
        let (index, named) = (Ordered::default(), [id(1), id(2)]);
        let first = ((8 * MIB - record::ALIGN) / record::record_bytes(BIG as u32)) as u32;
        with_store(&context, 32 * MIB, index.clone(), async |store: Store<_, _>| {
            // The first record of all, and a segment of shards behind it that go.
            store.decline(&named, 1000, Ground::Court).await.unwrap();
            for i in 0..=first {
                put(&store, 7, i, BIG).await.unwrap();
            }
            let gone: Vec<_> = (0..first).map(|i| ShardId::of(&shard(i, BIG))).collect();
            store.release(7, &gone).await.unwrap();
            let sequence = store.state(7).await.unwrap().0.unwrap().statement.sequence;
            store.posted(7, sequence).await.unwrap();
        })
        .await;
        {
            let (blob, _) = context.open("shards", &1u64.to_be_bytes()).await.unwrap();
            let at = record::ALIGN + record::HEADER_BYTES as u64 + 5;
            let byte = blob.read_at(at, 1, Default::default()).await.unwrap().freeze().coalesce().as_ref()[0];
            blob.write_at(at, vec![byte ^ 4], WriteOptions::SYNC).await.unwrap();
        }
        with_store(&context, 32 * MIB, index.clone(), async |store: Store<_, _>| {
            assert!(store.compact().await.unwrap().is_some());
        })
        .await;
        for index in [index, Ordered::default()] {
            with_store(&context, 32 * MIB, index, async |store: Store<_, _>| {
                assert_eq!(named.map(|id| store.declined(&id)), [Some((1000, Ground::Court)); 2]);
            })
            .await;
        }
    });
}

async fn pass_big(store: &Store<Context, Ordered>) {
    assert_eq!(store.scrub(None, u64::MAX).await.unwrap().next, None);
}

#[test]
fn files_taken_away_while_it_runs_are_noticed() {
    Runner::default().start(|context| async move {
        let index = Ordered::default();
        with_store(&context, 16 * MIB, index.clone(), async |store: Store<_, _>| {
            for i in 0..5 {
                put(&store, u64::from(i % 2), i, LEN).await.unwrap();
            }
            assert_eq!(store.notice_removed().await.unwrap().segments, Vec::<u64>::new());
            let before = store.state(0).await.unwrap().0.unwrap().statement;
            context.remove("shards", Some(&1u64.to_be_bytes())).await.unwrap();
            let removed = store.notice_removed().await.unwrap();
            assert_eq!((removed.segments, removed.shards, removed.bytes), (vec![1], 5, 5 * LEN as u64));
            assert_eq!(removed.deals.len(), 2);
            let proof = store.prove(0, before.root, before.leaves, 0).await;
            assert!(matches!(proof, Err(StoreError::Damaged(_))), "an open file would still give it");
            assert_eq!(store.get(0, id(0), 0, 0).await.unwrap(), None);
            assert_eq!(store.used_bytes(), 0);
            // It goes on, in a file of its own, and takes back what is brought again.
            put(&store, 0, 9, LEN).await.unwrap();
            put(&store, 0, 0, LEN).await.unwrap();
            assert_eq!(store.lost().0, 4);
        })
        .await;
        with_store(&context, 16 * MIB, index, async |store: Store<_, _>| {
            assert_eq!(store.has(0, &[id(0), id(9), id(2)]).await.unwrap(), vec![true, true, false]);
        })
        .await;
    });
}
