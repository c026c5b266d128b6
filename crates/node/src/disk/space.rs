//! Ask the file system how much room is left.

use std::{ffi::CString, io, os::unix::ffi::OsStrExt, path::Path};

/// Bytes an unprivileged process may still write under `path`.
pub fn free_bytes(path: &Path) -> io::Result<u64> {
    let stat = stat(path)?;
    #[allow(clippy::unnecessary_cast, reason = "the fields are 32 bits wide on some systems")]
    Ok(stat.f_bavail as u64 * stat.f_frsize as u64)
}

/// Bytes the file system of `path` has in all.
pub fn total_bytes(path: &Path) -> io::Result<u64> {
    let stat = stat(path)?;
    #[allow(clippy::unnecessary_cast, reason = "the fields are 32 bits wide on some systems")]
    Ok(stat.f_blocks as u64 * stat.f_frsize as u64)
}

fn stat(path: &Path) -> io::Result<libc::statvfs> {
    let path = CString::new(path.as_os_str().as_bytes()).map_err(io::Error::other)?;
    // SAFETY: `statvfs` is plain integers, for which zero is valid; `path` ends in a zero byte and outlives
    // the call, which writes only to the struct given.
    unsafe {
        let mut stat: libc::statvfs = std::mem::zeroed();
        if libc::statvfs(path.as_ptr(), &mut stat) != 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(stat)
    }
}

#[cfg(test)]
mod tests {
    use super::{free_bytes, total_bytes};

    #[test]
    fn there_is_some_room_and_none_where_nothing_is() {
        assert!(free_bytes(&std::env::temp_dir()).unwrap() > 0);
        assert!(total_bytes(&std::env::temp_dir()).unwrap() >= free_bytes(&std::env::temp_dir()).unwrap());
        assert!(free_bytes(std::path::Path::new("/no/such/folder")).is_err());
    }
}
