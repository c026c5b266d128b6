//! Tell of an object that was stored, in an event's fields.

use super::{Event, FIELD_LIST_MAX, Fields, Kind, Value};
use alloy_primitives::B256;

/// S3's limit of an object's parts: what a verifier hashes one by one is bounded.
pub const PIECES_MAX: u64 = 10_000;

/// The fields of a [`Kind::Put`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Put {
    /// Blinded: a hash of bucket id and a secret of its owner.
    pub bucket: B256,
    /// [`Salt::content`](super::Salt::content) of the plaintext's BLAKE3, or, if there are pieces, of the
    /// BLAKE3 of their hashes.
    pub content: B256,
    /// How the plaintext is cut where its parts came apart from each other: (bytes, how many pieces in a row).
    /// Empty if it was hashed as one.
    pub pieces: Vec<(u64, u64)>,
    pub manifest: B256,
    pub k: u8,
    pub n: u8,
    /// Ids of the deals the shards were stored under.
    pub deals: Vec<u64>,
    /// RFC 6962 root over the acks, in the receipt's order.
    pub acks: B256,
}

impl Put {
    pub fn to_fields(&self) -> Fields {
        let fields = Fields::new()
            .bytes("bucket", self.bucket.as_slice())
            .bytes("content", self.content.as_slice())
            .bytes("manifest", self.manifest.as_slice())
            .uint("k", self.k.into())
            .uint("n", self.n.into())
            .list("deals", self.deals.iter().map(|deal| Value::Uint(*deal)).collect())
            .bytes("acks", self.acks.as_slice());
        if self.pieces.is_empty() {
            return fields;
        }
        let pieces = self.pieces.iter().flat_map(|(bytes, count)| [Value::Uint(*bytes), Value::Uint(*count)]);
        fields.list("pieces", pieces.collect())
    }

    /// Pieces of these sizes as an event tells of them; `None` if they are too unlike for one event.
    pub fn pieces(sizes: impl IntoIterator<Item = u64>) -> Option<Vec<(u64, u64)>> {
        let mut pieces: Vec<(u64, u64)> = Vec::new();
        for bytes in sizes {
            match pieces.last_mut() {
                Some((same, count)) if *same == bytes => *count += 1,
                _ => pieces.push((bytes, 1)),
            }
        }
        (pieces.len() <= FIELD_LIST_MAX / 2).then_some(pieces)
    }

    /// The put an event tells of; `None` if it tells of something else, the field's name if one is not as it must be.
    pub fn from_event(event: &Event) -> Option<Result<Self, &'static str>> {
        (event.kind == Kind::Put).then(|| Self::from_fields(&event.fields))
    }

    fn from_fields(fields: &Fields) -> Result<Self, &'static str> {
        let hash = |name| fields.get(name).and_then(as_hash).ok_or(name);
        let byte = |name| match fields.get(name) {
            Some(Value::Uint(value)) => u8::try_from(*value).map_err(|_| name),
            _ => Err(name),
        };
        let deals = match fields.get("deals") {
            Some(Value::List(list)) => list.iter().map(as_uint).collect::<Option<_>>().ok_or("deals")?,
            _ => return Err("deals"),
        };
        let pieces = match fields.get("pieces") {
            None => Vec::new(),
            Some(Value::List(list)) if !list.is_empty() && list.len().is_multiple_of(2) => {
                let numbers: Vec<u64> = list.iter().map(as_uint).collect::<Option<_>>().ok_or("pieces")?;
                let pieces: Vec<(u64, u64)> = numbers.chunks_exact(2).map(|pair| (pair[0], pair[1])).collect();
                let count = pieces.iter().fold(0u64, |sum, (_, count)| sum.saturating_add(*count));
                if count > PIECES_MAX || pieces.iter().any(|(_, count)| *count == 0) {
                    return Err("pieces");
                }
                pieces
            }
            Some(_) => return Err("pieces"),
        };
        Ok(Self {
            bucket: hash("bucket")?,
            content: hash("content")?,
            pieces,
            manifest: hash("manifest")?,
            k: byte("k")?,
            n: byte("n")?,
            deals,
            acks: hash("acks")?,
        })
    }
}

fn as_uint(value: &Value) -> Option<u64> {
    match value {
        Value::Uint(value) => Some(*value),
        _ => None,
    }
}

fn as_hash(value: &Value) -> Option<B256> {
    match value {
        Value::Bytes(bytes) => B256::try_from(bytes.as_slice()).ok(),
        _ => None,
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::event::{Salt, tests::event};

    pub(in crate::event) fn put() -> Put {
        Put {
            bucket: B256::repeat_byte(1),
            content: Salt([7; 16]).content(&[9; 32]),
            pieces: Vec::new(),
            manifest: B256::repeat_byte(3),
            k: 3,
            n: 6,
            deals: (0..6).map(|i| i << 40).collect(),
            acks: B256::repeat_byte(5),
        }
    }

    #[test]
    fn pieces_are_told_in_runs() {
        assert_eq!(Put::pieces([5, 5, 5, 2]), Some(vec![(5, 3), (2, 1)]));
        assert_eq!(Put::pieces(0..200), None, "too unlike");
        let cut = Put { pieces: vec![(5 << 20, 9_999), (7, 1)], ..put() };
        let event = Event { fields: cut.to_fields(), ..event() };
        let read = Event::decode(&event.encode().unwrap()).unwrap();
        assert_eq!(Put::from_event(&read), Some(Ok(cut)));
        let endless = Value::List(vec![Value::Uint(0), Value::Uint(u64::MAX)]);
        for bad in [endless, Value::List(vec![]), Value::List(vec![Value::Uint(1)]), Value::Uint(1)] {
            let event = Event {
                fields: {
                    let mut fields = put().to_fields();
                    fields.set("pieces", bad);
                    fields
                },
                ..event.clone()
            };
            assert_eq!(Put::from_event(&event), Some(Err("pieces")));
        }
    }
}
