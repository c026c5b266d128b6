//! Raise or lower what a bucket may lose, while it is in use.

use crate::{
    again,
    args::DataRedundancy,
    bucket::{bucket_name, odds, spread},
    data::finish,
    fault::Result,
    money,
    out::{Out, bytes},
    session::{Session, sdk_fault},
};
use hodei_sdk::{
    recode::Recoded,
    redundancy::{Ended, Redundancy, Wanted},
};
use serde_json::{Value, json};

/// `hodei data redundancy`.
pub(crate) async fn redundancy(args: &DataRedundancy, session: &Session, out: Out) -> Result<()> {
    let name = bucket_name(&args.bucket)?;
    let cloud = session.cloud().await?;
    let wanted = Wanted {
        code: args.spread.code(),
        losses: args.spread.losses,
        operators: args.spread.operators,
        networks: args.spread.networks,
        zones: args.spread.zones,
        regions: args.spread.regions(),
        capacity_bytes: args.capacity,
        windows: args.windows,
    };
    let planned = cloud.plan_redundancy(name, &wanted).await.map_err(sdk_fault)?;
    let rate = again::rate(args.rate);
    for line in lines(&planned, rate) {
        out.say(line);
    }
    if args.plan.dry_run {
        out.result("", &told("hodei.data.redundancy.plan/1", name, &planned));
        return Ok(());
    }
    if planned.is_done() {
        finish(&cloud, out).await;
        out.result(format!("hodei://{name} is so already"), &told("hodei.data.redundancy/1", name, &planned));
        return Ok(());
    }
    out.confirm(&format!("Put {} in escrow and begin?", money::show(planned.escrow())), args.plan.yes)?;
    cloud.begin_redundancy(name, &planned).await.map_err(sdk_fault)?;
    out.say("What is put from now on is put that way. Stopped at any point, the same command goes on.");
    let options = again::options(name, planned.work.bytes, rate, out);
    let recoded = match cloud.recode(name, options).await {
        Ok(recoded) => recoded,
        Err(error) => {
            finish(&cloud, out).await;
            return Err(sdk_fault(error));
        }
    };
    again::release(&cloud, &recoded, out).await?;
    let ended = cloud.end_redundancy(name, &planned).await.map_err(sdk_fault)?;
    finish(&cloud, out).await;
    again::whole(&recoded)?;
    out.result(done(name, &planned, &recoded, &ended), &whole(name, &planned, &recoded, &ended));
    out.next(format!("hodei data list hodei://{name}"));
    Ok(())
}

/// For people: what it will be, what moves, what that costs.
fn lines(planned: &Redundancy, rate: Option<u64>) -> Vec<String> {
    let (from, to) = (planned.from, planned.plan.shape);
    let mut lines = vec![format!("From {} of {} to {} of {}.", from.k(), from.n(), to.k(), to.n())];
    lines.extend(planned.plan.promises());
    let work = &planned.work;
    let mut moved = format!(
        "To move: {} in {} parts are read and stored again, {} sent to providers",
        bytes(work.bytes),
        work.parts,
        bytes(work.sent_bytes)
    );
    if !planned.drain.is_empty() {
        moved.push_str(&format!(
            "; and what lies in {} deals that are not needed, {} with parity",
            planned.drain.len(),
            bytes(planned.drained_bytes)
        ));
    }
    lines.push(match rate {
        Some(rate) => format!("{moved}; at least {} s at this rate.", work.bytes.div_ceil(rate)),
        None => format!("{moved}."),
    });
    if work.kept_parts > 0 {
        lines.push(format!(
            "Not moved: {} parts that are under customers' keys, or that links tell of; they keep their shape until they are put again.",
            work.kept_parts
        ));
    }
    let windows = (planned.window_then, planned.window_now);
    lines.push(again::price(windows, planned.escrow(), (planned.open.len(), planned.enlarge.len())));
    lines
}

fn told(schema: &str, bucket: &str, planned: &Redundancy) -> Value {
    let (from, to) = (planned.from, planned.plan.shape);
    json!({
        "schema": schema, "bucket": bucket, "from": { "k": from.k(), "n": from.n(), "survives": from.t(), "spread": spread(&from) },
        "k": to.k(), "n": to.n(), "survives": to.t(), "spread": spread(&to), "odds": odds(&planned.plan.odds()),
        "deals": planned.plan.parts.len(), "new_deals": planned.open.len(), "larger_deals": planned.enlarge.len(),
        "ending_deals": planned.drain.len(), "escrow_wei": planned.escrow().to_string(),
        "window_wei": planned.window_then.to_string(), "window_before_wei": planned.window_now.to_string(),
        "parts": planned.work.parts, "bytes": planned.work.bytes, "sent_bytes": planned.work.sent_bytes,
        "drained_bytes": planned.drained_bytes, "kept_parts": planned.work.kept_parts, "told": planned.plan.promises(),
    })
}

fn whole(bucket: &str, planned: &Redundancy, recoded: &Recoded, ended: &Ended) -> Value {
    let to = planned.plan.shape;
    json!({
        "schema": "hodei.data.redundancy/1", "bucket": bucket, "k": to.k(), "n": to.n(), "survives": to.t(),
        "spread": spread(&to), "escrow_wei": planned.escrow().to_string(), "parts": recoded.parts, "bytes": recoded.bytes,
        "swaps": recoded.swaps, "kept_parts": recoded.kept_parts,
        "short_parts": recoded.short_parts, "ended_deals": ended.closed.ended,
        "closing_deals": ended.closed.closing, "refund_wei": ended.closed.refunded.to_string(), "holding_deals": ended.holding_deals,
    })
}

fn done(bucket: &str, planned: &Redundancy, recoded: &Recoded, ended: &Ended) -> String {
    let to = planned.plan.shape;
    let mut text = format!(
        "hodei://{bucket} is {} of {} now: {} stored again in {} parts",
        to.k(),
        to.n(),
        bytes(recoded.bytes),
        recoded.parts
    );
    text.push_str(&again::ended(&ended.closed));
    if recoded.kept_parts > 0 {
        text.push_str(&format!("; {} parts keep their shape", recoded.kept_parts));
    }
    text.push_str(&again::short(recoded));
    if ended.holding_deals > 0 {
        text.push_str(&format!(
            "; {} deals that are not needed still hold something: run it again later",
            ended.holding_deals
        ));
    }
    text
}
