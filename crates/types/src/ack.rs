//! Sign that a shard is durable, and check that signature.
//!
//! An ack is a provider's statement about the whole of a deal: after change number `sequence` the deal's tree
//! has this root and this many leaves, all of it on disk; `position` is the entry the ack is about, and a path
//! to the root goes with it. The signed bytes are
//! [`root_statement`]'s, so what a client collects is what either side posts to the ledger. Ed25519, by the
//! node key; deterministic, so the same change signed twice is the same ack.

use alloy_primitives::B256;
use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};

use crate::{
    abi::root_statement,
    cbor::{CborError, Reader, Writer},
    transport::NodeKey,
};

/// Bytes of an Ed25519 signature.
pub const SIGNATURE_BYTES: usize = 64;

/// What a provider states about a deal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Statement {
    pub deal: u64,
    /// Counts changes of the deal's tree, from 1.
    pub sequence: u64,
    /// The entry this is about: the shard just stored, or, of a bare statement, what changed last.
    pub position: u64,
    pub root: [u8; 32],
    /// Chunks of 1 KiB under the root.
    pub leaves: u64,
}

/// A signed statement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ack {
    pub statement: Statement,
    pub signature: [u8; SIGNATURE_BYTES],
}

/// The signature is not by that node over that statement.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("node {node} did not sign change {sequence} of deal {deal}")]
pub struct BadAck {
    pub node: NodeKey,
    pub deal: u64,
    pub sequence: u64,
}

/// A node's signing key. `node` reads it from disk; it never leaves the process.
pub struct Signer(Ed25519KeyPair);

impl Signer {
    /// From the 32-byte Ed25519 seed.
    pub fn new(seed: &[u8; 32]) -> Self {
        Self(Ed25519KeyPair::from_seed_unchecked(seed).expect("every 32 bytes are a seed"))
    }

    pub fn node(&self) -> NodeKey {
        NodeKey(self.0.public_key().as_ref().try_into().expect("an Ed25519 public key has 32 bytes"))
    }

    pub fn ack(&self, chain_id: u64, statement: Statement) -> Ack {
        Ack { statement, signature: self.sign(&statement.bytes(chain_id)) }
    }

    /// Signs bytes that carry a tag of their own.
    pub fn sign(&self, bytes: &[u8]) -> [u8; SIGNATURE_BYTES] {
        self.0.sign(bytes).as_ref().try_into().expect("an Ed25519 signature has 64 bytes")
    }
}

impl std::fmt::Debug for Signer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Signer({})", self.node())
    }
}

/// Whether `signature` is `node`'s over `bytes`.
pub fn is_signed(node: &NodeKey, bytes: &[u8], signature: &[u8]) -> bool {
    UnparsedPublicKey::new(&ED25519, node.0).verify(bytes, signature).is_ok()
}

impl Statement {
    /// The bytes both sides sign: domain separated and bound to the chain.
    pub fn bytes(&self, chain_id: u64) -> Vec<u8> {
        root_statement(chain_id, self.deal, self.sequence, self.position, B256::from(self.root), self.leaves)
    }
}

impl Ack {
    pub fn verify(&self, chain_id: u64, node: &NodeKey) -> Result<(), BadAck> {
        let Statement { deal, sequence, .. } = self.statement;
        if is_signed(node, &self.statement.bytes(chain_id), &self.signature) {
            Ok(())
        } else {
            Err(BadAck { node: *node, deal, sequence })
        }
    }

    /// Canonical CBOR: [deal, sequence, position, root, leaves, signature].
    pub fn write(&self, out: &mut Writer) {
        let Statement { deal, sequence, position, root, leaves } = &self.statement;
        out.array(6).uint(*deal).uint(*sequence).uint(*position).bytes(root).uint(*leaves).bytes(&self.signature);
    }

    pub fn read(input: &mut Reader<'_>) -> Result<Self, CborError> {
        input.tuple(6)?;
        let (deal, sequence, position) = (input.uint()?, input.uint()?, input.uint()?);
        let statement = Statement { deal, sequence, position, root: input.fixed()?, leaves: input.uint()? };
        Ok(Self { statement, signature: input.fixed()? })
    }

    /// As [`Ack::write`]: what goes into receipts and their Merkle tree.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Writer::new();
        self.write(&mut out);
        out.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ack_holds_for_its_node_chain_and_statement_only() {
        let signer = Signer::new(&[7; 32]);
        let statement = Statement { deal: 3, sequence: 9, position: 8, root: [5; 32], leaves: 256 };
        let ack = signer.ack(11, statement);
        assert_eq!(ack.verify(11, &signer.node()), Ok(()));
        assert!(ack.verify(12, &signer.node()).is_err(), "another chain");
        assert!(ack.verify(11, &Signer::new(&[8; 32]).node()).is_err(), "another node");
        for change in [
            Statement { deal: 4, ..statement },
            Statement { sequence: 10, ..statement },
            Statement { position: 7, ..statement },
            Statement { root: [6; 32], ..statement },
            Statement { leaves: 257, ..statement },
        ] {
            assert!(Ack { statement: change, ..ack }.verify(11, &signer.node()).is_err());
        }
    }

    #[test]
    fn an_ack_decodes_from_its_one_encoding() {
        let ack = Signer::new(&[7; 32])
            .ack(11, Statement { deal: 3, sequence: 900, position: 8, root: [5; 32], leaves: 1 << 40 });
        let bytes = ack.encode();
        let mut reader = Reader::new(&bytes);
        assert_eq!(Ack::read(&mut reader), Ok(ack));
        assert_eq!(reader.end(), Ok(()));
        for len in 0..bytes.len() {
            assert!(Ack::read(&mut Reader::new(&bytes[..len])).is_err());
        }
    }
}
