//! Read who offers storage, where and at what price.

use alloy_primitives::{Address, U256};
use hodei_types::{
    abi::{IProviders, PAGE_MAX, PROVIDERS, unpack_reach},
    call::ask,
    chain::{Chain, ChainError},
    code::Class,
    transport::{NodeKey, Peer},
};
use std::net::{IpAddr, SocketAddr};

/// Offers read at most: bounds what a ledger full of registrations costs a client.
const LISTED_MAX: u64 = 4096;

/// A provider as the ledger lists it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offer {
    pub node: NodeKey,
    /// The account that registered it and is paid.
    pub operator: Address,
    /// Failure domain, as declared.
    pub zone: String,
    pub addresses: Vec<SocketAddr>,
    /// Relays it is reached through.
    pub relays: Vec<SocketAddr>,
    pub capacity_bytes: u64,
    /// Promised in open deals.
    pub used_bytes: u64,
    /// Wei per GiB and window.
    pub price_store: u128,
    /// Wei per GiB read.
    pub price_read: u128,
    pub collateral: U256,
    /// What kind of machine its operator says it is; never [`Class::Small`].
    pub device: Class,
    /// Takes new deals.
    pub open: bool,
    /// Missed its last challenge.
    pub suspended: bool,
}

impl Offer {
    pub fn free_bytes(&self) -> u64 {
        self.capacity_bytes.saturating_sub(self.used_bytes)
    }

    /// Whether its zone is of this region: the same, or named after it, as `eu-berlin` is of `eu`.
    pub fn is_of(&self, region: &str) -> bool {
        is_of(&self.zone, region)
    }

    pub fn peer(&self) -> Peer {
        Peer { key: self.node, addresses: self.addresses.clone(), relays: self.relays.clone() }
    }

    /// What fails together with it: the /24 or /48 of its first public address, or of the relay it is reached
    /// through; on loopback and private networks, where addresses say nothing, the zone it declares.
    pub fn network(&self) -> String {
        match self.addresses.iter().chain(&self.relays).map(SocketAddr::ip).find(|ip| is_public(*ip)) {
            Some(IpAddr::V4(v4)) => {
                let [a, b, c, _] = v4.octets();
                format!("{a}.{b}.{c}.0/24")
            }
            Some(IpAddr::V6(v6)) => {
                let [a, b, c, ..] = v6.segments();
                format!("{a:x}:{b:x}:{c:x}::/48")
            }
            None => format!("zone {}", self.zone),
        }
    }
}

/// Whether a place is of a region: the same, or named after it.
pub(crate) fn is_of(place: &str, region: &str) -> bool {
    place.strip_prefix(region).is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
}

fn is_public(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(v4) => !(v4.is_loopback() || v4.is_private() || v4.is_link_local() || v4.is_unspecified()),
        IpAddr::V6(v6) => {
            !(v6.is_loopback() || v6.is_unique_local() || v6.is_unicast_link_local() || v6.is_unspecified())
        }
    }
}

fn offer(provider: IProviders::Provider) -> Offer {
    let reach = unpack_reach(&provider.offer.addresses).unwrap_or_default();
    Offer {
        node: NodeKey(provider.node.0),
        operator: provider.operator,
        zone: provider.offer.zone,
        addresses: reach.addresses,
        relays: reach.relays,
        capacity_bytes: provider.offer.capacityBytes,
        used_bytes: provider.usedBytes,
        price_store: provider.offer.priceStore,
        price_read: provider.offer.priceRead,
        collateral: provider.collateral,
        device: match provider.offer.class {
            1 => Class::Datacentre,
            2 => Class::Phone,
            _ => Class::Home,
        },
        open: !provider.retired && !provider.closed,
        suspended: provider.suspended,
    }
}

/// All registered providers, in the ledger's order; at most 4,096.
pub async fn offers(chain: &dyn Chain) -> Result<Vec<Offer>, ChainError> {
    let found =
        listed(|first| async move { ask(chain, PROVIDERS, &IProviders::pageCall { first, most: PAGE_MAX }).await });
    Ok(found.await?.into_iter().map(offer).collect())
}

/// What a module lists page by page, at most 4,096 of it.
pub(crate) async fn listed<T, F>(page: impl Fn(u64) -> F) -> Result<Vec<T>, ChainError>
where
    F: Future<Output = Result<Vec<T>, ChainError>>,
{
    let mut found = Vec::new();
    loop {
        let first = found.len() as u64;
        if first >= LISTED_MAX {
            return Ok(found);
        }
        let listed = page(first).await?;
        let count = listed.len() as u64;
        found.extend(listed);
        if count < PAGE_MAX {
            return Ok(found);
        }
    }
}

/// One provider by its node key.
pub async fn provider(chain: &dyn Chain, node: NodeKey) -> Result<Offer, ChainError> {
    Ok(offer(ask(chain, PROVIDERS, &IProviders::getCall { node: node.0.into() }).await?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(addresses: &[&str]) -> String {
        some("attic", addresses).network()
    }

    fn some(zone: &str, addresses: &[&str]) -> Offer {
        Offer {
            node: NodeKey([1; 32]),
            operator: Address::ZERO,
            zone: zone.into(),
            addresses: addresses.iter().map(|a| a.parse().unwrap()).collect(),
            relays: vec![],
            capacity_bytes: 5,
            used_bytes: 7,
            price_store: 0,
            price_read: 0,
            collateral: U256::ZERO,
            device: Class::Home,
            open: true,
            suspended: false,
        }
    }

    #[test]
    fn a_region_is_what_zones_are_named_after() {
        let berlin = some("eu-berlin-1", &[]);
        let of = |region| berlin.is_of(region);
        assert_eq!(
            ["eu", "eu-berlin", "eu-berlin-1", "e", "eu-b", "us"].map(of),
            [true, true, true, false, false, false]
        );
    }

    #[test]
    fn networks_are_observed_where_addresses_say_something() {
        assert_eq!(at(&["127.0.0.1:1", "[::1]:1"]), "zone attic");
        assert_eq!(at(&["192.168.1.7:1", "203.0.113.9:1"]), "203.0.113.0/24");
        assert_eq!(at(&["[2001:db8:1:2::3]:1"]), "2001:db8:1::/48");
        assert_eq!(at(&[]), "zone attic");
        let mut hidden = some("attic", &["192.168.1.7:1"]);
        hidden.relays = vec!["203.0.113.9:1".parse().unwrap()];
        assert_eq!(hidden.network(), "203.0.113.0/24", "all behind one relay are gone when it is");
    }
}
