//! State what must hold of every swap on the ledger, without the code that is judged.

use alloy_consensus::Transaction as _;
use alloy_primitives::{Address, B256};
use alloy_sol_types::{SolEvent as _, SolInterface as _};
use hodei_ledger::execute::{Applied, Signed};
use hodei_types::abi::{BUCKETS, IBuckets};
use std::collections::BTreeMap;

/// A bucket as its events tell.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Held {
    pub(crate) owner: Address,
    pub(crate) holder: Address,
    term: u64,
    expires: u64,
    root: B256,
}

/// Follows all buckets, and notes each swap that should not have been.
#[derive(Debug, Default)]
pub(crate) struct Law {
    pub(crate) buckets: BTreeMap<B256, Held>,
    pub(crate) broken: Vec<String>,
    pub(crate) swaps: u64,
    /// Changes of the holder.
    pub(crate) successions: u64,
    /// Swaps in blocks that were refused: their term was over, or the root was another.
    pub(crate) fenced: u64,
    pub(crate) conflicts: u64,
}

impl Law {
    pub(crate) fn see(&mut self, height: u64, tx: &Signed, applied: &Applied) {
        if tx.envelope.to() != Some(BUCKETS) {
            return;
        }
        if !applied.success {
            match IBuckets::IBucketsErrors::abi_decode(&applied.output) {
                Ok(IBuckets::IBucketsErrors::Fenced(_)) => self.fenced += 1,
                Ok(IBuckets::IBucketsErrors::Conflict(_)) => self.conflicts += 1,
                _ => {}
            }
            return;
        }
        for log in &applied.logs {
            if let Ok(created) = IBuckets::Created::decode_log_data(&log.data) {
                self.buckets.entry(created.id).or_default().owner = created.owner;
            } else if let Ok(claimed) = IBuckets::Claimed::decode_log_data(&log.data) {
                let bucket = self.buckets.entry(claimed.id).or_default();
                let is_other = bucket.holder != claimed.holder;
                let is_over = height > bucket.expires;
                let may = !is_other || is_over || claimed.holder == bucket.owner;
                if !may || claimed.term < bucket.term || (is_other && claimed.term == bucket.term) {
                    self.broken.push(format!("block {height}: {claimed:?} follows {bucket:?}"));
                }
                self.successions += u64::from(is_other);
                (bucket.holder, bucket.term, bucket.expires) = (claimed.holder, claimed.term, claimed.expires);
            }
        }
        let (id, term, expected, root) = match IBuckets::IBucketsCalls::abi_decode(tx.envelope.input()) {
            Ok(IBuckets::IBucketsCalls::commit(call)) => (call.id, call.term, call.expected, call.root),
            Ok(IBuckets::IBucketsCalls::commitKept(call)) => (call.id, call.term, call.expected, call.root),
            _ => return,
        };
        let bucket = self.buckets.entry(id).or_default();
        let is_holder = tx.sender == bucket.holder && term == bucket.term && height <= bucket.expires;
        if !is_holder {
            self.broken.push(format!("block {height}: {} swapped for term {term} of {bucket:?}", tx.sender));
        }
        if expected != bucket.root {
            self.broken.push(format!("block {height}: {} expected another root than {bucket:?}", tx.sender));
        }
        bucket.root = root;
        self.swaps += 1;
    }
}
