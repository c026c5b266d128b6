//! Keep what containers are made of: each blob by its hash, whole after a power cut, or not at all.
//!
//! ```text
//! images/<workload>.app     a manifest
//! images/blobs/<sha256>     a config or a packed layer, of whichever manifests name it
//! images/blobs/*.part       one that is on its way
//! ```
//! A blob is hashed while it comes, piece by piece, and gets its name once all of it is on disk: so what has a name was
//! whole. Who unpacks it hashes it again. Several may bring the same at once: each writes a part of its own.

use super::shelf::{ShelfError, Workload};
use crate::{home::replace, provider::lock};
use hodei_types::app::{
    Manifest,
    container::{Blob, CONFIG_BYTES_MAX, Container},
};
use sha2::{Digest as _, Sha256};
use std::{
    collections::{BTreeMap, BTreeSet, btree_map::Entry},
    fs,
    io::{self, Read as _, Write as _},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

/// A workload no lease names any more is kept for so long: its owner may just be placing it anew.
const UNNAMED: Duration = Duration::from_secs(3600);

struct Kept {
    manifest: Manifest,
    /// Since when no lease names it.
    unnamed: Option<Instant>,
}

/// The folder of images; clones share it.
#[derive(Clone)]
pub(super) struct Images(Arc<Inner>);

struct Inner {
    folder: PathBuf,
    bytes_max: u64,
    state: Mutex<State>,
    parts: AtomicU64,
}

struct State {
    kept: BTreeMap<Workload, Kept>,
    /// Those on disk, by hash, and their lengths.
    blobs: BTreeMap<[u8; 32], u64>,
    /// Bytes that are on their way.
    coming: u64,
}

/// A blob on its way to the disk; what is dropped before its end leaves nothing.
pub(super) struct Part {
    images: Images,
    blob: Blob,
    path: PathBuf,
    file: fs::File,
    hash: Sha256,
    bytes: u64,
}

/// Why a blob is not kept.
#[derive(Debug, thiserror::Error)]
pub(super) enum BlobError {
    #[error("this host's disk: {0}")]
    Io(#[from] io::Error),
    #[error("blob {} is longer or shorter than the {} bytes that its manifest says", hex::encode(.0.sha256), .0.bytes)]
    Length(Blob),
    #[error("what came as blob {} hashes to another: give it again", hex::encode(.0.sha256))]
    Hash(Blob),
    #[error("this host keeps {used} bytes of {limit} that it offers for images, and this takes {wanted} more")]
    Full { used: u64, limit: u64, wanted: u64 },
}

impl Images {
    /// Opens the folder; what nothing whole names in it is removed.
    pub(super) fn open(folder: PathBuf, bytes_max: u64) -> Result<Self, ShelfError> {
        let io = |path: &Path| {
            let path = path.to_path_buf();
            move |source| ShelfError::Io { path, source }
        };
        let blobs_folder = folder.join("blobs");
        fs::create_dir_all(&blobs_folder).map_err(io(&blobs_folder))?;
        let mut kept = BTreeMap::new();
        for entry in fs::read_dir(&folder).map_err(io(&folder))? {
            let path = entry.map_err(io(&folder))?.path();
            if path == blobs_folder {
                continue;
            }
            let found = fs::read(&path).ok().and_then(|bytes| Manifest::decode(&bytes).ok());
            match found.filter(|manifest| manifest_path(&folder, &manifest.workload()) == path) {
                Some(manifest) => _ = kept.insert(manifest.workload(), Kept { manifest, unnamed: None }),
                None => {
                    tracing::warn!(path = %path.display(), "no manifest of a container: removed");
                    fs::remove_file(&path).map_err(io(&path))?;
                }
            }
        }
        let named: BTreeMap<[u8; 32], u64> = kept.values().flat_map(blobs).map(|it| (it.sha256, it.bytes)).collect();
        let mut blobs = BTreeMap::new();
        for entry in fs::read_dir(&blobs_folder).map_err(io(&blobs_folder))? {
            let path = entry.map_err(io(&blobs_folder))?.path();
            let name = path.file_name().and_then(|name| hex::decode(name.to_str()?).ok()?.try_into().ok());
            let bytes = fs::metadata(&path).map_err(io(&path))?.len();
            match name.filter(|name: &[u8; 32]| named.get(name) == Some(&bytes)) {
                Some(name) => _ = blobs.insert(name, bytes),
                None => fs::remove_file(&path).map_err(io(&path))?,
            }
        }
        let state = Mutex::new(State { kept, blobs, coming: 0 });
        Ok(Self(Arc::new(Inner { folder, bytes_max, state, parts: AtomicU64::new(0) })))
    }

    /// Its manifest, if all that it names is here too.
    pub(super) fn get(&self, workload: &Workload) -> Option<Manifest> {
        let state = lock(&self.0.state);
        let kept = state.kept.get(workload)?;
        blobs(kept).iter().all(|blob| state.blobs.contains_key(&blob.sha256)).then(|| kept.manifest.clone())
    }

    /// Its manifest, be its blobs here or not.
    pub(super) fn manifest(&self, workload: &Workload) -> Option<Manifest> {
        lock(&self.0.state).kept.get(workload).map(|kept| kept.manifest.clone())
    }

    /// Those of a container's blobs that are not here, in order.
    pub(super) fn lacks(&self, container: &Container) -> Vec<Blob> {
        let state = lock(&self.0.state);
        container.blobs().into_iter().filter(|blob| !state.blobs.contains_key(&blob.sha256)).collect()
    }

    /// Remembers a manifest, so that the blobs it names stay. Returns once it is on disk.
    pub(super) fn name(&self, manifest: &Manifest) -> Result<(), ShelfError> {
        let workload = manifest.workload();
        let mut state = lock(&self.0.state);
        if let Entry::Vacant(place) = state.kept.entry(workload) {
            replace(&manifest_path(&self.0.folder, &workload), &manifest.encode(), 0o600)?;
            place.insert(Kept { manifest: manifest.clone(), unnamed: None });
        }
        Ok(())
    }

    /// Begins to take a blob, if there is room for it.
    pub(super) fn begin(&self, blob: Blob) -> Result<Part, BlobError> {
        {
            let mut state = lock(&self.0.state);
            let used = state.blobs.values().sum::<u64>() + state.coming;
            if used.saturating_add(blob.bytes) > self.0.bytes_max {
                return Err(BlobError::Full { used, limit: self.0.bytes_max, wanted: blob.bytes });
            }
            state.coming += blob.bytes;
        }
        let number = self.0.parts.fetch_add(1, Ordering::Relaxed);
        let path = self.0.folder.join("blobs").join(format!("{}-{number}.part", hex::encode(blob.sha256)));
        let file = fs::File::create_new(&path);
        if file.is_err() {
            lock(&self.0.state).coming -= blob.bytes;
        }
        Ok(Part { images: self.clone(), blob, path, file: file?, hash: Sha256::new(), bytes: 0 })
    }

    /// Where a blob that is here stands.
    pub(super) fn path(&self, blob: &Blob) -> PathBuf {
        self.0.folder.join("blobs").join(hex::encode(blob.sha256))
    }

    /// An image's config, if it is still what it was; what rotted is removed.
    pub(super) fn config(&self, container: &Container) -> Result<Option<Vec<u8>>, BlobError> {
        let mut bytes = Vec::new();
        fs::File::open(self.path(&container.config))?.take(CONFIG_BYTES_MAX + 1).read_to_end(&mut bytes)?;
        let is_whole = Sha256::digest(&bytes)[..] == container.config.sha256;
        if !is_whole {
            self.forget(&container.config)?;
        }
        Ok(is_whole.then_some(bytes))
    }

    /// Hashes a container's blobs again; those that rotted are removed. Whether all were what they should be.
    pub(super) fn scrub(&self, container: &Container) -> Result<bool, BlobError> {
        let mut is_whole = true;
        for blob in container.blobs() {
            let mut hash = Sha256::new();
            let (mut file, mut piece) = (fs::File::open(self.path(&blob))?, vec![0; 1 << 20]);
            loop {
                let read = file.read(&mut piece)?;
                if read == 0 {
                    break;
                }
                hash.update(&piece[..read]);
            }
            if hash.finalize()[..] != blob.sha256 {
                self.forget(&blob)?;
                is_whole = false;
            }
        }
        Ok(is_whole)
    }

    fn forget(&self, blob: &Blob) -> io::Result<()> {
        tracing::error!(blob = hex::encode(blob.sha256), "this blob rotted: it is fetched again");
        lock(&self.0.state).blobs.remove(&blob.sha256);
        fs::remove_file(self.path(blob))
    }

    /// Removes what no lease named for an hour, and the blobs that nothing else names.
    pub(super) fn retain(&self, named: &BTreeSet<Workload>, now: Instant) -> Result<(), ShelfError> {
        let mut state = lock(&self.0.state);
        let mut gone = Vec::new();
        for (workload, kept) in &mut state.kept {
            if named.contains(workload) {
                kept.unnamed = None;
            } else if now.duration_since(*kept.unnamed.get_or_insert(now)) >= UNNAMED {
                gone.push(*workload);
            }
        }
        for workload in &gone {
            let path = manifest_path(&self.0.folder, workload);
            remove(&path)?;
            state.kept.remove(workload);
        }
        if !gone.is_empty() {
            let still: BTreeSet<[u8; 32]> = state.kept.values().flat_map(blobs).map(|blob| blob.sha256).collect();
            let over: Vec<[u8; 32]> = state.blobs.keys().copied().filter(|blob| !still.contains(blob)).collect();
            for blob in over {
                remove(&self.0.folder.join("blobs").join(hex::encode(blob)))?;
                state.blobs.remove(&blob);
            }
        }
        Ok(())
    }
}

impl Part {
    /// Takes some of it.
    pub(super) fn write(&mut self, chunk: &[u8]) -> Result<(), BlobError> {
        self.bytes += chunk.len() as u64;
        if self.bytes > self.blob.bytes {
            return Err(BlobError::Length(self.blob));
        }
        self.hash.update(chunk);
        Ok(self.file.write_all(chunk)?)
    }

    /// Whether all of it came.
    pub(super) fn is_whole(&self) -> bool {
        self.bytes == self.blob.bytes
    }

    /// Gives it its name, if it is what it should be. Returns once it is on disk.
    pub(super) fn end(self) -> Result<(), BlobError> {
        if !self.is_whole() {
            return Err(BlobError::Length(self.blob));
        }
        if self.hash.clone().finalize()[..] != self.blob.sha256 {
            return Err(BlobError::Hash(self.blob));
        }
        self.file.sync_all()?;
        // The part's own name is gone then, as far as its end is concerned.
        fs::rename(&self.path, self.images.path(&self.blob))?;
        fs::File::open(self.images.0.folder.join("blobs"))?.sync_all()?;
        lock(&self.images.0.state).blobs.insert(self.blob.sha256, self.blob.bytes);
        Ok(())
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        lock(&self.images.0.state).coming -= self.blob.bytes;
        // What was whole has another name by now.
        let _ = fs::remove_file(&self.path);
    }
}

fn blobs(kept: &Kept) -> Vec<Blob> {
    kept.manifest.container().map(Container::blobs).unwrap_or_default()
}

fn manifest_path(folder: &Path, workload: &Workload) -> PathBuf {
    folder.join(format!("{}.app", hex::encode(workload)))
}

fn remove(path: &Path) -> Result<(), ShelfError> {
    match fs::remove_file(path) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => {
            Err(ShelfError::Io { path: path.to_path_buf(), source })
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests;
