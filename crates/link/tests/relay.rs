//! Show that a node whom no address reaches is reached through a relay, and by whom.

#![allow(clippy::disallowed_methods, reason = "each test starts a runtime of its own")]

use commonware_runtime::{Sink as _, Stream as _};
use futures::future::BoxFuture;
use hodei_link::{
    Config, Link, Listener,
    relay::{Admission, Hall, Limits, Relay},
};
use hodei_types::transport::{NodeKey, Peer, SHARD, Transport as _};
use std::{
    collections::BTreeSet,
    net::SocketAddr,
    sync::{Arc, Mutex},
};

/// A provider's sockets are IPv6, a client's IPv4: no packet finds a way between them but through a relay, whom
/// both reach over TCP.
const HIDDEN: &str = "[::1]:0";
const OPEN: &str = "127.0.0.1:0";

/// Whom the played ledger has.
#[derive(Clone, Default)]
struct Listed(Arc<Mutex<BTreeSet<NodeKey>>>);

impl Admission for Listed {
    fn serves(&self, node: NodeKey) -> BoxFuture<'static, Option<bool>> {
        let found = self.0.lock().unwrap().contains(&node);
        Box::pin(async move { Some(found) })
    }
}

fn limits() -> Limits {
    Limits { connections: 16, connections_per_network: 8, bytes_per_s: 64 << 20 }
}

async fn relay(listed: &Listed, limits: Limits) -> (SocketAddr, Arc<Hall>) {
    let relay = Relay::bind(OPEN.parse().unwrap(), limits, Arc::new(listed.clone())).await.unwrap();
    let (address, hall) = (relay.address().unwrap(), relay.hall());
    tokio::spawn(relay.run());
    (address, hall)
}

async fn link(secret: u8, bind: &str, relays: &[SocketAddr]) -> (Link, Listener) {
    let (bind, relays) = (bind.parse().unwrap(), relays.to_vec());
    Link::bind(Config { secret: [secret; 32], bind, protocols: vec![SHARD], relays }).await.unwrap()
}

/// Sends back what comes, 64 KiB at a time.
async fn echo(mut listener: Listener) {
    while let Some(mut incoming) = listener.accept().await {
        tokio::spawn(async move {
            while let Ok(got) = incoming.stream.recv(PIECE).await {
                if incoming.sink.send(got).await.is_err() {
                    return;
                }
            }
        });
    }
}

const PIECE: usize = 64 * 1024;

/// Dials until the peer answers: it needs a moment to find its relay.
async fn dialled(client: &Link, peer: &Peer) -> (hodei_link::Sink, hodei_link::Stream) {
    loop {
        if let Ok(open) = client.open(peer, SHARD).await {
            return open;
        }
    }
}

async fn there_and_back(open: &mut (hodei_link::Sink, hodei_link::Stream), pieces: usize) {
    for piece in 0..pieces {
        let sent = vec![piece as u8; PIECE];
        open.0.send(sent.clone()).await.unwrap();
        assert_eq!(open.1.recv(PIECE).await.unwrap().coalesce(), &sent[..]);
    }
}

async fn connected(hall: &Hall, count: usize) {
    while hall.counts().connected < count {
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whom_no_address_reaches_is_reached_through_its_relay() {
    let listed = Listed::default();
    let (at, hall) = relay(&listed, limits()).await;
    let (provider, listener) = link(1, HIDDEN, &[at]).await;
    listed.0.lock().unwrap().insert(provider.key());
    tokio::spawn(echo(listener));
    let (client, _none) = link(2, OPEN, &[]).await;

    let direct = Peer::at(provider.key(), vec![provider.address().unwrap()]);
    assert!(client.open(&direct, SHARD).await.is_err(), "the addresses are of two families");
    let peer = Peer { relays: vec![at], ..Peer::at(provider.key(), vec![]) };
    let mut open = dialled(&client, &peer).await;
    assert!(provider.is_at(at) && !client.is_at(at), "the client is there only while it asks");
    there_and_back(&mut open, 32).await;
    let counts = hall.counts();
    assert!(counts.bytes > 2 * 32 * PIECE as u64, "all of it went through the relay: {counts:?}");
    assert_eq!((counts.connected, counts.served), (2, 1), "the client is nobody whom the ledger has");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_relay_serves_nobody_else() {
    let listed = Listed::default();
    let (at, hall) = relay(&listed, limits()).await;
    let (provider, listener) = link(1, HIDDEN, &[at]).await;
    tokio::spawn(echo(listener));
    let (client, _none) = link(2, OPEN, &[]).await;
    let peer = Peer { relays: vec![at], ..Peer::at(provider.key(), vec![]) };
    connected(&hall, 1).await;
    assert!(client.open(&peer, SHARD).await.is_err());
    let counts = hall.counts();
    assert_eq!((counts.bytes, counts.served), (0, 0));
    assert!(counts.dropped > 0, "it was asked: {counts:?}");
    // Once the ledger has it, the same connections do.
    listed.0.lock().unwrap().insert(provider.key());
    there_and_back(&mut dialled(&client, &peer).await, 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_there_is_a_direct_path_it_is_taken() {
    let listed = Listed::default();
    let (at, hall) = relay(&listed, limits()).await;
    let (provider, listener) = link(1, OPEN, &[at]).await;
    listed.0.lock().unwrap().insert(provider.key());
    tokio::spawn(echo(listener));
    let (client, _none) = link(2, OPEN, &[]).await;
    // Only the relay is named: the two tell each other of their sockets through it.
    let peer = Peer { relays: vec![at], ..Peer::at(provider.key(), vec![]) };
    let mut open = dialled(&client, &peer).await;
    loop {
        let before = hall.counts().bytes;
        there_and_back(&mut open, 16).await;
        if hall.counts().bytes - before < PIECE as u64 {
            return;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_relay_that_comes_back_is_found_again() {
    let listed = Listed::default();
    let first = Relay::bind(OPEN.parse().unwrap(), limits(), Arc::new(listed.clone())).await.unwrap();
    let (at, hall) = (first.address().unwrap(), first.hall());
    let running = tokio::spawn(first.run());
    let (provider, listener) = link(1, HIDDEN, &[at]).await;
    listed.0.lock().unwrap().insert(provider.key());
    tokio::spawn(echo(listener));
    connected(&hall, 1).await;
    running.abort();
    _ = running.await;
    let second = loop {
        if let Ok(relay) = Relay::bind(at, limits(), Arc::new(listed.clone())).await {
            break relay;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    };
    tokio::spawn(second.run());
    let (client, _none) = link(2, OPEN, &[]).await;
    let peer = Peer { relays: vec![at], ..Peer::at(provider.key(), vec![]) };
    there_and_back(&mut dialled(&client, &peer).await, 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn places_are_bounded_and_given_back() {
    use tokio::io::AsyncReadExt as _;
    let listed = Listed::default();
    let few = Limits { connections_per_network: 2, ..limits() };
    let (at, _hall) = relay(&listed, few).await;
    let mut held = Vec::new();
    for _ in 0..2 {
        held.push(tokio::net::TcpStream::connect(at).await.unwrap());
    }
    // Two that say nothing have all places of this network: a third is closed at once, they are not yet.
    let mut third = tokio::net::TcpStream::connect(at).await.unwrap();
    assert!(matches!(third.read(&mut [0; 1]).await, Ok(0) | Err(_)));
    // They are sent away for saying nothing, and somebody else finds a place.
    for mut silent in held {
        assert!(matches!(silent.read(&mut [0; 1]).await, Ok(0) | Err(_)));
    }
    let (provider, listener) = link(1, HIDDEN, &[at]).await;
    listed.0.lock().unwrap().insert(provider.key());
    tokio::spawn(echo(listener));
    let (client, _none) = link(2, OPEN, &[]).await;
    let peer = Peer { relays: vec![at], ..Peer::at(provider.key(), vec![]) };
    there_and_back(&mut dialled(&client, &peer).await, 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nonsense_is_sent_away() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let (at, hall) = relay(&Listed::default(), limits()).await;
    let long = format!("GET /relay HTTP/1.1\r\nX: {}\r\n\r\n", "x".repeat(8192));
    for said in ["GET / HTTP/1.1\r\n\r\n", "\r\n\r\n", "POST /relay HTTP/1.1\r\nHost: a\r\n\r\n", &long] {
        let mut socket = tokio::net::TcpStream::connect(at).await.unwrap();
        // What is too long may be cut off while it is written.
        _ = socket.write_all(said.as_bytes()).await;
        let mut answer = Vec::new();
        _ = socket.read_to_end(&mut answer).await;
        assert!(!answer.starts_with(b"HTTP/1.1 101") && !answer.starts_with(b"HTTP/1.1 200"), "{said:.20}");
    }
    assert_eq!(hall.counts().connected, 0);
}
