//! Say what was earned, from the ledger's own events.

use super::follow::{Happened, What, range};
use alloy_primitives::{B256, U256};
use hodei_types::chain::{Chain, ChainError};
use serde::Serialize;

/// What a provider was paid and lost in a span of blocks; every wei has its transaction.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Earnings {
    pub from: u64,
    pub to: u64,
    /// Wei.
    pub paid: U256,
    /// Wei of collateral taken.
    pub slashed: U256,
    pub windows_missed: u64,
    pub payments: Vec<Payment>,
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
                self.payments.push(Payment { height, tx, deal, windows, amount });
            }
            What::Slashed { amount, .. } => self.slashed += amount,
            What::Missed { .. } => self.windows_missed += 1,
            _ => {}
        }
    }
}
