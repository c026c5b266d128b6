//! Build the paths that `types::merkle` verifies.
//!
//! Both walks follow RFC 6962's recursion and ask a source for the roots of complete subtrees only, so that
//! a log answers them from the few hashes it keeps.

use alloy_primitives::B256;
use hodei_types::merkle::{node, split};

/// Knows the root of the complete subtree `index` at `level`: of leaves `index << level` and `1 << level` on.
pub trait Subtrees {
    fn subtree(&self, level: u32, index: u64) -> Option<B256>;
}

/// Root of the first `size` leaves, `size > 0`; `None` if the source lacks a subtree.
pub fn root(source: &impl Subtrees, size: u64) -> Option<B256> {
    range(source, 0, size)
}

/// Path of leaf `index` in the tree of the first `size` leaves.
pub fn inclusion(source: &impl Subtrees, index: u64, size: u64) -> Option<Vec<B256>> {
    if index >= size {
        return None;
    }
    let (mut start, mut end, mut path) = (0, size, Vec::new());
    while end - start > 1 {
        let middle = start + split(end - start);
        if index < middle {
            path.push(range(source, middle, end)?);
            end = middle;
        } else {
            path.push(range(source, start, middle)?);
            start = middle;
        }
    }
    path.reverse();
    Some(path)
}

/// Path showing that the tree of `new` leaves begins with that of `old`; empty if either needs no proof.
pub fn consistency(source: &impl Subtrees, old: u64, new: u64) -> Option<Vec<B256>> {
    if old > new {
        return None;
    }
    if old == 0 || old == new {
        return Some(Vec::new());
    }
    let (mut start, mut end, mut path) = (0, new, Vec::new());
    // RFC 6962's SUBPROOF: `whole` while the old tree's own root is still the left edge.
    let mut whole = true;
    while end != old {
        let middle = start + split(end - start);
        if old <= middle {
            path.push(range(source, middle, end)?);
            end = middle;
        } else {
            path.push(range(source, start, middle)?);
            start = middle;
            whole = false;
        }
    }
    if !whole {
        path.push(range(source, start, end)?);
    }
    path.reverse();
    Some(path)
}

/// Root over leaves `start..end`, where `start` is a multiple of the largest power of two below the length.
fn range(source: &impl Subtrees, start: u64, end: u64) -> Option<B256> {
    let len = end - start;
    if len.is_power_of_two() {
        let level = len.trailing_zeros();
        return source.subtree(level, start >> level);
    }
    let middle = start + split(len);
    Some(node(&range(source, start, middle)?, &range(source, middle, end)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::leaves::Leaves;
    use hodei_types::merkle;

    #[test]
    fn what_is_built_verifies() {
        let all = Leaves((0..130u64).map(|i| merkle::leaf(&i.to_be_bytes())).collect());
        for new in 1..=130u64 {
            let new_root = merkle::root(&all.0[..new as usize]);
            assert_eq!(root(&all, new), Some(new_root));
            for at in (0..new).step_by(if new > 70 { 7 } else { 1 }) {
                let path = inclusion(&all, at, new).unwrap();
                merkle::verify_inclusion(all.0[at as usize], at, new, &path, new_root).unwrap();
                let path = consistency(&all, at, new).unwrap();
                let old_root = merkle::root(&all.0[..at as usize]);
                merkle::verify_consistency(at, new, &path, old_root, new_root).unwrap();
            }
        }
        assert_eq!(inclusion(&all, 5, 5), None);
        assert_eq!(consistency(&all, 6, 5), None);
        assert_eq!(inclusion(&all, 0, 200), None, "leaves it does not have");
    }
}
