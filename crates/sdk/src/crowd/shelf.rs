//! Keep sealed shards on disk, the least used pushed out first.
//!
//! One blob for each, named by a hash of its bucket and its id: who may read one bucket finds nothing of another here. What
//! is read back is hashed as a whole before it is given, and forgotten if it is another: a disk that tore or lost it costs a
//! question, never a byte. So nothing waits for what it wrote to be synced, though the storage syncs names as blobs come and
//! go. After a restart everything counts as used at the same time.

use bytes::Bytes;
use commonware_runtime::{Blob as _, Buf as _, Error, ReadOptions, Storage, WriteOptions};
use hodei_types::slice::{ShardId, check_length};
use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard},
};

/// Where the blobs are, in the process's storage.
pub const PARTITION: &str = "crowd";
/// Shards at most, however small.
const SHARDS_MAX: usize = 65_536;
/// What the storage writes before each blob's bytes, and the blocks that a file takes.
const HEADER_BYTES: u64 = 4096;
const BLOCK_BYTES: u64 = 4096;

/// What a shard of so many bytes takes on disk.
fn room(len: u64) -> u64 {
    (HEADER_BYTES + len).next_multiple_of(BLOCK_BYTES)
}

/// Where a bucket's shard is: the blob's name.
type Place = [u8; 32];

fn place(bucket: &[u8; 32], id: &ShardId) -> Place {
    *blake3::keyed_hash(bucket, &id.0).as_bytes()
}

/// See the module.
pub struct Shelf<E> {
    /// One at a time: a blob has one handle.
    disk: futures::lock::Mutex<E>,
    bytes_max: u64,
    shards_max: usize,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    uses: u64,
    /// On disk, by [`room`].
    bytes: u64,
    /// When each was used last, and its length.
    by_place: BTreeMap<Place, (u64, u64)>,
    by_use: BTreeMap<u64, Place>,
}

impl State {
    fn touch(&mut self, place: Place, len: u64) {
        self.forget(&place);
        self.uses += 1;
        self.bytes += room(len);
        self.by_place.insert(place, (self.uses, len));
        self.by_use.insert(self.uses, place);
    }

    fn forget(&mut self, place: &Place) {
        if let Some((used, len)) = self.by_place.remove(place) {
            self.by_use.remove(&used);
            self.bytes -= room(len);
        }
    }
}

impl<E: Storage> Shelf<E> {
    /// What is kept from before, as far as `bytes_max` goes. What cannot be looked at is let go of.
    pub async fn open(disk: E, bytes_max: u64) -> Self {
        let shelf =
            Self { disk: futures::lock::Mutex::new(disk), bytes_max, shards_max: SHARDS_MAX, state: Mutex::default() };
        {
            let disk = shelf.disk.lock().await;
            // There is none before the first is kept.
            for name in disk.scan(PARTITION).await.unwrap_or_default() {
                let len = disk.open(PARTITION, &name).await.map_or(0, |(_, len)| len);
                match Place::try_from(name.as_slice()) {
                    Ok(place) if check_length(len).is_ok() => shelf.lock().touch(place, len),
                    _ => _ = disk.remove(PARTITION, Some(&name)).await,
                }
            }
            shelf.make_room(&disk, 0).await;
        }
        shelf
    }

    /// Lets go of whatever was kept on a disk.
    pub async fn clear(disk: &E) {
        // There may be nothing.
        let _ = disk.remove(PARTITION, None).await;
    }

    /// Whether a bucket's shard seems to be kept.
    pub fn holds(&self, bucket: &[u8; 32], id: &ShardId) -> bool {
        self.len_of(bucket, id).is_some()
    }

    /// How long a bucket's shard is that seems to be kept, in bytes.
    pub fn len_of(&self, bucket: &[u8; 32], id: &ShardId) -> Option<u64> {
        self.lock().by_place.get(&place(bucket, id)).map(|(_, len)| *len)
    }

    /// Bytes that are taken on disk, and of how many shards.
    pub fn size(&self) -> (u64, usize) {
        let state = self.lock();
        (state.bytes, state.by_place.len())
    }

    /// A bucket's shard as it was kept.
    pub async fn get(&self, bucket: &[u8; 32], id: ShardId) -> Option<Bytes> {
        let len = self.len_of(bucket, &id)?;
        let place = place(bucket, &id);
        let disk = self.disk.lock().await;
        let bytes = match read(&*disk, &place).await {
            Some(bytes) if ShardId::of(&bytes) == id => bytes,
            _ => {
                self.discard(&disk, place, len).await;
                return None;
            }
        };
        let mut state = self.lock();
        if state.by_place.contains_key(&place) {
            state.touch(place, bytes.len() as u64);
        }
        Some(bytes)
    }

    /// Keeps a bucket's shard that was checked against its id, where there is room for it at all.
    pub async fn put(&self, bucket: &[u8; 32], id: ShardId, shard: Bytes) {
        let (place, len) = (place(bucket, &id), shard.len() as u64);
        if room(len) > self.bytes_max || self.holds(bucket, &id) {
            return;
        }
        let disk = self.disk.lock().await;
        if !self.make_room(&disk, room(len)).await {
            return;
        }
        let written = async {
            let (blob, before) = disk.open(PARTITION, &place).await?;
            if before > 0 {
                blob.resize(0).await?;
            }
            blob.write_at(0, shard.to_vec(), WriteOptions::default()).await
        };
        if let Err(error) = written.await {
            tracing::debug!(%error, %id, "a shard is not kept");
            self.discard(&disk, place, len).await;
            return;
        }
        self.lock().touch(place, len);
    }

    /// Whether there is room for so many bytes now.
    async fn make_room(&self, disk: &E, bytes: u64) -> bool {
        loop {
            let (oldest, len) = {
                let state = self.lock();
                let is_full = state.bytes + bytes > self.bytes_max || state.by_place.len() >= self.shards_max;
                let oldest = state.by_use.first_key_value().map(|(_, place)| *place).filter(|_| is_full);
                let Some(oldest) = oldest else { return true };
                (oldest, state.by_place.get(&oldest).map_or(0, |(_, len)| *len))
            };
            if !self.discard(disk, oldest, len).await {
                return false;
            }
        }
    }

    /// Lets go of one. What the disk does not let go of still counts, as used just now: others are tried before it again.
    async fn discard(&self, disk: &E, place: Place, len: u64) -> bool {
        let removed = disk.remove(PARTITION, Some(&place)).await;
        if let Err(error) = &removed {
            tracing::debug!(%error, "a shard could not be let go of");
        }
        // One that is not there is gone.
        let is_gone = matches!(removed, Ok(()) | Err(Error::BlobMissing(..) | Error::PartitionMissing(_)));
        let mut state = self.lock();
        if is_gone {
            state.forget(&place)
        } else {
            state.touch(place, len)
        }
        is_gone
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no panic under this lock")
    }
}

async fn read(disk: &impl Storage, place: &Place) -> Option<Bytes> {
    let (blob, len) = disk.open(PARTITION, place).await.ok()?;
    check_length(len).ok()?;
    let mut bytes = blob.read_at(0, len as usize, ReadOptions::default()).await.ok()?;
    Some(bytes.copy_to_bytes(len as usize))
}
