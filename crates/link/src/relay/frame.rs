//! Read and write the frames of iroh's relay protocol, version 2.
//!
//! One frame a web socket message: one byte of kind, then what the kind says. Keys are 32 bytes; a datagram is one
//! byte of ECN, in a batch two of segment size, and contents, all of which a relay passes on as they came.

use bytes::{BufMut as _, Bytes, BytesMut};
use futures::{Sink, SinkExt as _, Stream, StreamExt as _};
use hodei_types::transport::NodeKey;
use iroh::{PublicKey, Signature};
use tokio_websockets::{Error, Message};

/// What iroh's clients read at most: 64 KiB beside the kind.
pub(super) const FRAME_BYTES_MAX: usize = 1 + 64 * 1024;

const CHALLENGE: u8 = 0;
const ANSWER: u8 = 1;
const WELCOME: u8 = 2;
const REFUSAL: u8 = 3;
const TO_RELAY: u8 = 4;
const TO_RELAY_BATCH: u8 = 5;
const TO_NODE: u8 = 6;
const TO_NODE_BATCH: u8 = 7;
const PING: u8 = 9;
const PONG: u8 = 10;

/// What a node signs is derived from the challenge under this name, so that no relay gets a signature of its choice.
const CHALLENGE_CONTEXT: &str = "iroh-relay handshake v1 challenge signature";

/// A challenge that one node was given.
pub(super) struct Hello([u8; 16]);

impl Hello {
    /// `None` if the system has no randomness.
    pub(super) fn new() -> Option<Self> {
        let mut challenge = [0; 16];
        getrandom::fill(&mut challenge).ok()?;
        Some(Self(challenge))
    }

    pub(super) fn challenge(&self) -> Bytes {
        let mut out = BytesMut::with_capacity(17);
        out.put_u8(CHALLENGE);
        out.put_slice(&self.0);
        out.freeze()
    }

    /// Who signed: 32 bytes of key, the length of what follows, 64 of signature.
    pub(super) fn key(&self, answer: &[u8]) -> Option<NodeKey> {
        let (&[ANSWER], rest) = answer.split_first_chunk::<1>()? else { return None };
        let (key, rest) = rest.split_first_chunk::<32>()?;
        let (&[64], signature) = rest.split_first_chunk::<1>()? else { return None };
        let signature = Signature::from_bytes(signature.try_into().ok()?);
        let message = blake3::derive_key(CHALLENGE_CONTEXT, &self.0);
        PublicKey::from_bytes(key).ok()?.verify(&message, &signature).ok()?;
        Some(NodeKey(*key))
    }
}

pub(super) fn welcome() -> Bytes {
    Bytes::from_static(&[WELCOME])
}

/// At most 127 bytes of text: its length is one byte.
pub(super) fn refusal(reason: &str) -> Bytes {
    debug_assert!(reason.len() < 128);
    let mut out = BytesMut::with_capacity(2 + reason.len());
    out.put_u8(REFUSAL);
    out.put_u8(reason.len() as u8);
    out.put_slice(reason.as_bytes());
    out.freeze()
}

pub(super) fn ping(payload: [u8; 8]) -> Bytes {
    eight(PING, payload)
}

pub(super) fn pong(payload: [u8; 8]) -> Bytes {
    eight(PONG, payload)
}

fn eight(kind: u8, payload: [u8; 8]) -> Bytes {
    let mut out = BytesMut::with_capacity(9);
    out.put_u8(kind);
    out.put_slice(&payload);
    out.freeze()
}

/// What a node says once it is known.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Said {
    Ping([u8; 8]),
    Pong,
    /// Datagrams for somebody.
    Datagrams {
        to: NodeKey,
        is_batch: bool,
        rest: Bytes,
    },
}

/// `None` for a frame that a client does not send.
pub(super) fn said(frame: Bytes) -> Option<Said> {
    let kind = *frame.first()?;
    let rest = frame.slice(1..);
    match kind {
        PING => Some(Said::Ping(rest[..].try_into().ok()?)),
        PONG => (rest.len() == 8).then_some(Said::Pong),
        TO_RELAY | TO_RELAY_BATCH => {
            let is_batch = kind == TO_RELAY_BATCH;
            // ECN, segment size, and at least one byte.
            if rest.len() <= 32 + if is_batch { 3 } else { 1 } {
                return None;
            }
            let to = NodeKey(*rest.first_chunk()?);
            Some(Said::Datagrams { to, is_batch, rest: rest.slice(32..) })
        }
        _ => None,
    }
}

/// The frame that brings somebody's datagrams.
pub(super) fn datagrams(from: NodeKey, is_batch: bool, rest: &[u8]) -> Bytes {
    let mut out = BytesMut::with_capacity(33 + rest.len());
    out.put_u8(if is_batch { TO_NODE_BATCH } else { TO_NODE });
    out.put_slice(&from.0);
    out.put_slice(rest);
    out.freeze()
}

/// The next frame; `None` at the end, or for a message that is none. A web socket's own ping ends the connection too:
/// below this each is answered into a queue without bound, and iroh's clients send none.
pub(super) async fn next(socket: &mut (impl Stream<Item = Result<Message, Error>> + Unpin)) -> Option<Bytes> {
    let message = socket.next().await?.ok()?;
    message.is_binary().then(|| message.into_payload().into())
}

pub(super) async fn send(socket: &mut (impl Sink<Message, Error = Error> + Unpin), frame: Bytes) -> Option<()> {
    socket.send(Message::binary(frame)).await.ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use iroh::SecretKey;

    fn answer(secret: &SecretKey, hello: &Hello) -> Vec<u8> {
        let signature = secret.sign(&blake3::derive_key(CHALLENGE_CONTEXT, &hello.0)).to_bytes();
        [&[ANSWER][..], secret.public().as_bytes(), &[64], &signature].concat()
    }

    #[test]
    fn only_the_key_that_signed_is_believed() {
        let (hello, secret) = (Hello::new().unwrap(), SecretKey::from_bytes(&[7; 32]));
        let good = answer(&secret, &hello);
        assert_eq!(hello.key(&good), Some(NodeKey(*secret.public().as_bytes())));
        assert_eq!(Hello([0; 16]).key(&good), None, "another challenge");
        let mut other = good.clone();
        other[1..33].copy_from_slice(SecretKey::from_bytes(&[8; 32]).public().as_bytes());
        assert_eq!(hello.key(&other), None, "another key");
        for cut in 0..good.len() {
            assert_eq!(hello.key(&good[..cut]), None, "{cut} bytes");
        }
        assert_eq!(hello.key(&[&good[..], &[0]].concat()), None, "a byte too many");
    }

    #[test]
    fn frames_that_say_nothing_are_refused() {
        let frame = |bytes: &[u8]| said(Bytes::copy_from_slice(bytes));
        assert_eq!(frame(&[]), None);
        assert_eq!(frame(&[PING, 1]), None);
        assert_eq!(frame(&[TO_NODE; 64]), None, "a relay's own kind");
        assert_eq!(frame(&[&[TO_RELAY][..], &[1; 33]].concat()), None, "no contents");
        assert_eq!(frame(&[&[TO_RELAY_BATCH][..], &[1; 35]].concat()), None, "no contents");
        let Some(Said::Datagrams { to, is_batch: false, rest }) = frame(&[&[TO_RELAY][..], &[1; 34]].concat()) else {
            panic!("a datagram of one byte");
        };
        assert_eq!((to, &rest[..]), (NodeKey([1; 32]), &[1, 1][..]));
        assert_eq!(datagrams(NodeKey([2; 32]), false, &rest)[..], [&[TO_NODE][..], &[2; 32], &[1, 1]].concat());
    }
}
