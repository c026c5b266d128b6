//! Wire validators of a ledger into the simulation's harness.

use alloy_primitives::{Address, B256, U256};
use commonware_consensus::marshal::Identifier;
use commonware_consensus::types::Height;
use commonware_cryptography::{Signer as _, ed25519};
use commonware_glue::simulate::{
    engine::{EngineDefinition, InitContext},
    processed::ProcessedHeight,
    reporter::MonitorReporter,
};
use commonware_runtime::{Handle, Quota, deterministic};
use commonware_utils::{NZUsize, TestRng};
use hodei_ledger::{
    application::Door,
    beacon::{Beacon, Plain, Threshold},
    block::{Block, PublicKey},
    genesis::{Dealt, Genesis, Validator, deal},
    net::{self, Links},
    member::{self, Archive},
};
use std::{marker::PhantomData, sync::Arc};

/// How a simulated validator votes.
pub trait Vote: Beacon {
    fn of(genesis: &Genesis, index: usize, dealt: &Dealt, key: &ed25519::PrivateKey) -> Self;
}

impl Vote for Plain {
    fn of(genesis: &Genesis, _: usize, _: &Dealt, key: &ed25519::PrivateKey) -> Self {
        Self::new(genesis, Some(key.clone())).expect("the key is a participant's")
    }
}

impl Vote for Threshold {
    fn of(genesis: &Genesis, index: usize, dealt: &Dealt, key: &ed25519::PrivateKey) -> Self {
        Self::new(genesis, &key.public_key(), Some(dealt.shares[index].1.clone())).expect("the share is the key's")
    }
}

/// What a node of the simulation does besides agreeing; made anew at each start.
pub trait Life: Clone + Send + Sync + 'static {
    type Door: Door;
    fn door(&self, context: &deterministic::Context, genesis: &Genesis, index: usize) -> Self::Door;
}

/// A ledger of several validators, as the harness starts and restarts them.
#[derive(Clone)]
pub struct Chain<B, L> {
    genesis: Arc<Genesis>,
    dealt: Arc<Dealt>,
    keys: Vec<ed25519::PrivateKey>,
    life: L,
    /// Whether a validator that starts late fetches state instead of replaying.
    sync: bool,
    votes: PhantomData<B>,
}

impl<B: Vote, L: Life> Chain<B, L> {
    /// `validators` members, `allocations` of coin, the same for the same arguments.
    pub fn new(validators: u64, allocations: Vec<(Address, U256)>, life: L) -> Self {
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
        let mut genesis = Genesis::new("sim".into(), 0, dealt.output.clone(), members, allocations);
        genesis.window_secs = 10;
        // Small pages and sections, so that a run of minutes crosses their borders.
        (genesis.disk.page_bytes, genesis.disk.section_items) = (1012, 16);
        genesis.check().expect("a sound genesis");
        let genesis = Arc::new(genesis);
        Self { genesis, dealt: Arc::new(dealt), keys, life, sync: false, votes: PhantomData }
    }

    pub fn with_state_sync(mut self) -> Self {
        self.sync = true;
        self
    }

    pub fn genesis(&self) -> &Genesis {
        &self.genesis
    }
}

/// What a law may look at in a validator.
pub struct Node<B: Beacon> {
    archive: Archive<B>,
}

impl<B: Beacon> Node<B> {
    /// Hash and state root of the block finalized at `height`, if this node has it.
    pub async fn at(&self, height: u64) -> Option<(B256, B256)> {
        let block = self.archive.get_block(Identifier::Height(Height::new(height))).await?;
        Some((block.inner().hash(), block.inner().header().state_root))
    }

    /// The block itself.
    pub async fn block(&self, height: u64) -> Option<Block> {
        Some(self.archive.get_block(Identifier::Height(Height::new(height))).await?.inner().clone())
    }
}

impl<B: Beacon> ProcessedHeight for Node<B> {
    async fn processed_height(&self) -> u64 {
        self.archive.get_processed().await.map_or(0, |processed| processed.height().get())
    }
}

impl<B: Vote, L: Life> EngineDefinition for Chain<B, L> {
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
        let beacon = B::of(&self.genesis, index, &self.dealt, &self.keys[index]);
        let mut config = member::Config::new(self.genesis.clone(), public_key.clone(), beacon);
        config.prefix = format!("validator-{index}");
        config.sync = self.sync && delayed;
        config.cache_pages = NZUsize!(32);
        let Ok(channels) = channels.try_into() else { unreachable!("as many as asked for") };
        let links = Links { channels, blocker: oracle.control(public_key.clone()), peers: oracle.manager() };
        let door = self.life.door(&context, &self.genesis, index);
        let me = public_key.clone();
        let running =
            member::start(context, config, links, door, |state| MonitorReporter::new(me, monitor, state)).await;
        (running.handle, Node { archive: running.archive })
    }

    fn start(engine: Handle<()>) -> Handle<()> {
        engine
    }
}
