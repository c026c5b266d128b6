//! Connect the validators to each other: eight channels over one authenticated connection a pair.
//!
//! Addresses come from the genesis and the node's own list of observers. Every peer uses the same channels,
//! quotas and message bound: a larger message disconnects, a faster one is dropped silently.

use commonware_cryptography::{ChaCha20Poly1305, Signer as _, ed25519};
use commonware_p2p::{
    Address, AddressableManager as _, AddressableTrackedPeers, Ingress, authenticated::lookup, utils::mux::prefixed,
};
use commonware_runtime::{Network as RuntimeNetwork, Quota, Resolver, Spawner};
use commonware_stream::{
    cups::{self, Cups},
    sake::{self, Sake},
};
use commonware_utils::{Hostname, NZU32, NZUsize, TryCollect as _, ordered::Map};
use rand::CryptoRng;
use std::{net::SocketAddr, num::NonZeroUsize, time::Duration};

use crate::{
    block::{Block, Digest, PublicKey},
    genesis::Genesis,
    state::{OPERATION_BYTES_MAX, SYNC_OPS},
};

pub const VOTES: usize = 0;
pub const CERTIFICATES: usize = 1;
pub const CERTIFICATE_FETCH: usize = 2;
pub const BACKFILL: usize = 3;
pub const BLOCKS: usize = 4;
pub const STATE_SYNC: usize = 5;
pub const PROBE: usize = 6;
pub const GOSSIP: usize = 7;

/// Messages a second, per peer and channel. An unpaced chain runs at 40 views a second, each with a handful
/// of votes and certificates; memory for queues grows with burst × message bound, so bulk gets less.
pub const QUOTAS: [Quota; 8] = [
    Quota::per_second(NZU32!(1024)),
    Quota::per_second(NZU32!(1024)),
    Quota::per_second(NZU32!(256)),
    Quota::per_second(NZU32!(256)),
    Quota::per_second(NZU32!(256)),
    Quota::per_second(NZU32!(256)),
    Quota::per_second(NZU32!(64)),
    Quota::per_second(NZU32!(1024)),
];

/// Bytes of one gossip message.
pub const GOSSIP_BYTES_MAX: usize = 256 << 10;

/// What the stations of a validator talk through: the network in production, a simulated one in tests.
pub struct Links<S, R, K, P> {
    /// Sender and receiver of each channel, by the numbers above.
    pub channels: [(S, R); 8],
    /// Disconnects a peer that broke the protocol.
    pub blocker: K,
    /// Says who is connected to whom.
    pub peers: P,
}

/// The largest message any channel carries; the same for every member of a network.
pub fn message_bytes_max<S: commonware_consensus::simplex::scheme::Scheme<Digest>>(genesis: &Genesis) -> u32 {
    use commonware_consensus::{marshal, simplex};
    use commonware_glue::stateful::{db::p2p as sync, probe};
    type Blocks = marshal::standard::Standard<Block>;
    let participants = genesis.validators.len() as u32;
    commonware_p2p::max_message_size(&[
        simplex::max_payload_size::<S, Digest>(participants),
        marshal::max_payload_size::<Blocks, S>(participants, &genesis.limits),
        probe::max_payload_size::<Blocks, S>(participants),
        prefixed(sync::max_payload_size::<commonware_storage::mmr::Family, Digest>(SYNC_OPS, OPERATION_BYTES_MAX)),
        GOSSIP_BYTES_MAX,
    ])
}

/// Why the network could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum NetError {
    #[error("peer address {0:?} is neither IP:port nor host:port")]
    Address(String),
    #[error("two members share one key")]
    Duplicate,
}

/// A node beside the validators that may connect: it follows without a vote.
#[derive(Clone, Debug)]
pub struct Peer {
    pub key: PublicKey,
    pub address: String,
}

/// Our side of the network.
pub struct Config {
    pub signer: ed25519::PrivateKey,
    pub listen: SocketAddr,
    /// Observers we serve; on an observer itself, nobody.
    pub observers: Vec<Peer>,
    /// From [`message_bytes_max`].
    pub message_bytes_max: u32,
}

/// Real sender of a channel.
pub type Sender<E> = lookup::Sender<PublicKey, E>;
/// Real receiver of a channel.
pub type Receiver = lookup::Receiver<PublicKey>;
/// Blocker and peer provider of the real network.
pub type Oracle = lookup::Oracle<PublicKey>;

/// Opens the network and starts it.
pub fn open<E>(
    context: E,
    genesis: &Genesis,
    config: Config,
) -> Result<Links<Sender<E>, Receiver, Oracle, Oracle>, NetError>
where
    E: Spawner + RuntimeNetwork + Resolver + commonware_storage::Context + CryptoRng,
{
    let me = config.signer.public_key();
    let primary = addresses(genesis.validators.iter().map(|v| (&v.key, v.address.as_str())))?;
    let mut observers: Vec<_> = config.observers.iter().map(|peer| (&peer.key, peer.address.as_str())).collect();
    let own = config.listen.to_string();
    if primary.position(&me).is_none() && observers.iter().all(|(key, _)| **key != me) {
        observers.push((&me, &own));
    }
    let secondary = addresses(observers.into_iter())?;
    let handshake = Cups::<_, ChaCha20Poly1305>::new(
        Sake {
            signer: config.signer,
            synchrony_bound: Duration::from_secs(5),
            max_handshake_age: Duration::from_secs(10),
            version: sake::Version::V1,
        },
        cups::Version::V1,
    );
    let peers_max = NonZeroUsize::new(primary.len() + secondary.len() + 1).expect("at least one");
    let mut settings = lookup::Config::local(
        handshake,
        &genesis.p2p_namespace(),
        config.listen,
        peers_max,
        config.message_bytes_max,
        NZUsize!(1024),
    );
    // Members behind NAT or with DNS names arrive from addresses nobody listed; keys authenticate them anyway.
    settings.bypass_ip_check = true;
    settings.tracked_peer_sets = NZUsize!(1);
    // An hour's exile of two of four validators, by a bug of one message, would halt the chain.
    settings.block_duration = Duration::from_secs(60);
    let (mut network, mut oracle) = lookup::Network::new(context.child("p2p"), settings);
    oracle.track(0, AddressableTrackedPeers { primary, secondary });
    let mut index = 0u64;
    let channels = QUOTAS.map(|quota| {
        let channel = network.register(index, quota);
        index += 1;
        channel
    });
    network.start();
    Ok(Links { channels, blocker: oracle.clone(), peers: oracle })
}

fn addresses<'a>(peers: impl Iterator<Item = (&'a PublicKey, &'a str)>) -> Result<Map<PublicKey, Address>, NetError> {
    let mut all = Vec::new();
    for (key, text) in peers {
        all.push((key.clone(), address(text)?));
    }
    all.into_iter().try_collect().map_err(|_| NetError::Duplicate)
}

fn address(text: &str) -> Result<Address, NetError> {
    let refused = || NetError::Address(text.to_owned());
    if let Ok(socket) = text.parse::<SocketAddr>() {
        return Ok(Address::Symmetric(socket));
    }
    let (host, port) = text.rsplit_once(':').ok_or_else(refused)?;
    let port: u16 = port.parse().map_err(|_| refused())?;
    let host = Hostname::new(host).map_err(|_| refused())?;
    // Where a named peer comes from is not known beforehand; its key is checked instead.
    let egress = SocketAddr::from(([0, 0, 0, 0], port));
    Ok(Address::Asymmetric { ingress: Ingress::Dns { host, port }, egress })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_sockets_and_names_and_refuses_the_rest() {
        assert!(matches!(address("127.0.0.1:9000"), Ok(Address::Symmetric(_))));
        assert!(matches!(address("[::1]:9000"), Ok(Address::Symmetric(_))));
        assert!(matches!(address("node.example.org:9000"), Ok(Address::Asymmetric { .. })));
        for bad in ["", "127.0.0.1", "host:", "host:70000", "ho st:1"] {
            assert!(address(bad).is_err(), "{bad}");
        }
    }
}
