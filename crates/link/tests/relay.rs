//! Show that a node whom no address reaches is reached through a relay, and by whom.

#![allow(clippy::disallowed_methods, reason = "each test starts a runtime of its own")]

use commonware_runtime::{Sink as _, Stream as _};
use futures::future::BoxFuture;
use hodei_link::{
    Config, Link, Listener,
    relay::{Admission, Hall, Limits, Relay},
};
use hodei_types::transport::{NodeKey, Peer, SHARD, Transport as _};
use iroh::SecretKey;
use std::{
    collections::BTreeSet,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
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

/// The same ledger, which at some time stops answering.
#[derive(Clone, Default)]
struct Stuck(Listed, Arc<AtomicBool>);

impl Admission for Stuck {
    fn serves(&self, node: NodeKey) -> BoxFuture<'static, Option<bool>> {
        if self.1.load(Ordering::Relaxed) { Box::pin(std::future::pending()) } else { self.0.serves(node) }
    }
}

fn limits() -> Limits {
    Limits { connections: 16, connections_per_network: 8, bytes_per_s: 64 << 20 }
}

async fn relay(ledger: &(impl Admission + Clone), limits: Limits) -> (SocketAddr, Arc<Hall>) {
    let relay = Relay::bind(OPEN.parse().unwrap(), limits, Arc::new(ledger.clone())).await.unwrap();
    let (address, hall) = (relay.address().unwrap(), relay.hall());
    tokio::spawn(relay.run());
    (address, hall)
}

async fn link(secret: u8, bind: &str, relays: &[SocketAddr]) -> (Link, Listener) {
    let (bind, relays) = (bind.parse().unwrap(), relays.to_vec());
    Link::bind(Config { secret: [secret; 32], bind, protocols: vec![SHARD], relays }).await.unwrap()
}

/// A node that the ledger names and that sends back what comes.
async fn provider(listed: &Listed, bind: &str, relays: &[SocketAddr]) -> Link {
    let (provider, listener) = link(1, bind, relays).await;
    listed.0.lock().unwrap().insert(provider.key());
    tokio::spawn(echo(listener));
    provider
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
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whom_no_address_reaches_is_reached_through_its_relay() {
    let listed = Listed::default();
    let (at, hall) = relay(&listed, limits()).await;
    let provider = provider(&listed, HIDDEN, &[at]).await;
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
    let provider = provider(&listed, OPEN, &[at]).await;
    let (client, _none) = link(2, OPEN, &[]).await;
    // Only the relay is named: the two tell each other of their sockets through it.
    let peer = Peer { relays: vec![at], ..Peer::at(provider.key(), vec![]) };
    let mut open = dialled(&client, &peer).await;
    // Until the two have tried each other's sockets the relay still passes on.
    for _ in 0..ROUNDS {
        let before = hall.counts().bytes;
        there_and_back(&mut open, 16).await;
        if hall.counts().bytes - before < PIECE as u64 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("after {ROUNDS} rounds it still goes through the relay: {:?}", hall.counts());
}

/// Of a MiB each way, and a rest: far more than the few round trips that finding a path takes.
const ROUNDS: usize = 500;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_programs_under_one_key_are_both_served() {
    let listed = Listed::default();
    let (at, hall) = relay(&listed, limits()).await;
    let provider = provider(&listed, HIDDEN, &[at]).await;
    let peer = Peer { relays: vec![at], ..Peer::at(provider.key(), vec![]) };
    let (older, _none) = link(2, OPEN, &[]).await;
    let (newer, _none) = link(2, OPEN, &[]).await;
    let mut by_older = dialled(&older, &peer).await;
    there_and_back(&mut by_older, 4).await;
    let mut by_newer = dialled(&newer, &peer).await;
    // By turns, on the streams they have: neither is put out, and each hears its answers.
    for _ in 0..4 {
        there_and_back(&mut by_newer, 4).await;
        there_and_back(&mut by_older, 4).await;
    }
    assert_eq!(hall.counts().connected, 2, "the provider's key, and that of both");
    drop(by_newer);
    newer.close().await;
    there_and_back(&mut by_older, 4).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_comes_back_is_served_though_the_ledger_hangs() {
    let ledger = Stuck::default();
    let (at, hall) = relay(&ledger, limits()).await;
    let provider = provider(&ledger.0, HIDDEN, &[at]).await;
    let (client, _none) = link(2, OPEN, &[]).await;
    let peer = Peer { relays: vec![at], ..Peer::at(provider.key(), vec![]) };
    there_and_back(&mut dialled(&client, &peer).await, 1).await;
    ledger.1.store(true, Ordering::Relaxed);
    provider.close().await;
    while hall.counts().served > 0 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let (_provider, listener) = link(1, HIDDEN, &[at]).await;
    tokio::spawn(echo(listener));
    // The other may take its dead connection for alive a while yet.
    let (another, _none) = link(3, OPEN, &[]).await;
    there_and_back(&mut dialled(&another, &peer).await, 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_whose_relay_is_gone_moves_to_another() {
    let listed = Listed::default();
    let mut relays = Vec::new();
    for _ in 0..2 {
        let relay = Relay::bind(OPEN.parse().unwrap(), limits(), Arc::new(listed.clone())).await.unwrap();
        relays.push((relay.address().unwrap(), tokio::spawn(relay.run())));
    }
    let named: Vec<SocketAddr> = relays.iter().map(|(at, _)| *at).collect();
    let provider = provider(&listed, HIDDEN, &named).await;
    let its_own = async || loop {
        if let Some(at) = (0..2).find(|at| provider.is_at(named[*at])) {
            return at;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    let first = its_own().await;
    let (_, running) = relays.swap_remove(first);
    running.abort();
    _ = running.await;
    while !provider.is_at(named[1 - first]) {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let (client, _none) = link(2, OPEN, &[]).await;
    let peer = Peer { relays: named, ..Peer::at(provider.key(), vec![]) };
    there_and_back(&mut dialled(&client, &peer).await, 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_relay_that_comes_back_is_found_again() {
    let listed = Listed::default();
    let first = Relay::bind(OPEN.parse().unwrap(), limits(), Arc::new(listed.clone())).await.unwrap();
    let (at, hall) = (first.address().unwrap(), first.hall());
    let running = tokio::spawn(first.run());
    let provider = provider(&listed, HIDDEN, &[at]).await;
    connected(&hall, 1).await;
    running.abort();
    _ = running.await;
    let second = loop {
        if let Ok(relay) = Relay::bind(at, limits(), Arc::new(listed.clone())).await {
            break relay;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    tokio::spawn(second.run());
    let (client, _none) = link(2, OPEN, &[]).await;
    let peer = Peer { relays: vec![at], ..Peer::at(provider.key(), vec![]) };
    there_and_back(&mut dialled(&client, &peer).await, 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn places_are_bounded_and_given_back() {
    let listed = Listed::default();
    let few = Limits { connections_per_network: 2, ..limits() };
    let (at, _hall) = relay(&listed, few).await;
    let mut held = Vec::new();
    for _ in 0..2 {
        held.push(TcpStream::connect(at).await.unwrap());
    }
    // Two that say nothing have all places of this network: a third is closed at once, before they are.
    let mut third = TcpStream::connect(at).await.unwrap();
    let read = tokio::time::timeout(Duration::from_secs(3), third.read(&mut [0; 1])).await;
    assert!(matches!(read.expect("closed at once"), Ok(0) | Err(_)));
    // They are sent away for saying nothing, and somebody else finds a place.
    for mut silent in held {
        assert!(matches!(silent.read(&mut [0; 1]).await, Ok(0) | Err(_)));
    }
    let provider = provider(&listed, HIDDEN, &[at]).await;
    let (client, _none) = link(2, OPEN, &[]).await;
    let peer = Peer { relays: vec![at], ..Peer::at(provider.key(), vec![]) };
    there_and_back(&mut dialled(&client, &peer).await, 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nonsense_is_sent_away() {
    let (at, hall) = relay(&Listed::default(), limits()).await;
    let long = format!("GET /relay HTTP/1.1\r\nX: {}\r\n\r\n", "x".repeat(8192));
    for said in ["GET / HTTP/1.1\r\n\r\n", "\r\n\r\n", "POST /relay HTTP/1.1\r\nHost: a\r\n\r\n", &long] {
        let mut socket = TcpStream::connect(at).await.unwrap();
        // What is too long may be cut off while it is written.
        _ = socket.write_all(said.as_bytes()).await;
        let mut answer = Vec::new();
        _ = socket.read_to_end(&mut answer).await;
        assert!(!answer.starts_with(b"HTTP/1.1 101") && !answer.starts_with(b"HTTP/1.1 200"), "{said:.20}");
    }
    assert_eq!(hall.counts().connected, 0);
}

/// A web socket to a relay, opened by hand, and its challenge.
async fn opened(at: SocketAddr) -> (TcpStream, [u8; 16]) {
    let mut socket = TcpStream::connect(at).await.unwrap();
    let request = "GET /relay HTTP/1.1\r\nHost: relay\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
        Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\
        Sec-WebSocket-Protocol: iroh-relay-v2\r\n\r\n";
    socket.write_all(request.as_bytes()).await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(socket.read_u8().await.unwrap());
    }
    assert!(head.starts_with(b"HTTP/1.1 101"), "{}", String::from_utf8_lossy(&head));
    let mut frame = [0; 19];
    socket.read_exact(&mut frame).await.unwrap();
    assert_eq!(frame[..3], [0x82, 17, 0], "a binary message of a challenge");
    (socket, frame[3..].try_into().unwrap())
}

const TEXT: u8 = 1;
const BINARY: u8 = 2;
const PING: u8 = 9;

/// A client's message, masked by zeros.
fn message(kind: u8, contents: &[u8]) -> Vec<u8> {
    let mut out = vec![0x80 | kind];
    match u16::try_from(contents.len()) {
        Ok(short @ 0..126) => out.push(0x80 | short as u8),
        Ok(long) => out.extend([&[0xfe][..], &long.to_be_bytes()].concat()),
        Err(_) => out.extend([&[0xff][..], &(contents.len() as u64).to_be_bytes()].concat()),
    }
    out.extend([0; 4]);
    out.extend(contents);
    out
}

/// The answer to a challenge, by whom, over what was signed.
fn answer(by: &SecretKey, signed: &[u8]) -> Vec<u8> {
    let signature = by.sign(&blake3::derive_key("iroh-relay handshake v1 challenge signature", signed)).to_bytes();
    message(BINARY, &[&[1][..], by.public().as_bytes(), &[64], &signature].concat())
}

/// All that a relay still says, to the end.
async fn rest(mut socket: TcpStream) -> Vec<u8> {
    let mut said = Vec::new();
    // It may be cut off while something is on its way to the relay.
    _ = socket.read_to_end(&mut said).await;
    said
}

fn has(said: &[u8], what: &[u8]) -> bool {
    said.windows(what.len()).any(|window| window == what)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nonsense_in_a_web_socket_is_sent_away() {
    let listed = Listed::default();
    let (at, hall) = relay(&listed, limits()).await;
    let key = SecretKey::from_bytes(&[9; 32]);
    let welcome = [0x82, 1, 2];
    // Before the key is proven: the right answer behind it comes too late.
    let early = [answer(&key, &[0; 16]), message(TEXT, b"here"), message(PING, b"here"), message(BINARY, &[1; 65])];
    for nonsense in early {
        let (mut socket, challenge) = opened(at).await;
        let said = [nonsense.clone(), answer(&key, &challenge)].concat();
        _ = socket.write_all(&said).await;
        assert!(!has(&rest(socket).await, &welcome), "{nonsense:?}");
    }
    // And after: a question behind it is not answered any more.
    let late = [
        message(TEXT, b"here"),
        message(PING, b"here"),
        message(BINARY, &[200; 9]),
        message(BINARY, &[]),
        message(BINARY, &vec![4; 65 * 1024]),
    ];
    let question = message(BINARY, &[&[9][..], &[7; 8]].concat());
    let answered = [&[0x82, 9, 10][..], &[7; 8]].concat();
    for nonsense in [vec![]].into_iter().chain(late) {
        let (mut socket, challenge) = opened(at).await;
        socket.write_all(&answer(&key, &challenge)).await.unwrap();
        let mut welcomed = [0; 3];
        socket.read_exact(&mut welcomed).await.unwrap();
        assert_eq!(welcomed, welcome);
        _ = socket.write_all(&[&nonsense[..], &question].concat()).await;
        if nonsense.is_empty() {
            let mut said = Vec::new();
            while !has(&said, &answered) {
                said.push(socket.read_u8().await.expect("a node that makes sense is answered"));
            }
            continue;
        }
        assert!(!has(&rest(socket).await, &answered), "{:?}", &nonsense[..nonsense.len().min(20)]);
    }
    while hall.counts().connected > 0 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let provider = provider(&listed, HIDDEN, &[at]).await;
    let (client, _none) = link(2, OPEN, &[]).await;
    let peer = Peer { relays: vec![at], ..Peer::at(provider.key(), vec![]) };
    there_and_back(&mut dialled(&client, &peer).await, 1).await;
}
