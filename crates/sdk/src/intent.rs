//! Remember what is left with providers until an index names it.
//!
//! A journal is one small file of records: what it is for, which shards are about to leave, which parts are
//! whole, which parts a swap of the index replaces, and how it ended. It is written before what it tells of is
//! done. Upon a kill, the next process of this identity finds it and either goes on with the upload or lets go of
//! what nothing names. A torn last record is of something that was not begun.

use crate::fault::Fault;
use alloy_primitives::B256;
use commonware_runtime::{Blob as _, Buf as _, IoBuf, ReadOptions, Storage, WriteOptions};
use futures::{FutureExt as _, future::BoxFuture, lock::Mutex as AsyncMutex};
use hodei_storage::{
    engine::Offers,
    index::{KEY_BYTES_MAX, Part},
};
use hodei_types::{
    ack::Ack,
    cbor::{CborError, Reader, Writer},
    slice::ShardId,
    transport::NodeKey,
};
use std::{
    collections::BTreeSet,
    sync::{
        Arc, Mutex, Weak,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

/// The folder of a process's store that journals are in.
pub const PARTITION: &str = "intents";
const VERSION: u64 = 1;
/// Length and checksum before each record.
const HEAD_BYTES: usize = 12;
/// A record has no more shards than this; more make several records.
const SHARDS_MAX: usize = 4096;
const ACKS_MAX: usize = 512;
/// An interrupted upload of a file may go on for a day.
const RESUMABLE_MS: u64 = 24 * 3600 * 1000;
/// So long a transaction that swaps an index may still come after its sender died.
const SETTLE_MS: u64 = 10 * 60 * 1000;

/// Names a journal's file.
pub(crate) type Name = [u8; 16];

/// Journals nobody writes any more, and when (local time in ms) to look at each.
pub(crate) type Orphans = Arc<Mutex<Vec<(Name, u64)>>>;

/// What a journal is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cause {
    /// An upload whose source cannot be read again.
    Once = 0,
    /// An upload that the same command may go on with.
    Again = 1,
    /// A new index.
    Swap = 2,
}

/// How it ended, if it did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// It was about to be named; whether it was, the index tells.
    Unknown { since_ms: u64 },
    /// It is named; what it replaced may go at this time.
    Won { due_ms: u64 },
    /// Nothing of it is, or will be, named.
    Lost,
}

/// A part that is stored, and what left for it.
#[derive(Clone, Debug)]
pub(crate) struct Stored {
    pub(crate) part: Part,
    pub(crate) acks: Vec<(NodeKey, Ack)>,
    pub(crate) offers: Vec<(u64, ShardId)>,
}

/// A journal as it was found.
#[derive(Clone, Debug)]
pub(crate) struct Intent {
    pub(crate) cause: Cause,
    pub(crate) bucket: B256,
    pub(crate) bucket_name: String,
    pub(crate) key: String,
    pub(crate) begun_ms: u64,
    pub(crate) parts: Vec<Stored>,
    /// What left since the last whole part.
    pub(crate) offers: Vec<(u64, ShardId)>,
    /// What a swap replaces: parts, and the root.
    pub(crate) olds: Vec<Part>,
    pub(crate) old_root: Option<ShardId>,
    pub(crate) end: Option<End>,
    /// It tells only of what could not be released before: whether something names that it does not know any more.
    pub(crate) is_rest: bool,
    /// Bytes of whole records.
    bytes: u64,
}

impl Intent {
    /// From when on what it tells of may be let go of.
    pub(crate) fn due_ms(&self) -> u64 {
        match self.end {
            None if self.cause == Cause::Again => self.begun_ms + RESUMABLE_MS,
            None | Some(End::Lost) => 0,
            Some(End::Unknown { since_ms }) => since_ms + SETTLE_MS,
            Some(End::Won { due_ms }) => due_ms,
        }
    }
}

/// A journal being written. Dropped unfinished it is an orphan.
pub(crate) struct Journal<E: Storage> {
    name: Name,
    blob: AsyncMutex<(E::Blob, u64)>,
    /// Shards told of since the last whole part.
    told: Mutex<Vec<(u64, ShardId)>>,
    failed: AtomicBool,
    finished: AtomicBool,
    due_ms: AtomicU64,
    orphans: Orphans,
}

fn local(error: impl std::fmt::Display) -> Fault {
    Fault::Local(format!("the journal of an upload: {error}"))
}

/// Names of all journals there are.
pub(crate) async fn scan(storage: &impl Storage) -> Result<Vec<Name>, Fault> {
    match storage.scan(PARTITION).await {
        Ok(names) => Ok(names.into_iter().filter_map(|name| name.try_into().ok()).collect()),
        Err(commonware_runtime::Error::PartitionMissing(_)) => Ok(Vec::new()),
        Err(error) => Err(local(error)),
    }
}

/// What a journal says; `None` if it does not even say what it is for.
pub(crate) async fn read<E: Storage>(storage: &E, name: &Name) -> Result<Option<Intent>, Fault> {
    let (blob, len) = storage.open(PARTITION, name).await.map_err(local)?;
    let len = usize::try_from(len).map_err(local)?;
    let mut bytes = blob.read_at(0, len, ReadOptions::default()).await.map_err(local)?.freeze();
    Ok(decode(&bytes.copy_to_bytes(len)))
}

pub(crate) async fn remove(storage: &impl Storage, name: &Name) -> Result<(), Fault> {
    storage.remove(PARTITION, Some(name)).await.map_err(local)
}

impl<E: Storage> Journal<E> {
    pub(crate) async fn begin(
        storage: &E,
        orphans: &Orphans,
        name: Name,
        cause: Cause,
        (bucket, bucket_name, key): (B256, &str, &str),
        now_ms: u64,
    ) -> Result<Self, Fault> {
        let (blob, _) = storage.open(PARTITION, &name).await.map_err(local)?;
        let due_ms = if cause == Cause::Again { now_ms + RESUMABLE_MS } else { 0 };
        let journal = Self::over(name, (blob, 0), orphans, due_ms);
        let mut out = Writer::new();
        out.array(7).uint(0).uint(VERSION).uint(cause as u64).bytes(bucket.as_slice()).text(bucket_name).text(key);
        out.uint(now_ms);
        journal.write(&out.finish()).await;
        journal.check()?;
        Ok(journal)
    }

    /// Goes on with one that was found.
    pub(crate) async fn resume(storage: &E, orphans: &Orphans, name: Name, intent: &Intent) -> Result<Self, Fault> {
        let (blob, _) = storage.open(PARTITION, &name).await.map_err(local)?;
        blob.resize(intent.bytes).await.map_err(local)?;
        Ok(Self::over(name, (blob, intent.bytes), orphans, intent.due_ms()))
    }

    fn over(name: Name, blob: (E::Blob, u64), orphans: &Orphans, due_ms: u64) -> Self {
        Self {
            name,
            blob: AsyncMutex::new(blob),
            told: Mutex::default(),
            failed: AtomicBool::new(false),
            finished: AtomicBool::new(false),
            due_ms: AtomicU64::new(due_ms),
            orphans: orphans.clone(),
        }
    }

    /// A killed process loses nothing of what it wrote on a real disk; the one of tests cuts the power.
    #[cfg(test)]
    pub(crate) async fn sync(&self) {
        self.blob.lock().await.0.sync().await.unwrap();
    }

    async fn write(&self, body: &[u8]) {
        self.append(framed(body)).await;
    }

    async fn append(&self, records: Vec<u8>) {
        let len = records.len() as u64;
        let mut blob = self.blob.lock().await;
        // A killed client loses nothing of this; after a power cut at the client some shards may be left over.
        match blob.0.write_at(blob.1, IoBuf::from(records), WriteOptions::default()).await {
            Ok(()) => blob.1 += len,
            Err(error) => {
                tracing::error!(%error, "the journal of an upload");
                self.failed.store(true, Ordering::Release);
            }
        }
    }

    /// Refuses to go on once something could not be written down.
    pub(crate) fn check(&self) -> Result<(), Fault> {
        if self.failed.load(Ordering::Acquire) { Err(local("it cannot be written")) } else { Ok(()) }
    }

    /// What a put tells this journal by.
    pub(crate) fn telling(self: &Arc<Self>) -> Arc<dyn Offers> {
        Arc::new(Telling(Arc::downgrade(self)))
    }

    async fn offer(&self, shards: &[(u64, ShardId)]) {
        self.told.lock().expect("no panic under this lock").extend_from_slice(shards);
        self.append(offered(shards)).await;
    }

    /// A part is whole. Gives the shards that were offered for it and are not kept where they were.
    pub(crate) async fn part(
        &self,
        part: &Part,
        acks: &[(NodeKey, Ack)],
        kept: Vec<(u64, ShardId)>,
    ) -> Result<Vec<(u64, ShardId)>, Fault> {
        let mut out = Writer::new();
        out.array(3).uint(2).bytes(&part.encode()).array(acks.len() * 2);
        for (node, ack) in acks {
            out.bytes(&node.0);
            ack.write(&mut out);
        }
        self.write(&out.finish()).await;
        let kept: BTreeSet<_> = kept.into_iter().collect();
        let told = std::mem::take(&mut *self.told.lock().expect("no panic under this lock"));
        self.check()?;
        Ok(told.into_iter().filter(|shard| !kept.contains(shard)).collect())
    }

    /// What naming this will replace, as providers hold it: parts, and packs that it leaves sparse or empty.
    pub(crate) async fn olds<'a>(&self, parts: impl Iterator<Item = &'a Part>, root: Option<ShardId>) {
        for part in parts {
            let mut out = Writer::new();
            out.array(2).uint(3).bytes(&part.encode());
            self.write(&out.finish()).await;
        }
        if let Some(root) = root {
            let mut out = Writer::new();
            out.array(2).uint(4).bytes(&root.0);
            self.write(&out.finish()).await;
        }
    }

    pub(crate) async fn end(&self, end: End) {
        let due_ms = match end {
            End::Unknown { since_ms } => since_ms + SETTLE_MS,
            End::Won { due_ms } => due_ms,
            End::Lost => 0,
        };
        self.due_ms.store(due_ms, Ordering::Release);
        self.append(ended(end)).await;
    }

    /// Only these are left of all it tells of; to be looked at again at `due_ms`. It is one write: whoever is
    /// stopped meanwhile forgets nothing.
    pub(crate) async fn only(&self, left: &[(u64, ShardId)], due_ms: u64) {
        let mut out = Writer::new();
        out.array(1).uint(6);
        let mut records = framed(&out.finish());
        records.extend(offered(left));
        records.extend(ended(End::Lost));
        self.append(records).await;
        self.due_ms.store(due_ms, Ordering::Release);
    }

    /// All of it is named, and nothing is left to do.
    pub(crate) async fn finish(&self, storage: &E) {
        self.finished.store(true, Ordering::Release);
        if let Err(error) = remove(storage, &self.name).await {
            tracing::warn!(%error, "a journal stays behind");
        }
    }
}

/// A journal as a put's tasks hold it: they do not keep it from ending.
pub(crate) struct Telling<E: Storage>(Weak<Journal<E>>);

impl<E: Storage> Offers for Telling<E> {
    fn offer<'a>(&'a self, shards: &'a [(u64, ShardId)]) -> BoxFuture<'a, ()> {
        async move {
            if let Some(journal) = self.0.upgrade() {
                journal.offer(shards).await;
            }
        }
        .boxed()
    }
}

impl<E: Storage> Drop for Journal<E> {
    fn drop(&mut self) {
        if !self.finished.load(Ordering::Acquire) {
            let due_ms = self.due_ms.load(Ordering::Acquire);
            self.orphans.lock().expect("no panic under this lock").push((self.name, due_ms));
        }
    }
}

/// A record with its length and checksum.
pub(crate) fn framed(body: &[u8]) -> Vec<u8> {
    let mut record = Vec::with_capacity(HEAD_BYTES + body.len());
    record.extend_from_slice(&(body.len() as u32).to_be_bytes());
    record.extend_from_slice(&blake3::hash(body).as_bytes()[..8]);
    record.extend_from_slice(body);
    record
}

/// The first record of these bytes, if it is whole.
pub(crate) fn body(bytes: &[u8]) -> Option<&[u8]> {
    let (head, rest) = bytes.split_first_chunk::<HEAD_BYTES>()?;
    let len = u32::from_be_bytes([head[0], head[1], head[2], head[3]]) as usize;
    rest.get(..len).filter(|body| blake3::hash(body).as_bytes()[..8] == head[4..])
}

/// The records of shards that are about to leave.
fn offered(shards: &[(u64, ShardId)]) -> Vec<u8> {
    let batches = shards.chunks(SHARDS_MAX).map(|batch| {
        let mut out = Writer::new();
        out.array(1 + batch.len() * 2).uint(1);
        for (deal, id) in batch {
            out.uint(*deal).bytes(&id.0);
        }
        framed(&out.finish())
    });
    batches.collect::<Vec<_>>().concat()
}

/// The record of how it ended.
fn ended(end: End) -> Vec<u8> {
    let (code, ms) = match end {
        End::Unknown { since_ms } => (0, since_ms),
        End::Won { due_ms } => (1, due_ms),
        End::Lost => (2, 0),
    };
    let mut out = Writer::new();
    out.array(3).uint(5).uint(code).uint(ms);
    framed(&out.finish())
}

/// Reads whole records up to the first that is none.
fn decode(bytes: &[u8]) -> Option<Intent> {
    let mut intent: Option<Intent> = None;
    let mut at = 0;
    while let Some(body) = body(&bytes[at..]) {
        if record(body, &mut intent).is_none() {
            break;
        }
        at += HEAD_BYTES + body.len();
    }
    let mut intent = intent?;
    intent.bytes = at as u64;
    Some(intent)
}

fn record(body: &[u8], intent: &mut Option<Intent>) -> Option<()> {
    let mut input = Reader::new(body);
    let values = input.array(1 + SHARDS_MAX * 2).ok()?;
    let kind = input.uint().ok()?;
    match (kind, intent.as_mut()) {
        (0, None) => *intent = Some(first(&mut input).ok()??),
        (1, Some(intent)) => {
            for _ in 0..values / 2 {
                intent.offers.push((input.uint().ok()?, ShardId(input.fixed().ok()?)));
            }
        }
        (2, Some(intent)) => {
            let part = Part::decode(input.bytes(usize::MAX).ok()?).ok()?;
            let count = input.array(ACKS_MAX * 2).ok()? / 2;
            let mut acks = Vec::with_capacity(count);
            for _ in 0..count {
                acks.push((NodeKey(input.fixed().ok()?), Ack::read(&mut input).ok()?));
            }
            intent.parts.push(Stored { part, acks, offers: std::mem::take(&mut intent.offers) });
        }
        (3, Some(intent)) => intent.olds.push(Part::decode(input.bytes(usize::MAX).ok()?).ok()?),
        (4, Some(intent)) => intent.old_root = Some(ShardId(input.fixed().ok()?)),
        (6, Some(intent)) => {
            intent.parts.clear();
            intent.offers.clear();
            intent.olds.clear();
            intent.old_root = None;
            intent.is_rest = true;
        }
        (5, Some(intent)) => {
            let (code, ms) = (input.uint().ok()?, input.uint().ok()?);
            intent.end = Some(match code {
                0 => End::Unknown { since_ms: ms },
                1 => End::Won { due_ms: ms },
                2 => End::Lost,
                _ => return None,
            });
        }
        _ => return None,
    }
    input.end().ok()
}

fn first(input: &mut Reader<'_>) -> Result<Option<Intent>, CborError> {
    input.exactly("version", VERSION)?;
    let cause = match input.uint()? {
        0 => Cause::Once,
        1 => Cause::Again,
        2 => Cause::Swap,
        _ => return Ok(None),
    };
    Ok(Some(Intent {
        cause,
        bucket: B256::from(input.fixed::<32>()?),
        bucket_name: input.text(KEY_BYTES_MAX)?.into(),
        key: input.text(KEY_BYTES_MAX)?.into(),
        begun_ms: input.uint()?,
        parts: Vec::new(),
        offers: Vec::new(),
        olds: Vec::new(),
        old_root: None,
        end: None,
        is_rest: false,
        bytes: 0,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use commonware_runtime::{Runner as _, deterministic};
    use hodei_storage::{
        index::Home,
        manifest::{Holder, PageRef},
        seal::{Algorithm, WRAPPED_BYTES},
    };
    use hodei_types::{
        ack::{Signer, Statement},
        code::Shape,
    };

    fn part(number: u32) -> Part {
        let holders = vec![Holder { node: NodeKey([5; 32]), deal: 7 }; 4];
        Part {
            number,
            object: [number as u8; 16],
            wrapped: [2; WRAPPED_BYTES],
            algorithm: Algorithm::Aes256Gcm,
            commitment: [3; 32],
            size_bytes: 1 << 20,
            content: [4; 32],
            shape: Shape::new(3, 6, 1).unwrap(),
            home: Home::Own(PageRef { id: ShardId([6; 32]), bytes: 8192, stripes: 3, holders }),
        }
    }

    /// Whatever of the file is there after a kill is read up to its last whole record.
    #[test]
    fn a_torn_journal_tells_what_was_whole() {
        deterministic::Runner::default().start(|context| async move {
            let orphans = Orphans::default();
            let (name, shard) = ([1; 16], |i: u8| (u64::from(i), ShardId([i; 32])));
            let place = (B256::repeat_byte(9), "photos", "a/b");
            let journal = Journal::begin(&context, &orphans, name, Cause::Again, place, 1000).await.unwrap();
            let signer = Signer::new(&[1; 32]);
            let ack = signer.ack(5, Statement { deal: 1, sequence: 2, position: 1, root: [0; 32], leaves: 4 });
            journal.offer(&[shard(1), shard(2)]).await;
            let strays = journal.part(&part(1), &[(signer.node(), ack)], vec![shard(1)]).await.unwrap();
            assert_eq!(strays, [shard(2)], "offered, and not kept there");
            journal.offer(&[shard(3)]).await;
            journal.sync().await;
            drop(journal);
            assert_eq!(*orphans.lock().unwrap(), [(name, 1000 + RESUMABLE_MS)]);
            let whole = read(&context, &name).await.unwrap().unwrap();
            assert_eq!((whole.parts.len(), whole.parts[0].offers.len(), whole.offers.len()), (1, 2, 1));
            assert_eq!((whole.key.as_str(), whole.due_ms()), ("a/b", 1000 + RESUMABLE_MS));
            assert_eq!(whole.parts[0].acks, [(signer.node(), ack)]);

            let (blob, len) = context.open(PARTITION, &name).await.unwrap();
            let bytes = blob
                .read_at(0, len as usize, ReadOptions::default())
                .await
                .unwrap()
                .freeze()
                .copy_to_bytes(len as usize);
            for cut in 0..bytes.len() {
                let found = decode(&bytes[..cut]);
                let (parts, offers) = found.map_or((0, 0), |intent| (intent.parts.len(), intent.offers.len()));
                assert!(parts <= 1 && (parts, offers) != (1, 1), "{cut} of {}", bytes.len());
            }
            // What is left of it knows nothing of parts.
            let mut rest = Writer::new();
            rest.array(1).uint(6);
            let rest = decode(&[&bytes[..], &framed(&rest.finish()), &offered(&[shard(2)])].concat()).unwrap();
            assert_eq!((rest.parts.len(), rest.offers, rest.is_rest), (0, vec![shard(2)], true));
            assert!(!whole.is_rest);
            drop(blob);
            let journal = Journal::resume(&context, &orphans, name, &whole).await.unwrap();
            journal.end(End::Unknown { since_ms: 5 }).await;
            assert_eq!(journal.due_ms.load(Ordering::Acquire), 5 + SETTLE_MS);
            journal.finish(&context).await;
            drop(journal);
            assert_eq!(scan(&context).await.unwrap(), Vec::<Name>::new());
            assert_eq!(orphans.lock().unwrap().len(), 1, "only the first was an orphan");
        });
    }
}
