//! Carry all that an identity is recovered from in one file under a passphrase.
//!
//! A kit holds the main key, the network's key and where members of it answered, so that an empty machine and
//! the passphrase suffice; besides, the key of a budget and small files of the wallet that follow from nothing
//! else. It is canonical CBOR: a header in clear (Argon2id costs, salt, nonce), authenticated and bounded before
//! it costs anything, and one sealed body. The caller brings salt and nonce: nothing here draws randomness.

use crate::{
    cbor::{CborError, Reader, Writer},
    key::{Cost, KeyError, KeyKind, PASSES_MAX, SecretKey},
    network::{GROUP_KEY_BYTES, NetworkKey},
    transport::{NodeKey, Peer},
};
use chacha20poly1305::{
    ChaCha20Poly1305, KeyInit as _,
    aead::{Aead as _, Payload},
};
use std::collections::BTreeMap;
use zeroize::Zeroizing;

/// What the header begins with: a sealed key alone begins otherwise.
const MARK: &str = "hodei-kit";
const VERSION: u64 = 1;
/// Longest kit: members and keys take 2 kB, the files the rest.
pub const FILE_BYTES_MAX: usize = 256 * 1024;
const NAME_BYTES_MAX: usize = 64;
const MEMBERS_MAX: usize = 64;
const ADDRESSES_MAX: usize = 8;
const ADDRESS_BYTES_MAX: usize = 64;
const FILES_MAX: usize = 16;

/// What an identity is recovered from.
#[derive(Clone, PartialEq)]
pub struct Kit {
    pub network_key: NetworkKey,
    /// What its owner called the network.
    pub name: String,
    /// Members that answered when the kit was made.
    pub members: Vec<Peer>,
    pub main: SecretKey,
    /// The account of a budget, where one was set.
    pub spender: Option<SecretKey>,
    /// Small files of the wallet, by name.
    pub files: BTreeMap<String, Vec<u8>>,
    /// When it was made, in milliseconds since 1970.
    pub made_ms: u64,
}

/// Why a file is no kit, or does not open.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KitError {
    #[error("this is no recovery kit")]
    Other,
    #[error("recovery kit of version {0}; this program knows version {VERSION}")]
    Version(u64),
    #[error("recovery kit is malformed: {0}")]
    Form(#[from] CborError),
    #[error("recovery kit is malformed: {0}")]
    Content(&'static str),
    #[error("recovery kit: {0}")]
    Key(#[from] KeyError),
    #[error("a kit holds at most {FILE_BYTES_MAX} bytes, this would have {0}")]
    Long(usize),
}

impl std::fmt::Debug for Kit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Kit({:?}, …)", self.name)
    }
}

impl Kit {
    /// Whether a file says that it is a kit; nothing is decrypted.
    pub fn is_kit(file: &[u8]) -> bool {
        header_of(file).is_ok()
    }

    /// Seals under a passphrase. `salt` and `nonce` must be fresh random bytes.
    pub fn seal(&self, passphrase: &str, cost: Cost, salt: [u8; 16], nonce: [u8; 12]) -> Result<Vec<u8>, KitError> {
        let key = cost.derive(passphrase.as_bytes(), &salt)?;
        let mut header = Writer::new();
        header.array(6).text(MARK).uint(VERSION).uint(cost.memory_kib.into()).uint(cost.passes.into());
        header.bytes(&salt).bytes(&nonce);
        let header = header.finish();
        let body = Zeroizing::new(self.encode());
        let sealed = ChaCha20Poly1305::new((&*key).into())
            .encrypt((&nonce).into(), Payload { msg: &body, aad: &header })
            .expect("a kit is within the cipher's limit");
        let mut out = Writer::new();
        out.array(2).bytes(&header).bytes(&sealed);
        let file = out.finish();
        if file.len() > FILE_BYTES_MAX { Err(KitError::Long(file.len())) } else { Ok(file) }
    }

    /// Opens what [`Self::seal`] wrote.
    pub fn open(file: &[u8], passphrase: &str) -> Result<Self, KitError> {
        let (header, sealed) = header_of(file)?;
        let mut reader = Reader::new(header);
        reader.tuple(6)?;
        reader.text(MARK.len())?;
        let version = reader.uint()?;
        if version != VERSION {
            return Err(KitError::Version(version));
        }
        let cost = Cost {
            memory_kib: reader.uint()?.try_into().map_err(|_| KeyError::Cost("memory"))?,
            passes: reader.uint()?.try_into().map_err(|_| KeyError::Cost("passes"))?,
        };
        if cost.passes > PASSES_MAX {
            return Err(KeyError::Cost("passes").into());
        }
        let (salt, nonce) = (reader.fixed::<16>()?, reader.fixed::<12>()?);
        reader.end()?;
        let key = cost.derive(passphrase.as_bytes(), &salt)?;
        let body = ChaCha20Poly1305::new((&*key).into())
            .decrypt((&nonce).into(), Payload { msg: sealed, aad: header })
            .map(Zeroizing::new)
            .map_err(|_| KeyError::Passphrase)?;
        Self::decode(&body)
    }

    fn encode(&self) -> Vec<u8> {
        let mut out = Writer::new();
        out.array(8).uint(self.made_ms).text(&self.name);
        out.bytes(self.network_key.genesis.as_slice()).bytes(&self.network_key.group);
        out.array(self.members.len() * 2);
        for member in &self.members {
            out.bytes(&member.key.0).array(member.addresses.len());
            for address in &member.addresses {
                out.text(&address.to_string());
            }
        }
        out.bytes(self.main.bytes());
        out.array(usize::from(self.spender.is_some()));
        if let Some(spender) = &self.spender {
            out.bytes(spender.bytes());
        }
        out.array(self.files.len() * 2);
        for (name, bytes) in &self.files {
            out.text(name).bytes(bytes);
        }
        out.finish()
    }

    fn decode(body: &[u8]) -> Result<Self, KitError> {
        let mut input = Reader::new(body);
        input.tuple(8)?;
        let made_ms = input.uint()?;
        let name = input.text(NAME_BYTES_MAX)?.to_owned();
        let network_key = NetworkKey { genesis: input.fixed::<32>()?.into(), group: input.fixed::<GROUP_KEY_BYTES>()? };
        let count = input.array(MEMBERS_MAX * 2)?;
        if !count.is_multiple_of(2) {
            return Err(KitError::Content("a member without addresses"));
        }
        let mut members = Vec::new();
        for _ in 0..count / 2 {
            let key = NodeKey(input.fixed()?);
            let mut addresses = Vec::new();
            for _ in 0..input.array(ADDRESSES_MAX)? {
                let address = input.text(ADDRESS_BYTES_MAX)?;
                addresses.push(address.parse().map_err(|_| KitError::Content("a member's address"))?);
            }
            members.push(Peer::at(key, addresses));
        }
        let main = SecretKey::new(KeyKind::Account, input.fixed()?);
        let spender = match input.array(1)? {
            0 => None,
            _ => Some(SecretKey::new(KeyKind::Account, input.fixed()?)),
        };
        let count = input.array(FILES_MAX * 2)?;
        if !count.is_multiple_of(2) {
            return Err(KitError::Content("a file without a name"));
        }
        let mut files = BTreeMap::new();
        for _ in 0..count / 2 {
            let name = input.text(NAME_BYTES_MAX)?.to_owned();
            files.insert(name, input.bytes(FILE_BYTES_MAX)?.to_vec());
        }
        input.end()?;
        Ok(Self { network_key, name, members, main, spender, files, made_ms })
    }
}

/// Header and sealed body of what says that it is a kit.
fn header_of(file: &[u8]) -> Result<(&[u8], &[u8]), KitError> {
    if file.len() > FILE_BYTES_MAX {
        return Err(KitError::Other);
    }
    let mut reader = Reader::new(file);
    reader.tuple(2).map_err(|_| KitError::Other)?;
    let header = reader.bytes(FILE_BYTES_MAX).map_err(|_| KitError::Other)?;
    let mut mark = Reader::new(header);
    mark.tuple(6).map_err(|_| KitError::Other)?;
    if mark.text(MARK.len()).map_err(|_| KitError::Other)? != MARK {
        return Err(KitError::Other);
    }
    let sealed = reader.bytes(FILE_BYTES_MAX)?;
    reader.end()?;
    Ok((header, sealed))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kit() -> Kit {
        let addresses = vec!["10.0.0.1:4433".parse().unwrap(), "[2001:db8::1]:9".parse().unwrap()];
        Kit {
            network_key: NetworkKey { genesis: [1; 32].into(), group: [2; GROUP_KEY_BYTES] },
            name: "family".into(),
            members: vec![Peer::at(NodeKey([3; 32]), addresses)],
            main: SecretKey::new(KeyKind::Account, [4; 32]),
            spender: Some(SecretKey::new(KeyKind::Account, [5; 32])),
            files: [("s3.keys".to_owned(), vec![6; 10])].into(),
            made_ms: 7,
        }
    }

    fn sealed() -> Vec<u8> {
        kit().seal("correct horse", Cost::test(), [7; 16], [9; 12]).unwrap()
    }

    #[test]
    fn a_kit_opens_only_whole_and_with_its_passphrase() {
        let file = sealed();
        assert!(Kit::is_kit(&file));
        assert_eq!(Kit::open(&file, "correct horse"), Ok(kit()));
        assert_eq!(Kit::open(&file, "correct house"), Err(KitError::Key(KeyError::Passphrase)));
        for at in 0..file.len() {
            let mut bent = file.clone();
            bent[at] ^= 1;
            Kit::open(&bent, "correct horse").expect_err("a changed byte");
            Kit::open(&file[..at], "correct horse").expect_err("a lost end");
        }
    }

    #[test]
    fn a_sealed_key_is_no_kit_and_a_greedy_one_costs_nothing() {
        let key = kit().main.seal("p", Cost::test(), [7; 16], [9; 12]).unwrap();
        assert!(!Kit::is_kit(&key));
        assert_eq!(Kit::open(&key, "p"), Err(KitError::Other));
        let mut header = Writer::new();
        header.array(6).text(MARK).uint(VERSION).uint(1 << 31).uint(1).bytes(&[0; 16]).bytes(&[0; 12]);
        let mut greedy = Writer::new();
        greedy.array(2).bytes(&header.finish()).bytes(&[0; 64]);
        assert_eq!(Kit::open(&greedy.finish(), "p"), Err(KitError::Key(KeyError::Cost("memory"))));
        let long = Kit { files: [("x".to_owned(), vec![0; FILE_BYTES_MAX])].into(), ..kit() };
        assert!(matches!(long.seal("p", Cost::test(), [7; 16], [9; 12]), Err(KitError::Long(_))));
    }

    /// The bytes of version 1: a change here is a new version, not an edit.
    #[test]
    fn the_format_is_frozen() {
        assert_eq!(&blake3::hash(&sealed()).to_hex()[..16], "756e5b45d44cd0e8");
    }
}
