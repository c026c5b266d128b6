//! Follow the ledger's events about this provider.
//!
//! Upon each finalized head: read the logs of `deals` and `providers` since the last one, refresh the deals they name,
//! report what concerns this provider. The height reached is kept on disk, so that what happened while the
//! node was away is reported when it returns; after a crash the last range may be reported twice.

use super::deals::Deals;
use alloy_primitives::{Address, B256, U256};
use alloy_sol_types::{SolEvent as _, SolEventInterface};
use futures::future::try_join;
use hodei_types::{
    abi::{DEALS, IDeals::IDealsEvents, IProviders::IProvidersEvents, ITabs, PROVIDERS, TABS},
    chain::{Chain, ChainError, Log, LogFilter},
};
use std::sync::Arc;

/// Blocks asked for at once; the door allows 100,000 blocks but only 10,000 logs.
pub(crate) const RANGE_MAX: u64 = 2_000;

/// Something the ledger did to this provider.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Happened {
    pub height: u64,
    pub tx: B256,
    /// Index of the log within its block.
    pub index: u32,
    pub what: What,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    Opened {
        deal: u64,
        bucket: B256,
        owner: Address,
        capacity_bytes: u64,
        /// Wei per GiB and window.
        price: u128,
    },
    /// It takes so many bytes from now on, all of them at this price.
    Resized {
        deal: u64,
        capacity_bytes: u64,
        price: u128,
    },
    /// What the deal held may be forgotten.
    Ended {
        deal: u64,
        bucket: B256,
    },
    Closing {
        deal: u64,
    },
    Posted {
        deal: u64,
        sequence: u64,
        /// What it holds from now on, each of a KiB.
        leaves: u64,
    },
    Paid {
        deal: u64,
        windows: u64,
        amount: U256,
        /// Wei that are left to be paid of.
        escrow_left: u128,
    },
    /// By a tab, for what was read.
    Claimed {
        tab: B256,
        leaf: u32,
        ticks: u32,
        amount: U256,
    },
    Proven {
        window: u64,
    },
    Missed {
        window: u64,
        in_row: u64,
    },
    Slashed {
        window: u64,
        amount: U256,
    },
    /// The ladder's end: no new deals ever.
    Closed {
        window: u64,
    },
    /// By its operator: no new deals, nothing new in the old ones.
    Retired,
    /// Registered, perhaps again: open.
    Registered,
}

/// Reads events in ranges, each once.
pub struct Follower {
    chain: Arc<dyn Chain>,
    node: B256,
    deals: Deals,
    /// All blocks up to here were reported.
    height: u64,
}

impl Follower {
    /// Follows from the block after `height`.
    pub fn new(chain: Arc<dyn Chain>, node: B256, deals: Deals, height: u64) -> Self {
        Self { chain, node, deals, height }
    }

    pub fn height(&self) -> u64 {
        self.height
    }

    /// Waits for a block beyond the last reported one, and reports the next range.
    pub async fn next(&mut self) -> Result<Vec<Happened>, ChainError> {
        let head = self.chain.wait(self.height).await?;
        let (mut happened, to) = range(&*self.chain, self.node, self.height + 1, head.height).await?;
        happened.extend(standing(&*self.chain, self.node, self.height + 1, to).await?);
        happened.sort_by_key(|event| (event.height, event.index));
        let mut touched: Vec<u64> = happened.iter().filter_map(|event| event.what.deal()).collect();
        touched.sort_unstable();
        touched.dedup();
        for deal in touched {
            self.deals.changed(deal).await?;
        }
        // Only now: an error above reads the same range again.
        self.height = to;
        Ok(happened)
    }
}

/// What happened to `node` from block `from` on; second value: the last block looked at, at most `to`.
pub(super) async fn range(
    chain: &dyn Chain,
    node: B256,
    from: u64,
    to: u64,
) -> Result<(Vec<Happened>, u64), ChainError> {
    let (happened, to) = logged(chain, Some(node), from, to).await?;
    Ok((happened.into_iter().filter(|(of, _)| *of == node).map(|(_, event)| event).collect(), to))
}

/// What happened to the deals of every provider from block `from` on, and what tabs paid, in the ledger's order; second
/// value: the last block looked at, at most `to`.
pub(crate) async fn all(chain: &dyn Chain, from: u64, to: u64) -> Result<(Vec<(B256, Happened)>, u64), ChainError> {
    logged(chain, None, from, to).await
}

/// The same; of claims only those that paid `node`, if it is named.
async fn logged(
    chain: &dyn Chain,
    node: Option<B256>,
    from: u64,
    to: u64,
) -> Result<(Vec<(B256, Happened)>, u64), ChainError> {
    let mut to = to.min(from.saturating_add(RANGE_MAX - 1));
    let (logs, claims) = loop {
        let filter = LogFilter { from, to, address: Some(DEALS), ..LogFilter::default() };
        let topic0 = Some(ITabs::Claimed::SIGNATURE_HASH);
        let claims = LogFilter { address: Some(TABS), topic0, topic2: node, ..filter.clone() };
        match try_join(chain.logs(filter), chain.logs(claims)).await {
            // A block has fewer than the door gives at once.
            Err(error) if is_too_many(&error) && to > from => to = from + (to - from) / 2,
            read => break read?,
        }
    };
    let happened = logs.iter().chain(&claims).filter_map(|log| {
        let (node, what) = if log.address == TABS { claimed(log)? } else { read(log)? };
        Some((node, Happened { height: log.height, tx: log.tx, index: log.index, what }))
    });
    let mut happened: Vec<_> = happened.collect();
    happened.sort_by_key(|(_, event)| (event.height, event.index));
    Ok((happened, to))
}

/// Whether a range has more logs than are given at once.
pub(crate) fn is_too_many(error: &ChainError) -> bool {
    matches!(error, ChainError::Refused(reason) if reason.contains("query returned more than"))
}

/// What became of its registration from block `from` to `to`.
async fn standing(chain: &dyn Chain, node: B256, from: u64, to: u64) -> Result<Vec<Happened>, ChainError> {
    let filter = LogFilter { from, to, address: Some(PROVIDERS), topic1: Some(node), ..LogFilter::default() };
    let logs = chain.logs(filter).await?;
    let what = |log: &Log| match IProvidersEvents::decode_raw_log(&log.topics, &log.data).ok()? {
        IProvidersEvents::Retired(_) => Some(What::Retired),
        IProvidersEvents::Registered(_) => Some(What::Registered),
        _ => None,
    };
    let happened = logs
        .iter()
        .filter_map(|log| Some(Happened { height: log.height, tx: log.tx, index: log.index, what: what(log)? }));
    Ok(happened.collect())
}

impl What {
    fn deal(&self) -> Option<u64> {
        match self {
            Self::Opened { deal, .. }
            | Self::Resized { deal, .. }
            | Self::Ended { deal, .. }
            | Self::Closing { deal }
            | Self::Posted { deal, .. }
            | Self::Paid { deal, .. } => Some(*deal),
            Self::Claimed { .. }
            | Self::Proven { .. }
            | Self::Missed { .. }
            | Self::Slashed { .. }
            | Self::Closed { .. }
            | Self::Retired
            | Self::Registered => None,
        }
    }
}

/// A claim paid by `tabs`: to which provider, and how much.
fn claimed(log: &Log) -> Option<(B256, What)> {
    let event = ITabs::Claimed::decode_raw_log(log.topics.iter().copied(), &log.data).ok()?;
    let ITabs::Claimed { provider, tab, leaf, ticks, amount, .. } = event;
    Some((provider, What::Claimed { tab, leaf, ticks, amount }))
}

/// A log of `deals`: which provider it is about, and what it says.
fn read(log: &Log) -> Option<(B256, What)> {
    // A log this program does not know is of a newer ledger: nothing it could act on.
    let event = IDealsEvents::decode_raw_log(&log.topics, &log.data).ok()?;
    Some(match event {
        IDealsEvents::Opened(e) => (
            e.provider,
            What::Opened {
                deal: e.deal,
                bucket: e.bucket,
                owner: e.owner,
                capacity_bytes: e.capacityBytes,
                price: e.price,
            },
        ),
        IDealsEvents::Resized(e) => {
            (e.provider, What::Resized { deal: e.deal, capacity_bytes: e.capacityBytes, price: e.price })
        }
        IDealsEvents::Ended(e) => (e.provider, What::Ended { deal: e.deal, bucket: e.bucket }),
        IDealsEvents::Closing(e) => (e.provider, What::Closing { deal: e.deal }),
        IDealsEvents::Posted(e) => (e.provider, What::Posted { deal: e.deal, sequence: e.sequence, leaves: e.leaves }),
        IDealsEvents::Paid(e) => {
            let (deal, windows, amount, escrow_left) = (e.deal, e.windows, e.amount, e.escrowLeft);
            (e.provider, What::Paid { deal, windows, amount, escrow_left })
        }
        IDealsEvents::Proven(e) => (e.provider, What::Proven { window: e.window }),
        IDealsEvents::Missed(e) => (e.provider, What::Missed { window: e.window, in_row: e.inRow }),
        IDealsEvents::Slashed(e) => (e.provider, What::Slashed { window: e.window, amount: e.amount }),
        IDealsEvents::Closed(e) => (e.provider, What::Closed { window: e.window }),
        IDealsEvents::ToppedUp(_)
        | IDealsEvents::Funded(_)
        | IDealsEvents::Withdrawn(_)
        | IDealsEvents::WageSet(_)
        | IDealsEvents::ReleaseSet(_)
        | IDealsEvents::WagePaid(_) => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloy_sol_types::SolEvent;
    use hodei_types::abi::IDeals;

    fn log(event: &impl SolEvent) -> Log {
        let data = event.encode_log_data();
        let topics = data.topics().to_vec();
        Log { address: DEALS, topics, data: data.data, height: 3, tx: B256::ZERO, index: 0 }
    }

    #[test]
    fn an_event_says_whose_it_is() {
        let node = B256::repeat_byte(1);
        let missed = IDeals::Missed { provider: node, window: 4, inRow: 2 };
        assert_eq!(read(&log(&missed)), Some((node, What::Missed { window: 4, in_row: 2 })));
        let claim = ITabs::Claimed {
            payer: Address::repeat_byte(2),
            provider: node,
            tab: B256::repeat_byte(3),
            operator: Address::ZERO,
            leaf: 4,
            index: 50,
            ticks: 6,
            amount: U256::from(7),
        };
        let told = What::Claimed { tab: B256::repeat_byte(3), leaf: 4, ticks: 6, amount: U256::from(7) };
        assert_eq!(claimed(&log(&claim)), Some((node, told)));
        assert_eq!((claimed(&log(&missed)), read(&log(&claim))), (None, None));
        let strange = Log { topics: vec![B256::repeat_byte(9)], ..log(&missed) };
        assert_eq!(read(&strange), None);
    }
}
