//! Carry one step of the ledger: an Ethereum header, and a body it commits to.
//!
//! A block's digest is keccak-256 of its header's RLP, which is what certificates sign and wallets show.
//! What consensus needs besides Ethereum's fields (the round, the database ranges, the anchor root) is bound
//! into `parent_beacon_block_root`, what Ethereum binds itself (transactions) into `transactions_root`, the
//! randomness into `mix_hash`. Decoding recomputes all three, so that no two bodies share one digest.

use alloy_consensus::{
    EMPTY_OMMER_ROOT_HASH, Header,
    constants::EMPTY_WITHDRAWALS,
    proofs::{calculate_transaction_root, ordered_trie_root_encoded},
};
use alloy_eips::eip7685::EMPTY_REQUESTS_HASH;
use alloy_primitives::{Address, B64, B256, Bloom, Bytes, U256, keccak256};
use commonware_codec::{EncodeSize as _, Write as _};
use commonware_consensus::{
    Block as ConsensusBlock, CertifiableBlock, Heightable,
    simplex::types::Context as SimplexContext,
    types::{Epoch, Height, Round, View},
};
use commonware_cryptography::{Digest as _, Digestible, ed25519};

use crate::genesis::Genesis;

mod codec;

/// keccak-256 of a header's RLP: a block's name in certificates, as in Ethereum.
pub type Digest = commonware_cryptography::keccak256::Digest;
/// A validator's consensus and p2p identity.
pub type PublicKey = ed25519::PublicKey;
/// Round, leader and parent of a proposal, as consensus knows them.
pub type Context = SimplexContext<Digest, PublicKey>;

/// Bytes of a seed: a compressed point of the certificate's signature group.
pub const SEED_BYTES: usize = 48;

/// The randomness of a round: 48 bytes nobody could foresee before its certificate.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Seed(pub [u8; SEED_BYTES]);

impl Seed {
    /// What the EVM sees as `prevrandao`, and the header carries as `mix_hash`.
    pub fn mix(&self) -> B256 {
        keccak256(self.0)
    }
}

/// What one database must hold after a block: its operations' root and their range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Member {
    /// Root over the operations, which state sync verifies against.
    pub ops_root: B256,
    /// First operation a syncing node needs.
    pub start: u64,
    /// One past the last operation; above `start`.
    pub end: u64,
}

impl Member {
    const SIZE: usize = 8 + 8 + 32;
}

/// Bounds on what a body may hold; part of the genesis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Transactions in a block.
    pub txs_max: u32,
    /// Bytes of one encoded transaction.
    pub tx_bytes_max: u32,
    /// Bytes of all encoded transactions of a block.
    pub body_bytes_max: u32,
}

impl Default for Limits {
    /// 1 MiB a block is what a 100 Mbit/s uplink sends three peers in a quarter of a second.
    fn default() -> Self {
        Self { txs_max: 8192, tx_bytes_max: 128 << 10, body_bytes_max: 1 << 20 }
    }
}

/// A block: immutable once made, cheap to ask for its digest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Block {
    header: Header,
    context: Context,
    txs: Vec<Bytes>,
    seed: Option<Seed>,
    members: [Member; 2],
    anchors: B256,
    digest: Digest,
}

/// What a proposer knows when it seals a block; the rest of the header follows from it.
#[derive(Clone, Debug)]
pub struct Draft {
    pub context: Context,
    pub number: u64,
    /// Milliseconds since 1970, not before the parent's.
    pub time_ms: u64,
    pub beneficiary: Address,
    pub state_root: B256,
    pub receipts_root: B256,
    pub logs_bloom: Bloom,
    pub gas_limit: u64,
    pub gas_used: u64,
    pub base_fee: u64,
    /// Seed of the parent's round; `None` in block 1 only.
    pub seed: Option<Seed>,
    /// `keccak(seed)`, or keccak of the genesis hash in block 1.
    pub mix_hash: B256,
    /// EIP-2718 bytes, in order.
    pub txs: Vec<Bytes>,
    /// State first, code second.
    pub members: [Member; 2],
    /// RFC 6962 root of the leaves anchored in this block.
    pub anchors: B256,
}

impl Draft {
    /// Seals the draft into a block.
    pub fn seal(self) -> Block {
        let header = Header {
            parent_hash: B256::from(self.context.parent.1.0),
            ommers_hash: EMPTY_OMMER_ROOT_HASH,
            beneficiary: self.beneficiary,
            state_root: self.state_root,
            transactions_root: ordered_trie_root_encoded(&self.txs),
            receipts_root: self.receipts_root,
            logs_bloom: self.logs_bloom,
            number: self.number,
            gas_limit: self.gas_limit,
            gas_used: self.gas_used,
            timestamp: self.time_ms / 1000,
            extra_data: Bytes::copy_from_slice(&self.time_ms.to_be_bytes()),
            mix_hash: self.mix_hash,
            base_fee_per_gas: Some(self.base_fee),
            parent_beacon_block_root: Some(commitment(&self.context, &self.members, self.anchors)),
            ..blank()
        };
        Block::assemble(header, self.context, self.txs, self.seed, self.members, self.anchors)
    }
}

impl Block {
    /// The block all validators start from: height 0, no transactions, the databases' initial ranges.
    ///
    /// `members` come from the databases' own initial targets. Allocations run in block 1.
    pub fn genesis(genesis: &Genesis, members: [Member; 2]) -> Self {
        let context = Context {
            round: Round::new(Epoch::zero(), View::zero()),
            leader: genesis.validators[0].key.clone(),
            parent: (View::zero(), Digest::EMPTY),
        };
        let anchors = hodei_types::merkle::empty();
        let header = Header {
            parent_hash: B256::ZERO,
            ommers_hash: EMPTY_OMMER_ROOT_HASH,
            state_root: state_root(members[0].ops_root, members[1].ops_root),
            transactions_root: calculate_transaction_root::<alloy_consensus::TxEnvelope>(&[]),
            receipts_root: alloy_consensus::constants::EMPTY_RECEIPTS,
            gas_limit: genesis.fees.gas_limit,
            timestamp: genesis.timestamp,
            extra_data: Bytes::copy_from_slice(genesis.hash().as_slice()),
            base_fee_per_gas: Some(genesis.fees.base_fee),
            parent_beacon_block_root: Some(commitment(&context, &members, anchors)),
            ..blank()
        };
        Self::assemble(header, context, Vec::new(), None, members, anchors)
    }

    fn assemble(
        header: Header,
        context: Context,
        txs: Vec<Bytes>,
        seed: Option<Seed>,
        members: [Member; 2],
        anchors: B256,
    ) -> Self {
        let digest = Digest::from(header.hash_slow().0);
        Self { header, context, txs, seed, members, anchors, digest }
    }

    pub fn header(&self) -> &Header {
        &self.header
    }
    pub fn context(&self) -> &Context {
        &self.context
    }
    /// EIP-2718 bytes, in order.
    pub fn txs(&self) -> &[Bytes] {
        &self.txs
    }
    /// Seed of the parent's round; `None` up to block 1.
    pub fn seed(&self) -> Option<&Seed> {
        self.seed.as_ref()
    }
    /// What the databases must hold after this block: state, code.
    pub fn members(&self) -> &[Member; 2] {
        &self.members
    }
    /// RFC 6962 root of the leaves anchored in this block.
    pub fn anchor_root(&self) -> B256 {
        self.anchors
    }
    pub fn hash(&self) -> B256 {
        B256::from(self.digest.0)
    }
    pub fn number(&self) -> u64 {
        self.header.number
    }
    /// Milliseconds since 1970.
    pub fn time_ms(&self) -> u64 {
        time_ms(&self.header)
    }
    /// What hashes, followed by the 32-byte anchor root, to the header's `parent_beacon_block_root`.
    pub fn anchor_preimage(&self) -> Vec<u8> {
        preimage(&self.context, &self.members)
    }
}

/// Milliseconds since 1970 that a header states; the genesis, whose `extra_data` is a hash, states seconds.
pub fn time_ms(header: &Header) -> u64 {
    match <[u8; 8]>::try_from(header.extra_data.as_ref()) {
        Ok(bytes) => u64::from_be_bytes(bytes),
        Err(_) => header.timestamp.saturating_mul(1000),
    }
}

/// The state root a header carries: one hash over the canonical state root and the code root.
pub fn state_root(state: B256, code: B256) -> B256 {
    keccak256([state.as_slice(), code.as_slice()].concat())
}

/// The fields that never vary, so that a header is an ordinary one of Ethereum after Prague.
fn blank() -> Header {
    Header {
        ommers_hash: EMPTY_OMMER_ROOT_HASH,
        difficulty: U256::ZERO,
        nonce: B64::ZERO,
        withdrawals_root: Some(EMPTY_WITHDRAWALS),
        blob_gas_used: Some(0),
        excess_blob_gas: Some(0),
        requests_hash: Some(EMPTY_REQUESTS_HASH),
        ..Header::default()
    }
}

fn preimage(context: &Context, members: &[Member; 2]) -> Vec<u8> {
    let mut out = Vec::with_capacity(context.encode_size() + 2 * Member::SIZE);
    context.write(&mut out);
    for member in members {
        out.extend_from_slice(&member.start.to_be_bytes());
        out.extend_from_slice(&member.end.to_be_bytes());
    }
    for member in members {
        out.extend_from_slice(member.ops_root.as_slice());
    }
    out
}

fn commitment(context: &Context, members: &[Member; 2], anchors: B256) -> B256 {
    let mut bytes = preimage(context, members);
    bytes.extend_from_slice(anchors.as_slice());
    keccak256(bytes)
}

impl Digestible for Block {
    type Digest = Digest;
    fn digest(&self) -> Digest {
        self.digest
    }
}

impl Heightable for Block {
    fn height(&self) -> Height {
        Height::new(self.header.number)
    }
}

impl ConsensusBlock for Block {
    fn parent(&self) -> Digest {
        Digest::from(self.header.parent_hash.0)
    }
}

impl CertifiableBlock for Block {
    type Context = Context;
    fn context(&self) -> Context {
        self.context.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use commonware_codec::{Copying, Decode as _, DecodeExt as _, Encode as _};
    use commonware_consensus::BoundedBlock as _;
    use commonware_cryptography::Signer as _;

    fn draft() -> Draft {
        let member = |n: u8| Member { ops_root: B256::repeat_byte(n), start: 3, end: 9 };
        let seed = Seed([7; SEED_BYTES]);
        Draft {
            context: Context {
                round: Round::new(Epoch::zero(), View::new(300)),
                leader: ed25519::PrivateKey::from_seed(1).public_key(),
                parent: (View::new(299), Digest::from([5; 32])),
            },
            number: 77,
            time_ms: 1_700_000_000_123,
            beneficiary: Address::repeat_byte(1),
            state_root: B256::repeat_byte(2),
            receipts_root: B256::repeat_byte(3),
            logs_bloom: Bloom::ZERO,
            gas_limit: 30_000_000,
            gas_used: 21_000,
            base_fee: 7,
            seed: Some(seed),
            mix_hash: seed.mix(),
            txs: vec![Bytes::from_static(b"\x02one"), Bytes::from_static(b"\x02two")],
            members: [member(8), member(9)],
            anchors: B256::repeat_byte(10),
        }
    }

    #[test]
    fn returns_from_its_encoding_with_the_same_digest() {
        let block = draft().seal();
        let bytes = block.encode();
        let back = Block::decode_cfg(bytes, &Limits::default()).unwrap();
        assert_eq!(back, block);
        assert_eq!(back.time_ms(), 1_700_000_000_123);
        assert!(block.encode().len() <= Block::max_encode_size(&Limits::default()));
    }

    /// Every byte of an encoding is bound by the digest or refused: no flip decodes to the same name.
    #[test]
    fn no_flipped_byte_keeps_the_digest() {
        let block = draft().seal();
        let bytes = block.encode().to_vec();
        for position in 0..bytes.len() {
            let mut bad = bytes.clone();
            bad[position] ^= 0x40;
            if let Ok(other) = Block::decode_cfg(Copying(&bad), &Limits::default()) {
                assert_ne!(other.digest(), block.digest(), "byte {position}");
            }
        }
    }

    #[test]
    fn refuses_bodies_above_the_limits() {
        let bytes = draft().seal().encode();
        for limits in [
            Limits { txs_max: 1, ..Limits::default() },
            Limits { tx_bytes_max: 3, ..Limits::default() },
            Limits { body_bytes_max: 7, ..Limits::default() },
        ] {
            assert!(Block::decode_cfg(bytes.clone(), &limits).is_err(), "{limits:?}");
        }
    }

    #[test]
    fn anchors_hash_to_the_header() {
        let block = draft().seal();
        let mut bytes = block.anchor_preimage();
        bytes.extend_from_slice(block.anchor_root().as_slice());
        assert_eq!(block.header().parent_beacon_block_root, Some(keccak256(bytes)));
        assert!(Context::decode(Copying(&block.anchor_preimage()[..block.context.encode_size()])).is_ok());
    }
}
