//! Deal a network: its genesis file, and a folder with keys for each validator.
//!
//! The dealer sees every share of the network key for a moment, so this is for networks of one owner; the
//! shares go into the validators' folders, are wiped here, and are in no other file.

use crate::{
    config::{Config, ConfigError, Doors, Link, Validator},
    home::{Home, HomeError, replace},
    keys::{KeyError, Keys, Secret, write_share},
};
use alloy_primitives::{Address, U256};
use commonware_codec::{Copying, DecodeExt as _, Encode as _};
use commonware_cryptography::{Signer as _, ed25519};
use hodei_ledger::{
    account,
    genesis::{self, Genesis, GenesisError, Slashing},
};
use hodei_types::{network::NetworkKey, settlement::Settlement};
use rand::CryptoRng;
use std::{
    net::{IpAddr, SocketAddr},
    path::PathBuf,
};
use zeroize::Zeroizing;

/// Name of the genesis file in a network's folder and in each validator's.
pub const GENESIS_FILE: &str = "genesis.cbor";

/// What a network shall be.
#[derive(Clone, Debug)]
pub struct Plan {
    pub name: String,
    /// Seconds since 1970; no block is earlier.
    pub timestamp: u64,
    /// Where each validator is reached by the others.
    pub validators: Vec<Seat>,
    /// Who owns coins at first, in wei.
    pub allocations: Vec<(Address, U256)>,
    /// What each validator's account holds besides, in wei: it pays for the anchors of its log.
    pub validator_coins: U256,
    /// Seconds of a proof window.
    pub window_secs: u64,
    /// `None`: the production ladder.
    pub slashing: Option<Slashing>,
    pub settlement: Settlement,
}

/// One validator's place.
#[derive(Clone, Copy, Debug)]
pub struct Seat {
    /// Consensus, TCP.
    pub consensus: SocketAddr,
    /// The wire, UDP; port 0 takes any free one.
    pub link: SocketAddr,
    /// Ethereum JSON-RPC on loopback, if wanted.
    pub rpc: Option<SocketAddr>,
    /// `/status` and `/metrics` on loopback, if wanted.
    pub status: Option<SocketAddr>,
}

/// A dealt network.
#[derive(Debug)]
pub struct Dealt {
    pub genesis: Genesis,
    pub network_key: NetworkKey,
    /// In the order of the plan's seats.
    pub homes: Vec<Home>,
    /// Their wire identities, in the same order.
    pub keys: Vec<[u8; 32]>,
}

/// Why a network could not be dealt. Nothing is left behind but folders made so far.
#[derive(Debug, thiserror::Error)]
pub enum DealError {
    #[error(transparent)]
    Genesis(#[from] GenesisError),
    #[error(transparent)]
    Home(#[from] HomeError),
    #[error(transparent)]
    Key(#[from] KeyError),
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error("the account's secret is not a secp256k1 key")]
    Account,
    #[error("{0} holds files already; choose an empty or absent folder")]
    Occupied(PathBuf),
}

/// Writes `genesis.cbor` and `validator-0`… into a folder that is empty or absent.
pub fn deal(plan: &Plan, folder: PathBuf, rng: impl CryptoRng) -> Result<Dealt, DealError> {
    if std::fs::read_dir(&folder).is_ok_and(|mut entries| entries.next().is_some()) {
        return Err(DealError::Occupied(folder));
    }
    let mut secrets = Vec::new();
    for _ in &plan.validators {
        let keys = Keys { node: Secret::generate()?, account: Secret::generate()? };
        let public = public_key(&keys.node);
        let fees = account::address_of(keys.account.bytes()).ok_or(DealError::Account)?;
        secrets.push((keys, public, fees));
    }
    let publics: Vec<_> = secrets.iter().map(|(_, public, _)| public.clone()).collect();
    let dealt = genesis::deal(rng, &publics)?;
    let validators = secrets
        .iter()
        .zip(&plan.validators)
        .map(|((_, key, fees), seat)| genesis::Validator {
            key: key.clone(),
            address: seat.consensus.to_string(),
            fees: *fees,
        })
        .collect();
    let mut allocations = plan.allocations.clone();
    if !plan.validator_coins.is_zero() {
        allocations.extend(secrets.iter().map(|(_, _, account)| (*account, plan.validator_coins)));
    }
    let mut genesis = Genesis::new(plan.name.clone(), plan.timestamp, dealt.output, validators, allocations);
    genesis.window_secs = plan.window_secs;
    if let Some(slashing) = plan.slashing {
        genesis.slashing = slashing;
    }
    genesis.settlement = plan.settlement;
    genesis.check()?;

    let file = genesis.encode();
    Home::create(folder.clone())?;
    replace(&folder.join(GENESIS_FILE), &file, 0o644)?;
    let mut homes = Vec::new();
    let mut identities = Vec::new();
    for (index, ((keys, public, _), seat)) in secrets.iter().zip(&plan.validators).enumerate() {
        let home = Home::create(folder.join(format!("validator-{index}")))?;
        let config = config(format!("{}-validator-{index}", plan.name), seat);
        config.check()?;
        keys.write(&home)?;
        let share = dealt.shares.iter().find(|(key, _)| key == public).map(|(_, share)| share.encode());
        write_share(&home, &Zeroizing::new(share.ok_or(GenesisError::Dealing)?.to_vec()))?;
        replace(&home.path().join(GENESIS_FILE), &file, 0o644)?;
        replace(&home.config(), config.text().as_bytes(), 0o600)?;
        homes.push(home);
        identities.push(<[u8; 32]>::try_from(public.as_ref()).expect("an Ed25519 key has 32 bytes"));
    }
    let network_key = NetworkKey { genesis: genesis.hash(), group: genesis.group_key() };
    Ok(Dealt { genesis, network_key, homes, keys: identities })
}

/// The identity behind a node's secret.
pub fn public_key(secret: &Secret) -> ed25519::PublicKey {
    ed25519::PrivateKey::decode(Copying(secret.bytes().as_slice()))
        .expect("every 32 bytes are an Ed25519 seed")
        .public_key()
}

fn config(name: String, seat: &Seat) -> Config {
    let anywhere = |address: SocketAddr| {
        // A machine rarely owns the address it is reached under, but loopback stays loopback.
        if address.ip().is_loopback() { address } else { SocketAddr::new(unspecified(address.ip()), address.port()) }
    };
    Config {
        name,
        genesis: GENESIS_FILE.into(),
        link: Link { listen: anywhere(seat.link), ..Link::default() },
        doors: Doors { status: seat.status, rpc: seat.rpc },
        validator: Some(Validator { listen: anywhere(seat.consensus), ..Validator::default() }),
        ..Config::default()
    }
}

fn unspecified(ip: IpAddr) -> IpAddr {
    match ip {
        IpAddr::V4(_) => std::net::Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => std::net::Ipv6Addr::UNSPECIFIED.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{keys::share, scratch::Scratch};
    use std::os::unix::fs::PermissionsExt as _;

    fn plan() -> Plan {
        let seat = |port| Seat {
            consensus: SocketAddr::new([127, 0, 0, 1].into(), port),
            link: SocketAddr::new([127, 0, 0, 1].into(), 0),
            rpc: None,
            status: None,
        };
        Plan {
            name: "test".into(),
            timestamp: 1_700_000_000,
            validators: (1..5).map(seat).collect(),
            allocations: vec![(Address::repeat_byte(1), U256::from(7))],
            validator_coins: U256::from(3),
            window_secs: 10,
            slashing: None,
            settlement: Settlement::default(),
        }
    }

    #[test]
    fn every_folder_can_start_alone() {
        let scratch = Scratch::new("deal");
        let folder = scratch.path().join("net");
        let dealt = deal(&plan(), folder.clone(), rand::rng()).unwrap();
        let file = std::fs::read(folder.join(GENESIS_FILE)).unwrap();
        assert_eq!(Genesis::decode(&file).unwrap(), dealt.genesis);
        assert_eq!(dealt.homes.len(), 4);
        let mut shares = std::collections::BTreeSet::new();
        for home in &dealt.homes {
            let config = Config::read(&home.config()).unwrap();
            assert_eq!(std::fs::read(&config.genesis).unwrap(), file);
            assert!(shares.insert(share(home).unwrap().expect("a share").to_vec()), "two validators share a share");
            let keys = Keys::open(home).unwrap();
            let key = public_key(&keys.node);
            assert!(dealt.genesis.validators.iter().any(|validator| validator.key == key));
            let account = account::address_of(keys.account.bytes()).unwrap();
            assert!(dealt.genesis.allocations.contains(&(account, U256::from(3))), "it cannot pay for its anchors");
            let mode = std::fs::metadata(home.keys().join("share.key")).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600);
        }
    }

    #[test]
    fn an_occupied_folder_is_left_alone() {
        let scratch = Scratch::new("deal-occupied");
        std::fs::write(scratch.path().join("mine"), "x").unwrap();
        let refused = deal(&plan(), scratch.path().into(), rand::rng());
        assert!(matches!(refused, Err(DealError::Occupied(_))));
        assert_eq!(std::fs::read_dir(scratch.path()).unwrap().count(), 1);
    }
}
