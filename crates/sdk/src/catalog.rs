//! Read and change a bucket's index.
//!
//! Changes of one process queue up: whoever has the turn applies all that wait, stores one new layer and swaps
//! the root once. If another process was faster the index is read again and the changes are applied to it; a
//! condition is judged on the run that is finally swapped in.

use crate::{
    bucket::Record,
    change::{Amendment, Change, Done, Moment, apply},
    cloud::{Cloud, Runtime},
    fault::Fault,
    intent::{Cause, End, Journal},
    read::{Holders, Opened},
    sweep::GRACE_MS,
    upload::{NO_PROGRESS, Slot},
};
use alloy_primitives::B256;
use bytes::Bytes;
use futures::{TryStreamExt as _, channel::oneshot, stream};
use hodei_storage::{
    engine::Wait,
    index::{self, Entry, Part, ROOT_BYTES, Root, Run, Settings, Touched},
};
use hodei_types::{slice::ShardId, transport::Transport};
use std::{
    collections::BTreeMap,
    convert::Infallible,
    sync::{Arc, Mutex},
};

/// Swaps tried while others are faster.
const SWAPS_MAX: usize = 16;
/// Indexes kept in memory.
const CACHED_MAX: usize = 64;

type Waiting = (Option<(Change, Moment)>, oneshot::Sender<Result<Done, Fault>>);

/// Those who change one bucket in this process.
#[derive(Default)]
struct Writers {
    turn: futures::lock::Mutex<()>,
    waiting: Mutex<Vec<Waiting>>,
}

/// A layer as it is stored.
#[derive(Clone)]
pub(crate) struct Layer {
    pub(crate) part: Part,
    /// Of the first one, which tells everything, nothing is kept here.
    touched: Arc<Touched>,
}

/// An index, and the layers that hold it; none while the bucket is new.
#[derive(Clone)]
pub(crate) struct Known {
    pub(crate) run: Arc<Run>,
    pub(crate) layers: Vec<Layer>,
    /// Of all versions of all objects.
    size_bytes: u64,
}

/// Indexes this process has read, and who waits to change them.
#[derive(Default)]
pub(crate) struct Catalogs {
    runs: Mutex<BTreeMap<B256, (B256, Known)>>,
    writers: Mutex<BTreeMap<B256, Arc<Writers>>>,
}

impl Catalogs {
    fn writers(&self, bucket: B256) -> Arc<Writers> {
        self.writers.lock().expect("no panic under this lock").entry(bucket).or_default().clone()
    }

    fn keep(&self, bucket: B256, root: B256, known: Known) {
        let mut runs = self.runs.lock().expect("no panic under this lock");
        if runs.len() >= CACHED_MAX && !runs.contains_key(&bucket) {
            runs.pop_first();
        }
        runs.insert(bucket, (root, known));
    }
}

impl<E: Runtime, T: Transport> Cloud<E, T> {
    /// The index as of the record's root.
    pub(crate) async fn run(&self, record: &Record) -> Result<Arc<Run>, Fault> {
        Ok(self.known(record).await?.run)
    }

    /// The same, with where it is.
    pub(crate) async fn known(&self, record: &Record) -> Result<Known, Fault> {
        let root = record.state.root;
        if root == B256::ZERO {
            let run = Arc::new(Run { bucket: record.name.clone(), ..Run::default() });
            return Ok(Known { run, layers: Vec::new(), size_bytes: 0 });
        }
        {
            let runs = self.0.catalogs.runs.lock().expect("no panic under this lock");
            if let Some((_, known)) = runs.get(&record.id).filter(|(known, _)| *known == root) {
                return Ok(known.clone());
            }
        }
        let roster = self.roster(record).await?;
        let id = ShardId(root.0);
        let shard = self.0.engine.get_copy(&roster, id, ROOT_BYTES as u32, |verdict| self.blame(verdict)).await?;
        let (network, secret) = (self.0.network.0, self.secret(record.id));
        let damaged = |error: hodei_storage::index::IndexError| Fault::Index(error.to_string());
        let parts = Root::open(&shard, &network, &record.id.0, &secret).map_err(damaged)?.layers;
        let holders = Holders { shape: record.shape, roster };
        let read = parts.iter().map(|part| self.layer(record, &holders, part));
        let bytes = futures::future::try_join_all(read).await?;
        let mut run = Run::decode(&bytes[0]).map_err(damaged)?;
        let mut layers = vec![Layer { part: parts[0].clone(), touched: Arc::default() }];
        for (part, bytes) in parts.into_iter().zip(bytes).skip(1) {
            let touched = Arc::new(run.absorb(&bytes).map_err(damaged)?);
            layers.push(Layer { part, touched });
        }
        let known = Known { size_bytes: run.size_bytes(), run: Arc::new(run), layers };
        self.0.catalogs.keep(record.id, root, known.clone());
        Ok(known)
    }

    async fn layer(&self, record: &Record, holders: &Holders, part: &Part) -> Result<Vec<u8>, Fault> {
        let (network, secret) = (self.0.network.0, self.secret(record.id));
        let key = part.key(&network, &record.id.0, &secret).map_err(|error| Fault::Index(error.to_string()))?;
        let opened = Opened { key, page: part.page.clone(), size_bytes: part.size_bytes };
        let body = self.read_part(holders, opened, 0..part.size_bytes).await?;
        body.map_ok(|piece| piece.to_vec()).try_concat().await
    }

    /// Named documents of a bucket.
    pub async fn settings(&self, bucket: &str) -> Result<Arc<Settings>, Fault> {
        let record = self.live(bucket).await?;
        Ok(self.run(&record).await?.settings.clone())
    }

    /// Sets a document of a bucket, or removes it: at most 20 KiB each, and 32 of them.
    pub async fn set(&self, bucket: &str, name: &str, document: Option<String>) -> Result<(), Fault> {
        self.set_all(bucket, vec![(name.into(), document)]).await
    }

    /// The same with several at once, or none of them.
    pub async fn set_all(&self, bucket: &str, documents: Vec<(String, Option<String>)>) -> Result<(), Fault> {
        self.change(bucket, Some(Change::Set { documents })).await?;
        Ok(())
    }

    /// Changes a document by what it is at the swap: `edit` gives the new one of the old, and may be called again.
    pub async fn amend(&self, bucket: &str, name: &str, edit: Amendment) -> Result<(), Fault> {
        self.change(bucket, Some(Change::Amend { name: name.into(), edit })).await?;
        Ok(())
    }

    /// Applies one change; `None` only writes the index, with the bucket's name.
    pub(crate) async fn change(&self, bucket: &str, change: Option<Change>) -> Result<Done, Fault> {
        let change = change.map(|change| (change, Moment { now_ms: self.now_ms(), random: self.random() }));
        let writers = self.0.catalogs.writers(self.0.buckets.id(bucket));
        let (sender, mut receiver) = oneshot::channel();
        writers.waiting.lock().expect("no panic under this lock").push((change, sender));
        let _turn = writers.turn.lock().await;
        // Whoever had the turn before may have done ours.
        if let Ok(Some(done)) = receiver.try_recv() {
            return done;
        }
        let batch = std::mem::take(&mut *writers.waiting.lock().expect("no panic under this lock"));
        let (changes, senders): (Vec<_>, Vec<_>) = batch.into_iter().unzip();
        let done = self.swap(bucket, &changes).await;
        for (at, sender) in senders.into_iter().enumerate() {
            let result = match &done {
                Ok(results) => results[at].clone(),
                Err(error) => Err(error.clone()),
            };
            // Who stopped waiting has its change done all the same.
            let _ = sender.send(result);
        }
        receiver.await.map_err(|_| Fault::Contended)?
    }

    /// The fate of each change, once an index with all that were possible is swapped in.
    async fn swap(
        &self,
        bucket: &str,
        changes: &[Option<(Change, Moment)>],
    ) -> Result<Vec<Result<Done, Fault>>, Fault> {
        for _ in 0..SWAPS_MAX {
            let record = self.0.buckets.get(bucket).await?;
            let is_new = record.state.version == 0 && changes.iter().any(Option::is_none);
            if record.state.root == B256::ZERO && !is_new {
                return Err(Fault::NoBucket(bucket.into()));
            }
            let term = self.0.buckets.hold(&record).await?;
            let before = self.known(&record).await?;
            let mut run = (*before.run).clone();
            let mut replaced = Vec::new();
            let mut touched = Touched::default();
            let mut is_ended = false;
            let results: Vec<_> = changes
                .iter()
                .map(|change| match change {
                    _ if is_ended => Err(Fault::NoBucket(bucket.into())),
                    None => Ok(Done::default()),
                    Some((change, moment)) => {
                        let done = apply(&mut run, change, *moment, &mut replaced)?;
                        change.touch(&mut touched);
                        is_ended = matches!(change, Change::End);
                        Ok(done)
                    }
                })
                .collect();
            if results.iter().all(Result::is_err) {
                return Ok(results);
            }
            // A bucket without a root is none: what is written after this swap is refused.
            if is_ended {
                if self.0.buckets.commit(record.id, term, record.state.root, B256::ZERO, 0).await? {
                    return Ok(results);
                }
                continue;
            }
            let journal = self.journal(Cause::Swap, &record, "").await?;
            let (root, known) = self.store(&record, &before, run, touched, &journal).await?;
            let size_bytes = known.size_bytes;
            let stays = known.layers.len() - 1;
            let merged = before.layers[stays..].iter().map(|layer| &layer.part);
            let olds = replaced.iter().flat_map(|entry| &entry.parts).chain(merged);
            let old_root = Some(record.state.root).filter(|root| *root != B256::ZERO);
            journal.olds(olds, old_root.map(|root| ShardId(root.0))).await;
            journal.end(End::Unknown { since_ms: self.now_ms() }).await;
            journal.check()?;
            if self.0.buckets.commit(record.id, term, record.state.root, root, size_bytes).await? {
                self.0.catalogs.keep(record.id, root, known);
                // Who reads what was replaced gets a while to end.
                journal.end(End::Won { due_ms: self.now_ms() + GRACE_MS }).await;
                return Ok(results);
            }
            journal.end(End::Lost).await;
        }
        Err(Fault::Contended)
    }

    /// Stores what was touched since `before`, and the root over all layers; gives its id, and the index.
    async fn store(
        &self,
        record: &Record,
        before: &Known,
        run: Run,
        mut touched: Touched,
        journal: &Arc<Journal<E>>,
    ) -> Result<(B256, Known), Fault> {
        let weigh = |run: &Run| touched.keys.iter().flat_map(|key| run.versions(key)).map(Entry::size_bytes).sum::<u64>();
        let size_bytes = before.size_bytes - weigh(&before.run) + weigh(&run);
        let mut bytes = run.encode_layer(&touched);
        let sizes: Vec<u64> = before.layers.iter().map(|layer| layer.part.size_bytes).collect();
        let mut layers = before.layers.clone();
        let merged = layers.split_off(index::kept(&sizes, bytes.len() as u64));
        if layers.is_empty() {
            (bytes, touched) = (run.encode(), Touched::default());
        } else if !merged.is_empty() {
            merged.iter().for_each(|layer| touched.extend(&layer.touched));
            bytes = run.encode_layer(&touched);
        }
        let source = stream::iter([Ok::<_, Infallible>(Bytes::from(bytes))]);
        let (network, secret) = (self.0.network.0, self.secret(record.id));
        let slot = Slot { record, number: index::part_number(), wrapping: &secret };
        let (sent, kept) = self.send(slot, source, Wait::Quorum, journal.telling(), NO_PROGRESS).await?;
        journal.part(&sent.part, &sent.acks, kept).await?;
        layers.push(Layer { part: sent.part, touched: Arc::new(touched) });
        let (shard, id) = Root { layers: layers.iter().map(|layer| layer.part.clone()).collect() }
            .seal(&network, &record.id.0, &secret, self.random())
            .map_err(|error| Fault::Index(error.to_string()))?;
        let roster = self.roster(record).await?;
        let (_, acks) = self.0.engine.put_copies(record.shape, roster, self.random(), shard, journal.telling()).await?;
        self.owe(&acks);
        Ok((B256::from(id.0), Known { run: Arc::new(run), layers, size_bytes }))
    }
}
