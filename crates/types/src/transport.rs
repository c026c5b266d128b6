//! Open an authenticated stream to a peer by its public key.
//!
//! `link` implements this over iroh and TLS tunnels, `sim` in memory. A stream is one request: the opener
//! writes the protocol's first frame, both sides close when done.

use commonware_runtime::{Sink, Stream};
use std::{future::Future, net::SocketAddr};

/// A node's Ed25519 public key: its identity on the wire and in the `providers` module.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeKey(pub [u8; 32]);

impl std::fmt::Debug for NodeKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{self}")
    }
}

impl std::fmt::Display for NodeKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

/// Where a node is reached: its key, and the addresses it registered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    pub key: NodeKey,
    pub addresses: Vec<SocketAddr>,
    /// Relays that pass on what is sent to it, for who stands behind an address translator; over TCP.
    pub relays: Vec<SocketAddr>,
}

impl Peer {
    /// One that is reached directly.
    pub fn at(key: NodeKey, addresses: Vec<SocketAddr>) -> Self {
        Self { key, addresses, relays: Vec::new() }
    }
}

/// Under which addresses others reach a node, as the `providers` module keeps it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reach {
    /// UDP sockets of its own.
    pub addresses: Vec<SocketAddr>,
    /// TCP sockets of relays; none where it is reached directly.
    pub relays: Vec<SocketAddr>,
}

impl Reach {
    /// Neither an address of its own nor a relay.
    pub fn is_empty(&self) -> bool {
        self.addresses.is_empty() && self.relays.is_empty()
    }
}

/// The application protocol a stream speaks, as ALPN.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Protocol(pub &'static str);

/// Light clients and nodes following the chain.
pub const CHAIN: Protocol = Protocol("hodei/chain/1");
/// Shards between a client and a provider.
pub const SHARD: Protocol = Protocol("hodei/shard/1");
/// Shards between readers of one bucket.
pub const CROWD: Protocol = Protocol("hodei/crowd/1");
/// A device of an app and the door of its publisher's pool.
pub const POOL: Protocol = Protocol("hodei/pool/1");
/// A host of compute, and who gives it what to run or asks that.
pub const APP: Protocol = Protocol("hodei/app/1");

/// Why a stream could not be opened.
#[derive(Clone, Debug, thiserror::Error)]
pub enum TransportError {
    #[error("peer {0} could not be reached: {1}")]
    Unreachable(NodeKey, String),
    #[error("peer {0} does not speak {1}")]
    Protocol(NodeKey, &'static str),
    #[error("this node is shutting down")]
    Closed,
}

/// The door to the wire, for those who dial.
pub trait Transport: Clone + Send + Sync + 'static {
    type Sink: Sink;
    type Stream: Stream;

    /// Opens one bidirectional stream to `peer`; its key is authenticated before this returns.
    fn open(
        &self,
        peer: &Peer,
        protocol: Protocol,
    ) -> impl Future<Output = Result<(Self::Sink, Self::Stream), TransportError>> + Send;
}

/// A stream somebody opened to us.
pub struct Incoming<Si, St> {
    pub from: NodeKey,
    pub protocol: Protocol,
    pub sink: Si,
    pub stream: St,
}
