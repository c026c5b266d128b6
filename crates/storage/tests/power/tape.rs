//! Write down every step of a disk and an index, so that the power can be cut in the middle of each.

use commonware_runtime::{
    Blob, BlobVersion, Buf as _, Error, Handle, IoBufs, IoBufsMut, ReadOptions, Storage, WriteOptions,
};
use hodei_types::index::{Change, Index, IndexError, Ordered};
use std::{
    collections::BTreeMap,
    future::{Future, ready},
    ops::RangeInclusive,
    sync::{Arc, Mutex},
};

/// What happened to a disk and to the index beside it.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    /// A file is there, durably; with nothing in it if it was not.
    Open(Vec<u8>),
    Write {
        file: Vec<u8>,
        at: u64,
        bytes: Arc<Vec<u8>>,
        synced: bool,
    },
    Resize {
        file: Vec<u8>,
        len: u64,
    },
    Sync(Vec<u8>),
    Remove(Vec<u8>),
    Index {
        changes: Vec<Change>,
        durable: bool,
    },
}

/// Zeros, or bytes, over what was there.
#[derive(Clone, Debug)]
enum Edit {
    Bytes(u64, Arc<Vec<u8>>),
    Zero(u64, u64),
}

/// A file: a start that is shared by many, and what was changed since.
#[derive(Clone, Debug, Default)]
struct File {
    base: Arc<Vec<u8>>,
    edits: Vec<Edit>,
    len: u64,
}

impl File {
    fn write(&mut self, at: u64, bytes: Arc<Vec<u8>>) {
        self.len = self.len.max(at + bytes.len() as u64);
        self.edits.push(Edit::Bytes(at, bytes));
    }

    fn resize(&mut self, len: u64) {
        if len < self.len {
            self.edits.push(Edit::Zero(len, self.len));
        }
        self.len = len;
    }

    fn read(&self, from: u64, len: usize) -> Vec<u8> {
        let mut out = vec![0; len];
        let mut lay = |at: u64, bytes: Option<&[u8]>, count: u64| {
            let (start, end) = (at.max(from), (at + count).min(from + len as u64));
            if start < end {
                let into = &mut out[(start - from) as usize..(end - from) as usize];
                match bytes {
                    Some(bytes) => into.copy_from_slice(&bytes[(start - at) as usize..(end - at) as usize]),
                    None => into.fill(0),
                }
            }
        };
        lay(0, Some(&self.base), self.base.len() as u64);
        for edit in &self.edits {
            match edit {
                Edit::Bytes(at, bytes) => lay(*at, Some(bytes), bytes.len() as u64),
                Edit::Zero(from, to) => lay(*from, None, to - from),
            }
        }
        out
    }

    /// The same, with nothing to go through.
    fn flat(&self) -> Self {
        let mut bytes = self.read(0, self.len as usize);
        bytes.truncate(bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1));
        Self { base: Arc::new(bytes), edits: Vec::new(), len: self.len }
    }
}

/// What is on a disk, and what of it is durable.
#[derive(Clone, Debug, Default)]
pub(crate) struct Disk {
    files: BTreeMap<Vec<u8>, File>,
}

impl Disk {
    /// Lets a step happen.
    pub(crate) fn take(&mut self, step: &Step) {
        match step {
            Step::Open(file) => _ = self.files.entry(file.clone()).or_default(),
            Step::Write { file, at, bytes, .. } => self.write(file, *at, bytes.clone()),
            Step::Resize { file, len } => self.files.entry(file.clone()).or_default().resize(*len),
            Step::Remove(file) => _ = self.files.remove(file),
            Step::Sync(_) | Step::Index { .. } => {}
        }
    }

    pub(crate) fn write(&mut self, file: &[u8], at: u64, bytes: Arc<Vec<u8>>) {
        self.files.entry(file.to_vec()).or_default().write(at, bytes);
    }

    pub(crate) fn flat(&self) -> Self {
        Self { files: self.files.iter().map(|(name, file)| (name.clone(), file.flat())).collect() }
    }
}

#[derive(Debug, Default)]
struct Machine {
    disk: Disk,
    steps: Vec<Step>,
}

/// A disk of one partition that writes its steps down; clones share it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tape(Arc<Mutex<Machine>>);

impl Tape {
    pub(crate) fn on(disk: Disk) -> Self {
        Self(Arc::new(Mutex::new(Machine { disk, steps: Vec::new() })))
    }

    /// Steps so far.
    pub(crate) fn at(&self) -> usize {
        self.0.lock().unwrap().steps.len()
    }

    pub(crate) fn steps(&self) -> Vec<Step> {
        self.0.lock().unwrap().steps.clone()
    }

    fn step(&self, step: Step) {
        let mut machine = self.0.lock().unwrap();
        machine.disk.take(&step);
        machine.steps.push(step);
    }
}

impl Storage for Tape {
    type Blob = Sheet;

    fn open_versioned(
        &self,
        _: &str,
        name: &[u8],
        versions: RangeInclusive<BlobVersion>,
    ) -> impl Future<Output = Result<(Sheet, u64, BlobVersion), Error>> + Send {
        self.step(Step::Open(name.to_vec()));
        let len = self.0.lock().unwrap().disk.files[name].len;
        ready(Ok((Sheet { tape: self.clone(), name: name.to_vec() }, len, *versions.end())))
    }

    fn remove(&self, _: &str, name: Option<&[u8]>) -> impl Future<Output = Result<(), Error>> + Send {
        self.step(Step::Remove(name.expect("segments go one by one").to_vec()));
        ready(Ok(()))
    }

    fn scan(&self, _: &str) -> impl Future<Output = Result<Vec<Vec<u8>>, Error>> + Send {
        ready(Ok(self.0.lock().unwrap().disk.files.keys().cloned().collect()))
    }
}

/// One file of it.
#[derive(Debug)]
pub(crate) struct Sheet {
    tape: Tape,
    name: Vec<u8>,
}

impl Blob for Sheet {
    fn read_at(
        &self,
        offset: u64,
        len: usize,
        _: ReadOptions,
    ) -> impl Future<Output = Result<IoBufsMut, Error>> + Send {
        let machine = self.tape.0.lock().unwrap();
        // A file that was removed is read no more: nobody may need it.
        ready(match machine.disk.files.get(&self.name) {
            Some(file) if offset + len as u64 <= file.len => Ok(IoBufsMut::from(file.read(offset, len))),
            _ => Err(Error::BlobInsufficientLength),
        })
    }

    async fn read_at_buf(
        &self,
        offset: u64,
        len: usize,
        _: impl Into<IoBufsMut> + Send,
        options: ReadOptions,
    ) -> Result<IoBufsMut, Error> {
        self.read_at(offset, len, options).await
    }

    fn write_at(
        &self,
        offset: u64,
        bufs: impl Into<IoBufs> + Send,
        options: WriteOptions,
    ) -> impl Future<Output = Result<(), Error>> + Send {
        let mut bufs: IoBufs = bufs.into();
        let bytes = bufs.copy_to_bytes(bufs.remaining()).to_vec();
        let synced = options.contains(WriteOptions::SYNC);
        self.tape.step(Step::Write { file: self.name.clone(), at: offset, bytes: Arc::new(bytes), synced });
        ready(Ok(()))
    }

    fn resize(&self, len: u64) -> impl Future<Output = Result<(), Error>> + Send {
        self.tape.step(Step::Resize { file: self.name.clone(), len });
        ready(Ok(()))
    }

    fn sync(&self) -> impl Future<Output = Result<(), Error>> + Send {
        self.tape.step(Step::Sync(self.name.clone()));
        ready(Ok(()))
    }

    async fn start_sync(&self) -> Handle<()> {
        Handle::ready(self.sync().await)
    }
}

/// An index that writes its steps down beside the disk's.
#[derive(Clone, Debug)]
pub(crate) struct Beside {
    index: Ordered,
    tape: Tape,
}

impl Beside {
    pub(crate) fn new(index: Ordered, tape: &Tape) -> Self {
        Self { index, tape: tape.clone() }
    }
}

impl Index for Beside {
    fn get(&self, key: &[u8]) -> impl Future<Output = Result<Option<Vec<u8>>, IndexError>> + Send {
        self.index.get(key)
    }

    fn range(
        &self,
        from: &[u8],
        to: &[u8],
        limit: usize,
    ) -> impl Future<Output = Result<Vec<(Vec<u8>, Vec<u8>)>, IndexError>> + Send {
        self.index.range(from, to, limit)
    }

    fn apply(&self, changes: Vec<Change>, durable: bool) -> impl Future<Output = Result<(), IndexError>> + Send {
        self.tape.step(Step::Index { changes: changes.clone(), durable });
        self.index.apply(changes, durable)
    }
}
