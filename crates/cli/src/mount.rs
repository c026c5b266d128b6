//! Show a bucket as a folder, until it is stopped or unmounted.

use crate::{
    args::DataMount,
    budget,
    data::finish,
    fault::{self, Fault, Result},
    kind,
    out::{Out, bytes},
    paths::Paths,
    serve::stopped,
    session::{Session, sdk_fault},
};
use hodei_mount::{Bucket, Config, Event, Folder, Mount, MountError, Spool};
use serde_json::{Value, json};
use std::{
    io::{ErrorKind, Write as _},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

/// Below the user's state.
const SPOOL: &str = "mount";
/// Between looks whether programs have closed what they wrote.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// Before what failed for now is tried again, first.
const REST: Duration = Duration::from_secs(1);

/// Where what is written waits.
pub(crate) fn spool(args: &DataMount, paths: impl FnOnce() -> Result<Paths>) -> Result<PathBuf> {
    let folder = match &args.cache {
        Some(folder) => folder.clone(),
        None => paths()?.state.join(SPOOL),
    };
    std::path::absolute(&folder).map_err(|error| Fault::io(&folder, "finding the folder", &error))
}

/// `NAME`, `NAME/PREFIX`, with or without `hodei://`. A prefix is empty or ends in a slash.
fn place(text: &str) -> Result<(&str, String)> {
    let rest = text.strip_prefix("hodei://").unwrap_or(text);
    let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
    hodei_sdk::bucket::check_name(bucket).map_err(sdk_fault)?;
    let slash = if prefix.is_empty() || prefix.ends_with('/') { "" } else { "/" };
    Ok((bucket, format!("{prefix}{slash}")))
}

/// `hodei data mount`
pub(crate) async fn run(args: &DataMount, spool: &Path, session: &Session, out: Out) -> Result<()> {
    let (bucket, prefix) = place(&args.bucket)?;
    // Before anything is asked of others, or found here.
    hodei_mount::check(&args.folder).map_err(mount_fault)?;
    let stop = stopped(args.process.until_stdin_closes)?;
    let cloud = session.cloud().await?;
    let follower = budget::follow(session.purse.clone(), cloud.clone(), out);
    let store = Bucket::open(cloud.clone(), bucket, kind::of).await.map_err(sdk_fault)?;
    let (spool, found) =
        Spool::open(spool, args.cache_bytes).map_err(|error| Fault::io(spool, "opening the folder", &error))?;
    for event in &found {
        tell(event, out);
    }
    let config = Config {
        prefix: prefix.clone(),
        is_read_only: args.read_only,
        fresh: Duration::from_secs(args.fresh),
        memory_bytes: args.memory << 20,
        rest: REST,
    };
    let kept = Arc::new(AtomicUsize::new(0));
    let counted = kept.clone();
    let folder = Folder::new(store, config, spool, move |event| {
        counted.fetch_add(usize::from(matches!(event, Event::Kept { .. })), Ordering::Relaxed);
        tell(&event, out);
    });
    let name = format!("hodei://{bucket}/{prefix}");
    let mount = hodei_mount::mount(folder.clone(), &name, &args.folder, args.allow_other).map_err(mount_fault)?;
    let target = mount.target().display().to_string();
    out.result(
        format!("{name} is at {target} until Ctrl-C, or: umount {target}"),
        &json!({
            "schema": "hodei.mount.ready/1", "bucket": bucket, "prefix": prefix, "folder": target, "read_only": args.read_only,
        }),
    );
    let ended = until_ended(mount, &folder, stop, out).await;
    folder.settle().await;
    folder.keep_all().await;
    drop(folder);
    follower.abort();
    finish(&cloud, out).await;
    ended?;
    let kept = kept.load(Ordering::Relaxed);
    out.result(
        format!("{target} is unmounted"),
        &json!({ "schema": "hodei.mount.ended/1", "folder": target, "kept": kept }),
    );
    if kept > 0 {
        let help =
            "compare them with what the bucket has, and store what you want: hodei data cp FILE hodei://BUCKET/KEY";
        return Err(Fault::new(&fault::MOUNT_KEPT, format!("{kept} files were kept instead of stored"), help));
    }
    Ok(())
}

/// Waits until somebody unmounts it, or does so when asked to stop; then until what was written is stored. Asked to
/// stop once more it waits no longer.
async fn until_ended(
    mut mount: Mount,
    folder: &Folder<Bucket>,
    stop: impl Future<Output = ()>,
    out: Out,
) -> Result<()> {
    tokio::select! {
        () = mount.ended() => return Ok(()),
        () = stop => {}
    }
    let again = stopped(false)?;
    let (target, number) = mount.place();
    let unmount = async |is_lazy| {
        let target = target.clone();
        tokio::task::spawn_blocking(move || Mount::unmount(&target, number, is_lazy)).await.unwrap_or(Ok(()))
    };
    match unmount(false).await {
        Ok(()) => return Ok(()),
        Err(error) if error.kind() == ErrorKind::ResourceBusy => {}
        Err(error) => return Err(Fault::io(&target, "unmounting", &error)),
    }
    unmount(true).await.map_err(|error| Fault::io(&target, "unmounting", &error))?;
    for object in folder.unstored() {
        out.say(format!("waiting until {object} is closed; Ctrl-C again keeps what was written to it here"));
    }
    let stored = async {
        while !folder.unstored().is_empty() {
            tokio::time::sleep(LOOK_EVERY).await;
        }
    };
    tokio::select! {
        () = mount.ended() => {}
        () = stored => {}
        () = again => {}
    }
    Ok(())
}

/// What happened, as a line.
fn tell(event: &Event, out: Out) {
    let (text, what, more) = match event {
        Event::Stored { object, bytes: count } => {
            (format!("stored {object}, {}", bytes(*count)), "stored", json!({ "object": object, "bytes": count }))
        }
        Event::Kept { object, file, why } => (
            format!("NOT STORED: {object}: {why}\n  what was written is in {}", file.display()),
            "kept",
            json!({ "object": object, "file": file, "why": why }),
        ),
        Event::Found { object, file } => (
            format!("a mount that was killed had not stored {object}\n  what was written is in {}", file.display()),
            "found",
            json!({ "object": object, "file": file }),
        ),
        Event::Retried { object, why } => {
            (format!("{object} is stored again soon: {why}"), "retried", json!({ "object": object, "why": why }))
        }
        Event::Full { object, why } => (
            format!("no room to write {object}: {why}\n  the object stays as it was"),
            "full",
            json!({ "object": object, "why": why }),
        ),
        Event::Failed { object, why } => {
            (format!("{object}: {why}"), "failed", json!({ "object": object, "why": why }))
        }
        Event::Hidden { object } => (
            format!("some keys can be no names in a folder and are not shown, the first of them {object}"),
            "hidden",
            json!({ "object": object }),
        ),
        Event::Ignored { what } => {
            (format!("{what} were set by a program: a bucket keeps none"), "ignored", json!({ "what": what }))
        }
    };
    if !out.json {
        out.say(text);
        return;
    }
    let mut value = json!({ "schema": "hodei.mount.event/1", "event": what });
    if let (Value::Object(value), Value::Object(more)) = (&mut value, more) {
        value.extend(more);
    }
    // A reader that went away ends other commands; this one goes on for those who use the folder.
    let mut to = std::io::stdout().lock();
    let _ = writeln!(to, "{value}").and_then(|()| to.flush());
}

fn mount_fault(error: MountError) -> Fault {
    let (code, help) = match &error {
        MountError::Target { target, error } => return Fault::io(target, "opening the folder", error),
        MountError::NotFolder(_) | MountError::NotEmpty(_) => {
            (&fault::MOUNT, "name an empty folder, or make one".to_owned())
        }
        MountError::Dead(target) => (&fault::MOUNT, format!("run: umount {}", target.display())),
        MountError::NoDevice => {
            (&fault::MOUNT, "run as root: modprobe fuse; in a container: --device /dev/fuse --cap-add SYS_ADMIN".into())
        }
        MountError::System => {
            (&fault::MOUNT, "use `hodei s3 serve` and a program that speaks S3, such as rclone".into())
        }
        MountError::Denied(_) => {
            (&fault::MOUNT_RIGHT, "run as root: apt-get install fuse3, or chmod 666 /dev/fuse; or mount as root".into())
        }
        MountError::NoHelper => (&fault::MOUNT_RIGHT, "run as root: apt-get install fuse3; or mount as root".into()),
        MountError::Refused(error) if error.kind() == ErrorKind::PermissionDenied => (
            &fault::MOUNT_RIGHT,
            "mount a folder of your own; --allow-other needs user_allow_other in /etc/fuse.conf".into(),
        ),
        MountError::Refused(_) => (
            &fault::MOUNT,
            "a container may mount only with --cap-add SYS_ADMIN; `hodei help HD3030` says what else".into(),
        ),
    };
    Fault::new(code, error, help)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_is_named_with_or_without_its_prefix() {
        for (text, bucket, prefix) in [
            ("photos", "photos", ""),
            ("photos/", "photos", ""),
            ("photos/2026", "photos", "2026/"),
            ("hodei://photos/a/b/", "photos", "a/b/"),
        ] {
            assert_eq!(place(text).unwrap(), (bucket, prefix.to_owned()), "{text}");
        }
        for text in ["", "UPPER", "hodei://", "./folder"] {
            assert_eq!(place(text).unwrap_err().code.id, "HD3003", "{text}");
        }
    }

    #[test]
    fn what_is_missing_is_said() {
        let fault = mount_fault(MountError::NoHelper);
        assert!((fault.code.id, fault.exit()) == ("HD3031", 4) && fault.help.contains("fuse3"), "{fault}");
        let fault = mount_fault(MountError::Dead("/mnt/a".into()));
        assert!((fault.code.id, fault.exit()) == ("HD3030", 8) && fault.help.contains("umount /mnt/a"), "{fault}");
        assert_eq!(mount_fault(MountError::NoDevice).exit(), 8);
    }
}
