//! Say it in the kernel's words.

use crate::{fault::Wrong, folder::Attr, open::Opening, room::BLOCK_BYTES};
use fuser::{Errno, FileAttr, FileType, Generation, INodeNo, OpenAccMode, OpenFlags, ReplyEntry};
use std::{
    ffi::OsStr,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

/// How files are shown.
#[derive(Clone, Copy)]
pub(crate) struct Shape {
    pub(crate) owner: (u32, u32),
    pub(crate) is_read_only: bool,
    pub(crate) fresh: Duration,
}

impl Shape {
    pub(crate) fn mode(self, is_folder: bool) -> u16 {
        match (is_folder, self.is_read_only) {
            (true, false) => 0o755,
            (true, true) => 0o555,
            (false, false) => 0o644,
            (false, true) => 0o444,
        }
    }

    pub(crate) fn attr(self, attr: &Attr) -> FileAttr {
        let mtime = time(attr.mtime_ms);
        FileAttr {
            ino: INodeNo(attr.ino),
            size: attr.size_bytes,
            blocks: attr.size_bytes.div_ceil(512),
            atime: mtime,
            mtime,
            ctime: mtime,
            crtime: mtime,
            kind: kind(attr.is_folder),
            perm: self.mode(attr.is_folder),
            nlink: u32::from(!attr.is_unnamed),
            uid: self.owner.0,
            gid: self.owner.1,
            rdev: 0,
            blksize: BLOCK_BYTES,
            flags: 0,
        }
    }

    pub(crate) fn entry(self, reply: ReplyEntry, done: Result<Attr, Wrong>) {
        match done {
            Ok(attr) => reply.entry(&self.fresh, &self.attr(&attr), Generation(0)),
            Err(wrong) => reply.error(errno(&wrong)),
        }
    }
}

pub(crate) fn kind(is_folder: bool) -> FileType {
    if is_folder { FileType::Directory } else { FileType::RegularFile }
}

pub(crate) fn errno(wrong: &Wrong) -> Errno {
    Errno::from_i32(wrong.errno())
}

/// A name as a key has it; others are in no bucket.
pub(crate) fn text(name: &OsStr) -> Result<&str, Wrong> {
    name.to_str().ok_or(Wrong::Name)
}

fn time(ms: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_millis(ms)
}

pub(crate) fn ms(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(0))
}

/// The process a thread belongs to; `None` if it is not visible from here.
pub(crate) fn process(thread: u32) -> Option<u32> {
    let status = std::fs::read_to_string(format!("/proc/{thread}/status")).ok()?;
    status.lines().find_map(|line| line.strip_prefix("Tgid:"))?.trim().parse().ok()
}

pub(crate) fn opening(flags: i32, thread: u32) -> Opening {
    let mode = OpenFlags(flags).acc_mode();
    Opening {
        reads: mode != OpenAccMode::O_WRONLY,
        writes: mode != OpenAccMode::O_RDONLY,
        truncates: flags & libc::O_TRUNC != 0,
        is_new: flags & libc::O_EXCL != 0,
        process: process(thread),
    }
}
