//! Give what is on call the room that no lease has.

use crate::provider::lock;
use hodei_types::market::Capacity;
use std::sync::{Arc, Mutex};

/// What of a host is not leased, and what of that runs on call now; clones share it.
#[derive(Clone, Debug)]
pub(super) struct Room(Arc<Mutex<(Capacity, Capacity)>>);

/// Room that is used until this is dropped.
#[derive(Debug)]
pub(super) struct Taken {
    room: Room,
    each: Capacity,
}

impl Room {
    pub(super) fn new(free: Capacity) -> Self {
        Self(Arc::new(Mutex::new((free, Capacity::default()))))
    }

    /// From now on so much is not leased. What runs goes on, be it less than that takes.
    pub(super) fn set(&self, free: Capacity) {
        lock(&self.0).0 = free;
    }

    /// Takes so much, if it is there.
    pub(super) fn take(&self, each: &Capacity) -> Option<Taken> {
        let mut held = lock(&self.0);
        held.1 = held.1.checked_add(each).filter(|used| used.fits_in(&held.0))?;
        Some(Taken { room: self.clone(), each: *each })
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        let mut held = lock(&self.room.0);
        held.1 = held.1.checked_sub(&self.each).unwrap_or_default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_runs_than_fits_beside_the_leases() {
        let of = |cpu| Capacity { cpuMilli: cpu, ..Capacity::default() };
        let room = Room::new(of(1000));
        let first = room.take(&of(600)).unwrap();
        assert!(room.take(&of(401)).is_none());
        let second = room.take(&of(400)).unwrap();
        drop(first);
        room.set(of(500));
        assert!(room.take(&of(101)).is_none(), "a lease took half of it");
        let third = room.take(&of(100)).unwrap();
        drop((second, third));
        assert!(room.take(&of(500)).is_some() && room.take(&of(501)).is_none());
    }
}
