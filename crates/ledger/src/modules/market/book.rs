//! Keep open offers in steps of price, so that the cheapest are found first among however many.
//!
//! For each region and runtime: one word whose bits say which steps hold offers, and a list of hosts for each step. A step
//! is half an octave of what [`REFERENCE`] costs an hour. Hosts that retired, or have no room for the smallest replica,
//! are not in it: they take nobody's probe.
//!
//! Held leases that are lent stand in steps of their own beside, with probes of their own: room is held for what it costs,
//! and without collateral, so that crowding them is cheap; what they crowd is each other.

use alloy_primitives::U256;
use hodei_types::{
    abi::MARKET,
    market::{Capacity, Prices, REFERENCE, REGIONS, Step, hour_price},
};
use std::collections::BTreeMap;

use super::{
    super::{
        ctx::{Ctx, Stop},
        list::List,
        slots::base,
    },
    card::Card,
    held::Held,
};

const TAG_STEPS: u8 = 3;
const TAG_STEP: u8 = 4;
const TAG_LENT_STEPS: u8 = 22;
const TAG_LENT_STEP: u8 = 23;

/// Offers one order looks at: beyond that, of the cheapest by what [`REFERENCE`] costs. With the leases of 64 replicas it
/// stays within what one transaction's gas pays for. Dear offers take no cheaper one's place; to fill it with cheaper ones
/// takes as many times the least collateral, at prices that anybody may take them at.
pub(super) const PROBES_MAX: usize = 256;
/// Held leases one order looks at besides.
pub(super) const LENT_PROBES_MAX: usize = 32;

/// Who offers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    /// Hosts, by their keys.
    Hosts,
    /// Holders of leases, by the leases' ids.
    Lent,
}

impl Side {
    fn probes_max(self) -> usize {
        if self == Self::Hosts { PROBES_MAX } else { LENT_PROBES_MAX }
    }

    fn steps_slot(self, region: u8, runtime: u8) -> U256 {
        base(if self == Self::Hosts { TAG_STEPS } else { TAG_LENT_STEPS }, &[&[region, runtime]])
    }
}

/// Where in the book an offer stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Shelf {
    pub(super) region: u8,
    pub(super) runtime: u8,
    pub(super) step: u8,
}

impl Shelf {
    fn list(self, side: Side) -> List {
        let tag = if side == Side::Hosts { TAG_STEP } else { TAG_LENT_STEP };
        List::new(MARKET, base(tag, &[&[self.region, self.runtime, self.step]]))
    }

    /// Puts one that is not in the book into it.
    pub(super) fn put(self, ctx: &mut Ctx<'_, '_>, side: Side, item: U256) -> Result<(), Stop> {
        let list = self.list(side);
        list.push(ctx, item)?;
        if list.len(ctx)? == 1 { self.mark(ctx, side, true) } else { Ok(()) }
    }

    /// Takes one out that is in the book.
    pub(super) fn remove(self, ctx: &mut Ctx<'_, '_>, side: Side, item: U256) -> Result<(), Stop> {
        let list = self.list(side);
        list.remove(ctx, item)?;
        if list.len(ctx)? == 0 { self.mark(ctx, side, false) } else { Ok(()) }
    }

    fn mark(self, ctx: &mut Ctx<'_, '_>, side: Side, is_full: bool) -> Result<(), Stop> {
        let slot = side.steps_slot(self.region, self.runtime);
        let mut steps = ctx.load(MARKET, slot)?;
        steps.set_bit(self.step.into(), is_full);
        ctx.store(MARKET, slot, steps)
    }
}

/// The step of an offer at these prices.
pub(super) fn step(prices: &Prices) -> u8 {
    // Below 2^113: 226 steps.
    let price = hour_price(&REFERENCE, prices).max(1);
    let octave = price.ilog2();
    let upper = octave > 0 && price >> (octave - 1) & 1 == 1;
    (octave * 2 + u32::from(upper)) as u8
}

/// The lowest price of a step.
fn price_from(step: u8) -> u128 {
    let octave = 1 << (step / 2);
    if step % 2 == 1 { octave + octave / 2 } else { octave }
}

/// Who offers in these regions, the cheapest steps first, at most as many as an order looks at; each with its step.
pub(super) fn walk(ctx: &mut Ctx<'_, '_>, side: Side, regions: u64, runtime: u8) -> Result<Vec<(u8, U256)>, Stop> {
    let mut full = Vec::new();
    for region in (0..REGIONS.len() as u8).filter(|region| regions >> region & 1 == 1) {
        full.push((region, ctx.load(MARKET, side.steps_slot(region, runtime))?));
    }
    let mut found = Vec::new();
    for step in 0..=u8::MAX {
        for (region, _) in full.iter().filter(|(_, steps)| steps.bit(step.into())) {
            let room = side.probes_max() - found.len();
            if room == 0 {
                return Ok(found);
            }
            let page = Shelf { region: *region, runtime, step }.list(side).page(ctx, 0, room as u64)?;
            found.extend(page.into_iter().map(|item| (step, item)));
        }
    }
    Ok(found)
}

/// What stands in the book of one region and runtime.
pub(super) fn depth(ctx: &mut Ctx<'_, '_>, region: u8, runtime: u8) -> Result<Vec<Step>, Stop> {
    let mut offers = Vec::new();
    for (step, node) in walk(ctx, Side::Hosts, 1 << region, runtime)? {
        offers.push((step, Card::load(ctx, node.into())?.free));
    }
    for (step, lease) in walk(ctx, Side::Lent, 1 << region, runtime)? {
        let held = Held::find(ctx, lease.saturating_to())?;
        offers.extend(held.map(|held| (step, held.free)));
    }
    let mut steps: BTreeMap<u8, Step> = BTreeMap::new();
    for (step, free) in offers {
        let none = Step { priceFrom: price_from(step), offers: 0, free: Capacity::default() };
        let shown = steps.entry(step).or_insert(none);
        shown.offers += 1;
        // At most 288 of what fits 56 bits.
        shown.free = shown.free.checked_add(&free).unwrap_or(shown.free);
    }
    Ok(steps.into_values().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_holds_prices_from_its_own_to_the_next() {
        for price in [1, 2, 3, 4, 5, 6, 7, 8, 11, 12, 1 << 40, (1 << 60) - 1, 1 << 60] {
            // Priced by CPU alone, a thousand of which the reference has.
            let step = step(&Prices { cpuMilli: price, ..Prices::default() });
            let hour = u128::from(price) * 1000;
            assert!(price_from(step) <= hour && hour < price_from(step + 1), "{price}");
        }
        let most = step(&Prices::of_dims([hodei_types::market::PRICE_MAX; 5]));
        assert!(most < u8::MAX);
        assert_eq!((step(&Prices::default()), price_from(0), price_from(1)), (0, 1, 1));
    }
}
