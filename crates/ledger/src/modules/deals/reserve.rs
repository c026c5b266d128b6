//! Keep coin for the repair of a bucket: of slashings, of deals that custodians ended, and what anybody gives.
//!
//! The owner's side takes it back at any time, to the owner's account; a custodian moves it into the escrows of deals that
//! are the owner's, and has its wage of it where the owner's side set one. See [`super`] for what slashing adds.

use alloy_primitives::{Address, B256, U256};
use hodei_types::abi::{DEALS, IDeals};

use super::{
    super::{
        buckets, budgets,
        ctx::{Ctx, Stop, revert},
    },
    record, release, wage,
};

pub(super) fn of(ctx: &mut Ctx<'_, '_>, bucket: B256) -> Result<U256, Stop> {
    ctx.load(DEALS, record::reserve_slot(bucket))
}

/// What there is with `amount` more, which this module's account has already.
pub(super) fn add(ctx: &mut Ctx<'_, '_>, bucket: B256, amount: U256) -> Result<U256, Stop> {
    let reserve = of(ctx, bucket)? + amount;
    ctx.store(DEALS, record::reserve_slot(bucket), reserve)?;
    Ok(reserve)
}

pub(super) fn fund(ctx: &mut Ctx<'_, '_>, bucket: B256) -> Result<(), Stop> {
    known(ctx, bucket)?;
    let amount = ctx.value;
    let reserve = add(ctx, bucket, amount)?;
    ctx.emit(DEALS, &IDeals::Funded { bucket, amount, reserve })
}

pub(super) fn withdraw(ctx: &mut Ctx<'_, '_>, bucket: B256, amount: U256) -> Result<U256, Stop> {
    let owner = known(ctx, bucket)?.owner;
    if budgets::principal(ctx, ctx.caller)? != owner {
        return Err(revert(IDeals::NotOwner { owner }));
    }
    take(ctx, bucket, owner, amount)
}

/// Takes what the value lacks of `needed`; false if there is less, or the value is more.
pub(super) fn draw(ctx: &mut Ctx<'_, '_>, bucket: B256, needed: U256) -> Result<bool, Stop> {
    let reserve = of(ctx, bucket)?;
    let left = needed.checked_sub(ctx.value).and_then(|lacking| reserve.checked_sub(lacking));
    let Some(left) = left else { return Ok(false) };
    ctx.store(DEALS, record::reserve_slot(bucket), left)?;
    Ok(true)
}

/// Gives all to the owner of a bucket that is removed, and ends its wage and what its custodians may.
pub(in super::super) fn close(ctx: &mut Ctx<'_, '_>, bucket: B256, owner: Address) -> Result<(), Stop> {
    wage::clear(ctx, bucket)?;
    release::clear(ctx, bucket)?;
    take(ctx, bucket, owner, U256::MAX).map(drop)
}

/// Gives at most `amount` back.
fn take(ctx: &mut Ctx<'_, '_>, bucket: B256, owner: Address, amount: U256) -> Result<U256, Stop> {
    let amount = pay(ctx, bucket, owner, amount)?;
    if !amount.is_zero() {
        ctx.emit(DEALS, &IDeals::Withdrawn { bucket, amount })?;
    }
    Ok(amount)
}

/// Pays out at most `amount`, and tells how much that was; the caller tells for what.
pub(super) fn pay(ctx: &mut Ctx<'_, '_>, bucket: B256, to: Address, amount: U256) -> Result<U256, Stop> {
    let reserve = of(ctx, bucket)?;
    let amount = amount.min(reserve);
    if amount.is_zero() {
        return Ok(amount);
    }
    ctx.store(DEALS, record::reserve_slot(bucket), reserve - amount)?;
    ctx.transfer(DEALS, to, amount)?;
    Ok(amount)
}

pub(super) fn known(ctx: &mut Ctx<'_, '_>, bucket: B256) -> Result<buckets::Record, Stop> {
    buckets::find(ctx, bucket)?.ok_or_else(|| revert(IDeals::UnknownBucket { bucket }))
}
