//! Tell who looks after a bucket, and nobody else, where its providers must be.
//!
//! It stands at the end of the root, where the bucket is limited at all, sealed under its care key: so it is as new as the
//! index, copied with it, and let go of with it. Who has that key still opens nothing of the index.

use super::ROOT_BYTES;
use crate::seal::{Algorithm, PartKey, Place, Secret, TAG_BYTES};

/// Bytes at the end of a root.
pub(super) const BYTES: usize = 256;
/// Names, a space between two: those behind them are left out, which allows less and never more.
const NAMES_BYTES_MAX: usize = BYTES - TAG_BYTES - 1;
/// Part number, which nothing else has.
const PART: u32 = u32::MAX - 4;

/// Seals names of regions into the end of a root with this salt.
pub(super) fn seal(
    end: &mut [u8; BYTES],
    (network, bucket): (&[u8; 32], &[u8; 32]),
    salt: [u8; 16],
    (care, regions): (&Secret, &[String]),
) {
    let mut names = String::new();
    for region in regions {
        let gap = usize::from(!names.is_empty());
        if names.len() + gap + region.len() <= NAMES_BYTES_MAX {
            names.push_str(&" "[..gap]);
            names.push_str(region);
        }
    }
    end[0] = names.len() as u8;
    end[1..=names.len()].copy_from_slice(names.as_bytes());
    key(network, bucket, care, salt).seal(0, true, end);
}

/// Regions in which alone a bucket's providers may be, as the shard that hashes to its root says; `None` where they may be
/// anywhere.
pub fn regions(root: &[u8], network: &[u8; 32], bucket: &[u8; 32], care: &Secret) -> Option<Vec<String>> {
    let root: &[u8; ROOT_BYTES] = root.try_into().ok()?;
    let (salt, _) = root.split_first_chunk::<16>()?;
    let (_, end) = root.split_last_chunk::<BYTES>()?;
    let mut end = *end;
    let plain = key(network, bucket, care, *salt).open(0, true, &mut end).ok()?;
    let (len, names) = plain.split_first()?;
    let names = names.get(..usize::from(*len)).and_then(|names| std::str::from_utf8(names).ok());
    // What cannot be told allows nothing.
    Some(names.unwrap_or_default().split_whitespace().map(Into::into).collect())
}

fn key(network: &[u8; 32], bucket: &[u8; 32], care: &Secret, salt: [u8; 16]) -> PartKey {
    let algorithm = Algorithm::Aes256Gcm;
    let place = Place { network: *network, bucket: *bucket, object: salt, part: PART, attempt: 0, algorithm };
    PartKey::new(&care.derive("hodei 2026-11 regions of a bucket v1", &salt), &place)
}
