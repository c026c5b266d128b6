//! Bound what peers may ask of a node at once.
//!
//! Three limits, each with its policy when full: streams of one peer (the next waits, so that a client
//! that opens many is slowed, not refused), streams of all peers (BUSY), bytes received and not yet on disk
//! (BUSY). A place is given back when its guard is dropped, however the stream ended.

use hodei_types::transport::NodeKey;
use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Streams of one peer that may wait for a place; a further one is told BUSY.
const WAITING_MAX: usize = 64;

/// Counts streams, per peer and together.
#[derive(Clone, Debug)]
pub struct Gate {
    all: Arc<Semaphore>,
    peers: Arc<Mutex<BTreeMap<NodeKey, Arc<Peer>>>>,
    streams_max: usize,
    peer_streams_max: usize,
}

#[derive(Debug)]
struct Peer {
    free: Arc<Semaphore>,
    /// Streams that hold or wait for a place.
    present: AtomicU64,
}

/// A stream's place; dropping it lets the next one in.
#[derive(Debug)]
pub struct Place {
    _all: OwnedSemaphorePermit,
    _peer: OwnedSemaphorePermit,
    _presence: Presence,
}

#[derive(Debug)]
struct Presence {
    key: NodeKey,
    peer: Arc<Peer>,
    peers: Arc<Mutex<BTreeMap<NodeKey, Arc<Peer>>>>,
}

impl Gate {
    pub fn new(streams_max: usize, peer_streams_max: usize) -> Self {
        Self { all: Arc::new(Semaphore::new(streams_max)), peers: Arc::default(), streams_max, peer_streams_max }
    }

    /// Waits for a place among the peer's own; `None` when all places together are taken, or when too many
    /// of this peer's streams wait already.
    pub async fn enter(&self, key: NodeKey) -> Option<Place> {
        let presence = {
            let mut peers = self.peers.lock().unwrap_or_else(PoisonError::into_inner);
            let peer = peers.entry(key).or_insert_with(|| {
                Arc::new(Peer { free: Arc::new(Semaphore::new(self.peer_streams_max)), present: 0.into() })
            });
            let max = (self.peer_streams_max + WAITING_MAX) as u64;
            if peer.present.load(Ordering::Relaxed) >= max {
                return None;
            }
            peer.present.fetch_add(1, Ordering::Relaxed);
            Presence { key, peer: peer.clone(), peers: self.peers.clone() }
        };
        let of_peer = presence.peer.free.clone().acquire_owned().await.ok()?;
        let of_all = self.all.clone().try_acquire_owned().ok()?;
        Some(Place { _all: of_all, _peer: of_peer, _presence: presence })
    }

    /// Streams that hold a place.
    pub fn streams(&self) -> usize {
        self.streams_max.saturating_sub(self.all.available_permits())
    }

    /// Peers with streams now.
    pub fn peers(&self) -> usize {
        self.peers.lock().unwrap_or_else(PoisonError::into_inner).len()
    }
}

impl Drop for Presence {
    fn drop(&mut self) {
        // Counted under the lock, so that a peer is not forgotten while another of its streams enters.
        let mut peers = self.peers.lock().unwrap_or_else(PoisonError::into_inner);
        if self.peer.present.fetch_sub(1, Ordering::Relaxed) == 1 {
            peers.remove(&self.key);
        }
    }
}

/// Counts bytes received and not yet on disk.
#[derive(Clone, Debug)]
pub struct Queue(Arc<Counter>);

#[derive(Debug)]
struct Counter {
    bytes: AtomicU64,
    bytes_max: u64,
}

/// Bytes reserved in a [`Queue`] until dropped.
#[derive(Debug)]
pub struct Reserved {
    counter: Arc<Counter>,
    bytes: u64,
}

impl Queue {
    pub fn new(bytes_max: u64) -> Self {
        Self(Arc::new(Counter { bytes: 0.into(), bytes_max }))
    }

    /// Reserves room for a body before it is read; `None` means BUSY.
    pub fn reserve(&self, bytes: u64) -> Option<Reserved> {
        let add = |held: u64| held.checked_add(bytes).filter(|sum| *sum <= self.0.bytes_max);
        self.0.bytes.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add).ok()?;
        Some(Reserved { counter: self.0.clone(), bytes })
    }

    /// Bytes reserved now.
    pub fn bytes(&self) -> u64 {
        self.0.bytes.load(Ordering::Relaxed)
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        self.counter.bytes.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt;

    #[tokio::test]
    async fn one_peer_waits_while_others_enter() {
        let gate = Gate::new(3, 2);
        let (a, b) = (NodeKey([1; 32]), NodeKey([2; 32]));
        let first = gate.enter(a).await.unwrap();
        let _second = gate.enter(a).await.unwrap();
        let mut third = Box::pin(gate.enter(a));
        assert!((&mut third).now_or_never().is_none(), "a third stream of one peer waits");
        let other = gate.enter(b).await.expect("another peer is not held up");
        drop(first);
        let third = third.await.expect("a place came free");
        assert!(gate.enter(b).await.is_none(), "all three places are taken: BUSY");
        drop((third, other));
        assert!(gate.enter(b).await.is_some());
        assert_eq!(gate.peers(), 1, "peers without streams are forgotten");
    }

    #[tokio::test]
    async fn a_peer_cannot_queue_without_end() {
        let gate = Gate::new(10, 1);
        let key = NodeKey([1; 32]);
        let _held = gate.enter(key).await.unwrap();
        let mut waiting: Vec<_> = (0..WAITING_MAX).map(|_| Box::pin(gate.enter(key))).collect();
        for one in &mut waiting {
            assert!(one.now_or_never().is_none());
        }
        assert!(gate.enter(key).await.is_none(), "told BUSY at once");
        drop(waiting);
        assert_eq!(gate.peers(), 1);
        let mut again = Box::pin(gate.enter(key));
        assert!((&mut again).now_or_never().is_none(), "those who left made room to wait");
    }

    #[test]
    fn bytes_are_reserved_before_they_arrive() {
        let queue = Queue::new(100);
        let held = queue.reserve(60).unwrap();
        assert!(queue.reserve(41).is_none());
        assert!(queue.reserve(u64::MAX).is_none());
        let rest = queue.reserve(40).unwrap();
        drop(held);
        assert_eq!(queue.bytes(), 40);
        drop(rest);
        assert_eq!(queue.bytes(), 0);
    }
}
