//! Lose the only host of an app while nobody of its owner's is awake: it goes on from a spare copy.

mod machines;

use machines::{
    Network, PATIENCE,
    apps::{Door, Host, example, wei},
};
use serde_json::Value;
use std::time::{Duration, Instant};

fn ready(shown: &Value) -> Vec<String> {
    let of = |one: &Value| (one["state"] == "ready").then(|| one["node"].as_str().unwrap().to_owned());
    shown["replicas"].as_array().unwrap().iter().filter_map(of).collect()
}

fn until<T>(what: &str, mut look: impl FnMut() -> Result<T, String>) -> T {
    let begun = Instant::now();
    loop {
        match look() {
            Ok(found) => return found,
            Err(last) => assert!(begun.elapsed() < PATIENCE, "{what} did not come: {last}"),
        }
        std::thread::sleep(Duration::from_millis(300));
    }
}

#[test]
fn an_app_whose_only_host_is_gone_goes_on_from_a_spare_copy_while_its_owner_is_away() {
    let network = Network::start("spares");
    let mut hosts: Vec<Host> = ["loft", "shed", "yard"].map(|zone| Host::start(&network, zone)).into();
    let hello = example("hello.wat");
    let words = ["deploy", &hello, "--spares", "1", "--term", "2h"];
    let planned = network.ask(&[&words[..], &["--dry-run"]].concat(), "three offers", |lines| {
        let is_there = hosts.iter().all(|host| host.key().is_some());
        (is_there && lines[0]["spares"]["places"].as_array()?.len() == 1).then(|| lines[0].clone())
    });
    let (runs, copy) = (&planned["places"][0], &planned["spares"]["places"][0]);
    assert_ne!(runs["node"], copy["node"], "{planned}");
    // Keeping costs a thousandth of running there.
    assert_eq!(wei(&planned["spares"]["hour_wei"]), wei(&copy["rate_wei_s"]).div_ceil(1000) * 3600, "{planned}");

    network.one(&[&words[..], &["-y"]].concat());
    // The copy comes from the replica's host, not from this machine.
    let shown = until("a copy", || {
        let shown = network.one(&["app", "show", "hello"]);
        let is_whole = shown["spares"][0]["state"] == "asleep";
        if is_whole { Ok(shown) } else { Err(shown.to_string()) }
    });
    assert_eq!((shown["running"].as_u64(), shown["spares"].as_array().unwrap().len()), (Some(1), 1), "{shown}");
    let first = ready(&shown).remove(0);

    // Nothing of its owner's runs, and the host goes.
    let index = hosts.iter().position(|host| host.key().as_ref() == Some(&first)).unwrap();
    drop(hosts[index].process.take());
    let gone = Instant::now();
    until("a deputy", || {
        let shown = network.one(&["app", "show", "hello"]);
        let now = ready(&shown);
        (!now.is_empty() && !now.contains(&first)).then_some(()).ok_or(shown.to_string())
    });
    println!("it runs elsewhere {:?} after its host was killed", gone.elapsed());
    let door = Door::open(&network);
    until("an answer", || match door.get("hello.localhost") {
        (200, _, body) if body.starts_with("Hello") => Ok(()),
        other => Err(format!("{other:?}")),
    });
    drop(door);
    let over = network.one(&["app", "delete", "hello", "-y"]);
    let earned: u128 = over["earned"].as_array().unwrap().iter().map(|one| wei(&one["wei"])).sum();
    assert_eq!(earned + wei(&over["burned_wei"]) + wei(&over["watched_wei"]), wei(&over["paid_wei"]), "{over}");
}
