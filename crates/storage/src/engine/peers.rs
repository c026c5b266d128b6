//! Remember how each provider did lately.
//!
//! One book per process: it bounds what is in flight towards a provider, leaves one that failed alone for a
//! while, and tells who answers fastest, and who gave how much.

use super::pool::{Permit, Pool};
use hodei_types::transport::NodeKey;
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::{Duration, SystemTime},
};

/// Shards in flight towards one provider: one on the wire, others in its group commit.
const IN_FLIGHT: u64 = 4;
/// A provider that failed is not asked again for this long, doubled each time.
const REST: Duration = Duration::from_secs(2);
const REST_MAX: Duration = Duration::from_secs(60);
/// What an unknown provider is taken to need, so that it gets its chance.
const LATENCY_FIRST: Duration = Duration::from_millis(20);
/// Providers remembered; beyond it the book starts anew.
const PEERS_MAX: usize = 8192;

#[derive(Debug)]
struct Peer {
    slots: Pool,
    latency: Duration,
    failures: u32,
    rests_until: Option<SystemTime>,
    served: Option<Served>,
}

/// What a provider gave so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Served {
    /// Answers with bytes that were right.
    pub reads: u64,
    pub bytes: u64,
    /// The fastest of them, from asking to the last byte.
    pub fastest: Duration,
}

impl Default for Peer {
    fn default() -> Self {
        Self { slots: Pool::new(IN_FLIGHT), latency: LATENCY_FIRST, failures: 0, rests_until: None, served: None }
    }
}

/// What is known of providers; clones share it.
#[derive(Clone, Debug, Default)]
pub struct Peers(Arc<Mutex<BTreeMap<NodeKey, Peer>>>);

impl Peers {
    fn with<R>(&self, node: &NodeKey, f: impl FnOnce(&mut Peer) -> R) -> R {
        let mut peers = self.0.lock().expect("no panic under this lock");
        if peers.len() >= PEERS_MAX && !peers.contains_key(node) {
            peers.clear();
        }
        f(peers.entry(*node).or_default())
    }

    /// Waits for a free slot towards a provider.
    pub(crate) async fn slot(&self, node: &NodeKey) -> Permit {
        let slots = self.with(node, |peer| peer.slots.clone());
        slots.take(1).await
    }

    pub(crate) fn succeeded(&self, node: &NodeKey, took: Duration) {
        self.with(node, |peer| {
            peer.latency = (peer.latency * 7 + took) / 8;
            peer.failures = 0;
            peer.rests_until = None;
        });
    }

    pub(crate) fn failed(&self, node: &NodeKey, now: SystemTime) {
        self.with(node, |peer| {
            // Failures of requests that were under way together count as one.
            if peer.rests_until.is_some_and(|until| until > now) {
                return;
            }
            let rest = (REST * 2u32.saturating_pow(peer.failures)).min(REST_MAX);
            peer.failures = (peer.failures + 1).min(16);
            peer.rests_until = Some(now + rest);
        });
    }

    /// Somebody says that it is likely away: who was never heard of is asked after the others for a while.
    pub fn doubt(&self, node: &NodeKey, now: SystemTime) {
        self.with(node, |peer| {
            if peer.latency == LATENCY_FIRST && peer.failures == 0 {
                peer.failures = 1;
                peer.rests_until = Some(now + REST_MAX);
            }
        });
    }

    /// Whether it failed so lately that others should be asked first.
    pub fn rests(&self, node: &NodeKey, now: SystemTime) -> bool {
        self.with(node, |peer| peer.rests_until.is_some_and(|until| until > now))
    }

    /// It gave bytes, which were checked.
    pub(crate) fn gave(&self, node: &NodeKey, bytes: u64, took: Duration) {
        self.with(node, |peer| {
            let served = peer.served.get_or_insert(Served { reads: 0, bytes: 0, fastest: took });
            served.reads += 1;
            served.bytes += bytes;
            served.fastest = served.fastest.min(took);
        });
    }

    /// What it gave so far; `None` if nothing.
    pub fn served(&self, node: &NodeKey) -> Option<Served> {
        self.0.lock().expect("no panic under this lock").get(node)?.served
    }

    /// Smoothed time of its answers.
    pub fn latency(&self, node: &NodeKey) -> Duration {
        self.with(node, |peer| peer.latency)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failing_provider_rests_longer_each_time_and_is_forgiven_at_once() {
        let (peers, node) = (Peers::default(), NodeKey([1; 32]));
        let start = SystemTime::UNIX_EPOCH;
        let at = |secs| start + Duration::from_secs(secs);
        peers.failed(&node, at(0));
        peers.failed(&node, at(1));
        assert!(peers.rests(&node, at(1)) && !peers.rests(&node, at(2)), "one rest of 2 s for both");
        peers.failed(&node, at(2));
        assert!(peers.rests(&node, at(5)) && !peers.rests(&node, at(6)), "the next is 4 s");
        peers.failed(&node, at(6));
        peers.succeeded(&node, Duration::from_millis(1));
        assert!(!peers.rests(&node, at(6)));
        assert!(peers.latency(&node) < LATENCY_FIRST);
        peers.doubt(&node, at(7));
        assert!(!peers.rests(&node, at(7)), "what was seen counts for more than what is said");
        peers.gave(&node, 10, Duration::from_millis(7));
        peers.gave(&node, 5, Duration::from_millis(3));
        let fastest = Duration::from_millis(3);
        assert_eq!(peers.served(&node), Some(Served { reads: 2, bytes: 15, fastest }));
        let other = NodeKey([2; 32]);
        assert_eq!(peers.served(&other), None);
        peers.doubt(&other, at(7));
        assert!(peers.rests(&other, at(8)));
        peers.succeeded(&other, Duration::from_millis(1));
        assert!(!peers.rests(&other, at(8)));
    }
}
