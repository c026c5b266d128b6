//! Move the base fee towards the price at which blocks are half full.

use crate::genesis::Fees;

/// The base fee of the block after one that used `gas_used` at `base_fee`, in wei of gas.
///
/// EIP-1559 with the genesis's denominator: Ethereum's 8 assumes 12 seconds between blocks.
pub fn next_base_fee(fees: &Fees, base_fee: u64, gas_used: u64) -> u64 {
    let target = u128::from((fees.gas_limit / fees.elasticity.max(1)).max(1));
    let (base, used) = (u128::from(base_fee), u128::from(gas_used));
    let step = |gas: u128| base * gas / target / u128::from(fees.denominator.max(1));
    let next = if used > target { base + step(used - target).max(1) } else { base - step(target - used) };
    u64::try_from(next).unwrap_or(u64::MAX).max(fees.base_fee_min)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fee_follows_the_load_and_stops_at_its_floor() {
        let fees = Fees { base_fee: 100, base_fee_min: 10, gas_limit: 1000, elasticity: 2, denominator: 8 };
        assert_eq!(next_base_fee(&fees, 800, 500), 800);
        assert_eq!(next_base_fee(&fees, 800, 1000), 900);
        assert_eq!(next_base_fee(&fees, 800, 0), 700);
        assert_eq!(next_base_fee(&fees, 10, 0), 10);
        assert_eq!(next_base_fee(&fees, 1, 1000), 10);
        assert_eq!(next_base_fee(&fees, u64::MAX, 1000), u64::MAX);
    }
}
