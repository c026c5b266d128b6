//! Say what of a part is kept where, whether it still is, and let go of it.

use super::{
    Engine,
    remote::{Ask, RemoteError, Verdict, Word},
    spread::Provider,
};
use crate::{
    engine::get::GetError,
    manifest::{List, Page, PageRef, STRIPES_MAX},
    wire::Reason,
};
use commonware_runtime::{Clock, Spawner};
use futures::{StreamExt as _, stream};
use hodei_types::{ack::Ack, code::Shape, slice::ShardId, transport::Transport};
use std::{
    collections::{BTreeMap, BTreeSet},
    pin::pin,
    time::{Duration, UNIX_EPOCH},
};

/// Ids of one question or release: what a provider writes for them is one batch of its disk.
const BATCH: usize = 1024;
/// Providers that let go of shards at once.
const RELEASED: usize = 8;
/// Providers asked at once: who hangs keeps few others waiting.
const ASKED: usize = 64;
/// Tries of one that is busy for a moment.
const BUSY_TRIES: u32 = 3;

/// What a release did.
#[derive(Clone, Debug, Default)]
pub struct Released {
    /// The newest statement of each deal that let go of something, to be posted: only then is the room free.
    pub acks: BTreeMap<u64, Ack>,
    /// What could not be let go of now.
    pub left: Vec<(u64, ShardId)>,
    /// How many of these are kept until a later time.
    pub kept: usize,
}

/// What providers say of shards.
#[derive(Clone, Debug, Default)]
pub struct Inventory {
    pub there: BTreeSet<(u64, ShardId)>,
    /// What their providers refuse to have; each signed such a refusal when it was asked.
    pub declined: BTreeSet<(u64, ShardId)>,
    /// Deals whose provider did not answer, and why.
    pub silent: BTreeMap<u64, String>,
}

/// Shards by deal.
type ByDeal = BTreeMap<u64, Vec<ShardId>>;

fn by_deal(shards: impl IntoIterator<Item = (u64, ShardId)>) -> ByDeal {
    let mut deals = ByDeal::new();
    for (deal, id) in shards {
        deals.entry(deal).or_default().push(id);
    }
    deals
}

impl<E, T> Engine<E, T>
where
    E: Clock + Spawner,
    T: Transport,
{
    /// A part's pages, in order, each with where its copies are.
    pub async fn pages(
        &self,
        roster: &[Provider],
        root: &PageRef,
        verdict: impl Fn(Verdict),
    ) -> Result<Vec<(PageRef, Page)>, GetError> {
        let bytes = self.get_copy(roster, root.id, root.bytes, &verdict).await?;
        if root.stripes as usize <= STRIPES_MAX {
            return Ok(vec![(root.clone(), Page::open(&root.id, &bytes)?)]);
        }
        let mut pages = Vec::new();
        for page in List::open(&root.id, &bytes)?.pages {
            let bytes = self.get_copy(roster, page.id, page.bytes, &verdict).await?;
            let opened = Page::open(&page.id, &bytes)?;
            pages.push((page, opened));
        }
        Ok(pages)
    }

    /// Every shard of a part by deal, pages and list included.
    pub async fn shards(
        &self,
        roster: &[Provider],
        root: &PageRef,
        verdict: impl Fn(Verdict),
    ) -> Result<Vec<(u64, ShardId)>, GetError> {
        let pages = self.pages(roster, root, verdict).await?;
        let mut shards: Vec<_> = if pages.len() > 1 { root.copies().collect() } else { Vec::new() };
        for (place, page) in &pages {
            shards.extend(place.copies());
            shards.extend(page.shards());
        }
        Ok(shards)
    }

    /// Whether each stripe of a part, by what its providers say, still has the shards that a put waits for.
    pub async fn holds(
        &self,
        shape: &Shape,
        roster: &[Provider],
        root: &PageRef,
        verdict: impl Fn(Verdict),
    ) -> Result<bool, GetError> {
        let pages = self.pages(roster, root, verdict).await?;
        let listed = pages.iter().flat_map(|(_, page)| page.shards()).collect();
        let held = self.inventory(roster, listed).await.there;
        Ok(pages.iter().all(|(_, page)| {
            (0..page.stripes.len()).all(|at| {
                let there = |shard: &u8| {
                    let deal = page.holder(at, *shard).map(|holder| holder.deal);
                    deal.is_some_and(|deal| held.contains(&(deal, page.stripes[at].ids[usize::from(*shard)])))
                };
                (0..page.n).filter(there).count() >= shape.q().into()
            })
        }))
    }

    /// Asks which of these shards their deals still hold. What is in no deal of the roster nobody holds.
    pub async fn inventory(&self, roster: &[Provider], shards: Vec<(u64, ShardId)>) -> Inventory {
        let asked = by_deal(shards).into_iter().filter_map(|(deal, ids)| {
            // Owned, not borrowed: a closure over references makes futures that are not provably Send.
            let provider = roster.iter().find(|provider| provider.deal == deal)?.clone();
            Some((provider, ids))
        });
        let answers = stream::iter(asked).map(|(provider, ids): (Provider, Vec<ShardId>)| async move {
            let Provider { peer, deal, grant, .. } = &provider;
            let mut tries = 0;
            let words = loop {
                let words = self.remote.has(peer, *deal, grant, &ids, BATCH).await;
                tries += 1;
                let wait = match &words {
                    Err(error @ RemoteError::Busy { .. }) if tries < BUSY_TRIES => error.passes_after(),
                    _ => None,
                };
                let Some(wait) = wait else { break words };
                self.context.sleep(wait).await;
            };
            let told = match words {
                Ok(words) => Ok(self.believed(&provider, ids.into_iter().zip(words).collect()).await),
                Err(error) => {
                    if error.is_silence() {
                        self.peers.failed(&peer.key, self.context.current());
                    }
                    Err(error)
                }
            };
            (provider.deal, told)
        });
        let answers: Vec<_> = answers.buffer_unordered(ASKED).collect().await;
        let mut inventory = Inventory::default();
        for (deal, answer) in answers {
            match answer {
                Ok(told) => {
                    for (id, word) in told {
                        match word {
                            Word::There => _ = inventory.there.insert((deal, id)),
                            Word::Declined => _ = inventory.declined.insert((deal, id)),
                            Word::Not => {}
                        }
                    }
                }
                Err(error) => _ = inventory.silent.insert(deal, error.to_string()),
            }
        }
        inventory
    }

    /// Whether most of those who would have a copied shard say that they have it no more, by what is heard within `patience`.
    /// One who has it settles it. Of a bucket's providers only a few were given one, so none is taken for released where more
    /// than one of them says nothing: these may be all who were.
    pub async fn is_released(&self, roster: &[Provider], id: ShardId, patience: Duration) -> bool {
        let words = stream::iter(roster.to_vec()).map(|provider: Provider| async move {
            let Provider { peer, deal, grant, .. } = &provider;
            let words = self.remote.has(peer, *deal, grant, &[id], BATCH).await?;
            let told = self.believed(&provider, words.into_iter().map(|word| (id, word)).collect()).await;
            Ok::<_, RemoteError>(told.first().map(|(_, word)| *word))
        });
        let late = self.context.sleep(patience);
        let mut heard = pin!(words.buffer_unordered(ASKED).take_until(late));
        let (mut gone, mut declined) = (0, 0);
        while let Some(word) = heard.next().await {
            match word {
                Ok(Some(Word::There)) => return false,
                Ok(Some(Word::Not)) => gone += 1,
                Ok(Some(Word::Declined)) => declined += 1,
                Ok(None) | Err(_) => {}
            }
        }
        let would = roster.len().saturating_sub(declined);
        gone * 2 > would && would - gone <= 1
    }

    /// What a provider said, as far as it is believed. That it declines is not signed there, and has its owner store whole
    /// parts anew: one such shard is asked for, and where that brings no signed word none of them counts as declined.
    async fn believed(&self, provider: &Provider, mut told: Vec<(ShardId, Word)>) -> Vec<(ShardId, Word)> {
        let declined = told.iter().filter(|(_, word)| *word == Word::Declined);
        let declined: Vec<ShardId> = declined.map(|(id, _)| *id).collect();
        if declined.is_empty() {
            return told;
        }
        let id = self.unforeseen(&declined);
        let ask = Ask { peer: &provider.peer, deal: provider.deal, grant: &provider.grant, id };
        let word = self.remote.glance(&ask).await;
        if !matches!(word, Err(RemoteError::Declined(_))) {
            let found = word.map_or_else(|error| error.to_string(), |_| "the shard".to_owned());
            tracing::warn!(node = %provider.peer.key, shard = %id, found, "it says that it declines, and signs nothing");
            told.iter_mut().filter(|(_, word)| *word == Word::Declined).for_each(|(_, word)| *word = Word::Not);
        }
        told
    }

    /// One of these that who speaks of them cannot know before that it will be asked for.
    fn unforeseen(&self, ids: &[ShardId]) -> ShardId {
        let now = self.context.current().duration_since(UNIX_EPOCH).unwrap_or_default();
        ids[now.subsec_nanos() as usize % ids.len()]
    }

    /// Those of what deals were said to hold that more than a bare word speaks for, where no root may have them: each deal
    /// is asked for the first KiB of one shard, and where that does not come none of its counts; who says nothing is named.
    pub async fn glanced(&self, roster: &[Provider], said: BTreeSet<(u64, ShardId)>) -> Inventory {
        let asked = by_deal(said).into_iter().filter_map(|(deal, ids)| {
            let provider = roster.iter().find(|provider| provider.deal == deal)?.clone();
            Some((provider, ids))
        });
        let answers = stream::iter(asked).map(|(provider, ids): (Provider, Vec<ShardId>)| async move {
            let id = self.unforeseen(&ids);
            let ask = Ask { peer: &provider.peer, deal: provider.deal, grant: &provider.grant, id };
            match self.remote.glance(&ask).await {
                Ok(_) => (provider.deal, ids, None),
                Err(error) => {
                    tracing::warn!(node = %provider.peer.key, shard = %id, %error, "it says that it has it, and gives nothing");
                    (provider.deal, Vec::new(), Some(error).filter(RemoteError::is_silence))
                }
            }
        });
        let answers: Vec<_> = answers.buffer_unordered(ASKED).collect().await;
        let mut inventory = Inventory::default();
        for (deal, ids, silence) in answers {
            inventory.there.extend(ids.into_iter().map(|id| (deal, id)));
            inventory.silent.extend(silence.map(|error| (deal, error.to_string())));
        }
        inventory
    }

    /// Whether a provider answers at all, if only to refuse; what it is asked under need be no deal of its own. Who does
    /// not is asked last for a while.
    pub async fn answers(&self, provider: &Provider) -> bool {
        let answer = self.remote.state(&provider.peer, provider.deal, &provider.grant).await;
        self.is_answer(provider, answer)
    }

    /// The same of one that is merely greeted, for which nobody's word is needed.
    pub async fn greets(&self, provider: &Provider) -> bool {
        let answer = self.remote.hello(provider).await;
        self.is_answer(provider, answer)
    }

    fn is_answer<A>(&self, provider: &Provider, answer: Result<A, RemoteError>) -> bool {
        let is_there = match &answer {
            Ok(_) | Err(RemoteError::Busy { .. }) => true,
            Err(RemoteError::Refused { reason, .. }) => *reason != Reason::Broken,
            Err(_) => false,
        };
        if !is_there {
            self.peers.failed(&provider.peer.key, self.context.current());
        }
        is_there
    }

    /// What a provider says its deal is now; `None` before its first shard.
    pub async fn state(&self, provider: &Provider) -> Result<Option<Ack>, RemoteError> {
        self.remote.state(&provider.peer, provider.deal, &provider.grant).await
    }

    /// Lets go of shards. A deal that is not in the roster has ended with all it held.
    pub async fn release(&self, roster: &[Provider], shards: impl IntoIterator<Item = (u64, ShardId)>) -> Released {
        let asked = by_deal(shards).into_iter().filter_map(|(deal, ids)| {
            let provider = roster.iter().find(|provider| provider.deal == deal)?.clone();
            Some((provider, ids))
        });
        let answers = stream::iter(asked).map(|(provider, ids): (Provider, Vec<ShardId>)| async move {
            let Provider { peer, deal, grant, .. } = provider;
            let (mut newest, mut left, mut kept, mut is_away) = (None, Vec::new(), 0, false);
            for batch in ids.chunks(BATCH) {
                // One that is away is not waited for batch by batch.
                if !is_away {
                    match self.remote.release(&peer, deal, &grant, batch).await {
                        Ok(ack) => {
                            newest = ack.or(newest);
                            continue;
                        }
                        // The others of them are let go of.
                        Err(RemoteError::Refused { reason: Reason::Kept, .. }) => {
                            if let Ok(held) = self.remote.has(&peer, deal, &grant, batch, BATCH).await {
                                let held = batch.iter().zip(held).filter(|(_, word)| *word == Word::There);
                                let before = left.len();
                                left.extend(held.map(|(id, _)| (deal, *id)));
                                kept += left.len() - before;
                                newest = self.remote.state(&peer, deal, &grant).await.unwrap_or_default().or(newest);
                                continue;
                            }
                        }
                        Err(error) => {
                            tracing::debug!(node = %peer.key, %error, "not released");
                            is_away = error.is_down();
                        }
                    }
                }
                left.extend(batch.iter().map(|id| (deal, *id)));
            }
            (deal, newest, left, kept)
        });
        let answers: Vec<_> = answers.buffer_unordered(RELEASED).collect().await;
        let mut released = Released::default();
        for (deal, ack, left, kept) in answers {
            released.acks.extend(ack.map(|ack| (deal, ack)));
            released.left.extend(left);
            released.kept += kept;
        }
        released
    }
}
