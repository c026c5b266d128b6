//! Bind versions at their providers, and store the leaf that finds them, before a swap names them.

use super::{Dues, Kept, Leaf, Read};
use crate::{
    bucket::Record,
    cloud::{Cloud, Runtime},
    fault::Fault,
    intent::{Cause, End, Journal},
    upload::{NO_PROGRESS, Slot},
};
use alloy_primitives::B256;
use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use hodei_storage::{
    engine::{Fill, Keeping, Wait},
    index::{self, Entry, Part, Root, Run},
};
use hodei_types::{abi::IBuckets, slice::ShardId, transport::Transport};
use std::{
    collections::{BTreeMap, BTreeSet},
    convert::Infallible,
    sync::Arc,
    time::Duration,
};

/// A leaf's layer grows to this: half of what readers take.
const LAYER_BYTES: usize = 8 << 20;
/// Parts bound at once.
const AT_ONCE: usize = 8;
/// Times what is on its way to a provider is asked for again, and the rest between them.
const AGAIN: usize = 5;
const REST: Duration = Duration::from_secs(2);
/// What one swap lists at most: new leaves, and those that are listed for longer.
const LISTED_MAX: usize = hodei_types::abi::BATCH_MAX;

/// What is bound and must be listed with the swap.
pub(crate) struct Secured<E: Runtime> {
    pub(crate) listed: Vec<IBuckets::Kept>,
    leaves: Vec<(B256, Arc<Leaf>)>,
    journals: Vec<Arc<Journal<E>>>,
}

impl<E: Runtime> Secured<E> {
    /// Nothing.
    pub(crate) fn none() -> Self {
        Self { listed: Vec::new(), leaves: Vec::new(), journals: Vec::new() }
    }

    /// What the bucket keeps once it is listed.
    pub(crate) fn onto(&self, kept: &Kept) -> Kept {
        let mut kept = kept.clone();
        self.leaves.iter().for_each(|(id, leaf)| kept.add(*id, leaf));
        kept
    }
}

impl<E: Runtime, T: Transport> Cloud<E, T> {
    /// Has the providers keep all that these versions need and the leaves that name them.
    pub(crate) async fn secure(&self, record: &Record, dues: Dues) -> Result<Secured<E>, Fault> {
        if dues.is_empty() {
            return Ok(Secured::none());
        }
        let mut parts: BTreeMap<[u8; 16], (Part, u64)> = BTreeMap::new();
        for due in &dues.versions {
            for part in due.entry.parts.iter().map(Part::stored) {
                let (_, until_ms) = parts.entry(part.object).or_insert_with(|| (part.clone(), 0));
                *until_ms = due.until_ms.max(*until_ms);
            }
        }
        let bound = stream::iter(parts.into_values()).map(|(part, until_ms): (Part, u64)| {
            let (cloud, record) = (self.clone(), record.clone());
            async move { cloud.bind_part(&record, &part, until_ms).await }
        });
        bound.buffer_unordered(AT_ONCE).try_collect::<Vec<()>>().await?;
        let mut secured = Secured::none();
        for (run, until_ms) in layers(&record.name, dues.versions) {
            let (id, leaf, journal) = self.store_leaf(record, &run, until_ms).await?;
            secured.listed.push(IBuckets::Kept { leaf: id, untilMs: until_ms, number: 0 });
            secured.leaves.push((id, leaf));
            secured.journals.push(journal);
        }
        let raises = dues.raises.into_iter();
        secured.listed.extend(raises.map(|(leaf, until_ms)| IBuckets::Kept { leaf, untilMs: until_ms, number: 0 }));
        Ok(secured)
    }

    /// The swap that listed them has won, or lost.
    pub(crate) async fn settle_secured(&self, record: &Record, secured: Secured<E>, is_won: bool) {
        for journal in &secured.journals {
            if is_won {
                journal.finish(&self.0.context).await;
            } else {
                journal.end(End::Lost).await;
            }
        }
        if is_won {
            let mut known = self.0.leaves.0.lock().expect("no panic under this lock");
            let leaves = known.entry(record.id).or_default();
            leaves.extend(secured.leaves.into_iter().map(|(id, leaf)| (id, Read::Whole(leaf))));
        }
    }

    /// Swaps in several steps what one transaction does not take.
    pub(crate) async fn commit_kept(
        &self,
        record: &Record,
        term: u64,
        root: B256,
        size_bytes: u64,
        mut listed: Vec<IBuckets::Kept>,
    ) -> Result<bool, Fault> {
        let now = record.state.root;
        // The new leaves come first: what is listed for longer may be so before.
        while listed.len() > LISTED_MAX {
            let longer = listed.split_off(listed.len() - LISTED_MAX);
            if !self.0.buckets.commit(record.id, term, (now, now), record.state.sizeBytes, longer).await? {
                return Ok(false);
            }
        }
        self.0.buckets.commit(record.id, term, (now, root), size_bytes, listed).await
    }

    async fn bind_part(&self, record: &Record, part: &Part, until_ms: u64) -> Result<(), Fault> {
        let holders = self.holders(record).await?;
        let pages = self.0.engine.pages(&holders.roster, part.page(), |verdict| self.blame(verdict)).await?;
        // What was brought elsewhere since is kept there.
        let keeping =
            Keeping::of_part(part.shape, part.page(), &pages).or_in(|id| holders.overlay.deals(id).collect::<Vec<_>>());
        self.bind_all(record, keeping, until_ms).await
    }

    async fn bind_all(&self, record: &Record, keeping: Keeping, until_ms: u64) -> Result<(), Fault> {
        let roster = self.roster(record).await?;
        let missing = self.0.engine.keep(&roster, &keeping, until_ms).await?;
        if !missing.is_empty() {
            // Enough is bound; the rest is as soon as it has arrived.
            let cloud = self.clone();
            self.0.context.child("keep").spawn(move |context| async move {
                let mut missing: BTreeSet<(u64, ShardId)> = missing;
                for _ in 0..AGAIN {
                    context.sleep(REST).await;
                    missing = cloud.0.engine.keep_more(&roster, missing, until_ms).await;
                    if missing.is_empty() {
                        return;
                    }
                }
            });
        }
        Ok(())
    }

    async fn store_leaf(
        &self,
        record: &Record,
        run: &Run,
        until_ms: u64,
    ) -> Result<(B256, Arc<Leaf>, Arc<Journal<E>>), Fault> {
        let journal = self.journal(Cause::Once, record, "").await?;
        let source = stream::iter([Ok::<_, Infallible>(Bytes::from(run.encode()))]);
        let (network, secret) = (self.0.network.0, self.secret(record.id));
        let slot = Slot { record, number: index::part_number(), wrapping: &secret, fill: Fill::Index };
        let (sent, kept) = self.send(slot, source, Wait::Quorum, journal.telling(), NO_PROGRESS).await?;
        journal.part(&sent.part, &sent.acks, kept).await?;
        let (shard, id) = Root { layers: vec![sent.part.clone()] }
            .seal(&network, &record.id.0, &secret, self.random(), None)
            .map_err(|error| Fault::Index(error.to_string()))?;
        let roster = self.takers(record).await?;
        let (holders, acks) =
            self.0.engine.put_copies(record.shape, roster, self.random(), shard, journal.telling()).await?;
        self.owe(&acks);
        self.bind_part(record, &sent.part, until_ms).await?;
        let deals = holders.iter().map(|holder| holder.deal).collect();
        self.bind_all(record, Keeping::of_copies(record.shape, id, deals), until_ms).await?;
        Ok((B256::from(id.0), Arc::new(Leaf::of(sent.part, run)), journal))
    }
}

/// Cuts versions into layers that readers take, each with the latest time of its versions.
pub(super) fn layers(bucket: &str, versions: Vec<super::Due>) -> Vec<(Run, u64)> {
    let mut layers: Vec<(Run, u64)> = Vec::new();
    let mut bytes = LAYER_BYTES;
    for due in versions {
        let mut alone = Run::new(bucket);
        alone.set(&due.key, vec![due.entry.clone()]);
        let its = alone.encode().len();
        if bytes + its > LAYER_BYTES {
            layers.push((Run::new(bucket), 0));
            bytes = 0;
        }
        bytes += its;
        let (run, until_ms) = layers.last_mut().expect("one was pushed");
        let all: Vec<Entry> = run.versions(&due.key).iter().cloned().chain([due.entry]).collect();
        run.set(&due.key, all);
        *until_ms = due.until_ms.max(*until_ms);
    }
    layers
}
