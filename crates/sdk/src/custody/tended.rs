//! Tell what one look at a bucket found and did, and how far it is.

use alloy_primitives::U256;
use hodei_storage::repair::Margins;
use std::{collections::BTreeSet, time::Duration};

/// Rest before what is found to lack is believed to: late shards of a put come within it.
pub const SETTLES: Duration = Duration::from_secs(10);

/// What one look at a bucket found and did.
#[derive(Clone, Debug, Default)]
pub struct Tended {
    /// This account's place among those that look after the bucket, from 0.
    pub rank: u64,
    /// Stripes, as they were found.
    pub stripes: Margins,
    /// Of them, those that lack too much; and those left for later, since somebody else may be at them.
    pub due: u64,
    pub left: u64,
    /// Looks after this one until the first of those is this account's; 0 where none is left.
    pub left_looks: u64,
    /// Of those that are due and not left, how many were dealt with.
    pub tried: u64,
    pub restored_stripes: u64,
    pub restored_shards: u64,
    /// Shards brought to others as they are, from providers that leave or missed proofs; and of those, from who missed them.
    pub moved_shards: u64,
    pub doubted_shards: u64,
    /// Shards that others were found to have, brought before by somebody who did not come to say so.
    pub found_shards: u64,
    /// Copies made of pages, lists and the index's root.
    pub copies: u64,
    pub read_bytes: u64,
    pub sent_bytes: u64,
    /// Deals opened, and wei of the reserve in them.
    pub new_deals: u64,
    pub escrow: U256,
    /// Why stripes that are due are not made again, for people.
    pub failures: BTreeSet<String>,
    /// Deals with providers that leave; of them, those that were ended; and why others stay, for people.
    pub leaving_deals: u64,
    pub released_deals: u64,
    pub stays: BTreeSet<String>,
}

/// How far a look is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// So many stripes lack something since a moment ago: they are looked at again after [`SETTLES`].
    Settles { stripes: u64 },
    /// So many of those that are this account's to make were dealt with.
    Mended { done: u64, of: u64 },
}
