//! Bound what a component may use.

use minicbor::{Decode, Encode};
use std::time::Duration;

const MIB: u64 = 1 << 20;

/// Bytes of wasm, code or a body in one frame.
pub(crate) const CHUNK_BYTES_MAX: usize = 64 << 10;
/// A chunk, or a head with all its headers, and what CBOR adds.
pub(crate) const FRAME_BYTES_MAX: usize = CHUNK_BYTES_MAX + 1024;
/// Names and values of one head together: what gateways in front commonly take, twice.
pub(crate) const HEADER_BYTES_MAX: usize = 32 << 10;
pub(crate) const HEADERS_MAX: usize = 128;
/// Method, path and query.
pub(crate) const TARGET_BYTES_MAX: usize = 8 << 10;
/// Arguments and environment of a command together.
pub(crate) const COMMAND_BYTES_MAX: usize = 32 << 10;
/// Characters of an error's words that cross the socket.
pub(crate) const WORDS_MAX: usize = 512;
/// What the process itself needs beside what the component uses.
pub(crate) const RUNNER_BYTES: u64 = 256 * MIB;
/// The socket, the poller's and standard streams, and some air.
pub(crate) const FILES_MAX: u64 = 32;
/// The kill switch moves so often; a loop that does nothing else ends at most this late.
pub(crate) const EPOCH: Duration = Duration::from_millis(10);
/// The runner says itself that a deadline passed; one that does not say it for so long is killed.
pub(crate) const GRACE: Duration = Duration::from_secs(5);
/// A runner that is not ready by then never will be: loading is mapping and linking.
pub(crate) const START_TIMEOUT: Duration = Duration::from_secs(30);
/// Core instances, memories and tables of one component.
pub(crate) const INSTANCES_MAX: usize = 1000;
/// Kept of what a component prints, whatever its limits say: it crosses the socket in one frame.
pub(crate) const LOG_BYTES_MAX: usize = 32 << 10;
/// Elements of all tables of one instance.
pub(crate) const TABLE_ELEMENTS_MAX: usize = 1 << 20;

/// What one request may use.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Limits {
    /// All linear memories of the instance together.
    #[n(0)]
    pub memory_bytes_max: u64,
    #[n(1)]
    pub fuel_max: u64,
    /// From the request's head to the answer's last byte.
    #[n(2)]
    pub deadline: Duration,
    #[n(3)]
    pub request_bytes_max: u64,
    #[n(4)]
    pub response_bytes_max: u64,
    /// Kept of what it prints.
    #[n(5)]
    pub log_bytes_max: u32,
}

impl Default for Limits {
    /// What suits a small service: seconds of one core, and the memory of a script engine.
    fn default() -> Self {
        Self {
            memory_bytes_max: 128 * MIB,
            fuel_max: 20_000_000_000,
            deadline: Duration::from_secs(30),
            request_bytes_max: 64 * MIB,
            response_bytes_max: 64 * MIB,
            log_bytes_max: 16 << 10,
        }
    }
}

/// What compiling one component may use.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct CompileLimits {
    #[n(0)]
    pub wasm_bytes_max: u64,
    #[n(1)]
    pub code_bytes_max: u64,
    /// Written memory of the compiling process.
    #[n(2)]
    pub memory_bytes_max: u64,
    #[n(3)]
    pub cpu_secs_max: u64,
    #[n(4)]
    pub deadline: Duration,
}

impl Default for CompileLimits {
    /// A component that carries a script engine, the largest met, is 13 MB, compiles in 22 s and becomes 36 MB.
    fn default() -> Self {
        Self {
            wasm_bytes_max: 64 * MIB,
            code_bytes_max: 256 * MIB,
            memory_bytes_max: 2048 * MIB,
            cpu_secs_max: 120,
            deadline: Duration::from_secs(240),
        }
    }
}
