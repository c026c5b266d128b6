//! Let one seller keep room back or ask for more than its cost, and a trader pay itself to move the index.

use crate::{
    index::{self, Entry, Index},
    town::{Seller, Wish},
    trade::{Mechanism, Outcome, run},
};
use hodei_types::market::{BP, FEE_BP};

/// Parts of its capacity, and of its cost, in hundredths of a percent.
const WITHHELD_BP: u64 = 5_000;
const SHADES_BP: [u64; 6] = [0, 1_000, 2_000, 3_500, 5_000, 10_000];

/// What a deviation came to, over all seeds.
#[derive(Clone, Copy, Default)]
pub(crate) struct Deviation {
    /// Of the one who deviates: what it kept while truthful and what serving cost it then; what it keeps deviating.
    pub(crate) honest: u128,
    pub(crate) costs: u128,
    pub(crate) kept: u128,
    /// Buyers' surplus of everybody, likewise.
    pub(crate) buyers_honest: u128,
    pub(crate) buyers: u128,
}

impl Deviation {
    pub(crate) fn add(&mut self, who: usize, honest: &Outcome, other: &Outcome) {
        let buyers = |outcome: &Outcome| (outcome.surplus + outcome.cost).saturating_sub(outcome.paid);
        self.honest += honest.profit[who];
        self.costs += honest.costs[who];
        self.kept += other.profit[who];
        self.buyers_honest += buyers(honest);
        self.buyers += buyers(other);
    }
}

/// The largest seller.
fn largest(sellers: &[Seller]) -> usize {
    let sizes = sellers.iter().enumerate().max_by_key(|(_, seller)| seller.total.cpuMilli);
    sizes.map_or(0, |(at, _)| at)
}

/// The largest seller offers half of what it has.
pub(crate) fn withhold(
    mechanism: Mechanism,
    sellers: &[Seller],
    wishes: &[Wish],
    honest: &Outcome,
    sum: &mut Deviation,
) {
    let (who, mut sellers) = (largest(sellers), sellers.to_vec());
    sellers[who].withheld_bp = WITHHELD_BP;
    sum.add(who, honest, &run(mechanism, &sellers, wishes));
}

/// The largest seller asks for its cost and so much more, by each of these shades.
pub(crate) fn shade(
    mechanism: Mechanism,
    sellers: &[Seller],
    wishes: &[Wish],
    honest: &Outcome,
    sums: &mut [(u64, Deviation)],
) {
    let (who, mut sellers) = (largest(sellers), sellers.to_vec());
    for (shade_bp, sum) in sums {
        sellers[who].shade_bp = *shade_bp;
        sum.add(who, honest, &run(mechanism, &sellers, wishes));
    }
}

/// A sum for each shade.
pub(crate) fn shades() -> Vec<(u64, Deviation)> {
    SHADES_BP.map(|shade_bp| (shade_bp, Deviation::default())).into()
}

/// One attempt to move the index.
pub(crate) struct Wash {
    pub(crate) what: &'static str,
    pub(crate) accounts: u128,
    /// Wei he paid himself, and what of it was burned.
    pub(crate) paid: u128,
    pub(crate) burned: u128,
    pub(crate) before: u128,
    pub(crate) after: u128,
}

/// What the index printed, and what trading with oneself did to it: as printed, half of it, and much by one account.
pub(crate) fn wash(leases: &[crate::trade::Paid]) -> (Index, Vec<Wash>) {
    let entries = index::entries(leases);
    let index = index::of(&entries);
    let attempts = [
        ("as printed", index.move_accounts, index.move_weight),
        ("half of it", index.move_accounts, index.move_weight / 2),
        ("ten times it, by one account", 1, index.move_weight * 10),
    ];
    let tried = attempts.map(|(what, accounts, paid)| {
        let after = index::of(&index::with(&entries, &moved(&index, accounts, paid))).price;
        let burned = (paid * u128::from(FEE_BP)).div_ceil(u128::from(BP));
        Wash { what, accounts, paid, burned, before: index.price, after }
    });
    (index, tried.into())
}

/// So many accounts that pay so much together, a twentieth above or below the index.
fn moved(index: &Index, accounts: u128, paid: u128) -> Vec<Entry> {
    let part = (index.price / 20).max(1);
    let price = if index.is_up { index.price + part } else { index.price - part };
    (0..accounts).map(|_| (price, paid.div_ceil(accounts.max(1)))).collect()
}
