//! Encrypt an object so that a small part of it can be read alone.
//!
//! A part is cut into frames of 64 KiB: 65,520 bytes and a tag; the last may be shorter. Each object has a
//! random key, wrapped by its bucket's; a part's key is derived from it and from everything that gives a frame
//! its meaning: network, bucket, object, part, attempt, algorithm. So a part sent again never meets the same
//! (key, nonce), and the nonce is the frame's number. The additional data repeat the meaning and add
//! number, length and whether it is the last. Neither AEAD commits to its key, so the part's derivation also
//! gives a commitment that the entry keeps and opening compares. Code parameters are left out: whoever holds
//! no key may still code a part anew.

use crate::pads::{PartPads, StripePads};
use aws_lc_rs::aead::{AES_256_GCM, Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use zeroize::{Zeroize, ZeroizeOnDrop};

/// A frame as stored. Four fill a 256 KiB shard, so that none of a full stripe crosses shards.
pub const FRAME_BYTES: usize = 64 * 1024;
/// The tag of either AEAD.
pub const TAG_BYTES: usize = 16;
/// Plaintext of a full frame.
pub const FRAME_PLAIN_BYTES: usize = FRAME_BYTES - TAG_BYTES;
/// Version of everything in this module; in each derivation.
const VERSION: u8 = 1;
/// A wrapped object key: 32 bytes and a tag.
pub const WRAPPED_BYTES: usize = 48;

/// What encrypts the frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Algorithm {
    Aes256Gcm = 1,
    ChaCha20Poly1305 = 2,
}

impl Algorithm {
    /// AES where the processor has it.
    pub fn preferred() -> Self {
        #[cfg(target_arch = "x86_64")]
        let hardware = std::arch::is_x86_feature_detected!("aes");
        #[cfg(target_arch = "aarch64")]
        let hardware = std::arch::is_aarch64_feature_detected!("aes");
        #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
        let hardware = false;
        if hardware { Self::Aes256Gcm } else { Self::ChaCha20Poly1305 }
    }

    /// `None` for one this version does not know.
    pub fn from_u8(id: u8) -> Option<Self> {
        [Self::Aes256Gcm, Self::ChaCha20Poly1305].into_iter().find(|known| *known as u8 == id)
    }
}

/// Where a part stands: all that its key is bound to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Genesis hash.
    pub network: [u8; 32],
    pub bucket: [u8; 32],
    /// Random, chosen when the upload starts; also its id.
    pub object: [u8; 16],
    pub part: u32,
    /// Counts sendings of this part from 0; never used twice for different bytes.
    pub attempt: u32,
    pub algorithm: Algorithm,
}

/// A secret of 32 bytes, wiped when dropped: a bucket's or an object's key.
#[derive(Clone, PartialEq, Eq, Zeroize, ZeroizeOnDrop)]
pub struct Secret([u8; 32]);

/// Opening failed: wrong key, wrong place, or bytes somebody changed. It says no more on purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    #[error("object key: the bucket's key does not open it")]
    Wrapped,
    #[error("part key: another key than the one committed to")]
    Commitment,
    #[error("frame {0}: not what was sealed there")]
    Frame(u64),
    #[error("entrusted pads: the care key does not open them")]
    Entrusted,
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(…)")
    }
}

impl Secret {
    /// `bytes` are random, or derived for this use alone.
    pub fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    pub fn expose(&self) -> &[u8; 32] {
        &self.0
    }

    /// A secret of its own for `purpose` (unique text) and `id`.
    pub fn derive(&self, purpose: &'static str, id: &[u8]) -> Self {
        let mut hasher = blake3::Hasher::new_derive_key(purpose);
        hasher.update(&self.0).update(id);
        let secret = Self(*hasher.finalize().as_bytes());
        hasher.zeroize();
        secret
    }

    /// Wraps an object's key under this, the bucket's key of some version. One object has one key: its random
    /// id makes the wrapping key unique, so the nonce is constant.
    pub fn wrap(&self, object: &[u8; 16], key: &Secret) -> [u8; WRAPPED_BYTES] {
        let mut out = [0; WRAPPED_BYTES];
        out[..32].copy_from_slice(&key.0);
        let (plain, tag) = out.split_at_mut(32);
        let sealed = self
            .wrapping(object)
            .seal_in_place_separate_tag(nonce(0), Aad::from(object), plain)
            .expect("32 bytes can be sealed");
        tag.copy_from_slice(sealed.as_ref());
        out
    }

    pub fn unwrap(&self, object: &[u8; 16], wrapped: &[u8; WRAPPED_BYTES]) -> Result<Secret, SealError> {
        let mut bytes = *wrapped;
        let plain = self
            .wrapping(object)
            .open_in_place(nonce(0), Aad::from(object), &mut bytes)
            .map_err(|_| SealError::Wrapped)?;
        let key = Self((&*plain).try_into().expect("32 bytes were sealed"));
        bytes.zeroize();
        Ok(key)
    }

    fn wrapping(&self, object: &[u8; 16]) -> LessSafeKey {
        let key = self.derive("hodei 2026-11 object key wrapping v1", object);
        LessSafeKey::new(UnboundKey::new(&AES_256_GCM, &key.0).expect("32 bytes are a key"))
    }
}

/// Seals and opens the frames of one part.
pub struct PartKey {
    key: LessSafeKey,
    /// First bytes of each frame's additional data.
    meaning: [u8; 32],
    commitment: [u8; 32],
    pads: PartPads,
}

impl std::fmt::Debug for PartKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "PartKey(committed {})", blake3::Hash::from(self.commitment))
    }
}

impl PartKey {
    pub fn new(object: &Secret, place: &Place) -> Self {
        let meaning = place.bytes();
        let mut hasher = blake3::Hasher::new_derive_key("hodei 2026-11 part key v1");
        hasher.update(&object.0).update(&meaning);
        let mut okm = [0; 96];
        hasher.finalize_xof().fill(&mut okm);
        hasher.zeroize();
        let algorithm = match place.algorithm {
            Algorithm::Aes256Gcm => &AES_256_GCM,
            Algorithm::ChaCha20Poly1305 => &CHACHA20_POLY1305,
        };
        let key = LessSafeKey::new(UnboundKey::new(algorithm, &okm[..32]).expect("32 bytes are a key"));
        let commitment = okm[32..64].try_into().expect("32 bytes");
        let pads = PartPads::new(Secret(okm[64..].try_into().expect("32 bytes")));
        okm.zeroize();
        Self { key, meaning: *blake3::hash(&meaning).as_bytes(), commitment, pads }
    }

    /// The key for reading a part that was sealed under `commitment`.
    pub fn committed(object: &Secret, place: &Place, commitment: &[u8; 32]) -> Result<Self, SealError> {
        let key = Self::new(object, place);
        let same = blake3::Hash::from(key.commitment) == blake3::Hash::from(*commitment);
        if same { Ok(key) } else { Err(SealError::Commitment) }
    }

    /// What the entry keeps.
    pub fn commitment(&self) -> &[u8; 32] {
        &self.commitment
    }

    /// Seals in place: plaintext in all but the last 16 bytes of `frame`, which receive the tag.
    ///
    /// Panics if `frame` has no room for a tag or is longer than [`FRAME_BYTES`].
    pub fn seal(&self, number: u64, last: bool, frame: &mut [u8]) {
        assert!((TAG_BYTES..=FRAME_BYTES).contains(&frame.len()), "a frame is 16 B to 64 KiB");
        let (plain, room) = frame.split_at_mut(frame.len() - TAG_BYTES);
        let meaning = self.frame_meaning(number, last, plain.len());
        let tag = self
            .key
            .seal_in_place_separate_tag(nonce(number), Aad::from(meaning), plain)
            .expect("64 KiB can be sealed");
        room.copy_from_slice(tag.as_ref());
    }

    /// Opens in place; gives the plaintext at the start of `frame`.
    pub fn open<'a>(&self, number: u64, last: bool, frame: &'a mut [u8]) -> Result<&'a mut [u8], SealError> {
        if !(TAG_BYTES..=FRAME_BYTES).contains(&frame.len()) {
            return Err(SealError::Frame(number));
        }
        let meaning = self.frame_meaning(number, last, frame.len() - TAG_BYTES);
        self.key.open_in_place(nonce(number), Aad::from(meaning), frame).map_err(|_| SealError::Frame(number))
    }

    /// Makes the pads of a stripe's shards.
    pub fn stripe(&self, stripe: u32) -> StripePads {
        self.pads.stripe(stripe)
    }

    /// What makes all pads of the part, and opens nothing.
    pub fn pads(&self) -> &PartPads {
        &self.pads
    }

    fn frame_meaning(&self, number: u64, last: bool, plain: usize) -> [u8; 45] {
        let mut out = [0; 45];
        out[..32].copy_from_slice(&self.meaning);
        out[32..40].copy_from_slice(&number.to_be_bytes());
        out[40..44].copy_from_slice(&(plain as u32).to_be_bytes());
        out[44] = last.into();
        out
    }
}

impl Place {
    fn bytes(&self) -> [u8; 90] {
        let mut out = [0; 90];
        out[0] = VERSION;
        out[1] = self.algorithm as u8;
        out[2..34].copy_from_slice(&self.network);
        out[34..66].copy_from_slice(&self.bucket);
        out[66..82].copy_from_slice(&self.object);
        out[82..86].copy_from_slice(&self.part.to_be_bytes());
        out[86..].copy_from_slice(&self.attempt.to_be_bytes());
        out
    }
}

fn nonce(number: u64) -> Nonce {
    let mut bytes = [0; NONCE_LEN];
    bytes[4..].copy_from_slice(&number.to_be_bytes());
    Nonce::assume_unique_for_key(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(algorithm: Algorithm) -> Place {
        Place { network: [1; 32], bucket: [2; 32], object: [3; 16], part: 4, attempt: 5, algorithm }
    }

    fn sealed(key: &PartKey, plain: &[u8]) -> Vec<u8> {
        let mut frame = plain.to_vec();
        frame.resize(plain.len() + TAG_BYTES, 0);
        key.seal(6, true, &mut frame);
        frame
    }

    #[test]
    fn a_frame_opens_in_its_own_place_only() {
        let object = Secret::new([9; 32]);
        for algorithm in [Algorithm::Aes256Gcm, Algorithm::ChaCha20Poly1305] {
            let here = place(algorithm);
            let key = PartKey::new(&object, &here);
            for plain in [vec![], vec![7; 1], vec![7; FRAME_PLAIN_BYTES]] {
                let frame = sealed(&key, &plain);
                let open = |key: &PartKey, number, last, frame: &[u8]| {
                    key.open(number, last, &mut frame.to_vec()).map(|plain| plain.to_vec())
                };
                assert_eq!(open(&key, 6, true, &frame), Ok(plain));
                assert_eq!(open(&key, 7, true, &frame), Err(SealError::Frame(6 + 1)));
                assert!(open(&key, 6, false, &frame).is_err(), "not the last");
                assert!(open(&key, 6, true, &frame[1..]).is_err(), "cut");
                for at in [0, frame.len() / 2, frame.len() - 1] {
                    let mut bad = frame.clone();
                    bad[at] ^= 1;
                    assert!(open(&key, 6, true, &bad).is_err());
                }
                for other in [
                    Place { network: [0; 32], ..here },
                    Place { bucket: [0; 32], ..here },
                    Place { object: [0; 16], ..here },
                    Place { part: 5, ..here },
                    Place { attempt: 6, ..here },
                ] {
                    assert!(open(&PartKey::new(&object, &other), 6, true, &frame).is_err());
                    assert!(PartKey::committed(&object, &other, key.commitment()).is_err());
                }
            }
            assert!(PartKey::committed(&object, &here, key.commitment()).is_ok());
            assert!(PartKey::committed(&Secret::new([8; 32]), &here, key.commitment()).is_err());
        }
    }

    #[test]
    fn an_object_key_comes_back_under_its_bucket_and_object_only() {
        let (bucket, key) = (Secret::new([1; 32]), Secret::new([2; 32]));
        let wrapped = bucket.wrap(&[3; 16], &key);
        assert_eq!(bucket.unwrap(&[3; 16], &wrapped), Ok(key));
        assert_eq!(bucket.unwrap(&[4; 16], &wrapped), Err(SealError::Wrapped));
        assert_eq!(Secret::new([9; 32]).unwrap(&[3; 16], &wrapped), Err(SealError::Wrapped));
    }

    /// The bytes of version 1: a change here is a new version, not an edit.
    #[test]
    fn the_format_is_frozen() {
        let key = PartKey::new(&Secret::new([9; 32]), &place(Algorithm::Aes256Gcm));
        let mut all = sealed(&key, b"a frame");
        all.extend(sealed(&PartKey::new(&Secret::new([9; 32]), &place(Algorithm::ChaCha20Poly1305)), b"a frame"));
        all.extend(key.commitment());
        all.extend(Secret::new([1; 32]).wrap(&[3; 16], &Secret::new([2; 32])));
        let mut pad = vec![0; 64];
        key.stripe(3).apply(1, 0, &mut pad);
        all.extend(pad);
        assert_eq!(&blake3::hash(&all).to_hex()[..16], "c2825fb004ea205d");
    }
}
