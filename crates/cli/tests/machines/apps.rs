//! Give a test hosts that compute, and the door to the apps on them.

use super::{Network, Node, User};
use serde_json::Value;
use std::{
    collections::BTreeMap,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    path::PathBuf,
    process::{Child, Stdio},
    time::Duration,
};

/// A machine that offers to compute, of an operator of its own.
pub(crate) struct Host {
    pub(crate) process: Option<Node>,
    pub(crate) account: String,
    folder: PathBuf,
    user: User,
}

impl Host {
    /// Three commands: join by a ticket, offer, run.
    pub(crate) fn start(network: &Network, zone: &str) -> Self {
        Self::start_with(network, zone, 60)
    }

    /// The same, where what is on call is kept for so many seconds that nobody asks.
    pub(crate) fn start_with(network: &Network, zone: &str, idle_secs: u64) -> Self {
        Self::offering(network, zone, idle_secs, &[])
    }

    /// One that runs containers.
    pub(crate) fn of_containers(network: &Network, zone: &str) -> Self {
        Self::offering(network, zone, 60, &["--runtime", "oci"])
    }

    fn offering(network: &Network, zone: &str, idle_secs: u64, more: &[&str]) -> Self {
        let user = User::new(&format!("host-{zone}"));
        let (ticket, _) = network.invite("20");
        user.one(&["net", "join", &ticket]);
        let words = ["node", "offer", "compute", "--cpus", "1", "--memory", "512MiB", "--zone", zone, "-y"];
        let offered = user.one(&[&["-C", network.name.as_str()], &words[..], more].concat());
        let folder = PathBuf::from(offered["folder"].as_str().unwrap());
        let settings = std::fs::read_to_string(folder.join("node.toml")).unwrap();
        assert!(settings.contains("idle_secs = 60\n"), "{settings}");
        let settings = settings.replace("idle_secs = 60\n", &format!("idle_secs = {idle_secs}\n"));
        std::fs::write(folder.join("node.toml"), settings).unwrap();
        let process = Node::start(&user, &["-C", &network.name, "node", "run"], folder.clone());
        Self { process: Some(process), account: offered["account"].as_str().unwrap().into(), folder, user }
    }

    /// Starts its agent again, which was killed.
    pub(crate) fn again(&mut self, network: &Network) {
        let words = ["-C", network.name.as_str(), "node", "run"];
        self.process = Some(Node::start(&self.user, &words, self.folder.clone()));
    }

    /// The first process of a container of its, while there is one.
    pub(crate) fn container(&self) -> Option<u64> {
        let containers = std::fs::read_dir(self.folder.join("containers/containers")).ok()?;
        let states = containers.filter_map(|folder| std::fs::read(folder.ok()?.path().join("state.json")).ok());
        states.filter_map(|state| serde_json::from_slice::<Value>(&state).ok()?["pid"].as_u64()).next()
    }

    /// Its key, as its running node tells it.
    pub(crate) fn key(&self) -> Option<String> {
        let ready: Value = serde_json::from_slice(&std::fs::read(self.folder.join("ready.json")).ok()?).ok()?;
        Some(ready["node"].as_str()?.to_owned())
    }
}

/// The door to a wallet's apps, and the upkeep behind it.
pub(crate) struct Door {
    process: Child,
    address: SocketAddr,
}

impl Door {
    pub(crate) fn open(network: &Network) -> Self {
        let words = ["-C", &network.name, "app", "serve", "--listen", "127.0.0.1:0", "--json"];
        let mut process = network.user.command(&words).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let ready: Value = serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap();
        // What it tells later must not fill the pipe.
        std::thread::spawn(move || lines.for_each(drop));
        let address = ready["endpoint"].as_str().unwrap().trim_start_matches("http://").parse().unwrap();
        Self { process, address }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Status, lease and body of an answer.
    pub(crate) fn get(&self, host: &str) -> (u16, Option<u64>, String) {
        let (status, headers, body) = self.headed(host);
        (status, headers.get("x-hodei-lease").and_then(|lease| lease.parse().ok()), body)
    }

    /// Status, headers by their names in lower case, and body of an answer.
    pub(crate) fn headed(&self, host: &str) -> (u16, BTreeMap<String, String>, String) {
        let mut socket = TcpStream::connect(self.address).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        // Of this version an answer ends with its connection, and comes in no chunks.
        write!(socket, "GET /any?thing HTTP/1.0\r\nHost: {host}\r\n\r\n").unwrap();
        let mut text = String::new();
        socket.read_to_string(&mut text).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no answer: {text:?}"));
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        let headers = head.lines().skip(1).filter_map(|line| line.split_once(": "));
        let headers = headers.map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned())).collect();
        (status, headers, body.to_owned())
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

pub(crate) fn example(name: &str) -> String {
    format!("{}/../../examples/{name}", env!("CARGO_MANIFEST_DIR"))
}

pub(crate) fn wei(value: &Value) -> u128 {
    value.as_str().unwrap_or_else(|| panic!("no amount: {value}")).parse().unwrap()
}

/// What the wallet's account gave away beside fees, as its history adds up.
pub(crate) fn spent(network: &Network) -> i128 {
    let all = network.one(&["wallet", "history", "--last", "1000"]);
    assert_eq!((all["schema"].as_str(), all["is_more"].as_bool()), (Some("hodei.wallet.history/1"), Some(false)));
    wei(&all["out_wei"]) as i128 - wei(&all["in_wei"]) as i128
}
