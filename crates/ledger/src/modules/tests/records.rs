//! Register, hold, fence, fund and reclaim.

use alloy_primitives::{Address, B256, Bytes, U256};
use alloy_sol_types::{SolCall, SolError};
use hodei_types::{
    abi::{self, ANCHORS, BUCKETS, BUDGETS, DEALS, IAnchors, IBuckets, IBudgets, IDeals, IProviders, PROVIDERS},
    checkpoint,
};

use super::{
    scene::pair,
    world::{CHAIN, COIN, Host, Person, World, events, params},
};

fn shape() -> IBuckets::Shape {
    IBuckets::Shape { k: 3, n: 6, t: 1, operators: 0, networks: 0, zones: 0, shardBytes: 262_144, codeId: 1 }
}

fn create(world: &mut World, owner: &Person, salt: u8, blocks: u64) -> B256 {
    let salt = B256::repeat_byte(salt);
    world.must(owner.address, BUCKETS, 0, IBuckets::createCall { salt, shape: shape(), blocks }.abi_encode());
    abi::bucket_id(owner.address, salt)
}

fn commit(id: B256, term: u64, expected: u8, root: u8) -> Vec<u8> {
    let word = |n| if n == 0 { B256::ZERO } else { B256::repeat_byte(n) };
    IBuckets::commitCall { id, term, expected: word(expected), root: word(root), sizeBytes: 9 }.abi_encode()
}

fn budget(world: &mut World, owner: &Person, spender: &Person, value: u128) {
    let consent = spender.sign(&abi::spender_consent(CHAIN, owner.address, spender.address));
    let call = IBudgets::registerCall { spender: spender.address, consent };
    world.must(owner.address, BUDGETS, value, call.abi_encode());
}

#[test]
fn a_root_moves_only_from_what_its_writer_saw() {
    let owner = Person::new(1);
    let mut world = World::new(&[owner.address]);
    let id = create(&mut world, &owner, 1, 1000);
    world.must(owner.address, BUCKETS, 0, commit(id, 1, 0, 1));
    let refused = world.send(owner.address, BUCKETS, 0, commit(id, 1, 0, 2));
    assert_eq!(refused.output, Bytes::from(IBuckets::Conflict { root: B256::repeat_byte(1) }.abi_encode()));
    world.must(owner.address, BUCKETS, 0, commit(id, 1, 1, 2));
    let bucket = world.view(BUCKETS, IBuckets::getCall { id });
    assert_eq!((bucket.root, bucket.version, bucket.sizeBytes), (B256::repeat_byte(2), 2, 9));
}

#[test]
fn a_successor_fences_who_slept() {
    let (owner, spender, stranger) = (Person::new(1), Person::new(2), Person::new(3));
    let mut world = World::new(&[owner.address, stranger.address]);
    budget(&mut world, &owner, &spender, 100 * COIN);
    let id = create(&mut world, &owner, 1, 5);
    let claim = IBuckets::claimCall { id, blocks: 5 }.abi_encode();
    assert!(!world.send(spender.address, BUCKETS, 0, claim.clone()).success, "held by the owner");
    assert!(!world.send(stranger.address, BUCKETS, 0, claim.clone()).success);
    world.idle(6);
    assert!(!world.send(owner.address, BUCKETS, 0, commit(id, 1, 0, 1)).success, "too late");
    world.must(spender.address, BUCKETS, 0, claim.clone());
    assert_eq!(world.view(BUCKETS, IBuckets::getCall { id }).term, 2);
    assert!(!world.send(owner.address, BUCKETS, 0, commit(id, 1, 0, 1)).success, "fenced");
    world.must(spender.address, BUCKETS, 0, commit(id, 2, 0, 1));
    world.must(spender.address, BUCKETS, 0, claim.clone());
    assert_eq!(world.view(BUCKETS, IBuckets::getCall { id }).term, 2, "a renewal keeps the term");
    world.must(owner.address, BUCKETS, 0, claim);
    assert!(!world.send(spender.address, BUCKETS, 0, commit(id, 2, 1, 2)).success, "the owner took over");
}

#[test]
fn only_the_terms_holder_gives_a_bucket_another_shape() {
    let (owner, spender, stranger) = (Person::new(1), Person::new(2), Person::new(3));
    let mut world = World::new(&[owner.address, stranger.address]);
    budget(&mut world, &owner, &spender, 100 * COIN);
    let id = create(&mut world, &owner, 1, 20);
    let wanted = IBuckets::Shape { k: 2, n: 5, t: 2, zones: 3, ..shape() };
    let reshape = |term| IBuckets::reshapeCall { id, term, shape: wanted.clone() }.abi_encode();
    for (who, term) in [(stranger.address, 1), (spender.address, 1), (owner.address, 2)] {
        assert!(!world.send(who, BUCKETS, 0, reshape(term)).success);
    }
    for bad in [(0, 5, 1, 0), (5, 5, 1, 0), (2, 5, 4, 0), (2, 5, 1, 6)] {
        let shape = IBuckets::Shape { k: bad.0, n: bad.1, t: bad.2, networks: bad.3, ..shape() };
        let call = IBuckets::reshapeCall { id, term: 1, shape }.abi_encode();
        assert_eq!(world.send(owner.address, BUCKETS, 0, call).output, Bytes::from(IBuckets::BadShape {}.abi_encode()));
    }
    world.must(owner.address, BUCKETS, 0, commit(id, 1, 0, 1));
    let applied = world.must(owner.address, BUCKETS, 0, reshape(1));
    assert_eq!(
        events::<IBuckets::Reshaped>(&applied.logs),
        [IBuckets::Reshaped { id, term: 1, shape: wanted.clone() }]
    );
    let bucket = world.view(BUCKETS, IBuckets::getCall { id });
    assert_eq!((bucket.shape, bucket.root, bucket.version), (wanted.clone(), B256::repeat_byte(1), 1), "nothing else");
    world.idle(20);
    let late = world.send(owner.address, BUCKETS, 0, reshape(1));
    assert!(!late.success, "its term is over");
    world.must(spender.address, BUCKETS, 0, IBuckets::claimCall { id, blocks: 5 }.abi_encode());
    world.must(spender.address, BUCKETS, 0, reshape(2));
}

#[test]
fn buckets_are_listed_refused_forgotten_and_made_again_with_a_higher_term() {
    let owner = Person::new(1);
    let mut world = World::new(&[owner.address]);
    let ids = [1, 2, 3].map(|salt| create(&mut world, &owner, salt, 10));
    for bad in [(0, 6, 1), (6, 6, 1), (3, 6, 0), (3, 6, 4)] {
        let shape = IBuckets::Shape { k: bad.0, n: bad.1, t: bad.2, ..shape() };
        let call = IBuckets::createCall { salt: B256::ZERO, shape, blocks: 10 }.abi_encode();
        assert_eq!(world.send(owner.address, BUCKETS, 0, call).output, Bytes::from(IBuckets::BadShape {}.abi_encode()));
    }
    world.must(owner.address, BUCKETS, 0, IBuckets::removeCall { id: ids[0] }.abi_encode());
    let owner = owner.address;
    assert_eq!(world.view(BUCKETS, IBuckets::countCall { owner }), 2);
    assert_eq!(world.view(BUCKETS, IBuckets::atCall { owner, i: 0 }), ids[2]);
    assert_eq!(world.view(BUCKETS, IBuckets::atCall { owner, i: 9 }), B256::ZERO);
    let again = IBuckets::createCall { salt: B256::repeat_byte(1), shape: shape(), blocks: 10 }.abi_encode();
    world.must(owner, BUCKETS, 0, again);
    let bucket = world.view(BUCKETS, IBuckets::getCall { id: ids[0] });
    assert_eq!((bucket.term, bucket.root, bucket.version), (2, B256::ZERO, 0));
    assert!(!world.send(owner, BUCKETS, 0, commit(ids[0], 1, 0, 1)).success, "a writer of before is fenced");
}

#[test]
fn a_budget_spends_what_it_has_and_its_owner_takes_the_rest() {
    let (owner, spender, thief) = (Person::new(1), Person::new(2), Person::new(3));
    let mut world = World::new(&[owner.address, thief.address]);
    let forged = thief.sign(&abi::spender_consent(CHAIN, owner.address, spender.address));
    let call = IBudgets::registerCall { spender: spender.address, consent: forged }.abi_encode();
    assert_eq!(world.send(owner.address, BUDGETS, 5, call).output, Bytes::from(IBudgets::BadConsent {}.abi_encode()));
    assert_eq!(world.balance(spender.address), U256::ZERO, "a refused call moves no coin");
    budget(&mut world, &owner, &spender, 10 * COIN);
    assert_eq!(world.balance(spender.address), U256::from(10 * COIN));
    let take = IBudgets::reclaimCall { spender: spender.address, amount: U256::from(COIN) }.abi_encode();
    assert!(!world.send(thief.address, BUDGETS, 0, take.clone()).success);
    world.must(owner.address, BUDGETS, 0, take);
    let too_much = IBudgets::reclaimCall { spender: spender.address, amount: U256::from(10 * COIN) };
    assert!(!world.send(owner.address, BUDGETS, 0, too_much.abi_encode()).success);

    // What it makes belongs to the owner.
    let salt = B256::repeat_byte(4);
    let call = IBuckets::createCall { salt, shape: shape(), blocks: 10 }.abi_encode();
    world.must(spender.address, BUCKETS, 0, call);
    let id = abi::bucket_id(owner.address, salt);
    let bucket = world.view(BUCKETS, IBuckets::getCall { id });
    assert_eq!((bucket.owner, bucket.holder), (owner.address, spender.address));

    let of = |owner: Address| IBudgets::countCall { owner };
    assert_eq!(world.view(BUDGETS, of(owner.address)), 1);
    let nested = thief.sign(&abi::spender_consent(CHAIN, spender.address, thief.address));
    let call = IBudgets::registerCall { spender: thief.address, consent: nested }.abi_encode();
    assert!(!world.send(spender.address, BUDGETS, 0, call).success, "no budget of a budget");
    world.must(owner.address, BUDGETS, 0, IBudgets::releaseCall { spender: spender.address }.abi_encode());
    assert_eq!(world.balance(spender.address), U256::ZERO);
    assert_eq!(world.view(BUDGETS, of(owner.address)), 0);
    assert_eq!(world.view(BUDGETS, IBudgets::ownerOfCall { spender: spender.address }), Address::ZERO);
    world.audit();
}

#[test]
fn a_provider_is_registered_by_who_holds_its_key() {
    let (operator, thief) = (Person::new(1), Person::new(2));
    let mut world = World::new(&[operator.address, thief.address]);
    let host = Host::new(1, operator);
    // The signature names the operator: nobody else registers with it.
    let refused = world.send(thief.address, PROVIDERS, 0, host.register());
    assert_eq!(refused.output, Bytes::from(IProviders::BadPossession {}.abi_encode()));
    world.register(&host);
    let leaf = |version, operator: Address, offer: B256| {
        let data = [host.node.as_slice(), operator.as_slice(), &u64::to_be_bytes(version), offer.as_slice()].concat();
        Bytes::from(checkpoint::registration_leaf(&data))
    };
    use alloy_sol_types::SolValue as _;
    let offer = alloy_primitives::keccak256(host.offer().abi_encode());
    assert_eq!(world.last.anchors, vec![leaf(1, operator.address, offer)]);
    assert!(!world.send(operator.address, PROVIDERS, 0, host.register()).success, "once");

    let node = host.node;
    let shown = world.view(PROVIDERS, IProviders::getCall { node });
    assert_eq!(shown.offer, host.offer());
    assert_eq!(shown.collateral, U256::from(100 * COIN));
    assert_eq!(world.view(PROVIDERS, IProviders::pageCall { first: 0, most: 64 }), vec![shown]);
    for (field, offer) in [
        ("zone", IProviders::Offer { zone: "UPPER".into(), ..host.offer() }),
        ("zone", IProviders::Offer { zone: "a".repeat(32), ..host.offer() }),
        ("network", IProviders::Offer { network: "a b".into(), ..host.offer() }),
        ("addresses", IProviders::Offer { addresses: vec![1; 17].into(), ..host.offer() }),
        ("priceStore", IProviders::Offer { priceStore: u128::MAX, ..host.offer() }),
        ("class", IProviders::Offer { class: 3, ..host.offer() }),
    ] {
        let refused = world.send(operator.address, PROVIDERS, 0, IProviders::updateCall { node, offer }.abi_encode());
        assert_eq!(refused.output, Bytes::from(IProviders::BadOffer { field: field.into() }.abi_encode()));
    }
    let mut moved = host.offer();
    moved.addresses = Bytes::new();
    let call = IProviders::updateCall { node, offer: moved.clone() }.abi_encode();
    assert!(!world.send(thief.address, PROVIDERS, 0, call.clone()).success);
    world.must(operator.address, PROVIDERS, 0, call);
    assert_eq!(world.view(PROVIDERS, IProviders::getCall { node }).offer, moved);

    let withdraw = IProviders::withdrawCall { node }.abi_encode();
    assert!(!world.send(operator.address, PROVIDERS, 0, withdraw.clone()).success, "retire first");
    world.must(operator.address, PROVIDERS, 0, IProviders::retireCall { node }.abi_encode());
    world.must(operator.address, PROVIDERS, 0, withdraw);
    assert_eq!(world.balance(PROVIDERS), U256::ZERO);
    assert_eq!(world.view(PROVIDERS, IProviders::countCall {}), 0);
    assert_eq!(world.last.anchors, vec![leaf(0, Address::ZERO, B256::ZERO)]);
    world.audit();
}

#[test]
fn a_provider_with_deals_keeps_its_collateral_in() {
    let (mut world, owner, host) = pair(params());
    let operator = host.operator;
    let (bucket, deals) = world.deals(&owner, 1, &[&host], COIN);
    let node = host.node;
    world.must(operator.address, PROVIDERS, 0, IProviders::retireCall { node }.abi_encode());
    let withdraw = IProviders::withdrawCall { node }.abi_encode();
    let refused = world.send(operator.address, PROVIDERS, 0, withdraw.clone());
    assert_eq!(refused.output, Bytes::from(IProviders::DealsOpen { deals: 1 }.abi_encode()));
    let refused = world.send(owner.address, BUCKETS, 0, IBuckets::removeCall { id: bucket }.abi_encode());
    assert_eq!(refused.output, Bytes::from(IBuckets::DealsOpen { deals: 1 }.abi_encode()));
    // An empty deal holds nobody: its operator may end it.
    world.must(operator.address, DEALS, 0, IDeals::closeCall { deals }.abi_encode());
    world.must(operator.address, PROVIDERS, 0, withdraw);
    world.audit();
}

#[test]
fn anchored_leaves_are_the_blocks_in_receipt_order() {
    let person = Person::new(1);
    let mut world = World::new(&[person.address]);
    let calls: Vec<_> = [b"one".to_vec(), b"two".to_vec(), Vec::new()]
        .into_iter()
        .map(|leaf| {
            let data = IAnchors::anchorCall { leaf: leaf.into() }.abi_encode();
            world.tx(person.address, alloy_primitives::TxKind::Call(ANCHORS), U256::ZERO, data)
        })
        .collect();
    let done = world.block_after(1000, &calls);
    assert_eq!(done.iter().map(|d| d.as_ref().unwrap().success).collect::<Vec<_>>(), [true, true, false]);
    let expected: Vec<Bytes> = [b"one", b"two"].map(|leaf| checkpoint::anchor_leaf(leaf).into()).to_vec();
    assert_eq!(world.last.anchors, expected);
}
