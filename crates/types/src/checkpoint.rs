//! Write down how long a log is and what is in it, in the words the network agrees on.
//!
//! A checkpoint is a C2SP tlog-checkpoint: origin, size and root as three lines of text, signed as a note by
//! the log's Ed25519 key. The origin is made of the network's genesis hash and the log's key, so body and
//! cohort leaf follow from (genesis, log, size, root) alone and a receipt need not carry their text.

use crate::{merkle, network, transport::NodeKey};
use alloy_primitives::{Address, B256};

/// The first byte of an anchored leaf: what accounts post. A ledger's own leaves have other tags, so that
/// nobody can post bytes that pass for one.
pub const TAG_ANCHOR: u8 = 1;
/// The first byte of the leaf the ledger itself adds for a provider's registration.
pub const TAG_REGISTRATION: u8 = 2;

/// `<network>/audit/<node>`, C2SP's name of a log.
pub fn origin(genesis: &B256, log: &NodeKey) -> String {
    format!("{}/audit/{log}", network::origin(genesis))
}

/// The text that is signed: origin, size and base64 root, a line each.
pub fn body(genesis: &B256, log: &NodeKey, size: u64, root: &B256) -> String {
    format!("{}\n{size}\n{}\n", origin(genesis, log), base64(root.as_slice()))
}

/// A cohort's leaf: checkpoint body ‖ node key, hashed as RFC 6962 does.
pub fn cohort_leaf(body: &str, log: &NodeKey) -> B256 {
    merkle::leaf_of(&[body.as_bytes(), &log.0])
}

/// The anchor tree's leaf data for bytes an account posted.
pub fn anchor_leaf(posted: &[u8]) -> Vec<u8> {
    [&[TAG_ANCHOR], posted].concat()
}

/// The anchor tree's leaf data for an encoded [`Registration`].
pub fn registration_leaf(registration: &[u8]) -> Vec<u8> {
    [&[TAG_REGISTRATION], registration].concat()
}

/// Who stands behind a node: what the ledger anchors whenever a provider's registration changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Registration {
    pub node: NodeKey,
    /// Zero once the node was withdrawn.
    pub operator: Address,
    /// Changes of its record, from 1.
    pub version: u64,
    /// keccak of the ABI encoding of what it offers.
    pub offer: B256,
}

impl Registration {
    /// Node, operator, version (big-endian), offer: 92 bytes.
    pub fn encode(&self) -> Vec<u8> {
        [&self.node.0[..], self.operator.as_slice(), &self.version.to_be_bytes(), self.offer.as_slice()].concat()
    }

    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let bytes: &[u8; 92] = bytes.try_into().ok()?;
        let (node, rest) = bytes.split_first_chunk::<32>()?;
        let (operator, rest) = rest.split_first_chunk::<20>()?;
        let (version, offer) = rest.split_first_chunk::<8>()?;
        Some(Self {
            node: NodeKey(*node),
            operator: Address::from(*operator),
            version: u64::from_be_bytes(*version),
            offer: B256::from_slice(offer),
        })
    }

    /// The anchor tree's leaf data.
    pub fn leaf(&self) -> Vec<u8> {
        registration_leaf(&self.encode())
    }
}

/// RFC 4648 section 4, padded, as C2SP wants it.
pub fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let word = chunk.iter().fold(0u32, |word, byte| word << 8 | u32::from(*byte)) << (8 * (3 - chunk.len()));
        for at in 0..4 {
            let digit = (word >> (18 - 6 * at) & 63) as usize;
            text.push(if at <= chunk.len() { ALPHABET[digit] as char } else { '=' });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_matches_rfc_4648() {
        for (plain, text) in
            [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foob", "Zm9vYg=="), ("foobar", "Zm9vYmFy")]
        {
            assert_eq!(base64(plain.as_bytes()), text);
        }
        assert_eq!(base64(&[0xfb, 0xff]), "+/8=");
    }

    #[test]
    fn registrations_round_trip_at_one_length() {
        let (operator, offer) = (Address::repeat_byte(2), B256::repeat_byte(4));
        let one = Registration { node: NodeKey([1; 32]), operator, version: 3, offer };
        assert_eq!(Registration::decode(&one.encode()), Some(one));
        assert_eq!((one.leaf().len(), one.leaf()[0]), (93, TAG_REGISTRATION));
        assert_eq!(Registration::decode(&one.leaf()), None);
    }

    #[test]
    fn body_is_three_lines() {
        let body = body(&B256::repeat_byte(0xab), &NodeKey([1; 32]), 42, &merkle::empty());
        let key = "01".repeat(32);
        assert_eq!(
            body,
            format!("hodei-abababababababab/audit/{key}\n42\n47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=\n")
        );
    }
}
