//! Hold bodies whole where there is no other way, all of them within one measure.
//!
//! A form's file and a body that does not say its length are read to their end before they are looked at. Each
//! takes its part of one budget first, so that many of them wait for each other instead of filling the memory.

use super::refusal::Refusal;
use bytes::{Bytes, BytesMut};
use futures::StreamExt as _;
use hyper::{HeaderMap, header::CONTENT_LENGTH};
use s3s::Body;
use std::{sync::Arc, time::Duration};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Instant, timeout_at},
};

const MIB: usize = 1 << 20;
/// Of all that is held at once, in MiB.
const HELD_MIB_MAX: usize = 256;
/// A body that takes longer keeps others from theirs.
const HOLD_TIMEOUT: Duration = Duration::from_secs(600);

/// A part of the budget, given back when it is dropped.
pub(super) type Room = Option<OwnedSemaphorePermit>;

/// The budget of a door.
#[derive(Clone)]
pub(super) struct Held(Arc<Semaphore>);

impl Default for Held {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(HELD_MIB_MAX)))
    }
}

/// How many bytes are coming, as far as a request says.
pub(super) fn declared(headers: &HeaderMap) -> Option<usize> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

impl Held {
    /// Waits for room for a body of `bytes`.
    pub(super) async fn room(&self, bytes: usize) -> Room {
        let mib = bytes.div_ceil(MIB).clamp(1, HELD_MIB_MAX);
        self.0.clone().acquire_many_owned(u32::try_from(mib).unwrap_or(1)).await.ok()
    }
}

/// A body as it comes.
pub(super) struct Coming {
    body: Body,
    pub(super) bytes: BytesMut,
    until: Instant,
}

impl Coming {
    pub(super) fn new(body: Body) -> Self {
        Self { body, bytes: BytesMut::new(), until: Instant::now() + HOLD_TIMEOUT }
    }

    /// Adds what comes next; `false` at the end.
    pub(super) async fn more(&mut self) -> Result<bool, Refusal> {
        match timeout_at(self.until, self.body.next()).await {
            Ok(None) => Ok(false),
            Ok(Some(Ok(piece))) => {
                self.bytes.extend_from_slice(&piece);
                Ok(true)
            }
            Ok(Some(Err(error))) => Err(Refusal::bad("IncompleteBody", format!("The body broke off: {error}"))),
            Err(_) => {
                let message = format!("A body that is held whole comes within {} s.", HOLD_TIMEOUT.as_secs());
                Err(Refusal::bad("RequestTimeout", message))
            }
        }
    }

    /// Reads to the end; `None` if there is more than `max` bytes.
    pub(super) async fn rest(mut self, max: usize) -> Result<Option<Bytes>, Refusal> {
        while self.bytes.len() <= max && self.more().await? {}
        Ok((self.bytes.len() <= max).then(|| self.bytes.freeze()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_body_is_held_up_to_its_measure() {
        let coming = || Coming::new(Body::from(Bytes::from_static(b"0123456789")));
        assert_eq!(coming().rest(10).await.unwrap().as_deref(), Some(&b"0123456789"[..]));
        assert_eq!(coming().rest(9).await.unwrap(), None);
    }

    #[tokio::test]
    async fn all_together_have_one_budget() {
        let held = Held::default();
        let whole = held.room(usize::MAX).await.unwrap();
        let waits = tokio::spawn({
            let held = held.clone();
            async move { held.room(1).await.is_some() }
        });
        tokio::task::yield_now().await;
        assert!(!waits.is_finished());
        drop(whole);
        assert!(waits.await.unwrap());
    }
}
