//! Prove that a provider holds a shard, by its ack and the path to the signed root.

use hodei_types::{
    ack::Ack,
    holding::{self, HoldingError},
    slice::{CHUNK_BYTES, ShardId},
    transport::NodeKey,
};

/// A provider's ack of one shard, with what ties the shard to the signed root.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    pub ack: Ack,
    /// Entries in the deal's tree the ack's root is over.
    pub shards: u64,
    /// Sum nodes from the entry to the top, 40 bytes each.
    pub path: Vec<u8>,
}

impl Held {
    /// Checks signature and path: this node holds `id`, `shard_bytes` long, durably in that deal.
    pub fn verify(
        &self,
        chain_id: u64,
        node: &NodeKey,
        deal: u64,
        id: &ShardId,
        shard_bytes: u32,
    ) -> Result<(), HeldError> {
        let statement = &self.ack.statement;
        if statement.deal != deal {
            return Err(HeldError::Deal { expected: deal, found: statement.deal });
        }
        self.ack.verify(chain_id, node)?;
        let count = u64::from(shard_bytes) / CHUNK_BYTES as u64;
        let (root, at) = (&statement.root, statement.position);
        Ok(holding::verify_entry(root, statement.leaves, self.shards, at, id, count, &self.path)?)
    }
}

/// Why an ack proves nothing: a verdict on the provider.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HeldError {
    #[error("expected an ack of deal {expected}, found {found}")]
    Deal { expected: u64, found: u64 },
    #[error(transparent)]
    Signature(#[from] hodei_types::ack::BadAck),
    #[error(transparent)]
    Path(#[from] HoldingError),
}
