//! Draw what leases owe, where it is worth the fee, and end those whose escrow is over.

use super::Host;
use crate::{provider::lock, tasks::Task};
use alloy_primitives::U256;
use alloy_sol_types::SolCall;
use commonware_runtime::Storage;
use hodei_ledger::account::{AccountError, Order};
use hodei_types::{
    abi::{ILeases, LEASES},
    chain::ChainError,
};
use std::time::Duration;
use tokio::sync::watch;

/// What is owed is looked at so often.
const LOOK_EVERY: Duration = Duration::from_secs(15);
/// A transaction in no block by then is given up; the next attempt makes it good.
const SETTLE_TIMEOUT: Duration = Duration::from_secs(30);
/// Settling one lease: a dozen slots, a transfer and a sample for the index.
const TOUCH_GAS: u64 = 500_000;
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
            tokio::select! {
                () = wait => {}
                _ = stop.wait_for(|stop| *stop) => return,
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

    async fn draw(&self) -> Result<(), SettleError> {
        let head = self.chain().head().await?;
        let fee = U256::from(TOUCH_GAS) * U256::from(head.base_fee);
        let due = {
            let leases = lock(&self.0.leases);
            let due = leases.iter().filter(|lease| is_due(lease, head.time_ms, fee));
            due.map(|lease| lease.id).collect::<Vec<_>>()
        };
        for batch in due.chunks(TOUCHED_MAX) {
            let call = ILeases::touchCall { leases: batch.to_vec() };
            let order = Order::call(LEASES, call.abi_encode(), TOUCH_GAS * (batch.len() as u64 + 1)).patient();
            let settled = tokio::time::timeout(SETTLE_TIMEOUT, self.0.parts.account.execute(&order));
            match settled.await.map_err(|_| SettleError::Late)? {
                Ok(_) => tracing::info!(leases = batch.len(), "leases settled"),
                // Its owner ended one of them meanwhile: they are read again before the next look.
                Err(AccountError::Reverted(_)) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }
}

/// Whether a lease is to be settled now: it is over, or owes so much that the fee does not matter.
fn is_due(lease: &ILeases::Lease, now_ms: u64, fee: U256) -> bool {
    let owed = U256::from(lease.owed);
    let is_over = lease.untilMs <= now_ms;
    // An escrow that is over frees the room for others, whatever is left of it.
    is_over || (!owed.is_zero() && owed >= fee.saturating_mul(U256::from(WORTH)))
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
        assert!(!is_due(&ILeases::Lease { owed: 0, ..running }, 1, U256::ZERO), "nothing is owed");
    }
}
