//! Offer compute and order it: who gets the lease, at what price, and who is refused.

use alloy_primitives::{Address, B256, Log, TxKind, U256};
use alloy_sol_types::{SolCall, SolError};
use hodei_types::{
    abi::{
        self, ILeases,
        IMarket::{self, Capacity, Offer, Order, Placement, Prices, Tier},
        IRelays, LEASES, MARKET, RELAYS,
    },
    ethereum::GAS_PER_TX_MAX,
    market::{COLLATERAL_MILLI, COLLATERAL_MIN, EXCLUDE_MAX, collateral_min, region_mask},
};

use super::world::{CHAIN, COIN, Host, Person, World, events, limit_gas, params};
use crate::execute::{Applied, Call, Params};

const GIB: u64 = 1 << 30;

/// Two CPUs in western Europe, at `price` wei a second for a thousandth of one; nothing else costs.
pub(super) fn offer(price: u64) -> Offer {
    Offer {
        capacity: Capacity::of_dims([2000, 8 * GIB, 100 * GIB, 1_000_000_000, 100 * GIB]),
        prices: Prices { cpuMilli: 3600 * price, ..Prices::default() },
        curve: Vec::new(),
        preemptibleBp: 5_000,
        region: 16,
        country: [b'E', b'S'].into(),
        runtime: 0,
        tier: 1,
        attestation: 1,
        renewable: 50,
        network: "as64500".into(),
        zone: "a".into(),
        hardware: "amd-epyc".into(),
        addresses: abi::pack_addresses(&["127.0.0.1:4000".parse().unwrap()]),
    }
}

/// Replicas of half a CPU, anywhere in western Europe, for ten minutes at least.
pub(super) fn terms(replicas: u8) -> Order {
    Order {
        each: Capacity { cpuMilli: 500, memoryBytes: GIB, ..Capacity::default() },
        replicas,
        regions: region_mask(["eu-west"]).unwrap(),
        country: Default::default(),
        runtime: 0,
        tierMin: 0,
        attestationMin: 0,
        renewableMin: 0,
        priceMax: u128::MAX,
        perHost: 0,
        perOperator: 0,
        perNetwork: 0,
        class: 0,
        secs: 600,
        patienceMs: 0,
        workload: B256::repeat_byte(7),
        collateralMin: 0,
        availabilityMinBp: 0,
        within: 0,
        exclude: Vec::new(),
    }
}

pub(super) fn register(host: &Host, offer: Offer) -> Vec<u8> {
    let possession = host.sign(&abi::operator_consent(CHAIN, host.operator.address, host.node));
    IMarket::registerCall { node: host.node, offer, possession }.abi_encode()
}

/// What the modules of the compute market say that they destroyed.
pub(super) fn burned(logs: &[Log]) -> [(Address, U256); 3] {
    let of = |module| logs.iter().filter(|log| log.address == module).cloned().collect::<Vec<_>>();
    let slashed = events::<IMarket::Slashed>(&of(MARKET)).iter().map(|slashed| slashed.burned).sum();
    let fees: U256 = events::<ILeases::Settled>(&of(LEASES)).iter().map(|settled| settled.burned).sum();
    let calls: U256 = events::<ILeases::Claimed>(&of(LEASES)).iter().map(|claimed| claimed.burned).sum();
    let ticks = events::<IRelays::Claimed>(&of(RELAYS)).iter().map(|claimed| claimed.burned).sum();
    [(MARKET, slashed), (LEASES, fees + calls), (RELAYS, ticks)]
}

/// A tenant and three hosts of three operators.
pub(super) struct Fair {
    pub(super) world: World,
    pub(super) tenant: Person,
    pub(super) hosts: [Host; 3],
}

impl Fair {
    /// With these offers, and 10 coins of collateral each.
    pub(super) fn new(offers: [Offer; 3]) -> Self {
        Self::with(params(), offers)
    }

    /// The same by other rules.
    pub(super) fn with(rules: Params, offers: [Offer; 3]) -> Self {
        let [tenant, one, two, three] = [1, 2, 3, 4].map(Person::new);
        let mut world = World::with(rules, &[tenant, one, two, three].map(|person| person.address));
        let hosts = [Host::new(1, one), Host::new(2, two), Host::new(3, three)];
        for (host, offer) in hosts.iter().zip(offers) {
            world.must(host.operator.address, MARKET, 10 * COIN, register(host, offer));
        }
        Self { world, tenant, hosts }
    }

    pub(super) fn order(&mut self, terms: Order, deposit: u128) -> Applied {
        self.world.send(self.tenant.address, MARKET, deposit, IMarket::orderCall { terms }.abi_encode())
    }

    /// An order that must be taken; its id.
    pub(super) fn must(&mut self, terms: Order, deposit: u128) -> u64 {
        let applied = self.order(terms, deposit);
        assert!(applied.success, "reverted with {}", applied.output);
        self.world.audit();
        IMarket::orderCall::abi_decode_returns(&applied.output).unwrap()
    }

    /// An order that must not be, and changes nothing.
    pub(super) fn refused(&mut self, terms: Order, deposit: u128, error: impl SolError) {
        let held = (self.world.balance(MARKET), self.world.balance(LEASES));
        let applied = self.order(terms, deposit);
        assert!(!applied.success);
        assert_eq!(applied.output[..], error.abi_encode()[..]);
        assert_eq!((self.world.balance(MARKET), self.world.balance(LEASES)), held);
        self.world.audit();
    }

    /// Where an order would go: places among the hosts, and rates.
    fn quote(&self, terms: Order) -> Vec<(usize, u128)> {
        let placed = self.world.view(MARKET, IMarket::quoteCall { terms });
        let place = |node| self.hosts.iter().position(|host| host.node == node).unwrap();
        placed.iter().map(|Placement { node, rate, .. }| (place(*node), *rate)).collect()
    }

    fn quote_nodes(&self, terms: Order) -> Vec<B256> {
        let placed = self.world.view(MARKET, IMarket::quoteCall { terms });
        placed.into_iter().map(|placement| placement.node).collect()
    }

    fn no_quote(&self, terms: Order) -> bool {
        let data = IMarket::quoteCall { terms }.abi_encode().into();
        !self.world.simulate(&Call { to: Some(MARKET), data, ..Call::default() }).success
    }

    pub(super) fn host(&self, i: usize) -> IMarket::Host {
        self.world.view(MARKET, IMarket::getCall { node: self.hosts[i].node })
    }

    fn by_operator(&mut self, i: usize, data: Vec<u8>) -> Applied {
        let from = self.hosts[i].operator.address;
        self.world.send(from, MARKET, 0, data)
    }
}

#[test]
fn an_order_goes_to_the_cheapest_then_the_tightest_then_the_lowest_key() {
    let mut fair = Fair::new([offer(3), offer(2), offer(2)]);
    // The lower key of the two that ask the same.
    let (low, high) = if fair.hosts[1].node < fair.hosts[2].node { (1, 2) } else { (2, 1) };
    assert_eq!(fair.quote(terms(1)), [(low, 1000)]);
    fair.must(terms(1), COIN);
    assert_eq!((fair.host(low).free.cpuMilli, fair.host(high).free.cpuMilli), (1500, 2000));
    // What has less room left is filled first, then the other, then who asks more.
    let all: Vec<_> = fair.quote(terms(8));
    let expected = [vec![(low, 1000); 3], vec![(high, 1000); 4], vec![(0, 1500); 1]].concat();
    assert_eq!(all, expected);
    let id = fair.must(terms(8), COIN);
    let placed = fair.world.view(MARKET, IMarket::placedCall { id });
    assert_eq!((placed.state, placed.owner, placed.firstLease, placed.deposit), (2, fair.tenant.address, 2, 0));
    assert_eq!(fair.host(low).free.cpuMilli, 0);
    let depth = fair.world.view(MARKET, IMarket::depthCall { region: 16, runtime: 0 });
    assert_eq!(depth.iter().map(|step| (step.offers, step.free.cpuMilli)).collect::<Vec<_>>(), [(1, 1500)]);
}

#[test]
fn all_replicas_are_placed_or_none() {
    let mut fair = Fair::new([offer(1), offer(1), offer(1)]);
    fair.refused(terms(13), COIN, IMarket::NoFit { placed: 12, wanted: 13 });
    assert_eq!(fair.host(0).leases, 0);
    let large = Order { each: Capacity { cpuMilli: 2001, ..terms(1).each }, ..terms(1) };
    fair.refused(large, COIN, IMarket::NoFit { placed: 0, wanted: 1 });
    // 12 of 500 wei a second, for 600 seconds.
    let needed = U256::from(12 * 500 * 600);
    fair.refused(terms(12), 3_599_999, IMarket::DepositTooSmall { given: U256::from(3_599_999), needed });
    fair.must(terms(12), 3_600_000);
    assert_eq!(fair.world.balance(LEASES), needed);
    fair.refused(terms(1), COIN, IMarket::NoFit { placed: 0, wanted: 1 });
}

#[test]
fn replicas_spread_over_hosts_operators_and_networks_as_ordered() {
    let mut fair = Fair::new([offer(1), offer(2), Offer { network: "as64501".into(), ..offer(3) }]);
    let hosts = |placed: Vec<(usize, u128)>| placed.into_iter().map(|(host, _)| host).collect::<Vec<_>>();
    assert_eq!(hosts(fair.quote(Order { perHost: 1, ..terms(3) })), [0, 1, 2]);
    assert_eq!(hosts(fair.quote(Order { perHost: 2, ..terms(3) })), [0, 0, 1]);
    assert_eq!(hosts(fair.quote(Order { perNetwork: 1, ..terms(2) })), [0, 2]);
    assert_eq!(hosts(fair.quote(Order { perOperator: 2, ..terms(5) })), [0, 0, 1, 1, 2]);
    fair.refused(Order { perNetwork: 1, ..terms(3) }, COIN, IMarket::NoFit { placed: 2, wanted: 3 });
    // A second host of the first operator counts with its first.
    let fourth = Host::new(4, fair.hosts[0].operator);
    fair.world.must(fourth.operator.address, MARKET, 2 * COIN, register(&fourth, offer(1)));
    fair.refused(Order { perOperator: 1, ..terms(4) }, COIN, IMarket::NoFit { placed: 3, wanted: 4 });
    fair.must(Order { perHost: 1, ..terms(4) }, COIN);
}

#[test]
fn only_offers_within_the_terms_are_taken() {
    let fair = Fair::new([offer(1), offer(2), offer(3)]);
    let unmet: [Order; 8] = [
        Order { regions: region_mask(["eu-north", "local"]).unwrap(), ..terms(1) },
        Order { country: [b'P', b'T'].into(), ..terms(1) },
        Order { runtime: 1, ..terms(1) },
        Order { tierMin: 2, ..terms(1) },
        Order { attestationMin: 2, ..terms(1) },
        Order { renewableMin: 51, ..terms(1) },
        // 500 wei a second is 1,800,000 an hour.
        Order { priceMax: 1_799_999, ..terms(1) },
        Order { each: Capacity { transferBytes: 101 * GIB, ..terms(1).each }, ..terms(1) },
    ];
    for order in unmet {
        assert!(fair.no_quote(order.clone()), "{order:?}");
    }
    let met = Order {
        country: [b'E', b'S'].into(),
        tierMin: 1,
        attestationMin: 1,
        renewableMin: 50,
        priceMax: 1_800_000,
        ..terms(4)
    };
    assert_eq!(fair.quote(met.clone()), [(0, 500); 4]);
    assert!(fair.no_quote(Order { replicas: 5, ..met }), "the next cheapest is above the cap");
    assert_eq!(fair.quote(Order { class: 2, ..terms(1) }), [(0, 250)], "a preemptible order pays the stated part");
}

#[test]
fn an_order_keeps_away_from_whom_it_names_and_from_who_has_too_little_collateral() {
    let mut fair = Fair::new([offer(1), offer(2), offer(3)]);
    let sorted = |mut nodes: Vec<B256>| {
        nodes.sort();
        nodes
    };
    let [first, second, third] = [0, 1, 2].map(|i| fair.hosts[i].node);
    assert_eq!(fair.quote(Order { exclude: vec![first], ..terms(1) }), [(1, 1000)]);
    let two = sorted(vec![first, second]);
    assert_eq!(fair.quote(Order { exclude: two.clone(), ..terms(4) }), [(2, 1500); 4]);
    let all = Order { exclude: sorted(vec![first, second, third]), ..terms(1) };
    fair.refused(all, COIN, IMarket::NoFit { placed: 0, wanted: 1 });
    let bad = Order { exclude: vec![first, first], ..terms(1) };
    fair.refused(bad, COIN, IMarket::BadOrder { field: "exclude".into() });
    // The third has a wei more than the others.
    let node = third;
    fair.world.must(fair.tenant.address, MARKET, 1, IMarket::depositCall { node }.abi_encode());
    let backed = |more| Order { collateralMin: 10 * COIN + more, ..terms(1) };
    assert_eq!((fair.quote(backed(0)), fair.quote(backed(1))), (vec![(0, 500)], vec![(2, 1500)]));
    fair.refused(backed(2), COIN, IMarket::NoFit { placed: 0, wanted: 1 });
    // What waits remembers both.
    let waits = Order { class: 1, priceMax: 1, patienceMs: 20_000, exclude: two, ..backed(7) };
    let id = fair.must(waits.clone(), 1000);
    assert_eq!(fair.world.view(MARKET, IMarket::placedCall { id }).order, waits);
}

#[test]
fn more_room_is_offered_with_more_collateral_and_who_lost_it_is_out_of_the_book_until_it_is_back() {
    let mut fair = Fair::new([offer(1), offer(2), offer(3)]);
    let capacity = offer(1).capacity;
    let least = U256::from(collateral_min(&capacity));
    assert_eq!(least, fair.world.view(MARKET, IMarket::collateralMinCall { capacity }));
    assert_eq!(fair.host(0).collateralMin, least);
    let tiny = Offer { capacity: Capacity::of_dims([100, 64 << 20, 0, 0, 0]), ..offer(1) };
    let extra = Host::new(4, fair.hosts[0].operator);
    let from = extra.operator.address;
    let refused = fair.world.send(from, MARKET, COLLATERAL_MIN - 1, register(&extra, tiny.clone()));
    assert_eq!(refused.output[..4], IMarket::CollateralTooSmall::SELECTOR);
    fair.world.must(from, MARKET, COLLATERAL_MIN, register(&extra, tiny.clone()));
    let node = extra.node;
    let update = |offer| IMarket::updateCall { node, offer }.abi_encode();
    let larger = Offer { capacity: Capacity::of_dims([4_000, 8 * GIB, 0, 0, 0]), ..tiny.clone() };
    let needed = U256::from(collateral_min(&larger.capacity));
    let error = IMarket::CollateralTooSmall { given: U256::from(COLLATERAL_MIN), least: needed };
    assert_eq!(fair.world.send(from, MARKET, 0, update(larger.clone())).output[..], error.abi_encode()[..]);
    let missing = needed.to::<u128>() - COLLATERAL_MIN;
    assert!((COLLATERAL_MILLI..100 * COLLATERAL_MILLI).contains(&missing));
    let deposit = IMarket::depositCall { node }.abi_encode();
    fair.world.must(from, MARKET, missing, deposit.clone());
    fair.world.must(from, MARKET, 0, update(larger));

    // It ends a lease early, and has less than its offer needs.
    let only = Order { exclude: vec![fair.hosts[0].node], ..terms(1) };
    fair.must(only.clone(), 300_000);
    fair.must(only.clone(), 300_000);
    let at = |lease| fair.world.view(LEASES, ILeases::getCall { lease }).node;
    assert_eq!([at(1), at(2)], [node; 2]);
    fair.world.must(from, LEASES, 0, ILeases::quitCall { leases: vec![1] }.abi_encode());
    let left = fair.world.view(MARKET, IMarket::getCall { node }).collateral;
    assert!(left < needed);
    assert_eq!(fair.quote(only.clone()), [(1, 1000)]);
    let renew = ILeases::renewCall { lease: 2 }.abi_encode();
    let refused = fair.world.send(fair.tenant.address, LEASES, 500, renew.clone());
    let error = ILeases::HostShort { node, collateral: left, least: needed };
    assert_eq!(refused.output[..], error.abi_encode()[..]);
    fair.world.must(from, MARKET, (needed - left).to::<u128>() - 1, deposit.clone());
    assert_eq!(fair.quote(only.clone()), [(1, 1000)], "a wei is missing");
    fair.world.must(from, MARKET, 1, deposit);
    fair.world.must(fair.tenant.address, LEASES, 500, renew);
    assert_eq!(fair.quote_nodes(only), [node]);
    fair.world.audit();
}

#[test]
fn a_fuller_host_asks_more_by_its_curve() {
    let curve = vec![Tier { fromBp: 2_500, markupBp: 10_000 }, Tier { fromBp: 7_500, markupBp: 30_000 }];
    let mut fair = Fair::new([Offer { curve, ..offer(1) }, offer(3), Offer { region: 0, ..offer(1) }]);
    // Empty, a quarter and half full at 1 and 2; above, the other is cheaper.
    let expected = [(0, 500), (0, 1000), (0, 1000), (1, 1500)];
    assert_eq!(fair.quote(terms(4)), expected);
    fair.must(terms(3), COIN);
    assert_eq!(fair.host(0).markupBp, 30_000);
    assert_eq!(fair.quote(terms(1)), [(1, 1500)]);
    let leases = (1..=3).collect();
    fair.world.must(fair.tenant.address, LEASES, 0, abi::ILeases::endCall { leases }.abi_encode());
    assert_eq!((fair.host(0).markupBp, fair.host(0).leases), (0, 0));
    assert_eq!(fair.quote(terms(4)), expected);
}

#[test]
fn a_deferrable_order_waits_for_room_or_takes_its_deposit_back() {
    let mut fair = Fair::new([offer(1), offer(2), offer(2)]);
    let waits = Order { class: 1, priceMax: 1_800_000, patienceMs: 20_000, ..terms(4) };
    let needed = U256::from(4 * 500 * 600);
    fair.refused(waits.clone(), 1_199_999, IMarket::DepositTooSmall { given: U256::from(1_199_999), needed });
    let first = fair.must(waits.clone(), 1_200_000);
    assert_eq!(fair.world.view(MARKET, IMarket::placedCall { id: first }).state, 2, "it fits at once");
    let second = fair.must(waits.clone(), 1_200_001);
    let placed = fair.world.view(MARKET, IMarket::placedCall { id: second });
    assert_eq!((placed.state, placed.deposit, placed.order), (1, 1_200_001, waits.clone()));
    assert_eq!(placed.untilMs, fair.world.env.time_ms / 1000 * 1000 + 20_000);
    let stranger = fair.hosts[1].operator.address;
    let fill = |id| IMarket::fillCall { id }.abi_encode();
    let no_fit = fair.world.send(stranger, MARKET, 0, fill(second));
    assert_eq!(no_fit.output[..], IMarket::NoFit { placed: 0, wanted: 4 }.abi_encode()[..]);
    let owner = fair.tenant.address;
    // While no batch is worked anybody's call fills it.
    let mut unworked = |from, to, data| {
        let tx = fair.world.tx(from, TxKind::Call(to), U256::ZERO, data);
        fair.world.unworked_block(1000, &[tx]).remove(0).unwrap()
    };
    let end = |from: u64| ILeases::endCall { leases: (from..from + 4).collect() }.abi_encode();
    assert!(unworked(owner, LEASES, end(1)).success);
    let filled = unworked(stranger, MARKET, fill(second));
    assert_eq!(events::<IMarket::Filled>(&filled.logs)[0].change, U256::from(1));
    assert_eq!(fair.world.view(MARKET, IMarket::placedCall { id: second }).firstLease, 5);
    fair.world.audit();
    // A third finds no room in time: its deposit comes back by itself.
    let third = fair.must(waits.clone(), 1_200_000);
    let cancel = |id| IMarket::cancelCall { id }.abi_encode();
    let early = fair.world.send(stranger, MARKET, 0, cancel(third));
    assert_eq!(early.output[..], IMarket::NotOwner { owner }.abi_encode()[..]);
    let before = fair.world.balance(owner);
    fair.world.idle(31);
    assert_eq!(fair.world.balance(owner), before + U256::from(1_200_000));
    for call in [fill(third), cancel(third)] {
        let over = fair.world.send(owner, MARKET, 0, call);
        assert_eq!(over.output[..], IMarket::NotWaiting { order: third }.abi_encode()[..]);
    }
    let listed = fair.world.view(MARKET, IMarket::ofOwnerCall { owner, first: 0, most: 64 });
    assert_eq!(listed, [second]);
    fair.world.audit();
    // A fourth is filled once there is room, and nobody asks for it.
    let fourth = fair.must(waits, 1_200_003);
    fair.world.must(owner, LEASES, 0, end(5));
    let before = fair.world.balance(owner);
    fair.world.idle(10);
    let placed = fair.world.view(MARKET, IMarket::placedCall { id: fourth });
    assert_eq!((placed.state, placed.firstLease, placed.deposit), (2, 9, 0));
    assert_eq!(fair.world.balance(owner), before + U256::from(3));
    fair.world.audit();
}

#[test]
fn a_batch_tries_eight_orders_and_the_next_one_goes_on_behind_them() {
    let mut fair = Fair::new([offer(1), offer(2), offer(2)]);
    let full = fair.must(terms(4), COIN);
    // Ten that nobody can serve, and behind them one that somebody can once there is room.
    let waits = Order { class: 1, priceMax: 1_800_000, patienceMs: 600_000, ..terms(4) };
    let tight = Order { priceMax: 1, secs: 60, ..waits.clone() };
    let stuck: Vec<u64> = (0..10).map(|_| fair.must(tight.clone(), 1)).collect();
    let last = fair.must(waits, 1_200_000);
    let leases = fair.world.view(MARKET, IMarket::placedCall { id: full }).leases;
    fair.world.must(fair.tenant.address, LEASES, 0, ILeases::endCall { leases }.abi_encode());
    fair.world.idle(20);
    let state = |id| fair.world.view(MARKET, IMarket::placedCall { id }).state;
    assert_eq!((state(last), stuck.iter().map(|id| state(*id)).max()), (2, Some(1)));
    fair.world.audit();
}

#[test]
fn an_offer_is_its_operators_and_its_collateral_leaves_when_no_lease_is_left() {
    let mut fair = Fair::new([offer(1), offer(2), offer(3)]);
    let (node, operator) = (fair.hosts[0].node, fair.hosts[0].operator.address);
    let stranger = fair.tenant.address;
    let update = |offer| IMarket::updateCall { node, offer }.abi_encode();
    let retire = IMarket::retireCall { node }.abi_encode();
    let withdraw = IMarket::withdrawCall { node }.abi_encode();
    for call in [update(offer(5)), retire.clone(), withdraw.clone()] {
        let refused = fair.world.send(stranger, MARKET, 0, call);
        assert_eq!(refused.output[..], IMarket::NotOperator { operator }.abi_encode()[..]);
    }
    let again = register(&fair.hosts[0], offer(1));
    assert_eq!(fair.by_operator(0, again).output[..], IMarket::AlreadyOffered { node }.abi_encode()[..]);
    let other = Host::new(9, fair.tenant);
    let stolen = IMarket::registerCall { node: other.node, offer: offer(1), possession: fair.hosts[0].sign(b"x") };
    let refused = fair.world.send(stranger, MARKET, 2 * COIN, stolen.abi_encode());
    assert_eq!(refused.output[..], IMarket::BadPossession {}.abi_encode()[..]);
    let bad = fair.by_operator(0, update(Offer { region: 99, ..offer(1) }));
    assert_eq!(bad.output[..], IMarket::BadOffer { field: "region".into() }.abi_encode()[..]);

    fair.must(terms(2), COIN);
    // What runs keeps its room and place; prices change for what comes.
    let small = Capacity { cpuMilli: 999, ..offer(1).capacity };
    let refused = fair.by_operator(0, update(Offer { capacity: small, ..offer(1) }));
    assert_eq!(refused.output[..], IMarket::BadOffer { field: "capacity".into() }.abi_encode()[..]);
    let refused = fair.by_operator(0, update(Offer { region: 0, ..offer(1) }));
    assert_eq!(refused.output[..], IMarket::LeasesOpen { leases: 2 }.abi_encode()[..]);
    let dearer = Offer { capacity: Capacity { cpuMilli: 1000, ..offer(1).capacity }, ..offer(9) };
    assert!(fair.by_operator(0, update(dearer.clone())).success);
    let host = fair.host(0);
    assert_eq!((host.offer, host.version, host.free.cpuMilli), (dearer, 2, 0));
    assert_eq!(fair.quote(terms(1)), [(1, 1000)], "it is full");
    assert_eq!(fair.world.view(LEASES, abi::ILeases::getCall { lease: 1 }).rate, 500);

    assert_eq!(fair.by_operator(0, withdraw.clone()).output[..], IMarket::NotRetired {}.abi_encode()[..]);
    assert!(fair.by_operator(0, retire.clone()).success);
    assert_eq!(fair.by_operator(0, retire).output[..], IMarket::IsRetired {}.abi_encode()[..]);
    assert_eq!(fair.by_operator(0, update(offer(1))).output[..], IMarket::IsRetired {}.abi_encode()[..]);
    assert_eq!(fair.by_operator(0, withdraw.clone()).output[..], IMarket::LeasesOpen { leases: 2 }.abi_encode()[..]);
    let ended = abi::ILeases::endCall { leases: vec![1, 2] }.abi_encode();
    fair.world.must(stranger, LEASES, 0, ended);
    assert_eq!(fair.quote(terms(1)), [(1, 1000)], "who retired is in the book no more");
    let more = IMarket::depositCall { node }.abi_encode();
    fair.world.must(stranger, MARKET, COIN, more);
    let out = fair.by_operator(0, withdraw);
    assert_eq!(events::<IMarket::Withdrawn>(&out.logs)[0].amount, U256::from(11 * COIN));
    assert_eq!(fair.world.view(MARKET, IMarket::countCall {}), 2);
    assert_eq!(fair.world.balance(MARKET), U256::from(20 * COIN));
    fair.world.audit();
    // The same node may come again.
    let again = register(&fair.hosts[0], offer(1));
    fair.world.must(operator, MARKET, 2 * COIN, again);
    assert_eq!(fair.quote(terms(1)), [(0, 500)]);
}

#[test]
fn the_largest_order_over_a_full_look_at_the_book_fits_one_transaction() {
    let [tenant, operators @ ..] = [1, 2, 3, 4].map(Person::new);
    let mut world = World::new(&[tenant, operators[0], operators[1], operators[2]].map(|person| person.address));
    let hosts: Vec<_> = (1..=255).map(|n| Host::new(n, operators[usize::from(n) % 3])).collect();
    for (n, host) in hosts.iter().enumerate() {
        // Fifty to a step and more: many steps, and hosts of many networks.
        let offer = Offer {
            prices: Prices { cpuMilli: 3600 << (n / 50), ..Prices::default() },
            curve: (1..=4).map(|i| Tier { fromBp: 2_000 * i, markupBp: 5_000 * i }).collect(),
            network: format!("as{n}"),
            ..offer(1)
        };
        let from = host.operator.address;
        let mut tx = world.tx(from, TxKind::Call(MARKET), U256::from(2 * COIN), register(host, offer));
        limit_gas(&mut tx, 2_000_000);
        assert!(world.block_after(1000, &[tx]).remove(0).unwrap().success);
    }
    for per_host in [1, 0] {
        let spread = Order {
            perHost: per_host,
            perNetwork: 64,
            perOperator: 64,
            collateralMin: COIN,
            exclude: (1..=EXCLUDE_MAX as u8).map(B256::repeat_byte).collect(),
            ..terms(64)
        };
        let data = IMarket::orderCall { terms: spread }.abi_encode();
        let mut tx = world.tx(tenant.address, TxKind::Call(MARKET), U256::from(COIN), data);
        limit_gas(&mut tx, GAS_PER_TX_MAX);
        let applied = world.block_after(1000, &[tx]).remove(0).unwrap();
        assert!(applied.success, "{} gas: {}", applied.gas_used, applied.output);
        assert!(applied.gas_used < GAS_PER_TX_MAX * 9 / 10, "{} gas leave no margin", applied.gas_used);
    }
    world.audit();
    assert_eq!(world.view(LEASES, abi::ILeases::countCall {}), 128);
    // So does the loss of one of its hosts.
    world.idle(60);
    let mut round = world.view(LEASES, ILeases::roundCall {}).index;
    let mut nodes = world.view(LEASES, ILeases::watchersCall { lease: 1, round });
    while nodes.is_empty() {
        world.idle(1);
        round = world.view(LEASES, ILeases::roundCall {}).index;
        nodes = world.view(LEASES, ILeases::watchersCall { lease: 1, round });
    }
    let statement = abi::unreachable_statement(CHAIN, 1, 0, round);
    let sign = |node: &B256| hosts.iter().find(|host| host.node == *node).unwrap().sign(&statement);
    let signatures = nodes.iter().map(sign).collect();
    let accuse = ILeases::unreachableCall { lease: 1, round, signatures }.abi_encode();
    world.must(tenant.address, LEASES, 0, accuse);
    world.idle(120);
    let lost = world.must(tenant.address, LEASES, 0, ILeases::touchCall { leases: vec![1] }.abi_encode());
    assert_eq!(events::<ILeases::Replaced>(&lost.logs)[0].next, 129);
    assert!(lost.gas_used < 8_000_000, "{} gas", lost.gas_used);
    world.audit();
}
