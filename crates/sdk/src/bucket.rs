//! Keep a bucket's record on the ledger: its deals, its term, its root.
//!
//! A bucket's id follows from its name and the owner's data root, so that the name is on no ledger and is
//! found again from the backup alone. Its root changes only by compare-and-swap within a term.

use crate::{
    fault::Fault,
    market,
    plan::{Part, Plan},
    wallet::Wallet,
};
use alloy_primitives::{Address, B256, U256};
use alloy_sol_types::SolCall;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use hodei_ledger::account::{AccountError, Order, max_fee_per_gas};
use hodei_types::{
    abi::{BATCH_MAX, BUCKETS, DEALS, IBuckets, IDeals, bucket_id},
    ack::Ack,
    call::{ask, revert},
    chain::ChainError,
    code::Shape,
    transport::NodeKey,
};
use std::collections::BTreeMap;

pub use crate::deal::Deal;

/// Questions asked of the ledger at once where there is one for each bucket.
pub(crate) const AT_ONCE: usize = 32;
/// Blocks a writer holds the bucket: about a minute of idle heartbeats, so that another one of the same
/// owner waits no longer for a writer that went away.
const TERM_BLOCKS: u64 = 60;
/// Renewed when this few are left: a commit must not land behind the term's end.
const TERM_LEFT_MIN: u64 = 10;
/// Gas of `create`, `claim` and `commit`: a dozen slots at most.
pub(crate) const BUCKET_GAS: u64 = 1_000_000;
/// Gas of each leaf listed besides, or taken off the list.
pub(crate) const KEPT_GAS: u64 = 200_000;
/// Gas of each deal opened or root posted in a batch, an Ed25519 check included.
const DEAL_GAS: u64 = 1_500_000;
const POST_GAS: u64 = 700_000;
/// Entries of one batch, so that it stays below what a transaction may ask (2²⁴ gas).
const OPEN_BATCH: usize = 8;
const POST_BATCH: usize = 16;
/// How a mempool's refusal of an account that cannot pay begins, as every Ethereum node's does.
const UNFUNDED: &str = "insufficient funds";
/// A deal's state on the ledger while it takes roots.
pub(crate) const OPEN: u8 = 1;
/// Times an order is sent anew after another process of the account was faster at another validator.
const DISPLACED_MAX: usize = 8;
/// Looks at which deals are still to be closed.
const CLOSE_ROUNDS: usize = 4;
/// Tries to give a bucket another shape while others take its term.
const RESHAPE_ROUNDS: usize = 16;
/// Rounds of a batch that loses entries to open challenges or newer posts.
const POST_ROUNDS: usize = 8;

/// A bucket as the ledger knows it now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    pub name: String,
    pub id: B256,
    pub shape: Shape,
    pub state: IBuckets::Bucket,
}

impl Record {
    /// Whether it was emptied and removed, and only waits for its last deals to end.
    pub fn is_going(&self) -> bool {
        self.state.root == B256::ZERO && self.state.version > 0
    }

    /// Until when locked versions in it are kept that nobody may end, if that is later than `now_ms`.
    pub fn kept_until_ms(&self, now_ms: u64) -> Option<u64> {
        Some(self.state.keptUntilMs).filter(|until_ms| *until_ms > now_ms)
    }
}

/// The ledger's side of buckets for one wallet.
#[derive(Clone)]
pub struct Buckets {
    pub(crate) wallet: Wallet,
}

fn terms(part: &Part) -> IDeals::Terms {
    IDeals::Terms {
        provider: part.offer.node.0.into(),
        capacityBytes: part.capacity_bytes,
        priceMax: part.offer.price_store,
        escrow: part.escrow,
    }
}

/// Refuses what no S3 client could name: 3 to 63 of a-z, 0-9, hyphen and dot, no edge of them special.
pub fn check_name(name: &str) -> Result<(), Fault> {
    let refused = |why| Err(Fault::Name(name.into(), why));
    if !(3..=63).contains(&name.len()) {
        return refused("a bucket's name has 3 to 63 characters");
    }
    let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'.';
    if !name.bytes().all(allowed) {
        return refused("a bucket's name is made of a-z, 0-9, hyphen and dot");
    }
    let edge = |b: Option<u8>| b.is_some_and(|b| b.is_ascii_alphanumeric());
    if !edge(name.bytes().next()) || !edge(name.bytes().last()) || name.contains("..") {
        return refused("a bucket's name begins and ends with a letter or digit, and has no two dots in a row");
    }
    Ok(())
}

impl Buckets {
    pub fn new(wallet: Wallet) -> Self {
        Self { wallet }
    }

    fn salt(&self, name: &str) -> B256 {
        let mut hasher = blake3::Hasher::new_derive_key("hodei 2026 bucket salt of a name v1");
        hasher.update(self.wallet.data().bytes());
        hasher.update(name.as_bytes());
        B256::from(*hasher.finalize().as_bytes())
    }

    /// The id a bucket of this name has, whether or not it exists.
    pub fn id(&self, name: &str) -> B256 {
        bucket_id(self.wallet.owner(), self.salt(name))
    }

    /// The 32 bytes all keys of a bucket come from.
    pub fn key(&self, id: B256) -> [u8; 32] {
        let mut hasher = blake3::Hasher::new_derive_key("hodei 2026 bucket key v1");
        hasher.update(self.wallet.data().bytes());
        hasher.update(id.as_slice());
        *hasher.finalize().as_bytes()
    }

    /// `None` if there is no bucket of this name.
    pub async fn find(&self, name: &str) -> Result<Option<Record>, Fault> {
        check_name(name)?;
        Ok(self.read(self.id(name)).await?.map(|record| Record { name: name.into(), ..record }))
    }

    pub async fn get(&self, name: &str) -> Result<Record, Fault> {
        self.find(name).await?.ok_or_else(|| Fault::NoBucket(name.into()))
    }

    /// By id; the name stays empty.
    pub async fn read(&self, id: B256) -> Result<Option<Record>, Fault> {
        let state = match ask(&**self.wallet.chain(), BUCKETS, &IBuckets::getCall { id }).await {
            Ok(state) => state,
            Err(error) => {
                return match revert::<IBuckets::IBucketsErrors>(&error) {
                    Some(IBuckets::IBucketsErrors::UnknownBucket(_)) => Ok(None),
                    _ => Err(error.into()),
                };
            }
        };
        let IBuckets::Shape { k, n, t, operators, networks, zones, .. } = state.shape;
        let shape = Shape::from_bytes([k, n, t, operators, networks, zones])?;
        Ok(Some(Record { name: String::new(), id, shape, state }))
    }

    /// Ids of all buckets of the owner.
    pub async fn ids(&self) -> Result<Vec<B256>, Fault> {
        let owner = self.wallet.owner();
        let chain = &**self.wallet.chain();
        let count = ask(chain, BUCKETS, &IBuckets::countCall { owner }).await?;
        let calls = (0..count).map(|i| async move {
            match ask(chain, BUCKETS, &IBuckets::atCall { owner, i }).await {
                Ok(id) => Ok(Some(id)),
                // Fewer by now: one ended while the others were asked for.
                Err(ChainError::Reverted(_)) => Ok(None),
                Err(error) => Err(error),
            }
        });
        let ids: Vec<Option<B256>> = stream::iter(calls).buffered(AT_ONCE).try_collect().await?;
        Ok(ids.into_iter().flatten().collect())
    }

    /// Creates the bucket and opens its deals. Run again after an interruption it opens what is missing.
    pub async fn create(&self, name: &str, plan: &Plan) -> Result<Record, Fault> {
        check_name(name)?;
        let id = self.id(name);
        match self.find(name).await? {
            Some(record) if record.is_going() => {
                if !self.remove(id).await? {
                    return Err(Fault::Removing(name.into()));
                }
                self.make(name, plan).await?;
            }
            Some(record) if record.state.root != B256::ZERO || record.shape != plan.shape => {
                return Err(Fault::BucketExists(name.into()));
            }
            Some(_) => {}
            None => self.make(name, plan).await?,
        }
        let open: BTreeMap<NodeKey, u64> =
            self.deals(id).await?.into_iter().map(|deal| (deal.offer.node, deal.id)).collect();
        let missing = plan.parts.iter().filter(|part| !open.contains_key(&part.offer.node));
        self.open(id, missing.cloned().collect()).await?;
        self.get(name).await
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

    /// Says where custodians put shards; `Ok(false)` if another said so since.
    pub(crate) async fn lay(&self, id: B256, expected: B256, overlay: B256) -> Result<bool, Fault> {
        let call = IBuckets::layCall { id, expected, overlay };
        match self.attempt(&Order::call(BUCKETS, call.abi_encode(), BUCKET_GAS)).await {
            Ok(()) => Ok(true),
            Err(error) => match revert::<IBuckets::IBucketsErrors>(&error) {
                Some(IBuckets::IBucketsErrors::OverlayConflict(now)) => Ok(now.overlay == overlay),
                _ => Err(self.refused(error, BUCKET_GAS).await),
            },
        }
    }

    /// Gives deals other capacities.
    pub(crate) async fn resize(&self, deals: &[IDeals::Resize]) -> Result<(), Fault> {
        for batch in deals.chunks(OPEN_BATCH) {
            let call = IDeals::resizeCall { deals: batch.to_vec() };
            self.run(DEALS, call.abi_encode(), U256::ZERO, DEAL_GAS * (batch.len() as u64 + 1)).await?;
        }
        Ok(())
    }

    /// Gives the bucket another shape, whoever held it.
    pub(crate) async fn reshape(&self, id: B256, shape: &IBuckets::Shape) -> Result<(), Fault> {
        for _ in 0..RESHAPE_ROUNDS {
            let record = self.read(id).await?.ok_or(Fault::Contended)?;
            let term = self.hold(&record).await?;
            let call = IBuckets::reshapeCall { id, term, shape: shape.clone() };
            let Err(error) = self.attempt(&Order::call(BUCKETS, call.abi_encode(), BUCKET_GAS)).await else {
                return Ok(());
            };
            match revert(&error) {
                // Somebody else of the owner took the term in between.
                Some(IBuckets::IBucketsErrors::Fenced(_)) => {}
                _ => return Err(error.into()),
            }
        }
        Err(Fault::Contended)
    }

    /// Ends deals that hold nothing, which refunds what is left in escrow; one that ended meanwhile is no matter.
    pub(crate) async fn close(&self, deals: &[u64]) -> Result<(), Fault> {
        for deal in deals {
            let call = IDeals::closeCall { deals: vec![*deal] };
            let Err(error) = self.attempt(&Order::call(DEALS, call.abi_encode(), DEAL_GAS * 2)).await else {
                continue;
            };
            match revert(&error) {
                Some(IDeals::IDealsErrors::NotOpen(_)) => {}
                _ => return Err(error.into()),
            }
        }
        Ok(())
    }

    async fn make(&self, name: &str, plan: &Plan) -> Result<(), Fault> {
        let call = IBuckets::createCall { salt: self.salt(name), shape: plan.terms(), blocks: TERM_BLOCKS };
        self.afford(plan.escrow()).await?;
        self.run(BUCKETS, call.abi_encode(), U256::ZERO, BUCKET_GAS).await
    }

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

    /// Holds the bucket's term for some blocks more; gives the term.
    pub async fn hold(&self, record: &Record) -> Result<u64, Fault> {
        let me = self.wallet.spender().address();
        let height = self.wallet.chain().head().await?.height;
        if record.state.holder == me && record.state.expires > height + TERM_LEFT_MIN {
            return Ok(record.state.term);
        }
        let call = IBuckets::claimCall { id: record.id, blocks: TERM_BLOCKS };
        self.run(BUCKETS, call.abi_encode(), U256::ZERO, BUCKET_GAS).await?;
        let now = self.read(record.id).await?.ok_or_else(|| Fault::NoBucket(record.name.clone()))?;
        Ok(now.state.term)
    }

    /// Swaps the root, and has leaves of kept versions listed; `Ok(false)` if it was not `expected` any more.
    pub async fn commit(
        &self,
        id: B256,
        term: u64,
        (expected, root): (B256, B256),
        size_bytes: u64,
        kept: Vec<IBuckets::Kept>,
    ) -> Result<bool, Fault> {
        let gas = BUCKET_GAS + KEPT_GAS * kept.len() as u64;
        let data = if kept.is_empty() {
            IBuckets::commitCall { id, term, expected, root, sizeBytes: size_bytes }.abi_encode()
        } else {
            IBuckets::commitKeptCall { id, term, expected, root, sizeBytes: size_bytes, kept }.abi_encode()
        };
        let order = Order::call(BUCKETS, data, gas);
        match self.attempt(&order).await {
            Ok(()) => Ok(true),
            Err(error) => match revert::<IBuckets::IBucketsErrors>(&error) {
                // Every root is its author's own: this very swap was made already, by a transaction sent before.
                Some(IBuckets::IBucketsErrors::Conflict(now)) if now.root == root && !root.is_zero() => Ok(true),
                Some(IBuckets::IBucketsErrors::Conflict(_) | IBuckets::IBucketsErrors::Fenced(_)) => Ok(false),
                _ => Err(self.refused(error, gas).await),
            },
        }
    }

    /// Posts the newest ack of each deal, in batches. Gives back those that a running challenge keeps out:
    /// post them again once the window's proof is in.
    pub async fn post(&self, acks: &BTreeMap<u64, Ack>) -> Result<BTreeMap<u64, Ack>, Fault> {
        let mut waiting = BTreeMap::new();
        let all: Vec<Ack> = acks.values().copied().collect();
        for batch in all.chunks(POST_BATCH) {
            let mut batch = batch.to_vec();
            for _ in 0..POST_ROUNDS {
                if batch.is_empty() {
                    break;
                }
                let posts = batch.iter().map(root_post).collect();
                let call = IDeals::postCall { posts };
                let gas = POST_GAS * (batch.len() as u64 + 1);
                let Err(error) = self.attempt(&Order::call(DEALS, call.abi_encode(), gas)).await else {
                    batch.clear();
                    break;
                };
                match revert::<IDeals::IDealsErrors>(&error) {
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
                        let (out, kept) = self.split(batch, open.provider).await?;
                        waiting.extend(out.into_iter().map(|ack| (ack.statement.deal, ack)));
                        batch = kept;
                    }
                    _ => return Err(error.into()),
                }
            }
            waiting.extend(batch.into_iter().map(|ack| (ack.statement.deal, ack)));
        }
        Ok(waiting)
    }

    /// Acks of deals with a provider, and the others.
    async fn split(&self, acks: Vec<Ack>, provider: B256) -> Result<(Vec<Ack>, Vec<Ack>), Fault> {
        let deals = acks.iter().map(|ack| ack.statement.deal).collect();
        let states = ask(&**self.wallet.chain(), DEALS, &IDeals::manyCall { deals }).await?;
        let (its, others) = acks.into_iter().zip(states).partition::<Vec<_>, _>(|(_, deal)| deal.provider == provider);
        let acks = |pairs: Vec<(Ack, IDeals::Deal)>| pairs.into_iter().map(|(ack, _)| ack).collect();
        Ok((acks(its), acks(others)))
    }

    /// Ends the deals, which refunds what is left in escrow, and forgets the bucket. `Ok(false)` while the
    /// provider of some deal owes a proof, which ends with the proof or its window, or while the second lasts in which
    /// the last lock ran out: call again then.
    pub async fn remove(&self, id: B256) -> Result<bool, Fault> {
        if self.read(id).await?.is_some_and(|record| record.state.keeps > 0) {
            self.lapse(id).await?;
        }
        for _ in 0..CLOSE_ROUNDS {
            let states = self.states(id).await?;
            let open: Vec<u64> = states.iter().filter(|deal| deal.state == OPEN).map(|deal| deal.id).collect();
            let mut outcome = Ok(());
            for batch in open.chunks(OPEN_BATCH) {
                let call = IDeals::closeCall { deals: batch.to_vec() };
                let gas = DEAL_GAS * (batch.len() as u64 + 1);
                outcome = outcome.and(self.attempt(&Order::call(DEALS, call.abi_encode(), gas)).await);
            }
            match outcome {
                Ok(()) => break,
                // Ended or closing meanwhile, through its provider: look again.
                Err(error) => match revert(&error) {
                    Some(IDeals::IDealsErrors::NotOpen(_)) => {}
                    Some(IDeals::IDealsErrors::Locked(_)) => return Ok(false),
                    _ => return Err(error.into()),
                },
            }
        }
        let order = Order::call(BUCKETS, IBuckets::removeCall { id }.abi_encode(), BUCKET_GAS);
        match self.attempt(&order).await {
            Ok(()) => Ok(true),
            Err(error) => match revert::<IBuckets::IBucketsErrors>(&error) {
                Some(IBuckets::IBucketsErrors::DealsOpen(_) | IBuckets::IBucketsErrors::Locked(_)) => Ok(false),
                Some(IBuckets::IBucketsErrors::UnknownBucket(_)) => Ok(true),
                _ => Err(error.into()),
            },
        }
    }

    pub(crate) async fn afford(&self, needs: U256) -> Result<(), Fault> {
        let budget = self.wallet.budget().await?;
        let (has, is_budget) = (budget.left, budget.spender != budget.owner);
        if has < needs { Err(Fault::Funds { has, needs, is_budget }) } else { Ok(()) }
    }

    /// A refusal for want of coins says so as our own would: what pays cannot pay even for gas.
    async fn refused(&self, error: ChainError, gas: u64) -> Fault {
        match &error {
            ChainError::Refused(reason) if reason.starts_with(UNFUNDED) => {
                let base_fee = self.wallet.chain().head().await.map_or(0, |head| head.base_fee);
                let needs = U256::from(gas) * U256::from(max_fee_per_gas(base_fee));
                self.afford(needs).await.err().unwrap_or_else(|| error.into())
            }
            _ => error.into(),
        }
    }

    pub(crate) async fn run(&self, to: Address, data: Vec<u8>, value: U256, gas: u64) -> Result<(), Fault> {
        if value > U256::ZERO {
            self.afford(value).await?;
        }
        let order = Order::call(to, data, gas).with_value(value);
        match self.attempt(&order).await {
            Ok(()) => Ok(()),
            Err(error) => Err(self.refused(error, gas).await),
        }
    }

    /// Tries it on the finalized head first where that is possible, so that a refusal costs nothing, then
    /// waits until it is final.
    async fn attempt(&self, order: &Order) -> Result<(), ChainError> {
        let account = self.wallet.spender();
        if let (Some(to), true) = (order.to, order.value == U256::ZERO) {
            self.wallet.chain().call(account.address(), to, order.data.clone()).await?;
        }
        for _ in 0..DISPLACED_MAX {
            return match account.execute(order).await {
                Ok(_) => Ok(()),
                Err(AccountError::Reverted(receipt)) => Err(ChainError::Reverted(receipt.output)),
                Err(AccountError::Chain(error)) => Err(error),
                Err(pending @ AccountError::Pending { .. }) => Err(ChainError::Unavailable(pending.to_string())),
                Err(AccountError::Secret) => Err(ChainError::Refused("the account's secret is no key".into())),
                // Done twice, what moves no coin is refused or changes nothing the second time.
                Err(AccountError::Displaced(_)) if order.value.is_zero() => continue,
                Err(displaced) => Err(ChainError::Refused(displaced.to_string())),
            };
        }
        Err(ChainError::Unavailable("other processes of this account are faster each time".into()))
    }
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
    use super::*;

    #[test]
    fn bucket_names_are_those_of_s3() {
        for name in ["abc", "my-bucket.2", "0a0"] {
            check_name(name).expect(name);
        }
        for name in ["ab", "Abc", "a_b", "-abc", "abc-", "a..b", "ünix", &"a".repeat(64)] {
            assert!(matches!(check_name(name), Err(Fault::Name(..))), "{name}");
        }
    }
}
