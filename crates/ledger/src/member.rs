//! Run one member of the ledger: every station, in the order in which they need each other.
//!
//! ```text
//! votes, certificates ─► simplex ─► pace ─► deferred ─► stateful ─► rules ─► databases
//!                           │                  ▲            ▲
//!        blocks ─► broadcast └─► deferred ─► marshal ───────┘ finalized blocks, in order
//!        backfill ─► resolver ───────────────┘│
//!        probe, state sync ─► plan ───────────┴─► (only a node without state)
//! ```
//! Upon a start with a disk, simplex replays its journal and marshal redelivers what was not acknowledged.
//! Upon a start without one and `sync` wished, a finalization vouched for by f+1 peers becomes the floor and
//! the databases are fetched and verified against it. A failing disk stops the node by design.

use commonware_broadcast::buffered;
use commonware_consensus::{
    Reporter,
    marshal::{
        self, Update,
        core::Actor as Marshal,
        standard::{Deferred, Standard},
        store,
    },
    simplex::{
        self,
        config::{ForwardPolicy, SkipBudget, SkipPolicy},
    },
    types::{Epoch, FixedEpocher, ViewDelta},
};
use commonware_cryptography::{
    Digested, Digestible as _,
    certificate::{ConstantProvider, Verifier as _},
};
use commonware_glue::stateful::{
    self, PruneConfig, Stateful, SyncPlan,
    db::p2p as state_sync,
    probe::{self, Probe},
};
use commonware_p2p::{Blocker, Provider, utils::mux::Muxer};
use commonware_parallel::Sequential;
use commonware_runtime::{Clock, Handle, Metrics, Spawner, Storage, buffer::paged::CacheRef};
use commonware_storage::{
    archive::{Identifier, prunable},
    mmr,
    translator::EightCap,
};
use commonware_utils::{NZDuration, NZU64, NZUsize};
use rand::CryptoRng;
use std::{
    num::{NonZeroU16, NonZeroU64, NonZeroUsize},
    sync::Arc,
    time::Duration,
};
use tracing::info;

use crate::{
    application::{Door, Rules},
    beacon::{Beacon, Observer},
    block::{Block, PublicKey},
    genesis::Genesis,
    net::Links,
    pace::{HEARTBEAT, Pace},
    state::{self, Code, REPLAY_BUFFER, SYNC_OPS, State, WRITE_BUFFER},
};

/// What a member needs of the machine.
pub trait Runtime: Spawner + Storage + Clock + Metrics + CryptoRng {}
impl<T: Spawner + Storage + Clock + Metrics + CryptoRng> Runtime for T {}

/// Finalized blocks and certificates, as marshal keeps them.
pub type Archive<B> = marshal::core::Mailbox<<B as Beacon>::Scheme, Standard<Block>>;

const MAILBOX: NonZeroUsize = NZUsize!(1024);
/// Finalized blocks handed out before the first is acknowledged.
const PENDING_ACKS: NonZeroUsize = NZUsize!(16);
/// History of the databases kept for peers that sync; ten minutes of an idle chain.
const QMDB_BLOCKS_KEPT: usize = 600;
const FETCH_TIMEOUT: Duration = Duration::from_secs(2);
const FETCH_RETRY: Duration = Duration::from_millis(100);
/// Views of votes and unfinalized blocks kept for peers that lag.
const VIEWS_KEPT: ViewDelta = ViewDelta::new(256);

/// One epoch for the network's life; its end would need a new engine, and without one the chain stops.
#[derive(Clone, Copy, Debug)]
pub struct OneEpoch;

impl OneEpoch {
    fn epocher() -> FixedEpocher {
        FixedEpocher::new(NZU64!(u64::MAX))
    }
}

/// How long consensus waits. Whoever leads is waited for longer than a heartbeat; the defaults suit one of a second.
#[derive(Clone, Copy, Debug)]
pub struct Timeouts {
    /// Between blocks of an idle chain. Beyond 3 s the active clock would fall behind.
    pub heartbeat: Duration,
    pub leader: Duration,
    pub certification: Duration,
    pub skip: Duration,
    pub retry: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            heartbeat: HEARTBEAT,
            leader: Duration::from_secs(2),
            certification: Duration::from_secs(3),
            skip: Duration::from_secs(6),
            retry: Duration::from_secs(1),
        }
    }
}

/// One member.
#[derive(Clone)]
pub struct Config<B> {
    pub genesis: Arc<Genesis>,
    /// Identity on the wire; a participant's, or an observer's.
    pub me: PublicKey,
    pub beacon: B,
    /// Begins the name of every partition on disk.
    pub prefix: String,
    /// Whether a node without state fetches it from peers instead of replaying the chain.
    pub sync: bool,
    /// Finalized blocks kept; `None` keeps all. Peers that were away longer than this must sync state.
    pub blocks_kept: Option<usize>,
    /// Pages of disk kept in memory, each `genesis.disk.page_bytes`.
    pub cache_pages: NonZeroUsize,
    pub timeouts: Timeouts,
}

impl<B> Config<B> {
    pub fn new(genesis: Arc<Genesis>, me: PublicKey, beacon: B) -> Self {
        Self {
            genesis,
            me,
            beacon,
            prefix: "ledger".into(),
            sync: false,
            // Twelve days of an idle chain, seven hours of one at full pace.
            blocks_kept: Some(1 << 20),
            cache_pages: NZUsize!(4096),
            timeouts: Timeouts::default(),
        }
    }
}

/// A running member.
pub struct Member<E: Runtime, B: Beacon, D: Door, S, R> {
    /// Resolves when consensus stops, which it does only by a failure or an abort.
    pub handle: Handle<()>,
    /// Finalized blocks and their certificates.
    pub archive: Archive<B>,
    /// Reaches the databases: `subscribe_databases()`.
    pub state: stateful::Mailbox<E, Rules<B, D>>,
    /// The channel that transactions travel on, for the pool's gossip.
    pub gossip: (S, R),
    /// The block all started from.
    pub first: Block,
}

/// Starts every station of a member on a runtime and a network.
///
/// `tap` receives finalized blocks' reporter and returns what marshal is to report to: the same, or one
/// that also watches. Aborting the handle ends every station, which a simulated crash relies on.
pub async fn start<E, B, D, S, R, K, P, T>(
    context: E,
    config: Config<B>,
    links: Links<S, R, K, P>,
    door: D,
    tap: impl FnOnce(stateful::Mailbox<E, Rules<B, D>>) -> T,
) -> Member<E, B, D, S, R>
where
    E: Runtime,
    B: Beacon,
    D: Door,
    S: commonware_p2p::Sender<PublicKey = PublicKey>,
    R: commonware_p2p::Receiver<PublicKey = PublicKey>,
    K: Blocker<PublicKey = PublicKey> + Sync,
    P: Provider<PublicKey = PublicKey> + Sync,
    T: Reporter<Activity = Update<Block>>,
{
    let Config { genesis, me, beacon, prefix, sync, blocks_kept, cache_pages, timeouts } = config;
    let [votes, certificates, certificate_fetch, backfill, blocks, state_net, probe_net, gossip] = links.channels;
    let (blocker, peers) = (links.blocker, links.peers);
    let page_bytes = NonZeroU16::new(genesis.disk.page_bytes).expect("a checked genesis has pages");
    let page_cache = CacheRef::new(page_bytes, cache_pages);
    let section = NonZeroU64::new(genesis.disk.section_items).expect("a checked genesis has sections");
    let first = Block::genesis(&genesis, state::empty::<E>());
    let scheme = beacon.scheme();
    let provider = ConstantProvider::new(scheme.clone());

    // Blocks and certificates from peers.
    let resolver = marshal::resolver::p2p::init(
        context.child("backfill"),
        marshal::resolver::p2p::Config {
            public_key: me.clone(),
            peer_provider: peers.clone(),
            blocker: blocker.clone(),
            mailbox_size: MAILBOX,
            fetch_timeout: NZDuration!(FETCH_TIMEOUT),
            fetch_retry_delay: FETCH_RETRY,
            priority_requests: false,
            priority_responses: false,
        },
        backfill,
    );
    let (broadcast, buffer) = buffered::Engine::new(
        context.child("broadcast"),
        buffered::Config {
            public_key: me.clone(),
            mailbox_size: MAILBOX,
            deque_size: 16,
            priority: false,
            codec_config: genesis.limits,
            peer_provider: peers.clone(),
            strategy: Sequential,
        },
    );
    broadcast.start(blocks);

    // Our own archives of what is final.
    let finalizations = prunable::Archive::init(
        context.child("finalizations"),
        archive(&prefix, "finalizations", section, &page_cache, B::Scheme::certificate_codec_config_unbounded()),
    )
    .await
    .expect("the archive of certificates does not open");
    let finalized = prunable::Archive::init(
        context.child("blocks"),
        archive(&prefix, "blocks", section, &page_cache, genesis.limits),
    )
    .await
    .expect("the archive of blocks does not open");

    // Consensus never begins below what is final here: a chain that was imported has no journal.
    let last = store::Certificates::last_index(&finalizations).map(|height| height.get());
    let last = match last {
        Some(height) => store::Certificates::get(&finalizations, Identifier::Index(height))
            .await
            .expect("the archive of certificates is not readable"),
        None => None,
    };

    // Whether to fetch state, and from which finalized block.
    let mut plan = SyncPlan::init(context.child("plan"), format!("{prefix}-")).await;
    let (probe, probing) = Probe::new(probe::Config {
        context: context.child("probe"),
        provider: provider.clone(),
        strategy: Sequential,
        mailbox_size: MAILBOX,
        blocker: blocker.clone(),
        minimum_epoch: Epoch::zero(),
        retry_timeout: NZDuration!(Duration::from_millis(500)),
    });
    probe.start(probe_net);
    if plan.should_sync(sync) {
        info!("no state on disk: looking for a recent finalization");
        if let Ok(floor) = probing.subscribe().await {
            info!(view = %floor.proposal.round.view(), "syncing state");
            plan = plan.set_floor(floor).await;
        }
    }

    let (marshal_actor, archive, floor) = Marshal::<_, Standard<Block>, _, _, _, _, _>::init(
        context.child("marshal"),
        finalizations,
        finalized,
        marshal::Config {
            provider,
            epocher: OneEpoch::epocher(),
            start: plan.marshal_start(digested(first.clone())),
            partition_prefix: prefix.clone(),
            mailbox_size: MAILBOX,
            view_retention: VIEWS_KEPT,
            prunable_items_per_section: section,
            page_cache: page_cache.clone(),
            replay_buffer: REPLAY_BUFFER,
            key_write_buffer: WRITE_BUFFER,
            value_write_buffer: WRITE_BUFFER,
            block_codec_config: genesis.limits,
            max_repair: NZUsize!(64),
            max_pending_acks: PENDING_ACKS,
            strategy: Sequential,
        },
    )
    .await;

    // State sync of both databases shares one channel.
    let (mux, mut split) = Muxer::new(context.child("state_mux"), state_net.0, state_net.1);
    mux.start();
    let (state_actor, state_source) = state_sync::Actor::<_, PublicKey, _, _, mmr::Family, State<E>>::new(
        context.child("state_sync"),
        sync_settings(&me, &peers, &blocker),
    );
    state_actor.start(split.register(0).await.expect("the mux runs"));
    let (code_actor, code_source) = state_sync::Actor::<_, PublicKey, _, _, mmr::Family, Code<E>>::new(
        context.child("code_sync"),
        sync_settings(&me, &peers, &blocker),
    );
    code_actor.start(split.register(1).await.expect("the mux runs"));

    let rules = Rules::new(genesis.clone(), first.clone(), beacon.clone(), door.clone());
    let (stateful_actor, mailbox) = Stateful::new(
        context.child("stateful"),
        stateful::Config {
            application: rules,
            db_config: state::config::<E>(&prefix, &genesis.disk, &page_cache),
            provider: (),
            marshal: (archive.clone(), floor),
            mailbox_size: MAILBOX,
            plan,
            resolvers: (state_source, code_source),
            sync_config: state::sync_config(),
            prune_config: blocks_kept.map(|kept| PruneConfig {
                maintenance_interval: NZUsize!(256),
                retained_marshal_blocks: kept,
                retained_qmdb_blocks: kept.min(QMDB_BLOCKS_KEPT),
            }),
            strategy: Sequential,
        },
    );
    let deferred = Deferred::new(context.child("deferred"), mailbox.clone(), archive.clone(), OneEpoch::epocher());
    marshal_actor.start(tap(mailbox.clone()), buffer, resolver);
    probing.attach(archive.clone());
    stateful_actor.start();

    let pace = Pace::new(context.child("pace"), deferred.clone(), beacon.clone(), door, timeouts.heartbeat);
    let engine = simplex::Engine::new(
        context,
        simplex::Config {
            scheme,
            elector: beacon.elector(),
            blocker,
            automaton: pace,
            relay: deferred.clone(),
            reporter: Observer::new(beacon, deferred),
            strategy: Sequential,
            partition: format!("{prefix}-simplex-0"),
            mailbox_size: MAILBOX,
            epoch: Epoch::zero(),
            floor: last.map_or(simplex::config::Floor::Genesis(first.digest()), simplex::config::Floor::Finalized),
            replay_buffer: REPLAY_BUFFER,
            write_buffer: WRITE_BUFFER,
            page_cache,
            leader_timeout: timeouts.leader,
            certification_timeout: timeouts.certification,
            timeout_retry: timeouts.retry,
            view_retention: VIEWS_KEPT,
            skip: SkipPolicy::Enabled { timeout: timeouts.skip, budget: SkipBudget::Participants },
            fetch_timeout: NZDuration!(FETCH_TIMEOUT),
            fetch_retry_delay: FETCH_RETRY,
            forward: ForwardPolicy::SilentVoters,
            track_historical_votes: false,
        },
    );
    let handle = engine.start(votes, certificates, certificate_fetch);
    Member { handle, archive, state: mailbox, gossip, first }
}

fn sync_settings<P, K, DB>(me: &PublicKey, peers: &P, blocker: &K) -> state_sync::Config<PublicKey, P, K, DB>
where
    P: Provider<PublicKey = PublicKey>,
    K: Blocker<PublicKey = PublicKey>,
{
    state_sync::Config {
        peer_provider: peers.clone(),
        blocker: blocker.clone(),
        database: None,
        mailbox_size: MAILBOX,
        me: Some(me.clone()),
        fetch_timeout: NZDuration!(FETCH_TIMEOUT),
        fetch_retry_delay: FETCH_RETRY,
        max_serve_ops: SYNC_OPS,
        priority_requests: false,
        priority_responses: false,
    }
}

pub(crate) fn archive<C>(
    prefix: &str,
    name: &str,
    section: NonZeroU64,
    page_cache: &CacheRef,
    codec_config: C,
) -> prunable::Config<EightCap, C> {
    prunable::Config {
        translator: EightCap,
        metadata_partition: format!("{prefix}-{name}-metadata"),
        key_partition: format!("{prefix}-{name}-key"),
        key_page_cache: page_cache.clone(),
        value_partition: format!("{prefix}-{name}-value"),
        compression: None,
        codec_config,
        items_per_section: section,
        key_write_buffer: WRITE_BUFFER,
        value_write_buffer: WRITE_BUFFER,
        replay_buffer: REPLAY_BUFFER,
    }
}

fn digested(block: Block) -> Digested<Block> {
    let digest = block.digest();
    Digested::precomputed(block, digest)
}
