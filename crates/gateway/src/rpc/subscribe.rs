//! Tell subscribers what is new.
//!
//! Upon each finalized block: its header to `newHeads`, its matching logs to `logs`. A subscriber that reads
//! slower than the chain grows gets the newest block after each one it took; logs are never skipped within
//! the history kept. `newPendingTransactions` gives hashes as they enter this node's mempool.

use super::{Context, filter, shape};
use alloy_rpc_types_eth::{
    Filter,
    pubsub::{Params, SubscriptionKind},
};
use hodei_types::{chain::ChainError, ethereum::At};
use jsonrpsee::{
    RpcModule, SubscriptionMessage, SubscriptionSink,
    core::SubscriptionError,
    server::{PendingSubscriptionSink, RegisterMethodError},
    types::Params as RpcParams,
};
use serde::Serialize;
use std::sync::Arc;

pub(super) fn register(module: &mut RpcModule<Context>) -> Result<(), RegisterMethodError> {
    module.register_subscription(
        "eth_subscribe",
        "eth_subscription",
        "eth_unsubscribe",
        |params, pending, context, _| subscribe(params, pending, context),
    )?;
    Ok(())
}

async fn subscribe(
    params: RpcParams<'static>,
    pending: PendingSubscriptionSink,
    context: Arc<Context>,
) -> Result<(), SubscriptionError> {
    let mut sequence = params.sequence();
    let asked = sequence.next::<SubscriptionKind>().and_then(|kind| Ok((kind, sequence.optional_next::<Params>()?)));
    let (kind, params) = match asked {
        Ok((SubscriptionKind::Syncing, _)) | Err(_) => {
            let known = "known subscriptions are newHeads, logs, newPendingTransactions";
            pending.reject(super::fault::params(known)).await;
            return Ok(());
        }
        Ok(asked) => asked,
    };
    let sink = pending.accept().await?;
    let told = match (kind, params) {
        (SubscriptionKind::NewHeads, _) => heads(&sink, &context).await,
        (SubscriptionKind::Logs, Some(Params::Logs(wanted))) => logs(&sink, &context, &wanted).await,
        (SubscriptionKind::Logs, _) => logs(&sink, &context, &Filter::default()).await,
        _ => arrivals(&sink, &context).await,
    };
    // The chain's answer failed; the subscriber reconnects. A closed sink is the ordinary end.
    told.map_err(|error| SubscriptionError::from(error.to_string()))
}

/// False once the subscriber is gone.
async fn tell(sink: &SubscriptionSink, value: &impl Serialize) -> bool {
    match SubscriptionMessage::new(sink.method_name(), sink.subscription_id(), value) {
        Ok(message) => sink.send(message).await.is_ok(),
        Err(_) => false,
    }
}

async fn heads(sink: &SubscriptionSink, context: &Context) -> Result<(), ChainError> {
    let mut seen = context.chain.head().await?.height;
    loop {
        let head = tokio::select! {
            head = context.chain.wait(seen) => head?,
            () = sink.closed() => return Ok(()),
        };
        seen = head.height;
        if let Some(record) = context.chain.block(At::Height(head.height)).await?
            && !tell(sink, &shape::header(&record)).await
        {
            return Ok(());
        }
    }
}

async fn logs(sink: &SubscriptionSink, context: &Context, wanted: &Filter) -> Result<(), ChainError> {
    let mut seen = context.chain.head().await?.height;
    loop {
        let head = tokio::select! {
            head = context.chain.wait(seen) => head?,
            () = sink.closed() => return Ok(()),
        };
        for height in seen + 1..=head.height {
            let Some(record) = context.chain.block(At::Height(height)).await? else { continue };
            let found: Vec<_> = filter::matching(&record, wanted).collect();
            for log in found {
                if !tell(sink, &log).await {
                    return Ok(());
                }
            }
        }
        seen = head.height;
    }
}

async fn arrivals(sink: &SubscriptionSink, context: &Context) -> Result<(), ChainError> {
    let (mut cursor, _) = context.chain.arrivals(0).await?;
    loop {
        tokio::select! {
            () = context.chain.arrived(cursor) => {}
            () = sink.closed() => return Ok(()),
        }
        let (next, hashes) = context.chain.arrivals(cursor).await?;
        cursor = next;
        for hash in hashes {
            if !tell(sink, &hash).await {
                return Ok(());
            }
        }
    }
}
