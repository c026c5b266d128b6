//! Pay by a pass's tab for what is read, and remember how far over processes.
//!
//! Each provider that a tab pays has a small file: two slots of 40 bytes, written in turn, so that a torn one leaves the
//! other. A slot is number u64 ‖ received u64 ‖ lost u64 ‖ own u32 ‖ revealed u32 ‖ 8 bytes of their hash, big-endian.
//! What a tab pays to whom is in one more file, 8 bytes of the hash and the fares: the record that says it is read from
//! the very providers, and one that is owed something gives it to no new process before it is paid.

use crate::{
    cloud::{Cloud, Runtime},
    fault::Fault,
};
use alloy_primitives::B256;
use commonware_runtime::{Blob as _, Buf as _, IoBuf, ReadOptions, Storage, WriteOptions};
use futures::{FutureExt as _, future::BoxFuture, lock::Mutex};
use hodei_storage::{
    engine::{Count, Meter, Provider, Till},
    share::{Fare, read_fares, write_fares},
};
use hodei_types::{
    share::Purse,
    tab::{Chain, Leaf, Opening, Tree},
    transport::{NodeKey, Transport},
};
use std::{collections::BTreeMap, sync::Arc};

/// The folder of a process's store that counts are in.
const PARTITION: &str = "ticks";
const SLOT_BYTES: usize = 40;
/// Meters of one process; with more those that nobody uses are read from their files again.
const METERS_MAX: usize = 4096;
/// More than the fares of 1,024 leaves take.
const FARES_BYTES_MAX: usize = 64 << 10;

/// Meters by tab and provider; held while files are opened, so that none is opened twice.
pub(crate) type Meters = Mutex<Known>;
type Known = BTreeMap<(B256, NodeKey), Arc<Meter>>;

/// One provider's file.
struct Slate<B>(Mutex<(B, u64)>);

fn slot(number: u64, count: &Count) -> [u8; SLOT_BYTES] {
    let mut out = [0; SLOT_BYTES];
    out[..8].copy_from_slice(&number.to_be_bytes());
    out[8..16].copy_from_slice(&count.received.to_be_bytes());
    out[16..24].copy_from_slice(&count.lost.to_be_bytes());
    out[24..28].copy_from_slice(&count.own.to_be_bytes());
    out[28..32].copy_from_slice(&count.revealed.to_be_bytes());
    let hash = blake3::hash(&out[..32]);
    out[32..].copy_from_slice(&hash.as_bytes()[..8]);
    out
}

fn read_slot(bytes: &[u8; SLOT_BYTES]) -> Option<(u64, Count)> {
    let long = |at: usize| u64::from_be_bytes(bytes[at..at + 8].try_into().expect("8 bytes"));
    let short = |at: usize| u32::from_be_bytes(bytes[at..at + 4].try_into().expect("4 bytes"));
    let count = Count { received: long(8), lost: long(16), own: short(24), revealed: short(28) };
    let number = long(0);
    (slot(number, &count) == *bytes).then_some((number, count))
}

impl<B> Slate<B> {
    /// What was counted last, and where to go on.
    async fn open<E: Storage<Blob = B>>(
        storage: &E,
        name: &[u8; 32],
    ) -> Result<(Self, Count), commonware_runtime::Error>
    where
        B: commonware_runtime::Blob,
    {
        let (blob, len) = storage.open(PARTITION, name).await?;
        let len = usize::try_from(len).unwrap_or(0).min(2 * SLOT_BYTES);
        let mut read = blob.read_at(0, len, ReadOptions::default()).await?.freeze();
        let bytes = read.copy_to_bytes(len);
        let (slots, _) = bytes.as_chunks::<SLOT_BYTES>();
        let newest = slots.iter().filter_map(read_slot).max_by_key(|(number, _)| *number);
        let (number, count) = newest.unwrap_or_default();
        Ok((Self(Mutex::new((blob, number))), count))
    }
}

impl<B: commonware_runtime::Blob> Till for Slate<B> {
    fn keep(&self, count: Count) -> BoxFuture<'_, Result<(), String>> {
        async move {
            let mut slate = self.0.lock().await;
            let number = slate.1 + 1;
            let bytes = IoBuf::from(slot(number, &count).to_vec());
            let at = number % 2 * SLOT_BYTES as u64;
            let written = slate.0.write_at(at, bytes, WriteOptions::default()).await;
            written.map_err(|error| error.to_string())?;
            slate.0.sync().await.map_err(|error| error.to_string())?;
            slate.1 = number;
            Ok(())
        }
        .boxed()
    }
}

/// Leaves of each provider, with their chains: they follow from the seed and from what all passes of a share pay.
fn leaves(purse: &Purse, fares: &[Fare]) -> Option<BTreeMap<NodeKey, Vec<(Opening, Chain)>>> {
    let chain =
        |(number, fare): (u32, &Fare)| Chain::prepare(&purse.seed, purse.tab, fare.node.0.into(), number, fare.ticks);
    let chains: Vec<Chain> = (0..).zip(fares).map(chain).collect::<Option<_>>()?;
    let leaf = |(fare, chain): (&Fare, &Chain)| Leaf {
        provider: fare.node.0.into(),
        anchor: chain.anchor(),
        ticks: fare.ticks,
        price: fare.price,
    };
    let tree = Tree::build(fares.iter().zip(&chains).map(leaf).collect()).ok()?;
    let mut of: BTreeMap<NodeKey, Vec<(Opening, Chain)>> = BTreeMap::new();
    for ((number, fare), chain) in (0..).zip(fares).zip(chains) {
        of.entry(fare.node).or_default().push((tree.opening(number)?, chain));
    }
    Some(of)
}

fn fares_name(tab: &B256) -> [u8; 32] {
    *blake3::hash(&[&b"fares"[..], tab.as_slice()].concat()).as_bytes()
}

/// What a tab pays, as an opening before this one learned it; none where none did.
async fn kept_fares<E: Storage>(storage: &E, tab: &B256) -> Result<Vec<Fare>, commonware_runtime::Error> {
    let (blob, len) = storage.open(PARTITION, &fares_name(tab)).await?;
    let len = usize::try_from(len).unwrap_or(usize::MAX).min(FARES_BYTES_MAX);
    let mut read = blob.read_at(0, len, ReadOptions::default()).await?.freeze();
    let bytes = read.copy_to_bytes(len);
    let Some((hash, body)) = bytes.split_first_chunk::<8>() else { return Ok(Vec::new()) };
    let is_whole = blake3::hash(body).as_bytes()[..8] == *hash;
    Ok(read_fares(body).ok().filter(|_| is_whole).unwrap_or_default())
}

async fn keep_fares<E: Storage>(storage: &E, tab: &B256, fares: &[Fare]) -> Result<(), commonware_runtime::Error> {
    let Ok(body) = write_fares(fares) else { return Ok(()) };
    let bytes = [&blake3::hash(&body).as_bytes()[..8], &body].concat();
    let (blob, _) = storage.open(PARTITION, &fares_name(tab)).await?;
    blob.resize(bytes.len() as u64).await?;
    blob.write_at(0, IoBuf::from(bytes), WriteOptions::default()).await?;
    blob.sync().await
}

/// Lets go of meters that nobody uses, once there are many; where each is stays on disk.
async fn make_room(meters: &mut Known) -> Result<(), String> {
    if meters.len() < METERS_MAX {
        return Ok(());
    }
    let idle = meters.iter().filter(|(_, meter)| Arc::strong_count(meter) == 1);
    let idle: Vec<_> = idle.map(|(key, meter)| (*key, meter.clone())).collect();
    for (key, meter) in idle {
        meter.keep().await?;
        meters.remove(&key);
    }
    Ok(())
}

impl<E: Runtime, T: Transport> Cloud<E, T> {
    /// Has what these providers give under a pass counted and paid by its tab.
    pub(super) async fn meter(&self, purse: &Purse, roster: &mut [Provider]) -> Result<(), Fault> {
        let local = |error: String| Fault::Local(format!("what was paid: {error}"));
        let mut meters = self.0.meters.lock().await;
        for provider in roster.iter_mut() {
            let key = (purse.tab, provider.peer.key);
            if let Some(meter) = meters.get(&key) {
                provider.meter = Some(meter.clone());
                continue;
            }
            make_room(&mut meters).await.map_err(local)?;
            let name = blake3::hash(&[purse.tab.as_slice(), &key.1.0].concat());
            let opened = Slate::open(&self.0.context, name.as_bytes()).await;
            let (slate, count) = opened.map_err(|error| local(error.to_string()))?;
            let made = Arc::new(Meter::new(purse.tab.0, count, Arc::new(slate)));
            meters.insert(key, made.clone());
            provider.meter = Some(made);
        }
        if is_known(roster) {
            return Ok(());
        }
        let kept = kept_fares(&self.0.context, &purse.tab).await;
        drop(meters);
        let fares = kept.map_err(|error| local(error.to_string()))?;
        if !fares.is_empty() {
            self.know_fares(purse, fares, roster).await?;
        }
        Ok(())
    }

    /// From now on these are paid, by what the record says of the tab.
    pub(super) async fn learn_fares(&self, purse: &Purse, fares: Vec<Fare>, roster: &[Provider]) -> Result<(), Fault> {
        if is_known(roster) {
            return Ok(());
        }
        self.know_fares(purse, fares.clone(), roster).await?;
        let _meters = self.0.meters.lock().await;
        if let Err(error) = keep_fares(&self.0.context, &purse.tab, &fares).await {
            tracing::warn!(%error, "what a tab pays is not written down");
        }
        Ok(())
    }

    async fn know_fares(&self, purse: &Purse, fares: Vec<Fare>, roster: &[Provider]) -> Result<(), Fault> {
        let (purse, making) = (*purse, self.0.context.child("chains").shared(true));
        let made = making.spawn(move |_| async move { leaves(&purse, &fares) }).await;
        let wrong = Fault::Link("its record does not say what its tab pays");
        let mut of = made.map_err(|_| Fault::Local("the runtime is shutting down".into()))?.ok_or(wrong)?;
        for provider in roster {
            if let Some(meter) = &provider.meter {
                // Whom nothing pays is read from no further.
                meter.know(of.remove(&provider.peer.key).unwrap_or_default());
            }
        }
        Ok(())
    }

    /// Pays what is owed for what came, before the process ends.
    pub(crate) async fn settle_reads(&self) {
        let meters: Vec<Arc<Meter>> = self.0.meters.lock().await.values().cloned().collect();
        self.0.engine.settle(&meters).await;
    }
}

/// Whether each of them knows what pays it.
fn is_known(roster: &[Provider]) -> bool {
    roster.iter().filter_map(|provider| provider.meter.as_ref()).all(|meter| meter.is_known())
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloy_primitives::U256;
    use commonware_runtime::{Runner as _, deterministic};
    use hodei_types::tab::{TICKS_MAX, Tick, follows};
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[test]
    fn counts_return_and_a_torn_slot_leaves_the_one_before() {
        deterministic::Runner::default().start(|context| async move {
            let count = |at: u32| Count { received: u64::from(at) << 20, lost: 7, own: at, revealed: at + 1 };
            let (slate, found) = Slate::open(&context, &[1; 32]).await.unwrap();
            assert_eq!(found, Count::default());
            for at in 1..4 {
                slate.keep(count(at)).await.unwrap();
            }
            drop(slate);
            let (slate, found) = Slate::open(&context, &[1; 32]).await.unwrap();
            assert_eq!(found, count(3));
            // The third is in the second slot; a part of the fourth overwrites the first.
            let torn = IoBuf::from(slot(4, &count(4))[..20].to_vec());
            slate.0.lock().await.0.write_at(0, torn, WriteOptions::default()).await.unwrap();
            drop(slate);
            let (_, found) = Slate::open(&context, &[1; 32]).await.unwrap();
            assert_eq!(found, count(3));
            let (_, other) = Slate::open(&context, &[2; 32]).await.unwrap();
            assert_eq!(other, Count::default());
        });
    }

    /// Counts how often it was written to.
    #[derive(Default)]
    struct Disk(AtomicUsize);

    impl Till for Disk {
        fn keep(&self, _: Count) -> BoxFuture<'_, Result<(), String>> {
            self.0.fetch_add(1, Ordering::Relaxed);
            async { Ok(()) }.boxed()
        }
    }

    #[test]
    fn meters_in_use_stay_and_the_others_are_written_down() {
        deterministic::Runner::default().start(|_| async move {
            let disk = Arc::new(Disk::default());
            let key = |at: usize| (B256::from(U256::from(at)), NodeKey([1; 32]));
            let meter = || Arc::new(Meter::new([1; 32], Count::default(), disk.clone()));
            let mut meters: Known = (1..METERS_MAX).map(|at| (key(at), meter())).collect();
            let used = meters[&key(7)].clone();
            make_room(&mut meters).await.unwrap();
            assert_eq!((meters.len(), disk.0.load(Ordering::Relaxed)), (METERS_MAX - 1, 0));
            meters.insert(key(0), meter());
            make_room(&mut meters).await.unwrap();
            assert_eq!((meters.len(), disk.0.load(Ordering::Relaxed)), (1, METERS_MAX - 1));
            assert!(Arc::ptr_eq(&meters[&key(7)], &used));
        });
    }

    #[test]
    fn fares_return_and_what_is_damaged_is_none() {
        deterministic::Runner::default().start(|context| async move {
            let (tab, other) = (B256::repeat_byte(1), B256::repeat_byte(2));
            let fares = |count: u8| -> Vec<Fare> {
                (0..count).map(|node| Fare { node: NodeKey([node; 32]), ticks: 7, price: 9 }).collect()
            };
            assert_eq!(kept_fares(&context, &tab).await.unwrap(), []);
            // Fewer the second time: nothing of the first stays behind them.
            for count in [200, 3] {
                keep_fares(&context, &tab, &fares(count)).await.unwrap();
                assert_eq!(kept_fares(&context, &tab).await.unwrap(), fares(count));
            }
            assert_eq!(kept_fares(&context, &other).await.unwrap(), []);
            let (blob, len) = context.open(PARTITION, &fares_name(&tab)).await.unwrap();
            blob.resize(len - 1).await.unwrap();
            blob.sync().await.unwrap();
            drop(blob);
            assert_eq!(kept_fares(&context, &tab).await.unwrap(), []);
        });
    }

    #[test]
    fn a_reader_makes_the_very_tab_that_was_opened() {
        let purse = Purse { tab: B256::repeat_byte(5), seed: [6; 32], flags: 0 };
        let fare = |node: u8, ticks| Fare { node: NodeKey([node; 32]), ticks, price: 9 };
        let of = leaves(&purse, &[fare(1, 70), fare(2, TICKS_MAX), fare(2, 3)]).unwrap();
        assert_eq!(of[&NodeKey([2; 32])].len(), 2);
        let (first, chain) = &of[&NodeKey([1; 32])][0];
        let roots: Vec<_> = of
            .values()
            .flatten()
            .map(|(opening, _)| hodei_types::tab::fold(&opening.leaf, opening.number, &opening.path).unwrap())
            .collect();
        assert!(roots.windows(2).all(|pair| pair[0] == pair[1]), "all are of one tree");
        let anchor = Tick { index: 0, value: first.leaf.anchor };
        assert_eq!(follows(purse.tab, first.leaf.provider, &anchor, &chain.tick(70).unwrap(), 70), Ok(()));
        assert!(leaves(&purse, &[]).is_none());
    }
}
