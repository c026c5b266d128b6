//! List a folder that a stranger wrote in, and lay such a listing down in a folder of ours.
//!
//! We are root, and the stranger may write while we read. Upon each name: what is there is opened within the folder that
//! is held open, by that one name and never through a link. Upon laying down: the folder is new and nobody else sees it,
//! and a [`Tree`] has no path that leads through anything but folders that it made itself.

use crate::{
    packed::invalid,
    root::{checked, terminated},
    spec::UIDS,
};
use hodei_types::app::volume::{ENTRIES_MAX, Entry, Kind, PIECE_BYTES, Tree};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, DirBuilder, File, Metadata},
    io::{self, Read, Seek, SeekFrom, Write},
    os::{
        fd::{AsRawFd, OwnedFd},
        unix::{
            ffi::{OsStrExt, OsStringExt},
            fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt, lchown, symlink},
        },
    },
    path::{Path, PathBuf},
    time::{SystemTime, UNIX_EPOCH},
};

const DEPTH_MAX: usize = 128;
/// What a file system counts in.
const BLOCK_BYTES: usize = 4096;
/// Whoever is no user of the container's.
const NOBODY: u32 = 65_534;
/// Two writes so near each other may leave a file with one time.
const RACY_SECS: i64 = 1;

/// What a listing takes in.
pub(crate) struct Walk<'a> {
    /// The first user of the container's on this machine; none where users are taken as they are.
    pub(crate) base: Option<u32>,
    pub(crate) bytes_max: u64,
    /// What an earlier one found: what is unchanged since then is not read again.
    pub(crate) before: Option<&'a Memory>,
    /// Whether nobody writes: else what changes while it is read is left out.
    pub(crate) is_still: bool,
}

/// What files were when they were last read.
#[derive(Clone, Default)]
pub(crate) struct Memory {
    pub(crate) hash: [u8; 32],
    /// When that was begun, in seconds since 1970.
    since: i64,
    files: BTreeMap<(u64, u64), Seen>,
}

#[derive(Clone)]
struct Seen {
    stamp: (u64, i64, i64, i64, i64),
    pieces: Vec<[u8; 32]>,
}

impl Memory {
    /// Pieces of all files, as often as they are there.
    pub(crate) fn pieces(&self) -> impl Iterator<Item = [u8; 32]> + '_ {
        self.files.values().flat_map(|seen| seen.pieces.iter().copied())
    }
}

/// Of a file that changed, one of these.
fn stamp(about: &Metadata) -> (u64, i64, i64, i64, i64) {
    (about.len(), about.mtime(), about.mtime_nsec(), about.ctime(), about.ctime_nsec())
}

type Keep<'a> = &'a mut dyn FnMut([u8; 32], &[u8]) -> io::Result<()>;

struct Walking<'a> {
    walk: &'a Walk<'a>,
    keep: Keep<'a>,
    /// Each with its inode, where it has several names.
    found: Vec<(Entry, Option<(u64, u64)>)>,
    linked: BTreeMap<(u64, u64), Kind>,
    memory: Memory,
    bytes: u64,
}

/// Lists all that is in a folder, and hands over each piece of what was read.
pub(crate) fn list(root: &OwnedFd, walk: &Walk<'_>, keep: Keep<'_>) -> io::Result<(Tree, Memory)> {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs() as i64);
    let memory = Memory { since, ..Memory::default() };
    let mut walking = Walking { walk, keep, found: Vec::new(), linked: BTreeMap::new(), memory, bytes: 0 };
    let about = fs::metadata(own(root))?;
    let entry = walking.entry(Vec::new(), &about, Kind::Folder);
    walking.found.push((entry, None));
    walking.folder(root, &[], 0)?;
    let Walking { mut found, mut linked, mut memory, .. } = walking;
    found.sort_by(|(left, _), (right, _)| left.path.cmp(&right.path));
    let mut placed: BTreeMap<(u64, u64), usize> = BTreeMap::new();
    let mut entries = Vec::with_capacity(found.len());
    for (mut entry, inode) in found {
        if let Some(inode) = inode {
            entry.kind = match (placed.get(&inode), linked.remove(&inode)) {
                (None, Some(kind)) => {
                    placed.insert(inode, entries.len());
                    kind
                }
                (Some(of), _) => Kind::Same { of: *of },
                (None, None) => return Err(invalid("a file without its content")),
            };
        }
        entries.push(entry);
    }
    let tree = Tree::new(entries, walk.bytes_max).map_err(io::Error::other)?;
    memory.hash = tree.hash();
    Ok((tree, memory))
}

/// The way to what is held open, whatever happens to its name.
fn own(folder: &OwnedFd) -> PathBuf {
    format!("/proc/self/fd/{}", folder.as_raw_fd()).into()
}

impl Walking<'_> {
    fn entry(&self, path: Vec<u8>, about: &Metadata, kind: Kind) -> Entry {
        let user = |id: u32| match self.walk.base {
            None => id.min(UIDS - 1),
            Some(base) => id.checked_sub(base).filter(|id| *id < UIDS).unwrap_or(NOBODY),
        };
        Entry {
            path,
            mode: about.mode() & 0o7777,
            uid: user(about.uid()),
            gid: user(about.gid()),
            mtime_secs: u64::try_from(about.mtime()).unwrap_or(0),
            mtime_ns: u32::try_from(about.mtime_nsec()).unwrap_or(0),
            kind,
        }
    }

    fn folder(&mut self, folder: &OwnedFd, path: &[u8], depth: usize) -> io::Result<()> {
        if depth >= DEPTH_MAX {
            return Err(invalid("folders within folders, more than 128 deep"));
        }
        for entry in fs::read_dir(own(folder))? {
            let name = entry?.file_name();
            let at = own(folder).join(&name);
            let below = if path.is_empty() { name.into_vec() } else { [path, b"/", name.as_bytes()].concat() };
            match self.one(&at, below.clone(), depth) {
                Ok(()) => {}
                Err(error) if !self.walk.is_still && error.kind() != io::ErrorKind::StorageFull => {}
                Err(error) => {
                    let path = String::from_utf8_lossy(&below).into_owned();
                    return Err(io::Error::new(error.kind(), format!("{path}: {error}")));
                }
            }
        }
        Ok(())
    }

    fn one(&mut self, at: &Path, path: Vec<u8>, depth: usize) -> io::Result<()> {
        if self.found.len() >= ENTRIES_MAX {
            return Err(invalid("more files and folders than a volume may have"));
        }
        let about = fs::symlink_metadata(at)?;
        if about.is_dir() {
            let flags = libc::O_DIRECTORY | libc::O_NOFOLLOW;
            let folder: OwnedFd = File::options().read(true).custom_flags(flags).open(at)?.into();
            let entry = self.entry(path.clone(), &about, Kind::Folder);
            self.found.push((entry, None));
            return self.folder(&folder, &path, depth + 1);
        }
        if about.is_symlink() {
            let target = fs::read_link(at)?.into_os_string().into_vec();
            let entry = self.entry(path, &about, Kind::Link { target });
            self.found.push((entry, None));
            return Ok(());
        }
        if !about.is_file() {
            // Devices, pipes and sockets mean something only where they were made.
            return Ok(());
        }
        // It may have become something else meanwhile, on which opening would wait.
        let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK;
        let file = File::options().read(true).custom_flags(flags).open(at)?;
        let about = file.metadata()?;
        if !about.is_file() {
            return Ok(());
        }
        let inode = (about.dev(), about.ino());
        let linked = (about.nlink() > 1).then_some(inode);
        if linked.is_none_or(|inode| !self.linked.contains_key(&inode)) {
            let kind = self.content(file, &about, inode)?;
            if linked.is_none() {
                let entry = self.entry(path, &about, kind);
                self.found.push((entry, None));
                return Ok(());
            }
            self.linked.insert(inode, kind);
        }
        let entry = self.entry(path, &about, Kind::Folder);
        self.found.push((entry, linked));
        Ok(())
    }

    fn content(&mut self, mut file: File, about: &Metadata, inode: (u64, u64)) -> io::Result<Kind> {
        let bytes = about.len();
        self.bytes = self.bytes.saturating_add(bytes);
        if self.bytes > self.walk.bytes_max {
            return Err(invalid("files of more bytes than the volume has, holes counted: it cannot be snapshot"));
        }
        let stamp = stamp(about);
        let known = self.walk.before.and_then(|before| {
            let seen = before.files.get(&inode)?;
            (seen.stamp == stamp && about.ctime() < before.since - RACY_SECS).then(|| seen.pieces.clone())
        });
        let pieces = match known {
            Some(pieces) => pieces,
            None => {
                let (mut left, mut pieces) = (bytes, Vec::new());
                let mut piece = vec![0; PIECE_BYTES.min(usize::try_from(bytes).unwrap_or(PIECE_BYTES))];
                while left > 0 {
                    let length = left.min(PIECE_BYTES as u64) as usize;
                    file.read_exact(&mut piece[..length])?;
                    let hash = *blake3::hash(&piece[..length]).as_bytes();
                    (self.keep)(hash, &piece[..length])?;
                    pieces.push(hash);
                    left -= length as u64;
                }
                pieces
            }
        };
        self.memory.files.insert(inode, Seen { stamp, pieces: pieces.clone() });
        Ok(Kind::File { bytes, pieces })
    }
}

/// Lays a listing down in the empty folder at `into`, which is nobody else's yet, with pieces as they are asked for.
pub(crate) fn lay(
    tree: &Tree,
    into: &Path,
    base: Option<u32>,
    mut piece: impl FnMut([u8; 32], usize) -> io::Result<Vec<u8>>,
) -> io::Result<()> {
    let at = |entry: &Entry| into.join(std::ffi::OsStr::from_bytes(&entry.path));
    let named = |entry: &Entry| {
        let path = String::from_utf8_lossy(&entry.path).into_owned();
        move |error: io::Error| io::Error::new(error.kind(), format!("{path}: {error}"))
    };
    let mut lay = |entry: &Entry| -> io::Result<()> {
        let path = at(entry);
        match &entry.kind {
            Kind::Folder if entry.path.is_empty() => Ok(()),
            Kind::Folder => DirBuilder::new().mode(0o700).create(path),
            Kind::Link { target } => symlink(std::ffi::OsStr::from_bytes(target), path),
            Kind::Same { of } => fs::hard_link(at(&tree.entries()[*of]), path),
            Kind::File { .. } => {
                let mut file = File::options().write(true).create_new(true).mode(0o600).open(path)?;
                entry.pieces().try_for_each(|(hash, bytes)| write(&mut file, &piece(hash, bytes)?))?;
                file.set_len(entry.bytes())
            }
        }
    };
    for entry in tree.entries() {
        lay(entry).map_err(named(entry))?;
    }
    // What is in a folder changes its time: the last comes first.
    for entry in tree.entries().iter().rev().filter(|entry| !matches!(entry.kind, Kind::Same { .. })) {
        allow(entry, &at(entry), base).map_err(named(entry))?;
    }
    Ok(())
}

/// Writes on, and leaves holes where nothing is: what fitted as it was is to fit again.
fn write(file: &mut File, mut bytes: &[u8]) -> io::Result<()> {
    let is_hole = |block: &[u8]| block.iter().all(|byte| *byte == 0);
    while let Some(first) = bytes.chunks(BLOCK_BYTES).next().map(is_hole) {
        let same = bytes.chunks(BLOCK_BYTES).take_while(|block| is_hole(block) == first).map(<[u8]>::len).sum();
        let (run, rest) = bytes.split_at(same);
        match first {
            true => _ = file.seek(SeekFrom::Current(same as i64))?,
            false => file.write_all(run)?,
        }
        bytes = rest;
    }
    Ok(())
}

/// Gives what was laid down its owner, its rights and its time.
fn allow(entry: &Entry, at: &Path, base: Option<u32>) -> io::Result<()> {
    if let Some(base) = base {
        lchown(at, Some(base + entry.uid), Some(base + entry.gid))?;
    }
    if !matches!(entry.kind, Kind::Link { .. }) {
        fs::set_permissions(at, fs::Permissions::from_mode(entry.mode))?;
    }
    let time = libc::timespec { tv_sec: entry.mtime_secs as libc::time_t, tv_nsec: entry.mtime_ns.into() };
    let name = terminated(at.as_os_str().as_bytes())?;
    let times = [time, time];
    // SAFETY: the name ends in a zero, there are two times, and all outlive the call.
    let done = unsafe { libc::utimensat(libc::AT_FDCWD, name.as_ptr(), times.as_ptr(), libc::AT_SYMLINK_NOFOLLOW) };
    checked(done).map(drop)
}

/// Pieces in a folder of ours, by what they hash to; dropped, they are gone.
pub(crate) struct Pieces {
    folder: PathBuf,
    left: u64,
    there: BTreeSet<[u8; 32]>,
}

impl Pieces {
    /// An empty place for so many bytes.
    pub(crate) fn new(folder: PathBuf, bytes_max: u64) -> io::Result<Self> {
        remove(&folder)?;
        DirBuilder::new().recursive(true).mode(0o700).create(&folder)?;
        Ok(Self { folder, left: bytes_max, there: BTreeSet::new() })
    }

    pub(crate) fn has(&self, hash: &[u8; 32]) -> bool {
        self.there.contains(hash)
    }

    /// Keeps a piece, if it is what its hash says.
    pub(crate) fn put(&mut self, hash: [u8; 32], bytes: &[u8]) -> io::Result<()> {
        if self.has(&hash) {
            return Ok(());
        }
        if blake3::hash(bytes).as_bytes() != &hash {
            return Err(invalid("a piece that is another than its hash says"));
        }
        let left = self.left.checked_sub(bytes.len() as u64);
        self.left = left.ok_or_else(|| io::Error::new(io::ErrorKind::StorageFull, "no room for more pieces"))?;
        fs::write(self.folder.join(hex::encode(hash)), bytes)?;
        self.there.insert(hash);
        Ok(())
    }

    pub(crate) fn get(&self, hash: &[u8; 32]) -> io::Result<Vec<u8>> {
        if !self.has(hash) {
            return Err(io::Error::new(io::ErrorKind::NotFound, "a piece that is not here"));
        }
        let bytes = fs::read(self.folder.join(hex::encode(hash)))?;
        if blake3::hash(&bytes).as_bytes() != hash { Err(invalid("a piece rotted on the disk")) } else { Ok(bytes) }
    }
}

impl Drop for Pieces {
    fn drop(&mut self) {
        // What stays is removed before the next ones come.
        remove(&self.folder).ok();
    }
}

fn remove(folder: &Path) -> io::Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BYTES_MAX: u64 = 64 << 20;

    fn open(path: &Path) -> OwnedFd {
        File::open(path).unwrap().into()
    }

    fn walk(before: Option<&Memory>) -> Walk<'_> {
        Walk { base: None, bytes_max: BYTES_MAX, before, is_still: true }
    }

    fn listed(at: &Path, before: Option<&Memory>) -> (Tree, Memory, BTreeMap<[u8; 32], Vec<u8>>) {
        let mut pieces = BTreeMap::new();
        let (tree, memory) = list(&open(at), &walk(before), &mut |hash, bytes| {
            pieces.insert(hash, bytes.to_vec());
            Ok(())
        })
        .unwrap();
        (tree, memory, pieces)
    }

    fn old(path: &Path) {
        let name = terminated(path.as_os_str().as_bytes()).unwrap();
        let time = libc::timespec { tv_sec: 1_000_000_000, tv_nsec: 5 };
        // SAFETY: the name ends in a zero, and there are two times.
        unsafe { libc::utimensat(libc::AT_FDCWD, name.as_ptr(), [time, time].as_ptr(), libc::AT_SYMLINK_NOFOLLOW) };
    }

    #[test]
    fn what_is_listed_is_laid_down_as_it_was_and_listed_the_same_again() {
        let place = tempfile::tempdir().unwrap();
        let one = place.path().join("one");
        fs::create_dir_all(one.join("a/deep")).unwrap();
        let large: Vec<u8> = (0..PIECE_BYTES + 7).map(|at| (at % 251) as u8).collect();
        fs::write(one.join("a/deep/large"), &large).unwrap();
        fs::write(one.join("a-b"), b"").unwrap();
        fs::set_permissions(one.join("a-b"), fs::Permissions::from_mode(0o640)).unwrap();
        fs::hard_link(one.join("a/deep/large"), one.join("z")).unwrap();
        symlink("../../../etc/passwd", one.join("link")).unwrap();
        for path in ["a/deep/large", "link", "a/deep", "a"] {
            old(&one.join(path));
        }
        let (tree, _, pieces) = listed(&one, None);
        let names: Vec<_> =
            tree.entries().iter().map(|entry| String::from_utf8_lossy(&entry.path).into_owned()).collect();
        assert_eq!(names, ["", "a", "a-b", "a/deep", "a/deep/large", "link", "z"]);
        assert_eq!(tree.entries()[6].kind, Kind::Same { of: 4 });
        let two = place.path().join("two");
        fs::create_dir(&two).unwrap();
        lay(&tree, &two, None, |hash, _| Ok(pieces[&hash].clone())).unwrap();
        assert_eq!(fs::read(two.join("z")).unwrap(), large);
        assert_eq!(fs::metadata(two.join("z")).unwrap().ino(), fs::metadata(two.join("a/deep/large")).unwrap().ino());
        assert_eq!(listed(&two, None).0, tree);
    }

    #[test]
    fn what_did_not_change_is_not_read_again_and_what_did_is() {
        let place = tempfile::tempdir().unwrap();
        let (same, other) = (place.path().join("same"), place.path().join("other"));
        fs::write(&same, b"same").unwrap();
        fs::write(&other, b"one").unwrap();
        let (_, mut memory, _) = listed(place.path(), None);
        // What was written long before it was listed cannot have been written after.
        memory.since += 100;
        fs::write(&other, b"two and more").unwrap();
        let (tree, _, pieces) = listed(place.path(), Some(&memory));
        assert_eq!(pieces.into_values().collect::<Vec<_>>(), [b"two and more"]);
        assert_eq!(tree, listed(place.path(), None).0);
        // What may have been written in the same moment is read.
        memory.since -= 200;
        assert_eq!(listed(place.path(), Some(&memory)).2.len(), 2);
    }

    #[test]
    fn what_is_empty_of_a_file_takes_no_room_where_it_is_laid_down() {
        let place = tempfile::tempdir().unwrap();
        let (one, two) = (place.path().join("one"), place.path().join("two"));
        fs::create_dir(&one).unwrap();
        fs::create_dir(&two).unwrap();
        let mut file = File::create(one.join("sparse")).unwrap();
        file.write_all(b"begin").unwrap();
        file.seek(SeekFrom::Start(20 << 20)).unwrap();
        file.write_all(b"middle").unwrap();
        file.set_len(40 << 20).unwrap();
        drop(file);
        let (tree, _, pieces) = listed(&one, None);
        lay(&tree, &two, None, |hash, _| Ok(pieces[&hash].clone())).unwrap();
        assert_eq!(fs::read(two.join("sparse")).unwrap(), fs::read(one.join("sparse")).unwrap());
        let taken = fs::metadata(two.join("sparse")).unwrap().blocks() * 512;
        assert!(taken < 1 << 20, "{taken} bytes");
    }

    #[test]
    fn more_than_a_volume_has_is_refused() {
        let place = tempfile::tempdir().unwrap();
        File::create(place.path().join("hole")).unwrap().set_len(BYTES_MAX + 1).unwrap();
        let refused = list(&open(place.path()), &walk(None), &mut |_, _| Ok(()));
        assert!(refused.is_err_and(|error| error.to_string().contains("hole")));
    }

    #[test]
    fn a_piece_is_what_its_hash_says_and_as_many_as_there_is_room_for() {
        let place = tempfile::tempdir().unwrap();
        let folder = place.path().join("pieces");
        let mut pieces = Pieces::new(folder.clone(), 5).unwrap();
        let hash = |bytes: &[u8]| *blake3::hash(bytes).as_bytes();
        assert!(pieces.put(hash(b"one"), b"two").is_err());
        pieces.put(hash(b"one"), b"one").unwrap();
        pieces.put(hash(b"one"), b"one").unwrap();
        assert_eq!(pieces.put(hash(b"two"), b"two").unwrap_err().kind(), io::ErrorKind::StorageFull);
        assert_eq!(pieces.get(&hash(b"one")).unwrap(), b"one");
        assert!(pieces.get(&hash(b"two")).is_err());
        fs::write(folder.join(hex::encode(hash(b"one"))), b"rot").unwrap();
        assert!(pieces.get(&hash(b"one")).is_err());
        drop(pieces);
        assert!(!folder.exists());
    }
}
