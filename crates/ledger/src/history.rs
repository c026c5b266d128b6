//! Carry finalized blocks with their certificates in one file.
//!
//! ```text
//! file   head, frames                    head   "hodei-chain-v1\n", genesis hash, first height (8)
//! frame  kind (1), length (4), payload   kind   1 block, 2 certificate of the block before it, 0 end
//! ```
//! Integers are big-endian. Every block is the parent of the next, and the last one has a certificate, so the
//! network key alone decides about the whole file. A reader keeps only the blocks that no certificate covers
//! yet; their number and bytes are bounded, as is every length.

use alloy_primitives::{B256, Bytes};
use commonware_codec::{Copying, Decode as _};
use hodei_types::receipt::FINALIZATION_BYTES_MAX;

use crate::{
    block::{Block, Limits},
    light::{LightError, Verifier},
};

const MAGIC: &[u8; 15] = b"hodei-chain-v1\n";
/// Bytes of the head.
pub const HEAD_BYTES: usize = 15 + 32 + 8;
/// Bytes before a frame's payload.
pub const FRAME_HEAD_BYTES: usize = 5;
/// The largest body a genesis may allow, and a block's other parts.
const BLOCK_BYTES_MAX: usize = (8 << 20) + (1 << 20);
/// What any genesis may allow: a file is read before its genesis is known.
const LIMITS: Limits = Limits { txs_max: 1 << 16, tx_bytes_max: 8 << 20, body_bytes_max: 8 << 20 };
/// Blocks in a row without a certificate; a healthy chain has a handful.
const PENDING_MAX: usize = 4096;
const PENDING_BYTES_MAX: usize = 64 << 20;

/// Why a file is not a piece of this network's history.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HistoryError {
    #[error("this is no exported chain, or one of another version")]
    Magic,
    #[error("this chain is of the network with genesis {found}, not of {expected}")]
    Network { expected: B256, found: B256 },
    #[error("block {height}: a frame of kind {kind} and {length} bytes")]
    Frame { height: u64, kind: u8, length: u32 },
    #[error("block {height} is damaged: {reason}")]
    Block { height: u64, reason: String },
    #[error("block {height} is not the parent that block {} names", height + 1)]
    Parent { height: u64 },
    #[error("block {height}: its certificate is refused: {reason}")]
    Certificate { height: u64, reason: LightError },
    #[error("no certificate covers block {height} and the {PENDING_MAX} after it")]
    Uncertified { height: u64 },
    #[error("the file ends after block {height}, and not where its writer ended it")]
    Cut { height: u64 },
}

/// What follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    End,
    Block,
    Certificate,
}

/// The head of a file that begins with block `first`.
pub fn head(genesis: B256, first: u64) -> Vec<u8> {
    [MAGIC.as_slice(), genesis.as_slice(), &first.to_be_bytes()].concat()
}

/// One frame.
pub fn frame(kind: Kind, payload: &[u8]) -> Vec<u8> {
    let kind = match kind {
        Kind::End => 0u8,
        Kind::Block => 1,
        Kind::Certificate => 2,
    };
    let length = u32::try_from(payload.len()).expect("blocks are bounded");
    [&[kind], length.to_be_bytes().as_slice(), payload].concat()
}

/// A finalized block, and its own certificate if it has one.
#[derive(Clone, Debug)]
pub struct Entry {
    pub block: Block,
    pub finalization: Option<Bytes>,
}

/// Checks a file from its beginning, frame by frame, under the network key.
pub struct Checker {
    verifier: Verifier,
    next: u64,
    last: Option<B256>,
    pending: Vec<Block>,
    pending_bytes: usize,
}

impl Checker {
    /// Reads the head.
    pub fn new(verifier: Verifier, head: &[u8; HEAD_BYTES]) -> Result<Self, HistoryError> {
        let Some(rest) = head.strip_prefix(MAGIC) else { return Err(HistoryError::Magic) };
        let (expected, found) = (verifier.genesis(), B256::from_slice(&rest[..32]));
        if expected != found {
            return Err(HistoryError::Network { expected, found });
        }
        let first = u64::from_be_bytes(rest[32..].try_into().expect("eight bytes are left"));
        if first == 0 || first > u64::MAX / 2 {
            return Err(HistoryError::Magic);
        }
        Ok(Self { verifier, next: first, last: None, pending: Vec::new(), pending_bytes: 0 })
    }

    /// Height of the block that is read next.
    pub fn next_height(&self) -> u64 {
        self.next
    }

    /// Reads a frame's head: what follows, and its length.
    pub fn frame(&self, head: [u8; FRAME_HEAD_BYTES]) -> Result<(Kind, usize), HistoryError> {
        let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]);
        let (kind, max) = match head[0] {
            0 => (Kind::End, 0),
            1 => (Kind::Block, BLOCK_BYTES_MAX),
            2 => (Kind::Certificate, FINALIZATION_BYTES_MAX),
            kind => return Err(HistoryError::Frame { height: self.next, kind, length }),
        };
        if length as usize > max {
            return Err(HistoryError::Frame { height: self.next, kind: head[0], length });
        }
        Ok((kind, length as usize))
    }

    /// Takes the next block; it is not final yet.
    pub fn block(&mut self, bytes: &[u8]) -> Result<(), HistoryError> {
        let height = self.next;
        let damaged = |reason: String| HistoryError::Block { height, reason };
        let block = Block::decode_cfg(Copying(bytes), &LIMITS).map_err(|error| damaged(error.to_string()))?;
        if block.number() != height {
            return Err(damaged(format!("it says it is block {}", block.number())));
        }
        if self.last.is_some_and(|last| last != block.header().parent_hash) {
            return Err(HistoryError::Parent { height: height - 1 });
        }
        self.pending_bytes += bytes.len();
        if self.pending.len() == PENDING_MAX || self.pending_bytes > PENDING_BYTES_MAX {
            let first = self.pending.first().map_or(height, Block::number);
            return Err(HistoryError::Uncertified { height: first });
        }
        self.last = Some(block.hash());
        self.next += 1;
        self.pending.push(block);
        Ok(())
    }

    /// Takes the certificate of the block just read; hands out what is final by it, oldest first.
    pub fn certificate(&mut self, bytes: &[u8]) -> Result<Vec<Entry>, HistoryError> {
        let height = self.next - 1;
        let refused = |reason| HistoryError::Certificate { height, reason };
        let (Some(expected), false) = (self.last, self.pending.is_empty()) else {
            return Err(refused(LightError::Empty));
        };
        let found = self.verifier.finalization(bytes).map_err(refused)?.block;
        if found != expected {
            return Err(refused(LightError::Block { expected, found }));
        }
        self.pending_bytes = 0;
        let mut entries: Vec<Entry> = self.pending.drain(..).map(|block| Entry { block, finalization: None }).collect();
        if let Some(entry) = entries.last_mut() {
            entry.finalization = Some(Bytes::copy_from_slice(bytes));
        }
        Ok(entries)
    }

    /// The end was read: the height of the last block.
    pub fn end(self) -> Result<u64, HistoryError> {
        match self.pending.first() {
            Some(block) => Err(HistoryError::Uncertified { height: block.number() }),
            None if self.last.is_none() => Err(HistoryError::Cut { height: self.next - 1 }),
            None => Ok(self.next - 1),
        }
    }

    /// The bytes ended before the end was read.
    pub fn cut(&self) -> HistoryError {
        HistoryError::Cut { height: self.next - 1 }
    }
}
