//! Pay for what came, MiB by MiB, and take no more than is paid for.
//!
//! ```text
//! admit   counted ≤ revealed + credit → ask; else pay first, or wait for what is under way
//! landed  bytes that fit the shard's id → received; each full MiB → a tick, which nobody waits for
//! refused Unpaid → ask where the provider counts, pay what is owed, ask again once
//! greet   the provider is shown its leaf ahead, while it can ask the ledger of it
//! ```
//! A *meter* counts one provider under one tab as that provider does. How many ticks were revealed is on disk before one
//! leaves: after a crash none is revealed for nothing. What the provider counts and never came, over broken lines, is paid
//! up to the credit and a sixteenth of what came; beyond, that provider is left. Bytes that do not fit are never paid.

use super::{
    Engine,
    asked::Pulse,
    remote::{Ask, Remote, RemoteError, Verdict},
    spread::Provider,
};
use crate::wire::{self, Reason};
use bytes::Bytes;
use commonware_runtime::{Clock, Spawner};
use futures::{channel::oneshot, future::BoxFuture};
use hodei_types::{
    slice::ShardId,
    tab::{Chain, Opening, TICK_BYTES},
    transport::Transport,
};
use std::{
    sync::{Arc, Mutex, MutexGuard, OnceLock},
    time::Duration,
};

/// What a provider gives before a tick is missed.
const CREDIT_BYTES: u64 = 4 * TICK_BYTES;
/// Ticks one message reveals at most: each costs its provider a hash.
const STEPS_MAX: u32 = 64;
/// Messages of one payment: a whole leaf in steps, and questions between.
const ROUNDS_MAX: usize = 256;
/// Of what came, this part may be lost on the way beside the credit.
const LOST_PART: u64 = 16;
/// Between looks whether what is under way has come, and looks in all.
const LOOK_EVERY: Duration = Duration::from_millis(20);
const LOOKS_MAX: usize = 1_500;

/// What a reader remembers of one provider and tab, over processes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    /// Bytes that came and were right.
    pub received: u64,
    /// Bytes the provider counts and that never came, which are paid all the same.
    pub lost: u64,
    /// Ticks that paid for those.
    pub own: u32,
    /// Ticks that are revealed in all, here or by another process of this reader.
    pub revealed: u32,
}

/// Puts counts on disk.
pub trait Till: Send + Sync {
    /// On disk when it returns.
    fn keep(&self, count: Count) -> BoxFuture<'_, Result<(), String>>;
}

#[derive(Debug)]
struct State {
    count: Count,
    /// Ticks the provider is known to have.
    told: u32,
    /// What it counts as given, as far as known.
    served: u64,
    /// Requests under way.
    flying: u32,
    /// It knows the leaves.
    is_open: bool,
    /// Bytes that came and were others than were asked for.
    wrong: u64,
    /// What its leaves pay for did not suffice once.
    is_dry: bool,
    /// It is being shown what pays it.
    is_greeted: bool,
}

/// One provider under one tab. See the module.
pub struct Meter {
    tab: [u8; 32],
    till: Arc<dyn Till>,
    /// In the order in which they are used up.
    leaves: OnceLock<Vec<(Opening, Chain)>>,
    state: Mutex<State>,
    /// One message at a time: ticks go up.
    turn: futures::lock::Mutex<()>,
}

/// Two that count the same provider apart are two.
impl PartialEq for Meter {
    fn eq(&self, other: &Self) -> bool {
        std::ptr::eq(self, other)
    }
}

impl Eq for Meter {}

impl std::fmt::Debug for Meter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Meter({:?})", self.count())
    }
}

fn unpaid(text: impl Into<String>) -> RemoteError {
    RemoteError::Refused { reason: Reason::Unpaid, text: text.into() }
}

fn mib(ticks: u32) -> u64 {
    u64::from(ticks) * TICK_BYTES
}

/// What may be asked now.
enum Turn {
    Go,
    Pay,
    Wait,
    Ask,
}

impl Meter {
    /// Goes on where `count` was left. Before its leaves are known it reads on credit alone.
    pub fn new(tab: [u8; 32], count: Count, till: Arc<dyn Till>) -> Self {
        let owed = (count.received + count.lost).saturating_sub(mib(count.own));
        let (told, served) = (count.revealed, mib(count.revealed) + owed);
        let (is_open, is_dry, is_greeted) = (false, false, false);
        let state = Mutex::new(State { count, told, served, flying: 0, is_open, wrong: 0, is_dry, is_greeted });
        Self { tab, till, leaves: OnceLock::new(), state, turn: futures::lock::Mutex::default() }
    }

    /// The leaves that pay this provider, by number; the first that are told count.
    pub fn know(&self, leaves: Vec<(Opening, Chain)>) {
        let _ = self.leaves.set(leaves);
    }

    /// Whether what pays this provider was told.
    pub fn is_known(&self) -> bool {
        self.leaves.get().is_some()
    }

    pub fn count(&self) -> Count {
        self.state().count
    }

    /// Writes down where it is.
    pub async fn keep(&self) -> Result<(), String> {
        self.till.keep(self.count()).await
    }

    /// MiB its leaves pay for in all.
    pub fn ticks(&self) -> u32 {
        self.leaves.get().map_or(0, |leaves| leaves.iter().map(|(_, chain)| chain.ticks()).sum())
    }

    /// Whether what its leaves pay for did not suffice for what was asked.
    pub fn is_dry(&self) -> bool {
        self.state().is_dry
    }

    /// What is left of what its leaves pay for, in thousandths; `None` before they are known.
    pub(super) fn left(&self) -> Option<u64> {
        self.leaves.get()?;
        let all = mib(self.ticks());
        Some((all.saturating_sub(self.state().served) * 1000).checked_div(all).unwrap_or(0))
    }

    /// Ticks revealed to it, as far as is known here, and the wei they are worth.
    pub fn paid(&self) -> (u64, u128) {
        let mut left = self.count().revealed;
        let mut wei = 0u128;
        for (opening, chain) in self.leaves.get().into_iter().flatten() {
            let ticks = left.min(chain.ticks());
            wei = wei.saturating_add(u128::from(ticks).saturating_mul(opening.leaf.price));
            left -= ticks;
        }
        (self.count().revealed.into(), wei)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no panic under this lock")
    }

    /// Ticks that are owed and not revealed.
    fn debt(&self, state: &State) -> u32 {
        let Count { received, lost, own, revealed } = state.count;
        let due = (received + lost).saturating_sub(mib(own)) / TICK_BYTES;
        u32::try_from(due).unwrap_or(u32::MAX).min(self.ticks().saturating_sub(revealed))
    }

    /// Whether `len` bytes may be asked for; they are counted then.
    fn turn(&self, len: u64) -> Result<Turn, RemoteError> {
        let mut state = self.state();
        let all = self.ticks();
        if self.leaves.get().is_some() && state.served.saturating_add(len) > mib(all) {
            state.is_dry = true;
            // Whoever stops within a MiB owes nothing for it: what is left is told as it is.
            let (left, paid) = (mib(all).saturating_sub(state.served) >> 10, state.count.revealed);
            return Err(unpaid(format!(
                "the pass is for {all} MiB there: {paid} whole ones are paid, and {left} KiB are left of the {} KiB asked for",
                len.div_ceil(1024)
            )));
        }
        if state.served <= mib(state.count.revealed) + CREDIT_BYTES {
            state.served += len;
            state.flying += 1;
            return Ok(Turn::Go);
        }
        Ok(match (self.debt(&state), state.flying) {
            (0, 0) => Turn::Ask,
            (0, _) => Turn::Wait,
            _ => Turn::Pay,
        })
    }

    fn landed(&self, len: u64, result: &Result<Bytes, RemoteError>) {
        let mut state = self.state();
        state.flying -= 1;
        match result {
            Ok(bytes) => state.count.received += bytes.len() as u64,
            Err(RemoteError::Lie(_)) => state.wrong += len,
            // It was not given.
            Err(
                RemoteError::Busy { .. } | RemoteError::Gone | RemoteError::Declined(_) | RemoteError::Refused { .. },
            ) => {
                state.served = state.served.saturating_sub(len);
            }
            // Perhaps it was: the provider tells when it matters.
            Err(_) => {}
        }
    }

    /// Counts as paid what the provider counts and never came, as far as that is believed.
    fn forgive(&self) {
        let mut state = self.state();
        let Count { received, lost, own, revealed } = state.count;
        let known = mib(revealed) + (received + lost).saturating_sub(mib(own)) + state.wrong;
        let most = (CREDIT_BYTES + received / LOST_PART).saturating_sub(lost);
        if state.flying == 0 {
            state.count.lost += state.served.saturating_sub(known).min(most);
        }
    }

    /// Which leaf has tick `at` (from 0) of all, and how many ticks are before it.
    fn leaf_of(&self, at: u32) -> Option<(&Opening, &Chain, u32)> {
        let mut before = 0;
        for (opening, chain) in self.leaves.get()? {
            if at < before + chain.ticks() {
                return Some((opening, chain, before));
            }
            before += chain.ticks();
        }
        let (opening, chain) = self.leaves.get()?.last()?;
        Some((opening, chain, before - chain.ticks()))
    }

    /// Reveals what is owed; with `asks`, at least hears where the provider counts.
    async fn pay<E: Clock, T: Transport>(
        &self,
        remote: &Remote<E, T>,
        ask: &Ask<'_>,
        mut asks: bool,
    ) -> Result<(), RemoteError> {
        let _turn = self.turn.lock().await;
        let mut has_failed = false;
        for _ in 0..ROUNDS_MAX {
            let (count, told, is_open) = {
                let mut state = self.state();
                let added = self.debt(&state);
                state.count.own += added;
                state.count.revealed += added;
                (state.count, state.told.min(state.count.revealed), state.is_open)
            };
            if told == count.revealed && !asks {
                return Ok(());
            }
            let Some((opening, chain, before)) = self.leaf_of(told) else {
                return Err(unpaid("what pays for it is not known yet"));
            };
            let known = told - before;
            let index = (count.revealed - before).min(known.saturating_add(STEPS_MAX)).min(chain.ticks());
            // Nothing new is revealed where only a question is asked.
            let index = if asks && has_failed { 0 } else { index };
            self.till.keep(count).await.map_err(|error| unpaid(format!("what was paid cannot be kept: {error}")))?;
            let value = chain.tick(index).expect("within its ticks").value.0;
            let opened = if is_open { Vec::new() } else { opening.to_bytes() };
            let tick = wire::Tick { tab: self.tab, leaf: opening.number, index, value, opening: opened };
            match remote.tick(ask, tick).await {
                Ok(tab) => {
                    let shown = chain.tick(tab.taken).filter(|tick| tick.value.0 == tab.value);
                    if shown.is_none() || tab.taken < index {
                        let what =
                            format!("expected its count of at least {index} ticks with their value, found {tab:?}");
                        let verdict = Verdict { node: ask.peer.key, deal: ask.deal, shard: ask.id, what };
                        return Err(RemoteError::Lie(Box::new(verdict)));
                    }
                    let mut state = self.state();
                    state.told = before + tab.taken;
                    if state.told > state.count.revealed {
                        // Another process of this reader was there before: what this one revealed since it last heard,
                        // in this message or in one that was lost, were its ticks.
                        state.count.revealed = state.told;
                        state.count.own = state.count.own.saturating_sub(count.revealed - told);
                    }
                    let served = tab.served_bytes.saturating_add(mib(before));
                    state.served = if state.flying == 0 { served } else { state.served.max(served) };
                    (state.is_open, asks) = (true, false);
                }
                // It may have forgotten: told again what pays, it tells where it is.
                Err(error) if error.is_unpaid() && !has_failed => {
                    self.state().is_open = false;
                    (has_failed, asks) = (true, true);
                }
                Err(error) => return Err(error),
            }
        }
        Err(unpaid("it takes no ticks"))
    }

    /// Waits until `len` more bytes may be asked for.
    async fn admit<E: Clock, T: Transport>(
        &self,
        remote: &Remote<E, T>,
        ask: &Ask<'_>,
        len: u64,
    ) -> Result<(), RemoteError> {
        let mut has_asked = false;
        for _ in 0..LOOKS_MAX {
            match self.turn(len)? {
                Turn::Go => return Ok(()),
                Turn::Pay => self.pay(remote, ask, false).await?,
                Turn::Wait => remote.context.sleep(LOOK_EVERY).await,
                Turn::Ask if !has_asked => {
                    has_asked = true;
                    self.pay(remote, ask, true).await?;
                    self.forgive();
                }
                Turn::Ask => break,
            }
        }
        Err(unpaid("it counts more than came, and more than is believed"))
    }

    async fn read<E: Clock, T: Transport>(
        &self,
        remote: &Remote<E, T>,
        ask: &Ask<'_>,
        (shard_bytes, offset, len): (u32, u32, u32),
    ) -> Result<Bytes, RemoteError> {
        self.admit(remote, ask, len.into()).await?;
        let result = remote.get(ask, shard_bytes, offset, len).await;
        self.landed(len.into(), &result);
        match result {
            Err(error) if error.is_unpaid() && self.leaves.get().is_some() => {
                self.pay(remote, ask, true).await?;
                self.forgive();
                self.pay(remote, ask, false).await?;
                self.admit(remote, ask, len.into()).await?;
                let result = remote.get(ask, shard_bytes, offset, len).await;
                self.landed(len.into(), &result);
                result
            }
            result => result,
        }
    }

    /// Whether nothing is under way, and nothing to be paid.
    fn is_settled(&self) -> bool {
        let state = self.state();
        state.flying == 0 && !state.is_greeted && self.debt(&state) == 0 && self.turn.try_lock().is_some()
    }
}

impl<E, T> Engine<E, T>
where
    E: Clock + Spawner,
    T: Transport,
{
    /// Reads from a shard at one provider; where it is metered, pays. What was asked for and metered is waited for by a
    /// task of its own: bytes that come late, when nobody wants them any more, were given all the same.
    pub(super) async fn read_from(
        &self,
        (provider, deal): (&Provider, u64),
        id: ShardId,
        slice: (u32, u32, u32),
        pulse: &Pulse,
    ) -> Result<Bytes, RemoteError> {
        let remote = self.remote.followed(pulse);
        let Some(meter) = provider.meter.clone() else {
            let ask = Ask { peer: &provider.peer, deal, grant: &provider.grant, id };
            return remote.get(&ask, slice.0, slice.1, slice.2).await;
        };
        let (provider, (told, hears)) = (provider.clone(), oneshot::channel());
        self.context.child("metered").spawn(move |_| async move {
            let ask = Ask { peer: &provider.peer, deal, grant: &provider.grant, id };
            let result = meter.read(&remote, &ask, slice).await;
            let _ = told.send(result);
            let is_owed = meter.debt(&meter.state()) > 0;
            if is_owed && let Err(error) = meter.pay(&remote, &ask, false).await {
                tracing::debug!(node = %ask.peer.key, %error, "a tick did not arrive");
            }
        });
        hears.await.unwrap_or_else(|_| Err(unpaid("the runtime is shutting down")))
    }

    /// Shows each of these what pays it, where that is known: only with the ledger in reach can a provider check a tab that
    /// it has not heard of. Nobody waits for it but who settles.
    pub fn greet(&self, roster: &[Provider], id: ShardId) {
        for provider in roster {
            let Some(meter) = provider.meter.clone().filter(|meter| meter.ticks() > 0) else { continue };
            {
                let mut state = meter.state();
                if state.is_open || state.is_greeted {
                    continue;
                }
                state.is_greeted = true;
            }
            let (remote, provider) = (self.remote.clone(), provider.clone());
            self.context.child("greet").spawn(move |_| async move {
                let ask = Ask { peer: &provider.peer, deal: provider.deal, grant: &provider.grant, id };
                if let Err(error) = meter.pay(&remote, &ask, true).await {
                    tracing::debug!(node = %ask.peer.key, %error, "a provider was not shown what pays it");
                }
                meter.state().is_greeted = false;
            });
        }
    }

    /// For a process that ends: lets what is under way be counted and paid, for some seconds at most, and writes down
    /// where each meter is.
    pub async fn settle(&self, meters: &[Arc<Meter>]) {
        for _ in 0..LOOKS_MAX / 6 {
            if meters.iter().all(|meter| meter.is_settled()) {
                break;
            }
            self.context.sleep(LOOK_EVERY).await;
        }
        for meter in meters {
            if let Err(error) = meter.keep().await {
                tracing::warn!(error, "what was read and not paid yet is not written down");
            }
        }
    }
}
