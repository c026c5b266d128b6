//! Use the cloud from any program.

pub mod receipt;
pub mod verify;
