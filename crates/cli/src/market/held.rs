//! Hold capacity, show what is held, lend what is free of it, and give it back.

use super::cell;
use crate::{
    app::deploy::{plan_of, tell_plan},
    args::{MarketHeld, MarketLend, MarketRenew, MarketReserve},
    fault::{self, Fault, Result},
    money,
    out::{Out, bytes, table},
    session::{Session, sdk_fault},
    status::short,
    time::minute,
};
use alloy_primitives::U256;
use hodei_sdk::{
    app::{cpus, size, span},
    held::{self, Ask, Reservation, Room},
};
use hodei_types::market::{BP, Capacity, Prices, hour_price};
use serde_json::{Value, json};

/// Hours of a month of thirty days.
const MONTH_HOURS: u64 = 30 * 24;
const MBIT: u64 = 1_000_000;

/// `hodei market reserve`.
pub(crate) async fn reserve(args: &MarketReserve, session: &Session, out: Out) -> Result<()> {
    let terms = held::terms(&args.draft(), args.bandwidth.saturating_mul(MBIT), args.transfer.unwrap_or(0)).map_err(
        |broken| {
            let mut fault = sdk_fault(broken);
            fault.help = "correct it; `hodei market reserve --help` lists what may be said".into();
            fault
        },
    )?;
    let plan = held::plan(&*session.chain, terms).await.map_err(sdk_fault)?;
    let (each, month) = (&plan.terms.each, plan.hour() * U256::from(MONTH_HOURS));
    out.say(format!(
        "hold {} times {} CPUs and {} of memory, for {}",
        plan.terms.replicas,
        cpus(each.cpuMilli),
        size(each.memoryBytes),
        span(plan.terms.secs)
    ));
    tell_plan(&plan, out);
    out.say(format!("{} a month of thirty days", money::show(month)));
    let mut value = plan_of(&plan);
    value["month_wei"] = json!(month.to_string());
    value["each"] = capacity(each);
    if args.plan.dry_run {
        value["schema"] = json!("hodei.market.reserve.plan/1");
        out.result("", &value);
        return Ok(());
    }
    out.confirm(&format!("Put {} in escrow and hold it?", money::show(plan.deposit)), args.plan.yes)?;
    let id = session.wallet()?.reserve(&plan).await.map_err(sdk_fault)?;
    value["schema"] = json!("hodei.market.reserve/1");
    value["reservation"] = json!(id);
    out.result(
        format!(
            "reservation {id} is held, {} an hour, {} in escrow",
            money::show(plan.hour()),
            money::show(plan.deposit)
        ),
        &value,
    );
    out.next(format!("hodei deploy FILE.wasm --within {id}, or hodei market lend {id} --part 80%"));
    Ok(())
}

/// `hodei market reserved`.
pub(crate) async fn reserved(session: &Session, out: Out) -> Result<()> {
    let held = session.wallet()?.reservations().await.map_err(sdk_fault)?;
    if out.json {
        held.iter().for_each(|one| out.result("", &object(one)));
        return Ok(());
    }
    if held.is_empty() {
        out.say("Nothing is held. Hold something: hodei market reserve --region local --cpu 1 --memory 1GiB --for 1d");
        return Ok(());
    }
    let head = ["RESERVATION", "HOLDS", "FREE", "LEASES IN IT", "LENT", "AN HOUR", "EARNED", "UNTIL"];
    out.line(&table(&head, &held.iter().map(row).collect::<Vec<_>>()));
    if let Some(first) = held.first() {
        out.next(format!("hodei deploy FILE.wasm --within {}, or hodei market lend {} --part 80%", first.id, first.id));
    }
    Ok(())
}

fn row(one: &Reservation) -> Vec<String> {
    let (all, free) = one.capacity();
    let shown = |room: &Capacity| format!("{} CPU, {}", cpus(room.cpuMilli), bytes(room.memoryBytes));
    vec![
        one.id.to_string(),
        shown(&all),
        shown(&free),
        one.leases().to_string(),
        format!("{} of {}", one.lent(), one.rooms.len()),
        money::show(one.hour()),
        money::show(one.earned),
        minute(one.until_ms()),
    ]
}

fn capacity(room: &Capacity) -> Value {
    json!({
        "cpu_milli": room.cpuMilli, "memory_bytes": room.memoryBytes, "disk_bytes": room.diskBytes,
        "bandwidth_bits": room.bandwidthBits, "transfer_bytes": room.transferBytes,
    })
}

fn prices(prices: &Prices) -> Value {
    json!({
        "cpu_milli_wei": prices.cpuMilli.to_string(), "memory_mib_wei": prices.memoryMib.to_string(),
        "disk_mib_wei": prices.diskMib.to_string(), "bandwidth_kbit_wei": prices.bandwidthKbit.to_string(),
        "transfer_mib_wei": prices.transferMib.to_string(),
    })
}

fn object(one: &Reservation) -> Value {
    let room = |room: &Room| {
        let held = &room.held;
        json!({
            "lease": held.lease, "node": held.node.to_string(), "capacity": capacity(&held.capacity),
            "free": capacity(&held.free), "leases": held.leases, "until_ms": held.untilMs,
            "rate_wei_s": room.rate.to_string(), "left_wei": room.left.to_string(), "lent": held.lent,
            "prices": held.lent.then(|| prices(&held.prices)),
        })
    };
    let (all, free) = one.capacity();
    json!({
        "schema": "hodei.market.reservation/1", "reservation": one.id, "capacity": capacity(&all),
        "free": capacity(&free), "leases": one.leases(), "lent": one.lent(), "hour_wei": one.hour().to_string(),
        "earned_wei": one.earned.to_string(), "until_ms": one.until_ms(),
        "held": one.rooms.iter().map(room).collect::<Vec<_>>(),
    })
}

/// `hodei market renew`.
pub(crate) async fn renew(args: &MarketRenew, session: &Session, out: Out) -> Result<()> {
    let wallet = session.wallet()?;
    let one = wallet.reservation(args.reservation).await.map_err(sdk_fault)?;
    let plan = one.renewal(args.term);
    let wei = plan.wei();
    out.say(format!("{} leases held for {} longer cost {}", plan.leases.len(), span(args.term), money::show(wei)));
    if args.plan.dry_run {
        let value = json!({
            "schema": "hodei.market.renew.plan/1", "reservation": one.id, "leases": plan.leases.len(),
            "secs": args.term, "wei": wei.to_string(),
        });
        out.result("", &value);
        return Ok(());
    }
    out.confirm(&format!("Pay {}?", money::show(wei)), args.plan.yes)?;
    let refused = wallet.renew(&plan).await.map_err(sdk_fault)?;
    for (lease, why) in &refused {
        out.say(format!("lease {lease} is not held for longer: {why}"));
    }
    let paid = plan.leases.len() - refused.len();
    out.result(
        format!(
            "{paid} of {} leases of reservation {} are held for {} longer",
            plan.leases.len(),
            one.id,
            span(args.term)
        ),
        &json!({
            "schema": "hodei.market.renew/1", "reservation": one.id, "leases": paid, "secs": args.term,
            "refused": refused.iter().map(|(lease, _)| lease).collect::<Vec<_>>(),
        }),
    );
    out.next("hodei market reserved");
    Ok(())
}

/// `hodei market lend`.
pub(crate) async fn lend(args: &MarketLend, session: &Session, out: Out) -> Result<()> {
    let asked = asked(args)?;
    let wallet = session.wallet()?;
    let one = wallet.reservation(args.reservation).await.map_err(sdk_fault)?;
    let lending = wallet.lending(&one, asked).await.map_err(sdk_fault)?;
    let hour = |(lease, prices): &(u64, Prices)| {
        let room = one.rooms.iter().find(|room| room.held.lease == *lease);
        let [all, free] =
            room.map_or([0; 2], |room| [&room.held.capacity, &room.held.free].map(|of| hour_price(of, prices)));
        let costs = room.map_or(0, |room| room.rate.saturating_mul(3600));
        (costs, all, free)
    };
    let rows: Vec<_> = lending
        .iter()
        .map(|lent| {
            let (costs, all, free) = hour(lent);
            let node = one.rooms.iter().find(|room| room.held.lease == lent.0).map(|room| room.held.node.to_string());
            vec![
                lent.0.to_string(),
                short(&node.unwrap_or_default()),
                cell::coins(costs),
                cell::coins(all),
                cell::coins(free),
            ]
        })
        .collect();
    out.say(table(&["LEASE", "HOST", "COSTS AN HOUR", "ASKS FOR ALL", "FOR WHAT IS FREE"], &rows));
    let told = |lent: &(u64, Prices)| {
        let (costs, all, free) = hour(lent);
        json!({
            "lease": lent.0, "prices": prices(&lent.1), "costs_hour_wei": costs.to_string(),
            "asks_hour_wei": all.to_string(), "asks_free_hour_wei": free.to_string(),
        })
    };
    let mut value = json!({
        "schema": "hodei.market.lend/1", "reservation": one.id, "preemptible_percent": args.preemptible,
        "lent": lending.iter().map(told).collect::<Vec<_>>(),
    });
    if args.plan.dry_run {
        value["schema"] = json!("hodei.market.lend.plan/1");
        out.result("", &value);
        return Ok(());
    }
    out.confirm(&format!("Put what is free of reservation {} in the book?", one.id), args.plan.yes)?;
    let part_bp = (args.preemptible * BP / 100).min(BP) as u16;
    wallet.lend(&lending, part_bp).await.map_err(sdk_fault)?;
    out.result(format!("reservation {} is lent: {} of its leases are in the book", one.id, lending.len()), &value);
    out.next("hodei market book --class compute");
    Ok(())
}

fn asked(args: &MarketLend) -> Result<Ask> {
    if let Some(percent) = args.part {
        return Ok(Ask::Part(percent));
    }
    let wei = |text: &Option<String>| -> Result<u128> {
        let Some(text) = text else { return Ok(0) };
        let wei = u128::try_from(money::parse(text)?);
        wei.map_err(|_| Fault::new(&fault::USAGE, "a price is too high", "ask for less"))
    };
    Ok(Ask::Prices { cpu: wei(&args.price_cpu)?, memory: wei(&args.price_memory)? })
}

/// `hodei market recall`.
pub(crate) async fn recall(args: &MarketHeld, session: &Session, out: Out) -> Result<()> {
    let wallet = session.wallet()?;
    let one = wallet.reservation(args.reservation).await.map_err(sdk_fault)?;
    out.say(format!("{} of {} leases are lent; {} leases in them go on", one.lent(), one.rooms.len(), one.leases()));
    if args.plan.dry_run {
        let value = json!({
            "schema": "hodei.market.recall.plan/1", "reservation": one.id, "recalled": one.lent(), "leases": one.leases(),
        });
        out.result("", &value);
        return Ok(());
    }
    out.confirm(&format!("Take reservation {} out of the book?", one.id), args.plan.yes)?;
    let recalled = wallet.recall(&one).await.map_err(sdk_fault)?;
    let value = json!({
        "schema": "hodei.market.recall/1", "reservation": one.id, "recalled": recalled, "leases": one.leases(),
    });
    out.result(format!("{recalled} leases of reservation {} are in the book no more", one.id), &value);
    out.next("hodei market reserved");
    Ok(())
}

/// `hodei market release`.
pub(crate) async fn release(args: &MarketHeld, session: &Session, out: Out) -> Result<()> {
    let wallet = session.wallet()?;
    let one = wallet.reservation(args.reservation).await.map_err(sdk_fault)?;
    if one.leases() > 0 && !args.plan.dry_run {
        return Err(sdk_fault(hodei_sdk::Fault::PoolUsed { order: one.id, leases: one.leases() }));
    }
    let left = one.rooms.iter().fold(U256::ZERO, |sum, room| sum + U256::from(room.left));
    out.say(format!(
        "{} leases end, about {} come back; {} stand in them",
        one.rooms.len(),
        money::show(left),
        one.leases()
    ));
    if args.plan.dry_run {
        let value = json!({
            "schema": "hodei.market.release.plan/1", "reservation": one.id, "ends": one.rooms.len(),
            "left_wei": left.to_string(), "leases": one.leases(),
        });
        out.result("", &value);
        return Ok(());
    }
    out.confirm(&format!("End reservation {}?", one.id), args.plan.yes)?;
    let back = wallet.release(&one).await.map_err(sdk_fault)?;
    let value = json!({
        "schema": "hodei.market.release/1", "reservation": one.id, "ended": one.rooms.len(),
        "refunded_wei": back.to_string(),
    });
    out.result(format!("reservation {} is over, {} came back", one.id, money::exact(back)), &value);
    out.next("hodei wallet balance");
    Ok(())
}
