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
