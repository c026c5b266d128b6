//! Make what a stripe lacks, and bring it to whoever takes it.
//!
//! ```text
//! a seat for each shard? → read, once → brought → who refuses is left out for the look, and the next best seat is taken
//! ```
//! Nothing is read that nobody would take, and nothing that was read is thrown away because one provider rests.

use super::{
    Charge,
    count::{Due, Scene},
};
use crate::cloud::{Cloud, Runtime};
use bytes::Bytes;
use futures::{FutureExt as _, future::join_all};
use hodei_storage::engine::{Loss, Patience, Remade, RemoteError};
use hodei_types::{slice::ShardId, transport::Transport};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

/// What came of one stripe.
#[derive(Default)]
pub(super) struct Made {
    pub(super) pairs: Vec<(ShardId, u64)>,
    /// Of these, brought as they are; and of those, from who missed proofs.
    pub(super) moved: usize,
    pub(super) doubted: usize,
    pub(super) read_bytes: u64,
    pub(super) sent_bytes: u64,
    pub(super) failure: Option<String>,
}

impl<E: Runtime, T: Transport> Cloud<E, T> {
    /// Makes what one stripe lacks.
    pub(super) async fn make(&self, charge: &Charge, scene: &Scene, due: &Due) -> Result<Made, String> {
        let mut seats = self.seats_for(scene, due, true);
        if seats.is_empty() {
            return Err("no provider is left that takes what is lost".into());
        }
        let (mut made, mut due) = (Made::default(), due.clone());
        let mut ready: BTreeMap<u8, Bytes> = BTreeMap::new();
        for (shard, _) in &seats {
            if let Some(bytes) = self.read_leaving(scene, &due, *shard).await {
                made.read_bytes += bytes.len() as u64;
                ready.insert(*shard, bytes);
            }
        }
        let whole: BTreeSet<u8> = ready.keys().copied().collect();
        let is_doubted = |(_, deal): &&(u8, u64)| scene.is_doubted(*deal);
        let doubted: BTreeSet<u8> = due.there.iter().filter(is_doubted).map(|(shard, _)| *shard).collect();
        // Nobody has it, or it cannot be had there any more.
        let wanted: Vec<u8> = seats.iter().map(|(shard, _)| *shard).filter(|shard| !whole.contains(shard)).collect();
        let mut room = None;
        if !wanted.is_empty() {
            match self.make_again(charge, scene, &due, wanted).await {
                Ok(remade) => {
                    made.read_bytes += remade.read_bytes;
                    ready.extend(remade.shards.iter().cloned());
                    room = Some(remade);
                }
                Err(why) if ready.is_empty() => return Err(why),
                Err(why) => made.failure = Some(why),
            }
        }
        let mut failure = None;
        while !seats.is_empty() {
            let brought = seats.iter().filter_map(|(shard, at)| {
                let (shard, at, bytes) = (*shard, *at, ready.get(shard)?.clone());
                let (cloud, place) = (self.clone(), (scene.roster.clone(), at));
                let (shape, upload) = (scene.shape(&due.page), self.random());
                let bring = async move {
                    (shard, at, cloud.0.engine.copy_to(shape, place, upload, bytes, Patience::Moment).await)
                };
                Some(bring.boxed())
            });
            let brought: Vec<_> = join_all(brought.collect::<Vec<_>>()).await;
            let mut is_refused = false;
            for (shard, at, result) in brought {
                let deal = scene.roster[at].deal;
                match result {
                    Ok(held) => {
                        self.owe(&[(held.ack.statement.deal, held.ack)].into());
                        made.sent_bytes += ready.remove(&shard).map_or(0, |bytes| bytes.len() as u64);
                        made.moved += usize::from(whole.contains(&shard));
                        made.doubted += usize::from(whole.contains(&shard) && doubted.contains(&shard));
                        made.pairs.push((due.shard(shard), deal));
                        due.there.retain(|(known, _)| *known != shard);
                        due.there.push((shard, deal));
                    }
                    Err(error) => {
                        is_refused = true;
                        failure = Some(format!("{}: {error}", scene.roster[at].peer.key));
                        // It may take another of the stripe.
                        if !self.not_taken(scene, at, error) {
                            due.declined.push((shard, deal));
                        }
                    }
                }
            }
            due.lost.retain(|shard| ready.contains_key(shard));
            seats = if is_refused { self.seats_for(scene, &due, true) } else { Vec::new() };
        }
        drop(room);
        if !ready.is_empty() {
            made.failure = failure.or(made.failure);
        }
        Ok(made)
    }

    /// Somebody did not take what it was brought: it gets nothing more at this look, unless it refuses this alone, which is
    /// told.
    pub(super) fn not_taken(&self, scene: &Scene, at: usize, error: RemoteError) -> bool {
        match error {
            RemoteError::Declined(_) => return false,
            RemoteError::Lie(verdict) => self.blame(*verdict),
            error => tracing::warn!(node = %scene.roster[at].peer.key, %error, "it takes nothing now"),
        }
        scene.refuse(scene.roster[at].deal);
        true
    }

    /// Shards of a stripe, of whoever has them.
    async fn make_again(&self, charge: &Charge, scene: &Scene, due: &Due, wanted: Vec<u8>) -> Result<Remade, String> {
        let place = |deal: u64| scene.roster.iter().position(|provider| provider.deal == deal);
        let (pads, first) = due.page.entrusted(&charge.care).map_err(|error| error.to_string())?;
        let blamed = self.clone();
        let loss = Loss {
            shape: scene.shape(&due.page),
            roster: scene.roster.clone(),
            page: due.page.clone(),
            at: due.at,
            pads: pads.stripe(first + due.at as u32),
            there: due.there.iter().filter_map(|(shard, deal)| Some((*shard, place(*deal)?))).collect(),
            wanted,
            verdict: Arc::new(move |verdict| blamed.blame(verdict)),
        };
        self.0.engine.restore(loss).await.map_err(|error| error.to_string())
    }

    /// A shard that lies with who leaves or missed proofs, to be brought to another as it is; `None` where it is not there,
    /// or cannot be had.
    async fn read_leaving(&self, scene: &Scene, due: &Due, shard: u8) -> Option<Bytes> {
        let (_, deal) = due.there.iter().find(|(known, _)| *known == shard)?;
        let from = scene.roster.iter().find(|provider| provider.deal == *deal)?;
        let listed = &due.page.stripes[due.at];
        let read =
            self.0.engine.get_copy(std::slice::from_ref(from), due.shard(shard), listed.shard_bytes, |verdict| {
                self.blame(verdict);
            });
        read.await.ok()
    }
}
