//! Have further hosts keep a copy of what an app runs, so that a replica that is lost goes on without its owner.
//!
//! A copy is a lease on call of the same workload beside replicas that run: it takes no room, streams a thousandth of what
//! running costs there, and nobody asks it anything. Hosts that are placed anew fetch from hosts of the owner's leases. Of
//! images none are kept yet: the ledger takes no container on call.

use super::{Apps, RUNNING, now_ms, plan::Plan, record::Record, release::Release, spec::Spec, told::Told};
use crate::fault::Fault;
use hodei_types::{
    abi::ILeases,
    market::{Class, EXCLUDE_MAX, LEASE_SECS_MIN, Order},
    transport::{NodeKey, Transport},
};

/// Copies of one app.
pub(super) const SPARES_MAX: u64 = 4;

/// Whether one of an app's leases is a spare copy: what is on call altogether has none.
pub(super) fn is_copy(lease: &ILeases::Lease, all: &[ILeases::Lease]) -> bool {
    lease.callRate > 0 && all.iter().any(|other| other.callRate == 0)
}

/// Replicas, and spare copies beside them.
pub(super) fn split(leases: Vec<ILeases::Lease>) -> (Vec<ILeases::Lease>, Vec<ILeases::Lease>) {
    let copies: Vec<bool> = leases.iter().map(|lease| is_copy(lease, &leases)).collect();
    let (copies, replicas): (Vec<_>, Vec<_>) = leases.into_iter().zip(copies).partition(|(_, is_copy)| *is_copy);
    let alone = |all: Vec<(ILeases::Lease, bool)>| all.into_iter().map(|(lease, _)| lease).collect();
    (alone(replicas), alone(copies))
}

/// What is ordered for so many copies of what `terms` order, on none of these hosts.
fn terms_of(terms: &Order, copies: u8, exclude: impl IntoIterator<Item = NodeKey>) -> Order {
    let mut exclude: Vec<_> = exclude.into_iter().map(|node| node.0.into()).collect();
    exclude.sort_unstable();
    exclude.dedup();
    exclude.truncate(EXCLUDE_MAX);
    Order {
        replicas: copies,
        class: Class::OnCall as u8,
        perHost: 1,
        patienceMs: 0,
        availabilityMinBp: 0,
        within: 0,
        exclude,
        ..terms.clone()
    }
}

impl Plan {
    /// The same with spare copies on other hosts, as many as are asked for.
    pub(super) async fn with_spares(
        mut self,
        chain: &dyn hodei_types::chain::Chain,
        spec: &Spec,
    ) -> Result<Self, Fault> {
        if spec.spares > 0 {
            let price_max = spec.price_max.unwrap_or(u128::MAX);
            let hosts = self.places.iter().map(|place| place.node);
            let terms = Order { priceMax: price_max, ..terms_of(&self.terms, spec.spares, hosts) };
            let found = Self::of_terms(chain, terms, spec.price_max.is_some()).await;
            self.spares = Some(Box::new(found.map_err(no_spares)?));
        }
        Ok(self)
    }
}

/// Says what it is that finds no offer.
fn no_spares(fault: Fault) -> Fault {
    match fault {
        Fault::NoOffer(mut lack) => {
            lack.key = Some("spares");
            lack.nearest = Some(format!("spares = {}", lack.placed));
            Fault::NoOffer(lack)
        }
        fault => fault,
    }
}

impl<T: Transport> Apps<T> {
    /// How many copies the release that a record is of is to have.
    fn wanted_spares(&self, record: &Record) -> Result<Option<(u8, Release)>, Fault> {
        let release = self.shelf.release(&record.manifest.name, record.release)?;
        let wanted = |release: &Release| release.draft.spares.unwrap_or(0).min(SPARES_MAX) as u8;
        Ok(release.map(|release| (wanted(&release), release)).filter(|(wanted, _)| *wanted > 0))
    }

    /// Orders copies that are wanted and not there, on hosts that run no replica of it, for as long as these are paid; how
    /// many, and the order.
    pub(super) async fn fill_spares(&self, record: &Record) -> Result<Option<(u8, u64)>, Fault> {
        let Some((wanted, release)) = self.wanted_spares(record)? else { return Ok(None) };
        let (replicas, copies) = split(self.leases_by(record.orders.iter().copied()).await?);
        let runs = |lease: &&ILeases::Lease| lease.state == RUNNING;
        let missing = wanted.saturating_sub(copies.iter().filter(runs).count().min(255) as u8);
        let until_ms = replicas.iter().filter(runs).map(|lease| lease.untilMs).max().unwrap_or(0);
        let secs = until_ms.saturating_sub(now_ms()) / 1000;
        if missing == 0 || secs < LEASE_SECS_MIN {
            return Ok(None);
        }
        let hosts = replicas.iter().chain(&copies).filter(runs).map(|lease| NodeKey(lease.node.0));
        let terms = terms_of(&release.terms, missing, hosts);
        let workload = record.manifest.workload().into();
        let plan = Plan::of_terms(self.chain(), Order { secs, workload, ..terms }, release.is_capped).await?;
        self.wallet.afford(plan.deposit).await?;
        let order = self.order(&record.manifest.name, record.release, &plan).await?;
        Ok(Some((missing, order)))
    }

    /// The same, told; nothing where none is missing.
    pub(super) async fn keep_spares(&self, record: &Record) -> Option<Told> {
        let app = record.manifest.name.clone();
        match self.fill_spares(record).await {
            Ok(None) => None,
            Ok(Some((copies, order))) => Some(Told::Spared { app, order, copies }),
            Err(fault) => Some(Told::NotSpared { app, why: fault.to_string() }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::app::draft::Draft;

    fn lease(id: u64, call_rate: u128) -> ILeases::Lease {
        ILeases::Lease { id, callRate: call_rate, ..crate::app::show::tests::lease(RUNNING, 5, 0, 0, 0) }
    }

    #[test]
    fn copies_are_what_is_on_call_beside_what_runs_and_nothing_of_what_is_on_call_alone() {
        let ids = |leases: &[ILeases::Lease]| leases.iter().map(|lease| lease.id).collect::<Vec<_>>();
        let (replicas, copies) = split(vec![lease(1, 0), lease(2, 9), lease(3, 9), lease(4, 0)]);
        assert_eq!((ids(&replicas), ids(&copies)), (vec![1, 4], vec![2, 3]));
        let (replicas, copies) = split(vec![lease(1, 9), lease(2, 9)]);
        assert_eq!((ids(&replicas), ids(&copies)), (vec![1, 2], vec![]));
    }

    #[test]
    fn copies_are_ordered_away_from_replicas_and_on_hosts_of_their_own() {
        let text = "component = \"a.wasm\"\nreplicas = 3\nper_host = 2\nspares = 2\navailability = \"99%\"\n";
        let (draft, lines) = Draft::parse(text).unwrap();
        let spec = draft.check(&lines).unwrap();
        assert_eq!(spec.spares, 2);
        let hosts = [9, 3, 9].map(|node| NodeKey([node; 32]));
        let terms = terms_of(&spec.terms, spec.spares, hosts);
        assert_eq!(terms.check(), Ok(()));
        assert_eq!((terms.replicas, terms.perHost, terms.class), (2, 1, Class::OnCall as u8));
        assert_eq!(terms.exclude, [[3; 32].into(), [9; 32].into()] as [alloy_primitives::B256; 2]);
        assert_eq!((terms.each, terms.availabilityMinBp), (spec.terms.each, 0));
    }

    #[test]
    fn nothing_is_copied_of_images_yet_nor_of_what_is_on_call_or_waits() {
        for (text, rule) in [
            ("image = \"nginx\"\nspares = 1\n", "components alone"),
            ("component = \"a.wasm\"\nclass = \"on-call\"\nspares = 1\n", "beside what runs"),
            ("component = \"a.wasm\"\nspares = 5\n", "0 to 4"),
        ] {
            let (draft, lines) = Draft::parse(text).unwrap();
            let error = draft.check(&lines).unwrap_err();
            assert!(error.key == "spares" && error.rule.contains(rule), "{error}");
        }
    }
}
