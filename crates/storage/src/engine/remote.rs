//! Ask one provider for one thing, within limits, and believe nothing.
//!
//! Upon an ack: its signature and the shard's path to the signed root are checked. Upon bytes: they are checked
//! against the shard's id. What does not hold becomes a [`Verdict`] naming the provider, expected and found.

use super::{
    asked::Pulse,
    spread::{BUSY_MAX, Provider},
};
use crate::{
    crowd::Question,
    wire::{self, Answer, Held, LIST_BYTES_MAX, MESSAGE_BYTES_MAX, Reason, Request, Tab, Tick, UploadId, WireError},
};
use bytes::{Bytes, BytesMut};
use commonware_runtime::Clock;
use futures::{
    future::{Either, select},
    pin_mut,
};
use hodei_types::{
    ack::Ack,
    decline::Declined,
    slice::{self, CHUNK_BYTES, ShardId},
    transport::{CROWD, NodeKey, Peer, Protocol, SHARD, Transport, TransportError},
};
use std::{future::Future, sync::Arc, time::Duration};

/// Handshake and stream, after which a peer counts as unreachable.
const OPEN: Duration = Duration::from_secs(4);
/// A whole shard, its write to disk included.
const SHARD_PUT: Duration = Duration::from_secs(30);
/// First byte of an answer to a read.
pub(super) const FIRST_BYTE: Duration = Duration::from_secs(2);
/// What is known at once, or after a reader was called back.
const WORD: Duration = Duration::from_secs(10);
/// The bytes after it.
const SHARD_GET: Duration = Duration::from_secs(28);
/// They are taken in pieces, each of which tells that they come: on a slow line a whole shard takes seconds.
const PIECE: usize = 32 * 1024;

/// A provider broke the protocol in a way that shows: what was expected, what it gave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    pub node: NodeKey,
    pub deal: u64,
    pub shard: ShardId,
    /// For people: expected and found.
    pub what: String,
}

impl std::fmt::Display for Verdict {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "provider {} failed shard {} of deal {}: {}", self.node, self.shard, self.deal, self.what)
    }
}

/// Why a provider did not do it.
#[derive(Clone, Debug, thiserror::Error)]
pub enum RemoteError {
    #[error(transparent)]
    Transport(#[from] TransportError),
    #[error("no answer within {0:?}")]
    Slow(Duration),
    #[error("the stream broke: {0}")]
    Stream(Arc<WireError>),
    #[error("busy for {}", span(*retry_after_ms))]
    Busy { retry_after_ms: u32 },
    #[error("full: {free_bytes} bytes are free")]
    Full { free_bytes: u64 },
    #[error("it does not have it")]
    Gone,
    /// Its signature was checked.
    #[error("it declines it since {} ms after 1970, on the ground of: {}", .0.decline.time_ms, .0.decline.ground.name())]
    Declined(Box<Declined>),
    #[error("refused ({reason:?}): {text}")]
    Refused { reason: Reason, text: String },
    #[error("{0}")]
    Lie(Box<Verdict>),
}

/// A wait as people read it: one that rests says hours.
fn span(ms: u32) -> String {
    match ms / 60_000 {
        0 => format!("{ms} ms"),
        minutes @ ..60 => format!("{minutes} min, by its own word"),
        minutes => format!("{} h {} min, by its own word", minutes / 60, minutes % 60),
    }
}

impl From<WireError> for RemoteError {
    fn from(error: WireError) -> Self {
        Self::Stream(Arc::new(error))
    }
}

impl RemoteError {
    /// Whether it tells of the provider as a whole, so that asking it for the next thing is useless now.
    pub(crate) fn is_down(&self) -> bool {
        self.is_silence()
            || matches!(self, Self::Full { .. })
            || matches!(self, Self::Refused { reason: Reason::Broken | Reason::DealFull | Reason::Unpaid, .. })
    }

    /// Whether nothing was heard of it.
    pub fn is_silence(&self) -> bool {
        matches!(self, Self::Transport(_) | Self::Slow(_) | Self::Stream(_))
    }

    /// Whether a provider gives no more under a tab before it is paid: that tells of who reads, and not of the provider.
    pub(crate) fn is_unpaid(&self) -> bool {
        matches!(self, Self::Refused { reason: Reason::Unpaid, .. })
    }

    /// Whether the same question may be answered soon, and after which rest.
    pub(crate) fn passes_after(&self) -> Option<Duration> {
        match self {
            Self::Busy { retry_after_ms } => Some(Duration::from_millis((*retry_after_ms).into()).min(BUSY_MAX)),
            error => error.is_down().then_some(Duration::ZERO),
        }
    }
}

/// What a provider says of a shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Word {
    There,
    Not,
    /// It will not have it.
    Declined,
}

fn bit(bits: &[u8], at: usize) -> bool {
    bits[at / 8] >> (at % 8) & 1 == 1
}

fn word(is_held: bool, is_declined: bool) -> Word {
    match (is_held, is_declined) {
        (_, true) => Word::Declined,
        (true, false) => Word::There,
        (false, false) => Word::Not,
    }
}

/// Which shard, at whom, under which deal and right.
#[derive(Clone, Debug)]
pub(crate) struct Ask<'a> {
    pub peer: &'a Peer,
    pub deal: u64,
    /// The owner's grant, as `wire` carries it.
    pub grant: &'a [u8],
    pub id: ShardId,
}

/// The client's side of `hodei/shard/1`, and of `hodei/crowd/1`.
pub(crate) struct Remote<E, T> {
    pub(crate) context: Arc<E>,
    transport: T,
    chain_id: u64,
    /// Told when something of a slice comes.
    pulse: Option<Pulse>,
}

impl<E, T: Clone> Clone for Remote<E, T> {
    fn clone(&self) -> Self {
        let Self { context, transport, chain_id, pulse } = self;
        Self { context: context.clone(), transport: transport.clone(), chain_id: *chain_id, pulse: pulse.clone() }
    }
}

impl<E: Clock, T: Transport> Remote<E, T> {
    pub(crate) fn new(context: Arc<E>, transport: T, chain_id: u64) -> Self {
        Self { context, transport, chain_id, pulse: None }
    }

    /// The same for one question that is followed.
    pub(crate) fn followed(&self, pulse: &Pulse) -> Self {
        Self { pulse: Some(pulse.clone()), ..self.clone() }
    }

    fn beat(&self) {
        if let Some(pulse) = &self.pulse {
            pulse.beat(self.context.current());
        }
    }

    /// The bytes of a slice; the caller has bounded `len`.
    async fn body(&self, stream: &mut T::Stream, len: usize) -> Result<Bytes, WireError> {
        let mut bytes = BytesMut::with_capacity(len);
        while bytes.len() < len {
            bytes.extend_from_slice(&wire::body(stream, (len - bytes.len()).min(PIECE)).await?);
            self.beat();
        }
        Ok(bytes.freeze())
    }

    pub(crate) async fn within<F: Future>(&self, limit: Duration, future: F) -> Result<F::Output, RemoteError> {
        let sleep = self.context.sleep(limit);
        pin_mut!(future, sleep);
        match select(future, sleep).await {
            Either::Left((output, _)) => Ok(output),
            Either::Right(_) => Err(RemoteError::Slow(limit)),
        }
    }

    async fn open(&self, peer: &Peer) -> Result<(T::Sink, T::Stream), RemoteError> {
        self.open_for(peer, SHARD).await
    }

    async fn open_for(&self, peer: &Peer, protocol: Protocol) -> Result<(T::Sink, T::Stream), RemoteError> {
        Ok(self.within(OPEN, self.transport.open(peer, protocol)).await??)
    }

    /// Stores a whole shard; returns its checked ack.
    pub(crate) async fn put(&self, ask: &Ask<'_>, upload: UploadId, shard: Bytes) -> Result<Held, RemoteError> {
        let len = shard.len() as u32;
        let (mut sink, mut stream) = self.open(ask.peer).await?;
        let request = Request::Put { deal: ask.deal, id: ask.id, len, upload, grant: ask.grant.to_vec() }.encode();
        let exchange = async {
            let send = wire::send(&mut sink, request, shard);
            let receive = wire::receive(&mut stream, MESSAGE_BYTES_MAX);
            pin_mut!(send, receive);
            // An early answer is a refusal: what is left of the body is not sent.
            match select(receive, send).await {
                Either::Left((answer, _)) => answer,
                Either::Right((Ok(()), receive)) => receive.await,
                Either::Right((Err(error), receive)) => receive.await.map_err(|_| error),
            }
        };
        let answer = self.within(SHARD_PUT, exchange).await??;
        match Answer::decode(&answer)? {
            Answer::Held(held) => match held.verify(self.chain_id, &ask.peer.key, ask.deal, &ask.id, len) {
                Ok(()) => Ok(held),
                Err(error) => Err(lie(ask, error.to_string())),
            },
            other => Err(self.refusal(ask, other, "an ack")),
        }
    }

    /// Reads `len` bytes from `offset` of a shard that is `shard_bytes` long; checked against its id.
    pub(crate) async fn get(
        &self,
        ask: &Ask<'_>,
        shard_bytes: u32,
        offset: u32,
        len: u32,
    ) -> Result<Bytes, RemoteError> {
        let request = Request::Get { deal: ask.deal, id: ask.id, offset, len, grant: ask.grant.to_vec() }.encode();
        self.slice(ask, SHARD, request, (shard_bytes, offset, len)).await
    }

    /// Asks another reader for a whole shard; checked against its id.
    pub(crate) async fn ask(&self, ask: &Ask<'_>, question: Question, bytes: u32) -> Result<Bytes, RemoteError> {
        self.slice(ask, CROWD, question.encode(), (bytes, 0, bytes)).await
    }

    async fn slice(
        &self,
        ask: &Ask<'_>,
        protocol: Protocol,
        request: Vec<u8>,
        (shard_bytes, offset, len): (u32, u32, u32),
    ) -> Result<Bytes, RemoteError> {
        let (mut sink, mut stream) = self.open_for(ask.peer, protocol).await?;
        let answer = self
            .within(FIRST_BYTE, async {
                wire::send(&mut sink, request, Bytes::new()).await?;
                wire::receive(&mut stream, MESSAGE_BYTES_MAX).await
            })
            .await??;
        self.beat();
        let (hashes, given) = match Answer::decode(&answer)? {
            Answer::Slice { shard_bytes: size, offset: from, len: given, hashes } => {
                if (size, from, given) != (shard_bytes, offset, len) {
                    let what = format!(
                        "expected {len} bytes from {offset} of {shard_bytes}, found {given} from {from} of {size}"
                    );
                    return Err(lie(ask, what));
                }
                (hashes, given)
            }
            // It says itself that what it acknowledged is damaged on its disk.
            Answer::Refused { reason: Reason::WrongBytes, text } => {
                return Err(lie(ask, format!("expected shard {}, found it {text}", ask.id)));
            }
            other => return Err(self.refusal(ask, other, "a slice")),
        };
        let bytes = self.within(SHARD_GET, self.body(&mut stream, given as usize)).await??;
        let first = offset as usize / CHUNK_BYTES;
        match slice::verify(&ask.id, shard_bytes.into(), first, &bytes, &hashes) {
            Ok(()) => Ok(bytes),
            Err(error) => Err(lie(ask, error.to_string())),
        }
    }

    /// The first KiB of a shard, and how many bytes it has, which its id tells too.
    pub(crate) async fn glance(&self, ask: &Ask<'_>) -> Result<(u32, Bytes), RemoteError> {
        let (mut sink, mut stream) = self.open(ask.peer).await?;
        let len = CHUNK_BYTES as u32;
        let request = Request::Get { deal: ask.deal, id: ask.id, offset: 0, len, grant: ask.grant.to_vec() }.encode();
        let exchange = async {
            wire::send(&mut sink, request, Bytes::new()).await?;
            wire::receive(&mut stream, MESSAGE_BYTES_MAX).await
        };
        let answer = self.within(FIRST_BYTE, exchange).await??;
        let (shard_bytes, hashes) = match Answer::decode(&answer)? {
            Answer::Slice { shard_bytes, offset: 0, len: given, hashes } if given == len => (shard_bytes, hashes),
            Answer::Refused { reason: Reason::WrongBytes, text } => {
                return Err(lie(ask, format!("expected shard {}, found it {text}", ask.id)));
            }
            other => return Err(self.refusal(ask, other, "a first KiB")),
        };
        let bytes = self.within(SHARD_GET, wire::body(&mut stream, CHUNK_BYTES)).await??;
        match slice::verify(&ask.id, shard_bytes.into(), 0, &bytes, &hashes) {
            Ok(()) => Ok((shard_bytes, bytes)),
            Err(error) => Err(lie(ask, error.to_string())),
        }
    }

    /// Bytes that are free there, where it takes shards now.
    pub(crate) async fn hello(&self, provider: &Provider) -> Result<u64, RemoteError> {
        match self.word(&provider.peer, Request::Hello { version: wire::VERSION }).await? {
            Answer::Hello { free_bytes, .. } => Ok(free_bytes),
            other => Err(self.unmeant(provider, other, "its greeting")),
        }
    }

    /// Which of `ids` the deal holds, and which its provider declines, in order.
    pub(crate) async fn has(
        &self,
        peer: &Peer,
        deal: u64,
        grant: &[u8],
        ids: &[ShardId],
        batch: usize,
    ) -> Result<Vec<Word>, RemoteError> {
        let request = |ids: &[ShardId]| Request::Has { deal, ids: ids.to_vec(), grant: grant.to_vec() };
        self.bitmap((peer, deal, grant), ids, batch, request).await
    }

    /// Has these kept until a time; says of each whether it is.
    pub(crate) async fn keep(
        &self,
        peer: &Peer,
        deal: u64,
        grant: &[u8],
        ids: &[ShardId],
        until_ms: u64,
    ) -> Result<Vec<bool>, RemoteError> {
        let request = |ids: &[ShardId]| Request::Keep { deal, ids: ids.to_vec(), until_ms, grant: grant.to_vec() };
        let words = self.bitmap((peer, deal, grant), ids, wire::IDS_MAX, request).await?;
        Ok(words.into_iter().map(|word| word == Word::There).collect())
    }

    /// Asks in batches for one word per id.
    async fn bitmap(
        &self,
        (peer, deal, grant): (&Peer, u64, &[u8]),
        ids: &[ShardId],
        batch: usize,
        request: impl Fn(&[ShardId]) -> Request,
    ) -> Result<Vec<Word>, RemoteError> {
        let mut found = Vec::with_capacity(ids.len());
        for batch in ids.chunks(batch) {
            let request = request(batch);
            let ask = Ask { peer, deal, grant, id: batch[0] };
            match self.answer(peer, request).await? {
                Answer::Bitmap(held) if held.len() == batch.len().div_ceil(8) => {
                    found.extend((0..batch.len()).map(|at| word(bit(&held, at), false)));
                }
                Answer::Known { held, declined } if [held.len(), declined.len()] == [batch.len().div_ceil(8); 2] => {
                    found.extend((0..batch.len()).map(|at| word(bit(&held, at), bit(&declined, at))));
                }
                other => return Err(self.refusal(&ask, other, "a bitmap of the asked length")),
            }
        }
        Ok(found)
    }

    /// Tells the provider that these are not wanted any more; gives its newest, checked statement of the deal.
    pub(crate) async fn release(
        &self,
        peer: &Peer,
        deal: u64,
        grant: &[u8],
        ids: &[ShardId],
    ) -> Result<Option<Ack>, RemoteError> {
        let request = Request::Release { deal, ids: ids.to_vec(), grant: grant.to_vec() };
        let id = ids.first().copied().unwrap_or(ShardId([0; 32]));
        self.statement(Ask { peer, deal, grant, id }, request, SHARD_PUT).await
    }

    /// What a deal's tree is now; `None` before its first shard.
    pub(crate) async fn state(&self, peer: &Peer, deal: u64, grant: &[u8]) -> Result<Option<Ack>, RemoteError> {
        let request = Request::State { deal, grant: grant.to_vec() };
        self.statement(Ask { peer, deal, grant, id: ShardId([0; 32]) }, request, WORD).await
    }

    /// Shards of a deal from a position on, each with its KiB; where to go on, and where the deal ends.
    pub(crate) async fn list(
        &self,
        peer: &Peer,
        deal: u64,
        grant: &[u8],
        from: u64,
    ) -> Result<(Vec<(ShardId, u16)>, u64, u64), RemoteError> {
        let request = Request::List { deal, from, grant: grant.to_vec() };
        let ask = Ask { peer, deal, grant, id: ShardId([0; 32]) };
        match self.answer_within(peer, request, LIST_BYTES_MAX, SHARD_PUT).await? {
            Answer::Listed { next, end, shards } if next > from || end <= from => Ok((shards, next, end)),
            other => Err(self.refusal(&ask, other, "a list that goes on")),
        }
    }

    /// Pays, and hears where the provider counts.
    pub(crate) async fn tick(&self, ask: &Ask<'_>, tick: Tick) -> Result<Tab, RemoteError> {
        let request = Request::Tick { deal: ask.deal, tick, grant: ask.grant.to_vec() };
        match self.answer(ask.peer, request).await? {
            Answer::Tab(tab) => Ok(tab),
            other => Err(self.refusal(ask, other, "where it counts")),
        }
    }

    async fn statement(&self, ask: Ask<'_>, request: Request, limit: Duration) -> Result<Option<Ack>, RemoteError> {
        let Ask { peer, deal, .. } = ask;
        match self.answer_within(peer, request, MESSAGE_BYTES_MAX, limit).await? {
            Answer::State { ack: None, .. } => Ok(None),
            Answer::State { ack: Some(ack), .. } if ack.statement.deal != deal => {
                Err(lie(&ask, format!("expected a statement of deal {deal}, found one of {}", ack.statement.deal)))
            }
            Answer::State { ack: Some(ack), .. } => match ack.verify(self.chain_id, &peer.key) {
                Ok(()) => Ok(Some(ack)),
                Err(error) => Err(lie(&ask, error.to_string())),
            },
            other => Err(self.refusal(&ask, other, "the deal's statement")),
        }
    }

    pub(crate) async fn answer(&self, peer: &Peer, request: Request) -> Result<Answer, RemoteError> {
        self.answer_within(peer, request, MESSAGE_BYTES_MAX, SHARD_PUT).await
    }

    /// The same from who has nothing to write for it.
    pub(crate) async fn word(&self, peer: &Peer, request: Request) -> Result<Answer, RemoteError> {
        self.answer_within(peer, request, MESSAGE_BYTES_MAX, WORD).await
    }

    /// What an answer of another kind than was asked for says.
    pub(crate) fn unmeant(&self, provider: &Provider, answer: Answer, expected: &str) -> RemoteError {
        let Provider { peer, deal, grant, .. } = provider;
        self.refusal(&Ask { peer, deal: *deal, grant, id: ShardId([0; 32]) }, answer, expected)
    }

    async fn answer_within(
        &self,
        peer: &Peer,
        request: Request,
        max: usize,
        limit: Duration,
    ) -> Result<Answer, RemoteError> {
        let (mut sink, mut stream) = self.open(peer).await?;
        let answer = self
            .within(limit, async {
                wire::send(&mut sink, request.encode(), Bytes::new()).await?;
                wire::receive(&mut stream, max).await
            })
            .await??;
        Ok(Answer::decode(&answer)?)
    }

    fn refusal(&self, ask: &Ask<'_>, answer: Answer, expected: &str) -> RemoteError {
        match answer {
            Answer::Busy { retry_after_ms } => RemoteError::Busy { retry_after_ms },
            Answer::Full { free_bytes } => RemoteError::Full { free_bytes },
            Answer::Gone => RemoteError::Gone,
            Answer::Declined(declined) => self.declined(ask, declined),
            Answer::Refused { reason, text } => RemoteError::Refused { reason, text },
            other => lie(ask, format!("expected {expected}, found {other:?}")),
        }
    }

    /// A refusal that is not signed, or is of something else, is a lie.
    fn declined(&self, ask: &Ask<'_>, declined: Declined) -> RemoteError {
        let found = (declined.decline.deal, declined.decline.id);
        if found != (ask.deal, ask.id) {
            return lie(ask, format!("expected a refusal of it, found one of shard {} of deal {}", found.1, found.0));
        }
        match declined.verify(self.chain_id, &ask.peer.key) {
            Ok(()) => RemoteError::Declined(Box::new(declined)),
            Err(error) => lie(ask, error.to_string()),
        }
    }
}

fn lie(ask: &Ask<'_>, what: String) -> RemoteError {
    RemoteError::Lie(Box::new(Verdict { node: ask.peer.key, deal: ask.deal, shard: ask.id, what }))
}
