//! Read a part back from any k shards of each stripe.
//!
//! ```text
//! page (any copy) → stripes in order, a few ahead → k shards, others when one fails or is late → plaintext
//! ```
//! Data shards are asked first, from providers that answered fast; a late one is raced by others, a bad one is
//! named and another asked. Every byte is checked twice: the shard against its id, the frame against its
//! key and place. What is read ahead is bounded by the pool.

use super::{
    Engine, Permit,
    crowd::{Crowd, Place, others_of},
    peers::Asked,
    race::race,
    remote::{RemoteError, Verdict},
    spread::Provider,
    stripe::{Coder, plain_bytes, slot_bytes},
};
use crate::{
    manifest::{Holder, List, ManifestError, Page, PageRef, STRIPES_MAX},
    overlay::Overlay,
};
use bytes::Bytes;
use commonware_runtime::{Clock, Spawner};
use futures::{
    FutureExt as _, StreamExt as _, TryStreamExt as _,
    future::{Either, select},
    pin_mut,
    stream::{self, BoxStream, FuturesUnordered},
};
use hodei_types::{
    code::Shape,
    slice::ShardId,
    transport::{NodeKey, Transport},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Range,
    sync::Arc,
    time::Duration,
};

/// Memory of one get's stripes under way.
const GET_BYTES: u64 = 24 * 1024 * 1024;
/// Stripes under way at most.
const AHEAD_MAX: u64 = 16;
/// One shard more than k is asked for each eight of k: little at 16-of-32, where a slow provider is likely;
/// none at 3-of-6, where it would cost a third more of the line.
const K_PER_EXTRA: usize = 8;
/// A shard is late after three times what its provider usually needs, but not before this.
pub(super) const LATE_MIN: Duration = Duration::from_millis(50);
pub(super) const LATE_TIMES: u32 = 3;

/// Rounds in which all are asked again who may answer later, before a stripe is given up.
const AGAIN_ROUNDS: u32 = 2;

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
    #[error("none of {copies} copies of page {page} could be read; last failure: {failure}")]
    Page { page: ShardId, copies: usize, failure: String },
    #[error("{gone} of the bucket's {asked} providers say that they do not have {page}, and nobody has it")]
    Gone { page: ShardId, gone: usize, asked: usize },
    #[error("stripe {stripe}: {found} shards of the {want} needed could be read; last failure: {failure}")]
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
}

impl<E, T> Fetch<E, T>
where
    E: Clock + Spawner,
    T: Transport,
{
    pub(super) fn new(engine: Engine<E, T>, request: GetRequest) -> Self {
        let nodes = request.roster.iter().enumerate().map(|(at, provider)| (provider.peer.key, at)).collect();
        Self { engine, request, nodes }
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

    /// A page from whichever copy answers.
    pub(super) async fn page(&self, page: &PageRef) -> Result<Bytes, GetError> {
        if let Some(bytes) = self.kept(page.id, page.bytes).await {
            return Ok(bytes);
        }
        let mut failure = "no holder is among the bucket's providers".to_string();
        let now = self.engine.context.current();
        let mut holders = page.holders.clone();
        holders
            .sort_by_key(|holder| (self.engine.peers.rank(&holder.node, now), self.engine.peers.latency(&holder.node)));
        let copies = holders.len();
        // Who was out of reach or busy is asked once more: a busy machine is not a dead one.
        let mut holders: Vec<Place> = holders.into_iter().map(Place::Deal).collect();
        holders.extend(self.keepers().into_iter().map(Place::Crowd));
        for _ in 0..=AGAIN_ROUNDS {
            let (mut away, mut rest) = (Vec::new(), Duration::ZERO);
            let asks = holders.into_iter().map(|place| {
                async move {
                    let read = self.read(&place, page.id, page.bytes).await;
                    read.unwrap_or(Err(RemoteError::Gone)).map_err(|error| (place, error))
                }
                .boxed()
            });
            let lost = |(place, error): (Place, RemoteError)| {
                failure = format!("{}: {error}", place.node());
                if let Some(wait) = error.passes_after() {
                    away.push(place);
                    rest = rest.max(wait);
                }
            };
            if let Some(bytes) = race(&*self.engine.context, asks.collect::<Vec<_>>(), 1, lost).await {
                return Ok(bytes);
            }
            if !away.is_empty() {
                self.engine.context.sleep(rest).await;
            }
            holders = away;
        }
        // A custodian may have made copies elsewhere.
        let is_other = |provider: &&Provider| !page.holders.iter().any(|holder| holder.deal == provider.deal);
        let others: Vec<Provider> = self.request.roster.iter().filter(is_other).cloned().collect();
        let verdict = |verdict| (self.request.verdict)(verdict);
        match self.engine.get_copy(&others, page.id, page.bytes, verdict).await {
            Ok(bytes) => Ok(bytes),
            Err(_) => Err(GetError::Page { page: page.id, copies, failure }),
        }
    }

    /// Who may have a shard: who its page names, and whoever took it when it was restored.
    fn places(&self, page: &Page, at: usize, shard: u8) -> Vec<(u8, Place)> {
        let named = page.holder(at, shard).filter(|holder| self.nodes.contains_key(&holder.node)).copied();
        let of = |deal: u64| self.request.roster.iter().find(|provider| provider.deal == deal);
        let restored = self.request.overlay.deals(&page.stripes[at].ids[usize::from(shard)]).filter_map(of);
        let restored = restored.map(|provider| Holder { node: provider.peer.key, deal: provider.deal });
        named.into_iter().chain(restored).map(|holder| (shard, Place::Deal(holder))).collect()
    }

    /// One whole shard from one place; `None` if it is not in the roster any more.
    async fn read(&self, place: &Place, id: ShardId, bytes: u32) -> Option<Result<Bytes, RemoteError>> {
        let holder = match place {
            Place::Deal(holder) => holder,
            Place::Crowd(keeper) => return self.ask(keeper, id, bytes).await,
        };
        let read = self.read_range(holder, id, bytes, 0..bytes).await;
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
    ) -> Option<Result<Bytes, RemoteError>> {
        let provider = &self.request.roster[*self.nodes.get(node)?];
        let (peers, context) = (&self.engine.peers, &self.engine.context);
        let _slot = peers.slot(node).await;
        let asked = Asked::new(peers, &**context, *node);
        let result = self.engine.read_from((provider, *deal), id, (bytes, range.start, range.end - range.start)).await;
        let took = asked.answered();
        match &result {
            Ok(bytes) => {
                peers.succeeded(node, took);
                peers.gave(node, bytes.len() as u64, took);
            }
            Err(error) => {
                tracing::debug!(%node, %id, %error, "shard not read");
                if let RemoteError::Lie(verdict) = error {
                    (self.request.verdict)((**verdict).clone());
                }
                if error.is_down() && !error.is_unpaid() || matches!(error, RemoteError::Lie(_)) {
                    peers.failed(node, context.current());
                }
            }
        }
        Some(result)
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

    async fn shards(&self, page: &Page, at: usize, stripe: u64) -> Result<Vec<Option<Bytes>>, GetError> {
        let (peers, context) = (&self.engine.peers, &self.engine.context);
        let k = usize::from(page.k);
        let listed = &page.stripes[at];
        let mut found = self.own(page, at).await;
        let mut asked: BTreeSet<u8> = (0..page.n).filter(|shard| found[usize::from(*shard)].is_some()).collect();
        let mut count = asked.len();
        let now = context.current();
        // Last is best.
        let mut queue: Vec<(u8, Place)> = (0..page.n).flat_map(|shard| self.places(page, at, shard)).collect();
        queue.sort_by_key(|(shard, place)| {
            let node = place.node();
            std::cmp::Reverse((peers.rank(node, now), *shard >= page.k, peers.latency(node), *shard))
        });
        let ask = |(shard, place): (u8, Place)| {
            let id = listed.ids[usize::from(shard)];
            async move {
                let read = self.read(&place, id, listed.shard_bytes).await;
                (shard, place, read)
            }
            .boxed()
        };
        let mut failure = "no provider left".to_string();
        let mut running = FuturesUnordered::new();
        let mut usual = LATE_MIN / LATE_TIMES;
        let mut missing = k.saturating_sub(count);
        let (near, others) = self.others(page, at, &queue, (&asked, missing.min(k / 2)));
        for (shard, place) in near {
            asked.insert(shard);
            usual = usual.max(peers.latency(place.node()));
            running.push(ask((shard, place)));
            missing -= 1;
        }
        // Whom providers may fail to give.
        queue.splice(0..0, others);
        let extra = if missing > 0 { k / K_PER_EXTRA } else { 0 };
        for _ in 0..missing + extra {
            let Some((shard, place)) = best(&mut queue, &mut asked) else { break };
            usual = usual.max(peers.latency(place.node()));
            running.push(ask((shard, place)));
        }
        let mut late = context.current() + usual * LATE_TIMES;
        // Who was out of reach or busy is asked again where it would do: a busy machine is not a dead one.
        let (mut again, mut rest, mut rounds) = (Vec::new(), Duration::ZERO, AGAIN_ROUNDS);
        while count < k {
            let next = {
                let sleep = context.sleep_until(late);
                let next = running.next();
                pin_mut!(sleep, next);
                match select(next, sleep).await {
                    Either::Left((next, _)) => next,
                    Either::Right(_) => {
                        // Somebody is late: two more join the race.
                        late = context.current() + usual * LATE_TIMES;
                        let more: Vec<_> = (0..2).filter_map(|_| best(&mut queue, &mut asked)).collect();
                        if more.is_empty() {
                            late = context.current() + Duration::from_secs(60);
                        }
                        running.extend(more.into_iter().map(ask));
                        continue;
                    }
                }
            };
            match next {
                Some((shard, _, Some(Ok(bytes)))) => {
                    found[usize::from(shard)] = Some(bytes);
                    count += 1;
                }
                Some((shard, place, result)) => {
                    asked.remove(&shard);
                    if let Some(Err(error)) = result {
                        failure = format!("{}: {error}", place.node());
                        let others = others_of(&mut queue, &place, &error);
                        if let Some(wait) = error.passes_after() {
                            again.extend(others);
                            again.push((shard, place));
                            rest = rest.max(wait);
                        }
                    }
                    running.extend(best(&mut queue, &mut asked).map(ask));
                }
                None => match best(&mut queue, &mut asked) {
                    Some(next) => running.push(ask(next)),
                    None => {
                        if rounds == 0 || count + again.len() < k {
                            return Err(GetError::Shards { stripe, found: count, want: k, failure });
                        }
                        rounds -= 1;
                        context.sleep(std::mem::take(&mut rest)).await;
                        queue.append(&mut again);
                        running.extend(std::iter::from_fn(|| best(&mut queue, &mut asked)).map(ask));
                    }
                },
            }
        }
        Ok(found)
    }
}

/// The best place left of a shard that nobody is asked for, or gave.
fn best(queue: &mut Vec<(u8, Place)>, asked: &mut BTreeSet<u8>) -> Option<(u8, Place)> {
    let at = queue.iter().rposition(|(shard, _)| !asked.contains(shard))?;
    let place = queue.remove(at);
    asked.insert(place.0);
    Some(place)
}
