//! Run transactions on a view of the state: synchronous, pure, deterministic.
//!
//! ```text
//! begin (clock, window) → system? → apply* → finish
//!      each: reads hit writes, then the view; what is in neither is collected as `Missing`,
//!      the run is discarded, the caller loads and calls again
//! ```
//! The EVM lives in a [`Run`], which is dropped before anybody waits, so that an [`Executor`] is `Send` although
//! the EVM is not. Modules are precompiles whose state lives in storage slots of their own accounts and goes through the
//! EVM's journal: whatever undoes a call undoes what the module wrote.

mod call;
mod env;
mod executor;
mod fee;
mod key;
mod moves;
mod state;
mod system;

pub use env::{Env, Params};
pub use executor::{Applied, Executor, Fault, Invalid, Outcome, Run, Signed, hints, is_taken};
pub use fee::next_base_fee;
pub use hodei_types::ethereum::{Call, CallOutcome, GAS_PER_TX_MAX};
pub use key::{Account, Key, account_key, decode_slot, encode_slot, slot_key};
pub use state::{Need, Undo, View};
pub use system::{is_system, system_transaction};
