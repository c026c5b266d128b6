//! Prove what happened, and that nobody rewrote it.
//!
//! ```text
//! event ─► salted leaf ─► segment, synced ─► tree ─► checkpoint, signed ─► cohort ─► ledger's anchors
//!          log                               tree    checkpoint            cohort    (types::Chain)
//!                              receipt = event + salt + path + checkpoint ◄── proof
//! ```
//!
//! Promise: once [`Log::sync`] returned, the event survives a power cut at any byte; once a checkpoint is
//! signed, no log that lost or changed one of its events will sign another. Who might break it: a disk that
//! loses synced bytes (noticed at the next start: [`LogError::Rewritten`]) and a keeper who signs two histories
//! (noticed by whoever sees both checkpoints: [`proof::consistency`] has no path between them).
//!
//! Invariants: sequences are dense from 0; a leaf is in the tree before its sequence is known to anybody;
//! nothing is signed that is not durable; what is unreadable is never skipped.

pub mod checkpoint;
pub mod cohort;
pub mod history;
#[cfg(test)]
mod leaves;
pub mod log;
pub mod proof;
mod recovery;
mod segment;
mod tree;
pub mod witness;

pub use checkpoint::Signed;
pub use cohort::Cohort;
pub use history::Evidence;
pub use hodei_types::ack::Signer;
pub use log::{Config, Log, LogError};
