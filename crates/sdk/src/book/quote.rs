//! Say what storing so much would cost now, by the plan that would be made of it, and what that does to the book.

use super::{Ask, Book, Stands, Step, Ware, ask::month_price};
use crate::{
    fault::Fault,
    market::Offer,
    plan::{Plan, Wish, lacking, plan},
};
use alloy_primitives::U256;

/// What a bucket would cost and take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quote {
    pub plan: Plan,
    /// Windows asked for.
    pub windows: u64,
    /// Wei that its providers earn, were it full for these windows.
    pub pay: U256,
    /// The same for as much once more, this being taken; none where it finds no place.
    pub again: Option<U256>,
    /// Wei per GiB and month that the cheapest asks now, and with this taken, if anybody has room then.
    pub best: u128,
    pub best_after: Option<u128>,
    /// All that is asked where it may lie, cheapest first.
    pub taken: Vec<Taken>,
    /// How much of what its deals hold stands on one.
    pub stands: Stands,
}

/// What a bucket's deals take of a step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Taken {
    pub step: Step,
    /// Bytes.
    pub taken: u128,
}

impl Quote {
    /// Of these offers, with windows of so many seconds.
    pub fn of(wish: &Wish, offers: &[Offer], window_secs: u64) -> Result<Self, Fault> {
        let plan = plan(wish, offers).map_err(|error| lacking(error, wish, offers))?;
        let (before, after) = (book(wish, offers, window_secs), rest(&plan, offers));
        let line = before.whole(Ware::Storage);
        let taken = line.map(|line| line.steps.iter().map(|step| Taken::of(step, &plan, window_secs)).collect());
        let left = book(wish, &after, window_secs);
        Ok(Self {
            windows: wish.windows,
            pay: plan.pay(wish.capacity_bytes, wish.windows),
            again: self::plan(wish, &after).ok().map(|plan| plan.pay(wish.capacity_bytes, wish.windows)),
            best: line.map_or(0, |line| line.best),
            best_after: left.whole(Ware::Storage).map(|line| line.best),
            taken: taken.unwrap_or_default(),
            stands: Stands::of_plan(&plan),
            plan,
        })
    }
}

impl Taken {
    fn of(step: &Step, plan: &Plan, window_secs: u64) -> Self {
        let is_of = |price| (step.from..=step.to).contains(&month_price(price, window_secs));
        let parts = plan.parts.iter().filter(|part| is_of(part.offer.price_store));
        Self { step: step.clone(), taken: parts.map(|part| u128::from(part.capacity_bytes)).sum() }
    }
}

/// What is asked where the wish may lie.
fn book(wish: &Wish, offers: &[Offer], window_secs: u64) -> Book {
    let is_there = |ask: &Ask| wish.regions.is_empty() || wish.regions.iter().any(|region| ask.is_of(region));
    let asks = offers.iter().flat_map(|offer| Ask::of_offer(offer, window_secs)).filter(is_there);
    Book::of(&asks.collect::<Vec<_>>(), None)
}

/// What is left when the plan's deals are open.
fn rest(plan: &Plan, offers: &[Offer]) -> Vec<Offer> {
    let taken = |offer: &Offer| plan.parts.iter().find(|part| part.offer.node == offer.node);
    let left = |offer: &Offer| {
        let taken = taken(offer).map_or(0, |part| part.capacity_bytes);
        Offer { used_bytes: offer.used_bytes.saturating_add(taken), ..offer.clone() }
    };
    offers.iter().map(left).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::tests::offer;

    const GIB: u64 = 1 << 30;

    /// Six operators in three zones, and six more that ask ten times as much.
    fn twelve() -> Vec<Offer> {
        let zones = ["a", "b", "c"];
        let price = |i: u8| if i < 6 { 100 } else { 1000 };
        (0..12).map(|i| offer(i, i, zones[usize::from(i) % 3], price(i))).collect()
    }

    /// Three of six among all twelve: deals of 2 × 2 / 12 of the size.
    fn wish(gib: u64) -> Wish {
        Wish { capacity_bytes: gib * GIB, losses: Some(1), ..Wish::default() }
    }

    #[test]
    fn a_quote_is_the_plan_and_tells_what_each_step_gives() {
        let quote = Quote::of(&wish(12), &twelve(), 86_400).unwrap();
        assert_eq!(quote.plan, plan(&wish(12), &twelve()).unwrap());
        // Two GiB of shards on each, 30 windows, six at 100 and six at 1,000.
        assert_eq!(quote.pay, U256::from(2 * 30 * 6 * 100 + 2 * 30 * 6 * 1000));
        let told: Vec<_> = quote.taken.iter().map(|taken| (taken.step.from, taken.step.amount, taken.taken)).collect();
        let gib = u128::from(GIB);
        assert_eq!(told, [(3_000, 60 * gib, 24 * gib), (30_000, 60 * gib, 24 * gib)]);
        assert_eq!((quote.best, quote.best_after, quote.again), (3_000, Some(3_000), Some(quote.pay)));
        assert_eq!((quote.stands.operator.bp, quote.stands.network.bp, quote.stands.region.bp), (833, 3_333, 3_333));
    }

    #[test]
    fn what_takes_all_of_the_cheapest_moves_the_price_and_leaves_no_room_for_as_much() {
        let mut offers = twelve();
        offers[..6].iter_mut().for_each(|offer| offer.capacity_bytes = 4 * GIB);
        let quote = Quote::of(&wish(12), &offers, 86_400).unwrap();
        assert_eq!((quote.best, quote.best_after), (3_000, Some(30_000)));
        // Six are left, with 4 GiB of shards each.
        assert_eq!(quote.again, Some(U256::from(4 * 30 * 6 * 1000)));
        offers[6..].iter_mut().for_each(|offer| offer.capacity_bytes = 4 * GIB);
        let full = Quote::of(&wish(12), &offers, 86_400).unwrap();
        assert_eq!((full.again, full.best_after), (None, None));
    }

    #[test]
    fn a_region_bounds_what_is_looked_at_and_what_cannot_be_met_is_refused() {
        let mut offers = twelve();
        offers.iter_mut().for_each(|offer| offer.zone = format!("eu-{}", offer.zone));
        offers.push(offer(20, 20, "us", 1));
        let quote = Quote::of(&Wish { regions: vec!["eu".into()], ..wish(12) }, &offers, 86_400).unwrap();
        assert_eq!(quote.best, 3_000);
        assert!(quote.plan.parts.iter().all(|part| part.offer.is_of("eu")));
        let nowhere = Quote::of(&Wish { regions: vec!["mars".into()], ..wish(12) }, &offers, 86_400);
        assert!(matches!(nowhere, Err(Fault::NoRegion { .. })));
        assert!(matches!(Quote::of(&wish(1 << 20), &offers, 86_400), Err(Fault::NoRoom { .. })));
    }
}
