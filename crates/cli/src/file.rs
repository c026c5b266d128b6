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

/// Copies to one file at once that one number of a process may stand for.
const HALVES_MAX: u32 = 64;

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
    let mut half = None;
    let mut done = 0;
    let outcome = async {
        let mut sink: Box<dyn AsyncWrite + Send + Unpin> = match target {
            Target::Output => Box::new(tokio::io::stdout()),
            _ => {
                let half = half.insert(Half::begin(&path).map_err(io)?);
                Box::new(tokio::fs::File::from_std(half.file.try_clone().map_err(io)?))
            }
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
    let Some(half) = half else {
        return outcome.map(|()| done);
    };
    let appeared = outcome.and_then(|()| target.check()).and_then(|()| appear(&half.path, &path, None).map_err(io));
    if appeared.is_err() {
        // What was half written is no file of the user's.
        let _ = std::fs::remove_file(&half.path);
    }
    appeared.map(|()| done)
}

/// A copy under way that its process alone writes. Locked while this lives: an unlocked one was left by a process that
/// was killed, and the next copy of the same target removes it.
struct Half {
    path: PathBuf,
    file: std::fs::File,
}

impl Half {
    fn begin(target: &Path) -> std::io::Result<Self> {
        remove_left(target);
        // Two copies to one file at once do not meet, not even of processes that have one number on two machines.
        for copy in 0..HALVES_MAX {
            let mut own = std::process::id().to_string();
            if copy > 0 {
                own.push_str(&format!("-{copy}"));
            }
            let path = partial(target).with_extension(own);
            let file = match std::fs::File::options().write(true).create_new(true).open(&path) {
                Ok(file) => file,
                Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => continue,
                Err(error) => return Err(error),
            };
            // Between the two somebody may have taken it for one that was left.
            let is_mine = file.try_lock().is_ok() || !has_locks(&file);
            if is_mine && path.exists() {
                return Ok(Self { path, file });
            }
        }
        Err(std::io::Error::other("other copies of the same file are under way"))
    }
}

/// Whether files can be locked where this one is: some network file systems cannot.
fn has_locks(file: &std::fs::File) -> bool {
    !matches!(file.try_lock(), Err(std::fs::TryLockError::Error(_)))
}

/// Removes copies to `target` that killed processes left. One that is locked, or whose process runs, stays.
fn remove_left(target: &Path) {
    let half = partial(target);
    let Some(folder) = half.parent().map(|folder| if folder.as_os_str().is_empty() { Path::new(".") } else { folder })
    else {
        return;
    };
    let Ok(entries) = std::fs::read_dir(folder) else { return };
    for path in entries.filter_map(|entry| Some(entry.ok()?.path())) {
        let (Some(stem), Some(own)) = (path.file_stem(), path.extension().and_then(|own| own.to_str())) else {
            continue;
        };
        let process = own.split_once('-').map_or(own, |(process, _)| process);
        if Some(stem) != half.file_name() || process.parse::<u32>().is_err() {
            continue;
        }
        let runs = process.parse() != Ok(std::process::id()) && Path::new("/proc").join(process).exists();
        if !runs && std::fs::File::options().write(true).open(&path).is_ok_and(|file| file.try_lock().is_ok()) {
            let _ = std::fs::remove_file(&path);
        }
    }
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
            let mut body = match open(kept).await {
                Ok(body) => body,
                Err(fault) => {
                    if kept == 0 {
                        // Nothing came that could be gone on with.
                        let _ = tokio::fs::remove_file(&half).await;
                    }
                    return Err(fault);
                }
            };
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_killed_copy_left_goes_and_what_others_write_stays() {
        let folder = std::env::temp_dir().join(format!("hodei-file-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let target = folder.join("out");
        let beside = |own: &str| partial(&target).with_extension(own);
        // No process has the first number; the second is one that runs, and writes without a lock.
        let (left, parent) = (beside("4294967294"), beside(&std::os::unix::process::parent_id().to_string()));
        let (other, sync) = (partial(&folder.join("other")).with_extension("4294967294"), partial(&target));
        for path in [&left, &parent, &other, &sync] {
            std::fs::write(path, "half").unwrap();
        }
        let first = Half::begin(&target).unwrap();
        assert!(!left.exists(), "its process is dead");
        assert!(parent.exists() && other.exists() && sync.exists(), "these are somebody's, or another file's");
        // The second copy of one process, or of another machine's process of the same number.
        let second = Half::begin(&target).unwrap();
        assert!(first.path.exists() && first.path != second.path, "it is locked");
        drop(first.file);
        let third = Half::begin(&target).unwrap();
        assert_eq!(third.path, first.path, "nobody holds it any more");
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
