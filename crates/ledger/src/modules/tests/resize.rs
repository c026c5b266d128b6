//! Give deals more room and less, and see who pays what.

use alloy_primitives::{Bytes, U256};
use alloy_sol_types::{SolCall, SolError};
use hodei_types::abi::{DEALS, IDeals, IProviders, LEAF_BYTES, PROVIDERS};

use super::{
    scene::{Scene, scene},
    world::{COIN, events},
};

const ROOM: u64 = 1 << 24;

fn resize(deal: u64, capacity_bytes: u64, price_max: u128) -> Vec<u8> {
    let one = IDeals::Resize { deal, capacityBytes: capacity_bytes, priceMax: price_max };
    IDeals::resizeCall { deals: vec![one] }.abi_encode()
}

impl Scene {
    fn used_bytes(&self) -> u64 {
        self.world.view(PROVIDERS, IProviders::getCall { node: self.host.node }).usedBytes
    }

    fn reprice(&mut self, price: u128) {
        let offer = IProviders::Offer { priceStore: price, ..self.host.offer() };
        let call = IProviders::updateCall { node: self.host.node, offer }.abi_encode();
        self.world.must(self.host.operator.address, PROVIDERS, 0, call);
    }

    /// Whether the ledger takes a post of `count` more shards of so many leaves.
    fn post(&mut self, count: usize, leaves: usize) -> bool {
        let last = (0..count).map(|_| self.host.add(self.deal, leaves, &self.owner)).last().unwrap();
        let call = IDeals::postCall { posts: vec![last] }.abi_encode();
        let is_taken = self.world.send(self.owner.address, DEALS, 0, call).success;
        if !is_taken {
            let shards = self.host.shards.get_mut(&self.deal).unwrap();
            shards.truncate(shards.len() - count);
        }
        is_taken
    }
}

#[test]
fn a_deal_grows_at_the_price_of_now_and_earns_the_old_one_before() {
    let mut scene = scene(1024);
    let (owner, deal) = (scene.owner.address, scene.deal);
    scene.world.prove(&scene.host);
    let earned = scene.deal().owed;
    assert!(!earned.is_zero());
    scene.reprice(3 * COIN);
    let dear = scene.world.send(owner, DEALS, 0, resize(deal, 2 * ROOM, 2 * COIN));
    assert_eq!(dear.output, Bytes::from(IDeals::PriceAboveMax { price: 3 * COIN }.abi_encode()));
    let stranger = scene.world.send(scene.host.operator.address, DEALS, 0, resize(deal, 2 * ROOM, 3 * COIN));
    assert_eq!(stranger.output, Bytes::from(IDeals::NotParty { deal }.abi_encode()));
    let free_bytes = (1 << 30) - ROOM;
    let huge = scene.world.send(owner, DEALS, 0, resize(deal, (1 << 30) + 1, 3 * COIN));
    assert_eq!(huge.output, Bytes::from(IDeals::CapacityExceeded { freeBytes: free_bytes }.abi_encode()));
    let applied = scene.world.must(owner, DEALS, 0, resize(deal, 2 * ROOM, 3 * COIN));
    let told = IDeals::Resized { deal, provider: scene.host.node, capacityBytes: 2 * ROOM, price: 3 * COIN };
    assert_eq!(events::<IDeals::Resized>(&applied.logs), [told]);
    let now = scene.deal();
    assert_eq!(
        (now.capacityBytes, now.pledgedBytes, now.price, now.paid, now.owed),
        (2 * ROOM, 2 * ROOM, 3 * COIN, earned, U256::ZERO)
    );
    assert_eq!(scene.used_bytes(), 2 * ROOM);
    scene.world.idle(10);
    scene.world.prove(&scene.host);
    assert_eq!(scene.deal().owed, earned * U256::from(3));
    // Smaller again: the price stays, and the room is the provider's.
    scene.reprice(COIN);
    scene.world.must(owner, DEALS, 0, resize(deal, ROOM, 0));
    assert_eq!((scene.deal().price, scene.used_bytes()), (3 * COIN, ROOM));
    scene.world.audit();
}

#[test]
fn a_deal_of_no_room_only_lets_go_and_its_provider_keeps_room_for_what_it_holds() {
    let mut scene = scene(1024);
    let (owner, deal) = (scene.owner.address, scene.deal);
    assert!(scene.post(11, 1024));
    let held = 12_288 * LEAF_BYTES;
    scene.world.must(owner, DEALS, 0, resize(deal, 0, 0));
    let now = scene.deal();
    assert_eq!((now.capacityBytes, now.pledgedBytes, scene.used_bytes()), (0, held, held));
    assert!(!scene.post(8, 1024), "it takes nothing new beyond what a post may be late with");
    assert!(scene.post(1, 4), "what it lets go of is told, though it is above its capacity");
    scene.world.prove(&scene.host);
    assert!(!scene.deal().owed.is_zero(), "what it holds is paid");
    // Large again, in a provider that takes new deals.
    let call = IProviders::retireCall { node: scene.host.node }.abi_encode();
    let again = resize(deal, ROOM, COIN);
    scene.world.must(owner, DEALS, 0, again.clone());
    assert_eq!(scene.used_bytes(), ROOM);
    scene.world.must(owner, DEALS, 0, resize(deal, 0, 0));
    scene.world.must(scene.host.operator.address, PROVIDERS, 0, call);
    let refused = scene.world.send(owner, DEALS, 0, again);
    assert_eq!(refused.output, Bytes::from(IDeals::ProviderUnavailable { provider: scene.host.node }.abi_encode()));
    let before = scene.world.balance(owner);
    let escrow = scene.deal().escrow;
    scene.close();
    for _ in 0..30 {
        scene.world.idle(1);
        if scene.deal().state == 3 {
            break;
        }
        let call = IDeals::touchCall { deals: vec![deal] }.abi_encode();
        scene.world.send(owner, DEALS, 0, call);
    }
    assert_eq!((scene.deal().state, scene.used_bytes()), (3, 0));
    assert!(scene.world.balance(owner) + U256::from(COIN) > before + U256::from(escrow), "what is left came back");
    scene.world.audit();
}

#[test]
fn a_batch_is_resized_as_a_whole_or_not_at_all() {
    let mut scene = scene(4);
    let other = scene.host.operator.address;
    let one = |deal| IDeals::Resize { deal, capacityBytes: 0, priceMax: 0 };
    let call = IDeals::resizeCall { deals: vec![one(scene.deal), one(99)] }.abi_encode();
    assert!(!scene.world.send(scene.owner.address, DEALS, 0, call).success);
    assert_eq!(scene.deal().capacityBytes, ROOM);
    let call = IDeals::resizeCall { deals: vec![one(scene.deal)] }.abi_encode();
    assert!(!scene.world.send(other, DEALS, 0, call).success);
}
