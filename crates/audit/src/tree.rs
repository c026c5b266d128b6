//! Keep a log's tree in memory: hashes of whole tiles, and the leaves of the last one.
//!
//! A tile is 256 leaves, C2SP tlog-tiles' height of 8. Hashes below a tile's root are not kept: they come
//! back from the tile's events when a proof needs them, for 32 incompressible bytes an event would cost
//! more than the event. Inner nodes are hashed as leaves arrive, so closing a checkpoint takes log n hashes.

use crate::proof::Subtrees;
use alloy_primitives::B256;
use hodei_types::merkle::{self, Frontier};
use std::collections::BTreeMap;

pub(crate) const TILE_LEVEL: u32 = 8;
pub(crate) const TILE_LEAVES: u64 = 1 << TILE_LEVEL;

/// Where a tile's first event begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Position {
    /// First sequence of the segment.
    pub(crate) segment: u64,
    pub(crate) offset: u64,
}

#[derive(Debug, Default)]
pub(crate) struct Tree {
    frontier: Frontier,
    /// Leaves of the incomplete last tile.
    tail: Vec<B256>,
    /// Roots of complete subtrees, `upper[0]` those of tiles, each further level half as many.
    upper: Vec<Vec<B256>>,
    /// Start of every tile, the incomplete last one's too.
    starts: Vec<Position>,
}

impl Tree {
    pub(crate) fn size(&self) -> u64 {
        self.frontier.size()
    }

    pub(crate) fn root(&self) -> B256 {
        self.frontier.root()
    }

    /// Complete tiles.
    pub(crate) fn tiles(&self) -> u64 {
        self.upper.first().map_or(0, |tiles| tiles.len() as u64)
    }

    /// Start and root of a complete tile.
    pub(crate) fn tile(&self, tile: u64) -> Option<(Position, B256)> {
        Some((*self.starts.get(tile as usize)?, *self.upper.first()?.get(tile as usize)?))
    }

    pub(crate) fn start(&self, tile: u64) -> Option<Position> {
        self.starts.get(tile as usize).copied()
    }

    /// Appends a leaf whose event is at `position`.
    pub(crate) fn push(&mut self, leaf: B256, position: Position) {
        if self.tail.is_empty() {
            self.starts.push(position);
        }
        self.tail.push(leaf);
        self.frontier.push(leaf);
        if self.tail.len() as u64 == TILE_LEAVES {
            let root = merkle::root(&self.tail);
            self.tail.clear();
            self.grow(root);
        }
    }

    /// Appends a whole tile whose leaves are not read again.
    pub(crate) fn push_tile(&mut self, root: B256, start: Position) {
        assert!(self.tail.is_empty(), "tiles follow whole tiles");
        self.starts.push(start);
        self.grow(root);
        // The tiles' tree is the log's tree above the tiles: same splits, 256 times fewer leaves.
        let peaks = self.upper.iter().rev().filter(|level| level.len() % 2 == 1);
        let peaks = peaks.map(|level| *level.last().expect("odd is not empty")).collect();
        let size = self.tiles() * TILE_LEAVES;
        self.frontier = Frontier::from_peaks(size, peaks).expect("a peak for each odd level");
    }

    fn grow(&mut self, mut root: B256) {
        for level in 0.. {
            if self.upper.len() == level {
                self.upper.push(Vec::new());
            }
            self.upper[level].push(root);
            let [.., left, right] = self.upper[level].as_slice() else { return };
            if self.upper[level].len() % 2 == 1 {
                return;
            }
            root = merkle::node(left, right);
        }
    }

    /// The subtrees of this tree, given the leaves of those complete tiles a walk enters.
    pub(crate) fn subtrees(&self, tiles: BTreeMap<u64, Vec<B256>>) -> Nodes<'_> {
        Nodes { tree: self, tiles }
    }
}

pub(crate) struct Nodes<'a> {
    tree: &'a Tree,
    tiles: BTreeMap<u64, Vec<B256>>,
}

impl Subtrees for Nodes<'_> {
    fn subtree(&self, level: u32, index: u64) -> Option<B256> {
        if level >= TILE_LEVEL {
            return self.tree.upper.get((level - TILE_LEVEL) as usize)?.get(index as usize).copied();
        }
        let tile = index << level >> TILE_LEVEL;
        let leaves = if tile == self.tree.tiles() { &self.tree.tail } else { self.tiles.get(&tile)? };
        let start = ((index << level) % TILE_LEAVES) as usize;
        leaves.get(start..start + (1 << level)).map(merkle::root)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proof;

    const AT: Position = Position { segment: 0, offset: 0 };

    #[test]
    fn tiles_give_the_same_tree_as_leaves() {
        let leaves: Vec<_> = (0..1400u64).map(|i| merkle::leaf(&i.to_be_bytes())).collect();
        let mut grown = Tree::default();
        leaves.iter().for_each(|leaf| grown.push(*leaf, AT));
        let mut loaded = Tree::default();
        for tile in 0..grown.tiles() {
            let (start, root) = grown.tile(tile).unwrap();
            loaded.push_tile(root, start);
        }
        leaves[1280..].iter().for_each(|leaf| loaded.push(*leaf, AT));
        assert_eq!((loaded.size(), loaded.root()), (1400, merkle::root(&leaves)));
        assert_eq!(grown.root(), loaded.root());

        for (index, size) in [(0, 1400), (255, 256), (256, 700), (1399, 1400), (1281, 1300), (3, 5)] {
            let tile = |index: u64| {
                let start = (index >> TILE_LEVEL << TILE_LEVEL) as usize;
                (index >> TILE_LEVEL, leaves[start..(start + 256).min(leaves.len())].to_vec())
            };
            let nodes = loaded.subtrees([tile(index), tile(size - 1)].into());
            let path = proof::inclusion(&nodes, index, size).unwrap();
            let root = merkle::root(&leaves[..size as usize]);
            merkle::verify_inclusion(leaves[index as usize], index, size, &path, root).unwrap();
        }
    }
}
