//! Do what is owed while requests go on: post roots, anchor the log, release, end and pay.
//!
//! One task a process wakes each second; what a second brought goes in one transaction. It ends with the last
//! clone of the cloud.

use super::{Blamed, Cloud, Inner, Runtime};
use crate::{fault::Fault, plan::RESERVE_WINDOWS};
use alloy_primitives::B256;
use futures::{
    future::{Either, select},
    pin_mut,
};
use hodei_storage::engine::Verdict;
use hodei_types::{
    abi::{DEALS, IDeals},
    ack::Ack,
    call::ask,
    chain::ChainError,
    event::Kind,
    transport::{NodeKey, Transport},
};
use std::{collections::BTreeMap, sync::Arc, time::Duration};

/// Pause of the keeper: what a second brought goes in one transaction.
const KEEP_EVERY: Duration = Duration::from_secs(1);
/// Turns of the keeper between looks whether removed buckets' deals have ended.
const END_EVERY: u64 = 5;
/// Turns of the keeper between looks whether buckets are still paid for, and tabs have ended.
const PAY_EVERY: u64 = 300;
/// Turns of the keeper between looks whether links have ended.
const LINKS_EVERY: u64 = 60;
/// Flushes of a process that ends.
const CLOSE_TRIES: u32 = 10;
/// A process that only read waits so long for a ledger that does not answer.
const READ_PATIENCE: Duration = Duration::from_secs(10);
/// Whoever proves at once has done so this long after a window opened, in milliseconds of the ledger's active clock; in
/// windows that are not longer than the latter all do.
const PROOF_PATIENCE_MS: u64 = 60_000;
const SHORT_WINDOW_MS: u64 = 600_000;

/// What became of a try to post all that is owed.
struct Tried {
    /// What waits for a proof.
    waiting: BTreeMap<u64, Ack>,
    /// Whether that comes much later.
    is_far: bool,
}

impl<E: Runtime, T: Transport> Cloud<E, T> {
    /// Spawns the keeper, and the sweeper beside it: a release may wait for a slow provider, an anchor must not.
    pub(super) fn keep(&self, keeper: E) {
        let weak = Arc::downgrade(&self.0);
        keeper.child("sweeper").spawn(move |context| async move {
            loop {
                context.sleep(KEEP_EVERY).await;
                let Some(inner) = weak.upgrade() else { return };
                let cloud = Self(inner);
                cloud.sweep(cloud.now_ms()).await;
            }
        });
        let weak = Arc::downgrade(&self.0);
        keeper.spawn(move |context| async move {
            for turn in 0u64.. {
                context.sleep(KEEP_EVERY).await;
                let Some(inner) = weak.upgrade() else { return };
                let cloud = Self(inner);
                if let Err(error) = cloud.post_owed(false).await {
                    tracing::warn!(%error, "what was done could not be posted yet");
                }
                let ended = match turn {
                    0 => cloud.find_going().await,
                    turn if turn % END_EVERY == 0 => cloud.end_going().await,
                    _ => Ok(()),
                };
                if turn % LINKS_EVERY == LINKS_EVERY - 1 {
                    cloud.end_links().await;
                }
                if turn % PAY_EVERY == 0
                    && let Err(error) = cloud.end_tabs().await
                {
                    tracing::warn!(%error, "what is left of tabs waits for the ledger");
                }
                if turn % PAY_EVERY == PAY_EVERY - 1
                    && let Err(error) = cloud.keep_paid().await
                {
                    tracing::warn!(%error, "a bucket's escrow runs low and could not be topped up");
                }
                if let Err(error) = ended {
                    tracing::warn!(%error, "removed buckets wait for the ledger");
                }
            }
        });
    }

    /// Goes on with removals that wait for proofs.
    async fn end_going(&self) -> Result<(), Fault> {
        let going = self.0.going.lock().expect("no panic under this lock").clone();
        for id in going {
            if self.0.buckets.remove(id).await? {
                self.0.going.lock().expect("no panic under this lock").remove(&id);
            }
        }
        Ok(())
    }

    /// Finds removals that a process before this one did not end.
    async fn find_going(&self) -> Result<(), Fault> {
        for id in self.0.buckets.ids().await? {
            if self.0.buckets.read(id).await?.is_some_and(|record| record.is_going()) {
                self.0.going.lock().expect("no panic under this lock").insert(id);
            }
        }
        Ok(())
    }

    /// Takes off their lists what is bound no more, and tops up the buckets this process works with before their escrow is used up: as far as the spending
    /// account goes, which is what its owner allows.
    async fn keep_paid(&self) -> Result<(), Fault> {
        let used: Vec<B256> = self.0.rosters.lock().expect("no panic under this lock").keys().copied().collect();
        for id in used {
            // One in this account's care is its owner's to pay.
            let Some(record) = self.0.buckets.read(id).await? else { continue };
            if record.state.owner != self.0.wallet.owner() {
                continue;
            }
            if record.state.keeps > 0 {
                self.lapse(&record).await?;
            }
            if self.0.buckets.holding(id).await?.runs_low() {
                let missing = self.0.buckets.missing(id, RESERVE_WINDOWS).await?;
                self.0.buckets.top_up(&missing).await?;
                tracing::info!(bucket = %id, deals = missing.len(), "topped up");
            }
        }
        Ok(())
    }

    /// Providers that failed a check in this process, once the keeper or a flush has recorded it.
    pub fn blamed(&self) -> Vec<Blamed> {
        self.0.blamed.lock().expect("no panic under this lock").clone()
    }

    /// For a process that ends: pays for what was read by passes, releases what nothing names any more, but for what somebody may still be reading, and
    /// posts what is owed, for some seconds if a running challenge keeps it out that is soon answered. What then is left
    /// is on disk, and a later process of this identity goes on with it.
    pub async fn close(&self) -> Result<(), Fault> {
        self.settle_reads().await;
        self.sweep_once_more().await;
        match self.post_all().await? {
            true => Ok(()),
            false => Err(Fault::ProofFirst),
        }
    }

    /// The same for a process that only read: what it owes is mostly of others before it, and the ledger may be away for as
    /// long as the reader reads on without it. What is not posted within seconds is on disk, for a later process.
    pub async fn close_read(&self) -> Result<(), Fault> {
        let (closing, patience) = (self.close(), self.0.context.sleep(READ_PATIENCE));
        pin_mut!(closing, patience);
        match select(closing, patience).await {
            Either::Left((closed, _)) => closed,
            Either::Right(_) => {
                // Whoever posts at this moment, perhaps for ever, does not keep this waiting.
                let Inner { context, network, waits, unposted, .. } = &*self.0;
                let known = unposted.lock().expect("no panic under this lock").clone();
                waits.keep(context, network, &known).await;
                Err(ChainError::Unavailable(format!("no answer within {} s", READ_PATIENCE.as_secs())).into())
            }
        }
    }

    /// Posts what is owed, for some seconds if a running challenge keeps it out that is soon answered; whether nothing is
    /// owed any more. What is left is written down.
    pub(crate) async fn post_all(&self) -> Result<bool, Fault> {
        for _ in 0..CLOSE_TRIES {
            let tried = self.try_once().await;
            let left = self.left().await;
            let Tried { waiting, is_far } = tried?;
            if left.is_empty() {
                return Ok(true);
            }
            // What came while others were posted waits for no proof, as far as is known.
            let sequence = |ack: &Ack| ack.statement.sequence;
            if is_far && left.iter().all(|(deal, ack)| waiting.get(deal).map(sequence) == Some(sequence(ack))) {
                return Ok(false);
            }
            self.0.context.sleep(KEEP_EVERY).await;
        }
        Ok(self.left().await.is_empty())
    }

    async fn try_once(&self) -> Result<Tried, Fault> {
        let waiting = self.post_owed(true).await?;
        // Nobody asks for the window where nothing waits for its proofs.
        let is_far = !waiting.is_empty() && self.is_proof_far().await?;
        Ok(Tried { waiting, is_far })
    }

    /// What is owed while nothing of it is on its way; what was there when this began is written down.
    async fn left(&self) -> BTreeMap<u64, Ack> {
        let Inner { context, network, waits, posting, unposted, .. } = &*self.0;
        let _turn = posting.lock().await;
        let known = unposted.lock().expect("no panic under this lock").clone();
        waits.keep(context, network, &known).await;
        unposted.lock().expect("no panic under this lock").clone()
    }

    /// Whether who has not proven this window by now does so later by its choice, or is away.
    async fn is_proof_far(&self) -> Result<bool, Fault> {
        let now = ask(&**self.0.wallet.chain(), DEALS, &IDeals::windowCall {}).await?;
        let length_ms = now.endsMs.saturating_sub(now.openedMs);
        Ok(length_ms > SHORT_WINDOW_MS && now.clockMs.saturating_sub(now.openedMs) > PROOF_PATIENCE_MS)
    }

    /// Posts what is owed: deal roots, verdicts, the log's anchor. Call it before the process ends.
    pub async fn flush(&self) -> Result<(), Fault> {
        self.post_owed(true).await.map(drop)
    }

    /// The same as the keeper does it each second: deals that wait for a proof are tried seldom, unless `is_all`. Gives
    /// those tried that wait for one.
    async fn post_owed(&self, is_all: bool) -> Result<BTreeMap<u64, Ack>, Fault> {
        let _turn = self.0.posting.lock().await;
        let verdicts = std::mem::take(&mut *self.0.verdicts.lock().expect("no panic under this lock"));
        // One event for each provider: what it failed first, and how often.
        let mut by_node: BTreeMap<NodeKey, (Verdict, u64)> = BTreeMap::new();
        for verdict in verdicts {
            by_node.entry(verdict.node).or_insert_with(|| (verdict, 0)).1 += 1;
        }
        for (verdict, times) in by_node.into_values() {
            let event = self.note(Kind::Fault, |fields| {
                fields
                    .bytes("node", &verdict.node.0)
                    .uint("deal", verdict.deal)
                    .bytes("shard", &verdict.shard.0)
                    .text("what", &verdict.what)
                    .uint("times", times)
            });
            let event = event.await;
            let mut blamed = self.0.blamed.lock().expect("no panic under this lock");
            match blamed.iter_mut().find(|known| known.verdict.node == verdict.node) {
                Some(known) => known.times += times,
                None => blamed.push(Blamed { verdict, times, event }),
            }
        }
        let Inner { context, network, waits, .. } = &*self.0;
        // It stays owed until the ledger said otherwise, so that whoever stops this on its way takes nothing with it.
        let owed = self.0.unposted.lock().expect("no panic under this lock").clone();
        let now = context.current();
        let (owed, later): (BTreeMap<_, _>, BTreeMap<_, _>) =
            owed.into_iter().partition(|(deal, _)| is_all || waits.is_due(*deal, now));
        waits.keep(context, network, &later).await;
        let mut posted = Ok(BTreeMap::new());
        if !owed.is_empty() {
            match self.0.buckets.post(&owed).await {
                Ok(waiting) => {
                    self.0.unposted.lock().expect("no panic under this lock").retain(|deal, newest| {
                        let sequence = newest.statement.sequence;
                        let is_done = |posted: &Ack| posted.statement.sequence >= sequence;
                        waiting.contains_key(deal) || !owed.get(deal).is_some_and(is_done)
                    });
                    self.owe(&waiting);
                    waits.keep(context, network, &waiting).await;
                    waits.put_off(waiting.keys().copied(), now);
                    // Of a deal that owes more by now that may be what is written down.
                    let done: Vec<u64> = {
                        let left = self.0.unposted.lock().expect("no panic under this lock");
                        owed.keys().filter(|deal| !left.contains_key(deal)).copied().collect()
                    };
                    waits.forget(context, network, &done).await;
                    posted = Ok(waiting);
                }
                // It says nothing of single deals: what is refused of one is among what is done.
                Err(error) => {
                    waits.keep(context, network, &owed).await;
                    posted = Err(error);
                }
            }
        }
        // Whatever became of the roots: what was done is anchored.
        let mut anchored = Ok(());
        if let Some(log) = &self.0.log {
            let done = crate::receipt::anchor(&self.0.wallet.spender(), log).await;
            anchored = done.map(drop).map_err(|error| Fault::Local(error.to_string()));
        }
        let waiting = posted?;
        anchored.map(|()| waiting)
    }
}
