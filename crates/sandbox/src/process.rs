//! Start a runner: this binary again, with nothing but one socket.

use crate::frame::Wire;
use std::{
    ffi::OsString,
    os::{fd::OwnedFd, unix::net::UnixStream},
    path::PathBuf,
    process::{ExitStatus, Stdio},
    time::Duration,
};
use tokio::{
    io::AsyncReadExt,
    process::{Child, ChildStderr, Command},
    task::JoinHandle,
};

/// Kept of what a runner says before it dies.
const LAST_WORDS: usize = 2048;
/// A dying process gets so long until it is reaped, and its words read.
const REAP_TIMEOUT: Duration = Duration::from_secs(5);

/// The program that calls [`crate::runner::run`] when it is started with these arguments: an agent names itself.
#[derive(Clone, Debug)]
pub struct Program {
    path: PathBuf,
    arguments: Vec<OsString>,
}

impl Program {
    pub fn new(path: impl Into<PathBuf>, arguments: impl IntoIterator<Item = impl Into<OsString>>) -> Self {
        Self { path: path.into(), arguments: arguments.into_iter().map(Into::into).collect() }
    }

    /// Starts it in the root folder, without environment; it dies with what is returned.
    pub(crate) fn start(&self) -> std::io::Result<Process> {
        let (ours, theirs) = UnixStream::pair()?;
        let mut child = Command::new(&self.path)
            .args(&self.arguments)
            .env_clear()
            .current_dir("/")
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true)
            .spawn()?;
        let words = child.stderr.take().map(|stderr| tokio::spawn(last_words(stderr)));
        Ok(Process { wire: Wire::new(ours)?, child, words })
    }
}

/// A runner that was started.
pub(crate) struct Process {
    pub(crate) wire: Wire,
    child: Child,
    words: Option<JoinHandle<String>>,
}

/// How a runner ended, and what it said last.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) status: Option<ExitStatus>,
    pub(crate) words: String,
}

impl Process {
    /// Kills it if it still runs, and says how it ended.
    pub(crate) async fn kill(&mut self) -> Ended {
        // It may have ended a moment ago: what counts is the status.
        self.child.start_kill().ok();
        self.ended().await
    }

    /// Waits until it ended by itself, and no longer than such a thing takes.
    pub(crate) async fn ended(&mut self) -> Ended {
        let status = match tokio::time::timeout(REAP_TIMEOUT, self.child.wait()).await {
            Ok(status) => status.ok(),
            Err(_) => {
                self.child.start_kill().ok();
                tokio::time::timeout(REAP_TIMEOUT, self.child.wait()).await.ok().and_then(Result::ok)
            }
        };
        let words = match self.words.take() {
            Some(words) => tokio::time::timeout(REAP_TIMEOUT, words).await.ok().and_then(Result::ok),
            None => None,
        };
        Ended { status, words: words.unwrap_or_default() }
    }

    /// Whether it runs still, as far as the kernel told.
    pub(crate) fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// The number under which the kernel knows it, while it runs.
    pub(crate) fn id(&self) -> Option<u32> {
        self.child.id()
    }
}

/// Reads until the end, so that it never waits for a reader, and keeps the last of it.
async fn last_words(mut stderr: ChildStderr) -> String {
    let mut kept = Vec::new();
    let mut buffer = [0; LAST_WORDS];
    while let Ok(read @ 1..) = stderr.read(&mut buffer).await {
        kept.extend_from_slice(&buffer[..read]);
        kept.drain(..kept.len().saturating_sub(LAST_WORDS));
    }
    String::from_utf8_lossy(&kept).trim().to_owned()
}
