//! Show how far several carries have come, as one.

use super::carry::Told;
use crate::out::Progress;
use std::sync::{Arc, Mutex, PoisonError};

/// One line of progress that many tell.
pub(crate) struct Shared(Arc<Mutex<(Progress, u64)>>);

impl Shared {
    pub(crate) fn new(progress: Progress) -> Self {
        Self(Arc::new(Mutex::new((progress, 0))))
    }

    /// For one that carries: told of bytes as they are there.
    pub(crate) fn told(&self) -> Told {
        let shared = self.0.clone();
        Arc::new(move |count| {
            let mut shared = shared.lock().unwrap_or_else(PoisonError::into_inner);
            shared.1 += count;
            let done = shared.1;
            shared.0.set(done);
        })
    }
}
