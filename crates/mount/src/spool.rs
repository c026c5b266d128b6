//! Keep what is written in private files until it is stored.
//!
//! One folder a mount, locked while it runs. What a killed mount left is found by the next one: a file that was
//! changed has a note beside it that says what it was to become, and is kept; others were copies, and go.

use crate::{event::Event, fault::Wrong, name};
use serde_json::{Value, json};
use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io,
    os::{
        fd::AsRawFd as _,
        unix::{
            ffi::OsStrExt as _,
            fs::{DirBuilderExt as _, FileExt as _, OpenOptionsExt as _},
        },
    },
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{SystemTime, UNIX_EPOCH},
};

/// What stays free on the disk for everybody else.
const FREE_BYTES_MIN: u64 = 256 << 20;
/// Room is asked of the disk once for so much more.
const GROWTH_BYTES: u64 = 16 << 20;
/// A note is a line.
const NOTE_BYTES_MAX: u64 = 16 << 10;
/// Of a kept file's own name.
const KEPT_NAME_MAX: usize = 100;

/// Names tried for a mount's folder.
const FOLDERS_MAX: u32 = 100;

const KEPT: &str = "kept";
const LOCK: &str = "lock";
const NOTE: &str = "json";

/// The folder of one mount.
pub struct Spool(Arc<Inner>);

struct Inner {
    /// Of all mounts.
    above: PathBuf,
    folder: PathBuf,
    /// Bytes of all its files.
    bytes_max: Option<u64>,
    bytes: AtomicU64,
    next: AtomicU64,
    /// Held while this lives.
    _lock: File,
}

/// The content of one file; gone with its last user, unless it is kept.
pub(crate) struct Scratch {
    spool: Arc<Inner>,
    file: File,
    pub(crate) path: PathBuf,
    /// Bytes it is counted for, and for which the disk was asked.
    counted: AtomicU64,
    asked: AtomicU64,
}

impl Spool {
    /// Opens a folder of its own below `above`, and finds what mounts left there that were killed.
    pub fn open(above: &Path, bytes_max: Option<u64>) -> io::Result<(Self, Vec<Event>)> {
        let private = |folder: &Path| DirBuilder::new().recursive(true).mode(0o700).create(folder);
        private(&above.join(KEPT))?;
        let found = rescue(above)?;
        let (folder, lock) = own_folder(above)?;
        let inner = Inner {
            above: above.to_owned(),
            folder,
            bytes_max,
            bytes: AtomicU64::new(0),
            next: AtomicU64::new(0),
            _lock: lock,
        };
        Ok((Self(Arc::new(inner)), found))
    }

    /// A file for what is to become `object`.
    pub(crate) fn scratch(&self) -> Result<Scratch, Wrong> {
        let path = self.0.folder.join(self.0.next.fetch_add(1, Ordering::Relaxed).to_string());
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path)
            .map_err(|error| refused(&error))?;
        Ok(Scratch { spool: self.0.clone(), file, path, counted: AtomicU64::new(0), asked: AtomicU64::new(0) })
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        // Empty by now; a folder that is not is found by the next mount.
        let _ = fs::remove_file(self.folder.join(LOCK));
        let _ = fs::remove_dir(&self.folder);
    }
}

impl Scratch {
    pub(crate) fn write_at(&self, offset: u64, bytes: &[u8]) -> Result<(), Wrong> {
        let end = offset.checked_add(bytes.len() as u64).ok_or_else(|| Wrong::Full("it would be too long".into()))?;
        self.count(end)?;
        self.file.write_all_at(bytes, offset).map_err(|error| refused(&error))
    }

    /// As many bytes as there are.
    pub(crate) fn read_at(&self, offset: u64, bytes: usize) -> Result<Vec<u8>, Wrong> {
        let mut read = vec![0; bytes];
        let mut at = 0;
        while at < bytes {
            match self.file.read_at(&mut read[at..], offset + at as u64) {
                Ok(0) => break,
                Ok(count) => at += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(refused(&error)),
            }
        }
        read.truncate(at);
        Ok(read)
    }

    pub(crate) fn set_len(&self, bytes: u64) -> Result<(), Wrong> {
        self.count(bytes)?;
        self.file.set_len(bytes).map_err(|error| refused(&error))?;
        let before = self.counted.swap(bytes, Ordering::Relaxed);
        self.spool.bytes.fetch_sub(before.saturating_sub(bytes), Ordering::Relaxed);
        Ok(())
    }

    /// Notes what it is to become, so that it is kept should this process be killed.
    pub(crate) fn note(&self, object: &str) -> Result<(), Wrong> {
        fs::write(self.path.with_extension(NOTE), json!({ "object": object }).to_string())
            .map_err(|error| refused(&error))
    }

    /// It is stored: nothing of it would be missed.
    pub(crate) fn unnote(&self) {
        let _ = fs::remove_file(self.path.with_extension(NOTE));
    }

    /// Puts it where it stays; gives where.
    pub(crate) fn keep(&self, object: &str) -> io::Result<PathBuf> {
        keep(&self.spool.above, &self.path, object)
    }

    /// Counts what it grows by, if there is room for that.
    fn count(&self, end: u64) -> Result<(), Wrong> {
        let before = self.counted.fetch_max(end, Ordering::Relaxed);
        let growth = end.saturating_sub(before);
        if growth == 0 {
            return Ok(());
        }
        let undo = |why: String| {
            self.counted.store(before, Ordering::Relaxed);
            self.spool.bytes.fetch_sub(growth, Ordering::Relaxed);
            Err(Wrong::Full(why))
        };
        let all = self.spool.bytes.fetch_add(growth, Ordering::Relaxed) + growth;
        if let Some(max) = self.spool.bytes_max.filter(|max| all > *max) {
            return undo(format!("what is written and not stored yet would have {all} bytes, {max} are allowed"));
        }
        if end > self.asked.load(Ordering::Relaxed) {
            let free = free_bytes(&self.spool.folder);
            if free < FREE_BYTES_MIN + GROWTH_BYTES.max(growth) {
                let folder = self.spool.folder.display();
                return undo(format!(
                    "the disk of {folder} has {free} bytes free, of which {FREE_BYTES_MIN} stay free"
                ));
            }
            self.asked.store(end + GROWTH_BYTES, Ordering::Relaxed);
        }
        Ok(())
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        self.spool.bytes.fetch_sub(self.counted.load(Ordering::Relaxed), Ordering::Relaxed);
        // Kept ones are elsewhere by now.
        let _ = fs::remove_file(&self.path);
        let _ = fs::remove_file(self.path.with_extension(NOTE));
    }
}

/// A new folder, locked. Another mount that looks for what killed ones left may take it in between: then another.
fn own_folder(above: &Path) -> io::Result<(PathBuf, File)> {
    for at in 0.. {
        let folder = above.join(format!("{}-{}-{at}", now_ms(), std::process::id()));
        match DirBuilder::new().mode(0o700).create(&folder) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && at < FOLDERS_MAX => continue,
            Err(error) => return Err(error),
        }
        match lock(&folder) {
            Ok(Some(lock)) if folder.join(LOCK).exists() => return Ok((folder, lock)),
            Err(error) if error.kind() != io::ErrorKind::NotFound || at == FOLDERS_MAX => return Err(error),
            _ => {}
        }
    }
    unreachable!("it returns from within")
}

fn refused(error: &io::Error) -> Wrong {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => {
            Wrong::Full(format!("this machine's disk: {error}"))
        }
        _ => Wrong::Failed(format!("this machine's disk: {error}")),
    }
}

/// Moves a file to those that stay.
fn keep(above: &Path, file: &Path, object: &str) -> io::Result<PathBuf> {
    let mut named: String =
        name::last(object).chars().map(|letter| if letter.is_control() { '_' } else { letter }).collect();
    while named.len() > KEPT_NAME_MAX {
        named.pop();
    }
    let own = file.file_name().and_then(|name| name.to_str()).unwrap_or("0");
    let kept = above.join(KEPT).join(format!("{}-{own}-{named}", now_ms()));
    // Beside another of its name, never over it.
    fs::hard_link(file, &kept)
        .or_else(|_| if kept.exists() { Err(io::ErrorKind::AlreadyExists.into()) } else { fs::rename(file, &kept) })?;
    let _ = fs::remove_file(file);
    let _ = fs::rename(file.with_extension(NOTE), kept.with_file_name(format!("{}.{NOTE}", file_name(&kept))));
    Ok(kept)
}

fn file_name(path: &Path) -> String {
    path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

/// Keeps what folders hold that no process has locked, and clears them away.
fn rescue(above: &Path) -> io::Result<Vec<Event>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(above)? {
        let folder = entry?.path();
        if !folder.is_dir() || folder.ends_with(KEPT) {
            continue;
        }
        let Some(_lock) = lock(&folder)? else { continue };
        for entry in fs::read_dir(&folder)? {
            let note = entry?.path();
            if note.extension().is_none_or(|extension| extension != NOTE) {
                continue;
            }
            let object = read_note(&note).unwrap_or_else(|| "an object whose name was lost".into());
            let file = note.with_extension("");
            if file.exists() {
                let kept = keep(above, &file, &object)?;
                found.push(Event::Found { object, file: kept });
            }
        }
        fs::remove_dir_all(&folder)?;
    }
    Ok(found)
}

fn read_note(note: &Path) -> Option<String> {
    if fs::metadata(note).ok()?.len() > NOTE_BYTES_MAX {
        return None;
    }
    let note: Value = serde_json::from_slice(&fs::read(note).ok()?).ok()?;
    Some(note["object"].as_str()?.to_owned())
}

/// `None` if another process has it.
fn lock(folder: &Path) -> io::Result<Option<File>> {
    let file = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(folder.join(LOCK))?;
    // SAFETY: the descriptor is open as long as `file` is.
    match unsafe { libc::flock(file.as_raw_fd(), libc::LOCK_EX | libc::LOCK_NB) } {
        0 => Ok(Some(file)),
        _ => match io::Error::last_os_error() {
            error if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            error => Err(error),
        },
    }
}

/// What this user may still write there; everything if nobody knows.
fn free_bytes(folder: &Path) -> u64 {
    let Ok(path) = std::ffi::CString::new(folder.as_os_str().as_bytes()) else { return u64::MAX };
    // SAFETY: a path that ends in a zero, and a plain structure to be filled.
    let room = unsafe {
        let mut room: libc::statvfs = std::mem::zeroed();
        if libc::statvfs(path.as_ptr(), &raw mut room) != 0 {
            return u64::MAX;
        }
        room
    };
    (room.f_bavail as u64).saturating_mul(room.f_frsize as u64)
}

fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Temporary(PathBuf);

    impl Temporary {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("hodei-spool-{name}-{}", std::process::id()));
            let _ = fs::remove_dir_all(&path);
            Self(path)
        }
    }

    impl Drop for Temporary {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn what_is_written_is_counted_and_bounded() {
        let folder = Temporary::new("bounded");
        let (spool, found) = Spool::open(&folder.0, Some(10)).unwrap();
        assert!(found.is_empty());
        let (one, other) = (spool.scratch().unwrap(), spool.scratch().unwrap());
        one.write_at(0, b"123456").unwrap();
        one.write_at(2, b"34").unwrap();
        assert!(matches!(other.write_at(0, b"12345"), Err(Wrong::Full(_))));
        other.write_at(0, b"1234").unwrap();
        assert!(matches!(one.set_len(7), Err(Wrong::Full(_))));
        one.set_len(1).unwrap();
        other.write_at(4, b"56789").unwrap();
        assert_eq!((one.read_at(0, 9).unwrap(), other.read_at(3, 100).unwrap()), (b"1".to_vec(), b"456789".to_vec()));
        drop(other);
        one.write_at(1, b"23456789A").unwrap();
        drop(one);
        assert_eq!(spool.0.bytes.load(Ordering::Relaxed), 0);
        drop(spool);
        assert_eq!(fs::read_dir(&folder.0).unwrap().count(), 1, "only what is kept stays, which is empty");
    }

    #[test]
    fn what_a_killed_mount_changed_is_found_and_copies_go() {
        let folder = Temporary::new("killed");
        let (spool, _) = Spool::open(&folder.0, None).unwrap();
        let (changed, copy) = (spool.scratch().unwrap(), spool.scratch().unwrap());
        changed.write_at(0, b"precious").unwrap();
        changed.note("hodei://photos/a\nb").unwrap();
        copy.write_at(0, b"copy").unwrap();
        let (_, found) = Spool::open(&folder.0, None).unwrap();
        assert!(found.is_empty(), "it runs");
        // As a kill does: nobody cleans up, and the lock is gone.
        let left = spool.0.folder.clone();
        std::mem::forget((changed, copy));
        let aside = folder.0.join("aside");
        fs::rename(&left, &aside).unwrap();
        drop(spool);
        let killed = folder.0.join("killed");
        fs::create_dir(&killed).unwrap();
        for entry in fs::read_dir(&aside).unwrap() {
            let path = entry.unwrap().path();
            fs::copy(&path, killed.join(path.file_name().unwrap())).unwrap();
        }
        fs::remove_dir_all(&aside).unwrap();
        let (_spool, found) = Spool::open(&folder.0, None).unwrap();
        let [Event::Found { object, file }] = &found[..] else { panic!("{found:?}") };
        assert_eq!((object.as_str(), fs::read(file).unwrap()), ("hodei://photos/a\nb", b"precious".to_vec()));
        assert!(file.starts_with(folder.0.join(KEPT)) && file_name(file).ends_with("a_b"), "{}", file.display());
        assert!(!killed.exists());
    }
}
