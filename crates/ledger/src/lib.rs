//! Agree on accounts, markets and what was done.

pub mod account;
#[cfg(feature = "full")]
pub mod application;
#[cfg(feature = "full")]
pub mod beacon;
pub mod block;
pub mod client;
#[cfg(feature = "full")]
pub mod execute;
pub mod genesis;
pub mod history;
#[cfg(feature = "full")]
pub mod hold;
#[cfg(feature = "full")]
pub mod import;
pub mod light;
#[cfg(feature = "full")]
pub mod member;
#[cfg(feature = "full")]
pub mod mempool;
#[cfg(feature = "full")]
mod modules;
#[cfg(feature = "full")]
pub mod net;
#[cfg(feature = "full")]
pub mod pace;
#[cfg(feature = "full")]
pub mod read;
#[cfg(feature = "full")]
pub mod run;
#[cfg(feature = "full")]
pub mod state;
#[cfg(feature = "full")]
pub mod store;
pub mod wire;
