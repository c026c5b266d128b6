//! Store a volume's snapshots so that there is one newest, and no part of it is missing.
//!
//! ```text
//! volumes/APP/NAME/head        which lease writes, in which generation, and which listing is the newest
//! volumes/APP/NAME/tree-7-…    that listing, and in which packs its pieces are
//! volumes/APP/NAME/pack-7-…    pieces that came with snapshot 7, one behind the other
//! ```
//! The head is swapped, never written over: of two that store at once one is told that it was late, and what it put is
//! taken away. A lease takes a volume by writing itself into the head; from then on no earlier lease's snapshot is
//! stored. Packs have names of their own, so that nobody relies on one that another is about to remove.

use super::vault::Vault;
use crate::fault::Fault;
use hodei_types::{
    app::volume::{PIECE_BYTES, TREE_BYTES_MAX, Tree},
    cbor::{CborError, Reader, Writer},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File},
    io::{self, Read as _, Seek as _, SeekFrom, Write as _},
    path::{Path, PathBuf},
};

const VERSION: u64 = 1;
const KEY_BYTES_MAX: usize = 1024;
const PACKS_MAX: usize = 4096;
const PIECES_MAX: usize = 1 << 20;
/// Beyond twice of what is still needed and this, everything is stored anew.
const SLACK_BYTES: u64 = 16 << 20;

/// The one who writes a volume, and the newest that was stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    pub lease: u64,
    pub generation: u64,
    /// Which snapshot this is.
    pub sequence: u64,
    /// When it was stored, in milliseconds since 1970.
    pub at_ms: u64,
    /// Its lease stores no more: what is here was put in its place.
    pub is_sealed: bool,
    /// Where the listing is; none of a volume that began and was never stored.
    pub tree: Option<String>,
}

impl Head {
    fn encode(&self) -> Vec<u8> {
        let mut out = Writer::new();
        out.array(6 + usize::from(self.tree.is_some())).uint(VERSION).uint(self.lease).uint(self.generation);
        out.uint(self.sequence).uint(self.at_ms).uint(self.is_sealed.into());
        self.tree.iter().for_each(|key| _ = out.text(key));
        out.finish()
    }

    fn decode(bytes: &[u8]) -> Result<Self, CborError> {
        let mut input = Reader::new(bytes);
        let values = input.array(7)?;
        input.exactly("version of a head", VERSION)?;
        let head = Self {
            lease: input.uint()?,
            generation: input.uint()?,
            sequence: input.uint()?,
            at_ms: input.uint()?,
            is_sealed: input.uint()? != 0,
            tree: if values > 6 { Some(input.text(KEY_BYTES_MAX)?.to_owned()) } else { None },
        };
        input.end()?;
        Ok(head)
    }

    /// Whether a lease may store after this.
    pub(super) fn is_before(&self, lease: u64, generation: u64) -> bool {
        (self.lease, self.generation, self.is_sealed) <= (lease, generation, false)
    }
}

/// A listing, and where its pieces are.
#[derive(Clone, Debug)]
pub(super) struct Snapshot {
    pub(super) tree: Tree,
    packs: Vec<Pack>,
}

#[derive(Clone, Debug)]
struct Pack {
    key: String,
    pieces: Vec<([u8; 32], u64)>,
}

impl Snapshot {
    fn encode(&self) -> Vec<u8> {
        let mut out = Writer::new();
        out.array(3).uint(VERSION).bytes(&self.tree.encode()).array(self.packs.len());
        for pack in &self.packs {
            out.array(2).text(&pack.key).array(pack.pieces.len());
            pack.pieces.iter().for_each(|(hash, bytes)| _ = out.array(2).bytes(hash).uint(*bytes));
        }
        out.finish()
    }

    fn decode(bytes: &[u8], bytes_max: u64) -> Result<Self, String> {
        let mut input = Reader::new(bytes);
        let read = |error: CborError| error.to_string();
        input.tuple(3).map_err(read)?;
        input.exactly("version of a snapshot", VERSION).map_err(read)?;
        let tree = Tree::decode(input.bytes(TREE_BYTES_MAX).map_err(read)?, bytes_max);
        let tree = tree.map_err(|error| error.to_string())?;
        let mut packs = || {
            let count = input.array(PACKS_MAX)?;
            let mut packs = Vec::new();
            for _ in 0..count {
                input.tuple(2)?;
                let (key, count) = (input.text(KEY_BYTES_MAX)?.to_owned(), input.array(PIECES_MAX)?);
                let mut pieces = Vec::new();
                for _ in 0..count {
                    input.tuple(2)?;
                    pieces.push((input.fixed()?, input.uint()?));
                }
                packs.push(Pack { key, pieces });
            }
            input.end()?;
            Ok::<_, CborError>(packs)
        };
        let packs = packs().map_err(read)?;
        Ok(Self { tree, packs })
    }

    fn has(&self) -> BTreeSet<[u8; 32]> {
        self.packs.iter().flat_map(|pack| pack.pieces.iter().map(|(hash, _)| *hash)).collect()
    }

    /// Whether so much is kept that is not needed that all should be stored anew.
    fn is_wasteful(&self) -> bool {
        let kept: u64 = self.packs.iter().flat_map(|pack| &pack.pieces).map(|(_, bytes)| *bytes).sum();
        let needed: u64 = self.tree.pieces().iter().map(|(_, bytes)| *bytes as u64).sum();
        kept > needed.saturating_mul(2).saturating_add(SLACK_BYTES) || self.packs.len() >= PACKS_MAX
    }
}

/// One volume's place in a vault.
pub(super) struct Stored<'a> {
    vault: &'a dyn Vault,
    folder: String,
    bytes_max: u64,
}

/// Pieces on their way into a vault.
pub(super) struct Packing {
    path: PathBuf,
    file: File,
    pieces: Vec<([u8; 32], u64)>,
}

impl Packing {
    pub(super) fn new(scratch: &Path) -> io::Result<Self> {
        let path = scratch.join("pack");
        Ok(Self { file: File::create(&path)?, path, pieces: Vec::new() })
    }

    /// Adds a piece, if it is what its hash says.
    pub(super) fn put(&mut self, hash: [u8; 32], bytes: &[u8]) -> io::Result<()> {
        if blake3::hash(bytes).as_bytes() != &hash {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "a piece is another than its hash says"));
        }
        self.file.write_all(bytes)?;
        self.pieces.push((hash, bytes.len() as u64));
        Ok(())
    }
}

/// Pieces of a snapshot that were fetched.
pub(super) struct Fetched(BTreeMap<[u8; 32], (PathBuf, u64, u64)>);

impl Fetched {
    pub(super) fn piece(&self, hash: &[u8; 32]) -> io::Result<Vec<u8>> {
        let wrong = |words: &str| io::Error::new(io::ErrorKind::InvalidData, words.to_owned());
        let (path, at, bytes) = self.0.get(hash).ok_or_else(|| wrong("a piece is in none of a snapshot's packs"))?;
        let mut file = File::open(path)?;
        file.seek(SeekFrom::Start(*at))?;
        let mut piece = vec![0; usize::try_from(*bytes).unwrap_or(0).min(PIECE_BYTES)];
        file.read_exact(&mut piece)?;
        if blake3::hash(&piece).as_bytes() == hash { Ok(piece) } else { Err(wrong("a piece rotted where it was kept")) }
    }
}

impl<'a> Stored<'a> {
    pub(super) fn of(vault: &'a dyn Vault, (app, volume): (&str, &str), bytes_max: u64) -> Self {
        Self { vault, folder: format!("volumes/{app}/{volume}"), bytes_max }
    }

    fn key(&self, kind: &str, sequence: u64) -> String {
        format!("{}/{kind}-{sequence}-{:016x}", self.folder, rand::random::<u64>())
    }

    fn damaged(&self, why: impl std::fmt::Display) -> Fault {
        Fault::Local(format!("what {} keeps of {} is damaged: {why}", self.vault.name(), self.folder))
    }

    pub(super) async fn head(&self) -> Result<Option<Head>, Fault> {
        let bytes = self.vault.head(&format!("{}/head", self.folder)).await?;
        bytes.map(|bytes| Head::decode(&bytes)).transpose().map_err(|error| self.damaged(error))
    }

    /// Puts a head in the place of another; false where somebody else was faster.
    pub(super) async fn swap(&self, was: Option<&Head>, is: &Head) -> Result<bool, Fault> {
        let was = was.map(Head::encode);
        self.vault.swap(&format!("{}/head", self.folder), was.as_deref(), &is.encode()).await
    }

    /// The snapshot of a head, if it has one.
    pub(super) async fn snapshot(&self, head: &Head, scratch: &Path) -> Result<Option<Snapshot>, Fault> {
        let Some(key) = &head.tree else { return Ok(None) };
        let path = self.vault.get(key, scratch).await?;
        let bytes = tokio::fs::read(path).await.map_err(|error| self.damaged(error))?;
        Snapshot::decode(&bytes, self.bytes_max).map(Some).map_err(|error| self.damaged(error))
    }

    /// Fetches all that a snapshot is made of.
    pub(super) async fn fetch(
        &self,
        of: &Snapshot,
        scratch: &Path,
        mut tell: impl FnMut(u64),
    ) -> Result<Fetched, Fault> {
        let mut all = BTreeMap::new();
        for pack in &of.packs {
            let path = self.vault.get(&pack.key, scratch).await?;
            let mut at = 0u64;
            for (hash, bytes) in &pack.pieces {
                all.entry(*hash).or_insert((path.clone(), at, *bytes));
                at = at.saturating_add(*bytes);
            }
            tell(at);
        }
        Ok(Fetched(all))
    }

    /// Pieces that are stored already for who goes on from `of`; none where all is to be stored anew.
    pub(super) fn has(of: Option<&Snapshot>) -> BTreeSet<[u8; 32]> {
        of.filter(|of| !of.is_wasteful()).map(Snapshot::has).unwrap_or_default()
    }

    /// Stores a listing with the pieces that are new, in the place of `was`; false where somebody else was faster.
    pub(super) async fn store(
        &self,
        (was, before): (Option<&Head>, Option<&Snapshot>),
        mut is: Head,
        tree: Tree,
        packing: Packing,
        scratch: &Path,
    ) -> Result<bool, Fault> {
        let Packing { path, file, pieces } = packing;
        file.sync_all().map_err(|error| Fault::Local(format!("{}: {error}", path.display())))?;
        drop(file);
        let needed: BTreeSet<[u8; 32]> = tree.pieces().into_iter().map(|(hash, _)| hash).collect();
        let new: BTreeSet<[u8; 32]> = pieces.iter().map(|(hash, _)| *hash).collect();
        let (mut packs, mut put) = (Vec::new(), Vec::new());
        for pack in before.iter().flat_map(|before| &before.packs) {
            let is_needed = pack.pieces.iter().any(|(hash, _)| needed.contains(hash) && !new.contains(hash));
            if is_needed {
                packs.push(pack.clone());
            }
        }
        if !pieces.is_empty() {
            let key = self.key("pack", is.sequence);
            self.vault.put(&key, &path).await?;
            put.push(key.clone());
            packs.push(Pack { key, pieces });
        }
        let stored = Snapshot { tree, packs };
        if let Some(missing) = needed.difference(&stored.has()).next() {
            return Err(self.damaged(format!("piece {} is missing", hex(missing))));
        }
        let (key, file) = (self.key("tree", is.sequence), scratch.join("tree"));
        fs::write(&file, stored.encode()).map_err(|error| Fault::Local(format!("{}: {error}", file.display())))?;
        self.vault.put(&key, &file).await?;
        put.push(key.clone());
        is.tree = Some(key);
        let is_taken = self.swap(was, &is).await?;
        let kept: BTreeSet<&str> = stored.packs.iter().map(|pack| pack.key.as_str()).collect();
        let old = before.iter().flat_map(|before| &before.packs).map(|pack| pack.key.clone());
        let old = old.filter(|key| !kept.contains(key.as_str())).chain(was.and_then(|was| was.tree.clone()));
        // What stays costs room and nothing else.
        let gone: Vec<String> = if is_taken { old.collect() } else { put };
        for key in gone {
            if let Err(fault) = self.vault.remove(&key).await {
                tracing::warn!(key, %fault, "what is no longer needed of a snapshot stays");
            }
        }
        Ok(is_taken)
    }

    /// Forgets all of it, the head last.
    pub(super) async fn remove(&self, scratch: &Path) -> Result<bool, Fault> {
        let Some(head) = self.head().await? else { return Ok(false) };
        if let Some(snapshot) = self.snapshot(&head, scratch).await? {
            for pack in &snapshot.packs {
                self.vault.remove(&pack.key).await?;
            }
        }
        for key in head.tree.iter() {
            self.vault.remove(key).await?;
        }
        self.vault.remove(&format!("{}/head", self.folder)).await?;
        Ok(true)
    }
}

fn hex(hash: &[u8; 32]) -> String {
    alloy_primitives::hex::encode(&hash[..8])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::app::volume::vault::Folder;
    use hodei_types::app::volume::{Entry, Kind};

    fn tree(pieces: &[&[u8]]) -> Tree {
        let entry = |path: &str, kind| Entry {
            path: path.into(),
            mode: 0o644,
            uid: 0,
            gid: 0,
            mtime_secs: 0,
            mtime_ns: 0,
            kind,
        };
        let file = |(place, bytes): (usize, &&[u8])| {
            let pieces = vec![*blake3::hash(bytes).as_bytes()];
            entry(&format!("file-{place}"), Kind::File { bytes: bytes.len() as u64, pieces })
        };
        let all = [entry("", Kind::Folder)].into_iter().chain(pieces.iter().enumerate().map(file)).collect();
        Tree::new(all, 64 << 20).unwrap()
    }

    fn head(lease: u64, sequence: u64) -> Head {
        Head { lease, generation: 0, sequence, at_ms: sequence, is_sealed: false, tree: None }
    }

    /// Stores as the keeper does, and tells whether it was taken.
    async fn store(folder: &Folder, scratch: &Path, was: Option<&Head>, is: Head, pieces: &[&[u8]]) -> bool {
        let stored = Stored::of(folder, ("shop", "data"), 64 << 20);
        let before = match was {
            Some(was) => stored.snapshot(was, scratch).await.unwrap(),
            None => None,
        };
        let has = Stored::has(before.as_ref());
        let mut packing = Packing::new(scratch).unwrap();
        for piece in pieces {
            let hash = *blake3::hash(piece).as_bytes();
            if !has.contains(&hash) {
                packing.put(hash, piece).unwrap();
            }
        }
        stored.store((was, before.as_ref()), is, tree(pieces), packing, scratch).await.unwrap()
    }

    fn files(folder: &Path) -> usize {
        fs::read_dir(folder.join("volumes/shop/data")).map_or(0, |files| files.count())
    }

    #[tokio::test]
    async fn what_is_stored_is_fetched_again_and_what_no_longer_belongs_to_it_is_gone() {
        let place = std::env::temp_dir().join(format!("hodei-volume-{:016x}", rand::random::<u64>()));
        let scratch = place.join("scratch");
        fs::create_dir_all(&scratch).unwrap();
        let folder = Folder(place.clone());
        let stored = Stored::of(&folder, ("shop", "data"), 64 << 20);
        assert_eq!(stored.head().await.unwrap(), None);
        assert!(store(&folder, &scratch, None, head(1, 1), &[b"one", b"two"]).await);
        let first = stored.head().await.unwrap().unwrap();
        assert!(store(&folder, &scratch, Some(&first), head(1, 2), &[b"one", b"three"]).await);
        let second = stored.head().await.unwrap().unwrap();
        assert_eq!(files(&place), 4, "a head, a listing and two packs");
        let snapshot = stored.snapshot(&second, &scratch).await.unwrap().unwrap();
        let fetched = stored.fetch(&snapshot, &scratch, |_| ()).await.unwrap();
        for piece in [b"one".as_slice(), b"three"] {
            assert_eq!(fetched.piece(blake3::hash(piece).as_bytes()).unwrap(), piece);
        }
        assert_eq!(snapshot.tree, tree(&[b"one", b"three"]));
        // Nothing of the first pack is needed any more.
        assert!(store(&folder, &scratch, Some(&second), head(1, 3), &[b"three"]).await);
        assert_eq!(files(&place), 3);
        // Who goes on from what is not the newest any more is late, and leaves nothing behind.
        assert!(!store(&folder, &scratch, None, head(2, 1), &[b"other"]).await);
        assert_eq!((files(&place), stored.head().await.unwrap().unwrap().sequence), (3, 3));
        assert!(stored.remove(&scratch).await.unwrap());
        assert_eq!((files(&place), stored.head().await.unwrap()), (0, None));
        fs::remove_dir_all(place).unwrap();
    }

    #[tokio::test]
    async fn a_lease_that_was_cut_off_stores_nothing_once_a_later_one_has_the_volume() {
        let place = std::env::temp_dir().join(format!("hodei-volume-{:016x}", rand::random::<u64>()));
        let scratch = place.join("scratch");
        fs::create_dir_all(&scratch).unwrap();
        let folder = Folder(place.clone());
        let stored = Stored::of(&folder, ("shop", "data"), 64 << 20);
        assert!(store(&folder, &scratch, None, head(1, 1), &[b"one"]).await);
        let seen = stored.head().await.unwrap().unwrap();
        // Another keeper, that does not know of it, placed it again.
        let taken = Head { lease: 2, ..seen.clone() };
        assert!(stored.swap(Some(&seen), &taken).await.unwrap());
        assert!(!store(&folder, &scratch, Some(&seen), head(1, 2), &[b"late"]).await);
        assert!(!taken.is_before(1, 9), "and it is told so beforehand from then on");
        let snapshot = stored.snapshot(&taken, &scratch).await.unwrap().unwrap();
        assert_eq!((stored.head().await.unwrap(), snapshot.tree), (Some(taken.clone()), tree(&[b"one"])));
        assert!(store(&folder, &scratch, Some(&taken), head(2, 2), &[b"on"]).await);
        fs::remove_dir_all(place).unwrap();
    }

    #[test]
    fn no_lease_stores_after_one_that_came_later() {
        let now = Head { generation: 3, ..head(7, 1) };
        assert!(now.is_before(7, 3) && now.is_before(7, 4) && now.is_before(8, 0));
        assert!(!now.is_before(7, 2) && !now.is_before(6, 9));
        let sealed = Head { is_sealed: true, ..now };
        assert!(!sealed.is_before(7, 3) && sealed.is_before(8, 0), "what was put in its place stays");
        assert_eq!(Head::decode(&sealed.encode()).unwrap(), sealed);
    }
}
