//! Give a container files, and write them to no disk.
//!
//! They are in memory of this machine, in a folder of the container's own, and each is shown inside at its place, read only.

use crate::{
    disk,
    error::Error,
    spec::{Spec, UID_BASE},
};
use hodei_types::app::given::FILES_BYTES_MAX;
use serde_json::{Value, json};
use std::{
    fs::{self, File, Permissions},
    io::Write,
    os::unix::fs::{PermissionsExt, fchown},
    path::{Path, PathBuf},
};

/// The folder, in the container's own of `/run`.
const FOLDER: &str = "given";

pub(crate) fn folder(run: &Path) -> PathBuf {
    run.join(FOLDER)
}

fn place(run: &Path, at: usize) -> PathBuf {
    folder(run).join(at.to_string())
}

/// Lays them out, as they are to be seen inside; nothing where there are none.
pub(crate) fn lay(spec: &Spec, run: &Path) -> Result<(), Error> {
    if spec.files.is_empty() {
        return Ok(());
    }
    let folder = folder(run);
    fs::create_dir(&folder).map_err(Error::at(&folder))?;
    // A page each, and a folder's own.
    let bytes = 2 * FILES_BYTES_MAX + spec.files.len() * 4096 + 4096;
    disk::memory(&folder, bytes).map_err(Error::at(&folder))?;
    for (at, file) in spec.files.iter().enumerate() {
        let path = place(run, at);
        let made = File::options().write(true).create_new(true).open(&path).and_then(|mut made| {
            made.set_permissions(Permissions::from_mode(0o000))?;
            made.write_all(&file.bytes)?;
            fchown(&made, Some(UID_BASE + file.uid), Some(UID_BASE + file.gid))?;
            made.set_permissions(Permissions::from_mode(file.mode))
        });
        made.map_err(Error::at(&path))?;
    }
    Ok(())
}

/// What the engine is told of them.
pub(crate) fn mounts<'a>(spec: &'a Spec, run: &'a Path) -> impl Iterator<Item = Value> + 'a {
    spec.files.iter().enumerate().map(|(at, file)| {
        json!({ "destination": file.path, "type": "bind", "source": place(run, at),
                "options": ["bind", "ro", "nosuid", "nodev"] })
    })
}
