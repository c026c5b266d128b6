//! Start a demo cloud, and read what its processes cost.

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use std::{
    io::{BufRead as _, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
};

/// A running demo; killed when dropped.
pub(crate) struct Cloud {
    demo: Child,
    /// What `hodei demo --keep --json` printed.
    pub(crate) doors: Value,
}

impl Cloud {
    /// Starts the binary beside this one and waits for its one line.
    pub(crate) fn start() -> Result<Self> {
        let binary = std::env::current_exe()?.with_file_name("hodei");
        ensure!(binary.exists(), "build the binary first: cargo build --release");
        let mut demo = Command::new(binary)
            .args(["demo", "--keep", "--json"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()?;
        let mut line = String::new();
        BufReader::new(demo.stdout.take().context("demo has no output")?).read_line(&mut line)?;
        let doors = serde_json::from_str(&line).with_context(|| format!("demo printed {line:?}"))?;
        Ok(Self { demo, doors })
    }

    /// The demo itself: the S3 door and the client behind it.
    #[allow(dead_code, reason = "not every bench counts it alone")]
    pub(crate) fn id(&self) -> u32 {
        self.demo.id()
    }

    /// The demo and all its children.
    #[allow(dead_code, reason = "not every bench counts all of them")]
    pub(crate) fn processes(&self) -> Result<Vec<u32>> {
        let mut all = self.children("")?;
        all.push(self.demo.id());
        Ok(all)
    }

    /// Process ids of the demo's children whose command line contains `word`.
    pub(crate) fn children(&self, word: &str) -> Result<Vec<u32>> {
        children(self.demo.id(), word)
    }
}

/// Process ids of a process' children whose command line contains `word`.
pub(crate) fn children(of: u32, word: &str) -> Result<Vec<u32>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc")? {
        let Some(pid) = entry?.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else {
            continue;
        };
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let parent = stat.rsplit(')').next().and_then(|rest| rest.split_whitespace().nth(1));
        let command = std::fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default().replace('\0', " ");
        if parent == Some(&of.to_string()) && command.contains(word) {
            found.push(pid);
        }
    }
    Ok(found)
}

impl Drop for Cloud {
    fn drop(&mut self) {
        let _ = Command::new("kill").args(["-TERM", &self.demo.id().to_string()]).status();
        let _ = self.demo.wait();
    }
}

/// CPU seconds that processes have used so far, user and system. Ticks are 1/100 s on Linux.
#[allow(dead_code, reason = "not every bench counts it")]
pub(crate) fn cpu_secs(pids: &[u32]) -> f64 {
    let ticks: u64 = pids
        .iter()
        .map(|pid| {
            let path = format!("/proc/{pid}/stat");
            let stat = std::fs::read_to_string(Path::new(&path)).unwrap_or_default();
            let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or("").split_whitespace().collect();
            [11, 12].iter().filter_map(|i| fields.get(*i)?.parse::<u64>().ok()).sum::<u64>()
        })
        .sum();
    ticks as f64 / 100.0
}
