//! Lose hosts, cut them off and start them anew, and see by when another runs what they ran, in simulated time.
//!
//! What decides is the hosts' own judge of misses and the ledger's own execution; the wire, the blocks' pace and the faults
//! follow from a seed. The owner of the app is away all the time. `HODEI_SEEDS=1000` runs more.

mod cloud;

use cloud::{Cloud, Fault};
use hodei_sim::{each, seeds};
use std::sync::Mutex;

/// Seeds of each fault.
const SEEDS: u64 = 50;
/// From a fault to the lease of who goes on, at most.
const DEPUTY_MS: u64 = 20_000;
/// The same where the deputy may have been placed with another host of those that are gone: it has none itself, and who
/// goes on is found once both are lost.
const AGAIN_MS: u64 = 300_000;

/// Milliseconds from a fault to the deputy's lease, over seeds.
fn told(what: &str, mut all: Vec<u64>) {
    all.sort_unstable();
    let at = |part: usize| all[(all.len() - 1) * part / 100];
    println!("{what}: {} times, {} ms in the middle, {} in 95 of 100, {} at most", all.len(), at(50), at(95), at(100));
}

/// Runs a fault that a deputy follows; all of them came in time, and went on.
fn lost(what: &str, fault: Fault) {
    let all = Mutex::new(Vec::new());
    each(seeds(SEEDS), |seed| {
        let mut cloud = Cloud::new(seed);
        let replicas = cloud.hurt(fault);
        let most_ms = if fault == Fault::Operator { AGAIN_MS } else { DEPUTY_MS };
        let took = cloud.until_deputies(&replicas, most_ms);
        all.lock().expect("no holder of this lock panics").extend(took);
        // What stays away is lost after two minutes, and each replica has one lease again.
        cloud.pass(150_000);
        cloud.judge_replaced(if fault == Fault::Operator { None } else { Some(&replicas) });
    });
    told(what, all.into_inner().expect("no holder of this lock panics"));
}

#[test]
fn what_ran_on_a_host_that_is_gone_runs_elsewhere_within_twenty_seconds_while_its_owner_sleeps() {
    lost("a host is gone", Fault::Gone);
}

#[test]
fn what_ran_on_a_host_that_nobody_reaches_any_more_runs_elsewhere_and_never_has_two_heads() {
    lost("a host is cut off from all", Fault::Cut);
}

#[test]
fn what_ran_with_an_operator_whose_hosts_are_all_gone_runs_with_others() {
    lost("all hosts of one operator are gone", Fault::Operator);
}

#[test]
fn a_host_that_its_watchers_do_not_reach_and_the_ledger_does_goes_on_and_its_deputy_ends() {
    let deputies = Mutex::new(0);
    each(seeds(SEEDS), |seed| {
        let mut cloud = Cloud::new(seed);
        cloud.hurt(Fault::Aside);
        cloud.pass(150_000);
        let (dismissed, running) = cloud.judge_returned();
        *deputies.lock().expect("no holder of this lock panics") += dismissed;
        assert_eq!(running, cloud.replicas(), "each replica runs once, where it ran");
    });
    let deputies = deputies.into_inner().expect("no holder of this lock panics");
    println!("hosts that showed themselves had {deputies} deputies");
    assert!(deputies > 0, "nobody was ever suspect");
}

#[test]
fn an_agent_that_is_started_anew_within_four_seconds_and_a_watcher_that_is_cut_off_move_nothing() {
    each(seeds(SEEDS), |seed| {
        for fault in [Fault::Restart, Fault::BlindWatcher] {
            let mut cloud = Cloud::new(seed);
            cloud.hurt(fault);
            cloud.pass(90_000);
            cloud.judge_untouched();
        }
    });
}
