//! Hold what is known of one file: the object it stems from, and what was changed since.

use crate::{
    spool::Scratch,
    store::{Facts, Only},
};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// One file; its name is the tree's to know.
pub(crate) struct File<P> {
    pub(crate) ino: u64,
    /// Whoever changes its content or stores it has the turn.
    pub(crate) turn: tokio::sync::Mutex<()>,
    state: Mutex<State<P>>,
}

/// As it is now.
pub(crate) struct State<P> {
    pub(crate) size_bytes: u64,
    pub(crate) mtime_ms: u64,
    /// The object it stems from; `None`: it is new.
    pub(crate) base: Option<Facts>,
    /// That object, to be read.
    pub(crate) pin: Option<P>,
    /// What the object was that its content was changed from, rather than written anew.
    pub(crate) like: Option<P>,
    /// Tells contents apart where blocks of them are held.
    pub(crate) content: u64,
    /// Its content, where it is no object's.
    pub(crate) scratch: Option<Arc<Scratch>>,
    /// It differs from its object.
    pub(crate) is_dirty: bool,
    /// Since it was made or emptied something was written.
    pub(crate) is_written: bool,
    /// Handles, and those among them that may write.
    pub(crate) opens: u32,
    pub(crate) writers: u32,
    /// A program was refused room: what there is, is half.
    pub(crate) is_cut: bool,
    /// Its changes were refused, and are kept elsewhere.
    pub(crate) is_lost: bool,
    /// A program was told that it could not be stored.
    pub(crate) failure: Option<String>,
}

impl<P> File<P> {
    /// An object's.
    pub(crate) fn of(ino: u64, facts: &Facts, content: u64) -> Self {
        Self::new(ino, facts.size_bytes, facts.mtime_ms, Some(facts.clone()), content)
    }

    /// One that is no object yet.
    pub(crate) fn born(ino: u64, now_ms: u64, content: u64) -> Self {
        let file = Self::new(ino, 0, now_ms, None, content);
        file.state().is_dirty = true;
        file
    }

    fn new(ino: u64, size_bytes: u64, mtime_ms: u64, base: Option<Facts>, content: u64) -> Self {
        let state = State {
            size_bytes,
            mtime_ms,
            base,
            pin: None,
            like: None,
            content,
            scratch: None,
            is_dirty: false,
            is_written: false,
            opens: 0,
            writers: 0,
            is_cut: false,
            is_lost: false,
            failure: None,
        };
        Self { ino, turn: tokio::sync::Mutex::new(()), state: Mutex::new(state) }
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State<P>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<P> State<P> {
    /// What must hold of its key when it is stored.
    pub(crate) fn only(&self) -> Only<'_> {
        self.base.as_ref().map_or(Only::Absent, |base| Only::Is(&base.etag))
    }

    /// It is stored as that.
    pub(crate) fn settle(&mut self, facts: Facts, pin: P) {
        self.size_bytes = facts.size_bytes;
        self.mtime_ms = facts.mtime_ms;
        self.base = Some(facts);
        self.pin = Some(pin);
        self.like = None;
        self.is_dirty = false;
        self.is_written = false;
        self.failure = None;
    }
}
