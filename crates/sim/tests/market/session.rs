//! Record one session of the market, and what each step of it did to the book, the index and who was paid.
//!
//! What it tells is in docs/market.md, word by word: the test fails where they differ.

use alloy_primitives::{Address, B256, Bytes, U256};
use alloy_sol_types::SolCall;
use hodei_ledger::execute::Applied;
use hodei_sim::world::{CHAIN, COIN, World};
use hodei_types::{
    abi::{
        ILeases, ILevels,
        IMarket::{self, Order},
        IProviders, LEASES, LEVELS, MARKET, PROVIDERS, operator_consent, pack_addresses, unreachable_statement,
    },
    market::{Capacity, Level, Offer, Prices, SUSPECT_MS, collateral_min, region, region_mask},
};
use std::fmt::Write as _;

use crate::{
    cast::Host,
    payer::{events, pass},
};

const GIB: u64 = 1 << 30;
const HOUR_MS: u64 = 3_600_000;
/// Wei a second of a thousandth of a CPU, of which prices below are some times as much.
const UNIT: u64 = 1_000_000_000;

const TENANT: Address = Address::repeat_byte(0xa1);
const COMPANY: Address = Address::repeat_byte(0xa2);
const CLOUD: Address = Address::repeat_byte(0xa3);
const TRADER: Address = Address::repeat_byte(0xa4);
const PROVIDERS_COUNT: u8 = 6;
/// The last is the trader's own.
const HOSTS: u8 = 6;

/// What was told so far, and who tells it.
struct Session {
    world: World,
    hosts: Vec<Host>,
    providers: Vec<B256>,
    told: String,
}

/// Plays it; what it tells.
pub(crate) fn play() -> String {
    let mut session = Session::begin();
    session.one_book();
    session.wash_trade();
    session.broken_promise();
    session.resale();
    session.world.audit();
    session.told
}

/// Coins with six decimals.
fn coins(wei: U256) -> String {
    let millionths: u128 = (wei / U256::from(COIN / 1_000_000)).saturating_to();
    format!("{}.{:06}", millionths / 1_000_000, millionths % 1_000_000)
}

/// Half a CPU with a GiB, for an hour at least, in western Europe.
fn terms(replicas: u8) -> Order {
    Order {
        each: Capacity { cpuMilli: 500, memoryBytes: GIB, ..Capacity::default() },
        replicas,
        regions: region_mask(["eu-west"]).expect("a region of the list"),
        country: Default::default(),
        runtime: 0,
        tierMin: 0,
        attestationMin: 0,
        renewableMin: 0,
        priceMax: u128::MAX,
        perHost: 1,
        perOperator: 0,
        perNetwork: 0,
        class: 0,
        secs: 3600,
        patienceMs: 0,
        workload: B256::repeat_byte(7),
        collateralMin: 0,
        availabilityMinBp: 0,
        within: 0,
        exclude: Vec::new(),
    }
}

/// Two CPUs with 8 GiB, at so many units.
fn offer(units: u64, place: &str) -> Offer {
    Offer {
        capacity: Capacity::of_dims([2000, 8 * GIB, 0, 0, 0]),
        prices: Prices { cpuMilli: 3600 * UNIT * units, ..Prices::default() },
        curve: Vec::new(),
        preemptibleBp: 5_000,
        region: region(place).expect("a region of the list"),
        country: [b'E', b'S'].into(),
        runtime: 0,
        tier: 1,
        attestation: 0,
        renewable: 0,
        network: "as64500".into(),
        zone: "a".into(),
        hardware: String::new(),
        addresses: pack_addresses(&["127.0.0.1:4000".parse().expect("an address")]),
    }
}

impl Session {
    fn begin() -> Self {
        let operators: Vec<Address> = (0..HOSTS).map(|at| Address::repeat_byte(0x20 + at)).collect();
        let keepers: Vec<Address> = (0..PROVIDERS_COUNT).map(|at| Address::repeat_byte(0x40 + at)).collect();
        let rich: Vec<Address> =
            operators.iter().chain(&keepers).chain(&[TENANT, COMPANY, CLOUD, TRADER]).copied().collect();
        let mut world = World::with_window(&rich, 1, 24 * HOUR_MS);
        let hosts: Vec<Host> =
            (1..=HOSTS).zip(&operators).map(|(number, operator)| Host::new(number, *operator)).collect();
        for (at, host) in (0..).zip(&hosts) {
            // Two at each of two prices; one dear; and the trader's, where nobody else looks.
            let (units, place) =
                [(1, "eu-west"), (1, "eu-west"), (2, "eu-west"), (2, "eu-west"), (4, "eu-west"), (3, "eu-west")][at];
            let offer = offer(units, place);
            let collateral = collateral_min(&offer.capacity) + COIN;
            world.must(host.operator, MARKET, collateral, host.register(CHAIN, offer));
        }
        let mut providers = Vec::new();
        for (number, keeper) in (100..).zip(keepers) {
            let keeper = Host::new(number, keeper);
            let offer = IProviders::Offer {
                zone: "eu-west-a".into(),
                network: format!("as{}", 65_000 + u32::from(number)),
                addresses: pack_addresses(&["127.0.0.1:4000".parse().expect("an address")]),
                capacityBytes: 1 << 40,
                priceStore: COIN / 1000,
                priceRead: 1,
                class: 0,
            };
            let possession = keeper.sign(&operator_consent(CHAIN, keeper.operator, keeper.node));
            let call = IProviders::registerCall { node: keeper.node, offer, possession };
            world.must(keeper.operator, PROVIDERS, 100 * COIN, call.abi_encode());
            providers.push(keeper.node);
        }
        Self { world, hosts, providers, told: String::new() }
    }

    fn tell(&mut self, line: impl AsRef<str>) {
        writeln!(self.told, "{}", line.as_ref()).expect("a string takes all");
    }

    /// Depth of compute, cheapest first, and what providers have free.
    fn book(&mut self, when: &str) {
        let region = region("eu-west").expect("a region of the list");
        let depth = self.world.view(MARKET, IMarket::depthCall { region, runtime: 0 });
        let steps: Vec<String> = depth
            .iter()
            .map(|step| {
                let (cpus, tenths) = (step.free.cpuMilli / 1000, step.free.cpuMilli % 1000 / 100);
                format!("{cpus}.{tenths} CPU from {} an hour", coins(U256::from(step.priceFrom)))
            })
            .collect();
        let mut free = 0;
        for node in self.providers.clone() {
            let provider = self.world.view(PROVIDERS, IProviders::getCall { node });
            free += provider.offer.capacityBytes - provider.usedBytes;
        }
        self.tell(format!("book {when}: {}; storage {} GiB free", steps.join(", "), free / GIB));
    }

    fn order(&mut self, owner: Address, terms: Order, deposit: u128) -> Applied {
        self.world.must(owner, MARKET, deposit, IMarket::orderCall { terms }.abi_encode())
    }

    fn lease(&mut self, lease: u64) -> ILeases::Lease {
        self.world.view(LEASES, ILeases::getCall { lease })
    }

    fn touch(&mut self, leases: Vec<u64>) -> Applied {
        self.world.must(TENANT, LEASES, 0, ILeases::touchCall { leases }.abi_encode())
    }

    fn index(&mut self) -> IMarket::Index {
        let region = region("eu-west").expect("a region of the list");
        self.world.view(MARKET, IMarket::indexCall { region, runtime: 0 })
    }

    /// An order of compute and a take of storage change the one book; after hours there is an index.
    fn one_book(&mut self) {
        self.book("as it opens");
        let filled = events::<IMarket::Filled>(&self.order(TENANT, terms(3), 4 * COIN)).remove(0);
        let leases: Vec<u64> = (filled.firstLease..filled.firstLease + 3).collect();
        self.tell(format!("a tenant orders 3 replicas of half a CPU: {} in escrow", coins(filled.escrow)));
        let nodes = self.providers.clone();
        let deals = self.world.deals(TENANT, 1, &nodes, 100 * GIB, COIN);
        self.tell(format!("and takes 100 GiB from each of {} providers", deals.len()));
        self.book("then");
        pass(&mut self.world, 4 * HOUR_MS);
        self.touch(leases);
        let index = self.index();
        assert!(index.price > 0 && index.accounts == 1);
        self.tell(format!(
            "four hours later the index is {} a unit and hour, of one account",
            coins(U256::from(index.price))
        ));
    }

    /// Somebody leases of himself, dearer than anybody, for less than moving the index is said to cost.
    fn wash_trade(&mut self) {
        // Others trade as well, so that there is something to move.
        let others = [(COMPANY, 1), (CLOUD, 1)];
        let mut leases = Vec::new();
        for (owner, replicas) in others {
            let filled = events::<IMarket::Filled>(&self.order(owner, terms(replicas), COIN)).remove(0);
            leases.extend(filled.firstLease..filled.firstLease + u64::from(replicas));
        }
        pass(&mut self.world, 3 * HOUR_MS);
        self.touch(leases);
        let before = self.index();
        self.tell(format!(
            "with {} accounts it is {}; it prints: to move it by 5 % takes {} paid by {} more, {} of it burned",
            before.accounts,
            coins(U256::from(before.price)),
            coins(before.moveWeight),
            before.moveAccounts,
            coins(before.moveBurned)
        ));
        let own = self.hosts[usize::from(HOSTS) - 1].node;
        let mut exclude: Vec<B256> = self.hosts.iter().map(|host| host.node).filter(|node| *node != own).collect();
        exclude.sort();
        let each = Capacity { cpuMilli: 100, memoryBytes: GIB, ..Capacity::default() };
        let wash = Order { each, exclude, ..terms(1) };
        let placed = self.world.view(MARKET, IMarket::quoteCall { terms: wash.clone() }).remove(0);
        // Half of what is printed, in whole hours.
        let hours = (before.moveWeight / U256::from(2) / U256::from(placed.rate * 3600)).max(U256::ONE);
        let secs = (hours * U256::from(3600)).saturating_to::<u64>().min(6 * 3600);
        let filled =
            events::<IMarket::Filled>(&self.order(TRADER, Order { secs, ..wash }, placed.rate * u128::from(secs)))
                .remove(0);
        pass(&mut self.world, secs * 1000);
        self.touch(vec![filled.firstLease]);
        let after = self.index();
        let moved_bp = after.price.abs_diff(before.price) * 10_000 / before.price;
        assert!(filled.escrow < before.moveWeight && moved_bp < 500, "{moved_bp}: {before:?} {after:?}");
        self.tell(format!(
            "a trader pays himself {} at three times the price: the index is {}, {} % from where it was",
            coins(filled.escrow),
            coins(U256::from(after.price)),
            moved_bp / 100
        ));
    }

    /// A host promises three nines with a bond, goes away, and its tenant is paid out of the bond.
    fn broken_promise(&mut self) {
        let dear = 4;
        let (node, operator) = (self.hosts[dear].node, self.hosts[dear].operator);
        let level = Level { availabilityBp: 9_990, startSecs: 60, restoreSecs: 300, payBp: 5_000 };
        self.world.must(operator, LEVELS, COIN, ILevels::promiseCall { node, level }.abi_encode());
        let asks = Order { availabilityMinBp: 9_990, ..terms(1) };
        let filled = events::<IMarket::Filled>(&self.order(TENANT, asks, COIN)).remove(0);
        let id = filled.firstLease;
        assert_eq!(self.lease(id).node, node, "the one that promises it, though it is the dearest");
        self.world.must(operator, LEVELS, 0, ILevels::startedCall { leases: vec![id] }.abi_encode());
        let bound = self.world.view(LEVELS, ILevels::ofCall { leases: vec![id] }).remove(0).bound;
        self.tell(format!(
            "a host promises 99.9 % with a bond of a coin; a lease that asks for it binds {} of that",
            coins(bound)
        ));
        // A round in which watchers are drawn, from its second block on; they do not reach it.
        pass(&mut self.world, 120_000);
        let (lease, round, watchers) = loop {
            pass(&mut self.world, 3_000);
            let round = self.world.view(LEASES, ILeases::roundCall {}).index;
            let watchers = self.world.view(LEASES, ILeases::watchersCall { lease: id, round });
            if watchers.len() > 1 {
                break (self.lease(id), round, watchers);
            }
        };
        let statement = unreachable_statement(CHAIN, id, lease.generation, round);
        let sign = |node: &B256| -> Bytes {
            let host = self.hosts.iter().find(|host| host.node == *node).expect("a registered host");
            host.sign(&statement)
        };
        let signatures: Vec<Bytes> = watchers.iter().map(sign).collect();
        let call = ILeases::unreachableCall { lease: id, round, signatures };
        self.world.must(TENANT, LEASES, 0, call.abi_encode());
        pass(&mut self.world, SUSPECT_MS);
        let before = self.world.balance(TENANT);
        let lost = self.world.must(CLOUD, LEASES, 0, ILeases::touchCall { leases: vec![id] }.abi_encode());
        let breaches = events::<ILevels::Breached>(&lost);
        let paid: U256 = breaches.iter().map(|breach| breach.amount).sum();
        assert_eq!(paid, bound, "all that it bound: {breaches:?}");
        assert!(self.world.balance(TENANT) - before >= paid, "in the tenant's account, who sent nothing");
        self.tell(format!(
            "it goes away; watchers say so, and the ledger pays its tenant {} out of the bond",
            coins(paid)
        ));
    }

    /// A company reserves a region's capacity, runs something in it, and resells the rest.
    fn resale(&mut self) {
        let whole = Capacity { cpuMilli: 1000, memoryBytes: 2 * GIB, ..Capacity::default() };
        let reserve = Order { each: whole, workload: B256::ZERO, secs: 24 * 3600, ..terms(2) };
        let filled = events::<IMarket::Filled>(&self.order(COMPANY, reserve, 10 * COIN)).remove(0);
        let (pool, held) = (filled.order, [filled.firstLease, filled.firstLease + 1]);
        self.tell(format!(
            "a company reserves 2 CPUs in western Europe, for a day at least: {} in escrow",
            coins(filled.escrow)
        ));
        let inside = Order { within: pool, ..terms(1) };
        let own = events::<IMarket::Filled>(&self.order(COMPANY, inside.clone(), COIN)).remove(0);
        assert!(held.contains(&self.lease(own.firstLease).via));
        let stranger = self.world.send(CLOUD, MARKET, COIN, IMarket::orderCall { terms: inside }.abi_encode());
        assert!(!stranger.success, "nobody else is let in");
        self.tell(format!(
            "what it runs there costs it {} wei more until that ends, paid to itself; nobody else is let in",
            own.escrow
        ));
        self.book("before it lends");
        // Below all hosts.
        let prices = Prices { cpuMilli: 1800 * UNIT, ..Prices::default() };
        for lease in held {
            let lend = IMarket::lendCall { lease, prices, preemptibleBp: 5_000 };
            self.world.must(COMPANY, MARKET, 0, lend.abi_encode());
        }
        self.book("with what it lends");
        let burst = events::<IMarket::Filled>(&self.order(CLOUD, terms(2), COIN)).remove(0);
        let leases = vec![burst.firstLease, burst.firstLease + 1];
        for lease in &leases {
            assert!(held.contains(&self.lease(*lease).via), "the cheapest is what is lent");
        }
        pass(&mut self.world, 2 * HOUR_MS);
        self.touch(leases);
        let earned = self.world.view(MARKET, IMarket::reservedCall { order: pool }).earned;
        assert!(!earned.is_zero());
        self.tell(format!(
            "a cloud bursts into it with 2 replicas; in two hours the company earns {} by that",
            coins(earned)
        ));
        self.book("at the end");
    }
}
