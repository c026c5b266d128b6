//! Read the ledger and submit to it.
//!
//! `ledger::client` implements [`Chain`] over any transport with every answer checked against finality
//! certificates where a proof exists; `sim` implements it in process; validators answer it from their own
//! read model. Everything a plane wants of the ledger goes through here.

use alloy_primitives::{Address, B256, Bytes, U256};
use futures::future::BoxFuture;

/// The finalized head as a client sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    pub height: u64,
    pub hash: B256,
    /// Milliseconds since 1970, from the header.
    pub time_ms: u64,
    pub base_fee: u64,
    pub chain_id: u64,
    pub genesis: B256,
}

/// An account as of the finalized head; `pending_nonce` also counts what waits in the mempool.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Account {
    pub balance: U256,
    pub nonce: u64,
    pub pending_nonce: u64,
}

/// A log in a finalized block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Log {
    pub address: Address,
    pub topics: Vec<B256>,
    pub data: Bytes,
    pub height: u64,
    pub tx: B256,
    /// Index within the block.
    pub index: u32,
}

/// What became of a transaction; Ethereum's receipt, not hodei's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TxReceipt {
    pub tx: B256,
    pub height: u64,
    pub success: bool,
    pub gas_used: u64,
    pub logs: Vec<Log>,
    /// Output of a reverted call, for its typed error.
    pub output: Bytes,
}

/// Logs in one answer.
pub const LOGS_MAX: usize = 10_000;
/// Blocks one question about logs may cover.
pub const LOG_BLOCKS_MAX: u64 = 100_000;

/// Which logs: all conditions must hold; empty means any.
#[derive(Clone, Debug, Default)]
pub struct LogFilter {
    pub from: u64,
    pub to: u64,
    pub address: Option<Address>,
    pub topic0: Option<B256>,
    pub topic1: Option<B256>,
    pub topic2: Option<B256>,
}

/// Fees in one answer.
pub const FEES_MAX: usize = 10_000;

/// What a transaction cost the account that signed it, besides what it moved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fee {
    pub height: u64,
    pub tx: B256,
    pub nonce: u64,
    /// Wei: gas used, at the base fee and the tip that were paid. A transaction that reverted pays it too.
    pub fee: U256,
}

/// What ties an anchored leaf to the network key: see `types::receipt`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AnchorProof {
    /// Position of the leaf in the block's anchor tree, the tree's size, and the RFC 6962 path.
    pub index: u64,
    pub size: u64,
    pub path: Vec<B256>,
    /// Preimage of `parent_beacon_block_root` without its trailing anchor root.
    pub preimage: Bytes,
    /// RLP of the headers from the anchoring block to the first one with a certificate.
    pub headers: Vec<Bytes>,
    /// That certificate's encoding (simplex finalization).
    pub finalization: Bytes,
}

/// Headers from the one asked for to the first with a finalization of its own, and that finalization.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate {
    /// RLP, each the parent of the next; 1 to 64.
    pub headers: Vec<Bytes>,
    pub finalization: Bytes,
}

/// A finalized block as it is kept, and its own finalization if it has one: a descendant's covers the others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    pub block: Bytes,
    pub finalization: Option<Bytes>,
}

/// Why the ledger did not do what was asked.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ChainError {
    /// The transaction was refused on arrival; geth's words, as clients match on them.
    #[error("{0}")]
    Refused(String),
    /// A call or transaction reverted with this ABI-encoded output.
    #[error("reverted: 0x{}", hex::encode(.0))]
    Reverted(Bytes),
    /// Nobody reachable answered in time: try again.
    #[error("no validator answered: {0}")]
    Unavailable(String),
    /// A peer answered with what its certificate does not support: a lie or a bug, named.
    #[error("ledger answer refused: {0}")]
    Invalid(String),
}

/// The ledger's door for everybody.
pub trait Chain: Send + Sync + 'static {
    fn head(&self) -> BoxFuture<'_, Result<Head, ChainError>>;
    /// Resolves with the head once it is above `height`.
    fn wait(&self, height: u64) -> BoxFuture<'_, Result<Head, ChainError>>;
    /// What proves the block at `height` final to whoever knows the network key.
    fn certificate(&self, height: u64) -> BoxFuture<'_, Result<Certificate, ChainError>>;
    /// The block at `height` with its body, for an export; what it holds is proven by the certificates in it.
    fn kept(&self, height: u64) -> BoxFuture<'_, Result<Kept, ChainError>> {
        let refused = ChainError::Refused(format!("block {height} is not kept here"));
        Box::pin(std::future::ready(Err(refused)))
    }
    fn account(&self, address: Address) -> BoxFuture<'_, Result<Account, ChainError>>;
    /// Submits a signed EIP-2718 transaction; returns its hash once a mempool holds it.
    fn submit(&self, raw: Bytes) -> BoxFuture<'_, Result<B256, ChainError>>;
    /// `None` while not finalized.
    fn receipt(&self, tx: B256) -> BoxFuture<'_, Result<Option<TxReceipt>, ChainError>>;
    /// Executes without a transaction on the finalized head.
    fn call(&self, from: Address, to: Address, data: Bytes) -> BoxFuture<'_, Result<Bytes, ChainError>>;
    /// At most 10,000 logs over at most 100,000 blocks.
    fn logs(&self, filter: LogFilter) -> BoxFuture<'_, Result<Vec<Log>, ChainError>>;
    /// What an account's own transactions in the blocks `from` to `to` cost, in order: at most 10,000 over at most
    /// 100,000 blocks.
    fn fees(&self, account: Address, from: u64, to: u64) -> BoxFuture<'_, Result<Vec<Fee>, ChainError>> {
        let refused = ChainError::Refused(format!("fees of {account} in blocks {from} to {to} are not kept here"));
        Box::pin(std::future::ready(Err(refused)))
    }
    /// The RFC 6962 path and certificate of leaf `index` anchored in block `height`.
    fn anchor(&self, height: u64, leaf: Bytes) -> BoxFuture<'_, Result<AnchorProof, ChainError>>;
}
