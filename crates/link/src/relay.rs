//! Pass datagrams on between nodes that cannot reach each other.
//!
//! ```text
//! node behind NAT ── TCP, kept open ──► relay ◄── TCP, while it dials ── client
//!      key proven by signing a challenge      both: iroh's relay protocol in a web socket
//! ```
//! A relay for one's own network: iroh's clients speak to it, and no code of iroh's server is in it, which would
//! bring a second crypto provider and a metrics server. What is passed on is QUIC's, sealed between the two ends; a
//! relay sees their keys, addresses, sizes and times, may drop, and can neither read nor change.
//!
//! The promise: of two that exchange datagrams at least one is served, that is, [`Admission`] named it; nobody's
//! slowness holds others up; connections, bytes a second and bytes that wait are bounded. Who breaks it: many
//! addresses together may take all places; whoever is served then still keeps its own.

mod frame;
mod guest;
mod hall;

pub use hall::{Counts, Hall};

use crate::LinkError;
use frame::Hello;
use futures::future::BoxFuture;
use hodei_types::transport::NodeKey;
use http::{HeaderValue, header::SEC_WEBSOCKET_PROTOCOL};
use std::{net::SocketAddr, sync::Arc, time::Duration};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    task::JoinSet,
};
use tokio_websockets::{ServerBuilder, WebSocketStream};

/// Request, challenge and its answer must be here by then.
const HELLO: Duration = Duration::from_secs(5);
/// The longest request that is read; iroh's take some hundred bytes.
const HEAD_BYTES_MAX: usize = 4096;
/// Of iroh's protocol.
const VERSION: &str = "iroh-relay-v2";
/// What the relay is asked for to see how far it is.
const PROBE: &[u8] = b"GET /ping ";

/// Who decides whom a relay serves: those who state on the ledger that they are reached through it.
pub trait Admission: Send + Sync + 'static {
    /// Whether this node is served; `None` if that could not be found out now.
    fn serves(&self, node: NodeKey) -> BoxFuture<'static, Option<bool>>;
}

/// How much a relay gives.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Connections at once, of those who are served and of those who ask for them.
    pub connections: usize,
    /// Of them from one IPv4 address or one /64 of IPv6.
    pub connections_per_network: usize,
    /// Bytes a second one connection may send; it is read more slowly beyond.
    pub bytes_per_s: u64,
}

/// A relay that listens.
pub struct Relay {
    listener: TcpListener,
    hall: Arc<Hall>,
}

impl Relay {
    /// Binds one TCP socket; serves nobody before [`Relay::run`].
    pub async fn bind(listen: SocketAddr, limits: Limits, admission: Arc<dyn Admission>) -> Result<Self, LinkError> {
        let bound = TcpListener::bind(listen).await;
        let listener = bound.map_err(|error| LinkError::Bind(listen, error.to_string()))?;
        Ok(Self { listener, hall: Arc::new(Hall::new(limits, admission)) })
    }

    /// The bound socket, with the port the system chose.
    pub fn address(&self) -> Option<SocketAddr> {
        self.listener.local_addr().ok()
    }

    /// What it did since it began.
    pub fn hall(&self) -> Arc<Hall> {
        self.hall.clone()
    }

    /// Serves until dropped; all connections end with it.
    pub async fn run(self) {
        let mut open = JoinSet::new();
        loop {
            let accepted = tokio::select! {
                accepted = self.listener.accept() => accepted,
                // Tasks that ended give their memory back.
                Some(_) = open.join_next(), if !open.is_empty() => continue,
            };
            let Ok((socket, from)) = accepted else {
                // File descriptors ran out, or the connection went away: others may end meanwhile.
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            };
            // Whoever finds no place is not even read from.
            let Some(place) = self.hall.place(from.ip()) else { continue };
            let hall = self.hall.clone();
            open.spawn(async move {
                let Ok(Some((key, socket))) = tokio::time::timeout(HELLO, hello(socket)).await else { return };
                guest::attend(hall, key, socket).await;
                drop(place);
            });
        }
    }
}

/// Answers a probe, or opens the web socket and has the node prove its key.
async fn hello(mut socket: TcpStream) -> Option<(NodeKey, WebSocketStream<TcpStream>)> {
    socket.set_nodelay(true).ok()?;
    let head = head(&socket).await?;
    if head.starts_with(PROBE) {
        let mut read = vec![0; head.len()];
        socket.read_exact(&mut read).await.ok()?;
        socket.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").await.ok()?;
        return None;
    }
    let limits = tokio_websockets::Limits::default().max_payload_len(Some(frame::FRAME_BYTES_MAX));
    let builder = ServerBuilder::new().limits(limits);
    let builder = builder.add_header(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(VERSION)).ok()?;
    let (request, mut socket) = builder.accept(socket).await.ok()?;
    let offered = request.headers().get(SEC_WEBSOCKET_PROTOCOL)?.to_str().ok()?;
    if request.uri().path() != "/relay" || !offered.split(',').any(|version| version.trim() == VERSION) {
        return None;
    }
    let hello = Hello::new()?;
    frame::send(&mut socket, hello.challenge()).await?;
    match hello.key(&frame::next(&mut socket).await?) {
        Some(key) => {
            frame::send(&mut socket, frame::welcome()).await?;
            Some((key, socket))
        }
        None => {
            frame::send(&mut socket, frame::refusal("the challenge is not signed by that key")).await?;
            None
        }
    }
}

/// The request's head, which stays in the socket; `None` if it is too long.
async fn head(socket: &TcpStream) -> Option<Vec<u8>> {
    let mut head = vec![0; HEAD_BYTES_MAX];
    loop {
        let read = socket.peek(&mut head).await.ok()?;
        if let Some(end) = head[..read].windows(4).position(|four| four == b"\r\n\r\n") {
            head.truncate(end + 4);
            return Some(head);
        }
        if read == 0 || read == head.len() {
            return None;
        }
        // What was peeked at stays readable: only time tells whether more came.
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
