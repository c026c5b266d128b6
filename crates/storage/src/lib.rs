//! Keep a file on devices that fail and lie.

pub mod manifest;
pub mod wire;
