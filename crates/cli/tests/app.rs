//! Deploy a component on machines of others, ask it through the door, kill one of its hosts, and add up the bill.
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
    collections::BTreeSet,
    time::{Duration, Instant},
};

fn running(shown: &Value) -> Vec<(u64, String)> {
    let ready = |replica: &&Value| replica["state"] == "ready";
    let of = |replica: &Value| (replica["lease"].as_u64().unwrap(), replica["node"].as_str().unwrap().to_owned());
    shown["replicas"].as_array().unwrap().iter().filter(ready).map(of).collect()
}

/// Holds room on a host, runs an app in it, lends what is free, and gives it back.
fn hold(network: &Network, component: &str) {
    let reserve = ["market", "reserve", "--region", "local", "--cpu", "0.4", "--memory", "400MiB", "--for", "2h"];
    let plan = network.one(&[&reserve[..], &["--dry-run"]].concat());
    assert_eq!(plan["places"].as_array().unwrap().len(), 1, "{plan}");
    assert_eq!(wei(&plan["month_wei"]), wei(&plan["hour_wei"]) * 720);
    let held = network.one(&[&reserve[..], &["-y"]].concat());
    let id = held["reservation"].as_u64().unwrap().to_string();
    network.user.refused(&["-C", &network.name, "market", "release", "999", "-y"], "HD3060");
    let deploy = ["deploy", component, "--name", "pooled", "--within", &id, "--term"];
    let words = [&["-C", network.name.as_str()], &deploy[..], &["3h", "-y"]].concat();
    network.user.refused(&words, "HD3061");
    let deployed = network.one(&[&deploy[..], &["1h", "-y"]].concat());
    assert_eq!((deployed["replicas"].as_array().unwrap().len(), wei(&deployed["hour_wei"])), (1, 3600), "{deployed}");
    let shown = network.one(&["market", "reserved"]);
    assert_eq!((&shown["leases"], &shown["free"]["cpu_milli"]), (&1.into(), &300.into()), "{shown}");
    network.user.refused(&["-C", &network.name, "market", "release", &id, "-y"], "HD3062");

    let offers = || {
        let lines = network.user.lines(&["-C", &network.name, "market", "book", "--class", "compute"]);
        let cpu = lines.iter().find(|line| line["ware"] == "cpu" && line["region"].is_null());
        cpu.and_then(|line| line["offers"].as_u64()).unwrap_or_else(|| panic!("no offers: {lines:?}"))
    };
    let before = offers();
    let lent = network.one(&["market", "lend", &id, "--part", "80%", "-y"]);
    let (asks, costs) = (&lent["lent"][0]["asks_hour_wei"], &lent["lent"][0]["costs_hour_wei"]);
    assert!(wei(asks) >= wei(costs) / 100 * 79 && wei(asks) <= wei(costs), "{lent}");
    assert_eq!(offers(), before + 1);
    assert_eq!(network.one(&["market", "recall", &id, "-y"])["recalled"], 1);
    assert_eq!(offers(), before);
    network.one(&["app", "delete", "pooled", "-y"]);
    let over = network.one(&["market", "release", &id, "-y"]);
    assert!(wei(&over["refunded_wei"]) > 0, "{over}");
    assert!(network.user.lines(&["-C", &network.name, "market", "reserved"]).is_empty());
}

#[test]
fn an_app_outlives_one_of_its_hosts_and_every_wei_of_it_is_accounted_for() {
    let network = Network::start("apps");
    let hello = example("hello.wat");
    // Nobody offers yet: nothing is paid, and what would help is named.
    let words = ["-C", network.name.as_str(), "deploy", &hello, "--replicas", "3"];
    let (_, _, error) = network.user.run(&[&words[..], &["-y"]].concat());
    assert_eq!(error["error"]["code"], "HD3052", "{error}");
    assert!(error["error"]["help"].as_str().unwrap().contains("hodei node offer compute --region local"), "{error}");

    let mut hosts: Vec<Host> = ["attic", "cellar", "garden", "kitchen"].map(|zone| Host::start(&network, zone)).into();
    let before = spent(&network);
    let plan = network.ask(&["deploy", &hello, "--replicas", "3", "--dry-run"], "four offers", |lines| {
        let places = lines[0]["places"].as_array()?.len();
        (places == 3 && hosts.iter().all(|host| host.key().is_some())).then(|| lines[0].clone())
    });
    // None of them promises a level: that is what is told, and how to promise one.
    let words = ["-C", network.name.as_str(), "deploy", &hello, "--availability", "99.9", "--dry-run"];
    let (_, _, error) = network.user.run(&words);
    assert_eq!(error["error"]["code"], "HD3052", "{error}");
    assert!(error["error"]["help"].as_str().unwrap().contains("--availability 99.9% --bond "), "{error}");
    let nodes: BTreeSet<_> = plan["places"].as_array().unwrap().iter().map(|place| place["node"].to_string()).collect();
    assert_eq!(nodes.len(), 3, "one on each host: {plan}");
    let on_host = plan["stands"].as_array().unwrap().iter().find(|one| one["of"] == "host").unwrap();
    assert_eq!(on_host["replicas"], 1);
    assert_eq!(spent(&network), before, "a plan costs nothing");
    hold(&network, &hello);
    let held = network.one(&["wallet", "statement"]);
    let before = spent(&network);

    let deployed = network.one(&["deploy", &hello, "--replicas", "3", "--term", "2h", "-y"]);
    assert_eq!(deployed["replicas"].as_array().unwrap().len(), 3, "{deployed}");
    assert_eq!(spent(&network) - before, wei(&deployed["escrow_wei"]) as i128);
    network.user.refused(&["-C", &network.name, "deploy", &hello, "-y"], "HD1103");

    let door = Door::open(&network);
    let begun = Instant::now();
    assert_ne!(door.get("hello.localhost").0, 404, "it is known, ready or not");
    while door.get("hello.localhost").0 != 200 {
        assert!(begun.elapsed() < PATIENCE, "no answer: {:?}", door.get("hello.localhost"));
        std::thread::sleep(Duration::from_millis(300));
    }
    let (_, lease, body) = door.get("hello.localhost:8080");
    assert_eq!(body.trim_end(), "Hello from somebody else's machine.");
    assert_eq!(door.get("other.localhost").0, 404);
    assert_eq!(door.get("hello.example").0, 403);
    let shown = network.one(&["app", "show", "hello"]);
    assert_eq!(running(&shown).len(), 3, "{shown}");
    let asked: u64 = shown["replicas"].as_array().unwrap().iter().filter_map(|one| one["requests"].as_u64()).sum();
    assert!(asked >= 2, "{shown}");
    let logs = network.user.lines(&["-C", &network.name, "app", "logs", "hello"]);
    assert!(logs.iter().all(|log| log["log"].as_str().is_some_and(|log| log.contains("started"))), "{logs:?}");

    // The host that answered dies at once.
    let leases = running(&shown);
    let (_, victim) = leases.iter().find(|(id, _)| Some(*id) == lease).cloned().unwrap();
    let index = hosts.iter().position(|host| host.key().as_ref() == Some(&victim)).unwrap();
    drop(hosts[index].process.take());
    let begun = Instant::now();
    let replaced = loop {
        let (status, _, body) = door.get("hello.localhost");
        assert_eq!(status, 200, "a request was lost: {body}");
        let shown = network.one(&["app", "show", "hello"]);
        let now = running(&shown);
        if now.len() == 3 && now.iter().all(|(_, node)| *node != victim) && shown["running"] == 3 {
            break shown;
        }
        assert!(begun.elapsed() < PATIENCE, "not placed again: {shown}");
    };
    let nodes: BTreeSet<_> = running(&replaced).into_iter().map(|(_, node)| node).collect();
    assert_eq!(nodes.len(), 3, "on different hosts still");
    assert_eq!(replaced["orders"].as_array().unwrap().len(), 2, "{replaced}");

    // Fewer, for longer, and over.
    let fewer = network.one(&["app", "scale", "hello", "2", "-y"]);
    assert_eq!(fewer["ended"], 1, "{fewer}");
    let renewed = network.one(&["app", "renew", "hello", "1h", "-y"]);
    assert_eq!(renewed["replicas"], 2, "{renewed}");
    let listed = network.user.lines(&["-C", &network.name, "app", "list"]);
    assert_eq!(
        (listed.len(), &listed[0]["name"], &listed[0]["running"]),
        (1, &"hello".into(), &2.into()),
        "{listed:?}"
    );
    let over = network.one(&["app", "delete", "hello", "-y"]);
    assert_eq!(over["leases"], 2, "{over}");
    assert!(wei(&over["refunded_wei"]) > 0);
    let earned: u128 = over["earned"].as_array().unwrap().iter().map(|one| wei(&one["wei"])).sum();
    let paid = earned + wei(&over["burned_wei"]) + wei(&over["watched_wei"]);
    assert_eq!(paid, wei(&over["paid_wei"]));
    assert_eq!(spent(&network) - before, paid as i128, "what left the wallet is what hosts got, and what was burned");
    // The account's statement says the same, of all that it paid.
    let told = network.one(&["wallet", "statement"]);
    let sums = |told: &Value| (wei(&told["paid_wei"]) + wei(&told["burned_wei"]), wei(&told["earned_wei"]));
    assert_eq!((sums(&told).0 - sums(&held).0, sums(&told).1), (paid, sums(&held).1), "{told}");
    let accounts: BTreeSet<_> = hosts.iter().map(|host| host.account.to_lowercase()).collect();
    for one in over["earned"].as_array().unwrap() {
        assert!(accounts.contains(&one["operator"].as_str().unwrap().to_lowercase()), "{one}");
    }
    let begun = Instant::now();
    while door.get("hello.localhost").0 != 404 {
        assert!(begun.elapsed() < PATIENCE, "still answered");
        std::thread::sleep(Duration::from_millis(300));
    }
    network.user.refused(&["-C", &network.name, "app", "show", "hello"], "HD3050");
}
