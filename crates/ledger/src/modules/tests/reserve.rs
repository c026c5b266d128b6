//! Give coin for a bucket's repair, open deals of it, and take it back.

use alloy_primitives::{B256, Bytes, U256};
use alloy_sol_types::{SolCall, SolError};
use hodei_types::abi::{BUCKETS, DEALS, IBuckets, IDeals};

use super::{
    custody::{another, appoint, lay, open, word},
    scene::{Scene, coins, scene},
    world::{COIN, Person, events, moves},
};

impl Scene {
    /// A refusal of who sends coin with it.
    fn refused_with(&mut self, who: &Person, value: u128, data: Vec<u8>, error: impl SolError) {
        let applied = self.world.send(who.address, DEALS, value, data);
        assert!(!applied.success, "it went through");
        assert_eq!(applied.output, Bytes::from(error.abi_encode()));
    }
}

#[test]
fn a_custodian_opens_deals_of_the_reserve_and_never_beyond_it() {
    let mut scene = scene(0);
    let (owner, budget) = (scene.owner, scene.thief());
    let (custodian, stranger) = (scene.custodian(3), scene.person(4));
    let id = scene.bucket;
    let operator = scene.host.operator;
    let (a, b) = (another(&mut scene.world, 2, operator), another(&mut scene.world, 3, operator));
    scene.fund(&stranger, 3 * COIN);
    assert_eq!(scene.reserve(), coins(3));
    // Who is none sends it all, as ever; and nobody sends more.
    let wrong = |value: u128, needed| IDeals::WrongEscrow { value: coins(value), needed: coins(needed) };
    let both = open(id, &[&a, &b], 3 * COIN);
    for who in [owner, budget] {
        scene.refused_with(&who, 5 * COIN, both.clone(), wrong(5, 6));
    }
    for value in [0, 6] {
        let error = IDeals::NotOwner { owner: owner.address };
        scene.refused_with(&stranger, value * COIN, both.clone(), error);
    }
    scene.refused_with(&custodian, 2 * COIN, both.clone(), wrong(2, 6));
    scene.refused_with(&custodian, 7 * COIN, both.clone(), wrong(7, 6));
    assert_eq!(scene.reserve(), coins(3), "what is refused takes nothing");
    // Four of its own, two of the reserve's three.
    let applied = scene.world.must(custodian.address, DEALS, 4 * COIN, both);
    let opened = events::<IDeals::Opened>(&applied.logs);
    assert!(opened.len() == 2 && opened.iter().all(|deal| deal.owner == owner.address && deal.escrow == 3 * COIN));
    assert_eq!((scene.reserve(), scene.world.drawn), (coins(1), coins(2)));
    // All comes back to the owner, and the reserve is not made whole.
    let deals = opened.iter().map(|deal| deal.deal).collect();
    let applied = scene.world.must(owner.address, DEALS, 0, IDeals::closeCall { deals }.abi_encode());
    let back = moves(&applied.logs);
    assert!(back.len() == 2 && back.iter().all(|moved| moved.to == owner.address && moved.amount == coins(3)));
    // Nothing of its own, and all of its own.
    scene.refused_with(&custodian, 0, open(id, &[&a], 2 * COIN), wrong(0, 2));
    scene.world.must(custodian.address, DEALS, 0, open(id, &[&a], COIN));
    assert_eq!(scene.reserve(), U256::ZERO);
    scene.world.must(custodian.address, DEALS, COIN, open(id, &[&b], COIN));
    assert_eq!((scene.reserve(), scene.world.drawn), (U256::ZERO, coins(3)));
    let unknown = IDeals::UnknownBucket { bucket: word(1) };
    scene.refused_with(&stranger, COIN, IDeals::fundCall { bucket: word(1) }.abi_encode(), unknown);
    scene.world.audit();
}

#[test]
fn what_slashing_left_restores_what_was_lost() {
    let mut scene = scene(64);
    let custodian = scene.custodian(3);
    let host = another(&mut scene.world, 2, scene.host.operator);
    scene.world.challenge(scene.host.node);
    scene.miss(3);
    scene.touch();
    // A tenth of 100 coins, half of it burned; less than a wei a leaf is lost to rounding.
    let reserve = scene.reserve();
    assert!(reserve <= coins(5) && reserve + U256::from(64) > coins(5), "{reserve}");
    scene.world.must(custodian.address, DEALS, 0, open(scene.bucket, &[&host], 4 * COIN));
    assert_eq!(scene.reserve(), reserve - coins(4));
    scene.world.audit();
}

#[test]
fn a_reserve_goes_back_to_the_owners_own_account_only() {
    let mut scene = scene(0);
    let (owner, budget, stranger) = (scene.owner, scene.thief(), scene.person(3));
    let bucket = scene.bucket;
    let withdraw = |amount: U256| IDeals::withdrawCall { bucket, amount }.abi_encode();
    let applied = scene.world.must(stranger.address, DEALS, 4 * COIN, IDeals::fundCall { bucket }.abi_encode());
    let told = IDeals::Funded { bucket, amount: coins(4), reserve: coins(4) };
    assert_eq!(events::<IDeals::Funded>(&applied.logs), [told]);
    scene.fund(&budget, COIN);
    scene.refused(&stranger, DEALS, withdraw(coins(4)), IDeals::NotOwner { owner: owner.address });
    for (who, amount, taken) in [(owner, coins(1), 1), (budget, coins(2), 2), (budget, U256::MAX, 2)] {
        let applied = scene.world.must(who.address, DEALS, 0, withdraw(amount));
        assert_eq!(U256::from_be_slice(&applied.output), coins(taken));
        let moved = moves(&applied.logs);
        assert_eq!((moved.len(), moved[0].from, moved[0].to, moved[0].amount), (1, DEALS, owner.address, coins(taken)));
        assert_eq!(events::<IDeals::Withdrawn>(&applied.logs), [IDeals::Withdrawn { bucket, amount: coins(taken) }]);
    }
    assert_eq!(scene.reserve(), U256::ZERO);
    let applied = scene.world.must(owner.address, DEALS, 0, withdraw(coins(1)));
    assert!(applied.logs.is_empty(), "of nothing nothing is taken");
    scene.refused(&owner, DEALS, IDeals::withdrawCall { bucket: word(1), amount: U256::MAX }.abi_encode(), {
        IDeals::UnknownBucket { bucket: word(1) }
    });
    scene.world.audit();
}

#[test]
fn a_bucket_that_is_removed_leaves_no_custodian_no_overlay_and_no_reserve() {
    let mut scene = scene(0);
    let (owner, custodian, other) = (scene.owner, scene.custodian(3), scene.custodian(4));
    let id = scene.bucket;
    scene.world.must(custodian.address, BUCKETS, 0, lay(id, 0, 1));
    scene.fund(&custodian, 2 * COIN);
    let (shape, remove) = (scene.record().shape, IBuckets::removeCall { id }.abi_encode());
    scene.refused(&owner, BUCKETS, remove.clone(), IBuckets::DealsOpen { deals: 1 });
    scene.close();
    let applied = scene.world.must(owner.address, BUCKETS, 0, remove);
    assert_eq!(events::<IDeals::Withdrawn>(&applied.logs), [IDeals::Withdrawn { bucket: id, amount: coins(2) }]);
    let moved = moves(&applied.logs);
    assert_eq!((moved.len(), moved[0].from, moved[0].to, moved[0].amount), (1, DEALS, owner.address, coins(2)));
    assert!(!scene.is_custodian(&custodian) && !scene.is_custodian(&other));
    scene.refused(&custodian, BUCKETS, lay(id, 1, 2), IBuckets::UnknownBucket { id });
    scene.refused_with(&custodian, COIN, IDeals::fundCall { bucket: id }.abi_encode(), {
        IDeals::UnknownBucket { bucket: id }
    });
    // Made again it has the same id, and none of that.
    let again = IBuckets::createCall { salt: B256::repeat_byte(1), shape, blocks: 10 }.abi_encode();
    scene.world.must(owner.address, BUCKETS, 0, again);
    let record = scene.record();
    assert_eq!((record.id, record.term, record.overlay, record.custodians), (id, 2, B256::ZERO, 0));
    assert!(scene.world.view(BUCKETS, IBuckets::custodiansCall { id }).is_empty());
    assert!(!scene.is_custodian(&custodian) && scene.reserve().is_zero());
    scene.refused(&custodian, BUCKETS, lay(id, 0, 1), IBuckets::NotCustodian { caller: custodian.address });
    scene.world.must(owner.address, BUCKETS, 0, appoint(id, other.address));
    assert_eq!(scene.world.view(BUCKETS, IBuckets::custodiansCall { id }), [other.address]);
    scene.world.audit();
}
