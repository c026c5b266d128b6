//! Show what execution and the modules promise, on a ledger of one process.

mod calls;
mod calls_paid;
mod custody;
mod deals;
mod framing;
mod halts;
mod held;
mod keeps;
mod ladder;
mod leases;
mod levels;
mod market;
mod moves;
mod nested;
mod random;
mod records;
mod relays;
mod release;
mod reserve;
mod resize;
mod scene;
mod tabs;
mod wage;
mod waiting;
mod watch;
mod world;
