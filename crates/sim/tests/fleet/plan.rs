//! Say what a fleet is, and what came of it.

use crate::device::Life;
use hodei_types::code::Shape;

#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) devices: u32,
    pub(crate) networks: usize,
    pub(crate) days: u64,
    pub(crate) buckets: u32,
    /// Of a bucket: groups of stripes that are placed together.
    pub(crate) groups: u32,
    /// Of a group at most: an object of one byte has one, each full part has all.
    pub(crate) stripes: u64,
    pub(crate) shard_bytes: u64,
    /// Providers a bucket has deals with.
    pub(crate) roster: usize,
    pub(crate) shape: Shape,
    pub(crate) life: Life,
    /// Who repairs at once, and how many bytes a second each moves.
    pub(crate) repairers: u32,
    pub(crate) repair_bytes_per_sec: u64,
    /// The so many largest networks are away together from one day on, for so many.
    pub(crate) strikes: Vec<(u64, usize, u64)>,
    pub(crate) seed: u64,
}

/// What came of it.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Outcome {
    pub(crate) groups: u64,
    /// What is stored, before it is coded.
    pub(crate) user_bytes: u64,
    /// Groups of which fewer than k shards are on any device.
    pub(crate) lost: u64,
    pub(crate) repairs: u64,
    pub(crate) rebuilt: u64,
    /// Read from holders, and sent to new ones.
    pub(crate) read_bytes: u64,
    pub(crate) sent_bytes: u64,
    /// Tickets that could not be used, for want of k holders awake, or of somebody to take the shards.
    pub(crate) put_off: u64,
    pub(crate) looks: u64,
    /// Looks at which fewer than k holders were awake; could be woken.
    pub(crate) asleep: u64,
    pub(crate) unreadable: u64,
    /// Least margin of any group, in shards on devices that are not gone for good.
    pub(crate) least: u16,
    /// Most shards of one group on one device, on the devices of one operator, and in one network.
    pub(crate) at_device: u8,
    pub(crate) at_operator: u8,
    pub(crate) in_network: u8,
    pub(crate) ended: u64,
    /// Most that waited at once.
    pub(crate) queued: usize,
}
