//! Bring shards to their new places, and have the old ones release them.

use super::{
    Rebalance, Rebalanced,
    even::{Fleet, Step},
    look::Ground,
    plan::{count_declined, shares},
};
use crate::{
    cloud::{Cloud, Runtime},
    fault::Fault,
    recode::Options,
    repair::tally::{cut, objects, wave},
    sweep::GRACE_MS,
};
use futures::{FutureExt as _, StreamExt as _, stream};
use hodei_storage::{engine::Patience, overlay::PAIRS_MAX};
use hodei_types::{event::Kind, slice::ShardId, transport::Transport};
use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

/// Shards on their way at once, and those of which it is said at once where they will be.
const AT_ONCE: usize = 4;
const LAID_AT_ONCE: usize = 256;
const _: () = assert!(LAID_AT_ONCE <= PAIRS_MAX);
/// Shards that lie at two places before the older are released: 4 GiB of them.
const TWINS_MAX: usize = 1 << 14;

/// Reasons that are told.
const FAILURES_MAX: usize = 16;

/// A shard that goes elsewhere.
struct Move {
    object: [u8; 16],
    id: ShardId,
    shard_bytes: u32,
    step: Step,
}

/// What is to be released when its readers had their grace.
#[derive(Default)]
struct Old {
    /// Shards, by deal, that count elsewhere now.
    shards: BTreeSet<(u64, ShardId)>,
    /// Parts with shards that were brought away, and where to.
    brought: BTreeSet<([u8; 16], u64, ShardId)>,
}

impl<E: Runtime, T: Transport> Cloud<E, T> {
    /// Opens the planned deals and moves shards until each has a fair part or nothing more may go. Run again after an
    /// interruption, with a new plan, it goes on.
    pub async fn rebalance(&self, bucket: &str, planned: &Rebalance, options: Options) -> Result<Rebalanced, Fault> {
        if !planned.open.is_empty() {
            let record = self.live(bucket).await?;
            let kept_until_ms = record.kept_until_ms(self.now_ms());
            self.0.buckets.may_enlarge(kept_until_ms, &planned.open, &[]).await?;
            self.0.buckets.enlarge(record.id, &planned.open, &[]).await?;
        }
        let mut ground = self.ground(bucket).await?;
        self.owe_newest(&ground.roster, &ground.seats, |seat| seat.answers).await;
        self.copy_sheets(&ground.record).await?;
        let mut fleet = Fleet::new(ground.record.shape, ground.places(&planned.held_bytes()), ground.steps_left());
        let (mut done, mut old, mut declined) = (Rebalanced::default(), Old::default(), BTreeMap::new());
        let (run, mut after) = (ground.known.run.clone(), None::<String>);
        let (mut todo, _) = objects(&run, self.now_ms());
        loop {
            let (mut plots, last) = wave(&run, after.as_deref(), &mut todo);
            plots.retain(|plot| !ground.stays(plot));
            for plots in cut(plots) {
                let seen = self.see(&mut ground, plots).await;
                done.lacking_stripes += seen.lacking;
                count_declined(&mut declined, &seen);
                done.twins += seen.twins.len() as u64;
                old.shards.extend(seen.twins);
                let (mut moves, mut back) = (Vec::new(), Vec::<(ShardId, u64)>::new());
                for mut stripe in seen.stripes {
                    let shard_bytes = stripe.shard_bytes;
                    let was = stripe.slots.clone();
                    let steps = fleet.steps(&mut stripe.slots, &stripe.may_go, shard_bytes.into());
                    let stayed = stripe.astray.iter().filter(|shard| !steps.iter().any(|step| step.shard == **shard));
                    let here = |shard: &usize| Some((stripe.ids[*shard], ground.roster[was[*shard]?].deal));
                    back.extend(stayed.filter_map(here));
                    moves.extend(steps.into_iter().map(|step| Move {
                        object: stripe.object,
                        id: stripe.ids[step.shard],
                        shard_bytes,
                        step,
                    }));
                }
                for pairs in back.chunks(LAID_AT_ONCE) {
                    self.lay(&ground.record, pairs).await?;
                }
                for moves in moves.chunks(LAID_AT_ONCE) {
                    self.bring_all(&ground, &mut fleet, moves, &options, (&mut done, &mut old)).await?;
                    if old.shards.len() >= TWINS_MAX {
                        done.left += self.release_old(bucket, std::mem::take(&mut old)).await?;
                    }
                }
            }
            after = last;
            if after.is_none() {
                break;
            }
        }
        done.left += self.release_old(bucket, old).await?;
        let held = ground.roster.iter().zip(fleet.places()).map(|(provider, place)| (provider.deal, place.held_bytes));
        done.shares = shares(&ground, &held.collect(), &declined);
        let (shards, bytes) = (done.moved_shards, done.moved_bytes);
        self.note(Kind::Deal, |fields| fields.text("what", "rebalanced").uint("shards", shards).uint("bytes", bytes))
            .await;
        Ok(done)
    }

    /// Posts what the ledger does not know of a bucket's deals, as a killed run leaves it: what was brought is paid
    /// from then on, and what was released is not any more.
    pub async fn end_rebalance(&self, bucket: &str) -> Result<(), Fault> {
        let ground = self.ground(bucket).await?;
        self.owe_newest(&ground.roster, &ground.seats, |seat| seat.answers).await;
        self.flush().await
    }

    /// Says where shards will be, then brings them there: what a kill leaves on the way is looked for there. Their old
    /// places are in `old` then.
    async fn bring_all(
        &self,
        ground: &Ground,
        fleet: &mut Fleet,
        moves: &[Move],
        options: &Options,
        (done, old): (&mut Rebalanced, &mut Old),
    ) -> Result<(), Fault> {
        let deal = |at: usize| ground.roster[at].deal;
        let pairs: Vec<(ShardId, u64)> = moves.iter().map(|one| (one.id, deal(one.step.to))).collect();
        self.lay(&ground.record, &pairs).await?;
        let mut back = Vec::new();
        for batch in moves.chunks(AT_ONCE) {
            let brought = batch.iter().map(|one| self.bring(ground, one).boxed()).collect::<Vec<_>>();
            let brought: Vec<_> = stream::iter(brought).buffered(AT_ONCE).collect().await;
            let before = done.moved_bytes;
            for (one, brought) in batch.iter().zip(brought) {
                match brought {
                    Ok(()) => {
                        done.moved_shards += 1;
                        done.moved_bytes += u64::from(one.shard_bytes);
                        old.shards.insert((deal(one.step.from), one.id));
                        old.brought.insert((one.object, deal(one.step.to), one.id));
                    }
                    Err(why) => {
                        fleet.undo(one.step, one.shard_bytes.into());
                        back.push((one.id, deal(one.step.from)));
                        if done.failures.len() < FAILURES_MAX {
                            done.failures.insert(why);
                        }
                    }
                }
            }
            if let Some(progress) = &options.progress {
                progress(done.moved_bytes);
            }
            if let Some(rate) = options.rate {
                let micros = (done.moved_bytes - before).saturating_mul(1_000_000) / rate.max(1);
                self.0.context.sleep(Duration::from_micros(micros)).await;
            }
        }
        // These are where they were.
        if !back.is_empty() {
            self.lay(&ground.record, &back).await?;
        }
        Ok(())
    }

    async fn bring(&self, ground: &Ground, one: &Move) -> Result<(), String> {
        let from = std::slice::from_ref(&ground.roster[one.step.from]);
        let read = self.0.engine.get_copy(from, one.id, one.shard_bytes, |verdict| self.blame(verdict)).await;
        let shard = read.map_err(|error| error.to_string())?;
        let place = (ground.roster.clone(), one.step.to);
        let held = self.0.engine.copy_to(ground.record.shape, place, self.random(), shard, Patience::Long).await;
        let held = held.map_err(|error| format!("{}: {error}", ground.roster[one.step.to].peer.key))?;
        self.owe(&[(held.ack.statement.deal, held.ack)].into());
        Ok(())
    }

    /// Waits until who found them at their old places had the time to read them, and has these release them; gives how
    /// many are left.
    async fn release_old(&self, bucket: &str, old: Old) -> Result<u64, Fault> {
        if old.shards.is_empty() {
            return Ok(0);
        }
        // The new places are paid before the old ones are not any more.
        self.flush().await?;
        // What was removed meanwhile was released where it was then: it may have come to its new place later.
        let run = self.run(&self.live(bucket).await?).await?;
        let removed = old.brought.into_iter().filter(|(object, ..)| run.uses(object).is_none());
        let removed: Vec<(u64, ShardId)> = removed.map(|(_, deal, id)| (deal, id)).collect();
        self.0.context.sleep(Duration::from_millis(GRACE_MS)).await;
        let holders = self.holders(&self.live(bucket).await?).await?;
        let mut shards = old.shards;
        // Whoever else evens it out may have brought some of them back.
        shards.retain(|(deal, id)| holders.overlay.deals(id).next_back() != Some(*deal));
        shards.extend(removed);
        shards.extend(self.stale_sheets(&holders).await);
        let released = self.0.engine.release(&holders.roster, shards).await;
        self.owe(&released.acks);
        self.flush().await?;
        Ok(released.left.len() as u64)
    }
}
