//! Lay a change out on disk so that a torn or rotten one is told from a whole one.
//!
//! A record is a header of 96 bytes, a payload, and zeros up to a multiple of 512 bytes, the unit in which
//! disks tear. The header carries a CRC-32 of both;
//! the payload's shard id is checked besides when it is read. `batch` counts group commits: a bad record followed by one of a later batch was synced
//! before it went bad, so it is rot; one that is not may be torn.

use hodei_types::{code::SHARD_BYTES_MAX, slice::ShardId};

use crate::wire::UploadId;

/// Records begin at multiples of this.
pub(super) const ALIGN: u64 = 512;
pub(super) const HEADER_BYTES: usize = 96;
const MAGIC: [u8; 4] = *b"hshd";
const VERSION: u8 = 1;

/// What a record says. The numbers are on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Kind {
    /// A shard was appended to a deal; its bytes follow.
    Append = 1,
    /// As `Append`, of a shard whose bytes are no longer owed to anybody: compaction left only this.
    Spent = 2,
    /// The shard at `position` was released.
    Release = 3,
    /// The deal ended: nothing of it is owed.
    Forget = 4,
    /// Shards are kept until a time: `sequence` in milliseconds since 1970; their ids follow, 32 bytes each.
    Keep = 5,
    /// Shards are declined, of whatever deal (`deal` is 0): `sequence` is since when, in milliseconds since 1970,
    /// `leaves` on what ground; their ids follow, 32 bytes each.
    Decline = 6,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) kind: Kind,
    /// Bytes of the payload.
    pub(super) len: u32,
    pub(super) leaves: u16,
    pub(super) position: u32,
    pub(super) deal: u64,
    pub(super) sequence: u64,
    pub(super) batch: u64,
    pub(super) id: ShardId,
    /// The upload this came with: orphans of an expired intent are found by it.
    pub(super) upload: UploadId,
    pub(super) payload_crc: u32,
}

impl Header {
    pub(super) fn encode(&self) -> [u8; HEADER_BYTES] {
        let mut out = [0; HEADER_BYTES];
        out[..4].copy_from_slice(&MAGIC);
        out[4] = VERSION;
        out[5] = self.kind as u8;
        out[6..8].copy_from_slice(&self.leaves.to_be_bytes());
        out[8..12].copy_from_slice(&self.len.to_be_bytes());
        out[12..16].copy_from_slice(&self.position.to_be_bytes());
        out[16..24].copy_from_slice(&self.deal.to_be_bytes());
        out[24..32].copy_from_slice(&self.sequence.to_be_bytes());
        out[32..40].copy_from_slice(&self.batch.to_be_bytes());
        out[40..72].copy_from_slice(&self.id.0);
        out[72..88].copy_from_slice(&self.upload);
        out[88..92].copy_from_slice(&self.payload_crc.to_be_bytes());
        let crc = crc32fast::hash(&out[..92]);
        out[92..].copy_from_slice(&crc.to_be_bytes());
        out
    }

    /// `None` for anything that was not written whole by this version.
    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let bytes: &[u8; HEADER_BYTES] = bytes.try_into().ok()?;
        let u32_at = |at: usize| u32::from_be_bytes(bytes[at..at + 4].try_into().expect("4 bytes"));
        let u64_at = |at: usize| u64::from_be_bytes(bytes[at..at + 8].try_into().expect("8 bytes"));
        if bytes[..4] != MAGIC || bytes[4] != VERSION || u32_at(92) != crc32fast::hash(&bytes[..92]) {
            return None;
        }
        let kind = [Kind::Append, Kind::Spent, Kind::Release, Kind::Forget, Kind::Keep, Kind::Decline]
            .into_iter()
            .find(|kind| *kind as u8 == bytes[5])?;
        let len = u32_at(8);
        if len > SHARD_BYTES_MAX {
            return None;
        }
        Some(Self {
            kind,
            len,
            leaves: u16::from_be_bytes([bytes[6], bytes[7]]),
            position: u32_at(12),
            deal: u64_at(16),
            sequence: u64_at(24),
            batch: u64_at(32),
            id: ShardId(bytes[40..72].try_into().expect("32 bytes")),
            upload: bytes[72..88].try_into().expect("16 bytes"),
            payload_crc: u32_at(88),
        })
    }

    /// Bytes of the record on disk.
    pub(super) fn record_bytes(&self) -> u64 {
        record_bytes(self.len)
    }
}

/// Bytes on disk of a record with a payload of `len`.
pub(super) fn record_bytes(len: u32) -> u64 {
    (HEADER_BYTES as u64 + u64::from(len)).next_multiple_of(ALIGN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_reads_back_and_no_flipped_bit_passes() {
        let header = Header {
            kind: Kind::Append,
            len: 262144,
            leaves: 256,
            position: 7,
            deal: 8,
            sequence: 9,
            batch: 10,
            id: ShardId([3; 32]),
            upload: [4; 16],
            payload_crc: 11,
        };
        let bytes = header.encode();
        assert_eq!(&blake3::hash(&bytes).to_hex()[..16], "701f4313ee17d8d0", "version 1 on disk");
        assert_eq!(Header::decode(&bytes), Some(header));
        for bit in 0..bytes.len() * 8 {
            let mut bad = bytes;
            bad[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Header::decode(&bad), None, "bit {bit}");
        }
        assert_eq!((record_bytes(0), record_bytes(416), record_bytes(417)), (512, 512, 1024));
    }
}
