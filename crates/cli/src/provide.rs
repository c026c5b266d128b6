//! Make this machine a provider of a network it joins.
//!
//! A folder with keys of its own and a configuration that follows the members of the invitation: `hodei node run`
//! then registers it, with collateral from the coins that came with the invitation. The node's account pays its
//! fees and gets what it earns.

use crate::{
    args::Provide,
    context::Member,
    fault::{self, Fault, Result},
    money,
    serve::{home_fault, settings},
};
use alloy_primitives::{Address, U256};
use hodei_node::{
    config::{Coins, Config, Doors, Followed, GIB, Link, Provider, Relay, is_nameable},
    disk,
    home::{Home, replace},
    keys::Keys,
};
use hodei_sdk::wallet;
use hodei_types::{
    key::{KeyKind, SecretKey},
    network::NetworkKey,
};
use std::{
    net::{Ipv4Addr, SocketAddr, UdpSocket},
    path::{Path, PathBuf},
};

/// The wire's port where none was named.
const LINK_PORT: u16 = 4433;

/// A provider as asked for, checked against this machine, and not made yet.
pub(crate) struct Offer {
    folder: PathBuf,
    config: Config,
    collateral: Option<U256>,
}

impl Offer {
    /// Refuses what this machine cannot keep, before anything is made or asked.
    pub(crate) fn check(
        args: &Provide,
        gib: u64,
        name: &str,
        folder: PathBuf,
        key: &NetworkKey,
        members: &[Member],
    ) -> Result<Self> {
        check_addresses(args)?;
        if std::fs::read_dir(&folder).is_ok_and(|mut entries| entries.next().is_some()) {
            let help = "choose an empty or absent one with --node-folder";
            return Err(Fault::new(&fault::EXISTS, "the node's folder holds files already", help).at(folder.display()));
        }
        let collateral = args.collateral.as_deref().map(money::parse).transpose()?;
        let offer = Provider { pledge_bytes: gib * GIB, zone: args.zone.clone(), ..Provider::default() };
        let free =
            disk::free_bytes(nearest(&folder)).map_err(|error| Fault::io(&folder, "asking the file system", &error))?;
        let needed = offer.pledge_bytes.saturating_add(offer.keep_free_bytes);
        if free < needed {
            return Err(Fault::new(
                &fault::FULL,
                "this disk has no room for that offer",
                "offer less, or name a folder on another disk",
            )
            .at(folder.display())
            .between(format!("{needed} bytes free"), free));
        }
        let mut link = wire(args.address, members, LINK_PORT);
        if !args.relays.is_empty() {
            link.relays = args.relays.clone();
            // An address that was only seen here is one that others do not reach.
            link.advertise = args.address.into_iter().collect();
        }
        let config = Config {
            name: format!("{name}-provider"),
            network_key: Some(key.to_string()),
            link,
            doors: Doors { status: Some(SocketAddr::new(Ipv4Addr::LOCALHOST.into(), 0)), rpc: None },
            follow: members
                .iter()
                .map(|member| Followed { key: member.key.clone(), addresses: member.addresses.clone() })
                .collect(),
            provider: Some(offer),
            relay: args.relay_for_others.map(relay),
            ..Config::default()
        };
        config.check().map_err(|error| settings(&error))?;
        Ok(Self { folder, config, collateral })
    }

    /// What is left for fees and collateral of so many coins: the collateral named, or half.
    fn collateral(&self, coins: U256) -> Result<U256> {
        let collateral = self.collateral.unwrap_or(coins / U256::from(2));
        if collateral >= coins {
            return Err(Fault::new(
                &fault::FUNDS,
                "the invitation holds too little for that collateral and for fees",
                "name less, or ask for more coins",
            )
            .between(format!("less than {}", money::show(coins)), money::show(collateral)));
        }
        Ok(collateral)
    }

    /// Makes the folder; gives the node's account, which the coins are for. Nothing is left when it fails.
    pub(crate) fn make(mut self, coins: U256) -> Result<Made> {
        let collateral = self.collateral(coins)?;
        if let Some(provider) = &mut self.config.provider {
            provider.collateral = Coins(collateral.saturating_to());
        }
        let made = self.write();
        if made.is_err() {
            // What was not there before is not left half made.
            let _ = std::fs::remove_dir_all(&self.folder);
        }
        Ok(Made { account: made?, folder: self.folder, collateral })
    }

    fn write(&self) -> Result<Address> {
        let home = Home::create(&self.folder).map_err(home_fault)?;
        let keys = Keys::open(&home).map_err(|error| Fault::new(&fault::FOLDER, error, "check the disk"))?;
        replace(&home.config(), self.config.text().as_bytes(), 0o600).map_err(home_fault)?;
        let account = SecretKey::new(KeyKind::Account, *keys.account.bytes());
        wallet::address(&account)
            .ok_or_else(|| Fault::new(&fault::INTERNAL, "the node's key is no account's", "try again"))
    }
}

/// A provider's folder.
pub(crate) struct Made {
    pub(crate) folder: PathBuf,
    pub(crate) account: Address,
    pub(crate) collateral: U256,
}

/// Refuses addresses under which nobody would find anything.
fn check_addresses(args: &Provide) -> Result<()> {
    let named = (args.relays.iter().map(|at| ("--behind-nat", at)))
        .chain(args.address.iter().map(|at| ("--address", at)))
        .chain(args.relay_for_others.iter().map(|at| ("--relay-for-others", at)));
    for (flag, address) in named {
        if !is_nameable(address) {
            return Err(Fault::new(
                &fault::USAGE,
                format!("{flag} names no address that others can dial"),
                "name the machine's own address and its port",
            )
            .between("an address and a port, as 203.0.113.9:4435", address));
        }
    }
    Ok(())
}

/// The nearest folder that exists: where the folder will be made.
fn nearest(folder: &Path) -> &Path {
    folder.ancestors().find(|folder| folder.exists()).unwrap_or(Path::new("/"))
}

/// Where it listens, and under which address others reach it: the one named, loopback among loopback members,
/// or the address this machine would send from to the first of them.
pub(crate) fn wire(named: Option<SocketAddr>, members: &[Member], port: u16) -> Link {
    let mut addresses = members.iter().flat_map(|member| &member.addresses).copied();
    let first = addresses.clone().next();
    let seen = match named {
        Some(named) => Some(named),
        None if addresses.all(|address| address.ip().is_loopback()) => {
            return Link { listen: SocketAddr::new(Ipv4Addr::LOCALHOST.into(), 0), ..Link::default() };
        }
        None => first.and_then(outward).map(|ip| SocketAddr::new(ip, port)),
    };
    let Some(seen) = seen else { return Link::default() };
    Link { listen: anywhere(seen), advertise: vec![seen], relays: Vec::new() }
}

/// A relay that others name by this address.
fn relay(named: SocketAddr) -> Relay {
    Relay { listen: anywhere(named), advertise: vec![named], ..Relay::default() }
}

/// Where to listen for what is sent to this address: on all interfaces, but for loopback.
fn anywhere(seen: SocketAddr) -> SocketAddr {
    let unspecified: std::net::IpAddr =
        if seen.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { std::net::Ipv6Addr::UNSPECIFIED.into() };
    SocketAddr::new(if seen.ip().is_loopback() { seen.ip() } else { unspecified }, seen.port())
}

/// The address packets to `member` leave from; none is sent.
fn outward(member: SocketAddr) -> Option<std::net::IpAddr> {
    let any: SocketAddr =
        if member.is_ipv4() { (Ipv4Addr::UNSPECIFIED, 0).into() } else { (std::net::Ipv6Addr::UNSPECIFIED, 0).into() };
    let socket = UdpSocket::bind(any).ok()?;
    socket.connect(member).ok()?;
    Some(socket.local_addr().ok()?.ip())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(address: &str) -> Member {
        Member { key: "00".repeat(32), addresses: vec![address.parse().unwrap()] }
    }

    #[test]
    fn a_machine_says_where_others_reach_it() {
        let alone = wire(None, &[member("127.0.0.1:7")], 4433);
        assert_eq!((alone.listen, alone.advertise.len()), ("127.0.0.1:0".parse().unwrap(), 0));
        let named = wire(Some("203.0.113.9:77".parse().unwrap()), &[member("198.51.100.1:7")], 4433);
        assert_eq!(named.listen, "0.0.0.0:77".parse().unwrap());
        assert_eq!(named.advertise, vec!["203.0.113.9:77".parse().unwrap()]);
        let relay = relay("203.0.113.9:4435".parse().unwrap());
        assert_eq!((relay.listen, relay.advertise.len()), ("0.0.0.0:4435".parse().unwrap(), 1));
    }

    #[test]
    fn an_address_that_nobody_can_dial_is_refused_as_usage() {
        let args = |relay: Option<&str>, address: Option<&str>, others: Option<&str>| Provide {
            gib: Some(1),
            zone: "home".into(),
            collateral: None,
            address: address.map(|at| at.parse().unwrap()),
            relays: relay.into_iter().map(|at| at.parse().unwrap()).collect(),
            relay_for_others: others.map(|at| at.parse().unwrap()),
            node_folder: None,
        };
        for wrong in ["0.0.0.0:0", "0.0.0.0:4435", "203.0.113.9:0", "[::]:4435"] {
            for args in [args(Some(wrong), None, None), args(None, Some(wrong), None), args(None, None, Some(wrong))] {
                assert_eq!(check_addresses(&args).unwrap_err().code.id, "HD1001", "{wrong}");
            }
        }
        let good = Some("203.0.113.9:4435");
        assert!(check_addresses(&args(good, good, None)).is_ok() && check_addresses(&args(None, None, good)).is_ok());
    }

    #[test]
    fn the_collateral_leaves_something_for_fees() {
        let offer = |collateral| Offer { folder: PathBuf::new(), config: Config::default(), collateral };
        let coins = |count: u64| U256::from(count);
        assert_eq!(offer(None).collateral(coins(10)).unwrap(), coins(5));
        assert_eq!(offer(Some(coins(7))).collateral(coins(10)).unwrap(), coins(7));
        assert_eq!(offer(Some(coins(10))).collateral(coins(10)).unwrap_err().code.id, "HD4001");
        assert_eq!(offer(None).collateral(coins(0)).unwrap_err().code.id, "HD4001");
    }
}
