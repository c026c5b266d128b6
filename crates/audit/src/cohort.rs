//! Put many logs' checkpoints under one root, so that they are anchored together.
//!
//! A cohort's leaf is checkpoint body ‖ node key; its leaves stand in the order of the keys. A log that anchors
//! for itself is a cohort of one, whose root is its leaf.

use crate::checkpoint::Signed;
use alloy_primitives::B256;
use hodei_types::{merkle, receipt::Path, transport::NodeKey};

/// Members of one cohort; two layers of a thousand cover a million nodes.
pub const MEMBERS_MAX: usize = 1024;

/// Why a cohort cannot be formed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CohortError {
    #[error("a cohort has 1 to {MEMBERS_MAX} members, not {0}")]
    Size(usize),
    #[error("checkpoint of {0} is not signed by its key")]
    Signature(NodeKey),
    #[error("two checkpoints of {0}")]
    Twice(NodeKey),
}

/// Checkpoints anchored by one transaction.
#[derive(Clone, Debug)]
pub struct Cohort {
    members: Vec<(NodeKey, B256)>,
}

impl Cohort {
    /// A log alone.
    pub fn lone(checkpoint: &Signed) -> Self {
        Self { members: vec![(checkpoint.log, checkpoint.leaf())] }
    }

    /// Others' checkpoints with ours; each signature is checked, for the root answers for all.
    pub fn new(checkpoints: &[Signed]) -> Result<Self, CohortError> {
        if checkpoints.is_empty() || checkpoints.len() > MEMBERS_MAX {
            return Err(CohortError::Size(checkpoints.len()));
        }
        if let Some(false_one) = checkpoints.iter().find(|checkpoint| !checkpoint.is_genuine()) {
            return Err(CohortError::Signature(false_one.log));
        }
        let mut members: Vec<_> = checkpoints.iter().map(|one| (one.log, one.leaf())).collect();
        members.sort_unstable();
        match members.windows(2).find(|pair| pair[0].0 == pair[1].0) {
            Some(pair) => Err(CohortError::Twice(pair[0].0)),
            None => Ok(Self { members }),
        }
    }

    /// What is anchored: these 32 bytes.
    pub fn root(&self) -> B256 {
        merkle::root(&self.leaves())
    }

    /// From a member's leaf to the root; `None` for who is not a member.
    pub fn path(&self, log: &NodeKey) -> Option<Path> {
        let index = self.members.binary_search_by_key(log, |(key, _)| *key).ok()?;
        let leaves = self.leaves();
        let hashes = merkle::inclusion_path(&leaves, index).ok()?;
        Path::new(index as u64, leaves.len() as u64, hashes).ok()
    }

    fn leaves(&self) -> Vec<B256> {
        self.members.iter().map(|(_, leaf)| *leaf).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hodei_types::ack::Signer;

    fn checkpoint(seed: u8) -> Signed {
        Signed::new(B256::repeat_byte(1), &Signer::new(&[seed; 32]), 9, B256::repeat_byte(seed))
    }

    #[test]
    fn each_member_has_a_path_to_the_root() {
        for count in [1, 2, 3, 8, 13] {
            let checkpoints: Vec<_> = (0..count).map(checkpoint).collect();
            let cohort = Cohort::new(&checkpoints).unwrap();
            for member in &checkpoints {
                assert_eq!(cohort.path(&member.log).unwrap().root(member.leaf()), Ok(cohort.root()));
            }
            assert_eq!(cohort.path(&checkpoint(99).log), None);
        }
        let lone = Cohort::lone(&checkpoint(3));
        assert_eq!(lone.root(), checkpoint(3).leaf());
        assert_eq!(lone.path(&checkpoint(3).log), Some(Path::default()));
    }

    #[test]
    fn forged_and_doubled_members_are_refused() {
        let forged = Signed { size: 10, ..checkpoint(1) };
        assert_eq!(Cohort::new(&[checkpoint(0), forged.clone()]).unwrap_err(), CohortError::Signature(forged.log));
        let doubled = [checkpoint(1), checkpoint(0), checkpoint(1)];
        assert_eq!(Cohort::new(&doubled).unwrap_err(), CohortError::Twice(checkpoint(1).log));
        assert_eq!(Cohort::new(&[]).unwrap_err(), CohortError::Size(0));
    }
}
