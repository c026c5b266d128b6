//! Make a terminal of this machine for a program that runs inside.
//!
//! The engine's process has the terminal's far end as its own three streams, gives the program inside one of its own, and
//! copies between both. Of the near end two threads make a stream, which end with it.

use crate::root::checked;
use std::{
    fs::File,
    io::{self, Read, Write},
    net::Shutdown,
    os::{
        fd::{AsRawFd, FromRawFd, OwnedFd},
        unix::net::UnixStream as Plain,
    },
    sync::Arc,
};
use tokio::net::UnixStream;

/// A terminal's near end.
#[derive(Clone)]
pub(crate) struct Terminal(Arc<File>);

/// A terminal of that size: its near end, what is read from and written to it, and its far end.
pub(crate) fn open(rows: u16, columns: u16) -> io::Result<(Terminal, UnixStream, OwnedFd)> {
    let (mut near, mut far) = (-1, -1);
    let (name, modes) = (std::ptr::null_mut(), std::ptr::null());
    // SAFETY: both numbers outlive the call; name, modes and size may be nothing.
    checked(unsafe { libc::openpty(&raw mut near, &raw mut far, name, modes, std::ptr::null()) })?;
    // SAFETY: the kernel has just given both to us.
    let (near, far) = unsafe { (File::from_raw_fd(near), OwnedFd::from_raw_fd(far)) };
    for fd in [near.as_raw_fd(), far.as_raw_fd()] {
        // SAFETY: descriptors that are open. The child's copies are made by `dup2`, which clears it.
        checked(unsafe { libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC) })?;
    }
    let terminal = Terminal(Arc::new(near));
    terminal.resize(rows, columns)?;
    let (ours, theirs) = Plain::pair()?;
    ours.set_nonblocking(true)?;
    let (from, to) = (terminal.0.clone(), theirs.try_clone()?);
    spawn(move || {
        // Its last reader's end is an error, which is no more than that.
        copy(&*from, &to);
        to.shutdown(Shutdown::Write).ok();
    })?;
    let to = terminal.0.clone();
    spawn(move || copy(&theirs, &*to))?;
    Ok((terminal, UnixStream::from_std(ours)?, far))
}

fn spawn(work: impl FnOnce() + Send + 'static) -> io::Result<()> {
    std::thread::Builder::new().name("container-terminal".into()).stack_size(128 << 10).spawn(work).map(drop)
}

fn copy(mut from: impl Read, mut to: impl Write) {
    let mut piece = [0; 16 << 10];
    loop {
        match from.read(&mut piece) {
            Ok(0) => return,
            Ok(read) if to.write_all(&piece[..read]).is_ok() => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            _ => return,
        }
    }
}

impl Terminal {
    pub(crate) fn resize(&self, rows: u16, columns: u16) -> io::Result<()> {
        let size = libc::winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        // SAFETY: a descriptor that is open, and a struct that outlives the call.
        checked(unsafe { libc::ioctl(self.0.as_raw_fd(), libc::TIOCSWINSZ, &raw const size) }).map(drop)
    }
}
