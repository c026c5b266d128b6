//! Keep caches on this machine's disk.
//!
//! What must survive goes through the runtime's storage; here is only what can be made again from it.

mod index;
mod space;

pub use index::Redb;
pub use space::{free_bytes, total_bytes};
