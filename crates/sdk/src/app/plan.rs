//! Say where an app's replicas would go and what they cost, before anything is paid.
//!
//! The ledger's own matcher is asked, so that what is shown is what an order would get now. Where it finds too few
//! offers, the book says which rule leaves none, what the nearest order is that would be met, and by which command
//! somebody would make the offer that lacks.

use super::{
    draft::Lines,
    lack::{no_offer, on_line},
    level::{Promised, Promises},
    spec::Spec,
};
use crate::{fault::Fault, market::listed};
use alloy_primitives::{Address, U256};
use hodei_types::{
    abi::{
        IMarket::{self, Host, Order, Placement},
        MARKET, PAGE_MAX, unpack_reach,
    },
    call::{ask, revert},
    chain::Chain,
    market::{BP, Class, FUEL_PER_MS, REGIONS, TERM_SECS_MAX, call_price, keep_rate},
    transport::{NodeKey, Peer},
};
use std::collections::BTreeMap;

const HOUR_SECS: u128 = 3600;
/// Prices may rise so much between plan and order where no highest price was said.
const SLACK_BP: u128 = 500;
/// With what is held or lent, which the matcher looks at beside hosts.
const ORDER_GAS: u64 = 4_000_000;
const LEASE_GAS: u64 = 400_000;
const PROBE_GAS: u64 = 20_000;
/// What a service level adds to a lease that begins.
const LEVEL_GAS: u64 = 150_000;
/// What a transaction may ask.
const TRANSACTION_GAS_MAX: u64 = 1 << 24;

/// Where one replica would go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    pub node: NodeKey,
    pub operator: Address,
    pub region: &'static str,
    /// Two letters.
    pub country: String,
    /// As declared.
    pub network: String,
    pub zone: String,
    /// Wei a second; on call a thousandth of it is for keeping, and calls are priced by it.
    pub rate: u128,
    /// What its host promises, if that was asked for.
    pub promised: Option<Promised>,
}

/// How many replicas stand on the one that most stand on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stands {
    /// `host`, `operator`, `network` or `country`.
    pub of: &'static str,
    pub name: String,
    pub replicas: usize,
}

/// What an order would get.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// What would be ordered.
    pub terms: Order,
    pub places: Vec<Place>,
    /// Wei that are bound for the term.
    pub deposit: U256,
    pub stands: Vec<Stands>,
    /// Where copies of what it runs would be kept beside it, if any are wanted.
    pub spares: Option<Box<Plan>>,
    /// Hosts the matcher may look at.
    hosts: u64,
}

impl Plan {
    /// Wei that are bound for the term, with what copies take.
    pub fn escrow(&self) -> U256 {
        self.deposit + self.spares.as_ref().map_or(U256::ZERO, |spares| spares.deposit)
    }

    /// Wei an hour for all replicas and copies.
    pub fn hour_of_all(&self) -> U256 {
        self.hour() + self.spares.as_ref().map_or(U256::ZERO, |spares| spares.hour())
    }

    /// Wei a second for all replicas; on call, for keeping them.
    pub fn rate(&self) -> u128 {
        self.places.iter().map(|place| streamed(&self.terms, place.rate)).sum()
    }

    /// Wei an hour for all replicas.
    pub fn hour(&self) -> U256 {
        U256::from(self.rate()) * U256::from(HOUR_SECS)
    }

    /// Gas the order may take: each host that is looked at reads some slots, each lease that begins writes some.
    pub(crate) fn gas(&self) -> u64 {
        let replicas = u64::from(self.terms.replicas);
        let lease_gas = if self.terms.availabilityMinBp > 0 { LEASE_GAS + LEVEL_GAS } else { LEASE_GAS };
        (ORDER_GAS + replicas * lease_gas + self.hosts * PROBE_GAS).min(TRANSACTION_GAS_MAX)
    }

    /// Asks the book where replicas of `spec` would go now.
    pub async fn of(chain: &dyn Chain, spec: &Spec, lines: &Lines) -> Result<Self, Fault> {
        let found = Self::of_terms(chain, spec.terms.clone(), spec.price_max.is_some()).await;
        let plan = found.map_err(|fault| on_line(fault, lines))?.with_calls(spec.calls);
        let plan = plan.with_spares(chain, spec).await.map_err(|fault| on_line(fault, lines))?;
        spec.check_budget(plan.escrow(), lines)?;
        Ok(plan)
    }

    /// With escrow for so many calls of a billed millisecond of each replica, in whole seconds of keeping them all.
    fn with_calls(mut self, calls: u64) -> Self {
        let rate = self.rate();
        if !self.is_on_call() || rate == 0 {
            return self;
        }
        let price: u128 = self.places.iter().map(|place| call_price(place.rate, 0)).sum();
        let secs = price.saturating_mul(calls.into()).div_ceil(rate).saturating_add(self.terms.secs.into());
        self.deposit = U256::from(rate) * U256::from(secs.min(TERM_SECS_MAX.into()));
        self
    }

    pub fn is_on_call(&self) -> bool {
        self.terms.is_on_call()
    }

    /// Wei of a call of so many billed milliseconds, where it is dearest.
    pub fn call(&self, ms: u64) -> U256 {
        let prices = self.places.iter().map(|place| call_price(place.rate, ms.saturating_mul(FUEL_PER_MS)));
        U256::from(prices.max().unwrap_or(0))
    }

    /// The same of an order's terms; `is_capped` if their highest price was meant.
    pub(crate) async fn of_terms(chain: &dyn Chain, terms: Order, is_capped: bool) -> Result<Self, Fault> {
        let asked = IMarket::quoteCall { terms: terms.clone() };
        let hosts: Vec<Host> =
            listed(|first| async move { ask(chain, MARKET, &IMarket::pageCall { first, most: PAGE_MAX }).await })
                .await?;
        let promises = Promises::of(chain, &terms, &hosts).await?;
        let placements = match ask(chain, MARKET, &asked).await {
            Ok(placements) => placements,
            Err(error) => {
                let waits = terms.class == Class::Deferrable as u8;
                match revert(&error) {
                    Some(IMarket::IMarketErrors::NoFit(_)) if waits => {}
                    Some(IMarket::IMarketErrors::NoFit(short)) if terms.within == 0 => {
                        return Err(Fault::NoOffer(Box::new(no_offer(&terms, short.placed, &hosts, &promises))));
                    }
                    Some(IMarket::IMarketErrors::NoFit(IMarket::NoFit { placed, wanted })) => {
                        return Err(Fault::PoolFull { order: terms.within, placed, wanted });
                    }
                    Some(IMarket::IMarketErrors::HeldTooShort(held)) => {
                        return Err(Fault::PoolEnds { order: terms.within, secs: held.secs });
                    }
                    Some(IMarket::IMarketErrors::UnknownOrder(unknown)) => {
                        return Err(Fault::NoReservation(unknown.order));
                    }
                    _ => return Err(error.into()),
                }
                Vec::new()
            }
        };
        Ok(Self::made(terms, is_capped, &placements, (&hosts, &promises)))
    }

    fn made(
        mut terms: Order,
        is_capped: bool,
        placements: &[Placement],
        (hosts, promises): (&[Host], &Promises),
    ) -> Self {
        let by_node: BTreeMap<_, _> = hosts.iter().map(|host| (host.node, host)).collect();
        let places: Vec<Place> = placements
            .iter()
            .filter_map(|placement| {
                let promised = promises.of_replica(&terms, placement.node, placement.rate);
                Some(place(by_node.get(&placement.node)?, placement.rate, promised))
            })
            .collect();
        let highest = placements.iter().map(|placement| placement.rate).max().unwrap_or(0);
        if !is_capped && highest > 0 {
            let hour = highest.saturating_mul(HOUR_SECS);
            terms.priceMax = hour.saturating_add(hour.saturating_mul(SLACK_BP).div_ceil(BP.into()));
        }
        let rate: u128 = placements.iter().map(|placement| streamed(&terms, placement.rate)).sum();
        let now = U256::from(rate) * U256::from(terms.secs);
        // What waits is paid for at its highest price.
        let waits = U256::from(terms.priceMax) * U256::from(terms.secs) * U256::from(terms.replicas);
        let deposit = if terms.class == Class::Deferrable as u8 { waits.div_ceil(U256::from(HOUR_SECS)) } else { now };
        let stands = stands(&places);
        Self { terms, places, deposit, stands, spares: None, hosts: hosts.len() as u64 }
    }
}

/// Wei a second that a lease at that rate streams.
fn streamed(terms: &Order, rate: u128) -> u128 {
    if terms.is_on_call() { keep_rate(rate) } else { rate }
}

fn place(host: &Host, rate: u128, promised: Option<Promised>) -> Place {
    Place {
        node: NodeKey(host.node.0),
        operator: host.operator,
        region: REGIONS.get(usize::from(host.offer.region)).copied().unwrap_or("unknown"),
        country: String::from_utf8_lossy(host.offer.country.as_slice()).into_owned(),
        network: host.offer.network.clone(),
        zone: host.offer.zone.clone(),
        rate,
        promised,
    }
}

/// Where a host is reached.
pub(super) fn peer(host: &Host) -> Peer {
    let reach = unpack_reach(&host.offer.addresses).unwrap_or_default();
    Peer { key: NodeKey(host.node.0), addresses: reach.addresses, relays: reach.relays }
}

fn stands(places: &[Place]) -> Vec<Stands> {
    let most = |of: &'static str, name: fn(&Place) -> String| {
        let mut counts: BTreeMap<String, usize> = BTreeMap::new();
        places.iter().for_each(|place| *counts.entry(name(place)).or_default() += 1);
        // The first by name of those with as many.
        let most = counts.into_iter().rev().max_by_key(|(_, replicas)| *replicas)?;
        Some(Stands { of, name: most.0, replicas: most.1 })
    };
    [
        most("host", |place| place.node.to_string()),
        most("operator", |place| place.operator.to_string()),
        most("network", |place| place.network.clone()),
        most("country", |place| place.country.clone()),
    ]
    .into_iter()
    .flatten()
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::app::draft::Draft;
    use alloy_primitives::B256;
    use hodei_types::{
        abi::ILevels,
        market::{Capacity, Level, Offer, Prices},
    };

    fn terms(text: &str) -> Order {
        let (draft, lines) = Draft::parse(&format!("component = \"a.wasm\"\n{text}")).unwrap();
        draft.check(&lines).unwrap().terms
    }

    fn host(node: u8, region: u8) -> Host {
        let room = Capacity::of_dims([1000, 1 << 30, 0, 0, 0]);
        Host {
            node: B256::repeat_byte(node),
            operator: Address::repeat_byte(node % 2),
            offer: Offer {
                capacity: room,
                prices: Prices::of_dims([36_000, 0, 0, 0, 0]),
                curve: vec![],
                preemptibleBp: 5000,
                region,
                country: (*b"ES").into(),
                runtime: 0,
                tier: 0,
                attestation: 0,
                renewable: 0,
                network: "as1".into(),
                zone: "a".into(),
                hardware: String::new(),
                addresses: Default::default(),
            },
            collateral: U256::from(10),
            collateralMin: U256::from(10),
            free: room,
            markupBp: 0,
            leases: 0,
            retired: false,
            quitsFreeMs: 0,
            version: 1,
        }
    }

    #[test]
    fn a_plan_adds_up_and_says_what_stands_on_one() {
        let hosts = [host(1, 0), host(2, 0), host(3, 0)];
        let placements: Vec<_> = hosts.iter().map(|host| Placement { node: host.node, rate: 1000, via: 0 }).collect();
        let plan = Plan::made(terms("replicas = 3\nterm = \"1h\""), false, &placements, (&hosts, &Promises::default()));
        assert_eq!((plan.rate(), plan.hour()), (3000, U256::from(10_800_000)));
        assert_eq!(plan.deposit, U256::from(10_800_000));
        assert_eq!(plan.terms.priceMax, 3_780_000, "a twentieth above");
        let stands: Vec<_> = plan.stands.iter().map(|one| (one.of, one.replicas)).collect();
        assert_eq!(stands, [("host", 1), ("operator", 2), ("network", 3), ("country", 3)]);
        assert_eq!(plan.stands[3].name, "ES");
    }

    #[test]
    fn what_is_on_call_is_planned_by_what_keeping_and_calls_cost() {
        let hosts = [host(1, 0)];
        let placements = [Placement { node: hosts[0].node, rate: 500_000, via: 0 }];
        let plan =
            Plan::made(terms("class = \"on-call\"\nterm = \"1h\""), false, &placements, (&hosts, &Promises::default()));
        assert_eq!((plan.rate(), plan.deposit), (500, U256::from(500 * 3600)));
        assert_eq!((plan.call(1), plan.call(100)), (U256::from(1_000), U256::from(100_000)));
        assert_eq!(plan.terms.priceMax, 500_000 * 3600 / 20 * 21, "by what it would cost if it always ran");
        let plan = plan.with_calls(1_000_000);
        assert_eq!(plan.deposit, U256::from(500 * 3600 + 1_000_000_000));
        assert_eq!(plan.with_calls(u64::MAX).deposit, U256::from(500 * TERM_SECS_MAX), "no more than a lease may have");
    }

    #[test]
    fn what_is_capped_stays_so_and_what_waits_is_paid_at_its_highest_price() {
        let waits = terms("price_max = \"1\"\nclass = \"deferrable\"\nterm = \"2h\"\nreplicas = 2");
        let plan = Plan::made(waits, true, &[], (&[], &Promises::default()));
        assert_eq!(plan.terms.priceMax, 1_000_000_000_000_000_000);
        assert_eq!(plan.deposit, U256::from(4_000_000_000_000_000_000u64));
    }

    #[test]
    fn what_finds_no_offer_is_told_by_the_rule_that_leaves_none() {
        let hosts = [host(1, 0), host(2, 3)];
        let told = |text: &str, placed| no_offer(&terms(text), placed, &hosts, &Promises::default());
        let short = told("replicas = 3", 2);
        assert_eq!((short.hosts, short.there, short.roomy, short.cheap), (2, 2, 2, 2));
        assert_eq!(short.nearest.as_deref(), Some("replicas = 2"));
        let dear = told("price_max = \"0.000000000001\"", 0);
        assert_eq!((dear.roomy, dear.cheap), (2, 0));
        assert_eq!(dear.nearest.as_deref(), Some("price_max = \"0.0000000000036\""));
        let large = told("memory = \"2GiB\"", 0);
        assert_eq!((large.there, large.roomy), (2, 0));
        assert_eq!(large.nearest.as_deref(), Some("cpu = \"0.1\", memory = \"1GiB\", disk = \"0\""));
        assert_eq!((short.key, dear.key, large.key), (Some("replicas"), Some("price_max"), Some("memory")));
        assert!(dear.command.contains(" --price-cpu 0.00000") && !large.command.contains("--price"), "{dear:?}");
        // Below a wei a second nobody can offer anything.
        assert!(told("price_max = \"0\"", 0).is_priceless && !dear.is_priceless && !large.is_priceless);
        let lines = Lines::from([("price_max".to_owned(), 4)]);
        let Fault::NoOffer(dear) = on_line(Fault::NoOffer(Box::new(dear)), &lines) else { panic!("another fault") };
        assert!(dear.to_string().starts_with("line 4: no offer meets this price_max: 0 of 1 replicas"), "{dear}");
        let cheap = told("price_max = \"0.0001\"\nregions = [\"eu-north\"]", 0);
        assert!(
            cheap.command.contains(" --price-cpu 0.00") && cheap.command.contains(" --price-memory 0.00"),
            "{cheap:?}"
        );
        let away = told("regions = [\"eu-north\"]", 0);
        assert_eq!(away.key, Some("regions"));
        assert_eq!((away.hosts, away.there), (2, 0));
        assert_eq!(away.nearest.as_deref(), Some("regions = [\"local\"]"));
        assert_eq!(away.command, "hodei node offer compute --region eu-north --cpus 0.1 --memory 256MiB");
        let text = away.to_string();
        assert!(text.starts_with("0 of 1 replicas find a place: of 2 hosts on offer 0 are where it may run"), "{text}");
        let room = "cpu = \"0.1\", memory = \"256MiB\", disk = \"0\"";
        for (said, key, nearest, flag) in [
            ("tier = \"office\"", "tier", "tier = \"home\"".to_owned(), "--tier office"),
            ("renewable = 50", "renewable", "renewable = 0".to_owned(), "--renewable 50"),
            ("country = \"FR\"", "country", "country = \"ES\"".to_owned(), "--country FR"),
            ("collateral_min = \"1\"", "collateral_min", "collateral_min = \"0.00000000000000001\"".to_owned(), ""),
            ("bandwidth = \"8Mbit\"", "bandwidth", format!("{room}, bandwidth = \"0\""), "--bandwidth 8"),
            ("transfer = \"1GiB\"", "transfer", format!("{room}, transfer = \"0\""), "--transfer 1GiB"),
        ] {
            let none = told(said, 0);
            assert_eq!((none.key, none.nearest.as_deref()), (Some(key), Some(nearest.as_str())), "{said}");
            assert!(none.command.contains(flag), "{}", none.command);
        }
    }

    #[test]
    fn an_availability_that_nobody_promises_is_told_with_the_nearest_and_what_would_make_it() {
        let hosts = [host(1, 0), host(2, 0)];
        let level = Level { availabilityBp: 9_900, startSecs: 30, restoreSecs: 300, payBp: 1_000 };
        let promise = |node, level| ILevels::Promise {
            node: B256::repeat_byte(node),
            operator: Address::repeat_byte(node),
            level,
            bond: U256::from(1_000_000_000),
            bound: U256::ZERO,
        };
        let asks = terms("availability = \"99.9%\"\nterm = \"1h\"\nreplicas = 2");
        let none = no_offer(&asks, 0, &hosts, &Promises::made(vec![], 86_400_000));
        assert_eq!((none.cheap, none.promising), (2, Some(0)));
        assert_eq!(none.nearest.as_deref(), Some("one without availability"));
        let less = Promises::made(vec![promise(1, level), promise(2, Level::default())], 86_400_000);
        let told = no_offer(&asks, 0, &hosts, &less);
        assert_eq!(told.nearest.as_deref(), Some("availability = \"99%\""));
        // A tenth of an hour of two replicas at a thousand wei a second.
        let bond = "--availability 99.9% --bond 0.00000000000072";
        assert!(told.command.ends_with(bond), "{}", told.command);
        assert!(told.to_string().contains("0 of these promise that availability"), "{told}");
        // What is promised is in the plan with what a breach pays.
        let asks = terms("availability = \"99%\"\nterm = \"1h\"");
        let placements = [Placement { node: hosts[0].node, rate: 1000, via: 0 }];
        let plan = Plan::made(asks, false, &placements, (&hosts, &less));
        assert_eq!(plan.places[0].promised, Some(Promised { level, pays: 360_000 }));
    }
}
