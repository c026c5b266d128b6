//! Stand by one container for as long as it runs: this binary again, which outlives the agent.
//!
//! It is the container's parent, so that how it ended is known whoever was there to hear it, and it holds the other end
//! of what the container says: two files turned over, however much that is. It gets the agent's order from a file, tells
//! whether the container was created, and is then nobody's child.

use crate::packed::invalid;
use serde::{Deserialize, Serialize};
use std::{
    ffi::OsString,
    fs::{self, File},
    io::{self, PipeReader, PipeWriter, Read, Write},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

/// What a container said last is read for so long after it ended.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(5);
const SAID_BYTES_MAX: usize = 2048;
const CREATED: &str = "created";

/// The program that calls [`run`] when it is started with these arguments: an agent names itself.
#[derive(Clone, Debug)]
pub struct Program {
    pub(crate) path: PathBuf,
    pub(crate) arguments: Vec<OsString>,
}

impl Program {
    pub fn new(path: impl Into<PathBuf>, arguments: impl IntoIterator<Item = impl Into<OsString>>) -> Self {
        Self { path: path.into(), arguments: arguments.into_iter().map(Into::into).collect() }
    }
}

/// What a keeper is told.
#[derive(Serialize, Deserialize)]
pub(crate) struct Order {
    /// The engine's, that creates the container and ends.
    pub(crate) command: Vec<String>,
    /// Where the engine says what went wrong, and which process the container is.
    pub(crate) said: PathBuf,
    pub(crate) pid: PathBuf,
    pub(crate) log: PathBuf,
    pub(crate) log_bytes_max: u64,
    pub(crate) exit: PathBuf,
}

/// How a container's first process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Ended {
    pub(crate) code: Option<i32>,
    pub(crate) signal: Option<i32>,
}

/// Keeps the container that the last argument's file orders, or carries files. Call it before any thread is started.
pub fn run() -> i32 {
    if let Some(code) = crate::files::run() {
        return code;
    }
    let order = std::env::args_os().next_back().ok_or_else(|| invalid("an order is missing")).and_then(fs::read);
    match order.and_then(|order| Ok(serde_json::from_slice::<Order>(&order)?)).and_then(|order| keep(&order)) {
        Ok(()) => 0,
        Err(error) => {
            eprintln!("{error}");
            1
        }
    }
}

fn keep(order: &Order) -> io::Result<()> {
    let (mut heard, told) = io::pipe()?;
    // SAFETY: there is one thread, by this function's contract; the child goes on as this program would.
    match crate::root::checked(unsafe { libc::fork() })? {
        0 => std::process::exit(match detached(order, told) {
            Ok(()) => 0,
            Err(_) => 1,
        }),
        _ => {
            drop(told);
            let mut said = String::new();
            heard.read_to_string(&mut said)?;
            if said == CREATED { Ok(()) } else { Err(io::Error::other(said)) }
        }
    }
}

fn detached(order: &Order, mut told: PipeWriter) -> io::Result<()> {
    let (heard, pid) = match create(order) {
        Ok(created) => created,
        Err(error) => {
            write!(told, "{error}")?;
            return Err(error);
        }
    };
    told.write_all(CREATED.as_bytes())?;
    drop(told);
    let log = (order.log.clone(), order.log_bytes_max);
    let (done, over) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        // A disk that is full must not stop the container: what it says is read, and lost.
        write_log(heard, &log.0, log.1);
        done.send(()).ok();
    });
    let ended = wait(pid)?;
    over.recv_timeout(DRAIN_TIMEOUT).ok();
    write_whole(&order.exit, &serde_json::to_vec(&ended)?)
}

/// Has the engine create the container, as this process's grandchild that becomes its child.
fn create(order: &Order) -> io::Result<(PipeReader, i32)> {
    // SAFETY: plain numbers. Whoever started the agent may hang up; the container goes on.
    unsafe {
        libc::setsid();
        libc::signal(libc::SIGHUP, libc::SIG_IGN);
        crate::root::checked(libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0))?;
    }
    std::env::set_current_dir("/")?;
    let nowhere = File::options().read(true).write(true).open("/dev/null")?;
    for standard in 0..3 {
        // SAFETY: two descriptors that are open; nobody reads what this process would say.
        crate::root::checked(unsafe { libc::dup2(std::os::fd::AsRawFd::as_raw_fd(&nowhere), standard) })?;
    }
    let (heard, says) = io::pipe()?;
    let (program, arguments) = order.command.split_first().ok_or_else(|| invalid("no command"))?;
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null()).stdout(says.try_clone()?).stderr(says);
    let status = command.status();
    drop(command);
    let status = status.map_err(|error| io::Error::new(error.kind(), format!("{program}: {error}")))?;
    if !status.success() {
        return Err(io::Error::other(last_words(&order.said)));
    }
    let pid = fs::read_to_string(&order.pid)?;
    Ok((heard, pid.trim().parse().map_err(|_| invalid("the engine named no process"))?))
}

/// The last that the engine wrote into its own log.
pub(crate) fn last_words(said: &Path) -> String {
    let bytes = fs::read(said).unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes[bytes.len().saturating_sub(SAID_BYTES_MAX)..]).trim().to_owned();
    if text.is_empty() { "it failed, and did not say why".into() } else { text }
}

fn wait(pid: i32) -> io::Result<Ended> {
    loop {
        let mut status = 0;
        // SAFETY: the number is ours, and outlives the call.
        match crate::root::checked(unsafe { libc::waitpid(-1, &raw mut status, 0) }) {
            Ok(ended) if ended == pid => {
                let code = libc::WIFEXITED(status).then(|| libc::WEXITSTATUS(status));
                let signal = libc::WIFSIGNALED(status).then(|| libc::WTERMSIG(status));
                return Ok(Ended { code, signal });
            }
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// The file before the one that is written to.
pub(crate) fn older(log: &Path) -> PathBuf {
    log.with_extension("log.1")
}

fn write_log(mut heard: PipeReader, log: &Path, bytes_max: u64) {
    let open = || File::options().create(true).append(true).open(log).ok();
    let mut file = open();
    let mut bytes = file.as_ref().and_then(|file| file.metadata().ok()).map_or(0, |found| found.len());
    let mut buffer = [0; 16 << 10];
    loop {
        let read = match heard.read(&mut buffer) {
            Ok(0) => return,
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(_) => return,
        };
        if bytes + read as u64 > bytes_max && bytes > 0 {
            fs::rename(log, older(log)).ok();
            (file, bytes) = (open(), 0);
        }
        bytes += read as u64;
        if let Some(file) = &mut file {
            file.write_all(&buffer[..read]).ok();
        }
    }
}

/// Writes a file so that it is there whole or not at all.
pub(crate) fn write_whole(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let new = path.with_extension("new");
    let mut file = File::create(&new)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(new, path)
}
