//! Run an app on other people's machines, pay for it by the second or by the call, and keep it running.
//!
//! ```text
//! app.toml ─ check ─► Spec ─ book ─► Plan ─ order ─► leases ─ give ─► replicas ─ ready ─► routes
//!                                                      ▲                            │
//!                                                      └── end, order elsewhere ◄── look, each few seconds
//! ```
//! A wallet's [`Apps`] are its records and what the ledger says of their leases: everything is paid from the wallet's
//! spending account, so that a budget's cap holds, and what is left of a lease comes back to its owner. What is looked
//! at is what a replica's host says of itself; what is paid, and to whom, is the ledger's.

mod archive;
mod asking;
mod change;
mod contained;
mod deploy;
mod draft;
mod drill;
mod gate;
mod host;
mod inside;
mod keep;
mod lack;
mod level;
mod pay;
mod plan;
mod project;
mod record;
mod release;
mod route;
mod show;
mod spare;
mod spec;
mod statement;
mod told;
mod transcript;
mod unit;
mod update;
mod upkeep;
mod volume;
mod wrong;

pub use archive::{Carried, pack, unpack};
pub use change::{Deleted, Renewed};
pub use contained::Contained;
pub use deploy::{Deployed, Payload, Step};
pub use draft::{Draft, FILE_BYTES_MAX, Health, Lines, Unread};
pub use drill::Drilled;
pub use gate::Gate;
pub use hodei_types::app::wire::{Exec, Way};
pub use host::{HostError, Question, Reply, request};
pub use inside::{Entrance, Streams, fits as enter_fits};
pub use lack::NoOffer;
pub use level::{Broke, Promised};
pub use pay::Pay;
pub use plan::{Place, Plan, Stands};
pub use project::Project;
pub use record::Record;
pub use release::Release;
pub use route::{Pick, Route, Routes};
pub use show::{Bill, Running, Shown, Stray};
pub use spec::{Broken, Runs, Spec};
pub use statement::Statement;
pub use told::Told;
pub use transcript::Answered;
pub(crate) use unit::thousandths;
pub use unit::{cpus, secs, size, span};
pub use update::{Retired, Updated, Upgrade};
pub use volume::{Bucket, Folder, Head, Snapshotted, Taped, Vault, Vaults, VolumeDraft, Volumed, volume_flag};
pub use wrong::{WRONGS_MAX, Wrong};

use crate::{fault::Fault, image::Blobs, moves::event, share::Drawer, wallet::Wallet};
use alloy_primitives::{B256, U256};
use alloy_sol_types::SolCall as _;
use hodei_ledger::account::Order as Transaction;
use hodei_types::{
    abi::{BATCH_MAX, ILeases, IMarket, LEASES, MARKET, PAGE_MAX},
    ack::Signer,
    app::Manifest,
    call::ask,
    chain::{Chain, ChainError},
    market::Order,
    transport::{NodeKey, Peer, Transport},
};
use record::Shelf;
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

/// A lease's state while it is paid.
const RUNNING: u8 = 1;
/// An order's while it has no leases yet.
const WAITING: u8 = 1;
/// Where a host is reached is read again after this.
const PEER_AGE: Duration = Duration::from_secs(60);
/// Leases of anybody that are looked through for those of an order that lost hosts.
const BETWEEN_MAX: u64 = 4096;
/// Blocks an order is looked for that nobody could say whether it is final.
const LATE_BLOCKS: u64 = 10;

/// The apps of one wallet; clones share what they know.
#[derive(Clone)]
pub struct Apps<T> {
    wallet: Wallet,
    link: T,
    shelf: Shelf,
    genesis: B256,
    chain_id: u64,
    peers: Arc<Mutex<BTreeMap<NodeKey, (Instant, Peer)>>>,
    /// What of containers is given to hosts, and how many bytes of it each lease's host has taken.
    blobs: Blobs,
    given: Arc<Mutex<BTreeMap<u64, (u64, u64)>>>,
    /// By lease, of those on call.
    pays: Arc<Mutex<BTreeMap<u64, Arc<Pay>>>>,
    /// Where snapshots of volumes are kept.
    vaults: Option<Arc<dyn Vaults>>,
}

/// Milliseconds since 1970.
fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}

impl<T: Transport> Apps<T> {
    /// Of a wallet whose records are in `drawer` and whose images' blobs are in `blobs`, on the network of that genesis
    /// and chain id.
    pub fn new(
        wallet: Wallet,
        link: T,
        (drawer, blobs): (Arc<dyn Drawer>, Blobs),
        (genesis, chain_id): (B256, u64),
    ) -> Self {
        let (peers, given, pays) = (Arc::default(), Arc::default(), Arc::default());
        Self { wallet, link, shelf: Shelf(drawer), genesis, chain_id, peers, blobs, given, pays, vaults: None }
    }

    /// The same, with places to keep snapshots of volumes in.
    pub fn with_vaults(self, vaults: Arc<dyn Vaults>) -> Self {
        Self { vaults: Some(vaults), ..self }
    }

    /// For a program that ends: brings to an end what was begun with snapshots.
    pub async fn close(&self) -> Result<(), Fault> {
        match &self.vaults {
            Some(vaults) => vaults.close().await,
            None => Ok(()),
        }
    }

    /// Where images' blobs are kept.
    pub fn blobs(&self) -> &Blobs {
        &self.blobs
    }

    pub fn link(&self) -> &T {
        &self.link
    }

    pub fn wallet(&self) -> &Wallet {
        &self.wallet
    }

    fn chain(&self) -> &dyn Chain {
        &**self.wallet.chain()
    }

    /// Names of the apps that are recorded here.
    pub fn names(&self) -> Result<Vec<String>, Fault> {
        self.shelf.names()
    }

    /// An app that is recorded here.
    pub fn record(&self, name: &str) -> Result<Record, Fault> {
        self.shelf.load(name)?.ok_or_else(|| Fault::NoApp(name.to_owned()))
    }

    /// Where an app's replicas would go now, and what they cost.
    pub async fn plan(&self, spec: &Spec, lines: &Lines) -> Result<Plan, Fault> {
        if self.shelf.load(&spec.name)?.is_some() {
            return Err(Fault::AppExists(spec.name.clone()));
        }
        Plan::of(self.chain(), spec, lines).await
    }

    /// What hosts are given; refused if it is none that they could run.
    pub fn manifest(&self, spec: &Spec, payload: &Payload<'_>) -> Result<Manifest, Fault> {
        let viewer = self.viewer(&spec.name).node();
        match (&spec.runs, payload) {
            (Runs::Component(file), Payload::Component(wasm)) => {
                check_component(file, wasm)?;
                Ok(Manifest::new(&spec.name, wasm, spec.limits, viewer)?)
            }
            (Runs::Container(contained), Payload::Image(image)) => {
                // The same for the same app and image, and known to nobody who does not have the wallet.
                let seed = self.wallet.viewer_seed(&self.genesis, &spec.name);
                let salt = blake3::keyed_hash(&seed, &image.digest);
                let salt = salt.as_bytes().first_chunk().copied().expect("half of a hash");
                Ok(Manifest::of_container(&spec.name, contained.container(image, salt)?, spec.limits, viewer)?)
            }
            (Runs::Container(contained), Payload::Same(container)) => {
                Ok(Manifest::of_container(&spec.name, contained.over(container), spec.limits, viewer)?)
            }
            (Runs::Component(what), _) => Err(Fault::Component(what.clone(), "it is an image".into())),
            (Runs::Container(what), _) => Err(Fault::Component(what.image.clone(), "it is no image".into())),
        }
    }

    /// Signs that this wallet may read what its app prints.
    fn viewer(&self, app: &str) -> Signer {
        Signer::new(&self.wallet.viewer_seed(&self.genesis, app))
    }

    /// Where a host is reached.
    async fn peer(&self, node: NodeKey) -> Result<Peer, Fault> {
        let known = self.peers.lock().expect("no panic under this lock").get(&node).cloned();
        if let Some((_, peer)) = known.filter(|(read, _)| read.elapsed() < PEER_AGE) {
            return Ok(peer);
        }
        let peer = plan::peer(&ask(self.chain(), MARKET, &IMarket::getCall { node: node.0.into() }).await?);
        self.peers.lock().expect("no panic under this lock").insert(node, (Instant::now(), peer.clone()));
        Ok(peer)
    }

    /// The last lease of each replica of the release of an app that runs, and its last deputy, those that ended too.
    async fn leases(&self, record: &Record) -> Result<Vec<ILeases::Lease>, Fault> {
        let (replicas, _) = spare::split(self.leases_by(record.orders.iter().copied()).await?);
        Ok(replicas)
    }

    /// The last lease of each replica of these orders, and its last deputy.
    async fn leases_by(&self, orders: impl Iterator<Item = u64>) -> Result<Vec<ILeases::Lease>, Fault> {
        let mut ids = Vec::new();
        for order in orders {
            ids.extend(self.placed(order).await?.leases);
        }
        self.leases_of(&ids).await
    }

    /// All leases an app ever had, with those that were lost and that the ledger placed again.
    async fn all_leases(&self, record: &Record) -> Result<Vec<ILeases::Lease>, Fault> {
        let mut ids = Vec::new();
        for order in record.all_orders() {
            let placed = self.placed(order).await?;
            let Some(last) = placed.leases.iter().copied().max() else { continue };
            // What came between is of this order or of others'.
            let most = placed.firstLease.saturating_add(BETWEEN_MAX);
            let between = placed.firstLease..=last.min(most);
            let is_as_placed = placed.lost.is_empty() && placed.leases.len() <= usize::from(placed.order.replicas);
            match is_as_placed {
                true => ids.extend(placed.leases),
                false => ids.extend(between.chain(placed.leases.into_iter().filter(|lease| *lease > most))),
            }
        }
        let mut leases = self.leases_of(&ids).await?;
        leases.retain(|lease| record.orders.contains(&lease.order) || record.others.contains_key(&lease.order));
        Ok(leases)
    }

    async fn leases_of(&self, ids: &[u64]) -> Result<Vec<ILeases::Lease>, Fault> {
        let mut leases = Vec::new();
        for batch in ids.chunks(BATCH_MAX) {
            leases.extend(ask(self.chain(), LEASES, &ILeases::manyCall { leases: batch.to_vec() }).await?);
        }
        Ok(leases)
    }

    async fn placed(&self, order: u64) -> Result<IMarket::Placed, ChainError> {
        ask(self.chain(), MARKET, &IMarket::placedCall { id: order }).await
    }

    /// Orders of this wallet's owner that wait or have leases, by the ledger alone.
    async fn standing(&self) -> Result<Vec<IMarket::Placed>, Fault> {
        let owner = self.wallet.owner();
        let ids = crate::market::listed(|first| async move {
            ask(self.chain(), MARKET, &IMarket::ofOwnerCall { owner, first, most: PAGE_MAX }).await
        });
        let mut orders = Vec::new();
        for id in ids.await? {
            orders.push(self.placed(id).await?);
        }
        Ok(orders)
    }

    /// Makes an order of an app, and records it; returns once it is final.
    async fn order(&self, name: &str, release: u32, plan: &Plan) -> Result<u64, Fault> {
        let call = IMarket::orderCall { terms: plan.terms.clone() };
        let before = self.standing().await?.iter().map(|order| order.id).max().unwrap_or(0);
        let sent = Transaction::call(MARKET, call.abi_encode(), plan.gas()).with_value(plan.deposit);
        let order = match self.wallet.run(&sent).await {
            Ok(logs) => {
                let told = logs.iter().filter(|log| log.address == MARKET).find_map(event::<IMarket::Ordered>);
                told.ok_or_else(|| Fault::Chain(ChainError::Invalid("an order without its event".into())))?.order
            }
            // It may be executed yet, and must not be made twice.
            Err(fault @ Fault::Chain(ChainError::Unavailable(_))) => {
                self.late_order(&plan.terms, before).await.ok_or(fault)?
            }
            Err(fault) => return Err(fault),
        };
        self.shelf.add_order(name, release, order)?;
        Ok(order)
    }

    /// An order with these terms that came after `before`, if one comes within some blocks.
    async fn late_order(&self, terms: &Order, before: u64) -> Option<u64> {
        let mut height = self.chain().head().await.ok()?.height;
        for _ in 0..LATE_BLOCKS {
            let standing = self.standing().await.ok()?;
            let found = standing.iter().find(|order| order.id > before && order.order == *terms);
            if let Some(order) = found {
                return Some(order.id);
            }
            height = self.chain().wait(height).await.ok()?.height;
        }
        None
    }
}

/// What begins a component, and what begins a module, which is none.
fn check_component(file: &str, wasm: &[u8]) -> Result<(), Fault> {
    let refused = |why: &str| Err(Fault::Component(file.to_owned(), why.to_owned()));
    match wasm {
        [0, b'a', b's', b'm', 0x0d, 0, 1, 0, rest @ ..] => {
            let exports = |name: &str| rest.windows(name.len()).any(|window| window == name.as_bytes());
            if exports("wasi:http/incoming-handler") || exports("wasi:cli/run") {
                return Ok(());
            }
            refused("it names neither wasi:http/incoming-handler nor wasi:cli/run, so that nobody could start it")
        }
        [0, b'a', b's', b'm', 1, 0, 0, 0, ..] => refused(
            "it is a core module: make a component of it, as by `wasm-tools component new`, or build for the target \
             wasm32-wasip2",
        ),
        _ => refused("it does not begin as wasm does"),
    }
}

/// Wei that a lease paid as settled, by the second and by the call.
fn paid(lease: &ILeases::Lease) -> U256 {
    U256::from(lease.rate) * U256::from(lease.paidSecs) + U256::from(lease.claimed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_component_is_refused_and_said_why() {
        let why = |wasm: &[u8]| match check_component("a.wasm", wasm) {
            Err(Fault::Component(_, why)) => why,
            other => panic!("{other:?}"),
        };
        assert!(why(b"\0asm\x01\0\0\0rest").contains("core module"));
        assert!(why(b"#!/bin/sh").contains("does not begin"));
        assert!(why(b"\0asm\x0d\0\x01\0other").contains("neither"));
        for name in ["wasi:http/incoming-handler@0.2.0", "wasi:cli/run@0.2.0"] {
            assert!(check_component("a.wasm", &[b"\0asm\x0d\0\x01\0..", name.as_bytes()].concat()).is_ok());
        }
    }
}
