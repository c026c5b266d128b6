//! Count a stripe's shards by who has them, and tell where no more of them find room.

use super::{
    rooms::Fill,
    spread::{Provider, Spread},
};
use commonware_runtime::Clock;
use hodei_types::{
    code::{Domain, Shape},
    transport::Transport,
};
use std::collections::{BTreeMap, BTreeSet};

/// Shards of one stripe by provider, operator, network and zone.
pub(super) struct Load {
    pub(super) shards: Vec<u32>,
    operators: BTreeMap<[u8; 20], u32>,
    networks: BTreeMap<String, u32>,
    zones: BTreeMap<String, u32>,
}

impl Load {
    pub(super) fn new(providers: usize) -> Self {
        Self {
            shards: vec![0; providers],
            operators: BTreeMap::new(),
            networks: BTreeMap::new(),
            zones: BTreeMap::new(),
        }
    }

    pub(super) fn takes(&self, shape: &Shape, roster: &[Provider], at: usize, may_double: bool) -> bool {
        let below = |shards: Option<&u32>, domain| shards.is_none_or(|shards| *shards < u32::from(shape.cap(domain)));
        let provider = &roster[at];
        (may_double || self.shards[at] == 0)
            && below(self.operators.get(&provider.operator), Domain::Operator)
            && below(self.networks.get(&provider.network), Domain::Network)
            && below(self.zones.get(&provider.zone), Domain::Zone)
    }

    pub(super) fn add(&mut self, roster: &[Provider], at: usize) {
        self.shards[at] += 1;
        *self.operators.entry(roster[at].operator).or_default() += 1;
        *self.networks.entry(roster[at].network.clone()).or_default() += 1;
        *self.zones.entry(roster[at].zone.clone()).or_default() += 1;
    }

    pub(super) fn remove(&mut self, roster: &[Provider], at: usize) {
        self.shards[at] -= 1;
        *self.operators.get_mut(&roster[at].operator).expect("added before") -= 1;
        *self.networks.get_mut(&roster[at].network).expect("added before") -= 1;
        *self.zones.get_mut(&roster[at].zone).expect("added before") -= 1;
    }
}

impl<E: Clock, T: Transport> Spread<E, T> {
    /// How many deals are full, where those that are not could not take `want` shards of a stripe within the caps: it will
    /// not go better soon. What is written for the index finds room again with the next release.
    pub(super) fn full_for(&self, want: usize) -> Option<usize> {
        let full = self.full();
        if full.is_empty() || self.fill == Fill::Index {
            return None;
        }
        let (mut load, mut count) = (Load::new(self.roster.len()), 0);
        loop {
            let before = count;
            for at in (0..self.roster.len()).filter(|at| !full.contains(at)) {
                if count < want && load.takes(&self.shape, &self.roster, at, true) {
                    load.add(&self.roster, at);
                    count += 1;
                }
            }
            if count == before {
                return (count < want).then_some(full.len());
            }
        }
    }

    /// The same of copies, which more operators must take than may be lost.
    pub(super) fn full_for_copies(&self) -> Option<usize> {
        let full = self.full();
        let others = (0..self.roster.len()).filter(|at| !full.contains(at)).map(|at| self.roster[at].operator);
        let is_short = others.collect::<BTreeSet<_>>().len() <= self.shape.t().into();
        (is_short && !full.is_empty() && self.fill == Fill::Data).then_some(full.len())
    }
}
