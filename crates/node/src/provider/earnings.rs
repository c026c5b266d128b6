//! Say what was earned, from the ledger's own events.
//!
//! The ledger pays a deal when something touches it: for all windows the provider proved since the last time. Its
//! events of proofs tell which those were. Tabs pay what was read, claim by claim. What a deal holds and its price never
//! change between two payments, so the windows of one payment earned the same, to the wei that does not divide. What they
//! were paid for is what the deal held then: its posts before the payment tell, and where these are older than the blocks
//! looked at, what it holds now if that comes to the amount, or else the amount itself.

use super::follow::{Happened, What, range};
use alloy_primitives::{B256, U256};
use hodei_types::{
    abi::LEAVES_PER_GIB,
    chain::{Chain, ChainError},
};
use serde::Serialize;
use std::collections::BTreeMap;

/// What a provider was paid and lost in a span of blocks; every wei has its transaction.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Earnings {
    pub from: u64,
    pub to: u64,
    /// Wei, of deals and for what was read.
    pub paid: U256,
    /// Wei of it for what was read.
    pub read: U256,
    /// Wei of collateral taken.
    pub slashed: U256,
    pub windows_proven: u64,
    pub windows_missed: u64,
    pub payments: Vec<Payment>,
    pub reads: Vec<Read>,
    /// Windows whose proof was accepted in these blocks, in order.
    #[serde(skip)]
    proven: Vec<u64>,
    /// By deal: what it held and asked last, as far as these blocks tell.
    #[serde(skip)]
    held: BTreeMap<u64, Held>,
}

/// What a deal holds, and asks for it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Held {
    leaves: Option<u64>,
    price: Option<u128>,
}

/// One payment of one deal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Payment {
    pub height: u64,
    pub tx: B256,
    pub deal: u64,
    pub windows: u64,
    /// Wei.
    pub amount: U256,
    /// Leaves of a KiB that it held in each of the windows; `None` if nothing tells.
    pub leaves: Option<u64>,
    /// Wei per GiB and window at which they were paid; `None` if nothing tells.
    pub price: Option<u128>,
    /// Whether this took the last of the escrow, and may be less than was earned.
    pub is_last: bool,
    /// What each window came to, in order; they sum to the amount.
    pub each: Vec<Share>,
}

/// One claim of a tab: pay for what was read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Read {
    pub height: u64,
    pub tx: B256,
    pub tab: B256,
    /// Which leaf of it.
    pub leaf: u32,
    /// MiB that nobody had paid for before.
    pub ticks: u32,
    /// Wei.
    pub amount: U256,
}

/// What one window brought, of one payment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Share {
    /// Its number; `None` if it was proven before the span looked at.
    pub window: Option<u64>,
    /// Wei.
    pub amount: U256,
}

/// Adds up blocks `from..=to`.
pub async fn earnings(chain: &dyn Chain, node: B256, from: u64, to: u64) -> Result<Earnings, ChainError> {
    let mut sum = Earnings { from, to, ..Earnings::default() };
    let mut next = from;
    while next <= to {
        let (happened, last) = range(chain, node, next, to).await?;
        happened.iter().for_each(|event| sum.add(event));
        next = last + 1;
    }
    Ok(sum)
}

impl Earnings {
    fn add(&mut self, event: &Happened) {
        match event.what {
            What::Paid { deal, windows, amount, escrow_left } => {
                self.paid += amount;
                let Happened { height, tx, .. } = *event;
                let (each, is_last) = (self.shares(windows, amount), escrow_left == 0);
                let Held { leaves, price } = self.held.get(&deal).copied().unwrap_or_default();
                self.payments.push(Payment { height, tx, deal, windows, amount, leaves, price, is_last, each });
            }
            What::Posted { deal, leaves, .. } => self.held.entry(deal).or_default().leaves = Some(leaves),
            What::Opened { deal, price, .. } => {
                self.held.insert(deal, Held { leaves: Some(0), price: Some(price) });
            }
            What::Resized { deal, price, .. } => self.held.entry(deal).or_default().price = Some(price),
            What::Claimed { tab, leaf, ticks, amount } => {
                self.paid += amount;
                self.read += amount;
                let Happened { height, tx, .. } = *event;
                self.reads.push(Read { height, tx, tab, leaf, ticks, amount });
            }
            What::Slashed { amount, .. } => self.slashed += amount,
            What::Proven { window } => {
                self.windows_proven += 1;
                self.proven.push(window);
            }
            What::Missed { .. } => self.windows_missed += 1,
            _ => {}
        }
    }

    /// Takes in what a deal holds and asks now, for payments before which these blocks say nothing of it.
    pub fn know(&mut self, deal: u64, leaves: u64, price: u128) {
        let is_repriced = self.held.get(&deal).is_some_and(|held| held.price.is_some());
        for payment in self.payments.iter_mut().filter(|payment| payment.deal == deal) {
            payment.price = payment.price.or((!is_repriced).then_some(price));
            let Some(price) = payment.price.filter(|_| payment.leaves.is_none()) else { continue };
            let as_now = payment.comes_to(leaves, price).then_some(leaves);
            payment.leaves = as_now.or_else(|| payment.paid_for(price));
        }
    }

    /// The last windows proven so far, each with its part: a payment is for all since the one before.
    fn shares(&self, windows: u64, amount: U256) -> Vec<Share> {
        let count = U256::from(windows.max(1));
        let (whole, rest): (U256, u64) = (amount / count, (amount % count).saturating_to());
        let known = self.proven.len() as u64;
        let share = |at: u64| Share {
            // Counted from the last one back.
            window: (known + at).checked_sub(windows).and_then(|at| self.proven.get(at as usize)).copied(),
            amount: whole + U256::from(u64::from(at < rest)),
        };
        (0..windows).map(share).collect()
    }
}

impl Payment {
    /// Bytes that it held in each of the windows.
    pub fn bytes(&self) -> Option<u64> {
        self.leaves.map(|leaves| leaves.saturating_mul((1 << 30) / LEAVES_PER_GIB))
    }

    /// Whether so many leaves at that price come to the amount, but for the part of a wei that is carried over.
    fn comes_to(&self, leaves: u64, price: u128) -> bool {
        let due = U256::from(self.windows) * U256::from(leaves);
        let due = due.saturating_mul(U256::from(price)) / U256::from(LEAVES_PER_GIB);
        self.amount == due || self.amount == due.saturating_add(U256::from(1))
    }

    /// The leaves that come to the amount at that price, where no other number does and the escrow had it all.
    fn paid_for(&self, price: u128) -> Option<u64> {
        let (each, unit) = (U256::from(self.windows).saturating_mul(U256::from(price)), U256::from(LEAVES_PER_GIB));
        if self.is_last || each <= unit + unit {
            return None;
        }
        let paid = self.amount.saturating_mul(unit).saturating_add(unit);
        let leaves = u64::try_from(paid / each).ok()?;
        self.comes_to(leaves, price).then_some(leaves)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn happened(what: What) -> Happened {
        Happened { height: 1, tx: B256::ZERO, index: 0, what }
    }

    #[test]
    fn every_wei_of_a_payment_belongs_to_a_window() {
        let mut sum = Earnings::default();
        let paid = |windows, amount: u64| What::Paid { deal: 7, windows, amount: U256::from(amount), escrow_left: 1 };
        for what in [
            What::Proven { window: 3 },
            What::Proven { window: 4 },
            What::Missed { window: 5, in_row: 1 },
            What::Proven { window: 6 },
            // Three of them, and one from before these blocks.
            paid(4, 10),
            What::Proven { window: 7 },
            What::Proven { window: 8 },
            paid(2, 5),
            What::Claimed { tab: B256::repeat_byte(1), leaf: 2, ticks: 3, amount: U256::from(40) },
        ] {
            sum.add(&happened(what));
        }
        let windows = |payment: &Payment| payment.each.iter().map(|share| share.window).collect::<Vec<_>>();
        assert_eq!(windows(&sum.payments[0]), [None, Some(3), Some(4), Some(6)]);
        assert_eq!(windows(&sum.payments[1]), [Some(7), Some(8)]);
        for payment in &sum.payments {
            assert_eq!(payment.each.iter().map(|share| share.amount).sum::<U256>(), payment.amount);
        }
        assert_eq!(sum.payments[0].each[0].amount - sum.payments[0].each[3].amount, U256::from(1));
        assert_eq!((sum.paid, sum.windows_proven, sum.windows_missed), (U256::from(55), 5, 1));
        let read = &sum.reads[0];
        assert_eq!((sum.read, read.amount, read.leaf, read.ticks), (U256::from(40), U256::from(40), 2, 3));
    }

    #[test]
    fn a_payment_says_what_the_deal_held_when_it_was_earned() {
        let price = 3 * u128::from(LEAVES_PER_GIB) / 2;
        let paid = |deal, windows: u64, leaves: u64, carried: u64| What::Paid {
            deal,
            windows,
            amount: U256::from(windows * leaves * 3 / 2 + carried),
            escrow_left: 1,
        };
        let posted = |deal, leaves| What::Posted { deal, sequence: 1, leaves };
        let tell = |what: &[What]| {
            let mut sum = Earnings::default();
            what.iter().for_each(|what| sum.add(&happened(what.clone())));
            sum
        };
        let held = |sum: &Earnings| sum.payments.iter().map(|payment| payment.leaves).collect::<Vec<_>>();
        // Deal 7 is older than these blocks, and paid at each post for what it held before it.
        let mut sum = tell(&[
            paid(7, 2, 1000, 0),
            posted(7, 5000),
            paid(7, 4, 5000, 1),
            posted(7, 10),
            What::Opened { deal: 8, bucket: B256::ZERO, owner: Default::default(), capacity_bytes: 1 << 30, price },
            posted(8, 64),
            paid(8, 1, 64, 0),
        ]);
        assert_eq!(held(&sum), [None, Some(5000), Some(64)]);
        sum.know(7, 10, price);
        sum.know(8, 64, price);
        assert_eq!(held(&sum), [Some(1000), Some(5000), Some(64)]);
        assert_eq!(sum.payments[0].bytes(), Some(1000 << 10));
        assert!(sum.payments.iter().all(|payment| payment.price == Some(price)));
        // Nothing was posted since: what it holds now is what it held.
        let mut sum = tell(&[paid(7, 1, 77, 1)]);
        sum.know(7, 77, price);
        assert_eq!(held(&sum), [Some(77)]);
        // Where the price changed in these blocks, what was asked before is not known, nor for how much.
        let mut sum = tell(&[paid(7, 1, 77, 0), What::Resized { deal: 7, capacity_bytes: 1 << 20, price: 2 * price }]);
        sum.know(7, 77, 2 * price);
        assert_eq!((held(&sum), sum.payments[0].price), (vec![None], None));
        // An escrow that ran out says nothing of the size.
        let last = What::Paid { deal: 7, windows: 4, amount: U256::from(50), escrow_left: 0 };
        let mut sum = tell(&[last]);
        sum.know(7, 77, price);
        assert_eq!((held(&sum), sum.payments[0].is_last), (vec![None], true));
    }
}
