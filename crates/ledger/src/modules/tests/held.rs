//! Hold room: who may stand in it, whom that pays, how long it lasts, and what becomes of it when its host is lost.

use alloy_primitives::{B256, U256};
use alloy_sol_types::{SolCall, SolError};
use hodei_types::{
    abi::{
        ILeases,
        IMarket::{self, Capacity, Order, Placement, Prices},
        LEASES, MARKET,
    },
    market::WITHIN_RATE,
};

use super::{
    market::{Fair, offer, terms},
    watch::SUSPECT_SECS,
    world::{COIN, Person, events, params},
};
use crate::execute::{Applied, Params};

/// Three hosts at 1, 2 and 3 wei a second for a thousandth of a CPU, and windows of a day.
fn fair() -> Fair {
    Fair::with(Params { window_ms: 86_400_000, ..params() }, [offer(1), offer(2), offer(3)])
}

/// So many times a CPU held, each on another host: room for two replicas of [`terms`].
fn held(replicas: u8) -> Order {
    let each = Capacity { cpuMilli: 1000, memoryBytes: 2 << 30, ..Capacity::default() };
    Order { each, workload: B256::ZERO, perHost: 1, ..terms(replicas) }
}

/// Replicas of half a CPU within a reservation, for a minute at least.
fn within(order: u64, replicas: u8) -> Order {
    Order { within: order, secs: 60, ..terms(replicas) }
}

/// Half a wei a second for a thousandth of a CPU.
fn prices() -> Prices {
    Prices { cpuMilli: 1800, ..Prices::default() }
}

impl Fair {
    fn reserved(&self, order: u64) -> IMarket::reservedReturn {
        self.world.view(MARKET, IMarket::reservedCall { order })
    }

    fn lend(&mut self, lease: u64) -> Applied {
        let call = IMarket::lendCall { lease, prices: prices(), preemptibleBp: 5_000 };
        self.world.must(self.tenant.address, MARKET, 0, call.abi_encode())
    }

    /// Somebody who runs no host, with coins of the tenant's.
    fn buyer(&mut self) -> Person {
        let buyer = Person::new(5);
        self.world.must(self.tenant.address, buyer.address, COIN, Vec::new());
        buyer
    }

    /// An order of somebody's; the one lease it began.
    fn bought(&mut self, by: Person, terms: Order, deposit: u128) -> u64 {
        let call = IMarket::orderCall { terms }.abi_encode();
        let applied = self.world.must(by.address, MARKET, deposit, call);
        events::<ILeases::Begun>(&applied.logs)[0].lease
    }

    fn placements(&self, terms: Order) -> Vec<Placement> {
        self.world.view(MARKET, IMarket::quoteCall { terms })
    }

    fn depth(&self) -> u64 {
        let depth = self.world.view(MARKET, IMarket::depthCall { region: 16, runtime: 0 });
        depth.iter().map(|step| step.offers).sum()
    }

    /// Ends leases of the tenant that must be there.
    fn over(&mut self, leases: &[u64]) {
        let call = ILeases::endCall { leases: leases.to_vec() };
        self.world.must(self.tenant.address, LEASES, 0, call.abi_encode());
        self.world.audit();
    }

    /// Nothing is leased, nor in escrow.
    fn assert_empty(&self) {
        assert_eq!(self.world.balance(LEASES), U256::ZERO);
        for host in [0, 1, 2] {
            assert_eq!((self.host(host).leases, self.host(host).free), (0, offer(1).capacity));
        }
    }
}

#[test]
fn a_private_pool_takes_its_owners_orders_until_it_is_full_and_nobody_elses() {
    let mut fair = fair();
    let owner = fair.tenant.address;
    // A CPU at 1,000 wei a second, and one at 2,000.
    let pool = fair.must(held(2), 7200 * 3000);
    assert_eq!((fair.lease(1).rate, fair.lease(2).rate, fair.lease(1).workload), (1000, 2000, B256::ZERO));
    assert_eq!((fair.host(0).free.cpuMilli, fair.host(0).leases), (1000, 1));
    let app = fair.must(within(pool, 4), 4 * 600);
    let leases: Vec<_> = (3..=6).map(|lease| fair.lease(lease)).collect();
    assert!(leases.iter().all(|lease| lease.rate == WITHIN_RATE && lease.left == 600));
    for via in [1, 2] {
        let in_it: Vec<_> = leases.iter().filter(|lease| lease.via == via).collect();
        assert_eq!(in_it.len(), 2);
        assert!(in_it.iter().all(|lease| lease.node == fair.lease(via).node), "it is where its room is");
    }
    // The room is the held lease's, and is not taken of the host again.
    assert_eq!((fair.host(0).free.cpuMilli, fair.host(0).leases), (1000, 3));
    let shown = fair.reserved(pool);
    assert_eq!((shown.held.len(), shown.earned), (2, U256::ZERO));
    assert!(shown.held.iter().all(|one| (one.leases, one.free.cpuMilli, one.lent) == (2, 0, false)));
    assert_eq!((shown.held[0].lease, shown.held[0].order, shown.held[0].holder), (1, pool, owner));

    fair.refused(within(pool, 1), COIN, IMarket::NoFit { placed: 0, wanted: 1 });
    fair.refused(within(app, 1), COIN, IMarket::NotReserved { order: app });
    fair.refused(within(99, 1), COIN, IMarket::UnknownOrder { order: 99 });
    fair.refused(Order { within: pool, ..held(1) }, COIN, IMarket::BadOrder { field: "within".into() });
    let stranger = fair.hosts[2].operator.address;
    let call = IMarket::orderCall { terms: within(pool, 1) }.abi_encode();
    let refused = fair.world.send(stranger, MARKET, COIN, call);
    assert_eq!(refused.output[..], IMarket::NotOwner { owner }.abi_encode()[..]);

    // It pays its holder, who is its owner, less what is burned.
    let before = fair.world.balance(owner);
    let settled = events::<ILeases::Settled>(&fair.touched(3).logs)[0].clone();
    assert_eq!((settled.operator, settled.amount + settled.burned), (owner, U256::from(settled.secs)));
    assert_eq!(fair.world.balance(owner), before + settled.amount);
    assert_eq!(fair.reserved(pool).earned, U256::ZERO, "what one pays oneself is not earned");

    // What is stood in does not end, whoever would end it.
    let holds = ILeases::HoldsLeases { lease: 1, leases: 2 }.abi_encode();
    assert_eq!(fair.end(1).output[..], holds[..]);
    assert_eq!(fair.quit(0, 1).output[..], holds[..]);
    fair.over(&[3, 4, 5, 6]);
    assert!(fair.reserved(pool).held.iter().all(|one| (one.leases, one.free) == (0, held(1).each)));
    assert_eq!(fair.host(0).leases, 1);
    fair.over(&[1, 2]);
    fair.assert_empty();
    assert!(fair.reserved(pool).held.is_empty());
}

#[test]
fn nothing_in_a_pool_is_paid_for_beyond_its_end() {
    let mut fair = fair();
    let pool = fair.must(held(1), 600 * 1000);
    // A second later.
    let order = IMarket::orderCall { terms: within(pool, 1) }.abi_encode();
    let filled = fair.world.must(fair.tenant.address, MARKET, 10_000, order);
    let filled = &events::<IMarket::Filled>(&filled.logs)[0];
    assert_eq!((filled.escrow, filled.change), (U256::from(599), U256::from(10_000 - 599)));
    assert_eq!(fair.lease(2).untilMs, fair.lease(1).untilMs);
    let long = Order { secs: 600, ..within(pool, 1) };
    fair.refused(long, COIN, IMarket::HeldTooShort { secs: 598 });
    let renew = |lease| ILeases::renewCall { lease }.abi_encode();
    let tenant = fair.tenant.address;
    let refused = |most| ILeases::BadRenewal { rate: U256::from(1), secsMax: most }.abi_encode();
    assert_eq!(fair.world.send(tenant, LEASES, 1, renew(2)).output[..], refused(0)[..]);
    fair.world.must(tenant, LEASES, 100_000, renew(1));
    assert_eq!(fair.world.send(tenant, LEASES, 101, renew(2)).output[..], refused(100)[..]);
    fair.world.must(tenant, LEASES, 100, renew(2));
    assert_eq!(fair.lease(2).untilMs, fair.lease(1).untilMs);
    for _ in 0..240 {
        fair.world.block_after(3000, &[]);
    }
    // Over as it is, it ends after what stands in it.
    fair.touched(1);
    assert_eq!((fair.lease(1).state, fair.lease(1).left, fair.lease(2).left), (1, 0, 699));
    fair.touched(2);
    assert_eq!((fair.lease(1).state, fair.lease(2).state), (1, 2));
    fair.touched(1);
    assert_eq!(fair.lease(1).state, 2);
    fair.assert_empty();
}

#[test]
fn what_is_lent_is_in_the_open_book_and_pays_its_holder_to_the_wei() {
    let mut fair = fair();
    let (owner, buyer) = (fair.tenant.address, fair.buyer());
    let pool = fair.must(held(1), 7200 * 1000);
    let lend = |lease, prices| IMarket::lendCall { lease, prices, preemptibleBp: 5_000 }.abi_encode();
    let stolen = fair.world.send(buyer.address, MARKET, 0, lend(1, prices()));
    assert_eq!(stolen.output[..], IMarket::NotOwner { owner }.abi_encode()[..]);
    let none = fair.world.send(owner, MARKET, 0, lend(9, prices()));
    assert_eq!(none.output[..], IMarket::NotHeld { lease: 9 }.abi_encode()[..]);
    let dear = fair.world.send(owner, MARKET, 0, lend(1, Prices { memoryMib: u64::MAX, ..prices() }));
    assert_eq!(dear.output[..], IMarket::BadOffer { field: "prices".into() }.abi_encode()[..]);
    assert_eq!(fair.depth(), 3);
    assert_eq!(fair.placements(terms(1))[0].via, 0);

    assert_eq!(events::<IMarket::Lent>(&fair.lend(1).logs)[0].holder, owner);
    assert_eq!(fair.depth(), 4);
    let listed = fair.world.view(MARKET, IMarket::lentCall { first: 0, most: 64 });
    assert_eq!((listed.len(), listed[0].lease, listed[0].prices, listed[0].lent), (1, 1, prices(), true));
    let [first, second] = [0, 1].map(|host| fair.hosts[host].node);
    let placed = |placed: Vec<Placement>| placed.iter().map(|one| (one.node, one.rate, one.via)).collect::<Vec<_>>();
    assert_eq!(placed(fair.placements(terms(3))), [(first, 250, 1), (first, 250, 1), (first, 500, 0)]);
    // Its operator is its host's, and what is held is not held again.
    let spread = Order { perOperator: 1, ..terms(2) };
    assert_eq!(placed(fair.placements(spread)), [(first, 250, 1), (second, 1000, 0)]);
    assert_eq!(placed(fair.placements(Order { each: terms(1).each, ..held(1) })), [(first, 500, 0)]);
    assert_eq!(fair.placements(Order { secs: 7201, ..terms(1) })[0].via, 0, "it ends sooner");

    let lease = fair.bought(buyer, terms(1), 250 * 600);
    let bought = fair.lease(lease);
    assert_eq!((bought.via, bought.rate, bought.owner, bought.node), (1, 250, buyer.address, first));
    assert_eq!((fair.host(0).free.cpuMilli, fair.reserved(pool).held[0].free.cpuMilli), (1000, 500));
    fair.world.idle(99);
    let before = [owner, fair.hosts[0].operator.address].map(|one| fair.world.balance(one));
    fair.touched(lease);
    let pay = U256::from(250 * 100 - 250);
    assert_eq!(fair.world.balance(owner), before[0] + pay);
    assert_eq!(fair.world.balance(fair.hosts[0].operator.address), before[1]);
    assert_eq!(fair.reserved(pool).earned, pay);

    // Who bought it is its owner: neither the holder nor a recall ends it, but it is not renewed.
    let end = ILeases::endCall { leases: vec![lease] }.abi_encode();
    let refused = fair.world.send(owner, LEASES, 0, end.clone());
    assert_eq!(refused.output[..], ILeases::NotOwner { owner: buyer.address }.abi_encode()[..]);
    let quit = ILeases::quitCall { leases: vec![lease] }.abi_encode();
    let operator = fair.hosts[0].operator.address;
    let refused = fair.world.send(owner, LEASES, 0, quit);
    assert_eq!(refused.output[..], ILeases::NotOperator { operator }.abi_encode()[..]);
    let renew = ILeases::renewCall { lease }.abi_encode();
    fair.world.must(buyer.address, LEASES, 250, renew.clone());
    let recall = IMarket::recallCall { lease: 1 }.abi_encode();
    fair.world.must(owner, MARKET, 0, recall.clone());
    assert_eq!((fair.depth(), fair.placements(terms(1))[0].via, fair.lease(lease).state), (3, 0, 1));
    let refused = fair.world.send(buyer.address, LEASES, 250, renew);
    assert_eq!(refused.output[..], ILeases::BadRenewal { rate: U256::from(250), secsMax: 0 }.abi_encode()[..]);
    let again = fair.world.send(owner, MARKET, 0, recall);
    assert_eq!(again.output[..], IMarket::NotLent { lease: 1 }.abi_encode()[..]);
    fair.world.must(buyer.address, LEASES, 0, end);
    fair.over(&[1]);
    fair.assert_empty();
}

#[test]
fn what_is_full_leaves_the_book_and_what_was_bought_preemptible_its_holder_takes_back_for_nothing() {
    let mut fair = fair();
    let buyer = fair.buyer();
    let pool = fair.must(held(1), 7200 * 1000);
    fair.lend(1);
    let preemptible = Order { class: 2, ..terms(1) };
    let lease = fair.bought(buyer, preemptible.clone(), 125 * 600);
    assert_eq!((fair.lease(lease).via, fair.lease(lease).rate), (1, 125));
    let other = fair.bought(buyer, preemptible, 125 * 600);
    assert_eq!((fair.depth(), fair.lease(other).via), (3, 1), "it is full");
    let collateral = fair.host(0).collateral;
    let quit = |lease| ILeases::quitCall { leases: vec![lease] }.abi_encode();
    let applied = fair.world.must(fair.tenant.address, LEASES, 0, quit(lease));
    let ended = &events::<ILeases::Ended>(&applied.logs)[0];
    assert_eq!((ended.by, ended.penalty, fair.host(0).collateral), (2, U256::ZERO, collateral));
    assert_eq!((fair.depth(), fair.reserved(pool).held[0].leases), (4, 1));
    // Its host did not sell it as such: it loses what the rest would have paid.
    let left = fair.lease(other).left;
    let ended = events::<ILeases::Ended>(&fair.quit(0, other).logs)[0].clone();
    assert!(ended.penalty > U256::ZERO && ended.penalty < U256::from(left));
    assert_eq!(fair.host(0).collateral, collateral - ended.penalty);
    fair.over(&[1]);
    fair.assert_empty();
}

#[test]
fn resale_is_in_the_index_and_what_one_sells_oneself_is_not() {
    let mut fair = fair();
    let buyer = fair.buyer();
    let pool = fair.must(held(1), 2 * 7200 * 1000);
    fair.lend(1);
    let sold = fair.bought(buyer, terms(1), 250 * 7200);
    let own = fair.bought(fair.tenant, terms(1), 250 * 7200);
    assert_eq!([sold, own].map(|lease| fair.lease(lease).via), [1, 1]);
    let second = fair.must(held(1), 2 * 7200 * 1000);
    assert_ne!(second, pool);
    let inside = fair.bought(fair.tenant, within(second, 1), 7200);
    for _ in 0..1201 {
        fair.world.block_after(3000, &[]);
    }
    let sampled = |applied: Applied| events::<IMarket::Sampled>(&applied.logs).len();
    assert_eq!([own, inside, sold, 1].map(|lease| sampled(fair.touched(lease))), [0, 0, 1, 1]);
}

#[test]
fn what_stands_in_a_lease_that_is_lost_is_its_hosts_until_it_is_lost_too() {
    let mut fair = fair();
    let (owner, buyer) = (fair.tenant.address, fair.buyer());
    let pool = fair.must(held(1), 7200 * 3000);
    fair.lend(1);
    let own = fair.bought(fair.tenant, within(pool, 1), 7000);
    let sold = fair.bought(buyer, terms(1), 250 * 7000);
    let lost = fair.lose(1);
    let next = events::<ILeases::Replaced>(&lost.logs)[0].next;
    assert_eq!((fair.lease(next).node, fair.lease(next).rate), (fair.hosts[1].node, 2000));
    let shown = fair.reserved(pool);
    assert_eq!((shown.held.len(), shown.held[0].lease, shown.held[0].lent), (1, next, true), "lent as before");
    assert_eq!((shown.held[0].free, shown.held[0].leases), (held(1).each, 0));
    // What nothing stands in is the host's again; the rest it has, and is paid for.
    assert_eq!((fair.host(0).free.cpuMilli, fair.host(0).leases), (1000, 2));
    let operator = fair.hosts[0].operator.address;
    let settled = events::<ILeases::Settled>(&fair.touched(sold).logs)[0].clone();
    assert_eq!(settled.operator, operator);
    let renew = ILeases::renewCall { lease: sold }.abi_encode();
    let refused = fair.world.send(buyer.address, LEASES, 250, renew);
    assert_eq!(refused.output[..], ILeases::BadRenewal { rate: U256::from(250), secsMax: 0 }.abi_encode()[..]);
    let ended = events::<ILeases::Ended>(&fair.quit(0, sold).logs)[0].clone();
    assert_eq!((ended.by, ended.penalty), (2, U256::ZERO), "nobody pays it for the room");
    assert_eq!((fair.host(0).free.cpuMilli, fair.host(0).leases), (1500, 1));
    // The other is lost later, and goes on where its reservation does.
    let lost = fair.lose(own);
    let moved = events::<ILeases::Replaced>(&lost.logs)[0].next;
    assert_eq!((fair.lease(moved).via, fair.lease(moved).node), (next, fair.hosts[1].node));
    assert_eq!((fair.host(0).free, fair.host(0).leases), (offer(1).capacity, 0));
    assert_eq!((fair.host(1).free.cpuMilli, fair.host(1).leases), (1000, 2));
    assert_eq!(fair.lease(moved).owner, owner);
    fair.over(&[moved]);
    fair.over(&[next]);
    fair.assert_empty();
}

#[test]
fn what_is_lost_within_a_pool_goes_on_in_it_or_ends() {
    let mut fair = fair();
    let pool = fair.must(held(2), 7200 * 9000);
    let lease = fair.bought(fair.tenant, within(pool, 1), 7000);
    let (first, second) = if fair.lease(lease).via == 1 { (1, 2) } else { (2, 1) };
    let lost = fair.lose(lease);
    let next = events::<ILeases::Replaced>(&lost.logs)[0].next;
    assert_eq!((fair.lease(next).via, fair.lease(next).node), (second, fair.lease(second).node));
    assert!(fair.lease(next).untilMs <= fair.lease(second).untilMs);
    // Then what held it first: nothing stands in it any more.
    let place = fair.hosts.iter().position(|host| host.node == fair.lease(first).node).unwrap();
    let lost = fair.lose(first);
    let again = events::<ILeases::Replaced>(&lost.logs)[0].next;
    assert_eq!(fair.lease(again).node, fair.hosts[2].node, "each is on another host");
    assert_eq!((fair.host(place).free, fair.host(place).leases), (offer(1).capacity, 0));
    // The pool's third lease takes what is lost in the second; after that there is none, and the rest comes back.
    let lost = fair.lose(next);
    let last = events::<ILeases::Replaced>(&lost.logs)[0].next;
    assert_eq!(fair.lease(last).via, again);
    let lost = fair.lose(last);
    assert!(events::<ILeases::Replaced>(&lost.logs).is_empty());
    let ended = &events::<ILeases::Ended>(&lost.logs)[0];
    assert!(ended.by == 4 && ended.refund > U256::from(5000) && ended.refund < U256::from(7000));
    assert!(fair.reserved(pool).held.iter().all(|one| one.leases == 0));
    fair.over(&[second, again]);
    fair.assert_empty();
}

#[test]
fn a_touch_of_what_stands_in_a_lost_reservation_has_that_go_on_first() {
    let mut fair = fair();
    let pool = fair.must(held(1), 7200 * 3000);
    let own = fair.bought(fair.tenant, within(pool, 1), 7000);
    let round = fair.round();
    for lease in [1, own] {
        let accused = fair.accuse(lease, 0, round, &[0, 1, 2]);
        assert!(accused.success, "reverted with {}", accused.output);
    }
    fair.world.idle(SUSPECT_SECS);
    // Nobody touched the reservation.
    let replaced = events::<ILeases::Replaced>(&fair.touched(own).logs);
    assert_eq!(replaced.iter().map(|one| one.lease).collect::<Vec<_>>(), [1, own]);
    let (next, moved) = (replaced[0].next, replaced[1].next);
    assert_eq!((fair.lease(moved).via, fair.lease(moved).node), (next, fair.hosts[1].node));
    assert_eq!((fair.host(0).free, fair.host(0).leases), (offer(1).capacity, 0));
    fair.over(&[moved]);
    fair.over(&[next]);
    fair.assert_empty();
}
