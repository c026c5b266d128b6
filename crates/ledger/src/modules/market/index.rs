//! Tell what compute costs by what was paid, and what moving that number would cost.
//!
//! Upon each whole hour a lease has paid for, by touch or end, what it paid for these hours is a sample of its region and
//! runtime: wei an hour for a unit of size. Of each account that funds leases the last day's samples are kept as one entry
//! at their mean; none counts after 30 days. Of at most 64 accounts: a new one takes the place of one that counts no more,
//! else of the lightest if that is lighter, so that whoever has many accounts clears nobody out with samples of a few wei.
//! Preemptible leases leave none.
//!
//! Leases that hold room leave samples as others do, and so do those that somebody else has in lent room: their buyer is
//! an account that paid, and to trade with oneself there takes a held lease, where a host takes collateral, and burns the
//! same. What the ledger sees to be paid to oneself is no price: in one's own reservation, or in what one lends oneself.
//!
//! The index is the median of the entries, weighted by what was paid. No account weighs more than a fifth of all; where
//! there are fewer than five, all weigh the same. Whoever trades with itself pays the burned part of each wei, and needs
//! accounts: how much and how many to move the median by 5 % is told with it, as the weights stand; where 64 are kept, who
//! comes in also takes one out, and half as much may do.

use alloy_primitives::{Address, U256};
use hodei_types::{
    abi::{IMarket, MARKET},
    market::{BP, Index, fee},
};

use super::super::{
    ctx::{Ctx, Stop},
    list::List,
    queue,
    slots::{at, base, pack, pack_address, pack_wide, unpack, unpack_address, unpack_wide},
};

const TAG_ACCOUNTS: u8 = 8;
const TAG_ENTRY: u8 = 9;

const ACCOUNTS_MAX: u64 = 64;
/// Samples of an account within this are one entry.
const DAY_MS: u64 = 24 * 3600 * 1000;
const ENTRY_MS_MAX: u64 = 30 * DAY_MS;
/// No account weighs more than one in so many.
const SHARE: usize = 5;
/// What is asked of the index: the cost of moving it by so much, in hundredths of a percent.
const MOVE_BP: u128 = 500;

/// Takes what a lease of `owner` paid, at that price of a unit and hour.
pub(in super::super) fn sample(
    ctx: &mut Ctx<'_, '_>,
    (region, runtime): (u8, u8),
    owner: Address,
    price: u128,
    weight: u128,
) -> Result<(), Stop> {
    let now_ms = queue::window(ctx)?.clock_ms;
    let (accounts, word) = (accounts(region, runtime), pack_address(owner, 0));
    let slots = entry_slot(region, runtime, owner);
    let entry = if accounts.holds(ctx, word)? {
        let (old_price, old_weight) = unpack_wide(ctx.load(MARKET, slots)?);
        let [begun_ms, ..] = unpack(ctx.load(MARKET, at(slots, 1))?);
        (now_ms < begun_ms.saturating_add(DAY_MS)).then_some((old_price, old_weight, begun_ms))
    } else {
        if accounts.len(ctx)? >= ACCOUNTS_MAX && !make_room(ctx, (region, runtime), now_ms, weight)? {
            return Ok(());
        }
        accounts.push(ctx, word)?;
        None
    };
    let (old_price, old_weight, begun_ms) = entry.unwrap_or((0, 0, now_ms));
    let sum = old_weight.saturating_add(weight);
    let paid = U256::from(old_price) * U256::from(old_weight) + U256::from(price) * U256::from(weight);
    // A mean of prices of 128 bits has no more.
    let mean: u128 = paid.checked_div(U256::from(sum)).unwrap_or_default().saturating_to();
    ctx.store(MARKET, slots, pack_wide(mean, sum))?;
    ctx.store(MARKET, at(slots, 1), pack([begun_ms, 0, 0, 0]))?;
    ctx.emit(MARKET, &IMarket::Sampled { region, runtime, owner, price, weight: U256::from(weight) })
}

/// Forgets an account for one of that weight; false if it is to be kept out.
fn make_room(ctx: &mut Ctx<'_, '_>, (region, runtime): (u8, u8), now_ms: u64, weight: u128) -> Result<bool, Stop> {
    let words = accounts(region, runtime).page(ctx, 0, ACCOUNTS_MAX)?;
    let mut entries = Vec::with_capacity(words.len());
    for word in &words {
        let slots = entry_slot(region, runtime, unpack_address(*word).0);
        let (_, entry) = unpack_wide(ctx.load(MARKET, slots)?);
        entries.push((begun_ms(ctx, region, runtime, *word)?, entry));
    }
    let Some(word) = gives_way(&entries, now_ms, weight).and_then(|at| words.get(at)) else { return Ok(false) };
    let slots = entry_slot(region, runtime, unpack_address(*word).0);
    accounts(region, runtime).remove(ctx, *word)?;
    ctx.store(MARKET, slots, U256::ZERO)?;
    ctx.store(MARKET, at(slots, 1), U256::ZERO)?;
    Ok(true)
}

/// Which of these entries, each with when it began and its weight, gives way to one of that weight.
fn gives_way(entries: &[(u64, u128)], now_ms: u64, weight: u128) -> Option<usize> {
    let counts = |begun_ms: u64, entry: u128| if is_over(begun_ms, now_ms) { 0 } else { entry };
    let weights = entries.iter().map(|(begun_ms, entry)| counts(*begun_ms, *entry));
    let (at, least) = weights.enumerate().min_by_key(|(_, entry)| *entry)?;
    (least < weight).then_some(at)
}

/// Whether an entry counts no more.
fn is_over(begun_ms: u64, now_ms: u64) -> bool {
    now_ms >= begun_ms.saturating_add(ENTRY_MS_MAX)
}

pub(super) fn index(ctx: &mut Ctx<'_, '_>, region: u8, runtime: u8) -> Result<Index, Stop> {
    let now_ms = queue::window(ctx)?.clock_ms;
    let mut entries = Vec::new();
    for word in accounts(region, runtime).page(ctx, 0, ACCOUNTS_MAX)? {
        let begun_ms = begun_ms(ctx, region, runtime, word)?;
        if !is_over(begun_ms, now_ms) {
            entries.push(unpack_wide(ctx.load(MARKET, entry_slot(region, runtime, unpack_address(word).0))?));
        }
    }
    Ok(of(entries))
}

fn begun_ms(ctx: &mut Ctx<'_, '_>, region: u8, runtime: u8, word: U256) -> Result<u64, Stop> {
    let slots = entry_slot(region, runtime, unpack_address(word).0);
    Ok(unpack(ctx.load(MARKET, at(slots, 1))?)[0])
}

/// The index of entries of price and weight, one an account.
fn of(mut entries: Vec<(u128, u128)>) -> Index {
    entries.retain(|(_, weight)| *weight > 0);
    entries.sort_unstable();
    let most = cap(entries.iter().map(|(_, weight)| *weight).collect());
    let weights: Vec<(U256, U256)> =
        entries.iter().map(|(price, weight)| (U256::from(*price), U256::from(*weight.min(&most)))).collect();
    let all: U256 = weights.iter().map(|(_, weight)| *weight).sum();
    let below = |is_in: &dyn Fn(U256) -> bool| -> U256 {
        weights.iter().filter(|(price, _)| is_in(*price)).map(|(_, weight)| *weight).sum()
    };
    let two = U256::from(2);
    let median = entries.iter().find(|(price, _)| below(&|other| other <= U256::from(*price)) * two >= all);
    let Some((price, _)) = median.copied() else {
        return Index {
            price: 0,
            accounts: 0,
            weight: U256::ZERO,
            moveWeight: U256::ZERO,
            moveAccounts: 0,
            moveBurned: U256::ZERO,
        };
    };
    let part = U256::from(price) * U256::from(MOVE_BP) / U256::from(BP);
    // Up: what is added at the higher price must outweigh all below it. Down: with all at or below the lower price it
    // must weigh as much as the rest.
    let (higher, lower) = (U256::from(price) + part.max(U256::from(1)), U256::from(price) - part);
    let up = below(&|other| other < higher) * two + U256::from(1) - all;
    let down = all.saturating_sub(below(&|other| other <= lower) * two);
    // A price of a few wei does not move down by 5 % without moving.
    let weight = if part.is_zero() { up } else { up.min(down) };
    Index {
        price,
        accounts: entries.len() as u64,
        weight: all,
        moveWeight: weight,
        moveAccounts: weight.div_ceil(U256::from(most)).saturating_to(),
        moveBurned: fee(weight),
    }
}

/// The most one account weighs: so much that who weighs as much has a fifth of all; the least of all weights where
/// fewer than five accounts are.
fn cap(mut weights: Vec<u128>) -> u128 {
    weights.sort_unstable();
    if weights.len() < SHARE {
        return weights.first().copied().unwrap_or(0);
    }
    for capped in 0..SHARE {
        let (free, _) = weights.split_at(weights.len() - capped);
        // Below 2^128: 64 weights of a day at rates of 2^93.
        let sum = free.iter().fold(0_u128, |sum, weight| sum.saturating_add(*weight));
        let most = sum / (SHARE - capped) as u128;
        if free.last().is_none_or(|largest| *largest <= most) {
            return most;
        }
    }
    weights.first().copied().unwrap_or(0)
}

fn accounts(region: u8, runtime: u8) -> List {
    List::new(MARKET, base(TAG_ACCOUNTS, &[&[region, runtime]]))
}

fn entry_slot(region: u8, runtime: u8, owner: Address) -> U256 {
    base(TAG_ENTRY, &[&[region, runtime], owner.as_slice()])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_account_of_five_or_more_weighs_a_fifth_at_most() {
        assert_eq!(cap(vec![7, 3, 9]), 3, "few accounts weigh the same");
        assert_eq!(cap(vec![10; 10]), 20, "nobody is near a fifth");
        // Ten of 10 and one of 1,000,000: 25 of 125.
        let mut weights = vec![10; 10];
        weights.push(1_000_000);
        assert_eq!(cap(weights), 25);
        assert_eq!(cap(vec![10, 1000, 1000, 1000, 1000]), 10);
    }

    #[test]
    fn whoever_pays_much_moves_the_median_by_its_capped_weight_alone() {
        let mut entries: Vec<(u128, u128)> = (0..10).map(|i| (100 + i, 10)).collect();
        let before = of(entries.clone());
        assert_eq!((before.price, before.accounts, before.weight), (104, 10, U256::from(100)));
        entries.push((1_000_000, 1_000_000));
        let after = of(entries);
        assert_eq!((after.price, after.weight), (106, U256::from(125)));
    }

    #[test]
    fn many_light_accounts_take_no_heavier_ones_place() {
        let entries = [(5, 100), (9, 30), (1, 70), (7, 30)];
        assert_eq!(gives_way(&entries, 10, 30), None, "as light as the lightest");
        assert_eq!(gives_way(&entries, 10, 31), Some(1), "not the oldest, nor one as light that came after");
        // What counts no more gives way to anything, however heavy it was.
        assert_eq!(gives_way(&entries, 1 + ENTRY_MS_MAX, 1), Some(2));
        assert_eq!(gives_way(&entries, ENTRY_MS_MAX, 1), None);
    }

    #[test]
    fn what_is_printed_moves_the_index_and_less_does_not() {
        let entries: Vec<(u128, u128)> = (0..20).map(|i| (1000 + 20 * i, 10)).collect();
        let index = of(entries.clone());
        assert_eq!(index.price, 1180);
        // Lower than 1239 are 12 of 20 entries: 120 of 200. At or below 1121 are seven: 70 of 200.
        assert_eq!(index.moveWeight, U256::from(41));
        assert_eq!(index.moveBurned, U256::from(1));
        let with = |weight: u128| {
            // As many accounts as none of them is capped.
            let mut entries = entries.clone();
            entries.extend((0..weight).map(|_| (1239, 1)));
            of(entries).price
        };
        assert!(with(40) < 1239);
        assert_eq!(with(41), 1239);
        let none = of(Vec::new());
        assert_eq!((none.price, none.accounts, none.moveWeight), (0, 0, U256::ZERO));
    }
}
