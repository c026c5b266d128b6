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

fn shard(number: u8, kib: usize) -> (ShardId, Bytes) {
    let bytes: Vec<u8> = (0..kib * KIB).map(|at| (at / 7) as u8 ^ number).collect();
    (ShardId::of(&bytes), bytes.into())
}

fn on_disk(disk: &Disk) -> u64 {
    disk.files.lock().unwrap().values().map(|file| file.lock().unwrap().len() as u64).sum()
}

/// What a reader does with a shelf of 40 KiB: twelve shards of 8 KiB come, and the first is used again and again.
async fn live(disk: &Disk) {
    let shelf = Shelf::open(disk.clone(), 40 * KIB as u64).await;
    for number in 0..12 {
        let (id, bytes) = shard(number, 8);
        shelf.put(id, bytes).await;
        shelf.get(shard(0, 8).0).await;
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
            let shelf = Shelf::open(disk.clone(), 40 * KIB as u64).await;
            for number in 0..12 {
                let (id, bytes) = shard(number, 8);
                let was_there = shelf.holds(&id);
                match shelf.get(id).await {
                    Some(given) => assert_eq!(given, bytes, "cut after {steps} steps"),
                    None => {
                        torn += usize::from(was_there);
                        assert!(!shelf.holds(&id), "what is torn is forgotten");
                    }
                }
            }
            // It goes on: what comes now is kept, within its room.
            for number in 20..30 {
                let (id, bytes) = shard(number, 8);
                shelf.put(id, bytes.clone()).await;
                assert_eq!(shelf.get(id).await, Some(bytes), "cut after {steps} steps");
            }
            assert_eq!(shelf.size(), (40 * KIB as u64, 5));
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
        let shelf = Shelf::open(disk.clone(), 24 * KIB as u64).await;
        let [(a, first), (b, second), (c, third), (d, fourth)] = [0, 1, 2, 3].map(|number| shard(number, 8));
        shelf.put(a, first.clone()).await;
        shelf.put(b, second).await;
        shelf.put(c, third).await;
        assert_eq!(shelf.get(a).await, Some(first.clone()));
        shelf.put(d, fourth).await;
        assert_eq!([a, b, c, d].map(|id| shelf.holds(&id)), [true, false, true, true]);
        assert_eq!((shelf.get(b).await, on_disk(&disk)), (None, 24 * KIB as u64));
        // What is larger than all of it is not tried.
        let (large, bytes) = shard(9, 32);
        shelf.put(large, bytes).await;
        assert_eq!((shelf.holds(&large), shelf.size()), (false, (24 * KIB as u64, 3)));
        disk.files.lock().unwrap()[&a.0.to_vec()].lock().unwrap()[5000] ^= 1;
        assert_eq!((shelf.get(a).await, shelf.holds(&a)), (None, false));
        shelf.put(a, first.clone()).await;
        assert_eq!(shelf.get(a).await, Some(first.clone()), "it may come again");
        // Less room than before, and names that are no ids.
        disk.files.lock().unwrap().insert(vec![1, 2, 3], Arc::default());
        let shelf = Shelf::open(disk.clone(), 16 * KIB as u64).await;
        assert_eq!((shelf.size(), on_disk(&disk)), ((16 * KIB as u64, 2), 16 * KIB as u64));
        Shelf::clear(&disk).await;
        assert_eq!(on_disk(&disk), 0);
    });
}
