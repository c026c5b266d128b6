//! List what hosts of compute promise with a bond.

use crate::market::{is_of, listed};
use alloy_primitives::{Address, U256};
use hodei_types::{
    abi::{
        ILevels,
        IMarket::{self, Host},
        LEVELS, MARKET, PAGE_MAX,
    },
    call::ask,
    chain::{Chain, ChainError},
    market::{Level, REGIONS},
    transport::NodeKey,
};

/// What one host promises to orders that ask for availability.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pledge {
    pub node: NodeKey,
    pub operator: Address,
    pub region: &'static str,
    pub level: Level,
    /// Wei that answer for it, and what of them leases bind.
    pub bond: U256,
    pub bound: U256,
}

/// What hosts promise that take new leases, of a region or of all; of at most 4,096 hosts.
pub async fn pledges(chain: &dyn Chain, region: Option<&str>) -> Result<Vec<Pledge>, ChainError> {
    let mut hosts: Vec<Host> =
        listed(|first| async move { ask(chain, MARKET, &IMarket::pageCall { first, most: PAGE_MAX }).await }).await?;
    let place = |host: &Host| REGIONS.get(usize::from(host.offer.region)).copied().unwrap_or("unknown");
    hosts.retain(|host| !host.retired && region.is_none_or(|region| is_of(place(host), region)));
    let mut pledges = Vec::new();
    for batch in hosts.chunks(PAGE_MAX as usize) {
        let nodes = batch.iter().map(|host| host.node).collect();
        let promises = ask(chain, LEVELS, &ILevels::levelsCall { nodes }).await?;
        let made = batch.iter().zip(promises).filter(|(_, promise)| promise.level != Level::default());
        pledges.extend(made.map(|(host, promise)| Pledge {
            node: NodeKey(host.node.0),
            operator: host.operator,
            region: place(host),
            level: promise.level,
            bond: promise.bond,
            bound: promise.bound,
        }));
    }
    Ok(pledges)
}
