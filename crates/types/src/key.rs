//! Write secret keys as backup text and as files sealed by a passphrase.
//!
//! Backup text is lower-case bech32m `hodeikey1…` of version, kind and 32 secret bytes: a mistyped character
//! is noticed. A sealed file is canonical CBOR: version, kind, Argon2id costs, salt, nonce, ciphertext; the
//! costs are authenticated with the secret and bounded before they are spent, so that a crafted file cannot
//! exhaust its reader. The caller brings salt and nonce: nothing here draws randomness.

use crate::cbor::{CborError, Reader, Writer};
use argon2::{Algorithm, Argon2, Params, Version};
use bech32::{Bech32m, Hrp, primitives::decode::CheckedHrpstring};
use chacha20poly1305::{
    ChaCha20Poly1305, KeyInit as _,
    aead::{Aead as _, Payload},
};
use std::str::FromStr;
use zeroize::{Zeroize as _, Zeroizing};

/// What backup text begins with; bech32 adds the separator `1`.
pub const PREFIX: &str = "hodeikey";
/// Longest sealed file: header, 32 bytes, tag, with room.
pub const FILE_BYTES_MAX: usize = 512;
const VERSION: u8 = 1;
/// Most memory a file may ask to be opened, in KiB: four times what we write.
const MEMORY_KIB_MAX: u32 = 256 * 1024;
pub(crate) const PASSES_MAX: u32 = 16;

/// What a secret is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum KeyKind {
    /// Ed25519 seed: a node's identity.
    Node = 1,
    /// secp256k1 secret: an account on the ledger.
    Account = 2,
    /// Root of an identity's bucket keys: reads and writes data, moves no coin.
    Data = 3,
}

impl KeyKind {
    fn from_code(code: u64) -> Option<Self> {
        [Self::Node, Self::Account, Self::Data].into_iter().find(|kind| *kind as u64 == code)
    }
}

/// Why a text or file is not a key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    #[error("a key's backup text begins with {PREFIX}1")]
    Prefix,
    #[error("checksum does not fit: a character was changed, lost or added")]
    Checksum,
    #[error("key version {0}; this program knows version {VERSION}")]
    Version(u64),
    #[error("key kind {0} is unknown")]
    Kind(u64),
    #[error("sealed key is malformed: {0}")]
    Form(#[from] CborError),
    #[error("sealed key asks for {0} of work, more than this program spends")]
    Cost(&'static str),
    #[error("wrong passphrase, or the file was changed")]
    Passphrase,
}

/// 32 secret bytes and what they are for; wiped when dropped, never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretKey {
    pub kind: KeyKind,
    bytes: [u8; 32],
}

impl Drop for SecretKey {
    fn drop(&mut self) {
        self.bytes.zeroize();
    }
}

impl std::fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SecretKey({:?}, …)", self.kind)
    }
}

/// Work an attacker pays for each guess of a passphrase (Argon2id, one lane).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cost {
    pub memory_kib: u32,
    pub passes: u32,
}

impl Default for Cost {
    /// RFC 9106's second recommendation: 64 MiB, 3 passes; about 0.2 s.
    fn default() -> Self {
        Self { memory_kib: 64 * 1024, passes: 3 }
    }
}

impl Cost {
    /// Cheap enough for tests, worthless against guessing.
    pub fn test() -> Self {
        Self { memory_kib: 64, passes: 1 }
    }

    pub(crate) fn derive(self, passphrase: &[u8], salt: &[u8]) -> Result<Zeroizing<[u8; 32]>, KeyError> {
        if !(8..=MEMORY_KIB_MAX).contains(&self.memory_kib) {
            return Err(KeyError::Cost("memory"));
        }
        let params = Params::new(self.memory_kib, self.passes, 1, Some(32)).map_err(|_| KeyError::Cost("passes"))?;
        let mut key = Zeroizing::new([0; 32]);
        Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
            .hash_password_into(passphrase, salt, key.as_mut())
            .map_err(|_| KeyError::Passphrase)?;
        Ok(key)
    }
}

impl SecretKey {
    pub fn new(kind: KeyKind, bytes: [u8; 32]) -> Self {
        Self { kind, bytes }
    }

    pub fn bytes(&self) -> &[u8; 32] {
        &self.bytes
    }

    /// The data root that belongs to an account's secret, so that one backup text restores both. One way:
    /// who holds the data root cannot spend.
    pub fn data_root(&self) -> Self {
        Self::new(KeyKind::Data, blake3::derive_key("hodei 2026 data root of an account v1", &self.bytes))
    }

    /// The text to write down: whoever reads it owns the key.
    pub fn backup(&self) -> Zeroizing<String> {
        let mut data = Zeroizing::new([0u8; 34]);
        data[0] = VERSION;
        data[1] = self.kind as u8;
        data[2..].copy_from_slice(&self.bytes);
        let hrp = Hrp::parse(PREFIX).expect("the prefix is a valid human-readable part");
        Zeroizing::new(bech32::encode::<Bech32m>(hrp, data.as_slice()).expect("34 bytes fit bech32m"))
    }

    /// Seals under a passphrase. `salt` and `nonce` must be fresh random bytes.
    pub fn seal(&self, passphrase: &str, cost: Cost, salt: [u8; 16], nonce: [u8; 12]) -> Result<Vec<u8>, KeyError> {
        let key = cost.derive(passphrase.as_bytes(), &salt)?;
        let header = header(self.kind, cost, &salt, &nonce);
        let sealed = ChaCha20Poly1305::new((&*key).into())
            .encrypt((&nonce).into(), Payload { msg: &self.bytes, aad: &header })
            .expect("32 bytes are within the cipher's limit");
        let mut writer = Writer::new();
        writer.array(2).bytes(&header).bytes(&sealed);
        Ok(writer.finish())
    }

    /// Opens what [`Self::seal`] wrote.
    pub fn open(file: &[u8], passphrase: &str) -> Result<Self, KeyError> {
        let mut reader = Reader::new(file);
        reader.tuple(2)?;
        let header = reader.bytes(FILE_BYTES_MAX)?;
        let sealed = reader.bytes(FILE_BYTES_MAX)?;
        reader.end()?;
        let mut reader = Reader::new(header);
        reader.tuple(6)?;
        let version = reader.uint()?;
        if version != VERSION as u64 {
            return Err(KeyError::Version(version));
        }
        let code = reader.uint()?;
        let kind = KeyKind::from_code(code).ok_or(KeyError::Kind(code))?;
        let cost = Cost {
            memory_kib: reader.uint()?.try_into().map_err(|_| KeyError::Cost("memory"))?,
            passes: reader.uint()?.try_into().map_err(|_| KeyError::Cost("passes"))?,
        };
        if cost.passes > PASSES_MAX {
            return Err(KeyError::Cost("passes"));
        }
        let salt = reader.fixed::<16>()?;
        let nonce = reader.fixed::<12>()?;
        reader.end()?;
        let key = cost.derive(passphrase.as_bytes(), &salt)?;
        let bytes = ChaCha20Poly1305::new((&*key).into())
            .decrypt((&nonce).into(), Payload { msg: sealed, aad: header })
            .map(Zeroizing::new)
            .map_err(|_| KeyError::Passphrase)?;
        Ok(Self::new(kind, bytes.as_slice().try_into().map_err(|_| KeyError::Passphrase)?))
    }
}

fn header(kind: KeyKind, cost: Cost, salt: &[u8], nonce: &[u8]) -> Vec<u8> {
    let mut writer = Writer::new();
    writer.array(6).uint(VERSION as u64).uint(kind as u64);
    writer.uint(cost.memory_kib as u64).uint(cost.passes as u64).bytes(salt).bytes(nonce);
    writer.finish()
}

impl FromStr for SecretKey {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        if !text.strip_prefix(PREFIX).is_some_and(|rest| rest.starts_with('1')) {
            return Err(KeyError::Prefix);
        }
        if text.len() > 128 || text.bytes().any(|byte| byte.is_ascii_uppercase()) {
            return Err(KeyError::Checksum);
        }
        let checked = CheckedHrpstring::new::<Bech32m>(text).map_err(|_| KeyError::Checksum)?;
        let data = Zeroizing::new(checked.byte_iter().collect::<Vec<u8>>());
        let Some((&version, rest)) = data.split_first() else { return Err(KeyError::Checksum) };
        if version != VERSION {
            return Err(KeyError::Version(version as u64));
        }
        let Some((&code, bytes)) = rest.split_first() else { return Err(KeyError::Checksum) };
        let kind = KeyKind::from_code(code as u64).ok_or(KeyError::Kind(code as u64))?;
        let key = Self::new(kind, bytes.try_into().map_err(|_| KeyError::Checksum)?);
        if key.backup().as_str() == text { Ok(key) } else { Err(KeyError::Checksum) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> SecretKey {
        SecretKey::new(KeyKind::Account, std::array::from_fn(|i| i as u8))
    }

    #[test]
    fn backup_text_round_trips_and_refuses_any_change() {
        let text = key().backup();
        assert_eq!(text.parse(), Ok(key()));
        for at in 0..text.len() {
            let with = if &text[at..=at] == "q" { "p" } else { "q" };
            let bent = format!("{}{with}{}", &text[..at], &text[at + 1..]);
            bent.parse::<SecretKey>().expect_err(&bent);
        }
        assert_eq!("0x1234".parse::<SecretKey>(), Err(KeyError::Prefix));
        assert!(!format!("{:?}", key()).contains("01"), "secrets are not printed");
    }

    #[test]
    fn a_sealed_file_opens_only_whole_and_with_its_passphrase() {
        let file = key().seal("correct horse", Cost::test(), [7; 16], [9; 12]).unwrap();
        assert!(file.len() <= FILE_BYTES_MAX);
        assert_eq!(SecretKey::open(&file, "correct horse"), Ok(key()));
        assert_eq!(SecretKey::open(&file, "correct house"), Err(KeyError::Passphrase));
        for at in 0..file.len() {
            let mut bent = file.clone();
            bent[at] ^= 1;
            SecretKey::open(&bent, "correct horse").expect_err("a changed byte");
        }
    }

    #[test]
    fn a_greedy_file_is_refused_before_it_costs_anything() {
        let mut writer = Writer::new();
        let greedy = Cost { memory_kib: 1 << 31, passes: 1 };
        writer.array(2).bytes(&header(KeyKind::Node, greedy, &[0; 16], &[0; 12])).bytes(&[0; 48]);
        assert_eq!(SecretKey::open(&writer.finish(), ""), Err(KeyError::Cost("memory")));
        let mut writer = Writer::new();
        let slow = Cost { memory_kib: 64, passes: 1 << 30 };
        writer.array(2).bytes(&header(KeyKind::Node, slow, &[0; 16], &[0; 12])).bytes(&[0; 48]);
        assert_eq!(SecretKey::open(&writer.finish(), ""), Err(KeyError::Cost("passes")));
    }

    #[test]
    fn formats_are_frozen() {
        let file = key().seal("p", Cost::test(), [7; 16], [9; 12]).unwrap();
        assert_eq!(
            blake3::hash(&[key().backup().as_bytes(), &file, key().data_root().bytes()].concat()).to_hex().as_str(),
            "37d6c4be952631d1f28329a85d62d46ec2f0d214761c9a8bac5894e1c1ae8a7b"
        );
    }
}
