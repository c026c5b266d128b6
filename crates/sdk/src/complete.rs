//! Name an object made of parts that are stored.
//!
//! Parts come from uploads that sent them one by one, or from another object: within a bucket a copy shares its
//! parts, whose keys are wrapped anew, and they are released when no version names them any more; in another
//! bucket, whose deals are others, they are stored again.

use crate::{
    bucket::Record,
    change::Change,
    cloud::{Cloud, Runtime},
    customer,
    fault::Fault,
    intent::{Cause, End},
    object::check_key,
    upload::{Finish, Judged, Keeping, Kept, NO_PROGRESS, Options, Put, Sent, Slot},
};
use alloy_primitives::B256;
use bytes::Bytes;
use futures::stream::Stream;
use hodei_storage::{
    engine::{Fill, Wait},
    index::{self, Entry, Part, Version},
};
use hodei_types::{
    ack::Ack,
    event::{self, Actor, Kind},
    transport::{NodeKey, Transport},
};
use std::{collections::BTreeMap, sync::Arc};

/// What is named, and how its event tells of the content.
pub(crate) struct Named {
    pub(crate) judged: Judged,
    pub(crate) mark: Option<index::Customer>,
    /// The version it shares its parts with.
    pub(crate) source: Option<(String, Version)>,
    pub(crate) parts: Vec<Part>,
    pub(crate) acks: BTreeMap<u64, (NodeKey, Ack)>,
    pub(crate) content: [u8; 32],
    pub(crate) pieces: Vec<(u64, u64)>,
    pub(crate) resumed_bytes: u64,
}

/// An object to copy, as it was looked up.
#[derive(Clone, Debug)]
pub struct Source<'a> {
    pub bucket: &'a str,
    pub key: &'a str,
    pub entry: &'a Entry,
    /// The key it was put with, if it was put with one.
    pub customer: Option<&'a customer::Key>,
}

pub(crate) fn merge(newest: &mut BTreeMap<u64, (NodeKey, Ack)>, acks: &[(NodeKey, Ack)]) {
    for (node, ack) in acks {
        let known = newest.entry(ack.statement.deal).or_insert((*node, *ack));
        if known.1.statement.sequence < ack.statement.sequence {
            *known = (*node, *ack);
        }
    }
}

/// What `finish` gives, which may refuse; without it the BLAKE3 of the plaintext is the etag.
pub(crate) fn judge(finish: Option<Finish>, content: [u8; 32]) -> Result<Judged, Fault> {
    match finish {
        Some(finish) => finish().map_err(Fault::Source),
        None => Ok(Judged { etag: blake3::Hash::from(content).to_hex().to_string(), checksum: None }),
    }
}

/// What is told of parts that came apart from each other: the hash of their hashes, and where they were cut.
fn content<'a>(parts: impl ExactSizeIterator<Item = &'a Part> + Clone) -> ([u8; 32], Vec<(u64, u64)>) {
    let mut hasher = blake3::Hasher::new();
    for part in parts.clone() {
        if parts.len() == 1 {
            return (part.content, Vec::new());
        }
        hasher.update(&part.content);
    }
    let sizes: Vec<u64> = parts.map(|part| part.size_bytes).collect();
    (*hasher.finalize().as_bytes(), event::Put::pieces(sizes).unwrap_or_default())
}

impl<E: Runtime, T: Transport> Cloud<E, T> {
    /// What an object, or all parts of an upload, put under a customer's key will be known by.
    pub fn mark(&self, customer: &customer::Key) -> index::Customer {
        customer.mark(self.random())
    }

    /// Stores one part of an object to be completed later; visible nowhere until then. `customer` is the
    /// customer's key and the mark of the upload.
    pub async fn part<S, X>(
        &self,
        bucket: &str,
        number: u32,
        source: S,
        wait: Wait,
        finish: Option<Finish>,
        customer: Option<(&customer::Key, &index::Customer)>,
    ) -> Result<(Sent, Judged), Fault>
    where
        S: Stream<Item = Result<Bytes, X>> + Send + Unpin,
        X: std::fmt::Display,
    {
        let record = self.live(bucket).await?;
        let (key, mark) = customer.unzip();
        let wrapping = customer::wrapping(self.secret(record.id), mark, key, "part")?;
        let slot = Slot { record: &record, number, wrapping: &wrapping, fill: Fill::Data };
        let sent = self.keep_part(slot, source, wait).await?;
        let judged = judge(finish, sent.part.content)?;
        Ok((sent, judged))
    }

    /// Sends a part under a journal of its own.
    async fn keep_part<S, X>(&self, slot: Slot<'_>, source: S, wait: Wait) -> Result<Sent, Fault>
    where
        S: Stream<Item = Result<Bytes, X>> + Send + Unpin,
        X: std::fmt::Display,
    {
        let journal = self.journal(Cause::Once, slot.record, "").await?;
        let (mut sent, kept) = self.send(slot, source, wait, journal.telling(), NO_PROGRESS).await?;
        journal.part(&sent.part, &sent.acks, kept).await?;
        sent.kept = Some(Arc::new(Keeping { cloud: self.clone(), journal }));
        Ok(sent)
    }

    /// Makes an object of parts, in ascending order of their numbers. `mark` is the upload's, of parts under a
    /// customer's key.
    pub async fn complete(
        &self,
        bucket: &str,
        key: &str,
        parts: Vec<Sent>,
        judged: Judged,
        mark: Option<index::Customer>,
        options: Options,
    ) -> Result<Put, Fault> {
        check_key(key)?;
        let record = self.live(bucket).await?;
        self.join(&record, key, parts, judged, mark, options).await
    }

    async fn join(
        &self,
        record: &Record,
        key: &str,
        parts: Vec<Sent>,
        judged: Judged,
        mark: Option<index::Customer>,
        options: Options,
    ) -> Result<Put, Fault> {
        let mut acks = BTreeMap::new();
        for sent in &parts {
            merge(&mut acks, &sent.acks);
        }
        let (content, pieces) = content(parts.iter().map(|sent| &sent.part));
        let (list, kept): (Vec<Part>, Vec<_>) = parts.into_iter().map(|sent| (sent.part, sent.kept)).unzip();
        let kept: Vec<_> = kept.into_iter().flatten().collect();
        let named = Named { judged, mark, source: None, parts: list, acks, content, pieces, resumed_bytes: 0 };
        self.name(record, key, named, &kept, options).await
    }

    /// Copies an object as it was looked up, with its etag and checksum. Within a bucket no byte of it moves.
    pub async fn copy(&self, source: Source<'_>, bucket: &str, key: &str, options: Options) -> Result<Put, Fault> {
        check_key(key)?;
        let record = self.live(bucket).await?;
        let Source { entry, .. } = source;
        let mark = options.customer.as_ref().map(|customer| self.mark(customer));
        let to = customer::wrapping(self.secret(record.id), mark.as_ref(), options.customer.as_ref(), key)?;
        let judged = Judged { etag: entry.etag.clone(), checksum: entry.checksum.clone() };
        if source.bucket != bucket {
            let mut sent = Vec::with_capacity(entry.parts.len());
            let mut start = 0;
            for part in &entry.parts {
                let range = start..start + part.size_bytes;
                start = range.end;
                let bytes = self.bytes(source.bucket, source.key, entry, Some(range), source.customer).await?;
                let slot = Slot { record: &record, number: part.number, wrapping: &to, fill: Fill::Data };
                sent.push(self.keep_part(slot, bytes, options.wait).await?);
            }
            return self.join(&record, key, sent, judged, mark, options).await;
        }
        let from = customer::wrapping(self.secret(record.id), entry.customer.as_ref(), source.customer, source.key)?;
        let rewrapped = entry.parts.iter().map(|part| {
            let secret = from.unwrap(&part.object, &part.wrapped).map_err(|error| Fault::Index(error.to_string()))?;
            Ok(Part { wrapped: to.wrap(&part.object, &secret), ..part.clone() })
        });
        let parts: Vec<Part> = rewrapped.collect::<Result<_, Fault>>()?;
        let (content, pieces) = content(parts.iter());
        let shared = Some((source.key.to_owned(), entry.version));
        let acks = BTreeMap::new();
        let named = Named { judged, mark, source: shared, parts, acks, content, pieces, resumed_bytes: 0 };
        self.name(&record, key, named, &[], options).await
    }

    pub(crate) async fn name(
        &self,
        record: &Record,
        key: &str,
        named: Named,
        kept: &[Arc<dyn Kept>],
        mut options: Options,
    ) -> Result<Put, Fault> {
        let Named { judged, mark, source, parts, acks, content, pieces, resumed_bytes } = named;
        let acks: Vec<_> = acks.into_values().collect();
        let condition = std::mem::take(&mut options.condition);
        let mut entry = Entry { parts, ..self.entry(judged, mark, options) };
        entry.check().map_err(|error| Fault::Index(error.to_string()))?;
        let since_ms = self.now_ms();
        for kept in kept {
            kept.end(End::Unknown { since_ms }).await;
        }
        let change = Change::Put { key: key.into(), entry: Box::new(entry.clone()), condition, source };
        let done = match self.change(&record.name, Some(change)).await {
            Ok(done) => done,
            Err(error) => {
                if error.is_final() {
                    for kept in kept {
                        kept.end(End::Lost).await;
                    }
                }
                return Err(error);
            }
        };
        entry.version = done.version;
        for kept in kept {
            kept.finish().await;
        }
        let event = self.record_put(record, &entry, &acks, &content, pieces).await;
        Ok(Put { entry, versioning: done.versioning, event, acks, resumed_bytes })
    }

    /// What is said of an object that is put now, but for its parts.
    pub(crate) fn entry(&self, judged: Judged, mark: Option<index::Customer>, options: Options) -> Entry {
        Entry {
            modified_ms: self.now_ms(),
            etag: judged.etag,
            content_type: options.content_type,
            meta: options.meta,
            tags: options.tags,
            lock: options.lock,
            acl: options.acl,
            owner: options.owner,
            checksum: judged.checksum,
            class: options.class,
            customer: mark,
            redirect: options.redirect,
            ..Entry::default()
        }
    }

    pub(crate) async fn record_put(
        &self,
        record: &Record,
        entry: &Entry,
        acks: &[(NodeKey, Ack)],
        content: &[u8; 32],
        pieces: Vec<(u64, u64)>,
    ) -> Option<u64> {
        let log = self.0.log.as_ref()?;
        let manifest = B256::from(entry.parts.first()?.page().id.0);
        let (k, n) = (record.shape.k(), record.shape.n());
        let deals = acks.iter().map(|(_, ack)| ack.statement.deal).collect();
        let acks = crate::receipt::acks_root(acks);
        let bucket = self.blind(record.id);
        let actor = Actor::Account(self.0.wallet.owner());
        let recorded = log.record(self.now_ms(), Kind::Put, actor, |salt| {
            let content = salt.content(content);
            event::Put { bucket, content, pieces: pieces.clone(), manifest, k, n, deals, acks }.to_fields()
        });
        recorded.await.map_err(|error| tracing::error!(%error, "a put could not be recorded")).ok()
    }
}
