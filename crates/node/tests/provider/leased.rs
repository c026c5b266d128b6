//! Play the ledger for hosts: orders, leases and where hosts are, as a test sets them.

use super::CHAIN_ID;
use alloy_primitives::{Address, B256, Bytes};
use alloy_sol_types::{SolCall, SolError, SolInterface, SolValue};
use futures::{FutureExt, future::BoxFuture};
use hodei_types::{
    abi::{ILeases, IMarket, LEASES, MARKET, pack_addresses},
    chain::{self, AnchorProof, Certificate, Chain, ChainError, Head, LogFilter, TxReceipt},
};
use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{Arc, Mutex},
};

/// Time on this ledger, in milliseconds.
const NOW_MS: u64 = 1_000_000;

/// Each lease is of an order of its own number; nothing is taken and nothing happens but what is set.
#[derive(Default)]
pub(super) struct Leased {
    leases: Mutex<BTreeMap<u64, ILeases::Lease>>,
    hosts: Mutex<BTreeMap<B256, SocketAddr>>,
}

impl Leased {
    pub(super) fn new() -> Arc<Self> {
        Arc::default()
    }

    /// Leases so much memory on a host for a workload, from now on.
    pub(super) fn lease(&self, id: u64, node: B256, workload: [u8; 32], memory_bytes: u64) {
        let mut lease = ILeases::Lease::abi_decode(&[0; 32 * 64]).expect("all of its fields may be zero");
        (lease.id, lease.order, lease.node, lease.workload) = (id, id, node, workload.into());
        (lease.state, lease.rate, lease.left, lease.untilMs) = (1, 1, 1_000_000, NOW_MS + 1_000_000);
        lease.capacity.memoryBytes = memory_bytes;
        self.leases.lock().unwrap().insert(id, lease);
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
                let zeros = [&[0; 31][..], &[32], &[0; 32 * 96]].concat();
                let mut host = IMarket::Host::abi_decode(&zeros).expect("all of its fields may be zero");
                (host.node, host.offer.addresses) = (call.node, pack_addresses(&[address]));
                Some(host.abi_encode())
            }
            IMarket::IMarketCalls::placed(call) => {
                let lease = self.leases.lock().unwrap().get(&call.id).cloned()?;
                let zeros = vec![0; 32 * 128];
                let mut placed = IMarket::Placed::abi_decode(&zeros).expect("all of its fields may be zero");
                (placed.id, placed.firstLease) = (lease.order, lease.id);
                (placed.order.replicas, placed.order.workload) = (1, lease.workload);
                Some(placed.abi_encode())
            }
            IMarket::IMarketCalls::ofOwner(_) => {
                let ids: Vec<u64> = self.leases.lock().unwrap().keys().copied().collect();
                Some(IMarket::ofOwnerCall::abi_encode_returns(&ids))
            }
            IMarket::IMarketCalls::depth(_) => Some(IMarket::depthCall::abi_encode_returns(&Vec::new())),
            _ => None,
        }
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
        let head = Head { height: 1, hash, time_ms: NOW_MS, base_fee: 1_000_000, chain_id: CHAIN_ID, genesis };
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

    fn submit(&self, _: Bytes) -> BoxFuture<'_, Result<B256, ChainError>> {
        async { played() }.boxed()
    }

    fn receipt(&self, _: B256) -> BoxFuture<'_, Result<Option<TxReceipt>, ChainError>> {
        async { Ok(None) }.boxed()
    }

    fn call(&self, _: Address, to: Address, data: Bytes) -> BoxFuture<'_, Result<Bytes, ChainError>> {
        let answer = match to {
            MARKET => self.market(&data),
            LEASES => self.leased(&data),
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
