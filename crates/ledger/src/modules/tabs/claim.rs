//! Pay ticks that nobody was paid for yet.

use alloy_primitives::U256;
use hodei_types::{
    abi::{ITabs, TABS},
    tab::{Leaf, NODE_BYTES, TICKS_MAX, Tick, fold, follows},
};

use super::{
    super::ctx::{Ctx, GAS_HASH, Stop, revert},
    providers, queue,
    record::{self, Tab},
    until_ms,
};

/// Pays one claim to its provider's operator; what it paid.
pub(super) fn claim(ctx: &mut Ctx<'_, '_>, claim: &ITabs::Claim) -> Result<U256, Stop> {
    let (id, number) = (claim.tab, claim.leaf);
    let mut tab = Tab::live(ctx, id)?;
    if tab.is_over(queue::window(ctx)?.clock_ms) {
        let until_ms = until_ms(ctx, &tab)?;
        return Err(revert(ITabs::Over { tab: id, untilMs: until_ms }));
    }
    let leaf = Leaf { provider: claim.provider, anchor: claim.anchor, ticks: claim.ticks, price: claim.price };
    // The leaf, its path, and the root. A path too long is refused before it is hashed.
    ctx.charge(GAS_HASH * (2 + (claim.path.len() / NODE_BYTES) as u64))?;
    if fold(&leaf, number, &claim.path) != Ok((tab.root, tab.gwei)) {
        return Err(revert(ITabs::BadPath { tab: id, leaf: number }));
    }

    let known = match record::claimed(ctx, id, number)? {
        Tick { index: 0, .. } => Tick { index: 0, value: leaf.anchor },
        known => known,
    };
    let given = Tick { index: claim.index, value: claim.value };
    let ticks = given.index.saturating_sub(known.index);
    if ticks == 0 {
        return Err(revert(ITabs::NothingNew { tab: id, leaf: number, index: known.index }));
    }
    let bad_value = || revert(ITabs::BadValue { tab: id, leaf: number, index: given.index });
    if given.index > leaf.ticks {
        return Err(bad_value());
    }
    ctx.charge(GAS_HASH * u64::from(ticks))?;
    follows(id, leaf.provider, &known, &given, TICKS_MAX).map_err(|_| bad_value())?;

    let provider = providers::find(ctx, leaf.provider)?;
    let provider = provider.ok_or_else(|| revert(ITabs::UnknownProvider { provider: leaf.provider }))?;
    // Never less than is owed: the tree's sum is the deposit, and a leaf has one place in it.
    let amount = u128::from(ticks).saturating_mul(leaf.price).min(tab.left);
    record::store_claimed(ctx, id, number, &given)?;
    tab.left -= amount;
    tab.claimed = tab.claimed.saturating_add(amount);
    tab.store(ctx)?;
    let amount = U256::from(amount);
    ctx.transfer(TABS, provider.operator, amount)?;
    ctx.emit(
        TABS,
        &ITabs::Claimed {
            payer: tab.payer,
            provider: leaf.provider,
            tab: id,
            operator: provider.operator,
            leaf: number,
            index: given.index,
            ticks,
            amount,
        },
    )?;
    Ok(amount)
}
