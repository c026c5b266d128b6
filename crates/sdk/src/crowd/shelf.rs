//! Keep sealed shards on disk, the least used pushed out first.
//!
//! One blob for each, named by its id. What is read back is hashed as a whole before it is given, and forgotten if it is
//! another: a disk that tore or lost it costs a question, never a byte, and so nothing here is synced. After a restart
//! everything counts as used at the same time.

use bytes::Bytes;
use commonware_runtime::{Blob as _, Buf as _, ReadOptions, Storage, WriteOptions};
use hodei_types::slice::{ShardId, check_length};
use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard},
};

/// Where the blobs are.
const PARTITION: &str = "crowd";
/// Shards at most, however small.
const SHARDS_MAX: usize = 65_536;
/// A shard takes up so much at least: blocks of its file and its name.
const SHARD_BYTES_MIN: u64 = 4096;

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
    bytes: u64,
    /// When each was used last, and its bytes.
    by_id: BTreeMap<ShardId, (u64, u64)>,
    by_use: BTreeMap<u64, ShardId>,
}

impl State {
    fn touch(&mut self, id: ShardId, bytes: u64) {
        self.forget(&id);
        self.uses += 1;
        self.bytes += bytes;
        self.by_id.insert(id, (self.uses, bytes));
        self.by_use.insert(self.uses, id);
    }

    fn forget(&mut self, id: &ShardId) {
        if let Some((used, bytes)) = self.by_id.remove(id) {
            self.by_use.remove(&used);
            self.bytes -= bytes;
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
                let id = <[u8; 32]>::try_from(name.as_slice()).map(ShardId);
                let len = disk.open(PARTITION, &name).await.map_or(0, |(_, len)| len);
                match id {
                    Ok(id) if check_length(len).is_ok() => shelf.lock().touch(id, len.max(SHARD_BYTES_MIN)),
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

    /// Whether it seems to be kept.
    pub fn holds(&self, id: &ShardId) -> bool {
        self.lock().by_id.contains_key(id)
    }

    /// Bytes that are kept, and of how many shards.
    pub fn size(&self) -> (u64, usize) {
        let state = self.lock();
        (state.bytes, state.by_id.len())
    }

    /// A shard as it was kept.
    pub async fn get(&self, id: ShardId) -> Option<Bytes> {
        if !self.holds(&id) {
            return None;
        }
        let disk = self.disk.lock().await;
        let bytes = match read(&*disk, &id).await {
            Some(bytes) if ShardId::of(&bytes) == id => bytes,
            _ => {
                self.lock().forget(&id);
                let _ = disk.remove(PARTITION, Some(&id.0)).await;
                return None;
            }
        };
        let mut state = self.lock();
        if state.by_id.contains_key(&id) {
            state.touch(id, (bytes.len() as u64).max(SHARD_BYTES_MIN));
        }
        Some(bytes)
    }

    /// Keeps a shard that was checked against its id, where there is room for it at all.
    pub async fn put(&self, id: ShardId, shard: Bytes) {
        let bytes = (shard.len() as u64).max(SHARD_BYTES_MIN);
        if bytes > self.bytes_max || self.holds(&id) {
            return;
        }
        let disk = self.disk.lock().await;
        self.make_room(&disk, bytes).await;
        let written = async {
            let (blob, len) = disk.open(PARTITION, &id.0).await?;
            if len > 0 {
                blob.resize(0).await?;
            }
            blob.write_at(0, shard.to_vec(), WriteOptions::default()).await
        };
        if let Err(error) = written.await {
            tracing::debug!(%error, %id, "a shard is not kept");
            let _ = disk.remove(PARTITION, Some(&id.0)).await;
            return;
        }
        self.lock().touch(id, bytes);
    }

    async fn make_room(&self, disk: &E, bytes: u64) {
        loop {
            let oldest = {
                let mut state = self.lock();
                let is_full = state.bytes + bytes > self.bytes_max || state.by_id.len() >= self.shards_max;
                let Some(oldest) = state.by_use.first_key_value().map(|(_, id)| *id).filter(|_| is_full) else {
                    return;
                };
                state.forget(&oldest);
                oldest
            };
            let _ = disk.remove(PARTITION, Some(&oldest.0)).await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no panic under this lock")
    }
}

async fn read(disk: &impl Storage, id: &ShardId) -> Option<Bytes> {
    let (blob, len) = disk.open(PARTITION, &id.0).await.ok()?;
    check_length(len).ok()?;
    let mut bytes = blob.read_at(0, len as usize, ReadOptions::default()).await.ok()?;
    Some(bytes.copy_to_bytes(len as usize))
}
