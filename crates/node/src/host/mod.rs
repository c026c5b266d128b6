//! Run other people's components, each replica in a process of its own, or their containers.
//!
//! ```text
//! [compute] ─► register ─ the market's book
//! ledger ─► follow ─► leases ─► a replica each ─► log (placed, started, ended, paid)
//! Give, or Fetch from a host of the same app ─► shelf (disk) ─► compiled once ─► process      tend
//! Ask ─► gate ─► the replica's queue ─► its process ─► answer, readings                       serve
//! asked, and what came of it ─► transcript, to who asked; samples for the viewer              transcript
//! a container ─► images (disk) ─► made, started, watched, adopted by the next start of this program          contain
//! Ask ─► a connection into its own network ─► answer                                        forward
//! a name it reaches ─► an address inside it ─► Connect, to a host of that app ─► its container     reach, connect
//!     on call: ─► paid for ─► room that no lease has ─► a process, for a while                calls, room
//! a replica of a lease with a level is up ─► started                                          started
//! owed ─► touch, where it is worth the fee                                                    settle
//! Ping to hosts it is drawn to watch ─► unreachable; alive, when others miss this one         watch
//! ```
//! The promise: what runs here is what the ledger's lease names, to the byte, for as long as the lease is paid. Who
//! might break it: a host that lies; so what it answers is checked by who asks, not believed.
//!
//! A lease's memory bounds what its component may ask for at once. A replica has one process, which answers one request
//! after the other; of the lease's CPU one core at most can be used, and less is not enforced, nor are bandwidth and
//! transfer. A container's CPU, memory and disk are bounded by the kernel.

mod blobs;
mod calls;
mod connect;
mod contain;
mod contained;
mod enter;
mod fetch;
mod follow;
mod forward;
mod images;
pub mod misses;
#[cfg(target_os = "linux")]
mod oci;
pub mod paid;
mod promise;
mod reach;
pub mod register;
pub mod replay;
mod replica;
mod room;
mod runtime;
mod samples;
mod serve;
mod settle;
mod shelf;
mod started;
mod tail;
mod tend;
mod transcript;
mod volume;
mod warm;
mod watch;

use crate::{
    config,
    gate::{Gate, Queue},
    height::Reported,
    home::Home,
    journal::Journal,
    provider::lock,
    tasks::Tasks,
};
use alloy_primitives::{B256, U256};
pub use calls::Vouchers;
use commonware_runtime::Storage;
use contain::Containers;
use futures::{FutureExt, future::BoxFuture};
#[cfg(target_os = "linux")]
pub use hodei_container::keeper;
use hodei_ledger::account::Account;
use hodei_link::Link;
use hodei_sandbox::{Codes, CodesError};
pub use hodei_sandbox::{ENGINE, Program, runner};
use hodei_types::{
    abi::{ILeases, IMarket},
    ack::Signer,
    chain::Chain,
    transport::{NodeKey, Reach},
};
use images::Images;
use misses::Misses;
use replica::Replica;
use room::Room;
use samples::Samples;
use shelf::Shelf;
pub use shelf::ShelfError;
use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Instant,
};
use tokio::sync::Semaphore;

/// The word by which this program is entered as a runner: `HODEI run-sandbox`, before anything else happens.
pub const RUNNER: &str = "run-sandbox";
/// The word by which this program is entered to stand by a container.
pub const KEEPER: &str = "run-container";
/// Bytes of requests and components that are here and not yet with a process or on disk.
const QUEUE_BYTES_MAX: u64 = 128 << 20;
/// One compiler at a time: it may take two GiB.
const COMPILERS: usize = 1;

/// Why a host did not start.
#[derive(Debug, thiserror::Error)]
pub enum HostError {
    #[error(transparent)]
    Shelf(#[from] ShelfError),
    #[error("compiled code: {0}")]
    Codes(#[from] CodesError),
    #[error("vouchers: {0}")]
    Vouchers(std::io::Error),
    #[error("{0}. `runtime = \"oci\"` of [compute] needs it; hodei node offer compute without --runtime oci does not")]
    Engine(String),
    #[error("containers: {0}")]
    Placed(std::io::Error),
    #[error("this program's own file is not known, and replicas are run by it: {0}")]
    Program(std::io::Error),
}

/// This program, entered as a runner.
pub fn program() -> Result<Program, HostError> {
    Ok(Program::new(std::env::current_exe().map_err(HostError::Program)?, [RUNNER]))
}

/// What the node lends its host.
pub struct Parts<E: Storage> {
    pub chain: Arc<dyn Chain>,
    pub account: Account,
    pub signer: Arc<Signer>,
    pub journal: Journal<E>,
    pub tasks: Tasks,
    pub stop: tokio::sync::watch::Receiver<bool>,
    pub chain_id: u64,
    /// Where others reach this node, for the ledger.
    pub reach: Reach,
    /// Asks other hosts for what their leases run.
    pub link: Link,
    /// Enters [`runner::run`].
    pub program: Program,
    /// This node's alone: compiled code that is not sealed with it is not run.
    pub code_key: [u8; 32],
}

/// A host; clones share it.
pub struct Host<E: Storage>(Arc<Inner<E>>);

impl<E: Storage> Clone for Host<E> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

struct Inner<E: Storage> {
    parts: Parts<E>,
    config: config::Compute,
    id: NodeKey,
    shelf: Arc<Shelf>,
    /// Of a host that runs containers, and no components then.
    containers: Option<Arc<Containers>>,
    vouchers: Vouchers,
    /// What is on call runs in it.
    room: Room,
    /// Requests that were written down.
    samples: Mutex<Samples>,
    gate: Gate,
    queue: Queue,
    compilers: Semaphore,
    /// By lease, those that run and are paid.
    replicas: Mutex<BTreeMap<u64, Arc<Replica>>>,
    /// As the ledger had them last.
    leases: Mutex<Vec<ILeases::Lease>>,
    /// The ledger was asked for the leases last, and by one at a time.
    refreshed: tokio::sync::Mutex<Option<Instant>>,
    record: Mutex<Option<IMarket::Host>>,
    /// Why nothing is earned, where it is known.
    idle: Mutex<Option<String>>,
    /// What this host watches, by a clock that began with it.
    misses: Mutex<Misses>,
    begun: Instant,
    /// Suspect leases for which this host showed itself, and which time they are.
    shown: Mutex<BTreeMap<u64, u64>>,
    /// Wei that leases paid since the start.
    earned: Mutex<U256>,
    is_retired: AtomicBool,
    reported: Reported,
}

impl<E: Storage> Host<E> {
    /// Opens the shelf. Spawns nothing.
    pub fn start(home: &Home, config: config::Compute, parts: Parts<E>) -> Result<Self, HostError> {
        let codes = Codes::open(home.index().join("code"), parts.code_key)?;
        let shelf = Arc::new(Shelf::open(home.path().join("apps"), codes, config.disk_bytes)?);
        let containers = match config.runtime {
            config::Runs::Wasm => None,
            config::Runs::Oci => Some(Arc::new(containers(home, &config, parts.signer.node())?)),
        };
        Ok(Self(Arc::new(Inner {
            id: parts.signer.node(),
            shelf,
            containers,
            vouchers: Vouchers::of(home).map_err(HostError::Vouchers)?,
            room: Room::new(config.capacity()),
            samples: Mutex::default(),
            gate: Gate::new(config.streams_max, config.peer_streams_max),
            queue: Queue::new(QUEUE_BYTES_MAX),
            compilers: Semaphore::new(COMPILERS),
            replicas: Mutex::default(),
            leases: Mutex::default(),
            refreshed: tokio::sync::Mutex::default(),
            record: Mutex::default(),
            idle: Mutex::default(),
            misses: Mutex::new(Misses::new(parts.signer.node())),
            begun: Instant::now(),
            shown: Mutex::default(),
            earned: Mutex::default(),
            is_retired: AtomicBool::new(false),
            reported: Reported::new(home, "compute.height"),
            config,
            parts,
        })))
    }

    /// The loops a host lives by, each with its name; they end at the stop signal. Call once.
    pub fn loops(&self) -> Vec<(&'static str, BoxFuture<'static, ()>)> {
        let parts = &self.0.parts;
        vec![
            ("the leases", self.clone().report(parts.tasks.enter("leases"), parts.stop.clone()).boxed()),
            ("the pay for computing", self.clone().settle(parts.tasks.enter("settle"), parts.stop.clone()).boxed()),
            ("the starts", self.clone().take_up(parts.tasks.enter("starts"), parts.stop.clone()).boxed()),
            ("the watch", self.clone().watch(parts.tasks.enter("watch"), parts.stop.clone()).boxed()),
        ]
    }

    /// This host's key as the ledger writes it.
    pub fn id(&self) -> B256 {
        B256::from(self.0.id.0)
    }

    /// The kernel's number of each replica's process, by lease; without those that are asked just now.
    pub fn processes(&self) -> BTreeMap<u64, u32> {
        let replicas = lock(&self.0.replicas);
        replicas.iter().filter_map(|(lease, replica)| Some((*lease, replica.process_id()?))).collect()
    }

    /// For `/status`.
    pub fn status(&self) -> serde_json::Value {
        let Inner { config, replicas, record, idle, earned, leases, .. } = &*self.0;
        let rates: BTreeMap<u64, (u128, u64)> =
            lock(leases).iter().map(|lease| (lease.id, (lease.rate, lease.untilMs))).collect();
        let replicas: Vec<_> = lock(replicas).values().cloned().collect();
        let replicas: Vec<_> = replicas
            .iter()
            .map(|replica| {
                let look = replica.look(None);
                let (rate, until_ms) = rates.get(&replica.lease).copied().unwrap_or_default();
                serde_json::json!({
                    "lease": replica.lease, "workload": hex::encode(replica.workload), "state": look.state.name(),
                    "words": look.words, "since_ms": look.since_ms, "cold_ms": look.cold_ms, "warm_us": look.warm_us,
                    "missing": look.missing, "requests": look.requests, "failures": look.failures,
                    "starts": look.starts, "fuel": look.fuel, "bytes_in": look.bytes_in, "bytes_out": look.bytes_out,
                    "due_wei": look.due.wei.to_string(), "calls": look.due.calls,
                    "memory_peak_bytes": look.memory_peak_bytes, "cpu_ms": look.used.map(|used| used.cpu_ms),
                    "memory_bytes": look.used.map(|used| used.memory_bytes),
                    "disk_bytes": look.used.map(|used| used.disk_bytes), "rate_wei": rate.to_string(), "until_ms": until_ms,
                })
            })
            .collect();
        let record = lock(record).clone();
        let watched = self.watched();
        let dims = |capacity: hodei_types::market::Capacity| {
            let [cpu, memory, disk, bandwidth, transfer] = capacity.dims();
            serde_json::json!({
                "cpu_milli": cpu, "memory_bytes": memory, "disk_bytes": disk, "bandwidth_bits": bandwidth,
                "transfer_bytes": transfer,
            })
        };
        serde_json::json!({
            "capacity": dims(config.capacity()),
            "free": record.as_ref().map(|record| dims(record.free)),
            "runtime": self.0.containers.as_ref().map_or("wasm", |containers| containers.runtime.name()),
            "registered": record.is_some(),
            "retired": self.is_retired(),
            "collateral_wei": record.as_ref().map(|record| record.collateral.to_string()),
            "markup_bp": record.as_ref().map(|record| record.markupBp),
            "earned_wei": lock(earned).to_string(),
            "idle": lock(idle).clone(),
            "replicas": replicas,
            "watch": {
                "leases": watched.leases, "hosts": watched.hosts, "missed": watched.missed,
                "accused": watched.accused, "refuted": watched.refuted,
            },
        })
    }

    fn is_retired(&self) -> bool {
        self.0.is_retired.load(Ordering::Relaxed)
    }

    fn chain(&self) -> &dyn Chain {
        &*self.0.parts.chain
    }

    fn replica(&self, lease: u64) -> Option<Arc<Replica>> {
        lock(&self.0.replicas).get(&lease).cloned()
    }
}

/// What runs containers on this machine, if all that takes is there.
fn containers(home: &Home, config: &config::Compute, node: NodeKey) -> Result<Containers, HostError> {
    #[cfg(target_os = "linux")]
    let runtime = oci::find(config, home.path().join("containers")).map_err(HostError::Engine)?;
    #[cfg(not(target_os = "linux"))]
    let runtime = Err::<Arc<dyn runtime::Runtime>, _>(HostError::Engine("containers run on Linux alone".into()))?;
    let images = Images::open(home.path().join("images"), config.disk_bytes)?;
    Containers::new(runtime, images, node, home.path().join("placed")).map_err(HostError::Placed)
}
