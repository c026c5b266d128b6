//! The store under power cuts, rot, full disks and failing syncs.

use std::{future::Future, pin::pin};

use super::*;
use commonware_runtime::{
    Runner as _, Supervisor as _, WriteOptions,
    deterministic::{Config as Machine, Context, FaultConfig, Runner},
};
use commonware_utils::probability;
use futures::future::{Either, join_all, select};
use hodei_types::{holding, index::Ordered};

const CHAIN: u64 = 9;
const UPLOAD: UploadId = [5; 16];
pub(super) const MIB: u64 = 1 << 20;

pub(super) fn signer() -> Arc<Signer> {
    Arc::new(Signer::new(&[1; 32]))
}

fn config(pledge_bytes: u64) -> Config {
    Config::new("shards", pledge_bytes, CHAIN)
}

pub(super) fn shard(i: u32, len: usize) -> Bytes {
    let mut bytes = vec![0; len];
    blake3::Hasher::new().update(&i.to_be_bytes()).finalize_xof().fill(&mut bytes);
    bytes.into()
}

/// Opens the store and runs `body` beside its writer.
pub(super) async fn with_store<T, F: Future<Output = T>>(
    context: &Context,
    pledge: u64,
    index: Ordered,
    body: impl FnOnce(Store<Context, Ordered>) -> F,
) -> T {
    let (store, writer) = Store::open(context.child("store"), config(pledge), signer(), index).await.unwrap();
    let keep = store.clone();
    let out = match select(pin!(body(store)), pin!(writer.run())).await {
        Either::Left((out, _)) => out,
        // The writer stopped first: the body sees refusals.
        Either::Right(((), body)) => body.await,
    };
    drop(keep);
    out
}

pub(super) async fn put(store: &Store<Context, Ordered>, deal: u64, i: u32, len: usize) -> Result<Held, StoreError> {
    let bytes = shard(i, len);
    store.put(deal, ShardId::of(&bytes), UPLOAD, bytes).await
}

/// Every leaf of the newest root of a deal verifies.
pub(super) async fn check_proofs<E: Storage>(store: &Store<E, Ordered>, deal: u64, step: usize) {
    let (Some(ack), _) = store.state(deal).await.unwrap() else { return };
    let (root, leaves) = (ack.statement.root, ack.statement.leaves);
    for leaf in (0..leaves).step_by(step) {
        let proof = store.prove(deal, root, leaves, leaf).await.unwrap();
        assert_eq!(holding::verify(&root, leaves, leaf, &proof), Ok(()));
    }
}

async fn entries(index: &Ordered) -> Vec<(Vec<u8>, Vec<u8>)> {
    let all = index.range(&[], &[], usize::MAX).await.unwrap();
    // Where the head ends and how many batches there were may differ; what is held may not.
    all.into_iter().filter(|(key, _)| key[0] != b'w' && key[0] != b's').collect()
}

#[test]
fn a_shard_is_held_given_back_proven_and_released() {
    Runner::default().start(|context| async move {
        with_store(&context, 16 * MIB, Ordered::default(), async |store: Store<_, _>| {
            let node = signer().node();
            for i in 0..5 {
                let held = put(&store, 7, i, 8192).await.unwrap();
                let id = ShardId::of(&shard(i, 8192));
                assert_eq!(held.verify(CHAIN, &node, 7, &id, 8192), Ok(()));
                assert_eq!(held.ack.statement.position, u64::from(i));
            }
            let (bytes, id) = (shard(2, 8192), ShardId::of(&shard(2, 8192)));
            let again = put(&store, 7, 2, 8192).await.unwrap();
            assert_eq!((again.ack.statement.position, again.ack.statement.sequence), (2, 5), "the same position");
            assert_eq!(put(&store, 8, 2, 8192).await.unwrap().ack.statement.position, 0, "another deal");

            let slice = store.get(7, id, 1024, 2048).await.unwrap().unwrap();
            assert_eq!(slice.bytes, bytes.slice(1024..3072));
            assert_eq!(slice::verify(&id, 8192, 1, &slice.bytes, &slice.hashes), Ok(()));
            assert_eq!(store.get(7, id, 0, 0).await.unwrap().unwrap().bytes, bytes);
            assert_eq!(store.get(7, id, 8192, 1024).await.unwrap(), None);
            assert_eq!(store.get(7, id, 100, 1024).await.unwrap(), None);
            assert_eq!(store.get(9, id, 0, 0).await.unwrap(), None, "not that deal's");

            check_proofs(&store, 7, 1).await;
            let before = store.state(7).await.unwrap().0.unwrap().statement;
            let unknown = ShardId([0; 32]);
            assert_eq!(store.release(7, &[id, unknown, id]).await.unwrap(), vec![id]);
            assert_eq!(store.has(7, &[id, ShardId::of(&shard(3, 8192))]).await.unwrap(), vec![false, true]);
            assert_eq!(store.leaves(7), 4 * 8);
            assert_eq!(store.get(7, id, 0, 0).await.unwrap(), None);
            for leaf in 0..before.leaves {
                let proof = store.prove(7, before.root, before.leaves, leaf).await.unwrap();
                assert_eq!(holding::verify(&before.root, before.leaves, leaf, &proof), Ok(()), "the past root");
            }
            assert_eq!(put(&store, 7, 2, 8192).await.unwrap().ack.statement.position, 5, "stored anew");
            check_proofs(&store, 7, 1).await;

            let wrong = store.put(7, id, UPLOAD, shard(9, 8192)).await;
            assert!(matches!(wrong, Err(StoreError::WrongBytes { .. })));
            assert!(matches!(store.admit(1000), Err(StoreError::Length(_))));
            store.forget(8).await.unwrap();
            assert!(matches!(put(&store, 8, 1, 4096).await, Err(StoreError::DealBroken { deal: 8 })));
        })
        .await;
    });
}

#[test]
fn deleting_the_index_changes_nothing() {
    Runner::default().start(|context| async move {
        let index = Ordered::default();
        let (mut old, mut states) = (vec![], vec![]);
        for round in 0..3u32 {
            let kept = index.clone();
            with_store(&context, 16 * MIB, index.clone(), async |store: Store<_, _>| {
                let puts = (0..20).map(|i| put(&store, u64::from(i % 3), round * 20 + i, 4096));
                join_all(puts).await.into_iter().for_each(|held| drop(held.unwrap()));
                store.release(1, &[ShardId::of(&shard(round * 20 + 4, 4096))]).await.unwrap();
                store.posted(1, 3).await.unwrap();
                states = join_all((0..3).map(|deal| store.state(deal))).await.into_iter().flatten().collect();
            })
            .await;
            old.push(kept.range(&[], &[], usize::MAX).await.unwrap());
        }
        let wanted = entries(&index).await;
        // Kept, deleted, and as it was after each round.
        let mut indices = vec![index, Ordered::default()];
        for snapshot in old {
            let older = Ordered::default();
            older.apply(snapshot.into_iter().map(|(key, value)| (key, Some(value))).collect(), true).await.unwrap();
            indices.push(older);
        }
        for (at, index) in indices.into_iter().enumerate() {
            let fresh = index.clone();
            with_store(&context, 16 * MIB, index, async |store: Store<_, _>| {
                let found: Vec<_> =
                    join_all((0..3).map(|deal| store.state(deal))).await.into_iter().flatten().collect();
                assert_eq!(found, states, "index {at}");
                check_proofs(&store, 1, 3).await;
            })
            .await;
            let found = entries(&fresh).await;
            // What was posted is only in the index: without it, more is kept, never less.
            let trees =
                |all: &[(Vec<u8>, Vec<u8>)]| all.iter().filter(|(key, _)| key[0] != b'd').cloned().collect::<Vec<_>>();
            assert_eq!(trees(&found), trees(&wanted), "index {at}");
        }
    });
}

#[test]
fn power_cut_at_every_byte_of_the_last_record_loses_at_most_that_record() {
    Runner::default().start(|context| async move {
        let node = signer().node();
        let mut states = vec![];
        with_store(&context, 16 * MIB, Ordered::default(), async |store: Store<_, _>| {
            for i in 0..4 {
                put(&store, 7, i, 4096).await.unwrap();
                states.push(store.state(7).await.unwrap().0.unwrap().statement);
            }
        })
        .await;
        let record = record::record_bytes(4096) as usize;
        let last = record::ALIGN as usize + 3 * record;
        let image = {
            let (blob, _) = context.open("shards", &1u64.to_be_bytes()).await.unwrap();
            blob.read_at(0, last + 4 * record, ReadOptions::default()).await.unwrap().freeze().coalesce()
        };
        assert!(image.as_ref()[last + record..].iter().all(|byte| *byte == 0));
        let written = last + HEADER_BYTES + 4096;
        for cut in last..last + record {
            // Cut: zeros behind; or garbage, as a disk that tears sectors may leave.
            for garbage in [0u8, 0xa5] {
                let mut bytes = image.as_ref().to_vec();
                bytes[cut..last + record].fill(garbage);
                context.remove("cut", None).await.ok();
                let (blob, _) = context.open("cut", &1u64.to_be_bytes()).await.unwrap();
                blob.write_at(0, bytes, WriteOptions::SYNC).await.unwrap();
                drop(blob);
                let recovered = recover::recover(&context, "cut", &node, &Ordered::default()).await.unwrap();
                let whole = cut >= written;
                let (found, ..) = recovered.statement(7, None).unwrap();
                assert_eq!(found, states[if whole { 3 } else { 2 }], "cut at {}", cut - last);
                let end = recovered.segments[&1].end;
                drop(recovered);
                if cut % 97 == 0 {
                    let twice = recover::recover(&context, "cut", &node, &Ordered::default()).await.unwrap();
                    assert_eq!((twice.statement(7, None).unwrap().0, twice.segments[&1].end), (found, end));
                }
            }
        }
    });
}

#[test]
fn a_crash_in_the_middle_loses_nothing_acknowledged() {
    for seed in 0..40u64 {
        let index = Ordered::default();
        let acked: Arc<Mutex<Vec<(u64, u32, Held)>>> = Arc::default();
        let mut machine = Runner::new(Machine::default().with_seed(seed).with_storage_fault_config(
            FaultConfig::default().write(commonware_runtime::deterministic::WriteConfig {
                failure_rate: probability!(0.0),
                retention_rate: if seed % 2 == 0 { probability!(0.5) } else { probability!(1.0) },
                mode: if seed % 3 == 0 {
                    commonware_runtime::deterministic::PartialWriteMode::Prefix
                } else {
                    commonware_runtime::deterministic::PartialWriteMode::Subset
                },
            }),
        ));
        for round in 0..4u32 {
            let (index, acked) = (index.clone(), acked.clone());
            let (_, checkpoint) = machine.start_and_recover(|context| async move {
                // Every other time the index is lost as well.
                let index = if (seed + u64::from(round)) % 2 == 0 { index } else { Ordered::default() };
                with_store(&context, 16 * MIB, index, async |store: Store<_, _>| {
                    let all = acked.lock().unwrap().clone();
                    for (deal, i, held) in all {
                        let (bytes, node) = (shard(i, 4096), signer().node());
                        let id = ShardId::of(&bytes);
                        assert_eq!(held.verify(CHAIN, &node, deal, &id, 4096), Ok(()));
                        let got = store.get(deal, id, 0, 0).await.unwrap().expect("acknowledged, so held");
                        assert_eq!(got.bytes, bytes);
                        let Statement { root, leaves, .. } = held.ack.statement;
                        let proof = store.prove(deal, root, leaves, leaves - 1).await.expect("an acknowledged root");
                        assert_eq!(holding::verify(&root, leaves, leaves - 1, &proof), Ok(()));
                    }
                    for deal in 0..2 {
                        check_proofs(&store, deal, 5).await;
                    }
                    // The power goes while some of these are on their way to the disk.
                    let target = acked.lock().unwrap().len() + 1 + (seed as usize + round as usize) % 12;
                    let puts = (0..16u32).map(|i| {
                        let (store, acked) = (store.clone(), acked.clone());
                        async move {
                            let (deal, i) = (u64::from(i % 2), round * 16 + i);
                            let held = put(&store, deal, i, 4096).await.unwrap();
                            let mut acked = acked.lock().unwrap();
                            acked.push((deal, i, held));
                            acked.len()
                        }
                    });
                    let mut puts: futures::stream::FuturesUnordered<_> = puts.collect();
                    while let Some(len) = futures::StreamExt::next(&mut puts).await {
                        if len >= target {
                            break;
                        }
                    }
                })
                .await;
            });
            machine = Runner::from(checkpoint);
        }
    }
}

#[test]
fn a_failed_sync_stops_the_store_and_what_was_acknowledged_is_there_next_time() {
    Runner::default().start(|context| async move {
        with_store(&context, 16 * MIB, Ordered::default(), async |store: Store<_, _>| {
            put(&store, 7, 0, 4096).await.unwrap();
            let faults = context.storage_fault_config();
            faults.write().sync_rate = Some(probability!(1.0));
            assert!(matches!(put(&store, 7, 1, 4096).await, Err(StoreError::Stopped)));
            faults.write().sync_rate = None;
            assert!(store.is_stopped());
            assert!(matches!(put(&store, 7, 2, 4096).await, Err(StoreError::Stopped)), "never retried");
            assert!(matches!(store.admit(4096), Err(StoreError::Stopped)));
        })
        .await;
        with_store(&context, 16 * MIB, Ordered::default(), async |store: Store<_, _>| {
            assert!(store.has(7, &[ShardId::of(&shard(0, 4096))]).await.unwrap()[0]);
            put(&store, 7, 3, 4096).await.unwrap();
            check_proofs(&store, 7, 1).await;
        })
        .await;
    });
}

#[test]
fn a_full_store_refuses_before_the_body_and_compaction_wins_space_back() {
    Runner::default().start(|context| async move {
        const LEN: usize = 256 * 1024;
        let index = Ordered::default();
        let statement = with_store(&context, 32 * MIB, index.clone(), async |store: Store<_, _>| {
            let mut stored = 0;
            while store.admit(LEN as u32).is_ok() {
                put(&store, 7, stored, LEN).await.unwrap();
                stored += 1;
            }
            assert!((80..=96).contains(&stored), "{stored} of 32 MiB less a reserve");
            assert!(matches!(put(&store, 7, stored, LEN).await, Err(StoreError::Full { .. })));
            assert!(store.used_bytes() <= 32 * MIB);
            assert_eq!(store.compact().await.unwrap(), None, "nothing is dead yet");

            let released: Vec<_> = (0..stored).filter(|i| i % 3 != 0).map(|i| ShardId::of(&shard(i, LEN))).collect();
            assert_eq!(store.release(7, &released).await.unwrap(), released);
            assert_eq!(store.compact().await.unwrap(), None, "a root that names them may be challenged");
            let sequence = store.state(7).await.unwrap().0.unwrap().statement.sequence;
            store.posted(7, sequence).await.unwrap();
            let mut won = 0;
            while let Some(bytes) = store.compact().await.unwrap() {
                won += bytes;
            }
            assert!(won > 8 * MIB, "{won}");
            check_proofs(&store, 7, 97).await;
            for i in 0..10 {
                put(&store, 8, i, LEN).await.unwrap();
            }
            store.state(7).await.unwrap()
        })
        .await;
        for index in [index, Ordered::default()] {
            with_store(&context, 32 * MIB, index, async |store: Store<_, _>| {
                assert_eq!(store.state(7).await.unwrap(), statement);
                check_proofs(&store, 7, 97).await;
                check_proofs(&store, 8, 97).await;
            })
            .await;
        }
    });
}

#[test]
fn a_torn_batch_goes_whole_even_if_its_later_records_are_whole() {
    Runner::default().start(|context| async move {
        let mut before = None;
        for round in 0..3u32 {
            with_store(&context, 16 * MIB, Ordered::default(), async |store: Store<_, _>| {
                if round > 0 {
                    put(&store, 7, round * 100, 4096).await.unwrap();
                }
                before = store.state(7).await.unwrap().0.map(|ack| ack.statement);
                let puts = (1..5).map(|i| put(&store, 7, round * 100 + i, 4096));
                join_all(puts).await.into_iter().for_each(|held| drop(held.unwrap()));
            })
            .await;
            // The first of the four was never written; the other three were.
            let records = before.map_or(0, |statement| statement.sequence);
            let at = record::ALIGN + records * record::record_bytes(4096);
            {
                let (blob, _) = context.open("shards", &1u64.to_be_bytes()).await.unwrap();
                blob.write_at(at, vec![0; 512], WriteOptions::SYNC).await.unwrap();
            }
            with_store(&context, 16 * MIB, Ordered::default(), async |store: Store<_, _>| {
                let found = store.state(7).await.unwrap().0.map(|ack| ack.statement);
                assert_eq!(found, before, "round {round}");
            })
            .await;
        }
    });
}

#[test]
fn a_cancelled_put_leaves_nothing_waiting() {
    Runner::default().start(|context| async move {
        let index = Ordered::default();
        let opened = Store::open(context.child("store"), config(16 * MIB), signer(), index).await;
        let (store, writer) = opened.unwrap();
        for i in 0..200 {
            // Nobody writes: some are queued, the rest wait for a place in the queue, and all give up.
            let put = put(&store, 7, i, 4096);
            assert!(futures::FutureExt::now_or_never(put).is_none());
        }
        drop(writer);
        assert_eq!(store.queued_bytes(), 0);
    });
}

#[test]
fn a_rotten_record_costs_only_itself() {
    Runner::default().start(|context| async move {
        let index = Ordered::default();
        with_store(&context, 16 * MIB, index.clone(), async |store: Store<_, _>| {
            for i in 0..6 {
                put(&store, u64::from(i), i, 4096).await.unwrap();
            }
        })
        .await;
        let at = record::ALIGN + 2 * record::record_bytes(4096);
        {
            let (blob, _) = context.open("shards", &1u64.to_be_bytes()).await.unwrap();
            blob.write_at(at + 200, vec![0xff; 8], WriteOptions::SYNC).await.unwrap();
        }
        for index in [index, Ordered::default()] {
            with_store(&context, 16 * MIB, index, async |store: Store<_, _>| {
                for i in 0..6u32 {
                    let id = ShardId::of(&shard(i, 4096));
                    match store.get(i.into(), id, 0, 0).await {
                        Ok(Some(slice)) => assert_eq!((i != 2, slice.bytes), (true, shard(i, 4096))),
                        Ok(None) | Err(StoreError::Damaged(_)) => assert_eq!(i, 2),
                        Err(error) => panic!("{error}"),
                    }
                }
            })
            .await;
        }
    });
}

#[test]
fn another_nodes_segments_are_refused() {
    Runner::default().start(|context| async move {
        with_store(&context, 16 * MIB, Ordered::default(), async |store: Store<_, _>| {
            put(&store, 7, 0, 4096).await.unwrap();
        })
        .await;
        let other = Arc::new(Signer::new(&[2; 32]));
        let opened = Store::open(context.child("other"), config(16 * MIB), other, Ordered::default()).await;
        assert!(matches!(opened, Err(StoreError::Foreign { segment: 1 })));
        let small = Store::open(context.child("small"), config(MIB), signer(), Ordered::default()).await;
        assert!(matches!(small, Err(StoreError::Pledge(_))));
    });
}

/// What is kept is let go of by nobody before its time, over restarts, lost indexes and compaction.
#[test]
fn what_is_kept_outlives_releases_restarts_and_compaction() {
    Runner::default().start(|context| async move {
        let ids: Vec<ShardId> = (0..40).map(|i| ShardId::of(&shard(i, MIB as usize))).collect();
        let (kept, loose) = ids.split_at(3);
        with_store(&context, 64 * MIB, Ordered::default(), async |store: Store<_, _>| {
            for i in 0..40 {
                put(&store, 7, i, MIB as usize).await.unwrap();
            }
            let unknown = ShardId([9; 32]);
            let asked = [kept, &[unknown]].concat();
            assert_eq!(store.keep(7, &asked, 1000).await.unwrap(), [true, true, true, false]);
            assert_eq!(store.keep(8, &kept[..1], 1000).await.unwrap(), [false], "another deal");
            // A time only rises.
            assert_eq!(store.keep(7, &kept[..2], 500).await.unwrap(), [true, true]);
            assert_eq!(store.keep(7, &kept[..1], 2000).await.unwrap(), [true]);
            assert_eq!(store.kept(7, &asked).await.unwrap(), [2000, 1000, 1000, 0]);
            // In one batch with the release that comes behind it, and over a compaction.
            assert_eq!(store.release(7, &ids).await.unwrap(), loose);
            store.posted(7, store.state(7).await.unwrap().0.unwrap().statement.sequence).await.unwrap();
            while store.compact().await.unwrap().is_some() {}
            assert!(store.used_bytes() < 30 * MIB, "{} bytes", store.used_bytes());
            assert_eq!(store.release(7, kept).await.unwrap(), []);
        })
        .await;
        // The index is a cache: what is kept is in the segments.
        for index in [Ordered::default(), Ordered::default()] {
            with_store(&context, 64 * MIB, index, async |store: Store<_, _>| {
                assert_eq!(store.kept(7, kept).await.unwrap(), [2000, 1000, 1000]);
                store.tell(999);
                assert_eq!(store.release(7, kept).await.unwrap(), []);
                assert_eq!(store.has(7, kept).await.unwrap(), [true; 3]);
            })
            .await;
        }
        with_store(&context, 64 * MIB, Ordered::default(), async |store: Store<_, _>| {
            store.tell(1000);
            store.tell(1);
            assert_eq!(store.release(7, kept).await.unwrap(), kept[1..], "the ledger's time does not go back");
            // A deal that ends takes with it what it kept.
            store.forget(7).await.unwrap();
            assert_eq!(store.kept(7, kept).await.unwrap(), [0; 3]);
            assert_eq!(store.keep(7, kept, 5000).await.unwrap(), [false; 3]);
        })
        .await;
        with_store(&context, 64 * MIB, Ordered::default(), async |store: Store<_, _>| {
            assert_eq!(store.kept(7, kept).await.unwrap(), [0; 3]);
        })
        .await;
    });
}
