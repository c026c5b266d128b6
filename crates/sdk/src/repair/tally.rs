//! Take in what providers say of all that an index names, and judge part by part.
//!
//! Parts come in waves, each part once, whatever names it. What is kept of one is what became of it.

use super::{
    seat::{Seat, State},
    survey::{Ask, NAMED_MAX, Survey, Unreadable},
};
use crate::{retain::is_bound, share};
use hodei_storage::{
    index::{Part, Run},
    manifest::{Page, PageRef},
    overlay::Overlay,
    repair::{Bar, Count, Fate, Margins, least},
};
use hodei_types::{code::Shape, slice::ShardId};
use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Bound,
    sync::Arc,
};

#[cfg(test)]
mod tests;

/// Shards of one wave, pages among them, and its parts: 16 MiB of ids and what is said of them.
const WAVE_SHARDS: u64 = 64 << 10;
const WAVE_PARTS: usize = 512;
/// A part to look at.
pub(super) struct Plot {
    pub(super) part: Part,
    /// Some version that names it can name another.
    pub(super) is_movable: bool,
    pub(super) is_index: bool,
}

/// Objects of all stored parts, and whether something that names each can name another.
pub(super) fn objects(run: &Run, now_ms: u64) -> (BTreeMap<[u8; 16], bool>, u64) {
    let linked = share::linked(run, now_ms);
    let (mut objects, mut bytes) = (BTreeMap::new(), 0);
    for (key, versions) in run.range(Bound::Unbounded) {
        let stays = linked.contains(key) || is_bound(run, key, now_ms);
        for entry in versions {
            for stored in entry.parts.iter().map(Part::stored) {
                let can_move = !stays && (entry.customer.is_none() || stored.is_pack());
                let is_movable = objects.entry(stored.object).or_insert_with(|| {
                    bytes += stored.size_bytes;
                    false
                });
                *is_movable |= can_move;
            }
        }
    }
    (objects, bytes)
}

/// Parts behind a key that were not looked at, about a wave of them, and the key they end with.
pub(super) fn wave(run: &Run, after: Option<&str>, todo: &mut BTreeMap<[u8; 16], bool>) -> (Vec<Plot>, Option<String>) {
    let from = after.map_or(Bound::Unbounded, Bound::Excluded);
    let (mut plots, mut shards) = (Vec::new(), 0);
    for (key, versions) in run.range(from) {
        for stored in versions.iter().flat_map(|entry| &entry.parts).map(Part::stored) {
            if let Some(is_movable) = todo.remove(&stored.object) {
                shards += shards_of(stored);
                plots.push(Plot { part: stored.clone(), is_movable, is_index: false });
            }
        }
        if plots.len() >= WAVE_PARTS || shards >= WAVE_SHARDS {
            return (plots, Some(key.to_owned()));
        }
    }
    (plots, None)
}

fn shards_of(part: &Part) -> u64 {
    u64::from(part.page().stripes) * u64::from(part.shape.n())
}

/// Cuts where one key brought more than a wave.
pub(super) fn cut(plots: Vec<Plot>) -> Vec<Vec<Plot>> {
    let mut waves: Vec<Vec<Plot>> = Vec::new();
    let mut shards = WAVE_SHARDS;
    for plot in plots {
        if shards >= WAVE_SHARDS {
            waves.push(Vec::new());
            shards = 0;
        }
        shards += shards_of(&plot.part);
        waves.last_mut().expect("the first begins one").push(plot);
    }
    waves
}

/// What becomes of a shard with one of those that may have it, the least first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Worth {
    Nothing,
    /// It may come back.
    Away,
    /// It is taken to come back.
    Awaited,
    /// Refused: it is put elsewhere.
    Declined,
    /// There, and not given now: an old copy, where another gives it.
    Kept,
    /// Given by one of whom nothing is expected.
    Given,
    /// Given by one that leaves: it is moved.
    Leaves,
    Held,
}

/// What each deal's word is worth.
pub(crate) struct Voices {
    pub(crate) states: BTreeMap<u64, (State, bool)>,
    pub(crate) there: BTreeSet<(u64, ShardId)>,
    /// What they refuse to have.
    pub(crate) declined: BTreeSet<(u64, ShardId)>,
    /// Those that give nothing for now: what they have comes back later.
    pub(crate) shut: BTreeSet<u64>,
}

impl Voices {
    pub(crate) fn of(seats: &[Seat]) -> Self {
        let states = seats.iter().map(|seat| (seat.deal.id, (seat.state, seat.answers)));
        let shut = seats.iter().filter(|seat| seat.is_shut()).map(|seat| seat.deal.id);
        Self { states: states.collect(), there: BTreeSet::new(), declined: BTreeSet::new(), shut: shut.collect() }
    }

    /// Who was silent is asked no more.
    pub(crate) fn fall_silent<'a>(&mut self, seats: &mut [Seat], silent: impl IntoIterator<Item = &'a u64>) {
        for deal in silent {
            let Some(seat) = seats.iter_mut().find(|seat| seat.deal.id == *deal) else { continue };
            seat.fall_silent();
            self.states.insert(*deal, (seat.state, false));
            self.shut.remove(deal);
        }
    }

    /// Whether it is asked: also one of whom nothing is expected, since what it has can be read.
    pub(crate) fn is_asked(&self, deal: u64) -> bool {
        matches!(self.states.get(&deal), Some((state, true)) if !matches!(state, State::GivenUp))
    }

    /// The deal that counts for a shard, of the one its page names and those that custodians gave it to: whose word is
    /// worth most, and of several who took it last.
    pub(crate) fn deal_of(&self, overlay: &Overlay, named: Option<u64>, id: ShardId) -> Option<u64> {
        let told = named.into_iter().chain(overlay.deals(&id)).map(|deal| (self.worth(deal, id), deal));
        let best = told.max_by_key(|(worth, _)| *worth).filter(|(worth, _)| *worth > Worth::Nothing);
        best.map(|(_, deal)| deal).or(named)
    }

    fn worth(&self, deal: u64, id: ShardId) -> Worth {
        let state = self.states.get(&deal).map(|(state, _)| *state);
        let has = self.there.contains(&(deal, id));
        match state {
            _ if has && self.shut.contains(&deal) => Worth::Kept,
            Some(State::Answers) if has => Worth::Held,
            Some(State::Leaving) if has => Worth::Leaves,
            _ if has => Worth::Given,
            _ if self.declined.contains(&(deal, id)) => Worth::Declined,
            Some(State::Away) => Worth::Awaited,
            Some(State::Missing | State::Unreached) => Worth::Away,
            _ => Worth::Nothing,
        }
    }

    /// Deals with those who leave that have a shard which nobody gives now: without them it may be nowhere.
    pub(super) fn needed(&self, overlay: &Overlay, named: Option<u64>, id: ShardId) -> Vec<u64> {
        let told = || named.into_iter().chain(overlay.deals(&id));
        let has = |deal: &u64| self.there.contains(&(*deal, id));
        let leaves = |deal: &u64| matches!(self.states.get(deal), Some((State::Leaving, _)));
        match told().any(|deal| has(&deal) && !self.shut.contains(&deal)) {
            true => Vec::new(),
            false => told().filter(|deal| has(deal) && leaves(deal)).collect(),
        }
    }

    /// Whether one of whom everything is expected has a shard.
    pub(super) fn is_good(&self, deal: u64, id: ShardId) -> bool {
        matches!(self.states.get(&deal), Some((State::Answers, _)))
            && self.there.contains(&(deal, id))
            && !self.shut.contains(&deal)
    }

    /// Takes a shard into a stripe's count; gives whether it is there, and can be had.
    pub(crate) fn count(&self, count: &mut Count, deal: u64, id: ShardId) -> bool {
        let is_held = self.there.contains(&(deal, id));
        if is_held && self.shut.contains(&deal) {
            match self.states.get(&deal) {
                Some((State::Answers | State::Leaving, _)) => count.back += 1,
                _ => count.away += 1,
            }
            return false;
        }
        // By its own word it will not have it again: whoever it is, somebody else shall.
        count.declined += u16::from(self.declined.contains(&(deal, id)));
        match self.states.get(&deal) {
            Some((State::Answers, _)) if is_held => count.there += 1,
            Some((State::Leaving, _)) if is_held => {
                count.spare += 1;
                count.leaving += 1;
            }
            Some((State::Doubted | State::Closed | State::Ending, _)) if is_held => count.spare += 1,
            Some((State::Closed | State::Missing | State::Unreached, false)) => count.away += 1,
            Some((State::Away, _)) => count.back += 1,
            _ => {}
        }
        is_held
    }
}

/// What became of what the index says that a deal has.
#[derive(Clone, Copy, Default)]
struct Named {
    named: u64,
    there: u64,
    kept: u64,
    declined: u64,
}

/// The survey as it grows.
pub(super) struct Tally {
    pub(super) survey: Survey,
    pub(super) all: bool,
    /// Providers that take shards now.
    pub(super) takers: usize,
    /// Where custodians put shards.
    pub(super) overlay: Arc<Overlay>,
    /// Whether they may have put copies of pages elsewhere too, which nothing names: everybody is asked for those.
    pub(super) is_tended: bool,
    /// Parts that cannot be read: stripes, and whether they may come back.
    lost: BTreeMap<[u8; 16], (u64, bool)>,
    /// By deal: what the index names, and what is there of it, and declined.
    named: BTreeMap<u64, Named>,
    /// By deal: what its provider declines of all it was asked for.
    declined: BTreeMap<u64, u64>,
}

impl Tally {
    pub(super) fn new(shape: Shape, ask: &Ask, seats: Vec<Seat>, overlay: Arc<Overlay>) -> Self {
        let takers = seats.iter().filter(|seat| seat.takes()).count();
        let survey = Survey {
            shape,
            least: if ask.all { shape.n() } else { least(&shape) },
            seats,
            parts: 0,
            bytes: 0,
            stripes: Margins::default(),
            index: Margins::default(),
            pages: Margins::default(),
            due_parts: 0,
            due_bytes: 0,
            is_index_due: false,
            kept_parts: 0,
            unreadable: Vec::new(),
            unreadable_objects: 0,
            due: BTreeSet::new(),
            needed: BTreeSet::new(),
            is_root_due: false,
        };
        Self {
            survey,
            all: ask.all,
            takers,
            overlay,
            is_tended: false,
            lost: BTreeMap::new(),
            named: BTreeMap::new(),
            declined: BTreeMap::new(),
        }
    }

    /// By what a part is measured, which may be of a shape the bucket had before.
    fn bar(&self, plot: &Plot) -> Bar {
        match plot.is_index {
            true => Bar::index(&plot.part.shape, self.all),
            false => Bar::data(&plot.part.shape, self.all),
        }
    }

    /// Counts copies of something that is copied, as the index names them and as others have it besides.
    pub(super) fn copies(&mut self, voices: &Voices, id: ShardId, deals: &[u64], bar: Bar) -> Fate {
        let mut count = Count::default();
        for deal in deals {
            let is_there = voices.count(&mut count, *deal, id);
            self.name(voices, *deal, id, is_there);
        }
        let others = self.survey.seats.iter().map(|seat| seat.deal.id).filter(|deal| !deals.contains(deal));
        let others = others.filter(|deal| voices.there.contains(&(*deal, id)));
        let has_others = others.map(|deal| voices.count(&mut count, deal, id)).count() > 0;
        self.survey.pages.add(count, 1, u16::try_from(deals.len()).unwrap_or(u16::MAX));
        let bar = bar.pages(self.takers);
        // Where those who stay have enough, the copies of who leaves or refuses are not missed.
        let of_others = Count { leaving: 0, declined: 0, ..count };
        match has_others && bar.fate(of_others) == Fate::Enough {
            true => Fate::Enough,
            false => bar.fate(count),
        }
    }

    fn name(&mut self, voices: &Voices, deal: u64, id: ShardId, is_there: bool) {
        let its = self.named.entry(deal).or_default();
        its.named += 1;
        its.there += u64::from(is_there);
        its.kept += u64::from(voices.shut.contains(&deal) && voices.there.contains(&(deal, id)));
        its.declined += u64::from(voices.declined.contains(&(deal, id)));
    }

    /// Takes in what providers declined when they were asked for a wave.
    pub(super) fn decline(&mut self, declined: &BTreeSet<(u64, ShardId)>) {
        for (deal, _) in declined {
            *self.declined.entry(*deal).or_default() += 1;
        }
    }

    /// Takes a part whose pages were read.
    pub(super) fn part(&mut self, plot: &Plot, pages: &[(PageRef, Page)], voices: &Voices) {
        let (bar, shape) = (self.bar(plot), plot.part.shape);
        let (mut fate, mut lost, mut may_return) = (Fate::Enough, 0, true);
        for (_, page) in pages {
            for (at, stripe) in page.stripes.iter().enumerate() {
                let mut count = Count::default();
                for (shard, id) in stripe.ids.iter().enumerate() {
                    let named = page.holder(at, shard as u8).map(|holder| holder.deal);
                    let Some(deal) = voices.deal_of(&self.overlay, named, *id) else { continue };
                    let is_there = voices.count(&mut count, deal, *id);
                    self.name(voices, deal, *id, is_there);
                    self.survey.needed.extend(voices.needed(&self.overlay, named, *id));
                }
                let margins = if plot.is_index { &mut self.survey.index } else { &mut self.survey.stripes };
                margins.add(count, shape.k().into(), shape.n().into());
                let its = bar.fate(count);
                if its >= Fate::OutOfReach {
                    lost += 1;
                    may_return &= its == Fate::OutOfReach;
                }
                fate = fate.max(its);
            }
        }
        let list = (pages.len() > 1).then(|| plot.part.page());
        for place in list.into_iter().chain(pages.iter().map(|(place, _)| place)) {
            let deals: Vec<u64> = place.holders.iter().map(|holder| holder.deal).collect();
            // It was read a moment ago, whoever had it.
            fate = fate.max(self.copies(voices, place.id, &deals, bar).min(Fate::Due));
        }
        self.settle(plot, fate, (lost, may_return));
    }

    /// Takes a part none of whose pages can be read.
    pub(super) fn blank(&mut self, plot: &Plot) {
        let stripes = u64::from(plot.part.page().stripes);
        let margins = if plot.is_index { &mut self.survey.index } else { &mut self.survey.stripes };
        margins.lost += stripes;
        self.survey.pages.lost += 1;
        let may_return = |seat: &Seat| (!seat.answers && seat.state != State::GivenUp) || seat.is_shut();
        let may_return = self.survey.seats.iter().any(may_return);
        self.settle(plot, Fate::OutOfReach, (stripes, may_return));
    }

    fn settle(&mut self, plot: &Plot, fate: Fate, lost: (u64, bool)) {
        let part = &plot.part;
        if !plot.is_index {
            self.survey.parts += 1;
            self.survey.bytes += part.size_bytes;
        }
        match fate {
            Fate::Enough => {}
            Fate::Due if plot.is_index => {
                self.survey.is_index_due = true;
                self.survey.due.insert(part.object);
            }
            Fate::Due if plot.is_movable => {
                self.survey.due_parts += 1;
                self.survey.due_bytes += part.size_bytes;
                self.survey.due.insert(part.object);
            }
            Fate::Due => self.survey.kept_parts += 1,
            Fate::OutOfReach | Fate::Lost => _ = self.lost.insert(part.object, lost),
        }
    }

    /// Names what cannot be read, and ends.
    pub(super) fn end(mut self, run: &Run) -> Survey {
        for (key, versions) in run.range(Bound::Unbounded).filter(|_| !self.lost.is_empty()) {
            let parts = versions.iter().flat_map(|entry| &entry.parts).map(|part| part.stored().object);
            let objects: BTreeSet<[u8; 16]> = parts.filter(|object| self.lost.contains_key(object)).collect();
            if objects.is_empty() {
                continue;
            }
            self.survey.unreadable_objects += 1;
            if self.survey.unreadable.len() < NAMED_MAX {
                let its = objects.iter().map(|object| self.lost[object]);
                let (stripes, may_return) = its.fold((0, true), |(all, may), (count, can)| (all + count, may & can));
                self.survey.unreadable.push(Unreadable { key: key.to_owned(), stripes, may_return });
            }
        }
        for seat in &mut self.survey.seats {
            let its = self.named.get(&seat.deal.id).copied().unwrap_or_default();
            (seat.named, seat.there, seat.kept, seat.named_declined) = (its.named, its.there, its.kept, its.declined);
            seat.declined = self.declined.get(&seat.deal.id).copied().unwrap_or_default();
        }
        self.survey
    }
}
