//! Let go of what nothing names: interrupted uploads, replaced objects, old indexes.
//!
//! Upon a journal without a writer that is due: read what it tells of, leave out what the bucket's index names
//! now, write packs anew that are less than half named, release the rest, post the deals' new roots (only then is the
//! room free at the providers), and forget the journal. What cannot be released now, since a provider is away, is tried again later.

use crate::{
    bucket::Record,
    catalog::Known,
    cloud::{Cloud, Runtime},
    fault::Fault,
    intent::{self, End, Intent, Journal, Name},
};
use futures::{
    future::{Either, select},
    pin_mut,
};
use hodei_storage::{
    engine::{GetError, Released},
    index::Part,
    pack,
};
use hodei_types::{slice::ShardId, transport::Transport};
use std::{collections::BTreeSet, time::Duration};

/// Who reads a replaced object or index finds its shards for so long.
pub(crate) const GRACE_MS: u64 = 60_000;
/// What could not be released for so long is at providers that are gone for good.
const GIVE_UP_MS: u64 = 30 * 24 * 3600 * 1000;
/// Blocks in which a swap that nobody answered for could still have come: a ledger that halts keeps it waiting, and no
/// clock tells how long.
const SETTLE_BLOCKS: u64 = 8;
/// Rest after a release that did not reach all.
const AGAIN_MS: u64 = 60_000;
/// The same where all that is left is kept until a time.
const KEPT_AGAIN_MS: u64 = 6 * 3600 * 1000;
/// A process that ends waits so long for releases: several times what they take while all are there.
const CLOSE_PATIENCE: Duration = Duration::from_secs(10);

impl<E: Runtime, T: Transport> Cloud<E, T> {
    /// Journals of processes before this one, each with when it is due: what an upload may still go on with is
    /// nothing for a sweep.
    pub(crate) async fn find_orphans(&self) -> Result<(), Fault> {
        for name in intent::scan(&self.0.context).await? {
            let due_ms = intent::read(&self.0.context, &name).await?.map_or(0, |intent| intent.due_ms());
            self.0.orphans.lock().expect("no panic under this lock").push((name, due_ms));
        }
        Ok(())
    }

    /// Looks at what is due at `now_ms`.
    pub(crate) async fn sweep(&self, now_ms: u64) {
        let _turn = self.0.sweeping.lock().await;
        let due = |(_, due_ms): &(Name, u64)| *due_ms <= now_ms;
        // What is due again while others are looked at waits for the next sweep.
        let count =
            self.0.orphans.lock().expect("no panic under this lock").iter().filter(|orphan| due(orphan)).count();
        let mut moves = None;
        for _ in 0..count {
            let Some((name, _)) = self.take_orphan(due) else { return };
            let again = match self.settle(&name, now_ms, &mut moves).await {
                Ok(again) => again,
                Err(error) => {
                    tracing::warn!(%error, "what nothing names is not released yet");
                    Some(now_ms + AGAIN_MS)
                }
            };
            let mut orphans = self.0.orphans.lock().expect("no panic under this lock");
            orphans.extend(again.map(|due_ms| (name, due_ms)));
        }
    }

    /// The same for a process that ends, which waits so long and no longer: providers that are away may take minutes,
    /// and a later process finds the journals as a kill would leave them. What was replaced just now others may be
    /// reading: it is left to a later process too.
    pub(crate) async fn sweep_once_more(&self) {
        let sweep = async {
            self.end_links().await;
            self.sweep(self.now_ms()).await;
        };
        let patience = self.0.context.sleep(CLOSE_PATIENCE);
        pin_mut!(sweep, patience);
        if let Either::Right(_) = select(sweep, patience).await {
            tracing::info!("a later process releases the rest of what nothing names");
        }
    }

    /// The first that `fits`; it is then nobody else's.
    pub(crate) fn take_orphan(&self, fits: impl Fn(&(Name, u64)) -> bool) -> Option<(Name, u64)> {
        let mut orphans = self.0.orphans.lock().expect("no panic under this lock");
        let at = orphans.iter().position(fits)?;
        Some(orphans.remove(at))
    }

    /// When to look again; `None` if nothing is left of it. Whether the ledger `moves` is found out once a sweep.
    async fn settle(&self, name: &Name, now_ms: u64, moves: &mut Option<bool>) -> Result<Option<u64>, Fault> {
        let Some(intent) = intent::read(&self.0.context, name).await? else {
            intent::remove(&self.0.context, name).await?;
            return Ok(None);
        };
        if intent.due_ms() > now_ms {
            return Ok(Some(intent.due_ms()));
        }
        if now_ms > intent.begun_ms.saturating_add(GIVE_UP_MS) {
            intent::remove(&self.0.context, name).await?;
            return Ok(None);
        }
        if matches!(intent.end, Some(End::Unknown { .. })) {
            if moves.is_none() {
                *moves = Some(self.pass(SETTLE_BLOCKS).await.is_ok());
            }
            if *moves == Some(false) {
                return Ok(Some(now_ms + AGAIN_MS));
            }
        }
        // Of a bucket that is gone all deals have ended.
        if let Some(record) = self.bucket(&intent.bucket_name).await? {
            let index = self.known(&record).await?;
            let shards = self.unnamed(&record, &index, &intent).await?;
            let uses = |part: &Part| index.run.uses(&part.object).map_or(0, |uses| uses.bytes);
            let sparse = intent.olds.iter().filter(|part| part.is_pack() && uses(part) > 0);
            let sparse = sparse.filter(|part| pack::is_sparse(uses(part), part.size_bytes));
            let sparse: BTreeSet<[u8; 16]> = sparse.map(|part| part.object).collect();
            if !sparse.is_empty() {
                self.repack(&record, &index.run, &sparse).await?;
            }
            let count = shards.len();
            let roster = self.roster(&record).await?;
            let Released { acks, left, kept } = self.0.engine.release(&roster, shards).await;
            self.owe(&acks);
            tracing::info!(bucket = intent.bucket_name, count, left = left.len(), "released what nothing names");
            if !left.is_empty() {
                // The pages that told of them may be gone now. The journal becomes an orphan again as it is dropped.
                let journal = Journal::resume(&self.0.context, &self.0.orphans, *name, &intent).await?;
                let again_ms = if kept == left.len() { KEPT_AGAIN_MS } else { AGAIN_MS };
                journal.only(&left, now_ms + again_ms).await;
                return Ok(None);
            }
        }
        intent::remove(&self.0.context, name).await?;
        Ok(None)
    }

    /// Waits for so many blocks.
    async fn pass(&self, blocks: u64) -> Result<(), Fault> {
        let chain = self.0.wallet.chain();
        let mut height = chain.head().await?.height;
        let until = height + blocks;
        while height < until {
            height = chain.wait(height).await?.height;
        }
        Ok(())
    }

    /// Shards a journal tells of and the bucket does not.
    async fn unnamed(
        &self,
        record: &Record,
        index: &Known,
        intent: &Intent,
    ) -> Result<BTreeSet<(u64, ShardId)>, Fault> {
        let is_named = |part: &Part| {
            index.run.uses(&part.object).is_some()
                || index.layers.iter().any(|layer| layer.part.object == part.object)
                || index.kept.leaves().any(|(_, leaf)| leaf.object == part.object)
        };
        let mut shards = BTreeSet::new();
        for old in intent.olds.iter().filter(|part| !is_named(part)) {
            match self.shards_anywhere(record, old).await {
                Ok(found) => shards.extend(found),
                // Two swaps may have replaced it, such as the last two members of a pack: the other let go of it.
                Err(Fault::Get(GetError::Gone { .. })) => {}
                Err(error) => return Err(error),
            }
        }
        if let Some(root) = intent.old_root.filter(|root| root.0 != record.state.root.0) {
            // Copies of a root are at whichever providers took one.
            shards.extend(self.roster(record).await?.iter().map(|provider| (provider.deal, root)));
        }
        let holders = self.holders(record).await?;
        shards.extend(self.stale_sheets(&holders).await);
        if matches!(intent.end, Some(End::Won { .. })) {
            return Ok(shards);
        }
        shards.extend(intent.parts.iter().flat_map(|stored| &stored.offers).chain(&intent.offers));
        let mut named = BTreeSet::new();
        for stored in intent.parts.iter().filter(|stored| is_named(&stored.part)) {
            for shard in self.shards(record, &stored.part).await? {
                shards.remove(&shard);
                named.insert(shard.1);
            }
        }
        // A straggler's copy may be where the overlay has its shard since.
        shards.retain(|(deal, id)| !named.contains(id) || !holders.overlay.deals(id).any(|laid| laid == *deal));
        // A custodian may have restored what was begun and never named. That was looked for when nothing was left out.
        let restored = shards.iter().filter(|(_, id)| !named.contains(id) && !intent.is_rest);
        let restored: Vec<(u64, ShardId)> =
            restored.flat_map(|(_, id)| holders.overlay.deals(id).map(move |deal| (deal, *id))).collect();
        shards.extend(restored);
        let links = crate::share::listed(&index.run);
        let is_leaf = |id: &ShardId| index.kept.leaves().any(|(leaf, _)| leaf.0 == id.0);
        shards.retain(|(_, id)| id.0 != record.state.root.0 && !links.contains(id) && !is_leaf(id));
        Ok(shards)
    }

    /// Every shard of a part, by deal, also where custodians may have put it.
    async fn shards_anywhere(&self, record: &Record, part: &Part) -> Result<BTreeSet<(u64, ShardId)>, Fault> {
        if record.state.custodians == 0 && record.state.overlay.is_zero() {
            return self.shards(record, part).await;
        }
        let holders = self.holders(record).await?;
        let pages = self.0.engine.pages(&holders.roster, part.page(), |verdict| self.blame(verdict)).await?;
        let copied = pages.iter().map(|(place, _)| place.id).chain([part.page().id]);
        let anywhere = copied.flat_map(|id| holders.roster.iter().map(move |provider| (provider.deal, id)));
        let mut shards: BTreeSet<(u64, ShardId)> = anywhere.collect();
        for (deal, id) in pages.iter().flat_map(|(_, page)| page.shards()) {
            shards.insert((deal, id));
            shards.extend(holders.overlay.deals(&id).map(|deal| (deal, id)));
        }
        Ok(shards)
    }

    /// Every shard of a part, by deal.
    pub(crate) async fn shards(&self, record: &Record, part: &Part) -> Result<BTreeSet<(u64, ShardId)>, Fault> {
        let roster = self.roster(record).await?;
        let shards = self.0.engine.shards(&roster, part.page(), |verdict| self.blame(verdict)).await?;
        Ok(shards.into_iter().collect())
    }
}
