//! Ask who is on offer whether anybody is there, before a deal is opened with him.
//!
//! What the ledger lists is who registered and proves; whether anybody reaches him only asking tells. Who does not answer is
//! gone round: a deal with him would be paid, and hold nothing.

use crate::{
    bucket::Record,
    cloud::{Cloud, Runtime},
    fault::Fault,
    market::Offer,
    plan::{Plan, Wish, lacking, usable},
    repair::Rest,
};
use futures::{
    FutureExt as _, StreamExt as _,
    future::{Either, join_all, select},
    pin_mut, stream,
};
use hodei_storage::engine::Provider;
use hodei_types::transport::{NodeKey, Transport};
use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

/// Providers, or questions to the ledger about them, under way at once.
pub(crate) const ASKED_AT_ONCE: usize = 16;
/// Times one is asked whether it is there, and the rest between: a busy machine is not a dead one.
const TRIES: u32 = 2;
const REST: Duration = Duration::from_secs(1);
/// Offers beyond those wanted that are asked whether anybody is there.
const PROBED_BESIDE: usize = 16;
/// Offers asked at once whether they rest.
const GREETED_MAX: usize = 64;
/// Times it is planned anew without those who do not answer: a market of the dead keeps nobody for hours.
const ROUNDS: usize = 8;

/// How one on offer is asked with whom the bucket has no deal: it refuses, and so is there.
fn stranger(offer: &Offer, grant: Vec<u8>) -> Provider {
    Provider {
        peer: offer.peer(),
        deal: 0,
        operator: offer.operator.into_array(),
        network: offer.network(),
        zone: offer.zone.clone(),
        grant,
        meter: None,
    }
}

impl<E: Runtime, T: Transport> Cloud<E, T> {
    /// Whether a provider answers, asked patiently.
    pub(crate) async fn is_there(&self, provider: &Provider) -> bool {
        for tries in 1.. {
            // Who has no word of an owner can be greeted.
            let answers = match provider.grant.is_empty() {
                true => self.0.engine.greets(provider).await,
                false => self.0.engine.answers(provider).await,
            };
            if answers {
                return true;
            }
            if tries == TRIES {
                break;
            }
            self.0.context.sleep(REST).await;
        }
        false
    }

    /// Who of these rests, by its own word; of those that say nothing within `patience` nothing is told.
    pub async fn resting(&self, offers: &[Offer], patience: Duration) -> BTreeMap<NodeKey, Rest> {
        let usable = offers.iter().filter(usable).take(GREETED_MAX);
        let asked = usable.map(|offer| {
            let (cloud, node, provider) = (self.clone(), offer.node, stranger(offer, Vec::new()));
            async move {
                let late = cloud.0.context.sleep(patience);
                let told = cloud.rest_of(&provider);
                pin_mut!(late, told);
                match select(told, late).await {
                    Either::Left((rest, _)) => rest.map(|rest| (node, rest)),
                    Either::Right(_) => None,
                }
            }
            .boxed()
        });
        join_all(asked.collect::<Vec<_>>()).await.into_iter().flatten().collect()
    }

    /// Plans among these, and again without those who do not answer, until everybody who would get a deal does; `known`
    /// have one, and are not asked.
    pub(crate) async fn plan_among(
        &self,
        wish: &Wish,
        offers: Vec<Offer>,
        known: &BTreeSet<NodeKey>,
        plan: impl Fn(&[Offer]) -> Result<Plan, Fault> + Send + Sync,
    ) -> Result<Plan, Fault> {
        let (mut left, mut there, mut needs) = (offers.clone(), known.clone(), 0);
        for _ in 0..ROUNDS {
            let planned = plan(&left).map_err(|error| lacking(error, wish, &offers))?;
            let asked = planned.parts.iter().map(|part| &part.offer).filter(|offer| !there.contains(&offer.node));
            let asked = asked.map(|offer| {
                let (cloud, node, provider) = (self.clone(), offer.node, stranger(offer, Vec::new()));
                async move { (node, cloud.is_there(&provider).await) }.boxed()
            });
            let asked: Vec<_> = asked.collect();
            let answers: Vec<(NodeKey, bool)> = stream::iter(asked).buffered(ASKED_AT_ONCE).collect().await;
            let silent: BTreeSet<NodeKey> =
                answers.iter().filter(|(_, is_there)| !is_there).map(|(node, _)| *node).collect();
            if silent.is_empty() {
                return Ok(planned);
            }
            tracing::info!(silent = silent.len(), "some on offer do not answer: it is planned without them");
            there.extend(answers.iter().filter(|(_, is_there)| *is_there).map(|(node, _)| *node));
            left.retain(|offer| !silent.contains(&offer.node));
            needs = planned.parts.iter().map(|part| part.capacity_bytes).max().unwrap_or(0);
        }
        Err(Fault::RoomAway(Box::new(Fault::NoRoom { needs, found: there.len() })))
    }

    /// Those on offer who answer and take shards now; where only `lost` are wanted, not all of them are asked.
    pub(crate) async fn present<'a>(
        &self,
        record: &Record,
        mut offered: Vec<&'a Offer>,
        lost: usize,
    ) -> Result<Vec<&'a Offer>, Fault> {
        let roster = self.roster(record).await?;
        let Some(grant) = roster.first().map(|provider| provider.grant.clone()) else { return Ok(offered) };
        let known: BTreeSet<[u8; 20]> = roster.iter().map(|provider| provider.operator).collect();
        offered.sort_by_key(|offer| (known.contains(&offer.operator.into_array()), offer.price_store, offer.node));
        let most = usize::from(record.shape.n()) + lost + PROBED_BESIDE;
        let asked = offered.into_iter().take(most).map(|offer| {
            let provider = stranger(offer, grant.clone());
            let cloud = self.clone();
            async move { (offer, cloud.is_there(&provider).await && cloud.rest_of(&provider).await.is_none()) }
        });
        let asked: Vec<_> = asked.collect();
        let answers: Vec<(&Offer, bool)> = stream::iter(asked).buffered(ASKED_AT_ONCE).collect().await;
        Ok(answers.into_iter().filter(|(_, is_there)| *is_there).map(|(offer, _)| offer).collect())
    }
}
