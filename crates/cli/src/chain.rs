//! Look into the ledger.

use crate::{
    args::ChainShow,
    fault::{self, Fault, Result},
    out::Out,
    session::{Session, chain_fault},
    time,
};
use alloy_primitives::{B256, keccak256};
use serde_json::json;

/// `hodei chain show`: the head, a block by height, or a transaction by hash.
pub(crate) async fn show(args: &ChainShow, session: &Session, out: Out) -> Result<()> {
    let head = session.chain.head().await.map_err(chain_fault)?;
    let Some(what) = &args.what else {
        out.result(
            format!(
                "block {} of chain {}, {}\n{}\nnetwork key {}",
                head.height, head.chain_id, time::utc(head.time_ms), head.hash, session.network_key
            ),
            &json!({
                "schema": "hodei.chain.head/1", "height": head.height, "hash": head.hash.to_string(),
                "time_ms": head.time_ms, "chain_id": head.chain_id, "genesis": head.genesis.to_string(),
                "base_fee_wei": head.base_fee, "network_key": session.network_key.to_string(),
            }),
        );
        return Ok(());
    };
    if let Ok(height) = what.parse::<u64>() {
        if height > head.height {
            return Err(Fault::new(&fault::HALTED, "that block is not final yet", "wait, then run it again")
                .between(format!("at most {}", head.height), height));
        }
        let certificate = session.chain.certificate(height).await.map_err(chain_fault)?;
        let hash = certificate.headers.first().map(keccak256).unwrap_or_default();
        let certified = height + certificate.headers.len() as u64 - 1;
        out.result(
            format!("block {height} {hash}, final by the certificate of block {certified}"),
            &json!({
                "schema": "hodei.chain.block/1", "height": height, "hash": hash.to_string(), "certified_by": certified,
                "header": certificate.headers.first().map(hex::encode), "certificate": hex::encode(&certificate.finalization),
            }),
        );
        return Ok(());
    }
    let hash: B256 = what.parse().map_err(|_| {
        Fault::new(&fault::USAGE, "that names nothing on the chain", "give a height, or a transaction's hash")
            .between("a number, or 0x and 64 hex digits", format!("{what:?}"))
    })?;
    let Some(receipt) = session.chain.receipt(hash).await.map_err(chain_fault)? else {
        return Err(Fault::new(&fault::UNKNOWN_TRANSACTION, "no final block holds that transaction", "wait a second and run it again, or check the hash").at(hash));
    };
    let word = if receipt.success { "succeeded" } else { "reverted" };
    out.result(
        format!("transaction {hash} {word} in block {}: {} gas, {} logs", receipt.height, receipt.gas_used, receipt.logs.len()),
        &json!({
            "schema": "hodei.chain.transaction/1", "hash": hash.to_string(), "height": receipt.height,
            "success": receipt.success, "gas_used": receipt.gas_used, "logs": receipt.logs.len(),
            "output": receipt.output.to_string(),
        }),
    );
    Ok(())
}
