//! Name prices at which an offer would be within somebody's highest price.

use crate::wallet::format_coins;
use alloy_primitives::U256;
use hodei_types::market::{Capacity, Prices, hour_price};

const HOUR_SECS: u128 = 3600;
/// What an offer asks where it names no prices (`[compute]`): wei an hour for a thousandth of a CPU and for a MiB.
const CPU_MILLI: u64 = 10_000_000_000_000;
const MEMORY_MIB: u64 = 1_953_125_000_000;
/// Of a MiB of disk, of a kbit a second, and of a MiB an hour that may be moved, which no flag says otherwise.
const DISK_MIB: u64 = 9_765_625_000;
const BANDWIDTH_KBIT: u64 = 10_000_000_000;
const TRANSFER_MIB: u64 = 976_562_500_000;

/// What an offer has to ask to be taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asking {
    /// What it asks where nothing is said.
    Usual,
    /// Wei an hour for a thousandth of a CPU and for a MiB of memory.
    These(u64, u64),
    /// There is no price that low.
    Nothing,
}

impl std::fmt::Display for Asking {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self::These(cpu, memory) = self else { return Ok(()) };
        let coins = |wei: u64, units: u64| format_coins(U256::from(wei) * U256::from(units));
        write!(f, " --price-cpu {} --price-memory {}", coins(*cpu, 1000), coins(*memory, 1024))
    }
}

/// For a replica of that size, at so many wei an hour at most.
pub(super) fn asking(each: &Capacity, price_max: u128) -> Asking {
    // A rate is whole wei a second, and at least one.
    let most = price_max / HOUR_SECS * HOUR_SECS;
    let hour = |cpu, memory| hour_price(each, &Prices::of_dims([cpu, memory, DISK_MIB, BANDWIDTH_KBIT, TRANSFER_MIB]));
    let usual = hour(CPU_MILLI, MEMORY_MIB);
    if usual <= most && most > 0 {
        return Asking::Usual;
    }
    let rest = hour(0, 0);
    let (Some(left), base) = (most.checked_sub(rest), usual.saturating_sub(rest).max(1)) else {
        return Asking::Nothing;
    };
    // Both in the same measure, rounded down, each by a wei more: parts of the sum are rounded up.
    let part = |usual: u64| (u128::from(usual).saturating_mul(left) / base).saturating_sub(1) as u64;
    let (cpu, memory) = (part(CPU_MILLI), part(MEMORY_MIB));
    match cpu > 0 && memory > 0 && hour(cpu, memory) <= most {
        true => Asking::These(cpu, memory),
        false => Asking::Nothing,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hodei_types::market::rate;

    #[test]
    fn prices_that_are_named_are_within_the_highest_price() {
        let each = Capacity::of_dims([100, 256 << 20, 0, 0, 0]);
        assert_eq!(asking(&each, u128::MAX), Asking::Usual);
        assert_eq!(
            asking(&each, 2_000_000_000_000_000),
            Asking::Usual,
            "a tenth of 0.01 and a quarter of 0.002 are less"
        );
        for most in [1_000_000_000_000_000, 1_000_000_000_000, 10_000_000] {
            let asked = asking(&each, most);
            let Asking::These(cpu, memory) = asked else { panic!("{asked:?} of {most}") };
            let wei = rate(&each, &Prices::of_dims([cpu, memory, DISK_MIB, 0, 0]), 0, 10_000) * HOUR_SECS;
            assert!(wei <= most && wei >= most / 2, "{wei} of {most}");
            assert!(
                asked.to_string().starts_with(" --price-cpu 0.") && asked.to_string().contains(" --price-memory 0.")
            );
        }
    }

    #[test]
    fn what_is_too_little_for_any_price_is_no_price() {
        let each = Capacity::of_dims([100, 256 << 20, 1 << 30, 0, 0]);
        for most in [0, 3_599, 3_600, 1_000_000] {
            assert_eq!(asking(&each, most), Asking::Nothing, "{most}");
        }
    }
}
