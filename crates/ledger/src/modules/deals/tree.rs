//! Sum a provider's leaves in a Fenwick tree, so that a drawn leaf finds its deal in log₂ steps.
//!
//! Each deal has a place, from 1; places of ended deals are used again. Closing deals wait on a stack while
//! their provider owes a proof.

use alloy_primitives::{B256, U256};
use hodei_types::abi::DEALS;

use super::{
    super::{
        ctx::{Ctx, Stop, broken},
        slots::base,
    },
    standing::Standing,
};

const TAG_NODE: u8 = 8;
const TAG_DEAL_AT: u8 = 9;
const TAG_FREE: u8 = 10;
const TAG_PENDING: u8 = 11;

fn slot(tag: u8, node: B256, i: u64) -> U256 {
    base(tag, &[node.as_slice(), &i.to_be_bytes()])
}

fn load(ctx: &mut Ctx<'_, '_>, tag: u8, node: B256, i: u64) -> Result<u64, Stop> {
    Ok(ctx.load(DEALS, slot(tag, node, i))?.saturating_to())
}

fn store(ctx: &mut Ctx<'_, '_>, tag: u8, node: B256, i: u64, value: u64) -> Result<(), Stop> {
    ctx.store(DEALS, slot(tag, node, i), U256::from(value))
}

fn lowest_bit(i: u64) -> u64 {
    i & i.wrapping_neg()
}

/// Gives `deal` a place without leaves. The caller stores `standing`.
pub(super) fn take_slot(ctx: &mut Ctx<'_, '_>, standing: &mut Standing, deal: u64) -> Result<u64, Stop> {
    let node = standing.node;
    let place = if standing.free > 0 {
        standing.free -= 1;
        load(ctx, TAG_FREE, node, standing.free)?
    } else {
        standing.places += 1;
        let place = standing.places;
        // The new node sums the places it covers, all older but itself.
        let mut sum = 0;
        let mut below = place - 1;
        while below > place - lowest_bit(place) {
            sum += load(ctx, TAG_NODE, node, below)?;
            below -= lowest_bit(below);
        }
        store(ctx, TAG_NODE, node, place, sum)?;
        place
    };
    store(ctx, TAG_DEAL_AT, node, place, deal)?;
    Ok(place)
}

/// Takes back a place without leaves. The caller stores `standing`.
pub(super) fn give_slot(ctx: &mut Ctx<'_, '_>, standing: &mut Standing, place: u64) -> Result<(), Stop> {
    store(ctx, TAG_DEAL_AT, standing.node, place, 0)?;
    store(ctx, TAG_FREE, standing.node, standing.free, place)?;
    standing.free += 1;
    Ok(())
}

/// Moves the leaves of a place from `old` to `new`. The caller stores `standing`.
pub(super) fn add(ctx: &mut Ctx<'_, '_>, standing: &mut Standing, place: u64, old: u64, new: u64) -> Result<(), Stop> {
    let moved = |sum: u64| sum.checked_sub(old)?.checked_add(new);
    let lost = || broken("a provider's leaves are miscounted");
    standing.hold(moved(standing.total_leaves).ok_or_else(lost)?);
    if old == new {
        return Ok(());
    }
    let mut i = place;
    while i != 0 && i <= standing.places {
        let sum = load(ctx, TAG_NODE, standing.node, i)?;
        store(ctx, TAG_NODE, standing.node, i, moved(sum).ok_or_else(lost)?)?;
        i += lowest_bit(i);
    }
    Ok(())
}

/// The deal that holds leaf `drawn` of all, and which of its own leaves that is.
pub(super) fn find(ctx: &mut Ctx<'_, '_>, standing: &Standing, drawn: u64) -> Result<(u64, u64), Stop> {
    let mut place = 0;
    let mut rest = drawn;
    let mut step = (standing.places + 1).next_power_of_two();
    while step > 0 {
        if place + step <= standing.places {
            let sum = load(ctx, TAG_NODE, standing.node, place + step)?;
            if sum <= rest {
                rest -= sum;
                place += step;
            }
        }
        step /= 2;
    }
    let deal = load(ctx, TAG_DEAL_AT, standing.node, place + 1)?;
    Ok((deal, rest))
}

/// Puts a closing deal on the stack. The caller stores `standing`.
pub(super) fn defer(ctx: &mut Ctx<'_, '_>, standing: &mut Standing, deal: u64) -> Result<(), Stop> {
    store(ctx, TAG_PENDING, standing.node, standing.pending, deal)?;
    standing.pending += 1;
    Ok(())
}

/// Takes the last closing deal from the stack. The caller stores `standing`.
pub(super) fn undefer(ctx: &mut Ctx<'_, '_>, standing: &mut Standing) -> Result<Option<u64>, Stop> {
    if standing.pending == 0 {
        return Ok(None);
    }
    standing.pending -= 1;
    let deal = load(ctx, TAG_PENDING, standing.node, standing.pending)?;
    store(ctx, TAG_PENDING, standing.node, standing.pending, 0)?;
    Ok(Some(deal))
}
