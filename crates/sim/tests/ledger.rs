//! Break a ledger of four in every way at once, and see it agree and go on.

use commonware_p2p::simulated::Link;
use commonware_runtime::deterministic::FaultConfig;
use commonware_utils::probability;
use hodei_sim::{Scenario, Transfers, Votes, each, lan, seeds};
use std::time::Duration;

const SECOND: Duration = Duration::from_secs(1);
/// Seeds of the short scenarios; the storm has more.
const FEW: u64 = 4;

const fn bad() -> Link {
    Link { latency: Duration::from_millis(150), jitter: Duration::from_millis(100), success_rate: probability!(0.5) }
}

#[test]
fn an_idle_ledger_beats_and_a_seed_repeats_itself() {
    // Nobody sends within the run.
    let silent = Scenario::new(Votes::Plain, 4, lan(), 30, Transfers { interval: SECOND * 3600 });
    let once = |seed| {
        let done = silent.run(seed).unwrap();
        assert_eq!(done.transactions, 0);
        assert!((20..60).contains(&done.blocks(0, 30)), "{} beats in 30 s", done.blocks(0, 30));
        done.fingerprint
    };
    each(seeds(FEW), |seed| assert_eq!(once(seed), once(seed)));
    assert_ne!(once(1), once(2));
}

#[test]
fn transfers_are_executed_alike_and_a_seed_repeats_itself() {
    let once = |seed| {
        let done = Scenario::four(Votes::Plain, 60).run(seed).unwrap();
        assert!(done.transactions >= 100, "{} transactions", done.transactions);
        done.fingerprint
    };
    each(seeds(FEW), |seed| assert_eq!(once(seed), once(seed)));
}

/// One killed: blocks go on. It returns and catches up. Two killed: a halt. They return: it goes on.
fn kills_returns_and_a_halt(votes: Votes, seed: u64) {
    let (first, second, third) = (seed as usize % 4, (seed as usize + 1) % 4, (seed as usize + 2) % 4);
    let done = Scenario::four(votes, 90)
        .kill(SECOND * 10, first)
        .start(SECOND * 25, first)
        .kill(SECOND * 35, second)
        .kill(SECOND * 35, third)
        .start(SECOND * 55, third)
        .start(SECOND * 60, second)
        .run(seed)
        .unwrap();
    assert_eq!(done.kills, 3);
    assert!(done.blocks(13, 25) > 0, "three of four go on");
    assert_eq!(done.blocks(37, 55), 0, "two of four halt");
    assert!(done.blocks(60, 90) > 10, "four go on");
}

#[test]
fn one_may_die_two_halt_and_their_return_goes_on() {
    each(seeds(FEW), |seed| kills_returns_and_a_halt(Votes::Plain, seed));
}

/// Bad links, kills, a lost disk and failing disks for two minutes, then healing, then three quiet minutes.
fn storm(votes: Votes, seed: u64) -> Scenario {
    let pick = |n: u64| ((seed + n) % 4) as usize;
    let mut storm = Scenario::four(votes, 300).with_state_sync().losing_the_disk_of(pick(3)).until_height(180);
    for round in 0..4 {
        let start = SECOND * (4 + 28 * round as u32);
        storm = storm
            .link(start, pick(round), pick(round + 1), bad())
            .link(start + SECOND * 2, pick(round + 2), pick(round + 3), bad())
            .kill(start + SECOND * 4, pick(round))
            .start(start + SECOND * 10, pick(round));
        if round == 3 {
            // The one that lost its disk is fetching the state: it may take that long over such links.
            continue;
        }
        storm = storm
            .disks(start + SECOND * 12, FaultConfig::default().sync(probability!(0.002)))
            .disks(start + SECOND * 16, FaultConfig::default());
        for n in 0..4 {
            storm = storm.start(start + SECOND * 17 + Duration::from_millis(250) * n as u32, pick(n));
        }
    }
    storm.heal(SECOND * 120, lan())
}

#[test]
fn storm_then_healing() {
    each(seeds(64), |seed| {
        let storm = storm(Votes::Plain, seed);
        let done = storm.run(seed).unwrap();
        assert!(done.transactions >= 60, "{} transactions", done.transactions);
        assert!(done.blocks(130, 300) >= 100, "{} blocks after healing", done.blocks(130, 300));
        if seed % 16 == 0 {
            assert_eq!(done.fingerprint, storm.run(seed).unwrap().fingerprint);
        }
    });
}

#[test]
fn threshold_certificates_survive_the_same() {
    each(seeds(8), |seed| {
        kills_returns_and_a_halt(Votes::Threshold, seed);
        if seed == 0 {
            let once = || Scenario::four(Votes::Threshold, 20).run(seed).unwrap().fingerprint;
            assert_eq!(once(), once());
        }
    });
}
