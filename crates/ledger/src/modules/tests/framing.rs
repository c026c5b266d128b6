//! Try to get an honest provider slashed, unpaid or stuck, by every way to cheat we know.

use alloy_primitives::{B256, Bytes, TxKind, U256};
use alloy_sol_types::{SolCall, SolError};
use hodei_types::abi::{self, DEALS, IDeals, IProviders, PROVIDERS};

use super::{
    scene::{Scene, coins, pair, scene},
    world::{CHAIN, COIN, Person, World, events, params},
};

fn post(post: IDeals::RootPost) -> Vec<u8> {
    IDeals::postCall { posts: vec![post] }.abi_encode()
}

/// Nothing was counted against the provider, and it can still prove.
fn unharmed(scene: &mut Scene) {
    scene.world.prove(&scene.host);
    scene.world.idle(11);
    let standing = scene.world.standing(scene.host.node);
    assert_eq!((standing.misses, standing.slashed, standing.suspended), (0, U256::ZERO, false));
    assert_eq!(scene.collateral(), coins(100));
    scene.world.audit();
}

#[test]
fn statements_of_another_deal_another_chain_or_an_older_day_are_refused() {
    let mut scene = scene(8);
    let owner = scene.owner;
    let (_, others) = scene.world.deals(&owner, 2, &[&scene.host], COIN);
    let older = scene.host.statement(scene.deal, 1, &owner);
    // No proof is owed any more in this window: posts are judged by what they say.
    scene.world.prove(&scene.host);
    let newer = scene.host.add(scene.deal, 4, &owner);
    scene.world.must(owner.address, DEALS, 0, post(newer.clone()));
    let mut forged = Vec::new();
    // What was true once, and what is posted already.
    forged.push((older, IDeals::StaleSequence { deal: scene.deal, sequence: 2 }.abi_encode()));
    forged.push((newer.clone(), IDeals::StaleSequence { deal: scene.deal, sequence: 2 }.abi_encode()));
    // A big root of one deal, under the name of another.
    let foreign = IDeals::RootPost { deal: others[0], ..newer.clone() };
    forged.push((foreign, IDeals::BadProviderSignature { deal: others[0] }.abi_encode()));
    // The provider signed it, for another network.
    let mut elsewhere = IDeals::RootPost { sequence: 9, ..newer.clone() };
    let statement = abi::root_statement(CHAIN + 1, scene.deal, 9, elsewhere.position, elsewhere.root, elsewhere.leaves);
    elsewhere.providerSignature = scene.host.sign(&statement);
    elsewhere.ownerSignature = owner.sign(&statement);
    forged.push((elsewhere, IDeals::BadProviderSignature { deal: scene.deal }.abi_encode()));
    // More leaves, another root, a later sequence than the provider put its name to.
    for change in [
        IDeals::RootPost { sequence: 3, leaves: newer.leaves + 1000, ..newer.clone() },
        IDeals::RootPost { sequence: 3, root: B256::repeat_byte(9), ..newer.clone() },
        IDeals::RootPost { sequence: 3, ..newer.clone() },
    ] {
        forged.push((change, IDeals::BadProviderSignature { deal: scene.deal }.abi_encode()));
    }
    // By the owner, whose own signature is not asked for then.
    let unsigned = |entry: &IDeals::RootPost| IDeals::RootPost { ownerSignature: Bytes::new(), ..entry.clone() };
    let txs: Vec<_> = forged
        .iter()
        .map(|(entry, _)| scene.world.tx(owner.address, TxKind::Call(DEALS), U256::ZERO, post(unsigned(entry))))
        .collect();
    for (done, (_, error)) in scene.world.block_after(1000, &txs).into_iter().zip(forged) {
        assert_eq!(done.unwrap().output, Bytes::from(error));
    }
    assert_eq!((scene.deal().sequence, scene.deal().leaves), (2, 12));
    unharmed(&mut scene);
}

#[test]
fn a_deal_may_not_claim_more_than_was_agreed() {
    let mut scene = scene(8);
    // Both sign, and still the capacity binds: a drawn leaf must be one the provider has room for.
    let most = (1u64 << 24) / 1024;
    let leaves = most + most / 8 + 1025;
    let root = B256::repeat_byte(1);
    let statement = abi::root_statement(CHAIN, scene.deal, 2, 1, root, leaves);
    let entry = IDeals::RootPost {
        deal: scene.deal,
        sequence: 2,
        position: 1,
        root,
        leaves,
        providerSignature: scene.host.sign(&statement),
        ownerSignature: scene.owner.sign(&statement),
    };
    let refused = scene.world.send(scene.owner.address, DEALS, 0, post(entry));
    assert_eq!(refused.output, Bytes::from(IDeals::CapacityExceeded { freeBytes: 1 << 24 }.abi_encode()));
    unharmed(&mut scene);
}

#[test]
fn settling_twice_pays_once() {
    let mut scene = scene(1024);
    let pay = U256::from(COIN) * U256::from(1024) / U256::from(1 << 20);
    scene.world.prove(&scene.host);
    let operator = scene.host.operator.address;
    let before = scene.world.balance(operator);
    let touch = IDeals::touchCall { deals: vec![scene.deal; 5] }.abi_encode();
    let applied = scene.world.must(scene.owner.address, DEALS, 0, touch.clone());
    assert_eq!(events::<IDeals::Paid>(&applied.logs).len(), 1);
    scene.world.must(scene.owner.address, DEALS, 0, touch);
    assert_eq!(scene.world.balance(operator) - before, pay);
    assert_eq!(U256::from(scene.deal().escrow), coins(10) - pay);
    unharmed(&mut scene);
}

#[test]
fn a_proof_counts_once_whoever_sends_it_first() {
    let mut scene = scene(64);
    let challenge = scene.world.challenge(scene.host.node);
    let proof: Bytes = scene.host.prove(&challenge.samples).into();
    let call = IDeals::proveCall { provider: scene.host.node, window: challenge.window, proof }.abi_encode();
    // A stranger saw it waiting and goes first in the same block; the provider's own reverts and costs nothing
    // but its gas.
    let first = scene.world.tx(scene.owner.address, TxKind::Call(DEALS), U256::ZERO, call.clone());
    let second = scene.world.tx(scene.host.operator.address, TxKind::Call(DEALS), U256::ZERO, call);
    let mut done = scene.world.block_after(1000, &[first, second]).into_iter();
    assert!(done.next().unwrap().unwrap().success);
    let late = done.next().unwrap().unwrap();
    assert_eq!(late.output, Bytes::from(IDeals::AlreadyProven { window: challenge.window }.abi_encode()));
    scene.world.idle(11);
    let standing = scene.world.standing(scene.host.node);
    assert_eq!((standing.proven, standing.misses), (1, 0));
}

#[test]
fn closing_early_pays_what_was_proven_and_takes_back_the_rest() {
    let mut scene = scene(1024);
    let pay = U256::from(COIN) * U256::from(1024) / U256::from(1 << 20);
    scene.world.prove(&scene.host);
    let before = scene.world.balance(scene.host.operator.address);
    let applied = scene.close();
    let ended = events::<IDeals::Ended>(&applied.logs);
    assert_eq!(ended[0].refund, coins(10) - pay);
    assert_eq!(scene.world.balance(scene.host.operator.address) - before, pay);
    assert_eq!((scene.deal().state, scene.deal().escrow, scene.deal().missedWindows), (3, 0, 0));
    scene.world.idle(30);
    assert_eq!(scene.world.standing(scene.host.node).misses, 0);
    // Nothing is left to do to it.
    for call in [
        IDeals::closeCall { deals: vec![scene.deal] }.abi_encode(),
        IDeals::touchCall { deals: vec![scene.deal] }.abi_encode(),
        IDeals::topUpCall { deal: scene.deal }.abi_encode(),
    ] {
        let refused = scene.world.send(scene.owner.address, DEALS, 0, call);
        assert_eq!(refused.output, Bytes::from(IDeals::NotOpen { deal: scene.deal }.abi_encode()));
    }
    assert_eq!(scene.world.balance(DEALS), U256::ZERO);
    scene.world.audit();
}

#[test]
fn closing_many_deals_under_a_challenge_harms_nobody_who_keeps_answering() {
    let (mut world, owner, mut host) = pair(params());
    let mut deals = Vec::new();
    let mut posts = Vec::new();
    for salt in 0..40 {
        let (_, opened) = world.deals(&owner, 1 + salt, &[&host], COIN);
        posts.push(host.add(opened[0], 4, &owner));
        deals.push(opened[0]);
    }
    world.must(owner.address, DEALS, 0, IDeals::postCall { posts }.abi_encode());
    world.challenge(host.node);
    world.must(owner.address, DEALS, 0, IDeals::closeCall { deals: deals.clone() }.abi_encode());
    // They leave sixteen at a time; until a deal has ended, its leaves are asked for and paid.
    let mut windows = 0;
    while world.standing(host.node).totalLeaves > 0 {
        world.prove(&host);
        windows += 1;
        assert!(windows <= 3);
        world.idle(3);
    }
    for id in &deals {
        let deal = world.view(DEALS, IDeals::getCall { deal: *id });
        assert_eq!((deal.state, deal.escrow, deal.missedWindows), (3, 0, 0));
        assert!(!deal.paid.is_zero());
    }
    let standing = world.standing(host.node);
    assert_eq!((standing.misses, standing.deals), (0, 0));
    assert_eq!(world.balance(DEALS), U256::ZERO);
    world.audit();
}

#[test]
fn a_closing_deal_can_be_ended_by_anybody_once_the_proof_is_in() {
    let mut scene = scene(64);
    scene.world.challenge(scene.host.node);
    scene.close();
    // As long as the proof is owed it stays, whoever touches it.
    scene.touch();
    assert_eq!(scene.deal().state, 2);
    let again = IDeals::closeCall { deals: vec![scene.deal] }.abi_encode();
    assert!(!scene.world.send(scene.owner.address, DEALS, 0, again).success);
    scene.world.prove(&scene.host);
    assert_eq!(scene.deal().state, 3);
    scene.world.audit();
}

#[test]
fn a_client_who_refuses_to_sign_takes_room_until_the_operator_says_no() {
    let mut scene = scene(0);
    // All capacity taken, nothing paid, nothing posted: no challenge, no miss, and the operator ends it.
    scene.world.idle(40);
    let standing = scene.world.standing(scene.host.node);
    assert_eq!((standing.misses, standing.totalLeaves), (0, 0));
    let before = scene.world.balance(scene.owner.address);
    let close = IDeals::closeCall { deals: vec![scene.deal] }.abi_encode();
    scene.world.must(scene.host.operator.address, DEALS, 0, close);
    assert_eq!(scene.world.balance(scene.owner.address) - before, coins(10), "the client gets its coin back");
    let provider = scene.world.view(PROVIDERS, IProviders::getCall { node: scene.host.node });
    assert_eq!((provider.usedBytes, provider.deals), (0, 0));
    scene.world.audit();
}

#[test]
fn strangers_may_not_end_or_open_what_is_not_theirs() {
    let mut scene = scene(64);
    let stranger = Person::new(7).address;
    scene.world.must(scene.owner.address, stranger, 100 * COIN, Vec::new());
    let close = IDeals::closeCall { deals: vec![scene.deal] }.abi_encode();
    let refused = scene.world.send(stranger, DEALS, 0, close);
    assert_eq!(refused.output, Bytes::from(IDeals::NotParty { deal: scene.deal }.abi_encode()));
    let terms = vec![IDeals::Terms { provider: scene.host.node, capacityBytes: 1, priceMax: COIN, escrow: 1 }];
    let open = IDeals::openCall { bucket: scene.bucket, terms }.abi_encode();
    let refused = scene.world.send(stranger, DEALS, 1, open);
    assert_eq!(refused.output, Bytes::from(IDeals::NotOwner { owner: scene.owner.address }.abi_encode()));
    for call in [
        IProviders::retireCall { node: scene.host.node }.abi_encode(),
        IProviders::withdrawCall { node: scene.host.node }.abi_encode(),
        IProviders::updateCall { node: scene.host.node, offer: scene.host.offer() }.abi_encode(),
    ] {
        let refused = scene.world.send(stranger, PROVIDERS, 0, call);
        let error = IProviders::NotOperator { operator: scene.host.operator.address };
        assert_eq!(refused.output, Bytes::from(error.abi_encode()));
    }
    unharmed(&mut scene);
}

#[test]
fn the_operator_may_not_leave_what_is_paid_for() {
    let mut scene = scene(64);
    let operator = scene.host.operator.address;
    scene.world.challenge(scene.host.node);
    let close = IDeals::closeCall { deals: vec![scene.deal] }.abi_encode();
    assert!(!scene.world.send(operator, DEALS, 0, close).success);
    scene.world.must(operator, PROVIDERS, 0, IProviders::retireCall { node: scene.host.node }.abi_encode());
    let withdraw = IProviders::withdrawCall { node: scene.host.node }.abi_encode();
    let refused = scene.world.send(operator, PROVIDERS, 0, withdraw);
    assert_eq!(refused.output, Bytes::from(IProviders::DealsOpen { deals: 1 }.abi_encode()));
    scene.miss(3);
    assert_eq!(scene.collateral(), coins(90), "retired or not, what is held is asked for");
    scene.world.audit();
}

#[test]
fn an_escrow_that_runs_out_is_paid_to_the_unit_and_touching_often_changes_nothing() {
    let (mut world, owner, mut host) = pair(params());
    let operator = host.operator;
    // A price that divides badly: 1,000 leaves earn 953.67… wei a window.
    let offer = IProviders::Offer { priceStore: 1_000_003, ..host.offer() };
    world.must(operator.address, PROVIDERS, 0, IProviders::updateCall { node: host.node, offer }.abi_encode());
    let exact = |windows: u64| U256::from(1_000_003u64 * 1000 * windows) / U256::from(1 << 20);
    let escrow = exact(5).to::<u128>() + 400;
    let (_, often) = world.deals(&owner, 1, &[&host], escrow);
    let (_, never) = world.deals(&owner, 2, &[&host], escrow);
    let posts = vec![host.add(often[0], 1000, &owner), host.add(never[0], 1000, &owner)];
    world.must(owner.address, DEALS, 0, IDeals::postCall { posts }.abi_encode());
    let deal = |world: &World, id| world.view(DEALS, IDeals::getCall { deal: id });
    for window in 1..=8u64 {
        world.prove(&host);
        world.must(owner.address, DEALS, 0, IDeals::touchCall { deals: often.clone() }.abi_encode());
        let paid = exact(window).min(U256::from(escrow));
        assert_eq!((deal(&world, often[0]).paid, deal(&world, often[0]).owed), (paid, U256::ZERO));
        assert_eq!((deal(&world, never[0]).paid, deal(&world, never[0]).owed), (U256::ZERO, paid));
        world.idle(6);
    }
    // Nobody came for eight windows; both ways the provider has the whole escrow, and no more.
    world.must(operator.address, DEALS, 0, IDeals::touchCall { deals: never.clone() }.abi_encode());
    for id in [often[0], never[0]] {
        let deal = deal(&world, id);
        assert_eq!((deal.paid, deal.escrow, deal.state), (U256::from(escrow), 0, 1));
    }
    // The owner tops up: only what is proven from now on is paid. Closing gives back the rest to the unit.
    world.must(owner.address, DEALS, 10_000, IDeals::topUpCall { deal: often[0] }.abi_encode());
    world.prove(&host);
    let closed = world.must(owner.address, DEALS, 0, IDeals::closeCall { deals: often.clone() }.abi_encode());
    let paid: U256 = events::<IDeals::Paid>(&closed.logs).iter().map(|paid| paid.amount).sum();
    assert!(paid == exact(1) || paid == exact(1) + U256::from(1), "{paid}");
    assert_eq!(events::<IDeals::Ended>(&closed.logs)[0].refund, U256::from(10_000) - paid);
    // The other is used up: its operator may go.
    world.must(operator.address, DEALS, 0, IDeals::closeCall { deals: never }.abi_encode());
    assert_eq!(world.balance(DEALS), U256::ZERO);
    assert_eq!(world.standing(host.node).misses, 0);
    world.audit();
}
