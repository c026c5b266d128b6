//! Choose who holds a stripe, so that no t operators or networks can lose it.
//!
//! Caps matter more than numbers: at random, two large networks take 11 % of objects with them; under the
//! shape's cap per operator and per network, none. Whether a placement exists is a small maximum flow
//! operator → node → network; nodes are tried in an order drawn from the caller's randomness that alternates
//! between zones, first one shard each, then more where the caps allow it: nobody holds two of a stripe unless too few
//! others are there. Where the owner asks for zones they are capped as well; that is no flow any more, so some further
//! orders are tried before a placement is refused, or gives somebody two.

use std::collections::{BTreeMap, BTreeSet};

use hodei_types::{
    code::{Domain, Shape, ShapeError},
    transport::NodeKey,
};

/// Orders tried where zones are capped: the flow alone would find the best placement with the first.
const ORDERS: u8 = 32;

/// A provider that would take a shard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    pub node: NodeKey,
    /// Account that registered it.
    pub operator: [u8; 20],
    /// What fails together on the wire: AS number or prefix; for private addresses the declared zone.
    pub network: String,
    /// Failure domain as declared.
    pub zone: String,
}

/// Why there is no placement.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlaceError {
    #[error(transparent)]
    Shape(#[from] ShapeError),
    /// Enough operators and enough networks, but they overlap too much.
    #[error(
        "only {found} of {n} shards can be placed with at most {operator} at one operator, {network} in one network and {zone} in one zone"
    )]
    Overlap { found: usize, n: u8, operator: u8, network: u8, zone: u8 },
}

/// Counts what a stripe's holders already carry.
#[derive(Clone, Debug, Default)]
struct Load<'a> {
    operators: BTreeMap<&'a [u8; 20], u8>,
    networks: BTreeMap<&'a str, u8>,
    zones: BTreeMap<&'a str, u8>,
    nodes: BTreeMap<NodeKey, u8>,
}

/// Slot i of the result is the index into `candidates` of the holder of shard i. `seed` is fresh randomness.
pub fn place(shape: &Shape, candidates: &[Candidate], seed: &[u8; 32]) -> Result<Vec<usize>, PlaceError> {
    let operators: BTreeSet<_> = candidates.iter().map(|candidate| &candidate.operator).collect();
    let networks: BTreeSet<_> = candidates.iter().map(|candidate| &candidate.network).collect();
    let zones: BTreeSet<_> = candidates.iter().map(|candidate| &candidate.zone).collect();
    shape.fits(operators.len(), networks.len(), zones.len())?;
    let orders = if shape.spread().zones > 0 { ORDERS } else { 1 };
    let least = usize::from(shape.n()).saturating_sub(candidates.len());
    let (mut fewest, mut best): (Option<Vec<usize>>, _) = (None, 0);
    for round in 0..orders {
        let mut seed = *seed;
        seed[0] ^= round;
        match placed(shape, candidates, &seed) {
            Ok(slots) if doubled(&slots) <= least => return Ok(slots),
            Ok(slots) => {
                if fewest.as_ref().is_none_or(|known| doubled(&slots) < doubled(known)) {
                    fewest = Some(slots);
                }
            }
            Err(found) => best = best.max(found),
        }
    }
    if let Some(slots) = fewest {
        return Ok(slots);
    }
    let [operator, network, zone] = Domain::ALL.map(|domain| shape.cap(domain));
    Err(PlaceError::Overlap { found: best, n: shape.n(), operator, network, zone })
}

/// Shards that lie with somebody who holds another of the stripe.
pub fn doubled(slots: &[usize]) -> usize {
    slots.len() - slots.iter().collect::<BTreeSet<_>>().len()
}

/// The same as [`place`] with one order of candidates; or how many shards found a place.
fn placed(shape: &Shape, candidates: &[Candidate], seed: &[u8; 32]) -> Result<Vec<usize>, usize> {
    let order = order(candidates, seed);
    let n = usize::from(shape.n());
    let mut flow = Flow::new(candidates, shape);
    for each in 1..=shape.cap(Domain::Operator) {
        flow.each = each;
        // Again as long as anybody gets one: who gave its own to another of its operator may find room later.
        let mut before = None;
        while flow.total < n && before != Some(flow.total) {
            before = Some(flow.total);
            for candidate in &order {
                if flow.total < n {
                    flow.augment(*candidate);
                }
            }
        }
    }
    if flow.total < n {
        return Err(flow.total);
    }
    let mut slots: Vec<usize> = order.iter().flat_map(|at| std::iter::repeat_n(*at, flow.nodes[*at].into())).collect();
    // Which of them hold data shards is drawn anew, so that reads spread.
    let mut ranks = Ranks::new(seed, b"slots");
    for last in (1..slots.len()).rev() {
        slots.swap(last, ranks.below(last + 1));
    }
    Ok(slots)
}

/// Another holder for the shard at `slot`, within the caps, not among `avoid`; best first by the same
/// randomness. `None` if nobody is left.
pub fn spare(
    shape: &Shape,
    candidates: &[Candidate],
    slots: &[usize],
    slot: usize,
    avoid: &[NodeKey],
    seed: &[u8; 32],
) -> Option<usize> {
    let mut load = Load::default();
    for (at, held) in slots.iter().enumerate() {
        if at != slot {
            load.add(&candidates[*held]);
        }
    }
    let able = |at: &usize| {
        let candidate = &candidates[*at];
        *at != slots[slot] && !avoid.contains(&candidate.node) && load.room(candidate, shape)
    };
    let mut order = order(candidates, seed);
    order.retain(able);
    order.into_iter().min_by_key(|at| load.nodes.get(&candidates[*at].node).copied().unwrap_or(0))
}

/// Whether holders respect the caps; for those who check another's placement.
pub fn within_caps(shape: &Shape, holders: &[&Candidate]) -> bool {
    let mut load = Load::default();
    for holder in holders {
        if !load.room(holder, shape) {
            return false;
        }
        load.add(holder);
    }
    true
}

/// Whether a provider may take one more shard of a stripe beside those who hold the others, within the caps.
pub fn has_room(shape: &Shape, others: &[&Candidate], candidate: &Candidate) -> bool {
    let mut load = Load::default();
    others.iter().for_each(|other| load.add(other));
    load.room(candidate, shape)
}

impl<'a> Load<'a> {
    fn room(&self, candidate: &Candidate, shape: &Shape) -> bool {
        let below = |held: Option<&u8>, domain| held.is_none_or(|held| *held < shape.cap(domain));
        below(self.operators.get(&candidate.operator), Domain::Operator)
            && below(self.networks.get(candidate.network.as_str()), Domain::Network)
            && below(self.zones.get(candidate.zone.as_str()), Domain::Zone)
    }

    fn add(&mut self, candidate: &'a Candidate) {
        *self.operators.entry(&candidate.operator).or_default() += 1;
        *self.networks.entry(&candidate.network).or_default() += 1;
        *self.zones.entry(&candidate.zone).or_default() += 1;
        *self.nodes.entry(candidate.node).or_default() += 1;
    }
}

/// Unit flows operator → node → network under caps, and under those of zones beside.
struct Flow {
    /// Of each candidate, its operator, its network and its zone as small numbers.
    operator: Vec<usize>,
    network: Vec<usize>,
    zone: Vec<usize>,
    /// Shards so far.
    nodes: Vec<u8>,
    operators: Vec<u8>,
    networks: Vec<u8>,
    zones: Vec<u8>,
    /// Of operators, networks, zones.
    caps: [u8; 3],
    /// Most shards on one node.
    each: u8,
    total: usize,
}

/// Small numbers for values, equal ones for equal values.
fn numbered<'a, V: Ord + 'a>(values: impl Iterator<Item = &'a V>) -> Vec<usize> {
    let mut known = BTreeMap::new();
    let mut number = |value| {
        let next = known.len();
        *known.entry(value).or_insert(next)
    };
    values.map(&mut number).collect()
}

impl Flow {
    fn new(candidates: &[Candidate], shape: &Shape) -> Self {
        let none = vec![0; candidates.len()];
        Self {
            operator: numbered(candidates.iter().map(|candidate| &candidate.operator)),
            network: numbered(candidates.iter().map(|candidate| &candidate.network)),
            zone: numbered(candidates.iter().map(|candidate| &candidate.zone)),
            nodes: none.clone(),
            operators: none.clone(),
            networks: none.clone(),
            zones: none,
            caps: Domain::ALL.map(|domain| shape.cap(domain)),
            each: 1,
            total: 0,
        }
    }

    /// Gives one more shard to `node`, moving others out of its way if needed.
    fn augment(&mut self, node: usize) -> bool {
        if self.nodes[node] >= self.each {
            return false;
        }
        let mut visited = vec![false; self.nodes.len()];
        let done = self.enter(node, &mut visited);
        self.total += usize::from(done);
        done
    }

    /// A shard enters at `node`'s operator, which must have room: shards of an operator stay its own.
    fn enter(&mut self, node: usize, visited: &mut [bool]) -> bool {
        let operator = self.operator[node];
        if self.operators[operator] >= self.caps[0] || !self.take(node, visited) {
            return false;
        }
        self.operators[operator] += 1;
        true
    }

    fn has_room(&self, node: usize) -> (bool, bool) {
        let (network, zone) = (self.networks[self.network[node]], self.zones[self.zone[node]]);
        (network < self.caps[1], zone < self.caps[2])
    }

    fn count(&mut self, node: usize, more: bool) {
        let (network, zone) = (self.network[node], self.zone[node]);
        for held in [&mut self.nodes[node], &mut self.networks[network], &mut self.zones[zone]] {
            *held = if more { *held + 1 } else { *held - 1 };
        }
    }

    /// Puts a shard on `node`; if its network or zone is full, a node that fills it passes one of its own to
    /// another node of its operator.
    fn take(&mut self, node: usize, visited: &mut [bool]) -> bool {
        if self.nodes[node] >= self.each || std::mem::replace(&mut visited[node], true) {
            return false;
        }
        let room = self.has_room(node);
        if room == (true, true) {
            self.count(node, true);
            return true;
        }
        let in_way = |at: usize| {
            (room.0 || self.network[at] == self.network[node]) && (room.1 || self.zone[at] == self.zone[node])
        };
        let neighbours = (0..self.nodes.len()).filter(|at| in_way(*at) && self.nodes[*at] > 0);
        for neighbour in neighbours.collect::<Vec<_>>() {
            let elsewhere = |at: usize| {
                self.operator[at] == self.operator[neighbour]
                    && (room.0 || self.network[at] != self.network[node])
                    && (room.1 || self.zone[at] != self.zone[node])
            };
            for sibling in (0..self.nodes.len()).filter(|at| elsewhere(*at)).collect::<Vec<_>>() {
                if !self.take(sibling, visited) {
                    continue;
                }
                // What was moved for the sibling may have emptied the neighbour.
                if self.nodes[neighbour] > 0 {
                    self.count(neighbour, false);
                    if self.has_room(node) == (true, true) {
                        self.count(node, true);
                        return true;
                    }
                    self.count(neighbour, true);
                }
                self.count(sibling, false);
            }
        }
        false
    }
}

/// All candidates, in random order, alternating between zones.
fn order(candidates: &[Candidate], seed: &[u8; 32]) -> Vec<usize> {
    let rank = |tag: &[u8], id: &[u8]| {
        let mut hasher = blake3::Hasher::new_keyed(seed);
        *hasher.update(tag).update(id).finalize().as_bytes()
    };
    let mut zones: BTreeMap<&str, Vec<(_, usize)>> = BTreeMap::new();
    for (at, candidate) in candidates.iter().enumerate() {
        zones.entry(&candidate.zone).or_default().push((rank(b"node", &candidate.node.0), at));
    }
    let mut rounds = Vec::with_capacity(candidates.len());
    for (zone, mut members) in zones {
        members.sort_unstable();
        let zone = rank(b"zone", zone.as_bytes());
        rounds.extend(members.into_iter().enumerate().map(|(round, (_, at))| (round, zone, at)));
    }
    rounds.sort_unstable();
    rounds.into_iter().map(|(.., at)| at).collect()
}

/// Numbers drawn from a seed.
struct Ranks(blake3::OutputReader);

impl Ranks {
    fn new(seed: &[u8; 32], tag: &[u8]) -> Self {
        Self(blake3::Hasher::new_keyed(seed).update(tag).finalize_xof())
    }

    /// The bias of 64 bits over at most 255 is nothing.
    fn below(&mut self, bound: usize) -> usize {
        let mut bytes = [0; 8];
        self.0.fill(&mut bytes);
        (u64::from_le_bytes(bytes) % bound as u64) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hodei_types::code::{Class, Spread};

    fn candidate(i: u8, operator: u8, network: u8) -> Candidate {
        let zone = format!("zone-{}", network % 3);
        Candidate { node: NodeKey([i; 32]), operator: [operator; 20], network: format!("net-{network}"), zone }
    }

    fn check(shape: &Shape, candidates: &[Candidate], slots: &[usize]) {
        assert_eq!(slots.len(), usize::from(shape.n()));
        let holders: Vec<&Candidate> = slots.iter().map(|at| &candidates[*at]).collect();
        assert!(within_caps(shape, &holders));
    }

    #[test]
    fn six_operators_in_three_zones_hold_one_shard_each() {
        let candidates: Vec<_> = (0..6).map(|i| candidate(i, i, i % 3)).collect();
        let shape = Class::Small.shape(6);
        let mut firsts = BTreeSet::new();
        for seed in 0..32 {
            let slots = place(&shape, &candidates, &[seed; 32]).unwrap();
            check(&shape, &candidates, &slots);
            assert_eq!(slots.iter().collect::<BTreeSet<_>>().len(), 6);
            firsts.insert(slots[0]);
        }
        assert_eq!(firsts.len(), 6, "everybody gets to hold the first shard");
        let three = &candidates[..3];
        let slots = place(&shape, three, &[1; 32]).unwrap();
        check(&shape, three, &slots);
        let Err(PlaceError::Shape(ShapeError::TooFew { domain, needed, found, .. })) =
            place(&shape, &candidates[..2], &[1; 32])
        else {
            panic!("two operators are too few")
        };
        assert_eq!((domain, needed, found), (Domain::Operator, 3, 2));
    }

    #[test]
    fn random_networks_are_placed_within_caps_or_refused_only_when_impossible() {
        let mut seed = 5u64;
        let mut random = |below: u64| {
            seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            ((seed >> 33) % below) as u8
        };
        let (mut placed, mut refused) = (0, 0);
        for round in 0..400 {
            let nodes = 3 + random(9);
            let candidates: Vec<_> = (0..nodes).map(|i| candidate(i, random(6), random(5))).collect();
            let shape = Class::Small.shape(3);
            match place(&shape, &candidates, &[round as u8; 32]) {
                Ok(slots) => {
                    check(&shape, &candidates, &slots);
                    placed += 1;
                }
                Err(_) => {
                    assert!(!possible(&shape, &candidates, shape.n()), "round {round}");
                    refused += 1;
                }
            }
        }
        assert!(placed > 20 && refused > 20, "{placed} {refused}");
    }

    #[test]
    fn nobody_holds_two_shards_of_a_stripe_where_it_can_be_placed_otherwise() {
        let mut seed = 11u64;
        let mut random = |below: u64| {
            seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            ((seed >> 33) % below) as u8
        };
        let (mut apart, mut crowded) = (0, 0);
        for round in 0..1500u32 {
            let nodes = 3 + random(10);
            let candidates: Vec<_> = (0..nodes).map(|i| candidate(i, random(8), random(6))).collect();
            let (k, n, t) = [(3, 6, 1), (1, 3, 1), (4, 8, 1), (2, 5, 1)][random(4) as usize];
            let shape = Shape::new(k, n, t).unwrap();
            let Ok(slots) = place(&shape, &candidates, &[round as u8; 32]) else { continue };
            check(&shape, &candidates, &slots);
            match doubled(&slots) {
                0 => apart += 1,
                _ => {
                    assert!(!possible(&shape, &candidates, 1), "round {round}: {slots:?} of {candidates:?}");
                    crowded += 1;
                }
            }
        }
        assert!(apart > 100 && crowded > 100, "{apart} {crowded}");
    }

    #[test]
    fn zones_that_are_asked_for_are_held_to() {
        let shape = Shape::new(3, 6, 1).unwrap().spread_over(Spread { operators: 6, networks: 0, zones: 3 }).unwrap();
        // Networks cross zones, so that a greedy choice can go wrong.
        for shift in 0..3u8 {
            let candidates: Vec<_> = (0..9u8)
                .map(|i| Candidate {
                    zone: format!("zone-{}", i % 3),
                    ..candidate(i, i, (i / 3 + shift * (i % 2)) % 4)
                })
                .collect();
            for seed in 0..64 {
                let slots = place(&shape, &candidates, &[seed; 32]).unwrap();
                check(&shape, &candidates, &slots);
                let zones: BTreeSet<_> = slots.iter().map(|at| &candidates[*at].zone).collect();
                let operators: BTreeSet<_> = slots.iter().map(|at| candidates[*at].operator).collect();
                assert_eq!((zones.len(), operators.len()), (3, 6));
            }
        }
        let two: Vec<_> = (0..9u8).map(|i| Candidate { zone: format!("{}", i % 2), ..candidate(i, i, i) }).collect();
        let Err(PlaceError::Shape(ShapeError::TooFew { domain: Domain::Zone, .. })) = place(&shape, &two, &[1; 32])
        else {
            panic!("two zones are too few")
        };
    }

    /// By trying everything, with at most `each` shards at one node.
    fn possible(shape: &Shape, candidates: &[Candidate], each: u8) -> bool {
        fn fill<'a>(left: u8, rest: &'a [Candidate], load: &Load<'a>, shape: &Shape, each: u8) -> bool {
            if left == 0 {
                return true;
            }
            if usize::from(left) > rest.len() * usize::from(each) {
                return false;
            }
            let Some((first, rest)) = rest.split_first() else { return false };
            let mut load = load.clone();
            let (mut left, mut more) = (left, each);
            loop {
                if fill(left, rest, &load, shape, each) {
                    return true;
                }
                if left == 0 || more == 0 || !load.room(first, shape) {
                    return false;
                }
                more -= 1;
                load.add(first);
                left -= 1;
            }
        }
        fill(shape.n(), candidates, &Load::default(), shape, each)
    }

    #[test]
    fn a_spare_keeps_the_caps() {
        let candidates: Vec<_> = (0..9).map(|i| candidate(i, i, i % 4)).collect();
        let shape = Class::Small.shape(9);
        let mut slots = place(&shape, &candidates, &[1; 32]).unwrap();
        let lost = candidates[slots[2]].node;
        let spare = spare(&shape, &candidates, &slots, 2, &[lost], &[2; 32]).unwrap();
        assert_ne!(candidates[spare].node, lost);
        slots[2] = spare;
        check(&shape, &candidates, &slots);
        // Who holds as much as one may takes no more.
        let cap = usize::from(shape.cap(Domain::Operator));
        assert!(has_room(&shape, &vec![&candidates[0]; cap - 1], &candidates[0]));
        assert!(!has_room(&shape, &vec![&candidates[0]; cap], &candidates[0]));
    }
}
