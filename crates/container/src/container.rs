//! Create a container, start it, reach it, and take it away again.

use crate::{
    cgroup::{Groups, Usage},
    disk,
    engine::{Engine, began, hand_over, handle},
    error::Error,
    exec::{Entering, Exec, namespace},
    files, given,
    inside::Network,
    keeper::{Ended, Order, write_whole},
    prepare,
    spec::{Spec, check_id},
    volume::go_on,
};
use serde::{Deserialize, Serialize};
use std::{fs, io, net::SocketAddr, os::fd::OwnedFd, path::PathBuf, process::Stdio, sync::Arc, time::Duration};
use tokio::{
    io::{Interest, unix::AsyncFd},
    net::{TcpListener, TcpStream},
    process::Command,
    sync::Mutex,
};

/// After its end, what its keeper has to write is there within this.
const KEPT_TIMEOUT: Duration = Duration::from_secs(10);
/// An engine makes a container within a second; a machine that is out of breath may need more.
const CREATE_TIMEOUT: Duration = Duration::from_secs(30);
const POLL_INTERVAL: Duration = Duration::from_millis(20);
const KILL_TIMEOUT: Duration = Duration::from_secs(30);
const VERSION: u32 = 1;

/// A container of this machine. It runs on when this is dropped; [`Container::adopt`] finds it again.
pub struct Container {
    engine: Engine,
    state: State,
    /// Its first process and its network; none where it had ended before it was adopted.
    living: Option<(AsyncFd<OwnedFd>, Network)>,
    /// Held while it is held still: no program can be started inside meanwhile.
    still: Arc<Mutex<()>>,
}

/// What is on the disk of a container: all that is needed to find it again.
#[derive(Clone, Serialize, Deserialize)]
struct State {
    version: u32,
    id: String,
    pid: i32,
    /// Of its first process, and of the kernel: a number is used again.
    began: u64,
    boot: String,
    groups: Groups,
    stop_signal: i32,
    stop_secs: u32,
}

/// How a container ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exit {
    /// Its first process's exit code; none where a signal ended it, or nobody was there to see.
    pub code: Option<i32>,
    pub signal: Option<i32>,
    /// Whether the kernel killed a process of it for want of memory.
    pub is_out_of_memory: bool,
}

impl Container {
    /// Unpacks, mounts and creates it: warm, and not started. What a failure leaves is taken away.
    pub async fn create(engine: &Engine, spec: Spec) -> Result<Self, Error> {
        spec.check()?;
        let id = spec.id.clone();
        if engine.container(&id).join("state.json").exists() {
            return Err(Error::Spec(format!("a container {id} is here already: adopt it, or delete it")));
        }
        clear(engine, &id).await?;
        let made = Self::make(engine, spec).await;
        if made.is_err() {
            // What went wrong first is what is told.
            clear(engine, &id).await.ok();
        }
        made
    }

    async fn make(engine: &Engine, spec: Spec) -> Result<Self, Error> {
        let (id, stop_secs) = (spec.id.clone(), spec.stop_secs);
        let folder = engine.container(&id);
        let preparing = engine.clone();
        let prepared = tokio::task::spawn_blocking(move || prepare::prepare(&preparing, &spec)).await;
        let stop_signal = prepared.map_err(|error| Error::io("unpacking")(io::Error::other(error)))??;
        let (pid_file, said) = (folder.join("pid"), folder.join("said"));
        let order = Order {
            command: engine.0.runtime.create(&id, &folder, &pid_file, &said),
            said,
            pid: pid_file.clone(),
            log: engine.logs(&id)[1].clone(),
            log_bytes_max: engine.0.log_bytes_max,
            exit: folder.join("exit.json"),
        };
        let path = folder.join("order.json");
        let order = serde_json::to_vec(&order).map_err(|error| Error::at(&path)(error.into()))?;
        fs::write(&path, order).map_err(Error::at(&path))?;
        let keeper = &engine.0.keeper;
        let mut command = Command::new(&keeper.path);
        command.args(&keeper.arguments).arg(&path).env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
        let kept = command.current_dir("/").stdin(Stdio::null()).kill_on_drop(true).output();
        // An image can make an engine wait for ever: what it opens may be a pipe that nobody writes to.
        let kept = tokio::time::timeout(CREATE_TIMEOUT, kept).await.map_err(|_| Error::Engine {
            command: format!("{} create {id}", engine.name()),
            said: format!("nothing within {} s", CREATE_TIMEOUT.as_secs()),
        })?;
        let kept = kept.map_err(Error::at(&keeper.path))?;
        if !kept.status.success() {
            let said = String::from_utf8_lossy(&kept.stderr).trim().to_owned();
            return Err(Error::Engine { command: format!("{} create {id}", engine.name()), said });
        }
        let pid = fs::read_to_string(&pid_file).map_err(Error::at(&pid_file))?;
        let pid = pid.trim().parse().map_err(|_| Error::Engine { command: "create".into(), said: pid.clone() })?;
        let what = || Error::io("the container's first process");
        let groups = Groups::of(pid).map_err(what())?;
        let began = began(pid).map_err(what())?;
        let state = State { version: VERSION, id, pid, began, boot: boot()?, groups, stop_signal, stop_secs };
        let living = living(pid, began).map_err(what())?;
        if let Some((_, network)) = &living {
            network.light().await.map_err(Error::io("the container's loopback"))?;
        }
        let (path, text) = (folder.join("state.json"), serde_json::to_vec(&state));
        let text = text.map_err(|error| Error::at(&path)(error.into()))?;
        write_whole(&path, &text).map_err(Error::at(&path))?;
        Ok(Self { engine: engine.clone(), state, living, still: Arc::default() })
    }

    /// Finds a container again after the agent was started anew: it runs still, or ended meanwhile.
    pub async fn adopt(engine: &Engine, id: &str) -> Result<Option<Self>, Error> {
        check_id(id)?;
        let path = engine.container(id).join("state.json");
        let text = match fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                // What was being made when the agent ended is nothing.
                clear(engine, id).await?;
                return Ok(None);
            }
            Err(error) => return Err(Error::at(&path)(error)),
        };
        let state: State = serde_json::from_slice(&text).map_err(|error| Error::at(&path)(error.into()))?;
        if state.version != VERSION {
            return Err(Error::at(&path)(io::Error::other(format!("version {}; {VERSION} is known", state.version))));
        }
        let is_this_kernel = boot()? == state.boot;
        let living = if is_this_kernel { living(state.pid, state.began).map_err(Error::at(&path))? } else { None };
        if living.is_some() && engine.state(id).await.is_ok_and(|state| state.status == "paused") {
            // Whoever held it still was stopped meanwhile.
            go_on(engine, id).await?;
        }
        Ok(Some(Self { engine: engine.clone(), state, living, still: Arc::default() }))
    }

    pub fn id(&self) -> &str {
        &self.state.id
    }

    pub(crate) fn engine(&self) -> &Engine {
        &self.engine
    }

    pub(crate) fn still(&self) -> Arc<Mutex<()>> {
        self.still.clone()
    }

    /// Lets what was created begin.
    pub async fn start(&self) -> Result<(), Error> {
        self.engine.ask(&["start", self.id()]).await.map(drop)
    }

    /// Whether it was created and not started yet.
    pub async fn is_warm(&self) -> Result<bool, Error> {
        Ok(self.engine.state(self.id()).await?.status == "created")
    }

    /// Connects to a port of its loopback.
    pub async fn connect(&self, port: u16) -> io::Result<TcpStream> {
        self.network()?.connect(port).await
    }

    /// Hears at an address inside it, for what somebody outside does for it.
    pub async fn listen(&self, addr: SocketAddr) -> io::Result<TcpListener> {
        self.network()?.listen(addr).await
    }

    fn network(&self) -> io::Result<&Network> {
        let network = self.living.as_ref().map(|(_, network)| network);
        network.ok_or_else(|| io::Error::new(io::ErrorKind::NotConnected, "the container has ended"))
    }

    /// Runs a program inside it, as its own is run: same user, same fences.
    pub async fn exec(&self, program: Entering) -> Result<Exec, Error> {
        let space = namespace(self.state.pid).map_err(Error::io("the container's first process"))?;
        let _still = self.still.lock().await;
        Exec::start(&self.engine, self.id(), space, program).await
    }

    /// Carries files: out as an archive that is read from it, or in, as one that is written to it.
    pub fn files(&self, path: &str, is_in: bool) -> Result<Exec, Error> {
        let (pid, began) = (self.state.pid, self.state.began);
        if self.living.is_none() {
            return Err(Error::io("its files")(io::Error::new(io::ErrorKind::NotFound, "the container has ended")));
        }
        Exec::carry(&self.engine, &files::Order { pid, began, path: path.to_owned(), is_in })
    }

    /// What it used, from the kernel's counters; after its end too, until it is deleted.
    pub fn usage(&self) -> io::Result<Usage> {
        let disk_bytes = disk::used_bytes(&self.engine.container(self.id()).join("disk"))?;
        let disk_bytes = disk_bytes.saturating_add(self.engine.volumes_used(self.id()));
        Ok(Usage { disk_bytes, ..self.state.groups.usage()? })
    }

    /// Where what it says is written: what is older, and what is newest.
    pub fn logs(&self) -> [PathBuf; 2] {
        self.engine.logs(self.id())
    }

    /// Waits for its end.
    pub async fn wait(&self) -> Exit {
        if let Some((process, _)) = &self.living {
            // An error would be of the runtime that is being stopped: then there is nobody left to tell.
            if let Ok(mut guard) = process.ready(Interest::READABLE).await {
                guard.retain_ready();
            }
        }
        let path = self.engine.container(self.id()).join("exit.json");
        let until = tokio::time::Instant::now() + KEPT_TIMEOUT;
        let ended = loop {
            match fs::read(&path).ok().and_then(|text| serde_json::from_slice::<Ended>(&text).ok()) {
                Some(ended) => break ended,
                // Its keeper was killed with it, or this machine was started anew.
                None if tokio::time::Instant::now() > until => break Ended { code: None, signal: None },
                None => tokio::time::sleep(POLL_INTERVAL).await,
            }
        };
        let is_out_of_memory = self.state.groups.usage().is_ok_and(|usage| usage.oom_kills > 0);
        Exit { code: ended.code, signal: ended.signal, is_out_of_memory }
    }

    /// Sends its first process a signal.
    pub async fn signal(&self, signal: i32) -> Result<(), Error> {
        self.engine.ask(&["kill", self.id(), &signal.to_string()]).await.map(drop)
    }

    /// Asks it to end, and ends it when it has not within `grace`, or what its order or image says.
    pub async fn stop(&self, grace: Option<Duration>) -> Result<Exit, Error> {
        let grace = grace.unwrap_or(Duration::from_secs(self.state.stop_secs.into()));
        if let Err(error) = self.signal(self.state.stop_signal).await
            && !self.has_ended().await
        {
            return Err(error);
        }
        if let Ok(exit) = tokio::time::timeout(grace, self.wait()).await {
            return Ok(exit);
        }
        self.kill().await?;
        Ok(self.wait().await)
    }

    async fn kill(&self) -> Result<(), Error> {
        match self.signal(libc::SIGKILL).await {
            Err(error) if !self.has_ended().await => Err(error),
            _ => Ok(()),
        }
    }

    async fn has_ended(&self) -> bool {
        self.living.is_none() || self.engine.state(self.id()).await.is_ok_and(|state| state.status == "stopped")
    }

    /// Takes away all of it but what it said.
    pub async fn delete(self) -> Result<(), Error> {
        if !self.has_ended().await {
            self.kill().await?;
            tokio::time::timeout(KILL_TIMEOUT, self.wait()).await.ok();
        }
        clear(&self.engine, self.id()).await
    }
}

fn living(pid: i32, since: u64) -> io::Result<Option<(AsyncFd<OwnedFd>, Network)>> {
    let Ok(process) = handle(pid) else { return Ok(None) };
    // Compared after the handle is held: from here on the number is that process's.
    if began(pid).ok() != Some(since) {
        return Ok(None);
    }
    let Ok(network) = Network::of(pid) else { return Ok(None) };
    // SAFETY: the handle is the registration's own, so it is open for as long, and always the same.
    let process = unsafe { AsyncFd::register_with_interest(process, Interest::READABLE) }?;
    Ok(Some((process, network)))
}

/// Which start of the kernel this is.
fn boot() -> Result<String, Error> {
    let path = "/proc/sys/kernel/random/boot_id";
    fs::read_to_string(path).map(|text| text.trim().to_owned()).map_err(Error::io(path))
}

/// Takes away whatever there is of that container, made whole or not.
async fn clear(engine: &Engine, id: &str) -> Result<(), Error> {
    let (folder, run) = (engine.container(id), engine.run_folder(id));
    if !folder.exists() && !run.exists() {
        return Ok(());
    }
    engine.ask(&["delete", "--force", id]).await.ok();
    if engine.state(id).await.is_ok() {
        let said = "it keeps the container although it was told to delete it".into();
        return Err(Error::Engine { command: format!("{} delete {id}", engine.name()), said });
    }
    for mounted in [run.join("rootfs"), given::folder(&run), folder.join("disk")] {
        disk::unmount(&mounted).map_err(Error::at(&mounted))?;
    }
    for folder in [run, folder] {
        let removed = {
            let folder = folder.clone();
            tokio::task::spawn_blocking(move || fs::remove_dir_all(folder)).await.map_err(io::Error::other)
        };
        match removed.and_then(|removed| removed) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(Error::at(&folder)(error)),
            _ => {}
        }
    }
    Ok(())
}

/// A file of the container's folder in `/run`, for its own root to read.
pub(crate) fn give(path: PathBuf, text: &str) -> Result<(), Error> {
    fs::write(&path, text).and_then(|()| hand_over(&path, 0o644)).map_err(Error::at(&path))
}
