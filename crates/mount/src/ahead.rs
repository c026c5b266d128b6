//! Guess what will be read next.
//!
//! Upon a read where the last one ended, or near it, because the kernel's own reads come out of order, twice as many
//! blocks are wanted ahead as before, up to a limit; upon any other, none.

use std::ops::Range;

/// How far beside the expected place a read still goes on from the last: the kernel reads 128 KiB at once, a few at
/// a time.
const NEAR_BYTES: u64 = 1 << 20;

/// How one reader of one file goes through it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Ahead {
    /// Where the farthest read that goes on ended.
    next: u64,
    /// Blocks wanted beyond it.
    window: u64,
    /// The last block that made it wider.
    widened: Option<u64>,
}

impl Ahead {
    /// What is needed for `range`, and what else is wanted; both in blocks of `block_bytes`, within `size_bytes`.
    pub(crate) fn plan(
        &mut self,
        range: Range<u64>,
        size_bytes: u64,
        block_bytes: u64,
        window_max: u64,
    ) -> (Range<u64>, Range<u64>) {
        let needed = range.start / block_bytes..range.end.div_ceil(block_bytes);
        let is_near = range.start.abs_diff(self.next) <= NEAR_BYTES;
        if is_near {
            let last = needed.end.saturating_sub(1);
            if self.widened.is_none_or(|widened| widened < last) {
                self.window = (self.window * 2).clamp(1, window_max.max(1));
                self.widened = Some(last);
            }
            self.next = self.next.max(range.end);
        } else {
            *self = Self { next: range.end, ..Self::default() };
        }
        let end = size_bytes.div_ceil(block_bytes);
        let wanted = needed.end.min(end)..(needed.end + self.window).min(end);
        (needed, wanted)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BLOCK: u64 = 4 << 20;
    const SIZE: u64 = 100 * BLOCK;

    #[test]
    fn who_reads_on_gets_more_and_more_ahead() {
        let mut ahead = Ahead::default();
        let mut at = 0;
        let mut widest = Vec::new();
        while at < 6 * BLOCK {
            let (needed, wanted) = ahead.plan(at..at + (128 << 10), SIZE, BLOCK, 8);
            assert_eq!(needed, at / BLOCK..at / BLOCK + 1);
            assert_eq!(wanted.start, needed.end);
            if at % BLOCK == 0 {
                widest.push(wanted.end - wanted.start);
            }
            at += 128 << 10;
        }
        assert_eq!(widest, [1, 2, 4, 8, 8, 8]);
    }

    #[test]
    fn out_of_order_is_in_order_and_a_jump_is_not() {
        let mut ahead = Ahead::default();
        ahead.plan(0..131_072, SIZE, BLOCK, 8);
        ahead.plan(262_144..393_216, SIZE, BLOCK, 8);
        let (_, wanted) = ahead.plan(131_072..262_144, SIZE, BLOCK, 8);
        assert_eq!(wanted, 1..2, "one block was reached");
        let (needed, wanted) = ahead.plan(50 * BLOCK..50 * BLOCK + 4096, SIZE, BLOCK, 8);
        assert_eq!((needed, wanted), (50..51, 51..51));
    }

    #[test]
    fn nothing_is_wanted_beyond_the_end() {
        let mut ahead = Ahead::default();
        assert_eq!(ahead.plan(0..10, 10, BLOCK, 8), (0..1, 1..1));
        let (needed, wanted) = Ahead::default().plan(BLOCK - 1..BLOCK + 1, 2 * BLOCK, BLOCK, 8);
        assert_eq!((needed, wanted), (0..2, 2..2), "a read over an edge needs both");
    }
}
