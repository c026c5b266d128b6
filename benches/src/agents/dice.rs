//! Draw numbers from a seed, all of them integers.

/// One, in 65,536ths.
pub(crate) const ONE: u64 = 1 << 16;
/// The natural logarithm of two, in 65,536ths.
const LN_2: u64 = 45_426;

/// Splitmix64.
#[derive(Clone)]
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }

    /// Below `sides`.
    pub(crate) fn below(&mut self, sides: u64) -> u64 {
        self.next() % sides.max(1)
    }

    /// Exponentially distributed with this mean, within some percent: the logarithm is interpolated between powers of two.
    pub(crate) fn exponential(&mut self, mean: u64) -> u64 {
        let drawn = self.next() | 1;
        let zeros = u64::from(drawn.leading_zeros());
        let fraction = if zeros == 63 { 0 } else { drawn << (zeros + 1) >> 48 };
        let octaves = (zeros + 1) * ONE - fraction;
        ((u128::from(mean) * u128::from(octaves) * u128::from(LN_2)) >> 32) as u64
    }

    /// About log-normal around `middle`: a power of two with the sum of four dice of `spread` + 1 eighths of an octave.
    pub(crate) fn around(&mut self, middle: u64, spread: u64) -> u64 {
        // 2^(k/8) in thousandths.
        const EIGHTHS: [u64; 8] = [1000, 1091, 1189, 1297, 1414, 1542, 1682, 1834];
        let sum: u64 = (0..4).map(|_| self.below(spread + 1)).sum();
        // The middle of the sum is twice the spread.
        let scaled = middle * EIGHTHS[(sum % 8) as usize] * (1 << (sum / 8)) / 1000;
        let down = 2 * spread;
        ((scaled * 1000 / EIGHTHS[(down % 8) as usize]) >> (down / 8)).max(1)
    }
}

/// What is left of a value after `secs`, in 65,536ths, if it falls to 1/e in `patience` seconds.
pub(crate) fn patience_left(secs: u64, patience: u64) -> u64 {
    let (mut left, mut base, mut power) = (ONE, ONE - ONE / patience.max(2), secs);
    while power > 0 {
        if power & 1 == 1 {
            left = (left * base) >> 16;
        }
        base = (base * base) >> 16;
        power >>= 1;
    }
    left
}
