//! Count what names each stored part, as an index changes.
//!
//! Copies name one part several times, and a pack is named by all its members: so what is let go of is asked here
//! instead of looking through all entries. What copies share is counted once for each of them: a pack then looks
//! fuller than it is, never emptier.

use super::Entry;
use rpds::RedBlackTreeMapSync;

/// How much of a stored part is named.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Use {
    /// Parts of entries that name it: itself, or members.
    pub parts: u64,
    /// Bytes of it that these need.
    pub bytes: u64,
}

/// Uses by a stored part's id, and what all entries come to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Uses {
    by_part: RedBlackTreeMapSync<[u8; 16], Use>,
    pub(super) objects: u64,
    pub(super) bytes: u64,
}

impl Uses {
    pub(super) fn of(&self, object: &[u8; 16]) -> Option<Use> {
        self.by_part.get(object).copied()
    }

    pub(super) fn add(&mut self, versions: &[Entry]) {
        for entry in versions {
            self.objects += u64::from(!entry.marker);
            self.bytes += entry.size_bytes();
        }
        self.name(versions);
    }

    pub(super) fn remove(&mut self, versions: &[Entry]) {
        for entry in versions {
            self.objects -= u64::from(!entry.marker);
            self.bytes -= entry.size_bytes();
        }
        self.unname(versions);
    }

    /// What they name is named once more, by what is no object.
    pub(super) fn name(&mut self, versions: &[Entry]) {
        for entry in versions {
            for part in &entry.parts {
                let object = part.stored().object;
                let mut now = self.of(&object).unwrap_or_default();
                now.parts += 1;
                now.bytes += part.stored_bytes();
                self.by_part.insert_mut(object, now);
            }
        }
    }

    pub(super) fn unname(&mut self, versions: &[Entry]) {
        for entry in versions {
            for part in &entry.parts {
                let object = part.stored().object;
                let mut now = self.of(&object).expect("it was counted when it was set");
                now.parts -= 1;
                now.bytes -= part.stored_bytes();
                if now.parts == 0 {
                    self.by_part.remove_mut(&object);
                } else {
                    self.by_part.insert_mut(object, now);
                }
            }
        }
    }
}
