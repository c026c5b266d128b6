//! Name a bucket's objects, in an index that only key holders read.
//!
//! A bucket has one sorted run of entries, stored in layers, each like any part; a key has versions, the newest
//! first. What finds the layers is the *root*: one shard of 8 KiB whose id stands on the ledger, sealed under the
//! bucket's key, copied to providers of the bucket. Whoever holds the bucket's key and the ledger's word thus finds every object;
//! providers see sizes and how often they change, never names.

mod entry;
mod layer;
mod lock;
mod part;
mod root;
mod run;
mod version;

pub use entry::{Checksum, Customer, DOCUMENT_BYTES_MAX, Digest, Entry, META_BYTES_MAX, TAGS_MAX};
pub use layer::{LAYERS_MAX, Touched, kept, part_number};
pub use lock::{Lock, Mode, Retention};
pub use part::Part;
pub use root::{ROOT_BYTES, Root};
pub use run::{Run, SETTINGS_MAX, Settings, check_setting};
pub use version::Version;

use crate::{manifest::ManifestError, seal::SealError};
use hodei_types::cbor::CborError;

/// The third: a key has versions, a bucket settings, and an index layers.
const VERSION: u64 = 3;
/// S3's limit of a key.
pub const KEY_BYTES_MAX: usize = 1024;
/// S3's limit of an object's parts.
pub const PARTS_MAX: usize = 10_000;
/// Versions one index names: all of it is in memory.
pub const ENTRIES_MAX: usize = 4_000_000;

/// Why bytes are no index.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IndexError {
    #[error("index: {0}")]
    Cbor(#[from] CborError),
    #[error("index: {0}")]
    Manifest(#[from] ManifestError),
    #[error("index: {0}")]
    Seal(#[from] SealError),
    #[error("index: algorithm {0} is unknown to this version")]
    Algorithm(u64),
    #[error("index: {0}")]
    Shape(&'static str),
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        manifest::{Holder, PageRef},
        seal::{Algorithm, Secret, WRAPPED_BYTES},
    };
    use hodei_types::{slice::ShardId, transport::NodeKey};
    use std::collections::BTreeMap;

    fn part(number: u32) -> Part {
        let holders = vec![Holder { node: NodeKey([5; 32]), deal: 7 }; 17];
        Part {
            number,
            object: [number as u8; 16],
            wrapped: [2; WRAPPED_BYTES],
            algorithm: Algorithm::Aes256Gcm,
            commitment: [3; 32],
            size_bytes: 1 << 40,
            content: [4; 32],
            page: PageRef { id: ShardId([6; 32]), bytes: 8192, stripes: 3, holders },
        }
    }

    fn run() -> Run {
        let meta = [("a".to_string(), "b".to_string()), ("c".to_string(), "ü".to_string())].into();
        let entry = Entry {
            modified_ms: 1,
            etag: "abc-2".into(),
            content_type: "text/plain".into(),
            meta,
            parts: vec![part(1), part(2)],
            ..Entry::default()
        };
        let versioned = Entry { version: Version::Id([9; 16]), ..entry.clone() };
        let marker = Entry { modified_ms: 2, marker: true, owner: Some("ann".into()), ..Entry::default() };
        let entries = BTreeMap::from([
            ("dir/a".to_string(), vec![entry.clone()]),
            ("dir/b".to_string(), vec![marker, versioned, full(entry.clone())]),
            ("ü".to_string(), vec![entry]),
        ]);
        let settings = [("acl".to_string(), "{}".to_string()), ("versioning".to_string(), "Enabled".to_string())];
        Run { bucket: "photos".into(), settings: Settings::from(settings).into(), entries: entries.into_iter().collect() }
    }

    /// All an entry can say.
    fn full(entry: Entry) -> Entry {
        let retention = Some(Retention { mode: Mode::Compliance, until_ms: 1 << 41 });
        Entry {
            version: Version::Id([8; 16]),
            tags: [("k".to_string(), "v".to_string())].into(),
            lock: Some(Lock { retention, hold: Some(true) }),
            acl: Some("<acl/>".into()),
            owner: Some("ann".into()),
            checksum: Some(Checksum {
                algorithm: Digest::Sha256,
                value: "YQ==".into(),
                composite: true,
                parts: vec!["Yg==".into(), "Yw==".into()],
            }),
            class: Some("GLACIER".into()),
            customer: Some(Customer { md5: [1; 16], salt: [2; 16] }),
            redirect: Some("/elsewhere".into()),
            ..entry
        }
    }

    #[test]
    fn a_run_has_one_encoding() {
        let bytes = run().encode();
        assert_eq!(Run::decode(&bytes), Ok(run()));
        assert_eq!(run().size_bytes(), 8 << 40);
        let mut seed = 3u64;
        for _ in 0..20_000 {
            seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            let mut bent = bytes.clone();
            let at = (seed >> 33) as usize % bent.len();
            bent[at] = (seed >> 20) as u8;
            if let Ok(run) = Run::decode(&bent) {
                assert_eq!(run.encode(), bent);
            }
            assert!(Run::decode(&bytes[..at]).is_err());
        }
    }

    #[test]
    fn a_root_opens_only_with_the_buckets_key() {
        let secret = Secret::new([9; 32]);
        let root = Root { layers: vec![part(part_number()); LAYERS_MAX] };
        let (shard, id) = root.seal(&[1; 32], &[2; 32], &secret, [8; 16]).unwrap();
        assert_eq!(ShardId::of(&shard), id);
        assert_eq!(Root::open(&shard, &[1; 32], &[2; 32], &secret), Ok(root));
        assert!(Root::open(&shard, &[1; 32], &[3; 32], &secret).is_err());
        assert!(Root::open(&shard, &[1; 32], &[2; 32], &Secret::new([7; 32])).is_err());
        let mut bent = shard.clone();
        bent[20] ^= 1;
        assert!(Root::open(&bent, &[1; 32], &[2; 32], &secret).is_err());
    }

    #[test]
    fn entries_beyond_a_limit_are_refused() {
        let mut entry = Entry { parts: vec![part(2), part(1)], ..Entry::default() };
        assert!(entry.check().is_err(), "parts must ascend");
        entry.parts.clear();
        assert!(entry.check().is_err(), "an object has a part");
        entry.parts.push(part(1));
        assert_eq!(entry.check(), Ok(()));
        entry.marker = true;
        assert!(entry.check().is_err(), "a delete marker has none");
        entry.marker = false;
        entry.meta.insert("x".into(), "y".repeat(META_BYTES_MAX));
        assert!(entry.check().is_err());
        entry.meta.clear();
        entry.tags = (0..=TAGS_MAX).map(|at| (at.to_string(), String::new())).collect();
        assert!(entry.check().is_err());
        entry.tags.clear();
        entry.acl = Some("a".repeat(DOCUMENT_BYTES_MAX + 1));
        assert!(entry.check().is_err());
    }
}
