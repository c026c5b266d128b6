//! Tell the price index of leases, and what moving it costs, by the rule that the ledger's module states.
//!
//! Written anew from that rule: one entry an account, its mean price weighted by what it paid for whole hours; the median
//! by weight, no account above a fifth of it, all alike where fewer than five are; at most 64 accounts, the heaviest.

use std::collections::BTreeMap;

use crate::trade::Paid;
use hodei_types::market::{BP, FEE_BP, size_milli};

const ACCOUNTS: usize = 64;
const SHARE: usize = 5;
const MOVE_BP: u128 = 500;

/// Price of a unit and hour, and wei paid.
pub(crate) type Entry = (u128, u128);

/// What `IMarket.index` tells.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Index {
    pub(crate) price: u128,
    pub(crate) accounts: u64,
    pub(crate) weight: u128,
    pub(crate) move_weight: u128,
    pub(crate) move_accounts: u128,
    pub(crate) move_burned: u128,
    /// Whether the cheaper way is up.
    pub(crate) is_up: bool,
}

/// Entries of a day's leases.
pub(crate) fn entries(leases: &[Paid]) -> Vec<Entry> {
    let mut accounts = BTreeMap::<u64, (u128, u128)>::new();
    for lease in leases.iter().filter(|lease| lease.secs >= 3_600) {
        let hour = lease.rate * 3_600;
        let weight = hour * u128::from(lease.secs / 3_600);
        let price = (hour * 1000).div_ceil(u128::from(size_milli(&lease.each).max(1)));
        let (sum, all) = accounts.entry(lease.buyer).or_default();
        (*sum, *all) = (*sum + price * (weight >> 20).max(1), *all + weight);
    }
    let mean = |(sum, all): (u128, u128)| ((sum / (all >> 20).max(1)), all);
    let mut entries: Vec<Entry> = accounts.into_values().map(mean).collect();
    entries.sort_by_key(|(_, weight)| std::cmp::Reverse(*weight));
    entries.truncate(ACCOUNTS);
    entries
}

/// With more accounts, each in the place of the lightest if 64 are there and that is lighter.
pub(crate) fn with(entries: &[Entry], more: &[Entry]) -> Vec<Entry> {
    let mut all = entries.to_vec();
    for entry in more {
        let lightest =
            all.iter().enumerate().min_by_key(|(_, (_, weight))| *weight).map(|(at, (_, weight))| (at, *weight));
        match lightest {
            Some((at, weight)) if all.len() >= ACCOUNTS && weight < entry.1 => all[at] = *entry,
            _ if all.len() >= ACCOUNTS => {}
            _ => all.push(*entry),
        }
    }
    all
}

pub(crate) fn of(entries: &[Entry]) -> Index {
    let mut entries: Vec<Entry> = entries.iter().filter(|(_, weight)| *weight > 0).copied().collect();
    entries.sort_unstable();
    let most = cap(entries.iter().map(|(_, weight)| *weight).collect());
    let capped: Vec<Entry> = entries.iter().map(|(price, weight)| (*price, *weight.min(&most))).collect();
    let all: u128 = capped.iter().map(|(_, weight)| weight).sum();
    let below =
        |limit: u128| capped.iter().filter(|(price, _)| *price <= limit).map(|(_, weight)| weight).sum::<u128>();
    let Some((price, _)) = capped.iter().find(|(price, _)| below(*price) * 2 >= all).copied() else {
        return Index::default();
    };
    let part = (price * MOVE_BP / u128::from(BP)).max(1);
    // Up: more than all that is cheaper. Down: as much as all that is dearer.
    let up = below(price + part - 1) * 2 + 1 - all;
    let down = all.saturating_sub(below(price - part) * 2);
    let weight = up.min(down);
    Index {
        price,
        accounts: entries.len() as u64,
        weight: all,
        move_weight: weight,
        move_accounts: weight.div_ceil(most.max(1)),
        move_burned: (weight * u128::from(FEE_BP)).div_ceil(u128::from(BP)),
        is_up: up <= down,
    }
}

/// So much that who weighs as much has a fifth of all.
fn cap(mut weights: Vec<u128>) -> u128 {
    weights.sort_unstable();
    let least = weights.first().copied().unwrap_or(0);
    if weights.len() < SHARE {
        return least;
    }
    let fits = |capped: usize| {
        let free = &weights[..weights.len() - capped];
        let most = free.iter().sum::<u128>() / (SHARE - capped) as u128;
        free.last().is_none_or(|largest| *largest <= most).then_some(most)
    };
    (0..SHARE).find_map(fits).unwrap_or(least)
}
