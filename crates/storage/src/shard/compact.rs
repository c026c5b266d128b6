//! Win back the space of what is owed to nobody.
//!
//! The segment with most dead bytes is read through; what is still owed is appended to the head with its old
//! numbers, a shard whose bytes nobody can ask for any more shrinks to a record without payload (the tree
//! still needs its entry), and once all of that is durable the segment is removed.

use bytes::Bytes;
use commonware_runtime::{Blob, ReadOptions, Storage};
use hodei_types::index::{Change as IndexChange, Index};

use super::{
    Inner, StoreError,
    record::{HEADER_BYTES, Header, Kind, record_bytes},
    recover::scan,
    state::{self, Location},
    writer::BATCH_BYTES,
};

/// A segment is rewritten once this many percent of it are dead.
const DEAD_PERCENT: u64 = 40;

/// What becomes of a record.
enum Fate {
    Move,
    /// Its payload goes.
    Shrink,
    Drop,
}

impl<E: Storage, I: Index> Inner<E, I> {
    /// Only the writer calls this. Gives the bytes won, if there was anything to win.
    pub(super) async fn compact(&self) -> Result<Option<u64>, StoreError> {
        let Some((number, blob, end, size)) = self.most_dead() else { return Ok(None) };
        let found = scan(&*blob, record_start(), end).await?;
        let mut moved = 0;
        let (mut batch, mut bytes, mut is_decline_rotten) = (Vec::new(), 0, false);
        for (offset, header) in found {
            let mut header = header;
            let payload = match self.fate(number, offset, &header).await? {
                Fate::Drop => continue,
                Fate::Shrink => None,
                Fate::Move => {
                    let from = offset + HEADER_BYTES as u64;
                    let read = blob.read_at(from, header.len as usize, ReadOptions::default()).await;
                    let payload = read.ok().map(|read| Bytes::from(read.freeze().coalesce()));
                    // Rotten bytes are not moved: behind them a recovery would take the head for torn.
                    payload.filter(|payload| crc32fast::hash(payload) == header.payload_crc)
                }
            };
            if header.kind == Kind::Decline && payload.is_none() {
                is_decline_rotten = true;
                continue;
            }
            if header.kind == Kind::Keep {
                match &payload {
                    Some(payload) if self.keeps_any(header.deal, payload).await? => {}
                    Some(_) => continue,
                    None => {
                        tracing::error!(deal = header.deal, "what is kept has rotted: only the index knows it now");
                        continue;
                    }
                }
            }
            let payload = payload.unwrap_or_else(|| {
                (header.kind, header.len, header.payload_crc) = (Kind::Spent, 0, crc32fast::hash(&[]));
                Bytes::new()
            });
            bytes += header.record_bytes();
            moved += header.record_bytes();
            batch.push((header, payload));
            if bytes >= BATCH_BYTES {
                self.carry(number, std::mem::take(&mut batch)).await?;
                bytes = 0;
            }
        }
        // What a rotten record said is known still: it is written anew before its segment goes.
        let anew = if is_decline_rotten { self.declined_records() } else { Vec::new() };
        if !anew.is_empty() {
            tracing::warn!(records = anew.len(), "what is declined has rotted in part: all of it is written anew");
        }
        for record in anew {
            bytes += record.0.record_bytes();
            moved += record.0.record_bytes();
            batch.push(record);
            if bytes >= BATCH_BYTES {
                self.carry(number, std::mem::take(&mut batch)).await?;
                bytes = 0;
            }
        }
        self.carry(number, batch).await?;
        let mut changes = {
            let mut state = self.lock();
            state.segments.remove(&number);
            state.facts()
        };
        changes.push((state::segment_key(number), None));
        self.index.apply(changes, true).await?;
        self.storage.remove(&self.config.partition, Some(&number.to_be_bytes())).await?;
        Ok(Some(size.saturating_sub(moved)))
    }

    /// The segment most worth rewriting; never the head.
    fn most_dead(&self) -> Option<(u64, std::sync::Arc<E::Blob>, u64, u64)> {
        let state = self.lock();
        let head = *state.segments.last_key_value()?.0;
        let closed = state.segments.range(..head);
        let worth = closed.filter(|(_, segment)| segment.dead * 100 >= segment.end * DEAD_PERCENT);
        let (number, segment) = worth.max_by_key(|(_, segment)| segment.dead)?;
        Some((*number, segment.blob.clone(), segment.end, segment.size))
    }

    async fn fate(&self, segment: u64, offset: u64, header: &Header) -> Result<Fate, StoreError> {
        let Header { kind, deal, position, id, .. } = header;
        if *kind == Kind::Forget {
            return Ok(Fate::Move);
        }
        if self.lock().forgotten.contains(deal) {
            return Ok(Fate::Drop);
        }
        if *kind != Kind::Append {
            return Ok(Fate::Move);
        }
        let location = self.locate(*deal, id).await?;
        let here = location.is_some_and(|known| known.segment == segment && known.offset == offset);
        if !here {
            // A copy that an interrupted rewriting left behind, or a shard stored again later.
            let copy = location.is_some_and(|known| known.position == *position);
            return Ok(if copy { Fate::Drop } else { Fate::Shrink });
        }
        let settled = self.lock().deals.get(deal).is_some_and(|deal| deal.tree.settled(*position, deal.posted));
        Ok(if settled { Fate::Shrink } else { Fate::Move })
    }

    /// Appends what is kept and points the index at it.
    async fn carry(&self, from: u64, mut records: Vec<(Header, Bytes)>) -> Result<(), StoreError> {
        if records.is_empty() {
            return Ok(());
        }
        let bytes = records.iter().map(|(header, _)| header.record_bytes()).sum();
        self.room(bytes, true).await?;
        let places = self.append(&mut records).await?;
        let mut changes: Vec<IndexChange> = Vec::new();
        for ((header, _), (segment, offset)) in records.iter().zip(places) {
            let Header { kind, deal, position, id, len, .. } = *header;
            let key = state::location_key(deal, &id);
            match kind {
                Kind::Append => {
                    let lost = self.lock().lost.contains_key(&(deal, id));
                    let location = Location { segment, offset, len, position, lost };
                    changes.push((key, Some(location.encode())));
                }
                Kind::Spent => {
                    let known = self.locate(deal, &id).await?;
                    let here = known.filter(|known| known.segment == from && known.position == position);
                    if let Some(known) = here {
                        // Still owed: it is rotten, and found lost when next looked at.
                        let owed = self.lock().owes(deal, &known);
                        changes.push((key, owed.then(|| Location { segment, offset, ..known }.encode())));
                    }
                }
                Kind::Release | Kind::Forget | Kind::Keep | Kind::Decline => {}
            }
        }
        changes.extend(self.lock().facts());
        self.index.apply(changes, false).await?;
        Ok(())
    }
}

/// Where a segment's first record begins.
pub(super) fn record_start() -> u64 {
    record_bytes(0)
}
