//! Read again what is stored, and stop claiming what is gone.
//!
//! Upon a scrub: the shards behind a mark are read and hashed. Upon one whose bytes are not what its id says, be
//! it here or in a read that somebody asked for: the writer looks again, since compaction may have moved it, and
//! marks it lost. A lost shard keeps its place in the deal's tree, which only owner and provider change
//! together; but it is not given, not said to be held, and nothing is proven of it. Upon a put of the same
//! shard, its bytes return to the old place, and every root it was in can be proven again. Upon a file that
//! somebody removed: what it held is lost at once, though the system would still let us read it until we end.

use std::collections::BTreeSet;

use commonware_runtime::{Error as RuntimeError, Storage};
use hodei_types::{
    index::{Change as IndexChange, Index},
    slice::ShardId,
};

use super::{
    Inner, Op, Store, StoreError,
    recover::PAGE,
    state::{self, Location},
};

/// Index entries looked at together while scrubbing.
const SCRUB_PAGE: usize = 64;

/// How far a scrub has come; opaque, and worth keeping over a restart.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mark(pub Vec<u8>);

/// A shard whose bytes are gone, though its deal counts them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lost {
    pub deal: u64,
    pub id: ShardId,
    pub bytes: u32,
}

/// What one scrub read and found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scrubbed {
    pub shards: u64,
    pub bytes: u64,
    /// Lost since they were last looked at.
    pub lost: Vec<Lost>,
    /// Where to go on; `None` once everything was read.
    pub next: Option<Mark>,
}

/// What went with files that somebody removed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Removed {
    pub segments: Vec<u64>,
    pub shards: u64,
    pub bytes: u64,
    pub deals: BTreeSet<u64>,
}

/// What the writer found when it looked at a shard again.
#[derive(Clone, Copy, Debug)]
pub(super) struct Judged {
    pub(super) lost: bool,
    /// Other than it was known.
    pub(super) is_new: bool,
    pub(super) bytes: u32,
}

impl<E: Storage, I: Index> Store<E, I> {
    /// Reads shards behind `mark` (default: from the first) until `bytes_max` are read, at least one.
    pub async fn scrub(&self, mark: Option<&Mark>, bytes_max: u64) -> Result<Scrubbed, StoreError> {
        let (start, end) = (b"l".to_vec(), b"m");
        let mut from = mark.map_or(start, |mark| mark.0.clone());
        let mut scrubbed = Scrubbed::default();
        loop {
            let page = self.inner.index.range(&from, end, SCRUB_PAGE).await?;
            if page.is_empty() {
                return Ok(scrubbed);
            }
            for (key, value) in page {
                from = [&key[..], &[0]].concat();
                let Some((deal, id)) = state::location_of(&key) else { continue };
                let Some(location) = Location::decode(&value).filter(|at| self.lock().owes(deal, at)) else { continue };
                scrubbed.shards += 1;
                scrubbed.bytes += u64::from(location.len);
                // One that was lost may be readable again: a cable, a mount.
                if location.lost == self.inner.read(&id, &location).await.is_ok()
                    && let Some(judged) = self.judge(deal, id).await?
                    && judged.lost
                    && judged.is_new
                {
                    scrubbed.lost.push(Lost { deal, id, bytes: judged.bytes });
                }
                if scrubbed.bytes >= bytes_max {
                    scrubbed.next = Some(Mark(from));
                    return Ok(scrubbed);
                }
            }
        }
    }

    /// Notices files of this store that somebody removed.
    pub async fn notice_removed(&self) -> Result<Removed, StoreError> {
        if self.inner.removed_segments().await?.is_empty() {
            return Ok(Removed::default());
        }
        self.ask(|done| Op::NoticeRemoved { done }).await
    }

    /// Shards known to be lost, and their bytes.
    pub fn lost(&self) -> (u64, u64) {
        let state = self.lock();
        (state.lost.len() as u64, state.lost.values().map(|bytes| u64::from(*bytes)).sum())
    }

    /// Lets the writer look at a shard that could not be read.
    pub(super) async fn judge(&self, deal: u64, id: ShardId) -> Result<Option<Judged>, StoreError> {
        self.ask(|done| Op::Judge { deal, id, done }).await
    }
}

impl<E: Storage, I: Index> Inner<E, I> {
    /// Only the writer calls this, so that nothing moves meanwhile.
    pub(super) async fn look_again(&self, deal: u64, id: ShardId) -> Result<Option<Judged>, StoreError> {
        let Some(mut location) = self.locate(deal, &id).await? else { return Ok(None) };
        let lost = self.read(&id, &location).await.is_err();
        let is_new = location.lost != lost;
        if is_new {
            location.lost = lost;
            self.index.apply(vec![(state::location_key(deal, &id), Some(location.encode()))], true).await?;
        }
        let mut state = self.lock();
        if lost {
            tracing::error!(deal, shard = %id, "a shard is lost");
            state.lost.insert((deal, id), location.len);
        } else {
            state.lost.remove(&(deal, id));
        }
        Ok(Some(Judged { lost, is_new, bytes: location.len }))
    }

    async fn removed_segments(&self) -> Result<Vec<u64>, StoreError> {
        let names = match self.storage.scan(&self.config.partition).await {
            Ok(names) => names,
            Err(RuntimeError::PartitionMissing(_)) => Vec::new(),
            Err(error) => return Err(error.into()),
        };
        let known: BTreeSet<u64> =
            names.iter().filter_map(|name| Some(u64::from_be_bytes(name.as_slice().try_into().ok()?))).collect();
        Ok(self.lock().segments.keys().filter(|number| !known.contains(number)).copied().collect())
    }

    /// Only the writer calls this: it makes and removes segments itself.
    pub(super) async fn forget_removed(&self) -> Result<Removed, StoreError> {
        let mut removed = Removed { segments: self.removed_segments().await?, ..Removed::default() };
        if removed.segments.is_empty() {
            return Ok(removed);
        }
        let mut changes: Vec<IndexChange> = Vec::new();
        let mut from = b"l".to_vec();
        loop {
            let page = self.index.range(&from, b"m", PAGE).await?;
            let Some((last, _)) = page.last() else { break };
            from = [&last[..], &[0]].concat();
            let mut state = self.lock();
            for (key, value) in page {
                let (Some((deal, id)), Some(location)) = (state::location_of(&key), Location::decode(&value)) else {
                    continue;
                };
                if location.lost || !removed.segments.contains(&location.segment) || !state.owes(deal, &location) {
                    continue;
                }
                changes.push((key, Some(Location { lost: true, ..location }.encode())));
                state.lost.insert((deal, id), location.len);
                removed.shards += 1;
                removed.bytes += u64::from(location.len);
                removed.deals.insert(deal);
            }
        }
        {
            let mut state = self.lock();
            for number in &removed.segments {
                state.segments.remove(number);
                state.changed.remove(number);
                changes.push((state::segment_key(*number), None));
            }
            changes.extend(state.facts());
        }
        self.index.apply(changes, true).await?;
        tracing::error!(segments = ?removed.segments, shards = removed.shards, "files of the shard store were removed");
        Ok(removed)
    }
}
