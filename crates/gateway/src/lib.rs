//! Speak other people's protocols: S3, HTTP, Ethereum RPC.
//!
//! A gateway holds no privilege: what it can do, anybody can do with `sdk`. It translates, bounds what
//! strangers send, and refuses in the words their clients understand.

pub mod app;
mod expect;
pub mod foreign;
mod percent;
pub mod rpc;
pub mod s3;
pub mod share;
