//! Agree on accounts, markets and what was done.

pub mod account;
pub mod light;
