//! Give a container files beside those of its image: secrets, and settings.
//!
//! They stand in the manifest, as variables do: hosts hand them on to each other with it, and nobody else is given them.

use super::{ManifestError, within};
use crate::cbor::{Reader, Writer};

/// Files of one container.
pub const FILES_MAX: usize = 64;
/// Bytes of all of them, with their paths.
pub const FILES_BYTES_MAX: usize = 28 << 10;
/// Of a path inside the container.
const PATH_BYTES_MAX: usize = 1024;
/// Users and groups a container has.
const IDS_MAX: u64 = 65_535;
/// What is there anyway, and is the host's to make.
const OWN: [&str; 3] = ["/proc", "/sys", "/dev"];

/// One file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Given {
    /// Where it is, from the container's root.
    pub path: String,
    /// Whose it is inside, and who may read it: nobody may write it.
    pub uid: u32,
    pub gid: u32,
    pub mode: u32,
    pub bytes: Vec<u8>,
}

/// Whether a file may be given there: a plain path that leads nowhere up, and not into what the host makes.
pub fn is_given_path(path: &str) -> bool {
    let parts = || path.split('/').skip(1);
    let is_plain = path.starts_with('/') && path.len() <= PATH_BYTES_MAX && !path.contains('\0');
    let is_own = OWN.iter().any(|own| path == *own || path.strip_prefix(own).is_some_and(|rest| rest.starts_with('/')));
    is_plain && !is_own && parts().all(|part| !part.is_empty() && part != "." && part != "..")
}

impl Given {
    pub(super) fn check(&self) -> Result<(), ManifestError> {
        if !is_given_path(&self.path) {
            return Err(ManifestError::Text(self.path.replace('\0', "\\0")));
        }
        within("uid of a file", self.uid.into(), 0, IDS_MAX)?;
        within("gid of a file", self.gid.into(), 0, IDS_MAX)?;
        within("mode of a file", self.mode.into(), 0, 0o777)
    }

    /// Bytes of it that count.
    pub(super) fn bytes(&self) -> u64 {
        (self.path.len() + self.bytes.len()) as u64
    }

    pub(super) fn write(&self, out: &mut Writer) {
        out.array(5).text(&self.path).uint(self.uid.into()).uint(self.gid.into()).uint(self.mode.into());
        out.bytes(&self.bytes);
    }

    pub(super) fn read(input: &mut Reader<'_>) -> Result<Self, ManifestError> {
        input.tuple(5)?;
        let path = input.text(PATH_BYTES_MAX)?.to_owned();
        let (uid, gid, mode) = (number(input)?, number(input)?, number(input)?);
        Ok(Self { path, uid, gid, mode, bytes: input.bytes(FILES_BYTES_MAX)?.to_vec() })
    }
}

fn number(input: &mut Reader<'_>) -> Result<u32, ManifestError> {
    let found = input.uint()?;
    let field = || ManifestError::Field { field: "number of a file", found, least: 0, most: u32::MAX.into() };
    u32::try_from(found).map_err(|_| field())
}

/// Refuses too many, too much, and two at one place or one below the other.
pub(super) fn check(files: &[Given]) -> Result<(), ManifestError> {
    within("files", files.len() as u64, 0, FILES_MAX as u64)?;
    within("file bytes", files.iter().map(Given::bytes).sum(), 0, FILES_BYTES_MAX as u64)?;
    files.iter().try_for_each(Given::check)?;
    for (at, file) in files.iter().enumerate() {
        let is_below = |one: &str, other: &str| one.strip_prefix(other).is_some_and(|rest| rest.starts_with('/'));
        let meets = |other: &Given| {
            other.path == file.path || is_below(&other.path, &file.path) || is_below(&file.path, &other.path)
        };
        if files[..at].iter().any(meets) {
            return Err(ManifestError::Text(file.path.clone()));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn given(path: &str) -> Given {
        Given { path: path.into(), uid: 0, gid: 0, mode: 0o444, bytes: vec![1] }
    }

    #[test]
    fn files_are_given_at_plain_paths_alone() {
        for path in ["/a", "/etc/nginx/conf.d/x.conf", "/run/secrets/key", "/processes", "/a..b"] {
            assert!(is_given_path(path), "{path}");
        }
        for path in
            ["", "/", "a", "/a/", "/a//b", "/a/../b", "/./a", "/proc", "/proc/1/mem", "/sys/x", "/dev/x", "/a\0"]
        {
            assert!(!is_given_path(path), "{path:?}");
        }
        assert!(!is_given_path(&format!("/{}", "a".repeat(PATH_BYTES_MAX))));
    }

    #[test]
    fn too_many_too_much_and_two_at_one_place_are_refused() {
        assert_eq!(check(&[given("/a"), given("/b/c")]), Ok(()));
        for files in [[given("/a"), given("/a")], [given("/a"), given("/a/b")], [given("/a/b"), given("/a")]] {
            assert!(check(&files).is_err(), "{files:?}");
        }
        let many: Vec<_> = (0..=FILES_MAX).map(|at| given(&format!("/{at}"))).collect();
        assert!(check(&many).is_err() && check(&many[1..]).is_ok());
        assert!(check(&[Given { bytes: vec![0; FILES_BYTES_MAX], ..given("/a") }]).is_err());
        for bent in [Given { uid: 65_536, ..given("/a") }, Given { mode: 0o4755, ..given("/a") }] {
            assert!(check(&[bent]).is_err());
        }
    }
}
