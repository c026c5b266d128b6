//! Spend a budget to its cap while its owner sleeps.

use alloy_primitives::{Address, Bytes, U256, keccak256};
use alloy_sol_types::{SolCall as _, SolError as _, SolEvent};
use hodei_ledger::{
    account::address_of,
    execute::{Applied, Fault, Invalid},
};
use hodei_sim::world::{BASE_FEE, CHAIN, COIN, TIP, World};
use hodei_types::{
    abi::{BUDGETS, IBudgets, ILeases, IMarket, IQueue, LEASES, MARKET, QUEUE, spender_consent},
    market::{BP, Capacity, FEE_BP, Offer, Order, Prices, collateral_min},
};
use rand::{SeedableRng as _, rngs::StdRng};
use secp256k1::{Message, SECP256K1, SecretKey};

use crate::cast::{Host, offer, order};

/// The longest step of the active clock.
pub(crate) const STEP_MS: u64 = 3_000;

/// Lets time go by, in blocks as fast as the clock may go.
pub(crate) fn pass(world: &mut World, mut ms: u64) {
    while ms > 0 {
        let step = ms.min(STEP_MS);
        world.block(step, &[]);
        ms -= step;
    }
}

/// Events of a kind that a transaction left.
pub(crate) fn events<E: SolEvent>(applied: &Applied) -> Vec<E> {
    applied.logs.iter().filter_map(|log| E::decode_log_data(&log.data).ok()).collect()
}

/// What a transaction cost its sender, beside what it moved.
pub(crate) fn gas(applied: &Applied) -> U256 {
    U256::from(applied.gas_used) * U256::from(BASE_FEE + TIP)
}

/// The call by which `owner` takes a budget with this secret, and its account.
pub(crate) fn open_budget(owner: Address, secret: u8) -> (Address, Vec<u8>) {
    let secret = [secret; 32];
    let spender = address_of(&secret).expect("small numbers are secrets");
    let key = SecretKey::from_byte_array(secret).expect("small numbers are secrets");
    let message = Message::from_digest(keccak256(spender_consent(CHAIN, owner, spender)).0);
    let (id, bytes) = SECP256K1.sign_ecdsa_recoverable(message, &key).serialize_compact();
    let consent = Bytes::from([&bytes[..], &[27 + i32::from(id) as u8]].concat());
    (spender, IBudgets::registerCall { spender, consent }.abi_encode())
}

/// What a lease's payments come to: the operator's part and the burned one.
fn parts(paid: u128) -> [U256; 2] {
    let burned = (paid * u128::from(FEE_BP)).div_ceil(u128::from(BP));
    [U256::from(paid - burned), U256::from(burned)]
}

/// A host with room for many, its owner's budget, and an order of which a unit costs about a coin.
struct Scene {
    world: World,
    operator: Address,
    user: Address,
    budget: Address,
    terms: Order,
    /// Wei a second, and wei of ten minutes.
    rate: u128,
    unit: u128,
}

impl Scene {
    fn new(cap: u128) -> Self {
        let mut dice = StdRng::seed_from_u64(1);
        let (operator, user) = (Address::repeat_byte(0xaa), Address::repeat_byte(0xbb));
        let mut world = World::new(&[operator, user], 1);
        let host = Host::new(1, operator);
        let offer = Offer {
            capacity: Capacity::of_dims([64_000, 64 << 30, 1 << 40, 1_000_000_000, 1 << 30]),
            prices: Prices { cpuMilli: 12_000_000_000_000_000, ..Prices::default() },
            curve: Vec::new(),
            runtime: 0,
            ..offer(&mut dice)
        };
        let (region, collateral) = (offer.region, collateral_min(&offer.capacity));
        world.must(operator, MARKET, collateral, host.register(CHAIN, offer));
        let terms = Order {
            each: Capacity { cpuMilli: 500, memoryBytes: 1 << 20, ..Capacity::default() },
            replicas: 1,
            regions: 1 << region,
            runtime: 0,
            priceMax: u128::MAX,
            perHost: 0,
            perNetwork: 0,
            class: 0,
            patienceMs: 0,
            ..order(&mut dice, 600, &[])
        };
        let quoted = world.view(MARKET, IMarket::quoteCall { terms: terms.clone() });
        let rate = quoted[0].rate;
        let (budget, register) = open_budget(user, 0x55);
        world.must(user, BUDGETS, cap, register);
        Self { world, operator, user, budget, terms, rate, unit: rate * 600 }
    }

    fn order(&mut self, deposit: u128) -> Result<Applied, Fault> {
        let call = IMarket::orderCall { terms: self.terms.clone() }.abi_encode();
        self.world.attempt(self.budget, MARKET, deposit, call)
    }

    fn lease(&mut self, lease: u64) -> ILeases::Lease {
        self.world.view(LEASES, ILeases::getCall { lease })
    }

    /// The active clock, which leases pay by; the ledger's own times are told to the second.
    fn clock_ms(&mut self) -> u64 {
        self.world.view(QUEUE, IQueue::clockMsCall {})
    }

    /// Lets the active clock get there.
    fn pass_until(&mut self, clock_ms: u64) {
        let now = self.clock_ms();
        pass(&mut self.world, clock_ms.saturating_sub(now));
    }

    fn touch(&mut self, lease: u64) -> Applied {
        self.world.must(self.operator, LEASES, 0, ILeases::touchCall { leases: vec![lease] }.abi_encode())
    }

    /// Coin, book and orders, but for the budget's own coin.
    fn rest(&mut self) -> ([U256; 3], Vec<IMarket::Host>, Vec<u64>, u64) {
        let balances = [self.user, MARKET, LEASES].map(|account| self.world.balance(account));
        let hosts = self.world.view(MARKET, IMarket::pageCall { first: 0, most: 64 });
        let orders = self.world.view(MARKET, IMarket::ofOwnerCall { owner: self.user, first: 0, most: 64 });
        (balances, hosts, orders, self.world.view(LEASES, ILeases::countCall {}))
    }
}

pub(crate) fn live() {
    let mut scene = Scene::new(10 * COIN + COIN / 2);
    let mut spent = U256::ZERO;
    // When each lease's escrow ends, by the active clock.
    let mut ends_ms = Vec::new();
    let had = scene.world.balance(scene.budget);
    // One unit after the other, until no further one can be paid.
    let refused = loop {
        match scene.order(scene.unit) {
            Ok(applied) => {
                assert!(applied.success, "{:?}", applied.output);
                spent += U256::from(scene.unit) + gas(&applied);
                ends_ms.push(scene.clock_ms() + 600_000);
            }
            Err(fault) => break fault,
        }
    };
    assert!(matches!(refused, Fault::Invalid(Invalid::Funds)), "{refused:?}");
    let left = scene.world.balance(scene.budget);
    assert_eq!(left, had - spent, "units and gas, and nothing else");
    assert_eq!(ends_ms.len(), 10, "as many units as the cap holds");
    assert!(left < U256::from(scene.unit), "it stops before the next unit");

    // What goes beyond the cap leaves nothing, be it refused at the door or in a block.
    let before = scene.rest();
    assert!(scene.order(scene.unit).is_err());
    assert!(scene.rest() == before && scene.world.balance(scene.budget) == left, "a refused order left something");
    let applied = scene.order(scene.unit / 4).unwrap();
    assert!(!applied.success && applied.output.starts_with(&IMarket::DepositTooSmall::SELECTOR));
    assert!(scene.rest() == before, "a reverted order left something");
    assert_eq!(scene.world.balance(scene.budget), left - gas(&applied), "a reverted order costs its gas alone");

    ends_with_its_escrow(&mut scene, &ends_ms);
    scene.world.audit();
}

/// The first lease is touched in its last second and upon its end, the second long after.
fn ends_with_its_escrow(scene: &mut Scene, ends_ms: &[u64]) {
    let earned = |applied: &Applied| {
        let settled = events::<ILeases::Settled>(applied);
        settled.iter().map(|one| [one.amount, one.burned]).fold([U256::ZERO; 2], |a, b| [a[0] + b[0], a[1] + b[1]])
    };
    // A transaction's own block takes a moment: it is within the last second.
    scene.pass_until(ends_ms[0] - 500);
    let applied = scene.touch(1);
    assert_eq!(earned(&applied), parts(scene.rate * 599), "all but the last second");
    assert!(events::<ILeases::Ended>(&applied).is_empty() && scene.lease(1).state == 1);
    scene.pass_until(ends_ms[0]);
    let applied = scene.touch(1);
    assert_eq!(earned(&applied), parts(scene.rate), "the last second");
    let ended = events::<ILeases::Ended>(&applied);
    assert_eq!((ended[0].by, ended[0].refund, scene.lease(1).state), (3, U256::ZERO, 2));

    scene.pass_until(ends_ms[1] + 5_000_000);
    let renew = ILeases::renewCall { lease: 2 }.abi_encode();
    let late = scene.world.send(scene.user, LEASES, scene.unit, renew);
    assert!(!late.success && late.output.starts_with(&ILeases::NotRunning::SELECTOR), "nobody renews what is over");
    let applied = scene.touch(2);
    assert_eq!(earned(&applied), parts(scene.unit), "not a second beyond its escrow");
    assert_eq!(events::<ILeases::Ended>(&applied)[0].by, 3);
    let again = ILeases::touchCall { leases: vec![2] }.abi_encode();
    assert!(!scene.world.send(scene.operator, LEASES, 0, again).success, "and nothing twice");
}
