//! Hold one replica: its process, who waits for it, what it used and printed.
//!
//! One on call has a process while it is asked, and for a while after.

use super::{
    calls::{Calls, Vouchers},
    contained::Contained,
    shelf::Workload,
    transcript::{Passing, Ran},
    warm::{OnCall, Start, Warm, mark},
};
use crate::{journal::now_ms, provider::lock};
use alloy_primitives::Address;
use bytes::Bytes;
use hodei_ledger::wire::send;
use hodei_sandbox::End;
use hodei_types::{
    abi::ILeases,
    app::{
        Manifest,
        wire::{Answer, CHUNK_BYTES_MAX, Due, Header, Readings, Replica as Look, State},
    },
    market::Capacity,
    transport::NodeKey,
};
use http_body_util::Full;
use std::{
    collections::VecDeque,
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};
use tokio::{
    sync::{Notify, watch},
    time::Instant,
};

/// Requests that wait for a replica, the one that runs among them; a further one is told BUSY.
const WAITING_MAX: usize = 32;
/// What who is told BUSY may wait.
pub(super) const BUSY_MS: u32 = 200;
/// Kept of what it printed.
const LOG_BYTES_MAX: usize = CHUNK_BYTES_MAX;
/// Beyond a request's deadline, so long may its asker take to accept the answer's rest.
const TAKE_TIMEOUT: Duration = Duration::from_secs(5);

/// One replica of an app, for one lease.
pub(super) struct Replica {
    pub(super) lease: u64,
    pub(super) order: u64,
    pub(super) owner: Address,
    pub(super) workload: Workload,
    pub(super) capacity: Capacity,
    /// Of one that is paid by the call.
    pub(super) on_call: Option<OnCall>,
    /// Its process, while it is ready. Who holds the lock asks it.
    slot: tokio::sync::Mutex<Option<Warm>>,
    /// Its container, where it is one.
    pub(super) contained: Contained,
    waiting: AtomicUsize,
    told: Mutex<Told>,
    over: watch::Sender<bool>,
    /// Something happened that who tends it should look at.
    pub(super) wake: Notify,
}

struct Told {
    look: Look,
    manifest: Option<Manifest>,
    log: VecDeque<u8>,
    /// Of what was counted, this went into the node's log.
    noted: (u64, u64, u64, u64),
}

/// Gives its place in the queue back, however a request ends.
struct Waiting<'a>(&'a AtomicUsize);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Replica {
    /// Of a lease; one on call goes on from its last voucher.
    pub(super) fn new(lease: &ILeases::Lease, vouchers: &Vouchers) -> Self {
        let look = Look {
            state: State::Waiting,
            words: String::new(),
            since_ms: now_ms(),
            cold_ms: 0,
            warm_us: 0,
            missing: String::new(),
            requests: 0,
            failures: 0,
            starts: 0,
            fuel: 0,
            bytes_in: 0,
            bytes_out: 0,
            memory_peak_bytes: 0,
            used: None,
            log_end: 0,
            due: Due::default(),
            log: Vec::new(),
        };
        let told = Told { look, manifest: None, log: VecDeque::new(), noted: (0, 0, 0, 0) };
        let on_call = (lease.callRate > 0).then(|| OnCall {
            calls: Mutex::new(Calls::new(lease, vouchers.load(lease.id))),
            writing: tokio::sync::Mutex::default(),
        });
        Self {
            lease: lease.id,
            order: lease.order,
            owner: lease.owner,
            workload: lease.workload.0,
            capacity: lease.capacity,
            on_call,
            slot: tokio::sync::Mutex::default(),
            contained: Contained::default(),
            waiting: AtomicUsize::new(0),
            told: Mutex::new(told),
            over: watch::Sender::new(false),
            wake: Notify::new(),
        }
    }

    /// Ends it: who asks it now is told that it is gone.
    pub(super) fn end(&self) {
        self.over.send_replace(true);
    }

    /// Resolves once its lease ended.
    pub(super) async fn ended(&self) {
        // The sender lives as long as this.
        let _ = self.over.subscribe().wait_for(|over| *over).await;
    }

    pub(super) fn is_over(&self) -> bool {
        *self.over.borrow()
    }

    pub(super) fn state(&self) -> State {
        lock(&self.told).look.state
    }

    /// Says where it is, and why.
    pub(super) fn tell(&self, state: State, words: impl ToString) {
        let mut told = lock(&self.told);
        let words = words.to_string();
        if (told.look.state, &told.look.words) != (state, &words) {
            told.look.since_ms = now_ms();
        }
        (told.look.state, told.look.words) = (state, words);
    }

    /// Learns who may read its log, and what a request may use.
    pub(super) fn describe(&self, manifest: &Manifest) {
        lock(&self.told).manifest = Some(manifest.clone());
    }

    /// Of a body, so many are taken.
    pub(super) fn request_bytes(&self) -> u64 {
        lock(&self.told).manifest.as_ref().map_or(0, |manifest| manifest.limits.request_bytes)
    }

    /// What it was made of, where that is here.
    pub(super) fn manifest(&self) -> Option<Manifest> {
        lock(&self.told).manifest.clone()
    }

    pub(super) fn viewer(&self) -> Option<NodeKey> {
        lock(&self.told).manifest.as_ref().map(|manifest| manifest.viewer)
    }

    /// Learns what the ledger has of its lease now.
    pub(super) fn learn(&self, lease: &ILeases::Lease) {
        self.on_call.iter().for_each(|on_call| lock(&on_call.calls).learn(lease));
    }

    /// Takes a process that is ready to be asked.
    pub(super) async fn take(&self, warm: Warm) {
        let mut slot = self.slot.lock().await;
        self.started(&warm);
        *slot = Some(warm);
        self.tell(State::Ready, "");
    }

    fn started(&self, warm: &Warm) {
        self.count_start(warm.cold, warm.missing());
    }

    /// Ends the process of one on call that nobody asked for so long.
    pub(super) async fn rest(&self, idle: Duration) {
        // Who asks it now looks at it himself.
        let Ok(mut slot) = self.slot.try_lock() else { return };
        let is_over = |warm: &mut Warm| {
            let is_idle = warm.asked.elapsed() >= idle && self.waiting.load(Ordering::Relaxed) == 0;
            is_idle || !warm.sandbox.is_running()
        };
        if slot.as_mut().is_some_and(is_over)
            && let Some(warm) = slot.take()
        {
            warm.sandbox.stop().await;
            self.tell(State::Asleep, "");
        }
    }

    /// Whether its process is gone; one that is being asked is looked at by who asks.
    pub(super) fn is_lost(&self) -> bool {
        let Ok(mut slot) = self.slot.try_lock() else { return false };
        let is_running = slot.as_mut().is_some_and(|warm| warm.sandbox.is_running());
        if !is_running {
            *slot = None;
        }
        !is_running
    }

    /// Ends its process.
    pub(super) async fn stop(&self) {
        if let Some(warm) = self.slot.lock().await.take() {
            warm.sandbox.stop().await;
        }
    }

    /// Number of its process, for people.
    pub(super) fn process_id(&self) -> Option<u32> {
        self.slot.try_lock().ok()?.as_ref()?.sandbox.process_id()
    }

    /// How it is; with its log from `since` on, for who may read that.
    pub(super) fn look(&self, log_since: Option<u64>) -> Look {
        let told = lock(&self.told);
        let log = log_since.map(|since| {
            let first = told.look.log_end - told.log.len() as u64;
            let skip = since.saturating_sub(first).min(told.log.len() as u64) as usize;
            told.log.iter().skip(skip).copied().collect()
        });
        let due = self.on_call.as_ref().map(|on_call| lock(&on_call.calls).due()).unwrap_or_default();
        Look { log: log.unwrap_or_default(), due, used: self.contained.used(), ..told.look.clone() }
    }

    /// Requests, fuel and bytes in and out since this was asked last; nothing where there were none.
    pub(super) fn unnoted(&self) -> Option<(u64, u64, u64, u64)> {
        let mut told = lock(&self.told);
        let now = (told.look.requests, told.look.fuel, told.look.bytes_in, told.look.bytes_out);
        let was = std::mem::replace(&mut told.noted, now);
        (now.0 > was.0).then(|| (now.0 - was.0, now.1 - was.1, now.2 - was.2, now.3 - was.3))
    }

    /// Asks it one request and sends what it answers; what it ran under and came to, where it ran to its end. One on call
    /// is started for it. Never leaves an exchange before its end while it lives.
    pub(super) async fn ask<Si: commonware_runtime::Sink>(
        &self,
        request: http::Request<Full<Bytes>>,
        start: Start<'_>,
        sink: &mut Si,
    ) -> Option<Ran> {
        let mut ran = None;
        let answer = tokio::select! {
            answer = self.exchange(request, start, sink, &mut ran) => answer,
            () = self.ended() => Some(Answer::Gone),
        };
        if let Some(answer) = answer {
            let is_taken = give(sink, &answer, Instant::now() + TAKE_TIMEOUT).await;
            ran.iter_mut().for_each(|ran| ran.is_taken = is_taken);
        }
        ran
    }

    /// `None` once everything was said.
    async fn exchange<Si: commonware_runtime::Sink>(
        &self,
        request: http::Request<Full<Bytes>>,
        start: Start<'_>,
        sink: &mut Si,
        ran: &mut Option<Ran>,
    ) -> Option<Answer> {
        let before = self.waiting.fetch_add(1, Ordering::Relaxed);
        let _waiting = Waiting(&self.waiting);
        if before >= WAITING_MAX {
            return Some(Answer::Busy { retry_after_ms: BUSY_MS });
        }
        if let Some(answer) = self.unready() {
            return Some(answer);
        }
        let mut slot = self.slot.lock().await;
        let is_there = slot.as_mut().is_some_and(|warm| warm.sandbox.is_running());
        let mut cold_ms = None;
        if let Some(on_call) = &self.on_call {
            // Others were before it, and may have used up the credit.
            let (admits, due) = {
                let calls = lock(&on_call.calls);
                (calls.admits(), calls.due())
            };
            if !admits {
                return Some(Answer::Unpaid { due });
            }
            if !is_there {
                *slot = None;
                match start.await {
                    Ok(warm) => {
                        self.started(&warm);
                        cold_ms = Some(millis(warm.cold));
                        *slot = Some(warm);
                        self.tell(State::Warm, "");
                    }
                    Err(answer) => return Some(answer),
                }
            }
        } else if !is_there && slot.is_some() {
            *slot = None;
            self.lost("its process died");
            return Some(self.not_ready());
        }
        let (manifest, number) = {
            let told = lock(&self.told);
            (told.manifest.clone(), told.look.requests)
        };
        let Some((warm, manifest)) = slot.as_mut().filter(|_| self.state().answers()).zip(manifest) else {
            return Some(self.not_ready());
        };
        warm.asked = Instant::now();
        let sandbox = &mut warm.sandbox;
        let until = Instant::now() + Duration::from_millis(manifest.limits.deadline_ms) + TAKE_TIMEOUT;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let seed = rand::random();
        let (mut is_taken, mut passing) = (true, Passing::new());
        let ended = async {
            let mut exchange = sandbox.request(request, now, seed).await?;
            if let Some((status, headers)) = exchange.head() {
                let (status, mut headers) = (status.as_u16(), listed(headers));
                // Its own headers are what running it again gives.
                passing.head(status, &headers);
                if self.on_call.is_some() {
                    mark(&mut headers, cold_ms);
                }
                is_taken = give(sink, &Answer::Head { status, headers }, until).await;
            }
            while let Some(chunk) = exchange.chunk().await? {
                passing.chunk(&chunk);
                for chunk in chunk.chunks(CHUNK_BYTES_MAX) {
                    // Who takes no more is not waited for, and what is left is thrown away.
                    is_taken = is_taken && give(sink, &Answer::Bytes(chunk.to_vec()), until).await;
                }
            }
            exchange.end().await
        };
        let done = match ended.await {
            Ok(End { readings, failure, log }) => {
                let failure = failure.map(|failure| failure.to_string());
                let readings = Readings {
                    fuel: readings.fuel,
                    memory_peak_bytes: readings.memory_peak_bytes,
                    bytes_in: readings.bytes_in,
                    bytes_out: readings.bytes_out,
                    wall_us: micros(readings.wall),
                    instantiated_us: micros(readings.instantiated_in),
                };
                self.count(&readings, failure.as_deref(), &log);
                if let Some(warm) = slot.as_mut() {
                    warm.asked = Instant::now();
                }
                let outcome = passing.end(&readings, failure.as_deref());
                *ran = Some(Ran { manifest, number, now, seed, outcome, is_taken });
                // Whoever takes its answer or does not, and whatever became of it: the fuel was burned.
                let due = self.on_call.as_ref().map(|on_call| lock(&on_call.calls).count(readings.fuel));
                Answer::Done { readings, failure, due }
            }
            Err(error) => {
                // What is left of it answers no other.
                *slot = None;
                let words = error.to_string();
                self.count(&Readings::default(), Some(&words), &[]);
                self.lost(&words);
                // What this host let die is not billed.
                let due = self.on_call.as_ref().map(|on_call| lock(&on_call.calls).due());
                Answer::Done { readings: Readings::default(), failure: Some(words), due }
            }
        };
        is_taken.then_some(done)
    }

    /// What is answered while it is not ready.
    pub(super) fn unready(&self) -> Option<Answer> {
        (!self.state().answers()).then(|| self.not_ready())
    }

    pub(super) fn not_ready(&self) -> Answer {
        let told = lock(&self.told);
        let words = match told.look.words.is_empty() {
            true => told.look.state.name().into(),
            false => format!("{}: {}", told.look.state.name(), told.look.words),
        };
        Answer::NotReady { words }
    }

    fn lost(&self, words: &str) {
        // One on call is started by who asks it next.
        self.tell(if self.on_call.is_some() { State::Asleep } else { State::Starting }, words);
        self.wake.notify_one();
    }

    /// Counts a start that took so long, and what it lacks of fences.
    pub(super) fn count_start(&self, cold: Duration, missing: String) {
        let mut told = lock(&self.told);
        told.look.cold_ms = millis(cold);
        told.look.missing = missing;
        told.look.starts += 1;
    }

    /// Counts bytes that no request was about, and the most memory it ever had.
    pub(super) fn count_bytes(&self, bytes_in: u64, bytes_out: u64, memory_peak_bytes: u64) {
        let look = &mut lock(&self.told).look;
        look.bytes_in = look.bytes_in.saturating_add(bytes_in);
        look.bytes_out = look.bytes_out.saturating_add(bytes_out);
        look.memory_peak_bytes = look.memory_peak_bytes.max(memory_peak_bytes);
    }

    pub(super) fn count(&self, readings: &Readings, failure: Option<&str>, printed: &[u8]) {
        let mut told = lock(&self.told);
        let look = &mut told.look;
        look.requests += 1;
        look.failures += u64::from(failure.is_some());
        look.warm_us = readings.instantiated_us;
        look.fuel = look.fuel.saturating_add(readings.fuel);
        look.bytes_in = look.bytes_in.saturating_add(readings.bytes_in);
        look.bytes_out = look.bytes_out.saturating_add(readings.bytes_out);
        look.memory_peak_bytes = look.memory_peak_bytes.max(readings.memory_peak_bytes);
        told.print(printed);
        if let Some(failure) = failure {
            told.print(format!("request failed: {failure}\n").as_bytes());
        }
    }

    /// Writes a line of the host's own into its log.
    pub(super) fn print(&self, line: &str) {
        self.print_bytes(format!("{line}\n").as_bytes());
    }

    pub(super) fn print_bytes(&self, bytes: &[u8]) {
        lock(&self.told).print(bytes);
    }
}

impl Told {
    fn print(&mut self, bytes: &[u8]) {
        self.look.log_end += bytes.len() as u64;
        self.log.extend(&bytes[bytes.len().saturating_sub(LOG_BYTES_MAX)..]);
        let over = self.log.len().saturating_sub(LOG_BYTES_MAX);
        self.log.drain(..over);
    }
}

/// An answer's headers, as they cross the wire.
pub(super) fn listed(headers: &http::HeaderMap) -> Vec<Header> {
    headers.iter().map(|(name, value)| (name.to_string(), value.as_bytes().to_vec())).collect()
}

/// Sends one message; whether it was taken in time.
pub(super) async fn give<Si: commonware_runtime::Sink>(sink: &mut Si, answer: &Answer, until: Instant) -> bool {
    matches!(tokio::time::timeout_at(until, send(sink, answer.encode())).await, Ok(Ok(())))
}

fn millis(of: Duration) -> u64 {
    u64::try_from(of.as_millis()).unwrap_or(u64::MAX)
}

pub(super) fn micros(of: Duration) -> u64 {
    u64::try_from(of.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
pub(super) mod tests;
