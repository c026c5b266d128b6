//! Remember what the newest blocks replaced, so that the state can be read as it was after each of them.
//!
//! Wallets ask about the block they saw a moment ago. The database holds the newest state only; each kept block
//! tells what a key held before it, so an older value is the oldest one replaced since.

use alloy_primitives::B256;
use std::{collections::VecDeque, sync::Arc};

use crate::execute::{Key, Undo};

/// Wallets name the block they saw at their last look, some seconds ago; a busy chain makes 40 a second.
const BLOCKS_MAX: usize = 1024;
/// A minute of 1,000 transfers a second, each of which replaces three values.
const BYTES_MAX: usize = 32 << 20;
/// Of one replaced value, with what holding it costs.
const VALUE_BYTES: usize = 160;

#[derive(Debug)]
struct Block {
    height: u64,
    /// What its header says of the state after it.
    state_root: B256,
    undo: Arc<Undo>,
}

/// A contiguous run of blocks.
#[derive(Debug, Default)]
pub(super) struct History {
    blocks: VecDeque<Block>,
    bytes: usize,
}

impl History {
    /// Takes what the next block replaced. A repeated one is passed over; after a gap the run begins anew.
    pub(super) fn push(&mut self, height: u64, state_root: B256, undo: Arc<Undo>) {
        match self.blocks.back() {
            Some(last) if height <= last.height => return,
            Some(last) if height != last.height + 1 => *self = Self::default(),
            _ => {}
        }
        self.bytes += undo.len() * VALUE_BYTES;
        self.blocks.push_back(Block { height, state_root, undo });
        while self.blocks.len() > BLOCKS_MAX || (self.bytes > BYTES_MAX && self.blocks.len() > 1) {
            let gone = self.blocks.pop_front();
            self.bytes -= gone.map_or(0, |block| block.undo.len() * VALUE_BYTES);
        }
    }

    /// The first and the last height whose state can be told; none before the first block.
    pub(super) fn kept(&self) -> Option<(u64, u64)> {
        let (first, last) = (self.blocks.front()?, self.blocks.back()?);
        Some((first.height.saturating_sub(1), last.height))
    }

    /// The height after which the state has this root.
    pub(super) fn height_of(&self, state_root: B256) -> Option<u64> {
        self.blocks.iter().rev().find(|block| block.state_root == state_root).map(|block| block.height)
    }

    /// What `key` held after block `at`, if a block after it, up to `newest`, replaced that.
    pub(super) fn replaced(&self, key: &Key, at: u64, newest: u64) -> Option<Option<Vec<u8>>> {
        let first = self.blocks.front()?.height;
        let from = usize::try_from((at + 1).saturating_sub(first)).ok()?;
        let later = self.blocks.iter().skip(from).take_while(|block| block.height <= newest);
        later.into_iter().find_map(|block| {
            let place = block.undo.binary_search_by(|(other, _)| other.cmp(key)).ok()?;
            Some(block.undo[place].1.clone())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(n: u8) -> Key {
        B256::repeat_byte(n)
    }

    #[test]
    fn each_height_reads_what_it_held() {
        let mut history = History::default();
        assert_eq!(history.kept(), None);
        // Key 1 counts blocks, key 2 appears in block 5, all from height 3 on.
        for height in 3..=6u8 {
            let mut undo = vec![(key(1), Some(vec![height - 1]))];
            undo.extend((height == 5).then(|| (key(2), None)));
            history.push(height.into(), key(100 + height), Arc::new(undo));
        }
        assert_eq!(history.kept(), Some((2, 6)));
        assert_eq!(history.height_of(key(104)), Some(4));
        assert_eq!(history.height_of(key(99)), None);
        for at in 2..=5u8 {
            assert_eq!(history.replaced(&key(1), at.into(), 6), Some(Some(vec![at])));
            assert_eq!(history.replaced(&key(2), at.into(), 6), (at < 5).then_some(None));
        }
        assert_eq!(history.replaced(&key(1), 6, 6), None, "the newest is the database's to tell");
        assert_eq!(history.replaced(&key(2), 3, 4), None, "the database has not seen block 5 yet");
    }

    #[test]
    fn repeats_are_passed_over_gaps_begin_anew_and_memory_is_bounded() {
        let mut history = History::default();
        let full: Arc<Undo> =
            Arc::new((0..6000).map(|n| (B256::from(alloy_primitives::U256::from(n)), None)).collect());
        for height in 1..=1400 {
            history.push(height, B256::ZERO, Arc::default());
            history.push(height, B256::ZERO, full.clone());
        }
        assert_eq!((history.kept(), history.bytes), (Some((376, 1400)), 0));
        history.push(1500, B256::ZERO, full.clone());
        assert_eq!(history.kept(), Some((1499, 1500)));
        for height in 1501..=1600 {
            history.push(height, B256::ZERO, full.clone());
        }
        let (first, last) = history.kept().unwrap();
        assert!(last == 1600 && first > 1560 && history.bytes <= BYTES_MAX);
    }
}
