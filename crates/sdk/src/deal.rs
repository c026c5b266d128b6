//! Open, resize and end a bucket's deals with those who hold it, and post what they acknowledge.

use crate::{
    bucket::Buckets,
    fault::Fault,
    market::{self, Offer},
    moves::event,
    plan::Part,
};
use alloy_primitives::{B256, U256};
use alloy_sol_types::SolCall as _;
use futures::future::try_join_all;
use hodei_ledger::account::Order;
use hodei_storage::engine::Provider;
use hodei_types::{
    abi::{BATCH_MAX, DEALS, IDeals, LEAF_BYTES},
    ack::Ack,
    call::{ask, revert},
    chain::ChainError,
    transport::NodeKey,
};
use std::collections::{BTreeMap, BTreeSet};

/// Gas of each deal opened or root posted in a batch, an Ed25519 check included.
pub(crate) const DEAL_GAS: u64 = 1_500_000;
const POST_GAS: u64 = 700_000;
/// Entries of one batch, so that it stays below what a transaction may ask (2²⁴ gas).
pub(crate) const OPEN_BATCH: usize = 8;
const POST_BATCH: usize = 16;
/// Leaves of short shards that the ledger takes of any deal beyond an eighth more than fill its bytes (module `deals`).
const SLACK_LEAVES: u64 = 1024;
/// A deal's state on the ledger while it takes roots.
pub(crate) const OPEN: u8 = 1;

/// What became of deals that were closed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Closed {
    pub ended: u64,
    /// Wei that came back to the owner with those.
    pub refunded: U256,
    /// Deals that owe a proof: they end with it, and the rest of their escrow comes back then.
    pub closing: u64,
}

/// An open deal of a bucket and the provider behind it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Deal {
    pub id: u64,
    pub offer: Offer,
    /// The terms, the last root posted, and what is paid and owed.
    pub state: IDeals::Deal,
}

impl Deal {
    /// Its provider, to be asked under a grant.
    pub(crate) fn provider(self, grant: Vec<u8>) -> Provider {
        Provider {
            peer: self.offer.peer(),
            deal: self.id,
            operator: self.offer.operator.into_array(),
            network: self.offer.network(),
            zone: self.offer.zone,
            grant,
            meter: None,
        }
    }
}

/// Whether the ledger takes so many leaves of a deal, by the bytes that its provider keeps free for it.
pub(crate) fn may_hold(pledged_bytes: u64, leaves: u64) -> bool {
    let full = pledged_bytes / LEAF_BYTES;
    leaves <= full.saturating_add(full / 8).saturating_add(SLACK_LEAVES)
}

fn terms(part: &Part) -> IDeals::Terms {
    IDeals::Terms {
        provider: part.offer.node.0.into(),
        capacityBytes: part.capacity_bytes,
        priceMax: part.offer.price_store,
        escrow: part.escrow,
    }
}

impl Buckets {
    /// Open and closing deals with their providers, by id.
    pub async fn deals(&self, bucket: B256) -> Result<Vec<Deal>, Fault> {
        let chain = &**self.wallet.chain();
        let mut deals = Vec::new();
        for state in self.states(bucket).await? {
            let offer = market::provider(chain, NodeKey(state.provider.0)).await?;
            deals.push(Deal { id: state.id, offer, state });
        }
        Ok(deals)
    }

    pub(crate) async fn states(&self, bucket: B256) -> Result<Vec<IDeals::Deal>, Fault> {
        let chain = &**self.wallet.chain();
        let ids = ask(chain, DEALS, &IDeals::ofBucketCall { bucket }).await?;
        let mut states = Vec::new();
        for batch in ids.chunks(BATCH_MAX) {
            states.extend(ask(chain, DEALS, &IDeals::manyCall { deals: batch.to_vec() }).await?);
        }
        Ok(states)
    }

    /// Opens deals.
    pub(crate) async fn open(&self, bucket: B256, parts: Vec<Part>) -> Result<(), Fault> {
        for batch in parts.chunks(OPEN_BATCH) {
            let terms = batch.iter().map(terms).collect();
            let value = batch.iter().map(|part| U256::from(part.escrow)).sum();
            let call = IDeals::openCall { bucket, terms };
            self.run(DEALS, call.abi_encode(), value, DEAL_GAS * (batch.len() as u64 + 1)).await?;
        }
        Ok(())
    }

    /// The same as a custodian: the escrow comes from the bucket's reserve.
    pub(crate) async fn open_reserved(&self, bucket: B256, parts: Vec<Part>) -> Result<(), Fault> {
        for batch in parts.chunks(OPEN_BATCH) {
            let call = IDeals::openCall { bucket, terms: batch.iter().map(terms).collect() };
            self.run(DEALS, call.abi_encode(), U256::ZERO, DEAL_GAS * (batch.len() as u64 + 1)).await?;
        }
        Ok(())
    }

    /// Gives deals other capacities.
    pub(crate) async fn resize(&self, deals: &[IDeals::Resize]) -> Result<(), Fault> {
        for batch in deals.chunks(OPEN_BATCH) {
            let call = IDeals::resizeCall { deals: batch.to_vec() };
            self.run(DEALS, call.abi_encode(), U256::ZERO, DEAL_GAS * (batch.len() as u64 + 1)).await?;
        }
        Ok(())
    }

    /// Ends deals with all that they hold, by the ledger's receipts; one that ended meanwhile is not among them.
    pub(crate) async fn close(&self, deals: &[u64]) -> Result<Closed, Fault> {
        let mut closed = Closed::default();
        for deal in deals {
            let call = IDeals::closeCall { deals: vec![*deal] };
            match self.attempt(&Order::call(DEALS, call.abi_encode(), DEAL_GAS * 2)).await {
                Ok(logs) => match logs.iter().find_map(event::<IDeals::Ended>) {
                    Some(ended) => {
                        closed.ended += 1;
                        closed.refunded += ended.refund;
                    }
                    None => closed.closing += 1,
                },
                Err(error) => match revert(&error) {
                    Some(IDeals::IDealsErrors::NotOpen(_)) => {}
                    _ => return Err(error.into()),
                },
            }
        }
        Ok(closed)
    }

    /// Posts the newest ack of each deal, in batches. Gives back those that a running challenge keeps out:
    /// post them again once the window's proof is in. What the ledger refuses of one deal keeps no other out; where that is
    /// no word about deals, it is given back as an error once the others are posted.
    pub async fn post(&self, acks: &BTreeMap<u64, Ack>) -> Result<BTreeMap<u64, Ack>, Fault> {
        let (mut waiting, mut refused) = (BTreeMap::new(), None);
        let all: Vec<Ack> = acks.values().copied().collect();
        let mut batches: Vec<Vec<Ack>> = all.chunks(POST_BATCH).map(<[Ack]>::to_vec).collect();
        // A batch that is refused comes again as a smaller one, or as its halves.
        while let Some(mut batch) = batches.pop() {
            if batch.is_empty() {
                continue;
            }
            let posts = batch.iter().map(root_post).collect();
            let call = IDeals::postCall { posts };
            let gas = POST_GAS * (batch.len() as u64 + 1);
            let error = match self.attempt(&Order::call(DEALS, call.abi_encode(), gas)).await {
                Ok(logs) => {
                    self.wages.book(&logs);
                    continue;
                }
                Err(error @ ChainError::Reverted(_)) => error,
                Err(error) => return Err(error.into()),
            };
            let count = batch.len();
            let word = revert::<IDeals::IDealsErrors>(&error);
            let is_known = word.is_some();
            match word {
                Some(IDeals::IDealsErrors::StaleSequence(stale)) => {
                    batch.retain(|ack| ack.statement.deal != stale.deal);
                }
                Some(IDeals::IDealsErrors::NotOpen(gone)) => {
                    batch.retain(|ack| ack.statement.deal != gone.deal);
                }
                Some(IDeals::IDealsErrors::UnknownDeal(gone)) => {
                    batch.retain(|ack| ack.statement.deal != gone.deal);
                }
                // Closed by slashing: it is paid for nothing any more, and must not keep the others out.
                Some(IDeals::IDealsErrors::ProviderUnavailable(closed)) => {
                    (_, batch) = self.split(batch, closed.provider).await?;
                }
                Some(IDeals::IDealsErrors::ChallengeOpen(open)) => {
                    let (out, kept) = self.split_unproven(batch, open.provider).await?;
                    waiting.extend(out.into_iter().map(|ack| (ack.statement.deal, ack)));
                    batch = kept;
                }
                // A custodian's, of a deal whose provider declined more than came since: its owner's to post.
                Some(IDeals::IDealsErrors::NotParty(shrunk)) => {
                    batch.retain(|ack| ack.statement.deal != shrunk.deal);
                }
                // Of one that was dismissed, or of a budget that was released: no more this account's to post.
                Some(IDeals::IDealsErrors::BadOwnerSignature(other)) => {
                    batch.retain(|ack| ack.statement.deal != other.deal);
                }
                _ => {}
            }
            if batch.len() < count {
                batches.push(batch);
            } else if let [ack] = &batch[..] {
                let deal = ack.statement.deal;
                tracing::warn!(%error, deal, "the ledger refuses what a provider says that it holds");
                if !is_known {
                    refused = Some(error);
                }
            } else {
                // It names none of these, or in no way known here: whose it is shows when each is alone.
                let other = batch.split_off(count / 2);
                batches.extend([batch, other]);
            }
        }
        match refused {
            Some(error) => Err(error.into()),
            None => Ok(waiting),
        }
    }

    /// Acks of deals with a provider, and the others.
    async fn split(&self, acks: Vec<Ack>, provider: B256) -> Result<(Vec<Ack>, Vec<Ack>), Fault> {
        Ok(part(self.with_providers(acks).await?, &[provider].into()))
    }

    /// Acks of deals with `provider`, which owes a proof, and with each other that does; and the rest. All are asked for
    /// at once: one that proves late in its window is seldom alone.
    async fn split_unproven(&self, acks: Vec<Ack>, provider: B256) -> Result<(Vec<Ack>, Vec<Ack>), Fault> {
        let pairs = self.with_providers(acks).await?;
        let others = pairs.iter().map(|(_, its)| *its).filter(|its| *its != provider).collect();
        let mut unproven = self.unproven(others).await?;
        unproven.insert(provider);
        Ok(part(pairs, &unproven))
    }

    /// Those of these providers that owe their window's proof: the ledger takes no root of them before it.
    pub(crate) async fn unproven(&self, providers: BTreeSet<B256>) -> Result<BTreeSet<B256>, Fault> {
        let chain = &**self.wallet.chain();
        let asked = providers.into_iter().map(|provider| async move {
            let challenge = ask(chain, DEALS, &IDeals::challengeCall { provider }).await?;
            Ok::<_, ChainError>((challenge.open && !challenge.proven).then_some(provider))
        });
        Ok(try_join_all(asked).await?.into_iter().flatten().collect())
    }

    /// Acks, each with its deal's provider.
    async fn with_providers(&self, acks: Vec<Ack>) -> Result<Vec<(Ack, B256)>, Fault> {
        let deals = acks.iter().map(|ack| ack.statement.deal).collect();
        let states = ask(&**self.wallet.chain(), DEALS, &IDeals::manyCall { deals }).await?;
        Ok(acks.into_iter().zip(states).map(|(ack, deal)| (ack, deal.provider)).collect())
    }
}

/// Acks of these providers' deals, and the others.
fn part(pairs: Vec<(Ack, B256)>, providers: &BTreeSet<B256>) -> (Vec<Ack>, Vec<Ack>) {
    let (its, others) = pairs.into_iter().partition::<Vec<_>, _>(|(_, provider)| providers.contains(provider));
    let acks = |pairs: Vec<(Ack, B256)>| pairs.into_iter().map(|(ack, _)| ack).collect();
    (acks(its), acks(others))
}

fn root_post(ack: &Ack) -> IDeals::RootPost {
    IDeals::RootPost {
        deal: ack.statement.deal,
        sequence: ack.statement.sequence,
        position: ack.statement.position,
        root: ack.statement.root.into(),
        leaves: ack.statement.leaves,
        providerSignature: ack.signature.to_vec().into(),
        // The poster is the bucket's holder or owner: its transaction is its signature.
        ownerSignature: Default::default(),
    }
}

#[cfg(test)]
mod tests {
    use super::may_hold;

    #[test]
    fn short_leaves_count_up_to_an_eighth_more_and_some_of_a_small_deal() {
        assert!(may_hold(0, 1024) && !may_hold(0, 1025));
        assert!(may_hold(8 << 20, 8192 + 1024 + 1024) && !may_hold(8 << 20, 8192 + 1024 + 1025));
        assert!(!may_hold(8 << 20, u64::MAX));
    }
}
