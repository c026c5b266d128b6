//! Let a provider delete what it holds, and follow it down the ladder.

use alloy_primitives::{Bytes, U256};
use alloy_sol_types::{SolCall, SolError};
use hodei_types::abi::{BUCKETS, DEALS, IBuckets, IDeals, IProviders, IQueue, PROVIDERS, QUEUE};

use super::{
    scene::{coins, pair, scene},
    world::{COIN, World, events, params},
};

#[test]
fn a_provider_that_deletes_climbs_the_ladder_step_by_step_and_the_deal_says_so() {
    let mut scene = scene(1024);
    let node = scene.host.node;
    let pay = U256::from(COIN) * U256::from(1024) / U256::from(1 << 20);
    for _ in 0..2 {
        scene.world.prove(&scene.host);
        scene.world.idle(10);
    }
    // It deletes what it holds: what it has left does not verify.
    scene.host.shards.get_mut(&scene.deal).unwrap()[0] = vec![0xee; 1024 * 1024];
    for step in 1..=10u64 {
        let challenge = scene.world.challenge(node);
        let proof = scene.host.prove(&challenge.samples).into();
        let call = IDeals::proveCall { provider: node, window: challenge.window, proof }.abi_encode();
        let refused = scene.world.send(scene.host.operator.address, DEALS, 0, call);
        assert!(!refused.success);
        IDeals::BadProof::abi_decode(&refused.output).expect("the typed error");
        let mut told = (Vec::new(), Vec::new(), Vec::new());
        while scene.world.window() == challenge.window {
            scene.world.idle(1);
            for receipt in &scene.world.last.receipts {
                told.0.extend(events::<IDeals::Missed>(receipt.logs()));
                told.1.extend(events::<IDeals::Slashed>(receipt.logs()));
                told.2.extend(events::<IDeals::Closed>(receipt.logs()));
            }
        }
        let standing = scene.world.standing(node);
        assert_eq!(told.0, [IDeals::Missed { provider: node, window: challenge.window, inRow: step }]);
        assert_eq!((standing.missesInRow, standing.misses, standing.suspended), (step, step, true));
        let deal = scene.deal();
        assert_eq!((deal.missedWindows, deal.owed), (step, pay * U256::from(2)), "missed windows earn nothing");
        let (collateral, slashed) = match step {
            1 | 2 => (100, 0),
            3 => (90, 1),
            4..=9 => (90, 0),
            _ => (0, 1),
        };
        assert_eq!((scene.collateral(), told.1.len()), (coins(collateral), slashed), "step {step}");
        assert_eq!((standing.closed, told.2.len()), (step == 10, usize::from(step == 10)));
        scene.world.audit();
    }
    assert_eq!(scene.world.standing(node).slashed, coins(100));
    assert_eq!(scene.world.view(QUEUE, IQueue::burnedCall {}), coins(50));

    // Closed for good: no more misses, no new deals.
    scene.miss(2);
    assert_eq!(scene.world.standing(node).misses, 10);
    let terms = vec![IDeals::Terms { provider: node, capacityBytes: 1, priceMax: COIN, escrow: 0 }];
    let call = IDeals::openCall { bucket: scene.bucket, terms }.abi_encode();
    let refused = scene.world.send(scene.owner.address, DEALS, 0, call);
    assert_eq!(refused.output, Bytes::from(IDeals::ProviderUnavailable { provider: node }.abi_encode()));

    // The deal ends when touched: two windows are paid, the rest of the escrow comes back to the unit.
    let operator = scene.host.operator.address;
    let (before, owned) = (scene.world.balance(operator), scene.world.balance(scene.owner.address));
    let touch = IDeals::touchCall { deals: vec![scene.deal] }.abi_encode();
    scene.world.must(operator, DEALS, 0, touch);
    let deal = scene.deal();
    assert_eq!((deal.state, deal.paid, deal.paidWindows, deal.missedWindows), (3, pay * U256::from(2), 2, 10));
    assert_eq!(scene.world.balance(scene.owner.address) - owned, coins(10) - pay * U256::from(2));
    assert!(scene.world.balance(operator) > before, "less gas, for it touched itself");
    let reserve = scene.world.view(DEALS, IDeals::reserveCall { bucket: scene.bucket });
    assert!(reserve <= coins(50) && coins(50) - reserve < U256::from(2 * 1024), "half is kept for repair: {reserve}");
    let bucket = scene.world.view(BUCKETS, IBuckets::getCall { id: scene.bucket });
    assert_eq!(bucket.deals, 0);
    scene.world.audit();
}

#[test]
fn slashing_is_shared_by_what_was_held_and_a_deal_opened_later_gets_nothing() {
    let (mut world, owner, mut host) = pair(params());
    let (small, first) = world.deals(&owner, 1, &[&host], COIN);
    let (large, second) = world.deals(&owner, 2, &[&host], COIN);
    let (empty, third) = world.deals(&owner, 3, &[&host], COIN);
    let posts = vec![host.add(first[0], 100, &owner), host.add(second[0], 300, &owner)];
    world.must(owner.address, DEALS, 0, IDeals::postCall { posts }.abi_encode());
    let until = world.challenge(host.node).window + 3;
    while world.window() < until {
        world.idle(1);
    }
    let deals = [first[0], second[0], third[0]].to_vec();
    world.must(owner.address, DEALS, 0, IDeals::touchCall { deals }.abi_encode());
    // A tenth of 100 coins is slashed, half of that kept: 5 coins, one to three.
    let reserve = |bucket| world.view(DEALS, IDeals::reserveCall { bucket });
    let near = |found: U256, coins: U256| found <= coins && coins - found <= U256::from(400);
    assert!(near(reserve(small), U256::from(5 * COIN / 4)));
    assert!(near(reserve(large), U256::from(15 * COIN / 4)));
    assert_eq!(reserve(empty), U256::ZERO);
    world.audit();
}

#[test]
fn a_provider_left_with_nothing_is_not_suspended_for_life() {
    let mut scene = scene(64);
    let node = scene.host.node;
    scene.world.challenge(node);
    scene.miss(1);
    assert!(scene.world.standing(node).suspended);
    scene.close();
    scene.miss(1);
    let standing = scene.world.standing(node);
    assert_eq!((standing.suspended, standing.missesInRow, standing.totalLeaves), (false, 2, 0));
    // It may hold again, and its next miss is the third in a row.
    let (_, deals) = scene.world.deals(&scene.owner, 2, &[&scene.host], COIN);
    let post = scene.host.add(deals[0], 4, &scene.owner);
    scene.world.must(scene.owner.address, DEALS, 0, IDeals::postCall { posts: vec![post] }.abi_encode());
    let deal = |world: &World| world.view(DEALS, IDeals::getCall { deal: deals[0] });
    assert_eq!(deal(&scene.world).missedWindows, 0, "what was missed before is not this deal's");
    scene.world.challenge(node);
    scene.miss(1);
    assert_eq!((scene.collateral(), deal(&scene.world).missedWindows), (coins(90), 1));
    scene.world.audit();
}

#[test]
fn a_closed_provider_takes_home_what_was_not_slashed_and_stays_closed() {
    let mut scene = scene(64);
    let (node, operator) = (scene.host.node, scene.host.operator.address);
    scene.world.challenge(node);
    scene.miss(10);
    assert!(scene.world.standing(node).closed);
    scene.world.must(operator, PROVIDERS, COIN, IProviders::depositCall { node }.abi_encode());
    let withdraw = IProviders::withdrawCall { node }.abi_encode();
    let refused = scene.world.send(operator, PROVIDERS, 0, withdraw.clone());
    assert_eq!(refused.output, Bytes::from(IProviders::DealsOpen { deals: 1 }.abi_encode()));
    scene.touch();
    scene.world.must(operator, PROVIDERS, 0, withdraw);
    assert_eq!(scene.world.balance(PROVIDERS), U256::ZERO);
    // The same key comes back under the same cloud.
    scene.world.register(&scene.host);
    assert!(scene.world.view(PROVIDERS, IProviders::getCall { node }).closed);
    scene.world.audit();
}
