//! Let a client act on a bucket's shards.
//!
//! A bucket's owner, or whoever holds its term, signs for one client (by its node key) what it may do at
//! every provider of that bucket, until when. The provider knows the bucket from the deal, the client from
//! the authenticated stream, and owner and holder from the ledger; so a grant is useless to whoever finds it.
//!
//! A *bearer* grant names no client: it is part of a share link, lets whoever has that read shards of the bucket
//! by their ids, and nothing else. What is read so is sealed; the link alone knows which shards, and their key.
//!
//! A *metered* grant is for one client too, to read, and names the tab on the ledger that pays for what is read:
//! providers give a little on credit, and go on while ticks of that tab come (`types::tab`). The others are free.
//!
//! Encoding, big-endian: version (1; 2 for a bearer) ‖ rights u8 ‖ expires u64 ‖ signature 65 (r, s, recovery id).
//! Metered: 3 ‖ rights u8 ‖ expires u64 ‖ payer u8 (1: a tab) ‖ tab 32 ‖ signature 65.

use crate::transport::NodeKey;
use alloy_primitives::{Address, B256, keccak256};
use secp256k1::{
    Message, SECP256K1, SecretKey,
    ecdsa::{RecoverableSignature, RecoveryId},
};

/// Bytes of an encoded grant.
pub const GRANT_BYTES: usize = 1 + 1 + 8 + 65;
/// Bytes of one that is metered.
pub const METERED_BYTES: usize = GRANT_BYTES + 1 + 32;
const VERSION: u8 = 1;
const BEARER: u8 = 2;
const METERED: u8 = 3;
/// The tab that the grant names pays.
const BY_TAB: u8 = 1;
const TAG: &[u8; 16] = b"hodei-grant----1";
const BEARER_TAG: &[u8; 16] = b"hodei-bearer---1";
const METERED_TAG: &[u8; 16] = b"hodei-metered--1";

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
    /// What pays for reads; `None`: they are free. A bearer's are.
    pub tab: Option<B256>,
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
        Ok(Self { rights, expires_ms, is_bearer: false, tab: None, signature: sign_hash(secret, hash)? })
    }

    /// Signs for one client that reads, and whose reads a tab pays for.
    pub fn sign_metered(
        secret: &[u8; 32],
        chain_id: u64,
        bucket: B256,
        client: &NodeKey,
        tab: B256,
        expires_ms: u64,
    ) -> Result<Self, BadSecret> {
        let hash = metered_statement(chain_id, bucket, client, expires_ms, tab);
        let signature = sign_hash(secret, hash)?;
        Ok(Self { rights: Rights::READ, expires_ms, is_bearer: false, tab: Some(tab), signature })
    }

    /// Signs for anybody who reads, with the secret of the bucket's owner: a holder's word ends with its term.
    pub fn sign_bearer(secret: &[u8; 32], chain_id: u64, bucket: B256, expires_ms: u64) -> Result<Self, BadSecret> {
        let hash = bearer_statement(chain_id, bucket, expires_ms);
        let signature = sign_hash(secret, hash)?;
        Ok(Self { rights: Rights::READ, expires_ms, is_bearer: true, tab: None, signature })
    }

    /// Who signed this for that client and bucket; `None` if nobody did. Compare with the ledger.
    pub fn signer(&self, chain_id: u64, bucket: B256, client: &NodeKey) -> Option<Address> {
        if self.is_bearer {
            let is_read = self.rights == Rights::READ;
            return is_read.then(|| recover(bearer_statement(chain_id, bucket, self.expires_ms), &self.signature))?;
        }
        if let Some(tab) = self.tab {
            let hash = metered_statement(chain_id, bucket, client, self.expires_ms, tab);
            return (self.rights == Rights::READ).then(|| recover(hash, &self.signature))?;
        }
        recover(statement(chain_id, bucket, client, self.rights, self.expires_ms), &self.signature)
    }

    pub fn encode(&self) -> Vec<u8> {
        let version = match (self.is_bearer, self.tab) {
            (true, _) => BEARER,
            (false, Some(_)) => METERED,
            (false, None) => VERSION,
        };
        let mut out = Vec::with_capacity(METERED_BYTES);
        out.extend([version, self.rights.0]);
        out.extend(self.expires_ms.to_be_bytes());
        if version == METERED {
            out.push(BY_TAB);
            out.extend(self.tab.unwrap_or_default());
        }
        out.extend(self.signature);
        out
    }

    /// `None` unless it is exactly one grant.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let (&[version, rights], rest) = bytes.split_first_chunk()?;
        let (expires, rest) = rest.split_first_chunk()?;
        let (tab, rest) = match version {
            METERED => {
                let (&[BY_TAB], rest) = rest.split_first_chunk::<1>()? else { return None };
                let (tab, rest) = rest.split_first_chunk::<32>()?;
                (Some(B256::new(*tab)), rest)
            }
            VERSION | BEARER => (None, rest),
            _ => return None,
        };
        let (rights, is_bearer) = (Rights(rights), version == BEARER);
        let is_allowed = match version {
            VERSION => Rights::ALL.contains(rights),
            BEARER => Rights::READ.contains(rights),
            _ => rights == Rights::READ,
        };
        let signature = rest.try_into().ok().filter(|_| is_allowed)?;
        Some(Self { rights, expires_ms: u64::from_be_bytes(*expires), is_bearer, tab, signature })
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

fn metered_statement(chain_id: u64, bucket: B256, client: &NodeKey, expires_ms: u64, tab: B256) -> B256 {
    let (chain_id, expires) = (chain_id.to_be_bytes(), expires_ms.to_be_bytes());
    let rights = [Rights::READ.0];
    let parts: [&[u8]; 8] =
        [METERED_TAG, &chain_id, bucket.as_slice(), &client.0, &rights, &expires, &[BY_TAB], tab.as_slice()];
    keccak256(parts.concat())
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
        for (at, byte) in [(0, 3), (0, 4), (1, 8)] {
            let mut bent = bytes.clone();
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
        let mut bent = bytes.clone();
        bent[1] = 7;
        assert_eq!(Grant::decode(&bent), None, "a bearer never writes");
        // Neither is the other with its first byte changed.
        bent = bytes;
        bent[0] = 1;
        assert_ne!(Grant::decode(&bent).unwrap().signer(9, bucket, &NodeKey([4; 32])), signer);
    }

    #[test]
    fn a_metered_grant_is_for_its_client_and_tab_and_reads_alone() {
        let (bucket, client, tab) = (B256::repeat_byte(3), NodeKey([4; 32]), B256::repeat_byte(6));
        let grant = Grant::sign_metered(&one(), 9, bucket, &client, tab, 77).unwrap();
        let signer = grant.signer(9, bucket, &client);
        assert_eq!(signer.unwrap().to_string(), "0x7E5F4552091A69125d5DfCb7b8C2659029395Bdf");
        for other in [
            grant.signer(8, bucket, &client),
            grant.signer(9, B256::repeat_byte(2), &client),
            grant.signer(9, bucket, &NodeKey([5; 32])),
            Grant { tab: Some(B256::repeat_byte(7)), ..grant }.signer(9, bucket, &client),
            Grant { tab: None, ..grant }.signer(9, bucket, &client),
            Grant { tab: None, is_bearer: true, ..grant }.signer(9, bucket, &client),
            Grant { rights: Rights::ALL, ..grant }.signer(9, bucket, &client),
            Grant { expires_ms: 78, ..grant }.signer(9, bucket, &client),
        ] {
            assert_ne!(other, signer, "what is paid for is not free with a word changed");
        }
        let bytes = grant.encode();
        assert_eq!((bytes.len(), Grant::decode(&bytes)), (METERED_BYTES, Some(grant)));
        // Another version, more rights, another payer.
        for (at, byte) in [(0, 1), (0, 2), (1, 7), (1, 0), (10, 2)] {
            let mut bent = bytes.clone();
            bent[at] = byte;
            assert_eq!(Grant::decode(&bent), None, "{at}");
        }
        assert_eq!(Grant::decode(&bytes[..bytes.len() - 1]), None);
    }
}
