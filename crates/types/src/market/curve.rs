//! Raise prices with utilisation, by at most four steps, and pack them into a word.

use super::{BP, TermsError, Tier};

pub const TIERS_MAX: usize = 4;
/// A full host asks at most four times its base price: what a steeper curve gains sellers it takes from buyers.
pub const MARKUP_BP_MAX: u16 = 30_000;

/// Tiers rise in both, begin above nothing and end at the whole.
pub(super) fn check(curve: &[Tier]) -> Result<(), TermsError> {
    let rises = |pair: &[Tier]| pair[0].fromBp < pair[1].fromBp && pair[0].markupBp < pair[1].markupBp;
    let fits = |tier: &Tier| (1..=BP).contains(&u64::from(tier.fromBp)) && (1..=MARKUP_BP_MAX).contains(&tier.markupBp);
    let is_curve = curve.len() <= TIERS_MAX && curve.iter().all(fits) && curve.windows(2).all(rises);
    if is_curve { Ok(()) } else { Err(TermsError::Field("curve")) }
}

/// What prices are higher by at that utilisation; both in hundredths of a percent.
pub fn markup_bp(curve: &[Tier], used_bp: u64) -> u16 {
    curve.iter().rev().find(|tier| u64::from(tier.fromBp) <= used_bp).map_or(0, |tier| tier.markupBp)
}

/// Four tiers of 32 bits, the first lowest; what is not there is zero.
pub fn pack_curve(curve: &[Tier]) -> u128 {
    let word = |tier: &Tier| u128::from(tier.fromBp) << 16 | u128::from(tier.markupBp);
    curve.iter().take(TIERS_MAX).rev().fold(0, |all, tier| all << 32 | word(tier))
}

/// What [`pack_curve`] packed.
pub fn unpack_curve(packed: u128) -> Vec<Tier> {
    let tiers = (0..TIERS_MAX).map(|i| (packed >> (32 * i)) as u32);
    let tiers = tiers.map(|word| Tier { fromBp: (word >> 16) as u16, markupBp: word as u16 });
    tiers.take_while(|tier| tier.fromBp > 0).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn curve(tiers: &[(u16, u16)]) -> Vec<Tier> {
        tiers.iter().map(|(from, markup)| Tier { fromBp: *from, markupBp: *markup }).collect()
    }

    #[test]
    fn a_curve_rises_and_comes_back_from_its_word() {
        let good = curve(&[(2_500, 100), (5_000, 1_000), (9_000, 10_000), (10_000, 30_000)]);
        assert_eq!(check(&good), Ok(()));
        for tiers in [&good[..], &good[..1], &[]] {
            assert_eq!(unpack_curve(pack_curve(tiers)), tiers);
        }
        assert_eq!([0, 2_499, 2_500, 9_999, 10_000].map(|used| markup_bp(&good, used)), [0, 0, 100, 10_000, 30_000]);
        for bad in [
            &[(0, 5)][..],
            &[(1, 0)],
            &[(1, 30_001)],
            &[(10_001, 5)],
            &[(2, 5), (2, 6)],
            &[(2, 5), (3, 5)],
            &[(1, 1), (2, 2), (3, 3), (4, 4), (5, 5)],
        ] {
            assert_eq!(check(&curve(bad)), Err(TermsError::Field("curve")), "{bad:?}");
        }
    }
}
