//! List all that a bucket's keys name, and what the bucket is set to.

use super::{Entry, IndexError, entry::{DOCUMENT_BYTES_MAX, TEXT_BYTES_MAX}};
use rpds::RedBlackTreeMapSync;
use std::{collections::BTreeMap, sync::Arc};

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
    pub entries: RedBlackTreeMapSync<String, Vec<Entry>>,
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
    /// Versions of a key, the newest first.
    pub fn versions(&self, key: &str) -> &[Entry] {
        self.entries.get(key).map_or(&[], Vec::as_slice)
    }

    /// Sets a key's versions; without any the key is gone.
    pub fn set(&mut self, key: &str, versions: Vec<Entry>) {
        if versions.is_empty() {
            self.entries.remove_mut(key);
        } else {
            self.entries.insert_mut(key.into(), versions);
        }
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
        self.all().map(Entry::size_bytes).sum()
    }
}
