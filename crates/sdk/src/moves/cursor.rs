//! Name the place in a list by blocks at which its next page begins.

use super::Dated;
use std::{fmt, str::FromStr};

/// Behind `skip` entries of block `height`, newest first; with none, behind all blocks from that on. What is final does not
/// change, so a place once named stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cursor {
    height: u64,
    skip: usize,
}

/// That is no place in such a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected a block's number, or BLOCK.COUNT as a page before ended with it")]
pub struct NoCursor;

impl Cursor {
    /// Behind all of block `height` and what is newer.
    pub(crate) fn below(height: u64) -> Self {
        Self { height, skip: 0 }
    }

    /// Behind the last of `shown`, which went on from `self`, where `next` comes then.
    pub(super) fn behind<T: Dated>(from: Option<Self>, shown: &[T], next: &T) -> Self {
        let of_block = shown.iter().rev().take_while(|row| row.height() == next.height()).count();
        if of_block == 0 && from.is_none_or(|from| from.height != next.height()) {
            return Self::below(next.height() + 1);
        }
        let before = from.filter(|from| from.height == next.height()).map_or(0, |from| from.skip);
        Self { height: next.height(), skip: before + of_block }
    }

    /// The newest block that is looked at.
    pub(super) fn newest(&self) -> u64 {
        if self.skip > 0 { self.height } else { self.height.saturating_sub(1) }
    }

    /// How many of the first of `rows`, newest first, were shown before.
    pub(super) fn shown<T: Dated>(&self, rows: &[T]) -> usize {
        rows.iter().take_while(|row| row.height() >= self.height).take(self.skip).count()
    }

    /// How many more are to be found than are to be shown.
    pub(super) fn skip(&self) -> usize {
        self.skip
    }
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.skip {
            0 => write!(f, "{}", self.height),
            skip => write!(f, "{}.{skip}", self.height),
        }
    }
}

impl FromStr for Cursor {
    type Err = NoCursor;

    fn from_str(text: &str) -> Result<Self, NoCursor> {
        let (height, skip) = text.split_once('.').unwrap_or((text, "0"));
        let number = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit()) && !text.is_empty();
        if !number(height) || !number(skip) {
            return Err(NoCursor);
        }
        let (height, skip): (u64, u32) = (height.parse().map_err(|_| NoCursor)?, skip.parse().map_err(|_| NoCursor)?);
        Ok(Self { height, skip: skip as usize })
    }
}
