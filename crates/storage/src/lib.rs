//! Keep a file on devices that fail and lie.

pub mod code;
pub mod engine;
pub mod index;
pub mod manifest;
pub mod place;
pub mod prove;
pub mod seal;
pub mod shard;
pub mod wire;
