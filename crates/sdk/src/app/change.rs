//! Give an app more replicas or fewer, pay for it longer, and end it.

use super::{
    Apps, RUNNING, WAITING,
    deploy::{READY_TIMEOUT, Step, deploying_until_ms},
    now_ms,
    plan::Plan,
    record::Record,
    statement::Statement,
};
use crate::{fault::Fault, wallet::Wallet};
use alloy_primitives::U256;
use alloy_sol_types::SolCall as _;
use hodei_ledger::account::Order as Transaction;
use hodei_types::{
    abi::{ILeases, IMarket, LEASES, MARKET},
    market::{EXCLUDE_MAX, LEASE_SECS_MIN},
    transport::{NodeKey, Transport},
};

const RENEW_GAS: u64 = 500_000;
const CANCEL_GAS: u64 = 500_000;

/// What became of leases that were ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Deleted {
    pub leases: usize,
    /// Wei that came back to the owner.
    pub refunded: U256,
    /// What an app paid in all, once it is over; none if the ledger keeps its blocks no longer.
    pub statement: Option<Statement>,
}

/// What a renewal would pay, or paid.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Renewed {
    /// Leases, and wei for each.
    pub leases: Vec<(u64, U256)>,
    pub secs: u64,
}

impl Renewed {
    /// Wei for all.
    pub fn wei(&self) -> U256 {
        self.leases.iter().map(|(_, wei)| *wei).sum()
    }
}

impl Wallet {
    /// Pays leases for longer. Where a host takes no renewals, the others are paid still, and that is told.
    pub async fn renew(&self, plan: &Renewed) -> Result<Vec<(u64, Fault)>, Fault> {
        self.afford(plan.wei()).await?;
        let mut refused = Vec::new();
        for (lease, wei) in &plan.leases {
            let call = ILeases::renewCall { lease: *lease };
            let order = Transaction::call(LEASES, call.abi_encode(), RENEW_GAS).with_value(*wei);
            match self.run(&order).await {
                Ok(_) => {}
                Err(fault @ Fault::Reverted(_)) => refused.push((*lease, fault)),
                Err(fault) => return Err(fault),
            }
        }
        Ok(refused)
    }
}

impl<T: Transport> Apps<T> {
    /// Its leases, without those that stand in for others: they end, or go on with what these have.
    async fn running(&self, record: &Record) -> Result<Vec<ILeases::Lease>, Fault> {
        let mut leases = self.leases(record).await?;
        leases.retain(|lease| lease.state == RUNNING && lease.deputyOf == 0);
        Ok(leases)
    }

    /// Where further replicas would go, to end with the others; none if no more are wanted than run.
    pub async fn plan_more(&self, name: &str, replicas: u8) -> Result<Option<Plan>, Fault> {
        let record = self.record(name)?;
        self.no_update(&record)?;
        if replicas > 1 {
            self.no_volumes(&record, "each replica would write a disk of its own")?;
        }
        let running = self.running(&record).await?;
        let more = usize::from(replicas).saturating_sub(running.len());
        let Some(until_ms) = running.iter().map(|lease| lease.untilMs).max().filter(|_| more > 0) else {
            return Ok(None);
        };
        let secs = (until_ms.saturating_sub(now_ms()) / 1000).max(LEASE_SECS_MIN);
        let hosts = running.iter().filter(|_| record.is_spread).map(|lease| NodeKey(lease.node.0));
        let mut exclude: Vec<NodeKey> = hosts.collect();
        exclude.sort_unstable();
        exclude.dedup();
        exclude.truncate(EXCLUDE_MAX);
        let terms = self.further(&record, more as u8, secs, &exclude).await?;
        Plan::of_terms(self.chain(), terms, true).await.map(Some)
    }

    /// Orders what was planned, and waits until that many replicas are ready.
    pub async fn scale_up(
        &self,
        name: &str,
        replicas: u8,
        plan: &Plan,
        tell: &mut (dyn FnMut(Step) + Send),
    ) -> Result<u64, Fault> {
        self.wallet.afford(plan.deposit).await?;
        let record = self.record(name)?;
        let order = self.order(name, record.release, plan).await?;
        tell(Step::Ordered { order });
        // Wanted only once they are there, so that nobody orders them besides.
        let record = self.record(name)?;
        let deploying_until_ms = deploying_until_ms(record.manifest.bytes());
        self.shelf.store(&Record { replicas, deploying_until_ms, ..record })?;
        let ready = self.until_ready((name, None), READY_TIMEOUT, replicas.into(), tell).await;
        let record = self.record(name)?;
        self.shelf.store(&Record { deploying_until_ms: 0, ..record })?;
        ready.map(|_| order)
    }

    /// Ends leases until that many are left, the dearest first.
    pub async fn scale_down(&self, name: &str, replicas: u8) -> Result<Deleted, Fault> {
        let record = self.record(name)?;
        self.no_update(&record)?;
        let mut running = self.running(&record).await?;
        running.sort_by_key(|lease| std::cmp::Reverse((lease.rate, lease.id)));
        let fewer = running.len().saturating_sub(replicas.into());
        // Before they end, so that nobody replaces them.
        self.shelf.store(&Record { replicas, ..record })?;
        running.truncate(fewer);
        self.pay_up(&self.record(name)?, &running).await?;
        let leases: Vec<u64> = running.iter().map(|lease| lease.id).collect();
        let ended = self.end(&leases).await?;
        let refunded = ended.iter().map(|lease| lease.refund).sum();
        Ok(Deleted { leases: ended.len(), refunded, statement: None })
    }

    /// What paying all of its replicas for so much longer takes.
    pub async fn plan_renewal(&self, name: &str, secs: u64) -> Result<Renewed, Fault> {
        let record = self.record(name)?;
        let of = |lease: &ILeases::Lease| (lease.id, U256::from(lease.rate) * U256::from(secs));
        Ok(Renewed { leases: self.running(&record).await?.iter().map(of).collect(), secs })
    }

    /// Pays it. Where a host takes no renewals, the others are paid still, and that is told.
    pub async fn renew(&self, plan: &Renewed) -> Result<Vec<(u64, Fault)>, Fault> {
        self.wallet.renew(plan).await
    }

    /// Ends an app: its leases, its orders that wait, and its record.
    pub async fn delete(&self, name: &str) -> Result<Deleted, Fault> {
        let record = self.record(name)?;
        self.shelf.store(&Record { replicas: 0, ..record.clone() })?;
        let record = self.adopt(record, &self.standing().await?)?;
        let ended = self.end_orders(&record, record.all_orders()).await?;
        // Orders that were made meanwhile are in the record as it is now.
        let now = self.record(name)?;
        let late = self.end_orders(&now, now.all_orders()).await?;
        let back = ended.refunded + late.refunded;
        let statement = self.statement(&now).await.ok();
        self.shelf.remove(&now)?;
        // What cannot be removed now is with the next app that ends.
        let named = self.shelf.blobs();
        let _ = named.map(|named| self.blobs.sweep(&named));
        Ok(Deleted { leases: ended.leases + late.leases, refunded: back, statement })
    }

    /// Ends orders of an app: those that wait, and the leases of the others that run.
    pub(super) async fn end_orders(
        &self,
        record: &Record,
        orders: impl Iterator<Item = u64>,
    ) -> Result<Deleted, Fault> {
        let (mut refunded, mut ids) = (U256::ZERO, Vec::new());
        for order in orders {
            let placed = self.placed(order).await?;
            if placed.state == WAITING {
                let call = IMarket::cancelCall { id: order }.abi_encode();
                self.wallet.run(&Transaction::call(MARKET, call, CANCEL_GAS)).await?;
                refunded += U256::from(placed.deposit);
            }
            ids.extend(placed.leases);
        }
        let mut running = self.leases_of(&ids).await?;
        running.retain(|lease| lease.state == RUNNING);
        self.pay_up(record, &running).await?;
        let running: Vec<u64> = running.iter().map(|lease| lease.id).collect();
        let ended = self.end(&running).await?;
        refunded += ended.iter().map(|lease| lease.refund).sum::<U256>();
        Ok(Deleted { leases: ended.len(), refunded, statement: None })
    }
}
