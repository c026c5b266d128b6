//! Hold blocks of what is read in bounded memory, those that were read longest ago given up first.
//!
//! A block is fetched once, however many wait for it. Blocks on their way count as if they were here; only what a
//! program waits for right now goes beyond the limit, which is a block for each read under way.

use crate::fault::Wrong;
use bytes::Bytes;
use futures::{FutureExt as _, channel::oneshot, future::Shared};
use std::{collections::BTreeMap, ops::Range};

/// Resolves when the block is here.
pub(crate) type Coming = Shared<oneshot::Receiver<Result<Bytes, Wrong>>>;
/// Tells those who wait.
pub(crate) type Arrival = oneshot::Sender<Result<Bytes, Wrong>>;

/// A block: of which content, and the how manyth.
pub(crate) type Place = (u64, u64);

enum Slot {
    Here { bytes: Bytes, used: u64 },
    Coming { coming: Coming, bytes: u64 },
}

impl Slot {
    fn bytes(&self) -> u64 {
        match self {
            Self::Here { bytes, .. } => bytes.len() as u64,
            Self::Coming { bytes, .. } => *bytes,
        }
    }
}

/// A block, now or soon.
pub(crate) enum Held {
    Here(Bytes),
    Coming(Coming),
}

/// See the module.
pub(crate) struct Blocks {
    bytes_max: u64,
    bytes: u64,
    held: BTreeMap<Place, Slot>,
    /// Counts uses.
    clock: u64,
}

impl Blocks {
    pub(crate) fn new(bytes_max: u64) -> Self {
        Self { bytes_max, bytes: 0, held: BTreeMap::new(), clock: 0 }
    }

    pub(crate) fn get(&mut self, place: Place) -> Option<Held> {
        self.clock += 1;
        match self.held.get_mut(&place)? {
            Slot::Here { bytes, used } => {
                *used = self.clock;
                Some(Held::Here(bytes.clone()))
            }
            Slot::Coming { coming, .. } => Some(Held::Coming(coming.clone())),
        }
    }

    pub(crate) fn has(&self, place: Place) -> bool {
        self.held.contains_key(&place)
    }

    /// Runs of blocks that are neither here nor on their way.
    pub(crate) fn missing(&self, content: u64, range: Range<u64>) -> Vec<Range<u64>> {
        let mut runs: Vec<Range<u64>> = Vec::new();
        for at in range.filter(|at| !self.has((content, *at))) {
            match runs.last_mut() {
                Some(run) if run.end == at => run.end += 1,
                _ => runs.push(at..at + 1),
            }
        }
        runs
    }

    /// Makes room for a block that is about to be fetched; `None` if there is none and nobody waits for it.
    pub(crate) fn expect(&mut self, place: Place, bytes: u64, is_needed: bool) -> Option<Arrival> {
        while self.bytes + bytes > self.bytes_max {
            let here = self.held.iter().filter_map(|(place, slot)| match slot {
                Slot::Here { used, .. } => Some((*used, *place)),
                Slot::Coming { .. } => None,
            });
            match here.min() {
                Some((_, oldest)) => self.remove(oldest),
                None if is_needed => break,
                None => return None,
            }
        }
        let (arrival, coming) = oneshot::channel();
        self.remove(place);
        self.bytes += bytes;
        self.held.insert(place, Slot::Coming { coming: coming.shared(), bytes });
        Some(arrival)
    }

    /// A block that was expected; one that nobody expects any more is not kept.
    pub(crate) fn arrive(&mut self, place: Place, bytes: Bytes) {
        if matches!(self.held.get(&place), Some(Slot::Coming { .. })) {
            self.remove(place);
            self.clock += 1;
            self.bytes += bytes.len() as u64;
            self.held.insert(place, Slot::Here { bytes, used: self.clock });
        }
    }

    /// It does not come: whoever wants it asks again.
    pub(crate) fn fail(&mut self, place: Place) {
        if matches!(self.held.get(&place), Some(Slot::Coming { .. })) {
            self.remove(place);
        }
    }

    /// Gives up what is of no use any more.
    pub(crate) fn forget(&mut self, content: u64) {
        let places: Vec<Place> = self.held.range((content, 0)..=(content, u64::MAX)).map(|(place, _)| *place).collect();
        for place in places {
            self.remove(place);
        }
    }

    fn remove(&mut self, place: Place) {
        if let Some(slot) = self.held.remove(&place) {
            self.bytes -= slot.bytes();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(blocks: &mut Blocks, at: u64, is_needed: bool) -> bool {
        let arrival = blocks.expect((1, at), 10, is_needed);
        if arrival.is_some() {
            blocks.arrive((1, at), Bytes::from_static(&[0; 10]));
        }
        arrival.is_some()
    }

    #[test]
    fn the_one_used_longest_ago_goes_first() {
        let mut blocks = Blocks::new(30);
        assert!((0..3).all(|at| block(&mut blocks, at, false)));
        assert!(blocks.get((1, 0)).is_some());
        assert!(block(&mut blocks, 3, false));
        assert_eq!(blocks.missing(1, 0..5), [1..2, 4..5]);
        assert_eq!(blocks.bytes, 30);
        blocks.forget(1);
        assert_eq!((blocks.bytes, blocks.missing(1, 0..5).first()), (0, Some(&(0..5))));
    }

    #[test]
    fn what_is_on_its_way_is_never_given_up_for_a_guess() {
        let mut blocks = Blocks::new(20);
        let first = blocks.expect((1, 0), 10, false).unwrap();
        let _second = blocks.expect((1, 1), 10, false).unwrap();
        assert!(blocks.expect((1, 2), 10, false).is_none());
        assert!(blocks.expect((2, 0), 10, true).is_some(), "what a program waits for is fetched");
        // Who waited gets it even if there is no place to keep it.
        let Some(Held::Coming(coming)) = blocks.get((1, 0)) else { panic!("it is on its way") };
        blocks.forget(1);
        first.send(Ok(Bytes::from_static(b"x"))).unwrap();
        assert_eq!(futures::executor::block_on(coming).unwrap(), Ok(Bytes::from_static(b"x")));
        blocks.arrive((1, 0), Bytes::from_static(b"x"));
        assert!(blocks.get((1, 0)).is_none());
    }
}
