//! Run a further program inside a container.

use crate::{engine::Engine, error::Error, spec::check_words};
use serde_json::Value;
use std::{fs, io, path::PathBuf, process::Stdio};
use tokio::process::{Child, ChildStderr, ChildStdin, ChildStdout};

/// A program that runs inside, with its three streams; dropped before its end, it is killed.
pub struct Exec {
    pub stdin: Option<ChildStdin>,
    pub stdout: Option<ChildStdout>,
    pub stderr: Option<ChildStderr>,
    /// The engine's process, which waits for the one inside.
    child: Child,
    /// Where the engine writes that one's number.
    pid: PathBuf,
    process: PathBuf,
}

impl Exec {
    pub(crate) async fn start(
        engine: &Engine,
        id: &str,
        argv: Vec<String>,
        env: Vec<(String, String)>,
    ) -> Result<Self, Error> {
        check_words(argv.iter().chain(env.iter().flat_map(|(name, value)| [name, value])))?;
        if argv.is_empty() {
            return Err(Error::Spec("no program is named".into()));
        }
        let folder = engine.container(id);
        let config = folder.join("config.json");
        let text = tokio::fs::read(&config).await.map_err(Error::at(&config))?;
        let mut config: Value = serde_json::from_slice(&text).map_err(|error| Error::at(&config)(error.into()))?;
        // User, capabilities, limits and no new privileges are those of the container's own program.
        let mut inside = config["process"].take();
        inside["args"] = argv.into();
        if let Some(lines) = inside["env"].as_array_mut() {
            for (name, value) in env {
                let start = format!("{name}=");
                lines.retain(|line| !line.as_str().is_some_and(|line| line.starts_with(&start)));
                lines.push(format!("{start}{value}").into());
            }
        }
        let name = format!("{:016x}", rand::random::<u64>());
        let (process, pid) = (folder.join(format!("exec-{name}.json")), folder.join(format!("exec-{name}.pid")));
        tokio::fs::write(&process, inside.to_string()).await.map_err(Error::at(&process))?;
        let words = ["exec", "--process", &process.display().to_string(), "--pid-file", &pid.display().to_string(), id];
        let mut command = engine.command(&words);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let started = command.spawn().map_err(Error::io(format!("{} exec", engine.name())));
        let mut child = started.inspect_err(|_| {
            fs::remove_file(&process).ok();
        })?;
        let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        Ok(Self { stdin, stdout, stderr, child, pid, process })
    }

    /// Waits for its end, and gives its exit code: 128 and the signal where one ended it, as shells count.
    pub async fn wait(&mut self) -> io::Result<i32> {
        use std::os::unix::process::ExitStatusExt;
        let status = self.child.wait().await?;
        Ok(status.code().unwrap_or(128 + status.signal().unwrap_or(0)))
    }

    /// Ends it.
    pub fn kill(&mut self) {
        // While the engine's process is not reaped, the one inside is its child: the number is still that one's.
        if !matches!(self.child.try_wait(), Ok(None)) {
            return;
        }
        let pid = fs::read_to_string(&self.pid).ok().and_then(|pid| pid.trim().parse::<i32>().ok());
        match pid {
            // SAFETY: plain numbers.
            Some(pid) if pid > 1 => drop(unsafe { libc::kill(pid, libc::SIGKILL) }),
            // It has not begun yet.
            _ => drop(self.child.start_kill()),
        }
    }
}

impl Drop for Exec {
    fn drop(&mut self) {
        self.kill();
        for path in [&self.pid, &self.process] {
            fs::remove_file(path).ok();
        }
    }
}
