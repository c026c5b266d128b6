//! Promise one provider so many ticks at a price.
//!
//! A leaf is provider 32 ‖ anchor 32 ‖ ticks u32 ‖ price u128 in wei a tick, big-endian. What it may draw is ticks times
//! price, rounded up to a whole gwei. A provider that is read for more than a leaf's ticks has several leaves.

use super::{GWEI, TICK_BYTES, TICKS_MAX, TabError};
use alloy_primitives::B256;

/// Bytes of an encoded leaf.
pub const LEAF_BYTES: usize = 32 + 32 + 4 + 16;

/// What one provider may draw by one chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Leaf {
    /// Its node key.
    pub provider: B256,
    /// Value 0 of its chain.
    pub anchor: B256,
    /// 1 to [`TICKS_MAX`].
    pub ticks: u32,
    /// Wei per tick.
    pub price: u128,
}

/// Wei per tick at a price of so many wei per GiB read, rounded up.
pub fn tick_price(price_read: u128) -> u128 {
    price_read.div_ceil(u128::from((1 << 30) / TICK_BYTES))
}

impl Leaf {
    /// All it may draw, in gwei rounded up.
    pub fn gwei(&self) -> Result<u64, TabError> {
        if self.ticks == 0 || self.ticks > TICKS_MAX {
            return Err(TabError::Ticks(self.ticks));
        }
        let wei = u128::from(self.ticks).checked_mul(self.price).ok_or(TabError::Sum)?;
        u64::try_from(wei.div_ceil(GWEI)).map_err(|_| TabError::Sum)
    }

    pub fn to_bytes(&self) -> [u8; LEAF_BYTES] {
        let mut out = [0; LEAF_BYTES];
        out[..32].copy_from_slice(self.provider.as_slice());
        out[32..64].copy_from_slice(self.anchor.as_slice());
        out[64..68].copy_from_slice(&self.ticks.to_be_bytes());
        out[68..].copy_from_slice(&self.price.to_be_bytes());
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn leaf(ticks: u32, price: u128) -> Leaf {
        Leaf { provider: B256::repeat_byte(1), anchor: B256::repeat_byte(2), ticks, price }
    }

    #[test]
    fn a_leaf_draws_no_more_than_it_says() {
        assert_eq!(leaf(1, 0).gwei(), Ok(0));
        assert_eq!(leaf(1, 1).gwei(), Ok(1), "a part of a gwei counts as one");
        assert_eq!(leaf(3, GWEI).gwei(), Ok(3));
        assert_eq!(leaf(3, GWEI + 1).gwei(), Ok(4));
        assert_eq!(leaf(0, 1).gwei(), Err(TabError::Ticks(0)));
        assert_eq!(leaf(TICKS_MAX + 1, 1).gwei(), Err(TabError::Ticks(TICKS_MAX + 1)));
        let most = u128::from(u64::MAX) * GWEI;
        assert_eq!(leaf(1, most).gwei(), Ok(u64::MAX));
        assert_eq!(leaf(1, most + 1).gwei(), Err(TabError::Sum));
        assert_eq!(leaf(TICKS_MAX, u128::MAX).gwei(), Err(TabError::Sum));
    }

    #[test]
    fn a_gib_of_ticks_pays_at_least_the_price_of_a_gib() {
        for price in [0, 1, 1023, 1024, 1025, 10_000_000_000_000_001] {
            let paid = tick_price(price) * 1024;
            assert!(paid >= price && paid < price + 1024, "{price}");
        }
        assert_eq!(tick_price(u128::MAX), 1 << 118);
    }

    #[test]
    fn bytes_are_in_the_order_stated() {
        let bytes = leaf(0x0102, 0x03).to_bytes();
        assert_eq!((bytes[31], bytes[63], &bytes[64..68], bytes[83]), (1, 2, &[0, 0, 1, 2][..], 3));
    }
}
