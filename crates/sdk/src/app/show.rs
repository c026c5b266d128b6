//! Tell how a wallet's apps are: where they run, what they cost, what they print.

use super::{Apps, RUNNING, WAITING, host, level::Broke, now_ms, paid, record::Record, spare, upkeep::Spot};
use crate::fault::Fault;
use alloy_primitives::{B256, U256};
use futures::future::join_all;
use hodei_types::{
    abi::{ILeases, IMarket},
    app::{Seal, wire::Replica},
    market::REGIONS,
    transport::{NodeKey, Peer, Transport},
};
use std::collections::{BTreeMap, BTreeSet};

/// What an app costs, by the ledger.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bill {
    /// Replicas that run.
    pub running: usize,
    /// Wei an hour, with what spare copies cost; of what is on call, for keeping it.
    pub hour: U256,
    /// Wei that were settled: what hosts got, and what was burned of it.
    pub paid: U256,
    /// Wei of that for calls.
    pub calls: U256,
    /// Wei that are owed and not settled.
    pub owed: U256,
    /// Wei in escrow beyond that.
    pub left: U256,
    /// When the first lease's escrow ends, in milliseconds since 1970.
    pub until_ms: Option<u64>,
}

impl Bill {
    fn of(leases: &[ILeases::Lease]) -> Self {
        let runs = |lease: &&ILeases::Lease| lease.state == RUNNING && !spare::is_copy(lease, leases);
        let running = leases.iter().filter(runs).count();
        let mut bill = Self { running, ..Self::default() };
        for lease in leases {
            bill.paid += paid(lease);
            bill.calls += U256::from(lease.claimed);
            if lease.state == RUNNING {
                bill.hour += U256::from(lease.rate) * U256::from(3600);
                bill.owed += U256::from(lease.owed);
                bill.left += U256::from(lease.left.saturating_sub(lease.owed));
                bill.until_ms = Some(bill.until_ms.map_or(lease.untilMs, |until| until.min(lease.untilMs)));
            }
        }
        bill
    }
}

/// One replica.
#[derive(Clone, Debug)]
pub struct Running {
    pub lease: ILeases::Lease,
    pub node: NodeKey,
    pub region: &'static str,
    pub zone: String,
    /// What its host says of it; none if that did not answer.
    pub replica: Option<Replica>,
}

/// An app with its replicas.
#[derive(Clone, Debug)]
pub struct Shown {
    pub record: Record,
    pub bill: Bill,
    /// Since when the term is over that its replicas were paid for, if none is paid for any more.
    pub over_ms: Option<u64>,
    pub replicas: Vec<Running>,
    /// Hosts that keep a copy.
    pub spares: Vec<Running>,
    /// Orders that wait for an offer, and until when.
    pub waiting: Vec<(u64, u64)>,
    /// Promises of hosts that were not kept; none if the ledger keeps the app's first blocks no longer.
    pub breaches: Option<Vec<Broke>>,
}

/// Orders of this wallet's owner that no record here is of: deployed from elsewhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stray {
    pub workload: B256,
    pub orders: Vec<u64>,
    pub replicas: usize,
}

impl<T: Transport> Apps<T> {
    /// All apps with what they cost, by the ledger alone, and what was deployed from elsewhere.
    pub async fn list(&self) -> Result<(Vec<(Record, Bill)>, Vec<Stray>), Fault> {
        let standing = self.standing().await?;
        let (mut apps, mut known) = (Vec::new(), BTreeSet::new());
        for name in self.names()? {
            let record = self.record(&name)?;
            let record = self.adopt(record, &standing)?;
            known.insert(B256::from(record.manifest.workload()));
            let bill = Bill::of(&self.all_leases(&record).await?);
            apps.push((record, bill));
        }
        let mut strays: Vec<Stray> = Vec::new();
        let recorded: BTreeSet<u64> = apps.iter().flat_map(|(record, _)| record.all_orders()).collect();
        let is_stray = |order: &&IMarket::Placed| {
            let is_known = known.contains(&order.order.workload) || recorded.contains(&order.id);
            !order.order.is_reservation() && !is_known
        };
        for order in standing.iter().filter(is_stray) {
            let workload = order.order.workload;
            let replicas = usize::from(order.order.replicas);
            match strays.iter_mut().find(|stray| stray.workload == workload) {
                Some(stray) => {
                    stray.orders.push(order.id);
                    stray.replicas += replicas;
                }
                None => strays.push(Stray { workload, orders: vec![order.id], replicas }),
            }
        }
        Ok((apps, strays))
    }

    /// Adds orders that the ledger knows of an app and its record does not: made by who was cut short, or elsewhere.
    pub(super) fn adopt(&self, mut record: Record, standing: &[IMarket::Placed]) -> Result<Record, Fault> {
        let name = record.manifest.name.clone();
        // First what is on its way: who brings it may be cut short between the order and its file.
        let staged = self.shelf.staged(&name)?;
        let staged = staged.map(|(record, _)| (record.release, B256::from(record.manifest.workload())));
        let workload = B256::from(record.manifest.workload());
        for order in standing {
            if record.orders.contains(&order.id) || record.others.contains_key(&order.id) {
                continue;
            }
            match staged {
                Some((release, of)) if of == order.order.workload => {
                    self.shelf.add_order(&name, release, order.id)?;
                    record.others.insert(order.id, release);
                }
                _ if workload == order.order.workload => {
                    self.shelf.add_order(&name, record.release, order.id)?;
                    record.orders.insert(order.id);
                }
                _ => {}
            }
        }
        Ok(record)
    }

    /// An app with what the hosts of its replicas say of them.
    pub async fn show(&self, name: &str) -> Result<Shown, Fault> {
        let record = self.record(name)?;
        let record = self.adopt(record, &self.standing().await?)?;
        let leases = self.all_leases(&record).await?;
        let bill = Bill::of(&leases);
        let (replicas, spares) = spare::split(self.leases_by(record.orders.iter().copied()).await?);
        let replicas = self.running_of(replicas).await?;
        let spares = self.running_of(spares).await?;
        let (mut waiting, mut terms) = (Vec::new(), BTreeMap::new());
        for order in &record.orders {
            let placed = self.placed(*order).await?;
            terms.insert(placed.id, placed.order.secs);
            if placed.state == WAITING {
                waiting.push((placed.id, placed.untilMs));
            }
        }
        let breaches = self.breaches(&record).await.ok();
        let over_ms = over_ms(&leases, &terms, now_ms());
        Ok(Shown { record, bill, over_ms, replicas, spares, waiting, breaches })
    }

    /// Those of these leases that run, with what their hosts say.
    async fn running_of(&self, leases: Vec<ILeases::Lease>) -> Result<Vec<Running>, Fault> {
        let mut running = Vec::new();
        for Spot { lease, replica, .. } in self.spots_of(leases).await {
            let host = self.host(NodeKey(lease.node.0)).await?;
            let region = REGIONS.get(usize::from(host.offer.region)).copied().unwrap_or("unknown");
            running.push(Running { node: NodeKey(lease.node.0), region, zone: host.offer.zone, replica, lease });
        }
        Ok(running)
    }

    async fn host(&self, node: NodeKey) -> Result<IMarket::Host, Fault> {
        let call = IMarket::getCall { node: node.0.into() };
        Ok(hodei_types::call::ask(self.chain(), hodei_types::abi::MARKET, &call).await?)
    }

    /// What each replica printed since byte `since` of its log, by lease; a host that does not answer says why.
    pub async fn logs(&self, name: &str, since: u64) -> Result<Vec<(u64, NodeKey, Result<Replica, String>)>, Fault> {
        let record = self.record(name)?;
        let leases = self.leases(&record).await?.into_iter().filter(|lease| lease.state == RUNNING);
        let asked = leases.map(|lease| async move {
            let node = NodeKey(lease.node.0);
            let said = match self.peer(node).await {
                Ok(peer) => self.log(name, &peer, lease.id, since).await,
                Err(fault) => Err(fault.to_string()),
            };
            (lease.id, node, said)
        });
        Ok(join_all(asked).await)
    }

    /// A look at one replica under this wallet's seal.
    pub(super) async fn log(&self, name: &str, peer: &Peer, lease: u64, since: u64) -> Result<Replica, String> {
        let at_ms = now_ms();
        let signature = self.viewer(name).sign(&Seal::bytes(self.chain_id, &peer.key, lease, at_ms));
        let looked = host::look(&self.link, peer, lease, (since, Some(Seal { at_ms, signature }))).await;
        looked.map_err(|error| error.to_string())
    }
}

/// When the last of these leases was paid for, if that was to its end and none is any more; `terms` are the seconds that
/// each order paid for.
fn over_ms(leases: &[ILeases::Lease], terms: &BTreeMap<u64, u64>, now_ms: u64) -> Option<u64> {
    if leases.iter().any(|lease| lease.state == RUNNING && lease.untilMs > now_ms) {
        return None;
    }
    let is_over = |lease: &&ILeases::Lease| {
        lease.state == RUNNING || terms.get(&lease.order).is_some_and(|secs| lease.paidSecs >= *secs)
    };
    leases.iter().filter(is_over).map(|lease| lease.untilMs).max()
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in crate::app) fn lease(state: u8, rate: u128, paid_secs: u64, left: u128, owed: u128) -> ILeases::Lease {
        ILeases::Lease {
            id: 1,
            order: 1,
            owner: Default::default(),
            node: Default::default(),
            state,
            preemptible: false,
            capacity: Default::default(),
            rate,
            left,
            owed,
            paidSecs: paid_secs,
            begunMs: 0,
            untilMs: 1000 * left as u64,
            workload: Default::default(),
            replica: 0,
            generation: 0,
            lostMs: 0,
            callRate: 0,
            claimed: 3,
            via: 0,
            deputyOf: 0,
        }
    }

    #[test]
    fn a_bill_counts_what_ended_as_paid_and_only_what_runs_as_cost() {
        let bill = Bill::of(&[lease(1, 10, 6, 100, 30), lease(2, 7, 60, 0, 0), lease(1, 5, 0, 50, 0)]);
        assert_eq!((bill.running, bill.hour), (2, U256::from(15 * 3600)));
        assert_eq!((bill.paid, bill.calls), (U256::from(60 + 420 + 9), U256::from(9)));
        assert_eq!((bill.owed, bill.left), (U256::from(30), U256::from(70 + 50)));
        assert_eq!(bill.until_ms, Some(50_000));
        assert_eq!(Bill::of(&[]), Bill::default());
    }

    #[test]
    fn an_app_whose_leases_were_paid_to_their_end_says_since_when_it_is_over() {
        let terms = BTreeMap::from([(1, 60)]);
        let at = |state, paid_secs, until| lease(state, 1, paid_secs, until, 0);
        assert_eq!(over_ms(&[at(2, 60, 70)], &terms, 80_000), Some(70_000), "of one lease too");
        assert_eq!(over_ms(&[at(2, 60, 70), at(1, 0, 75)], &terms, 80_000), Some(75_000));
        assert_eq!(over_ms(&[at(2, 60, 70), at(1, 0, 90)], &terms, 80_000), None, "one runs");
        assert_eq!(over_ms(&[at(2, 30, 70)], &terms, 80_000), None, "ended early");
        assert_eq!(over_ms(&[], &terms, 80_000), None);
    }
}
