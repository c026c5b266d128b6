//! Listen for JSON-RPC over HTTP and WebSocket, within limits.

use super::{methods, push::Pushless};
use hodei_types::ethereum::Ethereum;
use jsonrpsee::{
    core::{middleware::RpcServiceBuilder, traits::IdProvider},
    server::{BatchRequestConfig, ServerBuilder, ServerConfig, ServerHandle, middleware::http::HostFilterLayer},
    types::SubscriptionId,
};
use std::{net::SocketAddr, sync::Arc};
use tower_http::cors::{Any, CorsLayer};

/// A transaction is at most 128 KiB, 256 in hex; the largest batch of small ones fits too.
const REQUEST_BYTES_MAX: u32 = 4 << 20;
pub(super) const RESPONSE_BYTES_MAX: u32 = 32 << 20;
const CONNECTIONS_MAX: u32 = 512;
const SUBSCRIPTIONS_MAX: u32 = 64;
const BATCH_MAX: u32 = 200;

/// Where the door is, and who may come through.
#[derive(Clone, Debug)]
pub struct Config {
    pub listen: SocketAddr,
    /// Host names besides loopback's that requests may carry: without the check a web page could reach a
    /// loopback door through a name of its own (DNS rebinding).
    pub hosts: Vec<String>,
}

/// Why the door could not open.
#[derive(Debug, thiserror::Error)]
pub enum RpcError {
    #[error("cannot listen for JSON-RPC on {address}: {source}")]
    Listen { address: SocketAddr, source: std::io::Error },
    #[error("host name {0:?} cannot be checked against requests")]
    Host(String),
}

/// An open door; it closes when dropped.
pub struct Door {
    address: SocketAddr,
    handle: ServerHandle,
}

impl Door {
    /// Where it listens: with port 0 asked, the port it got.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        let _ = self.handle.stop();
    }
}

/// Subscription ids as clients expect them: hex text, not numbers.
#[derive(Debug)]
struct HexIds;

impl IdProvider for HexIds {
    fn next_id(&self) -> SubscriptionId<'static> {
        // The process's own hasher keys are random: ids cannot be guessed, and need no secrecy beyond that.
        use std::hash::{BuildHasher as _, RandomState};
        format!("{:#018x}", RandomState::new().hash_one(0_u8)).into()
    }
}

/// Opens the door to `chain`.
pub async fn serve(config: Config, chain: Arc<dyn Ethereum>) -> Result<Door, RpcError> {
    let limits = ServerConfig::builder()
        .max_request_body_size(REQUEST_BYTES_MAX)
        .max_response_body_size(RESPONSE_BYTES_MAX)
        .max_connections(CONNECTIONS_MAX)
        .max_subscriptions_per_connection(SUBSCRIPTIONS_MAX)
        .set_batch_request_config(BatchRequestConfig::Limit(BATCH_MAX))
        .set_tcp_no_delay(true)
        .set_id_provider(HexIds)
        .build();
    let mut hosts: Vec<String> = ["localhost", "127.0.0.1", "[::1]"].map(|host| format!("{host}:*")).to_vec();
    hosts.extend(config.hosts.iter().map(|host| format!("{host}:*")));
    let hosts = HostFilterLayer::new(hosts.clone()).map_err(|error| RpcError::Host(format!("{error}: {hosts:?}")))?;
    // Reads and signed transactions are harmless from any page: no method here signs or changes a setting.
    let cors = CorsLayer::new().allow_origin(Any).allow_methods(Any).allow_headers(Any);
    let listen = |source| RpcError::Listen { address: config.listen, source };
    let server = ServerBuilder::with_config(limits)
        .set_http_middleware(tower::ServiceBuilder::new().layer(cors).layer(hosts))
        .set_rpc_middleware(RpcServiceBuilder::new().layer_fn(Pushless))
        .build(config.listen)
        .await
        .map_err(listen)?;
    let address = server.local_addr().map_err(listen)?;
    let handle = server.start(methods(chain).expect("each method has a name of its own"));
    Ok(Door { address, handle })
}
