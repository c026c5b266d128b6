//! List all that a bucket's keys name, and what the bucket is set to.

use super::{
    Entry, IndexError, Use, Version,
    entry::{DOCUMENT_BYTES_MAX, TEXT_BYTES_MAX},
    uses::Uses,
};
use rpds::RedBlackTreeMapSync;
use std::{collections::BTreeMap, ops::Bound, sync::Arc};

/// Named documents of a bucket.
pub const SETTINGS_MAX: usize = 32;

/// Named documents of a bucket, as whoever uses them writes them.
pub type Settings = BTreeMap<String, String>;

/// All objects of a bucket. A clone shares what neither changes, so that one of a million keys costs nothing.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Run {
    /// The bucket's name, so that the owner's backup alone lists buckets by name.
    pub bucket: String,
    pub settings: Arc<Settings>,
    /// Versions of each key, the newest first; never none.
    pub(super) entries: RedBlackTreeMapSync<String, Vec<Entry>>,
    /// What links tell of, by key: each names parts that are kept while no object need name them. In a layer they stand
    /// among the keys.
    pub(super) pins: RedBlackTreeMapSync<String, Vec<Entry>>,
    uses: Uses,
}

/// What keys of pins begin with; no object's key does.
const PIN: &str = "\0link/";

/// Whether a key is none that an object may have.
pub fn is_reserved(key: &str) -> bool {
    key.starts_with(PIN)
}

/// Refuses a document that no reader would take back.
pub fn check_setting(name: &str, document: &str) -> Result<(), IndexError> {
    if name.is_empty() || name.len() > TEXT_BYTES_MAX {
        return Err(IndexError::Shape("a setting's name has 1 to 1024 bytes"));
    }
    if document.len() > DOCUMENT_BYTES_MAX {
        return Err(IndexError::Shape("a setting is longer than 20 KiB"));
    }
    Ok(())
}

impl Run {
    /// Of a new bucket.
    pub fn new(bucket: &str) -> Self {
        Self { bucket: bucket.into(), ..Self::default() }
    }

    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Versions of a key, the newest first.
    pub fn versions(&self, key: &str) -> &[Entry] {
        self.entries.get(key).map_or(&[], Vec::as_slice)
    }

    /// Sets a key's versions; without any the key is gone.
    pub fn set(&mut self, key: &str, versions: Vec<Entry>) {
        if let Some(before) = self.entries.get(key) {
            self.uses.remove(before);
        }
        self.uses.add(&versions);
        if versions.is_empty() {
            self.entries.remove_mut(key);
        } else {
            self.entries.insert_mut(key.into(), versions);
        }
    }

    /// The key by which a link pins what it tells of.
    pub fn pin_key(link: &str) -> String {
        format!("{PIN}{link}")
    }

    /// Keeps what an entry names, or lets go of it; gives what was kept before. No listing and no sum has it.
    pub fn pin(&mut self, key: &str, entry: Option<Entry>) -> Option<Entry> {
        let before = self.pins.get(key).and_then(|entries| entries.first()).cloned();
        self.set_pins(key, entry.into_iter().collect());
        before
    }

    /// Keys of all pins.
    pub fn pins(&self) -> impl Iterator<Item = &str> {
        self.pins.keys().map(String::as_str)
    }

    fn set_pins(&mut self, key: &str, entries: Vec<Entry>) {
        if let Some(before) = self.pins.get(key) {
            self.uses.unname(before);
        }
        self.uses.name(&entries);
        if entries.is_empty() {
            self.pins.remove_mut(key);
        } else {
            self.pins.insert_mut(key.into(), entries);
        }
    }

    /// What a layer says of a key.
    pub(super) fn lay(&mut self, key: &str, versions: Vec<Entry>) {
        if is_reserved(key) { self.set_pins(key, versions) } else { self.set(key, versions) }
    }

    /// What a layer says of a key.
    pub(super) fn told(&self, key: &str) -> &[Entry] {
        if is_reserved(key) { self.pins.get(key).map_or(&[], Vec::as_slice) } else { self.versions(key) }
    }

    /// Keys in their order from one on, and the versions of each.
    pub fn range<'a>(&'a self, from: Bound<&str>) -> impl Iterator<Item = (&'a str, &'a [Entry])> + use<'a> {
        let keys = self.entries.range::<String, _>((from.map(str::to_owned), Bound::Unbounded));
        keys.map(|(key, versions)| (key.as_str(), versions.as_slice()))
    }

    /// Keys it has.
    pub fn keys(&self) -> usize {
        self.entries.size()
    }

    /// What of a stored part, by its id, is named; `None` if nothing names it.
    pub fn uses(&self, object: &[u8; 16]) -> Option<Use> {
        self.uses.of(object)
    }

    /// One version of a key.
    pub fn version(&self, key: &str, version: Version) -> Option<&Entry> {
        self.versions(key).iter().find(|entry| entry.version == version)
    }

    /// The newest version of a key, unless it says that there is no object.
    pub fn newest(&self, key: &str) -> Option<&Entry> {
        self.versions(key).first().filter(|entry| !entry.marker)
    }

    /// All versions of all keys.
    pub fn all(&self) -> impl Iterator<Item = &Entry> {
        self.entries.values().flatten()
    }

    /// Bytes of all versions of all objects.
    pub fn size_bytes(&self) -> u64 {
        self.uses.bytes
    }

    /// Versions of all objects; delete markers are none.
    pub fn objects(&self) -> u64 {
        self.uses.objects
    }
}
