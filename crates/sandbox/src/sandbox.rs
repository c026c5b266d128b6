//! Hold one component in its own process, and ask it.

use crate::{
    Code, CodesError, Exchange, FrameError, Limits, Program,
    limit::{CHUNK_BYTES_MAX, START_TIMEOUT, TARGET_BYTES_MAX},
    message::{Ask, Circumstance, Command, Confinement, Entry, Request, Tell, headers, words},
    process::{Ended, Process},
};
use bytes::Bytes;
use hyper::body::Body;
use std::time::{Duration, Instant};

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("the runner could not be started: {0}; check limits of processes and files")]
    Start(std::io::Error),
    #[error("{0}")]
    Frame(#[from] FrameError),
    #[error("the runner closed its socket before it was done")]
    Closed,
    #[error("the runner ended before it was done ({status}); its last words: {words:?}")]
    Ended { status: String, words: String },
    #[error("the runner was to tell {expected}, and told {found}")]
    Unexpected { expected: &'static str, found: &'static str },
    #[error("wasm of {found} bytes, {limit} are allowed")]
    WasmTooLong { found: u64, limit: u64 },
    #[error("the compiled code is longer than {limit} bytes")]
    CodeTooLong { limit: u64 },
    #[error("compiling took longer than {0:?}")]
    CompileDeadline(Duration),
    #[error("this is not a component that can run here: {0}")]
    NotAComponent(String),
    #[error("the runner was not ready within {START_TIMEOUT:?}")]
    StartDeadline,
    #[error("the runner did not say in time that the deadline had passed, and was killed: start another")]
    Unresponsive,
    #[error("the exchange before was left before its end: start another")]
    Left,
    #[error("the request cannot be asked: {0}")]
    Request(String),
    #[error("the request's body failed: {0}")]
    Body(String),
    #[error(transparent)]
    Codes(#[from] CodesError),
}

impl Error {
    pub(crate) fn unexpected(expected: &'static str, found: &Tell) -> Self {
        let found = match found {
            Tell::Confined(_) => "what confines it",
            Tell::Bytes(_) => "bytes",
            Tell::Compiled { .. } => "that it compiled",
            Tell::Ready { .. } => "that it is ready",
            Tell::Refused(_) => "a refusal",
            Tell::Head { .. } => "an answer's head",
            Tell::Done { .. } => "an answer's end",
        };
        Self::Unexpected { expected, found }
    }

    /// A socket that fails or closes mostly means that its process died: then what it died of is the error.
    pub(crate) async fn with_end(self, process: &mut Process) -> Self {
        let died = matches!(self, Self::Closed | Self::Frame(FrameError::Io(_) | FrameError::Cut));
        let Ended { status, words } = if died { process.ended().await } else { process.kill().await };
        match (died, status) {
            (true, Some(status)) => Self::Ended { status: status.to_string(), words },
            _ => self,
        }
    }
}

/// How long a start took.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Started {
    /// From nothing to ready: the cold start.
    pub cold: Duration,
    /// Of which: mapping the code and linking it.
    pub loaded_in: Duration,
}

/// One component in its own process. It answers one request after the other; more at a time are more processes.
/// The process ends when this is dropped.
pub struct Sandbox {
    pub(crate) process: Process,
    pub(crate) limits: Limits,
    /// From a request's first byte to its [`crate::End`].
    pub(crate) is_busy: bool,
    confinement: Confinement,
    entry: Entry,
    started: Started,
}

impl Sandbox {
    /// Starts a process for it and loads the code.
    pub async fn start(program: &Program, code: &Code, limits: &Limits) -> Result<Self, Error> {
        let begun = Instant::now();
        let mut process = program.start().map_err(Error::Start)?;
        let ready = match tokio::time::timeout(START_TIMEOUT, load(&mut process, code, limits)).await {
            Ok(ready) => ready,
            Err(_) => {
                process.kill().await;
                return Err(Error::StartDeadline);
            }
        };
        match ready {
            Ok((confinement, entry, loaded_in)) => Ok(Self {
                process,
                limits: limits.clone(),
                is_busy: false,
                confinement,
                entry,
                started: Started { cold: begun.elapsed(), loaded_in },
            }),
            Err(error) => Err(error.with_end(&mut process).await),
        }
    }

    /// What confines it on this machine.
    pub fn confinement(&self) -> &Confinement {
        &self.confinement
    }

    /// How its component is entered.
    pub fn entry(&self) -> Entry {
        self.entry
    }

    pub fn started(&self) -> Started {
        self.started
    }

    /// The number under which the kernel knows the process, while it runs.
    pub fn process_id(&self) -> Option<u32> {
        self.process.id()
    }

    /// Whether its process runs still; one that died answers no more.
    pub fn is_running(&mut self) -> bool {
        self.process.is_running()
    }

    /// Asks it a request. For the component it is `now` all the while, and what it holds for random follows from
    /// `seed`. Returns once the answer's head is there, or its end, where it has no head.
    pub async fn request<B>(
        &mut self,
        request: http::Request<B>,
        now: Duration,
        seed: [u8; 32],
    ) -> Result<Exchange<'_, B>, Error>
    where
        B: Body<Data = Bytes> + Unpin,
        B::Error: std::fmt::Display,
    {
        let (parts, body) = request.into_parts();
        let ask = Request {
            circumstance: Circumstance { now, seed },
            method: parts.method.to_string(),
            target: parts.uri.to_string(),
            headers: headers(&parts.headers).map_err(Error::Request)?,
        };
        if ask.method.len() + ask.target.len() > TARGET_BYTES_MAX {
            return Err(Error::Request(format!("method and target are longer than {TARGET_BYTES_MAX} bytes")));
        }
        Exchange::begin(self, &Ask::Request(ask), body).await
    }

    /// Runs it once as a command; the body is its standard input, and the answer, without a head, what it prints.
    pub async fn run<B>(
        &mut self,
        arguments: Vec<String>,
        environment: Vec<(String, String)>,
        input: B,
        now: Duration,
        seed: [u8; 32],
    ) -> Result<Exchange<'_, B>, Error>
    where
        B: Body<Data = Bytes> + Unpin,
        B::Error: std::fmt::Display,
    {
        let command = Command { circumstance: Circumstance { now, seed }, arguments, environment };
        let command = command.checked().map_err(|error| Error::Request(words(error)))?;
        Exchange::begin(self, &Ask::Run(command), input).await
    }

    /// Ends the process, and returns once it is gone.
    pub async fn stop(mut self) {
        self.process.kill().await;
    }
}

async fn load(process: &mut Process, code: &Code, limits: &Limits) -> Result<(Confinement, Entry, Duration), Error> {
    let wire = &mut process.wire;
    wire.say(&Ask::Start { limits: limits.clone(), code_bytes: code.bytes.len() as u64 }).await?;
    let confinement = match wire.incoming.receive().await? {
        Some(Tell::Confined(confinement)) => *confinement,
        Some(other) => return Err(Error::unexpected("what confines it", &other)),
        None => return Err(Error::Closed),
    };
    for chunk in code.bytes.chunks(CHUNK_BYTES_MAX) {
        wire.say(&Ask::Bytes(chunk.to_vec())).await?;
    }
    match wire.incoming.receive().await? {
        Some(Tell::Ready { entry, loaded_in }) => Ok((confinement, entry, loaded_in)),
        Some(Tell::Refused(words)) => Err(Error::NotAComponent(words)),
        Some(other) => Err(Error::unexpected("that it is ready", &other)),
        None => Err(Error::Closed),
    }
}
