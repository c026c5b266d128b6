//! Attend to one node that is connected to a relay.

use super::{
    frame::{self, Said},
    hall::{Hall, Waiting},
};
use bytes::Bytes;
use futures::{SinkExt as _, StreamExt as _, stream::SplitSink};
use hodei_types::transport::NodeKey;
use std::{sync::Arc, time::Duration};
use tokio::{
    net::TcpStream,
    sync::mpsc,
    time::{Instant, MissedTickBehavior},
};
use tokio_websockets::{Message, WebSocketStream};

/// The relay asks whether somebody is still there.
const PING: Duration = Duration::from_secs(15);
/// Who said nothing for so long is gone.
const SILENT: Duration = Duration::from_secs(40);
/// Who takes nothing for so long is gone.
const WRITE: Duration = Duration::from_secs(5);
/// What may be sent at once before the rate counts.
const BURST: Duration = Duration::from_millis(250);
/// Answers that wait to be written; a node that asks faster than it reads gets no more.
const ANSWERS: usize = 4;
/// What a frame costs beside its contents, in bytes: many short ones are work too.
const FRAME: usize = 128;

/// Reads from and writes to one node until it is gone, or too many came under its key after it.
pub(super) async fn attend(hall: Arc<Hall>, key: NodeKey, socket: WebSocketStream<TcpStream>) {
    let (connection, waiting) = hall.enter(key);
    let _left = Left(hall.clone(), key, connection);
    let (sink, mut stream) = socket.split();
    let (answers, answered) = mpsc::channel(ANSWERS);
    let read = async {
        let mut pace = Pace::new(hall.limits.bytes_per_s);
        while let Ok(Some(next)) = tokio::time::timeout(SILENT, frame::next(&mut stream)).await {
            let length = next.len();
            match frame::said(next) {
                Some(Said::Ping(payload)) => _ = answers.try_send(frame::pong(payload)),
                Some(Said::Pong) => {}
                Some(Said::Datagrams { to, is_batch, rest }) => {
                    hall.pass((key, connection), to, frame::datagrams(key, is_batch, &rest));
                }
                None => return,
            }
            pace.wait(length + FRAME).await;
        }
    };
    tokio::select! {
        () = read => {}
        _ = write(sink, waiting, answered) => {}
    }
}

/// A connection that ends takes its node out of the hall, however it ends.
struct Left(Arc<Hall>, NodeKey, u64);

impl Drop for Left {
    fn drop(&mut self) {
        self.0.leave(self.1, self.2);
    }
}

/// Writes what waits for the node, and asks now and then whether it is there. `None` when it is not.
async fn write(
    mut sink: SplitSink<WebSocketStream<TcpStream>, Message>,
    mut waiting: Waiting,
    mut answers: mpsc::Receiver<Bytes>,
) -> Option<()> {
    let mut ping = tokio::time::interval(PING);
    ping.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let frame = tokio::select! {
            frame = waiting.next() => frame?,
            frame = answers.recv() => frame?,
            _ = ping.tick() => frame::ping([0; 8]),
        };
        tokio::time::timeout(WRITE, sink.send(Message::binary(frame))).await.ok()?.ok()?;
    }
}

/// How fast one node is read from.
struct Pace {
    bytes_per_s: u64,
    /// When what was read so far is paid for.
    paid: Instant,
}

impl Pace {
    fn new(bytes_per_s: u64) -> Self {
        Self { bytes_per_s: bytes_per_s.max(1), paid: Instant::now() }
    }

    async fn wait(&mut self, bytes: usize) {
        let now = Instant::now();
        let took = Duration::from_nanos((bytes as u64).saturating_mul(1_000_000_000) / self.bytes_per_s);
        self.paid = self.paid.max(now) + took;
        if self.paid > now + BURST {
            tokio::time::sleep_until(self.paid - BURST).await;
        }
    }
}
