//! Tell providers which pages were read here, and ask them who read those that are next.
//!
//! All of a bucket's providers are told of all pages, those of what they hold first: when the holders of a page are silent, the
//! others know who keeps what it leads to. Who says nothing is not waited for.

use super::{Crowd, Known, MISSES_MAX, PAGES_MAX, Page, State};
use crate::cloud::Runtime;
use alloy_primitives::B256;
use futures::{
    FutureExt as _, StreamExt as _,
    future::{Either, select},
    pin_mut,
    stream::{self, FuturesUnordered},
};
use hodei_storage::{
    crowd::{SECS_MAX, SECS_MIN},
    engine::{Provider, RemoteError},
    manifest::PageRef,
    wire::{ANNOUNCED_MAX, KEEPER_ADDRESSES_MAX, KEEPERS_MAX, Keeper, Reason, WHO_MAX},
};
use hodei_types::{
    reach::is_reachable,
    slice::ShardId,
    transport::{NodeKey, Peer, Transport},
};
use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, SystemTime},
};

/// Looked so often whether there is something to announce.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// A provider is told no sooner again, whatever else was read.
const TELL_EVERY: Duration = Duration::from_secs(35);
/// What an announcement lasts; it is said again after half of it.
const TOLD: Duration = Duration::from_secs(5 * 60);
/// Providers are asked about a page no sooner again.
const ASK_EVERY: Duration = Duration::from_secs(60);
/// Unless nobody said anything.
const ASK_AGAIN: Duration = Duration::from_secs(5);
/// A provider that does not know the question is not asked again for so long.
const MUTE: Duration = Duration::from_secs(3600);
/// Providers that are to answer about each page, and after which time without an answer one more is asked.
const ASKED_OF: usize = 2;
const JOIN: Duration = Duration::from_millis(200);
/// Providers told at once.
const TOLD_AT_ONCE: usize = 8;
/// Addresses of a reader that are dialled, of all that providers say of it.
const ADDRESSES_MAX: usize = 2 * KEEPER_ADDRESSES_MAX;

/// Whom to ask about each page in turn, by their places in the roster.
type Turns = BTreeMap<ShardId, VecDeque<usize>>;

/// What a provider said when it was asked who keeps something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Word {
    Keepers,
    /// Something else.
    Refusal,
    Nothing,
}

impl Word {
    fn of(error: &RemoteError) -> Self {
        match error {
            RemoteError::Transport(_) | RemoteError::Slow(_) | RemoteError::Stream(_) => Self::Nothing,
            _ => Self::Refusal,
        }
    }
}

const _: () = assert!(TOLD.as_secs() >= SECS_MIN && TOLD.as_secs() <= SECS_MAX);

impl<E: Runtime, T: Transport> Crowd<E, T> {
    /// Learns who keeps what these pages lead to, the first of which are read now, where other readers may be asked for it.
    /// Nobody waits for it.
    pub(crate) fn seek(&self, bucket: B256, pages: Vec<PageRef>, may_ask: bool) {
        let now = self.0.context.current();
        let asks = {
            let mut state = self.lock();
            let State { buckets, mute, .. } = &mut *state;
            let Some(known) = buckets.get_mut(&bucket) else { return };
            if known.pages.len() + pages.len() > PAGES_MAX {
                known.pages.clear();
            }
            for page in &pages {
                let deals = page.holders.iter().map(|holder| holder.deal);
                known.pages.entry(page.id).or_insert_with(|| Page { deals: deals.collect(), ..Page::default() });
            }
            let is_due = |known: &Known, id: &ShardId| {
                known.pages.get(id).is_some_and(|page| page.asked.is_none_or(|asked| now >= asked + ASK_EVERY))
            };
            // Those that are far ahead wait until one that is near is due.
            if !may_ask || !self.0.settings.is_asking || !pages.iter().take(2).any(|page| is_due(known, &page.id)) {
                return;
            }
            let due: Vec<ShardId> = pages.iter().map(|page| page.id).filter(|id| is_due(known, id)).collect();
            for id in &due {
                if let Some(page) = known.pages.get_mut(id) {
                    page.asked = Some(now);
                }
            }
            let roster = known.roster.clone();
            (self.in_turn(known, &due, |node| mute.get(node).is_none_or(|until| *until <= now)), roster)
        };
        let (crowd, (turns, roster)) = (self.clone(), asks);
        self.0.context.child("seek").spawn(move |context| async move {
            crowd.look(&context, bucket, &roster, turns).await;
        });
    }

    /// Whom to ask about each page: those who hold it first, the nearest of them before others, and the silent last.
    fn in_turn(&self, known: &Known, due: &[ShardId], may_ask: impl Fn(&NodeKey) -> bool) -> Turns {
        let roster = &known.roster;
        let (peers, now) = (self.0.engine.peers(), self.0.context.current());
        let all: Vec<usize> = (0..roster.len()).filter(|at| may_ask(&roster[*at].peer.key)).collect();
        let turns = due.iter().filter_map(|id| {
            let page = known.pages.get(id)?;
            let mut turns = all.clone();
            turns.sort_by_cached_key(|at| {
                let node = &roster[*at].peer.key;
                (peers.is_late(node, now), !page.deals.contains(&roster[*at].deal), peers.latency(node))
            });
            Some((*id, turns.into()))
        });
        turns.collect()
    }

    /// Asks about each page till two have answered: the next for one that fails, and beside one that says nothing.
    async fn look(&self, context: &E, bucket: B256, roster: &[Provider], mut turns: Turns) {
        let mut wanted: BTreeMap<ShardId, usize> = turns.keys().map(|id| (*id, ASKED_OF)).collect();
        let mut answers: BTreeMap<ShardId, usize> = BTreeMap::new();
        let mut refused: BTreeSet<ShardId> = BTreeSet::new();
        let mut running = FuturesUnordered::new();
        loop {
            let mut asks: BTreeMap<usize, Vec<ShardId>> = BTreeMap::new();
            for (id, count) in std::mem::take(&mut wanted) {
                let Some(turns) = turns.get_mut(&id) else { continue };
                for at in turns.drain(..count.min(turns.len())) {
                    asks.entry(at).or_default().push(id);
                }
            }
            for (at, ids) in asks {
                for ids in ids.chunks(WHO_MAX) {
                    let (provider, ids) = (&roster[at], ids.to_vec());
                    let ask = async move { (self.ask_who(bucket, provider, &ids).await, ids) };
                    running.push(ask.boxed());
                }
            }
            let next = {
                let (next, sleep) = (running.next(), context.sleep(JOIN));
                pin_mut!(next, sleep);
                match select(next, sleep).await {
                    Either::Left((None, _)) => break,
                    Either::Left((next, _)) => next,
                    Either::Right(_) => None,
                }
            };
            let more = match next {
                Some((Word::Keepers, ids)) => {
                    for id in ids {
                        *answers.entry(id).or_default() += 1;
                    }
                    continue;
                }
                Some((word, ids)) => {
                    if word == Word::Refusal {
                        refused.extend(&ids);
                    }
                    ids
                }
                None => turns.keys().copied().collect(),
            };
            let lacks = |id: &ShardId| answers.get(id).is_none_or(|count| *count < ASKED_OF);
            wanted = more.into_iter().filter(lacks).map(|id| (id, 1)).collect();
        }
        // Where nobody said anything it is asked again when it is read some seconds later. Who refused would again.
        let asked = context.current() + ASK_AGAIN - ASK_EVERY;
        if let Some(known) = self.lock().buckets.get_mut(&bucket) {
            for id in turns.keys().filter(|id| !answers.contains_key(id) && !refused.contains(id)) {
                if let Some(page) = known.pages.get_mut(id) {
                    page.asked = Some(asked);
                }
            }
        }
    }

    async fn ask_who(&self, bucket: B256, provider: &Provider, ids: &[ShardId]) -> Word {
        match self.0.engine.who(provider, ids.to_vec()).await {
            Ok(keepers) => {
                let mut state = self.lock();
                for keeper in keepers.iter().filter(|keeper| keeper.node != self.0.me) {
                    state.meet(bucket, &provider.peer, ids, keeper);
                }
                Word::Keepers
            }
            Err(error) => {
                self.unanswered(provider.peer.key, &error);
                Word::of(&error)
            }
        }
    }

    /// An older provider knows neither question.
    fn unanswered(&self, node: NodeKey, error: &RemoteError) {
        tracing::debug!(%node, %error, "a provider tells of no readers");
        if matches!(error, RemoteError::Refused { reason: Reason::Malformed, .. }) {
            let until = self.0.context.current() + MUTE;
            self.lock().mute.insert(node, until);
        }
    }

    /// Announces what is kept, for as long as somebody else holds the crowd.
    pub(super) fn announce(&self) {
        if self.0.shelf.is_none() || self.0.settings.addresses.is_empty() {
            return;
        }
        let weak = Arc::downgrade(&self.0);
        self.0.context.child("announce").spawn(move |context| async move {
            let is_refused = AtomicBool::new(false);
            loop {
                context.sleep(LOOK_EVERY).await;
                let Some(inner) = weak.upgrade() else { return };
                let (crowd, is_refused) = (&Self(inner), &is_refused);
                let untold = stream::iter(crowd.untold(context.current()));
                let told = untold.for_each_concurrent(TOLD_AT_ONCE, |(bucket, provider, ids)| async move {
                    let Err(error) = crowd.tell(&provider, ids).await else { return };
                    if matches!(error, RemoteError::Refused { .. }) && !is_refused.swap(true, Ordering::Relaxed) {
                        let node = provider.peer.key;
                        tracing::warn!(%node, %error, "a provider tells no other reader of this one");
                    }
                    crowd.unanswered(provider.peer.key, &error);
                    crowd.tell_again(bucket, provider.deal);
                });
                told.await;
            }
        });
    }

    async fn tell(&self, provider: &Provider, ids: Vec<ShardId>) -> Result<(), RemoteError> {
        let addresses = self.0.settings.addresses.clone();
        self.0.engine.announce(provider, ids, addresses, TOLD.as_secs()).await.map(drop)
    }

    /// Which providers are to be told of which pages now; taken for told.
    fn untold(&self, now: SystemTime) -> Vec<(B256, Provider, Vec<ShardId>)> {
        let (now_ms, Some(shelf)) = (self.now_ms(), &self.0.shelf) else { return Vec::new() };
        let mut tell = Vec::new();
        let mut state = self.lock();
        let mute = state.mute.clone();
        for (bucket, known) in state.buckets.iter_mut().filter(|(_, known)| known.expires_ms > now_ms) {
            let Known { pages, roster, told, .. } = known;
            for provider in roster.iter() {
                if mute.get(&provider.peer.key).is_some_and(|until| *until > now) {
                    continue;
                }
                // Those that lie there first; of the others it tells when who has them is silent.
                let is_meant = |(id, page): &(&ShardId, &Page)| page.is_read && shelf.holds(bucket, id);
                let (own, others): (Vec<_>, Vec<_>) =
                    pages.iter().filter(is_meant).partition(|(_, page)| page.deals.contains(&provider.deal));
                let ids: Vec<ShardId> = own.into_iter().chain(others).map(|(id, _)| *id).take(ANNOUNCED_MAX).collect();
                let is_due = match told.get(&provider.deal) {
                    Some((last, same)) if *same == ids => now >= *last + TOLD / 2,
                    Some((last, _)) => now >= *last + TELL_EVERY,
                    None => true,
                };
                if is_due && !ids.is_empty() {
                    told.insert(provider.deal, (now, ids.clone()));
                    tell.push((*bucket, provider.clone(), ids));
                }
            }
        }
        tell
    }

    /// What was not taken is said again as soon as may be.
    fn tell_again(&self, bucket: B256, deal: u64) {
        let mut state = self.lock();
        if let Some((_, ids)) = state.buckets.get_mut(&bucket).and_then(|known| known.told.get_mut(&deal)) {
            ids.clear();
        }
    }
}

impl State {
    /// Takes in what a provider says of one reader: where somebody who reaches that provider may reach the reader, and unless
    /// it is a provider itself, whose failures as a reader would count against it.
    fn meet(&mut self, bucket: B256, by: &Peer, ids: &[ShardId], keeper: &Keeper) {
        let is_provider =
            self.buckets.values().any(|known| known.roster.iter().any(|provider| provider.peer.key == keeper.node));
        let near = keeper.addresses.iter().filter(|address| is_reachable(**address, &by.addresses));
        let addresses: Vec<SocketAddr> = near.copied().take(KEEPER_ADDRESSES_MAX).collect();
        let Some(known) = self.buckets.get_mut(&bucket).filter(|_| !is_provider && !addresses.is_empty()) else {
            return;
        };
        let has = |at: usize| keeper.has.get(at / 8).is_some_and(|bits| bits >> (at % 8) & 1 == 1);
        for (_, id) in ids.iter().enumerate().filter(|(at, _)| has(*at)) {
            let Some(page) = known.pages.get_mut(id) else { continue };
            match page.keepers.iter_mut().find(|(known, _)| known.key == keeper.node) {
                // Where it was in vain counts no more.
                Some((peer, misses)) if *misses >= MISSES_MAX => (peer.addresses, *misses) = (addresses.clone(), 0),
                // No provider takes from it what another said.
                Some((peer, misses)) => {
                    *misses = 0;
                    let new = addresses.iter().filter(|address| !peer.addresses.contains(address)).copied();
                    let new: Vec<SocketAddr> = new.take(ADDRESSES_MAX.saturating_sub(peer.addresses.len())).collect();
                    peer.addresses.extend(new);
                }
                None => {
                    // Who has nothing of it makes room.
                    if page.keepers.len() >= KEEPERS_MAX {
                        page.keepers.retain(|(_, misses)| *misses < MISSES_MAX);
                    }
                    if page.keepers.len() < KEEPERS_MAX {
                        page.keepers.push((Peer::at(keeper.node, addresses.clone()), 0));
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloy_primitives::Address;
    use std::net::Ipv4Addr;

    const BUCKET: B256 = B256::repeat_byte(1);
    const PAGE: ShardId = ShardId([2; 32]);

    fn at(last: u8) -> SocketAddr {
        (Ipv4Addr::new(203, 0, 113, last), 4433).into()
    }

    fn keeper(node: u8, addresses: Vec<SocketAddr>) -> Keeper {
        Keeper { node: NodeKey([node; 32]), addresses, has: vec![1], age_secs: 0 }
    }

    /// A bucket with one page and a provider, key 9, that is reached from anywhere.
    fn state() -> (State, Peer) {
        let peer = Peer::at(NodeKey([9; 32]), vec![at(9)]);
        let provider = Provider {
            peer: peer.clone(),
            deal: 1,
            operator: [0; 20],
            network: String::new(),
            zone: String::new(),
            grant: Vec::new(),
            meter: None,
        };
        let known = Known {
            owner: Address::ZERO,
            expires_ms: u64::MAX,
            opened: SystemTime::UNIX_EPOCH,
            roster: Arc::new(vec![provider]),
            pages: BTreeMap::from([(PAGE, Page::default())]),
            told: BTreeMap::new(),
            gave: BTreeMap::new(),
        };
        (State { buckets: BTreeMap::from([(BUCKET, known)]), ..State::default() }, peer)
    }

    fn met(state: &State) -> Vec<(u8, Vec<SocketAddr>)> {
        let keepers = &state.buckets[&BUCKET].pages[&PAGE].keepers;
        keepers.iter().map(|(peer, _)| (peer.key.0[0], peer.addresses.clone())).collect()
    }

    #[test]
    fn no_provider_sends_readers_elsewhere_than_readers_are() {
        let (mut state, provider) = state();
        let home: Vec<SocketAddr> = vec![([127, 0, 0, 1], 22).into(), ([192, 168, 0, 1], 80).into()];
        state.meet(BUCKET, &provider, &[PAGE], &keeper(3, home.clone()));
        assert_eq!(met(&state), [], "nothing of the asker's own machine or home is dialled");
        state.meet(BUCKET, &provider, &[PAGE], &keeper(9, vec![at(3)]));
        assert_eq!(met(&state), [], "a provider is no reader");
        state.meet(BUCKET, &provider, &[PAGE], &keeper(3, [home, vec![at(3)]].concat()));
        assert_eq!(met(&state), [(3, vec![at(3)])]);
    }

    #[test]
    fn what_one_provider_said_of_a_reader_another_does_not_take_back() {
        let (mut state, provider) = state();
        state.meet(BUCKET, &provider, &[PAGE], &keeper(3, vec![at(1)]));
        state.meet(BUCKET, &provider, &[PAGE], &keeper(3, vec![at(2)]));
        assert_eq!(met(&state), [(3, vec![at(1), at(2)])]);
        for from in (10..50).step_by(4) {
            state.meet(BUCKET, &provider, &[PAGE], &keeper(3, (from..from + 4).map(at).collect()));
        }
        let [(3, many)] = &met(&state)[..] else { panic!("one reader") };
        assert_eq!((many.len(), &many[..2]), (ADDRESSES_MAX, &[at(1), at(2)][..]));
        // Asked there in vain, it may have moved.
        state.buckets.get_mut(&BUCKET).unwrap().pages.get_mut(&PAGE).unwrap().keepers[0].1 = MISSES_MAX;
        state.meet(BUCKET, &provider, &[PAGE], &keeper(3, vec![at(7)]));
        assert_eq!(met(&state), [(3, vec![at(7)])]);
    }
}
