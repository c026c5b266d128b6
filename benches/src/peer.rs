//! Start, ask and stop other people's programs.

use anyhow::{Context as _, Result, ensure};
use std::{
    net::TcpListener,
    process::{Child, Command, Stdio},
    time::Duration,
};

pub(crate) const TRIES: usize = 120;
pub(crate) const REST: Duration = Duration::from_millis(500);

/// A free port of loopback.
#[allow(dead_code, reason = "not every peer listens")]
pub(crate) fn port() -> Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

/// What a command printed; an error with its words if it failed.
pub(crate) fn run(command: &mut Command) -> Result<String> {
    let done = command.stdin(Stdio::null()).output().with_context(|| format!("{command:?}"))?;
    ensure!(
        done.status.success(),
        "{command:?}: {}{}",
        String::from_utf8_lossy(&done.stdout),
        String::from_utf8_lossy(&done.stderr)
    );
    Ok(String::from_utf8(done.stdout)?)
}

/// Asks until it succeeds.
pub(crate) fn until<T>(what: &str, mut ask: impl FnMut() -> Result<T>) -> Result<T> {
    let mut last = None;
    for _ in 0..TRIES {
        match ask() {
            Ok(answer) => return Ok(answer),
            Err(error) => last = Some(error),
        }
        std::thread::sleep(REST);
    }
    Err(last.context("never asked")?.context(format!("waited in vain for {what}")))
}

pub(crate) fn stop(process: &mut Child) {
    let _ = process.kill();
    let _ = process.wait();
}
