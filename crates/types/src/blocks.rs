//! Read whole blocks and try transactions: what wallets and explorers ask beyond [`Chain`].
//!
//! Validators and observers answer it from their read model; `gateway` translates it to Ethereum's JSON-RPC.
//! Everything here is about finalized blocks: there is no other kind to see.

use crate::chain::{Chain, ChainError};
use alloy_consensus::{Header, ReceiptEnvelope, TxEnvelope};
use alloy_primitives::{Address, B256, Bytes, U256};
use futures::{future::BoxFuture, stream::BoxStream};

/// A transaction with the sender its signature recovers to.
#[derive(Clone, Debug)]
pub struct Recovered {
    pub envelope: TxEnvelope,
    pub sender: Address,
    pub hash: B256,
}

/// A finalized block; `receipts[i]` belongs to `transactions[i]`.
#[derive(Clone, Debug)]
pub struct FullBlock {
    pub header: Header,
    pub hash: B256,
    /// Encoded length, as `size` of Ethereum's blocks.
    pub size: u64,
    pub transactions: Vec<Recovered>,
    /// Gas in them is cumulative, as in Ethereum.
    pub receipts: Vec<ReceiptEnvelope>,
}

/// Which block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BlockId {
    Latest,
    Height(u64),
    Hash(B256),
}

/// A transaction that is only tried, on the finalized head.
#[derive(Clone, Debug, Default)]
pub struct Trial {
    pub from: Address,
    /// `None` creates a contract.
    pub to: Option<Address>,
    pub value: U256,
    pub data: Bytes,
    /// `None` is the most a transaction may use.
    pub gas_limit: Option<u64>,
    /// Zero or absent: the call is not charged.
    pub gas_price: Option<u128>,
}

/// What a trial did.
#[derive(Clone, Debug)]
pub struct Tried {
    pub success: bool,
    pub gas_used: u64,
    /// Return value, or revert data.
    pub output: Bytes,
    /// Why it stopped, if it neither returned nor reverted: out of gas, bad opcode, ….
    pub halt: Option<String>,
}

/// A value of the authenticated state, with what proves it or its absence under the block's state root.
#[derive(Clone, Debug)]
pub struct StateProof {
    pub height: u64,
    pub key: B256,
    /// `None` is proven absent.
    pub value: Option<Bytes>,
    /// Encoding of the database's proof of the value, or of its absence.
    pub proof: Bytes,
    /// Root of the state database, and of the code database beside it: the header's state root is the keccak
    /// of both.
    pub state: B256,
    pub code: B256,
}

/// The explorer's door.
pub trait Blocks: Chain {
    /// `None` if unknown, or older than the history this node keeps.
    fn block(&self, id: BlockId) -> BoxFuture<'_, Result<Option<FullBlock>, ChainError>>;
    /// Height of the block that holds a finalized transaction, and its index there.
    fn position(&self, tx: B256) -> BoxFuture<'_, Result<Option<(u64, usize)>, ChainError>>;
    /// A transaction waiting in this node's mempool.
    fn pending(&self, tx: B256) -> BoxFuture<'_, Result<Option<Recovered>, ChainError>>;
    /// Hashes of transactions as they enter this node's mempool; slow readers miss some.
    fn arrivals(&self) -> BoxStream<'static, B256>;
    fn code(&self, address: Address) -> BoxFuture<'_, Result<Bytes, ChainError>>;
    fn storage(&self, address: Address, slot: B256) -> BoxFuture<'_, Result<B256, ChainError>>;
    fn try_out(&self, trial: Trial) -> BoxFuture<'_, Result<Tried, ChainError>>;
    /// Proof of an account (`slot` absent) or of a storage slot in the finalized head.
    fn prove(&self, address: Address, slot: Option<B256>) -> BoxFuture<'_, Result<StateProof, ChainError>>;
    /// Gas a block may hold, and one transaction.
    fn gas_limits(&self) -> (u64, u64);
}
