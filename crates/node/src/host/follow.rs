//! Follow the ledger's leases of this host, and what is paid for them.
//!
//! Upon the start: state the offer, read the leases. Upon each head: read the events about this host since the last
//! one, write them into the node's log, and read the leases again where one began or ended; and every few seconds all
//! the same, for an escrow ends without an event.

use super::{
    Host,
    paid::logs,
    promise,
    register::{self, RegisterError},
    replica::Replica,
};
use crate::{provider::lock, tasks::Task};
use alloy_primitives::{Address, U256};
use alloy_sol_types::SolEventInterface;
use commonware_runtime::Storage;
use hodei_types::{
    abi::{ILeases, IMarket, LEASES, MARKET, PAGE_MAX},
    call::ask,
    chain::{ChainError, Log},
    event::{Fields, Kind},
    market::{REFERENCE, hour_price},
};
use std::{
    collections::{BTreeSet, btree_map::Entry},
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};
use tokio::sync::watch;

/// After a failure the next attempt waits.
const RETRY_AFTER: Duration = Duration::from_secs(2);
/// Events are read at most so often, however fast blocks come.
const PACE: Duration = Duration::from_millis(250);
/// A block is waited for at most so long: time passes for leases all the same.
const HEAD_TIMEOUT: Duration = Duration::from_secs(5);
/// All leases are read at least so often.
const REFRESH_EVERY: Duration = Duration::from_secs(10);
/// The ledger is asked about unknown leases at most so often, whoever names them.
const SOON: Duration = Duration::from_millis(300);
/// What was answered goes into the node's log so often.
const NOTE_EVERY: Duration = Duration::from_secs(60);
/// Quiet blocks after which the height reached is written down all the same.
const REMEMBER_EVERY: u64 = 1_000;
/// Leases of one host that are followed: far more than one machine has processes for.
const LEASES_MAX: usize = 4096;
/// Leases asked for at once.
pub(super) const MANY_MAX: usize = PAGE_MAX as usize;
/// `ILeases::Lease::state` of one that runs.
pub(super) const RUNNING: u8 = 1;

impl<E: Storage> Host<E> {
    /// Follows the ledger until `stop`; then every replica ends.
    pub(super) async fn report(self, task: Task, mut stop: watch::Receiver<bool>) {
        tokio::select! {
            () = self.follow(&task) => {}
            _ = stop.wait_for(|stop| *stop) => {}
        }
        let replicas = std::mem::take(&mut *lock(&self.0.replicas));
        replicas.values().for_each(|replica| replica.end());
        for replica in replicas.into_values() {
            replica.stop().await;
        }
    }

    async fn follow(&self, task: &Task) {
        let mut height = loop {
            match self.enter(task).await {
                Ok(height) => break height,
                Err(error) => {
                    *lock(&self.0.idle) = Some(error.to_string());
                    task.failed(&error);
                    tokio::time::sleep(RETRY_AFTER).await;
                }
            }
        };
        let (mut written, mut noted) = (height, Instant::now());
        loop {
            let worth = match self.pass(&mut height).await {
                Ok(worth) => {
                    let running = lock(&self.0.replicas).len();
                    task.doing(format!("{running} leases at height {height}"));
                    task.passed();
                    worth
                }
                Err(error) => {
                    task.failed(&error);
                    tokio::time::sleep(RETRY_AFTER).await;
                    false
                }
            };
            if worth || height > written + REMEMBER_EVERY {
                written = height;
                self.0.reported.set(height);
            }
            if noted.elapsed() >= NOTE_EVERY {
                noted = Instant::now();
                self.note_requests().await;
            }
            tokio::time::sleep(PACE + task.delay().unwrap_or(RETRY_AFTER)).await;
        }
    }

    /// Registers if asked to, reads the leases; gives the last block reported.
    async fn enter(&self, task: &Task) -> Result<u64, RegisterError> {
        let parts = &self.0.parts;
        let height = match self.0.reported.get() {
            Some(height) => height,
            None => self.chain().head().await?.height,
        };
        if self.0.config.register {
            task.doing("stating the offer on the ledger");
            if register::ensure(&parts.account, &parts.signer, &self.0.config, &parts.reach).await?.is_none() {
                tracing::info!(node = %self.id(), "offer of computing stated on the ledger");
            }
            match promise::ensure(&parts.account, self.id(), self.0.config.level.as_ref()).await {
                Ok(true) => tracing::info!(node = %self.id(), "what is promised of leases is stated on the ledger"),
                Ok(false) => {}
                // Leases that were promised something run on: without it they would be lost, which costs more.
                Err(error) => tracing::error!(%error, "what is promised of leases is not stated on the ledger"),
            }
        }
        task.doing("reading the leases");
        self.refresh().await?;
        self.sweep();
        Ok(height)
    }

    /// Reads what happened beyond `height`, and moves it on; whether anything did.
    async fn pass(&self, height: &mut u64) -> Result<bool, ChainError> {
        let head = match tokio::time::timeout(HEAD_TIMEOUT, self.chain().wait(*height)).await {
            Ok(head) => head?,
            Err(_) => self.chain().head().await?,
        };
        let mut told = Vec::new();
        if head.height > *height {
            let (found, to) = logs(self.chain(), self.id(), *height + 1, head.height).await?;
            told = found;
            // Leases are read before events are told, and events again where that fails.
            if !told.is_empty() {
                self.refresh().await?;
            }
            *height = to;
        }
        let is_due = self.0.refreshed.lock().await.is_none_or(|last| last.elapsed() >= REFRESH_EVERY);
        if is_due {
            self.refresh().await?;
        }
        for log in &told {
            self.take_note(log).await;
        }
        Ok(!told.is_empty())
    }

    /// Asks for the leases unless that was a moment ago.
    pub(super) async fn refresh_soon(&self) -> Result<(), ChainError> {
        if self.0.refreshed.lock().await.is_some_and(|last| last.elapsed() < SOON) {
            return Ok(());
        }
        self.refresh().await
    }

    /// Reads the leases: a replica begins for each that is new and paid, and ends with each that is not any more.
    async fn refresh(&self) -> Result<(), ChainError> {
        // One at a time: what an earlier one read would undo what a later one did.
        let mut refreshed = self.0.refreshed.lock().await;
        let head = self.chain().head().await?;
        let mut leases = Vec::new();
        for batch in register::leases_of(self.chain(), self.id(), LEASES_MAX).await?.chunks(MANY_MAX) {
            leases.extend(ask(self.chain(), LEASES, &ILeases::manyCall { leases: batch.to_vec() }).await?);
        }
        leases.retain(|lease| lease.state == RUNNING && lease.node == self.id());
        let record = register::record(self.chain(), self.id()).await?;
        self.0.room.set(record.as_ref().map_or_else(|| self.0.config.capacity(), |record| record.free));
        let is_paid = |lease: &&ILeases::Lease| is_run(lease, head.time_ms);
        let mut begun = Vec::new();
        let ended: Vec<Arc<Replica>> = {
            let mut replicas = lock(&self.0.replicas);
            let paid: BTreeSet<u64> = leases.iter().filter(is_paid).map(|lease| lease.id).collect();
            let gone: Vec<u64> = replicas.keys().copied().filter(|lease| !paid.contains(lease)).collect();
            for lease in leases.iter().filter(is_paid) {
                match replicas.entry(lease.id) {
                    Entry::Vacant(place) => {
                        let replica = Arc::new(Replica::new(lease, &self.0.vouchers));
                        begun.push(place.insert(replica).clone());
                    }
                    Entry::Occupied(known) => known.get().learn(lease),
                }
            }
            gone.iter().filter_map(|lease| replicas.remove(lease)).collect()
        };
        for replica in ended {
            replica.end();
            lock(&self.0.samples).forget(replica.lease);
            self.note_one(&replica).await;
            tracing::info!(lease = replica.lease, "a replica ends with its lease");
            let fields = Fields::new().text("what", "ended").uint("lease", replica.lease);
            self.note(Kind::Lease, fields.bytes("workload", &replica.workload)).await;
        }
        for replica in begun {
            tracing::info!(lease = replica.lease, "a lease for a replica");
            let fields = Fields::new().text("what", "placed").uint("lease", replica.lease);
            let fields = fields.uint("order", replica.order).bytes("owner", replica.owner.as_slice());
            self.note(Kind::Lease, fields.bytes("workload", &replica.workload)).await;
            tokio::spawn(self.clone().tend(replica));
        }
        let named = leases.iter().map(|lease| lease.workload.0).collect();
        if let Err(error) = self.0.shelf.retain(&named, Instant::now()) {
            tracing::error!(%error, "components that no lease names stay");
        }
        if let Some(Err(error)) = self.0.containers.as_ref().map(|it| it.images.retain(&named, Instant::now())) {
            tracing::error!(%error, "images that no lease names stay");
        }
        if let Err(error) = self.0.vouchers.retain(&leases.iter().map(|lease| lease.id).collect()) {
            tracing::error!(%error, "vouchers of leases that ended stay");
        }
        self.0.is_retired.store(record.as_ref().is_some_and(|record| record.retired), Ordering::Relaxed);
        let is_idle = leases.is_empty();
        *lock(&self.0.record) = record.clone();
        self.show(&leases, head.time_ms);
        *lock(&self.0.leases) = leases;
        let idle = match is_idle {
            true => Some(self.why_idle(record.as_ref()).await?),
            false => None,
        };
        *lock(&self.0.idle) = idle;
        *refreshed = Some(Instant::now());
        Ok(())
    }

    /// Why a host without leases has none, with the next cheaper ask.
    async fn why_idle(&self, record: Option<&IMarket::Host>) -> Result<String, ChainError> {
        let Some(record) = record else {
            return Ok("it is not registered: set compute.register, and see the task `leases`".into());
        };
        if record.retired {
            return Ok("it is retired and takes no orders".into());
        }
        let call = IMarket::depthCall { region: record.offer.region, runtime: record.offer.runtime };
        let book = ask(self.chain(), MARKET, &call).await?;
        Ok(idle(hour_price(&REFERENCE, &record.offer.prices), &book))
    }

    async fn take_note(&self, log: &Log) {
        use ILeases::ILeasesEvents::{Begun, Claimed, Ended, Refuted, Settled, Suspected, Watched};
        let fields = Fields::new().uint("height", log.height).uint("index", log.index.into());
        let fields = fields.bytes("tx", log.tx.as_slice());
        // One this program does not know is of a newer ledger: nothing it could act on.
        let (kind, fields) = match ILeases::ILeasesEvents::decode_raw_log(&log.topics, &log.data) {
            Ok(Begun(event)) => {
                let fields = fields.text("what", "begun").uint("lease", event.lease).uint("order", event.order);
                (Kind::Lease, fields.bytes("rate_wei", &U256::from(event.rate).to_be_bytes_trimmed_vec()))
            }
            // What a lease pays that stands in a held one is its holder's.
            Ok(Settled(event)) if !self.is_paid_to(event.operator) => return,
            Ok(Settled(event)) => {
                self.earn(event.amount);
                let fields = fields.text("what", "lease").uint("lease", event.lease).uint("secs", event.secs);
                (Kind::Payment, fields.bytes("wei", &event.amount.to_be_bytes_trimmed_vec()))
            }
            Ok(Claimed(event)) => {
                self.earn(event.amount);
                let fields = fields.text("what", "calls").uint("lease", event.lease);
                (Kind::Payment, fields.bytes("wei", &event.amount.to_be_bytes_trimmed_vec()))
            }
            Ok(Ended(event)) => {
                let fields = fields.text("what", "closed").uint("lease", event.lease).uint("by", event.by.into());
                (Kind::Lease, fields.bytes("penalty_wei", &event.penalty.to_be_bytes_trimmed_vec()))
            }
            Ok(Suspected(event)) => {
                let fields = fields.text("what", "suspected").uint("lease", event.lease);
                (Kind::Lease, fields.uint("generation", event.generation))
            }
            Ok(Refuted(event)) => {
                let fields = fields.text("what", "refuted").uint("lease", event.lease);
                (Kind::Lease, fields.uint("generation", event.generation))
            }
            // For telling of another host's loss.
            Ok(Watched(event)) => {
                self.earn(event.amount);
                let fields = fields.text("what", "watch").uint("lease", event.lease);
                (Kind::Payment, fields.bytes("wei", &event.amount.to_be_bytes_trimmed_vec()))
            }
            _ => return,
        };
        self.note(kind, fields).await;
    }

    /// Whether that is this host's operator, as far as is known.
    fn is_paid_to(&self, account: Address) -> bool {
        lock(&self.0.record).as_ref().is_none_or(|record| record.operator == account)
    }

    fn earn(&self, wei: U256) {
        let mut earned = lock(&self.0.earned);
        *earned = earned.saturating_add(wei);
    }

    /// What replicas answered since the last time, one event each.
    async fn note_requests(&self) {
        let replicas: Vec<_> = lock(&self.0.replicas).values().cloned().collect();
        for replica in replicas {
            self.note_one(&replica).await;
        }
    }

    async fn note_one(&self, replica: &Replica) {
        if let Some(used) = replica.contained.unnoted() {
            let fields = Fields::new().text("what", "used").uint("lease", replica.lease).uint("cpu_ms", used.cpu_ms);
            let fields = fields.uint("memory_bytes", used.memory_bytes).uint("disk_bytes", used.disk_bytes);
            self.note(Kind::Lease, fields).await;
        }
        let Some((requests, fuel, bytes_in, bytes_out)) = replica.unnoted() else { return };
        let fields = Fields::new().text("what", "answered").uint("lease", replica.lease).uint("requests", requests);
        let fields = fields.uint("fuel", fuel).uint("bytes_in", bytes_in).uint("bytes_out", bytes_out);
        self.note(Kind::Lease, fields).await;
    }
}

/// Whether a lease is paid now for something to run: what holds room runs nothing.
fn is_run(lease: &ILeases::Lease, now_ms: u64) -> bool {
    lease.untilMs > now_ms && !lease.workload.is_zero()
}

/// Why an open offer at this price of the reference has no lease, as far as the book says.
fn idle(price: u128, book: &[IMarket::Step]) -> String {
    let what = "an hour of 1 CPU, 2 GiB of memory, 10 GiB of disk and 10 Mbit/s";
    // Steps rise; what is in one asks its price or somewhat more. The own offer is in the last that is not above it, and
    // is no rival.
    let own = book.iter().rposition(|step| step.priceFrom <= price);
    let rivals = |(at, step): (usize, &IMarket::Step)| (step.priceFrom, step.offers - u64::from(own == Some(at)));
    let steps = book.iter().enumerate().filter(|(_, step)| step.priceFrom < price && step.offers > 0).map(rivals);
    let cheaper: Vec<_> = steps.filter(|(_, offers)| *offers > 0).collect();
    let offers: u64 = cheaper.iter().map(|(_, offers)| offers).sum();
    match cheaper.last() {
        Some((next, _)) => format!(
            "orders take the cheapest first: up to {offers} offers ask less, the next from {} for {what}, and this one {}: \
             lower the prices in [compute] and start again",
            coins(*next),
            coins(price)
        ),
        None => format!("no offer here asks less than its {} for {what}: no order has come that it fits", coins(price)),
    }
}

fn coins(wei: u128) -> crate::config::Coins {
    crate::config::Coins(wei)
}

#[cfg(test)]
mod tests {
    use super::{super::replica::tests::lease, *};

    #[test]
    fn what_is_paid_and_names_a_component_is_run_and_what_holds_room_is_not() {
        let lease = ILeases::Lease { workload: [7; 32].into(), untilMs: 10, ..lease(1) };
        assert!(is_run(&lease, 9) && !is_run(&lease, 10));
        assert!(!is_run(&ILeases::Lease { workload: Default::default(), ..lease }, 9));
    }

    #[test]
    fn who_earns_nothing_hears_the_next_cheaper_ask() {
        let step = |price, offers| IMarket::Step { priceFrom: price, offers, free: REFERENCE };
        let coin = crate::config::COIN;
        let told = idle(5 * coin, &[step(coin, 2), step(3 * coin, 2), step(6 * coin, 9)]);
        assert!(told.contains("up to 3 offers ask less, the next from 3 for"), "{told}");
        assert!(told.contains("this one 5:"), "{told}");
        // Alone in its step, whose price is a little less than its own.
        let told = idle(5 * coin, &[step(4 * coin, 1)]);
        assert!(told.contains("no offer here asks less than its 5"), "{told}");
    }
}
