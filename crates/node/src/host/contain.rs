//! Bring one container up, and up again, until its lease ends.
//!
//! ```text
//! adopted, where it runs from before ────────────────────────────┐
//! waiting for its image ─► unpacking ─► starting ─► well ─► ready ─┐
//!        ▲  given, or fetched  one at a time  ▲                    │ it ended, or is unwell
//!        └─ every few seconds                 └─ later, if it is to be ◄─┘
//! ```
//! Upon the end of its lease by the ledger it is asked to stop, killed after its grace, and taken away. Upon the end of
//! this program it is left alone: whoever starts the program again finds it, and what no lease has any more is ended then,
//! once the ledger said so.

use super::{
    Host,
    images::Images,
    replica::Replica,
    runtime::{Ended, Make, Running, Runtime, RuntimeError},
    tail::Tail,
    tend::{BACKOFF, BACKOFF_MAX, FETCH_EVERY, LIVED},
};
use crate::provider::lock;
use commonware_runtime::Storage;
use hodei_types::{
    app::{
        Manifest,
        container::{Container, Health, Restart},
        wire::State,
    },
    event::{Fields, Kind},
    transport::NodeKey,
};
use std::{convert::Infallible, fs, io, path::PathBuf, sync::Arc, time::Duration};
use tokio::{task::JoinSet, time::Instant};

/// What a container says is looked at so often.
const TAIL_EVERY: Duration = Duration::from_millis(500);
/// What it used is read so often.
const USAGE_EVERY: Duration = Duration::from_secs(10);
/// Whether it is well yet is tried so often at first, and so often later.
const TRY_EVERY: Duration = Duration::from_millis(20);
const TRY_EVERY_MAX: Duration = Duration::from_millis(500);
/// Below it no file system has room worth the name.
const DISK_BYTES_MIN: u64 = 64 << 20;
/// Before its lease's end is done here it is tried again so often, and once more upon the next start.
const REMOVALS_MAX: u32 = 10;

/// What a host has that runs containers.
pub(super) struct Containers {
    pub(super) runtime: Arc<dyn Runtime>,
    pub(super) images: Images,
    node: NodeKey,
    /// A file for each lease that has, or may have, a container here.
    placed: PathBuf,
}

/// One that runs.
struct Up {
    manifest: Manifest,
    running: Arc<dyn Running>,
    /// When it began to be made; none of one that was adopted.
    begun: Option<Instant>,
    /// What carries its connections to other apps; they end with this.
    _reached: JoinSet<()>,
}

/// Why one does not run any more.
enum Down {
    Over,
    Ended(Ended),
    Unwell(String),
}

impl Containers {
    pub(super) fn new(runtime: Arc<dyn Runtime>, images: Images, node: NodeKey, placed: PathBuf) -> io::Result<Self> {
        fs::create_dir_all(&placed)?;
        Ok(Self { runtime, images, node, placed })
    }

    /// Of no other host that this machine may have.
    pub(super) fn id(&self, lease: u64) -> String {
        format!("hodei-{}-{lease}", hex::encode(&self.node.0[..8]))
    }

    pub(super) fn place(&self, lease: u64) -> io::Result<()> {
        fs::File::create(self.placed.join(lease.to_string()))?.sync_all()?;
        fs::File::open(&self.placed)?.sync_all()
    }

    fn placed(&self) -> io::Result<Vec<u64>> {
        let names = fs::read_dir(&self.placed)?.map(|entry| Ok(entry?.file_name())).collect::<io::Result<Vec<_>>>()?;
        Ok(names.iter().filter_map(|name| name.to_str()?.parse().ok()).collect())
    }

    /// Stops a container whose lease is over, and forgets it.
    async fn end(&self, lease: u64) {
        let mut backoff = BACKOFF;
        for _ in 0..REMOVALS_MAX {
            let removed = match self.runtime.remove(&self.id(lease), true).await {
                Ok(()) => match fs::remove_file(self.placed.join(lease.to_string())) {
                    Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error.to_string()),
                    _ => Ok(()),
                },
                Err(error) => Err(error.to_string()),
            };
            let Err(words) = removed else { return };
            tracing::error!(lease, words, "a container whose lease is over is not gone yet");
            tokio::time::sleep(backoff).await;
            backoff = (backoff * 2).min(BACKOFF_MAX);
        }
    }
}

impl<E: Storage> Host<E> {
    /// Ends containers of earlier runs whose leases are over, now that the ledger said which are not.
    pub(super) fn sweep(&self) {
        let Some(containers) = &self.0.containers else { return };
        let placed = match containers.placed() {
            Ok(placed) => placed,
            Err(error) => return tracing::error!(%error, "which containers were left here is not known"),
        };
        let running = lock(&self.0.replicas);
        for lease in placed.into_iter().filter(|lease| !running.contains_key(lease)) {
            tracing::info!(lease, "a container was left here whose lease is over: it is ended");
            let (host, containers) = (self.clone(), containers.clone());
            tokio::spawn(async move { host.clear(&containers, lease).await });
        }
    }

    /// Tends a replica's container until its lease ends.
    pub(super) async fn contain(&self, containers: &Containers, replica: &Arc<Replica>) {
        let mut backoff = BACKOFF;
        let mut tail = None;
        loop {
            let begun = Instant::now();
            let (manifest, down) = match self.contained_up(containers, replica).await {
                Ok(Some(up)) => {
                    let tail = tail.get_or_insert_with(|| Tail::new(up.running.logs()));
                    let down = self.contained(replica, &up, tail).await;
                    say(replica, tail);
                    (up.manifest, down)
                }
                Ok(None) => break,
                Err(RuntimeError::Never(words)) => {
                    self.rest_failed(replica, words).await;
                    break;
                }
                Err(RuntimeError::Later(words)) => {
                    tracing::warn!(lease = replica.lease, words, "a container did not start");
                    replica.tell(State::Starting, words);
                    tokio::select! {
                        () = tokio::time::sleep(backoff) => {}
                        () = replica.ended() => break,
                    }
                    backoff = (backoff * 2).min(BACKOFF_MAX);
                    continue;
                }
            };
            let restart = manifest.container().map_or(Restart::Never, |container| container.restart);
            let (words, is_started_again) = match down {
                Down::Over => break,
                Down::Unwell(words) => (words, restart != Restart::Never),
                Down::Ended(ended) => (ended.words(), is_restarted(restart, ended)),
            };
            replica.contained.clear();
            if !is_started_again {
                self.rest_failed(replica, format!("{words}, and is not to be started again")).await;
                break;
            }
            tracing::warn!(lease = replica.lease, words, "a container is started again");
            replica.print(&format!("host: {words}; another is started"));
            replica.tell(State::Starting, format!("{words}; another is started"));
            if let Err(error) = containers.runtime.remove(&containers.id(replica.lease), false).await {
                tracing::warn!(lease = replica.lease, %error, "a container that ended is not gone yet");
            }
            if begun.elapsed() >= LIVED {
                backoff = BACKOFF;
            }
            tokio::select! {
                () = tokio::time::sleep(backoff) => {}
                () = replica.ended() => break,
            }
            backoff = (backoff * 2).min(BACKOFF_MAX);
        }
        replica.contained.clear();
        // What ends with this program, and not with its lease, goes on without it.
        if !*self.0.parts.stop.borrow() {
            self.clear(containers, replica.lease).await;
        }
    }

    /// Ends the container of a lease that is over, and removes what nothing needs any more.
    async fn clear(&self, containers: &Containers, lease: u64) {
        containers.end(lease).await;
        // One that is being made may need what no container has yet.
        let Ok(_turn) = self.0.compilers.acquire().await else { return };
        if let Err(error) = containers.runtime.forget().await {
            tracing::warn!(%error, "what was unpacked for containers that are gone stays");
        }
    }

    /// Says why it does not run, until its lease ends.
    async fn rest_failed(&self, replica: &Replica, words: String) {
        tracing::warn!(lease = replica.lease, words, "a container does not run");
        replica.print(&format!("host: {words}"));
        replica.tell(State::Failed, words);
        replica.ended().await;
    }

    /// Adopts its container, or makes one; nothing where its lease ended meanwhile.
    async fn contained_up(&self, containers: &Containers, replica: &Arc<Replica>) -> Result<Option<Up>, RuntimeError> {
        if replica.on_call.is_some() {
            let words = "a container is not sold by the call: order it by the hour, without call_rate";
            return Err(RuntimeError::Never(words.into()));
        }
        let manifest = match containers.images.manifest(&replica.workload) {
            Some(manifest) => manifest,
            None => match self.image(containers, replica).await {
                Some(manifest) => manifest,
                None => return Ok(None),
            },
        };
        replica.describe(&manifest);
        let id = containers.id(replica.lease);
        if let Some(running) = containers.runtime.adopt(&id).await? {
            tracing::info!(lease = replica.lease, app = manifest.name, "a container that ran on is adopted");
            replica.print("host: the host was started again, and the container ran on");
            running.start().await?;
            replica.contained.set(running.clone());
            let reached = self.reach(replica, &manifest, &running).await?;
            return Ok(Some(Up { manifest, running, begun: None, _reached: reached }));
        }
        let Some(manifest) = self.image(containers, replica).await else { return Ok(None) };
        let container = manifest.container().ok_or_else(|| RuntimeError::Never("it is no container".into()))?;
        if self.filled(containers, replica, container).await?.is_none() {
            return Ok(None);
        }
        replica.tell(State::Compiling, "");
        let turn = self.0.compilers.acquire().await.map_err(|error| RuntimeError::Later(error.to_string()))?;
        let begun = Instant::now();
        let make = self.make(containers, replica, &manifest, container).await?;
        containers.place(replica.lease).map_err(|error| RuntimeError::Later(error.to_string()))?;
        let running = match containers.runtime.create(make).await {
            Ok(running) => running,
            Err(RuntimeError::Never(words)) => return Err(self.blame(containers, container, words).await),
            Err(error) => return Err(error),
        };
        drop(turn);
        replica.contained.set(running.clone());
        replica.tell(State::Starting, "");
        let started = async {
            let reached = self.reach(replica, &manifest, &running).await?;
            running.start().await.map(|()| reached)
        };
        match started.await {
            Ok(reached) => Ok(Some(Up { manifest, running, begun: Some(begun), _reached: reached })),
            Err(error) => {
                replica.contained.clear();
                // The next try makes another; what stays of this one is told then.
                containers.runtime.remove(&id, false).await.ok();
                Err(error)
            }
        }
    }

    async fn make(
        &self,
        containers: &Containers,
        replica: &Replica,
        manifest: &Manifest,
        container: &Container,
    ) -> Result<Make, RuntimeError> {
        let packed = container.bytes().saturating_add(container.volume_bytes());
        let leased = replica.capacity.diskBytes;
        let disk_bytes = leased.saturating_sub(packed);
        if disk_bytes < DISK_BYTES_MIN {
            return Err(RuntimeError::Never(format!(
                "its lease has {leased} bytes of disk and its image and volumes take {packed}: order at least {} more",
                DISK_BYTES_MIN
            )));
        }
        let (images, of) = (containers.images.clone(), container.clone());
        let config = tokio::task::spawn_blocking(move || images.config(&of)).await;
        let config = config.map_err(|error| RuntimeError::Later(error.to_string()))?;
        let config = config.map_err(|error| RuntimeError::Later(error.to_string()))?;
        Ok(Make {
            id: containers.id(replica.lease),
            hostname: manifest.name.clone(),
            config: config.ok_or_else(|| RuntimeError::Later("its image's config rotted on the disk".into()))?,
            layers: container.layers.iter().map(|layer| containers.images.path(&layer.blob)).collect(),
            cpu_milli: replica.capacity.cpuMilli,
            memory_bytes: replica.capacity.memoryBytes,
            disk_bytes,
            hosts: super::reach::names(container),
            container: container.clone(),
        })
    }

    /// Whether an image that does not unpack is bad, or what of it is here rotted; then it is fetched again.
    async fn blame(&self, containers: &Containers, container: &Container, words: String) -> RuntimeError {
        let (images, container) = (containers.images.clone(), container.clone());
        match tokio::task::spawn_blocking(move || images.scrub(&container)).await {
            Ok(Ok(true)) => RuntimeError::Never(words),
            _ => RuntimeError::Later(format!("its image rotted on the disk: {words}")),
        }
    }

    /// Its image, whole: as it was given, or as another host of it has it. Nothing where its lease ended meanwhile.
    async fn image(&self, containers: &Containers, replica: &Replica) -> Option<Manifest> {
        loop {
            if let Some(manifest) = containers.images.get(&replica.workload) {
                return Some(manifest);
            }
            replica.tell(State::Waiting, "");
            let fetched = tokio::select! {
                fetched = self.fetch_image(containers, replica) => fetched,
                () = replica.wake.notified() => continue,
                () = replica.ended() => return None,
            };
            let Err(error) = fetched else { continue };
            replica.tell(State::Waiting, error);
            tokio::select! {
                () = tokio::time::sleep(FETCH_EVERY) => {}
                () = replica.wake.notified() => {}
                () = replica.ended() => return None,
            }
        }
    }

    /// Stands by a container that was started, until it is down.
    async fn contained(&self, replica: &Replica, up: &Up, tail: &mut Tail) -> Down {
        let Some(container) = up.manifest.container() else { return Down::Over };
        let living = async {
            if let Err(words) = well(replica, container, &*up.running, up.begun.is_some()).await {
                return words;
            }
            let cold = up.begun.map_or(Duration::ZERO, |begun| begun.elapsed());
            replica.tell(State::Ready, "");
            if up.begun.is_some() {
                self.note_started(replica, &up.manifest, cold).await;
            }
            match &container.health {
                Some(health) => unwell(health, &*up.running).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            ended = up.running.ended() => Down::Ended(ended),
            () = replica.ended() => Down::Over,
            words = living => Down::Unwell(words),
            never = follow(replica, &*up.running, tail) => match never {},
        }
    }

    async fn note_started(&self, replica: &Replica, manifest: &Manifest, cold: Duration) {
        let cold_ms = u64::try_from(cold.as_millis()).unwrap_or(u64::MAX);
        replica.count_start(cold, String::new());
        tracing::info!(lease = replica.lease, app = manifest.name, cold_ms, "a container is ready");
        replica.print(&format!("host: started in {cold_ms} ms"));
        let fields = Fields::new().text("what", "started").uint("lease", replica.lease).uint("cold_ms", cold_ms);
        self.note(Kind::Lease, fields.bytes("workload", &replica.workload)).await;
    }
}

/// Whether one that ended so is started again.
fn is_restarted(restart: Restart, ended: Ended) -> bool {
    match restart {
        Restart::Always => true,
        Restart::OnFailure => ended.code != Some(0),
        Restart::Never => false,
    }
}

/// Waits until a container is well: its test passes, or it hears at its port, or it runs at all.
async fn well(replica: &Replica, container: &Container, running: &dyn Running, is_new: bool) -> Result<(), String> {
    let begun = Instant::now();
    let (mut pause, mut failures) = (TRY_EVERY, 0);
    loop {
        let words = match (&container.health, container.port) {
            (Some(health), _) => match test(health, running).await {
                Ok(()) => return Ok(()),
                Err(words) => {
                    let counts = begun.elapsed() >= Duration::from_millis(health.start_ms);
                    failures += u64::from(counts && is_new);
                    if failures >= health.retries {
                        return Err(words);
                    }
                    words
                }
            },
            (None, 0) => return Ok(()),
            (None, port) => match running.connect(port).await {
                Ok(_) => return Ok(()),
                Err(error) => format!("it does not hear at port {port} yet: {error}"),
            },
        };
        replica.tell(State::Starting, words);
        let longest = container.health.as_ref().map_or(TRY_EVERY_MAX, |health| Duration::from_millis(health.every_ms));
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(longest.max(TRY_EVERY));
    }
}

/// Resolves with why a container is unwell, once it was so often enough.
async fn unwell(health: &Health, running: &dyn Running) -> String {
    let mut failures = 0;
    loop {
        tokio::time::sleep(Duration::from_millis(health.every_ms)).await;
        match test(health, running).await {
            Ok(()) => failures = 0,
            Err(words) => {
                failures += 1;
                if failures >= health.retries {
                    return format!("{words}, {failures} times in a row");
                }
            }
        }
    }
}

async fn test(health: &Health, running: &dyn Running) -> Result<(), String> {
    let limit = Duration::from_millis(health.timeout_ms);
    match tokio::time::timeout(limit, running.test(health.test.clone())).await {
        Ok(Ok(0)) => Ok(()),
        Ok(Ok(code)) => Err(format!("its health test ended with exit code {code}")),
        Ok(Err(error)) => Err(format!("its health test did not run: {error}")),
        Err(_) => Err(format!("its health test took longer than {} ms", health.timeout_ms)),
    }
}

/// Reads what a container says and uses, as long as it runs.
async fn follow(replica: &Replica, running: &dyn Running, tail: &mut Tail) -> Infallible {
    let mut read = None;
    loop {
        say(replica, tail);
        if read.is_none_or(|last: Instant| last.elapsed() >= USAGE_EVERY) {
            read = Some(Instant::now());
            match running.usage() {
                Ok(usage) => {
                    replica.contained.count(usage);
                    replica.count_bytes(0, 0, usage.memory_peak_bytes);
                }
                Err(error) => tracing::warn!(lease = replica.lease, %error, "what a container uses is not known"),
            }
        }
        tokio::time::sleep(TAIL_EVERY).await;
    }
}

/// Takes into its log what a container said meanwhile, at most as much as is kept.
fn say(replica: &Replica, tail: &mut Tail) {
    match tail.more() {
        Ok(said) => replica.print_bytes(&said),
        Err(error) => tracing::warn!(lease = replica.lease, %error, "what a container said is not known"),
    }
}
