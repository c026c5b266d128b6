//! Find what a log holds after a restart or a power cut.
//!
//! Segments are the truth; tiles are a cache that saves reading all of them. Torn bytes at the very end were
//! never acknowledged and go. Damage before the end, or fewer events than were signed, is a history that
//! cannot be continued: the log refuses to open rather than sign a second one.

use crate::{
    checkpoint::Signed,
    log::{Config, Io, LogError, State},
    proof,
    segment::{self, HEAD_BYTES, RECORD_BYTES, TILE_BYTES},
    tree::{Position, TILE_LEAVES, TILE_LEVEL, Tree},
};
use alloy_primitives::B256;
use commonware_runtime::{Blob, Error, ReadOptions, Storage};
use hodei_types::{ack::Signer, merkle};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

const TILES: &[u8] = b"tiles";
const RECORDS: &[u8] = b"checkpoints";

/// Opens the files and rebuilds the tree; `cached` trusts the tile records.
pub(crate) async fn recover<E: Storage>(
    storage: &E,
    config: &Config,
    signer: &Signer,
    cached: bool,
) -> Result<(State, Io<E::Blob>), LogError> {
    let (records, len) = storage.open(&config.tree(), RECORDS).await?;
    let (signed, anchored, count) = last_records(&records, len, config, signer).await?;
    let (tiles, len) = storage.open(&config.tree(), TILES).await?;
    let mut segments = names(storage, config).await?;
    segments.insert(0);

    let mut tree = Tree::default();
    let mut at = Position { segment: 0, offset: 0 };
    let known = if cached { read_tiles(&tiles, len, &segments).await? } else { Vec::new() };
    // The last known tile is read again: where it ends is written nowhere.
    if let Some((last, before)) = known.split_last() {
        before.iter().for_each(|(start, root)| tree.push_tile(*root, *start));
        at = last.0;
    }

    let last = *segments.last().expect("segment 0 is always there");
    let following: Vec<u64> = segments.range(at.segment..).copied().collect();
    let mut signed_root = None;
    let mut current = None;
    for first in following {
        if first != at.segment {
            // A segment is begun only after the one before it was durable to its end.
            if first != tree.size() {
                return Err(LogError::Corrupt { sequence: tree.size() });
            }
            at = Position { segment: first, offset: 0 };
        }
        let (blob, len) = storage.open(&config.segments(), &first.to_be_bytes()).await?;
        if at.offset > len {
            return Err(LogError::Corrupt { sequence: tree.size() });
        }
        let bytes = blob.read_at(at.offset, (len - at.offset) as usize, ReadOptions::default()).await?.coalesce();
        let mut rest: &[u8] = bytes.as_ref();
        while let Some(event) = segment::read(rest, tree.size()) {
            let sequence = tree.size();
            tree.push(config.salt(&signer.node(), sequence).leaf(event), at);
            if signed.as_ref().is_some_and(|signed| signed.size == tree.size()) {
                signed_root = Some(tree.root());
            }
            let bytes = HEAD_BYTES + event.len();
            at.offset += bytes as u64;
            rest = &rest[bytes..];
        }
        if !rest.is_empty() {
            if first != last {
                return Err(LogError::Corrupt { sequence: tree.size() });
            }
            blob.resize(at.offset).await?;
            blob.sync().await?;
        }
        current = Some(blob);
    }
    let blob = current.expect("segment 0 is always there");
    if let Some(signed) = &signed {
        // Signed inside a tile that was not read again: only its events can tell the root.
        let found_root = match signed_root {
            Some(root) => root,
            None if signed.size < tree.size() => {
                let reader = TileReader { storage, config, current: Some((at.segment, &blob, at.offset)) };
                root_before(&reader, signer, &tree, signed.size).await?
            }
            None => tree.root(),
        };
        if (signed.size, signed.root) != (signed.size.min(tree.size()), found_root) {
            let (signed, signed_root) = (signed.size, signed.root);
            return Err(LogError::Rewritten { signed, signed_root, found: tree.size(), found_root });
        }
    }
    let state = State {
        durable: tree.size(),
        tree,
        pending: VecDeque::new(),
        pending_bytes: 0,
        end: at,
        signed,
        anchored,
        stopped: false,
    };
    let tiles_written = known.len() as u64;
    Ok((state, Io { segment: at.segment, blob, end: at.offset, tiles, tiles_written, records, count }))
}

/// The root of the first `size` leaves, where `size` lies in a closed segment.
async fn root_before<E: Storage>(
    reader: &TileReader<'_, E>,
    signer: &Signer,
    tree: &Tree,
    size: u64,
) -> Result<B256, LogError> {
    let tile = (size - 1) >> TILE_LEVEL;
    let start = tree.start(tile).ok_or(LogError::Corrupt { sequence: size })?;
    let events = reader.read(tile, start, TILE_LEAVES).await?;
    let first = tile * TILE_LEAVES;
    let leaf = |(at, event): (usize, &Vec<u8>)| reader.config.salt(&signer.node(), first + at as u64).leaf(event);
    let leaves: Vec<B256> = events.iter().enumerate().map(leaf).collect();
    // The cache must agree with the events it stands for.
    if tree.tile(tile).is_some_and(|(_, root)| root != merkle::root(&leaves)) {
        return Err(LogError::Corrupt { sequence: first });
    }
    let nodes = tree.subtrees(BTreeMap::from([(tile, leaves)]));
    proof::root(&nodes, size).ok_or(LogError::Corrupt { sequence: first })
}

/// Reads a tile's events, which may begin in one segment and end in the next.
pub(crate) struct TileReader<'a, E: Storage> {
    pub(crate) storage: &'a E,
    pub(crate) config: &'a Config,
    /// The segment that is open already; no file is opened twice.
    pub(crate) current: Option<(u64, &'a E::Blob, u64)>,
}

impl<E: Storage> TileReader<'_, E> {
    /// `count` events from the tile's start on.
    pub(crate) async fn read(&self, tile: u64, start: Position, count: u64) -> Result<Vec<Vec<u8>>, LogError> {
        let mut events = Vec::with_capacity(count as usize);
        let mut at = start;
        loop {
            let bytes = match &self.current {
                Some((segment, blob, end)) if *segment == at.segment => read_from(*blob, at.offset, *end).await?,
                _ => {
                    let name = at.segment.to_be_bytes();
                    let (blob, end) = self.storage.open(&self.config.segments(), &name).await?;
                    read_from(&blob, at.offset, end).await?
                }
            };
            let mut rest: &[u8] = &bytes;
            while (events.len() as u64) < count {
                let sequence = tile * TILE_LEAVES + events.len() as u64;
                let Some(event) = segment::read(rest, sequence) else { break };
                rest = &rest[HEAD_BYTES + event.len()..];
                events.push(event.to_vec());
            }
            if events.len() as u64 == count {
                return Ok(events);
            }
            let sequence = tile * TILE_LEAVES + events.len() as u64;
            if !rest.is_empty() || sequence <= at.segment {
                return Err(LogError::Corrupt { sequence });
            }
            // The next segment is named after its first event.
            at = Position { segment: sequence, offset: 0 };
        }
    }
}

async fn read_from<B: Blob>(blob: &B, offset: u64, end: u64) -> Result<Vec<u8>, LogError> {
    let len = end.saturating_sub(offset) as usize;
    Ok(blob.read_at(offset, len, ReadOptions::default()).await?.coalesce().as_ref().to_vec())
}

async fn names<E: Storage>(storage: &E, config: &Config) -> Result<BTreeSet<u64>, LogError> {
    let names = match storage.scan(&config.segments()).await {
        Ok(names) => names,
        Err(Error::PartitionMissing(_)) => Vec::new(),
        Err(error) => return Err(error.into()),
    };
    let parse = |name: Vec<u8>| name.try_into().map(u64::from_be_bytes).map_err(|_| LogError::Foreign);
    names.into_iter().map(parse).collect()
}

/// The run of whole tile records that point into segments that exist.
async fn read_tiles<B: Blob>(blob: &B, len: u64, segments: &BTreeSet<u64>) -> Result<Vec<(Position, B256)>, LogError> {
    let bytes = read_from(blob, 0, len).await?;
    let mut tiles = Vec::new();
    for (tile, record) in bytes.chunks_exact(TILE_BYTES).enumerate() {
        match segment::read_tile(tile as u64, record) {
            Some((start, root)) if segments.contains(&start.segment) => tiles.push((start, root)),
            _ => break,
        }
    }
    Ok(tiles)
}

/// Records read back in search of the last anchor; beyond, the last checkpoint is merely anchored once more.
const SEARCH_MAX: u64 = 4096;

/// The last checkpoint signed, the length of the longest one noted as anchored, and how many records there
/// are; what follows the last whole record is torn and will be overwritten.
async fn last_records<B: Blob>(
    blob: &B,
    len: u64,
    config: &Config,
    signer: &Signer,
) -> Result<(Option<Signed>, u64, u64), LogError> {
    let (mut last, mut anchored, mut count) = (None, 0, 0);
    for index in (0..len / RECORD_BYTES as u64).rev() {
        let offset = index * RECORD_BYTES as u64;
        let record = read_from(blob, offset, offset + RECORD_BYTES as u64).await?;
        let Some((signed, height)) = segment::read_record(index, &record, config.genesis, signer.node()) else {
            continue;
        };
        // The seal tells torn from whole, the signature ours from another's: one is enough for that.
        if count == 0 && !signed.is_genuine() {
            return Err(LogError::Foreign);
        }
        count = count.max(index + 1);
        // An anchor may come home after a longer checkpoint was signed: the two are looked for apart.
        match height {
            0 if last.is_none() => last = Some(signed),
            0 => {}
            _ => anchored = anchored.max(signed.size),
        }
        if last.is_some() && (anchored > 0 || count - index > SEARCH_MAX) {
            break;
        }
    }
    Ok((last, anchored, count))
}
