//! Choose who holds the shards that are rebuilt.

use crate::place::{Candidate, spare};
use hodei_types::{code::Shape, transport::NodeKey};

/// New holders for the shards at `lost`, as (slot, index into `candidates`), as many as the caps allow: the first ones
/// where not all. Whoever is replaced still counts, since it may return with what it held; nobody in `avoid` is chosen.
/// `slots` names the holder of each shard.
pub fn seats(
    shape: &Shape,
    candidates: &[Candidate],
    slots: &[usize],
    lost: &[usize],
    avoid: &[NodeKey],
    seed: &[u8; 32],
) -> Vec<(usize, usize)> {
    let mut slots = slots.to_vec();
    let mut avoid = avoid.to_vec();
    avoid.extend(slots.iter().map(|held| candidates[*held].node));
    let mut found = Vec::new();
    for slot in lost {
        let Some(at) = spare(shape, candidates, &slots, *slot, &avoid, seed) else { break };
        avoid.push(candidates[at].node);
        slots[*slot] = at;
        found.push((*slot, at));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidate(i: u8, network: u8) -> Candidate {
        Candidate { node: NodeKey([i; 32]), operator: [i; 20], network: network.to_string(), zone: String::new() }
    }

    #[test]
    fn rebuilt_shards_go_to_others_within_the_caps() {
        let shape = Shape::new(3, 6, 1).unwrap();
        let candidates: Vec<_> = (0..10).map(|i| candidate(i, i % 5)).collect();
        let slots = [0, 1, 2, 3, 4, 5];
        let chosen = seats(&shape, &candidates, &slots, &[4, 5], &[NodeKey([6; 32])], &[1; 32]);
        assert_eq!(chosen.len(), 2);
        let nodes: Vec<_> = chosen.iter().map(|(_, at)| *at).collect();
        assert!(nodes.iter().all(|at| (7..10).contains(at)) && nodes[0] != nodes[1], "{nodes:?}");
        let after: Vec<_> = [0, 1, 2, 3].into_iter().chain(nodes).map(|at| &candidates[at]).collect();
        assert!(crate::place::within_caps(&shape, &after));
        let nobody: Vec<_> = (0..10).map(|i| NodeKey([i; 32])).collect();
        assert!(seats(&shape, &candidates, &slots, &[0], &nobody, &[1; 32]).is_empty());
    }
}
