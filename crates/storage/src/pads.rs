//! Hide from a provider what k others could tell it: each shard has a pad of its own.
//!
//! After coding, shard i of a stripe is XORed with a stream that only the part's reader can make, or a custodian whom
//! the owner gave the bucket's *care key*. So k other shards do not yield this one, and a provider that is paid for a
//! shard has to keep it. The construction is ours and unreviewed; confidentiality never rests on it: whoever takes the
//! pads off has what was sealed.
//!
//! Each page carries its part's pads under the care key: salt 16 ‖ sealed (secret 32 ‖ number of the page's first stripe,
//! u32 big-endian) ‖ tag 16; the hash of the page without them is authenticated along, so that a custodian believes pages
//! of the owner's only. The salt follows from all of it, so the same is sealed to the same bytes, and a key derived with
//! it meets one plaintext and one page only: the nonce is constant.

use crate::seal::{SealError, Secret, TAG_BYTES};
use aws_lc_rs::{
    aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey},
    cipher::{AES_256, EncryptingKey, EncryptionContext, UnboundCipherKey},
    iv::FixedLength,
};
use hodei_types::slice::ShardId;
use zeroize::Zeroize as _;

const SALT_BYTES: usize = 16;
const PLAIN_BYTES: usize = 32 + 4;
/// Pads of a part as a page carries them.
pub const ENTRUSTED_BYTES: usize = SALT_BYTES + PLAIN_BYTES + TAG_BYTES;

/// Makes the pads of one part's stripes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartPads(Secret);

/// Makes the pads of one stripe's shards.
#[derive(Clone, Debug)]
pub struct StripePads(Secret);

impl PartPads {
    pub(crate) fn new(secret: Secret) -> Self {
        Self(secret)
    }

    pub fn stripe(&self, stripe: u32) -> StripePads {
        StripePads(self.0.derive("hodei 2026-11 stripe pads v1", &stripe.to_be_bytes()))
    }

    /// Seals them for a custodian, in the page whose first stripe is `first`, and that hashes to `page` without them.
    pub fn entrust(&self, care: &Secret, first: u32, page: &ShardId) -> [u8; ENTRUSTED_BYTES] {
        let meant = [&first.to_be_bytes()[..], &page.0].concat();
        let salt = self.0.derive("hodei 2026-11 entrusted pads salt v1", &meant);
        let mut out = [0; ENTRUSTED_BYTES];
        let (head, rest) = out.split_at_mut(SALT_BYTES);
        head.copy_from_slice(&salt.expose()[..SALT_BYTES]);
        let (plain, tag) = rest.split_at_mut(PLAIN_BYTES);
        plain[..32].copy_from_slice(self.0.expose());
        plain[32..].copy_from_slice(&first.to_be_bytes());
        let sealed = key(care, head)
            .seal_in_place_separate_tag(nonce(), Aad::from(page.0), plain)
            .expect("36 bytes can be sealed");
        tag.copy_from_slice(sealed.as_ref());
        out
    }

    /// What was entrusted with a page that hashes to `page` without it, and the number of the page's first stripe.
    pub fn entrusted(care: &Secret, sealed: &[u8; ENTRUSTED_BYTES], page: &ShardId) -> Result<(Self, u32), SealError> {
        let (salt, rest) = sealed.split_at(SALT_BYTES);
        let mut rest: [u8; PLAIN_BYTES + TAG_BYTES] = rest.try_into().expect("the rest");
        let plain =
            key(care, salt).open_in_place(nonce(), Aad::from(page.0), &mut rest).map_err(|_| SealError::Entrusted)?;
        let secret: [u8; 32] = plain[..32].try_into().expect("32 bytes");
        let first = u32::from_be_bytes(plain[32..].try_into().expect("4 bytes"));
        rest.zeroize();
        Ok((Self(Secret::new(secret)), first))
    }
}

impl StripePads {
    /// XORs the pad of shard `index` over `bytes`, which begin `offset` bytes (a multiple of 16) into it.
    /// Twice is nothing. AES-256-CTR: three times as fast here as BLAKE3's output stream.
    pub fn apply(&self, index: u8, offset: usize, bytes: &mut [u8]) {
        assert!(offset.is_multiple_of(16), "the stream is cut at its blocks");
        let secret = self.0.derive("hodei 2026-11 shard pad v1", &[index]);
        let key = UnboundCipherKey::new(&AES_256, secret.expose()).expect("32 bytes are a key");
        let key = EncryptingKey::ctr(key).expect("AES has a counter mode");
        let counter = (offset as u128 / 16).to_be_bytes();
        key.less_safe_encrypt(bytes, EncryptionContext::Iv128(FixedLength::from(counter)))
            .expect("a shard can be padded");
    }
}

fn key(care: &Secret, salt: &[u8]) -> LessSafeKey {
    let key = care.derive("hodei 2026-11 entrusted pads v1", salt);
    LessSafeKey::new(UnboundKey::new(&AES_256_GCM, key.expose()).expect("32 bytes are a key"))
}

fn nonce() -> Nonce {
    Nonce::assume_unique_for_key([0; NONCE_LEN])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pad_is_its_own_inverse_and_seekable_and_differs_per_shard() {
        let pads = PartPads::new(Secret::new([9; 32])).stripe(3);
        let mut whole = vec![7u8; 4096];
        pads.apply(1, 0, &mut whole);
        let mut other = vec![7u8; 4096];
        pads.apply(2, 0, &mut other);
        assert_ne!(whole, other);
        let mut part = whole[1024..2048].to_vec();
        pads.apply(1, 1024, &mut part);
        assert_eq!(part, [7; 1024]);
        pads.apply(1, 0, &mut whole);
        assert_eq!(whole, [7; 4096]);
    }

    #[test]
    fn who_has_the_care_key_has_the_pads_and_nobody_else() {
        let (pads, care, page) = (PartPads::new(Secret::new([9; 32])), Secret::new([1; 32]), ShardId([3; 32]));
        let sealed = pads.entrust(&care, 64, &page);
        assert_eq!(sealed, pads.entrust(&care, 64, &page));
        for other in [pads.entrust(&care, 128, &page), pads.entrust(&care, 64, &ShardId([4; 32]))] {
            assert_ne!(sealed[..16], other[..16], "what differs is sealed under another key");
        }
        assert_eq!(PartPads::entrusted(&care, &sealed, &page), Ok((pads.clone(), 64)));
        assert_eq!(PartPads::entrusted(&Secret::new([2; 32]), &sealed, &page), Err(SealError::Entrusted));
        assert_eq!(PartPads::entrusted(&care, &sealed, &ShardId([4; 32])), Err(SealError::Entrusted), "another page");
        for at in 0..sealed.len() {
            let mut bent = sealed;
            bent[at] ^= 1;
            assert_eq!(PartPads::entrusted(&care, &bent, &page), Err(SealError::Entrusted), "byte {at}");
        }
    }
}
