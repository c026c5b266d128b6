//! Give other readers what is kept, within limits.
//!
//! Upon ASK: the owner's word must be for the very reader whose stream it is, and for a bucket of which a link is open
//! here; what is kept is hashed again before it is given. So a word that was stolen opens no more here than at providers.

use super::Crowd;
use crate::cloud::Runtime;
use alloy_primitives::B256;
use bytes::Bytes;
use commonware_runtime::{Sink, Stream};
use futures::{
    future::{Either, select},
    pin_mut,
};
use hodei_storage::{
    crowd::{Question, VERSION},
    wire::{self, Answer, MESSAGE_BYTES_MAX, Reason, WireError},
};
use hodei_types::{
    grant::{Grant, Rights},
    transport::{Incoming, NodeKey, Transport},
};
use std::{
    collections::BTreeMap,
    sync::Mutex,
    time::{Duration, SystemTime},
};

/// Streams served at once, and those of them of one reader.
const STREAMS_MAX: usize = 8;
const PEER_STREAMS_MAX: usize = 4;
/// Who opens a stream says at once what it wants, and takes the answer.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
/// Who would wait longer for the upload's pace is told to come again.
const PACE_MAX: Duration = Duration::from_secs(1);

/// What bounds a door.
pub(super) struct Limits {
    streams: Mutex<BTreeMap<NodeKey, usize>>,
    /// Until then the upload's pace is used up.
    paced: Mutex<SystemTime>,
}

impl Limits {
    pub(super) fn new(now: SystemTime) -> Self {
        Self { streams: Mutex::default(), paced: Mutex::new(now) }
    }

    /// A place for a stream; `None` if all are taken.
    fn enter(&self, from: NodeKey) -> Option<Place<'_>> {
        let mut streams = self.streams.lock().expect("no panic under this lock");
        let (all, own) = (streams.values().sum::<usize>(), streams.get(&from).copied().unwrap_or(0));
        if all >= STREAMS_MAX || own >= PEER_STREAMS_MAX {
            return None;
        }
        streams.insert(from, own + 1);
        Some(Place { limits: self, from })
    }

    /// How long to wait before so many bytes may go; `None` if that is too long.
    fn pace(&self, bytes: usize, per_s: Option<u64>, now: SystemTime) -> Option<Duration> {
        let Some(per_s) = per_s else { return Some(Duration::ZERO) };
        let mut paced = self.paced.lock().expect("no panic under this lock");
        let start = (*paced).max(now);
        let wait = start.duration_since(now).unwrap_or_default();
        if wait > PACE_MAX {
            return None;
        }
        *paced = start + Duration::from_micros(bytes as u64 * 1_000_000 / per_s.max(1));
        Some(wait)
    }
}

/// A stream's place; dropping it lets the next one in.
struct Place<'a> {
    limits: &'a Limits,
    from: NodeKey,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut streams = self.limits.streams.lock().expect("no panic under this lock");
        match streams.get_mut(&self.from) {
            Some(count) if *count > 1 => *count -= 1,
            _ => _ = streams.remove(&self.from),
        }
    }
}

impl<E: Runtime, T: Transport> Crowd<E, T> {
    /// Serves one stream of `hodei/crowd/1` to its end.
    pub async fn serve<Si: Sink, St: Stream>(&self, incoming: Incoming<Si, St>) {
        let Incoming { from, mut sink, mut stream, .. } = incoming;
        // Who is silent takes up no place: how many wait here the link bounds, and the timeout for how long.
        let received = match self.within(REQUEST_TIMEOUT, wire::receive(&mut stream, MESSAGE_BYTES_MAX)).await {
            None | Some(Err(WireError::Stream(_))) => return,
            Some(received) => received,
        };
        // Held until the answer is taken.
        let mut place = None;
        let (answer, body) = match received.and_then(|bytes| Question::decode(&bytes)) {
            Ok(question) => self.reply(from, question, &mut place).await,
            Err(error) => (refused(Reason::Malformed, error), Bytes::new()),
        };
        // Nothing more is read.
        drop(stream);
        if let Some(Err(error)) = self.within(ANSWER_TIMEOUT, wire::send(&mut sink, answer.encode(), body)).await {
            tracing::debug!(%from, %error, "answer not taken by a reader");
        }
    }

    /// Takes a place once it is known that something is to be given.
    async fn reply<'a>(&'a self, from: NodeKey, question: Question, place: &mut Option<Place<'a>>) -> (Answer, Bytes) {
        let (bucket, id, grant) = match question {
            Question::Hello { version: VERSION } => {
                return (Answer::Hello { version: VERSION, free_bytes: 0, queued_bytes: 0 }, Bytes::new());
            }
            Question::Hello { .. } => {
                return (refused(Reason::Version, format!("expected version {VERSION}")), Bytes::new());
            }
            Question::Ask { bucket, id, grant } => (B256::from(bucket), id, grant),
        };
        if let Err(why) = self.judge(from, bucket, &grant) {
            return (refused(Reason::NotGranted, why), Bytes::new());
        }
        let found = self.0.shelf.as_ref().and_then(|shelf| Some((shelf, shelf.len_of(&bucket, &id)?)));
        let Some((shelf, len)) = found else { return (Answer::Gone, Bytes::new()) };
        *place = self.0.door.enter(from);
        if place.is_none() {
            return (busy(), Bytes::new());
        }
        // Before the disk is read: whoever is too much for the line is not too much for the disk.
        let (now, per_s) = (self.0.context.current(), self.0.settings.upload_bytes_per_s);
        let Some(wait) = self.0.door.pace(len as usize, per_s, now) else { return (busy(), Bytes::new()) };
        self.0.context.sleep(wait).await;
        let Some(shard) = shelf.get(&bucket, id).await else { return (Answer::Gone, Bytes::new()) };
        let len = shard.len() as u32;
        (Answer::Slice { shard_bytes: len, offset: 0, len, hashes: Vec::new() }, shard)
    }

    /// Whether the owner lets a reader have shards of a bucket, as far as is known without the ledger. Who is refused is not
    /// told whether a link of that bucket is open here.
    fn judge(&self, from: NodeKey, bucket: B256, grant: &[u8]) -> Result<(), &'static str> {
        let grant = Grant::decode(grant).ok_or("the grant is malformed")?;
        let now_ms = self.now_ms();
        if grant.expires_ms <= now_ms {
            return Err("the grant has expired");
        }
        if !grant.rights.contains(Rights::READ) {
            return Err("the grant does not allow this");
        }
        // First, so that the time it takes tells nothing either.
        let signer = grant.signer(self.0.chain_id, bucket, &from);
        let owner = self.lock().buckets.get(&bucket).filter(|known| known.expires_ms > now_ms).map(|known| known.owner);
        match signer.zip(owner) {
            Some((signer, owner)) if signer == owner => Ok(()),
            _ => Err("the grant is not of this client by the owner of a bucket of which a link is open here"),
        }
    }

    async fn within<F: Future>(&self, limit: Duration, future: F) -> Option<F::Output> {
        let sleep = self.0.context.sleep(limit);
        pin_mut!(future, sleep);
        match select(future, sleep).await {
            Either::Left((output, _)) => Some(output),
            Either::Right(_) => None,
        }
    }
}

fn busy() -> Answer {
    Answer::Busy { retry_after_ms: 1000 }
}

fn refused(reason: Reason, text: impl ToString) -> Answer {
    Answer::Refused { reason, text: text.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reader_takes_four_places_all_take_eight_and_each_is_given_back() {
        let limits = Limits::new(SystemTime::UNIX_EPOCH);
        let key = |byte: u8| NodeKey([byte; 32]);
        let own = [(); PEER_STREAMS_MAX].map(|()| limits.enter(key(1)));
        assert!(own.iter().all(Option::is_some) && limits.enter(key(1)).is_none());
        let others: Vec<_> = (2..6).map(|byte| limits.enter(key(byte))).collect();
        assert!(others.iter().all(Option::is_some) && limits.enter(key(9)).is_none(), "eight are in");
        drop(own);
        assert!(limits.enter(key(9)).is_some());
        drop(others);
        assert!(limits.streams.lock().unwrap().is_empty());
    }

    #[test]
    fn what_is_given_keeps_to_its_pace() {
        let (start, per_s) = (SystemTime::UNIX_EPOCH, Some(1_000_000));
        let limits = Limits::new(start);
        let at = |ms| start + Duration::from_millis(ms);
        assert_eq!(limits.pace(500_000, per_s, at(0)), Some(Duration::ZERO));
        assert_eq!(limits.pace(1_000_000, per_s, at(100)), Some(Duration::from_millis(400)));
        assert_eq!(limits.pace(1, per_s, at(100)), None, "that would take more than a second");
        assert_eq!(limits.pace(1, per_s, at(1500)), Some(Duration::ZERO));
        assert_eq!(limits.pace(usize::MAX >> 24, None, at(1500)), Some(Duration::ZERO));
    }
}
