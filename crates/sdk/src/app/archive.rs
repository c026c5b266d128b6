//! Make an archive of files here, and files here of an archive.

use std::{
    fs,
    io::{self, Read, Write},
    path::Path,
};
use tar::{Archive, Builder, EntryType};

/// Of one archive.
const FILES_MAX: u64 = 1 << 20;

/// What was carried.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Carried {
    pub files: u64,
    pub bytes: u64,
}

/// Counts what passes.
struct Counted<W>(W, u64);

impl<W: Write> Write for Counted<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.0.write(bytes)?;
        self.1 += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

/// Writes a file or a folder, links as they are; names begin with the last of `from`. Told are files, and the archive's
/// own bytes.
pub fn pack(from: &Path, to: impl Write) -> io::Result<Carried> {
    let whole = fs::canonicalize(from)?;
    let name = whole.file_name().map_or(Path::new("root"), Path::new);
    let mut archive = Builder::new(Counted(to, 0));
    archive.follow_symlinks(false);
    let mut files = 1;
    if fs::metadata(&whole)?.is_dir() {
        files = count(&whole, 0)?;
        archive.append_dir_all(name, &whole)?;
    } else {
        archive.append_path_with_name(&whole, name)?;
    }
    let Counted(mut to, bytes) = archive.into_inner()?;
    to.flush()?;
    Ok(Carried { files, bytes })
}

fn count(folder: &Path, before: u64) -> io::Result<u64> {
    let mut files = before;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        files += 1;
        if files > FILES_MAX {
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("more than {FILES_MAX} files at once")));
        }
        if entry.file_type()?.is_dir() {
            files = count(&entry.path(), files)?;
        }
    }
    Ok(files)
}

/// Unpacks an archive of a stranger's into the folder `to`, or under that name where there is none. Nothing of it is
/// written through a link of its own, and no name leads out.
pub fn unpack(from: impl Read, to: &Path) -> io::Result<Carried> {
    let is_folder = to.is_dir();
    let parent = match is_folder {
        true => to,
        false => to.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new(".")),
    };
    let scratch = parent.join(format!(".hodei-cp-{:016x}", rand::random::<u64>()));
    fs::create_dir(&scratch)?;
    let done = unpack_into(from, &scratch).and_then(|carried| {
        for entry in fs::read_dir(&scratch)? {
            let entry = entry?;
            let place = if is_folder { to.join(entry.file_name()) } else { to.to_owned() };
            put_in_place(&entry.path(), &place)?;
        }
        Ok(carried)
    });
    // What went wrong first is what is told.
    fs::remove_dir_all(&scratch).ok();
    done
}

/// Into a folder that is there what is new goes beside what is.
fn put_in_place(from: &Path, to: &Path) -> io::Result<()> {
    let is_folder = |path: &Path| fs::symlink_metadata(path).is_ok_and(|about| about.is_dir());
    if !(is_folder(from) && is_folder(to)) {
        return fs::rename(from, to);
    }
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        put_in_place(&entry.path(), &to.join(entry.file_name()))?;
    }
    Ok(())
}

fn unpack_into(from: impl Read, folder: &Path) -> io::Result<Carried> {
    let mut carried = Carried::default();
    let mut archive = Archive::new(from);
    for entry in archive.entries()? {
        let mut entry = entry?;
        carried.files += 1;
        if carried.files > FILES_MAX {
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("more than {FILES_MAX} files at once")));
        }
        let kind = entry.header().entry_type();
        if matches!(kind, EntryType::Regular | EntryType::Continuous | EntryType::Directory | EntryType::Symlink) {
            carried.bytes = carried.bytes.saturating_add(entry.size());
            entry.unpack_in(folder)?;
        }
    }
    Ok(carried)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tar::Header;

    fn scratch(name: &str) -> std::path::PathBuf {
        let folder = std::env::temp_dir().join(format!("hodei-cp-{name}-{}", std::process::id()));
        fs::remove_dir_all(&folder).ok();
        fs::create_dir_all(&folder).unwrap();
        folder
    }

    #[test]
    fn what_is_packed_is_unpacked_into_a_folder_or_under_another_name() {
        let folder = scratch("both");
        fs::create_dir_all(folder.join("one/deep")).unwrap();
        fs::write(folder.join("one/deep/file"), b"seven").unwrap();
        std::os::unix::fs::symlink("deep/file", folder.join("one/link")).unwrap();
        let mut archive = Vec::new();
        let packed = pack(&folder.join("one"), &mut archive).unwrap();
        assert_eq!((packed.files, packed.bytes), (3, archive.len() as u64));
        fs::create_dir(folder.join("there")).unwrap();
        for (to, found) in [("there", "there/one"), ("two", "two"), ("there", "there/one")] {
            unpack(&archive[..], &folder.join(to)).unwrap();
            assert_eq!(fs::read(folder.join(found).join("link")).unwrap(), b"seven");
        }
        let left: Vec<_> = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(left.len(), 3, "nothing else is left: {left:?}");
        assert_eq!(unpack(&archive[..], &folder.join("no/where")).unwrap_err().kind(), io::ErrorKind::NotFound);
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn no_strangers_archive_writes_elsewhere() {
        let folder = scratch("stranger");
        let (target, victim) = (folder.join("target"), folder.join("victim"));
        fs::create_dir(&target).unwrap();
        fs::create_dir(&victim).unwrap();
        let mut archive = Builder::new(Vec::new());
        let mut link = Header::new_gnu();
        link.set_entry_type(EntryType::Symlink);
        link.set_size(0);
        archive.append_link(&mut link, "x/out", &victim).unwrap();
        let mut file = Header::new_gnu();
        file.set_size(4);
        file.set_mode(0o644);
        archive.append_data(&mut file, "x/out/evil", &b"evil"[..]).unwrap();
        let bytes = archive.into_inner().unwrap();
        // Refused, or left out: either way nothing is written through it.
        let _ = unpack(&bytes[..], &target);
        let _ = unpack(&bytes[..], &folder.join("named"));
        assert_eq!(fs::read_dir(&victim).unwrap().count(), 0);
        fs::remove_dir_all(folder).unwrap();
    }
}
