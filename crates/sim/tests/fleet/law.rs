//! Measure by what is true, which no repairer knows: what is lost, who has most of a stripe, what could be read.

use crate::{device::Is, world::World};
use rand::RngExt as _;
use std::collections::{BTreeMap, BTreeSet};

impl World {
    /// Whether it is lost, by what is true.
    pub(crate) fn judge(&mut self, group: u32) {
        let k = u16::from(self.plan.shape.k());
        let one = &self.groups[group as usize];
        let is_somewhere = |(slot, device): (usize, &u32)| {
            let device = &self.devices[*device as usize];
            !matches!(device.is, Is::Dead(_)) && device.holds.contains(&(group, slot as u8))
        };
        let left = one.slots.iter().enumerate().filter(|held| is_somewhere(*held)).count() as u16;
        let is_new = !one.is_lost && left < k;
        self.outcome.least = self.outcome.least.min(left.saturating_sub(k));
        if is_new {
            self.groups[group as usize].is_lost = true;
            self.outcome.lost += 1;
        }
    }

    /// Takes note of who has most of a group, whether it is counted for that or not.
    pub(crate) fn concentrate(&mut self, group: u32) {
        let slots = &self.groups[group as usize].slots;
        let mut held: Vec<(u32, u8)> = slots.iter().zip(0..).map(|(device, slot)| (*device, slot)).collect();
        let roster = &self.rosters[self.groups[group as usize].bucket as usize];
        for device in roster {
            let had = self.devices[*device as usize].had.iter().filter(|(of, _)| *of == group);
            held.extend(had.map(|(_, slot)| (*device, *slot)));
        }
        let most = |key: &dyn Fn(u32) -> u64| -> u8 {
            let mut by: BTreeMap<u64, BTreeSet<u8>> = Default::default();
            for (device, slot) in &held {
                by.entry(key(*device)).or_default().insert(*slot);
            }
            by.values().map(|slots| slots.len() as u8).max().unwrap_or(0)
        };
        let operator = |device: u32| {
            let account = self.devices[device as usize].candidate.operator;
            u64::from(u32::from_be_bytes([account[0], account[1], account[2], account[3]]))
        };
        let (device, operator, network) = (
            most(&|device| u64::from(device)),
            most(&operator),
            most(&|device| self.devices[device as usize].network as u64),
        );
        self.outcome.at_device = self.outcome.at_device.max(device);
        self.outcome.at_operator = self.outcome.at_operator.max(operator);
        self.outcome.in_network = self.outcome.in_network.max(network);
    }

    /// Looks whether some groups could be read now.
    pub(crate) fn look(&mut self) {
        let k = usize::from(self.plan.shape.k());
        for _ in 0..64 {
            let group = self.rng.random_range(0..self.groups.len() as u32);
            let slots = self.groups[group as usize].slots.iter().enumerate();
            let there: Vec<u32> = slots
                .filter(|(slot, device)| {
                    let device = &self.devices[**device as usize];
                    device.is == Is::On && device.holds.contains(&(group, *slot as u8))
                })
                .map(|(_, device)| *device)
                .collect();
            let awake =
                there.iter().filter(|device| self.devices[**device as usize].wakes_in(self.now_ms) == 0).count();
            self.outcome.looks += 1;
            self.outcome.asleep += u64::from(awake < k);
            self.outcome.unreadable += u64::from(there.len() < k);
        }
    }
}
