//! Deploy a component on machines of others, ask it through the door, kill one of its hosts, and add up the bill.
//!
//! Order and facts are asserted, never durations: waits end when what is awaited happened, and fail only after a
//! patience no healthy machine needs.

mod machines;

use machines::{Network, Node, PATIENCE, User};
use serde_json::Value;
use std::{
    collections::BTreeSet,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    path::PathBuf,
    process::{Child, Stdio},
    time::{Duration, Instant},
};

/// A machine that offers to compute, of an operator of its own.
struct Host {
    process: Option<Node>,
    account: String,
    folder: PathBuf,
    _user: User,
}

impl Host {
    /// Three commands: join by a ticket, offer, run.
    fn start(network: &Network, zone: &str) -> Self {
        let user = User::new(&format!("host-{zone}"));
        let (ticket, _) = network.invite("20");
        user.one(&["net", "join", &ticket]);
        let words = ["node", "offer", "compute", "--cpus", "1", "--memory", "512MiB", "--zone", zone, "-y"];
        let offered = user.one(&[&["-C", network.name.as_str()], &words[..]].concat());
        let folder = PathBuf::from(offered["folder"].as_str().unwrap());
        let process = Node::start(&user, &["-C", &network.name, "node", "run"], folder.clone());
        Self { process: Some(process), account: offered["account"].as_str().unwrap().into(), folder, _user: user }
    }

    /// Its key, as its running node tells it.
    fn key(&self) -> Option<String> {
        let ready: Value = serde_json::from_slice(&std::fs::read(self.folder.join("ready.json")).ok()?).ok()?;
        Some(ready["node"].as_str()?.to_owned())
    }
}

/// The door to a wallet's apps, and the upkeep behind it.
struct Door {
    process: Child,
    address: SocketAddr,
}

impl Door {
    fn open(network: &Network) -> Self {
        let words = ["-C", &network.name, "app", "serve", "--listen", "127.0.0.1:0", "--json"];
        let mut process = network.user.command(&words).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let ready: Value = serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap();
        // What it tells later must not fill the pipe.
        std::thread::spawn(move || lines.for_each(drop));
        let address = ready["endpoint"].as_str().unwrap().trim_start_matches("http://").parse().unwrap();
        Self { process, address }
    }

    /// Status, lease and body of an answer.
    fn get(&self, host: &str) -> (u16, Option<u64>, String) {
        let mut socket = TcpStream::connect(self.address).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        // Of this version an answer ends with its connection, and comes in no chunks.
        write!(socket, "GET /any?thing HTTP/1.0\r\nHost: {host}\r\n\r\n").unwrap();
        let mut text = String::new();
        socket.read_to_string(&mut text).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no answer: {text:?}"));
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        let lease =
            head.lines().find_map(|line| line.to_ascii_lowercase().strip_prefix("x-hodei-lease: ")?.parse().ok());
        (status, lease, body.to_owned())
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn example(name: &str) -> String {
    format!("{}/../../examples/{name}", env!("CARGO_MANIFEST_DIR"))
}

fn wei(value: &Value) -> u128 {
    value.as_str().unwrap_or_else(|| panic!("no amount: {value}")).parse().unwrap()
}

/// What the wallet's account gave away beside fees, as its history adds up.
fn spent(network: &Network) -> i128 {
    let all = network.one(&["wallet", "history", "--last", "1000"]);
    assert_eq!((all["schema"].as_str(), all["is_more"].as_bool()), (Some("hodei.wallet.history/1"), Some(false)));
    wei(&all["out_wei"]) as i128 - wei(&all["in_wei"]) as i128
}

fn running(shown: &Value) -> Vec<(u64, String)> {
    let ready = |replica: &&Value| replica["state"] == "ready";
    let of = |replica: &Value| (replica["lease"].as_u64().unwrap(), replica["node"].as_str().unwrap().to_owned());
    shown["replicas"].as_array().unwrap().iter().filter(ready).map(of).collect()
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

    let deployed = network.one(&["deploy", &hello, "--replicas", "3", "--term", "2h", "-y"]);
    assert_eq!(deployed["replicas"].as_array().unwrap().len(), 3, "{deployed}");
    assert_eq!(spent(&network) - before, wei(&deployed["escrow_wei"]) as i128);
    network.user.refused(&["-C", &network.name, "deploy", &hello, "-y"], "HD1103");

    let door = Door::open(&network);
    let begun = Instant::now();
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
