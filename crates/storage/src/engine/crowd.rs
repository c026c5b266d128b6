//! Read shards from who read them before: this machine, and other readers of the bucket.
//!
//! Upon a page or stripe: what this machine keeps is taken first, then other readers are asked for at most half of the
//! shards, so that providers stay measured, and for the others only where providers fail or are silent. What they give is
//! checked against its id. A reader that lies is told to whoever knows the crowd, and is no verdict: it promised nobody
//! anything. Who asks shows the owner's word, so others are asked only with one that names its reader.

use super::{
    Engine,
    asked::{Asked, Pulse},
    get::{Fetch, LATE_MIN, LATE_TIMES},
    remote::{Ask, RemoteError},
    spread::Provider,
};
use crate::{
    crowd::Question,
    manifest::{Holder, Page},
    wire::{Answer, Keeper, Request},
};
use bytes::Bytes;
use commonware_runtime::{Clock, Spawner};
use futures::future::BoxFuture;
use hodei_types::{
    grant::Grant,
    slice::ShardId,
    transport::{NodeKey, Peer, Transport},
};
use std::{collections::BTreeSet, net::SocketAddr, sync::Arc, time::Duration};

/// What a reader knows beside the bucket's providers, for one part.
pub trait Crowd: Send + Sync {
    /// The bucket's id.
    fn bucket(&self) -> [u8; 32];
    /// A shard that this machine keeps, whole and checked.
    fn kept(&self, id: ShardId) -> BoxFuture<'_, Option<Bytes>>;
    /// Somebody else gave it, and it is right.
    fn got(&self, id: ShardId, shard: &Bytes);
    /// Other readers that said that they keep what the part's page leads to, the best first.
    fn keepers(&self) -> Vec<Peer>;
    /// What became of a question to one of them.
    fn asked(&self, keeper: &NodeKey, outcome: Outcome);
}

/// Who is asked for a shard: the holder of a deal, or another reader.
#[derive(Clone)]
pub(super) enum Place {
    Deal(Holder),
    Crowd(Arc<Peer>),
}

impl Place {
    pub(super) fn node(&self) -> &NodeKey {
        match self {
            Self::Deal(holder) => &holder.node,
            Self::Crowd(keeper) => &keeper.key,
        }
    }
}

/// Takes out of a stripe's places what is left of a reader, if `place` is one and what it answered is not of one shard
/// alone: who is away, busy or lies is so for all that it may have.
pub(super) fn others_of(queue: &mut Vec<(u8, Place)>, place: &Place, error: &RemoteError) -> Vec<(u8, Place)> {
    let (Place::Crowd(keeper), false) = (place, matches!(error, RemoteError::Gone)) else { return Vec::new() };
    let is_of = |other: &Place| matches!(other, Place::Crowd(other) if other.key == keeper.key);
    let (of, rest) = std::mem::take(queue).into_iter().partition(|(_, other)| is_of(other));
    *queue = rest;
    of
}

/// How a reader answered another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    Gave {
        bytes: u64,
        took: Duration,
    },
    /// It does not have it.
    Missed,
    /// It has other things to do just now.
    Busy,
    /// It could not be reached, or would not.
    Failed,
    /// What it gave is not what it was asked for.
    Lied,
}

impl<E, T> Fetch<E, T>
where
    E: Clock + Spawner,
    T: Transport,
{
    /// A shard of this machine's own.
    pub(super) async fn kept(&self, id: ShardId, bytes: u32) -> Option<Bytes> {
        let shard = self.request.crowd.as_ref()?.kept(id).await?;
        (shard.len() == bytes as usize).then_some(shard)
    }

    /// Takes note of a whole shard that came from elsewhere.
    pub(super) fn got(&self, id: ShardId, shard: &Bytes) {
        if let Some(crowd) = &self.request.crowd {
            crowd.got(id, shard);
        }
    }

    /// Other readers that may be asked: none under a word that is whoever's has it, which each of them would then have.
    pub(super) fn keepers(&self) -> Vec<Arc<Peer>> {
        let grant = self.request.roster.first().and_then(|provider| Grant::decode(&provider.grant));
        if grant.is_none_or(|grant| grant.is_bearer) {
            return Vec::new();
        }
        let of = |crowd: &Arc<dyn Crowd>| crowd.keepers().into_iter().map(Arc::new).collect();
        self.request.crowd.as_ref().map_or_else(Vec::new, of)
    }

    /// One that was not known yet, which then is.
    pub(super) fn newly_met(&self, known: &mut BTreeSet<NodeKey>) -> Option<Arc<Peer>> {
        self.keepers().into_iter().find(|keeper| known.insert(keeper.key))
    }

    /// Takes in readers that were not known when a stripe was begun, after all others.
    pub(super) fn meet(&self, page: &Page, known: &mut BTreeSet<NodeKey>, queue: &mut Vec<(u8, Place)>) {
        while let Some(keeper) = self.newly_met(known) {
            queue.splice(0..0, (0..page.n).map(|shard| (shard, Place::Crowd(keeper.clone()))));
        }
    }

    /// The shards of a stripe that this machine keeps: as many as are needed at most.
    pub(super) async fn own(&self, page: &Page, at: usize) -> Vec<Option<Bytes>> {
        let (listed, mut missing) = (&page.stripes[at], page.k);
        let mut found = vec![None; page.n.into()];
        for (shard, id) in found.iter_mut().zip(&listed.ids).filter(|_| self.request.crowd.is_some()) {
            if missing > 0 {
                *shard = self.kept(*id, listed.shard_bytes).await;
                missing -= u8::from(shard.is_some());
            }
        }
        found
    }

    /// Other readers as places of a stripe: those that are asked at once, `max` at most and each for a shard that is not
    /// asked for yet; and all others, last the best. `queue` are the providers', last the best.
    pub(super) fn others(
        &self,
        page: &Page,
        at: usize,
        queue: &[(u8, Place)],
        (asked, max): (&BTreeSet<u8>, usize),
    ) -> (Vec<(u8, Place)>, Vec<(u8, Place)>) {
        let keepers = self.keepers();
        let usual = |shard: u8| {
            let best = queue.iter().rev().find(|(other, _)| *other == shard);
            best.map(|(_, place)| self.engine.peers.latency(place.node()))
        };
        let (mut near, mut rest, mut taken) = (Vec::new(), Vec::new(), asked.clone());
        for shard in 0..page.n {
            let usual = usual(shard);
            // Each is the first to be asked for another shard, and in another stripe.
            for turn in 0..keepers.len() {
                let keeper = keepers[(at + usize::from(shard) + turn) % keepers.len()].clone();
                let is_near = usual.is_none_or(|usual| self.is_near(&keeper.key, usual));
                if near.len() < max && is_near && taken.insert(shard) {
                    near.push((shard, Place::Crowd(keeper)));
                } else {
                    rest.push((shard, Place::Crowd(keeper)));
                }
            }
        }
        rest.reverse();
        (near, rest)
    }

    /// Whether a reader is asked before providers: it is no later than what is late for them, as far as is known.
    fn is_near(&self, keeper: &NodeKey, provider: Duration) -> bool {
        let (peers, now) = (&self.engine.peers, self.engine.context.current());
        peers.rank(keeper, now) == 0 && peers.latency(keeper) <= (provider * LATE_TIMES).max(LATE_MIN)
    }

    /// One whole shard from another reader.
    pub(super) async fn ask(
        &self,
        keeper: &Peer,
        id: ShardId,
        bytes: u32,
        pulse: &Pulse,
    ) -> Option<Result<Bytes, RemoteError>> {
        let (crowd, grant) = (self.request.crowd.as_ref()?, &self.request.roster.first()?.grant);
        let (peers, context) = (&self.engine.peers, &self.engine.context);
        let _slot = self.turn(&keeper.key).await;
        let asked = Asked::of(pulse, &**context);
        let question = Question::Ask { bucket: crowd.bucket(), id, grant: grant.clone() };
        let ask = Ask { peer: keeper, deal: 0, grant, id };
        let result = self.engine.remote.followed(pulse).ask(&ask, question, bytes).await;
        let took = asked.answered();
        let outcome = match &result {
            Ok(shard) => {
                peers.succeeded(&keeper.key, took);
                self.moves();
                self.got(id, shard);
                Outcome::Gave { bytes: shard.len() as u64, took }
            }
            Err(error) => {
                tracing::debug!(keeper = %keeper.key, %id, %error, "shard not read from a reader");
                match error {
                    RemoteError::Lie(_) => Outcome::Lied,
                    RemoteError::Gone => Outcome::Missed,
                    RemoteError::Busy { .. } => Outcome::Busy,
                    _ => Outcome::Failed,
                }
            }
        };
        let now = context.current();
        // Questions that were under way together fail together: that is once.
        let is_told = outcome == Outcome::Failed && peers.rests(&keeper.key, now);
        match (outcome, &result) {
            (Outcome::Lied | Outcome::Failed, _) => peers.lost(&keeper.key, took, now),
            (_, Err(error)) => peers.denied(&keeper.key, error, took, now),
            _ => {}
        }
        if !is_told {
            crowd.asked(&keeper.key, outcome);
        }
        Some(result)
    }
}

impl<E, T> Engine<E, T>
where
    E: Clock + Spawner,
    T: Transport,
{
    /// Tells a provider that this reader keeps what these pages lead to, at most 256; gives how many it remembers, and
    /// for how many seconds. Who says nothing is not waited for longer than some seconds.
    pub async fn announce(
        &self,
        provider: &Provider,
        ids: Vec<ShardId>,
        addresses: Vec<SocketAddr>,
        secs: u64,
    ) -> Result<(u64, u64), RemoteError> {
        let (deal, grant) = (provider.deal, provider.grant.clone());
        let request = Request::Announce { deal, ids, addresses, secs, grant };
        match self.remote.word(&provider.peer, request).await? {
            Answer::Announced { kept, secs } => Ok((kept, secs)),
            other => Err(self.remote.unmeant(provider, other, "whether it remembers an announcement")),
        }
    }

    /// Asks a provider which readers keep what these pages lead to, at most 64.
    pub async fn who(&self, provider: &Provider, ids: Vec<ShardId>) -> Result<Vec<Keeper>, RemoteError> {
        let request = Request::Who { deal: provider.deal, ids, grant: provider.grant.clone() };
        let node = provider.peer.key;
        let asked = Asked::new(&self.peers, &*self.context, node);
        let answer = self.remote.word(&provider.peer, request).await;
        let took = asked.answered();
        match &answer {
            Err(error) if error.is_down() => self.peers.lost(&node, took, self.context.current()),
            // Who has heard enough of such questions still gives shards.
            _ => self.peers.back(&node),
        }
        match answer? {
            Answer::Keepers(keepers) => Ok(keepers),
            other => Err(self.remote.unmeant(provider, other, "readers")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_reader_answers_of_itself_goes_for_its_other_places_too() {
        let reader = |key| Place::Crowd(Arc::new(Peer::at(NodeKey([key; 32]), Vec::new())));
        let deal = Place::Deal(Holder { node: NodeKey([1; 32]), deal: 1 });
        let places = [(0, reader(1)), (1, reader(2)), (2, deal.clone()), (3, reader(1))];
        let shards = |places: &[(u8, Place)]| places.iter().map(|(shard, _)| *shard).collect::<Vec<_>>();
        for (place, error, taken, left) in [
            (reader(1), RemoteError::Slow(Duration::ZERO), vec![0, 3], vec![1, 2]),
            (reader(1), RemoteError::Busy { retry_after_ms: 1 }, vec![0, 3], vec![1, 2]),
            (reader(1), RemoteError::Gone, vec![], vec![0, 1, 2, 3]),
            (reader(3), RemoteError::Slow(Duration::ZERO), vec![], vec![0, 1, 2, 3]),
            (deal, RemoteError::Slow(Duration::ZERO), vec![], vec![0, 1, 2, 3]),
        ] {
            let mut queue = places.to_vec();
            let of = others_of(&mut queue, &place, &error);
            assert_eq!((shards(&of), shards(&queue)), (taken, left), "{error}");
        }
    }
}
