//! Change files: in a private file here, which begins as a copy where only a part is changed.
//!
//! Whoever changes a file has its turn, so that what is stored is never between two changes.

use crate::{
    event::Event,
    fault::Wrong,
    file::File,
    folder::{Attr, Folder, now_ms},
    open::{Handle, off_thread},
    spool::Scratch,
    store::{Only, Store},
};
use futures::StreamExt as _;
use std::sync::Arc;

/// Tries of a read that failed for now.
const READS_MAX: u32 = 4;

impl<S: Store> Folder<S> {
    pub async fn write(&self, handle: &Handle<S::Pin>, offset: u64, bytes: Vec<u8>) -> Result<(), Wrong> {
        if !handle.opening.writes {
            return Err(Wrong::Handle);
        }
        let file = &handle.file;
        let _turn = file.turn.lock().await;
        let scratch = self.scratch(file).await?;
        let end = offset + bytes.len() as u64;
        let written = off_thread(move || scratch.write_at(offset, &bytes)).await;
        self.touch(file, written, |size| size.max(end))
    }

    /// What a write or cut did to a file.
    fn touch(&self, file: &File<S::Pin>, done: Result<(), Wrong>, size: impl FnOnce(u64) -> u64) -> Result<(), Wrong> {
        let mut state = file.state();
        match done {
            Ok(()) => {
                state.size_bytes = size(state.size_bytes);
                state.mtime_ms = now_ms();
                state.is_written = true;
                Ok(())
            }
            Err(wrong) => {
                let is_first = !std::mem::replace(&mut state.is_cut, true);
                drop(state);
                if is_first {
                    self.tell(Event::Full { object: self.show(file), why: wrong.to_string() });
                }
                Err(wrong)
            }
        }
    }

    /// The file here that takes what is written; with the object's content, if it had any. Whoever asks has the turn.
    async fn scratch(&self, file: &File<S::Pin>) -> Result<Arc<Scratch>, Wrong> {
        self.pin(file).await?;
        let (known, pin, size, only_name) = {
            let state = file.state();
            (
                state.scratch.clone().filter(|_| state.is_dirty),
                state.pin.clone(),
                state.size_bytes,
                state.base.is_none(),
            )
        };
        if let Some(known) = known {
            return Ok(known);
        }
        let scratch = {
            let had = file.state().scratch.clone();
            match had {
                Some(scratch) => scratch,
                None => {
                    let scratch = Arc::new(self.0.spool.scratch()?);
                    let is_emptied = file.state().is_dirty;
                    if let Some(pin) = pin.as_ref().filter(|_| size > 0 && !only_name && !is_emptied) {
                        self.copy_here(file, pin, size, &scratch).await?;
                    }
                    scratch
                }
            }
        };
        scratch.note(&self.show(file))?;
        self.begin(file, &scratch, pin);
        Ok(scratch)
    }

    /// From now on it differs from its object.
    fn begin(&self, file: &File<S::Pin>, scratch: &Arc<Scratch>, like: Option<S::Pin>) {
        let key = self.tree().key(file.ino);
        if let Some(key) = key {
            self.tree().set_local(&key, true);
        }
        let mut state = file.state();
        state.scratch = Some(scratch.clone());
        if !state.is_dirty {
            state.is_dirty = true;
            state.like = like;
        }
    }

    /// The object's content into the file here.
    pub(crate) async fn copy_here(
        &self,
        file: &File<S::Pin>,
        pin: &S::Pin,
        size: u64,
        scratch: &Arc<Scratch>,
    ) -> Result<(), Wrong> {
        let key = self.tree().key(file.ino).unwrap_or_default();
        let (mut at, mut tries) = (0, 0);
        while at < size {
            let before = at;
            let Err(wrong) = self.copy_on(&key, pin, size, scratch, &mut at).await else { return Ok(()) };
            tries = if at > before { 1 } else { tries + 1 };
            if !matches!(wrong, Wrong::Away(_)) || tries == READS_MAX {
                return Err(wrong);
            }
            tokio::time::sleep(self.config().rest * (1 << (tries - 1))).await;
        }
        Ok(())
    }

    async fn copy_on(
        &self,
        key: &str,
        pin: &S::Pin,
        size: u64,
        scratch: &Arc<Scratch>,
        at: &mut u64,
    ) -> Result<(), Wrong> {
        let mut body = self.0.store.read(key, pin, *at..size).await?;
        while let Some(piece) = body.next().await {
            let (piece, scratch, offset) = (piece?, scratch.clone(), *at);
            *at += piece.len() as u64;
            off_thread(move || scratch.write_at(offset, &piece)).await?;
        }
        if *at < size { Err(Wrong::Away("the object's bytes ended early".into())) } else { Ok(()) }
    }

    /// Makes a file shorter or longer; whoever asks has the turn.
    pub(crate) async fn cut(&self, file: &File<S::Pin>, size: u64) -> Result<(), Wrong> {
        if size == 0 {
            let is_here = file.state().scratch.is_some();
            if !is_here && file.state().size_bytes == 0 && file.state().base.is_none() {
                return Ok(());
            }
            let scratch = Arc::new(self.0.spool.scratch()?);
            scratch.note(&self.show(file))?;
            self.begin(file, &scratch, None);
            let mut state = file.state();
            // Written anew, it keeps nothing of what it was.
            state.like = None;
            state.size_bytes = 0;
            state.mtime_ms = now_ms();
            state.is_written = false;
            state.is_cut = false;
            return Ok(());
        }
        let scratch = self.scratch(file).await?;
        let done = off_thread(move || scratch.set_len(size)).await;
        self.touch(file, done, |_| size)
    }

    /// Sets a file's size, or when it was changed. Without a handle nobody closes it later: it is stored at once.
    pub async fn set(
        &self,
        ino: u64,
        handle: Option<&Handle<S::Pin>>,
        size: Option<u64>,
        mtime_ms: Option<u64>,
    ) -> Result<Attr, Wrong> {
        if self.config().is_read_only {
            return Err(Wrong::ReadOnly);
        }
        if self.tree().is_folder(ino).ok_or(Wrong::Changed)? {
            return if size.is_some() { Err(Wrong::IsFolder) } else { Ok(self.folder_attr(ino)) };
        }
        let file = self.tree().file(ino)?;
        let _turn = file.turn.lock().await;
        let is_open = handle.is_some_and(|handle| handle.opening.writes) || file.state().writers > 0;
        if let Some(size) = size {
            self.pin(&file).await?;
            self.cut(&file, size).await?;
            // A cut is a change, even to nothing.
            file.state().is_written = true;
        }
        if let Some(mtime_ms) = mtime_ms {
            let is_dirty = file.state().is_dirty;
            if is_dirty {
                file.state().mtime_ms = mtime_ms;
            } else {
                self.date(&file, mtime_ms).await?;
            }
        }
        if !is_open {
            if let Some(wrong) = self.store_or_keep(&file, None).await {
                return Err(wrong);
            }
            let mut state = file.state();
            if !state.is_dirty {
                state.scratch = None;
            }
        }
        Ok(self.attr_of(&file))
    }

    /// Says of an object when its file was changed; its content stays where it is.
    async fn date(&self, file: &File<S::Pin>, mtime_ms: u64) -> Result<(), Wrong> {
        self.pin(file).await?;
        let (pin, etag) = {
            let state = file.state();
            if state.mtime_ms == mtime_ms {
                return Ok(());
            }
            (state.pin.clone(), state.base.as_ref().map(|base| base.etag.clone()))
        };
        let (Some(pin), Some(etag), Some(key)) = (pin, etag, self.tree().key(file.ino)) else {
            // Nobody can ask for it by a name any more.
            file.state().mtime_ms = mtime_ms;
            return Ok(());
        };
        let (facts, pin) = self.0.store.copy((&key, &pin), &key, mtime_ms, Only::Is(&etag)).await?;
        file.state().settle(facts, pin);
        self.changed(&key);
        Ok(())
    }
}
