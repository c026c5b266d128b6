//! List what finds versions under retention, until their time is over.
//!
//! A root is whatever its author says: who stole a writer's key may swap one in that names nothing. So a writer that
//! puts versions under retention lists, in the swap that names them, the leaf that finds them again; a reader's view of
//! the bucket is its index and all that the listed leaves find, those listed first being right.
//!
//! Invariants: a listed leaf stays listed until its time by the blocks is over, whoever asks; times only rise; numbers
//! never come again while the bucket lives; a bucket's own time is at least that of each leaf ever listed.

use alloy_primitives::{B256, U256};
use hodei_types::abi::{BATCH_MAX, BUCKETS, IBuckets, IModule, KEEP_MS_MAX, KEPT_MAX, PAGE_MAX};

use super::{
    super::{
        ctx::{Ctx, Stop, revert},
        list::List,
        slots::{base, pack, unpack},
    },
    Record, known, store,
};

const TAG_LIST: u8 = 4;
const TAG_KEPT: u8 = 5;

pub(super) fn commit(ctx: &mut Ctx<'_, '_>, call: IBuckets::commitKeptCall) -> Result<(), Stop> {
    let IBuckets::commitKeptCall { id, term, expected, root, sizeBytes, kept } = call;
    within(kept.len() as u64, BATCH_MAX as u64)?;
    super::commit(ctx, &IBuckets::commitCall { id, term, expected, root, sizeBytes })?;
    // Without a root nobody would read them.
    if let Some(one) = kept.first().filter(|_| root.is_zero()) {
        return Err(revert(IBuckets::Locked { untilMs: one.untilMs }));
    }
    let mut record = known(ctx, id)?;
    kept.iter().try_for_each(|one| keep(ctx, &mut record, one.leaf, one.untilMs))?;
    store(ctx, &record)
}

/// Stores all but the record.
fn keep(ctx: &mut Ctx<'_, '_>, record: &mut Record, leaf: B256, until_ms: u64) -> Result<(), Stop> {
    let id = record.id;
    let now_ms = ctx.time_ms();
    if leaf.is_zero() || until_ms <= now_ms || until_ms > now_ms.saturating_add(KEEP_MS_MAX) {
        return Err(revert(IBuckets::BadTime { untilMs: until_ms }));
    }
    let slot = slot(id, leaf);
    let [listed_ms, mut number, ..] = unpack(ctx.load(BUCKETS, slot)?);
    if listed_ms >= until_ms {
        return Ok(());
    }
    if listed_ms == 0 {
        if list(id).len(ctx)? >= KEPT_MAX {
            return Err(revert(IBuckets::KeptFull { most: KEPT_MAX }));
        }
        list(id).push(ctx, leaf.into())?;
        number = record.leaves;
        record.leaves += 1;
    }
    ctx.store(BUCKETS, slot, pack([until_ms, number, 0, 0]))?;
    record.kept_until_ms = record.kept_until_ms.max(until_ms);
    record.keeps += 1;
    ctx.emit(BUCKETS, &IBuckets::LeafKept { id, leaf, untilMs: until_ms })
}

/// Refuses all of them if the time of one is not over.
pub(super) fn lapse(ctx: &mut Ctx<'_, '_>, id: B256, leaves: &[B256]) -> Result<(), Stop> {
    within(leaves.len() as u64, BATCH_MAX as u64)?;
    let mut record = known(ctx, id)?;
    for leaf in leaves {
        let [until_ms, ..] = unpack(ctx.load(BUCKETS, slot(id, *leaf))?);
        if until_ms == 0 {
            return Err(revert(IBuckets::NotKept { leaf: *leaf }));
        }
        if until_ms > ctx.time_ms() {
            return Err(revert(IBuckets::Locked { untilMs: until_ms }));
        }
        ctx.store(BUCKETS, slot(id, *leaf), U256::ZERO)?;
        list(id).remove(ctx, (*leaf).into())?;
        record.keeps += 1;
        ctx.emit(BUCKETS, &IBuckets::Lapsed { id, leaf: *leaf })?;
    }
    store(ctx, &record)
}

pub(super) fn page(ctx: &mut Ctx<'_, '_>, id: B256, first: u64, most: u64) -> Result<Vec<IBuckets::Kept>, Stop> {
    within(most, PAGE_MAX)?;
    known(ctx, id)?;
    let leaves = list(id).page(ctx, first, most)?;
    let kept = leaves.into_iter().map(|word| {
        let leaf = B256::from(word);
        let [until_ms, number, ..] = unpack(ctx.load(BUCKETS, slot(id, leaf))?);
        Ok(IBuckets::Kept { leaf, untilMs: until_ms, number })
    });
    kept.collect()
}

pub(super) fn list(id: B256) -> List {
    List::new(BUCKETS, base(TAG_LIST, &[id.as_slice()]))
}

fn within(given: u64, most: u64) -> Result<(), Stop> {
    let refused = || revert(IModule::TooMany { given: U256::from(given), most: U256::from(most) });
    if given > most { Err(refused()) } else { Ok(()) }
}

fn slot(id: B256, leaf: B256) -> U256 {
    base(TAG_KEPT, &[id.as_slice(), leaf.as_slice()])
}
