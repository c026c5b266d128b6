//! Give shards back, say which are held, keep them, and let their owner release them.

use super::{
    Provider,
    access::AccessError,
    serve::{BUSY_MS, denied, refused},
    tabs::Unpaid,
};
use crate::journal::now_ms;
use bytes::Bytes;
use commonware_runtime::Storage;
use hodei_storage::{
    shard::StoreError,
    wire::{Answer, Reason},
};
use hodei_types::{
    abi::KEEP_MS_MAX,
    event::{Fields, Kind},
    grant::Rights,
    slice::ShardId,
    transport::NodeKey,
};
use std::ops::Range;

fn bitmap(held: &[bool]) -> Vec<u8> {
    let mut bits = vec![0u8; held.len().div_ceil(8)];
    for (at, held) in held.iter().enumerate() {
        bits[at / 8] |= u8::from(*held) << (at % 8);
    }
    bits
}

fn unpaid(error: Unpaid) -> Answer {
    refused(Reason::Unpaid, error)
}

impl<E: Storage> Provider<E> {
    /// A slice of a shard, with the hashes beside it; an empty range at its start means to the end.
    pub(super) async fn get(
        &self,
        from: NodeKey,
        deal: u64,
        id: ShardId,
        range: Range<u32>,
        grant: &[u8],
    ) -> Result<(Answer, Bytes), Answer> {
        let terms = self.access().check(from, deal, grant, Rights::READ, now_ms()).await.map_err(denied)?;
        let payer = Self::payer(terms.bucket, grant);
        // Before the disk is asked: who is behind costs no more than a question.
        if let Some(payer) = &payer {
            self.tabs().check(payer).map_err(unpaid)?;
        }
        let len = range.end - range.start;
        // Nor is it where a turn is far away.
        if let Some(busy) = self.far(&self.0.upload) {
            return Err(busy);
        }
        let slice = match self.store().get(deal, id, range.start, len).await {
            Ok(Some(slice)) => slice,
            Ok(None) => {
                if let Some(declined) = self.declined(deal, &id) {
                    return Err(Answer::Declined(declined));
                }
                let is_lost = self.store().is_lost(deal, id).await.map_err(|error| self.store_failed(error))?;
                return Err(if is_lost { self.store_failed(StoreError::Damaged(id)) } else { Answer::Gone });
            }
            // One shard is lost, not the store: the client reads another, repair makes it again.
            Err(StoreError::Damaged(id)) => {
                self.tell_lost(deal, id).await;
                return Err(self.store_failed(StoreError::Damaged(id)));
            }
            Err(error) => return Err(self.store_failed(error)),
        };
        let bytes = slice.bytes.len() as u64;
        self.turn(&self.0.upload, bytes).await?;
        if let Some(payer) = &payer {
            let given = self.tabs().give(payer, bytes).map_err(unpaid);
            given.inspect_err(|_| self.0.upload.give_back(bytes))?;
        }
        let event = Fields::new()
            .text("direction", "out")
            .bytes("peer", &from.0)
            .bytes("shard", &id.0)
            .uint("bytes", bytes)
            .uint("offset", u64::from(range.start))
            .uint("deal", deal);
        self.note(Kind::Transfer, event).await?;
        self.meters().read_slices.inc();
        let answer = Answer::Slice {
            shard_bytes: slice.shard_bytes,
            offset: range.start,
            len: slice.bytes.len() as u32,
            hashes: slice.hashes,
        };
        Ok((answer, slice.bytes))
    }

    pub(super) async fn has(
        &self,
        from: NodeKey,
        deal: u64,
        ids: &[ShardId],
        grant: &[u8],
        rights: Rights,
    ) -> Result<Answer, Answer> {
        self.access().check(from, deal, grant, rights, now_ms()).await.map_err(denied)?;
        let held = self.store().has(deal, ids).await.map_err(|error| self.store_failed(error))?;
        let declined: Vec<bool> = ids.iter().map(|id| self.store().declined(id).is_some()).collect();
        Ok(match declined.contains(&true) {
            true => Answer::Known { held: bitmap(&held), declined: bitmap(&declined) },
            false => Answer::Bitmap(bitmap(&held)),
        })
    }

    /// Zeroes the shards' counts in the deal's tree; they are no longer paid for.
    pub(super) async fn release(
        &self,
        from: NodeKey,
        deal: u64,
        ids: &[ShardId],
        grant: &[u8],
    ) -> Result<Answer, Answer> {
        self.access().check(from, deal, grant, Rights::RELEASE, now_ms()).await.map_err(denied)?;
        let until_ms = self.kept_until(deal, ids).await?;
        let released = self.store().release(deal, ids).await.map_err(|error| self.store_failed(error))?;
        for id in &released {
            let event = Fields::new().bytes("peer", &from.0).bytes("shard", &id.0).uint("deal", deal);
            self.note(Kind::Release, event).await?;
            self.meters().released_shards.inc();
        }
        match until_ms {
            Some((count, until_ms)) => {
                let text = format!("{count} of these {} are kept until {until_ms} ms since 1970", ids.len());
                Err(refused(Reason::Kept, text))
            }
            None => self.newest(deal).await,
        }
    }

    /// How many of these are kept past the ledger's time, and the latest of their times. The store knows that time
    /// from then on.
    async fn kept_until(&self, deal: u64, ids: &[ShardId]) -> Result<Option<(usize, u64)>, Answer> {
        let kept = self.store().kept(deal, ids).await.map_err(|error| self.store_failed(error))?;
        if kept.iter().all(|until_ms| *until_ms == 0) {
            return Ok(None);
        }
        let head = self.chain().head().await.map_err(|error| denied(AccessError::Chain(error)))?;
        self.store().tell(head.time_ms);
        let still = kept.into_iter().filter(|until_ms| *until_ms > head.time_ms);
        let (count, latest) = still.fold((0, 0), |(count, latest), until_ms| (count + 1, latest.max(until_ms)));
        Ok((count > 0).then_some((count, latest)))
    }

    /// From now on nobody's release lets go of these before `until_ms`.
    pub(super) async fn keep(
        &self,
        from: NodeKey,
        deal: u64,
        ids: &[ShardId],
        until_ms: u64,
        grant: &[u8],
    ) -> Result<Answer, Answer> {
        self.access().check(from, deal, grant, Rights::WRITE, now_ms()).await.map_err(denied)?;
        if until_ms > now_ms().saturating_add(KEEP_MS_MAX) {
            return Err(refused(Reason::Malformed, "nothing is kept for more than 101 years"));
        }
        let held = self.store().keep(deal, ids, until_ms).await.map_err(|error| self.store_failed(error))?;
        let count = held.iter().filter(|held| **held).count() as u64;
        if count > 0 {
            let event = Fields::new().text("what", "kept").bytes("peer", &from.0).uint("deal", deal);
            self.note(Kind::Deal, event.uint("shards", count).uint("until_ms", until_ms)).await?;
        }
        Ok(Answer::Bitmap(bitmap(&held)))
    }

    pub(super) async fn state(&self, from: NodeKey, deal: u64, grant: &[u8]) -> Result<Answer, Answer> {
        let rights = Rights::READ | Rights::WRITE;
        self.access().check(from, deal, grant, rights, now_ms()).await.map_err(denied)?;
        self.newest(deal).await
    }

    /// What the deal holds from a position on: a custodian has no index to know it from.
    pub(super) async fn list(&self, from: NodeKey, deal: u64, first: u64, grant: &[u8]) -> Result<Answer, Answer> {
        self.access().check(from, deal, grant, Rights::READ, now_ms()).await.map_err(denied)?;
        let (shards, next, end) = self.store().list(deal, first).await.map_err(|error| self.store_failed(error))?;
        Ok(Answer::Listed { next, end, shards })
    }

    async fn newest(&self, deal: u64) -> Result<Answer, Answer> {
        let (ack, shards) = self.store().state(deal).await.map_err(|error| self.store_failed(error))?;
        Ok(Answer::State { ack, shards })
    }

    /// Turns a failure of the store into what the client is told, and tells the operator.
    pub(super) fn store_failed(&self, error: StoreError) -> Answer {
        match error {
            StoreError::WrongBytes { .. } => refused(Reason::WrongBytes, error),
            StoreError::Full { free_bytes } => Answer::Full { free_bytes },
            StoreError::Busy { .. } => Answer::Busy { retry_after_ms: BUSY_MS },
            StoreError::Length(_) => refused(Reason::Malformed, error),
            // Told before the body; it was declined while that came.
            StoreError::Declined(_) => Answer::Gone,
            StoreError::DealBroken { .. } => refused(Reason::UnknownDeal, error),
            // It was acknowledged, and is still counted: told apart from what was never held.
            StoreError::Damaged(_) => refused(Reason::WrongBytes, "damaged on its disk"),
            error => {
                tracing::error!(%error, "shard store");
                refused(Reason::Broken, "the store has stopped")
            }
        }
    }

    /// Appends to the node's log; nothing is answered that could not be logged.
    pub(super) async fn note(&self, kind: Kind, event: Fields) -> Result<(), Answer> {
        match self.journal().note(kind, event).await {
            Ok(_) => Ok(()),
            Err(error) => {
                tracing::error!(%error, "log");
                Err(refused(Reason::Broken, "the log has stopped"))
            }
        }
    }
}
