//! Judge whether a release is well before it takes over: ready in time, and so for a while.

use super::{
    Apps,
    deploy::Step,
    host::{HostError, Question, request},
    record::Record,
    upkeep::Spot,
};
use crate::fault::Fault;
use bytes::Bytes;
use futures::{StreamExt as _, stream};
use hodei_types::{app::wire::State, transport::Transport};
use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

/// What a checked replica may take to answer.
const CHECK_TIMEOUT: Duration = Duration::from_secs(10);
/// From one look at a release that shows whether it stays well to the next.
const PROBATION_EVERY: Duration = Duration::from_secs(1);
/// Looks in a row that a replica on probation may miss.
const MISSES_MAX: u32 = 2;
/// Times that a release is ready and does not stay so before it is given up.
const RELAPSES_MAX: u32 = 3;
/// It is given so long after the first of them, and as long again after each.
const RELAPSE_PAUSE: Duration = Duration::from_secs(3);

/// What a release has to pass.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gate {
    /// Until all of its replicas are ready.
    pub deadline: Duration,
    /// So long they stay so.
    pub probation: Duration,
    /// So long the replicas before end what they were asked.
    pub drain: Duration,
    /// A path that each replica has to answer with a status from 200 to 399.
    pub check: Option<String>,
}

impl Default for Gate {
    fn default() -> Self {
        let secs = Duration::from_secs;
        Self { deadline: secs(120), probation: secs(10), drain: secs(10), check: None }
    }
}

impl Gate {
    /// Until everything of it is over at the latest, but for what takes its time to give.
    pub fn most(&self) -> Duration {
        self.deadline + self.probation + self.drain
    }
}

/// A release on its way, by its number, and whether somebody broke it off.
#[derive(Debug)]
pub(super) struct Staging {
    number: u32,
    is_stopped: AtomicBool,
}

impl Staging {
    pub(super) fn new(number: u32) -> Self {
        Self { number, is_stopped: AtomicBool::new(false) }
    }

    pub(super) fn stop(&self) {
        self.is_stopped.store(true, Ordering::Relaxed);
    }
}

impl<T: Transport> Apps<T> {
    /// The record of an app, or of its release on its way.
    pub(super) fn release_record(&self, name: &str, staging: Option<&Staging>) -> Result<Record, Fault> {
        let Some(staging) = staging else { return self.record(name) };
        if staging.is_stopped.load(Ordering::Relaxed) {
            return Err(Fault::Stopped);
        }
        match self.shelf.staged(name)? {
            Some((record, release)) if release.number == staging.number => Ok(record),
            // Another command broke it off.
            _ => Err(Fault::Stopped),
        }
    }

    /// Waits until a release on its way is ready, and stays so.
    pub(super) async fn passed(
        &self,
        name: &str,
        staging: &Staging,
        gate: &Gate,
        tell: &mut (dyn FnMut(Step) + Send),
    ) -> Result<Vec<Spot>, Fault> {
        let (begun, mut relapses) = (Instant::now(), 0);
        loop {
            let wanted = usize::from(self.release_record(name, Some(staging))?.replicas);
            let limit = gate.deadline.saturating_sub(begun.elapsed());
            let spots = match self.until_ready((name, Some(staging)), limit, wanted, tell).await {
                Ok(spots) => spots,
                Err(Fault::AppLate { app, ready, wanted, words, .. }) => {
                    let words = self.late_words(name, staging, words).await;
                    let secs = gate.deadline.as_secs();
                    return Err(Fault::AppLate { app, ready, wanted, secs, words });
                }
                Err(fault) => return Err(fault),
            };
            let Err(words) = self.probation(name, staging, &spots, gate).await? else { return Ok(spots) };
            relapses += 1;
            if relapses >= RELAPSES_MAX || begun.elapsed() >= gate.deadline {
                let (app, secs) = (name.to_owned(), begun.elapsed().as_secs());
                return Err(Fault::AppLate { app, ready: wanted - 1, wanted, secs, words });
            }
            tell(Step::Relapsed { words });
            tokio::time::sleep(RELAPSE_PAUSE * relapses).await;
        }
    }

    /// Looks at replicas that are ready for as long as the gate says; why not all of them stayed so, if they did not.
    async fn probation(
        &self,
        name: &str,
        staging: &Staging,
        spots: &[Spot],
        gate: &Gate,
    ) -> Result<Result<(), String>, Fault> {
        let begun = Instant::now();
        let starts: BTreeMap<u64, u64> =
            spots.iter().map(|spot| (spot.lease.id, spot.replica.as_ref().map_or(0, |said| said.starts))).collect();
        let mut missed: BTreeMap<u64, u32> = BTreeMap::new();
        loop {
            let record = self.release_record(name, Some(staging))?;
            let now = match self.spots(&record).await {
                Ok(now) => now,
                Err(fault) if fault.is_temporary() && begun.elapsed() < gate.most() => {
                    tokio::time::sleep(PROBATION_EVERY).await;
                    continue;
                }
                Err(fault) => return Err(fault),
            };
            let is_container = record.manifest.container().is_some();
            let there: BTreeSet<u64> = now.iter().map(|spot| spot.lease.id).collect();
            if let Some(lease) = starts.keys().find(|lease| !there.contains(lease)) {
                return Ok(Err(format!("lease {lease} ended")));
            }
            for spot in now.iter().filter(|spot| starts.contains_key(&spot.lease.id)) {
                let lease = spot.lease.id;
                let Some(said) = &spot.replica else {
                    let misses = missed.entry(lease).or_default();
                    *misses += 1;
                    match *misses > MISSES_MAX {
                        true => return Ok(Err(format!("the host of lease {lease} answers no more"))),
                        false => continue,
                    }
                };
                missed.remove(&lease);
                if said.state == State::Failed {
                    let words = self.last_words(name, spot).await;
                    return Err(Fault::AppFailed { app: name.to_owned(), words });
                }
                // One on call is started as it is asked.
                let again = is_container && starts.get(&lease).is_some_and(|starts| said.starts > *starts);
                if !said.state.answers() || again {
                    let words = self.last_words(name, spot).await;
                    let how = if again { "was started again" } else { "was ready, and is not any more" };
                    return Ok(Err(format!("lease {lease} {how}: {words}")));
                }
                if let Some(path) = &gate.check
                    && let Err(words) = self.check(&record, spot, path).await
                {
                    return Ok(Err(format!("lease {lease} did not answer {path}: {words}")));
                }
            }
            // A look that missed one is no proof that all are well.
            if begun.elapsed() >= gate.probation && missed.is_empty() {
                return Ok(Ok(()));
            }
            tokio::time::sleep(PROBATION_EVERY.min(gate.probation.saturating_sub(begun.elapsed()))).await;
        }
    }

    /// Asks one replica for a path.
    async fn check(&self, record: &Record, spot: &Spot, path: &str) -> Result<(), String> {
        let peer = spot.peer.as_ref().ok_or("its host is not reached")?;
        let pay = self.pay(record, &spot.lease).map_err(|fault| fault.to_string())?;
        let question = Question {
            lease: spot.lease.id,
            method: "GET".into(),
            target: path.to_owned(),
            headers: vec![("host".into(), format!("{}.localhost", record.manifest.name).into_bytes())],
            pay,
        };
        let nothing = stream::iter(Vec::<io::Result<Bytes>>::new());
        let asked = async {
            let mut reply = request(&self.link, peer, question, nothing, CHECK_TIMEOUT).await?;
            while let Some(bytes) = reply.body.next().await {
                bytes?;
            }
            Ok::<_, HostError>(reply.status)
        };
        match tokio::time::timeout(CHECK_TIMEOUT, asked).await {
            Ok(Ok(200..=399)) => Ok(()),
            Ok(Ok(status)) => Err(format!("status {status}, not 200 to 399")),
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => Err(format!("nothing within {} s", CHECK_TIMEOUT.as_secs())),
        }
    }

    /// What a replica that is late printed last, beside what is known of it.
    async fn late_words(&self, name: &str, staging: &Staging, words: String) -> String {
        let Ok(record) = self.release_record(name, Some(staging)) else { return words };
        let spots = self.spots(&record).await.unwrap_or_default();
        let is_late = |spot: &&Spot| spot.replica.as_ref().is_some_and(|said| !said.state.answers());
        match spots.iter().find(is_late) {
            Some(spot) => Some(self.last_words(name, spot).await).filter(|said| !said.is_empty()).unwrap_or(words),
            None => words,
        }
    }
}
