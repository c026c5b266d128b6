//! Judge by what is missed of a host whether it is reached; by what it missed alone, nobody accuses.
//!
//! ```text
//! asked, no answer ─ three in a row ─► missed ─ a fellow watcher misses it too ─► accused ─┬ it shows itself: spared for an hour
//!    ▲ any answer: none                                                                    └ not until its time: lost, touched
//! ```
//! Any answer is one, whatever state it tells: only whether the host is reached is judged. When nothing is heard of anybody
//! asked and the ledger is silent, it is this node that is cut off: nothing counts, and what was counted is forgotten.
//!
//! Times are milliseconds of a clock that only advances, but for those named after the ledger.

use hodei_types::{abi::ILeases, market::WATCHERS, transport::NodeKey};
use std::collections::BTreeMap;

use super::follow::RUNNING;

/// Each host is asked so often.
pub const EVERY_MS: u64 = 2_000;
/// So many in a row without an answer, for so long at least, and it is missed: a program that is started anew is not.
const MISSES: u32 = 3;
const MISSED_MS: u64 = 5_000;
/// What was missed longer ago says nothing of now.
const STALE_MS: u64 = 30_000;
/// The watchers of a lease speak one after the other, each that much later: most often only the first pays a fee.
const TURN_MS: u64 = 10_000;
/// What was sent about a lease and changed nothing is sent again after that.
const AGAIN_MS: u64 = 60_000;
/// Who showed itself is not accused by this node again for so long: it reaches the ledger, and this node is wrong.
const SPARED_MS: u64 = 3_600_000;
/// A word that was given and not used is forgotten.
const FORGOTTEN_MS: u64 = 600_000;

/// A lease that is watched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Duty {
    pub lease: u64,
    pub host: NodeKey,
    pub generation: u64,
    /// By the ledger's time: when it is lost, 0 if it is not suspect, and when its escrow ends.
    lost_ms: u64,
    until_ms: u64,
    /// In the ledger's order, this node among them.
    pub watchers: Vec<NodeKey>,
}

/// A row of misses.
#[derive(Clone, Copy, Debug, Default)]
struct Row {
    missed: u32,
    first_ms: u64,
    last_ms: u64,
    /// When they became enough.
    since_ms: Option<u64>,
}

/// A lease about which this node gave its word.
#[derive(Clone, Debug)]
struct Accused {
    host: NodeKey,
    /// As the word names it.
    generation: u64,
    at_ms: u64,
    turn: u64,
    lost_ms: u64,
}

/// For people.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub leases: usize,
    pub hosts: usize,
    /// Hosts that are missed now.
    pub missed: usize,
    /// Words given since the start, and of those refuted.
    pub accused: u64,
    pub refuted: u64,
}

/// What one node watches.
#[derive(Debug)]
pub struct Misses {
    me: NodeKey,
    round: u64,
    duties: BTreeMap<u64, Duty>,
    rows: BTreeMap<NodeKey, Row>,
    accused: BTreeMap<u64, Accused>,
    /// By lease, when something was sent about it.
    sent: BTreeMap<u64, u64>,
    /// Until when a host is not accused.
    spared: BTreeMap<NodeKey, u64>,
    counts: (u64, u64),
}

impl Duty {
    pub fn new(lease: &ILeases::Lease, watchers: Vec<NodeKey>) -> Self {
        let (host, generation) = (NodeKey(lease.node.0), lease.generation);
        Self { lease: lease.id, host, generation, lost_ms: lease.lostMs, until_ms: lease.untilMs, watchers }
    }

    fn turn(&self, me: &NodeKey) -> u64 {
        self.watchers.iter().position(|watcher| watcher == me).unwrap_or(WATCHERS) as u64
    }
}

impl Misses {
    pub fn new(me: NodeKey) -> Self {
        Self {
            me,
            round: 0,
            duties: BTreeMap::new(),
            rows: BTreeMap::new(),
            accused: BTreeMap::new(),
            sent: BTreeMap::new(),
            spared: BTreeMap::new(),
            counts: (0, 0),
        }
    }

    /// The round of the duties; 0 before the first.
    pub fn round(&self) -> u64 {
        self.round
    }

    /// Takes up a round's duties. Of hosts that are watched on, the misses stay.
    pub fn begin(&mut self, now_ms: u64, round: u64, duties: Vec<Duty>) {
        self.round = round;
        self.duties = duties.into_iter().map(|duty| (duty.lease, duty)).collect();
        let hosts = self.hosts();
        self.rows.retain(|host, _| hosts.contains_key(host));
        self.spared.retain(|_, until_ms| *until_ms > now_ms);
        self.sent.retain(|_, at_ms| now_ms < at_ms.saturating_add(AGAIN_MS));
    }

    /// Whom to ask, each by one of its leases.
    pub fn hosts(&self) -> BTreeMap<NodeKey, u64> {
        self.duties.values().rev().map(|duty| (duty.host, duty.lease)).collect()
    }

    /// Who answered and who did not, of those that were asked, and whether the ledger went on.
    pub fn heard(&mut self, now_ms: u64, asked: &[(NodeKey, bool)], is_ledger_heard: bool) {
        if !is_ledger_heard && asked.iter().all(|(_, is_heard)| !is_heard) {
            self.rows.clear();
            return;
        }
        for (host, is_heard) in asked {
            if *is_heard {
                self.rows.remove(host);
                continue;
            }
            let row = self.rows.entry(*host).or_insert_with(|| Row { first_ms: now_ms, ..Row::default() });
            row.missed = row.missed.saturating_add(1);
            row.last_ms = now_ms;
            if row.missed >= MISSES && now_ms.saturating_sub(row.first_ms) >= MISSED_MS {
                row.since_ms.get_or_insert(now_ms);
            }
        }
    }

    /// Since when a host is missed, if it is.
    fn missed_since(&self, now_ms: u64, host: &NodeKey) -> Option<u64> {
        let row = self.rows.get(host)?;
        let is_spared = self.spared.get(host).is_some_and(|until_ms| now_ms < *until_ms);
        let is_stale = now_ms.saturating_sub(row.last_ms) > STALE_MS;
        row.since_ms.filter(|_| !is_stale && !is_spared)
    }

    /// Leases whose present state matters: of hosts that are missed, suspect ones, and accused ones.
    pub fn open(&self, now_ms: u64) -> Vec<u64> {
        let is_open = |duty: &&Duty| duty.lost_ms != 0 || self.missed_since(now_ms, &duty.host).is_some();
        let mut leases: Vec<u64> = self.duties.values().filter(is_open).map(|duty| duty.lease).collect();
        leases.extend(self.accused.keys().filter(|lease| !self.duties.contains_key(*lease)));
        leases
    }

    /// A lease as the ledger has it now. Gives the host that showed itself against this node's word.
    pub fn learn(&mut self, now_ms: u64, lease: &ILeases::Lease) -> Option<NodeKey> {
        if lease.state != RUNNING {
            self.duties.remove(&lease.id);
            self.accused.remove(&lease.id);
            return None;
        }
        if let Some(duty) = self.duties.get_mut(&lease.id) {
            (duty.generation, duty.lost_ms, duty.until_ms) = (lease.generation, lease.lostMs, lease.untilMs);
        }
        let accused = self.accused.get_mut(&lease.id)?;
        accused.lost_ms = lease.lostMs;
        let (host, is_taken) = (accused.host, lease.generation != accused.generation);
        if is_taken && lease.lostMs == 0 {
            self.accused.remove(&lease.id);
            self.spared.insert(host, now_ms.saturating_add(SPARED_MS));
            self.counts.1 += 1;
            return Some(host);
        }
        if !is_taken && now_ms > accused.at_ms.saturating_add(FORGOTTEN_MS) {
            self.accused.remove(&lease.id);
        }
        None
    }

    fn may_send(&self, now_ms: u64, lease: u64) -> bool {
        self.sent.get(&lease).is_none_or(|at_ms| now_ms >= at_ms.saturating_add(AGAIN_MS))
    }

    /// Notes that something was sent about a lease.
    pub fn sent(&mut self, now_ms: u64, lease: u64) {
        self.sent.insert(lease, now_ms);
    }

    /// Leases to accuse now: missed, running, and this node's turn.
    pub fn due(&self, now_ms: u64, ledger_ms: u64) -> Vec<Duty> {
        let is_due = |duty: &&Duty| {
            let since_ms = self.missed_since(now_ms, &duty.host);
            let turn_ms = duty.turn(&self.me) * TURN_MS;
            let is_running = duty.lost_ms == 0 && duty.until_ms > ledger_ms;
            is_running
                && since_ms.is_some_and(|since_ms| now_ms >= since_ms.saturating_add(turn_ms))
                && self.may_send(now_ms, duty.lease)
        };
        self.duties.values().filter(is_due).cloned().collect()
    }

    /// Notes that this node gave its word about a lease.
    pub fn accuse(&mut self, now_ms: u64, lease: u64) {
        let Some(duty) = self.duties.get(&lease) else { return };
        let (host, generation, turn) = (duty.host, duty.generation, duty.turn(&self.me));
        let accused = Accused { host, generation, at_ms: now_ms, turn, lost_ms: 0 };
        let was = self.accused.insert(lease, accused);
        // Who is asked twice says the same.
        if was.is_none_or(|was| was.generation != generation) {
            self.counts.0 += 1;
        }
    }

    /// Whether this node says the same as a fellow watcher; if so that is noted. Why not, in words.
    pub fn concur(
        &mut self,
        now_ms: u64,
        from: &NodeKey,
        (lease, generation, round): (u64, u64, u64),
    ) -> Result<(), &'static str> {
        if round != self.round {
            return Err("this node watches in another round");
        }
        let duty = self.duties.get(&lease).ok_or("this node does not watch that lease")?;
        if *from == self.me || !duty.watchers.contains(from) {
            return Err("the asking node does not watch that lease");
        }
        if generation != duty.generation || duty.lost_ms != 0 {
            return Err("the lease is suspect already, or was and is no more");
        }
        if self.missed_since(now_ms, &duty.host).is_none() {
            return Err("this node does not miss that host");
        }
        self.accuse(now_ms, lease);
        Ok(())
    }

    /// Suspect leases whose time is over, for who is to say so: first who accused, then who watches now.
    pub fn lost(&self, now_ms: u64, ledger_ms: u64) -> Vec<u64> {
        let accused = self.accused.iter().map(|(lease, accused)| (*lease, accused.lost_ms, accused.turn));
        let watched = self.duties.values().filter(|duty| !self.accused.contains_key(&duty.lease));
        let watched = watched.map(|duty| (duty.lease, duty.lost_ms, WATCHERS as u64 + duty.turn(&self.me)));
        let is_over = |lost_ms: u64, turn: u64| lost_ms != 0 && ledger_ms > lost_ms.saturating_add(turn * TURN_MS);
        let over = accused.chain(watched).filter(|(_, lost_ms, turn)| is_over(*lost_ms, *turn));
        over.map(|(lease, ..)| lease).filter(|lease| self.may_send(now_ms, *lease)).collect()
    }

    pub fn counts(&self, now_ms: u64) -> Counts {
        let hosts = self.hosts();
        let missed = hosts.keys().filter(|host| self.missed_since(now_ms, host).is_some()).count();
        let (accused, refuted) = self.counts;
        Counts { leases: self.duties.len(), hosts: hosts.len(), missed, accused, refuted }
    }
}

#[cfg(test)]
mod tests;
