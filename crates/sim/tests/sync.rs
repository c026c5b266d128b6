//! Come late or with an empty disk, and be told the state by peers.

use hodei_sim::{Scenario, Votes, each, seeds};
use std::time::Duration;

const SECOND: Duration = Duration::from_secs(1);

fn four(seconds: u64) -> Scenario {
    Scenario::four(Votes::Plain, seconds).with_state_sync()
}

/// One is gone for a quarter of a minute, and another goes before it is back.
fn two_away(scenario: Scenario, first: usize, other: usize) -> Scenario {
    scenario.kill(SECOND * 10, first).kill(SECOND * 20, other).start(SECOND * 25, first).start(SECOND * 50, other)
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
        let done = two_away(four(90).losing_the_disk_of(emptied), emptied, other).run(seed).unwrap();
        assert!(done.blocks(12, 20) > 0, "three with their journals go on");
        // From second 25 three run, but one of them does not know what it signed.
        assert_eq!(done.blocks(22, 50), 0, "a vote of somebody who lost its journal was counted");
        assert!(done.blocks(52, 90) > 20, "four go on, and all of them vote");
    });
}

/// One that keeps its disk votes at once: the same story without the loss does not halt.
#[test]
fn a_validator_with_its_journal_votes_at_once() {
    each(seeds(2), |seed| {
        let (away, other) = (seed as usize % 4, (seed as usize + 1) % 4);
        let done = two_away(four(60), away, other).run(seed).unwrap();
        assert!(done.blocks(30, 50) > 5, "three with their journals go on");
    });
}
