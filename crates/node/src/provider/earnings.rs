//! Say what was earned, from the ledger's own events.
//!
//! The ledger pays a deal when something touches it: for all windows the provider proved since the last time. Its
//! events of proofs tell which those were. Tabs pay what was read, claim by claim. What a deal holds and its price never change between two payments,
//! so the windows of one payment earned the same, to the wei that does not divide.

use super::follow::{Happened, What, range};
use alloy_primitives::{B256, U256};
use hodei_types::chain::{Chain, ChainError};
use serde::Serialize;

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
            What::Paid { deal, windows, amount } => {
                self.paid += amount;
                let Happened { height, tx, .. } = *event;
                let each = self.shares(windows, amount);
                self.payments.push(Payment { height, tx, deal, windows, amount, each });
            }
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

#[cfg(test)]
mod tests {
    use super::*;

    fn happened(what: What) -> Happened {
        Happened { height: 1, tx: B256::ZERO, index: 0, what }
    }

    #[test]
    fn every_wei_of_a_payment_belongs_to_a_window() {
        let mut sum = Earnings::default();
        let paid = |windows, amount: u64| What::Paid { deal: 7, windows, amount: U256::from(amount) };
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
}
