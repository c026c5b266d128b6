//! Let custodians end deals with providers that retired, where the bucket's owner allows it.
//!
//! Who retires stays bound to its deals: without this only their owner lets it go, or an escrow that is used up. A custodian
//! that brought elsewhere what lay there may do so in the owner's place. Nobody can tell here whether it did: in league with
//! providers that retire it ends what they hold, and nobody is slashed for it. So it is the owner's to allow, retention
//! comes first, and who is the provider's operator as well does not speak for both sides.
//!
//! Invariants: a bucket begins without it, also one that is made again; what is left of the escrow goes to the bucket's
//! reserve, so that repair goes on while the owner, who may take it from there at any time, is away.

use alloy_primitives::{B256, U256};
use hodei_types::abi::{DEALS, IDeals};

use super::{
    super::{
        buckets, budgets,
        ctx::{Ctx, Stop, revert},
        providers,
        slots::base,
    },
    record::Deal,
    reserve,
};

const TAG_RELEASE: u8 = 14;

pub(super) fn set(ctx: &mut Ctx<'_, '_>, bucket: B256, allowed: bool) -> Result<(), Stop> {
    let owner = reserve::known(ctx, bucket)?.owner;
    if budgets::principal(ctx, ctx.caller)? != owner {
        return Err(revert(IDeals::NotOwner { owner }));
    }
    ctx.store(DEALS, slot(bucket), U256::from(u8::from(allowed)))?;
    ctx.emit(DEALS, &IDeals::ReleaseSet { bucket, allowed })
}

pub(super) fn of(ctx: &mut Ctx<'_, '_>, bucket: B256) -> Result<bool, Stop> {
    Ok(!ctx.load(DEALS, slot(bucket))?.is_zero())
}

/// Whether the caller is a custodian that may end this deal, unless what its bucket keeps forbids it.
pub(super) fn may_end(ctx: &mut Ctx<'_, '_>, deal: &Deal) -> Result<bool, Stop> {
    if !of(ctx, deal.bucket)? {
        return Ok(false);
    }
    let caller = ctx.caller;
    let provider = providers::find(ctx, deal.provider)?;
    let has_retired = provider.is_some_and(|provider| provider.retired && provider.operator != caller);
    Ok(has_retired && buckets::is_custodian(ctx, deal.bucket, caller)?)
}

/// Forgets it of a bucket that is removed.
pub(super) fn clear(ctx: &mut Ctx<'_, '_>, bucket: B256) -> Result<(), Stop> {
    ctx.store(DEALS, slot(bucket), U256::ZERO)
}

fn slot(bucket: B256) -> U256 {
    base(TAG_RELEASE, &[bucket.as_slice()])
}
