//! Write what comes to a file, which appears whole or not at all.
//!
//! A copy under way lies beside its target under a name of its own; the same copy begun again goes on behind the
//! last whole part that is right.

use crate::{
    fault::{self, Fault, Result},
    out::Progress,
    session::sdk_fault,
};
use alloy_primitives::{hex, keccak256};
use futures::StreamExt as _;
use hodei_sdk::{
    Entry,
    content::{self, Checker},
    object::Body,
};
use std::{
    io::SeekFrom,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};
use tokio::io::{AsyncSeekExt as _, AsyncWrite, AsyncWriteExt as _};

/// What names of this program's own files in a user's folder begin with.
pub(crate) const OWN: &str = ".hodei-";

/// Where bytes go.
pub(crate) enum Target {
    /// Standard output.
    Output,
    Replace(PathBuf),
    /// Refused where something is.
    Fresh(PathBuf),
}

impl Target {
    pub(crate) fn path(&self) -> &Path {
        match self {
            Self::Output => Path::new("-"),
            Self::Replace(path) | Self::Fresh(path) => path,
        }
    }

    fn check(&self) -> Result<()> {
        match self {
            Self::Fresh(path) if path.symlink_metadata().is_ok() => {
                Err(Fault::new(&fault::EXISTS, "there is a file of that name", "name another behind the link")
                    .at(path.display()))
            }
            _ => Ok(()),
        }
    }
}

/// The name a copy has until it is whole.
fn partial(target: &Path) -> PathBuf {
    let name = target.file_name().map(|name| name.as_encoded_bytes().to_vec()).unwrap_or_default();
    target.with_file_name(format!("{OWN}part-{}", hex::encode(&keccak256(name)[..8])))
}

/// Writes a body to its end; gives its bytes.
pub(crate) async fn keep(mut body: Body, target: Target, mut progress: Progress) -> Result<u64> {
    target.check()?;
    let path = target.path().to_owned();
    let io = |error| Fault::io(&path, "writing the file", &error);
    // Two copies to one file at once do not meet.
    let half = partial(&path).with_extension(std::process::id().to_string());
    let mut done = 0;
    let outcome = async {
        let mut sink: Box<dyn AsyncWrite + Send + Unpin> = match target {
            Target::Output => Box::new(tokio::io::stdout()),
            _ => Box::new(tokio::fs::File::create(&half).await.map_err(io)?),
        };
        while let Some(piece) = body.next().await {
            let piece = piece.map_err(sdk_fault)?;
            sink.write_all(&piece).await.map_err(io)?;
            done += piece.len() as u64;
            progress.set(done);
        }
        sink.flush().await.map_err(io)
    }
    .await;
    drop(progress);
    if matches!(target, Target::Output) {
        return outcome.map(|()| done);
    }
    let appeared = outcome.and_then(|()| target.check()).and_then(|()| appear(&half, &path, None).map_err(io));
    if appeared.is_err() {
        // What was half written is no file of the user's.
        let _ = std::fs::remove_file(&half);
    }
    appeared.map(|()| done)
}

/// Gives a whole copy its name; durable first.
fn appear(half: &Path, path: &Path, modified: Option<SystemTime>) -> std::io::Result<()> {
    let file = std::fs::File::options().write(true).open(half)?;
    if let Some(modified) = modified {
        file.set_modified(modified)?;
    }
    file.sync_all()?;
    std::fs::rename(half, path)
}

/// A copy of an object to be made or gone on with.
pub(crate) struct Copy<'a> {
    pub(crate) entry: &'a Entry,
    pub(crate) path: &'a Path,
    /// When it was changed, in milliseconds since 1970.
    pub(crate) modified_ms: u64,
}

impl Copy<'_> {
    /// Writes the object, from wherever an earlier copy stopped; each part is checked against its hash before it
    /// counts. `open` gives the bytes from an offset on, `told` is told of bytes as they are there.
    pub(crate) async fn write<F>(&self, open: impl FnOnce(u64) -> F, told: impl Fn(u64)) -> Result<()>
    where
        F: Future<Output = Result<Body>>,
    {
        let Self { entry, path, modified_ms } = *self;
        let io = |error| Fault::io(path, "writing the file", &error);
        if let Some(folder) = path.parent() {
            tokio::fs::create_dir_all(folder).await.map_err(io)?;
        }
        let half = partial(path);
        let mut options = tokio::fs::OpenOptions::new();
        let mut file = options.read(true).write(true).create(true).truncate(false).open(&half).await.map_err(io)?;
        let kept = if file.metadata().await.map_err(io)?.len() == 0 { 0 } else { kept(&half, entry).await? };
        file.set_len(kept).await.map_err(io)?;
        file.seek(SeekFrom::Start(kept)).await.map_err(io)?;
        told(kept);
        let wrong = |error: content::ContentError| {
            Fault::new(&fault::CONTENT_FALSE, error, "run the same command again").at(path.display())
        };
        let mut checker = Checker::new(&entry.parts, kept);
        if kept < entry.size_bytes() {
            let mut body = open(kept).await?;
            while let Some(piece) = body.next().await {
                let piece = piece.map_err(sdk_fault)?;
                checker.update(&piece).map_err(wrong)?;
                file.write_all(&piece).await.map_err(io)?;
                told(piece.len() as u64);
            }
        }
        checker.finish().map_err(wrong)?;
        file.flush().await.map_err(io)?;
        drop(file);
        let (half, path) = (half.clone(), path.to_owned());
        let modified = SystemTime::UNIX_EPOCH + Duration::from_millis(modified_ms);
        let done = tokio::task::spawn_blocking(move || appear(&half, &path, Some(modified))).await;
        done.map_err(|error| Fault::new(&fault::INTERNAL, error, "run the same command again"))?.map_err(io)
    }
}

async fn kept(half: &Path, entry: &Entry) -> Result<u64> {
    let (path, entry) = (half.to_owned(), entry.clone());
    let read = tokio::task::spawn_blocking(move || content::kept_bytes(std::fs::File::open(path)?, &entry)).await;
    let read = read.map_err(|error| Fault::new(&fault::INTERNAL, error, "run the same command again"))?;
    read.map_err(|error| Fault::io(half, "reading what was copied before", &error))
}

/// Whether a file holds exactly an object's bytes.
pub(crate) async fn is_same(path: &Path, entry: &Entry) -> Result<bool> {
    let (file, entry) = (path.to_owned(), entry.clone());
    let read = tokio::task::spawn_blocking(move || {
        let file = std::fs::File::open(file)?;
        Ok::<_, std::io::Error>(file.metadata()?.len() == entry.size_bytes() && content::is_same(file, &entry)?)
    });
    let read = read.await.map_err(|error| Fault::new(&fault::INTERNAL, error, "run the same command again"))?;
    read.map_err(|error| Fault::io(path, "reading the file", &error))
}
