//! Write a snapshot as a tar, and read one as a snapshot.
//!
//! A tar that is read is a stranger's, as far as this module knows: it becomes a [`Tree`], which has no path that leads
//! elsewhere, and nothing of it is unpacked here.

use super::stored::{Fetched, Packing};
use hodei_types::app::volume::{ENTRIES_MAX, Entry, Kind, PIECE_BYTES, Tree};
use std::{
    collections::BTreeMap,
    ffi::OsStr,
    io::{self, Read, Write},
    os::unix::ffi::OsStrExt,
    path::Path,
};
use tar::{Archive, Builder, EntryType, Header};

/// A folder that an archive has files in, and does not name.
const FOLDER_MODE: u32 = 0o755;

/// Writes a snapshot as an archive; names begin with `./`.
pub(super) fn write(tree: &Tree, pieces: &Fetched, to: impl Write) -> io::Result<()> {
    let mut archive = Builder::new(to);
    let path = |entry: &Entry| Path::new("./").join(OsStr::from_bytes(&entry.path));
    for entry in tree.entries() {
        let mut header = Header::new_gnu();
        header.set_mode(entry.mode);
        header.set_uid(entry.uid.into());
        header.set_gid(entry.gid.into());
        header.set_mtime(entry.mtime_secs);
        header.set_size(0);
        match &entry.kind {
            Kind::Folder => {
                header.set_entry_type(EntryType::Directory);
                archive.append_data(&mut header, path(entry), io::empty())?;
            }
            Kind::File { bytes, .. } => {
                header.set_entry_type(EntryType::Regular);
                header.set_size(*bytes);
                let content = Content { pieces, left: entry.pieces().map(|(hash, _)| hash).collect(), now: Vec::new() };
                archive.append_data(&mut header, path(entry), content)?;
            }
            Kind::Link { target } => {
                header.set_entry_type(EntryType::Symlink);
                archive.append_link(&mut header, path(entry), OsStr::from_bytes(target))?;
            }
            Kind::Same { of } => {
                header.set_entry_type(EntryType::Link);
                archive.append_link(&mut header, path(entry), path(&tree.entries()[*of]))?;
            }
        }
    }
    archive.into_inner()?.flush()
}

/// A file's pieces, one behind the other.
struct Content<'a> {
    pieces: &'a Fetched,
    left: std::collections::VecDeque<[u8; 32]>,
    now: Vec<u8>,
}

impl Read for Content<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if self.now.is_empty() {
            let Some(hash) = self.left.pop_front() else { return Ok(0) };
            self.now = self.pieces.piece(&hash)?;
        }
        let taken = into.len().min(self.now.len());
        into[..taken].copy_from_slice(&self.now[..taken]);
        self.now.drain(..taken);
        Ok(taken)
    }
}

/// Reads an archive into pieces and their listing, for a volume of `bytes_max`.
pub(super) fn read(from: impl Read, bytes_max: u64, packing: &mut Packing) -> io::Result<Tree> {
    let mut found: BTreeMap<Vec<u8>, Entry> = BTreeMap::new();
    let mut linked: BTreeMap<Vec<u8>, Vec<u8>> = BTreeMap::new();
    let mut packed = std::collections::BTreeSet::new();
    let mut left = bytes_max;
    let mut archive = Archive::new(from);
    for entry in archive.entries()? {
        let mut entry = entry?;
        let path = plain(&entry.path_bytes())?;
        if found.len() + linked.len() > ENTRIES_MAX {
            return Err(invalid(&format!("more than {ENTRIES_MAX} files")));
        }
        let target = entry.link_name_bytes().map(|target| target.into_owned());
        let kind = match entry.header().entry_type() {
            EntryType::Directory => Kind::Folder,
            EntryType::Symlink => Kind::Link { target: target.unwrap_or_default() },
            EntryType::Link => {
                linked.insert(path, plain(&target.unwrap_or_default())?);
                continue;
            }
            EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => {
                let bytes = entry.size();
                left = left.checked_sub(bytes).ok_or_else(|| invalid("more bytes than the volume has"))?;
                let mut pieces = Vec::new();
                let mut piece = vec![0; PIECE_BYTES];
                let mut unread = bytes;
                while unread > 0 {
                    let length = unread.min(PIECE_BYTES as u64) as usize;
                    entry.read_exact(&mut piece[..length])?;
                    let hash = *blake3::hash(&piece[..length]).as_bytes();
                    if packed.insert(hash) {
                        packing.put(hash, &piece[..length])?;
                    }
                    pieces.push(hash);
                    unread -= length as u64;
                }
                Kind::File { bytes, pieces }
            }
            // Devices and pipes mean something only where they were made.
            _ => continue,
        };
        let header = entry.header();
        let (mode, uid, gid) = (header.mode()?, header.uid()?, header.gid()?);
        let user = |id: u64| u32::try_from(id).unwrap_or(u32::MAX);
        let entry = Entry {
            path: path.clone(),
            mode: mode & 0o7777,
            uid: user(uid),
            gid: user(gid),
            mtime_secs: header.mtime()?,
            mtime_ns: 0,
            kind,
        };
        // What is named twice is what it was named last.
        linked.remove(&path);
        found.insert(path, entry);
    }
    parents(&mut found, linked.keys());
    let places: BTreeMap<Vec<u8>, usize> = {
        let all: std::collections::BTreeSet<&Vec<u8>> = found.keys().chain(linked.keys()).collect();
        all.into_iter().enumerate().map(|(place, path)| (path.clone(), place)).collect()
    };
    link(&mut found, &linked, &places)?;
    Tree::new(found.into_values().collect(), bytes_max).map_err(|error| invalid(&error.to_string()))
}

/// Hard links: of one file's names the first has its content.
fn link(
    found: &mut BTreeMap<Vec<u8>, Entry>,
    linked: &BTreeMap<Vec<u8>, Vec<u8>>,
    places: &BTreeMap<Vec<u8>, usize>,
) -> io::Result<()> {
    let mut names: BTreeMap<&Vec<u8>, Vec<&Vec<u8>>> = BTreeMap::new();
    for (path, of) in linked {
        names.entry(of).or_default().push(path);
    }
    for (of, others) in names {
        let missing = || invalid(&format!("{:?} is linked to and not there", String::from_utf8_lossy(of)));
        let entry = found.get(of).filter(|entry| matches!(entry.kind, Kind::File { .. })).cloned();
        let entry = entry.ok_or_else(missing)?;
        let all = || others.iter().copied().chain([of]);
        let first = all().min().ok_or_else(missing)?.clone();
        let place = *places.get(&first).ok_or_else(missing)?;
        for path in all() {
            let kind = if *path == first { entry.kind.clone() } else { Kind::Same { of: place } };
            found.insert(path.clone(), Entry { path: path.clone(), kind, ..entry.clone() });
        }
    }
    Ok(())
}

/// Adds folders that are not named, and have something in them.
fn parents<'a>(found: &mut BTreeMap<Vec<u8>, Entry>, linked: impl Iterator<Item = &'a Vec<u8>>) {
    let paths: Vec<Vec<u8>> = found.keys().cloned().chain(linked.cloned()).chain([Vec::new()]).collect();
    for path in paths {
        let ends = path.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(at, _)| at);
        for end in ends.chain([0]) {
            found.entry(path[..end].to_vec()).or_insert_with(|| Entry {
                path: path[..end].to_vec(),
                mode: FOLDER_MODE,
                uid: 0,
                gid: 0,
                mtime_secs: 0,
                mtime_ns: 0,
                kind: Kind::Folder,
            });
        }
    }
}

/// A path from the volume's root, without what leads nowhere.
fn plain(path: &[u8]) -> io::Result<Vec<u8>> {
    let parts: Vec<&[u8]> = path.split(|byte| *byte == b'/').filter(|part| !matches!(*part, b"" | b".")).collect();
    match parts.contains(&&b".."[..]) || path.contains(&0) {
        true => Err(invalid(&format!("{:?} leads elsewhere", String::from_utf8_lossy(path)))),
        false => Ok(parts.join(&b'/')),
    }
}

fn invalid(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::app::volume::{
        stored::{Head, Stored},
        vault::Folder,
    };

    const BYTES_MAX: u64 = 64 << 20;

    fn archive() -> Vec<u8> {
        let mut archive = Builder::new(Vec::new());
        let mut add = |kind, path: &str, content: &[u8], target: Option<&str>| {
            let mut header = Header::new_gnu();
            header.set_entry_type(kind);
            header.set_mode(0o640);
            header.set_uid(33);
            header.set_gid(44);
            header.set_mtime(9);
            header.set_size(content.len() as u64);
            match target {
                Some(target) => archive.append_link(&mut header, path, target).unwrap(),
                None => archive.append_data(&mut header, path, content).unwrap(),
            }
        };
        add(EntryType::Regular, "./z/deep/file", &vec![7; PIECE_BYTES + 1], None);
        add(EntryType::Link, "a", b"", Some("./z/deep/file"));
        add(EntryType::Symlink, "out", b"", Some("/etc/passwd"));
        add(EntryType::Fifo, "pipe", b"", None);
        archive.into_inner().unwrap()
    }

    #[tokio::test]
    async fn an_archive_becomes_a_snapshot_and_that_an_archive_with_the_same_in_it() {
        let place = std::env::temp_dir().join(format!("hodei-tape-{:016x}", rand::random::<u64>()));
        let scratch = place.join("scratch");
        std::fs::create_dir_all(&scratch).unwrap();
        let folder = Folder(place.clone());
        let mut packing = Packing::new(&scratch).unwrap();
        let tree = read(&archive()[..], BYTES_MAX, &mut packing).unwrap();
        let names: Vec<_> =
            tree.entries().iter().map(|entry| String::from_utf8_lossy(&entry.path).into_owned()).collect();
        assert_eq!(names, ["", "a", "out", "z", "z/deep", "z/deep/file"]);
        assert_eq!(tree.entries()[5].kind, Kind::Same { of: 1 });
        assert_eq!((tree.entries()[1].uid, tree.entries()[1].gid, tree.entries()[1].mode), (33, 44, 0o640));
        let stored = Stored::of(&folder, ("shop", "data"), BYTES_MAX);
        let head = Head { lease: 1, generation: 0, sequence: 1, at_ms: 1, is_sealed: false, tree: None };
        assert!(stored.store((None, None), head, tree.clone(), packing, &scratch).await.unwrap());
        let head = stored.head().await.unwrap().unwrap();
        let snapshot = stored.snapshot(&head, &scratch).await.unwrap().unwrap();
        let fetched = stored.fetch(&snapshot, &scratch, |_| ()).await.unwrap();
        let mut bytes = Vec::new();
        write(&tree, &fetched, &mut bytes).unwrap();
        let mut packing = Packing::new(&scratch).unwrap();
        assert_eq!(read(&bytes[..], BYTES_MAX, &mut packing).unwrap(), tree);
        std::fs::remove_dir_all(place).unwrap();
    }

    #[test]
    fn an_archive_that_leads_elsewhere_or_is_too_large_is_refused() {
        let scratch = std::env::temp_dir().join(format!("hodei-tape-{:016x}", rand::random::<u64>()));
        std::fs::create_dir_all(&scratch).unwrap();
        let mut packing = Packing::new(&scratch).unwrap();
        assert!(read(&archive()[..], PIECE_BYTES as u64, &mut packing).is_err(), "more than the volume has");
        assert!(plain(b"a/../b").is_err() && plain(b"..").is_err());
        assert_eq!(plain(b"./a//b/").unwrap(), b"a/b");
        std::fs::remove_dir_all(scratch).unwrap();
    }
}
