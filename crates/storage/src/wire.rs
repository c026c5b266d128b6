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

mod answer;
mod held;
mod request;
mod tick;

pub use answer::{Answer, Keeper, Reason};
pub use held::{Held, HeldError};
pub use request::Request;
pub use tick::{Tab, Tick};

use commonware_runtime::{Buf, Error as RuntimeError, IoBuf, Sink, Stream};
use hodei_types::{
    abi::unpack_reach,
    cbor::{CborError, Reader},
    code::SHARD_BYTES_MAX,
    decline::DeclineError,
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

fn addresses(input: &mut Reader<'_>) -> Result<Vec<SocketAddr>, WireError> {
    let reach = unpack_reach(input.bytes(KEEPER_ADDRESSES_MAX * 18)?);
    // Readers are reached directly.
    reach.filter(|reach| reach.relays.is_empty()).map(|reach| reach.addresses).ok_or(WireError::Limit("addresses"))
}

fn small(input: &mut Reader<'_>, what: &'static str) -> Result<u32, WireError> {
    u32::try_from(input.uint()?).map_err(|_| WireError::Limit(what))
}

fn shard_len(input: &mut Reader<'_>) -> Result<u32, WireError> {
    let len = small(input, "shard length")?;
    if len > SHARD_BYTES_MAX { Err(WireError::Limit("shard length")) } else { Ok(len) }
}

#[cfg(test)]
mod tests;
