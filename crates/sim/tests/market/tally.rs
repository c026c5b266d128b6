//! Count what people did, by finalized events.

use alloy_sol_types::SolEvent;
use hodei_types::{
    abi::{ILeases, IMarket},
    chain::{Log, TxReceipt},
};
use std::collections::BTreeMap;

use crate::cast::CLASSES;

/// What happened.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tally {
    pub(crate) blocks: u64,
    /// Books that were read, checked and compared.
    pub(crate) books: usize,
    pub(crate) offered: u32,
    pub(crate) updated: u32,
    pub(crate) retired: u32,
    pub(crate) withdrawn: u32,
    /// By class; those that waited; those filled later.
    pub(crate) placed: BTreeMap<u8, u32>,
    pub(crate) waited: u32,
    pub(crate) filled: u32,
    pub(crate) cancelled: u32,
    pub(crate) by_budget: u32,
    pub(crate) settled: u32,
    pub(crate) renewed: u32,
    /// By who ended it.
    pub(crate) ended: BTreeMap<u8, u32>,
    pub(crate) reverted: u32,
    /// Of those, alone in their block, with the book before and after it.
    pub(crate) nothing_left: u32,
}

impl Tally {
    pub(crate) fn add(&mut self, other: &Self) {
        self.blocks += other.blocks;
        self.books += other.books;
        let mine = [
            &mut self.offered,
            &mut self.updated,
            &mut self.retired,
            &mut self.withdrawn,
            &mut self.waited,
            &mut self.filled,
            &mut self.cancelled,
            &mut self.by_budget,
            &mut self.settled,
            &mut self.renewed,
            &mut self.reverted,
            &mut self.nothing_left,
        ];
        let theirs = [
            other.offered,
            other.updated,
            other.retired,
            other.withdrawn,
            other.waited,
            other.filled,
            other.cancelled,
            other.by_budget,
            other.settled,
            other.renewed,
            other.reverted,
            other.nothing_left,
        ];
        mine.into_iter().zip(theirs).for_each(|(sum, count)| *sum += count);
        for (sums, counts) in [(&mut self.placed, &other.placed), (&mut self.ended, &other.ended)] {
            counts.iter().for_each(|(key, count)| *sums.entry(*key).or_default() += count);
        }
    }

    /// Everything that people can do was done.
    pub(crate) fn judge(&self) {
        let did = [
            ("hosts were offered", self.offered),
            ("offers changed", self.updated),
            ("hosts retired", self.retired),
            ("collateral came back", self.withdrawn),
            ("orders waited", self.waited),
            ("orders were cancelled", self.cancelled),
            ("budgets ordered", self.by_budget),
            ("leases paid", self.settled),
            ("leases were renewed", self.renewed),
            ("calls reverted", self.reverted),
            ("reverted calls left nothing", self.nothing_left),
        ];
        for (what, count) in did {
            assert!(count > 0, "no {what}: {self:?}");
        }
        for class in CLASSES {
            assert!(self.placed.contains_key(&(class as u8)), "no {class:?} order was placed: {self:?}");
        }
        for by in 1..=3 {
            assert!(self.ended.contains_key(&by), "no lease ended by {by}: {self:?}");
        }
    }

    /// Takes what a finalized call did.
    pub(crate) fn learn(&mut self, receipt: &TxReceipt) {
        let kind = |log: &Log| log.topics.first().copied().unwrap_or_default();
        let was_ordered = receipt.logs.iter().any(|log| kind(log) == IMarket::Ordered::SIGNATURE_HASH);
        for log in &receipt.logs {
            match kind(log) {
                IMarket::Offered::SIGNATURE_HASH => self.offered += 1,
                IMarket::Updated::SIGNATURE_HASH => self.updated += 1,
                IMarket::Retired::SIGNATURE_HASH => self.retired += 1,
                IMarket::Withdrawn::SIGNATURE_HASH => self.withdrawn += 1,
                IMarket::Cancelled::SIGNATURE_HASH => self.cancelled += 1,
                // What was filled in its own call did not wait.
                IMarket::Filled::SIGNATURE_HASH => self.filled += u32::from(!was_ordered),
                ILeases::Settled::SIGNATURE_HASH => self.settled += 1,
                ILeases::Renewed::SIGNATURE_HASH => self.renewed += 1,
                IMarket::Ordered::SIGNATURE_HASH => {
                    let ordered = event::<IMarket::Ordered>(log);
                    if ordered.state == 1 {
                        self.waited += 1;
                    } else {
                        *self.placed.entry(ordered.terms.class).or_default() += 1;
                    }
                }
                ILeases::Ended::SIGNATURE_HASH => {
                    *self.ended.entry(event::<ILeases::Ended>(log).by).or_default() += 1;
                }
                _ => {}
            }
        }
    }
}

fn event<E: SolEvent>(log: &Log) -> E {
    E::decode_raw_log(log.topics.iter().copied(), &log.data).expect("a module's event")
}
