//! Answer HTTP for a wallet's apps: `NAME.localhost` is the app of that name.
//!
//! ```text
//! client ─ Host: NAME.localhost ─► door ─ least busy, nearest ─► host ─ replica
//!                                    └── refused before its first byte: the next one
//! ```
//! The door keeps nothing and holds no privilege: who has a wallet's routes can ask its hosts as well. A request goes to
//! another replica where the first surely did not begin it, or where doing it twice is doing it once; and only if its
//! body is at hand yet. What passes is bounded in number, size and time.

mod door;
mod question;

pub use door::serve;
