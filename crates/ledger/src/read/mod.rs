//! Answer what finalized blocks say, and take what is to become one.
//!
//! ```text
//! Application ── finalized(block, effects) ─► model ─► Chain, Ethereum ◄─ serve, gateway, providers
//!      ▲                                        │
//!      └── choose ── pool ◄─ submit ────────────┴─► pool revalidates
//! ```
//! The reader promises answers about finalized blocks only, from this process's own execution. Blocks, receipts
//! and logs are kept within bounds ([`Kept`]) from the moment this node finalizes them, on disk too where
//! [`Records`] are given; older ones, and those below the floor of a state sync, are said to be gone rather
//! than answered wrongly. State is the head's alone.

mod chain;
mod ethereum;
mod model;
mod record;
mod records;
mod source;

pub use model::{Entry, Kept, LOGS_MAX, LOG_BLOCKS_MAX, LogsRefused, Model, logs_of};
pub use record::RecordError;
pub use records::{Keep, Records};
pub use source::{Archived, Finality, Live, Proven, Source};

use alloy_consensus::ReceiptEnvelope;
use alloy_primitives::{Address, B256, Bytes, keccak256};
use commonware_codec::EncodeSize as _;
use commonware_parallel::Sequential;
use futures::{FutureExt as _, future::BoxFuture};
use hodei_types::{
    abi::SYSTEM,
    chain::{ChainError, Head},
    ethereum::{Executed, Record},
};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use crate::{
    application::Door,
    block::{Block, time_ms},
    execute::{Account, Call, CallOutcome, Env, Executor, Fault, Need, Params, Signed, View, account_key},
    genesis::Genesis,
    mempool::{Accounts, Pool, Signal},
    pace::Work,
    run::Effects,
};

/// Rounds of loading for one call; each brings everything the run before it missed.
const LOADS_MAX: usize = 256;

/// Blocks between two prunings of the records on disk.
const PRUNE_BLOCKS: u64 = 1024;

/// The read side of a member; cheap to clone, all clones are one.
#[derive(Clone)]
pub struct Reader {
    shared: Arc<Shared>,
}

struct Shared {
    genesis: Arc<Genesis>,
    chain_id: u64,
    genesis_hash: B256,
    params: Params,
    pool: Pool,
    model: Mutex<Model>,
    heads: Signal,
    source: OnceLock<Arc<dyn Source>>,
    finality: OnceLock<Arc<dyn Finality>>,
    records: OnceLock<Arc<dyn Keep>>,
}

impl Reader {
    pub fn new(genesis: Arc<Genesis>, pool: Pool, kept: Kept) -> Self {
        let reader = Self {
            shared: Arc::new(Shared {
                chain_id: genesis.chain_id(),
                genesis_hash: genesis.hash(),
                params: Params::new(&genesis),
                genesis,
                pool: pool.clone(),
                model: Mutex::new(Model::new(kept)),
                heads: Signal::default(),
                source: OnceLock::new(),
                finality: OnceLock::new(),
                records: OnceLock::new(),
            }),
        };
        pool.attach(Arc::new(reader.clone()));
        reader
    }

    /// Gives the reader its state and its certificates once the member runs; a second call changes nothing.
    pub fn attach(&self, source: Arc<dyn Source>, finality: Arc<dyn Finality>) {
        let _ = self.shared.source.set(source);
        let _ = self.shared.finality.set(finality);
    }

    /// Loads what `records` hold and keeps new blocks there; before the member starts. A second call changes
    /// nothing.
    pub async fn restore(&self, records: Arc<dyn Keep>) {
        let most = self.model().kept().blocks_max;
        let entries = records.restore(most).await;
        if self.shared.records.set(records).is_ok() {
            let mut model = self.model();
            for entry in entries {
                model.push(entry);
            }
        }
    }

    pub fn pool(&self) -> &Pool {
        &self.shared.pool
    }

    pub fn genesis(&self) -> &Arc<Genesis> {
        &self.shared.genesis
    }

    /// Takes a finalized block; repeated ones are passed over.
    pub async fn push(&self, block: &Block, effects: &Effects) {
        let entry = self.entry(block, effects);
        let hashes: Vec<B256> = entry.record.txs.iter().map(|tx| tx.hash).collect();
        if let Some(records) = self.shared.records.get().filter(|_| block.number().is_multiple_of(PRUNE_BLOCKS)) {
            let first = self.model().first().unwrap_or(0);
            records.prune(first).await;
        }
        let news = self.model().push(entry);
        if news {
            self.shared.pool.finalized(block.number(), &hashes).await;
            self.shared.heads.notify();
        }
    }

    fn entry(&self, block: &Block, effects: &Effects) -> Entry {
        // The ledger's own transaction stands first and has no sender.
        let unsigned = effects.txs.len() - effects.senders.len();
        let tx = |(index, raw): (usize, &Bytes)| {
            let receipt = effects.receipts.get(index);
            Executed {
                raw: raw.clone(),
                hash: keccak256(raw),
                sender: index.checked_sub(unsigned).and_then(|at| effects.senders.get(at)).copied().unwrap_or(SYSTEM),
                success: receipt.is_some_and(ReceiptEnvelope::status),
                cumulative_gas: receipt.map_or(0, |receipt| receipt.cumulative_gas_used()),
                logs: receipt.map_or_else(Vec::new, |receipt| receipt.logs().to_vec()),
                output: effects.outputs.get(index).cloned().unwrap_or_default(),
            }
        };
        let record = Record {
            header: block.header().clone(),
            hash: block.hash(),
            size: block.encode_size() as u64,
            txs: block.txs().iter().enumerate().map(tx).collect(),
        };
        Entry { record: Arc::new(record), anchors: effects.anchors.clone(), preimage: block.anchor_preimage().into() }
    }

    fn head_entry(&self) -> Result<Entry, ChainError> {
        self.model().head().cloned().ok_or_else(|| ChainError::Unavailable("no block is finalized here yet".into()))
    }

    fn head_of(&self, record: &Record) -> Head {
        Head {
            height: record.header.number,
            hash: record.hash,
            time_ms: time_ms(&record.header),
            base_fee: record.header.base_fee_per_gas.unwrap_or_default(),
            chain_id: self.shared.chain_id,
            genesis: self.shared.genesis_hash,
        }
    }

    fn source(&self) -> Result<&Arc<dyn Source>, ChainError> {
        self.shared.source.get().ok_or_else(|| ChainError::Unavailable("this node is still fetching the state".into()))
    }

    async fn value(&self, key: B256) -> Result<Option<Vec<u8>>, ChainError> {
        let values = self.source()?.values(vec![key]).await.ok_or_else(unreadable)?;
        Ok(values.into_iter().next().flatten())
    }

    async fn account_of(&self, address: Address) -> Result<Account, ChainError> {
        let value = self.value(account_key(address)).await?;
        Ok(value.and_then(|bytes| Account::decode(&bytes)).unwrap_or_default())
    }

    /// Runs a call on the head's state. While blocks are applied between two loads the views differ by a
    /// block: the run is repeated, at most twice, so that an answer is of one state whenever the chain rests.
    async fn run(&self, call: &Call) -> Result<CallOutcome, ChainError> {
        let mut outcome = Err(unreadable());
        for _ in 0..3 {
            let record = self.head_entry()?.record;
            outcome = self.run_on(&record, call).await;
            if self.head_entry()?.record.hash == record.hash {
                break;
            }
        }
        outcome
    }

    async fn run_on(&self, record: &Record, call: &Call) -> Result<CallOutcome, ChainError> {
        let header = &record.header;
        let env = Env {
            height: header.number,
            time_ms: time_ms(header),
            parent_time_ms: time_ms(header),
            beneficiary: header.beneficiary,
            base_fee: header.base_fee_per_gas.unwrap_or_default(),
            gas_limit: header.gas_limit,
            mix_hash: header.mix_hash,
            parent_hash: header.parent_hash,
        };
        let source = self.source()?;
        let mut executor = Executor::new(self.shared.params, env, View::new());
        for _ in 0..LOADS_MAX {
            let needs = match executor.simulate(call) {
                Ok(outcome) => return Ok(outcome),
                Err(Fault::Invalid(reason)) => return Err(ChainError::Refused(reason.to_string())),
                Err(Fault::Broken(reason)) => return Err(ChainError::Unavailable(reason)),
                Err(Fault::Missing(needs)) => needs,
            };
            load(source.as_ref(), &mut executor, &needs).await.ok_or_else(unreadable)?;
        }
        Err(ChainError::Refused("call reads too much state".into()))
    }

    /// Resolves at the next head after `listen` was made.
    fn next_head(&self) -> futures::channel::oneshot::Receiver<()> {
        self.shared.heads.listen()
    }

    fn model(&self) -> MutexGuard<'_, Model> {
        self.shared.model.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn load(source: &dyn Source, executor: &mut Executor, needs: &[Need]) -> Option<()> {
    let keys: Vec<B256> = needs.iter().filter_map(|need| if let Need::Key(key) = need { Some(*key) } else { None }).collect();
    let codes: Vec<B256> = needs.iter().filter_map(|need| if let Need::Code(hash) = need { Some(*hash) } else { None }).collect();
    let values = source.values(keys.clone()).await?;
    for (key, value) in keys.into_iter().zip(values) {
        executor.view().load(key, value);
    }
    if !codes.is_empty() {
        let found = source.codes(codes.clone()).await?;
        for (hash, code) in codes.into_iter().zip(found) {
            executor.view().load_code(hash, code.unwrap_or_default().into());
        }
    }
    Some(())
}

fn unreadable() -> ChainError {
    ChainError::Unavailable("the state is not readable".into())
}

impl Accounts for Reader {
    fn accounts(&self, addresses: Vec<Address>) -> BoxFuture<'_, Option<Vec<Account>>> {
        async move {
            let keys = addresses.into_iter().map(account_key).collect();
            let values = self.shared.source.get()?.values(keys).await?;
            let account = |value: Option<Vec<u8>>| value.and_then(|bytes| Account::decode(&bytes)).unwrap_or_default();
            Some(values.into_iter().map(account).collect())
        }
        .boxed()
    }
}

impl Work for Reader {
    async fn arrived(&self) {
        self.shared.pool.arrived().await;
    }
}

impl Door for Reader {
    async fn keep(&self, block: &Block, effects: &Effects) {
        if let Some(records) = self.shared.records.get() {
            records.put(block.number(), &self.entry(block, effects)).await;
        }
    }

    fn choose(&self, base_fee: u64) -> Vec<Arc<Signed>> {
        let limits = self.shared.genesis.limits;
        // Room is left for the ledger's own transaction.
        self.shared.pool.choose(base_fee, limits.txs_max as usize - 1, limits.body_bytes_max as usize - 1024)
    }

    fn recover(&self, raw: &[Bytes]) -> Option<Vec<Arc<Signed>>> {
        self.shared.pool.senders().all(raw, &Sequential).into_iter().map(Result::ok).collect()
    }

    fn carried(&self, height: u64, hashes: &[B256]) {
        self.shared.pool.carry(height, hashes);
    }

    async fn finalized(&self, block: &Block, effects: &Effects) {
        self.push(block, effects).await;
    }
}
