//! Number what the kernel has open.

use fuser::FileHandle;
use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

/// What the kernel has open, by its numbers.
pub(crate) struct Table<T> {
    held: Mutex<BTreeMap<u64, Arc<T>>>,
    next: AtomicU64,
}

impl<T> Table<T> {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self { held: Mutex::default(), next: AtomicU64::new(1) })
    }

    pub(crate) fn add(&self, value: T) -> FileHandle {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        self.held.lock().unwrap_or_else(PoisonError::into_inner).insert(number, Arc::new(value));
        FileHandle(number)
    }

    pub(crate) fn get(&self, number: FileHandle) -> Option<Arc<T>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner).get(&number.0).cloned()
    }

    pub(crate) fn take(&self, number: FileHandle) -> Option<Arc<T>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner).remove(&number.0)
    }
}
