//! Offer disk to the cloud.
//!
//! ```text
//! stream ─► gate ─► access (deals, grants) ─► quota, queue, disk ─► store ─► log ─► ack     serve
//!                                          └► readers that keep and serve, called back       crowd
//! ledger ─► follow ─► deals, log (payments)                                               follow
//! window ─► challenge ─► store's leaves and paths ─► ledger                                 prove
//! order ─► log ─► store: refused, released ─► its signed word to who asks                    decline
//! caps ─► rest, pace                                                                     serve, reads
//! store ─► read again, hashed ─► what rotted: log, no longer claimed                      scrub
//! ticks ─► books of tabs ─► ledger                                                        tabs
//! ```
//! The promise: an ack is signed only when what it states is on disk. Who might break it: a disk that lies
//! about fsync; the scrub and the next challenge find out, and this node's collateral pays.

pub mod access;
pub mod crowd;
pub mod deals;
pub mod decline;
pub mod earnings;
pub mod follow;
pub mod meters;
pub mod prove;
mod reads;
pub mod register;
mod report;
mod scrub;
mod serve;
pub mod tabs;
pub mod when;

use crate::{
    caps::{self, Caps, Conditions, Pace},
    config,
    disk::Redb,
    gate::{Gate, Queue},
    home::Home,
    journal::Journal,
    node::{free_bytes, total_bytes},
    tasks::{Task, Tasks},
};
use access::Access;
use alloy_primitives::B256;
use commonware_runtime::{Clock, Metrics, Storage};
use deals::Deals;
use futures::{FutureExt, future::BoxFuture};
use hodei_audit::Log;
use hodei_ledger::account::Account;
use hodei_storage::shard::{self, Store, Writer};
use hodei_types::{ack::Signer, chain::Chain, transport::Reach};
use meters::Meters;
use scrub::Findings;
use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};
use tabs::Tabs;
use tokio::sync::watch;
use when::Prove;

/// A segment is looked for that is worth rewriting.
const COMPACT_EVERY: Duration = Duration::from_secs(60);
/// Index pages kept in memory: the hot part of an index of four million shards.
const CACHE_BYTES: usize = 32 << 20;
/// The same on a phone, whose system ends apps that take much: some hundred thousand shards.
const SMALL_CACHE_BYTES: usize = 4 << 20;
/// Of a phone's segment: rewriting one takes little disk and little time at once.
const SMALL_SEGMENT_BYTES: u64 = 32 << 20;

/// Graphs count in thousandths of a coin.
const WEI_PER_MILLICOIN: u128 = 1_000_000_000_000_000;

/// Why a provider did not start.
#[derive(Debug, thiserror::Error)]
pub enum ProviderError {
    #[error("index: {0}")]
    Index(#[from] hodei_types::index::IndexError),
    #[error("books of tabs: {0}")]
    Tabs(#[from] commonware_runtime::Error),
    #[error("shard store: {0}")]
    Store(#[from] shard::StoreError),
    #[error(
        "pledged {pledge} bytes with {keep_free} to stay free, but {used} are used and {free} free on this disk: pledge less"
    )]
    Pledge { pledge: u64, keep_free: u64, used: u64, free: u64 },
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Whole values are put under these locks, so a poisoned one holds nothing half made.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What the node lends its provider.
pub struct Parts<E: Storage> {
    pub chain: Arc<dyn Chain>,
    pub account: Account,
    pub signer: Arc<Signer>,
    pub journal: Journal<E>,
    pub tasks: Tasks,
    pub stop: watch::Receiver<bool>,
    pub chain_id: u64,
    /// Where others reach this node, for the ledger.
    pub reach: Reach,
    /// Calls readers back that say where they are.
    pub probe: crowd::Probe,
}

/// A provider; clones share it.
pub struct Provider<E: Storage>(Arc<Inner<E>>);

impl<E: Storage> Clone for Provider<E> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

struct Inner<E: Storage> {
    parts: Parts<E>,
    config: config::Provider,
    home: Home,
    id: B256,
    store: Store<E, Redb>,
    /// Taken by the first [`Provider::loops`].
    writer: Mutex<Option<Writer<E, Redb>>>,
    deals: Deals,
    access: Access,
    gate: Gate,
    crowd: crowd::Crowd,
    queue: Queue,
    meters: Meters,
    tabs: Tabs<E>,
    draining: AtomicBool,
    /// By the ledger, for missed proofs; for good.
    closed: AtomicBool,
    /// Neither takes nor gives shards for now; it proves what it holds all the same.
    resting: AtomicBool,
    /// What the caps came to last, where a node has some.
    kept: Mutex<Option<caps::Kept>>,
    upload: Pace,
    download: Pace,
    /// Both paces count from here.
    begun: Instant,
    prove: Mutex<Prove>,
    /// What reading again what is stored came to.
    findings: Mutex<Findings>,
    /// Unless it is known by a relay alone, and none has it.
    reached: AtomicBool,
    /// Orders to decline that waited at the start were tried: before, nothing is taken or given.
    judged: AtomicBool,
}

impl<E: Storage> Provider<E> {
    /// Opens the store, checks the pledge against the disk, and reads the deals. Spawns nothing.
    pub async fn start(
        context: E,
        home: &Home,
        config: config::Provider,
        parts: Parts<E>,
    ) -> Result<Self, ProviderError>
    where
        E: Metrics + Clock,
    {
        let id = B256::from(parts.signer.node().0);
        let meters = Meters::new(&context);
        let is_small = config.class == config::Class::Phone;
        let cache_bytes = if is_small { SMALL_CACHE_BYTES } else { CACHE_BYTES };
        let (index, kept) = Redb::open(&home.index().join("shards.redb"), cache_bytes)?;
        if !kept {
            tracing::info!("no index of the shard store: it is read from the segments");
        }
        let mut settings = shard::Config {
            queue_bytes_max: config.queue_bytes_max,
            ..shard::Config::new("shards", config.pledge_bytes, parts.chain_id)
        };
        if is_small {
            settings.segment_bytes = SMALL_SEGMENT_BYTES;
        }
        let tabs = Tabs::open(context.child("tabs"), parts.chain.clone(), id, config.price_read.0).await?;
        let (store, writer) = Store::open(context, settings, parts.signer.clone(), index).await?;
        let (used, free) = (store.used_bytes(), free_bytes(home));
        let (pledge, keep_free) = (config.pledge_bytes, config.keep_free_bytes);
        if used.saturating_add(free) < pledge.saturating_add(keep_free) {
            // Whoever holds shards already must go on proving them, however full others made the disk.
            if used == 0 {
                return Err(ProviderError::Pledge { pledge, keep_free, used, free });
            }
            tracing::warn!(pledge, keep_free, used, free, "this disk has no room for the whole pledge");
        }
        let deals = Deals::new(parts.chain.clone(), id);
        Ok(Self(Arc::new(Inner {
            id,
            access: Access::new(deals.clone(), parts.chain_id),
            deals,
            gate: Gate::new(config.streams_max, config.peer_streams_max),
            crowd: crowd::Crowd::default(),
            queue: Queue::new(config.queue_bytes_max),
            meters,
            tabs,
            store,
            writer: Mutex::new(Some(writer)),
            home: home.clone(),
            draining: AtomicBool::new(false),
            closed: AtomicBool::new(false),
            resting: AtomicBool::new(false),
            kept: Mutex::default(),
            upload: Pace::default(),
            download: Pace::default(),
            begun: Instant::now(),
            prove: Mutex::default(),
            findings: Mutex::new(Findings::read(home)),
            reached: AtomicBool::new(true),
            judged: AtomicBool::new(!decline::is_any_waiting(home)),
            config,
            parts,
        })))
    }

    /// The loops a provider lives by, each with its name; they end at the stop signal, the store's writer
    /// only with its last user or the disk. Call once.
    pub fn loops(&self) -> Vec<(&'static str, BoxFuture<'static, ()>)> {
        let parts = &self.0.parts;
        let writer = self.0.writer.lock().unwrap_or_else(PoisonError::into_inner).take();
        let task = parts.tasks.enter("store");
        task.doing("writing what arrives");
        let write = async move {
            if let Some(writer) = writer {
                writer.run().await;
            }
            drop(task);
        };
        vec![
            ("the shard store", write.boxed()),
            ("compaction", self.clone().compact(parts.tasks.enter("compact"), parts.stop.clone()).boxed()),
            ("the ledger's events", self.clone().report(parts.tasks.enter("report"), parts.stop.clone()).boxed()),
            ("the refusals", self.clone().decline_ordered(parts.tasks.enter("decline"), parts.stop.clone()).boxed()),
            ("the scrub", self.clone().scrub(parts.tasks.enter("scrub"), parts.stop.clone()).boxed()),
            ("the claims for reads", self.clone().claims(parts.tasks.enter("claims"), parts.stop.clone()).boxed()),
            ("the proofs", self.clone().prove(parts.tasks.enter("prove"), parts.stop.clone()).boxed()),
        ]
    }

    /// This provider's key as the ledger writes it.
    pub fn id(&self) -> B256 {
        self.0.id
    }

    pub fn store(&self) -> &Store<E, Redb> {
        &self.0.store
    }

    /// What it did, event by event.
    pub fn log(&self) -> &Log<E> {
        self.0.parts.journal.log()
    }

    /// Bytes that may still be put: of the pledge, and of the disk.
    pub fn free_bytes(&self) -> u64 {
        let disk = free_bytes(&self.0.home).saturating_sub(self.0.config.keep_free_bytes);
        self.0.store.free_bytes_on(disk)
    }

    /// Refuses new shards from now on, or takes them again.
    pub fn set_draining(&self, draining: bool) {
        self.0.draining.store(draining, Ordering::Relaxed);
    }

    pub fn is_draining(&self) -> bool {
        self.0.draining.load(Ordering::Relaxed)
    }

    /// Tells who wants to put or read shards to come again, from now on or no more: for a device that must spare
    /// power or transfer. Proofs, which keep the collateral, go on.
    pub fn set_resting(&self, resting: bool) {
        self.0.resting.store(resting, Ordering::Relaxed);
    }

    pub fn is_resting(&self) -> bool {
        self.0.resting.load(Ordering::Relaxed)
    }

    /// When it goes on, in milliseconds since 1970, where a cap of transfer has it rest.
    pub(super) fn rests_until_ms(&self) -> Option<u64> {
        lock(&self.0.kept).as_ref().and_then(|kept| kept.until_s).map(|until_s| until_s.saturating_mul(1000))
    }

    /// Paces what is taken and given by these caps, and proves when it is preferred, from now on.
    pub fn obey(&self, caps: &Caps, prove: &Prove) {
        self.0.upload.set(caps.upload_bytes_per_s);
        self.0.download.set(caps.download_bytes_per_s);
        *lock(&self.0.prove) = prove.clone();
    }

    /// Takes what a look at the caps came to: rests or serves from now on.
    pub(crate) fn take_caps(&self, kept: caps::Kept) {
        self.set_resting(kept.rest.is_some());
        *lock(&self.0.kept) = Some(kept);
    }

    /// What is known of the machine; nothing where nobody looks.
    fn conditions(&self) -> Conditions {
        lock(&self.0.kept).as_ref().map(|kept| kept.conditions).unwrap_or_default()
    }

    /// Whether a relay has this node, or it needs none: unregistered, it is not offered before.
    pub fn set_reached(&self, reached: bool) {
        self.0.reached.store(reached, Ordering::Relaxed);
    }

    fn is_reached(&self) -> bool {
        self.0.reached.load(Ordering::Relaxed)
    }

    fn set_judged(&self) {
        self.0.judged.store(true, Ordering::Relaxed);
    }

    fn is_judged(&self) -> bool {
        self.0.judged.load(Ordering::Relaxed)
    }

    /// Bytes of shards taken and given since the start.
    pub fn carried_bytes(&self) -> u64 {
        self.meters().put_bytes.get().saturating_add(self.meters().read_bytes.get())
    }

    /// The ledger closed it: what is put with it would be proven and paid by nobody.
    pub(super) fn set_closed(&self) {
        self.0.closed.store(true, Ordering::Relaxed);
    }

    pub fn is_closed(&self) -> bool {
        self.0.closed.load(Ordering::Relaxed)
    }

    /// Sets the gauges; called before each scrape.
    pub fn measure(&self) {
        let signed = |bytes: u64| i64::try_from(bytes).unwrap_or(i64::MAX);
        let Inner { meters, store, config, home, .. } = &*self.0;
        let (lost_shards, lost_bytes) = store.lost();
        meters.streams.set(signed(self.0.gate.streams() as u64));
        meters.peers.set(signed(self.0.gate.peers() as u64));
        meters.queued_bytes.set(signed(self.0.queue.bytes()));
        meters.pledged_bytes.set(signed(config.pledge_bytes));
        meters.used_bytes.set(signed(store.used_bytes()));
        meters.held_bytes.set(signed(store.held_bytes()));
        meters.free_bytes.set(signed(self.free_bytes()));
        meters.disk_free_bytes.set(signed(free_bytes(home)));
        meters.lost_shards.set(signed(lost_shards));
        meters.lost_bytes.set(signed(lost_bytes));
        meters.deals.set(signed(self.0.deals.list().len() as u64));
        meters.declined_shards.set(signed(store.declined_shards() as u64));
        meters.claim_owed_millicoins.set(signed((self.0.tabs.owed_wei() / WEI_PER_MILLICOIN) as u64));
        meters.draining.set(self.is_draining().into());
    }

    /// For `/status`.
    pub fn status(&self) -> serde_json::Value {
        let Inner { store, config, home, .. } = &*self.0;
        let deals = self.0.deals.list();
        let (lost_shards, lost_bytes) = store.lost();
        let mut status = serde_json::json!({
            "zone": config.zone,
            "pledge_bytes": config.pledge_bytes,
            "used_bytes": store.used_bytes(),
            "held_bytes": store.held_bytes(),
            "free_bytes": self.free_bytes(),
            "reserve_bytes": store.reserve_bytes(),
            "disk_free_bytes": free_bytes(home),
            "disk_bytes": total_bytes(home),
            "keep_free_bytes": config.keep_free_bytes,
            "queued_bytes": self.0.queue.bytes(),
            "lost_shards": lost_shards,
            "lost_bytes": lost_bytes,
            "declined_shards": store.declined_shards(),
            "streams": self.0.gate.streams(),
            "peers": self.0.gate.peers(),
            "keepers": self.keepers(),
            "deals": deals.len(),
            "draining": self.is_draining(),
            "closed": self.is_closed(),
            "resting": self.is_resting(),
        });
        status["scrub"] = serde_json::json!(*lock(&self.0.findings));
        status["prove"] = serde_json::json!(lock(&self.0.prove).told());
        if let Some(kept) = &*lock(&self.0.kept) {
            status["caps"] = kept.status();
        }
        if self.is_draining() {
            // How far it is: the machine may go once no deal is left.
            status["drain"] = serde_json::json!({
                "open_deals": deals.iter().map(|deal| deal.id).collect::<Vec<_>>(),
                "held_bytes": store.held_bytes(),
                "may_go": deals.is_empty(),
            });
        }
        status
    }

    /// Gives back what released shards took, one segment a minute.
    async fn compact(self, task: Task, mut stop: watch::Receiver<bool>) {
        loop {
            task.doing("waiting");
            let wait = tokio::time::sleep(COMPACT_EVERY + task.delay().unwrap_or(COMPACT_EVERY));
            tokio::select! {
                () = wait => {}
                _ = stop.wait_for(|stop| *stop) => return,
            }
            if task.delay().is_none() {
                continue;
            }
            task.doing("rewriting a segment");
            match self.0.store.compact().await {
                Ok(won) => {
                    if let Some(bytes) = won {
                        tracing::info!(bytes, "segment compacted");
                        self.meters().removed_bytes.inc_by(bytes);
                    }
                    task.passed();
                }
                Err(error) => task.failed(&error),
            }
        }
    }

    fn chain(&self) -> &Arc<dyn Chain> {
        &self.0.parts.chain
    }

    fn account(&self) -> &Account {
        &self.0.parts.account
    }

    fn journal(&self) -> &Journal<E> {
        &self.0.parts.journal
    }

    fn access(&self) -> &Access {
        &self.0.access
    }

    fn gate(&self) -> &Gate {
        &self.0.gate
    }

    fn queue(&self) -> &Queue {
        &self.0.queue
    }

    fn tabs(&self) -> &Tabs<E> {
        &self.0.tabs
    }

    fn meters(&self) -> &Meters {
        &self.0.meters
    }
}
