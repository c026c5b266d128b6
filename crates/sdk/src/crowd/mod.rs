//! Keep what links show while it is read, and read it from others who did.
//!
//! ```text
//! read   shelf ─► other readers (at most half of a stripe) ─► providers ─► checked against its id ─► shelf
//! meet   pages that were read ─► announced at their providers; pages that are read next ─► who announced them?
//! give   another reader asks, with the owner's word for this bucket ─► shelf, within the upload's pace
//! ```
//! Only what links and passes are of is kept: an owner's own reads are not. What one reader learns of another is said in
//! THREATS.md.

mod door;
mod meet;
mod shelf;
#[cfg(test)]
mod tests;

pub use shelf::{PARTITION, Shelf};

use crate::cloud::{Cloud, Runtime};
use alloy_primitives::{Address, B256};
use bytes::Bytes;
use futures::{FutureExt as _, StreamExt as _, channel::mpsc, future::BoxFuture};
use hodei_storage::{
    engine::{self, Engine, Outcome, Provider},
    manifest::PageRef,
};
use hodei_types::{
    slice::ShardId,
    transport::{NodeKey, Peer, Transport},
};
use std::{
    collections::{BTreeMap, btree_map},
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard},
    time::{Duration, SystemTime},
};

/// Shards that wait to be written; what comes while so many wait is not kept.
const ARRIVING_MAX: usize = 32;
/// Buckets whose links are open here; one more forgets the one that was opened first.
const BUCKETS_MAX: usize = 64;
/// Pages of each that are known of.
const PAGES_MAX: usize = 8192;
/// Who lied is asked for nothing for so long.
const BAN: Duration = Duration::from_secs(3600);
const BANNED_MAX: usize = 4096;
/// A reader that lacks a page's shards so often in turn is not asked for more of them until it is told of again. Who read all
/// of it keeps k of n: of stripes that are read at once it lacks, by chance alone, the first of several in turn.
const MISSES_MAX: u8 = 16;

/// What this reader does for others, and asks of them.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// Bytes of shards to keep; 0 keeps and gives nothing.
    pub keep_bytes: u64,
    /// Given to others at most, in each second; `None`: as the line lets.
    pub upload_bytes_per_s: Option<u64>,
    /// Where others reach this reader, four at most; without any it gives nothing.
    pub addresses: Vec<SocketAddr>,
    /// Whether it asks others.
    pub is_asking: bool,
}

/// A reader among readers; clones share it.
pub struct Crowd<E: Runtime, T>(Arc<Inner<E, T>>);

impl<E: Runtime, T> Clone for Crowd<E, T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

struct Inner<E: Runtime, T> {
    context: E,
    engine: Engine<E, T>,
    chain_id: u64,
    me: NodeKey,
    settings: Settings,
    shelf: Option<Arc<Shelf<E>>>,
    arriving: Mutex<mpsc::Sender<(B256, ShardId, Bytes)>>,
    state: Mutex<State>,
    door: door::Limits,
}

#[derive(Default)]
struct State {
    buckets: BTreeMap<B256, Known>,
    /// Until then these are asked for nothing.
    banned: BTreeMap<NodeKey, SystemTime>,
    /// Until then these providers are asked for no readers: they don't know the question.
    mute: BTreeMap<NodeKey, SystemTime>,
}

/// A bucket of which a link is open here.
struct Known {
    owner: Address,
    expires_ms: u64,
    opened: SystemTime,
    /// With the link's own grant.
    roster: Arc<Vec<Provider>>,
    pages: BTreeMap<ShardId, Page>,
    /// When which pages were announced to a deal's provider: how many, and their last.
    told: BTreeMap<u64, (SystemTime, Vec<ShardId>)>,
    /// Bytes that came from each other reader.
    gave: BTreeMap<NodeKey, u64>,
}

/// A part's page.
#[derive(Default)]
struct Page {
    /// Deals whose providers hold it.
    deals: Vec<u64>,
    /// Some of what it leads to was read here.
    is_read: bool,
    asked: Option<SystemTime>,
    /// Who said that it keeps it, and how often in turn it lacked something of it.
    keepers: Vec<(Peer, u8)>,
}

impl<E: Runtime, T: Transport> Cloud<E, T> {
    /// From now on keeps what links show while it is read, and gives and asks as `settings` say. A second call changes
    /// nothing.
    pub async fn join_crowd(&self, mut settings: Settings) -> Crowd<E, T> {
        if let Some(crowd) = self.0.crowd.get() {
            return crowd.clone();
        }
        settings.addresses.truncate(hodei_storage::wire::KEEPER_ADDRESSES_MAX);
        let context = self.0.context.child("crowd");
        let shelf = match settings.keep_bytes {
            0 => {
                Shelf::clear(&context).await;
                None
            }
            bytes => Some(Arc::new(Shelf::open(context.child("shelf"), bytes).await)),
        };
        let (sender, mut arriving) = mpsc::channel::<(B256, ShardId, Bytes)>(ARRIVING_MAX);
        if let Some(shelf) = shelf.clone() {
            context.child("keep").spawn(move |_| async move {
                while let Some((bucket, id, shard)) = arriving.next().await {
                    shelf.put(&bucket, id, shard).await;
                }
            });
        }
        let crowd = Crowd(Arc::new(Inner {
            engine: self.0.engine.clone(),
            chain_id: self.0.chain_id,
            me: self.0.client,
            settings,
            shelf,
            arriving: Mutex::new(sender),
            state: Mutex::default(),
            door: door::Limits::new(context.current()),
            context,
        }));
        let crowd = self.0.crowd.get_or_init(|| crowd).clone();
        crowd.announce();
        crowd
    }
}

impl<E: Runtime, T: Transport> Crowd<E, T> {
    /// What is kept.
    pub fn shelf(&self) -> Option<&Shelf<E>> {
        self.0.shelf.as_deref()
    }

    /// A link of a bucket was opened: its roster asks under the link's grant.
    pub(crate) fn opened(&self, bucket: B256, owner: Address, expires_ms: u64, roster: &Arc<Vec<Provider>>) {
        let (now, now_ms) = (self.0.context.current(), self.now_ms());
        let mut state = self.lock();
        state.buckets.retain(|_, known| known.expires_ms > now_ms);
        if state.buckets.len() >= BUCKETS_MAX && !state.buckets.contains_key(&bucket) {
            let oldest = state.buckets.iter().min_by_key(|(_, known)| known.opened).map(|(bucket, _)| *bucket);
            oldest.map(|bucket| state.buckets.remove(&bucket));
        }
        match state.buckets.entry(bucket) {
            btree_map::Entry::Occupied(mut known) => {
                let known = known.get_mut();
                (known.owner, known.opened) = (owner, now);
                // Of several links the one that lasts longest speaks.
                if expires_ms >= known.expires_ms {
                    (known.expires_ms, known.roster) = (expires_ms, roster.clone());
                }
            }
            btree_map::Entry::Vacant(room) => {
                let (roster, opened) = (roster.clone(), now);
                let (pages, told, gave) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
                room.insert(Known { owner, expires_ms, opened, roster, pages, told, gave });
            }
        }
    }

    /// Who has a part besides its providers.
    pub(crate) fn circle(&self, bucket: B256, page: &PageRef) -> Arc<dyn engine::Crowd> {
        Arc::new(Circle { crowd: self.clone(), bucket, page: page.id })
    }

    /// How many readers gave this one bytes of a bucket, and how many bytes.
    pub(crate) fn gave(&self, bucket: B256) -> (usize, u64) {
        let state = self.lock();
        state.buckets.get(&bucket).map_or((0, 0), |known| (known.gave.len(), known.gave.values().sum()))
    }

    fn now_ms(&self) -> u64 {
        let since = self.0.context.current().duration_since(SystemTime::UNIX_EPOCH);
        since.map_or(0, |since| since.as_millis() as u64)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().expect("no panic under this lock")
    }
}

/// One part of a bucket, for the engine.
struct Circle<E: Runtime, T> {
    crowd: Crowd<E, T>,
    bucket: B256,
    page: ShardId,
}

impl<E: Runtime, T: Transport> Circle<E, T> {
    fn with_page(&self, change: impl FnOnce(&mut Page)) {
        let mut state = self.crowd.lock();
        if let Some(page) = state.buckets.get_mut(&self.bucket).and_then(|known| known.pages.get_mut(&self.page)) {
            change(page);
        }
    }
}

impl<E: Runtime, T: Transport> engine::Crowd for Circle<E, T> {
    fn bucket(&self) -> [u8; 32] {
        self.bucket.0
    }

    fn kept(&self, id: ShardId) -> BoxFuture<'_, Option<Bytes>> {
        async move {
            let shard = self.crowd.0.shelf.as_ref()?.get(&self.bucket, id).await?;
            self.with_page(|page| page.is_read = true);
            Some(shard)
        }
        .boxed()
    }

    fn got(&self, id: ShardId, shard: &Bytes) {
        if self.crowd.0.shelf.is_none() {
            return;
        }
        self.with_page(|page| page.is_read = true);
        // Where the disk is behind it is not kept.
        let arrived = (self.bucket, id, shard.clone());
        let _ = self.crowd.0.arriving.lock().expect("no panic under this lock").try_send(arrived);
    }

    fn keepers(&self) -> Vec<Peer> {
        if !self.crowd.0.settings.is_asking {
            return Vec::new();
        }
        let now = self.crowd.0.context.current();
        let state = self.crowd.lock();
        let page = state.buckets.get(&self.bucket).and_then(|known| known.pages.get(&self.page));
        let Some(page) = page else { return Vec::new() };
        let is_meant = |(peer, misses): &&(Peer, u8)| {
            *misses < MISSES_MAX && state.banned.get(&peer.key).is_none_or(|until| *until <= now)
        };
        page.keepers.iter().filter(is_meant).map(|(peer, _)| peer.clone()).collect()
    }

    fn asked(&self, keeper: &NodeKey, outcome: Outcome) {
        self.with_page(|page| {
            if let Some((_, misses)) = page.keepers.iter_mut().find(|(peer, _)| peer.key == *keeper) {
                *misses = match outcome {
                    Outcome::Gave { .. } => 0,
                    Outcome::Busy => *misses,
                    _ => misses.saturating_add(1),
                };
            }
        });
        let now = self.crowd.0.context.current();
        let mut state = self.crowd.lock();
        match outcome {
            Outcome::Gave { bytes, .. } => {
                if let Some(known) = state.buckets.get_mut(&self.bucket) {
                    *known.gave.entry(*keeper).or_default() += bytes;
                }
            }
            Outcome::Lied => {
                tracing::warn!(%keeper, "a reader gave a shard that is not what its id says: it is asked no more for an hour");
                state.banned.retain(|_, until| *until > now);
                if state.banned.len() >= BANNED_MAX {
                    state.banned.pop_first();
                }
                state.banned.insert(*keeper, now + BAN);
            }
            Outcome::Missed | Outcome::Busy | Outcome::Failed => {}
        }
    }
}
