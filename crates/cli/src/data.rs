//! Keep buckets and objects.

use crate::{
    args::{DataCp, DataList, DataRm, Wait},
    bucket::{self, list_buckets},
    fault::{self, Fault, Result},
    file::{Target, keep},
    kind, locate,
    out::{Out, bytes, table},
    paths::write_whole,
    session::{Session, sdk_fault},
    status::short,
    time, versions,
};
use bytes::Bytes;
use futures::{Stream, StreamExt as _, TryStreamExt as _, stream};
use hodei_sdk::{
    Local,
    change::Removal,
    cloud::Blamed,
    object::PAGE_MAX,
    storage,
    upload::{Options, Put},
};
use serde_json::json;
use std::{
    io::SeekFrom,
    path::{Path, PathBuf},
    sync::Mutex,
};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncSeekExt as _};

/// Bytes read from a file at once.
const PIECE_BYTES: usize = 256 << 10;

/// `hodei://BUCKET/KEY`; the key may be empty.
pub(crate) fn reference(text: &str) -> Option<(&str, &str)> {
    let rest = text.strip_prefix("hodei://")?;
    Some(rest.split_once('/').unwrap_or((rest, "")))
}

pub(crate) fn object(text: &str) -> Result<(&str, &str)> {
    reference(text).filter(|(bucket, key)| !bucket.is_empty() && !key.is_empty()).ok_or_else(|| {
        Fault::new(&fault::REFERENCE, "that names no object", "write hodei://BUCKET/KEY")
            .between("hodei://BUCKET/KEY", format!("{text:?}"))
    })
}

/// `hodei data cp`.
pub(crate) async fn cp(args: &DataCp, session: &Session, out: Out) -> Result<()> {
    match (reference(&args.from), reference(&args.to)) {
        (None, Some((bucket, key))) => {
            let key = match key {
                "" => Path::new(&args.from).file_name().and_then(|name| name.to_str()).unwrap_or(""),
                key if key.ends_with('/') && args.from != "-" => {
                    let name = Path::new(&args.from).file_name().and_then(|name| name.to_str()).unwrap_or("");
                    return upload(args, bucket, &format!("{key}{name}"), session, out).await;
                }
                key => key,
            };
            upload(args, bucket, key, session, out).await
        }
        (Some(_), None) => download(args, session, out).await,
        _ => Err(Fault::new(
            &fault::REFERENCE,
            "one side must be in the cloud, the other here",
            "write hodei://BUCKET/KEY on one side",
        )
        .between("a file and hodei://BUCKET/KEY", format!("{:?} and {:?}", args.from, args.to))),
    }
}

async fn upload(args: &DataCp, bucket: &str, key: &str, session: &Session, out: Out) -> Result<()> {
    object(&format!("hodei://{bucket}/{key}"))?;
    if let Some(receipt) = &args.receipt {
        fresh(receipt)?;
    }
    let file = match args.from.as_str() {
        "-" => None,
        path => Some(source_file(Path::new(path)).await?),
    };
    let total = file.as_ref().and_then(|file| file.size);
    let cloud = session.cloud().await?;
    let wait = match args.wait {
        Wait::Quorum => storage::Wait::Quorum,
        Wait::Full => storage::Wait::Full,
    };
    let progress = Mutex::new(out.progress(format!("put {key}"), total));
    let options = Options {
        wait,
        content_type: kind::of(Path::new(key)).into(),
        progress: Some(Box::new(move |told| {
            progress.lock().unwrap_or_else(|held| held.into_inner()).set(told.stored_bytes)
        })),
        ..Options::default()
    };
    let put = match file {
        None => cloud.put(bucket, key, pieces(tokio::io::stdin()), options).await,
        // A pipe with a name can be read once, as one without.
        Some(Source { path, size: None }) => cloud.put(bucket, key, pieces_from(path, 0), options).await,
        Some(Source { path, .. }) => {
            cloud.put_again(bucket, key, |offset| pieces_from(path.clone(), offset), options).await
        }
    };
    let put = match put {
        Ok(put) => put,
        Err(error) => {
            finish(&cloud, out).await;
            return Err(sdk_fault(error));
        }
    };
    let receipt = match &args.receipt {
        Some(path) => receipt(&cloud, &put, path).await,
        None => Ok(()),
    };
    // What was put counts among what is to be paid for once its roots are posted; they are also where no receipt could be
    // written.
    let faults = finish(&cloud, out).await;
    receipt?;
    let windows = bucket::tell_pay(&cloud, bucket, out).await;
    let size = put.entry.size_bytes();
    let resumed = match put.resumed_bytes {
        0 => String::new(),
        resumed => format!(" ({} of it by an interrupted put before)", bytes(resumed)),
    };
    out.result(
        format!("put {} as hodei://{bucket}/{key}{resumed}, acknowledged by {} providers", bytes(size), put.acks.len()),
        &json!({
            "schema": "hodei.data.put/1", "bucket": bucket, "key": key, "size_bytes": size, "etag": put.entry.etag,
            "acks": put.acks.len(), "event": put.event, "receipt": args.receipt, "resumed_bytes": put.resumed_bytes,
            "faults": faults, "windows_left": windows,
        }),
    );
    out.next(match &args.receipt {
        Some(path) => format!("hodei verify {} --file {}", path.display(), args.from),
        None => format!("hodei data where hodei://{bucket}/{key}"),
    });
    Ok(())
}

/// Refuses a receipt's file before anything is spent: one that exists, or that could not be written.
fn fresh(receipt: &Path) -> Result<()> {
    if receipt.symlink_metadata().is_ok() {
        return Err(Fault::new(
            &fault::EXISTS,
            "the receipt's file exists, and is never overwritten",
            "choose another name",
        )
        .at(receipt.display()));
    }
    let folder = receipt.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    match std::fs::metadata(folder) {
        Ok(metadata) if metadata.is_dir() => Ok(()),
        Ok(_) => Err(Fault::new(&fault::FOLDER, "the receipt's folder is a file", "name a file in a folder")
            .at(folder.display())),
        Err(error) => Err(Fault::io(folder, "finding the receipt's folder", &error)),
    }
}

/// What is put, if it has a name.
struct Source {
    path: PathBuf,
    /// `None`: what is no regular file is read once, to its end.
    size: Option<u64>,
}

async fn source_file(path: &Path) -> Result<Source> {
    let io = |error| Fault::io(path, "opening the file", &error);
    let metadata = tokio::fs::metadata(path).await.map_err(io)?;
    if metadata.is_dir() {
        return Err(Fault::new(&fault::REFERENCE, "that is a folder", "copy its files one by one").at(path.display()));
    }
    let size = metadata.is_file().then_some(metadata.len());
    if size.is_some() {
        // Before anything is sent: one that may not be read is told at once.
        tokio::fs::File::open(path).await.map_err(io)?;
    }
    Ok(Source { path: path.into(), size })
}

/// Waits until the put is anchored, and writes what proves it.
pub(crate) async fn receipt(cloud: &Local, put: &Put, path: &Path) -> Result<()> {
    let bytes = cloud.receipt(put).await.map_err(sdk_fault)?;
    let path = std::path::absolute(path).map_err(|error| Fault::io(path, "finding the file", &error))?;
    write_whole(&path, &bytes, 0o644)
}

async fn download(args: &DataCp, session: &Session, out: Out) -> Result<()> {
    let (bucket, key) = object(&args.from)?;
    if args.receipt.is_some() {
        return Err(Fault::new(&fault::USAGE, "--receipt is of a put", "leave it out when copying out of the cloud"));
    }
    let cloud = session.cloud().await?;
    let got = get(&cloud, bucket, key, &args.to, out).await;
    // Also where nothing came back: who failed is told and recorded.
    let faults = finish(&cloud, out).await;
    let size = got?;
    if args.to != "-" {
        out.result(
            format!("got {} of hodei://{bucket}/{key} into {}", bytes(size), args.to),
            &json!({ "schema": "hodei.data.get/1", "bucket": bucket, "key": key, "size_bytes": size, "file": args.to, "faults": faults }),
        );
    }
    Ok(())
}

/// Writes an object to a file, which appears whole or not at all, or to standard output.
pub(crate) async fn get(cloud: &Local, bucket: &str, key: &str, to: &str, out: Out) -> Result<u64> {
    let (entry, body) = cloud.get(bucket, key, None).await.map_err(sdk_fault)?;
    let size = entry.size_bytes();
    let target = if to == "-" { Target::Output } else { Target::Replace(to.into()) };
    keep(body, target, out.progress(format!("get {key}"), Some(size))).await?;
    Ok(size)
}

/// `hodei data list`.
pub(crate) async fn list(args: &DataList, session: &Session, out: Out) -> Result<()> {
    let cloud = session.cloud().await?;
    let Some(text) = &args.bucket else {
        return list_buckets(&cloud, out).await;
    };
    let (bucket, prefix) = reference(text).unwrap_or((text, ""));
    if args.versions {
        return versions::list(&cloud, bucket, prefix, out).await;
    }
    let mut after: Option<String> = None;
    let mut rows = Vec::new();
    loop {
        let page = cloud.list(bucket, prefix, after.as_deref(), None, PAGE_MAX).await.map_err(sdk_fault)?;
        for (key, entry) in &page.entries {
            if out.json {
                out.result(
                    "",
                    &json!({
                        "schema": "hodei.data.object/1", "bucket": bucket, "key": key, "size_bytes": entry.size_bytes(),
                        "modified_ms": entry.modified_ms, "etag": entry.etag, "content_type": entry.content_type,
                    }),
                );
            } else {
                rows.push(vec![
                    time::utc(entry.modified_ms),
                    bytes(entry.size_bytes()),
                    format!("hodei://{bucket}/{key}"),
                ]);
            }
        }
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    if !out.json {
        out.line(&if rows.is_empty() {
            "nothing is there".into()
        } else {
            table(&["CHANGED", "SIZE", "OBJECT"], &rows)
        });
    }
    Ok(())
}

/// `hodei data rm`.
pub(crate) async fn rm(args: &DataRm, session: &Session, out: Out) -> Result<()> {
    let version = args.version.as_deref().map(locate::version).transpose()?;
    if let Some((bucket, "")) = reference(&args.object)
        && version.is_none()
    {
        return bucket::remove(bucket, args.yes, session, out).await;
    }
    let (bucket, key) = object(&args.object)?;
    let cloud = session.cloud().await?;
    let is_there = match version {
        Some(_) => cloud.look(bucket, key, version).await.map_err(sdk_fault)?.is_some(),
        None => cloud.head(bucket, key).await.map_err(sdk_fault)?.is_some(),
    };
    if !is_there {
        let (bucket, key) = (bucket.to_owned(), key.to_owned());
        return Err(sdk_fault(match version {
            Some(version) => hodei_sdk::Fault::NoVersion { bucket, key, version },
            None => hodei_sdk::Fault::NoObject { bucket, key },
        }));
    }
    tell_links(&cloud, bucket, Some(key), out).await?;
    let what = match version {
        Some(version) => format!("version {version} of hodei://{bucket}/{key}"),
        None => format!("hodei://{bucket}/{key}"),
    };
    out.confirm(&format!("Remove {what}? It does not come back."), args.yes)?;
    let removal = Removal { version, ..Removal::default() };
    cloud.remove_as(bucket, key, removal).await.map_err(sdk_fault)?;
    finish(&cloud, out).await;
    let mut value = json!({ "schema": "hodei.data.rm/1", "bucket": bucket, "key": key });
    if let Some(version) = version {
        value["version"] = json!(version.to_string());
    }
    out.result(format!("removed {what}"), &value);
    Ok(())
}

/// Says which links lead to what is to be removed.
pub(crate) async fn tell_links(cloud: &Local, bucket: &str, key: Option<&str>, out: Out) -> Result<()> {
    let now_ms = time::now_ms();
    let mut shares = cloud.shares(bucket).await.map_err(sdk_fault)?;
    shares.retain(|share| share.expires_ms > now_ms && key.is_none_or(|key| share.shows(key)));
    match (shares.len(), key) {
        (0, _) => {}
        (count, None) => out.say(format!("note: {count} links lead into hodei://{bucket}; they end with it")),
        (count, Some(_)) => out.say(format!(
            "note: {count} links still show it until they end; `hodei share list {bucket}` names them, `hodei share revoke` ends them now"
        )),
    }
    Ok(())
}

/// Posts what is owed to the ledger; what cannot be now is posted by the next command. Names providers that
/// failed a check, and gives them for programs.
pub(crate) async fn finish(cloud: &Local, out: Out) -> Vec<serde_json::Value> {
    tell_end(cloud.close().await, cloud, out)
}

/// The same for a command that only read, which a ledger that is away does not hold for long.
pub(crate) async fn finish_read(cloud: &Local, out: Out) {
    tell_end(cloud.close_read().await, cloud, out);
}

fn tell_end(closed: std::result::Result<(), hodei_sdk::Fault>, cloud: &Local, out: Out) -> Vec<serde_json::Value> {
    match closed {
        Ok(()) => {}
        // As it goes in each window: nothing is wrong, and nobody need do anything.
        Err(hodei_sdk::Fault::ProofFirst) => {
            out.say(
                "note: some providers have not proven this window yet, which may be late in it; what they took is \
                 written down, and later commands tell the ledger",
            );
        }
        Err(error) => {
            out.say(format!("note: the ledger has not taken everything yet ({error}); a later command posts the rest"));
        }
    }
    let blamed = cloud.blamed();
    for Blamed { verdict, times, .. } in &blamed {
        out.say(format!(
            "note: provider {} failed {times} checks, and is recorded: {}",
            short(&verdict.node.to_string()),
            verdict.what
        ));
    }
    let told = |Blamed { verdict, times, event }: &Blamed| {
        json!({
            "node": verdict.node.to_string(), "deal": verdict.deal, "shard": verdict.shard.to_string(),
            "what": verdict.what, "times": times, "event": event,
        })
    };
    blamed.iter().map(told).collect()
}

/// A file's bytes from an offset on, as a put takes them.
pub(crate) fn pieces_from(path: PathBuf, offset: u64) -> impl Stream<Item = std::io::Result<Bytes>> + Send + Unpin {
    let open = async move {
        let mut file = tokio::fs::File::open(path).await?;
        if offset > 0 {
            file.seek(SeekFrom::Start(offset)).await?;
        }
        Ok::<_, std::io::Error>(pieces(file))
    };
    stream::once(open).try_flatten().boxed()
}

/// A reader as the stream a put takes.
pub(crate) fn pieces(
    source: impl AsyncRead + Send + Unpin + 'static,
) -> impl Stream<Item = std::io::Result<Bytes>> + Send + Unpin {
    stream::unfold(Some(source), |source| async move {
        let mut source = source?;
        let mut piece = vec![0; PIECE_BYTES];
        match source.read(&mut piece).await {
            Ok(0) => None,
            Ok(count) => {
                piece.truncate(count);
                Some((Ok(Bytes::from(piece)), Some(source)))
            }
            Err(error) => Some((Err(error), None)),
        }
    })
    .boxed()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_receipt_that_could_not_be_written_is_refused_beforehand() {
        let folder = std::env::temp_dir().join(format!("hodei-receipt-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("file"), "x").unwrap();
        assert!(fresh(&folder.join("new")).is_ok() && fresh(Path::new("no-such-receipt")).is_ok());
        for (path, code) in [("file", "HD1103"), ("file/r", "HD1003"), ("none/r", "HD1004")] {
            assert_eq!(fresh(&folder.join(path)).unwrap_err().code.id, code, "{path}");
        }
        assert!(!folder.join("none").exists(), "nothing is made");
        std::fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn references_are_read_as_written() {
        assert_eq!(reference("hodei://b/k/l"), Some(("b", "k/l")));
        assert_eq!(reference("hodei://b"), Some(("b", "")));
        assert_eq!(reference("file"), None);
        assert_eq!(object("hodei://b/").unwrap_err().code.id, "HD3003");
    }
}
