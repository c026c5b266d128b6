//! Cut the power of a shelf at every step, and find only whole shards on it.

use super::Shelf;
use bytes::Bytes;
use commonware_runtime::{
    Blob, BlobVersion, Buf as _, Error, Handle, IoBufMut, IoBufs, IoBufsMut, ReadOptions, Storage, WriteOptions,
};
use futures::executor::block_on;
use hodei_types::slice::ShardId;
use std::{
    collections::BTreeMap,
    ops::RangeInclusive,
    sync::{Arc, Mutex},
};

type Content = Arc<Mutex<Vec<u8>>>;

/// A disk that ends at its n-th step, in the middle of what it writes.
#[derive(Clone, Default)]
struct Disk {
    files: Arc<Mutex<BTreeMap<Vec<u8>, Content>>>,
    /// Steps that are left; `None`: it has power.
    left: Arc<Mutex<Option<usize>>>,
}

#[derive(Clone)]
struct File(Content, Arc<Mutex<Option<usize>>>);

/// Whether a step happens: wholly, half, or not at all.
#[derive(PartialEq, Eq)]
enum Power {
    On,
    Going,
    Off,
}

fn step(left: &Mutex<Option<usize>>) -> Power {
    match &mut *left.lock().unwrap() {
        None => Power::On,
        Some(0) => Power::Off,
        Some(steps) => {
            *steps -= 1;
            if *steps == 0 { Power::Going } else { Power::On }
        }
    }
}

fn dark() -> Error {
    Error::WriteFailed
}

impl Storage for Disk {
    type Blob = File;

    async fn open_versioned(
        &self,
        _: &str,
        name: &[u8],
        versions: RangeInclusive<BlobVersion>,
    ) -> Result<(File, u64, BlobVersion), Error> {
        if step(&self.left) == Power::Off {
            return Err(dark());
        }
        let file = self.files.lock().unwrap().entry(name.into()).or_default().clone();
        let len = file.lock().unwrap().len() as u64;
        Ok((File(file, self.left.clone()), len, *versions.end()))
    }

    async fn remove(&self, _: &str, name: Option<&[u8]>) -> Result<(), Error> {
        if step(&self.left) == Power::Off {
            return Err(dark());
        }
        let mut files = self.files.lock().unwrap();
        match name {
            None => files.clear(),
            Some(name) => _ = files.remove(name),
        }
        Ok(())
    }

    async fn scan(&self, _: &str) -> Result<Vec<Vec<u8>>, Error> {
        Ok(self.files.lock().unwrap().keys().cloned().collect())
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
        let bytes = content.get(offset as usize..offset as usize + len).ok_or(Error::BlobInsufficientLength)?;
        Ok(IoBufMut::from(bytes).into())
    }

    async fn write_at(&self, offset: u64, bufs: impl Into<IoBufs> + Send, _: WriteOptions) -> Result<(), Error> {
        let mut bufs = bufs.into();
        let (from, len) = (offset as usize, bufs.remaining());
        let mut bytes = vec![0; len];
        bufs.copy_to_slice(&mut bytes);
        let power = step(&self.1);
        if power == Power::Off {
            return Err(dark());
        }
        let mut content = self.0.lock().unwrap();
        let end = content.len().max(from + len);
        content.resize(end, 0);
        // Its length arrives before all of it does.
        let arrived = if power == Power::Going { len / 2 } else { len };
        content[from..from + arrived].copy_from_slice(&bytes[..arrived]);
        if power == Power::Going { Err(dark()) } else { Ok(()) }
    }

    async fn resize(&self, len: u64) -> Result<(), Error> {
        if step(&self.1) == Power::Off {
            return Err(dark());
        }
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

const KIB: usize = 1024;
const BUCKET: [u8; 32] = [1; 32];
/// What 8 KiB take on a disk whose storage begins each blob with a page of its own.
const ROOM: u64 = 12 * KIB as u64;

fn shard(number: u8, kib: usize) -> (ShardId, Bytes) {
    let bytes: Vec<u8> = (0..kib * KIB).map(|at| (at / 7) as u8 ^ number).collect();
    (ShardId::of(&bytes), bytes.into())
}

fn on_disk(disk: &Disk) -> u64 {
    disk.files.lock().unwrap().values().map(|file| file.lock().unwrap().len() as u64).sum()
}

/// What a reader does with a shelf for five: twelve shards of 8 KiB come, and the first is used again and again.
async fn live(disk: &Disk) {
    let shelf = Shelf::open(disk.clone(), 5 * ROOM).await;
    for number in 0..12 {
        let (id, bytes) = shard(number, 8);
        shelf.put(&BUCKET, id, bytes).await;
        shelf.get(&BUCKET, shard(0, 8).0).await;
    }
}

#[test]
fn wherever_the_power_is_cut_what_is_given_later_is_whole_and_fits() {
    let whole = Disk::default();
    block_on(live(&whole));
    assert_eq!(on_disk(&whole), 40 * KIB as u64, "five shards");
    let mut torn = 0;
    for steps in 1.. {
        let disk = Disk::default();
        *disk.left.lock().unwrap() = Some(steps);
        block_on(live(&disk));
        let is_cut = disk.left.lock().unwrap().take() == Some(0);
        block_on(async {
            let shelf = Shelf::open(disk.clone(), 5 * ROOM).await;
            for number in 0..12 {
                let (id, bytes) = shard(number, 8);
                let was_there = shelf.holds(&BUCKET, &id);
                match shelf.get(&BUCKET, id).await {
                    Some(given) => assert_eq!(given, bytes, "cut after {steps} steps"),
                    None => {
                        torn += usize::from(was_there);
                        assert!(!shelf.holds(&BUCKET, &id), "what is torn is forgotten");
                    }
                }
            }
            // It goes on: what comes now is kept, within its room.
            for number in 20..30 {
                let (id, bytes) = shard(number, 8);
                shelf.put(&BUCKET, id, bytes.clone()).await;
                assert_eq!(shelf.get(&BUCKET, id).await, Some(bytes), "cut after {steps} steps");
            }
            assert_eq!(shelf.size(), (5 * ROOM, 5));
            assert_eq!(on_disk(&disk), 40 * KIB as u64, "nothing is left beside it");
        });
        if !is_cut {
            break;
        }
    }
    assert!(torn > 0, "some cuts came in the middle of a shard");
}

#[test]
fn the_least_used_goes_first_and_a_changed_byte_is_never_given() {
    block_on(async {
        let disk = Disk::default();
        let shelf = Shelf::open(disk.clone(), 3 * ROOM).await;
        let [(a, first), (b, second), (c, third), (d, fourth)] = [0, 1, 2, 3].map(|number| shard(number, 8));
        shelf.put(&BUCKET, a, first.clone()).await;
        shelf.put(&BUCKET, b, second).await;
        shelf.put(&BUCKET, c, third).await;
        assert_eq!(shelf.get(&BUCKET, a).await, Some(first.clone()));
        shelf.put(&BUCKET, d, fourth).await;
        assert_eq!([a, b, c, d].map(|id| shelf.holds(&BUCKET, &id)), [true, false, true, true]);
        assert_eq!((shelf.get(&BUCKET, b).await, on_disk(&disk)), (None, 24 * KIB as u64));
        // What is larger than all of it is not tried.
        let (large, bytes) = shard(9, 36);
        shelf.put(&BUCKET, large, bytes).await;
        assert_eq!((shelf.holds(&BUCKET, &large), shelf.size()), (false, (3 * ROOM, 3)));
        // Only the name tells which file is whose.
        let files: Vec<Content> = disk.files.lock().unwrap().values().cloned().collect();
        let changed = files.iter().find(|file| file.lock().unwrap()[..] == first[..]).expect("it is on the disk");
        changed.lock().unwrap()[5000] ^= 1;
        assert_eq!((shelf.get(&BUCKET, a).await, shelf.holds(&BUCKET, &a)), (None, false));
        shelf.put(&BUCKET, a, first.clone()).await;
        assert_eq!(shelf.get(&BUCKET, a).await, Some(first.clone()), "it may come again");
        // Less room than before, and names that are no ids.
        disk.files.lock().unwrap().insert(vec![1, 2, 3], Arc::default());
        let shelf = Shelf::open(disk.clone(), 2 * ROOM).await;
        assert_eq!((shelf.size(), on_disk(&disk)), ((2 * ROOM, 2), 16 * KIB as u64));
        Shelf::clear(&disk).await;
        assert_eq!(on_disk(&disk), 0);
    });
}

#[test]
fn what_was_read_in_one_bucket_is_not_there_in_another() {
    block_on(async {
        let disk = Disk::default();
        let shelf = Shelf::open(disk.clone(), 3 * ROOM).await;
        let (id, bytes) = shard(0, 8);
        shelf.put(&BUCKET, id, bytes.clone()).await;
        let other = [2; 32];
        assert_eq!((shelf.holds(&other, &id), shelf.get(&other, id).await), (false, None));
        assert_eq!(shelf.len_of(&BUCKET, &id), Some(8 * KIB as u64));
        // Also after a restart, and where both have it.
        let shelf = Shelf::open(disk.clone(), 3 * ROOM).await;
        assert_eq!((shelf.get(&other, id).await, shelf.get(&BUCKET, id).await), (None, Some(bytes.clone())));
        shelf.put(&other, id, bytes.clone()).await;
        assert_eq!((shelf.get(&other, id).await, shelf.size()), (Some(bytes), (2 * ROOM, 2)));
    });
}

/// A disk that lets go of nothing.
#[derive(Clone)]
struct Sticky(Disk);

impl Storage for Sticky {
    type Blob = File;

    async fn open_versioned(
        &self,
        partition: &str,
        name: &[u8],
        versions: RangeInclusive<BlobVersion>,
    ) -> Result<(File, u64, BlobVersion), Error> {
        self.0.open_versioned(partition, name, versions).await
    }

    async fn remove(&self, _: &str, _: Option<&[u8]>) -> Result<(), Error> {
        Err(dark())
    }

    async fn scan(&self, partition: &str) -> Result<Vec<Vec<u8>>, Error> {
        self.0.scan(partition).await
    }
}

#[test]
fn what_a_disk_does_not_let_go_of_still_counts() {
    block_on(async {
        let disk = Sticky(Disk::default());
        let shelf = Shelf::open(disk.clone(), 2 * ROOM).await;
        for number in 0..6 {
            let (id, bytes) = shard(number, 8);
            shelf.put(&BUCKET, id, bytes).await;
        }
        assert_eq!((shelf.size(), on_disk(&disk.0)), ((2 * ROOM, 2), 16 * KIB as u64), "no more is written than fits");
        let (id, bytes) = shard(0, 8);
        assert_eq!(shelf.get(&BUCKET, id).await, Some(bytes));
    });
}
