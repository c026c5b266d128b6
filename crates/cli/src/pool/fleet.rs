//! Show a pool's devices, and sums that add up.
//!
//! What a device earned and was given is the pool's own file, counted from the ledger's payments; what it holds and how
//! it stands is asked of the ledger now.

use super::{folder, folder::Folder, hexed};
use crate::{
    fault::{self, Fault, Result},
    money,
    out::{Out, bytes, table},
    paths::Paths,
    session::{Session, chain_fault},
    status::short,
    time,
};
use alloy_primitives::{B256, U256};
use hodei_node::pool::{Device, Mode, Phase, Pool, Terms};
use hodei_types::{
    abi::{DEALS, IDeals, LEAF_BYTES},
    call::ask,
};
use serde_json::{Value, json};

/// A device was heard of within this: it is there.
const ONLINE_S: u64 = 180;

pub(super) fn terms(terms: &Terms) -> Value {
    json!({
        "pays": pays(terms.mode), "devices_max": terms.devices_max, "joins_per_minute": terms.joins_per_minute,
        "space_bytes_max": terms.space_bytes_max, "collateral_wei": terms.collateral.to_string(),
        "gas_wei": terms.gas.to_string(), "gas_per_day_max_wei": terms.gas_per_day_max.to_string(),
        "price_keep_wei": terms.price_keep.to_string(), "price_read_wei": terms.price_read.to_string(),
    })
}

fn pays(mode: Mode) -> &'static str {
    match mode {
        Mode::Coins => "coins",
        Mode::Credit => "credit",
    }
}

/// Over all devices.
struct Sums {
    earned: U256,
    redeemed: U256,
    claimed: U256,
    credit: U256,
    gas: U256,
    proven: u64,
    missed: u64,
}

fn sums(pool: &Pool) -> Sums {
    let coins = |of: fn(&Device) -> U256| pool.devices.values().map(of).fold(U256::ZERO, U256::saturating_add);
    Sums {
        earned: coins(|device| device.earned),
        redeemed: coins(|device| device.redeemed),
        claimed: coins(Device::claimed),
        credit: coins(Device::credit),
        gas: coins(|device| device.gas),
        proven: pool.devices.values().map(|device| device.windows_proven).sum(),
        missed: pool.devices.values().map(|device| device.windows_missed).sum(),
    }
}

/// `hodei pool list`.
pub(super) fn list(session: &Session, paths: &Paths, out: Out) -> Result<()> {
    let folder = folder::all(paths, &session.name);
    let mut names: Vec<String> = match std::fs::read_dir(&folder) {
        Ok(entries) => entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok()).collect(),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Vec::new(),
        Err(error) => return Err(Fault::io(&folder, "listing pools", &error)),
    };
    names.sort();
    let mut rows = Vec::new();
    for name in names {
        let Ok(folder) = Folder::named(paths, &session.name, &name) else { continue };
        if folder.check_present().is_err() {
            continue;
        }
        let pool = folder.state()?;
        let (sums, runs) = (sums(&pool), folder.lock().is_err());
        rows.push(vec![
            name.clone(),
            pays(pool.terms.mode).into(),
            format!("{} of {}", pool.present(), pool.terms.devices_max),
            money::exact(sums.earned),
            money::exact(sums.credit),
            if runs { "runs" } else { "does not run" }.into(),
        ]);
        if out.json {
            out.result(
                "",
                &json!({
                    "schema": "hodei.pool/1", "pool": name, "runs": runs, "devices": pool.present(),
                    "earned_wei": sums.earned.to_string(), "credit_wei": sums.credit.to_string(),
                    "terms": terms(&pool.terms), "operator": pool.operator.to_string(),
                }),
            );
        }
    }
    if !out.json {
        out.line(&match rows.is_empty() {
            true => "this context has no pool".into(),
            false => table(&["POOL", "PAYS", "DEVICES", "EARNED", "CREDIT", ""], &rows),
        });
    }
    out.next("hodei pool show POOL");
    Ok(())
}

/// `hodei pool show`.
pub(super) async fn show(name: &str, session: &Session, paths: &Paths, out: Out) -> Result<()> {
    let folder = Folder::named(paths, &session.name, name)?;
    let pool = folder.state()?;
    let runs = folder.lock().is_err();
    let (mut rows, mut held) = (Vec::new(), 0);
    let now_s = time::now_ms() / 1000;
    for (node, device) in &pool.devices {
        let call = IDeals::standingCall { provider: *node };
        let standing = ask(&*session.chain, DEALS, &call).await.map_err(chain_fault)?;
        let holds = standing.totalLeaves * LEAF_BYTES;
        held += holds;
        let online = device.seen_s + ONLINE_S >= now_s;
        rows.push(vec![
            short(&hexed(node)),
            state(device, standing.suspended, standing.closed).into(),
            if online { "now".into() } else { time::minute(device.seen_s * 1000) },
            bytes(holds),
            format!("{} of {}", device.windows_proven, device.windows_proven + device.windows_missed),
            money::exact(device.earned),
            money::exact(device.redeemed),
            money::exact(device.credit()),
        ]);
        if out.json {
            let mut value = told(node, device);
            value["pool"] = json!(name);
            value["state"] = json!(state(device, standing.suspended, standing.closed));
            value["online"] = json!(online);
            value["held_bytes"] = json!(holds);
            value["open_deals"] = json!(standing.deals);
            out.result("", &value);
        }
    }
    if !out.json && !rows.is_empty() {
        let head = ["DEVICE", "STATE", "SEEN", "HOLDS", "PROVEN", "EARNED", "GIVEN", "CREDIT"];
        out.line(&table(&head, &rows));
        out.line("");
    }
    let sums = sums(&pool);
    let unsettled = pool.payouts.iter().filter(|payout| payout.tx.is_none()).count();
    let mut text = format!(
        "pool {name} {}; {} of {} devices take part and hold {}",
        if runs { "runs" } else { "does not run: `hodei pool run`" },
        pool.present(),
        pool.terms.devices_max,
        bytes(held)
    );
    text.push_str(&format!(
        "\n{} earned = {} given + {} credit, of which {} is claimed; counted up to block {}",
        money::exact(sums.earned),
        money::exact(sums.redeemed),
        money::exact(sums.credit),
        money::exact(sums.claimed),
        pool.height
    ));
    text.push_str(&format!("\n{} went to the devices' accounts for fees", money::exact(sums.gas)));
    if unsettled > 0 {
        text.push_str(&format!("\n{unsettled} payouts were cut off: they count as given until the ledger shows them"));
    }
    out.result(
        text,
        &json!({
            "schema": "hodei.pool.show/1", "pool": name, "runs": runs, "operator": pool.operator.to_string(),
            "devices": pool.present(), "held_bytes": held, "earned_wei": sums.earned.to_string(),
            "redeemed_wei": sums.redeemed.to_string(), "credit_wei": sums.credit.to_string(),
            "claimed_wei": sums.claimed.to_string(), "gas_wei": sums.gas.to_string(), "height": pool.height,
            "windows_proven": sums.proven, "windows_missed": sums.missed, "unsettled_payouts": unsettled,
            "terms": terms(&pool.terms),
        }),
    );
    out.next(match pool.devices.is_empty() {
        true => format!("hodei -C {} pool word {name}", session.name),
        false => "hodei node earnings DEVICE   (each payment with its reason)".into(),
    });
    Ok(())
}

fn state(device: &Device, suspended: bool, closed: bool) -> &'static str {
    match device.phase {
        Phase::Joining => "joining",
        Phase::Left if device.is_removed => "removed",
        Phase::Left => "left",
        Phase::Leaving => "leaving",
        Phase::Active if closed => "closed",
        Phase::Active if suspended => "suspended",
        Phase::Active => "active",
    }
}

fn told(node: &B256, device: &Device) -> Value {
    let claim = |claim: &hodei_node::pool::Claim| json!({ "amount_wei": claim.amount.to_string(), "code": claim.code, "at_s": claim.at_s });
    json!({
        "schema": "hodei.pool.device/1", "device": hexed(node), "account": device.account.to_string(),
        "joined_s": device.joined_s, "seen_s": device.seen_s, "earned_wei": device.earned.to_string(),
        "redeemed_wei": device.redeemed.to_string(), "credit_wei": device.credit().to_string(),
        "claims": device.claims.iter().map(claim).collect::<Vec<_>>(), "gas_wei": device.gas.to_string(),
        "slashed_wei": device.slashed.to_string(), "windows_proven": device.windows_proven,
        "windows_missed": device.windows_missed,
    })
}

/// The one device whose key begins so.
pub(super) fn device<'a>(pool: &'a Pool, text: &str) -> Result<(B256, &'a Device)> {
    let key = text.trim_start_matches("0x").to_lowercase();
    let mut found = pool.devices.iter().filter(|(node, _)| !key.is_empty() && hexed(node).starts_with(&key));
    match (found.next(), found.next()) {
        (Some((node, device)), None) => Ok((*node, device)),
        (none, _) => {
            let found = format!("{text:?}, which {} begin with", if none.is_some() { "several" } else { "none" });
            Err(Fault::new(&fault::NO_POOL, "no single device is meant by that", "`hodei pool show` lists them")
                .between("the first digits of one device's key", found))
        }
    }
}
