//! Draw what leases owe and what was signed for calls, where it is worth the fee, and end those whose escrow is over.

use super::{
    Host,
    calls::{WORTH_AT_STAKE, last_claim},
};
use crate::{provider::lock, tasks::Task};
use alloy_primitives::U256;
use alloy_sol_types::SolCall;
use commonware_runtime::Storage;
use hodei_ledger::account::{AccountError, Order};
use hodei_types::{
    abi::{ILeases, LEASES},
    app::wire::Voucher,
    chain::ChainError,
};
use std::time::Duration;
use tokio::sync::watch;

/// What is owed is looked at so often.
const LOOK_EVERY: Duration = Duration::from_secs(15);
/// A transaction in no block by then is given up; the next attempt makes it good.
const SETTLE_TIMEOUT: Duration = Duration::from_secs(30);
/// What is left to be claimed when this host stops gets so long.
const LAST_TIMEOUT: Duration = Duration::from_secs(5);
/// Settling one lease: a dozen slots, a transfer and a sample for the index.
const TOUCH_GAS: u64 = 500_000;
/// Claiming a voucher: a signature beside that.
pub(super) const CLAIM_GAS: u64 = 600_000;
/// Leases settled by one transaction, so that it stays under what the ledger takes at once.
pub(super) const TOUCHED_MAX: usize = 16;
/// Settled once so many fees are owed.
const WORTH: u64 = 100;

/// Why nothing was drawn.
#[derive(Debug, thiserror::Error)]
enum SettleError {
    #[error(transparent)]
    Chain(#[from] ChainError),
    #[error(transparent)]
    Account(#[from] AccountError),
    #[error("the transaction is in no block after {} s", SETTLE_TIMEOUT.as_secs())]
    Late,
}

impl<E: Storage> Host<E> {
    /// Draws until `stop`.
    pub(super) async fn settle(self, task: Task, mut stop: watch::Receiver<bool>) {
        loop {
            task.doing("waiting");
            let wait = tokio::time::sleep(LOOK_EVERY + task.delay().unwrap_or(LOOK_EVERY));
            let is_stopping = tokio::select! {
                () = wait => false,
                _ = stop.wait_for(|stop| *stop) => true,
            };
            if is_stopping {
                return self.claim_last().await;
            }
            if task.delay().is_none() {
                continue;
            }
            task.doing("looking what is owed");
            match self.draw().await {
                Ok(()) => task.passed(),
                Err(error) => task.failed(&error),
            }
        }
    }

    /// Claims at the stop what is worth it: nobody knows whether this host comes again before its leases end.
    async fn claim_last(&self) {
        let claiming = async {
            let fee = U256::from(CLAIM_GAS * WORTH_AT_STAKE) * U256::from(self.chain().head().await?.base_fee);
            let leases = lock(&self.0.leases).clone();
            for lease in leases.iter().filter(|lease| lease.callRate > 0) {
                if let Some(voucher) = last_claim(lease, self.0.vouchers.load(lease.id), fee) {
                    self.sent(&claim_of(lease.id, &voucher).patient()).await?;
                }
            }
            Ok::<_, SettleError>(())
        };
        match tokio::time::timeout(LAST_TIMEOUT, claiming).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(%error, "vouchers are not claimed before the stop"),
            Err(_) => tracing::warn!("vouchers are not claimed in time before the stop"),
        }
    }

    async fn draw(&self) -> Result<(), SettleError> {
        let head = self.chain().head().await?;
        self.claim(head.time_ms, U256::from(CLAIM_GAS) * U256::from(head.base_fee)).await?;
        let fee = U256::from(TOUCH_GAS) * U256::from(head.base_fee);
        let due = {
            let leases = lock(&self.0.leases);
            let mut due: Vec<_> = leases.iter().filter(|lease| is_due(lease, head.time_ms, fee)).collect();
            // A held lease ends after those that stand in it.
            due.sort_by_key(|lease| (lease.via == 0, lease.id));
            due.into_iter().map(|lease| lease.id).collect::<Vec<_>>()
        };
        for batch in due.chunks(TOUCHED_MAX) {
            let call = ILeases::touchCall { leases: batch.to_vec() };
            let order = Order::call(LEASES, call.abi_encode(), TOUCH_GAS * (batch.len() as u64 + 1)).patient();
            if self.sent(&order).await? {
                tracing::info!(leases = batch.len(), "leases settled");
            }
        }
        Ok(())
    }

    /// Claims what was signed for calls; before what it is claimed of is settled, and may end.
    async fn claim(&self, now_ms: u64, fee: U256) -> Result<(), SettleError> {
        let leases = lock(&self.0.leases).clone();
        for lease in &leases {
            let Some(replica) = self.replica(lease.id) else { continue };
            let Some(on_call) = &replica.on_call else { continue };
            let claimable = lock(&on_call.calls).claimable(lease, now_ms, fee);
            let Some(voucher) = claimable else { continue };
            if self.sent(&claim_of(lease.id, &voucher).patient()).await? {
                tracing::info!(lease = lease.id, "a voucher was claimed");
            } else {
                tracing::warn!(lease = lease.id, "the ledger pays nothing for a voucher");
                lock(&on_call.calls).refuse(&voucher);
            }
        }
        Ok(())
    }

    /// Sends one transaction; false where its owner ended one of its leases meanwhile: they are read again before the next
    /// look.
    async fn sent(&self, order: &Order) -> Result<bool, SettleError> {
        let sent = tokio::time::timeout(SETTLE_TIMEOUT, self.0.parts.account.execute(order));
        match sent.await.map_err(|_| SettleError::Late)? {
            Ok(_) => Ok(true),
            Err(AccountError::Reverted(_)) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }
}

/// The transaction that claims a voucher.
pub(super) fn claim_of(lease: u64, voucher: &Voucher) -> Order {
    let call = ILeases::claimCall { lease, total: voucher.total, signature: voucher.signature.to_vec().into() };
    Order::call(LEASES, call.abi_encode(), CLAIM_GAS)
}

/// Whether a lease is to be settled now: it is over, or owes so much that the fee does not matter.
fn is_due(lease: &ILeases::Lease, now_ms: u64, fee: U256) -> bool {
    let owed = U256::from(lease.owed);
    let is_over = lease.untilMs <= now_ms;
    // An escrow that is over frees the room for others, whatever is left of it.
    // What stands in a held lease pays its holder, who settles it himself.
    let is_earned = lease.via == 0 && !owed.is_zero();
    is_over || (is_earned && owed >= fee.saturating_mul(U256::from(WORTH)))
}

#[cfg(test)]
mod tests {
    use super::{super::replica::tests::lease, *};

    #[test]
    fn a_lease_is_settled_when_it_is_over_or_owes_a_hundred_fees() {
        let running = ILeases::Lease { owed: 99, untilMs: 1000, ..lease(1) };
        assert!(!is_due(&running, 999, U256::ONE));
        assert!(is_due(&ILeases::Lease { owed: 100, ..running.clone() }, 999, U256::ONE));
        assert!(is_due(&running, 1000, U256::ONE), "its escrow is over");
        let held = ILeases::Lease { owed: 100, via: 3, ..running.clone() };
        assert!(!is_due(&held, 999, U256::ONE) && is_due(&held, 1000, U256::ONE), "it is not this host's to earn");
        assert!(!is_due(&ILeases::Lease { owed: 0, ..running }, 1, U256::ZERO), "nothing is owed");
    }
}
