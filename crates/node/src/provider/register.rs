//! State on the ledger what this provider offers, keep it current, and leave in order.

use crate::config::{Class, Provider};
use alloy_primitives::{B256, U256};
use alloy_sol_types::SolCall;
use hodei_ledger::account::{Account, AccountError, Order};
use hodei_types::{
    abi::{DEALS, IDeals, IProviders, LEAF_BYTES, PAGE_MAX, PROVIDERS, operator_consent, pack_reach},
    ack::Signer,
    call::{ask, revert},
    chain::{ChainError, Head},
    transport::Reach,
};
use std::net::{IpAddr, SocketAddr};

/// A record of a dozen slots, written once.
const REGISTER_GAS: u64 = 3_000_000;
/// Ending a deal settles it: a dozen slots and two transfers each.
const CLOSE_GAS: u64 = 5_000_000;

/// Why the ledger's record is not what the configuration wants.
#[derive(Debug, thiserror::Error)]
pub enum RegisterError {
    #[error(transparent)]
    Chain(#[from] ChainError),
    #[error(transparent)]
    Account(#[from] AccountError),
    #[error("this node is registered by {registered}, but keys/account.key is {ours}")]
    Operator { registered: String, ours: String },
    #[error("account {account} holds {found} wei, registering takes at least {needed}: send coins to it")]
    Poor { account: String, found: U256, needed: U256 },
    #[error("no relay of {0} answers: this node is not offered to anybody before one does")]
    Relay(String),
    #[error("{0} is not registered as a provider")]
    Unknown(B256),
}

/// The ledger's record of this provider, or `None`.
pub async fn record(account: &Account, node: B256) -> Result<Option<IProviders::Provider>, ChainError> {
    match ask(&**account.chain(), PROVIDERS, &IProviders::getCall { node }).await {
        Ok(record) => Ok(Some(record)),
        Err(error) => match revert(&error) {
            Some(IProviders::IProvidersErrors::UnknownProvider(_)) => Ok(None),
            _ => Err(error),
        },
    }
}

/// What the configuration offers where it is reached.
pub fn offer(config: &Provider, reach: &Reach) -> IProviders::Offer {
    IProviders::Offer {
        zone: config.zone.clone(),
        network: network(reach, &config.zone),
        addresses: pack_reach(reach),
        capacityBytes: config.pledge_bytes,
        priceStore: config.price_keep.0,
        priceRead: config.price_read.0,
        class: class(config.class),
    }
}

/// The ledger's number of a class of machines.
pub fn class(class: Class) -> u8 {
    match class {
        Class::Home => 0,
        Class::Datacentre => 1,
        Class::Phone => 2,
    }
}

/// What goes with a node's first record.
pub(crate) struct First {
    pub(crate) collateral: U256,
    /// Wei the account must have besides, and keeps.
    pub(crate) reserve: U256,
    /// The node's own word that this operator may register it.
    pub(crate) possession: Vec<u8>,
}

/// The call that makes the ledger's record of a node say `offer`; `None` where what is `known` of it says so already.
pub(crate) async fn order(
    account: &Account,
    node: B256,
    offer: IProviders::Offer,
    known: Option<&IProviders::Provider>,
    first: First,
) -> Result<Option<Order>, RegisterError> {
    match known {
        Some(record) if record.offer == offer => Ok(None),
        Some(_) => {
            let call = IProviders::updateCall { node, offer };
            Ok(Some(Order::call(PROVIDERS, call.abi_encode(), REGISTER_GAS)))
        }
        None => {
            let head = account.chain().head().await?;
            if let Some((found, needed)) = lacks(account, &head, first.collateral + first.reserve, REGISTER_GAS).await?
            {
                return Err(RegisterError::Poor { account: account.address().to_string(), found, needed });
            }
            let call = IProviders::registerCall { node, offer, possession: first.possession.into() };
            Ok(Some(Order::call(PROVIDERS, call.abi_encode(), REGISTER_GAS).with_value(first.collateral)))
        }
    }
}

/// What an account holds and needs, in wei, where it holds less than `value` and, at twice the base fee, so much gas.
pub(crate) async fn lacks(
    account: &Account,
    head: &Head,
    value: U256,
    gas: u64,
) -> Result<Option<(U256, U256)>, ChainError> {
    let needed = value + U256::from(gas) * U256::from(u128::from(head.base_fee) * 2);
    let found = account.chain().account(account.address()).await?.balance;
    Ok((found < needed).then_some((found, needed)))
}

/// Registers this node if it is not, updates its offer if it differs. True if it had to do something.
pub async fn ensure(
    account: &Account,
    signer: &Signer,
    config: &Provider,
    reach: &Reach,
) -> Result<bool, RegisterError> {
    let offer = offer(config, reach);
    let node = B256::from(signer.node().0);
    let known = record(account, node).await?;
    let possession = match &known {
        Some(record) if record.operator != account.address() => {
            return Err(RegisterError::Operator {
                registered: record.operator.to_string(),
                ours: account.address().to_string(),
            });
        }
        Some(_) => Vec::new(),
        None => {
            let chain_id = account.chain().head().await?.chain_id;
            signer.sign(&operator_consent(chain_id, account.address(), node)).to_vec()
        }
    };
    let first = First { collateral: U256::from(config.collateral.0), reserve: U256::ZERO, possession };
    let Some(order) = order(account, node, offer, known.as_ref(), first).await? else { return Ok(false) };
    account.execute(&order).await?;
    Ok(true)
}

/// What is left to do until a draining provider may be switched off.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Draining {
    /// Deals whose owners have not moved yet; they may read until they end.
    pub open: Vec<u64>,
    /// Deals ended by this call, their escrow being used up.
    pub ended: Vec<u64>,
    /// Of each that is open, what it holds and is paid for.
    pub waiting: Vec<Waiting>,
}

/// A deal that keeps a draining provider.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Waiting {
    pub deal: u64,
    pub bucket: B256,
    pub held_bytes: u64,
    /// Wei of its escrow that are not earned yet, and windows they pay for at what it holds.
    pub escrow_wei: U256,
    pub windows: u64,
    /// It ends by itself once the proof that is asked for is given, or its window is over.
    pub is_closing: bool,
}

/// `IDeals::Deal::state` of one that is open, and of one that ended.
const OPEN: u8 = 1;
const ENDED: u8 = 3;

fn waiting(deal: &IDeals::Deal) -> Waiting {
    let left = U256::from(deal.escrow).saturating_sub(deal.owed);
    let held_bytes = deal.leaves.saturating_mul(LEAF_BYTES);
    let window = U256::from(deal.price) * U256::from(held_bytes);
    let windows = (left << 30usize).checked_div(window).unwrap_or_default();
    Waiting {
        deal: deal.id,
        bucket: deal.bucket,
        held_bytes,
        escrow_wei: left,
        windows: windows.saturating_to(),
        is_closing: deal.state != OPEN,
    }
}

/// Retires this provider: no new deals; ends the deals it may end. Call again until none is open, then
/// [`leave`].
pub async fn drain(account: &Account, node: B256) -> Result<Draining, RegisterError> {
    let record = record(account, node).await?.ok_or(RegisterError::Unknown(node))?;
    if !record.retired {
        let call = IProviders::retireCall { node }.abi_encode();
        account.execute(&Order::call(PROVIDERS, call, REGISTER_GAS)).await?;
    }
    let mut draining = Draining::default();
    let mut ids = Vec::new();
    loop {
        let call = IDeals::ofProviderCall { provider: node, first: ids.len() as u64, most: PAGE_MAX };
        let page = ask(&**account.chain(), DEALS, &call).await?;
        let last = (page.len() as u64) < PAGE_MAX;
        ids.extend(page);
        if last {
            break;
        }
    }
    let deal = async |id| ask(&**account.chain(), DEALS, &IDeals::getCall { deal: id }).await;
    for id in ids {
        let mut now = deal(id).await?;
        let may_end = now.state == OPEN && U256::from(now.escrow) <= now.owed;
        if may_end {
            let call = IDeals::closeCall { deals: vec![id] }.abi_encode();
            match account.execute(&Order::call(DEALS, call, CLOSE_GAS)).await {
                // Or the owner topped it up meanwhile: it stays for the next call.
                Ok(_) | Err(AccountError::Reverted(_)) => {}
                Err(error) => return Err(error.into()),
            }
            // While a proof is owed it is only closing, and asked for that proof.
            now = deal(id).await?;
        }
        if now.state == ENDED {
            draining.ended.push(id);
        } else {
            draining.open.push(id);
            draining.waiting.push(waiting(&now));
        }
    }
    Ok(draining)
}

/// Takes the collateral back and forgets the node; only once it is retired and without deals.
pub async fn leave(account: &Account, node: B256) -> Result<(), RegisterError> {
    let call = IProviders::withdrawCall { node }.abi_encode();
    account.execute(&Order::call(PROVIDERS, call, REGISTER_GAS)).await?;
    Ok(())
}

/// The network shards are spread over: /24 or /48 of a public address, or of the relay, without which nobody
/// reaches it; else the zone, as declared.
pub(crate) fn network(reach: &Reach, zone: &str) -> String {
    let public = reach.addresses.iter().chain(&reach.relays).map(SocketAddr::ip).find(|ip| match ip {
        IpAddr::V4(ip) => !(ip.is_loopback() || ip.is_private() || ip.is_link_local() || ip.is_unspecified()),
        IpAddr::V6(ip) => {
            !(ip.is_loopback() || ip.is_unique_local() || ip.is_unicast_link_local() || ip.is_unspecified())
        }
    });
    match public {
        Some(IpAddr::V4(ip)) => {
            let [a, b, c, _] = ip.octets();
            format!("{a}.{b}.{c}.0/24")
        }
        Some(IpAddr::V6(ip)) => {
            let [a, b, c, ..] = ip.segments();
            format!("{a:x}:{b:x}:{c:x}::/48")
        }
        None => zone.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_are_prefixes_of_public_addresses() {
        let at = |addresses: &[&str], relays: &[&str]| {
            let parsed = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect();
            network(&Reach { addresses: parsed(addresses), relays: parsed(relays) }, "flat")
        };
        let of = |text: &str| at(&[text], &[]);
        assert_eq!(of("203.0.113.9:1"), "203.0.113.0/24");
        assert_eq!(of("[2001:db8:1:2::3]:1"), "2001:db8:1::/48");
        for private in ["127.0.0.1:1", "192.168.1.1:1", "[::1]:1", "[fd00::1]:1"] {
            assert_eq!(of(private), "flat");
        }
        assert_eq!(at(&["10.0.0.1:1", "203.0.113.9:1"], &[]), "203.0.113.0/24");
        assert_eq!(at(&[], &["203.0.113.9:1"]), "203.0.113.0/24", "gone with its relay");
        assert_eq!(at(&["198.51.100.1:1"], &["203.0.113.9:1"]), "198.51.100.0/24");
    }
}
