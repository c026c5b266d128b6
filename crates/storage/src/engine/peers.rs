//! Remember how each provider did lately.
//!
//! One book per process: it bounds what is in flight towards a provider, leaves one that failed alone for a
//! while, and tells who answers fastest, and who gave how much.

use super::{
    get::{LATE_MIN, LATE_TIMES},
    pool::{Permit, Pool},
};
use commonware_runtime::Clock;
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
    /// Others answered before it did, when it was asked last: until then they are asked first.
    late_until: Option<SystemTime>,
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
        let (latency, failures) = (LATENCY_FIRST, 0);
        Self { slots: Pool::new(IN_FLIGHT), latency, failures, rests_until: None, late_until: None, served: None }
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
            peer.late_until = None;
        });
    }

    /// It was not waited for any longer after this time, since others answered.
    fn overtaken(&self, node: &NodeKey, after: Duration, now: SystemTime) {
        self.with(node, |peer| {
            if after >= (peer.latency * LATE_TIMES).max(LATE_MIN) {
                peer.late_until = Some(now + REST_MAX);
            }
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

    /// Whether it failed so lately that others should be asked first.
    pub fn rests(&self, node: &NodeKey, now: SystemTime) -> bool {
        self.with(node, |peer| peer.rests_until.is_some_and(|until| until > now))
    }

    /// By whom to read first, least first: who failed lately is asked after all others, who was late last time
    /// after those who were not. Nothing is placed by it: to be late once is no reason to get less.
    pub(crate) fn rank(&self, node: &NodeKey, now: SystemTime) -> u8 {
        self.with(node, |peer| match peer.rests_until {
            Some(until) if until > now => 2,
            _ => peer.late_until.is_some_and(|until| until > now).into(),
        })
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

/// A question under way. Dropped without an answer, it tells that others were faster.
pub(crate) struct Asked<'a, C: Clock> {
    peers: &'a Peers,
    context: &'a C,
    node: NodeKey,
    start: SystemTime,
    is_answered: bool,
}

impl<'a, C: Clock> Asked<'a, C> {
    pub(crate) fn new(peers: &'a Peers, context: &'a C, node: NodeKey) -> Self {
        Self { peers, context, node, start: context.current(), is_answered: false }
    }

    /// There is an answer, whatever it says; how long it took.
    pub(crate) fn answered(mut self) -> Duration {
        self.is_answered = true;
        self.took()
    }

    fn took(&self) -> Duration {
        self.context.current().duration_since(self.start).unwrap_or_default()
    }
}

impl<C: Clock> Drop for Asked<'_, C> {
    fn drop(&mut self) {
        if !self.is_answered {
            self.peers.overtaken(&self.node, self.took(), self.context.current());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use commonware_runtime::{Runner as _, deterministic};

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
        peers.gave(&node, 10, Duration::from_millis(7));
        peers.gave(&node, 5, Duration::from_millis(3));
        let fastest = Duration::from_millis(3);
        assert_eq!(peers.served(&node), Some(Served { reads: 2, bytes: 15, fastest }));
        assert_eq!(peers.served(&NodeKey([2; 32])), None);
    }

    #[test]
    fn who_was_overtaken_is_read_from_after_others_until_it_answers_and_gets_no_less() {
        let (peers, node, now) = (Peers::default(), NodeKey([1; 32]), SystemTime::UNIX_EPOCH);
        peers.overtaken(&node, 2 * LATENCY_FIRST, now);
        assert_eq!(peers.rank(&node, now), 0, "others were faster, and it is not late");
        peers.overtaken(&node, 4 * LATENCY_FIRST, now);
        assert_eq!((peers.rank(&node, now), peers.rests(&node, now)), (1, false));
        assert_eq!(peers.rank(&node, now + REST_MAX), 0, "it gets another chance");
        peers.failed(&node, now);
        assert_eq!(peers.rank(&node, now), 2);
        peers.succeeded(&node, Duration::from_millis(1));
        assert_eq!(peers.rank(&node, now), 0);
    }

    #[test]
    fn a_question_that_is_dropped_tells_of_it_and_one_that_is_answered_does_not() {
        deterministic::Runner::default().start(|context| async move {
            let (peers, nodes) = (Peers::default(), [1, 2].map(|node| NodeKey([node; 32])));
            let asked = nodes.map(|node| Asked::new(&peers, &context, node));
            context.sleep(Duration::from_secs(1)).await;
            let [dropped, answered] = asked;
            drop(dropped);
            assert_eq!(answered.answered(), Duration::from_secs(1));
            assert_eq!(nodes.map(|node| peers.rank(&node, context.current())), [1, 0]);
        });
    }
}
