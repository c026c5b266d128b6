//! Test that a tab's root says what each leaf may draw, and no more.

use super::*;

fn leaves(count: usize) -> Vec<Leaf> {
    let leaf = |i: usize| Leaf {
        provider: B256::with_last_byte(i as u8),
        anchor: B256::repeat_byte(7),
        ticks: 1 + i as u32,
        price: 1_500_000_000 + i as u128,
    };
    (0..count).map(leaf).collect()
}

#[test]
fn every_leaf_opens_at_its_place_and_nowhere_else() {
    for count in [1, 2, 3, 4, 5, 8, 9, 31] {
        let tree = Tree::build(leaves(count)).unwrap();
        let (root, gwei) = (tree.root(), tree.gwei());
        assert_eq!(gwei, tree.leaves().iter().map(|leaf| leaf.gwei().unwrap()).sum::<u64>());
        assert_eq!(1 << tree.depth(), count.next_power_of_two());
        for number in 0..count as u32 {
            let opening = tree.opening(number).unwrap();
            assert_eq!(opening.check(root, gwei), Ok(()), "{number} of {count}");
            assert_eq!(opening.check(root, gwei + 1), Err(TabError::Root));
            assert_eq!(opening.check(B256::ZERO, gwei), Err(TabError::Root));
            for other in (0..64).filter(|other| *other != number) {
                let moved = Opening { number: other, ..opening.clone() };
                assert!(moved.check(root, gwei).is_err(), "{number} of {count} also at {other}");
            }
            for leaf in [
                Leaf { provider: B256::repeat_byte(9), ..opening.leaf },
                Leaf { anchor: B256::repeat_byte(9), ..opening.leaf },
                Leaf { ticks: opening.leaf.ticks + 1, ..opening.leaf },
                Leaf { price: opening.leaf.price + 1, ..opening.leaf },
            ] {
                assert!(Opening { leaf, ..opening.clone() }.check(root, gwei).is_err());
            }
            let bytes = opening.to_bytes();
            assert_eq!(Opening::from_bytes(number, opening.leaf.provider, &bytes), Ok(opening.clone()));
            for at in 0..bytes.len() {
                let mut bent = bytes.clone();
                bent[at] ^= 1;
                let read = Opening::from_bytes(number, opening.leaf.provider, &bent);
                assert!(read.and_then(|bent| bent.check(root, gwei)).is_err(), "byte {at}");
                let cut = Opening::from_bytes(number, opening.leaf.provider, &bytes[..at]);
                assert!(cut.and_then(|cut| cut.check(root, gwei)).is_err(), "cut at {at}");
            }
        }
        assert!(tree.opening(count as u32).is_none() && tree.opening(u32::MAX).is_none());
    }
}

#[test]
fn a_lopsided_tree_opens_no_leaf_twice() {
    // A payer's own: leaf 0 beside a node of two leaves, so that number 1 could be meant by paths of two lengths.
    let all = leaves(3);
    let [a, b, c] = [0, 1, 2].map(|i| Node::of(&all[i]).unwrap());
    let pair = Node::join(&b, &c).unwrap();
    let top = Node::join(&pair, &a).unwrap();
    let short = Opening { number: 1, leaf: all[0], path: pair.to_bytes().to_vec() };
    let long = Opening { number: 1, leaf: all[2], path: [b.to_bytes(), a.to_bytes()].concat() };
    assert_eq!(short.check(root(&top, 1), top.gwei), Ok(()));
    assert_eq!(long.check(root(&top, 2), top.gwei), Ok(()));
    // But the root says one of both lengths.
    assert_eq!(short.check(root(&top, 2), top.gwei), Err(TabError::Root));
    assert_eq!(long.check(root(&top, 1), top.gwei), Err(TabError::Root));
}

#[test]
fn a_sum_told_too_low_opens_no_leaf_below_it() {
    let all = leaves(2);
    let (mut left, right) = (Node::of(&all[0]).unwrap(), Node::of(&all[1]).unwrap());
    left.gwei -= 1;
    let top = Node::join(&left, &right).unwrap();
    let cheap = Opening { number: 0, leaf: all[0], path: right.to_bytes().to_vec() };
    assert_eq!(cheap.check(root(&top, 1), top.gwei), Err(TabError::Root));
    // The other leaf's promise is inside of the sum that was told.
    let other = Opening { number: 1, leaf: all[1], path: left.to_bytes().to_vec() };
    assert_eq!(other.check(root(&top, 1), top.gwei), Ok(()));
}

#[test]
fn sizes_and_sums_are_bounded() {
    assert_eq!(Tree::build(Vec::new()).unwrap_err(), TabError::Leaves(0));
    assert_eq!(Tree::build(leaves(LEAVES_MAX + 1)).unwrap_err(), TabError::Leaves(LEAVES_MAX + 1));
    let full = Tree::build(leaves(LEAVES_MAX)).unwrap();
    let last = full.opening(LEAVES_MAX as u32 - 1).unwrap();
    assert_eq!((full.depth(), last.to_bytes().len()), (DEPTH_MAX, Opening::BYTES_MAX));
    assert_eq!(last.check(full.root(), full.gwei()), Ok(()));
    let rich = Leaf { ticks: 1, price: u128::from(u64::MAX) * super::super::GWEI, ..leaves(1)[0] };
    assert_eq!(Tree::build(vec![rich, rich]).unwrap_err(), TabError::Sum);
    let beside = Node { hash: B256::ZERO, gwei: 1 };
    assert_eq!(fold(&rich, 0, &beside.to_bytes()), Err(TabError::Sum));
    assert_eq!(fold(&leaves(1)[0], 0, &[0; 41]), Err(TabError::Path(41)));
    assert_eq!(fold(&leaves(1)[0], 0, &[0; 11 * NODE_BYTES]), Err(TabError::Path(440)));
    assert_eq!(fold(&leaves(1)[0], 4, &[0; 80]), Err(TabError::Number { number: 4, depth: 2 }));
}

#[test]
fn a_claim_carries_what_was_opened() {
    let tree = Tree::build(leaves(3)).unwrap();
    let opening = tree.opening(2).unwrap();
    let tick = super::super::Tick { index: 2, value: B256::repeat_byte(5) };
    let claim = opening.claim(B256::repeat_byte(4), &tick);
    let leaf = Leaf { provider: claim.provider, anchor: claim.anchor, ticks: claim.ticks, price: claim.price };
    assert_eq!(fold(&leaf, claim.leaf, &claim.path), Ok((tree.root(), tree.gwei())));
    assert_eq!((claim.tab, claim.index, claim.value), (B256::repeat_byte(4), 2, tick.value));
}
