//! Bring one stripe's shards to providers, and to others where those fail.
//!
//! Upon an ack the shard is placed. Upon a failure, or when the rest of a stripe waits for a slow one, it goes
//! to a spare that keeps every operator, network and zone within the shape's caps: so any q acks survive what the
//! shape promises to survive. Where there are as many providers as shards, one that has a shard of the stripe gets a second
//! only for want of acks: what is lacking beyond those is a repair's to place, and what one provider takes with it no
//! repair sees. A provider that lies is left alone and named.

use super::{
    load::Load,
    peers::Peers,
    remote::{Ask, Remote, RemoteError, Verdict},
    ticks::Meter,
};
use crate::{
    place::Candidate,
    wire::{Held, Reason, UploadId},
};
use bytes::Bytes;
use commonware_runtime::Clock;
use futures::{
    FutureExt as _, StreamExt as _,
    future::{BoxFuture, Either, ready, select},
    pin_mut,
    stream::FuturesUnordered,
};
use hodei_types::{
    code::Shape,
    slice::ShardId,
    transport::{Peer, Transport},
};
use std::{
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

/// Tries of a provider that says it is busy.
const BUSY_TRIES: u32 = 20;
/// Who is busy is waited for so long in all where others may take a shard as well.
const MOMENT: Duration = Duration::from_secs(3);
/// Longest rest between them.
pub(super) const BUSY_MAX: Duration = Duration::from_secs(2);
/// Tries of a provider whose view of the ledger is behind ours, and the rest between them: 2 s.
const BEHIND_TRIES: u32 = 10;
const BEHIND_REST: Duration = Duration::from_millis(200);
/// A shard is a straggler after four times what its stripe's k-th ack took, but not before this.
const STRAGGLE_MIN: Duration = Duration::from_millis(500);
const STRAGGLE_TIMES: u32 = 4;
/// At least so long is waited for who rested, once all others of a stripe have acknowledged.
const GRACE_MIN: Duration = Duration::from_millis(50);

/// How long a provider is waited for that says it is busy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Patience {
    /// A moment: one that rests for longer by its own word is left at once, since others may take it.
    Moment,
    /// As long as it may be only late: nobody else is left.
    Long,
}

/// The wait that was asked for.
fn asked(retry_after_ms: u32) -> Duration {
    Duration::from_millis(retry_after_ms.max(1).into())
}

/// A provider a bucket has a deal with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Provider {
    pub peer: Peer,
    pub deal: u64,
    /// The account that registered it.
    pub operator: [u8; 20],
    /// What fails together with it.
    pub network: String,
    /// Failure domain it declares.
    pub zone: String,
    /// The owner's grant for this deal, as `wire` carries it.
    pub grant: Vec<u8>,
    /// What pays it for reads under that grant; `None`: they are free.
    pub meter: Option<Arc<Meter>>,
}

impl Provider {
    /// As placement sees it.
    pub fn candidate(&self) -> Candidate {
        let Self { peer, operator, network, zone, .. } = self;
        Candidate { node: peer.key, operator: *operator, network: network.clone(), zone: zone.clone() }
    }
}

/// Is told which shards are about to leave, and for which deal, before they do: what was told can be released
/// if nothing ever names the put.
pub trait Offers: Send + Sync {
    fn offer<'a>(&'a self, shards: &'a [(u64, ShardId)]) -> BoxFuture<'a, ()>;
}

/// Nobody remembers.
impl Offers for () {
    fn offer<'a>(&'a self, _: &'a [(u64, ShardId)]) -> BoxFuture<'a, ()> {
        ready(()).boxed()
    }
}

/// Where a stripe's shards are, shared by who delivers them and who lists them.
#[derive(Debug)]
pub(crate) struct Track(Mutex<State>);

#[derive(Debug)]
struct State {
    /// Roster index by shard.
    at: Vec<usize>,
    acked: Vec<bool>,
    /// The places are listed: none may change.
    is_frozen: bool,
}

impl Track {
    pub(crate) fn new(assigned: &[usize]) -> Self {
        Self(Mutex::new(State { at: assigned.to_vec(), acked: vec![false; assigned.len()], is_frozen: false }))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().expect("no panic under this lock")
    }

    /// Fixes the places: roster index by shard.
    pub(crate) fn freeze(&self) -> Vec<usize> {
        let mut state = self.state();
        state.is_frozen = true;
        state.at.clone()
    }

    /// (shard, roster index) of those acked.
    pub(crate) fn acked(&self) -> Vec<(usize, usize)> {
        let state = self.state();
        (0..state.at.len()).filter(|shard| state.acked[*shard]).map(|shard| (shard, state.at[shard])).collect()
    }
}

/// One stripe to bring away.
pub(crate) struct Delivery<'a> {
    pub(crate) shards: Vec<Bytes>,
    pub(crate) ids: &'a [ShardId],
    /// Shard i goes first to where this says.
    pub(crate) track: &'a Track,
    /// Acks that are enough.
    pub(crate) want: usize,
}

/// What became of a stripe.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    pub(crate) acks: usize,
    /// Providers that lied on the way.
    pub(crate) verdicts: Vec<Verdict>,
    /// The last failure of a shard that found no place, for people.
    pub(crate) failure: Option<String>,
}

/// What all stripes of a put share.
pub(crate) struct Spread<E, T> {
    pub(crate) shape: Shape,
    pub(crate) roster: Arc<Vec<Provider>>,
    pub(crate) remote: Remote<E, T>,
    pub(crate) peers: Peers,
    pub(crate) upload: UploadId,
    pub(crate) offers: Arc<dyn Offers>,
}

impl<E: Clock, T: Transport> Spread<E, T> {
    pub(crate) fn rests(&self, at: usize) -> bool {
        let (node, now) = (&self.roster[at].peer.key, self.remote.context.current());
        self.peers.rests(node, now) || self.peers.takes_later(node, now)
    }

    /// Sends one shard to one provider, with some patience while it is busy.
    pub(crate) async fn send(
        &self,
        at: usize,
        id: ShardId,
        shard: Bytes,
        patience: Patience,
    ) -> Result<Held, RemoteError> {
        let provider = &self.roster[at];
        let context = &self.remote.context;
        let ask = Ask { peer: &provider.peer, deal: provider.deal, grant: &provider.grant, id };
        let (mut tries, mut rested, mut behind) = (0, Duration::ZERO, 0);
        let result = loop {
            let slot = self.peers.slot(&provider.peer.key).await;
            let start = context.current();
            let result = self.remote.put(&ask, self.upload, shard.clone()).await;
            drop(slot);
            match result {
                Ok(held) => {
                    let took = context.current().duration_since(start).unwrap_or_default();
                    self.peers.succeeded(&provider.peer.key, took);
                    return Ok(held);
                }
                Err(RemoteError::Busy { retry_after_ms })
                    if tries < BUSY_TRIES
                        && (patience == Patience::Long || rested + asked(retry_after_ms) <= MOMENT) =>
                {
                    tries += 1;
                    let rest = asked(retry_after_ms).min(BUSY_MAX);
                    rested += rest;
                    self.peers.waited(&provider.peer.key, context.current() + rest);
                    context.sleep(rest).await;
                }
                // A provider that has not seen the block with our deal or term yet: it will.
                Err(RemoteError::Refused { reason: Reason::UnknownDeal | Reason::NotGranted, .. })
                    if behind < BEHIND_TRIES =>
                {
                    behind += 1;
                    context.sleep(BEHIND_REST).await;
                }
                Err(error) => break error,
            }
        };
        if result.is_down() || matches!(result, RemoteError::Lie(_)) {
            self.peers.failed(&provider.peer.key, context.current());
        }
        if let RemoteError::Busy { retry_after_ms } = result {
            self.peers.refused(&provider.peer.key, asked(retry_after_ms), context.current());
        }
        Err(result)
    }

    /// Delivers a stripe. Calls `acked` for each ack that counts and `enough` once when there are as many as
    /// wanted; goes on until every shard is acked or out of providers.
    pub(crate) async fn deliver(
        &self,
        delivery: Delivery<'_>,
        acked: impl Fn(&Held),
        enough: impl FnOnce(),
    ) -> Outcome {
        let Delivery { shards, ids, track, want } = delivery;
        let n = shards.len();
        let context = &self.remote.context;
        let start = context.current();
        let mut outcome = Outcome::default();
        let mut enough = Some(enough);
        let mut load = Load::new(self.roster.len());
        // Providers each shard was offered to, and how many of these are still under way.
        let mut tried: Vec<Vec<usize>> = track.state().at.iter().map(|at| vec![*at]).collect();
        let mut under_way = vec![1u32; n];
        // Who was busy for longer than a moment with a shard that others may take.
        let mut busy: Vec<Option<usize>> = vec![None; n];
        // Shards for which somebody was waited for after all: once each, or a network that rests altogether would be waited
        // for provider by provider.
        let mut waited = vec![false; n];
        for tried in &tried {
            load.add(&self.roster, tried[0]);
        }
        let assigned: Vec<usize> = tried.iter().map(|tried| tried[0]).collect();
        let told: Vec<_> = (0..n).map(|shard| (self.roster[assigned[shard]].deal, ids[shard])).collect();
        self.offers.offer(&told).await;
        let attempt = |shard: usize, provider: usize, patience: Patience| {
            let (id, bytes, is_told) = (ids[shard], shards[shard].clone(), assigned[shard] == provider);
            async move {
                if !is_told {
                    self.offers.offer(&[(self.roster[provider].deal, id)]).await;
                }
                (shard, provider, self.send(provider, id, bytes, patience).await)
            }
        };
        let mut running = FuturesUnordered::new();
        // There some hold two in any case, and the caps alone say who.
        let is_few = self.roster.len() < n;
        // Shards that the others need not wait for: they are with who rests, and enough are with who does not.
        let mut is_extra = vec![false; n];
        for shard in 0..n {
            let mut first = assigned[shard];
            if self.rests(first) {
                let is_enough = self.hopes(track, &under_way) >= want;
                // Where all are waited for, who rests is asked once more before anybody takes two.
                match self.move_on(track, &mut load, shard, &mut tried[shard], is_few || !is_enough && want < n) {
                    Some(spare) => first = spare,
                    None => is_extra[shard] = is_enough,
                }
            }
            running.push(attempt(shard, first, Patience::Moment));
        }
        let mut deadline = None;
        let mut is_hurried = false;
        while !running.is_empty() && outcome.acks < n {
            let is_over = |shard: usize| is_extra[shard] || under_way[shard] == 0 || track.state().acked[shard];
            if is_hurried && outcome.acks >= want && (0..n).all(is_over) {
                break;
            }
            let next = match deadline {
                Some(deadline) if !is_hurried => {
                    let sleep = context.sleep_until(deadline);
                    let next = running.next();
                    pin_mut!(sleep, next);
                    match select(next, sleep).await {
                        Either::Left((next, _)) => next,
                        Either::Right(_) => None,
                    }
                }
                _ => running.next().await,
            };
            let Some((shard, provider, result)) = next else {
                // The stripe waits for stragglers only: race each against a spare, and spare the next
                // stripes the wait.
                is_hurried = true;
                let late: Vec<usize> = (0..n).filter(|shard| !track.state().acked[*shard]).collect();
                for shard in late {
                    // Where nobody is waited for, who was asked last has answered; who said that it is busy did too.
                    let slow = self.roster[*tried[shard].last().expect("tried at least one")].peer.key;
                    if under_way[shard] > 0 && !self.peers.is_waited(&slow, context.current()) {
                        self.peers.failed(&slow, context.current());
                    }
                    let is_short = is_few || self.hopes(track, &under_way) < want;
                    if let Some(spare) = self.move_on(track, &mut load, shard, &mut tried[shard], is_short) {
                        under_way[shard] += 1;
                        running.push(attempt(shard, spare, Patience::Moment));
                    }
                }
                continue;
            };
            under_way[shard] -= 1;
            match result {
                Ok(held) => {
                    let is_short = is_few || self.hopes(track, &under_way) < want;
                    if !self.count(track, &mut load, (shard, provider), is_short) {
                        continue;
                    }
                    outcome.acks += 1;
                    acked(&held);
                    if outcome.acks >= self.shape.k().into() && deadline.is_none() {
                        let took = context.current().duration_since(start).unwrap_or_default();
                        deadline = Some(context.current() + (took * STRAGGLE_TIMES).max(STRAGGLE_MIN));
                    }
                    if outcome.acks >= want && (0..n).all(|shard| is_extra[shard] || track.state().acked[shard]) {
                        // Who rests has as long again as the others took, and holds up no stripe behind this one.
                        let took = context.current().duration_since(start).unwrap_or_default();
                        let soon = context.current() + took.max(GRACE_MIN);
                        deadline = Some(deadline.map_or(soon, |deadline| deadline.min(soon)));
                    }
                    if outcome.acks >= want
                        && let Some(enough) = enough.take()
                    {
                        enough();
                    }
                }
                Err(error) => {
                    let node = self.roster[provider].peer.key;
                    tracing::debug!(%node, shard, %error, "shard not taken");
                    outcome.failure = Some(format!("{node}: {error}"));
                    if !waited[shard] && matches!(error, RemoteError::Busy { .. }) {
                        busy[shard] = Some(provider);
                    }
                    if let RemoteError::Lie(verdict) = error {
                        outcome.verdicts.push(*verdict);
                    }
                    // Once the stripe waits for stragglers only, the spare is the one that is counted on.
                    let was_spare = is_hurried && track.state().at[shard] == provider;
                    // Also those that were left without a place while enough others had one.
                    for late in 0..n {
                        let is_raced = was_spare && late == shard;
                        if under_way[late] > 0 && !is_raced || track.state().acked[late] {
                            continue;
                        }
                        let is_short = is_few || self.hopes(track, &under_way) < want;
                        let spare = self.move_on(track, &mut load, late, &mut tried[late], is_short);
                        // Where nobody else is left, who is busy is waited for after all.
                        let next = match spare {
                            Some(spare) => Some((spare, Patience::Moment)),
                            None if under_way[late] > 0 => None,
                            None => busy[late].take().map(|busy| (busy, Patience::Long)),
                        };
                        if let Some((provider, patience)) = next {
                            if patience == Patience::Long {
                                waited[late] = true;
                                self.place_at(track, &mut load, (late, provider), is_short);
                                is_extra[late] |= self.hopes(track, &under_way) >= want;
                            }
                            under_way[late] += 1;
                            running.push(attempt(late, provider, patience));
                        }
                    }
                }
            }
        }
        outcome
    }

    /// Shards that are acked, or under way to who does not rest.
    fn hopes(&self, track: &Track, under_way: &[u32]) -> usize {
        let state = track.state();
        let is_hopeful = |shard: &usize| state.acked[*shard] || under_way[*shard] > 0 && !self.rests(state.at[*shard]);
        (0..state.at.len()).filter(is_hopeful).count()
    }

    /// Whether an ack of `shard` by `provider` counts: the first of a shard does, if the caps allow the place, the list
    /// does not say another, and it is the provider's only one of the stripe or acks are short.
    fn count(&self, track: &Track, load: &mut Load, (shard, provider): (usize, usize), is_short: bool) -> bool {
        let mut state = track.state();
        if state.acked[shard] {
            return false;
        }
        let listed = state.at[shard];
        if listed != provider {
            // The straggler won against the spare.
            if state.is_frozen {
                return false;
            }
            load.remove(&self.roster, listed);
            let takes = load.takes(&self.shape, &self.roster, provider, is_short);
            let at = if takes { provider } else { listed };
            load.add(&self.roster, at);
            state.at[shard] = at;
            if !takes {
                return false;
            }
        }
        state.acked[shard] = true;
        true
    }

    /// Says that a shard goes to one that was tried before, if the caps allow the place, and no list says another.
    fn place_at(&self, track: &Track, load: &mut Load, (shard, provider): (usize, usize), is_short: bool) {
        let mut state = track.state();
        if state.is_frozen {
            return;
        }
        load.remove(&self.roster, state.at[shard]);
        if load.takes(&self.shape, &self.roster, provider, is_short) {
            state.at[shard] = provider;
        }
        load.add(&self.roster, state.at[shard]);
    }

    /// Gives a shard to a provider that was not tried: within the caps, who has none of the stripe, then the fastest; where
    /// acks are short and there is no such, one that has. `None` if there is none, or the places are listed already.
    fn move_on(
        &self,
        track: &Track,
        load: &mut Load,
        shard: usize,
        tried: &mut Vec<usize>,
        is_short: bool,
    ) -> Option<usize> {
        let mut state = track.state();
        if state.is_frozen {
            return None;
        }
        let from = state.at[shard];
        load.remove(&self.roster, from);
        let spare = (0..self.roster.len())
            .filter(|at| !tried.contains(at) && !self.rests(*at))
            .filter(|at| load.takes(&self.shape, &self.roster, *at, is_short))
            .min_by_key(|at| (load.shards[*at], self.peers.latency(&self.roster[*at].peer.key)));
        let to = spare.unwrap_or(from);
        load.add(&self.roster, to);
        state.at[shard] = to;
        tried.extend(spare);
        spare
    }
}
