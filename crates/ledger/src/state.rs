//! Keep accounts, storage slots and code in authenticated databases.
//!
//! Two members make one set that moves as one: `state` holds the current value of each slot and can prove a
//! value or its absence; `code` holds contract code, which never changes, apart, in chunks, so that its size
//! does not bound every record. Records have a fixed size in both: the engine's state sync speaks no other.

use alloy_primitives::{B256, Bytes, keccak256};
use commonware_cryptography::Keccak256;
use commonware_glue::stateful::db::{DatabaseSet, Merkleized as _, Shared, SyncEngineConfig};
use commonware_parallel::Sequential;
use commonware_runtime::{Spawner, buffer::paged::CacheRef};
use commonware_storage::{
    Context as Storage,
    journal::contiguous::fixed::Config as JournalConfig,
    mmr::{self, full::Config as MerkleConfig},
    qmdb::{
        current::{FixedConfig, ordered::fixed as current},
        immutable::fixed as immutable,
        sync::Target,
    },
    translator::EightCap,
};
use commonware_utils::{NZU64, NZUsize, non_empty_range, sequence::FixedBytes};
use std::num::{NonZeroU64, NonZeroUsize};

use crate::{
    block::{Block, Digest, Member},
    genesis::Disk,
};

/// Bytes of a state value: an account's nonce, balance and code hash take 72, a slot 32.
pub const VALUE_BYTES_MAX: usize = 79;
/// Bytes of one record of code: its length, and 254 bytes of it.
const CHUNK_BYTES: usize = 256;
const CHUNK_DATA: usize = CHUNK_BYTES - 2;
/// Operations in one answer of state sync; every peer must use the same, or larger requests stall silently.
pub const SYNC_OPS: NonZeroU64 = NZU64!(512);
/// Bytes of the widest operation of either database: tag, key, record.
pub const OPERATION_BYTES_MAX: usize = 1 + 32 + CHUNK_BYTES + 32;

/// A state value on disk: its length, its bytes, zeros.
pub type Value = FixedBytes<{ VALUE_BYTES_MAX + 1 }>;
/// A piece of code on disk: the length of the whole, some bytes, zeros.
pub type Chunk = FixedBytes<CHUNK_BYTES>;

/// How merkleization is spread over threads.
type Threads = Sequential;

/// Current values, with proofs of presence and absence. Chunks of 64 bytes of bitmap keep proofs near 1 kB.
pub type State<E> = current::Db<mmr::Family, E, Digest, Value, Keccak256, EightCap, 64, Threads>;
/// Code by its keccak hash and the chunk's position.
pub type Code<E> = immutable::Db<mmr::Family, E, Digest, Chunk, Keccak256, EightCap, Threads>;
/// State first, code second.
pub type Databases<E> = (Shared<State<E>>, Shared<Code<E>>);

/// A speculative batch over both members.
pub type Batches<E> = <Databases<E> as DatabaseSet<E>>::Unmerkleized;
/// Sealed batches with their roots.
pub type Sealed<E> = <Databases<E> as DatabaseSet<E>>::Merkleized;
/// What state sync verifies against.
pub type Targets<E> = <Databases<E> as DatabaseSet<E>>::SyncTargets;
/// Configuration of both members.
pub type Config<E> = <Databases<E> as DatabaseSet<E>>::Config;

/// Buffers of everything the ledger keeps on disk.
pub(crate) const WRITE_BUFFER: NonZeroUsize = NZUsize!(64 << 10);
pub(crate) const REPLAY_BUFFER: NonZeroUsize = NZUsize!(1 << 20);

/// Partitions and sizes of the databases under `prefix`.
pub fn config<E: Storage + Spawner>(prefix: &str, disk: &Disk, page_cache: &CacheRef) -> Config<E> {
    let items = NonZeroU64::new(disk.section_items).expect("a checked genesis has items in a section");
    let merkle = |name: &str| MerkleConfig {
        journal_partition: format!("{prefix}-{name}-nodes"),
        metadata_partition: format!("{prefix}-{name}-pinned"),
        items_per_blob: items,
        write_buffer: WRITE_BUFFER,
        replay_buffer: REPLAY_BUFFER,
        strategy: Sequential,
        page_cache: page_cache.clone(),
    };
    let journal = |name: &str| JournalConfig {
        partition: format!("{prefix}-{name}-log"),
        items_per_blob: items,
        page_cache: page_cache.clone(),
        write_buffer: WRITE_BUFFER,
        replay_buffer: REPLAY_BUFFER,
    };
    let state = FixedConfig {
        merkle_config: merkle("state"),
        journal_config: journal("state"),
        grafted_metadata_partition: format!("{prefix}-state-grafted"),
        translator: EightCap,
        init_cache: Some(NZUsize!(1 << 16)),
        init_buffer: NZUsize!(2 << 20),
        init_concurrency: (),
    };
    let code = immutable::Config {
        merkle_config: merkle("code"),
        log: journal("code"),
        translator: EightCap,
        init_buffer: NZUsize!(2 << 20),
    };
    (state, code)
}

/// Writes a value as a record. Panics above [`VALUE_BYTES_MAX`]: execution never makes such a value.
pub fn pack(value: &[u8]) -> Value {
    assert!(value.len() <= VALUE_BYTES_MAX, "a state value of {} bytes", value.len());
    let mut record = [0; VALUE_BYTES_MAX + 1];
    record[0] = value.len() as u8;
    record[1..=value.len()].copy_from_slice(value);
    Value::new(record)
}

/// Reads a record back.
pub fn unpack(record: &Value) -> Vec<u8> {
    let bytes: &[u8] = record.as_ref();
    bytes[1..=usize::from(bytes[0]).min(VALUE_BYTES_MAX)].to_vec()
}

/// Where chunk `index` of a contract's code stands.
pub fn chunk_key(code: B256, index: u16) -> Digest {
    Digest::from(keccak256([code.as_slice(), &index.to_be_bytes()].concat()).0)
}

/// Cuts code into chunks; empty code is none. Panics above 64 KiB: execution never creates such code.
pub fn chunks(code: &[u8]) -> Vec<Chunk> {
    let len = u16::try_from(code.len()).expect("code is bounded by EIP-170");
    code.chunks(CHUNK_DATA)
        .map(|piece| {
            let mut record = [0; CHUNK_BYTES];
            record[..2].copy_from_slice(&len.to_be_bytes());
            record[2..2 + piece.len()].copy_from_slice(piece);
            Chunk::new(record)
        })
        .collect()
}

/// How many chunks the first one says there are.
pub fn chunk_count(first: &Chunk) -> u16 {
    let bytes: &[u8] = first.as_ref();
    u16::from_be_bytes([bytes[0], bytes[1]]).div_ceil(CHUNK_DATA as u16)
}

/// Joins all chunks of one contract.
pub fn join(chunks: &[Chunk]) -> Bytes {
    let Some(first) = chunks.first() else { return Bytes::new() };
    let bytes: &[u8] = first.as_ref();
    let len = usize::from(u16::from_be_bytes([bytes[0], bytes[1]]));
    let mut code: Vec<u8> = chunks.iter().flat_map(|chunk| chunk.as_ref()[2..].to_vec()).collect();
    code.truncate(len);
    code.into()
}

/// How a node that has no state fetches it.
pub fn sync_config() -> SyncEngineConfig {
    SyncEngineConfig {
        fetch_batch_size: SYNC_OPS,
        apply_batch_size: NZU64!(1024),
        max_outstanding_requests: NZUsize!(16),
    }
}

/// What both databases hold before anything was written: the genesis block's members.
pub fn empty<E: Storage + Spawner>() -> [Member; 2] {
    let (state, code) = Databases::<E>::initial_sync_targets();
    [member(&state), member(&code)]
}

/// What a block says the databases hold after it.
pub fn targets<E: Storage + Spawner>(block: &Block) -> Targets<E> {
    let target = |m: &Member| {
        Target::new(
            Digest::from(m.ops_root.0),
            non_empty_range!(mmr::Location::new(m.start), mmr::Location::new(m.end)),
        )
    };
    let [state, code] = block.members();
    (target(state), target(code))
}

/// Roots and ranges of sealed batches, as a block carries them.
pub struct Roots {
    /// Canonical root of the state member: what value and exclusion proofs verify against.
    pub state: B256,
    pub members: [Member; 2],
}

impl Roots {
    /// Reads them off sealed batches.
    pub fn of<E: Storage + Spawner>((state, code): &Sealed<E>) -> Self {
        let state_member = Member {
            ops_root: B256::from(state.ops_root().0),
            start: *state.sync_boundary(),
            end: *state.bounds().tip.size,
        };
        let bounds = code.bounds();
        let code_member =
            Member { ops_root: B256::from(code.root().0), start: *bounds.inactivity_floor, end: *bounds.tip.size };
        Self { state: B256::from(state.root().0), members: [state_member, code_member] }
    }

    /// What the header carries.
    pub fn state_root(&self) -> B256 {
        crate::block::state_root(self.state, self.members[1].ops_root)
    }
}

fn member(target: &Target<mmr::Family, Digest>) -> Member {
    Member { ops_root: B256::from(target.root.0), start: *target.range.start(), end: *target.range.end() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_and_code_return_from_their_records() {
        for len in [0, 1, 32, VALUE_BYTES_MAX] {
            let value = vec![7; len];
            assert_eq!(unpack(&pack(&value)), value);
        }
        for len in [1, CHUNK_DATA, CHUNK_DATA + 1, 24_576] {
            let code: Vec<u8> = (0..len).map(|i| i as u8).collect();
            let cut = chunks(&code);
            assert_eq!(usize::from(chunk_count(&cut[0])), cut.len());
            assert_eq!(join(&cut), Bytes::from(code));
        }
    }
}
