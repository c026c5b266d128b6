//! Hold an ordered cache in redb, on a thread of its own.
//!
//! redb blocks, so one thread owns the database and answers requests in order. A file that cannot be
//! opened, or that another version wrote, is deleted: it is a cache, and its owner fills it again.

use hodei_types::index::{Change, Index, IndexError};
use redb::{Database, Durability, ReadableDatabase, TableDefinition};
use std::{
    path::{Path, PathBuf},
    sync::mpsc,
};
use tokio::sync::oneshot;

const TABLE: TableDefinition<'static, &'static [u8], &'static [u8]> = TableDefinition::new("v1");
/// Requests waiting for the thread; senders block beyond it, which is the back pressure of a slow disk.
const QUEUE_MAX: usize = 1024;

type Answer<T> = oneshot::Sender<Result<T, IndexError>>;
type Entries = Vec<(Vec<u8>, Vec<u8>)>;

enum Request {
    Get { key: Vec<u8>, answer: Answer<Option<Vec<u8>>> },
    Range { from: Vec<u8>, to: Vec<u8>, limit: usize, answer: Answer<Entries> },
    Apply { changes: Vec<Change>, durable: bool, answer: Answer<()> },
}

/// The index; clones share it, the last one's drop ends the thread and makes everything durable.
#[derive(Clone, Debug)]
pub struct Redb(mpsc::SyncSender<Request>);

impl Redb {
    /// Opens or creates `path`, and keeps so many bytes of its pages in memory; second value: it was there and readable.
    pub fn open(path: &Path, cache_bytes: usize) -> Result<(Self, bool), IndexError> {
        let existed = path.exists();
        let (database, kept) = match create(path, cache_bytes) {
            Ok(database) => (database, existed),
            Err(error) if existed => {
                tracing::warn!(path = %path.display(), %error, "index discarded, it will be built again");
                std::fs::remove_file(path).map_err(|error| wrong(&error))?;
                (create(path, cache_bytes)?, false)
            }
            Err(error) => return Err(error),
        };
        let (sender, requests) = mpsc::sync_channel(QUEUE_MAX);
        let path: PathBuf = path.into();
        std::thread::Builder::new()
            .name("index".into())
            .spawn(move || answer_all(&database, &requests, &path))
            .map_err(|error| wrong(&error))?;
        Ok((Self(sender), kept))
    }

    async fn ask<T>(&self, request: impl FnOnce(Answer<T>) -> Request) -> Result<T, IndexError> {
        let (answer, answered) = oneshot::channel();
        let mut request = request(answer);
        loop {
            match self.0.try_send(request) {
                Ok(()) => break,
                Err(mpsc::TrySendError::Full(back)) => {
                    request = back;
                    tokio::time::sleep(std::time::Duration::from_millis(1)).await;
                }
                Err(mpsc::TrySendError::Disconnected(_)) => return Err(ended()),
            }
        }
        answered.await.unwrap_or_else(|_| Err(ended()))
    }
}

impl Index for Redb {
    async fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, IndexError> {
        let key = key.to_vec();
        self.ask(|answer| Request::Get { key, answer }).await
    }

    async fn range(&self, from: &[u8], to: &[u8], limit: usize) -> Result<Entries, IndexError> {
        let (from, to) = (from.to_vec(), to.to_vec());
        self.ask(|answer| Request::Range { from, to, limit, answer }).await
    }

    async fn apply(&self, changes: Vec<Change>, durable: bool) -> Result<(), IndexError> {
        self.ask(|answer| Request::Apply { changes, durable, answer }).await
    }
}

fn wrong(error: &dyn std::fmt::Display) -> IndexError {
    IndexError(error.to_string())
}

fn ended() -> IndexError {
    IndexError("its thread ended".into())
}

fn create(path: &Path, cache_bytes: usize) -> Result<Database, IndexError> {
    let database = Database::builder().set_cache_size(cache_bytes).create(path).map_err(|error| wrong(&error))?;
    // The table exists from here on, so that reads need not tell "empty" from "not yet there".
    let create = || -> Result<(), redb::Error> {
        let write = database.begin_write()?;
        write.open_table(TABLE)?;
        write.commit()?;
        Ok(())
    };
    create().map_err(|error| wrong(&error))?;
    Ok(database)
}

fn answer_all(database: &Database, requests: &mpsc::Receiver<Request>, path: &Path) {
    // An asker that went away does not want the answer: failed sends are ignored.
    while let Ok(request) = requests.recv() {
        match request {
            Request::Get { key, answer } => {
                let _ = answer.send(get(database, &key).map_err(|error| wrong(&error)));
            }
            Request::Range { from, to, limit, answer } => {
                let _ = answer.send(range(database, &from, &to, limit).map_err(|error| wrong(&error)));
            }
            Request::Apply { changes, durable, answer } => {
                let _ = answer.send(apply(database, &changes, durable).map_err(|error| wrong(&error)));
            }
        }
    }
    if let Err(error) = apply(database, &[], true) {
        tracing::warn!(path = %path.display(), %error, "index not written at the end");
    }
}

fn get(database: &Database, key: &[u8]) -> Result<Option<Vec<u8>>, redb::Error> {
    let table = database.begin_read()?.open_table(TABLE)?;
    Ok(table.get(key)?.map(|value| value.value().to_vec()))
}

fn range(database: &Database, from: &[u8], to: &[u8], limit: usize) -> Result<Entries, redb::Error> {
    let table = database.begin_read()?.open_table(TABLE)?;
    let mut entries = Vec::new();
    if !to.is_empty() && from >= to {
        return Ok(entries);
    }
    for entry in table.range(from..)?.take(limit) {
        let (key, value) = entry?;
        if !to.is_empty() && key.value() >= to {
            break;
        }
        entries.push((key.value().to_vec(), value.value().to_vec()));
    }
    Ok(entries)
}

fn apply(database: &Database, changes: &[Change], durable: bool) -> Result<(), redb::Error> {
    let mut write = database.begin_write()?;
    write.set_durability(if durable { Durability::Immediate } else { Durability::None })?;
    {
        let mut table = write.open_table(TABLE)?;
        for (key, value) in changes {
            match value {
                Some(value) => table.insert(key.as_slice(), value.as_slice())?,
                None => table.remove(key.as_slice())?,
            };
        }
    }
    write.commit()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    const CACHE_BYTES: usize = 1 << 20;
    use super::*;
    use crate::scratch::Scratch;
    use hodei_types::index::Ordered;

    fn changes(numbers: impl Iterator<Item = u32>) -> Vec<Change> {
        numbers.map(|n| (n.to_be_bytes().to_vec(), (n % 7 != 0).then(|| vec![n as u8; 40]))).collect()
    }

    #[tokio::test]
    async fn answers_as_the_map_in_memory_does() {
        let scratch = Scratch::new("redb");
        let (redb, kept) = Redb::open(&scratch.path().join("index"), CACHE_BYTES).unwrap();
        assert!(!kept);
        let map = Ordered::default();
        for round in 0..5u32 {
            let batch = changes((round * 30)..(round * 30 + 60));
            redb.apply(batch.clone(), false).await.unwrap();
            map.apply(batch, false).await.unwrap();
        }
        let removed = vec![(40u32.to_be_bytes().to_vec(), None)];
        redb.apply(removed.clone(), true).await.unwrap();
        map.apply(removed, true).await.unwrap();
        let bound = |n: u32| n.to_be_bytes().to_vec();
        for (from, to, limit) in
            [(vec![], vec![], 1000), (bound(10), bound(50), 1000), (bound(10), vec![], 5), (bound(50), bound(10), 10)]
        {
            let (ours, theirs) = (redb.range(&from, &to, limit).await, map.range(&from, &to, limit).await);
            assert_eq!(ours.unwrap(), theirs.unwrap());
        }
        assert_eq!(redb.get(&bound(41)).await.unwrap(), Some(vec![41; 40]));
        assert_eq!(redb.get(&bound(40)).await.unwrap(), None);
    }

    #[tokio::test]
    async fn durable_batches_outlive_the_process_and_damage_means_empty() {
        let scratch = Scratch::new("redb-again");
        let path = scratch.path().join("index");
        {
            let (redb, _) = Redb::open(&path, CACHE_BYTES).unwrap();
            redb.apply(changes(1..3), true).await.unwrap();
            // A copy of the file, taken while the process is alive, is what a crash leaves behind.
            std::fs::copy(&path, scratch.path().join("crashed")).unwrap();
        }
        let (redb, kept) = Redb::open(&scratch.path().join("crashed"), CACHE_BYTES).unwrap();
        assert!(kept);
        assert_eq!(redb.range(&[], &[], 10).await.unwrap().len(), 2);

        std::fs::write(scratch.path().join("damaged"), b"not a database").unwrap();
        let (redb, kept) = Redb::open(&scratch.path().join("damaged"), CACHE_BYTES).unwrap();
        assert!(!kept, "whoever owns it must fill it again");
        assert!(redb.range(&[], &[], 10).await.unwrap().is_empty());
    }
}
