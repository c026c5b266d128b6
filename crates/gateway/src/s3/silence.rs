//! Give up on a sender that falls silent in the middle of a body.
//!
//! What was read of a body is memory that others wait for: stripes half full, forms half read. A sender may be as
//! slow as it likes, but not send nothing at all for long.

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};
use tokio::time::{Instant, Sleep, sleep_until};

/// Why a body ends early.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("the sender sent nothing for {} s", .0.as_secs())]
pub(crate) struct Silent(Duration);

/// What became of a request's body; known to whoever holds the request's extensions.
#[derive(Clone, Debug, Default)]
pub(crate) struct Silence(Arc<State>);

#[derive(Debug, Default)]
struct State {
    is_asked: AtomicBool,
    fell: AtomicBool,
}

impl Silence {
    /// Whether anybody asked for the body: a sender who waits for that was told to go on.
    pub(crate) fn is_asked(&self) -> bool {
        self.0.is_asked.load(Ordering::Relaxed)
    }

    /// Whether its sender fell silent.
    pub(crate) fn fell(&self) -> bool {
        self.0.fell.load(Ordering::Relaxed)
    }
}

/// A body whose reading fails once its sender has sent nothing for a while. The time runs while somebody waits for
/// bytes, never while nobody reads.
pub(crate) struct Heard<B> {
    body: B,
    limit: Duration,
    /// When it is given up; there while a read waits.
    until: Option<Pin<Box<Sleep>>>,
    silence: Silence,
}

impl<B> Heard<B> {
    pub(crate) fn new(body: B, limit: Duration) -> (Self, Silence) {
        let silence = Silence::default();
        (Self { body, limit, until: None, silence: silence.clone() }, silence)
    }
}

impl<B> Body for Heard<B>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    type Data = Bytes;
    type Error = Box<dyn std::error::Error + Send + Sync>;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        self.silence.0.is_asked.store(true, Ordering::Relaxed);
        if let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(cx) {
            self.until = None;
            return Poll::Ready(frame.map(|frame| frame.map_err(Into::into)));
        }
        let limit = self.limit;
        let until = self.until.get_or_insert_with(|| Box::pin(sleep_until(Instant::now() + limit)));
        std::task::ready!(until.as_mut().poll(cx));
        self.silence.0.fell.store(true, Ordering::Relaxed);
        Poll::Ready(Some(Err(Silent(limit).into())))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::channel::mpsc;
    use http_body_util::{BodyExt as _, StreamBody};

    #[tokio::test]
    async fn who_is_silent_is_given_up_and_who_is_slow_is_not() {
        let (sender, receiver) = mpsc::unbounded::<Result<Frame<Bytes>, std::io::Error>>();
        let (mut body, silence) = Heard::new(StreamBody::new(receiver), Duration::from_millis(200));
        let slow = tokio::spawn(async move {
            for _ in 0..4 {
                tokio::time::sleep(Duration::from_millis(100)).await;
                sender.unbounded_send(Ok(Frame::data(Bytes::from_static(b"x")))).unwrap();
            }
            // Not dropped: the connection stays.
            sender
        });
        assert!(!silence.is_asked());
        for _ in 0..4 {
            assert!(body.frame().await.unwrap().is_ok(), "slower altogether than the limit, but never for so long");
        }
        let _sender = slow.await.unwrap();
        assert!(silence.is_asked() && !silence.fell());
        assert!(body.frame().await.unwrap().unwrap_err().is::<Silent>());
        assert!(silence.fell());
    }
}
