//! The store on a disk that fills up beneath its pledge.

use super::{
    tests::{MIB, check_proofs, shard, signer},
    *,
};
use commonware_runtime::{
    Blob, BlobVersion, Handle, IoBufs, IoBufsMut, ReadOptions, Runner as _, Supervisor as _, WriteOptions,
    deterministic::{Context, Runner},
};
use futures::future::{join_all, select};
use hodei_types::index::Ordered;
use std::{io, ops::RangeInclusive, pin::pin};

/// Bytes that may yet be written, over all files.
type Room = Arc<AtomicU64>;

#[derive(Clone)]
struct Cramped<E>(Arc<E>, Room);

struct File<B>(B, Room);

impl<E: Storage> Storage for Cramped<E> {
    type Blob = File<E::Blob>;

    async fn open_versioned(
        &self,
        partition: &str,
        name: &[u8],
        versions: RangeInclusive<BlobVersion>,
    ) -> Result<(Self::Blob, u64, BlobVersion), RuntimeError> {
        let (blob, len, version) = self.0.open_versioned(partition, name, versions).await?;
        Ok((File(blob, self.1.clone()), len, version))
    }

    async fn remove(&self, partition: &str, name: Option<&[u8]>) -> Result<(), RuntimeError> {
        self.0.remove(partition, name).await
    }

    async fn scan(&self, partition: &str) -> Result<Vec<Vec<u8>>, RuntimeError> {
        self.0.scan(partition).await
    }
}

impl<B: Blob> Blob for File<B> {
    async fn read_at_buf(
        &self,
        offset: u64,
        len: usize,
        bufs: impl Into<IoBufsMut> + Send,
        options: ReadOptions,
    ) -> Result<IoBufsMut, RuntimeError> {
        self.0.read_at_buf(offset, len, bufs, options).await
    }

    async fn read_at(&self, offset: u64, len: usize, options: ReadOptions) -> Result<IoBufsMut, RuntimeError> {
        self.0.read_at(offset, len, options).await
    }

    /// As much as there is room for, and then the error a full disk gives.
    async fn write_at(
        &self,
        offset: u64,
        bufs: impl Into<IoBufs> + Send,
        options: WriteOptions,
    ) -> Result<(), RuntimeError> {
        let bytes = bufs.into().coalesce();
        let room = self.1.load(Ordering::Acquire).min(bytes.len() as u64);
        self.1.fetch_sub(room, Ordering::AcqRel);
        self.0.write_at(offset, bytes.slice(..room as usize), options).await?;
        if room < bytes.len() as u64 { Err(io::Error::from(io::ErrorKind::StorageFull).into()) } else { Ok(()) }
    }

    async fn resize(&self, len: u64) -> Result<(), RuntimeError> {
        self.0.resize(len).await
    }

    async fn sync(&self) -> Result<(), RuntimeError> {
        self.0.sync().await
    }

    async fn start_sync(&self) -> Handle<()> {
        self.0.start_sync().await
    }
}

const LEN: usize = 64 * 1024;

async fn opened<T>(context: &Context, room: &Room, body: impl AsyncFnOnce(Store<Cramped<Context>, Ordered>) -> T) -> T {
    let storage = Cramped(Arc::new(context.child("store")), room.clone());
    let (store, writer) =
        Store::open(storage, Config::new("shards", 64 * MIB, 9), signer(), Ordered::default()).await.unwrap();
    let keep = store.clone();
    let out = match select(pin!(body(store)), pin!(writer.run())).await {
        futures::future::Either::Left((out, _)) => out,
        futures::future::Either::Right(_) => panic!("a full disk stopped the store"),
    };
    drop(keep);
    out
}

async fn put(store: &Store<Cramped<Context>, Ordered>, i: u32) -> Result<Held, StoreError> {
    let bytes = shard(i, LEN);
    store.put(7, ShardId::of(&bytes), [5; 16], bytes).await
}

#[test]
fn a_full_disk_refuses_puts_keeps_what_is_acknowledged_and_takes_more_once_there_is_room() {
    Runner::default().start(|context| async move {
        // One batch and a half; the second is torn in the middle of a record.
        let room = Room::new(AtomicU64::new(90 * LEN as u64 + 12_345));
        let (mut held, mut refused) = (Vec::new(), Vec::new());
        opened(&context, &room, async |store| {
            for (i, outcome) in join_all((0..128).map(|i| put(&store, i))).await.into_iter().enumerate() {
                match outcome {
                    Ok(_) => held.push(i as u32),
                    Err(StoreError::Full { .. }) => refused.push(i as u32),
                    Err(other) => panic!("{other}"),
                }
            }
            assert!(held.len() >= 32 && refused.len() >= 32, "{} held, {} refused", held.len(), refused.len());
            check_proofs(&store, 7, 13).await;
        })
        .await;
        // What the torn batch left is not taken for shards, by a store that knows nothing but its segments.
        opened(&context, &room, async |store| {
            let ids = |which: &[u32]| which.iter().map(|i| ShardId::of(&shard(*i, LEN))).collect::<Vec<_>>();
            assert!(store.has(7, &ids(&held)).await.unwrap().into_iter().all(|has| has));
            assert!(!store.has(7, &ids(&refused)).await.unwrap().into_iter().any(|has| has));
            room.store(u64::MAX / 2, Ordering::Release);
            for i in &refused {
                put(&store, *i).await.unwrap();
            }
            check_proofs(&store, 7, 13).await;
        })
        .await;
    });
}
