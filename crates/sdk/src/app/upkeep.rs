//! Look at all replicas of a wallet's apps, and do what keeps them running.
//!
//! A round looks at each replica that runs by the ledger, routes around those that are lost, and leaves the rest of what
//! [`Keep`] says to a task of the app's own: payments take blocks, and the next look does not wait for them.

use super::{
    Apps, RUNNING, host,
    keep::{Act, EARLY_MS, Keep, Seen, Sight},
    now_ms,
    pay::Pay,
    plan::Plan,
    record::Record,
    route::{Route, Routes},
    told::Told,
    volume::Turns,
};
use crate::fault::Fault;
use alloy_sol_types::SolCall as _;
use futures::future::join_all;
use hodei_ledger::account::Order as Transaction;
use hodei_types::{
    abi::{ILeases, LEASES},
    app::wire::Replica,
    call::revert,
    market::{Class, Order},
    transport::{NodeKey, Peer, Transport},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::sync::Notify;

/// From one round to the next.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// From one look at which apps there are to the next, where requests ask for it.
const ASKED_EVERY: Duration = Duration::from_secs(1);
/// What an answer may take beyond the deadline of its request: the wire both ways.
const DEADLINE_SLACK: Duration = Duration::from_secs(5);
/// From one look at an app's spare copies to the next.
const SPARES_EVERY: Duration = Duration::from_secs(30);
/// Who moves to another release ends the old one by himself; if nothing came of it so long after it was time, he was cut
/// short.
const LEFT_MS: u64 = 60_000;
/// Gas of ending a lease.
pub(super) const END_GAS: u64 = 500_000;
/// Leases ended in one transaction.
pub(super) const END_BATCH: usize = 16;

/// A replica as a look found it.
#[derive(Clone, Debug)]
pub(super) struct Spot {
    pub(super) lease: ILeases::Lease,
    pub(super) peer: Option<Peer>,
    pub(super) replica: Option<Replica>,
    pub(super) sight: Sight,
    pub(super) took: Duration,
}

impl Spot {
    pub(super) fn node(&self) -> NodeKey {
        NodeKey(self.lease.node.0)
    }

    pub(super) fn seen(&self) -> Seen {
        Seen { lease: self.lease.id, node: self.node(), until_ms: self.lease.untilMs, sight: self.sight.clone() }
    }
}

impl<T: Transport> Apps<T> {
    /// Looks at the replicas of an app's leases that run, all at once.
    pub(super) async fn spots(&self, record: &Record) -> Result<Vec<Spot>, Fault> {
        Ok(self.spots_of(self.leases(record).await?).await)
    }

    /// Looks at those of these leases that run.
    pub(super) async fn spots_of(&self, leases: Vec<ILeases::Lease>) -> Vec<Spot> {
        let looks = leases.into_iter().filter(|lease| lease.state == RUNNING).map(|lease| self.spot(lease));
        join_all(looks).await
    }

    async fn spot(&self, lease: ILeases::Lease) -> Spot {
        let begun = Instant::now();
        let Ok(peer) = self.peer(NodeKey(lease.node.0)).await else {
            return Spot { lease, peer: None, replica: None, sight: Sight::Missed, took: Duration::MAX };
        };
        let looked = host::look(&self.link, &peer, lease.id, (0, None)).await;
        let (sight, replica) = match looked {
            Ok(replica) => (Sight::Seen(replica.state), Some(replica)),
            Err(host::HostError::Gone) => (Sight::Gone, None),
            Err(host::HostError::Busy { .. }) => (Sight::Busy, None),
            Err(_) => (Sight::Missed, None),
        };
        Spot { lease, peer: Some(peer), replica, sight, took: begun.elapsed() }
    }

    /// Does what is to be done for an app; what became of it.
    async fn act(&self, record: &Record, keep: &Mutex<Keep>, act: Act) -> Told {
        let app = record.manifest.name.clone();
        let lock = || keep.lock().expect("no panic under this lock");
        match act {
            Act::Give { lease } => {
                lock().giving(lease);
                let given = self.give(record, lease).await;
                lock().gave(now_ms(), lease, given.is_ok());
                match given {
                    Ok(()) => Told::Given { app, lease },
                    Err(why) => Told::NotGiven { app, lease, why },
                }
            }
            Act::Fill { lease } => match self.fill(record, lease).await {
                Ok(from) => Told::Filled { app, lease, from },
                Err(fault) => Told::NotFilled { app, lease, why: fault.to_string() },
            },
            Act::End { lease } => match self.end_lost(lease).await {
                Ok((_, until_ms)) if is_over(until_ms, now_ms()) => Told::Over { app, lease },
                Ok((node, _)) => Told::Ended { app, lease, node },
                Err(fault) => Told::Blind { app, why: fault.to_string() },
            },
            Act::Order { replicas, secs, exclude } => {
                let made = self.replace(record, replicas, secs, &exclude).await;
                lock().ordered(now_ms(), made.is_ok());
                match made {
                    Ok(order) => Told::Ordered { app, order, replicas },
                    Err(fault) => Told::NotOrdered { app, why: fault.to_string() },
                }
            }
        }
    }

    /// Does all of it: components are handed over at once, payments one after the other.
    pub(super) async fn act_all(&self, record: &Record, keep: &Mutex<Keep>, acts: Vec<Act>) -> Vec<Told> {
        let (gives, pays): (Vec<Act>, Vec<Act>) = acts.into_iter().partition(|act| matches!(act, Act::Give { .. }));
        let mut told = join_all(gives.into_iter().map(|act| self.act(record, keep, act))).await;
        for act in pays {
            told.push(self.act(record, keep, act).await);
        }
        told
    }

    async fn give(&self, record: &Record, lease: u64) -> Result<(), String> {
        let asked = hodei_types::call::ask(self.chain(), LEASES, &ILeases::getCall { lease }).await;
        let node = NodeKey(asked.map_err(|error| error.to_string())?.node.0);
        let peer = self.peer(node).await.map_err(|fault| fault.to_string())?;
        let manifest = &record.manifest;
        let given = if manifest.container().is_some() {
            let lock = || self.given.lock().expect("no panic under this lock");
            let tell = |bytes, of| _ = lock().insert(lease, (bytes, of));
            let given = host::give_blobs(&self.link, &peer, lease, (manifest, &self.blobs), tell).await;
            lock().remove(&lease);
            given
        } else {
            let wasm = self.shelf.component(manifest, record.release).map_err(|fault| fault.to_string())?;
            host::give(&self.link, &peer, lease, (manifest, &wasm)).await
        };
        given.map_err(|error| error.to_string())
    }

    /// Ends a lease, and tells its host and until when it was paid for; one that has ended already is no fault.
    async fn end_lost(&self, lease: u64) -> Result<(NodeKey, u64), Fault> {
        let known = hodei_types::call::ask(self.chain(), LEASES, &ILeases::getCall { lease }).await?;
        self.end(&[lease]).await?;
        Ok((NodeKey(known.node.0), known.untilMs))
    }

    /// Ends leases of the owner; what each gave back, in wei.
    pub(super) async fn end(&self, leases: &[u64]) -> Result<Vec<ILeases::Ended>, Fault> {
        let mut ended = Vec::new();
        for batch in leases.chunks(END_BATCH) {
            let call = ILeases::endCall { leases: batch.to_vec() };
            let gas = END_GAS * (batch.len() as u64 + 1);
            let order = Transaction::call(LEASES, call.abi_encode(), gas);
            match self.wallet.attempt(&order).await {
                Ok(logs) => ended.extend(logs.iter().filter_map(crate::moves::event::<ILeases::Ended>)),
                // Its host or its escrow was faster; the others are ended one by one.
                Err(error) => match revert::<ILeases::ILeasesErrors>(&error) {
                    Some(ILeases::ILeasesErrors::NotRunning(_)) if batch.len() == 1 => {}
                    Some(ILeases::ILeasesErrors::NotRunning(_)) => {
                        for lease in batch {
                            ended.extend(Box::pin(self.end(&[*lease])).await?);
                        }
                    }
                    _ => return Err(self.wallet.refused(error, (gas, Default::default())).await),
                },
            }
        }
        Ok(ended)
    }

    /// Orders replicas as an app's others, for so long, on other hosts.
    pub(super) async fn replace(
        &self,
        record: &Record,
        replicas: u8,
        secs: u64,
        exclude: &[NodeKey],
    ) -> Result<u64, Fault> {
        let terms = self.further(record, replicas, secs, exclude).await?;
        let plan = Plan::of_terms(self.chain(), terms, true).await?;
        self.order(&record.manifest.name, record.release, &plan).await
    }

    /// Terms of a further order of an app, by those of its first.
    pub(super) async fn further(
        &self,
        record: &Record,
        replicas: u8,
        secs: u64,
        exclude: &[NodeKey],
    ) -> Result<Order, Fault> {
        let first = record.orders.first().ok_or_else(|| Fault::NoApp(record.manifest.name.clone()))?;
        let terms = self.placed(*first).await?.order;
        let class = Class::of(terms.class).filter(|class| *class != Class::Deferrable).unwrap_or(Class::Instant);
        let exclude = exclude.iter().map(|node| node.0.into()).collect();
        Ok(Order { replicas, secs, exclude, class: class as u8, patienceMs: 0, ..terms })
    }

    /// Looks at this wallet's apps again and again, routes to what is ready, and replaces what is lost; until the task is
    /// dropped. What is done is told.
    pub async fn keep(self, routes: Routes, tell: impl Fn(Told) + Clone + Send + Sync + 'static) {
        let new = Notify::new();
        tokio::select! {
            () = self.rounds(&routes, &new, &tell) => {}
            () = self.look_when_asked(&routes, &new) => {}
        }
    }

    /// Looks which apps there are when a request asks for one that is not known; the next round begins if there is one.
    async fn look_when_asked(&self, routes: &Routes, new: &Notify) {
        let _keeper = routes.keeper();
        loop {
            routes.asked().await;
            if self.names().is_ok_and(|names| routes.know(&names)) {
                new.notify_one();
            }
            routes.looked();
            tokio::time::sleep(ASKED_EVERY).await;
        }
    }

    async fn rounds(&self, routes: &Routes, new: &Notify, tell: &(impl Fn(Told) + Clone + Send + Sync + 'static)) {
        let mut kept: BTreeMap<String, Arc<Kept>> = BTreeMap::new();
        loop {
            let begun = Instant::now();
            // Where the folder cannot be read now, what is known stays.
            if let Ok(names) = self.names() {
                let names: BTreeSet<String> = names.into_iter().collect();
                kept.retain(|name, _| names.contains(name));
                routes.retain(&names);
                for name in names {
                    kept.entry(name).or_default();
                }
            }
            join_all(kept.iter().map(|(name, kept)| self.round(name, kept, routes, tell))).await;
            // What is new does not wait for its first look.
            _ = tokio::time::timeout(LOOK_EVERY.saturating_sub(begun.elapsed()), new.notified()).await;
        }
    }

    async fn round(
        &self,
        name: &str,
        kept: &Arc<Kept>,
        routes: &Routes,
        tell: &(impl Fn(Told) + Clone + Send + Sync + 'static),
    ) {
        // Before the ledger is read: what was being done may not show there yet.
        let was_busy = kept.is_busy.load(Ordering::Acquire);
        let looked = async {
            let record = self.record(name)?;
            let spots = self.spots(&record).await?;
            let mut over = kept.over.lock().expect("no panic under this lock").clone();
            let leaving = self.leaving(&record, &mut over).await?;
            *kept.over.lock().expect("no panic under this lock") = over;
            let mut pays = BTreeMap::new();
            for spot in spots.iter().chain(&leaving) {
                if let Some(pay) = self.pay(&record, &spot.lease)? {
                    self.keep_seen(name, &pay)?;
                    pays.insert(spot.lease.id, pay);
                }
            }
            Ok::<_, Fault>((record, spots, leaving, pays))
        };
        let (record, spots, leaving, pays) = match looked.await {
            Ok(looked) => looked,
            Err(fault) => {
                // A ledger out of reach ends nothing: what was ready is asked on.
                if !kept.is_blind.swap(true, Ordering::Relaxed) {
                    tell(Told::Blind { app: name.to_owned(), why: fault.to_string() });
                }
                return;
            }
        };
        kept.is_blind.store(false, Ordering::Relaxed);
        let seen: Vec<Seen> = spots.iter().map(Spot::seen).collect();
        let acts = {
            let mut keep = kept.keep.lock().expect("no panic under this lock");
            // Leases of the release before are no loss of this one.
            if kept.release.swap(record.release, Ordering::Relaxed) != record.release {
                *keep = Keep::default();
            }
            let acts = keep.step(now_ms(), (record.replicas, record.is_spread), &seen);
            let mut all = ways(name, (&record, &pays), &spots, &keep, routes);
            all.extend(leaving.iter().filter_map(|spot| way_out(name, (&record, &pays), spot, routes)));
            routes.set(name, all);
            acts
        };
        self.snapshots(&record, &spots, &kept.turns, tell);
        let is_left = self.is_left(&record, &leaving, now_ms());
        // Whoever deploys it does what is to be done for it until then.
        let is_deploying = now_ms() < record.deploying_until_ms;
        let acts = if is_deploying { Vec::new() } else { acts };
        let are_spares_due = !is_deploying && !was_busy && kept.are_spares_due();
        if acts.is_empty() && !is_left && !are_spares_due || was_busy {
            return;
        }
        kept.is_busy.store(true, Ordering::Release);
        let (apps, kept, tell) = (self.clone(), kept.clone(), tell.clone());
        tokio::spawn(async move {
            let _busy = Busy(&kept.is_busy);
            if is_left {
                tell(apps.tidy(&record.manifest.name).await);
            }
            for told in apps.act_all(&record, &kept.keep, acts).await {
                tell(told);
            }
            if are_spares_due {
                apps.keep_spares(&record).await.into_iter().for_each(&tell);
            }
        });
    }
}

impl<T: Transport> Apps<T> {
    /// Whether somebody who brought another release was cut short, and left what is to be ended.
    fn is_left(&self, record: &Record, leaving: &[Spot], now_ms: u64) -> bool {
        let is_retired = !leaving.is_empty() && now_ms > record.drain_until_ms.saturating_add(LEFT_MS);
        let name = &record.manifest.name;
        let staged = record.staged.and_then(|number| self.shelf.release(name, number).ok().flatten());
        is_retired || staged.is_some_and(|release| now_ms > release.until_ms)
    }

    async fn tidy(&self, app: &str) -> Told {
        match self.abort(app).await {
            Ok(retired) => Told::Tidied { app: app.to_owned(), release: retired.release, leases: retired.leases },
            Err(fault) => Told::Blind { app: app.to_owned(), why: fault.to_string() },
        }
    }
}

/// Whether a lease that was paid until then is over: the ledger's time and ours may differ.
fn is_over(until_ms: u64, now_ms: u64) -> bool {
    until_ms <= now_ms.saturating_add(EARLY_MS)
}

/// What is remembered of an app from round to round.
#[derive(Default)]
struct Kept {
    keep: Mutex<Keep>,
    /// Which release `keep` is of.
    release: AtomicU32,
    /// Orders of other releases of which nothing runs any more.
    over: Mutex<BTreeSet<u64>>,
    /// When its spare copies were looked at.
    spares: Mutex<Option<Instant>>,
    /// Something is being done for it.
    is_busy: AtomicBool,
    /// When its volumes are stored.
    turns: Arc<Turns>,
    /// The last look failed as a whole, and that was told.
    is_blind: AtomicBool,
}

impl Kept {
    /// Whether it is time to look at its spare copies; asked again it is not.
    fn are_spares_due(&self) -> bool {
        let mut last = self.spares.lock().expect("no panic under this lock");
        let is_due = last.is_none_or(|last| last.elapsed() >= SPARES_EVERY);
        if is_due {
            *last = Some(Instant::now());
        }
        is_due
    }
}

/// Says in the end that nothing is being done any more.
struct Busy<'a>(&'a AtomicBool);

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}

/// The ways to an app's replicas: to those that are ready, and to those that were and missed a look or two.
fn ways(
    name: &str,
    (record, pays): (&Record, &BTreeMap<u64, Arc<Pay>>),
    spots: &[Spot],
    keep: &Keep,
    before: &Routes,
) -> Vec<Route> {
    let way = |spot: &Spot| {
        let is_ready = matches!(spot.sight, Sight::Seen(state) if state.answers());
        let is_known = before.has(name, spot.lease.id);
        let is_doubtful = is_known && spot.sight == Sight::Missed;
        let is_busy = is_known && spot.sight == Sight::Busy;
        Some(Route {
            lease: spot.lease.id,
            node: spot.node(),
            peer: spot
                .peer
                .clone()
                .filter(|_| (is_ready || is_doubtful || is_busy) && keep.is_routed(spot.lease.id))?,
            deadline: Duration::from_millis(record.manifest.limits.deadline_ms) + DEADLINE_SLACK,
            near: spot.took,
            is_doubtful,
            is_leaving: false,
            pay: pays.get(&spot.lease.id).cloned(),
        })
    };
    spots.iter().filter_map(way).collect()
}

/// The way to a replica of the release before, as long as it answers: it ends what it was asked, and is asked where no
/// other takes a request.
fn way_out(
    name: &str,
    (record, pays): (&Record, &BTreeMap<u64, Arc<Pay>>),
    spot: &Spot,
    before: &Routes,
) -> Option<Route> {
    let is_well = matches!(spot.sight, Sight::Busy) || matches!(spot.sight, Sight::Seen(state) if state.answers());
    let is_known = before.has(name, spot.lease.id);
    Some(Route {
        lease: spot.lease.id,
        node: spot.node(),
        peer: spot.peer.clone().filter(|_| is_known && is_well)?,
        deadline: Duration::from_millis(record.manifest.limits.deadline_ms) + DEADLINE_SLACK,
        near: spot.took,
        is_doubtful: false,
        is_leaving: true,
        pay: pays.get(&spot.lease.id).cloned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_whose_paid_term_is_over_is_told_as_that_and_not_as_its_hosts_fault() {
        assert!(is_over(1_000_000, 1_000_000) && is_over(1_000_000, 990_000) && !is_over(1_000_000, 900_000));
        let told = Told::Over { app: "a3".into(), lease: 5 }.to_string();
        assert!(told.contains("the term it was paid for") && told.contains("hodei app renew a3 1h"), "{told}");
        assert!(!told.contains("does not answer"), "{told}");
    }
}
