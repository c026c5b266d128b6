//! Say where a part's shards are, to whoever repairs it.
//!
//! A page lists up to 64 stripes: their shard ids and who holds which. It holds no name, key or plaintext
//! length, so a repairer reads it without being able to read the data. A page is padded to whole 4 KiB, and
//! so is itself a shard: its id is its hash, the index entry names it, and n - k + 1 of the stripe's providers
//! hold a copy. A part of more than one page has a list page that names them. A page of version 2 carries its part's
//! pads under the bucket's care key, for custodians.

use crate::{
    pads::{ENTRUSTED_BYTES, PartPads},
    seal::{SealError, Secret},
};
use hodei_types::{
    cbor::{CborError, Reader, Writer},
    code::{CodeId, SHARD_ALIGN, SHARD_BYTES_MAX},
    slice::{ShardId, SliceError, check_length},
    transport::NodeKey,
};

/// Version of both page formats.
pub const VERSION: u64 = 1;
/// Of pages with entrusted pads.
const ENTRUSTED: u64 = 2;
/// Stripes of one page: 256 MiB of data at 16-of-32, in 67 kB.
pub const STRIPES_MAX: usize = 64;
/// Pages of one list: 48 GiB of a part at 3-of-6, 256 GiB at 16-of-32. A longer object has more parts.
pub const PAGES_MAX: usize = 1024;
/// Providers a page can name: n, and spares that took over from slow ones.
pub const HOLDERS_MAX: usize = 255;

/// One provider of a page, and the deal it is paid under.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Holder {
    pub node: NodeKey,
    pub deal: u64,
}

/// One stripe's shards.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stripe {
    /// Bytes of each shard.
    pub shard_bytes: u32,
    /// n of them, in the code's order: the first k are data.
    pub ids: Vec<ShardId>,
    /// Exceptions to "holder i has shard i": (shard, holder), shards ascending.
    pub moved: Vec<(u8, u8)>,
}

/// Up to 64 stripes placed together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    pub code: CodeId,
    pub k: u8,
    pub n: u8,
    /// At least n; holder i has shard i of each stripe, unless it moved.
    pub holders: Vec<Holder>,
    pub stripes: Vec<Stripe>,
    /// The part's pads, and which of its stripes is the page's first: for who has the bucket's care key.
    pub pads: Option<[u8; ENTRUSTED_BYTES]>,
}

/// Where a copy of a page is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PageRef {
    pub id: ShardId,
    pub bytes: u32,
    pub stripes: u32,
    pub holders: Vec<Holder>,
}

/// The pages of a long part, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct List {
    pub pages: Vec<PageRef>,
}

/// Why bytes are no page.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ManifestError {
    #[error("page: {0}")]
    Cbor(#[from] CborError),
    #[error("page: code {0} is unknown to this version")]
    Code(u64),
    #[error("page: {0}")]
    Shape(&'static str),
    #[error("page: {0}")]
    Length(#[from] SliceError),
    #[error("expected page {expected}, found {found}")]
    Mismatch { expected: ShardId, found: ShardId },
}

impl Page {
    /// Who holds shard `shard` of stripe `stripe` of this page; `None` outside.
    pub fn holder(&self, stripe: usize, shard: u8) -> Option<&Holder> {
        let moved = &self.stripes.get(stripe)?.moved;
        let at = moved.iter().find(|(moved, _)| *moved == shard).map_or(shard, |(_, holder)| *holder);
        self.holders.get(usize::from(at)).filter(|_| shard < self.n)
    }

    /// Every listed shard, by deal.
    pub fn shards(&self) -> impl Iterator<Item = (u64, ShardId)> {
        self.stripes.iter().enumerate().flat_map(move |(at, stripe)| {
            let held = move |(shard, id): (usize, &ShardId)| Some((self.holder(at, shard as u8)?.deal, *id));
            stripe.ids.iter().enumerate().filter_map(held)
        })
    }

    /// The same with pads that `entrust` seals for this very page.
    pub fn entrusted_by(self, entrust: impl FnOnce(&ShardId) -> [u8; ENTRUSTED_BYTES]) -> Self {
        let pads = Some(entrust(&self.bare()));
        Self { pads, ..self }
    }

    /// The part's pads and the number of the page's first stripe, if the bucket's owner made this page.
    pub fn entrusted(&self, care: &Secret) -> Result<(PartPads, u32), SealError> {
        let sealed = self.pads.as_ref().ok_or(SealError::Entrusted)?;
        PartPads::entrusted(care, sealed, &self.bare())
    }

    /// Its hash without pads.
    fn bare(&self) -> ShardId {
        Self { pads: None, ..self.clone() }.seal().1
    }

    /// The page as a shard: padded, and its id.
    pub fn seal(&self) -> (Vec<u8>, ShardId) {
        let mut out = Writer::with_capacity(self.stripes.len() * usize::from(self.n) * 34 + 8192);
        let (values, version) = if self.pads.is_some() { (8, ENTRUSTED) } else { (7, VERSION) };
        out.array(values).uint(version).uint(KIND_PAGE);
        out.uint(self.code as u64).uint(self.k.into()).uint(self.n.into());
        write_holders(&mut out, &self.holders);
        out.array(self.stripes.len());
        for stripe in &self.stripes {
            out.array(3).uint(stripe.shard_bytes.into()).array(stripe.ids.len());
            for id in &stripe.ids {
                out.bytes(&id.0);
            }
            out.array(stripe.moved.len() * 2);
            for (shard, holder) in &stripe.moved {
                out.uint((*shard).into()).uint((*holder).into());
            }
        }
        if let Some(pads) = &self.pads {
            out.bytes(pads);
        }
        pad(out.finish())
    }

    /// Reads a page that must be `id`. Everything it says is within limits and agrees with itself.
    pub fn open(id: &ShardId, shard: &[u8]) -> Result<Self, ManifestError> {
        let body = unpad(id, shard)?;
        let mut input = Reader::new(body);
        let is_entrusted = input.array(8)? == 8;
        input.exactly("version", if is_entrusted { ENTRUSTED } else { VERSION })?;
        input.exactly("page kind", KIND_PAGE)?;
        let code = input.uint()?;
        let code = u16::try_from(code).ok().and_then(CodeId::from_u16).ok_or(ManifestError::Code(code))?;
        let (k, n) = (input.byte()?, input.byte()?);
        if k == 0 || k >= n {
            return Err(ManifestError::Shape("k must be at least 1 and less than n"));
        }
        let holders = read_holders(&mut input)?;
        if holders.len() < n.into() {
            return Err(ManifestError::Shape("fewer holders than shards"));
        }
        let stripes = input.array(STRIPES_MAX)?;
        let stripes = (0..stripes).map(|_| read_stripe(&mut input, n, holders.len())).collect::<Result<_, _>>()?;
        let pads = if is_entrusted { Some(input.fixed()?) } else { None };
        input.end()?;
        Ok(Self { code, k, n, holders, stripes, pads })
    }
}

impl List {
    /// Refuses more pages, or copies of them, than one shard can name.
    pub fn seal(&self) -> Result<(Vec<u8>, ShardId), ManifestError> {
        let mut out = Writer::new();
        out.array(3).uint(VERSION).uint(KIND_LIST).array(self.pages.len());
        for page in &self.pages {
            page.write(&mut out);
        }
        let body = out.finish();
        if self.pages.len() > PAGES_MAX || body.len() + 4 > SHARD_BYTES_MAX as usize {
            return Err(ManifestError::Shape("a list this long does not fit a shard: cut the object into more parts"));
        }
        Ok(pad(body))
    }

    pub fn open(id: &ShardId, shard: &[u8]) -> Result<Self, ManifestError> {
        let body = unpad(id, shard)?;
        let mut input = Reader::new(body);
        input.tuple(3)?;
        input.exactly("version", VERSION)?;
        input.exactly("page kind", KIND_LIST)?;
        let pages = input.array(PAGES_MAX)?;
        let pages = (0..pages).map(|_| PageRef::read(&mut input)).collect::<Result<_, _>>()?;
        input.end()?;
        Ok(Self { pages })
    }
}

/// What a shard is, by its first bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Page,
    List,
}

impl Kind {
    /// `None` for what is neither; a shard that only looks like one does not open.
    pub fn of(first: &[u8]) -> Option<Self> {
        match first.get(4..7)? {
            [0x88, 2, 0] | [0x87, 1, 0] => Some(Self::Page),
            [0x83, 1, 1] => Some(Self::List),
            _ => None,
        }
    }
}

impl PageRef {
    /// Its copies, by deal.
    pub fn copies(&self) -> impl Iterator<Item = (u64, ShardId)> {
        self.holders.iter().map(|holder| (holder.deal, self.id))
    }

    /// Canonical CBOR: [id, bytes, stripes, holders].
    pub fn write(&self, out: &mut Writer) {
        out.array(4).bytes(&self.id.0).uint(self.bytes.into()).uint(self.stripes.into());
        write_holders(out, &self.holders);
    }

    pub fn read(input: &mut Reader<'_>) -> Result<Self, ManifestError> {
        input.tuple(4)?;
        let id = ShardId(input.fixed()?);
        let bytes = read_shard_bytes(input)?;
        let stripes = input.uint()?;
        let stripes = u32::try_from(stripes).map_err(|_| ManifestError::Shape("too many stripes"))?;
        Ok(Self { id, bytes, stripes, holders: read_holders(input)? })
    }
}

const KIND_PAGE: u64 = 0;
const KIND_LIST: u64 = 1;

fn write_holders(out: &mut Writer, holders: &[Holder]) {
    out.array(holders.len() * 2);
    for holder in holders {
        out.bytes(&holder.node.0).uint(holder.deal);
    }
}

fn read_holders(input: &mut Reader<'_>) -> Result<Vec<Holder>, ManifestError> {
    let values = input.array(HOLDERS_MAX * 2)?;
    if !values.is_multiple_of(2) {
        return Err(ManifestError::Shape("a holder without a deal"));
    }
    (0..values / 2).map(|_| Ok(Holder { node: NodeKey(input.fixed()?), deal: input.uint()? })).collect()
}

fn read_stripe(input: &mut Reader<'_>, n: u8, holders: usize) -> Result<Stripe, ManifestError> {
    input.tuple(3)?;
    let shard_bytes = read_shard_bytes(input)?;
    input.tuple(n.into())?;
    let ids = (0..n).map(|_| Ok(ShardId(input.fixed()?))).collect::<Result<_, CborError>>()?;
    let values = input.array(usize::from(n) * 2)?;
    if !values.is_multiple_of(2) {
        return Err(ManifestError::Shape("a moved shard without a holder"));
    }
    let mut moved: Vec<(u8, u8)> = Vec::with_capacity(values / 2);
    for _ in 0..values / 2 {
        let (shard, holder) = (input.byte()?, input.byte()?);
        let ordered = moved.last().is_none_or(|(last, _)| *last < shard);
        if !ordered || shard >= n || usize::from(holder) >= holders {
            return Err(ManifestError::Shape("a shard moved to nowhere, or twice"));
        }
        moved.push((shard, holder));
    }
    Ok(Stripe { shard_bytes, ids, moved })
}

fn read_shard_bytes(input: &mut Reader<'_>) -> Result<u32, ManifestError> {
    let bytes = input.uint()?;
    check_length(bytes)?;
    Ok(bytes as u32)
}

/// A u32 length before the CBOR tells it from the padding.
pub(crate) fn pad(body: Vec<u8>) -> (Vec<u8>, ShardId) {
    let len = (4 + body.len()).next_multiple_of(SHARD_ALIGN as usize);
    assert!(len <= SHARD_BYTES_MAX as usize, "a page within its limits fits a shard");
    let mut shard = Vec::with_capacity(len);
    shard.extend_from_slice(&(body.len() as u32).to_be_bytes());
    shard.extend_from_slice(&body);
    shard.resize(len, 0);
    let id = ShardId::of(&shard);
    (shard, id)
}

pub(crate) fn unpad<'a>(id: &ShardId, shard: &'a [u8]) -> Result<&'a [u8], ManifestError> {
    check_length(shard.len() as u64)?;
    let found = ShardId::of(shard);
    if found != *id {
        return Err(ManifestError::Mismatch { expected: *id, found });
    }
    let (len, rest) = shard.split_first_chunk::<4>().ok_or(ManifestError::Shape("empty"))?;
    let len = u32::from_be_bytes(*len) as usize;
    let (body, padding) = rest.split_at_checked(len).ok_or(ManifestError::Shape("length beyond the shard"))?;
    if padding.len() >= SHARD_ALIGN as usize || padding.iter().any(|byte| *byte != 0) {
        return Err(ManifestError::Shape("padding"));
    }
    Ok(body)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn holders(n: u8) -> Vec<Holder> {
        (0..n).map(|i| Holder { node: NodeKey([i; 32]), deal: u64::from(i) * 1000 }).collect()
    }

    fn page(k: u8, n: u8, stripes: usize) -> Page {
        let ids = |s: usize| (0..n).map(|i| ShardId([i ^ s as u8; 32])).collect();
        let stripe = |s| Stripe { shard_bytes: 262144, ids: ids(s), moved: vec![(1, n)] };
        Page {
            code: CodeId::Rs8,
            k,
            n,
            holders: holders(n + 1),
            stripes: (0..stripes).map(stripe).collect(),
            pads: None,
        }
    }

    #[test]
    fn a_page_is_a_shard_and_reads_back() {
        let entrusted = Page { pads: Some([7; ENTRUSTED_BYTES]), ..page(3, 6, 2) };
        for page in [page(3, 6, 1), page(16, 32, STRIPES_MAX), page(20, 253, STRIPES_MAX), entrusted] {
            let (shard, id) = page.seal();
            assert_eq!(Kind::of(&shard), Some(Kind::Page));
            assert_eq!(check_length(shard.len() as u64), Ok(()));
            assert_eq!(Page::open(&id, &shard), Ok(page.clone()));
            assert_eq!(page.holder(0, 0).unwrap().node, NodeKey([0; 32]));
            assert_eq!(page.holder(0, 1).unwrap().node, NodeKey([page.n; 32]), "it moved");
            assert_eq!(page.holder(0, page.n), None);
        }
        let list =
            List { pages: vec![PageRef { id: ShardId([1; 32]), bytes: 4096, stripes: 64, holders: holders(4) }; 3] };
        let (shard, id) = list.seal().unwrap();
        assert_eq!(List::open(&id, &shard), Ok(list));
        assert_eq!(Kind::of(&shard), Some(Kind::List));
        assert!(Page::open(&id, &shard).is_err(), "a list is no page");
    }

    /// The bytes of version 1: a change here is a new version, not an edit.
    #[test]
    fn pages_are_frozen() {
        let list =
            List { pages: vec![PageRef { id: page(3, 6, 1).seal().1, bytes: 4096, stripes: 1, holders: holders(4) }] };
        assert_eq!(&list.seal().unwrap().1.to_string()[..16], "963276d496c5614c");
    }

    #[test]
    fn a_list_that_fits_no_shard_is_refused() {
        let page = |n| PageRef { id: ShardId([1; 32]), bytes: 1 << 20, stripes: 64, holders: holders(n) };
        let (shard, _) = List { pages: vec![page(17); PAGES_MAX] }.seal().unwrap();
        assert!(shard.len() <= SHARD_BYTES_MAX as usize);
        assert!(List { pages: vec![page(17); PAGES_MAX + 1] }.seal().is_err());
        assert!(List { pages: vec![page(60); PAGES_MAX] }.seal().is_err());
    }

    #[test]
    fn mutated_pages_decode_to_themselves_or_not_at_all() {
        let (good, _) = Page { pads: Some([7; ENTRUSTED_BYTES]), ..page(3, 6, 2) }.seal();
        let mut seed = 9u64;
        for _ in 0..20_000 {
            let mut shard = good.clone();
            for _ in 0..2 {
                seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                shard[(seed >> 33) as usize % 700] = (seed >> 20) as u8;
            }
            let id = ShardId::of(&shard);
            if let Ok(page) = Page::open(&id, &shard) {
                assert_eq!(page.seal(), (shard, id));
            }
        }
        assert!(matches!(Page::open(&ShardId([0; 32]), &good), Err(ManifestError::Mismatch { .. })));
    }
}
