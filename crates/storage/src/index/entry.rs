//! Describe one version of an object.
//!
//! What few objects have is in a map at the entry's end, by number and only where present: a plain object pays
//! one byte for all of it.

use super::{
    IndexError, KEY_BYTES_MAX, Lock, PARTS_MAX, Part, Version,
    table::{Reading, Writing},
};
use hodei_types::cbor::{Reader, Writer};
use std::collections::BTreeMap;

/// S3 allows 2 KiB of user metadata; names and values together.
pub const META_BYTES_MAX: usize = 8 * 1024;
const META_MAX: usize = 128;
pub(super) const TEXT_BYTES_MAX: usize = 1024;
/// S3 allows 10 tags, of 128 and 256 characters of at most 4 bytes.
pub const TAGS_MAX: usize = 10;
const TAG_BYTES_MAX: usize = 256 * 4;
/// As long as S3's longest policy.
pub const DOCUMENT_BYTES_MAX: usize = 20 * 1024;
/// S3 allows a redirect 2 KiB.
const REDIRECT_BYTES_MAX: usize = 2048;
/// Base64 of the longest digest there is, 64 bytes.
const CHECKSUM_BYTES_MAX: usize = 88;
const EXTRAS_MAX: usize = 10;

/// What a checksum is computed with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Digest {
    Crc32 = 1,
    Crc32c = 2,
    Crc64Nvme = 3,
    Sha1 = 4,
    Sha256 = 5,
}

/// A checksum the client chose. The bytes are checked against it as they come in; reading them, the cloud has
/// stronger ones of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checksum {
    pub algorithm: Digest,
    /// Base64, without the number of parts.
    pub value: String,
    /// Over the parts' checksums instead of the bytes.
    pub composite: bool,
    /// Of each part in their order, base64; empty unless the object was made of parts.
    pub parts: Vec<String>,
}

/// The customer's key an object can be opened with only; the key itself is kept nowhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Customer {
    /// Tells the customer which key it was.
    pub md5: [u8; 16],
    /// Random: makes the object's wrapping key its own.
    pub salt: [u8; 16],
}

/// A version of an object, or a marker that it was deleted.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Entry {
    pub modified_ms: u64,
    /// Without quotes; may be empty.
    pub etag: String,
    pub content_type: String,
    /// User metadata, names in lower case.
    pub meta: BTreeMap<String, String>,
    pub parts: Vec<Part>,
    pub version: Version,
    /// A delete marker: it has no parts.
    pub marker: bool,
    pub tags: BTreeMap<String, String>,
    pub lock: Option<Lock>,
    /// Who may do what, as whoever judges it writes it.
    pub acl: Option<String>,
    /// The principal's name.
    pub owner: Option<String>,
    pub checksum: Option<Checksum>,
    /// Storage class as it was asked for.
    pub class: Option<String>,
    pub customer: Option<Customer>,
    /// Where a website sends who asks for it.
    pub redirect: Option<String>,
}

impl Entry {
    pub fn size_bytes(&self) -> u64 {
        self.parts.iter().map(|part| part.size_bytes).sum()
    }

    /// Refuses what no reader would take back.
    pub fn check(&self) -> Result<(), IndexError> {
        self.check_words()?;
        if self.marker && !self.parts.is_empty() {
            return Err(IndexError::Shape("a delete marker has no parts"));
        }
        if !self.marker && self.parts.is_empty() || self.parts.len() > PARTS_MAX {
            return Err(IndexError::Shape("an object has 1 to 10,000 parts"));
        }
        if !self.parts.windows(2).all(|pair| pair[0].number < pair[1].number) {
            return Err(IndexError::Shape("parts do not ascend"));
        }
        let parts = self.checksum.as_ref().map_or(0, |checksum| checksum.parts.len());
        if parts > 0 && parts != self.parts.len() {
            return Err(IndexError::Shape("checksums of other parts than it has"));
        }
        Ok(())
    }

    /// The same of all but the parts, before these are stored.
    pub fn check_words(&self) -> Result<(), IndexError> {
        let meta: usize = self.meta.iter().map(|(name, value)| name.len() + value.len()).sum();
        if meta > META_BYTES_MAX || self.meta.len() > META_MAX {
            return Err(IndexError::Shape("more metadata than 8 KiB or 128 names"));
        }
        if self.etag.len() > TEXT_BYTES_MAX || self.content_type.len() > TEXT_BYTES_MAX {
            return Err(IndexError::Shape("etag or content type longer than 1 KiB"));
        }
        let long = |text: &Option<String>, max| text.as_ref().is_some_and(|text| text.len() > max);
        if self.tags.len() > TAGS_MAX
            || self.tags.iter().any(|(name, value)| name.len().max(value.len()) > TAG_BYTES_MAX)
        {
            return Err(IndexError::Shape("more than 10 tags, or a tag longer than 1 KiB"));
        }
        if long(&self.acl, DOCUMENT_BYTES_MAX) || long(&self.redirect, REDIRECT_BYTES_MAX) {
            return Err(IndexError::Shape("an access list longer than 20 KiB, or a redirect longer than 2 KiB"));
        }
        if long(&self.owner, KEY_BYTES_MAX) || long(&self.class, TEXT_BYTES_MAX) {
            return Err(IndexError::Shape("an owner or a storage class longer than 1 KiB"));
        }
        if let Some(checksum) = &self.checksum
            && checksum.parts.iter().chain([&checksum.value]).any(|value| value.len() > CHECKSUM_BYTES_MAX)
        {
            return Err(IndexError::Shape("a checksum longer than 64 bytes"));
        }
        Ok(())
    }

    pub(super) fn write(&self, out: &mut Writer, packs: &Writing<'_>) {
        out.array(6).uint(self.modified_ms).text(&self.etag).text(&self.content_type);
        pairs(out, &self.meta);
        out.array(self.parts.len());
        for part in &self.parts {
            part.write(out, packs);
        }
        let present = [
            self.version != Version::Null,
            self.marker,
            !self.tags.is_empty(),
            self.lock.is_some(),
            self.acl.is_some(),
            self.owner.is_some(),
            self.checksum.is_some(),
            self.class.is_some(),
            self.customer.is_some(),
            self.redirect.is_some(),
        ];
        out.map(present.iter().filter(|is| **is).count());
        if let Version::Id(id) = &self.version {
            out.uint(0).bytes(id);
        }
        if self.marker {
            out.uint(1).uint(1);
        }
        if !self.tags.is_empty() {
            pairs(out.uint(2), &self.tags);
        }
        if let Some(lock) = &self.lock {
            lock.write(out.uint(3));
        }
        if let Some(acl) = &self.acl {
            out.uint(4).text(acl);
        }
        if let Some(owner) = &self.owner {
            out.uint(5).text(owner);
        }
        if let Some(checksum) = &self.checksum {
            checksum.write(out.uint(6));
        }
        if let Some(class) = &self.class {
            out.uint(7).text(class);
        }
        if let Some(customer) = &self.customer {
            out.uint(8).array(2).bytes(&customer.md5).bytes(&customer.salt);
        }
        if let Some(redirect) = &self.redirect {
            out.uint(9).text(redirect);
        }
    }

    pub(super) fn read(input: &mut Reader<'_>, packs: &mut Reading) -> Result<Self, IndexError> {
        input.tuple(6)?;
        let mut entry = Self {
            modified_ms: input.uint()?,
            etag: input.text(TEXT_BYTES_MAX)?.to_owned(),
            content_type: input.text(TEXT_BYTES_MAX)?.to_owned(),
            meta: read_pairs(input, META_MAX, META_BYTES_MAX)?,
            ..Self::default()
        };
        let count = input.array(PARTS_MAX)?;
        entry.parts = (0..count).map(|_| Part::read(input, packs)).collect::<Result<_, _>>()?;
        let mut last = None;
        for _ in 0..input.map(EXTRAS_MAX)? {
            let code = input.uint()?;
            if last.is_some_and(|last| last >= code) {
                return Err(IndexError::Shape("an entry's map out of order"));
            }
            last = Some(code);
            entry.extra(code, input)?;
        }
        entry.check()?;
        Ok(entry)
    }

    fn extra(&mut self, code: u64, input: &mut Reader<'_>) -> Result<(), IndexError> {
        match code {
            0 => self.version = Version::Id(input.fixed()?),
            1 => {
                input.exactly("delete marker", 1)?;
                self.marker = true;
            }
            2 => {
                self.tags = read_pairs(input, TAGS_MAX, TAG_BYTES_MAX)?;
                if self.tags.is_empty() {
                    return Err(IndexError::Shape("tags without a tag"));
                }
            }
            3 => self.lock = Some(Lock::read(input)?),
            4 => self.acl = Some(input.text(DOCUMENT_BYTES_MAX)?.into()),
            5 => self.owner = Some(input.text(KEY_BYTES_MAX)?.into()),
            6 => self.checksum = Some(Checksum::read(input)?),
            7 => self.class = Some(input.text(TEXT_BYTES_MAX)?.into()),
            8 => {
                input.tuple(2)?;
                self.customer = Some(Customer { md5: input.fixed()?, salt: input.fixed()? });
            }
            9 => self.redirect = Some(input.text(REDIRECT_BYTES_MAX)?.into()),
            _ => return Err(IndexError::Shape("an entry says what this version does not know")),
        }
        Ok(())
    }
}

impl Checksum {
    /// As it stands in an entry.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Writer::new();
        self.write(&mut out);
        out.finish()
    }

    pub fn decode(bytes: &[u8]) -> Result<Self, IndexError> {
        let mut input = Reader::new(bytes);
        let checksum = Self::read(&mut input)?;
        input.end()?;
        Ok(checksum)
    }

    fn write(&self, out: &mut Writer) {
        out.array(4).uint(self.algorithm as u64).text(&self.value).uint(self.composite.into());
        out.array(self.parts.len());
        for part in &self.parts {
            out.text(part);
        }
    }

    fn read(input: &mut Reader<'_>) -> Result<Self, IndexError> {
        input.tuple(4)?;
        let algorithm = match input.uint()? {
            1 => Digest::Crc32,
            2 => Digest::Crc32c,
            3 => Digest::Crc64Nvme,
            4 => Digest::Sha1,
            5 => Digest::Sha256,
            code => return Err(IndexError::Algorithm(code)),
        };
        let value = input.text(CHECKSUM_BYTES_MAX)?.to_owned();
        let composite = match input.uint()? {
            0 => false,
            1 => true,
            _ => return Err(IndexError::Shape("a checksum is composite or not")),
        };
        let count = input.array(PARTS_MAX)?;
        let parts = (0..count).map(|_| Ok(input.text(CHECKSUM_BYTES_MAX)?.to_owned()));
        Ok(Self { algorithm, value, composite, parts: parts.collect::<Result<_, IndexError>>()? })
    }
}

pub(super) fn pairs(out: &mut Writer, map: &BTreeMap<String, String>) {
    out.array(map.len() * 2);
    for (name, value) in map {
        out.text(name).text(value);
    }
}

/// Pairs in the order of their names, each once.
pub(super) fn read_pairs(
    input: &mut Reader<'_>,
    max: usize,
    bytes_max: usize,
) -> Result<BTreeMap<String, String>, IndexError> {
    let count = input.array(max * 2)?;
    if !count.is_multiple_of(2) {
        return Err(IndexError::Shape("a name without a value"));
    }
    let mut map = BTreeMap::new();
    for _ in 0..count / 2 {
        let name = input.text(bytes_max)?.to_owned();
        let value = input.text(bytes_max)?.to_owned();
        if map.last_key_value().is_some_and(|(last, _)| *last >= name) {
            return Err(IndexError::Shape("names out of order"));
        }
        map.insert(name, value);
    }
    Ok(map)
}
