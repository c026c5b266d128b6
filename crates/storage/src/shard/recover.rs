//! Find out what survived.
//!
//! The index tells what is known up to its watermark; from there the segments are read. A bad record in the
//! last segment ends it, unless one of a batch that began after another sync follows: then it was durable
//! once and has rotted, as is any bad record elsewhere, and reading goes on behind it. A deal of which a change
//! is missing keeps what came before and takes no more.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use bytes::Bytes;
use commonware_runtime::{Blob, Error as RuntimeError, ReadOptions, Storage};
use hodei_types::{
    index::{Change as IndexChange, Index},
    slice::ShardId,
    transport::NodeKey,
};

use super::{
    StoreError,
    compact::record_start,
    decline, keep,
    record::{ALIGN, HEADER_BYTES, Header, Kind, record_bytes},
    state::{self, Deal, Entry, Location, Segment, State, Watermark},
};
use crate::prove::Change;

/// Index entries read at a time.
pub(super) const PAGE: usize = 4096;
/// Behind a torn record at most one batch can have left bytes.
const TORN_BYTES_MAX: u64 = 8 << 20;
/// Read at a time when looking for a record.
const SCAN_BYTES: u64 = 1 << 20;
const SEGMENT_TAG: &[u8; 16] = b"hodei segment 1\0";

/// First bytes of a segment: whose it is, its number, and that of the last batch before it.
pub(super) fn segment_header(node: &NodeKey, number: u64, batch: u64) -> Vec<u8> {
    [&SEGMENT_TAG[..], &node.0, &number.to_be_bytes(), &batch.to_be_bytes()].concat()
}

/// What is known of the deals, by change number, before trees are built.
#[derive(Default)]
struct Gathered {
    changes: BTreeMap<u64, BTreeMap<u64, (Change, u32)>>,
    posted: BTreeMap<u64, u64>,
    forgotten: BTreeSet<u64>,
    /// Of records the index did not know, in order.
    scanned: Vec<(u64, u64, Header)>,
    /// Positions whose index entries must be written.
    touched: BTreeSet<(u64, u32)>,
}

/// Opens what is in `partition`. The index may be empty, behind, or deleted.
pub(super) async fn recover<E: Storage, I: Index>(
    storage: &E,
    partition: &str,
    node: &NodeKey,
    index: &I,
) -> Result<State<E::Blob>, StoreError> {
    let opened = open_segments(storage, partition, node).await?;
    // A segment is made after all batches of those before it were synced.
    let before_last = opened.last_key_value().map_or(0, |(_, (_, batch))| *batch);
    let mut segments: BTreeMap<_, _> = opened.into_iter().map(|(number, (segment, _))| (number, segment)).collect();
    let mut gathered = Gathered::default();
    let watermark = match read_index(index, &mut segments, &mut gathered).await? {
        Some(watermark) => watermark,
        None => {
            clear(index).await?;
            gathered = Gathered::default();
            for segment in segments.values_mut() {
                segment.dead = 0;
            }
            Watermark { segment: 0, offset: 0, batch: 0 }
        }
    };
    let mut batch = watermark.batch;
    let last = segments.last_key_value().map(|(number, _)| *number);
    for (number, segment) in segments.range_mut(watermark.segment..) {
        let from = if *number == watermark.segment { watermark.offset } else { record_start() };
        if Some(*number) == last {
            batch = batch.max(before_last);
        }
        let (found, end) = follow(&*segment.blob, from, segment.size, batch, Some(*number) == last).await?;
        for (offset, header) in found {
            batch = batch.max(header.batch);
            gathered.scan(*number, offset, header);
        }
        segment.end = end;
    }
    if let Some((_, head)) = segments.last_key_value() {
        cut_tail(&*head.blob, head.end, head.size).await?;
    }
    let mut state = State {
        deals: BTreeMap::new(),
        forgotten: gathered.forgotten.clone(),
        last_segment: last.unwrap_or(0),
        changed: segments.keys().copied().collect(),
        segments,
        // A torn batch used the next number; its remains are zeroed.
        batch,
        lost: BTreeMap::new(),
        declined: decline::known(index).await?,
    };
    let entries = build(&mut state, &gathered);
    let changes = catch_up(&mut state, &gathered, &entries, index).await?;
    index.apply(changes, true).await?;
    Ok(state)
}

async fn open_segments<E: Storage>(
    storage: &E,
    partition: &str,
    node: &NodeKey,
) -> Result<BTreeMap<u64, (Segment<E::Blob>, u64)>, StoreError> {
    let mut names = match storage.scan(partition).await {
        Ok(names) => names,
        Err(RuntimeError::PartitionMissing(_)) => Vec::new(),
        Err(error) => return Err(error.into()),
    };
    names.sort_unstable();
    let mut segments = BTreeMap::new();
    let last = names.last().cloned();
    for name in names {
        let Ok(number) = name.as_slice().try_into().map(u64::from_be_bytes) else {
            return Err(StoreError::Foreign { segment: 0 });
        };
        let (blob, size) = storage.open(partition, &name).await?;
        let expected = segment_header(node, number, 0);
        let (expected, batch_bytes) = expected.split_at(expected.len() - 8);
        let read = if size >= record_start() + ALIGN {
            let len = expected.len() + batch_bytes.len();
            Some(blob.read_at(0, len, ReadOptions::default()).await?.freeze().coalesce())
        } else {
            None
        };
        let before = read.as_ref().and_then(|read| read.as_ref().strip_prefix(expected));
        if let Some(before) = before.and_then(|bytes| bytes.try_into().ok()).map(u64::from_be_bytes) {
            let size = size - size % ALIGN;
            let segment = Segment { blob: Arc::new(blob), end: record_start(), size, dead: 0 };
            segments.insert(number, (segment, before));
        } else if Some(&name) == last.as_ref() && read.is_none_or(|read| is_unmade(read.as_ref(), expected)) {
            // The power went while it was being made: nothing was ever written to it.
            drop(blob);
            storage.remove(partition, Some(&name)).await?;
        } else {
            return Err(StoreError::Foreign { segment: number });
        }
    }
    Ok(segments)
}

/// Whether a segment's first bytes are no segment's, or as much of `expected` as came before the power went.
fn is_unmade(read: &[u8], expected: &[u8]) -> bool {
    let alike = read.iter().zip(expected).take_while(|(read, expected)| read == expected).count();
    alike < SEGMENT_TAG.len() || read[alike..].iter().all(|byte| *byte == 0)
}

/// `None` if the index does not fit the segments and must be made anew.
async fn read_index<B, I: Index>(
    index: &I,
    segments: &mut BTreeMap<u64, Segment<B>>,
    gathered: &mut Gathered,
) -> Result<Option<Watermark>, StoreError> {
    let stored = index.get(state::WATERMARK).await?;
    let Some(watermark) = stored.and_then(|value| Watermark::decode(&value)) else { return Ok(None) };
    // Rewritten since: then a later one exists. Otherwise somebody took the segments away.
    let newest = segments.last_key_value().map_or(0, |(number, _)| *number);
    let fits = segments.get(&watermark.segment).is_none_or(|segment| watermark.offset <= segment.size);
    if newest < watermark.segment || !fits {
        return Ok(None);
    }
    for (number, segment) in segments.range_mut(..=watermark.segment) {
        let stored = index.get(&state::segment_key(*number)).await?;
        let Some((dead, end)) = stored.and_then(|value| state::decode_segment(&value)) else { return Ok(None) };
        (segment.dead, segment.end) = (dead, end.min(segment.size));
    }
    let mut from = b"d".to_vec();
    while let Some(last) = {
        let page = index.range(&from, b"f", PAGE).await?;
        for (key, value) in &page {
            let Some(deal) = state::number_of(key) else { return Ok(None) };
            if key[0] == b'd' {
                let Some((posted, forgotten)) = state::decode_deal(value) else { return Ok(None) };
                gathered.posted.insert(deal, posted);
                if forgotten {
                    gathered.forgotten.insert(deal);
                }
                continue;
            }
            let position = key.get(9..).and_then(|bytes| bytes.try_into().ok()).map(u32::from_be_bytes);
            let (Some(position), Some(entry)) = (position, Entry::decode(value)) else { return Ok(None) };
            gathered.entry(deal, position, &entry);
        }
        page.into_iter().next_back()
    } {
        from = [&last.0[..], &[0]].concat();
    }
    Ok(Some(watermark))
}

async fn clear<I: Index>(index: &I) -> Result<(), StoreError> {
    loop {
        let page = index.range(&[], &[], PAGE).await?;
        if page.is_empty() {
            return Ok(());
        }
        index.apply(page.into_iter().map(|(key, _)| (key, None)).collect(), false).await?;
    }
}

impl Gathered {
    fn entry(&mut self, deal: u64, position: u32, entry: &Entry) {
        let changes = self.changes.entry(deal).or_default();
        changes.insert(entry.appended, (Change::Append { id: entry.id, leaves: entry.leaves }, position));
        if entry.released > 0 {
            changes.insert(entry.released, (Change::Release { position }, position));
        }
    }

    fn scan(&mut self, segment: u64, offset: u64, header: Header) {
        let Header { kind, deal, sequence, position, id, leaves, .. } = header;
        let change = match kind {
            Kind::Append | Kind::Spent => Change::Append { id, leaves },
            Kind::Release => Change::Release { position },
            Kind::Forget => {
                self.forgotten.insert(deal);
                self.scanned.push((segment, offset, header));
                return;
            }
            Kind::Keep | Kind::Decline => {
                self.scanned.push((segment, offset, header));
                return;
            }
        };
        self.changes.entry(deal).or_default().insert(sequence, (change, position));
        self.touched.insert((deal, position));
        self.scanned.push((segment, offset, header));
    }
}

/// Builds the trees; gives the index entries of positions that were scanned.
fn build<B>(state: &mut State<B>, gathered: &Gathered) -> BTreeMap<(u64, u32), Entry> {
    let mut entries = BTreeMap::new();
    for (number, changes) in &gathered.changes {
        if gathered.forgotten.contains(number) {
            continue;
        }
        let posted = gathered.posted.get(number).copied().unwrap_or(0);
        let mut deal = Deal { posted, ..Deal::default() };
        for (sequence, (change, position)) in changes {
            let next = deal.tree.sequence() + 1 == *sequence;
            if !next || deal.tree.apply(*change) != Some(*position) {
                tracing::error!(deal = number, sequence, "a change is missing: the deal takes no more");
                deal.broken = true;
                break;
            }
            if !gathered.touched.contains(&(*number, *position)) {
                continue;
            }
            match change {
                Change::Append { id, leaves } => {
                    let entry = Entry { id: *id, leaves: *leaves, appended: *sequence, released: 0 };
                    entries.insert((*number, *position), entry);
                }
                Change::Release { .. } => {
                    entries.entry((*number, *position)).and_modify(|entry| entry.released = *sequence);
                }
            }
        }
        state.deals.insert(*number, deal);
    }
    entries
}

/// What the index must learn, and which scanned bytes are dead.
async fn catch_up<B: Blob, I: Index>(
    state: &mut State<B>,
    gathered: &Gathered,
    entries: &BTreeMap<(u64, u32), Entry>,
    index: &I,
) -> Result<Vec<IndexChange>, StoreError> {
    let mut locations: BTreeMap<(u64, ShardId), Location> = BTreeMap::new();
    for (segment, offset, header) in &gathered.scanned {
        let Header { deal, id, len, position, .. } = *header;
        let location = Location { segment: *segment, offset: *offset, len, position, lost: false };
        if header.kind == Kind::Append && !gathered.forgotten.contains(&deal) {
            let newest = locations.entry((deal, id)).or_insert(location);
            if newest.position <= position {
                *newest = location;
            }
        }
    }
    let mut changes = Vec::new();
    for (segment, offset, header) in &gathered.scanned {
        let Header { deal, id, len, position, .. } = *header;
        let known = locations.get(&(deal, id));
        let elsewhere = known.is_none_or(|known| (known.segment, known.offset) != (*segment, *offset));
        let settled = state.deals.get(&deal).is_some_and(|deal| deal.tree.settled(position, deal.posted));
        if header.kind == Kind::Append && (elsewhere || settled) {
            state.bury(*segment, record_bytes(len));
        }
        // The index knew another copy, in a segment that was being rewritten.
        let key = state::location_key(deal, &id);
        let stored = index.get(&key).await?.and_then(|value| Location::decode(&value));
        match (header.kind, known, stored) {
            (Kind::Spent, None, Some(old)) if old.position == position => changes.push((key, None)),
            (Kind::Append, Some(_), Some(old)) if (old.segment, old.offset) != (*segment, *offset) => {
                state.bury(old.segment, record_bytes(old.len));
            }
            _ => {}
        }
    }
    changes.extend(kept(state, gathered, index).await?);
    changes.extend(declined(state, gathered).await?);
    changes.extend(locations.iter().map(|((deal, id), at)| (state::location_key(*deal, id), Some(at.encode()))));
    changes.extend(entries.iter().map(|((deal, at), entry)| (state::entry_key(*deal, *at), Some(entry.encode()))));
    let forgotten = gathered.forgotten.iter();
    changes.extend(forgotten.map(|deal| (state::deal_key(*deal), Some(state::encode_deal(0, true)))));
    changes.extend(state.facts());
    Ok(changes)
}

/// What scanned records keep, as far as they can be read.
async fn kept<B: Blob, I: Index>(
    state: &State<B>,
    gathered: &Gathered,
    index: &I,
) -> Result<Vec<IndexChange>, StoreError> {
    let mut kept: BTreeMap<Vec<u8>, Option<Vec<u8>>> = BTreeMap::new();
    for (segment, offset, header) in &gathered.scanned {
        let Some(known) = state.segments.get(segment).filter(|_| header.kind == Kind::Keep) else { continue };
        if gathered.forgotten.contains(&header.deal) {
            continue;
        }
        let Some(payload) = payload(&*known.blob, *offset, header).await? else {
            tracing::error!(deal = header.deal, "what is kept has rotted");
            continue;
        };
        for (key, until) in keep::changes(index, header, &payload).await? {
            // Big-endian: the later time is the greater.
            let latest = kept.entry(key).or_default();
            *latest = until.max(latest.take());
        }
    }
    Ok(kept.into_iter().collect())
}

/// What scanned records decline, as far as they can be read.
async fn declined<B: Blob>(state: &mut State<B>, gathered: &Gathered) -> Result<Vec<IndexChange>, StoreError> {
    let mut changes = Vec::new();
    for (segment, offset, header) in gathered.scanned.iter().filter(|(.., header)| header.kind == Kind::Decline) {
        let Some(blob) = state.segments.get(segment).map(|known| known.blob.clone()) else { continue };
        match payload(&*blob, *offset, header).await? {
            Some(payload) => changes.extend(decline::take(&mut state.declined, header, &payload)),
            None => tracing::error!(segment, "what is declined has rotted: decline it again"),
        }
    }
    Ok(changes)
}

/// A record's payload; `None` if it has rotted.
async fn payload<B: Blob>(blob: &B, offset: u64, header: &Header) -> Result<Option<Bytes>, StoreError> {
    let from = offset + HEADER_BYTES as u64;
    let payload = blob.read_at(from, header.len as usize, ReadOptions::default()).await?.freeze().coalesce();
    let payload = Bytes::copy_from_slice(payload.as_ref());
    Ok((crc32fast::hash(&payload) == header.payload_crc).then_some(payload))
}

/// Reads headers from `from` to `end`, where records are known to be whole; skips what has rotted.
pub(super) async fn scan<B: Blob>(blob: &B, from: u64, end: u64) -> Result<Vec<(u64, Header)>, StoreError> {
    let mut found = Vec::new();
    let mut at = from;
    while at < end {
        match header_at(blob, at, end).await? {
            Some(header) => {
                found.push((at, header));
                at += header.record_bytes();
            }
            None => at += ALIGN,
        }
    }
    Ok(found)
}

/// Reads what was written behind `from`; gives the records and where they end. In the last segment payloads
/// are checked too, since the last batch may be torn.
async fn follow<B: Blob>(
    blob: &B,
    from: u64,
    size: u64,
    batch: u64,
    last: bool,
) -> Result<(Vec<(u64, Header)>, u64), StoreError> {
    let (mut found, mut at, mut newest) = (Vec::new(), from, batch);
    while at < size {
        if let Some(header) = header_at(blob, at, size).await? {
            // A whole header before rotten bytes still tells what was changed: only the shard is lost.
            let known = !last
                || payload_is_whole(blob, at, &header).await?
                || next_record(blob, at + ALIGN, size, header.batch + 1).await?.is_some();
            if known {
                newest = newest.max(header.batch);
                found.push((at, header));
                at += header.record_bytes();
                continue;
            }
        }
        // Torn, rotten, or the end: what comes behind tells.
        let later = if last { newest + 2 } else { 0 };
        if let Some(ahead) = next_record(blob, at + ALIGN, size, later).await? {
            tracing::error!(at, "a record has rotted");
            at = ahead;
            continue;
        }
        break;
    }
    Ok((found, at))
}

/// The next header of batch `later` or above, as far behind `from` as one batch reaches.
async fn next_record<B: Blob>(blob: &B, from: u64, size: u64, later: u64) -> Result<Option<u64>, StoreError> {
    let end = size.min(from + TORN_BYTES_MAX);
    let mut at = from;
    while at < end {
        let len = (end - at).min(SCAN_BYTES) as usize;
        let bytes = blob.read_at(at, len, ReadOptions::default()).await?.freeze().coalesce();
        for (block, bytes) in bytes.as_ref().chunks_exact(ALIGN as usize).enumerate() {
            let here = at + block as u64 * ALIGN;
            let header = Header::decode(&bytes[..HEADER_BYTES]);
            if header.is_some_and(|header| header.batch >= later && here + header.record_bytes() <= size) {
                return Ok(Some(here));
            }
        }
        at += len as u64;
    }
    Ok(None)
}

async fn header_at<B: Blob>(blob: &B, at: u64, end: u64) -> Result<Option<Header>, StoreError> {
    if at + ALIGN > end {
        return Ok(None);
    }
    let bytes = blob.read_at(at, HEADER_BYTES, ReadOptions::default()).await?.freeze().coalesce();
    Ok(Header::decode(bytes.as_ref()).filter(|header| at + header.record_bytes() <= end))
}

async fn payload_is_whole<B: Blob>(blob: &B, at: u64, header: &Header) -> Result<bool, StoreError> {
    if header.len == 0 {
        return Ok(true);
    }
    let from = at + HEADER_BYTES as u64;
    let bytes = blob.read_at(from, header.len as usize, ReadOptions::default()).await?.freeze().coalesce();
    Ok(crc32fast::hash(bytes.as_ref()) == header.payload_crc)
}

/// Zeros what a torn batch left behind the end, so that none of it is ever taken for a later record.
pub(super) async fn cut_tail<B: Blob>(blob: &B, end: u64, size: u64) -> Result<(), StoreError> {
    let len = size.saturating_sub(end).min(TORN_BYTES_MAX);
    let tail = blob.read_at(end, len as usize, ReadOptions::default()).await?.freeze().coalesce();
    if tail.as_ref().iter().any(|byte| *byte != 0) {
        blob.resize(end).await?;
        blob.resize(size).await?;
        blob.sync().await?;
    }
    Ok(())
}
