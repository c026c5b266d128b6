//! Say one thing to a host: protocol `hodei/app/1`, from the deployer's side.

use super::pay::Pay;
use crate::image::{Blobs, ImageError};
use bytes::Bytes;
use commonware_runtime::Stream;
use futures::{
    Stream as BodyStream, StreamExt as _,
    stream::{self, BoxStream},
};
use hodei_ledger::wire::{WireError as FrameError, receive, send};
use hodei_types::{
    app::{
        Limits, Manifest, Seal,
        container::{Blob, Container},
        volume::TreeError,
        wire::{Answer, CHUNK_BYTES_MAX, Due, FRAME_BYTES_MAX, Header, Replica, Request, WireError},
    },
    transport::{APP, Peer, Transport, TransportError},
};
use std::{
    sync::{Arc, OnceLock},
    time::{Duration, Instant},
};
use tokio::{io::AsyncReadExt as _, sync::mpsc, task::JoinHandle};

/// A look is a few hundred bytes each way; who takes longer is as good as away.
const LOOK_TIMEOUT: Duration = Duration::from_secs(2);
/// 32 MiB over a line of 4 Mbit/s, and the host's disk.
const GIVE_TIMEOUT: Duration = Duration::from_secs(90);
/// Of a body that is paid for, so much is here before it is taken.
const CHUNKS_AHEAD: usize = 8;
/// Between two frames of a body.
const FRAME_TIMEOUT: Duration = Duration::from_secs(60);
/// So long is an answer that is paid for heard on for its price, when nobody takes it any more.
const LEFT_TIMEOUT: Duration = Duration::from_secs(120);

/// Why a host did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum HostError {
    #[error(transparent)]
    Transport(#[from] TransportError),
    #[error("the host's answer did not arrive: {0}")]
    Frame(#[from] FrameError),
    #[error("the host's answer was not understood: {0}")]
    Form(#[from] WireError),
    #[error("the host did not answer within {} s", .0.as_secs())]
    Late(Duration),
    #[error("the host refused: {0}")]
    Refused(String),
    #[error("its calls are to be paid first: {} wei are due by its host", .0.wei)]
    Unpaid(Due),
    #[error("as many requests wait for the replica as may")]
    Busy { retry_after_ms: u32 },
    #[error("the replica is not ready: {0}")]
    NotReady(String),
    #[error("the host has no such lease")]
    Gone,
    #[error("the component failed: {0}")]
    Failed(String),
    #[error("what is to be given could not be read: {0}")]
    Local(#[from] ImageError),
    #[error("what is to be given could not be read: {0}")]
    Disk(#[from] std::io::Error),
    #[error("what the host says of a volume is not taken: {0}")]
    Tree(#[from] TreeError),
    #[error("a snapshot: {0}")]
    Snapshot(std::io::Error),
    #[error("the host answered something else")]
    Other,
}

impl HostError {
    /// Whether the request surely reached no component.
    pub fn is_untouched(&self) -> bool {
        matches!(
            self,
            Self::Transport(_)
                | Self::Refused(_)
                | Self::Busy { .. }
                | Self::NotReady(_)
                | Self::Gone
                | Self::Unpaid(_)
        )
    }

    /// What an answer means that is not the one that was hoped for.
    pub(super) fn of(answer: Answer) -> Self {
        match answer {
            Answer::Refused { words } => Self::Refused(words),
            Answer::Busy { retry_after_ms } => Self::Busy { retry_after_ms },
            Answer::NotReady { words } => Self::NotReady(words),
            Answer::Gone => Self::Gone,
            Answer::Unpaid { due } => Self::Unpaid(due),
            Answer::Done { failure: Some(words), .. } => Self::Failed(words),
            _ => Self::Other,
        }
    }
}

/// The beginning of an answer, and its body as it comes.
pub struct Reply<B> {
    pub status: u16,
    pub headers: Vec<Header>,
    pub body: B,
    /// Of a call on call: its wei, once its body ended.
    pub price: Option<Arc<OnceLock<u128>>>,
}

pub(super) async fn hear<S: Stream>(stream: &mut S) -> Result<Answer, HostError> {
    Ok(Answer::decode(&receive(stream, FRAME_BYTES_MAX).await?)?)
}

pub(super) async fn within<T>(
    limit: Duration,
    work: impl Future<Output = Result<T, HostError>>,
) -> Result<T, HostError> {
    tokio::time::timeout(limit, work).await.map_err(|_| HostError::Late(limit))?
}

/// Hands a lease's component over; done when it is on the host's disk. It may be said again.
pub(super) async fn give<T: Transport>(
    link: &T,
    peer: &Peer,
    lease: u64,
    (manifest, wasm): (&Manifest, &[u8]),
) -> Result<(), HostError> {
    within(GIVE_TIMEOUT, async {
        let (mut sink, mut stream) = link.open(peer, APP).await?;
        let give = Request::Give { lease, manifest: manifest.clone() };
        let sent = async {
            send(&mut sink, give.encode()).await?;
            for chunk in wasm.chunks(CHUNK_BYTES_MAX) {
                send(&mut sink, Request::Bytes(chunk.to_vec()).encode()).await?;
            }
            Ok::<_, FrameError>(())
        }
        .await;
        // Who refuses may have answered before the last byte was sent.
        match (hear(&mut stream).await, sent) {
            (Ok(Answer::Given), Ok(())) => Ok(()),
            (Ok(answer), _) => Err(HostError::of(answer)),
            (Err(_), Err(error)) => Err(error.into()),
            (Err(error), Ok(())) => Err(error),
        }
    })
    .await
}

/// Between two frames of what is given.
const GIVE_FRAME_TIMEOUT: Duration = Duration::from_secs(30);

/// Hands over what a lease's host lacks of a container; told is how many bytes of how many went out.
pub(super) async fn give_blobs<T: Transport>(
    link: &T,
    peer: &Peer,
    lease: u64,
    (manifest, blobs): (&Manifest, &Blobs),
    mut tell: impl FnMut(u64, u64),
) -> Result<(), HostError> {
    let known = manifest.container().map(Container::blobs).unwrap_or_default();
    let (mut sink, mut stream) = within(GIVE_FRAME_TIMEOUT, async { Ok(link.open(peer, APP).await?) }).await?;
    let give = Request::Give { lease, manifest: manifest.clone() };
    within(GIVE_FRAME_TIMEOUT, async { Ok(send(&mut sink, give.encode()).await?) }).await?;
    let wanted = match within(GIVE_FRAME_TIMEOUT, hear(&mut stream)).await? {
        Answer::Given => return Ok(()),
        Answer::Wants { blobs } => blobs,
        answer => return Err(HostError::of(answer)),
    };
    // What it does not name is not given.
    let of = |sha256: &[u8; 32]| known.iter().find(|blob| blob.sha256 == *sha256).copied().ok_or(HostError::Other);
    let wanted: Vec<Blob> = wanted.iter().map(of).collect::<Result<_, _>>()?;
    let all = wanted.iter().map(|blob| blob.bytes).fold(0, u64::saturating_add);
    let sent = async {
        let (mut bytes, mut chunk) = (0, vec![0; CHUNK_BYTES_MAX]);
        for blob in &wanted {
            let mut file = tokio::fs::File::from_std(blobs.open(blob)?).take(blob.bytes);
            loop {
                let read = file.read(&mut chunk).await?;
                if read == 0 {
                    break;
                }
                let frame = Request::Bytes(chunk[..read].to_vec()).encode();
                within(GIVE_FRAME_TIMEOUT, async { Ok(send(&mut sink, frame).await?) }).await?;
                bytes += read as u64;
                tell(bytes, all);
            }
        }
        Ok::<_, HostError>(())
    };
    // Who refuses may answer before the last byte was sent.
    let mut answer = std::pin::pin!(hear(&mut stream));
    let early = tokio::select! {
        answer = &mut answer => Some(answer),
        sent = sent => {
            sent?;
            None
        }
    };
    let answer = match early {
        Some(answer) => answer?,
        // It writes the last of it to disk.
        None => within(GIVE_TIMEOUT, answer).await?,
    };
    match answer {
        Answer::Given => Ok(()),
        answer => Err(HostError::of(answer)),
    }
}

/// How a replica is; with a seal also what it printed since byte `since`.
pub(super) async fn look<T: Transport>(
    link: &T,
    peer: &Peer,
    lease: u64,
    (since, seal): (u64, Option<Seal>),
) -> Result<Replica, HostError> {
    within(LOOK_TIMEOUT, async {
        let (mut sink, mut stream) = link.open(peer, APP).await?;
        send(&mut sink, Request::Look { lease, since, seal }.encode()).await?;
        match hear(&mut stream).await? {
            Answer::Replica(replica) => Ok(*replica),
            answer => Err(HostError::of(answer)),
        }
    })
    .await
}

/// What is asked of a replica.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    pub lease: u64,
    pub method: String,
    /// Path and query.
    pub target: String,
    pub headers: Vec<Header>,
    /// How it is paid, if it is on call.
    pub pay: Option<Arc<Pay>>,
}

/// Sends a request to a replica while its body comes, and returns once the answer begins, at most `limit` later.
///
/// A body that breaks off ends the request there; the replica's host hears no end of it.
pub async fn request<T, B>(
    link: &T,
    peer: &Peer,
    question: Question,
    body: B,
    limit: Duration,
) -> Result<Reply<BoxStream<'static, Result<Bytes, HostError>>>, HostError>
where
    T: Transport,
    B: BodyStream<Item = Result<Bytes, std::io::Error>> + Send + Unpin + 'static,
{
    within(limit, async {
        let (mut sink, mut stream) = link.open(peer, APP).await?;
        let Question { lease, method, target, headers, pay } = question;
        let voucher = pay.as_ref().map(|pay| pay.voucher());
        let mut billed = pay.map(Billed::new);
        send(&mut sink, Request::Ask { lease, method, target, headers, voucher }.encode()).await?;
        let sending = Sending(tokio::spawn(async move {
            let mut body = body;
            while let Some(bytes) = body.next().await {
                let Ok(bytes) = bytes else { return };
                for chunk in bytes.chunks(CHUNK_BYTES_MAX) {
                    if send(&mut sink, Request::Bytes(chunk.to_vec()).encode()).await.is_err() {
                        return;
                    }
                }
            }
            let _ = send(&mut sink, Request::End.encode()).await;
        }));
        match hear(&mut stream).await? {
            Answer::Head { status, headers } => {
                let price = billed.as_ref().map(|billed| billed.price.clone());
                let body = match billed {
                    Some(billed) => paid(stream, sending, billed),
                    None => rest(stream, sending).boxed(),
                };
                Ok(Reply { status, headers, body, price })
            }
            answer => {
                billed.iter_mut().for_each(|billed| billed.hear(&answer));
                Err(HostError::of(answer))
            }
        }
    })
    .await
}

/// A call that costs something: what, if its end is heard.
pub(super) struct Billed {
    pay: Arc<Pay>,
    begun: Instant,
    pub(super) price: Arc<OnceLock<u128>>,
    is_heard: bool,
}

impl Billed {
    pub(super) fn new(pay: Arc<Pay>) -> Self {
        Self { pay, begun: Instant::now(), price: Arc::default(), is_heard: false }
    }

    /// The last that a host says of it.
    pub(super) fn hear(&mut self, answer: &Answer) {
        self.is_heard = true;
        // Whoever says anything else began nothing.
        if let Answer::Done { readings, due, .. } = answer {
            let price = self.pay.heard(readings, *due, self.begun.elapsed());
            self.price.get_or_init(|| price);
        }
    }
}

impl Drop for Billed {
    fn drop(&mut self) {
        if !self.is_heard {
            self.pay.unheard();
        }
    }
}

/// The body of an answer that is paid for: heard to its end, whoever still takes it, for there stands what it cost.
fn paid<S: Stream>(
    mut stream: S,
    sending: Sending,
    mut billed: Billed,
) -> BoxStream<'static, Result<Bytes, HostError>> {
    let (tell, told) = mpsc::channel(CHUNKS_AHEAD);
    tokio::spawn(async move {
        let _sending = sending;
        let (mut bytes_left, mut left_since) = (Limits::BODY_BYTES_MAX, None::<Instant>);
        loop {
            let (item, is_over) = match within(FRAME_TIMEOUT, hear(&mut stream)).await {
                Ok(Answer::Bytes(bytes)) => (Some(Ok(Bytes::from(bytes))), false),
                Ok(answer) => {
                    billed.hear(&answer);
                    let is_whole = matches!(answer, Answer::Done { failure: None, .. });
                    ((!is_whole).then(|| Err(HostError::of(answer))), true)
                }
                Err(error) => (Some(Err(error)), true),
            };
            if let Some(item) = item {
                let bytes = item.as_ref().map_or(0, |bytes| bytes.len() as u64);
                bytes_left = bytes_left.saturating_sub(bytes.max(1));
                if tell.send(item).await.is_err() {
                    // Nobody takes it any more: it is thrown away.
                    left_since.get_or_insert_with(Instant::now);
                }
            }
            // A host that goes on for ever is not heard to an end that it does not mean.
            let is_late = left_since.is_some_and(|since| since.elapsed() > LEFT_TIMEOUT);
            if is_over || is_late || bytes_left == 0 {
                return;
            }
        }
    });
    stream::unfold(told, |mut told| async move { told.recv().await.map(|item| (item, told)) }).fuse().boxed()
}

/// A body on its way; it ends with the answer, whoever still waits for bytes of it.
struct Sending(JoinHandle<()>);

impl Drop for Sending {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// An answer's body.
fn rest<S: Stream>(stream: S, sending: Sending) -> impl BodyStream<Item = Result<Bytes, HostError>> + Send {
    stream::unfold(Some((stream, sending)), |state| async move {
        let (mut stream, sending) = state?;
        match within(FRAME_TIMEOUT, hear(&mut stream)).await {
            Ok(Answer::Bytes(bytes)) => Some((Ok(Bytes::from(bytes)), Some((stream, sending)))),
            Ok(Answer::Done { failure: None, .. }) => None,
            Ok(answer) => Some((Err(HostError::of(answer)), None)),
            Err(error) => Some((Err(error), None)),
        }
    })
}
