//! Answer for blocks and for transactions in them.

use super::{
    Context,
    fault::{self, Result},
    param::{Block, Quantity},
    shape,
};
use alloy_primitives::{B256, U64};
use alloy_rpc_types_eth::{Block as RpcBlock, Transaction, TransactionReceipt};
use hodei_types::ethereum::{At, Record};
use jsonrpsee::{RpcModule, server::RegisterMethodError};
use std::sync::Arc;

pub(super) fn register(module: &mut RpcModule<Context>) -> std::result::Result<(), RegisterMethodError> {
    module.register_async_method("eth_blockNumber", |_, context, _| async move {
        Result::Ok(U64::from(context.chain.head().await.map_err(fault::chain)?.height))
    })?;
    for name in ["eth_getBlockByNumber", "eth_getBlockByHash"] {
        module.register_async_method(name, |params, context, _| async move {
            let mut params = params.sequence();
            let block: Block = params.next()?;
            let full = params.optional_next::<bool>()?.unwrap_or(false);
            Result::<Option<RpcBlock>>::Ok(match find(&context, block).await? {
                Some(record) => Some(shape::block(&record, full)?),
                None => None,
            })
        })?;
    }
    for name in ["eth_getBlockTransactionCountByNumber", "eth_getBlockTransactionCountByHash"] {
        module.register_async_method(name, |params, context, _| async move {
            let record = find(&context, params.sequence().next()?).await?;
            Result::Ok(record.map(|record| U64::from(record.txs.len())))
        })?;
    }
    for name in ["eth_getTransactionByBlockNumberAndIndex", "eth_getTransactionByBlockHashAndIndex"] {
        module.register_async_method(name, |params, context, _| async move {
            let mut params = params.sequence();
            let block: Block = params.next()?;
            let index: Quantity = params.next()?;
            Result::<Option<Transaction>>::Ok(match find(&context, block).await? {
                Some(record) if index.0.saturating_to::<usize>() < record.txs.len() => {
                    Some(shape::transaction(&record, index.0.to())?)
                }
                _ => None,
            })
        })?;
    }
    module.register_async_method("eth_getBlockReceipts", |params, context, _| async move {
        let record = find(&context, params.sequence().next()?).await?;
        Result::<Option<Vec<TransactionReceipt>>>::Ok(match record {
            Some(record) => {
                Some((0..record.txs.len()).map(|index| shape::receipt(&record, index)).collect::<Result<_>>()?)
            }
            None => None,
        })
    })?;
    module.register_async_method("eth_getTransactionByHash", |params, context, _| async move {
        let hash: B256 = params.one()?;
        if let Some((record, index)) = locate(&context, hash).await? {
            return Result::Ok(Some(shape::transaction(&record, index)?));
        }
        Ok(match context.chain.waiting(hash).await.map_err(fault::chain)? {
            Some(waiting) => Some(shape::waiting(&waiting.raw, waiting.sender)?),
            None => None,
        })
    })?;
    // While unknown the answer is null, never an error: clients poll for it.
    module.register_async_method("eth_getTransactionReceipt", |params, context, _| async move {
        Result::Ok(match locate(&context, params.one()?).await? {
            Some((record, index)) => Some(shape::receipt(&record, index)?),
            None => None,
        })
    })?;
    Ok(())
}

async fn find(context: &Context, block: Block) -> Result<Option<Arc<Record>>> {
    context.chain.block(block.at()).await.map_err(fault::chain)
}

/// The block of a finalized transaction, and its index there.
pub(super) async fn locate(context: &Context, hash: B256) -> Result<Option<(Arc<Record>, usize)>> {
    let Some((height, index)) = context.chain.locate(hash).await.map_err(fault::chain)? else {
        return Ok(None);
    };
    let record = context.chain.block(At::Height(height)).await.map_err(fault::chain)?;
    Ok(record.filter(|record| index < record.txs.len()).map(|record| (record, index)))
}
