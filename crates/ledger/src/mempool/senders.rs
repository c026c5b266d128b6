//! Recover each signature once, whichever way a transaction arrives.
//!
//! Recovery is the larger part of a plain transfer (37 µs). Admission, gossip and block execution share one
//! bounded cache from transaction hash to the recovered transaction; what is missing recovers in parallel.

use alloy_primitives::{B256, Bytes};
use commonware_parallel::Strategy;
use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex, PoisonError},
};

use super::admit::{Refused, hash, recover};
use crate::execute::Signed;

/// About 32 MiB of small transactions: twice what the pool may hold, so that what waits there is still known here.
const KEPT: usize = 65_536;

/// Recovered transactions by hash; clones share it.
#[derive(Clone, Default)]
pub struct Senders {
    cache: Arc<Mutex<Cache>>,
}

#[derive(Default)]
struct Cache {
    by_hash: BTreeMap<B256, Arc<Signed>>,
    order: VecDeque<B256>,
}

impl Cache {
    fn put(&mut self, tx: Arc<Signed>) {
        if self.by_hash.insert(tx.hash, tx.clone()).is_none() {
            self.order.push_back(tx.hash);
        }
        while self.order.len() > KEPT {
            self.order.pop_front().map(|oldest| self.by_hash.remove(&oldest));
        }
    }
}

impl Senders {
    /// One transaction, from the cache or recovered here.
    pub fn one(&self, raw: &[u8]) -> Result<Arc<Signed>, Refused> {
        let hash = hash(raw);
        if let Some(known) = self.lock().by_hash.get(&hash) {
            return Ok(known.clone());
        }
        let tx = Arc::new(recover(raw)?);
        self.lock().put(tx.clone());
        Ok(tx)
    }

    /// All of them in order; what is missing recovers on `strategy`'s threads.
    pub fn all(&self, raws: &[Bytes], strategy: &impl Strategy) -> Vec<Result<Arc<Signed>, Refused>> {
        let mut found: Vec<Option<Arc<Signed>>> = {
            let hashes: Vec<_> = raws.iter().map(|raw| hash(raw)).collect();
            let cache = self.lock();
            hashes.iter().map(|hash| cache.by_hash.get(hash).cloned()).collect()
        };
        let missing: Vec<_> = (0..raws.len()).filter(|at| found[*at].is_none()).collect();
        let recovered = strategy.map_collect_vec(missing.clone(), |at| recover(&raws[at]).map(Arc::new));
        let mut refused = BTreeMap::new();
        let mut cache = self.lock();
        for (at, tx) in missing.into_iter().zip(recovered) {
            match tx {
                Ok(tx) => {
                    cache.put(tx.clone());
                    found[at] = Some(tx);
                }
                Err(reason) => {
                    refused.insert(at, reason);
                }
            }
        }
        let answer =
            |(at, tx): (usize, Option<Arc<Signed>>)| tx.ok_or_else(|| refused.remove(&at).unwrap_or(Refused::Encoding));
        found.into_iter().enumerate().map(answer).collect()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Cache> {
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
