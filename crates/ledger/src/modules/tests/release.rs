//! Let a custodian end a deal with who retired, and see when it may not.

use alloy_primitives::{B256, U256};
use alloy_sol_types::SolCall;
use hodei_types::abi::{BUCKETS, DEALS, IBuckets, IDeals, IProviders, PROVIDERS};

use super::{
    custody::{appoint, word},
    scene::{Scene, scene},
    world::events,
};

fn allow(bucket: B256, allowed: bool) -> Vec<u8> {
    IDeals::setReleaseCall { bucket, allowed }.abi_encode()
}

impl Scene {
    fn may_release(&self) -> bool {
        self.world.view(DEALS, IDeals::releaseCall { bucket: self.bucket })
    }

    fn retire(&mut self) {
        let call = IProviders::retireCall { node: self.host.node }.abi_encode();
        self.world.must(self.host.operator.address, PROVIDERS, 0, call);
    }

    fn end(&self) -> Vec<u8> {
        IDeals::closeCall { deals: vec![self.deal] }.abi_encode()
    }
}

#[test]
fn a_custodian_ends_a_deal_with_who_retired_where_the_owner_allows_it() {
    let mut scene = scene(8);
    let (custodian, gone, stranger) = (scene.custodian(3), scene.custodian(4), scene.person(5));
    let (owner, operator, id, deal) = (scene.owner, scene.host.operator, scene.bucket, scene.deal);
    scene.world.must(owner.address, BUCKETS, 0, appoint(id, operator.address));
    scene.world.must(owner.address, BUCKETS, 0, IBuckets::dismissCall { id, custodian: gone.address }.abi_encode());
    for who in [custodian, stranger, operator] {
        scene.refused(&who, DEALS, allow(id, true), IDeals::NotOwner { owner: owner.address });
    }
    scene.refused(&owner, DEALS, allow(word(1), true), IDeals::UnknownBucket { bucket: word(1) });
    // Neither where it is not allowed, nor with who stays.
    let (end, refused) = (scene.end(), IDeals::NotParty { deal });
    assert!(!scene.may_release());
    scene.retire();
    scene.refused(&custodian, DEALS, end.clone(), refused.clone());
    let applied = scene.world.must(owner.address, DEALS, 0, allow(id, true));
    assert_eq!(events::<IDeals::ReleaseSet>(&applied.logs), [IDeals::ReleaseSet { bucket: id, allowed: true }]);
    // Nor by anybody else, be it the provider's operator, who is a custodian too.
    for who in [stranger, gone, operator] {
        scene.refused(&who, DEALS, end.clone(), refused.clone());
    }
    scene.world.must(owner.address, DEALS, 0, allow(id, false));
    scene.refused(&custodian, DEALS, end.clone(), refused);
    scene.world.must(owner.address, DEALS, 0, allow(id, true));
    scene.answer();
    let before = scene.world.balance(owner.address);
    let applied = scene.world.must(custodian.address, DEALS, 0, end);
    let ended = events::<IDeals::Ended>(&applied.logs);
    assert_eq!((ended.len(), ended[0].deal, scene.deal().state), (1, deal, 3));
    let funded = events::<IDeals::Funded>(&applied.logs);
    assert_eq!((ended[0].refund, funded.len()), (U256::ZERO, 1));
    assert!(funded[0].amount > U256::ZERO && funded[0].reserve == funded[0].amount);
    // What is left is for repairs, until the owner takes it.
    assert_eq!((scene.reserve(), scene.world.balance(owner.address)), (funded[0].amount, before));
    scene.world.must(owner.address, DEALS, 0, IDeals::withdrawCall { bucket: id, amount: U256::MAX }.abi_encode());
    assert_eq!(scene.reserve(), U256::ZERO);
    // A bucket that is made again begins without it.
    let shape = scene.record().shape;
    scene.world.must(owner.address, BUCKETS, 0, IBuckets::removeCall { id }.abi_encode());
    let again = IBuckets::createCall { salt: B256::repeat_byte(1), shape, blocks: 10 }.abi_encode();
    scene.world.must(owner.address, BUCKETS, 0, again);
    assert_eq!((scene.record().id, scene.may_release()), (id, false));
    scene.world.audit();
}

#[test]
fn a_deal_that_a_custodian_closes_while_it_owes_a_proof_leaves_its_escrow_to_repairs_too() {
    let mut scene = scene(8);
    let custodian = scene.custodian(3);
    let (owner, node) = (scene.owner, scene.host.node);
    scene.world.must(owner.address, DEALS, 0, allow(scene.bucket, true));
    scene.retire();
    scene.world.challenge(node);
    let (end, before) = (scene.end(), scene.world.balance(owner.address));
    let applied = scene.world.must(custodian.address, DEALS, 0, end);
    assert_eq!((events::<IDeals::Closing>(&applied.logs).len(), scene.deal().state), (1, 2));
    // It ends by its provider's hand then.
    let applied = scene.world.prove(&scene.host);
    let ended = events::<IDeals::Ended>(&applied.logs);
    assert_eq!((ended.len(), ended[0].refund, scene.deal().state), (1, U256::ZERO, 3));
    assert_eq!(scene.world.balance(owner.address), before);
    let funded = events::<IDeals::Funded>(&applied.logs);
    assert_eq!(funded.iter().map(|funded| funded.amount).collect::<Vec<_>>(), [scene.reserve()]);
    assert!(scene.reserve() > U256::ZERO);
    scene.world.audit();
}

#[test]
fn what_an_owner_closes_comes_back_to_the_owner_where_custodians_may_end_deals() {
    let mut scene = scene(8);
    let owner = scene.owner;
    scene.custodian(3);
    scene.world.must(owner.address, DEALS, 0, allow(scene.bucket, true));
    scene.retire();
    scene.answer();
    let applied = scene.close();
    let ended = events::<IDeals::Ended>(&applied.logs);
    assert!(ended.len() == 1 && ended[0].refund > U256::ZERO && scene.reserve().is_zero());
    assert!(events::<IDeals::Funded>(&applied.logs).is_empty());
    scene.world.audit();
}

#[test]
fn who_stays_is_let_go_by_no_custodian() {
    let mut scene = scene(8);
    let custodian = scene.custodian(3);
    let (owner, end, deal) = (scene.owner, scene.end(), scene.deal);
    scene.world.must(owner.address, DEALS, 0, allow(scene.bucket, true));
    scene.refused(&custodian, DEALS, end, IDeals::NotParty { deal });
    let shrink = IDeals::Resize { deal, capacityBytes: 0, priceMax: u128::MAX };
    let shrink = IDeals::resizeCall { deals: vec![shrink] }.abi_encode();
    scene.retire();
    scene.refused(&custodian, DEALS, shrink, IDeals::NotParty { deal });
    assert_eq!(scene.deal().state, 1);
    scene.world.audit();
}

#[test]
fn what_is_kept_no_custodian_ends_before_its_time() {
    let mut scene = scene(8);
    let custodian = scene.custodian(3);
    let (owner, end, id) = (scene.owner, scene.end(), scene.bucket);
    let until_ms = scene.world.env.time_ms / 1000 * 1000 + 60_000;
    let kept = vec![IBuckets::Kept { leaf: word(7), untilMs: until_ms, number: 0 }];
    let IBuckets::Bucket { term, root: expected, .. } = scene.record();
    let keep = IBuckets::commitKeptCall { id, term, expected, root: word(9), sizeBytes: 1, kept };
    scene.world.must(owner.address, BUCKETS, 0, keep.abi_encode());
    scene.world.must(owner.address, DEALS, 0, allow(id, true));
    scene.retire();
    scene.refused(&custodian, DEALS, end.clone(), IDeals::Locked { untilMs: until_ms });
    scene.world.block_after(60_000, &[]);
    while scene.deal().state != 3 {
        scene.world.send(custodian.address, DEALS, 0, end.clone());
        scene.world.send(custodian.address, DEALS, 0, IDeals::touchCall { deals: vec![scene.deal] }.abi_encode());
    }
    scene.world.audit();
}
