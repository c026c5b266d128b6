//! Count what is left of a bucket's stripes by what its providers say, and by whom custodians gave shards.

use crate::{
    bucket::Record,
    repair::{Seat, State, Voices},
};
use hodei_storage::{
    engine::Provider,
    manifest::Page,
    overlay::Overlay,
    place::{Candidate, has_room},
    repair::{Bar, Count, Fate},
};
use hodei_types::{code::Shape, slice::ShardId};
use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, MutexGuard},
};

/// A bucket as a custodian sees it at a look.
pub(super) struct Scene {
    pub(super) record: Record,
    pub(super) roster: Arc<Vec<Provider>>,
    pub(super) seats: Vec<Seat>,
    pub(super) overlay: Arc<Overlay>,
    pub(super) voices: Voices,
    /// Deals that refused a shard, or failed to take it: nothing more is brought there at this look.
    pub(super) refused: Mutex<BTreeSet<u64>>,
    /// Times deals were opened at this look.
    pub(super) joins: u32,
}

/// A stripe that lacks too much.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Due {
    /// How many more of its shards may go.
    pub(super) margin: u16,
    pub(super) id: ShardId,
    pub(super) page: Arc<Page>,
    pub(super) at: usize,
    /// Shards that are there, and in which deals.
    pub(super) there: Vec<(u8, u64)>,
    /// What others shall have: what is lost, and what lies with those who leave.
    pub(super) lost: Vec<u8>,
    /// Shards that deals declined: these are tried there no more, others are.
    pub(super) declined: Vec<(u8, u64)>,
}

impl Due {
    /// The id of one of the stripe's shards.
    pub(super) fn shard(&self, shard: u8) -> ShardId {
        self.page.stripes[self.at].ids[usize::from(shard)]
    }

    /// Takes shards as found that one of these has beside what was told: rather with who has no other of the stripe, else
    /// with one who `fits` beside those that are there. Gives which are in which deals.
    pub(super) fn find(
        &mut self,
        takers: &[u64],
        there: &BTreeSet<(u64, ShardId)>,
        fits: impl Fn(&Self, u8, u64) -> bool,
    ) -> Vec<(ShardId, u64)> {
        let mut found = Vec::new();
        for shard in std::mem::take(&mut self.lost) {
            let id = self.shard(shard);
            let is_free = |deal: &u64| !self.there.iter().any(|(known, has)| has == deal && *known != shard);
            let has = || takers.iter().copied().filter(|deal| there.contains(&(*deal, id)));
            let deal = has().find(is_free).or_else(|| has().find(|deal| fits(self, shard, *deal)));
            match deal {
                Some(deal) => {
                    self.there.retain(|(known, _)| *known != shard);
                    self.there.push((shard, deal));
                    found.push((id, deal));
                }
                None => self.lost.push(shard),
            }
        }
        found
    }
}

impl Scene {
    /// The shape a page was stored in: the bucket's, or one it had before.
    pub(super) fn shape(&self, page: &Page) -> Shape {
        let now = self.record.shape;
        let is_now = (now.k(), now.n()) == (page.k, page.n);
        let before = || Shape::new(page.k, page.n, 1).unwrap_or(now);
        if is_now { now } else { before() }
    }

    /// Everything whose whereabouts matter for a page: its shards where it and the overlay have them, and its copies,
    /// which may be anywhere.
    pub(super) fn questions(&self, id: ShardId, page: &Page) -> Vec<(u64, ShardId)> {
        let mut asked: Vec<(u64, ShardId)> = page.shards().collect();
        for id in page.stripes.iter().flat_map(|stripe| &stripe.ids) {
            asked.extend(self.overlay.deals(id).map(|deal| (deal, *id)));
        }
        asked.extend(self.anywhere(id));
        asked.retain(|(deal, _)| self.voices.is_asked(*deal));
        asked
    }

    /// The same of one stripe's shards.
    pub(super) fn questions_of(&self, page: &Page, at: usize) -> Vec<(u64, ShardId)> {
        let ids = page.stripes[at].ids.iter().enumerate();
        let told = ids.flat_map(|(shard, id)| {
            let named = page.holder(at, shard as u8).map(|holder| holder.deal);
            named.into_iter().chain(self.overlay.deals(id)).map(move |deal| (deal, *id))
        });
        told.filter(|(deal, _)| self.voices.is_asked(*deal)).collect()
    }

    /// The same of what is copied.
    pub(super) fn anywhere(&self, id: ShardId) -> impl Iterator<Item = (u64, ShardId)> + '_ {
        let deals = self.roster.iter().map(|provider| provider.deal);
        deals.filter(|deal| self.voices.is_asked(*deal)).map(move |deal| (deal, id))
    }

    /// Whether a deal may have one of a stripe's shards beside those that are there, within the caps.
    pub(super) fn fits(&self, due: &Due, shard: u8, deal: u64) -> bool {
        let candidate = |deal: u64| self.roster.iter().find(|provider| provider.deal == deal).map(Provider::candidate);
        let others = due.there.iter().filter(|(known, _)| *known != shard);
        let others: Vec<Candidate> = others.filter_map(|(_, deal)| candidate(*deal)).collect();
        let others: Vec<&Candidate> = others.iter().collect();
        candidate(deal).is_some_and(|candidate| has_room(&self.shape(&due.page), &others, &candidate))
    }

    /// Deals that have a copy.
    pub(super) fn copies(&self, id: ShardId) -> Vec<u64> {
        let has = |deal: &u64| self.voices.there.contains(&(*deal, id));
        self.roster.iter().map(|provider| provider.deal).filter(has).collect()
    }

    /// Deals that stay, though some may rest: what they have counts.
    pub(super) fn keepers(&self) -> Vec<u64> {
        self.seats.iter().filter(|seat| seat.stays()).map(|seat| seat.deal.id).collect()
    }

    /// Those of them that give what they have now.
    pub(super) fn givers(&self) -> Vec<u64> {
        self.seats.iter().filter(|seat| seat.stays() && !seat.is_shut()).map(|seat| seat.deal.id).collect()
    }

    /// Those of them that take shards now, as far as is known.
    pub(super) fn takers(&self) -> Vec<u64> {
        let refused = self.refused();
        let takes = |seat: &&Seat| seat.takes() && !refused.contains(&seat.deal.id);
        self.seats.iter().filter(takes).map(|seat| seat.deal.id).collect()
    }

    /// Whether what it has is not counted on for the proofs that it missed.
    pub(super) fn is_doubted(&self, deal: u64) -> bool {
        let doubted = |seat: &Seat| matches!(seat.state, State::Doubted | State::Closed);
        self.seats.iter().any(|seat| seat.deal.id == deal && doubted(seat))
    }

    fn refused(&self) -> MutexGuard<'_, BTreeSet<u64>> {
        self.refused.lock().expect("no panic under this lock")
    }

    /// It did not take what it was brought: others are, for the rest of this look.
    pub(super) fn refuse(&self, deal: u64) {
        self.refused().insert(deal);
    }

    /// How many did not.
    pub(super) fn refusals(&self) -> usize {
        self.refused().len()
    }

    /// Who was silent is asked nothing more at this look.
    pub(super) fn fall_silent<'a>(&mut self, silent: impl IntoIterator<Item = &'a u64>) {
        self.voices.fall_silent(&mut self.seats, silent);
    }

    /// Copies that there should be of what is not coded.
    pub(super) fn wanted_copies(&self) -> usize {
        self.record.shape.page_copies().min(self.keepers().len())
    }

    /// What is left of a stripe, and what is to be done about it if anything is.
    pub(super) fn stripe(&self, id: ShardId, page: &Arc<Page>, at: usize) -> (Count, Option<Due>) {
        let (mut count, mut there, mut lost, mut back) = (Count::default(), Vec::new(), Vec::new(), Vec::new());
        let (mut leaving, mut declined) = (Vec::new(), Vec::new());
        for (shard, id) in page.stripes[at].ids.iter().enumerate() {
            let shard = shard as u8;
            let named = page.holder(at, shard).map(|holder| holder.deal);
            let told = named.into_iter().chain(self.overlay.deals(id));
            let told = told.filter(|deal| self.voices.declined.contains(&(*deal, *id)));
            declined.extend(told.map(|deal| (shard, deal)));
            let Some(deal) = self.voices.deal_of(&self.overlay, named, *id) else { continue };
            let before = count;
            if self.voices.count(&mut count, deal, *id) {
                there.push((shard, deal));
            }
            if count.leaving > before.leaving {
                leaving.push(shard);
            }
            if count.back > before.back {
                back.push(shard);
            } else if (count.there, count.leaving) == (before.there, before.leaving) {
                lost.push(shard);
            }
        }
        if Bar::data(&self.shape(page), false).fate(count) != Fate::Due {
            return (count, None);
        }
        // Whoever is expected back is waited for, unless nothing more may go.
        if lost.is_empty() || count.there <= page.k.into() {
            lost.append(&mut back);
        }
        lost.append(&mut leaving);
        let margin = (count.there + count.spare).saturating_sub(page.k.into());
        (count, Some(Due { margin, id, page: page.clone(), at, there, lost, declined }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hodei_storage::manifest::{Holder, Stripe};
    use hodei_types::{code::CodeId, transport::NodeKey};

    fn id(shard: u8) -> ShardId {
        ShardId([shard; 32])
    }

    #[test]
    fn what_somebody_brought_and_did_not_say_is_found_once_and_rather_with_who_has_no_other() {
        let stripe = Stripe { shard_bytes: 4096, ids: (0..6).map(id).collect(), moved: Vec::new() };
        let holders = (0..6).map(|at| Holder { node: NodeKey([at; 32]), deal: at.into() }).collect();
        let page = Page { code: CodeId::Rs8, k: 3, n: 6, holders, stripes: vec![stripe], pads: None };
        // Shard 4 lies with one that leaves, 5 with nobody.
        let mut due = Due {
            margin: 1,
            id: id(99),
            page: Arc::new(page),
            at: 0,
            there: (0..5).map(|shard| (shard, shard.into())).collect(),
            lost: vec![5, 4],
            declined: Vec::new(),
        };
        let takers = [0, 1, 2, 3, 6, 7];
        let there = BTreeSet::from([(0, id(5)), (6, id(4)), (7, id(4)), (7, id(1))]);
        let nobody = |_: &Due, _, _| false;
        assert_eq!(due.find(&takers, &there, nobody), [(id(4), 6)], "0 has one of the stripe already");
        assert_eq!((due.lost.clone(), due.there.contains(&(4, 6)), due.there.len()), (vec![5], true, 5));
        let mut doubled = due.clone();
        assert_eq!(doubled.find(&takers, &there, |_, _, deal| deal == 0), [(id(5), 0)], "where the caps let it");
        let there = BTreeSet::from([(6, id(5)), (7, id(5))]);
        assert_eq!(due.find(&takers, &there, nobody), [(id(5), 7)], "6 took another");
        assert!(due.lost.is_empty() && due.find(&takers, &there, nobody).is_empty());
    }
}
