//! Read what a link or a pass is of, straight from those who keep it.
//!
//! Anybody can who reaches the network's members and the bucket's providers: the owner is not asked, and may be gone.
//! Every byte is checked against ids and keys of the record; where it came from matters to speed alone.
//!
//! The ledger says where the bucket's providers are. While it is out of reach, what is kept of what it said before does, and
//! the record as it was read then: its keepers are only asked whether they still have it, for it goes when it is revoked.

use super::{kept::Form, seat::Seat};
use crate::{
    cloud::{Cloud, Runtime},
    fault::Fault,
    object::Body,
    read::{self, Circles, Holders},
};
use alloy_primitives::B256;
use bytes::Bytes;
use futures::{
    StreamExt as _, TryStreamExt as _,
    future::{Either, select},
    pin_mut,
};
use hodei_storage::{
    engine::{GetError, Provider, Served},
    manifest::PageRef,
    seal::{SealError, Secret},
    share::{Fare, Record, Shared, Told},
};
use hodei_types::{
    chain::ChainError,
    network::mark,
    share::{Link, Reader},
    slice::ShardId,
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
    /// The ledger was out of reach: it was opened by what is kept of it.
    pub is_kept: bool,
    bucket: B256,
    holders: Holders,
}

/// Objects of a folder behind one that is read, whose pages are asked about with it: what is read in order is found ahead.
const AHEAD: usize = 16;
/// Pages of one object that are asked about at once.
const PAGES_AHEAD: usize = 64;

/// With a bucket kept, the ledger is waited for so long: several members that are away are asked in turn.
const LEDGER_WAIT: Duration = Duration::from_secs(10);
/// With its record kept, its keepers are waited for so long: who did not answer by then says nothing.
const KEEPERS_WAIT: Duration = Duration::from_secs(3);

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
        if let Some(kept) = self.0.kept.get() {
            kept.end(self.now_ms());
        }
        self.check_link(link)?;
        let (seat, is_kept) = self.seat(link).await?;
        let grant = link.grant().encode();
        let granted = |provider: &Provider| Provider { grant: grant.clone(), ..provider.clone() };
        let mut roster: Vec<Provider> = seat.roster.iter().map(granted).collect();
        if let Some(purse) = &link.purse {
            self.meter(purse, &mut roster).await?;
        }
        let roster = Arc::new(roster);
        let (told, fares, shard) = self.record_of(link, &roster, is_kept).await?;
        if let Some(purse) = &link.purse {
            self.learn_fares(purse, fares, &roster).await?;
            if !is_kept {
                self.0.engine.greet(&roster, link.record);
            }
        }
        self.keep_opened(link, &seat, shard).await;
        let overlay = self.overlay(link.bucket, seat.overlay, &roster).await;
        let crowd = self.0.crowd.get().map(|crowd| {
            crowd.opened(link.bucket, seat.owner, link.expires_ms, &roster);
            let (crowd, id) = (crowd.clone(), link.bucket);
            let of: Circles = Arc::new(move |page| crowd.circle(id, page));
            of
        });
        let holders = Holders { roster, overlay, crowd };
        Ok(Opened { told, expires_ms: link.expires_ms, reader: link.reader, is_kept, bucket: link.bucket, holders })
    }

    /// Where a link leads: by the ledger, or, where that is out of reach, by what it said when it was asked last.
    async fn seat(&self, link: &Link) -> Result<(Seat, bool), Fault> {
        let kept = self.kept_seat(link);
        let asked = if kept.is_some() {
            let (asking, late) = (self.asked_seat(link.bucket), self.0.context.sleep(LEDGER_WAIT));
            pin_mut!(asking, late);
            match select(asking, late).await {
                Either::Left((asked, _)) => asked,
                Either::Right(_) => {
                    Err(ChainError::Unavailable(format!("no answer within {} s", LEDGER_WAIT.as_secs())).into())
                }
            }
        } else {
            self.asked_seat(link.bucket).await
        };
        match (asked, kept) {
            (Ok(Some(seat)), _) => Ok((seat, false)),
            (Ok(None), _) => {
                self.forget_link(link);
                if let Some(kept) = self.0.kept.get() {
                    kept.forget(Form::Seat, &link.bucket.0);
                }
                Err(gone())
            }
            (Err(error @ Fault::Chain(ChainError::Unavailable(_))), Some(seat)) => {
                tracing::info!(%error, bucket = %link.bucket, "a link opens by what is kept");
                Ok((seat, true))
            }
            (Err(error), _) => Err(error),
        }
    }

    /// As the ledger says; `None` where there is no such bucket any more.
    async fn asked_seat(&self, bucket: B256) -> Result<Option<Seat>, Fault> {
        let record = self.0.buckets.read(bucket).await?;
        let Some(record) = record.filter(|record| record.state.root != B256::ZERO) else { return Ok(None) };
        let deals = self.0.buckets.deals(bucket).await?;
        let roster = deals.into_iter().map(|deal| deal.provider(Vec::new())).collect();
        Ok(Some(Seat { owner: record.state.owner, overlay: record.state.overlay, roster }))
    }

    /// As it is kept, for whoever has the word of the owner that is kept with it.
    fn kept_seat(&self, link: &Link) -> Option<Seat> {
        let (bytes, _) = self.0.kept.get()?.find(Form::Seat, &link.bucket.0, self.now_ms())?;
        let seat = Seat::decode(&bytes).ok()?;
        let client = link.reader.unwrap_or(self.0.client);
        let signer = link.grant().signer(self.0.chain_id, link.bucket, &client);
        (signer == Some(seat.owner)).then_some(seat)
    }

    /// What a link's record says, and the record.
    async fn record_of(
        &self,
        link: &Link,
        roster: &[Provider],
        is_kept: bool,
    ) -> Result<(Told, Vec<Fare>, Bytes), Fault> {
        let secret = Secret::new(link.secret);
        let open = |shard: &Bytes| Told::open(shard, &self.0.network.0, &link.bucket.0, &secret);
        let kept = self.0.kept.get().filter(|_| is_kept || link.purse.is_some());
        let kept = kept.and_then(|kept| kept.find(Form::Record, &record_name(link), self.now_ms()));
        let kept = kept.map(|(shard, _)| Bytes::from(shard)).filter(|shard| ShardId::of(shard) == link.record);
        if let Some(shard) = kept
            && let Ok((told, fares)) = open(&shard)
        {
            if is_kept {
                if self.0.engine.is_released(roster, link.record, KEEPERS_WAIT).await {
                    self.forget_link(link);
                    return Err(gone());
                }
                return Ok((told, fares, shard));
            }
            // Before the first byte is asked for: who is owed something gives this process nothing else.
            if let Some(purse) = &link.purse {
                self.learn_fares(purse, fares, roster).await?;
            }
        }
        let shard = self.0.engine.get_copy(roster, link.record, link.record_bytes, |verdict| self.blame(verdict));
        match shard.await {
            Ok(shard) => {
                let (told, fares) = open(&shard)?;
                Ok((told, fares, shard))
            }
            Err(GetError::Gone { .. }) => {
                self.forget_link(link);
                Err(gone())
            }
            Err(error) => Err(self.or_spent(error.into(), roster, link.expires_ms)),
        }
    }

    /// Keeps what a pass needs to be opened without the ledger, until it ends: also of one that was opened so, whose bucket was
    /// kept for another. Not what a link needs that is anybody's: a door opens strangers' links too, which would make room
    /// of its reader's passes.
    async fn keep_opened(&self, link: &Link, seat: &Seat, shard: Bytes) {
        let Some(kept) = self.0.kept.get().filter(|_| link.reader.is_some()).cloned() else { return };
        let (until_ms, now_ms) = (link.expires_ms, self.now_ms());
        let (seat, bucket, record) = (seat.encode(), link.bucket.0, record_name(link));
        let nonces = [self.random(), self.random()];
        // It waits for the disk, which no other request shall.
        let keeping = self.0.context.child("keeping").shared(true).spawn(move |_| async move {
            if let Some(seat) = seat {
                kept.put((Form::Seat, &bucket), until_ms, &seat, nonces[0], now_ms);
            }
            kept.put((Form::Record, &record), until_ms, &shard, nonces[1], now_ms);
        });
        if let Err(error) = keeping.await {
            tracing::debug!(%error, "a pass is not kept");
        }
    }

    /// Lets go of what is kept of a link that was refused. What is kept of its bucket serves others.
    fn forget_link(&self, link: &Link) {
        if let Some(kept) = self.0.kept.get() {
            kept.forget(Form::Record, &record_name(link));
        }
    }

    /// The bytes of an object a link tells of, all of them or a range.
    pub fn fetch(&self, opened: &Opened, object: &Record, range: Option<Range<u64>>) -> Result<Body, Fault> {
        let range = read::within(object.size_bytes(), range)?;
        let (network, bucket) = (self.0.network.0, opened.bucket.0);
        let holders = opened.holders.clone();
        if let Some(crowd) = self.0.crowd.get() {
            // Under a link's word nobody else is asked.
            crowd.seek(opened.bucket, ahead(&opened.told, object), opened.reader.is_some());
        }
        let wanted = read::cut(&object.parts, |part| part.size_bytes, &range);
        let body = self.read_parts(holders, wanted, move |part: Shared| {
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
        });
        let (cloud, roster, until_ms) = (self.clone(), opened.holders.roster.clone(), opened.expires_ms);
        Ok(body.map_err(move |error| cloud.or_spent(error, &roster, until_ms)).boxed())
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
        let (readers, bytes) = self.0.crowd.get().map_or((0, 0), |crowd| crowd.gave(opened.bucket));
        Others { readers, bytes }
    }
}

/// What a link's record is kept as: a word that names it in another bucket has nothing to do with it.
fn record_name(link: &Link) -> [u8; 32] {
    *blake3::hash(&[link.bucket.0, link.record.0].concat()).as_bytes()
}

fn gone() -> Fault {
    Fault::Link("it leads nowhere: it was revoked, or its bucket is gone")
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
