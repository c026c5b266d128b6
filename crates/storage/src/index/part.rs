//! Say how the bytes of one sending are found and opened.
//!
//! Providers hold a part as shards that its page lists, or they hold a pack, which is such a part, with this one in
//! it. A member of a pack has keys of its own all the same: only where it lies is the pack's affair.

use super::{
    IndexError,
    table::{Reading, Writing},
};
use crate::{
    manifest::PageRef,
    pack,
    seal::{Algorithm, PartKey, Place, SealError, Secret, WRAPPED_BYTES},
};
use hodei_types::{
    cbor::{Reader, Writer},
    code::Shape,
};
use std::sync::Arc;

/// Where a part's sealed bytes are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Home {
    /// At providers, as shards of their own.
    Own(PageRef),
    /// In a pack, from this byte on.
    Pack { pack: Arc<Part>, offset: u64 },
}

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
    /// How it was spread: the bucket's at that moment, which may be another one now. A member's is its pack's.
    pub shape: Shape,
    pub home: Home,
}

impl Part {
    /// What providers hold of it: itself, or its pack.
    pub fn stored(&self) -> &Part {
        match &self.home {
            Home::Own(_) => self,
            Home::Pack { pack, .. } => pack,
        }
    }

    /// Lists the shards of what providers hold.
    pub fn page(&self) -> &PageRef {
        match &self.home {
            Home::Own(page) => page,
            Home::Pack { pack, .. } => pack.page(),
        }
    }

    /// Whether it is a pack: its bytes are members, each sealed on its own.
    pub fn is_pack(&self) -> bool {
        self.number == pack::PART
    }

    /// Bytes of what providers hold, before coding, that are this part's.
    pub fn stored_bytes(&self) -> u64 {
        match &self.home {
            Home::Own(_) => self.size_bytes,
            Home::Pack { .. } => pack::sealed_bytes(self.size_bytes),
        }
    }

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

    /// A part that providers hold, by itself. Panics for a member: what finds its pack stands in its layer.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Writer::new();
        self.write_own(&mut out);
        out.finish()
    }

    pub fn decode(bytes: &[u8]) -> Result<Self, IndexError> {
        let mut input = Reader::new(bytes);
        let part = Self::read_own(&mut input)?;
        input.end()?;
        Ok(part)
    }

    pub(super) fn write_own(&self, out: &mut Writer) {
        let Home::Own(page) = &self.home else { panic!("a member is written with its layer's packs") };
        self.write_head(out, 9);
        out.bytes(&self.shape.to_bytes());
        page.write(out);
    }

    pub(super) fn read_own(input: &mut Reader<'_>) -> Result<Self, IndexError> {
        Self::read_with(input, |input, values, _| own(input, values))
    }

    /// As it stands in a layer: a member tells which of the layer's packs it is in.
    pub(super) fn write(&self, out: &mut Writer, packs: &Writing<'_>) {
        match &self.home {
            Home::Own(_) => self.write_own(out),
            Home::Pack { pack, offset } => {
                self.write_head(out, 8);
                out.array(2).uint(packs.at(pack)).uint(*offset);
            }
        }
    }

    pub(super) fn read(input: &mut Reader<'_>, packs: &mut Reading) -> Result<Self, IndexError> {
        Self::read_with(input, |input, values, size_bytes| {
            if values == 9 {
                return own(input, values);
            }
            input.tuple(2)?;
            let pack = packs.get(input.uint()?)?;
            let offset = input.uint()?;
            pack::check(size_bytes, offset, pack.size_bytes)?;
            Ok((pack.shape, Home::Pack { pack, offset }))
        })
    }

    fn write_head(&self, out: &mut Writer, values: usize) {
        out.array(values)
            .uint(self.number.into())
            .bytes(&self.object)
            .bytes(&self.wrapped)
            .uint(self.algorithm as u64)
            .bytes(&self.commitment)
            .uint(self.size_bytes)
            .bytes(&self.content);
    }

    fn read_with(
        input: &mut Reader<'_>,
        home: impl FnOnce(&mut Reader<'_>, usize, u64) -> Result<(Shape, Home), IndexError>,
    ) -> Result<Self, IndexError> {
        let values = input.array(9)?;
        if values < 8 {
            return Err(IndexError::Shape("a part has 9 values, or 8 in a pack"));
        }
        let number = u32::try_from(input.uint()?).map_err(|_| IndexError::Shape("part number"))?;
        let (object, wrapped) = (input.fixed()?, input.fixed()?);
        let code = input.uint()?;
        let algorithm = u8::try_from(code).ok().and_then(Algorithm::from_u8).ok_or(IndexError::Algorithm(code))?;
        let (commitment, size_bytes, content) = (input.fixed()?, input.uint()?, input.fixed()?);
        let (shape, home) = home(input, values, size_bytes)?;
        Ok(Self { number, object, wrapped, algorithm, commitment, size_bytes, content, shape, home })
    }
}

/// How a part was spread, and its page.
fn own(input: &mut Reader<'_>, values: usize) -> Result<(Shape, Home), IndexError> {
    if values != 9 {
        return Err(IndexError::Shape("a part that is in no pack has 9 values"));
    }
    Ok((Shape::from_bytes(input.fixed()?)?, Home::Own(PageRef::read(input)?)))
}
