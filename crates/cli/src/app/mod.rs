//! Deploy apps, show them, change them.

mod beside;
pub(crate) mod deploy;
mod drill;
mod image;
pub(crate) mod inside;
mod manifests;
pub(crate) mod meant;
pub(crate) mod serve;
pub(crate) mod stack;
pub(crate) mod transcript;
pub(crate) mod update;
pub(crate) mod volume;

use crate::{
    args::{App, AppDelete, AppLogs, AppName, AppRenew, AppScale},
    fault::{self, Fault, Result},
    money,
    out::{Out, bytes, table},
    session::{Session, chain_fault, sdk_fault},
    share::Passes,
    status::short,
    time::minute,
};
use alloy_primitives::{Address, U256};
use hodei_sdk::{
    app::{Apps, Bill, Broke, Running, Statement, span},
    image::Blobs,
    link::Link,
};
use serde_json::{Value, json};
use std::sync::Arc;

/// Beside the wallet's keys: what each app runs.
const FOLDER: &str = "apps";
/// In it: what of images is given to hosts.
const BLOBS: &str = "blobs";
/// In it: what apps wrote, where that is in no bucket.
const SNAPSHOTS: &str = "snapshots";

/// The apps of a session's wallet.
pub(crate) async fn apps(session: &Session) -> Result<Apps<Link>> {
    let head = session.chain.head().await.map_err(chain_fault)?;
    let folder = session.purse.folder().join(FOLDER);
    let blobs = Blobs::at(folder.join(BLOBS));
    let wallet = session.wallet()?;
    let places = Arc::new(volume::Places::new(folder.join(SNAPSHOTS), session.later(wallet.clone())));
    let drawer = Arc::new(Passes::at(folder));
    let network = (head.genesis, head.chain_id);
    Ok(Apps::new(wallet, session.link.clone(), (drawer, blobs), network).with_vaults(places))
}

/// `hodei app …`, but for what stays.
pub(crate) async fn run(app: &App, session: &Session, out: Out) -> Result<()> {
    match app {
        App::Ask(args) => return transcript::ask(args, session, out).await,
        App::Samples(args) => return transcript::samples(args, session, out).await,
        _ => {}
    }
    let apps = apps(session).await?;
    match app {
        App::List => list(&apps, out).await,
        App::Show(args) => show(args, &apps, out).await,
        App::Logs(args) => logs(args, &apps, out).await,
        App::Exec(args) => inside::exec(args, &apps).await,
        App::Cp(args) => inside::cp(args, &apps, out).await,
        App::Stats(args) => inside::stats(args, &apps, out).await,
        App::Volume(args) => volume::run(args, &apps, out).await,
        App::Scale(args) => scale(args, &apps, out).await,
        App::Releases(args) => update::releases(args, &apps, out),
        App::Drill(args) => drill::drill(args, &apps, out).await,
        App::Renew(args) => renew(args, &apps, out).await,
        App::Delete(args) => delete(args, &apps, out).await,
        App::Keep(_)
        | App::Serve(_)
        | App::PortForward(_)
        | App::Ask(_)
        | App::Samples(_)
        | App::Replay(_)
        | App::Update(_)
        | App::Rollback(_) => Err(Fault::new(&fault::INTERNAL, "that command runs elsewhere", "report it")),
    }
}

fn until(bill: &Bill) -> String {
    bill.until_ms.map_or_else(|| "-".into(), minute)
}

/// A bill for programs.
fn bill_of(bill: &Bill) -> Value {
    json!({
        "running": bill.running, "hour_wei": bill.hour.to_string(), "paid_wei": bill.paid.to_string(),
        "calls_wei": bill.calls.to_string(), "owed_wei": bill.owed.to_string(), "left_wei": bill.left.to_string(), "until_ms": bill.until_ms,
    })
}

/// A promise that was not kept, for people.
fn broke(one: &Broke) -> String {
    let (lease, breach, secs) = (one.lease, one.breach.name(), one.secs);
    format!("lease {lease}: {breach} was not kept, {secs} s; {} came back", money::exact(one.paid))
}

/// The same for programs.
fn broke_of(one: &Broke) -> Value {
    json!({ "lease": one.lease, "kind": one.breach.name(), "secs": one.secs, "paid_wei": one.paid.to_string() })
}

async fn list(apps: &Apps<Link>, out: Out) -> Result<()> {
    let (known, strays) = apps.list().await.map_err(sdk_fault)?;
    let mut rows = Vec::new();
    for (record, bill) in &known {
        let name = &record.manifest.name;
        rows.push(vec![
            name.clone(),
            format!("{} of {}", bill.running, record.replicas),
            money::show(bill.hour),
            money::show(bill.paid),
            money::show(bill.left),
            until(bill),
        ]);
        if out.json {
            let mut row = bill_of(bill);
            row["schema"] = json!("hodei.app.row/1");
            row["name"] = json!(name);
            row["replicas"] = json!(record.replicas);
            row["workload"] = json!(hex::encode(record.manifest.workload()));
            row["since_ms"] = json!(record.since_ms);
            out.result("", &row);
        }
    }
    if !rows.is_empty() && !out.json {
        out.line(&table(&["APP", "RUNNING", "AN HOUR", "PAID", "LEFT", "UNTIL"], &rows));
    }
    for stray in &strays {
        let workload = stray.workload.to_string();
        out.result(
            format!("{} replicas of workload {} were deployed from elsewhere", stray.replicas, short(&workload)),
            &json!({
                "schema": "hodei.app.stray/1", "workload": workload, "orders": stray.orders, "replicas": stray.replicas,
            }),
        );
    }
    if known.is_empty() && strays.is_empty() {
        out.say("No apps yet. Deploy one: hodei deploy FILE.wasm, or an image: hodei deploy nginx:1.27");
    }
    if let Some((record, _)) = known.first() {
        out.next(format!("hodei app show {}", record.manifest.name));
    }
    Ok(())
}

async fn show(args: &AppName, apps: &Apps<Link>, out: Out) -> Result<()> {
    let shown = apps.show(&args.app).await.map_err(sdk_fault)?;
    let (record, bill) = (&shown.record, &shown.bill);
    let row = |running: &Running| {
        let (lease, said) = (&running.lease, running.replica.as_ref());
        vec![
            lease.id.to_string(),
            short(&running.node.to_string()),
            format!("{}/{}", running.region, running.zone),
            said.map_or_else(|| "does not answer".into(), |said| said.state.name().to_owned()),
            said.map_or_else(|| "-".into(), |said| said.requests.to_string()),
            said.map_or_else(|| "-".into(), |said| bytes(said.memory_peak_bytes)),
            money::show(U256::from(lease.rate) * U256::from(3600)),
        ]
    };
    let rows: Vec<_> = shown.replicas.iter().map(row).collect();
    let head = ["LEASE", "HOST", "WHERE", "STATE", "REQUESTS", "MEMORY", "AN HOUR"];
    let words = shown.replicas.iter().filter_map(|running| {
        let said = running.replica.as_ref().filter(|said| !said.words.is_empty())?;
        Some(format!("lease {}: {}", running.lease.id, said.words))
    });
    let waiting = shown.waiting.iter().map(|(order, until)| format!("order {order} waits until {}", minute(*until)));
    let calls = shown.replicas.iter().filter(|running| running.lease.callRate > 0).filter_map(|running| {
        let said = running.replica.as_ref()?;
        Some(format!(
            "lease {}: {} calls cost {} so far, {} of it paid; {} fuel, {} starts, the last in {} ms",
            running.lease.id,
            said.due.calls,
            money::exact(U256::from(said.due.wei)),
            money::exact(U256::from(running.lease.claimed)),
            said.fuel,
            said.starts,
            said.cold_ms
        ))
    });
    let breaches = shown.breaches.iter().flatten().map(broke);
    let image = record.manifest.container();
    let image = image.map(|image| format!("image {}, sha256:{}", image.image, hex::encode(image.digest)));
    let staged = record.staged.map(|release| {
        format!(
            "release {} runs; release {release} is on its way: hodei app update {} --resume, or --abort, if nobody \
                 brings it now",
            record.release, args.app
        )
    });
    let spares = shown.spares.iter().map(|spare| {
        let state = match &spare.replica {
            Some(said) if said.state.answers() => "whole",
            Some(_) => "on its way",
            None => "does not answer",
        };
        format!("a spare copy on {} ({}): {state}", short(&spare.node.to_string()), spare.region)
    });
    let more: Vec<String> = staged
        .into_iter()
        .chain(image)
        .chain(spares)
        .chain(calls)
        .chain(words)
        .chain(waiting)
        .chain(breaches)
        .collect();
    let replica = |running: &Running| {
        let said = running.replica.as_ref();
        json!({
            "lease": running.lease.id, "order": running.lease.order, "node": running.node.to_string(),
            "region": running.region, "zone": running.zone, "state": said.map(|said| said.state.name()),
            "words": said.map(|said| said.words.clone()), "cold_ms": said.map(|said| said.cold_ms),
            "warm_us": said.map(|said| said.warm_us), "missing": said.map(|said| said.missing.clone()),
            "requests": said.map(|said| said.requests), "failures": said.map(|said| said.failures),
            "starts": said.map(|said| said.starts), "fuel": said.map(|said| said.fuel),
            "bytes_in": said.map(|said| said.bytes_in), "bytes_out": said.map(|said| said.bytes_out),
            "memory_peak_bytes": said.map(|said| said.memory_peak_bytes),
            "rate_wei_s": running.lease.rate.to_string(), "until_ms": running.lease.untilMs,
            "on_call": running.lease.callRate > 0, "call_rate_wei_s": running.lease.callRate.to_string(),
            "claimed_wei": running.lease.claimed.to_string(), "calls": said.map(|said| said.due.calls),
            "due_wei": said.map(|said| said.due.wei.to_string()),
        })
    };
    let mut value = bill_of(bill);
    value["schema"] = json!("hodei.app.show/1");
    value["name"] = json!(args.app);
    value["wanted"] = json!(record.replicas);
    value["workload"] = json!(hex::encode(record.manifest.workload()));
    value["image"] = json!(record.manifest.container().map(|container| {
        json!({ "reference": container.image, "digest": format!("sha256:{}", hex::encode(container.digest)) })
    }));
    value["release"] = json!(record.release);
    value["staged"] = json!(record.staged);
    value["since_ms"] = json!(record.since_ms);
    value["over_ms"] = json!(shown.over_ms);
    value["orders"] = json!(record.orders);
    value["waiting"] = json!(shown.waiting.iter().map(|(order, _)| order).collect::<Vec<_>>());
    value["replicas"] = shown.replicas.iter().map(replica).collect();
    value["spares"] = shown.spares.iter().map(replica).collect();
    // Not known, where the ledger no longer has the blocks.
    value["breaches"] = json!(shown.breaches.as_ref().map(|all| all.iter().map(broke_of).collect::<Vec<_>>()));
    if let Some(over_ms) = shown.over_ms {
        let (name, wanted, paid) = (&args.app, record.replicas, money::show(bill.paid + bill.owed));
        out.result(
            format!(
                "{name}: 0 of {wanted} replicas run: the term they were paid for is over since {}; {paid} paid\nhodei app \
                 delete {name}, and deploy it again; next time `hodei app renew {name} 1h` before the end",
                minute(over_ms)
            ),
            &value,
        );
        return Ok(());
    }
    out.result(
        format!(
            "{}: {} of {} replicas run; {} an hour, {} paid, {} left, until {}\n\n{}{}{}",
            args.app,
            bill.running,
            record.replicas,
            money::show(bill.hour),
            money::show(bill.paid),
            money::show(bill.left),
            until(bill),
            table(&head, &rows),
            if more.is_empty() { "" } else { "\n\n" },
            more.join("\n"),
        ),
        &value,
    );
    out.next(format!("hodei app logs {}", args.app));
    Ok(())
}

async fn logs(args: &AppLogs, apps: &Apps<Link>, out: Out) -> Result<()> {
    let logs = apps.logs(&args.name.app, args.since).await.map_err(sdk_fault)?;
    for (lease, node, said) in logs.iter().filter(|(lease, ..)| args.lease.is_none_or(|only| only == *lease)) {
        let (text, value) = match said {
            Ok(said) => {
                let log = String::from_utf8_lossy(&said.log).into_owned();
                let value = json!({
                    "schema": "hodei.app.log/1", "lease": lease, "node": node.to_string(), "log": log, "end": said.log_end,
                });
                (format!("lease {lease}, to byte {}:\n{}", said.log_end, log.trim_end()), value)
            }
            Err(why) => (
                format!("lease {lease}: {why}"),
                json!({ "schema": "hodei.app.log/1", "lease": lease, "node": node.to_string(), "error": why }),
            ),
        };
        out.result(text, &value);
    }
    Ok(())
}

async fn scale(args: &AppScale, apps: &Apps<Link>, out: Out) -> Result<()> {
    let (name, replicas) = (&args.name.app, args.replicas);
    let more = apps.plan_more(name, replicas).await.map_err(sdk_fault)?;
    let value = |escrow: String| json!({ "schema": "hodei.app.scale.plan/1", "name": name, "replicas": replicas, "escrow_wei": escrow });
    let Some(plan) = more else {
        out.say(format!("{name} is to have {replicas}: what is beyond that ends, and what it did not use comes back"));
        if args.plan.dry_run {
            out.result("", &value("0".into()));
            return Ok(());
        }
        out.confirm("End them?", args.plan.yes)?;
        let ended = apps.scale_down(name, replicas).await.map_err(sdk_fault)?;
        out.result(
            format!("{name} has {replicas}: {} ended, {} came back", ended.leases, money::exact(ended.refunded)),
            &json!({
                "schema": "hodei.app.scale/1", "name": name, "replicas": replicas, "ended": ended.leases,
                "refunded_wei": ended.refunded.to_string(),
            }),
        );
        out.next(format!("hodei app show {name}"));
        return Ok(());
    };
    deploy::tell_plan(&plan, out);
    if args.plan.dry_run {
        out.result("", &value(plan.deposit.to_string()));
        return Ok(());
    }
    out.confirm(&format!("Put {} in escrow and start them?", money::show(plan.deposit)), args.plan.yes)?;
    let mut tell = deploy::teller(out);
    let order = apps.scale_up(name, replicas, &plan, &mut tell).await.map_err(sdk_fault)?;
    out.result(
        format!("{name} has {replicas}, by order {order}; {} in escrow for it", money::show(plan.deposit)),
        &json!({
            "schema": "hodei.app.scale/1", "name": name, "replicas": replicas, "order": order,
            "escrow_wei": plan.deposit.to_string(),
        }),
    );
    out.next(format!("hodei app show {name}"));
    Ok(())
}

async fn renew(args: &AppRenew, apps: &Apps<Link>, out: Out) -> Result<()> {
    let name = &args.name.app;
    let plan = apps.plan_renewal(name, args.secs).await.map_err(sdk_fault)?;
    let wei = plan.wei();
    out.say(format!("{name}: {} replicas for {} longer cost {}", plan.leases.len(), span(args.secs), money::show(wei)));
    if args.plan.dry_run {
        out.result(
            "",
            &json!({
                "schema": "hodei.app.renew.plan/1", "name": name, "replicas": plan.leases.len(), "secs": args.secs,
                "wei": wei.to_string(),
            }),
        );
        return Ok(());
    }
    out.confirm(&format!("Pay {}?", money::show(wei)), args.plan.yes)?;
    let refused = apps.renew(&plan).await.map_err(sdk_fault)?;
    for (lease, why) in &refused {
        out.say(format!("lease {lease} is not paid for longer: {why}"));
    }
    let paid = plan.leases.len() - refused.len();
    out.result(
        format!("{paid} of {} replicas of {name} are paid for {} longer", plan.leases.len(), span(args.secs)),
        &json!({
            "schema": "hodei.app.renew/1", "name": name, "replicas": paid, "secs": args.secs,
            "refused": refused.iter().map(|(lease, _)| lease).collect::<Vec<_>>(),
        }),
    );
    out.next(format!("hodei app show {name}"));
    Ok(())
}

async fn delete(args: &AppDelete, apps: &Apps<Link>, out: Out) -> Result<()> {
    let name = &args.name.app;
    let shown = match apps.show(name).await {
        Err(fault @ hodei_sdk::Fault::NoApp(_)) => match apps.project(name).map_err(sdk_fault)? {
            Some(project) => return stack::delete(args, project, apps, out).await,
            None => return Err(sdk_fault(fault)),
        },
        shown => shown.map_err(sdk_fault)?,
    };
    let bill = &shown.bill;
    out.say(format!(
        "{name}: {} replicas end; {} were paid, about {} come back",
        bill.running,
        money::show(bill.paid + bill.owed),
        money::show(bill.left)
    ));
    if args.plan.dry_run {
        let mut value = bill_of(bill);
        value["schema"] = json!("hodei.app.delete.plan/1");
        value["name"] = json!(name);
        out.result("", &value);
        return Ok(());
    }
    out.confirm("End it?", args.plan.yes)?;
    let deleted = volume::delete(name, args, apps, out).await?;
    let statement = deleted.statement.as_ref();
    let mut text =
        format!("{name} is over: {} leases ended, {} came back", deleted.leases, money::exact(deleted.refunded));
    if let Some(all) = statement {
        text.push_str(&format!("\npaid in all {}:", money::exact(all.paid())));
        for (operator, wei) in &all.earned {
            text.push_str(&format!("\n  {} to {operator}", money::exact(*wei)));
        }
        if !all.calls.is_zero() {
            text.push_str(&format!("\n  {} of it for calls", money::exact(all.calls)));
        }
        if !all.watched.is_zero() {
            text.push_str(&format!("\n  {} to who watched lost hosts", money::exact(all.watched)));
        }
        text.push_str(&format!("\n  {} burned", money::exact(all.burned)));
        all.breaches.iter().for_each(|one| text.push_str(&format!("\n{}", broke(one))));
    }
    let earned = |all: &Statement| {
        let row =
            |(operator, wei): (&Address, &U256)| json!({ "operator": operator.to_string(), "wei": wei.to_string() });
        all.earned.iter().map(row).collect::<Vec<_>>()
    };
    out.result(
        text,
        &json!({
            "schema": "hodei.app.delete/1", "name": name, "leases": deleted.leases,
            "refunded_wei": deleted.refunded.to_string(), "paid_wei": statement.map(|all| all.paid().to_string()),
            "earned": statement.map(earned), "watched_wei": statement.map(|all| all.watched.to_string()),
            "burned_wei": statement.map(|all| all.burned.to_string()),
            "paid_secs": statement.map(|all| all.secs), "calls_wei": statement.map(|all| all.calls.to_string()),
            "indemnity_wei": statement.map(|all| all.indemnity().to_string()),
            "breaches": statement.map(|all| all.breaches.iter().map(broke_of).collect::<Vec<_>>()),
        }),
    );
    out.next("hodei app list");
    Ok(())
}
