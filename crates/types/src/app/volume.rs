//! Name a container's volume, and list what a snapshot of one holds.
//!
//! ```text
//! files ─ walk ─► Tree: paths, rights, times, links, and of each file the pieces it is cut in ─► files, elsewhere
//! ```
//! A [`Tree`] is a list of files and never an image of a file system, so that nobody mounts what another made. It comes
//! from a host that its owner does not trust, and goes to one that does not trust the owner: [`Tree::decode`] takes
//! nothing whose paths lead out of it, that is larger than its volume, or that has another spelling.

use super::{ManifestError, is_name, within};
use crate::cbor::{CborError, Reader, Writer};
use std::collections::BTreeSet;

/// Volumes of one container.
pub const VOLUMES_MAX: usize = 8;
/// Below it a file system has no room worth the name.
pub const VOLUME_BYTES_MIN: u64 = 64 << 20;
/// Its snapshots are named in one listing.
pub const VOLUME_BYTES_MAX: u64 = 64 << 30;
/// Content is cut in pieces of this; a file's last may be shorter.
pub const PIECE_BYTES: usize = 1 << 20;
/// Files, folders and links of one volume.
pub const ENTRIES_MAX: usize = 1 << 17;
/// Bytes of one listing.
pub const TREE_BYTES_MAX: usize = 32 << 20;

const PATH_BYTES_MAX: usize = 4096;
const NAME_BYTES_MAX: usize = 255;
const DEPTH_MAX: usize = 128;
/// Linux reads no longer link.
const TARGET_BYTES_MAX: usize = 4095;
const MODE_MAX: u64 = 0o7777;
const USERS: u64 = 1 << 16;
const VERSION: u64 = 1;

/// A disk that outlives a container, and its host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Volume {
    /// A label of DNS, one of its kind in its app.
    pub name: String,
    /// Where it is in the container.
    pub path: String,
    pub bytes: u64,
}

impl Volume {
    pub(super) fn check(&self) -> Result<(), ManifestError> {
        if !is_name(&self.name) {
            return Err(ManifestError::Name(self.name.clone()));
        }
        if !is_volume_path(&self.path) {
            return Err(ManifestError::Text(self.path.clone()));
        }
        within("volume bytes", self.bytes, VOLUME_BYTES_MIN, VOLUME_BYTES_MAX)
    }

    pub(super) fn write(&self, out: &mut Writer) {
        out.array(3).text(&self.name).text(&self.path).uint(self.bytes);
    }

    pub(super) fn read(input: &mut Reader<'_>) -> Result<Self, ManifestError> {
        input.tuple(3)?;
        let (name, path) = (input.text(super::NAME_BYTES_MAX)?.to_owned(), input.text(PATH_BYTES_MAX)?.to_owned());
        Ok(Self { name, path, bytes: input.uint()? })
    }
}

/// Whether a volume may stand there: a way from `/` that leads nowhere up, and hides nothing that a container needs.
pub fn is_volume_path(path: &str) -> bool {
    let mut parts = path.split('/');
    let is_plain = |part: &str| !matches!(part, "" | "." | "..") && part.len() <= NAME_BYTES_MAX;
    path.len() <= PATH_BYTES_MAX
        && !path.contains('\0')
        && parts.next() == Some("")
        && parts.clone().next().is_some_and(|first| !matches!(first, "proc" | "sys" | "dev"))
        && parts.all(is_plain)
}

/// What stands at a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    Folder,
    /// A file's length, and the BLAKE3 of each piece of it.
    File {
        bytes: u64,
        pieces: Vec<[u8; 32]>,
    },
    Link {
        target: Vec<u8>,
    },
    /// The same file as that of an earlier entry, by its place in the list.
    Same {
        of: usize,
    },
}

/// One file, folder or link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// From the volume's root, parts apart by `/`; the root's own is empty.
    pub path: Vec<u8>,
    pub mode: u32,
    /// As the container has them.
    pub uid: u32,
    pub gid: u32,
    /// Since 1970.
    pub mtime_secs: u64,
    pub mtime_ns: u32,
    pub kind: Kind,
}

/// All that is in a volume, parents before what is in them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tree(Vec<Entry>);

/// Why a listing is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TreeError {
    #[error("listing: {0}")]
    Cbor(#[from] CborError),
    #[error("listing: its {field} is {found}; at most {most} may be")]
    Limit { field: &'static str, found: u64, most: u64 },
    #[error("listing: {:?} {why}", String::from_utf8_lossy(path))]
    Entry { path: Vec<u8>, why: &'static str },
}

fn most(field: &'static str, found: u64, most: u64) -> Result<(), TreeError> {
    if found <= most { Ok(()) } else { Err(TreeError::Limit { field, found, most }) }
}

impl Tree {
    /// Of these entries, if they are a whole that fits into a volume of `bytes_max`.
    pub fn new(entries: Vec<Entry>, bytes_max: u64) -> Result<Self, TreeError> {
        most("number of entries", entries.len() as u64, ENTRIES_MAX as u64)?;
        let mut folders: BTreeSet<&[u8]> = BTreeSet::new();
        let (mut before, mut total): (Option<&Entry>, u64) = (None, 0);
        for (place, entry) in entries.iter().enumerate() {
            entry.check(&entries[..place], &folders)?;
            if before.is_some_and(|before| before.path >= entry.path) {
                return Err(entry.broken("stands twice, or not in its order"));
            }
            match &entry.kind {
                Kind::Folder => _ = folders.insert(&entry.path),
                Kind::File { bytes, .. } => total = total.saturating_add(*bytes),
                Kind::Link { .. } | Kind::Same { .. } => {}
            }
            before = Some(entry);
        }
        most("files' bytes", total, bytes_max)?;
        match folders.contains(&b""[..]) {
            true => Ok(Self(entries)),
            false => Err(TreeError::Entry { path: Vec::new(), why: "is missing: a volume has a root" }),
        }
    }

    pub fn entries(&self) -> &[Entry] {
        &self.0
    }

    /// Bytes of all files, those that are one file counted once.
    pub fn bytes(&self) -> u64 {
        self.0.iter().map(Entry::bytes).sum()
    }

    /// Files among the entries, by whatever name.
    pub fn files(&self) -> u64 {
        self.0.iter().filter(|entry| matches!(entry.kind, Kind::File { .. } | Kind::Same { .. })).count() as u64
    }

    /// Each piece once, with its length, in the order in which files first need it. A piece that is named with two
    /// lengths is named with either: its hash is of one of them alone.
    pub fn pieces(&self) -> Vec<([u8; 32], usize)> {
        let mut seen = BTreeSet::new();
        let all = self.0.iter().flat_map(Entry::pieces);
        all.filter(|(hash, _)| seen.insert(*hash)).collect()
    }

    pub fn encode(&self) -> Vec<u8> {
        let mut out = Writer::with_capacity(64 * self.0.len());
        out.array(2).uint(VERSION).array(self.0.len());
        self.0.iter().for_each(|entry| entry.write(&mut out));
        out.finish()
    }

    /// Reads a listing of a volume of `bytes_max`.
    pub fn decode(bytes: &[u8], bytes_max: u64) -> Result<Self, TreeError> {
        most("length", bytes.len() as u64, TREE_BYTES_MAX as u64)?;
        let mut input = Reader::new(bytes);
        input.tuple(2)?;
        input.exactly("version of a listing", VERSION)?;
        let count = input.array(ENTRIES_MAX)?;
        let mut left = bytes_max.div_ceil(PIECE_BYTES as u64) as usize + ENTRIES_MAX;
        let entries = (0..count).map(|_| Entry::read(&mut input, &mut left)).collect::<Result<Vec<_>, _>>()?;
        input.end()?;
        Self::new(entries, bytes_max)
    }

    /// What names it: a hash over the encoding.
    pub fn hash(&self) -> [u8; 32] {
        blake3::derive_key("hodei volume tree v1", &self.encode())
    }
}

impl Entry {
    fn broken(&self, why: &'static str) -> TreeError {
        TreeError::Entry { path: self.path.clone(), why }
    }

    /// Bytes of the file it is.
    pub fn bytes(&self) -> u64 {
        match &self.kind {
            Kind::File { bytes, .. } => *bytes,
            _ => 0,
        }
    }

    /// Its pieces, each with its length.
    pub fn pieces(&self) -> impl Iterator<Item = ([u8; 32], usize)> + '_ {
        let (bytes, pieces) = match &self.kind {
            Kind::File { bytes, pieces } => (*bytes, &pieces[..]),
            _ => (0, &[][..]),
        };
        let length = move |place: usize| (bytes - (place * PIECE_BYTES) as u64).min(PIECE_BYTES as u64) as usize;
        pieces.iter().enumerate().map(move |(place, hash)| (*hash, length(place)))
    }

    fn check(&self, before: &[Self], folders: &BTreeSet<&[u8]>) -> Result<(), TreeError> {
        if !self.path.is_empty() {
            let is_part =
                |part: &[u8]| !matches!(part, b"" | b"." | b"..") && part.len() <= NAME_BYTES_MAX && !part.contains(&0);
            let mut depth = 0;
            if !self.path.split(|byte| *byte == b'/').inspect(|_| depth += 1).all(is_part) {
                return Err(self.broken("leads elsewhere"));
            }
            most("depth", depth, DEPTH_MAX as u64)?;
            most("path's length", self.path.len() as u64, PATH_BYTES_MAX as u64)?;
            let parent = self.path.iter().rposition(|byte| *byte == b'/').map_or(&b""[..], |at| &self.path[..at]);
            if !folders.contains(parent) {
                return Err(self.broken("is in no folder"));
            }
        } else if self.kind != Kind::Folder {
            return Err(self.broken("is no folder, and it is the root"));
        }
        most("mode", self.mode.into(), MODE_MAX)?;
        most("user", self.uid.into(), USERS - 1)?;
        most("group", self.gid.into(), USERS - 1)?;
        most("part of a second", self.mtime_ns.into(), 999_999_999)?;
        // What the kernel counts in, and what is behind it signed.
        most("time", self.mtime_secs, i64::MAX as u64)?;
        match &self.kind {
            Kind::Folder => Ok(()),
            Kind::File { bytes, pieces } if bytes.div_ceil(PIECE_BYTES as u64) != pieces.len() as u64 => {
                Err(self.broken("has not as many pieces as its length takes"))
            }
            Kind::File { .. } => Ok(()),
            Kind::Link { target } if target.is_empty() || target.contains(&0) => Err(self.broken("leads to no name")),
            Kind::Link { target } => most("link's length", target.len() as u64, TARGET_BYTES_MAX as u64),
            Kind::Same { of } => match before.get(*of).map(|entry| &entry.kind) {
                Some(Kind::File { .. }) => Ok(()),
                _ => Err(self.broken("is the same as no file before it")),
            },
        }
    }

    fn write(&self, out: &mut Writer) {
        out.array(8).bytes(&self.path).uint(self.mode.into()).uint(self.uid.into()).uint(self.gid.into());
        out.uint(self.mtime_secs).uint(self.mtime_ns.into());
        match &self.kind {
            Kind::Folder => _ = out.uint(0).array(0),
            Kind::File { bytes, pieces } => {
                out.uint(1).array(2).uint(*bytes).array(pieces.len());
                pieces.iter().for_each(|piece| _ = out.bytes(piece));
            }
            Kind::Link { target } => _ = out.uint(2).array(1).bytes(target),
            Kind::Same { of } => _ = out.uint(3).array(1).uint(*of as u64),
        }
    }

    /// `left` is how many pieces there may still be.
    fn read(input: &mut Reader<'_>, left: &mut usize) -> Result<Self, TreeError> {
        input.tuple(8)?;
        let path = input.bytes(PATH_BYTES_MAX)?.to_vec();
        let mut number = |field| {
            let found = input.uint()?;
            u32::try_from(found).map_err(|_| TreeError::Limit { field, found, most: u32::MAX.into() })
        };
        let (mode, uid, gid) = (number("mode")?, number("user")?, number("group")?);
        let mtime_secs = input.uint()?;
        let found = input.uint()?;
        let mtime_ns = u32::try_from(found).map_err(|_| TreeError::Limit {
            field: "part of a second",
            found,
            most: 999_999_999,
        })?;
        let kind = match (input.uint()?, input.array(2)?) {
            (0, 0) => Kind::Folder,
            (1, 2) => {
                let (bytes, count) = (input.uint()?, input.array(*left)?);
                *left -= count;
                let pieces = (0..count).map(|_| input.fixed()).collect::<Result<_, _>>()?;
                Kind::File { bytes, pieces }
            }
            (2, 1) => Kind::Link { target: input.bytes(TARGET_BYTES_MAX)?.to_vec() },
            (3, 1) => {
                let found = input.uint()?;
                most("earlier entry", found, ENTRIES_MAX as u64)?;
                Kind::Same { of: found as usize }
            }
            (found, _) => return Err(TreeError::Limit { field: "kind", found, most: 3 }),
        };
        Ok(Self { path, mode, uid, gid, mtime_secs, mtime_ns, kind })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BYTES_MAX: u64 = 64 << 20;

    fn entry(path: &str, kind: Kind) -> Entry {
        Entry { path: path.into(), mode: 0o755, uid: 0, gid: 65_535, mtime_secs: 7, mtime_ns: 8, kind }
    }

    fn file(path: &str, bytes: u64) -> Entry {
        let pieces = (0..bytes.div_ceil(PIECE_BYTES as u64)).map(|piece| [piece as u8; 32]).collect();
        entry(path, Kind::File { bytes, pieces })
    }

    fn entries() -> Vec<Entry> {
        vec![
            entry("", Kind::Folder),
            entry("a", Kind::Folder),
            file("a/b", PIECE_BYTES as u64 + 1),
            entry("a/c", Kind::Same { of: 2 }),
            entry("d", Kind::Link { target: b"../../etc/passwd".to_vec() }),
            file("e", 0),
        ]
    }

    #[test]
    fn a_listing_returns_from_its_bytes_and_no_other_spelling_is_taken() {
        let tree = Tree::new(entries(), BYTES_MAX).unwrap();
        let bytes = tree.encode();
        assert_eq!(Tree::decode(&bytes, BYTES_MAX).unwrap(), tree);
        (0..bytes.len()).for_each(|end| assert!(Tree::decode(&bytes[..end], BYTES_MAX).is_err(), "cut at {end}"));
        assert!(Tree::decode(&[&bytes[..], &[0]].concat(), BYTES_MAX).is_err());
        for at in 0..bytes.len() * 8 {
            let mut bent = bytes.clone();
            bent[at / 8] ^= 1 << (at % 8);
            if let Ok(other) = Tree::decode(&bent, BYTES_MAX) {
                assert_eq!(other.encode(), bent, "bit {at}");
                assert_ne!(other.hash(), tree.hash());
            }
        }
        assert_eq!((tree.files(), tree.bytes()), (3, PIECE_BYTES as u64 + 1));
        assert_eq!(tree.pieces(), [([0; 32], PIECE_BYTES), ([1; 32], 1)]);
    }

    #[test]
    fn no_listing_names_a_place_outside_or_through_a_link() {
        let refused = |at: usize, with: Entry| {
            let mut all = entries();
            all[at] = with;
            assert!(Tree::new(all, BYTES_MAX).is_err());
        };
        for path in ["/a", "../a", "a/../b", "a//b", "a/", ".", "a/./b", "a\0b"] {
            refused(2, file(path, 1));
        }
        refused(5, file("d/under", 1));
        refused(5, file("nowhere/under", 1));
        refused(5, file("a", 1));
        refused(0, file("", 1));
        refused(3, entry("a/c", Kind::Same { of: 3 }));
        refused(3, entry("a/c", Kind::Same { of: 1 }));
        refused(3, entry("a/c", Kind::Same { of: 99 }));
        refused(4, entry("d", Kind::Link { target: Vec::new() }));
        refused(5, file(&"x/".repeat(DEPTH_MAX + 1), 1));
        refused(5, Entry { mode: 0o10000, ..file("e", 0) });
        refused(5, Entry { uid: 65_536, ..file("e", 0) });
        refused(5, entry("e", Kind::File { bytes: 1, pieces: Vec::new() }));
        assert!(Tree::new(entries()[1..].to_vec(), BYTES_MAX).is_err(), "no root");
        assert!(Tree::new([entries(), entries()].concat(), BYTES_MAX).is_err(), "twice");
    }

    #[test]
    fn no_listing_is_larger_than_its_volume() {
        assert!(Tree::new(entries(), PIECE_BYTES as u64 + 1).is_ok());
        assert!(Tree::new(entries(), PIECE_BYTES as u64).is_err());
        let many = entry("x", Kind::File { bytes: u64::MAX - 1, pieces: Vec::new() });
        assert!(Tree::new([entries(), vec![many]].concat(), u64::MAX).is_err(), "pieces that are not named");
    }

    #[test]
    fn a_volume_stands_where_it_hides_nothing_of_the_containers_own() {
        for path in ["/data", "/var/lib/postgresql/data", "/tmp/x"] {
            assert!(is_volume_path(path), "{path}");
        }
        for path in ["", "/", "data", "/data/", "/a//b", "/../a", "/a/..", "/proc", "/proc/1", "/sys/x", "/dev", "/a\0"]
        {
            assert!(!is_volume_path(path), "{path}");
        }
    }
}
