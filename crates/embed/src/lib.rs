//! Carry a node inside another app.
//!
//! An app's publisher makes a pool and puts its word into the app; a user who agrees makes the device a part of it:
//!
//! ```text
//! Device.join(folder, word, consent, caps) ─► start() ─► set_conditions(…) as the system tells the app
//!     └─► state(): held, earned, credit, and why it is not earning      redeem(…)      leave()
//! ```
//! What is written here is offered to Kotlin, Swift and Python as it stands. Each call blocks its thread: call from one
//! that may wait. The promise: what the device acknowledged is on disk, whichever way the app ends; nothing is stored,
//! sent or spent before consent and beyond the caps.

mod caps;
mod device;
mod fault;
mod files;
mod minder;
mod process;
mod state;

pub use caps::{Caps, Conditions};
pub use device::{Consent, Device};
pub use fault::DeviceFault;
pub use state::{DeviceState, Leaving, Redeemed};

uniffi::setup_scaffolding!();
