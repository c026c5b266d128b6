//! Read what a link or a pass is of, straight from those who keep it.
//!
//! Anybody can who reaches the network's members and the bucket's providers: the owner is not asked, and may be gone.
//! Every byte is checked against ids and keys of the record; where it came from matters to speed alone.

use crate::{
    bucket::Record as Bucket,
    cloud::{Cloud, Runtime},
    fault::Fault,
    object::Body,
    read::{self, Circles, Holders},
};
use alloy_primitives::B256;
use hodei_storage::{
    engine::{GetError, Provider, Served},
    manifest::PageRef,
    seal::{SealError, Secret},
    share::{Record, Shared, Told},
};
use hodei_types::{
    network::mark,
    share::{Link, Reader},
    transport::{NodeKey, Transport},
};
use std::{ops::Range, sync::Arc, time::Duration};

/// What is behind a link.
#[derive(Clone)]
pub struct Opened {
    pub told: Told,
    pub expires_ms: u64,
    /// Whose pass it is.
    pub reader: Option<NodeKey>,
    bucket: Bucket,
    holders: Holders,
}

/// Objects of a folder behind one that is read, whose pages are asked about with it: what is read in order is found ahead.
const AHEAD: usize = 16;
/// Pages of one object that are asked about at once.
const PAGES_AHEAD: usize = 64;

/// Other readers, and what they gave this process of a bucket.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Others {
    pub readers: usize,
    pub bytes: u64,
}

/// A provider, and what it gave this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Source {
    pub node: NodeKey,
    /// Answers with bytes that were right.
    pub reads: u64,
    pub bytes: u64,
    /// The fastest of them, from asking to the last byte.
    pub fastest: Duration,
}

impl<E: Runtime, T: Transport> Cloud<E, T> {
    /// Who this client is to owners who make passes, and to providers.
    pub fn reader(&self) -> Reader {
        Reader { network: mark(&self.0.network), key: self.0.client }
    }

    /// Refuses a link that opens nothing to this client, before anybody is asked.
    pub fn check_link(&self, link: &Link) -> Result<(), Fault> {
        if link.network != mark(&self.0.network) {
            return Err(Fault::Link("it is of another network than this one"));
        }
        if link.expires_ms <= self.now_ms() {
            return Err(Fault::Link("it has expired"));
        }
        match link.reader {
            Some(reader) if reader != self.0.client => Err(Fault::Pass { reader, client: self.0.client }),
            _ => Ok(()),
        }
    }

    /// Opens a link: what it is of. Anybody can, without any key of the bucket's owner; a pass its reader alone.
    pub async fn open_link(&self, link: &Link) -> Result<Opened, Fault> {
        self.check_link(link)?;
        let gone = Fault::Link("it leads nowhere: it was revoked, or its bucket is gone");
        let bucket = self.0.buckets.read(link.bucket).await?;
        let bucket = bucket.filter(|bucket| bucket.state.root != B256::ZERO).ok_or(gone.clone())?;
        let grant = link.grant().encode();
        let mut roster: Vec<Provider> =
            self.0.buckets.deals(bucket.id).await?.into_iter().map(|deal| deal.provider(grant.clone())).collect();
        if let Some(purse) = &link.purse {
            self.meter(purse, &mut roster).await?;
        }
        let roster = Arc::new(roster);
        let shard = self.0.engine.get_copy(&roster, link.record, link.record_bytes, |verdict| self.blame(verdict));
        let shard = shard.await.map_err(|error| match error {
            GetError::Gone { .. } => gone,
            error => error.into(),
        })?;
        let secret = Secret::new(link.secret);
        let (told, fares) = Told::open(&shard, &self.0.network.0, &bucket.id.0, &secret)?;
        if let Some(purse) = &link.purse {
            self.learn_fares(purse, fares, &roster).await?;
        }
        let overlay = self.overlay(bucket.id, bucket.state.overlay, &roster).await;
        let crowd = self.0.crowd.get().map(|crowd| {
            crowd.opened(bucket.id, bucket.state.owner, link.expires_ms, &roster);
            let (crowd, id) = (crowd.clone(), bucket.id);
            let of: Circles = Arc::new(move |page| crowd.circle(id, page));
            of
        });
        let holders = Holders { roster, overlay, crowd };
        Ok(Opened { told, expires_ms: link.expires_ms, reader: link.reader, bucket, holders })
    }

    /// The bytes of an object a link tells of, all of them or a range.
    pub fn fetch(&self, opened: &Opened, object: &Record, range: Option<Range<u64>>) -> Result<Body, Fault> {
        let range = read::within(object.size_bytes(), range)?;
        let (network, bucket) = (self.0.network.0, opened.bucket.id.0);
        let holders = opened.holders.clone();
        if let Some(crowd) = self.0.crowd.get() {
            // Under a link's word nobody else is asked.
            crowd.seek(opened.bucket.id, ahead(&opened.told, object), opened.reader.is_some());
        }
        let wanted = read::cut(&object.parts, |part| part.size_bytes, &range);
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

    /// Which of the providers a link leads to gave this process bytes so far, of this link or another, the fastest first.
    pub fn sources(&self, opened: &Opened) -> Vec<Source> {
        let peers = self.0.engine.peers();
        let of = |provider: &Provider| {
            let node = provider.peer.key;
            let Served { reads, bytes, fastest } = peers.served(&node)?;
            Some(Source { node, reads, bytes, fastest })
        };
        let mut sources: Vec<Source> = opened.holders.roster.iter().filter_map(of).collect();
        sources.sort_by_key(|source| (source.fastest, source.node));
        sources.dedup_by_key(|source| source.node);
        sources
    }

    /// What other readers gave this process so far of the bucket a link leads into.
    pub fn others(&self, opened: &Opened) -> Others {
        let (readers, bytes) = self.0.crowd.get().map_or((0, 0), |crowd| crowd.gave(opened.bucket.id));
        Others { readers, bytes }
    }
}

/// Pages of an object, and of those that follow it in its folder.
fn ahead(told: &Told, object: &Record) -> Vec<PageRef> {
    let of = |object: &Record| object.parts.iter().map(|part| part.page.clone()).take(PAGES_AHEAD).collect::<Vec<_>>();
    let mut pages = of(object);
    if let Told::Many(folder) = told {
        let at = folder.files.partition_point(|file| file.name <= object.name);
        pages.extend(folder.files[at..].iter().take(AHEAD).flat_map(of));
    }
    pages.truncate(AHEAD * PAGES_AHEAD);
    pages
}
