//! Pay custodians for what they restore, and see that the day, the reserve and nobody else bound it.

use alloy_primitives::{B256, Bytes, U256};
use alloy_sol_types::SolCall;
use hodei_types::abi::{BUCKETS, DEALS, IBuckets, IDeals, LEAVES_PER_GIB, SYSTEM};

use super::{
    custody::{appoint, post, word},
    scene::{Scene, coins, scene},
    world::{COIN, Person, events, moves},
};

/// Ten wei a leaf.
const WAGE: u128 = 10 * LEAVES_PER_GIB as u128;
const DAY_MS: u64 = 86_400_000;

fn set(bucket: B256, per_gib: u128, per_day: u128) -> Vec<u8> {
    IDeals::setWageCall { bucket, perGib: per_gib, perDay: per_day }.abi_encode()
}

impl Scene {
    fn set_wage(&mut self, per_gib: u128, per_day: u128) {
        self.world.must(self.owner.address, DEALS, 0, set(self.bucket, per_gib, per_day));
    }

    fn wage(&self) -> (u128, u128, u128) {
        let wage = self.world.view(DEALS, IDeals::wageCall { bucket: self.bucket });
        (wage.perGib, wage.perDay, wage.paidToday)
    }

    fn earned(&self, who: &Person) -> U256 {
        self.world.view(DEALS, IDeals::earnedCall { bucket: self.bucket, custodian: who.address })
    }

    /// The host holds so many leaves more, and says so; its window's challenge is answered before.
    fn grown(&mut self, leaves: usize) -> IDeals::RootPost {
        if self.deal().leaves > 0 {
            self.answer();
        }
        self.host.add(self.deal, leaves, &self.owner)
    }

    /// The same, posted by `by` without the owner's signature: for how many leaves who was paid how much.
    fn grow(&mut self, by: &Person, leaves: usize) -> Option<(u64, u64)> {
        let sequence = self.grown(leaves).sequence;
        let statement = self.unsigned(sequence);
        let applied = self.world.must(by.address, DEALS, 0, post(&[&statement]));
        let paid = events::<IDeals::WagePaid>(&applied.logs);
        let got = moves(&applied.logs).into_iter().filter(|moved| moved.to == by.address);
        let got: Vec<_> = got.map(|moved| moved.amount).collect();
        assert_eq!(paid.iter().map(|paid| paid.amount).collect::<Vec<_>>(), got);
        assert!(paid.len() < 2);
        self.world.audit();
        paid.first().map(|paid| (paid.leaves, paid.amount.to()))
    }
}

#[test]
fn a_custodian_is_paid_for_what_its_post_adds_and_the_owners_side_is_not() {
    let mut scene = scene(8);
    let (owner, budget, custodian) = (scene.owner, scene.thief(), scene.custodian(3));
    let (bucket, deal) = (scene.bucket, scene.deal);
    scene.fund(&owner, COIN);
    assert_eq!((scene.wage(), scene.grow(&custodian, 4)), ((0, 0, 0), None), "nobody set a wage");
    let applied = scene.world.must(budget.address, DEALS, 0, set(bucket, WAGE, u128::MAX));
    let told = IDeals::WageSet { bucket, perGib: WAGE, perDay: u128::MAX };
    assert_eq!(events::<IDeals::WageSet>(&applied.logs), [told]);
    let sequence = scene.grown(4).sequence;
    let statement = scene.unsigned(sequence);
    let applied = scene.world.must(custodian.address, DEALS, 0, post(&[&statement]));
    let amount = U256::from(40);
    let told = IDeals::WagePaid { bucket, custodian: custodian.address, deal, leaves: 4, amount };
    assert_eq!(events::<IDeals::WagePaid>(&applied.logs), [told]);
    // Its move of coin is the log before it: that is how histories know what it was for.
    let [.., moved, paid] = &applied.logs[..] else { panic!("two logs at least") };
    assert_eq!((moved.address, paid.address), (SYSTEM, DEALS));
    let last = moves(&applied.logs).pop().unwrap();
    assert_eq!((last.from, last.to, last.amount), (DEALS, custodian.address, amount));
    assert_eq!((scene.reserve(), scene.earned(&custodian)), (coins(1) - amount, amount));
    assert_eq!(scene.wage(), (WAGE, u128::MAX, 40));
    // The owner's own posts, a budget's, be it named a custodian, and what the owner signed, whoever sends it.
    scene.world.must(owner.address, BUCKETS, 0, appoint(bucket, budget.address));
    assert_eq!((scene.grow(&owner, 4), scene.grow(&budget, 4)), (None, None));
    let signed = scene.grown(4);
    let applied = scene.world.must(custodian.address, DEALS, 0, post(&[&signed]));
    assert!(events::<IDeals::WagePaid>(&applied.logs).is_empty());
    assert_eq!((scene.earned(&custodian), scene.earned(&owner)), (amount, U256::ZERO));
    // What is no more than before is worth nothing; what the owner let go of and is restored is work again.
    let leaves = scene.deal().leaves as usize;
    let mut other = |leaves: usize, by: &Person| {
        scene.answer();
        let shards = scene.host.shards.insert(deal, vec![vec![7; leaves << 10]]).unwrap();
        let statement = scene.unsigned(scene.deal().sequence + 1);
        let applied = scene.world.must(by.address, DEALS, 0, post(&[&statement]));
        (events::<IDeals::WagePaid>(&applied.logs).pop().map(|paid| paid.amount), shards)
    };
    // The host answers by what was posted last: each of these is a single shard.
    assert_eq!(other(leaves, &custodian).0, None);
    assert_eq!(other(leaves - 4, &owner).0, None);
    assert_eq!(other(leaves, &custodian).0, Some(U256::from(40)));
    assert_eq!((scene.reserve(), scene.earned(&custodian)), (coins(1) - U256::from(80), U256::from(80)));
    scene.world.audit();
}

#[test]
fn a_days_wages_end_at_its_most_and_the_next_day_begins_anew() {
    let mut scene = scene(8);
    let (owner, first, second) = (scene.owner, scene.custodian(3), scene.custodian(4));
    scene.fund(&owner, COIN);
    scene.set_wage(WAGE, 100);
    assert_eq!(scene.grow(&first, 8), Some((8, 80)));
    assert_eq!(scene.grow(&second, 8), Some((8, 20)), "the most is that of all together");
    assert_eq!(scene.grow(&first, 4), None, "what is beyond is not owed");
    assert_eq!(scene.wage(), (WAGE, 100, 100));
    // What was paid today counts against another most too.
    scene.set_wage(2 * WAGE, 150);
    assert_eq!(scene.grow(&first, 8), Some((8, 50)));
    scene.set_wage(WAGE, 60);
    assert_eq!((scene.grow(&first, 8), scene.wage()), (None, (WAGE, 60, 150)));
    scene.world.block_after(DAY_MS, &[]);
    assert_eq!(scene.wage(), (WAGE, 60, 0));
    assert_eq!((scene.grow(&second, 4), scene.grow(&first, 4)), (Some((4, 40)), Some((4, 20))));
    assert_eq!(scene.wage(), (WAGE, 60, 60));
    assert_eq!((scene.earned(&first), scene.earned(&second)), (U256::from(150), U256::from(60)));
    assert_eq!(scene.reserve(), coins(1) - U256::from(210));
}

#[test]
fn wages_take_no_more_than_the_reserve_has() {
    let mut scene = scene(8);
    let (owner, custodian) = (scene.owner, scene.custodian(3));
    scene.set_wage(WAGE, u128::MAX);
    assert_eq!(scene.grow(&custodian, 4), None, "there is no reserve, and the post is taken");
    scene.fund(&owner, 55);
    assert_eq!((scene.grow(&custodian, 4), scene.grow(&custodian, 4)), (Some((4, 40)), Some((4, 15))));
    assert_eq!((scene.grow(&custodian, 4), scene.reserve()), (None, U256::ZERO));
    // The highest wage there is takes all of it and not a wei of another's.
    scene.set_wage(u128::MAX, u128::MAX);
    scene.fund(&owner, COIN);
    assert_eq!(scene.grow(&custodian, 4), Some((4, COIN as u64)));
    assert_eq!((scene.reserve(), scene.earned(&custodian)), (U256::ZERO, coins(1) + U256::from(55)));
    // Less than a wei is nothing, and a fraction of one stays.
    scene.fund(&owner, COIN);
    scene.set_wage(1, u128::MAX);
    assert_eq!(scene.grow(&custodian, 4), None);
    scene.set_wage(WAGE + 1, u128::MAX);
    assert_eq!(scene.grow(&custodian, 4), Some((4, 40)));
}

#[test]
fn a_wage_is_set_by_the_owners_side_and_ends_with_the_bucket() {
    let mut scene = scene(0);
    let (owner, custodian, stranger) = (scene.owner, scene.custodian(3), scene.person(4));
    let (id, shape) = (scene.bucket, scene.record().shape);
    for who in [custodian, stranger] {
        scene.refused(&who, DEALS, set(id, WAGE, 1), IDeals::NotOwner { owner: owner.address });
    }
    scene.refused(&owner, DEALS, set(word(1), WAGE, 1), IDeals::UnknownBucket { bucket: word(1) });
    scene.fund(&owner, COIN);
    scene.set_wage(WAGE, 1000);
    assert_eq!(scene.grow(&custodian, 4), Some((4, 40)));
    // Who has no signature of the provider's has no wage either.
    let sequence = scene.grown(4).sequence;
    let alone = IDeals::RootPost { providerSignature: Bytes::new(), ..scene.unsigned(sequence) };
    scene.refused(&custodian, DEALS, post(&[&alone]), IDeals::BadProviderSignature { deal: scene.deal });
    assert_eq!(scene.earned(&custodian), U256::from(40));
    scene.host.shards.get_mut(&scene.deal).unwrap().pop();
    scene.answer();
    scene.close();
    let remove = IBuckets::removeCall { id }.abi_encode();
    let applied = scene.world.must(owner.address, BUCKETS, 0, remove);
    let back = coins(1) - U256::from(40);
    assert_eq!(events::<IDeals::Withdrawn>(&applied.logs), [IDeals::Withdrawn { bucket: id, amount: back }]);
    let again = IBuckets::createCall { salt: B256::repeat_byte(1), shape, blocks: 10 }.abi_encode();
    scene.world.must(owner.address, BUCKETS, 0, again);
    assert_eq!((scene.record().id, scene.wage()), (id, (0, 0, 0)));
    assert_eq!(scene.earned(&custodian), U256::from(40), "what was earned stays told");
    scene.world.audit();
}
