//! Choose who holds the shards that are rebuilt.

use crate::place::{Candidate, spare};
use hodei_types::{code::Shape, transport::NodeKey};

/// New holders for the shards at `lost`, as (slot, index into `candidates`), as many as the caps allow: one for which there
/// is no room keeps none behind it from a place. Whoever is replaced still counts, since it may return with what it held;
/// nobody is chosen for a slot who `refuses` it. `slots` names the holder of each shard. Each goes to somebody who has none of the stripe;
/// where there is nobody left and `may_double`, to somebody who has.
pub fn seats(
    shape: &Shape,
    candidates: &[Candidate],
    slots: &[usize],
    lost: &[usize],
    refuses: impl Fn(usize, &NodeKey) -> bool,
    seed: &[u8; 32],
    may_double: bool,
) -> Vec<(usize, usize)> {
    let mut slots = slots.to_vec();
    let mut has: Vec<NodeKey> = slots.iter().map(|held| candidates[*held].node).collect();
    let mut found = Vec::new();
    for slot in lost {
        let nodes = candidates.iter().map(|candidate| candidate.node);
        let avoid: Vec<NodeKey> = nodes.filter(|node| refuses(*slot, node)).collect();
        let beside = [&avoid[..], &has[..]].concat();
        let alone = spare(shape, candidates, &slots, *slot, &beside, seed);
        let doubled = || spare(shape, candidates, &slots, *slot, &avoid, seed).filter(|_| may_double);
        let Some(at) = alone.or_else(doubled) else { continue };
        has.push(candidates[at].node);
        slots[*slot] = at;
        found.push((*slot, at));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use hodei_types::code::Domain;

    fn candidate(i: u8, network: u8) -> Candidate {
        Candidate { node: NodeKey([i; 32]), operator: [i; 20], network: network.to_string(), zone: String::new() }
    }

    #[test]
    fn rebuilt_shards_go_to_others_within_the_caps() {
        let shape = Shape::new(3, 6, 1).unwrap();
        let candidates: Vec<_> = (0..10).map(|i| candidate(i, i % 5)).collect();
        let slots = [0, 1, 2, 3, 4, 5];
        let chosen = seats(&shape, &candidates, &slots, &[4, 5], |_, node| *node == NodeKey([6; 32]), &[1; 32], false);
        assert_eq!(chosen.len(), 2);
        let nodes: Vec<_> = chosen.iter().map(|(_, at)| *at).collect();
        assert!(nodes.iter().all(|at| (7..10).contains(at)) && nodes[0] != nodes[1], "{nodes:?}");
        let after: Vec<_> = [0, 1, 2, 3].into_iter().chain(nodes).map(|at| &candidates[at]).collect();
        assert!(crate::place::within_caps(&shape, &after));
        assert!(seats(&shape, &candidates, &slots, &[0], |_, _| true, &[1; 32], true).is_empty());
    }

    #[test]
    fn who_refuses_one_shard_of_a_stripe_takes_another_of_it() {
        let shape = Shape::new(3, 6, 1).unwrap();
        let candidates: Vec<_> = (0..7).map(|i| candidate(i, i)).collect();
        let slots = [0, 1, 2, 3, 4, 5];
        let refuses = |slot: usize, node: &NodeKey| slot == 4 && *node == NodeKey([6; 32]);
        let seats = |lost: &[usize]| seats(&shape, &candidates, &slots, lost, refuses, &[1; 32], false);
        assert_eq!((seats(&[4]), seats(&[5])), (vec![], vec![(5, 6)]));
        assert_eq!(seats(&[4, 5]), [(5, 6)]);
    }

    #[test]
    fn one_without_room_keeps_no_other_from_its_place() {
        let shape = Shape::new(3, 6, 1).unwrap();
        let cap = shape.cap(Domain::Network);
        // As many as may be are of one network, the last among them; who is left is of it too.
        let network = |i: u8| if i < cap - 1 || i >= 5 { 9 } else { i };
        let candidates: Vec<_> = (0..7).map(|i| candidate(i, network(i))).collect();
        let slots = [0, 1, 2, 3, 4, 5];
        let chosen = seats(&shape, &candidates, &slots, &[4, 5], |_, _| false, &[1; 32], false);
        assert_eq!(chosen, [(5, 6)], "beside the others of its network there is room for the last alone");
    }

    #[test]
    fn where_nobody_else_is_left_some_take_two_within_the_caps() {
        let shape = Shape::new(3, 6, 1).unwrap();
        let candidates: Vec<_> = (0..6).map(|i| candidate(i, i % 3)).collect();
        let slots = [0, 1, 2, 3, 4, 5];
        let gone = |_: usize, node: &NodeKey| node.0[0] == 5;
        assert!(seats(&shape, &candidates, &slots, &[5], gone, &[1; 32], false).is_empty());
        let chosen = seats(&shape, &candidates, &slots, &[5], gone, &[1; 32], true);
        let after: Vec<_> = [0, 1, 2, 3, 4].into_iter().chain(chosen.iter().map(|(_, at)| *at)).collect();
        assert_eq!((chosen.len(), after.len()), (1, 6));
        assert!(crate::place::within_caps(&shape, &after.iter().map(|at| &candidates[*at]).collect::<Vec<_>>()));
        // With three of six gone the caps leave room for what two operators each may hold.
        let gone = |_: usize, node: &NodeKey| node.0[0] >= 3;
        let chosen = seats(&shape, &candidates, &slots, &[3, 4, 5], gone, &[1; 32], true);
        assert!(chosen.iter().all(|(_, at)| *at < 3), "{chosen:?}");
    }
}
