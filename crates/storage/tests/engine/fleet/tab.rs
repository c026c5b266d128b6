//! Count reads against ticks as an honest provider does, or as one that counts too much.

use hodei_storage::wire::{self, Answer, Reason};
use hodei_types::tab::{Opening, TICK_BYTES, Tick, follows};

const CREDIT_BYTES: u64 = 4 * TICK_BYTES;

/// One provider's count under one tab of one leaf for it.
pub(crate) struct Tab {
    pub(crate) opening: Opening,
    pub(crate) id: [u8; 32],
    /// What it has.
    pub(crate) tick: Tick,
    /// It knows the leaf.
    is_open: bool,
    pub(crate) served: u64,
    /// It counts each byte so often.
    pub(crate) times: u64,
    /// Reads it refused.
    pub(crate) refused: u32,
}

impl Tab {
    pub(crate) fn new(id: [u8; 32], opening: Opening) -> Self {
        let tick = Tick { index: 0, value: opening.leaf.anchor };
        Self { opening, id, tick, is_open: false, served: 0, times: 1, refused: 0 }
    }

    /// Whether it was shown what pays it.
    pub(crate) fn is_open(&self) -> bool {
        self.is_open
    }

    /// Counts bytes about to be given; an answer is a refusal.
    pub(crate) fn give(&mut self, bytes: u64) -> Option<Answer> {
        if self.served > u64::from(self.tick.index) * TICK_BYTES + CREDIT_BYTES {
            self.refused += 1;
            return Some(Answer::Refused { reason: Reason::Unpaid, text: "behind".into() });
        }
        self.served += bytes * self.times;
        None
    }

    /// As after a crash: the last ticks, and what they paid for, are forgotten.
    pub(crate) fn forget(&mut self) {
        self.tick = Tick { index: 0, value: self.opening.leaf.anchor };
        (self.served, self.is_open) = (0, false);
    }

    pub(crate) fn take(&mut self, tick: &wire::Tick) -> Answer {
        let unpaid = |text: &str| Answer::Refused { reason: Reason::Unpaid, text: text.into() };
        self.is_open |= tick.opening == self.opening.to_bytes();
        if !self.is_open || (tick.tab, tick.leaf) != (self.id, self.opening.number) {
            return unpaid("unknown leaf");
        }
        let given = Tick { index: tick.index, value: tick.value.into() };
        if given.index > self.tick.index {
            match follows(self.id.into(), self.opening.leaf.provider, &self.tick, &given, 64) {
                Ok(()) => self.tick = given,
                Err(error) => return unpaid(&error.to_string()),
            }
        }
        let (taken, value) = (self.tick.index, self.tick.value.0);
        Answer::Tab(wire::Tab { taken, value, served_bytes: self.served, credit_bytes: CREDIT_BYTES })
    }
}
