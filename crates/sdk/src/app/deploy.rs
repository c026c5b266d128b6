//! Order what a plan found, hand the component over, and wait until it is ready.

use super::{
    Apps,
    gate::Staging,
    keep::Keep,
    now_ms,
    plan::Plan,
    record::{FIRST, Record},
    release::Release,
    spec::Spec,
    told::Told,
    upkeep::Spot,
};
use crate::{fault::Fault, image::Image};
use alloy_primitives::U256;
use hodei_types::{
    app::{container::Container, wire::State},
    transport::{NodeKey, Transport},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Mutex,
    time::{Duration, Instant},
};

/// From one look at a replica that starts to the next.
pub(super) const LOOK_EVERY: Duration = Duration::from_millis(400);
/// Compiling the largest component takes four minutes, on a second host again if the first is lost.
pub(super) const READY_TIMEOUT: Duration = Duration::from_secs(600);
/// Shown of what a component printed before it failed.
const LAST_BYTES: usize = 2048;

/// Slower than this nobody is waited for with an image.
const GIVE_RATE: u64 = 64 << 10;
/// From one word about an image on its way to the next.
const GIVE_EVERY: Duration = Duration::from_secs(2);

/// What is given to hosts.
#[derive(Clone, Copy, Debug)]
pub enum Payload<'a> {
    Component(&'a [u8]),
    /// Its blobs are in [`Apps::blobs`].
    Image(&'a Image),
    /// The image of a container that ran before, with other words around it; its blobs are where they were.
    Same(&'a Container),
}

/// What happened on the way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    Ordered {
        order: u64,
    },
    /// How many replicas are in each state, by the state's name.
    Starting {
        ready: usize,
        wanted: usize,
        states: Vec<&'static str>,
    },
    /// A host takes what it lacks of an image: so many bytes of so many.
    Giving {
        lease: u64,
        bytes: u64,
        of: u64,
    },
    /// A new release was ready, and did not stay so: it is waited for again.
    Relapsed {
        words: String,
    },
    /// Requests go to a new release; the one before ends what it was asked.
    Switched {
        release: u32,
        drain: Duration,
    },
    Told(Told),
}

/// An app that was deployed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Deployed {
    pub order: u64,
    /// Leases and hosts of replicas that are ready; none of an order that waits.
    pub replicas: Vec<(u64, NodeKey)>,
    /// Wei that are bound.
    pub deposit: U256,
    /// The slowest cold start of its replicas, in milliseconds.
    pub cold_ms: u64,
    pub took: Duration,
    /// Until when the order waits for an offer, if it found none yet.
    pub waits_until_ms: Option<u64>,
}

/// Until when who begins something now, with so many bytes to give, looks after it himself.
pub(super) fn deploying_until_ms(bytes: u64) -> u64 {
    now_ms().saturating_add(READY_TIMEOUT.as_millis() as u64).saturating_add(bytes / GIVE_RATE * 1000)
}

impl<T: Transport> Apps<T> {
    /// Deploys it as planned. What fails leaves no lease and no record behind, if the ledger can be reached.
    pub async fn deploy(
        &self,
        spec: &Spec,
        payload: Payload<'_>,
        mut plan: Plan,
        tell: &mut (dyn FnMut(Step) + Send),
    ) -> Result<Deployed, Fault> {
        let begun = Instant::now();
        let manifest = self.manifest(spec, &payload)?;
        if self.shelf.load(&spec.name)?.is_some() {
            return Err(Fault::AppExists(spec.name.clone()));
        }
        plan.terms.workload = manifest.workload().into();
        self.wallet.afford(plan.escrow()).await?;
        let bytes = manifest.bytes();
        let mut record = Record {
            manifest,
            replicas: spec.terms.replicas,
            is_spread: spec.terms.perHost == 1,
            since_ms: now_ms(),
            since_height: self.chain().head().await?.height,
            deploying_until_ms: deploying_until_ms(bytes),
            release: FIRST,
            drain_until_ms: 0,
            orders: BTreeSet::new(),
            others: BTreeMap::new(),
            staged: None,
        };
        match payload {
            Payload::Component(wasm) => self.shelf.begin(&record, wasm)?,
            Payload::Image(_) | Payload::Same(_) => self.shelf.store(&record)?,
        }
        self.shelf.keep_release(&Release::of(FIRST, spec, record.manifest.clone(), record.since_ms))?;
        let order = match self.order(&spec.name, FIRST, &plan).await {
            Ok(order) => order,
            Err(fault) => {
                self.shelf.remove(&record)?;
                return Err(fault);
            }
        };
        record.orders.insert(order);
        tell(Step::Ordered { order });
        let placed = self.placed(order).await?;
        if placed.firstLease == 0 {
            record.deploying_until_ms = 0;
            self.shelf.store(&record)?;
            return Ok(Deployed {
                order,
                replicas: Vec::new(),
                deposit: plan.deposit,
                cold_ms: 0,
                took: begun.elapsed(),
                waits_until_ms: Some(placed.untilMs),
            });
        }
        let ready = self.until_ready((&spec.name, None), READY_TIMEOUT, usize::from(record.replicas), tell).await;
        if let Err(fault) = self.close().await {
            tracing::warn!(%fault, "what is owed for snapshots is posted later");
        }
        match ready {
            Ok(spots) => {
                let mut record = self.record(&spec.name)?;
                // What runs is there: copies that find no host now are ordered later.
                self.keep_spares(&record).await.into_iter().for_each(|told| tell(Step::Told(told)));
                record.deploying_until_ms = 0;
                self.shelf.store(&record)?;
                let cold = spots.iter().filter_map(|spot| Some(spot.replica.as_ref()?.cold_ms)).max();
                Ok(Deployed {
                    order,
                    replicas: spots.iter().map(|spot| (spot.lease.id, spot.node())).collect(),
                    deposit: plan.deposit,
                    cold_ms: cold.unwrap_or(0),
                    took: begun.elapsed(),
                    waits_until_ms: None,
                })
            }
            Err(fault) => {
                // What cannot be ended now stays recorded, so that it can be later.
                let _ = self.delete(&spec.name).await;
                Err(fault)
            }
        }
    }

    /// Gives, looks and replaces until that many replicas are ready, of the release that runs or of the one on its way.
    pub(super) async fn until_ready(
        &self,
        (name, staging): (&str, Option<&Staging>),
        limit: Duration,
        wanted: usize,
        tell: &mut (dyn FnMut(Step) + Send),
    ) -> Result<Vec<Spot>, Fault> {
        self.until_ready_by(&Mutex::new(Keep::default()), (name, staging), limit, wanted, tell).await
    }

    /// The same, by what is known of its replicas already.
    pub(super) async fn until_ready_by(
        &self,
        keep: &Mutex<Keep>,
        (name, staging): (&str, Option<&Staging>),
        limit: Duration,
        wanted: usize,
        tell: &mut (dyn FnMut(Step) + Send),
    ) -> Result<Vec<Spot>, Fault> {
        let begun = Instant::now();
        let mut words = String::from("no host answers");
        // An image takes as long as it takes: what bounds that is its rate.
        let mut giving = Duration::ZERO;
        loop {
            let record = self.release_record(name, staging)?;
            let spots = match self.spots(&record).await {
                Ok(spots) => spots,
                Err(fault) if fault.is_temporary() && begun.elapsed() < limit => {
                    tokio::time::sleep(LOOK_EVERY).await;
                    continue;
                }
                Err(fault) => return Err(fault),
            };
            let is = |spot: &&Spot, state: State| spot.replica.as_ref().is_some_and(|replica| replica.state == state);
            // One on call is ready once it is compiled, and was started to try it.
            let answers = |spot: &&Spot| spot.replica.as_ref().is_some_and(|replica| replica.state.answers());
            let ready = spots.iter().filter(answers).count();
            if ready >= wanted {
                return Ok(spots.into_iter().filter(|spot| answers(&spot)).collect());
            }
            if let Some(failed) = spots.iter().find(|spot| is(spot, State::Failed)) {
                return Err(Fault::AppFailed { app: name.to_owned(), words: self.last_words(name, failed).await });
            }
            let state_of = |spot: &Spot| spot.replica.as_ref().map_or("not reached", |replica| replica.state.name());
            let states: Vec<_> = spots.iter().map(state_of).collect();
            if let Some(said) =
                spots.iter().filter_map(|spot| spot.replica.as_ref()).find(|said| !said.words.is_empty())
            {
                words = said.words.clone();
            }
            tell(Step::Starting { ready, wanted, states });
            if begun.elapsed().saturating_sub(giving) > limit {
                let secs = limit.as_secs();
                return Err(Fault::AppLate { app: name.to_owned(), ready, wanted, secs, words });
            }
            let seen: Vec<_> = spots.iter().map(Spot::seen).collect();
            let acts = {
                let mut keep = keep.lock().expect("no panic under this lock");
                keep.step(now_ms(), (record.replicas, record.is_spread), &seen)
            };
            let since = Instant::now();
            let all = {
                let mut acting = std::pin::pin!(self.act_all(&record, keep, acts));
                loop {
                    match tokio::time::timeout(GIVE_EVERY, &mut acting).await {
                        Ok(all) => break all,
                        Err(_) => {
                            let given = self.given.lock().expect("no panic under this lock").clone();
                            given.into_iter().for_each(|(lease, (bytes, of))| tell(Step::Giving { lease, bytes, of }));
                        }
                    }
                }
            };
            giving += since.elapsed();
            for told in all {
                if let Told::NotGiven { why, .. } | Told::NotOrdered { why, .. } | Told::NotFilled { why, .. } = &told {
                    words = why.clone();
                }
                tell(Step::Told(told));
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// What a component that failed said last, or its host of it.
    pub(super) async fn last_words(&self, name: &str, spot: &Spot) -> String {
        let said = spot.replica.as_ref().map(|replica| replica.words.clone()).unwrap_or_default();
        let Some(peer) = &spot.peer else { return said };
        match self.log(name, peer, spot.lease.id, 0).await {
            Ok(replica) if !replica.log.is_empty() => {
                let last = &replica.log[replica.log.len().saturating_sub(LAST_BYTES)..];
                format!("{said}; it printed: {}", String::from_utf8_lossy(last).trim())
            }
            _ => said,
        }
    }
}
