//! Keep what was submitted until a block holds it.
//!
//! ```text
//! submit, gossip → recover (once, cached) → admit (rules, finalized account) → table → choose → proposer
//!                                                        finalized → drop, revalidate ┘
//! ```
//! The pool promises: what it offers is contiguous per sender from the finalized nonce, affordable alone and
//! within the block's rules; it never holds more than its caps. It does not promise inclusion: a busy pool
//! drops the lowest tip. Anybody may send it anything.

mod admit;
mod gossip;
mod senders;
mod signal;
mod table;

pub use admit::{Refused, Rules, recover};
pub use gossip::{Gossip, MESSAGE_BYTES_MAX};
pub use senders::Senders;
pub(crate) use signal::Signal;
pub use table::{Caps, Inserted, Table};

use alloy_eips::Encodable2718 as _;
use alloy_primitives::{Address, B256, Bytes};
use commonware_parallel::Strategy;
use futures::future::BoxFuture;
use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak},
};

use crate::execute::{Account, Signed};

/// Finalized accounts, as the pool needs them.
pub trait Accounts: Send + Sync + 'static {
    /// In the order asked; an absent account is the default one. `None`: the state is not readable.
    fn accounts(&self, addresses: Vec<Address>) -> BoxFuture<'_, Option<Vec<Account>>>;
}

/// Arrivals remembered for followers of pending transactions.
const NEWS_KEPT: usize = 8192;
/// Pooled senders looked at anew with each finalized block besides those it touched.
const SWEEP: usize = 64;

/// The pool's handle: cheap to clone, all clones are one pool.
#[derive(Clone)]
pub struct Pool {
    shared: Arc<Shared>,
}

struct Shared {
    rules: Rules,
    senders: Senders,
    /// Weak, because who owns the state owns the pool.
    accounts: OnceLock<Weak<dyn Accounts>>,
    table: Mutex<State>,
    arrived: Signal,
    outgoing: Signal,
}

struct State {
    table: Table,
    /// Hashes in order of arrival, and the number of the first.
    news: VecDeque<B256>,
    news_from: u64,
    /// Submitted here, not yet announced to peers.
    outbox: VecDeque<B256>,
    /// Submitted here, to announce again; what no longer waits falls out when its turn comes.
    local: VecDeque<B256>,
    swept: Address,
}

impl Pool {
    pub fn new(rules: Rules, caps: Caps) -> Self {
        let state = State {
            table: Table::new(caps),
            news: VecDeque::new(),
            news_from: 0,
            outbox: VecDeque::new(),
            local: VecDeque::new(),
            swept: Address::ZERO,
        };
        Self {
            shared: Arc::new(Shared {
                rules,
                senders: Senders::default(),
                accounts: OnceLock::new(),
                table: Mutex::new(state),
                arrived: Signal::default(),
                outgoing: Signal::default(),
            }),
        }
    }

    /// Gives the pool its view of finalized accounts; until then it refuses with [`Refused::Starting`].
    pub fn attach(&self, accounts: Weak<dyn Accounts>) {
        let _ = self.shared.accounts.set(accounts);
    }

    /// The cache of recovered signatures, to be shared with execution.
    pub fn senders(&self) -> &Senders {
        &self.shared.senders
    }

    /// Takes a transaction submitted here; it is announced to peers.
    pub async fn insert(&self, raw: Bytes) -> Result<B256, Refused> {
        let limit = self.shared.rules.tx_bytes_max;
        if raw.len() > limit {
            return Err(Refused::Size { size: raw.len(), limit });
        }
        let tx = self.shared.senders.one(&raw)?;
        let account = self.accounts(vec![tx.sender]).await?.pop().unwrap_or_default();
        let hash = self.admit(tx, account)?;
        let mut state = self.lock();
        let queues = &mut *state;
        for queue in [&mut queues.outbox, &mut queues.local] {
            // A peer that is told late loses little; memory must not grow with a lost network.
            if queue.len() >= NEWS_KEPT {
                queue.pop_front();
            }
            queue.push_back(hash);
        }
        drop(state);
        self.shared.outgoing.notify();
        Ok(hash)
    }

    /// Takes what a peer announced; refusals are the peer's affair. Returns how many were new.
    pub async fn receive(&self, raws: &[Bytes], strategy: &impl Strategy) -> usize {
        let fits = |raw: &&Bytes| raw.len() <= self.shared.rules.tx_bytes_max;
        let raws: Vec<Bytes> = raws.iter().filter(fits).cloned().collect();
        let txs: Vec<_> = self.shared.senders.all(&raws, strategy).into_iter().flatten().collect();
        let Ok(accounts) = self.accounts(txs.iter().map(|tx| tx.sender).collect()).await else { return 0 };
        txs.into_iter().zip(accounts).filter(|(tx, account)| self.admit(tx.clone(), *account).is_ok()).count()
    }

    fn admit(&self, tx: Arc<Signed>, account: Account) -> Result<B256, Refused> {
        admit::check(&tx, &self.shared.rules)?;
        let hash = tx.hash;
        let mut state = self.lock();
        state.table.insert(tx, account)?;
        state.news.push_back(hash);
        if state.news.len() > NEWS_KEPT {
            state.news.pop_front();
            state.news_from += 1;
        }
        drop(state);
        self.shared.arrived.notify();
        Ok(hash)
    }

    /// The best transactions for a block at `base_fee`; see [`Table::choose`].
    pub fn choose(&self, base_fee: u64, txs_max: usize, bytes_max: usize) -> Vec<Arc<Signed>> {
        self.lock().table.choose(base_fee, txs_max, bytes_max)
    }

    /// Resolves once a transaction waits that could be in a block; at once if one does.
    pub async fn arrived(&self) {
        loop {
            let next = self.shared.arrived.listen();
            if self.lock().table.has_work() {
                return;
            }
            let _ = next.await;
        }
    }

    /// A waiting transaction.
    pub fn get(&self, hash: &B256) -> Option<Arc<Signed>> {
        self.lock().table.get(hash).cloned()
    }

    /// The nonce a sender's next transaction should have, if any of its transactions wait.
    pub fn next_nonce(&self, sender: Address) -> Option<u64> {
        self.lock().table.next_nonce(sender)
    }

    /// Transactions waiting, and their bytes.
    pub fn size(&self) -> (usize, usize) {
        let state = self.lock();
        (state.table.len(), state.table.bytes())
    }

    /// Hashes that arrived since `cursor`, and the next cursor; old ones may be gone.
    pub fn news(&self, cursor: u64) -> (u64, Vec<B256>) {
        let state = self.lock();
        let skip = cursor.saturating_sub(state.news_from) as usize;
        let next = state.news_from + state.news.len() as u64;
        (next, state.news.iter().skip(skip).copied().collect())
    }

    /// Resolves once something arrived since `cursor`.
    pub async fn changed(&self, cursor: u64) {
        loop {
            let next = self.shared.arrived.listen();
            {
                let state = self.lock();
                if state.news_from + state.news.len() as u64 > cursor {
                    return;
                }
            }
            let _ = next.await;
        }
    }

    /// Drops what can never be in a block although it was admitted.
    pub fn reject(&self, hash: &B256) {
        self.lock().table.remove(hash);
    }

    /// Takes note of a block that may become final: what it holds wakes no proposer until `height` is final.
    pub fn carry(&self, height: u64, hashes: &[B256]) {
        self.lock().table.carry(height, hashes);
    }

    /// Upon a finalized block: drops what it holds, and revalidates its senders and a few others.
    pub async fn finalized(&self, height: u64, included: &[B256]) {
        let mut senders: Vec<Address> = {
            let mut state = self.lock();
            let of = |hash: &B256| state.table.get(hash).map(|tx| tx.sender);
            let mut senders: Vec<_> = included.iter().filter_map(of).collect();
            let swept = state.table.senders_after(state.swept, SWEEP);
            state.swept = swept.last().filter(|_| swept.len() == SWEEP).copied().unwrap_or(Address::ZERO);
            senders.extend(swept);
            senders
        };
        senders.sort_unstable();
        senders.dedup();
        let accounts = self.accounts(senders.clone()).await;
        let mut state = self.lock();
        for hash in included {
            state.table.remove(hash);
        }
        for (sender, account) in senders.into_iter().zip(accounts.unwrap_or_default()) {
            state.table.revalidate(sender, account);
        }
        state.table.release(height);
        let work = state.table.has_work();
        drop(state);
        if work {
            self.shared.arrived.notify();
        }
    }

    async fn accounts(&self, senders: Vec<Address>) -> Result<Vec<Account>, Refused> {
        let accounts = self.shared.accounts.get().and_then(Weak::upgrade).ok_or(Refused::Starting)?;
        accounts.accounts(senders).await.ok_or(Refused::Starting)
    }

    /// Transactions to announce, up to `bytes`; with `again`, those announced before and still waiting.
    fn announce(&self, bytes: usize, again: bool) -> Vec<Bytes> {
        let mut state = self.lock();
        let mut out = Vec::new();
        let mut left = bytes;
        let rounds = if again { state.local.len() } else { state.outbox.len() };
        for _ in 0..rounds {
            let queue = if again { &mut state.local } else { &mut state.outbox };
            let Some(hash) = queue.pop_front() else { break };
            let Some(raw) = state.table.get(&hash).map(|tx| tx.envelope.encoded_2718()) else { continue };
            if raw.len() + gossip::PREFIX_BYTES > left {
                let queue = if again { &mut state.local } else { &mut state.outbox };
                queue.push_front(hash);
                break;
            }
            left -= raw.len() + gossip::PREFIX_BYTES;
            out.push(raw.into());
            if again {
                state.local.push_back(hash);
            }
        }
        out
    }

    fn outgoing(&self) -> futures::channel::oneshot::Receiver<()> {
        self.shared.outgoing.listen()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.shared.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
