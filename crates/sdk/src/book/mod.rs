//! Read the one book: what storage, reads, compute and bandwidth are offered for, where, and by whom.
//!
//! Storage and reads stand in the offers of providers, compute and bandwidth in those of hosts and in what is lent of held
//! leases. Prices are brought to one unit each,
//! by a month of thirty days where something is paid by time.

mod ask;
mod depth;
mod pledge;
mod quote;
mod trade;

pub use ask::Ask;
pub use depth::{Book, Largest, Line, STEPS_MAX, Stands, Step};
pub use pledge::{Pledge, pledges};
pub use quote::{Quote, Taken};
pub use trade::{Trade, What, trades};

use crate::{
    escrow::Calendar,
    market::{self, Offer},
};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use hodei_types::{
    abi::{DEALS, IDeals, IMarket, IRelays, MARKET, PAGE_MAX, RELAYS},
    call::ask,
    chain::{Chain, ChainError},
    market::{Index, REGIONS, Runtime},
};
use std::collections::BTreeMap;

/// Seconds of a month.
const MONTH_SECS: u64 = 30 * 86_400;
/// Questions asked at once.
const AT_ONCE: usize = 16;

/// What is bought as one thing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Class {
    Storage,
    Reads,
    Compute,
    /// Of a host, beside what it computes.
    Bandwidth,
}

impl Class {
    pub const ALL: [Self; 4] = [Self::Storage, Self::Reads, Self::Compute, Self::Bandwidth];

    pub fn name(self) -> &'static str {
        match self {
            Self::Storage => "storage",
            Self::Reads => "reads",
            Self::Compute => "compute",
            Self::Bandwidth => "bandwidth",
        }
    }
}

/// What has a price of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Ware {
    /// A GiB on one provider for a month; its amount is bytes free.
    Storage,
    /// A GiB read; its amount is bytes that may be kept, and so read, there.
    Reads,
    /// A CPU for an hour; its amount is thousandths of a CPU free.
    Cpu,
    /// A GiB of memory for an hour; its amount is bytes free.
    Memory,
    /// A Mbit/s for an hour; its amount is bits a second free.
    Line,
    /// A GiB moved, in or out; its amount is bytes an hour free.
    Transfer,
}

impl Ware {
    pub const ALL: [Self; 6] = [Self::Storage, Self::Reads, Self::Cpu, Self::Memory, Self::Line, Self::Transfer];

    pub fn name(self) -> &'static str {
        match self {
            Self::Storage => "storage",
            Self::Reads => "reads",
            Self::Cpu => "cpu",
            Self::Memory => "memory",
            Self::Line => "bandwidth",
            Self::Transfer => "transfer",
        }
    }

    /// What the price is for.
    pub fn unit(self) -> &'static str {
        match self {
            Self::Storage => "GiB and month",
            Self::Reads => "GiB read",
            Self::Cpu => "vCPU and hour",
            Self::Memory => "GiB and hour",
            Self::Line => "Mbit/s and hour",
            Self::Transfer => "GiB moved",
        }
    }

    pub fn class(self) -> Class {
        match self {
            Self::Storage => Class::Storage,
            Self::Reads => Class::Reads,
            Self::Cpu | Self::Memory => Class::Compute,
            Self::Line | Self::Transfer => Class::Bandwidth,
        }
    }
}

/// Windows of a month, begun ones counted; at least one.
pub fn month_windows(window_secs: u64) -> u64 {
    MONTH_SECS.div_ceil(window_secs.max(1))
}

/// Seconds of a storage window on this network.
pub async fn window_secs(chain: &dyn Chain) -> Result<u64, ChainError> {
    let running = ask(chain, DEALS, &IDeals::windowCall {}).await?;
    Ok(Calendar::of(chain.head().await?.time_ms, &running).window_secs())
}

/// All that is offered now, of these classes, or of all where none is named; of at most 4,096 providers and as many
/// hosts.
pub async fn asks(chain: &dyn Chain, class: Option<Class>) -> Result<Vec<Ask>, ChainError> {
    let mut found = Vec::new();
    if class.is_none_or(|class| matches!(class, Class::Storage | Class::Reads)) {
        let window_secs = window_secs(chain).await?;
        let offers: Vec<Offer> = market::offers(chain).await?;
        found.extend(offers.iter().flat_map(|offer| Ask::of_offer(offer, window_secs)));
    }
    if class.is_none_or(|class| matches!(class, Class::Compute | Class::Bandwidth)) {
        let hosts: Vec<IMarket::Host> =
            market::listed(
                |first| async move { ask(chain, MARKET, &IMarket::pageCall { first, most: PAGE_MAX }).await },
            )
            .await?;
        found.extend(hosts.iter().flat_map(Ask::of_host));
        let lent: Vec<IMarket::Held> =
            market::listed(
                |first| async move { ask(chain, MARKET, &IMarket::lentCall { first, most: PAGE_MAX }).await },
            )
            .await?;
        let by_node: BTreeMap<_, _> = hosts.iter().map(|host| (host.node, host)).collect();
        found.extend(lent.iter().filter_map(|held| Some(Ask::of_held(held, by_node.get(&held.node)?))).flatten());
    }
    if class.is_none_or(|class| class == Class::Bandwidth) {
        let window_secs = window_secs(chain).await?;
        let relays = relays(chain).await?;
        found.extend(relays.iter().filter_map(|relay| Ask::of_relay(relay, window_secs)));
    }
    found.retain(|ask| class.is_none_or(|class| ask.ware.class() == class));
    Ok(found)
}

/// Every relay of the list.
async fn relays(chain: &dyn Chain) -> Result<Vec<IRelays::Relay>, ChainError> {
    market::listed(|first| async move { ask(chain, RELAYS, &IRelays::pageCall { first, most: PAGE_MAX }).await }).await
}

/// What a MiB costs in the pool now, and what that was made of.
pub async fn epoch(chain: &dyn Chain) -> Result<IRelays::Epoch, ChainError> {
    ask(chain, RELAYS, &IRelays::epochCall {}).await
}

/// What leases of compute were paid, by region and runtime, where any were.
pub async fn indices(chain: &dyn Chain) -> Result<Vec<(&'static str, Runtime, Index)>, ChainError> {
    let keys = (0..).zip(REGIONS).flat_map(|(place, name)| Runtime::ALL.map(|runtime| (place, name, runtime)));
    let questions = keys.map(|(region, name, runtime)| async move {
        let index = ask(chain, MARKET, &IMarket::indexCall { region, runtime: runtime as u8 }).await?;
        Ok::<_, ChainError>((name, runtime, index))
    });
    let found: Vec<_> = stream::iter(questions.collect::<Vec<_>>()).buffered(AT_ONCE).try_collect().await?;
    Ok(found.into_iter().filter(|(.., index)| index.accounts > 0).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_month_is_paid_in_whole_windows() {
        assert_eq!([86_400, 10, 7, 0].map(month_windows), [30, 259_200, 370_286, MONTH_SECS]);
        assert_eq!(month_windows(u64::MAX), 1);
    }
}
