//! Speak in frames whose length is bounded before anything is kept.
//!
//! A frame is a length of four bytes, big-endian, and so many bytes of CBOR that are one message and nothing else.

use crate::limit::FRAME_BYTES_MAX;
use bytes::{Buf, BytesMut};
use minicbor::{Decode, Encode};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        UnixStream,
        unix::{OwnedReadHalf, OwnedWriteHalf},
    },
};

const LENGTH: usize = 4;

#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    #[error("the socket between agent and runner failed: {0}")]
    Io(#[from] std::io::Error),
    #[error("a frame of {found} bytes was announced, {FRAME_BYTES_MAX} are allowed")]
    TooLong { found: usize },
    #[error("the other side closed within a frame")]
    Cut,
    #[error("a frame is not a message: {0}")]
    Malformed(String),
}

/// The two directions of one socket, each on its own so that both can be waited for.
pub(crate) struct Wire {
    pub(crate) incoming: Incoming,
    pub(crate) outgoing: Outgoing,
}

impl Wire {
    pub(crate) fn new(stream: std::os::unix::net::UnixStream) -> std::io::Result<Self> {
        stream.set_nonblocking(true)?;
        let (read, write) = UnixStream::from_std(stream)?.into_split();
        Ok(Self {
            incoming: Incoming { half: read, buffer: BytesMut::new() },
            outgoing: Outgoing { half: write, buffer: BytesMut::new() },
        })
    }

    /// Says one thing and waits until it is gone.
    pub(crate) async fn say<T: Encode<()>>(&mut self, message: &T) -> Result<(), FrameError> {
        self.outgoing.queue(message)?;
        self.outgoing.flush().await
    }
}

pub(crate) struct Incoming {
    half: OwnedReadHalf,
    buffer: BytesMut,
}

impl Incoming {
    /// The next message, or `None` when the other side closed between two. May be dropped at any time.
    pub(crate) async fn receive<T: for<'b> Decode<'b, ()>>(&mut self) -> Result<Option<T>, FrameError> {
        loop {
            if let Some(message) = take(&mut self.buffer)? {
                return Ok(Some(message));
            }
            if self.half.read_buf(&mut self.buffer).await? == 0 {
                return if self.buffer.is_empty() { Ok(None) } else { Err(FrameError::Cut) };
            }
        }
    }
}

/// One message from the front of what came, once it is whole.
fn take<T: for<'b> Decode<'b, ()>>(buffer: &mut BytesMut) -> Result<Option<T>, FrameError> {
    let Some(length) = buffer.first_chunk::<LENGTH>() else { return Ok(None) };
    let length = u32::from_be_bytes(*length) as usize;
    if length > FRAME_BYTES_MAX {
        return Err(FrameError::TooLong { found: length });
    }
    if buffer.len() < LENGTH + length {
        return Ok(None);
    }
    buffer.advance(LENGTH);
    let frame = buffer.split_to(length);
    let mut decoder = minicbor::Decoder::new(&frame);
    let message = decoder.decode().map_err(|error| FrameError::Malformed(error.to_string()))?;
    if decoder.position() != length {
        return Err(FrameError::Malformed(format!("{} bytes follow it", length - decoder.position())));
    }
    Ok(Some(message))
}

pub(crate) struct Outgoing {
    half: OwnedWriteHalf,
    buffer: BytesMut,
}

impl Outgoing {
    pub(crate) fn is_empty(&self) -> bool {
        self.buffer.is_empty()
    }

    pub(crate) fn queue<T: Encode<()>>(&mut self, message: &T) -> Result<(), FrameError> {
        let frame = minicbor::to_vec(message).map_err(|error| FrameError::Malformed(error.to_string()))?;
        if frame.len() > FRAME_BYTES_MAX {
            return Err(FrameError::TooLong { found: frame.len() });
        }
        self.buffer.extend_from_slice(&(frame.len() as u32).to_be_bytes());
        self.buffer.extend_from_slice(&frame);
        Ok(())
    }

    /// Sends what is queued. May be dropped at any time: what is left stays queued.
    pub(crate) async fn flush(&mut self) -> Result<(), FrameError> {
        while !self.buffer.is_empty() {
            if self.half.write_buf(&mut self.buffer).await? == 0 {
                return Err(FrameError::Cut);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn framed(bytes: &[u8]) -> BytesMut {
        let mut buffer = BytesMut::from(&(bytes.len() as u32).to_be_bytes()[..]);
        buffer.extend_from_slice(bytes);
        buffer
    }

    #[test]
    fn a_frame_is_taken_once_it_is_whole() {
        let whole = framed(&minicbor::to_vec(7u64).unwrap());
        for cut in 0..whole.len() {
            let mut part = BytesMut::from(&whole[..cut]);
            assert!(take::<u64>(&mut part).unwrap().is_none(), "{cut} bytes are not a frame");
        }
        let mut buffer = whole.clone();
        buffer.extend_from_slice(&whole);
        assert_eq!(take::<u64>(&mut buffer).unwrap(), Some(7));
        assert_eq!(take::<u64>(&mut buffer).unwrap(), Some(7));
        assert!(buffer.is_empty());
    }

    #[test]
    fn a_frame_longer_than_the_limit_is_refused_by_its_length_alone() {
        let mut buffer = BytesMut::from(&(FRAME_BYTES_MAX as u32 + 1).to_be_bytes()[..]);
        assert!(matches!(take::<u64>(&mut buffer), Err(FrameError::TooLong { found }) if found == FRAME_BYTES_MAX + 1));
    }

    #[test]
    fn a_frame_with_something_behind_its_message_is_refused() {
        let mut buffer = framed(&[0x07, 0x07]);
        assert!(matches!(take::<u64>(&mut buffer), Err(FrameError::Malformed(_))));
    }
}
