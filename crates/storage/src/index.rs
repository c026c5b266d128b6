//! Name a bucket's objects, in a run that only key holders read.
//!
//! A bucket has one sorted run of entries, stored like any part. What finds it is the *root*: one shard of
//! 4 KiB whose id stands on the ledger, sealed under the bucket's key, copied to providers of the bucket.
//! Whoever holds the bucket's key and the ledger's word thus finds every object; providers see sizes and how
//! often they change, never names.

use crate::{
    manifest::{ManifestError, PageRef},
    seal::{Algorithm, PartKey, Place, SealError, Secret, TAG_BYTES, WRAPPED_BYTES},
};
use hodei_types::{
    cbor::{CborError, Reader, Writer},
    slice::ShardId,
};
use std::collections::BTreeMap;

const VERSION: u64 = 1;
/// S3's limit of a key.
pub const KEY_BYTES_MAX: usize = 1024;
/// S3's limit of an object's parts.
pub const PARTS_MAX: usize = 10_000;
/// S3 allows 2 KiB of user metadata; names and values together.
pub const META_BYTES_MAX: usize = 8 * 1024;
const META_MAX: usize = 128;
const TEXT_BYTES_MAX: usize = 1024;
/// Entries of one run: beyond it a tree of runs is needed.
pub const ENTRIES_MAX: usize = 4_000_000;
/// Bytes of a root shard.
pub const ROOT_BYTES: usize = 4096;
/// Part number of the run and of the root, which no object's part has.
const RUN_PART: u32 = u32::MAX;
const ROOT_PART: u32 = u32::MAX - 1;

/// One sending of bytes: how to find and open it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// As the client numbered it; parts of an object ascend.
    pub number: u32,
    /// Random: which object key, and part of what that key is bound to.
    pub object: [u8; 16],
    /// The object's key, wrapped by the bucket's.
    pub wrapped: [u8; WRAPPED_BYTES],
    pub algorithm: Algorithm,
    /// Tells the right key.
    pub commitment: [u8; 32],
    pub size_bytes: u64,
    /// BLAKE3 of the plaintext.
    pub content: [u8; 32],
    pub page: PageRef,
}

/// An object.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Entry {
    pub modified_ms: u64,
    /// Without quotes; may be empty.
    pub etag: String,
    pub content_type: String,
    /// User metadata, names in lower case.
    pub meta: BTreeMap<String, String>,
    pub parts: Vec<Part>,
}

/// All objects of a bucket.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Run {
    /// The bucket's name, so that the owner's backup alone lists buckets by name.
    pub bucket: String,
    pub entries: BTreeMap<String, Entry>,
}

/// Where the run is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Root {
    pub run: Part,
}

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

impl Part {
    /// The key a part is sealed under. `wrapped` must have been made by the bucket's `secret`.
    pub fn key(&self, network: &[u8; 32], bucket: &[u8; 32], secret: &Secret) -> Result<PartKey, SealError> {
        let object = secret.unwrap(&self.object, &self.wrapped)?;
        let place = Place {
            network: *network,
            bucket: *bucket,
            object: self.object,
            part: self.number,
            attempt: 0,
            algorithm: self.algorithm,
        };
        PartKey::committed(&object, &place, &self.commitment)
    }

    /// As it stands in a run.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Writer::new();
        self.write(&mut out);
        out.finish()
    }

    pub fn decode(bytes: &[u8]) -> Result<Self, IndexError> {
        let mut input = Reader::new(bytes);
        let part = Self::read(&mut input)?;
        input.end()?;
        Ok(part)
    }

    fn write(&self, out: &mut Writer) {
        out.array(8)
            .uint(self.number.into())
            .bytes(&self.object)
            .bytes(&self.wrapped)
            .uint(self.algorithm as u64)
            .bytes(&self.commitment)
            .uint(self.size_bytes)
            .bytes(&self.content);
        self.page.write(out);
    }

    fn read(input: &mut Reader<'_>) -> Result<Self, IndexError> {
        input.tuple(8)?;
        let number = u32::try_from(input.uint()?).map_err(|_| IndexError::Shape("part number"))?;
        let (object, wrapped) = (input.fixed()?, input.fixed()?);
        let code = input.uint()?;
        let algorithm =
            u8::try_from(code).ok().and_then(Algorithm::from_u8).ok_or(IndexError::Algorithm(code))?;
        Ok(Self {
            number,
            object,
            wrapped,
            algorithm,
            commitment: input.fixed()?,
            size_bytes: input.uint()?,
            content: input.fixed()?,
            page: PageRef::read(input)?,
        })
    }
}

impl Entry {
    pub fn size_bytes(&self) -> u64 {
        self.parts.iter().map(|part| part.size_bytes).sum()
    }

    /// Refuses what no reader would take back.
    pub fn check(&self) -> Result<(), IndexError> {
        let meta: usize = self.meta.iter().map(|(name, value)| name.len() + value.len()).sum();
        if meta > META_BYTES_MAX || self.meta.len() > META_MAX {
            return Err(IndexError::Shape("more metadata than 8 KiB or 128 names"));
        }
        if self.etag.len() > TEXT_BYTES_MAX || self.content_type.len() > TEXT_BYTES_MAX {
            return Err(IndexError::Shape("etag or content type longer than 1 KiB"));
        }
        if self.parts.is_empty() || self.parts.len() > PARTS_MAX {
            return Err(IndexError::Shape("an object has 1 to 10,000 parts"));
        }
        if !self.parts.windows(2).all(|pair| pair[0].number < pair[1].number) {
            return Err(IndexError::Shape("parts do not ascend"));
        }
        Ok(())
    }

    fn write(&self, out: &mut Writer) {
        out.array(5).uint(self.modified_ms).text(&self.etag).text(&self.content_type);
        out.array(self.meta.len() * 2);
        for (name, value) in &self.meta {
            out.text(name).text(value);
        }
        out.array(self.parts.len());
        for part in &self.parts {
            part.write(out);
        }
    }

    fn read(input: &mut Reader<'_>) -> Result<Self, IndexError> {
        input.tuple(5)?;
        let modified_ms = input.uint()?;
        let etag = input.text(TEXT_BYTES_MAX)?.to_owned();
        let content_type = input.text(TEXT_BYTES_MAX)?.to_owned();
        let count = input.array(META_MAX * 2)?;
        if !count.is_multiple_of(2) {
            return Err(IndexError::Shape("metadata without a value"));
        }
        let mut meta = BTreeMap::new();
        for _ in 0..count / 2 {
            let name = input.text(META_BYTES_MAX)?.to_owned();
            let value = input.text(META_BYTES_MAX)?.to_owned();
            if meta.last_key_value().is_some_and(|(last, _)| *last >= name) {
                return Err(IndexError::Shape("metadata out of order"));
            }
            meta.insert(name, value);
        }
        let count = input.array(PARTS_MAX)?;
        let parts = (0..count).map(|_| Part::read(input)).collect::<Result<_, _>>()?;
        let entry = Self { modified_ms, etag, content_type, meta, parts };
        entry.check()?;
        Ok(entry)
    }
}

impl Run {
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Writer::new();
        out.array(3).uint(VERSION).text(&self.bucket).array(self.entries.len() * 2);
        for (key, entry) in &self.entries {
            out.text(key);
            entry.write(&mut out);
        }
        out.finish()
    }

    pub fn decode(bytes: &[u8]) -> Result<Self, IndexError> {
        let mut input = Reader::new(bytes);
        input.tuple(3)?;
        input.exactly("version", VERSION)?;
        let bucket = input.text(TEXT_BYTES_MAX)?.to_owned();
        let count = input.array(ENTRIES_MAX * 2)?;
        if !count.is_multiple_of(2) {
            return Err(IndexError::Shape("a key without an entry"));
        }
        let mut entries = BTreeMap::new();
        for _ in 0..count / 2 {
            let key = input.text(KEY_BYTES_MAX)?.to_owned();
            if entries.last_key_value().is_some_and(|(last, _)| *last >= key) {
                return Err(IndexError::Shape("keys out of order"));
            }
            entries.insert(key, Entry::read(&mut input)?);
        }
        input.end()?;
        Ok(Self { bucket, entries })
    }

    /// The part number a run is sealed under.
    pub fn part_number() -> u32 {
        RUN_PART
    }

    /// Bytes of all objects.
    pub fn size_bytes(&self) -> u64 {
        self.entries.values().map(Entry::size_bytes).sum()
    }
}

impl Root {
    /// The root as a shard, and its id. `salt` is fresh randomness: it makes the key used once.
    pub fn seal(
        &self,
        network: &[u8; 32],
        bucket: &[u8; 32],
        secret: &Secret,
        salt: [u8; 16],
    ) -> Result<(Vec<u8>, ShardId), IndexError> {
        let mut out = Writer::new();
        out.array(2).uint(VERSION);
        self.run.write(&mut out);
        let body = out.finish();
        let mut shard = vec![0; ROOT_BYTES];
        let (head, frame) = shard.split_at_mut(16);
        let room = frame.len() - TAG_BYTES - 4;
        if body.len() > room {
            return Err(IndexError::Shape("the root does not fit 4 KiB"));
        }
        head.copy_from_slice(&salt);
        frame[..4].copy_from_slice(&(body.len() as u32).to_be_bytes());
        frame[4..4 + body.len()].copy_from_slice(&body);
        key(network, bucket, secret, salt).seal(0, true, frame);
        let id = ShardId::of(&shard);
        Ok((shard, id))
    }

    /// Opens a shard that hashes to the ledger's root.
    pub fn open(
        shard: &[u8],
        network: &[u8; 32],
        bucket: &[u8; 32],
        secret: &Secret,
    ) -> Result<Self, IndexError> {
        if shard.len() != ROOT_BYTES {
            return Err(IndexError::Shape("a root is 4 KiB"));
        }
        let (salt, frame) = shard.split_first_chunk::<16>().ok_or(IndexError::Shape("a root is 4 KiB"))?;
        let mut frame = frame.to_vec();
        let plain = key(network, bucket, secret, *salt).open(0, true, &mut frame)?;
        let (len, rest) = plain.split_first_chunk::<4>().ok_or(IndexError::Shape("root"))?;
        let len = u32::from_be_bytes(*len) as usize;
        let body = rest.get(..len).ok_or(IndexError::Shape("root length"))?;
        let mut input = Reader::new(body);
        input.tuple(2)?;
        input.exactly("version", VERSION)?;
        let run = Part::read(&mut input)?;
        input.end()?;
        Ok(Self { run })
    }
}

fn key(network: &[u8; 32], bucket: &[u8; 32], secret: &Secret, salt: [u8; 16]) -> PartKey {
    let place = Place {
        network: *network,
        bucket: *bucket,
        object: salt,
        part: ROOT_PART,
        attempt: 0,
        algorithm: Algorithm::Aes256Gcm,
    };
    PartKey::new(&secret.derive("hodei 2026 index root v1", &salt), &place)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::Holder;
    use hodei_types::transport::NodeKey;

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
        };
        let entries = [("dir/a".to_string(), entry.clone()), ("ü".to_string(), entry)].into();
        Run { bucket: "photos".into(), entries }
    }

    #[test]
    fn a_run_has_one_encoding() {
        let bytes = run().encode();
        assert_eq!(Run::decode(&bytes), Ok(run()));
        assert_eq!(run().size_bytes(), 4 << 40);
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
        let root = Root { run: part(RUN_PART) };
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
        entry.meta.insert("x".into(), "y".repeat(META_BYTES_MAX));
        assert!(entry.check().is_err());
    }
}
