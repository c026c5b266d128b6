//! Let an app's publisher enrol devices that keep shards for it.
//!
//! ```text
//! word (in the app) ─► JOIN ─► limits ─► registered by the publisher's account, gas for the device      door
//! ledger's events ─► credit of each device, to the wei ─► coins sent, or a claim the publisher settles   follow
//! LEAVE, or removed ─► retired ─► deals end ─► collateral back                                          leave
//! ```
//! A pool is an ordinary operator on the ledger: the publisher's account. Each device is a provider of its own with a
//! node key and a small account for fees, both made on the device; all pay goes to the operator, and the pool keeps
//! what each device earned of it. Who might break it: whoever has the word may ask to join, so the pool's limits bound
//! what joining costs the publisher; a device that lies about what it keeps loses the pool's collateral, not its owner's.

mod client;
mod door;
mod leave;
mod settle;
mod state;
mod wire;
mod word;

pub use client::{AskError, ask, ask_once, give_back};
pub use door::{Door, DoorError};
/// The wire a device asks on.
pub use hodei_link::Link;
pub use state::{Claim, Device, Mode, Payout, Phase, Pool, Refusal, Terms, read};
pub use wire::{Answer, CODE_BYTES_MAX, Errand, Offer, Reason, Request, Standing, WireError};
pub use word::{Word, WordError};
