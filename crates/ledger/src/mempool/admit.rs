//! Refuse what can never be executed, in the words wallets match on.
//!
//! The texts are geth's, because viem, ethers and web3.py turn them into their own errors.

use alloy_consensus::{Transaction as _, TxEnvelope, TxType, transaction::SignerRecoverable as _};
use alloy_eips::{Decodable2718 as _, Encodable2718 as _};
use alloy_primitives::{Address, B256, U256, keccak256};
use revm::{context_interface::cfg::gas::calculate_initial_tx_gas, primitives::hardfork::SpecId};

use crate::execute::{Account, GAS_PER_TX_MAX, Signed, is_system, is_taken};

/// EIP-3860: creation code of one contract.
const INITCODE_BYTES_MAX: usize = 49_152;

/// Why a transaction is not taken into the pool.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    #[error("typed transaction too short")]
    Empty,
    #[error("rlp: not a transaction in its canonical encoding")]
    Encoding,
    #[error("oversized data: transaction size {size}, limit {limit}")]
    Size { size: usize, limit: usize },
    #[error("transaction type not supported")]
    Kind,
    #[error("invalid sender: signature does not recover to an account")]
    Signature,
    #[error("only replay-protected (EIP-155) transactions allowed over RPC")]
    Unprotected,
    #[error("invalid chain id for signer: have {have} want {want}")]
    ChainId { have: u64, want: u64 },
    #[error("max priority fee per gas higher than max fee per gas: maxPriorityFeePerGas: {tip}, maxFeePerGas: {cap}")]
    TipAboveCap { tip: u128, cap: u128 },
    #[error("transaction underpriced: gas fee cap {cap}, minimum needed {floor}")]
    Underpriced { cap: u128, floor: u64 },
    #[error("transaction gas limit too high (cap: {cap}, tx: {gas})")]
    GasCap { cap: u64, gas: u64 },
    #[error("exceeds block gas limit")]
    BlockGas,
    #[error("intrinsic gas too low: gas {gas}, minimum needed {needed}")]
    IntrinsicGas { gas: u64, needed: u64 },
    #[error("max initcode size exceeded: code size {size}, limit {INITCODE_BYTES_MAX}")]
    Initcode { size: usize },
    #[error("nonce too low: next nonce {next}, tx nonce {nonce}")]
    NonceTooLow { next: u64, nonce: u64 },
    #[error("nonce too high: next nonce {next}, tx nonce {nonce}")]
    NonceTooHigh { next: u64, nonce: u64 },
    #[error("insufficient funds for gas * price + value: balance {balance}, tx cost {cost}")]
    Funds { balance: U256, cost: U256 },
    #[error("already known")]
    Known,
    #[error("replacement transaction underpriced")]
    Replacement,
    #[error("account limit exceeded")]
    AccountLimit,
    #[error("txpool is full")]
    Full,
    #[error("the node has no state yet: try again")]
    Starting,
}

/// What the pool demands of every transaction, whatever the state.
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    pub chain_id: u64,
    pub block_gas: u64,
    /// Below this the base fee never falls, so no block would ever take it.
    pub fee_floor: u64,
    /// Bytes of one encoded transaction.
    pub tx_bytes_max: usize,
}

/// Decodes and recovers one EIP-2718 transaction; the only place where a signature is checked.
pub fn recover(raw: &[u8]) -> Result<Signed, Refused> {
    if raw.is_empty() {
        return Err(Refused::Empty);
    }
    // Blobs may come with what no decoder here reads, so the kind is looked at before.
    if TxType::try_from(raw[0]).is_ok_and(|kind| !is_taken(kind)) {
        return Err(Refused::Kind);
    }
    let envelope = TxEnvelope::decode_2718_exact(raw).map_err(|_| Refused::Encoding)?;
    // A second spelling of the same transaction would get a second hash.
    if envelope.encode_2718_len() != raw.len() || envelope.encoded_2718() != raw {
        return Err(Refused::Encoding);
    }
    if is_system(&envelope) {
        return Err(Refused::Signature);
    }
    let sender = envelope.recover_signer().map_err(|_| Refused::Signature)?;
    Ok(Signed { hash: keccak256(raw), envelope, sender })
}

/// Checks everything that needs no state.
pub(super) fn check(tx: &Signed, rules: &Rules) -> Result<(), Refused> {
    let envelope = &tx.envelope;
    let size = envelope.encode_2718_len();
    if size > rules.tx_bytes_max {
        return Err(Refused::Size { size, limit: rules.tx_bytes_max });
    }
    if !is_taken(envelope.tx_type()) {
        return Err(Refused::Kind);
    }
    match envelope.chain_id() {
        None => return Err(Refused::Unprotected),
        Some(have) if have != rules.chain_id => return Err(Refused::ChainId { have, want: rules.chain_id }),
        Some(_) => {}
    }
    let (tip, cap) = (tip(envelope), envelope.max_fee_per_gas());
    if tip > cap {
        return Err(Refused::TipAboveCap { tip, cap });
    }
    if cap < u128::from(rules.fee_floor) {
        return Err(Refused::Underpriced { cap, floor: rules.fee_floor });
    }
    let gas = envelope.gas_limit();
    if gas > GAS_PER_TX_MAX {
        return Err(Refused::GasCap { cap: GAS_PER_TX_MAX, gas });
    }
    if gas > rules.block_gas {
        return Err(Refused::BlockGas);
    }
    if envelope.is_create() && envelope.input().len() > INITCODE_BYTES_MAX {
        return Err(Refused::Initcode { size: envelope.input().len() });
    }
    let needed = intrinsic_gas(envelope);
    if gas < needed {
        return Err(Refused::IntrinsicGas { gas, needed });
    }
    Ok(())
}

/// Checks a transaction against its sender's finalized account.
pub(super) fn afford(tx: &Signed, account: &Account, ahead_max: u64) -> Result<(), Refused> {
    let (nonce, next) = (tx.envelope.nonce(), account.nonce);
    if nonce < next {
        return Err(Refused::NonceTooLow { next, nonce });
    }
    if nonce - next >= ahead_max || nonce == u64::MAX {
        return Err(Refused::NonceTooHigh { next, nonce });
    }
    let cost = cost(&tx.envelope);
    if cost > account.balance {
        return Err(Refused::Funds { balance: account.balance, cost });
    }
    Ok(())
}

/// The most a transaction can take from its sender, in wei; saturates.
pub(super) fn cost(tx: &TxEnvelope) -> U256 {
    U256::from(tx.max_fee_per_gas()).saturating_mul(U256::from(tx.gas_limit())).saturating_add(tx.value())
}

/// What the leader may get of each unit of gas, before the base fee is known.
pub(super) fn tip(tx: &TxEnvelope) -> u128 {
    tx.max_priority_fee_per_gas().unwrap_or_else(|| tx.max_fee_per_gas())
}

/// What the leader gets of each unit of gas at `base_fee`; `None` if the transaction cannot be in that block.
pub(super) fn tip_at(tx: &TxEnvelope, base_fee: u64) -> Option<u128> {
    let room = tx.max_fee_per_gas().checked_sub(u128::from(base_fee))?;
    Some(room.min(tip(tx)))
}

fn intrinsic_gas(tx: &TxEnvelope) -> u64 {
    let (accounts, slots) = tx
        .access_list()
        .map_or((0, 0), |list| (list.len() as u64, list.iter().map(|item| item.storage_keys.len() as u64).sum()));
    let gas = calculate_initial_tx_gas(SpecId::OSAKA, tx.input(), tx.is_create(), accounts, slots, 0, None);
    (gas.initial_regular_gas + gas.initial_state_gas).max(gas.floor_gas)
}

/// A pooled transaction's identity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    pub(crate) sender: Address,
    pub(crate) nonce: u64,
}

impl Place {
    pub(crate) fn of(tx: &Signed) -> Self {
        Self { sender: tx.sender, nonce: tx.envelope.nonce() }
    }
}

/// keccak-256 of the encoding: a transaction's name.
pub(super) fn hash(raw: &[u8]) -> B256 {
    keccak256(raw)
}
