//! Put and get real files through real processes, break these, and see what a person would see.
//!
//! Order and facts are asserted, never durations: waits end when what is awaited happened, and fail only after a
//! patience no healthy machine needs.

use hodei_sdk::verify::{hash_content, verify};
use hodei_types::{network::NetworkKey, receipt::Receipt};
use serde_json::Value;
use std::{
    fs::File,
    io::{BufRead as _, BufReader, Read as _, Seek as _, SeekFrom, Write as _},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

const PATIENCE: Duration = Duration::from_secs(180);
const LARGE: u64 = 1 << 30;
const MEMORY_MAX: u64 = 256 << 20;
const MIB: u64 = 1 << 20;
/// A cloud at a time: each is ten processes.
static TURN: Mutex<()> = Mutex::new(());

/// A demo that stays, and its owner.
struct Demo {
    folder: PathBuf,
    context: String,
    network_key: String,
    process: Child,
    /// Providers this test has started again.
    revived: Vec<Option<Child>>,
}

/// What a command said.
struct Said {
    code: i32,
    result: Value,
    error: Value,
    lines: Vec<Value>,
    memory_bytes: u64,
}

fn wait_for(what: &str, mut done: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !done() {
        assert!(begun.elapsed() < PATIENCE, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

fn hodei(folder: &Path, binary: &Path) -> Command {
    let mut command = Command::new(binary);
    command.env("HOME", folder).stdin(Stdio::null());
    for name in ["XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_STATE_HOME", "HODEI_CONTEXT", "HODEI_JSON"] {
        command.env_remove(name);
    }
    command
}

/// Most memory a process has had at once, by the kernel's own count.
fn peak_bytes(process: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    Some(line.split_whitespace().nth(1)?.parse::<u64>().ok()? * 1024)
}

impl Demo {
    fn start(name: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("hodei-data-{}-{name}", std::process::id()));
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir_all(&folder).unwrap();
        let cloud = folder.join("cloud");
        let messages = File::create(folder.join("demo.txt")).unwrap();
        let mut process = hodei(&folder, Path::new(env!("CARGO_BIN_EXE_hodei")))
            .args(["demo", "--keep", "--json", "--size", "1048576", "--folder", cloud.to_str().unwrap()])
            .stdout(Stdio::piped())
            .stderr(messages)
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let doors: Value =
            serde_json::from_str(&line).unwrap_or_else(|_| panic!("no doors: {line:?}, see {}", folder.display()));
        let text = |name: &str| doors[name].as_str().unwrap().to_owned();
        let revived = (0..6).map(|_| None).collect();
        Self { folder, context: text("context"), network_key: text("network_key"), process, revived }
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = hodei(&self.folder, Path::new(env!("CARGO_BIN_EXE_hodei")));
        command.args(["-C", &self.context]).args(words);
        command
    }

    /// Runs a command to its end, and watches its memory.
    fn run(&self, words: &[&str]) -> Said {
        let (out, err) = (self.folder.join("out.txt"), self.folder.join("err.txt"));
        let mut process = self
            .command(words)
            .arg("--json")
            .stdout(File::create(&out).unwrap())
            .stderr(File::create(&err).unwrap())
            .spawn()
            .unwrap();
        let mut memory_bytes = 0;
        let code = loop {
            memory_bytes = memory_bytes.max(peak_bytes(process.id()).unwrap_or(0));
            if let Some(status) = process.try_wait().unwrap() {
                break status.code().unwrap_or(-1);
            }
            std::thread::sleep(Duration::from_millis(10));
        };
        let read = |path: &Path| -> Vec<Value> {
            let text = String::from_utf8_lossy(&std::fs::read(path).unwrap()).into_owned();
            text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
        };
        let (lines, errors) = (read(&out), read(&err));
        let last = |lines: &[Value]| lines.last().cloned().unwrap_or(Value::Null);
        Said { code, result: last(&lines), error: last(&errors), lines, memory_bytes }
    }

    /// Runs a command that must succeed.
    fn must(&self, words: &[&str]) -> Said {
        let said = self.run(words);
        assert_eq!(said.code, 0, "{words:?}: {}", said.error);
        said
    }

    fn provider(&self, index: usize) -> PathBuf {
        self.folder.join("cloud").join(format!("provider-{index}"))
    }

    /// Process and key of a provider that runs.
    fn ready(&self, index: usize) -> Option<(u32, String)> {
        let ready: Value =
            serde_json::from_slice(&std::fs::read(self.provider(index).join("ready.json")).ok()?).ok()?;
        Some((ready["process"].as_u64()? as u32, ready["node"].as_str()?.to_owned()))
    }

    fn kill(&mut self, index: usize) {
        let (process, _) = self.ready(index).expect("it runs");
        let killed = Command::new("kill").args(["-9", &process.to_string()]).status().unwrap();
        assert!(killed.success());
        if let Some(mut child) = self.revived[index].take() {
            child.wait().unwrap();
        }
        std::fs::remove_file(self.provider(index).join("ready.json")).unwrap();
    }

    fn revive(&mut self, indices: &[usize]) {
        for index in indices {
            let folder = self.provider(*index);
            let messages = File::create(folder.join("messages.txt")).unwrap();
            let child = hodei(&self.folder, Path::new(env!("CARGO_BIN_EXE_hodei")))
                .args(["node", "run", "--workers", "1", "--until-stdin-closes", "--folder", folder.to_str().unwrap()])
                .stdin(Stdio::piped())
                .stdout(Stdio::null())
                .stderr(messages)
                .spawn()
                .unwrap();
            self.revived[*index] = Some(child);
        }
        for index in indices {
            wait_for("a provider to come back", || self.ready(*index).is_some());
        }
    }

    fn file(&self, name: &str, bytes: u64) -> PathBuf {
        let path = self.folder.join(name);
        let mut random = File::open("/dev/urandom").unwrap().take(bytes);
        std::io::copy(&mut random, &mut File::create(&path).unwrap()).unwrap();
        path
    }

    /// Gets an object and compares it; gives what the command said.
    fn same(&self, object: &str, file: &Path) -> Said {
        let back = self.folder.join("back");
        let said = self.must(&["data", "cp", object, back.to_str().unwrap()]);
        assert!(hash(&back) == hash(file), "{object} came back as something else");
        std::fs::remove_file(back).unwrap();
        said
    }

    /// What providers hold of a bucket by the ledger's word: what its owner pays for.
    fn held_bytes(&self, bucket: &str) -> u64 {
        let said = self.must(&["data", "list"]);
        let found = said.lines.iter().find(|line| line["bucket"] == bucket).expect("the bucket is listed");
        found["held_bytes"].as_u64().unwrap()
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        self.revived.clear();
        let _ = Command::new("kill").args(["-TERM", &self.process.id().to_string()]).status();
        let _ = self.process.wait();
        for index in 0..6 {
            if let Some((process, _)) = self.ready(index) {
                let _ = Command::new("kill").args(["-9", &process.to_string()]).status();
            }
        }
        if std::thread::panicking() {
            eprintln!("everything is in {}", self.folder.display());
        } else {
            let _ = std::fs::remove_dir_all(&self.folder);
        }
    }
}

fn hash(path: &Path) -> [u8; 32] {
    hash_content(File::open(path).unwrap()).unwrap()
}

/// A fixed sequence of numbers, the same on each run.
fn numbers(mut state: u64) -> impl FnMut(usize) -> usize {
    move |below| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % below
    }
}

/// The receipt of a real put: a copy of the binary believes it without any network, and nothing bent.
fn check_receipt(demo: &Demo, receipt: &Path, file: &Path) {
    let copy = demo.folder.join("elsewhere");
    std::fs::copy(env!("CARGO_BIN_EXE_hodei"), &copy).unwrap();
    let home = demo.folder.join("nobody");
    std::fs::create_dir_all(&home).unwrap();
    // Without a network of its own, where this user may make such a namespace; it must need none anywhere.
    let can_unshare = Command::new("unshare").args(["-rn", "true"]).status().is_ok_and(|status| status.success());
    let run = |receipt: &Path, file: Option<&Path>, key: &str| {
        let mut command = match can_unshare {
            true => {
                let mut command = hodei(&home, Path::new("unshare"));
                command.arg("-rn").arg(&copy);
                command
            }
            false => hodei(&home, &copy),
        };
        command.arg("verify").arg(receipt).args(["--json", "--network-key", key]);
        if let Some(file) = file {
            command.arg("--file").arg(file);
        }
        let output = command.output().unwrap();
        (
            output.status.code(),
            String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr),
        )
    };
    let (code, text) = run(receipt, Some(file), &demo.network_key);
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("\"verified\":true"), "{text}");

    let key: NetworkKey = demo.network_key.parse().unwrap();
    let whole = std::fs::read(receipt).unwrap();
    let decoded = Receipt::decode(&whole).unwrap();
    verify(&whole, &key).unwrap();
    let mut number = numbers(7);
    for _ in 0..200 {
        let (at, flip) = (number(whole.len()), 1 + number(255) as u8);
        let mut bent = whole.clone();
        bent[at] ^= flip;
        assert!(verify(&bent, &key).is_err(), "byte {at} of the receipt ^ {flip}");

        let (at, flip) = (number(decoded.event.len()), 1 + number(255) as u8);
        let mut bent = decoded.clone();
        bent.event[at] ^= flip;
        assert!(verify(&bent.encode(), &key).is_err(), "byte {at} of the event ^ {flip}");

        let (at, flip) = (number(demo.network_key.len()), 1 + number(127) as u8);
        let mut bent = demo.network_key.clone().into_bytes();
        bent[at] ^= flip;
        let bent = String::from_utf8(bent).ok().and_then(|text| text.parse::<NetworkKey>().ok());
        assert!(bent.is_none_or(|key| verify(&whole, &key).is_err()), "character {at} of the key ^ {flip}");
    }
    // And by the binary, which names the step.
    let bent_file = demo.folder.join("bent.receipt");
    for at in [9, whole.len() / 3, whole.len() / 2, whole.len() - 2] {
        let mut bent = whole.clone();
        bent[at] ^= 4;
        std::fs::write(&bent_file, bent).unwrap();
        let (code, text) = run(&bent_file, None, &demo.network_key);
        assert_eq!(code, Some(6), "byte {at}: {text}");
        assert!(text.contains("step `"), "{text}");
    }
    let (code, text) = run(receipt, Some(&copy), &demo.network_key);
    assert_eq!(code, Some(6), "another file: {text}");
}

/// Bends what a provider has on its disk, behind its back.
fn corrupt(folder: &Path) {
    let mut segments = 0;
    for entry in std::fs::read_dir(folder.join("store").join("shards")).unwrap() {
        let path = entry.unwrap().path();
        let mut file = File::options().read(true).write(true).open(&path).unwrap();
        let len = file.metadata().unwrap().len();
        let mut at = 5_000;
        while at < len {
            let mut byte = [0];
            file.seek(SeekFrom::Start(at)).unwrap();
            file.read_exact(&mut byte).unwrap();
            file.seek(SeekFrom::Start(at)).unwrap();
            file.write_all(&[byte[0] ^ 0x10]).unwrap();
            at += 64 * 1024;
        }
        segments += 1;
    }
    assert!(segments > 0, "it holds nothing");
}

#[test]
fn a_gibibyte_survives_what_the_bucket_promises() {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let mut demo = Demo::start("large");
    demo.must(&["data", "create", "large", "--capacity", "2", "-y"]);
    let (file, receipt) = (demo.file("large.bin", LARGE), demo.folder.join("large.receipt"));
    let (path, object) = (file.to_str().unwrap().to_owned(), "hodei://large/file");
    let put = demo.must(&["data", "cp", &path, object, "--wait", "full", "--receipt", receipt.to_str().unwrap()]);
    eprintln!("put of 1 GiB: {} MiB of memory at most", put.memory_bytes / MIB);
    assert!(put.memory_bytes > 0 && put.memory_bytes < MEMORY_MAX, "{} bytes", put.memory_bytes);
    assert_eq!(put.result["acks"], 6);
    assert_eq!(put.result["faults"], serde_json::json!([]));
    let got = demo.same(object, &file);
    eprintln!("get of 1 GiB: {} MiB of memory at most", got.memory_bytes / MIB);
    assert!(got.memory_bytes < MEMORY_MAX, "{} bytes", got.memory_bytes);
    check_receipt(&demo, &receipt, &file);

    // All n were waited for: any n - k providers may go.
    for dead in [[0, 1, 2], [3, 4, 5]] {
        dead.iter().for_each(|index| demo.kill(*index));
        demo.same(object, &file);
        demo.revive(&dead);
    }
    let small = demo.file("small.bin", 3 * MIB);
    let small_path = small.to_str().unwrap().to_owned();
    demo.must(&["data", "cp", &small_path, "hodei://large/small", "--wait", "full"]);
    for bits in (0..64u32).filter(|bits| bits.count_ones() == 3) {
        let dead: Vec<usize> = (0..6).filter(|index| bits >> index & 1 == 1).collect();
        dead.iter().for_each(|index| demo.kill(*index));
        demo.same("hodei://large/small", &small);
        demo.revive(&dead);
    }
    // Not waiting for all: any t operators may go right after the answer. Each provider here is an operator.
    for index in 0..6 {
        let object = format!("hodei://large/quorum-{index}");
        demo.must(&["data", "cp", &small_path, &object]);
        demo.kill(index);
        demo.same(&object, &small);
        demo.revive(&[index]);
    }

    // One provider's disk turns bad: it is caught, named, recorded, and not paid for what it cannot prove.
    let bad = 2;
    let node = demo.ready(bad).unwrap().1;
    let standing = |demo: &Demo| -> Vec<Value> { demo.must(&["data", "where", object]).lines };
    let of = |lines: &[Value], name: &str| -> (u64, bool, u128) {
        let line = lines.iter().find(|line| line["node"] == name).unwrap();
        let wei = |name: &str| -> u128 { line[name].as_str().unwrap().parse().unwrap() };
        let earned = wei("paid_wei") + wei("owed_wei");
        (line["last_proven_window"].as_u64().unwrap(), line["suspended"].as_bool().unwrap(), earned)
    };
    corrupt(&demo.provider(bad));
    let then = of(&standing(&demo), &node).0;
    let got = demo.same(object, &file);
    let faults = got.result["faults"].as_array().unwrap();
    assert_eq!(faults.len(), 1, "one is to blame: {faults:?}");
    assert_eq!(faults[0]["node"], node);
    assert!(faults[0]["what"].as_str().unwrap().contains("expected shard"), "{}", faults[0]);
    assert!(faults[0]["event"].is_u64(), "it is recorded: {}", faults[0]);
    let others = |lines: &[Value]| -> Vec<(u64, u128)> {
        let names = lines.iter().map(|line| line["node"].as_str().unwrap()).filter(|name| *name != node);
        names.map(|name| of(lines, name)).map(|(window, _, earned)| (window, earned)).collect()
    };
    let until = |demo: &Demo, window: u64| -> Vec<Value> {
        let mut seen = Vec::new();
        wait_for("others to prove", || {
            seen = standing(demo);
            others(&seen).iter().all(|(proven, _)| *proven >= window)
        });
        seen
    };
    // A window that was proven before its disk turned bad is its due.
    let first = until(&demo, then + 3);
    let second = until(&demo, then + 5);
    let ((proven, suspended, earned), (_, _, before)) = (of(&second, &node), of(&first, &node));
    assert!(proven <= then + 1 && suspended, "it proved window {proven} after {then}");
    assert_eq!(earned, before, "paid for windows it could not prove");
    for ((_, before), (_, now)) in others(&first).iter().zip(others(&second)) {
        assert!(now > *before, "honest ones are paid on");
    }
}

#[test]
fn a_killed_client_loses_nothing_acknowledged_and_leaves_nothing_half_done() {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let demo = Demo::start("killed");
    demo.must(&["data", "create", "killed", "--capacity", "2", "-y"]);
    let (kept, file) = (demo.file("kept.bin", 5 * MIB), demo.file("file.bin", 400 * MIB));
    let (kept_path, path) = (kept.to_str().unwrap().to_owned(), file.to_str().unwrap().to_owned());
    demo.must(&["data", "cp", &kept_path, "hodei://killed/kept"]);

    // Killed in the middle of a file: two parts are whole by then.
    let intents = demo.folder.join("cloud/wallet/identity-1/store/intents");
    let journal_bytes = || {
        let files = std::fs::read_dir(&intents).into_iter().flatten().flatten();
        files.filter_map(|file| file.metadata().ok()).map(|data| data.len()).max().unwrap_or(0)
    };
    let kill_at = |mut client: Child, bytes: u64| {
        wait_for("some parts", || journal_bytes() > bytes || client.try_wait().unwrap().is_some());
        assert!(client.try_wait().unwrap().is_none(), "it was too fast to be killed");
        client.kill().unwrap();
        client.wait().unwrap();
    };
    let quiet = |command: &mut Command| command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let mut command = demo.command(&["data", "cp", &path, "hodei://killed/file"]);
    kill_at(quiet(&mut command), 40_000);
    let listed = demo.must(&["data", "list", "hodei://killed"]);
    let keys: Vec<&str> = listed.lines.iter().filter_map(|line| line["key"].as_str()).collect();
    assert_eq!(keys, ["kept"], "what was not acknowledged is not there");
    demo.same("hodei://killed/kept", &kept);

    // The same again goes on behind the last whole part.
    let again = demo.must(&["data", "cp", &path, "hodei://killed/file"]);
    let resumed = again.result["resumed_bytes"].as_u64().unwrap();
    eprintln!("went on behind {} MiB of {}", resumed / MIB, 400);
    assert!(resumed > 0 && resumed < 400 * MIB, "{resumed}");
    demo.same("hodei://killed/file", &file);
    let held = demo.held_bytes("killed");

    // A copy out of the cloud that is killed leaves its half; the next one to the same file takes that away.
    let out = demo.folder.join("out.bin");
    let get = ["data", "cp", "hodei://killed/file", out.to_str().unwrap()];
    let halves = || {
        let names = std::fs::read_dir(&demo.folder).unwrap().map(|entry| entry.unwrap());
        names.filter(|entry| entry.file_name().to_string_lossy().starts_with(".hodei-part-")).collect::<Vec<_>>()
    };
    let is_begun = || halves().iter().any(|half| half.metadata().is_ok_and(|half| half.len() > 0));
    let mut client = quiet(&mut demo.command(&get));
    wait_for("a copy to begin", is_begun);
    client.kill().unwrap();
    client.wait().unwrap();
    assert_eq!(halves().len(), 1);
    demo.must(&get);
    assert!(halves().is_empty() && hash(&out) == hash(&file), "the half is gone, the file whole");
    // Ctrl-C is told as every failure is.
    let told = demo.folder.join("told.txt");
    let mut command = demo.command(&get);
    let mut client = command.arg("--json").stdout(Stdio::null()).stderr(File::create(&told).unwrap()).spawn().unwrap();
    wait_for("a copy to begin", is_begun);
    assert!(Command::new("kill").args(["-INT", &client.id().to_string()]).status().unwrap().success());
    assert_eq!(client.wait().unwrap().code(), Some(130));
    let told = std::fs::read_to_string(&told).unwrap();
    let error: Value = serde_json::from_str(told.lines().last().unwrap()).unwrap();
    assert_eq!(
        (error["error"]["code"].as_str(), error["error"]["kind"].as_str()),
        (Some("HD1300"), Some("interrupted"))
    );

    // Another file under the name of an interrupted one: nothing of the old is taken for it.
    let mut command = demo.command(&["data", "cp", &path, "hodei://killed/other"]);
    kill_at(quiet(&mut command), 40_000);
    let other = demo.file("other.bin", 60 * MIB);
    let said = demo.must(&["data", "cp", other.to_str().unwrap(), "hodei://killed/other"]);
    assert_eq!(said.result["resumed_bytes"], 0);
    demo.same("hodei://killed/other", &other);
    demo.must(&["data", "rm", "-y", "hodei://killed/other"]);

    // A pipe cannot be read again: what it left is released by whatever command comes next.
    let mut command = demo.command(&["data", "cp", "-", "hodei://killed/pipe"]);
    let mut client = quiet(command.stdin(Stdio::piped()));
    let mut pipe = client.stdin.take().unwrap();
    let mut source = File::open(&file).unwrap();
    let feeder = std::thread::spawn(move || {
        // It breaks when its reader is killed.
        let _ = std::io::copy(&mut source, &mut pipe);
    });
    kill_at(client, 40_000);
    feeder.join().unwrap();
    demo.must(&["data", "list"]);
    wait_for("what nothing names to be released", || demo.held_bytes("killed") <= held + MIB);
    demo.same("hodei://killed/file", &file);

    // Pipes, in constant memory.
    let mut put = demo
        .command(&["data", "cp", "-", "hodei://killed/pipe"])
        .stdin(File::open(&file).unwrap())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut memory = 0;
    wait_for("the pipe", || {
        memory = memory.max(peak_bytes(put.id()).unwrap_or(0));
        put.try_wait().unwrap().is_some()
    });
    assert!(put.wait().unwrap().success());
    assert!(memory > 0 && memory < MEMORY_MAX, "{memory} bytes");
    let mut get = demo
        .command(&["data", "cp", "hodei://killed/pipe", "-"])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    assert!(hash_content(get.stdout.take().unwrap()).unwrap() == hash(&file));
    assert!(get.wait().unwrap().success());

    // Replaced and removed: its room comes back. What is left is the index.
    demo.must(&["data", "cp", &kept_path, "hodei://killed/file"]);
    demo.must(&["data", "rm", "-y", "hodei://killed/pipe"]);
    let said = demo.run(&["data", "rm", "-y", "hodei://killed"]);
    assert_ne!(said.code, 0, "it is not empty");
    demo.must(&["data", "rm", "-y", "hodei://killed/kept"]);
    demo.must(&["data", "rm", "-y", "hodei://killed/file"]);
    wait_for("the room to come back", || demo.held_bytes("killed") < MIB);

    // The bucket goes, its deals end, and what is left of their escrow comes back.
    let balance = |demo: &Demo| -> u128 {
        demo.must(&["wallet", "balance"]).result["balance_wei"].as_str().unwrap().parse().unwrap()
    };
    let before = balance(&demo);
    let refund: u128 =
        demo.must(&["data", "rm", "-y", "hodei://killed"]).result["refund_wei"].as_str().unwrap().parse().unwrap();
    assert!(refund > 0);
    wait_for("the refund", || balance(&demo) > before + refund / 2);
    let listed = demo.must(&["data", "list"]);
    assert!(listed.lines.iter().all(|line| line["bucket"] != "killed"));
}
