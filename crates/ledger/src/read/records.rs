//! Keep records of finalized blocks on disk, so that receipts survive a restart.
//!
//! Upon a finalized block, its record is on disk before its state is: a node that dies in between writes it again
//! when it returns, so that no block is missing between others, for then all before it could not be found. A
//! failing disk stops the node, as everywhere in the ledger.

use bytes::Bytes;
use commonware_codec::RangeCfg;
use commonware_runtime::buffer::paged::CacheRef;
use commonware_storage::{
    Context as Storage,
    archive::{Archive as _, Identifier, prunable},
    translator::EightCap,
};
use commonware_utils::{NZUsize, sequence::U64};
use futures::{FutureExt as _, future::BoxFuture, lock::Mutex};
use std::num::{NonZeroU16, NonZeroU64, NonZeroUsize};

use super::{Entry, record::RECORD_BYTES_MAX};
use crate::{
    genesis::Disk,
    state::{REPLAY_BUFFER, WRITE_BUFFER},
};

const CACHE_PAGES: NonZeroUsize = NZUsize!(256);

/// Where records are kept.
pub trait Keep: Send + Sync + 'static {
    /// All that is kept, oldest first, at most the newest `most`.
    fn restore(&self, most: usize) -> BoxFuture<'_, Vec<Entry>>;
    /// Writes the record of one height, and waits for the disk. A height already there stays.
    fn put<'a>(&'a self, height: u64, record: &'a Entry) -> BoxFuture<'a, ()>;
    /// Forgets what is below `height`, as far as whole sections allow.
    fn prune(&self, height: u64) -> BoxFuture<'_, ()>;
}

type Archive<E> = prunable::Archive<EightCap, E, U64, Bytes>;

/// Records in an archive of the runtime's storage.
pub struct Records<E: Storage> {
    /// Empty only while a mutation runs, or after one failed.
    archive: Mutex<Option<Archive<E>>>,
}

const FAILED: &str = "the archive of records failed";

impl<E: Storage> Records<E> {
    /// Opens the partitions beginning with `prefix`.
    pub async fn open(context: E, prefix: &str, disk: &Disk) -> Self {
        let page_bytes = NonZeroU16::new(disk.page_bytes).expect("a checked genesis has pages");
        let config = prunable::Config {
            translator: EightCap,
            metadata_partition: format!("{prefix}-records-metadata"),
            key_partition: format!("{prefix}-records-key"),
            key_page_cache: CacheRef::new(page_bytes, CACHE_PAGES),
            value_partition: format!("{prefix}-records-value"),
            compression: None,
            codec_config: RangeCfg::new(0..=RECORD_BYTES_MAX),
            items_per_section: NonZeroU64::new(disk.section_items).expect("a checked genesis has sections"),
            key_write_buffer: WRITE_BUFFER,
            value_write_buffer: WRITE_BUFFER,
            replay_buffer: REPLAY_BUFFER,
        };
        let archive = prunable::Archive::init(context, config).await.expect("the archive of records does not open");
        Self { archive: Mutex::new(Some(archive)) }
    }
}

impl<E: Storage + Sync> Keep for Records<E> {
    fn restore(&self, most: usize) -> BoxFuture<'_, Vec<Entry>> {
        async move {
            let archive = self.archive.lock().await;
            let archive = archive.as_ref().expect(FAILED);
            let Some(last) = archive.last_index() else { return Vec::new() };
            // Only the last contiguous run: what lies before a gap was superseded by a state sync.
            let run = archive.ranges().last().map_or(last, |(start, _)| start);
            let first = run.max((last + 1).saturating_sub(most as u64));
            let mut entries = Vec::new();
            for height in first..=last {
                let bytes = archive.get(Identifier::Index(height)).await.expect(FAILED);
                match bytes.as_deref().map(Entry::decode) {
                    Some(Ok(entry)) => entries.push(entry),
                    // Written by another version: the run begins after it.
                    _ => entries.clear(),
                }
            }
            entries
        }
        .boxed()
    }

    fn put<'a>(&'a self, height: u64, record: &'a Entry) -> BoxFuture<'a, ()> {
        async move {
            let bytes = Bytes::from(record.encode());
            let mut slot = self.archive.lock().await;
            let archive = slot.take().expect(FAILED);
            let key = U64::new(height);
            *slot = Some(archive.put_sync(height, key, &bytes).await.expect(FAILED));
        }
        .boxed()
    }

    fn prune(&self, height: u64) -> BoxFuture<'_, ()> {
        async move {
            let mut slot = self.archive.lock().await;
            let archive = slot.take().expect(FAILED);
            *slot = Some(archive.prune(height).await.expect(FAILED));
        }
        .boxed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloy_consensus::Header;
    use commonware_runtime::{Runner as _, Supervisor as _, deterministic};
    use hodei_types::ethereum::Record;
    use std::sync::Arc;

    const DISK: Disk = Disk { page_bytes: 1012, section_items: 4 };

    fn entry(number: u64) -> Entry {
        let header = Header { number, ..Header::default() };
        let record = Record { hash: header.hash_slow(), header, size: 1, txs: Vec::new() };
        Entry { record: Arc::new(record), anchors: Vec::new(), preimage: Default::default() }
    }

    fn heights(entries: &[Entry]) -> Vec<u64> {
        entries.iter().map(|entry| entry.record.header.number).collect()
    }

    #[test]
    fn records_survive_an_unclean_death() {
        let first = deterministic::Runner::default();
        let (_, checkpoint) = first.start_and_recover(|context| async move {
            let records = Records::open(context.child("records"), "t", &DISK).await;
            for height in [1, 2, 7, 8, 9, 10, 11] {
                records.put(height, &entry(height)).await;
            }
            records.put(11, &entry(99)).await;
        });
        deterministic::Runner::from(checkpoint).start(|context| async move {
            let records = Records::open(context.child("records"), "t", &DISK).await;
            assert_eq!(heights(&records.restore(100).await), [7, 8, 9, 10, 11]);
            assert_eq!(heights(&records.restore(2).await), [10, 11]);
            records.prune(9).await;
            assert_eq!(heights(&records.restore(100).await), [8, 9, 10, 11]);
        });
    }
}
