//! Speak Ethereum's JSON-RPC, so that wallets and libraries work unchanged.
//!
//! Upon HTTP or WebSocket on one port: single calls, batches of at most 200; subscriptions over WebSocket. `latest`, `safe`,
//! `finalized` and `pending` all mean the finalized head, since there is no other state; only a pending nonce
//! also counts what waits. A call or balance at an older block is answered with the state after that block, or,
//! where that is no longer kept, refused with words that say so. `eth_getProof` cannot be honest (there is no Merkle-Patricia tree)
//! and is absent; `hodei_getProof` serves the proof that exists.
//!
//! Each move of coin but fees is a log in receipts and filters (EIP-7708): address `0xff…fe`, topics
//! `Transfer(address,address,uint256)`, payer, payee, data the wei.

mod account;
mod block;
mod call;
mod fault;
mod fee;
mod filter;
mod param;
mod push;
mod server;
mod shape;
mod submit;
mod subscribe;

pub use server::{Config, Door, RpcError, serve};

use hodei_types::ethereum::Ethereum;
use jsonrpsee::{RpcModule, server::RegisterMethodError};
use std::sync::Arc;

/// What the methods share.
pub(crate) struct Context {
    chain: Arc<dyn Ethereum>,
    filters: filter::Filters,
}

fn methods(chain: Arc<dyn Ethereum>) -> Result<RpcModule<Context>, RegisterMethodError> {
    let mut module = RpcModule::new(Context { chain, filters: filter::Filters::default() });
    account::register(&mut module)?;
    block::register(&mut module)?;
    call::register(&mut module)?;
    fee::register(&mut module)?;
    filter::register(&mut module)?;
    submit::register(&mut module)?;
    subscribe::register(&mut module)?;
    Ok(module)
}
