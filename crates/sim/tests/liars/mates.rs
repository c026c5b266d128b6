//! Give one operator several nodes, and let one of them answer with what another holds.

use crate::{
    host::{Host, fleet, frame, proof},
    world::{COIN, World},
};
use alloy_primitives::{Address, U256, keccak256};
use alloy_sol_types::{SolCall, SolError};
use commonware_runtime::{Runner as _, deterministic::Runner};
use hodei_storage::{
    code::Codec,
    place::{Candidate, PlaceError, place, within_caps},
    prove::{Change, Tree, prove},
    seal::{Algorithm, PartKey, Place, Secret},
};
use hodei_types::{
    abi::{DEALS, IDeals},
    code::{Domain, Shape},
    holding,
    slice::ShardId,
    transport::NodeKey,
};
use rand::{Rng as _, SeedableRng, rngs::StdRng};

const K: u8 = 1;
const N: u8 = 2;
const SHARD: usize = 4096;

/// Shards of stripes of two copies, as they leave the owner: coded, and each under a pad of its own.
fn copies(stripes: u32, rng: &mut StdRng) -> [Vec<Vec<u8>>; 2] {
    let place = Place {
        network: [1; 32],
        bucket: [2; 32],
        object: [3; 16],
        part: 0,
        attempt: 0,
        algorithm: Algorithm::Aes256Gcm,
    };
    let key = PartKey::new(&Secret::new([4; 32]), &place);
    let codec = Codec::new(K, N);
    let mut out = [Vec::new(), Vec::new()];
    for stripe in 0..stripes {
        let mut data = vec![0; SHARD];
        rng.fill_bytes(&mut data);
        let mut parity = vec![0; SHARD];
        codec.encode(&data, &mut parity);
        assert_eq!(data, parity, "a code of one of two makes a copy");
        for (index, mut shard) in [data, parity].into_iter().enumerate() {
            key.stripe(stripe).apply(index as u8, 0, &mut shard);
            out[index].push(shard);
        }
    }
    out
}

/// The best that can be made of `theirs` for what is asked about `ours`: the right path, and their bytes.
fn borrowed(samples: &[IDeals::Sample], tree: &Tree, theirs: &[Vec<u8>]) -> Vec<u8> {
    let mut out = Vec::new();
    for sample in samples {
        let drawn = tree.find(&sample.root.0, sample.leaves, sample.leaf).unwrap();
        let shard = &theirs[drawn.position as usize];
        assert_eq!(prove(&drawn, shard), None, "an honest prover does not claim it");
        let part = holding::assemble(drawn.shards, drawn.position.into(), &drawn.path, shard, drawn.chunk);
        frame(&mut out, &part);
    }
    out
}

fn tree(shards: &[Vec<u8>]) -> Tree {
    let mut tree = Tree::default();
    for shard in shards {
        tree.apply(Change::Append { id: ShardId::of(shard), leaves: (SHARD / 1024) as u16 }).unwrap();
    }
    tree
}

#[test]
fn one_copy_does_not_answer_for_two_unless_it_is_fetched_in_time() {
    Runner::default().start(|context| async move {
        let mut rng = StdRng::seed_from_u64(5);
        let (owner, operator) = (Address::repeat_byte(0xaa), Address::repeat_byte(1));
        let mut world = World::new(&[owner, operator], 5);
        let mut hosts = vec![Host::new(&context, 1, operator).await, Host::new(&context, 2, operator).await];
        fleet(&mut world, owner, &mut hosts, 0, &mut rng).await;
        let [first, second] = copies(30, &mut rng);
        for (one, other) in first.iter().zip(&second) {
            assert_ne!(one, other, "their pads differ");
        }
        let mut posts = Vec::new();
        for (host, shards) in hosts.iter_mut().zip([&first, &second]) {
            posts.push(host.take(shards.clone()).await);
        }
        world.must(owner, DEALS, 0, IDeals::postCall { posts }.abi_encode());
        let [keeps, empty] = &hosts[..] else { unreachable!() };

        // The second threw its copy away, and knows its ids and its tree.
        let remembered = tree(&second);
        let challenge = world.asked(empty.node);
        let body = borrowed(&challenge.samples, &remembered, &first);
        let refused = world.send(operator, DEALS, 0, proof(empty.node, challenge.window, body));
        let bad = IDeals::BadProof::abi_decode(&refused.output).expect("a typed error");
        assert_eq!(bad.index, 0, "{}", bad.reason);
        // What answers for the first says nothing of the second.
        let mate = world.challenge(keeps.node);
        let body = keeps.answer(&mate.samples).await.unwrap();
        assert!(!world.send(operator, DEALS, 0, proof(empty.node, challenge.window, body.clone())).success);
        world.must(operator, DEALS, 0, proof(keeps.node, mate.window, body));
        let standing = [keeps.node, empty.node].map(|node| world.standing(node).proven);
        assert_eq!(standing, [1, 0]);

        // What no proof shows: whoever fetches the bytes from where they are before the window ends has obtained them.
        let body =
            empty.answer(&challenge.samples).await.expect("here from its own disk, which is the same on the wire");
        world.must(operator, DEALS, 0, proof(empty.node, challenge.window, body));
        assert_eq!(world.standing(empty.node).proven, 1);
        world.audit();
    });
}

#[test]
fn the_nodes_of_one_operator_are_judged_one_by_one() {
    Runner::default().start(|context| async move {
        let mut rng = StdRng::seed_from_u64(6);
        let (owner, operator) = (Address::repeat_byte(0xaa), Address::repeat_byte(1));
        let mut world = World::new(&[owner, operator], 6);
        let mut hosts = Vec::new();
        for number in 1..=4 {
            hosts.push(Host::new(&context, number, operator).await);
        }
        fleet(&mut world, owner, &mut hosts, 40, &mut rng).await;
        // Three of four lie, each in its way; the fourth answers.
        hosts[1].lose(40, &mut rng).await;
        hosts[2].lose(20, &mut rng).await;
        hosts[3].lose(40, &mut rng).await;
        let mut seeds = Vec::new();
        for window in 1..=3u64 {
            for host in &hosts {
                let challenge = world.asked(host.node);
                seeds.push(challenge.seed);
                if let Some(body) = host.answer(&challenge.samples).await {
                    world.must(operator, DEALS, 0, proof(host.node, challenge.window, body));
                } else {
                    // Half of it is gone: that no draw of twenty meets it is one in a million.
                    assert_ne!(host.node, hosts[0].node);
                }
            }
            let number = world.window().index;
            while world.window().index == number {
                world.idle();
            }
            for (at, host) in hosts.iter().enumerate() {
                let standing = world.standing(host.node);
                let expected = if at == 0 { (window, 0, false) } else { (0, window, true) };
                assert_eq!((standing.proven, standing.misses, standing.suspended), expected, "node {at}");
                let slashed = if at > 0 && window == 3 { U256::from(10 * COIN) } else { U256::ZERO };
                assert_eq!(standing.slashed, slashed, "node {at}");
            }
        }
        let count = seeds.len();
        seeds.sort_unstable();
        seeds.dedup();
        assert_eq!(seeds.len(), count, "no two are asked by the same draw");
        world.audit();
    });
}

#[test]
fn no_operator_gets_as_many_shards_as_suffice_however_many_nodes_it_has() {
    let candidate = |node: u8, operator: u8| Candidate {
        node: NodeKey([node; 32]),
        operator: [operator; 20],
        network: format!("as{node}"),
        zone: format!("zone-{node}"),
    };
    for (k, n) in [(3, 6), (4, 8), (10, 30), (16, 32)] {
        let shape = Shape::new(k, n, Shape::losses_max(k, n).min(2)).unwrap();
        let cap = usize::from(shape.cap(Domain::Operator));
        assert!(cap < usize::from(k), "{k} of {n}");
        // One operator brings forty nodes, the others one each.
        let mut candidates: Vec<Candidate> = (0..40).map(|node| candidate(node, 1)).collect();
        let others = (2..2 + 2 * n).map(|other| candidate(100 + other, other));
        candidates.extend(others);
        for seed in 0..50u64 {
            let seed = keccak256(seed.to_be_bytes()).0;
            let slots = place(&shape, &candidates, &seed).unwrap();
            let its = slots.iter().filter(|slot| candidates[**slot].operator == [1; 20]).count();
            assert!(its <= cap, "{its} of {n} shards at one operator");
            let holders: Vec<&Candidate> = slots.iter().map(|slot| &candidates[*slot]).collect();
            assert!(within_caps(&shape, &holders));
        }
        // Who judges another's placement refuses one more.
        let crowded: Vec<&Candidate> = candidates[..=cap].iter().collect();
        assert!(!within_caps(&shape, &crowded));
        // Alone with its forty nodes it holds no stripe.
        let refused = place(&shape, &candidates[..40], &[0; 32]);
        assert!(matches!(refused, Err(PlaceError::Shape(_))), "{refused:?}");
    }
}
