//! Count what the ledger paid for each device, and pay what they redeem.
//!
//! Upon each finalized head: the logs of `deals` since the last one, whose payments, proofs and misses are added to the
//! devices they name; credit and height are written down together. Upon a payout without a transaction after a crash:
//! the ledger's logs of moved coins tell whether it was sent; while they do not, it stays counted as given.

use super::{
    door::{Door, Failed},
    state::{Payout, Phase, Pool},
};
use crate::provider::follow::{What, all};
use alloy_primitives::{B256, U256};
use alloy_sol_types::SolEvent as _;
use hodei_ledger::account::{AccountError, Order};
use hodei_types::{
    abi::{ICoin, SYSTEM},
    chain::{ChainError, LOG_BLOCKS_MAX, LogFilter},
};

/// Quiet blocks after which the height reached is written down all the same.
const REMEMBER_EVERY: u64 = 1_000;
/// Devices whose account is looked at in one pass.
const LOOKED_AT_MAX: usize = 64;

impl Door {
    /// Counts events up to the head; whether there are more.
    pub(super) async fn count(&self, seen_s: u64) -> Result<bool, Failed> {
        let chain = self.account().chain().clone();
        let (head, from) = (chain.head().await?.height, self.counted() + 1);
        if from > head {
            return Ok(false);
        }
        let (happened, to) = all(&*chain, from, head).await?;
        // Each second: a pool of many devices is not copied for it.
        let (ours, height) = self.look(|pool| {
            let is_ours = |(node, _): &(B256, _)| pool.devices.contains_key(node);
            (happened.into_iter().filter(is_ours).collect::<Vec<_>>(), pool.height)
        });
        if ours.is_empty() && to < height + REMEMBER_EVERY {
            self.set_counted(to);
            return Ok(to < head);
        }
        self.change(|pool| {
            ours.iter().for_each(|(node, event)| note(pool, *node, &event.what, seen_s));
            pool.height = to;
        })
        .await?;
        self.set_counted(to);
        Ok(to < head)
    }

    /// Fills up the accounts of devices that need it, some at a time from `first` on; where the next pass begins.
    pub(super) async fn fill_all(&self, first: B256, now_s: u64) -> Result<B256, Failed> {
        let devices: Vec<(B256, Phase)> = self.look(|pool| {
            let devices = pool.devices.range(first..).take(LOOKED_AT_MAX + 1);
            devices.map(|(node, device)| (*node, device.phase)).collect()
        });
        for (node, phase) in devices.iter().take(LOOKED_AT_MAX) {
            if matches!(phase, Phase::Active | Phase::Leaving) {
                self.fill(*node, now_s).await?;
            }
        }
        Ok(devices.get(LOOKED_AT_MAX).map_or(B256::ZERO, |(node, _)| *node))
    }

    /// Fills up one device's account if it holds little.
    pub(super) async fn fill(&self, node: B256, now_s: u64) -> Result<(), Failed> {
        let account = self.look(|pool| pool.devices.get(&node).map(|device| device.account));
        let Some(account) = account else { return Ok(()) };
        let balance = self.account().chain().account(account).await?.balance;
        // Counted before it is sent: a crash costs the device a day's allowance, never the publisher a second one.
        let amount = self.change(|pool| pool.fill(node, balance, now_s)).await?;
        if !amount.is_zero() {
            self.account().execute(&Order::transfer(account, amount)).await?;
        }
        Ok(())
    }

    /// Sends a payout that was noted. The credit comes back only where the ledger says for certain that it was not.
    pub(super) async fn pay(&self, payout: &Payout) -> Result<B256, Failed> {
        match self.account().execute(&Order::transfer(payout.to, payout.amount)).await {
            Ok(receipt) => {
                self.change(|pool| pool.settled(payout.id, receipt.tx)).await?;
                Ok(receipt.tx)
            }
            Err(error) => {
                // Nothing was handed in, or it is in a block and moved nothing. A member that says it knows the
                // transaction already had it from somebody: it may be executed yet.
                let is_over = match &error {
                    AccountError::Reverted(_) | AccountError::Chain(ChainError::Unavailable(_)) => true,
                    AccountError::Chain(ChainError::Refused(reason)) => !reason.contains("known"),
                    _ => false,
                };
                if is_over {
                    self.change(|pool| pool.failed(payout.id)).await?;
                }
                Err(error.into())
            }
        }
    }

    /// Looks for the transfers of payouts that were cut off.
    pub(super) async fn find_unsettled(&self) -> Result<(), Failed> {
        let (operator, payouts) = self.look(|pool| (pool.operator, pool.payouts.clone()));
        let mut found: Vec<B256> = payouts.iter().filter_map(|payout| payout.tx).collect();
        for payout in payouts.iter().filter(|payout| payout.tx.is_none() && !self.is_sending(payout.id)) {
            let chain = self.account().chain();
            let filter = LogFilter {
                from: payout.height + 1,
                to: chain.head().await?.height.min(payout.height + LOG_BLOCKS_MAX),
                address: Some(SYSTEM),
                topic0: Some(ICoin::Transfer::SIGNATURE_HASH),
                topic1: Some(operator.into_word()),
                topic2: Some(payout.to.into_word()),
            };
            for log in chain.logs(filter).await? {
                if U256::from_be_slice(&log.data) == payout.amount && !found.contains(&log.tx) {
                    found.push(log.tx);
                    self.change(|pool| pool.settled(payout.id, log.tx)).await?;
                    break;
                }
            }
        }
        Ok(())
    }
}

fn note(pool: &mut Pool, node: B256, what: &What, seen_s: u64) {
    if let What::Paid { amount, .. } | What::Claimed { amount, .. } = what {
        pool.paid(node, *amount);
    }
    let Some(device) = pool.devices.get_mut(&node) else { return };
    match what {
        What::Proven { .. } => {
            device.windows_proven += 1;
            device.seen_s = device.seen_s.max(seen_s);
        }
        What::Missed { .. } => device.windows_missed += 1,
        What::Slashed { amount, .. } => device.slashed = device.slashed.saturating_add(*amount),
        _ => {}
    }
}
