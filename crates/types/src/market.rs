//! Say what the compute market trades: capacity, its price, and the terms of offers and orders.
//!
//! ```text
//! offer (capacity, prices, curve, attributes) ─┐
//! order (a capacity, replicas, terms) ─────────┴→ rate: wei a second of each replica → lease
//! ```
//! The nouns themselves are those of the ledger's interface ([`IMarket`](crate::abi::IMarket)): what is sent is what is
//! checked, and there is no second form. Here stand their limits, the arithmetic everybody must agree on, and the one
//! encoding in files. All numbers are integers; what does not fit is refused, never cut.
//!
//! What a host declares of itself (network, hardware, attestation, power) nobody checks here.

mod calls;
mod capacity;
mod curve;
mod level;
mod offer;
mod order;
mod pool;
mod region;
mod ticks;

use alloy_primitives::U256;

pub use crate::abi::{
    ILevels::Level,
    IMarket::{Capacity, Held, Index, Offer, Order, Placed, Placement, Prices, Step, Tier},
    IRelays::RelayOffer,
};
pub use calls::{CALLS_BP, FUEL_PER_MS, KEEP_BP, ON_CALL_LEASES_MAX, billed_ms, call_price, credit, keep_rate};
pub use capacity::{REFERENCE, size_milli};
pub use curve::{MARKUP_BP_MAX, TIERS_MAX, markup_bp, pack_curve, unpack_curve};
pub use level::{AVAILABILITY_BP, Breach, GRACE_MS, RESTORE_SECS_MAX, START_SECS_MAX, read_percent, show_percent};
pub use offer::{
    CAPACITY_MAX, COLLATERAL_MILLI, COLLATERAL_MIN, OFFER_BYTES_MAX, OFFER_MIN, PRICE_MAX, TIER_MAX, TIERS,
    collateral_min, hour_price, rate,
};
pub use order::{
    CAPACITY_MIN, EXCLUDE_MAX, LEVEL_REPLICAS_MAX, ORDER_BYTES_MAX, PATIENCE_MS_MAX, REPLICAS_MAX, TERM_SECS_MAX,
};
pub use pool::{Clearing, RELAYS_MAX, Standing, TRANSFER_MAX, clear, demand_mib};
pub use region::{REGIONS, region, region_mask};
pub use ticks::{CHAIN_TICKS_MAX, CHAIN_WINDOWS, TICKET_TICKS, chain_id, follows_word, prepare_chain};

/// The whole, in hundredths of a percent.
pub const BP: u64 = 10_000;
/// Of what a lease pays, so much is burned, in hundredths of a percent and rounded up: it makes trades with oneself
/// cost something, and the price index with it.
pub const FEE_BP: u64 = 100;
/// What of so many wei that a lease pays is burned.
pub fn fee(paid: U256) -> U256 {
    (paid * U256::from(FEE_BP)).div_ceil(U256::from(BP))
}

/// Seconds a lease pays for at least when its owner ends it.
pub const LEASE_SECS_MIN: u64 = 60;
/// Seconds of pay a host loses from its collateral when it ends a lease early.
pub const QUIT_SECS: u64 = 3600;
/// After a host retired for so long, on the active clock, it may end leases without loss: a week where windows are days.
pub const NOTICE_WINDOWS: u64 = 7;

/// A round of watching, in milliseconds of the active clock.
pub const ROUND_MS: u64 = 60_000;
/// Watchers of a lease in a round, and how many of them must not reach its host.
pub const WATCHERS: usize = 3;
pub const WATCHERS_NEEDED: usize = 2;
/// So long after it was said to be unreachable, on the active clock, a host may show itself.
pub const SUSPECT_MS: u64 = 120_000;
/// Seconds for which a suspect lease's deputy is paid at most before it is known which of them goes on: until then, and as
/// long again for somebody to say so.
pub const DEPUTY_SECS: u64 = 240;
/// Seconds of a lease's pay that each watcher gets who told of its loss, out of its escrow.
pub const WATCHER_SECS: u64 = 10;
/// Refuted accusations of one window that cost a watcher collateral, again with as many more; and what part, in
/// hundredths of a percent. The part is small as a host may show itself to the ledger alone.
pub const REFUTED_MAX: u64 = 3;
pub const REFUTED_BP: u64 = 100;
/// Hosts an order may lose: what is left of it upon the next loss goes back to its owner.
pub const LOST_MAX: usize = 16;

/// Wei a second that a lease pays which stands in its owner's own held room.
pub const WITHIN_RATE: u128 = 1;

/// What a replica may be asked to run under.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Runtime {
    Wasm = 0,
    Oci = 1,
}

impl Runtime {
    pub const ALL: [Self; 2] = [Self::Wasm, Self::Oci];

    /// None for a number that stands for none.
    pub fn of(number: u8) -> Option<Self> {
        Self::ALL.get(usize::from(number)).copied()
    }
}

/// How an order wants to be served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Class {
    /// Now or not at all.
    Instant = 0,
    /// Now, or when it first fits within its patience.
    Deferrable = 1,
    /// Now, at the offers' lower price, and its host may end it at any time.
    Preemptible = 2,
    /// Kept now, and run when it is asked: it takes no room, and is paid by the call.
    OnCall = 3,
}

impl Class {
    pub const ALL: [Self; 4] = [Self::Instant, Self::Deferrable, Self::Preemptible, Self::OnCall];

    /// None for a number that stands for none.
    pub fn of(number: u8) -> Option<Self> {
        Self::ALL.get(usize::from(number)).copied()
    }
}

/// Why terms are none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TermsError {
    /// The field's name, as the interface has it.
    #[error("{0} is out of range: see its limits in types::market")]
    Field(&'static str),
    #[error("terms of {found} bytes, at most {most} are read")]
    TooLong { found: usize, most: usize },
    #[error("these bytes are no terms in their one encoding")]
    Encoding,
}
