//! Give an open deal more room, or less.
//!
//! The owner alone asks for it. What grows is new business: the provider must take new deals and have the room, and
//! the whole deal goes on at its price of now, which the owner has seen; what was earned before is paid at the old
//! one. What shrinks gives its room back to the provider, but never what the deal still holds, so that a provider's
//! promises always cover its content; its price stays. A deal shrunk to 0 takes nothing and only lets go.
//!
//! While the bucket keeps versions under retention no deal shrinks, and only the owner's own account lets one grow: more
//! room, or another price, uses up sooner what is paid ahead, which a budget that was stolen must not.

use hodei_types::abi::{DEALS, IDeals, LEAF_BYTES};

use super::{
    super::{
        budgets,
        ctx::{Ctx, Stop, broken, revert},
        providers,
    },
    locked_ms,
    record::{Deal, OPEN},
    settle, standing,
};

pub(super) fn resize(ctx: &mut Ctx<'_, '_>, entry: &IDeals::Resize) -> Result<(), Stop> {
    let id = entry.deal;
    let mut deal = Deal::live(ctx, id)?;
    if budgets::principal(ctx, ctx.caller)? != deal.owner {
        return Err(revert(IDeals::NotParty { deal: id }));
    }
    if deal.state != OPEN {
        return Err(revert(IDeals::NotOpen { deal: id }));
    }
    let is_refused = entry.capacityBytes < deal.capacity_bytes || ctx.caller != deal.owner;
    if let Some(until_ms) = locked_ms(ctx, deal.bucket)?.filter(|_| is_refused) {
        return Err(revert(IDeals::Locked { untilMs: until_ms }));
    }
    let node = deal.provider;
    let standing = standing::roll(ctx, node)?;
    settle(ctx, &mut deal, &standing)?;
    let mut provider = providers::find(ctx, node)?.ok_or_else(|| broken("a deal without a provider"))?;
    if entry.capacityBytes > deal.capacity_bytes {
        if provider.retired || standing.suspended || standing.closed {
            return Err(revert(IDeals::ProviderUnavailable { provider: node }));
        }
        if provider.price_store > entry.priceMax {
            return Err(revert(IDeals::PriceAboveMax { price: provider.price_store }));
        }
        deal.price = provider.price_store;
    }
    let used = provider.used_bytes.checked_sub(deal.pledged_bytes);
    let used = used.ok_or_else(|| broken("a provider's deals are miscounted"))?;
    let held_bytes = deal.leaves.saturating_mul(LEAF_BYTES).min(deal.pledged_bytes);
    let pledged_bytes = entry.capacityBytes.max(held_bytes);
    let free = provider.capacity_bytes.saturating_sub(provider.used_bytes);
    if pledged_bytes.saturating_sub(deal.pledged_bytes) > free {
        return Err(revert(IDeals::CapacityExceeded { freeBytes: free }));
    }
    (deal.capacity_bytes, deal.pledged_bytes) = (entry.capacityBytes, pledged_bytes);
    provider.used_bytes = used + pledged_bytes;
    providers::store(ctx, &provider)?;
    deal.store(ctx)?;
    let (capacity, price) = (deal.capacity_bytes, deal.price);
    ctx.emit(DEALS, &IDeals::Resized { deal: id, provider: node, capacityBytes: capacity, price })
}
