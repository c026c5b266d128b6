//! Say what a client asks of a provider.

use super::{ANNOUNCED_MAX, GRANT_BYTES_MAX, IDS_MAX, Tick, UploadId, WHO_MAX, WireError, addresses, shard_len};
use hodei_types::{
    abi::pack_addresses,
    cbor::{Reader, Writer},
    slice::ShardId,
};
use std::net::SocketAddr;

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

fn grant(input: &mut Reader<'_>) -> Result<Vec<u8>, WireError> {
    Ok(input.bytes(GRANT_BYTES_MAX)?.to_vec())
}
