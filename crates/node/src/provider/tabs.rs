//! Give on credit under metered grants, take ticks, and know what they are worth.
//!
//! ```text
//! GET   grant names a tab → book: served within paid and credit? ─► bytes, or Unpaid
//! TICK  opening → ledger: root and sum of the tab → book ─► disk, each 16 ticks
//!       leaf's chain → book
//! turn  what is owed exceeds its fee fifty times, or its leaf or tab ends ─► ledger: claim         claim
//! ```
//! The promise: nobody reads more than [`CREDIT_BYTES`] and one answer beyond what was paid, and no tick counts that the
//! ledger would not pay. Who might break it: a crash forgets up to 16 ticks of a tab, with what they paid for. Books that
//! are lost begin again where the ledger's claims are.

mod account;
mod book;
mod claim;
mod kept;

pub use account::{CREDIT_BYTES, Unpaid};

use super::{
    Provider,
    access::AccessError,
    serve::{denied, refused},
};
use crate::journal::now_ms;
use account::{Account, Untaken};
use alloy_primitives::B256;
use book::{Book, Key};
use commonware_runtime::{Error, Storage};
use hodei_storage::wire::{self, Answer, Reason};
use hodei_types::{
    abi::{DEALS, IDeals, IProviders, ITabs, PROVIDERS, TABS},
    call::{ask, revert},
    chain::{Chain, ChainError},
    grant::{Grant, Rights},
    tab::{Opening, TabError, Tick, tick_price},
    transport::NodeKey,
};
use kept::Kept;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::Semaphore;

/// Questions to the ledger at once on behalf of readers.
const QUESTIONS_MAX: usize = 2;
/// Of a tab, as the ledger tells: it can be claimed from.
const OPEN: u8 = 1;

/// Why a tick was not taken.
#[derive(Debug, thiserror::Error)]
enum TickRefused {
    #[error(transparent)]
    Untaken(#[from] Untaken),
    #[error(transparent)]
    Opening(#[from] TabError),
    #[error("a tick costs at least {least} wei here, the leaf pays {found}")]
    Price { least: u128, found: u128 },
    #[error("the ledger has no such tab open for this bucket")]
    NoTab,
    #[error("the tab takes no more ticks: they ended {last_ms} ms after 1970, a window before its claims do")]
    Over { last_ms: u64 },
    #[error(transparent)]
    Chain(#[from] ChainError),
    #[error("{0}")]
    Disk(#[from] Error),
}

/// The tab that pays for a read, and where it is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Payer {
    tab: B256,
    key: Key,
}

/// The books of all tabs, on disk.
pub(super) struct Tabs<E: Storage> {
    chain: Arc<dyn Chain>,
    node: B256,
    /// Least wei per tick.
    price: u128,
    book: Mutex<Book>,
    kept: futures::lock::Mutex<Kept<E>>,
    questions: Semaphore,
}

impl<E: Storage> Tabs<E> {
    /// Reads what is on disk; `price_read` is this provider's, in wei per GiB.
    pub(super) async fn open(storage: E, chain: Arc<dyn Chain>, node: B256, price_read: u128) -> Result<Self, Error> {
        let (kept, records) = Kept::open(storage).await?;
        let mut book = Book::default();
        for record in records {
            match Account::decode(&record, node) {
                Ok((key, account)) if account.is_nothing() => book.remove(&key),
                Ok((key, account)) => book.set(key, account),
                Err(error) => tracing::error!(%error, "a record of a tab is left out"),
            }
        }
        let (kept, questions) = (futures::lock::Mutex::new(kept), Semaphore::new(QUESTIONS_MAX));
        Ok(Self { chain, node, price: tick_price(price_read), book: Mutex::new(book), kept, questions })
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Refuses who is behind already.
    pub(super) fn check(&self, payer: &Payer) -> Result<(), Unpaid> {
        self.book().get(&payer.key).map_or(Ok(()), Account::check)
    }

    /// Counts bytes that are about to be given, unless their reader is behind.
    pub(super) fn give(&self, payer: &Payer, bytes: u64) -> Result<(), Unpaid> {
        let mut book = self.book();
        let account = book.of(payer.key, payer.tab);
        account.check()?;
        account.served_bytes = account.served_bytes.saturating_add(bytes);
        Ok(())
    }

    /// Wei that ticks are worth and the ledger has not paid.
    pub(super) fn owed_wei(&self) -> u128 {
        self.book().owed_wei()
    }

    /// Takes a tick under a tab that the reader's grant names, for a bucket; gives how many it was.
    async fn take(
        &self,
        payer: &Payer,
        bucket: B256,
        tick: &wire::Tick,
        at_ms: u64,
    ) -> Result<(wire::Tab, u64), TickRefused> {
        let known = {
            let book = self.book();
            let account = book.get(&payer.key);
            account.filter(|account| account.leaves.contains_key(&tick.leaf)).map(|account| account.last_ms)
        };
        match known {
            Some(last_ms) if at_ms < last_ms => {}
            // Its end moves away while the ledger stands still.
            Some(_) => _ = self.read(payer, bucket, at_ms).await?,
            None if tick.opening.is_empty() => return Err(Untaken::Unknown(tick.leaf).into()),
            None => {
                let opening = Opening::from_bytes(tick.leaf, self.node, &tick.opening)?;
                let least = self.least(opening.leaf.price).await?;
                if opening.leaf.price < least {
                    return Err(TickRefused::Price { least, found: opening.leaf.price });
                }
                let read = self.read(payer, bucket, at_ms).await?;
                opening.check(read.root, read.gwei)?;
                let claimed = self.claimed(payer.tab, tick.leaf).await?;
                self.book().open(payer.key, payer.tab, opening, claimed)?;
            }
        }
        let given = Tick { index: tick.index, value: B256::new(tick.value) };
        let (answer, new, is_due) = {
            let mut book = self.book();
            let account = book.of(payer.key, payer.tab);
            let before = account.ticks();
            let (last, is_due) = account.take(self.node, tick.leaf, &given)?;
            let served_bytes = account.served_of(tick.leaf);
            let answer = wire::Tab { taken: last.index, value: last.value.0, served_bytes, credit_bytes: CREDIT_BYTES };
            (answer, account.ticks() - before, is_due)
        };
        if is_due {
            self.write(&[payer.key]).await?;
        }
        Ok((answer, new))
    }

    /// The least wei a tick may pay, if `price` is to be held against it: what is asked here, or on the ledger if that is
    /// less, as a device's is whose publisher says what it asks.
    async fn least(&self, price: u128) -> Result<u128, TickRefused> {
        if price >= self.price {
            return Ok(self.price);
        }
        let _turn = self.questions.acquire().await.expect("never closed");
        match ask(&*self.chain, PROVIDERS, &IProviders::getCall { node: self.node }).await {
            Ok(record) => Ok(self.price.min(tick_price(record.offer.priceRead))),
            Err(error) => match revert(&error) {
                Some(IProviders::IProvidersErrors::UnknownProvider(_)) => Ok(self.price),
                _ => Err(error.into()),
            },
        }
    }

    /// The last tick of a leaf that the ledger paid; zero if it paid none.
    async fn claimed(&self, tab: B256, leaf: u32) -> Result<Tick, ChainError> {
        let _turn = self.questions.acquire().await.expect("never closed");
        let claimed = ask(&*self.chain, TABS, &ITabs::claimedCall { tab, leaf }).await?;
        Ok(Tick { index: claimed.index, value: claimed.value })
    }

    /// A tab as the ledger has it, which takes ticks; its times are remembered.
    async fn read(&self, payer: &Payer, bucket: B256, at_ms: u64) -> Result<ITabs::Tab, TickRefused> {
        let tab = payer.tab;
        let _turn = self.questions.acquire().await.expect("never closed");
        let read = match ask(&*self.chain, TABS, &ITabs::getCall { tab }).await {
            Ok(read) => read,
            Err(error) => match revert(&error) {
                Some(ITabs::ITabsErrors::UnknownTab(_)) => return Err(TickRefused::NoTab),
                _ => return Err(error.into()),
            },
        };
        if read.state != OPEN || read.bucket != bucket {
            return Err(TickRefused::NoTab);
        }
        let window = ask(&*self.chain, DEALS, &IDeals::windowCall {}).await?;
        let last_ms = read.untilMs.saturating_sub(window.endsMs.saturating_sub(window.openedMs));
        if at_ms >= last_ms {
            return Err(TickRefused::Over { last_ms });
        }
        let mut book = self.book();
        let account = book.of(payer.key, tab);
        (account.last_ms, account.until_ms) = (last_ms, read.untilMs);
        Ok(read)
    }

    /// Puts these accounts on disk; one that is gone is written as an empty one.
    async fn write(&self, keys: &[Key]) -> Result<(), Error> {
        let mut kept = self.kept.lock().await;
        if kept.is_due() {
            let all: Vec<Key> = self.book().iter().map(|(key, _)| *key).collect();
            let records: Vec<Vec<u8>> = all.iter().filter_map(|key| self.book().record(key)).collect();
            return kept.renew(&records).await.inspect_err(|_| self.book().unwritten(&all));
        }
        let record = |key: &Key| self.book().record(key).unwrap_or_else(|| Account::default().encode(*key));
        let records: Vec<Vec<u8>> = keys.iter().map(record).collect();
        kept.write(&records).await.inspect_err(|_| self.book().unwritten(keys))
    }

    /// Puts on disk what is not.
    pub(super) async fn flush(&self) -> Result<(), Error> {
        let changed = self.book().changed();
        if changed.is_empty() { Ok(()) } else { self.write(&changed).await }
    }
}

impl<E: Storage> Provider<E> {
    /// What pays for a read of this bucket under this grant; `None`: nothing needs to.
    pub(super) fn payer(bucket: B256, grant: &[u8]) -> Option<Payer> {
        let tab = Grant::decode(grant)?.tab?;
        Some(Payer { tab, key: Key::of(bucket, tab) })
    }

    /// Takes a tick from the reader whose grant names its tab.
    pub(super) async fn tick(
        &self,
        from: NodeKey,
        deal: u64,
        tick: &wire::Tick,
        grant: &[u8],
    ) -> Result<Answer, Answer> {
        let terms = self.access().check(from, deal, grant, Rights::READ, now_ms()).await.map_err(denied)?;
        let payer = Self::payer(terms.bucket, grant).filter(|payer| payer.tab.0 == tick.tab);
        let Some(payer) = payer else {
            return Err(refused(Reason::NotGranted, "the grant names another tab, or none"));
        };
        match self.tabs().take(&payer, terms.bucket, tick, now_ms()).await {
            Ok((tab, ticks)) => {
                self.meters().ticks.inc_by(ticks);
                tracing::debug!(%from, taken = tab.taken, served_bytes = tab.served_bytes, "tick");
                Ok(Answer::Tab(tab))
            }
            Err(TickRefused::Chain(error)) => Err(denied(AccessError::Chain(error))),
            Err(TickRefused::Disk(error)) => {
                tracing::error!(%error, "the books of tabs");
                Err(refused(Reason::Broken, "the books of tabs have stopped"))
            }
            Err(error) => Err(refused(Reason::Unpaid, error)),
        }
    }
}
