//! Wake everybody who waits, without a runtime.

use futures::channel::oneshot;
use std::sync::{Mutex, PoisonError};

/// Waiters for one kind of news. Register first, then look, then wait: nothing is missed.
#[derive(Debug, Default)]
pub(crate) struct Signal {
    waiters: Mutex<Vec<oneshot::Sender<()>>>,
}

impl Signal {
    /// A receiver that completes at the next [`Self::notify`].
    pub(crate) fn listen(&self) -> oneshot::Receiver<()> {
        let (sender, receiver) = oneshot::channel();
        let mut waiters = self.waiters.lock().unwrap_or_else(PoisonError::into_inner);
        // Those who gave up must not pile up on a quiet chain.
        waiters.retain(|waiter| !waiter.is_canceled());
        waiters.push(sender);
        receiver
    }

    pub(crate) fn notify(&self) {
        let waiters = std::mem::take(&mut *self.waiters.lock().unwrap_or_else(PoisonError::into_inner));
        for waiter in waiters {
            let _ = waiter.send(());
        }
    }
}
