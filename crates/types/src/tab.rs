//! Pay for what is read by the values of hash chains.
//!
//! A *tab* is coin on the ledger for reading, and the root of a tree whose leaves promise providers so many *ticks*
//! of [`TICK_BYTES`] at a price each. Upon each tick's worth of checked bytes the reader reveals the next value of that
//! provider's chain: 36 bytes, no signature. The provider claims with the last one it has.
//!
//! ```text
//! seed ─derive→ value n ─step→ … ─step→ value 1 ─step→ anchor (value 0)     a chain, per provider and leaf
//! leaf = provider ‖ anchor ‖ ticks ‖ price ─┐
//! leaf ─────────────────────────────────────┴→ node (hash, gwei) → … → root   what the ledger keeps of all
//! ```
//! Revealing value i pays for i ticks, and tells nothing of value i + 1. The tree sums what its leaves may draw, so
//! that the ledger's one comparison of sum and deposit tells every provider that nobody else can take its coin.
//!
//! Who breaks it: a reader who stops revealing owes what it was given on credit; a payer cannot promise the same coin
//! twice, nor one leaf at two places. The hash is keccak-256 wherever the ledger computes it too.

mod chain;
mod leaf;
mod tree;

pub use chain::{Chain, Tick, TickError, follows, step};
pub use leaf::{LEAF_BYTES, Leaf, tick_price};
pub use tree::{NODE_BYTES, Node, Opening, Tree, fold, root};

use alloy_primitives::{Address, B256, keccak256};

/// What one tick pays for: large shards come in slices of it, and a price a GiB is 1,024 of its own.
pub const TICK_BYTES: u64 = 1 << 20;
/// Ticks of one leaf: 4 GiB, whose chain takes 3 ms to prepare and a claim at most as long to check.
pub const TICKS_MAX: u32 = 4096;
/// Leaves of one tab: twice as many as a bucket has deals.
pub const LEAVES_MAX: usize = 1 << DEPTH_MAX;
/// Nodes of a path.
pub const DEPTH_MAX: usize = 10;
/// Sums of the tree count in these many wei.
pub const GWEI: u128 = 1_000_000_000;

const ID_TAG: &[u8; 16] = b"hodei-tab------1";

/// Why leaves make no tab, or a leaf is none of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TabError {
    #[error("a tab has 1 to {LEAVES_MAX} leaves, found {0}")]
    Leaves(usize),
    #[error("a leaf has 1 to {TICKS_MAX} ticks, found {0}")]
    Ticks(u32),
    #[error("the leaves draw more than fits 64 bits of gwei")]
    Sum,
    #[error("a path has at most {DEPTH_MAX} nodes of {NODE_BYTES} bytes, found {0} bytes")]
    Path(usize),
    #[error("leaf {number} is outside a tree of depth {depth}")]
    Number { number: u32, depth: usize },
    #[error("the tab's root and sum do not commit to this leaf")]
    Root,
}

/// The id of a tab: keccak of tag 16 ‖ chain id u64 ‖ payer 20 ‖ salt 32. Who pays is in it, so nobody can take
/// another's id; the network is, so that a value revealed on one is of no use on another.
pub fn tab_id(chain_id: u64, payer: Address, salt: B256) -> B256 {
    keccak256([&ID_TAG[..], &chain_id.to_be_bytes(), payer.as_slice(), salt.as_slice()].concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_names_network_payer_and_salt() {
        let (payer, salt) = (Address::repeat_byte(1), B256::repeat_byte(2));
        let id = tab_id(7, payer, salt);
        assert_eq!(id, tab_id(7, payer, salt));
        for other in [tab_id(8, payer, salt), tab_id(7, Address::ZERO, salt), tab_id(7, payer, B256::repeat_byte(3))] {
            assert_ne!(id, other);
        }
    }
}
