//! Turn a stripe's plaintext into shards, and any k shards into plaintext.

use crate::{
    code::{CodeError, Codec},
    pads::ENTRUSTED_BYTES,
    seal::{FRAME_BYTES, FRAME_PLAIN_BYTES, PartKey, SealError, Secret, TAG_BYTES},
};
use bytes::Bytes;
use hodei_types::{
    code::{SHARD_ALIGN, SHARD_BYTES, Shape},
    slice::ShardId,
};

/// Frames of one full shard.
const FRAMES_PER_SHARD: u64 = SHARD_BYTES as u64 / FRAME_BYTES as u64;

/// Plaintext bytes of a full stripe.
pub fn plain_bytes(shape: &Shape) -> u64 {
    u64::from(shape.k()) * FRAMES_PER_SHARD * FRAME_PLAIN_BYTES as u64
}

/// Memory a stripe under way takes: its plaintext, and its shards.
pub(crate) fn slot_bytes(shape: &Shape) -> u64 {
    (u64::from(shape.k()) + u64::from(shape.n())) * u64::from(SHARD_BYTES)
}

/// Frames that `size` plaintext bytes of one stripe make; an empty part has one.
fn frames(size: usize) -> usize {
    size.div_ceil(FRAME_PLAIN_BYTES).max(1)
}

/// Bytes of each of k shards for so many bytes of a stripe.
fn cut(k: u8, bytes: usize) -> usize {
    bytes.max(1).div_ceil(k.into()).next_multiple_of(SHARD_ALIGN as usize)
}

/// Seals, codes and pads one part's stripes, and undoes it.
#[derive(Debug)]
pub struct Coder {
    key: PartKey,
    codec: Codec,
    /// A pack's stripes are not sealed: its members are.
    is_pack: bool,
}

/// A stripe ready to leave: n shards and their ids, data shards first.
pub struct Coded {
    pub shards: Vec<Bytes>,
    pub ids: Vec<ShardId>,
}

/// Why shards, each right by its id, did not give the plaintext: a wrong key, or a manifest that lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum StripeError {
    #[error(transparent)]
    Code(#[from] CodeError),
    #[error(transparent)]
    Seal(#[from] SealError),
    #[error("shards of {found} bytes, expected {expected}")]
    Length { expected: usize, found: usize },
}

impl Coder {
    pub fn new(key: PartKey, shape: &Shape) -> Self {
        Self { key, codec: Codec::new(shape.k(), shape.n()), is_pack: false }
    }

    /// For a pack: bytes that are sealed already.
    pub fn of_pack(key: PartKey, shape: &Shape) -> Self {
        Self { is_pack: true, ..Self::new(key, shape) }
    }

    /// Bytes of each shard of a stripe with `size` plaintext bytes.
    pub(super) fn shard_bytes(&self, size: usize) -> usize {
        let tags = if self.is_pack { 0 } else { frames(size) * TAG_BYTES };
        cut(self.codec.k(), size + tags)
    }

    /// Takes the pad off a run of a shard's bytes that begins at `offset`, a multiple of 16.
    pub(super) fn unpad(&self, stripe: u32, shard: u8, offset: usize, bytes: &mut [u8]) {
        self.key.stripe(stripe).apply(shard, offset, bytes);
    }

    /// What the entry keeps to tell the right key.
    pub fn commitment(&self) -> &[u8; 32] {
        self.key.commitment()
    }

    /// The part's pads for a custodian, in the page whose first stripe is `first`.
    pub(super) fn entrust(&self, care: &Secret, first: u32, page: &ShardId) -> [u8; ENTRUSTED_BYTES] {
        self.key.pads().entrust(care, first, page)
    }

    fn number(&self, stripe: u32, frame: usize) -> u64 {
        u64::from(stripe) * u64::from(self.codec.k()) * FRAMES_PER_SHARD + frame as u64
    }

    /// Codes one stripe; `is_last` if the part ends with it.
    pub fn code(&self, stripe: u32, plain: &[u8], is_last: bool) -> Coded {
        let (k, n) = (self.codec.k(), self.codec.n());
        let len = self.shard_bytes(plain.len());
        let count = if self.is_pack { 0 } else { frames(plain.len()) };
        let mut data = vec![0; len * usize::from(k)];
        if self.is_pack {
            data[..plain.len()].copy_from_slice(plain);
        }
        for frame in 0..count {
            let from = (frame * FRAME_PLAIN_BYTES).min(plain.len());
            let piece = &plain[from..(from + FRAME_PLAIN_BYTES).min(plain.len())];
            let room = &mut data[frame * FRAME_BYTES..][..piece.len() + TAG_BYTES];
            room[..piece.len()].copy_from_slice(piece);
            self.key.seal(self.number(stripe, frame), is_last && frame + 1 == count, room);
        }
        let mut parity = vec![0; len * usize::from(n - k)];
        self.codec.encode(&data, &mut parity);
        let pads = self.key.stripe(stripe);
        let mut ids = Vec::with_capacity(n.into());
        for (index, shard) in data.chunks_exact_mut(len).chain(parity.chunks_exact_mut(len)).enumerate() {
            pads.apply(index as u8, 0, shard);
            ids.push(ShardId::of(shard));
        }
        let split = |shards: Vec<u8>| {
            let shards = Bytes::from(shards);
            (0..shards.len() / len).map(move |at| shards.slice(at * len..(at + 1) * len))
        };
        Coded { shards: split(data).chain(split(parity)).collect(), ids }
    }

    /// Opens a stripe of `size` plaintext bytes from its shards by index, at least k of them present.
    pub(crate) fn open(
        &self,
        stripe: u32,
        shards: &[Option<Bytes>],
        size: usize,
        is_last: bool,
    ) -> Result<Bytes, StripeError> {
        let k = usize::from(self.codec.k());
        let len = self.shard_bytes(size);
        let pads = self.key.stripe(stripe);
        let mut data = vec![0; len * k];
        let mut parity = Vec::new();
        let mut missing = Vec::new();
        for (index, shard) in shards.iter().enumerate() {
            let Some(shard) = shard else {
                missing.extend((index < k).then_some(index as u8));
                continue;
            };
            if shard.len() != len {
                return Err(StripeError::Length { expected: len, found: shard.len() });
            }
            if index < k {
                let room = &mut data[index * len..(index + 1) * len];
                room.copy_from_slice(shard);
                pads.apply(index as u8, 0, room);
            } else if parity.len() < missing.len() {
                let mut shard = shard.to_vec();
                pads.apply(index as u8, 0, &mut shard);
                parity.push((index as u8, shard));
            }
        }
        if !missing.is_empty() {
            let present = (0..k as u8).filter(|index| !missing.contains(index));
            let mut have: Vec<(u8, &[u8])> =
                present.map(|index| (index, &data[usize::from(index) * len..][..len])).collect();
            have.extend(parity.iter().map(|(index, shard)| (*index, shard.as_slice())));
            let mut restored = vec![0; len * missing.len()];
            self.codec.restore(&have, &missing, &mut restored)?;
            for (index, shard) in missing.iter().zip(restored.chunks_exact(len)) {
                data[usize::from(*index) * len..][..len].copy_from_slice(shard);
            }
        }
        if self.is_pack {
            data.truncate(size);
            return Ok(data.into());
        }
        let count = frames(size);
        let mut plain = Vec::with_capacity(size);
        for frame in 0..count {
            let bytes = (size - frame * FRAME_PLAIN_BYTES).min(FRAME_PLAIN_BYTES) + TAG_BYTES;
            let sealed = &mut data[frame * FRAME_BYTES..][..bytes];
            let last = is_last && frame + 1 == count;
            plain.extend_from_slice(self.key.open(self.number(stripe, frame), last, sealed)?);
        }
        Ok(plain.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        code::Geometry,
        seal::{Algorithm, Place},
    };

    fn key() -> PartKey {
        let place = Place {
            network: [1; 32],
            bucket: [2; 32],
            object: [3; 16],
            part: 1,
            attempt: 0,
            algorithm: Algorithm::Aes256Gcm,
        };
        PartKey::new(&Secret::new([4; 32]), &place)
    }

    #[test]
    fn a_pack_is_coded_as_it_is() {
        let shape = Shape::new(3, 6, 1).unwrap();
        let coder = Coder::of_pack(key(), &shape);
        let full = plain_bytes(&shape) as usize;
        for size in [1, 4000, 12_288, 12_289, full] {
            let plain: Vec<u8> = (0..size).map(|i| (i * 31 % 251) as u8).collect();
            let coded = coder.code(2, &plain, true);
            assert_eq!(coded.shards[0].len(), size.div_ceil(3).next_multiple_of(4096), "no room for tags");
            let mut shards: Vec<Option<Bytes>> = coded.shards.iter().cloned().map(Some).collect();
            shards[1] = None;
            assert_eq!(coder.open(2, &shards, size, true).unwrap(), plain);
            // The first shard alone shows its bytes, once its pad is off.
            let len = coded.shards[0].len().min(size);
            let mut first = coded.shards[0][..len].to_vec();
            assert!(len < 16 || first != plain[..len], "a pad hides it");
            coder.unpad(2, 0, 0, &mut first);
            assert_eq!(first, plain[..len]);
        }
    }

    #[test]
    fn any_k_shards_open_a_stripe_of_any_size() {
        let shape = Shape::new(3, 6, 1).unwrap();
        let coder = Coder::new(key(), &shape);
        let full = plain_bytes(&shape) as usize;
        for size in [0, 1, 4000, FRAME_PLAIN_BYTES, FRAME_PLAIN_BYTES + 1, full - 1, full] {
            let plain: Vec<u8> = (0..size).map(|i| (i * 31 % 251) as u8).collect();
            let coded = coder.code(2, &plain, true);
            let geometry = Geometry::new(3, 2 * full as u64 + size as u64);
            if size > 0 {
                assert_eq!(coded.shards[0].len() as u32, geometry.shard_bytes(2), "{size}");
            }
            for lost in 0..20usize {
                // Each choice of three of six.
                let mut shards: Vec<Option<Bytes>> = vec![None; 6];
                for at in [[0, 1, 2], [3, 4, 5], [0, 2, 4], [1, 3, 5], [2, 3, 0]][lost % 5] {
                    shards[at] = Some(coded.shards[at].clone());
                }
                assert_eq!(coder.open(2, &shards, size, true).unwrap(), plain, "{size} {lost}");
            }
            let all: Vec<_> = coded.shards.into_iter().map(Some).collect();
            assert!(coder.open(2, &all, size, false).is_err(), "it is the last");
            assert!(coder.open(1, &all, size, true).is_err(), "of stripe 2");
        }
    }
}
