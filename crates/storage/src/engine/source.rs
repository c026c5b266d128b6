//! Cut what a source yields into stripes.

use super::put::PutError;
use bytes::{Bytes, BytesMut};
use futures::{StreamExt as _, stream::Stream};

/// What is left of a source.
#[derive(Default)]
pub(super) struct Reader {
    carry: Bytes,
    /// A stream may not be polled again after its end.
    is_ended: bool,
}

impl Reader {
    /// The next `len` bytes, fewer only at the end.
    pub(super) async fn fill<S, X>(&mut self, source: &mut S, len: usize) -> Result<Bytes, PutError>
    where
        S: Stream<Item = Result<Bytes, X>> + Unpin,
        X: std::fmt::Display,
    {
        let mut filled = BytesMut::new();
        while filled.len() < len {
            if self.carry.is_empty() {
                if self.is_ended {
                    break;
                }
                match source.next().await {
                    Some(Ok(bytes)) => self.carry = bytes,
                    Some(Err(error)) => return Err(PutError::Source(error.to_string())),
                    None => {
                        self.is_ended = true;
                        break;
                    }
                }
                continue;
            }
            if filled.capacity() == 0 {
                filled.reserve(len.min(self.carry.len().max(64 * 1024)));
            }
            let take = self.carry.len().min(len - filled.len());
            filled.extend_from_slice(&self.carry.split_to(take));
        }
        Ok(filled.freeze())
    }
}
