//! Speak with the kernel: each question is answered by a task of its own.

use crate::{
    fault::Wrong,
    folder::{Cursor, Folder, Shown},
    open::Handle,
    path::Rename,
    room::BLOCK_BYTES,
    shape::{Shape, errno, kind, ms, opening, process, text},
    store::Store,
    table::Table,
};
use fuser::{
    Errno, FileHandle, FileType, Filesystem, FopenFlags, Generation, INodeNo, InitFlags, KernelConfig, LockOwner,
    OpenFlags, RenameFlags, ReplyAttr, ReplyCreate, ReplyData, ReplyDirectory, ReplyDirectoryPlus, ReplyEmpty,
    ReplyEntry, ReplyOpen, ReplyStatfs, ReplyWrite, ReplyXattr, Request, TimeOrNow, WriteFlags,
};
use std::{
    ffi::OsStr,
    io,
    sync::Arc,
    time::{Duration, SystemTime},
};
use tokio::{runtime::Handle as Runtime, sync::oneshot};

/// The etag, as an extended attribute.
const ETAG: &str = "user.hodei.etag";
/// A write's most bytes: larger ones gain nothing, and each has a copy here.
const WRITE_BYTES_MAX: u32 = 1 << 20;
/// What programs ask for that is not kept.
const IGNORED: &str = "owners and modes";

/// A folder, as the kernel asks about it.
pub(crate) struct Kernel<S: Store> {
    folder: Folder<S>,
    runtime: Runtime,
    open: Arc<Table<Handle<S::Pin>>>,
    lists: Arc<Table<tokio::sync::Mutex<Cursor>>>,
    owner: (u32, u32),
    /// Told when the kernel asks no more.
    ended: Option<oneshot::Sender<()>>,
}

impl<S: Store> Kernel<S> {
    /// `runtime` is where the answers are worked out.
    pub(crate) fn new(folder: Folder<S>, runtime: Runtime) -> (Self, oneshot::Receiver<()>) {
        let (ended, end) = oneshot::channel();
        // SAFETY: both only read who this process is.
        let owner = unsafe { (libc::geteuid(), libc::getegid()) };
        (Self { folder, runtime, open: Table::new(), lists: Table::new(), owner, ended: Some(ended) }, end)
    }

    fn fresh(&self) -> Duration {
        self.folder.config().fresh
    }

    fn shape(&self) -> Shape {
        Shape { owner: self.owner, is_read_only: self.folder.config().is_read_only, fresh: self.fresh() }
    }
}

/// One of a folder's names.
enum One<'a> {
    /// The folder itself, or the one above.
    Dots(u64, &'static str),
    Shown(&'a Shown),
}

/// Tells what a folder shows from `offset` on, each with the offset behind it, until `add` says that it is full.
async fn walk<S: Store>(
    folder: &Folder<S>,
    cursor: &mut Cursor,
    ino: INodeNo,
    offset: u64,
    mut add: impl FnMut(&Cursor, u64, One<'_>) -> bool,
) -> Result<(), Wrong> {
    let mut at = offset;
    // The folder itself and the one above come first.
    while at < DOTS {
        let (number, name) = if at == 0 { (ino.0, ".") } else { (folder.above(cursor), "..") };
        at += 1;
        if add(cursor, at, One::Dots(number, name)) {
            return Ok(());
        }
    }
    loop {
        let shown = folder.shown(cursor, at - DOTS).await?;
        if shown.is_empty() {
            return Ok(());
        }
        for one in &shown {
            at += 1;
            if add(cursor, at, One::Shown(one)) {
                return Ok(());
            }
        }
    }
}

fn empty(reply: ReplyEmpty, done: Result<(), Wrong>) {
    match done {
        Ok(()) => reply.ok(),
        Err(wrong) => reply.error(errno(&wrong)),
    }
}

impl<S: Store> Filesystem for Kernel<S> {
    fn init(&mut self, _: &Request, config: &mut KernelConfig) -> io::Result<()> {
        // Emptying a file upon its opening must not be a change of its own, which would be stored.
        let needed = InitFlags::FUSE_ATOMIC_O_TRUNC;
        config
            .add_capabilities(needed)
            .map_err(|missing| io::Error::other(format!("the kernel's FUSE lacks {missing:?}")))?;
        for wanted in [
            InitFlags::FUSE_AUTO_INVAL_DATA,
            InitFlags::FUSE_DO_READDIRPLUS,
            InitFlags::FUSE_READDIRPLUS_AUTO,
            InitFlags::FUSE_PARALLEL_DIROPS,
            InitFlags::FUSE_ASYNC_DIO,
        ] {
            // Older kernels do without.
            let _ = config.add_capabilities(wanted);
        }
        let _ = config.set_max_write(WRITE_BYTES_MAX);
        let _ = config.set_time_granularity(Duration::from_millis(1));
        Ok(())
    }

    fn destroy(&mut self) {
        if let Some(ended) = self.ended.take() {
            // Nobody waits for the end of a mount that failed to begin.
            let _ = ended.send(());
        }
    }

    fn lookup(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let (folder, shape) = (self.folder.clone(), self.shape());
        let Ok(name) = text(name).map(str::to_owned) else { return reply.error(Errno::ENOENT) };
        self.runtime.spawn(async move { shape.entry(reply, folder.lookup(parent.0, &name).await) });
    }

    fn forget(&self, _: &Request, ino: INodeNo, uses: u64) {
        self.folder.forget(ino.0, uses);
    }

    fn getattr(&self, _: &Request, ino: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        match self.folder.getattr(ino.0) {
            Ok(attr) => reply.attr(&self.fresh(), &self.shape().attr(&attr)),
            Err(wrong) => reply.error(errno(&wrong)),
        }
    }

    fn setattr(
        &self,
        _: &Request,
        ino: INodeNo,
        mode: Option<u32>,
        uid: Option<u32>,
        gid: Option<u32>,
        size: Option<u64>,
        _: Option<TimeOrNow>,
        mtime: Option<TimeOrNow>,
        _: Option<SystemTime>,
        fh: Option<FileHandle>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<fuser::BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        let (folder, shape) = (self.folder.clone(), self.shape());
        let is_folder = folder.getattr(ino.0).is_ok_and(|attr| attr.is_folder);
        let differs = mode.is_some_and(|mode| mode & 0o777 != u32::from(shape.mode(is_folder)))
            || uid.is_some_and(|uid| uid != shape.owner.0)
            || gid.is_some_and(|gid| gid != shape.owner.1);
        if differs {
            folder.ignore(IGNORED);
        }
        let mtime_ms = mtime.map(|mtime| match mtime {
            TimeOrNow::SpecificTime(time) => ms(time),
            TimeOrNow::Now => ms(SystemTime::now()),
        });
        let handle = fh.and_then(|fh| self.open.get(fh));
        self.runtime.spawn(async move {
            let _work = folder.begin_work();
            let done = if size.is_none() && mtime_ms.is_none() {
                folder.getattr(ino.0)
            } else {
                folder.set(ino.0, handle.as_deref(), size, mtime_ms).await
            };
            match done {
                Ok(attr) => reply.attr(&shape.fresh, &shape.attr(&attr)),
                Err(wrong) => reply.error(errno(&wrong)),
            }
        });
    }

    fn mknod(&self, _: &Request, _: INodeNo, _: &OsStr, _: u32, _: u32, _: u32, reply: ReplyEntry) {
        // As of links, which is what the kernel says by default.
        reply.error(Errno::EPERM);
    }

    fn mkdir(&self, _: &Request, parent: INodeNo, name: &OsStr, _: u32, _: u32, reply: ReplyEntry) {
        let (folder, shape) = (self.folder.clone(), self.shape());
        let name = text(name).map(str::to_owned);
        self.runtime.spawn(async move {
            let _work = folder.begin_work();
            let done = async { folder.mkdir(parent.0, &name?).await };
            shape.entry(reply, done.await);
        });
    }

    fn unlink(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let (folder, name) = (self.folder.clone(), text(name).map(str::to_owned));
        self.runtime.spawn(async move {
            let _work = folder.begin_work();
            let done = async { folder.unlink(parent.0, &name?).await };
            empty(reply, done.await);
        });
    }

    fn rmdir(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let (folder, name) = (self.folder.clone(), text(name).map(str::to_owned));
        self.runtime.spawn(async move {
            let _work = folder.begin_work();
            let done = async { folder.rmdir(parent.0, &name?).await };
            empty(reply, done.await);
        });
    }

    fn rename(
        &self,
        _: &Request,
        parent: INodeNo,
        name: &OsStr,
        newparent: INodeNo,
        newname: &OsStr,
        flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        let how = match flags {
            flags if flags.is_empty() => Rename::Replace,
            flags if flags == RenameFlags::RENAME_NOREPLACE => Rename::Refuse,
            _ => return reply.error(Errno::EINVAL),
        };
        let (folder, from, to) = (self.folder.clone(), text(name).map(str::to_owned), text(newname).map(str::to_owned));
        self.runtime.spawn(async move {
            let _work = folder.begin_work();
            let done = async { folder.rename((parent.0, &from?), (newparent.0, &to?), how).await };
            empty(reply, done.await);
        });
    }

    fn open(&self, request: &Request, ino: INodeNo, flags: OpenFlags, reply: ReplyOpen) {
        let (folder, open) = (self.folder.clone(), self.open.clone());
        let opening = opening(flags.0, request.pid());
        self.runtime.spawn(async move {
            match folder.open(ino.0, opening).await {
                // What a number stands for changes only through the kernel, which has then seen it.
                Ok(handle) => reply.opened(open.add(handle), FopenFlags::FOPEN_KEEP_CACHE),
                Err(wrong) => reply.error(errno(&wrong)),
            }
        });
    }

    fn create(&self, request: &Request, parent: INodeNo, name: &OsStr, _: u32, _: u32, flags: i32, reply: ReplyCreate) {
        let (folder, open, shape) = (self.folder.clone(), self.open.clone(), self.shape());
        let (opening, name) = (opening(flags, request.pid()), text(name).map(str::to_owned));
        self.runtime.spawn(async move {
            let done = async { folder.create(parent.0, &name?, opening).await };
            match done.await {
                Ok((attr, handle)) => {
                    let (attr, handle) = (shape.attr(&attr), open.add(handle));
                    reply.created(&shape.fresh, &attr, Generation(0), handle, FopenFlags::FOPEN_KEEP_CACHE);
                }
                Err(wrong) => reply.error(errno(&wrong)),
            }
        });
    }

    fn read(
        &self,
        _: &Request,
        _: INodeNo,
        fh: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let Some(handle) = self.open.get(fh) else { return reply.error(Errno::EBADF) };
        let folder = self.folder.clone();
        self.runtime.spawn(async move {
            match folder.read(&handle, offset, size as usize).await {
                Ok(bytes) => reply.data(&bytes),
                Err(wrong) => reply.error(errno(&wrong)),
            }
        });
    }

    fn write(
        &self,
        _: &Request,
        _: INodeNo,
        fh: FileHandle,
        offset: u64,
        data: &[u8],
        _: WriteFlags,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        let Some(handle) = self.open.get(fh) else { return reply.error(Errno::EBADF) };
        let (folder, bytes) = (self.folder.clone(), data.to_vec());
        let count = bytes.len() as u32;
        self.runtime.spawn(async move {
            match folder.write(&handle, offset, bytes).await {
                Ok(()) => reply.written(count),
                Err(wrong) => reply.error(errno(&wrong)),
            }
        });
    }

    fn flush(&self, request: &Request, _: INodeNo, fh: FileHandle, _: LockOwner, reply: ReplyEmpty) {
        let Some(handle) = self.open.get(fh) else { return reply.error(Errno::EBADF) };
        let (folder, process) = (self.folder.clone(), process(request.pid()));
        self.runtime.spawn(async move {
            let _work = folder.begin_work();
            empty(reply, folder.flush(&handle, process).await);
        });
    }

    fn release(
        &self,
        _: &Request,
        _: INodeNo,
        fh: FileHandle,
        _: OpenFlags,
        _: Option<LockOwner>,
        _: bool,
        reply: ReplyEmpty,
    ) {
        let Some(handle) = self.open.take(fh) else { return reply.ok() };
        let folder = self.folder.clone();
        // Counted before the kernel is answered: the mount may end right behind it.
        let work = folder.begin_work();
        self.runtime.spawn(async move {
            folder.release(&handle).await;
            reply.ok();
            drop(work);
        });
    }

    fn fsync(&self, _: &Request, _: INodeNo, fh: FileHandle, _: bool, reply: ReplyEmpty) {
        let Some(handle) = self.open.get(fh) else { return reply.error(Errno::EBADF) };
        let folder = self.folder.clone();
        self.runtime.spawn(async move {
            let _work = folder.begin_work();
            empty(reply, folder.sync(&handle).await);
        });
    }

    fn opendir(&self, _: &Request, ino: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        match self.folder.list(ino.0) {
            Ok(cursor) => reply.opened(self.lists.add(tokio::sync::Mutex::new(cursor)), FopenFlags::empty()),
            Err(wrong) => reply.error(errno(&wrong)),
        }
    }

    fn readdir(&self, _: &Request, ino: INodeNo, fh: FileHandle, offset: u64, mut reply: ReplyDirectory) {
        let Some(list) = self.lists.get(fh) else { return reply.error(Errno::EBADF) };
        let folder = self.folder.clone();
        self.runtime.spawn(async move {
            let mut cursor = list.lock().await;
            let told = walk(&folder, &mut cursor, ino, offset, |cursor, next, one| match one {
                One::Dots(number, name) => reply.add(INodeNo(number), next, FileType::Directory, name),
                One::Shown(one) => reply.add(INodeNo(folder.number(cursor, one)), next, kind(one.is_folder), &one.name),
            });
            match told.await {
                Ok(()) => reply.ok(),
                Err(wrong) => reply.error(errno(&wrong)),
            }
        });
    }

    fn readdirplus(&self, _: &Request, ino: INodeNo, fh: FileHandle, offset: u64, mut reply: ReplyDirectoryPlus) {
        let Some(list) = self.lists.get(fh) else { return reply.error(Errno::EBADF) };
        let (folder, shape) = (self.folder.clone(), self.shape());
        self.runtime.spawn(async move {
            let mut cursor = list.lock().await;
            let told = walk(&folder, &mut cursor, ino, offset, |cursor, next, one| match one {
                // Of these two the kernel takes only the names.
                One::Dots(number, name) => {
                    let attr = shape.attr(&folder.folder_attr(number));
                    reply.add(INodeNo(number), next, name, &shape.fresh, &attr, Generation(0))
                }
                One::Shown(one) => {
                    let attr = folder.enter_shown(cursor, one);
                    let is_full =
                        reply.add(INodeNo(attr.ino), next, &one.name, &shape.fresh, &shape.attr(&attr), Generation(0));
                    if is_full {
                        // It did not fit: the kernel has not heard of it.
                        folder.forget(attr.ino, 1);
                    }
                    is_full
                }
            });
            match told.await {
                Ok(()) => reply.ok(),
                Err(wrong) => reply.error(errno(&wrong)),
            }
        });
    }

    fn releasedir(&self, _: &Request, _: INodeNo, fh: FileHandle, _: OpenFlags, reply: ReplyEmpty) {
        self.lists.take(fh);
        reply.ok();
    }

    fn statfs(&self, _: &Request, _: INodeNo, reply: ReplyStatfs) {
        let folder = self.folder.clone();
        self.runtime.spawn(async move {
            match folder.room().await {
                Ok(room) => {
                    let (total, free) = room.blocks();
                    reply.statfs(total, free, free, 0, 0, BLOCK_BYTES, 255, BLOCK_BYTES);
                }
                Err(wrong) => reply.error(errno(&wrong)),
            }
        });
    }

    fn setxattr(&self, _: &Request, _: INodeNo, _: &OsStr, _: &[u8], _: i32, _: u32, reply: ReplyEmpty) {
        reply.error(Errno::EOPNOTSUPP);
    }

    fn removexattr(&self, _: &Request, _: INodeNo, _: &OsStr, reply: ReplyEmpty) {
        reply.error(Errno::EOPNOTSUPP);
    }

    fn getxattr(&self, _: &Request, ino: INodeNo, name: &OsStr, size: u32, reply: ReplyXattr) {
        match self.folder.etag(ino.0).filter(|_| name == ETAG) {
            Some(etag) => attribute(reply, etag.as_bytes(), size),
            None => reply.error(Errno::NO_XATTR),
        }
    }

    fn listxattr(&self, _: &Request, ino: INodeNo, size: u32, reply: ReplyXattr) {
        let names = self.folder.etag(ino.0).map_or_else(String::new, |_| format!("{ETAG}\0"));
        attribute(reply, names.as_bytes(), size);
    }
}

/// `.` and `..`
const DOTS: u64 = 2;

/// A program asks how long it is first.
fn attribute(reply: ReplyXattr, value: &[u8], size: u32) {
    match size {
        0 => reply.size(value.len() as u32),
        size if value.len() > size as usize => reply.error(Errno::ERANGE),
        _ => reply.data(value),
    }
}
