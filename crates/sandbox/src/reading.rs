//! Say what a request used and how it ended.

use minicbor::{Decode, Encode};
use std::time::Duration;

/// What one request used. Fuel and bytes are the same wherever it is run again; times are this machine's.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct Readings {
    #[n(0)]
    pub fuel: u64,
    /// The most that all its linear memories held.
    #[n(1)]
    pub memory_peak_bytes: u64,
    #[n(2)]
    pub wall: Duration,
    /// Of which: making the instance, the warm start.
    #[n(3)]
    pub instantiated_in: Duration,
    /// Headers and body that came.
    #[n(4)]
    pub bytes_in: u64,
    /// Headers and body that were given.
    #[n(5)]
    pub bytes_out: u64,
    /// Times it asked for more memory than it may have.
    #[n(6)]
    pub memory_refusals: u32,
    /// Requests to others that were refused.
    #[n(7)]
    pub outgoing_refusals: u32,
}

/// Why a request did not end well.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, thiserror::Error)]
pub enum Failure {
    #[n(0)]
    #[error("all fuel was used before the answer was whole: raise the limit, or do less in a request")]
    Fuel,
    #[n(1)]
    #[error("the deadline passed before the answer was whole: raise the limit, or do less in a request")]
    Deadline,
    #[n(2)]
    #[error("the component asks for more memory than the limit at its start: raise the limit")]
    Memory,
    #[n(3)]
    #[error("the component stopped: {0}")]
    Trap(#[n(0)] String),
    #[n(4)]
    #[error("the component returned without an answer")]
    NoAnswer,
    #[n(5)]
    #[error("the component answered with an error: {0}")]
    Answered(#[n(0)] String),
    #[n(6)]
    #[error("the answer is longer than {0} bytes: raise the limit, or answer in parts")]
    ResponseTooLong(#[n(0)] u64),
    #[n(7)]
    #[error("the command ended with code {0}")]
    Exit(#[n(0)] i32),
    #[n(8)]
    #[error("this component is of another kind: a request needs wasi:http/incoming-handler, a command wasi:cli/run")]
    Kind,
    #[n(9)]
    #[error("the request is not HTTP: {0}")]
    Request(#[n(0)] String),
}
