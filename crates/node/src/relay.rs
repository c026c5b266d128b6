//! Pass on what is sent to providers behind address translators, as far as the ledger has them.

use crate::config;
use commonware_runtime::{
    telemetry::metrics::{Gauge, MetricsExt as _},
    tokio::Context,
};
use futures::future::BoxFuture;
use hodei_link::{
    LinkError,
    relay::{Admission, Hall, Limits, Relay},
};
use hodei_types::{
    abi::{IProviders, PROVIDERS, unpack_reach},
    call::{ask, revert},
    chain::Chain,
    transport::NodeKey,
};
use std::{net::SocketAddr, sync::Arc};

/// Binds the relay's port; [`Relay::run`] serves.
pub(crate) async fn open(config: &config::Relay, chain: Arc<dyn Chain>) -> Result<Relay, LinkError> {
    let names = if config.advertise.is_empty() { vec![config.listen] } else { config.advertise.clone() };
    let limits = Limits {
        connections: config.connections_max,
        connections_per_network: config.network_connections_max,
        bytes_per_s: config.bytes_per_s,
    };
    Relay::bind(config.listen, limits, Arc::new(Registered { chain, names: names.into() })).await
}

/// Serves the providers whose record on the ledger names this relay; also those that take no new deals, for what
/// they hold is still read.
struct Registered {
    chain: Arc<dyn Chain>,
    /// Under which addresses they may name it.
    names: Arc<[SocketAddr]>,
}

impl Admission for Registered {
    fn serves(&self, node: NodeKey) -> BoxFuture<'static, Option<bool>> {
        let (chain, names) = (self.chain.clone(), self.names.clone());
        Box::pin(async move {
            match ask(&*chain, PROVIDERS, &IProviders::getCall { node: node.0.into() }).await {
                Ok(record) => {
                    let reach = unpack_reach(&record.offer.addresses).unwrap_or_default();
                    Some(reach.relays.iter().any(|relay| names.contains(relay)))
                }
                Err(error) => match revert(&error) {
                    Some(IProviders::IProvidersErrors::UnknownProvider(_)) => Some(false),
                    _ => {
                        tracing::debug!(%node, %error, "the ledger could not be asked whom to serve");
                        None
                    }
                },
            }
        })
    }
}

/// What the status door tells of a relay.
pub(crate) fn status(hall: &Hall) -> serde_json::Value {
    let counts = hall.counts();
    serde_json::json!({
        "connected": counts.connected, "served": counts.served, "bytes": counts.bytes, "dropped": counts.dropped,
    })
}

/// The same, to be scraped.
pub(crate) struct Gauges {
    hall: Arc<Hall>,
    connected: Gauge,
    served: Gauge,
    bytes: Gauge,
    dropped: Gauge,
}

impl Gauges {
    pub(crate) fn new(context: &Context, hall: Arc<Hall>) -> Self {
        Self {
            hall,
            connected: context.gauge("connected", "Nodes connected to this relay"),
            served: context.gauge("served", "Of them, providers that name it on the ledger"),
            bytes: context.gauge("bytes", "Bytes passed on since the start"),
            dropped: context.gauge("dropped", "Frames dropped since the start"),
        }
    }

    pub(crate) fn set(&self) {
        let signed = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
        let counts = self.hall.counts();
        self.connected.set(signed(counts.connected as u64));
        self.served.set(signed(counts.served as u64));
        self.bytes.set(signed(counts.bytes));
        self.dropped.set(signed(counts.dropped));
    }
}
