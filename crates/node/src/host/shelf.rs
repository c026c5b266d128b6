//! Keep what leases run, as it was given: whole after a power cut, or not at all.
//!
//! One file a workload: four bytes of length, the manifest, the component. What is read is hashed again before anybody
//! compiles it or gets it.

use crate::{
    home::{HomeError, replace},
    provider::lock,
};
use bytes::Bytes;
use hodei_sandbox::{Codes, CodesError};
use hodei_types::app::{MANIFEST_BYTES_MAX, Manifest};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::{self, Read},
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

/// A workload no lease names any more is kept for so long: its owner may just be placing it anew.
const UNNAMED: Duration = Duration::from_secs(3600);

pub(super) type Workload = [u8; 32];

/// Why something is not kept.
#[derive(Debug, thiserror::Error)]
pub enum ShelfError {
    #[error("{path}: {source}")]
    Io { path: PathBuf, source: io::Error },
    #[error(transparent)]
    Home(#[from] HomeError),
    #[error(transparent)]
    Codes(#[from] CodesError),
    #[error("the thread that reads components: {0}")]
    Thread(#[from] tokio::task::JoinError),
    #[error("this host keeps {used} bytes of {limit} that it offers for components, and this has {wanted}")]
    Full { used: u64, limit: u64, wanted: u64 },
}

struct Kept {
    manifest: Manifest,
    /// Since when no lease names it.
    unnamed: Option<Instant>,
}

/// The folder of workloads, and what they compile to.
pub(super) struct Shelf {
    folder: PathBuf,
    pub(super) codes: Codes,
    bytes_max: u64,
    kept: Mutex<BTreeMap<Workload, Kept>>,
}

impl Shelf {
    /// Opens the folder; what is no workload in it, such as what a power cut left, is removed.
    pub(super) fn open(folder: PathBuf, codes: Codes, bytes_max: u64) -> Result<Self, ShelfError> {
        let io = |source| ShelfError::Io { path: folder.clone(), source };
        fs::create_dir_all(&folder).map_err(io)?;
        let mut kept = BTreeMap::new();
        for entry in fs::read_dir(&folder).map_err(io)? {
            let path = entry.map_err(io)?.path();
            let found = head(&path).filter(|(manifest, _)| self::path(&folder, &manifest.workload()) == path);
            match found {
                Some((manifest, _)) => {
                    kept.insert(manifest.workload(), Kept { manifest, unnamed: None });
                }
                None => {
                    tracing::warn!(path = %path.display(), "no workload: removed");
                    fs::remove_file(&path).map_err(|source| ShelfError::Io { path, source })?;
                }
            }
        }
        Ok(Self { folder, codes, bytes_max, kept: Mutex::new(kept) })
    }

    pub(super) fn has(&self, workload: &Workload) -> bool {
        lock(&self.kept).contains_key(workload)
    }

    /// Keeps a component that its manifest names. Returns once it is on disk.
    pub(super) fn keep(&self, manifest: &Manifest, wasm: &[u8]) -> Result<(), ShelfError> {
        // One at a time: two that write the same would write one file.
        let mut kept = lock(&self.kept);
        let workload = manifest.workload();
        if kept.contains_key(&workload) {
            return Ok(());
        }
        let used = kept.values().map(|kept| kept.manifest.bytes()).sum::<u64>() + self.codes.bytes()?;
        if used.saturating_add(manifest.bytes()) > self.bytes_max {
            return Err(ShelfError::Full { used, limit: self.bytes_max, wanted: manifest.bytes() });
        }
        let head = manifest.encode();
        let length = (head.len() as u32).to_be_bytes();
        replace(&path(&self.folder, &workload), &[&length[..], &head, wasm].concat(), 0o600)?;
        kept.insert(workload, Kept { manifest: manifest.clone(), unnamed: None });
        Ok(())
    }

    /// Reads it beside everybody else: reading and hashing 32 MiB would hold them up.
    pub(super) async fn read(self: &Arc<Self>, workload: Workload) -> Result<Option<(Manifest, Bytes)>, ShelfError> {
        let shelf = self.clone();
        tokio::task::spawn_blocking(move || shelf.get(&workload)).await?
    }

    /// Reads it, if it is kept and still what its manifest names; what rotted is removed.
    fn get(&self, workload: &Workload) -> Result<Option<(Manifest, Bytes)>, ShelfError> {
        if !self.has(workload) {
            return Ok(None);
        }
        let path = path(&self.folder, workload);
        let read = head(&path).filter(|(manifest, _)| manifest.workload() == *workload);
        let whole = read.filter(|(manifest, wasm)| manifest.check_component(wasm).is_ok());
        if whole.is_none() {
            tracing::error!(path = %path.display(), "this component rotted: it is fetched again");
            self.remove(workload)?;
        }
        Ok(whole.map(|(manifest, wasm)| (manifest, wasm.into())))
    }

    /// Removes what no lease named for an hour.
    pub(super) fn retain(&self, named: &BTreeSet<Workload>, now: Instant) -> Result<(), ShelfError> {
        let mut gone = Vec::new();
        for (workload, kept) in lock(&self.kept).iter_mut() {
            if named.contains(workload) {
                kept.unnamed = None;
            } else if now.duration_since(*kept.unnamed.get_or_insert(now)) >= UNNAMED {
                gone.push(*workload);
            }
        }
        gone.iter().try_for_each(|workload| self.remove(workload))
    }

    fn remove(&self, workload: &Workload) -> Result<(), ShelfError> {
        let mut kept = lock(&self.kept);
        let path = path(&self.folder, workload);
        match fs::remove_file(&path) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => return Err(ShelfError::Io { path, source }),
            _ => {}
        }
        let Some(Kept { manifest: gone, .. }) = kept.remove(workload) else { return Ok(()) };
        // Another app may be of the same component.
        if let Some(component) = gone.component()
            && kept.values().all(|kept| kept.manifest.component() != Some(component))
        {
            self.codes.remove(component.hash)?;
        }
        Ok(())
    }
}

fn path(folder: &Path, workload: &Workload) -> PathBuf {
    folder.join(format!("{}.app", hex::encode(workload)))
}

/// A file's manifest and what follows it; nothing where it is no such file.
fn head(path: &Path) -> Option<(Manifest, Vec<u8>)> {
    let mut file = fs::File::open(path).ok()?;
    let mut length = [0; 4];
    file.read_exact(&mut length).ok()?;
    let length = u32::from_be_bytes(length) as usize;
    if length > MANIFEST_BYTES_MAX {
        return None;
    }
    let mut head = vec![0; length];
    file.read_exact(&mut head).ok()?;
    let manifest = Manifest::decode(&head).ok()?;
    let mut wasm = Vec::new();
    // One more than it says, so that a longer one is seen to be.
    file.take(manifest.bytes() + 1).read_to_end(&mut wasm).ok()?;
    (wasm.len() as u64 == manifest.bytes()).then_some((manifest, wasm))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scratch::Scratch;
    use futures::FutureExt as _;
    use hodei_types::{app::Limits, transport::NodeKey};

    fn shelf(scratch: &Scratch, bytes_max: u64) -> Shelf {
        let codes = Codes::open(scratch.path().join("code"), [1; 32]).unwrap();
        Shelf::open(scratch.path().join("apps"), codes, bytes_max).unwrap()
    }

    fn manifest(wasm: &[u8]) -> Manifest {
        Manifest::new("app", wasm, Limits::default(), NodeKey([7; 32])).unwrap()
    }

    #[test]
    fn what_is_kept_is_there_after_a_start_and_what_is_bent_is_not() {
        let scratch = Scratch::new("shelf");
        let (one, two) = (manifest(b"one"), manifest(b"two"));
        let before = shelf(&scratch, 100);
        before.keep(&one, b"one").unwrap();
        before.keep(&two, b"two").unwrap();
        before.keep(&one, b"one").expect("the same again");
        std::fs::write(scratch.path().join("apps/half.new"), b"half").unwrap();
        let bent = path(&scratch.path().join("apps"), &two.workload());
        let mut bytes = std::fs::read(&bent).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        std::fs::write(&bent, bytes).unwrap();
        let after = shelf(&scratch, 100);
        assert_eq!(after.get(&one.workload()).unwrap(), Some((one, Bytes::from_static(b"one"))));
        assert_eq!(after.get(&two.workload()).unwrap(), None, "it is hashed before it is given");
        assert!(!after.has(&two.workload()) && !bent.exists());
        assert!(!scratch.path().join("apps/half.new").exists());
    }

    #[test]
    fn no_more_is_kept_than_is_offered() {
        let scratch = Scratch::new("shelf-full");
        let shelf = shelf(&scratch, 5);
        shelf.keep(&manifest(b"one"), b"one").unwrap();
        let refused = shelf.keep(&manifest(b"two"), b"two");
        assert!(matches!(refused, Err(ShelfError::Full { used: 3, limit: 5, wanted: 3 })), "{refused:?}");
    }

    #[tokio::test]
    async fn who_reads_holds_up_nobody() {
        let scratch = Scratch::new("shelf-read");
        let shelf = Arc::new(shelf(&scratch, 100));
        let one = manifest(b"one");
        shelf.keep(&one, b"one").unwrap();
        let mut read = Box::pin(shelf.read(one.workload()));
        assert!(read.as_mut().now_or_never().is_none(), "it was read where everybody else waits");
        assert_eq!(read.await.unwrap(), Some((one, Bytes::from_static(b"one"))));
    }

    #[test]
    fn what_no_lease_names_for_an_hour_goes() {
        let scratch = Scratch::new("shelf-unnamed");
        let shelf = shelf(&scratch, 100);
        let (one, two) = (manifest(b"one"), manifest(b"two"));
        shelf.keep(&one, b"one").unwrap();
        shelf.keep(&two, b"two").unwrap();
        let (now, named) = (Instant::now(), BTreeSet::from([one.workload()]));
        shelf.retain(&named, now).unwrap();
        shelf.retain(&named, now + UNNAMED - Duration::from_secs(1)).unwrap();
        assert!(shelf.has(&two.workload()));
        shelf.retain(&named, now + UNNAMED).unwrap();
        assert!(shelf.has(&one.workload()) && !shelf.has(&two.workload()));
    }
}
