//! Find the pages of a bucket without its index: its providers say what they hold.
//!
//! ```text
//! deal by deal: what came since the last look → short shards' first KiB → pages and lists, kept
//! ```
//! A page is known by its first bytes and its hash, and believed where the owner's seal is on it: a provider that makes
//! some up costs a question each. What no provider has any more was released by the owner.

use super::Charge;
use crate::cloud::{Cloud, Runtime};
use futures::{FutureExt as _, StreamExt as _, stream};
use hodei_storage::{
    engine::{Provider, RemoteError},
    manifest::{Kind, List, Page},
};
use hodei_types::{slice::ShardId, transport::Transport};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard},
};

/// KiB of the longest page, of 64 stripes of 255 shards; most are a few.
const PAGE_KIB_MAX: u16 = 600;
/// A full shard of data has so many: no page of up to 100 shards a stripe does.
const SHARD_KIB: u16 = 256;
/// Shards of a provider looked into at once, and providers asked at once: one that is slow keeps no other waiting.
const AT_ONCE: usize = 8;
const ASKED_AT_ONCE: usize = 4;
/// Questions to a provider at a look: of 16 million shards; the rest is read at the next.
pub(super) const QUESTIONS_MAX: usize = 4096;
/// Pages of a bucket: 8 million stripes. What is beyond is its owner's to repair.
const PAGES_MAX: usize = 1 << 17;

/// What a custodian knows of a bucket from look to look.
#[derive(Default)]
pub struct Notes {
    /// Up to where each deal was read.
    pub(super) read: BTreeMap<u64, u64>,
    pub(super) pages: BTreeMap<ShardId, Arc<Page>>,
    /// Lists of pages, as they are stored.
    pub(super) lists: BTreeMap<ShardId, Arc<Vec<u8>>>,
    /// Since which look a page lacks something.
    pub(super) due: BTreeMap<ShardId, u64>,
    pub(super) looks: u64,
    /// Of deals with who leaves: from where on something was with nobody else.
    pub(super) alone: BTreeMap<u64, u64>,
}

fn locked<'a, 'b>(notes: &'a Mutex<&'b mut Notes>) -> MutexGuard<'a, &'b mut Notes> {
    notes.lock().expect("no panic under this lock")
}

impl<E: Runtime, T: Transport> Cloud<E, T> {
    /// Reads what came to these deals since the last look; gives those whose providers fell silent.
    pub(super) async fn find_pages(&self, charge: &Charge, present: &[Provider], notes: &mut Notes) -> BTreeSet<u64> {
        let shared = Mutex::new(notes);
        let found = present.iter().map(|provider| {
            let shared = &shared;
            async move {
                let found = self.find_at(charge, provider, shared).await;
                found.is_err_and(|error| error.is_silence()).then_some(provider.deal)
            }
            .boxed()
        });
        let silent = stream::iter(found.collect::<Vec<_>>()).buffer_unordered(ASKED_AT_ONCE);
        silent.filter_map(std::future::ready).collect().await
    }

    /// The same of one provider.
    async fn find_at(
        &self,
        charge: &Charge,
        provider: &Provider,
        notes: &Mutex<&mut Notes>,
    ) -> Result<(), RemoteError> {
        let mut from = locked(notes).read.get(&provider.deal).copied().unwrap_or(0);
        for _ in 0..QUESTIONS_MAX {
            let listed = self.0.engine.list(provider, from).await.inspect_err(|error| {
                tracing::warn!(node = %provider.peer.key, %error, "a provider lists nothing");
            });
            let (mut shards, next, end) = listed?;
            {
                let notes = locked(notes);
                let known = |id: &ShardId| notes.pages.contains_key(id) || notes.lists.contains_key(id);
                shards.retain(|(id, kib)| {
                    *kib <= PAGE_KIB_MAX && *kib != SHARD_KIB && kib.is_multiple_of(4) && !known(id)
                });
            }
            let short = shards.into_iter().map(|(id, _)| id).collect();
            self.read_short(charge, provider, short, notes).await?;
            from = next;
            locked(notes).read.insert(provider.deal, from);
            if from >= end {
                break;
            }
        }
        Ok(())
    }

    /// Takes in those of these that are pages; an error where the provider stopped answering.
    async fn read_short(
        &self,
        charge: &Charge,
        provider: &Provider,
        ids: Vec<ShardId>,
        notes: &Mutex<&mut Notes>,
    ) -> Result<(), RemoteError> {
        let read = ids.into_iter().map(|id| {
            let (cloud, provider) = (self.clone(), provider.clone());
            async move {
                let (bytes, first) = cloud.0.engine.glance(&provider, id).await?;
                let Some(kind) = Kind::of(&first) else { return Ok(None) };
                let whole = cloud.0.engine.get_copy(&[provider], id, bytes, |verdict| cloud.blame(verdict)).await;
                Ok::<_, RemoteError>(whole.ok().map(|whole| (id, kind, whole)))
            }
            .boxed()
        });
        let read: Vec<_> = stream::iter(read.collect::<Vec<_>>()).buffer_unordered(AT_ONCE).collect().await;
        let mut answers = Ok(());
        let mut notes = locked(notes);
        for found in read {
            match found {
                Ok(Some((id, Kind::Page, bytes))) => {
                    let page = Page::open(&id, &bytes).ok().filter(|page| page.entrusted(&charge.care).is_ok());
                    if let Some(page) = page.filter(|_| notes.pages.len() < PAGES_MAX) {
                        notes.pages.insert(id, Arc::new(page));
                    }
                }
                Ok(Some((id, Kind::List, bytes))) => {
                    let is_list = List::open(&id, &bytes).is_ok_and(|list| list.pages.len() > 1);
                    if is_list && notes.lists.len() < notes.pages.len().max(1024) {
                        notes.lists.insert(id, Arc::new(bytes.to_vec()));
                    }
                }
                Ok(None) => {}
                // Released meanwhile, refused, or damaged: another has a copy.
                Err(RemoteError::Gone | RemoteError::Declined(_) | RemoteError::Lie(_)) => {}
                Err(error) => {
                    tracing::debug!(node = %provider.peer.key, %error, "a short shard is not read");
                    answers = Err(error);
                }
            }
        }
        answers
    }
}
