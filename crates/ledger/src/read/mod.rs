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
//! than answered wrongly. State is told as of the head and of some blocks before it (`history`), exactly or not
//! at all.

mod chain;
mod ethereum;
mod history;
mod model;
mod record;
mod records;
mod source;

pub use model::{Entry, Kept, LogsRefused, Model, logs_of};
pub use record::RecordError;
pub use records::{Keep, Records};
pub use source::{Archived, Finality, Live, Proven, Source};

use history::History;

use alloy_consensus::ReceiptEnvelope;
use alloy_primitives::{Address, B256, Bytes, keccak256};
use commonware_codec::EncodeSize as _;
use commonware_parallel::Sequential;
use futures::{FutureExt as _, future::BoxFuture};
use hodei_types::{
    abi::SYSTEM,
    chain::{ChainError, Head},
    ethereum::{At, Executed, Record},
};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};

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

/// Heads waited for until the state of a block can be told.
const HEADS_WAITED: usize = 8;

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
    history: Mutex<History>,
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
                history: Mutex::default(),
                heads: Signal::default(),
                source: OnceLock::new(),
                finality: OnceLock::new(),
                records: OnceLock::new(),
            }),
        };
        let accounts: Weak<Shared> = Arc::downgrade(&reader.shared);
        pool.attach(accounts);
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
        self.remember(block, effects);
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

    /// Takes what a block replaces; before it is applied, so that whatever state is read is one known here.
    fn remember(&self, block: &Block, effects: &Effects) {
        let header = block.header();
        self.history().push(header.number, header.state_root, effects.undo.clone());
    }

    fn entry(&self, block: &Block, effects: &Effects) -> Entry {
        // The ledger's own transaction stands first and has no sender.
        let unsigned = effects.txs.len() - effects.senders.len();
        let tx = |(index, raw): (usize, &Bytes)| {
            let receipt = effects.receipts.get(index);
            let signed = index.checked_sub(unsigned);
            Executed {
                raw: raw.clone(),
                hash: signed.and_then(|at| effects.hashes.get(at)).copied().unwrap_or_else(|| keccak256(raw)),
                sender: signed.and_then(|at| effects.senders.get(at)).copied().unwrap_or(SYSTEM),
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

    /// The height whose state is meant; none for the newest there is.
    fn height_at(&self, at: At) -> Result<Option<u64>, ChainError> {
        let height = match at {
            // Before the first block its databases are empty, which is not what the ledger says.
            At::Latest => return self.head_entry().map(|_| None),
            // The first block puts in place what the genesis allots: before it there is nothing to tell.
            At::Height(0) => {
                return Err(ChainError::Refused("block 0 has no state of its own: ask for block 1 or later".into()));
            }
            At::Height(height) => height,
            At::Hash(hash) => self.model().by_hash(&hash).ok_or_else(not_found)?.record.header.number,
        };
        if height > self.head_entry()?.record.header.number { Err(not_found()) } else { Ok(Some(height)) }
    }

    /// Values after block `height`; none while a block is being applied that this reader has not been told of.
    async fn exact(&self, keys: &[B256], height: u64) -> Result<Option<Vec<Option<Vec<u8>>>>, ChainError> {
        let (root, mut values) = self.source()?.values(keys.to_vec()).await.ok_or_else(unreadable)?;
        let history = self.history();
        let kept = history.kept().filter(|(first, last)| (*first..=*last).contains(&height));
        let Some(newest) = history.height_of(root).filter(|_| kept.is_some()) else {
            // After a restart nothing is remembered: the head's record says which state the database holds.
            let head = self.head_entry()?.record;
            let known = |record: &Record| record.header.number == height && record.header.state_root == root;
            return match kept {
                _ if known(&head) => Ok(Some(values)),
                None if height < head.header.number => Err(gone(height, history.kept(), head.header.number)),
                _ => Ok(None),
            };
        };
        if newest < height {
            return Ok(None);
        }
        for (key, value) in keys.iter().zip(&mut values) {
            if let Some(replaced) = history.replaced(key, height, newest) {
                *value = replaced;
            }
        }
        Ok(Some(values))
    }

    /// Values after one block, or the newest: exactly those, or an error.
    async fn values_at(&self, keys: &[B256], height: Option<u64>) -> Result<Vec<Option<Vec<u8>>>, ChainError> {
        let Some(height) = height else {
            return Ok(self.source()?.values(keys.to_vec()).await.ok_or_else(unreadable)?.1);
        };
        for _ in 0..HEADS_WAITED {
            let next = self.next_head();
            if let Some(values) = self.exact(keys, height).await? {
                return Ok(values);
            }
            let _ = next.await;
        }
        Err(moving())
    }

    async fn account_at(&self, address: Address, at: At) -> Result<Account, ChainError> {
        let height = self.height_at(at)?;
        let values = self.values_at(&[account_key(address)], height).await?;
        let value = values.into_iter().next().flatten();
        Ok(value.and_then(|bytes| Account::decode(&bytes)).unwrap_or_default())
    }

    /// Runs a call on the state after one block; the newest is chosen anew while blocks come faster than loads.
    async fn run(&self, call: &Call, at: At) -> Result<CallOutcome, ChainError> {
        if let Some(height) = self.height_at(at)? {
            let record = self.model().at(height).map(|entry| entry.record.clone());
            let record = record.ok_or_else(|| gone(height, self.history().kept(), height))?;
            return self.run_on(&record, call, Some(height)).await;
        }
        for _ in 0..3 {
            let record = self.head_entry()?.record;
            let height = record.header.number;
            if self.exact(&[], height).await.is_ok_and(|values| values.is_some()) {
                return self.run_on(&record, call, Some(height)).await;
            }
        }
        // The database is ahead of what this reader was told, or nothing is remembered yet.
        let record = self.head_entry()?.record;
        self.run_on(&record, call, None).await
    }

    async fn run_on(&self, record: &Record, call: &Call, height: Option<u64>) -> Result<CallOutcome, ChainError> {
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
        let mut executor = Executor::new(self.shared.params, env, View::new());
        for _ in 0..LOADS_MAX {
            let needs = match executor.simulate(call) {
                Ok(outcome) => return Ok(outcome),
                Err(Fault::Invalid(reason)) => return Err(ChainError::Refused(reason.to_string())),
                Err(Fault::Broken(reason)) => return Err(ChainError::Unavailable(reason)),
                Err(Fault::Missing(needs)) => needs,
            };
            self.load(&mut executor, &needs, height).await?;
        }
        Err(ChainError::Refused("call reads too much state".into()))
    }

    async fn load(&self, executor: &mut Executor, needs: &[Need], height: Option<u64>) -> Result<(), ChainError> {
        let keys = needs.iter().filter_map(|need| if let Need::Key(key) = need { Some(*key) } else { None });
        let codes = needs.iter().filter_map(|need| if let Need::Code(hash) = need { Some(*hash) } else { None });
        let (keys, codes): (Vec<B256>, Vec<B256>) = (keys.collect(), codes.collect());
        let values = self.values_at(&keys, height).await?;
        for (key, value) in keys.into_iter().zip(values) {
            executor.view().load(key, value);
        }
        if !codes.is_empty() {
            // Code never changes under its hash.
            let found = self.source()?.codes(codes.clone()).await.ok_or_else(unreadable)?;
            for (hash, code) in codes.into_iter().zip(found) {
                executor.view().load_code(hash, code.unwrap_or_default().into());
            }
        }
        Ok(())
    }

    /// Resolves at the next head after `listen` was made.
    fn next_head(&self) -> futures::channel::oneshot::Receiver<()> {
        self.shared.heads.listen()
    }

    fn model(&self) -> MutexGuard<'_, Model> {
        self.shared.model.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn history(&self) -> MutexGuard<'_, History> {
        self.shared.history.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Geth's words for a block it does not know.
fn not_found() -> ChainError {
    ChainError::Refused("header not found".into())
}

/// Begins with geth's words for a state it has pruned, and says what there is.
fn gone(height: u64, kept: Option<(u64, u64)>, head: u64) -> ChainError {
    let (first, last) = kept.unwrap_or((head, head));
    ChainError::Refused(format!(
        "missing trie node: historical state of block {height} is not available, this node keeps blocks {first} to {last}"
    ))
}

fn moving() -> ChainError {
    ChainError::Unavailable("blocks come too fast to read their state: try again".into())
}

fn unreadable() -> ChainError {
    ChainError::Unavailable("the state is not readable".into())
}

impl Accounts for Shared {
    fn accounts(&self, addresses: Vec<Address>) -> BoxFuture<'_, Option<Vec<Account>>> {
        async move {
            let keys = addresses.into_iter().map(account_key).collect();
            let (_, values) = self.source.get()?.values(keys).await?;
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
        self.remember(block, effects);
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

#[cfg(test)]
mod tests;
