//! Bring a new release of an app beside the one that runs, and move to it once it has shown that it is well.
//!
//! ```text
//! stage ─► order ─► ready, all ─► so for a while ─► switch: one local write ─► drain ─► the old leases end
//!   │         │          └── not in time, failed, broken off ─► its leases end; the old release was never touched
//!   └─────────┴── cut short: `resume` or `abort`; whoever keeps the app does the latter, some time later
//! ```
//! Requests go where the record says, so that the switch is its one write: before it all go to the old release, whose
//! replicas are kept as ever, after it to the new one, and old replicas answer what they were asked until their time is up.

use super::{
    Apps, RUNNING, WAITING,
    change::Deleted,
    deploy::{Payload, Step, deploying_until_ms},
    draft::Lines,
    gate::{Gate, Staging},
    now_ms,
    plan::Plan,
    record::Record,
    release::Release,
    spec::Spec,
    upkeep::Spot,
};
use crate::fault::Fault;
use alloy_primitives::U256;
use hodei_types::{
    market::{Class, LEASE_SECS_MIN, Order},
    transport::{NodeKey, Transport},
};
use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

/// A release that was planned.
#[derive(Clone, Debug)]
pub struct Upgrade {
    pub plan: Plan,
    pub release: Release,
    /// The release that runs.
    pub from: u32,
    /// Wei a second of its replicas, which run beside those that are planned until these take over.
    pub beside: u128,
}

/// A release that took over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Updated {
    pub release: u32,
    /// Leases and hosts of its replicas.
    pub replicas: Vec<(u64, NodeKey)>,
    pub took: Duration,
    /// The release before, ended.
    pub retired: Retired,
}

/// Leases of a release that runs no more, or never did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Retired {
    pub release: u32,
    pub leases: usize,
    /// Wei that came back.
    pub refunded: U256,
    /// Why it could not be ended now; whoever keeps the app ends it.
    pub left: Option<String>,
}

impl Retired {
    fn of(release: u32, ended: Result<Deleted, Fault>) -> Self {
        match ended {
            Ok(ended) => Self { release, leases: ended.leases, refunded: ended.refunded, left: None },
            Err(fault) => Self { release, left: Some(fault.to_string()), ..Self::default() },
        }
    }
}

impl<T: Transport> Apps<T> {
    /// All releases of an app that are kept, the oldest first.
    pub fn releases(&self, name: &str) -> Result<Vec<Release>, Fault> {
        self.record(name)?;
        self.shelf.releases(name)
    }

    /// The component of a release that is kept.
    pub fn component(&self, release: &Release) -> Result<Vec<u8>, Fault> {
        self.shelf.component(&release.manifest, release.number)
    }

    /// Refuses where a release is on its way.
    pub(super) fn no_update(&self, record: &Record) -> Result<(), Fault> {
        match record.staged {
            Some(release) => Err(Fault::UpdateOpen { app: record.manifest.name.clone(), release }),
            None => Ok(()),
        }
    }

    /// Where replicas of a new release would go: to end with those that run, or after `secs`.
    pub async fn plan_update(
        &self,
        spec: &Spec,
        lines: &Lines,
        payload: &Payload<'_>,
        secs: Option<u64>,
    ) -> Result<Upgrade, Fault> {
        let record = self.record(&spec.name)?;
        self.no_update(&record)?;
        let manifest = self.manifest(spec, payload)?;
        let release = Release::of(self.shelf.next_release(&record)?, spec, manifest, now_ms());
        self.plan_release(&record, release, spec, lines, secs).await
    }

    /// The same of a release that was: the one before that which runs, if none is named.
    pub async fn plan_rollback(&self, name: &str, number: Option<u32>) -> Result<Upgrade, Fault> {
        let record = self.record(name)?;
        self.no_update(&record)?;
        let kept = self.shelf.releases(name)?;
        let is_meant = |one: &&Release| number.map_or(one.number < record.release, |number| one.number == number);
        let Some(meant) = kept.iter().rev().find(is_meant) else {
            let all: Vec<String> = kept.iter().map(|one| one.number.to_string()).collect();
            let kept = format!("kept are {}", all.join(", "));
            let what =
                number.map_or_else(|| "release before the one that runs".into(), |number| format!("release {number}"));
            return Err(Fault::NoRelease { app: name.to_owned(), what, kept });
        };
        match meant.manifest.container() {
            Some(container) => {
                let missing = container.blobs().iter().filter(|blob| !self.blobs.has(blob)).count();
                if missing > 0 {
                    let image = container.image.clone();
                    return Err(Fault::ReleaseGone { app: name.to_owned(), image, missing });
                }
            }
            None => drop(self.component(meant)?),
        }
        let terms = Order { replicas: record.replicas.max(1), ..meant.terms.clone() };
        let spec = Spec {
            price_max: meant.is_capped.then_some(terms.priceMax),
            calls: meant.calls,
            terms: terms.clone(),
            ..meant.draft.check(&Lines::new())?
        };
        let number = self.shelf.next_release(&record)?;
        let of = Some(meant.of.unwrap_or(meant.number));
        let release = Release { number, of, since_ms: now_ms(), terms, ..meant.clone() };
        self.plan_release(&record, release, &Spec { budget: None, ..spec }, &Lines::new(), None).await
    }

    async fn plan_release(
        &self,
        record: &Record,
        release: Release,
        spec: &Spec,
        lines: &Lines,
        secs: Option<u64>,
    ) -> Result<Upgrade, Fault> {
        self.no_volumes(record, "a release beside the one that runs would write a second one")?;
        if release.manifest.container().is_some_and(|container| !container.volumes.is_empty()) {
            let app = record.manifest.name.clone();
            return Err(Fault::HasVolumes { app, what: "what began without them gets none" });
        }
        let mut running = self.leases(record).await?;
        running.retain(|lease| lease.state == RUNNING);
        let until_ms = running.iter().map(|lease| lease.untilMs).max();
        let left = until_ms.map(|until_ms| (until_ms.saturating_sub(now_ms()) / 1000).max(LEASE_SECS_MIN));
        let secs = secs.or(left).unwrap_or(spec.terms.secs);
        let class = Class::of(spec.terms.class).filter(|class| *class != Class::Deferrable).unwrap_or(Class::Instant);
        // What it waits for is there before anything is switched: it never waits for an offer.
        let terms = Order { secs, class: class as u8, patienceMs: 0, ..spec.terms.clone() };
        let mut plan = Plan::of(self.chain(), &Spec { terms, ..spec.clone() }, lines).await?;
        plan.terms.workload = release.manifest.workload().into();
        let beside = running.iter().map(|lease| lease.rate).sum();
        Ok(Upgrade { plan, release, from: record.release, beside })
    }

    /// Brings a release beside the one that runs, and moves to it once it passed the gate. What does not pass ends, and
    /// what ran runs on. `stop` breaks it off.
    pub async fn update(
        &self,
        upgrade: Upgrade,
        payload: Option<Payload<'_>>,
        gate: &Gate,
        stop: impl Future<Output = ()> + Send,
        tell: &mut (dyn FnMut(Step) + Send),
    ) -> Result<Updated, Fault> {
        let Upgrade { plan, mut release, from, .. } = upgrade;
        let (name, number) = (release.manifest.name.clone(), release.number);
        let record = self.record(&name)?;
        self.no_update(&record)?;
        self.wallet.afford(plan.escrow()).await?;
        let wasm = match payload {
            Some(Payload::Component(wasm)) => Some(wasm.to_vec()),
            Some(Payload::Image(_) | Payload::Same(_)) => None,
            // Of one that was: its component is kept.
            None => match (release.of, release.manifest.component()) {
                (Some(of), Some(_)) => Some(self.kept_component(&release, of)?),
                _ => None,
            },
        };
        if let Some(wasm) = wasm {
            self.shelf.keep_component(&name, number, &wasm)?;
        }
        let slack = gate.most().as_millis() as u64;
        release.until_ms = deploying_until_ms(release.manifest.bytes()).saturating_add(slack);
        release.terms.replicas = plan.terms.replicas;
        self.shelf.keep_release(&release)?;
        match self.order(&name, number, &plan).await {
            Ok(order) => tell(Step::Ordered { order }),
            Err(fault) => {
                // What may be executed yet stays known, so that it is found and ended.
                if fault.is_final() {
                    self.shelf.drop_release(&name, number)?;
                    return Err(fault);
                }
                return Err(self.not_updated(&name, (number, from), fault.to_string()).await);
            }
        }
        self.bring(&name, (number, from), gate, stop, tell).await
    }

    /// A component by its hash, of whichever release has it.
    fn kept_component(&self, release: &Release, of: u32) -> Result<Vec<u8>, Fault> {
        let kept = self.shelf.releases(&release.manifest.name)?;
        let same = kept.iter().rev().find(|one| one.manifest.component() == release.manifest.component());
        self.shelf.component(&release.manifest, same.map_or(of, |one| one.number))
    }

    /// Goes on with a release that was cut short on its way.
    pub async fn resume(
        &self,
        name: &str,
        gate: &Gate,
        stop: impl Future<Output = ()> + Send,
        tell: &mut (dyn FnMut(Step) + Send),
    ) -> Result<Updated, Fault> {
        let record = self.record(name)?;
        let (staged, mut release) = self.shelf.staged(name)?.ok_or_else(|| Fault::NoUpdate(name.to_owned()))?;
        let adopted = self.adopt(record, &self.standing().await?)?;
        let slack = gate.most().as_millis() as u64;
        release.until_ms = deploying_until_ms(release.manifest.bytes()).saturating_add(slack);
        self.shelf.keep_release(&release)?;
        let numbers = (staged.release, adopted.release);
        if !adopted.others.values().any(|of| *of == staged.release) {
            // It was cut short before it was ordered.
            return Err(self.not_updated(name, numbers, "nothing was ordered for it yet".into()).await);
        }
        self.bring(name, numbers, gate, stop, tell).await
    }

    /// Ends a release that is on its way, and what is left of others that run no more.
    pub async fn abort(&self, name: &str) -> Result<Retired, Fault> {
        let record = self.record(name)?;
        let record = self.adopt(record, &self.standing().await?)?;
        let Some(number) = record.staged else {
            if now_ms() < record.drain_until_ms {
                return Err(Fault::NoUpdate(name.to_owned()));
            }
            return self.retire(&record).await;
        };
        let orders: Vec<u64> = record.others.iter().filter(|(_, of)| **of == number).map(|(order, _)| *order).collect();
        let ended = self.end_orders(&record, orders.into_iter()).await?;
        // Last: until here it is found again.
        self.shelf.drop_release(name, number)?;
        Ok(Retired::of(number, Ok(ended)))
    }

    /// Ends what runs of releases that do no more.
    async fn retire(&self, record: &Record) -> Result<Retired, Fault> {
        let last = record.others.values().copied().filter(|of| *of < record.release).max().unwrap_or(0);
        let ended = self.end_orders(record, record.retired()).await?;
        self.shelf.prune(record)?;
        let named = self.shelf.blobs();
        let _ = named.map(|named| self.blobs.sweep(&named));
        Ok(Retired::of(last, Ok(ended)))
    }

    /// Tells why a release did not take over, once it is ended.
    async fn not_updated(&self, app: &str, (release, kept): (u32, u32), why: String) -> Fault {
        let left = self.abort(app).await.err().map(|fault| fault.to_string());
        Fault::NotUpdated { app: app.to_owned(), release, kept, why, left }
    }

    async fn bring(
        &self,
        name: &str,
        (number, from): (u32, u32),
        gate: &Gate,
        stop: impl Future<Output = ()> + Send,
        tell: &mut (dyn FnMut(Step) + Send),
    ) -> Result<Updated, Fault> {
        let begun = Instant::now();
        let staging = Staging::new(number);
        // What is being paid is not dropped on its way: it stops between two steps.
        let stopping = async {
            stop.await;
            staging.stop();
            std::future::pending::<()>().await;
        };
        let passed = tokio::select! {
            passed = self.passed(name, &staging, gate, tell) => passed.map_err(|fault| fault.to_string()),
            () = stopping => Err("it was broken off".to_owned()),
        };
        let spots = match passed {
            Ok(spots) => spots,
            Err(why) => return Err(self.not_updated(name, (number, from), why).await),
        };
        if let Some((staged, _)) = self.shelf.staged(name)? {
            self.keep_spares(&staged).await.into_iter().for_each(|told| tell(Step::Told(told)));
        }
        let drain_until_ms = now_ms().saturating_add(gate.drain.as_millis() as u64);
        self.shelf.switch(name, drain_until_ms)?;
        tell(Step::Switched { release: number, drain: gate.drain });
        let took = begun.elapsed();
        tokio::time::sleep(gate.drain).await;
        // What was made for the old release meanwhile is in the record as it is now.
        let retired = match self.record(name) {
            Ok(record) => self.retire(&record).await,
            Err(fault) => Err(fault),
        };
        let retired = retired.unwrap_or_else(|fault| Retired::of(from, Err(fault)));
        let retired = Retired { release: from, ..retired };
        let replicas = spots.iter().map(|spot| (spot.lease.id, spot.node())).collect();
        Ok(Updated { release: number, replicas, took, retired })
    }

    /// Leases of releases that run no more which are not over yet; orders without any are noted in `over`.
    pub(super) async fn leaving(&self, record: &Record, over: &mut BTreeSet<u64>) -> Result<Vec<Spot>, Fault> {
        let orders: Vec<u64> = record.retired().filter(|order| !over.contains(order)).collect();
        let mut leaving = Vec::new();
        for order in orders {
            let placed = self.placed(order).await?;
            // What lost its host may be placed again by the ledger.
            let waits = placed.state == WAITING || !placed.lost.is_empty();
            let mut leases = self.leases_of(&placed.leases).await?;
            leases.retain(|lease| lease.state == RUNNING);
            if leases.is_empty() && !waits {
                over.insert(order);
            }
            leaving.extend(self.spots_of(leases).await);
        }
        Ok(leaving)
    }
}
