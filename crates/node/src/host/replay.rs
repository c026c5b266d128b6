//! Run a request again that a host wrote down, and compare.
//!
//! It needs neither network nor keys: transcript, component, and a sandbox on this machine. A run that differs is run
//! twice more: a component that does not run the same twice proves nothing of its host.

use super::{serve::request, tend::limits, transcript::Passing};
use hodei_sandbox::{CompileLimits, ENGINE, Error, Failure, Program, Sandbox, compile};
use hodei_types::app::{
    ManifestError,
    transcript::{Outcome, Record, TranscriptError},
    wire::Readings,
};
use std::time::Duration;

/// Runs after the first, where that differs.
const AGAIN: usize = 2;

/// What a request's run here says of its transcript.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replayed {
    /// Of the run that is the same, or else of the first.
    pub outcome: Outcome,
    pub verdict: Verdict,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Everything came as the host signed it.
    Same,
    /// Each run here came to the same, and that is not what the host signed.
    Differs,
    /// Runs here differ from each other.
    Unsteady,
    /// It was ended by the clock, which is no part of what can be run again.
    Deadline,
}

/// Why a request was not run again.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    #[error(transparent)]
    Transcript(#[from] TranscriptError),
    #[error("another component ran: {0}")]
    Component(#[from] ManifestError),
    #[error("it ran under engine {found}, and this program has {ENGINE}")]
    Engine { found: String },
    #[error("the request cannot be asked: {0}")]
    Request(String),
    #[error("the sandbox: {0}")]
    Sandbox(#[from] Error),
}

/// Checks a transcript and its component, and runs its request again in processes of `program`.
pub async fn replay(program: &Program, record: &Record, wasm: &[u8]) -> Result<Replayed, ReplayError> {
    record.verify()?;
    let transcript = &record.signed.transcript;
    transcript.manifest.check_component(wasm)?;
    if transcript.engine != ENGINE {
        return Err(ReplayError::Engine { found: transcript.engine.clone() });
    }
    let code = compile(program, wasm, &CompileLimits::default()).await?;
    let expected = &transcript.outcome;
    let mut outcomes = Vec::new();
    for _ in 0..=AGAIN {
        let sandbox = Sandbox::start(program, &code, &limits(&transcript.manifest)).await?;
        let outcome = run(sandbox, record).await?;
        if outcome == *expected {
            return Ok(Replayed { outcome, verdict: Verdict::Same });
        }
        outcomes.push(outcome);
    }
    let outcome = outcomes.swap_remove(0);
    let late = Outcome::words(&Failure::Deadline.to_string());
    let is_late = |outcome: &Outcome| outcome.failure.as_ref() == Some(&late);
    let verdict = if is_late(expected) || is_late(&outcome) || outcomes.iter().any(is_late) {
        Verdict::Deadline
    } else if outcomes.iter().all(|other| *other == outcome) {
        Verdict::Differs
    } else {
        Verdict::Unsteady
    };
    Ok(Replayed { outcome, verdict })
}

async fn run(mut sandbox: Sandbox, record: &Record) -> Result<Outcome, ReplayError> {
    let transcript = &record.signed.transcript;
    let (method, target, headers) = (&transcript.method, &transcript.target, transcript.headers.clone());
    let asked = request(method, target, headers, record.body.clone().into()).map_err(ReplayError::Request)?;
    let exchange = sandbox.request(asked, Duration::from_nanos(transcript.now_ns), transcript.seed).await?;
    let (head, body, end) = exchange.whole().await?;
    let mut passing = Passing::new();
    if let Some((status, headers)) = &head {
        passing.head(status.as_u16(), &super::replica::listed(headers));
    }
    passing.chunk(&body);
    let readings = Readings {
        fuel: end.readings.fuel,
        memory_peak_bytes: end.readings.memory_peak_bytes,
        bytes_in: end.readings.bytes_in,
        bytes_out: end.readings.bytes_out,
        ..Readings::default()
    };
    let outcome = passing.end(&readings, end.failure.map(|failure| failure.to_string()).as_deref());
    sandbox.stop().await;
    Ok(outcome)
}
