//! Carry the bytes of one stream, over QUIC or within this process.

use bytes::Buf as _;
use commonware_runtime::{Error, IoBufMut, IoBufs};
use iroh::endpoint::{RecvStream, SendStream};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};

/// Bytes one direction of an in-process stream holds before its writer waits: the same as QUIC's window.
const LOCAL_BYTES: usize = super::endpoint::STREAM_WINDOW as usize;

enum Write {
    Quic(SendStream),
    Local(DuplexStream),
}

enum Read {
    Quic(RecvStream),
    Local(DuplexStream),
}

/// The writing half; dropping it ends the stream after what was sent.
pub struct Sink(Option<Write>);

/// The reading half; dropping it tells the writer to stop.
pub struct Stream(Option<Read>);

/// Two ends of a stream within this process.
pub(crate) fn duplex() -> ((Sink, Stream), (Sink, Stream)) {
    // One pipe for each direction, so that dropping a sink is seen as the end by the other side.
    let (a, b) = tokio::io::duplex(LOCAL_BYTES);
    let (c, d) = tokio::io::duplex(LOCAL_BYTES);
    (
        (Sink(Some(Write::Local(a))), Stream(Some(Read::Local(c)))),
        (Sink(Some(Write::Local(d))), Stream(Some(Read::Local(b)))),
    )
}

pub(crate) fn quic(send: SendStream, recv: RecvStream) -> (Sink, Stream) {
    (Sink(Some(Write::Quic(send))), Stream(Some(Read::Quic(recv))))
}

impl commonware_runtime::Sink for Sink {
    async fn send(&mut self, bufs: impl Into<IoBufs> + Send) -> Result<(), Error> {
        // Taken out while awaiting: a dropped or failed send leaves the sink closed, as the trait asks.
        let mut write = self.0.take().ok_or(Error::Closed)?;
        let mut bufs = bufs.into();
        let sent = match &mut write {
            Write::Quic(stream) => {
                let mut sent = Ok(());
                while bufs.has_remaining() {
                    let chunk = bufs.copy_to_bytes(bufs.chunk().len());
                    sent = stream.write_chunk(chunk).await.map_err(|_| Error::SendFailed);
                    if sent.is_err() {
                        break;
                    }
                }
                sent
            }
            Write::Local(pipe) => pipe.write_all_buf(&mut bufs).await.map_err(|_| Error::SendFailed),
        };
        sent?;
        self.0 = Some(write);
        Ok(())
    }
}

impl commonware_runtime::Stream for Stream {
    async fn recv(&mut self, len: usize) -> Result<IoBufs, Error> {
        let mut read = self.0.take().ok_or(Error::Closed)?;
        let mut buf = IoBufMut::zeroed(len);
        match &mut read {
            Read::Quic(stream) => stream.read_exact(buf.as_mut()).await.map_err(|_| Error::RecvFailed)?,
            Read::Local(pipe) => {
                pipe.read_exact(buf.as_mut()).await.map_err(|_| Error::RecvFailed)?;
            }
        }
        self.0 = Some(read);
        Ok(buf.freeze().into())
    }

    fn peek(&self, _max_len: usize) -> &[u8] {
        // Nothing is buffered here: QUIC's own window is the buffer.
        &[]
    }
}
