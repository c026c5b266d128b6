//! Bring an offer of a provider or a host to prices of one unit each.

use super::{MONTH_SECS, Ware};
use crate::{
    market::{Offer, is_of},
    plan::usable,
};
use alloy_primitives::Address;
use hodei_types::{
    abi::{IMarket, IRelays},
    market::{BP, CAPACITY_MIN, Capacity, Prices, REGIONS, hour_price},
    transport::NodeKey,
};

/// What one machine asks for one ware, and how much of it there is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ask {
    pub ware: Ware,
    pub node: NodeKey,
    pub operator: Address,
    /// What fails together with it: as addresses say for providers, as declared for hosts.
    pub network: String,
    /// As its offer states it: the zone, or the region of hosts.
    pub place: String,
    /// Wei for a unit of the ware.
    pub price: u128,
    pub amount: u128,
}

impl Ask {
    /// What a provider that takes new deals asks, with windows of so many seconds.
    pub fn of_offer(offer: &Offer, window_secs: u64) -> Vec<Self> {
        if !usable(&offer) {
            return Vec::new();
        }
        let ask = |ware, price, amount: u64| Self {
            ware,
            node: offer.node,
            operator: offer.operator,
            network: offer.network(),
            place: offer.zone.clone(),
            price,
            amount: amount.into(),
        };
        let month = month_price(offer.price_store, window_secs);
        let mut asks = vec![ask(Ware::Reads, offer.price_read, offer.capacity_bytes)];
        if offer.free_bytes() > 0 {
            asks.push(ask(Ware::Storage, month, offer.free_bytes()));
        }
        asks
    }

    /// What a host with room for a replica asks, as full as it is.
    pub fn of_host(host: &IMarket::Host) -> Vec<Self> {
        Self::of_room(host, &host.free, hour_prices(&host.offer, host.markupBp))
    }

    /// What a held lease that is lent asks for what is free of it, with its host as it is.
    pub fn of_held(held: &IMarket::Held, host: &IMarket::Host) -> Vec<Self> {
        if held.lent { Self::of_room(host, &held.free, unit_prices(&held.prices, 0)) } else { Vec::new() }
    }

    /// What a relay asks for a GiB, with as much of it an hour as it carries in windows of so many seconds.
    pub fn of_relay(relay: &IRelays::Relay, window_secs: u64) -> Option<Self> {
        let region = REGIONS.get(usize::from(relay.offer.region)).filter(|_| !relay.retired)?;
        Some(Self {
            ware: Ware::Transfer,
            node: NodeKey(relay.node.0),
            operator: relay.operator,
            network: relay.offer.network.clone(),
            place: (*region).to_owned(),
            price: u128::from(relay.offer.price) * 1024,
            amount: u128::from(relay.offer.transferBytes) * 3600 / u128::from(window_secs.max(1)),
        })
    }

    /// What is asked there for each ware of which there is some, CPU and memory always.
    fn of_room(host: &IMarket::Host, free: &Capacity, prices: [u128; 4]) -> Vec<Self> {
        let region = REGIONS.get(usize::from(host.offer.region));
        let is_open = !host.retired && host.collateral >= host.collateralMin && CAPACITY_MIN.fits_in(free);
        let Some(region) = region.filter(|_| is_open) else {
            return Vec::new();
        };
        let wares = [Ware::Cpu, Ware::Memory, Ware::Line, Ware::Transfer];
        let amounts = [free.cpuMilli, free.memoryBytes, free.bandwidthBits, free.transferBytes];
        let asked = wares.into_iter().zip(prices).zip(amounts);
        let asked = asked.filter(|((ware, _), amount)| *amount > 0 || matches!(ware, Ware::Cpu | Ware::Memory));
        asked
            .map(|((ware, price), amount)| Self {
                ware,
                node: NodeKey(host.node.0),
                operator: host.operator,
                network: host.offer.network.clone(),
                place: (*region).to_owned(),
                price,
                amount: amount.into(),
            })
            .collect()
    }

    /// Where it is listed: the region its place is named after, of those that all know, or else its place as stated.
    pub fn region(&self) -> &str {
        let known = REGIONS.iter().filter(|region| is_of(&self.place, region)).max_by_key(|region| region.len());
        known.copied().unwrap_or(&self.place)
    }

    /// Whether its place is of this region, as `eu-berlin` is of `eu`.
    pub fn is_of(&self, region: &str) -> bool {
        is_of(&self.place, region)
    }
}

/// Wei a month for what costs `price` a window, rounded up.
pub(super) fn month_price(price: u128, window_secs: u64) -> u128 {
    price.saturating_mul(MONTH_SECS.into()).div_ceil(window_secs.max(1).into())
}

/// Wei an hour for a CPU, a GiB of memory and a Mbit/s, and wei for a GiB moved, rounded up.
pub(super) fn hour_prices(offer: &IMarket::Offer, markup_bp: u16) -> [u128; 4] {
    unit_prices(&offer.prices, markup_bp)
}

fn unit_prices(prices: &Prices, markup_bp: u16) -> [u128; 4] {
    let bp = u128::from(BP);
    let units = [[1000, 0, 0, 0, 0], [0, 1 << 30, 0, 0, 0], [0, 0, 0, 1_000_000, 0], [0, 0, 0, 0, 1 << 30]];
    // Below 2^71 each: a unit's price of 60 bits, 1,024 times.
    let price = |unit| hour_price(&Capacity::of_dims(unit), prices);
    units.map(|unit| (price(unit) * (bp + u128::from(markup_bp))).div_ceil(bp))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::tests::offer;
    use alloy_primitives::U256;

    #[test]
    fn a_provider_asks_by_the_month_and_by_the_read() {
        let mut some = offer(1, 2, "eu-central-fra", 7);
        some.used_bytes = 4 << 30;
        let asks = Ask::of_offer(&some, 86_400);
        let told: Vec<_> = asks.iter().map(|ask| (ask.ware, ask.price, ask.amount, ask.region())).collect();
        assert_eq!(
            told,
            [(Ware::Reads, 1, 10 << 30, "eu-central"), (Ware::Storage, 210, 6 << 30, "eu-central")],
            "thirty windows of a day"
        );
        assert_eq!((month_price(1, 7), month_price(u128::MAX, 1)), (370_286, u128::MAX), "rounded up, never wrapped");
        assert!(asks[0].is_of("eu") && asks[0].is_of("eu-central-fra") && !asks[0].is_of("eu-c"));
        some.used_bytes = some.capacity_bytes;
        assert_eq!(Ask::of_offer(&some, 86_400).len(), 1, "who is full still sells reads");
        some.suspended = true;
        assert!(Ask::of_offer(&some, 86_400).is_empty());
        let home = Ask::of_offer(&offer(1, 2, "attic", 7), 86_400);
        assert_eq!(home[0].region(), "attic", "no region that all know");
    }

    #[test]
    fn a_host_asks_by_the_hour_and_more_as_it_fills() {
        let half = Capacity::of_dims([2000, 4 << 30, 0, 1_000_000, 0]);
        let mut host = IMarket::Host {
            node: Default::default(),
            operator: Address::repeat_byte(3),
            offer: IMarket::Offer {
                capacity: half.checked_add(&half).unwrap(),
                prices: Prices::of_dims([5, 3, 0, 7, 9]),
                curve: vec![],
                preemptibleBp: 10_000,
                region: 12,
                country: [b'D', b'E'].into(),
                runtime: 0,
                tier: 0,
                attestation: 0,
                renewable: 0,
                network: "AS1".into(),
                zone: "attic".into(),
                hardware: String::new(),
                addresses: Default::default(),
            },
            collateral: Default::default(),
            collateralMin: Default::default(),
            free: half,
            markupBp: 0,
            leases: 1,
            retired: false,
            quitsFreeMs: 0,
            version: 1,
        };
        let told = |host: &IMarket::Host| -> Vec<_> {
            Ask::of_host(host).into_iter().map(|ask| (ask.ware, ask.price, ask.amount)).collect()
        };
        assert_eq!(
            told(&host),
            [(Ware::Cpu, 5_000, 2_000), (Ware::Memory, 3_072, 4 << 30), (Ware::Line, 7_000, 1_000_000)]
        );
        assert_eq!(Ask::of_host(&host)[0].region(), "eu-central");
        host.markupBp = 1;
        assert_eq!(
            told(&host),
            [(Ware::Cpu, 5_001, 2_000), (Ware::Memory, 3_073, 4 << 30), (Ware::Line, 7_001, 1_000_000)],
            "rounded up"
        );
        host.free.transferBytes = 5;
        assert_eq!(told(&host)[3], (Ware::Transfer, 9_217, 5));
        let mut held = IMarket::Held {
            lease: 1,
            order: 1,
            holder: Address::repeat_byte(4),
            node: host.node,
            capacity: half,
            free: Capacity { cpuMilli: 500, bandwidthBits: 0, ..half },
            leases: 1,
            untilMs: 0,
            lent: true,
            prices: Prices::of_dims([2, 1, 0, 0, 0]),
            preemptibleBp: 10_000,
        };
        let lent: Vec<_> =
            Ask::of_held(&held, &host).into_iter().map(|ask| (ask.ware, ask.price, ask.amount, ask.operator)).collect();
        assert_eq!(lent, [(Ware::Cpu, 2_000, 500, host.operator), (Ware::Memory, 1_024, 4 << 30, host.operator)]);
        held.lent = false;
        assert!(Ask::of_held(&held, &host).is_empty());
        host.free.memoryBytes = 0;
        assert!(told(&host).is_empty(), "no replica finds room");
        (host.free, host.collateralMin) = (half, U256::from(1));
        assert!(told(&host).is_empty(), "who lost its collateral is in no book");
        (host.collateralMin, host.retired) = (U256::ZERO, true);
        assert!(told(&host).is_empty());
    }

    #[test]
    fn a_relay_asks_by_the_gib_and_has_its_epochs_bytes_by_the_hour() {
        let mut relay = IRelays::Relay {
            node: Default::default(),
            operator: Address::repeat_byte(3),
            offer: IRelays::RelayOffer {
                price: 3,
                bandwidthBits: 1_000_000,
                transferBytes: 48 << 20,
                region: 12,
                network: "AS1".into(),
                zone: "attic".into(),
                addresses: Default::default(),
            },
            collateral: U256::ZERO,
            collateralMin: U256::ZERO,
            retired: false,
            withdrawsMs: 0,
            inPool: false,
        };
        let ask = Ask::of_relay(&relay, 86_400).unwrap();
        assert_eq!((ask.ware, ask.price, ask.amount, ask.region()), (Ware::Transfer, 3072, 2 << 20, "eu-central"));
        relay.retired = true;
        assert_eq!(Ask::of_relay(&relay, 86_400), None);
    }
}
