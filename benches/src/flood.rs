//! Send what was signed before from many accounts at once, and tell what it cost the validators.

use anyhow::{Result, anyhow, ensure};
use secp256k1::SecretKey;
use serde_json::{Value, json};
use std::time::{Duration, Instant};

use crate::{
    account::{address, transfer},
    cloud::cpu_secs,
    rpc::Rpc,
};

/// Connections that send at once.
const LANES: usize = 4;
/// Until all of a flood is final.
const LAST: Duration = Duration::from_secs(300);

/// What a flood took, from the first byte sent until the last nonce is final.
pub(crate) struct Took {
    pub(crate) wall: f64,
    /// CPU-seconds of all validators.
    pub(crate) cpu: f64,
    pub(crate) blocks: u64,
}

/// Gives accounts coins, 32 of them at a time.
pub(crate) fn fund(rpc: &mut Rpc, chain_id: u64, funder: &SecretKey, to: &[SecretKey], value: u64) -> Result<()> {
    let mut nonce = rpc.number("eth_getTransactionCount", json!([address(funder), "pending"]))?;
    for group in to.chunks(32) {
        let mut last = Value::Null;
        for account in group {
            let raw = transfer(funder, chain_id, nonce, address(account), value);
            last = rpc.call("eth_sendRawTransaction", json!([raw]))?;
            nonce += 1;
        }
        wait_final(rpc, &last)?;
    }
    Ok(())
}

/// Sends each account's transactions in their order, and waits until each has used `nonce` of them.
pub(crate) fn flood(
    rpc: &mut Rpc,
    validators: &[u32],
    senders: &[SecretKey],
    signed: &[Vec<String>],
    nonce: u64,
) -> Result<Took> {
    let (cpu, height, start) = (cpu_secs(validators), rpc.number("eth_blockNumber", json!([]))?, Instant::now());
    let refused: usize = std::thread::scope(|scope| {
        let lanes: Vec<_> = signed
            .chunks(signed.len().div_ceil(LANES).max(1))
            .map(|lane| {
                let mut rpc = rpc.again();
                scope.spawn(move || -> Result<usize> {
                    let rpc = rpc.as_mut().map_err(|error| anyhow!("{error}"))?;
                    let mut refused = 0;
                    for sender in lane {
                        refused += rpc.batch("eth_sendRawTransaction", sender.iter().map(|raw| json!([raw])))?.len();
                    }
                    Ok(refused)
                })
            })
            .collect();
        lanes.into_iter().map(|lane| lane.join().expect("a lane panicked")).sum::<Result<usize>>()
    })?;
    ensure!(refused == 0, "{refused} transactions were refused");
    for sender in senders {
        while rpc.number("eth_getTransactionCount", json!([address(sender), "latest"]))? < nonce {
            ensure!(start.elapsed() < LAST, "not all was final in {LAST:?}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
    let (wall, cpu) = (start.elapsed().as_secs_f64(), cpu_secs(validators) - cpu);
    Ok(Took { wall, cpu, blocks: rpc.number("eth_blockNumber", json!([]))? - height })
}

pub(crate) fn wait_final(rpc: &mut Rpc, hash: &Value) -> Result<()> {
    let start = Instant::now();
    while rpc.call("eth_getTransactionReceipt", json!([hash]))?.is_null() {
        ensure!(start.elapsed() < Duration::from_secs(30), "transaction {hash} was not finalized in 30 s");
        std::thread::sleep(Duration::from_millis(10));
    }
    Ok(())
}
