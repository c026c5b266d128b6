//! Write all of a bucket as ordinary files.
//!
//! Each object becomes a file named after its key; older versions go below `.hodei-versions`. What a file cannot
//! say, such as metadata and tags, is in `.hodei-objects.jsonl`, an object a line. What is there already with the
//! same size and time is kept, so that a command that was stopped goes on by being run again.

use crate::{
    args::DataExport,
    data::{finish, reference},
    fault::{Fault, Result},
    name,
    out::{Out, bytes},
    paths::write_whole,
    session::{Session, sdk_fault},
    sync::{Shared, down, failed, tell},
};
use futures::{StreamExt as _, stream};
use hodei_sdk::{
    Entry, Local,
    list::{Marker, Versioned},
    mtime::changed_ms,
    object::PAGE_MAX,
};
use serde_json::{Value, json};
use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    time::UNIX_EPOCH,
};

/// Older versions.
const VERSIONS: &str = ".hodei-versions";
/// What each file was.
const LIST: &str = ".hodei-objects.jsonl";
/// Failures after which the rest would fail too.
const FAILURES_MAX: usize = 20;

/// A bucket on its way into a folder.
struct Job {
    bucket: String,
    root: PathBuf,
    files: Vec<File>,
    /// One line each, of objects that have no file too.
    list: String,
    /// Sealed by keys of others: nothing here opens them.
    sealed: u64,
}

/// A version and the file it becomes.
struct File {
    key: String,
    entry: Entry,
    path: PathBuf,
}

/// `hodei data export`.
pub(crate) async fn export(args: &DataExport, session: &Session, out: Out) -> Result<()> {
    let cloud = session.cloud().await?;
    let done = run(args, &cloud, out).await;
    finish(&cloud, out).await;
    done
}

async fn run(args: &DataExport, cloud: &Local, out: Out) -> Result<()> {
    let root =
        std::path::absolute(&args.folder).map_err(|error| Fault::io(&args.folder, "finding the folder", &error))?;
    let (bucket, prefix) = reference(&args.bucket).unwrap_or((&args.bucket, ""));
    let wanted: Vec<(String, PathBuf)> = match bucket {
        "" => {
            let all = cloud.buckets().await.map_err(sdk_fault)?.into_iter();
            all.map(|record| (record.name.clone(), root.join(&record.name))).collect()
        }
        bucket => vec![(bucket.to_owned(), root)],
    };
    let (mut files, mut total, mut same, mut carried, mut carried_bytes, mut sealed) =
        (0u64, 0u64, 0u64, 0u64, 0u64, 0u64);
    let mut jobs = Vec::new();
    for (bucket, root) in wanted {
        let mut job = prepare(cloud, bucket, root, prefix, args.versions).await?;
        let before = job.files.len();
        job.files.retain(|file| !is_there(&file.path, &file.entry));
        same += (before - job.files.len()) as u64;
        files += job.files.len() as u64;
        total += job.files.iter().map(|file| file.entry.size_bytes()).sum::<u64>();
        sealed += job.sealed;
        jobs.push(job);
    }
    out.say(format!("{files} files to write ({}), {same} are there", bytes(total)));
    let progress = Shared::new(out.progress("export", Some(total)));
    let mut failures = Vec::new();
    for job in &jobs {
        std::fs::create_dir_all(&job.root).map_err(|error| Fault::io(&job.root, "making the folder", &error))?;
        write_whole(&job.root.join(LIST), job.list.as_bytes(), 0o644)?;
        let written = stream::iter(&job.files).map(|file| {
            let told = progress.told();
            async move { (file, down(cloud, &job.bucket, &file.key, &file.entry, &file.path, told).await) }
        });
        let mut written = std::pin::pin!(written.buffer_unordered(args.parallel.into()));
        while failures.len() < FAILURES_MAX {
            match written.next().await {
                None => break,
                Some((file, Err(fault))) => failures.push((format!("hodei://{}/{}", job.bucket, file.key), fault)),
                Some((file, Ok(()))) => {
                    carried += 1;
                    carried_bytes += file.entry.size_bytes();
                }
            }
        }
    }
    drop(progress);
    tell(&failures, "hodei.data.export.failure/1", out);
    if sealed > 0 {
        out.say(format!("note: {sealed} objects are sealed by keys of those who put them; they are in {LIST} only"));
    }
    out.result(
        format!("wrote {carried} files ({}) of {} buckets, {same} were there", bytes(carried_bytes), jobs.len()),
        &json!({
            "schema": "hodei.data.export/1", "buckets": jobs.len(), "written": carried, "written_bytes": carried_bytes,
            "same": same, "sealed": sealed, "failed": failures.len(), "folder": args.folder,
        }),
    );
    failed(failures, carried, files)
}

/// Lists a bucket, and says what becomes which file.
async fn prepare(cloud: &Local, bucket: String, root: PathBuf, prefix: &str, with_versions: bool) -> Result<Job> {
    let mut found: Vec<Versioned> = Vec::new();
    let mut after: Option<Marker> = None;
    loop {
        let from = after.as_ref().map(|(key, version)| (key.as_str(), *version));
        let page = cloud.list_versions(&bucket, prefix, from, None, PAGE_MAX).await.map_err(sdk_fault)?;
        found.extend(page.entries.into_iter().filter(|found| found.is_newest || with_versions));
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    let keys: BTreeSet<String> = found.iter().map(|found| found.key.clone()).collect();
    let mut job = Job { bucket, root, files: Vec::new(), list: String::new(), sealed: 0 };
    for Versioned { key, entry, is_newest } in found {
        let has_file = !entry.marker && entry.customer.is_none();
        job.sealed += u64::from(!entry.marker && entry.customer.is_some());
        let path = path(&keys, &key, &entry, is_newest);
        let mut line = line(&key, &entry, is_newest);
        line["file"] = if has_file { json!(path) } else { Value::Null };
        job.list.push_str(&format!("{line}\n"));
        if has_file {
            job.files.push(File { path: job.root.join(path), key, entry });
        }
    }
    Ok(job)
}

/// Where a version goes, relative to the folder.
fn path(keys: &BTreeSet<String>, key: &str, entry: &Entry, is_newest: bool) -> String {
    let below = format!("{key}/");
    let is_folder = keys.range(below.clone()..).next().is_some_and(|next| next.starts_with(&below));
    if is_newest {
        return name::encode(key, is_folder);
    }
    // A folder for each key: names of keys and of versions do not meet in it.
    format!("{VERSIONS}/{}/{}", name::encode_part(key), entry.version)
}

/// What is known of a version besides its bytes.
fn line(key: &str, entry: &Entry, is_newest: bool) -> Value {
    json!({
        "key": key, "version": entry.version.to_string(), "is_newest": is_newest, "is_delete_marker": entry.marker,
        "size_bytes": entry.size_bytes(), "modified_ms": entry.modified_ms, "etag": entry.etag,
        "content_type": entry.content_type, "meta": entry.meta, "tags": entry.tags,
    })
}

/// Whether a file is what an earlier run wrote.
fn is_there(path: &Path, entry: &Entry) -> bool {
    let Ok(data) = path.symlink_metadata() else { return false };
    let modified = data.modified().ok().and_then(|at| at.duration_since(UNIX_EPOCH).ok());
    let modified_ms = modified.map_or(0, |since| since.as_millis() as u64);
    data.is_file() && data.len() == entry.size_bytes() && modified_ms.abs_diff(changed_ms(entry)) <= 1
}

#[cfg(test)]
mod tests {
    use super::*;
    use hodei_sdk::index::Version;

    #[test]
    fn versions_and_keys_never_meet() {
        let keys: BTreeSet<String> = ["a", "a/b", "b", ".hodei-versions/b/null"].map(str::to_owned).into();
        let entry = |version| Entry { version, ..Entry::default() };
        let mut seen = BTreeSet::new();
        for key in &keys {
            for (version, is_newest) in [(Version::Null, true), (Version::Null, false), (Version::Id([7; 16]), false)] {
                assert!(seen.insert(path(&keys, key, &entry(version), is_newest)), "{key} {version}");
            }
        }
        assert!(seen.contains("a%2F") && seen.contains("a/b") && seen.contains(".hodei-versions/a%2Fb/null"));
    }
}
