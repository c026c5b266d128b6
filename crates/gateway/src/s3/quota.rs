//! Keep what somebody's buckets hold within his quota.
//!
//! It is judged before a body is read, by the length the sender declares or the source of a copy has, on what the
//! buckets hold then, parts of unfinished uploads and what others have on its way included, without what the put
//! replaces. Several doors know nothing of each other's. Only principals with a quota pay for the counting.

use super::{
    access::Access,
    copy,
    documents::name,
    fault::{fault, no_room},
    keys::Keyring,
    principal::Quota,
};
use hodei_sdk::{
    Fault, Local,
    change::Versioning,
    index::{Settings, Version},
    usage::Usage,
};
use hyper::HeaderMap;
use s3s::{S3Result, dto::CopySource};
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

/// What each user's buckets hold, by the user's id; parts of unfinished uploads are known to their door alone.
pub async fn held(cloud: &Local, keyring: &Keyring) -> Result<BTreeMap<String, Usage>, Fault> {
    let main = keyring.main().map(|main| main.id.clone());
    let mut held: BTreeMap<String, Usage> = BTreeMap::new();
    for (record, settings) in cloud.buckets_with_settings().await? {
        let Some(owner) = settings.get(name::OWNER).or(main.as_ref()) else { continue };
        let usage = cloud.usage(&record).await?;
        let sum = held.entry(owner.clone()).or_default();
        sum.bytes = sum.bytes.saturating_add(usage.bytes);
        sum.objects += usage.objects;
    }
    Ok(held)
}

/// What is on its way through a door, in order, by whose it will be.
#[derive(Clone, Default)]
pub(super) struct Underway(Arc<Mutex<Queue>>);

#[derive(Default)]
struct Queue {
    next: u64,
    coming: BTreeMap<(String, u64), Usage>,
}

/// Room that a request has until it ends: what it brought is held then, or gone.
pub(super) struct Room {
    of: Underway,
    place: (String, u64),
}

impl Drop for Room {
    fn drop(&mut self) {
        self.of.0.lock().unwrap_or_else(PoisonError::into_inner).coming.remove(&self.place);
    }
}

impl Underway {
    /// Takes a place; gives what those before it of the same owner bring.
    fn enter(&self, owner: &str, coming: Usage) -> (Room, Usage) {
        let mut queue = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let before = queue.coming.range((owner.to_owned(), 0)..=(owner.to_owned(), u64::MAX));
        let before = before.fold(Usage::default(), |sum, (_, one)| Usage {
            bytes: sum.bytes.saturating_add(one.bytes),
            objects: sum.objects + one.objects,
        });
        let place = (owner.to_owned(), queue.next);
        queue.next += 1;
        queue.coming.insert(place.clone(), coming);
        (Room { of: self.clone(), place }, before)
    }
}

impl Access {
    pub(super) fn has_quota(&self, owner: &str) -> bool {
        self.keyring.by_id(owner).is_some_and(|owner| owner.quota.is_some())
    }

    /// Bytes that a request brings: its body's, or those of what it copies.
    pub(super) async fn coming(&self, headers: &HeaderMap) -> S3Result<u64> {
        let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        let Some(from) = text("x-amz-copy-source") else { return Ok(declared(headers)) };
        // What cannot be read as a source is refused where it is used.
        let Ok(CopySource::Bucket { bucket, key, version_id }) = CopySource::parse(from) else { return Ok(0) };
        let Ok(version) = version_id.as_deref().map(str::parse).transpose() else { return Ok(0) };
        let source = self.cloud.look(&bucket, &key, version).await.map_err(fault)?;
        let size = source.map_or(0, |entry| entry.size_bytes());
        let range = text("x-amz-copy-source-range").and_then(|text| copy::range(text, size).ok());
        Ok(range.map_or(size, |range| range.end - range.start))
    }

    /// What goes when something is put under a key: nothing where versions are kept.
    pub(super) async fn replaced(&self, settings: &Settings, bucket: &str, key: &str) -> S3Result<Usage> {
        let version = match Versioning::of(settings) {
            Versioning::Enabled => return Ok(Usage::default()),
            Versioning::Suspended => Some(Version::Null),
            Versioning::Off => None,
        };
        let entry = self.cloud.look(bucket, key, version).await.map_err(fault)?.filter(|entry| !entry.marker);
        Ok(entry.map_or_else(Usage::default, |entry| Usage { bytes: entry.size_bytes(), objects: 1 }))
    }

    /// Refuses `coming` bytes of an object, in place of what is `replaced`, that the bucket owner's quota has no room
    /// for; the room is theirs for as long as what this gives lives.
    pub(super) async fn room(&self, owner: &str, coming: u64, replaced: Usage) -> S3Result<Option<Room>> {
        let Some(quota) = self.keyring.by_id(owner).and_then(|owner| owner.quota) else { return Ok(None) };
        let is_main = self.keyring.main().is_some_and(|main| main.id == owner);
        // Before what is held is looked at: what ends in between counts twice for a moment, never not at all.
        let more =
            Usage { bytes: coming.saturating_sub(replaced.bytes), objects: 1u64.saturating_sub(replaced.objects) };
        let (room, mut held) = self.underway.enter(owner, more);
        for (record, settings) in self.cloud.buckets_with_settings().await.map_err(fault)? {
            if settings.get(name::OWNER).map_or(is_main, |name| name == owner) {
                let usage = self.cloud.usage(&record).await.map_err(fault)?;
                held.bytes = held.bytes.saturating_add(usage.bytes).saturating_add(self.uploads.bytes(&record.name));
                held.objects += usage.objects;
            }
        }
        check(quota, held, coming, replaced)?;
        Ok(Some(room))
    }
}

fn check(quota: Quota, held: Usage, coming: u64, replaced: Usage) -> S3Result<()> {
    // What only gets smaller is taken even where the quota is full, or was made smaller since.
    let is_over = |most: Option<u64>, held: u64, coming: u64, replaced: u64| {
        coming > replaced && most.is_some_and(|most| held.saturating_sub(replaced).saturating_add(coming) > most)
    };
    let (what, most, held) = if is_over(quota.bytes, held.bytes, coming, replaced.bytes) {
        ("bytes", quota.bytes, held.bytes)
    } else if is_over(quota.objects, held.objects, 1, replaced.objects) {
        ("objects", quota.objects, held.objects)
    } else {
        return Ok(());
    };
    let message = format!("The quota of the bucket's owner is {} {what}, of which {held} are held.", most.unwrap_or(0));
    Err(no_room(message))
}

/// How long a body is, by what its sender says.
pub(super) fn declared(headers: &HeaderMap) -> u64 {
    let length = |name: &str| headers.get(name)?.to_str().ok()?.parse().ok();
    length("x-amz-decoded-content-length").or_else(|| length("content-length")).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use hyper::StatusCode;

    #[test]
    fn what_is_on_its_way_is_counted_in_order_until_it_ends() {
        let (underway, coming) = (Underway::default(), Usage { bytes: 400, objects: 1 });
        let before = |owner: &str| underway.enter(owner, coming);
        let (first, none) = before("anna");
        let (second, one) = before("anna");
        assert_eq!((none.bytes, one.bytes, one.objects), (0, 400, 1));
        assert_eq!(before("bert").1, Usage::default(), "others have nothing to do with it");
        let (third, two) = before("anna");
        assert_eq!((two.bytes, two.objects), (800, 2));
        drop((first, third));
        assert_eq!(before("anna").1.bytes, 400, "the second is under way");
        drop(second);
        assert_eq!(before("anna").1, Usage::default());
    }

    #[test]
    fn a_quota_is_full_to_the_byte() {
        let quota = Quota { bytes: Some(10), objects: Some(2) };
        let held = |bytes, objects| Usage { bytes, objects };
        let none = Usage::default();
        assert!(check(quota, held(4, 1), 6, none).is_ok());
        assert_eq!(check(quota, held(4, 1), 7, none).unwrap_err().code().as_str(), "QuotaExceeded");
        assert_eq!(check(quota, held(0, 2), 0, none).unwrap_err().status_code(), Some(StatusCode::FORBIDDEN));
        assert!(check(quota, held(u64::MAX, 0), 1, none).is_err(), "sums do not wrap");
        assert!(check(Quota::default(), held(u64::MAX, u64::MAX), 1, none).is_ok());
    }

    #[test]
    fn what_is_replaced_does_not_count_twice() {
        let quota = Quota { bytes: Some(1000), objects: Some(1) };
        let held = Usage { bytes: 600, objects: 1 };
        assert!(check(quota, held, 900, held).is_ok(), "600 become 900");
        assert!(check(quota, held, 1000, held).is_ok() && check(quota, held, 1001, held).is_err());
        assert!(check(quota, held, 1, Usage::default()).is_err(), "another object");
        assert!(check(Quota { bytes: Some(10), objects: Some(0) }, held, 500, held).is_ok(), "less than before");
    }
}
