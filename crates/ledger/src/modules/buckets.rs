//! Say who may write a bucket, and move its root by compare-and-swap.
//!
//! A bucket has one holder at a time, for a term that ends at a height. Upon `commit` with the current term,
//! the holder's account, within its time, and the root it read, the root moves; otherwise nothing does and the
//! error says what to read again. A new holder has a higher term, so a writer that slept is fenced. The holder
//! may also give the bucket another shape: this module only says what is wanted from then on.
//!
//! With a root a writer may list *leaves*, which find versions under retention: whoever reads the bucket finds those
//! whatever later roots say. See [`keeps`].
//!
//! While the owner is away, those the owner named restore what was lost. See [`custody`].
//!
//! Invariants: terms only grow, also over the removal of a bucket that is made again; a root is only replaced by the
//! holder of the term, who saw it; a bucket counts its deals and is not forgotten while it has any.

mod custody;
mod keeps;

use alloy_primitives::{Address, B256, U256};
use hodei_types::abi::{BUCKETS, IBuckets, TERM_BLOCKS_MAX, bucket_id};

use super::{
    budgets,
    ctx::{Ctx, Stop, broken, returns, revert},
    deals,
    list::List,
    slots::{at, base, pack, pack_address, unpack, unpack_address},
};

pub(super) use custody::is_custodian;

const TAG_RECORD: u8 = 1;
const TAG_OWNED: u8 = 2;
const TAG_GONE: u8 = 3;
const SHARD_BYTES_MAX: u32 = 16 << 20;

// Slots of a record, from its base.
const OWNER: u64 = 0;
const HOLDER: u64 = 1;
const COUNTS: u64 = 2;
const ROOT: u64 = 3;
const SHAPE: u64 = 4;
const KEEPS: u64 = 5;
const OVERLAY: u64 = 6;

/// A bucket's record.
#[derive(Clone, Debug)]
pub(super) struct Record {
    pub(super) id: B256,
    pub(super) owner: Address,
    holder: Address,
    expires: u64,
    term: u64,
    size_bytes: u64,
    version: u64,
    deals: u64,
    root: B256,
    shape: IBuckets::Shape,
    /// Until then nothing of it may end, in milliseconds since 1970; only rises.
    kept_until_ms: u64,
    /// Changes of the list of kept leaves, and leaves listed ever.
    keeps: u64,
    leaves: u64,
}

impl Record {
    /// Until when something of it is kept that nobody may end; `None` if nothing is.
    pub(super) fn locked_ms(&self, ctx: &Ctx<'_, '_>) -> Option<u64> {
        Some(self.kept_until_ms).filter(|until_ms| *until_ms > ctx.time_ms())
    }
}

pub(super) fn call(ctx: &mut Ctx<'_, '_>) -> Result<Vec<u8>, Stop> {
    match ctx.decode::<IBuckets::IBucketsCalls>(&[])? {
        IBuckets::IBucketsCalls::create(call) => {
            ctx.writes()?;
            returns(create(ctx, call)?)
        }
        IBuckets::IBucketsCalls::claim(call) => {
            ctx.writes()?;
            returns(claim(ctx, call.id, call.blocks)?)
        }
        IBuckets::IBucketsCalls::commit(call) => {
            ctx.writes()?;
            commit(ctx, &call)?;
            Ok(Vec::new())
        }
        IBuckets::IBucketsCalls::commitKept(call) => {
            ctx.writes()?;
            keeps::commit(ctx, call)?;
            Ok(Vec::new())
        }
        IBuckets::IBucketsCalls::lapse(call) => {
            ctx.writes()?;
            keeps::lapse(ctx, call.id, &call.leaves)?;
            Ok(Vec::new())
        }
        IBuckets::IBucketsCalls::reshape(call) => {
            ctx.writes()?;
            reshape(ctx, call)?;
            Ok(Vec::new())
        }
        IBuckets::IBucketsCalls::remove(call) => {
            ctx.writes()?;
            remove(ctx, call.id)?;
            Ok(Vec::new())
        }
        IBuckets::IBucketsCalls::appoint(call) => {
            ctx.writes()?;
            custody::appoint(ctx, call.id, call.custodian)?;
            Ok(Vec::new())
        }
        IBuckets::IBucketsCalls::dismiss(call) => {
            ctx.writes()?;
            custody::dismiss(ctx, call.id, call.custodian)?;
            Ok(Vec::new())
        }
        IBuckets::IBucketsCalls::lay(call) => {
            ctx.writes()?;
            custody::lay(ctx, call.id, call.expected, call.overlay)?;
            Ok(Vec::new())
        }
        IBuckets::IBucketsCalls::get(call) => {
            let record = known(ctx, call.id)?;
            returns(show(ctx, record)?)
        }
        IBuckets::IBucketsCalls::count(call) => {
            let count = owned(call.owner).len(ctx)?;
            returns(count)
        }
        IBuckets::IBucketsCalls::kept(call) => returns(keeps::page(ctx, call.id, call.first, call.most)?),
        IBuckets::IBucketsCalls::custodians(call) => returns(custody::all(ctx, call.id)?),
        IBuckets::IBucketsCalls::isCustodian(call) => returns(is_custodian(ctx, call.id, call.account)?),
        IBuckets::IBucketsCalls::at(call) => {
            let id: B256 = owned(call.owner).at(ctx, call.i)?.into();
            returns(id)
        }
    }
}

/// The record of a bucket; none if there is none.
pub(super) fn find(ctx: &mut Ctx<'_, '_>, id: B256) -> Result<Option<Record>, Stop> {
    let base = record_slot(id);
    let (owner, _) = unpack_address(ctx.load(BUCKETS, at(base, OWNER))?);
    if owner.is_zero() {
        return Ok(None);
    }
    let (holder, expires) = unpack_address(ctx.load(BUCKETS, at(base, HOLDER))?);
    let [term, size_bytes, version, deals] = unpack(ctx.load(BUCKETS, at(base, COUNTS))?);
    let root = ctx.load(BUCKETS, at(base, ROOT))?.into();
    let [spread, shard_bytes, code_id, _] = unpack(ctx.load(BUCKETS, at(base, SHAPE))?);
    let [k, n, t, operators, networks, zones, ..] = spread.to_le_bytes();
    let (shard_bytes, code_id) = (shard_bytes as u32, code_id as u16);
    let shape = IBuckets::Shape { k, n, t, operators, networks, zones, shardBytes: shard_bytes, codeId: code_id };
    let [kept_until_ms, keeps, leaves, _] = unpack(ctx.load(BUCKETS, at(base, KEEPS))?);
    Ok(Some(Record {
        id,
        owner,
        holder,
        expires,
        term,
        size_bytes,
        version,
        deals,
        root,
        shape,
        kept_until_ms,
        keeps,
        leaves,
    }))
}

/// Counts a deal more or less.
pub(super) fn count_deal(ctx: &mut Ctx<'_, '_>, id: B256, opened: bool) -> Result<(), Stop> {
    let mut record = find(ctx, id)?.ok_or_else(|| broken("a deal without a bucket"))?;
    record.deals = if opened { record.deals.checked_add(1) } else { record.deals.checked_sub(1) }
        .ok_or_else(|| broken("a bucket's deals are miscounted"))?;
    store(ctx, &record)
}

fn create(ctx: &mut Ctx<'_, '_>, call: IBuckets::createCall) -> Result<B256, Stop> {
    let owner = budgets::principal(ctx, ctx.caller)?;
    let id = bucket_id(owner, call.salt);
    if find(ctx, id)?.is_some() {
        return Err(revert(IBuckets::AlreadyExists { id }));
    }
    // A bucket that was removed before goes on from its last term.
    let last: u64 = ctx.load(BUCKETS, base(TAG_GONE, &[id.as_slice()]))?.saturating_to();
    let term = last + 1;
    let shape = call.shape;
    check_shape(&shape)?;
    let expires = expiry(ctx, call.blocks)?;
    let holder = ctx.caller;
    let record = Record {
        id,
        owner,
        holder,
        expires,
        term,
        size_bytes: 0,
        version: 0,
        deals: 0,
        root: B256::ZERO,
        shape: shape.clone(),
        kept_until_ms: 0,
        keeps: 0,
        leaves: 0,
    };
    store(ctx, &record)?;
    store_shape(ctx, id, &shape)?;
    owned(owner).push(ctx, id.into())?;
    ctx.emit(BUCKETS, &IBuckets::Created { id, owner, shape })?;
    ctx.emit(BUCKETS, &IBuckets::Claimed { id, holder, term, expires })?;
    Ok(id)
}

fn claim(ctx: &mut Ctx<'_, '_>, id: B256, blocks: u64) -> Result<u64, Stop> {
    let mut record = known(ctx, id)?;
    check_side(ctx, &record)?;
    let (holder, caller) = (record.holder, ctx.caller);
    let within = ctx.height() <= record.expires;
    if within && caller != holder && caller != record.owner {
        return Err(revert(IBuckets::Held { holder, term: record.term, expires: record.expires }));
    }
    // A holder that comes back too late is a new one: somebody may have read in between.
    if !within || caller != holder {
        record.term += 1;
    }
    record.holder = caller;
    record.expires = expiry(ctx, blocks)?;
    store(ctx, &record)?;
    let (term, expires) = (record.term, record.expires);
    ctx.emit(BUCKETS, &IBuckets::Claimed { id, holder: caller, term, expires })?;
    Ok(term)
}

fn commit(ctx: &mut Ctx<'_, '_>, call: &IBuckets::commitCall) -> Result<(), Stop> {
    let mut record = known(ctx, call.id)?;
    let term = check_term(ctx, &record, call.term)?;
    if call.expected != record.root {
        return Err(revert(IBuckets::Conflict { root: record.root }));
    }
    // Without a root there is no bucket of that name to anybody who reads.
    if let Some(until_ms) = record.locked_ms(ctx).filter(|_| call.root.is_zero()) {
        return Err(revert(IBuckets::Locked { untilMs: until_ms }));
    }
    record.root = call.root;
    record.size_bytes = call.sizeBytes;
    record.version += 1;
    store(ctx, &record)?;
    let (id, root, version) = (call.id, record.root, record.version);
    ctx.emit(BUCKETS, &IBuckets::Committed { id, term, root, sizeBytes: call.sizeBytes, version })
}

fn reshape(ctx: &mut Ctx<'_, '_>, call: IBuckets::reshapeCall) -> Result<(), Stop> {
    let record = known(ctx, call.id)?;
    let term = check_term(ctx, &record, call.term)?;
    let (id, shape) = (call.id, call.shape);
    check_shape(&shape)?;
    store_shape(ctx, id, &shape)?;
    ctx.emit(BUCKETS, &IBuckets::Reshaped { id, term, shape })
}

fn remove(ctx: &mut Ctx<'_, '_>, id: B256) -> Result<(), Stop> {
    let record = known(ctx, id)?;
    check_side(ctx, &record)?;
    if let Some(until_ms) = record.locked_ms(ctx) {
        return Err(revert(IBuckets::Locked { untilMs: until_ms }));
    }
    if record.deals > 0 {
        return Err(revert(IBuckets::DealsOpen { deals: record.deals }));
    }
    // Each is taken off by itself: a bucket that is made again under this id begins with none.
    if keeps::list(id).len(ctx)? > 0 {
        return Err(revert(IBuckets::Locked { untilMs: record.kept_until_ms }));
    }
    for slot in OWNER..=OVERLAY {
        ctx.store(BUCKETS, at(record_slot(id), slot), U256::ZERO)?;
    }
    custody::clear(ctx, id)?;
    // Without deals nothing of a slashing is on its way any more: this is all there will be.
    deals::close_reserve(ctx, id, record.owner)?;
    // Made again under the same id it must not begin at term 1: a writer of before would not be fenced.
    ctx.store(BUCKETS, base(TAG_GONE, &[id.as_slice()]), U256::from(record.term))?;
    owned(record.owner).remove(ctx, id.into())?;
    ctx.emit(BUCKETS, &IBuckets::Removed { id })
}

fn check_side(ctx: &mut Ctx<'_, '_>, record: &Record) -> Result<(), Stop> {
    if budgets::principal(ctx, ctx.caller)? != record.owner {
        return Err(revert(IBuckets::NotOwner { owner: record.owner }));
    }
    Ok(())
}

/// The term, if the caller holds it now.
fn check_term(ctx: &mut Ctx<'_, '_>, record: &Record, given: u64) -> Result<u64, Stop> {
    check_side(ctx, record)?;
    let (term, holder, expires) = (record.term, record.holder, record.expires);
    if given != term || ctx.caller != holder || ctx.height() > expires {
        return Err(revert(IBuckets::Fenced { term, holder, expires }));
    }
    Ok(term)
}

fn check_shape(shape: &IBuckets::Shape) -> Result<(), Stop> {
    let is_code = shape.k >= 1 && shape.n > shape.k && shape.t >= 1 && shape.t <= shape.n - shape.k;
    let is_narrow = [shape.operators, shape.networks, shape.zones].iter().all(|count| *count <= shape.n);
    if !is_code || !is_narrow || shape.shardBytes < 1024 || shape.shardBytes > SHARD_BYTES_MAX {
        return Err(revert(IBuckets::BadShape {}));
    }
    Ok(())
}

fn store_shape(ctx: &mut Ctx<'_, '_>, id: B256, shape: &IBuckets::Shape) -> Result<(), Stop> {
    let IBuckets::Shape { k, n, t, operators, networks, zones, .. } = *shape;
    let spread = u64::from_le_bytes([k, n, t, operators, networks, zones, 0, 0]);
    let word = pack([spread, u64::from(shape.shardBytes), u64::from(shape.codeId), 0]);
    ctx.store(BUCKETS, at(record_slot(id), SHAPE), word)
}

fn expiry(ctx: &Ctx<'_, '_>, blocks: u64) -> Result<u64, Stop> {
    if blocks == 0 || blocks > TERM_BLOCKS_MAX {
        return Err(revert(IBuckets::BadTerm {}));
    }
    Ok(ctx.height().saturating_add(blocks))
}

fn known(ctx: &mut Ctx<'_, '_>, id: B256) -> Result<Record, Stop> {
    find(ctx, id)?.ok_or_else(|| revert(IBuckets::UnknownBucket { id }))
}

fn store(ctx: &mut Ctx<'_, '_>, record: &Record) -> Result<(), Stop> {
    let base = record_slot(record.id);
    ctx.store(BUCKETS, at(base, OWNER), pack_address(record.owner, 0))?;
    ctx.store(BUCKETS, at(base, HOLDER), pack_address(record.holder, record.expires))?;
    let counts = pack([record.term, record.size_bytes, record.version, record.deals]);
    ctx.store(BUCKETS, at(base, COUNTS), counts)?;
    ctx.store(BUCKETS, at(base, ROOT), record.root.into())?;
    ctx.store(BUCKETS, at(base, KEEPS), pack([record.kept_until_ms, record.keeps, record.leaves, 0]))
}

fn show(ctx: &mut Ctx<'_, '_>, record: Record) -> Result<IBuckets::Bucket, Stop> {
    let overlay = custody::overlay(ctx, record.id)?;
    let custodians = custody::list(record.id).len(ctx)?;
    Ok(IBuckets::Bucket {
        id: record.id,
        owner: record.owner,
        shape: record.shape,
        term: record.term,
        holder: record.holder,
        expires: record.expires,
        root: record.root,
        sizeBytes: record.size_bytes,
        version: record.version,
        deals: record.deals,
        keptUntilMs: record.kept_until_ms,
        keeps: record.keeps,
        overlay,
        custodians,
    })
}

fn record_slot(id: B256) -> U256 {
    base(TAG_RECORD, &[id.as_slice()])
}

fn owned(owner: Address) -> List {
    List::new(BUCKETS, base(TAG_OWNED, &[owner.as_slice()]))
}
