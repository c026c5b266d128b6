//! Give a component its world: time, chance, memory and nobody to talk to.
//!
//! What it hears of time and chance follows from what its caller says, so that it can be run again: the wall clock
//! stands still, the other moves by the number of times it was asked, and random bytes are BLAKE3's of a seed.

use crate::{
    limit::{CHUNK_BYTES_MAX, INSTANCES_MAX, LOG_BYTES_MAX, Limits, TABLE_ELEMENTS_MAX},
    message::{Circumstance, Command, Entry},
};
use bytes::Bytes;
use std::{cell::Cell, convert::Infallible, time::Duration};
use tokio::time::Instant;
use wasmtime::{
    Config, Engine, ResourceLimiter, Store, UpdateDeadline,
    component::{Component, Linker, ResourceTable},
};
use wasmtime_wasi::{
    HostMonotonicClock, HostWallClock, WasiCtx, WasiCtxView, WasiView,
    p2::{
        bindings::CommandPre,
        pipe::{MemoryInputPipe, MemoryOutputPipe},
    },
};
use wasmtime_wasi_http::{
    RequestOptions, WasiBody, WasiHttpCtx, WasiHttpCtxView, WasiHttpHooks, WasiHttpView, p2::bindings::ProxyPre,
};

/// The clock that never goes back moves by a millisecond whenever it is read.
const STEP_NANOS: u64 = 1_000_000;

/// The engine as compilers and runners use it alike: what differs between machines or runs is fixed.
pub(crate) fn engine() -> wasmtime::Result<Engine> {
    let mut config = Config::new();
    config
        .consume_fuel(true)
        .epoch_interruption(true)
        .cranelift_nan_canonicalization(true)
        .relaxed_simd_deterministic(true)
        .wasm_backtrace_max_frames(None);
    Engine::new(&config)
}

/// A component that is linked, and lacks only an instance.
#[derive(Clone)]
pub(crate) enum Linked {
    Http(ProxyPre<Guest>),
    Command(CommandPre<Guest>),
}

impl Linked {
    pub(crate) fn new(engine: &Engine, component: &Component) -> wasmtime::Result<Self> {
        let mut linker = Linker::<Guest>::new(engine);
        wasmtime_wasi::p2::add_to_linker_async(&mut linker)?;
        wasmtime_wasi_http::p2::add_only_http_to_linker_async(&mut linker)?;
        let pre = linker.instantiate_pre(component)?;
        // What answers requests may be a command too; then it is asked as what stays.
        match ProxyPre::new(pre.clone()) {
            Ok(pre) => Ok(Self::Http(pre)),
            Err(_) => CommandPre::new(pre).map(Self::Command),
        }
    }

    pub(crate) fn entry(&self) -> Entry {
        match self {
            Self::Http(_) => Entry::Http,
            Self::Command(_) => Entry::Command,
        }
    }
}

/// All that one request has and holds.
pub(crate) struct Guest {
    pub(crate) memory: Memory,
    pub(crate) outgoing: Outgoing,
    deadline: Instant,
    table: ResourceTable,
    wasi: WasiCtx,
    http: WasiHttpCtx,
}

/// What it prints.
pub(crate) struct Printed {
    pub(crate) log: MemoryOutputPipe,
    /// A command's answer.
    pub(crate) answer: MemoryOutputPipe,
}

impl Guest {
    /// A store for one request, which ends it at the deadline, at the end of its fuel, and within its memory.
    pub(crate) fn store(
        engine: &Engine,
        limits: &Limits,
        circumstance: &Circumstance,
        command: Option<(&Command, Bytes)>,
        deadline: Instant,
    ) -> wasmtime::Result<(Store<Self>, Printed)> {
        let log = MemoryOutputPipe::new((limits.log_bytes_max as usize).min(LOG_BYTES_MAX));
        let most = usize::try_from(limits.response_bytes_max).unwrap_or(usize::MAX);
        let printed = Printed { log: log.clone(), answer: MemoryOutputPipe::new(most) };
        let mut wasi = WasiCtx::builder();
        // No folder is opened for it, and no address allowed: both are so unless one is named.
        wasi.allow_tcp(false)
            .allow_udp(false)
            .allow_ip_name_lookup(false)
            .wall_clock(Still(circumstance.now))
            .monotonic_clock(Steps(Cell::new(0)))
            .secure_random(Seeded::new(&circumstance.seed, "secure"))
            .insecure_random(Seeded::new(&circumstance.seed, "insecure"))
            .insecure_random_seed(u128::from_be_bytes(Seeded::new(&circumstance.seed, "seed").bytes()))
            .stderr(log.clone());
        match command {
            Some((command, input)) => {
                wasi.args(&command.arguments).envs(&command.environment);
                wasi.stdin(MemoryInputPipe::new(input)).stdout(printed.answer.clone());
            }
            None => {
                wasi.stdout(log);
            }
        }
        let guest = Self {
            memory: Memory::new(limits.memory_bytes_max),
            outgoing: Outgoing::default(),
            deadline,
            table: ResourceTable::new(),
            wasi: wasi.build(),
            http: WasiHttpCtx::new(),
        };
        let mut store = Store::new(engine, guest);
        store.limiter(|guest| &mut guest.memory);
        store.set_fuel(limits.fuel_max)?;
        store.set_epoch_deadline(1);
        // At each epoch others of this process have their turn: the socket is read, and what was written leaves.
        store.epoch_deadline_callback(|store| {
            let late = Instant::now() >= store.data().deadline;
            Ok(if late { UpdateDeadline::Interrupt } else { UpdateDeadline::Yield(1) })
        });
        Ok((store, printed))
    }
}

impl WasiView for Guest {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView { ctx: &mut self.wasi, table: &mut self.table }
    }
}

impl WasiHttpView for Guest {
    fn http(&mut self) -> WasiHttpCtxView<'_> {
        WasiHttpCtxView { ctx: &mut self.http, table: &mut self.table, hooks: &mut self.outgoing }
    }
}

/// What it asks of other hosts: nobody has allowed it any, so each is refused, and counted.
#[derive(Default)]
pub(crate) struct Outgoing {
    pub(crate) refusals: u32,
}

type Sent = (http::Response<WasiBody>, Box<dyn Future<Output = wasmtime_wasi_http::Result<()>> + Send>);

impl WasiHttpHooks for Outgoing {
    fn send_request(
        &mut self,
        _: http::Request<WasiBody>,
        _: Option<RequestOptions>,
        _: Box<dyn Future<Output = wasmtime_wasi_http::Result<()>> + Send>,
    ) -> Box<dyn Future<Output = wasmtime_wasi_http::Result<Sent>> + Send> {
        self.refusals = self.refusals.saturating_add(1);
        Box::new(std::future::ready(Err(wasmtime_wasi_http::Error::HttpRequestDenied)))
    }

    fn p2_outgoing_body_chunk_size(&mut self) -> usize {
        CHUNK_BYTES_MAX
    }
}

/// What its memories and tables hold together, and may.
pub(crate) struct Memory {
    limit: u64,
    held: u64,
    /// What was allowed last, should the engine then fail to do it.
    last: u64,
    elements: usize,
    pub(crate) peak: u64,
    pub(crate) refusals: u32,
}

impl Memory {
    fn new(limit: u64) -> Self {
        Self { limit, held: 0, last: 0, elements: 0, peak: 0, refusals: 0 }
    }
}

impl ResourceLimiter for Memory {
    fn memory_growing(&mut self, current: usize, desired: usize, maximum: Option<usize>) -> wasmtime::Result<bool> {
        if maximum.is_some_and(|maximum| desired > maximum) {
            return Ok(false);
        }
        let more = desired.saturating_sub(current) as u64;
        if self.held.saturating_add(more) > self.limit {
            self.refusals = self.refusals.saturating_add(1);
            return Ok(false);
        }
        self.held += more;
        self.last = more;
        self.peak = self.peak.max(self.held);
        Ok(true)
    }

    fn memory_grow_failed(&mut self, _: wasmtime::Error) -> wasmtime::Result<()> {
        self.held -= std::mem::take(&mut self.last);
        Ok(())
    }

    fn table_growing(&mut self, current: usize, desired: usize, maximum: Option<usize>) -> wasmtime::Result<bool> {
        let elements = self.elements.saturating_add(desired.saturating_sub(current));
        let may = elements <= TABLE_ELEMENTS_MAX && maximum.is_none_or(|maximum| desired <= maximum);
        if may {
            self.elements = elements;
        }
        Ok(may)
    }

    fn instances(&self) -> usize {
        INSTANCES_MAX
    }

    fn tables(&self) -> usize {
        INSTANCES_MAX
    }

    fn memories(&self) -> usize {
        INSTANCES_MAX
    }
}

/// A wall clock that stands still.
struct Still(Duration);

impl HostWallClock for Still {
    fn resolution(&self) -> Duration {
        Duration::from_nanos(STEP_NANOS)
    }

    fn now(&self) -> Duration {
        self.0
    }
}

/// A clock that moves when it is read, so that a loop which waits for it ends.
struct Steps(Cell<u64>);

impl HostMonotonicClock for Steps {
    fn resolution(&self) -> u64 {
        STEP_NANOS
    }

    fn now(&self) -> u64 {
        let now = self.0.get();
        self.0.set(now.saturating_add(STEP_NANOS));
        now
    }
}

/// Bytes that follow from a seed, on every machine and in every version.
struct Seeded(blake3::OutputReader);

impl Seeded {
    fn new(seed: &[u8; 32], purpose: &str) -> Self {
        Self(blake3::Hasher::new_keyed(seed).update(purpose.as_bytes()).finalize_xof())
    }

    fn bytes<const N: usize>(&mut self) -> [u8; N] {
        let mut bytes = [0; N];
        self.0.fill(&mut bytes);
        bytes
    }
}

impl rand::TryRng for Seeded {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        Ok(u32::from_le_bytes(self.bytes()))
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        Ok(u64::from_le_bytes(self.bytes()))
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Infallible> {
        self.0.fill(bytes);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memories_grow_together_up_to_the_limit() {
        let mut memory = Memory::new(100);
        assert!(memory.memory_growing(0, 60, None).unwrap());
        assert!(!memory.memory_growing(0, 60, None).unwrap(), "a second memory counts with the first");
        assert!(memory.memory_growing(60, 100, None).unwrap());
        assert!(!memory.memory_growing(0, 1, Some(0)).unwrap(), "its own maximum stands");
        assert_eq!((memory.peak, memory.refusals), (100, 1));
        memory.memory_grow_failed(wasmtime::Error::msg("no memory")).unwrap();
        assert!(memory.memory_growing(60, 100, None).unwrap(), "what was not done is free again");
    }

    #[test]
    fn chance_follows_from_its_seed_and_purpose() {
        let bytes = |seed: u8, purpose| Seeded::new(&[seed; 32], purpose).bytes::<32>();
        assert_eq!(bytes(1, "secure"), bytes(1, "secure"));
        assert_ne!(bytes(1, "secure"), bytes(2, "secure"));
        assert_ne!(bytes(1, "secure"), bytes(1, "insecure"));
    }

    #[test]
    fn a_loop_that_waits_for_the_clock_ends() {
        let clock = Steps(Cell::new(0));
        let begun = clock.now();
        assert!((0..10_000).any(|_| clock.now() - begun > 1_000_000_000));
    }
}
