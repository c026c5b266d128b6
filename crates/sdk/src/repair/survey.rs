//! Ask each provider of a bucket what it still has of all that the index names.
//!
//! ```text
//! index → parts, packs once, its own layers → pages (any copy) → ids by deal → HAS, in batches → counts by stripe
//! ```
//! Nothing is changed, and nothing read but pages. A wave of parts is looked at at a time: of each, only what became of
//! it is kept. A provider's word that it has a shard is believed here; proofs and reads find who lies.

use super::{
    seat::{Seat, State},
    tally::{Plot, Tally, Voices, cut, objects, wave},
};
use crate::{
    bucket::Record,
    cloud::{Cloud, Runtime},
    fault::Fault,
};
use futures::{StreamExt as _, stream};
use hodei_storage::{
    engine::{GetError, Provider},
    index::Run,
    manifest::PageRef,
    repair::{Bar, Fate, Margins},
};
use hodei_types::{
    code::Shape,
    slice::ShardId,
    transport::{NodeKey, Transport},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

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
    /// Deals with those who leave that have what nobody gives now.
    pub(super) needed: BTreeSet<u64>,
    /// Whether the index's root has too few copies.
    pub(super) is_root_due: bool,
}

impl Survey {
    /// Whether there is nothing to store again.
    pub fn is_well(&self) -> bool {
        self.due_parts == 0 && !self.is_index_due
    }

    /// Stripes of which too few shards are there to read them.
    pub fn lost(&self) -> u64 {
        self.stripes.lost + self.index.lost
    }

    /// Whether nothing needs what a provider that is gone may still have.
    pub(super) fn may_end(&self, seat: &Seat) -> bool {
        let is_told = seat.state == State::GivenUp && !seat.answers;
        let is_spared = self.is_well() && self.kept_parts == 0 && !self.needed.contains(&seat.deal.id);
        self.lost() == 0 && (is_told || is_spared)
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
        let overlay = self.overlay(record.id, record.state.overlay, &roster).await;
        let mut tally = Tally::new(record.shape, ask, seats, overlay);
        tally.is_tended = record.state.custodians > 0 || !record.state.overlay.is_zero();
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
                    if tally.is_tended {
                        let copied = pages.iter().map(|(place, _)| place.id).chain([plot.part.page().id]);
                        asked.extend(copied.flat_map(|id| roster.iter().map(move |provider| (provider.deal, id))));
                    }
                    let ids = pages.iter().flat_map(|(_, page)| page.stripes.iter().flat_map(|stripe| &stripe.ids));
                    asked.extend(ids.flat_map(|id| tally.overlay.deals(id).map(|deal| (deal, *id))));
                }
                Err(GetError::Stopped) => return Err(GetError::Stopped.into()),
                Err(_) => {}
            }
        }
        asked.sort_unstable();
        asked.dedup();
        self.hear(roster, asked, voices, tally).await;
        if tally.is_tended {
            let read = read.iter().filter_map(|(plot, pages)| Some((plot, pages.as_ref().ok()?)));
            let copied = read.flat_map(|(plot, pages)| pages.iter().map(|(place, _)| place).chain([plot.part.page()]));
            let mut named: BTreeMap<ShardId, Vec<u64>> = BTreeMap::new();
            copied.for_each(|place| {
                named.entry(place.id).or_default().extend(place.holders.iter().map(|holder| holder.deal));
            });
            let is_extra =
                |(deal, id): &(u64, ShardId)| named.get(id).is_some_and(|deals: &Vec<u64>| !deals.contains(deal));
            // What nothing says they have to have, some may only say to have.
            let (extra, rest) = std::mem::take(&mut voices.there).into_iter().partition(is_extra);
            voices.there = rest;
            let glanced = self.0.engine.glanced(roster, extra).await;
            voices.fall_silent(&mut tally.survey.seats, glanced.silent.keys());
            voices.there.extend(glanced.there);
        }
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
            heard.declined.extend(again.declined);
            heard.silent = again.silent;
        }
        for (deal, error) in &heard.silent {
            tracing::warn!(deal, error, "a provider stopped answering");
        }
        voices.fall_silent(&mut tally.survey.seats, heard.silent.keys());
        tally.takers = tally.survey.seats.iter().filter(|seat| seat.takes()).count();
        tally.decline(&heard.declined);
        (voices.there, voices.declined) = (heard.there, heard.declined);
    }
}
