//! Agree on accounts, markets and what was done.

pub mod account;
pub mod block;
pub mod genesis;
pub mod light;
