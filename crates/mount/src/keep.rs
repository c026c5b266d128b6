//! Store what was changed: whole, or not at all.
//!
//! ```text
//! close, fsync, last release → store → object
//!                                └──► refused → kept and named
//! ```
//! Upon a close by the process that opened the file it is stored, if anything was written; a close by another one,
//! which got the open file from its parent, or of a file nobody wrote to yet, waits for the last close. Who closes is
//! told what failed.

use crate::{
    event::Event,
    fault::Wrong,
    file::File,
    folder::{Folder, lock},
    open::{Handle, off_thread},
    store::{Only, Store},
};
use std::sync::{Arc, atomic::Ordering};

/// Tries of a put that failed for now.
const STORES_MAX: u32 = 4;

impl<S: Store> Folder<S> {
    /// Upon a close: see the module.
    pub async fn flush(&self, handle: &Handle<S::Pin>, process: Option<u32>) -> Result<(), Wrong> {
        if !handle.opening.writes {
            return Ok(());
        }
        let is_other = matches!((handle.opening.process, process), (Some(opener), Some(closer)) if opener != closer);
        let file = &handle.file;
        let _turn = file.turn.lock().await;
        let is_due = {
            let state = file.state();
            state.is_cut || state.is_lost || (state.is_dirty && state.is_written && !is_other)
        };
        if is_due { self.store(file).await } else { Ok(()) }
    }

    /// Upon fsync: returns once a quorum has it.
    pub async fn sync(&self, handle: &Handle<S::Pin>) -> Result<(), Wrong> {
        let _turn = handle.file.turn.lock().await;
        self.store(&handle.file).await
    }

    /// Upon the last close of a handle. What fails now no program is told: it is kept.
    pub async fn release(&self, handle: &Handle<S::Pin>) {
        let file = &handle.file;
        {
            let _turn = file.turn.lock().await;
            let is_named = self.tree().key(file.ino).is_some();
            let (is_dirty, is_last, failure) = {
                let state = file.state();
                (state.is_dirty && is_named, handle.opening.writes && state.writers == 1, state.failure.clone())
            };
            if is_dirty && is_last {
                self.store_or_keep(file, failure).await;
            }
            if is_last {
                // Its object is read from now on.
                let mut state = file.state();
                if !state.is_dirty {
                    state.scratch = None;
                }
            }
        }
        self.drop_handle(handle);
    }

    /// Stores a file that nobody has open to write any more, or keeps it; what a program was told failed is not tried
    /// again behind its back.
    pub(crate) async fn store_or_keep(&self, file: &File<S::Pin>, failure: Option<String>) -> Option<Wrong> {
        let (why, wrong) = match failure {
            Some(why) => (why, None),
            None => {
                let wrong = self.store(file).await.err()?;
                (wrong.to_string(), Some(wrong))
            }
        };
        let is_dirty = file.state().is_dirty;
        if is_dirty {
            self.keep(file, &why).await;
        }
        wrong
    }

    pub(crate) fn show(&self, file: &File<S::Pin>) -> String {
        let key = self.tree().key(file.ino);
        key.map_or_else(|| "a file that was removed".into(), |key| self.0.store.show(&key))
    }

    /// Stores what was changed. Whoever asks has the turn.
    pub(crate) async fn store(&self, file: &File<S::Pin>) -> Result<(), Wrong> {
        let (is_dirty, is_cut) = {
            let state = file.state();
            if state.is_lost {
                return Err(Wrong::Changed);
            }
            (state.is_dirty, state.is_cut)
        };
        if is_cut {
            self.revert(file);
            return Err(Wrong::Full("a write was refused: the object is as it was".into()));
        }
        let Some(key) = self.tree().key(file.ino) else {
            // Removed: it goes with its last handle.
            return Ok(());
        };
        if !is_dirty {
            return Ok(());
        }
        for tries in 1.. {
            let (path, like, mtime_ms, etag) = {
                let state = file.state();
                let path = state.scratch.as_ref().filter(|_| state.size_bytes > 0).map(|scratch| scratch.path.clone());
                let etag = match state.only() {
                    Only::Is(etag) => Some(etag.to_owned()),
                    _ => None,
                };
                (path, state.like.clone(), state.mtime_ms, etag)
            };
            let only = etag.as_deref().map_or(Only::Absent, Only::Is);
            match self.0.store.put(&key, path.as_deref(), like.as_ref(), mtime_ms, only).await {
                Ok((facts, pin)) => {
                    let bytes = facts.size_bytes;
                    {
                        let mut state = file.state();
                        if let Some(scratch) = &state.scratch {
                            scratch.unnote();
                        }
                        let content = std::mem::replace(&mut state.content, self.new_content());
                        state.settle(facts, pin);
                        lock(&self.0.blocks).forget(content);
                    }
                    self.tree().set_local(&key, false);
                    self.changed(&key);
                    self.tell(Event::Stored { object: self.0.store.show(&key), bytes });
                    return Ok(());
                }
                Err(Wrong::Changed | Wrong::NotFound) => {
                    self.keep(file, "somebody else changed or removed the object since it was opened here").await;
                    return Err(Wrong::Changed);
                }
                Err(Wrong::Away(why)) if tries < STORES_MAX => {
                    self.tell(Event::Retried { object: self.0.store.show(&key), why });
                    tokio::time::sleep(self.config().rest * (1 << (tries - 1))).await;
                }
                Err(wrong) => {
                    file.state().failure = Some(wrong.to_string());
                    return Err(wrong);
                }
            }
        }
        unreachable!("it returns from within")
    }

    /// Goes back to the object: what was written is half of something.
    fn revert(&self, file: &File<S::Pin>) {
        let key = self.tree().key(file.ino);
        let content = self.new_content();
        let is_born = {
            let mut state = file.state();
            state.scratch = None;
            state.is_dirty = false;
            state.is_written = false;
            state.is_cut = false;
            state.like = None;
            state.content = content;
            match state.base.clone() {
                Some(base) => {
                    state.size_bytes = base.size_bytes;
                    state.mtime_ms = base.mtime_ms;
                    false
                }
                None => {
                    state.size_bytes = 0;
                    state.is_lost = true;
                    true
                }
            }
        };
        let Some(key) = key else { return };
        let mut tree = self.tree();
        if is_born {
            drop(tree.unname(&key))
        } else {
            tree.set_local(&key, false)
        }
        drop(tree);
        self.changed(&key);
    }

    /// Puts what cannot be stored where it stays, and lets go of the name. Whoever asks has the turn.
    pub(crate) async fn keep(&self, file: &File<S::Pin>, why: &str) {
        let object = self.show(file);
        let key = self.tree().key(file.ino);
        let scratch = file.state().scratch.clone();
        // Of an empty file there is nothing to keep.
        let (size, object_name) = (file.state().size_bytes, object.clone());
        let kept = match scratch.filter(|_| size > 0) {
            Some(scratch) => {
                off_thread(move || scratch.keep(&object_name).map_err(|error| Wrong::Failed(error.to_string())))
                    .await
                    .map(Some)
            }
            None => Ok(None),
        };
        match kept {
            Ok(Some(path)) => self.tell(Event::Kept { object, file: path, why: why.to_owned() }),
            Ok(None) => self.tell(Event::Failed { object, why: why.to_owned() }),
            Err(wrong) => self.tell(Event::Failed { object, why: format!("{why}; and it could not be kept: {wrong}") }),
        }
        {
            let mut state = file.state();
            state.is_lost = true;
            state.is_dirty = false;
        }
        if let Some(key) = key {
            self.tree().unname(&key);
            self.changed(&key);
        }
    }

    /// Nothing names it any more, and nothing of it will be stored. Who has it open reads on: from the providers while
    /// they keep what was replaced, and from a copy here as soon as there is one.
    pub(crate) fn orphan(&self, file: &Arc<File<S::Pin>>) {
        let is_read = {
            let state = file.state();
            if let Some(scratch) = &state.scratch {
                scratch.unnote();
            }
            state.opens > 0 && state.size_bytes > 0 && state.scratch.is_none() && state.pin.is_some()
        };
        if is_read {
            let (folder, file) = (self.clone(), file.clone());
            self.tree().hold(file.ino);
            tokio::spawn(async move {
                if let Err(wrong) = folder.copy_orphan(&file).await {
                    tracing::warn!(%wrong, "an open file that was removed or replaced will soon be unreadable");
                }
                folder.forget(file.ino, 1);
            });
        }
    }

    async fn copy_orphan(&self, file: &File<S::Pin>) -> Result<(), Wrong> {
        let _turn = file.turn.lock().await;
        let (pin, size) = {
            let state = file.state();
            let Some(pin) = state.pin.clone().filter(|_| state.opens > 0 && state.scratch.is_none()) else {
                return Ok(());
            };
            (pin, state.size_bytes)
        };
        let scratch = Arc::new(self.0.spool.scratch()?);
        self.copy_here(file, &pin, size, &scratch).await?;
        file.state().scratch = Some(scratch);
        Ok(())
    }

    /// Counts work that goes on after its answer, or while the mount ends.
    pub fn begin_work(&self) -> Work<S> {
        self.0.going.fetch_add(1, Ordering::SeqCst);
        Work(self.clone())
    }

    /// Waits until nothing is under way any more.
    pub async fn settle(&self) {
        loop {
            let idle = self.0.idle.notified();
            if self.0.going.load(Ordering::SeqCst) == 0 {
                return;
            }
            idle.await;
        }
    }

    /// Files that were changed and are not stored.
    pub fn unstored(&self) -> Vec<String> {
        let locals = self.tree().locals();
        locals.into_iter().filter(|(_, file)| file.state().is_dirty).map(|(key, _)| self.0.store.show(&key)).collect()
    }

    /// For a mount that ends while programs have files open: what they wrote is half of something, and is kept.
    pub async fn keep_all(&self) -> usize {
        let locals = self.tree().locals();
        let mut kept = 0;
        for (_, file) in locals {
            let _turn = file.turn.lock().await;
            let is_dirty = file.state().is_dirty;
            if is_dirty {
                self.keep(&file, "the mount ended before the file was closed").await;
                kept += 1;
            }
        }
        kept
    }
}

/// Work under way, until it is dropped.
pub struct Work<S: Store>(Folder<S>);

impl<S: Store> Drop for Work<S> {
    fn drop(&mut self) {
        if self.0.0.going.fetch_sub(1, Ordering::SeqCst) == 1 {
            self.0.0.idle.notify_waiters();
        }
    }
}
