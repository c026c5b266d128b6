//! Build blocks and check them: one execution serves proposer, verifier and replay.
//!
//! Upon a turn to lead, build on the parent's state from what waits in the pool. Upon a peer's block, run it
//! again and compare every commitment; a mismatch is final, a clock that lags is waited for. Upon a finalized
//! block, hand it with its receipts to whoever follows. Nothing that decides may depend on the local clock,
//! on thread counts or on map order, or the chain halts.

use alloy_consensus::{Header, proofs::calculate_receipt_root};
use alloy_eips::Encodable2718 as _;
use alloy_primitives::{B256, Bytes, keccak256};
use commonware_consensus::{
    marshal::ancestry::Ancestry,
    types::{Epoch, Round},
};
use commonware_cryptography::{Digested, Digestible as _};
use commonware_glue::stateful::{
    Application, Finality, Input, Proposed,
    db::{DatabaseSet, Unmerkleized as _},
};
use commonware_runtime::{Clock, Spawner};
use commonware_storage::Context as Storage;
use futures::StreamExt as _;
use std::{
    collections::BTreeMap,
    future::Future,
    sync::{Arc, Mutex},
    time::{Duration, UNIX_EPOCH},
};
use tracing::warn;

use crate::{
    beacon::Beacon,
    block::{Block, Context, Digest, Draft, Seed, time_ms},
    execute::{Env, Signed, next_base_fee, system_transaction},
    genesis::Genesis,
    pace::Work,
    run::{Body, Effects, Refusal, run},
    state::{self, Batches, Databases, Roots, Sealed, Targets},
};

/// A block states a time at most this far after its parent's, so that waiting for the clock always ends.
pub const STEP_MS_MAX: u64 = 15_000;
/// Executed blocks whose receipts wait for finalization; a chain has a handful in flight.
const EXECUTED_KEPT: usize = 64;

/// Where a proposer's transactions come from, and where finalized blocks go.
pub trait Door: Work {
    /// Transactions to try, best first, each sender's in the order of its nonces.
    fn choose(&self, base_fee: u64) -> Vec<Arc<Signed>>;
    /// A block's transactions with their senders; `None` if one is no transaction. Depends on the bytes alone.
    fn recover(&self, raw: &[Bytes]) -> Option<Vec<Arc<Signed>>>;
    /// A block that may become final holds these: they need no proposer until a block of its height is final.
    fn carried(&self, height: u64, hashes: &[B256]);
    /// A block is final; its state is written once this returns. What must not be missing later is kept here.
    fn keep(&self, _block: &Block, _effects: &Effects) -> impl Future<Output = ()> + Send {
        async {}
    }
    /// A block is final and its state readable; may repeat after a crash.
    fn finalized(&self, block: &Block, effects: &Effects) -> impl Future<Output = ()> + Send;
}

/// The ledger's rules, as the engine drives them.
#[derive(Clone)]
pub struct Rules<B, D> {
    genesis: Arc<Genesis>,
    chain_id: u64,
    first: Block,
    beacon: B,
    door: D,
    executed: Arc<Mutex<BTreeMap<Digest, (u64, Arc<Effects>)>>>,
}

impl<B: Beacon, D: Door> Rules<B, D> {
    pub fn new(genesis: Arc<Genesis>, first: Block, beacon: B, door: D) -> Self {
        let chain_id = genesis.chain_id();
        Self { genesis, chain_id, first, beacon, door, executed: Arc::default() }
    }

    fn env(&self, parent: &Header, context: &Context, time_ms: u64, mix_hash: B256) -> Env {
        Env {
            height: parent.number + 1,
            time_ms,
            parent_time_ms: crate::block::time_ms(parent),
            beneficiary: self.genesis.fee_address(&context.leader),
            base_fee: base_fee(&self.genesis, parent),
            gas_limit: self.genesis.fees.gas_limit,
            mix_hash,
            parent_hash: B256::from(context.parent.1.0),
        }
    }

    /// Randomness of the block after `parent`: its seed, if it carries one, and `mix_hash`.
    fn randomness(&self, number: u64, context: &Context) -> Option<(Option<Seed>, B256)> {
        if number == 1 {
            return Some((None, first_mix(&self.genesis)));
        }
        let seed = self.beacon.seed(parent_round(context), context.parent.1)?;
        Some((Some(seed), seed.mix()))
    }

    fn remember(&self, block: &Block, effects: Effects) {
        self.door.carried(block.number(), &effects.hashes);
        let mut executed = self.executed.lock().expect("no holder of this lock panics");
        executed.insert(block.digest(), (block.number(), Arc::new(effects)));
        if executed.len() > EXECUTED_KEPT {
            let oldest = executed.iter().min_by_key(|(_, (number, _))| *number).map(|(digest, _)| *digest);
            oldest.map(|digest| executed.remove(&digest));
        }
    }

    /// Rules that a header obeys whatever its transactions do.
    fn check(&self, block: &Block, parent: &Header, context: &Context) -> Result<(), &'static str> {
        let header = block.header();
        let (time, before) = (block.time_ms(), time_ms(parent));
        if time < before {
            return Err("time before the parent's");
        }
        if time - before > STEP_MS_MAX && header.number > 1 {
            return Err("time too far after the parent's");
        }
        if header.gas_limit != self.genesis.fees.gas_limit {
            return Err("gas limit");
        }
        if header.base_fee_per_gas != Some(base_fee(&self.genesis, parent)) {
            return Err("base fee");
        }
        if header.beneficiary != self.genesis.fee_address(&context.leader) {
            return Err("beneficiary");
        }
        match block.seed() {
            None if header.mix_hash == first_mix(&self.genesis) => Ok(()),
            Some(seed) if self.beacon.verify(parent_round(context), context.parent.1, seed) => Ok(()),
            _ => Err("randomness"),
        }
    }

    async fn build<E: Storage + Spawner + Clock>(
        &self,
        (runtime, context): (E, Context),
        parent: Block,
        batches: Batches<E>,
    ) -> Option<(Block, Sealed<E>)> {
        let number = parent.number() + 1;
        let (seed, mix_hash) = self.randomness(number, &context)?;
        let now = runtime.current().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as u64;
        let before = parent.time_ms();
        let latest = if number == 1 { u64::MAX } else { before + STEP_MS_MAX };
        let env = self.env(parent.header(), &context, now.clamp(before, latest), mix_hash);
        let chosen = self.door.choose(env.base_fee);
        let (effects, batches) = match run::<E>(&self.genesis, env, batches, Body::Chosen(chosen)).await {
            Ok(done) => done,
            Err(reason) => {
                warn!(height = number, %reason, "no block built");
                return None;
            }
        };
        let sealed = seal::<E>(batches).await;
        let roots = Roots::of::<E>(&sealed);
        let block = Draft {
            number,
            time_ms: env.time_ms,
            beneficiary: env.beneficiary,
            state_root: roots.state_root(),
            receipts_root: calculate_receipt_root(&effects.receipts),
            logs_bloom: effects.bloom,
            gas_limit: env.gas_limit,
            gas_used: effects.gas_used,
            base_fee: env.base_fee,
            seed,
            mix_hash,
            txs: effects.txs.clone(),
            members: roots.members,
            anchors: anchor_root(&effects.anchors),
            context,
        }
        .seal();
        self.remember(&block, effects);
        Some((block, sealed))
    }

    pub(crate) async fn rerun<E: Storage + Spawner + Clock>(
        &self,
        (runtime, context): (E, Context),
        block: &Block,
        parent: &Block,
        batches: Batches<E>,
        finality: Finality,
    ) -> Result<Sealed<E>, String> {
        if finality == Finality::Candidate {
            self.check(block, parent.header(), &context)?;
            // Ahead of our clock is not invalid, only early.
            let due = UNIX_EPOCH + Duration::from_millis(block.time_ms());
            if block.number() > 1 && due > runtime.current() {
                runtime.sleep_until(due).await;
            }
        }
        let header = block.header();
        let env = self.env(parent.header(), &context, block.time_ms(), header.mix_hash);
        let system = Bytes::from(system_transaction(self.chain_id, block.number()).encoded_2718());
        let signed = block.txs().strip_prefix(&[system]).unwrap_or(block.txs());
        let txs = self.door.recover(signed).ok_or_else(|| Refusal::Signature.to_string())?;
        let body = Body::Given { raw: block.txs(), txs };
        let (effects, batches) = run::<E>(&self.genesis, env, batches, body).await.map_err(|e| e.to_string())?;
        let sealed = seal::<E>(batches).await;
        let roots = Roots::of::<E>(&sealed);
        let agrees = [
            ("state root", header.state_root == roots.state_root()),
            ("database ranges", *block.members() == roots.members),
            ("receipts root", header.receipts_root == calculate_receipt_root(&effects.receipts)),
            ("logs bloom", header.logs_bloom == effects.bloom),
            ("gas used", header.gas_used == effects.gas_used),
            ("anchor root", block.anchor_root() == anchor_root(&effects.anchors)),
        ];
        if let Some((what, _)) = agrees.iter().find(|(_, same)| !same) {
            return Err(format!("{what} differs from ours"));
        }
        self.remember(block, effects);
        Ok(sealed)
    }
}

impl<E: Storage + Spawner + Clock, B: Beacon, D: Door> Application<E> for Rules<B, D> {
    type SigningScheme = B::Scheme;
    type Context = Context;
    type Block = Block;
    type Databases = Databases<E>;
    type Captured = ();
    type Provider = ();
    type Input = ();

    fn sync_targets(block: &Block) -> Targets<E> {
        state::targets::<E>(block)
    }

    async fn genesis(&mut self) -> Block {
        self.first.clone()
    }

    async fn propose(
        &mut self,
        context: (E, Context),
        mut ancestry: impl Ancestry<Block>,
        batches: Batches<E>,
        _: Input<(), ()>,
    ) -> Option<Proposed<Self, E>> {
        let parent = ancestry.next().await?;
        let (block, merkleized) = self.build(context, Block::clone(parent.inner()), batches).await?;
        Some(Proposed { block, merkleized })
    }

    async fn process(
        &mut self,
        context: (E, Context),
        mut ancestry: impl Ancestry<Block>,
        batches: Batches<E>,
        finality: Finality,
    ) -> Option<Sealed<E>> {
        let block: Digested<Block> = ancestry.next().await?;
        let parent = ancestry.next().await?;
        match self.rerun(context, block.inner(), parent.inner(), batches, finality).await {
            Ok(sealed) => Some(sealed),
            Err(reason) => {
                warn!(height = block.inner().number(), hash = %block.inner().hash(), reason, "block refused");
                None
            }
        }
    }

    async fn capture(
        &mut self,
        _: (E, Context),
        block: &Block,
        _: &Sealed<E>,
        _: <Databases<E> as DatabaseSet<E>>::Readers,
    ) {
        let found = |(_, effects): &(u64, Arc<Effects>)| effects.clone();
        let effects = self.executed.lock().expect("no holder of this lock panics").get(&block.digest()).map(found);
        if let Some(effects) = effects {
            self.door.keep(block, &effects).await;
        }
    }

    async fn finalized(&mut self, _: (E, Context), block: &Block, _: (), _: <Databases<E> as DatabaseSet<E>>::Readers) {
        let effects = {
            let mut executed = self.executed.lock().expect("no holder of this lock panics");
            let effects = executed.remove(&block.digest());
            executed.retain(|_, (number, _)| *number > block.number());
            effects
        };
        match effects {
            Some((_, effects)) => self.door.finalized(block, &effects).await,
            // Every block is executed here before it is applied; only an eviction under a storm of forks loses it.
            None => warn!(height = block.number(), "receipts of a finalized block were evicted"),
        }
    }
}

async fn seal<E: Storage + Spawner>((state, code): Batches<E>) -> Sealed<E> {
    // A failing disk stops the node by design: it cannot know its state.
    let state = state.merkleize().await.expect("state database failed");
    let code = code.merkleize().await.expect("code database failed");
    (state, code)
}

fn parent_round(context: &Context) -> Round {
    Round::new(Epoch::zero(), context.parent.0)
}

/// `mix_hash` of block 1, whose parent has no certificate.
fn first_mix(genesis: &Genesis) -> B256 {
    keccak256(genesis.hash())
}

/// RFC 6962 root over the data of a block's anchored leaves.
pub fn anchor_root(leaves: &[Bytes]) -> B256 {
    let hashes: Vec<_> = leaves.iter().map(|data| hodei_types::merkle::leaf(data)).collect();
    hodei_types::merkle::root(&hashes)
}

/// Base fee of the block after `parent`; the genesis states the first.
pub fn base_fee(genesis: &Genesis, parent: &Header) -> u64 {
    let before = parent.base_fee_per_gas.unwrap_or(genesis.fees.base_fee);
    if parent.number == 0 { before } else { next_base_fee(&genesis.fees, before, parent.gas_used) }
}
