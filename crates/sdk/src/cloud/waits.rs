//! Keep acknowledgements that wait for a provider's proof, over the end of a process.
//!
//! Where a provider owes its window's proof, which by its choice may be for hours, the ledger takes no root of its
//! deals. What a process could not post is one small file a deal, named by network and deal, until the ledger has it or
//! wants it no more; the next process of this identity owes it from its start. Meanwhile such a deal is tried less and
//! less often: after a second at first, every five in the end.

use crate::{custody::SETTLES, fault::Fault, intent::framed};
use alloy_primitives::B256;
use commonware_runtime::{Blob as _, Buf as _, IoBuf, ReadOptions, Storage, WriteOptions};
use hodei_types::{
    ack::Ack,
    cbor::{Reader, Writer},
    network::mark,
};
use std::{
    collections::BTreeMap,
    sync::Mutex,
    time::{Duration, SystemTime},
};

/// The folder of a process's store that they are in.
pub const PARTITION: &str = "unposted";
/// Longer than an acknowledgement with its frame.
const FILE_BYTES_MAX: u64 = 1024;
/// A deal that waits is tried again so soon at first, then each time twice as late, and so late at most: sooner after a
/// proof than a custodian takes what nobody posted to be left behind.
const AGAIN_MIN: Duration = Duration::from_secs(1);
const AGAIN_MAX: Duration = Duration::from_secs(SETTLES.as_secs() / 2);

/// Deals whose roots wait.
#[derive(Default)]
pub(super) struct Waits(Mutex<BTreeMap<u64, Wait>>);

#[derive(Clone, Copy, Default)]
struct Wait {
    /// Of what is written down.
    sequence: Option<u64>,
    /// When it is tried again, and how long that was put off.
    again: Option<(SystemTime, Duration)>,
}

/// Eight bytes of the network's genesis, and the deal.
fn name(network: &B256, deal: u64) -> [u8; 16] {
    let mut name = [0; 16];
    name[..8].copy_from_slice(&mark(network));
    name[8..].copy_from_slice(&deal.to_be_bytes());
    name
}

fn local(error: impl std::fmt::Display) -> Fault {
    Fault::Local(format!("what is to be posted later: {error}"))
}

impl Waits {
    /// What earlier processes could not post to this network.
    pub(super) async fn find(&self, storage: &impl Storage, network: &B256) -> Result<BTreeMap<u64, Ack>, Fault> {
        let names = match storage.scan(PARTITION).await {
            Ok(names) => names,
            Err(commonware_runtime::Error::PartitionMissing(_)) => return Ok(BTreeMap::new()),
            Err(error) => return Err(local(error)),
        };
        let mut found = BTreeMap::new();
        for file in names.into_iter().filter(|file| file.starts_with(&mark(network))) {
            // Written half upon a power cut it says nothing: a later put to that deal brings a newer one.
            let Some(ack) = read(storage, &file).await? else { continue };
            let deal = ack.statement.deal;
            if file == name(network, deal) {
                self.with(|waits| waits.entry(deal).or_default().sequence = Some(ack.statement.sequence));
                found.insert(deal, ack);
            }
        }
        Ok(found)
    }

    /// Whether a deal is to be tried now.
    pub(super) fn is_due(&self, deal: u64, now: SystemTime) -> bool {
        self.with(|waits| waits.get(&deal).and_then(|wait| wait.again).is_none_or(|(again, _)| again <= now))
    }

    /// Tries these deals again later than the last time.
    pub(super) fn put_off(&self, deals: impl Iterator<Item = u64>, now: SystemTime) {
        self.with(|waits| {
            for deal in deals {
                let wait = waits.entry(deal).or_default();
                let pause = wait.again.map_or(AGAIN_MIN, |(_, pause)| (pause * 2).min(AGAIN_MAX));
                wait.again = Some((now + pause, pause));
            }
        });
    }

    /// Writes down what is newer than what is written: neither a kill nor a power cut loses it.
    pub(super) async fn keep(&self, storage: &impl Storage, network: &B256, acks: &BTreeMap<u64, Ack>) {
        for (deal, ack) in acks {
            let sequence = ack.statement.sequence;
            let is_written = self
                .with(|waits| waits.get(deal).and_then(|wait| wait.sequence).is_some_and(|known| known >= sequence));
            if is_written {
                continue;
            }
            match write(storage, &name(network, *deal), ack).await {
                Ok(()) => self.with(|waits| waits.entry(*deal).or_default().sequence = Some(sequence)),
                Err(error) => tracing::warn!(%error, deal, "its newest root is posted by this process or by none"),
            }
        }
    }

    /// The ledger has these, or takes them never.
    pub(super) async fn forget(&self, storage: &impl Storage, network: &B256, deals: &[u64]) {
        for deal in deals {
            let Some(Wait { sequence: Some(_), .. }) = self.with(|waits| waits.remove(deal)) else { continue };
            if let Err(error) = storage.remove(PARTITION, Some(&name(network, *deal))).await {
                tracing::warn!(%error, deal, "what was posted is tried once more by the next process");
            }
        }
    }

    fn with<T>(&self, work: impl FnOnce(&mut BTreeMap<u64, Wait>) -> T) -> T {
        work(&mut self.0.lock().expect("no panic under this lock"))
    }
}

async fn read(storage: &impl Storage, file: &[u8]) -> Result<Option<Ack>, Fault> {
    let (blob, len) = storage.open(PARTITION, file).await.map_err(local)?;
    let len = usize::try_from(len.min(FILE_BYTES_MAX)).map_err(local)?;
    let mut bytes = blob.read_at(0, len, ReadOptions::default()).await.map_err(local)?.freeze();
    let bytes = bytes.copy_to_bytes(len);
    // An older, longer one may stand behind it.
    let Some(body) = crate::intent::body(&bytes) else { return Ok(None) };
    Ok(Ack::read(&mut Reader::new(body)).ok())
}

async fn write(storage: &impl Storage, file: &[u8], ack: &Ack) -> Result<(), Fault> {
    let (blob, _) = storage.open(PARTITION, file).await.map_err(local)?;
    let mut out = Writer::new();
    ack.write(&mut out);
    blob.write_at(0, IoBuf::from(framed(&out.finish())), WriteOptions::default()).await.map_err(local)?;
    blob.sync().await.map_err(local)
}
