//! Play the ledger for hosts: orders, leases, who watches them and where hosts are, as a test sets them.

use super::CHAIN_ID;
use alloy_primitives::{Address, B256, Bytes, keccak256};
use alloy_sol_types::{SolCall, SolError, SolInterface, SolValue};
use futures::{FutureExt, future::BoxFuture};
use hodei_types::{
    abi::{
        BUDGETS, ILeases, ILevels, IMarket, LEASES, LEVELS, MARKET, alive_statement, pack_addresses,
        unreachable_statement,
    },
    ack::is_signed,
    chain::{self, AnchorProof, Certificate, Chain, ChainError, Head, LogFilter, TxReceipt},
    market::WATCHERS_NEEDED,
    transport::NodeKey,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Instant,
};

/// Time on this ledger when it began, in milliseconds.
const NOW_MS: u64 = 1_000_000;
/// The first round of watching, and how long each takes.
const ROUND: u64 = 7;
const ROUND_SECS: u64 = 60;
/// So long may a suspect host show itself: less than on the real one.
const SUSPECT_MS: u64 = 5_000;

/// Each lease is of an order of its own number, if it is not said; nothing happens but what is set, and what watchers and
/// hosts say of each other.
pub(super) struct Leased {
    begun: Instant,
    leases: Mutex<BTreeMap<u64, ILeases::Lease>>,
    hosts: Mutex<BTreeMap<B256, SocketAddr>>,
    /// Who watches a lease, and where it goes when its host is lost.
    watched: Mutex<BTreeMap<u64, (Vec<B256>, B256)>>,
    /// Leases whose start is promised: within how many seconds, and until when.
    promised: Mutex<BTreeMap<u64, (u16, u64)>>,
    /// Leases that their host said it took up, as often as it did.
    started: Mutex<Vec<u64>>,
    /// Transactions that did something; each is in a block at once.
    taken: Mutex<Vec<B256>>,
}

impl Leased {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self {
            begun: Instant::now(),
            leases: Mutex::default(),
            hosts: Mutex::default(),
            watched: Mutex::default(),
            promised: Mutex::default(),
            started: Mutex::default(),
            taken: Mutex::default(),
        })
    }

    /// Leases so much memory on a host for a workload, from now on.
    pub(super) fn lease(&self, id: u64, node: B256, workload: [u8; 32], memory_bytes: u64) {
        self.lease_of(id, id, node, workload, memory_bytes);
    }

    /// Leases all that a small container needs on a host, from now on.
    #[allow(dead_code, reason = "containers have a test program of their own")]
    pub(super) fn lease_whole(&self, id: u64, node: B256, workload: [u8; 32]) {
        // Nobody sees it before it is whole.
        let elsewhere = Self::new();
        elsewhere.lease(id, node, workload, 64 << 20);
        let mut lease = elsewhere.get(id).expect("it was leased");
        (lease.capacity.cpuMilli, lease.capacity.diskBytes) = (1000, 128 << 20);
        self.leases.lock().unwrap().insert(id, lease);
    }

    /// The same of memory, as one more of an order.
    pub(super) fn lease_of(&self, order: u64, id: u64, node: B256, workload: [u8; 32], memory_bytes: u64) {
        let mut lease = ILeases::Lease::abi_decode(&[0; 32 * 64]).expect("all of its fields may be zero");
        (lease.id, lease.order, lease.node, lease.workload) = (id, order, node, workload.into());
        (lease.state, lease.rate, lease.left, lease.untilMs) = (1, 1, 1_000_000, NOW_MS + 1_000_000);
        lease.capacity.memoryBytes = memory_bytes;
        self.leases.lock().unwrap().insert(id, lease);
    }

    /// Leases so much memory on call for an owner, at a price of calls and with so much in escrow.
    pub(super) fn on_call(
        &self,
        id: u64,
        owner: Address,
        node: B256,
        workload: [u8; 32],
        (memory_bytes, rate, left): (u64, u128, u128),
    ) {
        // Nobody sees it before it is whole.
        let elsewhere = Self::new();
        elsewhere.lease(id, node, workload, memory_bytes);
        let mut lease = elsewhere.get(id).expect("it was leased");
        (lease.owner, lease.callRate, lease.left) = (owner, rate, left);
        self.leases.lock().unwrap().insert(id, lease);
    }

    /// Has a lease watched by these, and go on with that host if its own is lost.
    pub(super) fn watch(&self, id: u64, watchers: Vec<B256>, next: B256) {
        self.watched.lock().unwrap().insert(id, (watchers, next));
    }

    /// Says that a lease's host is not reached, as if its watchers had.
    pub(super) fn suspect(&self, id: u64, within_ms: u64) {
        let lost_ms = self.now_ms() + within_ms;
        let mut leases = self.leases.lock().unwrap();
        let lease = leases.get_mut(&id).expect("it was leased");
        (lease.generation, lease.lostMs) = (lease.generation + 1, lost_ms);
    }

    /// Has a lease taken up within so many seconds from now, by promise.
    pub(super) fn promise(&self, id: u64, secs: u16) {
        let until_ms = self.now_ms() + u64::from(secs) * 1000;
        self.promised.lock().unwrap().insert(id, (secs, until_ms));
    }

    pub(super) fn started(&self) -> Vec<u64> {
        self.started.lock().unwrap().clone()
    }

    pub(super) fn get(&self, id: u64) -> Option<ILeases::Lease> {
        self.leases.lock().unwrap().get(&id).cloned()
    }

    fn round(&self) -> u64 {
        ROUND + self.begun.elapsed().as_secs() / ROUND_SECS
    }

    fn now_ms(&self) -> u64 {
        NOW_MS + self.begun.elapsed().as_millis() as u64
    }

    /// Does what a transaction says, if this ledger knows such and it is right.
    fn take(&self, raw: &[u8]) -> Option<()> {
        let call = |selector: [u8; 4]| raw.windows(4).position(|bytes| bytes == selector).map(|at| &raw[at..]);
        if let Some(data) = call(ILeases::unreachableCall::SELECTOR) {
            let call = ILeases::unreachableCall::abi_decode(data).ok()?;
            let (watchers, _) = self.watched.lock().unwrap().get(&call.lease).cloned()?;
            let generation = self.get(call.lease).filter(|lease| lease.lostMs == 0)?.generation;
            let message = unreachable_statement(CHAIN_ID, call.lease, generation, call.round);
            let signed = watchers.iter().zip(&call.signatures);
            let right = signed.filter(|(node, signature)| is_signed(&NodeKey(node.0), &message, signature)).count();
            let is_now = [self.round(), self.round() - 1].contains(&call.round);
            (is_now && right >= WATCHERS_NEEDED).then(|| self.suspect(call.lease, SUSPECT_MS))
        } else if let Some(data) = call(ILeases::aliveCall::SELECTOR) {
            let call = ILeases::aliveCall::abi_decode(data).ok()?;
            let mut leases = self.leases.lock().unwrap();
            let lease = leases.get_mut(&call.lease).filter(|lease| lease.lostMs != 0)?;
            let message = alive_statement(CHAIN_ID, call.lease, lease.generation);
            is_signed(&NodeKey(lease.node.0), &message, &call.signature).then(|| lease.lostMs = 0)
        } else if let Some(data) = call(ILeases::claimCall::SELECTOR) {
            let call = ILeases::claimCall::abi_decode(data).ok()?;
            let mut leases = self.leases.lock().unwrap();
            let lease = leases.get_mut(&call.lease).filter(|lease| lease.callRate > 0)?;
            let amount = call.total.checked_sub(lease.claimed)?.min(lease.left);
            (lease.claimed, lease.left) = (lease.claimed + amount, lease.left - amount);
            Some(())
        } else if let Some(data) = call(ILevels::startedCall::SELECTOR) {
            self.started.lock().unwrap().extend(ILevels::startedCall::abi_decode(data).ok()?.leases);
            Some(())
        } else {
            let call = ILeases::touchCall::abi_decode(call(ILeases::touchCall::SELECTOR)?).ok()?;
            let [id] = call.leases[..] else { return None };
            let lease = self.get(id).filter(|lease| lease.lostMs != 0 && self.now_ms() >= lease.lostMs)?;
            let (_, next) = self.watched.lock().unwrap().get(&id).cloned()?;
            self.end(id);
            let new = self.leases.lock().unwrap().len() as u64 + 1;
            self.lease_of(lease.order, new, next, lease.workload.0, lease.capacity.memoryBytes);
            Some(())
        }
    }

    pub(super) fn end(&self, id: u64) {
        self.leases.lock().unwrap().get_mut(&id).expect("it was leased").state = 2;
    }

    /// Says where a host is.
    pub(super) fn host(&self, node: B256, address: SocketAddr) {
        self.hosts.lock().unwrap().insert(node, address);
    }

    fn market(&self, data: &[u8]) -> Option<Vec<u8>> {
        match IMarket::IMarketCalls::abi_decode(data).ok()? {
            IMarket::IMarketCalls::get(call) => {
                let address = *self.hosts.lock().unwrap().get(&call.node)?;
                Some(self.record(call.node, address).abi_encode())
            }
            IMarket::IMarketCalls::count(_) => {
                let count = self.hosts.lock().unwrap().len() as u64;
                Some(IMarket::countCall::abi_encode_returns(&count))
            }
            IMarket::IMarketCalls::page(_) => {
                let hosts = self.hosts.lock().unwrap().clone();
                let page: Vec<_> = hosts.into_iter().map(|(node, address)| self.record(node, address)).collect();
                Some(IMarket::pageCall::abi_encode_returns(&page))
            }
            IMarket::IMarketCalls::placed(call) => {
                let leases = self.leases.lock().unwrap();
                let mut its = leases.values().filter(|lease| lease.order == call.id);
                let lease = its.next()?;
                let running = leases.values().filter(|lease| lease.order == call.id && lease.state == 1);
                let zeros = vec![0; 32 * 128];
                let mut placed = IMarket::Placed::abi_decode(&zeros).expect("all of its fields may be zero");
                (placed.id, placed.firstLease) = (lease.order, lease.id);
                placed.leases = running.map(|lease| lease.id).collect();
                (placed.order.replicas, placed.order.workload) = (placed.leases.len() as u8, lease.workload);
                Some(placed.abi_encode())
            }
            IMarket::IMarketCalls::ofOwner(_) => {
                let orders = self.leases.lock().unwrap().values().map(|lease| lease.order).collect::<BTreeSet<_>>();
                let ids: Vec<u64> = orders.into_iter().collect();
                Some(IMarket::ofOwnerCall::abi_encode_returns(&ids))
            }
            IMarket::IMarketCalls::depth(_) => Some(IMarket::depthCall::abi_encode_returns(&Vec::new())),
            _ => None,
        }
    }

    fn record(&self, node: B256, address: SocketAddr) -> IMarket::Host {
        let zeros = [&[0; 31][..], &[32], &[0; 32 * 96]].concat();
        let mut host = IMarket::Host::abi_decode(&zeros).expect("all of its fields may be zero");
        (host.node, host.offer.addresses) = (node, pack_addresses(&[address]));
        host.free.memoryBytes = 1 << 30;
        let leases = self.leases.lock().unwrap();
        host.leases = leases.values().filter(|lease| lease.node == node && lease.state == 1).count() as u64;
        host
    }

    fn levels(&self, data: &[u8]) -> Option<Vec<u8>> {
        let ILevels::ILevelsCalls::of(call) = ILevels::ILevelsCalls::abi_decode(data).ok()? else { return None };
        let promised = self.promised.lock().unwrap();
        let held = |lease: u64| {
            let mut held = ILevels::Held::abi_decode(&[0; 32 * 10]).expect("all of its fields may be zero");
            held.lease = lease;
            if let Some((secs, until_ms)) = promised.get(&lease) {
                (held.level.availabilityBp, held.level.startSecs) = (9_900, *secs);
                held.startUntilMs = *until_ms;
            }
            held
        };
        let held: Vec<_> = call.leases.into_iter().map(held).collect();
        Some(ILevels::ofCall::abi_encode_returns(&held))
    }

    fn leased(&self, data: &[u8]) -> Option<Vec<u8>> {
        let leases = self.leases.lock().unwrap();
        match ILeases::ILeasesCalls::abi_decode(data).ok()? {
            ILeases::ILeasesCalls::ofHost(call) => {
                let its = leases.values().filter(|lease| lease.node == call.node && lease.state == 1);
                let ids: Vec<u64> = its.map(|lease| lease.id).collect();
                Some(ILeases::ofHostCall::abi_encode_returns(&ids))
            }
            ILeases::ILeasesCalls::many(call) => {
                let many: Option<Vec<_>> = call.leases.iter().map(|id| leases.get(id).cloned()).collect();
                Some(ILeases::manyCall::abi_encode_returns(&many?))
            }
            ILeases::ILeasesCalls::round(_) => {
                let round = ILeases::roundReturn { index: self.round(), endsMs: NOW_MS * 2 };
                Some(ILeases::roundCall::abi_encode_returns(&round))
            }
            ILeases::ILeasesCalls::watchersOf(call) => {
                let watched = self.watched.lock().unwrap();
                let nodes = |id: &u64| watched.get(id).map(|(watchers, _)| watchers.clone()).unwrap_or_default();
                let nodes: Vec<_> = call.leases.iter().map(nodes).collect();
                Some(ILeases::watchersOfCall::abi_encode_returns(&nodes))
            }
            _ => None,
        }
    }
}

fn played<T>() -> Result<T, ChainError> {
    Err(ChainError::Unavailable("played".into()))
}

impl Chain for Leased {
    fn head(&self) -> BoxFuture<'_, Result<Head, ChainError>> {
        let (hash, genesis) = (B256::ZERO, B256::ZERO);
        // A block a second, and nothing in them.
        let (height, time_ms) = (1 + self.begun.elapsed().as_secs(), self.now_ms());
        let head = Head { height, hash, time_ms, base_fee: 1_000_000, chain_id: CHAIN_ID, genesis };
        async move { Ok(head) }.boxed()
    }

    fn wait(&self, _: u64) -> BoxFuture<'_, Result<Head, ChainError>> {
        std::future::pending().boxed()
    }

    fn certificate(&self, _: u64) -> BoxFuture<'_, Result<Certificate, ChainError>> {
        async { played() }.boxed()
    }

    fn account(&self, _: Address) -> BoxFuture<'_, Result<chain::Account, ChainError>> {
        async { Ok(chain::Account::default()) }.boxed()
    }

    fn submit(&self, raw: Bytes) -> BoxFuture<'_, Result<B256, ChainError>> {
        let hash = keccak256(&raw);
        let taken = self.take(&raw).map(|()| self.taken.lock().unwrap().push(hash));
        async move { taken.map(|()| hash).ok_or_else(|| ChainError::Refused("played".into())) }.boxed()
    }

    fn receipt(&self, tx: B256) -> BoxFuture<'_, Result<Option<TxReceipt>, ChainError>> {
        let is_known = self.taken.lock().unwrap().contains(&tx);
        let receipt = TxReceipt { tx, height: 1, success: true, gas_used: 1, logs: vec![], output: Bytes::new() };
        async move { Ok(is_known.then_some(receipt)) }.boxed()
    }

    fn call(&self, _: Address, to: Address, data: Bytes) -> BoxFuture<'_, Result<Bytes, ChainError>> {
        let answer = match to {
            MARKET => self.market(&data),
            LEASES => self.leased(&data),
            // Nobody has a budget.
            BUDGETS => Some(Address::ZERO.abi_encode()),
            LEVELS => self.levels(&data),
            _ => None,
        };
        let unknown = IMarket::UnknownHost { node: B256::ZERO }.abi_encode();
        async move { answer.map(Bytes::from).ok_or(ChainError::Reverted(unknown.into())) }.boxed()
    }

    fn logs(&self, _: LogFilter) -> BoxFuture<'_, Result<Vec<chain::Log>, ChainError>> {
        async { Ok(Vec::new()) }.boxed()
    }

    fn anchor(&self, _: u64, _: Bytes) -> BoxFuture<'_, Result<AnchorProof, ChainError>> {
        async { played() }.boxed()
    }
}
