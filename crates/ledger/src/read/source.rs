//! Reach the databases and the archive of certificates behind two small doors.
//!
//! The engine's types carry the runtime and the signing scheme; readers should not have to.

use alloy_primitives::B256;
use commonware_codec::Encode as _;
use commonware_consensus::{
    marshal::{core::Mailbox, standard::Standard},
    types::Height,
};
use commonware_runtime::Spawner;
use commonware_storage::Context as Storage;
use futures::{FutureExt as _, future::BoxFuture};

use crate::{
    block::{Block, Digest, state_root},
    state::{Databases, chunk_count, chunk_key, join, unpack},
};

/// The finalized state. `None` says that the disk failed.
pub trait Source: Send + Sync + 'static {
    /// Values of the state, in the order asked, and the state's root as headers carry it. While a block is
    /// applied the root may be no block's.
    fn values(&self, keys: Vec<B256>) -> BoxFuture<'_, Option<(B256, Vec<Option<Vec<u8>>>)>>;
    /// Code by its keccak, in the order asked.
    fn codes(&self, hashes: Vec<B256>) -> BoxFuture<'_, Option<Vec<Option<Vec<u8>>>>>;
    /// A value with its proof, or its absence with one.
    fn prove(&self, key: B256) -> BoxFuture<'_, Option<Proven>>;
}

/// A proof and the roots it stands on.
#[derive(Clone, Debug)]
pub struct Proven {
    pub value: Option<Vec<u8>>,
    pub proof: Vec<u8>,
    pub state: B256,
    pub code: B256,
}

/// Finalized blocks and their certificates.
pub trait Finality: Send + Sync + 'static {
    /// The finalization of exactly this height, encoded; heights finalized by a descendant have none.
    fn finalization(&self, height: u64) -> BoxFuture<'_, Option<Vec<u8>>>;
    fn block(&self, height: u64) -> BoxFuture<'_, Option<Block>>;
}

/// Both databases of a running member.
pub struct Live<E: Storage + Spawner>(pub Databases<E>);

impl<E: Storage + Spawner + Sync> Source for Live<E> {
    fn values(&self, keys: Vec<B256>) -> BoxFuture<'_, Option<(B256, Vec<Option<Vec<u8>>>)>> {
        async move {
            let keys: Vec<Digest> = keys.iter().map(|key| Digest::from(key.0)).collect();
            let keys: Vec<&Digest> = keys.iter().collect();
            // One lock at a time: who applies a block takes them in any order.
            let code = B256::from(self.0.1.read().await.root().0);
            let db = self.0.0.read().await;
            let root = state_root(B256::from(db.root().0), code);
            let found = db.get_many(&keys).await.ok()?;
            Some((root, found.into_iter().map(|value| value.map(|value| unpack(&value))).collect()))
        }
        .boxed()
    }

    fn codes(&self, hashes: Vec<B256>) -> BoxFuture<'_, Option<Vec<Option<Vec<u8>>>>> {
        async move {
            let mut codes = Vec::with_capacity(hashes.len());
            let db = self.0.1.read().await;
            for hash in hashes {
                let Some(first) = db.get(&chunk_key(hash, 0)).await.ok()? else {
                    codes.push(None);
                    continue;
                };
                let mut parts = vec![first];
                for index in 1..chunk_count(&parts[0]) {
                    parts.push(db.get(&chunk_key(hash, index)).await.ok()??);
                }
                codes.push(Some(join(&parts).to_vec()));
            }
            Some(codes)
        }
        .boxed()
    }

    fn prove(&self, key: B256) -> BoxFuture<'_, Option<Proven>> {
        async move {
            let key = Digest::from(key.0);
            let code = B256::from(self.0.1.read().await.root().0);
            let db = self.0.0.read().await;
            let state = B256::from(db.root().0);
            let value = db.get(&key).await.ok()?;
            let proof = match &value {
                Some(_) => db.key_value_proof(key).await.ok()?.encode(),
                None => db.exclusion_proof(&key).await.ok()?.encode(),
            };
            let value = value.map(|value| unpack(&value));
            Some(Proven { value, proof: proof.to_vec(), state, code })
        }
        .boxed()
    }
}

/// The archive of a running member.
pub struct Archived<S: commonware_cryptography::certificate::Scheme>(pub Mailbox<S, Standard<Block>>);

impl<S> Finality for Archived<S>
where
    S: commonware_consensus::simplex::scheme::Scheme<Digest>,
{
    fn finalization(&self, height: u64) -> BoxFuture<'_, Option<Vec<u8>>> {
        async move { Some(self.0.get_finalization(Height::new(height)).await?.encode().to_vec()) }.boxed()
    }

    fn block(&self, height: u64) -> BoxFuture<'_, Option<Block>> {
        async move { Some(Block::clone(self.0.get_block(Height::new(height)).await?.inner())) }.boxed()
    }
}
