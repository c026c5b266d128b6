//! Commit to all a deal stores, and check one drawn leaf of it.
//!
//! A deal's tree is append-only in ack order over (shard id, leaf count), shaped as RFC 6962's, hashed with
//! BLAKE3; each node carries the sum of the leaf counts under it, where a leaf is one 1 KiB chunk. A release
//! zeroes the count in place and keeps the id. So leaf number i of a deal is one certain chunk of one certain
//! shard: its proof is the path of sums down to the shard and the BLAKE3 path inside it, ending in the id.
//!
//! A deal's root commits to (hash, number of shards, sum). Who must be convinced holds only that root and
//! the sum; [`verify`] allocates nothing and never panics, whatever the bytes, since it runs on the ledger.
//!
//! Proof: version (1) ‖ shards u32 ‖ position u32 ‖ shard id 32 ‖ count u16 ‖ sum path 40 B each (hash, sum
//! u64), leaf to root ‖ chunk path 32 B each, left to right ‖ chunk 1,024 B. All integers big-endian; the number
//! of path nodes follows from the positions, and the length must be exact. 2.1 kB at a million shards.

use crate::slice::{self, CHUNK_BYTES, ShardId, SliceError};

/// First byte of a proof.
pub const VERSION: u8 = 1;
/// Shards of one deal: 1 PiB of them, and bounds every path.
pub const SHARDS_MAX: u64 = u32::MAX as u64;
/// Bytes of a node in a path.
pub const NODE_BYTES: usize = 40;
/// No path is longer.
pub const PATH_MAX: usize = 32;
/// No proof is longer.
pub const PROOF_BYTES_MAX: usize = HEAD_BYTES + PATH_MAX * NODE_BYTES + slice::HASHES_MAX * 32 + CHUNK_BYTES;

const HEAD_BYTES: usize = 1 + 4 + 4 + 32 + 2;
// Keys, not prefixes: no shard, path or other tree of ours can be mistaken for one of these.
const LEAF_KEY: &[u8; 32] = b"hodei deal tree leaf  v1        ";
const NODE_KEY: &[u8; 32] = b"hodei deal tree node  v1        ";
const ROOT_KEY: &[u8; 32] = b"hodei deal tree root  v1        ";

/// A subtree: its hash and the leaves under it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Node {
    pub hash: [u8; 32],
    pub leaves: u64,
}

/// Why a proof does not hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HoldingError {
    #[error("proof is malformed: {0}")]
    Malformed(&'static str),
    #[error("expected a tree of {expected} leaves, found {found}")]
    Leaves { expected: u64, found: u64 },
    #[error("the root does not commit to this path")]
    Root,
    #[error("the shard holds leaves {from}..{to} of the deal, not leaf {leaf}")]
    NotThere { leaf: u64, from: u64, to: u64 },
    #[error("chunk: {0}")]
    Chunk(#[from] SliceError),
}

/// The tree's entry of a shard of `leaves` chunks; 0 once released.
pub fn leaf(id: &ShardId, leaves: u64) -> Node {
    let mut bytes = [0; 40];
    bytes[..32].copy_from_slice(&id.0);
    bytes[32..].copy_from_slice(&leaves.to_be_bytes());
    Node { hash: *blake3::keyed_hash(LEAF_KEY, &bytes).as_bytes(), leaves }
}

/// `None` if the sum does not fit, which no honest tree reaches.
pub fn join(left: &Node, right: &Node) -> Option<Node> {
    let leaves = left.leaves.checked_add(right.leaves)?;
    let mut bytes = [0; 2 * NODE_BYTES];
    left.write(&mut bytes[..NODE_BYTES]);
    right.write(&mut bytes[NODE_BYTES..]);
    Some(Node { hash: *blake3::keyed_hash(NODE_KEY, &bytes).as_bytes(), leaves })
}

/// What both sides sign and the ledger keeps: commits to the tree's hash, its shards and its leaves.
pub fn root(top: Option<&Node>, shards: u64) -> [u8; 32] {
    let mut bytes = [0; 48];
    if let Some(top) = top {
        top.write(&mut bytes[..NODE_BYTES]);
    }
    bytes[40..].copy_from_slice(&shards.to_be_bytes());
    *blake3::keyed_hash(ROOT_KEY, &bytes).as_bytes()
}

impl Node {
    fn write(&self, out: &mut [u8]) {
        out[..32].copy_from_slice(&self.hash);
        out[32..NODE_BYTES].copy_from_slice(&self.leaves.to_be_bytes());
    }

    fn read(bytes: &[u8; NODE_BYTES]) -> Self {
        let (hash, leaves) = bytes.split_first_chunk().expect("40 bytes");
        Self { hash: *hash, leaves: u64::from_be_bytes(leaves.try_into().expect("8 bytes")) }
    }

    /// 40 bytes, for paths on the wire.
    pub fn to_bytes(&self) -> [u8; NODE_BYTES] {
        let mut out = [0; NODE_BYTES];
        self.write(&mut out);
        out
    }
}

/// The right edge of a deal's tree: all one needs to append to it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Frontier {
    shards: u64,
    /// Tops of the full subtrees, largest first: one per bit set in `shards`.
    peaks: Vec<Node>,
}

impl Frontier {
    /// Shards appended, released ones included.
    pub fn shards(&self) -> u64 {
        self.shards
    }

    /// Leaves under the root.
    pub fn leaves(&self) -> u64 {
        self.peaks.iter().map(|peak| peak.leaves).sum()
    }

    pub fn root(&self) -> [u8; 32] {
        root(bag(&self.peaks).as_ref(), self.shards)
    }

    /// Appends one shard's entry. Returns its position.
    ///
    /// Panics when a deal's 2³² - 1 shards are used up; providers refuse long before.
    pub fn append(&mut self, entry: Node) -> u64 {
        assert!(self.shards < SHARDS_MAX, "a deal holds at most {SHARDS_MAX} shards");
        let position = self.shards;
        let mut top = entry;
        for _ in 0..position.trailing_ones() {
            let left = self.peaks.pop().expect("a peak for each bit set");
            top = join(&left, &top).expect("leaves of a deal fit 64 bits");
        }
        self.peaks.push(top);
        self.shards += 1;
        position
    }
}

/// The top over full subtrees, largest first; `None` if there are none.
pub fn bag(peaks: &[Node]) -> Option<Node> {
    let (last, rest) = peaks.split_last()?;
    Some(rest.iter().rev().fold(*last, |right, left| join(left, &right).expect("leaves of a deal fit 64 bits")))
}

/// How many nodes the path of `position` has in a tree of `shards`.
pub fn path_len(position: u64, shards: u64) -> usize {
    let (mut at, mut last, mut nodes) = (position, shards.saturating_sub(1), 0);
    while last > 0 {
        nodes += usize::from(at & 1 == 1 || at < last);
        at >>= 1;
        last >>= 1;
    }
    nodes
}

/// Climbs from the entry at `position` along `path` (40 B each). Gives the top, and the leaves left of the
/// entry. The path's length must be [`path_len`]'s.
fn climb(entry: Node, position: u64, shards: u64, path: &[u8]) -> Result<(Node, u64), HoldingError> {
    let (mut at, mut last) = (position, shards - 1);
    let (mut top, mut before) = (entry, 0u64);
    let (mut nodes, _) = path.as_chunks::<NODE_BYTES>();
    while last > 0 {
        if at & 1 == 1 || at < last {
            let (node, rest) = nodes.split_first().ok_or(HoldingError::Malformed("short path"))?;
            nodes = rest;
            let beside = Node::read(node);
            let joined = if at & 1 == 1 {
                before = before.checked_add(beside.leaves).ok_or(HoldingError::Malformed("sum overflows"))?;
                join(&beside, &top)
            } else {
                join(&top, &beside)
            };
            top = joined.ok_or(HoldingError::Malformed("sum overflows"))?;
        }
        at >>= 1;
        last >>= 1;
    }
    Ok((top, before))
}

/// Checks that a deal's tree (`root`, `leaves`) of `shards` entries has `id` with `count` leaves at
/// `position`; `path` is 40 bytes a node. This is how a client checks an ack without the whole tree.
pub fn verify_entry(
    root_wanted: &[u8; 32],
    leaves: u64,
    shards: u64,
    position: u64,
    id: &ShardId,
    count: u64,
    path: &[u8],
) -> Result<(), HoldingError> {
    if shards > SHARDS_MAX || position >= shards {
        return Err(HoldingError::Malformed("position outside the tree"));
    }
    if path.len() != path_len(position, shards) * NODE_BYTES {
        return Err(HoldingError::Malformed("path length"));
    }
    let (top, _) = climb(leaf(id, count), position, shards, path)?;
    if top.leaves != leaves {
        return Err(HoldingError::Leaves { expected: leaves, found: top.leaves });
    }
    if root(Some(&top), shards) == *root_wanted { Ok(()) } else { Err(HoldingError::Root) }
}

/// Checks the proof that leaf `drawn` of the `leaves` under `root_wanted` is held.
pub fn verify(root_wanted: &[u8; 32], leaves: u64, drawn: u64, proof: &[u8]) -> Result<(), HoldingError> {
    let short = HoldingError::Malformed("length");
    let ([version], rest) = proof.split_first_chunk::<1>().ok_or(short)?;
    if *version != VERSION {
        return Err(HoldingError::Malformed("version"));
    }
    let (shards, rest) = rest.split_first_chunk::<4>().ok_or(short)?;
    let (position, rest) = rest.split_first_chunk::<4>().ok_or(short)?;
    let (id, rest) = rest.split_first_chunk::<32>().ok_or(short)?;
    let (count, rest) = rest.split_first_chunk::<2>().ok_or(short)?;
    let (shards, position) = (u32::from_be_bytes(*shards).into(), u32::from_be_bytes(*position).into());
    let (id, count) = (ShardId(*id), u64::from(u16::from_be_bytes(*count)));
    if position >= shards {
        return Err(HoldingError::Malformed("position outside the tree"));
    }
    let (path, rest) = rest.split_at_checked(path_len(position, shards) * NODE_BYTES).ok_or(short)?;
    let (hashes, chunk) = rest.split_at_checked(rest.len().checked_sub(CHUNK_BYTES).ok_or(short)?).ok_or(short)?;

    let (top, from) = climb(leaf(&id, count), position, shards, path)?;
    if top.leaves != leaves {
        return Err(HoldingError::Leaves { expected: leaves, found: top.leaves });
    }
    if root(Some(&top), shards) != *root_wanted {
        return Err(HoldingError::Root);
    }
    let to = from + count;
    if !(from..to).contains(&drawn) {
        return Err(HoldingError::NotThere { leaf: drawn, from, to });
    }
    let first = (drawn - from) as usize;
    Ok(slice::verify(&id, count * CHUNK_BYTES as u64, first, chunk, hashes)?)
}

/// Puts a proof together; the inverse of what [`verify`] takes apart.
///
/// Panics if `shard` is none, or chunk `first` is outside it.
pub fn assemble(shards: u64, position: u64, path: &[Node], shard: &[u8], first: usize) -> Vec<u8> {
    let mut out = Vec::with_capacity(HEAD_BYTES + path.len() * NODE_BYTES + 10 * 32 + CHUNK_BYTES);
    out.push(VERSION);
    out.extend_from_slice(&u32::try_from(shards).expect("within SHARDS_MAX").to_be_bytes());
    out.extend_from_slice(&u32::try_from(position).expect("within SHARDS_MAX").to_be_bytes());
    out.extend_from_slice(&ShardId::of(shard).0);
    out.extend_from_slice(&u16::try_from(shard.len() / CHUNK_BYTES).expect("at most 1 MiB").to_be_bytes());
    for node in path {
        out.extend_from_slice(&node.to_bytes());
    }
    for hash in slice::prove(shard, first..first + 1) {
        out.extend_from_slice(&hash);
    }
    out.extend_from_slice(&shard[first * CHUNK_BYTES..(first + 1) * CHUNK_BYTES]);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The tree by RFC 6962's definition, to test the fast ways against.
    fn naive(entries: &[Node]) -> Node {
        match entries {
            [one] => *one,
            _ => {
                let half = entries.len().next_power_of_two() / 2;
                join(&naive(&entries[..half]), &naive(&entries[half..])).unwrap()
            }
        }
    }

    fn path(entries: &[Node], position: usize) -> Vec<Node> {
        if entries.len() == 1 {
            return Vec::new();
        }
        let half = entries.len().next_power_of_two() / 2;
        let (left, right) = entries.split_at(half);
        let (mut nodes, beside) = if position < half {
            (path(left, position), naive(right))
        } else {
            (path(right, position - half), naive(left))
        };
        nodes.push(beside);
        nodes
    }

    fn shards(n: usize) -> Vec<Vec<u8>> {
        (0..n).map(|i| vec![i as u8; 4096 * (1 + i % 3)]).collect()
    }

    fn entries(shards: &[Vec<u8>]) -> Vec<Node> {
        shards.iter().map(|shard| leaf(&ShardId::of(shard), (shard.len() / CHUNK_BYTES) as u64)).collect()
    }

    #[test]
    fn a_frontier_agrees_with_the_definition() {
        let entries = entries(&shards(40));
        let mut frontier = Frontier::default();
        assert_eq!(frontier.root(), root(None, 0));
        for (i, entry) in entries.iter().enumerate() {
            assert_eq!(frontier.append(*entry), i as u64);
            let top = naive(&entries[..=i]);
            assert_eq!((frontier.root(), frontier.leaves()), (root(Some(&top), i as u64 + 1), top.leaves));
        }
    }

    #[test]
    fn every_leaf_is_proven_and_every_flipped_byte_refused() {
        for n in [1, 2, 3, 7, 12] {
            let shards = shards(n);
            let entries = entries(&shards);
            let top = naive(&entries);
            let root = root(Some(&top), n as u64);
            let mut drawn = 0;
            for (position, shard) in shards.iter().enumerate() {
                let path = path(&entries, position);
                assert_eq!(path.len(), path_len(position as u64, n as u64));
                for chunk in 0..shard.len() / CHUNK_BYTES {
                    let proof = assemble(n as u64, position as u64, &path, shard, chunk);
                    assert_eq!(verify(&root, top.leaves, drawn, &proof), Ok(()));
                    assert!(verify(&root, top.leaves, drawn + 1, &proof).is_err());
                    assert!(verify(&root, top.leaves + 1, drawn, &proof).is_err());
                    for at in 0..proof.len() {
                        let mut bad = proof.clone();
                        bad[at] ^= 1;
                        assert!(verify(&root, top.leaves, drawn, &bad).is_err(), "byte {at}");
                    }
                    for len in (0..proof.len()).step_by(13) {
                        assert!(verify(&root, top.leaves, drawn, &proof[..len]).is_err());
                    }
                    drawn += 1;
                }
                let bytes: Vec<u8> = path.iter().flat_map(Node::to_bytes).collect();
                let (id, count) = (ShardId::of(shard), (shard.len() / CHUNK_BYTES) as u64);
                let (n, at) = (n as u64, position as u64);
                assert_eq!(verify_entry(&root, top.leaves, n, at, &id, count, &bytes), Ok(()));
                assert!(verify_entry(&root, top.leaves, n, at, &id, count + 1, &bytes).is_err());
                assert!(verify_entry(&root, top.leaves, n, at, &ShardId([0; 32]), count, &bytes).is_err());
            }
            assert_eq!(drawn, top.leaves);
        }
    }

    #[test]
    fn a_released_shard_owes_nothing_and_the_next_one_takes_its_leaves() {
        let shards = shards(3);
        let mut entries = entries(&shards);
        entries[0] = leaf(&ShardId::of(&shards[0]), 0);
        let top = naive(&entries);
        let root = root(Some(&top), 3);
        let proof = assemble(3, 1, &path(&entries, 1), &shards[1], 0);
        assert_eq!(verify(&root, top.leaves, 0, &proof), Ok(()));
    }

    #[test]
    fn hostile_proofs_never_panic() {
        // Sums that overflow, positions at the edge, random bytes of every length: an error each time.
        let mut bytes = vec![0xff; PROOF_BYTES_MAX];
        bytes[0] = VERSION;
        bytes[5..9].copy_from_slice(&[0, 0, 0, 1]);
        let mut seed = 7u64;
        for len in 0..bytes.len() {
            assert!(verify(&[0; 32], u64::MAX, 0, &bytes[..len]).is_err());
            seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1);
            let (head, tail) = bytes.split_at_mut(9);
            tail[len % 1000] = (seed >> 33) as u8;
            head[1 + len % 4] = (seed >> 40) as u8;
        }
    }
}
