//! List all that a bucket's keys name, and what the bucket is set to.

use super::{ENTRIES_MAX, Entry, IndexError, KEY_BYTES_MAX, VERSION, entry::{self, DOCUMENT_BYTES_MAX, TEXT_BYTES_MAX}};
use hodei_types::cbor::{Reader, Writer};
use std::{collections::BTreeMap, sync::Arc};

/// Part number of the run, which no object's part has.
const RUN_PART: u32 = u32::MAX;
/// Named documents of a bucket.
pub const SETTINGS_MAX: usize = 32;

/// Named documents of a bucket, as whoever uses them writes them.
pub type Settings = BTreeMap<String, String>;

/// All objects of a bucket.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Run {
    /// The bucket's name, so that the owner's backup alone lists buckets by name.
    pub bucket: String,
    pub settings: Arc<Settings>,
    /// Versions of each key, the newest first; never none.
    pub entries: BTreeMap<String, Vec<Entry>>,
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
    /// The newest version of a key, unless it says that there is no object.
    pub fn newest(&self, key: &str) -> Option<&Entry> {
        self.entries.get(key)?.first().filter(|entry| !entry.marker)
    }

    /// All versions of all keys.
    pub fn all(&self) -> impl Iterator<Item = &Entry> {
        self.entries.values().flatten()
    }

    pub fn encode(&self) -> Vec<u8> {
        let mut out = Writer::new();
        out.array(4).uint(VERSION).text(&self.bucket);
        entry::pairs(&mut out, &self.settings);
        out.array(self.entries.len() * 2);
        for (key, versions) in &self.entries {
            out.text(key).array(versions.len());
            versions.iter().for_each(|entry| entry.write(&mut out));
        }
        out.finish()
    }

    pub fn decode(bytes: &[u8]) -> Result<Self, IndexError> {
        let mut input = Reader::new(bytes);
        input.tuple(4)?;
        input.exactly("version", VERSION)?;
        let bucket = input.text(TEXT_BYTES_MAX)?.to_owned();
        let settings = entry::read_pairs(&mut input, SETTINGS_MAX, DOCUMENT_BYTES_MAX)?;
        for (name, document) in &settings {
            check_setting(name, document)?;
        }
        let count = input.array(ENTRIES_MAX * 2)?;
        if !count.is_multiple_of(2) {
            return Err(IndexError::Shape("a key without an entry"));
        }
        let (mut entries, mut room) = (BTreeMap::new(), ENTRIES_MAX);
        for _ in 0..count / 2 {
            let key = input.text(KEY_BYTES_MAX)?.to_owned();
            if entries.last_key_value().is_some_and(|(last, _)| *last >= key) {
                return Err(IndexError::Shape("keys out of order"));
            }
            let versions = input.array(room)?;
            if versions == 0 {
                return Err(IndexError::Shape("a key without a version"));
            }
            room -= versions;
            let versions = (0..versions).map(|_| Entry::read(&mut input)).collect::<Result<_, _>>()?;
            entries.insert(key, versions);
        }
        input.end()?;
        Ok(Self { bucket, settings: settings.into(), entries })
    }

    /// The part number a run is sealed under.
    pub fn part_number() -> u32 {
        RUN_PART
    }

    /// Bytes of all versions of all objects.
    pub fn size_bytes(&self) -> u64 {
        self.all().map(Entry::size_bytes).sum()
    }
}
