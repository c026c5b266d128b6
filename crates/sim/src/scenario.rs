//! Say what breaks when, and run it for a seed.

use alloy_primitives::{Address, U256};
use commonware_consensus::types::{Epoch, Round, View};
use commonware_glue::simulate::{
    action::{Action, Crash, Schedule},
    engine::EngineDefinition as _,
    plan::PlanBuilder,
};
use commonware_p2p::simulated::Link;
use commonware_runtime::deterministic::FaultConfig;
use commonware_utils::probability;
use hodei_ledger::{
    beacon::{Plain, Threshold},
    block::PublicKey,
    member::Timeouts,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use crate::{
    chain::{Chain, Life, Vote},
    law::{AllVote, Lasted, OneHistory},
    traffic::{Transfers, allocations},
};

/// How validators vote.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Votes {
    /// BLS12-381 threshold votes, as in production.
    Threshold,
    /// Ed25519 votes: the same engine, a hundred times cheaper, with foreseeable randomness.
    Plain,
}

/// One thing that happens at a time; members are named by number, validators first.
#[derive(Clone)]
enum Event {
    Kill(usize),
    Start(usize),
    Link(usize, usize, Link),
    Heal(Link),
    Disks(FaultConfig),
}

/// A ledger, what breaks when, and how long it runs.
#[derive(Clone)]
pub struct Scenario {
    votes: Votes,
    validators: u64,
    observers: u64,
    life: Arc<dyn Life>,
    allocations: Vec<(Address, U256)>,
    link: Link,
    seconds: u64,
    heights: u64,
    events: Vec<(Duration, Event)>,
    late: Option<(usize, u64)>,
    losing: BTreeSet<usize>,
    sync: bool,
    timeouts: Timeouts,
}

/// What a run left.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Digest of everything that happened: the same for the same seed, or something is not deterministic.
    pub fingerprint: String,
    pub kills: u64,
    pub events: u64,
    /// Transactions in finalized blocks.
    pub transactions: usize,
    /// The highest head by second; a second without a living member is absent.
    pub heads: BTreeMap<u64, u64>,
}

impl Outcome {
    /// Blocks finalized between two seconds.
    pub fn blocks(&self, from: u64, to: u64) -> u64 {
        let at = |second| self.heads.range(..=second).map(|(_, height)| *height).max().unwrap_or(0);
        at(to) - at(from)
    }
}

/// Links as in one building: what most scenarios begin with.
pub const fn lan() -> Link {
    Link { latency: Duration::from_millis(10), jitter: Duration::from_millis(5), success_rate: probability!(1.0) }
}

impl Scenario {
    /// Four validators who each send a transaction now and then.
    pub fn four(votes: Votes, seconds: u64) -> Self {
        let life = Transfers { interval: Duration::from_millis(1700) };
        Self::new(votes, 4, lan(), seconds, life).with_allocations(allocations(5))
    }

    /// `validators` members over `link` for `seconds`, without faults.
    pub fn new(votes: Votes, validators: u64, link: Link, seconds: u64, life: impl Life) -> Self {
        Self {
            votes,
            validators,
            observers: 0,
            life: Arc::new(life),
            allocations: Vec::new(),
            link,
            seconds,
            heights: 1,
            events: Vec::new(),
            late: None,
            losing: BTreeSet::new(),
            sync: false,
            timeouts: Timeouts::default(),
        }
    }

    pub fn with_allocations(mut self, allocations: Vec<(Address, U256)>) -> Self {
        self.allocations = allocations;
        self
    }

    /// Members beside the validators, who follow without a vote.
    pub fn with_observers(mut self, observers: u64) -> Self {
        self.observers = observers;
        self
    }

    /// Goes on, whatever the time, until so many blocks are final.
    pub fn until_height(mut self, heights: u64) -> Self {
        self.heights = heights;
        self
    }

    /// A member that is started only after `view`.
    pub fn with_late(mut self, member: usize, view: u64) -> Self {
        self.late = Some((member, view));
        self
    }

    /// A member whose disk is empty whenever it returns.
    pub fn losing_the_disk_of(mut self, member: usize) -> Self {
        self.losing.insert(member);
        self
    }

    /// Members without state fetch it from peers.
    pub fn with_state_sync(mut self) -> Self {
        self.sync = true;
        self
    }

    /// An idle chain makes a block that often; a leader is waited for twice as long.
    pub fn with_heartbeat(mut self, heartbeat: Duration) -> Self {
        let (leader, certification, skip) = (heartbeat * 2, heartbeat * 3, heartbeat * 6);
        self.timeouts = Timeouts { heartbeat, leader, certification, skip, ..self.timeouts };
        self
    }

    pub fn kill(self, at: Duration, member: usize) -> Self {
        self.event(at, Event::Kill(member))
    }

    pub fn start(self, at: Duration, member: usize) -> Self {
        self.event(at, Event::Start(member))
    }

    /// Changes both directions between two members.
    pub fn link(self, at: Duration, a: usize, b: usize, link: Link) -> Self {
        self.event(at, Event::Link(a, b, link.clone())).event(at, Event::Link(b, a, link))
    }

    /// Makes every link this one.
    pub fn heal(self, at: Duration, link: Link) -> Self {
        self.event(at, Event::Heal(link))
    }

    /// How disks fail from now on.
    pub fn disks(self, at: Duration, faults: FaultConfig) -> Self {
        self.event(at, Event::Disks(faults))
    }

    fn event(mut self, at: Duration, event: Event) -> Self {
        self.events.push((at, event));
        self
    }

    /// Runs it; an error says which law was broken.
    pub fn run(&self, seed: u64) -> Result<Outcome, String> {
        match self.votes {
            Votes::Threshold => self.run_with::<Threshold>(seed),
            Votes::Plain => self.run_with::<Plain>(seed),
        }
    }

    fn run_with<B: Vote>(&self, seed: u64) -> Result<Outcome, String> {
        let mut chain = Chain::<B>::new(self.validators, self.observers, self.allocations.clone(), self.life.clone());
        (chain.losing, chain.sync, chain.timeouts) = (self.losing.clone(), self.sync, self.timeouts);
        let members = chain.participants();
        let heads = chain.heads.clone();
        let transactions = Arc::new(AtomicUsize::new(0));
        let lasted = Lasted { heads: heads.clone(), seconds: self.seconds, heights: self.heights };
        let mut plan = PlanBuilder::new(chain)
            .seed(seed)
            .link(self.link.clone())
            .exit_condition(lasted)
            // Whoever is not done twice as late has halted.
            .timeout(Duration::from_secs(self.seconds * 2 + 60))
            .property(OneHistory { transactions: transactions.clone() })
            .property(AllVote);
        if !self.events.is_empty() {
            plan = plan.crash(Crash::Schedule(self.schedule(&members)));
        }
        if let Some((member, view)) = self.late {
            let round = Round::new(Epoch::zero(), View::new(view));
            plan = plan.crash(Crash::DelayRound { participants: vec![members[member].clone()], round });
        }
        let done = plan.run()?.remove(0);
        if done.scheduled_actions != self.events.len() as u64 {
            return Err(format!("{} of {} events happened", done.scheduled_actions, self.events.len()));
        }
        let heads = heads.lock().expect("no holder of this lock panics").clone();
        Ok(Outcome {
            fingerprint: done.state,
            kills: done.crashes,
            events: done.scheduled_actions,
            transactions: transactions.load(Ordering::Relaxed),
            heads,
        })
    }

    fn schedule(&self, members: &[PublicKey]) -> Schedule<PublicKey> {
        let of = |member: usize| members[member].clone();
        let mut events = self.events.clone();
        events.sort_by_key(|(at, _)| *at);
        events.into_iter().fold(Schedule::new(), |schedule, (at, event)| {
            let action = match event {
                Event::Kill(member) => Action::Crash(of(member)),
                Event::Start(member) => Action::Restart(of(member)),
                Event::Link(from, to, link) => Action::UpdateLink { from: of(from), to: of(to), link },
                Event::Heal(link) => Action::Heal(link),
                Event::Disks(faults) => Action::SetStorageFault(faults),
            };
            schedule.at(at, action)
        })
    }
}

/// The seeds a test runs: `HODEI_SEEDS` of them, or `default`.
pub fn seeds(default: u64) -> std::ops::Range<u64> {
    let count = std::env::var("HODEI_SEEDS").ok().and_then(|text| text.parse().ok()).unwrap_or(default);
    0..count
}

/// Runs `check` for each seed, on as many threads as the machine has, and names every seed that failed.
pub fn each(seeds: std::ops::Range<u64>, check: impl Fn(u64) + Sync) {
    let (next, failed) = (AtomicU64::new(seeds.start), Mutex::new(Vec::new()));
    let threads = std::thread::available_parallelism().map_or(1, |count| count.get());
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds.end {
                        break;
                    }
                    if catch_unwind(AssertUnwindSafe(|| check(seed))).is_err() {
                        failed.lock().expect("no holder of this lock panics").push(seed);
                    }
                }
            });
        }
    });
    let failed = failed.into_inner().expect("no holder of this lock panics");
    assert!(failed.is_empty(), "of {} seeds these failed: {failed:?}", seeds.end - seeds.start);
}
