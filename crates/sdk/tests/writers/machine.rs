//! Give each process a machine of its own: a disk that outlives it, and a switch by which it stands still.

use commonware_runtime::{
    Blob, BlobVersion, Buf as _, Clock, Error, Handle, IoBufMut, IoBufs, IoBufsMut, Name, ReadOptions, Spawner,
    Storage, Supervisor, WriteOptions, deterministic::Context, signal::Signal,
};
use governor::clock::{Clock as GovernorClock, ReasonablyRealtime};
use rand::{RngExt as _, TryCryptoRng, TryRng};
use std::{
    collections::BTreeMap,
    convert::Infallible,
    future::Future,
    ops::RangeInclusive,
    sync::{Arc, Mutex},
    time::{Duration, SystemTime},
};

type Partition = BTreeMap<Vec<u8>, File>;

/// Files that a killed process leaves as they were, synced or not; clones share them.
#[derive(Clone, Default)]
pub(crate) struct Disk(Arc<Mutex<BTreeMap<String, Partition>>>);

/// One of them.
#[derive(Clone, Default)]
pub(crate) struct File(Arc<Mutex<Vec<u8>>>);

impl Disk {
    /// What is on it now, on a disk of its own.
    pub(crate) fn image(&self) -> Self {
        let copy = |file: &File| File(Arc::new(Mutex::new(file.0.lock().unwrap().clone())));
        let partition = |files: &Partition| files.iter().map(|(name, file)| (name.clone(), copy(file))).collect();
        let disk = self.0.lock().unwrap();
        Self(Arc::new(Mutex::new(disk.iter().map(|(name, files)| (name.clone(), partition(files))).collect())))
    }
}

impl Storage for Disk {
    type Blob = File;

    async fn open_versioned(
        &self,
        partition: &str,
        name: &[u8],
        versions: RangeInclusive<BlobVersion>,
    ) -> Result<(File, u64, BlobVersion), Error> {
        let mut disk = self.0.lock().unwrap();
        let file = disk.entry(partition.into()).or_default().entry(name.into()).or_default().clone();
        let len = file.0.lock().unwrap().len() as u64;
        Ok((file, len, *versions.end()))
    }

    async fn remove(&self, partition: &str, name: Option<&[u8]>) -> Result<(), Error> {
        let mut disk = self.0.lock().unwrap();
        let missing = || Error::PartitionMissing(partition.into());
        match name {
            None => disk.remove(partition).map(drop).ok_or_else(missing),
            Some(name) => {
                let removed = disk.get_mut(partition).ok_or_else(missing)?.remove(name);
                removed.map(drop).ok_or_else(|| Error::BlobMissing(partition.into(), format!("{name:?}")))
            }
        }
    }

    async fn scan(&self, partition: &str) -> Result<Vec<Vec<u8>>, Error> {
        let disk = self.0.lock().unwrap();
        let files = disk.get(partition).ok_or_else(|| Error::PartitionMissing(partition.into()))?;
        Ok(files.keys().cloned().collect())
    }
}

impl Blob for File {
    async fn read_at(&self, offset: u64, len: usize, options: ReadOptions) -> Result<IoBufsMut, Error> {
        self.read_at_buf(offset, len, IoBufMut::with_capacity(len), options).await
    }

    async fn read_at_buf(
        &self,
        offset: u64,
        len: usize,
        _: impl Into<IoBufsMut> + Send,
        _: ReadOptions,
    ) -> Result<IoBufsMut, Error> {
        let content = self.0.lock().unwrap();
        let from = offset as usize;
        let bytes = content.get(from..from + len).ok_or(Error::BlobInsufficientLength)?;
        Ok(IoBufMut::from(bytes).into())
    }

    async fn write_at(&self, offset: u64, bufs: impl Into<IoBufs> + Send, _: WriteOptions) -> Result<(), Error> {
        let mut bufs = bufs.into();
        let (from, len) = (offset as usize, bufs.remaining());
        let mut content = self.0.lock().unwrap();
        if content.len() < from + len {
            content.resize(from + len, 0);
        }
        bufs.copy_to_slice(&mut content[from..from + len]);
        Ok(())
    }

    async fn resize(&self, len: u64) -> Result<(), Error> {
        self.0.lock().unwrap().resize(len as usize, 0);
        Ok(())
    }

    async fn sync(&self) -> Result<(), Error> {
        Ok(())
    }

    async fn start_sync(&self) -> Handle<()> {
        Handle::ready(Ok(()))
    }
}

/// Chance, all of it drawn from the seed.
#[derive(Clone)]
pub(crate) struct Dice(Arc<Mutex<Context>>);

impl Dice {
    pub(crate) fn new(context: &Context) -> Self {
        Self(Arc::new(Mutex::new(context.child("dice"))))
    }

    pub(crate) fn within(&self, range: std::ops::Range<u64>) -> u64 {
        self.0.lock().unwrap().random_range(range)
    }

    pub(crate) fn chance(&self, percent: u64) -> bool {
        self.within(0..100) < percent
    }

    pub(crate) fn ms(&self, range: std::ops::Range<u64>) -> Duration {
        Duration::from_millis(self.within(range))
    }
}

/// How a machine is reached: it may stand still, and its line to the ledger may be cut.
#[derive(Clone)]
pub(crate) struct Mood(Arc<Mutex<Moods>>);

struct Moods {
    still_until: SystemTime,
    /// Stands still for so long from when it sends its next swap of an index.
    still_at_swap: Option<Duration>,
    cut_until: SystemTime,
    /// What it sends arrives; what it is told does not.
    is_half_cut: bool,
}

impl Default for Mood {
    fn default() -> Self {
        let epoch = SystemTime::UNIX_EPOCH;
        let moods = Moods { still_until: epoch, still_at_swap: None, cut_until: epoch, is_half_cut: false };
        Self(Arc::new(Mutex::new(moods)))
    }
}

/// What becomes of a question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Line {
    Whole,
    /// The answer is lost.
    Half,
    /// The question is.
    Cut,
}

impl Mood {
    pub(crate) fn stand_still(&self, until: SystemTime) {
        self.0.lock().unwrap().still_until = until;
    }

    pub(crate) fn stand_still_at_swap(&self, time: Duration) {
        self.0.lock().unwrap().still_at_swap = Some(time);
    }

    pub(crate) fn cut(&self, until: SystemTime, is_half: bool) {
        let mut moods = self.0.lock().unwrap();
        (moods.cut_until, moods.is_half_cut) = (until, is_half);
    }

    /// Nothing is wrong with it any more.
    pub(crate) fn calm(&self) {
        let mut moods = self.0.lock().unwrap();
        let epoch = SystemTime::UNIX_EPOCH;
        *moods = Moods { still_until: epoch, still_at_swap: None, cut_until: epoch, is_half_cut: false };
    }

    /// It is about to send a swap.
    pub(crate) fn at_swap(&self, now: SystemTime) {
        let mut moods = self.0.lock().unwrap();
        if let Some(time) = moods.still_at_swap.take() {
            moods.still_until = now + time;
        }
    }

    pub(crate) fn line(&self, now: SystemTime) -> Line {
        let moods = self.0.lock().unwrap();
        match moods.is_half_cut {
            _ if moods.cut_until <= now => Line::Whole,
            true => Line::Half,
            false => Line::Cut,
        }
    }

    /// Resolves while the machine moves.
    pub(crate) async fn moves(&self, clock: &Context) {
        loop {
            let until = self.0.lock().unwrap().still_until;
            if until <= clock.current() {
                return;
            }
            // Looked at again now and then: it may be woken early.
            clock.sleep_until(until.min(clock.current() + Duration::from_secs(1))).await;
        }
    }
}

/// The runtime of a process on one machine.
pub(crate) struct Machine {
    inner: Context,
    clock: Arc<Context>,
    disk: Disk,
    mood: Mood,
}

impl Machine {
    pub(crate) fn new(inner: Context, disk: Disk, mood: Mood) -> Self {
        let clock = Arc::new(inner.child("clock"));
        Self { inner, clock, disk, mood }
    }

    fn with(&self, inner: Context) -> Self {
        Self { inner, clock: self.clock.clone(), disk: self.disk.clone(), mood: self.mood.clone() }
    }
}

impl Supervisor for Machine {
    fn name(&self) -> Name {
        self.inner.name()
    }

    fn child(&self, label: &'static str) -> Self {
        self.with(self.inner.child(label))
    }

    fn with_attribute(mut self, key: &'static str, value: impl std::fmt::Display) -> Self {
        self.inner = self.inner.with_attribute(key, value);
        self
    }
}

impl Spawner for Machine {
    fn shared(mut self, blocking: bool) -> Self {
        self.inner = self.inner.shared(blocking);
        self
    }

    fn dedicated(mut self) -> Self {
        self.inner = self.inner.dedicated();
        self
    }

    fn spawn<F, Fut, T>(self, f: F) -> Handle<T>
    where
        F: FnOnce(Self) -> Fut + Send + 'static,
        Fut: Future<Output = T> + Send + 'static,
        T: Send + 'static,
    {
        let Self { inner, clock, disk, mood } = self;
        inner.spawn(move |inner| f(Self { inner, clock, disk, mood }))
    }

    async fn stop(self, value: i32, timeout: Option<Duration>) -> Result<(), Error> {
        self.inner.stop(value, timeout).await
    }

    fn stopped(&self) -> Signal {
        self.inner.stopped()
    }
}

impl Clock for Machine {
    fn current(&self) -> SystemTime {
        self.inner.current()
    }

    fn sleep(&self, duration: Duration) -> impl Future<Output = ()> + Send + 'static + use<> {
        self.sleep_until(self.current() + duration)
    }

    fn sleep_until(&self, deadline: SystemTime) -> impl Future<Output = ()> + Send + 'static + use<> {
        let (clock, mood) = (self.clock.clone(), self.mood.clone());
        async move {
            clock.sleep_until(deadline).await;
            mood.moves(&clock).await;
        }
    }
}

impl GovernorClock for Machine {
    type Instant = SystemTime;

    fn now(&self) -> SystemTime {
        self.current()
    }
}

impl ReasonablyRealtime for Machine {}

impl Storage for Machine {
    type Blob = File;

    async fn open_versioned(
        &self,
        partition: &str,
        name: &[u8],
        versions: RangeInclusive<BlobVersion>,
    ) -> Result<(File, u64, BlobVersion), Error> {
        self.disk.open_versioned(partition, name, versions).await
    }

    async fn remove(&self, partition: &str, name: Option<&[u8]>) -> Result<(), Error> {
        self.disk.remove(partition, name).await
    }

    async fn scan(&self, partition: &str) -> Result<Vec<Vec<u8>>, Error> {
        self.disk.scan(partition).await
    }
}

impl TryRng for Machine {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        self.inner.try_next_u32()
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        self.inner.try_next_u64()
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Infallible> {
        self.inner.try_fill_bytes(bytes)
    }
}

impl TryCryptoRng for Machine {}
