//! Serve the same orders by each mechanism, and count who gained what.

use std::{cmp::Reverse, collections::BinaryHeap};

use crate::town::{REGIONS, Seller, Wish, scarcity};
use hodei_types::market::{BP, Capacity};

/// Seconds from an order to its lease where it is matched in the block that takes it.
const BLOCK: u64 = 1;
/// Seconds that bids are taken for.
const AUCTION: u64 = 6;
/// Seconds between two changes of a list price, its step in hundredths of a percent, and the utilisation it aims at.
const REVIEW: u64 = 10;
const STEP_BP: u64 = 50;
const AIM_BP: u64 = 7_000;

/// How an order finds its seller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mechanism {
    /// The cheapest posted ask, at once, without a curve: what others are compared with.
    Posted,
    /// The ledger's: posted asks that rise with utilisation, matched at once, paid as asked.
    Curve,
    /// Sellers bid for each order for six seconds; the lowest bid with room is taken and paid.
    Reverse,
    /// The same, where bids rise with utilisation as the ledger's curves do.
    ReverseCurve,
    /// One price a region, moved by the utilisation of those who would sell at it.
    List,
}

impl Mechanism {
    pub(crate) const ALL: [Self; 5] = [Self::Posted, Self::Curve, Self::Reverse, Self::ReverseCurve, Self::List];

    fn is_auction(self) -> bool {
        matches!(self, Self::Reverse | Self::ReverseCurve)
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Posted => "posted",
            Self::Curve => "curve",
            Self::Reverse => "reverse 6 s",
            Self::ReverseCurve => "reverse 6 s, curve",
            Self::List => "list price",
        }
    }
}

/// A lease as it was paid: whose, at what a second, for how long, and how large.
#[derive(Clone)]
pub(crate) struct Paid {
    pub(crate) buyer: u64,
    pub(crate) rate: u128,
    pub(crate) secs: u64,
    pub(crate) each: Capacity,
}

/// What a run came to, in wei and counts.
#[derive(Clone, Default)]
pub(crate) struct Outcome {
    pub(crate) orders: u64,
    pub(crate) served: u64,
    pub(crate) messages: u64,
    pub(crate) waited: u64,
    /// Value less cost, price paid, and cost, over all seconds of all leases.
    pub(crate) surplus: u128,
    pub(crate) paid: u128,
    pub(crate) cost: u128,
    /// Seconds of a CPU that were leased.
    pub(crate) cpu_secs: u128,
    /// What each seller kept, and what serving cost it.
    pub(crate) profit: Vec<u128>,
    pub(crate) costs: Vec<u128>,
    pub(crate) leases: Vec<Paid>,
}

impl Outcome {
    /// Adds another seed's; what is told of each seller or lease is not.
    pub(crate) fn add(&mut self, other: &Self) {
        self.orders += other.orders;
        self.served += other.served;
        self.messages += other.messages;
        self.waited += other.waited;
        self.surplus += other.surplus;
        self.paid += other.paid;
        self.cost += other.cost;
        self.cpu_secs += other.cpu_secs;
    }
}

/// A market in which leases run and end.
struct Hall {
    sellers: Vec<Seller>,
    /// When which seller gets how much room back.
    ends: BinaryHeap<Reverse<(u64, usize, [u64; 5])>>,
    /// Of each region, the list price for the cost of one wei, in hundredths of a percent of the middle cost.
    list: Vec<u64>,
    outcome: Outcome,
}

/// Lets these sellers serve these orders.
pub(crate) fn run(mechanism: Mechanism, sellers: &[Seller], wishes: &[Wish]) -> Outcome {
    let mut sellers = sellers.to_vec();
    if matches!(mechanism, Mechanism::Curve | Mechanism::ReverseCurve) {
        sellers.iter_mut().for_each(|seller| seller.curve = scarcity());
    }
    let none = vec![0; sellers.len()];
    let outcome = Outcome { profit: none.clone(), costs: none, ..Outcome::default() };
    let list = vec![BP * 3 / 2; REGIONS as usize];
    let mut hall = Hall { sellers, ends: BinaryHeap::new(), list, outcome };
    let mut reviewed = 0;
    for wish in wishes {
        // Whoever bids, bids at what it knows at the end.
        let now = wish.at + if mechanism.is_auction() { AUCTION } else { 0 };
        while reviewed + REVIEW <= now {
            reviewed += REVIEW;
            hall.end(reviewed);
            if mechanism == Mechanism::List {
                hall.review();
            }
        }
        hall.end(now);
        hall.outcome.orders += 1;
        match mechanism {
            Mechanism::Posted | Mechanism::Curve => hall.instant(wish),
            Mechanism::Reverse | Mechanism::ReverseCurve => hall.auction(wish),
            Mechanism::List => hall.listed(wish),
        }
    }
    hall.outcome
}

impl Hall {
    fn end(&mut self, now: u64) {
        while let Some(Reverse((at, seller, dims))) = self.ends.peek().copied() {
            if at > now {
                return;
            }
            self.ends.pop();
            let free = &mut self.sellers[seller].free;
            *free = free.checked_add(&Capacity::of_dims(dims)).expect("room that was taken");
        }
    }

    /// Those with room in a wish's regions, with what they ask.
    fn asks(&self, wish: &Wish) -> Vec<(u128, u64, usize)> {
        let is_open = |seller: &&Seller| wish.regions >> seller.region & 1 == 1 && seller.has_room(&wish.each);
        let bid = |(at, seller): (usize, &Seller)| (seller.ask(&wish.each), seller.free.holds(&wish.each), at);
        self.sellers.iter().enumerate().filter(|(_, seller)| is_open(seller)).map(bid).collect()
    }

    /// The cheapest, then the tightest, then the lowest key, as the ledger's matcher has it.
    fn instant(&mut self, wish: &Wish) {
        self.outcome.messages += 1;
        let best = self.asks(wish).into_iter().min();
        if let Some((price, _, seller)) = best.filter(|(price, ..)| *price <= wish.worth(BLOCK)) {
            self.lease(wish, seller, price, BLOCK);
        }
    }

    /// The order, a bid of each who could serve it, and the choice are a message each.
    fn auction(&mut self, wish: &Wish) {
        let bids = self.asks(wish);
        self.outcome.messages += 2 + bids.len() as u64;
        let waited = AUCTION + BLOCK;
        let best = bids.into_iter().min();
        if let Some((price, _, seller)) = best.filter(|(price, ..)| *price <= wish.worth(waited)) {
            self.lease(wish, seller, price, waited);
        }
    }

    /// What a seller with the middle of costs would ask, raised or lowered to the region's level.
    fn list_price(&self, region: u64, each: &Capacity) -> u128 {
        crate::town::middle(each) * u128::from(self.list[region as usize]) / u128::from(BP)
    }

    /// Any seller whose cost the list price covers, the tightest first.
    fn listed(&mut self, wish: &Wish) {
        self.outcome.messages += 1;
        let price = |at: usize| self.list_price(self.sellers[at].region, &wish.each);
        let covers = |(ask, holds, at): (u128, u64, usize)| (ask <= price(at)).then_some((price(at), holds, at));
        let best = self.asks(wish).into_iter().filter_map(covers).min();
        if let Some((price, _, seller)) = best.filter(|(price, ..)| *price <= wish.worth(BLOCK)) {
            self.lease(wish, seller, price, BLOCK);
        }
    }

    /// Moves each region's price towards the utilisation aimed at, of those who would sell at it.
    fn review(&mut self) {
        let unit = Capacity { cpuMilli: 1000, ..Capacity::default() };
        for region in 0..REGIONS {
            let price = self.list_price(region, &unit);
            let willing = self.sellers.iter().filter(|seller| seller.region == region && seller.ask(&unit) <= price);
            let (all, free) =
                willing.fold((0, 0), |(all, free), seller| (all + seller.total.cpuMilli, free + seller.free.cpuMilli));
            let used_bp = ((all - free) * BP).checked_div(all).unwrap_or(BP);
            let level = &mut self.list[region as usize];
            let step = (*level * STEP_BP / BP).max(1);
            *level = if used_bp > AIM_BP { *level + step } else { (*level - step).max(BP / 10) };
        }
    }

    fn lease(&mut self, wish: &Wish, seller: usize, price: u128, waited: u64) {
        let (worth, secs) = (wish.worth(waited), u128::from(wish.secs));
        let cost = self.sellers[seller].cost(&wish.each);
        let free = &mut self.sellers[seller].free;
        *free = free.checked_sub(&wish.each).expect("room that was seen");
        self.ends.push(Reverse((wish.at + waited + wish.secs, seller, wish.each.dims())));
        let outcome = &mut self.outcome;
        outcome.served += 1;
        outcome.waited += waited;
        // Nobody sells below cost, nor buys above worth.
        outcome.surplus += worth.saturating_sub(cost) * secs;
        outcome.paid += price * secs;
        outcome.cost += cost * secs;
        outcome.cpu_secs += u128::from(wish.each.cpuMilli) * secs / 1000;
        outcome.profit[seller] += price.saturating_sub(cost) * secs;
        outcome.costs[seller] += cost * secs;
        outcome.leases.push(Paid { buyer: wish.buyer, rate: price, secs: wish.secs, each: wish.each });
    }
}
