//! Keep objects in memory, count what is asked for, and refuse what a test says.

use bytes::Bytes;
use futures::{StreamExt as _, stream};
use hodei_mount::{Body, Facts, Only, Page, Room, Store, Wrong};
use std::{
    collections::BTreeMap,
    ops::{Bound, Range},
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
};

pub(crate) const BLOCK: u64 = 64;

pub(crate) type Object = Arc<(Vec<u8>, Facts)>;

/// Objects, how often they were asked for, and what is refused next.
#[derive(Clone, Default)]
pub(crate) struct Memory(pub(crate) Arc<Inner>);

#[derive(Default)]
pub(crate) struct Inner {
    pub(crate) objects: Mutex<BTreeMap<String, Object>>,
    pub(crate) clock: AtomicU64,
    pub(crate) reads: AtomicU64,
    pub(crate) lists: AtomicU64,
    pub(crate) puts: AtomicU64,
    pub(crate) refusals: Mutex<Vec<Wrong>>,
}

impl Memory {
    pub(crate) fn put(&self, key: &str, bytes: &[u8]) {
        self.set(key, bytes.to_vec(), 5_000);
    }

    pub(crate) fn set(&self, key: &str, bytes: Vec<u8>, mtime_ms: u64) -> (Facts, Object) {
        let now = self.0.clock.fetch_add(1, Ordering::SeqCst);
        let etag = format!(
            "{}-{}",
            bytes.len(),
            bytes.iter().fold(7u64, |sum, byte| sum.wrapping_mul(31).wrapping_add(u64::from(*byte)))
        );
        let facts = Facts { size_bytes: bytes.len() as u64, mtime_ms, etag, modified_ms: now };
        let object = Arc::new((bytes, facts.clone()));
        self.0.objects.lock().unwrap().insert(key.into(), object.clone());
        (facts, object)
    }

    pub(crate) fn get(&self, key: &str) -> Option<Vec<u8>> {
        Some(self.0.objects.lock().unwrap().get(key)?.0.clone())
    }

    pub(crate) fn keys(&self) -> Vec<String> {
        self.0.objects.lock().unwrap().keys().cloned().collect()
    }

    pub(crate) fn remove(&self, key: &str) {
        self.0.objects.lock().unwrap().remove(key);
    }

    pub(crate) fn refuse(&self, wrong: Wrong) {
        self.0.refusals.lock().unwrap().push(wrong);
    }

    pub(crate) fn check(&self, key: &str, only: Only<'_>) -> Result<(), Wrong> {
        let objects = self.0.objects.lock().unwrap();
        let found = objects.get(key).map(|object| object.1.etag.as_str());
        match (only, found) {
            (Only::Always, _) | (Only::Absent, None) => Ok(()),
            (Only::Is(etag), Some(found)) if etag == found => Ok(()),
            _ => Err(Wrong::Changed),
        }
    }
}

impl Store for Memory {
    type Pin = Object;

    async fn list(&self, prefix: &str, after: Option<&str>, max: usize) -> Result<Page, Wrong> {
        self.0.lists.fetch_add(1, Ordering::SeqCst);
        let objects = self.0.objects.lock().unwrap();
        let from = after.map_or(Bound::Included(prefix), Bound::Excluded);
        let (mut page, mut last) = (Page::default(), String::new());
        for (key, object) in
            objects.range::<str, _>((from, Bound::Unbounded)).filter(|(key, _)| key.starts_with(prefix))
        {
            let folder = key[prefix.len()..].find('/').map(|at| key[..prefix.len() + at + 1].to_owned());
            if after.is_some_and(|after| after.len() > prefix.len() && after.ends_with('/') && key.starts_with(after))
                || folder.as_ref().is_some_and(|folder| *folder == last)
            {
                continue;
            }
            if page.files.len() + page.folders.len() == max {
                page.next = Some(last);
                return Ok(page);
            }
            last = folder.clone().unwrap_or_else(|| key.clone());
            match folder {
                Some(folder) => page.folders.push(folder),
                None => page.files.push((key.clone(), object.1.clone())),
            }
        }
        Ok(page)
    }

    async fn head(&self, key: &str) -> Result<Option<(Facts, Object)>, Wrong> {
        Ok(self.0.objects.lock().unwrap().get(key).map(|object| (object.1.clone(), object.clone())))
    }

    async fn read(&self, _: &str, pin: &Object, range: Range<u64>) -> Result<Body, Wrong> {
        self.0.reads.fetch_add(1, Ordering::SeqCst);
        let wrong = self.0.refusals.lock().unwrap().pop();
        let bytes = pin.0[range.start as usize..range.end as usize].to_vec();
        // In odd pieces, the last of which fails if that is asked for.
        let mut pieces: Vec<Result<Bytes, Wrong>> =
            bytes.chunks(37).map(|piece| Ok(Bytes::copy_from_slice(piece))).collect();
        if let Some(wrong) = wrong {
            pieces.pop();
            pieces.push(Err(wrong));
        }
        Ok(stream::iter(pieces).boxed())
    }

    async fn put(
        &self,
        key: &str,
        content: Option<&Path>,
        _: Option<&Object>,
        mtime_ms: u64,
        only: Only<'_>,
    ) -> Result<(Facts, Object), Wrong> {
        self.0.puts.fetch_add(1, Ordering::SeqCst);
        if let Some(wrong) = self.0.refusals.lock().unwrap().pop() {
            return Err(wrong);
        }
        self.check(key, only)?;
        let bytes = content.map(|path| std::fs::read(path).unwrap()).unwrap_or_default();
        Ok(self.set(key, bytes, mtime_ms))
    }

    async fn copy(
        &self,
        from: (&str, &Object),
        to: &str,
        mtime_ms: u64,
        only: Only<'_>,
    ) -> Result<(Facts, Object), Wrong> {
        self.check(to, only)?;
        Ok(self.set(to, from.1.0.clone(), mtime_ms))
    }

    async fn remove(&self, key: &str, only: Only<'_>) -> Result<(), Wrong> {
        if self.get(key).is_some() {
            self.check(key, only)?;
            self.remove(key);
        }
        Ok(())
    }

    async fn room(&self) -> Result<Room, Wrong> {
        Ok(Room { total_bytes: 1 << 20, used_bytes: 0 })
    }

    fn show(&self, key: &str) -> String {
        format!("hodei://bucket/{key}")
    }

    fn block_bytes(&self) -> u64 {
        BLOCK
    }
}
