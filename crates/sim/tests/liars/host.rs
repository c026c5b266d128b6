//! Keep shards in a real store as a provider does, or not.

use crate::world::{CHAIN, COIN, World};
use alloy_primitives::{Address, B256};
use alloy_sol_types::SolCall;
use commonware_runtime::{
    Blob as _, Handle, ReadOptions, Spawner as _, Storage as _, Supervisor as _, WriteOptions, deterministic::Context,
};
use futures::future::join_all;
use hodei_storage::shard::{Config, Mark, Store, StoreError};
use hodei_types::{
    abi::{DEALS, IDeals, IProviders, PROVIDERS, operator_consent, pack_addresses},
    ack::{Ack, Signer, Statement},
    index::Ordered,
    slice::ShardId,
};
use rand::{Rng, RngExt as _};
use std::sync::Arc;

/// Bytes of each shard: four leaves.
pub(crate) const SHARD_BYTES: usize = 4096;
/// Bytes of the deal.
pub(crate) const CAPACITY: u64 = 1 << 20;
const PLEDGE_BYTES: u64 = 16 << 20;
/// Bytes of a segment that hold all that is put here.
const SEARCHED: usize = 1 << 20;

/// A store that is open, and its writer.
struct Open {
    store: Store<Context, Ordered>,
    writer: Handle<()>,
}

/// A provider: its keys, and its disk.
pub(crate) struct Host {
    pub(crate) node: B256,
    pub(crate) operator: Address,
    pub(crate) deal: u64,
    pub(crate) shards: Vec<Vec<u8>>,
    signer: Arc<Signer>,
    context: Context,
    partition: String,
    index: Ordered,
    open: Option<Open>,
    scrubbed: Option<Mark>,
}

impl Host {
    pub(crate) async fn new(context: &Context, number: u8, operator: Address) -> Self {
        let signer = Arc::new(Signer::new(&[number; 32]));
        let (node, partition) = (B256::from(signer.node().0), format!("host-{number}"));
        let (context, index) = (context.child("host"), Ordered::default());
        let (deal, shards, open, scrubbed) = (0, Vec::new(), None, None);
        let mut host = Self { node, operator, deal, shards, signer, context, partition, index, open, scrubbed };
        host.start().await;
        host
    }

    /// Starts the store on what the disk has.
    pub(crate) async fn start(&mut self) {
        let config = Config::new(&self.partition, PLEDGE_BYTES, CHAIN);
        let opened = Store::open(self.context.child("store"), config, self.signer.clone(), self.index.clone()).await;
        let (store, writer) = opened.expect("it opens");
        let writer = self.context.child("writer").spawn(move |_| writer.run());
        self.open = Some(Open { store, writer });
    }

    /// Ends it; all that was in memory is gone.
    pub(crate) async fn stop(&mut self) {
        if let Some(Open { store, writer }) = self.open.take() {
            drop(store);
            writer.await.expect("the writer ends with its store");
        }
    }

    /// The same with its index gone too: everything is read from the segments again.
    pub(crate) async fn restart(&mut self, forgets: bool) {
        self.stop().await;
        if forgets {
            self.index = Ordered::default();
        }
        self.start().await;
    }

    pub(crate) fn store(&self) -> &Store<Context, Ordered> {
        &self.open.as_ref().expect("it runs").store
    }

    pub(crate) fn register(&self, world: &mut World) {
        let offer = IProviders::Offer {
            zone: "a".into(),
            network: "as64500".into(),
            addresses: pack_addresses(&["127.0.0.1:4000".parse().unwrap()]),
            capacityBytes: 1 << 40,
            priceStore: COIN,
            priceRead: 1,
            class: 0,
        };
        let possession = self.signer.sign(&operator_consent(CHAIN, self.operator, self.node)).to_vec().into();
        let call = IProviders::registerCall { node: self.node, offer, possession }.abi_encode();
        world.must(self.operator, PROVIDERS, 100 * COIN, call);
    }

    /// Takes shards, as an owner brings them; the newest statement it signed, as the ledger wants it.
    pub(crate) async fn take(&mut self, shards: Vec<Vec<u8>>) -> IDeals::RootPost {
        let puts = shards
            .iter()
            .map(|shard| self.store().put(self.deal, ShardId::of(shard), [self.deal as u8; 16], shard.clone().into()));
        for held in join_all(puts).await {
            held.expect("it has room");
        }
        self.shards.extend(shards);
        self.statement().await
    }

    /// What it signs of its deal now. The owner agrees by being the one who posts it.
    pub(crate) async fn statement(&self) -> IDeals::RootPost {
        let ack = self.store().state(self.deal).await.unwrap().0.expect("it holds something");
        entry(&ack)
    }

    /// What it would sign of any deal.
    pub(crate) fn state(&self, statement: Statement) -> IDeals::RootPost {
        entry(&self.signer.ack(CHAIN, statement))
    }

    /// Flips a byte of these shards on the disk. It must be stopped: a disk belongs to one process.
    pub(crate) async fn corrupt(&self, shards: &[usize]) {
        assert!(self.open.is_none());
        let (blob, size) = self.context.open(&self.partition, &1u64.to_be_bytes()).await.unwrap();
        let len = SEARCHED.min(size as usize);
        let bytes = blob.read_at(0, len, ReadOptions::default()).await.unwrap().freeze().coalesce();
        for shard in shards {
            let start = &self.shards[*shard][..64];
            let mut places = (0..len - 64).step_by(32);
            let at = places.find(|at| bytes.as_ref()[*at..at + 64] == *start).expect("it is on the disk");
            let byte = self.shards[*shard][1000] ^ 4;
            blob.write_at(at as u64 + 1000, vec![byte], WriteOptions::SYNC).await.unwrap();
        }
    }

    /// Loses as many of its shards, drawn by `rng`, and starts again.
    pub(crate) async fn lose(&mut self, count: usize, rng: &mut impl Rng) {
        let mut all: Vec<usize> = (0..self.shards.len()).collect();
        for at in 0..count {
            all.swap(at, rng.random_range(at..self.shards.len()));
        }
        self.stop().await;
        self.corrupt(&all[..count]).await;
        self.start().await;
    }

    /// What answers `samples`; `None` if one of them is lost.
    pub(crate) async fn answer(&self, samples: &[IDeals::Sample]) -> Option<Vec<u8>> {
        let mut out = Vec::new();
        for sample in samples {
            let part = self.store().prove(sample.deal, sample.root.0, sample.leaves, sample.leaf).await;
            match part {
                Ok(part) => frame(&mut out, &part),
                Err(StoreError::Damaged(_)) => return None,
                Err(error) => panic!("{error}"),
            }
        }
        Some(out)
    }

    /// The same with whatever it has in the place of what it lost.
    pub(crate) async fn bluff(&self, samples: &[IDeals::Sample]) -> Vec<u8> {
        let (mut out, mut any) = (Vec::new(), vec![1; 43 + 1024]);
        for sample in samples {
            let part = self.store().prove(sample.deal, sample.root.0, sample.leaves, sample.leaf).await;
            any = part.unwrap_or(any);
            frame(&mut out, &any);
        }
        out
    }

    /// A turn of its scrub, over as many bytes; how many shards it found lost.
    pub(crate) async fn scrub(&mut self, bytes_max: u64) -> usize {
        let scrubbed = self.store().scrub(self.scrubbed.as_ref(), bytes_max).await.unwrap();
        self.scrubbed = scrubbed.next;
        scrubbed.lost.len()
    }
}

fn entry(ack: &Ack) -> IDeals::RootPost {
    IDeals::RootPost {
        deal: ack.statement.deal,
        sequence: ack.statement.sequence,
        position: ack.statement.position,
        root: ack.statement.root.into(),
        leaves: ack.statement.leaves,
        providerSignature: ack.signature.to_vec().into(),
        ownerSignature: Default::default(),
    }
}

/// Appends one part of a proof: length (u32, big-endian) and bytes.
pub(crate) fn frame(out: &mut Vec<u8>, part: &[u8]) {
    out.extend_from_slice(&(part.len() as u32).to_be_bytes());
    out.extend_from_slice(part);
}

/// The call that hands a proof in.
pub(crate) fn proof(node: B256, window: u64, proof: Vec<u8>) -> Vec<u8> {
    IDeals::proveCall { provider: node, window, proof: proof.into() }.abi_encode()
}

/// The call that posts a statement.
pub(crate) fn post(entry: &IDeals::RootPost) -> Vec<u8> {
    IDeals::postCall { posts: vec![entry.clone()] }.abi_encode()
}

/// Bytes of a shard that nobody else has.
pub(crate) fn shard(rng: &mut impl Rng) -> Vec<u8> {
    let mut bytes = vec![0; SHARD_BYTES];
    rng.fill_bytes(&mut bytes);
    bytes
}

/// Hosts with operators of their own, each with a deal of as many shards, posted by the owner.
pub(crate) async fn fleet(world: &mut World, owner: Address, hosts: &mut [Host], shards: usize, rng: &mut impl Rng) {
    hosts.iter().for_each(|host| host.register(world));
    let nodes: Vec<B256> = hosts.iter().map(|host| host.node).collect();
    let deals = world.deals(owner, 1, &nodes, CAPACITY, COIN);
    let mut posts = Vec::new();
    for (host, deal) in hosts.iter_mut().zip(deals) {
        host.deal = deal;
        if shards > 0 {
            posts.push(host.take((0..shards).map(|_| shard(rng)).collect()).await);
        }
    }
    // At once, so that all are asked from the same window on.
    world.must(owner, DEALS, 0, IDeals::postCall { posts }.abi_encode());
}
