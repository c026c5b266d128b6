//! Say which shards of a stripe go from providers that hold too much to others that hold too little.
//!
//! Stripe by stripe the fullest provider beyond a fair part gives a shard to the emptiest below it that may have one. A
//! shard goes only where the one that gets it does not become fuller than the one that gives it: so the fullest never
//! becomes fuller nor the emptiest emptier, the sum of squares falls with each step, and there is an end.

use hodei_storage::place::{Candidate, has_room};
use hodei_types::code::Shape;
use std::cmp::Reverse;

/// Bytes beyond a fair part, or short of it, that are not worth a shard's way: so many, and a fiftieth of the part.
const SLACK_BYTES: u64 = 1 << 20;
const SLACK_PARTS: u64 = 50;

/// A provider of a bucket, as a place for shards.
#[derive(Clone, Debug)]
pub(super) struct Place {
    pub(super) candidate: Candidate,
    /// Bytes of shards that lie there.
    pub(super) held_bytes: u64,
    /// Bytes that its deal takes besides.
    pub(super) free_bytes: u64,
    /// Whether it gives and gets shards now.
    pub(super) takes: bool,
}

/// A shard, by its number in the stripe, that goes from one place to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Step {
    pub(super) shard: usize,
    pub(super) from: usize,
    pub(super) to: usize,
}

/// All places of a bucket, as shards go from one to another.
#[derive(Clone, Debug)]
pub(super) struct Fleet {
    shape: Shape,
    places: Vec<Place>,
    fair_bytes: u64,
    is_even: bool,
    /// Steps that may be taken still.
    steps_left: u64,
}

impl Fleet {
    /// Of so many steps at most.
    pub(super) fn new(shape: Shape, places: Vec<Place>, steps_left: u64) -> Self {
        let held = || places.iter().filter(|place| place.takes).map(|place| place.held_bytes);
        let fair_bytes = held().fold(0, u64::saturating_add) / held().count().max(1) as u64;
        let slack = SLACK_BYTES + fair_bytes / SLACK_PARTS;
        let is_even = held().all(|held| held.abs_diff(fair_bytes) <= slack);
        Self { shape, places, fair_bytes, is_even, steps_left }
    }

    pub(super) fn places(&self) -> &[Place] {
        &self.places
    }

    /// An even part of all that lies with those that give and get.
    pub(super) fn fair_bytes(&self) -> u64 {
        self.fair_bytes
    }

    /// Takes steps for one stripe while they even something out. `slots` says at which place each of its shards of
    /// `shard_bytes` is, if at any of these, and does so afterwards; `may_go`, which of them may go elsewhere.
    pub(super) fn steps(&mut self, slots: &mut [Option<usize>], may_go: &[bool], shard_bytes: u64) -> Vec<Step> {
        let mut steps: Vec<Step> = Vec::new();
        while let Some(step) = self.best(slots, may_go, shard_bytes, &steps) {
            self.bring(step.from, step.to, shard_bytes);
            slots[step.shard] = Some(step.to);
            self.steps_left -= 1;
            steps.push(step);
        }
        steps
    }

    /// Takes back a step that could not be done.
    pub(super) fn undo(&mut self, step: Step, shard_bytes: u64) {
        self.bring(step.to, step.from, shard_bytes);
    }

    fn best(&self, slots: &[Option<usize>], may_go: &[bool], bytes: u64, taken: &[Step]) -> Option<Step> {
        if self.is_even || self.steps_left == 0 {
            return None;
        }
        // What is on its way is not sent on.
        let goes = |shard: &usize| may_go[*shard] && !taken.iter().any(|step| step.shard == *shard);
        let gives = |at: &usize| self.places[*at].takes && self.places[*at].held_bytes > self.fair_bytes;
        let givers = (0..slots.len()).filter(goes).filter_map(|shard| Some((shard, slots[shard].filter(gives)?)));
        let steps = givers.flat_map(|(shard, from)| (0..self.places.len()).map(move |to| Step { shard, from, to }));
        let able = steps.filter(|step| self.evens_out(step, bytes) && self.fits(slots, step));
        let held = |at: usize| self.places[at].held_bytes;
        able.min_by_key(|step| (Reverse(held(step.from)), held(step.to), step.shard, step.to))
    }

    /// Whether both are nearer to each other afterwards, and who gets it was below its part and has the room.
    fn evens_out(&self, step: &Step, bytes: u64) -> bool {
        let (from, to) = (&self.places[step.from], &self.places[step.to]);
        let is_short = to.takes && to.held_bytes < self.fair_bytes && to.free_bytes >= bytes;
        is_short && from.held_bytes >= to.held_bytes.saturating_add(bytes.saturating_mul(2)) && bytes > 0
    }

    /// Whether its new place has no other shard of the stripe, nor its operator, network or zone too many.
    fn fits(&self, slots: &[Option<usize>], step: &Step) -> bool {
        let to = &self.places[step.to].candidate;
        let others = slots.iter().enumerate().filter(|(shard, _)| *shard != step.shard);
        let others: Vec<&Candidate> = others.filter_map(|(_, at)| at.map(|at| &self.places[at].candidate)).collect();
        let is_new =
            self.places[step.from].candidate.node != to.node && others.iter().all(|other| other.node != to.node);
        is_new && has_room(&self.shape, &others, to)
    }

    fn bring(&mut self, from: usize, to: usize, bytes: u64) {
        let from = &mut self.places[from];
        (from.held_bytes, from.free_bytes) = (from.held_bytes.saturating_sub(bytes), from.free_bytes + bytes);
        let to = &mut self.places[to];
        (to.held_bytes, to.free_bytes) = (to.held_bytes + bytes, to.free_bytes.saturating_sub(bytes));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hodei_storage::place::{place, within_caps};
    use hodei_types::{code::Spread, transport::NodeKey};
    use std::collections::BTreeSet;

    const MIB: u64 = 1 << 20;

    fn at(node: u8, operator: u8, network: u8) -> Place {
        let (network, zone) = (format!("net-{network}"), format!("zone-{}", network % 3));
        let candidate = Candidate { node: NodeKey([node; 32]), operator: [operator; 20], network, zone };
        Place { candidate, held_bytes: 0, free_bytes: 1 << 40, takes: true }
    }

    fn held(fleet: &Fleet) -> Vec<u64> {
        fleet.places().iter().map(|place| place.held_bytes / MIB).collect()
    }

    /// Stripes with a shard of a MiB at each of the first six.
    fn stripes(count: usize) -> Vec<Vec<Option<usize>>> {
        (0..count).map(|at| (0..6).map(|shard| Some((shard + at) % 6)).collect()).collect()
    }

    #[test]
    fn one_that_joins_gets_a_fair_part_and_no_two_shards_of_a_stripe() {
        let shape = Shape::new(3, 6, 1).unwrap().spread_over(Spread { operators: 6, networks: 0, zones: 0 }).unwrap();
        let mut places: Vec<Place> = (0..7).map(|node| at(node, node, node)).collect();
        places[..6].iter_mut().for_each(|place| place.held_bytes = 70 * MIB);
        let mut fleet = Fleet::new(shape, places.clone(), 1000);
        let mut lies = stripes(70);
        let moved: usize = lies.iter_mut().map(|slots| fleet.steps(slots, &[true; 6], MIB).len()).sum();
        assert_eq!((moved, held(&fleet)), (60, vec![60; 7]));
        let twice = |slots: &Vec<Option<usize>>| slots.iter().collect::<BTreeSet<_>>().len() < 6;
        assert!(!lies.iter().any(twice), "{lies:?}");
        // Looked at again there is nothing to do.
        let mut again = Fleet::new(shape, fleet.places().to_vec(), 1000);
        assert!(lies.iter_mut().all(|slots| again.steps(slots, &[true; 6], MIB).is_empty()));
        // One that takes nothing counts for nothing; what is bound stays; a full deal gets nothing.
        let mut apart = places.clone();
        apart[6].takes = false;
        let mut full = places.clone();
        full[6].free_bytes = MIB - 1;
        for (places, may_go) in [(apart, true), (full, true), (places, false)] {
            let mut fleet = Fleet::new(shape, places, 1000);
            assert!(stripes(70).iter_mut().all(|slots| fleet.steps(slots, &[may_go; 6], MIB).is_empty()));
        }
    }

    #[test]
    fn a_little_more_than_a_fair_part_is_left_and_what_failed_is_taken_back() {
        let shape = Shape::new(3, 6, 1).unwrap();
        let fleet = |held: [u64; 7]| {
            let place = |(node, held): (u8, u64)| Place { held_bytes: held * MIB, ..at(node, node, node) };
            Fleet::new(shape, (0..).zip(held).map(place).collect(), 1)
        };
        let mut even = fleet([102, 100, 100, 100, 100, 100, 98]);
        assert!(stripes(9).iter_mut().all(|slots| even.steps(slots, &[true; 6], MIB).is_empty()));
        let mut uneven = fleet([130, 100, 100, 100, 100, 100, 70]);
        let steps = uneven.steps(&mut stripes(1)[0], &[true; 6], MIB);
        assert_eq!(steps, [Step { shard: 0, from: 0, to: 6 }]);
        assert_eq!(held(&uneven), [129, 100, 100, 100, 100, 100, 71]);
        assert_eq!(uneven.steps(&mut stripes(1)[0], &[true; 6], MIB), [], "no more than that");
        uneven.undo(steps[0], MIB);
        assert_eq!(held(&uneven), [130, 100, 100, 100, 100, 100, 70]);
    }

    #[test]
    fn random_fleets_become_no_less_even_break_no_cap_and_come_to_an_end() {
        let mut seed = 11u64;
        let mut random = |below: u64| {
            seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (seed >> 33) % below
        };
        let (mut moved, mut fleets) = (0, 0);
        for round in 0..200u8 {
            let losses = 1 + random(2) as u8;
            let shape = Shape::new(3, 6, losses).unwrap();
            let shape = shape.spread_over(Spread { zones: random(4) as u8, ..Spread::default() }).unwrap();
            let nodes = 6 + random(8) as u8;
            let mut places: Vec<Place> = (0..nodes).map(|node| at(node, random(9) as u8, random(6) as u8)).collect();
            // The first of them were there when it was put.
            let old: Vec<Candidate> = places.iter().take(6).map(|place| place.candidate.clone()).collect();
            let mut lies = Vec::new();
            for number in 0..60u8 {
                let mut key = [round; 32];
                key[0] = number;
                let Ok(slots) = place(&shape, &old, &key) else { break };
                let bytes = (1 + random(256)) * 1024;
                slots.iter().for_each(|at| places[*at].held_bytes += bytes);
                let may_go: Vec<bool> = slots.iter().map(|_| random(8) > 0).collect();
                lies.push((slots.into_iter().map(Some).collect::<Vec<_>>(), may_go, bytes));
            }
            if lies.is_empty() {
                continue;
            }
            for place in &mut places {
                place.takes = random(10) > 0;
                place.free_bytes = random(16 * MIB);
            }
            fleets += 1;
            let limits: Vec<u64> = places.iter().map(|place| place.held_bytes + place.free_bytes).collect();
            let all = |fleet: &Fleet| fleet.places().iter().map(|place| place.held_bytes).sum::<u64>();
            let spread = |fleet: &Fleet| {
                let held = || fleet.places().iter().filter(|place| place.takes).map(|place| place.held_bytes);
                (held().max().unwrap_or(0), Reverse(held().min().unwrap_or(0)))
            };
            let mut fleet = Fleet::new(shape, places, u64::MAX);
            let (before, mut passes) = (all(&fleet), 0);
            loop {
                let mut steps_taken = 0;
                for (slots, may_go, bytes) in &mut lies {
                    let (was, at_first) = (spread(&fleet), slots.clone());
                    let steps = fleet.steps(slots, may_go, *bytes);
                    let now = spread(&fleet);
                    assert!(now.0 <= was.0 && now.1 <= was.1, "round {round}: {was:?} {now:?}");
                    for step in &steps {
                        assert!(may_go[step.shard] && !at_first.contains(&Some(step.to)), "round {round}: {step:?}");
                        assert_eq!(at_first[step.shard], Some(step.from), "round {round}: sent on before it is there");
                        assert!(fleet.places()[step.from].takes && fleet.places()[step.to].takes);
                    }
                    let holders = slots.iter().flatten().map(|at| &fleet.places()[*at].candidate);
                    assert!(within_caps(&shape, &holders.collect::<Vec<_>>()), "round {round}");
                    let nodes = |slots: &[Option<usize>]| slots.iter().collect::<BTreeSet<_>>().len();
                    assert!(nodes(slots) >= nodes(&at_first), "round {round}: two at one provider");
                    steps_taken += steps.len();
                }
                moved += steps_taken;
                passes += 1;
                if steps_taken == 0 {
                    break;
                }
                assert!(passes < 100, "round {round} has no end");
            }
            assert_eq!(all(&fleet), before);
            let within = |(place, limit): (&Place, &u64)| place.held_bytes <= *limit;
            assert!(fleet.places().iter().zip(&limits).all(within), "round {round}: more than a deal takes");
        }
        assert!(moved > 500 && fleets > 50, "{moved} {fleets}");
    }
}
