//! Get what somebody shared: an object, or a folder of them.

use super::parse;
use crate::{
    args::ShareGet,
    data::finish_read,
    fault::{self, Fault, Result},
    file::{Target, keep},
    name::{encode, encode_part},
    out::{Out, bytes},
    session::{Session, sdk_fault},
};
use futures::StreamExt as _;
use hodei_sdk::{
    Local,
    link::Link as Wire,
    share::{Collection, Opened, Record, Told},
};
use hodei_types::share::Link;
use serde_json::{Value, json};
use std::{
    path::{Path, PathBuf},
    sync::{Arc, OnceLock},
    time::{Duration, Instant},
};

/// What came.
struct Got {
    name: String,
    objects: u64,
    size_bytes: u64,
    file: PathBuf,
    /// From asking to the first byte of the first object that has one.
    first_byte: Option<Duration>,
    /// Each provider that gave something, the fastest first.
    from: Vec<Value>,
}

/// `hodei share get`.
pub(crate) async fn get(args: &ShareGet, session: &Session, out: Out) -> Result<()> {
    let link = parse(&args.link)?;
    let (cloud, wire) = cloud_for(&link, session).await?;
    let got = fetch(&cloud, &link, args, out).await;
    // What came is there: that what is owed takes its time where the ledger is away changes nothing of it.
    if let Ok(got) = &got {
        tell(got, &link, out);
    }
    finish_read(&cloud, out).await;
    if let Some(wire) = wire {
        wire.close().await;
    }
    got.map(drop)
}

/// Says what came into which file.
fn tell(got: &Got, link: &Link, out: Out) {
    if got.file != Path::new("-") {
        let (name, file) = (&got.name, got.file.display().to_string());
        let text = match got.objects {
            1 => format!("got {} of {name} into {file}", bytes(got.size_bytes)),
            objects => format!("got {objects} objects, {}, of {name} into {file}", bytes(got.size_bytes)),
        };
        out.result(
            text,
            &json!({
                "schema": "hodei.share.get/1", "name": name, "objects": got.objects, "size_bytes": got.size_bytes,
                "file": file, "first_byte_ms": got.first_byte.map(|took| took.as_millis() as u64),
                "providers": got.from.len(), "from": got.from, "expires_ms": link.expires_ms,
                "reader": link.reader.map(|reader| reader.to_string()),
            }),
        );
    }
}

/// Who has a pass is known by a key of its own, whose link is to be closed in the end; a link is followed without it.
pub(super) async fn cloud_for(link: &Link, session: &Session) -> Result<(Local, Option<Wire>)> {
    match link.reader {
        Some(_) => session.reader_cloud().await.map(|(cloud, wire)| (cloud, Some(wire))),
        None => Ok((session.cloud().await?, None)),
    }
}

async fn fetch(cloud: &Local, link: &Link, args: &ShareGet, out: Out) -> Result<Got> {
    let reading = Reading { cloud, begun: Instant::now(), first: Arc::default(), out };
    let opened = cloud.open_link(link).await.map_err(sdk_fault)?;
    let (to, file) = (args.to.as_deref(), args.file.as_deref());
    let (name, objects, size_bytes, file) = match (&opened.told, file) {
        (Told::One(object), None) => {
            let target = target(to, &object.name);
            let file = reading.object(&opened, object, target).await?;
            (object.name.clone(), 1, object.size_bytes(), file)
        }
        (Told::One(_), Some(_)) => {
            let help = "leave the path out: hodei share get LINK FILE";
            return Err(Fault::new(&fault::USAGE, "the link is of one object, which has no path", help));
        }
        (Told::Many(folder), Some(file)) => {
            let path = to.unwrap_or_default();
            let object = folder.file(path).ok_or_else(|| absent(folder, path))?;
            let target = target(Some(file), last(path));
            let file = reading.object(&opened, object, target).await?;
            (object.name.clone(), 1, object.size_bytes(), file)
        }
        (Told::Many(folder), None) => {
            let root = to.map_or_else(|| PathBuf::from(encode_part(&folder.name)), PathBuf::from);
            fresh(&root)?;
            for object in &folder.files {
                reading.below(&opened, folder, object, &root).await?;
            }
            (folder.name.clone(), folder.files.len() as u64, folder.size_bytes(), root)
        }
    };
    let from = cloud.sources(&opened).into_iter().map(|source| {
        json!({
            "node": source.node.to_string(), "bytes": source.bytes, "reads": source.reads,
            "fastest_ms": source.fastest.as_secs_f64() * 1000.0,
        })
    });
    let first_byte = reading.first.get().copied();
    Ok(Got { name, objects, size_bytes, file, first_byte, from: from.collect() })
}

/// One command's reads, and when the first byte of them came.
struct Reading<'a> {
    cloud: &'a Local,
    begun: Instant,
    first: Arc<OnceLock<Duration>>,
    out: Out,
}

impl Reading<'_> {
    /// An object as a file; gives the file.
    async fn object(&self, opened: &Opened, object: &Record, target: Target) -> Result<PathBuf> {
        let file = target.path().to_owned();
        let body = self.cloud.fetch(opened, object, None).map_err(sdk_fault)?;
        let (begun, first) = (self.begun, self.first.clone());
        let body = body.inspect(move |_| {
            first.get_or_init(|| begun.elapsed());
        });
        let progress = self.out.progress(format!("get {}", object.name), Some(object.size_bytes()));
        keep(body.boxed(), target, progress).await?;
        Ok(file)
    }

    /// One of several, below a folder that was empty. Its path is somebody else's: as a file's name it never leads out.
    async fn below(&self, opened: &Opened, folder: &Collection, object: &Record, root: &Path) -> Result<()> {
        let path = root.join(encode(&object.name, folder.is_folder(&object.name)));
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent).map_err(|error| Fault::io(parent, "making the folder", &error))?;
        }
        self.object(opened, object, Target::Fresh(path)).await.map(drop)
    }
}

/// Where one object goes. What a stranger named never replaces what is here.
fn target(to: Option<&str>, name: &str) -> Target {
    let safe = encode_part(name);
    match to {
        Some("-") => Target::Output,
        Some(path) if Path::new(path).is_dir() => Target::Fresh(Path::new(path).join(&safe)),
        Some(path) => Target::Replace(path.into()),
        None => Target::Fresh(safe.into()),
    }
}

fn last(path: &str) -> &str {
    path.rsplit('/').find(|name| !name.is_empty()).unwrap_or(path)
}

/// Several objects go where nothing is: what strangers named replaces nothing.
fn fresh(root: &Path) -> Result<()> {
    if root == Path::new("-") {
        let help = "name a folder, or the path of one object and -";
        return Err(Fault::new(&fault::USAGE, "several objects do not fit one stream", help));
    }
    match std::fs::read_dir(root) {
        Ok(mut entries) => match entries.next() {
            None => Ok(()),
            Some(_) => Err(Fault::new(
                &fault::EXISTS,
                "the folder holds files already, and what others named replaces none",
                "name an empty or absent folder",
            )
            .at(root.display())),
        },
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(Fault::io(root, "looking into the folder", &error)),
    }
}

fn absent(folder: &Collection, path: &str) -> Fault {
    let mut known: Vec<&str> = folder.files.iter().map(|file| file.name.as_str()).take(5).collect();
    if folder.files.len() > known.len() {
        known.push("…");
    }
    let help = "write the path as the link lists it, or leave it out for all";
    Fault::new(&fault::NO_OBJECT, "the link tells of no such path", help).between(known.join(", "), format!("{path:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_that_holds_something_is_left_alone() {
        let folder = std::env::temp_dir().join(format!("hodei-share-get-{}", std::process::id()));
        std::fs::create_dir_all(folder.join("empty")).unwrap();
        assert!(fresh(&folder.join("empty")).is_ok() && fresh(&folder.join("absent")).is_ok());
        assert_eq!(fresh(&folder).unwrap_err().code.id, "HD1103");
        std::fs::write(folder.join("file"), "x").unwrap();
        assert_eq!(fresh(&folder.join("file")).unwrap_err().code.id, "HD1003");
        assert_eq!(fresh(Path::new("-")).unwrap_err().code.id, "HD1001");
        std::fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn one_object_goes_where_it_was_told_and_replaces_nothing_by_a_strangers_name() {
        let here = std::env::temp_dir();
        let here = here.to_str().unwrap();
        assert!(matches!(target(Some("-"), "a"), Target::Output));
        assert!(
            matches!(target(Some("/no/such/file"), "a"), Target::Replace(path) if path == Path::new("/no/such/file"))
        );
        assert!(matches!(target(Some(here), "../a"), Target::Fresh(path) if path == Path::new(here).join("..%2Fa")));
        assert!(matches!(target(None, ".."), Target::Fresh(path) if path == Path::new("%2E%2E")));
        assert_eq!((last("seg/1.webm"), last("a/"), last("")), ("1.webm", "a", ""));
    }
}
