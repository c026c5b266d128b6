//! Make, list, pay for and remove buckets.

use crate::{
    args::{Class, DataCreate, DataExtend, Spread},
    data::{finish, reference, tell_links},
    fault::{self, Fault, Result},
    money,
    out::{Out, bytes, table},
    session::{Session, sdk_fault},
    time,
};
use alloy_primitives::U256;
use hodei_sdk::{
    Local,
    energy::{self, Both, Cost, Energy, Work, figures::GRID_GRAMS},
    escrow::{Calendar, Holding},
    market::Offer,
    odds::{Odds, REPLACED_DAYS},
    plan::{RESERVE_WINDOWS, Wish, class_of},
};
use hodei_types::code;
use serde_json::{Value, json};

pub(crate) fn bucket_name(text: &str) -> Result<&str> {
    match reference(text) {
        None => Ok(text),
        Some((bucket, "")) => Ok(bucket),
        Some(_) => Err(Fault::new(&fault::REFERENCE, "that names an object, not a bucket", "write hodei://BUCKET")
            .between("hodei://BUCKET", format!("{text:?}"))),
    }
}

/// `hodei data create`.
pub(crate) async fn create(args: &DataCreate, session: &Session, out: Out) -> Result<()> {
    let name = bucket_name(&args.bucket)?;
    let cloud = session.cloud().await?;
    if cloud.bucket(name).await.map_err(sdk_fault)?.is_some() {
        return Err(sdk_fault(hodei_sdk::Fault::BucketExists(name.into())));
    }
    let offers = match args.class.is_none() {
        true => cloud.offers().await.map_err(sdk_fault)?,
        false => Vec::new(),
    };
    let wish = wish(args.class, &args.spread, args.capacity, args.windows, &offers);
    let plan = cloud.plan(&wish).await.map_err(sdk_fault)?;
    let energy = plan.energy(cloud.calendar().await.map_err(sdk_fault)?.window_secs());
    let lines = [plan.lines(), energy.lines()].concat();
    for line in &lines {
        out.say(line);
    }
    let escrow: U256 = plan.escrow();
    if args.plan.dry_run {
        out.result(
            "",
            &json!({
                "schema": "hodei.data.create.plan/1", "bucket": name, "k": plan.shape.k(), "n": plan.shape.n(),
                "survives": plan.shape.t(), "deals": plan.parts.len(), "escrow_wei": escrow.to_string(), "windows": plan.windows,
                "windows_ahead": plan.ahead(), "windows_reserve": RESERVE_WINDOWS,
                "spread": spread(&plan.shape), "regions": wish.regions, "odds": odds(&plan.odds()), "energy": electricity(&energy),
                "told": lines,
            }),
        );
        return Ok(());
    }
    out.confirm(&format!("Put {} in escrow and create it?", money::show(escrow)), args.plan.yes)?;
    cloud.create_bucket(name, &plan).await.map_err(sdk_fault)?;
    if !wish.regions.is_empty() {
        cloud.note_regions(name, &wish).await.map_err(sdk_fault)?;
    }
    finish(&cloud, out).await;
    out.result(
        format!("created hodei://{name}, held by {} providers; {} in escrow", plan.parts.len(), money::show(escrow)),
        &json!({
            "schema": "hodei.data.create/1", "bucket": name, "k": plan.shape.k(), "n": plan.shape.n(),
            "survives": plan.shape.t(), "deals": plan.parts.len(), "escrow_wei": escrow.to_string(),
        }),
    );
    out.next(format!("hodei data cp FILE hodei://{name}/KEY"));
    Ok(())
}

/// What is asked for; where no class is named, the one that fits who offers.
pub(crate) fn wish(class: Option<Class>, of: &Spread, capacity_bytes: u64, windows: u64, offers: &[Offer]) -> Wish {
    let class = match class {
        Some(Class::Small) => code::Class::Small,
        Some(Class::DataCentre) => code::Class::Datacentre,
        Some(Class::Home) => code::Class::Home,
        Some(Class::Phone) => code::Class::Phone,
        None => class_of(offers),
    };
    let [operators, networks, zones] = [of.operators, of.networks, of.zones].map(Option::unwrap_or_default);
    Wish {
        class,
        code: of.code(),
        losses: of.losses,
        spread: code::Spread { operators, networks, zones },
        regions: of.regions().unwrap_or_default(),
        capacity_bytes,
        windows,
    }
}

/// What an owner asked for beyond what losses ask for; 0 is nothing.
pub(crate) fn spread(shape: &code::Shape) -> Value {
    let code::Spread { operators, networks, zones } = shape.spread();
    json!({ "operators": operators, "networks": networks, "zones": zones })
}

/// Odds of a year, and for which machines.
pub(crate) fn odds(odds: &Odds) -> Value {
    json!({
        "machines": odds.device.name(), "lost_within_a_year_left_alone": odds.left_alone,
        "lost_within_a_year_replaced": odds.replaced, "replaced_within_days": REPLACED_DAYS,
    })
}

/// What it takes, computed, and what of: docs/energy.md.
fn electricity(energy: &Energy) -> Value {
    let cost = |cost: Cost| json!({ "milliwatt_hours": cost.milliwatt_hours, "milligrams_co2e": cost.milligrams_co2e });
    let both = |both: Both| json!({ "beside": cost(both.beside), "whole": cost(both.whole) });
    let work = |work: Work| json!({ "cpu_ms": work.cpu_ms, "bytes": work.bytes });
    json!({
        "computed": true, "machines": energy.device.name(), "window_secs": energy.window_secs,
        "grams_co2e_a_kwh": GRID_GRAMS, "disk_gib_hours": energy.disk_gib_hours, "repair": work(energy.repair),
        "proofs": work(energy.proofs), "chain": work(energy.chain), "gib_month": both(energy.stored),
        "gb_read": both(energy.read), "data_centre_gib_month": cost(energy::centre()),
    })
}

/// `hodei data list` without a bucket.
pub(crate) async fn list_buckets(cloud: &Local, out: Out) -> Result<()> {
    let mut buckets = Vec::new();
    for record in cloud.buckets().await.map_err(sdk_fault)? {
        let holding = cloud.holding(&record).await.map_err(sdk_fault)?;
        buckets.push((record, holding));
    }
    let offers = cloud.offers().await.map_err(sdk_fault)?;
    let calendar = cloud.calendar().await.map_err(sdk_fault)?;
    finish(cloud, out).await;
    if out.json {
        for (record, holding) in &buckets {
            out.result("", &json!({
                "schema": "hodei.data.bucket/1", "bucket": record.name, "k": record.shape.k(), "n": record.shape.n(),
                "survives": record.shape.t(), "deals": record.state.deals, "size_bytes": record.state.sizeBytes,
                "held_bytes": holding.held_bytes, "escrow_wei": holding.escrow.to_string(), "windows_left": holding.windows,
                "paid_until_ms": holding.windows.map(|windows| calendar.ends_ms(windows)), "deals_shut": holding.shut(&offers),
            }));
        }
    } else if buckets.is_empty() {
        out.line("no buckets yet");
        out.next("hodei data create NAME");
    } else {
        let rows: Vec<_> = buckets
            .iter()
            .map(|(record, holding)| {
                vec![
                    format!("hodei://{}", record.name),
                    format!("{} of {}", record.shape.k(), record.shape.n()),
                    match holding.shut(&offers) {
                        0 => record.state.deals.to_string(),
                        shut => format!("{}, {shut} closed", record.state.deals),
                    },
                    bytes(record.state.sizeBytes),
                    bytes(holding.held_bytes),
                    paid(holding, &calendar).unwrap_or_else(|| "-".into()),
                ]
            })
            .collect();
        out.line(&table(&["BUCKET", "CODE", "DEALS", "SIZE", "HELD", "PAID FOR"], &rows));
    }
    Ok(())
}

/// How long what is held is paid for: `30 windows, to about 2026-12-22 08:00 UTC`.
pub(crate) fn paid(holding: &Holding, calendar: &Calendar) -> Option<String> {
    let windows = holding.windows?;
    Some(format!("{windows} windows, to about {}", time::minute(calendar.ends_ms(windows))))
}

/// Says where what is written is not paid for much longer, or no more; how many windows, where that is known.
pub(crate) async fn tell_pay(cloud: &Local, name: &str, out: Out) -> Option<u64> {
    let record = cloud.bucket(name).await.ok()??;
    let holding = cloud.holding(&record).await.ok()?;
    let calendar = cloud.calendar().await.ok()?;
    if let Some(line) = unpaid(name, &holding, &calendar) {
        out.say(line);
    }
    holding.windows
}

fn unpaid(name: &str, holding: &Holding, calendar: &Calendar) -> Option<String> {
    let paid = paid(holding, calendar).filter(|_| holding.runs_low())?;
    Some(match holding.windows {
        Some(0) => format!(
            "warning: hodei://{name} is paid for no further window, and its providers may drop what it holds, this as \
             well: hodei data extend {name}"
        ),
        _ => format!("warning: hodei://{name} is paid for {paid} only: hodei data extend {name}"),
    })
}

/// `hodei data extend`.
pub(crate) async fn extend(args: &DataExtend, session: &Session, out: Out) -> Result<()> {
    let name = bucket_name(&args.bucket)?;
    let cloud = session.cloud().await?;
    let missing = cloud.missing(name, args.windows).await.map_err(sdk_fault)?;
    let told = |schema: &str, added: U256| json!({ "schema": schema, "bucket": name, "windows": args.windows, "escrow_wei": added.to_string() });
    if missing.is_zero() {
        out.result(
            format!("hodei://{name} is paid for {} windows already", args.windows),
            &told("hodei.data.extend/1", missing),
        );
        return Ok(());
    }
    out.say(format!(
        "{} more in escrow let hodei://{name} last {} windows were it full; what is not used comes back.",
        money::show(missing),
        args.windows
    ));
    if args.plan.dry_run {
        out.result("", &told("hodei.data.extend.plan/1", missing));
        return Ok(());
    }
    out.confirm("Add it?", args.plan.yes)?;
    let added = cloud.extend(name, args.windows).await.map_err(sdk_fault)?;
    finish(&cloud, out).await;
    out.result(
        format!("added {} to the escrow of hodei://{name}", money::show(added)),
        &told("hodei.data.extend/1", added),
    );
    Ok(())
}

/// `hodei data rm` of a bucket.
pub(crate) async fn remove(bucket: &str, yes: bool, session: &Session, out: Out) -> Result<()> {
    let cloud = session.cloud().await?;
    let deals = cloud.deals(bucket).await.map_err(sdk_fault)?;
    let escrow: U256 = deals.iter().map(|deal| U256::from(deal.state.escrow).saturating_sub(deal.state.owed)).sum();
    tell_links(&cloud, bucket, None, out).await?;
    out.confirm(
        &format!("Remove hodei://{bucket} and end its {} deals? {} come back.", deals.len(), money::show(escrow)),
        yes,
    )?;
    let is_gone = cloud.delete_bucket(bucket).await.map_err(sdk_fault)?;
    finish(&cloud, out).await;
    let rest = if is_gone { "" } else { "; deals whose providers owe a proof end with it" };
    out.result(
        format!("removed hodei://{bucket}{rest}"),
        &json!({ "schema": "hodei.data.rm/1", "bucket": bucket, "deals": deals.len(), "ended": is_gone, "refund_wei": escrow.to_string() }),
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_is_named_alone_or_as_a_reference() {
        assert_eq!(bucket_name("photos").unwrap(), "photos");
        assert_eq!(bucket_name("hodei://photos").unwrap(), "photos");
        assert_eq!(bucket_name("hodei://photos/x").unwrap_err().code.id, "HD3003");
    }
}
