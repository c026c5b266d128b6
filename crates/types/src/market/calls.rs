//! Price what runs on call: little for keeping it, and each call by the fuel it burned.
//!
//! ```text
//! keeping, a second   rate × KEEP_BP, at least a wei
//! a call              rate × billed milliseconds / 1000 × CALLS_BP, rounded up once
//! ```
//! `rate` is what the same replica would cost a second if it ran all the time. Fuel is counted alike on every machine, so
//! that whoever has the component and the request can tell what a call costs; time is not, and is not billed.

use super::BP;

/// What keeping a component costs, in hundredths of a percent of the full rate: its disk, its compiled code, and a place
/// in its host's table.
pub const KEEP_BP: u64 = 10;
/// What a call costs beside the same time of a replica that runs always, in hundredths of a percent: twice as much, for
/// its host reserves nothing and is paid for nothing in between.
pub const CALLS_BP: u64 = 20_000;
/// Fuel of a billed millisecond: about an instruction each, of which a core does about a thousand million a second.
pub const FUEL_PER_MS: u64 = 1_000_000;

/// With so many leases a host gets no further one on call: they take no room that would end, and each is a component to
/// keep and a lease to follow.
pub const ON_CALL_LEASES_MAX: u64 = 1024;

/// Wei of calls that may be unpaid, of a lease with so much in escrow: a 64th of it. Its host may lose so much to who calls
/// and does not sign, and who signs before he is told what a call cost would lose no more.
pub fn credit(left: u128) -> u128 {
    left.div_ceil(64)
}

/// Wei a second for keeping a component whose replica would cost `rate`.
pub fn keep_rate(rate: u128) -> u128 {
    rate.saturating_mul(KEEP_BP.into()).div_ceil(BP.into()).max(1)
}

/// Milliseconds a call is billed for: each that it began, and one at least.
pub fn billed_ms(fuel: u64) -> u64 {
    fuel.div_ceil(FUEL_PER_MS).max(1)
}

/// Wei for a call that burned so much fuel.
pub fn call_price(rate: u128, fuel: u64) -> u128 {
    // A rate is below 2^93, and no manifest allows a call fuel for more than 2^20 milliseconds.
    let whole = rate.saturating_mul(billed_ms(fuel).into()).saturating_mul(CALLS_BP.into());
    whole.div_ceil(1000 * u128::from(BP))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        app::Limits,
        market::{CAPACITY_MAX, MARKUP_BP_MAX, PRICE_MAX, Prices, rate},
    };

    #[test]
    fn a_call_is_billed_by_the_millisecond_of_fuel_it_began() {
        assert_eq!([0, 1, FUEL_PER_MS, FUEL_PER_MS + 1].map(billed_ms), [1, 1, 1, 2]);
        assert_eq!(call_price(500_000, 0), 1_000);
        assert_eq!(call_price(500_000, 100 * FUEL_PER_MS), 100_000);
        assert_eq!([1, 500, 501].map(|rate| call_price(rate, 0)), [1, 1, 2], "rounded up once");
    }

    #[test]
    fn keeping_costs_a_thousandth_and_a_wei_at_least() {
        assert_eq!([1, 1000, 1001, 500_000].map(keep_rate), [1, 1, 2, 500]);
    }

    #[test]
    fn the_dearest_call_does_not_overflow() {
        let most = rate(&CAPACITY_MAX, &Prices::of_dims([PRICE_MAX; 5]), MARKUP_BP_MAX, 10_000);
        let ms = u128::from(billed_ms(Limits::FUEL_MAX));
        assert!(most.checked_mul(ms).and_then(|all| all.checked_mul(CALLS_BP.into())).is_some());
        assert_eq!(call_price(most, Limits::FUEL_MAX), (most * ms * 2).div_ceil(1000));
    }
}
