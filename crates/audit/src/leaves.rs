//! Give tests a tree whose every leaf is at hand.

use crate::proof::Subtrees;
use alloy_primitives::B256;
use hodei_types::merkle;

pub(crate) struct Leaves(pub(crate) Vec<B256>);

impl Subtrees for Leaves {
    fn subtree(&self, level: u32, index: u64) -> Option<B256> {
        let start = (index << level) as usize;
        self.0.get(start..start + (1 << level)).map(merkle::root)
    }
}
