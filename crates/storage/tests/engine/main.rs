//! Show that what was put comes back, whoever fails, and that who lies is named.

mod decline;
mod fleet;
mod release;
mod rest;
mod restore;
mod seats;
mod silent;
mod ticks;

use bytes::Bytes;
use commonware_runtime::{
    Clock as _, Runner as _, Spawner as _, Supervisor as _,
    deterministic::{Context, Runner},
};
use fleet::{Fleet, Mode};
use futures::{
    StreamExt as _, TryStreamExt as _,
    future::{Either, select},
    stream,
};
use hodei_storage::{
    engine::{
        Coder, Engine, GetError, GetRequest, Pool, PutError, PutRequest, STRIPES_BYTES, Stored, Verdict, Wait,
        plain_bytes,
    },
    seal::{Algorithm, PartKey, Place, Secret},
};
use hodei_types::code::{Class, Shape};
use std::{
    convert::Infallible,
    sync::{Arc, Mutex},
    time::Duration,
};

fn small() -> Shape {
    Class::Small.shape(6)
}

fn place() -> Place {
    Place { network: [1; 32], bucket: [2; 32], object: [3; 16], part: 1, attempt: 0, algorithm: Algorithm::Aes256Gcm }
}

fn coder(shape: &Shape) -> Arc<Coder> {
    Arc::new(Coder::new(PartKey::new(&Secret::new([4; 32]), &place()), shape))
}

fn care() -> Secret {
    Secret::new([5; 32])
}

fn plain(len: usize) -> Bytes {
    let mut bytes = vec![0u8; len];
    blake3::Hasher::new().update(&len.to_le_bytes()).finalize_xof().fill(&mut bytes);
    bytes.into()
}

async fn put(fleet: &Fleet, engine: &Engine<Context, Fleet>, data: &Bytes, wait: Wait) -> Result<Stored, PutError> {
    let shape = small();
    let request = PutRequest {
        shape,
        coder: coder(&shape),
        roster: fleet.roster(),
        upload: [9; 16],
        wait,
        offers: Arc::new(()),
        care: care(),
    };
    // Pieces of an odd length: nothing may depend on how a source is cut.
    let pieces: Vec<Result<Bytes, Infallible>> = data.chunks(70_001).map(|piece| Ok(data.slice_ref(piece))).collect();
    engine.put(request, stream::iter(pieces), |_| {}).await
}

struct Got {
    bytes: Result<Vec<u8>, GetError>,
    verdicts: Vec<Verdict>,
}

fn wanted(fleet: &Fleet, stored: &Stored, range: std::ops::Range<u64>, told: Arc<Mutex<Vec<Verdict>>>) -> GetRequest {
    let shape = small();
    GetRequest {
        shape,
        coder: coder(&shape),
        roster: fleet.roster(),
        overlay: Arc::default(),
        page: stored.page.clone(),
        size_bytes: stored.size_bytes,
        range,
        verdict: Arc::new(move |verdict| told.lock().unwrap().push(verdict)),
        crowd: None,
    }
}

async fn get(fleet: &Fleet, engine: &Engine<Context, Fleet>, stored: &Stored, range: std::ops::Range<u64>) -> Got {
    let told = Arc::default();
    let request = wanted(fleet, stored, range, Arc::clone(&told));
    let bytes = match engine.get(request).await {
        Ok(body) => body.map_ok(|piece| piece.to_vec()).try_concat().await,
        Err(error) => Err(error),
    };
    let verdicts = std::mem::take(&mut *told.lock().unwrap());
    Got { bytes, verdicts }
}

fn run<F, Fut>(seed: u64, scenario: F)
where
    F: FnOnce(Context, Fleet, Engine<Context, Fleet>) -> Fut,
    Fut: Future<Output = ()>,
{
    Runner::seeded(seed).start(|context| async move {
        let fleet = Fleet::new(&context, 6);
        let engine = fleet.engine(&context, Pool::new(STRIPES_BYTES));
        scenario(context, fleet, engine).await;
    });
}

/// The same bytes as a pack: sealed by whoever filled it.
async fn put_pack(fleet: &Fleet, engine: &Engine<Context, Fleet>, data: &Bytes) -> Stored {
    let shape = small();
    let (roster, offers) = (fleet.roster(), Arc::new(()));
    let request = PutRequest {
        shape,
        coder: pack_coder(&shape),
        roster,
        upload: [9; 16],
        wait: Wait::Full,
        offers,
        care: care(),
    };
    let source = stream::iter([Ok::<_, Infallible>(data.clone())]);
    engine.put(request, source, |_| {}).await.unwrap()
}

fn pack_coder(shape: &Shape) -> Arc<Coder> {
    Arc::new(Coder::of_pack(PartKey::new(&Secret::new([4; 32]), &place()), shape))
}

#[test]
fn a_slice_of_a_pack_comes_from_whoever_has_it_or_from_the_others() {
    let stripe = plain_bytes(&small()) as usize;
    for len in [1, 5000, stripe + 70_000] {
        run(1, |_, fleet, engine| async move {
            let data = plain(len);
            let stored = put_pack(&fleet, &engine, &data).await;
            let cuts = [
                (0, 1),
                (0, len.min(1040)),
                (len / 2, len / 2 + 65_552),
                (stripe - 500, stripe + 500),
                (len - 1, len),
                (0, len),
            ];
            // Everybody, then one away and one that lies: k are left.
            for round in 0..2 {
                if round == 1 {
                    fleet.set(0, Mode::Down);
                    fleet.set(1, Mode::Corrupt);
                }
                for (from, to) in cuts {
                    let (from, to) = (from.min(len), to.min(len));
                    let told = Arc::default();
                    let request = GetRequest {
                        coder: pack_coder(&small()),
                        ..wanted(&fleet, &stored, from as u64..to as u64, told)
                    };
                    assert_eq!(
                        engine.get_slice(request).await.unwrap(),
                        data[from..to],
                        "{from}..{to} of {len}, round {round}"
                    );
                }
            }
            stored.rest.settle().await;
            assert_eq!(engine.pool().free(), STRIPES_BYTES, "all room was given back");
        });
    }
}

#[test]
fn what_was_put_comes_back_whole_and_in_part() {
    let stripe = plain_bytes(&small()) as usize;
    for len in [0, 1, 65_520, stripe - 1, stripe, stripe + 1, 5 * stripe + 12_345] {
        run(1, |_, fleet, engine| async move {
            let data = plain(len);
            let stored = put(&fleet, &engine, &data, Wait::Full).await.unwrap();
            assert_eq!(stored.size_bytes, len as u64);
            assert_eq!(stored.content, *blake3::hash(&data).as_bytes());
            assert_eq!(stored.acks().len(), 6, "one newest ack a deal");
            let whole = get(&fleet, &engine, &stored, 0..len as u64).await;
            assert_eq!(whole.bytes.unwrap(), data);
            for (from, to) in [(0, 1), (len / 2, len / 2 + 1000), (len.saturating_sub(1), len)] {
                let (from, to) = (from.min(len), to.min(len));
                let part = get(&fleet, &engine, &stored, from as u64..to as u64).await;
                assert_eq!(part.bytes.unwrap(), data[from..to], "{from}..{to} of {len}");
            }
            stored.rest.settle().await;
            assert_eq!(engine.pool().free(), STRIPES_BYTES, "all room was given back");
        });
    }
}

#[test]
fn a_long_part_is_listed_on_several_pages() {
    run(2, |_, fleet, engine| async move {
        let data = plain(plain_bytes(&small()) as usize * 130 + 7);
        let stored = put(&fleet, &engine, &data, Wait::Quorum).await.unwrap();
        assert_eq!((stored.stripes, stored.page.stripes), (131, 131));
        let got = get(&fleet, &engine, &stored, 0..data.len() as u64).await;
        assert!(got.bytes.unwrap() == data);
        let from = plain_bytes(&small()) * 64 - 5;
        let got = get(&fleet, &engine, &stored, from..from + 10).await;
        assert_eq!(got.bytes.unwrap(), data[from as usize..from as usize + 10]);
    });
}

#[test]
fn a_body_nobody_reads_holds_nobody_up() {
    run(14, |context, fleet, engine| async move {
        let data = plain(plain_bytes(&small()) as usize * 16);
        let stored = put(&fleet, &engine, &data, Wait::Full).await.unwrap();
        (0..6).for_each(|host| fleet.set(host, Mode::Slow(20)));
        let mut left = Vec::new();
        for _ in 0..2 {
            let mut body = engine.get(wanted(&fleet, &stored, 0..stored.size_bytes, Arc::default())).await.unwrap();
            // Long enough to ask for stripes, too short to have one.
            let short = Box::pin(context.sleep(Duration::from_millis(30)));
            assert!(matches!(select(body.next(), short).await, Either::Right(_)));
            left.push(body);
        }
        let other = Box::pin(get(&fleet, &engine, &stored, 0..stored.size_bytes));
        match select(other, Box::pin(context.sleep(Duration::from_secs(60)))).await {
            Either::Left((got, _)) => assert!(got.bytes.unwrap() == data),
            Either::Right(_) => panic!("requests of bodies that nobody reads kept every slot"),
        }
        // They go on where they were left.
        for body in left {
            let whole = body.map_ok(|piece| piece.to_vec()).try_concat().await.unwrap();
            assert!(whole == data);
        }
    });
}

#[test]
fn any_n_less_k_providers_may_be_lost_after_a_full_put() {
    for lost in 0..20u32 {
        run(u64::from(lost), |_, fleet, engine| async move {
            let data = plain(2_000_000);
            let stored = put(&fleet, &engine, &data, Wait::Full).await.unwrap();
            // Each choice of three of six.
            let choice: Vec<u32> = (0..64u32).filter(|bits| bits.count_ones() == 3).collect();
            for host in 0..6 {
                if choice[lost as usize] >> host & 1 == 1 {
                    fleet.set(host, if host % 2 == 0 { Mode::Down } else { Mode::Mute });
                }
            }
            let got = get(&fleet, &engine, &stored, 0..data.len() as u64).await;
            assert!(got.bytes.unwrap() == data);
        });
    }
}

#[test]
fn one_of_the_last_k_that_was_late_once_is_asked_again() {
    late_and_asked_again(Mode::Mute, Duration::from_secs(1));
}

#[test]
fn one_of_the_last_k_that_was_busy_is_asked_again_after_it_said() {
    late_and_asked_again(Mode::Busy(1_000), Duration::from_millis(900));
}

fn late_and_asked_again(mode: Mode, until: Duration) {
    for stalled in 3..6 {
        run(stalled as u64, |context, fleet, engine| async move {
            let data = plain(2_000_000);
            let stored = put(&fleet, &engine, &data, Wait::Full).await.unwrap();
            (0..3).for_each(|host| fleet.set(host, Mode::Down));
            fleet.set(stalled, mode);
            let wakes = fleet.clone();
            context.child("wake").spawn(move |context| async move {
                context.sleep(until).await;
                wakes.set(stalled, Mode::Up);
            });
            let got = get(&fleet, &engine, &stored, 0..data.len() as u64).await;
            assert!(got.bytes.unwrap() == data);
        });
    }
}

#[test]
fn any_t_operators_may_be_lost_right_after_the_answer() {
    for host in 0..6 {
        run(host as u64, |_, fleet, engine| async move {
            // One is slow all along: its acks come after the answer.
            fleet.set((host + 1) % 6, Mode::Slow(400));
            let data = plain(3_000_000);
            let mut stored = put(&fleet, &engine, &data, Wait::Quorum).await.unwrap();
            drop(std::mem::take(&mut stored.rest));
            fleet.set(host, Mode::Down);
            let got = get(&fleet, &engine, &stored, 0..3_000_000).await;
            assert!(got.bytes.unwrap() == data);
        });
    }
}

#[test]
fn a_put_goes_round_providers_that_fail() {
    for mode in [Mode::Down, Mode::Mute, Mode::Forge, Mode::Full, Mode::Slow(20_000)] {
        run(3, |context, fleet, engine| async move {
            fleet.set(2, mode);
            let data = plain(4_000_000);
            let start = context.current();
            let stored = put(&fleet, &engine, &data, Wait::Full).await.unwrap();
            let took = context.current().duration_since(start).unwrap();
            assert!(took < Duration::from_secs(20), "{mode:?} took {took:?}");
            let named: Vec<_> = stored.verdicts().iter().map(|verdict| verdict.node).collect();
            assert_eq!(named.contains(&fleet.node(2)), mode == Mode::Forge, "{mode:?}: {named:?}");
            fleet.set(2, Mode::Down);
            let got = get(&fleet, &engine, &stored, 0..data.len() as u64).await;
            assert!(got.bytes.unwrap() == data);
        });
    }
}

#[test]
fn a_put_without_enough_providers_fails_and_says_why() {
    run(4, |_, fleet, engine| async move {
        // Of each zone one is left: two shards each, as the cap allows.
        for host in 0..3 {
            fleet.set(host, Mode::Down);
        }
        put(&fleet, &engine, &plain(1_000_000), Wait::Full).await.unwrap();
        // With one more gone, a zone holds nothing and the caps leave room for four.
        fleet.set(3, Mode::Down);
        let error = put(&fleet, &engine, &plain(1_000_000), Wait::Quorum).await.unwrap_err();
        assert!(matches!(error, PutError::Acks { acks: 4, want: 5, .. }), "{error}");
    });
    run(4, |_, fleet, engine| async move {
        for host in 0..5 {
            fleet.set(host, Mode::Down);
        }
        let error = put(&fleet, &engine, &plain(1_000_000), Wait::Quorum).await.unwrap_err();
        assert!(matches!(error, PutError::Acks { .. }), "{error}");
        assert!(error.is_temporary() && error.to_string().contains("refused"), "{error}");
    });
}

/// However long the source is: what cannot be stored is told when it is known, not stripe by stripe.
#[test]
fn a_long_put_without_enough_providers_fails_as_soon_as_a_short_one() {
    run(15, |context, fleet, engine| async move {
        // Nobody answers there: each try takes as long as patience lasts, and few are under way at once.
        for host in 0..4 {
            fleet.set(host, Mode::Mute);
        }
        let start = context.current();
        let error = put(&fleet, &engine, &plain(1_000_000), Wait::Quorum).await.unwrap_err();
        assert!(matches!(error, PutError::Acks { want: 5, .. }), "{error}");
        let short = context.current().duration_since(start).unwrap();
        let start = context.current();
        let error = put(&fleet, &engine, &plain(plain_bytes(&small()) as usize * 100), Wait::Quorum).await.unwrap_err();
        assert!(matches!(error, PutError::Acks { want: 5, .. }), "{error}");
        let long = context.current().duration_since(start).unwrap();
        assert!(long <= short * 2, "a short one took {short:?}, a long one {long:?}");
    });
}

#[test]
fn who_corrupts_is_named_and_another_asked() {
    run(5, |_, fleet, engine| async move {
        let data = plain(4_000_000);
        let stored = put(&fleet, &engine, &data, Wait::Full).await.unwrap();
        fleet.set(1, Mode::Corrupt);
        let got = get(&fleet, &engine, &stored, 0..data.len() as u64).await;
        assert!(got.bytes.unwrap() == data);
        assert!(!got.verdicts.is_empty());
        for verdict in &got.verdicts {
            assert_eq!((verdict.node, verdict.deal), (fleet.node(1), 2));
            assert!(verdict.what.contains("expected shard"), "{verdict}");
        }
    });
}

#[test]
fn who_acks_without_keeping_is_found_by_reading_back() {
    run(6, |_, fleet, engine| async move {
        for host in 0..6 {
            fleet.set(host, Mode::Forget);
        }
        let error = put(&fleet, &engine, &plain(100_000), Wait::Quorum).await.unwrap_err();
        assert!(matches!(error, PutError::ReadBack(_)), "{error}");
    });
}

#[test]
fn too_few_shards_are_an_error_that_may_pass() {
    run(7, |_, fleet, engine| async move {
        let data = plain(1_000_000);
        let stored = put(&fleet, &engine, &data, Wait::Full).await.unwrap();
        for host in 0..4 {
            fleet.set(host, Mode::Down);
        }
        let got = get(&fleet, &engine, &stored, 0..10).await;
        assert!(got.bytes.unwrap_err().is_temporary());
    });
}

#[test]
fn a_source_that_fails_in_the_middle_stores_nothing_that_is_referred_to() {
    run(8, |context, fleet, engine| async move {
        let shape = small();
        let request = PutRequest {
            shape,
            coder: coder(&shape),
            roster: fleet.roster(),
            upload: [9; 16],
            wait: Wait::Full,
            offers: Arc::new(()),
            care: care(),
        };
        let pieces = stream::iter(0..40).map(|i| if i < 39 { Ok(plain(100_000)) } else { Err("checksum") });
        let error = engine.put(request, pieces, |_| {}).await.unwrap_err();
        assert!(matches!(error, PutError::Source(reason) if reason == "checksum"));
        context.sleep(Duration::from_secs(1)).await;
        assert_eq!(engine.pool().free(), STRIPES_BYTES, "nothing goes on");
    });
}

#[test]
fn memory_is_bounded_however_many_put_at_once() {
    Runner::seeded(9).start(|context| async move {
        let fleet = Fleet::new(&context, 6);
        let slot = 9 * 256 * 1024;
        let engine = fleet.engine(&context, Pool::new(3 * slot));
        let data = plain(6_000_000);
        let puts = (0..5).map(|_| put(&fleet, &engine, &data, Wait::Full));
        for stored in futures::future::join_all(puts).await {
            assert_eq!(stored.unwrap().size_bytes, 6_000_000);
        }
        assert_eq!(engine.pool().free(), 3 * slot);
    });
}
