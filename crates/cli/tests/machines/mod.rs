//! Give a test users with folders of their own, and a network of real processes.
//!
//! Order and facts are asserted, never durations: waits end when what is awaited happened, and fail only
//! after a patience no healthy machine needs.

#![allow(dead_code, reason = "each test binary uses a part of it")]

pub(crate) mod apps;
pub(crate) mod demo;

use serde_json::Value;
use std::{
    net::{TcpListener, UdpSocket},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, Instant},
};

pub(crate) const PATIENCE: Duration = Duration::from_secs(240);
const LOOK_EVERY: Duration = Duration::from_millis(300);

pub(crate) struct Scratch(PathBuf);

impl Drop for Scratch {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("everything is in {}", self.0.display());
        } else {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }
}

/// A user with folders of their own.
pub(crate) struct User {
    scratch: Scratch,
}

impl User {
    pub(crate) fn new(name: &str) -> Self {
        // Tests of one program run together, and may call their users the same.
        static USERS: AtomicU32 = AtomicU32::new(0);
        let (process, user) = (std::process::id(), USERS.fetch_add(1, Ordering::Relaxed));
        let folder = std::env::temp_dir().join(format!("hodei-machines-{process}-{user}-{name}"));
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir_all(&folder).unwrap();
        Self { scratch: Scratch(folder) }
    }

    pub(crate) fn folder(&self) -> &Path {
        &self.scratch.0
    }

    pub(crate) fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_hodei"));
        command.args(words).env("HOME", self.folder()).stdin(Stdio::null());
        for name in ["XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_STATE_HOME", "HODEI_CONTEXT", "HODEI_JSON", "HODEI_NODE"]
        {
            command.env_remove(name);
        }
        command
    }

    /// Runs a command; its exit code, the JSON lines of its result, and its JSON error.
    pub(crate) fn run(&self, words: &[&str]) -> (i32, Vec<Value>, Value) {
        let output = self.command(words).arg("--json").output().unwrap();
        let parse = |bytes: &[u8]| -> Vec<Value> {
            let text = String::from_utf8_lossy(bytes).into_owned();
            text.lines()
                .filter(|line| line.starts_with('{'))
                .filter_map(|line| serde_json::from_str(line).ok())
                .collect()
        };
        let error = parse(&output.stderr).pop().unwrap_or(Value::Null);
        (output.status.code().unwrap_or(-1), parse(&output.stdout), error)
    }

    /// A command that must succeed: the lines of its result.
    pub(crate) fn lines(&self, words: &[&str]) -> Vec<Value> {
        let (code, lines, error) = self.run(words);
        assert_eq!(code, 0, "{words:?}: {error}");
        lines
    }

    /// The same, with one line.
    pub(crate) fn one(&self, words: &[&str]) -> Value {
        self.lines(words).pop().unwrap_or(Value::Null)
    }

    /// A command that must fail with this code.
    pub(crate) fn refused(&self, words: &[&str], code: &str) {
        let (exit, _, error) = self.run(words);
        assert_eq!((exit != 0, error["error"]["code"].as_str()), (true, Some(code)), "{words:?}: {error}");
    }

    /// Asks again until `good` finds what it wants in the result; a command that fails is asked again too.
    pub(crate) fn until<T>(&self, words: &[&str], what: &str, mut good: impl FnMut(&[Value]) -> Option<T>) -> T {
        let begun = Instant::now();
        loop {
            let (code, lines, error) = self.run(words);
            if code == 0
                && let Some(found) = good(&lines)
            {
                return found;
            }
            assert!(begun.elapsed() < PATIENCE, "{what} did not come; {words:?} says {lines:?} {error}");
            std::thread::sleep(LOOK_EVERY);
        }
    }
}

/// A node's process, killed without warning when dropped.
pub(crate) struct Node {
    pub(crate) folder: PathBuf,
    process: Child,
}

impl Node {
    /// Starts `words` on the node of a folder.
    pub(crate) fn start(user: &User, words: &[&str], folder: PathBuf) -> Self {
        let messages = std::fs::File::create(folder.join("messages.txt")).unwrap();
        let process = user
            .command(words)
            .arg("--folder")
            .arg(&folder)
            .args(["--workers", "1", "--until-stdin-closes"])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(messages)
            .spawn()
            .unwrap();
        Self { folder, process }
    }

    /// Tells it to stop, and waits for nothing.
    pub(crate) fn terminate(&self) {
        let process = self.process.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &process]).status().unwrap().success());
    }

    pub(crate) fn id(&self) -> u32 {
        self.process.id()
    }

    pub(crate) fn is_running(&mut self) -> bool {
        self.process.try_wait().unwrap().is_none()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Four validators that agree, and the user who made them.
pub(crate) struct Network {
    // Dropped first: processes end before their folders go.
    validators: Vec<Option<Node>>,
    folders: Vec<PathBuf>,
    pub(crate) user: User,
    pub(crate) name: String,
}

impl Network {
    /// With windows of ten seconds, so that a ladder is climbed while one watches.
    pub(crate) fn start(name: &str) -> Self {
        Self::start_with(name, &["--window", "10"])
    }

    /// With these options of `net create`.
    pub(crate) fn start_with(name: &str, options: &[&str]) -> Self {
        let user = User::new(name);
        let folders = create(&user, name, options);
        let mut network = Self { validators: (0..4).map(|_| None).collect(), folders, user, name: name.into() };
        (0..4).for_each(|index| network.start_validator(index));
        network.ask(&["chain", "show"], "a first block", |lines| (lines[0]["height"].as_u64()? > 0).then_some(()));
        network
    }

    pub(crate) fn start_validator(&mut self, index: usize) {
        let folder = self.folders[index].clone();
        self.validators[index] = Some(Node::start(&self.user, &["chain", "validator", "run"], folder));
    }

    /// kill -9, as a power cut would.
    pub(crate) fn kill_validator(&mut self, index: usize) {
        drop(self.validators[index].take().expect("it runs"));
    }

    pub(crate) fn folder_of(&self, index: usize) -> &Path {
        &self.folders[index]
    }

    /// The last lines of a validator's log.
    pub(crate) fn log_of(&self, index: usize) -> String {
        let text = std::fs::read_to_string(self.folders[index].join("logs/node.log")).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(20)..].join("\n")
    }

    fn words<'a>(&'a self, words: &[&'a str]) -> Vec<&'a str> {
        [&["-C", self.name.as_str()], words].concat()
    }

    pub(crate) fn one(&self, words: &[&str]) -> Value {
        self.user.one(&self.words(words))
    }

    pub(crate) fn ask<T>(&self, words: &[&str], what: &str, good: impl FnMut(&[Value]) -> Option<T>) -> T {
        self.user.until(&self.words(words), what, good)
    }

    /// A ticket with so many coins in it, and the account that holds them.
    pub(crate) fn invite(&self, coins: &str) -> (String, String) {
        let invited = self.one(&["net", "invite", "--coins", coins, "-y"]);
        (invited["ticket"].as_str().unwrap().into(), invited["account"].as_str().unwrap().into())
    }
}

/// Makes a network of four that does not run yet: the validators' folders.
pub(crate) fn create(user: &User, name: &str, options: &[&str]) -> Vec<PathBuf> {
    let addresses: Vec<String> = ports(4).iter().map(|port| format!("127.0.0.1:{port}")).collect();
    let mut words = [&["net", "create", name, "-y"], options, &["--validator"]].concat();
    words.extend(addresses.iter().map(String::as_str));
    let made = user.one(&words);
    made["validators"].as_array().unwrap().iter().map(|folder| folder.as_str().unwrap().into()).collect()
}

/// A machine that joined by a ticket and offers disk.
pub(crate) struct Provider {
    pub(crate) node: Node,
    pub(crate) user: User,
    /// Its key, as the ledger lists it.
    pub(crate) key: String,
}

impl Provider {
    /// Two commands: join by the ticket, run the node.
    pub(crate) fn join(network: &Network, zone: &str) -> Self {
        Self::join_with(network, zone, &[])
    }

    /// The same, with further options of `net join`.
    pub(crate) fn join_with(network: &Network, zone: &str, options: &[&str]) -> Self {
        let user = User::new(&format!("{}-{zone}", network.name));
        let (ticket, _) = network.invite("100");
        let words = ["net", "join", &ticket, "--provide", "4", "--zone", zone, "--collateral", "40"];
        let joined = user.one(&[&words, options].concat());
        let folder = PathBuf::from(joined["node"]["folder"].as_str().unwrap());
        let node = Node::start(&user, &["-C", &network.name, "node", "run"], folder);
        let account = joined["node"]["account"].as_str().unwrap();
        let key = network.ask(&["status"], "a registered provider", |lines| {
            let providers = lines[0]["providers"].as_array()?;
            let ours = providers.iter().find(|offer| offer["operator"] == account && offer["open"] == true)?;
            assert_eq!(ours["zone"], zone);
            assert_eq!(ours["collateral_wei"], "40000000000000000000");
            Some(ours["node"].as_str()?.to_owned())
        });
        Self { node, user, key }
    }
}

/// Free TCP ports whose predecessor is a free UDP port.
pub(crate) fn ports(count: usize) -> Vec<u16> {
    let mut held = Vec::new();
    while held.len() < count {
        let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = tcp.local_addr().unwrap().port();
        if let Ok(udp) = UdpSocket::bind(("127.0.0.1", port - 1)) {
            held.push((port, tcp, udp));
        }
    }
    held.into_iter().map(|(port, ..)| port).collect()
}

/// Bytes nobody can compress, the same each time.
pub(crate) fn content(seed: u64, bytes: usize) -> Vec<u8> {
    let mut state = seed | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    (0..bytes).map(|_| next()).collect()
}
