//! Rebuild the disk of each moment, open the store on it, and hold it to what was acknowledged by then.

use crate::{
    past::Past,
    tape::{Beside, Disk, Step, Tape},
};
use bytes::Bytes;
use commonware_runtime::{Runner as _, deterministic::Runner};
use futures::future::{Either, join_all, select};
use hodei_storage::shard::{Config, Store};
use hodei_types::{
    ack::Signer,
    decline::Ground,
    holding,
    index::{Change, Index as _, Ordered},
    slice::ShardId,
};
use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    pin::pin,
    sync::Arc,
};

const CHAIN: u64 = 9;
const PLEDGE_BYTES: u64 = 64 << 20;
/// Since when something is declined.
pub(crate) const SINCE_MS: u64 = 7000;
/// The unit in which disks tear.
const SECTOR: usize = 512;

/// One thing that is asked of a store, and of which shard of which deal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Op {
    Put(u64, u32, usize),
    Release(u64, u32),
    Keep(u64, u32, u64),
    /// Of whatever deal; no other deal here has it.
    Decline(u64, u32),
    Forget(u64),
}

/// An operation, and the steps of the tape that were done when it was acknowledged.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Done {
    pub(crate) op: Op,
    pub(crate) at: usize,
}

/// A store at work, and what it acknowledged.
pub(crate) struct Life {
    store: Store<Tape, Beside>,
    tape: Tape,
    start: Cell<usize>,
    done: RefCell<Vec<Done>>,
}

/// A shard's id and bytes; they are asked for at each cut.
pub(crate) fn shard(deal: u64, number: u32, len: usize) -> (ShardId, Bytes) {
    thread_local! {
        static MADE: RefCell<BTreeMap<(u64, u32, usize), (ShardId, Bytes)>> = const { RefCell::new(BTreeMap::new()) };
    }
    let make = || {
        let mut bytes = vec![0; len];
        let mut hasher = blake3::Hasher::new();
        hasher.update(&deal.to_be_bytes()).update(&number.to_be_bytes()).finalize_xof().fill(&mut bytes);
        (ShardId::of(&bytes), bytes.into())
    };
    MADE.with_borrow_mut(|made| made.entry((deal, number, len)).or_insert_with(make).clone())
}

impl Life {
    pub(crate) fn new(store: Store<Tape, Beside>, tape: &Tape) -> Self {
        Self { store, tape: tape.clone(), start: Cell::new(0), done: RefCell::default() }
    }

    pub(crate) fn store(&self) -> &Store<Tape, Beside> {
        &self.store
    }

    /// Shards of a deal are known by number; their length is that of the newest put.
    fn id(&self, deal: u64, number: u32) -> ShardId {
        let len = self.done.borrow().iter().rev().find_map(|done| match done.op {
            Op::Put(of, which, len) if (of, which) == (deal, number) => Some(len),
            _ => None,
        });
        shard(deal, number, len.expect("it was put before")).0
    }

    async fn one(&self, op: Op) {
        match op {
            Op::Put(deal, number, len) => {
                let (id, bytes) = shard(deal, number, len);
                let held = self.store.put(deal, id, [5; 16], bytes).await.unwrap();
                assert_eq!(held.verify(CHAIN, &signer().node(), deal, &id, len as u32), Ok(()));
            }
            Op::Release(deal, number) => {
                let id = self.id(deal, number);
                assert_eq!(self.store.release(deal, &[id]).await.unwrap(), [id]);
            }
            Op::Keep(deal, number, until) => {
                assert_eq!(self.store.keep(deal, &[self.id(deal, number)], until).await.unwrap(), [true]);
            }
            Op::Decline(deal, number) => {
                let id = self.id(deal, number);
                assert_eq!(self.store.decline(&[id], SINCE_MS, Ground::Court).await.unwrap(), [(deal, id)]);
            }
            Op::Forget(deal) => self.store.forget(deal).await.unwrap(),
        }
        self.done.borrow_mut().push(Done { op, at: self.tape.at() });
    }

    pub(crate) async fn put(&self, deal: u64, number: u32, len: usize) {
        self.one(Op::Put(deal, number, len)).await;
    }

    /// All at once, so that they share a batch.
    pub(crate) async fn all(&self, ops: &[Op]) {
        let before = self.done.borrow().len();
        join_all(ops.iter().map(|op| self.one(*op))).await;
        let done = self.done.borrow();
        assert!(done[before..].iter().map(|done| done.op).eq(ops.iter().copied()), "in the order they were asked for");
    }

    pub(crate) async fn posted(&self, deal: u64) {
        let sequence = self.store.state(deal).await.unwrap().0.unwrap().statement.sequence;
        self.store.posted(deal, sequence).await.unwrap();
    }

    /// From here on the power is cut.
    pub(crate) fn mark(&self) {
        self.start.set(self.tape.at());
    }

    pub(crate) fn end(self) -> (usize, Vec<Done>) {
        (self.start.get(), self.done.into_inner())
    }
}

fn signer() -> Arc<Signer> {
    Arc::new(Signer::new(&[1; 32]))
}

/// Opens the store and runs `body` beside its writer.
async fn with_store<T>(tape: &Tape, index: Beside, body: impl AsyncFnOnce(Store<Tape, Beside>) -> T) -> T {
    let config = Config::new("shards", PLEDGE_BYTES, CHAIN);
    let (store, writer) = Store::open(tape.clone(), config, signer(), index).await.expect("it opens");
    match select(pin!(body(store.clone())), pin!(writer.run())).await {
        Either::Left((out, _)) => out,
        Either::Right(_) => panic!("the writer stopped"),
    }
}

/// Runs a life to its end.
pub(crate) fn play<T>(tape: &Tape, index: Beside, body: impl AsyncFnOnce(Store<Tape, Beside>) -> T) -> T {
    Runner::default().start(|_| async move { with_store(tape, index, body).await })
}

/// What was cut.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Cuts {
    /// Places in bytes that were written.
    pub(crate) bytes: usize,
    /// Disks that a store was opened on.
    pub(crate) disks: usize,
    /// Recoveries that were cut themselves.
    pub(crate) again: usize,
    pub(crate) opened: usize,
    pub(crate) removals: usize,
}

/// The moments of a tape, from step `start` on.
struct Moments<'a> {
    steps: Vec<Step>,
    ops: &'a [Done],
    cuts: Cuts,
}

/// A cut at every byte.
pub(crate) fn every(tape: &Tape, start: usize, ops: &[Done]) -> Cuts {
    some(tape, start, ops, 1)
}

/// The same at one of `stride` bytes, and at all of a write's edges.
pub(crate) fn some(tape: &Tape, start: usize, ops: &[Done], stride: usize) -> Cuts {
    let mut moments = Moments { steps: tape.steps(), ops, cuts: Cuts::default() };
    let moving = &mut moments;
    Runner::default().start(|_| async move { moving.go(start, stride).await });
    moments.cuts
}

impl Moments<'_> {
    async fn go(&mut self, start: usize, stride: usize) {
        // What is durable, what was written since, and what the index was told.
        let (mut durable, mut loose, mut index) = (Disk::default(), Vec::new(), Told::default());
        for at in 0..self.steps.len() {
            let step = self.steps[at].clone();
            if at == start {
                durable = durable.flat();
                index.settle().await;
            }
            if at >= start {
                self.during(at, &durable, &loose, &step, &index, stride).await;
            }
            match &step {
                // A file is made, and removed, durably.
                Step::Open(_) => durable.take(&step),
                Step::Remove(file) => {
                    durable.take(&step);
                    loose.retain(|step: &Step| file_of(step) != Some(file));
                }
                Step::Write { synced: true, .. } => durable.take(&step),
                Step::Write { .. } | Step::Resize { .. } => loose.push(step.clone()),
                Step::Sync(file) => loose.retain(|step: &Step| {
                    let is_its = file_of(step) == Some(file);
                    if is_its {
                        durable.take(step);
                    }
                    !is_its
                }),
                Step::Index { changes, durable } => index.told(changes, *durable),
            }
            if at >= start {
                self.cuts.opened += usize::from(matches!(step, Step::Open(_)));
                self.cuts.removals += usize::from(matches!(step, Step::Remove(_)));
            }
        }
        let full = loose.iter().fold(durable, |mut disk, step| {
            disk.take(step);
            disk
        });
        self.check(self.steps.len(), full, &index.all().await).await;
    }

    /// The power goes while `step` is on its way.
    async fn during(&mut self, at: usize, durable: &Disk, loose: &[Step], step: &Step, index: &Told, stride: usize) {
        let all = |disk: &Disk| {
            loose.iter().fold(disk.clone(), |mut disk, step| {
                disk.take(step);
                disk
            })
        };
        let kinds = index.kinds().await;
        // Nothing of what was not synced, or all of it.
        for disk in [durable.clone(), all(durable)] {
            for index in &kinds {
                self.check(at, disk.clone(), index).await;
            }
        }
        let Step::Write { file, at: from, bytes, .. } = step else { return };
        for cut in 0..=bytes.len() {
            let is_edge = cut < 8 || bytes.len() - cut < 8 || cut % SECTOR == 0;
            if cut % stride != 0 && !is_edge {
                continue;
            }
            self.cuts.bytes += 1;
            let mut first = all(durable);
            first.write(file, *from, Arc::new(bytes[..cut].to_vec()));
            let mut last = all(durable);
            last.write(file, from + cut as u64, Arc::new(bytes[cut..].to_vec()));
            let kind = cut % (kinds.len() - 1);
            self.check(at, first.clone(), &kinds[kind]).await;
            if cut % 7 == 0 || is_edge {
                self.check(at, last, &kinds[kind]).await;
            }
            // Without any index all segments are read through: slower, so more seldom.
            if cut % 61 == 0 {
                self.check(at, first, &kinds[kinds.len() - 1]).await;
                let sectors = bytes.chunks(SECTOR).enumerate().filter(|(sector, _)| keeps(at, cut, *sector));
                let mut some = durable.clone();
                for (number, step) in loose.iter().enumerate() {
                    if keeps(at, cut, 1000 + number) {
                        some.take(step);
                    }
                }
                for (sector, bytes) in sectors {
                    some.write(file, from + (sector * SECTOR) as u64, Arc::new(bytes.to_vec()));
                }
                for index in &kinds {
                    self.check(at, some.clone(), index).await;
                }
            }
        }
    }

    /// Opens the store and judges it; of some it goes on, and some are cut again while they recover.
    async fn check(&mut self, at: usize, disk: Disk, index: &Ordered) {
        self.cuts.disks += 1;
        let tape = Tape::on(disk.clone());
        let opened = copy(index).await;
        with_store(&tape, Beside::new(opened.clone(), &tape), async |store| self.judge(at, &store).await).await;
        let steps = tape.steps();
        if self.cuts.disks.is_multiple_of(7) {
            with_store(&tape, Beside::new(opened, &tape), async |store| self.goes_on(at, &store).await).await;
        }
        if !self.cuts.disks.is_multiple_of(97) {
            return;
        }
        // What the recovery itself had done by a second cut, be it durable or not.
        for second in 0..=steps.len() {
            self.cuts.again += 1;
            let mut half = disk.clone();
            steps[..second].iter().for_each(|step| half.take(step));
            let tape = Tape::on(half);
            let index = Beside::new(copy(index).await, &tape);
            with_store(&tape, index, async |store| self.judge(at, &store).await).await;
        }
    }

    /// What was acknowledged before step `at` is there, nothing is half there, and each root is one that was.
    async fn judge(&self, at: usize, store: &Store<Tape, Beside>) {
        let mut deals: BTreeMap<u64, Past> = BTreeMap::new();
        for done in self.ops {
            let is_acknowledged = done.at <= at;
            let deal = match done.op {
                Op::Put(deal, ..)
                | Op::Release(deal, _)
                | Op::Decline(deal, _)
                | Op::Keep(deal, ..)
                | Op::Forget(deal) => deal,
            };
            deals.entry(deal).or_default().take(done.op, is_acknowledged);
        }
        // Those that fill are many, large, and alike.
        for (number, past) in deals.iter().filter(|(number, _)| **number != crate::FILLER) {
            past.judge(*number, store, at).await;
        }
    }

    /// The store takes, keeps and proves what comes next.
    async fn goes_on(&self, at: usize, store: &Store<Tape, Beside>) {
        self.judge(at, store).await;
        let (id, bytes) = shard(crate::WATCHED, 99, 4096);
        let held = store.put(crate::WATCHED, id, [6; 16], bytes.clone()).await.expect("it goes on");
        assert_eq!(held.verify(CHAIN, &signer().node(), crate::WATCHED, &id, 4096), Ok(()));
        assert_eq!(store.get(crate::WATCHED, id, 0, 0).await.unwrap().unwrap().bytes, bytes);
        let (root, leaves) = (held.ack.statement.root, held.ack.statement.leaves);
        for leaf in [0, leaves / 2, leaves - 1] {
            let proof = store.prove(crate::WATCHED, root, leaves, leaf).await.unwrap();
            assert_eq!(holding::verify(&root, leaves, leaf, &proof), Ok(()));
        }
    }
}

/// What an index was told: what survives is a prefix, no shorter than what it was told to keep.
#[derive(Default)]
struct Told {
    base: Ordered,
    kept: Vec<Vec<Change>>,
    loose: Vec<Vec<Change>>,
}

impl Told {
    fn told(&mut self, changes: &[Change], durable: bool) {
        self.loose.push(changes.to_vec());
        if durable {
            self.kept.append(&mut self.loose);
        }
    }

    /// Takes what it was told to keep so far as where it begins.
    async fn settle(&mut self) {
        for changes in self.kept.drain(..) {
            self.base.apply(changes, true).await.unwrap();
        }
    }

    async fn after(&self, loose: usize) -> Ordered {
        let index = copy(&self.base).await;
        for changes in self.kept.iter().chain(&self.loose[..loose]) {
            index.apply(changes.clone(), true).await.unwrap();
        }
        index
    }

    async fn all(&self) -> Ordered {
        self.after(self.loose.len()).await
    }

    /// All it was told, half of what it need not keep, none of that, and nothing at all.
    async fn kinds(&self) -> Vec<Ordered> {
        vec![self.all().await, self.after(self.loose.len() / 2).await, self.after(0).await, Ordered::default()]
    }
}

async fn copy(index: &Ordered) -> Ordered {
    let copy = Ordered::default();
    let all = index.range(&[], &[], usize::MAX).await.unwrap();
    copy.apply(all.into_iter().map(|(key, value)| (key, Some(value))).collect(), true).await.unwrap();
    copy
}

fn file_of(step: &Step) -> Option<&Vec<u8>> {
    match step {
        Step::Open(file)
        | Step::Write { file, .. }
        | Step::Resize { file, .. }
        | Step::Sync(file)
        | Step::Remove(file) => Some(file),
        Step::Index { .. } => None,
    }
}

/// Whether a sector made it, alike each time.
fn keeps(at: usize, cut: usize, what: usize) -> bool {
    let number = [at as u64, cut as u64, what as u64].map(u64::to_be_bytes).concat();
    blake3::hash(&number).as_bytes()[0] & 1 == 1
}
