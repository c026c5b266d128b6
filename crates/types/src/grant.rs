//! Let a client act on a bucket's shards.
//!
//! A bucket's owner, or whoever holds its term, signs for one client (by its node key) what it may do at
//! every provider of that bucket, until when. The provider knows the bucket from the deal, the client from
//! the authenticated stream, and owner and holder from the ledger; so a grant is useless to whoever finds it.
//!
//! A *bearer* grant names no client: it is part of a share link, lets whoever has that read shards of the bucket
//! by their ids, and nothing else. What is read so is sealed; the link alone knows which shards, and their key.
//!
//! Encoding: version (1; 2 for a bearer) ‖ rights u8 ‖ expires u64 ‖ signature 65 (r, s, recovery id), big-endian.

use crate::transport::NodeKey;
use alloy_primitives::{Address, B256, keccak256};
use secp256k1::{
    Message, SECP256K1, SecretKey,
    ecdsa::{RecoverableSignature, RecoveryId},
};

/// Bytes of an encoded grant.
pub const GRANT_BYTES: usize = 1 + 1 + 8 + 65;
const VERSION: u8 = 1;
const BEARER: u8 = 2;
const TAG: &[u8; 16] = b"hodei-grant----1";
const BEARER_TAG: &[u8; 16] = b"hodei-bearer---1";

/// What a client may do; combine with `|`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rights(u8);

impl Rights {
    /// GET, HAS, STATE.
    pub const READ: Self = Self(1);
    /// PUT, HAS, STATE.
    pub const WRITE: Self = Self(2);
    /// RELEASE.
    pub const RELEASE: Self = Self(4);
    /// Everything the signer may.
    pub const ALL: Self = Self(7);

    pub fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    pub fn intersects(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }
}

impl std::ops::BitOr for Rights {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// A signed permission.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grant {
    pub rights: Rights,
    /// Milliseconds since 1970; by the provider's clock it is over then.
    pub expires_ms: u64,
    /// Whoever has it may use it; its rights are to read.
    pub is_bearer: bool,
    /// Over the keccak of the statement: r ‖ s ‖ recovery id.
    pub signature: [u8; 65],
}

/// The secret is no secp256k1 key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the account's secret is not a secp256k1 key")]
pub struct BadSecret;

impl Grant {
    /// Signs with the secret of the bucket's owner or holder.
    pub fn sign(
        secret: &[u8; 32],
        chain_id: u64,
        bucket: B256,
        client: &NodeKey,
        rights: Rights,
        expires_ms: u64,
    ) -> Result<Self, BadSecret> {
        let hash = statement(chain_id, bucket, client, rights, expires_ms);
        Ok(Self { rights, expires_ms, is_bearer: false, signature: sign_hash(secret, hash)? })
    }

    /// Signs for anybody who reads, with the secret of the bucket's owner: a holder's word ends with its term.
    pub fn sign_bearer(secret: &[u8; 32], chain_id: u64, bucket: B256, expires_ms: u64) -> Result<Self, BadSecret> {
        let hash = bearer_statement(chain_id, bucket, expires_ms);
        Ok(Self { rights: Rights::READ, expires_ms, is_bearer: true, signature: sign_hash(secret, hash)? })
    }

    /// Who signed this for that client and bucket; `None` if nobody did. Compare with the ledger.
    pub fn signer(&self, chain_id: u64, bucket: B256, client: &NodeKey) -> Option<Address> {
        if self.is_bearer {
            let is_read = self.rights == Rights::READ;
            return is_read.then(|| recover(bearer_statement(chain_id, bucket, self.expires_ms), &self.signature))?;
        }
        recover(statement(chain_id, bucket, client, self.rights, self.expires_ms), &self.signature)
    }

    pub fn encode(&self) -> [u8; GRANT_BYTES] {
        let mut out = [0; GRANT_BYTES];
        out[0] = if self.is_bearer { BEARER } else { VERSION };
        out[1] = self.rights.0;
        out[2..10].copy_from_slice(&self.expires_ms.to_be_bytes());
        out[10..].copy_from_slice(&self.signature);
        out
    }

    /// `None` unless it is exactly one grant.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let bytes: &[u8; GRANT_BYTES] = bytes.try_into().ok()?;
        let rights = Rights(bytes[1]);
        let is_bearer = bytes[0] == BEARER;
        let most = if is_bearer { Rights::READ } else { Rights::ALL };
        if !(is_bearer || bytes[0] == VERSION) || !most.contains(rights) {
            return None;
        }
        Some(Self {
            rights,
            is_bearer,
            expires_ms: u64::from_be_bytes(bytes[2..10].try_into().expect("8 bytes")),
            signature: bytes[10..].try_into().expect("65 bytes"),
        })
    }
}

/// Signs a 32-byte hash with a secp256k1 secret: r ‖ s ‖ recovery id (0 or 1).
pub fn sign_hash(secret: &[u8; 32], hash: B256) -> Result<[u8; 65], BadSecret> {
    let secret = SecretKey::from_byte_array(*secret).map_err(|_| BadSecret)?;
    let signature = SECP256K1.sign_ecdsa_recoverable(Message::from_digest(hash.0), &secret);
    let (recovery, compact) = signature.serialize_compact();
    let mut out = [0; 65];
    out[..64].copy_from_slice(&compact);
    out[64] = i32::from(recovery) as u8;
    Ok(out)
}

/// The account whose signature over `hash` this is; the recovery id may be 0, 1, 27 or 28.
pub fn recover(hash: B256, signature: &[u8; 65]) -> Option<Address> {
    let recovery = RecoveryId::try_from(i32::from(match signature[64] {
        v @ 27..=28 => v - 27,
        v => v,
    }));
    let signature = RecoverableSignature::from_compact(&signature[..64], recovery.ok()?).ok()?;
    let key = SECP256K1.recover_ecdsa(Message::from_digest(hash.0), &signature).ok()?;
    Some(Address::from_slice(&keccak256(&key.serialize_uncompressed()[1..])[12..]))
}

fn statement(chain_id: u64, bucket: B256, client: &NodeKey, rights: Rights, expires_ms: u64) -> B256 {
    let chain_id = chain_id.to_be_bytes();
    let expires = expires_ms.to_be_bytes();
    keccak256([&TAG[..], &chain_id, bucket.as_slice(), &client.0, &[rights.0], &expires].concat())
}

fn bearer_statement(chain_id: u64, bucket: B256, expires_ms: u64) -> B256 {
    let expires = expires_ms.to_be_bytes();
    keccak256([&BEARER_TAG[..], &chain_id.to_be_bytes(), bucket.as_slice(), &expires].concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one() -> [u8; 32] {
        let mut secret = [0; 32];
        secret[31] = 1;
        secret
    }

    #[test]
    fn a_grant_holds_for_its_chain_bucket_and_client_only() {
        let (bucket, client) = (B256::repeat_byte(3), NodeKey([4; 32]));
        let grant = Grant::sign(&one(), 9, bucket, &client, Rights::READ | Rights::WRITE, 77).unwrap();
        let signer = grant.signer(9, bucket, &client);
        assert_eq!(signer.unwrap().to_string(), "0x7E5F4552091A69125d5DfCb7b8C2659029395Bdf");
        for other in [
            grant.signer(8, bucket, &client),
            grant.signer(9, B256::repeat_byte(2), &client),
            grant.signer(9, bucket, &NodeKey([5; 32])),
            Grant { rights: Rights::ALL, ..grant }.signer(9, bucket, &client),
            Grant { expires_ms: 78, ..grant }.signer(9, bucket, &client),
        ] {
            assert_ne!(other, signer);
        }
        assert!(grant.rights.contains(Rights::READ) && !grant.rights.intersects(Rights::RELEASE));
    }

    #[test]
    fn a_grant_has_one_encoding() {
        let grant = Grant::sign(&one(), 9, B256::ZERO, &NodeKey([4; 32]), Rights::READ, 77).unwrap();
        let bytes = grant.encode();
        assert_eq!(Grant::decode(&bytes), Some(grant));
        assert_eq!(Grant::decode(&bytes[1..]), None);
        for (at, byte) in [(0, 3), (1, 8)] {
            let mut bent = bytes;
            bent[at] = byte;
            assert_eq!(Grant::decode(&bent), None);
        }
        assert_eq!(Grant::sign(&[0; 32], 9, B256::ZERO, &NodeKey([4; 32]), Rights::READ, 77), Err(BadSecret));
    }

    #[test]
    fn a_bearer_reads_and_nothing_else() {
        let bucket = B256::repeat_byte(3);
        let grant = Grant::sign_bearer(&one(), 9, bucket, 77).unwrap();
        let signer = Grant::sign(&one(), 9, bucket, &NodeKey([4; 32]), Rights::ALL, 77).unwrap();
        let signer = signer.signer(9, bucket, &NodeKey([4; 32]));
        for client in [[4; 32], [5; 32]] {
            assert_eq!(grant.signer(9, bucket, &NodeKey(client)), signer, "whoever brings it");
        }
        assert_ne!(grant.signer(9, B256::repeat_byte(2), &NodeKey([4; 32])), signer);
        assert_ne!(Grant { expires_ms: 78, ..grant }.signer(9, bucket, &NodeKey([4; 32])), signer);
        assert_eq!(Grant { rights: Rights::ALL, ..grant }.signer(9, bucket, &NodeKey([4; 32])), None);
        let bytes = grant.encode();
        assert_eq!(Grant::decode(&bytes), Some(grant));
        let mut bent = bytes;
        bent[1] = 7;
        assert_eq!(Grant::decode(&bent), None, "a bearer never writes");
        // Neither is the other with its first byte changed.
        bent = bytes;
        bent[0] = 1;
        assert_ne!(Grant::decode(&bent).unwrap().signer(9, bucket, &NodeKey([4; 32])), signer);
    }
}
