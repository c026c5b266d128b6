//! Read and change a bucket's index.
//!
//! Changes of one process queue up: a turn takes all that wait, packs the small objects among them, stores one new
//! layer and swaps the root once. If another process was faster the index is read again, the layers that are new,
//! and the changes are applied to it; a condition is judged on the run that is finally swapped in.

use crate::{
    bucket::Record,
    change::{Amendment, CREATED, Change, Done, Moment, apply},
    cloud::{Cloud, Runtime},
    fault::Fault,
    intent::{Cause, End, Journal},
    keep::{Kept, is_void},
    pack::{Lodged, Small},
    read::{Holders, Opened},
    redundancy::noted,
    share,
    sweep::GRACE_MS,
    upload::{NO_PROGRESS, Slot},
};
use alloy_primitives::B256;
use bytes::Bytes;
use futures::{TryStreamExt as _, channel::oneshot, stream};
use hodei_storage::{
    engine::{Fill, Wait},
    index::{self, Entry, IndexError, Part, ROOT_BYTES, Root, Run, Settings, Touched},
    pack,
};
use hodei_types::{slice::ShardId, transport::Transport};
use std::{
    collections::{BTreeMap, BTreeSet},
    convert::Infallible,
    sync::{Arc, Mutex},
    time::Duration,
};

/// Swaps tried while others are faster.
const SWAPS_MAX: usize = 32;
/// Of the rest between two tries, doubled up to six times.
const REST_MS: u64 = 25;
/// Indexes kept in memory.
const CACHED_MAX: usize = 64;

/// Who waits for the next turn.
pub(crate) struct Waiting {
    pub(crate) change: Option<(Change, Moment)>,
    /// Bytes to store first: those of the change's object, whose entry has no parts yet.
    pub(crate) small: Option<Small>,
    pub(crate) answer: oneshot::Sender<Answer>,
}

/// What was done, and where small bytes went.
pub(crate) type Answer = Result<(Done, Option<Lodged>), Fault>;

/// Those who change one bucket in this process.
#[derive(Default)]
struct Writers(Mutex<Queue>);

#[derive(Default)]
struct Queue {
    waiting: Vec<Waiting>,
    /// A task takes turn after turn until nobody waits.
    is_busy: bool,
}

impl Writers {
    fn queue(&self) -> std::sync::MutexGuard<'_, Queue> {
        self.0.lock().expect("no panic under this lock")
    }

    /// Whether a task must be started.
    fn push(&self, waiting: Waiting) -> bool {
        let mut queue = self.queue();
        queue.waiting.push(waiting);
        !std::mem::replace(&mut queue.is_busy, true)
    }

    /// All that wait; with nobody waiting, the task ends.
    fn take(&self) -> Vec<Waiting> {
        let mut queue = self.queue();
        // Given up before anybody began it: what it would name may be released by now.
        queue.waiting.retain(|waiting| !waiting.answer.is_canceled());
        queue.is_busy = !queue.waiting.is_empty();
        std::mem::take(&mut queue.waiting)
    }
}

/// Lets others begin anew where a task ended before its time; who waited is told.
struct Turns {
    writers: Arc<Writers>,
    is_over: bool,
}

impl Drop for Turns {
    fn drop(&mut self) {
        if !self.is_over {
            let mut queue = self.writers.queue();
            queue.is_busy = false;
            queue.waiting.clear();
        }
    }
}

/// A layer as it is stored.
#[derive(Clone)]
pub(crate) struct Layer {
    pub(crate) part: Part,
    /// Of the first one, which tells everything, nothing is kept here.
    touched: Arc<Touched>,
    /// The index up to this layer: where another process put a layer on top, nothing below is read again. It
    /// shares what the next layers leave as it is.
    run: Arc<Run>,
}

/// An index, and the layers that hold it; none while the bucket is new.
#[derive(Clone)]
pub(crate) struct Known {
    /// With all that is bound, whatever the layers say.
    pub(crate) run: Arc<Run>,
    pub(crate) layers: Vec<Layer>,
    pub(crate) kept: Arc<Kept>,
    /// Keys of which the layers say otherwise than what is bound: the next swap writes them.
    restored: Arc<BTreeSet<String>>,
    /// Why the index cannot be read, where only what is bound is known.
    void: Option<Fault>,
}

impl Known {
    fn of(run: Arc<Run>, layers: Vec<Layer>) -> Self {
        Self { run, layers, kept: Arc::default(), restored: Arc::default(), void: None }
    }

    /// The same with what its leaves name.
    fn restored(mut self, kept: Kept, now_ms: u64) -> Self {
        if !kept.is_empty() {
            self.restored = Arc::new(kept.restore(Arc::make_mut(&mut self.run), now_ms));
            self.kept = Arc::new(kept);
        }
        self
    }
}

/// Indexes this process has read, and who waits to change them.
#[derive(Default)]
pub(crate) struct Catalogs {
    /// By bucket: the root, how often its list of leaves had changed, and what was read.
    runs: Mutex<BTreeMap<B256, ((B256, u64), Known)>>,
    writers: Mutex<BTreeMap<B256, Arc<Writers>>>,
}

impl Catalogs {
    fn writers(&self, bucket: B256) -> Arc<Writers> {
        self.writers.lock().expect("no panic under this lock").entry(bucket).or_default().clone()
    }

    /// The index under this root, with so many changes of what is kept, if it is here.
    fn run_at(&self, bucket: &B256, root: (B256, u64)) -> Option<Arc<Run>> {
        let runs = self.runs.lock().expect("no panic under this lock");
        runs.get(bucket).filter(|(known, _)| *known == root).map(|(_, known)| known.run.clone())
    }

    /// Names of buckets whose index as it was read `fits`.
    pub(crate) fn named(&self, fits: impl Fn(&Run) -> bool) -> Vec<String> {
        let runs = self.runs.lock().expect("no panic under this lock");
        runs.values().map(|(_, known)| &known.run).filter(|run| fits(run)).map(|run| run.bucket.clone()).collect()
    }

    pub(crate) fn forget(&self, name: &str) {
        self.runs.lock().expect("no panic under this lock").retain(|_, (_, known)| known.run.bucket != name);
    }

    fn keep(&self, bucket: B256, root: (B256, u64), known: Known) {
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
        let known = self.0.catalogs.run_at(&record.id, (record.state.root, record.state.keeps));
        if let Some(run) = known { Ok(run) } else { Ok(self.known(record).await?.run) }
    }

    /// The same, with where it is.
    pub(crate) async fn known(&self, record: &Record) -> Result<Known, Fault> {
        let root = (record.state.root, record.state.keeps);
        if root.0 == B256::ZERO {
            return Ok(Known::of(Arc::new(Run::new(&record.name)), Vec::new()));
        }
        let before = self.0.catalogs.runs.lock().expect("no panic under this lock").get(&record.id).cloned();
        let before = match before {
            Some((known, run)) if known == root => return Ok(run),
            Some((_, run)) => run.layers,
            None => Vec::new(),
        };
        let (known, kept) = futures::future::join(self.read_index(record, before), self.kept(record)).await;
        let kept = kept?;
        match known {
            Ok(known) => {
                let known = known.restored(kept, self.now_ms());
                self.0.catalogs.keep(record.id, root, known.clone());
                Ok(known)
            }
            // Whoever swapped that in hides nothing that is bound.
            Err(error) if is_void(&error) && !kept.is_empty() => {
                tracing::error!(%error, bucket = record.name, "the index is void: only locked versions are known");
                let known = Known { void: Some(error), ..Known::of(Arc::new(Run::new(&record.name)), Vec::new()) };
                Ok(known.restored(kept, self.now_ms()))
            }
            Err(error) => Err(error),
        }
    }

    /// The index as its layers say, of which these were read before.
    async fn read_index(&self, record: &Record, before: Vec<Layer>) -> Result<Known, Fault> {
        let root = record.state.root;
        let holders = self.holders(record).await?;
        let id = ShardId(root.0);
        let shard =
            self.0.engine.get_copy(&holders.roster, id, ROOT_BYTES as u32, |verdict| self.blame(verdict)).await?;
        let (network, secret) = (self.0.network.0, self.secret(record.id));
        let damaged = |error: IndexError| Fault::Index(error.to_string());
        let parts = Root::open(&shard, &network, &record.id.0, &secret).map_err(damaged)?.layers;
        let kept = before.iter().zip(&parts).take_while(|(layer, part)| layer.part == **part).count();
        let read = parts[kept..].iter().map(|part| self.layer(record, &holders, part));
        let bytes = futures::future::try_join_all(read).await?;
        let mut layers = before[..kept].to_vec();
        let read: Vec<(Part, Vec<u8>)> = parts.into_iter().skip(kept).zip(bytes).collect();
        let layers = self
            .compute(move || {
                for (part, bytes) in read {
                    let (run, touched) = match layers.last() {
                        None => (Run::decode(&bytes)?, Touched::default()),
                        Some(below) => {
                            let mut run = (*below.run).clone();
                            let touched = run.absorb(&bytes)?;
                            (run, touched)
                        }
                    };
                    layers.push(Layer { part, touched: Arc::new(touched), run: Arc::new(run) });
                }
                Ok::<_, IndexError>(layers)
            })
            .await?
            .map_err(damaged)?;
        let run = layers.last().ok_or_else(|| Fault::Index("it has no layer".into()))?.run.clone();
        Ok(Known::of(run, layers))
    }

    /// Does what keeps a core busy for long beside the threads that serve the network.
    async fn compute<R: Send + 'static>(&self, work: impl FnOnce() -> R + Send + 'static) -> Result<R, Fault> {
        let task = self.0.context.child("compute").shared(true).spawn(move |_| async move { work() });
        task.await.map_err(|_| Fault::Local("the runtime is shutting down".into()))
    }

    pub(crate) async fn layer(&self, record: &Record, holders: &Holders, part: &Part) -> Result<Vec<u8>, Fault> {
        let (network, secret) = (self.0.network.0, self.secret(record.id));
        let opened = Opened::of(part, (&network, &record.id.0), &secret, &secret);
        let opened = opened.map_err(|error| Fault::Index(error.to_string()))?;
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
        Ok(self.wait(bucket, change, None).await?.0)
    }

    /// Waits for a turn that applies a change, and stores the bytes it needs before. Who stops waiting once it began has
    /// it done all the same: a turn is a task of its own.
    pub(crate) async fn wait(&self, bucket: &str, change: Option<Change>, small: Option<Small>) -> Answer {
        let change = change.map(|change| (change, Moment { now_ms: self.now_ms(), random: self.random() }));
        let writers = self.0.catalogs.writers(self.0.buckets.id(bucket));
        let (answer, receiver) = oneshot::channel();
        if writers.push(Waiting { change, small, answer }) {
            let (cloud, bucket) = (self.clone(), bucket.to_owned());
            self.0.context.child("turns").spawn(move |_| async move {
                let mut turns = Turns { writers, is_over: false };
                while !turns.is_over {
                    let batch = turns.writers.take();
                    if batch.is_empty() {
                        turns.is_over = true;
                    } else {
                        cloud.turn(&bucket, batch).await;
                    }
                }
            });
        }
        receiver.await.map_err(|_| Fault::Contended)?
    }

    async fn turn(&self, bucket: &str, batch: Vec<Waiting>) {
        let (batch, lodgings) = self.lodge(bucket, batch).await;
        let changes: Vec<_> = batch.iter().map(|(waiting, _)| waiting.change.clone()).collect();
        let done = if changes.is_empty() { Ok(Vec::new()) } else { self.swap(bucket, &changes).await };
        let results: Vec<Result<Done, Fault>> = match done {
            Ok(results) => results,
            Err(error) => changes.iter().map(|_| Err(error.clone())).collect(),
        };
        let ends = batch.iter().zip(&results);
        self.settle_in(lodgings, ends.map(|((_, lodged), result)| (lodged.as_ref(), result))).await;
        for ((waiting, lodged), result) in batch.into_iter().zip(results) {
            let _ = waiting.answer.send(result.map(|done| (done, lodged)));
        }
    }

    /// The fate of each change, once an index with all that were possible is swapped in.
    async fn swap(
        &self,
        bucket: &str,
        changes: &[Option<(Change, Moment)>],
    ) -> Result<Vec<Result<Done, Fault>>, Fault> {
        for tries in 0..SWAPS_MAX {
            self.give_way(tries).await;
            let record = self.0.buckets.get(bucket).await?;
            let is_new = record.state.version == 0 && changes.iter().any(Option::is_none);
            if record.state.root == B256::ZERO && !is_new {
                return Err(Fault::NoBucket(bucket.into()));
            }
            let term = self.0.buckets.hold(&record).await?;
            let before = self.known(&record).await?;
            if let Some(error) = before.void {
                return Err(error);
            }
            let mut run = (*before.run).clone();
            if is_new {
                Arc::make_mut(&mut run.settings).insert(CREATED.into(), self.now_ms().to_string());
            }
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
                let roots = (record.state.root, B256::ZERO);
                if self.0.buckets.commit(record.id, term, roots, 0, Vec::new()).await? {
                    return Ok(results);
                }
                continue;
            }
            for key in share::over(&run, self.now_ms()) {
                replaced.extend(run.pin(&key, None));
                touched.keys.insert(key);
            }
            let journal = self.journal(Cause::Swap, &record, "").await?;
            let anew = changes.iter().flatten().any(|(change, _)| matches!(change, Change::Rewrite));
            touched.keys.extend(before.restored.iter().cloned());
            let dues = before.kept.due(&run, &touched.keys, self.now_ms());
            let secured = self.secure(&record, dues);
            let stored = self.store(&record, &before, run, touched, anew, &journal);
            let (secured, (root, mut known)) = futures::future::try_join(secured, stored).await?;
            let size_bytes = known.run.size_bytes();
            let stays = known.layers.len() - 1;
            let merged = before.layers[stays..].iter().map(|layer| &layer.part);
            let olds = gone(&replaced, &known.run).into_iter().chain(merged);
            let old_root = Some(record.state.root).filter(|root| *root != B256::ZERO);
            journal.olds(olds, old_root.map(|root| ShardId(root.0))).await;
            journal.end(End::Unknown { since_ms: self.now_ms() }).await;
            journal.check()?;
            let listed = secured.listed.clone();
            let keeps = record.state.keeps + listed.len() as u64;
            let swapped = match self.commit_kept(&record, term, root, size_bytes, listed).await {
                // Room is made by those whose time is over.
                Err(Fault::KeptFull(_)) if self.lapse(&record).await? => Ok(false),
                swapped => swapped,
            };
            let is_swapped = swapped?;
            known.kept = Arc::new(secured.onto(&before.kept));
            self.settle_secured(&record, secured, is_swapped).await;
            if is_swapped {
                self.0.catalogs.keep(record.id, (root, keeps), known);
                // Who reads what was replaced gets a while to end.
                journal.end(End::Won { due_ms: self.now_ms() + GRACE_MS }).await;
                return Ok(results);
            }
            journal.end(End::Lost).await;
        }
        Err(Fault::Contended)
    }

    /// Rests, the longer the more often others were faster: several doors that write one bucket without a rest keep each
    /// other from it.
    pub(crate) async fn give_way(&self, tries: usize) {
        if tries > 0 {
            let most_ms = REST_MS << tries.min(6);
            let [a, b] = self.random::<2>();
            let rest_ms = (u64::from(u16::from_be_bytes([a, b])) * most_ms) >> 16;
            self.0.context.sleep(Duration::from_millis(rest_ms)).await;
        }
    }

    /// Stores what was touched since `before`, or `anew` all of it, and the root over all layers; gives its id, and
    /// the index.
    async fn store(
        &self,
        record: &Record,
        before: &Known,
        run: Run,
        mut touched: Touched,
        anew: bool,
        journal: &Arc<Journal<E>>,
    ) -> Result<(B256, Known), Fault> {
        let mut bytes = run.encode_layer(&touched);
        let sizes: Vec<u64> = before.layers.iter().map(|layer| layer.part.size_bytes).collect();
        let mut layers = before.layers.clone();
        // For custodians, who read nothing else of the index; beside it the root has room for a layer less.
        let (regions, care) = (noted(&run.settings).1, self.care(record.id));
        let limits = (!regions.is_empty()).then_some((&care, &regions[..]));
        let most = index::LAYERS_MAX - 1 - usize::from(limits.is_some());
        let merged = layers.split_off(if anew { 0 } else { index::kept(&sizes, bytes.len() as u64).min(most) });
        let (run, is_first) = (Arc::new(run), layers.is_empty());
        if is_first || !merged.is_empty() {
            // It may be of a million keys.
            let run = run.clone();
            let encode = move || {
                if is_first {
                    return (run.encode(), Touched::default());
                }
                merged.iter().for_each(|layer| touched.extend(&layer.touched));
                (run.encode_layer(&touched), touched)
            };
            (bytes, touched) = self.compute(encode).await?;
        }
        let source = stream::iter([Ok::<_, Infallible>(Bytes::from(bytes))]);
        let (network, secret) = (self.0.network.0, self.secret(record.id));
        let slot = Slot { record, number: index::part_number(), wrapping: &secret, fill: Fill::Index };
        let (sent, kept) = self.send(slot, source, Wait::Quorum, journal.telling(), NO_PROGRESS).await?;
        journal.part(&sent.part, &sent.acks, kept).await?;
        layers.push(Layer { part: sent.part, touched: Arc::new(touched), run: run.clone() });
        let (shard, id) = Root { layers: layers.iter().map(|layer| layer.part.clone()).collect() }
            .seal(&network, &record.id.0, &secret, self.random(), limits)
            .map_err(|error| Fault::Index(error.to_string()))?;
        let roster = self.takers(record).await?;
        let (_, acks) = self.0.engine.put_copies(record.shape, roster, self.random(), shard, journal.telling()).await?;
        self.owe(&acks);
        Ok((B256::from(id.0), Known::of(run, layers)))
    }
}

/// What providers hold of replaced entries, each once: parts, and packs that are sparse or empty now.
fn gone<'a>(replaced: &'a [Entry], now: &Run) -> Vec<&'a Part> {
    let stored = replaced.iter().flat_map(|entry| &entry.parts).map(Part::stored);
    let each: BTreeMap<[u8; 16], &Part> = stored.map(|part| (part.object, part)).collect();
    let is_full = |part: &Part| {
        now.uses(&part.object).is_some_and(|uses| part.is_pack() && !pack::is_sparse(uses.bytes, part.size_bytes))
    };
    each.into_values().filter(|part| !is_full(part)).collect()
}
