//! Show what execution and the modules promise, on a ledger of one process.

mod calls;
mod deals;
mod framing;
mod halts;
mod ladder;
mod moves;
mod nested;
mod random;
mod records;
mod scene;
mod world;
