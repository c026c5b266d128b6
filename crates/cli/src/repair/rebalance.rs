//! Show how evenly a bucket lies on its providers, and even it out.

use crate::{
    again,
    args::DataRepair,
    bucket::bucket_name,
    data::finish,
    fault::{self, Fault, Result},
    money,
    out::{Out, bytes, table},
    session::{Session, sdk_fault},
    status::short,
};
use hodei_sdk::{
    recode::Options,
    repair::{Rebalance, Rebalanced, Share},
};
use serde_json::{Value, json};
use std::sync::{Mutex, PoisonError};

/// `hodei data repair --rebalance`.
pub(super) async fn rebalance(args: &DataRepair, session: &Session, out: Out) -> Result<()> {
    let name = bucket_name(&args.bucket)?;
    let cloud = session.cloud().await?;
    let progress = Mutex::new(None);
    let told = |done, total| {
        let mut progress = progress.lock().unwrap_or_else(PoisonError::into_inner);
        progress.get_or_insert_with(|| out.progress(format!("look at {name}"), Some(total))).set(done);
    };
    let planned = cloud.plan_rebalance(name, args.new, args.windows, told).await.map_err(sdk_fault)?;
    drop(progress);
    let rate = again::rate(args.rate);
    out.result(shares_text(&planned.shares), &plan(name, &planned));
    plan_text(name, &planned, rate).into_iter().for_each(|line| out.say(line));
    if args.plan.dry_run || planned.is_done() {
        if !args.plan.dry_run {
            cloud.end_rebalance(name).await.map_err(sdk_fault)?;
        }
        finish(&cloud, out).await;
        if !args.plan.dry_run {
            let done = Rebalanced { shares: planned.shares.clone(), ..Rebalanced::default() };
            out.result("", &tell(name, &planned, &done));
        }
        out.next(match planned.is_done() {
            true => format!("hodei data list hodei://{name}"),
            false => format!("hodei data repair {name} --rebalance"),
        });
        return Ok(());
    }
    out.confirm(&format!("Put {} in escrow and begin?", money::show(planned.escrow())), args.plan.yes)?;
    out.say("Stopped at any point, the same command goes on.");
    let done = cloud.rebalance(name, &planned, options(name, planned.move_bytes, rate, out)).await.map_err(sdk_fault);
    finish(&cloud, out).await;
    let done = done?;
    out.result(done_text(name, &done), &tell(name, &planned, &done));
    if let Some(why) = done.failures.first() {
        let message = format!("some shards stayed where they are; the first reason: {why}");
        let help = "run the same command again: it goes on; `hodei status` shows the providers";
        return Err(Fault::new(&fault::GET_SHORT, message, help));
    }
    out.next(format!("hodei data repair {name} --dry-run"));
    Ok(())
}

/// At most at this rate, with a bar.
fn options(bucket: &str, total: u64, rate: Option<u64>, out: Out) -> Options {
    let progress = Mutex::new(out.progress(format!("even out {bucket}"), (total > 0).then_some(total)));
    let told = move |done| progress.lock().unwrap_or_else(PoisonError::into_inner).set(done);
    Options { rate, progress: Some(Box::new(told)) }
}

fn shares_text(shares: &[Share]) -> String {
    let rows: Vec<_> = shares
        .iter()
        .map(|share| {
            let state = match (share.deal, share.takes, share.leaves) {
                (None, ..) => "joins",
                (_, true, _) => "takes shards",
                (_, _, true) => "leaves",
                (_, _, false) => "takes none now",
            };
            let declined = match share.declined {
                0 => String::new(),
                count => format!(", declines {count}"),
            };
            let state = format!("{state}{declined}");
            let node = short(&share.node.to_string());
            vec![share.zone.clone(), node, bytes(share.bytes), bytes(share.bytes_then), state]
        })
        .collect();
    table(&["ZONE", "NODE", "HOLDS", "THEN", "STATE"], &rows)
}

fn plan_text(bucket: &str, planned: &Rebalance, rate: Option<u64>) -> Vec<String> {
    let mut lines = Vec::new();
    if planned.lacking_stripes + planned.unread_parts > 0 {
        lines.push(format!(
            "{} stripes lack a shard and {} parts cannot be looked at now: `hodei data repair {bucket}` puts back what is lost.",
            planned.lacking_stripes, planned.unread_parts
        ));
    }
    lines.extend(beside(bucket, &planned.shares, planned.declined_elsewhere));
    if planned.move_shards == planned.steps_left {
        lines.push(format!(
            "The bucket's overlay takes {} shards more, and then none: parts that are stored again need none.",
            planned.steps_left
        ));
    }
    if planned.is_done() {
        let among = if planned.shares.iter().all(|share| share.takes) { "" } else { " with those that take shards" };
        lines.push(format!("Nothing is to be moved: it lies{among} as evenly as its promise and its deals allow."));
        return lines;
    }
    let (shards, size) = (planned.move_shards, bytes(planned.move_bytes));
    let fair = bytes(planned.fair_bytes);
    let mut moved = format!("To move: {shards} shards, {size}, read and sent as they are; a fair part is {fair}");
    if planned.twins > 0 {
        moved.push_str(&format!("; {} lie at two places, and are released at the older", planned.twins));
    }
    if planned.astray > 0 {
        moved.push_str(&format!("; {} never left where they are, which is said again", planned.astray));
    }
    if let Some(rate) = rate {
        moved.push_str(&format!("; at least {} s at this rate", planned.move_bytes.div_ceil(rate)));
    }
    lines.push(format!("{moved}. A minute after the last, their old places release them."));
    let windows = (planned.window_then, planned.window_now);
    lines.push(again::price(windows, planned.escrow(), (planned.open.len(), 0)));
    lines
}

/// What lies as it does for another reason than chance, and is not for this to mend.
fn beside(bucket: &str, shares: &[Share], declined_elsewhere: u64) -> Vec<String> {
    let mut lines = Vec::new();
    let leaving: Vec<&Share> = shares.iter().filter(|share| share.leaves && share.bytes > 0).collect();
    if !leaving.is_empty() {
        let held = leaving.iter().map(|share| share.bytes).sum();
        lines.push(format!(
            "{} of them do not stay, with {}, which counts for no fair part here: `hodei data repair {bucket}` puts it elsewhere.",
            leaving.len(),
            bytes(held)
        ));
    }
    let declined: u64 = shares.iter().map(|share| share.declined).sum();
    if declined > 0 {
        lines.push(format!(
            "{declined} shards are declined by who was to have them, and move nowhere: `hodei data repair {bucket}` stores them again."
        ));
    }
    if declined_elsewhere > 0 {
        lines.push(format!("{declined_elsewhere} shards lie elsewhere than with who declines them, and stay there."));
    }
    lines
}

fn shares(shares: &[Share]) -> Vec<Value> {
    let share = |share: &Share| {
        json!({
            "node": share.node.to_string(), "zone": share.zone, "deal": share.deal, "bytes": share.bytes,
            "bytes_then": share.bytes_then, "takes": share.takes, "leaves": share.leaves, "shards_declined": share.declined,
        })
    };
    shares.iter().map(share).collect()
}

fn plan(bucket: &str, planned: &Rebalance) -> Value {
    json!({
        "schema": "hodei.data.rebalance.plan/1", "bucket": bucket, "providers": shares(&planned.shares),
        "fair_bytes": planned.fair_bytes, "shards": planned.move_shards, "bytes": planned.move_bytes,
        "twins": planned.twins, "astray": planned.astray, "declined_elsewhere": planned.declined_elsewhere,
        "lacking_stripes": planned.lacking_stripes, "unread_parts": planned.unread_parts,
        "overlay_left": planned.steps_left, "new_deals": planned.open.len(), "escrow_wei": planned.escrow().to_string(),
        "window_wei": planned.window_then.to_string(), "window_before_wei": planned.window_now.to_string(),
    })
}

fn done_text(bucket: &str, done: &Rebalanced) -> String {
    let (size, shards) = (bytes(done.moved_bytes), done.moved_shards);
    let mut text = format!("moved {size} of hodei://{bucket} in {shards} shards\n\n{}", shares_text(&done.shares));
    if done.left > 0 {
        text.push_str(&format!("\n{} shards lie at their old places too: run it again", done.left));
    }
    text
}

fn tell(bucket: &str, planned: &Rebalance, done: &Rebalanced) -> Value {
    json!({
        "schema": "hodei.data.rebalance/1", "bucket": bucket, "shards": done.moved_shards, "bytes": done.moved_bytes,
        "twins": done.twins, "left": done.left, "lacking_stripes": done.lacking_stripes,
        "failed": done.failures.len(), "new_deals": planned.open.len(), "escrow_wei": planned.escrow().to_string(),
        "providers": shares(&done.shares),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use hodei_types::transport::NodeKey;

    #[test]
    fn who_leaves_and_who_declines_are_told_apart_from_who_holds_little() {
        let share = |at: u8, takes, leaves, declined| Share {
            node: NodeKey([at; 32]),
            zone: "a".into(),
            deal: Some(at.into()),
            bytes: 5 << 20,
            bytes_then: 5 << 20,
            takes,
            leaves,
            declined,
        };
        let shares = [share(1, true, false, 0), share(2, false, true, 0), share(3, true, false, 7)];
        let text = shares_text(&shares);
        assert!(text.contains("leaves") && text.contains("takes shards, declines 7"), "{text}");
        let lines = beside("vault", &shares, 0);
        assert!(lines.len() == 2 && lines.iter().all(|line| line.contains("hodei data repair vault")), "{lines:?}");
        assert!(lines[0].contains("5.0 MiB") && lines[1].starts_with("7 shards"), "{lines:?}");
        assert!(beside("vault", &shares[..1], 0).is_empty());
        // What is whole elsewhere is nothing for a repair.
        let lines = beside("vault", &shares[..1], 9);
        assert!(lines.len() == 1 && lines[0].starts_with("9 shards") && !lines[0].contains("repair"), "{lines:?}");
    }
}
