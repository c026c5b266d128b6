//! Hand in proofs that are none, and see each refused and counted as nothing.

use crate::{
    host::{Host, fleet, frame, proof},
    world::World,
};
use alloy_primitives::{Address, Bytes, U256};
use alloy_sol_types::{SolCall, SolError};
use commonware_runtime::{Runner as _, deterministic::Runner};
use hodei_types::{
    abi::{DEALS, IDeals, SAMPLES},
    holding,
};
use rand::{SeedableRng, rngs::StdRng};

/// Takes a proof apart.
fn parts(mut proof: &[u8]) -> Vec<Vec<u8>> {
    let mut parts = Vec::new();
    while let Some((length, rest)) = proof.split_first_chunk::<4>() {
        let (part, rest) = rest.split_at(u32::from_be_bytes(*length) as usize);
        parts.push(part.to_vec());
        proof = rest;
    }
    parts
}

fn whole(parts: &[Vec<u8>]) -> Vec<u8> {
    let mut out = Vec::new();
    parts.iter().for_each(|part| frame(&mut out, part));
    out
}

/// The typed error of a bad proof.
fn bad(output: &Bytes) -> IDeals::BadProof {
    IDeals::BadProof::abi_decode(output).unwrap_or_else(|_| panic!("not a bad proof: {output}"))
}

#[test]
fn no_forged_proof_counts_and_the_true_one_still_does() {
    Runner::default().start(|context| async move {
        let mut rng = StdRng::seed_from_u64(1);
        let (owner, stranger) = (Address::repeat_byte(0xaa), Address::repeat_byte(0xbb));
        let operators = [1, 2].map(Address::repeat_byte);
        let mut world = World::new(&[owner, stranger, operators[0], operators[1]], 1);
        let mut hosts = Vec::new();
        for (at, operator) in operators.iter().enumerate() {
            hosts.push(Host::new(&context, 1 + at as u8, *operator).await);
        }
        fleet(&mut world, owner, &mut hosts, 30, &mut rng).await;
        let [ours, theirs] = &hosts[..] else { unreachable!() };
        let (node, operator) = (ours.node, ours.operator);

        // Before a window asks, there is nothing to prove.
        if !world.challenge(node).open {
            let number = world.window().index;
            let early = world.send(operator, DEALS, 0, proof(node, number, Vec::new()));
            assert_eq!(early.output, Bytes::from(IDeals::NoChallenge { provider: node, window: number }.abi_encode()));
        }
        let first = world.asked(node);
        let answered = ours.answer(&first.samples).await.unwrap();
        world.must(operator, DEALS, 0, proof(node, first.window, answered.clone()));
        let again = world.send(operator, DEALS, 0, proof(node, first.window, answered.clone()));
        assert_eq!(again.output, Bytes::from(IDeals::AlreadyProven { window: first.window }.abi_encode()));
        while world.window().index == first.window {
            world.idle();
        }

        let challenge = world.asked(node);
        let number = challenge.window;
        let truth = ours.answer(&challenge.samples).await.unwrap();
        let good = parts(&truth);
        assert_eq!(good.len(), SAMPLES);
        // Windows that are over, and that are not yet.
        for other in [first.window, number + 1, 0, u64::MAX] {
            let refused = world.send(operator, DEALS, 0, proof(node, other, truth.clone()));
            assert_eq!(refused.output, Bytes::from(IDeals::WrongWindow { current: number }.abi_encode()));
        }
        // Another provider's, under our name, and ours under theirs.
        let asked = world.challenge(theirs.node);
        let foreign = theirs.answer(&asked.samples).await.unwrap();
        let mut forged: Vec<(&str, Vec<u8>)> = vec![
            ("another provider's", foreign.clone()),
            ("an earlier window's", answered),
            ("nothing", Vec::new()),
            ("one byte more", [&truth[..], &[0]].concat()),
            ("one byte less", truth[..truth.len() - 1].to_vec()),
            ("one leaf too few", whole(&good[..SAMPLES - 1])),
            ("one leaf too many", whole(&[&good[..], &good[..1]].concat())),
            ("a length beyond the end", [&u32::MAX.to_be_bytes()[..], &truth[4..]].concat()),
        ];
        // Each leaf in the place of another, unless chance drew one twice.
        for at in 1..SAMPLES {
            if challenge.samples[at].leaf != challenge.samples[0].leaf {
                let mut swapped = good.clone();
                swapped[at] = good[0].clone();
                forged.push(("a leaf that was not asked for", whole(&swapped)));
            }
        }
        // Anything changed of any sample: version, size of the tree, position, id, count, sums of the path, hashes, bytes.
        for at in 0..SAMPLES {
            let (len, path) = (good[at].len(), 43 + holding::NODE_BYTES);
            for byte in [0, 4, 8, 9, 42, 43, path - 1, path - 8, len - 1024, len - 1] {
                let mut bent = good.clone();
                bent[at][byte] ^= 1;
                forged.push(("a changed byte", whole(&bent)));
            }
        }
        for (what, body) in forged {
            let applied = world.send(operator, DEALS, 0, proof(node, number, body));
            assert!(!applied.success, "{what} was taken");
            bad(&applied.output);
        }
        // As large as a transaction may be: refused by the first length, at the price of its bytes.
        let mut large = vec![0xff; 120 << 10];
        large[..4].copy_from_slice(&(64u32 << 10).to_be_bytes());
        let applied = world.send(stranger, DEALS, 0, proof(node, number, large));
        assert!(!applied.success && applied.gas_used > 40 * (119 << 10), "{} gas", applied.gas_used);
        assert_eq!(bad(&applied.output).index, 0);
        // The pieces of two providers' proofs in one.
        for at in 0..SAMPLES {
            let mut mixed = good.clone();
            mixed[at] = parts(&foreign)[at].clone();
            let refused = world.send(operator, DEALS, 0, proof(node, number, whole(&mixed)));
            assert_eq!(bad(&refused.output).index, at as u64);
        }
        assert_eq!(world.window().index, number, "all of it in one window");
        let standing = world.standing(node);
        assert_eq!((standing.proven, standing.misses), (1, 0), "none of it counted, for or against");
        // Whoever sends the true one.
        world.must(stranger, DEALS, 0, proof(node, number, truth));
        while world.window().index == number {
            world.idle();
        }
        let standing = world.standing(node);
        assert_eq!((standing.proven, standing.misses, standing.slashed), (2, 0, U256::ZERO));
        // The other answered neither window: it missed them, whatever was said in its name.
        assert_eq!(world.standing(theirs.node).misses, 2);
        let touch = IDeals::touchCall { deals: vec![ours.deal, theirs.deal] }.abi_encode();
        world.must(owner, DEALS, 0, touch);
        let paid = |world: &mut World, host: &Host| world.deal(host.deal).paidWindows;
        assert_eq!((paid(&mut world, ours), paid(&mut world, theirs)), (2, 0));
        world.audit();
    });
}
