//! Keep the node's log: what it did, signed and anchored within a second.
//!
//! Whoever does something worth proving appends an event and goes on; once a second, while the log grows,
//! the anchoring loop signs a checkpoint and posts it to the ledger. An event appended and not yet durable
//! is lost with the process; what was acknowledged to somebody is written before the answer.

use crate::tasks::Task;
use alloy_sol_types::SolCall;
use commonware_runtime::Storage;
use hodei_audit::{Cohort, Log, LogError, checkpoint::Signed};
use hodei_ledger::account::{Account, AccountError, Order};
use hodei_types::{
    abi::{ANCHORS, IAnchors},
    event::{Actor, Fields, Kind},
};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::sync::watch;

/// A log that grows is anchored at most so often.
const ANCHOR_EVERY: Duration = Duration::from_secs(1);
/// After a failure (no coins, no validator) the next attempt waits.
const RETRY_AFTER: Duration = Duration::from_secs(5);
/// A transaction that nobody included by then is looked at again.
const SETTLE_TIMEOUT: Duration = Duration::from_secs(30);
/// One log entry of a block; a call with 32 bytes costs a tenth of it.
const ANCHOR_GAS: u64 = 300_000;

/// The node's log; clones share it.
pub struct Journal<E: Storage> {
    log: Log<E>,
    actor: Actor,
}

impl<E: Storage> Clone for Journal<E> {
    fn clone(&self) -> Self {
        Self { log: self.log.clone(), actor: self.actor }
    }
}

/// Why a checkpoint was not anchored.
#[derive(Debug, thiserror::Error)]
pub enum AnchorError {
    #[error(transparent)]
    Log(#[from] LogError),
    #[error(transparent)]
    Account(#[from] AccountError),
    #[error("the anchoring transaction is in no block after {} s", SETTLE_TIMEOUT.as_secs())]
    Late,
}

impl<E: Storage> Journal<E> {
    /// Events of this journal are the log's own node's.
    pub fn new(log: Log<E>) -> Self {
        let actor = Actor::Node(log.key());
        Self { log, actor }
    }

    pub fn log(&self) -> &Log<E> {
        &self.log
    }

    /// Appends an event; durable within a second, or at the next [`Journal::record`].
    pub async fn note(&self, kind: Kind, fields: Fields) -> Result<u64, LogError> {
        loop {
            let fields = fields.clone();
            match self.log.append(now_ms(), kind, self.actor, |_| fields) {
                // The disk is behind: wait for it rather than lose the event.
                Err(LogError::Full) => self.log.sync().await?,
                done => return done,
            }
        }
    }

    /// Appends an event and returns once it is durable.
    pub async fn record(&self, kind: Kind, fields: Fields) -> Result<u64, LogError> {
        let sequence = self.note(kind, fields).await?;
        self.log.sync().await?;
        Ok(sequence)
    }

    /// Signs and anchors while the log grows, until `stop`; then once more. Ends early only when the log
    /// itself stopped, which a node does not survive.
    pub async fn anchor(self, account: Account, task: Task, mut stop: watch::Receiver<bool>) -> LogError {
        let mut waiting: Option<Signed> = self.log.unanchored();
        loop {
            let stopping = *stop.borrow();
            let mut wait = ANCHOR_EVERY;
            match self.log.checkpoint().await {
                Ok(Some(signed)) => waiting = Some(signed),
                Ok(None) => {}
                Err(error) => return error,
            }
            if let Some(signed) = &waiting {
                task.doing(format!("anchoring {} events", signed.size));
                match self.post(&account, signed).await {
                    Ok(height) => {
                        tracing::debug!(size = signed.size, height, "log anchored");
                        waiting = None;
                        task.passed();
                    }
                    Err(AnchorError::Log(error)) => return error,
                    Err(error) => {
                        task.failed(&error);
                        wait = RETRY_AFTER;
                    }
                }
            }
            if stopping {
                return LogError::Stopped;
            }
            task.doing("waiting for events");
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                _ = stop.changed() => {}
            }
        }
    }

    async fn post(&self, account: &Account, signed: &Signed) -> Result<u64, AnchorError> {
        let leaf = Cohort::lone(signed).root();
        let call = IAnchors::anchorCall { leaf: leaf.to_vec().into() };
        let order = Order::call(ANCHORS, call.abi_encode(), ANCHOR_GAS).patient();
        let receipt =
            tokio::time::timeout(SETTLE_TIMEOUT, account.execute(&order)).await.map_err(|_| AnchorError::Late)??;
        self.log.anchored(signed, receipt.height).await?;
        Ok(receipt.height)
    }
}

/// Milliseconds since 1970 by this machine's clock.
pub(crate) fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
