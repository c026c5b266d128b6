//! Frame events in segment files so that a torn write is told from a whole one.
//!
//! A record is length (u32, big-endian), check (8 bytes) and the event. The check is a hash over sequence and
//! event, so a record in another's place is as torn as half a record. After a power cut any subset of an
//! unsynced write's bytes may be there: whatever follows the first record that fails was never promised.

use crate::{checkpoint::Signed, tree::Position};
use alloy_primitives::B256;
use hodei_types::{event::EVENT_BYTES_MAX, transport::NodeKey};

pub(crate) const HEAD_BYTES: usize = 12;
/// Tile records are a cache of fixed size: record i tells of tile i.
pub(crate) const TILE_BYTES: usize = 64;
/// Checkpoint records: size, height, root, signature, seal.
pub(crate) const RECORD_BYTES: usize = 128;

/// Appends a record.
pub(crate) fn write(out: &mut Vec<u8>, sequence: u64, event: &[u8]) {
    out.extend_from_slice(&(event.len() as u32).to_be_bytes());
    out.extend_from_slice(&check(sequence, event));
    out.extend_from_slice(event);
}

/// The event of the record that `bytes` begin with; `None` if it is torn, cut or another's.
pub(crate) fn read(bytes: &[u8], sequence: u64) -> Option<&[u8]> {
    let (head, rest) = bytes.split_at_checked(HEAD_BYTES)?;
    let (len, found) = head.split_at(4);
    let len = u32::from_be_bytes(len.try_into().ok()?) as usize;
    if len == 0 || len > EVENT_BYTES_MAX {
        return None;
    }
    let event = rest.get(..len)?;
    (found == check(sequence, event)).then_some(event)
}

fn check(sequence: u64, event: &[u8]) -> [u8; 8] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&sequence.to_be_bytes());
    hasher.update(event);
    hasher.finalize().as_bytes()[..8].try_into().expect("8 of 32 bytes")
}

pub(crate) fn write_tile(tile: u64, start: Position, root: B256) -> [u8; TILE_BYTES] {
    let mut record = [0; TILE_BYTES];
    record[..8].copy_from_slice(&start.segment.to_be_bytes());
    record[8..16].copy_from_slice(&start.offset.to_be_bytes());
    record[16..48].copy_from_slice(root.as_slice());
    let check = seal(b"tile", tile, &record[..48]);
    record[48..].copy_from_slice(&check);
    record
}

pub(crate) fn read_tile(tile: u64, record: &[u8]) -> Option<(Position, B256)> {
    let number = |at: usize| u64::from_be_bytes(record[at..at + 8].try_into().expect("8 bytes"));
    (record.len() == TILE_BYTES && record[48..] == seal(b"tile", tile, &record[..48]))
        .then(|| (Position { segment: number(0), offset: number(8) }, B256::from_slice(&record[16..48])))
}

pub(crate) fn write_record(index: u64, signed: &Signed, height: u64) -> [u8; RECORD_BYTES] {
    let mut record = [0; RECORD_BYTES];
    record[..8].copy_from_slice(&signed.size.to_be_bytes());
    record[8..16].copy_from_slice(&height.to_be_bytes());
    record[16..48].copy_from_slice(signed.root.as_slice());
    record[48..112].copy_from_slice(&signed.signature);
    let check = seal(b"checkpoint", index, &record[..112]);
    record[112..].copy_from_slice(&check);
    record
}

/// A checkpoint and the height it was anchored at, 0 if only signed.
pub(crate) fn read_record(index: u64, record: &[u8], genesis: B256, log: NodeKey) -> Option<(Signed, u64)> {
    if record.len() != RECORD_BYTES || record[112..] != seal(b"checkpoint", index, &record[..112]) {
        return None;
    }
    let number = |at: usize| u64::from_be_bytes(record[at..at + 8].try_into().expect("8 bytes"));
    let signature = record[48..112].try_into().expect("64 bytes");
    let root = B256::from_slice(&record[16..48]);
    Some((Signed { genesis, log, size: number(0), root, signature }, number(8)))
}

/// 16 bytes that tell a whole fixed-size record from a torn one.
fn seal(what: &[u8], index: u64, record: &[u8]) -> [u8; 16] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(what);
    hasher.update(&index.to_be_bytes());
    hasher.update(record);
    hasher.finalize().as_bytes()[..16].try_into().expect("16 of 32 bytes")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn torn_records_are_told_from_whole_ones() {
        let mut bytes = Vec::new();
        write(&mut bytes, 7, b"event");
        assert_eq!(read(&bytes, 7), Some(&b"event"[..]));
        assert_eq!(read(&bytes, 8), None, "another's place");
        for len in 0..bytes.len() {
            assert_eq!(read(&bytes[..len], 7), None);
        }
        for at in 0..bytes.len() {
            let mut bent = bytes.clone();
            bent[at] ^= 0x10;
            assert_eq!(read(&bent, 7), None, "byte {at}");
        }
        assert_eq!(read(&[0; 64], 0), None, "zeros are no record");
        let start = Position { segment: 1, offset: 2 };
        let record = write_tile(3, start, B256::repeat_byte(4));
        assert_eq!(read_tile(3, &record), Some((start, B256::repeat_byte(4))));
        assert_eq!(read_tile(4, &record), None);
    }
}
