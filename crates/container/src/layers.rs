//! Keep unpacked layers, each once, by what it hashes to unpacked.
//!
//! A layer is unpacked beside its place and renamed into it when both of its hashes are right and its bytes are on the
//! disk: what has its name is whole.

use crate::{
    error::Error,
    packed,
    spec::Layer,
    unpack::{ENTRY_BYTES, unpack},
};
use std::{
    fs, io,
    os::{fd::AsRawFd, unix::fs::DirBuilderExt},
    path::{Path, PathBuf},
};

const NEW: &str = ".new-";

/// Gives the folder of a layer, unpacking it where it is not there yet; `bytes_left` is what may be unpacked still.
pub(crate) fn ensure(
    folder: &Path,
    at: usize,
    (layer, packed): &(Layer, PathBuf),
    diff_id: &[u8; 32],
    bytes_left: &mut u64,
) -> Result<PathBuf, Error> {
    let place = folder.join(hex::encode(diff_id));
    if place.is_dir() {
        return Ok(place);
    }
    let new = folder.join(format!("{NEW}{}-{:016x}", hex::encode(diff_id), rand::random::<u64>()));
    fs::DirBuilder::new().mode(0o755).create(&new).map_err(Error::at(&new))?;
    let (mut names, bytes_max) = (0, *bytes_left);
    let done = packed::read(layer, packed, diff_id, bytes_max, |tar| {
        names = unpack(tar, &new, bytes_max)?;
        Ok(())
    });
    let done = done.map_err(|error| Error::Layer { at, why: error.to_string() }).and_then(|bytes| {
        *bytes_left = bytes_left.saturating_sub(bytes.max(names * ENTRY_BYTES));
        flush(&new).and_then(|()| rename(&new, &place)).map_err(Error::at(&place))
    });
    if done.is_err() || new.exists() {
        // What is left of it would be cleared at the next start at the latest.
        fs::remove_dir_all(&new).ok();
    }
    done.map(|()| place)
}

/// Another container's start may have been faster: its layer is the same.
fn rename(new: &Path, place: &Path) -> io::Result<()> {
    match fs::rename(new, place) {
        Err(_) if place.is_dir() => Ok(()),
        done => done.and_then(|()| fs::File::open(place.parent().unwrap_or(place))?.sync_all()),
    }
}

fn flush(folder: &Path) -> io::Result<()> {
    let folder = fs::File::open(folder)?;
    // SAFETY: a descriptor that is open.
    crate::root::checked(unsafe { libc::syncfs(folder.as_raw_fd()) }).map(drop)
}

/// Removes what an interrupted unpacking left.
pub(crate) fn clear(folder: &Path) -> io::Result<()> {
    forget(folder, |name| !name.starts_with(NEW))
}

/// Removes layers that `keep` does not want.
pub(crate) fn forget(folder: &Path, keep: impl Fn(&str) -> bool) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if !keep(&entry.file_name().to_string_lossy()) {
            fs::remove_dir_all(entry.path())?;
        }
    }
    Ok(())
}
