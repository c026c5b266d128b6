//! Answer for the past: an event with its path, the way from one checkpoint to a later one, where it was anchored.

use crate::{
    checkpoint::Signed,
    log::{Io, Log, LogError},
    proof,
    recovery::TileReader,
    segment::{self, RECORD_BYTES},
    tree::{Nodes, TILE_LEAVES, TILE_LEVEL},
};
use alloy_primitives::B256;
use commonware_runtime::{Blob, ReadOptions, Storage};
use hodei_types::event::Salt;
use std::collections::BTreeMap;

/// An event with what a receipt needs to show it is in a checkpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Evidence {
    pub event: Vec<u8>,
    pub salt: Salt,
    /// From the event's leaf to the checkpoint's root.
    pub path: Vec<B256>,
}

impl<E: Storage> Log<E> {
    /// Event `sequence` with its path in the tree of the first `size` events.
    pub async fn evidence(&self, sequence: u64, size: u64) -> Result<Evidence, LogError> {
        if sequence >= size || size > self.len() {
            return Err(LogError::Absent { sequence, size: size.min(self.len()) });
        }
        self.sync_to(size).await?;
        let event = self.event(sequence).await?;
        let salt = self.salt(sequence);
        let walk = |nodes: &Nodes<'_>| proof::inclusion(nodes, sequence, size);
        let path = self.walk(&[sequence, size - 1], walk).await?;
        Ok(Evidence { event, salt, path })
    }

    /// Path from the tree of the first `old` events to that of the first `new`.
    pub async fn consistency(&self, old: u64, new: u64) -> Result<Vec<B256>, LogError> {
        if old > new || new > self.len() {
            return Err(LogError::Absent { sequence: old, size: new.min(self.len()) });
        }
        self.sync_to(new).await?;
        let walk = |nodes: &Nodes<'_>| proof::consistency(nodes, old, new);
        self.walk(&[old.saturating_sub(1), new.saturating_sub(1)], walk).await
    }

    /// The encoded event, as it is on disk.
    pub async fn event(&self, sequence: u64) -> Result<Vec<u8>, LogError> {
        if sequence >= self.len() {
            return Err(LogError::Absent { sequence, size: self.len() });
        }
        self.sync_to(sequence + 1).await?;
        let tile = sequence >> TILE_LEVEL;
        let mut events = self.events(tile, sequence % TILE_LEAVES + 1).await?;
        events.pop().ok_or(LogError::Corrupt { sequence })
    }

    pub fn salt(&self, sequence: u64) -> Salt {
        self.inner.config.salt(&self.key(), sequence)
    }

    /// The first anchored checkpoint that covers event `sequence`, and the height it was anchored at.
    pub async fn anchor_of(&self, sequence: u64) -> Result<Option<(Signed, u64)>, LogError> {
        let io = self.inner.io.lock().await;
        // Anchors come home in the order of their sizes, give or take those in flight at once.
        let (mut low, mut high) = (0, io.count);
        while low < high {
            let middle = low + (high - low) / 2;
            let before = self.read_record(&io, middle).await?.is_none_or(|(signed, _)| signed.size <= sequence);
            if before { low = middle + 1 } else { high = middle }
        }
        for index in low.saturating_sub(16)..io.count {
            match self.read_record(&io, index).await? {
                Some((signed, height)) if height > 0 && signed.size > sequence => return Ok(Some((signed, height))),
                _ => {}
            }
        }
        Ok(None)
    }

    /// `None` for a record torn by a power cut: it was never made durable.
    async fn read_record(&self, io: &Io<E::Blob>, index: u64) -> Result<Option<(Signed, u64)>, LogError> {
        let offset = index * RECORD_BYTES as u64;
        let record = io.records.read_at(offset, RECORD_BYTES, ReadOptions::default()).await?.coalesce();
        Ok(segment::read_record(index, record.as_ref(), self.inner.config.genesis, self.key()))
    }

    /// Runs a proof's walk, fetching the leaves of the complete tiles that `indices` lie in.
    async fn walk(
        &self,
        indices: &[u64],
        walk: impl Fn(&Nodes<'_>) -> Option<Vec<B256>>,
    ) -> Result<Vec<B256>, LogError> {
        let mut leaves = BTreeMap::new();
        loop {
            let missing = {
                let state = self.state();
                let tiles = indices.iter().map(|index| index >> TILE_LEVEL);
                let missing = tiles.filter(|tile| *tile < state.tree.tiles()).find(|tile| !leaves.contains_key(tile));
                if missing.is_none() {
                    // The same lock for the check and the walk: a tile may fill up in between.
                    let nodes = state.tree.subtrees(leaves);
                    return walk(&nodes).ok_or(LogError::Corrupt { sequence: indices[0] });
                }
                missing
            };
            if let Some(tile) = missing {
                let events = self.events(tile, TILE_LEAVES).await?;
                let first = tile * TILE_LEAVES;
                let leaf = |(at, event): (usize, &Vec<u8>)| self.salt(first + at as u64).leaf(event);
                leaves.insert(tile, events.iter().enumerate().map(leaf).collect());
            }
        }
    }

    async fn events(&self, tile: u64, count: u64) -> Result<Vec<Vec<u8>>, LogError> {
        self.sync_to(tile * TILE_LEAVES + count).await?;
        let io = self.inner.io.lock().await;
        let start = self.state().tree.start(tile).ok_or(LogError::Corrupt { sequence: tile * TILE_LEAVES })?;
        let current = Some((io.segment, &io.blob, io.end));
        let reader = TileReader { storage: &self.inner.storage, config: &self.inner.config, current };
        reader.read(tile, start, count).await
    }
}
