//! Say what a provider answers.

use super::{
    Held, IDS_MAX, KEEPERS_MAX, LISTED_BYTES, LISTED_MAX, REASON_BYTES_MAX, Tab, WHO_MAX, WireError, addresses,
    shard_len, small,
};
use hodei_types::{
    abi::pack_addresses,
    ack::Ack,
    cbor::{Reader, Writer},
    decline::Declined,
    holding::{NODE_BYTES, PATH_MAX},
    slice::{HASHES_MAX, ShardId},
    transport::NodeKey,
};
use std::net::SocketAddr;

/// A reader that said that it keeps what pages lead to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Keeper {
    pub node: NodeKey,
    /// Where it says it is.
    pub addresses: Vec<SocketAddr>,
    /// One bit per id asked, as in [`Answer::Bitmap`].
    pub has: Vec<u8>,
    /// Since it said so.
    pub age_secs: u64,
}

/// What a provider answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    Hello {
        version: u64,
        free_bytes: u64,
        queued_bytes: u64,
    },
    Held(Held),
    /// `len` bytes from `offset` of the shard follow; `hashes` are those beside it (`types::slice`).
    Slice {
        shard_bytes: u32,
        offset: u32,
        len: u32,
        hashes: Vec<u8>,
    },
    /// One bit per id asked, first id in the lowest bit of the first byte: whether it is held; after KEEP, and kept.
    Bitmap(Vec<u8>),
    /// The deal's newest statement: after a release, or because it was asked. `None` while it is empty.
    State {
        ack: Option<Ack>,
        shards: u64,
    },
    /// Shards that are held, each with its KiB; the next question begins at `next`, and there is nothing behind `end`.
    Listed {
        next: u64,
        end: u64,
        shards: Vec<(ShardId, u16)>,
    },
    /// Where the provider counts, after a tick.
    Tab(Tab),
    /// Too much queued: again after so many milliseconds.
    Busy {
        retry_after_ms: u32,
    },
    /// The pledge is used up. Said before the body.
    Full {
        free_bytes: u64,
    },
    /// The provider does not have this shard.
    Gone,
    /// It will not have this shard, nor give it; its signed word for it, bound to the deal that was asked.
    Declined(Declined),
    /// As [`Answer::Bitmap`], after HAS, where some of the ids are declined: these have a bit in the second map.
    Known {
        held: Vec<u8>,
        declined: Vec<u8>,
    },
    Refused {
        reason: Reason,
        text: String,
    },
    /// So many of the pages announced are remembered, for so long.
    Announced {
        kept: u64,
        secs: u64,
    },
    /// Readers that keep what some of the pages lead to.
    Keepers(Vec<Keeper>),
}

/// Why a request was refused; trying it again unchanged is of no use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Reason {
    /// Not a message of this protocol, or beyond a limit.
    Malformed = 1,
    /// No such open deal with this provider.
    UnknownDeal = 2,
    /// The grant does not allow this to this client.
    NotGranted = 3,
    /// The body is not the shard of that id.
    WrongBytes = 4,
    /// The deal's capacity is used up.
    DealFull = 5,
    /// The store has stopped; its operator has been told.
    Broken = 6,
    /// Another version.
    Version = 7,
    /// Some of these are kept until a later time; the others were released.
    Kept = 8,
    /// More was read under this metered grant than its ticks and the credit pay for, or a tick pays for nothing here.
    Unpaid = 9,
}

impl Reason {
    fn from_u8(reason: u8) -> Option<Self> {
        use Reason::{Broken, DealFull, Kept, Malformed, NotGranted, UnknownDeal, Unpaid, Version, WrongBytes};
        [Malformed, UnknownDeal, NotGranted, WrongBytes, DealFull, Broken, Version, Kept, Unpaid]
            .into_iter()
            .find(|known| *known as u8 == reason)
    }
}

impl Answer {
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Writer::new();
        match self {
            Self::Hello { version, free_bytes, queued_bytes } => {
                out.array(4).uint(1).uint(*version).uint(*free_bytes).uint(*queued_bytes);
            }
            Self::Held(Held { ack, shards, path }) => {
                out.array(4).uint(2);
                ack.write(&mut out);
                out.uint(*shards).bytes(path);
            }
            Self::Slice { shard_bytes, offset, len, hashes } => {
                out.array(5)
                    .uint(3)
                    .uint((*shard_bytes).into())
                    .uint((*offset).into())
                    .uint((*len).into())
                    .bytes(hashes);
            }
            Self::Bitmap(bits) => {
                out.array(2).uint(4).bytes(bits);
            }
            Self::State { ack, shards } => {
                out.array(3).uint(5).array(usize::from(ack.is_some()));
                if let Some(ack) = ack {
                    ack.write(&mut out);
                }
                out.uint(*shards);
            }
            Self::Listed { next, end, shards } => {
                let bytes = shards.iter().flat_map(|(id, kib)| id.0.into_iter().chain(kib.to_be_bytes()));
                out.array(4).uint(10).uint(*next).uint(*end).bytes(&bytes.collect::<Vec<u8>>());
            }
            Self::Tab(tab) => {
                out.array(5).uint(13);
                tab.write(&mut out);
            }
            Self::Busy { retry_after_ms } => {
                out.array(2).uint(6).uint((*retry_after_ms).into());
            }
            Self::Full { free_bytes } => {
                out.array(2).uint(7).uint(*free_bytes);
            }
            Self::Gone => {
                out.array(1).uint(8);
            }
            Self::Declined(declined) => {
                out.array(2).uint(14);
                declined.write(&mut out);
            }
            Self::Known { held, declined } => {
                out.array(3).uint(15).bytes(held).bytes(declined);
            }
            Self::Refused { reason, text } => {
                let end = text.floor_char_boundary(REASON_BYTES_MAX);
                out.array(3).uint(9).uint(*reason as u64).text(&text[..end]);
            }
            Self::Announced { kept, secs } => {
                out.array(3).uint(11).uint(*kept).uint(*secs);
            }
            Self::Keepers(keepers) => {
                out.array(2).uint(12).array(keepers.len());
                for Keeper { node, addresses, has, age_secs } in keepers {
                    out.array(4).bytes(&node.0).bytes(&pack_addresses(addresses)).bytes(has).uint(*age_secs);
                }
            }
        }
        out.finish()
    }

    pub fn decode(bytes: &[u8]) -> Result<Self, WireError> {
        let mut input = Reader::new(bytes);
        let (values, kind) = (input.array(8)?, input.uint()?);
        let answer = match (kind, values) {
            (1, 4) => Self::Hello { version: input.uint()?, free_bytes: input.uint()?, queued_bytes: input.uint()? },
            (2, 4) => Self::Held(Held {
                ack: Ack::read(&mut input)?,
                shards: input.uint()?,
                path: input.bytes(PATH_MAX * NODE_BYTES)?.to_vec(),
            }),
            (3, 5) => Self::Slice {
                shard_bytes: shard_len(&mut input)?,
                offset: shard_len(&mut input)?,
                len: shard_len(&mut input)?,
                hashes: input.bytes(HASHES_MAX * 32)?.to_vec(),
            },
            (4, 2) => Self::Bitmap(input.bytes(IDS_MAX / 8)?.to_vec()),
            (5, 3) => {
                let ack = if input.array(1)? == 1 { Some(Ack::read(&mut input)?) } else { None };
                Self::State { ack, shards: input.uint()? }
            }
            (6, 2) => Self::Busy { retry_after_ms: small(&mut input, "retry_after_ms")? },
            (7, 2) => Self::Full { free_bytes: input.uint()? },
            (8, 1) => Self::Gone,
            (14, 2) => Self::Declined(Declined::read(&mut input)?),
            (15, 3) => {
                Self::Known { held: input.bytes(IDS_MAX / 8)?.to_vec(), declined: input.bytes(IDS_MAX / 8)?.to_vec() }
            }
            (9, 3) => Self::Refused {
                reason: Reason::from_u8(input.byte()?).ok_or(WireError::Limit("reason"))?,
                text: input.text(REASON_BYTES_MAX)?.to_owned(),
            },
            (10, 4) => Self::Listed {
                next: input.uint()?,
                end: input.uint()?,
                shards: listed(input.bytes(LISTED_MAX * LISTED_BYTES)?)?,
            },
            (11, 3) => Self::Announced { kept: input.uint()?, secs: input.uint()? },
            (12, 2) => {
                let count = input.array(KEEPERS_MAX)?;
                Self::Keepers((0..count).map(|_| keeper(&mut input)).collect::<Result<_, _>>()?)
            }
            (13, 5) => Self::Tab(Tab::read(&mut input)?),
            _ => return Err(WireError::Kind(kind)),
        };
        input.end()?;
        Ok(answer)
    }
}

fn keeper(input: &mut Reader<'_>) -> Result<Keeper, WireError> {
    input.tuple(4)?;
    Ok(Keeper {
        node: NodeKey(input.fixed()?),
        addresses: addresses(input)?,
        has: input.bytes(WHO_MAX / 8)?.to_vec(),
        age_secs: input.uint()?,
    })
}

fn listed(bytes: &[u8]) -> Result<Vec<(ShardId, u16)>, WireError> {
    let (shards, []) = bytes.as_chunks::<LISTED_BYTES>() else { return Err(WireError::Limit("a list's end")) };
    let shard = |bytes: &[u8; LISTED_BYTES]| {
        let (id, kib) = bytes.split_at(32);
        (ShardId(id.try_into().expect("32 bytes")), u16::from_be_bytes(kib.try_into().expect("2 bytes")))
    };
    Ok(shards.iter().map(shard).collect())
}
