//! Offer this machine, and stop offering it.

use crate::{
    args::NodeDrain,
    fault::{self, Fault, Result},
    out::Out,
    serve,
    session::Session,
};
use alloy_primitives::B256;
use hodei_node::{
    keys::Keys,
    provider::register::{RegisterError, drain as retire},
};
use hodei_sdk::chain::Account;
use serde_json::json;

/// `hodei node drain`: no new deals; may be run again until none is open.
pub(crate) async fn drain(args: &NodeDrain, session: &Session, out: Out) -> Result<()> {
    let folder = serve::folder(args.folder.as_ref(), || Ok(session.context.node.clone()))?;
    let checked = serve::check(&folder)?;
    if checked.config.provider.is_none() {
        return Err(Fault::new(&fault::SETTINGS, "this node offers nothing", "name the folder of a provider").at(folder.display()));
    }
    let keys = Keys::open(&checked.home).map_err(|error| Fault::new(&fault::WALLET, error, "put the right key file there").at(folder.display()))?;
    let node = B256::from_slice(hodei_node::deal::public_key(&keys.node).as_ref());
    out.say(format!("Retire provider {node}: it takes no new deals; open ones are kept, proven and paid until they end."));
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
    let text = if draining.open.is_empty() {
        "no deal is open any more: the machine may go".to_owned()
    } else {
        format!("{} deals are open still: keep the node running, and run this again later", draining.open.len())
    };
    out.result(
        text,
        &json!({
            "schema": "hodei.node.drain/1", "node": node.to_string(), "open": draining.open, "ended": draining.ended,
            "may_go": draining.open.is_empty(),
        }),
    );
    Ok(())
}
