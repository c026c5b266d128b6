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
mod regions;
mod root;
mod run;
mod table;
mod uses;
mod version;

pub use entry::{Checksum, Customer, DOCUMENT_BYTES_MAX, Digest, Entry, META_BYTES_MAX, TAGS_MAX};
pub use layer::{LAYERS_MAX, Touched, kept, part_number};
pub use lock::{Lock, Mode, Retention};
pub use part::{Home, Part};
pub use regions::regions;
pub use root::{ROOT_BYTES, Root};
pub use run::{Run, SETTINGS_MAX, Settings, check_setting, is_reserved};
pub use uses::Use;
pub use version::Version;

use crate::{manifest::ManifestError, seal::SealError};
use hodei_types::{cbor::CborError, code::ShapeError};

/// Version of the root; layers have their own. The fourth: a part says how it was spread.
const VERSION: u64 = 4;
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
    #[error("index: {0}")]
    Spread(#[from] ShapeError),
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
        pack,
        seal::{Algorithm, Secret, WRAPPED_BYTES},
    };
    use hodei_types::{code::Shape, slice::ShardId, transport::NodeKey};
    use std::{collections::BTreeMap, sync::Arc};

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
            shape: Shape::new(3, 6, 1).unwrap(),
            home: Home::Own(PageRef { id: ShardId([6; 32]), bytes: 8192, stripes: 3, holders }),
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
        let settings = [("acl".to_string(), "{}".to_string()), ("versioning".to_string(), "Enabled".to_string())];
        let mut run = Run::new("photos");
        run.settings = Settings::from(settings).into();
        run.set("dir/a", vec![entry.clone()]);
        run.set("dir/b", vec![marker, versioned, full(entry.clone())]);
        run.set("ü", vec![entry]);
        let packs = [Arc::new(pack(1)), Arc::new(pack(2))];
        for (at, key) in ["p/2", "p/1", "p/3", "p/4"].into_iter().enumerate() {
            run.set(key, vec![member(&packs[at % 2], at as u64 * 100)]);
        }
        run
    }

    fn pack(object: u8) -> Part {
        Part { number: pack::PART, object: [object; 16], size_bytes: 4096, ..part(1) }
    }

    fn member(pack: &Arc<Part>, offset: u64) -> Entry {
        let home = Home::Pack { pack: pack.clone(), offset };
        let part = Part { object: [offset as u8 ^ 0x80; 16], size_bytes: 84, home, ..part(1) };
        Entry { etag: "e".into(), parts: vec![part], ..Entry::default() }
    }

    #[test]
    fn a_layer_whose_parts_do_not_say_how_they_were_spread_is_refused() {
        let mut bytes = run().encode();
        assert_eq!(bytes[..2], [0x85, 5]);
        bytes[1] = 4;
        assert!(Run::decode(&bytes).is_err());
        // A part that lies at providers by itself, without its shape, is none of any version.
        let mut part = part(1).encode();
        assert_eq!(part[0], 0x89);
        part[0] = 0x88;
        assert!(Part::decode(&part).is_err());
    }

    #[test]
    fn packs_stand_once_in_a_layer_and_are_found_again() {
        let back = Run::decode(&run().encode()).unwrap();
        let packs: Vec<Arc<Part>> = ["p/1", "p/2", "p/3", "p/4"]
            .map(|key| match &back.newest(key).unwrap().parts[0].home {
                Home::Pack { pack, .. } => pack.clone(),
                Home::Own(_) => panic!("{key} is in a pack"),
            })
            .into();
        assert!(Arc::ptr_eq(&packs[0], &packs[3]) && Arc::ptr_eq(&packs[1], &packs[2]), "read once each");
        let more = run().encode().len() - {
            let mut run = run();
            run.set("p/4", Vec::new());
            run.encode().len()
        };
        assert!(more < 200, "a member takes {more} bytes");
    }

    #[test]
    fn members_that_lie_are_refused() {
        let packs = |home: Home, size_bytes| {
            let mut run = Run::default();
            run.set("k", vec![Entry { parts: vec![Part { size_bytes, home, ..part(1) }], ..Entry::default() }]);
            Run::decode(&run.encode())
        };
        let home = |pack: Part, offset| Home::Pack { pack: Arc::new(pack), offset };
        assert!(packs(home(pack(1), 0), 4096 - 16).is_ok());
        assert!(packs(home(pack(1), 1), 4096 - 16).is_err(), "behind the pack's end");
        assert!(packs(home(pack(1), u64::MAX), 1).is_err());
        let long = Part { size_bytes: pack::BYTES_MAX as u64 + 1, ..pack(1) };
        assert!(packs(home(long, 0), 1).is_err(), "a pack longer than any");
        let large = Part { size_bytes: pack::BYTES_MAX as u64, ..pack(1) };
        assert!(packs(home(large, 0), pack::OBJECT_BYTES_MAX as u64 + 1).is_err(), "a member longer than any");
        assert!(packs(home(Part { number: 1, ..pack(1) }, 0), 1).is_err(), "a part that is no pack");
    }

    #[test]
    fn what_is_named_is_counted_through_any_changes() {
        let packs: Vec<Arc<Part>> = (0..5).map(|object| Arc::new(pack(object))).collect();
        let mut run = Run::default();
        let mut seed = 5u64;
        let mut random = move |below: u64| {
            seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (seed >> 33) % below
        };
        for _ in 0..2000 {
            let versions = (0..random(3)).map(|_| match random(4) {
                0 => Entry { marker: true, ..Entry::default() },
                1 => Entry { parts: vec![part(random(9) as u32 + 100)], ..Entry::default() },
                _ => member(&packs[random(5) as usize], random(40) * 100),
            });
            let versions = versions.collect();
            run.set(&random(50).to_string(), versions);
            let (mut named, mut bytes) = (BTreeMap::<[u8; 16], Use>::new(), 0);
            for part in run.all().flat_map(|entry| &entry.parts) {
                let now = named.entry(part.stored().object).or_default();
                *now = Use { parts: now.parts + 1, bytes: now.bytes + part.stored_bytes() };
                bytes += part.size_bytes;
            }
            let objects = run.all().filter(|entry| !entry.marker).count() as u64;
            assert_eq!((run.size_bytes(), run.objects()), (bytes, objects));
            for object in 0..=255 {
                assert_eq!(run.uses(&[object; 16]), named.get(&[object; 16]).copied());
            }
        }
        assert_eq!(Run::decode(&run.encode()), Ok(run));
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
        assert_eq!(run().size_bytes(), (8 << 40) + 4 * 84);
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
        let (shard, id) = root.seal(&[1; 32], &[2; 32], &secret, [8; 16], None).unwrap();
        assert_eq!(ShardId::of(&shard), id);
        assert_eq!(Root::open(&shard, &[1; 32], &[2; 32], &secret), Ok(root));
        assert!(Root::open(&shard, &[1; 32], &[3; 32], &secret).is_err());
        assert!(Root::open(&shard, &[1; 32], &[2; 32], &Secret::new([7; 32])).is_err());
        let mut bent = shard.clone();
        bent[20] ^= 1;
        assert!(Root::open(&bent, &[1; 32], &[2; 32], &secret).is_err());
    }

    #[test]
    fn a_root_tells_who_has_the_care_key_where_providers_must_be_and_nothing_else() {
        let (secret, care) = (Secret::new([9; 32]), Secret::new([6; 32]));
        let root = Root { layers: vec![part(part_number()); LAYERS_MAX] };
        let seal =
            |limits: Option<(&Secret, &[String])>| root.seal(&[1; 32], &[2; 32], &secret, [8; 16], limits).unwrap().0;
        let told = |shard: &[u8], care: &Secret| regions(shard, &[1; 32], &[2; 32], care);
        let names = ["eu".to_owned(), "us-east".to_owned()];
        let limited = seal(Some((&care, &names[..])));
        assert_eq!(limited.len(), ROOT_BYTES);
        assert_eq!(Root::open(&limited, &[1; 32], &[2; 32], &secret), Ok(root.clone()));
        assert_eq!(told(&limited, &care), Some(names.to_vec()));
        assert_eq!((told(&limited, &secret), told(&seal(None), &care)), (None, None));
        assert!(Root::open(&limited, &[1; 32], &[2; 32], &care).is_err());
        // What has no room is not allowed: that limits more than was asked, never less.
        let long: Vec<String> = (10..20).map(|at| format!("zone-{at}{}", "z".repeat(24))).collect();
        let some = told(&seal(Some((&care, &long[..]))), &care).unwrap();
        assert!(some.len() >= 7 && long.starts_with(&some), "{some:?}");
        let none = seal(Some((&care, &["z".repeat(300)][..])));
        assert_eq!(told(&none, &care), Some(Vec::new()), "nowhere, not anywhere");
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
