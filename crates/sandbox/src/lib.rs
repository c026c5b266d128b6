//! Run a stranger's wasm component in a process that can do nothing else.
//!
//! ```text
//! agent                               this binary again, entered by [`runner::run`]: no keys, no environment,
//!                                     no files, no network, limits, one socket
//! wasm ─► [`compile()`] ─ socket pair ─► compiles, and ends
//!            │ [`Code`] ─► [`Codes`]
//!            ▼
//! [`Sandbox::start`] ─── socket pair ─► loads, and says what confines it
//! [`Sandbox::request`] ──────────────► a fresh instance for each ─► answer, streamed ─► [`Readings`]
//! ```
//!
//! Promise: what a component does ends in its own process. It computes within fuel, memory and a deadline, hears
//! one request and gives one answer; files, sockets and other hosts are refused. The same component, request, time
//! and seed use the same fuel, to the unit, unless it looks, without waiting, whether its answer's bytes were taken or
//! time went by. Who might break it: a fault of the engine, which then stands before the
//! kernel's fences. [`Confinement`] says which of them this machine has, tried by the process itself.
//!
//! Invariants: the agent never maps compiled code; code is run only where this agent compiled it; each length that
//! crosses the socket has a limit on both sides; a process that breaks the protocol, or is late, is killed.
//!
//! A binary that holds a sandbox enters the runner before it starts anything else:
//! ```no_run
//! if std::env::args().nth(1).as_deref() == Some("run-sandbox") {
//!     std::process::exit(hodei_sandbox::runner::run());
//! }
//! ```

mod answer;
mod code;
mod compile;
mod confine;
mod exchange;
mod frame;
mod guest;
mod limit;
mod message;
mod process;
mod reading;
pub mod runner;
mod sandbox;

pub use code::{Code, Codes, CodesError, ENGINE};
pub use compile::compile;
pub use exchange::{End, Exchange};
pub use frame::FrameError;
pub use limit::{CompileLimits, Limits};
pub use message::{Confinement, Entry, Fence};
pub use process::Program;
pub use reading::{Failure, Readings};
pub use sandbox::{Error, Sandbox, Started};
