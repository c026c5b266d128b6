//! Tell an owner whom a pass is for.
//!
//! `hodeireader1…`, bech32m of: version, the beginning of the genesis hash, and the key by which that reader is known on
//! the wire. There is no secret in it; its checksum keeps a pass from being made for nobody.

use crate::{
    transport::NodeKey,
    word::{Form, FormError},
};
use std::str::FromStr;

const FORM: Form = Form { prefix: "hodeireader", chars_max: 128 };
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
    #[error("a reader's word begins with {form}1", form = FORM.prefix)]
    Prefix,
    #[error("checksum does not fit: a character was changed, lost or added")]
    Checksum,
    #[error("reader version {0}; this program knows version {VERSION}")]
    Version(u8),
    #[error("the reader's word is malformed")]
    Form,
}

impl From<FormError> for ReaderError {
    fn from(error: FormError) -> Self {
        match error {
            FormError::Prefix => Self::Prefix,
            FormError::Checksum => Self::Checksum,
            FormError::Padding => Self::Form,
        }
    }
}

impl std::fmt::Display for Reader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut data = vec![VERSION];
        data.extend_from_slice(&self.network);
        data.extend_from_slice(&self.key.0);
        f.write_str(&FORM.write(&data))
    }
}

impl FromStr for Reader {
    type Err = ReaderError;

    fn from_str(text: &str) -> Result<Self, ReaderError> {
        let data = FORM.read(text)?;
        let (version, rest) = data.split_first().ok_or(ReaderError::Form)?;
        if *version != VERSION {
            return Err(ReaderError::Version(*version));
        }
        let (network, key) = rest.split_first_chunk::<8>().ok_or(ReaderError::Form)?;
        Ok(Self { network: *network, key: NodeKey(key.try_into().map_err(|_| ReaderError::Form)?) })
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
        let share = Form { prefix: "hodeishare", ..FORM };
        assert_eq!(share.write(&[1; 41]).parse::<Reader>(), Err(ReaderError::Prefix));
        assert_eq!(FORM.write(&[9; 41]).parse::<Reader>(), Err(ReaderError::Version(9)));
        for bytes in [0, 1, 8, 40, 42] {
            assert_eq!(FORM.write(&[1; 42][..bytes]).parse::<Reader>(), Err(ReaderError::Form), "{bytes} bytes");
        }
    }
}
