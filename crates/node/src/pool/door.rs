//! Answer devices on `hodei/pool/1`, and keep the pool's file.
//!
//! Upon a request: what the state allows is noted and on disk before the ledger is asked, so that the same request after
//! a crash goes on where the first one broke off. One thing at a time happens for one device; another request of it is
//! told to come again. The publisher's own errands come with the token from the pool's folder.

use super::{
    state::{Phase, Pool, Refusal, is_same, read},
    wire::{Answer, Errand, MESSAGE_BYTES_MAX, Offer, Reason, Request},
};
use crate::{
    home::{HomeError, replace},
    provider::register::{self, First, RegisterError, network},
};
use alloy_primitives::{Address, B256, U256};
use hodei_ledger::{
    account::{Account, AccountError},
    wire::{receive, send},
};
use hodei_link::{Link, LinkError, Listener};
use hodei_types::{
    abi::{IProviders, operator_consent, pack_reach},
    ack::is_signed,
    chain::ChainError,
    transport::{NodeKey, POOL},
};
use std::{
    collections::BTreeSet,
    net::SocketAddr,
    path::PathBuf,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};
use tokio::sync::Semaphore;

/// Requests served at once.
const STREAMS_MAX: usize = 64;
/// A device says at once what it wants.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);
/// The ledger settles within seconds while it moves.
const WORK_TIMEOUT: Duration = Duration::from_secs(75);
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
const BUSY_MS: u32 = 1_000;
/// The ledger's events are counted so often.
const COUNT_EVERY: Duration = Duration::from_secs(1);
/// Accounts are looked at, and those that leave, every so many counts.
const TEND_EVERY: u32 = 10;
/// Longest file of a pool: the most devices, at some 600 bytes each.
const FILE_BYTES_MAX: u64 = 256 << 20;

/// What a device is told when its pool has no coins to register it.
const POOR: &str = "the pool's publisher has too few coins to take a device in now: nothing is to be done on this device, \
                    which may ask again later";

/// Why a pool cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum DoorError {
    #[error("{path}: {source}")]
    Read { path: PathBuf, source: std::io::Error },
    #[error("{path} cannot be used: {reason}")]
    State { path: PathBuf, reason: String },
    #[error("{path} is of operator {found}, and this wallet is {ours}")]
    Operator { path: PathBuf, found: Address, ours: Address },
    #[error(transparent)]
    Link(#[from] LinkError),
    #[error(transparent)]
    Home(#[from] HomeError),
}

/// Why the ledger did not do it.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failed {
    #[error(transparent)]
    Home(#[from] HomeError),
    #[error(transparent)]
    Register(#[from] RegisterError),
    #[error(transparent)]
    Account(#[from] AccountError),
    #[error(transparent)]
    Chain(#[from] ChainError),
    #[error(transparent)]
    Refused(#[from] Refusal),
    #[error("node {0} is registered by another operator")]
    Operator(B256),
}

/// A pool's door; clones share it.
#[derive(Clone)]
pub struct Door(Arc<Inner>);

struct Inner {
    file: PathBuf,
    account: Account,
    chain_id: u64,
    token: [u8; 32],
    pool: Mutex<Pool>,
    /// Changes are written one after the other.
    writing: tokio::sync::Mutex<()>,
    /// Devices for which something happens at this moment.
    busy: Mutex<BTreeSet<B256>>,
    sending: Mutex<BTreeSet<u64>>,
    counted: AtomicU64,
}

/// Something happens for a device while this lives.
pub(super) struct Turn(Door, B256);

impl Drop for Turn {
    fn drop(&mut self) {
        lock(&self.0.0.busy).remove(&self.1);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Whole values are put under these locks, so a poisoned one holds nothing half made.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn now_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

impl Door {
    /// Opens a pool's file for the account that is its operator. Call under the folder's lock.
    pub fn open(file: PathBuf, account: Account, chain_id: u64, token: [u8; 32]) -> Result<Self, DoorError> {
        let io = |source| DoorError::Read { path: file.clone(), source };
        let length = std::fs::metadata(&file).map_err(io)?.len();
        if length > FILE_BYTES_MAX {
            let reason = format!("expected at most {FILE_BYTES_MAX} bytes, found {length}");
            return Err(DoorError::State { path: file, reason });
        }
        let text = std::fs::read(&file).map_err(io)?;
        let pool = read(&text).map_err(|reason| DoorError::State { path: file.clone(), reason })?;
        if pool.operator != account.address() {
            return Err(DoorError::Operator { path: file, found: pool.operator, ours: account.address() });
        }
        Ok(Self(Arc::new(Inner {
            file,
            account,
            chain_id,
            token,
            counted: pool.height.into(),
            pool: Mutex::new(pool),
            writing: tokio::sync::Mutex::default(),
            busy: Mutex::default(),
            sending: Mutex::default(),
        })))
    }

    /// Listens with the pool's own node key.
    pub async fn listen(secret: [u8; 32], bind: SocketAddr) -> Result<(Link, Listener), DoorError> {
        Ok(Link::bind(hodei_link::Config { secret, bind, protocols: vec![POOL], relays: Vec::new() }).await?)
    }

    /// What the pool is now.
    pub fn pool(&self) -> Pool {
        self.look(Pool::clone)
    }

    /// Something of what it is now; `look` must not wait.
    pub(super) fn look<T>(&self, look: impl FnOnce(&Pool) -> T) -> T {
        look(&lock(&self.0.pool))
    }

    /// Serves devices and follows the ledger until `stop` resolves; what was answered is on disk.
    pub async fn run(&self, mut listener: Listener, stop: impl Future<Output = ()>) {
        let free = Arc::new(Semaphore::new(STREAMS_MAX));
        let mut open = tokio::task::JoinSet::new();
        let follow = tokio::spawn(self.clone().follow());
        tokio::pin!(stop);
        loop {
            let permit = free.clone().acquire_owned().await.expect("never closed");
            let incoming = tokio::select! {
                incoming = listener.accept() => incoming,
                () = &mut stop => break,
            };
            let Some(incoming) = incoming else { break };
            while open.try_join_next().is_some() {}
            let door = self.clone();
            open.spawn(async move {
                let (mut sink, mut stream) = (incoming.sink, incoming.stream);
                let asked = tokio::time::timeout(REQUEST_TIMEOUT, receive(&mut stream, MESSAGE_BYTES_MAX)).await;
                let Ok(Ok(bytes)) = asked else { return };
                let answer = match Request::decode(&bytes) {
                    Ok(request) => door.answer(incoming.from, request).await,
                    Err(error) => Answer::Refused { reason: Reason::Malformed, text: error.to_string() },
                };
                let _ = tokio::time::timeout(ANSWER_TIMEOUT, send(&mut sink, answer.encode())).await;
                drop(permit);
            });
        }
        follow.abort();
        while open.join_next().await.is_some() {}
    }

    /// Does one of the publisher's errands.
    pub async fn errand(&self, errand: Errand) -> Answer {
        let done = match errand {
            Errand::Redeem { node, amount } => self.try_change(|pool| pool.settle(node, amount)).await,
            Errand::Secret { secret } => {
                self.try_change(|pool| {
                    pool.secret = secret;
                    Ok(())
                })
                .await
            }
            Errand::Remove { node } => {
                let Some(_turn) = self.turn(node) else { return Answer::Busy { retry_after_ms: BUSY_MS } };
                return answered(self.leave(node, true).await);
            }
        };
        answered(done.map(|()| Answer::Done))
    }

    /// Answers one request of an authenticated key.
    pub async fn answer(&self, from: NodeKey, request: Request) -> Answer {
        let node = B256::from(from.0);
        if let Request::Admin { token, errand } = request {
            return match is_same(&self.0.token, &token) {
                true => self.errand(errand).await,
                false => Answer::Refused { reason: Reason::Secret, text: "that is not this pool's token".into() },
            };
        }
        let Some(_turn) = self.turn(node) else { return Answer::Busy { retry_after_ms: BUSY_MS } };
        let work = async {
            match request {
                Request::Join { secret, possession, account, offer } => {
                    self.join(node, secret, &possession, account, offer).await
                }
                Request::Moved { offer } => self.moved(node, offer).await,
                Request::State => self.state(node),
                Request::Redeem { amount, to, code } => self.redeem(node, amount, to, code).await,
                Request::Leave => self.leave(node, false).await,
                Request::Admin { .. } => unreachable!("answered above"),
            }
        };
        match tokio::time::timeout(WORK_TIMEOUT, work).await {
            Ok(done) => answered(done),
            Err(_) => Answer::Refused { reason: Reason::Ledger, text: "the ledger does not move: ask again".into() },
        }
    }

    async fn join(
        &self,
        node: B256,
        secret: [u8; 16],
        possession: &[u8; 64],
        device: Address,
        offer: Offer,
    ) -> Result<Answer, Failed> {
        let account = &self.0.account;
        let consent = operator_consent(self.0.chain_id, account.address(), node);
        if !is_signed(&NodeKey(node.0), &consent, possession) {
            let text = "the device did not sign that this operator may register it".into();
            return Err(Refusal { reason: Reason::Malformed, text }.into());
        }
        self.try_change(|pool| pool.join(node, device, &secret, offer.capacity_bytes, now_s())).await?;
        match self.register(node, possession, &offer).await {
            Ok(()) => {}
            Err(error) => {
                // What may be in a block yet is found there when the device asks again.
                let is_unknown = matches!(
                    error,
                    Failed::Account(AccountError::Pending { .. } | AccountError::Displaced(_)) | Failed::Home(_)
                );
                if !is_unknown {
                    self.change(|pool| pool.not_enrolled(node)).await?;
                }
                return Err(error);
            }
        }
        self.change(|pool| pool.enrolled(node)).await?;
        self.fill(node, now_s()).await?;
        tracing::info!(%node, "a device joined");
        Ok(Answer::Enrolled)
    }

    /// Registers a device, or brings its record up to date.
    async fn register(&self, node: B256, possession: &[u8; 64], offer: &Offer) -> Result<(), Failed> {
        let (account, terms) = (&self.0.account, self.look(|pool| pool.terms.clone()));
        let reach = offer.reach();
        let stated = IProviders::Offer {
            zone: offer.zone.clone(),
            network: network(&reach, &offer.zone),
            addresses: pack_reach(&reach),
            capacityBytes: offer.capacity_bytes,
            priceStore: terms.price_keep.saturating_to(),
            priceRead: terms.price_read.saturating_to(),
            class: offer.class,
        };
        let known = register::record(account, node).await?;
        match &known {
            Some(record) if record.operator != account.address() => return Err(Failed::Operator(node)),
            Some(record) if record.retired => {
                let text = "this device has not left for good: ask again when its last deal has ended".into();
                return Err(Refusal { reason: Reason::Stranger, text }.into());
            }
            _ => {}
        }
        // What is left fills up the device's own account.
        let first = First { collateral: terms.collateral, reserve: terms.gas, possession: possession.to_vec() };
        if let Some(order) = register::order(account, node, stated, known.as_ref(), first).await? {
            account.execute(&order).await?;
        }
        Ok(())
    }

    async fn moved(&self, node: B256, offer: Offer) -> Result<Answer, Failed> {
        self.try_change(|pool| pool.moved(node, offer.capacity_bytes, now_s())).await?;
        self.register(node, &[0; 64], &offer).await?;
        Ok(Answer::Done)
    }

    fn state(&self, node: B256) -> Result<Answer, Failed> {
        let mut pool = lock(&self.0.pool);
        // When it was seen goes to disk with the next thing that matters.
        pool.member(node, now_s())?;
        Ok(pool.standing(node).map_or(Answer::Busy { retry_after_ms: BUSY_MS }, Answer::State))
    }

    async fn redeem(
        &self,
        node: B256,
        amount: Option<U256>,
        to: Option<Address>,
        code: String,
    ) -> Result<Answer, Failed> {
        let (amount, payout) = self
            .try_change(|pool| {
                let done = pool.redeem(node, amount, to, code, now_s())?;
                if let Some(payout) = &done.1 {
                    // Before it is in the file: nobody may look for a transfer that is just being made.
                    lock(&self.0.sending).insert(payout.id);
                }
                Ok(done)
            })
            .await?;
        let Some(payout) = payout else { return Ok(Answer::Redeemed { amount, tx: None }) };
        let door = self.clone();
        // A device that goes away does not cut a payment off.
        let paid = tokio::spawn(async move {
            let paid = door.pay(&payout).await;
            lock(&door.0.sending).remove(&payout.id);
            paid
        });
        match paid.await {
            Ok(tx) => Ok(Answer::Redeemed { amount, tx: Some(tx?) }),
            Err(_) => Ok(Answer::Busy { retry_after_ms: BUSY_MS }),
        }
    }

    async fn leave(&self, node: B256, is_removed: bool) -> Result<Answer, Failed> {
        self.try_change(|pool| pool.leave(node, is_removed, now_s())).await?;
        let left = self.withdraw(node).await?;
        Ok(Answer::Leaving { open: left.open, collateral: left.collateral })
    }

    async fn follow(self) {
        let (mut turn, mut first) = (0u32, B256::ZERO);
        loop {
            let more = match self.count(now_s()).await {
                Ok(more) => more,
                Err(error) => {
                    tracing::warn!(%error, "the ledger's events were not counted");
                    false
                }
            };
            if turn.is_multiple_of(TEND_EVERY) {
                match self.fill_all(first, now_s()).await {
                    Ok(next) => first = next,
                    Err(error) => tracing::warn!(%error, "a device's account was not filled up"),
                }
                self.withdraw_all().await;
                if let Err(error) = self.find_unsettled().await {
                    tracing::warn!(%error, "payouts that were cut off were not looked for");
                }
            }
            turn = turn.wrapping_add(1);
            if !more {
                tokio::time::sleep(COUNT_EVERY).await;
            }
        }
    }

    /// Changes the pool and writes it down before anybody sees the change.
    pub(super) async fn change<T>(&self, change: impl FnOnce(&mut Pool) -> T) -> Result<T, Failed> {
        self.try_change(|pool| Ok(change(pool))).await
    }

    /// The same for a change that may be refused, and then is none.
    async fn try_change<T>(&self, change: impl FnOnce(&mut Pool) -> Result<T, Refusal>) -> Result<T, Failed> {
        let _writing = self.0.writing.lock().await;
        let mut changed = self.pool();
        let done = change(&mut changed)?;
        replace(&self.0.file, &changed.text(), 0o600)?;
        *lock(&self.0.pool) = changed;
        Ok(done)
    }

    pub(super) fn account(&self) -> &Account {
        &self.0.account
    }

    /// A device's turn; `None` while something happens for it.
    pub(super) fn turn(&self, node: B256) -> Option<Turn> {
        lock(&self.0.busy).insert(node).then(|| Turn(self.clone(), node))
    }

    pub(super) fn counted(&self) -> u64 {
        self.0.counted.load(Ordering::Relaxed)
    }

    pub(super) fn set_counted(&self, height: u64) {
        self.0.counted.store(height, Ordering::Relaxed);
    }

    pub(super) fn is_sending(&self, payout: u64) -> bool {
        lock(&self.0.sending).contains(&payout)
    }
}

/// Counts what happened until now, for a pool that does not run.
impl Door {
    /// Reads the ledger's events up to its head.
    pub async fn catch_up(&self) -> Result<(), ChainError> {
        loop {
            match self.count(0).await {
                Ok(true) => {}
                Ok(false) => return Ok(()),
                Err(Failed::Chain(error)) => return Err(error),
                Err(error) => return Err(ChainError::Unavailable(error.to_string())),
            }
        }
    }

    /// Whether a device takes part.
    pub fn has(&self, node: B256) -> bool {
        self.look(|pool| pool.devices.get(&node).is_some_and(|device| device.phase != Phase::Left))
    }
}

fn answered(done: Result<Answer, Failed>) -> Answer {
    match done {
        Ok(answer) => answer,
        Err(Failed::Refused(Refusal { reason, text })) => Answer::Refused { reason, text },
        Err(error) => {
            tracing::warn!(%error, "a request failed");
            // The account is the publisher's, and so are the coins that it lacks: the log has how many.
            let text = match error {
                Failed::Register(RegisterError::Poor { .. }) => POOR.into(),
                error => error.to_string(),
            };
            Answer::Refused { reason: Reason::Ledger, text }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_is_not_told_to_pay_for_its_publisher() {
        let (account, found, needed) = ("0x5aAe".to_owned(), U256::ONE, U256::from(7));
        let answer = answered(Err(RegisterError::Poor { account, found, needed }.into()));
        let Answer::Refused { reason: Reason::Ledger, text } = answer else { panic!("{answer:?}") };
        assert_eq!(text, POOR);
        let answer = answered(Err(Failed::Operator(B256::ZERO)));
        assert!(matches!(answer, Answer::Refused { text, .. } if text.contains("another operator")));
    }
}
