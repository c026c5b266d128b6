//! Know this provider's deals as the ledger has them.
//!
//! A cache in front of `IDeals` and `IBuckets`: shards arrive by the thousand, deals change by the hour.
//! What the ledger says of an unknown deal is asked once in a while, not for each request that names it.

use alloy_primitives::{Address, B256};
use hodei_types::{
    abi::{BUCKETS, BUDGETS, DEALS, IBuckets, IBudgets, IDeals, PAGE_MAX},
    call::{ask, revert},
    chain::{Chain, ChainError},
};
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::{sync::Semaphore, time::Instant};

/// An answer "no such deal", or a holder that did not fit, is believed for so long.
const STALE_AFTER: Duration = Duration::from_secs(1);
/// Questions to the ledger at once on behalf of peers.
const QUESTIONS_MAX: usize = 4;
/// Unknown ids remembered; more forget the lowest.
const UNKNOWN_MAX: usize = 4096;
/// Whose budget or custodian an account is, is believed for so long, and of so many accounts; more forget all.
const BUDGET_FOR: Duration = Duration::from_secs(10);
const BUDGETS_MAX: usize = 4096;

/// An open or closing deal of this provider.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Terms {
    pub id: u64,
    pub bucket: B256,
    pub owner: Address,
    /// Who holds the bucket's term, and may write besides the owner.
    pub holder: Address,
    pub capacity_bytes: u64,
    /// Takes new shards: open, not closing.
    pub open: bool,
    /// What the ledger has of the deal's root.
    pub posted: Posted,
}

/// A deal's root as last posted to the ledger.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Posted {
    pub sequence: u64,
    pub root: B256,
    pub leaves: u64,
}

/// The cache; clones share it.
#[derive(Clone)]
pub struct Deals {
    chain: Arc<dyn Chain>,
    node: B256,
    known: Arc<Mutex<Known>>,
    questions: Arc<Semaphore>,
}

#[derive(Default)]
struct Known {
    deals: BTreeMap<u64, (Terms, Instant)>,
    unknown: BTreeMap<u64, Instant>,
    budgets: BTreeMap<Address, (Address, Instant)>,
    custodians: BTreeMap<(B256, Address), (bool, Instant)>,
}

impl Deals {
    /// An empty cache for the provider with this node key.
    pub fn new(chain: Arc<dyn Chain>, node: B256) -> Self {
        Self { chain, node, known: Arc::default(), questions: Arc::new(Semaphore::new(QUESTIONS_MAX)) }
    }

    /// The deal, if it is this provider's and has not ended.
    pub async fn get(&self, id: u64) -> Result<Option<Terms>, ChainError> {
        {
            let known = self.locked();
            if let Some((terms, _)) = known.deals.get(&id) {
                return Ok(Some(terms.clone()));
            }
            if known.unknown.get(&id).is_some_and(|asked| asked.elapsed() < STALE_AFTER) {
                return Ok(None);
            }
        }
        let _turn = self.questions.acquire().await.expect("never closed");
        self.read(id).await
    }

    /// As [`Deals::get`], but asks the ledger again unless it was asked within a second: for a request whose
    /// author does not fit what is known.
    pub async fn fresh(&self, id: u64) -> Result<Option<Terms>, ChainError> {
        if let Some((terms, read)) = self.locked().deals.get(&id)
            && read.elapsed() < STALE_AFTER
        {
            return Ok(Some(terms.clone()));
        }
        let _turn = self.questions.acquire().await.expect("never closed");
        self.read(id).await
    }

    /// Whose budget an account is; zero if nobody's.
    pub async fn owner_of(&self, spender: Address) -> Result<Address, ChainError> {
        if let Some((owner, asked)) = self.locked().budgets.get(&spender)
            && asked.elapsed() < BUDGET_FOR
        {
            return Ok(*owner);
        }
        let _turn = self.questions.acquire().await.expect("never closed");
        let owner = ask(&*self.chain, BUDGETS, &IBudgets::ownerOfCall { spender }).await?;
        let mut known = self.locked();
        if known.budgets.len() >= BUDGETS_MAX {
            known.budgets.clear();
        }
        known.budgets.insert(spender, (owner, Instant::now()));
        Ok(owner)
    }

    /// Whether an account is a custodian of a bucket.
    pub async fn is_custodian(&self, bucket: B256, account: Address) -> Result<bool, ChainError> {
        if let Some((is_one, asked)) = self.locked().custodians.get(&(bucket, account))
            && asked.elapsed() < BUDGET_FOR
        {
            return Ok(*is_one);
        }
        let _turn = self.questions.acquire().await.expect("never closed");
        let is_one = ask(&*self.chain, BUCKETS, &IBuckets::isCustodianCall { id: bucket, account }).await?;
        let mut known = self.locked();
        if known.custodians.len() >= BUDGETS_MAX {
            known.custodians.clear();
        }
        known.custodians.insert((bucket, account), (is_one, Instant::now()));
        Ok(is_one)
    }

    /// Reads all deals of this provider from the ledger; returns their ids.
    pub async fn load(&self) -> Result<Vec<u64>, ChainError> {
        let mut ids = Vec::new();
        loop {
            let page = IDeals::ofProviderCall { provider: self.node, first: ids.len() as u64, most: PAGE_MAX };
            let page = ask(&*self.chain, DEALS, &page).await?;
            let last = (page.len() as u64) < PAGE_MAX;
            ids.extend(page);
            if last {
                break;
            }
        }
        for id in &ids {
            self.read(*id).await?;
        }
        Ok(ids)
    }

    /// What is known now, by id.
    pub fn list(&self) -> Vec<Terms> {
        self.locked().deals.values().map(|(terms, _)| terms.clone()).collect()
    }

    /// The ledger says that something about this deal changed.
    pub async fn changed(&self, id: u64) -> Result<Option<Terms>, ChainError> {
        self.read(id).await
    }

    async fn read(&self, id: u64) -> Result<Option<Terms>, ChainError> {
        let deal = match ask(&*self.chain, DEALS, &IDeals::getCall { deal: id }).await {
            Ok(deal) => Some(deal),
            Err(error) => match revert(&error) {
                Some(IDeals::IDealsErrors::UnknownDeal(_)) => None,
                _ => return Err(error),
            },
        };
        let Some(deal) = deal.filter(|deal| deal.provider == self.node && matches!(deal.state, 1 | 2)) else {
            let mut known = self.locked();
            known.deals.remove(&id);
            known.unknown.insert(id, Instant::now());
            if known.unknown.len() > UNKNOWN_MAX {
                known.unknown.pop_first();
            }
            return Ok(None);
        };
        let bucket = ask(&*self.chain, BUCKETS, &IBuckets::getCall { id: deal.bucket }).await?;
        let terms = Terms {
            id,
            bucket: deal.bucket,
            owner: deal.owner,
            holder: bucket.holder,
            capacity_bytes: deal.capacityBytes,
            open: deal.state == 1,
            posted: Posted { sequence: deal.sequence, root: deal.root, leaves: deal.leaves },
        };
        let mut known = self.locked();
        known.unknown.remove(&id);
        known.deals.insert(id, (terms.clone(), Instant::now()));
        Ok(Some(terms))
    }

    fn locked(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
