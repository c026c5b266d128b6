//! Remember what a log has signed, and hold it to that.
//!
//! Upon a checkpoint of a log: its signature is checked; the first is remembered; a longer one is remembered
//! once a consistency path shows that it continues the last; one that contradicts the last is a [`Fault`],
//! whose evidence convinces anybody. Pure: who fetches checkpoints and paths, and when, is the caller's.

use crate::checkpoint::Signed;
use hodei_types::{
    merkle::{self, MerkleError},
    transport::NodeKey,
};
use std::collections::BTreeMap;

/// Logs one witness follows; more are refused rather than an old one forgotten.
pub const LOGS_MAX: usize = 65_536;

/// What a witness says of a checkpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The first of its log, or it continues the last: remembered.
    Accepted,
    /// Already covered by the last; the same where the sizes are.
    Known,
    /// Two histories, signed by one key.
    Fault(Box<Fault>),
}

/// Evidence that a log's keeper rewrote it: both signed, and no log can hold both.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    pub first: Signed,
    pub second: Signed,
}

impl Fault {
    /// Whether the evidence holds by itself: one size, two roots, two genuine signatures of one key.
    pub fn is_proven(&self) -> bool {
        let (first, second) = (&self.first, &self.second);
        let same = (first.log, first.genesis, first.size) == (second.log, second.genesis, second.size);
        same && first.root != second.root && first.is_genuine() && second.is_genuine()
    }
}

/// Why a checkpoint was not judged: nothing is known against the log.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unjudged {
    #[error("checkpoint is not signed by {0}")]
    Signature(NodeKey),
    #[error("no path from the {size} events last seen: {error}")]
    Path { size: u64, error: MerkleError },
    #[error("{LOGS_MAX} logs are followed already")]
    Full,
}

/// The last checkpoint of each log seen.
#[derive(Debug, Default)]
pub struct Witness {
    last: BTreeMap<NodeKey, Signed>,
}

impl Witness {
    pub fn new() -> Self {
        Self::default()
    }

    /// The last checkpoint of a log: a path must begin there.
    pub fn last(&self, log: &NodeKey) -> Option<&Signed> {
        self.last.get(log)
    }

    /// Judges a checkpoint; `path` leads from the last one's size to this one's, empty for the first.
    pub fn judge(&mut self, next: &Signed, path: &[alloy_primitives::B256]) -> Result<Verdict, Unjudged> {
        if !next.is_genuine() {
            return Err(Unjudged::Signature(next.log));
        }
        let Some(last) = self.last.get(&next.log) else {
            if self.last.len() >= LOGS_MAX {
                return Err(Unjudged::Full);
            }
            self.last.insert(next.log, next.clone());
            return Ok(Verdict::Accepted);
        };
        if next.size == last.size && (next.root != last.root || next.genesis != last.genesis) {
            return Ok(Verdict::Fault(Box::new(Fault { first: last.clone(), second: next.clone() })));
        }
        if next.size <= last.size {
            return Ok(Verdict::Known);
        }
        // A wrong path is nobody's fault yet: whoever brought it may have made it up.
        merkle::verify_consistency(last.size, next.size, path, last.root, next.root)
            .map_err(|error| Unjudged::Path { size: last.size, error })?;
        self.last.insert(next.log, next.clone());
        Ok(Verdict::Accepted)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{leaves::Leaves, proof};
    use alloy_primitives::B256;
    use hodei_types::ack::Signer;

    fn leaves(tag: u8) -> Leaves {
        Leaves((0..40).map(|i| merkle::leaf(&[if i < 20 { 0 } else { tag }, i])).collect())
    }

    fn signed(leaves: &Leaves, size: u64) -> Signed {
        let root = proof::root(leaves, size).unwrap();
        Signed::new(B256::repeat_byte(1), &Signer::new(&[4; 32]), size, root)
    }

    #[test]
    fn a_log_that_grows_is_followed() {
        let (mut witness, log) = (Witness::new(), leaves(0));
        for size in [3, 4, 17, 40] {
            let next = signed(&log, size);
            let path = witness.last(&next.log).map(|last| proof::consistency(&log, last.size, size).unwrap());
            assert_eq!(witness.judge(&next, &path.unwrap_or_default()), Ok(Verdict::Accepted));
            assert_eq!(witness.judge(&next, &[]), Ok(Verdict::Known));
        }
        assert_eq!(witness.judge(&signed(&log, 9), &[]), Ok(Verdict::Known));
    }

    #[test]
    fn a_rewritten_log_is_refused_and_two_views_of_one_size_convict() {
        let (mut witness, honest, rewritten) = (Witness::new(), leaves(0), leaves(9));
        witness.judge(&signed(&honest, 30), &[]).unwrap();
        let longer = signed(&rewritten, 35);
        let path = proof::consistency(&rewritten, 30, 35).unwrap();
        assert!(matches!(witness.judge(&longer, &path), Err(Unjudged::Path { size: 30, .. })));
        let Ok(Verdict::Fault(fault)) = witness.judge(&signed(&rewritten, 30), &[]) else { panic!("a fault") };
        assert!(fault.is_proven());
        // Nobody is convicted by a signature that is not theirs.
        let mut framed = signed(&honest, 30);
        framed.root = B256::repeat_byte(7);
        assert_eq!(witness.judge(&framed, &[]), Err(Unjudged::Signature(framed.log)));
        assert!(!Fault { first: signed(&honest, 30), second: framed }.is_proven());
    }
}
