//! Ask each provider of a bucket what it still has of all that the index names.
//!
//! ```text
//! index → parts, packs once, its own layers → pages (any copy) → ids by deal → HAS, in batches → counts by stripe
//! ```
//! Nothing is changed, and nothing read but pages. A wave of parts is looked at at a time: of each, only what became of
//! it is kept. A provider's word that it has a shard is believed here; proofs and reads find who lies.

#[cfg(test)]
mod tests;

use super::{
    margin::{Bar, Count, Fate, Margins, least},
    seat::{Seat, State},
};
use crate::{
    bucket::Record,
    cloud::{Cloud, Runtime},
    fault::Fault,
    retain::is_bound,
    share,
};
use futures::{StreamExt as _, stream};
use hodei_storage::{
    engine::{GetError, Provider},
    index::{Part, Run},
    manifest::{Page, PageRef},
};
use hodei_types::{
    code::Shape,
    slice::ShardId,
    transport::{NodeKey, Transport},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Bound,
    sync::Arc,
    time::Duration,
};

/// Shards of one wave, pages among them, and its parts: 16 MiB of ids and what is said of them.
const WAVE_SHARDS: u64 = 64 << 10;
const WAVE_PARTS: usize = 512;
/// Pages read at once.
const PAGES_AT_ONCE: usize = 16;
/// A provider that stops answering on the way is asked once more after this.
const AGAIN: Duration = Duration::from_secs(2);
/// Objects named that cannot be read; the others are counted.
pub const NAMED_MAX: usize = 1000;

/// What is asked for.
#[derive(Clone, Debug, Default)]
pub struct Ask {
    /// Providers that do not come back, by their owner's word.
    pub without: Vec<NodeKey>,
    /// Store again whatever lacks a shard, also where enough are left.
    pub all: bool,
}

/// An object of which something cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unreadable {
    pub key: String,
    /// Stripes that have too few shards.
    pub stripes: u64,
    /// Whether providers that are away may bring them back.
    pub may_return: bool,
}

/// What is left of a bucket.
#[derive(Clone, Debug)]
pub struct Survey {
    pub shape: Shape,
    /// Shards of a stripe below which it is stored again.
    pub least: u8,
    pub seats: Vec<Seat>,
    /// Parts of objects, packs once, and their bytes of user data.
    pub parts: u64,
    pub bytes: u64,
    pub stripes: Margins,
    /// Stripes of the index's own layers.
    pub index: Margins,
    /// Copies of pages, and of the index's root.
    pub pages: Margins,
    /// To be stored again.
    pub due_parts: u64,
    pub due_bytes: u64,
    /// Whether the index is.
    pub is_index_due: bool,
    /// Parts that should be and cannot: under customers' keys, told of by links, or locked so that nobody removes them.
    pub kept_parts: u64,
    /// Objects of which something cannot be read: some by name, and all of them counted.
    pub unreadable: Vec<Unreadable>,
    pub unreadable_objects: u64,
    /// Ids of the parts that are due.
    pub(super) due: BTreeSet<[u8; 16]>,
    /// Whether the index's root has too few copies.
    pub(super) is_root_due: bool,
}

impl Survey {
    /// Whether there is nothing to store again.
    pub fn is_well(&self) -> bool {
        self.due_parts == 0 && !self.is_index_due
    }

    /// Providers in a state.
    pub fn count(&self, state: State) -> usize {
        self.seats.iter().filter(|seat| seat.state == state).count()
    }
}

/// A part to look at.
struct Plot {
    part: Part,
    /// Some version that names it can name another.
    is_movable: bool,
    is_index: bool,
}

/// Objects of all stored parts, and whether something that names each can name another.
fn objects(run: &Run, now_ms: u64) -> (BTreeMap<[u8; 16], bool>, u64) {
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
fn wave(run: &Run, after: Option<&str>, todo: &mut BTreeMap<[u8; 16], bool>) -> (Vec<Plot>, Option<String>) {
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
fn cut(plots: Vec<Plot>) -> Vec<Vec<Plot>> {
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

/// What each deal's word is worth.
struct Voices {
    states: BTreeMap<u64, (State, bool)>,
    there: BTreeSet<(u64, ShardId)>,
}

impl Voices {
    fn of(seats: &[Seat]) -> Self {
        let states = seats.iter().map(|seat| (seat.deal.id, (seat.state, seat.answers)));
        Self { states: states.collect(), there: BTreeSet::new() }
    }

    /// Whether it is asked: also one of whom nothing is expected, since what it has can be read.
    fn is_asked(&self, deal: u64) -> bool {
        matches!(self.states.get(&deal), Some((state, true)) if !matches!(state, State::GivenUp))
    }

    /// Takes a shard into a stripe's count; gives whether it is there.
    fn count(&self, count: &mut Count, deal: u64, id: ShardId) -> bool {
        let is_held = self.there.contains(&(deal, id));
        match self.states.get(&deal) {
            Some((State::Answers, _)) if is_held => count.there += 1,
            Some((State::Doubted | State::Closed | State::Ending, _)) if is_held => count.spare += 1,
            Some((State::Closed | State::Missing, false)) => count.away += 1,
            Some((State::Away, _)) => count.back += 1,
            _ => {}
        }
        is_held
    }
}

/// The survey as it grows.
struct Tally {
    survey: Survey,
    all: bool,
    /// Providers that take shards now.
    takers: usize,
    /// Parts that cannot be read: stripes, and whether they may come back.
    lost: BTreeMap<[u8; 16], (u64, bool)>,
    named: BTreeMap<u64, (u64, u64)>,
}

impl Tally {
    fn new(shape: Shape, ask: &Ask, seats: Vec<Seat>) -> Self {
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
            is_root_due: false,
        };
        Self { survey, all: ask.all, takers, lost: BTreeMap::new(), named: BTreeMap::new() }
    }

    /// By what a part is measured, which may be of a shape the bucket had before.
    fn bar(&self, plot: &Plot) -> Bar {
        match plot.is_index {
            true => Bar::index(&plot.part.shape, self.all),
            false => Bar::data(&plot.part.shape, self.all),
        }
    }

    /// Counts copies of something that is copied.
    fn copies(&mut self, voices: &Voices, id: ShardId, deals: &[u64], bar: Bar) -> Fate {
        let mut count = Count::default();
        for deal in deals {
            let is_there = voices.count(&mut count, *deal, id);
            self.name(*deal, is_there);
        }
        self.survey.pages.add(count, 1, u16::try_from(deals.len()).unwrap_or(u16::MAX));
        bar.pages(self.takers).fate(count)
    }

    fn name(&mut self, deal: u64, is_there: bool) {
        let (named, there) = self.named.entry(deal).or_default();
        *named += 1;
        *there += u64::from(is_there);
    }

    /// Takes a part whose pages were read.
    fn part(&mut self, plot: &Plot, pages: &[(PageRef, Page)], voices: &Voices) {
        let (bar, shape) = (self.bar(plot), plot.part.shape);
        let (mut fate, mut lost, mut may_return) = (Fate::Enough, 0, true);
        for (_, page) in pages {
            for (at, stripe) in page.stripes.iter().enumerate() {
                let mut count = Count::default();
                for (shard, id) in stripe.ids.iter().enumerate() {
                    let Some(holder) = page.holder(at, shard as u8) else { continue };
                    let is_there = voices.count(&mut count, holder.deal, *id);
                    self.name(holder.deal, is_there);
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
    fn blank(&mut self, plot: &Plot) {
        let stripes = u64::from(plot.part.page().stripes);
        let margins = if plot.is_index { &mut self.survey.index } else { &mut self.survey.stripes };
        margins.lost += stripes;
        self.survey.pages.lost += 1;
        let may_return = self.survey.seats.iter().any(|seat| !seat.answers && seat.state != State::GivenUp);
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
    fn end(mut self, run: &Run) -> Survey {
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
            (seat.named, seat.there) = self.named.get(&seat.deal.id).copied().unwrap_or_default();
        }
        self.survey
    }
}

impl<E: Runtime, T: Transport> Cloud<E, T> {
    /// Looks at all that a bucket's index names; changes nothing. Tells how many bytes of user data of how many were
    /// looked at.
    pub async fn survey(
        &self,
        bucket: &str,
        ask: &Ask,
        told: impl Fn(u64, u64) + Send + Sync,
    ) -> Result<Survey, Fault> {
        let record = self.live(bucket).await?;
        self.forget_roster(record.id);
        let roster = self.roster(&record).await?;
        let seats = self.seats(&record, &roster, &ask.without).await?;
        let known = self.known(&record).await?;
        let run: Arc<Run> = known.run.clone();
        let mut voices = Voices::of(&seats);
        let mut tally = Tally::new(record.shape, ask, seats);
        let layers = known.layers.iter().map(|layer| layer.part.clone());
        let layers = layers.map(|part| Plot { part, is_movable: true, is_index: true }).collect();
        self.look_at(&roster, layers, &mut voices, &mut tally).await?;
        self.root(&record, &roster, &mut voices, &mut tally).await;
        let (mut todo, total) = objects(&run, self.now_ms());
        let mut after = None;
        loop {
            let (plots, last) = wave(&run, after.as_deref(), &mut todo);
            for plots in cut(plots) {
                self.look_at(&roster, plots, &mut voices, &mut tally).await?;
                told(tally.survey.bytes, total);
            }
            after = last;
            if after.is_none() {
                break;
            }
        }
        Ok(tally.end(&run))
    }

    /// Looks at a wave of parts.
    async fn look_at(
        &self,
        roster: &Arc<Vec<Provider>>,
        plots: Vec<Plot>,
        voices: &mut Voices,
        tally: &mut Tally,
    ) -> Result<(), Fault> {
        let read = stream::iter(plots).map(|plot: Plot| {
            let (cloud, roster) = (self.clone(), roster.clone());
            async move {
                let pages = cloud.0.engine.pages(&roster, plot.part.page(), |verdict| cloud.blame(verdict)).await;
                (plot, pages)
            }
        });
        let read: Vec<_> = read.buffer_unordered(PAGES_AT_ONCE).collect().await;
        let mut asked = Vec::new();
        for (plot, pages) in &read {
            match pages {
                Ok(pages) => {
                    let list = (pages.len() > 1).then(|| plot.part.page());
                    asked.extend(list.into_iter().flat_map(PageRef::copies));
                    asked.extend(pages.iter().flat_map(|(place, page)| place.copies().chain(page.shards())));
                }
                Err(GetError::Stopped) => return Err(GetError::Stopped.into()),
                Err(_) => {}
            }
        }
        self.hear(roster, asked, voices, tally).await;
        for (plot, pages) in &read {
            match pages {
                Ok(pages) => tally.part(plot, pages, voices),
                Err(error) => {
                    tracing::warn!(%error, "a part's pages cannot be read");
                    tally.blank(plot);
                }
            }
        }
        Ok(())
    }

    /// Looks at the copies of the index's root, which any provider may have.
    async fn root(&self, record: &Record, roster: &Arc<Vec<Provider>>, voices: &mut Voices, tally: &mut Tally) {
        let root = ShardId(record.state.root.0);
        let everywhere = roster.iter().map(|provider| (provider.deal, root));
        self.hear(roster, everywhere.collect(), voices, tally).await;
        // Who it was left with is not written down; some that are away may have one.
        let deals: Vec<u64> = voices.there.iter().map(|(deal, _)| *deal).collect();
        tally.survey.is_root_due =
            tally.copies(voices, root, &deals, Bar::index(&record.shape, tally.all)) == Fate::Due;
        tally.survey.is_index_due |= tally.survey.is_root_due;
    }

    /// Asks who has these. Who stops answering is heard no more.
    async fn hear(
        &self,
        roster: &Arc<Vec<Provider>>,
        mut asked: Vec<(u64, ShardId)>,
        voices: &mut Voices,
        tally: &mut Tally,
    ) {
        asked.retain(|(deal, _)| voices.is_asked(*deal));
        let mut heard = self.0.engine.inventory(roster, asked.clone()).await;
        if !heard.silent.is_empty() {
            self.0.context.sleep(AGAIN).await;
            asked.retain(|(deal, _)| heard.silent.contains_key(deal));
            let again = self.0.engine.inventory(roster, asked).await;
            heard.there.extend(again.there);
            heard.silent = again.silent;
        }
        for (deal, error) in heard.silent {
            tracing::warn!(deal, error, "a provider stopped answering");
            let seat = tally.survey.seats.iter_mut().find(|seat| seat.deal.id == deal).expect("only these are asked");
            seat.answers = false;
            if matches!(seat.state, State::Answers | State::Doubted) {
                seat.state = if seat.missed_in_row > 0 { State::Missing } else { State::Away };
            }
            voices.states.insert(deal, (seat.state, false));
        }
        tally.takers = tally.survey.seats.iter().filter(|seat| seat.takes()).count();
        voices.there = heard.there;
    }
}
