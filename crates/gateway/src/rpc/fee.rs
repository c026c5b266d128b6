//! Tell what a transaction should offer.

use super::{
    Context,
    fault::{self, Result},
    param::{Block, Quantity},
};
use alloy_consensus::Transaction as _;
use alloy_eips::eip2718::Decodable2718 as _;
use alloy_primitives::U256;
use alloy_rpc_types_eth::FeeHistory;
use hodei_types::ethereum::{At, Record};
use jsonrpsee::{RpcModule, server::RegisterMethodError};

/// Suggested tip in wei per gas: above the mempool's floor, and nobody outbids it on an empty chain.
const TIP: u64 = 1_000_000_000;
const HISTORY_BLOCKS_MAX: u64 = 1024;
const PERCENTILES_MAX: usize = 100;

pub(super) fn register(module: &mut RpcModule<Context>) -> std::result::Result<(), RegisterMethodError> {
    module.register_method("eth_maxPriorityFeePerGas", |_, _, _| Result::Ok(U256::from(TIP)))?;
    module.register_async_method("eth_gasPrice", |_, context, _| async move {
        let base = context.chain.next_base_fee().await.map_err(fault::chain)?;
        Result::Ok(U256::from(base) + U256::from(TIP))
    })?;
    module.register_async_method("eth_feeHistory", |params, context, _| async move {
        let mut params = params.sequence();
        let count: Quantity = params.next()?;
        let newest: Block = params.next()?;
        let percentiles: Option<Vec<f64>> = params.optional_next()?;
        history(&context, count.0.saturating_to(), newest, percentiles.as_deref()).await
    })?;
    Ok(())
}

async fn history(context: &Context, count: u64, newest: Block, percentiles: Option<&[f64]>) -> Result<FeeHistory> {
    if let Some(asked) = percentiles {
        let ordered = asked.windows(2).all(|pair| pair[0] <= pair[1]);
        if asked.len() > PERCENTILES_MAX || !ordered || asked.iter().any(|p| !(0.0..=100.0).contains(p)) {
            return Err(fault::params("reward percentiles must rise from 0 to 100, at most 100 of them"));
        }
    }
    let head = context.chain.head().await.map_err(fault::chain)?.height;
    let newest = newest.height(context).await?.min(head);
    let count = count.min(HISTORY_BLOCKS_MAX).min(newest + 1);
    let mut answer = FeeHistory { oldest_block: newest + 1 - count, ..FeeHistory::default() };
    let mut rewards = Vec::new();
    for height in answer.oldest_block..=newest {
        if count == 0 {
            break;
        }
        let record = context.chain.block(At::Height(height)).await.map_err(fault::chain)?;
        let Some(record) = record else {
            // Not kept, or the genesis, which is no block: fewer are told, as clients expect of a young chain.
            answer = FeeHistory { oldest_block: height + 1, ..FeeHistory::default() };
            rewards.clear();
            continue;
        };
        answer.base_fee_per_gas.push(record.header.base_fee_per_gas.unwrap_or_default().into());
        answer.gas_used_ratio.push(record.header.gas_used as f64 / record.header.gas_limit.max(1) as f64);
        answer.base_fee_per_blob_gas.push(1);
        answer.blob_gas_used_ratio.push(0.0);
        if let Some(percentiles) = percentiles {
            rewards.push(tips(&record, percentiles));
        }
    }
    // One more than blocks: the fee of the block after the newest.
    let next = if newest == head {
        context.chain.next_base_fee().await.map_err(fault::chain)?
    } else {
        let after = context.chain.block(At::Height(newest + 1)).await.map_err(fault::chain)?;
        after.and_then(|record| record.header.base_fee_per_gas).unwrap_or_default()
    };
    if !answer.gas_used_ratio.is_empty() {
        answer.base_fee_per_gas.push(next.into());
        answer.base_fee_per_blob_gas.push(1);
    }
    answer.reward = percentiles.map(|_| rewards);
    Ok(answer)
}

/// Tips at percentiles of the gas used, as EIP-1559's fee history weighs them.
fn tips(record: &Record, percentiles: &[f64]) -> Vec<u128> {
    let base = record.header.base_fee_per_gas.unwrap_or_default();
    let mut before = 0;
    let mut paid: Vec<(u128, u64)> = record
        .txs
        .iter()
        .filter_map(|tx| {
            let gas = tx.cumulative_gas - std::mem::replace(&mut before, tx.cumulative_gas);
            let envelope = alloy_consensus::TxEnvelope::decode_2718(&mut tx.raw.as_ref()).ok()?;
            Some((envelope.effective_tip_per_gas(base).unwrap_or_default(), gas))
        })
        .collect();
    paid.sort_unstable();
    let total: u64 = paid.iter().map(|(_, gas)| gas).sum();
    percentiles
        .iter()
        .map(|percentile| {
            let wanted = (total as f64 * percentile / 100.0) as u64;
            let mut sum = 0;
            let found = paid.iter().find(|(_, gas)| {
                sum += gas;
                sum >= wanted
            });
            found.map_or(0, |(tip, _)| *tip)
        })
        .collect()
}
