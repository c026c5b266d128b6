//! Cut one source into parts.

use bytes::{Bytes, BytesMut};
use futures::stream::Stream;
use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

/// A source that is read part by part; hashes what it hands on.
pub(crate) struct Cut<S> {
    source: S,
    carry: Bytes,
    /// A stream may not be polled again after its end.
    is_ended: bool,
    pub(crate) whole: blake3::Hasher,
}

/// The next bytes of a source, up to a limit.
pub(crate) struct Limited<'a, S> {
    cut: &'a mut Cut<S>,
    left: u64,
}

impl<S, X> Cut<S>
where
    S: Stream<Item = Result<Bytes, X>> + Unpin,
{
    /// `whole` has hashed what came before.
    pub(crate) fn new(source: S, whole: blake3::Hasher) -> Self {
        Self { source, carry: Bytes::new(), is_ended: false, whole }
    }

    pub(crate) fn take(&mut self, bytes: u64) -> Limited<'_, S> {
        Limited { cut: self, left: bytes }
    }

    /// Whether anything follows; an error does.
    pub(crate) async fn has_more(&mut self) -> Result<bool, X> {
        std::future::poll_fn(|cx| self.fill(cx)).await
    }

    /// All of it, if it is no longer than `max`; `None` leaves it as it was, to be taken in parts.
    pub(crate) async fn short(&mut self, max: usize) -> Result<Option<Bytes>, X> {
        let mut read = BytesMut::new();
        while self.has_more().await? {
            read.extend_from_slice(&std::mem::take(&mut self.carry));
            if read.len() > max {
                self.carry = read.freeze();
                return Ok(None);
            }
        }
        Ok(Some(read.freeze()))
    }

    fn fill(&mut self, cx: &mut Context<'_>) -> Poll<Result<bool, X>> {
        while self.carry.is_empty() && !self.is_ended {
            match ready!(Pin::new(&mut self.source).poll_next(cx)) {
                Some(Ok(bytes)) => self.carry = bytes,
                Some(Err(error)) => {
                    self.is_ended = true;
                    return Poll::Ready(Err(error));
                }
                None => self.is_ended = true,
            }
        }
        Poll::Ready(Ok(!self.carry.is_empty()))
    }
}

impl<S, X> Stream for Limited<'_, S>
where
    S: Stream<Item = Result<Bytes, X>> + Unpin,
{
    type Item = Result<Bytes, X>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        if this.left == 0 {
            return Poll::Ready(None);
        }
        Poll::Ready(match ready!(this.cut.fill(cx)) {
            Err(error) => Some(Err(error)),
            Ok(false) => None,
            Ok(true) => {
                let len = this.cut.carry.len().min(usize::try_from(this.left).unwrap_or(usize::MAX));
                let bytes = this.cut.carry.split_to(len);
                this.left -= len as u64;
                this.cut.whole.update(&bytes);
                Some(Ok(bytes))
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::{StreamExt as _, TryStreamExt as _, executor::block_on, stream};

    #[test]
    fn parts_join_to_the_whole_however_the_source_is_cut() {
        let plain: Vec<u8> = (0..1000u32).map(|i| i as u8).collect();
        for piece in [1, 7, 100, 1000] {
            let source = stream::iter(plain.chunks(piece).map(|piece| Ok::<_, ()>(Bytes::copy_from_slice(piece))));
            let mut cut = Cut::new(source, blake3::Hasher::new());
            let mut joined = Vec::new();
            block_on(async {
                while cut.has_more().await.unwrap() {
                    let part: Vec<Bytes> = cut.take(300).try_collect().await.unwrap();
                    let part = part.concat();
                    assert_eq!(part.len(), (1000 - joined.len()).min(300));
                    joined.extend(part);
                }
            });
            assert_eq!(joined, plain);
            assert_eq!(cut.whole.finalize(), blake3::hash(&plain));
        }
    }

    #[test]
    fn what_is_short_is_taken_as_one_and_the_rest_is_as_it_was() {
        let plain: Vec<u8> = (0..1000u32).map(|i| i as u8).collect();
        for (piece, max) in [(1, 1000), (1, 999), (7, 2000), (1000, 1000), (1000, 10), (300, 0)] {
            let source = stream::iter(plain.chunks(piece).map(|piece| Ok::<_, ()>(Bytes::copy_from_slice(piece))));
            let mut cut = Cut::new(source, blake3::Hasher::new());
            block_on(async {
                let short = cut.short(max).await.unwrap();
                assert_eq!(short.as_deref(), (max >= 1000).then_some(&plain[..]), "{piece} {max}");
                if short.is_none() {
                    let rest: Vec<Bytes> = cut.take(1000).try_collect().await.unwrap();
                    assert_eq!(rest.concat(), plain);
                    assert_eq!(cut.whole.finalize(), blake3::hash(&plain));
                }
            });
        }
    }

    #[test]
    fn an_error_ends_it() {
        let source = stream::iter([Ok(Bytes::from_static(b"ab")), Err("gone")]);
        let mut cut = Cut::new(source, blake3::Hasher::new());
        block_on(async {
            assert_eq!(cut.take(2).next().await, Some(Ok(Bytes::from_static(b"ab"))));
            assert_eq!(cut.has_more().await, Err("gone"));
            assert_eq!(cut.has_more().await, Ok(false));
        });
    }
}
