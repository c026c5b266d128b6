//! Share an object by a link, or all below a prefix, say which links there are, and take them back.
//!
//! ```text
//! share   objects → record (their parts' own keys, sealed) → copies at the bucket's providers → link, or passes
//! open    link → record → pages → shards, under the link's own grant → plaintext
//! ```
//! A link's grant is for whoever has the word. A *pass* is a link whose grant names one reader: others who have the word
//! are refused by each provider, as the ledger and its own clock let it judge, without asking the owner. What a pass's
//! reader reads may be paid for: by a tab that is opened with the pass, tick by tick, to whoever gives the bytes.
//!
//! The bucket lists its shares in one of its settings, so that they are found again from the recovery kit.
//! What a link tells of is kept until it ends, by a pin in the bucket's index: whoever replaces or removes the object
//! meanwhile lets go of its name alone. Any swap of the index after the end lets go of the rest.
//! Revoking releases the record: from then on the link leads nowhere. Expiry is part of the grant the providers
//! check. A bucket that is removed takes its links with it. Neither takes back what somebody read before; [`Cloud::rekey`] makes what is kept of it useless.

pub(crate) mod kept;
mod list;
pub(crate) mod meter;
mod open;
mod pay;
mod seat;
mod tally;

pub use hodei_storage::share::{Collection, Record, Told};
pub use kept::Drawer;
pub use list::{Share, brief};
pub(crate) use list::{linked, list, listed, over};
pub use open::{Opened, Others, Source};
pub use pay::{BYTES_EACH_MAX, Fees};
pub use tally::{Held, Purchase};

use list::{SETTING, shares, without};

use crate::{
    bucket::Record as Bucket,
    change::{Change, Versioning},
    cloud::{Cloud, Runtime},
    condition::{Condition, Tag},
    fault::Fault,
    intent::{Cause, End},
    list::PAGE_MAX,
    tab::Tab,
    upload::{Judged, Options, Put},
};
use alloy_primitives::U256;
use hodei_storage::{
    engine::Released,
    index::{Entry, Version},
    seal::Secret,
    share::Shared,
};
use hodei_types::{
    event::Kind,
    grant::{BadSecret, Grant, Rights},
    network::mark,
    share::{Link, Purse},
    slice::ShardId,
    transport::{NodeKey, Transport},
};
use std::sync::Arc;

/// Headers an object is served with; its name is the link's affair.
const HEADERS: [&str; 3] = ["cache-control", "content-encoding", "content-language"];
/// Passes of one share: a bucket's list has room for a few such.
pub const READERS_MAX: usize = 256;

/// Passes that are paid for.
#[derive(Clone, Debug)]
pub struct Sold {
    /// Of the first readers, in their order.
    pub links: Vec<Link>,
    /// Why the readers after those have none: their tabs could not be opened. Nothing is bound for them, unless
    /// a transaction that could not be followed is executed yet: that returns with its tab's end.
    pub failed: Option<Fault>,
}

/// What a link is made to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What<'a> {
    /// A version of an object, or its newest.
    Object { key: &'a str, version: Option<Version> },
    /// All objects whose keys begin so and go on.
    Below(&'a str),
}

impl<E: Runtime, T: Transport> Cloud<E, T> {
    /// Makes a link to what is there now, whatever is put later; needs the main key, whose word outlives terms. Gives one
    /// link for whoever has it, or a pass for each of `readers`, in their order.
    pub async fn share(
        &self,
        bucket: &str,
        what: What<'_>,
        readers: &[NodeKey],
        expires_ms: u64,
    ) -> Result<Vec<Link>, Fault> {
        Ok(self.share_with(bucket, what, readers, expires_ms, None).await?.links)
    }

    /// The same, of passes whose reads are paid for: opens a tab for each of `readers` and binds its deposit. An error if
    /// none could be opened.
    pub async fn sell(
        &self,
        bucket: &str,
        what: What<'_>,
        readers: &[NodeKey],
        expires_ms: u64,
        fees: &Fees,
    ) -> Result<Sold, Fault> {
        if readers.is_empty() {
            return Err(Fault::Setting("what is paid for is for named readers"));
        }
        self.0.buckets.afford(fees.deposit.saturating_mul(U256::from(readers.len()))).await?;
        self.share_with(bucket, what, readers, expires_ms, Some(fees)).await
    }

    async fn share_with(
        &self,
        bucket: &str,
        what: What<'_>,
        readers: &[NodeKey],
        expires_ms: u64,
        fees: Option<&Fees>,
    ) -> Result<Sold, Fault> {
        if self.0.wallet.main().is_none() {
            return Err(Fault::NeedsOwner);
        }
        if readers.len() > READERS_MAX {
            return Err(Fault::Setting("a share has at most 256 passes: make another for further readers"));
        }
        let record = self.live(bucket).await?;
        let named = self.named(&record, what).await?;
        // A link outlives the packs that are written anew, and keeps none of an object's neighbours.
        let named = self.unpack(&record, named).await?;
        let told = self.tell(&record, what, &named)?;
        let secret = Secret::new(self.random());
        let (shard, id) = told.seal(&self.0.network.0, &record.id.0, &secret, fees.map_or(&[], |fees| &fees.fares))?;
        let record_bytes = shard.len() as u32;
        let tabs = match fees {
            Some(fees) => self.draw(&fees.fares, &id, readers.len()).await?,
            None => Vec::new(),
        };
        let grants = self.grants(&record, readers, &tabs, expires_ms)?;
        let journal = self.journal(Cause::Once, &record, "").await?;
        let roster = self.takers(&record).await?;
        let (_, acks) = self.0.engine.put_copies(record.shape, roster, self.random(), shard, journal.telling()).await?;
        self.owe(&acks);
        journal.end(End::Unknown { since_ms: self.now_ms() }).await;
        let (key, is_below) = match what {
            What::Object { key, .. } => (key, false),
            What::Below(prefix) => (prefix, true),
        };
        let share = Share {
            record: id,
            key: key.into(),
            is_below,
            readers: readers.iter().map(brief).collect(),
            made_ms: self.now_ms(),
            expires_ms,
            price: fees.and_then(Fees::price),
        };
        let change = Change::Share { told: Arc::new(named), share };
        if let Err(error) = self.change(bucket, Some(change)).await {
            if error.is_final() {
                journal.end(End::Lost).await;
            }
            return Err(error);
        }
        journal.finish(&self.0.context).await;
        let (mut count, mut failed) = (grants.len(), None);
        if let Some(fees) = fees {
            (count, failed) = self.open_tabs(&record, &tabs, fees).await;
        }
        if let Some(error) = failed.take_if(|_| count == 0) {
            // Passes that nothing pays for would be read by on credit alone.
            if let Err(error) = self.unshare(bucket, &[id]).await {
                tracing::warn!(%error, record = %id, "a share that nothing pays for stays listed");
            }
            return Err(error);
        }
        let (blinded, passes) = (self.blind(record.id), if readers.is_empty() { 0 } else { count as u64 });
        self.note(Kind::Share, |fields| {
            let fields = fields.bytes("bucket", blinded.as_slice()).bytes("record", &id.0);
            fields.uint("expires_ms", expires_ms).uint("passes", passes)
        })
        .await;
        let network = mark(&self.0.network);
        let purse = |tab: &Tab| Purse { tab: tab.id(), seed: *tab.seed(), flags: 0 };
        let purses = tabs.iter().map(|tab| Some(purse(tab))).chain(std::iter::repeat(None));
        let link = |((reader, grant), purse): ((Option<NodeKey>, Grant), Option<Purse>)| Link {
            network,
            bucket: record.id,
            record: id,
            record_bytes,
            secret: *secret.expose(),
            expires_ms,
            reader,
            purse,
            signature: grant.signature,
        };
        Ok(Sold { links: grants.into_iter().zip(purses).take(count).map(link).collect(), failed })
    }

    /// The owner's word for each reader, or for whoever brings it.
    fn grants(
        &self,
        record: &Bucket,
        readers: &[NodeKey],
        tabs: &[Tab],
        expires_ms: u64,
    ) -> Result<Vec<(Option<NodeKey>, Grant)>, Fault> {
        let (key, chain_id) = (self.0.wallet.signing(), self.0.chain_id);
        let signed = if readers.is_empty() {
            Grant::sign_bearer(key.bytes(), chain_id, record.id, expires_ms).map(|grant| vec![(None, grant)])
        } else if !tabs.is_empty() {
            let sign = |(reader, tab): (&NodeKey, &Tab)| -> Result<(Option<NodeKey>, Grant), BadSecret> {
                let grant = Grant::sign_metered(key.bytes(), chain_id, record.id, reader, tab.id(), expires_ms)?;
                Ok((Some(*reader), grant))
            };
            readers.iter().zip(tabs).map(sign).collect()
        } else {
            let sign = |reader: &NodeKey| -> Result<(Option<NodeKey>, Grant), BadSecret> {
                let grant = Grant::sign(key.bytes(), chain_id, record.id, reader, Rights::READ, expires_ms)?;
                Ok((Some(*reader), grant))
            };
            readers.iter().map(sign).collect()
        };
        signed.map_err(|_| Fault::Key("the account's secret is not a secp256k1 key"))
    }

    /// What is named now of what shall be shared.
    async fn named(&self, record: &Bucket, what: What<'_>) -> Result<Vec<(String, Entry)>, Fault> {
        let bucket = record.name.as_str();
        let missing = |key: &str| Fault::NoObject { bucket: bucket.into(), key: key.into() };
        let named = match what {
            What::Object { key, version } => {
                let entry = self.look(bucket, key, version).await?.filter(|entry| !entry.marker);
                vec![(key.to_owned(), entry.ok_or_else(|| missing(key))?)]
            }
            What::Below(prefix) => {
                let (mut named, mut parts, mut after) = (Vec::new(), 0, None::<String>);
                loop {
                    let page = self.list(bucket, prefix, after.as_deref(), None, PAGE_MAX).await?;
                    // What is called as the prefix itself has no path below it: folders of some clients are such.
                    for (key, entry) in page.entries.into_iter().filter(|(key, _)| key.len() > prefix.len()) {
                        parts += entry.parts.len();
                        named.push((key, entry));
                    }
                    Collection::check_room(named.len(), parts)?;
                    after = page.next;
                    if after.is_none() {
                        break;
                    }
                }
                if named.is_empty() {
                    return Err(missing(prefix));
                }
                named
            }
        };
        if let Some((key, _)) = named.iter().find(|(_, entry)| entry.customer.is_some()) {
            return Err(Fault::Customer(key.clone()));
        }
        Ok(named)
    }

    /// What whoever has the link may know.
    fn tell(&self, record: &Bucket, what: What<'_>, named: &[(String, Entry)]) -> Result<Told, Fault> {
        let secret = self.secret(record.id);
        let last = |key: &str| key.rsplit('/').find(|name| !name.is_empty()).map(str::to_owned);
        match what {
            What::Object { key, .. } => {
                let (_, entry) = named.first().ok_or(Fault::Contended)?;
                Ok(Told::One(told(last(key).unwrap_or_else(|| key.into()), entry, &secret)?))
            }
            What::Below(prefix) => {
                let files = named.iter().map(|(key, entry)| told(key[prefix.len()..].to_owned(), entry, &secret));
                let name = last(prefix).unwrap_or_else(|| record.name.clone());
                Ok(Told::Many(Collection::new(name, files.collect::<Result<_, _>>()?)))
            }
        }
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
        let edit = move |old: Option<&str>| Ok(without(old, &taken));
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
}

/// An object as the record tells of it.
fn told(name: String, entry: &Entry, secret: &Secret) -> Result<Record, Fault> {
    let parts = entry.parts.iter().map(|part| Shared::of(part, secret)).collect::<Result<_, _>>()?;
    let header = |name: &&str| Some(((*name).to_owned(), entry.meta.get(&format!(":{name}"))?.clone()));
    Ok(Record {
        name,
        content_type: entry.content_type.clone(),
        headers: HEADERS.iter().filter_map(header).collect(),
        modified_ms: entry.modified_ms,
        parts,
    })
}
