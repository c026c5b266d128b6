//! Let a container reach other apps of its owner by their names.
//!
//! ```text
//! /etc/hosts: db 127.1.0.1 ─► this host hears there, inside the container ─► who has a lease of that app ─► Connect
//! ```
//! Each name has an address of the container's own loopback, so that two apps may have the same port. An app is named by
//! its viewer, which the ledger does not know: the leases of the same owner are asked of the ledger, remembered for a few
//! seconds, and their hosts say which are of the app. A replica that was placed anew, or updated, is found.

use super::{
    Host,
    connect::Asker,
    follow::{MANY_MAX, RUNNING},
    replica::Replica,
    runtime::{Running, RuntimeError},
};
use commonware_runtime::Storage;
use hodei_ledger::wire::{receive, send};
use hodei_types::{
    abi::{ILeases, IMarket, LEASES, MARKET},
    app::{
        Manifest,
        container::Container,
        wire::{Answer, FRAME_BYTES_MAX, Request},
    },
    call::ask,
    chain::ChainError,
    transport::{APP, NodeKey, Peer, Transport as _},
};
use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{Mutex, Semaphore},
    task::JoinSet,
    time::Instant,
};

/// Who has an app is remembered for so long.
const REMEMBERED: Duration = Duration::from_secs(5);
/// From dialling a host to its word that the connection stands.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Leases of the owner that are known, and tried one after the other.
const LEASES_MAX: usize = 64;
/// Connections outward of one container that stand at once; a further one waits.
const CONNECTIONS_MAX: usize = 256;
/// After a failure to accept the next try waits.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A replica of a reached app, and its host; none where that is this one.
#[derive(Clone)]
struct Other {
    lease: u64,
    peer: Option<Peer>,
}

/// One app that a container reaches.
struct Reached {
    app: NodeKey,
    /// As the ledger had them last.
    others: Mutex<Option<(Instant, Vec<Other>)>>,
    /// Leases of the owner that are of other apps, by their hosts.
    strange: Mutex<BTreeSet<u64>>,
    /// Counts, so that each replica is tried first in its turn.
    turn: AtomicUsize,
}

/// Names and addresses for a container's `/etc/hosts`.
pub(super) fn names(container: &Container) -> Vec<(String, IpAddr)> {
    let reaches = container.reaches.iter().enumerate();
    reaches.map(|(at, reach)| (reach.name.clone(), address(at))).collect()
}

fn address(at: usize) -> IpAddr {
    // A manifest has at most a few dozens.
    Ipv4Addr::new(127, 1, 0, u8::try_from(at + 1).unwrap_or(u8::MAX)).into()
}

impl<E: Storage> Host<E> {
    /// Hears inside a container for the apps that it reaches, as long as what this gives is held.
    pub(super) async fn reach(
        &self,
        replica: &Arc<Replica>,
        manifest: &Manifest,
        running: &Arc<dyn Running>,
    ) -> Result<JoinSet<()>, RuntimeError> {
        let mut hearing = JoinSet::new();
        let Some(container) = manifest.container() else { return Ok(hearing) };
        let free = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        for (at, reach) in container.reaches.iter().enumerate() {
            let reached = Arc::new(Reached {
                app: reach.app,
                others: Mutex::default(),
                strange: Mutex::default(),
                turn: AtomicUsize::new(0),
            });
            for port in &reach.ports {
                let listener = match running.listen(SocketAddr::new(address(at), *port)).await {
                    Ok(listener) => listener,
                    // One that ended before it was adopted hears nothing more.
                    Err(error) if error.kind() == std::io::ErrorKind::NotConnected => return Ok(hearing),
                    Err(error) => {
                        return Err(RuntimeError::Later(format!("{} at port {port}: {error}", reach.name)));
                    }
                };
                let (host, replica, reached) = (self.clone(), replica.clone(), reached.clone());
                hearing.spawn(host.hear(replica, reached, listener, *port, free.clone()));
            }
        }
        Ok(hearing)
    }

    async fn hear(
        self,
        replica: Arc<Replica>,
        reached: Arc<Reached>,
        listener: TcpListener,
        port: u16,
        free: Arc<Semaphore>,
    ) {
        let mut open = JoinSet::new();
        loop {
            while open.try_join_next().is_some() {}
            let Ok(place) = free.clone().acquire_owned().await else { return };
            let socket = match listener.accept().await {
                Ok((socket, _)) => socket,
                Err(error) => {
                    tracing::warn!(lease = replica.lease, %error, "a container's connection was not accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            let (host, replica, reached) = (self.clone(), replica.clone(), reached.clone());
            open.spawn(async move {
                if let Err(words) = host.lead(&replica, &reached, socket, port).await {
                    tracing::debug!(lease = replica.lease, app = %reached.app, port, words, "an app was not reached");
                }
                drop(place);
            });
        }
    }

    /// Leads one connection to a replica of the app.
    async fn lead(&self, replica: &Replica, reached: &Reached, socket: TcpStream, port: u16) -> Result<(), String> {
        let others = self.others_of(replica, reached).await.map_err(|error| error.to_string())?;
        let first = reached.turn.fetch_add(1, Ordering::Relaxed);
        let mut last = "no lease of this owner is of it".to_owned();
        for at in 0..others.len() {
            let other = &others[(first + at) % others.len()];
            let Some(peer) = &other.peer else {
                let found = self.replica(other.lease).and_then(|other| other.contained.running());
                let Some(running) = found else { continue };
                match running.connect(port).await {
                    Ok(mut there) => {
                        let mut socket = socket;
                        let copied = tokio::io::copy_bidirectional(&mut socket, &mut there).await;
                        return copied.map(drop).map_err(|error| error.to_string());
                    }
                    Err(error) => last = error.to_string(),
                }
                continue;
            };
            let asked = async {
                let (mut sink, mut stream) =
                    self.0.parts.link.open(peer, APP).await.map_err(|error| error.to_string())?;
                let request = Request::Connect { lease: other.lease, app: reached.app, port };
                send(&mut sink, request.encode()).await.map_err(|error| error.to_string())?;
                let frame = receive(&mut stream, FRAME_BYTES_MAX).await.map_err(|error| error.to_string())?;
                match Answer::decode(&frame).map_err(|error| error.to_string())? {
                    Answer::Connected => Ok(Some((sink, stream))),
                    // Over, or another app's: it is not asked again either way.
                    Answer::Gone => Ok(None),
                    Answer::Refused { words } | Answer::NotReady { words } => Err(words),
                    Answer::Busy { .. } => Err("it is busy".into()),
                    _ => Err("it answered something else".into()),
                }
            };
            let asked = tokio::time::timeout(CONNECT_TIMEOUT, asked).await;
            match asked.unwrap_or_else(|_| Err(format!("it took longer than {} s", CONNECT_TIMEOUT.as_secs()))) {
                Ok(Some((sink, stream))) => {
                    self.carry::<Asker, _, _>(replica, socket, sink, stream).await;
                    return Ok(());
                }
                Ok(None) => _ = reached.strange.lock().await.insert(other.lease),
                Err(words) => last = format!("{}: {words}", peer.key),
            }
        }
        // What was known of them is asked anew by the next one.
        *reached.others.lock().await = None;
        Err(last)
    }

    /// Replicas of a reached app, if it is the same owner's.
    async fn others_of(&self, replica: &Replica, reached: &Reached) -> Result<Vec<Other>, ChainError> {
        let mut known = reached.others.lock().await;
        if let Some((at, others)) = &*known
            && at.elapsed() < REMEMBERED
        {
            return Ok(others.clone());
        }
        let strange = reached.strange.lock().await.clone();
        let mut others = Vec::new();
        for id in self.orders_of(replica.owner).await? {
            let placed = ask(self.chain(), MARKET, &IMarket::placedCall { id }).await?;
            for batch in placed.leases.chunks(MANY_MAX) {
                let found = ask(self.chain(), LEASES, &ILeases::manyCall { leases: batch.to_vec() }).await?;
                let is_there = |lease: &&ILeases::Lease| lease.state == RUNNING && !strange.contains(&lease.id);
                for lease in found.iter().filter(is_there) {
                    if others.len() >= LEASES_MAX {
                        break;
                    }
                    if NodeKey(lease.node.0) == self.0.id {
                        let is_it = |other: Arc<Replica>| other.viewer() == Some(reached.app);
                        if self.replica(lease.id).is_some_and(is_it) {
                            others.push(Other { lease: lease.id, peer: None });
                        }
                    } else if let Some(host) = super::register::record(self.chain(), lease.node).await?
                        && let Some(peer) = super::watch::peer(&host)
                    {
                        others.push(Other { lease: lease.id, peer: Some(peer) });
                    }
                }
            }
        }
        *known = Some((Instant::now(), others.clone()));
        Ok(others)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_name_has_an_address_of_its_own() {
        let [first, second] = [address(0), address(1)];
        assert_eq!((first.to_string(), second.to_string()), ("127.1.0.1".into(), "127.1.0.2".into()));
        assert!(first.is_loopback() && second.is_loopback());
    }
}
