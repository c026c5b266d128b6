//! Carry everything that proves one event to somebody who knows only the network key.
//!
//! A receipt is deterministic CBOR: the event with its salt, the signed checkpoint of its log, the path from
//! there through the cohort to the anchor root in a block, the headers from that block to the first certified
//! one, and its finalization. It has exactly one encoding: [`Receipt::decode`] refuses every other, so no byte
//! of a receipt can be changed without changing what it says. Whether it is *true* is `sdk::verify`'s to tell.

use crate::{
    cbor::{CborError, Reader, Writer},
    event::{EVENT_BYTES_MAX, Salt},
    merkle::{self, MerkleError, PATH_MAX},
    transport::NodeKey,
};
use alloy_primitives::B256;

/// 255 acks with a registration each take under half of this.
pub const RECEIPT_BYTES_MAX: usize = 4 << 20;
/// Blocks from the anchoring one to the first with a certificate.
pub const HEADERS_MAX: usize = 64;
/// An Ethereum header of Prague takes at most 720 bytes. Blocks are read by the same limit: what is final can be
/// proven.
pub const HEADER_BYTES_MAX: usize = 1024;
/// Context, ranges and ops roots take about 300 bytes; the anchor root ends it.
pub const PREIMAGE_BYTES_MAX: usize = 1024;
/// Round, parent, payload, two 48-byte signatures: under 200.
pub const FINALIZATION_BYTES_MAX: usize = 512;
/// What is anchored: a cohort's root, or a provider's registration.
pub const DATA_BYTES_MAX: usize = 1024;
pub const ACKS_MAX: usize = 255;
pub const ACK_BYTES_MAX: usize = 512;

const VERSION: u64 = 1;

/// A Merkle path whose hashes say by `sides` where they stand (see [`merkle::sides`]).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Path {
    pub sides: u64,
    pub hashes: Vec<B256>,
}

impl Path {
    /// The path of leaf `index` in a tree of `size`.
    pub fn new(index: u64, size: u64, hashes: Vec<B256>) -> Result<Self, MerkleError> {
        let expected = merkle::sides(index, size).map(|_| merkle::path_len(index, size))?;
        if hashes.len() != expected {
            return Err(MerkleError::Length { expected, found: hashes.len() });
        }
        Ok(Self { sides: merkle::sides(index, size)?, hashes })
    }

    /// Where the path leads from a leaf hash.
    pub fn root(&self, leaf: B256) -> Result<B256, MerkleError> {
        merkle::root_from_sides(leaf, self.sides, &self.hashes)
    }
}

/// A log's checkpoint and the event's path to it; the event's sequence is its index.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpointed {
    pub size: u64,
    pub root: B256,
    pub path: Vec<B256>,
    /// Ed25519 by the log's key over `types::checkpoint::body`.
    pub signature: [u8; 64],
}

/// Bytes anchored in a block, and what ties them to the network key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Anchored {
    /// Leaf data without its tag: a cohort's root, or a provider's registration.
    pub data: Vec<u8>,
    /// From the leaf to the anchor root.
    pub path: Path,
    /// Preimage of the first header's `parent_beacon_block_root`; its last 32 bytes are the anchor root.
    pub preimage: Vec<u8>,
    /// RLP of the headers from the anchoring block to the certified one: 1 to 64.
    pub headers: Vec<Vec<u8>>,
    /// Simplex finalization of the last header, with vote and seed signatures.
    pub finalization: Vec<u8>,
}

/// A proof of one event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Receipt {
    pub genesis: B256,
    /// Encoded [`crate::event::Event`].
    pub event: Vec<u8>,
    pub salt: Salt,
    /// Whose log: the Ed25519 key that signs its checkpoints.
    pub log: NodeKey,
    pub checkpoint: Checkpointed,
    /// From the checkpoint's leaf to the cohort's root; empty where the cohort is this log alone.
    pub cohort: Path,
    pub anchor: Anchored,
    /// The acks a put's event commits to, in order; empty if they were left out.
    pub acks: Vec<Vec<u8>>,
    /// Registrations of the providers that signed them.
    pub providers: Vec<Anchored>,
}

/// Why bytes are not a receipt.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReceiptError {
    #[error(transparent)]
    Cbor(#[from] CborError),
    #[error("receipt has {0} bytes, at most {RECEIPT_BYTES_MAX} allowed")]
    Size(usize),
    #[error("{what}: {found}, expected {expected}")]
    Shape { what: &'static str, expected: &'static str, found: usize },
    #[error("re-encoding gives other bytes, first at {at}")]
    NotCanonical { at: usize },
}

impl Receipt {
    /// The receipt's one encoding. Limits are checked by whoever decodes.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Writer::with_capacity(3072);
        out.map(8 + usize::from(!self.acks.is_empty()) + usize::from(!self.providers.is_empty()));
        out.uint(0).uint(VERSION);
        out.uint(1).bytes(self.genesis.as_slice());
        out.uint(2).bytes(&self.event);
        out.uint(3).bytes(&self.salt.0);
        out.uint(4).bytes(&self.log.0);
        let checkpoint = &self.checkpoint;
        out.uint(5).array(4).uint(checkpoint.size).bytes(checkpoint.root.as_slice());
        out.bytes(&checkpoint.path.concat_bytes()).bytes(&checkpoint.signature);
        out.uint(6);
        write_path(&mut out, &self.cohort);
        out.uint(7);
        write_anchored(&mut out, &self.anchor);
        if !self.acks.is_empty() {
            out.uint(8).array(self.acks.len());
            self.acks.iter().for_each(|ack| {
                out.bytes(ack);
            });
        }
        if !self.providers.is_empty() {
            out.uint(9).array(self.providers.len());
            self.providers.iter().for_each(|provider| write_anchored(&mut out, provider));
        }
        out.finish()
    }

    /// Reads the one encoding of a receipt, and no other; proves nothing yet.
    pub fn decode(bytes: &[u8]) -> Result<Self, ReceiptError> {
        if bytes.len() > RECEIPT_BYTES_MAX {
            return Err(ReceiptError::Size(bytes.len()));
        }
        let mut input = Reader::new(bytes);
        let keys = input.map(10)?;
        if keys < 8 {
            return Err(ReceiptError::Shape { what: "map length", expected: "8 to 10", found: keys });
        }
        input.exactly("key", 0)?;
        input.exactly("receipt version", VERSION)?;
        input.exactly("key", 1)?;
        let genesis = B256::new(input.fixed()?);
        input.exactly("key", 2)?;
        let event = input.bytes(EVENT_BYTES_MAX)?.to_vec();
        input.exactly("key", 3)?;
        let salt = Salt(input.fixed()?);
        input.exactly("key", 4)?;
        let log = NodeKey(input.fixed()?);
        input.exactly("key", 5)?;
        input.tuple(4)?;
        let checkpoint = Checkpointed {
            size: input.uint()?,
            root: B256::new(input.fixed()?),
            path: read_hashes(&mut input)?,
            signature: input.fixed()?,
        };
        input.exactly("key", 6)?;
        input.tuple(2)?;
        let cohort = read_path(&mut input)?;
        input.exactly("key", 7)?;
        let anchor = read_anchored(&mut input)?;
        let (mut acks, mut providers) = (Vec::new(), Vec::new());
        let mut last = 7;
        for _ in 8..keys {
            let at = input.at();
            let key = input.uint()?;
            match key {
                8 if last < 8 => {
                    let count = nonempty("acks", input.array(ACKS_MAX)?)?;
                    for _ in 0..count {
                        acks.push(input.bytes(ACK_BYTES_MAX)?.to_vec());
                    }
                }
                9 if last < 9 => {
                    let count = nonempty("providers", input.array(ACKS_MAX)?)?;
                    for _ in 0..count {
                        providers.push(read_anchored(&mut input)?);
                    }
                }
                _ => return Err(CborError::Value { at, what: "key", expected: last + 1, found: key }.into()),
            }
            last = key;
        }
        input.end()?;
        let receipt = Self { genesis, event, salt, log, checkpoint, cohort, anchor, acks, providers };
        // The reader is strict already; this holds it to its word.
        let again = receipt.encode();
        if again != bytes {
            let at = again.iter().zip(bytes).take_while(|(a, b)| a == b).count();
            return Err(ReceiptError::NotCanonical { at });
        }
        Ok(receipt)
    }
}

trait ConcatBytes {
    fn concat_bytes(&self) -> Vec<u8>;
}

impl ConcatBytes for [B256] {
    fn concat_bytes(&self) -> Vec<u8> {
        self.iter().flat_map(|hash| hash.0).collect()
    }
}

fn nonempty(what: &'static str, found: usize) -> Result<usize, ReceiptError> {
    if found == 0 { Err(ReceiptError::Shape { what, expected: "at least one, or no entry", found }) } else { Ok(found) }
}

fn write_path(out: &mut Writer, path: &Path) {
    out.array(2).uint(path.sides).bytes(&path.hashes.concat_bytes());
}

fn read_path(input: &mut Reader<'_>) -> Result<Path, ReceiptError> {
    Ok(Path { sides: input.uint()?, hashes: read_hashes(input)? })
}

fn read_hashes(input: &mut Reader<'_>) -> Result<Vec<B256>, ReceiptError> {
    let bytes = input.bytes(PATH_MAX * 32)?;
    if bytes.len() % 32 != 0 {
        return Err(ReceiptError::Shape { what: "path", expected: "a multiple of 32 bytes", found: bytes.len() });
    }
    Ok(bytes.chunks_exact(32).map(B256::from_slice).collect())
}

fn write_anchored(out: &mut Writer, anchored: &Anchored) {
    out.array(6).bytes(&anchored.data).uint(anchored.path.sides).bytes(&anchored.path.hashes.concat_bytes());
    out.bytes(&anchored.preimage).array(anchored.headers.len());
    anchored.headers.iter().for_each(|header| {
        out.bytes(header);
    });
    out.bytes(&anchored.finalization);
}

fn read_anchored(input: &mut Reader<'_>) -> Result<Anchored, ReceiptError> {
    input.tuple(6)?;
    let data = input.bytes(DATA_BYTES_MAX)?.to_vec();
    let path = read_path(input)?;
    let preimage = input.bytes(PREIMAGE_BYTES_MAX)?.to_vec();
    if preimage.len() < 32 {
        return Err(ReceiptError::Shape { what: "preimage", expected: "at least 32 bytes", found: preimage.len() });
    }
    let count = nonempty("headers", input.array(HEADERS_MAX)?)?;
    let headers =
        (0..count).map(|_| Ok(input.bytes(HEADER_BYTES_MAX)?.to_vec())).collect::<Result<Vec<_>, CborError>>()?;
    let finalization = input.bytes(FINALIZATION_BYTES_MAX)?.to_vec();
    Ok(Anchored { data, path, preimage, headers, finalization })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn anchored() -> Anchored {
        Anchored {
            data: vec![1; 32],
            path: Path { sides: 1, hashes: vec![B256::repeat_byte(2)] },
            preimage: vec![3; 250],
            headers: vec![vec![4; 620]],
            finalization: vec![5; 170],
        }
    }

    fn receipt() -> Receipt {
        Receipt {
            genesis: B256::repeat_byte(1),
            event: vec![6; 450],
            salt: Salt([7; 16]),
            log: NodeKey([8; 32]),
            checkpoint: Checkpointed {
                size: 1 << 30,
                root: B256::repeat_byte(9),
                path: vec![B256::repeat_byte(10); 30],
                signature: [11; 64],
            },
            cohort: Path::default(),
            anchor: anchored(),
            acks: vec![vec![12; 200], vec![13; 200]],
            providers: vec![anchored()],
        }
    }

    #[test]
    fn round_trips_with_and_without_acks() {
        let full = receipt();
        let plain = Receipt { acks: vec![], providers: vec![], ..receipt() };
        let unregistered = Receipt { providers: vec![], ..receipt() };
        for receipt in [full, plain.clone(), unregistered] {
            assert_eq!(Receipt::decode(&receipt.encode()), Ok(receipt));
        }
        assert!(plain.encode().len() <= 3072, "a log of 2^30 events gives {} bytes", plain.encode().len());
    }

    #[test]
    fn encoding_is_frozen() {
        let hash = alloy_primitives::keccak256(receipt().encode());
        assert_eq!(hash.to_string(), "0xc2db3187265089f3c1199f0e77f01f2931d56b602017e4dce01a7ad57bbbfdbe");
    }

    #[test]
    fn whatever_decodes_re_encodes_to_itself() {
        let bytes = receipt().encode();
        for at in 0..bytes.len() {
            for bit in [0, 3, 5, 7] {
                let mut bent = bytes.clone();
                bent[at] ^= 1 << bit;
                if let Ok(other) = Receipt::decode(&bent) {
                    assert_ne!(other, receipt());
                    assert_eq!(other.encode(), bent);
                }
            }
        }
    }

    #[test]
    fn cut_extended_and_empty_ones_are_refused() {
        let bytes = receipt().encode();
        for len in (0..bytes.len()).step_by(7) {
            Receipt::decode(&bytes[..len]).expect_err("cut");
        }
        let longer = [&bytes[..], &[0]].concat();
        assert!(matches!(Receipt::decode(&longer), Err(ReceiptError::Cbor(CborError::Trailing { count: 1, .. }))));
        let mut headless = receipt();
        headless.anchor.headers.clear();
        assert!(matches!(Receipt::decode(&headless.encode()), Err(ReceiptError::Shape { what: "headers", .. })));
        let mut long = receipt();
        long.anchor.headers = vec![vec![0; 10]; HEADERS_MAX + 1];
        assert!(matches!(Receipt::decode(&long.encode()), Err(ReceiptError::Cbor(CborError::TooLong { .. }))));
    }
}
