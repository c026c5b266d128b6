//! Say what happened, in the one way a log records it.
//!
//! An event is a CBOR map: version, sequence in its log, time, kind, actor, and named fields. It has exactly
//! one encoding, so that a leaf hash over the bytes commits to the meaning; [`Event::decode`] refuses any
//! other. Sequences are dense from 0: a gap is a missing event. What must not be guessed from the ledger
//! (names, contents) enters only as a hash salted with the leaf's own salt.

use crate::{
    cbor::{CborError, Reader, Shape, Writer},
    transport::NodeKey,
};
use alloy_primitives::{Address, B256};
use sha2::{Digest as _, Sha256};
use std::borrow::Cow;

mod put;

pub use put::{PIECES_MAX, Put};

/// A put with 255 deal ids takes under 3 KiB; four times that leaves room without letting a log be flooded.
pub const EVENT_BYTES_MAX: usize = 12 * 1024;
pub const FIELDS_MAX: usize = 32;
pub const FIELD_NAME_BYTES_MAX: usize = 32;
pub const FIELD_BYTES_MAX: usize = 4096;
/// One entry per shard of the widest code.
pub const FIELD_LIST_MAX: usize = 256;

const VERSION: u64 = 1;

/// The leaf's salt: without it, a leaf hash tells nothing about the event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Salt(pub [u8; 16]);

impl Salt {
    /// SHA-256(salt ‖ BLAKE3 of the plaintext): names a content only to those who hold the salt.
    pub fn content(&self, blake3: &[u8; 32]) -> B256 {
        let mut hasher = Sha256::new();
        hasher.update(self.0);
        hasher.update(blake3);
        B256::from_slice(&hasher.finalize())
    }

    /// The event's leaf hash: SHA-256(0x00 ‖ salt ‖ event).
    pub fn leaf(&self, event: &[u8]) -> B256 {
        crate::merkle::leaf_of(&[&self.0, event])
    }
}

/// What kind of thing happened. Codes are stored: never reuse one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Kind {
    /// An object was stored: see [`Put`].
    Put = 1,
    /// An object was read.
    Get = 2,
    /// A shard was sent or received.
    Transfer = 3,
    /// A proof of holding was posted.
    Proof = 4,
    /// Coins were paid or received.
    Payment = 5,
    /// An object was removed.
    Delete = 6,
    /// A peer broke its word: the verdict and its evidence.
    Fault = 7,
    /// A node or client began to keep this log again.
    Start = 8,
    /// It stopped in order.
    Stop = 9,
    /// A deal was opened, changed or ended.
    Deal = 10,
    /// A shard was rebuilt.
    Repair = 11,
    /// A shard's bytes were given up.
    Release = 12,
    /// The way to an object was given to whoever has a link, or taken back.
    Share = 13,
    /// A provider refuses a shard from now on: which, since when, on what ground, and its signed word.
    Decline = 14,
    /// A lease began or ended, its replica was started, or answered requests.
    Lease = 15,
}

impl Kind {
    const ALL: [Self; 15] = [
        Self::Put,
        Self::Get,
        Self::Transfer,
        Self::Proof,
        Self::Payment,
        Self::Delete,
        Self::Fault,
        Self::Start,
        Self::Stop,
        Self::Deal,
        Self::Repair,
        Self::Release,
        Self::Share,
        Self::Decline,
        Self::Lease,
    ];

    pub fn from_code(code: u64) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| *kind as u64 == code)
    }

    /// Lower-case word for people and metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Put => "put",
            Self::Get => "get",
            Self::Transfer => "transfer",
            Self::Proof => "proof",
            Self::Payment => "payment",
            Self::Delete => "delete",
            Self::Fault => "fault",
            Self::Start => "start",
            Self::Stop => "stop",
            Self::Deal => "deal",
            Self::Repair => "repair",
            Self::Release => "release",
            Self::Share => "share",
            Self::Decline => "decline",
            Self::Lease => "lease",
        }
    }
}

/// Who did it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Actor {
    /// An account on the ledger: 20 bytes.
    Account(Address),
    /// A node: its Ed25519 key, 32 bytes.
    Node(NodeKey),
}

/// A field's value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    Uint(u64),
    Bytes(Vec<u8>),
    Text(String),
    /// At most [`FIELD_LIST_MAX`] scalars; lists do not nest.
    List(Vec<Value>),
}

/// An event's named values, in canonical order: shorter names first, equal lengths by bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fields(Vec<(Cow<'static, str>, Value)>);

impl Fields {
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets a field, replacing one of the same name.
    pub fn set(&mut self, name: impl Into<Cow<'static, str>>, value: Value) {
        let name = name.into();
        match self.0.binary_search_by(|(other, _)| order(other, &name)) {
            Ok(at) => self.0[at].1 = value,
            Err(at) => self.0.insert(at, (name, value)),
        }
    }

    pub fn uint(mut self, name: &'static str, value: u64) -> Self {
        self.set(name, Value::Uint(value));
        self
    }

    pub fn bytes(mut self, name: &'static str, value: &[u8]) -> Self {
        self.set(name, Value::Bytes(value.to_vec()));
        self
    }

    pub fn text(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.set(name, Value::Text(value.into()));
        self
    }

    pub fn list(mut self, name: &'static str, value: Vec<Value>) -> Self {
        self.set(name, Value::List(value));
        self
    }

    pub fn get(&self, name: &str) -> Option<&Value> {
        let at = self.0.binary_search_by(|(other, _)| order(other, name)).ok()?;
        Some(&self.0[at].1)
    }

    pub fn iter(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.0.iter().map(|(name, value)| (name.as_ref(), value))
    }
}

/// RFC 8949 section 4.2.1: keys in the bytewise order of their encodings, which begin with the length.
fn order(a: &str, b: &str) -> std::cmp::Ordering {
    (a.len(), a.as_bytes()).cmp(&(b.len(), b.as_bytes()))
}

/// One thing that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Position in its log, dense from 0.
    pub sequence: u64,
    /// Milliseconds since 1970 by the log keeper's clock.
    pub time_ms: u64,
    pub kind: Kind,
    pub actor: Actor,
    pub fields: Fields,
}

/// Why bytes are no event, or an event has no encoding.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EventError {
    #[error(transparent)]
    Cbor(#[from] CborError),
    #[error("event has {0} bytes, at most {EVENT_BYTES_MAX} allowed")]
    Size(usize),
    #[error("event kind {0} is unknown")]
    Kind(u64),
    #[error("actor has {0} bytes, expected 20 (account) or 32 (node)")]
    Actor(usize),
    #[error("event has {0} fields, at most {FIELDS_MAX} allowed")]
    Fields(usize),
    #[error("field {0:?}: {1}")]
    Field(String, &'static str),
}

impl Event {
    /// The event's one encoding; refuses what [`Event::decode`] would refuse.
    pub fn encode(&self) -> Result<Vec<u8>, EventError> {
        if self.fields.0.len() > FIELDS_MAX {
            return Err(EventError::Fields(self.fields.0.len()));
        }
        let mut out = Writer::with_capacity(256);
        out.map(6).uint(0).uint(VERSION);
        out.uint(1).uint(self.sequence);
        out.uint(2).uint(self.time_ms);
        out.uint(3).uint(self.kind as u64);
        out.uint(4);
        match &self.actor {
            Actor::Account(address) => out.bytes(address.as_slice()),
            Actor::Node(key) => out.bytes(&key.0),
        };
        out.uint(5).map(self.fields.0.len());
        for (name, value) in &self.fields.0 {
            if name.is_empty() || name.len() > FIELD_NAME_BYTES_MAX {
                return Err(EventError::Field(name.to_string(), "name must have 1 to 32 bytes"));
            }
            out.text(name);
            match value {
                Value::List(list) if list.len() > FIELD_LIST_MAX => {
                    return Err(EventError::Field(name.to_string(), "list is longer than 256"));
                }
                Value::List(list) => {
                    out.array(list.len());
                    list.iter().try_for_each(|value| write_scalar(&mut out, name, value))?;
                }
                scalar => write_scalar(&mut out, name, scalar)?,
            }
        }
        let out = out.finish();
        if out.len() > EVENT_BYTES_MAX { Err(EventError::Size(out.len())) } else { Ok(out) }
    }

    /// Reads the one encoding of an event, and no other.
    pub fn decode(bytes: &[u8]) -> Result<Self, EventError> {
        if bytes.len() > EVENT_BYTES_MAX {
            return Err(EventError::Size(bytes.len()));
        }
        let mut input = Reader::new(bytes);
        let at = input.at();
        let found = input.map(6)? as u64;
        if found != 6 {
            return Err(CborError::Value { at, what: "map length", expected: 6, found }.into());
        }
        input.exactly("key", 0)?;
        input.exactly("version", VERSION)?;
        input.exactly("key", 1)?;
        let sequence = input.uint()?;
        input.exactly("key", 2)?;
        let time_ms = input.uint()?;
        input.exactly("key", 3)?;
        let code = input.uint()?;
        let kind = Kind::from_code(code).ok_or(EventError::Kind(code))?;
        input.exactly("key", 4)?;
        let actor = input.bytes(32)?;
        let actor = match actor.len() {
            20 => Actor::Account(Address::from_slice(actor)),
            32 => Actor::Node(NodeKey(actor.try_into().expect("the length was checked"))),
            len => return Err(EventError::Actor(len)),
        };
        input.exactly("key", 5)?;
        let count = input.map(FIELDS_MAX)?;
        let mut fields: Vec<(Cow<'static, str>, Value)> = Vec::with_capacity(count);
        for _ in 0..count {
            let at = input.at();
            let name = input.text(FIELD_NAME_BYTES_MAX)?.to_string();
            if name.is_empty() {
                return Err(EventError::Field(name, "name must have 1 to 32 bytes"));
            }
            if fields.last().is_some_and(|(last, _)| order(last, &name).is_ge()) {
                return Err(CborError::Order { at }.into());
            }
            let value = match input.shape()? {
                Shape::Array => {
                    let len = input.array(FIELD_LIST_MAX)?;
                    Value::List((0..len).map(|_| read_scalar(&mut input, &name)).collect::<Result<_, _>>()?)
                }
                _ => read_scalar(&mut input, &name)?,
            };
            fields.push((Cow::Owned(name), value));
        }
        input.end()?;
        Ok(Self { sequence, time_ms, kind, actor, fields: Fields(fields) })
    }
}

fn write_scalar(out: &mut Writer, name: &str, value: &Value) -> Result<(), EventError> {
    match value {
        Value::Uint(value) => out.uint(*value),
        Value::Bytes(value) if value.len() <= FIELD_BYTES_MAX => out.bytes(value),
        Value::Text(value) if value.len() <= FIELD_BYTES_MAX => out.text(value),
        Value::List(_) => return Err(EventError::Field(name.into(), "lists do not nest")),
        _ => return Err(EventError::Field(name.into(), "value is longer than 4096 bytes")),
    };
    Ok(())
}

fn read_scalar(input: &mut Reader<'_>, name: &str) -> Result<Value, EventError> {
    Ok(match input.shape()? {
        Shape::Uint => Value::Uint(input.uint()?),
        Shape::Bytes => Value::Bytes(input.bytes(FIELD_BYTES_MAX)?.to_vec()),
        Shape::Text => Value::Text(input.text(FIELD_BYTES_MAX)?.to_string()),
        Shape::Array => return Err(EventError::Field(name.into(), "lists do not nest")),
        Shape::Map | Shape::Other => {
            return Err(EventError::Field(name.into(), "value must be an integer, bytes, text or a list"));
        }
    })
}

#[cfg(test)]
mod tests {
    use super::{put::tests::put, *};

    pub(super) fn event() -> Event {
        Event {
            sequence: 300,
            time_ms: 1_800_000_000_000,
            kind: Kind::Put,
            actor: Actor::Account(Address::repeat_byte(0xaa)),
            fields: put().to_fields(),
        }
    }

    #[test]
    fn encoding_round_trips_and_is_frozen() {
        let bytes = event().encode().unwrap();
        assert_eq!(Event::decode(&bytes), Ok(event()));
        assert_eq!(Put::from_event(&event()), Some(Ok(put())));
        assert_eq!(
            alloy_primitives::hex::encode(Sha256::digest(&bytes)),
            "7541b73f61963afe9cd728db914734bbd87fe7441fee2ca0957f7e5865503830"
        );
        for kind in Kind::ALL {
            let fields = Fields::new().text("why", "x").uint("count", u64::MAX);
            let event = Event { kind, actor: Actor::Node(NodeKey([4; 32])), fields, ..event() };
            assert_eq!(Event::decode(&event.encode().unwrap()), Ok(event));
        }
    }

    #[test]
    fn every_flipped_byte_is_refused_or_another_event() {
        let bytes = event().encode().unwrap();
        for at in 0..bytes.len() {
            for bit in 0..8 {
                let mut bent = bytes.clone();
                bent[at] ^= 1 << bit;
                if let Ok(other) = Event::decode(&bent) {
                    assert_ne!(other, event());
                    assert_eq!(other.encode().unwrap(), bent, "a second encoding at {at}");
                }
            }
        }
        for len in 0..bytes.len() {
            Event::decode(&bytes[..len]).expect_err("cut");
        }
        let longer = [&bytes[..], &[0]].concat();
        assert!(matches!(Event::decode(&longer), Err(EventError::Cbor(CborError::Trailing { .. }))));
    }

    #[test]
    fn fields_out_of_order_and_twice_are_refused() {
        let head = |fields: &[(&str, u64)]| {
            let mut out = Writer::new();
            out.map(6).uint(0).uint(1).uint(1).uint(0).uint(2).uint(0).uint(3).uint(2).uint(4).bytes(&[0; 20]);
            out.uint(5).map(fields.len());
            fields.iter().for_each(|(name, value)| {
                out.text(name).uint(*value);
            });
            Event::decode(&out.finish())
        };
        head(&[("b", 1), ("aa", 2)]).unwrap();
        for fields in [[("aa", 1), ("b", 2)], [("b", 1), ("a", 2)], [("a", 1), ("a", 1)]] {
            assert!(matches!(head(&fields), Err(EventError::Cbor(CborError::Order { .. }))), "{fields:?}");
        }
        head(&[("", 1)]).expect_err("empty name");
    }

    #[test]
    fn limits_hold_on_both_sides() {
        let with = |fields| Event { fields, ..event() };
        let many = (0..=FIELDS_MAX).fold(Fields::new(), |mut fields, i| {
            fields.set(format!("f{i}"), Value::Uint(0));
            fields
        });
        assert_eq!(with(many).encode(), Err(EventError::Fields(33)));
        with(Fields::new().bytes("x", &[0; FIELD_BYTES_MAX + 1])).encode().expect_err("long value");
        with(Fields::new().list("x", vec![Value::Uint(0); FIELD_LIST_MAX + 1])).encode().expect_err("long list");
        with(Fields::new().list("x", vec![Value::List(vec![])])).encode().expect_err("nested");
        let bulky = (0..4).fold(Fields::new(), |mut fields, i| {
            fields.set(format!("f{i}"), Value::Bytes(vec![0; FIELD_BYTES_MAX]));
            fields
        });
        assert!(matches!(with(bulky).encode(), Err(EventError::Size(_))));
        let widest = Put { deals: vec![u64::MAX; 255], ..put() };
        with(widest.to_fields()).encode().expect("the widest code fits");
    }
}
