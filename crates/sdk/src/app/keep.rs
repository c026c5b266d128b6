//! Decide what keeps an app's replicas running: pure, with time as an argument.
//!
//! ```text
//! look ─ ready ─────────────────────────────► routed to
//!      ─ waiting ───────────────────────────► given its component
//!      ─ missed, or gone ─ third in a row ──► lost: ended, and one more ordered elsewhere
//! ```
//! A host that follows the ledger knows a lease a block later than we do: for half a minute it may be gone.
//! Upon the third look in a row that a replica's host misses, nothing is routed to it, its lease is ended so that paying
//! stops, and an order for what its lease had left is made that keeps away from its host and from those that have the
//! app's other replicas. A lease that its host ended before its time is made up for the same way; one whose escrow is
//! over is not. Where every host of several misses a look, it may be this machine that is cut off: then it takes fifteen
//! looks in a row instead of three. A component that fails, fails elsewhere too: it is not placed again. Orders that find nothing are tried
//! again after twice the time, to five minutes.

use hodei_types::{
    app::wire::State,
    market::{EXCLUDE_MAX, LEASE_SECS_MIN},
    transport::NodeKey,
};
use std::collections::{BTreeMap, BTreeSet};

/// Looks in a row that a host may not miss.
pub(super) const MISSES_MAX: u32 = 3;
/// The same where no host of several answers: half a minute of a line that is down here costs nobody his lease.
const BLIND_MISSES_MAX: u32 = 15;
/// A host that lost a replica is kept away from for so long.
const AWAY_MS: u64 = 3_600_000;
/// Compiling the largest component takes four minutes at most.
const START_MS: u64 = 360_000;
/// A host may not know a lease yet for so long.
const NEW_MS: u64 = 30_000;
/// Before a further order after one that found nothing, doubled each time.
const PAUSE_MS: u64 = 5_000;
const PAUSE_MS_MAX: u64 = 300_000;
/// What the ledger's time and ours may differ by without a lease's end being early.
pub(super) const EARLY_MS: u64 = 30_000;

/// How a look went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Sight {
    Seen(State),
    /// Its host knows of no such lease.
    Gone,
    /// It answers, and has no time for a look.
    Busy,
    Missed,
}

/// A lease that runs by the ledger, and how the last look at it went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) lease: u64,
    pub(super) node: NodeKey,
    /// When its escrow ends, in milliseconds since 1970.
    pub(super) until_ms: u64,
    pub(super) sight: Sight,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Act {
    /// Hand over the component.
    Give { lease: u64 },
    /// Say what is on its volumes.
    Fill { lease: u64 },
    /// End a lease whose replica is lost.
    End { lease: u64 },
    /// Order replicas for so many seconds, on none of these hosts; they are in rising order.
    Order { replicas: u8, secs: u64, exclude: Vec<NodeKey> },
}

#[derive(Clone, Debug)]
struct Watched {
    node: NodeKey,
    until_ms: u64,
    misses: u32,
    /// Times its host did not take the component.
    refusals: u32,
    first_ms: u64,
    /// Not ready since then.
    starting_ms: Option<u64>,
    is_lost: bool,
    /// What it runs is on its way to it.
    is_giving: bool,
    /// Times that its host said it had it all.
    taken: u32,
}

/// What is remembered of one app's replicas.
#[derive(Clone, Debug, Default)]
pub(super) struct Keep {
    watched: BTreeMap<u64, Watched>,
    /// Hosts to keep away from, until when.
    away: BTreeMap<NodeKey, u64>,
    /// Ends of leases that are to be made up for.
    owed: Vec<u64>,
    tries: u32,
    next_ms: u64,
}

impl Keep {
    /// Whether requests may go there.
    pub(super) fn is_routed(&self, lease: u64) -> bool {
        self.watched.get(&lease).is_some_and(|watched| !watched.is_lost)
    }

    /// Takes in a round of looks at all leases that run, and says what to do for an app that is to have so many replicas,
    /// on different hosts or not.
    pub(super) fn step(&mut self, now_ms: u64, (wanted, is_spread): (u8, bool), seen: &[Seen]) -> Vec<Act> {
        self.away.retain(|_, until_ms| *until_ms > now_ms);
        self.forget_ended(now_ms, seen);
        let is_blind = seen.len() > 1 && seen.iter().all(|one| one.sight == Sight::Missed);
        let misses_max = if is_blind { BLIND_MISSES_MAX } else { MISSES_MAX };
        let mut acts = Vec::new();
        for one in seen {
            let lease = one.lease;
            let watched = self.watched.entry(lease).or_insert_with(|| Watched {
                node: one.node,
                until_ms: one.until_ms,
                misses: 0,
                refusals: 0,
                first_ms: now_ms,
                starting_ms: Some(now_ms),
                is_lost: false,
                is_giving: false,
                taken: 0,
            });
            watched.until_ms = one.until_ms;
            let is_new = now_ms.saturating_sub(watched.first_ms) < NEW_MS;
            let wants = one.sight == Sight::Seen(State::Waiting) || one.sight == Sight::Gone && is_new;
            if one.sight != Sight::Gone || !is_new {
                watched.look(now_ms, &one.sight);
            }
            if (watched.misses >= misses_max || watched.refusals >= MISSES_MAX) && !watched.is_lost {
                watched.is_lost = true;
                self.away.insert(one.node, now_ms.saturating_add(AWAY_MS));
                self.owed.push(one.until_ms);
            }
            if watched.is_lost {
                acts.push(Act::End { lease });
            } else if wants {
                acts.push(Act::Give { lease });
            } else if one.sight == Sight::Seen(State::Restoring) {
                acts.push(Act::Fill { lease });
            }
        }
        acts.extend(self.order(now_ms, (wanted, is_spread), seen));
        acts
    }

    /// What a host is to run is being handed over: until it has it, nobody starts anything.
    pub(super) fn giving(&mut self, lease: u64) {
        if let Some(watched) = self.watched.get_mut(&lease) {
            watched.is_giving = true;
        }
    }

    /// What became of a component that was handed over.
    pub(super) fn gave(&mut self, now_ms: u64, lease: u64, is_taken: bool) {
        if let Some(watched) = self.watched.get_mut(&lease) {
            let is_new = now_ms.saturating_sub(watched.first_ms) < NEW_MS;
            watched.is_giving = false;
            watched.taken = watched.taken.saturating_add(is_taken.into());
            // Once: a host that takes it again and again starts nothing.
            if is_taken && watched.taken == 1 {
                watched.starting_ms = Some(now_ms);
            }
            watched.refusals = if is_taken || is_new { 0 } else { watched.refusals + 1 };
        }
    }

    /// What became of the last order that was made.
    pub(super) fn ordered(&mut self, now_ms: u64, is_filled: bool) {
        if is_filled {
            (self.tries, self.next_ms) = (0, now_ms);
            self.owed.clear();
        } else {
            let pause = PAUSE_MS.saturating_mul(1 << self.tries.min(16)).min(PAUSE_MS_MAX);
            self.tries += 1;
            self.next_ms = now_ms.saturating_add(pause);
        }
    }

    /// Leases that run no more: those that ended early are to be made up for.
    fn forget_ended(&mut self, now_ms: u64, seen: &[Seen]) {
        let running: BTreeSet<u64> = seen.iter().map(|one| one.lease).collect();
        let ended: Vec<u64> = self.watched.keys().filter(|lease| !running.contains(lease)).copied().collect();
        for lease in ended {
            let Some(watched) = self.watched.remove(&lease) else { continue };
            if !watched.is_lost && watched.until_ms > now_ms.saturating_add(EARLY_MS) {
                self.away.insert(watched.node, now_ms.saturating_add(AWAY_MS));
                self.owed.push(watched.until_ms);
            }
        }
    }

    /// An order for what is missing, for as long as what it makes up for, or its others, had left.
    fn order(&mut self, now_ms: u64, (wanted, is_spread): (u8, bool), seen: &[Seen]) -> Option<Act> {
        let lives: Vec<&Watched> = self.watched.values().filter(|watched| !watched.is_lost).collect();
        let missing = usize::from(wanted).saturating_sub(lives.len());
        if missing == 0 {
            self.owed.clear();
            return None;
        }
        if now_ms < self.next_ms {
            return None;
        }
        let others = seen.iter().map(|one| one.until_ms);
        let until_ms = self.owed.iter().copied().max().or_else(|| others.max())?;
        let secs = until_ms.saturating_sub(now_ms) / 1000;
        if secs < LEASE_SECS_MIN {
            return None;
        }
        // Those that lost a replica last come first, where there are too many to name.
        let mut away: Vec<(u64, NodeKey)> = self.away.iter().map(|(node, until_ms)| (*until_ms, *node)).collect();
        away.sort_unstable_by(|left, right| right.cmp(left));
        let hosts = lives.iter().filter(|_| is_spread).map(|watched| watched.node);
        let named: BTreeSet<NodeKey> = away.into_iter().map(|(_, node)| node).chain(hosts).take(EXCLUDE_MAX).collect();
        Some(Act::Order { replicas: missing.min(64) as u8, secs, exclude: named.into_iter().collect() })
    }
}

impl Watched {
    fn look(&mut self, now_ms: u64, sight: &Sight) {
        match sight {
            Sight::Busy => self.misses = 0,
            Sight::Missed | Sight::Gone => self.misses = self.misses.saturating_add(1),
            // Who waits for its owner is not late.
            Sight::Seen(State::Ready | State::Failed | State::Asleep | State::Warm | State::Restoring) => {
                (self.misses, self.starting_ms) = (0, None)
            }
            Sight::Seen(State::Waiting | State::Compiling | State::Starting) => {
                if self.is_giving && self.taken == 0 {
                    self.starting_ms = Some(now_ms);
                }
                let since_ms = *self.starting_ms.get_or_insert(now_ms);
                // One that never becomes ready is as good as away.
                self.misses = if now_ms.saturating_sub(since_ms) > START_MS { MISSES_MAX } else { 0 };
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const UNTIL_MS: u64 = 1_000_000;

    fn seen(lease: u64, sight: Sight) -> Seen {
        Seen { lease, node: NodeKey([lease as u8; 32]), until_ms: UNTIL_MS, sight }
    }

    fn ready(lease: u64) -> Seen {
        seen(lease, Sight::Seen(State::Ready))
    }

    fn keys<const N: usize>(leases: [u8; N]) -> Vec<NodeKey> {
        leases.map(|lease| NodeKey([lease; 32])).into()
    }

    #[test]
    fn a_replica_that_misses_three_looks_in_a_row_is_ended_and_placed_elsewhere() {
        let mut keep = Keep::default();
        let missed = || [ready(1), ready(2), seen(3, Sight::Missed)];
        assert_eq!(keep.step(0, (3, true), &missed()), []);
        assert_eq!(keep.step(2_000, (3, true), &missed()), []);
        assert!(keep.is_routed(3));
        let acts = keep.step(4_000, (3, true), &missed());
        let order = Act::Order { replicas: 1, secs: 996, exclude: keys([1, 2, 3]) };
        assert_eq!(acts, [Act::End { lease: 3 }, order]);
        assert!(!keep.is_routed(3) && keep.is_routed(1));
        keep.ordered(5_000, true);
        let acts = keep.step(6_000, (3, true), &[ready(1), ready(2), seen(4, Sight::Seen(State::Waiting))]);
        assert_eq!(acts, [Act::Give { lease: 4 }]);
        assert_eq!(keep.step(8_000, (3, true), &[ready(1), ready(2), ready(4)]), []);
    }

    #[test]
    fn misses_that_are_not_in_a_row_lose_nothing() {
        let mut keep = Keep::default();
        for round in 0..18 {
            let sight = match round % 6 {
                2 => Sight::Seen(State::Ready),
                5 => Sight::Busy,
                _ => Sight::Missed,
            };
            assert_eq!(keep.step(round * 2_000, (1, true), &[seen(1, sight)]), []);
        }
        assert!(keep.is_routed(1));
    }

    #[test]
    fn a_line_that_is_down_here_for_a_while_loses_nothing_and_hosts_that_stay_away_are_replaced() {
        let mut keep = Keep::default();
        let dark = [seen(1, Sight::Missed), seen(2, Sight::Missed)];
        for round in 1..u64::from(BLIND_MISSES_MAX) {
            assert_eq!(keep.step(round * 2_000, (2, true), &dark), []);
        }
        assert_eq!(keep.step(30_000, (2, true), &[ready(1), ready(2)]), []);
        let last = (0..BLIND_MISSES_MAX).map(|round| keep.step(31_000 + u64::from(round), (2, true), &dark)).last();
        let order = Act::Order { replicas: 2, secs: 968, exclude: keys([1, 2]) };
        assert_eq!(last.unwrap(), [Act::End { lease: 1 }, Act::End { lease: 2 }, order]);
    }

    #[test]
    fn a_lease_that_its_host_ended_is_made_up_for_and_one_that_is_over_is_not() {
        let mut keep = Keep::default();
        keep.step(0, (2, true), &[ready(1), ready(2)]);
        let acts = keep.step(2_000, (2, true), &[ready(1)]);
        assert_eq!(acts, [Act::Order { replicas: 1, secs: 998, exclude: keys([1, 2]) }]);
        let mut keep = Keep::default();
        keep.step(0, (1, true), &[ready(1)]);
        assert_eq!(keep.step(UNTIL_MS, (1, true), &[]), []);
    }

    #[test]
    fn fewer_wanted_is_no_loss() {
        let mut keep = Keep::default();
        keep.step(0, (3, true), &[ready(1), ready(2), ready(3)]);
        assert_eq!(keep.step(2_000, (2, true), &[ready(1), ready(2)]), []);
        assert_eq!(keep.step(4_000, (0, true), &[]), []);
    }

    #[test]
    fn what_finds_no_offer_is_tried_again_less_and_less_often() {
        let mut keep = Keep::default();
        let alone = [ready(1)];
        let mut at = Vec::new();
        for now_ms in (0..400_000).step_by(1_000) {
            if keep.step(now_ms, (2, true), &alone).iter().any(|act| matches!(act, Act::Order { .. })) {
                at.push(now_ms / 1_000);
                keep.ordered(now_ms, false);
            }
        }
        assert_eq!(at, [0, 5, 15, 35, 75, 155, 315]);
    }

    #[test]
    fn what_fails_is_not_placed_again_and_what_never_starts_is() {
        let mut keep = Keep::default();
        let failed = [seen(1, Sight::Seen(State::Failed))];
        assert!((0..500_000).step_by(2_000).all(|now_ms| keep.step(now_ms, (1, true), &failed).is_empty()));
        let mut keep = Keep::default();
        let starting = [seen(1, Sight::Seen(State::Compiling))];
        assert_eq!(keep.step(0, (1, true), &starting), []);
        assert_eq!(keep.step(START_MS, (1, true), &starting), []);
        let acts = keep.step(START_MS + 1, (1, true), &starting);
        assert!(matches!(&acts[..], [Act::End { lease: 1 }, Act::Order { replicas: 1, .. }]), "{acts:?}");
    }

    #[test]
    fn a_host_may_learn_of_a_lease_later_and_not_much_later() {
        let mut keep = Keep::default();
        let gone = [seen(1, Sight::Gone)];
        for now_ms in (0..NEW_MS).step_by(2_000) {
            assert_eq!(keep.step(now_ms, (1, true), &gone), [Act::Give { lease: 1 }]);
            keep.gave(now_ms, 1, false);
        }
        for round in 0..MISSES_MAX - 1 {
            assert_eq!(keep.step(NEW_MS + u64::from(round), (1, true), &gone), []);
        }
        assert_eq!(keep.step(NEW_MS + 9, (1, true), &gone)[0], Act::End { lease: 1 });
    }

    #[test]
    fn what_sleeps_until_it_is_asked_is_not_lost() {
        let mut keep = Keep::default();
        for now_ms in (0..START_MS * 2).step_by(2_000) {
            let state = if now_ms % 20_000 == 0 { State::Warm } else { State::Asleep };
            let seen = Seen { until_ms: START_MS * 4, ..seen(1, Sight::Seen(state)) };
            assert_eq!(keep.step(now_ms, (1, true), &[seen]), []);
        }
        assert!(keep.is_routed(1));
    }

    #[test]
    fn a_host_that_takes_no_component_is_left() {
        let mut keep = Keep::default();
        let waiting = [seen(1, Sight::Seen(State::Waiting))];
        keep.step(0, (1, true), &waiting);
        for round in 1..=3 {
            assert_eq!(keep.step(NEW_MS + round, (1, true), &waiting), [Act::Give { lease: 1 }]);
            keep.gave(NEW_MS + round, 1, false);
        }
        assert_eq!(keep.step(NEW_MS + 9, (1, true), &waiting)[0], Act::End { lease: 1 });
    }

    #[test]
    fn who_waits_for_its_volumes_is_given_them_each_time_and_is_never_late() {
        let mut keep = Keep::default();
        let waits = [Seen { until_ms: START_MS * 9, ..seen(1, Sight::Seen(State::Restoring)) }];
        for now_ms in (0..START_MS * 3).step_by(20_000) {
            assert_eq!(keep.step(now_ms, (1, true), &waits), [Act::Fill { lease: 1 }]);
        }
    }

    #[test]
    fn a_replica_is_not_late_while_what_it_runs_is_on_its_way() {
        let mut keep = Keep::default();
        let waiting = [Seen { until_ms: START_MS * 9, ..seen(1, Sight::Seen(State::Waiting)) }];
        keep.step(0, (1, true), &waiting);
        keep.giving(1);
        for now_ms in (0..START_MS * 3).step_by(20_000) {
            assert_eq!(keep.step(now_ms, (1, true), &waiting), [Act::Give { lease: 1 }]);
        }
        let then_ms = START_MS * 3;
        keep.gave(then_ms, 1, true);
        let starting = [Seen { sight: Sight::Seen(State::Compiling), ..waiting[0].clone() }];
        assert_eq!(keep.step(then_ms + START_MS, (1, true), &starting), []);
        assert_eq!(keep.step(then_ms + START_MS + 1, (1, true), &starting)[0], Act::End { lease: 1 });
    }

    #[test]
    fn replicas_that_may_share_a_host_keep_away_from_lost_ones_alone() {
        let mut keep = Keep::default();
        let looks = [ready(1), seen(2, Sight::Missed)];
        keep.step(0, (2, false), &looks);
        keep.step(1, (2, false), &looks);
        let order = Act::Order { replicas: 1, secs: 999, exclude: keys([2]) };
        assert_eq!(keep.step(2, (2, false), &looks), [Act::End { lease: 2 }, order]);
    }

    #[test]
    fn nothing_is_ordered_for_less_than_a_lease_lasts() {
        let mut keep = Keep::default();
        let late = UNTIL_MS - 59_000;
        for round in 0..3 {
            let acts = keep.step(late + round, (1, true), &[seen(1, Sight::Missed)]);
            assert!(!acts.iter().any(|act| matches!(act, Act::Order { .. })), "{acts:?}");
        }
        assert!(!keep.is_routed(1));
    }
}
