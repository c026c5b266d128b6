//! Ask a folder for what programs ask for, by paths and without a kernel.

use crate::memory::{BLOCK, Memory, Object};
use hodei_mount::{Attr, Config, Event, Folder, Handle, Opening, Spool, Wrong};
use std::{
    path::PathBuf,
    sync::{Arc, Mutex},
    time::Duration,
};

pub(crate) const ROOT: u64 = 1;
pub(crate) const READ: Opening = Opening { reads: true, writes: false, truncates: false, is_new: false, process: None };
pub(crate) const WRITE: Opening = Opening { reads: true, writes: true, truncates: false, is_new: false, process: None };

/// A mounted folder without a kernel.
pub(crate) struct World {
    pub(crate) store: Memory,
    pub(crate) folder: Folder<Memory>,
    pub(crate) events: Arc<Mutex<Vec<Event>>>,
    pub(crate) place: PathBuf,
}

impl Drop for World {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.place);
    }
}

impl World {
    pub(crate) fn new(name: &str) -> Self {
        Self::over(name, Memory::default(), |_| {}, None)
    }

    pub(crate) fn over(name: &str, store: Memory, change: impl FnOnce(&mut Config), cache_bytes: Option<u64>) -> Self {
        let place = std::env::temp_dir().join(format!("hodei-folder-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&place);
        let (spool, _) = Spool::open(&place, cache_bytes).unwrap();
        let mut config = Config {
            prefix: String::new(),
            is_read_only: false,
            fresh: Duration::ZERO,
            memory_bytes: 32 * BLOCK,
            rest: Duration::ZERO,
        };
        change(&mut config);
        let events: Arc<Mutex<Vec<Event>>> = Arc::default();
        let told = events.clone();
        let folder = Folder::new(store.clone(), config, spool, move |event| told.lock().unwrap().push(event));
        Self { store, folder, events, place }
    }

    pub(crate) fn told(&self) -> Vec<Event> {
        std::mem::take(&mut *self.events.lock().unwrap())
    }

    pub(crate) async fn parent<'a>(&self, path: &'a str) -> Result<(u64, &'a str), Wrong> {
        let (mut at, mut steps) = (ROOT, path.split('/').peekable());
        loop {
            let step = steps.next().unwrap();
            if steps.peek().is_none() {
                return Ok((at, step));
            }
            at = self.folder.lookup(at, step).await?.ino;
        }
    }

    pub(crate) async fn stat(&self, path: &str) -> Result<Attr, Wrong> {
        let (parent, name) = self.parent(path).await?;
        self.folder.lookup(parent, name).await
    }

    pub(crate) async fn open(&self, path: &str, opening: Opening) -> Result<Handle<Object>, Wrong> {
        let ino = self.stat(path).await?.ino;
        self.folder.open(ino, opening).await
    }

    pub(crate) async fn create(&self, path: &str) -> Result<Handle<Object>, Wrong> {
        let (parent, name) = self.parent(path).await?;
        Ok(self.folder.create(parent, name, WRITE).await?.1)
    }

    pub(crate) async fn close(&self, handle: Handle<Object>) -> Result<(), Wrong> {
        let done = self.folder.flush(&handle, None).await;
        self.folder.release(&handle).await;
        done
    }

    pub(crate) async fn save(&self, path: &str, bytes: &[u8]) -> Result<(), Wrong> {
        let handle = match self.open(path, Opening { truncates: true, ..WRITE }).await {
            Err(Wrong::NotFound) => self.create(path).await?,
            done => done?,
        };
        self.folder.write(&handle, 0, bytes.to_vec()).await?;
        self.close(handle).await
    }

    pub(crate) async fn load(&self, path: &str) -> Result<Vec<u8>, Wrong> {
        let handle = self.open(path, READ).await?;
        let bytes = self.all(&handle).await?;
        self.close(handle).await?;
        Ok(bytes)
    }

    pub(crate) async fn all(&self, handle: &Handle<Object>) -> Result<Vec<u8>, Wrong> {
        let mut all = Vec::new();
        loop {
            let piece = self.folder.read(handle, all.len() as u64, 50).await?;
            if piece.is_empty() {
                return Ok(all);
            }
            all.extend_from_slice(&piece);
        }
    }

    pub(crate) async fn names(&self, path: &str) -> Vec<String> {
        let ino = if path.is_empty() { ROOT } else { self.stat(path).await.unwrap().ino };
        let mut cursor = self.folder.list(ino).unwrap();
        let mut names = Vec::new();
        loop {
            let shown = self.folder.shown(&mut cursor, names.len() as u64).await.unwrap();
            if shown.is_empty() {
                return names;
            }
            names.extend(shown.into_iter().map(|one| format!("{}{}", one.name, if one.is_folder { "/" } else { "" })));
        }
    }
}
