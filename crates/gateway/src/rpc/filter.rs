//! Find logs, once or by a filter that is polled.

use super::{
    Context,
    fault::{self, Result},
    param::{Block, Quantity},
    shape,
};
use alloy_primitives::{B256, U256};
use alloy_rpc_types_eth::{Filter, FilterBlockOption, Log};
use hodei_types::{
    chain::{LOG_BLOCKS_MAX, LOGS_MAX},
    ethereum::{At, Record},
};
use jsonrpsee::{RpcModule, server::RegisterMethodError};
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

/// Filters of all clients together; each is some hundred bytes.
const FILTERS_MAX: usize = 4096;
/// A filter nobody polled for this long is dropped, as in geth.
const IDLE: Duration = Duration::from_secs(300);

#[derive(Clone)]
enum Kind {
    Logs(Box<Filter>),
    Blocks,
    Pending,
}

struct Installed {
    kind: Kind,
    /// Next height to look at; for pending transactions a cursor into arrivals.
    next: u64,
    polled: Instant,
}

/// The filters that clients installed.
#[derive(Default)]
pub(super) struct Filters {
    inner: Mutex<(u64, BTreeMap<u64, Installed>)>,
}

impl Filters {
    fn lock(&self) -> MutexGuard<'_, (u64, BTreeMap<u64, Installed>)> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn install(&self, kind: Kind, next: u64) -> Result<U256> {
        let mut inner = self.lock();
        inner.1.retain(|_, installed| installed.polled.elapsed() < IDLE);
        if inner.1.len() >= FILTERS_MAX {
            return Err(fault::limit(format!("{FILTERS_MAX} filters are installed: subscribe over WebSocket instead")));
        }
        inner.0 += 1;
        let id = inner.0;
        inner.1.insert(id, Installed { kind, next, polled: Instant::now() });
        Ok(U256::from(id))
    }

    fn get(&self, id: u64) -> Result<(Kind, u64)> {
        let mut inner = self.lock();
        let installed = inner.1.get_mut(&id).ok_or_else(|| fault::refused("filter not found"))?;
        installed.polled = Instant::now();
        Ok((installed.kind.clone(), installed.next))
    }

    fn advance(&self, id: u64, next: u64) {
        if let Some(installed) = self.lock().1.get_mut(&id) {
            installed.next = next;
        }
    }
}

pub(super) fn register(module: &mut RpcModule<Context>) -> std::result::Result<(), RegisterMethodError> {
    module.register_async_method("eth_getLogs", |params, context, _| async move {
        let filter: Filter = params.one()?;
        range(&context, &filter, None).await
    })?;
    module.register_async_method("eth_newFilter", |params, context, _| async move {
        let filter: Filter = params.one()?;
        let next = context.chain.head().await.map_err(fault::chain)?.height + 1;
        context.filters.install(Kind::Logs(Box::new(filter)), next)
    })?;
    module.register_async_method("eth_newBlockFilter", |_, context, _| async move {
        let next = context.chain.head().await.map_err(fault::chain)?.height + 1;
        context.filters.install(Kind::Blocks, next)
    })?;
    module.register_async_method("eth_newPendingTransactionFilter", |_, context, _| async move {
        let (cursor, _) = context.chain.arrivals(0).await.map_err(fault::chain)?;
        context.filters.install(Kind::Pending, cursor)
    })?;
    module.register_method("eth_uninstallFilter", |params, context, _| -> Result<bool> {
        let id: Quantity = params.one()?;
        Ok(context.filters.lock().1.remove(&id.0.saturating_to()).is_some())
    })?;
    module.register_async_method("eth_getFilterLogs", |params, context, _| async move {
        let id: Quantity = params.one()?;
        match context.filters.get(id.0.saturating_to())?.0 {
            Kind::Logs(filter) => range(&context, &filter, None).await,
            _ => Err(fault::refused("filter not found")),
        }
    })?;
    module.register_async_method("eth_getFilterChanges", |params, context, _| async move {
        let id: Quantity = params.one()?;
        changes(&context, id.0.saturating_to()).await
    })?;
    Ok(())
}

async fn changes(context: &Context, id: u64) -> Result<Value> {
    let (kind, next) = context.filters.get(id)?;
    let head = context.chain.head().await.map_err(fault::chain)?.height;
    let (found, next) = match kind {
        Kind::Pending => {
            let (cursor, hashes) = context.chain.arrivals(next).await.map_err(fault::chain)?;
            (json!(hashes), cursor)
        }
        Kind::Blocks => {
            let mut hashes: Vec<B256> = Vec::new();
            for height in next..=head {
                if let Some(record) = context.chain.block(At::Height(height)).await.map_err(fault::chain)? {
                    hashes.push(record.hash);
                }
            }
            (json!(hashes), head + 1)
        }
        Kind::Logs(filter) => (json!(range(context, &filter, Some(next)).await?), head + 1),
    };
    context.filters.advance(id, next);
    Ok(found)
}

/// The logs a filter wants; `since` overrides where its range begins.
async fn range(context: &Context, filter: &Filter, since: Option<u64>) -> Result<Vec<Log>> {
    let head = context.chain.head().await.map_err(fault::chain)?.height;
    let (from, to) = match filter.block_option {
        FilterBlockOption::AtBlockHash(hash) => {
            let height = Block::Hash(hash).height(context).await?;
            (height, height)
        }
        FilterBlockOption::Range { from_block, to_block } => {
            let height = |tag: Option<alloy_eips::BlockNumberOrTag>| match tag {
                Some(alloy_eips::BlockNumberOrTag::Number(height)) => height,
                Some(alloy_eips::BlockNumberOrTag::Earliest) => 0,
                _ => head,
            };
            let from = match (since, from_block) {
                // What a poll has seen stays seen; a first block named by number may lie still further on.
                (Some(since), Some(alloy_eips::BlockNumberOrTag::Number(first))) => since.max(first),
                (Some(since), _) => since,
                (None, first) => height(first),
            };
            (from, height(to_block).min(head))
        }
    };
    if to.saturating_sub(from) >= LOG_BLOCKS_MAX {
        return Err(fault::limit(format!("query covers {} blocks, at most {LOG_BLOCKS_MAX}", to - from + 1)));
    }
    let mut found = Vec::new();
    for height in from..=to {
        let Some(record) = context.chain.block(At::Height(height)).await.map_err(fault::chain)? else {
            continue;
        };
        found.extend(matching(&record, filter));
        if found.len() > LOGS_MAX {
            return Err(fault::limit(format!("query returned more than {LOGS_MAX} results: narrow its range")));
        }
    }
    Ok(found)
}

/// The logs of one block that a filter wants, its range apart.
pub(super) fn matching<'a>(record: &'a Record, filter: &'a Filter) -> impl Iterator<Item = Log> + 'a {
    let candidates = if filter.matches_bloom(record.header.logs_bloom) { record.txs.len() } else { 0 };
    (0..candidates)
        .flat_map(move |index| shape::logs(record, index))
        .filter(|log| filter.matches_address(log.inner.address) && filter.matches_topics(log.inner.data.topics()))
}
