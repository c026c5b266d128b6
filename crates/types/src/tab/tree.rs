//! Sum what a tab's leaves may draw under one root.
//!
//! A full binary tree: leaves from the left in their order, empty ones behind, 2^depth in all. A leaf's entry is
//! keccak(tag 16 ‖ leaf 84) and its gwei; a node's hash is keccak(tag 16 ‖ left 40 ‖ right 40), its sum that of both; an
//! entry or node is 40 bytes, hash 32 ‖ gwei u64. The root is keccak(tag 16 ‖ depth u8 ‖ top 40). As the depth is in the
//! root, all paths are as long, and no leaf stands at two places; as each sum is hashed with its node, none is claimed
//! lower than it is. All integers big-endian.

use super::{DEPTH_MAX, LEAF_BYTES, LEAVES_MAX, Leaf, TabError};
use crate::abi::ITabs;
use alloy_primitives::{B256, keccak256};

/// Bytes of a node in a path.
pub const NODE_BYTES: usize = 40;

const LEAF_TAG: &[u8; 16] = b"hodei-tab-leaf-1";
const NODE_TAG: &[u8; 16] = b"hodei-tab-node-1";
const ROOT_TAG: &[u8; 16] = b"hodei-tab-root-1";
/// Anchor, ticks and price.
const OPENING_HEAD: usize = LEAF_BYTES - 32;

/// A subtree: its hash, and what the leaves under it may draw, in gwei.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Node {
    pub hash: B256,
    pub gwei: u64,
}

impl Node {
    /// Where no leaf stands; no hash is zero.
    const EMPTY: Self = Self { hash: B256::ZERO, gwei: 0 };

    fn of(leaf: &Leaf) -> Result<Self, TabError> {
        let gwei = leaf.gwei()?;
        Ok(Self { hash: keccak256([&LEAF_TAG[..], &leaf.to_bytes()].concat()), gwei })
    }

    fn join(left: &Self, right: &Self) -> Result<Self, TabError> {
        let gwei = left.gwei.checked_add(right.gwei).ok_or(TabError::Sum)?;
        Ok(Self { hash: keccak256([&NODE_TAG[..], &left.to_bytes(), &right.to_bytes()].concat()), gwei })
    }

    /// Hash 32 ‖ gwei u64.
    pub fn to_bytes(&self) -> [u8; NODE_BYTES] {
        let mut out = [0; NODE_BYTES];
        out[..32].copy_from_slice(self.hash.as_slice());
        out[32..].copy_from_slice(&self.gwei.to_be_bytes());
        out
    }

    fn from_bytes(bytes: &[u8; NODE_BYTES]) -> Self {
        let (hash, gwei) = bytes.split_first_chunk().expect("40 bytes");
        Self { hash: B256::new(*hash), gwei: u64::from_be_bytes(gwei.try_into().expect("8 bytes")) }
    }
}

/// What the ledger keeps of a tree of this depth.
pub fn root(top: &Node, depth: usize) -> B256 {
    let depth = u8::try_from(depth).expect("a depth is at most 10");
    keccak256([&ROOT_TAG[..], &[depth], &top.to_bytes()].concat())
}

/// The root and sum of the tree in which `leaf` is leaf `number`, with this path of 40 bytes a node from the leaf up.
/// At most [`DEPTH_MAX`] + 2 hashes.
pub fn fold(leaf: &Leaf, number: u32, path: &[u8]) -> Result<(B256, u64), TabError> {
    let (nodes, rest) = path.as_chunks::<NODE_BYTES>();
    let depth = nodes.len();
    if !rest.is_empty() || depth > DEPTH_MAX {
        return Err(TabError::Path(path.len()));
    }
    if number >> depth != 0 {
        return Err(TabError::Number { number, depth });
    }
    let mut top = Node::of(leaf)?;
    for (level, node) in nodes.iter().enumerate() {
        let beside = Node::from_bytes(node);
        top = if number >> level & 1 == 1 { Node::join(&beside, &top)? } else { Node::join(&top, &beside)? };
    }
    Ok((root(&top, depth), top.gwei))
}

/// All leaves of a tab, as who opens it holds them.
#[derive(Clone, Debug)]
pub struct Tree {
    leaves: Vec<Leaf>,
    /// From the entries up to the top alone; each level is half of the one before.
    levels: Vec<Vec<Node>>,
}

impl Tree {
    /// The tree of 1 to [`LEAVES_MAX`] leaves, numbered from 0 in this order.
    pub fn build(leaves: Vec<Leaf>) -> Result<Self, TabError> {
        if leaves.is_empty() || leaves.len() > LEAVES_MAX {
            return Err(TabError::Leaves(leaves.len()));
        }
        let mut level = leaves.iter().map(Node::of).collect::<Result<Vec<_>, _>>()?;
        level.resize(leaves.len().next_power_of_two(), Node::EMPTY);
        let mut levels = Vec::with_capacity(DEPTH_MAX + 1);
        while level.len() > 1 {
            let (pairs, _) = level.as_chunks::<2>();
            let above = pairs.iter().map(|[left, right]| Node::join(left, right)).collect::<Result<_, _>>()?;
            levels.push(std::mem::replace(&mut level, above));
        }
        levels.push(level);
        Ok(Self { leaves, levels })
    }

    pub fn leaves(&self) -> &[Leaf] {
        &self.leaves
    }

    pub fn depth(&self) -> usize {
        self.levels.len() - 1
    }

    fn top(&self) -> &Node {
        &self.levels[self.depth()][0]
    }

    /// What the tab is opened with.
    pub fn root(&self) -> B256 {
        root(self.top(), self.depth())
    }

    /// All that may be drawn: the deposit, in gwei.
    pub fn gwei(&self) -> u64 {
        self.top().gwei
    }

    /// Leaf `number` with its path; `None` where no leaf stands.
    pub fn opening(&self, number: u32) -> Option<Opening> {
        let leaf = *self.leaves.get(number as usize)?;
        let below = &self.levels[..self.depth()];
        let beside = below.iter().enumerate().map(|(level, nodes)| nodes[(number as usize >> level) ^ 1]);
        Some(Opening { number, leaf, path: beside.flat_map(|node| node.to_bytes()).collect() })
    }
}

/// One leaf, and what shows that it is of a tab.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Opening {
    /// Which leaf, from 0.
    pub number: u32,
    pub leaf: Leaf,
    /// Nodes from the leaf up, 40 bytes each.
    pub path: Vec<u8>,
}

impl Opening {
    /// No encoded opening is longer.
    pub const BYTES_MAX: usize = OPENING_HEAD + DEPTH_MAX * NODE_BYTES;

    /// Checks it against a tab's root and sum, as the ledger keeps them.
    pub fn check(&self, root: B256, gwei: u64) -> Result<(), TabError> {
        if fold(&self.leaf, self.number, &self.path)? == (root, gwei) { Ok(()) } else { Err(TabError::Root) }
    }

    /// Anchor 32 ‖ ticks u32 ‖ price u128 ‖ path: without the number and the provider, which both sides know.
    pub fn to_bytes(&self) -> Vec<u8> {
        [&self.leaf.to_bytes()[32..], &self.path].concat()
    }

    /// Reads what [`Self::to_bytes`] wrote; refuses lengths, ticks and prices that no leaf has.
    pub fn from_bytes(number: u32, provider: B256, bytes: &[u8]) -> Result<Self, TabError> {
        let short = TabError::Path(bytes.len());
        let (anchor, rest) = bytes.split_first_chunk::<32>().ok_or(short)?;
        let (ticks, rest) = rest.split_first_chunk::<4>().ok_or(short)?;
        let (price, path) = rest.split_first_chunk::<16>().ok_or(short)?;
        if !path.len().is_multiple_of(NODE_BYTES) || path.len() > DEPTH_MAX * NODE_BYTES {
            return Err(TabError::Path(path.len()));
        }
        let (ticks, price) = (u32::from_be_bytes(*ticks), u128::from_be_bytes(*price));
        let leaf = Leaf { provider, anchor: B256::new(*anchor), ticks, price };
        leaf.gwei()?;
        let depth = path.len() / NODE_BYTES;
        if number >> depth != 0 {
            return Err(TabError::Number { number, depth });
        }
        Ok(Self { number, leaf, path: path.to_vec() })
    }

    /// The ledger's form: pays for all ticks up to `tick`.
    pub fn claim(&self, tab: B256, tick: &super::Tick) -> ITabs::Claim {
        ITabs::Claim {
            tab,
            provider: self.leaf.provider,
            leaf: self.number,
            anchor: self.leaf.anchor,
            ticks: self.leaf.ticks,
            price: self.leaf.price,
            path: self.path.clone().into(),
            index: tick.index,
            value: tick.value,
        }
    }
}

#[cfg(test)]
#[path = "tree/tests.rs"]
mod tests;
