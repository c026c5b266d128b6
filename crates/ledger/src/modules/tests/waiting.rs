//! Wait for room: whoever waits is tried in turn.

use hodei_types::abi::{
    ILeases,
    IMarket::{self, Order},
    LEASES, MARKET,
};

use super::{
    market::{Fair, offer, terms},
    world::COIN,
};
use alloy_sol_types::SolCall;

#[test]
fn who_waits_is_tried_in_turn_however_many_come_behind() {
    let mut fair = Fair::new([offer(1), offer(2), offer(2)]);
    let full = fair.must(terms(4), COIN);
    let waits = Order { class: 1, priceMax: 1_800_000, patienceMs: 600_000, ..terms(4) };
    let first = fair.must(waits.clone(), 1_200_000);
    // More come, that nobody can serve, than batches have tries: one each second.
    let tight = Order { priceMax: 1, secs: 60, ..waits };
    for _ in 0..30 {
        fair.must(tight.clone(), 1);
    }
    let leases = fair.world.view(MARKET, IMarket::placedCall { id: full }).leases;
    fair.world.must(fair.tenant.address, LEASES, 0, ILeases::endCall { leases }.abi_encode());
    // It was tried last when at most 31 waited: it is again four batches later.
    for _ in 0..50 {
        fair.must(tight.clone(), 1);
    }
    assert_eq!(fair.world.view(MARKET, IMarket::placedCall { id: first }).state, 2);
}

#[test]
fn who_takes_orders_back_holds_up_nobody() {
    let mut fair = Fair::new([offer(1), offer(2), offer(2)]);
    let full = fair.must(terms(4), COIN);
    let waits = Order { class: 1, priceMax: 1_800_000, patienceMs: 600_000, ..terms(4) };
    let tight = Order { priceMax: 1, secs: 60, ..waits.clone() };
    let stuck: Vec<u64> = (0..12).map(|_| fair.must(tight.clone(), 1)).collect();
    let last = fair.must(waits, 1_200_000);
    // From the front, the middle and the end, whichever is tried next.
    let owner = fair.tenant.address;
    for id in [stuck[0], stuck[11], stuck[5], stuck[6], stuck[1]] {
        fair.world.must(owner, MARKET, 0, IMarket::cancelCall { id }.abi_encode());
    }
    let leases = fair.world.view(MARKET, IMarket::placedCall { id: full }).leases;
    fair.world.must(owner, LEASES, 0, ILeases::endCall { leases }.abi_encode());
    fair.world.idle(10);
    assert_eq!(fair.world.view(MARKET, IMarket::placedCall { id: last }).state, 2, "eight wait");
    for id in stuck {
        if fair.world.view(MARKET, IMarket::placedCall { id }).state != 1 {
            continue;
        }
        fair.world.must(owner, MARKET, 0, IMarket::cancelCall { id }.abi_encode());
    }
    fair.world.idle(20);
    fair.world.audit();
}
