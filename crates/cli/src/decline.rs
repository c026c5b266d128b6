//! Have this machine refuse shards, and show what it refuses.
//!
//! An order is left in the node's folder: the node that runs there carries it out within a second, or the one that starts
//! there next. Who asks for one of these shards is told so under the node's key.

use crate::{
    args::NodeDecline,
    earnings::counted,
    fault::{self, Fault, Result},
    out::{Out, table},
    serve, time,
};
use hodei_node::{
    home::{Home, HomeError},
    provider::decline::{self, Order, Told, shard_id},
};
use hodei_types::slice::ShardId;
use serde_json::json;
use std::{
    collections::BTreeSet,
    path::Path,
    time::{Duration, Instant},
};

/// A node looks for orders twice a second; ten thousands of shards take it seconds.
const DONE_WITHIN: Duration = Duration::from_secs(120);
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// It may be asking the ledger whose its deals are.
const TOLD_WITHIN: Duration = Duration::from_secs(30);

/// `hodei node decline`.
pub(crate) fn decline(args: &NodeDecline, folder: &Path, out: Out) -> Result<()> {
    let home = provider(folder)?;
    let help = "`hodei data where --stripes --json` names each shard of an object; whoever complains must name theirs";
    if let Some(text) = args.ids.iter().find(|text| shard_id(text).is_none()) {
        return Err(
            Fault::new(&fault::USAGE, "that is no shard's id", help).between("64 hex digits", format!("{text:?}"))
        );
    }
    let is_id = |bucket: &String| bucket.starts_with("0x") && shard_id(bucket).is_some();
    if let Some(bucket) = args.bucket.as_ref().filter(|bucket| !is_id(bucket)) {
        let help = "`hodei node earnings --json` and the node's log name deals; the ledger names the bucket of each";
        return Err(Fault::new(&fault::USAGE, "that is no bucket's id", help)
            .between("0x and 64 hex digits", format!("{bucket:?}")));
    }
    if args.ids.is_empty() && args.bucket.is_none() {
        return Err(Fault::new(&fault::USAGE, "nothing was named that is to be declined", help)
            .between("shards' ids or --bucket", "neither"));
    }
    // Each once, however often and in whatever letters it was named.
    let ids: BTreeSet<ShardId> = args.ids.iter().filter_map(|text| shard_id(text)).collect();
    let what = match (&args.bucket, ids.len()) {
        (None, count) => counted(count as u64, "shard"),
        (Some(bucket), 0) => format!("all it holds now of bucket {bucket}"),
        (Some(bucket), count) => {
            format!("{} and all it holds now of bucket {bucket}", counted(count as u64, "shard"))
        }
    };
    let order = Order {
        ids: ids.iter().map(ToString::to_string).collect(),
        bucket: args.bucket.clone(),
        ground: args.reason.clone(),
        note: args.note.clone(),
    };
    out.say(format!(
        "Decline {what}, ground: {}. It gives and takes none of them from then on and says so under its key; they are let \
         go of and paid for no more once their owner's next root is on the ledger. There is no way back for an id.",
        args.reason
    ));
    out.say("Price: 0 hod, and no fee: nothing is sent to the ledger by this.");
    if args.plan.dry_run {
        let is_ready = home.read_ready().is_some();
        let told = if is_ready { told(&home, &order, folder)? } else { None };
        // Who was killed still seems ready; its lock is free.
        let running = told.is_some() || is_ready && matches!(home.lock(), Err(HomeError::Locked { .. }));
        out.say(match &told {
            Some(told) => format!(
                "It names {}, of which {} are held here now and {} declined already.",
                counted(told.shards, "shard"),
                told.held,
                told.declined
            ),
            None => silence(running).to_owned(),
        });
        let plan = json!({
            "schema": "hodei.node.decline.plan/1", "shards": ids.len(), "bucket": args.bucket,
            "ground": args.reason, "price_wei": "0", "named_shards": told.as_ref().map(|told| told.shards),
            "held_shards": told.as_ref().map(|told| told.held), "declined_shards": told.as_ref().map(|told| told.declined),
            "running": running,
        });
        out.result("", &plan);
        return Ok(());
    }
    out.confirm("Decline them?", args.plan.yes)?;
    let file = decline::leave(&home, &order).map_err(serve::home_fault)?;
    let is_running = home.read_ready().is_some();
    let begun = Instant::now();
    while is_running && file.exists() && begun.elapsed() < DONE_WITHIN {
        std::thread::sleep(LOOK_EVERY);
    }
    if let Some(why) = decline::put_aside(&file) {
        return Err(
            Fault::new(&fault::NODE, why, "mend what it names and run the same command again").at(folder.display())
        );
    }
    let is_done = !file.exists();
    let count = decline::list(&home).len();
    let text = match (is_done, is_running) {
        (true, _) => format!("declined; this node declines {} now", counted(count as u64, "shard")),
        (false, true) => "the node has not answered yet: it goes on by itself".to_owned(),
        (false, false) => {
            "no node runs here now: it will decline them when it starts, before anybody reads them".to_owned()
        }
    };
    out.result(
        text,
        &json!({ "schema": "hodei.node.decline/1", "done": is_done, "running": is_running, "declined_shards": count }),
    );
    out.next(format!("hodei node declined --folder {}", folder.display()));
    Ok(())
}

/// Why nothing is told of what a node holds.
fn silence(running: bool) -> &'static str {
    match running {
        true => {
            "The node here did not answer in time: it is busy, or learns from the ledger whose its deals are. Ask again."
        }
        false => "No node runs here now: what it holds of them is told while it does.",
    }
}

/// What the order would come to, by the word of the node that runs here, if it says so in time. What it would refuse is
/// an error as if it were given.
fn told(home: &Home, order: &Order, folder: &Path) -> Result<Option<Told>> {
    let question = decline::ask(home, order).map_err(serve::home_fault)?;
    let begun = Instant::now();
    while question.exists() && begun.elapsed() < TOLD_WITHIN {
        std::thread::sleep(LOOK_EVERY);
    }
    // Nobody reads it any more.
    let _ = std::fs::remove_file(&question);
    match decline::answered(&question) {
        Some(Told { why: Some(why), .. }) => {
            let help = "mend what it names and run the same command again";
            Err(Fault::new(&fault::NODE, why, help).at(folder.display()))
        }
        told => Ok(told),
    }
}

/// `hodei node declined`.
pub(crate) fn declined(folder: &Path, out: Out) -> Result<()> {
    let home = provider(folder)?;
    let lines = decline::list(&home);
    if out.json {
        for line in &lines {
            let value = json!({
                "schema": "hodei.node.declined/1", "node": line.node, "shard": line.id, "since_ms": line.time_ms, "ground": line.ground,
                "statement": line.statement,
            });
            out.result("", &value);
        }
        return Ok(());
    }
    let rows: Vec<_> =
        lines.iter().map(|line| vec![line.id.clone(), time::utc(line.time_ms), line.ground.clone()]).collect();
    let text = match rows.is_empty() {
        true => "nothing is declined here".to_owned(),
        false => table(&["SHARD", "SINCE", "GROUND"], &rows),
    };
    out.line(&text);
    Ok(())
}

/// The folder of a node that offers disk.
fn provider(folder: &Path) -> Result<Home> {
    let checked = serve::check(folder)?;
    if checked.config.provider.is_none() {
        let help = "name the folder of a provider";
        return Err(Fault::new(&fault::SETTINGS, "this node offers nothing", help).at(folder.display()));
    }
    Ok(checked.home)
}
