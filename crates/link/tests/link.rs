//! Show that two links talk, know each other's key, and bound what they take.

#![allow(clippy::disallowed_methods, reason = "each test starts a runtime of its own")]

use commonware_runtime::{Error, Sink as _, Stream as _};
use hodei_link::{Config, Link, Listener};
use hodei_types::transport::{CHAIN, NodeKey, Peer, Protocol, SHARD, Transport as _, TransportError};

async fn link(secret: u8, protocols: &[Protocol]) -> (Link, Listener, Peer) {
    let config = Config {
        secret: [secret; 32],
        bind: "127.0.0.1:0".parse().unwrap(),
        protocols: protocols.to_vec(),
        relays: vec![],
    };
    let (link, listener) = Link::bind(config).await.unwrap();
    let peer = Peer::at(link.key(), vec![link.address().unwrap()]);
    (link, listener, peer)
}

/// Answers each stream with the sender's key, then the 4 bytes it sent, until the listener ends.
async fn echo(mut listener: Listener) {
    while let Some(mut incoming) = listener.accept().await {
        tokio::spawn(async move {
            let got = incoming.stream.recv(4).await.unwrap();
            incoming.sink.send(incoming.from.0.to_vec()).await.unwrap();
            incoming.sink.send(got).await.unwrap();
        });
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn both_sides_know_the_others_key() {
    let (_server, listener, peer) = link(1, &[CHAIN, SHARD]).await;
    let (client, _none, _) = link(2, &[]).await;
    tokio::spawn(echo(listener));
    for protocol in [CHAIN, SHARD, SHARD] {
        let (mut sink, mut stream) = client.open(&peer, protocol).await.unwrap();
        sink.send(b"ping".to_vec()).await.unwrap();
        assert_eq!(stream.recv(32).await.unwrap().coalesce(), &client.key().0[..]);
        assert_eq!(stream.recv(4).await.unwrap().coalesce(), &b"ping"[..]);
        assert!(matches!(stream.recv(1).await, Err(Error::RecvFailed)), "the answer ends");
        assert!(matches!(stream.recv(1).await, Err(Error::Closed)), "a failed stream stays closed");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_key_or_protocol_is_refused() {
    let (_server, listener, peer) = link(1, &[SHARD]).await;
    let (client, _none, _) = link(2, &[]).await;
    tokio::spawn(echo(listener));
    assert!(matches!(client.open(&peer, CHAIN).await, Err(TransportError::Protocol(..))));
    // The right address with somebody else's key.
    let (_other, _listener, other) = link(3, &[SHARD]).await;
    let impostor = Peer::at(other.key, peer.addresses.clone());
    assert!(matches!(client.open(&impostor, SHARD).await, Err(TransportError::Unreachable(..))));
    let homeless = Peer::at(NodeKey([9; 32]), vec![]);
    assert!(matches!(client.open(&homeless, SHARD).await, Err(TransportError::Unreachable(..))));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_reaches_itself() {
    let (node, listener, peer) = link(1, &[SHARD]).await;
    tokio::spawn(echo(listener));
    let (mut sink, mut stream) = node.open(&peer, SHARD).await.unwrap();
    sink.send(b"self".to_vec()).await.unwrap();
    assert_eq!(stream.recv(32).await.unwrap().coalesce(), &node.key().0[..]);
    assert_eq!(stream.recv(4).await.unwrap().coalesce(), &b"self"[..]);
    assert!(stream.recv(1).await.is_err());
    assert!(matches!(node.open(&peer, CHAIN).await, Err(TransportError::Protocol(..))));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_writer_waits_for_a_slow_reader() {
    let (_server, mut listener, peer) = link(1, &[SHARD]).await;
    let (client, _none, _) = link(2, &[]).await;
    let sent = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let counter = sent.clone();
    tokio::spawn(async move {
        let (mut sink, _stream) = client.open(&peer, SHARD).await.unwrap();
        for _ in 0..256 {
            sink.send(vec![7u8; 64 * 1024]).await.unwrap();
            counter.fetch_add(64 * 1024, std::sync::atomic::Ordering::SeqCst);
        }
        std::future::pending::<()>().await;
    });
    let mut incoming = listener.accept().await.unwrap();
    let mut got = 0;
    for _ in 0..256 {
        got += incoming.stream.recv(64 * 1024).await.unwrap().len();
        let ahead = sent.load(std::sync::atomic::Ordering::SeqCst).saturating_sub(got);
        // The send window, the stream's window and one buffer in each hand.
        assert!(ahead <= 1024 * 1024 + 512 * 1024 + 128 * 1024, "{ahead} bytes are buffered");
    }
    assert_eq!(got, 16 * 1024 * 1024);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_farewell_does_not_wait_for_who_is_dead() {
    // A socket that never answers.
    let mute = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let dead = Peer::at(NodeKey([9; 32]), vec![mute.local_addr().unwrap()]);
    let dead = Peer { key: link(5, &[]).await.0.key(), ..dead };
    let (leaves, _none, _) = link(1, &[]).await;
    let (stays, _none, _) = link(2, &[]).await;
    let dial = |link: Link| {
        let dead = dead.clone();
        tokio::spawn(async move { link.open(&dead, SHARD).await.is_err() })
    };
    let (left, given_up) = (dial(leaves.clone()), dial(stays));
    tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    // Who stays gives up by itself in the end; who leaves is gone before.
    let farewell = tokio::spawn(async move { leaves.close().await });
    tokio::select! {
        biased;
        closed = farewell => closed.unwrap(),
        _ = given_up => panic!("the farewell took longer than a peer is dialled"),
    }
    assert!(left.await.unwrap());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_that_left_is_dialled_again_when_back() {
    let (server, listener, peer) = link(1, &[SHARD]).await;
    let (client, _none, _) = link(2, &[]).await;
    let task = tokio::spawn(echo(listener));
    client.open(&peer, SHARD).await.unwrap();
    server.close().await;
    task.abort();
    drop(server);
    let config = Config { secret: [1; 32], bind: peer.addresses[0], protocols: vec![SHARD], relays: vec![] };
    let mut again = Link::bind(config).await;
    while again.is_err() {
        // The old socket is released by a task of iroh's.
        tokio::task::yield_now().await;
        let config = Config { secret: [1; 32], bind: peer.addresses[0], protocols: vec![SHARD], relays: vec![] };
        again = Link::bind(config).await;
    }
    let (_server, listener) = again.unwrap();
    tokio::spawn(echo(listener));
    let (mut sink, mut stream) = client.open(&peer, SHARD).await.unwrap();
    sink.send(b"back".to_vec()).await.unwrap();
    stream.recv(32).await.unwrap();
    assert_eq!(stream.recv(4).await.unwrap().coalesce(), &b"back"[..]);
}
