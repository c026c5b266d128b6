//! Bring one replica up, and up again, until its lease ends.
//!
//! ```text
//! waiting for what it runs ─► preparing ─► starting ─► ready ─┐
//!        ▲  given, or fetched     one at a time    ▲           │ its process died
//!        └─ every few seconds                      └─ later ◄──┘ each time
//! ```
//! One on call is started once to see that it runs, and sleeps then: who asks it starts it again from what is compiled.

use super::{
    Host,
    replica::{BUSY_MS, Replica},
    warm::Warm,
};
use commonware_runtime::Storage;
use hodei_sandbox::{Code, CompileLimits, Entry, Error, Limits, Sandbox};
use hodei_types::{
    app::{
        Manifest,
        wire::{Answer, State},
    },
    event::{Fields, Kind},
};
use std::{sync::Arc, time::Duration};
use tokio::time::Instant;

/// Without its component, others are asked so often.
pub(super) const FETCH_EVERY: Duration = Duration::from_secs(5);
/// A process is looked at so often while nobody asks it.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// The first wait before a process is started again; each is twice the one before.
pub(super) const BACKOFF: Duration = Duration::from_millis(100);
pub(super) const BACKOFF_MAX: Duration = Duration::from_secs(60);
/// What lived for so long begins with the first wait again.
pub(super) const LIVED: Duration = Duration::from_secs(60);
/// A component whose compiler died so often will not be compiled here.
const COMPILERS_DIED_MAX: u32 = 3;

/// Why a replica does not run.
enum Down {
    /// It never will, as it is.
    Never(String),
    /// It may, later.
    Later(String),
    /// Its compiler died, which costs minutes of a core each time: some bombs end so, and some bad moments.
    Compiler(String),
}

impl<E: Storage> Host<E> {
    /// Tends a replica until its lease ends.
    pub(super) async fn tend(self, replica: Arc<Replica>) {
        if let Some(containers) = &self.0.containers {
            return self.contain(containers, &replica).await;
        }
        tokio::select! {
            () = self.keep_up(&replica) => {}
            () = replica.ended() => {}
        }
        replica.stop().await;
    }

    async fn keep_up(&self, replica: &Replica) {
        let (mut backoff, mut died) = (BACKOFF, 0);
        loop {
            let begun = Instant::now();
            let up = match self.bring_up(replica).await {
                Err(Down::Compiler(words)) => {
                    died += 1;
                    Err(if died < COMPILERS_DIED_MAX { Down::Later(words) } else { Down::Never(words) })
                }
                up => up,
            };
            match up {
                Ok(()) if replica.on_call.is_some() => self.sleep(replica).await,
                Ok(()) => {
                    while !replica.is_lost() {
                        tokio::select! {
                            () = tokio::time::sleep(LOOK_EVERY) => {}
                            () = replica.wake.notified() => {}
                        }
                    }
                    tracing::warn!(lease = replica.lease, "a replica's process is gone: another is started");
                    replica.tell(State::Starting, "its process ended, another is started");
                    replica.print("host: the process ended, another is started");
                }
                Err(Down::Never(words)) => {
                    tracing::warn!(lease = replica.lease, words, "a replica cannot run");
                    replica.print(&format!("host: {words}"));
                    replica.tell(State::Failed, words);
                    return std::future::pending().await;
                }
                Err(Down::Later(words) | Down::Compiler(words)) => {
                    tracing::warn!(lease = replica.lease, words, "a replica did not start");
                    replica.tell(State::Starting, words);
                }
            }
            if begun.elapsed() >= LIVED {
                backoff = BACKOFF;
            }
            tokio::time::sleep(backoff).await;
            backoff = (backoff * 2).min(BACKOFF_MAX);
        }
    }

    async fn bring_up(&self, replica: &Replica) -> Result<(), Down> {
        let (manifest, wasm) = self.component(replica).await?;
        replica.describe(&manifest);
        let limits = limits(&manifest);
        let (asked, leased) = (limits.memory_bytes_max, replica.capacity.memoryBytes);
        if asked > leased {
            return Err(Down::Never(format!(
                "its manifest asks for {asked} bytes of memory and its lease is for {leased}: order more, or ask for less"
            )));
        }
        replica.tell(State::Compiling, "");
        let code = {
            let _turn = self.0.compilers.acquire().await.map_err(|error| Down::Later(error.to_string()))?;
            let compiled = self.code(&wasm).await;
            drop(wasm);
            compiled?
        };
        replica.tell(State::Starting, "");
        let sandbox = self.sandbox(&code, &limits).await?;
        let cold = sandbox.started().cold;
        let cold_ms = u64::try_from(cold.as_millis()).unwrap_or(u64::MAX);
        match replica.on_call.is_some() {
            true => {
                sandbox.stop().await;
                replica.tell(State::Asleep, "");
            }
            false => replica.take(Warm::new(sandbox, cold, None)).await,
        }
        tracing::info!(lease = replica.lease, app = manifest.name, cold_ms, "a replica is ready");
        replica.print(&format!("host: started in {cold_ms} ms"));
        let fields = Fields::new().text("what", "started").uint("lease", replica.lease).uint("cold_ms", cold_ms);
        self.note(Kind::Lease, fields.bytes("workload", &replica.workload)).await;
        Ok(())
    }

    /// Its compiled code: kept, or compiled now.
    async fn code(&self, wasm: &[u8]) -> Result<Code, Down> {
        let (program, codes) = (&self.0.parts.program, &self.0.shelf.codes);
        let compiled = codes.compiled(program, wasm, &CompileLimits::default()).await;
        compiled.map_err(|error| match error {
            Error::NotAComponent(_) | Error::CodeTooLong { .. } | Error::CompileDeadline(_) => {
                Down::Never(error.to_string())
            }
            Error::Start(_) | Error::Codes(_) => Down::Later(error.to_string()),
            error => Down::Compiler(error.to_string()),
        })
    }

    /// A process of it that answers requests.
    async fn sandbox(&self, code: &Code, limits: &Limits) -> Result<Sandbox, Down> {
        let sandbox = Sandbox::start(&self.0.parts.program, code, limits).await;
        let sandbox = sandbox.map_err(|error| match error {
            Error::NotAComponent(_) => Down::Never(error.to_string()),
            error => Down::Later(error.to_string()),
        })?;
        if sandbox.entry() != Entry::Http {
            let words = "this component is a command: what answers requests exports wasi:http/incoming-handler";
            return Err(Down::Never(words.into()));
        }
        Ok(sandbox)
    }

    /// Ends the process of one on call whenever it was idle for long enough; returns where its component is gone.
    async fn sleep(&self, replica: &Replica) {
        let idle = Duration::from_secs(self.0.config.idle_secs);
        loop {
            tokio::select! {
                () = tokio::time::sleep(LOOK_EVERY) => replica.rest(idle).await,
                () = replica.wake.notified() => {}
            }
            if !self.0.shelf.has(&replica.workload) {
                return replica.tell(State::Starting, "its component is gone from the disk, and is fetched again");
            }
        }
    }

    /// Starts a process for who asks one on call, if what no lease has is room enough.
    pub(super) async fn warm(&self, replica: &Replica) -> Result<Warm, Answer> {
        let begun = Instant::now();
        let Some(room) = self.0.room.take(&replica.capacity) else {
            return Err(Answer::Busy { retry_after_ms: BUSY_MS });
        };
        let started = async {
            // What rotted on the disk is fetched again by who tends it.
            let kept = self.0.shelf.read(replica.workload).await.map_err(|error| Down::Later(error.to_string()))?;
            let (manifest, wasm) = kept.ok_or_else(|| Down::Later("its component is not here".into()))?;
            let code = self.code(&wasm).await?;
            self.sandbox(&code, &limits(&manifest)).await
        };
        match started.await {
            Ok(sandbox) => Ok(Warm::new(sandbox, begun.elapsed(), Some(room))),
            Err(Down::Never(words) | Down::Later(words) | Down::Compiler(words)) => {
                tracing::warn!(lease = replica.lease, words, "a replica on call did not start");
                replica.print(&format!("host: {words}"));
                Err(Answer::NotReady { words })
            }
        }
    }

    /// What it runs: as it was given, or as another host of it has it.
    async fn component(&self, replica: &Replica) -> Result<(Manifest, bytes::Bytes), Down> {
        loop {
            match self.0.shelf.read(replica.workload).await {
                Ok(Some(found)) => return Ok(found),
                Ok(None) => {}
                Err(error) => return Err(Down::Later(error.to_string())),
            }
            replica.tell(State::Waiting, "");
            if let Err(error) = self.fetch(replica).await {
                replica.tell(State::Waiting, error);
                tokio::select! {
                    () = tokio::time::sleep(FETCH_EVERY) => {}
                    () = replica.wake.notified() => {}
                }
            }
        }
    }

    /// Writes an event into the node's log.
    pub(super) async fn note(&self, kind: Kind, fields: Fields) {
        if let Err(error) = self.0.parts.journal.note(kind, fields).await {
            tracing::error!(%error, "an event of a lease is not in the log");
        }
    }
}

/// What a request may use, as the sandbox takes it.
pub(super) fn limits(manifest: &Manifest) -> Limits {
    let limits = &manifest.limits;
    Limits {
        memory_bytes_max: limits.memory_bytes,
        fuel_max: limits.fuel,
        deadline: Duration::from_millis(limits.deadline_ms),
        request_bytes_max: limits.request_bytes,
        response_bytes_max: limits.response_bytes,
        ..Limits::default()
    }
}
