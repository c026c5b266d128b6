//! Tell an owner whom a pass is for.
//!
//! `hodeireader1…`, bech32m of: version, the beginning of the genesis hash, and the key by which that reader is known on
//! the wire. There is no secret in it; its checksum keeps a pass from being made for nobody.

use crate::transport::NodeKey;
use bech32::{Bech32m, Hrp, primitives::decode::CheckedHrpstring};
use std::str::FromStr;

/// What the word begins with; bech32 adds the separator `1`.
const PREFIX: &str = "hodeireader";
/// Longer words are not read.
const TEXT_BYTES_MAX: usize = 128;
const VERSION: u8 = 1;

/// A reader of one network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reader {
    /// First bytes of the genesis hash: which network.
    pub network: [u8; 8],
    pub key: NodeKey,
}

/// Why a text names no reader.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReaderError {
    #[error("a reader's word begins with {PREFIX}1")]
    Prefix,
    #[error("checksum does not fit: a character was changed, lost or added")]
    Checksum,
    #[error("reader version {0}; this program knows version {VERSION}")]
    Version(u8),
    #[error("the reader's word is malformed")]
    Form,
}

impl std::fmt::Display for Reader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut data = vec![VERSION];
        data.extend_from_slice(&self.network);
        data.extend_from_slice(&self.key.0);
        let prefix = Hrp::parse(PREFIX).expect("the prefix is a valid human-readable part");
        f.write_str(&bech32::encode::<Bech32m>(prefix, &data).expect("41 bytes fit bech32m"))
    }
}

impl FromStr for Reader {
    type Err = ReaderError;

    fn from_str(text: &str) -> Result<Self, ReaderError> {
        if !text.strip_prefix(PREFIX).is_some_and(|rest| rest.starts_with('1')) {
            return Err(ReaderError::Prefix);
        }
        if text.len() > TEXT_BYTES_MAX || text.bytes().any(|byte| byte.is_ascii_uppercase()) {
            return Err(ReaderError::Checksum);
        }
        let checked = CheckedHrpstring::new::<Bech32m>(text).map_err(|_| ReaderError::Checksum)?;
        let data: Vec<u8> = checked.byte_iter().collect();
        let (version, rest) = data.split_first().ok_or(ReaderError::Form)?;
        if *version != VERSION {
            return Err(ReaderError::Version(*version));
        }
        let (network, key) = rest.split_first_chunk::<8>().ok_or(ReaderError::Form)?;
        let reader = Self { network: *network, key: NodeKey(key.try_into().map_err(|_| ReaderError::Form)?) };
        // Unused bits at the end are no second spelling.
        if reader.to_string() == text { Ok(reader) } else { Err(ReaderError::Form) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reader_returns_from_its_word_and_a_mistyped_one_is_nobody() {
        let reader = Reader { network: [1; 8], key: NodeKey([2; 32]) };
        let text = reader.to_string();
        assert_eq!(text.parse::<Reader>(), Ok(reader));
        for at in 0..text.len() {
            let mut bent = text.as_bytes().to_vec();
            bent[at] = if bent[at] == b'q' { b'p' } else { b'q' };
            String::from_utf8(bent).unwrap().parse::<Reader>().expect_err("a changed letter");
            text[..at].parse::<Reader>().expect_err("a lost end");
        }
        let word = |prefix: &str, data: &[u8]| bech32::encode::<Bech32m>(Hrp::parse(prefix).unwrap(), data).unwrap();
        assert_eq!(word("hodeishare", &[1; 41]).parse::<Reader>(), Err(ReaderError::Prefix));
        assert_eq!(word(PREFIX, &[9; 41]).parse::<Reader>(), Err(ReaderError::Version(9)));
        for bytes in [0, 1, 8, 40, 42] {
            assert_eq!(word(PREFIX, &[1; 42][..bytes]).parse::<Reader>(), Err(ReaderError::Form), "{bytes} bytes");
        }
    }
}
