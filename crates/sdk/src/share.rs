//! Share one object by a link, say which links there are, and take them back.
//!
//! ```text
//! share   object → record (its parts' own keys, sealed) → copies at the bucket's providers → link
//! open    link → record → pages → shards, under the link's own grant → plaintext
//! ```
//! The bucket lists its shares in one of its settings, so that they are found again from the recovery kit.
//! What a link tells of is kept until it ends, by a pin in the bucket's index: whoever replaces or removes the object
//! meanwhile lets go of its name alone. Any swap of the index after the end lets go of the rest.
//! Revoking releases the record: from then on the link leads nowhere. Expiry is part of the grant the providers
//! check. A bucket that is removed takes its links with it. Neither takes back what somebody read before; [`Cloud::rekey`] makes what is kept of it useless.

use crate::{
    bucket::Record as Bucket,
    change::{Change, Versioning, set_all},
    cloud::{Cloud, Runtime},
    condition::{Condition, Tag},
    fault::Fault,
    intent::{Cause, End},
    object::Body,
    read::{self, Holders},
    upload::{Judged, Options, Put},
};
use alloy_primitives::B256;
use hodei_storage::{
    engine::{GetError, Provider, Released},
    index::{Entry, Run, Version},
    seal::{SealError, Secret},
    share::{Record, Shared},
};
use hodei_types::{
    event::Kind,
    grant::Grant,
    share::{Link, name},
    slice::ShardId,
    transport::Transport,
};
use std::{collections::BTreeSet, ops::Range, sync::Arc};

/// The bucket's setting that lists its shares.
const SETTING: &str = "shares";
/// Headers an object is served with; its name is the link's affair.
const HEADERS: [&str; 3] = ["cache-control", "content-encoding", "content-language"];

/// A share as its owner lists it: the link itself is kept nowhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Share {
    /// Where its record is.
    pub record: ShardId,
    pub key: String,
    pub made_ms: u64,
    pub expires_ms: u64,
}

impl Share {
    /// What it is called.
    pub fn name(&self) -> String {
        name(&self.record)
    }

    /// The key of what it keeps.
    pub(crate) fn pin_key(&self) -> String {
        Run::pin_key(&self.record.to_string())
    }

    fn line(&self) -> String {
        let key = self.key.replace('%', "%25").replace('\n', "%0A").replace('\r', "%0D");
        format!("{} {} {} {key}\n", self.record, self.made_ms, self.expires_ms)
    }

    fn read(line: &str) -> Option<Self> {
        let mut words = line.splitn(4, ' ');
        let mut record = [0; 32];
        alloy_primitives::hex::decode_to_slice(words.next()?, &mut record).ok()?;
        let (made_ms, expires_ms) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
        let key = words.next()?.replace("%0D", "\r").replace("%0A", "\n").replace("%25", "%");
        Some(Self { record: ShardId(record), key, made_ms, expires_ms })
    }
}

/// Shares a setting lists; a line that a later version wrote is left alone.
fn shares(document: Option<&str>) -> Vec<Share> {
    document.unwrap_or("").lines().filter_map(Share::read).collect()
}

/// Ids of the records a bucket's index lists.
pub(crate) fn listed(run: &Run) -> Vec<ShardId> {
    shares(run.settings.get(SETTING).map(String::as_str)).into_iter().map(|share| share.record).collect()
}

/// Adds one to a bucket's list.
pub(crate) fn list(run: &mut Run, share: &Share) -> Result<(), Fault> {
    let document = format!("{}{}", run.settings.get(SETTING).map_or("", String::as_str), share.line());
    set_all(run, &[(SETTING.to_owned(), Some(document))])?;
    Ok(())
}

/// Keys of pins whose links have ended: revoked, or expired.
pub(crate) fn over(run: &Run, now_ms: u64) -> Vec<String> {
    if run.pins().next().is_none() {
        return Vec::new();
    }
    let shares = shares(run.settings.get(SETTING).map(String::as_str));
    let live = shares.iter().filter(|share| share.expires_ms > now_ms).map(Share::pin_key);
    let live: BTreeSet<String> = live.collect();
    run.pins().filter(|key| !live.contains(*key)).map(str::to_owned).collect()
}

/// Keys whose shards a link tells of: they must stay where they are until it ends.
pub(crate) fn linked(run: &Run, now_ms: u64) -> BTreeSet<String> {
    let shares = shares(run.settings.get(SETTING).map(String::as_str));
    shares.into_iter().filter(|share| share.expires_ms > now_ms).map(|share| share.key).collect()
}

/// An object as its link shows it.
#[derive(Clone)]
pub struct Opened {
    pub record: Record,
    pub expires_ms: u64,
    bucket: Bucket,
    holders: Holders,
}

impl<E: Runtime, T: Transport> Cloud<E, T> {
    /// Makes a link to a version of an object, or to its newest; needs the main key, whose word outlives terms.
    /// It shows what the object is now, whatever is put later.
    pub async fn share(
        &self,
        bucket: &str,
        key: &str,
        version: Option<Version>,
        expires_ms: u64,
    ) -> Result<Link, Fault> {
        if self.0.wallet.main().is_none() {
            return Err(Fault::NeedsOwner);
        }
        let record = self.live(bucket).await?;
        let missing = || Fault::NoObject { bucket: bucket.into(), key: key.into() };
        let entry = self.look(bucket, key, version).await?.filter(|entry| !entry.marker).ok_or_else(missing)?;
        if entry.customer.is_some() {
            return Err(Fault::Customer(key.into()));
        }
        // A link outlives the packs that are written anew, and keeps none of an object's neighbours.
        let entry = self.unpack(&record, key, entry).await?;
        let told = self.told(&record, key, &entry)?;
        let secret = Secret::new(self.random());
        let (shard, id) = told.seal(&self.0.network.0, &record.id.0, &secret)?;
        let record_bytes = shard.len() as u32;
        let grant = Grant::sign_bearer(self.0.wallet.signing().bytes(), self.0.chain_id, record.id, expires_ms)
            .map_err(|_| Fault::Key("the account's secret is not a secp256k1 key"))?;
        let journal = self.journal(Cause::Once, &record, "").await?;
        let roster = self.takers(&record).await?;
        let (_, acks) = self.0.engine.put_copies(record.shape, roster, self.random(), shard, journal.telling()).await?;
        self.owe(&acks);
        journal.end(End::Unknown { since_ms: self.now_ms() }).await;
        let share = Share { record: id, key: key.into(), made_ms: self.now_ms(), expires_ms };
        let change = Change::Share { key: key.into(), entry: Box::new(entry), share };
        if let Err(error) = self.change(bucket, Some(change)).await {
            if error.is_final() {
                journal.end(End::Lost).await;
            }
            return Err(error);
        }
        journal.finish(&self.0.context).await;
        let blinded = self.blind(record.id);
        self.note(Kind::Share, |fields| {
            fields.bytes("bucket", blinded.as_slice()).bytes("record", &id.0).uint("expires_ms", expires_ms)
        })
        .await;
        let network = *self.0.network.0.first_chunk().expect("a hash has 32 bytes");
        let secret = *secret.expose();
        Ok(Link {
            network,
            bucket: record.id,
            record: id,
            record_bytes,
            secret,
            expires_ms,
            signature: grant.signature,
        })
    }

    /// What a link's bearer may know.
    fn told(&self, record: &Bucket, key: &str, entry: &Entry) -> Result<Record, Fault> {
        let secret = self.secret(record.id);
        let parts = entry.parts.iter().map(|part| Shared::of(part, &secret)).collect::<Result<_, _>>()?;
        let header = |name: &&str| Some(((*name).to_owned(), entry.meta.get(&format!(":{name}"))?.clone()));
        Ok(Record {
            name: key.rsplit('/').find(|name| !name.is_empty()).unwrap_or(key).into(),
            content_type: entry.content_type.clone(),
            headers: HEADERS.iter().filter_map(header).collect(),
            modified_ms: entry.modified_ms,
            parts,
        })
    }

    /// A bucket's shares, those that expired among them.
    pub async fn shares(&self, bucket: &str) -> Result<Vec<Share>, Fault> {
        Ok(shares(self.settings(bucket).await?.get(SETTING).map(String::as_str)))
    }

    /// Lets go of what links kept that have ended, in the buckets whose indexes are in memory. What is in no swap
    /// meanwhile is kept, and paid.
    pub(crate) async fn end_links(&self) {
        for bucket in self.0.catalogs.named(|run| !over(run, self.now_ms()).is_empty()) {
            // Any swap does it.
            let same = |old: Option<&str>| Ok(old.map(str::to_owned));
            if let Err(error) = self.amend(&bucket, SETTING, Arc::new(same)).await {
                if let Fault::NoBucket(_) = error {
                    self.0.catalogs.forget(&bucket);
                }
                tracing::warn!(%error, bucket, "what a link told of is not released yet");
            }
        }
    }

    /// Takes shares back: their records are released, and with them goes the way to the object. Gives how many
    /// of them the bucket had.
    pub async fn unshare(&self, bucket: &str, records: &[ShardId]) -> Result<usize, Fault> {
        let record = self.live(bucket).await?;
        let known = self.shares(bucket).await?;
        let gone: Vec<ShardId> = known.iter().map(|share| share.record).filter(|id| records.contains(id)).collect();
        if gone.is_empty() {
            return Ok(0);
        }
        // Told first: whatever stops us, what is listed no more is released by whoever comes next.
        let roster = self.roster(&record).await?;
        let copies: Vec<(u64, ShardId)> =
            gone.iter().flat_map(|id| roster.iter().map(|provider| (provider.deal, *id))).collect();
        let journal = self.journal(Cause::Once, &record, "").await?;
        journal.telling().offer(&copies).await;
        let taken = gone.clone();
        let edit = move |old: Option<&str>| {
            let keeps = |line: &&str| Share::read(line).is_none_or(|share| !taken.contains(&share.record));
            let left: String = old.unwrap_or("").lines().filter(keeps).map(|line| format!("{line}\n")).collect();
            Ok(Some(left).filter(|left| !left.is_empty()))
        };
        self.amend(bucket, SETTING, Arc::new(edit)).await?;
        let Released { acks, left, .. } = self.0.engine.release(&roster, copies).await;
        self.owe(&acks);
        if left.is_empty() {
            journal.finish(&self.0.context).await;
        } else {
            // Providers that are away now are told later; the others have forgotten it.
            journal.only(&left, self.now_ms()).await;
        }
        let blinded = self.blind(record.id);
        self.note(Kind::Share, |fields| fields.bytes("bucket", blinded.as_slice()).uint("revoked", gone.len() as u64))
            .await;
        Ok(gone.len())
    }

    /// Stores an object again under a new key of its own: what a link told before opens nothing of it, and the
    /// shards it told of are released. Refused while other versions of it stay, which it would not touch.
    pub async fn rekey(&self, bucket: &str, key: &str) -> Result<Put, Fault> {
        let (entry, body) = self.get(bucket, key, None).await?;
        if Versioning::of(&*self.settings(bucket).await?) != Versioning::Off {
            return Err(Fault::Setting(
                "the bucket keeps versions: the old one would stay readable; remove it by its version",
            ));
        }
        let judged = Judged { etag: entry.etag.clone(), checksum: entry.checksum.clone() };
        let options = Options {
            content_type: entry.content_type.clone(),
            meta: entry.meta.clone(),
            tags: entry.tags.clone(),
            lock: entry.lock,
            acl: entry.acl.clone(),
            owner: entry.owner.clone(),
            class: entry.class.clone(),
            redirect: entry.redirect.clone(),
            // Only if nobody put something else meanwhile.
            condition: Condition { matches: Some(Tag::Is(entry.etag)), ..Condition::default() },
            finish: Some(Box::new(move || Ok(judged))),
            ..Options::default()
        };
        self.put(bucket, key, body, options).await
    }

    /// Opens a link: what it is of. Anybody can, without any key of the bucket's owner.
    pub async fn open_link(&self, link: &Link) -> Result<Opened, Fault> {
        if link.network != self.0.network.0[..8] {
            return Err(Fault::Link("it is of another network than this one"));
        }
        if link.expires_ms <= self.now_ms() {
            return Err(Fault::Link("it has expired"));
        }
        let gone = Fault::Link("it leads nowhere: it was revoked, or its bucket is gone");
        let bucket = self.0.buckets.read(link.bucket).await?;
        let bucket = bucket.filter(|bucket| bucket.state.root != B256::ZERO).ok_or(gone.clone())?;
        let grant = link.grant().encode().to_vec();
        let roster: Vec<Provider> =
            self.0.buckets.deals(bucket.id).await?.into_iter().map(|deal| deal.provider(grant.clone())).collect();
        let roster = Arc::new(roster);
        let shard = self.0.engine.get_copy(&roster, link.record, link.record_bytes, |verdict| self.blame(verdict));
        let shard = shard.await.map_err(|error| match error {
            GetError::Gone { .. } => gone,
            error => error.into(),
        })?;
        let secret = Secret::new(link.secret);
        let record = Record::open(&shard, &self.0.network.0, &bucket.id.0, &secret)?;
        let overlay = self.overlay(bucket.id, bucket.state.overlay, &roster).await;
        Ok(Opened { record, expires_ms: link.expires_ms, bucket, holders: Holders { roster, overlay } })
    }

    /// The bytes of what a link is of, all of them or a range.
    pub fn fetch(&self, opened: &Opened, range: Option<Range<u64>>) -> Result<Body, Fault> {
        let range = read::within(opened.record.size_bytes(), range)?;
        let (network, bucket) = (self.0.network.0, opened.bucket.id.0);
        let holders = opened.holders.clone();
        let wanted = read::cut(&opened.record.parts, |part| part.size_bytes, &range);
        Ok(self.read_parts(holders, wanted, move |part: Shared| {
            let damaged = |error: SealError| Fault::Share(error.into());
            let key = part.key(&network, &bucket).map_err(damaged)?;
            let pack = match (part.pack_key(&network, &bucket), &part.pack) {
                (Some(key), Some(pack)) => {
                    let key = key.map_err(damaged)?;
                    Some(read::Within { key, size_bytes: pack.size_bytes, offset: pack.offset })
                }
                _ => None,
            };
            Ok(read::Opened { key, shape: part.shape, page: part.page, size_bytes: part.size_bytes, pack })
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pin_lives_as_long_as_its_link_is_listed_and_lasts() {
        let share = |at: u8, expires_ms| Share { record: ShardId([at; 32]), key: "a".into(), made_ms: 1, expires_ms };
        let mut run = Run::default();
        for share in [share(1, 50), share(2, 90)] {
            list(&mut run, &share).unwrap();
            run.pin(&share.pin_key(), Some(Entry { marker: true, ..Entry::default() }));
        }
        run.pin(&share(3, 0).pin_key(), Some(Entry { marker: true, ..Entry::default() }));
        assert_eq!(over(&run, 10), [share(3, 0).pin_key()]);
        assert_eq!(over(&run, 50), [share(1, 50).pin_key(), share(3, 0).pin_key()]);
        assert_eq!(over(&run, 90).len(), 3);
    }

    #[test]
    fn a_share_returns_from_its_line_and_others_are_left_alone() {
        let share = |key: &str| Share { record: ShardId([7; 32]), key: key.into(), made_ms: 1, expires_ms: 2 };
        for key in ["a", "a b/c", "50%", "%0A", "a\nb\r", ""] {
            let line = share(key).line();
            assert_eq!(line.matches('\n').count(), 1, "{line:?}");
            assert_eq!(Share::read(line.trim_end_matches('\n')), Some(share(key)), "{key:?}");
        }
        let document = format!("{}2 of a later version\n{}", share("a").line(), share("b").line());
        assert_eq!(shares(Some(&document)), [share("a"), share("b")]);
        assert_eq!(shares(None), []);
    }
}
