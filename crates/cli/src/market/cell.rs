//! Write prices, amounts and bars in little room.

use crate::out::bytes;
use alloy_primitives::U256;
use hodei_sdk::{book::Ware, wallet::format_coins};

/// Columns of a bar.
const BAR: u128 = 20;
/// Letters of a name.
const NAME: usize = 18;
/// Digits of a price.
const DIGITS: u32 = 4;
const COIN: u128 = 10u128.pow(18);

/// Coins, rounded up to four digits, but never whole coins: JSON has every wei.
pub(super) fn coins(wei: u128) -> String {
    let digits = wei.checked_ilog10().map_or(0, |log| log + 1);
    let unit = 10u128.pow(digits.saturating_sub(DIGITS)).min(COIN);
    let rounded = wei.checked_next_multiple_of(unit).unwrap_or(wei - wei % unit);
    format_coins(U256::from(rounded))
}

/// The same of what may be more than a price.
pub(super) fn wide(wei: U256) -> String {
    u128::try_from(wei).map_or_else(|_| format_coins(wei), coins)
}

/// A step's price, or those between which its offers are.
pub(super) fn range(from: u128, to: u128) -> String {
    let (from, to) = (coins(from), coins(to));
    if from == to { to } else { format!("{from} to {to}") }
}

/// What amounts of a ware count.
pub(super) fn amount_of(ware: Ware) -> &'static str {
    match ware {
        Ware::Cpu => "thousandths of a CPU",
        Ware::Line => "bits a second",
        Ware::Transfer => "bytes an hour",
        Ware::Storage | Ware::Reads | Ware::Memory => "bytes",
    }
}

pub(super) fn amount(ware: Ware, amount: u128) -> String {
    match ware {
        Ware::Cpu => format!("{}.{:02} CPU", amount / 1000, amount % 1000 / 10),
        Ware::Line => format!("{} Mbit/s", amount / 1_000_000),
        Ware::Transfer => format!("{} an hour", bytes(amount.try_into().unwrap_or(u64::MAX))),
        Ware::Storage | Ware::Reads | Ware::Memory => bytes(amount.try_into().unwrap_or(u64::MAX)),
    }
}

/// `█████░░░ 62 %`: how much of all, begun parts left out.
pub(super) fn bar(part: u128, all: u128) -> String {
    let of = |whole: u128| match part.checked_mul(whole) {
        Some(times) => times.checked_div(all).unwrap_or(0),
        None => part / (all / whole).max(1),
    };
    let full = of(BAR).min(BAR) as usize;
    format!("{}{} {} %", "█".repeat(full), "░".repeat(BAR as usize - full), of(100).min(100))
}

/// Of hundredths of a percent.
pub(super) fn percent(bp: u64) -> String {
    format!("{} %", (bp + 50) / 100)
}

/// A name that others chose, in little room.
pub(super) fn cut(name: &str) -> String {
    if name.chars().count() <= NAME {
        return name.to_owned();
    }
    // Names are told apart by both ends.
    let letters: Vec<char> = name.chars().collect();
    let (head, tail) = (&letters[..NAME / 2], &letters[letters.len() + NAME / 2 + 1 - NAME..]);
    head.iter().chain(&['…']).chain(tail).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prices_have_four_digits_and_are_never_told_too_low() {
        assert_eq!([0, 1, 12_345, COIN].map(coins), ["0", "0.000000000000000001", "0.00000000000001235", "1"]);
        assert_eq!(coins(1_234_567 * COIN + 1), "1234568", "whole coins are told whole");
        assert_eq!(coins(u128::MAX), format_coins(U256::from(u128::MAX - u128::MAX % COIN)));
        assert_eq!((range(COIN, COIN), range(COIN, 2 * COIN)), ("1".into(), "1 to 2".into()));
        assert_eq!(wide(U256::MAX), format_coins(U256::MAX));
    }

    #[test]
    fn a_bar_is_full_when_all_is_there_and_no_sooner() {
        assert_eq!(bar(1, 2), format!("{}{} 50 %", "█".repeat(10), "░".repeat(10)));
        assert_eq!(bar(0, 0), format!("{} 0 %", "░".repeat(20)));
        assert!(bar(u128::MAX, u128::MAX).ends_with(" 100 %") && bar(999, 1000).ends_with("░ 99 %"));
    }

    #[test]
    fn names_and_amounts_fit_their_columns() {
        assert_eq!(cut("attic"), "attic");
        let account = "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed";
        assert_eq!(cut(account), "0x5aAeb60…Ef1BeAed");
        assert_eq!(cut(account).chars().count(), NAME);
        assert_eq!(amount(Ware::Cpu, 2_550), "2.55 CPU");
        assert_eq!(amount(Ware::Memory, 3 << 30), "3.0 GiB");
        assert_eq!((percent(0), percent(1_667), percent(10_000)), ("0 %".into(), "17 %".into(), "100 %".into()));
    }
}
