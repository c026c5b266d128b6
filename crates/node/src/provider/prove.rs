//! Prove to the ledger, window after window, that everything is still held.
//!
//! Upon each finalized head, but not more often than [`LOOK_EVERY`]: ask the ledger what it wants of this
//! provider. If a challenge is open, and this is a moment it prefers ([`super::when`]), read the drawn leaves, build
//! their paths to the posted roots, send them. A leaf that cannot be read is a loss: nothing is sent, the window is
//! missed, the operator is told.

use super::{Provider, lock, when::Due};
use crate::{caps::keep::now_s, tasks::Task};
use alloy_sol_types::SolCall;
use commonware_runtime::Storage;
use hodei_ledger::account::{AccountError, Order};
use hodei_storage::shard::StoreError;
use hodei_types::{
    abi::{DEALS, IDeals, SAMPLES},
    call::ask,
    chain::ChainError,
    event::{Fields, Kind},
};
use std::time::Duration;
use tokio::sync::watch;

/// Heads come up to forty a second; a challenge stays open for a whole window.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// A proof that waits for a moment it prefers looks for that so often.
const WAIT_EVERY: Duration = Duration::from_secs(5);
/// After a failure the ledger is asked again this much later.
const RETRY_AFTER: Duration = Duration::from_secs(1);
/// 20 proofs of two kilobytes as calldata, hashed: an upper bound, unused gas is not paid.
const PROVE_GAS: u64 = 15_000_000;
/// A transaction in no block by then is sent again, if the window still wants it.
const SETTLE_TIMEOUT: Duration = Duration::from_secs(20);

/// Why a challenge was not answered.
#[derive(Debug, thiserror::Error)]
pub enum ProveError {
    #[error(transparent)]
    Chain(#[from] ChainError),
    #[error(transparent)]
    Account(#[from] AccountError),
    #[error("window {window}: leaf {leaf} of deal {deal} cannot be read: {reason}")]
    Lost { window: u64, deal: u64, leaf: u64, reason: String },
    #[error("window {window}: the transaction is in no block after {} s", SETTLE_TIMEOUT.as_secs())]
    Late { window: u64 },
}

/// What became of one look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Looked {
    /// Nothing is asked of this provider now.
    Nothing { window: u64 },
    /// A proof is wanted, and is sent later within the window.
    Waits { window: u64 },
    /// The proof of this window was accepted.
    Proven { window: u64, leaves: u64 },
}

impl<E: Storage> Provider<E> {
    /// Proves until `stop`.
    pub(super) async fn prove(self, task: Task, mut stop: watch::Receiver<bool>) {
        let mut height = 0;
        loop {
            let wait = match self.look(&task).await {
                Ok(looked) => {
                    task.passed();
                    match looked {
                        Looked::Nothing { window } => task.doing(format!("window {window} wants nothing more")),
                        // It said what it waits for.
                        Looked::Waits { .. } => {}
                        Looked::Proven { window, .. } => task.doing(format!("window {window} proven")),
                    }
                    if matches!(looked, Looked::Waits { .. }) { WAIT_EVERY } else { LOOK_EVERY }
                }
                Err(error) => {
                    task.failed(&error);
                    RETRY_AFTER
                }
            };
            let next = async {
                tokio::time::sleep(wait).await;
                while task.delay().is_none() {
                    tokio::time::sleep(RETRY_AFTER).await;
                }
                tokio::time::sleep(task.delay().unwrap_or_default()).await;
                match self.chain().wait(height).await {
                    Ok(head) => head.height,
                    Err(_) => height,
                }
            };
            tokio::select! {
                reached = next => height = reached,
                _ = stop.wait_for(|stop| *stop) => return,
            }
        }
    }

    /// Why the proof of this window waits, and how long at most, in milliseconds; `None`: it is sent now.
    async fn waits(&self, window: u64) -> Option<(String, u64)> {
        let prove = lock(&self.0.prove).clone();
        if prove.is_at_once() {
            return None;
        }
        // Who missed a window is suspended until its next proof, and each further miss costs more: it chooses nothing.
        let standing = ask(&**self.chain(), DEALS, &IDeals::standingCall { provider: self.id() }).await.ok()?;
        if standing.suspended || standing.missesInRow > 0 {
            return None;
        }
        // A ledger that does not tell when the window ends leaves nothing to choose.
        let now = ask(&**self.chain(), DEALS, &IDeals::windowCall {}).await.ok()?;
        match prove.due(&now, now_s(), &self.conditions()) {
            Due::Later { why, left_ms } if now.index == window => Some((why, left_ms)),
            _ => None,
        }
    }

    /// Looks once, and proves if a proof is wanted, now.
    pub async fn look(&self, task: &Task) -> Result<Looked, ProveError> {
        let challenge = ask(&**self.chain(), DEALS, &IDeals::challengeCall { provider: self.id() }).await?;
        let window = challenge.window;
        if !challenge.open || challenge.proven || challenge.samples.is_empty() {
            return Ok(Looked::Nothing { window });
        }
        if let Some((why, left_ms)) = self.waits(window).await {
            let left_s = left_ms / 1_000;
            task.doing(format!("window {window} is proven later, within {left_s} s: {why}"));
            return Ok(Looked::Waits { window });
        }
        task.doing(format!("reading {} of {} leaves for window {window}", SAMPLES, challenge.totalLeaves));
        // What was taken away beneath an open file is lost, though it could still be read.
        self.notice_removed().await;
        // Each sample in order: length (u32, big-endian), and the proof.
        let mut proof = Vec::new();
        for sample in &challenge.samples {
            let part = self.store().prove(sample.deal, sample.root.0, sample.leaves, sample.leaf).await;
            let part = match part {
                Ok(part) => part,
                Err(error) => {
                    if let StoreError::Damaged(id) = &error {
                        self.tell_lost(sample.deal, *id).await;
                    }
                    let (deal, leaf) = (sample.deal, sample.leaf);
                    return Err(ProveError::Lost { window, deal, leaf, reason: error.to_string() });
                }
            };
            proof.extend_from_slice(&u32::try_from(part.len()).unwrap_or(u32::MAX).to_be_bytes());
            proof.extend_from_slice(&part);
        }
        task.doing(format!("sending {} bytes for window {window}", proof.len()));
        let bytes = proof.len() as u64;
        let call = IDeals::proveCall { provider: self.id(), window, proof: proof.into() };
        let order = Order::call(DEALS, call.abi_encode(), PROVE_GAS).patient();
        let receipt = tokio::time::timeout(SETTLE_TIMEOUT, self.account().execute(&order))
            .await
            .map_err(|_| ProveError::Late { window })??;
        let event = Fields::new()
            .uint("window", window)
            .uint("leaves", challenge.totalLeaves)
            .uint("bytes", bytes)
            .uint("height", receipt.height)
            .bytes("tx", receipt.tx.as_slice());
        if let Err(error) = self.journal().note(Kind::Proof, event).await {
            tracing::error!(%error, "the proof is not in the log");
        }
        Ok(Looked::Proven { window, leaves: challenge.totalLeaves })
    }
}
