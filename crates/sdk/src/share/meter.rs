//! Pay by a pass's tab for what is read, and remember how far over processes.
//!
//! Each provider that a tab pays has a small file: two slots of 40 bytes, written in turn, so that a torn one leaves the
//! other. A slot is number u64 ‖ received u64 ‖ lost u64 ‖ own u32 ‖ revealed u32 ‖ 8 bytes of their hash, big-endian.

use crate::{
    cloud::{Cloud, Runtime},
    fault::Fault,
};
use alloy_primitives::B256;
use commonware_runtime::{Buf as _, IoBuf, ReadOptions, Storage, WriteOptions};
use futures::{FutureExt as _, future::BoxFuture, lock::Mutex as AsyncMutex};
use hodei_storage::{
    engine::{Count, Meter, Provider, Till},
    share::Fare,
};
use hodei_types::{
    share::Purse,
    tab::{Chain, Leaf, Opening, Tree},
    transport::{NodeKey, Transport},
};
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

/// The folder of a process's store that counts are in.
const PARTITION: &str = "ticks";
const SLOT_BYTES: usize = 40;
/// Meters of one process; more forget all, which are then read from their files.
const METERS_MAX: usize = 4096;

/// Meters by tab and provider.
pub(crate) type Meters = Mutex<BTreeMap<(B256, NodeKey), Arc<Meter>>>;

/// One provider's file.
struct Slate<B>(AsyncMutex<(B, u64)>);

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
        Ok((Self(AsyncMutex::new((blob, number))), count))
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

impl<E: Runtime, T: Transport> Cloud<E, T> {
    /// Has what these providers give under a pass counted and paid by its tab.
    pub(super) async fn meter(&self, purse: &Purse, roster: &mut [Provider]) -> Result<(), Fault> {
        for provider in roster {
            let key = (purse.tab, provider.peer.key);
            let known = self.0.meters.lock().expect("no panic under this lock").get(&key).cloned();
            let meter = match known {
                Some(meter) => meter,
                None => {
                    let name = blake3::hash(&[purse.tab.as_slice(), &key.1.0].concat());
                    let opened = Slate::open(&self.0.context, name.as_bytes()).await;
                    let (slate, count) = opened.map_err(|error| Fault::Local(format!("what was paid: {error}")))?;
                    let made = Arc::new(Meter::new(purse.tab.0, count, Arc::new(slate)));
                    let mut meters = self.0.meters.lock().expect("no panic under this lock");
                    if meters.len() >= METERS_MAX {
                        meters.clear();
                    }
                    meters.entry(key).or_insert(made).clone()
                }
            };
            provider.meter = Some(meter);
        }
        Ok(())
    }

    /// From now on these are paid, by what the record says of the tab.
    pub(super) async fn learn_fares(&self, purse: &Purse, fares: Vec<Fare>, roster: &[Provider]) -> Result<(), Fault> {
        let (purse, making) = (*purse, self.0.context.child("chains").shared(true));
        let made = making.spawn(move |_| async move { leaves(&purse, &fares) }).await;
        let wrong = Fault::Link("its record does not say what its tab pays");
        let mut of = made.map_err(|_| Fault::Local("the runtime is shutting down".into()))?.ok_or(wrong)?;
        for provider in roster {
            if let (Some(meter), Some(leaves)) = (&provider.meter, of.remove(&provider.peer.key)) {
                meter.know(leaves);
            } else if let Some(meter) = &provider.meter {
                // Nothing pays it: it is read from no further.
                meter.know(Vec::new());
            }
        }
        Ok(())
    }

    /// Pays what is owed for what came, before the process ends.
    pub(crate) async fn settle_reads(&self) {
        let meters: Vec<Arc<Meter>> =
            self.0.meters.lock().expect("no panic under this lock").values().cloned().collect();
        self.0.engine.settle(&meters).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use commonware_runtime::{Blob as _, Runner as _, deterministic};
    use hodei_types::tab::{TICKS_MAX, Tick, follows};

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
