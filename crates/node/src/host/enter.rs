//! Let who deployed a container into it: run a program there, carry files, connect to a port.
//!
//! ```text
//! owner ═ Enter, Bytes… | Resize…, End ═► host ─ stdin ─► what runs inside
//!       ◄═ Connected, Bytes… | Errors…, Exited ═      ◄─ stdout, stderr ─
//! ```
//! It takes the viewer's seal, as the log does. What was entered ends with its stream, its container or this program.

use super::{
    Host,
    replica::{BUSY_MS, Replica, give},
    runtime::Inside,
    serve::{NOT_SEALED, refused},
};
use crate::journal::now_ms;
use commonware_runtime::{Sink, Storage, Stream};
use hodei_ledger::wire::{receive, send};
use hodei_types::{
    app::{
        Seal,
        wire::{Answer, FRAME_BYTES_MAX, Request, Way},
    },
    event::{Fields, Kind},
};
use std::{sync::Arc, time::Duration};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _},
    time::Instant,
};

/// So long an answer may take to be accepted.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
/// Read from what runs inside at once.
const PIECE_BYTES: usize = 16 << 10;
/// After its end what it said is read for so long: something that it left behind may hold its streams open.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(1);

impl<E: Storage> Host<E> {
    /// Serves one that wants into a container, to the end of its stream.
    pub(super) async fn let_in<Si: Sink, St: Stream>(
        &self,
        (lease, seal, way): (u64, Seal, Way),
        mut sink: Si,
        stream: St,
    ) {
        let until = Instant::now() + ANSWER_TIMEOUT;
        let replica = match self.entered(lease, &seal).await {
            Ok(replica) => replica,
            Err(answer) => {
                give(&mut sink, &answer, until).await;
                return;
            }
        };
        if let Way::Snapshot { .. } | Way::Fill { .. } = way {
            return self.volume(&replica, way, sink, stream).await;
        }
        let (Some(_place), Some(running)) = (replica.contained.entry(), replica.contained.running()) else {
            let is_there = replica.contained.running().is_some();
            let answer = if is_there { Answer::Busy { retry_after_ms: BUSY_MS } } else { replica.not_ready() };
            give(&mut sink, &answer, until).await;
            return;
        };
        let fields = Fields::new().text("what", "entered").uint("lease", lease);
        let (what, is_words) = match &way {
            Way::Exec(exec) => (exec.argv.join(" "), true),
            Way::Read { path } => (format!("read {path}"), true),
            Way::Write { path } => (format!("write {path}"), true),
            // Connections are many, and each is counted by its bytes.
            Way::Port(_) | Way::Snapshot { .. } | Way::Fill { .. } => (String::new(), false),
        };
        if is_words {
            // What was typed may be a secret: its hash tells its writer which it was.
            self.note(Kind::Lease, fields.bytes("hash", blake3::hash(what.as_bytes()).as_bytes())).await;
        }
        if let Way::Port(port) = way {
            match running.connect(port).await {
                Ok(socket) if give(&mut sink, &Answer::Connected, until).await => {
                    self.carry::<super::connect::Asked, _, _>(&replica, socket, sink, stream).await;
                }
                Ok(_) => {}
                Err(error) => {
                    let answer = Answer::NotReady { words: format!("port {port}: {error}") };
                    give(&mut sink, &answer, until).await;
                }
            }
            return;
        }
        let inside = match running.enter(way).await {
            Ok(inside) => inside,
            Err(error) => {
                give(&mut sink, &refused(error), until).await;
                return;
            }
        };
        if give(&mut sink, &Answer::Connected, until).await {
            self.attend(&replica, inside, sink, stream).await;
        }
    }

    /// The replica, if it is a container, and the seal its viewer's.
    async fn entered(&self, lease: u64, seal: &Seal) -> Result<Arc<Replica>, Answer> {
        if self.0.containers.is_none() {
            return Err(refused("this is a component: it has no files, no programs and no ports to enter"));
        }
        let replica = self.leased(lease).await.ok_or(Answer::Gone)?;
        let Some(viewer) = replica.viewer() else { return Err(replica.not_ready()) };
        match seal.is_of(&viewer, self.0.parts.chain_id, &self.0.id, lease, now_ms()) {
            true => Ok(replica),
            false => Err(refused(NOT_SEALED)),
        }
    }

    /// Carries the streams of what runs inside until it, its asker, its container or this program ends.
    async fn attend<Si: Sink, St: Stream>(&self, replica: &Replica, inside: Inside, sink: Si, mut stream: St) {
        let mut stop = self.0.parts.stop.clone();
        let Inside { mut stdin, stdout, stderr, mut process } = inside;
        let (resize, mut resized) = tokio::sync::mpsc::channel(4);
        let hear = async {
            loop {
                let frame = receive(&mut stream, FRAME_BYTES_MAX).await.map_err(|error| error.to_string())?;
                match Request::decode(&frame).map_err(|error| error.to_string())? {
                    Request::Bytes(bytes) => {
                        // Who does not listen loses what is said, as on a pipe; how it ended is told all the same.
                        if let Some(open) = &mut stdin
                            && open.write_all(&bytes).await.is_err()
                        {
                            stdin = None;
                        }
                        replica.count_bytes(bytes.len() as u64, 0, 0);
                    }
                    Request::End => stdin = None,
                    Request::Resize { rows, columns } => _ = resize.try_send((rows, columns)),
                    _ => return Err::<(), _>("something else than what is given to a program inside".to_owned()),
                }
            }
        };
        let say = async {
            let mut sink = sink;
            let mut both = Both::of(stdout, stderr);
            let mut code = None;
            while code.is_none() {
                tokio::select! {
                    said = both.more(), if !both.is_over() => tell(replica, &mut sink, said).await?,
                    Some((rows, columns)) = resized.recv() => process.resize(rows, columns),
                    ended = process.wait() => code = Some(ended.map_err(|error| error.to_string())?),
                }
            }
            let drain = async {
                while !both.is_over() {
                    tell(replica, &mut sink, both.more().await).await?;
                }
                Ok::<_, String>(())
            };
            if let Ok(drained) = tokio::time::timeout(DRAIN_TIMEOUT, drain).await {
                drained?;
            }
            let code = u8::try_from(code.unwrap_or_default()).unwrap_or(u8::MAX);
            send(&mut sink, Answer::Exited { code }.encode()).await.map_err(|error| error.to_string())
        };
        let broke = |words: String| tracing::debug!(lease = replica.lease, words, "what was entered broke off");
        tokio::select! {
            heard = hear => heard.unwrap_or_else(broke),
            said = say => said.unwrap_or_else(broke),
            () = replica.ended() => {}
            _ = stop.wait_for(|stop| *stop) => {}
        }
    }
}

async fn tell<Si: Sink>(replica: &Replica, sink: &mut Si, said: Option<Answer>) -> Result<(), String> {
    let Some(answer) = said else { return Ok(()) };
    if let Answer::Bytes(bytes) | Answer::Errors(bytes) = &answer {
        replica.count_bytes(0, bytes.len() as u64, 0);
    }
    tokio::time::timeout(ANSWER_TIMEOUT, send(sink, answer.encode()))
        .await
        .map_err(|_| "nobody takes what it says".to_owned())?
        .map_err(|error| error.to_string())
}

type Heard = Option<Box<dyn AsyncRead + Send + Unpin>>;

/// What is said on two streams, in pieces.
struct Both {
    stdout: Heard,
    stderr: Heard,
    pieces: [Vec<u8>; 2],
}

impl Both {
    fn of(stdout: Heard, stderr: Heard) -> Self {
        Self { stdout, stderr, pieces: [vec![0; PIECE_BYTES], vec![0; PIECE_BYTES]] }
    }

    fn is_over(&self) -> bool {
        self.stdout.is_none() && self.stderr.is_none()
    }

    /// The next piece of either; none where one of them is over.
    async fn more(&mut self) -> Option<Answer> {
        let [out, err] = &mut self.pieces;
        let (is_error, read) = tokio::select! {
            read = next(&mut self.stdout, out) => (false, read),
            read = next(&mut self.stderr, err) => (true, read),
        };
        match (is_error, read) {
            (false, 0) => self.stdout = None,
            (true, 0) => self.stderr = None,
            (false, read) => return Some(Answer::Bytes(out[..read].to_vec())),
            (true, read) => return Some(Answer::Errors(err[..read].to_vec())),
        }
        None
    }
}

/// Never resolves where there is no stream.
async fn next(stream: &mut Heard, piece: &mut [u8]) -> usize {
    match stream {
        // A stream that breaks is over.
        Some(stream) => stream.read(piece).await.unwrap_or(0),
        None => std::future::pending().await,
    }
}
