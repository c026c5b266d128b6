//! Tell which stripes are to be restored, in which order, and where their shards go.
//!
//! ```text
//! signs of a provider ─► health ─► margin of each stripe it holds ─► queue ─► ticket ─► seats for what lacks
//! ```
//! All of it is pure: whoever repairs brings the time, the signs and the randomness, so that the simulator runs ten
//! thousand devices through a year of it.

mod health;
mod margin;
mod queue;
mod seats;

pub use health::{Signs, State, quiet_ms, silence_ms};
pub use margin::{Bar, Count, Fate, Margins, least};
pub use queue::{Queue, ticket_ms};
pub use seats::seats;
