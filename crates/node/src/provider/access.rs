//! Decide who may do what to which deal.
//!
//! A request names a deal and brings a grant. The deal must be this provider's and open on the ledger; the
//! grant must be signed for the very key the stream was authenticated with, by the bucket's owner, by a budget of the
//! owner's, or by who holds its term: a budget that is spent can pay for no term, and its owner's reads go on. A custodian
//! of the bucket may sign for reading and for putting, so that it restores what is lost; nothing is released, kept or paid
//! on its word. Recovering a signature costs about as much as hashing a shard, so what was verified once is remembered until
//! it expires.

use super::deals::{Deals, Terms};
use alloy_primitives::{Address, B256};
use hodei_types::{
    chain::ChainError,
    grant::{Grant, Rights},
    transport::NodeKey,
};
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

/// Verified grants remembered; more forget those that expire first.
const GRANTS_MAX: usize = 4096;

/// Why a request may not be served.
#[derive(Debug, thiserror::Error)]
pub enum AccessError {
    #[error("deal {0} is not an open deal of this provider")]
    UnknownDeal(u64),
    #[error("deal {0} is closing: it takes nothing new")]
    Closing(u64),
    #[error("the grant {0}")]
    Grant(&'static str),
    #[error(transparent)]
    Chain(#[from] ChainError),
}

/// Verified grants: (expiry, client, bucket, the whole grant) → signer. One with another word in it is another.
type Verified = BTreeMap<(u64, NodeKey, B256, Vec<u8>), Address>;

/// The door-keeper; clones share what was verified.
#[derive(Clone)]
pub struct Access {
    deals: Deals,
    chain_id: u64,
    verified: Arc<Mutex<Verified>>,
}

impl Access {
    pub fn new(deals: Deals, chain_id: u64) -> Self {
        Self { deals, chain_id, verified: Arc::default() }
    }

    /// The deal's terms, if `client` may do any of `rights` to it at `now_ms`.
    pub async fn check(
        &self,
        client: NodeKey,
        deal: u64,
        grant: &[u8],
        rights: Rights,
        now_ms: u64,
    ) -> Result<Terms, AccessError> {
        let is_read = rights.contains(Rights::READ);
        self.check_as(client, deal, grant, (rights, is_read), now_ms).await
    }

    /// The same; custodians may too, or not.
    async fn check_as(
        &self,
        client: NodeKey,
        deal: u64,
        grant: &[u8],
        (rights, may_custodian): (Rights, bool),
        now_ms: u64,
    ) -> Result<Terms, AccessError> {
        let terms = self.deals.get(deal).await?.ok_or(AccessError::UnknownDeal(deal))?;
        let grant = Grant::decode(grant).ok_or(AccessError::Grant("is malformed"))?;
        if grant.expires_ms <= now_ms {
            return Err(AccessError::Grant("has expired"));
        }
        if !grant.rights.intersects(rights) {
            return Err(AccessError::Grant("does not allow this"));
        }
        let signer = self.signer(&terms, client, &grant, now_ms).ok_or(AccessError::Grant("is signed by nobody"))?;
        if signer == terms.owner || signer == terms.holder {
            return Ok(terms);
        }
        // The bucket may have changed hands since it was read.
        let terms = self.deals.fresh(deal).await?.ok_or(AccessError::UnknownDeal(deal))?;
        if signer == terms.owner || signer == terms.holder || self.deals.owner_of(signer).await? == terms.owner {
            return Ok(terms);
        }
        // Who restores what is lost has no tab of the owner's to spend.
        if may_custodian && grant.tab.is_none() && self.deals.is_custodian(terms.bucket, signer).await? {
            return Ok(terms);
        }
        Err(AccessError::Grant(
            "is not of this client, or not by the bucket's owner, a budget of the owner's or the holder, or a custodian",
        ))
    }

    /// As [`Access::check`], for what adds to the deal.
    pub async fn check_write(
        &self,
        client: NodeKey,
        deal: u64,
        grant: &[u8],
        now_ms: u64,
    ) -> Result<Terms, AccessError> {
        let terms = self.check_as(client, deal, grant, (Rights::WRITE, true), now_ms).await?;
        if terms.open { Ok(terms) } else { Err(AccessError::Closing(deal)) }
    }

    fn signer(&self, terms: &Terms, client: NodeKey, grant: &Grant, now_ms: u64) -> Option<Address> {
        let key = (grant.expires_ms, client, terms.bucket, grant.encode());
        if let Some(signer) = self.verified.lock().unwrap_or_else(PoisonError::into_inner).get(&key) {
            return Some(*signer);
        }
        let signer = grant.signer(self.chain_id, terms.bucket, &client)?;
        let mut verified = self.verified.lock().unwrap_or_else(PoisonError::into_inner);
        while verified.first_key_value().is_some_and(|(key, _)| key.0 <= now_ms) || verified.len() >= GRANTS_MAX {
            verified.pop_first();
        }
        verified.insert(key, signer);
        Some(signer)
    }
}
