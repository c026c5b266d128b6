//! Carry connections between containers of one owner, over the link.
//!
//! ```text
//! a container ─ tcp ─► its host ═ Connect, Bytes…, End ═► the other's host ─ tcp ─► the other container
//! ```
//! Upon Connect: the asking node must hold a running lease of the same owner, by the ledger. Each side reads on only once
//! what it read was taken, so that little is ever under way. Whoever has no more to say says so, and hears on.

use super::{
    Host,
    replica::{BUSY_MS, Replica, give},
    serve::refused,
};
use commonware_runtime::{Sink, Storage, Stream};
use hodei_ledger::wire::{receive, send};
use hodei_types::{
    app::wire::{Answer, CHUNK_BYTES_MAX, FRAME_BYTES_MAX, Request},
    transport::NodeKey,
};
use std::time::Duration;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{
        TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    time::Instant,
};

/// So long an answer to Connect may take to be accepted.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// Read from a container at once.
const PIECE_BYTES: usize = 16 << 10;

/// One side's words on the wire.
pub(super) trait Side {
    const END: fn() -> Vec<u8>;
    fn say(bytes: Vec<u8>) -> Vec<u8>;
    /// What the other side said: bytes, none where it has no more, or something else.
    fn hear(frame: &[u8]) -> Result<Option<Vec<u8>>, String>;
}

/// Of who asked for the connection.
pub(super) struct Asker;

/// Of who has the container.
pub(super) struct Asked;

impl Side for Asker {
    const END: fn() -> Vec<u8> = || Request::End.encode();

    fn say(bytes: Vec<u8>) -> Vec<u8> {
        Request::Bytes(bytes).encode()
    }

    fn hear(frame: &[u8]) -> Result<Option<Vec<u8>>, String> {
        match Answer::decode(frame) {
            Ok(Answer::Bytes(bytes)) => Ok(Some(bytes)),
            Ok(Answer::End) => Ok(None),
            Ok(_) => Err("something else than a connection's bytes".into()),
            Err(error) => Err(error.to_string()),
        }
    }
}

impl Side for Asked {
    const END: fn() -> Vec<u8> = || Answer::End.encode();

    fn say(bytes: Vec<u8>) -> Vec<u8> {
        Answer::Bytes(bytes).encode()
    }

    fn hear(frame: &[u8]) -> Result<Option<Vec<u8>>, String> {
        match Request::decode(frame) {
            Ok(Request::Bytes(bytes)) => Ok(Some(bytes)),
            Ok(Request::End) => Ok(None),
            Ok(_) => Err("something else than a connection's bytes".into()),
            Err(error) => Err(error.to_string()),
        }
    }
}

impl<E: Storage> Host<E> {
    /// Connects a container of another host of the same owner to one of this host.
    pub(super) async fn connect<Si: Sink, St: Stream>(
        &self,
        from: NodeKey,
        (lease, app, port): (u64, NodeKey, u16),
        mut sink: Si,
        stream: St,
    ) {
        let Some(replica) = self.leased(lease).await else {
            give(&mut sink, &Answer::Gone, Instant::now() + ANSWER_TIMEOUT).await;
            return;
        };
        if replica.viewer().is_some_and(|viewer| viewer != app) {
            give(&mut sink, &Answer::Gone, Instant::now() + ANSWER_TIMEOUT).await;
            return;
        }
        let refusal = match self.has_lease(from, |lease| lease.owner == replica.owner).await {
            Ok(true) => None,
            Ok(false) => Some(refused("the ledger knows no running lease of this app's owner on the asking node")),
            Err(error) => {
                tracing::warn!(%error, "the ledger was not asked about another host");
                Some(Answer::Busy { retry_after_ms: BUSY_MS })
            }
        };
        let place = replica.contained.connection();
        let refusal = refusal.or_else(|| place.is_none().then_some(Answer::Busy { retry_after_ms: BUSY_MS }));
        let socket = match (refusal, replica.contained.running()) {
            (Some(answer), _) => Err(answer),
            (None, None) => Err(replica.not_ready()),
            (None, Some(running)) => {
                running.connect(port).await.map_err(|error| Answer::NotReady { words: format!("port {port}: {error}") })
            }
        };
        let socket = match socket {
            Ok(socket) => socket,
            Err(answer) => {
                give(&mut sink, &answer, Instant::now() + ANSWER_TIMEOUT).await;
                return;
            }
        };
        if give(&mut sink, &Answer::Connected, Instant::now() + ANSWER_TIMEOUT).await {
            self.carry::<Asked, _, _>(&replica, socket, sink, stream).await;
        }
    }

    /// Carries a connection until both sides have no more to say, or the replica or this program ends.
    pub(super) async fn carry<Of: Side, Si: Sink, St: Stream>(
        &self,
        replica: &Replica,
        socket: TcpStream,
        sink: Si,
        stream: St,
    ) {
        let mut stop = self.0.parts.stop.clone();
        let _ = socket.set_nodelay(true);
        let (read, write) = socket.into_split();
        let both = async { tokio::try_join!(out::<Of, _>(replica, read, sink), into::<Of, _>(replica, stream, write)) };
        tokio::select! {
            ended = both => if let Err(words) = ended {
                tracing::debug!(lease = replica.lease, words, "a connection of a container broke");
            },
            () = replica.ended() => {}
            _ = stop.wait_for(|stop| *stop) => {}
        }
    }
}

async fn out<Of: Side, Si: Sink>(replica: &Replica, mut read: OwnedReadHalf, mut sink: Si) -> Result<(), String> {
    let mut piece = vec![0; PIECE_BYTES.min(CHUNK_BYTES_MAX)];
    loop {
        let length = read.read(&mut piece).await.map_err(|error| error.to_string())?;
        let frame = if length == 0 { (Of::END)() } else { Of::say(piece[..length].to_vec()) };
        send(&mut sink, frame).await.map_err(|error| error.to_string())?;
        if length == 0 {
            return Ok(());
        }
        replica.count_bytes(0, length as u64, 0);
    }
}

async fn into<Of: Side, St: Stream>(
    replica: &Replica,
    mut stream: St,
    mut write: OwnedWriteHalf,
) -> Result<(), String> {
    loop {
        let frame = receive(&mut stream, FRAME_BYTES_MAX).await.map_err(|error| error.to_string())?;
        let Some(bytes) = Of::hear(&frame)? else {
            return write.shutdown().await.map_err(|error| error.to_string());
        };
        write.write_all(&bytes).await.map_err(|error| error.to_string())?;
        replica.count_bytes(bytes.len() as u64, 0, 0);
    }
}
