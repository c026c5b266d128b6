//! Keep open offers in steps of price, so that the cheapest are found first among however many.
//!
//! For each region and runtime: one word whose bits say which steps hold offers, and a list of hosts for each step. A step
//! is half an octave of what [`REFERENCE`] costs an hour. Hosts that retired, or have no room for the smallest replica,
//! are not in it: they take nobody's probe.

use alloy_primitives::{B256, U256};
use hodei_types::{
    abi::MARKET,
    market::{Capacity, Prices, REFERENCE, REGIONS, Step, hour_price},
};

use super::{
    super::{
        ctx::{Ctx, Stop},
        list::List,
        slots::base,
    },
    card::Card,
};

const TAG_STEPS: u8 = 3;
const TAG_STEP: u8 = 4;

/// Offers one order looks at: beyond that, of the cheapest by what [`REFERENCE`] costs. With the leases of 64 replicas it
/// stays within what one transaction's gas pays for. Dear offers take no cheaper one's place; to fill it with cheaper ones
/// takes as many times the least collateral, at prices that anybody may take them at.
pub(super) const PROBES_MAX: usize = 256;

/// Where in the book an offer stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Shelf {
    pub(super) region: u8,
    pub(super) runtime: u8,
    pub(super) step: u8,
}

impl Shelf {
    fn list(self) -> List {
        List::new(MARKET, base(TAG_STEP, &[&[self.region, self.runtime, self.step]]))
    }

    /// Puts a host that is not in the book into it.
    pub(super) fn put(self, ctx: &mut Ctx<'_, '_>, node: B256) -> Result<(), Stop> {
        let list = self.list();
        list.push(ctx, node.into())?;
        if list.len(ctx)? == 1 { self.mark(ctx, true) } else { Ok(()) }
    }

    /// Takes a host out that is in the book.
    pub(super) fn remove(self, ctx: &mut Ctx<'_, '_>, node: B256) -> Result<(), Stop> {
        let list = self.list();
        list.remove(ctx, node.into())?;
        if list.len(ctx)? == 0 { self.mark(ctx, false) } else { Ok(()) }
    }

    fn mark(self, ctx: &mut Ctx<'_, '_>, is_held: bool) -> Result<(), Stop> {
        let mut steps = ctx.load(MARKET, steps_slot(self.region, self.runtime))?;
        steps.set_bit(self.step.into(), is_held);
        ctx.store(MARKET, steps_slot(self.region, self.runtime), steps)
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

/// Hosts of these regions, the cheapest steps first, at most [`PROBES_MAX`]; each with its step.
pub(super) fn walk(ctx: &mut Ctx<'_, '_>, regions: u64, runtime: u8) -> Result<Vec<(u8, B256)>, Stop> {
    let mut held = Vec::new();
    for region in (0..REGIONS.len() as u8).filter(|region| regions >> region & 1 == 1) {
        held.push((region, ctx.load(MARKET, steps_slot(region, runtime))?));
    }
    let mut found = Vec::new();
    for step in 0..=u8::MAX {
        for (region, _) in held.iter().filter(|(_, steps)| steps.bit(step.into())) {
            let room = PROBES_MAX - found.len();
            if room == 0 {
                return Ok(found);
            }
            let page = Shelf { region: *region, runtime, step }.list().page(ctx, 0, room as u64)?;
            found.extend(page.into_iter().map(|node| (step, node.into())));
        }
    }
    Ok(found)
}

/// What stands in the book of one region and runtime.
pub(super) fn depth(ctx: &mut Ctx<'_, '_>, region: u8, runtime: u8) -> Result<Vec<Step>, Stop> {
    let mut steps: Vec<Step> = Vec::new();
    let mut last = None;
    for (step, node) in walk(ctx, 1 << region, runtime)? {
        if last != Some(step) {
            last = Some(step);
            steps.push(Step { priceFrom: price_from(step), offers: 0, free: Capacity::default() });
        }
        let free = Card::load(ctx, node)?.free;
        if let Some(shown) = steps.last_mut() {
            shown.offers += 1;
            // At most 256 hosts of what fits 56 bits.
            shown.free = shown.free.checked_add(&free).unwrap_or(shown.free);
        }
    }
    Ok(steps)
}

fn steps_slot(region: u8, runtime: u8) -> U256 {
    base(TAG_STEPS, &[&[region, runtime]])
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
