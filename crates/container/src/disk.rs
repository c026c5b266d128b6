//! Give a container a disk of exact size, and a root folder over it.
//!
//! The disk is a file with ext4 that this host itself made: no file system of a stranger's making is ever mounted, and
//! what is written beyond the size fails inside.

use crate::{
    error::Error,
    packed::invalid,
    root::{checked, terminated},
    spec::UID_BASE,
};
use std::{
    fs::{self, File},
    io,
    os::{
        fd::{AsRawFd, RawFd},
        unix::{
            ffi::OsStrExt,
            fs::{PermissionsExt, chown, symlink},
        },
    },
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

const LOOP_SET_FD: libc::c_ulong = 0x4C00;
const LOOP_CLR_FD: libc::c_ulong = 0x4C01;
const LOOP_SET_STATUS64: libc::c_ulong = 0x4C04;
const LOOP_CTL_GET_FREE: libc::c_ulong = 0x4C82;
/// The kernel lets a device go when nothing is mounted from it any more.
const AUTOCLEAR: u32 = 4;
/// Whoever else takes loop devices may be faster this often.
const TRIES: usize = 64;

/// The kernel's `loop_info64`.
#[repr(C)]
struct LoopInfo {
    numbers: [u64; 5],
    number: u32,
    encrypt_type: u32,
    encrypt_key_size: u32,
    flags: u32,
    names: [u8; 64 + 64 + 32],
    init: [u64; 2],
}

/// Makes the file, formats it, and mounts it at `at`, with what overlay needs in it.
pub(crate) fn make(file: &Path, bytes: u64, at: &Path) -> Result<(), Error> {
    // No journal: the disk does not outlive the kernel that has it mounted.
    format(file, bytes, "^has_journal")?;
    fs::create_dir(at).map_err(Error::at(at))?;
    mount_file(file, at)?;
    for name in ["upper", "work"] {
        let folder = at.join(name);
        fs::create_dir(&folder).map_err(Error::at(&folder))?;
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o755)).map_err(Error::at(&folder))?;
    }
    let upper = at.join("upper");
    chown(&upper, Some(UID_BASE), Some(UID_BASE)).map_err(Error::at(&upper))
}

/// Makes a new file of exactly that size with a file system in it.
pub(crate) fn format(file: &Path, bytes: u64, features: &str) -> Result<(), Error> {
    let made = File::options().read(true).write(true).create_new(true).open(file).map_err(Error::at(file))?;
    // Reserved now: what was sold must not fail later because this host's disk is full.
    // SAFETY: a descriptor that is open, and numbers.
    checked(unsafe { libc::fallocate(made.as_raw_fd(), 0, 0, bytes as libc::off_t) }).map_err(Error::at(file))?;
    let formatted = Command::new("mkfs.ext4")
        .args(["-q", "-F", "-m", "0", "-b", "4096", "-O", features, "-E", "nodiscard,lazy_itable_init=1"])
        .arg(file)
        .stdin(Stdio::null())
        .output()
        .map_err(Error::io("mkfs.ext4"))?;
    if !formatted.status.success() {
        let said = String::from_utf8_lossy(&formatted.stderr).trim().to_owned();
        return Err(Error::Engine { command: "mkfs.ext4".into(), said });
    }
    Ok(())
}

/// Mounts the file system that this host made in a file.
pub(crate) fn mount_file(file: &Path, at: &Path) -> Result<(), Error> {
    let opened = File::options().read(true).write(true).open(file).map_err(Error::at(file))?;
    let (device, held) = attach(&opened).map_err(Error::io("a loop device for the container's disk"))?;
    mount(device.as_os_str().as_bytes(), at, "ext4", libc::MS_NODEV | libc::MS_NOSUID | libc::MS_NOATIME, "")
        .map_err(Error::at(at))?;
    drop(held);
    Ok(())
}

/// A loop device over that file; it must be held open until it is mounted.
fn attach(file: &File) -> io::Result<(PathBuf, File)> {
    let control = File::options().read(true).write(true).open("/dev/loop-control")?;
    for _ in 0..TRIES {
        // SAFETY: a descriptor that is open, and no argument.
        let number = checked(unsafe { libc::ioctl(control.as_raw_fd(), LOOP_CTL_GET_FREE as _) })?;
        let path = PathBuf::from(format!("/dev/loop{number}"));
        if !path.exists() {
            let name = terminated(path.as_os_str().as_bytes())?;
            // SAFETY: the name ends in a zero. Where /dev makes none by itself, it is made as it would be.
            unsafe { libc::mknod(name.as_ptr(), libc::S_IFBLK | 0o600, libc::makedev(7, number as u32)) };
        }
        let device = File::options().read(true).write(true).open(&path)?;
        // SAFETY: two descriptors that are open.
        if unsafe { libc::ioctl(device.as_raw_fd(), LOOP_SET_FD as _, file.as_raw_fd()) } < 0 {
            let error = io::Error::last_os_error();
            if error.raw_os_error() == Some(libc::EBUSY) {
                continue;
            }
            return Err(error);
        }
        if let Err(error) = set_autoclear(device.as_raw_fd()) {
            // SAFETY: as above.
            unsafe { libc::ioctl(device.as_raw_fd(), LOOP_CLR_FD as _, 0) };
            return Err(error);
        }
        return Ok((path, device));
    }
    Err(invalid("each was taken by somebody else"))
}

fn set_autoclear(device: RawFd) -> io::Result<()> {
    // SAFETY: a struct of numbers may be zeroes.
    let mut info: LoopInfo = unsafe { std::mem::zeroed() };
    info.flags = AUTOCLEAR;
    // SAFETY: the struct is the kernel's, and outlives the call.
    checked(unsafe { libc::ioctl(device, LOOP_SET_STATUS64 as _, &raw const info) }).map(drop)
}

/// Lays `layers`, lowest first, below the disk, and mounts the whole at `at`.
///
/// What is told to mount has the length of a page: layers are named by short links, from the folder they are in.
pub(crate) fn overlay(layers: &[PathBuf], links: &Path, disk: &Path, at: &Path) -> Result<(), Error> {
    fs::create_dir(links).map_err(Error::at(links))?;
    // Overlay wants the highest first.
    for (number, layer) in layers.iter().rev().enumerate() {
        symlink(layer, links.join(number.to_string())).map_err(Error::at(links))?;
    }
    let names: Vec<String> = (0..layers.len()).map(|number| number.to_string()).collect();
    symlink(disk, links.join("d")).map_err(Error::at(links))?;
    let options = format!("lowerdir={},upperdir=d/upper,workdir=d/work", names.join(":"));
    let (links, to) = (links.to_owned(), at.to_owned());
    // A thread of its own may have a folder of its own.
    let mounted = std::thread::spawn(move || -> io::Result<()> {
        // SAFETY: this thread alone stops sharing its working folder with the others.
        checked(unsafe { libc::unshare(libc::CLONE_FS) })?;
        std::env::set_current_dir(links)?;
        mount(b"overlay", &to, "overlay", libc::MS_NODEV | libc::MS_NOSUID, &options)
    });
    mounted.join().map_err(|_| Error::at(at)(io::Error::other("its thread ended")))?.map_err(Error::at(at))
}

fn mount(what: &[u8], at: &Path, kind: &str, flags: libc::c_ulong, options: &str) -> io::Result<()> {
    let (what, at) = (terminated(what)?, terminated(at.as_os_str().as_bytes())?);
    let (kind, options) = (terminated(kind.as_bytes())?, terminated(options.as_bytes())?);
    // SAFETY: each ends in a zero and outlives the call.
    let mounted = unsafe { libc::mount(what.as_ptr(), at.as_ptr(), kind.as_ptr(), flags, options.as_ptr().cast()) };
    checked(mounted).map(drop)
}

/// Mounts memory of so many bytes there, which containers' root may pass through, and nobody else of this machine.
pub(crate) fn memory(at: &Path, bytes: usize) -> io::Result<()> {
    let flags = libc::MS_NODEV | libc::MS_NOSUID;
    mount(b"tmpfs", at, "tmpfs", flags, &format!("mode=710,gid={UID_BASE},size={bytes}"))
}

/// Lets go of what is mounted there, also where something still has a file of it open.
pub(crate) fn unmount(at: &Path) -> io::Result<()> {
    let name = terminated(at.as_os_str().as_bytes())?;
    loop {
        // SAFETY: the name ends in a zero and outlives the call.
        match checked(unsafe { libc::umount2(name.as_ptr(), libc::MNT_DETACH | libc::UMOUNT_NOFOLLOW) }) {
            // Until nothing is mounted there: it may have been mounted twice by an agent that was stopped.
            Ok(_) => {}
            Err(error) if matches!(error.raw_os_error(), Some(libc::EINVAL | libc::ENOENT)) => return Ok(()),
            Err(error) => return Err(error),
        }
    }
}

/// Bytes in use on the disk mounted there.
pub(crate) fn used_bytes(at: &Path) -> io::Result<u64> {
    let name = terminated(at.as_os_str().as_bytes())?;
    // SAFETY: a statvfs of zeroes is a valid one; the name ends in a zero.
    let mut found: libc::statvfs = unsafe { std::mem::zeroed() };
    checked(unsafe { libc::statvfs(name.as_ptr(), &raw mut found) })?;
    Ok((found.f_blocks - found.f_bfree) * found.f_frsize)
}
