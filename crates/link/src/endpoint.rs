//! Dial peers and accept their streams.

use crate::pipe::{Sink, Stream, duplex, quic};
use hodei_types::transport::{Incoming, NodeKey, Peer, Protocol, Transport, TransportError};
use iroh::{
    EndpointAddr, NetReportConfig, PublicKey, RelayConfig, RelayMap, RelayMode, RelayUrl, SecretKey, Watcher as _,
    endpoint::{Connection, Endpoint, PortmapperConfig, QuicTransportConfig, VarInt, WeakConnectionHandle, presets},
};
use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::sync::mpsc;

/// What one stream may have in flight towards us: two shards of 256 KiB.
pub(crate) const STREAM_WINDOW: u32 = 512 * 1024;
/// What one connection may have in flight towards us. QUIC's default is unlimited: 32 providers could pin
/// 320 MB.
const RECEIVE_WINDOW: u64 = 2 * 1024 * 1024;
/// The connection windows of all peers sum to at most this, or to one stream's window each.
const RECEIVE_WINDOWS: u64 = 64 * 1024 * 1024;
/// What we hold of unacknowledged data for one connection.
const SEND_WINDOW: u64 = 1024 * 1024;
/// Streams a peer may have open at once.
const STREAMS: u32 = 32;
/// A peer that does not finish the handshake by then is unreachable.
const CONNECT: Duration = Duration::from_secs(3);
/// A connection is dead after this long without a packet.
pub const IDLE: Duration = Duration::from_secs(6);
const KEEP_ALIVE: Duration = Duration::from_secs(2);
/// A farewell is confirmed within a round trip by whoever lives, and never by who was being dialled in vain: for those QUIC
/// waits three seconds.
const FAREWELL: Duration = Duration::from_millis(500);
/// Accepted streams waiting for [`Listener::accept`]; a peer's further ones wait in QUIC's limits.
const QUEUE: usize = 64;
/// Connections accepted at once; one more is refused.
const CONNECTIONS: usize = 1024;
/// Relays of one peer that are asked for it: as many as the ledger takes. Each costs a TCP connection for a minute.
const RELAYS: usize = 8;

/// What a link needs.
pub struct Config {
    /// Ed25519 secret key: the node's identity, which also signs acks and checkpoints.
    pub secret: [u8; 32],
    /// Where to listen; port 0 picks a free one. Dialling uses the same socket.
    pub bind: SocketAddr,
    /// What incoming streams may speak; empty refuses all.
    pub protocols: Vec<Protocol>,
    /// Relays through which others reach this node, if it stands behind an address translator: it keeps a
    /// connection to the nearest that answers. Whom this node dials may name others.
    pub relays: Vec<SocketAddr>,
}

/// Why a link did not start.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    #[error("cannot listen on {0}: {1}")]
    Bind(SocketAddr, String),
}

type Slot = Arc<tokio::sync::Mutex<Option<Connection>>>;

struct Inner {
    endpoint: Endpoint,
    key: NodeKey,
    protocols: Vec<Protocol>,
    /// One slot per (peer, protocol), so that concurrent openers dial once.
    dialled: Mutex<BTreeMap<(NodeKey, Protocol), Slot>>,
    /// All living connections, whose windows share [`RECEIVE_WINDOWS`].
    living: Mutex<Vec<WeakConnectionHandle>>,
    local: mpsc::Sender<Incoming<Sink, Stream>>,
}

/// The dialling side; clones share one socket and its connections.
#[derive(Clone)]
pub struct Link(Arc<Inner>);

/// Streams others opened to this node, and those it opened to itself.
pub struct Listener(mpsc::Receiver<Incoming<Sink, Stream>>);

impl Link {
    /// Binds one UDP socket. Needs a tokio runtime; spawns the accept loop on it.
    pub async fn bind(config: Config) -> Result<(Self, Listener), LinkError> {
        let failed = |reason: String| LinkError::Bind(config.bind, reason);
        let idle = IDLE.try_into().map_err(|_| failed("idle time".into()))?;
        let transport = QuicTransportConfig::builder()
            .stream_receive_window(VarInt::from_u32(STREAM_WINDOW))
            .receive_window(VarInt::from_u32(RECEIVE_WINDOW as u32))
            .send_window(SEND_WINDOW)
            .max_concurrent_bidi_streams(VarInt::from_u32(STREAMS))
            .max_concurrent_uni_streams(VarInt::from_u32(0))
            .max_idle_timeout(Some(idle))
            .keep_alive_interval(KEEP_ALIVE)
            .default_path_max_idle_timeout(IDLE)
            .default_path_keep_alive_interval(KEEP_ALIVE)
            .build();
        let secret = SecretKey::from_bytes(&config.secret);
        let key = NodeKey(*secret.public().as_bytes());
        let relays: Vec<RelayConfig> = config.relays.iter().map(|at| RelayConfig::new(url(*at), None)).collect();
        // Which relay answers first is asked of themselves, over the same port; nothing else is looked for.
        let mut report = NetReportConfig::minimal();
        report.https_probes = true;
        // `Minimal` sets the crypto provider and nothing else: no relays of others, no address lookup.
        let endpoint = Endpoint::builder(presets::Minimal)
            .secret_key(secret)
            .alpns(config.protocols.iter().map(|p| p.0.as_bytes().to_vec()).collect())
            .portmapper_config(PortmapperConfig::Disabled)
            .net_report_config(report)
            // Of none, too: those of a peer come with its address.
            .relay_mode(RelayMode::Custom(RelayMap::from_iter(relays)))
            .transport_config(transport)
            .clear_ip_transports()
            .bind_addr(config.bind)
            .map_err(|e| failed(e.to_string()))?
            .bind()
            .await
            .map_err(|e| failed(e.to_string()))?;
        let (local, incoming) = mpsc::channel(QUEUE);
        let link = Self(Arc::new(Inner {
            endpoint,
            key,
            protocols: config.protocols,
            dialled: Mutex::default(),
            living: Mutex::default(),
            local,
        }));
        tokio::spawn(link.clone().accept());
        Ok((link, Listener(incoming)))
    }

    /// This node's key.
    pub fn key(&self) -> NodeKey {
        self.0.key
    }

    /// The bound socket, with the port the system chose.
    pub fn address(&self) -> Option<SocketAddr> {
        self.0.endpoint.bound_sockets().first().copied()
    }

    /// Whether this node is connected to a relay of its own, and so reached through it.
    pub fn is_at(&self, relay: SocketAddr) -> bool {
        self.0.endpoint.home_relay_status().get().iter().any(|at| at.is_connected() && *at.url() == url(relay))
    }

    /// Says goodbye to all peers, and waits half a second at most for them to hear it. What no peer has confirmed yet is
    /// lost: await the answers first.
    pub async fn close(&self) {
        let endpoint = self.0.endpoint.clone();
        let heard = tokio::spawn(async move { endpoint.close().await });
        let _ = tokio::time::timeout(FAREWELL, heard).await;
    }

    async fn accept(self) {
        let connections = Arc::new(tokio::sync::Semaphore::new(CONNECTIONS));
        while let Some(incoming) = self.0.endpoint.accept().await {
            let Ok(permit) = connections.clone().try_acquire_owned() else {
                incoming.refuse();
                continue;
            };
            let link = self.clone();
            tokio::spawn(async move {
                let _permit = permit;
                let Ok(Ok(connection)) = tokio::time::timeout(CONNECT, incoming).await else {
                    return;
                };
                link.share_windows(&connection);
                link.serve(connection).await;
            });
        }
    }

    async fn serve(&self, connection: Connection) {
        let Some(protocol) = self.0.protocols.iter().find(|p| p.0.as_bytes() == connection.alpn()) else {
            return;
        };
        let from = NodeKey(*connection.remote_id().as_bytes());
        while let Ok((send, recv)) = connection.accept_bi().await {
            let (sink, stream) = quic(send, recv);
            let incoming = Incoming { from, protocol: *protocol, sink, stream };
            if self.0.local.send(incoming).await.is_err() {
                return;
            }
        }
    }

    /// Shrinks every connection's window so that all together stay within [`RECEIVE_WINDOWS`].
    fn share_windows(&self, new: &Connection) {
        let mut living = self.0.living.lock().expect("no panic under this lock");
        living.push(new.weak_handle());
        let connections: Vec<_> = living.iter().filter_map(WeakConnectionHandle::upgrade).collect();
        living.retain(|c| c.upgrade().is_some_and(|c| c.close_reason().is_none()));
        let share = RECEIVE_WINDOWS / living.len().max(1) as u64;
        let window = share.clamp(STREAM_WINDOW as u64, RECEIVE_WINDOW) as u32;
        for connection in connections {
            connection.set_receive_window(VarInt::from_u32(window));
        }
    }

    fn open_local(&self, protocol: Protocol) -> Result<(Sink, Stream), TransportError> {
        if !self.0.protocols.contains(&protocol) {
            return Err(TransportError::Protocol(self.0.key, protocol.0));
        }
        let (ours, (sink, stream)) = duplex();
        let incoming = Incoming { from: self.0.key, protocol, sink, stream };
        self.0.local.try_send(incoming).map_err(|e| match e {
            mpsc::error::TrySendError::Full(_) => {
                TransportError::Unreachable(self.0.key, "too many streams to itself".into())
            }
            mpsc::error::TrySendError::Closed(_) => TransportError::Closed,
        })?;
        Ok(ours)
    }

    async fn dial(&self, peer: &Peer, protocol: Protocol) -> Result<Connection, TransportError> {
        let failed = |reason: String| TransportError::Unreachable(peer.key, reason);
        let id = PublicKey::from_bytes(&peer.key.0).map_err(|e| failed(e.to_string()))?;
        if peer.addresses.is_empty() && peer.relays.is_empty() {
            return Err(failed("it has no address".into()));
        }
        let address = peer.addresses.iter().fold(EndpointAddr::new(id), |a, ip| a.with_ip_addr(*ip));
        let address = peer.relays.iter().take(RELAYS).fold(address, |a, relay| a.with_relay_url(url(*relay)));
        let connect = self.0.endpoint.connect(address, protocol.0.as_bytes());
        let connection = match tokio::time::timeout(CONNECT, connect).await {
            Err(_) => return Err(failed(format!("no answer within {} s", CONNECT.as_secs()))),
            Ok(Err(e)) => {
                let reason = format!("{e:#}");
                // TLS alert 120, the only sign of a peer that lacks the protocol.
                return Err(match reason.contains("application protocol") || reason.contains("error 120") {
                    true => TransportError::Protocol(peer.key, protocol.0),
                    false => failed(reason),
                });
            }
            Ok(Ok(connection)) => connection,
        };
        self.share_windows(&connection);
        Ok(connection)
    }
}

/// A relay's name in iroh. No TLS: a relay is trusted with nothing, what it passes on is QUIC's, sealed for the
/// key that was dialled.
fn url(relay: SocketAddr) -> RelayUrl {
    // Without an IPv6 address's scope, which no URL has.
    let relay = SocketAddr::new(relay.ip(), relay.port());
    format!("http://{relay}").parse().expect("an address is a host and a port")
}

impl Transport for Link {
    type Sink = Sink;
    type Stream = Stream;

    async fn open(&self, peer: &Peer, protocol: Protocol) -> Result<(Sink, Stream), TransportError> {
        if peer.key == self.0.key {
            return self.open_local(protocol);
        }
        if self.0.endpoint.is_closed() {
            return Err(TransportError::Closed);
        }
        let slot = {
            let mut dialled = self.0.dialled.lock().expect("no panic under this lock");
            // Slots nobody holds and whose connection is gone go, so that the map stays as small as the
            // set of living peers.
            dialled.retain(|_, slot| {
                Arc::strong_count(slot) > 1
                    || slot.try_lock().is_ok_and(|c| c.as_ref().is_some_and(|c| c.close_reason().is_none()))
            });
            dialled.entry((peer.key, protocol)).or_default().clone()
        };
        let connection = {
            let mut held = slot.lock().await;
            match held.as_ref().filter(|c| c.close_reason().is_none()) {
                Some(connection) => connection.clone(),
                None => held.insert(self.dial(peer, protocol).await?).clone(),
            }
        };
        let (send, recv) =
            connection.open_bi().await.map_err(|e| TransportError::Unreachable(peer.key, e.to_string()))?;
        Ok(quic(send, recv))
    }
}

impl Listener {
    /// The next stream; `None` once the link is closed.
    pub async fn accept(&mut self) -> Option<Incoming<Sink, Stream>> {
        self.0.recv().await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_address_of_a_relay_has_a_name() {
        let scoped = std::net::SocketAddrV6::new("fe80::1".parse().unwrap(), 4435, 0, 3);
        assert_eq!(url(scoped.into()).to_string(), "http://[fe80::1]:4435/");
        assert_eq!(url("203.0.113.9:4435".parse().unwrap()).to_string(), "http://203.0.113.9:4435/");
    }
}
