//! Say how much a bucket holds, and may.

/// Plain bytes, parity left out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Room {
    pub total_bytes: u64,
    pub used_bytes: u64,
}

/// Bytes of a block, as the kernel counts a file system's.
pub(crate) const BLOCK_BYTES: u32 = 4096;

impl Room {
    /// Blocks in all, and those that are free.
    pub(crate) fn blocks(&self) -> (u64, u64) {
        let block = u64::from(BLOCK_BYTES);
        let total = self.total_bytes / block;
        (total, total.saturating_sub(self.used_bytes.div_ceil(block)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_begun_is_used() {
        let room = |total_bytes, used_bytes| Room { total_bytes, used_bytes }.blocks();
        assert_eq!(room(40_960, 1), (10, 9));
        assert_eq!(room(40_960, 40_961), (10, 0), "more than full is full");
    }
}
