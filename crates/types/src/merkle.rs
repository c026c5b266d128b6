//! Verify RFC 6962 trees: what is in a log, and that a longer log continues a shorter one.
//!
//! SHA-256 with leaf prefix 0x00 and node prefix 0x01, the tree of RFC 6962 section 2.1 and C2SP
//! tlog-tiles, so that standard verifiers read our proofs. Used for node logs, cohorts, and the anchors in a
//! block. Verification never trusts a length: a path is exactly as long as index and size require.

use alloy_primitives::B256;
use sha2::{Digest as _, Sha256};

/// Longest path of any tree whose size fits `u64`.
pub const PATH_MAX: usize = 64;

/// Why a path does not fit its tree; says nothing about hashes, those are compared by the caller.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MerkleError {
    #[error("index {index} is outside a tree of {size} leaves")]
    Index { index: u64, size: u64 },
    #[error("a tree of {new} leaves cannot continue one of {old}")]
    Sizes { old: u64, new: u64 },
    #[error("path has {found} hashes, expected {expected}")]
    Length { expected: usize, found: usize },
    #[error("{which} root: expected {expected}, found {found}")]
    Root { which: &'static str, expected: B256, found: B256 },
}

/// SHA-256(0x00 ‖ data).
pub fn leaf(data: &[u8]) -> B256 {
    leaf_of(&[data])
}

/// [`leaf`] of the concatenation of `parts`.
pub fn leaf_of(parts: &[&[u8]]) -> B256 {
    let mut hasher = Sha256::new();
    hasher.update([0]);
    for part in parts {
        hasher.update(part);
    }
    B256::from_slice(&hasher.finalize())
}

/// SHA-256(0x01 ‖ left ‖ right).
pub fn node(left: &B256, right: &B256) -> B256 {
    let mut block = [1u8; 65];
    block[1..33].copy_from_slice(left.as_slice());
    block[33..].copy_from_slice(right.as_slice());
    B256::from_slice(&Sha256::digest(block))
}

/// Root of no leaves: SHA-256 of nothing.
pub fn empty() -> B256 {
    B256::from_slice(&Sha256::digest([]))
}

/// Root over leaf hashes.
pub fn root(leaves: &[B256]) -> B256 {
    let mut frontier = Frontier::new();
    leaves.iter().for_each(|leaf| frontier.push(*leaf));
    frontier.root()
}

/// The path of leaf `index` among `leaves`, in memory: for the small trees of a block or a cohort.
pub fn inclusion_path(leaves: &[B256], index: usize) -> Result<Vec<B256>, MerkleError> {
    if index >= leaves.len() {
        return Err(MerkleError::Index { index: index as u64, size: leaves.len() as u64 });
    }
    let (mut leaves, mut index, mut path) = (leaves, index, Vec::new());
    while leaves.len() > 1 {
        let (left, right) = leaves.split_at(split(leaves.len() as u64) as usize);
        if index < left.len() {
            path.push(root(right));
            leaves = left;
        } else {
            path.push(root(left));
            index -= left.len();
            leaves = right;
        }
    }
    path.reverse();
    Ok(path)
}

/// Largest power of two below `size`: where RFC 6962 splits a tree of at least two leaves.
pub fn split(size: u64) -> u64 {
    debug_assert!(size > 1);
    1 << (63 - (size - 1).leading_zeros())
}

/// The root that `path` leads to from leaf hash `leaf` at `index` of `size`.
pub fn root_from_path(leaf: B256, index: u64, size: u64, path: &[B256]) -> Result<B256, MerkleError> {
    if index >= size {
        return Err(MerkleError::Index { index, size });
    }
    let expected = path_len(index, size);
    if path.len() != expected {
        return Err(MerkleError::Length { expected, found: path.len() });
    }
    // RFC 9162 section 2.1.3.2: `last` follows the rightmost node of each level.
    let (mut at, mut last, mut hash) = (index, size - 1, leaf);
    for sibling in path {
        if at & 1 == 1 || at == last {
            hash = node(sibling, &hash);
            while at & 1 == 0 && at != 0 {
                at >>= 1;
                last >>= 1;
            }
        } else {
            hash = node(&hash, sibling);
        }
        at >>= 1;
        last >>= 1;
    }
    Ok(hash)
}

/// Which of the path's hashes stand to the left, lowest leaf bit first: all that hashing needs of index and size.
///
/// Several sizes lead one path to the same root, so a proof carrying both could be altered unnoticed where
/// nothing signs the size; one bit a hash cannot.
pub fn sides(index: u64, size: u64) -> Result<u64, MerkleError> {
    if index >= size {
        return Err(MerkleError::Index { index, size });
    }
    let (mut at, mut last, mut sides) = (index, size - 1, 0u64);
    for level in 0..path_len(index, size) {
        if at & 1 == 1 || at == last {
            sides |= 1 << level;
            while at & 1 == 0 && at != 0 {
                at >>= 1;
                last >>= 1;
            }
        }
        at >>= 1;
        last >>= 1;
    }
    Ok(sides)
}

/// The root that `path` leads to from `leaf`, with the hashes of set bits in `sides` to the left.
pub fn root_from_sides(leaf: B256, sides: u64, path: &[B256]) -> Result<B256, MerkleError> {
    let expected = 64 - sides.leading_zeros() as usize;
    if path.len() < expected || path.len() > PATH_MAX {
        return Err(MerkleError::Length { expected, found: path.len() });
    }
    Ok(path.iter().enumerate().fold(leaf, |hash, (level, sibling)| match sides >> level & 1 {
        1 => node(sibling, &hash),
        _ => node(&hash, sibling),
    }))
}

/// How many hashes the path of `index` in a tree of `size` has; `index < size`.
pub fn path_len(index: u64, size: u64) -> usize {
    // Levels until index and last meet have one sibling each; above, only the left siblings exist.
    let inner = 64 - (index ^ (size - 1)).leading_zeros();
    let border = if inner == 64 { 0 } else { (index >> inner).count_ones() };
    (inner + border) as usize
}

/// Checks that leaf hash `leaf` is at `index` of the tree of `size` leaves with `root`.
pub fn verify_inclusion(leaf: B256, index: u64, size: u64, path: &[B256], root: B256) -> Result<(), MerkleError> {
    let found = root_from_path(leaf, index, size, path)?;
    if found == root { Ok(()) } else { Err(MerkleError::Root { which: "tree", expected: root, found }) }
}

/// Checks that the tree of `new` leaves with `new_root` begins with the `old` leaves of `old_root`.
pub fn verify_consistency(
    old: u64,
    new: u64,
    path: &[B256],
    old_root: B256,
    new_root: B256,
) -> Result<(), MerkleError> {
    if old > new {
        return Err(MerkleError::Sizes { old, new });
    }
    let same = |which, expected, found| {
        if expected == found { Ok(()) } else { Err(MerkleError::Root { which, expected, found }) }
    };
    if old == 0 || old == new {
        if !path.is_empty() {
            return Err(MerkleError::Length { expected: 0, found: path.len() });
        }
        return if old == 0 { same("old", empty(), old_root) } else { same("new", new_root, old_root) };
    }
    let expected = consistency_len(old, new);
    if path.len() != expected {
        return Err(MerkleError::Length { expected, found: path.len() });
    }
    // RFC 9162 section 2.1.4.2.
    let mut path = path.iter();
    let first = if old.is_power_of_two() { old_root } else { *path.next().expect("length was checked") };
    let trim = (old - 1).trailing_ones();
    let (mut at, mut last) = ((old - 1) >> trim, (new - 1) >> trim);
    let (mut old_hash, mut new_hash) = (first, first);
    for sibling in path {
        if at & 1 == 1 || at == last {
            old_hash = node(sibling, &old_hash);
            new_hash = node(sibling, &new_hash);
            while at & 1 == 0 && at != 0 {
                at >>= 1;
                last >>= 1;
            }
        } else {
            new_hash = node(&new_hash, sibling);
        }
        at >>= 1;
        last >>= 1;
    }
    same("old", old_root, old_hash)?;
    same("new", new_root, new_hash)
}

/// How many hashes a consistency path between `0 < old < new` has.
pub fn consistency_len(old: u64, new: u64) -> usize {
    let trim = (old - 1).trailing_ones();
    let (at, last) = ((old - 1) >> trim, (new - 1) >> trim);
    path_len(at, last + 1) + usize::from(!old.is_power_of_two())
}

/// The right edge of a growing tree: its root at any moment from at most 64 hashes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Frontier {
    size: u64,
    /// Roots of the perfect subtrees, largest first: one per set bit of `size`.
    peaks: Vec<B256>,
}

impl Frontier {
    pub fn new() -> Self {
        Self::default()
    }

    /// Rebuilds a frontier from its perfect subtrees' roots, largest first; `None` unless their number fits `size`.
    pub fn from_peaks(size: u64, peaks: Vec<B256>) -> Option<Self> {
        (peaks.len() == size.count_ones() as usize).then_some(Self { size, peaks })
    }

    pub fn size(&self) -> u64 {
        self.size
    }

    pub fn peaks(&self) -> &[B256] {
        &self.peaks
    }

    /// Appends a leaf hash.
    pub fn push(&mut self, leaf: B256) {
        let mut hash = leaf;
        for _ in 0..self.size.trailing_ones() {
            let left = self.peaks.pop().expect("a peak for each set bit");
            hash = node(&left, &hash);
        }
        self.peaks.push(hash);
        self.size += 1;
    }

    pub fn root(&self) -> B256 {
        let mut peaks = self.peaks.iter().rev();
        let Some(last) = peaks.next() else { return empty() };
        peaks.fold(*last, |right, left| node(left, &right))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 6962 section 2.1, word for word.
    fn naive_root(leaves: &[B256]) -> B256 {
        match leaves {
            [] => empty(),
            [one] => *one,
            _ => {
                let (left, right) = leaves.split_at(naive_split(leaves.len()));
                node(&naive_root(left), &naive_root(right))
            }
        }
    }

    fn naive_split(len: usize) -> usize {
        let mut k = 1;
        while k * 2 < len {
            k *= 2;
        }
        k
    }

    /// RFC 6962 section 2.1.1.
    fn naive_path(m: usize, leaves: &[B256]) -> Vec<B256> {
        if leaves.len() == 1 {
            return Vec::new();
        }
        let k = naive_split(leaves.len());
        let (left, right) = leaves.split_at(k);
        let (mut path, sibling) =
            if m < k { (naive_path(m, left), naive_root(right)) } else { (naive_path(m - k, right), naive_root(left)) };
        path.push(sibling);
        path
    }

    /// RFC 6962 section 2.1.2, SUBPROOF.
    fn naive_consistency(m: usize, leaves: &[B256], complete: bool) -> Vec<B256> {
        if m == leaves.len() {
            return if complete { Vec::new() } else { vec![naive_root(leaves)] };
        }
        let k = naive_split(leaves.len());
        let (left, right) = leaves.split_at(k);
        let (mut path, sibling) = if m <= k {
            (naive_consistency(m, left, complete), naive_root(right))
        } else {
            (naive_consistency(m - k, right, false), naive_root(left))
        };
        path.push(sibling);
        path
    }

    fn leaves(count: usize) -> Vec<B256> {
        (0..count as u64).map(|i| leaf(&i.to_be_bytes())).collect()
    }

    /// The test vectors of Google's certificate-transparency repository (also in Go's x/mod and Trillian).
    #[test]
    fn known_roots() {
        let inputs =
            ["", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f"];
        let roots = [
            "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
            "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
            "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
            "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
            "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
            "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
            "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
            "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
        ];
        assert_eq!(hex::encode(empty()), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
        let mut frontier = Frontier::new();
        for (input, root) in inputs.iter().zip(roots) {
            frontier.push(leaf(&hex::decode(input).unwrap()));
            assert_eq!(hex::encode(frontier.root()), root);
        }
    }

    #[test]
    fn agrees_with_the_naive_recursion() {
        for count in 0..70 {
            let leaves = leaves(count);
            let root = root(&leaves);
            assert_eq!(root, naive_root(&leaves));
            for index in 0..count {
                let path = inclusion_path(&leaves, index).unwrap();
                assert_eq!(path, naive_path(index, &leaves), "{index} of {count}");
                assert_eq!(path.len(), path_len(index as u64, count as u64));
                verify_inclusion(leaves[index], index as u64, count as u64, &path, root).unwrap();
                let sides = sides(index as u64, count as u64).unwrap();
                assert_eq!(root_from_sides(leaves[index], sides, &path), Ok(root));
                for level in 0..path.len() {
                    assert_ne!(root_from_sides(leaves[index], sides ^ 1 << level, &path), Ok(root));
                }
            }
            for old in 1..count {
                let path = naive_consistency(old, &leaves, true);
                assert_eq!(path.len(), consistency_len(old as u64, count as u64), "{old} to {count}");
                let old_root = naive_root(&leaves[..old]);
                verify_consistency(old as u64, count as u64, &path, old_root, root).unwrap();
            }
        }
    }

    #[test]
    fn every_change_to_a_proof_is_refused() {
        for count in [1u64, 2, 3, 7, 8, 13] {
            let leaves = leaves(count as usize);
            let root = root(&leaves);
            for index in 0..count {
                let path = inclusion_path(&leaves, index as usize).unwrap();
                let leaf = leaves[index as usize];
                for other in (0..=count).filter(|other| *other != index) {
                    assert!(verify_inclusion(leaf, other, count, &path, root).is_err());
                }
                for at in 0..path.len() {
                    let mut bent = path.clone();
                    bent[at].0[at % 32] ^= 1;
                    assert!(verify_inclusion(leaf, index, count, &bent, root).is_err());
                    let cut = [&path[..at], &path[at + 1..]].concat();
                    assert!(matches!(
                        verify_inclusion(leaf, index, count, &cut, root),
                        Err(MerkleError::Length { .. })
                    ));
                }
            }
            for old in 1..count {
                let path = naive_consistency(old as usize, &leaves, true);
                let old_root = naive_root(&leaves[..old as usize]);
                let wrong = leaf(b"wrong");
                assert!(verify_consistency(old, count, &path, wrong, root).is_err());
                assert!(verify_consistency(old, count, &path, old_root, wrong).is_err());
                assert!(verify_consistency(count + 1, count, &path, old_root, root).is_err());
                for at in 0..path.len() {
                    let mut bent = path.clone();
                    bent[at].0[0] ^= 1;
                    assert!(verify_consistency(old, count, &bent, old_root, root).is_err());
                }
            }
        }
    }

    #[test]
    fn extreme_sizes_do_not_overflow() {
        let top = u64::MAX;
        for (index, size) in [(0, top), (top - 1, top), (1 << 63, top), (0, 1), (1 << 62, 1 << 63)] {
            let len = path_len(index, size);
            assert!(len <= PATH_MAX);
            let path = vec![B256::ZERO; len];
            root_from_path(B256::ZERO, index, size, &path).unwrap();
        }
        assert!(consistency_len(top - 1, top) <= PATH_MAX + 1);
        assert_eq!(split(top), 1 << 63);
    }
}
