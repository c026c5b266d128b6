//! Drive whichever OCI runtime this machine has, by its command line.
//!
//! All that is known of such a program is in [`Runtime`]; another one, or one in this process, is another of those.

use crate::{
    cgroup,
    error::Error,
    keeper::{self, Program},
    layers,
    root::checked,
    spec::{UID_BASE, check_id},
    volume::Memories,
};
use serde::Deserialize;
use std::{
    ffi::OsString,
    fs, io,
    os::unix::fs::{DirBuilderExt, PermissionsExt},
    path::{Path, PathBuf},
    process::Stdio,
    sync::Arc,
    time::Duration,
};
use tokio::process::Command;

/// Tried in this order.
const NAMES: [&str; 2] = ["runc", "crun"];
const PATHS: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// Roots of containers are mounted here: it is open to every user, as a folder below somebody's home is not.
pub(crate) const RUN: &str = "/run/hodei-container";
/// An engine's answer takes milliseconds; a machine that is out of breath may need more.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);
/// One container's files of what it said: this and as much before it.
const LOG_BYTES_MAX: u64 = 4 << 20;
/// All layers of one image, unpacked.
const IMAGE_BYTES_MAX: u64 = 16 << 30;

/// What every OCI runtime does, and how it is told.
pub(crate) trait Runtime: Send + Sync {
    fn name(&self) -> &str;
    /// Words that have the container of `bundle` created and its process named in `pid`, errors going to `said`.
    fn create(&self, id: &str, bundle: &Path, pid: &Path, said: &Path) -> Vec<String>;
    fn ask(&self, words: &[&str]) -> Vec<String>;
}

/// `runc`, `crun`, and who speaks as they do.
struct CommandLine {
    program: String,
    name: String,
    root: String,
}

impl Runtime for CommandLine {
    fn name(&self) -> &str {
        &self.name
    }

    fn create(&self, id: &str, bundle: &Path, pid: &Path, said: &Path) -> Vec<String> {
        let (bundle, pid, said) = (bundle.display().to_string(), pid.display().to_string(), said.display().to_string());
        self.ask(&["--log", &said, "create", "--bundle", &bundle, "--pid-file", &pid, id])
    }

    fn ask(&self, words: &[&str]) -> Vec<String> {
        [&self.program, "--root", &self.root].into_iter().chain(words.iter().copied()).map(str::to_owned).collect()
    }
}

/// What runs containers on this machine, and where it keeps them. Cheap to clone.
#[derive(Clone)]
pub struct Engine(pub(crate) Arc<Inner>);

pub(crate) struct Inner {
    pub(crate) runtime: Box<dyn Runtime>,
    pub(crate) folder: PathBuf,
    pub(crate) keeper: Program,
    pub(crate) image_bytes_max: u64,
    pub(crate) log_bytes_max: u64,
    pub(crate) memories: Memories,
}

/// What an engine says of a container.
#[derive(Deserialize)]
pub(crate) struct State {
    pub(crate) status: String,
}

impl Engine {
    /// Looks for `runc`, then `crun`, and for all that is needed beside; an error says what is missing, and what to do.
    pub fn find(folder: PathBuf) -> Result<Self, Error> {
        let path = std::env::var_os("PATH").unwrap_or_else(|| PATHS.into());
        let mut places = std::env::split_paths(&path).chain(std::env::split_paths(PATHS)).collect::<Vec<_>>();
        places.dedup();
        let find = |name: &str| places.iter().map(|place| place.join(name)).find(|path| path.is_file());
        let program = NAMES.iter().find_map(|name| find(name));
        let program = program.ok_or_else(|| missing("neither runc nor crun is in PATH: apt-get install runc"))?;
        if find("mkfs.ext4").is_none() {
            return Err(missing("mkfs.ext4 is not in PATH: apt-get install e2fsprogs"));
        }
        Self::at(program, folder)
    }

    /// The same with an engine that is named by its path.
    pub fn at(program: PathBuf, folder: PathBuf) -> Result<Self, Error> {
        // SAFETY: it takes nothing and cannot fail.
        if unsafe { libc::geteuid() } != 0 {
            return Err(missing("containers are made by root: start it as root, or offer components alone"));
        }
        if !program.is_file() {
            return Err(missing(&format!("{} is no program", program.display())));
        }
        for (path, cure) in [
            ("/sys/fs/cgroup", "mount cgroups there"),
            ("/dev/loop-control", "modprobe loop"),
            ("/proc/self/ns/user", "a kernel with user namespaces is needed"),
            ("/proc/self/ns/cgroup", "a kernel with cgroup namespaces is needed"),
        ] {
            if !Path::new(path).exists() {
                return Err(missing(&format!("{path} is not there: {cure}")));
            }
        }
        let systems = fs::read_to_string("/proc/filesystems").map_err(Error::io("/proc/filesystems"))?;
        for system in ["overlay", "ext4"] {
            let is_known = systems.lines().any(|line| line.split_whitespace().next_back() == Some(system));
            // The kernel loads it when it is first mounted, where it is a module.
            if !is_known && !has_module(system) {
                return Err(missing(&format!("the kernel has no {system}: modprobe {system}")));
            }
        }
        if cgroup::is_unified() {
            check_controllers()?;
        }
        let folder = std::path::absolute(&folder).map_err(Error::at(&folder))?;
        for (path, mode) in [
            (folder.clone(), 0o700),
            (folder.join("layers"), 0o700),
            (folder.join("containers"), 0o700),
            (folder.join("logs"), 0o700),
            (folder.join("engine"), 0o700),
            (folder.join("volumes"), 0o700),
            (RUN.into(), 0o711),
        ] {
            fs::DirBuilder::new().recursive(true).mode(mode).create(&path).map_err(Error::at(&path))?;
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).map_err(Error::at(&path))?;
        }
        layers::clear(&folder.join("layers")).map_err(Error::at(&folder))?;
        let runtime = CommandLine {
            name: program.file_name().unwrap_or_default().to_string_lossy().into_owned(),
            program: program.display().to_string(),
            root: folder.join("engine").display().to_string(),
        };
        let own = std::env::current_exe().map_err(Error::io("this program's own path"))?;
        let keeper = Program::new(own, [OsString::from("run-container")]);
        let runtime = Box::new(runtime);
        let (image_bytes_max, log_bytes_max) = (IMAGE_BYTES_MAX, LOG_BYTES_MAX);
        let memories = Memories::default();
        Ok(Self(Arc::new(Inner { runtime, folder, keeper, image_bytes_max, log_bytes_max, memories })))
    }

    /// Names the program that calls [`keeper::run`]; without it, this one with the argument `run-container`.
    pub fn kept_by(self, keeper: Program) -> Self {
        self.with(|inner| inner.keeper = keeper)
    }

    /// How much an image's layers may come to, unpacked.
    pub fn image_bytes_max(self, bytes: u64) -> Self {
        self.with(|inner| inner.image_bytes_max = bytes)
    }

    /// How much is kept of what a container said; as much again before it.
    pub fn log_bytes_max(self, bytes: u64) -> Self {
        self.with(|inner| inner.log_bytes_max = bytes)
    }

    /// These are said before the first clone.
    fn with(mut self, change: impl FnOnce(&mut Inner)) -> Self {
        if let Some(inner) = Arc::get_mut(&mut self.0) {
            change(inner);
        }
        self
    }

    pub fn name(&self) -> &str {
        self.0.runtime.name()
    }

    /// Where what a container says is written: what is older, and what is newest. Either may not be there.
    pub fn logs(&self, id: &str) -> [PathBuf; 2] {
        let log = self.0.folder.join("logs").join(format!("{id}.log"));
        [keeper::older(&log), log]
    }

    /// Removes what a container said; it is kept after the container itself is deleted.
    pub fn remove_logs(&self, id: &str) -> Result<(), Error> {
        check_id(id)?;
        for path in self.logs(id) {
            match fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(Error::at(&path)(error)),
                _ => {}
            }
        }
        Ok(())
    }

    /// Removes every layer that is not among `keep`, by what it hashes to unpacked, and that no container here has.
    pub fn forget_layers(&self, keep: &[[u8; 32]]) -> Result<(), Error> {
        let mut wanted: std::collections::BTreeSet<String> = keep.iter().map(hex::encode).collect();
        let containers = self.0.folder.join("containers");
        for container in fs::read_dir(&containers).map_err(Error::at(&containers))? {
            let links = container.map_err(Error::at(&containers))?.path().join("links");
            for link in fs::read_dir(&links).into_iter().flatten().flatten() {
                let layer = fs::read_link(link.path()).ok();
                wanted
                    .extend(layer.as_deref().and_then(Path::file_name).map(|name| name.to_string_lossy().into_owned()));
            }
        }
        // What is being unpacked is a container's that is about to be.
        layers::forget(&self.layers(), |name| wanted.contains(name) || name.starts_with('.'))
            .map_err(Error::at(&containers))
    }

    pub(crate) fn layers(&self) -> PathBuf {
        self.0.folder.join("layers")
    }

    pub(crate) fn container(&self, id: &str) -> PathBuf {
        self.0.folder.join("containers").join(id)
    }

    pub(crate) fn run_folder(&self, id: &str) -> PathBuf {
        Path::new(RUN).join(id)
    }

    /// Makes an engine's words a command that is no part of this process's surroundings.
    pub(crate) fn command(&self, words: &[&str]) -> Command {
        let words = self.0.runtime.ask(words);
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]).env_clear().env("PATH", PATHS).stdin(Stdio::null());
        command
    }

    /// Asks the engine, and gives what it answers.
    pub(crate) async fn ask(&self, words: &[&str]) -> Result<Vec<u8>, Error> {
        let command = || format!("{} {}", self.name(), words.join(" "));
        let answer = self.command(words).kill_on_drop(true).output();
        let answer = tokio::time::timeout(ANSWER_TIMEOUT, answer).await;
        let answer = answer.map_err(|_| Error::Engine { command: command(), said: "it does not answer".into() })?;
        let answer = answer.map_err(Error::io(command()))?;
        if answer.status.success() {
            return Ok(answer.stdout);
        }
        Err(Error::Engine { command: command(), said: String::from_utf8_lossy(&answer.stderr).trim().to_owned() })
    }

    pub(crate) async fn state(&self, id: &str) -> Result<State, Error> {
        let answer = self.ask(&["state", id]).await?;
        serde_json::from_slice(&answer)
            .map_err(|error| Error::Engine { command: format!("{} state", self.name()), said: error.to_string() })
    }
}

fn missing(what: &str) -> Error {
    Error::Missing(what.to_owned())
}

fn has_module(system: &str) -> bool {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let folder = Path::new("/lib/modules").join(release.trim());
    ["modules.dep", "modules.builtin"].iter().any(|list| {
        let list = fs::read_to_string(folder.join(list)).unwrap_or_default();
        list.contains(&format!("/{system}.ko"))
    })
}

/// The engine switches them on for its own; the kernel must have them.
fn check_controllers() -> Result<(), Error> {
    let root = Path::new("/sys/fs/cgroup");
    let controllers = root.join("cgroup.controllers");
    let there = fs::read_to_string(&controllers).map_err(Error::at(&controllers))?;
    for name in ["cpu", "memory", "pids"] {
        if !there.split_whitespace().any(|controller| controller == name) {
            return Err(missing(&format!("{} has no {name}: start the kernel with it", controllers.display())));
        }
    }
    Ok(())
}

/// When a process began, by the kernel's clock: with its number it names one process and no later one.
pub(crate) fn began(pid: i32) -> io::Result<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // A process's name may have anything in it, blanks and brackets too; what follows its last bracket may not.
    let field = text.rsplit_once(')').and_then(|(_, rest)| rest.split_whitespace().nth(19)?.parse().ok());
    field.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "a process without a beginning"))
}

/// A handle to a process that no later one with its number can take over.
pub(crate) fn handle(pid: i32) -> io::Result<std::os::fd::OwnedFd> {
    use std::os::fd::FromRawFd;
    // SAFETY: plain numbers.
    let fd = checked(unsafe { libc::syscall(libc::SYS_pidfd_open, pid, libc::PIDFD_NONBLOCK) } as i32)?;
    // SAFETY: the kernel has just given it to us.
    Ok(unsafe { std::os::fd::OwnedFd::from_raw_fd(fd) })
}

/// Files that a container's own root reads are its user's.
pub(crate) fn hand_over(path: &Path, mode: u32) -> io::Result<()> {
    std::os::unix::fs::chown(path, Some(UID_BASE), Some(UID_BASE))?;
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
}
