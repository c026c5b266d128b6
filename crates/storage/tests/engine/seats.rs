//! Count whose seats a stripe's shards take: nobody has two while a put can do without.

use super::{Context, Engine, Fleet, Mode, Runner, Stored, Wait, plain, put, run};
use commonware_runtime::{Clock as _, Runner as _};
use hodei_storage::engine::{Pool, STRIPES_BYTES};
use hodei_types::transport::NodeKey;
use std::{collections::BTreeMap, time::Duration};

/// By stripe, how many of its shards are listed with each provider.
async fn seats(fleet: &Fleet, engine: &Engine<Context, Fleet>, stored: &Stored) -> Vec<BTreeMap<NodeKey, usize>> {
    let pages = engine.pages(&fleet.roster(), &stored.page, |_| {}).await.unwrap();
    let stripes = pages.iter().flat_map(|(_, page)| (0..page.stripes.len()).map(move |at| (page, at)));
    let counted = stripes.map(|(page, at)| {
        let mut counts = BTreeMap::new();
        for shard in 0..page.n {
            *counts.entry(page.holder(at, shard).unwrap().node).or_default() += 1;
        }
        counts
    });
    counted.collect()
}

fn most(seats: &[BTreeMap<NodeKey, usize>]) -> usize {
    seats.iter().flat_map(BTreeMap::values).copied().max().unwrap()
}

#[test]
fn whoever_fails_nobody_else_gets_a_second_shard_while_acks_suffice() {
    for mode in [Mode::Down, Mode::Mute, Mode::Full, Mode::Slow(2_000), Mode::Slow(20_000)] {
        run(21, |_, fleet, engine| async move {
            fleet.set(4, mode);
            // The later ones know of the failure before they begin, as do the layers of an index.
            for round in 0..4 {
                let mut stored = put(&fleet, &engine, &plain(2_000_000), Wait::Quorum).await.unwrap();
                std::mem::take(&mut stored.rest).settle().await;
                let seats = seats(&fleet, &engine, &stored).await;
                assert_eq!((seats.len(), most(&seats)), (3, 1), "{mode:?}, round {round}: {seats:?}");
            }
        });
    }
}

#[test]
fn who_failed_a_moment_ago_and_is_back_gets_its_shard_and_nobody_two() {
    run(22, |context, fleet, engine| async move {
        fleet.set(2, Mode::Down);
        put(&fleet, &engine, &plain(1_000), Wait::Quorum).await.unwrap().rest.settle().await;
        fleet.set(2, Mode::Up);
        assert!(engine.peers().rests(&fleet.node(2), context.current()), "others are asked first");
        for wait in [Wait::Quorum, Wait::Full] {
            let mut stored = put(&fleet, &engine, &plain(2_000_000), wait).await.unwrap();
            std::mem::take(&mut stored.rest).settle().await;
            let seats = seats(&fleet, &engine, &stored).await;
            assert_eq!((seats.len(), most(&seats)), (3, 1), "{wait:?}: {seats:?}");
            let there = engine.inventory(&fleet.roster(), stored.kept.clone()).await.there;
            assert_eq!(there.len(), stored.kept.len(), "{wait:?}: each is where it is listed");
        }
    });
}

#[test]
fn where_too_few_take_shards_some_hold_two_so_that_there_are_acks_enough() {
    run(23, |context, fleet, engine| async move {
        (0..2).for_each(|host| fleet.set(host, Mode::Mute));
        for _ in 0..2 {
            let start = context.current();
            let mut stored = put(&fleet, &engine, &plain(1_000_000), Wait::Quorum).await.unwrap();
            let took = context.current().duration_since(start).unwrap();
            assert!(took < Duration::from_secs(5), "{took:?}");
            std::mem::take(&mut stored.rest).settle().await;
            let seats = seats(&fleet, &engine, &stored).await;
            for stripe in &seats {
                let twice = stripe.values().filter(|count| **count == 2).count();
                assert_eq!((most(&seats), twice), (2, 1), "one, for the fifth ack: {stripe:?}");
            }
        }
    });
}

#[test]
fn a_spare_that_fails_while_a_straggler_is_raced_is_replaced_by_another() {
    for seed in 60..76 {
        Runner::seeded(seed).start(|context| async move {
            let fleet = Fleet::new(&context, 12);
            let engine = fleet.engine(&context, Pool::new(STRIPES_BYTES));
            // Of one network; nobody knows yet that the second is down when it is chosen for the first.
            fleet.set(0, Mode::Slow(20_000));
            fleet.set(3, Mode::Down);
            let stored = put(&fleet, &engine, &plain(700_000), Wait::Full).await.unwrap();
            let seats = seats(&fleet, &engine, &stored).await;
            let has = |host| seats.iter().any(|seats| seats.contains_key(&fleet.node(host)));
            assert!(!has(0) && !has(3), "seed {seed}: a stripe waited for the straggler: {seats:?}");
            assert_eq!(most(&seats), 1, "seed {seed}: {seats:?}");
        });
    }
}
