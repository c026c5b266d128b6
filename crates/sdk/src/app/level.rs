//! Say what hosts promise of an app's replicas, what a breach would pay, and what breaches paid.

use super::{Apps, record::Record};
use crate::{book::window_secs, fault::Fault, moves::event};
use alloy_primitives::{B256, U256};
use hodei_types::{
    abi::{
        ILevels,
        IMarket::{Host, Order},
        LEVELS, PAGE_MAX,
    },
    call::ask,
    chain::{Chain, ChainError},
    market::{Breach, Level, show_percent},
    transport::Transport,
};
use std::collections::BTreeMap;

/// What a host promises of one replica.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Promised {
    pub level: Level,
    /// Wei that a breach pays.
    pub pays: u128,
}

/// A promise that was not kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broke {
    pub lease: u64,
    pub breach: Breach,
    /// How long it was down, or took.
    pub secs: u64,
    /// Wei that the app's owner got.
    pub paid: U256,
}

/// What hosts promise; nothing, where nobody asked.
#[derive(Clone, Debug, Default)]
pub(super) struct Promises {
    by_node: BTreeMap<B256, ILevels::Promise>,
    window_ms: u64,
}

impl Promises {
    /// What these hosts promise, if an order asks for some availability.
    pub(super) async fn of(chain: &dyn Chain, terms: &Order, hosts: &[Host]) -> Result<Self, ChainError> {
        if terms.availabilityMinBp == 0 {
            return Ok(Self::default());
        }
        let mut by_node = BTreeMap::new();
        for batch in hosts.chunks(PAGE_MAX as usize) {
            let nodes = batch.iter().map(|host| host.node).collect();
            let promises = ask(chain, LEVELS, &ILevels::levelsCall { nodes }).await?;
            by_node.extend(promises.into_iter().map(|promise| (promise.node, promise)));
        }
        Ok(Self { by_node, window_ms: window_secs(chain).await?.saturating_mul(1000) })
    }

    /// What a host promises of a replica at that rate; none if its bond does not back one more.
    pub(super) fn of_replica(&self, terms: &Order, node: B256, rate: u128) -> Option<Promised> {
        let promise = self.by_node.get(&node).filter(|promise| promise.level != Level::default())?;
        let pays = promise.level.pay(rate, self.window_ms, terms.secs);
        let free = promise.bond.saturating_sub(promise.bound);
        (U256::from(pays) <= free).then_some(Promised { level: promise.level, pays })
    }

    /// Wei that leases at that rate would bind with a host that promises a tenth.
    pub(super) fn bond(&self, terms: &Order, rate: u128) -> U256 {
        let level = Level { payBp: 1_000, ..Level::default() };
        U256::from(level.pay(rate, self.window_ms, terms.secs)) * U256::from(terms.replicas)
    }

    #[cfg(test)]
    pub(super) fn made(promises: Vec<ILevels::Promise>, window_ms: u64) -> Self {
        Self { by_node: promises.into_iter().map(|promise| (promise.node, promise)).collect(), window_ms }
    }
}

impl Promised {
    /// `99.9%, start 30s, restore 5m`.
    pub fn words(&self) -> String {
        let span = |secs: u16| super::unit::span(secs.into());
        let Level { availabilityBp: availability, startSecs: start, restoreSecs: restore, .. } = self.level;
        format!("{}, start {}, restore {}", show_percent(availability), span(start), span(restore))
    }
}

impl<T: Transport> Apps<T> {
    /// All promises of an app's leases that were not kept, by the ledger's receipts; it must keep the blocks since the
    /// app's first order.
    pub(super) async fn breaches(&self, record: &Record) -> Result<Vec<Broke>, Fault> {
        let mut asks = false;
        for order in record.all_orders() {
            asks |= self.placed(order).await?.order.availabilityMinBp > 0;
        }
        if !asks {
            return Ok(Vec::new());
        }
        let logs = self.logs_of(record, LEVELS).await?;
        let told = logs.iter().filter_map(event::<ILevels::Breached>);
        let broke = told.filter_map(|one| {
            let breach = Breach::of(one.kind)?;
            Some(Broke { lease: one.lease, breach, secs: one.secs, paid: one.amount })
        });
        Ok(broke.collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::app::draft::Draft;
    use alloy_primitives::Address;

    #[test]
    fn a_promise_counts_as_far_as_its_bond_backs_a_replica_more() {
        let (draft, lines) = Draft::parse("component = \"a.wasm\"\navailability = \"99.9%\"\nterm = \"1h\"").unwrap();
        let terms = draft.check(&lines).unwrap().terms;
        let level = Level { availabilityBp: 9_990, startSecs: 30, restoreSecs: 300, payBp: 1_000 };
        let promise = |node, bond: u64, bound: u64| ILevels::Promise {
            node: B256::repeat_byte(node),
            operator: Address::ZERO,
            level: if node == 3 { Level::default() } else { level },
            bond: U256::from(bond),
            bound: U256::from(bound),
        };
        let promises = Promises::made(
            vec![promise(1, 10_000, 6_400), promise(2, 10_000, 6_401), promise(3, 10_000, 0)],
            86_400_000,
        );
        let of = |node| promises.of_replica(&terms, B256::repeat_byte(node), 10);
        // A tenth of an hour at ten wei a second.
        assert_eq!(of(1), Some(Promised { level, pays: 3_600 }));
        assert_eq!((of(2), of(3), of(4)), (None, None, None));
        assert_eq!(of(1).unwrap().words(), "99.9%, start 30s, restore 5m");
        assert_eq!(promises.bond(&terms, 10), U256::from(3_600));
    }
}
