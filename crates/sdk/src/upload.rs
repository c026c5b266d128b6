//! Put objects: in parts, so that an upload can go on where it was interrupted.
//!
//! ```text
//! source → parts (engine), each journalled → entry → index swap → event → answer
//!        └ up to 64 KiB: wait for the turn → pack (see `pack`) ┘
//! ```
//! Until the index names it nothing of an object is visible: a source that fails, or a checksum that does not
//! match, leaves the bucket as it was. Upon a kill the journal stays: the same file put to the same key goes on
//! behind the last whole part, once that part's bytes were compared and its providers still hold it. What no
//! index will name is released.

use crate::{
    bucket::Record,
    change::Versioning,
    cloud::{Cloud, Runtime},
    complete::{Named, judge, merge},
    condition::Condition,
    customer,
    cut::Cut,
    fault::Fault,
    intent::{self, Cause, End, Intent, Journal, Name},
    object::check_key,
};
use alloy_primitives::B256;
use bytes::Bytes;
use futures::{FutureExt as _, StreamExt as _, future::BoxFuture, stream::Stream};
use hodei_storage::{
    engine::{Coder, Fill, Offers, Progress, PutError, PutRequest, Wait, plain_bytes},
    index::{Checksum, Entry, Home, Lock, PARTS_MAX, Part},
    manifest::STRIPES_MAX,
    pack,
    seal::{Algorithm, PartKey, Place, Secret},
};
use hodei_types::{
    ack::Ack,
    slice::ShardId,
    transport::{NodeKey, Transport},
};
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

/// Where nobody watches.
pub(crate) const NO_PROGRESS: fn(Progress) = |_| {};

/// What is known of bytes once all of them are read.
#[derive(Clone, Debug, Default)]
pub struct Judged {
    /// Without quotes.
    pub etag: String,
    pub checksum: Option<Checksum>,
}

/// Judges what was read; called once, after the last byte. An error undoes the put.
pub type Finish = Box<dyn FnOnce() -> Result<Judged, String> + Send>;

/// How an object is put.
#[derive(Default)]
pub struct Options {
    pub content_type: String,
    pub meta: BTreeMap<String, String>,
    pub tags: BTreeMap<String, String>,
    pub lock: Option<Lock>,
    pub acl: Option<String>,
    pub owner: Option<String>,
    pub class: Option<String>,
    pub redirect: Option<String>,
    /// Put it under a key its customer keeps.
    pub customer: Option<customer::Key>,
    /// What must hold of what the key names now.
    pub condition: Condition,
    /// `None`: the etag is the BLAKE3 of the plaintext.
    pub finish: Option<Finish>,
    pub wait: Wait,
    /// Told often how far it is.
    pub progress: Option<Box<dyn Fn(Progress) + Send + Sync>>,
}

/// A part that is stored, and who said so. While any clone lives, its shards are kept; then, unless an object
/// was made of it, they are released.
#[derive(Clone)]
pub struct Sent {
    pub part: Part,
    /// Newest ack of each deal.
    pub acks: Vec<(NodeKey, Ack)>,
    pub(crate) kept: Option<Arc<dyn Kept>>,
}

impl std::fmt::Debug for Sent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sent").field("part", &self.part).field("acks", &self.acks).finish_non_exhaustive()
    }
}

/// What keeps a part's shards from being released.
pub(crate) trait Kept: Send + Sync {
    fn end(&self, end: End) -> BoxFuture<'_, ()>;
    fn finish(&self) -> BoxFuture<'_, ()>;
}

pub(crate) struct Keeping<E: Runtime, T: Transport> {
    pub(crate) cloud: Cloud<E, T>,
    pub(crate) journal: Arc<Journal<E>>,
}

impl<E: Runtime, T: Transport> Kept for Keeping<E, T> {
    fn end(&self, end: End) -> BoxFuture<'_, ()> {
        self.journal.end(end).boxed()
    }

    fn finish(&self) -> BoxFuture<'_, ()> {
        self.journal.finish(&self.cloud.0.context).boxed()
    }
}

/// What a put did.
#[derive(Clone, Debug)]
pub struct Put {
    pub entry: Entry,
    /// Of the bucket, at that moment.
    pub versioning: Versioning,
    /// Its event's sequence in this identity's log, if one is kept.
    pub event: Option<u64>,
    /// The acks the event commits to, in its order.
    pub acks: Vec<(NodeKey, Ack)>,
    /// Bytes that an interrupted put of the same had stored before.
    pub resumed_bytes: u64,
}

/// An upload's parts so far.
#[derive(Default)]
struct Parts {
    list: Vec<Part>,
    acks: BTreeMap<u64, (NodeKey, Ack)>,
    bytes: u64,
    /// Offered for a part and not kept there.
    strays: Vec<(u64, ShardId)>,
    resumed_bytes: u64,
}

impl Parts {
    fn add(&mut self, part: Part, acks: &[(NodeKey, Ack)], strays: Vec<(u64, ShardId)>) {
        self.bytes += part.size_bytes;
        self.list.push(part);
        self.strays.extend(strays);
        merge(&mut self.acks, acks);
    }
}

/// Where a part's bytes go.
pub(crate) struct Slot<'a> {
    pub(crate) record: &'a Record,
    pub(crate) number: u32,
    /// Wraps the part's key.
    pub(crate) wrapping: &'a Secret,
    /// How much of the deals it may take.
    pub(crate) fill: Fill,
}

impl<E: Runtime, T: Transport> Cloud<E, T> {
    /// Stores one part's bytes under a key of its own. Gives where each shard is, besides.
    pub(crate) async fn send<S, X>(
        &self,
        slot: Slot<'_>,
        source: S,
        wait: Wait,
        offers: Arc<dyn Offers>,
        progress: impl Fn(Progress) + Send + Sync + 'static,
    ) -> Result<(Sent, Vec<(u64, ShardId)>), Fault>
    where
        S: Stream<Item = Result<Bytes, X>> + Send + Unpin,
        X: std::fmt::Display,
    {
        let Slot { record, number, wrapping, fill } = slot;
        let roster = self.takers(record).await?;
        let (object, secret) = (self.random(), Secret::new(self.random()));
        let algorithm = Algorithm::preferred();
        let place =
            Place { network: self.0.network.0, bucket: record.id.0, object, part: number, attempt: 0, algorithm };
        let wrapped = wrapping.wrap(&object, &secret);
        let key = PartKey::new(&secret, &place);
        let coder =
            if number == pack::PART { Coder::of_pack(key, &record.shape) } else { Coder::new(key, &record.shape) };
        let coder = Arc::new(coder);
        let commitment = *coder.commitment();
        let (shape, care) = (record.shape, self.care(record.id));
        let request = PutRequest { shape, coder, roster: roster.clone(), upload: object, wait, offers, fill, care };
        let mut stored = self.0.engine.put(request, source, progress).await?;
        for verdict in stored.verdicts() {
            self.blame(verdict);
        }
        let newest = stored.acks();
        self.owe(&newest);
        let nodes: BTreeMap<u64, NodeKey> = roster.iter().map(|provider| (provider.deal, provider.peer.key)).collect();
        let acks = newest.iter().filter_map(|(deal, ack)| Some((*nodes.get(deal)?, *ack))).collect();
        let part = Part {
            number,
            object,
            wrapped,
            algorithm,
            commitment,
            size_bytes: stored.size_bytes,
            content: stored.content,
            shape: record.shape,
            home: Home::Own(stored.page.clone()),
        };
        let kept = std::mem::take(&mut stored.kept);
        // The shards beyond the quorum go on without us.
        let (cloud, rest) = (self.clone(), std::mem::take(&mut stored.rest));
        self.0.context.child("rest").spawn(move |_| async move {
            rest.settle().await;
            cloud.owe(&stored.acks());
        });
        Ok((Sent { part, acks, kept: None }, kept))
    }

    /// Stores an object from a source that cannot be read again.
    pub async fn put<S, X>(&self, bucket: &str, key: &str, source: S, options: Options) -> Result<Put, Fault>
    where
        S: Stream<Item = Result<Bytes, X>> + Send + Unpin,
        X: std::fmt::Display,
    {
        check_key(key)?;
        let record = self.live(bucket).await?;
        let mut cut = Cut::new(source, blake3::Hasher::new());
        if let Some(bytes) = short(&mut cut, options.wait).await? {
            return self.put_short(&record, key, bytes, options).await;
        }
        let journal = self.journal(Cause::Once, &record, key).await?;
        self.upload(&record, key, cut, journal, Parts::default(), options).await
    }

    /// Stores an object from a source that `open` gives from any offset on, such as a file: where an earlier
    /// process was interrupted with the same bytes for the same key, this goes on from there.
    pub async fn put_again<F, S, X>(&self, bucket: &str, key: &str, open: F, options: Options) -> Result<Put, Fault>
    where
        F: Fn(u64) -> S + Send + Sync,
        S: Stream<Item = Result<Bytes, X>> + Send + Unpin,
        X: std::fmt::Display + Send,
    {
        check_key(key)?;
        let record = self.live(bucket).await?;
        let (mut parts, mut whole) = (Parts::default(), blake3::Hasher::new());
        // What was sealed for a customer's key cannot be compared without it: that begins anew.
        let interrupted = match options.customer {
            None => self.interrupted(record.id, key).await,
            Some(_) => None,
        };
        let journal = match interrupted {
            None => {
                let mut cut = Cut::new(open(0), blake3::Hasher::new());
                if let Some(bytes) = short(&mut cut, options.wait).await? {
                    return self.put_short(&record, key, bytes, options).await;
                }
                let journal = self.journal(Cause::Again, &record, key).await?;
                return self.upload(&record, key, cut, journal, parts, options).await;
            }
            Some((name, intent)) => {
                for stored in &intent.parts {
                    let mut probe = whole.clone();
                    let hash = part_hash(open(parts.bytes), stored.part.size_bytes, &mut probe).await;
                    if hash != Some(stored.part.content) || !self.still_holds(&record, &stored.part).await {
                        break;
                    }
                    let kept = self.shards(&record, &stored.part).await?;
                    let strays = stored.offers.iter().filter(|shard| !kept.contains(shard)).copied().collect();
                    parts.add(stored.part.clone(), &stored.acks, strays);
                    whole = probe;
                }
                parts.resumed_bytes = parts.bytes;
                // What left for parts that are not gone on with is named by nothing.
                let rest = intent.parts[parts.list.len()..].iter().flat_map(|stored| &stored.offers);
                parts.strays.extend(rest.chain(&intent.offers));
                Arc::new(Journal::resume(&self.0.context, &self.0.orphans, name, &intent).await?)
            }
        };
        let cut = Cut::new(open(parts.bytes), whole);
        self.upload(&record, key, cut, journal, parts, options).await
    }

    async fn upload<S, X>(
        &self,
        record: &Record,
        key: &str,
        mut cut: Cut<S>,
        journal: Arc<Journal<E>>,
        mut parts: Parts,
        mut options: Options,
    ) -> Result<Put, Fault>
    where
        S: Stream<Item = Result<Bytes, X>> + Send + Unpin,
        X: std::fmt::Display,
    {
        // A page's worth: what a kill costs at most.
        let part_bytes = plain_bytes(&record.shape) * STRIPES_MAX as u64;
        let told = Arc::new(options.progress.take());
        let mark = options.customer.as_ref().map(|customer| self.mark(customer));
        let wrapping = customer::wrapping(self.secret(record.id), mark.as_ref(), options.customer.as_ref(), key)?;
        let acked = Arc::new(Mutex::new(0));
        // An empty object has one part all the same: its end is authenticated.
        while parts.list.is_empty() || cut.has_more().await.map_err(|error| Fault::Source(error.to_string()))? {
            if parts.list.len() == PARTS_MAX {
                return Err(Fault::Source(format!("it is longer than {PARTS_MAX} parts of {part_bytes} bytes")));
            }
            let number = parts.list.len() as u32 + 1;
            let (told, base) = (told.clone(), parts.bytes);
            let (before, acks) = (*acked.lock().expect("no panic under this lock"), acked.clone());
            let progress = move |now: Progress| {
                let shards_acked = before + now.shards_acked;
                *acks.lock().expect("no panic under this lock") = shards_acked;
                if let Some(told) = &*told {
                    let (read_bytes, stored_bytes) = (base + now.read_bytes, base + now.stored_bytes);
                    told(Progress { read_bytes, stored_bytes, shards_acked });
                }
            };
            let source = cut.take(part_bytes);
            let slot = Slot { record, number, wrapping: &wrapping, fill: Fill::Data };
            let sent = self.send(slot, source, options.wait, journal.telling(), progress).await;
            if let Err(Fault::Put(PutError::Full { .. })) = &sent {
                // Nobody goes on with it, and what was stored of it takes what room there is.
                journal.end(End::Lost).await;
            }
            let (sent, kept) = sent?;
            let strays = journal.part(&sent.part, &sent.acks, kept).await?;
            parts.add(sent.part, &sent.acks, strays);
        }
        let content = *cut.whole.finalize().as_bytes();
        let judged = judge(options.finish.take(), content)?;
        let Parts { list, acks, strays, resumed_bytes, .. } = parts;
        let named = Named { judged, mark, source: None, parts: list, acks, content, pieces: Vec::new(), resumed_bytes };
        let kept: Arc<dyn Kept> = Arc::new(Keeping { cloud: self.clone(), journal });
        let put = self.name(record, key, named, &[kept], options).await?;
        if !strays.is_empty() {
            let roster = self.roster(record).await?;
            let released = self.0.engine.release(&roster, strays).await;
            self.owe(&released.acks);
        }
        Ok(put)
    }

    pub(crate) async fn journal(&self, cause: Cause, record: &Record, key: &str) -> Result<Arc<Journal<E>>, Fault> {
        let place = (record.id, record.name.as_str(), key);
        let journal = Journal::begin(&self.0.context, &self.0.orphans, self.random(), cause, place, self.now_ms());
        Ok(Arc::new(journal.await?))
    }

    /// The newest interrupted upload of this key, which is then nobody else's. It waits for no sweep: that one may
    /// be waiting for providers that are away.
    pub(crate) async fn interrupted(&self, bucket: B256, key: &str) -> Option<(Name, Intent)> {
        let names: Vec<Name> =
            self.0.orphans.lock().expect("no panic under this lock").iter().map(|(name, _)| *name).collect();
        for name in names.into_iter().rev() {
            let Ok(Some(intent)) = intent::read(&self.0.context, &name).await else { continue };
            let fits = intent.cause == Cause::Again && intent.bucket == bucket && intent.key == key;
            // Another upload of this key, or the sweep of what is too old, may have been faster.
            if fits && intent.end.is_none() && self.take_orphan(|(other, _)| *other == name).is_some() {
                return Some((name, intent));
            }
        }
        None
    }

    async fn still_holds(&self, record: &Record, part: &Part) -> bool {
        let Ok(roster) = self.roster(record).await else { return false };
        let held = self.0.engine.holds(&part.shape, &roster, part.page(), |verdict| self.blame(verdict));
        held.await.unwrap_or(false)
    }
}

/// The source's bytes, if they are few enough to be packed with others'. Who waits for all acks has them alone.
async fn short<S, X>(cut: &mut Cut<S>, wait: Wait) -> Result<Option<Bytes>, Fault>
where
    S: Stream<Item = Result<Bytes, X>> + Unpin,
    X: std::fmt::Display,
{
    match wait {
        Wait::Quorum => cut.short(pack::OBJECT_BYTES_MAX).await.map_err(|error| Fault::Source(error.to_string())),
        Wait::Full => Ok(None),
    }
}

/// BLAKE3 of the next `bytes` of a source; `None` if there are not so many.
async fn part_hash<S, X>(source: S, bytes: u64, whole: &mut blake3::Hasher) -> Option<[u8; 32]>
where
    S: Stream<Item = Result<Bytes, X>> + Unpin,
{
    let (mut own, mut seen) = (blake3::Hasher::new(), 0);
    let mut cut = Cut::new(source, std::mem::take(whole));
    {
        let mut part = cut.take(bytes);
        while let Some(piece) = part.next().await {
            let piece = piece.ok()?;
            own.update(&piece);
            seen += piece.len() as u64;
        }
    }
    *whole = cut.whole;
    (seen == bytes).then(|| *own.finalize().as_bytes())
}
