//! Keep disks that outlive containers: fill them once, list what is on them, take them away.
//!
//! ```text
//! volumes/ID/NAME.img     a file of exact size with a file system of this host's own making
//! volumes/ID/NAME.born    it begins with what the image has at its place
//! volumes/ID/NAME.filled  there is something on it that must not be lost
//! volumes/ID/NAME.pieces  on their way in or out
//! ```
//! A container that has a volume is not made before it was said what is on it: an empty disk beside a full one somewhere
//! else would be two. A snapshot is listed twice: once while the container runs, and once while it is held still, when
//! only what changed meanwhile is read.

use crate::{
    container::Container,
    disk,
    engine::{Engine, RUN},
    error::Error,
    keeper::write_whole,
    root::{Root, checked},
    spec::{UID_BASE, check_id, check_volume},
    tree::{Memory, Pieces, Walk, lay, list},
};
use hodei_types::app::volume::{Tree, Volume};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, DirBuilder, File},
    io,
    os::{
        fd::{AsRawFd, OwnedFd},
        unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt, chown},
    },
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    time::Duration,
};

/// In [`RUN`], where containers' own folders begin with no dot.
const MOUNTED: &str = ".volumes";
/// Who does not go on is told to again, so often.
const RESUMES_MAX: u32 = 20;
const RESUME_PAUSE: Duration = Duration::from_millis(250);

/// What each volume's files were when they were listed last; who holds one takes or fills.
#[derive(Default)]
pub(crate) struct Memories(Mutex<BTreeMap<(String, String), Arc<tokio::sync::Mutex<Option<Memory>>>>>);

type Held = tokio::sync::OwnedMutexGuard<Option<Memory>>;

impl Memories {
    fn hold(&self, id: &str, name: &str) -> Result<Held, Error> {
        let mut all = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let one = all.entry((id.to_owned(), name.to_owned())).or_default().clone();
        one.try_lock_owned().map_err(|_| {
            Error::io(format!("volume {name}"))(io::Error::new(
                io::ErrorKind::ResourceBusy,
                "it is taken or filled now",
            ))
        })
    }

    fn forget(&self, id: &str) {
        let mut all = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        all.retain(|(of, _), _| of != id);
    }
}

/// What a volume held in one moment; dropped, its pieces are gone.
pub struct Taken {
    tree: Tree,
    pieces: Pieces,
    _held: Held,
}

impl Taken {
    pub fn tree(&self) -> &Tree {
        &self.tree
    }

    /// A piece that the asker did not have; it is what its hash says.
    pub fn piece(&self, hash: &[u8; 32]) -> io::Result<Vec<u8>> {
        self.pieces.get(hash)
    }
}

/// What a volume is to hold, on its way; dropped before its end, nothing came of it.
pub struct Filling {
    engine: Engine,
    id: String,
    volume: Volume,
    tree: Tree,
    pieces: Pieces,
    _held: Held,
}

impl Filling {
    /// Takes a piece, if it is what its hash says.
    pub fn put(&mut self, hash: [u8; 32], bytes: &[u8]) -> io::Result<()> {
        self.pieces.put(hash, bytes)
    }

    /// Lays everything down. It holds up the thread.
    pub fn finish(self) -> Result<(), Error> {
        let Self { engine, id, volume, tree, pieces, _held } = self;
        let place = Place::of(&engine, &id, &volume.name);
        let root = place.make(volume.bytes)?;
        let laid = lay(&tree, &root, Some(UID_BASE), |hash, _| pieces.get(&hash));
        laid.map_err(Error::io(format!("volume {}", volume.name)))?;
        place.done(&root)
    }
}

/// Where one volume is.
struct Place {
    folder: PathBuf,
    name: String,
    at: PathBuf,
}

impl Place {
    fn of(engine: &Engine, id: &str, name: &str) -> Self {
        let at = Path::new(RUN).join(MOUNTED).join(id).join(name);
        Self { folder: engine.volumes(id), name: name.to_owned(), at }
    }

    fn file(&self, end: &str) -> PathBuf {
        self.folder.join(format!("{}.{end}", self.name))
    }

    fn is(&self, mark: &str) -> bool {
        self.file(mark).exists()
    }

    fn mark(&self, mark: &str) -> Result<(), Error> {
        let path = self.file(mark);
        let folder = || File::open(&self.folder)?.sync_all();
        write_whole(&path, b"").and_then(|()| folder()).map_err(Error::at(&path))
    }

    /// A new empty disk, mounted; the folder on it that the container is to see.
    fn make(&self, bytes: u64) -> Result<PathBuf, Error> {
        if self.is("filled") {
            let why = "it has something on it already, which is not written over";
            return Err(Error::Spec(format!("volume {}: {why}", self.name)));
        }
        self.unmount()?;
        let file = self.file("img");
        match fs::remove_file(&file) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(Error::at(&file)(error)),
            _ => {}
        }
        // With a journal: it may outlive the kernel that has it mounted.
        disk::format(&file, bytes, "has_journal")?;
        self.mount()?;
        let root = self.root();
        fs::create_dir(&root).map_err(Error::at(&root))?;
        fs::set_permissions(&root, fs::Permissions::from_mode(0o755))
            .and_then(|()| chown(&root, Some(UID_BASE), Some(UID_BASE)))
            .map_err(Error::at(&root))?;
        Ok(root)
    }

    fn root(&self) -> PathBuf {
        self.at.join("tree")
    }

    /// From here on it must not be lost.
    fn done(&self, root: &Path) -> Result<(), Error> {
        let opened = File::open(root).map_err(Error::at(root))?;
        // SAFETY: a descriptor that is open.
        checked(unsafe { libc::syncfs(opened.as_raw_fd()) }).map_err(Error::at(root))?;
        self.mark("filled")
    }

    fn mount(&self) -> Result<(), Error> {
        let mut folder = DirBuilder::new();
        // Open to pass for a container's root, who is nobody to this machine.
        folder.recursive(true).mode(0o711).create(&self.at).map_err(Error::at(&self.at))?;
        let is_mounted = || {
            let parent = self.at.parent().unwrap_or(Path::new("/"));
            Ok::<_, io::Error>(fs::metadata(&self.at)?.dev() != fs::metadata(parent)?.dev())
        };
        match is_mounted().map_err(Error::at(&self.at))? {
            true => Ok(()),
            false => disk::mount_file(&self.file("img"), &self.at),
        }
    }

    fn unmount(&self) -> Result<(), Error> {
        disk::unmount(&self.at).map_err(Error::at(&self.at))
    }
}

impl Engine {
    fn volumes(&self, id: &str) -> PathBuf {
        self.0.folder.join("volumes").join(id)
    }

    fn place(&self, id: &str, name: &str) -> Result<Place, Error> {
        check_id(id)?;
        check_id(name)?;
        let place = Place::of(self, id, name);
        DirBuilder::new().recursive(true).mode(0o700).create(&place.folder).map_err(Error::at(&place.folder))?;
        Ok(place)
    }

    /// Whether it was said what is on a volume.
    pub fn is_volume_known(&self, id: &str, name: &str) -> Result<bool, Error> {
        let place = self.place(id, name)?;
        Ok(place.is("filled") || place.is("born"))
    }

    /// Says that a volume begins with what its container's image has at its place.
    pub fn bear_volume(&self, id: &str, name: &str) -> Result<(), Error> {
        let place = self.place(id, name)?;
        if place.is("filled") { Ok(()) } else { place.mark("born") }
    }

    /// Begins to fill a volume with what is listed.
    pub fn fill_volume(&self, id: &str, volume: Volume, tree: Tree) -> Result<Filling, Error> {
        check_volume(&volume)?;
        let place = self.place(id, &volume.name)?;
        let held = self.0.memories.hold(id, &volume.name)?;
        if place.is("filled") || place.is("born") {
            let why = "it has something on it already, which is not written over";
            return Err(Error::Spec(format!("volume {}: {why}", volume.name)));
        }
        let pieces = place.file("pieces");
        let pieces = Pieces::new(pieces.clone(), volume.bytes).map_err(Error::at(&pieces))?;
        Ok(Filling { engine: self.clone(), id: id.to_owned(), volume, tree, pieces, _held: held })
    }

    /// The folder that a container sees as this volume; `root` is the container's, as its image has it.
    pub(crate) fn volume(&self, id: &str, volume: &Volume, root: &Path) -> Result<PathBuf, Error> {
        let place = self.place(id, &volume.name)?;
        if !place.is("filled") {
            if !place.is("born") {
                let why = "nobody said what is on it";
                return Err(Error::io(format!("volume {}", volume.name))(io::Error::other(why)));
            }
            let made = place.make(volume.bytes)?;
            let copied = self.copy(&place, volume, root, &made);
            copied.map_err(Error::io(format!("volume {}", volume.name)))?;
            place.done(&made)?;
        }
        place.mount()?;
        Ok(place.root())
    }

    /// What the image has where the volume is to be.
    fn copy(&self, place: &Place, volume: &Volume, root: &Path, to: &Path) -> io::Result<()> {
        let from = match Root::open(root)?.at(volume.path.as_bytes(), libc::O_RDONLY | libc::O_DIRECTORY) {
            Ok(folder) => folder,
            // The image has no such folder.
            Err(error) if matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ENOTDIR)) => return Ok(()),
            Err(error) => return Err(error),
        };
        let mut pieces = Pieces::new(place.file("pieces"), volume.bytes)?;
        let walk = Walk { base: Some(UID_BASE), bytes_max: volume.bytes, before: None, is_still: true };
        let (tree, _) = list(&from, &walk, &mut |hash, bytes| pieces.put(hash, bytes))?;
        lay(&tree, to, Some(UID_BASE), |hash, _| pieces.get(&hash))
    }

    /// Bytes in use on a container's volumes.
    pub(crate) fn volumes_used(&self, id: &str) -> u64 {
        let mounted = fs::read_dir(Path::new(RUN).join(MOUNTED).join(id)).into_iter().flatten().flatten();
        mounted.filter_map(|entry| disk::used_bytes(&entry.path()).ok()).sum()
    }

    /// Takes all volumes of a container away, with what is on them; the container is gone.
    pub fn remove_volumes(&self, id: &str) -> Result<(), Error> {
        check_id(id)?;
        self.0.memories.forget(id);
        let mounted = Path::new(RUN).join(MOUNTED).join(id);
        for at in fs::read_dir(&mounted).into_iter().flatten().flatten().map(|entry| entry.path()) {
            disk::unmount(&at).map_err(Error::at(&at))?;
            // Never with what is in it: that would be what is mounted there.
            fs::remove_dir(&at).map_err(Error::at(&at))?;
        }
        for removed in [fs::remove_dir(&mounted), fs::remove_dir_all(self.volumes(id))] {
            match removed {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(Error::at(&mounted)(error)),
                _ => {}
            }
        }
        Ok(())
    }
}

impl Container {
    /// Lists what is on a volume of its now. It is held still for as long as reading takes what changed while all of it was
    /// listed before. Pieces of the listing with the hash `since` are not kept, if that was the last one.
    pub async fn snapshot(&self, volume: &Volume, since: Option<[u8; 32]>) -> Result<Taken, Error> {
        let (engine, id, volume) = (self.engine().clone(), self.id().to_owned(), volume.clone());
        let still = self.still();
        // Whoever asked may go away in the middle; the container goes on all the same.
        let taking = tokio::spawn(async move { take((&engine, &id), &still, &volume, since).await });
        taking.await.map_err(|error| Error::io("a snapshot")(io::Error::other(error)))?
    }
}

async fn take(
    (engine, id): (&Engine, &str),
    still: &tokio::sync::Mutex<()>,
    volume: &Volume,
    since: Option<[u8; 32]>,
) -> Result<Taken, Error> {
    let mut held = engine.0.memories.hold(id, &volume.name)?;
    let place = engine.place(id, &volume.name)?;
    let before = held.take().filter(|before| since == Some(before.hash));
    let named = || Error::io(format!("volume {}", volume.name));
    let blocking = |work: Box<dyn FnOnce() -> io::Result<Listed> + Send>| async move {
        tokio::task::spawn_blocking(work).await.map_err(io::Error::other)?
    };
    let root: Arc<OwnedFd> = Arc::new(File::open(place.root()).map_err(named())?.into());
    let pieces = Pieces::new(place.file("pieces"), volume.bytes.saturating_mul(2)).map_err(named())?;
    let has = BTreeSet::new();
    let first = Listed { memory: before.unwrap_or_default(), pieces, tree: None, has };
    let (bytes_max, of) = (volume.bytes, root.clone());
    let first = blocking(Box::new(move || first.again(&of, bytes_max, false))).await.map_err(named())?;
    // What is known so far is unchanged, or read again.
    let still = still.lock().await;
    let paused = engine.ask(&["pause", id]).await;
    let of = root.clone();
    let listed = match &paused {
        Ok(_) => blocking(Box::new(move || first.again(&of, bytes_max, true))).await.map_err(named()),
        Err(_) => Err(named()(io::Error::other("its container could not be held still"))),
    };
    go_on(engine, id).await?;
    drop(still);
    paused?;
    let Listed { memory, pieces, tree, .. } = listed?;
    let tree = tree.ok_or_else(|| named()(io::Error::other("it was not listed")))?;
    *held = Some(memory);
    Ok(Taken { tree, pieces, _held: held })
}

/// Lets a container go on that was held still.
pub(crate) async fn go_on(engine: &Engine, id: &str) -> Result<(), Error> {
    let mut tries = 0;
    loop {
        match engine.ask(&["resume", id]).await {
            Ok(_) => return Ok(()),
            Err(error) => {
                tries += 1;
                // One that was killed meanwhile has nothing to go on with.
                let is_held = engine.state(id).await.is_ok_and(|state| state.status == "paused");
                if !is_held {
                    return Ok(());
                }
                if tries >= RESUMES_MAX {
                    return Err(error);
                }
            }
        }
        tokio::time::sleep(RESUME_PAUSE).await;
    }
}

/// A listing on its way.
struct Listed {
    memory: Memory,
    pieces: Pieces,
    tree: Option<Tree>,
    /// Pieces that whoever asked has.
    has: BTreeSet<[u8; 32]>,
}

impl Listed {
    fn again(self, root: &OwnedFd, bytes_max: u64, is_still: bool) -> io::Result<Self> {
        let Self { memory, mut pieces, has, .. } = self;
        let has = if is_still { has } else { memory.pieces().collect() };
        let walk = Walk { base: Some(UID_BASE), bytes_max, before: Some(&memory), is_still };
        let (tree, memory) = list(root, &walk, &mut |hash, bytes| match has.contains(&hash) {
            true => Ok(()),
            false => pieces.put(hash, bytes),
        })?;
        Ok(Self { memory, pieces, tree: Some(tree), has })
    }
}
