//! Show what is here and what needs attention.

use crate::{
    bucket::paid,
    context::Contexts,
    fault::Result,
    money,
    out::{Out, bytes, table},
    own,
    session::{Session, chain_fault, sdk_fault},
    time,
};
use hodei_node::home::Home;
use hodei_sdk::{
    bucket::Record,
    escrow::{Calendar, Holding},
    market,
    repair::Rest,
    wallet::fee,
};
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    path::Path,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

/// Who does not say within this whether it rests is shown as the ledger has it.
const GREETING: Duration = Duration::from_secs(2);
/// A door on this machine answers in milliseconds.
const DOOR_TIMEOUT: Duration = Duration::from_secs(2);
const ANSWER_BYTES_MAX: u64 = 4 << 20;
/// What a change of a bucket may take at most.
const CHANGE_GAS: u64 = 1_000_000;
/// Blocks come at least this often, idle or not.
pub(crate) const HEAD_AGE_MAX: Duration = Duration::from_secs(30);

/// `hodei status` without any context: what could be chosen, and the node of a folder that was named.
pub(crate) fn without_context(contexts: &Contexts, folder: Option<&Path>, out: Out) -> Result<()> {
    let names = contexts.names()?;
    let mut text = if names.is_empty() {
        "no cloud is known here yet".to_owned()
    } else {
        format!("no cloud is chosen; known: {}", names.join(", "))
    };
    let mut value = json!({ "schema": "hodei.status/1", "context": null, "contexts": names });
    if let Some(folder) = folder {
        let node = ask_node(folder);
        text = match &node {
            Ok(node) => own::lines(folder, node).join("\n"),
            Err(why) => why.clone(),
        };
        value["attention"] = match &node {
            Ok(node) => own::unreached(node).into_iter().collect(),
            Err(why) => json!([why]),
        };
        value["node"] = node.unwrap_or_default();
    }
    out.result(text, &value);
    out.next(if names.is_empty() { "hodei demo --keep".into() } else { format!("hodei -C {} status", names[0]) });
    Ok(())
}

/// `hodei status`.
pub(crate) async fn status(session: &Session, named: Option<&Path>, out: Out) -> Result<()> {
    let head = session.chain.head().await.map_err(chain_fault)?;
    let owner = session.purse.owner()?;
    let balance = session.chain.account(owner).await.map_err(chain_fault)?.balance;
    let offers = market::offers(&*session.chain).await.map_err(chain_fault)?;
    let mut attention = Vec::new();
    let age = now_ms().saturating_sub(head.time_ms);
    if age > HEAD_AGE_MAX.as_millis() as u64 {
        attention
            .push(format!("the last block is {} s old: too few validators may be up; try `hodei doctor`", age / 1000));
    }
    if balance.is_zero() {
        attention.push("the wallet is empty: ask for an invitation with coins".into());
    }
    let budget = session.budget().await?;
    // As a member counts it: the base fee may double before the transaction is taken.
    let least = fee(CHANGE_GAS, head.base_fee.saturating_mul(2));
    match &budget {
        Some(budget) if budget.left < least => attention.push(format!(
            "the budget is used up, {} are left and a change of a bucket asks for {}: nothing new is put or bought; \
             what is there can be read and exported, and is kept for as long as is paid ahead (below): hodei wallet \
             budget set AMOUNT",
            money::exact(budget.left),
            money::exact(least)
        )),
        None if !balance.is_zero() && balance < least => attention.push(format!(
            "the wallet holds too little for any change of a bucket, which asks for {}: ask for an invitation with coins",
            money::exact(least)
        )),
        _ => {}
    }
    if session.purse.is_kit_stale().unwrap_or(false) {
        attention.push("the last recovery kit has not the budget and the S3 keys of now: hodei key backup FILE".into());
    }
    for offer in offers.iter().filter(|offer| offer.open && offer.suspended) {
        attention.push(format!(
            "provider {} in zone {} missed its last challenge",
            short(&offer.node.to_string()),
            offer.zone
        ));
    }
    let (buckets, calendar) = match buckets(session).await {
        Ok((buckets, calendar)) => (buckets, Some(calendar)),
        Err(fault) => {
            attention.push(format!("the buckets could not be read: {}", fault.message));
            (Vec::new(), None)
        }
    };
    for (record, holding) in buckets.iter().filter(|(_, holding)| holding.runs_low()) {
        let windows = holding.windows.unwrap_or_default();
        attention.push(format!(
            "bucket {} is paid for {windows} windows only: hodei data extend {}",
            record.name, record.name
        ));
    }
    for (record, holding) in buckets.iter().filter(|(_, holding)| holding.shut(&offers) > 0) {
        attention.push(format!(
            "bucket {}: of {} deals {} are with providers that the ledger closed or that leave; they take nothing new, \
             and no more than {} of them may: hodei data repair {}",
            record.name,
            record.state.deals,
            holding.shut(&offers),
            record.shape.t(),
            record.name
        ));
    }
    let resting = match session.cloud().await {
        Ok(cloud) => cloud.resting(&offers, GREETING).await,
        Err(_) => BTreeMap::new(),
    };
    let folder = named.or(session.context.node.as_deref());
    let node = match folder {
        Some(folder) => Some(of_node(folder).await),
        None => None,
    };
    match &node {
        Some(Err(why)) => attention.push(why.clone()),
        Some(Ok(node)) => attention.extend(own::unreached(node)),
        None => {}
    }

    let rows: Vec<_> = offers
        .iter()
        .map(|offer| {
            let state = match (offer.open, offer.suspended) {
                (true, false) => match resting.get(&offer.node) {
                    Some(Rest { until_ms: Some(until_ms), .. }) => format!("rests until {}", time::minute(*until_ms)),
                    Some(_) => "rests".into(),
                    None => "open".into(),
                },
                (true, true) => "suspended".into(),
                (false, _) => "closed".into(),
            };
            vec![
                short(&offer.node.to_string()),
                offer.zone.clone(),
                bytes(offer.capacity_bytes),
                bytes(offer.used_bytes),
                money::show(alloy_primitives::U256::from(offer.price_store)),
                money::show(alloy_primitives::U256::from(offer.price_read)),
                state,
            ]
        })
        .collect();
    let mut text = format!(
        "context {}: block {}, {}\nwallet  {} in {owner}\n",
        session.name,
        head.height,
        time::utc(head.time_ms),
        money::show(balance)
    );
    if let Some(budget) = &budget {
        text.push_str(&format!("budget  {} left in {}\n", money::show(budget.left), budget.spender));
    }
    for (record, holding) in &buckets {
        if let Some(paid) = calendar.and_then(|calendar| paid(holding, &calendar)) {
            text.push_str(&format!("bucket  {} is paid for {paid}\n", record.name));
        }
    }
    for (door, address) in &session.context.doors {
        text.push_str(&format!("door    {door} {address}\n"));
    }
    if let (Some(folder), Some(Ok(node))) = (folder, &node) {
        text.push_str(&format!("{}\n", own::lines(folder, node).join("\n")));
    }
    text.push_str(&format!(
        "\n{}",
        table(&["PROVIDER", "ZONE", "OFFERS", "PROMISED", "GIB AND WINDOW", "GIB READ", "STATE"], &rows)
    ));
    text.push_str(&match attention.is_empty() {
        true => "\n\nnothing needs attention".to_owned(),
        false => format!("\n\nneeds attention:\n  {}", attention.join("\n  ")),
    });
    out.result(
        text,
        &json!({
            "schema": "hodei.status/1", "context": session.name, "height": head.height, "time_ms": head.time_ms,
            "network_key": session.network_key.to_string(), "wallet": owner.to_string(), "balance_wei": balance.to_string(),
            "budget_left_wei": budget.as_ref().map(|budget| budget.left.to_string()),
            "doors": session.context.doors, "attention": attention,
            "buckets": buckets.iter().map(|(record, holding)| json!({
                "bucket": record.name, "size_bytes": record.state.sizeBytes, "held_bytes": holding.held_bytes,
                "escrow_wei": holding.escrow.to_string(), "windows_left": holding.windows, "paid_until_ms": calendar.zip(holding.windows).map(|(calendar, windows)| calendar.ends_ms(windows)),
                "deals_shut": holding.shut(&offers),
            })).collect::<Vec<_>>(), "node": node.and_then(std::result::Result::ok),
            "providers": offers.iter().map(|offer| json!({
                "node": offer.node.to_string(), "operator": offer.operator.to_string(), "zone": offer.zone,
                "addresses": offer.addresses, "relays": offer.relays,
                "capacity_bytes": offer.capacity_bytes, "used_bytes": offer.used_bytes,
                "price_store_wei": offer.price_store.to_string(), "price_read_wei": offer.price_read.to_string(), "open": offer.open, "suspended": offer.suspended,
                "collateral_wei": offer.collateral.to_string(), "rests": resting.contains_key(&offer.node),
                "rests_until_ms": resting.get(&offer.node).and_then(|rest| rest.until_ms),
            })).collect::<Vec<_>>(),
        }),
    );
    out.next("hodei data list");
    Ok(())
}

/// This identity's buckets, how long each is paid for, and when windows end.
async fn buckets(session: &Session) -> Result<(Vec<(Record, Holding)>, Calendar)> {
    let cloud = session.cloud().await?;
    let mut buckets = Vec::new();
    for record in cloud.buckets().await.map_err(sdk_fault)? {
        let holding = cloud.holding(&record).await.map_err(sdk_fault)?;
        buckets.push((record, holding));
    }
    Ok((buckets, cloud.calendar().await.map_err(sdk_fault)?))
}

/// What a running node says of itself.
pub(crate) async fn of_node(folder: &Path) -> std::result::Result<Value, String> {
    let folder = folder.to_owned();
    let asked = tokio::task::spawn_blocking(move || ask_node(&folder)).await;
    asked.unwrap_or_else(|error| Err(error.to_string()))
}

/// The same where no runtime is: a door on this machine answers at once.
fn ask_node(folder: &Path) -> std::result::Result<Value, String> {
    let start = || format!("start it: hodei node run --folder {}", folder.display());
    let home = Home::create(folder).map_err(|error| error.to_string())?;
    let ready =
        home.read_ready().ok_or_else(|| format!("the node in {} does not run; {}", folder.display(), start()))?;
    let Some(address) = ready.status else {
        return Ok(json!({ "node": ready.node, "account": ready.account }));
    };
    let text = get(address, "/status")
        .map_err(|error| format!("the node at {address} does not answer ({error}); {}", start()))?;
    serde_json::from_str(&text).map_err(|error| format!("the node at {address} answers nonsense: {error}"))
}

/// One small answer of a door on this machine.
fn get(address: SocketAddr, path: &str) -> std::io::Result<String> {
    let mut socket = TcpStream::connect_timeout(&address, DOOR_TIMEOUT)?;
    socket.set_read_timeout(Some(DOOR_TIMEOUT))?;
    socket.set_write_timeout(Some(DOOR_TIMEOUT))?;
    let request = format!("GET {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n");
    socket.write_all(request.as_bytes())?;
    let mut answer = String::new();
    socket.take(ANSWER_BYTES_MAX).read_to_string(&mut answer)?;
    let body = answer.split_once("\r\n\r\n").map(|(_, body)| body.to_owned());
    body.ok_or_else(|| std::io::Error::other("it is no HTTP"))
}

pub(crate) fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

/// Enough of a key to tell nodes apart on a screen.
pub(crate) fn short(key: &str) -> String {
    key.chars().take(12).collect()
}
