//! Hold one node of the demo as a process of its own that ends with the demo, however that ends.

use crate::fault::{self, Fault, Result};
use hodei_node::home::{Home, Ready};
use std::{
    fs::File,
    process::Stdio,
    time::{Duration, Instant},
};
use tokio::process::{Child as Process, ChildStdin, Command};

/// Looked at so often while it starts.
const POLL: Duration = Duration::from_millis(50);
/// A node that was asked to stop gets so long.
const STOP_TIMEOUT: Duration = Duration::from_secs(10);
/// Lines of its messages shown when it dies.
const LINES_SHOWN: usize = 12;

/// A node's process. Dropping it closes the pipe that keeps the node alive.
pub(crate) struct Child {
    pub(crate) name: String,
    pub(crate) home: Home,
    words: &'static [&'static str],
    process: Option<(Process, ChildStdin)>,
}

impl Child {
    /// A node that is not started yet; `words` are the command that runs it.
    pub(crate) fn new(name: String, home: Home, words: &'static [&'static str]) -> Self {
        Self { name, home, words, process: None }
    }

    /// Starts this very binary on the node's folder.
    pub(crate) fn start(&mut self) -> Result<()> {
        let failed = |error: std::io::Error| {
            Fault::new(
                &fault::NODE,
                format!("{} could not be started: {error}", self.name),
                "check limits of processes and files",
            )
        };
        self.home.remove_ready();
        let messages = File::create(self.home.path().join("messages.txt")).map_err(failed)?;
        let binary = std::env::current_exe().map_err(failed)?;
        let mut command = Command::new(binary);
        command
            .args(self.words)
            .arg("--folder")
            .arg(self.home.path())
            .args(["--workers", "1", "--until-stdin-closes"])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(messages)
            // A Ctrl-C in the terminal is the demo's, which then stops its nodes in order.
            .process_group(0);
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.as_encoded_bytes().starts_with(b"HODEI_")) {
            command.env_remove(name);
        }
        let mut process = command.spawn().map_err(failed)?;
        let pipe = process.stdin.take().expect("piped");
        self.process = Some((process, pipe));
        Ok(())
    }

    /// Resolves when it answers, or fails with its last words.
    pub(crate) async fn ready(&mut self, patience: Duration) -> Result<Ready> {
        let begun = Instant::now();
        loop {
            if let Some((process, _)) = &mut self.process {
                match process.try_wait() {
                    Ok(None) => {}
                    Ok(Some(status)) => {
                        self.process = None;
                        return Err(self.dead(&format!("ended while starting ({status})")));
                    }
                    Err(error) => return Err(self.dead(&error.to_string())),
                }
                let pid = process.id();
                if let Some(ready) = self.home.read_ready().filter(|ready| Some(ready.process) == pid) {
                    return Ok(ready);
                }
            } else {
                return Err(self.dead("is not running"));
            }
            if begun.elapsed() > patience {
                return Err(self.dead(&format!("did not answer within {} s", patience.as_secs())));
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// Whether it was started, and neither killed nor stopped since.
    pub(crate) fn is_started(&self) -> bool {
        self.process.is_some()
    }

    /// What happened, with its last messages.
    fn dead(&self, what: &str) -> Fault {
        let path = self.home.path().join("messages.txt");
        let text = std::fs::read_to_string(&path).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        let last = lines[lines.len().saturating_sub(LINES_SHOWN)..].join("\n");
        let last = if last.is_empty() { "it said nothing".to_owned() } else { last };
        Fault::new(&fault::NODE, format!("{} {what}: {last}", self.name), "see its log").at(self
            .home
            .logs()
            .join("node.log")
            .display())
    }

    /// kill -9, as a power cut would.
    pub(crate) async fn kill(&mut self) {
        if let Some((mut process, _pipe)) = self.process.take() {
            // Already gone is what was wanted.
            let _ = process.kill().await;
        }
    }

    /// Lets it end in order, and makes it end if it does not.
    pub(crate) async fn stop(&mut self) {
        if let Some((mut process, pipe)) = self.process.take() {
            drop(pipe);
            if tokio::time::timeout(STOP_TIMEOUT, process.wait()).await.is_err() {
                let _ = process.kill().await;
            }
        }
    }
}
