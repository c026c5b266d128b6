//! Offer to run others' components or containers on this machine.
//!
//! The node of the context gets a section `[compute]`; where there is none a folder is made, with keys of its own, whose
//! account gets coins for collateral and fees. Stated on the market is what `hodei node run` finds there.

use crate::{
    args::OfferCompute,
    context::Contexts,
    fault::{self, Fault, Result},
    money,
    out::{Out, bytes},
    paths::Paths,
    provide::wire,
    serve::{home_fault, settings},
    session::{Session, chain_fault, transfer_fault},
    time::minute,
};
use alloy_primitives::{Address, B256, U256};
use hodei_node::{
    config::{Coins, Compute, Config, Doors, Followed, Percent, Place, Promise, Runs},
    home::{Home, replace},
    host::{
        Vouchers,
        register::{self, RegisterError},
    },
    keys::Keys,
};
use hodei_sdk::{app::span, chain::Account, payments::settlement, wallet};
use hodei_types::{
    abi::{IMarket, MARKET},
    call::ask,
    key::{KeyKind, SecretKey},
    market::{REFERENCE, Runtime, hour_price, region},
};
use serde_json::json;
use std::{
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
};

/// The wire's port of a new node: beside a provider's.
const LINK_PORT: u16 = 4436;
/// Coins a new node's account gets for fees, besides collateral.
const FEES: Coins = Coins(1_000_000_000_000_000_000);

/// `hodei node offer compute`.
pub(crate) async fn offer(args: &OfferCompute, session: &Session, paths: &Paths, out: Out) -> Result<()> {
    let mut compute = compute(args)?;
    if !settlement(&*session.chain).await.map_err(chain_fault)?.stakes() {
        compute.collateral = Coins(0);
    }
    let folder = match args.folder.as_ref().or(session.context.node.as_ref()) {
        Some(folder) => folder.clone(),
        None => paths.data.join("nodes").join(&session.name),
    };
    let file = folder.join("node.toml");
    let is_new = !file.exists();
    let text = match is_new {
        true => fresh(&compute, session, args.address)?,
        false => with_section(&file, &compute)?,
    };
    let prices = compute.prices().ok_or_else(|| usage("a price is too high", "ask for less"))?;
    let hour = hour_price(&REFERENCE, &prices);
    let place = region(&compute.region).ok_or_else(|| usage("there is no such region", "try local or eu-west"))?;
    let call = IMarket::depthCall { region: place, runtime: Runtime::from(compute.runtime) as u8 };
    let book = ask(&*session.chain, MARKET, &call).await.map_err(chain_fault)?;
    let cheaper: u64 = book.iter().filter(|step| step.priceFrom < hour).map(|step| step.offers).sum();
    let bond = compute.level.as_ref().map_or(0, |promise| promise.bond.0);
    let needed = U256::from(compute.collateral.0) + U256::from(bond) + U256::from(FEES.0);
    out.say(format!(
        "Offer {} CPU, {} of memory, {} of disk, {} Mbit/s and {} an hour moved in region {}:\n  {} an hour for a CPU, {} \
         for a GiB of memory; 1 CPU with 2 GiB, 10 GiB of disk and 10 Mbit/s costs {} an hour here\n  {} offers in {} ask \
         less\n  collateral {}, which ending a lease early takes from",
        cpus(compute.cpu_milli),
        bytes(compute.memory_bytes),
        bytes(compute.disk_bytes),
        compute.bandwidth_bits / 1_000_000,
        bytes(compute.transfer_bytes),
        compute.region,
        compute.price_cpu,
        compute.price_memory,
        money::show(U256::from(hour)),
        cheaper,
        compute.region,
        compute.collateral,
    ));
    if let Some(promise) = &compute.level {
        out.say(format!(
            "  promises {}, a start within {} and a replacement within {}, with a bond of {}: a breach pays {} of a window's \
             pay",
            promise.availability,
            span(promise.start_secs.into()),
            span(promise.restore_secs.into()),
            promise.bond,
            promise.pay,
        ));
    }
    if is_new {
        out.say(format!("  a new node in {}, whose account gets {}", folder.display(), money::show(needed)));
    } else {
        out.say(format!(
            "  the node in {} gets a section [compute]; its account has to hold {}",
            folder.display(),
            money::show(needed)
        ));
    }
    let told = |schema: &str, account: Option<Address>| {
        json!({
            "schema": schema, "folder": folder, "new": is_new, "account": account.map(|account| account.to_string()),
            "cpu_milli": compute.cpu_milli, "memory_bytes": compute.memory_bytes, "disk_bytes": compute.disk_bytes,
            "region": compute.region, "hour_wei": hour.to_string(), "cheaper_offers": cheaper,
            "collateral_wei": compute.collateral.0.to_string(), "needed_wei": needed.to_string(),
            "level": compute.level.as_ref().map(|promise| json!({
                "availability_bp": promise.availability.0, "start_secs": promise.start_secs,
                "restore_secs": promise.restore_secs, "pay_bp": promise.pay.0, "bond_wei": promise.bond.0.to_string(),
            })),
        })
    };
    if args.plan.dry_run {
        out.result("", &told("hodei.node.offer.compute.plan/1", None));
        return Ok(());
    }
    out.confirm("Offer it?", args.plan.yes)?;
    let account = write(&folder, &text)?;
    let held = session.chain.account(account).await.map_err(chain_fault)?.balance;
    let missing = needed.saturating_sub(held);
    if is_new && !missing.is_zero() {
        session.owner_wallet()?.send(account, missing).await.map_err(transfer_fault)?;
    } else if !missing.is_zero() {
        out.say(format!(
            "note: the node's account {account} holds {}: hodei wallet send {account} {}",
            money::show(held),
            money::exact(missing)
        ));
    }
    if session.context.node.is_none() && args.folder.is_none() {
        let context = crate::context::Context { node: Some(folder.clone()), ..session.context.clone() };
        Contexts::of(paths).change(&session.name, &context)?;
    }
    out.result(
        format!("the node in {} offers computing once it runs (again)", folder.display()),
        &told("hodei.node.offer.compute/1", Some(account)),
    );
    out.next(match &args.folder {
        Some(folder) => format!("hodei node run --folder {}", folder.display()),
        None => "hodei node run".into(),
    });
    Ok(())
}

/// Gives up what a node offers to compute: no new leases; may be run again until none is left.
pub(crate) async fn drain(account: &Account, node: B256, home: &Home, out: Out) -> Result<()> {
    let vouchers = Vouchers::of(home).map_err(|error| {
        Fault::new(&fault::FOLDER, error, "choose a folder this user may read").at(home.path().display())
    })?;
    let draining = register::drain(account, node, &vouchers).await.map_err(|error| match error {
        RegisterError::Unknown(_) => {
            Fault::new(&fault::NODE, error, "it never offered computing: nothing is to be done")
        }
        error => Fault::new(&fault::TX_REFUSED, error, "run the same command again"),
    })?;
    let text = match (draining.open.len(), draining.withdrawn) {
        (0, true) => {
            "no lease runs any more, and the collateral for computing is back in the node's account".to_owned()
        }
        (0, false) => "no lease runs any more".to_owned(),
        (count, _) => format!(
            "{count} leases run still, each until its owner or its escrow ends it; from {} on, running this again ends the \
             rest without loss: keep the node running until then",
            minute(draining.quits_free_ms)
        ),
    };
    out.result(
        text,
        &json!({
            "schema": "hodei.node.drain.compute/1", "node": node.to_string(), "open": draining.open,
            "ended": draining.ended, "claimed": draining.claimed, "quits_free_ms": draining.quits_free_ms, "withdrawn": draining.withdrawn,
        }),
    );
    Ok(())
}

fn usage(what: &str, help: &'static str) -> Fault {
    Fault::new(&fault::USAGE, what, help)
}

/// Written as people count.
fn cpus(milli: u64) -> String {
    let rest = format!("{:03}", milli % 1000);
    match rest.trim_end_matches('0') {
        "" => (milli / 1000).to_string(),
        rest => format!("{}.{rest}", milli / 1000),
    }
}

fn compute(args: &OfferCompute) -> Result<Compute> {
    let price = |given: &Option<String>, default: Coins| -> Result<Coins> {
        let parsed = given.as_deref().map(money::parse).transpose()?;
        Ok(parsed.map_or(default, |wei| Coins(wei.saturating_to())))
    };
    let default = Compute::default();
    let level = match (args.availability, &args.bond) {
        (Some(availability), Some(bond)) => Some(Promise {
            availability: Percent(availability),
            start_secs: args.start,
            restore_secs: args.restore,
            pay: Percent(args.pay),
            bond: Coins(money::parse(bond)?.saturating_to()),
        }),
        _ => None,
    };
    Ok(Compute {
        runtime: if args.runtime == "oci" { Runs::Oci } else { Runs::Wasm },
        engine: args.engine.clone(),
        cpu_milli: args.cpus,
        memory_bytes: args.memory,
        disk_bytes: args.disk,
        bandwidth_bits: args.bandwidth * 1_000_000,
        transfer_bytes: args.transfer,
        price_cpu: price(&args.price_cpu, default.price_cpu)?,
        price_memory: price(&args.price_memory, default.price_memory)?,
        region: args.region.clone(),
        country: args.country.clone(),
        tier: match args.tier.as_str() {
            "datacentre" => Place::Datacentre,
            "office" => Place::Office,
            _ => Place::Home,
        },
        renewable_percent: args.renewable,
        zone: args.zone.clone(),
        collateral: Coins(money::parse(&args.collateral)?.saturating_to()),
        level,
        ..default
    })
}

/// The configuration of a new node that only computes.
fn fresh(compute: &Compute, session: &Session, address: Option<SocketAddr>) -> Result<String> {
    let members = &session.context.member;
    let config = Config {
        name: format!("{}-host", session.name),
        network_key: Some(session.network_key.to_string()),
        link: wire(address, members, LINK_PORT),
        doors: Doors { status: Some(SocketAddr::new(Ipv4Addr::LOCALHOST.into(), 0)), rpc: None },
        follow: members
            .iter()
            .map(|member| Followed { key: member.key.clone(), addresses: member.addresses.clone() })
            .collect(),
        compute: Some(compute.clone()),
        ..Config::default()
    };
    config.check().map_err(|error| settings(&error))?;
    Ok(config.text())
}

/// A node's own file, and the section behind it.
fn with_section(file: &Path, compute: &Compute) -> Result<String> {
    let text = std::fs::read_to_string(file).map_err(|error| Fault::io(file, "reading", &error))?;
    let broken = |error: String| Fault::new(&fault::SETTINGS, error, "correct node.toml").at(file.display());
    let config = Config::parse(&text).map_err(|error| broken(error.to_string()))?;
    if config.compute.is_some() {
        let help = "change [compute] in node.toml and start the node again";
        return Err(Fault::new(&fault::EXISTS, "this node offers computing already", help).at(file.display()));
    }
    let section = Config { compute: Some(compute.clone()), ..Config::default() }.text();
    // Of the whole, from the section on: its own lists of tables come with it.
    let from = section.find("[compute]").ok_or_else(|| broken("a section without a name".into()))?;
    let whole = format!("{}\n\n{}", text.trim_end(), &section[from..]);
    let config = Config::parse(&whole).map_err(|error| broken(error.to_string()))?;
    config.check().map_err(|error| settings(&error).at(file.display()))?;
    Ok(whole)
}

/// Makes the folder if it is not there, and writes the file; gives the node's account.
fn write(folder: &PathBuf, text: &str) -> Result<Address> {
    let home = Home::create(folder).map_err(home_fault)?;
    let keys = Keys::open(&home).map_err(|error| Fault::new(&fault::FOLDER, error, "check the disk"))?;
    replace(&home.config(), text.as_bytes(), 0o600).map_err(home_fault)?;
    let account = SecretKey::new(KeyKind::Account, *keys.account.bytes());
    wallet::address(&account).ok_or_else(|| Fault::new(&fault::INTERNAL, "the node's key is no account's", "try again"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_section_is_added_to_a_node_s_own_file_and_only_once() {
        let folder = std::env::temp_dir().join(format!("hodei-offer-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let file = folder.join("node.toml");
        let own = "# mine\nname = \"here\"\n\n[doors]\nstatus = \"127.0.0.1:0\"\n\n[provider]\nzone = \"cellar\"\n";
        std::fs::write(&file, own).unwrap();
        let compute = Compute { cpu_milli: 2500, ..Compute::default() };
        let whole = with_section(&file, &compute).unwrap();
        assert!(whole.starts_with("# mine\n"), "what was written by hand stays");
        let config = Config::parse(&whole).unwrap();
        assert_eq!((config.compute, config.provider.unwrap().zone), (Some(compute.clone()), "cellar".into()));
        std::fs::write(&file, whole).unwrap();
        assert_eq!(with_section(&file, &compute).unwrap_err().code.id, fault::EXISTS.id);
        std::fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn cpus_are_told_as_people_count() {
        assert_eq!([1000, 500, 1125, 20].map(cpus), ["1", "0.5", "1.125", "0.02"]);
    }
}
