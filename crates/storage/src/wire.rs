//! Carry shards between a client and a provider.
//!
//! Protocol `hodei/shard/1`: one stream per request. Upon opening it the client sends one [`Request`], for
//! PUT followed by the shard's bytes; upon receiving it the provider sends one [`Answer`], for a slice
//! followed by its bytes; then both close. A message is a u32 length, big-endian, and that many bytes of
//! canonical CBOR `[kind, …]`. A provider that will not take a body says so before it, and a client that reads
//! an answer early stops sending: a refusal is always a typed message, never a bare reset.
//!
//! Upon ANNOUNCE and WHO a provider lets readers of one bucket find each other: [`crate::crowd`].
//! Upon PUT the provider hashes while receiving and answers [`Answer::Held`] only when shard and deal tree
//! are on disk; the same PUT again gives an ack for the same position. Nothing here trusts a peer: every
//! length has a limit, and what a provider says of a shard is checked against its id.

mod tick;

pub use tick::{Tab, Tick};

use commonware_runtime::{Buf, Error as RuntimeError, IoBuf, Sink, Stream};
use hodei_types::{
    abi::{pack_addresses, unpack_reach},
    ack::Ack,
    cbor::{CborError, Reader, Writer},
    code::SHARD_BYTES_MAX,
    decline::{DeclineError, Declined},
    holding::{self, HoldingError, NODE_BYTES, PATH_MAX},
    slice::{CHUNK_BYTES, HASHES_MAX, ShardId},
    transport::NodeKey,
};
use std::net::SocketAddr;

/// Version of this protocol, in HELLO.
pub const VERSION: u64 = 1;
/// Ids of one HAS, RELEASE or KEEP.
pub const IDS_MAX: usize = 4096;
/// A message without ids fits.
pub const MESSAGE_BYTES_MAX: usize = 4096;
/// One with ids.
pub const LIST_BYTES_MAX: usize = IDS_MAX * 34 + 1024;
/// Shards of one LISTED.
pub const LISTED_MAX: usize = 4096;
/// Bytes of each: its id, and its KiB as u16.
const LISTED_BYTES: usize = 34;
/// Bytes of an owner's grant, opaque here: see `types::grant`.
pub const GRANT_BYTES_MAX: usize = 512;
/// Ids of one ANNOUNCE.
pub const ANNOUNCED_MAX: usize = 256;
/// Ids of one WHO.
pub const WHO_MAX: usize = 64;
/// Readers that one answer names.
pub const KEEPERS_MAX: usize = 8;
/// Addresses of each.
pub const KEEPER_ADDRESSES_MAX: usize = 4;
/// Bytes of a reason for people.
const REASON_BYTES_MAX: usize = 256;

/// Names one upload attempt; also the idempotency key of a put.
pub type UploadId = [u8; 16];

/// What a client asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// Once a connection, within 5 s.
    Hello { version: u64 },
    /// Store a shard for a deal; its `len` bytes follow.
    Put { deal: u64, id: ShardId, len: u32, upload: UploadId, grant: Vec<u8> },
    /// Read `len` bytes from `offset` of a shard, both multiples of 1 KiB; `len` 0 means to the end.
    Get { deal: u64, id: ShardId, offset: u32, len: u32, grant: Vec<u8> },
    /// Which of these does the deal hold?
    Has { deal: u64, ids: Vec<ShardId>, grant: Vec<u8> },
    /// Stop being paid for these.
    Release { deal: u64, ids: Vec<ShardId>, grant: Vec<u8> },
    /// Refuse to release these before `until_ms` of the ledger's time, in milliseconds since 1970, whoever asks.
    Keep { deal: u64, ids: Vec<ShardId>, until_ms: u64, grant: Vec<u8> },
    /// The deal's newest statement, to post it or to reconcile.
    State { deal: u64, grant: Vec<u8> },
    /// What the deal holds, in the order in which it came, from position `from` on.
    List { deal: u64, from: u64, grant: Vec<u8> },
    /// This reader keeps what these pages lead to, and gives it to others who may read the bucket, for so long.
    Announce { deal: u64, ids: Vec<ShardId>, addresses: Vec<SocketAddr>, secs: u64, grant: Vec<u8> },
    /// Which readers keep what these pages lead to?
    Who { deal: u64, ids: Vec<ShardId>, grant: Vec<u8> },
    /// Pay for what was read under a metered grant: the next value of one of its tab's chains.
    Tick { deal: u64, tick: Tick, grant: Vec<u8> },
}

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

/// A provider's ack of one shard, with what ties the shard to the signed root.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    pub ack: Ack,
    /// Entries in the deal's tree the ack's root is over.
    pub shards: u64,
    /// Sum nodes from the entry to the top, 40 bytes each.
    pub path: Vec<u8>,
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

/// Why a message was not sent or understood.
#[derive(Debug, thiserror::Error)]
pub enum WireError {
    #[error("stream: {0}")]
    Stream(#[from] RuntimeError),
    #[error("message: {0}")]
    Cbor(#[from] CborError),
    #[error("refusal: {0}")]
    Decline(#[from] DeclineError),
    #[error("message kind {0} is unknown")]
    Kind(u64),
    #[error("message of {found} bytes, at most {max} allowed")]
    TooLong { found: u64, max: usize },
    #[error("{0} is beyond its limit")]
    Limit(&'static str),
}

impl Held {
    /// Checks signature and path: this node holds `id`, `shard_bytes` long, durably in that deal.
    pub fn verify(
        &self,
        chain_id: u64,
        node: &NodeKey,
        deal: u64,
        id: &ShardId,
        shard_bytes: u32,
    ) -> Result<(), HeldError> {
        let statement = &self.ack.statement;
        if statement.deal != deal {
            return Err(HeldError::Deal { expected: deal, found: statement.deal });
        }
        self.ack.verify(chain_id, node)?;
        let count = u64::from(shard_bytes) / CHUNK_BYTES as u64;
        let (root, at) = (&statement.root, statement.position);
        Ok(holding::verify_entry(root, statement.leaves, self.shards, at, id, count, &self.path)?)
    }
}

/// Why an ack proves nothing: a verdict on the provider.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HeldError {
    #[error("expected an ack of deal {expected}, found {found}")]
    Deal { expected: u64, found: u64 },
    #[error(transparent)]
    Signature(#[from] hodei_types::ack::BadAck),
    #[error(transparent)]
    Path(#[from] HoldingError),
}

impl Request {
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Writer::new();
        match self {
            Self::Hello { version } => out.array(2).uint(1).uint(*version),
            Self::Put { deal, id, len, upload, grant } => {
                out.array(6).uint(2).uint(*deal).bytes(&id.0).uint((*len).into()).bytes(upload).bytes(grant)
            }
            Self::Get { deal, id, offset, len, grant } => {
                out.array(6).uint(3).uint(*deal).bytes(&id.0).uint((*offset).into()).uint((*len).into()).bytes(grant)
            }
            Self::Has { deal, ids, grant } => list(&mut out, 4, *deal, ids).bytes(grant),
            Self::Release { deal, ids, grant } => list(&mut out, 5, *deal, ids).bytes(grant),
            Self::Keep { deal, ids, until_ms, grant } => {
                out.array(5).uint(7).uint(*until_ms).uint(*deal).array(ids.len());
                ids.iter().for_each(|id| _ = out.bytes(&id.0));
                out.bytes(grant)
            }
            Self::State { deal, grant } => out.array(3).uint(6).uint(*deal).bytes(grant),
            Self::List { deal, from, grant } => out.array(4).uint(8).uint(*deal).uint(*from).bytes(grant),
            Self::Announce { deal, ids, addresses, secs, grant } => {
                out.array(6).uint(9).uint(*secs).bytes(&pack_addresses(addresses)).uint(*deal).array(ids.len());
                ids.iter().for_each(|id| _ = out.bytes(&id.0));
                out.bytes(grant)
            }
            Self::Who { deal, ids, grant } => list(&mut out, 10, *deal, ids).bytes(grant),
            Self::Tick { deal, tick, grant } => {
                out.array(8).uint(11).uint(*deal);
                tick.write(&mut out);
                out.bytes(grant)
            }
        };
        out.finish()
    }

    pub fn decode(bytes: &[u8]) -> Result<Self, WireError> {
        let mut input = Reader::new(bytes);
        let (values, kind) = (input.array(8)?, input.uint()?);
        let request = match (kind, values) {
            (1, 2) => Self::Hello { version: input.uint()? },
            (2, 6) => Self::Put {
                deal: input.uint()?,
                id: ShardId(input.fixed()?),
                len: shard_len(&mut input)?,
                upload: input.fixed()?,
                grant: grant(&mut input)?,
            },
            (3, 6) => Self::Get {
                deal: input.uint()?,
                id: ShardId(input.fixed()?),
                offset: shard_len(&mut input)?,
                len: shard_len(&mut input)?,
                grant: grant(&mut input)?,
            },
            (4, 4) => Self::Has { deal: input.uint()?, ids: ids(&mut input)?, grant: grant(&mut input)? },
            (5, 4) => Self::Release { deal: input.uint()?, ids: ids(&mut input)?, grant: grant(&mut input)? },
            (7, 5) => {
                let (until_ms, deal) = (input.uint()?, input.uint()?);
                Self::Keep { deal, ids: ids(&mut input)?, until_ms, grant: grant(&mut input)? }
            }
            (6, 3) => Self::State { deal: input.uint()?, grant: grant(&mut input)? },
            (8, 4) => Self::List { deal: input.uint()?, from: input.uint()?, grant: grant(&mut input)? },
            (9, 6) => {
                let (secs, addresses) = (input.uint()?, addresses(&mut input)?);
                let (deal, ids) = (input.uint()?, some_ids(&mut input, ANNOUNCED_MAX)?);
                Self::Announce { deal, ids, addresses, secs, grant: grant(&mut input)? }
            }
            (10, 4) => {
                Self::Who { deal: input.uint()?, ids: some_ids(&mut input, WHO_MAX)?, grant: grant(&mut input)? }
            }
            (11, 8) => Self::Tick { deal: input.uint()?, tick: Tick::read(&mut input)?, grant: grant(&mut input)? },
            _ => return Err(WireError::Kind(kind)),
        };
        input.end()?;
        Ok(request)
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

/// Sends one message; `body` follows it in the same write.
pub async fn send<S: Sink>(sink: &mut S, message: Vec<u8>, body: bytes::Bytes) -> Result<(), WireError> {
    let len = u32::try_from(message.len()).map_err(|_| WireError::Limit("message"))?;
    let mut head = Vec::with_capacity(4 + message.len());
    head.extend_from_slice(&len.to_be_bytes());
    head.extend_from_slice(&message);
    sink.send(vec![IoBuf::from(head), IoBuf::from(body)]).await?;
    Ok(())
}

/// Receives one message of at most `max` bytes.
pub async fn receive<S: Stream>(stream: &mut S, max: usize) -> Result<Vec<u8>, WireError> {
    let len = stream.recv(4).await?.get_u32() as usize;
    if len > max {
        return Err(WireError::TooLong { found: len as u64, max });
    }
    body(stream, len).await.map(Vec::from)
}

/// Receives the `len` bytes that follow a message; the caller has bounded `len`.
pub async fn body<S: Stream>(stream: &mut S, len: usize) -> Result<bytes::Bytes, WireError> {
    if len == 0 {
        return Ok(bytes::Bytes::new());
    }
    let mut received = stream.recv(len).await?;
    Ok(received.copy_to_bytes(len))
}

fn list<'a>(out: &'a mut Writer, kind: u64, deal: u64, ids: &[ShardId]) -> &'a mut Writer {
    out.array(4).uint(kind).uint(deal).array(ids.len());
    for id in ids {
        out.bytes(&id.0);
    }
    out
}

fn ids(input: &mut Reader<'_>) -> Result<Vec<ShardId>, WireError> {
    let len = input.array(IDS_MAX)?;
    (0..len).map(|_| Ok(ShardId(input.fixed()?))).collect()
}

/// At least one, and so many at most.
fn some_ids(input: &mut Reader<'_>, max: usize) -> Result<Vec<ShardId>, WireError> {
    match input.array(max)? {
        0 => Err(WireError::Limit("no ids")),
        len => (0..len).map(|_| Ok(ShardId(input.fixed()?))).collect(),
    }
}

fn addresses(input: &mut Reader<'_>) -> Result<Vec<SocketAddr>, WireError> {
    let reach = unpack_reach(input.bytes(KEEPER_ADDRESSES_MAX * 18)?);
    // Readers are reached directly.
    reach.filter(|reach| reach.relays.is_empty()).map(|reach| reach.addresses).ok_or(WireError::Limit("addresses"))
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

fn grant(input: &mut Reader<'_>) -> Result<Vec<u8>, WireError> {
    Ok(input.bytes(GRANT_BYTES_MAX)?.to_vec())
}

fn small(input: &mut Reader<'_>, what: &'static str) -> Result<u32, WireError> {
    u32::try_from(input.uint()?).map_err(|_| WireError::Limit(what))
}

fn shard_len(input: &mut Reader<'_>) -> Result<u32, WireError> {
    let len = small(input, "shard length")?;
    if len > SHARD_BYTES_MAX { Err(WireError::Limit("shard length")) } else { Ok(len) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hodei_types::{
        ack::{Signer, Statement},
        decline::{Decline, Ground},
    };

    fn requests() -> Vec<Request> {
        let (deal, id, grant) = (7, ShardId([3; 32]), vec![9; 100]);
        vec![
            Request::Hello { version: 1 },
            Request::Put { deal, id, len: 262144, upload: [1; 16], grant: grant.clone() },
            Request::Get { deal, id, offset: 1024, len: 0, grant: vec![] },
            Request::Has { deal, ids: vec![id; IDS_MAX], grant: grant.clone() },
            Request::Release { deal, ids: vec![id], grant: grant.clone() },
            Request::Keep { deal, ids: vec![id; IDS_MAX], until_ms: 1 << 41, grant: grant.clone() },
            Request::State { deal, grant: grant.clone() },
            Request::List { deal, from: 9, grant: grant.clone() },
            Request::Tick { deal, tick: tick(vec![]), grant: grant.clone() },
            Request::Tick { deal, tick: tick(vec![6; 452]), grant },
        ]
    }

    /// What came with readers that keep and serve.
    fn meeting() -> (Vec<Request>, Vec<Answer>) {
        let (deal, grant) = (7, vec![9; 100]);
        let addresses = vec!["127.0.0.1:4000".parse().unwrap(), "[2001:db8::1]:1".parse().unwrap()];
        let ids = vec![id(); ANNOUNCED_MAX];
        let announce = Request::Announce { deal, ids, addresses: addresses.clone(), secs: 300, grant: grant.clone() };
        let who = Request::Who { deal, ids: vec![id(); WHO_MAX], grant };
        let keeper = Keeper { node: NodeKey([2; 32]), addresses, has: vec![1; WHO_MAX / 8], age_secs: 9 };
        let answers = [Answer::Announced { kept: 256, secs: 300 }, Answer::Keepers(vec![keeper; KEEPERS_MAX])];
        (vec![announce, who], answers.into())
    }

    fn tick(opening: Vec<u8>) -> Tick {
        Tick { tab: [4; 32], leaf: 1023, index: 77, value: [5; 32], opening }
    }

    fn id() -> ShardId {
        ShardId([3; 32])
    }

    fn declined() -> Declined {
        let decline = Decline { deal: 7, id: id(), time_ms: 1_800_000_000_000, ground: Ground::Report };
        decline.sign(5, &Signer::new(&[1; 32]))
    }

    fn answers() -> Vec<Answer> {
        let statement = Statement { deal: 7, sequence: 2, position: 1, root: [4; 32], leaves: 512 };
        let ack = Signer::new(&[1; 32]).ack(5, statement);
        vec![
            Answer::Hello { version: 1, free_bytes: 1 << 40, queued_bytes: 0 },
            Answer::Held(Held { ack, shards: 2, path: vec![8; 40] }),
            Answer::Slice { shard_bytes: 262144, offset: 0, len: 16384, hashes: vec![1; 128] },
            Answer::Bitmap(vec![5; 512]),
            Answer::State { ack: Some(ack), shards: 2 },
            Answer::State { ack: None, shards: 0 },
            Answer::Busy { retry_after_ms: 50 },
            Answer::Full { free_bytes: 0 },
            Answer::Gone,
            Answer::Refused { reason: Reason::WrongBytes, text: "shard hashes to 00".into() },
            Answer::Listed { next: 5000, end: 5001, shards: vec![(id(), 256); LISTED_MAX] },
            Answer::Declined(declined()),
            Answer::Known { held: vec![5; 512], declined: vec![2; 512] },
            Answer::Tab(Tab { taken: 77, value: [5; 32], served_bytes: 80 << 20, credit_bytes: 4 << 20 }),
        ]
    }

    #[test]
    fn messages_have_one_encoding_within_their_limit() {
        for request in requests().into_iter().chain(meeting().0) {
            let bytes = request.encode();
            let list = matches!(
                request,
                Request::Has { .. } | Request::Release { .. } | Request::Keep { .. } | Request::Announce { .. }
            );
            assert!(bytes.len() <= if list { LIST_BYTES_MAX } else { MESSAGE_BYTES_MAX });
            assert_eq!(Request::decode(&bytes).unwrap(), request);
        }
        for answer in answers().into_iter().chain(meeting().1) {
            let bytes = answer.encode();
            let is_list = matches!(answer, Answer::Listed { .. });
            assert!(bytes.len() <= if is_list { LIST_BYTES_MAX } else { MESSAGE_BYTES_MAX });
            assert_eq!(Answer::decode(&bytes).unwrap(), answer);
        }
    }

    /// The bytes of version 1: a change here is a new version, not an edit.
    #[test]
    fn the_protocol_is_frozen() {
        let requests: Vec<_> = requests().iter().map(Request::encode).collect();
        let answers: Vec<_> = answers().iter().map(Answer::encode).collect();
        let of = |ask: &[u8], tell: &[u8]| {
            let asked = requests.iter().filter(|bytes| ask.contains(&bytes[1]));
            let told = answers.iter().filter(|bytes| tell.contains(&bytes[1]));
            let messages: Vec<&[u8]> = asked.chain(told).map(Vec::as_slice).collect();
            blake3::hash(&messages.concat()).to_hex()[..16].to_owned()
        };
        assert_eq!(of(&[1, 2, 3, 4, 5, 6], &[1, 2, 3, 4, 5, 6, 7, 8, 9]), "664972c0fa6048a7");
        // KEEP came later, then LIST and LISTED, then TICK and TAB, then what a provider declines, and changed no other
        // message.
        assert_eq!(of(&[7], &[]), "5ddfc4b9255035c6");
        assert_eq!(of(&[8], &[10]), "5583ac71c38e83b6");
        assert_eq!(of(&[11], &[13]), "d8fcdaa8eb954b6b");
        assert_eq!(of(&[], &[14, 15]), "b450b15586ebc46b");
        let (asked, told) = meeting();
        let all = asked.iter().map(Request::encode).chain(told.iter().map(Answer::encode)).collect::<Vec<_>>().concat();
        assert_eq!(blake3::hash(&all).to_hex()[..16], *"70acf2080879b52c");
    }

    #[test]
    fn whatever_decodes_re_encodes_to_itself() {
        let mut seed = 1u64;
        let mut random = move || {
            seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (seed >> 33) as usize
        };
        let mut good: Vec<Vec<u8>> = requests().iter().map(Request::encode).collect();
        good.extend(answers().iter().map(Answer::encode));
        good.extend(meeting().0.iter().map(Request::encode).chain(meeting().1.iter().map(Answer::encode)));
        for _ in 0..30_000 {
            let mut bytes = good[random() % good.len()].clone();
            bytes.truncate(400);
            for _ in 0..random() % 4 {
                let at = random() % bytes.len();
                bytes[at] = random() as u8;
            }
            bytes.truncate(random() % (bytes.len() + 1));
            if let Ok(request) = Request::decode(&bytes) {
                assert_eq!(request.encode(), bytes);
            }
            if let Ok(answer) = Answer::decode(&bytes) {
                assert_eq!(answer.encode(), bytes);
            }
        }
    }

    #[test]
    fn what_is_beyond_a_limit_is_refused() {
        let deal = 1;
        let many = Request::Has { deal, ids: vec![ShardId([0; 32]); IDS_MAX + 1], grant: vec![] };
        assert!(matches!(Request::decode(&many.encode()), Err(WireError::Cbor(CborError::TooLong { .. }))));
        let tick = Request::Tick { deal, tick: tick(vec![0; 453]), grant: vec![] };
        assert!(matches!(Request::decode(&tick.encode()), Err(WireError::Cbor(CborError::TooLong { .. }))));
        let id = ShardId([0; 32]);
        let long = Request::Put { deal, id, len: SHARD_BYTES_MAX + 1, upload: [0; 16], grant: vec![] };
        assert!(matches!(Request::decode(&long.encode()), Err(WireError::Limit("shard length"))));
        let (announce, who) = (
            |ids| Request::Announce { deal, ids, addresses: vec![], secs: 60, grant: vec![] },
            |ids| Request::Who { deal, ids, grant: vec![] },
        );
        for beyond in [announce(vec![id; ANNOUNCED_MAX + 1]), announce(vec![]), who(vec![id; WHO_MAX + 1]), who(vec![])]
        {
            assert!(Request::decode(&beyond.encode()).is_err());
        }
        assert!(matches!(Request::decode(&[0x81, 0x18, 0x63]), Err(WireError::Kind(0x63))));
    }

    #[test]
    fn an_ack_ties_the_shard_to_the_signed_root() {
        let signer = Signer::new(&[1; 32]);
        let id = ShardId([3; 32]);
        let mut frontier = holding::Frontier::default();
        frontier.append(holding::leaf(&ShardId([2; 32]), 256));
        let beside = holding::leaf(&ShardId([2; 32]), 256).to_bytes().to_vec();
        let position = frontier.append(holding::leaf(&id, 256));
        let statement = Statement { deal: 7, sequence: 2, position, root: frontier.root(), leaves: frontier.leaves() };
        let held = Held { ack: signer.ack(5, statement), shards: 2, path: beside };
        assert_eq!(held.verify(5, &signer.node(), 7, &id, 262144), Ok(()));
        assert!(matches!(held.verify(5, &signer.node(), 8, &id, 262144), Err(HeldError::Deal { .. })));
        assert!(matches!(held.verify(6, &signer.node(), 7, &id, 262144), Err(HeldError::Signature(_))));
        assert!(matches!(held.verify(5, &signer.node(), 7, &id, 131072), Err(HeldError::Path(_))));
        assert!(matches!(held.verify(5, &signer.node(), 7, &ShardId([9; 32]), 262144), Err(HeldError::Path(_))));
    }
}
