//! Measure how many replicas a second find a host: by the matcher alone, and through consensus beside transfers.
//!
//! Run: `cargo build --release && cargo run --release -p hodei-benches --bin bench-market [HOSTS] [REPLICAS]`
//!
//! Alone: one thread executes the ledger's calls on a state in memory that has HOSTS hosts, 100,000 unless told, and
//! REPLICAS of a twentieth of a host, a million unless told, in a book for each region and runtime; signatures are not
//! looked at. The ceiling beside it is a sorted map of bids. Through consensus: four validator processes of a demo take
//! orders of one replica that were signed before, from many accounts; CPU is read from the validators alone.

mod account;
mod alone;
mod cloud;
mod flood;
mod matcher;
mod rpc;

use account::{Call, address, secret, senders, sign, transfer};
use alloy_primitives::{Address, Bytes, U256};
use alloy_sol_types::SolCall as _;
use anyhow::{Context as _, Result, ensure};
use cloud::Cloud;
use flood::{Took, flood, fund, wait_final};
use hodei_types::{
    abi::{ILeases, IMarket, LEASES, MARKET},
    market::{Capacity, REGIONS, collateral_min},
};
use rpc::Rpc;
use secp256k1::SecretKey;
use serde_json::json;

/// Placements of one replica that are timed, and those of the plain map.
const PLACED: u64 = 5_000;
const PLAIN: u64 = 500_000;
/// Replicas that a host of the matcher's holds.
const HOLDS: u64 = 20;

/// Accounts that order at once, and what each sends: below 64 pending, the mempool's cap.
const SENDERS: usize = 256;
const ORDERS_EACH: u64 = 16;
const TRANSFERS_EACH: u64 = 16;
/// Hosts in a region of their own, and the least replica there is.
const HOSTS: u64 = 16;
const EACH: Capacity = Capacity::of_dims([10, 1 << 20, 0, 0, 0]);
/// The last of the list: no host of a demo is there.
const REGION: u8 = REGIONS.len() as u8 - 1;
/// Wei of gas at most: a demo's base fee is far below.
const FEE_MAX: u128 = 10_000_000_000;

fn main() -> Result<()> {
    let mut words = std::env::args().skip(1);
    let hosts: u64 = words.next().map_or(Ok(100_000), |text| text.parse())?;
    let replicas: u64 = words.next().map_or(Ok(1_000_000), |text| text.parse())?;
    ensure!(replicas + PLAIN < hosts * HOLDS, "{hosts} hosts hold {HOLDS} replicas each: fewer than these and {PLAIN}");
    matcher::ledger(hosts, replicas, PLACED)?;
    matcher::plain(hosts, replicas, PLAIN);
    consensus()
}

fn consensus() -> Result<()> {
    let cloud = Cloud::start()?;
    let url = cloud.doors["rpc"].as_str().context("the demo has no rpc door")?;
    let mut rpc = Rpc::connect(url)?;
    let validators = cloud.children("validator")?;
    ensure!(validators.len() == 4, "expected 4 validator processes, found {}", validators.len());
    let chain_id = rpc.number("eth_chainId", json!([]))?;
    let funder = secret(cloud.doors["wallet"]["secret"].as_str().context("the demo's wallet shows no secret")?)?;
    let senders = senders(SENDERS)?;
    fund(&mut rpc, chain_id, &funder, &senders, 1_000_000_000_000_000_000)?;
    offer(&mut rpc, chain_id, &funder)?;

    let lane = |from: &SecretKey| {
        (0..TRANSFERS_EACH).map(|n| transfer(from, chain_id, n, Address::repeat_byte(9), 1)).collect()
    };
    let signed: Vec<Vec<String>> = senders.iter().map(lane).collect();
    let transfers = flood(&mut rpc, &validators, &senders, &signed, TRANSFERS_EACH)?;

    let call = order(&mut rpc, &senders[0])?;
    let nonces = TRANSFERS_EACH..TRANSFERS_EACH + ORDERS_EACH;
    let lane = |from: &SecretKey| nonces.clone().map(|nonce| sign(from, chain_id, nonce, &call)).collect();
    let signed: Vec<Vec<String>> = senders.iter().map(lane).collect();
    let before = leases(&mut rpc)?;
    let orders = flood(&mut rpc, &validators, &senders, &signed, nonces.end)?;
    let (placed, sent) = (leases(&mut rpc)? - before, SENDERS as u64 * ORDERS_EACH);
    ensure!(placed == sent, "{placed} of {sent} orders were placed");
    tell("transfers", SENDERS as u64 * TRANSFERS_EACH, &transfers);
    tell("placements", placed, &orders);
    println!("an order's gas limit: {}, over a book of {HOSTS} hosts", call.gas_limit);
    Ok(())
}

fn tell(what: &str, count: u64, took: &Took) {
    println!(
        "{what}: {count} in {} blocks and {:.1} s, {:.0} a second; {:.0} a CPU-second over 4 validators",
        took.blocks,
        took.wall,
        count as f64 / took.wall,
        count as f64 / took.cpu.max(0.01)
    );
}

/// Hosts with room for all that is ordered.
fn offer(rpc: &mut Rpc, chain_id: u64, funder: &SecretKey) -> Result<()> {
    let first = rpc.number("eth_getTransactionCount", json!([address(funder), "pending"]))?;
    let room = SENDERS as u64 * ORDERS_EACH;
    let mut last = serde_json::Value::Null;
    for (nonce, number) in (first..).zip(0..HOSTS) {
        let mut offer = matcher::offer(number, (REGION, 0));
        offer.capacity.cpuMilli = room * EACH.cpuMilli;
        offer.capacity.memoryBytes = room * EACH.memoryBytes;
        let value = U256::from(collateral_min(&offer.capacity));
        let data = matcher::register(chain_id, number, address(funder), offer).into();
        let call = Call { to: MARKET, value, data, gas_limit: 3_000_000, fee_max: FEE_MAX };
        last = rpc.call("eth_sendRawTransaction", json!([sign(funder, chain_id, nonce, &call)]))?;
    }
    wait_final(rpc, &last)
}

/// An order of one replica for ten minutes, with the gas that it is estimated to use and a half more.
fn order(rpc: &mut Rpc, from: &SecretKey) -> Result<Call> {
    let terms = matcher::order(EACH, 1, (REGION, 0));
    let data: Bytes = IMarket::orderCall { terms }.abi_encode().into();
    // Ten milli at twice the highest price.
    let value = U256::from(10 * 4_000 * 600_u64);
    let asked = json!([{"from": address(from), "to": MARKET, "data": data, "value": format!("{value:#x}")}]);
    let gas_limit = rpc.number("eth_estimateGas", asked)? * 3 / 2;
    Ok(Call { to: MARKET, value, data, gas_limit, fee_max: FEE_MAX })
}

/// Leases there ever were.
fn leases(rpc: &mut Rpc) -> Result<u64> {
    let data: Bytes = ILeases::countCall {}.abi_encode().into();
    // One word, whose number a u64 holds.
    let answer = rpc.call("eth_call", json!([{"to": LEASES, "data": data}, "latest"]))?;
    let word = answer.as_str().context("eth_call answered no text")?.trim_start_matches("0x");
    Ok(U256::from_str_radix(word, 16)?.saturating_to())
}
