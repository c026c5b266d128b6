//! Write a network's key as text, and refuse every other spelling of it.
//!
//! The key is all a verifier needs to know of a network: its genesis hash, which the certificates' namespace
//! is derived from, and the validators' group key, which stays the same for the network's life. The text is
//! lower-case bech32m, so that one mistyped character is always noticed and names its place in no other key.

use alloy_primitives::B256;
use bech32::{Bech32m, Hrp, primitives::decode::CheckedHrpstring};
use std::{fmt, str::FromStr};

/// What the text begins with; bech32 adds the separator `1`.
pub const PREFIX: &str = "hodeinet";
/// BLS12-381 G2 point, compressed.
pub const GROUP_KEY_BYTES: usize = 96;

const VERSION: u8 = 1;
const DATA_BYTES: usize = 1 + 32 + GROUP_KEY_BYTES;
/// Prefix, separator, five bits a character, six of checksum.
const TEXT_CHARS: usize = PREFIX.len() + 1 + (DATA_BYTES * 8).div_ceil(5) + 6;

/// A network's identity; `Display` and `FromStr` are its one text form.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct NetworkKey {
    /// keccak-256 of the genesis file.
    pub genesis: B256,
    /// Not yet checked to be a point of the group: `ledger::light` does.
    pub group: [u8; GROUP_KEY_BYTES],
}

/// Why a text is not a network key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NetworkKeyError {
    #[error("a network key begins with {PREFIX}1, this begins with {0:?}")]
    Prefix(String),
    #[error("a network key has {TEXT_CHARS} characters, this has {0}")]
    Length(usize),
    #[error("character {0} is upper-case: a network key is all lower-case")]
    Case(usize),
    #[error("character {at} ({found:?}) is never part of a network key")]
    Character { at: usize, found: char },
    #[error("checksum does not fit: a character was changed, lost or added")]
    Checksum,
    #[error("unused bits at the end are not zero")]
    Padding,
    #[error("network key version {0}; this program knows version {VERSION}")]
    Version(u8),
}

impl NetworkKey {
    /// Name of the network in log origins: `hodei-` and the first 16 hex digits of the genesis hash.
    pub fn origin(&self) -> String {
        origin(&self.genesis)
    }
}

/// See [`NetworkKey::origin`].
pub fn origin(genesis: &B256) -> String {
    format!("{}-{}", crate::PRODUCT, hex::encode(mark(genesis)))
}

/// First bytes of a genesis hash: which network, where a whole hash would be too long.
pub fn mark(genesis: &B256) -> [u8; 8] {
    *genesis.0.first_chunk().expect("a hash has 32 bytes")
}

impl fmt::Display for NetworkKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut data = [0u8; DATA_BYTES];
        data[0] = VERSION;
        data[1..33].copy_from_slice(self.genesis.as_slice());
        data[33..].copy_from_slice(&self.group);
        let hrp = Hrp::parse(PREFIX).expect("the prefix is a valid human-readable part");
        f.write_str(&bech32::encode::<Bech32m>(hrp, &data).expect("129 bytes fit bech32m"))
    }
}

impl fmt::Debug for NetworkKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl FromStr for NetworkKey {
    type Err = NetworkKeyError;

    fn from_str(text: &str) -> Result<Self, NetworkKeyError> {
        if let Some(at) = text.bytes().take(TEXT_CHARS).position(|byte| byte.is_ascii_uppercase()) {
            return Err(NetworkKeyError::Case(at));
        }
        if !text.strip_prefix(PREFIX).is_some_and(|rest| rest.starts_with('1')) {
            return Err(NetworkKeyError::Prefix(text.chars().take(PREFIX.len() + 1).collect()));
        }
        if text.len() != TEXT_CHARS {
            return Err(NetworkKeyError::Length(text.chars().count()));
        }
        let alphabet = "qpzry9x8gf2tvdw0s3jn54khce6mua7l";
        let wrong = text.char_indices().skip(PREFIX.len() + 1).find(|(_, c)| !alphabet.contains(*c));
        if let Some((at, found)) = wrong {
            return Err(NetworkKeyError::Character { at, found });
        }
        let checked = CheckedHrpstring::new::<Bech32m>(text).map_err(|_| NetworkKeyError::Checksum)?;
        let data: Vec<u8> = checked.byte_iter().collect();
        if data.len() != DATA_BYTES {
            return Err(NetworkKeyError::Length(TEXT_CHARS));
        }
        if data[0] != VERSION {
            return Err(NetworkKeyError::Version(data[0]));
        }
        let key = Self {
            genesis: B256::from_slice(&data[1..33]),
            group: data[33..].try_into().expect("the length was checked"),
        };
        // 129 bytes leave three unused bits in the last character; only one of the eight texts is ours.
        if key.to_string() == text { Ok(key) } else { Err(NetworkKeyError::Padding) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> NetworkKey {
        NetworkKey { genesis: B256::repeat_byte(0xa5), group: std::array::from_fn(|i| i as u8) }
    }

    #[test]
    fn text_round_trips_and_is_frozen() {
        let text = key().to_string();
        assert_eq!(text.len(), TEXT_CHARS);
        assert_eq!(text.parse(), Ok(key()));
        assert!(text.starts_with("hodeinet1q"));
        assert_eq!(
            hex::encode(alloy_primitives::keccak256(text.as_bytes())),
            "ded4fd560cf78d05559f6be4f1eee405dbe4d2a61438949961fcc858f05d0ebe"
        );
    }

    #[test]
    fn a_mark_is_how_the_genesis_hash_begins() {
        let genesis = B256::new(std::array::from_fn(|at| at as u8));
        assert_eq!(mark(&genesis), [0, 1, 2, 3, 4, 5, 6, 7]);
        assert_eq!(origin(&genesis), "hodei-0001020304050607");
    }

    #[test]
    fn every_changed_character_is_refused() {
        let text = key().to_string();
        for at in 0..text.len() {
            for to in ["q", "p", "l", "Q", "b", "1", " ", "é"] {
                if &text[at..=at] == to {
                    continue;
                }
                let bent = format!("{}{to}{}", &text[..at], &text[at + 1..]);
                bent.parse::<NetworkKey>().expect_err(&bent);
            }
        }
        for bent in [String::new(), format!("{text}q"), format!(" {text}"), text[..text.len() - 1].into()] {
            bent.parse::<NetworkKey>().expect_err(&bent);
        }
    }

    #[test]
    fn errors_name_what_is_wrong() {
        let text = key().to_string();
        assert_eq!(text.to_uppercase().parse::<NetworkKey>(), Err(NetworkKeyError::Case(0)));
        assert_eq!(format!("{}X{}", &text[..40], &text[41..]).parse::<NetworkKey>(), Err(NetworkKeyError::Case(40)));
        assert_eq!("bc1qxyz".parse::<NetworkKey>(), Err(NetworkKeyError::Prefix("bc1qxyz".into())));
        assert_eq!("hodeinet1qq".parse::<NetworkKey>(), Err(NetworkKeyError::Length(11)));
        let mut data = vec![2u8];
        data.extend_from_slice(&[0; 128]);
        let other = bech32::encode::<Bech32m>(Hrp::parse(PREFIX).unwrap(), &data).unwrap();
        assert_eq!(other.parse::<NetworkKey>(), Err(NetworkKeyError::Version(2)));
        // The older checksum of the same data is another text.
        let data = [&[1u8][..], key().genesis.as_slice(), &key().group].concat();
        let older = bech32::encode::<bech32::Bech32>(Hrp::parse(PREFIX).unwrap(), &data).unwrap();
        assert_eq!(older.parse::<NetworkKey>(), Err(NetworkKeyError::Checksum));
    }
}
