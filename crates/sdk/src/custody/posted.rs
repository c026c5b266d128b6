//! See that the ledger has what a bucket's providers hold.
//!
//! ```text
//! newest statement of each deal → has the ledger as new a one? → what nobody posted within a rest is posted here
//! ```
//! Who brought something posts it within a second or two, the owner as well as a custodian; one that was killed does not.
//! What nobody posted within the rest was left behind: posted sooner, what an owner put would be paid as a custodian's work.
//! Where a provider owes a proof nobody can post, and whoever brought something does so after it: that is left to later looks.

use super::{count::Scene, tended::SETTLES};
use crate::{
    cloud::{Cloud, Runtime},
    deal::may_hold,
    repair::{Seat, State},
};
use alloy_primitives::B256;
use futures::{FutureExt as _, StreamExt as _, stream};
use hodei_types::{ack::Ack, transport::Transport};
use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

/// Rest between two looks at the ledger.
const REST: Duration = Duration::from_secs(1);
/// Rests after which what nobody posted is posted here; and as many again after which it is left to the next look.
const RESTS: u64 = SETTLES.as_secs();
/// Providers asked for their newest statement at once.
const ASKED_AT_ONCE: usize = 8;

/// What the ledger has of a bucket's deals.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Posted {
    /// Deals of which it has all that was in them when they were asked.
    pub(super) whole: BTreeSet<u64>,
    /// Deals that hold less than it has: only their owner's side may post that.
    pub(super) shrunk: BTreeSet<u64>,
    /// Deals that hold more than it has, whose providers owe a proof first.
    pub(super) unproven: BTreeSet<u64>,
    /// Deals that hold more than it has yet.
    pub(super) behind: BTreeSet<u64>,
}

impl<E: Runtime, T: Transport> Cloud<E, T> {
    /// Asks what the deals hold now, and waits for a while until the ledger has it.
    pub(super) async fn posted(&self, scene: &Scene) -> Posted {
        let (mut posted, mut behind) = (Posted::default(), self.newest(scene).await);
        for rests in 0..=2 * RESTS {
            if rests > 0 {
                self.0.context.sleep(REST).await;
            }
            let states = match self.0.buckets.states(scene.record.id).await {
                Ok(states) => states,
                Err(error) => {
                    tracing::warn!(%error, "whether everything is posted is not known yet");
                    continue;
                }
            };
            posted.shrunk.clear();
            behind.retain(|deal, ack| {
                // One that ended meanwhile holds nothing.
                let Some(known) = states.iter().find(|state| state.id == *deal) else { return false };
                match ack.filter(|ack| ack.statement.sequence > known.sequence) {
                    Some(ack) => {
                        if ack.statement.leaves < known.leaves {
                            posted.shrunk.insert(*deal);
                        }
                        true
                    }
                    None => {
                        posted.whole.insert(*deal);
                        false
                    }
                }
            });
            let is_awaited = |deal: &u64| behind.contains_key(deal) && !posted.shrunk.contains(deal);
            let awaited: BTreeMap<u64, B256> =
                states.iter().map(|state| (state.id, state.provider)).filter(|(deal, _)| is_awaited(deal)).collect();
            let unproven = match self.0.buckets.unproven(awaited.values().copied().collect()).await {
                Ok(unproven) => unproven,
                Err(error) => {
                    tracing::warn!(%error, "who owes a proof is not known yet");
                    continue;
                }
            };
            // Nobody is waited for who may be away for long.
            for (deal, _) in awaited.into_iter().filter(|(_, provider)| unproven.contains(provider)) {
                behind.remove(&deal);
                posted.unproven.insert(deal);
            }
            if behind.len() == posted.shrunk.len() {
                break;
            }
            if rests >= RESTS {
                let left = behind.iter().filter(|(deal, _)| !posted.shrunk.contains(*deal));
                self.owe(&left.filter_map(|(deal, ack)| Some((*deal, (*ack)?))).collect());
            }
        }
        posted.behind = behind.into_keys().filter(|deal| !posted.shrunk.contains(deal)).collect();
        posted
    }

    /// The newest statement of each deal whose provider says what it holds; `None` where it holds nothing yet.
    async fn newest(&self, scene: &Scene) -> BTreeMap<u64, Option<Ack>> {
        let is_asked = |seat: &&Seat| seat.answers && !matches!(seat.state, State::Closed | State::Ending);
        let asked = scene.seats.iter().filter(is_asked).filter_map(|seat| {
            let provider = scene.roster.iter().find(|provider| provider.deal == seat.deal.id)?.clone();
            let (cloud, pledged_bytes) = (self.clone(), seat.deal.state.pledgedBytes);
            let newest = async move {
                match cloud.0.engine.state(&provider).await {
                    // It signs what no ledger takes, and is relied on for nothing.
                    Ok(Some(ack)) if !may_hold(pledged_bytes, ack.statement.leaves) => None,
                    // What this process was told counts, whatever is said now.
                    Ok(ack) => {
                        let known = ack.into_iter().chain(cloud.owed(provider.deal));
                        Some((provider.deal, known.max_by_key(|ack| ack.statement.sequence)))
                    }
                    Err(error) => {
                        tracing::warn!(node = %provider.peer.key, %error, "it does not say what it holds now");
                        None
                    }
                }
            };
            Some(newest.boxed())
        });
        let asked: Vec<_> = asked.collect();
        let newest: Vec<_> = stream::iter(asked).buffer_unordered(ASKED_AT_ONCE).collect().await;
        newest.into_iter().flatten().collect()
    }
}
