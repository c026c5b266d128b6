//! Take signed transactions.

use super::{
    Context, block,
    fault::{self, Result},
    param::Quantity,
    shape,
};
use alloy_primitives::{B256, Bytes};
use alloy_rpc_types_eth::TransactionReceipt;
use jsonrpsee::{RpcModule, server::RegisterMethodError, types::ErrorObjectOwned};
use std::time::Duration;

/// How long `eth_sendRawTransactionSync` waits unless told less: finality takes tens of milliseconds.
const SYNC_MS_MAX: u64 = 20_000;
/// EIP-7966's code for "not final in time"; its data is the hash.
const SYNC_TIMEOUT: i32 = 4;

pub(super) fn register(module: &mut RpcModule<Context>) -> std::result::Result<(), RegisterMethodError> {
    module.register_async_method("eth_sendRawTransaction", |params, context, _| async move {
        context.chain.submit(params.one()?).await.map_err(fault::chain)
    })?;
    module.register_async_method("eth_sendRawTransactionSync", |params, context, _| async move {
        let mut params = params.sequence();
        let raw: Bytes = params.next()?;
        let patience: Option<Quantity> = params.optional_next()?;
        let patience = patience.map_or(SYNC_MS_MAX, |ms| ms.0.saturating_to::<u64>().min(SYNC_MS_MAX));
        let height = context.chain.head().await.map_err(fault::chain)?.height;
        let hash = context.chain.submit(raw).await.map_err(fault::chain)?;
        match tokio::time::timeout(Duration::from_millis(patience), settled(&context, hash, height)).await {
            Ok(receipt) => receipt,
            Err(_) => Err(ErrorObjectOwned::owned(
                SYNC_TIMEOUT,
                format!("the transaction was accepted and is not final after {patience} ms: ask for its receipt"),
                Some(hash),
            )),
        }
    })?;
    Ok(())
}

async fn settled(context: &Context, hash: B256, mut height: u64) -> Result<TransactionReceipt> {
    loop {
        if let Some((record, index)) = block::locate(context, hash).await? {
            return shape::receipt(&record, index);
        }
        height = context.chain.wait(height).await.map_err(fault::chain)?.height;
    }
}
