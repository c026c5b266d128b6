//! Bound what is held at once, whoever asks.
//!
//! One pool of bytes per process bounds the memory of all puts and gets; small pools of units bound what is
//! in flight towards one provider. First come, first served: a large wish is never starved by small ones.

use futures::channel::oneshot;
use std::{
    collections::VecDeque,
    sync::{Arc, Mutex},
};

/// Memory of all stripes of a process: eight of 16-of-32, 42 of 3-of-6.
pub const STRIPES_BYTES: u64 = 96 * 1024 * 1024;

#[derive(Debug)]
struct State {
    free: u64,
    waiting: VecDeque<(u64, oneshot::Sender<Permit>)>,
}

/// A number of units that are lent; clones share them.
#[derive(Clone, Debug)]
pub struct Pool {
    size: u64,
    state: Arc<Mutex<State>>,
}

/// Units lent from a pool; dropping gives them back.
#[derive(Debug)]
pub struct Permit {
    units: u64,
    pool: Pool,
}

impl Pool {
    pub fn new(size: u64) -> Self {
        assert!(size > 0, "an empty pool lends nothing");
        Self { size, state: Arc::new(Mutex::new(State { free: size, waiting: VecDeque::new() })) }
    }

    /// Waits until `units` are free. More than the pool holds is the same as all of it.
    pub async fn take(&self, units: u64) -> Permit {
        let units = units.min(self.size);
        let receiver = {
            let mut state = self.lock();
            if state.waiting.is_empty() && state.free >= units {
                state.free -= units;
                return Permit { units, pool: self.clone() };
            }
            let (sender, receiver) = oneshot::channel();
            state.waiting.push_back((units, sender));
            receiver
        };
        receiver.await.expect("the pool lives as long as its state, which holds the sender")
    }

    /// Units not lent now.
    pub fn free(&self) -> u64 {
        self.lock().free
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().expect("no panic under this lock")
    }

    fn give(&self, units: u64) {
        self.lock().free += units;
        loop {
            let (sender, permit) = {
                let mut state = self.lock();
                let Some((wanted, _)) = state.waiting.front() else { return };
                if *wanted > state.free {
                    return;
                }
                let (units, sender) = state.waiting.pop_front().expect("just seen");
                state.free -= units;
                (sender, Permit { units, pool: self.clone() })
            };
            // Whoever stopped waiting drops the permit here, outside of the lock.
            let _ = sender.send(permit);
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.pool.give(self.units);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::{FutureExt as _, executor::block_on};

    #[test]
    fn a_large_wish_is_served_before_later_small_ones() {
        let pool = Pool::new(10);
        let eight = block_on(pool.take(8));
        let mut large = Box::pin(pool.take(9));
        assert!(large.as_mut().now_or_never().is_none());
        let mut small = Box::pin(pool.take(1));
        assert!(small.as_mut().now_or_never().is_none(), "it waits behind the large one");
        drop(eight);
        let nine = large.now_or_never().expect("free now");
        let one = small.now_or_never().expect("one is left");
        drop((nine, one));
        assert_eq!(pool.free(), 10);
    }

    #[test]
    fn who_stops_waiting_loses_nothing_for_others() {
        let pool = Pool::new(2);
        let two = block_on(pool.take(5));
        let mut gone = Box::pin(pool.take(2));
        assert!(gone.as_mut().now_or_never().is_none());
        let mut next = Box::pin(pool.take(1));
        assert!(next.as_mut().now_or_never().is_none());
        drop(gone);
        drop(two);
        drop(next.now_or_never().expect("the abandoned wish is skipped"));
        assert_eq!(pool.free(), 2);
    }
}
