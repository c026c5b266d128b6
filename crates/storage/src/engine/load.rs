//! Count what each provider, operator, network and zone has of a stripe, and say who may have one more.

use super::spread::Provider;
use hodei_types::code::{Domain, Shape};
use std::collections::BTreeMap;

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
