//! Offer a machine to the cloud.
//!
//! One process, one folder, one configuration: what is switched on there is served, each background loop
//! has a name and a status, and whatever was acknowledged survives any end of the process.

pub mod config;
pub mod deal;
pub mod disk;
pub mod door;
pub mod home;
pub mod journal;
pub mod keys;
pub mod logs;
pub mod provider;
pub mod tasks;

#[cfg(test)]
mod scratch;
