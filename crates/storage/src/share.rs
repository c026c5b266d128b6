//! Say where one object is and how it opens, or several, to whoever has their link.
//!
//! A share's record is one shard of the bucket, sealed under a key that only the link has. It names the objects'
//! parts with their own keys, unwrapped: the bucket's key is not in it, and follows from nothing in it. Who holds
//! what is told by one table for all parts. Without the link it is bytes like any other shard's.

mod collection;
mod fare;

pub use collection::Collection;
pub use fare::{FARES_MAX, Fare, decode as read_fares, encode as write_fares};

use crate::{
    index::{Home, Part},
    manifest::{HOLDERS_MAX, Holder, PageRef},
    pack,
    seal::{Algorithm, FRAME_BYTES, PartKey, Place, SealError, Secret, TAG_BYTES},
};
use hodei_types::{
    cbor::{CborError, Reader, Writer},
    code::{SHARD_ALIGN, SHARD_BYTES_MAX, Shape},
    slice::{ShardId, check_length},
    transport::NodeKey,
};

/// The second: a part says how it was spread. The third is of several objects.
const VERSION: u64 = 2;
/// Values of a record of that version.
const VALUES: usize = 7;
/// No object's, run's or root's part has this number.
const RECORD_PART: u32 = u32::MAX - 2;
/// A part takes about 200 bytes, and a record is one shard.
pub const PARTS_MAX: usize = 5_000;
const TEXT_BYTES_MAX: usize = 1024;
const HEADERS_MAX: usize = 16;
/// Providers that hold pages of an object of many parts.
const TABLE_MAX: usize = HOLDERS_MAX;

/// What a link tells of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Told {
    One(Record),
    Many(Collection),
}

/// One object as its bearer may know it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// File name, without what stands before the last slash of the key; in a collection the path below its prefix.
    pub name: String,
    pub content_type: String,
    /// Further headers it is served with, such as `content-encoding`.
    pub headers: Vec<(String, String)>,
    pub modified_ms: u64,
    pub parts: Vec<Shared>,
}

/// One part, and its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shared {
    pub number: u32,
    pub object: [u8; 16],
    pub secret: Secret,
    pub algorithm: Algorithm,
    pub commitment: [u8; 32],
    pub size_bytes: u64,
    /// BLAKE3 of the plaintext.
    pub content: [u8; 32],
    /// How it, or its pack, was spread.
    pub shape: Shape,
    /// Of the part, or of its pack.
    pub page: PageRef,
    pub pack: Option<Within>,
}

/// The pack a part is in. Its key takes the pads off; the members beside this one stay sealed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Within {
    pub object: [u8; 16],
    pub secret: Secret,
    pub algorithm: Algorithm,
    pub commitment: [u8; 32],
    pub size_bytes: u64,
    pub offset: u64,
}

/// Why an object cannot be shared, or a record not be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ShareError {
    #[error("share: {0}")]
    Cbor(#[from] CborError),
    #[error("share: {0}")]
    Seal(#[from] SealError),
    #[error("share: {0}")]
    Shape(&'static str),
    #[error("an object of more than {PARTS_MAX} parts does not fit one share: copy it to another key first")]
    Parts,
    #[error(
        "{files} objects of {parts} parts do not fit one share, which has room for 1 MiB of about 200 bytes for each of {PARTS_MAX} parts: share fewer, such as a folder below"
    )]
    Room { files: usize, parts: usize },
}

impl Shared {
    /// A part whose key `bucket`, the bucket's secret, opens.
    pub fn of(part: &Part, bucket: &Secret) -> Result<Self, ShareError> {
        Ok(Self {
            number: part.number,
            object: part.object,
            secret: bucket.unwrap(&part.object, &part.wrapped)?,
            algorithm: part.algorithm,
            commitment: part.commitment,
            size_bytes: part.size_bytes,
            content: part.content,
            shape: part.stored().shape,
            page: part.page().clone(),
            pack: within(part, bucket)?,
        })
    }

    /// The key of its pack, if it is in one.
    pub fn pack_key(&self, network: &[u8; 32], bucket: &[u8; 32]) -> Option<Result<PartKey, SealError>> {
        let pack = self.pack.as_ref()?;
        let place = Place {
            network: *network,
            bucket: *bucket,
            object: pack.object,
            part: pack::PART,
            attempt: 0,
            algorithm: pack.algorithm,
        };
        Some(PartKey::committed(&pack.secret, &place, &pack.commitment))
    }

    /// The key it is sealed under.
    pub fn key(&self, network: &[u8; 32], bucket: &[u8; 32]) -> Result<PartKey, SealError> {
        let place = Place {
            network: *network,
            bucket: *bucket,
            object: self.object,
            part: self.number,
            attempt: 0,
            algorithm: self.algorithm,
        };
        PartKey::committed(&self.secret, &place, &self.commitment)
    }
}

fn within(part: &Part, bucket: &Secret) -> Result<Option<Within>, SealError> {
    let Home::Pack { pack, offset } = &part.home else { return Ok(None) };
    Ok(Some(Within {
        object: pack.object,
        secret: bucket.unwrap(&pack.object, &pack.wrapped)?,
        algorithm: pack.algorithm,
        commitment: pack.commitment,
        size_bytes: pack.size_bytes,
        offset: *offset,
    }))
}

impl Told {
    /// The record as a shard, and its id. `secret` is random and of this share alone, so the key is used once. `fares`
    /// are those of its passes' tabs, if what they read is paid for; none takes no room.
    pub fn seal(
        &self,
        network: &[u8; 32],
        bucket: &[u8; 32],
        secret: &Secret,
        fares: &[Fare],
    ) -> Result<(Vec<u8>, ShardId), ShareError> {
        let (body, full) = match self {
            Self::One(record) => (record.encode()?, ShareError::Parts),
            Self::Many(collection) => (collection.encode()?, collection.full()),
        };
        let units = (1..=SHARD_BYTES_MAX / SHARD_ALIGN).map(|units| (units * SHARD_ALIGN) as usize);
        let fares = fare::encode(fares)?;
        let fits = |len: &usize| plain_bytes(*len) >= 4 + body.len() + fares.len();
        let len = { units }.find(fits).ok_or(full)?;
        let mut plain = Vec::with_capacity(len);
        plain.extend_from_slice(&(body.len() as u32).to_be_bytes());
        plain.extend_from_slice(&body);
        plain.extend_from_slice(&fares);
        plain.resize(plain_bytes(len), 0);
        let key = key(network, bucket, secret);
        let frames = len.div_ceil(FRAME_BYTES);
        let mut shard = Vec::with_capacity(len);
        for (number, piece) in plain.chunks(FRAME_BYTES - TAG_BYTES).enumerate() {
            let mut frame = piece.to_vec();
            frame.resize(piece.len() + TAG_BYTES, 0);
            key.seal(number as u64, number + 1 == frames, &mut frame);
            shard.extend_from_slice(&frame);
        }
        let id = ShardId::of(&shard);
        Ok((shard, id))
    }

    /// Opens a shard that is the link's record; and what its passes' tabs pay, if they do.
    pub fn open(
        shard: &[u8],
        network: &[u8; 32],
        bucket: &[u8; 32],
        secret: &Secret,
    ) -> Result<(Self, Vec<Fare>), ShareError> {
        check_length(shard.len() as u64).map_err(|_| ShareError::Shape("length of the record"))?;
        let key = key(network, bucket, secret);
        let frames = shard.len().div_ceil(FRAME_BYTES);
        let mut plain = Vec::with_capacity(shard.len());
        for (number, frame) in shard.chunks(FRAME_BYTES).enumerate() {
            let mut frame = frame.to_vec();
            plain.extend_from_slice(key.open(number as u64, number + 1 == frames, &mut frame)?);
        }
        let (len, rest) = plain.split_first_chunk::<4>().ok_or(ShareError::Shape("empty"))?;
        let short = ShareError::Shape("length of the body");
        let (body, behind) = rest.split_at_checked(u32::from_be_bytes(*len) as usize).ok_or(short)?;
        Ok((Self::decode(body)?, fare::decode(behind)?))
    }

    fn decode(body: &[u8]) -> Result<Self, ShareError> {
        let mut input = Reader::new(body);
        // Each version has a number of values of its own.
        let told = match input.array(VALUES.max(collection::VALUES))? {
            VALUES => Self::One(Record::read(&mut input)?),
            collection::VALUES => Self::Many(Collection::read(&mut input)?),
            _ => return Err(ShareError::Shape("a record has 7 values, or 4 if it is of several objects")),
        };
        input.end()?;
        Ok(told)
    }
}

impl Record {
    pub fn size_bytes(&self) -> u64 {
        self.parts.iter().map(|part| part.size_bytes).sum()
    }

    fn encode(&self) -> Result<Vec<u8>, ShareError> {
        if self.parts.len() > PARTS_MAX {
            return Err(ShareError::Parts);
        }
        let table = table(&self.parts)?;
        let mut out = Writer::with_capacity(self.parts.len() * 256 + table.len() * 48 + 4096);
        out.array(VALUES).uint(VERSION).text(&self.name).text(&self.content_type).uint(self.modified_ms);
        write_headers(&mut out, &self.headers);
        write_table(&mut out, &table);
        write_parts(&mut out, &self.parts, &table);
        Ok(out.finish())
    }

    fn read(input: &mut Reader<'_>) -> Result<Self, ShareError> {
        input.exactly("version", VERSION)?;
        let name = input.text(TEXT_BYTES_MAX)?.to_owned();
        let content_type = input.text(TEXT_BYTES_MAX)?.to_owned();
        let modified_ms = input.uint()?;
        let headers = read_headers(input)?;
        let table = read_table(input)?;
        let parts = read_parts(input, &table, PARTS_MAX)?;
        Ok(Self { name, content_type, headers, modified_ms, parts })
    }
}

/// Who holds pages of these parts, each once.
fn table<'a>(parts: impl IntoIterator<Item = &'a Shared>) -> Result<Vec<Holder>, ShareError> {
    let mut table: Vec<Holder> = Vec::new();
    for holder in parts.into_iter().flat_map(|part| &part.page.holders) {
        if !table.contains(holder) {
            table.push(*holder);
        }
    }
    if table.len() > TABLE_MAX {
        return Err(ShareError::Shape("its pages are at more than 255 providers: copy it to another key first"));
    }
    Ok(table)
}

fn write_headers(out: &mut Writer, headers: &[(String, String)]) {
    out.array(headers.len() * 2);
    for (name, value) in headers {
        out.text(name).text(value);
    }
}

fn write_table(out: &mut Writer, table: &[Holder]) {
    out.array(table.len() * 2);
    for holder in table {
        out.bytes(&holder.node.0).uint(holder.deal);
    }
}

fn write_parts(out: &mut Writer, parts: &[Shared], table: &[Holder]) {
    out.array(parts.len());
    for part in parts {
        out.array(12 + if part.pack.is_some() { 6 } else { 0 })
            .uint(part.number.into())
            .bytes(&part.object)
            .bytes(part.secret.expose());
        out.uint(part.algorithm as u64).bytes(&part.commitment).uint(part.size_bytes).bytes(&part.content);
        out.bytes(&part.shape.to_bytes());
        out.bytes(&part.page.id.0).uint(part.page.bytes.into()).uint(part.page.stripes.into());
        let at = |holder: &Holder| table.iter().position(|known| known == holder).expect("it was added") as u8;
        out.bytes(&part.page.holders.iter().map(at).collect::<Vec<u8>>());
        if let Some(pack) = &part.pack {
            out.bytes(&pack.object).bytes(pack.secret.expose()).uint(pack.algorithm as u64).bytes(&pack.commitment);
            out.uint(pack.size_bytes).uint(pack.offset);
        }
    }
}

fn read_headers(input: &mut Reader<'_>) -> Result<Vec<(String, String)>, ShareError> {
    let count = even(input.array(HEADERS_MAX * 2)?)?;
    let mut headers = Vec::new();
    for _ in 0..count {
        headers.push((input.text(TEXT_BYTES_MAX)?.to_owned(), input.text(TEXT_BYTES_MAX)?.to_owned()));
    }
    Ok(headers)
}

fn read_table(input: &mut Reader<'_>) -> Result<Vec<Holder>, ShareError> {
    let count = even(input.array(TABLE_MAX * 2)?)?;
    let holders = (0..count).map(|_| Ok(Holder { node: NodeKey(input.fixed()?), deal: input.uint()? }));
    Ok(holders.collect::<Result<_, CborError>>()?)
}

fn read_parts(input: &mut Reader<'_>, table: &[Holder], most: usize) -> Result<Vec<Shared>, ShareError> {
    let count = input.array(most)?;
    (0..count).map(|_| read_part(input, table)).collect()
}

fn even(values: usize) -> Result<usize, ShareError> {
    if values.is_multiple_of(2) { Ok(values / 2) } else { Err(ShareError::Shape("half of a pair")) }
}

fn read_part(input: &mut Reader<'_>, table: &[Holder]) -> Result<Shared, ShareError> {
    let values = input.array(18)?;
    if values != 12 && values != 18 {
        return Err(ShareError::Shape("a part has 12 values, or 18 in a pack"));
    }
    let number = u32::try_from(input.uint()?).map_err(|_| ShareError::Shape("part number"))?;
    let (object, secret) = (input.fixed()?, Secret::new(input.fixed()?));
    let algorithm = read_algorithm(input)?;
    let (commitment, size_bytes, content) = (input.fixed()?, input.uint()?, input.fixed()?);
    let shape = Shape::from_bytes(input.fixed()?).map_err(|_| ShareError::Shape("how a part was spread"))?;
    let id = ShardId(input.fixed()?);
    let bytes = input.uint()?;
    check_length(bytes).map_err(|_| ShareError::Shape("length of a page"))?;
    let stripes = u32::try_from(input.uint()?).map_err(|_| ShareError::Shape("too many stripes"))?;
    let holders = input.bytes(HOLDERS_MAX)?.iter().map(|at| table.get(usize::from(*at)).copied());
    let holders = holders.collect::<Option<_>>().ok_or(ShareError::Shape("a holder outside of the table"))?;
    let page = PageRef { id, bytes: bytes as u32, stripes, holders };
    let pack = if values == 18 { Some(read_within(input, size_bytes)?) } else { None };
    Ok(Shared { number, object, secret, algorithm, commitment, size_bytes, content, shape, page, pack })
}

fn read_algorithm(input: &mut Reader<'_>) -> Result<Algorithm, ShareError> {
    let algorithm = u8::try_from(input.uint()?).ok().and_then(Algorithm::from_u8);
    algorithm.ok_or(ShareError::Shape("an algorithm this version does not know"))
}

fn read_within(input: &mut Reader<'_>, size_bytes: u64) -> Result<Within, ShareError> {
    let pack = Within {
        object: input.fixed()?,
        secret: Secret::new(input.fixed()?),
        algorithm: read_algorithm(input)?,
        commitment: input.fixed()?,
        size_bytes: input.uint()?,
        offset: input.uint()?,
    };
    pack::check(size_bytes, pack.offset, pack.size_bytes).map_err(|_| ShareError::Shape("a place no pack has"))?;
    Ok(pack)
}

/// What `len` bytes of frames hold.
fn plain_bytes(len: usize) -> usize {
    len - len.div_ceil(FRAME_BYTES) * TAG_BYTES
}

fn key(network: &[u8; 32], bucket: &[u8; 32], secret: &Secret) -> PartKey {
    let place = Place {
        network: *network,
        bucket: *bucket,
        object: [0; 16],
        part: RECORD_PART,
        attempt: 0,
        algorithm: Algorithm::Aes256Gcm,
    };
    PartKey::new(&secret.derive("hodei 2026 share record v1", bucket), &place)
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) const NETWORK: [u8; 32] = [1; 32];
    pub(super) const BUCKET: [u8; 32] = [2; 32];

    fn part(number: u32) -> Part {
        let holder = |at: u8| Holder { node: NodeKey([at; 32]), deal: u64::from(at) * 1000 };
        let holders = (number as u8 % 8..).take(17).map(holder).collect();
        let object = [number as u8; 16];
        Part {
            number,
            object,
            wrapped: Secret::new([9; 32]).wrap(&object, &Secret::new([8; 32])),
            algorithm: Algorithm::Aes256Gcm,
            commitment: [3; 32],
            size_bytes: 1 << 40,
            content: [4; 32],
            shape: Shape::new(3, 6, 1).unwrap(),
            home: Home::Own(PageRef { id: ShardId([6; 32]), bytes: 8192, stripes: 3, holders }),
        }
    }

    /// In a pack whose key is another.
    fn member() -> Shared {
        let wrapped = Secret::new([9; 32]).wrap(&[7; 16], &Secret::new([6; 32]));
        let pack = Part { number: pack::PART, object: [7; 16], wrapped, size_bytes: 4096, ..part(1) };
        let home = Home::Pack { pack: std::sync::Arc::new(pack), offset: 100 };
        Shared::of(&Part { size_bytes: 50, home, ..part(1) }, &Secret::new([9; 32])).unwrap()
    }

    #[test]
    fn a_record_of_a_pack_s_member_has_both_keys() {
        let secret = Secret::new([5; 32]);
        let record = Record { parts: vec![member()], ..record(1) };
        let (shard, _) = Told::One(record.clone()).seal(&NETWORK, &BUCKET, &secret, &[]).unwrap();
        let back = one(Told::open(&shard, &NETWORK, &BUCKET, &secret).unwrap().0);
        assert_eq!(back, record);
        let pack = back.parts[0].pack.as_ref().unwrap();
        assert_eq!((&pack.secret, &back.parts[0].secret), (&Secret::new([6; 32]), &Secret::new([8; 32])));
        let mut beyond = record.clone();
        beyond.parts[0].pack.as_mut().unwrap().offset = 4096 - 65;
        assert!(Told::decode(&beyond.encode().unwrap()).is_err(), "it ends behind the pack");
    }

    fn one(told: Told) -> Record {
        match told {
            Told::One(record) => record,
            Told::Many(_) => panic!("it is of several objects"),
        }
    }

    pub(super) fn record(parts: u32) -> Record {
        Record {
            name: "ü.jpg".into(),
            content_type: "image/jpeg".into(),
            headers: vec![("content-encoding".into(), "gzip".into())],
            modified_ms: 7,
            parts: (1..=parts).map(|number| Shared::of(&part(number), &Secret::new([9; 32])).unwrap()).collect(),
        }
    }

    #[test]
    fn a_record_opens_with_its_own_key_and_place_only() {
        let secret = Secret::new([5; 32]);
        for parts in [1, 400, PARTS_MAX as u32] {
            let (shard, id) = Told::One(record(parts)).seal(&NETWORK, &BUCKET, &secret, &[]).unwrap();
            assert_eq!((ShardId::of(&shard), check_length(shard.len() as u64)), (id, Ok(())));
            let back = one(Told::open(&shard, &NETWORK, &BUCKET, &secret).unwrap().0);
            assert_eq!(back, record(parts));
            assert_eq!(back.parts[0].secret, Secret::new([8; 32]), "the object's key, not the bucket's");
        }
        let (shard, _) = Told::One(record(1)).seal(&NETWORK, &BUCKET, &secret, &[]).unwrap();
        assert!(Told::open(&shard, &NETWORK, &BUCKET, &Secret::new([6; 32])).is_err());
        assert!(Told::open(&shard, &NETWORK, &[3; 32], &secret).is_err());
        assert!(Told::open(&shard[..4000], &NETWORK, &BUCKET, &secret).is_err());
        for at in (0..shard.len()).step_by(97) {
            let mut bent = shard.clone();
            bent[at] ^= 1;
            assert!(Told::open(&bent, &NETWORK, &BUCKET, &secret).is_err());
        }
    }

    #[test]
    fn what_fits_no_record_is_refused() {
        let secret = Secret::new([5; 32]);
        let long = Told::One(record(PARTS_MAX as u32 + 1));
        assert_eq!(long.seal(&NETWORK, &BUCKET, &secret, &[]), Err(ShareError::Parts));
        let mut whole = record(2);
        whole.parts.push(member());
        let body = whole.encode().unwrap();
        let mut seed = 3u64;
        for _ in 0..20_000 {
            seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            let mut bent = body.clone();
            let at = (seed >> 33) as usize % bent.len();
            bent[at] = (seed >> 20) as u8;
            if let Ok(told) = Told::decode(&bent) {
                assert!(one(told).encode().is_ok(), "what is read can be written");
            }
            assert!(Told::decode(&body[..at]).is_err());
        }
    }
}
