//! Answer `hodei/shard/1`: take shards, give them back, say what is held.
//!
//! Upon a stream: wait for a place, read one request, check deal and grant, then quota, queue and disk, and
//! only then the body. Every refusal is a typed answer before the body. An ack leaves when shard and deal
//! tree are on disk and the transfer is in the log.

use super::{Provider, access::AccessError};
use crate::{caps::Pace, journal::now_ms};
use bytes::Bytes;
use commonware_runtime::{IoBuf, Sink, Storage, Stream};
use hodei_storage::wire::{self, Answer, LIST_BYTES_MAX, Reason, Request, UploadId, WireError};
use hodei_types::{
    event::{Fields, Kind},
    grant::Rights,
    slice::{CHUNK_BYTES, ShardId},
    transport::{Incoming, NodeKey},
};
use std::time::Duration;

/// A client that opens a stream says at once what it wants.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);
/// A shard takes this long at 70 kbit/s.
const BODY_TIMEOUT: Duration = Duration::from_secs(120);
/// So long may an answer take to be accepted by the client's flow control.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(120);
/// Of a body that is given, what goes to the wire at once: what a client did not take is known to within this.
const PIECE_BYTES: usize = 128 << 10;
/// What a client is told to wait when something is full for a moment.
pub(super) const BUSY_MS: u32 = 100;
/// What it is told to wait when this device spares power or transfer.
const RESTING_MS: u32 = 5_000;
/// What it is told to wait when the ledger cannot be asked.
const NO_LEDGER_MS: u32 = 1_000;

/// A shard somebody wants to store.
struct Put {
    deal: u64,
    id: ShardId,
    len: u32,
    upload: UploadId,
    grant: Vec<u8>,
}

impl<E: Storage> Provider<E> {
    /// Serves one stream to its end. Whatever goes wrong is the peer's affair or in the log.
    pub async fn serve<Si: Sink, St: Stream>(&self, incoming: Incoming<Si, St>) {
        let Incoming { from, mut sink, mut stream, .. } = incoming;
        let Some(_place) = self.gate().enter(from).await else {
            self.meters().busy.inc();
            drop(stream);
            answer(&mut sink, Answer::Busy { retry_after_ms: BUSY_MS }, Bytes::new()).await;
            return;
        };
        let received = tokio::time::timeout(REQUEST_TIMEOUT, wire::receive(&mut stream, LIST_BYTES_MAX)).await;
        let request = match received {
            Err(_) => return,
            Ok(received) => received.and_then(|bytes| Request::decode(&bytes)),
        };
        let (reply, body) = match request {
            Ok(request) => self.reply(from, request, &mut stream).await,
            // A stream that broke off has nobody to tell.
            Err(WireError::Stream(_)) => return,
            Err(error) => (refused(Reason::Malformed, error), Bytes::new()),
        };
        match &reply {
            Answer::Busy { .. } => _ = self.meters().busy.inc(),
            Answer::Full { .. } => _ = self.meters().full.inc(),
            Answer::Refused { reason, text } => {
                tracing::debug!(%from, ?reason, text, "refused");
                self.meters().refused.inc();
                if *reason == Reason::Unpaid {
                    self.meters().unpaid_refusals.inc();
                }
            }
            _ => {}
        }
        // Nothing more is read. The client learns so before it has the answer, and takes back what it still had
        // to send: a body left behind, larger than its window, would hold its stream's place for ever.
        drop(stream);
        let bytes = body.len() as u64;
        let sent = answer(&mut sink, reply, body).await;
        // Caps count what flows, not what somebody asked for and then did not take.
        self.meters().read_bytes.inc_by(sent);
        self.0.upload.give_back(bytes - sent);
    }

    /// Waits for a turn for bytes that are to be given or taken; refuses where it is far away.
    pub(super) async fn turn(&self, pace: &Pace, bytes: u64) -> Result<(), Answer> {
        let wait = pace.take(bytes, self.0.begun.elapsed()).map_err(later)?;
        // A timer takes a millisecond, however short the wait.
        if !wait.is_zero() {
            tokio::time::sleep(wait).await;
        }
        Ok(())
    }

    /// What is answered where the next turn is far away; none is taken.
    pub(super) fn far(&self, pace: &Pace) -> Option<Answer> {
        pace.take(0, self.0.begun.elapsed()).err().map(later)
    }

    /// For how long it rests, as far as it knows.
    fn resting(&self) -> Answer {
        let left_ms = self.rests_until_ms().map(|until_ms| until_ms.saturating_sub(now_ms()));
        let retry_after_ms = left_ms.map_or(RESTING_MS, |ms| u32::try_from(ms).unwrap_or(u32::MAX).max(BUSY_MS));
        Answer::Busy { retry_after_ms }
    }

    /// Whether shards are taken now: who would bring some asks before it reads them elsewhere.
    fn greet(&self) -> Answer {
        if self.is_resting() {
            return self.resting();
        }
        if !self.is_judged() {
            return Answer::Busy { retry_after_ms: BUSY_MS };
        }
        let (free_bytes, queued_bytes) = (self.free_bytes(), self.queue().bytes());
        Answer::Hello { version: wire::VERSION, free_bytes, queued_bytes }
    }

    async fn reply<St: Stream>(&self, from: NodeKey, request: Request, stream: &mut St) -> (Answer, Bytes) {
        match request {
            Request::Hello { version } if version != wire::VERSION => {
                (refused(Reason::Version, format!("expected version {}", wire::VERSION)), Bytes::new())
            }
            Request::Hello { .. } => (self.greet(), Bytes::new()),
            Request::Put { .. } | Request::Get { .. } if self.is_resting() => (self.resting(), Bytes::new()),
            // What its operator ordered it to refuse while it was stopped is not given before the order is read.
            Request::Put { .. } | Request::Get { .. } if !self.is_judged() => {
                (Answer::Busy { retry_after_ms: BUSY_MS }, Bytes::new())
            }
            Request::Put { deal, id, len, upload, grant } => {
                let put = Put { deal, id, len, upload, grant };
                (self.put(from, put, stream).await.unwrap_or_else(|refusal| refusal), Bytes::new())
            }
            Request::Get { deal, id, offset, len, grant } => {
                match self.get(from, deal, id, offset..offset.saturating_add(len), &grant).await {
                    Ok(slice) => slice,
                    Err(refusal) => (refusal, Bytes::new()),
                }
            }
            Request::Has { deal, ids, grant } => {
                let rights = Rights::READ | Rights::WRITE;
                (self.has(from, deal, &ids, &grant, rights).await.unwrap_or_else(|refusal| refusal), Bytes::new())
            }
            Request::Release { deal, ids, grant } => {
                (self.release(from, deal, &ids, &grant).await.unwrap_or_else(|refusal| refusal), Bytes::new())
            }
            Request::Keep { deal, ids, until_ms, grant } => {
                (self.keep(from, deal, &ids, until_ms, &grant).await.unwrap_or_else(|refusal| refusal), Bytes::new())
            }
            Request::List { deal, from: first, grant } => {
                (self.list(from, deal, first, &grant).await.unwrap_or_else(|refusal| refusal), Bytes::new())
            }
            Request::Announce { deal, ids, addresses, secs, grant } => {
                let announced = self.announce(from, deal, (ids, addresses), secs, &grant).await;
                (announced.unwrap_or_else(|refusal| refusal), Bytes::new())
            }
            Request::Who { deal, ids, grant } => {
                (self.who(from, deal, &ids, &grant).await.unwrap_or_else(|refusal| refusal), Bytes::new())
            }
            Request::Tick { deal, tick, grant } => {
                (self.tick(from, deal, &tick, &grant).await.unwrap_or_else(|refusal| refusal), Bytes::new())
            }
            Request::State { deal, grant } => {
                (self.state(from, deal, &grant).await.unwrap_or_else(|refusal| refusal), Bytes::new())
            }
        }
    }

    async fn put<St: Stream>(&self, from: NodeKey, put: Put, stream: &mut St) -> Result<Answer, Answer> {
        let Put { deal, id, len, upload, grant } = put;
        let terms = self.access().check_write(from, deal, &grant, now_ms()).await.map_err(denied)?;
        if self.is_draining() {
            return Err(refused(Reason::UnknownDeal, "this provider is draining: it takes nothing new"));
        }
        if self.is_closed() {
            return Err(refused(Reason::UnknownDeal, "the ledger closed this provider: nothing new would be proven"));
        }
        if let Some(declined) = self.declined(deal, &id) {
            return Err(Answer::Declined(declined));
        }
        let bytes = u64::from(len);
        if self.store().leaves(deal) * CHUNK_BYTES as u64 + bytes > terms.capacity_bytes {
            return Err(refused(Reason::DealFull, format!("deal {deal} is for {} bytes", terms.capacity_bytes)));
        }
        self.store().admit(len).map_err(|error| self.store_failed(error))?;
        let Some(_queued) = self.queue().reserve(bytes) else {
            return Err(Answer::Busy { retry_after_ms: BUSY_MS });
        };
        // All that was promised a place, this body too; the store has taken some of it off already.
        let promised = self.queue().bytes().saturating_sub(self.store().queued_bytes());
        let free_bytes = self.free_bytes();
        if free_bytes < promised {
            return Err(Answer::Full { free_bytes });
        }
        self.turn(&self.0.download, bytes).await?;
        let body = tokio::time::timeout(BODY_TIMEOUT, wire::body(stream, len as usize)).await;
        let Ok(Ok(body)) = body else {
            self.0.download.give_back(bytes);
            return Err(refused(Reason::Malformed, "the body did not arrive"));
        };
        let held = self.store().put(deal, id, upload, body).await.map_err(|error| self.store_failed(error))?;
        let statement = &held.ack.statement;
        let event = Fields::new()
            .text("direction", "in")
            .bytes("peer", &from.0)
            .bytes("shard", &id.0)
            .uint("bytes", bytes)
            .uint("deal", deal)
            .uint("sequence", statement.sequence);
        self.note(Kind::Transfer, event).await?;
        self.meters().put_shards.inc();
        self.meters().put_bytes.inc_by(bytes);
        Ok(Answer::Held(held))
    }
}

/// Sends an answer; a client that does not take it is cut off. How many bytes of the body went out.
async fn answer<Si: Sink>(sink: &mut Si, answer: Answer, mut body: Bytes) -> u64 {
    let mut sent = 0;
    let all = async {
        let first = body.split_to(body.len().min(PIECE_BYTES));
        let bytes = first.len();
        wire::send(sink, answer.encode(), first).await?;
        sent += bytes as u64;
        while !body.is_empty() {
            let piece = body.split_to(body.len().min(PIECE_BYTES));
            let bytes = piece.len();
            sink.send(IoBuf::from(piece)).await?;
            sent += bytes as u64;
        }
        Ok::<_, WireError>(())
    };
    if let Ok(Err(error)) = tokio::time::timeout(ANSWER_TIMEOUT, all).await {
        tracing::debug!(%error, "answer not taken");
    }
    sent
}

pub(super) fn refused(reason: Reason, text: impl ToString) -> Answer {
    Answer::Refused { reason, text: text.to_string() }
}

/// Its turn is this far away: nothing is taken or given before.
fn later(wait: Duration) -> Answer {
    Answer::Busy { retry_after_ms: u32::try_from(wait.as_millis()).unwrap_or(u32::MAX).min(RESTING_MS) }
}

pub(super) fn denied(error: AccessError) -> Answer {
    match error {
        AccessError::UnknownDeal(_) | AccessError::Closing(_) => refused(Reason::UnknownDeal, error),
        AccessError::Grant(_) => refused(Reason::NotGranted, error),
        AccessError::Chain(error) => {
            tracing::warn!(%error, "the ledger was not asked about a deal");
            Answer::Busy { retry_after_ms: NO_LEDGER_MS }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use commonware_runtime::{Error, IoBufs};

    /// Takes so many sends, and then is reset.
    struct Reset(usize);

    impl Sink for Reset {
        async fn send(&mut self, _: impl Into<IoBufs> + Send) -> Result<(), Error> {
            self.0 = self.0.checked_sub(1).ok_or(Error::Closed)?;
            Ok(())
        }
    }

    #[test]
    fn what_a_client_did_not_take_is_not_counted() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let body = Bytes::from(vec![7; 1 << 20]);
            for (sends, sent) in [(0, 0), (1, PIECE_BYTES), (3, 3 * PIECE_BYTES), (8, 1 << 20), (9, 1 << 20)] {
                assert_eq!(answer(&mut Reset(sends), Answer::Gone, body.clone()).await, sent as u64, "{sends} sends");
            }
            assert_eq!(answer(&mut Reset(1), Answer::Gone, Bytes::new()).await, 0);
        });
    }
}
