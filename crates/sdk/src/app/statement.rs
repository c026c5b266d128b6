//! Add up what an app paid, by the ledger's receipts: to whom, for what, and what was burned.

use super::{Apps, level::Broke, record::Record};
use crate::{fault::Fault, moves::event};
use alloy_primitives::{Address, U256};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use hodei_types::{
    abi::{ILeases, LEASES},
    chain::{LOG_BLOCKS_MAX, Log, LogFilter},
    transport::Transport,
};
use std::collections::BTreeMap;

/// Questions asked at once.
const AT_ONCE: usize = 16;

/// What leases paid.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Statement {
    /// Wei that each operator got.
    pub earned: BTreeMap<Address, U256>,
    /// Wei that calls cost, burned or earned.
    pub calls: U256,
    /// Wei that watchers got who said that a host was lost.
    pub watched: U256,
    /// Wei of escrows that came back as leases ended, from whoever ended them.
    pub returned: U256,
    /// Wei that nobody got.
    pub burned: U256,
    /// Seconds of replicas that were paid.
    pub secs: u64,
    /// Receipts it is made of.
    pub receipts: usize,
    /// Promises of hosts that were not kept, with what each paid back.
    pub breaches: Vec<Broke>,
}

impl Statement {
    /// All that was paid, in wei.
    pub fn paid(&self) -> U256 {
        self.earned.values().sum::<U256>() + self.watched + self.burned
    }

    /// Wei that were put in escrow for leases that ended all: what was paid and what came back.
    pub fn escrow(&self) -> U256 {
        self.paid() + self.returned
    }

    /// What hosts paid back for promises they did not keep, in wei.
    pub fn indemnity(&self) -> U256 {
        self.breaches.iter().map(|broke| broke.paid).sum()
    }

    /// Adds what one event of a lease says was paid.
    fn add(&mut self, log: &Log) {
        if let Some(watched) = event::<ILeases::Watched>(log) {
            self.watched += watched.amount;
        }
        if let Some(ended) = event::<ILeases::Ended>(log) {
            self.returned += ended.refund;
        }
        if let Some(claimed) = event::<ILeases::Claimed>(log) {
            self.claim(&claimed);
        }
        if let Some(settled) = event::<ILeases::Settled>(log) {
            self.settle(&settled);
        }
    }

    fn claim(&mut self, claimed: &ILeases::Claimed) {
        *self.earned.entry(claimed.operator).or_default() += claimed.amount;
        self.burned += claimed.burned;
        self.calls += claimed.amount + claimed.burned;
        self.receipts += 1;
    }

    fn settle(&mut self, settled: &ILeases::Settled) {
        *self.earned.entry(settled.operator).or_default() += settled.amount;
        self.burned += settled.burned;
        self.secs = self.secs.saturating_add(settled.secs);
        self.receipts += 1;
    }
}

impl<T: Transport> Apps<T> {
    /// What all leases of an app paid so far; the ledger must keep the blocks since its first order.
    pub async fn statement(&self, record: &Record) -> Result<Statement, Fault> {
        let mut statement = Statement { breaches: self.breaches(record).await?, ..Statement::default() };
        self.logs_of(record, LEASES).await?.iter().for_each(|log| statement.add(log));
        Ok(statement)
    }

    /// What a module logged about an app's leases.
    pub(super) async fn logs_of(&self, record: &Record, module: Address) -> Result<Vec<Log>, Fault> {
        let head = self.chain().head().await?.height;
        let leases: Vec<u64> = self.all_leases(record).await?.iter().map(|lease| lease.id).collect();
        let from = (record.since_height..=head).step_by(LOG_BLOCKS_MAX as usize);
        let ranges: Vec<(u64, u64)> = from.map(|from| (from, head.min(from + LOG_BLOCKS_MAX - 1))).collect();
        let questions = leases.iter().flat_map(|lease| ranges.iter().map(move |range| (*lease, *range)));
        let asked = questions.map(|(lease, (from, to))| async move {
            let filter = LogFilter {
                from,
                to,
                address: Some(module),
                topic0: None,
                topic1: Some(U256::from(lease).into()),
                topic2: None,
            };
            self.chain().logs(filter).await
        });
        let logs: Vec<_> = stream::iter(asked.collect::<Vec<_>>()).buffered(AT_ONCE).try_collect().await?;
        Ok(logs.into_iter().flatten().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_statement_adds_up_by_who_was_paid() {
        let settled = |operator: u8, secs, amount: u64, burned: u64| ILeases::Settled {
            lease: 1,
            node: Default::default(),
            owner: Default::default(),
            operator: Address::repeat_byte(operator),
            secs,
            amount: U256::from(amount),
            burned: U256::from(burned),
        };
        let mut statement = Statement::default();
        [settled(1, 10, 99, 1), settled(2, 5, 49, 1), settled(1, 7, 69, 1)]
            .iter()
            .for_each(|one| statement.settle(one));
        statement.claim(&ILeases::Claimed {
            lease: 1,
            node: Default::default(),
            owner: Default::default(),
            operator: Address::repeat_byte(2),
            claimed: 100,
            amount: U256::from(99),
            burned: U256::from(1),
        });
        assert_eq!(statement.earned[&Address::repeat_byte(1)], U256::from(168));
        assert_eq!(statement.earned[&Address::repeat_byte(2)], U256::from(148));
        assert_eq!((statement.burned, statement.secs, statement.receipts), (U256::from(4), 22, 4));
        assert_eq!((statement.paid(), statement.calls), (U256::from(320), U256::from(100)));
    }
}
