//! Execute without a transaction, for `eth_call` and `eth_estimateGas`.

use alloy_primitives::TxKind;
use hodei_types::ethereum::{Call, CallOutcome, GAS_PER_TX_MAX};
use revm::{context::TxEnv, context_interface::result::ExecutionResult};

use super::executor::{Executor, Fault};

impl Executor {
    /// Runs a call on the current state and forgets what it wrote; the nonce is not checked and gas costs nothing.
    ///
    /// Errors: as [`Executor::apply`]; `Invalid` also for value above the caller's balance.
    pub fn simulate(&mut self, call: &Call) -> Result<CallOutcome, Fault> {
        let gas_limit = if call.gas == 0 { GAS_PER_TX_MAX } else { call.gas.min(GAS_PER_TX_MAX) };
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

fn halt_name(result: &ExecutionResult) -> String {
    match result {
        ExecutionResult::Halt { reason, .. } => format!("{reason:?}"),
        _ => String::new(),
    }
}
