//! Keep a bucket's record on the ledger: its deals, its term, its root.
//!
//! A bucket's id follows from its name and the owner's data root, so that the name is on no ledger and is
//! found again from the backup alone. Its root changes only by compare-and-swap within a term.

use crate::{
    custody::Wages,
    deal::{DEAL_GAS, OPEN_BATCH},
    fault::Fault,
    plan::Plan,
    wallet::Wallet,
};
use alloy_primitives::{Address, B256, U256};
use alloy_sol_types::SolCall;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use hodei_ledger::account::Order;
use hodei_types::{
    abi::{BUCKETS, DEALS, IBuckets, IDeals, bucket_id},
    call::{ask, revert},
    chain::{ChainError, Log},
    code::Shape,
    transport::NodeKey,
};
use std::collections::BTreeMap;

pub(crate) use crate::deal::OPEN;
pub use crate::deal::{Closed, Deal};

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
/// Looks at which deals are still to be closed.
const CLOSE_ROUNDS: usize = 4;
/// Tries to give a bucket another shape while others take its term.
const RESHAPE_ROUNDS: usize = 16;

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
    /// Wages of this account that its posts' receipts told of, by bucket.
    pub(crate) wages: Wages,
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
        Self { wallet, wages: Wages::default() }
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

    /// Says where custodians put shards; `Ok(false)` if another said so since.
    pub(crate) async fn lay(&self, id: B256, expected: B256, overlay: B256) -> Result<bool, Fault> {
        let call = IBuckets::layCall { id, expected, overlay };
        match self.attempt(&Order::call(BUCKETS, call.abi_encode(), BUCKET_GAS)).await {
            Ok(_) => Ok(true),
            Err(error) => match revert::<IBuckets::IBucketsErrors>(&error) {
                Some(IBuckets::IBucketsErrors::OverlayConflict(now)) => Ok(now.overlay == overlay),
                _ => Err(self.wallet.refused(error, (BUCKET_GAS, U256::ZERO)).await),
            },
        }
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

    async fn make(&self, name: &str, plan: &Plan) -> Result<(), Fault> {
        let call = IBuckets::createCall { salt: self.salt(name), shape: plan.terms(), blocks: TERM_BLOCKS };
        self.afford(plan.escrow()).await?;
        self.run(BUCKETS, call.abi_encode(), U256::ZERO, BUCKET_GAS).await
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
            Ok(_) => Ok(true),
            Err(error) => match revert::<IBuckets::IBucketsErrors>(&error) {
                // Every root is its author's own: this very swap was made already, by a transaction sent before.
                Some(IBuckets::IBucketsErrors::Conflict(now)) if now.root == root && !root.is_zero() => Ok(true),
                Some(IBuckets::IBucketsErrors::Conflict(_) | IBuckets::IBucketsErrors::Fenced(_)) => Ok(false),
                _ => Err(self.wallet.refused(error, (gas, U256::ZERO)).await),
            },
        }
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
                outcome = outcome.and(self.attempt(&Order::call(DEALS, call.abi_encode(), gas)).await.map(drop));
            }
            match outcome {
                Ok(()) => break,
                // Ended or closing meanwhile, through its provider: look again.
                Err(error) => match revert(&error) {
                    Some(IDeals::IDealsErrors::NotOpen(_)) => {}
                    Some(IDeals::IDealsErrors::Locked(_)) => return Ok(false),
                    _ => {
                        return Err(self.wallet.refused(error, (DEAL_GAS * (OPEN_BATCH as u64 + 1), U256::ZERO)).await);
                    }
                },
            }
        }
        let order = Order::call(BUCKETS, IBuckets::removeCall { id }.abi_encode(), BUCKET_GAS);
        match self.attempt(&order).await {
            Ok(_) => Ok(true),
            Err(error) => match revert::<IBuckets::IBucketsErrors>(&error) {
                Some(IBuckets::IBucketsErrors::DealsOpen(_) | IBuckets::IBucketsErrors::Locked(_)) => Ok(false),
                Some(IBuckets::IBucketsErrors::UnknownBucket(_)) => Ok(true),
                _ => Err(self.wallet.refused(error, (BUCKET_GAS, U256::ZERO)).await),
            },
        }
    }

    pub(crate) async fn afford(&self, needs: U256) -> Result<(), Fault> {
        self.wallet.afford(needs).await
    }

    pub(crate) async fn run(&self, to: Address, data: Vec<u8>, value: U256, gas: u64) -> Result<(), Fault> {
        let order = Order::call(to, data, gas).with_value(value);
        self.wallet.run(&order).await.map(drop)
    }

    pub(crate) async fn attempt(&self, order: &Order) -> Result<Vec<Log>, ChainError> {
        self.wallet.attempt(order).await
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
