//! Carry the way to what somebody shares as one word.
//!
//! `hodeishare1…`, bech32m of: version, the beginning of the genesis hash, the bucket's id, id and length of the
//! share's record (a shard of that bucket), the key that opens the record, and the owner's grant. Who has the word of
//! version 1, a *link*, has the objects: its grant is a bearer's. Version 2, a *pass*, names one reader by the key it has
//! on the wire, between the grant's end and its signature: providers answer that client alone, so the word is of no use
//! to others. Version 3, a *paid pass*, names behind its reader the tab that pays for what is read, the seed of that tab's
//! chains, and a byte of flags, of which none means anything yet: it is zero. Each is shown once, and kept nowhere by whoever made it. The bucket's key is not in it, nor does it
//! follow from it.

mod reader;

pub use reader::{Reader, ReaderError};

use crate::{
    code::SHARD_ALIGN,
    grant::{Grant, Rights},
    slice::{ShardId, check_length},
    transport::NodeKey,
    word::{Form, FormError},
};
use alloy_primitives::B256;
use std::str::FromStr;
use zeroize::{Zeroize as _, Zeroizing};

/// What the word begins with; bech32 adds the separator `1`.
pub const PREFIX: &str = "hodeishare";
/// Longer words are not read.
pub const TEXT_BYTES_MAX: usize = 512;
const FORM: Form = Form { prefix: PREFIX, chars_max: TEXT_BYTES_MAX };
/// Of a link, whose grant is a bearer's.
const VERSION: u8 = 1;
/// Of a pass, which names its reader.
const PASS: u8 = 2;
const DATA_BYTES: usize = 1 + 8 + 32 + 32 + 2 + 32 + 8 + 65;
const PASS_BYTES: usize = DATA_BYTES + 32;
/// Of a pass whose reads a tab pays for.
const PAID: u8 = 3;
const PAID_BYTES: usize = PASS_BYTES + 32 + 32 + 1;

/// The way to an object of somebody's bucket, or to several.
#[derive(Clone, PartialEq, Eq)]
pub struct Link {
    /// First bytes of the genesis hash: which network.
    pub network: [u8; 8],
    pub bucket: B256,
    /// Where the share's record is.
    pub record: ShardId,
    pub record_bytes: u32,
    /// Opens the record; random, of this share alone.
    pub secret: [u8; 32],
    /// Milliseconds since 1970; providers refuse it from then on.
    pub expires_ms: u64,
    /// Whose pass it is: providers answer this client alone. `None`: whoever has the word.
    pub reader: Option<NodeKey>,
    /// What pays for its reader's reads; `None`: they are free.
    pub purse: Option<Purse>,
    /// The owner's, of a bearer grant or of the reader's.
    pub signature: [u8; 65],
}

/// What a reader pays with for what it reads: it can reveal ticks of this tab, to the providers that the tab names.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Purse {
    pub tab: B256,
    /// All chains of the tab follow from it.
    pub seed: [u8; 32],
    /// Zero.
    pub flags: u8,
}

impl std::fmt::Debug for Purse {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Purse({}, …)", self.tab)
    }
}

/// Why a text is no link.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LinkError {
    #[error("a link begins with {PREFIX}1")]
    Prefix,
    #[error("checksum does not fit: a character was changed, lost or added")]
    Checksum,
    #[error("link version {0}; this program knows versions {VERSION} to {PAID}")]
    Version(u8),
    #[error("the link is malformed")]
    Form,
}

impl From<FormError> for LinkError {
    fn from(error: FormError) -> Self {
        match error {
            FormError::Prefix => Self::Prefix,
            FormError::Checksum => Self::Checksum,
            FormError::Padding => Self::Form,
        }
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.secret.zeroize();
        if let Some(purse) = &mut self.purse {
            purse.seed.zeroize();
        }
    }
}

impl std::fmt::Debug for Link {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Link({}, …)", self.record)
    }
}

impl Link {
    /// What lets its bearer read, or its reader.
    pub fn grant(&self) -> Grant {
        let is_bearer = self.reader.is_none();
        let tab = self.purse.as_ref().map(|purse| purse.tab);
        Grant { rights: Rights::READ, expires_ms: self.expires_ms, is_bearer, tab, signature: self.signature }
    }

    /// What the owner calls it: the first digits of its record's id, which open nothing.
    pub fn name(&self) -> String {
        name(&self.record)
    }

    pub fn text(&self) -> Zeroizing<String> {
        let units = u16::try_from(self.record_bytes / SHARD_ALIGN).expect("a shard is at most 256 units");
        let mut data = Zeroizing::new(Vec::with_capacity(PAID_BYTES));
        data.push(match (&self.reader, &self.purse) {
            (None, _) => VERSION,
            (Some(_), None) => PASS,
            (Some(_), Some(_)) => PAID,
        });
        data.extend_from_slice(&self.network);
        data.extend_from_slice(self.bucket.as_slice());
        data.extend_from_slice(&self.record.0);
        data.extend_from_slice(&units.to_be_bytes());
        data.extend_from_slice(&self.secret);
        data.extend_from_slice(&self.expires_ms.to_be_bytes());
        if let Some(reader) = &self.reader {
            data.extend_from_slice(&reader.0);
            if let Some(Purse { tab, seed, flags }) = &self.purse {
                data.extend_from_slice(tab.as_slice());
                data.extend_from_slice(seed);
                data.push(*flags);
            }
        }
        data.extend_from_slice(&self.signature);
        FORM.write(&data)
    }
}

/// What an owner calls the share whose record this is.
pub fn name(record: &ShardId) -> String {
    hex::encode(&record.0[..6])
}

impl FromStr for Link {
    type Err = LinkError;

    fn from_str(text: &str) -> Result<Self, LinkError> {
        read(&FORM.read(text)?)
    }
}

fn read(mut data: &[u8]) -> Result<Link, LinkError> {
    fn take<const N: usize>(data: &mut &[u8]) -> Result<[u8; N], LinkError> {
        let (head, rest) = data.split_first_chunk::<N>().ok_or(LinkError::Form)?;
        *data = rest;
        Ok(*head)
    }
    let [version] = take(&mut data)?;
    if !(VERSION..=PAID).contains(&version) {
        return Err(LinkError::Version(version));
    }
    let network = take(&mut data)?;
    let (bucket, record) = (B256::new(take(&mut data)?), ShardId(take(&mut data)?));
    let record_bytes = u32::from(u16::from_be_bytes(take(&mut data)?)) * SHARD_ALIGN;
    check_length(record_bytes.into()).map_err(|_| LinkError::Form)?;
    let secret = take(&mut data)?;
    let expires_ms = u64::from_be_bytes(take(&mut data)?);
    let reader = if version == VERSION { None } else { Some(NodeKey(take(&mut data)?)) };
    let purse = if version == PAID {
        let (tab, seed, [flags]) = (B256::new(take(&mut data)?), take(&mut data)?, take(&mut data)?);
        if flags != 0 {
            return Err(LinkError::Form);
        }
        Some(Purse { tab, seed, flags })
    } else {
        None
    };
    let signature = take(&mut data)?;
    if !data.is_empty() {
        return Err(LinkError::Form);
    }
    Ok(Link { network, bucket, record, record_bytes, secret, expires_ms, reader, purse, signature })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link() -> Link {
        Link {
            network: [1; 8],
            bucket: [2; 32].into(),
            record: ShardId([3; 32]),
            record_bytes: 8192,
            secret: [4; 32],
            expires_ms: 1 << 41,
            reader: None,
            purse: None,
            signature: [5; 65],
        }
    }

    fn pass() -> Link {
        Link { reader: Some(NodeKey([6; 32])), ..link() }
    }

    fn paid() -> Link {
        Link { purse: Some(Purse { tab: [7; 32].into(), seed: [4; 32], flags: 0 }), ..pass() }
    }

    #[test]
    fn a_link_returns_from_its_word_and_every_changed_letter_is_noticed() {
        for link in [link(), pass(), paid()] {
            let text = link.text();
            assert!(text.len() <= TEXT_BYTES_MAX, "{}", text.len());
            assert_eq!(text.parse::<Link>(), Ok(link.clone()));
            for at in 0..text.len() {
                let mut bent = text.as_bytes().to_vec();
                bent[at] = if bent[at] == b'q' { b'p' } else { b'q' };
                String::from_utf8(bent).unwrap().parse::<Link>().expect_err("a changed letter");
                text[..at].parse::<Link>().expect_err("a lost end");
            }
            assert!(!format!("{link:?}").contains("4, 4"), "secrets are not printed");
        }
    }

    #[test]
    fn a_pass_asks_in_its_readers_name_and_a_link_in_anybodys() {
        assert!(link().grant().is_bearer && !pass().grant().is_bearer);
        let back: Link = pass().text().parse().unwrap();
        assert_eq!((back.reader, back.grant().rights), (Some(NodeKey([6; 32])), Rights::READ));
        assert_eq!((paid().grant().tab, pass().grant().tab), (Some([7; 32].into()), None));
        let back: Link = paid().text().parse().unwrap();
        assert_eq!(back.grant(), paid().grant());
        // A pass without its reader is no link: what was signed names the reader.
        let (secret, bucket) = ([1; 32], B256::repeat_byte(2));
        let signed = Grant::sign(&secret, 9, bucket, &NodeKey([6; 32]), Rights::READ, 1 << 41).unwrap();
        let pass = Link { signature: signed.signature, ..pass() };
        let owner = pass.grant().signer(9, bucket, &NodeKey([6; 32]));
        assert!(owner.is_some());
        let link = Link { reader: None, ..pass.clone() };
        assert_ne!(link.grant().signer(9, bucket, &NodeKey([6; 32])), owner);
        assert_ne!(pass.grant().signer(9, bucket, &NodeKey([7; 32])), owner, "another client");
        let longer = Link { expires_ms: pass.expires_ms + 1, ..pass.clone() };
        assert_ne!(longer.grant().signer(9, bucket, &NodeKey([6; 32])), owner, "a later end");
    }

    #[test]
    fn a_word_of_another_kind_or_length_is_refused() {
        let word = |prefix: &'static str, data: &[u8]| Form { prefix, ..FORM }.write(data);
        assert_eq!(word("hodeikey", &[1; 34]).parse::<Link>(), Err(LinkError::Prefix));
        // Ones, but for the length of the record.
        let data = |version, bytes| {
            let mut data = vec![1; bytes];
            data[0] = version;
            data[73..75].copy_from_slice(&[0, 1]);
            data
        };
        word(PREFIX, &data(VERSION, DATA_BYTES)).parse::<Link>().unwrap();
        assert_eq!(word(PREFIX, &data(9, DATA_BYTES)).parse::<Link>(), Err(LinkError::Version(9)));
        assert_eq!(word(PREFIX, &data(VERSION, DATA_BYTES + 1)).parse::<Link>(), Err(LinkError::Form));
        assert_eq!(
            word(PREFIX, &data(PASS, DATA_BYTES)).parse::<Link>(),
            Err(LinkError::Form),
            "a pass without a reader"
        );
        let mut paid = data(PAID, PAID_BYTES);
        for flags in [1, 2, 128] {
            paid[PAID_BYTES - 66] = flags;
            assert_eq!(word(PREFIX, &paid).parse::<Link>(), Err(LinkError::Form), "a flag that means nothing yet");
        }
        paid[PAID_BYTES - 66] = 0;
        assert_eq!(word(PREFIX, &paid).parse::<Link>().unwrap().purse.unwrap().flags, 0);
        paid.truncate(PASS_BYTES);
        assert_eq!(word(PREFIX, &paid).parse::<Link>(), Err(LinkError::Form), "a paid pass without a tab");
        // A record of no length.
        let mut none = data(VERSION, DATA_BYTES);
        none[73..75].fill(0);
        assert_eq!(word(PREFIX, &none).parse::<Link>(), Err(LinkError::Form));
    }
}
