//! Copy one shard that is not coded, such as a page or an index root, to several providers, and read it back.

use super::{
    Engine,
    asked::{Asked, Pulse},
    get::GetError,
    put::{Ledger, PutError},
    race::race,
    remote::{Ask, RemoteError, Verdict},
    rooms::Fill,
    spread::{Offers, Patience, Provider, Spread},
    tally::Tally,
};
use crate::{
    manifest::Holder,
    wire::{Held, UploadId},
};
use bytes::Bytes;
use commonware_runtime::{Clock, Spawner};
use futures::{FutureExt as _, StreamExt as _, future::BoxFuture};
use hodei_types::{
    ack::Ack,
    code::Shape,
    slice::ShardId,
    transport::{NodeKey, Transport},
};
use rand::{CryptoRng, seq::SliceRandom as _};
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

/// Providers asked at once for a shard that some of them hold a copy of.
const COPIES_ASKED: usize = 3;

impl<E, T> Engine<E, T>
where
    E: Clock + Spawner,
    T: Transport,
{
    /// Reads a copied shard from whichever of the bucket's providers has it, three at a time.
    pub async fn get_copy(
        &self,
        roster: &[Provider],
        id: ShardId,
        bytes: u32,
        verdict: impl Fn(Verdict),
    ) -> Result<Bytes, GetError> {
        let asks = self.likely(roster).into_iter().map(|provider| {
            async move {
                let node = provider.peer.key;
                let pulse = Pulse::new(&self.peers, node);
                let asked = Asked::of(&pulse, &*self.context);
                let answer = self.read_from((&provider, provider.deal), id, (bytes, 0, bytes), &pulse).await;
                let took = asked.answered();
                let shard = answer.map_err(|error| self.unread(node, took, error))?;
                self.peers.succeeded(&node, took);
                self.peers.gave(&node, shard.len() as u64, took);
                Ok(shard)
            }
            .boxed()
        });
        self.any(asks.collect(), roster.len(), id, verdict).await
    }

    /// How many bytes a copied shard has, by whichever of the bucket's providers has it.
    pub async fn size_of(&self, roster: &[Provider], id: ShardId) -> Result<u32, GetError> {
        let asks = self.likely(roster).into_iter().map(|provider| {
            async move {
                let ask = Ask { peer: &provider.peer, deal: provider.deal, grant: &provider.grant, id };
                let asked = Asked::new(&self.peers, &*self.context, provider.peer.key);
                let glanced = self.remote.glance(&ask).await;
                let took = asked.answered();
                let (bytes, _) = glanced.map_err(|error| self.unread(provider.peer.key, took, error))?;
                self.peers.back(&provider.peer.key);
                Ok(bytes)
            }
            .boxed()
        });
        self.any(asks.collect(), roster.len(), id, |_| {}).await
    }

    /// Remembers what it says of somebody.
    fn unread(&self, node: NodeKey, took: Duration, error: RemoteError) -> (NodeKey, RemoteError) {
        self.peers.denied(&node, &error, took, self.context.current());
        (node, error)
    }

    /// Owned, not borrowed: a closure over references makes futures that are not provably Send.
    fn likely(&self, roster: &[Provider]) -> Vec<Provider> {
        let (mut order, now) = (roster.to_vec(), self.context.current());
        order
            .sort_by_key(|provider| (self.peers.rank(&provider.peer.key, now), self.peers.latency(&provider.peer.key)));
        order
    }

    async fn any<V>(
        &self,
        asks: Vec<BoxFuture<'_, Result<V, (NodeKey, RemoteError)>>>,
        asked: usize,
        id: ShardId,
        verdict: impl Fn(Verdict),
    ) -> Result<V, GetError> {
        let mut tally = Tally::default();
        let (mut gone, mut declined) = (0, 0);
        let lost = |(node, error): (NodeKey, RemoteError)| {
            tally.hear(false, node, &error);
            gone += usize::from(matches!(error, RemoteError::Gone));
            declined += usize::from(matches!(error, RemoteError::Declined(_)));
            if let RemoteError::Lie(lie) = error {
                verdict(*lie);
            }
        };
        match race(&*self.context, asks, COPIES_ASKED, lost).await {
            Some(value) => Ok(value),
            // Told by most of those who were to have it: it is not only out of reach. Who declines says nothing of that.
            None if gone * 2 > asked.saturating_sub(declined) => Err(GetError::Gone { page: id, gone, asked }),
            None => Err(GetError::Page { page: id, failure: tally.to_string() }),
        }
    }
}

impl<E, T> Engine<E, T>
where
    E: Clock + Spawner + CryptoRng,
    T: Transport,
{
    /// Copies one shard that is not coded, such as an index root, to n - k + 1 providers. Gives its holders
    /// and the newest ack of each deal.
    pub async fn put_copies(
        &self,
        shape: Shape,
        roster: Arc<Vec<Provider>>,
        upload: UploadId,
        shard: Vec<u8>,
        offers: Arc<dyn Offers>,
    ) -> Result<(Vec<Holder>, BTreeMap<u64, Ack>), PutError> {
        let mut rng = self.context.child("copies");
        let spread = self.spread(shape, roster, upload, offers, Fill::Index);
        let id = ShardId::of(&shard);
        let ledger = Mutex::new(Ledger::default());
        let acked = |held: &Held| ledger.lock().expect("no panic under this lock").ack(&held.ack);
        let holders = copy(&spread, shard, id, &mut rng, acked).await?;
        Ok((holders, ledger.into_inner().expect("no panic under this lock").acks))
    }
}

/// Copies a shard to n - k + 1 providers, or to all there are, of more operators than may be lost.
pub(super) async fn copy<E, T>(
    spread: &Spread<E, T>,
    bytes: Vec<u8>,
    id: ShardId,
    rng: &mut E,
    acked: impl Fn(&Held),
) -> Result<Vec<Holder>, PutError>
where
    E: Clock + CryptoRng,
    T: Transport,
{
    let Spread { shape, roster, .. } = spread;
    let mut order: Vec<usize> = (0..roster.len()).collect();
    order.shuffle(rng);
    // One of each operator before a second of any: stable sorting keeps the chance.
    let mut seen: BTreeMap<[u8; 20], usize> = BTreeMap::new();
    let mut ranked: Vec<(bool, usize, usize)> = Vec::new();
    for at in order {
        let round = seen.entry(roster[at].operator).or_default();
        ranked.push((spread.rests(at), *round, at));
        *round += 1;
    }
    ranked.sort_by_key(|(rests, round, _)| (*rests, *round));
    let want = shape.page_copies().min(roster.len());
    let shard = Bytes::from(bytes);
    let (mut holders, mut operators, mut failure) = (Vec::new(), BTreeMap::new(), String::new());
    let mut queue = ranked.into_iter().map(|(_, _, at)| at);
    // Who was busy for longer than a moment while others were left.
    let mut busy = Vec::new();
    let mut running = futures::stream::FuturesUnordered::new();
    let send = |(at, patience): (usize, Patience)| {
        let shard = shard.clone();
        async move {
            spread.offers.offer(&[(roster[at].deal, id)]).await;
            (at, patience, spread.send(at, id, shard, patience).await)
        }
    };
    running.extend(queue.by_ref().take(want).map(|at| send((at, Patience::Moment))));
    while let Some((at, patience, result)) = running.next().await {
        match result {
            Ok(held) => {
                let provider = &roster[at];
                acked(&held);
                holders.push(Holder { node: provider.peer.key, deal: provider.deal });
                operators.insert(provider.operator, ());
            }
            Err(error) => {
                failure = format!("{}: {error}", roster[at].peer.key);
                if patience == Patience::Long {
                    continue;
                }
                if matches!(error, RemoteError::Busy { .. }) {
                    busy.push(at);
                }
                let next = queue.next().map(|at| (at, Patience::Moment));
                // Where nobody else is left, who is busy is waited for after all.
                running.extend(next.or_else(|| busy.pop().map(|at| (at, Patience::Long))).map(send));
            }
        }
    }
    // Where providers are down, fewer copies still outlive the loss of t operators.
    if holders.len() < want && operators.len() <= shape.t().into() {
        if let Some(full) = spread.full_for_copies() {
            return Err(PutError::Full { full, deals: roster.len(), failure });
        }
        return Err(PutError::Page { found: holders.len(), want, failure });
    }
    Ok(holders)
}
