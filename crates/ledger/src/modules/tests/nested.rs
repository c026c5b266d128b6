//! Undo what a module wrote, however deep the call and whatever undoes it.

use alloy_primitives::{Address, B256, Bytes, TxKind, U256, hex};
use alloy_sol_types::{SolCall, SolError};
use hodei_types::abi::{
    ANCHORS, BUCKETS, BUDGETS, DEALS, IAnchors, IBuckets, IBudgets, IDeals, ILeases, IMarket, IModule, IProviders,
    IQueue, ITabs, LEASES, MARKET, MODULES, PROVIDERS, QUEUE, TABS,
};

use super::{
    calls::{CALL, CALLCODE, DELEGATECALL, STATICCALL, create, deploy, relay},
    scene::{coins, pair, scene},
    world::{COIN, Host, Person, World, params},
};

#[test]
fn what_an_inner_call_undid_is_undone_though_the_outer_one_goes_on() {
    let a = Person::new(1).address;
    let mut world = World::new(&[a]);
    // a → outer → inner, which reverts → module.
    let inner = deploy(&mut world, a, relay(BUCKETS, CALL, true));
    let outer = deploy(&mut world, a, relay(inner, CALL, false));
    let applied = world.must(a, outer, 0, create(1));
    assert_eq!(applied.output[31], 0, "the inner call reverted");
    assert_eq!(applied.output[32 + 31], 1, "the module itself had succeeded");
    assert!(applied.logs.is_empty());
    assert_eq!(world.view(BUCKETS, IBuckets::countCall { owner: inner }), 0);
    // And three deep, with nothing undone but the innermost: the bucket is the one's who called the module.
    let kept = deploy(&mut world, a, relay(BUCKETS, CALL, false));
    let outer = deploy(&mut world, a, relay(kept, CALL, false));
    assert_eq!(world.must(a, outer, 0, create(1)).logs.len(), 2);
    assert_eq!(world.view(BUCKETS, IBuckets::countCall { owner: kept }), 1);
    world.audit();
}

#[test]
fn gas_that_runs_out_undoes_as_a_revert_does() {
    let a = Person::new(1).address;
    let mut world = World::new(&[a]);
    let before = world.balance(a);
    let whole = world.simulate(&crate::execute::Call {
        from: a,
        to: Some(BUCKETS),
        data: create(1).into(),
        ..crate::execute::Call::default()
    });
    assert!(whole.success);
    // Each amount of gas, from too little to enough: all of it happens, or nothing.
    let mut succeeded = 0;
    for gas in (40_000..=whole.gas_peak + 10_000).step_by(10_000) {
        let mut tx = world.tx(a, TxKind::Call(BUCKETS), U256::ZERO, create(1));
        super::world::limit_gas(&mut tx, gas);
        let applied = world.block_after(1000, &[tx]).remove(0).unwrap();
        assert_eq!(applied.logs.is_empty(), !applied.success);
        succeeded += u64::from(applied.success);
        assert_eq!(world.view(BUCKETS, IBuckets::countCall { owner: a }), succeeded);
        if applied.success {
            break;
        }
        assert_eq!(applied.gas_used, gas, "a call that runs dry has used all");
    }
    assert_eq!(succeeded, 1);
    assert!(world.balance(a) < before);
    world.audit();
}

#[test]
fn coin_moved_by_a_call_that_is_undone_is_back() {
    let (mut world, owner, host) = pair(params());
    let relays = [(true, 0), (false, 5)]
        .map(|(reverts, coins)| (deploy(&mut world, owner.address, pay_relay(PROVIDERS, reverts)), coins));
    for (relay, coins) in relays {
        let before = world.balance(PROVIDERS);
        let deposit = IProviders::depositCall { node: host.node }.abi_encode();
        let applied = world.send(owner.address, relay, 5 * COIN, deposit);
        assert_eq!(applied.success, coins > 0);
        assert_eq!(world.balance(PROVIDERS) - before, U256::from(coins * COIN));
        assert_eq!(world.balance(relay), U256::ZERO);
        let shown = world.view(PROVIDERS, IProviders::getCall { node: host.node });
        assert_eq!(shown.collateral, world.balance(PROVIDERS));
        world.audit();
    }
}

#[test]
fn a_proof_inside_a_reverted_call_was_not_given_and_can_be_given_again() {
    let mut scene = scene(64);
    let a = scene.owner.address;
    let contract = deploy(&mut scene.world, a, relay(DEALS, CALL, true));
    let challenge = scene.world.challenge(scene.host.node);
    let proof = scene.host.prove(&challenge.samples).into();
    let call = IDeals::proveCall { provider: scene.host.node, window: challenge.window, proof }.abi_encode();
    let applied = scene.world.send(a, contract, 0, call.clone());
    assert_eq!((applied.success, applied.output[31]), (false, 1));
    assert_eq!(scene.world.standing(scene.host.node).proven, 0);
    scene.world.must(a, DEALS, 0, call);
    assert_eq!(scene.world.standing(scene.host.node).proven, 1);
}

#[test]
fn a_slashing_inside_a_reverted_call_burns_nothing_until_it_is_done_again() {
    let mut scene = scene(64);
    let a = scene.owner.address;
    let reverting = deploy(&mut scene.world, a, relay(DEALS, CALL, true));
    scene.world.challenge(scene.host.node);
    scene.miss(2);
    let window = scene.world.window();
    // The block in which the third miss is due, without the ledger's own work: as when too much falls due.
    let touch = IDeals::touchCall { deals: vec![scene.deal] }.abi_encode();
    let state =
        |world: &World| (world.balance(PROVIDERS), world.balance(DEALS), world.view(QUEUE, IQueue::burnedCall {}));
    while scene.world.window() == window {
        let before = state(&scene.world);
        let tx = scene.world.tx(a, TxKind::Call(reverting), U256::ZERO, touch.clone());
        let applied = scene.world.unworked_block(1000, &[tx]).remove(0).unwrap();
        assert_eq!((applied.success, applied.output[31]), (false, 1));
        assert_eq!(state(&scene.world), before);
        scene.world.audit();
    }
    let tx = scene.world.tx(a, TxKind::Call(DEALS), U256::ZERO, touch);
    assert!(scene.world.unworked_block(1000, &[tx]).remove(0).unwrap().success);
    assert_eq!((scene.collateral(), state(&scene.world).2), (coins(90), coins(5)));
    scene.world.audit();
    // The ledger's own look finds it judged.
    scene.world.idle(1);
    assert_eq!((scene.collateral(), scene.world.standing(scene.host.node).misses), (coins(90), 3));
    scene.world.audit();
}

#[test]
fn every_function_that_writes_refuses_static_delegated_and_borrowed_calls() {
    let a = Person::new(1);
    let mut world = World::new(&[a.address]);
    let node = B256::repeat_byte(1);
    let none = Bytes::new;
    let offer = Host::new(1, a).offer();
    let shape = IBuckets::Shape { k: 3, n: 6, t: 1, operators: 0, networks: 0, zones: 0, shardBytes: 4096, codeId: 1 };
    let id = B256::ZERO;
    let kept = IBuckets::commitKeptCall { id, term: 1, expected: id, root: id, sizeBytes: 0, kept: Vec::new() };
    let calls: Vec<(Address, Vec<u8>)> = vec![
        (BUDGETS, IBudgets::registerCall { spender: a.address, consent: none() }.abi_encode()),
        (BUDGETS, IBudgets::fundCall { spender: a.address }.abi_encode()),
        (BUDGETS, IBudgets::reclaimCall { spender: a.address, amount: U256::ZERO }.abi_encode()),
        (BUDGETS, IBudgets::releaseCall { spender: a.address }.abi_encode()),
        (PROVIDERS, IProviders::registerCall { node, offer: offer.clone(), possession: none() }.abi_encode()),
        (PROVIDERS, IProviders::updateCall { node, offer }.abi_encode()),
        (PROVIDERS, IProviders::depositCall { node }.abi_encode()),
        (PROVIDERS, IProviders::retireCall { node }.abi_encode()),
        (PROVIDERS, IProviders::withdrawCall { node }.abi_encode()),
        (BUCKETS, IBuckets::createCall { salt: id, shape: shape.clone(), blocks: 1 }.abi_encode()),
        (BUCKETS, IBuckets::claimCall { id, blocks: 1 }.abi_encode()),
        (BUCKETS, IBuckets::commitCall { id, term: 1, expected: id, root: id, sizeBytes: 0 }.abi_encode()),
        (BUCKETS, kept.abi_encode()),
        (BUCKETS, IBuckets::lapseCall { id, leaves: Vec::new() }.abi_encode()),
        (BUCKETS, IBuckets::reshapeCall { id, term: 1, shape }.abi_encode()),
        (BUCKETS, IBuckets::removeCall { id }.abi_encode()),
        (BUCKETS, IBuckets::appointCall { id, custodian: a.address }.abi_encode()),
        (BUCKETS, IBuckets::dismissCall { id, custodian: a.address }.abi_encode()),
        (BUCKETS, IBuckets::layCall { id, expected: id, overlay: id }.abi_encode()),
        (DEALS, IDeals::openCall { bucket: id, terms: Vec::new() }.abi_encode()),
        (DEALS, IDeals::postCall { posts: Vec::new() }.abi_encode()),
        (DEALS, IDeals::proveCall { provider: node, window: 1, proof: none() }.abi_encode()),
        (DEALS, IDeals::touchCall { deals: Vec::new() }.abi_encode()),
        (DEALS, IDeals::topUpCall { deal: 1 }.abi_encode()),
        (DEALS, IDeals::resizeCall { deals: Vec::new() }.abi_encode()),
        (DEALS, IDeals::closeCall { deals: Vec::new() }.abi_encode()),
        (DEALS, IDeals::fundCall { bucket: id }.abi_encode()),
        (DEALS, IDeals::withdrawCall { bucket: id, amount: U256::MAX }.abi_encode()),
        (DEALS, IDeals::setWageCall { bucket: id, perGib: 1, perDay: 1 }.abi_encode()),
        (ANCHORS, IAnchors::anchorCall { leaf: b"x".into() }.abi_encode()),
        (TABS, ITabs::openCall { salt: id, bucket: id, root: id, gwei: 1, termMs: 0 }.abi_encode()),
        (TABS, ITabs::claimCall { claims: Vec::new() }.abi_encode()),
        (TABS, ITabs::closeCall { tabs: Vec::new() }.abi_encode()),
        (MARKET, super::market::register(&Host::new(1, a), super::market::offer(1))),
        (MARKET, IMarket::updateCall { node, offer: super::market::offer(1) }.abi_encode()),
        (MARKET, IMarket::depositCall { node }.abi_encode()),
        (MARKET, IMarket::retireCall { node }.abi_encode()),
        (MARKET, IMarket::withdrawCall { node }.abi_encode()),
        (MARKET, IMarket::orderCall { terms: super::market::terms(1) }.abi_encode()),
        (MARKET, IMarket::fillCall { id: 1 }.abi_encode()),
        (MARKET, IMarket::cancelCall { id: 1 }.abi_encode()),
        (MARKET, IMarket::lendCall { lease: 1, prices: Default::default(), preemptibleBp: 1 }.abi_encode()),
        (MARKET, IMarket::recallCall { lease: 1 }.abi_encode()),
        (LEASES, ILeases::touchCall { leases: Vec::new() }.abi_encode()),
        (LEASES, ILeases::endCall { leases: Vec::new() }.abi_encode()),
        (LEASES, ILeases::quitCall { leases: Vec::new() }.abi_encode()),
        (LEASES, ILeases::renewCall { lease: 1 }.abi_encode()),
        (LEASES, ILeases::unreachableCall { lease: 1, round: 1, signatures: Vec::new() }.abi_encode()),
        (LEASES, ILeases::aliveCall { lease: 1, generation: 1, signature: Default::default() }.abi_encode()),
    ];
    for op in [STATICCALL, DELEGATECALL, CALLCODE] {
        let relays = MODULES.map(|module| (module, deploy(&mut world, a.address, relay(module, op, false))));
        for (module, call) in &calls {
            let relay = relays.iter().find(|(to, _)| to == module).unwrap().1;
            let inner = world.must(a.address, relay, 0, call.clone()).output;
            let expected =
                if op == STATICCALL { IModule::StaticCall::SELECTOR } else { IModule::IndirectCall::SELECTOR };
            assert_eq!((inner[31], &inner[32..36]), (0, &expected[..]), "op {op:x} at {module}");
            assert!(world.last.anchors.is_empty());
        }
    }
    world.audit();
}

/// As `relay`, passing on the coin it was sent.
pub(super) fn pay_relay(to: Address, reverts: bool) -> Vec<u8> {
    let mut code = hex!("36 5f 5f 37 5f 5f 36 5f 34 73").to_vec();
    code.extend_from_slice(to.as_slice());
    code.extend([0x5a, CALL, 0x5f, 0x5f, if reverts { 0xfd } else { 0xf3 }]);
    let mut init = vec![0x60, code.len() as u8, 0x80, 0x60, 0x0b, 0x5f, 0x39, 0x5f, 0xf3, 0, 0];
    init.extend(code);
    init
}
