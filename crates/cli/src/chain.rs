//! Look into the ledger, and carry it in a file.

use crate::{
    args::{ChainExport, ChainImport, ChainShow},
    fault::{self, Fault, Result},
    out::Out,
    serve::{Checked, home_fault, node_fault},
    session::{Session, chain_fault},
    time,
};
use alloy_primitives::{B256, keccak256};
use commonware_runtime::tokio::Context;
use hodei_node::import::ImportError;
use hodei_sdk::history::ExportError;
use serde_json::json;
use std::{fs::File, io::BufWriter};

/// `hodei chain show`: the head, a block by height, or a transaction by hash.
pub(crate) async fn show(args: &ChainShow, session: &Session, out: Out) -> Result<()> {
    let head = session.chain.head().await.map_err(chain_fault)?;
    let Some(what) = &args.what else {
        out.result(
            format!(
                "block {} of chain {}, {}\n{}\nnetwork key {}",
                head.height,
                head.chain_id,
                time::utc(head.time_ms),
                head.hash,
                session.network_key
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
        return Err(Fault::new(
            &fault::UNKNOWN_TRANSACTION,
            "no final block holds that transaction",
            "wait a second and run it again, or check the hash",
        )
        .at(hash));
    };
    let word = if receipt.success { "succeeded" } else { "reverted" };
    out.result(
        format!(
            "transaction {hash} {word} in block {}: {} gas, {} logs",
            receipt.height,
            receipt.gas_used,
            receipt.logs.len()
        ),
        &json!({
            "schema": "hodei.chain.transaction/1", "hash": hash.to_string(), "height": receipt.height,
            "success": receipt.success, "gas_used": receipt.gas_used, "logs": receipt.logs.len(),
            "output": receipt.output.to_string(),
        }),
    );
    Ok(())
}

/// `hodei chain export`: a file is whole, or it is not there.
pub(crate) async fn export(args: &ChainExport, session: &Session, out: Out) -> Result<()> {
    let head = session.chain.head().await.map_err(chain_fault)?;
    let to = args.to.unwrap_or(head.height);
    if to < args.from || to > head.height {
        return Err(Fault::new(
            &fault::USAGE,
            "there are no such blocks to export",
            "choose --from and --to within the chain",
        )
        .between(format!("{} to {}", args.from, head.height), to));
    }
    let mut name = args.file.clone().into_os_string();
    name.push(".part");
    let part = std::path::PathBuf::from(name);
    if args.file.exists() {
        return Err(
            Fault::new(&fault::EXISTS, "that file exists", "name another, or remove it").at(args.file.display())
        );
    }
    let mut file = BufWriter::new(File::create(&part).map_err(|error| Fault::io(&part, "writing", &error))?);
    let written = hodei_sdk::history::export(&*session.chain, &session.network_key, args.from, to, &mut file).await;
    let kept = written.map_err(|error| match error {
        ExportError::Chain(error) => chain_fault(error),
        ExportError::Write(error) => Fault::io(&part, "writing", &error),
        error => Fault::new(&fault::LIED, error, "reach the network through other members"),
    });
    let last = match kept.and_then(|last| {
        file.get_ref().sync_all().map_err(|error| Fault::io(&part, "writing", &error))?;
        std::fs::rename(&part, &args.file).map_err(|error| Fault::io(&args.file, "writing", &error))?;
        Ok(last)
    }) {
        Ok(last) => last,
        Err(fault) => {
            let _ = std::fs::remove_file(&part);
            return Err(fault);
        }
    };
    let bytes = std::fs::metadata(&args.file).map_or(0, |data| data.len());
    out.result(
        format!("blocks {} to {last} in {}: {bytes} bytes", args.from, args.file.display()),
        &json!({
            "schema": "hodei.chain.export/1", "file": args.file, "from": args.from, "to": last, "bytes": bytes,
            "network_key": session.network_key.to_string(),
        }),
    );
    Ok(())
}

/// `hodei chain import`: the folder's ledger is the file's, replayed, or it stays empty.
pub(crate) async fn import(runtime: Context, args: ChainImport, checked: Checked, out: Out) -> Result<()> {
    let Checked { home, config } = checked;
    let imported = hodei_node::import::import(runtime, &home, &config, &args.file).await;
    let imported = imported.map_err(|error| match error {
        ImportError::NotEmpty => {
            Fault::new(&fault::EXISTS, error, "import into a folder that never ran").at(home.path().display())
        }
        ImportError::Home(error) => home_fault(error),
        ImportError::Node(error) => node_fault(error),
        ImportError::Read(error) => Fault::io(&args.file, "reading", &error),
        ImportError::File(error) => {
            Fault::new(&fault::HISTORY, error, "get the file again, from somebody else").at(args.file.display())
        }
    })?;
    out.result(
        format!(
            "blocks 1 to {} replayed, state root {}: start it with `hodei chain validator run`",
            imported.height, imported.state_root
        ),
        &json!({
            "schema": "hodei.chain.import/1", "height": imported.height,
            "state_root": imported.state_root.to_string(), "folder": home.path(),
        }),
    );
    Ok(())
}
