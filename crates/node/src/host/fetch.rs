//! Ask other hosts of an app for what it runs, while its owner sleeps.
//!
//! Hosts of the same order come first, by its present leases: what the ledger placed again is among them. Then those of
//! its owner's other orders of the same workload: what an owner replaces has an order of its own.

use super::{
    Host,
    follow::{MANY_MAX, RUNNING},
    replica::Replica,
};
use alloy_primitives::Address;
use commonware_runtime::{Sink, Storage, Stream};
use hodei_ledger::wire::{receive, send};
use hodei_types::{
    abi::{ILeases, IMarket, LEASES, MARKET, PAGE_MAX},
    app::{
        Manifest,
        wire::{Answer, FRAME_BYTES_MAX, Request},
    },
    call::ask,
    chain::ChainError,
    transport::{APP, NodeKey, Peer, Transport as _, TransportError},
};
use std::time::Duration;

/// From dialling to the last byte.
const FETCH_TIMEOUT: Duration = Duration::from_secs(120);
/// Orders of the owner that are looked through, the latest.
const ORDERS_MAX: u64 = 64;
/// Hosts asked in one round.
const HOSTS_MAX: usize = 8;

/// Why nobody gave it.
#[derive(Debug, thiserror::Error)]
pub(super) enum FetchError {
    #[error("the ledger was not asked who has it: {0}")]
    Chain(#[from] ChainError),
    #[error("no other host runs it yet: its owner has to give it")]
    Nobody,
    #[error("none of {0} other hosts gave it, the last: {1}")]
    None(usize, String),
}

#[derive(Debug, thiserror::Error)]
pub(super) enum AskError {
    #[error(transparent)]
    Unreachable(#[from] TransportError),
    #[error(transparent)]
    Broken(#[from] hodei_ledger::wire::WireError),
    #[error(transparent)]
    Form(#[from] hodei_types::app::wire::WireError),
    #[error("it gave another than was asked for")]
    Other,
    #[error("{0}")]
    Refused(String),
    #[error("it took longer than {} s", FETCH_TIMEOUT.as_secs())]
    Late,
}

impl<E: Storage> Host<E> {
    /// Gets a replica's component from whoever has it, and keeps it.
    pub(super) async fn fetch(&self, replica: &Replica) -> Result<(), FetchError> {
        let peers = self.others(replica).await?;
        let Some(_reserved) = self.0.queue.reserve(hodei_types::app::COMPONENT_BYTES_MAX) else {
            return Err(FetchError::None(0, "too much is on its way already".into()));
        };
        let mut last = None;
        for peer in &peers {
            let asked = tokio::time::timeout(FETCH_TIMEOUT, self.ask_for(peer, replica.workload)).await;
            let kept = match asked.unwrap_or(Err(AskError::Late)) {
                Ok((manifest, wasm)) => self.keep(manifest, wasm).await,
                Err(error) => Err(error.to_string()),
            };
            match kept {
                Ok(()) => {
                    tracing::info!(lease = replica.lease, from = %peer.key, "component fetched");
                    return Ok(());
                }
                Err(words) => last = Some(format!("{}: {words}", peer.key)),
            }
        }
        Err(last.map_or(FetchError::Nobody, |last| FetchError::None(peers.len(), last)))
    }

    async fn ask_for(&self, peer: &Peer, workload: [u8; 32]) -> Result<(Manifest, Vec<u8>), AskError> {
        let (mut sink, mut stream) = self.0.parts.link.open(peer, APP).await?;
        let manifest = manifest_of(&mut sink, &mut stream, workload).await?;
        // Its bytes are taken into memory: they are a component's, which are few.
        if manifest.component().is_none() {
            return Err(AskError::Other);
        }
        let mut wasm = Vec::new();
        while (wasm.len() as u64) < manifest.bytes() {
            match Answer::decode(&receive(&mut stream, FRAME_BYTES_MAX).await?)? {
                Answer::Bytes(chunk) if (wasm.len() + chunk.len()) as u64 <= manifest.bytes() => {
                    wasm.extend_from_slice(&chunk);
                }
                _ => return Err(AskError::Other),
            }
        }
        Ok((manifest, wasm))
    }

    /// Hosts with a running lease of the same workload, those of the same order first.
    pub(super) async fn others(&self, replica: &Replica) -> Result<Vec<Peer>, ChainError> {
        let mut orders = vec![replica.order];
        orders.extend(self.orders_of(replica.owner).await?.into_iter().filter(|order| *order != replica.order));
        let mut nodes: Vec<NodeKey> = Vec::new();
        for id in orders {
            if nodes.len() >= HOSTS_MAX {
                break;
            }
            let placed = ask(self.chain(), MARKET, &IMarket::placedCall { id }).await?;
            if placed.order.workload.0 != replica.workload {
                continue;
            }
            for batch in placed.leases.chunks(MANY_MAX) {
                let found = ask(self.chain(), LEASES, &ILeases::manyCall { leases: batch.to_vec() }).await?;
                for lease in found.iter().filter(|lease| lease.state == RUNNING && lease.workload.0 == replica.workload)
                {
                    let node = NodeKey(lease.node.0);
                    if node != self.0.id && !nodes.contains(&node) && nodes.len() < HOSTS_MAX {
                        nodes.push(node);
                    }
                }
            }
        }
        let mut peers = Vec::new();
        for key in nodes {
            let Some(host) = super::register::record(self.chain(), key.0.into()).await? else { continue };
            peers.extend(super::watch::peer(&host));
        }
        Ok(peers)
    }

    /// Orders of an owner that stand, as many as are looked through.
    pub(super) async fn orders_of(&self, owner: Address) -> Result<Vec<u64>, ChainError> {
        let mut orders = Vec::new();
        while (orders.len() as u64) < ORDERS_MAX {
            let call = IMarket::ofOwnerCall { owner, first: orders.len() as u64, most: PAGE_MAX };
            let page = ask(self.chain(), MARKET, &call).await?;
            let is_last = (page.len() as u64) < PAGE_MAX;
            orders.extend(page);
            if is_last {
                break;
            }
        }
        Ok(orders)
    }
}

/// What a workload is, by a host that has it.
pub(super) async fn manifest_of<Si: Sink, St: Stream>(
    sink: &mut Si,
    stream: &mut St,
    workload: [u8; 32],
) -> Result<Manifest, AskError> {
    send(sink, Request::Fetch { workload }.encode()).await?;
    match Answer::decode(&receive(stream, FRAME_BYTES_MAX).await?)? {
        Answer::Manifest(manifest) if manifest.workload() == workload => Ok(manifest),
        Answer::Refused { words } => Err(AskError::Refused(words)),
        Answer::Busy { .. } => Err(AskError::Refused("it is busy".into())),
        _ => Err(AskError::Other),
    }
}
