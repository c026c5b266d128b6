//! Let accounts that a bucket's owner names restore what was lost of it.
//!
//! A custodian opens deals for the bucket and posts what they hold more (module `deals`), and lays an *overlay*: the id
//! of a shard that says where it put what it restored. What that names is for readers to judge; here it is a word. A
//! custodian holds no term: it moves no root, gives no shape and lists no leaves; it ends nothing but what module `deals`
//! says, where the owner allows it.
//!
//! Invariants: each custodian was named by the owner's side and not dismissed since; an overlay is only replaced by who
//! saw it; a bucket that is made again begins with neither.

use alloy_primitives::{Address, B256};
use hodei_types::abi::{BUCKETS, IBuckets, MODULES, SYSTEM};

use super::{
    super::{
        budgets,
        ctx::{Ctx, Stop, revert},
        list::List,
        slots::{at, base, pack_address, unpack_address},
    },
    OVERLAY, check_side, known, record_slot,
};

const TAG_CUSTODIANS: u8 = 6;
const CUSTODIANS_MAX: u64 = 8;

pub(super) fn appoint(ctx: &mut Ctx<'_, '_>, id: B256, custodian: Address) -> Result<(), Stop> {
    let record = known(ctx, id)?;
    check_side(ctx, &record)?;
    let is_nobody = custodian.is_zero() || custodian == SYSTEM || MODULES.contains(&custodian);
    if is_nobody || custodian == record.owner {
        return Err(revert(IBuckets::BadCustodian { custodian }));
    }
    if is_custodian(ctx, id, custodian)? {
        return Err(revert(IBuckets::AlreadyCustodian { custodian }));
    }
    if list(id).len(ctx)? >= CUSTODIANS_MAX {
        return Err(revert(IBuckets::TooManyCustodians { most: CUSTODIANS_MAX }));
    }
    list(id).push(ctx, pack_address(custodian, 0))?;
    ctx.emit(BUCKETS, &IBuckets::Appointed { id, custodian })
}

pub(super) fn dismiss(ctx: &mut Ctx<'_, '_>, id: B256, custodian: Address) -> Result<(), Stop> {
    let record = known(ctx, id)?;
    let caller = ctx.caller;
    if caller != custodian && budgets::principal(ctx, caller)? != record.owner {
        return Err(revert(IBuckets::NotCustodian { caller }));
    }
    if !is_custodian(ctx, id, custodian)? {
        return Err(revert(IBuckets::NotCustodian { caller: custodian }));
    }
    list(id).remove(ctx, pack_address(custodian, 0))?;
    ctx.emit(BUCKETS, &IBuckets::Dismissed { id, custodian })
}

pub(super) fn lay(ctx: &mut Ctx<'_, '_>, id: B256, expected: B256, next: B256) -> Result<(), Stop> {
    let record = known(ctx, id)?;
    let caller = ctx.caller;
    if budgets::principal(ctx, caller)? != record.owner && !is_custodian(ctx, id, caller)? {
        return Err(revert(IBuckets::NotCustodian { caller }));
    }
    let current = overlay(ctx, id)?;
    if expected != current {
        return Err(revert(IBuckets::OverlayConflict { overlay: current }));
    }
    ctx.store(BUCKETS, at(record_slot(id), OVERLAY), next.into())?;
    ctx.emit(BUCKETS, &IBuckets::Laid { id, by: caller, overlay: next })
}

/// Whether the bucket's owner named the account; a budget of a custodian is none.
pub(in super::super) fn is_custodian(ctx: &mut Ctx<'_, '_>, id: B256, account: Address) -> Result<bool, Stop> {
    list(id).holds(ctx, pack_address(account, 0))
}

pub(super) fn all(ctx: &mut Ctx<'_, '_>, id: B256) -> Result<Vec<Address>, Stop> {
    known(ctx, id)?;
    let named = list(id).page(ctx, 0, CUSTODIANS_MAX)?;
    Ok(named.into_iter().map(|word| unpack_address(word).0).collect())
}

pub(super) fn overlay(ctx: &mut Ctx<'_, '_>, id: B256) -> Result<B256, Stop> {
    Ok(ctx.load(BUCKETS, at(record_slot(id), OVERLAY))?.into())
}

/// Dismisses all of a bucket that is removed.
pub(super) fn clear(ctx: &mut Ctx<'_, '_>, id: B256) -> Result<(), Stop> {
    let named = list(id).page(ctx, 0, CUSTODIANS_MAX)?;
    // From the last, so that none has to move.
    named.into_iter().rev().try_for_each(|word| list(id).remove(ctx, word))
}

pub(super) fn list(id: B256) -> List {
    List::new(BUCKETS, base(TAG_CUSTODIANS, &[id.as_slice()]))
}
