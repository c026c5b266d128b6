//! Run the whole cloud in one thread, and break it.
//!
//! One deterministic runtime holds every node, its disk and its network; a seed decides every delay, crash
//! and fault, so that a failure is a number that anybody can run again. What must hold meanwhile is in
//! [`law`], written without the code it judges. A [`Scenario`] is no generic: the engine's types are compiled
//! once, here, and not by each test. What needs no consensus runs the same execution, block by block, in a
//! [`World`](world::World).

mod chain;
mod law;
mod scenario;
mod traffic;
pub mod world;

pub use chain::Life;
pub use scenario::{Outcome, Scenario, Votes, each, lan, seeds};
pub use traffic::{Transfers, address, allocations, secret};
