//! Run the whole cloud in one thread, and break it.
//!
//! One deterministic runtime holds every node, its disk and its network; a seed decides every delay, crash
//! and fault, so that a failure is a number that anybody can run again. What must hold meanwhile is in
//! [`law`], written without the code it judges.

pub mod chain;
pub mod law;

/// How many seeds a test runs: `HODEI_SEEDS`, or `default`.
pub fn seeds(default: u64) -> std::ops::Range<u64> {
    let count = std::env::var("HODEI_SEEDS").ok().and_then(|text| text.parse().ok()).unwrap_or(default);
    0..count
}
