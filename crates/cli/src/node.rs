//! Offer this machine, and stop offering it.

use crate::{
    args::NodeDrain,
    compute_offer,
    fault::{self, Fault, Result},
    money,
    out::{Out, bytes},
    serve,
    session::Session,
    status::{self, short},
    time::{minute, now_ms},
};
use alloy_primitives::B256;
use hodei_node::{
    keys::Keys,
    provider::register::{RegisterError, Waiting, drain as retire},
};
use hodei_sdk::chain::Account;
use hodei_types::{
    abi::{DEALS, IDeals},
    call::ask,
};
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
    let (provides, computes) = (checked.config.provider.is_some(), checked.config.compute.is_some());
    if !provides && !computes {
        return Err(Fault::new(&fault::SETTINGS, "this node offers nothing", "name the folder of one that does")
            .at(folder.display()));
    }
    let keys = Keys::open(&checked.home)
        .map_err(|error| Fault::new(&fault::WALLET, error, "put the right key file there").at(folder.display()))?;
    let node = B256::from_slice(hodei_node::deal::public_key(&keys.node).as_ref());
    if computes {
        out.say(format!(
            "Retire host {node}: it takes no new leases; running ones are served and paid until they end, those that may \
             be ended at no loss now."
        ));
    }
    if provides {
        out.say(format!(
            "Retire provider {node}: it takes no new deals; open ones are kept, proven and paid until they end."
        ));
    }
    if args.plan.dry_run {
        out.result("", &json!({ "schema": "hodei.node.drain.plan/1", "node": node.to_string(), "price_wei": "0" }));
        return Ok(());
    }
    out.confirm("Retire it?", args.plan.yes)?;
    let account = Account::new(session.chain.clone(), keys.account.bytes())
        .map_err(|error| Fault::new(&fault::WALLET, error, "put the right key file there"))?;
    if computes {
        compute_offer::drain(&account, node, &checked.home, out).await?;
    }
    if !provides {
        return Ok(());
    }
    let draining = retire(&account, node).await.map_err(|error| match error {
        RegisterError::Unknown(_) => Fault::new(&fault::NODE, error, "it was never registered, so the machine may go"),
        error => Fault::new(&fault::TX_REFUSED, error, "run the same command again"),
    })?;
    let noticed = noticed(&folder, &draining.open).await;
    let mut text = match draining.open.len() {
        0 => "no deal is open any more: the machine may go".to_owned(),
        count => format!("{count} deals are open still: keep the node running, and run this again later"),
    };
    let window = window(session).await?;
    for one in &draining.waiting {
        text.push_str(&format!("\n  {}", told(one, window)));
    }
    if draining.waiting.iter().any(|one| !one.is_closing) {
        text.push_str(
            "\na deal ends by its owner's `data repair`, by a custodian whom the owner allows that (`data care release`), \
             or by running this again once its escrow is used up; until then what it holds is proven and paid",
        );
    }
    match &noticed {
        Some(state) => {
            let listed: Vec<u64> = open_deals(state).collect();
            let held = bytes(state["held_bytes"].as_u64().unwrap_or(0));
            text.push_str(&match listed.iter().filter(|deal| !draining.open.contains(deal)).count() {
                0 => format!("\nthe running node takes nothing new and holds {held} in {} deals", listed.len()),
                ended => format!(
                    "\nthe running node takes nothing new and holds {held}; it has not heard yet that {ended} deals ended"
                ),
            });
        }
        None => text.push_str("\nthe node does not run here now: it will know when it starts"),
    }
    out.result(
        text,
        &json!({
            "schema": "hodei.node.drain/1", "node": node.to_string(), "open": draining.open, "ended": draining.ended,
            "waiting": draining.waiting.iter().map(|one| json!({
                "deal": one.deal, "bucket": one.bucket.to_string(), "held_bytes": one.held_bytes,
                "escrow_wei": one.escrow_wei.to_string(), "windows": one.windows, "closing": one.is_closing,
                "paid_until_ms": paid_until_ms(one, window),
            })).collect::<Vec<_>>(),
            "may_go": draining.open.is_empty(), "running": noticed,
        }),
    );
    Ok(())
}

/// When the running window of proofs ends, and how long one is, in milliseconds.
async fn window(session: &Session) -> Result<(u64, u64)> {
    let running = ask(&*session.chain, DEALS, &IDeals::windowCall {}).await;
    let running = running
        .map_err(|error| Fault::new(&fault::NODE, error, "run the same command again once the network answers"))?;
    let ends_ms = now_ms().saturating_add(running.endsMs.saturating_sub(running.clockMs));
    Ok((ends_ms, running.endsMs.saturating_sub(running.openedMs)))
}

/// Until when a deal's escrow pays for what it holds, about; the running window counts as none.
fn paid_until_ms(one: &Waiting, (ends_ms, window_ms): (u64, u64)) -> Option<u64> {
    let ahead_ms = one.windows.saturating_mul(window_ms);
    (!one.is_closing && one.held_bytes > 0).then(|| ends_ms.saturating_add(ahead_ms))
}

/// What one deal waits for.
fn told(one: &Waiting, window: (u64, u64)) -> String {
    let of = format!("deal {} of bucket {}", one.deal, short(&one.bucket.to_string()));
    if one.is_closing {
        return format!("{of}: closing; it ends with the proof that is asked for now");
    }
    let held = bytes(one.held_bytes);
    match paid_until_ms(one, window) {
        Some(until_ms) => {
            let (left, until) = (money::show(one.escrow_wei), minute(until_ms));
            format!("{of}: {held}, paid for by {left} of escrow until about {until}, unless its owner adds to it")
        }
        None => format!("{of}: {held}, by the ledger"),
    }
}

fn open_deals(state: &Value) -> impl Iterator<Item = u64> + '_ {
    state["open_deals"].as_array().into_iter().flatten().filter_map(Value::as_u64)
}

/// What the running node says of its leaving, once it knows what the ledger does: that no deal but these is `open`.
/// `None` if none runs in the folder.
async fn noticed(folder: &Path, open: &[u64]) -> Option<Value> {
    let begun = Instant::now();
    loop {
        let status = status::of_node(folder).await.ok()?;
        let drain = &status["provider"]["drain"];
        let is_late = begun.elapsed() > NOTICE_TIMEOUT;
        if drain.is_object() && (is_late || open_deals(drain).all(|deal| open.contains(&deal))) {
            return Some(drain.clone());
        }
        if is_late {
            return None;
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloy_primitives::U256;

    #[test]
    fn an_open_deal_tells_until_when_it_is_paid_and_a_closing_one_that_it_ends() {
        let coin = U256::from(1_000_000_000_000_000_000u64);
        let (bucket, window) = (B256::repeat_byte(7), (1_000, 10_000));
        let open = Waiting { deal: 3, bucket, held_bytes: 1 << 20, escrow_wei: coin, windows: 5, is_closing: false };
        assert_eq!(paid_until_ms(&open, window), Some(51_000));
        let text = told(&open, window);
        assert!(text.starts_with("deal 3 of bucket ") && text.contains("1.0 MiB"), "{text}");
        assert!(text.contains("until about 1970-01-01 00:00 UTC"), "{text}");
        let closing = Waiting { is_closing: true, ..open.clone() };
        assert_eq!(paid_until_ms(&closing, window), None);
        assert!(told(&closing, window).ends_with("closing; it ends with the proof that is asked for now"));
        assert_eq!(paid_until_ms(&Waiting { held_bytes: 0, ..open.clone() }, window), None);
        assert_eq!(paid_until_ms(&Waiting { windows: u64::MAX, ..open }, window), Some(u64::MAX));
    }
}
