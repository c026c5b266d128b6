//! Store what a source yields, in constant memory.
//!
//! ```text
//! source → stripe's plaintext → seal → code → pad → ids → spread over providers → q acks ┐
//!    ▲ waits for room in the pool                                 (n with Wait::Full)     ▼
//!    └──────────────────────────── room is free again ◄── all n settled      page → read-back → Stored
//! ```
//! Upon every stripe's q acks a page lists its shards; the page is stored like a shard; one random slice a page
//! is read back from one random acker. Only then does the put return. What is missing beyond q goes on in
//! the background for as long as [`Stored::rest`] lives. A dropped put stops everything it started; what it
//! stored is referred to by nothing, and its providers drop it with the upload's intent.

use super::{
    Engine,
    copies::copy,
    pool::{Permit, Pool},
    queue::{Queue, Ready},
    remote::{Ask, RemoteError, Verdict},
    rooms::Fill,
    source::Reader,
    spread::{Delivery, Offers, Provider, Spread, Track},
    stripe::{Coder, plain_bytes, slot_bytes},
};
use crate::{
    manifest::{Holder, List, Page, PageRef, STRIPES_MAX, Stripe},
    place::{Candidate, PlaceError, doubled, place},
    seal::Secret,
    wire::{Held, UploadId},
};
use bytes::Bytes;
use commonware_runtime::{Clock, Handle, Spawner};
use futures::{channel::oneshot, stream::Stream};
use hodei_types::{
    ack::Ack,
    code::{CodeId, Shape},
    slice::{SLICE_BYTES, ShardId},
    transport::Transport,
};
use rand::{CryptoRng, RngExt as _};
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

/// Memory of one put's stripes under way: three of 16-of-32; others get their turn.
const PUT_BYTES: u64 = 40 * 1024 * 1024;
/// Ackers asked to show a slice before a page counts as unreadable.
const READ_BACK_TRIES: usize = 3;

/// When a put returns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Wait {
    /// At q acks of each stripe.
    #[default]
    Quorum,
    /// At all n.
    Full,
}

/// What is stored how.
pub struct PutRequest {
    pub shape: Shape,
    /// Keys of this part and attempt.
    pub coder: Arc<Coder>,
    pub roster: Arc<Vec<Provider>>,
    /// Names the attempt; never used for other bytes.
    pub upload: UploadId,
    pub wait: Wait,
    /// Told of every shard before it leaves.
    pub offers: Arc<dyn Offers>,
    pub fill: Fill,
    /// The bucket's care key: whoever has it can restore what is lost of this, and read nothing.
    pub care: Secret,
}

/// How far a put is; bytes are plaintext.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    pub read_bytes: u64,
    /// In stripes with enough acks.
    pub stored_bytes: u64,
    pub shards_acked: u64,
}

/// A part that is durable.
#[derive(Debug)]
pub struct Stored {
    pub size_bytes: u64,
    /// BLAKE3 of the plaintext.
    pub content: [u8; 32],
    /// The page, or the list of pages.
    pub page: PageRef,
    pub stripes: u32,
    /// Every shard by deal, pages included: where it is, or is on its way to.
    pub kept: Vec<(u64, ShardId)>,
    ledger: Arc<Mutex<Ledger>>,
    /// The stripes still being completed to n acks.
    pub rest: Rest,
}

impl Stored {
    fn ledger(&self) -> std::sync::MutexGuard<'_, Ledger> {
        self.ledger.lock().expect("no panic under this lock")
    }

    /// Newest ack of each deal: its root covers all earlier ones. Grows until the rest has settled.
    pub fn acks(&self) -> BTreeMap<u64, Ack> {
        self.ledger().acks.clone()
    }

    /// Providers that lied; the put went round them.
    pub fn verdicts(&self) -> Vec<Verdict> {
        self.ledger().verdicts.clone()
    }

    /// Acked bytes on providers, parity included.
    pub fn shard_bytes(&self) -> u64 {
        self.ledger().shard_bytes
    }
}

/// Why a part could not be stored. Nothing refers to what was stored of it.
#[derive(Clone, Debug, thiserror::Error)]
pub enum PutError {
    #[error("the source failed: {0}")]
    Source(String),
    #[error("stripe {stripe}: {acks} acks of {want}; last failure: {failure}")]
    Acks { stripe: u32, acks: usize, want: usize, failure: String },
    #[error("there is no room: {full} of the bucket's {deals} deals are full; {failure}")]
    Full { full: usize, deals: usize, failure: String },
    #[error(transparent)]
    Placement(#[from] PlaceError),
    #[error("a page found {found} holders of {want}; last failure: {failure}")]
    Page { found: usize, want: usize, failure: String },
    #[error("what was acked could not be read back: {0}")]
    ReadBack(String),
    #[error("the part has more stripes than a manifest lists")]
    TooLarge,
    #[error("the runtime is shutting down")]
    Stopped,
}

impl PutError {
    /// Whether trying again may help.
    pub fn is_temporary(&self) -> bool {
        matches!(self, Self::Acks { .. } | Self::Page { .. } | Self::ReadBack(_) | Self::Stopped)
    }
}

/// Tasks that stop when this is dropped.
#[derive(Default)]
pub struct Rest(Vec<(Handle<()>, Arc<()>)>);

impl std::fmt::Debug for Rest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Rest({} stripes)", self.0.len())
    }
}

impl Rest {
    /// Waits until every shard is acked or out of providers.
    pub async fn settle(mut self) {
        for (task, _) in std::mem::take(&mut self.0) {
            let _ = task.await;
        }
    }
}

impl Drop for Rest {
    fn drop(&mut self) {
        for (task, _) in &self.0 {
            task.abort();
        }
    }
}

/// What stripe tasks report.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    pub(super) acks: BTreeMap<u64, Ack>,
    verdicts: Vec<Verdict>,
    shard_bytes: u64,
    kept: Vec<(u64, ShardId)>,
}

impl Ledger {
    pub(super) fn ack(&mut self, ack: &Ack) {
        let newest = self.acks.entry(ack.statement.deal).or_insert(*ack);
        if newest.statement.sequence < ack.statement.sequence {
            *newest = *ack;
        }
    }
}

impl<E, T> Engine<E, T>
where
    E: Clock + Spawner + CryptoRng,
    T: Transport,
{
    /// Stores all of `source` as one part. `progress` is called often and must be cheap.
    pub async fn put<S, X>(
        &self,
        request: PutRequest,
        source: S,
        progress: impl Fn(Progress) + Send + Sync + 'static,
    ) -> Result<Stored, PutError>
    where
        S: Stream<Item = Result<Bytes, X>> + Send + Unpin,
        X: std::fmt::Display,
    {
        let PutRequest { shape, coder, roster, upload, wait, offers, fill, care } = request;
        let mut rng = self.context.child("put");
        let spread = Arc::new(self.spread(shape, roster, upload, offers, fill));
        let want = match wait {
            Wait::Quorum => shape.q(),
            Wait::Full => shape.n(),
        };
        let put = Put { engine: self, spread, want: want.into(), coder, care, ledger: Arc::default() };
        put.run(source, &mut rng, progress).await
    }
}

struct Put<'a, E, T> {
    engine: &'a Engine<E, T>,
    spread: Arc<Spread<E, T>>,
    want: usize,
    coder: Arc<Coder>,
    care: Secret,
    ledger: Arc<Mutex<Ledger>>,
}

impl<E, T> Put<'_, E, T>
where
    E: Clock + Spawner + CryptoRng,
    T: Transport,
{
    async fn run<S, X>(
        &self,
        mut source: S,
        rng: &mut E,
        progress: impl Fn(Progress) + Send + Sync + 'static,
    ) -> Result<Stored, PutError>
    where
        S: Stream<Item = Result<Bytes, X>> + Send + Unpin,
        X: std::fmt::Display,
    {
        let shape = self.spread.shape;
        let (plain_len, slot_bytes) = (plain_bytes(&shape) as usize, slot_bytes(&shape));
        let mine = Pool::new((PUT_BYTES / slot_bytes).max(1));
        let mut hasher = blake3::Hasher::new();
        let mut reader = Reader::default();
        let (mut now, mut rest) = (Progress::default(), Rest::default());
        let (mut queue, mut pages) = (Queue::default(), Vec::new());
        let (mut assigned, mut stripe) = (Vec::new(), 0u32);
        let mut next = reader.fill(&mut source, plain_len).await?;
        // An empty part has one stripe all the same: its end is authenticated.
        while !next.is_empty() || stripe == 0 {
            if stripe.is_multiple_of(STRIPES_MAX as u32) {
                assigned = self.assign(rng)?;
            }
            let turn = mine.take(1).await;
            let room = self.engine.pool.take(slot_bytes).await;
            // One that failed ends the put before others are sent after it: they would fail alike, one by one.
            queue.take_told(&mut now)?;
            let plain = next;
            // Read ahead by one stripe: a frame says whether it is the part's last.
            next = reader.fill(&mut source, plain_len).await?;
            hasher.update(&plain);
            now.read_bytes += plain.len() as u64;
            let (sender, receiver) = oneshot::channel();
            let token = Arc::new(());
            let task =
                self.stripe(stripe, plain, next.is_empty(), assigned.clone(), sender, (turn, room), token.clone());
            rest.0.push((task, token));
            queue.push(receiver);
            stripe = stripe.checked_add(1).ok_or(PutError::TooLarge)?;
            // Take what is ready in order, so that pages close while the source is still read.
            if queue.len() >= STRIPES_MAX {
                let stripes = queue.take_all(&mut now, &progress).await?;
                pages.push(self.close_page(stripes, rng).await?);
                rest.0.retain(|(_, token)| Arc::strong_count(token) > 1);
            }
            progress(now);
        }
        let stripes = queue.take_all(&mut now, &progress).await?;
        if !stripes.is_empty() {
            pages.push(self.close_page(stripes, rng).await?);
        }
        let page = self.close_list(pages, rng).await?;
        Ok(Stored {
            size_bytes: now.read_bytes,
            content: *hasher.finalize().as_bytes(),
            page,
            stripes: stripe,
            kept: std::mem::take(&mut self.ledger.lock().expect("no panic under this lock").kept),
            ledger: self.ledger.clone(),
            rest,
        })
    }

    /// Providers for a page's stripes: those that rest only if the others are too few, or one of these would hold two
    /// shards of a stripe where with those that rest none does.
    fn assign(&self, rng: &mut E) -> Result<Vec<usize>, PutError> {
        let Spread { shape, roster, .. } = &*self.spread;
        let mut seed = [0; 32];
        rng.fill_bytes(&mut seed);
        let (awake, at): (Vec<Candidate>, Vec<usize>) =
            (0..roster.len()).filter(|at| !self.spread.rests(*at)).map(|at| (roster[at].candidate(), at)).unzip();
        let among = place(shape, &awake, &seed).map(|slots| slots.into_iter().map(|slot| at[slot]).collect::<Vec<_>>());
        if among.as_ref().is_ok_and(|slots| doubled(slots) == 0) || awake.len() == roster.len() {
            return Ok(among?);
        }
        let all: Vec<Candidate> = roster.iter().map(Provider::candidate).collect();
        match (among, place(shape, &all, &seed)) {
            (Ok(awake), Ok(all)) if doubled(&awake) <= doubled(&all) => Ok(awake),
            (Ok(awake), Err(_)) => Ok(awake),
            (_, all) => Ok(all?),
        }
    }

    /// Seals, codes and delivers one stripe in a task of its own.
    fn stripe(
        &self,
        stripe: u32,
        plain: Bytes,
        is_last: bool,
        assigned: Vec<usize>,
        sender: oneshot::Sender<Result<Ready, PutError>>,
        held: (Permit, Permit),
        token: Arc<()>,
    ) -> Handle<()> {
        let (spread, coder, ledger, want) = (self.spread.clone(), self.coder.clone(), self.ledger.clone(), self.want);
        let context = self.engine.context.child("stripe");
        context.spawn(move |context| async move {
            let size_bytes = plain.len() as u64;
            let shape = spread.shape;
            let want = want.min(shape.n().into());
            // Sealing and coding take milliseconds: not on the threads that serve the network.
            let coding = context.child("code").shared(true);
            let coded = coding.spawn(move |_| async move { coder.code(stripe, &plain, is_last) }).await;
            let Ok(coded) = coded else {
                let _ = sender.send(Err(PutError::Stopped));
                return;
            };
            let shard_bytes = coded.shards.first().map_or(0, Bytes::len) as u32;
            let track = Arc::new(Track::new(&assigned));
            let ready = Ready { stripe, size_bytes, shard_bytes, ids: coded.ids.clone(), track: track.clone() };
            let waiter = Mutex::new(Some(sender));
            let tell = |result| {
                if let Some(sender) = waiter.lock().expect("no panic under this lock").take() {
                    let _ = sender.send(result);
                }
            };
            let acked = |held: &Held| {
                let mut ledger = ledger.lock().expect("no panic under this lock");
                ledger.ack(&held.ack);
                ledger.shard_bytes += u64::from(shard_bytes);
            };
            let delivery = Delivery { shards: coded.shards, ids: &coded.ids, track: &track, want };
            let outcome = spread.deliver(delivery, acked, || tell(Ok(ready))).await;
            let failure = outcome.failure.unwrap_or_else(|| "none".into());
            let full = spread.full_for(want).map(|full| (full, spread.roster.len()));
            tell(Err(match full {
                Some((full, deals)) => PutError::Full { full, deals, failure },
                None => PutError::Acks { stripe, acks: outcome.acks, want, failure },
            }));
            ledger.lock().expect("no panic under this lock").verdicts.extend(outcome.verdicts);
            drop((held, token));
        })
    }

    /// Writes a page over the stripes, stores it, and reads one random slice of them back.
    async fn close_page(&self, stripes: Vec<Ready>, rng: &mut E) -> Result<PageRef, PutError> {
        let Spread { shape, roster, .. } = &*self.spread;
        self.read_back(&stripes, rng).await?;
        let first = stripes.first().map_or(0, |stripe| stripe.stripe);
        let page = page(shape, roster, &stripes).entrusted_by(|page| self.coder.entrust(&self.care, first, page));
        self.ledger.lock().expect("no panic under this lock").kept.extend(page.shards());
        let (bytes, id) = page.seal();
        self.store_page(bytes, id, stripes.len() as u32, rng).await
    }

    async fn close_list(&self, mut pages: Vec<PageRef>, rng: &mut E) -> Result<PageRef, PutError> {
        if pages.len() == 1 {
            return Ok(pages.remove(0));
        }
        let stripes = pages.iter().map(|page| page.stripes).sum();
        let (bytes, id) = List { pages }.seal().map_err(|_| PutError::TooLarge)?;
        self.store_page(bytes, id, stripes, rng).await
    }

    async fn store_page(&self, bytes: Vec<u8>, id: ShardId, stripes: u32, rng: &mut E) -> Result<PageRef, PutError> {
        let len = bytes.len() as u32;
        let acked = |held: &Held| self.ledger.lock().expect("no panic under this lock").ack(&held.ack);
        let holders = copy(&self.spread, bytes, id, rng, acked).await?;
        let page = PageRef { id, bytes: len, stripes, holders };
        self.ledger.lock().expect("no panic under this lock").kept.extend(page.copies());
        Ok(page)
    }

    /// Asks one random acker of one random stripe for one random slice, and another if it cannot show it.
    async fn read_back(&self, stripes: &[Ready], rng: &mut E) -> Result<(), PutError> {
        let mut failure = String::new();
        for _ in 0..READ_BACK_TRIES {
            let stripe = &stripes[rng.random_range(0..stripes.len())];
            let acked = stripe.track.acked();
            let (shard, at) = acked[rng.random_range(0..acked.len())];
            let provider = &self.spread.roster[at];
            let len = SLICE_BYTES.min(stripe.shard_bytes);
            let slices = stripe.shard_bytes.div_ceil(len);
            let offset = rng.random_range(0..slices) * len;
            let len = len.min(stripe.shard_bytes - offset);
            let ask = Ask { peer: &provider.peer, deal: provider.deal, grant: &provider.grant, id: stripe.ids[shard] };
            match self.spread.remote.get(&ask, stripe.shard_bytes, offset, len).await {
                Ok(_) => return Ok(()),
                Err(error) => {
                    failure = format!("shard {} of stripe {} at {}: {error}", shard, stripe.stripe, provider.peer.key);
                    tracing::warn!(%failure, "an acked shard could not be read back");
                    if let RemoteError::Lie(verdict) = error {
                        self.ledger.lock().expect("no panic under this lock").verdicts.push(*verdict);
                    }
                    self.spread.peers.failed(&provider.peer.key, self.spread.remote.context.current());
                }
            }
        }
        Err(PutError::ReadBack(failure))
    }
}

/// Lists where each stripe's shards are, or are on their way to; they stay there from now on.
fn page(shape: &Shape, roster: &[Provider], stripes: &[Ready]) -> Page {
    let places: Vec<Vec<usize>> = stripes.iter().map(|stripe| stripe.track.freeze()).collect();
    // The first stripe's places are the rule, those of others that differ the exceptions.
    let mut listed = places[0].clone();
    let mut stripes_listed = Vec::with_capacity(stripes.len());
    for (stripe, places) in stripes.iter().zip(&places) {
        let mut moved = Vec::new();
        for (shard, at) in places.iter().enumerate() {
            if listed[shard] != *at {
                let holder = listed.iter().position(|known| known == at).unwrap_or_else(|| {
                    listed.push(*at);
                    listed.len() - 1
                });
                moved.push((shard as u8, holder as u8));
            }
        }
        stripes_listed.push(Stripe { shard_bytes: stripe.shard_bytes, ids: stripe.ids.clone(), moved });
    }
    let holders = listed.into_iter().map(|at| Holder { node: roster[at].peer.key, deal: roster[at].deal }).collect();
    Page { code: CodeId::Rs8, k: shape.k(), n: shape.n(), holders, stripes: stripes_listed, pads: None }
}
