//! Let a budget write at once what the main account wrote before.
//!
//! A term binds a bucket to one account until it ends, and only the owner's own account may take it before. So when a
//! budget is set, the main account makes each term that it holds as short as can be.

use crate::{
    bucket::{BUCKET_GAS, Buckets},
    cloud::{Cloud, Runtime},
    fault::Fault,
};
use alloy_sol_types::SolCall as _;
use hodei_ledger::account::Order;
use hodei_types::{
    abi::{BUCKETS, IBuckets},
    transport::Transport,
};

/// Blocks of the last term: the next account may claim after them.
const BLOCKS: u64 = 1;

impl Buckets {
    /// Ends the terms of the main account, which pays for it; gives how many. Without the main key there is none.
    pub async fn hand_over(&self) -> Result<usize, Fault> {
        let Some(main) = self.wallet.main() else { return Ok(0) };
        let mut ended = 0;
        for id in self.ids().await? {
            let Some(record) = self.read(id).await? else { continue };
            let height = self.wallet.chain().head().await?.height;
            if record.state.holder != main.address() || record.state.expires <= height + BLOCKS {
                continue;
            }
            let call = IBuckets::claimCall { id, blocks: BLOCKS };
            main.execute(&Order::call(BUCKETS, call.abi_encode(), BUCKET_GAS)).await?;
            ended += 1;
        }
        Ok(ended)
    }
}

impl<E: Runtime, T: Transport> Cloud<E, T> {
    /// The same, of this cloud's wallet.
    pub async fn hand_over(&self) -> Result<usize, Fault> {
        self.0.buckets.hand_over().await
    }
}
