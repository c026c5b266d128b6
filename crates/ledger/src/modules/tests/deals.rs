//! Follow deals through payment, misses, slashing and every way to cheat we know.

use alloy_primitives::{B256, Bytes, U256};
use alloy_sol_types::{SolCall, SolError};
use hodei_types::abi::{DEALS, IDeals};

use super::{
    scene::{Scene, coins, pair, scene, scene_by},
    world::{COIN, Person, WINDOW_MS, World, events, params},
};

#[test]
fn each_proven_window_pays_for_what_was_proven() {
    let mut scene = scene(1024);
    let pay = U256::from(COIN) * U256::from(1024) / U256::from(1 << 20);
    for n in 1..=3u64 {
        scene.world.prove(&scene.host);
        assert_eq!(scene.deal().owed, pay * U256::from(n));
        scene.world.idle(10);
    }
    let operator = scene.host.operator.address;
    let before = scene.world.balance(operator);
    scene.touch();
    assert_eq!(scene.world.balance(operator) - before, pay * U256::from(3));
    let deal = scene.deal();
    assert_eq!((deal.owed, deal.paidWindows, deal.paid), (U256::ZERO, 3, pay * U256::from(3)));
    assert_eq!(U256::from(deal.escrow), coins(10) - deal.paid);
    assert_eq!(scene.world.standing(scene.host.node).misses, 0);
    scene.world.audit();
}

#[test]
fn pay_stops_at_the_escrow_and_the_operator_may_then_leave() {
    let mut scene = scene(1024);
    let dust = {
        // 1,024 leaves at 1 coin per GiB and window: 10,240 windows would use it up; take a poor deal instead.
        let (_, deals) = scene.world.deals(&scene.owner, 2, &[&scene.host], 1);
        deals[0]
    };
    let post = scene.host.add(dust, 4, &scene.owner);
    scene.world.must(scene.owner.address, DEALS, 0, IDeals::postCall { posts: vec![post] }.abi_encode());
    let operator = scene.host.operator.address;
    let close = IDeals::closeCall { deals: vec![scene.deal] }.abi_encode();
    let refused = scene.world.send(operator, DEALS, 0, close);
    assert_eq!(refused.output, Bytes::from(IDeals::NotParty { deal: scene.deal }.abi_encode()));
    scene.world.prove(&scene.host);
    scene.world.must(operator, DEALS, 0, IDeals::closeCall { deals: vec![dust] }.abi_encode());
    let deal = scene.world.view(DEALS, IDeals::getCall { deal: dust });
    assert_eq!((deal.state, deal.paid, deal.escrow), (3, U256::from(1), 0));
    scene.world.audit();
}

#[test]
fn a_proof_ends_a_suspension_and_the_count_in_a_row() {
    let mut scene = scene(64);
    scene.world.challenge(scene.host.node);
    scene.miss(2);
    scene.world.prove(&scene.host);
    let standing = scene.world.standing(scene.host.node);
    assert_eq!((standing.suspended, standing.missesInRow, standing.misses), (false, 0, 2));
    scene.miss(2);
    assert_eq!(scene.collateral(), coins(100), "two in a row, again, slash nothing");
}

#[test]
fn windows_follow_the_active_clock() {
    let owner = Person::new(1);
    let mut world = World::new(&[owner.address]);
    assert_eq!(world.window(), 1);
    world.idle(WINDOW_MS / 1000 - 1);
    assert_eq!(world.window(), 1);
    world.idle(1);
    let window = world.view(DEALS, IDeals::windowCall {});
    assert_eq!((window.index, window.seed), (2, B256::ZERO), "its seed is not known in its own block");
    world.idle(1);
    let window = world.view(DEALS, IDeals::windowCall {});
    assert_ne!(window.seed, B256::ZERO);
    world.idle(1);
    assert_eq!(world.view(DEALS, IDeals::windowCall {}).seed, window.seed);
}

#[test]
fn a_bad_proof_reverts_and_counts_as_nothing() {
    let mut scene = scene(64);
    let node = scene.host.node;
    let challenge = scene.world.challenge(node);
    let good = scene.host.prove(&challenge.samples);
    let before = scene.world.standing(node);
    let stranger = scene.owner.address;
    let mut bad = vec![Vec::new(), good[..good.len() - 1].to_vec(), [good.clone(), vec![0]].concat()];
    for at in [0, 4, 60, good.len() / 2, good.len() - 1] {
        bad.push(good.clone());
        bad.last_mut().unwrap()[at] ^= 1;
    }
    for proof in bad {
        let call = IDeals::proveCall { provider: node, window: challenge.window, proof: proof.into() };
        let applied = scene.world.send(stranger, DEALS, 0, call.abi_encode());
        assert!(!applied.success);
        // The window may end meanwhile; only its own end may count.
        if scene.world.window() != challenge.window {
            break;
        }
        IDeals::BadProof::abi_decode(&applied.output).expect("the typed error");
        assert_eq!(scene.world.standing(node), before);
    }
    let wrong = IDeals::proveCall { provider: node, window: challenge.window + 9, proof: good.into() };
    assert!(!scene.world.send(stranger, DEALS, 0, wrong.abi_encode()).success);
    scene.world.prove(&scene.host);
    scene.world.audit();
}

#[test]
fn a_provider_that_lost_a_shard_cannot_prove() {
    let mut scene = scene(64);
    scene.host.shards.get_mut(&scene.deal).unwrap()[0] = vec![0xee; 64 * 1024];
    let challenge = scene.world.challenge(scene.host.node);
    let proof = scene.host.prove(&challenge.samples).into();
    let call = IDeals::proveCall { provider: scene.host.node, window: challenge.window, proof };
    assert!(!scene.world.send(scene.host.operator.address, DEALS, 0, call.abi_encode()).success);
    scene.miss(1);
    assert_eq!(scene.world.standing(scene.host.node).misses, 1);
    assert_eq!(scene.deal().owed, U256::ZERO);
}

#[test]
fn roots_stand_still_while_a_proof_is_owed() {
    let mut scene = scene(64);
    let challenge = scene.world.challenge(scene.host.node);
    let post = scene.host.add(scene.deal, 4, &scene.owner);
    let call = IDeals::postCall { posts: vec![post] }.abi_encode();
    let refused = scene.world.send(scene.owner.address, DEALS, 0, call.clone());
    let error = IDeals::ChallengeOpen { provider: scene.host.node, window: challenge.window };
    assert_eq!(refused.output, Bytes::from(error.abi_encode()));
    let added = scene.host.shards.get_mut(&scene.deal).unwrap().pop().unwrap();
    scene.world.prove(&scene.host);
    scene.host.shards.get_mut(&scene.deal).unwrap().push(added);
    scene.world.must(scene.owner.address, DEALS, 0, call);
    assert_eq!((scene.deal().leaves, scene.deal().sequence), (68, 2));
    scene.world.idle(10);
    scene.world.prove(&scene.host);
}

#[test]
fn a_deal_closed_under_challenge_ends_after_the_proof_and_is_paid() {
    let mut scene = scene(1024);
    scene.world.challenge(scene.host.node);
    scene.close();
    assert_eq!(scene.deal().state, 2);
    let applied = scene.world.prove(&scene.host);
    assert_eq!(events::<IDeals::Ended>(&applied.logs).len(), 1);
    let deal = scene.deal();
    assert_eq!((deal.state, deal.paidWindows), (3, 1));
    assert_eq!(scene.world.standing(scene.host.node).totalLeaves, 0);
    scene.world.idle(25);
    assert_eq!(scene.world.standing(scene.host.node).misses, 0, "who holds nothing is asked nothing");
    scene.world.audit();
}

#[test]
fn a_deal_with_a_dead_provider_still_ends() {
    let mut scene = scene(64);
    scene.world.challenge(scene.host.node);
    scene.close();
    scene.miss(1);
    assert_eq!(scene.deal().state, 3);
    assert_eq!(scene.world.view(DEALS, IDeals::ofBucketCall { bucket: scene.bucket }), Vec::<u64>::new());
    scene.world.audit();
}

#[test]
fn only_what_both_sides_signed_counts() {
    let mut scene = scene(8);
    let (owner, operator, stranger) = (scene.owner, scene.host.operator, Person::new(9));
    let good = scene.host.add(scene.deal, 4, &owner);
    let mut forged = Vec::new();
    let mut post = good.clone();
    post.leaves += 1;
    forged.push((owner.address, post));
    let mut post = good.clone();
    post.ownerSignature = stranger.sign(b"anything");
    forged.push((owner.address, post));
    // The operator may leave out its own signature, not the owner's.
    let mut post = good.clone();
    (post.providerSignature, post.ownerSignature) = (Bytes::new(), Bytes::new());
    forged.push((operator.address, post.clone()));
    forged.push((owner.address, post));
    let mut post = good.clone();
    post.sequence = 1;
    forged.push((owner.address, post));
    for (from, post) in forged {
        let call = IDeals::postCall { posts: vec![good.clone(), post] }.abi_encode();
        assert!(!scene.world.send(from, DEALS, 0, call).success);
        assert_eq!(scene.deal().sequence, 1, "all or none");
    }
    let mut by_operator = good;
    by_operator.providerSignature = Bytes::new();
    scene.world.must(operator.address, DEALS, 0, IDeals::postCall { posts: vec![by_operator] }.abi_encode());
    assert_eq!(scene.deal().leaves, 12);
}

#[test]
fn many_deals_share_one_challenge_and_places_are_used_again() {
    let (mut world, owner, mut host) = pair(params());
    let mut open = Vec::new();
    for round in 0..12u8 {
        let (_, deals) = world.deals(&owner, 1 + round, &[&host], COIN);
        let post = host.add(deals[0], 4 * (1 + usize::from(round) % 5), &owner);
        // Posts are refused while a proof is owed: answer, and post again.
        let call = IDeals::postCall { posts: vec![post] }.abi_encode();
        while !world.send(owner.address, DEALS, 0, call.clone()).success {
            let kept = host.shards.remove(&deals[0]).unwrap();
            world.prove(&host);
            host.shards.insert(deals[0], kept);
        }
        open.push(deals[0]);
        if round % 3 == 2 {
            let gone = open.remove(usize::from(round) % open.len());
            world.must(owner.address, DEALS, 0, IDeals::closeCall { deals: vec![gone] }.abi_encode());
        }
        let challenge = world.challenge(host.node);
        let live: Vec<_> = open.iter().map(|id| world.view(DEALS, IDeals::getCall { deal: *id })).collect();
        for sample in &challenge.samples {
            assert!(sample.leaf < sample.leaves);
            if let Some(deal) = live.iter().find(|deal| deal.id == sample.deal) {
                assert_eq!((deal.root, deal.leaves), (sample.root, sample.leaves));
            }
        }
        world.prove(&host);
    }
    let total: u64 = open.iter().map(|id| world.view(DEALS, IDeals::getCall { deal: *id }).leaves).sum();
    assert_eq!(world.standing(host.node).totalLeaves, total);
    assert_eq!(world.standing(host.node).misses, 0);
    world.audit();
}

#[test]
fn a_demo_network_slashes_at_the_first_miss() {
    let mut rules = params();
    rules.slashing.part_misses = 1;
    let Scene { mut world, host, .. } = scene_by(rules, COIN, 4);
    let challenge = world.challenge(host.node);
    let mut slashed = Vec::new();
    while world.window() == challenge.window {
        world.idle(1);
        slashed.extend(world.last.receipts.iter().flat_map(|r| events::<IDeals::Slashed>(r.logs())));
    }
    assert_eq!(slashed.len(), 1, "the system transaction tells it in the block the window ends");
    assert_eq!(slashed[0].amount, coins(10));
    world.audit();
}

#[test]
fn one_percent_missing_is_drawn_in_three_of_four_weeks_of_daily_windows() {
    let mut rules = params();
    // Windows as short as they get, and no ladder: only what is drawn is looked at.
    rules.window_ms = 1;
    (rules.slashing.part_misses, rules.slashing.all_misses) = (u32::MAX, u32::MAX);
    let Scene { mut world, host, .. } = scene_by(rules, COIN, 1000);
    let (mut found, mut drawn) = (0, vec![0u32; 10]);
    for _week in 0..400 {
        let mut is_found = false;
        for _day in 0..7 {
            let challenge = world.challenge(host.node);
            for sample in &challenge.samples {
                is_found |= (500..510).contains(&sample.leaf);
                drawn[sample.leaf as usize / 100] += 1;
            }
            while world.window() == challenge.window {
                world.idle(1);
            }
        }
        found += u32::from(is_found);
    }
    // 1 - 0.99^140 = 75.5 %; no part of what is held is favoured.
    assert!((280..=320).contains(&found), "{found} of 400");
    assert!(drawn.iter().all(|n| (5300..=5900).contains(n)), "{drawn:?}");
}
