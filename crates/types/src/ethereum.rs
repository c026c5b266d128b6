//! Read the ledger as Ethereum's wallets and explorers do.
//!
//! [`Chain`] is what the planes need; this door adds whole blocks with what became of each transaction,
//! calls with value and gas, code, slots and what waits. Answers are of finalized blocks: there is no other
//! state. Only the newest states are kept: what is asked of an older block is refused, never answered with another.

use crate::chain::{Chain, ChainError};
use alloy_consensus::Header;
use alloy_primitives::{Address, B256, Bytes, Log, U256};
use futures::future::BoxFuture;
use std::sync::Arc;

/// What one transaction may use since Osaka (EIP-7825).
pub const GAS_PER_TX_MAX: u64 = 1 << 24;
/// Gas of a plain transfer.
pub const TRANSFER_GAS: u64 = 21_000;

/// Which block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum At {
    Latest,
    Height(u64),
    Hash(B256),
}

/// A finalized block with what each transaction did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    pub header: Header,
    pub hash: B256,
    /// Bytes of the block on the wire.
    pub size: u64,
    pub txs: Vec<Executed>,
}

/// One transaction of a block, and its effects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Executed {
    /// EIP-2718 encoding, and its keccak.
    pub raw: Bytes,
    pub hash: B256,
    /// Not always the signer: the ledger's own transaction has no signature.
    pub sender: Address,
    pub success: bool,
    /// Gas of this block up to and with this transaction.
    pub cumulative_gas: u64,
    pub logs: Vec<Log>,
    /// Return or revert data.
    pub output: Bytes,
}

/// A call that changes nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Call {
    pub from: Address,
    /// `None` creates a contract.
    pub to: Option<Address>,
    pub value: U256,
    pub data: Bytes,
    /// At most [`GAS_PER_TX_MAX`], which is what 0 stands for.
    pub gas: u64,
}

/// What a call would have done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CallOutcome {
    pub success: bool,
    /// Why it halted, if it neither succeeded nor reverted: `output` is empty.
    pub halt: Option<String>,
    pub output: Bytes,
    /// After refunds: what a receipt would show.
    pub gas_used: u64,
    /// Before refunds: a limit below this fails.
    pub gas_peak: u64,
    pub logs: Vec<Log>,
}

/// A waiting transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Waiting {
    pub raw: Bytes,
    pub hash: B256,
    pub sender: Address,
}

/// That a key of the state has a value, or is absent, at a block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StateProof {
    pub height: u64,
    pub key: B256,
    pub value: Option<Bytes>,
    /// qmdb key-value proof if there is a value, else exclusion proof, in commonware's codec.
    pub proof: Bytes,
    /// `keccak(state ‖ code)` is the header's `state_root`; the proof is against `state`.
    pub state: B256,
    pub code: B256,
}

/// The door of wallets; implemented by whoever executes blocks.
pub trait Ethereum: Chain {
    /// `None` if unknown or no longer kept.
    fn block(&self, at: At) -> BoxFuture<'_, Result<Option<Arc<Record>>, ChainError>>;
    /// Height and index of a finalized transaction.
    fn locate(&self, tx: B256) -> BoxFuture<'_, Result<Option<(u64, usize)>, ChainError>>;
    /// A transaction of the mempool.
    fn waiting(&self, tx: B256) -> BoxFuture<'_, Result<Option<Waiting>, ChainError>>;
    /// Executes on the state after a block. A revert is an outcome, not an error. As in the four below, a state
    /// that is no longer kept is `Refused`.
    fn simulate(&self, call: Call, at: At) -> BoxFuture<'_, Result<CallOutcome, ChainError>>;
    fn balance(&self, address: Address, at: At) -> BoxFuture<'_, Result<U256, ChainError>>;
    fn nonce(&self, address: Address, at: At) -> BoxFuture<'_, Result<u64, ChainError>>;
    fn code(&self, address: Address, at: At) -> BoxFuture<'_, Result<Bytes, ChainError>>;
    fn slot(&self, address: Address, slot: U256, at: At) -> BoxFuture<'_, Result<U256, ChainError>>;
    /// Base fee of the block after the head.
    fn next_base_fee(&self) -> BoxFuture<'_, Result<u64, ChainError>>;
    /// Hashes that arrived in the mempool since `cursor`, as far as remembered, and the next cursor; 0 is the
    /// beginning.
    fn arrivals(&self, cursor: u64) -> BoxFuture<'_, Result<(u64, Vec<B256>), ChainError>>;
    /// Resolves once something arrived in the mempool since `cursor`.
    fn arrived(&self, cursor: u64) -> BoxFuture<'_, ()>;
    /// An account, or a slot of it, proven at the head.
    fn prove(&self, address: Address, slot: Option<U256>) -> BoxFuture<'_, Result<StateProof, ChainError>>;
}
