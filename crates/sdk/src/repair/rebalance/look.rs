//! Look where each shard of a bucket lies now, and which of them lie at two places.

use super::{
    super::{
        Seat, State,
        tally::{Plot, Voices},
    },
    even::Place,
};
use crate::{
    bucket::Record,
    catalog::Known,
    cloud::{Cloud, Runtime},
    fault::Fault,
    retain::is_bound,
    share,
};
use futures::{FutureExt as _, StreamExt as _, stream};
use hodei_storage::{
    engine::Provider,
    index::{Part, Run},
    manifest::Page,
    overlay::{Overlay, PAIRS_MAX, SHEETS_MAX},
};
use hodei_types::{abi::LEAF_BYTES, slice::ShardId, transport::Transport};
use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Bound,
    sync::Arc,
    time::Duration,
};

/// Pages read at once.
const PAGES_AT_ONCE: usize = 16;
/// A provider that does not answer is asked once more after this.
const AGAIN: Duration = Duration::from_secs(2);

/// Shards that an overlay may tell of before no more are moved: half of what is followed, the rest is for custodians.
const LAID_MAX: usize = PAIRS_MAX * SHEETS_MAX / 2;

/// A bucket as it is when it is looked at.
pub(super) struct Ground {
    pub(super) record: Record,
    pub(super) roster: Arc<Vec<Provider>>,
    pub(super) seats: Vec<Seat>,
    pub(super) known: Known,
    overlay: Arc<Overlay>,
    voices: Voices,
    /// Parts that stay where they are.
    stays: BTreeSet<[u8; 16]>,
}

impl Ground {
    pub(super) fn seat(&self, deal: u64) -> Option<&Seat> {
        self.seats.iter().find(|seat| seat.deal.id == deal)
    }

    /// Its providers, in the roster's order, where `held_bytes` by deal lie; none has room that its deal lacks.
    pub(super) fn places(&self, held_bytes: &BTreeMap<u64, u64>) -> Vec<Place> {
        let place = |provider: &Provider| {
            let seat = self.seat(provider.deal);
            let held_bytes = held_bytes.get(&provider.deal).copied().unwrap_or(0);
            let room = seat.map_or(0, |seat| seat.deal.state.capacityBytes);
            let full = seat.map_or(0, |seat| seat.deal.state.leaves.saturating_mul(LEAF_BYTES));
            Place {
                candidate: provider.candidate(),
                held_bytes,
                // The ledger learns of what is put a little later.
                free_bytes: room.saturating_sub(full.max(held_bytes)),
                takes: seat.is_some_and(Seat::takes),
            }
        };
        self.roster.iter().map(place).collect()
    }

    /// Shards that may be moved until its overlay is full.
    pub(super) fn steps_left(&self) -> u64 {
        LAID_MAX.saturating_sub(self.overlay.pairs().count()) as u64
    }

    /// Whether nothing of a part may go elsewhere.
    pub(super) fn stays(&self, plot: &Plot) -> bool {
        self.stays.contains(&plot.part.object)
    }

    /// Takes in one page of a part; its stripes and what lies twice go to `seen`.
    fn page(&self, object: [u8; 16], page: &Page, place: &BTreeMap<u64, usize>, seen: &mut Seen) {
        let shape = &self.record.shape;
        // Of another shape it is stored again anyway.
        let is_other = (page.k, page.n) != (shape.k(), shape.n());
        for (at, stripe) in page.stripes.iter().enumerate() {
            let stays = is_other || self.stays.contains(&object) || {
                // By its id a shard is told from the others.
                stripe.ids.iter().collect::<BTreeSet<_>>().len() < stripe.ids.len()
            };
            let (mut slots, mut may_go, mut astray, mut is_whole) = (Vec::new(), Vec::new(), Vec::new(), true);
            for (shard, id) in stripe.ids.iter().enumerate() {
                let named = page.holder(at, shard as u8).map(|holder| holder.deal);
                let found = find(&self.voices, &self.overlay, named, *id);
                let slot = found.deal.and_then(|deal| place.get(&deal).copied());
                if let Some(slot) = slot.filter(|_| found.is_there) {
                    seen.held_bytes[slot] += u64::from(stripe.shard_bytes);
                }
                is_whole &= found.is_there;
                if let Some(deal) = found.declined {
                    *seen.declined.entry(deal).or_default() += 1;
                }
                seen.declined_elsewhere += u64::from(found.is_refused && found.declined.is_none() && found.is_there);
                slots.push(slot);
                may_go.push(found.is_held && !found.is_refused && found.twins.is_empty() && !stays);
                if !stays {
                    seen.twins.extend(found.twins.into_iter().map(|deal| (deal, *id)));
                    astray.extend(Some(shard).filter(|_| found.is_astray && slot.is_some()));
                }
            }
            let (ids, shard_bytes) = (stripe.ids.clone(), stripe.shard_bytes);
            seen.lacking += u64::from(!is_whole);
            seen.stripes.push(Lying { object, ids, shard_bytes, slots, may_go, astray });
        }
    }
}

/// Where one shard is.
#[derive(Debug, PartialEq, Eq)]
struct Found {
    /// The deal that counts.
    deal: Option<u64>,
    is_there: bool,
    /// Everything is expected of who has it.
    is_held: bool,
    /// The deal that counts for a repair, where its provider declines the shard.
    declined: Option<u64>,
    /// Somebody who was to have it declines it, wherever it lies now: it moves nowhere.
    is_refused: bool,
    /// Others that have it too.
    twins: BTreeSet<u64>,
    /// The overlay has it last where it never came.
    is_astray: bool,
}

/// Where a shard counts that its page names in deal `named`: with whoever took it last and has it.
fn find(voices: &Voices, overlay: &Overlay, named: Option<u64>, id: ShardId) -> Found {
    let is_there = |deal: &u64| voices.there.contains(&(*deal, id));
    let is_good = |deal: &u64| voices.is_good(*deal, id);
    let refuses = |deal: &u64| voices.declined.contains(&(*deal, id));
    let laid: Vec<u64> = overlay.deals(&id).collect();
    let (told, last) = (named.into_iter().chain(laid.iter().copied()), laid.last().copied());
    let deal = laid.iter().rev().copied().find(is_good).or(named);
    let is_held = deal.is_some_and(|deal| is_good(&deal));
    // Somebody may be bringing it to who is told last: that one is no twin.
    let twins = told.clone().filter(|other| Some(*other) != deal && Some(*other) != last && is_held);
    let never_came = |last: &u64| Some(*last) != deal && voices.is_asked(*last) && !is_there(last);
    Found {
        is_there: deal.as_ref().is_some_and(is_there),
        is_astray: is_held && last.as_ref().is_some_and(never_came),
        twins: twins.filter(is_there).collect(),
        is_held,
        declined: voices.deal_of(overlay, named, id).filter(refuses),
        is_refused: told.clone().any(|deal| refuses(&deal)),
        deal,
    }
}

/// A stripe as it lies.
pub(super) struct Lying {
    pub(super) object: [u8; 16],
    pub(super) ids: Vec<ShardId>,
    pub(super) shard_bytes: u32,
    /// By shard, the place in the roster that counts; `None` where its deal has ended.
    pub(super) slots: Vec<Option<usize>>,
    /// By shard, whether it may go elsewhere: it is there, and there alone, and nothing binds it.
    pub(super) may_go: Vec<bool>,
    /// Shards that the overlay has last where an interrupted run never brought them.
    pub(super) astray: Vec<usize>,
}

/// What some parts were found to be.
#[derive(Default)]
pub(super) struct Seen {
    /// Bytes of shards that are there, by place in the roster.
    pub(super) held_bytes: Vec<u64>,
    pub(super) stripes: Vec<Lying>,
    /// Shards, by deal, that lie there besides where they count.
    pub(super) twins: Vec<(u64, ShardId)>,
    /// Shards that are declined, by the deal that was to have them.
    pub(super) declined: BTreeMap<u64, u64>,
    /// Shards that lie elsewhere than with who declines them.
    pub(super) declined_elsewhere: u64,
    /// Stripes that lack a shard.
    pub(super) lacking: u64,
    /// Parts whose pages could not be read.
    pub(super) unread_parts: u64,
}

/// Parts that a link tells of, or that nobody may remove yet: their providers keep them whatever is said.
fn staying(run: &Run, now_ms: u64) -> BTreeSet<[u8; 16]> {
    let linked = share::linked(run, now_ms);
    let bound = run.range(Bound::Unbounded).filter(|(key, _)| linked.contains(*key) || is_bound(run, key, now_ms));
    let parts = bound.flat_map(|(_, versions)| versions).flat_map(|entry| &entry.parts);
    parts.map(|part| Part::stored(part).object).collect()
}

impl<E: Runtime, T: Transport> Cloud<E, T> {
    pub(super) async fn ground(&self, bucket: &str) -> Result<Ground, Fault> {
        let record = self.live(bucket).await?;
        self.forget_roster(record.id);
        let roster = self.roster(&record).await?;
        let seats = self.seats(&record, &roster, &[]).await?;
        let overlay = self.overlay(record.id, record.state.overlay, &roster).await;
        let known = self.known(&record).await?;
        let stays = staying(&known.run, self.now_ms());
        let voices = Voices::of(&seats);
        Ok(Ground { record, roster, seats, known, overlay, voices, stays })
    }

    /// Reads these parts' pages and asks who has what they name. Who does not answer has nothing.
    pub(super) async fn see(&self, ground: &mut Ground, plots: Vec<Plot>) -> Seen {
        let read = plots.into_iter().map(|plot| {
            let (cloud, roster) = (self.clone(), ground.roster.clone());
            async move {
                let pages = cloud.0.engine.pages(&roster, plot.part.page(), |verdict| cloud.blame(verdict)).await;
                (plot.part.object, pages)
            }
            .boxed()
        });
        // In the index's order, whoever answers first: what is planned twice, and then done, is the same.
        let read: Vec<_> = stream::iter(read.collect::<Vec<_>>()).buffered(PAGES_AT_ONCE).collect().await;
        let held_bytes = vec![0; ground.roster.len()];
        let (mut seen, mut asked) = (Seen { held_bytes, ..Seen::default() }, Vec::new());
        let mut pages = Vec::new();
        for (object, read) in read {
            match read {
                Ok(read) => pages.extend(read.into_iter().map(|(_, page)| (object, page))),
                Err(error) => {
                    tracing::warn!(%error, "a part's pages cannot be read");
                    seen.unread_parts += 1;
                }
            }
        }
        for (_, page) in &pages {
            asked.extend(page.shards());
            for id in page.stripes.iter().flat_map(|stripe| &stripe.ids) {
                asked.extend(ground.overlay.deals(id).map(|deal| (deal, *id)));
            }
        }
        asked.sort_unstable();
        asked.dedup();
        self.listen(ground, asked).await;
        let place = ground.roster.iter().enumerate().map(|(at, provider)| (provider.deal, at)).collect();
        pages.iter().for_each(|(object, page)| ground.page(*object, page, &place, &mut seen));
        seen
    }

    /// Asks who has these, once more who does not answer; then that one is heard no more.
    async fn listen(&self, ground: &mut Ground, mut asked: Vec<(u64, ShardId)>) {
        asked.retain(|(deal, _)| ground.voices.is_asked(*deal));
        let mut heard = self.0.engine.inventory(&ground.roster, asked.clone()).await;
        if !heard.silent.is_empty() {
            self.0.context.sleep(AGAIN).await;
            asked.retain(|(deal, _)| heard.silent.contains_key(deal));
            let again = self.0.engine.inventory(&ground.roster, asked).await;
            heard.there.extend(again.there);
            heard.declined.extend(again.declined);
            heard.silent = again.silent;
        }
        for (deal, error) in heard.silent {
            tracing::warn!(deal, error, "a provider stopped answering");
            ground.voices.states.insert(deal, (State::Away, false));
        }
        (ground.voices.there, ground.voices.declined) = (heard.there, heard.declined);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_declined_counts_where_a_repair_counts_it_and_moves_nowhere() {
        let (id, mut overlay) = (ShardId([1; 32]), Overlay::default());
        let states = [(7, (State::Answers, true)), (8, (State::Answers, true)), (9, (State::Away, false))];
        let mut voices = Voices { states: states.into(), ..Voices::of(&[]) };
        voices.there.insert((7, id));
        let found = find(&voices, &overlay, Some(7), id);
        assert!(found.is_held && !found.is_refused && found.declined.is_none(), "{found:?}");

        // It is nowhere else: this is what a repair stores again.
        (voices.there, voices.declined) = (BTreeSet::new(), BTreeSet::from([(7, id)]));
        let found = find(&voices, &overlay, Some(7), id);
        assert_eq!((found.declined, found.is_refused, found.is_there), (Some(7), true, false));

        // Whoever got it since is away: nobody knows better.
        overlay.add(id, 9);
        assert_eq!(find(&voices, &overlay, Some(7), id).declined, Some(7));

        // A custodian brought it elsewhere, where it is whole: no repair counts it, and it stays there.
        overlay.add(id, 8);
        voices.there.insert((8, id));
        let found = find(&voices, &overlay, Some(7), id);
        assert_eq!((found.deal, found.declined), (Some(8), None));
        assert!(found.is_held && found.is_refused && found.twins.is_empty(), "{found:?}");
    }
}
