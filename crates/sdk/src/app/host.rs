//! Say one thing to a host: protocol `hodei/app/1`, from the deployer's side.

use bytes::Bytes;
use commonware_runtime::Stream;
use futures::{Stream as BodyStream, StreamExt as _, stream};
use hodei_ledger::wire::{WireError as FrameError, receive, send};
use hodei_types::{
    app::{
        Manifest, Seal,
        wire::{Answer, CHUNK_BYTES_MAX, FRAME_BYTES_MAX, Header, Replica, Request, WireError},
    },
    transport::{APP, Peer, Transport, TransportError},
};
use std::time::Duration;
use tokio::task::JoinHandle;

/// A look is a few hundred bytes each way; who takes longer is as good as away.
const LOOK_TIMEOUT: Duration = Duration::from_secs(2);
/// 32 MiB over a line of 4 Mbit/s, and the host's disk.
const GIVE_TIMEOUT: Duration = Duration::from_secs(90);
/// Between two frames of a body.
const FRAME_TIMEOUT: Duration = Duration::from_secs(60);

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
    #[error("as many requests wait for the replica as may")]
    Busy { retry_after_ms: u32 },
    #[error("the replica is not ready: {0}")]
    NotReady(String),
    #[error("the host has no such lease")]
    Gone,
    #[error("the component failed: {0}")]
    Failed(String),
    #[error("the host answered something else")]
    Other,
}

impl HostError {
    /// Whether the request surely reached no component.
    pub fn is_untouched(&self) -> bool {
        matches!(self, Self::Transport(_) | Self::Refused(_) | Self::Busy { .. } | Self::NotReady(_) | Self::Gone)
    }

    /// What an answer means that is not the one that was hoped for.
    pub(super) fn of(answer: Answer) -> Self {
        match answer {
            Answer::Refused { words } => Self::Refused(words),
            Answer::Busy { retry_after_ms } => Self::Busy { retry_after_ms },
            Answer::NotReady { words } => Self::NotReady(words),
            Answer::Gone => Self::Gone,
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
) -> Result<Reply<impl BodyStream<Item = Result<Bytes, HostError>> + Send + use<T, B>>, HostError>
where
    T: Transport,
    B: BodyStream<Item = Result<Bytes, std::io::Error>> + Send + Unpin + 'static,
{
    within(limit, async {
        let (mut sink, mut stream) = link.open(peer, APP).await?;
        let Question { lease, method, target, headers } = question;
        send(&mut sink, Request::Ask { lease, method, target, headers }.encode()).await?;
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
            Answer::Head { status, headers } => Ok(Reply { status, headers, body: rest(stream, sending) }),
            answer => Err(HostError::of(answer)),
        }
    })
    .await
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
