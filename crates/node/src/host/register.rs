//! State on the ledger what this host offers, keep it current, and leave in order.

use super::{
    calls::{Vouchers, last_claim},
    promise,
    settle::{CLAIM_GAS, claim_of},
};
use crate::{
    config::{Compute, Place},
    provider::register::{lacks, network},
};
use alloy_primitives::{B256, U256};
use alloy_sol_types::SolCall;
use hodei_ledger::account::{Account, AccountError, Order};
use hodei_types::{
    abi::{ILeases, IMarket, LEASES, MARKET, PAGE_MAX, operator_consent, pack_reach},
    ack::Signer,
    call::{ask, revert},
    chain::{Chain, ChainError},
    market::{Offer, Runtime},
    transport::Reach,
};
use std::collections::BTreeSet;

/// A record of two dozen slots and its place in the book, written once.
const REGISTER_GAS: u64 = 5_000_000;
/// Ending a lease settles it: a dozen slots and three transfers.
const LEASE_GAS: u64 = 1_000_000;
/// Leases ended by one transaction.
const ENDED_MAX: usize = 16;

/// Why the ledger's record is not what the configuration wants.
#[derive(Debug, thiserror::Error)]
pub enum RegisterError {
    #[error(transparent)]
    Chain(#[from] ChainError),
    #[error(transparent)]
    Account(#[from] AccountError),
    #[error("this host is registered by {registered}, but keys/account.key is {ours}")]
    Operator { registered: String, ours: String },
    #[error(
        "account {account} holds {found} wei, registering takes {needed}: send coins to it, or lower compute.collateral"
    )]
    Poor { account: String, found: U256, needed: U256 },
    #[error(
        "account {account} holds {found} wei, the bond of compute.level takes {needed}: send coins to it, or lower its bond"
    )]
    Bondless { account: String, found: U256, needed: U256 },
    #[error("a price of [compute] is too high for the ledger: lower it")]
    Price,
    #[error(
        "{key} of [compute] cannot be changed while the host has leases: put it back, or drain the node and begin anew"
    )]
    Fixed { key: &'static str },
    #[error("{0} is not registered as a host")]
    Unknown(B256),
}

/// The ledger's record of this host, or `None`.
pub async fn record(chain: &dyn Chain, node: B256) -> Result<Option<IMarket::Host>, ChainError> {
    match ask(chain, MARKET, &IMarket::getCall { node }).await {
        Ok(record) => Ok(Some(record)),
        Err(error) => match revert(&error) {
            Some(IMarket::IMarketErrors::UnknownHost(_)) => Ok(None),
            _ => Err(error),
        },
    }
}

/// What the configuration offers where it is reached; `None` where a price is none on the ledger.
pub fn offer(config: &Compute, reach: &Reach) -> Option<Offer> {
    let declared = if config.network.is_empty() { network(reach, &config.zone) } else { config.network.clone() };
    let country: [u8; 2] = config.country.as_bytes().try_into().ok()?;
    Some(Offer {
        capacity: config.capacity(),
        prices: config.prices()?,
        curve: config.tiers(),
        preemptibleBp: u16::from(config.preemptible_percent) * 100,
        region: hodei_types::market::region(&config.region)?,
        country: country.into(),
        runtime: Runtime::from(config.runtime) as u8,
        tier: match config.tier {
            Place::Home => 0,
            Place::Office => 1,
            Place::Datacentre => 2,
        },
        attestation: 0,
        renewable: config.renewable_percent,
        network: declared,
        zone: config.zone.clone(),
        hardware: config.hardware.clone(),
        addresses: pack_reach(reach),
    })
}

/// Registers this host if it is not, updates its offer if it differs. The record as it was, where nothing was to be done.
pub async fn ensure(
    account: &Account,
    signer: &Signer,
    config: &Compute,
    reach: &Reach,
) -> Result<Option<IMarket::Host>, RegisterError> {
    let offer = offer(config, reach).ok_or(RegisterError::Price)?;
    let node = B256::from(signer.node().0);
    let chain = &**account.chain();
    let order = match record(chain, node).await? {
        Some(record) if record.operator != account.address() => {
            let (registered, ours) = (record.operator.to_string(), account.address().to_string());
            return Err(RegisterError::Operator { registered, ours });
        }
        Some(record) if record.offer == offer => return Ok(Some(record)),
        Some(record) => {
            if let Some(key) = fixed(&record, &offer) {
                return Err(RegisterError::Fixed { key });
            }
            Order::call(MARKET, IMarket::updateCall { node, offer }.abi_encode(), REGISTER_GAS)
        }
        None => {
            let head = chain.head().await?;
            let collateral = U256::from(config.collateral.0);
            if let Some((found, needed)) = lacks(account, &head, collateral, REGISTER_GAS).await? {
                return Err(RegisterError::Poor { account: account.address().to_string(), found, needed });
            }
            let possession = signer.sign(&operator_consent(head.chain_id, account.address(), node)).to_vec().into();
            let call = IMarket::registerCall { node, offer, possession };
            Order::call(MARKET, call.abi_encode(), REGISTER_GAS).with_value(collateral)
        }
    };
    account.execute(&order).await?;
    Ok(None)
}

/// What leases were made by, and stays while there are some.
fn fixed(record: &IMarket::Host, offer: &Offer) -> Option<&'static str> {
    let was = &record.offer;
    let same = [
        ("runtime", was.runtime == offer.runtime),
        ("region", was.region == offer.region),
        ("country", was.country == offer.country),
        ("tier", was.tier == offer.tier),
        ("network", was.network == offer.network),
        ("zone", was.zone == offer.zone),
    ];
    let changed = same.into_iter().find(|(_, is_same)| !is_same).map(|(key, _)| key);
    changed.filter(|_| record.leases > 0)
}

/// Ids of the running leases on a host, at most so many.
pub(super) async fn leases_of(chain: &dyn Chain, node: B256, most: usize) -> Result<Vec<u64>, ChainError> {
    let mut ids = Vec::new();
    while ids.len() < most {
        let call = ILeases::ofHostCall { node, first: ids.len() as u64, most: PAGE_MAX };
        let page = ask(chain, LEASES, &call).await?;
        let last = (page.len() as u64) < PAGE_MAX;
        ids.extend(page);
        if last {
            break;
        }
    }
    Ok(ids)
}

/// What is left to do until a draining host may be switched off.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Draining {
    /// Leases that run still; their owners' replicas stay until they end.
    pub open: Vec<u64>,
    /// Leases ended by this call, at no loss.
    pub ended: Vec<u64>,
    /// Of these, those whose calls were paid before.
    pub claimed: Vec<u64>,
    /// From then on the rest may be ended without loss, in milliseconds by the ledger's time.
    pub quits_free_ms: u64,
    /// The collateral came back, and the ledger forgot the host.
    pub withdrawn: bool,
}

/// Retires this host: no new leases; ends those that cost nothing to end, once what was signed for their calls is claimed,
/// and takes the collateral back once none is left. Call again until then.
pub async fn drain(account: &Account, node: B256, vouchers: &Vouchers) -> Result<Draining, RegisterError> {
    let chain = &**account.chain();
    let mut host = record(chain, node).await?.ok_or(RegisterError::Unknown(node))?;
    if !host.retired {
        let call = IMarket::retireCall { node }.abi_encode();
        account.execute(&Order::call(MARKET, call, REGISTER_GAS)).await?;
        host = record(chain, node).await?.ok_or(RegisterError::Unknown(node))?;
    }
    let mut draining = Draining { quits_free_ms: host.quitsFreeMs, ..Draining::default() };
    let is_free = chain.head().await?.time_ms >= host.quitsFreeMs;
    let ids = leases_of(chain, node, usize::MAX).await?;
    let mut leases = Vec::new();
    for batch in ids.chunks(PAGE_MAX as usize) {
        leases.extend(ask(chain, LEASES, &ILeases::manyCall { leases: batch.to_vec() }).await?);
    }
    // What stands in a held lease ends before it, and is preemptible to its holder alone.
    leases.sort_by_key(|lease| lease.via == 0);
    let mut stood_in = BTreeSet::new();
    for lease in &leases {
        let is_over = is_free || (lease.preemptible && lease.via == 0) || lease.left <= lease.owed;
        if is_over && !stood_in.contains(&lease.id) {
            draining.ended.push(lease.id);
        } else {
            stood_in.insert(lease.via);
            draining.open.push(lease.id);
        }
    }
    // Once they ended no voucher of theirs is worth anything.
    let fee = U256::from(CLAIM_GAS) * U256::from(chain.head().await?.base_fee);
    for lease in leases.iter().filter(|lease| draining.ended.contains(&lease.id)) {
        let Some(voucher) = last_claim(lease, vouchers.load(lease.id), fee) else { continue };
        match account.execute(&claim_of(lease.id, &voucher)).await {
            Ok(_) => draining.claimed.push(lease.id),
            // The ledger pays nothing for it any more: who signed it may not, or it was claimed meanwhile.
            Err(AccountError::Reverted(_)) => {}
            Err(error) => return Err(error.into()),
        }
    }
    for batch in draining.ended.chunks(ENDED_MAX) {
        let call = ILeases::quitCall { leases: batch.to_vec() };
        let gas = LEASE_GAS * (batch.len() as u64 + 1);
        account.execute(&Order::call(LEASES, call.abi_encode(), gas)).await?;
    }
    if draining.open.is_empty() {
        let call = IMarket::withdrawCall { node }.abi_encode();
        account.execute(&Order::call(MARKET, call, REGISTER_GAS)).await?;
        promise::release(account, node).await?;
        draining.withdrawn = true;
    }
    Ok(draining)
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloy_sol_types::SolValue;

    #[test]
    fn what_is_configured_is_an_offer_that_the_ledger_takes() {
        let reach = Reach { addresses: vec!["203.0.113.9:4433".parse().unwrap()], relays: Vec::new() };
        let stated = offer(&Compute::default(), &reach).unwrap();
        stated.check().unwrap();
        assert_eq!((stated.network.as_str(), stated.runtime), ("203.0.113.0/24", 0));
        let declared = Compute { network: "as64500".into(), ..Compute::default() };
        assert_eq!(offer(&declared, &reach).unwrap().network, "as64500");
    }

    #[test]
    fn where_a_host_stands_stays_while_it_has_leases() {
        let reach = Reach { addresses: vec!["127.0.0.1:1".parse().unwrap()], relays: Vec::new() };
        let stated = offer(&Compute::default(), &reach).unwrap();
        let record = |leases| {
            let zeros = [&[0; 31][..], &[32], &[0; 32 * 96]].concat();
            let host = IMarket::Host::abi_decode(&zeros).expect("all of its fields may be zero");
            IMarket::Host { offer: stated.clone(), leases, ..host }
        };
        let moved = Compute { zone: "cellar".into(), network: "home".into(), ..Compute::default() };
        let moved = offer(&moved, &reach).unwrap();
        assert_eq!(fixed(&record(1), &moved), Some("zone"));
        assert_eq!(fixed(&record(0), &moved), None);
        assert_eq!(fixed(&record(1), &stated), None);
    }
}
