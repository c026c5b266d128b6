//! Show where an object is: who holds how much of it, or which shard of which stripe each holds.

use crate::{
    args::DataWhere,
    data::object,
    fault::{self, Fault, Result},
    money,
    out::{Out, bytes, table},
    session::{Session, sdk_fault},
    status::short,
};
use hodei_sdk::{
    index::Version,
    locate::{Location, Striped},
};
use serde_json::json;

/// `hodei data where`.
pub(crate) async fn locate(args: &DataWhere, session: &Session, out: Out) -> Result<()> {
    let (bucket, key) = object(&args.object)?;
    let version = args.version.as_deref().map(version).transpose()?;
    let cloud = session.cloud().await?;
    if args.stripes {
        let stripes = cloud.stripes(bucket, key, version).await.map_err(sdk_fault)?;
        tell_stripes(&stripes, (bucket, key), out);
        return Ok(());
    }
    let places = cloud.locate(bucket, key, version).await.map_err(sdk_fault)?;
    if out.json {
        for place in &places {
            out.result("", &json!({
                "schema": "hodei.data.where/1", "bucket": bucket, "key": key, "node": place.node.to_string(),
                "operator": place.operator.to_string(), "zone": place.zone, "deal": place.deal, "shards": place.shards,
                "bytes": place.bytes, "shards_declined": place.declined, "last_proven_window": place.last_proven, "suspended": place.suspended,
                "missed_windows": place.missed, "missed_in_row": place.missed_in_row, "closed": place.closed,
                "slashed_wei": place.slashed.to_string(), "paid_windows": place.paid_windows,
                "paid_wei": place.paid.to_string(), "owed_wei": place.owed.to_string(),
            }));
        }
        return Ok(());
    }
    let rows: Vec<_> = places
        .iter()
        .map(|place| {
            vec![
                place.zone.clone(),
                short(&place.node.to_string()),
                place.shards.to_string(),
                bytes(place.bytes),
                match place.last_proven {
                    0 => "not yet".into(),
                    window => format!("window {window}"),
                },
                money::show(place.paid + place.owed),
                standing(place),
            ]
        })
        .collect();
    out.line(&table(&["ZONE", "NODE", "SHARDS", "BYTES", "PROVEN", "EARNED", "STANDING"], &rows));
    Ok(())
}

/// A version as a listing names it.
pub(crate) fn version(text: &str) -> Result<Version> {
    text.parse().map_err(|_| {
        Fault::new(&fault::REFERENCE, "that names no version", "`hodei data list --versions` names them")
            .between("32 hexadecimal digits, or null", format!("{text:?}"))
    })
}

/// A line for each stripe, its shards in the code's order.
fn tell_stripes(stripes: &[Striped], (bucket, key): (&str, &str), out: Out) {
    if out.json {
        for Striped { part, stripe, k, shard_bytes, shards } in stripes {
            let shards = shards.iter().map(|shard| {
                json!({
                    "shard": shard.number, "id": shard.id.to_string(), "node": shard.node.to_string(), "deal": shard.deal,
                    "declined": shard.declined,
                })
            });
            let shards: Vec<_> = shards.collect();
            out.result("", &json!({
                "schema": "hodei.data.stripe/1", "bucket": bucket, "key": key, "part": part, "stripe": stripe, "k": k,
                "shard_bytes": shard_bytes, "shards": shards,
            }));
        }
        return;
    }
    let rows = stripes.iter().map(|striped| {
        let holders = striped.shards.iter().map(|shard| {
            let node = short(&shard.node.to_string());
            if shard.declined { format!("{node} (declines)") } else { node }
        });
        let holders: Vec<_> = holders.collect();
        vec![
            format!("{}.{}", striped.part, striped.stripe),
            format!("{} of {}", striped.k, striped.shards.len()),
            bytes(striped.shard_bytes.into()),
            holders.join(" "),
        ]
    });
    out.line(&table(&["STRIPE", "NEEDS", "A SHARD", "HELD BY, IN ORDER"], &rows.collect::<Vec<_>>()));
}

/// How a provider stands on the ladder, as far as its deals are concerned.
fn standing(place: &Location) -> String {
    let mut said = match (place.closed, place.missed_in_row) {
        (true, _) => "closed".to_owned(),
        (_, 0) => "proves".to_owned(),
        (_, 1) => "missed its last window: not paid for it".to_owned(),
        (_, missed) => format!("missed {missed} windows in a row: not paid for them"),
    };
    if place.declined > 0 {
        said.push_str(&format!(", declines {} more", place.declined));
    }
    if !place.slashed.is_zero() {
        said.push_str(&format!(", {} of collateral taken", money::show(place.slashed)));
    }
    said
}
