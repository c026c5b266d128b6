//! Remember how each provider did lately.
//!
//! One book per process: it bounds what is in flight towards a provider, leaves one that failed or fell silent alone for a
//! while, and tells who answers fastest, and who gave how much. Other readers that are asked are in it as providers are.

use super::{
    get::{LATE_MIN, LATE_TIMES},
    pool::{Permit, Pool},
    remote::RemoteError,
};
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
/// Who is asked and lets nothing be heard for so long, or for three times what it usually needs, is silent for the while.
const SILENT_MIN: Duration = Duration::from_millis(500);
/// Ranks of [`Peers::rank`]: asked like any, said that it is busy, was late or is silent, failed lately.
const BUSY: u8 = 1;
const LATE: u8 = 2;
const RESTS: u8 = 3;
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
    /// It said so itself.
    busy_until: Option<SystemTime>,
    /// It took no shard, and asked to be left alone until then.
    takes_from: Option<SystemTime>,
    /// When a put tries it again, to which it said that it is busy.
    waited_until: Option<SystemTime>,
    /// Questions under way, and since when nothing was heard while there were some.
    asked: u32,
    unheard: Option<SystemTime>,
    served: Option<Served>,
}

/// A question that finds out whether somebody is back: until when it was late, and is again for the while.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Probe {
    was_until: SystemTime,
    is_until: SystemTime,
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
        Self {
            slots: Pool::new(IN_FLIGHT),
            latency: LATENCY_FIRST,
            failures: 0,
            rests_until: None,
            late_until: None,
            busy_until: None,
            takes_from: None,
            waited_until: None,
            asked: 0,
            unheard: None,
            served: None,
        }
    }
}

impl Peer {
    /// After this time without a word it is silent.
    fn patience(&self) -> Duration {
        (self.latency * LATE_TIMES).max(SILENT_MIN)
    }

    fn is_silent(&self, now: SystemTime) -> bool {
        self.asked > 0 && self.unheard.is_some_and(|since| since + self.patience() <= now)
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
            peer.busy_until = None;
        });
    }

    /// It is asked something. One whose time of being late is over is late again till it answers: a single question finds
    /// out whether it is back.
    pub(super) fn began(&self, node: &NodeKey, now: SystemTime) -> Option<Probe> {
        self.with(node, |peer| {
            if peer.asked == 0 {
                peer.unheard = Some(now);
            }
            peer.asked += 1;
            let was_until = peer.late_until.filter(|until| *until <= now)?;
            let is_until = now + REST_MAX;
            peer.late_until = Some(is_until);
            Some(Probe { was_until, is_until })
        })
    }

    /// Something of an answer came.
    pub(super) fn heard(&self, node: &NodeKey, now: SystemTime) {
        self.with(node, |peer| peer.unheard = Some(now));
    }

    /// A question is under way no more; `is_heard`: there was an answer. What is known by it is told afterwards: to have
    /// been looked for is no fault.
    pub(super) fn ended(&self, node: &NodeKey, probe: Option<Probe>, is_heard: bool, now: SystemTime) {
        self.with(node, |peer| {
            peer.asked = peer.asked.saturating_sub(1);
            if let Some(probe) = probe.filter(|probe| peer.late_until == Some(probe.is_until)) {
                peer.late_until = Some(probe.was_until);
            }
            if is_heard {
                peer.unheard = Some(now);
            }
        });
    }

    /// It failed after this time: where that is long it is remembered as silent, beside its rest.
    pub(crate) fn lost(&self, node: &NodeKey, after: Duration, now: SystemTime) {
        self.failed(node, now);
        self.with(node, |peer| {
            if after >= peer.patience() {
                peer.late_until = Some(now + REST_MAX);
            }
        });
    }

    /// It did not give what it was asked for, after this time, and why.
    pub(crate) fn denied(&self, node: &NodeKey, error: &RemoteError, after: Duration, now: SystemTime) {
        if error.is_down() && !error.is_unpaid() || matches!(error, RemoteError::Lie(_)) {
            return self.lost(node, after, now);
        }
        self.back(node);
        if let (RemoteError::Busy { .. }, Some(wait)) = (error, error.passes_after()) {
            self.busy(node, wait, now);
        }
    }

    /// It answered something that is no shard: it is not silent any more.
    pub(crate) fn back(&self, node: &NodeKey) {
        self.with(node, |peer| peer.late_until = None);
    }

    /// It asked to be left alone for so long.
    fn busy(&self, node: &NodeKey, wait: Duration, now: SystemTime) {
        self.with(node, |peer| peer.busy_until = Some(now + wait));
    }

    /// Until when it asked to be left alone, if that is to come.
    pub(crate) fn busy_until(&self, node: &NodeKey, now: SystemTime) -> Option<SystemTime> {
        self.with(node, |peer| peer.busy_until.filter(|until| *until > now))
    }

    /// It was not waited for any longer after this time, since others answered; `quiet`: how long nothing of it came. Who
    /// is heard is only slow, and takes so long at least.
    pub(super) fn overtaken(&self, node: &NodeKey, after: Duration, quiet: Duration, now: SystemTime) {
        self.with(node, |peer| {
            if quiet >= (peer.latency * LATE_TIMES).max(LATE_MIN) {
                peer.late_until = Some(now + REST_MAX);
            } else if quiet < after && after > peer.latency {
                peer.latency = (peer.latency * 7 + after) / 8;
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

    /// It took no shard, and asked to be left alone for so long: it is, for a minute at most.
    pub(crate) fn refused(&self, node: &NodeKey, wait: Duration, now: SystemTime) {
        self.with(node, |peer| peer.takes_from = Some(now + wait.min(REST_MAX)));
    }

    /// It is busy, and a put that waits for it tries it again then.
    pub(crate) fn waited(&self, node: &NodeKey, until: SystemTime) {
        self.with(node, |peer| peer.waited_until = Some(until));
    }

    /// Whether a put waits for it since it said that it is busy.
    pub(crate) fn is_waited(&self, node: &NodeKey, now: SystemTime) -> bool {
        self.with(node, |peer| peer.waited_until.is_some_and(|until| until >= now))
    }

    /// Whether it is to be left alone with new shards now.
    pub(crate) fn takes_later(&self, node: &NodeKey, now: SystemTime) -> bool {
        self.with(node, |peer| peer.takes_from.is_some_and(|from| from > now))
    }

    /// Whether it failed so lately that others should be asked first.
    pub fn rests(&self, node: &NodeKey, now: SystemTime) -> bool {
        self.with(node, |peer| peer.rests_until.is_some_and(|until| until > now))
    }

    /// By whom to read first, least first: who failed lately is asked after all others, who was late last time, or is asked
    /// and silent just now, after those who were not. Nothing is placed by it: to be late once is no reason to get less.
    pub(crate) fn rank(&self, node: &NodeKey, now: SystemTime) -> u8 {
        let is_ahead = |until: Option<SystemTime>| until.is_some_and(|until| until > now);
        self.with(node, |peer| match peer {
            _ if is_ahead(peer.rests_until) => RESTS,
            _ if is_ahead(peer.late_until) || peer.is_silent(now) => LATE,
            _ if is_ahead(peer.busy_until) => BUSY,
            _ => 0,
        })
    }

    /// Whether it is to be asked only where nobody else will do: it failed, was late or is silent.
    pub fn is_late(&self, node: &NodeKey, now: SystemTime) -> bool {
        self.rank(node, now) >= LATE
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
    use super::{
        super::asked::{Asked, Pulse},
        *,
    };
    use commonware_runtime::{Clock as _, Runner as _, deterministic};

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
    fn who_takes_nothing_for_a_while_is_left_alone_with_shards_and_read_from_as_before() {
        let (peers, node, now) = (Peers::default(), NodeKey([1; 32]), SystemTime::UNIX_EPOCH);
        peers.refused(&node, REST, now);
        assert_eq!((peers.takes_later(&node, now), peers.rank(&node, now)), (true, 0));
        peers.succeeded(&node, Duration::from_millis(1));
        assert!(peers.takes_later(&node, now), "that it gives does not say that it takes");
        assert!(!peers.takes_later(&node, now + REST));
        peers.refused(&node, REST_MAX * 9, now);
        assert!(!peers.takes_later(&node, now + REST_MAX), "however long it said");
        peers.waited(&node, now + REST);
        assert_eq!([now, now + REST * 2].map(|at| peers.is_waited(&node, at)), [true, false]);
    }

    #[test]
    fn who_was_overtaken_is_read_from_after_others_until_it_answers_and_gets_no_less() {
        let (peers, node, now) = (Peers::default(), NodeKey([1; 32]), SystemTime::UNIX_EPOCH);
        let overtaken = |after: u32, quiet: u32| {
            peers.overtaken(&node, after * LATENCY_FIRST, quiet * LATENCY_FIRST, now);
        };
        overtaken(2, 2);
        assert_eq!((peers.rank(&node, now), peers.latency(&node)), (0, LATENCY_FIRST), "it is not late");
        overtaken(9, 1);
        assert_eq!((peers.rank(&node, now), peers.latency(&node)), (0, 2 * LATENCY_FIRST), "bytes came: it is slow");
        overtaken(8, 8);
        assert_eq!((peers.rank(&node, now), peers.rests(&node, now)), (LATE, false));
        assert_eq!(peers.rank(&node, now + REST_MAX), 0, "it gets another chance");
        peers.failed(&node, now);
        assert_eq!(peers.rank(&node, now), RESTS);
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
            assert_eq!(nodes.map(|node| peers.rank(&node, context.current())), [LATE, 0]);
        });
    }

    #[test]
    fn who_is_asked_and_silent_is_late_at_once_and_one_question_finds_out_whether_it_is_back() {
        deterministic::Runner::default().start(|context| async move {
            let (peers, node) = (Peers::default(), NodeKey([1; 32]));
            let rank = || peers.rank(&node, context.current());
            let first = Asked::new(&peers, &context, node);
            context.sleep(SILENT_MIN / 2).await;
            assert_eq!(Asked::new(&peers, &context, node).answered(), Duration::ZERO);
            context.sleep(SILENT_MIN / 2).await;
            assert_eq!(rank(), 0, "it was heard in between");
            context.sleep(SILENT_MIN).await;
            assert_eq!(rank(), LATE, "while it is asked, and before anybody gives it up");
            drop(first);
            context.sleep(REST_MAX).await;
            assert_eq!(rank(), 0, "it gets another chance");
            let probe = Asked::new(&peers, &context, node);
            assert_eq!(rank(), LATE, "which is one question");
            probe.answered();
            peers.succeeded(&node, Duration::from_millis(1));
            assert_eq!(rank(), 0);
            peers.lost(&node, Duration::from_secs(2), context.current());
            context.sleep(REST).await;
            assert_eq!(rank(), LATE, "who said nothing is remembered beyond its rest");
            peers.succeeded(&node, Duration::from_millis(1));
            peers.lost(&node, Duration::ZERO, context.current());
            context.sleep(REST).await;
            assert_eq!(rank(), 0, "who refused at once is not");
            peers.busy(&node, REST, context.current());
            assert_eq!((rank(), peers.is_late(&node, context.current())), (BUSY, false));
            context.sleep(REST).await;
            assert_eq!((rank(), peers.busy_until(&node, context.current())), (0, None));
        });
    }

    #[test]
    fn a_question_that_looks_whether_somebody_is_back_does_it_no_harm_when_it_is_dropped_or_answered() {
        deterministic::Runner::default().start(|context| async move {
            let (peers, node) = (Peers::default(), NodeKey([1; 32]));
            let rank = || peers.rank(&node, context.current());
            peers.lost(&node, REST_MAX, context.current());
            context.sleep(REST_MAX).await;
            let probe = Asked::new(&peers, &context, node);
            assert_eq!(rank(), LATE);
            drop(probe);
            assert_eq!(rank(), 0, "nobody waited for it");
            for (error, expected) in [
                (RemoteError::Gone, 0),
                (RemoteError::Busy { retry_after_ms: 500 }, BUSY),
                (RemoteError::Slow(REST), RESTS),
            ] {
                peers.lost(&node, REST_MAX, context.current());
                context.sleep(REST_MAX).await;
                let probe = Asked::new(&peers, &context, node);
                context.sleep(SILENT_MIN).await;
                peers.denied(&node, &error, probe.answered(), context.current());
                assert_eq!(rank(), expected, "{error}");
                context.sleep(REST_MAX).await;
            }
        });
    }

    #[test]
    fn who_is_heard_in_the_middle_of_an_answer_is_not_silent() {
        deterministic::Runner::default().start(|context| async move {
            let (peers, node) = (Peers::default(), NodeKey([1; 32]));
            let pulse = Pulse::new(&peers, node);
            assert_eq!(pulse.last(), None);
            let asked = Asked::of(&pulse, &context);
            assert_eq!(pulse.last(), Some(context.current()));
            for _ in 0..4 {
                context.sleep(SILENT_MIN * 3 / 4).await;
                pulse.beat(context.current());
                assert_eq!(peers.rank(&node, context.current()), 0);
            }
            drop(asked);
            assert_eq!(peers.rank(&node, context.current()), 0, "nor late where it is not waited for");
            assert!(peers.latency(&node) > LATENCY_FIRST, "it takes its time");
        });
    }
}
