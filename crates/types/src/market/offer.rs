//! Check an offer, and price a capacity by it.

use alloy_sol_types::SolValue as _;

use super::{BP, Capacity, Offer, Prices, REGIONS, Runtime, TermsError, curve, size_milli};
use crate::abi::{REACH_BYTES_MAX, unpack_reach};

/// The most of each that one host offers: far above any machine, and far below what overflows.
pub const CAPACITY_MAX: Capacity = Capacity::of_dims([1 << 24, 1 << 50, 1 << 56, 1 << 50, 1 << 56]);
/// The least of each that one host offers: what most orders ask for, so that who fills the book has room that orders find.
pub const OFFER_MIN: Capacity = Capacity::of_dims([100, 64 << 20, 0, 0, 0]);
/// Wei of collateral an offer needs at least, half a coin: the 256 offers an order looks at take 128 coins to fill.
pub const COLLATERAL_MIN: u128 = 500_000_000_000_000_000;
/// Wei of collateral for each thousandth of a unit that is offered: a tenth of a coin for a unit of [`size_milli`].
pub const COLLATERAL_MILLI: u128 = 100_000_000_000_000;
/// The highest unit price: 2^60 wei is more than a coin.
pub const PRICE_MAX: u64 = 1 << 60;
/// Bytes of an encoded offer: some 30 words, four tiers, three short texts and addresses.
pub const OFFER_BYTES_MAX: usize = 32 * 48 + REACH_BYTES_MAX;

const MIB: u128 = 1 << 20;
const KBIT: u128 = 1000;

impl Prices {
    /// In the order of [`Capacity::dims`].
    pub const fn dims(&self) -> [u64; 5] {
        [self.cpuMilli, self.memoryMib, self.diskMib, self.bandwidthKbit, self.transferMib]
    }

    pub const fn of_dims(dims: [u64; 5]) -> Self {
        let [cpu, memory, disk, bandwidth, transfer] = dims;
        Self { cpuMilli: cpu, memoryMib: memory, diskMib: disk, bandwidthKbit: bandwidth, transferMib: transfer }
    }

    /// Whether each is at most [`PRICE_MAX`].
    pub fn are_within(&self) -> bool {
        self.dims().iter().all(|price| *price <= PRICE_MAX)
    }
}

/// Wei an hour for that capacity, each part rounded up. Of parts within [`CAPACITY_MAX`] and [`PRICE_MAX`] the sum is
/// below 2^112.
pub fn hour_price(each: &Capacity, prices: &Prices) -> u128 {
    let units = [1, MIB, MIB, KBIT, MIB];
    let part = |((dim, price), unit): ((u64, u64), u128)| (u128::from(dim) * u128::from(price)).div_ceil(unit);
    each.dims().into_iter().zip(prices.dims()).zip(units).map(part).fold(0, u128::saturating_add)
}

/// Wei a second for that capacity at a markup and, for preemptible orders, a part of the price (`part_bp`; else the
/// whole), rounded up; at least one wei.
pub fn rate(each: &Capacity, prices: &Prices, markup_bp: u16, part_bp: u16) -> u128 {
    let bp = u128::from(BP);
    // Below 2^112 · 2^16 and again: the part is taken first where both would not fit.
    let hour = hour_price(each, prices).saturating_mul(bp + u128::from(markup_bp)).div_ceil(bp);
    let hour = hour.saturating_mul(u128::from(part_bp)).div_ceil(bp);
    hour.div_ceil(3600).max(1)
}

/// The collateral with which so much may be offered, in every network; one may ask for more.
pub fn collateral_min(capacity: &Capacity) -> u128 {
    // Below 2^112: 64 bits of size.
    u128::from(size_milli(capacity)).saturating_mul(COLLATERAL_MILLI).max(COLLATERAL_MIN)
}

impl Offer {
    /// Refuses an offer outside of the limits, by the name of the first field that is.
    pub fn check(&self) -> Result<(), TermsError> {
        let field = |is_good: bool, name: &'static str| if is_good { Ok(()) } else { Err(TermsError::Field(name)) };
        let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        let graphic = |text: &str| text.bytes().all(|byte| byte.is_ascii_graphic());
        field(self.capacity.fits_in(&CAPACITY_MAX) && OFFER_MIN.fits_in(&self.capacity), "capacity")?;
        field(self.prices.are_within(), "prices")?;
        curve::check(&self.curve)?;
        field((1..=BP).contains(&u64::from(self.preemptibleBp)), "preemptibleBp")?;
        field(usize::from(self.region) < REGIONS.len(), "region")?;
        field(self.country.iter().all(u8::is_ascii_uppercase), "country")?;
        field(Runtime::of(self.runtime).is_some(), "runtime")?;
        field(self.tier <= TIER_MAX, "tier")?;
        field(self.attestation <= ATTESTATION_MAX, "attestation")?;
        field(self.renewable <= 100, "renewable")?;
        field((1..=31).contains(&self.network.len()) && graphic(&self.network), "network")?;
        field((1..=31).contains(&self.zone.len()) && self.zone.bytes().all(plain), "zone")?;
        field(self.hardware.len() <= 31 && graphic(&self.hardware), "hardware")?;
        field(unpack_reach(&self.addresses).is_some(), "addresses")
    }

    /// What prices are higher by with that much free.
    pub fn markup_bp(&self, free: &Capacity) -> u16 {
        curve::markup_bp(&self.curve, self.capacity.used_bp(free))
    }

    /// The one encoding, as in the ledger's call.
    pub fn encode(&self) -> Vec<u8> {
        self.abi_encode()
    }

    /// Reads [`Self::encode`]'s bytes, refusing every other spelling and what [`Self::check`] refuses.
    pub fn decode(bytes: &[u8]) -> Result<Self, TermsError> {
        if bytes.len() > OFFER_BYTES_MAX {
            return Err(TermsError::TooLong { found: bytes.len(), most: OFFER_BYTES_MAX });
        }
        let offer = Self::abi_decode_validate(bytes).map_err(|_| TermsError::Encoding)?;
        if offer.encode() != bytes {
            return Err(TermsError::Encoding);
        }
        offer.check()?;
        Ok(offer)
    }
}

/// 0 home, 1 office, 2 data centre.
pub const TIER_MAX: u8 = 2;
/// What each tier is called.
pub const TIERS: [&str; TIER_MAX as usize + 1] = ["home", "office", "datacentre"];
/// 0 none, 1 TPM, 2 SEV-SNP, 3 TDX.
pub(super) const ATTESTATION_MAX: u8 = 3;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::market::Tier;

    fn offer() -> Offer {
        Offer {
            capacity: Capacity::of_dims([4000, 8 << 30, 100 << 30, 100_000_000, 0]),
            prices: Prices::of_dims([1000, 50, 3, 7, 1]),
            curve: vec![Tier { fromBp: 5_000, markupBp: 2_000 }],
            preemptibleBp: 5_000,
            region: 1,
            country: [b'E', b'S'].into(),
            runtime: 0,
            tier: 2,
            attestation: 0,
            renewable: 100,
            network: "as64500".into(),
            zone: "a".into(),
            hardware: String::new(),
            addresses: crate::abi::pack_addresses(&["127.0.0.1:1".parse().unwrap()]),
        }
    }

    #[test]
    fn prices_are_by_the_unit_and_rounded_up() {
        let each = Capacity::of_dims([2, 1, 0, 1001, 0]);
        assert_eq!(hour_price(&each, &Prices::of_dims([10, 1 << 20, 9, 1, 9])), 20 + 1 + 2);
        let prices = Prices::of_dims([3600, 0, 0, 0, 0]);
        let cpu = |milli| Capacity::of_dims([milli, 0, 0, 0, 0]);
        assert_eq!(rate(&cpu(7), &prices, 0, 10_000), 7);
        assert_eq!(rate(&cpu(10), &prices, 30_000, 10_000), 40);
        assert_eq!(rate(&cpu(10), &prices, 0, 2_500), 3);
        assert_eq!(rate(&cpu(0), &prices, 0, 10_000), 1, "nothing is for nothing");
    }

    #[test]
    fn more_is_offered_with_more_collateral_and_the_least_with_half_a_coin() {
        assert_eq!(collateral_min(&OFFER_MIN), COLLATERAL_MIN);
        let cpus = |milli| Capacity { cpuMilli: milli, ..Capacity::default() };
        assert_eq!([5_000, 5_001].map(|milli| collateral_min(&cpus(milli)) - COLLATERAL_MIN), [0, COLLATERAL_MILLI]);
        assert_eq!(collateral_min(&cpus(64_000)), 64_000 * COLLATERAL_MILLI);
    }

    #[test]
    fn the_largest_terms_do_not_overflow() {
        let prices = Prices::of_dims([PRICE_MAX; 5]);
        let most = hour_price(&CAPACITY_MAX, &prices);
        assert!(most < 1 << 112);
        let rate = rate(&CAPACITY_MAX, &prices, crate::market::MARKUP_BP_MAX, 10_000);
        assert_eq!(rate, (most * 4).div_ceil(3600));
        assert!(rate.checked_mul(128 * u128::from(crate::market::TERM_SECS_MAX)).is_some());
    }

    #[test]
    fn an_offer_has_one_encoding_and_its_limits_are_named() {
        let good = offer();
        let bytes = good.encode();
        assert_eq!(Offer::decode(&bytes), Ok(good));
        for at in 0..bytes.len() {
            let mut bent = bytes.clone();
            bent[at] ^= 1;
            if let Ok(other) = Offer::decode(&bent) {
                assert_eq!(other.encode(), bent, "byte {at}");
            }
        }
        let longer = [&bytes[..], &[0; 32]].concat();
        assert_eq!(Offer::decode(&longer), Err(TermsError::Encoding));
        let huge = vec![0; OFFER_BYTES_MAX + 1];
        assert!(matches!(Offer::decode(&huge), Err(TermsError::TooLong { .. })));
        type Change = fn(&mut Offer);
        let cases: [(&str, Change); 12] = [
            ("capacity", |offer| offer.capacity.cpuMilli = 99),
            ("capacity", |offer| offer.capacity.memoryBytes = u64::MAX),
            ("prices", |offer| offer.prices.diskMib = PRICE_MAX + 1),
            ("preemptibleBp", |offer| offer.preemptibleBp = 0),
            ("region", |offer| offer.region = 64),
            ("country", |offer| offer.country = [b'e', b's'].into()),
            ("runtime", |offer| offer.runtime = 2),
            ("tier", |offer| offer.tier = 3),
            ("attestation", |offer| offer.attestation = 4),
            ("renewable", |offer| offer.renewable = 101),
            ("zone", |offer| offer.zone = "A".into()),
            ("addresses", |offer| offer.addresses = vec![1; 7].into()),
        ];
        for (field, change) in cases {
            let mut bad = offer();
            change(&mut bad);
            assert_eq!(bad.check(), Err(TermsError::Field(field)));
            assert_eq!(Offer::decode(&bad.encode()), Err(TermsError::Field(field)));
        }
    }
}
