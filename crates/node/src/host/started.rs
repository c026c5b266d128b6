//! Tell the ledger that leases with a service level were taken up, several by one transaction.
//!
//! A replica that is ready is told of at once, and so is one that cannot run as its owner made it. One that waits for its
//! component, or compiles a large one, is told of when half of the promised time is over: the machine is there, and what it
//! waits for is its owner's. One whose process does not start is not told of.

use super::{Host, follow::MANY_MAX, settle::TOUCHED_MAX, watch::WatchError};
use crate::{provider::lock, tasks::Task};
use alloy_sol_types::SolCall;
use commonware_runtime::Storage;
use hodei_ledger::account::Order;
use hodei_types::{
    abi::{ILevels, LEVELS},
    app::wire::State,
    call::ask,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};
use tokio::sync::watch;

/// New leases and replicas are looked at so often: the least start that may be promised in earnest is a few times that.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// A lease's record is read and written, and that of a lost one before it judged.
const STARTED_GAS: u64 = 400_000;

/// What is to be told of each lease, if anything.
type Starts = BTreeMap<u64, Option<Start>>;

/// A lease whose start was promised.
#[derive(Clone, Copy, Debug)]
struct Start {
    until_ms: u64,
    within_ms: u64,
}

impl<E: Storage> Host<E> {
    /// Tells until `stop`.
    pub(super) async fn take_up(self, task: Task, mut stop: watch::Receiver<bool>) {
        let mut starts = Starts::new();
        loop {
            task.doing("waiting");
            tokio::select! {
                () = tokio::time::sleep(LOOK_EVERY + task.delay().unwrap_or(LOOK_EVERY)) => {}
                _ = stop.wait_for(|stop| *stop) => return,
            }
            if task.delay().is_none() {
                continue;
            }
            task.doing("looking what was taken up");
            match self.tell_started(&mut starts).await {
                Ok(()) => task.passed(),
                Err(error) => task.failed(&error),
            }
        }
    }

    async fn tell_started(&self, starts: &mut Starts) -> Result<(), WatchError> {
        let leases: BTreeSet<u64> = lock(&self.0.leases).iter().map(|lease| lease.id).collect();
        starts.retain(|lease, _| leases.contains(lease));
        let new: Vec<u64> = leases.into_iter().filter(|lease| !starts.contains_key(lease)).collect();
        for batch in new.chunks(MANY_MAX) {
            for held in ask(self.chain(), LEVELS, &ILevels::ofCall { leases: batch.to_vec() }).await? {
                let is_promised = held.level != ILevels::Level::default() && held.startedMs == 0;
                let within_ms = u64::from(held.level.startSecs) * 1000;
                starts.insert(held.lease, is_promised.then_some(Start { until_ms: held.startUntilMs, within_ms }));
            }
        }
        if starts.values().all(Option::is_none) {
            return Ok(());
        }
        let now_ms = self.chain().head().await?.time_ms;
        let is_up = |lease: u64, start: &Start| {
            self.replica(lease).is_some_and(|replica| is_taken_up(replica.state(), start, now_ms))
        };
        let waiting = starts.iter().filter_map(|(lease, start)| Some((*lease, (*start)?)));
        let due: Vec<u64> = waiting.filter(|(lease, start)| is_up(*lease, start)).map(|(lease, _)| lease).collect();
        for batch in due.chunks(TOUCHED_MAX) {
            let call = ILevels::startedCall { leases: batch.to_vec() }.abi_encode();
            let gas = STARTED_GAS * (batch.len() as u64 + 1);
            if !self.execute(Order::call(LEVELS, call, gas)).await? {
                // They began with another operator's bond: saying it again changes nothing.
                tracing::error!(leases = ?batch, "the ledger did not take that leases were taken up");
            }
            starts.extend(batch.iter().map(|lease| (*lease, None)));
        }
        Ok(())
    }
}

/// Whether a replica is taken up, as far as that is its host's part.
fn is_taken_up(state: State, start: &Start, now_ms: u64) -> bool {
    match state {
        State::Ready | State::Asleep | State::Warm | State::Failed => true,
        State::Waiting | State::Compiling | State::Restoring => {
            now_ms.saturating_add(start.within_ms / 2) >= start.until_ms
        }
        State::Starting => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_is_taken_up_when_its_replica_is_ready_or_waits_for_its_owner_half_of_the_time() {
        let start = Start { until_ms: 30_000, within_ms: 20_000 };
        for state in [State::Ready, State::Failed] {
            assert!(is_taken_up(state, &start, 10_001), "{state:?}");
        }
        for state in [State::Waiting, State::Compiling] {
            assert!(!is_taken_up(state, &start, 19_999) && is_taken_up(state, &start, 20_000), "{state:?}");
        }
        assert!(!is_taken_up(State::Starting, &start, 29_999));
    }
}
