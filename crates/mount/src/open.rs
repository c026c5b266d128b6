//! Open files and read them, ahead where somebody reads on.

use crate::{
    ahead::Ahead,
    blocks::{Arrival, Held},
    fault::Wrong,
    file::File,
    folder::{Attr, Folder, There, lock, now_ms},
    name,
    store::Store,
};
use bytes::{Bytes, BytesMut};
use futures::StreamExt as _;
use std::{
    collections::VecDeque,
    ops::Range,
    sync::{Arc, Mutex},
};

/// One reader's share of the memory for blocks.
const READERS: u64 = 4;
/// Tries of a fetch that failed for now.
const FETCHES_MAX: u32 = 4;

/// How a file shall be opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Opening {
    pub reads: bool,
    pub writes: bool,
    pub truncates: bool,
    /// Only if it is not there.
    pub is_new: bool,
    /// The process that opens it, if that is known.
    pub process: Option<u32>,
}

/// An open file.
pub struct Handle<P> {
    pub(crate) file: Arc<File<P>>,
    pub(crate) opening: Opening,
    ahead: Mutex<Ahead>,
}

impl<P> Handle<P> {
    pub fn ino(&self) -> u64 {
        self.file.ino
    }
}

/// What is to be fetched for whom.
struct Fetch<P> {
    key: String,
    pin: P,
    content: u64,
    size_bytes: u64,
}

impl<S: Store> Folder<S> {
    /// Opens a file as it is known: one that somebody replaced since is looked up again by the kernel.
    pub async fn open(&self, ino: u64, opening: Opening) -> Result<Handle<S::Pin>, Wrong> {
        if opening.writes && self.config().is_read_only {
            return Err(Wrong::ReadOnly);
        }
        let file = self.tree().file(ino)?;
        self.pin(&file).await?;
        let handle = self.handle(&file, opening);
        if opening.truncates && opening.writes {
            let _turn = file.turn.lock().await;
            if let Err(wrong) = self.cut(&file, 0).await {
                self.drop_handle(&handle);
                return Err(wrong);
            }
        }
        Ok(handle)
    }

    /// Makes a file, or opens one that came to be meanwhile.
    pub async fn create(&self, parent: u64, name: &str, opening: Opening) -> Result<(Attr, Handle<S::Pin>), Wrong> {
        if self.config().is_read_only {
            return Err(Wrong::ReadOnly);
        }
        let prefix = self.tree().folder(parent)?;
        let key = name::join(&prefix, name)?;
        match self.find(&prefix, name, &key).await? {
            Some(There::Folder) => return Err(Wrong::IsFolder),
            Some(_) if opening.is_new => return Err(Wrong::Exists),
            Some(_) => {
                let attr = self.lookup(parent, name).await?;
                let handle = match self.open(attr.ino, opening).await {
                    Ok(handle) => handle,
                    Err(wrong) => {
                        self.forget(attr.ino, 1);
                        return Err(wrong);
                    }
                };
                return Ok((self.attr_of(&handle.file), handle));
            }
            None => {}
        }
        let content = self.new_content();
        let file = {
            let mut tree = self.tree();
            let (_, file) = tree.enter_file(&key, |ino| File::born(ino, now_ms(), content));
            tree.set_local(&key, true);
            file
        };
        self.changed(&key);
        let handle = self.handle(&file, opening);
        Ok((self.attr_of(&file), handle))
    }

    fn handle(&self, file: &Arc<File<S::Pin>>, opening: Opening) -> Handle<S::Pin> {
        self.tree().hold(file.ino);
        {
            let mut state = file.state();
            state.opens += 1;
            state.writers += u32::from(opening.writes);
        }
        Handle { file: file.clone(), opening, ahead: Mutex::default() }
    }

    pub(crate) fn drop_handle(&self, handle: &Handle<S::Pin>) {
        {
            let mut state = handle.file.state();
            state.opens -= 1;
            state.writers -= u32::from(handle.opening.writes);
        }
        self.forget(handle.file.ino, 1);
    }

    /// Looks up what the object is read by, if that is not known yet.
    pub(crate) async fn pin(&self, file: &File<S::Pin>) -> Result<(), Wrong> {
        {
            let state = file.state();
            if state.is_lost {
                return Err(Wrong::Changed);
            }
            if state.pin.is_some() || state.base.is_none() {
                return Ok(());
            }
        }
        let key = self.tree().key(file.ino).ok_or(Wrong::Changed)?;
        let (facts, pin) = self.0.store.head(&key).await?.ok_or(Wrong::Changed)?;
        let mut state = file.state();
        if !state.base.as_ref().is_some_and(|base| base.is_same(&facts)) {
            drop(state);
            // The next look shall see what there is.
            self.changed(&key);
            return Err(Wrong::Changed);
        }
        state.pin = Some(pin);
        Ok(())
    }

    /// Bytes from an offset on: as many as asked for, or to the end.
    pub async fn read(&self, handle: &Handle<S::Pin>, offset: u64, bytes: usize) -> Result<Bytes, Wrong> {
        let file = &handle.file;
        let (fetch, scratch) = {
            let state = file.state();
            let end = state.size_bytes.min(offset.saturating_add(bytes as u64));
            if offset >= end {
                return Ok(Bytes::new());
            }
            match (&state.scratch, &state.pin) {
                (Some(scratch), _) => (None, Some((scratch.clone(), (end - offset) as usize))),
                (None, Some(pin)) => {
                    let fetch = Fetch {
                        key: String::new(),
                        pin: pin.clone(),
                        content: state.content,
                        size_bytes: state.size_bytes,
                    };
                    (Some((fetch, offset..end)), None)
                }
                (None, None) => return Err(Wrong::Changed),
            }
        };
        if let Some((scratch, count)) = scratch {
            return off_thread(move || scratch.read_at(offset, count)).await.map(Bytes::from);
        }
        let (mut fetch, range) = fetch.expect("it is one or the other");
        fetch.key = self.tree().key(file.ino).unwrap_or_default();
        let block_bytes = self.0.store.block_bytes();
        let window_max = self.config().memory_bytes / READERS / block_bytes;
        let (needed, wanted) = lock(&handle.ahead).plan(range.clone(), fetch.size_bytes, block_bytes, window_max);
        let fetch = Arc::new(fetch);
        let mut read = BytesMut::with_capacity((range.end - range.start) as usize);
        let held = self.hold_blocks(&fetch, needed.clone(), wanted);
        for (at, held) in needed.zip(held) {
            let block = match held {
                Held::Here(bytes) => bytes,
                Held::Coming(coming) => coming.await.map_err(|_| Wrong::Failed("the read was given up".into()))??,
            };
            let start = at * block_bytes;
            let (from, to) = (range.start.max(start) - start, range.end.min(start + block_bytes) - start);
            let piece = block.get(from as usize..to as usize);
            read.extend_from_slice(
                piece.ok_or_else(|| Wrong::Failed("the object is shorter than its index says".into()))?,
            );
        }
        Ok(read.freeze())
    }

    /// Blocks that are needed, here or on their way; more are set on their way as far as there is room.
    fn hold_blocks(&self, fetch: &Arc<Fetch<S::Pin>>, needed: Range<u64>, wanted: Range<u64>) -> Vec<Held> {
        let block_bytes = self.0.store.block_bytes();
        let bytes_of = |at: u64| block_bytes.min(fetch.size_bytes - at * block_bytes);
        let mut runs: Vec<(u64, VecDeque<Arrival>)> = Vec::new();
        let mut blocks = lock(&self.0.blocks);
        // Taken hold of first, so that making room for others cannot give them up.
        let mut held: Vec<Option<Held>> = needed.clone().map(|at| blocks.get((fetch.content, at))).collect();
        let missing = blocks.missing(fetch.content, needed.clone());
        let ahead = blocks.missing(fetch.content, wanted.clone());
        // Half a window at a time: one request for many blocks, rather than one for each.
        let is_due = !missing.is_empty()
            || ahead.iter().map(|run| run.end - run.start).sum::<u64>() * 2 >= wanted.end - wanted.start;
        let ahead = ahead.into_iter().filter(|_| is_due);
        for (run, is_needed) in missing.into_iter().map(|run| (run, true)).chain(ahead.map(|run| (run, false))) {
            for at in run {
                let Some(arrival) = blocks.expect((fetch.content, at), bytes_of(at), is_needed) else { break };
                match runs.last_mut() {
                    Some((from, arrivals)) if *from + arrivals.len() as u64 == at => arrivals.push_back(arrival),
                    _ => runs.push((at, VecDeque::from([arrival]))),
                }
            }
        }
        for (slot, at) in held.iter_mut().zip(needed) {
            if slot.is_none() {
                *slot = blocks.get((fetch.content, at));
            }
        }
        drop(blocks);
        for (from, arrivals) in runs {
            tokio::spawn(self.clone().fetch(fetch.clone(), from, arrivals));
        }
        held.into_iter().flatten().collect()
    }

    /// Fetches blocks one after another in one request, and hands each on as soon as it is whole.
    async fn fetch(self, fetch: Arc<Fetch<S::Pin>>, mut at: u64, mut arrivals: VecDeque<Arrival>) {
        let mut tries = 0;
        while !arrivals.is_empty() {
            let before = at;
            let Err(wrong) = self.fetch_on(&fetch, &mut at, &mut arrivals).await else { return };
            tries = if at > before { 1 } else { tries + 1 };
            if !matches!(wrong, Wrong::Away(_)) || tries == FETCHES_MAX {
                tracing::warn!(%wrong, key = fetch.key, "an object could not be read");
                for (at, arrival) in (at..).zip(arrivals.drain(..)) {
                    lock(&self.0.blocks).fail((fetch.content, at));
                    // Who wanted it may have gone.
                    let _ = arrival.send(Err(wrong.clone()));
                }
                return;
            }
            tokio::time::sleep(self.config().rest * (1 << (tries - 1))).await;
        }
    }

    async fn fetch_on(
        &self,
        fetch: &Fetch<S::Pin>,
        at: &mut u64,
        arrivals: &mut VecDeque<Arrival>,
    ) -> Result<(), Wrong> {
        let block_bytes = self.0.store.block_bytes();
        let end = ((*at + arrivals.len() as u64) * block_bytes).min(fetch.size_bytes);
        let mut body = self.0.store.read(&fetch.key, &fetch.pin, *at * block_bytes..end).await?;
        let mut block = BytesMut::new();
        let mut size = block_bytes.min(end - *at * block_bytes) as usize;
        while let Some(piece) = body.next().await {
            let mut piece = piece?;
            while !piece.is_empty() {
                // A store that gives whole blocks is not copied.
                let whole = if block.is_empty() && piece.len() == size {
                    std::mem::take(&mut piece)
                } else {
                    let part = piece.split_to(piece.len().min(size - block.len()));
                    block.extend_from_slice(&part);
                    if block.len() < size {
                        continue;
                    }
                    block.split().freeze()
                };
                let Some(arrival) = arrivals.pop_front() else { return Ok(()) };
                lock(&self.0.blocks).arrive((fetch.content, *at), whole.clone());
                let _ = arrival.send(Ok(whole));
                *at += 1;
                if arrivals.is_empty() {
                    return Ok(());
                }
                size = block_bytes.min(end - *at * block_bytes) as usize;
            }
        }
        Err(Wrong::Away("the object's bytes ended early".into()))
    }
}

/// Disks are waited for on other threads than the wires.
pub(crate) async fn off_thread<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Wrong> + Send + 'static,
) -> Result<T, Wrong> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|_| Wrong::Failed("the mount is ending".into()))?
}
