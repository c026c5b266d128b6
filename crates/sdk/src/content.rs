//! Check bytes against what an index says an object's are.

use hodei_storage::index::{Entry, Part};
use std::io::{self, Read};

/// Bytes read from a file at once.
const PIECE_BYTES: usize = 256 << 10;

/// The bytes are not the object's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ContentError {
    #[error("bytes {from} to {to} are not those that were put")]
    Part { from: u64, to: u64 },
    #[error("there are {0} bytes after the object's end")]
    Long(u64),
    #[error("{0} bytes are missing at its end")]
    Short(u64),
}

/// Hashes an object's bytes as they come, part by part.
#[derive(Clone, Debug)]
pub struct Checker {
    parts: std::vec::IntoIter<(u64, [u8; 32])>,
    /// Of the part under way: bytes to come, and its hash.
    now: Option<(u64, [u8; 32])>,
    hasher: blake3::Hasher,
    at: u64,
}

impl Checker {
    /// For the bytes from `offset` on, which must be where a part begins.
    pub fn new(parts: &[Part], offset: u64) -> Self {
        let mut start = 0;
        let rest: Vec<_> = parts
            .iter()
            .filter(|part| {
                let is_after = start >= offset;
                start += part.size_bytes;
                is_after
            })
            .map(|part| (part.size_bytes, part.content))
            .collect();
        let mut parts = rest.into_iter();
        Self { now: parts.next(), parts, hasher: blake3::Hasher::new(), at: offset }
    }

    /// Takes the next bytes; tells as soon as a part is wrong.
    pub fn update(&mut self, mut bytes: &[u8]) -> Result<(), ContentError> {
        while !bytes.is_empty() {
            self.close()?;
            let Some((left, _)) = &mut self.now else { return Err(ContentError::Long(bytes.len() as u64)) };
            let count = usize::try_from(*left).map_or(bytes.len(), |left| left.min(bytes.len()));
            self.hasher.update(&bytes[..count]);
            *left -= count as u64;
            self.at += count as u64;
            bytes = &bytes[count..];
        }
        self.close()
    }

    /// Judges parts that are whole.
    fn close(&mut self) -> Result<(), ContentError> {
        while let Some((0, want)) = self.now {
            let found = self.hasher.finalize();
            if found != blake3::Hash::from(want) {
                let from = self.at - self.hasher.count();
                return Err(ContentError::Part { from, to: self.at });
            }
            self.hasher.reset();
            self.now = self.parts.next();
        }
        Ok(())
    }

    /// Whether all of it came.
    pub fn finish(mut self) -> Result<(), ContentError> {
        self.close()?;
        let missing = self.now.map_or(0, |(left, _)| left) + self.parts.map(|(size, _)| size).sum::<u64>();
        if missing == 0 { Ok(()) } else { Err(ContentError::Short(missing)) }
    }
}

/// Bytes of the whole parts at the beginning of `source` that are the object's: from there a copy goes on.
pub fn kept_bytes(mut source: impl Read, entry: &Entry) -> io::Result<u64> {
    let mut kept = 0;
    let mut piece = vec![0; PIECE_BYTES];
    for part in &entry.parts {
        let mut hasher = blake3::Hasher::new();
        let mut left = part.size_bytes;
        while left > 0 {
            let want = usize::try_from(left).map_or(PIECE_BYTES, |left| left.min(PIECE_BYTES));
            match source.read(&mut piece[..want])? {
                0 => return Ok(kept),
                count => {
                    hasher.update(&piece[..count]);
                    left -= count as u64;
                }
            }
        }
        if hasher.finalize() != blake3::Hash::from(part.content) {
            break;
        }
        kept += part.size_bytes;
    }
    Ok(kept)
}

/// Whether `source` is exactly the object's bytes.
pub fn is_same(mut source: impl Read, entry: &Entry) -> io::Result<bool> {
    let kept = kept_bytes(&mut source, entry)?;
    Ok(kept == entry.size_bytes() && source.read(&mut [0])? == 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use hodei_storage::{
        index::Home,
        manifest::PageRef,
        seal::{Algorithm, WRAPPED_BYTES},
    };
    use hodei_types::{code::Shape, slice::ShardId};

    fn entry(pieces: &[&[u8]]) -> Entry {
        let part = |(at, bytes): (usize, &&[u8])| Part {
            number: at as u32 + 1,
            object: [0; 16],
            wrapped: [0; WRAPPED_BYTES],
            algorithm: Algorithm::Aes256Gcm,
            commitment: [0; 32],
            size_bytes: bytes.len() as u64,
            content: *blake3::hash(bytes).as_bytes(),
            shape: Shape::new(3, 6, 1).unwrap(),
            home: Home::Own(PageRef { id: ShardId([0; 32]), bytes: 4096, stripes: 1, holders: Vec::new() }),
        };
        Entry { parts: pieces.iter().enumerate().map(part).collect(), ..Entry::default() }
    }

    fn check(entry: &Entry, offset: u64, bytes: &[u8], cut: usize) -> Result<(), ContentError> {
        let mut checker = Checker::new(&entry.parts, offset);
        bytes.chunks(cut).try_for_each(|piece| checker.update(piece))?;
        checker.finish()
    }

    #[test]
    fn bytes_are_an_objects_or_are_told_where_not() {
        let entry = entry(&[b"first", b"second", b""]);
        for cut in 1..12 {
            assert_eq!(check(&entry, 0, b"firstsecond", cut), Ok(()));
            assert_eq!(check(&entry, 5, b"second", cut), Ok(()));
            assert_eq!(check(&entry, 0, b"firstsecone", cut), Err(ContentError::Part { from: 5, to: 11 }));
            assert_eq!(check(&entry, 0, b"firstsec", cut), Err(ContentError::Short(3)));
            assert!(matches!(check(&entry, 0, b"firstsecond!", cut), Err(ContentError::Long(_))));
        }
        assert_eq!(check(&self::entry(&[b""]), 0, b"", 1), Ok(()));
    }

    #[test]
    fn what_is_kept_ends_with_the_last_right_part() {
        let entry = entry(&[b"first", b"second"]);
        for (bytes, kept, same) in [
            (&b"firstsecond"[..], 11, true),
            (b"firstsecond!", 11, false),
            (b"firstsec", 5, false),
            (b"firstsecone", 5, false),
            (b"first", 5, false),
            (b"x", 0, false),
            (b"", 0, false),
        ] {
            assert_eq!(
                (kept_bytes(bytes, &entry).unwrap(), is_same(bytes, &entry).unwrap()),
                (kept, same),
                "{bytes:?}"
            );
        }
    }
}
