//! Try calls without a transaction, and estimate their gas.

use super::{
    Context,
    fault::{self, Result},
    param::Block,
};
use alloy_primitives::{Bytes, U64};
use alloy_rpc_types_eth::TransactionRequest;
use hodei_types::ethereum::{At, Call, CallOutcome, GAS_PER_TX_MAX, TRANSFER_GAS};
use jsonrpsee::{RpcModule, server::RegisterMethodError, types::Params};

/// The estimate is within 1/64 of the least gas that works: the share a call may not pass on (EIP-150).
const CLOSE_ENOUGH: u64 = 64;

pub(super) fn register(module: &mut RpcModule<Context>) -> std::result::Result<(), RegisterMethodError> {
    module.register_async_method("eth_call", |params, context, _| async move {
        let (call, at) = read(&params)?;
        succeeded(context.chain.simulate(call, at).await.map_err(fault::chain)?)
    })?;
    module.register_async_method("eth_estimateGas", |params, context, _| async move {
        let (call, at) = read(&params)?;
        Result::Ok(U64::from(estimate(&context, call, at).await?))
    })?;
    Ok(())
}

fn read(params: &Params<'_>) -> Result<(Call, At)> {
    let mut params = params.sequence();
    let request: TransactionRequest = params.next()?;
    let at = params.optional_next::<Block>()?.unwrap_or_default().at();
    let data = match (&request.input.input, &request.input.data) {
        (Some(input), Some(data)) if input != data => {
            return Err(fault::params("both \"data\" and \"input\" are set and not equal"));
        }
        (input, data) => input.clone().or_else(|| data.clone()).unwrap_or_default(),
    };
    let call = Call {
        from: request.from.unwrap_or_default(),
        to: request.to.and_then(|kind| kind.to().copied()),
        value: request.value.unwrap_or_default(),
        data,
        // Larger wishes of wallets are clamped, not refused.
        gas: request.gas.unwrap_or(GAS_PER_TX_MAX).min(GAS_PER_TX_MAX),
    };
    Ok((call, at))
}

fn succeeded(outcome: CallOutcome) -> Result<Bytes> {
    match (outcome.success, outcome.halt) {
        (true, _) => Ok(outcome.output),
        (false, Some(halt)) => Err(fault::refused(halt)),
        (false, None) => Err(fault::reverted(&outcome.output)),
    }
}

/// The least gas with which the call succeeds: what it used, and where that is too little (a call keeps 1/64
/// back, refunds come last), a bisection up to the limit.
async fn estimate(context: &Context, call: Call, at: At) -> Result<u64> {
    let full = context.chain.simulate(call.clone(), at).await.map_err(fault::chain)?;
    let (mut low, mut high) = (full.gas_peak.max(full.gas_used).max(TRANSFER_GAS), call.gas);
    succeeded(full)?;
    if works(context, &call, at, low).await? {
        return Ok(low);
    }
    while high - low > low / CLOSE_ENOUGH {
        let middle = low + (high - low) / 2;
        if works(context, &call, at, middle).await? {
            high = middle;
        } else {
            low = middle;
        }
    }
    Ok(high)
}

async fn works(context: &Context, call: &Call, at: At, gas: u64) -> Result<bool> {
    let call = Call { gas, ..call.clone() };
    Ok(context.chain.simulate(call, at).await.map_err(fault::chain)?.success)
}
