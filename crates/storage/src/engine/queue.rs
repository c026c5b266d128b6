//! Wait for a put's stripes in their order, and tell a failure as soon as it is known.

use super::{
    put::{Progress, PutError},
    spread::Track,
};
use futures::channel::oneshot;
use hodei_types::slice::ShardId;
use std::{collections::VecDeque, sync::Arc};

/// A stripe at its quorum.
pub(super) struct Ready {
    pub(super) stripe: u32,
    pub(super) size_bytes: u64,
    pub(super) shard_bytes: u32,
    pub(super) ids: Vec<ShardId>,
    pub(super) track: Arc<Track>,
}

/// Tells of a stripe once, when it has its quorum or never will.
type Waiting = oneshot::Receiver<Result<Ready, PutError>>;

/// The stripes of the page that is being filled.
#[derive(Default)]
pub(super) struct Queue {
    waiting: VecDeque<Waiting>,
    ready: Vec<Ready>,
}

impl Queue {
    pub(super) fn push(&mut self, waiting: Waiting) {
        self.waiting.push_back(waiting);
    }

    pub(super) fn len(&self) -> usize {
        self.waiting.len() + self.ready.len()
    }

    /// Counts those that are told of already, and waits for none.
    pub(super) fn take_told(&mut self, now: &mut Progress) -> Result<(), PutError> {
        while let Some(first) = self.waiting.front_mut() {
            let Some(told) = first.try_recv().map_err(|_| PutError::Stopped)? else { break };
            self.waiting.pop_front();
            self.keep(told?, now);
        }
        Ok(())
    }

    /// Waits for all, and gives them.
    pub(super) async fn take_all(
        &mut self,
        now: &mut Progress,
        progress: &(impl Fn(Progress) + Send + Sync),
    ) -> Result<Vec<Ready>, PutError> {
        while let Some(first) = self.waiting.pop_front() {
            let done = first.await.map_err(|_| PutError::Stopped)??;
            self.keep(done, now);
            progress(*now);
        }
        Ok(std::mem::take(&mut self.ready))
    }

    fn keep(&mut self, done: Ready, now: &mut Progress) {
        now.stored_bytes += done.size_bytes;
        now.shards_acked += done.track.acked().len() as u64;
        self.ready.push(done);
    }
}
