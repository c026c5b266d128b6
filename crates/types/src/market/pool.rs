//! Check a relay's offer, and clear the pool: one price for all whose bandwidth is expected to be asked for.

use super::{REGIONS, RelayOffer, TermsError};
use crate::abi::unpack_reach;

/// Relays of the list: all of them are read when an epoch opens.
pub const RELAYS_MAX: u64 = 1024;
/// Bytes of an epoch, and bits a second, that one relay offers at most: far above any machine.
pub const TRANSFER_MAX: u64 = 1 << 56;
/// As of hosts: more than a coin a MiB.
const PRICE_MAX: u64 = super::PRICE_MAX;
const MIB: u64 = 1 << 20;
/// What is expected beyond what was redeemed in the epoch before, in hundredths of a percent.
const MARGIN_BP: u128 = 2_500;
const BP: u128 = super::BP as u128;

/// An offer as the price is made of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Standing {
    /// Wei a MiB.
    pub price: u64,
    /// MiB of an epoch.
    pub mib: u64,
}

/// What an epoch's price is, and what it was made of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Clearing {
    /// Wei a MiB; zero where nobody offers.
    pub price: u64,
    /// Offers that ask that or less, and the MiB they carry together.
    pub below: u64,
    pub supply_mib: u64,
}

/// MiB expected to be asked for after so many were redeemed: a quarter more, rounded up.
pub fn demand_mib(redeemed_mib: u64) -> u64 {
    let expected = (u128::from(redeemed_mib) * (BP + MARGIN_BP)).div_ceil(BP);
    u64::try_from(expected).unwrap_or(u64::MAX)
}

/// The least price asked at which those who ask it or less carry what is expected together; the highest, where all carry
/// less; the cheapest, where nothing is expected.
pub fn clear(mut offers: Vec<Standing>, demand_mib: u64) -> Clearing {
    // Which of equal prices comes first makes no difference.
    offers.sort_unstable();
    let mut cleared = Clearing::default();
    for offer in offers {
        if cleared.below > 0 && cleared.supply_mib >= demand_mib && offer.price > cleared.price {
            break;
        }
        cleared.price = offer.price;
        cleared.below += 1;
        cleared.supply_mib = cleared.supply_mib.saturating_add(offer.mib);
    }
    cleared
}

impl RelayOffer {
    /// Refuses an offer outside of the limits, in windows of so many milliseconds, by the name of the first field that is.
    pub fn check(&self, window_ms: u64) -> Result<(), TermsError> {
        let field = |is_good: bool, name: &'static str| if is_good { Ok(()) } else { Err(TermsError::Field(name)) };
        let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        let graphic = |text: &str| text.bytes().all(|byte| byte.is_ascii_graphic());
        field((1..=PRICE_MAX).contains(&self.price), "price")?;
        field((1..=TRANSFER_MAX).contains(&self.bandwidthBits), "bandwidthBits")?;
        let carried = u128::from(self.bandwidthBits) * u128::from(window_ms) / 8_000;
        let is_carried = u128::from(self.transferBytes) <= carried;
        field((MIB..=TRANSFER_MAX).contains(&self.transferBytes) && is_carried, "transferBytes")?;
        field(usize::from(self.region) < REGIONS.len(), "region")?;
        field((1..=31).contains(&self.network.len()) && graphic(&self.network), "network")?;
        field((1..=31).contains(&self.zone.len()) && self.zone.bytes().all(plain), "zone")?;
        field(unpack_reach(&self.addresses).is_some(), "addresses")
    }

    /// As the price is made of it.
    pub fn standing(&self) -> Standing {
        Standing { price: self.price, mib: self.transferBytes / MIB }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cleared(offers: &[(u64, u64)], demand: u64) -> (u64, u64, u64) {
        let offers = offers.iter().map(|(price, mib)| Standing { price: *price, mib: *mib }).collect();
        let Clearing { price, below, supply_mib } = clear(offers, demand);
        (price, below, supply_mib)
    }

    #[test]
    fn the_price_is_the_least_at_which_what_is_expected_is_carried() {
        let offers = [(9, 100), (3, 10), (5, 20), (5, 5)];
        assert_eq!(cleared(&offers, 0), (3, 1, 10), "nothing is expected: the cheapest");
        assert_eq!(cleared(&offers, 10), (3, 1, 10), "just met");
        assert_eq!(cleared(&offers, 11), (5, 3, 35), "with all who ask the same");
        assert_eq!(cleared(&offers, 35), (5, 3, 35));
        assert_eq!(cleared(&offers, 36), (9, 4, 135));
        assert_eq!(cleared(&offers, u64::MAX), (9, 4, 135), "all carry less: the highest");
        assert_eq!(cleared(&[], 7), (0, 0, 0));
        assert_eq!(cleared(&[(1, u64::MAX), (2, u64::MAX)], u64::MAX), (1, 1, u64::MAX));
        let mut turned = offers;
        turned.reverse();
        assert_eq!(cleared(&turned, 11), cleared(&offers, 11), "in any order");
    }

    #[test]
    fn a_quarter_more_is_expected_than_was_redeemed() {
        assert_eq!([0, 1, 4, 100, u64::MAX].map(demand_mib), [0, 2, 5, 125, u64::MAX]);
    }

    #[test]
    fn an_offer_outside_of_the_limits_is_refused_by_its_field() {
        let good = RelayOffer {
            price: 5,
            bandwidthBits: 8_000_000,
            transferBytes: 10_000_000,
            region: 1,
            network: "as64500".into(),
            zone: "a".into(),
            addresses: crate::abi::pack_addresses(&["127.0.0.1:1".parse().unwrap()]),
        };
        assert_eq!(good.check(10_000), Ok(()));
        assert_eq!(good.standing(), Standing { price: 5, mib: 9 });
        type Change = fn(&mut RelayOffer);
        let cases: [(&str, Change); 9] = [
            ("price", |offer| offer.price = 0),
            ("price", |offer| offer.price = PRICE_MAX + 1),
            ("bandwidthBits", |offer| offer.bandwidthBits = 0),
            ("transferBytes", |offer| offer.transferBytes = MIB - 1),
            ("transferBytes", |offer| offer.transferBytes = 10_000_001),
            ("region", |offer| offer.region = 64),
            ("network", |offer| offer.network = String::new()),
            ("zone", |offer| offer.zone = "A".into()),
            ("addresses", |offer| offer.addresses = vec![1; 7].into()),
        ];
        for (field, change) in cases {
            let mut bad = good.clone();
            change(&mut bad);
            assert_eq!(bad.check(10_000), Err(TermsError::Field(field)));
        }
    }
}
