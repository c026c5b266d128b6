//! End replicas of an app on purpose, and see how it does without them.
//!
//! What an owner can end is what he pays for: the lease. To the app it is as if its host had ended it, so that what is
//! tried is what happens upon a loss that is noticed at once; a host that falls silent is noticed after a few looks more.

use super::{
    Apps, RUNNING,
    deploy::{LOOK_EVERY, READY_TIMEOUT, Step, deploying_until_ms},
    keep::Keep,
    now_ms, paid,
    record::Record,
    upkeep::Spot,
};
use crate::fault::Fault;
use alloy_primitives::U256;
use hodei_types::transport::Transport;
use std::{
    collections::BTreeSet,
    sync::Mutex,
    time::{Duration, Instant},
};

/// What came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Drilled {
    pub ended: Vec<u64>,
    /// Wei of those that came back.
    pub refunded: U256,
    /// Leases that took their place.
    pub placed: Vec<u64>,
    /// Wei in escrow for these.
    pub escrow: U256,
    /// From their end until as many as wanted were ready again.
    pub took: Duration,
}

impl<T: Transport> Apps<T> {
    /// Ends these leases of an app, and waits until as many replicas as wanted are ready again. Where nobody keeps the app
    /// they are placed again from here.
    pub async fn drill(
        &self,
        name: &str,
        leases: &BTreeSet<u64>,
        is_kept: bool,
        tell: &mut (dyn FnMut(Step) + Send),
    ) -> Result<Drilled, Fault> {
        let record = self.record(name)?;
        self.no_update(&record)?;
        let spots = self.spots(&record).await?;
        let known: BTreeSet<u64> = spots.iter().map(|spot| spot.lease.id).collect();
        let ending: Vec<_> =
            spots.iter().filter(|spot| leases.contains(&spot.lease.id)).map(|spot| spot.lease.clone()).collect();
        if !is_kept {
            // Whoever keeps it after all leaves it to us.
            let until_ms = deploying_until_ms(record.manifest.bytes());
            self.shelf.store(&Record { deploying_until_ms: until_ms, ..record.clone() })?;
        }
        let done = self.drilled(&record, (&spots, ending, known), is_kept, tell).await;
        if !is_kept {
            let now = self.record(name)?;
            self.shelf.store(&Record { deploying_until_ms: 0, ..now })?;
        }
        done
    }

    async fn drilled(
        &self,
        record: &Record,
        (spots, ending, known): (&[Spot], Vec<hodei_types::abi::ILeases::Lease>, BTreeSet<u64>),
        is_kept: bool,
        tell: &mut (dyn FnMut(Step) + Send),
    ) -> Result<Drilled, Fault> {
        let name = &record.manifest.name;
        let keep = Mutex::new(Keep::default());
        // As whoever keeps it saw them last: what ends too early is made up for.
        let seen: Vec<_> = spots.iter().map(Spot::seen).collect();
        let wanted = (record.replicas, record.is_spread);
        keep.lock().expect("no panic under this lock").step(now_ms(), wanted, &seen);
        self.pay_up(record, &ending).await?;
        let ids: Vec<u64> = ending.iter().map(|lease| lease.id).collect();
        let refunded = self.end(&ids).await?.iter().map(|lease| lease.refund).sum();
        let begun = Instant::now();
        let wanted = usize::from(record.replicas);
        if is_kept {
            self.until_kept(name, (wanted, &ids), tell).await?;
        } else {
            self.until_ready_by(&keep, (name, None), READY_TIMEOUT, wanted, tell).await?;
        }
        let took = begun.elapsed();
        let mut placed = self.leases(&self.record(name)?).await?;
        placed.retain(|lease| lease.state == RUNNING && !known.contains(&lease.id));
        let escrow = placed.iter().map(|lease| U256::from(lease.left) + paid(lease)).sum();
        Ok(Drilled { ended: ids, refunded, placed: placed.iter().map(|lease| lease.id).collect(), escrow, took })
    }

    /// Looks until whoever keeps an app has as many replicas ready as are wanted, without those.
    async fn until_kept(
        &self,
        name: &str,
        (wanted, without): (usize, &[u64]),
        tell: &mut (dyn FnMut(Step) + Send),
    ) -> Result<(), Fault> {
        let begun = Instant::now();
        loop {
            let spots = match self.spots(&self.record(name)?).await {
                Ok(spots) => spots,
                Err(fault) if fault.is_temporary() && begun.elapsed() < READY_TIMEOUT => Vec::new(),
                Err(fault) => return Err(fault),
            };
            let there = || spots.iter().filter(|spot| !without.contains(&spot.lease.id));
            let ready = there().filter(|spot| spot.replica.as_ref().is_some_and(|said| said.state.answers())).count();
            if ready >= wanted {
                return Ok(());
            }
            if begun.elapsed() > READY_TIMEOUT {
                let words = "nobody placed again what was ended: is `hodei app serve` or `hodei app keep` running?";
                let (app, secs) = (name.to_owned(), READY_TIMEOUT.as_secs());
                return Err(Fault::AppLate { app, ready, wanted, secs, words: words.into() });
            }
            let state = |spot: &Spot| spot.replica.as_ref().map_or("not reached", |said| said.state.name());
            tell(Step::Starting { ready, wanted, states: there().map(state).collect() });
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }
}
