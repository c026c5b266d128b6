//! Know what the segments hold, in memory and in the index.
//!
//! Index keys: `d` ‖ deal → posted sequence, whether forgotten; `e` ‖ deal ‖ position → an entry of the deal's tree; `l` ‖ deal ‖
//! shard id → where its bytes are; `k` ‖ deal ‖ shard id → until when it is kept; `s` ‖ segment → its dead bytes and end;
//! `x` ‖ shard id → since when and on what ground it is declined; `w` → how far the segments are in it.
//! All integers big-endian, so that ranges are in order.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use hodei_types::{ack::Statement, decline::Ground, holding::Node, index::Change, slice::ShardId};

use crate::prove::Tree;

/// Where a shard's record is, and the newest entry of the deal's tree that names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Location {
    pub(super) segment: u64,
    /// Of the record's header.
    pub(super) offset: u64,
    pub(super) len: u32,
    pub(super) position: u32,
    /// The bytes there are not the shard's any more.
    pub(super) lost: bool,
}

/// Since when, in milliseconds since 1970, and on what ground a shard is declined.
pub(super) type Refusal = (u64, Ground);

/// An entry of a deal's tree, as the index keeps it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) id: ShardId,
    pub(super) leaves: u16,
    /// Number of the change that appended it.
    pub(super) appended: u64,
    /// Of the one that released it; 0 while held.
    pub(super) released: u64,
}

/// How far the index has followed: the end of the last batch in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Watermark {
    pub(super) segment: u64,
    pub(super) offset: u64,
    pub(super) batch: u64,
}

#[derive(Debug, Default)]
pub(super) struct Deal {
    pub(super) tree: Tree,
    /// Newest change whose root is on the ledger.
    pub(super) posted: u64,
    /// A change is missing from disk: no more are taken.
    pub(super) broken: bool,
}

pub(super) struct Segment<B> {
    pub(super) blob: Arc<B>,
    /// Where the next record goes.
    pub(super) end: u64,
    /// Where the segment ends.
    pub(super) size: u64,
    /// Bytes of records that are owed to nobody.
    pub(super) dead: u64,
}

pub(super) struct State<B> {
    pub(super) deals: BTreeMap<u64, Deal>,
    /// Deals that ended. Numbers never come again.
    pub(super) forgotten: BTreeSet<u64>,
    pub(super) segments: BTreeMap<u64, Segment<B>>,
    /// Segments whose facts the index does not have yet.
    pub(super) changed: BTreeSet<u64>,
    /// Number of the last batch written.
    pub(super) batch: u64,
    /// Highest segment number ever used.
    pub(super) last_segment: u64,
    /// Shards found to be lost since the start, and their bytes.
    pub(super) lost: BTreeMap<(u64, ShardId), u32>,
    /// Shards that are refused, whatever the deal: at most [`super::DECLINED_MAX`].
    pub(super) declined: BTreeMap<ShardId, Refusal>,
}

impl<B> State<B> {
    /// Whether the deal's tree still counts the shard there, and its bytes are there.
    pub(super) fn holds(&self, deal: u64, location: &Location) -> bool {
        !location.lost && self.counts(deal, location.position)
    }

    /// Whether the deal's tree still counts the entry, be its bytes there or lost.
    pub(super) fn counts(&self, deal: u64, position: u32) -> bool {
        let entry = self.deals.get(&deal).and_then(|deal| deal.tree.entry(position));
        entry.is_some_and(|(_, _, released)| released.is_none())
    }

    /// Whether a challenge may still name the shard there.
    pub(super) fn owes(&self, deal: u64, location: &Location) -> bool {
        self.deals.get(&deal).is_some_and(|deal| !deal.tree.settled(location.position, deal.posted))
    }

    /// The newest statement about a deal, its entries, and the path of `position` (default: what changed last).
    pub(super) fn statement(&self, deal: u64, position: Option<u32>) -> Option<(Statement, u64, Vec<Node>)> {
        let tree = &self.deals.get(&deal)?.tree;
        let position = position.map(u64::from).or(tree.last_position())?;
        let statement =
            Statement { deal, sequence: tree.sequence(), position, root: tree.root(), leaves: tree.leaves() };
        Some((statement, tree.shards(), tree.path(position as u32)))
    }

    /// Counts bytes of a segment as owed to nobody.
    pub(super) fn bury(&mut self, segment: u64, bytes: u64) {
        if let Some(known) = self.segments.get_mut(&segment) {
            known.dead += bytes;
            self.changed.insert(segment);
        }
    }

    /// What the index must learn of segments: those that changed, the head, and how far all this goes.
    pub(super) fn facts(&mut self) -> Vec<Change> {
        let Some((number, head)) = self.segments.last_key_value() else { return Vec::new() };
        let watermark = Watermark { segment: *number, offset: head.end, batch: self.batch };
        self.changed.insert(*number);
        let changed = std::mem::take(&mut self.changed);
        let known = |number: &u64| self.segments.get(number).map(|known| encode_segment(known.dead, known.end));
        let mut facts: Vec<Change> = changed.iter().map(|number| (segment_key(*number), known(number))).collect();
        facts.push((WATERMARK.to_vec(), Some(watermark.encode())));
        facts
    }

    /// Bytes written to its segments, headers included: the file system gives no block to the rest.
    pub(super) fn used_bytes(&self) -> u64 {
        self.segments.values().map(|segment| segment.end).sum()
    }

    /// What is left of the pledge: rest of the head, and segments not yet made, but one for compaction.
    pub(super) fn free_bytes(&self, pledge_bytes: u64, segment_bytes: u64) -> u64 {
        let taken: u64 = self.segments.values().map(|segment| segment.size).sum();
        let whole = pledge_bytes.saturating_sub(taken) / segment_bytes;
        // A record does not span segments: the rest of each is worth a batch less.
        let rest = self.segments.last_key_value().map_or(0, |(_, head)| head.size - head.end);
        whole.saturating_sub(1) * (segment_bytes - super::record::ALIGN) + rest
    }
}

/// Of a deal in the index: posted sequence, and whether it is forgotten.
pub(super) fn encode_deal(posted: u64, forgotten: bool) -> Vec<u8> {
    [&posted.to_be_bytes()[..], &[forgotten.into()]].concat()
}

pub(super) fn decode_deal(value: &[u8]) -> Option<(u64, bool)> {
    let (posted, forgotten) = value.split_first_chunk()?;
    Some((u64::from_be_bytes(*posted), forgotten == [1]))
}

/// Of a segment in the index: dead bytes, end.
pub(super) fn encode_segment(dead: u64, end: u64) -> Vec<u8> {
    [dead.to_be_bytes(), end.to_be_bytes()].concat()
}

pub(super) fn decode_segment(value: &[u8]) -> Option<(u64, u64)> {
    let value: &[u8; 16] = value.try_into().ok()?;
    let (dead, end) = value.split_at(8);
    Some((u64::from_be_bytes(dead.try_into().ok()?), u64::from_be_bytes(end.try_into().ok()?)))
}

/// The eight bytes after a key's tag.
pub(super) fn number_of(key: &[u8]) -> Option<u64> {
    Some(u64::from_be_bytes(key.get(1..9)?.try_into().ok()?))
}

pub(super) const WATERMARK: &[u8] = b"w";

pub(super) fn location_key(deal: u64, id: &ShardId) -> Vec<u8> {
    [&b"l"[..], &deal.to_be_bytes(), &id.0].concat()
}

/// Deal and shard of a [`location_key`].
pub(super) fn location_of(key: &[u8]) -> Option<(u64, ShardId)> {
    let deal = number_of(key).filter(|_| key[0] == b'l')?;
    Some((deal, ShardId(key.get(9..)?.try_into().ok()?)))
}

pub(super) fn kept_key(deal: u64, id: &ShardId) -> Vec<u8> {
    [&b"k"[..], &deal.to_be_bytes(), &id.0].concat()
}

pub(super) fn entry_key(deal: u64, position: u32) -> Vec<u8> {
    [&b"e"[..], &deal.to_be_bytes(), &position.to_be_bytes()].concat()
}

pub(super) fn deal_key(deal: u64) -> Vec<u8> {
    [&b"d"[..], &deal.to_be_bytes()].concat()
}

pub(super) fn segment_key(segment: u64) -> Vec<u8> {
    [&b"s"[..], &segment.to_be_bytes()].concat()
}

impl Location {
    pub(super) fn encode(&self) -> Vec<u8> {
        let numbers = [self.segment.to_be_bytes(), self.offset.to_be_bytes()];
        let lost: &[u8] = if self.lost { &[1] } else { &[] };
        [&numbers.concat()[..], &self.len.to_be_bytes(), &self.position.to_be_bytes(), lost].concat()
    }

    pub(super) fn decode(value: &[u8]) -> Option<Self> {
        let (value, lost) = value.split_first_chunk::<24>()?;
        let lost = match lost {
            [] => false,
            [1] => true,
            _ => return None,
        };
        Some(Self {
            lost,
            segment: u64::from_be_bytes(value[..8].try_into().ok()?),
            offset: u64::from_be_bytes(value[8..16].try_into().ok()?),
            len: u32::from_be_bytes(value[16..20].try_into().ok()?),
            position: u32::from_be_bytes(value[20..].try_into().ok()?),
        })
    }
}

impl Entry {
    pub(super) fn encode(&self) -> Vec<u8> {
        let numbers = [self.appended.to_be_bytes(), self.released.to_be_bytes()];
        [&self.id.0[..], &self.leaves.to_be_bytes(), &numbers.concat()].concat()
    }

    pub(super) fn decode(value: &[u8]) -> Option<Self> {
        let value: &[u8; 50] = value.try_into().ok()?;
        Some(Self {
            id: ShardId(value[..32].try_into().ok()?),
            leaves: u16::from_be_bytes(value[32..34].try_into().ok()?),
            appended: u64::from_be_bytes(value[34..42].try_into().ok()?),
            released: u64::from_be_bytes(value[42..].try_into().ok()?),
        })
    }
}

impl Watermark {
    pub(super) fn encode(&self) -> Vec<u8> {
        [self.segment.to_be_bytes(), self.offset.to_be_bytes(), self.batch.to_be_bytes()].concat()
    }

    pub(super) fn decode(value: &[u8]) -> Option<Self> {
        let value: &[u8; 24] = value.try_into().ok()?;
        Some(Self {
            segment: u64::from_be_bytes(value[..8].try_into().ok()?),
            offset: u64::from_be_bytes(value[8..16].try_into().ok()?),
            batch: u64::from_be_bytes(value[16..].try_into().ok()?),
        })
    }
}
