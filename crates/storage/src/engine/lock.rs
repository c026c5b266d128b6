//! Have a part kept until a time, wherever it is.
//!
//! What its providers keep they release for nobody before. Upon enough answers it is as safe from whoever holds the
//! bucket's keys as a put is from failures: of each stripe as many shards as a put waits for, of each page copies at
//! more operators than may be lost.

use super::{Engine, put::PutError, spread::Provider};
use crate::manifest::{Page, PageRef};
use commonware_runtime::{Clock, Spawner};
use futures::{StreamExt as _, stream};
use hodei_types::{code::Shape, slice::ShardId, transport::Transport};
use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

/// Providers asked at once.
const ASKED: usize = 8;
/// Times a part is asked for that has too few shards yet, and the rest between them: some may be on their way.
const TRIES: u32 = 5;
const REST: Duration = Duration::from_millis(400);

/// A part, or one shard that is copied, with where it is.
#[derive(Clone, Debug)]
pub struct Keeping {
    pub shape: Shape,
    /// Shards that are copied, each with the deals it is in.
    pub copies: Vec<(ShardId, Vec<u64>)>,
    /// Shards of each stripe, by deal; one may be in several, and counts once.
    pub stripes: Vec<Vec<(u64, ShardId)>>,
}

impl Keeping {
    /// A part with these pages; `root` is its list of pages if there are several.
    pub fn of_part(shape: Shape, root: &PageRef, pages: &[(PageRef, Page)]) -> Self {
        let list = (pages.len() > 1).then_some(root);
        let places = list.into_iter().chain(pages.iter().map(|(place, _)| place));
        let copies = places.map(|place| (place.id, place.holders.iter().map(|holder| holder.deal).collect()));
        let stripes = pages.iter().flat_map(|(_, page)| {
            (0..page.stripes.len()).map(move |at| {
                let shard = |shard| Some((page.holder(at, shard)?.deal, page.stripes[at].ids[usize::from(shard)]));
                (0..page.n).filter_map(shard).collect()
            })
        });
        Self { shape, copies: copies.collect(), stripes: stripes.collect() }
    }

    /// One shard in these deals.
    pub fn of_copies(shape: Shape, id: ShardId, deals: Vec<u64>) -> Self {
        Self { shape, copies: vec![(id, deals)], stripes: Vec::new() }
    }

    /// The same, where shards of stripes may be in other deals besides.
    pub fn or_in<I: IntoIterator<Item = u64>>(mut self, deals: impl Fn(&ShardId) -> I) -> Self {
        for stripe in &mut self.stripes {
            let others = stripe.iter().flat_map(|(_, id)| deals(id).into_iter().map(|deal| (deal, *id)));
            let others: Vec<(u64, ShardId)> = others.collect();
            stripe.extend(others);
        }
        self
    }

    fn shards(&self) -> BTreeSet<(u64, ShardId)> {
        let copies = self.copies.iter().flat_map(|(id, deals)| deals.iter().map(|deal| (*deal, *id)));
        copies.chain(self.stripes.iter().flatten().copied()).collect()
    }

    /// Refuses what would not outlive what the shape promises to outlive.
    fn check(&self, roster: &[Provider], kept: &BTreeSet<(u64, ShardId)>, failure: &str) -> Result<(), PutError> {
        let want = usize::from(self.shape.q());
        for (stripe, shards) in self.stripes.iter().enumerate() {
            let acks = shards.iter().filter(|shard| kept.contains(shard)).map(|(_, id)| id);
            let acks = acks.collect::<BTreeSet<_>>().len();
            if acks < want {
                let failure = format!("not kept: {failure}");
                return Err(PutError::Acks { stripe: stripe as u32, acks, want, failure });
            }
        }
        let operator =
            |deal: u64| roster.iter().find(|provider| provider.deal == deal).map(|provider| provider.operator);
        for (id, deals) in &self.copies {
            let keepers = deals.iter().filter(|deal| kept.contains(&(**deal, *id)));
            let found = keepers.filter_map(|deal| operator(*deal)).collect::<BTreeSet<_>>().len();
            let want = usize::from(self.shape.t()) + 1;
            if found < want {
                return Err(PutError::Page { found, want, failure: format!("not kept: {failure}") });
            }
        }
        Ok(())
    }
}

impl<E, T> Engine<E, T>
where
    E: Clock + Spawner,
    T: Transport,
{
    /// Has all of it kept until a time in milliseconds since 1970. Gives what is not kept although enough is: shards on
    /// their way, and those of providers that are away.
    pub async fn keep(
        &self,
        roster: &[Provider],
        keeping: &Keeping,
        until_ms: u64,
    ) -> Result<BTreeSet<(u64, ShardId)>, PutError> {
        let mut missing = keeping.shards();
        let all = missing.clone();
        for tries in 1.. {
            let (kept, failure) = self.ask_to_keep(roster, &missing, until_ms).await;
            missing.retain(|shard| !kept.contains(shard));
            let kept = all.difference(&missing).copied().collect();
            match keeping.check(roster, &kept, &failure) {
                Ok(()) => break,
                Err(error) if tries == TRIES => return Err(error),
                Err(_) => self.context.sleep(REST).await,
            }
        }
        Ok(missing)
    }

    /// Asks once more for what was missing; gives what still is.
    pub async fn keep_more(
        &self,
        roster: &[Provider],
        mut missing: BTreeSet<(u64, ShardId)>,
        until_ms: u64,
    ) -> BTreeSet<(u64, ShardId)> {
        let (kept, _) = self.ask_to_keep(roster, &missing, until_ms).await;
        missing.retain(|shard| !kept.contains(shard));
        missing
    }

    /// Asks once; gives what is kept now, and why something is not.
    async fn ask_to_keep(
        &self,
        roster: &[Provider],
        shards: &BTreeSet<(u64, ShardId)>,
        until_ms: u64,
    ) -> (BTreeSet<(u64, ShardId)>, String) {
        let mut by_deal: BTreeMap<u64, Vec<ShardId>> = BTreeMap::new();
        for (deal, id) in shards {
            by_deal.entry(*deal).or_default().push(*id);
        }
        let asked = by_deal.into_iter().filter_map(|(deal, ids)| {
            let provider = roster.iter().find(|provider| provider.deal == deal)?.clone();
            Some((provider, ids))
        });
        let answers = stream::iter(asked).map(|(provider, ids): (Provider, Vec<ShardId>)| async move {
            let Provider { peer, deal, grant, .. } = provider;
            let kept = self.remote.keep(&peer, deal, &grant, &ids, until_ms).await;
            let kept = kept.map(|kept| ids.into_iter().zip(kept).filter(|(_, kept)| *kept).map(|(id, _)| (deal, id)));
            kept.map(Iterator::collect::<Vec<_>>).map_err(|error| format!("{}: {error}", peer.key))
        });
        let answers: Vec<Result<Vec<_>, String>> = answers.buffer_unordered(ASKED).collect().await;
        let (mut kept, mut failure) = (BTreeSet::new(), "they do not hold it".to_owned());
        for answer in answers {
            match answer {
                Ok(shards) => kept.extend(shards),
                Err(error) => failure = error,
            }
        }
        (kept, failure)
    }
}
