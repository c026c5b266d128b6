//! Lay small objects side by side into one part, each sealed on its own.
//!
//! A pack's bytes are its members' frames, one member after the other, with nothing between them and no table:
//! where a member lies, its index entry says. The pack is coded and padded like any part but not sealed again, so
//! one member is read without its neighbours, and whoever has one member's key and the pack's, which only takes
//! off the pads, opens no other. A member is moved to another pack as it is, by whoever has no key of it.

use crate::{
    index::IndexError,
    seal::{FRAME_BYTES, FRAME_PLAIN_BYTES, PartKey, SealError, TAG_BYTES},
};

/// Part number of a pack, which no object's part has.
pub const PART: u32 = u32::MAX - 3;
/// An object of up to so many bytes is packed with others that are put at the same time.
pub const OBJECT_BYTES_MAX: usize = 64 * 1024;
/// Bytes of one pack: the study's stripe of 4 MiB, six stripes at 3-of-6, one at 16-of-32.
pub const BYTES_MAX: usize = 4 * 1024 * 1024;

/// Bytes a member of `size` plaintext bytes takes; an empty one has a frame all the same.
pub fn sealed_bytes(size: u64) -> u64 {
    size + size.div_ceil(FRAME_PLAIN_BYTES as u64).max(1) * TAG_BYTES as u64
}

/// Whether less than half of a pack's bytes are of members that are still named: it is written anew.
pub fn is_sparse(live_bytes: u64, pack_bytes: u64) -> bool {
    live_bytes < pack_bytes.div_ceil(2)
}

/// Refuses a place that no packer made.
pub(crate) fn check(size: u64, offset: u64, pack_bytes: u64) -> Result<(), IndexError> {
    if size > OBJECT_BYTES_MAX as u64 {
        return Err(IndexError::Shape("an object in a pack is longer than 64 KiB"));
    }
    if pack_bytes > BYTES_MAX as u64 {
        return Err(IndexError::Shape("a pack is longer than 4 MiB"));
    }
    if offset.checked_add(sealed_bytes(size)).is_none_or(|end| end > pack_bytes) {
        return Err(IndexError::Shape("an object ends behind its pack"));
    }
    Ok(())
}

/// Seals a member: its frames, ready to be laid into a pack.
pub fn seal(key: &PartKey, plain: &[u8]) -> Vec<u8> {
    let mut sealed = Vec::with_capacity(sealed_bytes(plain.len() as u64) as usize);
    let count = plain.len().div_ceil(FRAME_PLAIN_BYTES).max(1);
    for number in 0..count {
        let piece = &plain[number * FRAME_PLAIN_BYTES..plain.len().min((number + 1) * FRAME_PLAIN_BYTES)];
        let from = sealed.len();
        sealed.extend_from_slice(piece);
        sealed.resize(sealed.len() + TAG_BYTES, 0);
        key.seal(number as u64, number + 1 == count, &mut sealed[from..]);
    }
    sealed
}

/// Opens a member's frames.
pub fn open(key: &PartKey, sealed: &[u8]) -> Result<Vec<u8>, SealError> {
    let count = sealed.len().div_ceil(FRAME_BYTES).max(1);
    let mut plain = Vec::with_capacity(sealed.len());
    for number in 0..count {
        let mut frame = sealed[number * FRAME_BYTES..sealed.len().min((number + 1) * FRAME_BYTES)].to_vec();
        plain.extend_from_slice(key.open(number as u64, number + 1 == count, &mut frame)?);
    }
    Ok(plain)
}

/// A pack that is filled.
#[derive(Debug, Default)]
pub struct Packer {
    bytes: Vec<u8>,
}

impl Packer {
    /// Whether a member of so many sealed bytes still fits.
    pub fn has_room(&self, sealed: usize) -> bool {
        self.bytes.len() + sealed <= BYTES_MAX
    }

    /// Lays a member behind the others; gives its offset. Panics where there is no room.
    pub fn add(&mut self, sealed: &[u8]) -> u64 {
        assert!(self.has_room(sealed.len()), "a pack has at most 4 MiB");
        let offset = self.bytes.len() as u64;
        self.bytes.extend_from_slice(sealed);
        offset
    }

    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    pub fn finish(self) -> Vec<u8> {
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seal::{Algorithm, Place, Secret};

    fn key(object: u8) -> PartKey {
        let place = Place {
            network: [1; 32],
            bucket: [2; 32],
            object: [object; 16],
            part: 1,
            attempt: 0,
            algorithm: Algorithm::Aes256Gcm,
        };
        PartKey::new(&Secret::new([object; 32]), &place)
    }

    fn plain(size: usize) -> Vec<u8> {
        (0..size).map(|at| (at * 31 % 251) as u8).collect()
    }

    #[test]
    fn members_open_with_their_own_keys_and_nothing_else() {
        let sizes = [0, 1, 1024, FRAME_PLAIN_BYTES, FRAME_PLAIN_BYTES + 1, OBJECT_BYTES_MAX];
        let mut packer = Packer::default();
        let mut places = Vec::new();
        for (at, size) in sizes.into_iter().enumerate() {
            let sealed = seal(&key(at as u8), &plain(size));
            assert_eq!(sealed.len() as u64, sealed_bytes(size as u64));
            places.push(packer.add(&sealed) as usize);
        }
        let pack = packer.finish();
        for (at, size) in sizes.into_iter().enumerate() {
            let from = places[at];
            let sealed = &pack[from..from + sealed_bytes(size as u64) as usize];
            check(size as u64, from as u64, pack.len() as u64).unwrap();
            assert_eq!(open(&key(at as u8), sealed), Ok(plain(size)));
            for other in (0..sizes.len()).filter(|other| *other != at) {
                assert!(open(&key(other as u8), sealed).is_err(), "a neighbour's key opens it");
            }
            assert!(open(&key(at as u8), &sealed[..sealed.len() - 1]).is_err(), "cut");
            let mut bent = sealed.to_vec();
            bent[size / 2] ^= 1;
            assert!(open(&key(at as u8), &bent).is_err());
        }
    }

    #[test]
    fn places_that_no_packer_makes_are_refused() {
        let pack = BYTES_MAX as u64;
        assert!(check(OBJECT_BYTES_MAX as u64, 0, pack).is_ok());
        assert!(check(OBJECT_BYTES_MAX as u64 + 1, 0, pack).is_err(), "too long");
        assert!(check(0, pack - 16, pack).is_ok());
        assert!(check(0, pack - 15, pack).is_err(), "behind its end");
        assert!(check(1, u64::MAX - 16, pack).is_err(), "around the end of numbers");
        assert!(check(1, 0, pack + 1).is_err(), "no pack is so long");
    }

    #[test]
    fn half_empty_is_sparse() {
        assert!(!is_sparse(5, 10) && is_sparse(4, 10));
        assert!(!is_sparse(6, 11) && is_sparse(5, 11));
        assert!(is_sparse(0, 1));
    }
}
