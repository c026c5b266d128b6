//! Execute without a transaction, for `eth_call` and `eth_estimateGas`.

use alloy_primitives::{Address, Bytes, Log, TxKind, U256};
use revm::context::TxEnv;

use super::{
    env::GAS_PER_TX_MAX,
    executor::{Executor, Fault},
};

/// What is asked; the nonce is not checked and gas costs nothing.
#[derive(Clone, Debug, Default)]
pub struct Call {
    pub from: Address,
    /// `None` creates a contract.
    pub to: Option<Address>,
    pub value: U256,
    pub data: Bytes,
    /// Clamped to the cap of one transaction; 0 means the cap.
    pub gas_limit: u64,
}

/// What would have happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CallOutcome {
    pub success: bool,
    /// A halt, not a revert: `output` is empty, this names why.
    pub halt: Option<String>,
    pub output: Bytes,
    /// After refunds: what a receipt would show.
    pub gas_used: u64,
    /// Before refunds: a limit below this fails.
    pub gas_peak: u64,
    pub logs: Vec<Log>,
}

impl Executor {
    /// Runs a call on the current state and forgets what it wrote.
    ///
    /// Errors: as [`Executor::apply`]; `Invalid` also for value above the caller's balance.
    pub fn simulate(&mut self, call: &Call) -> Result<CallOutcome, Fault> {
        let gas_limit = if call.gas_limit == 0 { GAS_PER_TX_MAX } else { call.gas_limit.min(GAS_PER_TX_MAX) };
        let tx = TxEnv {
            caller: call.from,
            gas_limit,
            gas_price: 0,
            kind: call.to.map_or(TxKind::Create, TxKind::Call),
            value: call.value,
            data: call.data.clone(),
            chain_id: Some(self.params.chain_id),
            ..TxEnv::default()
        };
        let mut env = self.env;
        env.base_fee = 0;
        env.gas_limit = env.gas_limit.max(gas_limit);
        let (result, _) = self.start_in(&env, |cfg| cfg.disable_nonce_check = true).transact(tx)?;
        Ok(CallOutcome {
            success: result.is_success(),
            halt: result.is_halt().then(|| halt_name(&result)),
            gas_used: result.tx_gas_used(),
            gas_peak: result.gas().total_gas_spent().max(result.tx_gas_used()),
            output: result.output().cloned().unwrap_or_default(),
            logs: result.into_logs(),
        })
    }
}

fn halt_name(result: &revm::context_interface::result::ExecutionResult) -> String {
    match result {
        revm::context_interface::result::ExecutionResult::Halt { reason, .. } => format!("{reason:?}"),
        _ => String::new(),
    }
}
