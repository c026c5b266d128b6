//! Bring shards from providers that hold more than their fair part to emptier ones, as they are.
//!
//! ```text
//! what each holds, stripe by stripe → who else could join → steps within the caps (even), priced → deals opened →
//!        said where shards will be too → read, brought there → a minute later their old places release them
//! ```
//! Nothing is opened or sealed anew: a shard keeps its id, and readers find it where the bucket's overlay says. It is
//! laid there before it is brought: so a shard is always at a place that somebody looks at, and what a kill leaves at two
//! places is found by the next run, which releases it at the older. Parts that a link tells of or that are locked stay
//! where they are. What a stripe lacks is for `repair`.

mod carry;
mod even;
mod look;
mod plan;

use super::choose;
use crate::{plan::Part, redundancy::set_aside};
use alloy_primitives::U256;
use hodei_types::transport::NodeKey;
use std::collections::{BTreeMap, BTreeSet};

/// What one provider holds of a bucket's data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Share {
    pub node: NodeKey,
    pub zone: String,
    /// `None`: to be opened.
    pub deal: Option<u64>,
    /// Bytes of shards, without pages and the index.
    pub bytes: u64,
    /// The same when all is moved.
    pub bytes_then: u64,
    /// Whether it takes shards now; the others neither give nor get any.
    pub takes: bool,
    /// Whether it does not stay, so that what it holds is to be put elsewhere by a repair.
    pub leaves: bool,
    /// Shards that it was to have and declines, and that lie nowhere else.
    pub declined: u64,
}

/// What evening out a bucket will do.
#[derive(Clone, Debug)]
pub struct Rebalance {
    pub shares: Vec<Share>,
    /// Deals to open with who joined since.
    pub open: Vec<Part>,
    /// An even part for each that takes shards, new ones included.
    pub fair_bytes: u64,
    /// To be read and sent.
    pub move_shards: u64,
    pub move_bytes: u64,
    /// Shards that an interrupted run left at two places: the older is released.
    pub twins: u64,
    /// Shards that it said would be elsewhere and never brought there: that is taken back.
    pub astray: u64,
    /// Shards that lie elsewhere than with who declines them; they stay there.
    pub declined_elsewhere: u64,
    /// Stripes that lack a shard, and parts that cannot be looked at now.
    pub lacking_stripes: u64,
    pub unread_parts: u64,
    /// Shards that the bucket's overlay takes still: no more are moved.
    pub steps_left: u64,
    /// Wei per window for the shards, as they lie and as they will.
    pub window_now: U256,
    pub window_then: U256,
}

impl Rebalance {
    /// Wei to set aside.
    pub fn escrow(&self) -> U256 {
        set_aside(&self.open, &[])
    }

    /// Whether nothing that may go makes it more even, and an interrupted run left nothing to do.
    pub fn is_done(&self) -> bool {
        self.move_shards == 0 && self.twins == 0 && self.astray == 0
    }

    /// Bytes by deal, as it lies.
    fn held_bytes(&self) -> BTreeMap<u64, u64> {
        self.shares.iter().filter_map(|share| Some((share.deal?, share.bytes))).collect()
    }
}

/// What was done.
#[derive(Clone, Debug, Default)]
pub struct Rebalanced {
    pub moved_shards: u64,
    pub moved_bytes: u64,
    /// Shards that were found at two places.
    pub twins: u64,
    /// What its old place could not release now; the same command does it.
    pub left: u64,
    /// Stripes that lack a shard.
    pub lacking_stripes: u64,
    /// Why shards stayed where they are, for people: some of the reasons.
    pub failures: BTreeSet<String>,
    pub shares: Vec<Share>,
}
