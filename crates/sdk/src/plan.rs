//! Say what a bucket will cost and survive, before anything is paid.
//!
//! A bucket opens one deal with each of the providers chosen here; its data is placed over these. The plan
//! reads the ledger and changes nothing.

use crate::{fault::Fault, market::Offer};
use alloy_primitives::U256;
use hodei_types::{
    abi::IBuckets,
    code::{Class, CodeId, SHARD_BYTES, Shape},
};
use std::collections::{BTreeMap, BTreeSet};

/// Providers a bucket deals with at most, for each shard of a stripe: the spares that a put re-sends to.
const PROVIDERS_PER_SHARD: usize = 2;
/// Room of a deal beyond its even share: placement is even only on average, pages are copied n - k + 1
/// times, and a lost provider's share goes to the others.
const HEADROOM: u64 = 2;
/// Room of a deal however small the bucket: the index is rewritten by each put.
const DEAL_BYTES_MIN: u64 = 64 << 20;
/// Windows kept in escrow beyond those paid ahead, so that data outlives an empty budget.
pub const RESERVE_WINDOWS: u64 = 30;

/// What a bucket shall be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wish {
    pub class: Class,
    /// Overrides what the class would choose.
    pub losses: Option<u8>,
    /// Bytes of user data it may hold.
    pub capacity_bytes: u64,
    /// Windows paid ahead.
    pub windows: u64,
}

impl Default for Wish {
    fn default() -> Self {
        Self { class: Class::Small, losses: None, capacity_bytes: 1 << 30, windows: 30 }
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

    /// Windows paid ahead as wished; the others are the reserve.
    pub fn ahead(&self) -> u64 {
        self.windows.saturating_sub(RESERVE_WINDOWS)
    }

    /// For people: what it survives, what not, what is set aside.
    pub fn lines(&self) -> Vec<String> {
        let mut lines: Vec<String> = self.shape.plan().into();
        let zones: BTreeSet<&str> = self.parts.iter().map(|part| part.offer.zone.as_str()).collect();
        let operators: BTreeSet<_> = self.parts.iter().map(|part| part.offer.operator).collect();
        lines.push(format!("{} deals with {} operators in {} zones.", self.parts.len(), operators.len(), zones.len()));
        lines.push(format!(
            "{} coins in escrow, enough for {} windows were every deal full: {} paid ahead, and {RESERVE_WINDOWS} in \
             reserve, so that data outlives an empty budget; what is not used comes back.",
            crate::wallet::format_coins(self.escrow()),
            self.windows,
            self.ahead()
        ));
        lines
    }

    /// The shape as the ledger writes it.
    pub fn terms(&self) -> IBuckets::Shape {
        IBuckets::Shape {
            k: self.shape.k(),
            n: self.shape.n(),
            t: self.shape.t(),
            shardBytes: SHARD_BYTES,
            codeId: CodeId::Rs8 as u16,
        }
    }
}

/// Chooses providers for a bucket: the cheapest, but one of each operator before a second of any, and only
/// so many that losing any of them leaves spares.
pub fn plan(wish: &Wish, offers: &[Offer]) -> Result<Plan, Fault> {
    let (k, n) = wish.class.code();
    let usable = |offer: &&Offer| offer.open && !offer.suspended && !offer.addresses.is_empty();
    let mut by_operator: BTreeMap<_, Vec<&Offer>> = BTreeMap::new();
    for offer in offers.iter().filter(usable) {
        by_operator.entry(offer.operator).or_default().push(offer);
    }
    let shape = match wish.losses {
        Some(t) => Shape::new(k, n, t)?,
        None => wish.class.shape(by_operator.len()),
    };
    let spread = |offers: &mut dyn Iterator<Item = &Offer>| {
        let mut operators = BTreeSet::new();
        let mut networks = BTreeSet::new();
        for offer in offers {
            operators.insert(offer.operator);
            networks.insert(offer.network());
        }
        (operators.len(), networks.len())
    };
    let (operators, networks) = spread(&mut offers.iter().filter(usable));
    shape.fits(operators, networks)?;

    let want = usize::from(n) * PROVIDERS_PER_SHARD;
    let total: usize = by_operator.values().map(Vec::len).sum();
    let count = want.min(total) as u64;
    let stored = u128::from(wish.capacity_bytes) * u128::from(n) / u128::from(k);
    let share = u64::try_from(stored / u128::from(count)).unwrap_or(u64::MAX);
    let capacity_bytes = share.saturating_mul(HEADROOM).max(DEAL_BYTES_MIN);

    for offers in by_operator.values_mut() {
        offers.retain(|offer| offer.free_bytes() >= capacity_bytes);
        offers.sort_by_key(|offer| (offer.price_store, offer.node));
    }
    // Rounds: the cheapest of each operator, then the second of each, and so on.
    let mut ranked: Vec<(usize, &Offer)> = Vec::new();
    for offers in by_operator.values() {
        ranked.extend(offers.iter().copied().enumerate());
    }
    ranked.sort_by_key(|(round, offer)| (*round, offer.price_store, offer.node));
    ranked.truncate(want);
    let chosen: Vec<&Offer> = ranked.into_iter().map(|(_, offer)| offer).collect();
    let (operators, networks) = spread(&mut chosen.iter().copied());
    if shape.fits(operators, networks).is_err() {
        return Err(Fault::NoRoom { needs: capacity_bytes, found: chosen.len() });
    }

    let windows = wish.windows.saturating_add(RESERVE_WINDOWS);
    let parts = chosen
        .into_iter()
        .map(|offer| Part { offer: offer.clone(), capacity_bytes, escrow: escrow(offer, capacity_bytes, windows) })
        .collect();
    Ok(Plan { shape, parts, windows })
}

/// A full deal's pay for `windows`, and one full read.
fn escrow(offer: &Offer, capacity_bytes: u64, windows: u64) -> u128 {
    let gib = 1u128 << 30;
    let cost = |price: u128, times: u64| {
        price.saturating_mul(capacity_bytes.into()).div_ceil(gib).saturating_mul(times.into())
    };
    cost(offer.price_store, windows).saturating_add(cost(offer.price_read, 1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloy_primitives::Address;
    use hodei_types::{code::ShapeError, transport::NodeKey};

    fn offer(node: u8, operator: u8, zone: &str, price: u128) -> Offer {
        Offer {
            node: NodeKey([node; 32]),
            operator: Address::repeat_byte(operator),
            zone: zone.into(),
            addresses: vec!["127.0.0.1:1".parse().unwrap()],
            capacity_bytes: 10 << 30,
            used_bytes: 0,
            price_store: price,
            price_read: 1,
            collateral: U256::ZERO,
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
        let gib =
            |price: u128, times: u128| (price * u128::from(plan.parts[0].capacity_bytes)).div_ceil(1 << 30) * times;
        assert_eq!(plan.parts[0].escrow, gib(100, 60) + gib(1, 1));
        assert!(plan.lines().iter().any(|line| line.contains("6 deals with 6 operators in 3 zones")));
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
    fn a_second_node_of_an_operator_comes_after_the_first_of_each() {
        let mut offers = six();
        // Operator 0 is cheapest with twelve nodes; it must not crowd the others out.
        offers.extend((10..22).map(|i| offer(i, 0, "a", 1)));
        let plan = plan(&Wish::default(), &offers).unwrap();
        let operators: BTreeSet<_> = plan.parts.iter().map(|part| part.offer.operator).collect();
        assert_eq!((plan.parts.len(), operators.len()), (12, 6));
    }
}
