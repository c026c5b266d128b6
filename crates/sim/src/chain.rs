//! Wire validators of a ledger, and observers, into the simulation's harness.

use alloy_primitives::{Address, B256, U256};
use commonware_consensus::{marshal::Identifier, types::Height};
use commonware_cryptography::{Signer as _, ed25519};
use commonware_glue::simulate::{
    engine::{EngineDefinition, InitContext},
    processed::ProcessedHeight,
    reporter::MonitorReporter,
};
use commonware_parallel::Sequential;
use commonware_runtime::{Clock as _, Handle, Quota, Spawner as _, Supervisor as _, deterministic};
use commonware_utils::{NZUsize, TestRng};
use futures::future::BoxFuture;
use hodei_ledger::{
    beacon::{Beacon, Plain, Threshold},
    block::{Block, PublicKey},
    genesis::{Dealt, Genesis, Validator, deal},
    hold::Hold,
    member::{self, Archive, Timeouts},
    mempool::{Caps, Gossip, Pool, Rules},
    net::{self, Links},
    read::{Archived, Kept, Live, Reader},
};
use hodei_types::chain::Chain as _;
use std::{
    collections::{BTreeMap, BTreeSet},
    marker::PhantomData,
    sync::{Arc, Mutex},
    time::{Duration, UNIX_EPOCH},
};

/// How a simulated member votes.
pub(crate) trait Vote: Beacon {
    /// A validator's beacon, or an observer's; `held`, if it lost what it signed.
    fn of(genesis: &Genesis, index: usize, dealt: &Dealt, key: &ed25519::PrivateKey, held: bool) -> Self;
}

impl Vote for Plain {
    fn of(genesis: &Genesis, index: usize, _: &Dealt, key: &ed25519::PrivateKey, held: bool) -> Self {
        let key = (index < genesis.validators.len()).then(|| key.clone());
        let beacon = Self::new(genesis, key).expect("the key is a participant's");
        if held { beacon.held() } else { beacon }
    }
}

impl Vote for Threshold {
    fn of(genesis: &Genesis, index: usize, dealt: &Dealt, key: &ed25519::PrivateKey, held: bool) -> Self {
        let share = dealt.shares.get(index).map(|(_, share)| share.clone());
        let beacon = Self::new(genesis, &key.public_key(), share).expect("the share is the key's");
        if held { beacon.held() } else { beacon }
    }
}

/// What a node of the simulation does besides agreeing; begun anew at each start, and it dies with its node.
///
/// It never returns: its node's gossip ends with it.
pub trait Life: Send + Sync + 'static {
    fn live(&self, context: deterministic::Context, index: usize, reader: Reader) -> BoxFuture<'static, ()>;
}

/// The highest head anybody saw, by the second of the simulated clock.
pub(crate) type Heads = Arc<Mutex<BTreeMap<u64, u64>>>;

/// A ledger of several members, as the harness starts and restarts them.
#[derive(Clone)]
pub(crate) struct Chain<B> {
    pub(crate) genesis: Arc<Genesis>,
    dealt: Arc<Dealt>,
    keys: Vec<ed25519::PrivateKey>,
    pub(crate) life: Arc<dyn Life>,
    /// Members whose disk is empty at each start after the first.
    pub(crate) losing: BTreeSet<usize>,
    /// Whether a member without state fetches it instead of replaying.
    pub(crate) sync: bool,
    pub(crate) timeouts: Timeouts,
    starts: Arc<Mutex<BTreeMap<usize, u32>>>,
    pub(crate) heads: Heads,
    votes: PhantomData<B>,
}

impl<B: Vote> Chain<B> {
    /// The same for the same arguments.
    pub(crate) fn new(validators: u64, observers: u64, allocations: Vec<(Address, U256)>, life: Arc<dyn Life>) -> Self {
        let mut keys: Vec<_> = (0..validators).map(ed25519::PrivateKey::from_seed).collect();
        keys.sort_by_key(|key| key.public_key());
        let public: Vec<_> = keys.iter().map(|key| key.public_key()).collect();
        let dealt = deal(TestRng::new(7), &public).expect("a handful of distinct keys");
        let members = public
            .iter()
            .enumerate()
            .map(|(index, key)| Validator {
                key: key.clone(),
                address: format!("127.0.0.1:{}", 9000 + index),
                fees: Address::with_last_byte(0xf0 + index as u8),
            })
            .collect();
        keys.extend((validators..validators + observers).map(ed25519::PrivateKey::from_seed));
        let mut genesis = Genesis::new("sim".into(), 0, dealt.output.clone(), members, allocations);
        genesis.window_secs = 10;
        // Small pages and sections, so that a run of minutes crosses their borders.
        (genesis.disk.page_bytes, genesis.disk.section_items) = (1012, 16);
        genesis.check().expect("a sound genesis");
        Self {
            genesis: Arc::new(genesis),
            dealt: Arc::new(dealt),
            keys,
            life,
            losing: BTreeSet::new(),
            sync: false,
            timeouts: Timeouts::default(),
            starts: Arc::default(),
            heads: Heads::default(),
            votes: PhantomData,
        }
    }
}

/// What a law may look at in a member.
pub(crate) struct Node<B: Beacon> {
    archive: Archive<B>,
    hold: Hold,
}

impl<B: Beacon> Node<B> {
    /// Hash and state root of the block finalized at `height`, if this node has it.
    pub(crate) async fn at(&self, height: u64) -> Option<(B256, B256)> {
        let block = self.archive.get_block(Identifier::Height(Height::new(height))).await?;
        Some((block.inner().hash(), block.inner().header().state_root))
    }

    /// The block itself.
    pub(crate) async fn block(&self, height: u64) -> Option<Block> {
        Some(self.archive.get_block(Identifier::Height(Height::new(height))).await?.inner().clone())
    }

    /// Whether it uses its share.
    pub(crate) fn votes(&self) -> bool {
        self.hold.is_free()
    }
}

impl<B: Beacon> ProcessedHeight for Node<B> {
    async fn processed_height(&self) -> u64 {
        self.archive.get_processed().await.map_or(0, |processed| processed.height().get())
    }
}

impl<B: Vote> EngineDefinition for Chain<B> {
    type PublicKey = PublicKey;
    type Engine = Handle<()>;
    type State = Node<B>;

    fn participants(&self) -> Vec<PublicKey> {
        self.keys.iter().map(|key| key.public_key()).collect()
    }

    fn channels(&self) -> Vec<(u64, Quota)> {
        (0..).zip(net::QUOTAS).collect()
    }

    fn max_message_size(&self) -> u32 {
        net::message_bytes_max::<B::Scheme>(&self.genesis)
    }

    async fn init(&self, ctx: InitContext<'_, PublicKey>) -> (Handle<()>, Node<B>) {
        let InitContext { context, index, delayed, public_key, oracle, channels, monitor, .. } = ctx;
        let start = {
            let mut starts = self.starts.lock().expect("no holder of this lock panics");
            let count = starts.entry(index).or_default();
            *count += 1;
            *count
        };
        let emptied = start > 1 && self.losing.contains(&index);
        let beacon = B::of(&self.genesis, index, &self.dealt, &self.keys[index], emptied);
        let hold = beacon.hold().clone();
        let mut config = member::Config::new(self.genesis.clone(), public_key.clone(), beacon);
        // Another name is another disk.
        config.prefix = if emptied { format!("node-{index}-{start}") } else { format!("node-{index}") };
        config.sync = self.sync && (delayed || emptied);
        config.cache_pages = NZUsize!(32);
        config.timeouts = self.timeouts;
        let Ok(channels) = channels.try_into() else { unreachable!("as many as asked for") };
        let links = Links { channels, blocker: oracle.control(public_key.clone()), peers: oracle.manager() };
        let reader = reader(&self.genesis);
        let me = public_key.clone();
        let life = context.child("life");
        let running =
            member::start(context, config, links, reader.clone(), |state| MonitorReporter::new(me, monitor, state))
                .await;
        let (archive, gossip, state) = (running.archive.clone(), running.gossip, running.state);
        let (theirs, heads) = (self.life.clone(), self.heads.clone());
        life.spawn(move |context| async move {
            let pool = reader.pool().clone();
            let _gossip = Gossip::new(context.child("gossip"), pool, Sequential).start(gossip.0, gossip.1);
            let databases = state.subscribe_databases().await;
            reader.attach(Arc::new(Live(databases)), Arc::new(Archived(running.archive)));
            let _watch = context.child("watch").spawn({
                let reader = reader.clone();
                move |clock| watch(clock, reader, heads)
            });
            theirs.live(context, index, reader).await;
        });
        (running.handle, Node { archive, hold })
    }

    fn start(engine: Handle<()>) -> Handle<()> {
        engine
    }
}

fn reader(genesis: &Arc<Genesis>) -> Reader {
    let rules = Rules {
        chain_id: genesis.chain_id(),
        block_gas: genesis.fees.gas_limit,
        fee_floor: genesis.fees.base_fee_min,
        tx_bytes_max: genesis.limits.tx_bytes_max as usize,
    };
    Reader::new(genesis.clone(), Pool::new(rules, Caps::default()), Kept::default())
}

async fn watch(clock: deterministic::Context, reader: Reader, heads: Heads) {
    loop {
        clock.sleep(Duration::from_secs(1)).await;
        let second = clock.current().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let height = reader.head().await.map_or(0, |head| head.height);
        let mut heads = heads.lock().expect("no holder of this lock panics");
        let highest = heads.entry(second).or_default();
        *highest = height.max(*highest);
    }
}
