//! Claim what ticks are worth, when it is worth the fee.
//!
//! Upon each turn: what is owed by a leaf is claimed if it exceeds fifty fees, or, as long as it exceeds one, if the leaf
//! has no further ticks or its tab takes none any more. What nobody can be paid for any more is forgotten. Upon a batch
//! that the ledger would not pay whole: its leaves one by one, so that one keeps no other back.

use super::{OPEN, Tabs, account::Paid, book::Key};
use crate::{journal::now_ms, provider::Provider, tasks::Task};
use alloy_primitives::B256;
use alloy_sol_types::SolCall;
use commonware_runtime::Storage;
use hodei_ledger::account::{AccountError, Order};
use hodei_types::{
    abi::{ITabs, TABS},
    call::ask,
    chain::ChainError,
};
use std::time::Duration;
use tokio::sync::watch;

/// Between looks at what is owed.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// A fee is at most a fiftieth of what is claimed, where that can wait.
const FEES: u128 = 50;
/// Leaves of one transaction, so that it stays under what the ledger takes at once.
const CLAIMS_MAX: usize = 16;
/// A claim's slots, path and transfer, and a hash of its chain: upper bounds, unused gas is not paid.
const CLAIM_GAS: u64 = 250_000;
const STEP_GAS: u64 = 150;
/// A transaction in no block by then is looked at again in the next turn.
const SETTLE_TIMEOUT: Duration = Duration::from_secs(30);

/// Why nothing was claimed.
#[derive(Debug, thiserror::Error)]
enum ClaimError {
    #[error(transparent)]
    Chain(#[from] ChainError),
    #[error(transparent)]
    Account(#[from] AccountError),
    #[error("{0}")]
    Disk(#[from] commonware_runtime::Error),
    #[error("the claim is in no block after {} s", SETTLE_TIMEOUT.as_secs())]
    Late,
}

impl ClaimError {
    /// The ledger would not pay it, or did not.
    fn is_reverted(&self) -> bool {
        matches!(self, Self::Chain(ChainError::Reverted(_)) | Self::Account(AccountError::Reverted(_)))
    }
}

/// A leaf that owes something.
struct Owed {
    key: Key,
    tab: B256,
    paid: Paid,
    /// Its tab takes no more ticks.
    is_over: bool,
}

impl Owed {
    fn gas(&self) -> u64 {
        CLAIM_GAS + STEP_GAS * u64::from(self.paid.tick.index - self.paid.claimed)
    }

    fn is_due(&self, base_fee: u64) -> bool {
        let fee = u128::from(self.gas()) * u128::from(base_fee);
        let owed = self.paid.owed_wei();
        owed > fee.saturating_mul(FEES) || owed > fee && (self.is_over || self.paid.is_full())
    }
}

impl<E: Storage> Tabs<E> {
    fn owed(&self, at_ms: u64) -> Vec<Owed> {
        let book = self.book();
        let leaves = book.iter().flat_map(|(key, account)| {
            let (key, tab, is_over) = (*key, account.tab, at_ms >= account.last_ms);
            account.leaves.values().map(move |paid| Owed { key, tab, paid: paid.clone(), is_over })
        });
        leaves.filter(|owed| owed.paid.tick.index > owed.paid.claimed).collect()
    }

    /// Forgets tabs that ended.
    async fn forget(&self, at_ms: u64) -> Result<(), commonware_runtime::Error> {
        let over = |until_ms: u64| until_ms > 0 && at_ms >= until_ms;
        let gone: Vec<Key> =
            self.book().iter().filter(|(_, account)| over(account.until_ms)).map(|(key, _)| *key).collect();
        if gone.is_empty() {
            return Ok(());
        }
        gone.iter().for_each(|key| self.book().remove(key));
        self.write(&gone).await
    }

    /// Whether the ledger would pay it, as it stands there.
    async fn is_payable(&self, owed: &Owed) -> Result<bool, ChainError> {
        let (tab, leaf) = (owed.tab, owed.paid.opening.number);
        let known = self.claimed(tab, leaf).await?;
        self.book().claimed(&owed.key, leaf, known.index);
        if known.index >= owed.paid.tick.index {
            return Ok(false);
        }
        let read = ask(&*self.chain, TABS, &ITabs::getCall { tab }).await?;
        let head = self.chain.head().await?;
        let is_open = read.state == OPEN && head.time_ms <= read.untilMs;
        if !is_open {
            tracing::error!(%tab, leaf, wei = owed.paid.owed_wei(), "a tab ended before its last ticks were claimed");
            self.book().claimed(&owed.key, leaf, owed.paid.tick.index);
        }
        Ok(is_open)
    }
}

impl<E: Storage> Provider<E> {
    /// Claims until `stop`; then puts the books on disk.
    pub(in crate::provider) async fn claims(self, task: Task, mut stop: watch::Receiver<bool>) {
        loop {
            task.doing("waiting");
            tokio::select! {
                () = tokio::time::sleep(LOOK_EVERY + task.delay().unwrap_or_default()) => {}
                _ = stop.wait_for(|stop| *stop) => break,
            }
            if task.delay().is_none() {
                continue;
            }
            match self.claim_due(&task).await {
                Ok(()) => task.passed(),
                Err(error) => task.failed(&error),
            }
        }
        if let Err(error) = self.tabs().flush().await {
            tracing::error!(%error, "the books of tabs are not on disk");
        }
    }

    async fn claim_due(&self, task: &Task) -> Result<(), ClaimError> {
        let mut at_ms = now_ms();
        let (tabs, mut failed) = (self.tabs(), None);
        if tabs.owed_wei() > 0 {
            let head = self.chain().head().await?;
            // What ends by the ledger's time ends, whatever this machine's clock says.
            at_ms = at_ms.max(head.time_ms);
            let mut due = Vec::new();
            for one in tabs.owed(at_ms).into_iter().filter(|one| one.is_due(head.base_fee)) {
                if tabs.is_payable(&one).await? {
                    due.push(one);
                }
            }
            for batch in due.chunks(CLAIMS_MAX) {
                task.doing(format!("claiming from {} leaves", batch.len()));
                failed = failed.or(self.claim_what_may(batch).await?);
            }
        }
        tabs.forget(at_ms).await?;
        failed.map_or(Ok(()), Err)
    }

    /// Claims a batch, or what of it the ledger pays; gives why it did not pay the first that it did not.
    async fn claim_what_may(&self, batch: &[Owed]) -> Result<Option<ClaimError>, ClaimError> {
        match self.claim(batch).await {
            Ok(()) => return Ok(None),
            Err(error) if !error.is_reverted() => return Err(error),
            Err(_) => {}
        }
        let mut failed = None;
        for one in batch.chunks(1) {
            match self.claim(one).await {
                Ok(()) => {}
                Err(error) if error.is_reverted() => {
                    for Owed { tab, paid, .. } in one {
                        tracing::warn!(%tab, leaf = paid.opening.number, %error, "the ledger pays no tick of a leaf");
                    }
                    failed = failed.or(Some(error));
                }
                Err(error) => return Err(error),
            }
        }
        Ok(failed)
    }

    async fn claim(&self, batch: &[Owed]) -> Result<(), ClaimError> {
        let claims = batch.iter().map(|one| one.paid.opening.claim(one.tab, &one.paid.tick)).collect();
        let gas = batch.iter().map(Owed::gas).sum::<u64>() + CLAIM_GAS;
        let order = Order::call(TABS, ITabs::claimCall { claims }.abi_encode(), gas).patient();
        // On the finalized head first: what is refused there costs nothing.
        self.chain().call(self.account().address(), TABS, order.data.clone()).await?;
        // What it paid is logged by who follows the ledger's events.
        let settled = tokio::time::timeout(SETTLE_TIMEOUT, self.account().execute(&order)).await;
        settled.map_err(|_| ClaimError::Late)??;
        let mut changed: Vec<Key> = Vec::new();
        for Owed { key, paid, .. } in batch {
            self.tabs().book().claimed(key, paid.opening.number, paid.tick.index);
            changed.push(*key);
        }
        changed.dedup();
        self.tabs().write(&changed).await?;
        Ok(())
    }
}
