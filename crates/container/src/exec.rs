//! Run a further program inside a container, or take files out of it and put some in.

use crate::{
    engine::{Engine, handle},
    error::Error,
    files,
    spec::{check_words, check_workdir},
    terminal::{self, Terminal},
};
use serde_json::Value;
use std::{
    fs, io,
    os::{fd::AsRawFd, unix::fs::MetadataExt},
    path::PathBuf,
    process::Stdio,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    process::{Child, Command},
};

/// A program that is to run inside, as the container's own is run: same user, same fences.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Entering {
    pub argv: Vec<String>,
    /// Besides the container's own.
    pub env: Vec<(String, String)>,
    /// The folder it begins in; the container's own where empty.
    pub workdir: String,
    /// Its terminal's rows and columns, if it has one.
    pub terminal: Option<(u16, u16)>,
}

/// What runs inside, with its streams; dropped before its end, it is killed.
pub struct Exec {
    pub stdin: Option<Box<dyn AsyncWrite + Send + Unpin>>,
    pub stdout: Option<Box<dyn AsyncRead + Send + Unpin>>,
    /// None of what has a terminal.
    pub stderr: Option<Box<dyn AsyncRead + Send + Unpin>>,
    terminal: Option<Terminal>,
    /// The engine's process, which waits for the one inside; or the one that carries files.
    child: Child,
    /// Where the engine writes that one's number, and what it was told.
    papers: Option<Papers>,
}

/// Two files, and the container's process namespace.
type Papers = ([PathBuf; 2], u64);

impl Exec {
    /// `space` is the container's process namespace.
    pub(crate) async fn start(engine: &Engine, id: &str, space: u64, program: Entering) -> Result<Self, Error> {
        let Entering { argv, env, workdir, terminal } = program;
        check_words(argv.iter().chain(env.iter().flat_map(|(name, value)| [name, value])).chain([&workdir]))?;
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
        inside["terminal"] = terminal.is_some().into();
        if !workdir.is_empty() {
            check_workdir(&workdir)?;
            inside["cwd"] = workdir.into();
        }
        if let Some(lines) = inside["env"].as_array_mut() {
            let own = terminal.map(|_| ("TERM".to_owned(), "xterm".to_owned()));
            for (name, value) in own.into_iter().chain(env) {
                let start = format!("{name}=");
                lines.retain(|line| !line.as_str().is_some_and(|line| line.starts_with(&start)));
                lines.push(format!("{start}{value}").into());
            }
        }
        let name = format!("{:016x}", rand::random::<u64>());
        let (process, pid) = (folder.join(format!("exec-{name}.json")), folder.join(format!("exec-{name}.pid")));
        tokio::fs::write(&process, inside.to_string()).await.map_err(Error::at(&process))?;
        let words = ["exec", "--process", &process.display().to_string(), "--pid-file", &pid.display().to_string(), id];
        let what = format!("{} exec", engine.name());
        let started = match terminal {
            None => piped(engine.command(&words)).map(|child| (child, None)),
            Some((rows, columns)) => on_terminal(engine.command(&words), rows, columns),
        };
        let (child, terminal) = started.map_err(Error::io(what)).inspect_err(|_| {
            fs::remove_file(&process).ok();
        })?;
        Ok(Self::of(child, terminal, Some(([pid, process], space))))
    }

    /// Carries files in or out by a process of its own, which sees what the container sees, and is root as it is.
    pub(crate) fn carry(engine: &Engine, order: &files::Order) -> Result<Self, Error> {
        let keeper = &engine.0.keeper;
        let order = serde_json::to_string(order).map_err(|error| Error::io("an order")(error.into()))?;
        let mut command = Command::new(&keeper.path);
        command.args(&keeper.arguments).arg(files::WORD).arg(order).env_clear().current_dir("/").kill_on_drop(true);
        Ok(Self::of(piped(command).map_err(Error::at(&keeper.path))?, None, None))
    }

    fn of(mut child: Child, terminal: Option<(Terminal, tokio::net::UnixStream)>, papers: Option<Papers>) -> Self {
        let (terminal, streams) = terminal.map_or((None, None), |(terminal, stream)| (Some(terminal), Some(stream)));
        let (read, write) = streams.map(tokio::net::UnixStream::into_split).unzip();
        let stdin = child.stdin.take().map(|stdin| Box::new(stdin) as _).or(write.map(|write| Box::new(write) as _));
        let stdout = child.stdout.take().map(|stdout| Box::new(stdout) as _).or(read.map(|read| Box::new(read) as _));
        let stderr = child.stderr.take().map(|stderr| Box::new(stderr) as _);
        Self { stdin, stdout, stderr, terminal, child, papers }
    }

    /// Its terminal, if it has one, has that size now.
    pub fn resize(&self, rows: u16, columns: u16) {
        let Some(terminal) = &self.terminal else { return };
        // One that is gone has no size.
        terminal.resize(rows, columns).ok();
        if let Some(pid) = self.child.id() {
            // SAFETY: plain numbers; the engine's process is not reaped, so the number is still its.
            unsafe { libc::kill(pid as i32, libc::SIGWINCH) };
        }
    }

    /// Waits for its end, and gives its exit code: 128 and the signal where one ended it, as shells count.
    pub async fn wait(&mut self) -> io::Result<i32> {
        use std::os::unix::process::ExitStatusExt;
        let status = self.child.wait().await?;
        Ok(status.code().unwrap_or(128 + status.signal().unwrap_or(0)))
    }

    /// Ends it.
    pub fn kill(&mut self) {
        if !matches!(self.child.try_wait(), Ok(None)) {
            return;
        }
        let told = self.papers.as_ref().and_then(|([pid, _], space)| Some((fs::read_to_string(pid).ok()?, *space)));
        let found = told.and_then(|(pid, space)| Some((pid.trim().parse::<i32>().ok()?, space)));
        // Where it has not begun yet, is over, or is this program's own, the engine's process is ended.
        if !found.is_some_and(|(pid, space)| pid > 1 && end(pid, space)) {
            self.child.start_kill().ok();
        }
    }
}

/// Kills a process of a container; false where the number is by now somebody else's.
fn end(pid: i32, space: u64) -> bool {
    let Ok(process) = handle(pid) else { return false };
    // Looked at after the handle is held: it is that process that is meant.
    if !namespace(pid).is_ok_and(|found| found == space) {
        return false;
    }
    // SAFETY: a descriptor that is open, and no information besides.
    let sent = unsafe {
        libc::syscall(libc::SYS_pidfd_send_signal, process.as_raw_fd(), libc::SIGKILL, std::ptr::null::<()>(), 0)
    };
    sent == 0
}

/// The process namespace that a process is in.
pub(crate) fn namespace(pid: i32) -> io::Result<u64> {
    fs::metadata(format!("/proc/{pid}/ns/pid")).map(|found| found.ino())
}

fn piped(mut command: Command) -> io::Result<Child> {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()
}

type OnTerminal = (Child, Option<(Terminal, tokio::net::UnixStream)>);

fn on_terminal(mut command: Command, rows: u16, columns: u16) -> io::Result<OnTerminal> {
    let (terminal, stream, far) = terminal::open(rows, columns)?;
    let ends = [far.try_clone()?, far.try_clone()?, far];
    let [stdin, stdout, stderr] = ends.map(Stdio::from);
    let child = command.stdin(stdin).stdout(stdout).stderr(stderr).spawn()?;
    // With the command the far end is closed here: the near one ends with the child.
    drop(command);
    Ok((child, Some((terminal, stream))))
}

impl Drop for Exec {
    fn drop(&mut self) {
        self.kill();
        for path in self.papers.iter().flat_map(|(paths, _)| paths) {
            fs::remove_file(path).ok();
        }
    }
}
