//! Add, take and compare capacity, and weigh it.

use super::{BP, Capacity};

const MIB: u64 = 1 << 20;

/// What the book's steps are priced for: a small service, one CPU, 2 GiB of memory, 10 GiB of disk, 10 Mbit/s.
pub const REFERENCE: Capacity =
    Capacity { cpuMilli: 1000, memoryBytes: 2 << 30, diskBytes: 10 << 30, bandwidthBits: 10_000_000, transferBytes: 0 };

impl Capacity {
    /// CPU, memory, disk, bandwidth, transfer.
    pub const fn dims(&self) -> [u64; 5] {
        [self.cpuMilli, self.memoryBytes, self.diskBytes, self.bandwidthBits, self.transferBytes]
    }

    pub const fn of_dims(dims: [u64; 5]) -> Self {
        let [cpu, memory, disk, bandwidth, transfer] = dims;
        Self { cpuMilli: cpu, memoryBytes: memory, diskBytes: disk, bandwidthBits: bandwidth, transferBytes: transfer }
    }

    fn join(&self, other: &Self, op: impl Fn(u64, u64) -> Option<u64>) -> Option<Self> {
        let (left, right) = (self.dims(), other.dims());
        let mut out = [0; 5];
        for (i, out) in out.iter_mut().enumerate() {
            *out = op(left[i], right[i])?;
        }
        Some(Self::of_dims(out))
    }

    pub fn checked_add(&self, other: &Self) -> Option<Self> {
        self.join(other, u64::checked_add)
    }

    /// None if `other` does not fit.
    pub fn checked_sub(&self, other: &Self) -> Option<Self> {
        self.join(other, u64::checked_sub)
    }

    pub fn fits_in(&self, free: &Self) -> bool {
        free.checked_sub(self).is_some()
    }

    /// How many of `each` fit at once.
    pub fn holds(&self, each: &Self) -> u64 {
        let each = each.dims();
        let times = self.dims().into_iter().zip(each).filter(|(_, each)| *each > 0).map(|(free, each)| free / each);
        times.min().unwrap_or(0)
    }

    /// How much of it is not `free`, of what is fullest, in hundredths of a percent.
    pub fn used_bp(&self, free: &Self) -> u64 {
        let used = |(all, free): (u64, u64)| {
            let used = u128::from(all.saturating_sub(free)) * u128::from(BP);
            used.checked_div(u128::from(all)).map_or(0, |bp| bp as u64)
        };
        self.dims().into_iter().zip(free.dims()).map(used).max().unwrap_or(0)
    }
}

/// How large a capacity is, in thousandths of a unit, so that prices of unlike leases compare: a unit is one CPU, or
/// 8 GiB of memory, 200 GiB of disk, 100 Mbit/s, or 50 GiB moved an hour. These are about what clouds ask the same for;
/// another choice would shift the index, not what anybody pays.
pub fn size_milli(capacity: &Capacity) -> u64 {
    let [cpu, memory, disk, bandwidth, transfer] = capacity.dims();
    let parts = [memory / (8 * MIB), disk / (200 * MIB), bandwidth / 100_000, transfer / (50 * MIB)];
    // A GiB has 1,024 MiB, a unit 1,000 thousandths: the difference is of no weight here.
    parts.into_iter().fold(cpu, u64::saturating_add)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capacity_is_taken_whole_or_not_at_all() {
        let free = Capacity::of_dims([10, 10, 10, 10, 10]);
        let each = Capacity::of_dims([3, 2, 0, 0, 5]);
        assert_eq!(free.checked_sub(&each), Some(Capacity::of_dims([7, 8, 10, 10, 5])));
        assert_eq!(free.checked_sub(&Capacity::of_dims([0, 0, 0, 0, 11])), None);
        assert_eq!(free.checked_add(&Capacity::of_dims([u64::MAX, 0, 0, 0, 0])), None);
        assert_eq!((free.holds(&each), free.holds(&Capacity::default())), (2, 0));
        assert!(each.fits_in(&free) && !free.fits_in(&each));
    }

    #[test]
    fn utilisation_is_that_of_the_fullest() {
        let all = Capacity::of_dims([1000, 400, 0, u64::MAX, 10]);
        let free = Capacity::of_dims([500, 100, 0, u64::MAX, 10]);
        assert_eq!(all.used_bp(&free), 7_500);
        assert_eq!(all.used_bp(&all), 0);
        assert_eq!(all.used_bp(&Capacity::default()), 10_000);
    }

    #[test]
    fn a_unit_is_a_cpu_or_what_costs_about_as_much() {
        assert_eq!(size_milli(&Capacity { cpuMilli: 1500, ..Capacity::default() }), 1500);
        assert_eq!(size_milli(&Capacity { memoryBytes: 8 << 30, ..Capacity::default() }), 1024);
        assert_eq!(size_milli(&Capacity::of_dims([u64::MAX; 5])), u64::MAX);
    }
}
