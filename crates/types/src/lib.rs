//! Name every noun the planes share.
//!
//! Planes never import each other: what one proves and another checks is defined and verified here, and
//! nothing in this crate does IO. Every decoder bounds each length before it allocates.

pub mod abi;
pub mod ack;
pub mod app;
pub mod call;
pub mod cbor;
pub mod chain;
pub mod checkpoint;
pub mod code;
pub mod decline;
pub mod ethereum;
pub mod event;
pub mod grant;
pub mod holding;
pub mod index;
pub mod key;
pub mod kit;
pub mod market;
pub mod merkle;
pub mod network;
pub mod reach;
pub mod receipt;
pub mod settlement;
pub mod share;
pub mod slice;
pub mod tab;
pub mod transport;
pub mod word;

/// The product's name in texts; everything user-visible takes it from here.
pub const PRODUCT: &str = "hodei";
