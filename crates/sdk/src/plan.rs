//! Say what a bucket will cost and survive, before anything is paid.
//!
//! A bucket opens one deal with each of the providers chosen here; its data is placed over these. The plan
//! reads the ledger and changes nothing.

use crate::{
    energy::{Energy, Proving},
    fault::Fault,
    market::Offer,
    odds::{self, Odds},
};
use alloy_primitives::U256;
use hodei_storage::{
    engine::PutError,
    place::{Candidate, PlaceError, place},
};
use hodei_types::{
    abi::IBuckets,
    code::{Class, CodeId, Domain, OPERATORS_FOR_TWO, SHARD_BYTES, Shape, Spread},
    transport::NodeKey,
};
use std::collections::{BTreeMap, BTreeSet};

/// Providers a bucket deals with at most, for each shard of a stripe: the spares that a put re-sends to.
pub(crate) const PROVIDERS_PER_SHARD: usize = 2;
/// Deals of one bucket at most: the ledger allows twice as many, for those that replace others.
pub(crate) const DEALS_MAX: usize = 255;
/// Room of a deal beyond its even share: placement is even only on average, pages are copied n - k + 1
/// times, and a lost provider's share goes to the others.
pub(crate) const HEADROOM: u64 = 2;
/// Room of a deal however small the bucket: the index is rewritten by each put.
pub(crate) const DEAL_BYTES_MIN: u64 = 64 << 20;
/// Windows kept in escrow beyond those paid ahead, so that data outlives an empty budget.
pub const RESERVE_WINDOWS: u64 = 30;

/// What a bucket shall be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wish {
    pub class: Class,
    /// (k, n) instead of the class's.
    pub code: Option<(u8, u8)>,
    /// Operators, or networks, it may lose, instead of what the class would choose.
    pub losses: Option<u8>,
    /// On how many of each a stripe lies.
    pub spread: Spread,
    /// Where its providers must be; anywhere if empty.
    pub regions: Vec<String>,
    /// Bytes of user data it may hold.
    pub capacity_bytes: u64,
    /// Windows paid ahead.
    pub windows: u64,
}

impl Default for Wish {
    fn default() -> Self {
        Self {
            class: Class::Small,
            code: None,
            losses: None,
            spread: Spread::default(),
            regions: Vec::new(),
            capacity_bytes: 1 << 30,
            windows: 30,
        }
    }
}

impl Wish {
    /// What it comes to among so many operators.
    fn shape(&self, operators: usize) -> Result<Shape, Fault> {
        let (k, n) = self.code.unwrap_or(self.class.code());
        let losses = self.losses.unwrap_or_else(|| losses(k, n, operators));
        Ok(Shape::new(k, n, losses)?.spread_over(self.spread)?)
    }
}

/// Operators a code may lose where nobody says: copies all but one of those that acks allow, others as many as the
/// classes do.
pub(crate) fn losses(k: u8, n: u8, operators: usize) -> u8 {
    let wanted = match k {
        1 => u8::MAX,
        _ if operators < OPERATORS_FOR_TWO => 1,
        _ => 2,
    };
    wanted.min(Shape::losses_max(k, n)).max(1)
}

/// The class that fits the machines on offer: that of most of them, the frailer of two; the small one where there are
/// too few operators to spread a wide stripe over.
pub fn class_of(offers: &[Offer]) -> Class {
    let operators: BTreeSet<_> = offers.iter().filter(usable).map(|offer| offer.operator).collect();
    if operators.len() < OPERATORS_FOR_TWO {
        return Class::Small;
    }
    let mut counts: BTreeMap<Class, usize> = BTreeMap::new();
    for offer in offers.iter().filter(usable) {
        *counts.entry(offer.device).or_default() += 1;
    }
    counts.into_iter().max_by_key(|(class, count)| (*count, *class)).map_or(Class::Small, |(class, _)| class)
}

pub(crate) fn usable(offer: &&Offer) -> bool {
    offer.open && !offer.suspended && !(offer.addresses.is_empty() && offer.relays.is_empty())
}

/// Why a wish cannot be met now: temporary if it could with all of these, those who missed their last challenge or do not
/// answer among them. Each is there again upon its next proof, or closed after some windows.
pub(crate) fn lacking(error: Fault, wish: &Wish, offers: &[Offer]) -> Fault {
    let back: Vec<Offer> = offers.iter().map(|offer| Offer { suspended: false, ..offer.clone() }).collect();
    match plan(wish, &back) {
        Ok(_) => Fault::RoomAway(Box::new(error)),
        Err(_) => error,
    }
}

/// One deal to open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    pub offer: Offer,
    pub capacity_bytes: u64,
    /// Wei set aside.
    pub escrow: u128,
}

/// What creating a bucket will do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    pub shape: Shape,
    pub parts: Vec<Part>,
    /// Windows the escrow lasts if every deal is full.
    pub windows: u64,
}

impl Plan {
    /// Wei set aside in all deals.
    pub fn escrow(&self) -> U256 {
        self.parts.iter().map(|part| U256::from(part.escrow)).sum()
    }

    /// Wei that keeping so many bytes of data for so many windows earns its providers, each holding an even share.
    pub fn pay(&self, bytes: u64, windows: u64) -> U256 {
        let stored = u128::from(bytes) * u128::from(self.shape.n()) / u128::from(self.shape.k());
        let share = stored.div_ceil(self.parts.len().max(1) as u128).try_into().unwrap_or(u64::MAX);
        self.parts.iter().map(|part| U256::from(cost(part.offer.price_store, share, windows))).sum()
    }

    /// Windows paid ahead as wished; the others are the reserve.
    pub fn ahead(&self) -> u64 {
        self.windows.saturating_sub(RESERVE_WINDOWS)
    }

    /// For people: what it survives, what not, what is set aside.
    pub fn lines(&self) -> Vec<String> {
        let mut lines = self.promises();
        lines.push(format!(
            "{} coins in escrow, enough for {} windows were every deal full: {} paid ahead, and {RESERVE_WINDOWS} in \
             reserve, so that data outlives an empty budget; what is not used comes back.",
            crate::wallet::format_coins(self.escrow()),
            self.windows,
            self.ahead()
        ));
        lines
    }

    /// The same without money.
    pub fn promises(&self) -> Vec<String> {
        let mut lines = self.shape.plan();
        lines.extend(self.odds().lines());
        let zones: BTreeSet<&str> = self.parts.iter().map(|part| part.offer.zone.as_str()).collect();
        let operators: BTreeSet<_> = self.parts.iter().map(|part| part.offer.operator).collect();
        let networks: BTreeSet<_> = self.parts.iter().map(|part| part.offer.network()).collect();
        lines.push(format!(
            "{} deals with {} operators in {} networks and {} zones.",
            self.parts.len(),
            operators.len(),
            networks.len(),
            zones.len()
        ));
        lines
    }

    /// How often an object is lost, were all machines as the frailest here.
    pub fn odds(&self) -> Odds {
        let life = |class: &Class| odds::life_days(*class);
        let devices = self.parts.iter().map(|part| part.offer.device);
        let frailest = devices.min_by(|a, b| life(a).total_cmp(&life(b)));
        Odds::of(&self.shape, frailest.unwrap_or(Class::Home))
    }

    /// What it takes in electricity, were it full, proven every `window_secs`, and all machines as the frailest here.
    pub fn energy(&self, window_secs: u64) -> Energy {
        let pledged: u128 = self.parts.iter().map(|part| u128::from(part.capacity_bytes)).sum();
        let (k, n) = (u128::from(self.shape.k()), u128::from(self.shape.n()));
        let held_bytes = u64::try_from(pledged * k / (n * u128::from(HEADROOM))).unwrap_or(u64::MAX);
        let proving = Proving { deals: self.parts.len() as u64, held_bytes, window_secs };
        Energy::of(&self.shape, self.odds().device, &proving)
    }

    /// The shape as the ledger writes it.
    pub fn terms(&self) -> IBuckets::Shape {
        let [k, n, t, operators, networks, zones] = self.shape.to_bytes();
        IBuckets::Shape { k, n, t, operators, networks, zones, shardBytes: SHARD_BYTES, codeId: CodeId::Rs8 as u16 }
    }
}

/// Chooses providers for a bucket: the cheapest, but one of each operator before a second of any, and only
/// so many that losing any of them leaves spares.
pub fn plan(wish: &Wish, offers: &[Offer]) -> Result<Plan, Fault> {
    plan_beside(wish, offers, &BTreeMap::new())
}

/// The same for a bucket that has deals: these stay where they can. `pledged` are bytes kept free for them.
pub(crate) fn plan_beside(wish: &Wish, offers: &[Offer], pledged: &BTreeMap<NodeKey, u64>) -> Result<Plan, Fault> {
    let is_there = |offer: &&Offer| wish.regions.is_empty() || wish.regions.iter().any(|region| offer.is_of(region));
    let mut by_operator: BTreeMap<_, Vec<&Offer>> = BTreeMap::new();
    for offer in offers.iter().filter(usable).filter(is_there) {
        by_operator.entry(offer.operator).or_default().push(offer);
    }
    if by_operator.is_empty() && !wish.regions.is_empty() {
        let there: BTreeSet<_> = offers.iter().filter(usable).map(|offer| offer.zone.clone()).collect();
        return Err(Fault::NoRegion { asked: wish.regions.clone(), there: there.into_iter().collect() });
    }
    let shape = wish.shape(by_operator.len())?;
    let (k, n) = (shape.k(), shape.n());
    let all: Vec<&Offer> = by_operator.values().flatten().copied().collect();
    are_there(wish.spread, &all)?;
    placed(&shape, &all).map_err(|error| match error {
        PlaceError::Shape(error) => Fault::Shape(error),
        overlap => Fault::Put(PutError::Placement(overlap)),
    })?;

    let want = usize::from(n) * PROVIDERS_PER_SHARD;
    let count = want.min(all.len()) as u64;
    let stored = u128::from(wish.capacity_bytes) * u128::from(n) / u128::from(k);
    let share = u64::try_from(stored / u128::from(count)).unwrap_or(u64::MAX);
    let capacity_bytes = share.saturating_mul(HEADROOM).max(DEAL_BYTES_MIN);

    // A provider that has a deal with the bucket comes first, whatever its price.
    let rank = |offer: &Offer| (!pledged.contains_key(&offer.node), offer.price_store, offer.node);
    for offers in by_operator.values_mut() {
        let own = |offer: &Offer| pledged.get(&offer.node).copied().unwrap_or(0);
        offers.retain(|offer| offer.free_bytes().saturating_add(own(offer)) >= capacity_bytes);
        offers.sort_by_key(|offer| rank(offer));
    }
    // Rounds: the cheapest of each operator, then the second of each, and so on.
    let mut ranked: Vec<(usize, &Offer)> = Vec::new();
    for offers in by_operator.values() {
        ranked.extend(offers.iter().copied().enumerate());
    }
    ranked.sort_by_key(|(round, offer)| (*round, rank(offer)));
    let ranked: Vec<&Offer> = ranked.into_iter().map(|(_, offer)| offer).take(DEALS_MAX).collect();
    // Where the cheapest do not lie as they must, the next ones join until they do.
    let fits = |count: &usize| placed(&shape, &ranked[..*count]).is_ok();
    let least = want.min(ranked.len());
    let Some(count) = (least..=ranked.len()).find(fits) else {
        return Err(Fault::NoRoom { needs: capacity_bytes, found: ranked.len() });
    };

    let windows = wish.windows.saturating_add(RESERVE_WINDOWS);
    let parts = ranked[..count]
        .iter()
        .map(|offer| Part { offer: (*offer).clone(), capacity_bytes, escrow: escrow(offer, capacity_bytes, windows) })
        .collect();
    Ok(Plan { shape, parts, windows })
}

/// Refuses a spread over more operators, networks or zones than there are, which the shape's caps alone would not.
fn are_there(spread: Spread, offers: &[&Offer]) -> Result<(), Fault> {
    let operators: BTreeSet<_> = offers.iter().map(|offer| offer.operator).collect();
    let networks: BTreeSet<_> = offers.iter().map(|offer| offer.network()).collect();
    let zones: BTreeSet<_> = offers.iter().map(|offer| offer.zone.as_str()).collect();
    let asked = [
        (Domain::Operator, spread.operators, operators.len()),
        (Domain::Network, spread.networks, networks.len()),
        (Domain::Zone, spread.zones, zones.len()),
    ];
    match asked.into_iter().find(|(_, asked, found)| usize::from(*asked) > *found) {
        Some((domain, asked, found)) => Err(Fault::TooFew { domain, asked, found }),
        None => Ok(()),
    }
}

/// Whether a stripe finds its places among these.
pub(crate) fn placed(shape: &Shape, offers: &[&Offer]) -> Result<(), PlaceError> {
    let candidate = |offer: &&Offer| Candidate {
        node: offer.node,
        operator: offer.operator.into_array(),
        network: offer.network(),
        zone: offer.zone.clone(),
    };
    place(shape, &offers.iter().map(candidate).collect::<Vec<_>>(), &[0; 32]).map(drop)
}

/// A full deal's pay for `windows`, and one full read.
pub(crate) fn escrow(offer: &Offer, capacity_bytes: u64, windows: u64) -> u128 {
    let cost = |price, times| cost(price, capacity_bytes, times);
    cost(offer.price_store, windows).saturating_add(cost(offer.price_read, 1))
}

/// Wei for so many bytes, so many times, at a price per GiB.
pub(crate) fn cost(price: u128, bytes: u64, times: u64) -> u128 {
    price.saturating_mul(bytes.into()).div_ceil(1 << 30).saturating_mul(times.into())
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use alloy_primitives::Address;
    use hodei_types::code::ShapeError;

    pub(crate) fn offer(node: u8, operator: u8, zone: &str, price: u128) -> Offer {
        Offer {
            node: NodeKey([node; 32]),
            operator: Address::repeat_byte(operator),
            zone: zone.into(),
            addresses: vec!["127.0.0.1:1".parse().unwrap()],
            relays: vec![],
            capacity_bytes: 10 << 30,
            used_bytes: 0,
            price_store: price,
            price_read: 1,
            collateral: U256::ZERO,
            device: Class::Home,
            open: true,
            suspended: false,
        }
    }

    fn six() -> Vec<Offer> {
        (0..6).map(|i| offer(i, i, ["a", "b", "c"][i as usize % 3], 100 + u128::from(i))).collect()
    }

    #[test]
    fn six_operators_in_three_zones_carry_a_small_bucket() {
        let plan = plan(&Wish::default(), &six()).unwrap();
        assert_eq!((plan.shape.k(), plan.shape.n(), plan.shape.t()), (3, 6, 1));
        assert_eq!(plan.parts.len(), 6);
        // 1 GiB × 6/3 over six, twice.
        assert_eq!(plan.parts[0].capacity_bytes, (2u64 << 30) / 6 * 2);
        assert_eq!((plan.windows, plan.ahead()), (60, 30));
        assert!(
            plan.lines()
                .iter()
                .any(|line| line.contains("60 windows were every deal full: 30 paid ahead, and 30 in reserve"))
        );
        // A tenth of the window, ten times the proofs, each figure rounded up.
        let (daily, short) = (plan.energy(86_400), plan.energy(8_640));
        assert_eq!((daily.disk_gib_hours, daily.device, daily.repair), (1_440, Class::Home, short.repair));
        assert!((daily.proofs.bytes * 10).abs_diff(short.proofs.bytes) <= 10, "{daily:?} {short:?}");
        let gib =
            |price: u128, times: u128| (price * u128::from(plan.parts[0].capacity_bytes)).div_ceil(1 << 30) * times;
        assert_eq!(plan.parts[0].escrow, gib(100, 60) + gib(1, 1));
        assert!(plan.lines().iter().any(|line| line.contains("6 deals with 6 operators in 3 networks and 3 zones")));
    }

    #[test]
    fn who_is_suspended_may_return_if_that_suffices_and_who_left_does_not() {
        let wish = Wish::default();
        let told = |offers: &[Offer]| lacking(plan(&wish, offers).unwrap_err(), &wish, offers);
        let mut offers = six();
        for offer in &mut offers[..4] {
            offer.suspended = true;
        }
        let error = told(&offers);
        assert!(matches!(error, Fault::RoomAway(_)) && error.is_temporary(), "{error}");
        for offer in &mut offers[..4] {
            offer.open = false;
        }
        assert!(!matches!(told(&offers), Fault::RoomAway(_)), "closed for good");
        let mut offers = six();
        offers[0].suspended = true;
        for offer in &mut offers[1..] {
            offer.used_bytes = offer.capacity_bytes;
        }
        let error = told(&offers);
        assert!(!matches!(error, Fault::RoomAway(_)), "one that returns does not suffice: {error}");
    }

    #[test]
    fn what_cannot_be_spread_is_refused_before_payment() {
        let mut offers = six();
        for offer in &mut offers {
            offer.zone = "a".into();
        }
        assert!(matches!(plan(&Wish::default(), &offers), Err(Fault::Shape(ShapeError::TooFew { .. }))));
        let mut offers = six();
        for offer in &mut offers[..4] {
            offer.used_bytes = offer.capacity_bytes - 1;
        }
        assert!(matches!(plan(&Wish::default(), &offers), Err(Fault::NoRoom { found: 2, .. })));
        let wish = Wish { losses: Some(9), ..Wish::default() };
        assert!(matches!(plan(&wish, &six()), Err(Fault::Shape(ShapeError::TooFragile { .. }))));
    }

    #[test]
    fn a_spread_over_more_than_there_is_is_refused() {
        let wide = |spread| plan(&Wish { spread, ..Wish::default() }, &six());
        let four = Spread { zones: 4, ..Spread::default() };
        assert!(matches!(wide(four), Err(Fault::TooFew { domain: Domain::Zone, asked: 4, found: 3 })));
        let five = Spread { networks: 5, ..Spread::default() };
        assert!(matches!(wide(five), Err(Fault::TooFew { domain: Domain::Network, asked: 5, found: 3 })));
        assert!(wide(Spread { operators: 6, networks: 3, zones: 3 }).is_ok());
        let far = Wish { regions: vec!["mars".into()], ..Wish::default() };
        let Err(error @ Fault::NoRegion { .. }) = plan(&far, &six()) else { panic!("nobody is there") };
        assert_eq!(error.to_string(), "no provider offers room in mars; zones with offers: a, b, c");
    }

    #[test]
    fn a_second_node_of_an_operator_comes_after_the_first_of_each() {
        let mut offers = six();
        // Operator 0 is cheapest with twelve nodes; it must not crowd the others out.
        offers.extend((10..22).map(|i| offer(i, 0, "a", 1)));
        let plan = plan(&Wish::default(), &offers).unwrap();
        let operators: BTreeSet<_> = plan.parts.iter().map(|part| part.offer.operator).collect();
        assert_eq!((plan.parts.len(), operators.len()), (12, 6));
    }

    #[test]
    fn an_owner_chooses_code_spread_and_regions() {
        let mut offers = six();
        offers.extend((6..12).map(|i| offer(i, i, ["d-north", "d-south"][i as usize % 2], 10)));
        let wish = Wish { code: Some((1, 3)), ..Wish::default() };
        let copies = plan(&wish, &offers).unwrap();
        assert_eq!((copies.shape.n(), copies.shape.t()), (3, 2));
        assert_eq!(copies.parts.len(), 7, "the cheapest six lie in two networks: one more joins");
        let spread = Spread { zones: 3, ..Spread::default() };
        let wide = plan(&Wish { spread, ..wish.clone() }, &offers).unwrap();
        assert_eq!(wide.shape.spread(), spread);
        let there = plan(&Wish { regions: vec!["d".into(), "a".into()], ..wish.clone() }, &offers).unwrap();
        assert!(there.parts.iter().all(|part| part.offer.is_of("d") || part.offer.is_of("a")));
        let nowhere = plan(&Wish { regions: vec!["d-north".into()], spread, ..wish.clone() }, &offers);
        assert!(matches!(nowhere, Err(Fault::TooFew { domain: Domain::Zone, asked: 3, found: 1 })));
        assert!(wide.lines().iter().any(|line| line.starts_with("Odds that an object is lost")));
    }

    #[test]
    fn the_default_class_is_that_of_the_machines() {
        let mut offers: Vec<Offer> = (0..12).map(|i| offer(i, i, "a", 1)).collect();
        assert_eq!((class_of(&six()), class_of(&offers)), (Class::Small, Class::Home));
        offers[..6].iter_mut().for_each(|offer| offer.device = Class::Datacentre);
        assert_eq!(class_of(&offers), Class::Home, "of two as many, the frailer");
        offers[..7].iter_mut().for_each(|offer| offer.device = Class::Phone);
        assert_eq!(class_of(&offers), Class::Phone);
    }

    #[test]
    fn deals_there_are_stay_whatever_they_cost() {
        let mut offers = six();
        offers.extend((6..18).map(|i| offer(i, i, ["a", "b", "c"][i as usize % 3], 10)));
        let pledged: BTreeMap<NodeKey, u64> = (0..6).map(|i| (NodeKey([i; 32]), 1 << 20)).collect();
        let wish = Wish { code: Some((1, 3)), ..Wish::default() };
        let kept = plan_beside(&wish, &offers, &pledged).unwrap();
        assert!(kept.parts.iter().all(|part| pledged.contains_key(&part.offer.node)));
    }
}
