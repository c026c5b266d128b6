//! Place replicas in a book of many hosts, by the ledger's own matcher and by a plain map.

use alloy_primitives::{Address, B256, keccak256};
use alloy_sol_types::SolCall as _;
use anyhow::Result;
use hodei_types::{
    abi::{IMarket, MARKET, operator_consent, pack_addresses},
    ack::Signer,
    market::{BP, Capacity, Offer, Order, Prices, REGIONS, Runtime, Tier, collateral_min, rate},
};
use std::{collections::BTreeMap, time::Instant};

use crate::{
    alone::{Alone, CHAIN},
    cloud::cpu_secs,
};

/// Operators and owners, of whom each has many.
const PEOPLE: u64 = 1000;
/// Calls of a block.
const BATCH: u64 = 100;
/// What fills the book comes in orders as large as there are.
const REPLICAS_EACH: u8 = 64;
/// What a replica takes: a twentieth of a host.
const EACH: Capacity = Capacity::of_dims([100, 64 << 20, 0, 0, 0]);

/// Which region and runtime the `number`th host or order is of.
fn book(number: u64) -> (u8, u8) {
    let runtimes = Runtime::ALL.len() as u64;
    ((number / runtimes % REGIONS.len() as u64) as u8, (number % runtimes) as u8)
}

pub(crate) fn offer(number: u64, (region, runtime): (u8, u8)) -> Offer {
    // Within an octave, in no order.
    let price = 1000 + number.wrapping_mul(7919) % 1000;
    Offer {
        capacity: Capacity::of_dims([2000, 8 << 30, 100 << 30, 1_000_000_000, 1 << 30]),
        prices: Prices { cpuMilli: 3600 * price, ..Prices::default() },
        curve: vec![Tier { fromBp: 5_000, markupBp: 2_500 }],
        preemptibleBp: 5_000,
        region,
        country: [b'E', b'S'].into(),
        runtime,
        tier: 2,
        attestation: 0,
        renewable: 0,
        network: "as64500".into(),
        zone: "a".into(),
        hardware: String::new(),
        addresses: pack_addresses(&[([127, 0, 0, 1], 4000).into()]),
    }
}

/// A host's key, and the call that registers it.
pub(crate) fn register(chain_id: u64, number: u64, operator: Address, offer: Offer) -> Vec<u8> {
    let signer = Signer::new(&keccak256(format!("bench host {number}")).0);
    let node = B256::from(signer.node().0);
    let possession = signer.sign(&operator_consent(chain_id, operator, node)).to_vec().into();
    IMarket::registerCall { node, offer, possession }.abi_encode()
}

pub(crate) fn order(each: Capacity, replicas: u8, (region, runtime): (u8, u8)) -> Order {
    Order {
        each,
        replicas,
        regions: 1 << region,
        country: Default::default(),
        runtime,
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

/// Wei for an hour of the dearest host at its highest markup.
const DEPOSIT_EACH: u128 = 100 * 2000 * 2 * 3600;

fn person(kind: u8, number: u64) -> Address {
    Address::from_slice(&keccak256([&[kind][..], &(number % PEOPLE).to_be_bytes()].concat())[12..])
}

/// Fills a ledger's book through its calls, then places `count` single replicas.
pub(crate) fn ledger(hosts: u64, replicas: u64, count: u64) -> Result<()> {
    let people: Vec<Address> = (0..PEOPLE).flat_map(|at| [person(0, at), person(1, at)]).collect();
    let mut alone = Alone::new(&people)?;
    let start = Instant::now();
    for first in (0..hosts).step_by(BATCH as usize) {
        let mut txs = Vec::new();
        for number in first..(first + BATCH).min(hosts) {
            let (offer, operator) = (offer(number, book(number)), person(0, number));
            let collateral = collateral_min(&offer.capacity);
            txs.push(alone.tx(operator, MARKET, collateral, register(CHAIN, number, operator, offer)));
        }
        alone.block(&txs)?;
    }
    println!("matcher: {hosts} hosts registered in {:.1} s", start.elapsed().as_secs_f64());
    let start = Instant::now();
    let orders = replicas / u64::from(REPLICAS_EACH);
    place(&mut alone, orders, REPLICAS_EACH)?;
    let placed = orders * u64::from(REPLICAS_EACH);
    println!("matcher: {placed} replicas placed by {orders} orders in {:.1} s", start.elapsed().as_secs_f64());
    let me = [std::process::id()];
    let (cpu, start) = (cpu_secs(&me), Instant::now());
    let (gas, price) = place(&mut alone, count, 1)?;
    let (cpu, wall) = (cpu_secs(&me) - cpu, start.elapsed().as_secs_f64());
    println!(
        "matcher: {count} placements of one replica in {wall:.1} s, {:.0} a CPU-second, {} gas each, {} wei a second each",
        count as f64 / cpu.max(0.01),
        gas / count.max(1),
        price / u128::from(count.max(1))
    );
    Ok(())
}

/// Orders over all books; the gas of all, and the sum of their rates.
fn place(alone: &mut Alone, orders: u64, replicas: u8) -> Result<(u64, u128)> {
    let (mut gas, mut price) = (0, 0);
    for first in (0..orders).step_by(BATCH as usize) {
        let mut txs = Vec::new();
        for number in first..(first + BATCH).min(orders) {
            let terms = order(EACH, replicas, book(number));
            let deposit = DEPOSIT_EACH * u128::from(replicas);
            txs.push(alone.tx(person(1, number), MARKET, deposit, IMarket::orderCall { terms }.abi_encode()));
        }
        for applied in alone.block(&txs)? {
            gas += applied.gas_used;
            price += rates(&applied.logs);
        }
    }
    Ok((gas, price))
}

/// What the leases that began pay in a second.
fn rates(logs: &[alloy_primitives::Log]) -> u128 {
    use alloy_sol_types::SolEvent as _;
    use hodei_types::abi::ILeases::Begun;
    logs.iter().filter_map(|log| Begun::decode_log_data(&log.data).ok()).map(|begun| begun.rate).sum()
}

/// One host of the plain matcher.
struct Plain {
    offer: Offer,
    free: Capacity,
}

impl Plain {
    fn bid(&self, at: usize) -> Option<(u128, u64, usize)> {
        let holds = self.free.holds(&EACH);
        let price = rate(&EACH, &self.offer.prices, self.offer.markup_bp(&self.free), BP as u16);
        (holds > 0).then_some((price, holds, at))
    }
}

/// The same by a sorted map of one order's bids for each book, without state, accounts or events: what matching alone
/// costs a program that trusts itself.
pub(crate) fn plain(hosts: u64, replicas: u64, count: u64) {
    let all = |number: u64| {
        let offer = offer(number, book(number));
        Plain { free: offer.capacity, offer }
    };
    let mut hosts: Vec<Plain> = (0..hosts).map(all).collect();
    let mut books = BTreeMap::<(u8, u8), std::collections::BTreeSet<(u128, u64, usize)>>::new();
    for (at, host) in hosts.iter().enumerate() {
        books.entry((host.offer.region, host.offer.runtime)).or_default().extend(host.bid(at));
    }
    let mut place = |number: u64| -> Option<u128> {
        let bids = books.get_mut(&book(number))?;
        let (price, _, at) = bids.pop_first()?;
        let host = hosts.get_mut(at)?;
        host.free = host.free.checked_sub(&EACH)?;
        bids.extend(host.bid(at));
        Some(price)
    };
    (0..replicas).for_each(|number| _ = place(number));
    let (start, mut price, mut placed) = (Instant::now(), 0, 0_u64);
    for number in 0..count {
        if let Some(paid) = std::hint::black_box(place(number)) {
            (price, placed) = (price + paid, placed + 1);
        }
    }
    println!(
        "ceiling: a sorted map in memory, {:.0} a CPU-second, {} wei a second each",
        placed as f64 / start.elapsed().as_secs_f64(),
        price / u128::from(placed.max(1))
    );
}
