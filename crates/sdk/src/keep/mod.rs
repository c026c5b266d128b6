//! Keep versions under compliance from whoever has stolen all that may write their bucket.
//!
//! ```text
//! swap   versions newly bound → KEEP of their parts at the providers → leaf: a layer that names just them → KEEP of it
//!        → the swap that names them lists the leaf on the ledger
//! read   index ∪ what the listed leaves name
//! ```
//! A writer's key and the bucket's secrets let a thief swap in any index, release shards and end deals. What is bound
//! its providers then do not release, the ledger neither ends their deals nor takes the leaf off its list, and a view
//! of the bucket shows it whatever the index says. Where two leaves name one version the one listed first is right: a
//! thief's come later. A version that is bound for longer gets another leaf, and those that name it already are listed for
//! as long, so that no leaf in between ever becomes the first.
//!
//! What a thief lists is read like the rest, up to a size each; what cannot be read is left out.

mod list;
mod secure;

use crate::{
    bucket::Record,
    cloud::{Cloud, Runtime},
    fault::Fault,
    read::Holders,
    retain::bound_ms,
};
use alloy_primitives::B256;
use futures::{StreamExt as _, stream};
use hodei_storage::{
    engine::GetError,
    index::{Entry, Lock, Part, ROOT_BYTES, Root, Run, Version},
};
use hodei_types::{slice::ShardId, transport::Transport};
use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Bound,
    sync::{Arc, Mutex},
};

/// A leaf's layer, before it is sealed. Honest ones are half of that.
const LEAF_BYTES_MAX: u64 = 16 << 20;
/// Leaves read at once.
const READ_AT_ONCE: usize = 32;
/// One that cannot be read is tried again after this.
const AGAIN_MS: u64 = 60_000;
/// Buckets whose leaves stay in memory.
const CACHED_MAX: usize = 64;

/// What a leaf names: the part its layer is in, and entries by key.
#[derive(Debug)]
pub(crate) struct Leaf {
    pub(crate) part: Part,
    pub(crate) entries: Vec<(String, Entry)>,
}

impl Leaf {
    fn of(part: Part, run: &Run) -> Self {
        let entries = run
            .range(Bound::Unbounded)
            .flat_map(|(key, versions)| versions.iter().map(move |entry| (key.to_owned(), entry.clone())));
        Self { part, entries: entries.collect() }
    }
}

/// A bound version, as the leaf listed first says, for as long as the leaves say that agree with it.
#[derive(Clone, Debug)]
struct Locked {
    entry: Entry,
    leaves: Vec<B256>,
}

/// A leaf as this process knows it.
#[derive(Clone)]
enum Read {
    Whole(Arc<Leaf>),
    Void { again_ms: u64 },
}

/// Leaves this process has read, by bucket.
#[derive(Default)]
pub(crate) struct Leaves(Mutex<BTreeMap<B256, BTreeMap<B256, Read>>>);

/// All that the leaves of one bucket name.
#[derive(Clone, Debug, Default)]
pub(crate) struct Kept {
    parts: BTreeMap<B256, Part>,
    versions: BTreeMap<String, Vec<Locked>>,
}

/// A version that a swap must bind.
#[derive(Clone, Debug)]
struct Due {
    key: String,
    entry: Entry,
    until_ms: u64,
}

/// All that a swap must bind: versions, and leaves to be listed until when.
#[derive(Clone, Debug, Default)]
pub(crate) struct Dues {
    versions: Vec<Due>,
    raises: BTreeMap<B256, u64>,
}

impl Dues {
    pub(crate) fn is_empty(&self) -> bool {
        self.versions.is_empty()
    }
}

impl Kept {
    /// Of leaves in the order in which they were listed.
    pub(crate) fn of<'a>(leaves: impl IntoIterator<Item = (B256, &'a Leaf)>) -> Self {
        let mut kept = Self::default();
        leaves.into_iter().for_each(|(id, leaf)| kept.add(id, leaf));
        kept
    }

    /// Adds one that is listed behind all others.
    pub(crate) fn add(&mut self, id: B256, leaf: &Leaf) {
        self.parts.insert(id, leaf.part.clone());
        for (key, entry) in &leaf.entries {
            let versions = self.versions.entry(key.clone()).or_default();
            match versions.iter_mut().find(|bound| bound.entry.version == entry.version) {
                None => versions.push(Locked { entry: entry.clone(), leaves: vec![id] }),
                Some(first) if is_same(&first.entry, entry) => {
                    first.entry.lock = stricter(first.entry.lock, entry.lock);
                    first.leaves.push(id);
                }
                // Of another content: whoever lists that now did not put the first.
                Some(_) => {}
            }
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.parts.is_empty()
    }

    /// The leaves, and the parts their layers are in.
    pub(crate) fn leaves(&self) -> impl Iterator<Item = (&B256, &Part)> {
        self.parts.iter()
    }

    /// Puts back into an index what is bound at `now_ms`; gives the keys that lacked it or said otherwise.
    pub(crate) fn restore(&self, run: &mut Run, now_ms: u64) -> BTreeSet<String> {
        let mut restored = BTreeSet::new();
        for (key, bounds) in &self.versions {
            let mut versions = run.versions(key).to_vec();
            let mut is_other = false;
            for bound in bounds.iter().filter(|bound| bound_ms(&bound.entry, now_ms).is_some()) {
                is_other |= put_back(&mut versions, &bound.entry);
            }
            if is_other {
                run.set(key, versions);
                restored.insert(key.clone());
            }
        }
        restored
    }

    /// Versions of these keys that are bound in the index at `now_ms` and by no leaf, or for less by leaves.
    pub(crate) fn due<'a>(&self, run: &Run, keys: impl IntoIterator<Item = &'a String>, now_ms: u64) -> Dues {
        let mut dues = Dues::default();
        for key in keys {
            for entry in run.versions(key) {
                let Some(until_ms) = bound_ms(entry, now_ms) else { continue };
                let known = self.versions.get(key).into_iter().flatten();
                let known = known.into_iter().find(|bound| bound.entry.version == entry.version);
                let known = known.filter(|bound| is_same(&bound.entry, entry));
                if known.and_then(|bound| bound_ms(&bound.entry, now_ms)).is_some_and(|known_ms| known_ms >= until_ms) {
                    continue;
                }
                for leaf in known.into_iter().flat_map(|bound| &bound.leaves) {
                    let raised = dues.raises.entry(*leaf).or_default();
                    *raised = until_ms.max(*raised);
                }
                dues.versions.push(Due { key: key.clone(), entry: entry.clone(), until_ms });
            }
        }
        dues
    }
}

/// Whether two entries are of the same bytes, wherever these are.
fn is_same(a: &Entry, b: &Entry) -> bool {
    let parts = |entry: &Entry| entry.parts.iter().map(|part| (part.object, part.content)).collect::<Vec<_>>();
    parts(a) == parts(b)
}

/// The later end of two locks whose bytes are the same.
fn stricter(a: Option<Lock>, b: Option<Lock>) -> Option<Lock> {
    let until = |lock: Option<Lock>| lock.and_then(|lock| lock.retention).map_or(0, |retention| retention.until_ms);
    if until(b) > until(a) { b } else { a }
}

/// Puts a bound version among others, the newest first; whether it was not there as it is. Tags, access lists and legal
/// holds are the index's: they are no part of what compliance binds.
fn put_back(versions: &mut Vec<Entry>, bound: &Entry) -> bool {
    let Some(at) = versions.iter().position(|entry| entry.version == bound.version) else {
        let is_older = |entry: &Entry| match (entry.version, bound.version) {
            (Version::Id(id), Version::Id(bound)) => id < bound,
            _ => entry.modified_ms < bound.modified_ms,
        };
        let at = versions.iter().position(is_older).unwrap_or(versions.len());
        versions.insert(at, bound.clone());
        return true;
    };
    let now = &versions[at];
    // Of other bytes its lock says nothing about these.
    let is_longer = is_same(now, bound) && bound_ms(now, 0).unwrap_or(0) >= bound_ms(bound, 0).unwrap_or(0);
    let retention = if is_longer { now.lock } else { bound.lock }.and_then(|lock| lock.retention);
    let lock = Some(Lock { retention, hold: now.lock.and_then(|lock| lock.hold) });
    let right = Entry { tags: now.tags.clone(), acl: now.acl.clone(), lock, ..bound.clone() };
    let is_other = *now != right;
    versions[at] = right;
    is_other
}

/// Whether an index is void, not only out of reach: nobody has it, or it does not open.
pub(crate) fn is_void(error: &Fault) -> bool {
    matches!(
        error,
        Fault::Index(_)
            | Fault::Get(GetError::Gone { .. } | GetError::Manifest(_) | GetError::Mismatch(_) | GetError::Open { .. })
    )
}

impl<E: Runtime, T: Transport> Cloud<E, T> {
    /// What leaves say of a bucket whose record this is.
    pub(crate) async fn kept(&self, record: &Record) -> Result<Kept, Fault> {
        let now_ms = self.now_ms();
        if record.kept_until_ms(now_ms).is_none() {
            return Ok(Kept::default());
        }
        let listed = self.0.buckets.kept(record.id).await?;
        let cached = self.0.leaves.0.lock().expect("no panic under this lock").get(&record.id).cloned();
        let cached = cached.unwrap_or_default();
        let held = self.holders(record).await?;
        // Owned, not borrowed: a closure over references makes futures that are not provably Send.
        let asked: Vec<_> = listed.iter().map(|one| (one.leaf, cached.get(&one.leaf).cloned())).collect();
        let read = stream::iter(asked).map(|(id, known): (B256, Option<Read>)| {
            let (cloud, record, holders) = (self.clone(), record.clone(), held.clone());
            async move {
                let known = known.filter(|read| match read {
                    Read::Whole(_) => true,
                    Read::Void { again_ms } => *again_ms > now_ms,
                });
                match known {
                    Some(known) => (id, known),
                    None => (id, cloud.leaf(&record, &holders, id, now_ms).await),
                }
            }
        });
        let read: BTreeMap<B256, Read> = read.buffer_unordered(READ_AT_ONCE).collect().await;
        let whole = listed.iter().filter_map(|one| match read.get(&one.leaf) {
            Some(Read::Whole(leaf)) => Some((one.leaf, &**leaf)),
            _ => None,
        });
        let kept = Kept::of(whole);
        self.know(record.id, read);
        Ok(kept)
    }

    /// Takes leaves off the ledger's list whose time is over, and lets go of what held them; whether there were any.
    pub(crate) async fn lapse(&self, record: &Record) -> Result<bool, Fault> {
        let over = self.0.buckets.lapse(record.id).await?;
        if over.is_empty() {
            return Ok(false);
        }
        let roster = self.roster(record).await?;
        let known = self.0.leaves.0.lock().expect("no panic under this lock").get(&record.id).cloned();
        let mut shards = BTreeSet::new();
        for id in &over {
            shards.extend(roster.iter().map(|provider| (provider.deal, ShardId(id.0))));
            if let Some(Read::Whole(leaf)) = known.as_ref().and_then(|leaves| leaves.get(id)) {
                // Who cannot say where it is says so again when its deal ends.
                shards.extend(self.shards(record, &leaf.part).await.unwrap_or_default());
            }
        }
        let released = self.0.engine.release(&roster, shards).await;
        self.owe(&released.acks);
        tracing::info!(bucket = record.name, leaves = over.len(), "locked versions are bound no more");
        Ok(true)
    }

    fn know(&self, bucket: B256, leaves: BTreeMap<B256, Read>) {
        let mut known = self.0.leaves.0.lock().expect("no panic under this lock");
        if known.len() >= CACHED_MAX && !known.contains_key(&bucket) {
            known.pop_first();
        }
        known.insert(bucket, leaves);
    }

    /// Reads one leaf. One that a thief listed may be anything: it must not keep the others out.
    async fn leaf(&self, record: &Record, holders: &Holders, id: B256, now_ms: u64) -> Read {
        match self.read_leaf(record, holders, id).await {
            Ok(leaf) => Read::Whole(Arc::new(leaf)),
            Err(error) => {
                tracing::warn!(%error, leaf = %id, "what finds locked versions cannot be read now");
                Read::Void { again_ms: now_ms + AGAIN_MS }
            }
        }
    }

    async fn read_leaf(&self, record: &Record, holders: &Holders, id: B256) -> Result<Leaf, Fault> {
        let damaged = |error: hodei_storage::index::IndexError| Fault::Index(error.to_string());
        let shard =
            self.0.engine.get_copy(&holders.roster, ShardId(id.0), ROOT_BYTES as u32, |verdict| self.blame(verdict));
        let (network, secret) = (self.0.network.0, self.secret(record.id));
        let root = Root::open(&shard.await?, &network, &record.id.0, &secret).map_err(damaged)?;
        let [part] = &root.layers[..] else { return Err(Fault::Index("a leaf has one layer".into())) };
        if part.size_bytes > LEAF_BYTES_MAX {
            return Err(Fault::Index("a leaf is longer than any".into()));
        }
        let run = Run::decode(&self.layer(record, holders, part).await?).map_err(damaged)?;
        Ok(Leaf::of(part.clone(), &run))
    }
}

#[cfg(test)]
mod tests;
