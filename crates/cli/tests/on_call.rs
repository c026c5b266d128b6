//! Deploy a component on call: it sleeps while nobody asks, runs for who does, and costs its calls, to the wei.
//!
//! Order and facts are asserted, never durations: waits end when what is awaited happened, and fail only after a
//! patience no healthy machine needs.

mod machines;

use machines::{
    Network, PATIENCE,
    apps::{Door, Host, example, spent, wei},
};
use serde_json::Value;
use std::time::{Duration, Instant};

const CALLS: u64 = 50;

/// How many runners the node of a host has started and still has.
fn runners(host: &Host) -> usize {
    let node = host.process.as_ref().unwrap().id().to_string();
    let is_runner = |process: &std::fs::DirEntry| {
        let read = |file: &str| std::fs::read(process.path().join(file)).unwrap_or_default();
        let status = String::from_utf8_lossy(&read("status")).into_owned();
        let is_child = status.lines().any(|line| line.strip_prefix("PPid:").is_some_and(|id| id.trim() == node));
        is_child && read("cmdline").split(|byte| *byte == 0).any(|word| word == b"run-sandbox")
    };
    std::fs::read_dir("/proc").unwrap().flatten().filter(is_runner).count()
}

fn replica(shown: &Value) -> &Value {
    &shown["replicas"][0]
}

/// Waits until the app's one replica is so, by its host.
fn until(network: &Network, what: &str, good: impl Fn(&Value) -> bool) -> Value {
    network.ask(&["app", "show", "hello"], what, |lines| good(replica(&lines[0])).then(|| lines[0].clone()))
}

#[test]
fn an_app_on_call_sleeps_until_it_is_asked_and_costs_its_calls_to_the_wei() {
    let network = Network::start("on-call");
    let hosts: Vec<Host> = ["attic", "cellar"].map(|zone| Host::start_with(&network, zone, 3)).into();
    let hello = example("hello.wat");
    let plan = network.ask(&["deploy", &hello, "--on-call", "--dry-run"], "two offers", |lines| {
        (hosts.iter().all(|host| host.key().is_some()) && lines[0]["places"].as_array()?.len() == 1)
            .then(|| lines[0].clone())
    });
    assert_eq!(plan["on_call"], true, "{plan}");
    let call = wei(&plan["call_wei"]);
    assert!(call > 0 && wei(&plan["call_100ms_wei"]) > 99 * call, "{plan}");
    let (escrow, month) = (wei(&plan["escrow_wei"]), wei(&plan["keep_month_wei"]));
    assert!(month > 0 && escrow >= 1_000_000 * call, "a million calls are paid ahead: {plan}");
    // So few are that half of the credit is used, and signed for, several times.
    let few = ["--term", "1h", "--calls", "64"];
    let before = spent(&network);

    let deployed = network.one(&[&["deploy", hello.as_str(), "--on-call", "-y"], &few[..]].concat());
    assert!(wei(&deployed["escrow_wei"]) < escrow, "{deployed}");
    let lease = deployed["replicas"][0]["lease"].as_u64().unwrap();
    assert_eq!(spent(&network) - before, wei(&deployed["escrow_wei"]) as i128);
    let shown = until(&network, "a replica that sleeps", |one| one["state"] == "asleep");
    assert_eq!((&replica(&shown)["starts"], &replica(&shown)["calls"]), (&0.into(), &0.into()), "{shown}");
    assert_eq!(hosts.iter().map(runners).sum::<usize>(), 0, "nothing runs while nobody asks");

    let mut door = Some(Door::open(&network));
    let ask = |door: &Door| {
        let begun = Instant::now();
        loop {
            let (status, headers, body) = door.headed("hello.localhost");
            if status == 200 {
                assert_eq!(body.trim_end(), "Hello from somebody else's machine.");
                assert_eq!(headers["x-hodei-lease"], lease.to_string());
                let price: u128 = headers["x-hodei-price"].parse().unwrap();
                return (headers.contains_key("x-hodei-cold-start"), price);
            }
            // The door looks around first; what is refused is not done, and costs nothing.
            assert!(matches!(status, 404 | 503) && begun.elapsed() < PATIENCE, "{status}: {body}");
            std::thread::sleep(Duration::from_millis(300));
        }
    };
    let (is_cold, price) = ask(door.as_ref().unwrap());
    assert!(is_cold, "the first call starts it");
    assert!(price >= call, "a millisecond at least");
    let mut cold = 1;
    for _ in 1..CALLS {
        let (is_cold, again) = ask(door.as_ref().unwrap());
        assert_eq!(again, price, "the same call costs the same");
        cold += u64::from(is_cold);
    }
    let all = price * u128::from(CALLS);
    let shown = until(&network, "all calls counted", |one| one["calls"] == CALLS);
    assert_eq!(wei(&replica(&shown)["due_wei"]), all, "{shown}");
    assert_eq!(replica(&shown)["starts"], cold, "{shown}");

    // Nobody asks: it goes to sleep, is not taken for lost, and wakes again.
    until(&network, "sleep", |one| one["state"] == "asleep");
    assert_eq!(hosts.iter().map(runners).sum::<usize>(), 0);
    let (is_cold, again) = ask(door.as_ref().unwrap());
    assert_eq!((is_cold, again), (true, price));
    let all = all + price;
    let shown = network.one(&["app", "show", "hello"]);
    assert_eq!(shown["orders"].as_array().unwrap().len(), 1, "it was not placed again: {shown}");

    // The door writes down what it saw within a few seconds; then it may go.
    let begun = Instant::now();
    let folder = network.user.folder().to_path_buf();
    while seen(&folder, lease) != Some(all) {
        assert!(begun.elapsed() < PATIENCE, "what was seen is not written down");
        std::thread::sleep(Duration::from_millis(300));
    }
    drop(door.take());

    let over = network.one(&["app", "delete", "hello", "-y"]);
    assert_eq!((&over["leases"], wei(&over["calls_wei"])), (&1.into(), all), "{over}");
    let paid = wei(&over["paid_wei"]);
    let keeping = paid - all;
    let secs = u128::from(over["paid_secs"].as_u64().unwrap());
    let rate = month / (30 * 24 * 3600);
    assert_eq!(keeping, rate * secs, "beside calls what keeping costs, and nothing else: {over}");
    assert_eq!(spent(&network) - before, paid as i128, "what left the wallet is what calls and keeping cost");
    let earned: u128 = over["earned"].as_array().unwrap().iter().map(|one| wei(&one["wei"])).sum();
    assert_eq!(earned + wei(&over["burned_wei"]), paid);
}

/// What the door wrote down of a lease's calls, wherever the wallet's folder is.
fn seen(folder: &std::path::Path, lease: u64) -> Option<u128> {
    let name = format!("hello.seen-{lease}");
    let mut folders = vec![folder.to_path_buf()];
    while let Some(next) = folders.pop() {
        for entry in std::fs::read_dir(next).ok()?.flatten() {
            if entry.file_name() == name.as_str() {
                return std::fs::read_to_string(entry.path()).ok()?.trim().parse().ok();
            }
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                folders.push(entry.path());
            }
        }
    }
    None
}
