//! Make lost shards of a stripe again, without a key to what is in them.
//!
//! ```text
//! k shards, from whoever has them ─ check ids ─ unpad ─ restore ─ pad ─ check ids ─► whoever takes them
//! ```
//! The code and the pads are deterministic: what is made again must hash to the ids its page has listed since the put,
//! so that who restores can add nothing of its own. What it sees is sealed.

use super::{
    Engine,
    pool::Permit,
    remote::{Ask, RemoteError, Verdict},
    rooms::Fill,
    spread::{Patience, Provider},
    stripe::slot_bytes,
};
use crate::{
    code::{CodeError, Codec},
    manifest::Page,
    pads::StripePads,
    wire::{Held, UploadId},
};
use bytes::Bytes;
use commonware_runtime::{Clock, Spawner};
use futures::{FutureExt as _, StreamExt as _, stream};
use hodei_types::{code::Shape, slice::ShardId, transport::Transport};
use std::sync::Arc;

/// What of a stripe is to be made again.
pub struct Loss {
    pub shape: Shape,
    /// The bucket's providers, and the right to read there.
    pub roster: Arc<Vec<Provider>>,
    pub page: Arc<Page>,
    /// Stripe within the page.
    pub at: usize,
    pub pads: StripePads,
    /// Shards that are there, and with whom of the roster; some may be named twice.
    pub there: Vec<(u8, usize)>,
    /// Shards to make.
    pub wanted: Vec<u8>,
    /// Told of each provider that lied.
    pub verdict: Arc<dyn Fn(Verdict) + Send + Sync>,
}

/// Shards made again, to be brought to whoever takes them: who refuses one does not cost another read.
#[derive(Debug)]
pub struct Remade {
    pub shards: Vec<(u8, Bytes)>,
    /// What was read for them.
    pub read_bytes: u64,
    /// Room in the pool, for as long as they are here.
    _room: Permit,
}

/// Why nothing could be made.
#[derive(Clone, Debug, thiserror::Error)]
pub enum RestoreError {
    #[error("{found} shards of the {want} needed could be read; last failure: {failure}")]
    Shards { found: usize, want: usize, failure: String },
    #[error("shard {shard} made again is {found}, its page lists {expected}: the page or its pads are forged")]
    Forged { shard: u8, expected: ShardId, found: ShardId },
    #[error(transparent)]
    Code(#[from] CodeError),
    #[error("the runtime is shutting down")]
    Stopped,
}

impl<E, T> Engine<E, T>
where
    E: Clock + Spawner,
    T: Transport,
{
    /// Shards that a deal holds, each with its KiB, from a position on; where to go on, and where the deal ends.
    pub async fn list(&self, provider: &Provider, from: u64) -> Result<(Vec<(ShardId, u16)>, u64, u64), RemoteError> {
        self.remote.list(&provider.peer, provider.deal, &provider.grant, from).await
    }

    /// The first KiB of a shard, and how many bytes it has.
    pub async fn glance(&self, provider: &Provider, id: ShardId) -> Result<(u32, Bytes), RemoteError> {
        let ask = Ask { peer: &provider.peer, deal: provider.deal, grant: &provider.grant, id };
        self.remote.glance(&ask).await
    }

    /// Brings a shard to one provider: one more copy of what is not coded, or what was made again.
    pub async fn copy_to(
        &self,
        shape: Shape,
        (roster, at): (Arc<Vec<Provider>>, usize),
        upload: UploadId,
        shard: Bytes,
        patience: Patience,
    ) -> Result<Held, RemoteError> {
        let id = ShardId::of(&shard);
        let spread = self.spread(shape, roster, upload, Arc::new(()), Fill::Index);
        spread.send(at, id, shard, patience).await
    }

    /// Makes lost shards again.
    pub async fn restore(&self, loss: Loss) -> Result<Remade, RestoreError> {
        let room = self.pool.take(slot_bytes(&loss.shape)).await;
        let listed = &loss.page.stripes[loss.at];
        let have = self.gather(&loss).await?;
        let read_bytes = have.iter().map(|(_, shard)| shard.len() as u64).sum();
        let (k, n, pads, wanted) = (loss.page.k, loss.page.n, loss.pads.clone(), loss.wanted.clone());
        let coding = self.context.child("restore").shared(true);
        let made = coding.spawn(move |_| async move { make(&Codec::new(k, n), &pads, have, &wanted) });
        let made = made.await.map_err(|_| RestoreError::Stopped)??;
        let shards: Vec<(u8, Bytes)> = loss.wanted.iter().copied().zip(made).collect();
        for (shard, bytes) in &shards {
            let (expected, found) = (listed.ids[usize::from(*shard)], ShardId::of(bytes));
            if expected != found {
                return Err(RestoreError::Forged { shard: *shard, expected, found });
            }
        }
        Ok(Remade { shards, read_bytes, _room: room })
    }

    /// Any k shards, the fastest providers first, a bad one replaced by another.
    async fn gather(&self, loss: &Loss) -> Result<Vec<(u8, Bytes)>, RestoreError> {
        let k = usize::from(loss.page.k);
        let listed = &loss.page.stripes[loss.at];
        let now = self.context.current();
        let mut order = loss.there.clone();
        order.sort_by_key(|(_, at)| {
            let node = &loss.roster[*at].peer.key;
            (self.peers.rank(node, now), self.peers.latency(node))
        });
        let asked = order.into_iter().map(|(shard, at)| {
            async move {
                let provider = &loss.roster[at];
                let id = listed.ids[usize::from(shard)];
                let ask = Ask { peer: &provider.peer, deal: provider.deal, grant: &provider.grant, id };
                let _slot = self.peers.slot(&provider.peer.key).await;
                (shard, provider.peer.key, self.remote.get(&ask, listed.shard_bytes, 0, listed.shard_bytes).await)
            }
            .boxed()
        });
        let mut answers = stream::iter(asked.collect::<Vec<_>>()).buffer_unordered(k);
        let (mut have, mut failure): (Vec<(u8, Bytes)>, _) = (Vec::new(), "nobody has one".to_owned());
        while have.len() < k {
            let Some((shard, node, answer)) = answers.next().await else {
                return Err(RestoreError::Shards { found: have.len(), want: k, failure });
            };
            match answer {
                Ok(_) if have.iter().any(|(known, _)| *known == shard) => {}
                Ok(bytes) => have.push((shard, bytes)),
                Err(error) => {
                    failure = format!("{node}: {error}");
                    if error.is_down() {
                        self.peers.failed(&node, self.context.current());
                    }
                    if let RemoteError::Lie(verdict) = error {
                        (loss.verdict)(*verdict);
                    }
                }
            }
        }
        Ok(have)
    }
}

/// The wanted shards as providers keep them.
fn make(codec: &Codec, pads: &StripePads, have: Vec<(u8, Bytes)>, wanted: &[u8]) -> Result<Vec<Bytes>, CodeError> {
    let bare: Vec<(u8, Vec<u8>)> = have
        .into_iter()
        .map(|(shard, bytes)| {
            let mut bytes = bytes.to_vec();
            pads.apply(shard, 0, &mut bytes);
            (shard, bytes)
        })
        .collect();
    let have: Vec<(u8, &[u8])> = bare.iter().map(|(shard, bytes)| (*shard, bytes.as_slice())).collect();
    let len = have.first().map_or(0, |(_, bytes)| bytes.len());
    let mut made = vec![0; len * wanted.len()];
    codec.restore(&have, wanted, &mut made)?;
    for (shard, bytes) in wanted.iter().zip(made.chunks_exact_mut(len.max(1))) {
        pads.apply(*shard, 0, bytes);
    }
    let made = Bytes::from(made);
    Ok((0..wanted.len()).map(|at| made.slice(at * len..(at + 1) * len)).collect())
}
