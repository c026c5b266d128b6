//! Live like a real node: send coins to a neighbour and anchor leaves.

use alloy_primitives::{Address, U256};
use alloy_sol_types::SolCall as _;
use commonware_runtime::{Clock as _, deterministic};
use futures::future::BoxFuture;
use hodei_ledger::{
    account::{Account, Order},
    read::Reader,
};
use hodei_types::{
    abi::{ANCHORS, IAnchors},
    chain::Chain,
};
use std::{sync::Arc, time::Duration};

use crate::chain::Life;

/// Every node sends one transaction an interval, from an account of its own: a transfer, then an anchor.
#[derive(Clone, Copy)]
pub struct Transfers {
    pub interval: Duration,
}

/// The secret of a node's account.
pub fn secret(index: usize) -> [u8; 32] {
    [index as u8 + 1; 32]
}

/// Coins for the accounts that `nodes` send from.
pub fn allocations(nodes: usize) -> Vec<(Address, U256)> {
    // 10^24 wei pay for more gas than any run burns.
    (0..nodes).map(|index| (address(index), U256::from(10).pow(U256::from(24)))).collect()
}

/// A node's account.
pub fn address(index: usize) -> Address {
    hodei_ledger::account::address_of(&secret(index)).expect("small numbers are secrets")
}

impl Life for Transfers {
    fn live(&self, context: deterministic::Context, index: usize, reader: Reader) -> BoxFuture<'static, ()> {
        let interval = self.interval;
        Box::pin(async move {
            let chain: Arc<dyn Chain> = Arc::new(reader);
            let account = Account::new(chain, &secret(index)).expect("small numbers are secrets");
            for number in 0u64.. {
                context.sleep(interval).await;
                let order = if number % 2 == 0 {
                    Order::transfer(Address::with_last_byte(index as u8 + 0x40), U256::from(1))
                } else {
                    let leaf = [index as u8; 32].into();
                    Order::call(ANCHORS, IAnchors::anchorCall { leaf }.abi_encode(), 200_000)
                };
                // Refusals while nothing is readable yet, or the pool is behind, are part of life.
                let _ = account.submit(&order).await;
            }
        })
    }
}
