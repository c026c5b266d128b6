//! Name custodians, let them restore, and see what they cannot do.

use alloy_primitives::{Address, B256, Bytes, U256};
use alloy_sol_types::SolCall;
use hodei_types::abi::{BUCKETS, DEALS, IBuckets, IDeals, MODULES, SYSTEM};

use super::{
    scene::{Scene, coins, scene},
    world::{COIN, Host, Person, World, events},
};

pub(super) fn word(n: u8) -> B256 {
    B256::with_last_byte(n)
}

pub(super) fn appoint(id: B256, custodian: Address) -> Vec<u8> {
    IBuckets::appointCall { id, custodian }.abi_encode()
}

fn dismiss(id: B256, custodian: Address) -> Vec<u8> {
    IBuckets::dismissCall { id, custodian }.abi_encode()
}

pub(super) fn lay(id: B256, expected: u8, overlay: u8) -> Vec<u8> {
    IBuckets::layCall { id, expected: word(expected), overlay: word(overlay) }.abi_encode()
}

pub(super) fn open(bucket: B256, hosts: &[&Host], escrow: u128) -> Vec<u8> {
    let terms = |host: &&Host| IDeals::Terms { provider: host.node, capacityBytes: 1 << 20, priceMax: COIN, escrow };
    IDeals::openCall { bucket, terms: hosts.iter().map(terms).collect() }.abi_encode()
}

pub(super) fn post(posts: &[&IDeals::RootPost]) -> Vec<u8> {
    IDeals::postCall { posts: posts.iter().map(|post| (*post).clone()).collect() }.abi_encode()
}

/// Another provider of the same operator.
pub(super) fn another(world: &mut World, n: u8, operator: Person) -> Host {
    let host = Host::new(n, operator);
    world.register(&host);
    host
}

impl Scene {
    /// Somebody with coin.
    pub(super) fn person(&mut self, n: u8) -> Person {
        let person = Person::new(n);
        self.world.must(self.owner.address, person.address, 1000 * COIN, Vec::new());
        person
    }

    /// Somebody with coin who is named.
    pub(super) fn custodian(&mut self, n: u8) -> Person {
        let custodian = self.person(n);
        self.world.must(self.owner.address, BUCKETS, 0, appoint(self.bucket, custodian.address));
        custodian
    }

    pub(super) fn is_custodian(&self, who: &Person) -> bool {
        self.world.view(BUCKETS, IBuckets::isCustodianCall { id: self.bucket, account: who.address })
    }

    pub(super) fn reserve(&self) -> U256 {
        self.world.view(DEALS, IDeals::reserveCall { bucket: self.bucket })
    }

    pub(super) fn fund(&mut self, by: &Person, amount: u128) {
        self.world.must(by.address, DEALS, amount, IDeals::fundCall { bucket: self.bucket }.abi_encode());
    }

    /// Answers early in a window: roots move for some blocks.
    pub(super) fn answer(&mut self) {
        let window = self.world.window();
        while self.world.window() == window {
            self.world.idle(1);
        }
        self.world.prove(&self.host);
    }

    /// A statement of the host about what it holds, that a custodian may send.
    pub(super) fn unsigned(&self, sequence: u64) -> IDeals::RootPost {
        let post = self.host.statement(self.deal, sequence, &self.owner);
        IDeals::RootPost { ownerSignature: Bytes::new(), ..post }
    }
}

#[test]
fn the_owners_side_names_eight_custodians_and_no_more() {
    let mut scene = scene(0);
    let (owner, budget, stranger) = (scene.owner, scene.thief(), scene.person(3));
    let (id, named) = (scene.bucket, scene.custodian(4));
    for who in [stranger, named] {
        let error = IBuckets::NotOwner { owner: owner.address };
        scene.refused(&who, BUCKETS, appoint(id, stranger.address), error);
    }
    for bad in [Address::ZERO, SYSTEM, owner.address].into_iter().chain(MODULES) {
        scene.refused(&owner, BUCKETS, appoint(id, bad), IBuckets::BadCustodian { custodian: bad });
    }
    let twice = IBuckets::AlreadyCustodian { custodian: named.address };
    scene.refused(&budget, BUCKETS, appoint(id, named.address), twice);
    let unknown = IBuckets::UnknownBucket { id: word(1) };
    scene.refused(&owner, BUCKETS, appoint(word(1), named.address), unknown);
    let more: Vec<_> = (20..27).map(Person::new).collect();
    for person in &more {
        let applied = scene.world.must(budget.address, BUCKETS, 0, appoint(id, person.address));
        let told = IBuckets::Appointed { id, custodian: person.address };
        assert_eq!(events::<IBuckets::Appointed>(&applied.logs), [told]);
    }
    scene.refused(&owner, BUCKETS, appoint(id, stranger.address), IBuckets::TooManyCustodians { most: 8 });
    let listed = scene.world.view(BUCKETS, IBuckets::custodiansCall { id });
    let all: Vec<_> = [named].iter().chain(&more).map(|person| person.address).collect();
    assert_eq!((listed, scene.record().custodians), (all, 8));
    assert!(more.iter().all(|person| scene.is_custodian(person)) && !scene.is_custodian(&stranger));
    // Where one goes another may come.
    scene.world.must(budget.address, BUCKETS, 0, dismiss(id, more[0].address));
    scene.world.must(owner.address, BUCKETS, 0, appoint(id, stranger.address));
    assert_eq!(scene.record().custodians, 8);
    scene.world.audit();
}

#[test]
fn who_is_dismissed_has_no_rights_left() {
    let mut scene = scene(8);
    let (first, second, stranger) = (scene.custodian(3), scene.custodian(4), scene.person(5));
    let (owner, id) = (scene.owner, scene.bucket);
    for who in [stranger, second] {
        scene.refused(&who, BUCKETS, dismiss(id, first.address), IBuckets::NotCustodian { caller: who.address });
    }
    let none = IBuckets::NotCustodian { caller: stranger.address };
    scene.refused(&owner, BUCKETS, dismiss(id, stranger.address), none.clone());
    scene.refused(&stranger, BUCKETS, dismiss(id, stranger.address), none);
    // By the owner, and by itself.
    let applied = scene.world.must(owner.address, BUCKETS, 0, dismiss(id, first.address));
    let told = IBuckets::Dismissed { id, custodian: first.address };
    assert_eq!(events::<IBuckets::Dismissed>(&applied.logs), [told]);
    scene.world.must(second.address, BUCKETS, 0, dismiss(id, second.address));
    assert_eq!(scene.record().custodians, 0);
    scene.fund(&owner, COIN);
    let host = another(&mut scene.world, 2, scene.host.operator);
    scene.answer();
    scene.host.add(scene.deal, 4, &owner);
    let grown = scene.unsigned(2);
    for who in [first, second] {
        assert!(!scene.is_custodian(&who));
        scene.refused(&who, BUCKETS, lay(id, 0, 1), IBuckets::NotCustodian { caller: who.address });
        scene.refused(&who, DEALS, open(id, &[&host], COIN), IDeals::NotOwner { owner: owner.address });
        scene.refused(&who, DEALS, post(&[&grown]), IDeals::BadOwnerSignature { deal: scene.deal });
    }
    scene.world.audit();
}

#[test]
fn a_custodian_posts_what_grows_and_is_refused_what_shrinks() {
    let mut scene = scene(8);
    let (custodian, deal) = (scene.custodian(3), scene.deal);
    let (owner, operator) = (scene.owner, scene.host.operator);
    scene.world.must(owner.address, BUCKETS, 0, appoint(scene.bucket, operator.address));
    scene.answer();
    scene.host.add(deal, 4, &owner);
    let grown = scene.unsigned(2);
    // Only itself, and only with the provider's signature, be it the provider's operator.
    let signed = scene.host.statement(deal, 2, &custodian);
    scene.refused(&custodian, DEALS, post(&[&signed]), IDeals::BadOwnerSignature { deal });
    let alone = IDeals::RootPost { providerSignature: Bytes::new(), ..grown.clone() };
    for who in [custodian, operator] {
        scene.refused(&who, DEALS, post(&[&alone]), IDeals::BadProviderSignature { deal });
    }
    scene.world.must(custodian.address, DEALS, 0, post(&[&grown]));
    assert_eq!((scene.deal().leaves, scene.deal().sequence), (12, 2));
    // As many leaves are no less; one less is, also behind a post that grows.
    let shards = scene.host.shards.insert(deal, vec![vec![7; 12 << 10]]).unwrap();
    let same = scene.unsigned(3);
    scene.host.shards.insert(deal, vec![vec![7; 11 << 10]]);
    let less = scene.unsigned(4);
    scene.host.shards.insert(deal, shards);
    scene.answer();
    for posts in [vec![&less], vec![&same, &less]] {
        scene.refused(&custodian, DEALS, post(&posts), IDeals::NotParty { deal });
        assert_eq!(scene.deal().sequence, 2);
    }
    scene.world.must(custodian.address, DEALS, 0, post(&[&same]));
    // The owner lets go of it as ever.
    scene.world.must(owner.address, DEALS, 0, post(&[&less]));
    assert_eq!((scene.deal().leaves, scene.deal().sequence), (11, 4));
    scene.world.audit();
}

#[test]
fn a_custodian_neither_writes_nor_ends_anything() {
    let mut scene = scene(8);
    let custodian = scene.custodian(3);
    let (owner, id, deal) = (scene.owner.address, scene.bucket, scene.deal);
    scene.fund(&custodian, COIN);
    let bucket = scene.record();
    let kept = vec![IBuckets::Kept { leaf: word(1), untilMs: u64::MAX, number: 0 }];
    let (term, root, expected) = (bucket.term, word(2), bucket.root);
    let calls = [
        IBuckets::claimCall { id, blocks: 5 }.abi_encode(),
        IBuckets::commitCall { id, term, expected, root, sizeBytes: 1 }.abi_encode(),
        IBuckets::commitKeptCall { id, term, expected, root, sizeBytes: 1, kept }.abi_encode(),
        IBuckets::reshapeCall { id, term, shape: bucket.shape.clone() }.abi_encode(),
        IBuckets::removeCall { id }.abi_encode(),
        appoint(id, Person::new(9).address),
    ];
    for call in calls {
        scene.refused(&custodian, BUCKETS, call, IBuckets::NotOwner { owner });
    }
    for bytes in [0, 1 << 25] {
        let one = IDeals::Resize { deal, capacityBytes: bytes, priceMax: u128::MAX };
        let call = IDeals::resizeCall { deals: vec![one] }.abi_encode();
        scene.refused(&custodian, DEALS, call, IDeals::NotParty { deal });
    }
    let close = IDeals::closeCall { deals: vec![deal] }.abi_encode();
    scene.refused(&custodian, DEALS, close, IDeals::NotParty { deal });
    let withdraw = IDeals::withdrawCall { bucket: id, amount: U256::MAX }.abi_encode();
    scene.refused(&custodian, DEALS, withdraw, IDeals::NotOwner { owner });
    let wage = IDeals::setWageCall { bucket: id, perGib: COIN, perDay: COIN }.abi_encode();
    scene.refused(&custodian, DEALS, wage, IDeals::NotOwner { owner });
    assert_eq!((scene.record(), scene.deal().state, scene.reserve()), (bucket, 1, coins(1)));
    scene.world.audit();
}

#[test]
fn an_overlay_moves_only_from_what_its_writer_saw() {
    let mut scene = scene(0);
    let (owner, budget) = (scene.owner, scene.thief());
    let (custodian, stranger) = (scene.custodian(3), scene.person(4));
    let id = scene.bucket;
    scene.refused(&stranger, BUCKETS, lay(id, 0, 1), IBuckets::NotCustodian { caller: stranger.address });
    let applied = scene.world.must(custodian.address, BUCKETS, 0, lay(id, 0, 1));
    let told = IBuckets::Laid { id, by: custodian.address, overlay: word(1) };
    assert_eq!(events::<IBuckets::Laid>(&applied.logs), [told]);
    for who in [custodian, owner, budget] {
        scene.refused(&who, BUCKETS, lay(id, 0, 2), IBuckets::OverlayConflict { overlay: word(1) });
    }
    let before = scene.record();
    // Whoever holds the term, and whether it is over.
    for (who, expected) in [(budget, 1), (custodian, 2), (owner, 3)] {
        scene.world.idle(1000);
        scene.world.must(who.address, BUCKETS, 0, lay(id, expected, expected + 1));
    }
    assert_eq!(scene.record(), IBuckets::Bucket { overlay: word(4), ..before }, "nothing else moved");
    // A commit leaves it where it is.
    let term = scene.world.must(owner.address, BUCKETS, 0, IBuckets::claimCall { id, blocks: 9 }.abi_encode());
    let term = U256::from_be_slice(&term.output).to();
    let commit = IBuckets::commitCall { id, term, expected: word(0), root: word(9), sizeBytes: 1 }.abi_encode();
    scene.world.must(owner.address, BUCKETS, 0, commit);
    assert_eq!((scene.record().root, scene.record().overlay), (word(9), word(4)));
    scene.world.must(custodian.address, BUCKETS, 0, lay(id, 4, 0));
    assert!(scene.record().overlay.is_zero());
}
