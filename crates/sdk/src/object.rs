//! Get and remove objects, and prove that they were put.

pub use crate::list::{Listing, PAGE_MAX};
use crate::{
    change::{Change, Done, Edit, Removal},
    cloud::{Cloud, Runtime},
    customer,
    fault::Fault,
    read::{self, Opened},
    upload::Put,
};
use alloy_primitives::B256;
use bytes::Bytes;
use futures::stream::BoxStream;
pub use hodei_storage::index::{Entry, Part};
use hodei_storage::index::{KEY_BYTES_MAX, Settings, Version, is_reserved};
use hodei_types::{event::Kind, transport::Transport};
use rand::RngExt as _;
use std::{ops::Range, sync::Arc, time::Duration};

/// Rest between looks for an event's anchor, and how often: a minute.
const ANCHOR_REST: Duration = Duration::from_millis(250);
const ANCHOR_LOOKS: u32 = 240;

/// Bytes of an object, as they come.
pub type Body = BoxStream<'static, Result<Bytes, Fault>>;

/// Refuses what no index takes.
pub fn check_key(key: &str) -> Result<(), Fault> {
    if key.is_empty() || key.len() > KEY_BYTES_MAX {
        return Err(Fault::Name(key.chars().take(64).collect(), "a key has 1 to 1024 bytes"));
    }
    if is_reserved(key) {
        return Err(Fault::Name(key.chars().take(64).collect(), "the bucket's own keys begin so"));
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
        Ok(self.look(bucket, key, None).await?.filter(|entry| !entry.marker))
    }

    /// A version of a key, or its newest: it may be a delete marker.
    pub async fn look(&self, bucket: &str, key: &str, version: Option<Version>) -> Result<Option<Entry>, Fault> {
        Ok(self.find(bucket, key, version).await?.0)
    }

    /// The same, with what the bucket was set to at that moment.
    pub async fn find(
        &self,
        bucket: &str,
        key: &str,
        version: Option<Version>,
    ) -> Result<(Option<Entry>, Arc<Settings>), Fault> {
        let record = self.live(bucket).await?;
        let run = self.run(&record).await?;
        let found = match version {
            Some(version) => run.version(key, version),
            None => run.versions(key).first(),
        };
        Ok((found.cloned(), run.settings.clone()))
    }

    /// An object's bytes, all of them or a range.
    pub async fn get(&self, bucket: &str, key: &str, range: Option<Range<u64>>) -> Result<(Entry, Body), Fault> {
        let entry = self.head(bucket, key).await?;
        let entry = entry.ok_or_else(|| Fault::NoObject { bucket: bucket.into(), key: key.into() })?;
        let body = self.bytes(bucket, key, &entry, range, None).await?;
        Ok((entry, body))
    }

    /// The bytes of a version that was looked up: those of that moment, whatever is put meanwhile. `customer` is
    /// the key it was put with, if it was put with one.
    pub async fn bytes(
        &self,
        bucket: &str,
        key: &str,
        entry: &Entry,
        range: Option<Range<u64>>,
        customer: Option<&customer::Key>,
    ) -> Result<Body, Fault> {
        let record = self.live(bucket).await?;
        let secret = self.secret(record.id);
        let wrapping = customer::wrapping(secret.clone(), entry.customer.as_ref(), customer, key)?;
        let range = read::within(entry.size_bytes(), range)?;
        let holders = self.holders(&record).await?;
        let blinded = self.blind(record.id);
        let bytes = range.end - range.start;
        self.note(Kind::Get, |fields| fields.bytes("bucket", blinded.as_slice()).uint("bytes", bytes)).await;
        let (network, bucket) = (self.0.network.0, record.id.0);
        let wanted = read::cut(&entry.parts, |part| part.size_bytes, &range);
        Ok(self.read_parts(holders, wanted, move |part| {
            let opened = Opened::of(&part, (&network, &bucket), &secret, &wrapping);
            opened.map_err(|error| Fault::Index(error.to_string()))
        }))
    }

    /// Removes an object; where the bucket has versions, behind a delete marker.
    pub async fn remove(&self, bucket: &str, key: &str) -> Result<(), Fault> {
        self.remove_as(bucket, key, Removal::default()).await?;
        Ok(())
    }

    /// The same as `removal` says. The shards of what is taken out are paid until they are released.
    pub async fn remove_as(&self, bucket: &str, key: &str, removal: Removal) -> Result<Done, Fault> {
        let done = self.change(bucket, Some(Change::Remove { key: key.into(), removal })).await?;
        let blinded = self.blind(self.0.buckets.id(bucket));
        self.note(Kind::Delete, |fields| fields.bytes("bucket", blinded.as_slice())).await;
        Ok(done)
    }

    /// Changes what is said of a version, or of the newest, without storing it again.
    pub async fn edit(&self, bucket: &str, key: &str, version: Option<Version>, edit: Edit) -> Result<Done, Fault> {
        self.change(bucket, Some(Change::Edit { key: key.into(), version, edit })).await
    }
}
