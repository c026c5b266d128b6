//! Read from the ledger's events what leases paid a host, by the second and by the call.

use crate::provider::follow::{RANGE_MAX, is_too_many};
use alloy_primitives::{Address, B256, U256};
use alloy_sol_types::SolEventInterface;
use hodei_types::{
    abi::{ILeases, LEASES},
    chain::{Chain, ChainError, Log, LogFilter},
};

/// What a lease paid for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum For {
    /// So many seconds.
    Secs(u64),
    Calls,
    /// Telling of the loss of another's.
    Watching,
}

/// One settling of one lease, or one voucher of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Paid {
    pub height: u64,
    pub tx: B256,
    pub lease: u64,
    pub what: For,
    /// Wei that came to the operator.
    pub amount: U256,
}

/// What was paid to `operator` for leases on its host `node` in blocks `from` to `to`, in the ledger's order. What a lease
/// pays that stands in a held one is its holder's.
pub async fn paid(
    chain: &dyn Chain,
    (node, operator): (B256, Address),
    from: u64,
    to: u64,
) -> Result<Vec<Paid>, ChainError> {
    let (mut next, mut payments) = (from, Vec::new());
    while next <= to {
        let (found, last) = logs(chain, node, next, to).await?;
        payments.extend(found.iter().filter_map(|log| {
            use ILeases::ILeasesEvents::{Claimed, Settled, Watched};
            let (lease, to, what, amount) = match ILeases::ILeasesEvents::decode_raw_log(&log.topics, &log.data).ok()? {
                Settled(event) => (event.lease, event.operator, For::Secs(event.secs), event.amount),
                Claimed(event) => (event.lease, event.operator, For::Calls, event.amount),
                Watched(event) => (event.lease, event.operator, For::Watching, event.amount),
                _ => return None,
            };
            (to == operator).then_some(Paid { height: log.height, tx: log.tx, lease, what, amount })
        }));
        next = last.saturating_add(1);
    }
    Ok(payments)
}

/// Events of leases on a host from block `from` on, and the last block looked at, at most `to`.
pub(super) async fn logs(chain: &dyn Chain, node: B256, from: u64, to: u64) -> Result<(Vec<Log>, u64), ChainError> {
    let mut to = to.min(from.saturating_add(RANGE_MAX - 1));
    loop {
        // In each event about a host, the second word after the name is its key.
        let filter = LogFilter { from, to, address: Some(LEASES), topic2: Some(node), ..LogFilter::default() };
        match chain.logs(filter).await {
            Err(error) if is_too_many(&error) && to > from => to = from + (to - from) / 2,
            logs => return Ok((logs?, to)),
        }
    }
}
