//! Put a folder where programs see it, and take it away again.
//!
//! As root the kernel is asked directly; another user needs `fusermount3`, which the system's fuse3 brings. What is
//! unmounted is only ever the mount that was made here: whatever else lies at that place meanwhile stays.

use crate::{folder::Folder, store::Store};
use std::{
    io,
    path::{Path, PathBuf},
};

/// Why nothing was mounted.
#[derive(Debug, thiserror::Error)]
pub enum MountError {
    #[error("{}: {error}", target.display())]
    Target { target: PathBuf, error: io::Error },
    #[error("{} is no folder", .0.display())]
    NotFolder(PathBuf),
    #[error("{} is not empty: what is in it would be hidden", .0.display())]
    NotEmpty(PathBuf),
    #[error("{} is what a mount left that was killed", .0.display())]
    Dead(PathBuf),
    #[error("this system has no /dev/fuse")]
    NoDevice,
    #[error("/dev/fuse may not be opened by this user: {0}")]
    Denied(io::Error),
    #[error("this user is not root, and there is no fusermount3 to mount for them")]
    NoHelper,
    #[error("the kernel refused: {0}")]
    Refused(io::Error),
    #[error("only Linux is asked by this program")]
    System,
}

/// Refuses places where nothing should be mounted, and users who may not; gives the place without links.
pub fn check(target: &Path) -> Result<PathBuf, MountError> {
    let target = check_place(target)?;
    #[cfg(target_os = "linux")]
    linux::check_right()?;
    Ok(target)
}

fn check_place(target: &Path) -> Result<PathBuf, MountError> {
    let wrong = |error: io::Error| match error.raw_os_error() {
        Some(libc::ENOTCONN) => MountError::Dead(target.into()),
        _ => MountError::Target { target: target.into(), error },
    };
    let metadata = std::fs::metadata(target).map_err(wrong)?;
    if !metadata.is_dir() {
        return Err(MountError::NotFolder(target.into()));
    }
    if std::fs::read_dir(target).map_err(wrong)?.next().is_some() {
        return Err(MountError::NotEmpty(target.into()));
    }
    target.canonicalize().map_err(wrong)
}

/// The number of what is mounted at a place, as the kernel's list says: the last one covers those before it.
fn mounted_at(list: &str, target: &Path) -> Option<u64> {
    let is_there = |field: &str| Path::new(&unescape(field)) == target;
    let line = list.lines().rev().find(|line| line.split(' ').nth(4).is_some_and(is_there))?;
    line.split(' ').next()?.parse().ok()
}

/// The kernel writes blanks and a few others as three octal digits.
fn unescape(field: &str) -> String {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let digits =
            after.get(..3).filter(|digits| *first == b'\\' && digits.iter().all(|digit| (b'0'..=b'7').contains(digit)));
        let code = digits
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .and_then(|digits| u8::from_str_radix(digits, 8).ok());
        match code {
            Some(code) => {
                bytes.push(code);
                rest = &after[3..];
            }
            None => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(target_os = "linux")]
pub use linux::{Mount, mount};

#[cfg(target_os = "linux")]
mod linux {
    use super::*;
    use crate::kernel::Kernel;
    use fuser::{BackgroundSession, Config, MountOption, Session, SessionACL};
    use std::{
        ffi::CString,
        mem::ManuallyDrop,
        os::unix::ffi::OsStrExt as _,
        process::{Command, Stdio},
    };
    use tokio::{runtime::Handle, sync::oneshot};

    const DEVICE: &str = "/dev/fuse";
    const HELPERS: [&str; 2] = ["fusermount3", "fusermount"];

    /// A folder that programs see.
    pub struct Mount {
        target: PathBuf,
        number: Option<u64>,
        ended: oneshot::Receiver<()>,
        /// Never dropped: it would unmount whatever is at that place by then.
        _session: ManuallyDrop<BackgroundSession>,
    }

    /// Mounts at `target`, an empty folder; with `is_for_all`, users other than this one see it too.
    pub fn mount<S: Store>(
        folder: Folder<S>,
        name: &str,
        target: &Path,
        is_for_all: bool,
    ) -> Result<Mount, MountError> {
        let target = check(target)?;
        let is_read_only = folder.config().is_read_only;
        let (kernel, ended) = Kernel::new(folder, Handle::current());
        let mut config = Config::default();
        config.mount_options = vec![
            // A comma would begin another option.
            MountOption::FSName(name.replace([',', ' ', '\\'], "_")),
            MountOption::Subtype("hodei".into()),
            MountOption::DefaultPermissions,
            MountOption::NoAtime,
            if is_read_only { MountOption::RO } else { MountOption::RW },
        ];
        config.acl = if is_for_all { SessionACL::All } else { SessionACL::Owner };
        let session = Session::new(kernel, &target, &config).map_err(MountError::Refused)?;
        let session = ManuallyDrop::new(session.spawn().map_err(MountError::Refused)?);
        let number = mounts().ok().and_then(|list| mounted_at(&list, &target));
        Ok(Mount { target, number, ended, _session: session })
    }

    fn mounts() -> io::Result<String> {
        std::fs::read_to_string("/proc/self/mountinfo")
    }

    pub(super) fn check_right() -> Result<(), MountError> {
        // SAFETY: it only reads who this process is.
        let is_root = unsafe { libc::geteuid() } == 0;
        match std::fs::OpenOptions::new().read(true).write(true).open(DEVICE) {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound || error.raw_os_error() == Some(libc::ENODEV) => {
                return Err(MountError::NoDevice);
            }
            Err(error) => return Err(MountError::Denied(error)),
        }
        if is_root || helper().is_some() { Ok(()) } else { Err(MountError::NoHelper) }
    }

    fn helper() -> Option<PathBuf> {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let folders: Vec<PathBuf> = std::env::split_paths(&path).chain(["/bin".into(), "/usr/bin".into()]).collect();
        HELPERS.iter().flat_map(|name| folders.iter().map(move |folder| folder.join(name))).find(|path| path.is_file())
    }

    impl Mount {
        /// Where it is, without links.
        pub fn target(&self) -> &Path {
            &self.target
        }

        /// Resolves when the kernel asks no more, whoever unmounted it.
        pub async fn ended(&mut self) {
            // A sender that is gone has ended too.
            let _ = (&mut self.ended).await;
        }

        /// Takes it away; lazily, programs that have files open keep them until they close them. Refused as busy
        /// otherwise. Nothing to do if it is not there any more. Blocks.
        pub fn unmount(target: &Path, number: Option<u64>, is_lazy: bool) -> io::Result<()> {
            if number.is_none() || mounted_at(&mounts()?, target) != number {
                return Ok(());
            }
            let path = CString::new(target.as_os_str().as_bytes())?;
            let flags = libc::UMOUNT_NOFOLLOW | if is_lazy { libc::MNT_DETACH } else { 0 };
            // SAFETY: a path that ends in a zero.
            if unsafe { libc::umount2(path.as_ptr(), flags) } == 0 {
                return Ok(());
            }
            let error = io::Error::last_os_error();
            let Some(helper) = helper().filter(|_| error.raw_os_error() == Some(libc::EPERM)) else {
                return Err(error);
            };
            let mut command = Command::new(helper);
            command.arg("-u").args(is_lazy.then_some("-z")).arg("--").arg(target);
            let output = command.stdin(Stdio::null()).output()?;
            if output.status.success() {
                return Ok(());
            }
            let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
            Err(if said.contains("busy") { io::ErrorKind::ResourceBusy.into() } else { io::Error::other(said) })
        }

        /// What [`Mount::unmount`] needs, from any thread.
        pub fn place(&self) -> (PathBuf, Option<u64>) {
            (self.target.clone(), self.number)
        }
    }
}

#[cfg(not(target_os = "linux"))]
mod elsewhere {
    use super::*;

    /// A folder that programs see: on this system there is none.
    pub struct Mount(std::convert::Infallible);

    /// Refuses.
    pub fn mount<S: Store>(_: Folder<S>, _: &str, target: &Path, _: bool) -> Result<Mount, MountError> {
        check(target)?;
        Err(MountError::System)
    }

    impl Mount {
        pub fn target(&self) -> &Path {
            match self.0 {}
        }

        pub async fn ended(&mut self) {
            match self.0 {}
        }

        pub fn unmount(_: &Path, _: Option<u64>, _: bool) -> io::Result<()> {
            Ok(())
        }

        pub fn place(&self) -> (PathBuf, Option<u64>) {
            match self.0 {}
        }
    }
}
#[cfg(not(target_os = "linux"))]
pub use elsewhere::{Mount, mount};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_mount_at_a_place_is_what_is_there() {
        let list = "22 1 254:1 / / rw shared:1 - ext4 /dev/vda rw\n\
                    90 22 0:50 / /mnt/a\\040b rw - ext4 /dev/vdb rw\n\
                    91 90 0:51 / /mnt/a\\040b rw - fuse.hodei x rw\n";
        assert_eq!(mounted_at(list, Path::new("/mnt/a b")), Some(91));
        assert_eq!(mounted_at(list, Path::new("/mnt/a")), None);
        assert_eq!(mounted_at(list, Path::new("/")), Some(22));
        assert_eq!(unescape(r"a\134b\04"), r"a\b\04");
    }

    #[test]
    fn only_an_empty_folder_is_covered() {
        let folder = std::env::temp_dir().join(format!("hodei-mounted-{}", std::process::id()));
        std::fs::create_dir_all(folder.join("empty")).unwrap();
        std::fs::write(folder.join("file"), "x").unwrap();
        assert!(matches!(check_place(&folder), Err(MountError::NotEmpty(_))));
        assert!(matches!(check_place(&folder.join("file")), Err(MountError::NotFolder(_))));
        assert!(matches!(check_place(&folder.join("absent")), Err(MountError::Target { .. })));
        assert!(check_place(&folder.join("empty")).unwrap().ends_with("empty"));
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
