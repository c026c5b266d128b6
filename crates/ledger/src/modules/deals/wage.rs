//! Pay custodians for what they restore, out of their bucket's repair reserve.
//!
//! Upon a custodian's post in the owner's place: the bucket's wage for each leaf that the deal holds more than before, but
//! no more than is left of the day's most and of the reserve; what is beyond is not owed later. Days are those of the
//! blocks' time, from midnight UTC, so that a halt neither lengthens nor repeats one.
//!
//! Nobody can tell here whether what a deal holds more was lost elsewhere: a provider in league with a custodian may sign
//! for leaves nobody needs, and what the owner put and has not posted yet is a custodian's if its post is first. What that
//! costs is bounded by the day's most and the reserve; the deals' room bounds each post, but a custodian opens more deals.
//!
//! Invariants: without a wage nothing is paid; a day's payments never exceed the most that was set when each was made;
//! neither the owner nor a budget of the owner is paid; a bucket that is made again begins without a wage.

use alloy_primitives::{Address, B256, U256};
use hodei_types::abi::{DEALS, IDeals, LEAVES_PER_GIB};

use super::{
    super::{
        budgets,
        ctx::{Ctx, Stop, revert},
        slots::{at, base, pack_wide, unpack_wide},
    },
    record::Deal,
    reserve,
};

const TAG_WAGE: u8 = 12;
const TAG_EARNED: u8 = 13;
const DAY_MS: u64 = 24 * 3600 * 1000;

// Slots of a wage, from its base: what is paid and the day's most; what was paid last, and in which day.
const RATES: u64 = 0;
const TODAY: u64 = 1;

pub(super) fn set(ctx: &mut Ctx<'_, '_>, bucket: B256, per_gib: u128, per_day: u128) -> Result<(), Stop> {
    let owner = reserve::known(ctx, bucket)?.owner;
    if budgets::principal(ctx, ctx.caller)? != owner {
        return Err(revert(IDeals::NotOwner { owner }));
    }
    ctx.store(DEALS, at(wage_slot(bucket), RATES), pack_wide(per_gib, per_day))?;
    ctx.emit(DEALS, &IDeals::WageSet { bucket, perGib: per_gib, perDay: per_day })
}

pub(super) fn of(ctx: &mut Ctx<'_, '_>, bucket: B256) -> Result<IDeals::Wage, Stop> {
    let (per_gib, per_day) = unpack_wide(ctx.load(DEALS, at(wage_slot(bucket), RATES))?);
    let paid_today = paid_today(ctx, bucket)?;
    Ok(IDeals::Wage { perGib: per_gib, perDay: per_day, paidToday: paid_today })
}

/// Wei that an account had of a bucket, ever.
pub(super) fn earned(ctx: &mut Ctx<'_, '_>, bucket: B256, custodian: Address) -> Result<U256, Stop> {
    ctx.load(DEALS, earned_slot(bucket, custodian))
}

/// Pays the custodian that calls for so many leaves more in a deal of its bucket.
pub(super) fn pay(ctx: &mut Ctx<'_, '_>, deal: &Deal, leaves: u64) -> Result<(), Stop> {
    let (bucket, custodian) = (deal.bucket, ctx.caller);
    let (per_gib, per_day) = unpack_wide(ctx.load(DEALS, at(wage_slot(bucket), RATES))?);
    // Below 2^192, as leaves and the wage are below 2^64 and 2^128.
    let due = U256::from(leaves) * U256::from(per_gib) / U256::from(LEAVES_PER_GIB);
    if due.is_zero() {
        return Ok(());
    }
    let today = paid_today(ctx, bucket)?;
    let left = U256::from(per_day.saturating_sub(today));
    let amount = reserve::pay(ctx, bucket, custodian, due.min(left))?;
    if amount.is_zero() {
        return Ok(());
    }
    let day = ctx.time_ms() / DAY_MS;
    // At most the day's most, which is as wide.
    let paid = today.saturating_add(amount.saturating_to());
    ctx.store(DEALS, at(wage_slot(bucket), TODAY), pack_wide(paid, day.into()))?;
    let earned = earned(ctx, bucket, custodian)?.saturating_add(amount);
    ctx.store(DEALS, earned_slot(bucket, custodian), earned)?;
    ctx.emit(DEALS, &IDeals::WagePaid { bucket, custodian, deal: deal.id, leaves, amount })
}

/// Forgets the wage of a bucket that is removed; what was earned stays told.
pub(super) fn clear(ctx: &mut Ctx<'_, '_>, bucket: B256) -> Result<(), Stop> {
    ctx.store(DEALS, at(wage_slot(bucket), RATES), U256::ZERO)?;
    ctx.store(DEALS, at(wage_slot(bucket), TODAY), U256::ZERO)
}

fn paid_today(ctx: &mut Ctx<'_, '_>, bucket: B256) -> Result<u128, Stop> {
    let (paid, day) = unpack_wide(ctx.load(DEALS, at(wage_slot(bucket), TODAY))?);
    Ok(if day == u128::from(ctx.time_ms() / DAY_MS) { paid } else { 0 })
}

fn wage_slot(bucket: B256) -> U256 {
    base(TAG_WAGE, &[bucket.as_slice()])
}

fn earned_slot(bucket: B256, custodian: Address) -> U256 {
    base(TAG_EARNED, &[bucket.as_slice(), custodian.as_slice()])
}
