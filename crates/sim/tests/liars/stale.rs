//! Answer from an older state of a deal, and see that only the posted one counts.

use crate::{
    host::{Host, fleet, post, proof, shard},
    world::{COIN, World},
};
use alloy_primitives::{Address, Bytes, U256};
use alloy_sol_types::SolError;
use commonware_runtime::{Runner as _, deterministic::Runner};
use hodei_types::{
    abi::{DEALS, IDeals, LEAVES_PER_GIB},
    slice::ShardId,
};
use rand::{SeedableRng, rngs::StdRng};

/// Lets the window end.
fn end(world: &mut World) {
    let number = world.window().index;
    while world.window().index == number {
        world.idle();
    }
}

#[test]
fn an_older_root_is_neither_posted_again_nor_proven_and_what_was_released_earns_nothing() {
    Runner::default().start(|context| async move {
        let mut rng = StdRng::seed_from_u64(1);
        let owner = Address::repeat_byte(0xaa);
        let operator = Address::repeat_byte(1);
        let mut world = World::new(&[owner, operator], 1);
        let mut hosts = vec![Host::new(&context, 1, operator).await];
        fleet(&mut world, owner, &mut hosts, 40, &mut rng).await;
        let host = &mut hosts[0];
        let older = host.statement().await;

        // A window is proven; then forty more shards are taken and signed for.
        let challenge = world.asked(host.node);
        let answer = host.answer(&challenge.samples).await.unwrap();
        world.must(operator, DEALS, 0, proof(host.node, challenge.window, answer));
        let newer = host.take((0..40).map(|_| shard(&mut rng)).collect()).await;
        world.must(owner, DEALS, 0, post(&newer));
        for entry in [&older, &newer] {
            let refused = world.send(owner, DEALS, 0, post(entry));
            let error = IDeals::StaleSequence { deal: host.deal, sequence: newer.sequence };
            assert_eq!(refused.output, Bytes::from(error.abi_encode()));
        }
        // Its own number on an old root is not what it signed, and the operator alone agrees for one side only.
        let renamed = IDeals::RootPost { sequence: newer.sequence + 1, ..older.clone() };
        let refused = world.send(owner, DEALS, 0, post(&renamed));
        assert_eq!(refused.output, Bytes::from(IDeals::BadProviderSignature { deal: host.deal }.abi_encode()));
        let unsigned = IDeals::RootPost { providerSignature: Bytes::new(), ..renamed };
        let refused = world.send(operator, DEALS, 0, post(&unsigned));
        assert_eq!(refused.output, Bytes::from(IDeals::BadOwnerSignature { deal: host.deal }.abi_encode()));

        // It answers each sample from the tree it had before.
        end(&mut world);
        let challenge = world.asked(host.node);
        assert!(challenge.samples.iter().all(|sample| (sample.root, sample.leaves) == (newer.root, newer.leaves)));
        let old: Vec<IDeals::Sample> = challenge
            .samples
            .iter()
            .map(|sample| IDeals::Sample {
                root: older.root,
                leaves: older.leaves,
                leaf: sample.leaf % older.leaves,
                ..sample.clone()
            })
            .collect();
        let answer = host.answer(&old).await.expect("it has all of that");
        let refused = world.send(operator, DEALS, 0, proof(host.node, challenge.window, answer));
        let bad = IDeals::BadProof::abi_decode(&refused.output).expect("a typed error");
        assert_eq!(bad.index, 0);
        assert!(bad.reason.contains("leaves"), "{}", bad.reason);
        let answer = host.answer(&challenge.samples).await.unwrap();
        world.must(operator, DEALS, 0, proof(host.node, challenge.window, answer));

        // Half is released: proofs of what is gone are not asked for, not taken, and not paid.
        let gone: Vec<ShardId> = host.shards[..40].iter().map(|shard| ShardId::of(shard)).collect();
        assert_eq!(host.store().release(host.deal, &gone).await.unwrap(), gone);
        let fewer = host.statement().await;
        assert_eq!(fewer.leaves * 2, newer.leaves);
        world.must(owner, DEALS, 0, post(&fewer));
        let paid = world.deal(host.deal).paid;
        end(&mut world);
        let challenge = world.asked(host.node);
        assert_eq!(challenge.totalLeaves, fewer.leaves);
        let before: Vec<IDeals::Sample> = challenge
            .samples
            .iter()
            .map(|sample| IDeals::Sample { root: newer.root, leaves: newer.leaves, ..sample.clone() })
            .collect();
        let answer = host.answer(&before).await.expect("it still has the bytes");
        let refused = world.send(operator, DEALS, 0, proof(host.node, challenge.window, answer));
        IDeals::BadProof::abi_decode(&refused.output).expect("a typed error");
        let answer = host.answer(&challenge.samples).await.unwrap();
        world.must(operator, DEALS, 0, proof(host.node, challenge.window, answer));
        let deal = world.deal(host.deal);
        let window = U256::from(COIN) * U256::from(fewer.leaves) / U256::from(LEAVES_PER_GIB);
        assert_eq!(deal.paid + deal.owed, paid + window, "a window of what is left");
        world.audit();
    });
}
