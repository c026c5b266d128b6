//! State what this machine offers, in one TOML file.
//!
//! Each key is documented where it is declared; an unknown key is an error with its line, so that a typing
//! mistake never silently means "default". [`Config::default`] is what production wants, [`Config::dev`] a
//! node on a laptop, [`Config::test`] one of many on the same machine.

mod compute;
mod level;

pub use compute::{Compute, Place, Runs, Step};
pub use level::{Percent, Promise};

use crate::{caps::Caps, provider::when::Prove};
use hodei_types::{abi::ADDRESSES_MAX, network::NetworkKey};
use serde::{Deserialize, Serialize};
use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
};

/// Files larger than this are not read as configuration.
const FILE_BYTES_MAX: u64 = 1 << 20;
/// Bytes in a GiB, the unit prices are per.
pub const GIB: u64 = 1 << 30;

/// Why a configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("{path} could not be read: {source}")]
    Read { path: PathBuf, source: std::io::Error },
    #[error("{path} is not a configuration: {message}")]
    Parse { path: PathBuf, message: String },
    #[error("`{key}` is {found}, expected {expected}")]
    Value { key: &'static str, found: String, expected: &'static str },
}

/// One node's configuration: the whole file `node.toml`.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Name shown to people: in logs, `status` and invitations. At most 64 characters.
    pub name: String,
    /// The network's genesis file, relative to this file's folder.
    pub genesis: PathBuf,
    /// The network's key, `hodeinet1…`: enough for a node that follows, which then needs no genesis file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub network_key: Option<String>,
    /// The wire: who reaches this node, and where.
    pub link: Link,
    /// Addresses of local HTTP doors.
    pub doors: Doors,
    /// The log file.
    pub log: Log,
    /// Whom this node follows the ledger through when it is neither validator nor observer.
    pub follow: Vec<Followed>,
    /// Takes part in agreement, or watches it with a copy of the state. Needs a build with feature `full`.
    pub validator: Option<Validator>,
    /// Offers disk to the cloud.
    pub provider: Option<Provider>,
    /// Runs other people's components.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub compute: Option<Compute>,
    /// Passes on what is sent to providers that nobody reaches directly.
    pub relay: Option<Relay>,
    /// What the provider gives at most, and in which states of the machine it rests.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub caps: Option<Caps>,
    /// When within a window the provider rather proves.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prove: Option<Prove>,
}

/// The wire: protocols `hodei/*`, one UDP port.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Link {
    /// Socket the node listens on; port 0 takes any free one, and keeps it over restarts.
    pub listen: SocketAddr,
    /// Addresses under which others reach this node, registered on the ledger. Empty: the bound address, or
    /// where relays are named none.
    pub advertise: Vec<SocketAddr>,
    /// Relays through which others reach this node, registered on the ledger: for a machine behind an address
    /// translator. It keeps a TCP connection to one of them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub relays: Vec<SocketAddr>,
}

/// A relay, on one TCP port: for providers that name it on the ledger, and for whoever asks for them.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Relay {
    /// Socket the relay listens on.
    pub listen: SocketAddr,
    /// Under which addresses providers name it. Empty: the one it listens on.
    pub advertise: Vec<SocketAddr>,
    /// Connections at once.
    pub connections_max: usize,
    /// Of them from one IPv4 address or one /64 of IPv6; providers of one household share theirs.
    pub network_connections_max: usize,
    /// Bytes a second that one connection may send; it is read more slowly beyond.
    pub bytes_per_s: u64,
}

/// Local HTTP doors. Each is on loopback unless changed.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Doors {
    /// `/metrics`, `/health` and `/status`. Port 0 takes any free one and says which in `ready.json`.
    pub status: Option<SocketAddr>,
    /// Ethereum JSON-RPC, for validators and observers; none: no such door.
    pub rpc: Option<SocketAddr>,
}

/// The log file in `logs/`, rotated.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Log {
    /// What is written: a level, or directives such as `info,hodei_node=debug`.
    pub level: String,
    /// A file is rotated when it grows past this.
    pub file_bytes_max: u64,
    /// So many files are kept, the current one among them.
    pub files_max: usize,
}

/// A node that answers `hodei/chain/1`.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Followed {
    /// Its public key, 64 hex digits.
    pub key: String,
    /// Where it is reached.
    pub addresses: Vec<SocketAddr>,
}

/// Agreement: commonware-p2p on TCP, beside the wire.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Validator {
    /// Socket for the other validators. Theirs are in the genesis file; this one must be reachable under
    /// the address given there.
    pub listen: SocketAddr,
    /// Keeps a copy of the state and follows, without a vote. A validator needs its share in `keys/`.
    pub observer: bool,
    /// Fetches the state from peers when there is none here, instead of replaying every block: for an
    /// observer that joins, or a validator that lost its disk; never at a network's birth.
    pub sync: bool,
    /// Observers this validator talks to: public key in hex = `host:port`.
    pub observers: std::collections::BTreeMap<String, String>,
    /// Takes up the share at once though the consensus journal is missing: only after a halt, when the
    /// operator knows that this key did not sign since.
    pub after_loss: bool,
}

/// Disk for rent.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Provider {
    /// Bytes offered. The store never holds more, and refuses before a body what would exceed it.
    pub pledge_bytes: u64,
    /// Bytes of the file system that stay free whatever was pledged.
    pub keep_free_bytes: u64,
    /// The failure domain this machine stands in: a room, a flat, a data centre. 1 to 31 of `a-z 0-9 -`.
    pub zone: String,
    /// What kind of machine: `home`, `datacentre` or `phone`.
    pub class: Class,
    /// Price of keeping one GiB for one window.
    pub price_keep: Coins,
    /// Price of reading one GiB.
    pub price_read: Coins,
    /// Collateral placed when registering.
    pub collateral: Coins,
    /// Registers itself on the ledger when it is not yet, and keeps its addresses current there.
    pub register: bool,
    /// Streams one peer may hold at once; further ones wait.
    pub peer_streams_max: usize,
    /// Streams all peers together may hold at once; further ones are told BUSY.
    pub streams_max: usize,
    /// Bytes received but not yet on disk; above it a PUT is told BUSY.
    pub queue_bytes_max: u64,
    /// Earnings are collected each time so many windows were proven.
    pub collect_windows: u64,
    /// Bytes of stored shards read again and checked each second; 0 = no scrub.
    pub scrub_bytes_per_s: u64,
    /// Tells readers of a bucket of others who keep what they read of it, and remembers those for minutes.
    pub crowd: bool,
}

/// What owners may expect of a provider's uptime.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Class {
    #[default]
    Home,
    Datacentre,
    Phone,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            name: "node".into(),
            genesis: "genesis.cbor".into(),
            network_key: None,
            link: Link::default(),
            doors: Doors::default(),
            log: Log::default(),
            follow: Vec::new(),
            validator: None,
            provider: None,
            compute: None,
            relay: None,
            caps: None,
            prove: None,
        }
    }
}

impl Default for Link {
    fn default() -> Self {
        Self { listen: SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), 4433), advertise: Vec::new(), relays: Vec::new() }
    }
}

impl Default for Doors {
    fn default() -> Self {
        Self { status: Some(loopback(0)), rpc: None }
    }
}

impl Default for Log {
    fn default() -> Self {
        Self { level: "info".into(), file_bytes_max: 16 << 20, files_max: 4 }
    }
}

impl Default for Validator {
    fn default() -> Self {
        Self {
            listen: SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), 4434),
            observer: false,
            sync: false,
            observers: Default::default(),
            after_loss: false,
        }
    }
}

impl Default for Relay {
    fn default() -> Self {
        Self {
            listen: SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), 4435),
            advertise: Vec::new(),
            // Each may have 512 KiB waiting: at most 128 MiB.
            connections_max: 256,
            network_connections_max: 32,
            bytes_per_s: 16 << 20,
        }
    }
}

impl Default for Provider {
    fn default() -> Self {
        Self {
            pledge_bytes: 100 * GIB,
            keep_free_bytes: GIB,
            zone: "home".into(),
            class: Class::Home,
            // 0.0001 a GiB and window: with daily windows a TB-month costs about three coins.
            price_keep: Coins(100_000_000_000_000),
            price_read: Coins(1_000_000_000_000_000),
            collateral: Coins(0),
            register: true,
            // Two shards in flight and their neighbours: HAS, GET and the next PUT.
            peer_streams_max: 16,
            streams_max: 512,
            queue_bytes_max: 64 << 20,
            collect_windows: 7,
            // A disk of 1 TB in thirty days.
            scrub_bytes_per_s: 400_000,
            crowd: true,
        }
    }
}

impl Config {
    /// A node on one's own machine: loopback, free ports.
    pub fn dev() -> Self {
        Self {
            link: Link { listen: loopback(0), ..Link::default() },
            doors: Doors { status: Some(loopback(0)), rpc: None },
            ..Self::default()
        }
    }

    /// One of many nodes in one test: as [`Config::dev`], small limits, verbose.
    pub fn test() -> Self {
        Self {
            log: Log { level: "debug".into(), file_bytes_max: 4 << 20, files_max: 2 },
            provider: Some(Provider {
                pledge_bytes: 256 << 20,
                keep_free_bytes: 64 << 20,
                collect_windows: 1,
                ..Provider::default()
            }),
            ..Self::dev()
        }
    }

    /// Reads and checks a file; the genesis path becomes relative to the file's folder.
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        let io = |source| ConfigError::Read { path: path.into(), source };
        let length = std::fs::metadata(path).map_err(io)?.len();
        if length > FILE_BYTES_MAX {
            return Err(ConfigError::Value {
                key: "file length",
                found: length.to_string(),
                expected: "at most 1 MiB",
            });
        }
        let text = std::fs::read_to_string(path).map_err(io)?;
        let mut config = Self::parse(&text)
            .map_err(|message| ConfigError::Parse { path: path.into(), message: message.to_string() })?;
        config.check()?;
        if let Some(folder) = path.parent() {
            config.genesis = folder.join(&config.genesis);
        }
        Ok(config)
    }

    /// Parses TOML; an error names line and key.
    pub fn parse(text: &str) -> Result<Self, toml::de::Error> {
        toml::from_str(text)
    }

    /// The same as TOML.
    pub fn text(&self) -> String {
        toml::to_string_pretty(self).expect("a configuration is a table of plain values")
    }

    /// Checks what types alone do not.
    pub fn check(&self) -> Result<(), ConfigError> {
        let value =
            |key, found: &dyn ToString, expected| Err(ConfigError::Value { key, found: found.to_string(), expected });
        if self.name.is_empty() || self.name.chars().count() > 64 {
            return value("name", &self.name, "1 to 64 characters");
        }
        if self.log.file_bytes_max < 1 << 16 {
            return value("log.file_bytes_max", &self.log.file_bytes_max, "at least 65536");
        }
        if self.log.files_max == 0 || self.log.files_max > 1000 {
            return value("log.files_max", &self.log.files_max, "1 to 1000");
        }
        for door in [self.doors.status, self.doors.rpc].into_iter().flatten() {
            if !door.ip().is_loopback() {
                return value("doors", &door, "a loopback address; put TLS and a login in front of it");
            }
        }
        if let Some(key) = &self.network_key
            && key.parse::<NetworkKey>().is_err()
        {
            return value("network_key", key, "a network's key, hodeinet1…");
        }
        for followed in &self.follow {
            if hex::decode(&followed.key).map(|key| key.len()) != Ok(32) {
                return value("follow.key", &followed.key, "64 hex digits");
            }
        }
        for key in self.validator.iter().flat_map(|validator| validator.observers.keys()) {
            if hex::decode(key).map(|key| key.len()) != Ok(32) {
                return value("validator.observers", key, "64 hex digits = host:port");
            }
        }
        if self.link.relays.len() + self.link.advertise.len() > ADDRESSES_MAX {
            let found = self.link.relays.len() + self.link.advertise.len();
            return value("link.advertise and link.relays", &found, "at most 8 addresses together");
        }
        let advertised = self.relay.iter().flat_map(|relay| &relay.advertise);
        for (key, address) in (self.link.relays.iter().map(|at| ("link.relays", at)))
            .chain(self.link.advertise.iter().map(|at| ("link.advertise", at)))
            .chain(advertised.map(|at| ("relay.advertise", at)))
        {
            if !is_nameable(address) {
                return value(key, address, "an address that others can dial, as 203.0.113.9:4435");
            }
        }
        if self.provider.is_none() && (self.caps.is_some() || self.prove.is_some()) {
            return value("caps and prove", &"in a node that offers nothing", "a section [provider] beside them");
        }
        if let Some(caps) = &self.caps {
            caps.check()?;
        }
        if let Some(prove) = &self.prove {
            prove.check(self.caps.as_ref())?;
        }
        if let Some(compute) = &self.compute {
            compute.check()?;
        }
        if let Some(relay) = &self.relay {
            if relay.advertise.is_empty() && (relay.listen.ip().is_unspecified() || relay.listen.port() == 0) {
                return value("relay.advertise", &"empty", "the address under which providers reach the relay");
            }
            if relay.connections_max == 0 || relay.connections_max > 65_536 || relay.network_connections_max == 0 {
                return value("relay.connections_max", &relay.connections_max, "1 to 65536, and at least 1 a network");
            }
            if relay.bytes_per_s < 1 << 16 {
                return value("relay.bytes_per_s", &relay.bytes_per_s, "at least 65536");
            }
        }
        if let Some(provider) = &self.provider {
            let letters = |zone: &str| zone.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-'));
            if !(1..=31).contains(&provider.zone.len()) || !letters(&provider.zone) {
                return value("provider.zone", &provider.zone, "1 to 31 of a-z, 0-9 and -");
            }
            if provider.pledge_bytes < 64 << 20 {
                return value("provider.pledge_bytes", &provider.pledge_bytes, "at least 64 MiB");
            }
            if provider.peer_streams_max == 0 || provider.streams_max < provider.peer_streams_max {
                return value(
                    "provider.streams_max",
                    &provider.streams_max,
                    "at least peer_streams_max, which is at least 1",
                );
            }
            if provider.queue_bytes_max < 1 << 20 {
                return value("provider.queue_bytes_max", &provider.queue_bytes_max, "at least 1 MiB");
            }
        }
        Ok(())
    }
}

/// Whether others can dial it: neither every address nor any port.
pub fn is_nameable(address: &SocketAddr) -> bool {
    !address.ip().is_unspecified() && !address.ip().is_multicast() && address.port() != 0
}

fn loopback(port: u16) -> SocketAddr {
    SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port)
}

/// An amount in wei (10⁻¹⁸ hod); in files a decimal string of whole coins, such as `"0.25"`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Coins(pub u128);

/// 10¹⁸ wei.
pub const COIN: u128 = 1_000_000_000_000_000_000;

impl std::str::FromStr for Coins {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is not an amount: expected coins such as \"0.25\", at most 18 decimals");
        let (whole, rest) = text.split_once('.').unwrap_or((text, ""));
        let digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
        if whole.is_empty() || rest.len() > 18 || !digits(whole) || !digits(rest) || text.ends_with('.') {
            return Err(wrong());
        }
        let whole: u128 = whole.parse().map_err(|_| wrong())?;
        let rest: u128 = format!("{rest:0<18}").parse().map_err(|_| wrong())?;
        whole.checked_mul(COIN).and_then(|wei| wei.checked_add(rest)).map(Self).ok_or_else(wrong)
    }
}

impl std::fmt::Display for Coins {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let rest = format!("{:018}", self.0 % COIN);
        let rest = rest.trim_end_matches('0');
        write!(f, "{}", self.0 / COIN)?;
        if rest.is_empty() { Ok(()) } else { write!(f, ".{rest}") }
    }
}

impl Serialize for Coins {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Coins {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        String::deserialize(from)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn written_then_read_is_the_same() {
        for config in [Config::default(), Config::dev(), Config::test()] {
            config.check().expect("shipped configurations are valid");
            assert_eq!(Config::parse(&config.text()).expect("own text parses"), config);
        }
    }

    #[test]
    fn a_relay_says_where_it_is_reached() {
        let relay = |text: &str| Config::parse(&format!("[relay]\n{text}")).unwrap().check();
        assert!(relay("").is_err(), "nobody can name 0.0.0.0");
        assert!(relay("advertise = [\"203.0.113.9:4435\"]").is_ok());
        assert!(relay("listen = \"203.0.113.9:4435\"").is_ok());
        assert!(relay("listen = \"203.0.113.9:4435\"\nconnections_max = 0").is_err());
    }

    #[test]
    fn what_nobody_can_dial_is_no_address_of_a_node_or_its_relay() {
        for found in ["0.0.0.0:4435", "203.0.113.9:0", "[::]:4435", "224.0.0.1:4435"] {
            for key in ["relays", "advertise"] {
                let config = Config::parse(&format!("[link]\n{key} = [\"{found}\"]\n")).unwrap();
                let told = config.check().unwrap_err().to_string();
                assert!(told.contains(key) && told.contains(found) && told.contains("203.0.113.9:4435"), "{told}");
            }
        }
        assert!(Config::parse("[link]\nrelays = [\"127.0.0.1:4435\"]\n").unwrap().check().is_ok());
    }

    #[test]
    fn unknown_keys_are_errors_that_name_the_line() {
        let error = Config::parse("name = \"a\"\n[provider]\nplegde_bytes = 1\n").unwrap_err().to_string();
        assert!(error.contains("plegde_bytes") && error.contains("line 3"), "{error}");
    }

    #[test]
    fn amounts_are_exact() {
        let read = |text: &str| text.parse::<Coins>();
        assert_eq!(read("0.000000000000000001"), Ok(Coins(1)));
        assert_eq!(read("12.5"), Ok(Coins(12 * COIN + COIN / 2)));
        assert_eq!(Coins(12 * COIN + COIN / 2).to_string(), "12.5");
        for wrong in ["", ".5", "1.", "-1", "1e3", "0.0000000000000000001", "999999999999999999999999999"] {
            assert!(read(wrong).is_err(), "{wrong:?} was taken");
        }
    }

    #[test]
    fn doors_stay_on_loopback() {
        let mut config = Config::dev();
        config.doors.status = Some("0.0.0.0:80".parse().unwrap());
        assert!(matches!(config.check(), Err(ConfigError::Value { key: "doors", .. })));
    }
}
