//! Hold the container of a replica: what is asked of it at once, and what it used.

use super::runtime::{Running, Usage};
use crate::provider::lock;
use hodei_types::app::wire::Used;
use std::sync::{Arc, Mutex};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Requests that a container answers at once; a further one is told BUSY.
const REQUESTS_MAX: usize = 128;
/// Connections of other apps that stand at once; a further one is told BUSY.
const CONNECTIONS_MAX: usize = 256;

/// Of what its owner runs, carries and connects to inside at once.
const ENTRIES_MAX: usize = 32;

/// A replica's container, while there is one.
pub(super) struct Contained {
    running: Mutex<Option<Arc<dyn Running>>>,
    requests: Arc<Semaphore>,
    connections: Arc<Semaphore>,
    entries: Arc<Semaphore>,
    /// Of its volumes one is taken or filled at once: a listing is held in memory.
    volumes: Arc<Semaphore>,
    counted: Mutex<Counted>,
}

#[derive(Default)]
struct Counted {
    /// None before the first container.
    now: Option<Usage>,
    /// CPU time of those before this one.
    before_ns: u64,
    /// CPU time that went into the node's log, in milliseconds.
    noted_ms: u64,
}

impl Default for Contained {
    fn default() -> Self {
        Self {
            running: Mutex::default(),
            requests: Arc::new(Semaphore::new(REQUESTS_MAX)),
            connections: Arc::new(Semaphore::new(CONNECTIONS_MAX)),
            entries: Arc::new(Semaphore::new(ENTRIES_MAX)),
            volumes: Arc::new(Semaphore::new(1)),
            counted: Mutex::default(),
        }
    }
}

impl Contained {
    /// Takes the container that runs from now on.
    pub(super) fn set(&self, running: Arc<dyn Running>) {
        let mut counted = lock(&self.counted);
        counted.before_ns = counted.cpu_ns();
        counted.now = Some(Usage::default());
        *lock(&self.running) = Some(running);
    }

    /// Forgets the one that ended.
    pub(super) fn clear(&self) {
        *lock(&self.running) = None;
    }

    pub(super) fn running(&self) -> Option<Arc<dyn Running>> {
        lock(&self.running).clone()
    }

    /// A place for one request, if there is one.
    pub(super) fn request(&self) -> Option<OwnedSemaphorePermit> {
        self.requests.clone().try_acquire_owned().ok()
    }

    /// A place for one connection, if there is one.
    pub(super) fn connection(&self) -> Option<OwnedSemaphorePermit> {
        self.connections.clone().try_acquire_owned().ok()
    }

    /// A place for its owner inside, if there is one.
    pub(super) fn entry(&self) -> Option<OwnedSemaphorePermit> {
        self.entries.clone().try_acquire_owned().ok()
    }

    /// The turn to take or to fill a volume of it, if nobody else does.
    pub(super) fn volume(&self) -> Option<OwnedSemaphorePermit> {
        self.volumes.clone().try_acquire_owned().ok()
    }

    /// Takes what the kernel counted now.
    pub(super) fn count(&self, usage: Usage) {
        lock(&self.counted).now = Some(usage);
    }

    /// What all containers of the replica used, and the present one has.
    pub(super) fn used(&self) -> Option<Used> {
        let counted = lock(&self.counted);
        let now = counted.now?;
        let cpu_ms = counted.cpu_ns() / 1_000_000;
        Some(Used { cpu_ms, memory_bytes: now.memory_bytes, disk_bytes: now.disk_bytes })
    }

    /// Milliseconds of CPU since this was asked last, and what it has now; nothing where it was idle.
    pub(super) fn unnoted(&self) -> Option<Used> {
        let used = self.used()?;
        let mut counted = lock(&self.counted);
        let was = std::mem::replace(&mut counted.noted_ms, used.cpu_ms);
        (used.cpu_ms > was).then(|| Used { cpu_ms: used.cpu_ms - was, ..used })
    }
}

impl Counted {
    fn cpu_ns(&self) -> u64 {
        self.before_ns.saturating_add(self.now.unwrap_or_default().cpu_ns)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_time_is_counted_on_over_a_container_that_was_made_anew_and_noted_once() {
        let contained = Contained::default();
        assert_eq!((contained.used(), contained.unnoted()), (None, None));
        let usage = Usage { cpu_ns: 5_000_000, memory_bytes: 7, ..Usage::default() };
        contained.count(usage);
        {
            let mut counted = lock(&contained.counted);
            counted.before_ns = counted.cpu_ns();
        }
        contained.count(Usage { cpu_ns: 1_500_000, ..usage });
        let used = contained.used().unwrap();
        assert_eq!((used.cpu_ms, used.memory_bytes), (6, 7));
        assert_eq!(contained.unnoted().map(|used| used.cpu_ms), Some(6));
        assert_eq!(contained.unnoted(), None);
    }

    #[test]
    fn so_many_requests_are_asked_at_once_and_no_more() {
        let contained = Contained::default();
        let held: Vec<_> = std::iter::from_fn(|| contained.request()).collect();
        assert_eq!(held.len(), REQUESTS_MAX);
        drop(held);
        assert!(contained.request().is_some());
    }
}
