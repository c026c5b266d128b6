//! Choose whom to ask for the shards of a stripe, and go round who is silent.
//!
//! ```text
//! near ones, nothing bad is known of → one is late: two more → all are asked: the same shard of another reader, too
//! silent or failed lately  only while too few shards are on their way from others, or once in a while to see
//! busy                     again after the time it said, doubled each time, while this read gets on and shards are lacking
//! ```
//! On its way is what somebody is asked for of whom something came lately, or who is not busy and has others to serve
//! first. Who said that it is busy promises nothing. What a read waits for is therefore bounded by the first silence of
//! each source and not by their patience.

use super::{
    asked::Pulse,
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
    future::{AbortHandle, AbortRegistration, Abortable, Either, select},
    pin_mut,
    stream::FuturesUnordered,
};
use hodei_types::transport::{NodeKey, Transport};
use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
    time::{Duration, SystemTime},
};

/// One shard more than k is asked for each eight of k: little at 16-of-32, where a slow provider is likely;
/// none at 3-of-6, where it would cost a third more of the line.
const K_PER_EXTRA: usize = 8;
/// Rounds in which all are asked again who may answer later, before a stripe is given up that nothing came for.
pub(super) const AGAIN_ROUNDS: u32 = 2;
/// Who is busy is waited for as long as something of this read came within this time.
pub(super) const BUSY_PATIENCE: Duration = Duration::from_secs(30);
/// And asked no sooner again, nor so much later.
pub(super) const BUSY_MIN: Duration = Duration::from_millis(50);
pub(super) const BUSY_LONGEST: Duration = Duration::from_secs(4);
/// More who are asked whenever somebody is late.
const JOINED: usize = 2;

/// Somebody who is asked for a shard just now.
struct Flying {
    shard: u8,
    pulse: Pulse,
    stop: AbortHandle,
}

/// What is to be asked, and how it is followed and stopped.
struct Question {
    shard: u8,
    place: Place,
    pulse: Pulse,
    stopped: AbortRegistration,
}

/// One that is busy, and what it is asked for again when it is due.
struct Later {
    due: SystemTime,
    /// So often in turn it was.
    times: u32,
    places: Vec<(u8, Place)>,
}

/// Who may have what of one stripe.
struct Sources<'a> {
    peers: &'a Peers,
    k: usize,
    found: Vec<Option<Bytes>>,
    /// To be asked, last the best.
    queue: Vec<(u8, Place)>,
    flying: Vec<Flying>,
    later: BTreeMap<NodeKey, Later>,
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

    /// Who is asked for it.
    fn asked(&self, shard: u8) -> impl Iterator<Item = &Flying> {
        self.flying.iter().filter(move |flying| flying.shard == shard)
    }

    /// Whether it is to be counted upon.
    fn comes(&self, flying: &Flying, now: SystemTime) -> bool {
        let node = flying.pulse.node();
        let patience = (self.peers.latency(node) * LATE_TIMES).max(JOIN);
        match flying.pulse.last() {
            // Its turn comes, unless nobody has one.
            None => self.peers.rank(node, now) == 0,
            Some(heard) => now < heard + patience && !self.peers.is_late(node, now),
        }
    }

    /// Whether too few shards are there or on their way.
    fn lacks(&self, now: SystemTime) -> bool {
        let flying = self.flying.iter().filter(|flying| self.comes(flying, now)).map(|flying| flying.shard);
        let sure: BTreeSet<u8> = flying.filter(|shard| !self.is_found(*shard)).collect();
        self.count() + sure.len() < self.k
    }

    /// Has somebody asked.
    fn ask(&mut self, (shard, place): (u8, Place)) -> Question {
        let (pulse, (stop, stopped)) = (Pulse::new(self.peers, *place.node()), AbortHandle::new_pair());
        self.flying.push(Flying { shard, pulse: pulse.clone(), stop });
        Question { shard, place, pulse, stopped }
    }

    /// The best to ask now; `is_late`: somebody who is asked already is.
    fn take(&mut self, is_late: bool, now: SystemTime) -> Option<Question> {
        let is_good = |place: &Place| !self.peers.is_late(place.node(), now);
        // Neither there nor asked for.
        let is_free = |shard: u8| !self.is_found(shard) && self.asked(shard).next().is_none();
        let at = self.queue.iter().rposition(|(shard, place)| is_free(*shard) && is_good(place));
        let at = at.or_else(|| {
            if !self.lacks(now) {
                return None;
            }
            let is_again = |shard: u8| is_late && !self.is_found(shard);
            // The same shard of somebody else, unless it comes; or of somebody who was silent or failed.
            let again = |(shard, place): &(u8, Place)| {
                is_again(*shard) && is_good(place) && !self.asked(*shard).any(|flying| self.comes(flying, now))
            };
            let any = |(shard, _): &(u8, Place)| is_again(*shard) && self.asked(*shard).count() < 2;
            let queue = self.queue.iter();
            queue
                .clone()
                .rposition(again)
                .or_else(|| queue.clone().rposition(|(shard, _)| is_free(*shard)))
                .or_else(|| queue.clone().rposition(any))
        })?;
        let best = self.queue.remove(at);
        Some(self.ask(best))
    }

    /// So many, or all there are.
    fn some(&mut self, count: usize, is_late: bool, now: SystemTime) -> Vec<Question> {
        (0..count).map_while(|_| self.take(is_late, now)).collect()
    }

    /// So many at most, and only as long as shards are lacking.
    fn lacking(&mut self, max: usize, now: SystemTime) -> Vec<Question> {
        (0..max).map_while(|_| if self.lacks(now) { self.take(true, now) } else { None }).collect()
    }

    /// There is an answer.
    fn landed(&mut self, shard: u8, node: &NodeKey) {
        let at = self.flying.iter().position(|flying| (flying.shard, flying.pulse.node()) == (shard, node));
        if let Some(at) = at {
            self.flying.swap_remove(at);
        }
    }

    /// It is there: whoever else is asked for it need not give it.
    fn gave(&mut self, shard: u8, node: &NodeKey, bytes: Bytes) {
        self.found[usize::from(shard)] = Some(bytes);
        if let Some(later) = self.later.get_mut(node) {
            later.times = 0;
        }
        for flying in self.flying.extract_if(.., |flying| flying.shard == shard) {
            flying.stop.abort();
        }
    }

    /// Where it did not come from, when that is asked again; `is_moving`: something of this read came lately.
    fn failed(&mut self, shard: u8, place: Place, error: &RemoteError, is_moving: bool, now: SystemTime) {
        let mut of = others_of(&mut self.queue, &place, error);
        let Some(wait) = error.passes_after() else { return };
        let node = *place.node();
        of.push((shard, place));
        if !is_moving || !matches!(error, RemoteError::Busy { .. }) {
            self.away.append(&mut of);
            return;
        }
        let later = self.later.entry(node).or_insert(Later { due: now, times: 0, places: Vec::new() });
        // Answers to what was asked together count as one.
        if later.due <= now {
            later.due = now + (wait.max(BUSY_MIN) * (1 << later.times)).min(BUSY_LONGEST);
            later.times = (later.times + 1).min(8);
        }
        later.places.append(&mut of);
    }

    /// May ask those again who were busy, when it is time: how many shards that is, and when the next are.
    fn due(&mut self, now: SystemTime) -> (usize, Option<SystemTime>) {
        let before = self.queue.len();
        for later in self.later.values_mut().filter(|later| later.due <= now) {
            self.queue.append(&mut later.places);
        }
        let next = self.later.values().filter(|later| !later.places.is_empty()).map(|later| later.due).min();
        (self.queue.len() - before, next)
    }

    /// All who failed or are busy may be asked again; `false` if that cannot do.
    fn again(&mut self) -> bool {
        self.queue.append(&mut self.away);
        for later in self.later.values_mut() {
            self.queue.append(&mut later.places);
        }
        let left = self.queue.iter().map(|(shard, _)| *shard).filter(|shard| !self.is_found(*shard));
        self.count() + left.collect::<BTreeSet<u8>>().len() >= self.k
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
        let (flying, later, away) = (Vec::new(), BTreeMap::new(), Vec::new());
        let mut sources = Sources { peers, k, found, queue, flying, later, away, readers };
        // Whom providers may fail to give.
        sources.queue.splice(0..0, others);
        let ask = |Question { shard, place, pulse, stopped }: Question| {
            let id = listed.ids[usize::from(shard)];
            let read = async move {
                let read = self.read(&place, id, listed.shard_bytes, &pulse).await;
                (shard, place, read)
            };
            Abortable::new(read, stopped).boxed()
        };
        let mut running = FuturesUnordered::new();
        missing -= near.len();
        let extra = if missing > 0 { k / K_PER_EXTRA } else { 0 };
        let mut first: Vec<_> = near.into_iter().map(|best| sources.ask(best)).collect();
        first.extend(sources.some(missing + extra, false, now));
        let known = first.iter().map(|question| question.place.node()).filter(|node| !peers.is_late(node, now));
        let usual = (known.map(|node| peers.latency(node)).max().unwrap_or_default() * LATE_TIMES).max(LATE_MIN);
        running.extend(first.into_iter().map(ask));
        let mut late = now + usual;
        let (mut tally, mut rounds, mut round_at) = (Tally::default(), AGAIN_ROUNDS, now);
        while sources.count() < k {
            let now = context.current();
            let (back, due) = sources.due(now);
            running.extend(sources.lacking(back, now).into_iter().map(ask));
            if now >= late {
                // Somebody is late: others join the race, newly met readers among them.
                self.meet(page, &mut sources.readers, &mut sources.queue);
                let joined = sources.some(JOINED, true, now);
                late = now + if joined.is_empty() { usual.max(JOIN) } else { usual };
                running.extend(joined.into_iter().map(ask));
            }
            if running.is_empty() {
                self.meet(page, &mut sources.readers, &mut sources.queue);
                running.extend(sources.some(k - sources.count(), true, now).into_iter().map(ask));
            }
            let is_moving = || context.current() < self.moved() + BUSY_PATIENCE;
            if running.is_empty() {
                if let Some(due) = due.filter(|_| is_moving()) {
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
                    Either::Right(_) => continue,
                }
            };
            // Who is asked no more, since somebody else gave it, says nothing.
            let Some(Ok((shard, place, result))) = next else { continue };
            sources.landed(shard, place.node());
            let now = context.current();
            match result {
                Some(Ok(bytes)) => {
                    tally.gave(&place);
                    sources.gave(shard, place.node(), bytes);
                }
                Some(Err(error)) => {
                    tally.add(&place, &error);
                    sources.failed(shard, place, &error, is_moving(), now);
                    running.extend(sources.take(false, now).map(ask));
                }
                None => running.extend(sources.take(false, now).map(ask)),
            }
        }
        Ok(sources.found)
    }

    /// Providers of a stripe's shards, last the best: who is near before who is far, data before parity, since they need
    /// not be restored. Who is paid, and has less than half as much left as others, comes after them: were the nearest used
    /// up first, too few could be left to read from while most of what a tab pays for is.
    fn ordered(&self, page: &Page, at: usize, now: SystemTime) -> Vec<(u8, Place)> {
        let peers = &self.engine.peers;
        let mut queue: Vec<(u8, Place)> = (0..page.n).flat_map(|shard| self.places(page, at, shard)).collect();
        let least = queue.iter().map(|(_, place)| peers.latency(place.node())).min().unwrap_or_default();
        let far = (least * LATE_TIMES).max(LATE_MIN);
        let left = |place: &Place| self.request.roster[*self.nodes.get(place.node())?].meter.as_ref()?.left();
        // What is bound at who is away serves nobody.
        let there = queue.iter().filter(|(_, place)| !peers.is_late(place.node(), now));
        let most = there.filter_map(|(_, place)| left(place)).max();
        queue.sort_by_cached_key(|(shard, place)| {
            let (rank, latency) = (peers.rank(place.node(), now), peers.latency(place.node()));
            Reverse((rank, is_low(left(place), most), latency > far, *shard >= page.k, latency, *shard))
        });
        queue
    }
}

/// Whether so much is left somewhere, by parts of what was paid for there, that others are asked first.
fn is_low(left: Option<u64>, most: Option<u64>) -> bool {
    left.zip(most).is_some_and(|(left, most)| left * 2 < most)
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
        let (flying, later, away, readers) = (Vec::new(), BTreeMap::new(), Vec::new(), BTreeSet::new());
        Sources { peers, k: 3, found, queue, flying, later, away, readers }
    }

    fn told(asked: Vec<Question>) -> Vec<(u8, u8)> {
        asked.iter().map(|question| (question.shard, question.place.node().0[0])).collect()
    }

    /// All who are asked have their turn now, or give a first byte.
    fn beat(sources: &Sources<'_>, now: SystemTime) {
        sources.flying.iter().for_each(|flying| flying.pulse.beat(now));
    }

    #[test]
    fn who_has_less_than_half_of_what_others_have_left_is_spared() {
        assert!(is_low(Some(499), Some(1000)) && is_low(Some(0), Some(1)));
        assert!(!is_low(Some(500), Some(1000)) && !is_low(Some(0), Some(0)));
        assert!(!is_low(None, Some(1000)) && !is_low(Some(1), None), "what is not metered is not spared");
    }

    #[test]
    fn who_is_late_is_gone_round_and_when_all_are_asked_another_reader_has_the_same_shards() {
        let peers = Peers::default();
        let mut sources = sources(&peers);
        assert_eq!(told(sources.some(3, false, NOW)), [(0, 0), (1, 1), (2, 2)]);
        assert_eq!(told(sources.some(2, true, NOW)), [(3, 3), (4, 4)]);
        assert_eq!(told(sources.some(2, true, NOW)), [(5, 5)], "enough may come of those who are asked");
        let later = NOW + JOIN;
        assert_eq!(told(sources.some(2, true, later)), [], "nobody has had a turn yet");
        beat(&sources, NOW);
        assert_eq!(told(sources.some(2, true, later)), [(5, 9), (4, 9)], "they are late, and the reader has it");
        let reader = NodeKey([9; 32]);
        sources.landed(5, &reader);
        sources.gave(5, &reader, Bytes::new());
        assert_eq!(sources.asked(5).count(), 0, "the provider need not give it any more");
        assert_eq!(told(sources.some(9, true, later)), [(3, 9)], "k are found or on their way then");
    }

    #[test]
    fn while_bytes_come_nobody_is_asked_for_the_same_and_of_the_silent_one_beside_another() {
        let peers = Peers::default();
        let mut sources = sources(&peers);
        assert_eq!(sources.some(6, false, NOW).len(), 6);
        let mut now = NOW;
        for _ in 0..9 {
            now += JOIN / 2;
            beat(&sources, now);
            assert_eq!(told(sources.some(2, true, now)), [], "a slow line");
        }
        peers.lost(&NodeKey([9; 32]), JOIN * 9, now);
        now += JOIN;
        assert_eq!(sources.some(9, true, now).len(), 6, "nobody else is left");
        sources.queue.extend((0..6).map(|shard| (shard, reader(9))));
        assert_eq!(told(sources.some(9, true, now)), [], "two are enough");
        sources.queue.extend((0..6).map(|shard| (shard, reader(8))));
        assert_eq!(told(sources.some(9, true, now)), [(5, 8), (4, 8), (3, 8)], "unless somebody is not silent");
    }

    #[test]
    fn who_is_busy_promises_nothing_and_is_asked_again_later_each_time_for_what_is_lacking() {
        let peers = Peers::default();
        (0..4).for_each(|key| peers.lost(&NodeKey([key; 32]), JOIN * 9, NOW));
        let mut busy = sources(&peers);
        assert_eq!(told(busy.some(3, false, NOW)), [(4, 4), (5, 5), (3, 9)]);
        let (node, error, mut now) = (NodeKey([9; 32]), RemoteError::Busy { retry_after_ms: 500 }, NOW);
        for wait in [500, 1_000, 2_000, 4_000, 4_000] {
            busy.landed(3, &node);
            busy.failed(3, reader(9), &error, true, now);
            let due = now + Duration::from_millis(wait);
            assert_eq!(busy.due(now), (0, Some(due)));
            assert_eq!(busy.due(due), (6, None));
            assert_eq!(told(busy.lacking(6, due)), [(3, 9)], "no more than is lacking");
            now = due;
        }
        busy.landed(3, &node);
        busy.failed(3, reader(9), &error, false, now);
        assert_eq!(busy.due(now), (0, None), "nothing of this read came for too long");
        assert_eq!(told(busy.some(2, false, now)), [(0, 0), (1, 1)], "the silent are asked in its place");
        assert!(busy.again());
        let mut few = sources(&peers);
        few.queue.retain(|(_, place)| *place.node() == node);
        assert_eq!(told(few.some(3, false, now)), [(5, 9), (4, 9), (3, 9)]);
        few.landed(3, &node);
        few.failed(3, reader(9), &error, true, now);
        assert!(few.queue.is_empty() && few.again(), "what it is busy for counts");
        assert_eq!(few.queue.len(), 4);
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
    }
}
