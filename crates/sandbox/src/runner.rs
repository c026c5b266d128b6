//! Be the process that runs a stranger's code.
//!
//! What it is told comes from the agent that started it, on its standard input, which is a socket. Before it reads a
//! byte that a stranger wrote it has confined itself.

use crate::{
    answer::{Asked, answer},
    confine::{self, Use, confine},
    frame::{FrameError, Incoming, Wire},
    guest::{self, Linked},
    limit::{CHUNK_BYTES_MAX, CompileLimits, EPOCH, Limits, RUNNER_BYTES},
    message::{Ask, Fence, Tell, words},
};
use bytes::Bytes;
use std::{
    io,
    os::{fd::AsFd, unix::net::UnixStream},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, Thread},
    time::Instant,
};
use tokio::sync::mpsc;
use wasmtime::{Engine, component::Component};

/// Frames of a body that wait for a component to read them, or of an answer for the socket to take them.
const WAITING: usize = 4;
/// The thread that moves the epoch calls nothing deep.
const TICKER_STACK_BYTES: usize = 64 << 10;

#[derive(Debug, thiserror::Error)]
enum Broken {
    #[error("{0}")]
    Frame(#[from] FrameError),
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("the engine cannot be made: {0}")]
    Engine(String),
    #[error("something was asked out of order: {0}")]
    Order(&'static str),
    #[error("{found} bytes were sent, {limit} were announced or are allowed")]
    TooLong { found: u64, limit: u64 },
    #[error("the component's task ended without a word")]
    Silent,
}

/// Serves the agent that started this process until it closes the socket, and returns the code to exit with. Call it
/// first: before threads, before files, with nothing in memory that is secret.
pub fn run() -> i32 {
    let files_closed = confine::close_files();
    match serve(files_closed) {
        Ok(()) => 0,
        Err(error) => {
            eprintln!("sandbox: {error}");
            1
        }
    }
}

fn serve(files_closed: Fence) -> Result<(), Broken> {
    let socket = UnixStream::from(io::stdin().as_fd().try_clone_to_owned()?);
    let engine = guest::engine().map_err(|error| Broken::Engine(words(format!("{error:#}"))))?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .enable_time()
        // A component that computes yields once an epoch; the socket is looked at each time.
        .event_interval(1)
        .build()?;
    runtime.block_on(async {
        let mut wire = Wire::new(socket)?;
        match wire.incoming.receive().await? {
            Some(Ask::Compile { limits, wasm_bytes }) => {
                compile(&engine, &mut wire, &limits, wasm_bytes, files_closed).await
            }
            Some(Ask::Start { limits, code_bytes }) => {
                start(&engine, &mut wire, &limits, code_bytes, files_closed).await
            }
            Some(_) => Err(Broken::Order("a runner is first told what to be")),
            None => Ok(()),
        }
    })
}

async fn compile(
    engine: &Engine,
    wire: &mut Wire,
    limits: &CompileLimits,
    wasm_bytes: u64,
    files_closed: Fence,
) -> Result<(), Broken> {
    let most = Use { memory_bytes: limits.memory_bytes_max, cpu_secs: Some(limits.cpu_secs_max) };
    let (confinement, ()) = confine(files_closed, &most, || Ok(()))?;
    wire.say(&Tell::Confined(Box::new(confinement))).await?;
    let wasm = collect(&mut wire.incoming, wasm_bytes, limits.wasm_bytes_max).await?;
    let begun = Instant::now();
    let code = match engine.precompile_component(&wasm) {
        Ok(code) => code,
        Err(error) => return Ok(wire.say(&Tell::Refused(words(format!("{error:#}")))).await?),
    };
    let took = begun.elapsed();
    for chunk in code.chunks(CHUNK_BYTES_MAX) {
        wire.say(&Tell::Bytes(chunk.to_vec())).await?;
    }
    Ok(wire.say(&Tell::Compiled { took }).await?)
}

async fn start(
    engine: &Engine,
    wire: &mut Wire,
    limits: &Limits,
    code_bytes: u64,
    files_closed: Fence,
) -> Result<(), Broken> {
    // The code is here thrice for a moment: as it came, in one piece, and mapped.
    let memory_bytes = [limits.request_bytes_max, limits.response_bytes_max, code_bytes.saturating_mul(3)]
        .iter()
        .fold(limits.memory_bytes_max.saturating_add(RUNNER_BYTES), |sum, bytes| sum.saturating_add(*bytes));
    let most = Use { memory_bytes, cpu_secs: None };
    let (confinement, ticker) = confine(files_closed, &most, || Ticker::start(engine.clone()))?;
    wire.say(&Tell::Confined(Box::new(confinement))).await?;
    let code = collect(&mut wire.incoming, code_bytes, code_bytes).await?;
    let begun = Instant::now();
    // SAFETY: the agent compiled this code itself, or finds its own seal on it; a process that was told otherwise has
    // nothing but its socket.
    let component = unsafe { Component::deserialize(engine, &code) };
    drop(code);
    let linked = match component.and_then(|component| Linked::new(engine, &component)) {
        Ok(linked) => linked,
        Err(error) => return Ok(wire.say(&Tell::Refused(words(format!("{error:#}")))).await?),
    };
    wire.say(&Tell::Ready { entry: linked.entry(), loaded_in: begun.elapsed() }).await?;
    loop {
        let asked = match wire.incoming.receive().await? {
            Some(Ask::Request(request)) => Asked::Request(request),
            Some(Ask::Run(command)) => Asked::Run(command.checked().map_err(|_| Broken::Order("a command too long"))?),
            // Left of the body of a request that was answered without it.
            Some(Ask::Bytes(_) | Ask::End) => continue,
            Some(_) => return Err(Broken::Order("a runner is told once what to be")),
            None => return Ok(()),
        };
        ticker.go(true);
        let is_open = exchange(wire, &linked, limits, asked).await;
        ticker.go(false);
        if !is_open? {
            return Ok(());
        }
    }
}

/// Reads exactly what was announced.
async fn collect(incoming: &mut Incoming, announced: u64, limit: u64) -> Result<Vec<u8>, Broken> {
    if announced > limit {
        return Err(Broken::TooLong { found: announced, limit });
    }
    let mut all = Vec::new();
    while (all.len() as u64) < announced {
        match incoming.receive().await? {
            Some(Ask::Bytes(bytes)) if !bytes.is_empty() => all.extend_from_slice(&bytes),
            Some(_) => return Err(Broken::Order("bytes were announced")),
            None => return Err(Broken::Order("the agent left")),
        }
    }
    match all.len() as u64 {
        found if found > announced => Err(Broken::TooLong { found, limit: announced }),
        _ => Ok(all),
    }
}

/// Carries one request between the socket and the component. Says whether the agent is still there.
async fn exchange(wire: &mut Wire, linked: &Linked, limits: &Limits, asked: Asked) -> Result<bool, Broken> {
    let (body, heard) = mpsc::channel(WAITING);
    let (tell, mut told) = mpsc::channel(WAITING);
    // Ends with this function: an agent that left wants no answer.
    let _task = wasmtime_wasi::runtime::spawn(answer(linked.clone(), limits.clone(), asked, heard, tell));
    let mut body = Some(body);
    let mut length = 0;
    let mut is_over = false;
    loop {
        let is_idle = wire.outgoing.is_empty();
        if is_over && is_idle {
            return Ok(true);
        }
        tokio::select! {
            flushed = wire.outgoing.flush(), if !is_idle => flushed?,
            told = told.recv(), if is_idle => {
                let told = told.ok_or(Broken::Silent)?;
                is_over = matches!(told, Tell::Done { .. });
                wire.outgoing.queue(&told)?;
            }
            asked = hear(&mut wire.incoming, body.clone()), if !is_over => match asked? {
                (Some(Ask::Bytes(bytes)), room) => {
                    length += bytes.len() as u64;
                    if length > limits.request_bytes_max {
                        return Err(Broken::TooLong { found: length, limit: limits.request_bytes_max });
                    }
                    // Without room the component reads no more, and nobody misses it.
                    if let Some(room) = room {
                        room.send(Bytes::from(bytes));
                    }
                }
                (Some(Ask::End), room) => {
                    drop(room);
                    body = None;
                }
                (Some(_), _) => return Err(Broken::Order("one request is asked at a time")),
                (None, _) => return Ok(false),
            },
        }
    }
}

/// The next thing asked, once there is room for what it may bring.
async fn hear(
    incoming: &mut Incoming,
    body: Option<mpsc::Sender<Bytes>>,
) -> Result<(Option<Ask>, Option<mpsc::OwnedPermit<Bytes>>), FrameError> {
    let room = match body {
        Some(body) => body.reserve_owned().await.ok(),
        None => None,
    };
    Ok((incoming.receive().await?, room))
}

/// The thread that moves the epoch while a component runs, and sleeps while none does.
struct Ticker {
    thread: Thread,
    is_going: Arc<AtomicBool>,
}

impl Ticker {
    fn start(engine: Engine) -> io::Result<Self> {
        let is_going = Arc::new(AtomicBool::new(false));
        let going = is_going.clone();
        let started = thread::Builder::new().stack_size(TICKER_STACK_BYTES).spawn(move || {
            loop {
                while !going.load(Ordering::Acquire) {
                    thread::park();
                }
                thread::sleep(EPOCH);
                engine.increment_epoch();
            }
        })?;
        Ok(Self { thread: started.thread().clone(), is_going })
    }

    fn go(&self, is_going: bool) {
        self.is_going.store(is_going, Ordering::Release);
        self.thread.unpark();
    }
}
