//! Run a device's node on a thread of its own inside the app.

use crate::{
    caps::{Caps, Conditions},
    fault::DeviceFault,
    files::{Files, Kept},
    minder,
};
use commonware_runtime::{
    Runner as _,
    tokio::{Config as Runtime, Runner},
};
use hodei_node::pool::{Answer, AskError, Request, Standing, Word};
use std::{
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc},
    thread::JoinHandle,
    time::{Duration, Instant},
};
use tokio::sync::{mpsc as queue, oneshot};

/// One does the work: a phone has better things to do.
const WORKERS: usize = 1;
/// Disk and names; each may keep a stack and an arena of memory.
const BLOCKING_THREADS_MAX: usize = 4;
/// So long an app waits for what is left to be sent back; a ledger that is out of reach would keep it for ever.
const GIVE_BACK_MAX: Duration = Duration::from_secs(120);
/// Wishes of the app that wait.
const WISHES_MAX: usize = 16;

/// What the app wants of the running node.
pub(crate) enum Wish {
    Ask(Request, mpsc::Sender<Result<Answer, AskError>>),
    /// What the account did not burn goes back to the publisher.
    GiveBack(mpsc::Sender<()>),
}

/// What the app and the node's thread tell each other.
#[derive(Default)]
pub(crate) struct Shared {
    /// Held while the device's file is changed.
    pub(crate) writing: Mutex<()>,
    pub(crate) caps: Mutex<Option<Caps>>,
    pub(crate) conditions: Mutex<Option<Conditions>>,
    pub(crate) live: Mutex<Live>,
}

/// What a running node is like.
#[derive(Clone, Debug, Default)]
pub(crate) struct Live {
    pub(crate) pledged_bytes: u64,
    pub(crate) held_bytes: u64,
    pub(crate) today_bytes: u64,
    pub(crate) rest: Option<String>,
    /// What is wrong with it, besides rest.
    pub(crate) ill: Option<String>,
    pub(crate) standing: Option<Standing>,
    pub(crate) answered: Option<Instant>,
    pub(crate) ended: Option<String>,
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Whole values are put under these locks, so a poisoned one holds nothing half made.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A node that runs.
pub(crate) struct Process {
    thread: Option<JoinHandle<()>>,
    stop: Option<oneshot::Sender<()>>,
    wishes: queue::Sender<Wish>,
}

impl Process {
    /// Starts it, and returns when it answers.
    pub(crate) fn start(files: &Files, kept: &Kept, word: Word, shared: Arc<Shared>) -> Result<Self, DeviceFault> {
        let home = files.home()?;
        // Told at once where another process has it: the runtime would wait for that one to end.
        drop(home.lock()?);
        let config = kept.config(files, &word, kept.place(&word));
        config.check()?;
        let (started, ready) = mpsc::channel();
        let (stop, stopped) = oneshot::channel();
        let (wishes, wished) = queue::channel(WISHES_MAX);
        let files = files.clone();
        *lock(&shared.live) = Live::default();
        let work = move || {
            let storage = home.store();
            in_runtime(storage, |context| async move {
                match hodei_node::start(context, home, config).await {
                    Err(error) => _ = started.send(Err(DeviceFault::from(error))),
                    Ok(running) => {
                        _ = started.send(running.publish(None).map_err(DeviceFault::from));
                        minder::mind(running, files, word, shared, wished, stopped).await;
                    }
                }
            });
        };
        let thread = std::thread::Builder::new()
            .name("hodei-device".into())
            .spawn(work)
            .map_err(|error| DeviceFault::Start(error.to_string()))?;
        match ready.recv() {
            Ok(Ok(())) => Ok(Self { thread: Some(thread), stop: Some(stop), wishes }),
            Ok(Err(error)) => {
                _ = thread.join();
                Err(error)
            }
            Err(_) => {
                _ = thread.join();
                Err(DeviceFault::Start("the node's thread ended".into()))
            }
        }
    }

    pub(crate) fn is_running(&self) -> bool {
        self.thread.as_ref().is_some_and(|thread| !thread.is_finished())
    }

    /// Its ear, which may be held longer than the node lives.
    pub(crate) fn ear(&self) -> Ear {
        Ear(self.wishes.clone())
    }
}

/// Takes wishes to a node that runs, or did.
pub(crate) struct Ear(queue::Sender<Wish>);

impl Ear {
    /// Asks the pool through the node's own link.
    pub(crate) fn ask(&self, request: Request) -> Result<Answer, DeviceFault> {
        let (answer, answered) = mpsc::channel();
        let away = || DeviceFault::Away("the device has just stopped: start it again".into());
        self.0.blocking_send(Wish::Ask(request, answer)).map_err(|_| away())?;
        Ok(answered.recv().map_err(|_| away())??)
    }

    pub(crate) fn give_back(&self) {
        let (done, is_done) = mpsc::channel();
        if self.0.blocking_send(Wish::GiveBack(done)).is_ok() {
            _ = is_done.recv_timeout(GIVE_BACK_MAX);
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Some(stop) = self.stop.take() {
            _ = stop.send(());
        }
        if let Some(thread) = self.thread.take() {
            _ = thread.join();
        }
    }
}

/// The one place this library starts a runtime.
fn in_runtime<T, F: Future<Output = T>>(
    storage: PathBuf,
    work: impl FnOnce(commonware_runtime::tokio::Context) -> F,
) -> T {
    let config = Runtime::new()
        .with_storage_directory(storage)
        .with_worker_threads(WORKERS)
        .with_max_blocking_threads(BLOCKING_THREADS_MAX);
    Runner::new(config).start(work)
}

/// Asks the pool while no node runs.
pub(crate) fn ask_once(files: &Files, word: &Word, request: Request) -> Result<Answer, DeviceFault> {
    let home = files.home()?;
    let _lock = home.lock()?;
    let secret = *hodei_node::keys::Keys::open(&home)?.node.bytes();
    let door = word.door.clone();
    // A thread of its own: the app's may have a runtime already.
    let asking = std::thread::spawn(move || {
        in_runtime(home.store(), |_| async move { hodei_node::pool::ask_once(secret, &door, &request).await })
    });
    match asking.join() {
        Ok(answer) => Ok(answer?),
        Err(_) => Err(DeviceFault::Start("the thread that asked the pool ended".into())),
    }
}
