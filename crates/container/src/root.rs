//! Walk a stranger's folders without ever leaving them.
//!
//! The kernel resolves each path as if the folder were the root (`openat2`, `RESOLVE_IN_ROOT`): a link may point where
//! it likes, and ends inside.

use std::{
    ffi::{CString, OsStr},
    fs::File,
    io::{self, Read},
    os::{
        fd::{AsRawFd, FromRawFd, OwnedFd},
        unix::{ffi::OsStrExt, fs::OpenOptionsExt},
    },
    path::Path,
};

/// A folder that is a root to whoever is looked for in it.
pub(crate) struct Root(OwnedFd);

impl Root {
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        let folder = File::options().read(true).custom_flags(libc::O_DIRECTORY | libc::O_PATH).open(path)?;
        Ok(Self(folder.into()))
    }

    /// Opens what `path` leads to, links followed within.
    pub(crate) fn at(&self, path: &[u8], flags: i32) -> io::Result<OwnedFd> {
        let path = terminated(if path.is_empty() { b"." } else { path })?;
        // SAFETY: an `open_how` of zeroes is a valid one.
        let mut how: libc::open_how = unsafe { std::mem::zeroed() };
        how.flags = (flags | libc::O_CLOEXEC) as u64;
        how.resolve = libc::RESOLVE_IN_ROOT | libc::RESOLVE_NO_MAGICLINKS;
        // SAFETY: the path ends in a zero, the struct is as long as is said, and both outlive the call.
        let fd = unsafe {
            libc::syscall(
                libc::SYS_openat2,
                self.0.as_raw_fd(),
                path.as_ptr(),
                &raw const how,
                size_of::<libc::open_how>(),
            )
        };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the kernel has just given it to us.
        Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
    }

    pub(crate) fn folder(&self, path: &[u8]) -> io::Result<OwnedFd> {
        self.at(path, libc::O_PATH | libc::O_DIRECTORY)
    }

    /// A short file's text; `None` where there is none, or a longer one.
    pub(crate) fn text(&self, path: &str, bytes_max: u64) -> Option<String> {
        // A pipe would keep us waiting for its other end.
        let file = File::from(self.at(path.as_bytes(), libc::O_RDONLY | libc::O_NONBLOCK | libc::O_NOCTTY).ok()?);
        let found = file.metadata().ok()?;
        if !found.is_file() || found.len() > bytes_max {
            return None;
        }
        let mut bytes = Vec::new();
        file.take(bytes_max).read_to_end(&mut bytes).ok()?;
        Some(String::from_utf8_lossy(&bytes).into_owned())
    }
}

/// For the kernel, which ends a name at its zero.
pub(crate) fn terminated(bytes: &[u8]) -> io::Result<CString> {
    CString::new(OsStr::from_bytes(bytes).as_bytes())
        .map_err(|_| io::Error::new(io::ErrorKind::InvalidInput, "a zero in a name"))
}

/// What the kernel says by a negative number.
pub(crate) fn checked(result: i32) -> io::Result<i32> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}
