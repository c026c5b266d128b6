//! Say how the bytes of one sending are found and opened.

use super::IndexError;
use crate::{
    manifest::PageRef,
    seal::{Algorithm, PartKey, Place, SealError, Secret, WRAPPED_BYTES},
};
use hodei_types::cbor::{Reader, Writer};

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

    pub(super) fn write(&self, out: &mut Writer) {
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

    pub(super) fn read(input: &mut Reader<'_>) -> Result<Self, IndexError> {
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
