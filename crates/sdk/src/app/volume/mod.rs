//! Keep what apps write: store their volumes' snapshots, fill volumes that are placed again, back up and restore.
//!
//! ```text
//! host of lease 7 ── snapshot, each minute ──► this machine's keeper ──► vault: a bucket, or a folder here
//! host of lease 9 ◄── fill, before it starts ── the keeper takes the head for lease 9 ◄──┘ lease 7 stores no more
//! ```
//! Who keeps the app carries both ways: hosts neither know where snapshots are nor read those of others. While nobody
//! keeps it nothing is stored, and what is lost with a host is all that was written since.

mod carry;
mod stored;
mod tape;
mod vault;
mod wish;

pub use stored::Head;
pub use vault::{Bucket, Folder, Vault, Vaults};
pub(super) use wish::snapshot_secs;
pub use wish::{VolumeDraft, volume_flag};

use super::{
    Apps, RUNNING,
    deploy::{READY_TIMEOUT, Step, deploying_until_ms},
    inside::{Entrance, told},
    now_ms,
    record::Record,
    told::Told,
    upkeep::Spot,
};
use crate::fault::Fault;
use hodei_types::{
    abi::{ILeases, LEASES},
    app::{
        volume::Volume,
        wire::{State, Way},
    },
    call::ask,
    chain::ChainError,
    market::LEASE_SECS_MIN,
    transport::{NodeKey, Transport},
};
use std::{
    io::{Read, Write},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
};
use stored::{Packing, Stored};

/// A volume of an app, and what is stored of it.
#[derive(Clone, Debug)]
pub struct Volumed {
    pub volume: Volume,
    /// None where nothing was ever on it.
    pub head: Option<Head>,
    /// Where snapshots of it are.
    pub vault: String,
    /// From one to the next, while somebody keeps the app.
    pub every_secs: u64,
}

/// What was stored of a volume.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshotted {
    pub lease: u64,
    /// Which snapshot it is; the one before where nothing had changed.
    pub sequence: u64,
    pub is_new: bool,
    pub files: u64,
    pub bytes: u64,
    /// Bytes that came from the host for it.
    pub came: u64,
}

/// What a tar has, or had.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Taped {
    pub files: u64,
    pub bytes: u64,
    /// When what it has was stored, in milliseconds since 1970.
    pub at_ms: u64,
}

/// A folder for what is on its way; dropped, it is gone.
struct Scratch(PathBuf);

impl Scratch {
    fn new(vaults: &dyn Vaults) -> Result<Self, Fault> {
        let path = vaults.scratch().join(format!(".volume-{:016x}", rand::random::<u64>()));
        std::fs::create_dir_all(&path).map_err(|error| Fault::Local(format!("{}: {error}", path.display())))?;
        Ok(Self(path))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).ok();
    }
}

/// When an app's volumes are to be stored again.
#[derive(Default)]
pub(super) struct Turns {
    is_busy: AtomicBool,
    next_ms: Mutex<u64>,
    /// What was said last of each volume that could not be stored.
    said: Mutex<std::collections::BTreeMap<String, String>>,
}

/// Says in the end that nothing is stored any more.
struct Busy(Arc<Turns>);

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.is_busy.store(false, Ordering::Release);
    }
}

fn broken(path: &Path) -> impl FnOnce(std::io::Error) -> Fault + '_ {
    move |error| Fault::Local(format!("{}: {error}", path.display()))
}

impl<T: Transport> Apps<T> {
    fn vaults(&self) -> Result<&dyn Vaults, Fault> {
        self.vaults.as_deref().ok_or_else(|| Fault::Local("this program keeps no snapshots".into()))
    }

    /// Where an app's snapshots are, and how often they are taken.
    async fn vault(&self, record: &Record) -> Result<(Arc<dyn Vault>, u64), Fault> {
        let release = self.shelf.release(&record.manifest.name, record.release)?;
        let draft = release.map(|release| release.draft).unwrap_or_default();
        let vault = self.vaults()?.open(draft.bucket.as_deref()).await?;
        Ok((vault, snapshot_secs(&draft)))
    }

    fn volume(&self, record: &Record, name: &str) -> Result<Volume, Fault> {
        let found = volumes(record).iter().find(|volume| volume.name == name).cloned();
        found.ok_or_else(|| Fault::NoVolume { app: record.manifest.name.clone(), volume: name.to_owned() })
    }

    /// An app's volumes, and what is stored of each.
    pub async fn volumes(&self, name: &str) -> Result<Vec<Volumed>, Fault> {
        let record = self.record(name)?;
        let mut all = Vec::new();
        if volumes(&record).is_empty() {
            return Ok(all);
        }
        let (vault, every_secs) = self.vault(&record).await?;
        for volume in volumes(&record) {
            let head = Stored::of(&*vault, (name, &volume.name), volume.bytes).head().await?;
            all.push(Volumed { volume: volume.clone(), head, vault: vault.name(), every_secs });
        }
        Ok(all)
    }

    /// Stores what is on a volume now.
    pub async fn snapshot(
        &self,
        name: &str,
        volume: &str,
        tell: impl FnMut(u64, u64) + Send,
    ) -> Result<Snapshotted, Fault> {
        let record = self.record(name)?;
        let volume = self.volume(&record, volume)?;
        let mut running = self.leases(&record).await?;
        running.retain(|lease| lease.state == RUNNING);
        let (vault, _) = self.vault(&record).await?;
        let head = Stored::of(&*vault, (name, &volume.name), volume.bytes).head().await?;
        // Beside one that is suspect another may wait to go on with what it wrote.
        let has_it = |lease: &&ILeases::Lease| head.as_ref().is_some_and(|head| head.lease == lease.id);
        let lease = running.iter().find(has_it).or(running.first());
        let lease = lease.ok_or_else(|| Fault::NoReplica { app: name.to_owned(), lease: None })?;
        self.snapshot_of(&record, lease, &volume, tell).await
    }

    async fn snapshot_of(
        &self,
        record: &Record,
        lease: &ILeases::Lease,
        volume: &Volume,
        tell: impl FnMut(u64, u64) + Send,
    ) -> Result<Snapshotted, Fault> {
        let app = record.manifest.name.as_str();
        let (vault, _) = self.vault(record).await?;
        let stored = Stored::of(&*vault, (app, &volume.name), volume.bytes);
        let scratch = Scratch::new(self.vaults()?)?;
        let late = || Fault::VolumeTaken { app: app.to_owned(), volume: volume.name.clone(), lease: lease.id };
        // Who never took it never had it filled.
        let was = stored.head().await?.ok_or_else(late)?;
        if was.lease != lease.id || !was.is_before(lease.id, lease.generation) {
            return Err(late());
        }
        let before = stored.snapshot(&was, &scratch.0).await?;
        let has = Stored::has(before.as_ref());
        let since = before.as_ref().filter(|_| !has.is_empty()).map(|before| before.tree.hash());
        let mut packing = Packing::new(&scratch.0).map_err(broken(&scratch.0))?;
        let at = Entrance { app: app.to_owned(), lease: lease.id, node: NodeKey(lease.node.0) };
        let way = Way::Snapshot { volume: volume.name.clone(), since };
        let (mut sink, mut stream) = self.open(&at, way).await?;
        let mut came = 0;
        let mut tell = tell;
        let taken = carry::take((&mut sink, &mut stream), volume.bytes, &has, &mut packing, |bytes, of| {
            came = bytes;
            tell(bytes, of);
        });
        let tree = taken.await.map_err(|error| told(app, error))?;
        let (files, bytes) = (tree.files(), tree.bytes());
        if before.as_ref().is_some_and(|before| before.tree == tree) && came == 0 {
            return Ok(Snapshotted { lease: lease.id, sequence: was.sequence, is_new: false, files, bytes, came });
        }
        let sequence = was.sequence.saturating_add(1);
        let is = Head { generation: lease.generation, sequence, at_ms: now_ms(), tree: None, ..was.clone() };
        match stored.store((Some(&was), before.as_ref()), is, tree, packing, &scratch.0).await? {
            true => Ok(Snapshotted { lease: lease.id, sequence, is_new: true, files, bytes, came }),
            false => Err(late()),
        }
    }

    /// Says to a lease's host what is on each volume, once the lease has taken it.
    pub(super) async fn fill(&self, record: &Record, lease: u64) -> Result<Vec<(String, Option<u64>)>, Fault> {
        let known = ask(self.chain(), LEASES, &ILeases::getCall { lease }).await?;
        let (app, (vault, _)) = (record.manifest.name.as_str(), self.vault(record).await?);
        let mut from = Vec::new();
        for volume in volumes(record) {
            let stored = Stored::of(&*vault, (app, &volume.name), volume.bytes);
            let was = stored.head().await?;
            let late = || Fault::VolumeTaken { app: app.to_owned(), volume: volume.name.clone(), lease };
            let first = Head { lease, generation: 0, sequence: 0, at_ms: now_ms(), is_sealed: false, tree: None };
            let now = was.clone().unwrap_or(first);
            // Of two that run by the ledger the second is nobody's replacement yet.
            let has_another = now.lease != lease && self.is_running(now.lease).await?;
            if now.lease > lease || has_another {
                return Err(late());
            }
            let now = Head { lease, generation: known.generation, is_sealed: false, ..now };
            if was.as_ref() != Some(&now) && !stored.swap(was.as_ref(), &now).await? {
                return Err(late());
            }
            let scratch = Scratch::new(self.vaults()?)?;
            let at = Entrance { app: app.to_owned(), lease, node: NodeKey(known.node.0) };
            let snapshot = stored.snapshot(&now, &scratch.0).await?;
            let pieces = match &snapshot {
                Some(snapshot) => Some((snapshot, stored.fetch(snapshot, &scratch.0, |_| ()).await?)),
                None => None,
            };
            let way = Way::Fill { volume: volume.name.clone(), is_born: pieces.is_none() };
            let (mut sink, mut stream) = self.open(&at, way).await?;
            let filled = match &pieces {
                Some((snapshot, pieces)) => {
                    let tell = |bytes, of| {
                        self.given.lock().expect("no panic under this lock").insert(lease, (bytes, of));
                    };
                    carry::fill((&mut sink, &mut stream), &snapshot.tree, pieces, tell).await
                }
                None => carry::born(&mut stream).await,
            };
            self.given.lock().expect("no panic under this lock").remove(&lease);
            filled.map_err(|error| told(app, error))?;
            from.push((volume.name.clone(), pieces.is_some().then_some(now.at_ms)));
        }
        Ok(from)
    }

    /// Whether a lease runs by the ledger, and is paid for.
    async fn is_running(&self, lease: u64) -> Result<bool, Fault> {
        match ask(self.chain(), LEASES, &ILeases::getCall { lease }).await {
            Ok(known) => Ok(known.state == RUNNING && known.untilMs > now_ms()),
            Err(ChainError::Reverted(_)) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Stores an app's volumes if it is time, in a task of its own.
    pub(super) fn snapshots(
        &self,
        record: &Record,
        spots: &[Spot],
        turns: &Arc<Turns>,
        tell: &(impl Fn(Told) + Clone + Send + Sync + 'static),
    ) {
        let is_ready = |spot: &&Spot| spot.replica.as_ref().is_some_and(|replica| replica.state == State::Ready);
        let Some(spot) = spots.iter().find(is_ready).filter(|_| !volumes(record).is_empty()) else { return };
        let lock = |turns: &Turns| *turns.next_ms.lock().expect("no panic under this lock");
        if now_ms() < lock(turns) || turns.is_busy.swap(true, Ordering::AcqRel) {
            return;
        }
        let (apps, record, lease, tell) = (self.clone(), record.clone(), spot.lease.clone(), tell.clone());
        let busy = Busy(turns.clone());
        tokio::spawn(async move {
            let turns = &busy.0;
            let release = apps.shelf.release(&record.manifest.name, record.release).ok().flatten();
            let every_secs = snapshot_secs(&release.map(|release| release.draft).unwrap_or_default());
            *turns.next_ms.lock().expect("no panic under this lock") = now_ms().saturating_add(every_secs * 1000);
            for volume in volumes(&record) {
                let stored = apps.snapshot_of(&record, &lease, volume, |_, _| ()).await;
                let why = stored.err().map(|fault| fault.to_string());
                let mut said = turns.said.lock().expect("no panic under this lock");
                let was = match &why {
                    Some(why) => said.insert(volume.name.clone(), why.clone()),
                    None => said.remove(&volume.name),
                };
                // Once, and not each minute.
                if let Some(why) = why.filter(|why| was.as_ref() != Some(why)) {
                    tell(Told::NotStored { app: record.manifest.name.clone(), volume: volume.name.clone(), why });
                }
            }
        });
    }

    /// Writes the newest that is stored of a volume as a tar.
    pub async fn backup(&self, name: &str, volume: &str, to: impl Write + Send) -> Result<Taped, Fault> {
        let record = self.record(name)?;
        let volume = self.volume(&record, volume)?;
        let (vault, _) = self.vault(&record).await?;
        let stored = Stored::of(&*vault, (name, &volume.name), volume.bytes);
        let scratch = Scratch::new(self.vaults()?)?;
        let none = || Fault::NotStored { app: name.to_owned(), volume: volume.name.clone() };
        let head = stored.head().await?.ok_or_else(none)?;
        let snapshot = stored.snapshot(&head, &scratch.0).await?.ok_or_else(none)?;
        let pieces = stored.fetch(&snapshot, &scratch.0, |_| ()).await?;
        let written = tokio::task::block_in_place(|| tape::write(&snapshot.tree, &pieces, to));
        written.map_err(|error| Fault::Local(format!("the archive: {error}")))?;
        Ok(Taped { files: snapshot.tree.files(), bytes: snapshot.tree.bytes(), at_ms: head.at_ms })
    }

    /// Stores what a tar has as the newest of a volume, ends the lease that has it, and places the app again with it.
    pub async fn restore(
        &self,
        name: &str,
        volume: &str,
        from: impl Read + Send,
        tell: &mut (dyn FnMut(Step) + Send),
    ) -> Result<Taped, Fault> {
        let record = self.record(name)?;
        self.no_update(&record)?;
        let volume = self.volume(&record, volume)?;
        let (vault, _) = self.vault(&record).await?;
        let stored = Stored::of(&*vault, (name, &volume.name), volume.bytes);
        let scratch = Scratch::new(self.vaults()?)?;
        let mut packing = Packing::new(&scratch.0).map_err(broken(&scratch.0))?;
        let read = tokio::task::block_in_place(|| tape::read(from, volume.bytes, &mut packing));
        let tree = read.map_err(|error| Fault::Archive(error.to_string()))?;
        let taped = Taped { files: tree.files(), bytes: tree.bytes(), at_ms: now_ms() };
        let mut running = self.leases(&record).await?;
        running.retain(|lease| lease.state == RUNNING);
        let was = stored.head().await?;
        let lease = running.iter().map(|lease| lease.id).max().unwrap_or(0);
        let late = || Fault::VolumeTaken { app: name.to_owned(), volume: volume.name.clone(), lease };
        let is = Head {
            lease: was.as_ref().map_or(lease, |was| was.lease.max(lease)),
            generation: was.as_ref().map_or(0, |was| was.generation),
            sequence: was.as_ref().map_or(0, |was| was.sequence).saturating_add(1),
            at_ms: taped.at_ms,
            is_sealed: true,
            tree: None,
        };
        let before = match &was {
            Some(was) => stored.snapshot(was, &scratch.0).await?,
            None => None,
        };
        if !stored.store((was.as_ref(), before.as_ref()), is, tree, packing, &scratch.0).await? {
            return Err(late());
        }
        let Some(until_ms) = running.iter().map(|lease| lease.untilMs).max() else { return Ok(taped) };
        // Whoever keeps it does not place it besides.
        let deploying_until_ms = deploying_until_ms(record.manifest.bytes().saturating_add(taped.bytes));
        self.shelf.store(&Record { deploying_until_ms, ..record.clone() })?;
        let placed = async {
            let ids: Vec<u64> = running.iter().map(|lease| lease.id).collect();
            self.end(&ids).await?;
            let secs = (until_ms.saturating_sub(now_ms()) / 1000).max(LEASE_SECS_MIN);
            let order = self.replace(&record, record.replicas.max(1), secs, &[]).await?;
            tell(Step::Ordered { order });
            self.until_ready((name, None), READY_TIMEOUT, usize::from(record.replicas.max(1)), tell).await
        };
        let placed = placed.await;
        let record = self.record(name)?;
        self.shelf.store(&Record { deploying_until_ms: 0, ..record })?;
        placed.map(|_| taped)
    }

    /// Forgets what is stored of an app's volumes; how many there were.
    pub async fn forget_volumes(&self, record: &Record, bucket: Option<&str>) -> Result<usize, Fault> {
        let mut forgotten = 0;
        for volume in volumes(record) {
            let vault = self.vaults()?.open(bucket).await?;
            let scratch = Scratch::new(self.vaults()?)?;
            let stored = Stored::of(&*vault, (&record.manifest.name, &volume.name), volume.bytes);
            forgotten += usize::from(stored.remove(&scratch.0).await?);
        }
        Ok(forgotten)
    }

    /// The bucket that an app's snapshots go to, if it is not this machine.
    pub fn volume_bucket(&self, record: &Record) -> Result<Option<String>, Fault> {
        let release = self.shelf.release(&record.manifest.name, record.release)?;
        Ok(release.and_then(|release| release.draft.bucket))
    }

    /// Refuses what would make a second one of an app that has volumes.
    pub(super) fn no_volumes(&self, record: &Record, what: &'static str) -> Result<(), Fault> {
        match volumes(record).is_empty() {
            true => Ok(()),
            false => Err(Fault::HasVolumes { app: record.manifest.name.clone(), what }),
        }
    }
}

fn volumes(record: &Record) -> &[Volume] {
    record.manifest.container().map(|container| &container.volumes[..]).unwrap_or_default()
}
