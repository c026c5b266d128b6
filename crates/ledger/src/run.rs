//! Run a block's transactions on a batch of the databases.
//!
//! Execution is synchronous and reads from memory; the databases are not. So a step that misses values names
//! them all, they are fetched at once, and the step runs again. A proposer leaves out what does not fit; a
//! verifier refuses the block.

use alloy_consensus::ReceiptEnvelope;
use alloy_eips::Encodable2718 as _;
use alloy_primitives::{Address, B256, Bloom, Bytes};
use commonware_runtime::Spawner;
use commonware_storage::Context as Storage;
use std::{collections::BTreeSet, sync::Arc};

use crate::{
    block::{Digest, Limits},
    execute::{Env, Executor, Fault, Invalid, Need, Params, Run, Signed, Undo, View, hints, system_transaction},
    genesis::Genesis,
    state::{Batches, chunk_count, chunk_key, chunks, join, pack, unpack},
};

/// A block's effects besides its writes.
#[derive(Clone, Debug, Default)]
pub struct Effects {
    pub txs: Vec<Bytes>,
    /// Whose they are and their hashes, in order; the ledger's own has neither.
    pub senders: Vec<Address>,
    pub hashes: Vec<B256>,
    pub receipts: Vec<ReceiptEnvelope>,
    /// What each returned or reverted with, in the order of the receipts.
    pub outputs: Vec<Bytes>,
    pub gas_used: u64,
    pub bloom: Bloom,
    /// Data of the leaves anchored, in order.
    pub anchors: Vec<Bytes>,
    /// What its writes replaced.
    pub undo: Arc<Undo>,
}

/// Which transactions to run.
pub(crate) enum Body<'a> {
    /// A peer's: exactly these, in this order; the recovered forms of all but the system transaction.
    Given { raw: &'a [Bytes], txs: Vec<Arc<Signed>> },
    /// Ours to choose from.
    Chosen(Vec<Arc<Signed>>),
}

/// Why a given body is not a valid block's.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Refusal {
    #[error("transaction {0}: {1}")]
    Transaction(usize, Invalid),
    #[error("the system transaction is missing, different or uncalled for")]
    System,
    #[error("a signature does not recover")]
    Signature,
    #[error("{0}")]
    Broken(String),
    /// The batch is of a state that is gone: a sibling was finalized.
    #[error("state unreadable: {0}")]
    Unreadable(String),
}

/// Rounds of a step before something is wrong: each loads at least one new value, and a block of 60 million gas
/// cannot pay for 30,000.
const ROUNDS_MAX: usize = 1 << 17;

/// Runs `body` and writes its effects into the batches.
pub(crate) async fn run<E: Storage + Spawner>(
    genesis: &Genesis,
    env: Env,
    batches: Batches<E>,
    body: Body<'_>,
) -> Result<(Effects, Batches<E>), Refusal> {
    let params = Params::new(genesis);
    let mut executor = Executor::new(params, env, View::new());
    if env.height == 1 {
        step::<E, _>(&batches, &mut executor, |e| e.genesis(&genesis.allocations)).await.map_err(broken)?;
    }
    let wanted: BTreeSet<Need> = match &body {
        Body::Given { txs, .. } | Body::Chosen(txs) => txs.iter().flat_map(|tx| hints(tx, env.beneficiary)).collect(),
    };
    fetch::<E>(&batches, &mut executor, wanted.into_iter().collect()).await?;
    let due = step::<E, _>(&batches, &mut executor, Executor::begin).await.map_err(broken)?;
    let system = Bytes::from(system_transaction(params.chain_id, env.height).encoded_2718());
    if let Body::Given { raw, txs } = &body
        && ((raw.first() == Some(&system)) != due || raw.len() != txs.len() + usize::from(due))
    {
        return Err(Refusal::System);
    }
    let mut done = Included::default();
    if due {
        let applied = step::<E, _>(&batches, &mut executor, Executor::system).await.map_err(broken)?;
        done.outputs.push(applied.output);
    }
    let txs = match body {
        Body::Given { raw, txs } => {
            let mut index = 0;
            all::<E>(&batches, &mut executor, |run| {
                while let Some(tx) = txs.get(index) {
                    done.take(tx, run.apply(tx)?.output);
                    index += 1;
                }
                Ok(())
            })
            .await
            .map_err(|fault| match fault {
                Fault::Invalid(reason) => Refusal::Transaction(index, reason),
                other => broken(other),
            })?;
            raw.to_vec()
        }
        Body::Chosen(txs) => {
            if due {
                done.push(&genesis.limits, system);
            }
            let mut index = 0;
            all::<E>(&batches, &mut executor, |run| {
                while let Some(tx) = txs.get(index) {
                    if done.fits(&genesis.limits, tx.envelope.encode_2718_len()) {
                        match run.apply(tx) {
                            Ok(applied) => {
                                done.push(&genesis.limits, tx.envelope.encoded_2718().into());
                                done.take(tx, applied.output);
                            }
                            // An ancestor not yet finalized may hold it, or its turn comes later: leave it out.
                            Err(Fault::Invalid(_)) => {}
                            Err(other) => return Err(other),
                        }
                    }
                    index += 1;
                }
                Ok(())
            })
            .await
            .map_err(broken)?;
            done.raw
        }
    };
    let outcome = executor.finish();
    let (mut state, code) = batches;
    for (key, value) in outcome.writes {
        state = state.write(Digest::from(key.0), value.map(|bytes| pack(&bytes)));
    }
    let mut fresh = Vec::new();
    for (hash, bytes) in outcome.codes {
        // Code is keyed by its hash and may be set once: another contract may hold the same already.
        let stored = code.get(&chunk_key(hash, 0)).await.map_err(unreadable)?.is_some();
        if !stored {
            fresh.push((hash, bytes));
        }
    }
    let mut code = code;
    for (hash, bytes) in fresh {
        for (index, chunk) in chunks(&bytes).into_iter().enumerate() {
            code = code.set(chunk_key(hash, index as u16), chunk);
        }
    }
    let effects = Effects {
        txs,
        senders: done.senders,
        hashes: done.hashes,
        receipts: outcome.receipts,
        outputs: done.outputs,
        gas_used: outcome.gas_used,
        bloom: outcome.bloom,
        anchors: outcome.anchors,
        undo: Arc::new(outcome.undo),
    };
    Ok((effects, (state, code)))
}

/// What a proposer has taken so far.
#[derive(Default)]
struct Included {
    raw: Vec<Bytes>,
    senders: Vec<Address>,
    hashes: Vec<B256>,
    outputs: Vec<Bytes>,
    bytes: usize,
}

impl Included {
    fn fits(&self, limits: &Limits, bytes: usize) -> bool {
        self.raw.len() < limits.txs_max as usize
            && bytes <= limits.tx_bytes_max as usize
            && self.bytes + bytes <= limits.body_bytes_max as usize
    }

    fn take(&mut self, tx: &Signed, output: Bytes) {
        self.senders.push(tx.sender);
        self.hashes.push(tx.hash);
        self.outputs.push(output);
    }

    fn push(&mut self, limits: &Limits, raw: Bytes) {
        debug_assert!(self.fits(limits, raw.len()));
        self.bytes += raw.len();
        self.raw.push(raw);
    }
}

/// Repeats a step until all it reads is loaded.
async fn step<E: Storage + Spawner, T>(
    batches: &Batches<E>,
    executor: &mut Executor,
    mut run: impl FnMut(&mut Executor) -> Result<T, Fault>,
) -> Result<T, Fault> {
    for _ in 0..ROUNDS_MAX {
        match run(executor) {
            Err(Fault::Missing(needs)) => {
                fetch::<E>(batches, executor, needs).await.map_err(|e| Fault::Broken(e.to_string()))?;
            }
            other => return other,
        }
    }
    Err(Fault::Broken("a step never stops asking for values".into()))
}

/// Goes on with a body until all of it is run, loading what it misses on the way.
async fn all<E: Storage + Spawner>(
    batches: &Batches<E>,
    executor: &mut Executor,
    mut go_on: impl FnMut(&mut Run<'_>) -> Result<(), Fault>,
) -> Result<(), Fault> {
    step::<E, _>(batches, executor, |executor| go_on(&mut executor.start())).await
}

/// Loads values and code into the executor's view.
async fn fetch<E: Storage + Spawner>(
    (state, code): &Batches<E>,
    executor: &mut Executor,
    needs: Vec<Need>,
) -> Result<(), Refusal> {
    let mut keys = Vec::new();
    for need in needs {
        match need {
            Need::Key(key) => keys.push((key, Digest::from(key.0))),
            Need::Code(hash) => {
                let bytes = match code.get(&chunk_key(hash, 0)).await.map_err(unreadable)? {
                    Some(first) => {
                        let rest: Vec<Digest> = (1..chunk_count(&first)).map(|i| chunk_key(hash, i)).collect();
                        let rest: Vec<&Digest> = rest.iter().collect();
                        let rest = code.get_many(&rest).await.map_err(unreadable)?;
                        let mut all = vec![first];
                        all.extend(rest.into_iter().flatten());
                        join(&all)
                    }
                    None => Bytes::new(),
                };
                executor.view().load_code(hash, bytes);
            }
        }
    }
    let digests: Vec<&Digest> = keys.iter().map(|(_, digest)| digest).collect();
    let values = state.get_many(&digests).await.map_err(unreadable)?;
    for ((key, _), value) in keys.into_iter().zip(values) {
        executor.view().load(key, value.map(|record| unpack(&record)));
    }
    Ok(())
}

fn broken(fault: Fault) -> Refusal {
    Refusal::Broken(fault.to_string())
}

fn unreadable(error: impl std::fmt::Display) -> Refusal {
    Refusal::Unreadable(error.to_string())
}
