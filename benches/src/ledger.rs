//! Measure finality, the cost of a block and of a transfer, with four validators on this machine.
//!
//! Run: `cargo build --release && cargo run --release -p hodei-benches --bin bench-ledger`
//!
//! Transfers are signed before the clock starts; CPU is read from the validators' processes alone, so that the
//! load generator does not count. The ceiling beside it is signature recovery, measured in the same run: each of
//! four validators recovers each signature once.

mod account;
mod cloud;
mod flood;
mod rpc;

use account::{address, secret, senders, transfer};
use alloy_primitives::Address;
use anyhow::{Context as _, Result, ensure};
use cloud::{Cloud, cpu_secs};
use flood::{flood, fund};
use rpc::Rpc;
use secp256k1::{Message, SECP256K1, SecretKey};
use serde_json::json;
use std::time::{Duration, Instant};

/// Accounts that send at once: below 64 pending each, the mempool's cap.
const SENDERS: usize = 256;
const TRANSFERS_EACH: usize = 48;
const IDLE_SAMPLES: usize = 100;

fn main() -> Result<()> {
    let cloud = Cloud::start()?;
    let url = cloud.doors["rpc"].as_str().context("the demo has no rpc door")?;
    let mut rpc = Rpc::connect(url)?;
    let validators = cloud.children("validator")?;
    ensure!(validators.len() == 4, "expected 4 validator processes, found {}", validators.len());
    let chain_id = rpc.number("eth_chainId", json!([]))?;
    let funder = secret(cloud.doors["wallet"]["secret"].as_str().context("the demo's wallet shows no secret")?)?;

    idle_cost(&mut rpc, &validators)?;
    idle_finality(&mut rpc, chain_id, &funder)?;
    throughput(&mut rpc, chain_id, &funder, &validators)
}

/// What an idle chain costs: heartbeat blocks only.
fn idle_cost(rpc: &mut Rpc, validators: &[u32]) -> Result<()> {
    let (cpu, height, start) = (cpu_secs(validators), rpc.number("eth_blockNumber", json!([]))?, Instant::now());
    std::thread::sleep(Duration::from_secs(10));
    let blocks = rpc.number("eth_blockNumber", json!([]))? - height;
    let cpu = cpu_secs(validators) - cpu;
    println!(
        "idle: {blocks} blocks, {:.1} ms CPU a block over 4 validators, {:.1} % of one core",
        1000.0 * cpu / blocks.max(1) as f64,
        100.0 * cpu / start.elapsed().as_secs_f64()
    );
    Ok(())
}

/// From sending a transfer to an idle chain until the door says it is final.
fn idle_finality(rpc: &mut Rpc, chain_id: u64, funder: &SecretKey) -> Result<()> {
    let first = rpc.number("eth_getTransactionCount", json!([address(funder), "pending"]))?;
    let mut times = Vec::new();
    for nonce in (first..).take(IDLE_SAMPLES) {
        let raw = transfer(funder, chain_id, nonce, Address::repeat_byte(7), 1);
        let start = Instant::now();
        rpc.call("eth_sendRawTransactionSync", json!([raw]))?;
        times.push(start.elapsed());
        std::thread::sleep(Duration::from_millis(50));
    }
    times.sort();
    println!(
        "finality, idle: median {:.1} ms, p90 {:.1} ms over {IDLE_SAMPLES} transfers, one at a time",
        ms(times[IDLE_SAMPLES / 2]),
        ms(times[IDLE_SAMPLES * 9 / 10])
    );
    Ok(())
}

/// Pre-signed transfers from many accounts, and the ceiling of signature recovery beside them.
fn throughput(rpc: &mut Rpc, chain_id: u64, funder: &SecretKey, validators: &[u32]) -> Result<()> {
    let senders = senders(SENDERS)?;
    fund(rpc, chain_id, funder, &senders, 10_000_000_000_000_000)?;
    let signed: Vec<Vec<String>> = senders
        .iter()
        .map(|sender| {
            (0..TRANSFERS_EACH as u64)
                .map(|nonce| transfer(sender, chain_id, nonce, Address::repeat_byte(9), 1))
                .collect()
        })
        .collect();

    let took = flood(rpc, validators, &senders, &signed, TRANSFERS_EACH as u64)?;
    let (wall, cpu, blocks) = (took.wall, took.cpu, took.blocks);
    let total = (SENDERS * TRANSFERS_EACH) as f64;
    let recovery = recovery_secs(&signed);
    println!(
        "load: {total} transfers in {blocks} blocks and {wall:.1} s, {:.0} a validator CPU-second over 4 validators, {:.1} ms CPU a block",
        total / cpu,
        1000.0 * cpu / blocks.max(1) as f64
    );
    println!(
        "ceiling: signature recovery alone {:.1} µs, four times: {:.0} a CPU-second; ratio {:.2}",
        1e6 * recovery,
        1.0 / (4.0 * recovery),
        total / cpu * 4.0 * recovery
    );
    Ok(())
}

/// Seconds of one recovery, over as many as the load held.
fn recovery_secs(signed: &[Vec<String>]) -> f64 {
    let count: usize = signed.iter().map(Vec::len).sum();
    let secret = SecretKey::from_byte_array([7; 32]).expect("a valid key");
    let message = Message::from_digest([9; 32]);
    let signature = SECP256K1.sign_ecdsa_recoverable(message, &secret);
    let start = Instant::now();
    for _ in 0..count {
        std::hint::black_box(SECP256K1.recover_ecdsa(std::hint::black_box(message), &signature).is_ok());
    }
    start.elapsed().as_secs_f64() / count as f64
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}
