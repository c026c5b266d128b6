//! Send a wallet's calls to the ledger's modules, from the account that everyday work is paid from.
//!
//! Buckets, deals, orders and leases are all paid this way, so that a budget's cap holds for each of them.

use crate::{fault::Fault, wallet::Wallet};
use alloy_primitives::U256;
use hodei_ledger::account::{AccountError, Order, max_fee_per_gas};
use hodei_types::chain::{ChainError, Log};

/// How a mempool's refusal of an account that cannot pay begins, as every Ethereum node's does.
const UNFUNDED: &str = "insufficient funds";
/// Times an order is sent anew after another process of the account was faster at another validator.
const DISPLACED_MAX: usize = 8;

impl Wallet {
    /// Refuses what the spending account cannot pay.
    pub(crate) async fn afford(&self, needs: U256) -> Result<(), Fault> {
        let budget = self.budget().await?;
        let (has, is_budget) = (budget.left, budget.spender != budget.owner);
        if has < needs { Err(Fault::Funds { has, needs, is_budget }) } else { Ok(()) }
    }

    /// A refusal for want of coins says so as our own would: what pays cannot pay for gas and what goes with it.
    pub(crate) async fn refused(&self, error: ChainError, (gas, value): (u64, U256)) -> Fault {
        match &error {
            ChainError::Refused(reason) if reason.starts_with(UNFUNDED) => {
                let base_fee = self.chain().head().await.map_or(0, |head| head.base_fee);
                let needs = U256::from(gas) * U256::from(max_fee_per_gas(base_fee)) + value;
                self.afford(needs).await.err().unwrap_or_else(|| error.into())
            }
            _ => error.into(),
        }
    }

    /// Does it, and waits until it is final: what the ledger told of it.
    pub(crate) async fn run(&self, order: &Order) -> Result<Vec<Log>, Fault> {
        if order.value > U256::ZERO {
            self.afford(order.value).await?;
        }
        match self.attempt(order).await {
            Ok(logs) => Ok(logs),
            Err(error) => Err(self.refused(error, (order.gas_limit, order.value)).await),
        }
    }

    /// Tries it on the finalized head first where that is possible, so that a refusal costs nothing, then
    /// waits until it is final: what the ledger then told of it.
    pub(crate) async fn attempt(&self, order: &Order) -> Result<Vec<Log>, ChainError> {
        let account = self.spender();
        if let (Some(to), true) = (order.to, order.value == U256::ZERO) {
            self.chain().call(account.address(), to, order.data.clone()).await?;
        }
        for _ in 0..DISPLACED_MAX {
            return match account.execute(order).await {
                Ok(receipt) => Ok(receipt.logs),
                Err(AccountError::Reverted(receipt)) => Err(ChainError::Reverted(receipt.output)),
                Err(AccountError::Chain(error)) => Err(error),
                Err(pending @ AccountError::Pending { .. }) => Err(ChainError::Unavailable(pending.to_string())),
                Err(AccountError::Secret) => Err(ChainError::Refused("the account's secret is no key".into())),
                // Done twice, what moves no coin is refused or changes nothing the second time.
                Err(AccountError::Displaced(_)) if order.value.is_zero() => continue,
                Err(displaced) => Err(ChainError::Refused(displaced.to_string())),
            };
        }
        Err(ChainError::Unavailable("other processes of this account are faster each time".into()))
    }
}
