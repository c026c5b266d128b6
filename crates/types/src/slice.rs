//! Check a part of a shard against its id alone.
//!
//! A shard's id is the BLAKE3 hash of its bytes, which is the root of a binary tree over chunks of 1 KiB:
//! a run of chunks and the hashes of the subtrees left and right of it, in order, give the root. So a
//! provider can show 16 KiB of a shard, or the one chunk a challenge names, and nobody needs the rest.

use blake3::hazmat::{ChainingValue, HasherExt, Mode, left_subtree_len, merge_subtrees_non_root, merge_subtrees_root};
use std::ops::Range;

use crate::code::{SHARD_ALIGN, SHARD_BYTES_MAX};

/// A leaf of BLAKE3's tree, and of a deal's.
pub const CHUNK_BYTES: usize = 1024;
/// What a client asks for at least when it reads part of a shard: one AEAD frame is four of these.
pub const SLICE_BYTES: u32 = 16 * 1024;
/// A run of chunks in a shard of 1 MiB has at most this many subtrees beside it.
pub const HASHES_MAX: usize = 20;

/// BLAKE3 of a padded, coded shard.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ShardId(pub [u8; 32]);

impl ShardId {
    pub fn of(shard: &[u8]) -> Self {
        Self(*blake3::hash(shard).as_bytes())
    }
}

impl std::fmt::Display for ShardId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl std::fmt::Debug for ShardId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{self}")
    }
}

/// Why bytes are not that part of the shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SliceError {
    #[error("a shard is 4 KiB to 1 MiB in steps of 4 KiB, not {0} bytes")]
    Length(u64),
    #[error("the slice is not a run of whole chunks inside the shard")]
    Range,
    #[error("expected {expected} hashes beside the slice, found {found}")]
    Hashes { expected: usize, found: usize },
    #[error("expected shard {expected}, the bytes hash to {found}")]
    Mismatch { expected: ShardId, found: ShardId },
}

/// Refuses lengths no shard has.
pub fn check_length(bytes: u64) -> Result<(), SliceError> {
    let whole = bytes.is_multiple_of(SHARD_ALIGN.into());
    if whole && (1..=u64::from(SHARD_BYTES_MAX)).contains(&bytes) { Ok(()) } else { Err(SliceError::Length(bytes)) }
}

/// The hashes beside `chunks` of `shard`, left to right.
///
/// Panics if the range is empty or outside, or the shard's length is none a shard has.
pub fn prove(shard: &[u8], chunks: Range<usize>) -> Vec<[u8; 32]> {
    check_length(shard.len() as u64).expect("a stored shard has a shard's length");
    assert!(chunks.start < chunks.end && chunks.end <= shard.len() / CHUNK_BYTES);
    let mut hashes = Vec::new();
    let whole = 0..shard.len() / CHUNK_BYTES;
    if chunks != whole {
        let (left, right) = halves(&whole);
        collect(shard, left, &chunks, &mut hashes);
        collect(shard, right, &chunks, &mut hashes);
    }
    hashes
}

/// Checks that `bytes` are the chunks from `first` of the shard `id`, which is `shard_bytes` long. `hashes`
/// is the concatenation of 32-byte hashes that [`prove`] gave. Allocates nothing.
pub fn verify(id: &ShardId, shard_bytes: u64, first: usize, bytes: &[u8], hashes: &[u8]) -> Result<(), SliceError> {
    check_length(shard_bytes)?;
    let whole = 0..shard_bytes as usize / CHUNK_BYTES;
    let len = bytes.len() / CHUNK_BYTES;
    let inside = first.checked_add(len).is_some_and(|end| end <= whole.end);
    if !bytes.len().is_multiple_of(CHUNK_BYTES) || len == 0 || !inside {
        return Err(SliceError::Range);
    }
    let wanted = first..first + len;
    let expected = if wanted == whole { 0 } else { count(&whole, &wanted) };
    if hashes.len() != expected * 32 {
        return Err(SliceError::Hashes { expected, found: hashes.len() / 32 });
    }
    let found = if wanted == whole {
        blake3::hash(bytes)
    } else {
        let (left, right) = halves(&whole);
        let mut rest = hashes;
        let left = rebuild(left, &wanted, bytes, &mut rest);
        let right = rebuild(right, &wanted, bytes, &mut rest);
        merge_subtrees_root(&left, &right, Mode::Hash)
    };
    let found = ShardId(*found.as_bytes());
    if found == *id { Ok(()) } else { Err(SliceError::Mismatch { expected: *id, found }) }
}

/// How many hashes stand beside `wanted` in a tree over `node`.
pub fn count(node: &Range<usize>, wanted: &Range<usize>) -> usize {
    if disjoint(node, wanted) {
        1
    } else if inside(node, wanted) {
        0
    } else {
        let (left, right) = halves(node);
        count(&left, wanted) + count(&right, wanted)
    }
}

fn collect(shard: &[u8], node: Range<usize>, wanted: &Range<usize>, hashes: &mut Vec<[u8; 32]>) {
    if disjoint(&node, wanted) {
        hashes.push(subtree(&shard[node.start * CHUNK_BYTES..node.end * CHUNK_BYTES], node.start));
    } else if !inside(&node, wanted) {
        let (left, right) = halves(&node);
        collect(shard, left, wanted, hashes);
        collect(shard, right, wanted, hashes);
    }
}

/// `hashes` has as many as [`count`] says, checked before.
fn rebuild(node: Range<usize>, wanted: &Range<usize>, bytes: &[u8], hashes: &mut &[u8]) -> ChainingValue {
    if disjoint(&node, wanted) {
        let (hash, rest) = hashes.split_first_chunk().expect("counted before");
        *hashes = rest;
        return *hash;
    }
    if inside(&node, wanted) {
        let from = (node.start - wanted.start) * CHUNK_BYTES;
        return subtree(&bytes[from..from + node.len() * CHUNK_BYTES], node.start);
    }
    let (left, right) = halves(&node);
    let left = rebuild(left, wanted, bytes, hashes);
    let right = rebuild(right, wanted, bytes, hashes);
    merge_subtrees_non_root(&left, &right, Mode::Hash)
}

fn subtree(bytes: &[u8], first: usize) -> ChainingValue {
    let mut hasher = blake3::Hasher::new();
    hasher.set_input_offset((first * CHUNK_BYTES) as u64);
    hasher.update(bytes);
    hasher.finalize_non_root()
}

fn halves(node: &Range<usize>) -> (Range<usize>, Range<usize>) {
    let left = left_subtree_len((node.len() * CHUNK_BYTES) as u64) as usize / CHUNK_BYTES;
    (node.start..node.start + left, node.start + left..node.end)
}

fn disjoint(a: &Range<usize>, b: &Range<usize>) -> bool {
    a.end <= b.start || b.end <= a.start
}

fn inside(a: &Range<usize>, b: &Range<usize>) -> bool {
    b.start <= a.start && a.end <= b.end
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shard(bytes: usize) -> Vec<u8> {
        (0..bytes).map(|i| ((i / 7) ^ (i >> 9)) as u8).collect()
    }

    #[test]
    fn every_run_of_chunks_verifies_and_no_flipped_bit_does() {
        for bytes in [4096, 12288, 20480] {
            let shard = shard(bytes);
            let id = ShardId::of(&shard);
            let chunks = bytes / CHUNK_BYTES;
            for first in 0..chunks {
                for end in first + 1..=chunks {
                    let hashes = prove(&shard, first..end).concat();
                    let part = &shard[first * CHUNK_BYTES..end * CHUNK_BYTES];
                    assert_eq!(verify(&id, bytes as u64, first, part, &hashes), Ok(()));
                    let mut bad = part.to_vec();
                    bad[part.len() / 2] ^= 1;
                    assert!(verify(&id, bytes as u64, first, &bad, &hashes).is_err());
                    if !hashes.is_empty() {
                        let mut bad = hashes.clone();
                        bad[hashes.len() / 2] ^= 1;
                        assert!(verify(&id, bytes as u64, first, part, &bad).is_err());
                        assert!(verify(&id, bytes as u64, first, part, &hashes[32..]).is_err());
                    }
                    if end < chunks {
                        assert!(verify(&id, bytes as u64, first + 1, part, &hashes).is_err(), "another place");
                    }
                }
            }
        }
    }

    #[test]
    fn the_largest_proof_is_within_its_limit() {
        let whole = 0..SHARD_BYTES_MAX as usize / CHUNK_BYTES;
        let most = (0..whole.end).map(|i| count(&whole, &(i..i + 1)).max(count(&whole, &(i..(i + 2).min(whole.end)))));
        assert!(most.max().unwrap() <= HASHES_MAX);
    }

    #[test]
    fn lengths_no_shard_has_are_refused() {
        for bytes in [0, 1024, 4097, u64::from(SHARD_BYTES_MAX) + 4096] {
            assert_eq!(check_length(bytes), Err(SliceError::Length(bytes)));
        }
    }
}
