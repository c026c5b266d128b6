//! Offer a machine to the cloud.
//!
//! One process, one folder, one configuration: what is switched on there is served, each background loop
//! has a name and a status, and whatever was acknowledged survives any end of the process.

pub mod caps;
mod chain;
pub mod config;
pub mod deal;
pub mod disk;
pub mod door;
pub mod gate;
mod height;
pub mod home;
#[cfg(feature = "host")]
pub mod host;
#[cfg(feature = "full")]
pub mod import;
pub mod journal;
pub mod keys;
pub mod logs;
mod node;
pub mod pool;
pub mod provider;
mod reached;
mod relay;
mod streams;
pub mod tasks;
#[cfg(feature = "full")]
pub mod validator;
mod views;

pub use chain::ChainStartError;
pub use node::{Network, NodeError, Running, STOP_TIMEOUT, run, start};
pub use reached::Reached;

#[cfg(test)]
mod scratch;
