//! Answer for accounts: balance, nonce, code, slots, proofs.

use super::{
    Context,
    fault::{self, Result},
    param::{Block, Quantity},
};
use alloy_primitives::{Address, B256, Bytes, U64, U256};
use jsonrpsee::{RpcModule, server::RegisterMethodError, types::Params};
use serde::Serialize;

/// A state proof as JSON.
#[derive(Clone, Serialize)]
#[serde(rename_all = "camelCase")]
struct Proof {
    block_number: U64,
    key: B256,
    value: Option<Bytes>,
    proof: Bytes,
    state_database_root: B256,
    code_database_root: B256,
}

pub(super) fn register(module: &mut RpcModule<Context>) -> std::result::Result<(), RegisterMethodError> {
    module.register_async_method("eth_getBalance", |params, context, _| async move {
        let (address, block) = address_and_block(&params)?;
        context.chain.balance(address, block.at()).await.map_err(fault::chain)
    })?;
    module.register_async_method("eth_getTransactionCount", |params, context, _| async move {
        let (address, block) = address_and_block(&params)?;
        let nonce = match block {
            Block::Pending => context.chain.account(address).await.map(|account| account.pending_nonce),
            block => context.chain.nonce(address, block.at()).await,
        };
        Result::Ok(U64::from(nonce.map_err(fault::chain)?))
    })?;
    module.register_async_method("eth_getCode", |params, context, _| async move {
        let (address, block) = address_and_block(&params)?;
        context.chain.code(address, block.at()).await.map_err(fault::chain)
    })?;
    module.register_async_method("eth_getStorageAt", |params, context, _| async move {
        let mut params = params.sequence();
        let (address, slot): (Address, Quantity) = (params.next()?, params.next()?);
        let at = params.optional_next::<Block>()?.unwrap_or_default().at();
        Result::Ok(B256::from(context.chain.slot(address, slot.0, at).await.map_err(fault::chain)?))
    })?;
    module.register_async_method("hodei_getProof", |params, context, _| async move {
        let mut params = params.sequence();
        let address: Address = params.next()?;
        let slot: Option<Quantity> = params.optional_next()?;
        let proof = context.chain.prove(address, slot.map(|slot| slot.0)).await.map_err(fault::chain)?;
        Result::Ok(Proof {
            block_number: U64::from(proof.height),
            key: proof.key,
            value: proof.value,
            proof: proof.proof,
            state_database_root: proof.state,
            code_database_root: proof.code,
        })
    })?;
    // A node keeps no accounts of its own for strangers to sign with.
    module.register_method("eth_accounts", |_, _, _| Vec::<Address>::new())?;
    module.register_method("eth_syncing", |_, _, _| false)?;
    module.register_method("web3_clientVersion", |_, _, _| {
        format!("{}/v{}", hodei_types::PRODUCT, env!("CARGO_PKG_VERSION"))
    })?;
    module.register_method("web3_sha3", |params, _, _| -> Result<B256> {
        Ok(alloy_primitives::keccak256(params.one::<Bytes>()?))
    })?;
    module.register_method("net_listening", |_, _, _| true)?;
    module.register_async_method("eth_chainId", |_, context, _| async move {
        Result::Ok(U64::from(context.chain.head().await.map_err(fault::chain)?.chain_id))
    })?;
    module.register_async_method("net_version", |_, context, _| async move {
        Result::Ok(context.chain.head().await.map_err(fault::chain)?.chain_id.to_string())
    })?;
    module.register_method("eth_getUncleCountByBlockNumber", |_, _, _| Result::Ok(U256::ZERO))?;
    module.register_method("eth_getUncleCountByBlockHash", |_, _, _| Result::Ok(U256::ZERO))?;
    Ok(())
}

fn address_and_block(params: &Params<'_>) -> Result<(Address, Block)> {
    let mut params = params.sequence();
    Ok((params.next()?, params.optional_next()?.unwrap_or_default()))
}
