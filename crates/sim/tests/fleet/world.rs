//! Run a fleet of devices through months of coming and going, and repair what it loses.
//!
//! Shards are numbers here; placement, margins, tickets and seats are those that a cloud repairs with.

use crate::{
    device::{DAY_MS, Device, HOUR_MS, Held, Is, after},
    plan::{Outcome, Plan},
};
use hodei_storage::{
    place::{Candidate, place},
    repair::{Bar, Count, Fate, Queue, Signs, State, quiet_ms, seats, silence_ms},
};
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use std::{
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap},
};

/// Largest networks' share of all devices, in thousandths; the others share the rest evenly.
const LARGEST: [u32; 3] = [280, 120, 70];
/// Devices in a hundred that belong to somebody with many.
const FARMED: u32 = 5;
/// Such a somebody's devices.
const FARM: u32 = 20;
/// Devices asked where a bucket looks for more.
const ASKED: usize = 64;
/// Between two looks at whether random groups can be read.
const SAMPLE_MS: u64 = HOUR_MS;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    /// It goes away for a while, unless it is in another turn by then.
    Leave(u32, u32),
    Return(u32, u32),
    /// It is gone for good.
    Die(u32),
    /// It has been silent so long that it counts differently.
    Silent(u32, u32),
    /// A repairer has nothing to do.
    Work(u32),
    /// The shards a group lacked are rebuilt.
    Restored(u32),
    Strike(usize),
    Look,
}

pub(crate) struct Group {
    pub(crate) bucket: u32,
    stripes: u64,
    /// Device by slot.
    pub(crate) slots: Vec<u32>,
    pub(crate) is_lost: bool,
}

pub(crate) struct World {
    pub(crate) plan: Plan,
    pub(crate) rng: StdRng,
    pub(crate) now_ms: u64,
    pub(crate) devices: Vec<Device>,
    on_network: Vec<Vec<u32>>,
    pub(crate) rosters: Vec<Vec<u32>>,
    pub(crate) groups: Vec<Group>,
    queue: Queue<u32>,
    /// Groups that are being restored: new holders by slot.
    work: BTreeMap<u32, Vec<(usize, u32)>>,
    idle: Vec<u32>,
    events: BinaryHeap<Reverse<(u64, u64, Event)>>,
    count: u64,
    pub(crate) outcome: Outcome,
}

impl World {
    pub(crate) fn new(plan: Plan) -> Self {
        let mut world = Self {
            rng: StdRng::seed_from_u64(plan.seed),
            now_ms: 0,
            devices: Vec::new(),
            on_network: vec![Vec::new(); plan.networks],
            rosters: Vec::new(),
            groups: Vec::new(),
            queue: Queue::default(),
            work: BTreeMap::new(),
            idle: (0..plan.repairers).collect(),
            events: BinaryHeap::new(),
            count: 0,
            outcome: Outcome { least: u16::MAX, ..Outcome::default() },
            plan,
        };
        for _ in 0..world.plan.devices {
            world.join();
        }
        for bucket in 0..world.plan.buckets {
            world.open(bucket);
        }
        for (at, (day, ..)) in world.plan.strikes.clone().into_iter().enumerate() {
            world.plan_at(day * DAY_MS, Event::Strike(at));
        }
        world.plan_at(SAMPLE_MS, Event::Look);
        world
    }

    /// Lives through all days.
    pub(crate) fn run(mut self) -> Outcome {
        let end = self.plan.days * DAY_MS;
        while let Some(Reverse((at, _, event))) = self.events.pop().filter(|Reverse((at, ..))| *at <= end) {
            self.now_ms = at;
            self.happen(event);
        }
        self.outcome
    }

    fn plan_at(&mut self, at_ms: u64, event: Event) {
        self.count += 1;
        self.events.push(Reverse((at_ms, self.count, event)));
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Leave(device, turn) => {
                if self.devices[device as usize].turn == turn {
                    let days = self.plan.life.outage_days;
                    let back = self.now_ms + after(days, &mut self.rng);
                    self.leave(device, back);
                }
            }
            Event::Die(device) => self.die(device),
            Event::Return(device, turn) => self.come_back(device, turn),
            Event::Silent(device, turn) => {
                if self.devices[device as usize].turn == turn {
                    self.look_at_all_of(device);
                }
            }
            Event::Work(repairer) => {
                self.idle.push(repairer);
                self.hand_out();
            }
            Event::Restored(group) => self.restored(group),
            Event::Strike(at) => self.strike(at),
            Event::Look => {
                self.look();
                // Tickets that were put off are tried again.
                self.hand_out();
                self.plan_at(self.now_ms + SAMPLE_MS, Event::Look);
            }
        }
    }

    /// A new device.
    fn join(&mut self) -> u32 {
        let number = self.devices.len() as u32;
        let drawn: u32 = self.rng.random_range(0..1000);
        let mut sum = 0;
        let largest = LARGEST.iter().position(|share| {
            sum += share;
            drawn < sum
        });
        let network = largest.unwrap_or_else(|| self.rng.random_range(LARGEST.len()..self.plan.networks));
        let is_farmed = self.rng.random_range(0..100) < FARMED;
        let operator = if is_farmed {
            u32::MAX - self.rng.random_range(0..(self.plan.devices * FARMED / 100 / FARM).max(1))
        } else {
            number
        };
        let life = self.plan.life;
        self.devices.push(Device::new(number, network, operator, &life, &mut self.rng));
        self.on_network[network].push(number);
        let ends = self.now_ms + after(life.days, &mut self.rng);
        self.plan_at(ends, Event::Die(number));
        self.plan_outage(number);
        number
    }

    fn plan_outage(&mut self, device: u32) {
        let at = self.now_ms + after(self.plan.life.outage_every_days, &mut self.rng);
        let turn = self.devices[device as usize].turn;
        self.plan_at(at, Event::Leave(device, turn));
    }

    /// A bucket with all its groups.
    fn open(&mut self, bucket: u32) {
        self.rosters.push(Vec::new());
        let wanted = self.plan.roster;
        let slots = loop {
            self.enlist(bucket, wanted, ASKED);
            let (candidates, roster) = self.candidates(bucket);
            let seed = self.rng.random();
            if let Ok(slots) = place(&self.plan.shape, &candidates, &seed) {
                break slots.into_iter().map(|at| roster[at]).collect::<Vec<u32>>();
            }
        };
        let mut next = Some(slots);
        for _ in 0..self.plan.groups {
            let slots = next.take().unwrap_or_else(|| {
                let (candidates, roster) = self.candidates(bucket);
                let seed = self.rng.random();
                let slots = place(&self.plan.shape, &candidates, &seed).expect("it was placed before");
                slots.into_iter().map(|at| roster[at]).collect()
            });
            let group = self.groups.len() as u32;
            for (slot, device) in slots.iter().enumerate() {
                self.devices[*device as usize].holds.push((group, slot as u8));
            }
            let stripes = self.rng.random_range(1..=self.plan.stripes);
            self.outcome.user_bytes += stripes * self.plan.shard_bytes * u64::from(self.plan.shape.k());
            self.groups.push(Group { bucket, stripes, slots, is_lost: false });
            self.outcome.groups += 1;
            self.measure(group);
        }
    }

    /// More deals, with devices that are there now: other operators and networks first, as a plan chooses them.
    fn enlist(&mut self, bucket: u32, wanted: usize, asked: usize) {
        let mut asked: Vec<u32> =
            (0..asked.max(wanted * 2)).map(|_| self.rng.random_range(0..self.devices.len() as u32)).collect();
        asked.sort_unstable();
        asked.dedup();
        for place in (1..asked.len()).rev() {
            asked.swap(place, self.rng.random_range(0..=place));
        }
        let roster = &mut self.rosters[bucket as usize];
        let devices = &self.devices;
        let is_there = |device: &u32| devices[*device as usize].is == Is::On;
        let operator = |device: u32| devices[device as usize].candidate.operator;
        let network = |device: u32| devices[device as usize].network;
        asked.retain(|device| is_there(device) && !roster.contains(device));
        let until = roster.len() + wanted;
        while roster.len() < until && !asked.is_empty() {
            let rank = |device: u32| {
                let same = roster.iter().filter(|other| network(**other) == network(device)).count();
                (roster.iter().any(|other| operator(*other) == operator(device)), same)
            };
            let best = (0..asked.len()).min_by_key(|at| rank(asked[*at])).expect("some are left");
            roster.push(asked.swap_remove(best));
        }
    }

    fn candidates(&self, bucket: u32) -> (Vec<Candidate>, Vec<u32>) {
        let roster: Vec<u32> = self.rosters[bucket as usize].clone();
        (roster.iter().map(|device| self.devices[*device as usize].candidate.clone()).collect(), roster)
    }

    /// It goes, if it is there, and comes back then.
    fn leave(&mut self, device: u32, back_ms: u64) {
        if self.devices[device as usize].is == Is::On {
            self.fall_silent(device, Is::Out(self.now_ms));
            let turn = self.devices[device as usize].turn;
            self.plan_at(back_ms, Event::Return(device, turn));
        }
    }

    /// Its shards are no more, though nobody knows; another device joins.
    fn die(&mut self, device: u32) {
        match self.devices[device as usize].is {
            Is::On => self.fall_silent(device, Is::Dead(self.now_ms)),
            // It was away anyway: nothing is seen of it.
            Is::Out(since) | Is::Dead(since) => self.devices[device as usize].is = Is::Dead(since),
        }
        self.outcome.ended += 1;
        let held = self.devices[device as usize].holds.clone();
        for (group, _) in held {
            self.judge(group);
        }
        self.join();
    }

    /// From now on it counts differently twice: when it has been quiet for long, and when it is given up.
    fn fall_silent(&mut self, device: u32, is: Is) {
        let one = &mut self.devices[device as usize];
        one.is = is;
        one.turn += 1;
        let (turn, class) = (one.turn, self.plan.life.class);
        for silent in [quiet_ms(class), silence_ms(class)] {
            self.plan_at(self.now_ms + silent + 1, Event::Silent(device, turn));
        }
    }

    fn come_back(&mut self, device: u32, turn: u32) {
        let is_whole = self.rng.random_range(0..100) < self.plan.life.returns_whole;
        let one = &mut self.devices[device as usize];
        if one.turn != turn || matches!(one.is, Is::Dead(_)) {
            return;
        }
        one.is = Is::On;
        one.turn += 1;
        // What others are counted for by now it releases.
        one.had.clear();
        if !is_whole {
            // Wiped: its deals are there, what they hold is not.
            let lost = std::mem::take(&mut one.holds);
            for (group, _) in &lost {
                self.judge(*group);
            }
            for (group, _) in lost {
                self.measure(group);
            }
        } else {
            self.look_at_all_of(device);
        }
        self.plan_outage(device);
        self.hand_out();
    }

    fn strike(&mut self, at: usize) {
        let (_, networks, days) = self.plan.strikes[at];
        let struck: Vec<u32> = self.on_network[..networks].iter().flatten().copied().collect();
        for device in struck {
            self.leave(device, self.now_ms + days * DAY_MS);
        }
    }

    fn look_at_all_of(&mut self, device: u32) {
        let held: Vec<Held> = self.devices[device as usize].holds.clone();
        for (group, _) in held {
            self.measure(group);
        }
        self.hand_out();
    }

    fn state(&self, device: u32) -> State {
        let one = &self.devices[device as usize];
        let heard_ms = match one.is {
            Is::On => self.now_ms,
            Is::Out(since) | Is::Dead(since) => since,
        };
        Signs { class: self.plan.life.class, heard_ms, missed_in_row: 0, is_closed: false }.state(self.now_ms)
    }

    /// What is known of the shard in this slot: of one that was wiped its device says so itself.
    fn known(&self, group: u32, slot: usize) -> State {
        let device = self.groups[group as usize].slots[slot];
        let is_listed = self.devices[device as usize].holds.contains(&(group, slot as u8));
        if is_listed { self.state(device) } else { State::Gone }
    }

    fn count(&self, group: u32) -> Count {
        let mut count = Count::default();
        for slot in 0..self.groups[group as usize].slots.len() {
            match self.known(group, slot) {
                State::There => count.there += 1,
                State::Back => count.back += 1,
                State::Away => count.away += 1,
                State::Gone => {}
            }
        }
        count
    }

    /// Whether it is due, by what repairers know.
    fn measure(&mut self, group: u32) {
        if self.groups[group as usize].is_lost {
            self.queue.set(group, None, self.now_ms);
            return;
        }
        let count = self.count(group);
        let bar = Bar::data(&self.plan.shape, false);
        let is_due = bar.fate(count) != Fate::Enough;
        let k = u16::from(self.plan.shape.k());
        let margin = (count.there + count.back).saturating_sub(k);
        self.queue.set(group, is_due.then_some(margin), self.now_ms);
        self.outcome.queued = self.outcome.queued.max(self.queue.len());
    }

    /// Gives tickets to repairers that have none.
    fn hand_out(&mut self) {
        while !self.idle.is_empty() {
            let Some(group) = self.queue.take(self.plan.life.class, self.now_ms) else { return };
            match self.prepare(group) {
                Some((seats, wait, took)) => {
                    let repairer = self.idle.pop().expect("one is idle");
                    self.work.insert(group, seats);
                    self.plan_at(self.now_ms + took, Event::Work(repairer));
                    self.plan_at(self.now_ms + wait + took, Event::Restored(group));
                }
                None => {
                    self.outcome.put_off += 1;
                    self.queue.end(group, Some(self.now_ms + HOUR_MS));
                }
            }
        }
    }

    /// New holders for what lacks, how long it takes until enough shards were there to be read, and how long a repairer
    /// then is busy; none where it cannot be done now.
    fn prepare(&mut self, group: u32) -> Option<(Vec<(usize, u32)>, u64, u64)> {
        let k = usize::from(self.plan.shape.k());
        let slots = self.groups[group as usize].slots.clone();
        let states: Vec<State> = (0..slots.len()).map(|slot| self.known(group, slot)).collect();
        // Shards are gathered as their holders wake.
        let source = |slot: usize| Some(&self.devices[slots[slot] as usize]).filter(|device| device.is == Is::On);
        let there = (0..slots.len()).filter(|slot| states[*slot] == State::There);
        let mut waits: Vec<u64> = there.filter_map(source).map(|device| device.wakes_in(self.now_ms)).collect();
        waits.sort_unstable();
        let wait = *waits.get(k - 1)?;
        let there = states.iter().filter(|state| **state == State::There).count();
        // Who is expected back is waited for, unless nothing more may go.
        let given_up = if there <= k { State::Back } else { State::Away };
        let lost: Vec<usize> = (0..slots.len()).filter(|slot| states[*slot] >= given_up).collect();
        let bucket = self.groups[group as usize].bucket;
        for _ in 0..3 {
            let (candidates, roster) = self.candidates(bucket);
            let held: Vec<usize> = slots
                .iter()
                .map(|device| roster.iter().position(|one| one == device).expect("a roster names all holders"))
                .collect();
            let is_off = |device: &&u32| self.devices[**device as usize].is != Is::On;
            let avoid: Vec<_> =
                roster.iter().filter(is_off).map(|device| self.devices[*device as usize].candidate.node).collect();
            let seed = self.rng.random();
            let found =
                seats(&self.plan.shape, &candidates, &held, &lost, |_, node| avoid.contains(node), &seed, false);
            if found.len() == lost.len() {
                let shards = (k + found.len()) as u64;
                let seats = found.into_iter().map(|(slot, at)| (slot, roster[at])).collect();
                let bytes = shards * self.groups[group as usize].stripes * self.plan.shard_bytes;
                let took = bytes * 1000 / self.plan.repair_bytes_per_sec;
                return Some((seats, wait, took.max(1)));
            }
            self.enlist(bucket, lost.len(), ASKED);
        }
        None
    }

    fn restored(&mut self, group: u32) {
        // A second ticket's repairer was faster.
        let Some(seats) = self.work.remove(&group) else { return };
        let per_shard = self.groups[group as usize].stripes * self.plan.shard_bytes;
        self.outcome.repairs += 1;
        self.outcome.read_bytes += u64::from(self.plan.shape.k()) * per_shard;
        if !self.groups[group as usize].is_lost {
            for (slot, device) in seats {
                // Who went away meanwhile took nothing.
                if self.devices[device as usize].is != Is::On {
                    continue;
                }
                let held = (group, slot as u8);
                let before = self.groups[group as usize].slots[slot];
                let one = &mut self.devices[before as usize];
                if let Some(at) = one.holds.iter().position(|one| *one == held) {
                    one.holds.swap_remove(at);
                    // Who is there releases it at once.
                    if one.is != Is::On {
                        one.had.push(held);
                    }
                }
                self.devices[device as usize].holds.push(held);
                self.groups[group as usize].slots[slot] = device;
                self.outcome.rebuilt += 1;
                self.outcome.sent_bytes += per_shard;
            }
            self.concentrate(group);
        }
        self.queue.end(group, None);
        self.measure(group);
    }
}
