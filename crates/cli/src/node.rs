//! Offer this machine, and stop offering it.

use crate::{
    args::NodeDrain,
    fault::{self, Fault, Result},
    out::{Out, bytes},
    serve,
    session::Session,
    status,
};
use alloy_primitives::B256;
use hodei_node::{
    keys::Keys,
    provider::register::{RegisterError, drain as retire},
};
use hodei_sdk::chain::Account;
use serde_json::{Value, json};
use std::{
    path::Path,
    time::{Duration, Instant},
};

/// The ledger's events reach a running node within a second or two.
const NOTICE_TIMEOUT: Duration = Duration::from_secs(20);
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// `hodei node drain`: no new deals; may be run again until none is open.
pub(crate) async fn drain(args: &NodeDrain, session: &Session, out: Out) -> Result<()> {
    let folder = serve::folder(args.folder.as_ref(), || Ok(session.context.node.clone()))?;
    let checked = serve::check(&folder)?;
    if checked.config.provider.is_none() {
        return Err(Fault::new(&fault::SETTINGS, "this node offers nothing", "name the folder of a provider")
            .at(folder.display()));
    }
    let keys = Keys::open(&checked.home)
        .map_err(|error| Fault::new(&fault::WALLET, error, "put the right key file there").at(folder.display()))?;
    let node = B256::from_slice(hodei_node::deal::public_key(&keys.node).as_ref());
    out.say(format!(
        "Retire provider {node}: it takes no new deals; open ones are kept, proven and paid until they end."
    ));
    if args.plan.dry_run {
        out.result("", &json!({ "schema": "hodei.node.drain.plan/1", "node": node.to_string(), "price_wei": "0" }));
        return Ok(());
    }
    out.confirm("Retire it?", args.plan.yes)?;
    let account = Account::new(session.chain.clone(), keys.account.bytes())
        .map_err(|error| Fault::new(&fault::WALLET, error, "put the right key file there"))?;
    let draining = retire(&account, node).await.map_err(|error| match error {
        RegisterError::Unknown(_) => Fault::new(&fault::NODE, error, "it was never registered, so the machine may go"),
        error => Fault::new(&fault::TX_REFUSED, error, "run the same command again"),
    })?;
    let noticed = noticed(&folder).await;
    let text = if draining.open.is_empty() {
        "no deal is open any more: the machine may go".to_owned()
    } else {
        format!("{} deals are open still: keep the node running, and run this again later", draining.open.len())
    };
    let text = match &noticed {
        Some(state) => format!(
            "{text}\nthe running node takes nothing new and holds {} in {} deals",
            bytes(state["held_bytes"].as_u64().unwrap_or(0)),
            state["open_deals"].as_array().map_or(0, Vec::len)
        ),
        None => format!("{text}\nthe node does not run here now: it will know when it starts"),
    };
    out.result(
        text,
        &json!({
            "schema": "hodei.node.drain/1", "node": node.to_string(), "open": draining.open, "ended": draining.ended,
            "may_go": draining.open.is_empty(), "running": noticed,
        }),
    );
    Ok(())
}

/// What the running node says of its leaving, once the ledger told it; `None` if none runs in the folder.
async fn noticed(folder: &Path) -> Option<Value> {
    let begun = Instant::now();
    loop {
        let status = status::of_node(folder).await.ok()?;
        let drain = &status["provider"]["drain"];
        if drain.is_object() {
            return Some(drain.clone());
        }
        if begun.elapsed() > NOTICE_TIMEOUT {
            return None;
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}
