//! Make one side have what the other has: a folder, a bucket, another S3 server.
//!
//! ```text
//! list both sides → compare → plan and price → agree → carry, several at once → remove what is extra
//! ```
//! What is the same by size and etag or time is not carried again, so that a command that was stopped goes on by
//! being run again. Nothing is removed unless all was carried.

mod carry;
mod compare;
mod listing;
mod place;
mod price;
mod progress;

pub(crate) use carry::down;
pub(crate) use progress::Shared;

use crate::{
    args::DataSync,
    bucket,
    data::finish,
    fault::{self, Fault, Result},
    file, money, name,
    out::{Out, bytes},
    session::{Session, sdk_fault},
};
use alloy_primitives::U256;
use carry::Way;
use compare::{Item, Items, Steps, What, compare};
use futures::{StreamExt as _, stream};
use hodei_gateway::foreign::Server;
use hodei_sdk::Local;
use place::Place;
use price::Price;
use serde_json::json;
use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::atomic::{AtomicU64, Ordering},
};

/// Failures in a row after which the rest would fail too.
const FAILURES_MAX: u64 = 20;
/// Failures that are told one by one.
const TOLD_MAX: usize = 20;
/// Objects carried at once where nobody says, and small ones.
const AT_ONCE: usize = 8;
const SMALL_AT_ONCE: usize = 64;
const SMALL_BYTES: u64 = 64 << 10;
/// Objects removed at once: their changes of the index are swapped in together.
const REMOVED_AT_ONCE: usize = 64;

/// One source and its target, with all that is known of them.
struct Pair {
    from: Place,
    to: Place,
    source: Items,
    steps: Steps,
    /// Objects that only their customers' keys open: they are not carried, nor is what is there in their place removed.
    sealed: u64,
    /// Files to be removed, where the target is a folder.
    extra: Vec<(String, PathBuf)>,
    price: Option<Price>,
}

/// What was done, and what failed.
#[derive(Default)]
struct Outcome {
    carried: u64,
    carried_bytes: u64,
    removed: u64,
    /// What another server gives only to who has the key it was put with: that shows when it is asked for.
    sealed: u64,
    failures: Vec<(String, Fault)>,
}

/// `hodei data sync`.
pub(crate) async fn sync(args: &DataSync, session: &Session, out: Out) -> Result<()> {
    let (from, to) = (Place::read(&args.from)?, Place::read(&args.to)?);
    let is_foreign = matches!(from, Place::Foreign { .. } | Place::AllForeign);
    let server = if is_foreign { Some(place::server(&args.server)?) } else { None };
    let cloud = session.cloud().await?;
    let mut written = Vec::new();
    let done = run(args, (from, to), server.as_ref(), &cloud, &mut written, out).await;
    finish(&cloud, out).await;
    // What was carried counts among what is to be paid for once its roots are posted.
    for bucket in &written {
        bucket::tell_pay(&cloud, bucket, out).await;
    }
    done
}

/// Carries; names the buckets of ours that were written to, whatever came of it.
async fn run(
    args: &DataSync,
    (from, to): (Place, Place),
    server: Option<&Server>,
    cloud: &Local,
    written: &mut Vec<String>,
    out: Out,
) -> Result<()> {
    let mut pairs = Vec::new();
    for (from, to) in sides(from, to, server).await? {
        pairs.push(prepare(args, from, to, server, cloud, out).await?);
    }
    let copies: u64 = pairs.iter().map(|pair| pair.steps.copy.len() as u64).sum();
    let copy_bytes: u64 = pairs.iter().map(|pair| pair.steps.copy_bytes).sum();
    let removals: u64 = pairs.iter().map(|pair| pair.steps.remove.len() as u64).sum();
    let same: u64 = pairs.iter().map(|pair| pair.steps.same).sum();
    let sealed: u64 = pairs.iter().map(|pair| pair.sealed).sum();
    tell_sealed(sealed, out);
    let window: U256 = pairs.iter().filter_map(|pair| pair.price.as_ref()).map(|price| price.window).sum();
    let escrow: U256 = pairs.iter().filter_map(|pair| pair.price.as_ref()).map(Price::escrow).sum();
    let told = |schema: &str| {
        json!({
            "schema": schema, "from": args.from, "to": args.to, "copy": copies, "copy_bytes": copy_bytes, "same": same,
            "remove": removals, "window_wei": window.to_string(), "escrow_wei": escrow.to_string(),
            "buckets": pairs.len(), "sealed": sealed,
        })
    };
    if args.plan.dry_run {
        pairs.iter().for_each(|pair| list(pair, out));
        out.result(
            format!("{copies} to carry ({}), {removals} to remove, {same} are the same", bytes(copy_bytes)),
            &told("hodei.data.sync.plan/1"),
        );
        return Ok(());
    }
    let makes = pairs.iter().any(|pair| pair.price.as_ref().is_some_and(|price| price.plan.is_some()));
    if copies + removals > 0 || makes {
        let paid = if makes { format!("Put {} in escrow, carry", money::show(escrow)) } else { "Carry".into() };
        out.confirm(&format!("{paid} {copies} ({}), remove {removals}?", bytes(copy_bytes)), args.plan.yes)?;
    }
    let progress = Shared::new(out.progress("sync", Some(copy_bytes)));
    let mut outcome = Outcome::default();
    for pair in &pairs {
        if let Place::Cloud { bucket, .. } = &pair.to
            && !pair.steps.copy.is_empty()
        {
            written.push(bucket.clone());
        }
        act(args, pair, server, cloud, &progress, &mut outcome).await?;
    }
    drop(progress);
    tell_sealed(outcome.sealed, out);
    tell(&outcome.failures, "hodei.data.sync.failure/1", out);
    let mut value = told("hodei.data.sync/1");
    value["carried"] = json!(outcome.carried);
    value["carried_bytes"] = json!(outcome.carried_bytes);
    value["removed"] = json!(outcome.removed);
    value["sealed"] = json!(sealed + outcome.sealed);
    value["failed"] = json!(outcome.failures.len());
    let price = if copies > 0 && !window.is_zero() {
        format!("; about {} a window", money::show(window))
    } else {
        String::new()
    };
    out.result(
        format!(
            "carried {} ({}), removed {}, {same} were the same{price}",
            outcome.carried,
            bytes(outcome.carried_bytes),
            outcome.removed
        ),
        &value,
    );
    failed(outcome.failures, outcome.carried, copies - outcome.sealed)
}

/// The sides one by one, where all buckets of another server are meant.
async fn sides(from: Place, to: Place, server: Option<&Server>) -> Result<Vec<(Place, Place)>> {
    let wrong = |from: &Place, to: &Place| {
        Fault::new(&fault::REFERENCE, "these two sides cannot be brought together", "carry it through a bucket")
            .between(
                "a folder and a bucket, or another server and a bucket",
                format!("{} and {}", from.show(), to.show()),
            )
    };
    match (&from, &to, server) {
        (Place::AllForeign, Place::AllCloud, Some(server)) => {
            let names = server.buckets().await.map_err(place::foreign_fault)?;
            let pair = |bucket: String| {
                hodei_sdk::bucket::check_name(&bucket).map_err(sdk_fault)?;
                let prefix = String::new();
                let to = Place::Cloud { bucket: bucket.clone(), prefix: prefix.clone() };
                Ok((Place::Foreign { bucket, prefix }, to))
            };
            names.into_iter().map(pair).collect()
        }
        (Place::Folder(_) | Place::Foreign { .. }, Place::Cloud { .. }, _)
        | (Place::Cloud { .. }, Place::Folder(_), _) => Ok(vec![(from, to)]),
        (Place::Cloud { bucket, prefix }, Place::Cloud { bucket: other, prefix: below }, _)
            if bucket != other || !(prefix.starts_with(below.as_str()) || below.starts_with(prefix.as_str())) =>
        {
            Ok(vec![(from, to)])
        }
        _ => Err(wrong(&from, &to)),
    }
}

/// Lists both sides, compares them, and finds the price.
async fn prepare(
    args: &DataSync,
    from: Place,
    to: Place,
    server: Option<&Server>,
    cloud: &Local,
    out: Out,
) -> Result<Pair> {
    let source = items(&from, true, server, cloud, out).await?;
    let mut target = items(&to, false, server, cloud, out).await?;
    if let Place::Folder(root) = &to {
        target = named_after(&source, root, target);
    }
    let mut steps = compare(&source, &target, args.delete, args.checksum);
    let sealed = steps.leave(&source, compare::is_sealed);
    for name in std::mem::take(&mut steps.look) {
        let (here, there) = (&source[&name], &target[&name]);
        let (path, entry) = match (&here.what, &there.what) {
            (What::File(path), What::Object(entry)) | (What::Object(entry), What::File(path)) => (path, entry),
            _ => unreachable!("only a file and an object are looked at"),
        };
        if file::is_same(path, entry).await? {
            steps.same += 1;
        } else {
            steps.copy_bytes += here.size_bytes;
            steps.copy.push(name);
        }
    }
    out.say(format!(
        "{} → {}: {} to carry ({}), {} the same, {} to remove",
        from.show(),
        to.show(),
        steps.copy.len(),
        bytes(steps.copy_bytes),
        steps.same,
        steps.remove.len()
    ));
    let price = match &to {
        Place::Cloud { bucket, .. } => {
            let price =
                price::price(cloud, bucket, (steps.copy.len(), steps.copy_bytes), price::class(args.class)).await?;
            if let Some(plan) = &price.plan {
                out.say(format!("hodei://{bucket} is made first:"));
                plan.lines().iter().for_each(|line| out.say(format!("  {line}")));
            }
            if !steps.copy.is_empty() {
                out.say(format!("price:   {}", price::line(&price)));
            }
            Some(price)
        }
        _ => None,
    };
    let path = |name: &String| match &target.get(name)?.what {
        What::File(path) => Some((name.clone(), path.clone())),
        _ => None,
    };
    let extra = steps.remove.iter().filter_map(path).collect();
    Ok(Pair { from, to, source, steps, sealed, extra, price })
}

/// A folder's files under the names of the objects they were made of: what was cut to fit a file system does not
/// lead back to its key.
fn named_after(source: &Items, root: &std::path::Path, files: Items) -> Items {
    let path = |name: &String| root.join(name::encode(name, is_folder(source, name)));
    let names: BTreeMap<PathBuf, &String> = source.keys().map(|name| (path(name), name)).collect();
    let named = |(read, item): (String, Item)| match &item.what {
        What::File(path) => (names.get(path).map_or(read, |name| (*name).clone()), item),
        _ => (read, item),
    };
    files.into_iter().map(named).collect()
}

/// Whether other names lie below this one.
fn is_folder(items: &Items, name: &str) -> bool {
    let below = format!("{name}/");
    items.range(below.clone()..).next().is_some_and(|(next, _)| next.starts_with(&below))
}

async fn items(place: &Place, is_source: bool, server: Option<&Server>, cloud: &Local, out: Out) -> Result<Items> {
    match (place, server) {
        (Place::Folder(root), _) => listing::folder(root, is_source, out),
        // A target that is not there has nothing; it is made.
        (Place::Cloud { bucket, .. }, _) if !is_source && cloud.bucket(bucket).await.map_err(sdk_fault)?.is_none() => {
            Ok(Items::new())
        }
        (Place::Cloud { bucket, prefix }, _) => listing::cloud(cloud, bucket, prefix).await,
        (Place::Foreign { bucket, prefix }, Some(server)) => listing::foreign(server, bucket, prefix).await,
        _ => Ok(Items::new()),
    }
}

/// Each step, for a dry run.
fn list(pair: &Pair, out: Out) {
    for (action, names) in [("carry", &pair.steps.copy), ("remove", &pair.steps.remove)] {
        for name in names {
            let size = pair.source.get(name).map_or(0, |item| item.size_bytes);
            out.result(
                format!("{action}  {name}"),
                &json!({ "schema": "hodei.data.sync.step/1", "action": action, "to": pair.to.show(), "name": name, "size_bytes": size }),
            );
        }
    }
}

/// Carries, then removes.
async fn act(
    args: &DataSync,
    pair: &Pair,
    server: Option<&Server>,
    cloud: &Local,
    progress: &Shared,
    outcome: &mut Outcome,
) -> Result<()> {
    if let (Place::Cloud { bucket, .. }, Some(Price { plan: Some(plan), .. })) = (&pair.to, &pair.price) {
        cloud.create_bucket(bucket, plan).await.map_err(sdk_fault)?;
    }
    let way = Way { cloud, server, from: &pair.from, to: &pair.to };
    let in_row = AtomicU64::new(0);
    // Small ones wait for the bucket's next change, which takes along all that wait.
    let is_small = |name: &&String| pair.source[*name].size_bytes < SMALL_BYTES;
    let (small, large): (Vec<&String>, Vec<&String>) = pair.steps.copy.iter().partition(is_small);
    let at_once = |without: usize| args.parallel.map_or(without, usize::from);
    let before = outcome.failures.len();
    for (names, at_once) in [(small, at_once(SMALL_AT_ONCE)), (large, at_once(AT_ONCE))] {
        let carried = stream::iter(names)
            .map(|name| {
                let (way, in_row, item) = (&way, &in_row, &pair.source[name]);
                let is_folder = is_folder(&pair.source, name);
                async move {
                    if in_row.load(Ordering::Relaxed) >= FAILURES_MAX {
                        return (name, item.size_bytes, None);
                    }
                    let result = way.carry(name, item, is_folder, progress.told()).await;
                    match &result {
                        Err(fault) if is_sealed(fault) => {}
                        Ok(()) => in_row.store(0, Ordering::Relaxed),
                        Err(_) => _ = in_row.fetch_add(1, Ordering::Relaxed),
                    }
                    (name, item.size_bytes, Some(result))
                }
            })
            .buffer_unordered(at_once);
        let mut carried = std::pin::pin!(carried);
        while let Some((name, size, result)) = carried.next().await {
            match result {
                Some(Ok(())) => {
                    outcome.carried += 1;
                    outcome.carried_bytes += size;
                }
                Some(Err(fault)) if is_sealed(&fault) => outcome.sealed += 1,
                Some(Err(fault)) => outcome.failures.push((name.clone(), fault)),
                None => {}
            }
        }
    }
    // What is extra may be all that is left of what could not be carried.
    if outcome.failures.len() > before {
        return Ok(());
    }
    match &pair.to {
        Place::Cloud { bucket, prefix } => {
            let removals = stream::iter(&pair.steps.remove)
                .map(|name| async move { (name, cloud.remove(bucket, &format!("{prefix}{name}")).await) });
            let mut removals = std::pin::pin!(removals.buffer_unordered(REMOVED_AT_ONCE));
            while let Some((name, result)) = removals.next().await {
                match result {
                    Ok(()) | Err(hodei_sdk::Fault::NoObject { .. }) => outcome.removed += 1,
                    Err(error) => outcome.failures.push((name.clone(), sdk_fault(error))),
                }
            }
        }
        Place::Folder(_) => {
            for (name, path) in &pair.extra {
                match std::fs::remove_file(path) {
                    Ok(()) => outcome.removed += 1,
                    Err(error) => outcome.failures.push((name.clone(), Fault::io(path, "removing the file", &error))),
                }
            }
        }
        _ => {}
    }
    Ok(())
}

/// Names what failed, one by one.
pub(crate) fn tell(failures: &[(String, Fault)], schema: &str, out: Out) {
    for (name, fault) in failures.iter().take(TOLD_MAX) {
        out.say(format!("✗ {name}: {} {}", fault.code.id, fault.message));
        if out.json {
            out.result("", &json!({ "schema": schema, "name": name, "code": fault.code.id, "message": fault.message }));
        }
    }
    if failures.len() > TOLD_MAX {
        out.say(format!("✗ and {} more", failures.len() - TOLD_MAX));
    }
}

/// Whether only its customer's key opens what was to be carried: that is left where it is, and no failure.
fn is_sealed(fault: &Fault) -> bool {
    fault.code.id == fault::SEALED.id
}

fn tell_sealed(count: u64, out: Out) {
    if count > 0 {
        out.say(format!("note: {count} objects are sealed by keys of those who put them, and are left out"));
    }
}

/// Whether the same would fail again: the other server was there, and refused or cannot be asked for it.
fn is_final(fault: &Fault) -> bool {
    [fault::FOREIGN.id, fault::NO_FOREIGN.id].contains(&fault.code.id)
}

/// What failed, as one fault: the first itself where nothing succeeded.
pub(crate) fn failed(mut failures: Vec<(String, Fault)>, done: u64, wanted: u64) -> Result<()> {
    match (failures.is_empty(), done) {
        (true, _) => Ok(()),
        (false, 0) => Err(failures.remove(0).1),
        _ => Err(Fault::new(
            &fault::CARRIED_PART,
            "some of it failed, and what came is whole",
            match failures.iter().find(|(_, fault)| is_final(fault)) {
                Some((name, fault)) => format!("{name}: {}; then run the same command again", fault.help),
                None => "run the same command again".into(),
            },
        )
        .between(format!("{wanted} carried"), format!("{done} carried, {} failed", failures.len()))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn items(names: &[&str], what: impl Fn(&str) -> What) -> Items {
        let item = |name: &str| Item { size_bytes: 1, etag: "e".into(), modified_ms: 1, what: what(name) };
        names.iter().map(|name| ((*name).to_owned(), item(name))).collect()
    }

    #[test]
    fn files_are_known_again_whatever_their_keys_were() {
        let long = "ä".repeat(400);
        let keys = ["a", "a/b", "a//c", "..", long.as_str()];
        let source = items(&keys, |_| What::Foreign);
        let root = std::path::Path::new("/root");
        let files: Items = keys
            .iter()
            .map(|key| name::encode(key, is_folder(&source, key)))
            .map(|path| {
                let what = What::File(root.join(&path));
                (name::decode(&path), Item { size_bytes: 1, etag: String::new(), modified_ms: 1, what })
            })
            .chain(items(&["other"], |name| What::File(root.join(name))))
            .collect();
        let named = named_after(&source, root, files);
        let mut want: Vec<&str> = keys.to_vec();
        want.push("other");
        want.sort_unstable();
        assert_eq!(named.keys().map(String::as_str).collect::<Vec<_>>(), want);
        assert!(is_folder(&source, "a") && !is_folder(&source, "a/b"));
    }

    #[test]
    fn what_failed_is_told_by_its_own_code_where_nothing_came() {
        let one = || vec![("a".to_owned(), Fault::new(&fault::FOREIGN_AWAY, "away", "again"))];
        assert!(failed(Vec::new(), 0, 0).is_ok());
        assert_eq!(failed(one(), 0, 3).unwrap_err().code.id, "HD3011");
        let part = failed(one(), 2, 3).unwrap_err();
        assert_eq!((part.code.id, part.help.as_str()), ("HD3012", "run the same command again"));
        let refused = vec![("a/../b".to_owned(), Fault::new(&fault::FOREIGN, "no", "copy it to another key"))];
        let part = failed(refused.into_iter().chain(one()).collect(), 2, 3).unwrap_err();
        assert_eq!(part.help, "a/../b: copy it to another key; then run the same command again");
    }
}
