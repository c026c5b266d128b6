//! Read a part back from any k shards of each stripe.
//!
//! ```text
//! page (any copy) → stripes in order, a few ahead → k shards, others when one fails or is late → plaintext
//! ```
//! Of whom shards are asked is the affair of `sources`; a bad one is named and another asked. Every byte is checked
//! twice: the shard against its id, the frame against its key and place. What is read ahead is bounded by the pool.

use super::{
    Engine, Permit,
    asked::{Asked, Pulse},
    crowd::{Crowd, Place},
    race::{JOIN, race},
    remote::{FIRST_BYTE, RemoteError, Verdict},
    sources::{AGAIN_ROUNDS, BUSY_LONGEST, BUSY_MIN, BUSY_PATIENCE},
    spread::Provider,
    stripe::{Coder, plain_bytes, slot_bytes},
    tally::Tally,
};
use crate::{
    manifest::{Holder, List, ManifestError, Page, PageRef, STRIPES_MAX},
    overlay::Overlay,
};
use bytes::Bytes;
use commonware_runtime::{Clock, Spawner};
use futures::{
    FutureExt as _, StreamExt as _, TryStreamExt as _,
    stream::{self, BoxStream},
};
use hodei_types::{
    code::Shape,
    slice::ShardId,
    transport::{NodeKey, Transport},
};
use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    ops::Range,
    sync::{Arc, Mutex},
    time::{Duration, SystemTime},
};

/// Memory of one get's stripes under way.
const GET_BYTES: u64 = 24 * 1024 * 1024;
/// Stripes under way at most.
const AHEAD_MAX: u64 = 16;
/// A shard is late after three times what its provider usually needs, but not before this.
pub(super) const LATE_MIN: Duration = Duration::from_millis(50);
pub(super) const LATE_TIMES: u32 = 3;

/// What is read.
#[derive(Clone)]
pub struct GetRequest {
    pub shape: Shape,
    /// Keys of the part's attempt.
    pub coder: Arc<Coder>,
    /// The bucket's providers: where they are, and the right to read there.
    pub roster: Arc<Vec<Provider>>,
    /// Where custodians put what they restored.
    pub overlay: Arc<Overlay>,
    /// As [`super::Stored::page`] gave it.
    pub page: PageRef,
    /// Plaintext bytes of the whole part.
    pub size_bytes: u64,
    /// Plaintext bytes wanted, within the size.
    pub range: Range<u64>,
    /// Told of each provider that lied.
    pub verdict: Arc<dyn Fn(Verdict) + Send + Sync>,
    /// Who has it besides.
    pub crowd: Option<Arc<dyn Crowd>>,
}

/// Why a part cannot be read.
#[derive(Clone, Debug, thiserror::Error)]
pub enum GetError {
    #[error("page {page} could not be read: {failure}")]
    Page { page: ShardId, failure: String },
    #[error("{gone} of the bucket's {asked} providers say that they do not have {page}, and nobody has it")]
    Gone { page: ShardId, gone: usize, asked: usize },
    #[error("stripe {stripe}: {found} shards of the {want} needed could be read: {failure}")]
    Shards { stripe: u64, found: usize, want: usize, failure: String },
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    #[error("the manifest does not fit the part: {0}")]
    Mismatch(&'static str),
    #[error("stripe {stripe} does not open: {reason}")]
    Open { stripe: u64, reason: String },
    #[error("the runtime is shutting down")]
    Stopped,
}

impl GetError {
    /// Whether trying again may help: providers come back, what does not open never will.
    pub fn is_temporary(&self) -> bool {
        matches!(self, Self::Page { .. } | Self::Gone { .. } | Self::Shards { .. } | Self::Stopped)
    }
}

/// Plaintext in order; a piece is at most a stripe.
pub type Body = BoxStream<'static, Result<Bytes, GetError>>;

impl<E, T> Engine<E, T>
where
    E: Clock + Spawner,
    T: Transport,
{
    /// Reads the manifest, then gives the bytes as they come. Dropping the stream stops all requests.
    pub async fn get(&self, request: GetRequest) -> Result<Body, GetError> {
        if request.range.is_empty() {
            return Ok(stream::empty().boxed());
        }
        let root = &request.page;
        let plain = plain_bytes(&request.shape);
        if u64::from(root.stripes) != request.size_bytes.div_ceil(plain) {
            return Err(GetError::Mismatch("stripes and size"));
        }
        let fetch = Arc::new(Fetch::new(self.clone(), request.clone()));
        let pages = if root.stripes as usize > STRIPES_MAX {
            let list = List::open(&root.id, &fetch.page(root).await?)?;
            if list.pages.iter().map(|page| u64::from(page.stripes)).sum::<u64>() != u64::from(root.stripes) {
                return Err(GetError::Mismatch("stripes of the list"));
            }
            list.pages
        } else {
            vec![root.clone()]
        };
        let wanted = request.range.start / plain..request.range.end.div_ceil(plain);
        let mut first = 0u64;
        let mut parts = Vec::new();
        for page in pages {
            let stripes = first..first + u64::from(page.stripes);
            let stripes = stripes.start.max(wanted.start)..stripes.end.min(wanted.end);
            if !stripes.is_empty() {
                parts.push((page.clone(), first, stripes));
            }
            first += u64::from(page.stripes);
        }
        let ahead = (GET_BYTES / slot_bytes(&request.shape)).clamp(2, AHEAD_MAX) as usize;
        Ok(stream::iter(parts)
            .then(move |(page, first, stripes)| fetch.clone().stripes(page, first, stripes, ahead))
            .try_flatten()
            .boxed())
    }
}

pub(super) struct Fetch<E, T> {
    pub(super) engine: Engine<E, T>,
    pub(super) request: GetRequest,
    /// Roster index by node.
    pub(super) nodes: BTreeMap<NodeKey, usize>,
    moved: Mutex<SystemTime>,
}

impl<E, T> Fetch<E, T>
where
    E: Clock + Spawner,
    T: Transport,
{
    pub(super) fn new(engine: Engine<E, T>, request: GetRequest) -> Self {
        let nodes = request.roster.iter().enumerate().map(|(at, provider)| (provider.peer.key, at)).collect();
        let moved = Mutex::new(engine.context.current());
        Self { engine, request, nodes, moved }
    }

    /// The stripes of one page, some of them fetched ahead.
    async fn stripes(
        self: Arc<Self>,
        page: PageRef,
        first: u64,
        stripes: Range<u64>,
        ahead: usize,
    ) -> Result<Body, GetError> {
        let bytes = self.page(&page).await?;
        let page = Arc::new(Page::open(&page.id, &bytes)?);
        let shape = &self.request.shape;
        if (page.k, page.n) != (shape.k(), shape.n()) || (page.stripes.len() as u64) < stripes.end - first {
            return Err(GetError::Mismatch("shape of the page"));
        }
        Ok(stream::iter(stripes)
            .map(move |stripe| {
                // In a task of its own: a reader who stops reading must not keep providers' slots, which its
                // half-done requests hold, from everybody else.
                let (fetch, page) = (self.clone(), page.clone());
                let context = self.engine.context.child("fetch");
                let task = context.spawn(move |_| fetch.stripe(page, first, stripe));
                async move { task.await.map_err(|_| GetError::Stopped)? }
            })
            .buffered(ahead)
            // The room is given back when the bytes are handed on.
            .map_ok(|(bytes, _room)| bytes)
            .boxed())
    }

    /// A page from whichever copy answers: of its holders, of other readers, and last of the bucket's other providers, to
    /// whom a custodian may have brought one.
    pub(super) async fn page(&self, page: &PageRef) -> Result<Bytes, GetError> {
        if let Some(bytes) = self.kept(page.id, page.bytes).await {
            return Ok(bytes);
        }
        let context = &self.engine.context;
        let mut readers = BTreeSet::new();
        let mut places = self.copies(page, &mut readers);
        let mut tally = Tally::default();
        let (mut rounds, mut times) = (AGAIN_ROUNDS, 0u32);
        // Who was out of reach or busy is asked once more: a busy machine is not a dead one.
        loop {
            let (mut away, mut rest, mut is_busy) = (VecDeque::new(), Duration::ZERO, false);
            let asks = std::iter::from_fn(|| {
                // Readers that are met in the meantime are asked, too.
                let place = places.pop_front().or_else(|| self.newly_met(&mut readers).map(Place::Crowd))?;
                let ask = async move {
                    let pulse = Pulse::new(&self.engine.peers, *place.node());
                    let read = self.read(&place, page.id, page.bytes, &pulse).await;
                    read.unwrap_or(Err(RemoteError::Gone)).map_err(|error| (place, error))
                };
                Some(ask.boxed())
            });
            let lost = |(place, error): (Place, RemoteError)| {
                tally.add(&place, &error);
                if let Some(wait) = error.passes_after() {
                    away.push_back(place);
                    rest = rest.max(wait);
                }
                is_busy |= matches!(error, RemoteError::Busy { .. });
            };
            if let Some(bytes) = race(&**context, asks, 1, lost).await {
                return Ok(bytes);
            }
            // Who is busy is waited for as long as this read gets on, as for shards.
            if is_busy && context.current() < self.moved() + BUSY_PATIENCE {
                rest = (rest.max(BUSY_MIN) * (1 << times.min(7))).min(BUSY_LONGEST);
                times += 1;
            } else if rounds == 0 || away.is_empty() {
                return Err(GetError::Page { page: page.id, failure: tally.to_string() });
            } else {
                rounds -= 1;
            }
            context.sleep(rest).await;
            places = away;
        }
    }

    /// Who may have a page, first the best: who is silent comes after all others.
    fn copies(&self, page: &PageRef, readers: &mut BTreeSet<NodeKey>) -> VecDeque<Place> {
        let (peers, now) = (&self.engine.peers, self.engine.context.current());
        let holders = page.holders.iter().filter(|holder| self.nodes.contains_key(&holder.node)).copied();
        let mut places: Vec<(u8, Place)> = holders.map(|holder| (0, Place::Deal(holder))).collect();
        while let Some(keeper) = self.newly_met(readers) {
            places.push((1, Place::Crowd(keeper)));
        }
        let is_other = |provider: &&Provider| !page.holders.iter().any(|holder| holder.deal == provider.deal);
        let others = self.request.roster.iter().filter(is_other);
        let others = others.map(|provider| Holder { node: provider.peer.key, deal: provider.deal });
        places.extend(others.map(|holder| (2, Place::Deal(holder))));
        places.sort_by_cached_key(|(class, place)| {
            let node = place.node();
            (peers.is_late(node, now), *class, peers.rank(node, now), peers.latency(node))
        });
        places.into_iter().map(|(_, place)| place).collect()
    }

    /// Who may have a shard: who its page names, and whoever took it when it was restored.
    pub(super) fn places(&self, page: &Page, at: usize, shard: u8) -> Vec<(u8, Place)> {
        let named = page.holder(at, shard).filter(|holder| self.nodes.contains_key(&holder.node)).copied();
        let of = |deal: u64| self.request.roster.iter().find(|provider| provider.deal == deal);
        let restored = self.request.overlay.deals(&page.stripes[at].ids[usize::from(shard)]).filter_map(of);
        let restored = restored.map(|provider| Holder { node: provider.peer.key, deal: provider.deal });
        named.into_iter().chain(restored).map(|holder| (shard, Place::Deal(holder))).collect()
    }

    /// One whole shard from one place; `None` if it is not in the roster any more.
    pub(super) async fn read(
        &self,
        place: &Place,
        id: ShardId,
        bytes: u32,
        pulse: &Pulse,
    ) -> Option<Result<Bytes, RemoteError>> {
        let holder = match place {
            Place::Deal(holder) => holder,
            Place::Crowd(keeper) => return self.ask(keeper, id, bytes, pulse).await,
        };
        let read = self.read_range(holder, id, bytes, 0..bytes, pulse).await;
        if let Some(Ok(shard)) = &read {
            self.got(id, shard);
        }
        read
    }

    /// Whole chunks of a shard that is `bytes` long.
    pub(super) async fn read_range(
        &self,
        Holder { node, deal }: &Holder,
        id: ShardId,
        bytes: u32,
        range: Range<u32>,
        pulse: &Pulse,
    ) -> Option<Result<Bytes, RemoteError>> {
        let provider = &self.request.roster[*self.nodes.get(node)?];
        let (peers, context) = (&self.engine.peers, &self.engine.context);
        let _slot = self.turn(node).await;
        let asked = Asked::of(pulse, &**context);
        let slice = (bytes, range.start, range.end - range.start);
        let result = self.engine.read_from((provider, *deal), id, slice, pulse).await;
        let took = asked.answered();
        match &result {
            Ok(given) => {
                // How long a shard takes is hardly learnt from a few bytes of one; that the line is fast again is, in time.
                let known = peers.latency(node);
                let usual = if slice.2 < bytes { took.max(known - known.saturating_sub(took) / 8) } else { took };
                peers.succeeded(node, usual);
                peers.gave(node, given.len() as u64, took);
                self.moves();
            }
            Err(error) => {
                tracing::debug!(%node, %id, %error, "shard not read");
                if let RemoteError::Lie(verdict) = error {
                    (self.request.verdict)((**verdict).clone());
                }
                peers.denied(node, error, took, context.current());
            }
        }
        Some(result)
    }

    /// Waits for a turn at one that is asked for a shard.
    pub(super) async fn turn(&self, node: &NodeKey) -> Permit {
        let (peers, context) = (&self.engine.peers, &self.engine.context);
        let was_late = peers.is_late(node, context.current());
        let mut slot = peers.slot(node).await;
        // One that fell silent while its turn was waited for is not asked at once by all who waited: others are by then. It
        // is as soon as it answers somebody.
        if !was_late && peers.is_late(node, context.current()) {
            drop(slot);
            let until = context.current() + FIRST_BYTE;
            while context.current() < until && peers.is_late(node, context.current()) {
                context.sleep(JOIN).await;
            }
            slot = peers.slot(node).await;
        }
        if let Some(until) = peers.busy_until(node, context.current()) {
            context.sleep_until(until).await;
        }
        slot
    }

    /// Something came.
    pub(super) fn moves(&self) {
        *self.moved.lock().expect("no panic under this lock") = self.engine.context.current();
    }

    /// When something came last.
    pub(super) fn moved(&self) -> SystemTime {
        *self.moved.lock().expect("no panic under this lock")
    }

    /// Any k shards of a stripe, opened; trimmed to the wanted range.
    async fn stripe(self: Arc<Self>, page: Arc<Page>, first: u64, stripe: u64) -> Result<(Bytes, Permit), GetError> {
        let room = self.engine.pool.take(slot_bytes(&self.request.shape)).await;
        let shards = self.shards(&page, (stripe - first) as usize, stripe).await?;
        let plain = plain_bytes(&self.request.shape);
        let start = stripe * plain;
        let size = (self.request.size_bytes - start).min(plain) as usize;
        let is_last = start + plain >= self.request.size_bytes;
        let coder = self.request.coder.clone();
        let coding = self.engine.context.child("code").shared(true);
        let bytes = coding
            .spawn(move |_| async move { coder.open(stripe as u32, &shards, size, is_last) })
            .await
            .map_err(|_| GetError::Stopped)?
            .map_err(|error| GetError::Open { stripe, reason: error.to_string() })?;
        let range = &self.request.range;
        let from = range.start.saturating_sub(start).min(size as u64) as usize;
        let to = range.end.saturating_sub(start).min(size as u64) as usize;
        Ok((bytes.slice(from..to), room))
    }
}
