//! Remember where things are, in key order, cheaply and forgettably.
//!
//! An index is a cache of what segments or logs say: deleting it changes nothing but start time. So `apply`
//! may be lost in a crash unless it, or a later one, asked to be durable; what survives is always a prefix
//! of the applied batches. `node::disk` implements it on redb, [`Ordered`] in memory.

use std::{
    collections::BTreeMap,
    future::{Future, ready},
    sync::{Arc, Mutex, PoisonError},
};

/// One change: the key, and its new value or `None` to remove it.
pub type Change = (Vec<u8>, Option<Vec<u8>>);

/// Why the index gave no answer. It is only a cache: the caller rebuilds it, or reads the truth.
#[derive(Clone, Debug, thiserror::Error)]
#[error("index: {0}")]
pub struct IndexError(pub String);

/// An ordered key-value cache.
pub trait Index: Send + Sync + 'static {
    fn get(&self, key: &[u8]) -> impl Future<Output = Result<Option<Vec<u8>>, IndexError>> + Send;

    /// At most `limit` entries with keys in `from..to`, in order; an empty `to` is no bound.
    fn range(
        &self,
        from: &[u8],
        to: &[u8],
        limit: usize,
    ) -> impl Future<Output = Result<Vec<(Vec<u8>, Vec<u8>)>, IndexError>> + Send;

    /// Applies all changes or none. With `durable` these and all before them survive a crash.
    fn apply(&self, changes: Vec<Change>, durable: bool) -> impl Future<Output = Result<(), IndexError>> + Send;
}

/// An index in memory, for simulations and tests; clones share it.
#[derive(Clone, Debug, Default)]
pub struct Ordered(Arc<Mutex<BTreeMap<Vec<u8>, Vec<u8>>>>);

impl Index for Ordered {
    fn get(&self, key: &[u8]) -> impl Future<Output = Result<Option<Vec<u8>>, IndexError>> + Send {
        ready(Ok(self.0.lock().unwrap_or_else(PoisonError::into_inner).get(key).cloned()))
    }

    fn range(
        &self,
        from: &[u8],
        to: &[u8],
        limit: usize,
    ) -> impl Future<Output = Result<Vec<(Vec<u8>, Vec<u8>)>, IndexError>> + Send {
        let map = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let entries = map.range(from.to_vec()..).take_while(|(key, _)| to.is_empty() || key.as_slice() < to);
        ready(Ok(entries.take(limit).map(|(key, value)| (key.clone(), value.clone())).collect()))
    }

    fn apply(&self, changes: Vec<Change>, _durable: bool) -> impl Future<Output = Result<(), IndexError>> + Send {
        let mut map = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for (key, value) in changes {
            match value {
                Some(value) => map.insert(key, value),
                None => map.remove(&key),
            };
        }
        ready(Ok(()))
    }
}
