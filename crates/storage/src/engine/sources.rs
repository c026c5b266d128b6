//! Choose whom to ask for the shards of a stripe, and go round who is silent.
//!
//! ```text
//! near ones of whom nothing bad is known → one is late: two more → all are asked: the same shard of another reader, too
//! silent or failed lately  only while too few shards are on their way from others, or once in a while to see
//! busy                     after the time it said, as long as this read gets on at all
//! ```
//! What a read waits for is therefore bounded by the first silence of each source and not by their patience.

use super::{
    crowd::{Place, others_of},
    get::{Fetch, GetError, LATE_MIN, LATE_TIMES},
    peers::Peers,
    race::JOIN,
    remote::RemoteError,
    tally::Tally,
};
use crate::manifest::Page;
use bytes::Bytes;
use commonware_runtime::{Clock, Spawner};
use futures::{
    FutureExt as _, StreamExt as _,
    future::{Either, select},
    pin_mut,
    stream::FuturesUnordered,
};
use hodei_types::transport::{NodeKey, Transport};
use std::{
    cmp::Reverse,
    collections::BTreeSet,
    time::{Duration, SystemTime},
};

/// One shard more than k is asked for each eight of k: little at 16-of-32, where a slow provider is likely;
/// none at 3-of-6, where it would cost a third more of the line.
const K_PER_EXTRA: usize = 8;
/// Rounds in which all are asked again who may answer later, before a stripe is given up that nothing came for.
pub(super) const AGAIN_ROUNDS: u32 = 2;
/// Who is busy is waited for as long as something of this read came within this time.
pub(super) const BUSY_PATIENCE: Duration = Duration::from_secs(30);
/// And asked no sooner again.
pub(super) const BUSY_MIN: Duration = Duration::from_millis(50);
/// More who are asked whenever somebody is late.
const JOINED: usize = 2;

/// Somebody who is asked for a shard just now.
struct Flying {
    shard: u8,
    node: NodeKey,
    since: SystemTime,
}

/// Who may have what of one stripe.
struct Sources<'a> {
    peers: &'a Peers,
    k: usize,
    found: Vec<Option<Bytes>>,
    /// To be asked, last the best.
    queue: Vec<(u8, Place)>,
    flying: Vec<Flying>,
    /// Busy until then.
    later: Vec<(SystemTime, u8, Place)>,
    /// Failed; they may be back once nobody else is left.
    away: Vec<(u8, Place)>,
    /// Other readers that are among them.
    readers: BTreeSet<NodeKey>,
}

impl Sources<'_> {
    fn count(&self) -> usize {
        self.found.iter().flatten().count()
    }

    fn is_found(&self, shard: u8) -> bool {
        self.found[usize::from(shard)].is_some()
    }

    /// Neither there nor asked for.
    fn is_free(&self, shard: u8) -> bool {
        !self.is_found(shard) && self.flying.iter().all(|flying| flying.shard != shard)
    }

    /// Whether too few shards are on their way from sources that are to be counted upon.
    fn lacks(&self, now: SystemTime) -> bool {
        let comes = |flying: &&Flying| {
            let patience = (self.peers.latency(&flying.node) * LATE_TIMES).max(JOIN);
            now < flying.since + patience && !self.peers.is_late(&flying.node, now)
        };
        let flying = self.flying.iter().filter(comes).map(|flying| flying.shard);
        let later = self.later.iter().filter(|(_, _, place)| !self.peers.is_late(place.node(), now));
        let sure: BTreeSet<u8> = flying.chain(later.map(|(_, shard, _)| *shard)).collect();
        self.count() + sure.into_iter().filter(|shard| !self.is_found(*shard)).count() < self.k
    }

    /// The best to ask now; `is_late`: somebody who is asked already is.
    fn take(&mut self, is_late: bool, now: SystemTime) -> Option<(u8, Place)> {
        let is_good = |place: &Place| !self.peers.is_late(place.node(), now);
        let at = self.queue.iter().rposition(|(shard, place)| self.is_free(*shard) && is_good(place));
        let at = at.or_else(|| {
            if !self.lacks(now) {
                return None;
            }
            // The same shard of somebody else, or of somebody who was silent or failed.
            let again = |(shard, place): &(u8, Place)| is_late && !self.is_found(*shard) && is_good(place);
            let free = |(shard, _): &(u8, Place)| self.is_free(*shard);
            let any = |(shard, _): &(u8, Place)| is_late && !self.is_found(*shard);
            let queue = self.queue.iter();
            queue
                .clone()
                .rposition(again)
                .or_else(|| queue.clone().rposition(free))
                .or_else(|| queue.clone().rposition(any))
        })?;
        let (shard, place) = self.queue.remove(at);
        self.flying.push(Flying { shard, node: *place.node(), since: now });
        Some((shard, place))
    }

    /// So many, or all there are.
    fn some(&mut self, count: usize, is_late: bool, now: SystemTime) -> Vec<(u8, Place)> {
        (0..count).map_while(|_| self.take(is_late, now)).collect()
    }

    fn landed(&mut self, shard: u8, node: &NodeKey) {
        if let Some(at) = self.flying.iter().position(|flying| (flying.shard, &flying.node) == (shard, node)) {
            self.flying.swap_remove(at);
        }
    }

    /// Where it did not come from, when that is asked again.
    fn failed(&mut self, shard: u8, place: Place, error: &RemoteError, now: SystemTime) {
        let mut of = others_of(&mut self.queue, &place, error);
        let Some(wait) = error.passes_after() else { return };
        of.push((shard, place));
        match error {
            RemoteError::Busy { .. } => {
                let due = now + wait.max(BUSY_MIN);
                self.later.extend(of.into_iter().map(|(shard, place)| (due, shard, place)));
            }
            _ => self.away.append(&mut of),
        }
    }

    /// Has those who were busy asked again when it is time; gives when the next is.
    fn due(&mut self, now: SystemTime) -> Option<SystemTime> {
        let (due, later) = std::mem::take(&mut self.later).into_iter().partition(|(due, _, _)| *due <= now);
        self.later = later;
        self.queue.extend(Vec::into_iter(due).map(|(_, shard, place)| (shard, place)));
        self.later.iter().map(|(due, _, _)| *due).min()
    }

    /// All who failed are asked again; `false` if that cannot do.
    fn again(&mut self) -> bool {
        let shards: BTreeSet<u8> = self.away.iter().map(|(shard, _)| *shard).collect();
        let more = shards.into_iter().filter(|shard| !self.is_found(*shard)).count();
        self.queue.append(&mut self.away);
        self.count() + more >= self.k
    }
}

impl<E, T> Fetch<E, T>
where
    E: Clock + Spawner,
    T: Transport,
{
    /// Any k shards of a stripe: first this machine's own, then those of who is near.
    pub(super) async fn shards(&self, page: &Page, at: usize, stripe: u64) -> Result<Vec<Option<Bytes>>, GetError> {
        let (peers, context) = (&self.engine.peers, &self.engine.context);
        let (k, listed) = (usize::from(page.k), &page.stripes[at]);
        let found = self.own(page, at).await;
        let now = context.current();
        // Those of providers alone, by which other readers are judged.
        let queue = self.ordered(page, at, now);
        let asked: BTreeSet<u8> = (0..page.n).filter(|shard| found[usize::from(*shard)].is_some()).collect();
        let mut missing = k.saturating_sub(asked.len());
        let (near, others) = self.others(page, at, &queue, (&asked, missing.min(k / 2)));
        let readers = near.iter().chain(&others).map(|(_, place)| *place.node()).collect();
        let (flying, later, away) = (Vec::new(), Vec::new(), Vec::new());
        let mut sources = Sources { peers, k, found, queue, flying, later, away, readers };
        // Whom providers may fail to give.
        sources.queue.splice(0..0, others);
        let ask = |(shard, place): (u8, Place)| {
            let id = listed.ids[usize::from(shard)];
            async move {
                let read = self.read(&place, id, listed.shard_bytes).await;
                (shard, place, read)
            }
            .boxed()
        };
        let mut running = FuturesUnordered::new();
        missing -= near.len();
        let extra = if missing > 0 { k / K_PER_EXTRA } else { 0 };
        for (shard, place) in &near {
            sources.flying.push(Flying { shard: *shard, node: *place.node(), since: now });
        }
        let first: Vec<_> = near.into_iter().chain(sources.some(missing + extra, false, now)).collect();
        let known = first.iter().map(|(_, place)| place.node()).filter(|node| !peers.is_late(node, now));
        let usual = (known.map(|node| peers.latency(node)).max().unwrap_or_default() * LATE_TIMES).max(LATE_MIN);
        running.extend(first.into_iter().map(ask));
        let mut late = now + usual;
        let (mut tally, mut rounds, mut round_at) = (Tally::default(), AGAIN_ROUNDS, now);
        while sources.count() < k {
            let now = context.current();
            let due = sources.due(now);
            if running.is_empty() {
                self.meet(page, &mut sources.readers, &mut sources.queue);
                running.extend(sources.some(k - sources.count(), true, now).into_iter().map(ask));
            }
            if running.is_empty() {
                let is_moving = now < self.moved() + BUSY_PATIENCE;
                if let Some(due) = due.filter(|_| is_moving) {
                    context.sleep_until(due).await;
                    continue;
                }
                if self.moved() > round_at {
                    rounds = AGAIN_ROUNDS;
                }
                if rounds == 0 || !sources.again() {
                    let (found, failure) = (sources.count(), tally.to_string());
                    return Err(GetError::Shards { stripe, found, want: k, failure });
                }
                (rounds, round_at) = (rounds - 1, now);
                running.extend(sources.some(page.n.into(), false, now).into_iter().map(ask));
            }
            let next = {
                let sleep = context.sleep_until(due.map_or(late, |due| due.min(late)));
                let next = running.next();
                pin_mut!(sleep, next);
                match select(next, sleep).await {
                    Either::Left((next, _)) => next,
                    Either::Right(_) => {
                        // Somebody is late, or not busy any more: others join the race, newly met readers among them.
                        let now = context.current();
                        sources.due(now);
                        self.meet(page, &mut sources.readers, &mut sources.queue);
                        let more = sources.some(JOINED, true, now);
                        late = now + if more.is_empty() { usual.max(JOIN) } else { usual };
                        running.extend(more.into_iter().map(ask));
                        continue;
                    }
                }
            };
            let Some((shard, place, result)) = next else { continue };
            sources.landed(shard, place.node());
            match result {
                Some(Ok(bytes)) => {
                    tally.gave(&place);
                    sources.found[usize::from(shard)] = Some(bytes);
                }
                Some(Err(error)) => {
                    tally.add(&place, &error);
                    let now = context.current();
                    sources.failed(shard, place, &error, now);
                    running.extend(sources.take(false, now).map(ask));
                }
                None => running.extend(sources.take(false, context.current()).map(ask)),
            }
        }
        Ok(sources.found)
    }

    /// Providers of a stripe's shards, last the best: who is near before who is far, data before parity, since they need not
    /// be restored.
    fn ordered(&self, page: &Page, at: usize, now: SystemTime) -> Vec<(u8, Place)> {
        let peers = &self.engine.peers;
        let mut queue: Vec<(u8, Place)> = (0..page.n).flat_map(|shard| self.places(page, at, shard)).collect();
        let least = queue.iter().map(|(_, place)| peers.latency(place.node())).min().unwrap_or_default();
        let far = (least * LATE_TIMES).max(LATE_MIN);
        queue.sort_by_cached_key(|(shard, place)| {
            let latency = peers.latency(place.node());
            Reverse((peers.rank(place.node(), now), latency > far, *shard >= page.k, latency, *shard))
        });
        queue
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::Holder;
    use hodei_types::transport::Peer;
    use std::sync::Arc;

    const NOW: SystemTime = SystemTime::UNIX_EPOCH;

    fn deal(key: u8) -> Place {
        Place::Deal(Holder { node: NodeKey([key; 32]), deal: 1 })
    }

    fn reader(key: u8) -> Place {
        Place::Crowd(Arc::new(Peer::at(NodeKey([key; 32]), Vec::new())))
    }

    /// Three of six, of providers 0 to 5, and all of reader 9.
    fn sources(peers: &Peers) -> Sources<'_> {
        let queue = (0..6).map(|shard| (shard, reader(9))).chain((0..6).rev().map(|shard| (shard, deal(shard))));
        let (queue, found) = (queue.collect(), vec![None; 6]);
        let (flying, later, away, readers) = (Vec::new(), Vec::new(), Vec::new(), BTreeSet::new());
        Sources { peers, k: 3, found, queue, flying, later, away, readers }
    }

    fn told(asked: Vec<(u8, Place)>) -> Vec<(u8, u8)> {
        asked.iter().map(|(shard, place)| (*shard, place.node().0[0])).collect()
    }

    #[test]
    fn who_is_late_is_gone_round_and_when_all_are_asked_another_reader_has_the_same_shards() {
        let peers = Peers::default();
        let mut sources = sources(&peers);
        assert_eq!(told(sources.some(3, false, NOW)), [(0, 0), (1, 1), (2, 2)]);
        assert_eq!(told(sources.some(2, true, NOW)), [(3, 3), (4, 4)]);
        assert_eq!(told(sources.some(2, true, NOW)), [(5, 5)], "enough may come of those who are asked");
        let later = NOW + JOIN;
        assert_eq!(told(sources.some(2, true, later)), [(5, 9), (4, 9)], "they are late, and the reader has it");
        sources.landed(5, &NodeKey([9; 32]));
        sources.found[5] = Some(Bytes::new());
        assert!(!sources.is_free(4) && !sources.is_free(5));
        assert_eq!(told(sources.some(9, true, later)), [(3, 9)], "k are found or on their way then");
    }

    #[test]
    fn who_fell_silent_is_asked_only_while_others_do_not_do() {
        let peers = Peers::default();
        (0..4).for_each(|key| peers.lost(&NodeKey([key; 32]), JOIN * 9, NOW));
        let mut some = sources(&peers);
        assert_eq!(told(some.some(3, false, NOW)), [(4, 4), (5, 5), (3, 9)]);
        assert_eq!(
            told(some.some(9, true, NOW)),
            [(2, 9), (1, 9), (0, 9)],
            "a reader that is near joins, and nobody silent"
        );
        let mut alone = sources(&peers);
        alone.queue.retain(|(_, place)| matches!(place, Place::Deal(_)));
        assert_eq!(told(alone.some(3, false, NOW)), [(4, 4), (5, 5), (0, 0)], "there is nobody else");
        assert_eq!(told(alone.some(1, true, NOW)), [(1, 1)], "nor does that one count");
        // Who is busy is counted upon: nobody silent is asked in the meantime.
        let mut busy = sources(&peers);
        assert_eq!(told(busy.some(3, false, NOW)), [(4, 4), (5, 5), (3, 9)]);
        busy.landed(3, &NodeKey([9; 32]));
        busy.failed(3, reader(9), &RemoteError::Busy { retry_after_ms: 500 }, NOW);
        assert_eq!(told(busy.some(9, true, NOW)), []);
        let due = NOW + Duration::from_millis(500);
        assert_eq!(busy.due(NOW), Some(due));
        assert_eq!(busy.due(due), None);
        assert_eq!(busy.take(false, due).map(|(_, place)| place.node().0[0]), Some(9), "when it is no more");
    }
}
