//! Keep a pass from taking more of the line than its owner allows, and tell how far it is.

use hodei_storage::engine::Pool;
use std::{
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, SystemTime},
};

/// Stripes read and not yet taken to be put, beside the memory of all puts and gets.
const READ_BYTES: u64 = 32 << 20;

/// What the tasks of one pass share.
pub(super) struct Pass {
    rate: Option<u64>,
    /// When the next byte may come.
    next: Mutex<SystemTime>,
    done: AtomicU64,
    told: Option<Box<dyn Fn(u64) + Send + Sync>>,
    /// Bounds the memory of what is read: were it that of what is put, each could wait for the other.
    pub(super) pool: Pool,
    /// Some provider did not take its shard: the quorum has to do.
    pub(super) is_short: AtomicBool,
}

impl Pass {
    pub(super) fn new(rate: Option<u64>, told: Option<Box<dyn Fn(u64) + Send + Sync>>) -> Self {
        Self {
            rate,
            next: Mutex::new(SystemTime::UNIX_EPOCH),
            done: AtomicU64::new(0),
            told,
            pool: Pool::new(READ_BYTES),
            is_short: AtomicBool::new(false),
        }
    }

    /// Takes note of bytes; gives from when on they may be handed on.
    pub(super) fn take(&self, now: SystemTime, bytes: u64) -> SystemTime {
        let done = self.done.fetch_add(bytes, Ordering::Relaxed) + bytes;
        if let Some(told) = &self.told {
            told(done);
        }
        let Some(rate) = self.rate else { return now };
        let mut next = self.next.lock().expect("no panic under this lock");
        let start = (*next).max(now);
        *next = start + Duration::from_micros(bytes.saturating_mul(1_000_000) / rate.max(1));
        start
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_come_no_faster_than_asked() {
        let pass = |rate| Pass::new(rate, None);
        let start = SystemTime::UNIX_EPOCH + Duration::from_secs(100);
        let slow = pass(Some(1000));
        let waits: Vec<_> = [500, 500, 1000].map(|bytes| slow.take(start, bytes).duration_since(start).unwrap()).into();
        assert_eq!(waits, [0, 500, 1000].map(Duration::from_millis));
        let later = start + Duration::from_secs(60);
        assert_eq!(slow.take(later, 1), later, "what was not used is not saved up");
        assert_eq!(pass(None).take(start, u64::MAX), start);
    }
}
