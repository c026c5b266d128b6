//! Bring releases of a component beside the one that runs while it is asked all the time: none of the requests fails.
//!
//! Order and facts are asserted, never durations: waits end when what is awaited happened, and fail only after a
//! patience no healthy machine needs.

mod machines;

use machines::{
    Network, PATIENCE,
    apps::{Door, Host, example, spent, wei},
};
use serde_json::Value;
use std::{
    path::Path,
    sync::{
        Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

const ONE: &str = "Hello from somebody else's machine.";
const TWO: &str = "Hello from the release that is two.";

/// The example with another line to say, or that breaks off each request it is asked.
fn variant(folder: &Path, name: &str, change: (&str, &str)) -> String {
    let text = std::fs::read_to_string(example("hello.wat")).unwrap();
    assert_eq!(text.matches(change.0).count(), 1, "{}", change.0);
    let file = folder.join(name);
    std::fs::write(&file, text.replace(change.0, change.1)).unwrap();
    file.to_str().unwrap().to_owned()
}

/// What requests got, one after the other, until it is told to stop.
fn ask_on(door: &Door, is_over: &AtomicBool, bodies: &Mutex<Vec<String>>) {
    while !is_over.load(Ordering::Relaxed) {
        let (status, lease, body) = door.get("hello.localhost");
        assert_eq!(status, 200, "a request failed at lease {lease:?}: {body}");
        bodies.lock().unwrap().push(body.trim_end().to_owned());
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn until_says(door: &Door, line: &str) {
    let begun = Instant::now();
    loop {
        let (status, _, body) = door.get("hello.localhost");
        if status == 200 && body.trim_end() == line {
            return;
        }
        assert!(begun.elapsed() < PATIENCE, "{status}: {body}");
        std::thread::sleep(Duration::from_millis(300));
    }
}

fn leases(value: &Value) -> Vec<u64> {
    value.as_array().unwrap().iter().map(|one| one["lease"].as_u64().unwrap()).collect()
}

/// Which release runs, which are on their way, and how many leases are paid.
fn state(network: &Network) -> (u64, Value, u64) {
    let shown = network.one(&["app", "show", "hello"]);
    (shown["release"].as_u64().unwrap(), shown["staged"].clone(), shown["running"].as_u64().unwrap())
}

/// Ends the app's update to a release that answers nothing, and tells its error.
fn refuse_bad(network: &Network, bad: &str) -> Value {
    let words = ["-C", network.name.as_str(), "app", "update", "hello", bad, "--check", "/", "--probation"];
    let (exit, _, error) = network.user.run(&[&words[..], &["2s", "-y"]].concat());
    assert_ne!(exit, 0);
    assert_eq!(error["error"]["code"], "HD3075", "{error}");
    error
}

#[test]
fn releases_take_over_and_are_taken_back_and_no_request_fails() {
    let network = Network::start("update");
    let hosts: Vec<Host> = ["attic", "cellar", "garden"].map(|zone| Host::start(&network, zone)).into();
    let hello = example("hello.wat");
    let two = variant(network.user.folder(), "two.wat", (&format!("\"{ONE}\\0a\""), &format!("\"{TWO}\\0a\"")));
    let call = "(call $answer (local.get $out) (i32.const 1024) (i32.const 36))))";
    let bad = variant(network.user.folder(), "bad.wat", (call, "unreachable))"));
    let deploy = ["deploy", hello.as_str(), "--replicas", "2", "--memory", "128MiB", "--term", "2h"];
    network.ask(&[&deploy[..], &["--dry-run"]].concat(), "three offers", |lines| {
        (lines[0]["places"].as_array()?.len() == 2 && hosts.iter().all(|host| host.key().is_some())).then_some(())
    });
    let before = spent(&network);
    let deployed = network.one(&[&deploy[..], &["-y"]].concat());
    let door = Door::open(&network);
    until_says(&door, ONE);
    assert_eq!(state(&network), (1, Value::Null, 2));

    let gate = ["--probation", "2s", "--drain", "8s"];
    let update = ["app", "update", "hello", two.as_str()];
    let escrow = spent(&network);
    let plan = network.one(&[&update[..], &gate[..], &["--dry-run"]].concat());
    assert_eq!((&plan["from"], &plan["release"]["release"]), (&1.into(), &2.into()), "{plan}");
    assert!(wei(&plan["overlap_wei"]) > 0 && wei(&plan["beside_hour_wei"]) > 0, "{plan}");
    assert_eq!((spent(&network), state(&network)), (escrow, (1, Value::Null, 2)), "a plan changes nothing");
    network.user.refused(&["-C", &network.name, "app", "rollback", "hello", "-y"], "HD3077");

    let (is_over, bodies) = (AtomicBool::new(false), Mutex::new(Vec::new()));
    let said = || bodies.lock().unwrap().last().cloned().unwrap_or_default();
    std::thread::scope(|scope| {
        let asking = scope.spawn(|| ask_on(&door, &is_over, &bodies));
        // A panic here must not leave the other asking for ever.
        let scene = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let updated = network.one(&[&update[..], &gate[..], &["-y"]].concat());
            assert_eq!((&updated["release"], &updated["retired"]["leases"]), (&2.into(), &2.into()), "{updated}");
            assert!(updated["retired"]["left"].is_null() && wei(&updated["retired"]["refunded_wei"]) > 0, "{updated}");
            let (old, new) = (leases(&deployed["replicas"]), leases(&updated["replicas"]));
            assert!(new.len() == 2 && new.iter().all(|lease| !old.contains(lease)), "{updated}");
            assert_eq!(state(&network), (2, Value::Null, 2));
            until_says(&door, TWO);

            // One that answers nothing is taken back by itself: what ran was never touched.
            let error = refuse_bad(&network, &bad);
            let words = error["error"]["message"].as_str().unwrap();
            assert!(words.contains("release 2 runs on") && words.contains("lease "), "{error}");
            assert_eq!(state(&network), (2, Value::Null, 2), "nothing of it is paid on");
            let shown = network.one(&["app", "show", "hello"]);
            assert_eq!(leases(&shown["replicas"]), new, "{shown}");
            assert_eq!(said(), TWO);

            let back = network.one(&[&["app", "rollback", "hello", "-y"], &gate[..]].concat());
            assert_eq!(back["release"], 4, "{back}");
            until_says(&door, ONE);
            let told = network.user.lines(&["-C", &network.name, "app", "releases", "hello"]);
            let told: Vec<_> = told.iter().map(|one| (one["release"].as_u64(), one["state"].as_str())).collect();
            assert_eq!(told, [(Some(1), Some("was")), (Some(2), Some("was")), (Some(4), Some("runs"))]);
        }));
        is_over.store(true, Ordering::Relaxed);
        asking.join().unwrap();
        scene.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    });
    let bodies = bodies.into_inner().unwrap();
    assert!(bodies.len() > 10 && bodies.iter().all(|body| body == ONE || body == TWO), "{bodies:?}");

    // One replica is ended on purpose: the upkeep behind the door places it again.
    let shown = network.one(&["app", "show", "hello"]);
    let victim = leases(&shown["replicas"])[0];
    let (lease, address) = (victim.to_string(), door.address().to_string());
    let drilled =
        network.one(&["app", "drill", "hello", "--replica", lease.as_str(), "--door", address.as_str(), "-y"]);
    assert_eq!(
        (&drilled["ended"], drilled["placed"].as_array().unwrap().len()),
        (&vec![victim].into(), 1),
        "{drilled}"
    );
    assert!(drilled["requests"].as_u64().unwrap() > 0 && wei(&drilled["refunded_wei"]) > 0, "{drilled}");
    assert!(drilled["failed"].as_u64() < drilled["requests"].as_u64(), "{drilled}");
    assert_eq!(state(&network), (4, Value::Null, 2));
    network.user.refused(&["-C", &network.name, "app", "drill", "hello", "--zone", "nowhere", "-y"], "HD3050");

    // What all releases paid is in one bill, and adds up.
    let over = network.one(&["app", "delete", "hello", "-y"]);
    assert_eq!(over["leases"], 2, "{over}");
    let earned: u128 = over["earned"].as_array().unwrap().iter().map(|one| wei(&one["wei"])).sum();
    let paid = earned + wei(&over["burned_wei"]) + wei(&over["watched_wei"]);
    assert_eq!((paid, spent(&network) - before), (wei(&over["paid_wei"]), paid as i128), "{over}");
}

#[test]
fn an_update_that_was_killed_is_found_and_ended_and_nothing_pays_on() {
    let network = Network::start("update-cut");
    let hosts: Vec<Host> = ["attic", "cellar"].map(|zone| Host::start(&network, zone)).into();
    let hello = example("hello.wat");
    let deploy = ["deploy", hello.as_str(), "--memory", "128MiB", "--term", "2h"];
    network.ask(&[&deploy[..], &["--dry-run"]].concat(), "an offer", |lines| {
        (lines[0]["places"].as_array()?.len() == 1 && hosts.iter().all(|host| host.key().is_some())).then_some(())
    });
    let before = spent(&network);
    let deployed = network.one(&[&deploy[..], &["-y"]].concat());
    let cut = |probation: &str| {
        let words = ["-C", &network.name, "app", "update", "hello", "--replicas", "2", "--probation", probation, "-y"];
        let mut process = network.user.command(&words).spawn().unwrap();
        let begun = Instant::now();
        while state(&network).2 < 3 {
            assert!(begun.elapsed() < PATIENCE, "no order came");
            std::thread::sleep(Duration::from_millis(300));
        }
        process.kill().unwrap();
        process.wait().unwrap();
    };
    cut("1h");
    let (release, staged, _) = state(&network);
    assert_eq!((release, staged), (1, 2.into()), "what runs is what ran");
    let refused = |words: &[&str]| network.user.refused(&[&["-C", &network.name, "app"], words].concat(), "HD3076");
    refused(&["update", "hello", &hello, "-y"]);
    refused(&["scale", "hello", "3", "-y"]);
    let ended = network.one(&["app", "update", "hello", "--abort"]);
    assert_eq!((&ended["retired"]["release"], &ended["retired"]["leases"]), (&2.into(), &2.into()), "{ended}");
    assert_eq!(state(&network), (1, Value::Null, 1));
    let shown = network.one(&["app", "show", "hello"]);
    assert_eq!(leases(&shown["replicas"]), leases(&deployed["replicas"]), "{shown}");

    // Once more, and this time it is brought to its end.
    cut("1h");
    let updated = network.one(&["app", "update", "hello", "--resume", "--probation", "1s", "--drain", "1s"]);
    assert_eq!((&updated["release"], &updated["retired"]["leases"]), (&3.into(), &1.into()), "{updated}");
    assert_eq!(state(&network), (3, Value::Null, 2));
    let over = network.one(&["app", "delete", "hello", "-y"]);
    assert_eq!(spent(&network) - before, wei(&over["paid_wei"]) as i128, "{over}");
}
