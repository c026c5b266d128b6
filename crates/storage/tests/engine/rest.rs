//! Have providers rest, be full or fall silent, and count the time that those who ask lose by it.

use super::{Runner, plain, put, run, small};
use crate::fleet::{Fleet, Mode};
use commonware_runtime::{Clock as _, Runner as _, Spawner as _, Supervisor as _, deterministic::Context};
use hodei_storage::engine::{Patience, Pause, Pool, PutError, RemoteError, STRIPES_BYTES, Wait};
use hodei_types::slice::ShardId;
use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

fn since(context: &Context, start: SystemTime) -> Duration {
    context.current().duration_since(start).unwrap()
}

#[test]
fn whether_somebody_takes_shards_and_gives_them_is_known_before_one_is_read() {
    run(31, |_, fleet, engine| async move {
        let roster = fleet.roster();
        let wait = Some(Duration::from_secs(5));
        for (mode, expected) in [
            (Mode::Up, None),
            (Mode::Rests(5_000), Some(Pause { wait, gives: true })),
            (Mode::Busy(5_000), Some(Pause { wait, gives: false })),
            (Mode::Full, Some(Pause { wait: None, gives: true })),
            (Mode::Down, None),
        ] {
            fleet.set(2, mode);
            assert_eq!(engine.pause(&roster[2]).await, expected, "{mode:?}");
        }
        assert_eq!(fleet.shards(), 0, "nothing was brought to find it out");
    });
}

#[test]
fn who_rests_is_left_at_once_where_others_may_take_a_shard_and_waited_for_where_nobody_may() {
    run(32, |context, fleet, engine| async move {
        let (roster, shard) = (fleet.roster(), plain(64 << 10));
        fleet.set(4, Mode::Rests(5_000));
        let bring = |patience| engine.copy_to(small(), (roster.clone(), 4), [1; 16], shard.clone(), patience);
        let start = context.current();
        let error = bring(Patience::Moment).await.unwrap_err();
        assert!(matches!(error, RemoteError::Busy { retry_after_ms: 5_000 }), "{error}");
        assert!(since(&context, start) < Duration::from_secs(1), "{:?}", since(&context, start));
        let start = context.current();
        assert!(bring(Patience::Long).await.is_err());
        assert!(since(&context, start) > Duration::from_secs(10), "it may only be late");
        fleet.set(4, Mode::Rests(100));
        let start = context.current();
        assert!(bring(Patience::Moment).await.is_err());
        let took = since(&context, start);
        assert!(took > Duration::from_secs(1) && took < Duration::from_secs(5), "a moment: {took:?}");
    });
}

#[test]
fn who_says_that_it_is_busy_is_not_remembered_as_one_that_failed() {
    for seed in 60..64 {
        run(seed, |context, fleet, engine| async move {
            fleet.set(2, Mode::Rests(400));
            let mut stored = put(&fleet, &engine, &plain(700_000), Wait::Quorum).await.unwrap();
            // The others acknowledged long ago, and it is raced by now.
            context.sleep(Duration::from_secs(1)).await;
            assert!(!engine.peers().rests(&fleet.node(2), context.current()), "seed {seed}");
            std::mem::take(&mut stored.rest).settle().await;
        });
    }
}

#[test]
fn a_put_goes_round_who_rests_stripe_by_stripe() {
    Runner::seeded(33).start(|context| async move {
        let fleet = Fleet::new(&context, 9);
        let engine = fleet.engine(&context, Pool::new(STRIPES_BYTES));
        (0..3).for_each(|host| fleet.set(host, Mode::Rests(5_000)));
        let start = context.current();
        let mut stored = put(&fleet, &engine, &plain(6_000_000), Wait::Full).await.unwrap();
        std::mem::take(&mut stored.rest).settle().await;
        // One that waited for any of them took twenty tries.
        assert!(since(&context, start) < Duration::from_secs(20), "{:?}", since(&context, start));
    });
}

#[test]
fn a_put_to_a_network_that_rests_altogether_ends_after_one_wait() {
    run(35, |context, fleet, engine| async move {
        (0..6).for_each(|host| fleet.set(host, Mode::Rests(5_000)));
        let start = context.current();
        let error = put(&fleet, &engine, &plain(1_000), Wait::Quorum).await.unwrap_err();
        let PutError::Acks { acks: 0, failure, .. } = &error else { panic!("{error}") };
        assert!(failure.contains("busy for 5000 ms") && error.is_temporary(), "{error}");
        // Twenty tries of two seconds, and not of each provider in turn.
        assert!(since(&context, start) < Duration::from_secs(60), "{:?}", since(&context, start));
    });
}

#[test]
fn who_was_busy_is_asked_for_a_copy_again_where_who_was_asked_instead_is_down() {
    for seed in 40..56 {
        Runner::seeded(seed).start(|context| async move {
            let fleet = Fleet::new(&context, 5);
            let engine = fleet.engine(&context, Pool::new(STRIPES_BYTES));
            (1..4).for_each(|host| fleet.set(host, Mode::Rests(5_000)));
            fleet.set(4, Mode::Down);
            let later = fleet.clone();
            context.child("later").spawn(move |context| async move {
                context.sleep(Duration::from_secs(10)).await;
                (1..4).for_each(|host| later.set(host, Mode::Up));
            });
            let shard = plain(4096).to_vec();
            let copied = engine.put_copies(small(), fleet.roster(), [1; 16], shard, Arc::new(())).await;
            assert_eq!(copied.unwrap().0.len(), 4, "seed {seed}: all that are not down");
        });
    }
}

#[test]
fn many_who_are_silent_cost_no_more_time_than_one() {
    Runner::seeded(34).start(|context| async move {
        let fleet = Fleet::new(&context, 40);
        let engine = fleet.engine(&context, Pool::new(STRIPES_BYTES));
        let roster = fleet.roster();
        let id = ShardId::of(&plain(4096));
        let mut took = Vec::new();
        for silent in [1, 40] {
            (0..silent).for_each(|host| fleet.set(host, Mode::Mute));
            let start = context.current();
            let asked = roster.iter().map(|provider| (provider.deal, id));
            assert_eq!(engine.inventory(&roster, asked.collect()).await.silent.len(), silent);
            took.push(since(&context, start));
        }
        assert!(took[1] < took[0] * 2, "{took:?}");
        assert!(engine.peers().rests(&fleet.node(0), context.current()), "others are asked first then");
    });
}
