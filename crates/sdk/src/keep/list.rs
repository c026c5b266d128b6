//! Read the ledger's list of what finds locked versions, and take off it what is over.

use crate::{
    bucket::{BUCKET_GAS, Buckets, KEPT_GAS},
    fault::Fault,
};
use alloy_primitives::{B256, U256};
use alloy_sol_types::SolCall as _;
use hodei_types::{
    abi::{BUCKETS, IBuckets, PAGE_MAX},
    call::ask,
};

/// Times a list is read that changes meanwhile.
const ROUNDS: usize = 4;
/// Leaves taken off by one transaction.
const LAPSE_BATCH: usize = 32;

impl Buckets {
    /// Leaves of kept versions, in the order in which they were listed.
    pub(crate) async fn kept(&self, id: B256) -> Result<Vec<IBuckets::Kept>, Fault> {
        let chain = &**self.wallet.chain();
        for _ in 0..ROUNDS {
            let before = ask(chain, BUCKETS, &IBuckets::getCall { id }).await?.keeps;
            let mut kept = Vec::new();
            loop {
                let call = IBuckets::keptCall { id, first: kept.len() as u64, most: PAGE_MAX };
                let page = ask(chain, BUCKETS, &call).await?;
                let is_last = (page.len() as u64) < PAGE_MAX;
                kept.extend(page);
                if is_last {
                    break;
                }
            }
            // Taking one off moves another: a page may then lack it.
            if ask(chain, BUCKETS, &IBuckets::getCall { id }).await?.keeps == before {
                kept.sort_by_key(|one| one.number);
                return Ok(kept);
            }
        }
        Err(Fault::Contended)
    }

    /// Takes leaves off the list whose time is over; gives them.
    pub(crate) async fn lapse(&self, id: B256) -> Result<Vec<B256>, Fault> {
        let now_ms = self.wallet.chain().head().await?.time_ms;
        // A block's time is known to the second.
        let is_over = |one: &IBuckets::Kept| one.untilMs + 1000 <= now_ms;
        let over: Vec<B256> = self.kept(id).await?.iter().filter(|one| is_over(one)).map(|one| one.leaf).collect();
        for batch in over.chunks(LAPSE_BATCH) {
            let call = IBuckets::lapseCall { id, leaves: batch.to_vec() };
            let gas = BUCKET_GAS + KEPT_GAS * batch.len() as u64;
            self.run(BUCKETS, call.abi_encode(), U256::ZERO, gas).await?;
        }
        Ok(over)
    }
}
