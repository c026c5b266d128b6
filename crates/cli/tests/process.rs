//! Break a network of real processes as machines break, and see what a person would see.
//!
//! Order and facts are asserted, never durations: waits end when what is awaited happened, and fail only
//! after a patience no healthy machine needs.

use serde_json::Value;
use std::{
    net::{TcpListener, UdpSocket},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

const PATIENCE: Duration = Duration::from_secs(120);
/// A chain that moves makes several blocks in it; long enough that standing still is no accident.
const STILL: Duration = Duration::from_secs(12);

struct Scratch(PathBuf);

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
struct User {
    scratch: Scratch,
}

impl User {
    fn new(name: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("hodei-process-{}-{name}", std::process::id()));
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir_all(&folder).unwrap();
        Self { scratch: Scratch(folder) }
    }

    fn folder(&self) -> &Path {
        &self.scratch.0
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_hodei"));
        command.args(words).env("HOME", self.folder()).stdin(Stdio::null());
        for name in ["XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_STATE_HOME", "HODEI_CONTEXT", "HODEI_JSON"] {
            command.env_remove(name);
        }
        command
    }

    /// Runs a command; its exit code, JSON result and JSON error.
    fn run(&self, words: &[&str]) -> (i32, Value, Value) {
        let output = self.command(words).arg("--json").output().unwrap();
        let parse = |bytes: &[u8]| {
            let text = String::from_utf8_lossy(bytes);
            let line = text.lines().rfind(|line| line.starts_with('{')).unwrap_or("null");
            serde_json::from_str(line).unwrap_or(Value::Null)
        };
        (output.status.code().unwrap_or(-1), parse(&output.stdout), parse(&output.stderr))
    }
}

struct Validator {
    folder: PathBuf,
    process: Option<Child>,
}

impl Validator {
    fn start(&mut self, user: &User) {
        let messages = std::fs::File::create(self.folder.join("messages.txt")).unwrap();
        let folder = self.folder.to_str().unwrap();
        let process = user
            .command(&["chain", "validator", "run", "--folder", folder, "--workers", "1", "--until-stdin-closes"])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(messages)
            .spawn()
            .unwrap();
        self.process = Some(process);
    }

    fn kill(&mut self) {
        let mut process = self.process.take().expect("it runs");
        process.kill().unwrap();
        process.wait().unwrap();
    }
}

impl Drop for Validator {
    fn drop(&mut self) {
        if self.process.is_some() {
            self.kill();
        }
    }
}

struct Network {
    // Dropped first: processes end before their folders go.
    validators: Vec<Validator>,
    user: User,
}

impl Network {
    fn start(name: &str) -> Self {
        let user = User::new(name);
        let addresses: Vec<String> = ports(4).iter().map(|port| format!("127.0.0.1:{port}")).collect();
        let mut words = vec!["net", "create", name, "-y", "--validator"];
        words.extend(addresses.iter().map(String::as_str));
        let (code, made, error) = user.run(&words);
        assert_eq!(code, 0, "{error}");
        let mut validators: Vec<Validator> = made["validators"]
            .as_array()
            .unwrap()
            .iter()
            .map(|folder| Validator { folder: folder.as_str().unwrap().into(), process: None })
            .collect();
        // A context for each member alone, to ask that one.
        let contexts = user.folder().join(".config/hodei/contexts");
        let text = std::fs::read_to_string(contexts.join(format!("{name}.toml"))).unwrap();
        let (head, members) = text.split_once("[[member]]").unwrap();
        for (index, member) in members.split("[[member]]").enumerate() {
            std::fs::write(contexts.join(format!("member-{index}.toml")), format!("{head}[[member]]{member}")).unwrap();
        }
        for validator in &mut validators {
            validator.start(&user);
        }
        Self { validators, user }
    }

    /// The height one member answers with, if it answers.
    fn height(&self, member: usize) -> Option<u64> {
        let (code, head, _) = self.user.run(&["-C", &format!("member-{member}"), "chain", "show"]);
        (code == 0).then(|| head["height"].as_u64().unwrap())
    }

    fn hash(&self, member: usize, height: u64) -> String {
        let (code, block, error) =
            self.user.run(&["-C", &format!("member-{member}"), "chain", "show", &height.to_string()]);
        assert_eq!(code, 0, "{error}");
        block["hash"].as_str().unwrap().to_owned()
    }

    /// Waits until a member has finalized more than `height`, and returns what it has.
    fn above(&self, member: usize, height: u64) -> u64 {
        let begun = Instant::now();
        loop {
            match self.height(member) {
                Some(found) if found > height => return found,
                found => {
                    let text = || std::fs::read_to_string(self.validators[member].folder.join("logs/node.log")).unwrap_or_default();
                    assert!(
                        begun.elapsed() < PATIENCE,
                        "member {member} is at {found:?}, not above {height}; its log ends\n{}",
                        text().lines().rev().take(20).collect::<Vec<_>>().join("\n")
                    );
                }
            }
            std::thread::sleep(Duration::from_millis(200));
        }
    }
}

/// Free TCP ports whose predecessor is a free UDP port.
fn ports(count: usize) -> Vec<u16> {
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

#[test]
fn one_of_four_may_die_and_two_halt_the_chain() {
    let mut network = Network::start("four");
    let first = network.above(0, 2);

    network.validators[3].kill();
    let without_one = network.above(0, first + 3);
    assert!(network.height(3).is_none(), "the dead do not answer");

    network.validators[3].start(&network.user);
    let caught_up = network.above(3, without_one);
    assert_eq!(network.hash(3, without_one), network.hash(0, without_one), "it has the same chain");

    network.validators[2].kill();
    network.validators[3].kill();
    // What was under way may still end; then nothing more does.
    std::thread::sleep(STILL / 2);
    let halted = network.height(0).expect("a halted chain still answers").max(caught_up);
    std::thread::sleep(STILL);
    assert_eq!(network.height(0), Some(halted), "two of four finalize nothing");
    assert_eq!(network.height(1).map(|height| height.min(halted)).map(|height| network.hash(1, height)), network.height(1).map(|height| network.hash(0, height.min(halted))), "no two certificates conflict");

    network.validators[2].start(&network.user);
    network.validators[3].start(&network.user);
    let again = network.above(0, halted + 3);
    network.above(2, halted);
    network.above(3, halted);
    for height in [without_one, halted, halted + 1] {
        let hashes: std::collections::BTreeSet<String> = (0..4).map(|member| network.hash(member, height)).collect();
        assert_eq!(hashes.len(), 1, "block {height} of {again} is one for all");
    }
}

#[test]
fn errors_name_what_to_do_and_leave_nothing_behind() {
    let user = User::new("errors");
    let none = user.folder().join("none");
    let none = none.to_str().unwrap();
    let ticket = format!("hodeijoin1{}", "q".repeat(60));
    // Command, exit code, code.
    let cases: &[(&[&str], i32, &str)] = &[
        (&["wallet", "balance"], 3, "HD1101"),
        (&["-C", "nobody", "wallet", "balance"], 3, "HD1102"),
        (&["-C", "../x", "status"], 2, "HD1001"),
        (&["nonsense"], 2, "HD1001"),
        (&["wallet", "send"], 2, "HD1001"),
        (&["help", "HD9999"], 2, "HD1001"),
        (&["net", "join", &ticket], 2, "HD2006"),
        (&["net", "create", "a/b", "--validator", "127.0.0.1:1"], 2, "HD1001"),
        (&["net", "create", "x", "--validator", "127.0.0.1:1", "--coins", "1,5"], 2, "HD1001"),
        (&["net", "create", "x", "--validator", "127.0.0.1:1"], 8, "HD1104"),
        (&["node", "run", "--folder", none], 1, "HD1003"),
        (&["chain", "validator", "run", "--folder", none], 1, "HD1003"),
        (&["verify", none, "--network-key", "hodeinet1x"], 2, "HD5003"),
        (&["key", "restore", none], 3, "HD1101"),
    ];
    for (words, exit, code) in cases {
        let (found, result, error) = user.run(words);
        let error = &error["error"];
        assert_eq!((found, error["code"].as_str()), (*exit, Some(*code)), "{words:?}: {error}");
        assert!(error["help"].as_str().is_some_and(|help| help.len() > 8), "{words:?} says nothing to do: {error}");
        assert_eq!(result, Value::Null, "{words:?} gave a result besides its error");
    }
    assert!(!user.folder().join(".local/share/hodei").exists(), "a failed command left data behind");
    assert!(!user.folder().join(".config/hodei").exists(), "a failed command left settings behind");
}
