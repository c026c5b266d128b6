//! Start a demo that stays, and ask it as its owner.

use super::{LOOK_EVERY, Node, PATIENCE, Provider, User};
use serde_json::Value;
use std::{
    fs,
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Instant,
};

/// A demo that stays, and its owner.
pub(crate) struct Demo {
    process: Child,
    pub(crate) user: User,
    context: String,
    /// What it printed of its doors.
    pub(crate) doors: Value,
}

impl Demo {
    pub(crate) fn start(name: &str) -> Self {
        let user = User::new(name);
        let folder = user.folder().join("cloud");
        let mut process = user
            .command(&["demo", "--keep", "--json", "--size", "65536", "--folder", text(&folder)])
            .stdout(Stdio::piped())
            .stderr(fs::File::create(user.folder().join("demo.txt")).unwrap())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let doors: Value = serde_json::from_str(&line).unwrap_or_else(|_| panic!("no doors: {line:?}, see demo.txt"));
        let context = doors["context"].as_str().unwrap().to_owned();
        Self { process, user, context, doors }
    }

    pub(crate) fn words<'a>(&'a self, words: &[&'a str]) -> Vec<&'a str> {
        [&["-C", self.context.as_str()], words].concat()
    }

    /// A command that must succeed; one that says that the same may be run again is.
    pub(crate) fn lines(&self, words: &[&str]) -> Vec<Value> {
        let (words, begun) = (self.words(words), Instant::now());
        loop {
            let (code, lines, error) = self.user.run(&words);
            if code == 0 {
                return lines;
            }
            assert!(code == 5 && begun.elapsed() < PATIENCE, "{words:?}: {code} {error}");
        }
    }

    /// The last line of the same.
    pub(crate) fn one(&self, words: &[&str]) -> Value {
        self.lines(words).pop().unwrap_or(Value::Null)
    }

    /// Of one of its providers.
    pub(crate) fn folder(&self, index: usize) -> PathBuf {
        self.user.folder().join("cloud").join(format!("provider-{index}"))
    }

    /// What that one says of itself.
    pub(crate) fn ready(&self, index: usize) -> Value {
        serde_json::from_slice(&fs::read(self.folder(index).join("ready.json")).unwrap()).unwrap()
    }

    pub(crate) fn kill(&self, index: usize) {
        let process = self.ready(index)["process"].as_u64().unwrap().to_string();
        assert!(Command::new("kill").args(["-9", &process]).status().unwrap().success());
    }

    /// Another machine that offers disk.
    pub(crate) fn join(&self, zone: &str) -> Provider {
        let user = User::new(&format!("late-{zone}"));
        let invited = self.one(&["net", "invite", "--coins", "100", "-y"]);
        let ticket = invited["ticket"].as_str().unwrap();
        let words = ["net", "join", ticket, "--context-name", "late", "--provide", "1", "--zone", zone];
        let joined = user.one(&[&words[..], &["--collateral", "40"]].concat());
        let folder = PathBuf::from(joined["node"]["folder"].as_str().unwrap());
        let node = Node::start(&user, &["-C", "late", "node", "run"], folder);
        let account = joined["node"]["account"].as_str().unwrap();
        let key = self.user.until(&self.words(&["status"]), "a registered provider", |lines| {
            let providers = lines[0]["providers"].as_array()?;
            let ours = providers.iter().find(|offer| offer["operator"] == account && offer["open"] == true)?;
            Some(ours["node"].as_str()?.to_owned())
        });
        Provider { node, user, key }
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        let _ = Command::new("kill").args(["-TERM", &self.process.id().to_string()]).status();
        let _ = self.process.wait();
    }
}

pub(crate) fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

pub(crate) fn wait_for(what: &str, mut done: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !done() {
        assert!(begun.elapsed() < PATIENCE, "waited in vain for {what}");
        std::thread::sleep(LOOK_EVERY);
    }
}
