//! Get, list and remove objects, say where they are, and prove that they were put.

use crate::{
    catalog::Change,
    cloud::{Cloud, Runtime},
    fault::Fault,
    upload::Put,
};
use alloy_primitives::{Address, B256, U256};
use bytes::Bytes;
use futures::{
    StreamExt as _, TryStreamExt as _,
    stream::{self, BoxStream},
};
pub use hodei_storage::index::{Entry, Part};
use hodei_storage::{
    engine::{Coder, GetRequest},
    index::KEY_BYTES_MAX,
};
use hodei_types::{
    abi::{DEALS, IDeals},
    call::ask,
    event::Kind,
    transport::{NodeKey, Transport},
};
use rand::RngExt as _;
use std::{collections::BTreeMap, ops::Range, sync::Arc, time::Duration};

/// Rest between looks for an event's anchor, and how often: a minute.
const ANCHOR_REST: Duration = Duration::from_millis(250);
const ANCHOR_LOOKS: u32 = 240;
/// Keys of one page of a listing.
pub const PAGE_MAX: usize = 1000;

/// A page of a listing.
#[derive(Clone, Debug, Default)]
pub struct Listing {
    pub entries: Vec<(String, Entry)>,
    pub prefixes: Vec<String>,
    /// Give it as `after` for the next page.
    pub next: Option<String>,
}

/// What one provider holds of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Location {
    pub node: NodeKey,
    pub operator: Address,
    pub zone: String,
    pub deal: u64,
    /// Shards of this object.
    pub shards: u64,
    pub bytes: u64,
    /// Last window with an accepted proof of this provider.
    pub last_proven: u64,
    /// Windows this provider missed: in a row, and ever.
    pub missed_in_row: u64,
    pub missed: u64,
    pub suspended: bool,
    /// Slashing closed it: no new deals.
    pub closed: bool,
    /// Wei of its collateral taken.
    pub slashed: U256,
    /// Windows this deal paid for, and wei: paid, and earned but not paid out yet.
    pub paid_windows: u64,
    pub paid: U256,
    pub owed: U256,
}

/// Bytes of an object, as they come.
pub type Body = BoxStream<'static, Result<Bytes, Fault>>;

/// Refuses what no index takes.
pub fn check_key(key: &str) -> Result<(), Fault> {
    if key.is_empty() || key.len() > KEY_BYTES_MAX {
        return Err(Fault::Name(key.chars().take(64).collect(), "a key has 1 to 1024 bytes"));
    }
    Ok(())
}

impl<E: Runtime, T: Transport> Cloud<E, T> {
    pub(crate) fn random<const N: usize>(&self) -> [u8; N] {
        let mut bytes = [0; N];
        self.0.context.child("random").fill(&mut bytes);
        bytes
    }

    /// The bucket's id as it stands in events: it names the bucket only to its owner.
    pub(crate) fn blind(&self, bucket: B256) -> B256 {
        let secret = self.secret(bucket).derive("hodei 2026 blinded bucket id v1", bucket.as_slice());
        B256::from(*blake3::hash(secret.expose()).as_bytes())
    }

    /// The receipt of a put, as a file; waits until its event is anchored.
    pub async fn receipt(&self, put: &Put) -> Result<Vec<u8>, Fault> {
        let (Some(log), Some(event)) = (self.0.log.as_ref(), put.event) else {
            return Err(Fault::Local("no log is kept, so there is no receipt".into()));
        };
        let told = |error: crate::receipt::AssembleError| Fault::Local(error.to_string());
        let chain = &**self.0.wallet.chain();
        for _ in 0..ANCHOR_LOOKS {
            match crate::receipt::assemble(chain, log, self.0.network, event).await {
                Ok(receipt) => {
                    let full = crate::receipt::with_promises(chain, receipt, &put.acks).await.map_err(told)?;
                    return Ok(full.encode());
                }
                Err(crate::receipt::AssembleError::Early(_)) => self.0.context.sleep(ANCHOR_REST).await,
                Err(error) => return Err(told(error)),
            }
        }
        Err(Fault::Local("the event was not anchored within a minute: try again".into()))
    }

    /// `None` if the bucket has no such object.
    pub async fn head(&self, bucket: &str, key: &str) -> Result<Option<Entry>, Fault> {
        let record = self.live(bucket).await?;
        Ok(self.run(&record).await?.entries.get(key).cloned())
    }

    /// An object's bytes, all of them or a range.
    pub async fn get(&self, bucket: &str, key: &str, range: Option<Range<u64>>) -> Result<(Entry, Body), Fault> {
        let record = self.live(bucket).await?;
        let run = self.run(&record).await?;
        let missing = || Fault::NoObject { bucket: bucket.into(), key: key.into() };
        let entry = run.entries.get(key).cloned().ok_or_else(missing)?;
        let size = entry.size_bytes();
        let range = range.unwrap_or(0..size);
        if range.start > range.end || range.end > size {
            return Err(Fault::Range { from: range.start, to: range.end, size });
        }
        let roster = self.roster(&record).await?;
        let (mut start, mut wanted) = (0u64, Vec::new());
        for part in &entry.parts {
            let end = start + part.size_bytes;
            let from = range.start.clamp(start, end) - start;
            let to = range.end.clamp(start, end) - start;
            if from < to {
                wanted.push((part.clone(), from..to));
            }
            start = end;
        }
        let bytes = range.end - range.start;
        let blinded = self.blind(record.id);
        self.note(Kind::Get, |fields| fields.bytes("bucket", blinded.as_slice()).uint("bytes", bytes)).await;
        let cloud = self.clone();
        let body = stream::iter(wanted)
            .then(move |(part, range)| {
                let (cloud, record, roster) = (cloud.clone(), record.clone(), roster.clone());
                async move {
                    let secret = cloud.secret(record.id);
                    let key = part
                        .key(&cloud.0.network.0, &record.id.0, &secret)
                        .map_err(|error| Fault::Index(error.to_string()))?;
                    let blamed = cloud.clone();
                    let request = GetRequest {
                        shape: record.shape,
                        coder: Arc::new(Coder::new(key, &record.shape)),
                        roster,
                        page: part.page,
                        size_bytes: part.size_bytes,
                        range,
                        verdict: Arc::new(move |verdict| blamed.blame(verdict)),
                    };
                    Ok::<_, Fault>(cloud.0.engine.get(request).await?.map_err(Fault::from))
                }
            })
            .try_flatten();
        Ok((entry, body.boxed()))
    }

    /// Keys that begin with `prefix`, after `after`; with a delimiter, what lies deeper is summed up as
    /// prefixes. At most `max`, and never more than 1,000.
    pub async fn list(
        &self,
        bucket: &str,
        prefix: &str,
        after: Option<&str>,
        delimiter: Option<&str>,
        max: usize,
    ) -> Result<Listing, Fault> {
        let record = self.live(bucket).await?;
        let run = self.run(&record).await?;
        Ok(list(&run.entries, prefix, after, delimiter.filter(|text| !text.is_empty()), max.min(PAGE_MAX)))
    }

    /// Takes an object out of the index. Its shards are paid until they are released.
    pub async fn remove(&self, bucket: &str, key: &str) -> Result<(), Fault> {
        self.change(bucket, Some(Change::Remove { key: key.into() })).await?;
        let blinded = self.blind(self.0.buckets.id(bucket));
        self.note(Kind::Delete, |fields| fields.bytes("bucket", blinded.as_slice())).await;
        Ok(())
    }

    /// Which providers hold an object's shards, and when each was last proven to hold what it is paid for.
    pub async fn locate(&self, bucket: &str, key: &str) -> Result<Vec<Location>, Fault> {
        let record = self.live(bucket).await?;
        let run = self.run(&record).await?;
        let missing = || Fault::NoObject { bucket: bucket.into(), key: key.into() };
        let entry = run.entries.get(key).ok_or_else(missing)?;
        let roster = self.roster(&record).await?;
        let mut held: BTreeMap<(NodeKey, u64), (u64, u64)> = BTreeMap::new();
        for part in &entry.parts {
            for (_, page) in self.0.engine.pages(&roster, &part.page, |verdict| self.blame(verdict)).await? {
                for (stripe, listed) in page.stripes.iter().enumerate() {
                    for shard in 0..page.n {
                        let Some(holder) = page.holder(stripe, shard) else { continue };
                        let count = held.entry((holder.node, holder.deal)).or_default();
                        count.0 += 1;
                        count.1 += u64::from(listed.shard_bytes);
                    }
                }
            }
        }
        let chain = &**self.0.wallet.chain();
        let mut locations = Vec::new();
        for ((node, deal), (shards, bytes)) in held {
            let standing = ask(chain, DEALS, &IDeals::standingCall { provider: node.0.into() }).await?;
            let terms = ask(chain, DEALS, &IDeals::getCall { deal }).await?;
            let known = roster.iter().find(|provider| provider.peer.key == node);
            locations.push(Location {
                node,
                operator: known.map_or(Address::ZERO, |provider| provider.operator.into()),
                zone: known.map_or_else(String::new, |provider| provider.zone.clone()),
                deal,
                shards,
                bytes,
                last_proven: standing.lastProven,
                missed_in_row: standing.missesInRow,
                missed: standing.misses,
                suspended: standing.suspended,
                closed: standing.closed,
                slashed: standing.slashed,
                paid_windows: terms.paidWindows,
                paid: terms.paid,
                owed: terms.owed,
            });
        }
        Ok(locations)
    }
}

fn list(
    entries: &BTreeMap<String, Entry>,
    prefix: &str,
    after: Option<&str>,
    delimiter: Option<&str>,
    max: usize,
) -> Listing {
    let mut listing = Listing::default();
    let mut last: Option<String> = None;
    let mut from = prefix.to_string();
    if let Some(after) = after.filter(|after| *after >= prefix) {
        from = format!("{after}\0");
    }
    // Whether `after` itself stands for everything under a prefix.
    let done = after.filter(|after| delimiter.is_some_and(|delimiter| after.ends_with(delimiter)));
    for (key, entry) in entries.range(from..).take_while(|(key, _)| key.starts_with(prefix)) {
        if done.is_some_and(|done| key.starts_with(done) && done.len() > prefix.len()) {
            continue;
        }
        let deeper = delimiter.and_then(|delimiter| {
            let at = key[prefix.len()..].find(delimiter)?;
            Some(key[..prefix.len() + at + delimiter.len()].to_string())
        });
        if deeper.is_some() && deeper.as_ref() == listing.prefixes.last() {
            continue;
        }
        if listing.entries.len() + listing.prefixes.len() >= max {
            listing.next = last;
            return listing;
        }
        match deeper {
            Some(deeper) => {
                last = Some(deeper.clone());
                listing.prefixes.push(deeper);
            }
            None => {
                last = Some(key.clone());
                listing.entries.push((key.clone(), entry.clone()));
            }
        }
    }
    listing
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(names: &[&str]) -> BTreeMap<String, Entry> {
        names.iter().map(|name| (name.to_string(), Entry::default())).collect()
    }

    fn names(listing: &Listing) -> (Vec<&str>, Vec<&str>) {
        let keys = listing.entries.iter().map(|(key, _)| key.as_str()).collect();
        (keys, listing.prefixes.iter().map(String::as_str).collect())
    }

    #[test]
    fn listing_sums_up_what_lies_deeper() {
        let entries = keys(&["a", "dir/1", "dir/2", "dir/sub/3", "e", "f/1"]);
        let listing = list(&entries, "", None, Some("/"), 100);
        assert_eq!(names(&listing), (vec!["a", "e"], vec!["dir/", "f/"]));
        let listing = list(&entries, "dir/", None, Some("/"), 100);
        assert_eq!(names(&listing), (vec!["dir/1", "dir/2"], vec!["dir/sub/"]));
        assert_eq!(names(&list(&entries, "d", None, None, 100)).0, ["dir/1", "dir/2", "dir/sub/3"]);
    }

    #[test]
    fn pages_cover_everything_once() {
        let entries = keys(&["a", "dir/1", "dir/2", "dir/sub/3", "e", "f/1", "f/2", "g"]);
        for delimiter in [None, Some("/")] {
            let whole = list(&entries, "", None, delimiter, 100);
            for max in 1..6 {
                let (mut after, mut seen, mut prefixes) = (None::<String>, Vec::new(), Vec::new());
                loop {
                    let page = list(&entries, "", after.as_deref(), delimiter, max);
                    assert!(page.entries.len() + page.prefixes.len() <= max);
                    seen.extend(page.entries.into_iter().map(|(key, _)| key));
                    prefixes.extend(page.prefixes);
                    match page.next {
                        Some(next) => after = Some(next),
                        None => break,
                    }
                }
                let all: Vec<_> = whole.entries.iter().map(|(key, _)| key.clone()).collect();
                assert_eq!((seen, prefixes), (all, whole.prefixes.clone()), "{delimiter:?} {max}");
            }
        }
    }
}
