//! Lay a layer's tar down in a folder of its own, in the form that overlay reads.
//!
//! Whoever made the tar is a stranger, and we are root. Upon each entry: its parent is opened within the layer's folder
//! ([`Root`]: no link leads out), and what is made is made in that parent by one name, never through a link. Owners are
//! shifted to users that nobody is here. Devices are refused; set-uid bits are kept, for a user of the container's own.

use crate::{
    packed::invalid,
    root::{Root, checked, terminated},
    spec::{UID_BASE, UIDS},
};
use std::{
    cell::Cell,
    ffi::CStr,
    fs::File,
    io::{self, Read, Write},
    os::fd::{AsRawFd, FromRawFd, OwnedFd},
    path::Path,
};
use tar::{Archive, Entry, EntryType, Header};

/// Files and folders of one layer, those too that are only made to hold others.
const ENTRIES_MAX: u64 = 1_000_000;
/// What each of them takes of a disk at least.
pub(crate) const ENTRY_BYTES: u64 = 4096;
const PATH_BYTES_MAX: usize = 4096;
const NAME_BYTES_MAX: usize = 255;
const DEPTH_MAX: usize = 128;
/// Of one record that stands before an entry: a path, and what else some tars say there.
const RECORD_BYTES_MAX: u64 = 1 << 20;
const WHITEOUT: &[u8] = b".wh.";
const OPAQUE: &[u8] = b".wh..wh..opq";

/// What stood in records before an entry, and holds for it.
#[derive(Default)]
struct Before {
    path: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    uid: Option<u64>,
    gid: Option<u64>,
}

/// Who owns an entry on this machine, and what it allows.
struct Rights {
    uid: u32,
    gid: u32,
    mode: u32,
}

/// Unpacks `tar` into the empty folder at `into`, as far as `bytes_max` has room for so many names; says how many it is.
pub(crate) fn unpack(tar: &mut dyn Read, into: &Path, bytes_max: u64) -> io::Result<u64> {
    let entries_max = ENTRIES_MAX.min(bytes_max / ENTRY_BYTES);
    let tree = Tree(Root::open(into)?, Cell::new(entries_max));
    let mut archive = Archive::new(tar);
    let mut before = Before::default();
    // Raw: the crate itself would read a long name of any length into memory.
    for entry in archive.entries()?.raw(true) {
        tree.count()?;
        let mut entry = entry?;
        match entry.header().entry_type() {
            EntryType::GNULongName => before.path = Some(name(&mut entry)?),
            EntryType::GNULongLink => before.link = Some(name(&mut entry)?),
            EntryType::XHeader => extend(&mut before, &mut entry)?,
            // What it says holds for all that follow: comments of git, times. Nothing of it is needed.
            EntryType::XGlobalHeader => {}
            kind => {
                let said = std::mem::take(&mut before);
                let path = said.path.clone().unwrap_or_else(|| entry.path_bytes().into_owned());
                tree.lay(kind, &mut entry, said, &path).map_err(|error| {
                    io::Error::new(error.kind(), format!("{}: {error}", String::from_utf8_lossy(&path)))
                })?;
            }
        }
    }
    Ok(entries_max - tree.1.get())
}

fn record(entry: &mut Entry<impl Read>) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    if entry.header().size()? > RECORD_BYTES_MAX {
        return Err(invalid(format!("a record of more than {RECORD_BYTES_MAX} bytes")));
    }
    entry.take(RECORD_BYTES_MAX).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn name(entry: &mut Entry<impl Read>) -> io::Result<Vec<u8>> {
    let mut bytes = record(entry)?;
    bytes.truncate(bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len()));
    Ok(bytes)
}

fn extend(before: &mut Before, entry: &mut Entry<impl Read>) -> io::Result<()> {
    let size = entry.header().size()?;
    let bytes = record(entry)?;
    debug_assert_eq!(bytes.len() as u64, size);
    for extension in tar::PaxExtensions::new(&bytes) {
        let extension = extension?;
        let value = extension.value_bytes();
        let number = || -> io::Result<u64> {
            let text = str::from_utf8(value).ok().and_then(|text| text.parse().ok());
            text.ok_or_else(|| invalid("a record's number is none"))
        };
        match extension.key_bytes() {
            b"path" => before.path = Some(value.to_vec()),
            b"linkpath" => before.link = Some(value.to_vec()),
            b"uid" => before.uid = Some(number()?),
            b"gid" => before.gid = Some(number()?),
            // A size that the header does not have would shift all that follows.
            b"size" => return Err(invalid("a size in a record instead of its header")),
            key if key.starts_with(b"GNU.sparse.") => return Err(invalid("a sparse file")),
            // Times, comments, extended attributes: security.capability among them gives nothing without new privileges.
            _ => {}
        }
    }
    Ok(())
}

/// The folder that a layer is laid down in, and how many more names it may have.
struct Tree(Root, Cell<u64>);

impl Tree {
    fn count(&self) -> io::Result<()> {
        let left = self.1.get().checked_sub(1);
        self.1.set(left.ok_or_else(|| invalid("it has more files and folders than there is room for"))?);
        Ok(())
    }

    fn lay(&self, kind: EntryType, entry: &mut Entry<impl Read>, said: Before, path: &[u8]) -> io::Result<()> {
        let parts = parts(path)?;
        let rights = rights(entry.header(), &said)?;
        let Some((last, parents)) = parts.split_last() else {
            // The layer's own root: what it allows is the container's root folder's, which is made elsewhere.
            return if kind.is_dir() { Ok(()) } else { Err(invalid("the root as something else than a folder")) };
        };
        let parent = self.parent(parents)?;
        if *last == OPAQUE {
            let folder = open(&parent, c".", libc::O_RDONLY | libc::O_DIRECTORY)?;
            return set_opaque(&folder);
        }
        if let Some(hidden) = last.strip_prefix(WHITEOUT) {
            return whiteout(&parent, hidden);
        }
        let name = terminated(last)?;
        match kind {
            EntryType::Directory => folder(&parent, &name, &rights),
            EntryType::Regular | EntryType::Continuous => file(&parent, &name, &rights, entry),
            EntryType::Symlink => {
                let target = terminated(&target(entry.header(), said.link)?)?;
                clear(&parent, &name)?;
                // SAFETY: both names end in a zero and outlive the call.
                checked(unsafe { libc::symlinkat(target.as_ptr(), parent.as_raw_fd(), name.as_ptr()) })?;
                own(&parent, &name, &rights)
            }
            EntryType::Link => {
                let target = target(entry.header(), said.link)?;
                let target = crate::unpack::parts(&target)?;
                let (of, within) = target.split_last().ok_or_else(|| invalid("a link to the root"))?;
                let (from, of) = (self.0.folder(&within.join(&b'/'))?, terminated(of)?);
                if stat(&parent, &name)?
                    .is_some_and(|there| stat(&from, &of).is_ok_and(|of| of.is_some_and(|of| same(&there, &of))))
                {
                    return Ok(());
                }
                clear(&parent, &name)?;
                // SAFETY: as above. Without AT_SYMLINK_FOLLOW a link to a link is a second name of the link.
                let linked =
                    unsafe { libc::linkat(from.as_raw_fd(), of.as_ptr(), parent.as_raw_fd(), name.as_ptr(), 0) };
                checked(linked).map(drop)
            }
            EntryType::Fifo => {
                clear(&parent, &name)?;
                // SAFETY: as above.
                checked(unsafe { libc::mkfifoat(parent.as_raw_fd(), name.as_ptr(), 0o600) })?;
                own(&parent, &name, &rights)?;
                // SAFETY: as above; it is a pipe that was just made, not a link.
                checked(unsafe { libc::fchmodat(parent.as_raw_fd(), name.as_ptr(), rights.mode, 0) }).map(drop)
            }
            EntryType::Block | EntryType::Char => Err(invalid("a device, which no image may bring")),
            EntryType::GNUSparse => Err(invalid("a sparse file")),
            other => Err(invalid(format!("an entry of kind {:?}, which is not known", other.as_byte() as char))),
        }
    }

    /// The folder that is to hold an entry; what of it is not in this layer is made.
    fn parent(&self, parts: &[&[u8]]) -> io::Result<OwnedFd> {
        match self.0.folder(&parts.join(&b'/')) {
            // What hides a folder of a lower layer is none itself.
            Err(error)
                if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
                    && !parts.is_empty() => {}
            found => return found,
        }
        let (last, before) = parts.split_last().expect("it is not empty");
        let (above, name) = (self.parent(before)?, terminated(last)?);
        if stat(&above, &name)?.is_some_and(|there| !is_folder(&there) && !is_whiteout(&there)) {
            return Err(invalid("in a folder that this layer makes a link to nowhere in it"));
        }
        self.count()?;
        folder(&above, &name, &Rights { uid: UID_BASE, gid: UID_BASE, mode: 0o755 })?;
        self.0.folder(&parts.join(&b'/'))
    }
}

/// A path's parts, none of which leads up.
fn parts(path: &[u8]) -> io::Result<Vec<&[u8]>> {
    if path.len() > PATH_BYTES_MAX {
        return Err(invalid(format!("a path of more than {PATH_BYTES_MAX} bytes")));
    }
    let parts: Vec<&[u8]> = path.split(|byte| *byte == b'/').filter(|part| !part.is_empty() && *part != b".").collect();
    if parts.contains(&&b".."[..]) {
        return Err(invalid("a path that leads up"));
    }
    if parts.len() > DEPTH_MAX || parts.iter().any(|part| part.len() > NAME_BYTES_MAX) {
        return Err(invalid(format!("more than {DEPTH_MAX} folders, or a name of more than {NAME_BYTES_MAX} bytes")));
    }
    Ok(parts)
}

fn target(header: &Header, said: Option<Vec<u8>>) -> io::Result<Vec<u8>> {
    let target = said.or_else(|| header.link_name_bytes().map(|name| name.into_owned()));
    target
        .filter(|target| !target.is_empty() && target.len() <= PATH_BYTES_MAX)
        .ok_or_else(|| invalid("a link to nothing"))
}

fn rights(header: &Header, said: &Before) -> io::Result<Rights> {
    let shifted = |id: u64| match u32::try_from(id) {
        Ok(id) if id < UIDS => Ok(UID_BASE + id),
        _ => Err(invalid(format!("owned by {id}; users and groups are below {UIDS}"))),
    };
    let uid = said.uid.map_or_else(|| header.uid(), Ok)?;
    let gid = said.gid.map_or_else(|| header.gid(), Ok)?;
    Ok(Rights { uid: shifted(uid)?, gid: shifted(gid)?, mode: header.mode()? & 0o7777 })
}

fn open(folder: &OwnedFd, name: &CStr, flags: i32) -> io::Result<OwnedFd> {
    // SAFETY: the name ends in a zero and outlives the call; what is returned is ours.
    let fd = checked(unsafe {
        libc::openat(folder.as_raw_fd(), name.as_ptr(), flags | libc::O_NOFOLLOW | libc::O_CLOEXEC, 0o600)
    })?;
    // SAFETY: the kernel has just given it to us.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn stat(folder: &OwnedFd, name: &CStr) -> io::Result<Option<libc::stat>> {
    // SAFETY: a stat of zeroes is a valid one; the name ends in a zero.
    let mut found: libc::stat = unsafe { std::mem::zeroed() };
    let asked = unsafe { libc::fstatat(folder.as_raw_fd(), name.as_ptr(), &raw mut found, libc::AT_SYMLINK_NOFOLLOW) };
    match checked(asked) {
        Ok(_) => Ok(Some(found)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn same(one: &libc::stat, other: &libc::stat) -> bool {
    one.st_ino == other.st_ino && one.st_dev == other.st_dev
}

fn is_folder(found: &libc::stat) -> bool {
    found.st_mode & libc::S_IFMT == libc::S_IFDIR
}

/// The device that hides what lower layers have under a name.
fn is_whiteout(found: &libc::stat) -> bool {
    found.st_mode & libc::S_IFMT == libc::S_IFCHR && found.st_rdev == 0
}

/// Takes away what an earlier entry left under that name: the last one counts.
fn clear(folder: &OwnedFd, name: &CStr) -> io::Result<()> {
    match stat(folder, name)? {
        None => Ok(()),
        Some(found) if is_folder(&found) => Err(invalid("a folder that becomes something else in the same layer")),
        // SAFETY: the name ends in a zero and outlives the call.
        Some(_) => checked(unsafe { libc::unlinkat(folder.as_raw_fd(), name.as_ptr(), 0) }).map(drop),
    }
}

fn own(folder: &OwnedFd, name: &CStr, rights: &Rights) -> io::Result<()> {
    // SAFETY: the name ends in a zero; the flag keeps the kernel from following a link.
    let owned =
        unsafe { libc::fchownat(folder.as_raw_fd(), name.as_ptr(), rights.uid, rights.gid, libc::AT_SYMLINK_NOFOLLOW) };
    checked(owned).map(drop)
}

fn allow(fd: &impl AsRawFd, rights: &Rights) -> io::Result<()> {
    // SAFETY: plain numbers. The owner first: a change of owner takes set-uid bits away.
    checked(unsafe { libc::fchown(fd.as_raw_fd(), rights.uid, rights.gid) })?;
    checked(unsafe { libc::fchmod(fd.as_raw_fd(), rights.mode) }).map(drop)
}

fn folder(parent: &OwnedFd, name: &CStr, rights: &Rights) -> io::Result<()> {
    let was = stat(parent, name)?;
    let hid = was.as_ref().is_some_and(is_whiteout);
    if !was.as_ref().is_some_and(is_folder) {
        clear(parent, name)?;
        // SAFETY: the name ends in a zero and outlives the call.
        checked(unsafe { libc::mkdirat(parent.as_raw_fd(), name.as_ptr(), 0o700) })?;
    }
    let made = open(parent, name, libc::O_RDONLY | libc::O_DIRECTORY)?;
    allow(&made, rights)?;
    // Hidden first and then there: nothing of lower layers shows through.
    if hid { set_opaque(&made) } else { Ok(()) }
}

fn file(parent: &OwnedFd, name: &CStr, rights: &Rights, entry: &mut Entry<impl Read>) -> io::Result<()> {
    clear(parent, name)?;
    let mut made = File::from(open(parent, name, libc::O_WRONLY | libc::O_CREAT | libc::O_EXCL)?);
    let mtime = entry.header().mtime()?;
    let size = entry.header().size()?;
    if io::copy(entry, &mut made)? != size {
        return Err(invalid("it ends within a file"));
    }
    made.flush()?;
    allow(&made, rights)?;
    let mtime = std::time::UNIX_EPOCH.checked_add(std::time::Duration::from_secs(mtime.min(u32::MAX.into())));
    mtime.map_or(Ok(()), |mtime| made.set_modified(mtime))
}

fn set_opaque(folder: &OwnedFd) -> io::Result<()> {
    let (name, value) = (c"trusted.overlay.opaque", b"y");
    // SAFETY: the name ends in a zero, the value is as long as is said, both outlive the call.
    checked(unsafe { libc::fsetxattr(folder.as_raw_fd(), name.as_ptr(), value.as_ptr().cast(), value.len(), 0) })
        .map(drop)
}

fn whiteout(parent: &OwnedFd, hidden: &[u8]) -> io::Result<()> {
    if hidden.is_empty() || hidden == b"." || hidden == b".." || hidden.starts_with(WHITEOUT) {
        return Err(invalid("a whiteout of nothing"));
    }
    let name = terminated(hidden)?;
    match stat(parent, &name)? {
        // What this layer itself has stays; only what is below it is hidden.
        Some(found) if is_folder(&found) => set_opaque(&open(parent, &name, libc::O_RDONLY | libc::O_DIRECTORY)?),
        Some(_) => Ok(()),
        // SAFETY: the name ends in a zero; the device 0, 0 is nobody's.
        None => {
            checked(unsafe { libc::mknodat(parent.as_raw_fd(), name.as_ptr(), libc::S_IFCHR | 0o600, 0) }).map(drop)
        }
    }
}
