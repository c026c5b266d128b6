//! Deploy a container on machines of others, ask it through the door, and lose its host and its host's agent.
//!
//! Needs root, runc and a busybox that is linked statically, as `./check` brings them.

mod machines;

use machines::{
    Network, PATIENCE,
    apps::{Door, Host, image, wei},
};
use serde_json::Value;
use std::{
    process::Command,
    time::{Duration, Instant},
};

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
fn a_container_outlives_its_hosts_agent_and_is_placed_again_when_its_host_is_gone() {
    let network = Network::start("containers");
    let archive = image(&network.user, "Hello from a container.", "one");
    // Nobody offers containers yet: nothing is paid, and what would help is named.
    let (_, _, error) = network.user.run(&["-C", &network.name, "deploy", &archive, "--name", "page", "-y"]);
    assert_eq!(error["error"]["code"], "HD3052", "{error}");
    assert!(error["error"]["help"].as_str().unwrap().contains("--runtime oci"), "{error}");

    let mut hosts: Vec<Host> = ["attic", "cellar", "garden"].map(|zone| Host::of_containers(&network, zone)).into();
    network.ask(
        &["deploy", &archive, "--replicas", "2", "--disk", "128MiB", "--name", "page", "--dry-run"],
        "three offers",
        |lines| {
            let places = lines[0]["places"].as_array()?.len();
            (places == 2 && hosts.iter().all(|host| host.key().is_some())).then_some(())
        },
    );
    let deploy = ["deploy", &archive, "--replicas", "2", "--disk", "128MiB", "--name", "page", "--term", "2h", "-y"];
    let deployed = network.one(&deploy);
    assert_eq!(deployed["replicas"].as_array().unwrap().len(), 2, "{deployed}");

    let door = Door::open(&network);
    let page = || match door.get("page.localhost") {
        (200, _, body) => Ok(body.trim_end().to_owned()),
        other => Err(format!("{other:?}")),
    };
    assert_eq!(until("an answer", page), "Hello from a container.");
    let shown = network.one(&["app", "show", "page"]);
    let first = ready(&shown);
    assert_eq!(first.len(), 2, "{shown}");
    // httpd prints whom it answers, and its host looks for that now and then.
    until("what was printed", || {
        let logs = network.user.lines(&["-C", &network.name, "app", "logs", "page"]);
        let printed = |log: &Value| log["log"].as_str().is_some_and(|log| log.contains("/any"));
        logs.iter().any(printed).then_some(()).ok_or(format!("{logs:?}"))
    });

    // An agent that is killed and started again finds its container as it was.
    let index = hosts.iter().position(|host| host.key().as_ref() == Some(&first[0])).unwrap();
    let pid = |host: &Host| host.container();
    let before = until("a container", || pid(&hosts[index]).ok_or("none".to_owned()));
    drop(hosts[index].process.take());
    hosts[index].again(&network);
    until("the same replica", || {
        let shown = network.one(&["app", "show", "page"]);
        let now = ready(&shown);
        (now.len() == 2 && now.contains(&first[0])).then_some(()).ok_or(shown.to_string())
    });
    assert_eq!(pid(&hosts[index]), Some(before), "it was not started anew");
    assert_eq!(until("an answer", page), "Hello from a container.");

    // A host that is gone for good, with what ran on it.
    drop(hosts[index].process.take());
    assert!(Command::new("kill").args(["-KILL", &before.to_string()]).status().unwrap().success());
    until("a replica elsewhere", || {
        let (status, _, body) = door.get("page.localhost");
        assert_eq!(status, 200, "a request was lost: {body}");
        let shown = network.one(&["app", "show", "page"]);
        let now = ready(&shown);
        (now.len() == 2 && !now.contains(&first[0])).then_some(()).ok_or(shown.to_string())
    });

    let over = network.one(&["app", "delete", "page", "-y"]);
    let earned: u128 = over["earned"].as_array().unwrap().iter().map(|one| wei(&one["wei"])).sum();
    assert_eq!(earned + wei(&over["burned_wei"]) + wei(&over["watched_wei"]), wei(&over["paid_wei"]));
    for host in hosts.iter().filter(|host| host.process.is_some()) {
        until("the end of a container", || pid(host).map_or(Ok(()), |pid| Err(format!("process {pid}"))));
    }
}

#[test]
fn a_container_whose_only_host_is_gone_goes_on_from_a_spare_copy_while_its_owner_is_away() {
    let network = Network::start("spares");
    let archive = image(&network.user, "Hello from elsewhere.", "one");
    let mut hosts: Vec<Host> = ["loft", "shed", "yard"].map(|zone| Host::of_containers(&network, zone)).into();
    let words = ["deploy", &archive, "--spares", "1", "--disk", "128MiB", "--name", "page", "--term", "2h"];
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
        let shown = network.one(&["app", "show", "page"]);
        let is_whole = shown["spares"][0]["state"] == "asleep";
        if is_whole { Ok(shown) } else { Err(shown.to_string()) }
    });
    assert_eq!((shown["running"].as_u64(), shown["spares"].as_array().unwrap().len()), (Some(1), 1), "{shown}");
    let first = ready(&shown).remove(0);

    // Nothing of its owner's runs. The host goes, with what ran on it.
    let index = hosts.iter().position(|host| host.key().as_ref() == Some(&first)).unwrap();
    let pid = hosts[index].container().expect("its container");
    drop(hosts[index].process.take());
    assert!(Command::new("kill").args(["-KILL", &pid.to_string()]).status().unwrap().success());
    until("a deputy", || {
        let shown = network.one(&["app", "show", "page"]);
        let now = ready(&shown);
        (!now.is_empty() && !now.contains(&first)).then_some(()).ok_or(shown.to_string())
    });
    let door = Door::open(&network);
    until("an answer", || match door.get("page.localhost") {
        (200, _, body) if body.trim_end() == "Hello from elsewhere." => Ok(()),
        other => Err(format!("{other:?}")),
    });
    drop(door);
    let over = network.one(&["app", "delete", "page", "-y"]);
    let earned: u128 = over["earned"].as_array().unwrap().iter().map(|one| wei(&one["wei"])).sum();
    assert_eq!(earned + wei(&over["burned_wei"]) + wei(&over["watched_wei"]), wei(&over["paid_wei"]), "{over}");
}
