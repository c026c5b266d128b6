//! Say who trades what: hosts with their keys, offers, orders.

use alloy_primitives::{Address, B256, Bytes};
use alloy_sol_types::SolCall as _;
use hodei_types::{
    abi::{IMarket, operator_consent, pack_addresses},
    ack::Signer,
    market::{Capacity, Class, Offer, Order, Prices, Tier, region_mask},
};
use rand::{RngExt as _, rngs::StdRng};

const GIB: u64 = 1 << 30;
/// Regions of offers and orders, by name and place.
pub(crate) const REGIONS: [&str; 2] = ["eu-west", "eu-east"];
/// How orders are served here: all classes that take room and pay by the second alone.
pub(crate) const CLASSES: [Class; 3] = [Class::Instant, Class::Deferrable, Class::Preemptible];

/// A number below `sides`.
pub(crate) fn die(dice: &mut StdRng, sides: u64) -> u64 {
    dice.random_range(0..sides.max(1))
}

/// A host: its key, and whose it is.
pub(crate) struct Host {
    pub(crate) node: B256,
    pub(crate) operator: Address,
    signer: Signer,
}

impl Host {
    pub(crate) fn new(number: u8, operator: Address) -> Self {
        let signer = Signer::new(&[number; 32]);
        Self { node: B256::from(signer.node().0), operator, signer }
    }

    pub(crate) fn sign(&self, message: &[u8]) -> Bytes {
        self.signer.sign(message).to_vec().into()
    }

    /// The call that registers it with this offer.
    pub(crate) fn register(&self, chain_id: u64, offer: Offer) -> Vec<u8> {
        let possession = self.sign(&operator_consent(chain_id, self.operator, self.node));
        IMarket::registerCall { node: self.node, offer, possession }.abi_encode()
    }
}

/// One to three CPUs in a region of its own choice, at some price, with a curve or without.
pub(crate) fn offer(dice: &mut StdRng) -> Offer {
    let region = REGIONS[die(dice, 2) as usize];
    let curve = match die(dice, 3) {
        0 => Vec::new(),
        1 => vec![Tier { fromBp: 5_000, markupBp: 2_500 }],
        _ => vec![Tier { fromBp: 2_500, markupBp: 1_000 }, Tier { fromBp: 7_500, markupBp: 10_000 }],
    };
    Offer {
        capacity: Capacity::of_dims([1000 + 500 * die(dice, 5), 8 * GIB, 100 * GIB, 1_000_000_000, GIB]),
        // Wei an hour, so that a second of half a CPU costs some hundred.
        prices: Prices { cpuMilli: 3600 * (1 + die(dice, 4)), memoryMib: die(dice, 900), ..Prices::default() },
        curve,
        preemptibleBp: 1_000 + die(dice, 9_001) as u16,
        region: hodei_types::market::region(region).expect("a region of the list"),
        country: [b'E', b'S'].into(),
        runtime: u8::from(die(dice, 4) == 0),
        tier: die(dice, 3) as u8,
        attestation: 0,
        renewable: 50,
        network: format!("as{}", 64_500 + die(dice, 3)),
        zone: "a".into(),
        hardware: String::new(),
        addresses: pack_addresses(&["127.0.0.1:4000".parse().expect("an address")]),
    }
}

/// One to three replicas of half a CPU at most, for `secs` at least; now and then terms that nobody meets.
pub(crate) fn order(dice: &mut StdRng, secs: u64, exclude: &[B256]) -> Order {
    let class = CLASSES[die(dice, CLASSES.len() as u64) as usize];
    let regions = match die(dice, 3) as usize {
        0 => region_mask(REGIONS),
        place => region_mask([REGIONS[place - 1]]),
    };
    let waits = class == Class::Deferrable;
    Order {
        each: Capacity { cpuMilli: 100 + die(dice, 401), memoryBytes: GIB / 2, ..Capacity::default() },
        replicas: 1 + die(dice, 3) as u8,
        regions: regions.expect("regions of the list"),
        country: Default::default(),
        runtime: u8::from(die(dice, 5) == 0),
        tierMin: 0,
        attestationMin: 0,
        renewableMin: 0,
        priceMax: u128::from(1 + die(dice, 12)) * 250 * 3600,
        perHost: die(dice, 3) as u8,
        perOperator: 0,
        perNetwork: die(dice, 3) as u8,
        class: class as u8,
        secs,
        patienceMs: if waits { secs * 1000 } else { 0 },
        workload: B256::repeat_byte(7),
        collateralMin: 0,
        availabilityMinBp: 0,
        within: 0,
        exclude: exclude.iter().filter(|_| die(dice, 4) == 0).take(1).copied().collect(),
    }
}

/// Wei that pay for an order's terms at its own highest price, and so at any.
pub(crate) fn deposit(order: &Order) -> u128 {
    (order.priceMax * u128::from(order.secs) * u128::from(order.replicas)).div_ceil(3600)
}
