//! Come late or with an empty disk, and be told the state by peers.

use commonware_p2p::simulated::Link;
use commonware_utils::probability;
use hodei_sim::{Scenario, Transfers, Votes, allocations, each, seeds};
use std::time::Duration;

const SECOND: Duration = Duration::from_secs(1);

fn four(seconds: u64) -> Scenario {
    let lan =
        Link { latency: Duration::from_millis(10), jitter: Duration::from_millis(5), success_rate: probability!(1.0) };
    let life = Transfers { interval: Duration::from_millis(1700) };
    Scenario::new(Votes::Plain, 4, lan, seconds, life).with_allocations(allocations(5)).with_state_sync()
}

#[test]
fn a_validator_that_comes_late_fetches_the_state_and_votes() {
    each(seeds(4), |seed| {
        four(60).with_late(seed as usize % 4, 40).until_height(100).run(seed).unwrap();
    });
}

#[test]
fn an_observer_that_was_never_there_fetches_the_state_and_follows() {
    each(seeds(4), |seed| {
        four(60).with_observers(1).with_late(4, 40).until_height(100).run(seed).unwrap();
    });
}

/// Without its journal a validator may have voted for anything: it votes again only when that is past.
#[test]
fn an_emptied_validator_does_not_vote_until_what_it_signed_is_past() {
    each(seeds(4), |seed| {
        let (emptied, other) = (seed as usize % 4, (seed as usize + 1) % 4);
        let done = four(90)
            .losing_the_disk_of(emptied)
            .kill(SECOND * 10, emptied)
            .kill(SECOND * 20, other)
            // Three run now, but one of them does not know what it signed.
            .start(SECOND * 25, emptied)
            .start(SECOND * 50, other)
            .run(seed)
            .unwrap();
        assert!(done.blocks(12, 20) > 0, "three with their journals go on");
        assert_eq!(done.blocks(22, 50), 0, "a vote of somebody who lost its journal was counted");
        assert!(done.blocks(52, 90) > 20, "four go on, and all of them vote");
    });
}

/// One that keeps its disk votes at once: the same story without the loss does not halt.
#[test]
fn a_validator_with_its_journal_votes_at_once() {
    each(seeds(2), |seed| {
        let (away, other) = (seed as usize % 4, (seed as usize + 1) % 4);
        let done = four(60)
            .kill(SECOND * 10, away)
            .kill(SECOND * 20, other)
            .start(SECOND * 25, away)
            .start(SECOND * 50, other)
            .run(seed)
            .unwrap();
        assert!(done.blocks(30, 50) > 5, "three with their journals go on");
    });
}
