//! Keep what a device is in its folder, beside its node's files.
//!
//! `device.json` is replaced whole, so that a device killed at any moment is what it was before or after.

use crate::{
    caps::Caps,
    fault::DeviceFault,
    process::{Shared, lock},
};
use hodei_node::{
    caps::Carried,
    config::{Class, Config, Doors, Followed, Link, Provider},
    home::{Home, replace},
    pool::{Offer, Word},
    provider::register::class,
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket},
    path::{Path, PathBuf},
};

const FILE_BYTES_MAX: u64 = 1 << 20;
/// Left alone on the device's disk whatever was allowed.
pub(crate) const KEEP_FREE_BYTES: u64 = 128 << 20;
/// The least that owners expect of a machine.
const CLASS: Class = Class::Phone;

/// How far a device is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Phase {
    /// The pool was asked, and may have answered.
    Joining,
    Member,
    Left,
}

/// What a device keeps of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Kept {
    pub(crate) version: u32,
    pub(crate) phase: Phase,
    pub(crate) word: String,
    /// What the user agreed to, and when, in seconds since 1970.
    pub(crate) consent: String,
    pub(crate) consent_s: u64,
    pub(crate) caps: Caps,
    pub(crate) zone: String,
    /// Where others reach it, where the app knows better.
    pub(crate) address: Option<SocketAddr>,
    pub(crate) port: u16,
    /// Through which others reach it, where nobody reaches it directly.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) relays: Vec<SocketAddr>,
    /// What the pool was told last.
    pub(crate) told_addresses: Vec<SocketAddr>,
    pub(crate) told_bytes: u64,
}

/// A device's folder.
#[derive(Clone, Debug)]
pub(crate) struct Files(PathBuf);

impl Files {
    pub(crate) fn of(folder: &str) -> Self {
        Self(folder.into())
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    pub(crate) fn name(&self) -> String {
        self.0.display().to_string()
    }

    pub(crate) fn home(&self) -> Result<Home, DeviceFault> {
        Ok(Home::create(&self.0)?)
    }

    /// What is kept; `None` where no device is.
    pub(crate) fn read(&self) -> Result<Option<Kept>, DeviceFault> {
        self.parse("device.json")
    }

    /// Whether nothing is there but what a join that was killed before it wrote anything down, or while it took back what
    /// it made, leaves: folders that are empty, and files that say nothing.
    pub(crate) fn is_vacant(&self) -> std::io::Result<bool> {
        let entries = match std::fs::read_dir(&self.0) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(true),
            Err(error) => return Err(error),
        };
        for entry in entries {
            let entry = entry?;
            let is_ours = match entry.file_name().to_str() {
                Some("keys" | "store" | "index" | "logs") => {
                    entry.file_type()?.is_dir() && std::fs::read_dir(entry.path())?.next().is_none()
                }
                Some("device.json.new" | "lock") => entry.file_type()?.is_file(),
                _ => false,
            };
            if !is_ours {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Takes back what a first join made; what it is known by goes last, so that who is killed on the way goes on with it.
    pub(crate) fn remove(&self) {
        for made in ["store", "index", "logs", "keys"] {
            _ = std::fs::remove_dir_all(self.0.join(made));
        }
        _ = std::fs::remove_dir_all(&self.0);
    }

    pub(crate) fn write(&self, kept: &Kept) -> Result<(), DeviceFault> {
        let text = serde_json::to_vec_pretty(kept).expect("plain values");
        Ok(replace(&self.0.join("device.json"), &text, 0o600)?)
    }

    /// Changes what is kept; two threads never write over each other.
    pub(crate) fn change(&self, shared: &Shared, change: impl FnOnce(&mut Kept)) -> Result<Kept, DeviceFault> {
        let _writing = lock(&shared.writing);
        let mut kept = self.read()?.ok_or_else(|| DeviceFault::NotJoined(self.name()))?;
        change(&mut kept);
        self.write(&kept)?;
        Ok(kept)
    }

    pub(crate) fn carried(&self) -> Carried {
        // Lost, it only means that today begins anew.
        self.parse("carried.json").ok().flatten().unwrap_or_default()
    }

    pub(crate) fn keep_carried(&self, carried: Carried) {
        let text = serde_json::to_vec(&carried).expect("plain values");
        let _ = replace(&self.0.join("carried.json"), &text, 0o600);
    }

    fn parse<T: DeserializeOwned>(&self, name: &str) -> Result<Option<T>, DeviceFault> {
        let path = self.0.join(name);
        let wrong = |what: String| DeviceFault::Folder(format!("{}: {what}", path.display()));
        match std::fs::metadata(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(wrong(error.to_string())),
            Ok(file) if file.len() > FILE_BYTES_MAX => return Err(wrong("it is longer than any of ours".into())),
            Ok(_) => {}
        }
        let text = std::fs::read(&path).map_err(|error| wrong(error.to_string()))?;
        serde_json::from_slice(&text).map(Some).map_err(|error| wrong(format!("expected a device's file: {error}")))
    }
}

impl Kept {
    /// Where the device listens, and where others reach it now.
    pub(crate) fn place(&self, word: &Word) -> Link {
        let members: Vec<SocketAddr> = word.members.iter().flat_map(|member| &member.addresses).copied().collect();
        let is_near = members.iter().all(|address| address.ip().is_loopback());
        let near = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), self.port);
        if !self.relays.is_empty() {
            let is_v4 = members.first().is_none_or(SocketAddr::is_ipv4);
            let listen = if is_near { near } else { SocketAddr::new(any(is_v4), self.port) };
            // An address that was only seen here is one that others do not reach.
            return Link { listen, advertise: self.address.into_iter().collect(), relays: self.relays.clone() };
        }
        if is_near {
            return Link { listen: near, advertise: vec![near], relays: Vec::new() };
        }
        let seen = self.address.or_else(|| Some(SocketAddr::new(outward(*members.first()?)?, self.port)));
        let is_v4 = seen.is_none_or(|seen| seen.is_ipv4());
        Link {
            listen: SocketAddr::new(any(is_v4), self.port),
            advertise: seen.into_iter().collect(),
            relays: Vec::new(),
        }
    }

    pub(crate) fn offer(&self, place: &Link) -> Offer {
        Offer {
            zone: self.zone.clone(),
            addresses: place.advertise.clone(),
            relays: place.relays.clone(),
            capacity_bytes: self.caps.space_bytes,
            class: class(CLASS),
        }
    }

    /// The node of it: small, and with a log of errors alone.
    pub(crate) fn config(&self, files: &Files, word: &Word, place: Link) -> Config {
        Config {
            name: "device".into(),
            // Not there: the network's key is all it needs.
            genesis: files.path().join("genesis.cbor"),
            network_key: Some(word.network.to_string()),
            link: place,
            doors: Doors { status: None, rpc: None },
            follow: word
                .members
                .iter()
                .map(|member| Followed { key: member.key.to_string(), addresses: member.addresses.clone() })
                .collect(),
            provider: Some(Provider {
                pledge_bytes: self.caps.space_bytes,
                keep_free_bytes: KEEP_FREE_BYTES,
                zone: self.zone.clone(),
                class: CLASS,
                // The pool's operator does.
                register: false,
                // What waits for the disk is in memory; so is a shard of 256 KiB for each stream.
                peer_streams_max: 8,
                streams_max: 32,
                queue_bytes_max: 8 << 20,
                ..Provider::default()
            }),
            ..Config::default()
        }
    }
}

fn any(is_v4: bool) -> IpAddr {
    if is_v4 { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() }
}

/// A free UDP port, which the device keeps.
pub(crate) fn free_port(word: &Word) -> Option<u16> {
    let near = word.members.iter().flat_map(|member| &member.addresses).all(|address| address.ip().is_loopback());
    let ip = if near { Ipv4Addr::LOCALHOST } else { Ipv4Addr::UNSPECIFIED };
    Some(UdpSocket::bind((ip, 0)).ok()?.local_addr().ok()?.port())
}

/// The address packets to `member` leave from; none is sent.
fn outward(member: SocketAddr) -> Option<IpAddr> {
    let any: SocketAddr =
        if member.is_ipv4() { (Ipv4Addr::UNSPECIFIED, 0).into() } else { (Ipv6Addr::UNSPECIFIED, 0).into() };
    let socket = UdpSocket::bind(any).ok()?;
    socket.connect(member).ok()?;
    Some(socket.local_addr().ok()?.ip())
}

/// Bytes a folder takes on the disk: blocks, not lengths.
pub(crate) fn disk_bytes(folder: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt as _;
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .map(|entry| match entry.metadata() {
            Ok(file) if file.is_dir() => disk_bytes(&entry.path()),
            Ok(file) => file.blocks() * 512,
            // Gone meanwhile.
            Err(_) => 0,
        })
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use hodei_types::{
        network::{GROUP_KEY_BYTES, NetworkKey},
        transport::{NodeKey, Peer},
    };

    fn word(member: &str) -> Word {
        let peer = Peer::at(NodeKey([7; 32]), vec![member.parse().unwrap()]);
        let network = NetworkKey { genesis: [1; 32].into(), group: [2; GROUP_KEY_BYTES] };
        let members = vec![peer.clone()];
        Word { network, name: "n".into(), operator: [4; 20].into(), secret: [5; 16], door: peer, members }
    }

    fn kept(relays: &[&str]) -> Kept {
        let caps = Caps {
            space_bytes: 64 << 20,
            transfer_bytes_per_day: 0,
            only_unmetered: false,
            only_charging: false,
            min_battery_percent: 0,
        };
        Kept {
            version: 1,
            phase: Phase::Member,
            word: String::new(),
            consent: String::new(),
            consent_s: 0,
            caps,
            zone: "device-1".into(),
            address: None,
            port: 4433,
            relays: relays.iter().map(|relay| relay.parse().unwrap()).collect(),
            told_addresses: Vec::new(),
            told_bytes: 0,
        }
    }

    #[test]
    fn a_device_behind_a_relay_states_the_relay_and_no_address_it_only_saw() {
        for (member, listen) in [("198.51.100.1:4433", "0.0.0.0:4433"), ("127.0.0.1:9", "127.0.0.1:4433")] {
            let kept = kept(&["203.0.113.9:4435"]);
            let place = kept.place(&word(member));
            let offer = kept.offer(&place);
            assert_eq!(place.listen, listen.parse().unwrap());
            assert_eq!((offer.addresses.len(), &offer.relays), (0, &kept.relays));
            let forwarded = Kept { address: "198.51.100.77:4433".parse().ok(), ..kept };
            assert_eq!(forwarded.offer(&forwarded.place(&word(member))).addresses.len(), 1);
        }
        let near = kept(&[]).place(&word("127.0.0.1:9"));
        assert_eq!((near.advertise.len(), near.relays.len()), (1, 0));
    }

    #[test]
    fn a_file_of_a_device_without_relays_is_what_it_was() {
        let text = serde_json::to_string(&kept(&[])).unwrap();
        assert!(!text.contains("relays"));
        assert_eq!(serde_json::from_str::<Kept>(&text).unwrap(), kept(&[]));
        let behind = kept(&["203.0.113.9:4435"]);
        assert_eq!(serde_json::from_str::<Kept>(&serde_json::to_string(&behind).unwrap()).unwrap(), behind);
    }
}
