//! Show what is stored of an app's volumes, store them, and carry them in tars.

use super::deploy;
use crate::{
    args::{AppDelete, AppVolume, VolumeBackup, VolumeName, VolumeRestore},
    fault::{Fault, Result},
    out::{Out, bytes, table},
    session::{Later, sdk_fault},
    time::minute,
};
use futures::future::BoxFuture;
use hodei_sdk::{
    Local,
    app::{Apps, Bucket, Deleted, Folder, Vault, Vaults, span},
    link::Link,
};
use serde_json::json;
use std::{
    fs::File,
    io::{BufReader, BufWriter},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};
use tokio::sync::OnceCell;

/// What another one is storing is tried again so often.
const LEAVE_TRIES: u32 = 5;
const LEAVE_PAUSE: Duration = Duration::from_secs(2);

/// Where a wallet's snapshots are: its buckets, and the folder of its apps.
pub(crate) struct Places {
    folder: PathBuf,
    later: Later,
    cloud: OnceCell<Local>,
}

impl Places {
    pub(crate) fn new(folder: PathBuf, later: Later) -> Self {
        Self { folder, later, cloud: OnceCell::new() }
    }
}

impl Vaults for Places {
    fn open<'a>(
        &'a self,
        bucket: Option<&'a str>,
    ) -> BoxFuture<'a, std::result::Result<Arc<dyn Vault>, hodei_sdk::Fault>> {
        Box::pin(async move {
            let Some(bucket) = bucket else { return Ok(Arc::new(Folder(self.folder.clone())) as Arc<dyn Vault>) };
            let cloud = self.cloud.get_or_try_init(|| self.later.open()).await?;
            if cloud.bucket(bucket).await?.is_none() {
                return Err(hodei_sdk::Fault::NoBucket(bucket.to_owned()));
            }
            Ok(Arc::new(Bucket { cloud: cloud.clone(), bucket: bucket.to_owned() }) as Arc<dyn Vault>)
        })
    }

    fn scratch(&self) -> PathBuf {
        self.folder.clone()
    }

    fn close(&self) -> BoxFuture<'_, std::result::Result<(), hodei_sdk::Fault>> {
        Box::pin(async move {
            match self.cloud.get() {
                Some(cloud) => cloud.close().await,
                None => Ok(()),
            }
        })
    }
}

/// `hodei app volume …`
pub(crate) async fn run(args: &AppVolume, apps: &Apps<Link>, out: Out) -> Result<()> {
    let done = match args {
        AppVolume::List(name) => list(&name.app, apps, out).await,
        AppVolume::Snapshot(args) => snapshot(args, apps, out).await,
        AppVolume::Backup(args) => backup(args, apps, out).await,
        AppVolume::Restore(args) => restore(args, apps, out).await,
    };
    close(apps, out).await;
    done
}

/// Brings to an end what was begun with snapshots; what is left is on this machine's disk.
pub(super) async fn close(apps: &Apps<Link>, out: Out) {
    if let Err(fault) = apps.close().await {
        out.say(format!("what is owed for snapshots is posted by a later command: {fault}"));
    }
}

async fn list(name: &str, apps: &Apps<Link>, out: Out) -> Result<()> {
    let all = apps.volumes(name).await.map_err(sdk_fault)?;
    let mut rows = Vec::new();
    for one in &all {
        let head = one.head.as_ref();
        // Of what was never stored its lease alone is known.
        let stored = head.filter(|head| head.tree.is_some());
        rows.push(vec![
            one.volume.name.clone(),
            one.volume.path.clone(),
            bytes(one.volume.bytes),
            stored.map_or_else(|| "nothing yet".into(), |head| format!("{}, {}", head.sequence, minute(head.at_ms))),
            one.vault.clone(),
            span(one.every_secs),
        ]);
        if out.json {
            out.result(
                "",
                &json!({
                    "schema": "hodei.app.volume/1", "app": name, "volume": one.volume.name, "path": one.volume.path,
                    "bytes": one.volume.bytes, "vault": one.vault, "every_secs": one.every_secs,
                    "lease": head.map(|head| head.lease), "generation": head.map(|head| head.generation),
                    "sequence": stored.map(|head| head.sequence), "stored_ms": stored.map(|head| head.at_ms),
                }),
            );
        }
    }
    if all.is_empty() {
        out.say(format!("{name} has no volumes: what it writes ends with its container"));
    } else if !out.json {
        out.line(&table(&["VOLUME", "AT", "SIZE", "STORED", "IN", "EVERY"], &rows));
        out.say("What was written since it was stored is lost with its host. Nothing is stored while nobody keeps it:");
        out.next("hodei app keep");
    }
    Ok(())
}

async fn snapshot(args: &VolumeName, apps: &Apps<Link>, out: Out) -> Result<()> {
    let (name, volume) = (&args.name.app, &args.volume);
    let done = stored(args, apps, out).await?;
    out.result(
        match done.is_new {
            true => format!(
                "{volume} of {name} is stored as {}: {} files, {}, of which {} came",
                done.sequence,
                done.files,
                bytes(done.bytes),
                bytes(done.came)
            ),
            false => format!("{volume} of {name} is as it was stored as {}: {} files", done.sequence, done.files),
        },
        &json!({
            "schema": "hodei.app.volume.snapshot/1", "app": name, "volume": volume, "lease": done.lease,
            "sequence": done.sequence, "is_new": done.is_new, "files": done.files, "bytes": done.bytes,
            "came_bytes": done.came,
        }),
    );
    out.next(format!("hodei app volume list {name}"));
    Ok(())
}

async fn stored(args: &VolumeName, apps: &Apps<Link>, out: Out) -> Result<hodei_sdk::app::Snapshotted> {
    let (name, volume) = (&args.name.app, &args.volume);
    let mut progress = None;
    let tell = |came: u64, of: u64| {
        let progress = progress.get_or_insert_with(|| out.progress(format!("take {volume}"), Some(of)));
        progress.set(came);
    };
    apps.snapshot(name, volume, tell).await.map_err(sdk_fault)
}

async fn backup(args: &VolumeBackup, apps: &Apps<Link>, out: Out) -> Result<()> {
    let (name, volume, path) = (&args.what.name.app, &args.what.volume, Path::new(&args.file));
    if !args.stored
        && let Err(fault) = stored(&args.what, apps, out).await
    {
        let help = format!("take what was stored before: hodei app volume backup {name} {volume} FILE --stored");
        return Err(Fault { help, ..fault });
    }
    // Nothing that has its name is half of it.
    let new = path.with_extension("tar.new");
    let file = File::create(&new).map_err(|error| Fault::io(path, "writing it", &error))?;
    let done = apps.backup(name, volume, BufWriter::new(&file)).await.map_err(sdk_fault);
    let kept = match &done {
        Ok(_) => file.sync_all().and_then(|()| std::fs::rename(&new, path)),
        Err(_) => std::fs::remove_file(&new),
    };
    let done = done?;
    kept.map_err(|error| Fault::io(path, "writing it", &error))?;
    out.result(
        format!("{}: {} files, {}, as of {}", args.file, done.files, bytes(done.bytes), minute(done.at_ms)),
        &json!({
            "schema": "hodei.app.volume.backup/1", "app": name, "volume": volume, "file": args.file,
            "files": done.files, "bytes": done.bytes, "stored_ms": done.at_ms,
        }),
    );
    Ok(())
}

async fn restore(args: &VolumeRestore, apps: &Apps<Link>, out: Out) -> Result<()> {
    let (name, volume, path) = (&args.what.name.app, &args.what.volume, Path::new(&args.file));
    let file = File::open(path).map_err(|error| Fault::io(path, "reading it", &error))?;
    out.say(format!(
        "{name}: what is on {volume} now is replaced by {}; its lease ends, and it is placed again with it",
        args.file
    ));
    out.confirm("Replace it?", args.yes)?;
    let mut tell = deploy::teller(out);
    let done = apps.restore(name, volume, BufReader::new(file), &mut tell).await.map_err(sdk_fault)?;
    out.result(
        format!("{volume} of {name} has {} files, {}", done.files, bytes(done.bytes)),
        &json!({
            "schema": "hodei.app.volume.restore/1", "app": name, "volume": volume, "file": args.file,
            "files": done.files, "bytes": done.bytes,
        }),
    );
    out.next(format!("hodei app show {name}"));
    Ok(())
}

/// Ends an app, with what is on its volumes stored before: deployed again it goes on with that.
pub(super) async fn delete(name: &str, args: &AppDelete, apps: &Apps<Link>, out: Out) -> Result<Deleted> {
    let record = apps.record(name).map_err(sdk_fault)?;
    let bucket = apps.volume_bucket(&record).map_err(sdk_fault)?;
    if !args.unsaved && !args.volumes {
        let names = record.manifest.container().map(|container| &container.volumes[..]).unwrap_or_default();
        for volume in names {
            leave(name, &volume.name, apps, out).await?;
        }
    }
    let deleted = apps.delete(name).await.map_err(sdk_fault);
    if args.volumes && deleted.is_ok() {
        let forgotten = apps.forget_volumes(&record, bucket.as_deref()).await.map_err(sdk_fault)?;
        out.say(format!("{name}: what was stored of {forgotten} volumes is removed"));
    }
    close(apps, out).await;
    deleted
}

/// Stores what is on a volume, if there is anything that was told what is on it.
async fn leave(name: &str, volume: &str, apps: &Apps<Link>, out: Out) -> Result<()> {
    let mut tries = 0;
    loop {
        match apps.snapshot(name, volume, |_, _| ()).await {
            Ok(stored) => {
                out.say(format!("{name}: {volume} is stored as {}, and stays", stored.sequence));
                return Ok(());
            }
            // Nothing runs, or it waits for its volumes still: there is nothing that was not stored.
            Err(hodei_sdk::Fault::NoReplica { .. }) => return Ok(()),
            Err(fault) if tries < LEAVE_TRIES && !matches!(fault, hodei_sdk::Fault::AppAway(..)) => tries += 1,
            Err(fault) => {
                let help = format!(
                    "end it without what was written since it was stored last: hodei app delete {name} --unsaved"
                );
                return Err(Fault { help, ..sdk_fault(fault) });
            }
        }
        // Whoever keeps it may be at it.
        tokio::time::sleep(LEAVE_PAUSE).await;
    }
}

/// Of a plan: what is lost with a host, where there is something to lose.
pub(crate) fn tell_loss(spec: &hodei_sdk::app::Spec, out: Out) {
    let Some((volumes, every_secs)) = spec.volumes() else { return };
    let of = |volume: &hodei_types::app::volume::Volume| {
        format!("{} at {}, {}", volume.name, volume.path, bytes(volume.bytes))
    };
    let all: Vec<String> = volumes.iter().map(of).collect();
    let place =
        spec.draft.bucket.as_ref().map_or_else(|| "on this machine".into(), |name| format!("in hodei://{name}"));
    out.say(format!(
        "{}: volumes {}; stored {place} each {} while `hodei app keep` or `serve` runs: what was written since is lost \
         with its host",
        spec.name,
        all.join("; "),
        span(every_secs)
    ));
}
