//! Take files out of a container, and put some into it, as an archive.
//!
//! This binary again, one process for each: it goes into the container's own user and mount namespaces before it opens
//! anything, so that every name and link is the container's, and whatever it may do there the container's root may. It
//! has no key, no variable and no file of the agent's, and the container sees no process of it.

use crate::{engine::began, root::checked};
use serde::{Deserialize, Serialize};
use std::{
    fs::{self, File},
    io::{self, Read, Write},
    os::{
        fd::AsRawFd,
        unix::fs::{MetadataExt, OpenOptionsExt},
    },
    path::{Path, PathBuf},
};
use tar::{Archive, Builder, EntryType, Header};

/// How this binary is told that it is for files.
pub(crate) const WORD: &str = "files";
/// Of one archive.
const FILES_MAX: u64 = 1 << 20;
const DEPTH_MAX: usize = 128;
/// Of this process's address space: an archive is carried through a small part of it.
const MEMORY_BYTES_MAX: u64 = 512 << 20;

/// What is to be carried.
#[derive(Serialize, Deserialize)]
pub(crate) struct Order {
    /// The container's first process, and when it began.
    pub(crate) pid: i32,
    pub(crate) began: u64,
    pub(crate) path: String,
    /// In, from standard input; else out, to standard output.
    pub(crate) is_in: bool,
}

/// Does what the last argument says, if the one before says that it is for files.
pub(crate) fn run() -> Option<i32> {
    let mut words = std::env::args().rev();
    let (order, word) = (words.next()?, words.next()?);
    if word != WORD {
        return None;
    }
    let done = serde_json::from_str::<Order>(&order).map_err(io::Error::from).and_then(|order| {
        // Names in an archive are taken into memory whole, and it is this machine's.
        let limit = libc::rlimit { rlim_cur: MEMORY_BYTES_MAX, rlim_max: MEMORY_BYTES_MAX };
        // SAFETY: the struct is the kernel's, and outlives the call.
        checked(unsafe { libc::setrlimit(libc::RLIMIT_AS, &raw const limit) })?;
        enter(&order)?;
        // What is made belongs to the container's root, and to others as it says.
        // SAFETY: a plain number; there is one thread.
        unsafe { libc::umask(0o022) };
        match order.is_in {
            true => take(Path::new(&order.path), io::stdin().lock()),
            false => give(Path::new(&order.path), io::stdout().lock()),
        }
    });
    Some(match done {
        Ok(()) => 0,
        Err(error) => {
            eprintln!("{error}");
            1
        }
    })
}

/// Becomes the container's root, and nobody's else.
fn enter(order: &Order) -> io::Result<()> {
    let open = |name: &str| File::open(format!("/proc/{}/ns/{name}", order.pid));
    let spaces = [(open("user")?, libc::CLONE_NEWUSER), (open("mnt")?, libc::CLONE_NEWNS)];
    // Compared after both are held: they are that process's and no later one's.
    if began(order.pid)? != order.began {
        return Err(io::Error::new(io::ErrorKind::NotFound, "the container has ended"));
    }
    for (space, kind) in &spaces {
        // SAFETY: a descriptor that is open; there is one thread.
        checked(unsafe { libc::setns(space.as_raw_fd(), *kind) })?;
    }
    // SAFETY: plain numbers.
    unsafe {
        checked(libc::setgroups(0, std::ptr::null()))?;
        checked(libc::setresgid(0, 0, 0))?;
        checked(libc::setresuid(0, 0, 0))?;
    }
    std::env::set_current_dir("/")
}

fn named(path: &Path, error: io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

/// Writes what is at `path` as an archive.
fn give(path: &Path, to: impl Write) -> io::Result<()> {
    let path = Path::new("/").join(path);
    // A link that is named is what it leads to, as elsewhere.
    let found = fs::canonicalize(&path).map_err(|error| named(&path, error))?;
    let name = path.file_name().map_or(PathBuf::from("."), PathBuf::from);
    let mut archive = Builder::new(to);
    let mut count = 0;
    put(&mut archive, &found, &name, 0, &mut count)?;
    archive.finish()
}

fn put(archive: &mut Builder<impl Write>, path: &Path, name: &Path, depth: usize, count: &mut u64) -> io::Result<()> {
    *count += 1;
    if *count > FILES_MAX || depth > DEPTH_MAX {
        let words = format!("at most {FILES_MAX} files, {DEPTH_MAX} folders deep, are taken at once");
        return Err(named(path, io::Error::new(io::ErrorKind::FileTooLarge, words)));
    }
    let about = match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound && depth > 0 => return Ok(()),
        about => about.map_err(|error| named(path, error))?,
    };
    let mut header = Header::new_gnu();
    header.set_mode(about.mode() & 0o7777);
    header.set_uid(about.uid().into());
    header.set_gid(about.gid().into());
    header.set_mtime(about.mtime().try_into().unwrap_or(0));
    let kind = about.file_type();
    if kind.is_dir() {
        header.set_entry_type(EntryType::Directory);
        header.set_size(0);
        archive.append_data(&mut header, name, io::empty())?;
        let mut inside: Vec<_> = fs::read_dir(path).map_err(|error| named(path, error))?.collect::<Result<_, _>>()?;
        inside.sort_by_key(fs::DirEntry::file_name);
        for entry in inside {
            put(archive, &entry.path(), &name.join(entry.file_name()), depth + 1, count)?;
        }
    } else if kind.is_symlink() {
        let target = fs::read_link(path).map_err(|error| named(path, error))?;
        header.set_entry_type(EntryType::Symlink);
        header.set_size(0);
        archive.append_link(&mut header, name, target)?;
    } else if kind.is_file() {
        // It may have become a pipe meanwhile, on which opening would wait.
        let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK;
        let file = File::options().read(true).custom_flags(flags).open(path).map_err(|error| named(path, error))?;
        let about = file.metadata()?;
        if !about.is_file() {
            return Ok(());
        }
        header.set_entry_type(EntryType::Regular);
        header.set_size(about.len());
        // One that becomes shorter meanwhile is filled up: what follows stays where it was said to be.
        archive.append_data(&mut header, name, file.chain(io::repeat(0)).take(about.len()))?;
    }
    // Devices, pipes and sockets stay where they are.
    Ok(())
}

/// Unpacks an archive into the folder at `path`, or under that name where there is no such folder.
fn take(path: &Path, from: impl Read) -> io::Result<()> {
    let path = Path::new("/").join(path);
    let (folder, name) = match fs::metadata(&path) {
        Ok(about) if about.is_dir() => (path, None),
        _ => match (path.parent(), path.file_name()) {
            (Some(parent), Some(name)) => (parent.to_owned(), Some(name.to_owned())),
            _ => return Err(named(&path, io::ErrorKind::NotADirectory.into())),
        },
    };
    // A folder that is not there is not made: it would be another one's name, misspelt.
    let folder = fs::canonicalize(&folder).map_err(|error| named(&folder, error))?;
    std::env::set_current_dir(&folder).map_err(|error| named(&folder, error))?;
    let mut archive = Archive::new(from);
    let mut count = 0;
    for entry in archive.entries()? {
        let mut entry = entry?;
        count += 1;
        if count > FILES_MAX {
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("more than {FILES_MAX} files")));
        }
        let kind = entry.header().entry_type();
        if !matches!(kind, EntryType::Regular | EntryType::Continuous | EntryType::Directory | EntryType::Symlink) {
            continue;
        }
        entry.set_preserve_permissions(true);
        entry.set_preserve_mtime(true);
        let of = entry.path()?.into_owned();
        match &name {
            None => _ = entry.unpack_in(&folder).map_err(|error| named(&folder.join(&of), error))?,
            Some(name) => {
                let below = of.components().skip(1).collect::<PathBuf>();
                if below.components().any(|part| !matches!(part, std::path::Component::Normal(_))) {
                    return Err(named(&of, io::Error::new(io::ErrorKind::InvalidData, "a name that leads elsewhere")));
                }
                let to = Path::new(name).join(below);
                entry.unpack(&to).map_err(|error| named(&folder.join(&to), error))?;
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_taken_out_goes_in_again_with_links_and_modes_and_under_another_name() {
        let place = tempfile::tempdir().unwrap();
        let one = place.path().join("one");
        fs::create_dir_all(one.join("deep")).unwrap();
        fs::write(one.join("deep/file"), vec![7; 100_000]).unwrap();
        fs::set_permissions(one.join("deep/file"), std::os::unix::fs::PermissionsExt::from_mode(0o751)).unwrap();
        std::os::unix::fs::symlink("/etc/passwd", one.join("away")).unwrap();
        let mut archive = Vec::new();
        give(&one, &mut archive).unwrap();
        for (to, found) in [("", "one"), ("two", "two")] {
            let target = tempfile::tempdir().unwrap();
            take(&target.path().join(to), &archive[..]).unwrap();
            let found = target.path().join(found);
            assert_eq!(fs::read(found.join("deep/file")).unwrap(), vec![7; 100_000]);
            assert_eq!(fs::metadata(found.join("deep/file")).unwrap().mode() & 0o7777, 0o751);
            assert_eq!(fs::read_link(found.join("away")).unwrap(), Path::new("/etc/passwd"));
        }
        let missing = place.path().join("not/there");
        assert_eq!(take(&missing, &archive[..]).unwrap_err().kind(), io::ErrorKind::NotFound);
        assert_eq!(give(&missing, io::sink()).unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}
