//! Let readers of one bucket find each other at its providers, and give each other what they read.
//!
//! A reader that keeps shards announces the *pages* of what it read at the bucket's providers; whoever reads such a page
//! asks there who announced it, those who hold it first, and asks those readers for shards of its stripes. That one has a
//! page says that it has some of them: which, is found by asking.
//!
//! Protocol `hodei/crowd/1`: one stream per question, framed as `hodei/shard/1` is ([`crate::wire`]), answered by its
//! answers. Upon HELLO the keeper answers HELLO; upon ASK with the whole shard as a slice, or that it is gone, that it is
//! busy, or that it refuses.

use crate::wire::{GRANT_BYTES_MAX, KEEPERS_MAX, Keeper, WireError};
use hodei_types::{
    cbor::{Reader, Writer},
    slice::ShardId,
    transport::NodeKey,
};
use std::{
    collections::BTreeMap,
    net::SocketAddr,
    time::{Duration, SystemTime},
};

/// Version of this protocol, in HELLO.
pub const VERSION: u64 = 1;
/// So long an announcement lasts, whatever it asks for.
pub const SECS_MIN: u64 = 60;
pub const SECS_MAX: u64 = 900;
/// Announcements a provider remembers, of 256 ids each: 4 MiB.
const ANNOUNCERS_MAX: usize = 512;
/// Those of them of one bucket, so that whoever may read one keeps nobody out of others.
const BUCKET_MAX: usize = ANNOUNCERS_MAX / 4;

/// What a reader asks another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Question {
    /// Is anybody there?
    Hello { version: u64 },
    /// A whole shard of a bucket, for whom the owner's grant names.
    Ask { bucket: [u8; 32], id: ShardId, grant: Vec<u8> },
}

impl Question {
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Writer::new();
        match self {
            Self::Hello { version } => out.array(2).uint(1).uint(*version),
            Self::Ask { bucket, id, grant } => out.array(4).uint(2).bytes(bucket).bytes(&id.0).bytes(grant),
        };
        out.finish()
    }

    pub fn decode(bytes: &[u8]) -> Result<Self, WireError> {
        let mut input = Reader::new(bytes);
        let (values, kind) = (input.array(4)?, input.uint()?);
        let question = match (kind, values) {
            (1, 2) => Self::Hello { version: input.uint()? },
            (2, 4) => Self::Ask {
                bucket: input.fixed()?,
                id: ShardId(input.fixed()?),
                grant: input.bytes(GRANT_BYTES_MAX)?.to_vec(),
            },
            _ => return Err(WireError::Kind(kind)),
        };
        input.end()?;
        Ok(question)
    }
}

/// Who announced what, as one provider remembers it: in memory alone.
#[derive(Debug, Default)]
pub struct Book(BTreeMap<[u8; 32], BTreeMap<NodeKey, Announced>>);

#[derive(Debug)]
struct Announced {
    addresses: Vec<SocketAddr>,
    /// In their order.
    ids: Vec<ShardId>,
    told: SystemTime,
    until: SystemTime,
}

impl Book {
    /// Remembers what a reader of a bucket keeps, in the place of what it said before; gives for how many seconds.
    /// Where there is no room, the oldest of the bucket that has most is forgotten.
    pub fn remember(
        &mut self,
        bucket: [u8; 32],
        node: NodeKey,
        (addresses, mut ids): (Vec<SocketAddr>, Vec<ShardId>),
        secs: u64,
        now: SystemTime,
    ) -> u64 {
        let secs = secs.clamp(SECS_MIN, SECS_MAX);
        ids.sort_unstable();
        ids.dedup();
        self.forget_ended(now);
        if !self.0.get(&bucket).is_some_and(|known| known.contains_key(&node)) {
            if self.0.get(&bucket).is_some_and(|known| known.len() >= BUCKET_MAX) {
                self.forget_oldest(bucket);
            } else if self.len() >= ANNOUNCERS_MAX
                && let Some((largest, _)) = self.0.iter().max_by_key(|(_, known)| known.len())
            {
                self.forget_oldest(*largest);
            }
        }
        let until = now + Duration::from_secs(secs);
        self.0.entry(bucket).or_default().insert(node, Announced { addresses, ids, told: now, until });
        secs
    }

    /// Readers of a bucket that announced any of these, but for who asks: at most eight, begun with by chance.
    pub fn who(
        &self,
        bucket: [u8; 32],
        asker: NodeKey,
        ids: &[ShardId],
        chance: usize,
        now: SystemTime,
    ) -> Vec<Keeper> {
        let Some(known) = self.0.get(&bucket) else { return Vec::new() };
        let keeper = |(node, announced): (&NodeKey, &Announced)| {
            let mut has = vec![0u8; ids.len().div_ceil(8)];
            for (at, id) in ids.iter().enumerate() {
                has[at / 8] |= u8::from(announced.ids.binary_search(id).is_ok()) << (at % 8);
            }
            let is_meant = *node != asker && announced.until > now && has.iter().any(|bits| *bits != 0);
            is_meant.then(|| Keeper {
                node: *node,
                addresses: announced.addresses.clone(),
                has,
                age_secs: now.duration_since(announced.told).map_or(0, |age| age.as_secs()),
            })
        };
        let mut found: Vec<Keeper> = known.iter().filter_map(keeper).collect();
        if !found.is_empty() {
            let first = chance % found.len();
            found.rotate_left(first);
        }
        found.truncate(KEEPERS_MAX);
        found
    }

    /// Announcements that are remembered.
    pub fn len(&self) -> usize {
        self.0.values().map(BTreeMap::len).sum()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn forget_ended(&mut self, now: SystemTime) {
        self.0.retain(|_, known| {
            known.retain(|_, announced| announced.until > now);
            !known.is_empty()
        });
    }

    fn forget_oldest(&mut self, bucket: [u8; 32]) {
        let Some(known) = self.0.get_mut(&bucket) else { return };
        let oldest = known.iter().min_by_key(|(_, announced)| announced.told).map(|(node, _)| *node);
        oldest.map(|node| known.remove(&node));
        if known.is_empty() {
            self.0.remove(&bucket);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(number: usize) -> NodeKey {
        let mut key = [0; 32];
        key[..8].copy_from_slice(&number.to_be_bytes());
        NodeKey(key)
    }

    fn at(secs: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(secs)
    }

    fn id(byte: u8) -> ShardId {
        ShardId([byte; 32])
    }

    fn bucket(byte: u8) -> [u8; 32] {
        [byte; 32]
    }

    fn address() -> Vec<SocketAddr> {
        vec![([192, 0, 2, 1], 4000).into()]
    }

    #[test]
    fn a_question_has_one_encoding_which_is_frozen() {
        let ask = Question::Ask { bucket: [1; 32], id: id(2), grant: vec![3; 75] };
        let all = [Question::Hello { version: VERSION }, ask.clone()];
        for question in &all {
            let bytes = question.encode();
            assert_eq!(Question::decode(&bytes).unwrap(), *question);
            assert!(Question::decode(&bytes[..bytes.len() - 1]).is_err());
        }
        let bytes: Vec<u8> = all.iter().flat_map(Question::encode).collect();
        assert_eq!(blake3::hash(&bytes).to_hex()[..16], *"8f40c63504af4f8e");
        let long = Question::Ask { bucket: [1; 32], id: id(2), grant: vec![3; GRANT_BYTES_MAX + 1] };
        assert!(Question::decode(&long.encode()).is_err());
    }

    #[test]
    fn readers_of_a_bucket_are_told_who_keeps_a_page_until_it_ends_and_readers_of_others_are_not() {
        let mut book = Book::default();
        let says = |ids: Vec<ShardId>| (address(), ids);
        assert_eq!(book.remember(bucket(1), node(1), says(vec![id(3), id(1)]), 5, at(0)), SECS_MIN);
        assert_eq!(book.remember(bucket(1), node(2), says(vec![id(2)]), 1 << 40, at(9)), SECS_MAX);
        let who = |book: &Book, asker, ids: &[ShardId], now| -> Vec<(NodeKey, Vec<u8>)> {
            let found = book.who(bucket(1), node(asker), ids, 0, at(now));
            found.into_iter().map(|keeper| (keeper.node, keeper.has)).collect()
        };
        let all = [id(1), id(2), id(3)];
        assert_eq!(who(&book, 7, &all, 10), [(node(1), vec![0b101]), (node(2), vec![0b010])]);
        assert_eq!(who(&book, 1, &all, 10), [(node(2), vec![0b010])], "nobody is told of itself");
        assert_eq!(who(&book, 7, &[id(9)], 10), []);
        assert_eq!(who(&book, 7, &all, SECS_MIN), [(node(2), vec![0b010])], "its time is over");
        assert!(book.who(bucket(2), node(7), &all, 0, at(10)).is_empty(), "that is another bucket");
        book.remember(bucket(1), node(2), says(vec![id(3)]), SECS_MAX, at(20));
        assert_eq!(who(&book, 7, &[id(2)], 21), [], "what it said last holds");
    }

    #[test]
    fn ten_thousand_announcers_take_no_more_room_than_is_meant_and_push_out_their_own_alone() {
        let mut book = Book::default();
        for number in 0..100 {
            book.remember(bucket(2), node(number), (address(), vec![id(1)]), SECS_MAX, at(0));
        }
        for number in 0..10_000 {
            let secs = number as u64 / 100;
            book.remember(bucket(1), node(number), (address(), vec![id(1)]), SECS_MAX, at(secs));
        }
        assert_eq!(book.len(), 100 + BUCKET_MAX);
        assert_eq!(book.who(bucket(2), node(5000), &[id(1)], 0, at(100)).len(), KEEPERS_MAX, "others stay");
        let newest = book.who(bucket(1), node(5000), &[id(1)], 3, at(100));
        assert!(newest.iter().all(|keeper| keeper.age_secs <= 2), "of one bucket the oldest go: {newest:?}");
        // Many buckets: the one that has most gives way.
        for number in 0..1000usize {
            book.remember(bucket(3 + (number % 200) as u8), node(number), (address(), vec![id(1)]), SECS_MAX, at(100));
        }
        assert_eq!(book.len(), ANNOUNCERS_MAX);
        let draws: std::collections::BTreeSet<NodeKey> = (0..50)
            .flat_map(|chance| book.who(bucket(2), node(5000), &[id(1)], chance, at(100)))
            .map(|keeper| keeper.node)
            .collect();
        assert!(!draws.is_empty());
        assert!(book.who(bucket(2), node(5000), &[id(1)], 0, at(2000)).is_empty());
        book.remember(bucket(2), node(1), (address(), vec![id(1)]), SECS_MAX, at(5000));
        assert_eq!(book.len(), 1, "what ended is forgotten");
    }
}
