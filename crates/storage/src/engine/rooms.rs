//! Know how full each deal is by what its provider signed, and keep a part of it free of data.
//!
//! A change of a bucket, a removal too, writes a layer of its index before anything is released: a deal that data fills to
//! the last byte could not be emptied again.

use hodei_types::{ack::Ack, slice::CHUNK_BYTES};
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard},
};

/// This part of a deal's bytes is kept free of data,
const RESERVE_PART: u64 = 50;
/// at least so many,
const RESERVE_BYTES_MIN: u64 = 8 << 20;
/// and never more than this part.
const RESERVE_PART_MAX: u64 = 8;
/// Deals remembered; beyond it the book starts anew.
const DEALS_MAX: usize = 65_536;

/// How much of a deal a put may take.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Fill {
    /// All but what is kept for the bucket's index.
    #[default]
    Data,
    /// All of it.
    Index,
}

/// Bytes of a deal that are kept free of data.
pub fn reserve_bytes(capacity_bytes: u64) -> u64 {
    (capacity_bytes / RESERVE_PART).max(RESERVE_BYTES_MIN).min(capacity_bytes / RESERVE_PART_MAX)
}

#[derive(Debug, Default)]
struct Room {
    capacity_bytes: u64,
    /// Of the newest statement.
    sequence: u64,
    leaves: u64,
    /// On their way.
    coming_bytes: u64,
}

/// What is known of deals; clones share it. One that nobody told of has no limit here: its provider knows it.
#[derive(Clone, Debug, Default)]
pub struct Rooms(Arc<Mutex<BTreeMap<u64, Room>>>);

/// Bytes that are on their way to a deal for as long as this lives.
#[derive(Debug)]
pub(crate) struct Coming {
    rooms: Rooms,
    deal: u64,
    bytes: u64,
}

impl Drop for Coming {
    fn drop(&mut self) {
        if let Some(room) = self.rooms.lock().get_mut(&self.deal) {
            room.coming_bytes = room.coming_bytes.saturating_sub(self.bytes);
        }
    }
}

impl Rooms {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<u64, Room>> {
        self.0.lock().expect("no panic under this lock")
    }

    /// What the ledger says of a deal: its capacity, and its last root that was posted.
    pub fn tell(&self, deal: u64, capacity_bytes: u64, (sequence, leaves): (u64, u64)) {
        let mut rooms = self.lock();
        if rooms.len() >= DEALS_MAX && !rooms.contains_key(&deal) {
            rooms.clear();
        }
        let room = rooms.entry(deal).or_default();
        room.capacity_bytes = capacity_bytes;
        if room.sequence <= sequence {
            (room.sequence, room.leaves) = (sequence, leaves);
        }
    }

    /// What its provider says of a deal, by a statement that was checked.
    pub fn hear(&self, ack: &Ack) {
        let statement = &ack.statement;
        if let Some(room) = self.lock().get_mut(&statement.deal)
            && room.sequence <= statement.sequence
        {
            (room.sequence, room.leaves) = (statement.sequence, statement.leaves);
        }
    }

    /// Room for so many bytes of data; says why there is none.
    pub(crate) fn take(&self, deal: u64, bytes: u64) -> Result<Option<Coming>, String> {
        let mut rooms = self.lock();
        let Some(room) = rooms.get_mut(&deal) else { return Ok(None) };
        let reserve = reserve_bytes(room.capacity_bytes);
        let held = room.leaves.saturating_mul(CHUNK_BYTES as u64).saturating_add(room.coming_bytes);
        if held.saturating_add(bytes) > room.capacity_bytes - reserve {
            let capacity = room.capacity_bytes;
            return Err(format!("deal {deal} is for {capacity} bytes, and its last {reserve} are the index's"));
        }
        room.coming_bytes += bytes;
        Ok(Some(Coming { rooms: self.clone(), deal, bytes }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hodei_types::ack::{Signer, Statement};

    const MIB: u64 = 1 << 20;

    fn ack(sequence: u64, leaves: u64) -> Ack {
        Signer::new(&[1; 32]).ack(7, Statement { deal: 3, sequence, position: 0, root: [0; 32], leaves })
    }

    #[test]
    fn a_reserve_is_a_fiftieth_but_some_of_a_small_deal_and_never_much_of_it() {
        assert_eq!(reserve_bytes(1000 * MIB), 20 * MIB);
        assert_eq!(reserve_bytes(170 * MIB), 8 * MIB);
        assert_eq!((reserve_bytes(8 * MIB), reserve_bytes(0)), (MIB, 0));
    }

    #[test]
    fn what_is_held_and_what_is_on_its_way_leave_the_reserve_alone() {
        let rooms = Rooms::default();
        assert!(rooms.take(3, u64::MAX).is_ok_and(|coming| coming.is_none()), "nobody told of it");
        rooms.tell(3, 80 * MIB, (5, 70 * 1024));
        let coming = rooms.take(3, 2 * MIB).unwrap();
        let why = rooms.take(3, 1).unwrap_err();
        assert!(why.contains("its last 8388608 are the index's"), "{why}");
        drop(coming);
        assert!(rooms.take(3, 2 * MIB).is_ok(), "it did not come");
        rooms.hear(&ack(6, 72 * 1024));
        assert!(rooms.take(3, 1).is_err());
        rooms.hear(&ack(7, 1024));
        rooms.hear(&ack(6, 72 * 1024));
        rooms.tell(3, 80 * MIB, (5, 70 * 1024));
        assert!(rooms.take(3, 71 * MIB).is_ok(), "what is older says nothing");
        rooms.tell(3, MIB, (7, 1024));
        assert!(rooms.take(3, 1).is_err(), "it is smaller by now");
    }
}
