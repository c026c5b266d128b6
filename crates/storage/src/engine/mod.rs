//! Put and get: all of storage that waits for something.
//!
//! ```text
//! put   stripe (seal, code, pad) → spread (providers, spares, caps) → remote (one request) → page
//! get   page → fetch (k asked of sources, the silent overtaken) → remote → stripe (unpad, restore, open)
//!              slices (of a pack: the one shard)
//! kept  page → is it still there? let go of it
//! lock  page → nobody lets go of it before a time
//! ticks  bytes that came → paid for, where they are metered
//! restore  page → k shards → those that are lost, to be brought to others
//! pause  whether somebody takes shards now
//! crowd what this machine and other readers have of it
//!       pool bounds memory, peers remember who is slow or down
//! ```
//! Generic over clock, spawner, randomness and transport, so that a simulation replays it from a seed.

mod asked;
mod copies;
mod crowd;
mod get;
mod kept;
mod load;
mod lock;
mod pause;
mod peers;
mod pool;
mod put;
mod queue;
mod race;
mod remote;
mod restore;
mod slices;
mod source;
mod sources;
mod spread;
mod stripe;
mod tally;
mod ticks;

pub use crowd::{Crowd, Outcome};
pub use get::{Body, GetError, GetRequest};
pub use kept::{Inventory, Released};
pub use lock::Keeping;
pub use pause::Pause;
pub use peers::{Peers, Served};
pub use pool::{Permit, Pool, STRIPES_BYTES};
pub use put::{Progress, PutError, PutRequest, Rest, Stored, Wait};
pub use remote::{RemoteError, Verdict};
pub use restore::{Loss, Remade, RestoreError};
pub use spread::{Offers, Patience, Provider};
pub use stripe::{Coded, Coder, plain_bytes};
pub use ticks::{Count, Meter, Till};

use remote::Remote;
use std::sync::Arc;

/// What all puts and gets of a process share; clones share it.
pub struct Engine<E, T> {
    pub(crate) context: Arc<E>,
    pub(crate) remote: Remote<E, T>,
    pub(crate) peers: Peers,
    pub(crate) pool: Pool,
    pages: slices::Pages,
}

impl<E, T: Clone> Clone for Engine<E, T> {
    fn clone(&self) -> Self {
        Self {
            context: self.context.clone(),
            remote: self.remote.clone(),
            peers: self.peers.clone(),
            pool: self.pool.clone(),
            pages: self.pages.clone(),
        }
    }
}

impl<E: commonware_runtime::Clock, T: hodei_types::transport::Transport> Engine<E, T> {
    /// `chain_id` is what acks are bound to; `pool` is the process's, usually of [`STRIPES_BYTES`].
    pub fn new(context: E, transport: T, chain_id: u64, pool: Pool) -> Self {
        let context = Arc::new(context);
        let remote = Remote::new(context.clone(), transport, chain_id);
        Self { remote, context, peers: Peers::default(), pool, pages: slices::Pages::default() }
    }

    /// The same with a pool of its own: to read what is put again at once, which must not wait for itself.
    pub fn apart(&self, pool: Pool) -> Self {
        Self { pool, ..self.clone() }
    }

    /// What bounds the memory of all puts and gets.
    pub fn pool(&self) -> &Pool {
        &self.pool
    }

    /// How providers did lately.
    pub fn peers(&self) -> &Peers {
        &self.peers
    }
}
