//! Steal a budget's key, and try to end what its owner's bucket keeps.

use alloy_primitives::{B256, Bytes};
use alloy_sol_types::{SolCall, SolError};
use hodei_types::abi::{
    BUCKETS, BUDGETS, DEALS, IBuckets, IBudgets, IDeals, IModule, KEEP_MS_MAX, KEPT_MAX, spender_consent,
};

use super::{
    scene::{Scene, coins, scene, scene_by},
    world::{CHAIN, COIN, Person, events, params},
};

/// How long something is kept in these tests.
const KEEP_MS: u64 = 60_000;

fn word(n: u64) -> B256 {
    B256::from(alloy_primitives::U256::from(n))
}

fn kept(leaf: u64, until_ms: u64) -> IBuckets::Kept {
    IBuckets::Kept { leaf: word(leaf), untilMs: until_ms, number: 0 }
}

impl Scene {
    /// The time of the next block, to the second.
    fn next_ms(&self) -> u64 {
        (self.world.env.time_ms + 1000) / 1000 * 1000
    }

    pub(super) fn record(&self) -> IBuckets::Bucket {
        self.world.view(BUCKETS, IBuckets::getCall { id: self.bucket })
    }

    fn listed(&self) -> Vec<(u64, u64, u64)> {
        let call = IBuckets::keptCall { id: self.bucket, first: 0, most: 64 };
        let mut listed = self.world.view(BUCKETS, call);
        listed.sort_by_key(|one| one.number);
        let number = |leaf: B256| alloy_primitives::U256::from_be_bytes(leaf.0).to::<u64>();
        listed.iter().map(|one| (number(one.leaf), one.untilMs, one.number)).collect()
    }

    fn swap(&mut self, root: u64, kept: Vec<IBuckets::Kept>) -> Vec<u8> {
        let (id, term, expected) = (self.bucket, self.record().term, self.record().root);
        IBuckets::commitKeptCall { id, term, expected, root: word(root), sizeBytes: 1, kept }.abi_encode()
    }

    fn keep(&mut self, root: u64, kept: Vec<IBuckets::Kept>) {
        let call = self.swap(root, kept);
        self.world.must(self.owner.address, BUCKETS, 0, call);
    }

    pub(super) fn refused(&mut self, who: &Person, to: alloy_primitives::Address, data: Vec<u8>, error: impl SolError) {
        let applied = self.world.send(who.address, to, 0, data);
        assert!(!applied.success, "it went through");
        assert_eq!(applied.output, Bytes::from(error.abi_encode()));
    }

    /// A budget of the owner's, whose key somebody stole.
    pub(super) fn thief(&mut self) -> Person {
        let thief = Person::new(9);
        let consent = thief.sign(&spender_consent(CHAIN, self.owner.address, thief.address));
        let call = IBudgets::registerCall { spender: thief.address, consent }.abi_encode();
        self.world.must(self.owner.address, BUDGETS, 100 * COIN, call);
        thief
    }
}

#[test]
fn what_is_kept_neither_thief_nor_owner_ends_before_its_time() {
    let mut scene = scene(8);
    let thief = scene.thief();
    let owner = scene.owner;
    let until_ms = scene.next_ms() + KEEP_MS;
    scene.keep(1, vec![kept(7, until_ms)]);
    assert_eq!(scene.listed(), [(7, until_ms, 0)]);
    assert_eq!((scene.record().keptUntilMs, scene.record().keeps), (until_ms, 1));
    let (id, deal) = (scene.bucket, scene.deal);
    // The term ends in time whoever holds it; a thief may write, and hides nothing that is listed.
    scene.world.idle(1);
    for who in [owner, thief] {
        let resize = |bytes| {
            let one = IDeals::Resize { deal, capacityBytes: bytes, priceMax: u128::MAX };
            IDeals::resizeCall { deals: vec![one] }.abi_encode()
        };
        let close = IDeals::closeCall { deals: vec![deal] }.abi_encode();
        scene.refused(&who, DEALS, close, IDeals::Locked { untilMs: until_ms });
        for bytes in [0, 1 << 20] {
            scene.refused(&who, DEALS, resize(bytes), IDeals::Locked { untilMs: until_ms });
        }
        scene.refused(&who, BUCKETS, IBuckets::removeCall { id }.abi_encode(), IBuckets::Locked { untilMs: until_ms });
        let lapse = IBuckets::lapseCall { id, leaves: vec![word(7)] }.abi_encode();
        scene.refused(&who, BUCKETS, lapse, IBuckets::Locked { untilMs: until_ms });
    }
    // Only the owner's own account lets a deal grow.
    let grow = IDeals::Resize { deal, capacityBytes: 1 << 25, priceMax: u128::MAX };
    let grow = IDeals::resizeCall { deals: vec![grow] }.abi_encode();
    scene.refused(&thief, DEALS, grow.clone(), IDeals::Locked { untilMs: until_ms });
    scene.world.must(owner.address, DEALS, 0, grow);
    for kept in [vec![], vec![kept(8, until_ms)]] {
        let nothing = scene.swap(0, kept);
        scene.refused(&owner, BUCKETS, nothing, IBuckets::Locked { untilMs: until_ms });
    }
    // Any other root may come; the leaf stays.
    scene.keep(2, vec![]);
    assert_eq!(scene.listed(), [(7, until_ms, 0)]);
    assert_eq!(scene.deal().state, 1);
    // Afterwards all of it ends as ever.
    scene.world.block_after(KEEP_MS, &[]);
    scene.refused(&owner, BUCKETS, IBuckets::removeCall { id }.abi_encode(), IBuckets::DealsOpen { deals: 1 });
    scene.world.must(thief.address, BUCKETS, 0, IBuckets::lapseCall { id, leaves: vec![word(7)] }.abi_encode());
    assert!(scene.listed().is_empty());
    scene.keep(0, vec![]);
    while scene.deal().state != 3 {
        scene.world.send(owner.address, DEALS, 0, IDeals::closeCall { deals: vec![deal] }.abi_encode());
        scene.world.idle(1);
    }
    scene.world.must(owner.address, BUCKETS, 0, IBuckets::removeCall { id }.abi_encode());
    scene.world.audit();
}

#[test]
fn times_only_rise_and_the_order_stays() {
    let mut scene = scene(0);
    let (early, late) = (scene.next_ms() + KEEP_MS, scene.next_ms() + 2 * KEEP_MS);
    let (owner, nothing) = (scene.owner, scene.swap(0, vec![kept(7, early)]));
    scene.refused(&owner, BUCKETS, nothing, IBuckets::Locked { untilMs: early });
    scene.keep(1, vec![kept(7, early), kept(8, early)]);
    scene.keep(2, vec![kept(9, late), kept(7, late)]);
    assert_eq!(scene.listed(), [(7, late, 0), (8, early, 1), (9, late, 2)]);
    // Less is nothing, and changes nothing that readers would have to look at.
    let keeps = scene.record().keeps;
    scene.keep(3, vec![kept(9, early)]);
    assert_eq!((scene.listed()[2], scene.record().keeps), ((9, late, 2), keeps));
    // Times that are over, or beyond what anybody may ask for.
    let now = scene.next_ms();
    for until_ms in [0, now - 2000, now + KEEP_MS_MAX + KEEP_MS, u64::MAX] {
        let call = scene.swap(4, vec![kept(5, until_ms)]);
        scene.refused(&owner, BUCKETS, call, IBuckets::BadTime { untilMs: until_ms });
    }
    let call = scene.swap(4, (0..65).map(|n| kept(100 + n, late)).collect());
    let many = |n: u64| alloy_primitives::U256::from(n);
    scene.refused(&owner, BUCKETS, call, IModule::TooMany { given: many(65), most: many(64) });
    assert_eq!(scene.record().root, word(3), "all or nothing");
    // A swap that is too late lists nothing.
    let id = scene.bucket;
    let stale = IBuckets::commitKeptCall {
        id,
        term: 1,
        expected: word(1),
        root: word(4),
        sizeBytes: 1,
        kept: vec![kept(5, late)],
    };
    scene.refused(&owner, BUCKETS, stale.abi_encode(), IBuckets::Conflict { root: word(3) });
    assert_eq!(scene.listed().len(), 3);
    // One whose time is over goes alone; with one that is not, none goes.
    scene.world.block_after(KEEP_MS, &[]);
    let lapse = |leaves: &[u64]| {
        IBuckets::lapseCall { id, leaves: leaves.iter().map(|leaf| word(*leaf)).collect() }.abi_encode()
    };
    scene.refused(&owner, BUCKETS, lapse(&[8, 9]), IBuckets::Locked { untilMs: late });
    scene.refused(&owner, BUCKETS, lapse(&[6]), IBuckets::NotKept { leaf: word(6) });
    let told = scene.world.must(owner.address, BUCKETS, 0, lapse(&[8]));
    assert_eq!(events::<IBuckets::Lapsed>(&told.logs), [IBuckets::Lapsed { id, leaf: word(8) }]);
    assert_eq!(scene.listed(), [(7, late, 0), (9, late, 2)]);
    scene.keep(5, vec![kept(8, late)]);
    assert_eq!(scene.listed()[2], (8, late, 3), "listed again it comes last");
    scene.world.audit();
}

#[test]
fn a_bucket_lists_so_many_leaves_and_no_more() {
    let mut scene = scene(0);
    let owner = scene.owner;
    let until_ms = scene.next_ms() + 500 * KEEP_MS;
    for batch in 0..KEPT_MAX / 64 {
        scene.keep(1 + batch, (0..64).map(|n| kept(1 + batch * 64 + n, until_ms)).collect());
    }
    let call = scene.swap(1, vec![kept(KEPT_MAX + 1, until_ms)]);
    scene.refused(&owner, BUCKETS, call, IBuckets::KeptFull { most: KEPT_MAX });
    // Those that are listed may stay for longer.
    scene.keep(1, vec![kept(9, until_ms + 1000)]);
}

#[test]
fn what_is_not_paid_for_is_not_kept() {
    // An escrow of three windows and a bit.
    let mut scene = scene_by(params(), coins(1).to::<u128>() / 30_000, 8);
    let until_ms = scene.next_ms() + 100 * KEEP_MS;
    scene.keep(1, vec![kept(7, until_ms)]);
    let operator = scene.host.operator;
    let close = IDeals::closeCall { deals: vec![scene.deal] }.abi_encode();
    scene.refused(&operator, DEALS, close.clone(), IDeals::NotParty { deal: scene.deal });
    for _ in 0..2000 {
        if scene.world.send(operator.address, DEALS, 0, close.clone()).success {
            break;
        }
        scene.world.prove(&scene.host);
    }
    scene.world.idle(30);
    assert_eq!(scene.deal().state, 3, "its operator was free to end it once nothing was left");
    assert_eq!(scene.listed().len(), 1);
    scene.world.audit();
}
