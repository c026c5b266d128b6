//! Ask a provider, before anything is read for it, whether it takes shards now.
//!
//! Its greeting tells, which moves no shard: who spares power or transfer says for how long, who is full that it is. Who
//! greets and takes nothing all the same is found out by the first shard.

use super::{
    Engine,
    remote::{Ask, RemoteError},
    sources::BUSY_MIN,
    spread::{BUSY_MAX, Provider},
};
use commonware_runtime::{Clock, Spawner};
use hodei_types::{code::SHARD_BYTES, slice::ShardId, transport::Transport};
use std::time::Duration;

/// Tries of one that is busy for a moment.
const TRIES: u32 = 3;

/// Somebody takes nothing for now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pause {
    /// For so long, as far as it says.
    pub wait: Option<Duration>,
    /// What it has it gives all the same.
    pub gives: bool,
}

impl<E, T> Engine<E, T>
where
    E: Clock + Spawner,
    T: Transport,
{
    /// Whether a provider takes nothing for now. Who says nothing of that, or nothing at all, is taken to take some.
    pub async fn pause(&self, provider: &Provider) -> Option<Pause> {
        let mut tries = 0;
        let wait = loop {
            match self.remote.hello(provider).await {
                // Not for a whole shard is there room.
                Ok(free_bytes) if free_bytes < u64::from(SHARD_BYTES) => break None,
                Err(RemoteError::Busy { retry_after_ms }) => {
                    let wait = Duration::from_millis(retry_after_ms.into());
                    tries += 1;
                    if wait > BUSY_MAX || tries == TRIES {
                        break Some(wait);
                    }
                    self.context.sleep(wait.max(BUSY_MIN)).await;
                }
                _ => return None,
            }
        };
        // Of no shard: who gives says that it has none.
        let ask = Ask { peer: &provider.peer, deal: provider.deal, grant: &provider.grant, id: ShardId([0; 32]) };
        let gives = !matches!(self.remote.glance(&ask).await, Err(RemoteError::Busy { .. }));
        Some(Pause { wait, gives })
    }
}
