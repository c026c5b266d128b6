//! Sum up what is asked: the best price, the median, the depth, and how much stands on one.

use super::{Ask, Ware};
use crate::plan::Plan;
use alloy_primitives::Address;
use hodei_types::market::BP;
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Display,
};

/// Steps of one line at most: of more prices, neighbours are told together.
pub const STEPS_MAX: usize = 12;

/// All lines: of each ware first the one of all regions, then each region's, by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Book {
    pub lines: Vec<Line>,
}

/// What is asked for one ware in one region, or in all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    pub ware: Ware,
    pub region: Option<String>,
    /// Wei for a unit, the least that is asked.
    pub best: u128,
    /// At this price or below stands at least half of the amount.
    pub median: u128,
    pub amount: u128,
    pub offers: usize,
    pub operators: usize,
    /// Cheapest first.
    pub steps: Vec<Step>,
    pub stands: Stands,
}

/// What is asked at about one price.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    pub from: u128,
    pub to: u128,
    pub amount: u128,
    pub offers: usize,
}

/// How much stands on the one operator, network and region that have most.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stands {
    pub operator: Largest,
    pub network: Largest,
    pub region: Largest,
}

/// Who has most, and how much of all, in hundredths of a percent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Largest {
    pub name: String,
    pub bp: u64,
}

impl Largest {
    /// Of several that have as much, the one that comes first by name.
    fn of<K: Ord + Display>(parts: impl Iterator<Item = (K, u128)>) -> Self {
        let mut sums: BTreeMap<K, u128> = BTreeMap::new();
        for (name, amount) in parts {
            let sum = sums.entry(name).or_default();
            *sum = sum.saturating_add(amount);
        }
        let all = sums.values().fold(0, |all: u128, amount| all.saturating_add(*amount));
        let most = sums.into_iter().rev().max_by_key(|(_, amount)| *amount);
        let part = |amount: u128| amount.saturating_mul(BP.into()).checked_div(all).unwrap_or(0) as u64;
        most.map_or_else(Self::default, |(name, amount)| Self { name: name.to_string(), bp: part(amount) })
    }
}

impl Stands {
    fn of(asks: &[&Ask]) -> Self {
        Self {
            operator: Largest::of(asks.iter().map(|ask| (ask.operator, ask.amount))),
            network: Largest::of(asks.iter().map(|ask| (ask.network.as_str(), ask.amount))),
            region: Largest::of(asks.iter().map(|ask| (ask.region(), ask.amount))),
        }
    }

    /// The same of what a plan lets its deals hold.
    pub(super) fn of_plan(plan: &Plan) -> Self {
        let asks = plan.parts.iter().map(|part| Ask {
            ware: Ware::Storage,
            node: part.offer.node,
            operator: part.offer.operator,
            network: part.offer.network(),
            place: part.offer.zone.clone(),
            price: part.offer.price_store,
            amount: part.capacity_bytes.into(),
        });
        Self::of(&asks.collect::<Vec<_>>().iter().collect::<Vec<_>>())
    }
}

impl Book {
    /// Of what is asked in one region, or in all.
    pub fn of(asks: &[Ask], region: Option<&str>) -> Self {
        let there: Vec<&Ask> = asks.iter().filter(|ask| region.is_none_or(|region| ask.is_of(region))).collect();
        let mut lines = Vec::new();
        for ware in Ware::ALL {
            let of_ware: Vec<&Ask> = there.iter().copied().filter(|ask| ask.ware == ware).collect();
            lines.extend(Line::of(ware, None, &of_ware));
            let mut regions: BTreeMap<&str, Vec<&Ask>> = BTreeMap::new();
            for ask in of_ware {
                regions.entry(ask.region()).or_default().push(ask);
            }
            lines.extend(regions.into_iter().filter_map(|(region, asks)| Line::of(ware, Some(region), &asks)));
        }
        Self { lines }
    }

    /// The line of all regions together; none where nothing is asked.
    pub fn whole(&self, ware: Ware) -> Option<&Line> {
        self.lines.iter().find(|line| line.ware == ware && line.region.is_none())
    }
}

impl Line {
    /// None of nothing.
    fn of(ware: Ware, region: Option<&str>, asks: &[&Ask]) -> Option<Self> {
        let mut prices: BTreeMap<u128, Step> = BTreeMap::new();
        for ask in asks {
            let none = Step { from: ask.price, to: ask.price, amount: 0, offers: 0 };
            let step = prices.entry(ask.price).or_insert(none);
            step.amount = step.amount.saturating_add(ask.amount);
            step.offers += 1;
        }
        let prices: Vec<Step> = prices.into_values().collect();
        let amount = sum(&prices);
        let mut below = 0_u128;
        let median = prices.iter().find(|step| {
            below = below.saturating_add(step.amount);
            below >= amount.div_ceil(2)
        });
        Some(Self {
            ware,
            region: region.map(str::to_owned),
            best: prices.first()?.from,
            median: median?.from,
            amount,
            offers: asks.len(),
            operators: asks.iter().map(|ask| ask.operator).collect::<BTreeSet<Address>>().len(),
            steps: prices.chunks(prices.len().div_ceil(STEPS_MAX)).filter_map(joined).collect(),
            stands: Stands::of(asks),
        })
    }
}

fn sum(steps: &[Step]) -> u128 {
    steps.iter().fold(0, |sum, step| sum.saturating_add(step.amount))
}

/// Neighbours as one.
fn joined(steps: &[Step]) -> Option<Step> {
    let (first, last) = (steps.first()?, steps.last()?);
    let offers = steps.iter().map(|step| step.offers).sum();
    Some(Step { from: first.from, to: last.to, amount: sum(steps), offers })
}

#[cfg(test)]
mod tests {
    use super::*;
    use hodei_types::transport::NodeKey;

    fn ask(operator: u8, network: &str, place: &str, price: u128, amount: u128) -> Ask {
        Ask {
            ware: Ware::Storage,
            node: NodeKey([operator; 32]),
            operator: Address::repeat_byte(operator),
            network: network.into(),
            place: place.into(),
            price,
            amount,
        }
    }

    #[test]
    fn of_nothing_there_is_no_line() {
        assert_eq!(Book::of(&[], None), Book::default());
        assert_eq!(Book::of(&[ask(1, "n", "eu", 1, 1)], Some("us")), Book::default());
        assert_eq!(Book::default().whole(Ware::Cpu), None);
    }

    #[test]
    fn a_line_sums_what_is_asked_and_steps_rise() {
        let asks = [ask(2, "m", "b", 9, 5), ask(1, "n", "a", 4, 3), ask(1, "n", "b", 4, 1), ask(3, "m", "b", 6, 1)];
        let book = Book::of(&asks, None);
        let regions: Vec<_> = book.lines.iter().map(|line| (line.region.as_deref(), line.offers)).collect();
        assert_eq!(regions, [(None, 4), (Some("a"), 1), (Some("b"), 3)]);
        let whole = book.whole(Ware::Storage).unwrap();
        assert_eq!((whole.best, whole.median, whole.amount, whole.operators), (4, 6, 10, 3));
        let steps: Vec<_> = whole.steps.iter().map(|step| (step.from, step.to, step.amount, step.offers)).collect();
        assert_eq!(steps, [(4, 4, 4, 2), (6, 6, 1, 1), (9, 9, 5, 1)]);
        let stands = &whole.stands;
        assert_eq!(stands.operator, Largest { name: Address::repeat_byte(2).to_string(), bp: 5_000 });
        assert_eq!((stands.network.name.as_str(), stands.network.bp), ("m", 6_000));
        assert_eq!((stands.region.name.as_str(), stands.region.bp), ("b", 7_000));
    }

    #[test]
    fn of_two_as_large_the_first_by_name_is_told_and_of_no_amount_no_part() {
        let tie = Book::of(&[ask(7, "z", "a", 1, 5), ask(4, "k", "a", 1, 5), ask(9, "y", "a", 1, 5)], None);
        let stands = &tie.lines[0].stands;
        assert_eq!((stands.network.name.as_str(), stands.network.bp), ("k", 3_333));
        assert_eq!(stands.operator.name, Address::repeat_byte(4).to_string());
        let none = Book::of(&[ask(7, "z", "a", 3, 0)], None);
        assert_eq!((none.lines[0].median, none.lines[0].stands.network.bp), (3, 0));
    }

    #[test]
    fn the_median_is_an_asked_price_that_half_of_the_amount_stands_at_or_below() {
        let median = |amounts: &[u128]| {
            let asks: Vec<Ask> = (1..).zip(amounts).map(|(price, amount)| ask(1, "n", "a", price, *amount)).collect();
            Book::of(&asks, None).lines[0].median
        };
        assert_eq!(median(&[1]), 1);
        assert_eq!(median(&[1, 1]), 1, "the lower of two");
        assert_eq!(median(&[1, 1, 1]), 2);
        assert_eq!(median(&[1, 1, 3]), 3, "weighed by amount");
        assert_eq!(median(&[u128::MAX, u128::MAX]), 1, "sums end where numbers do");
    }

    #[test]
    fn of_many_prices_neighbours_are_told_together_and_nothing_is_left_out() {
        let asks: Vec<Ask> = (0..100).map(|price| ask(1, "n", "a", price, 2)).collect();
        let line = &Book::of(&asks, None).lines[0];
        assert!(line.steps.len() <= STEPS_MAX, "{}", line.steps.len());
        assert_eq!((sum(&line.steps), line.steps.iter().map(|step| step.offers).sum::<usize>()), (200, 100));
        assert!(line.steps.windows(2).all(|pair| pair[0].to < pair[1].from));
        assert_eq!((line.steps[0].from, line.steps.last().unwrap().to), (0, 99));
    }
}
