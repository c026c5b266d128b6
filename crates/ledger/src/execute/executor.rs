//! Take a block's transactions one by one.

use alloy_consensus::{Eip658Value, Receipt, ReceiptEnvelope, ReceiptWithBloom, Transaction as _, TxEnvelope, TxType};
use alloy_evm::{EvmEnv, FromRecoveredTx as _, eth::EthEvmBuilder};
use alloy_primitives::{Address, B256, Bloom, Bytes, Log, TxKind, U256, keccak256};
use alloy_sol_types::SolCall as _;
use hodei_types::{
    abi::{IQueue, MODULES, QUEUE, SYSTEM},
    ethereum::GAS_PER_TX_MAX,
};
use revm::{
    context::{CfgEnv, TxEnv},
    context_interface::result::{EVMError, ExecutionResult, InvalidTransaction},
    primitives::AddressMap,
    state::Account as EvmAccount,
};
use std::collections::BTreeMap;

use super::{
    env::{Env, Params},
    key::{Account, Key, account_key},
    moves::{Ran, Telling},
    state::{Need, Reads, State, Undo, View},
};
use crate::modules;

/// A transaction whose signature was recovered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signed {
    pub envelope: TxEnvelope,
    pub sender: Address,
    pub hash: B256,
}

/// Why a transaction may not stand in this block.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Invalid {
    #[error("transaction type not supported")]
    Kind,
    #[error("transactions without a chain id are not accepted")]
    ChainId,
    /// Fits no more here; perhaps the next block.
    #[error("block gas limit reached")]
    BlockFull,
    #[error("exceeds block gas limit")]
    GasLimit,
    #[error("nonce too low")]
    NonceTooLow,
    #[error("nonce too high")]
    NonceTooHigh,
    #[error("insufficient funds for gas * price + value")]
    Funds,
    #[error("max fee per gas less than block base fee")]
    FeeTooLow,
    /// Only the ledger itself signs with nothing, and only at body index 0.
    #[error("system transaction out of place")]
    System,
    #[error("{0}")]
    Other(String),
}

/// Why a step was not taken; the executor is as before.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Fault {
    /// Load these into [`Executor::view`] and call again.
    #[error("{} values not loaded", .0.len())]
    Missing(Vec<Need>),
    #[error(transparent)]
    Invalid(#[from] Invalid),
    /// The state contradicts itself: no block on it can be right.
    #[error("state is broken: {0}")]
    Broken(String),
}

/// What one transaction did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Applied {
    pub success: bool,
    pub gas_used: u64,
    /// Return data, revert data, or nothing.
    pub output: Bytes,
    /// Address of what it created.
    pub contract: Option<Address>,
    pub logs: Vec<Log>,
}

/// What a block did.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// Changed values of the state; `None` deletes.
    pub writes: BTreeMap<Key, Option<Vec<u8>>>,
    /// What they replaced.
    pub undo: Undo,
    /// New code by its keccak, sorted; some may have been stored before.
    pub codes: Vec<(B256, Bytes)>,
    pub receipts: Vec<ReceiptEnvelope>,
    pub gas_used: u64,
    pub bloom: Bloom,
    /// Leaf data of the block's anchor tree, tagged, in order.
    pub anchors: Vec<Bytes>,
}

/// One block's execution.
#[derive(Clone, Debug)]
pub struct Executor {
    pub(super) params: Params,
    pub(super) env: Env,
    state: State,
    receipts: Vec<ReceiptEnvelope>,
    gas_used: u64,
}

/// Takes transactions one after the other with one EVM: to make it costs more than a transfer. It is not `Send`
/// and is dropped before anybody waits for values.
pub struct Run<'a> {
    evm: Telling<'a>,
    params: Params,
    gas_limit: u64,
    receipts: &'a mut Vec<ReceiptEnvelope>,
    gas_used: &'a mut u64,
}

impl Executor {
    pub fn new(params: Params, env: Env, view: View) -> Self {
        Self { params, env, state: State::new(view), receipts: Vec::new(), gas_used: 0 }
    }

    /// What was loaded; load more into it after [`Fault::Missing`].
    pub fn view(&mut self) -> &mut View {
        &mut self.state.view
    }

    /// Gas of the transactions so far.
    pub fn gas_used(&self) -> u64 {
        self.gas_used
    }

    /// Creates the module accounts and the first coins; in block 1, before [`Self::begin`].
    pub fn genesis(&mut self, allocations: &[(Address, U256)]) -> Result<(), Fault> {
        let mut changes = Vec::new();
        let mut reads = Reads::new(&mut self.state);
        for address in MODULES {
            let mut account = reads.account(address).map_err(|e| Fault::Broken(e.to_string()))?.unwrap_or_default();
            (account.nonce, account.code_hash) = (1, keccak256(modules::CODE));
            changes.push((address, account));
        }
        for (address, amount) in allocations {
            let mut account: Account =
                reads.account(*address).map_err(|e| Fault::Broken(e.to_string()))?.unwrap_or_default();
            account.balance = account.balance.checked_add(*amount).ok_or_else(|| Fault::Broken("supply".into()))?;
            changes.push((*address, account));
        }
        if !reads.missing.is_empty() {
            return Err(Fault::Missing(reads.missing.into_iter().collect()));
        }
        for (address, account) in changes {
            self.state.put_account(address, &account);
        }
        self.state.put_code(keccak256(modules::CODE), Bytes::from_static(&modules::CODE));
        Ok(())
    }

    /// Opens the block: advances the active clock, remembers the parent's hash, opens a window when due. True
    /// if work is due: body index 0 must then be the system transaction, else there must be none.
    pub fn begin(&mut self) -> Result<bool, Fault> {
        let elapsed = self.env.time_ms.saturating_sub(self.env.parent_time_ms);
        let call = modules::queue::beginCall { elapsedMs: elapsed, parentHash: self.env.parent_hash };
        let (result, changes) = self.start().call_system(call.abi_encode())?;
        let due = modules::queue::beginCall::abi_decode_returns(result.output().map_or(&[], |o| o.as_ref()))
            .map_err(|e| Fault::Broken(format!("begin: {e}")))?;
        self.state.commit(changes);
        Ok(due)
    }

    /// Runs the system transaction, body index 0.
    pub fn system(&mut self) -> Result<Applied, Fault> {
        if !self.receipts.is_empty() {
            return Err(Invalid::System.into());
        }
        let mut run = self.start();
        let (result, changes) = run.call_system(IQueue::runCall {}.abi_encode())?;
        run.commit(changes);
        Ok(run.record(TxType::Legacy, None, result, 0))
    }

    /// Runs one transaction; all of it happens, or nothing.
    pub fn apply(&mut self, tx: &Signed) -> Result<Applied, Fault> {
        self.start().apply(tx)
    }

    /// Begins to run transactions; after [`Fault::Missing`], load and begin again.
    pub fn start(&mut self) -> Run<'_> {
        let env = self.env;
        self.start_in(&env, |_| ())
    }

    pub(super) fn start_in(&mut self, env: &Env, adjust: impl FnOnce(&mut CfgEnv)) -> Run<'_> {
        let mut cfg = self.params.cfg();
        adjust(&mut cfg);
        let evm = EthEvmBuilder::new(Reads::new(&mut self.state), EvmEnv::new(cfg, env.block()))
            .precompiles(modules::precompiles(self.params))
            .build();
        let (receipts, gas_used) = (&mut self.receipts, &mut self.gas_used);
        Run { evm: Telling::new(evm), params: self.params, gas_limit: env.gas_limit, receipts, gas_used }
    }

    /// Closes the block.
    pub fn finish(self) -> Outcome {
        let bloom = self.receipts.iter().fold(Bloom::ZERO, |all, receipt| all | *receipt.logs_bloom());
        let anchors = modules::anchors::leaves(self.receipts.iter().flat_map(|receipt| receipt.logs()));
        let (writes, undo, codes) = self.state.into_writes();
        Outcome { writes, undo, codes, receipts: self.receipts, gas_used: self.gas_used, bloom, anchors }
    }
}

impl Run<'_> {
    /// Runs one transaction; all of it happens, or nothing.
    pub fn apply(&mut self, tx: &Signed) -> Result<Applied, Fault> {
        let env = tx_env(tx, self.params.chain_id)?;
        if tx.envelope.gas_limit() > self.gas_limit {
            return Err(Invalid::GasLimit.into());
        }
        if self.gas_used.saturating_add(tx.envelope.gas_limit()) > self.gas_limit {
            return Err(Invalid::BlockFull.into());
        }
        let contract = matches!(env.kind, TxKind::Create).then(|| tx.sender.create(env.nonce));
        let (result, changes) = self.transact(env)?;
        self.commit(changes);
        let gas_used = result.tx_gas_used();
        Ok(self.record(tx.envelope.tx_type(), contract, result, gas_used))
    }

    pub(super) fn transact(&mut self, env: TxEnv) -> Result<(ExecutionResult, AddressMap<EvmAccount>), Fault> {
        let ran = self.evm.transact(env);
        self.conclude(ran)
    }

    /// Calls `queue` as the system: no gas, no fee, no nonce. A call that does not succeed breaks the block.
    fn call_system(&mut self, data: Vec<u8>) -> Result<(ExecutionResult, AddressMap<EvmAccount>), Fault> {
        let ran = self.evm.system_call(SYSTEM, QUEUE, data.into());
        let (result, changes) = self.conclude(ran)?;
        if !result.is_success() {
            return Err(Fault::Broken(format!("system call failed: {result:?}")));
        }
        Ok((result, changes))
    }

    fn commit(&mut self, changes: AddressMap<EvmAccount>) {
        self.evm.reads().state.commit(changes);
    }

    fn record(&mut self, kind: TxType, contract: Option<Address>, result: ExecutionResult, gas_used: u64) -> Applied {
        let success = result.is_success();
        let output = result.output().cloned().unwrap_or_default();
        // A reverted transaction has no logs, whatever the frames inside it said.
        let logs = if success { result.into_logs() } else { Vec::new() };
        *self.gas_used += gas_used;
        let receipt =
            Receipt { status: Eip658Value::Eip658(success), cumulative_gas_used: *self.gas_used, logs: logs.clone() };
        self.receipts.push(ReceiptEnvelope::from_typed(kind, ReceiptWithBloom::from(receipt)));
        let output = if success && contract.is_some() { Bytes::new() } else { output };
        Applied { success, gas_used, output, contract: contract.filter(|_| success), logs }
    }

    /// Reads what a run missed, and tells a wrong transaction from a broken state.
    fn conclude(&mut self, ran: Ran) -> Result<(ExecutionResult, AddressMap<EvmAccount>), Fault> {
        let missing = std::mem::take(&mut self.evm.reads().missing);
        if ran.is_err() || !missing.is_empty() {
            // What a failed run loaded must not be taken for what the next one finds.
            self.evm.forget();
        }
        if !missing.is_empty() {
            return Err(Fault::Missing(missing.into_iter().collect()));
        }
        match ran {
            Ok(ran) => Ok((ran.result, ran.state)),
            Err(EVMError::Transaction(reason)) => Err(Fault::Invalid(match reason {
                InvalidTransaction::NonceTooLow { .. } => Invalid::NonceTooLow,
                InvalidTransaction::NonceTooHigh { .. } => Invalid::NonceTooHigh,
                InvalidTransaction::LackOfFundForMaxFee { .. } => Invalid::Funds,
                InvalidTransaction::GasPriceLessThanBasefee => Invalid::FeeTooLow,
                InvalidTransaction::CallerGasLimitMoreThanBlock => Invalid::GasLimit,
                other => Invalid::Other(other.to_string()),
            })),
            Err(other) => Err(Fault::Broken(other.to_string())),
        }
    }
}

/// Whether transactions of this kind are executed: neither blobs nor delegations (EIP-4844, EIP-7702) are.
pub fn is_taken(kind: TxType) -> bool {
    matches!(kind, TxType::Legacy | TxType::Eip2930 | TxType::Eip1559)
}

fn tx_env(tx: &Signed, chain_id: u64) -> Result<TxEnv, Invalid> {
    let signature = tx.envelope.signature();
    if tx.sender == SYSTEM || (signature.r().is_zero() && signature.s().is_zero()) {
        return Err(Invalid::System);
    }
    if tx.envelope.chain_id() != Some(chain_id) {
        return Err(Invalid::ChainId);
    }
    if tx.envelope.gas_limit() > GAS_PER_TX_MAX {
        return Err(Invalid::GasLimit);
    }
    match &tx.envelope {
        TxEnvelope::Legacy(inner) => Ok(TxEnv::from_recovered_tx(inner, tx.sender)),
        TxEnvelope::Eip2930(inner) => Ok(TxEnv::from_recovered_tx(inner, tx.sender)),
        TxEnvelope::Eip1559(inner) => Ok(TxEnv::from_recovered_tx(inner, tx.sender)),
        TxEnvelope::Eip4844(_) | TxEnvelope::Eip7702(_) => Err(Invalid::Kind),
    }
}

/// What `tx` will read for certain, to be loaded before the first try.
pub fn hints(tx: &Signed, beneficiary: Address) -> Vec<Need> {
    let mut needs = vec![Need::Key(account_key(tx.sender)), Need::Key(account_key(beneficiary))];
    if let Some(to) = tx.envelope.to() {
        needs.push(Need::Key(account_key(to)));
    }
    if let Some(list) = tx.envelope.access_list() {
        for item in list.iter() {
            needs.push(Need::Key(account_key(item.address)));
            for slot in &item.storage_keys {
                needs.push(Need::Key(super::slot_key(item.address, U256::from_be_bytes(slot.0))));
            }
        }
    }
    needs
}
