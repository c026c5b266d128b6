//! Act on what the ledger says about this provider, and write it down.
//!
//! Upon the start: state the offer on the ledger, read the deals. Upon each event: payments, misses and
//! slashing go into the node's log; an ended deal's shards are forgotten. Every few proven windows the
//! earnings are collected.

use super::{
    Provider,
    follow::{Follower, Happened, What},
    register,
};
use crate::{height::Reported, tasks::Task};
use alloy_primitives::U256;
use alloy_sol_types::SolCall;
use commonware_runtime::Storage;
use hodei_ledger::account::Order;
use hodei_types::{
    abi::{DEALS, IDeals},
    event::{Fields, Kind},
    slice::CHUNK_BYTES,
};
use std::time::Duration;
use tokio::sync::watch;

/// After a failure the next attempt waits.
const RETRY_AFTER: Duration = Duration::from_secs(2);
/// Events are read at most so often, however fast blocks come.
const PACE: Duration = Duration::from_millis(250);
/// A relay that is there has a node within a second or two; longer without one is told.
const RELAY_PATIENCE: Duration = Duration::from_secs(5);
/// Settling one deal: a dozen slots and a transfer.
const TOUCH_GAS: u64 = 400_000;
/// Quiet blocks after which the height reached is written down all the same.
const REMEMBER_EVERY: u64 = 1_000;
/// Deals settled by one transaction, so that it stays under what the ledger takes at once.
const TOUCHED_MAX: usize = 32;
/// What an operator is told of it.
const CLOSED: &str = "the ledger closed this provider for missed proofs: it takes nothing new, and no command of this \
    release brings it back; register another node";
/// A transaction in no block by then is given up; the next attempt makes it good.
const SETTLE_TIMEOUT: Duration = Duration::from_secs(30);

impl<E: Storage> Provider<E> {
    /// Follows the ledger until `stop`.
    pub(super) async fn report(self, task: Task, mut stop: watch::Receiver<bool>) {
        tokio::select! {
            () = self.follow(&task) => {}
            _ = stop.wait_for(|stop| *stop) => {}
        }
    }

    async fn follow(&self, task: &Task) {
        let mut follower = loop {
            match self.enter(task).await {
                Ok(follower) => break follower,
                Err(error) => {
                    task.failed(&error);
                    tokio::time::sleep(RETRY_AFTER).await;
                }
            }
        };
        let (mut proven, mut last, mut written) = (0, 0, 0);
        loop {
            match follower.next().await {
                Ok(happened) => {
                    let worth = !happened.is_empty() || follower.height() > written + REMEMBER_EVERY;
                    for event in happened {
                        if let What::Proven { window } = event.what {
                            (proven, last) = (proven + 1, window);
                        }
                        self.take_note(&event).await;
                    }
                    if worth {
                        written = follower.height();
                        self.reported().set(written);
                    }
                    self.meters().ledger_height.set(i64::try_from(follower.height()).unwrap_or(i64::MAX));
                    task.doing(format!("at height {}", follower.height()));
                    task.passed();
                }
                Err(error) => {
                    task.failed(&error);
                    tokio::time::sleep(RETRY_AFTER).await;
                }
            }
            if proven >= self.0.config.collect_windows.max(1) {
                match self.collect(last).await {
                    Ok(()) => proven = 0,
                    Err(error) => task.failed(&error),
                }
            }
            tokio::time::sleep(PACE + task.delay().unwrap_or(RETRY_AFTER)).await;
        }
    }

    /// Registers if asked to, reads the deals, and starts behind the last block reported.
    async fn enter(&self, task: &Task) -> Result<Follower, register::RegisterError> {
        let parts = &self.0.parts;
        let height = match self.reported().get() {
            Some(height) => height,
            None => self.chain().head().await?.height,
        };
        if self.0.config.register {
            // Who deals with a provider that nobody reaches pays for nothing, and it is suspended soon.
            if !self.is_reached() && register::record(self.account(), self.id()).await?.is_none() {
                task.doing("waiting for a relay that answers");
                let found = async {
                    while !self.is_reached() {
                        tokio::time::sleep(PACE).await;
                    }
                };
                if tokio::time::timeout(RELAY_PATIENCE, found).await.is_err() {
                    let relays: Vec<String> = parts.reach.relays.iter().map(ToString::to_string).collect();
                    return Err(register::RegisterError::Relay(relays.join(", ")));
                }
            }
            task.doing("stating the offer on the ledger");
            if register::ensure(self.account(), &parts.signer, &self.0.config, &parts.reach).await? {
                tracing::info!(node = %self.id(), "offer stated on the ledger");
            }
        }
        if let Some(record) = register::record(self.account(), self.id()).await? {
            self.set_draining(record.retired);
            if record.closed {
                self.set_closed();
                tracing::error!("{CLOSED}");
            }
        }
        task.doing("reading the deals");
        let deals = self.0.deals.load().await?;
        tracing::info!(deals = deals.len(), "deals read");
        Ok(Follower::new(self.chain().clone(), self.id(), self.0.deals.clone(), height))
    }

    async fn take_note(&self, happened: &Happened) {
        let fields = Fields::new()
            .uint("height", happened.height)
            .uint("index", happened.index.into())
            .bytes("tx", happened.tx.as_slice());
        let (kind, fields) = match &happened.what {
            What::Opened { deal, bucket, owner, capacity_bytes, .. } => {
                let fields = fields.text("what", "opened").uint("deal", *deal).bytes("bucket", bucket.as_slice());
                (Kind::Deal, fields.bytes("owner", owner.as_slice()).uint("bytes", *capacity_bytes))
            }
            What::Resized { deal, capacity_bytes, .. } => {
                (Kind::Deal, fields.text("what", "resized").uint("deal", *deal).uint("bytes", *capacity_bytes))
            }
            What::Closing { deal } => (Kind::Deal, fields.text("what", "closing").uint("deal", *deal)),
            What::Ended { deal, bucket } => {
                let fields = fields.text("what", "ended").uint("deal", *deal).bytes("bucket", bucket.as_slice());
                (Kind::Deal, self.give_up(*deal, fields).await)
            }
            What::Posted { deal, sequence, .. } => {
                if let Err(error) = self.store().posted(*deal, *sequence).await {
                    tracing::error!(%error, deal, "released shards stay");
                }
                (Kind::Deal, fields.text("what", "posted").uint("deal", *deal).uint("sequence", *sequence))
            }
            What::Paid { deal, windows, amount, .. } => {
                self.meters().earned_millicoins.inc_by(millicoins(*amount));
                let fields = fields.uint("deal", *deal).uint("windows", *windows);
                (Kind::Payment, fields.bytes("wei", &amount.to_be_bytes_trimmed_vec()))
            }
            What::Claimed { tab, leaf, ticks, amount } => {
                self.meters().earned_millicoins.inc_by(millicoins(*amount));
                let fields = fields.text("what", "read").bytes("tab", tab.as_slice()).uint("leaf", (*leaf).into());
                let fields = fields.uint("ticks", (*ticks).into());
                (Kind::Payment, fields.bytes("wei", &amount.to_be_bytes_trimmed_vec()))
            }
            What::Proven { .. } => {
                self.meters().proven_windows.inc();
                // The proving loop has logged it, with the bytes it sent.
                return;
            }
            What::Missed { window, in_row } => {
                tracing::error!(window, in_row, "a window was missed: see the task `prove`");
                self.meters().missed_windows.inc();
                let fields = fields.text("verdict", "missed").uint("window", *window);
                (Kind::Fault, fields.uint("in_row", *in_row))
            }
            What::Slashed { window, amount } => {
                tracing::error!(window, %amount, "collateral was slashed");
                self.meters().slashed_millicoins.inc_by(millicoins(*amount));
                let fields = fields.text("verdict", "slashed").uint("window", *window);
                (Kind::Fault, fields.bytes("wei", &amount.to_be_bytes_trimmed_vec()))
            }
            What::Closed { window } => {
                self.set_closed();
                tracing::error!(window, "{CLOSED}");
                (Kind::Fault, fields.text("verdict", "closed").uint("window", *window))
            }
            What::Retired => {
                self.set_draining(true);
                tracing::info!(deals = self.0.deals.list().len(), "draining: nothing new is taken");
                (Kind::Deal, fields.text("what", "retired").uint("held_bytes", self.store().held_bytes()))
            }
            What::Registered => {
                self.set_draining(false);
                (Kind::Deal, fields.text("what", "registered"))
            }
        };
        if let Err(error) = self.journal().note(kind, fields).await {
            tracing::error!(%error, "an event of the ledger is not in the log");
        }
    }

    /// Lets an ended deal's shards go, and says which: the last root signed names them all.
    async fn give_up(&self, deal: u64, fields: Fields) -> Fields {
        let held = self.store().state(deal).await;
        if let Err(error) = self.store().forget(deal).await {
            tracing::error!(%error, deal, "an ended deal's shards stay");
            return fields;
        }
        match held {
            Ok((Some(ack), shards)) => fields
                .bytes("root", &ack.statement.root)
                .uint("sequence", ack.statement.sequence)
                .uint("shards", shards)
                .uint("removed_bytes", ack.statement.leaves * CHUNK_BYTES as u64),
            _ => fields.uint("removed_bytes", 0),
        }
    }

    /// Settles what proven windows earned.
    async fn collect(&self, window: u64) -> Result<(), super::prove::ProveError> {
        let deals: Vec<u64> = self.0.deals.list().iter().map(|terms| terms.id).collect();
        for batch in deals.chunks(TOUCHED_MAX) {
            let call = IDeals::touchCall { deals: batch.to_vec() };
            let order = Order::call(DEALS, call.abi_encode(), TOUCH_GAS * (batch.len() as u64 + 1)).patient();
            let settled = tokio::time::timeout(SETTLE_TIMEOUT, self.account().execute(&order));
            settled.await.map_err(|_| super::prove::ProveError::Late { window })??;
        }
        Ok(())
    }

    fn reported(&self) -> Reported {
        Reported::new(&self.0.home, "reported.height")
    }
}

fn millicoins(wei: U256) -> u64 {
    (wei / U256::from(1_000_000_000_000_000u64)).saturating_to()
}
