//! Keep which apps a wallet has: what each runs, how often, and by which orders.
//!
//! ```text
//! NAME.app         which release runs, its manifest, and how many replicas are wanted: what requests go to changes here
//! NAME.release-2   what release 2 is; one above that which runs is on its way, or was cut short
//! NAME.wasm-2      its component, to give it to hosts that are found later; a container's blobs are in a folder of theirs
//! NAME.seen-9      what calls of lease 9 cost, as far as they were seen from here
//! NAME.order-7     order 7 is of it: a file each, with its release, so that two commands at once lose none
//! ```
//! The ledger names the same orders by their workload; the record adds the name and the component.

use crate::{fault::Fault, share::Drawer};
use alloy_primitives::hex;
use hodei_types::app::{COMPONENT_BYTES_MAX, MANIFEST_BYTES_MAX, Manifest, is_name};
use serde::{Deserialize, Serialize};
use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    sync::Arc,
};

/// Longer than any record.
pub(super) const RECORD_BYTES_MAX: u64 = 8 * MANIFEST_BYTES_MAX as u64;
/// The release that an app begins with.
pub(super) const FIRST: u32 = 1;

/// An app of this wallet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    pub manifest: Manifest,
    /// How many are wanted.
    pub replicas: u8,
    /// They are to be on different hosts.
    pub is_spread: bool,
    /// When it was deployed, in milliseconds since 1970.
    pub since_ms: u64,
    /// Of the last block before its first order.
    pub since_height: u64,
    /// Until then whoever deploys it gives and replaces, if that is not done before.
    pub deploying_until_ms: u64,
    /// Which release runs, counted from 1.
    pub release: u32,
    /// Until then leases of the release before end what they are asked.
    pub drain_until_ms: u64,
    /// All orders that were ever made for this release.
    pub orders: BTreeSet<u64>,
    /// Those of other releases, each with which.
    pub others: BTreeMap<u64, u32>,
    /// A release that is on its way, or was cut short on it.
    pub staged: Option<u32>,
}

impl Record {
    /// Orders of releases that run no more; not those of one on its way.
    pub(super) fn retired(&self) -> impl Iterator<Item = u64> {
        self.others.iter().filter(|(_, release)| Some(**release) != self.staged).map(|(order, _)| *order)
    }

    /// All orders that were ever made for it, of whatever release.
    pub(super) fn all_orders(&self) -> impl Iterator<Item = u64> {
        self.orders.iter().chain(self.others.keys()).copied()
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    replicas: u8,
    is_spread: bool,
    since_ms: u64,
    since_height: u64,
    deploying_until_ms: u64,
    release: u32,
    drain_until_ms: u64,
    manifest: String,
}

/// The folder of a wallet's apps.
#[derive(Clone)]
pub(super) struct Shelf(pub(super) Arc<dyn Drawer>);

pub(super) fn lost(what: &str) -> impl Fn(io::Error) -> Fault {
    move |error| Fault::Local(format!("{what}: {error}"))
}

impl Shelf {
    /// Names of all apps, sorted.
    pub(super) fn names(&self) -> Result<Vec<String>, Fault> {
        let files = self.0.list().map_err(lost("apps"))?;
        let names: BTreeSet<String> = files
            .iter()
            .filter_map(|(file, _)| file.strip_suffix(".app"))
            .filter(|name| is_name(name))
            .map(ToOwned::to_owned)
            .collect();
        Ok(names.into_iter().collect())
    }

    pub(super) fn load(&self, name: &str) -> Result<Option<Record>, Fault> {
        if !is_name(name) {
            return Ok(None);
        }
        let (file, order) = (format!("{name}.app"), format!("{name}.order-"));
        let files = self.0.list().map_err(lost("apps"))?;
        let Some((_, bytes)) = files.iter().find(|(found, _)| *found == file) else { return Ok(None) };
        let damaged = || Fault::Local(format!("{file} is damaged: put back a copy of it"));
        if *bytes > RECORD_BYTES_MAX {
            return Err(damaged());
        }
        let text = String::from_utf8(self.0.read(&file).map_err(lost(&file))?).map_err(|_| damaged())?;
        let record: File = toml::from_str(&text).map_err(|_| damaged())?;
        let manifest = hex::decode(&record.manifest).map_err(|_| damaged())?;
        let manifest = Manifest::decode(&manifest).ok().filter(|manifest| manifest.name == name).ok_or_else(damaged)?;
        let File { replicas, is_spread, since_ms, since_height, deploying_until_ms, release, drain_until_ms, .. } =
            record;
        let staged = numbers(&files, &format!("{name}.release-")).filter(|number| *number > u64::from(release)).max();
        let staged = staged.and_then(|number| u32::try_from(number).ok());
        let mut loaded = Record {
            manifest,
            replicas,
            is_spread,
            since_ms,
            since_height,
            deploying_until_ms,
            release,
            drain_until_ms,
            orders: BTreeSet::new(),
            others: BTreeMap::new(),
            staged,
        };
        for order in numbers(&files, &order) {
            match self.release_of(name, order)? {
                of if of == release => _ = loaded.orders.insert(order),
                of => _ = loaded.others.insert(order, of),
            }
        }
        Ok(Some(loaded))
    }

    /// Which release an order was made for; one that was just removed is of none.
    fn release_of(&self, name: &str, order: u64) -> Result<u32, Fault> {
        let file = format!("{name}.order-{order}");
        match self.0.read(&file) {
            Ok(bytes) => {
                Ok(std::str::from_utf8(&bytes).ok().and_then(|text| text.trim().parse().ok()).unwrap_or(FIRST))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(0),
            Err(error) => Err(lost(&file)(error)),
        }
    }

    /// The component of a record.
    pub(super) fn component(&self, manifest: &Manifest, release: u32) -> Result<Vec<u8>, Fault> {
        let file = format!("{}.wasm-{release}", manifest.name);
        let wasm = self.0.read(&file).map_err(lost(&file))?;
        match manifest.check_component(&wasm) {
            Ok(()) => Ok(wasm),
            Err(_) => Err(Fault::Local(format!("{file} is not what was deployed: put back a copy of it"))),
        }
    }

    /// Blobs that some app's container names, of any of its releases; what cannot be read names none, and is told.
    pub(super) fn blobs(&self) -> Result<BTreeSet<[u8; 32]>, Fault> {
        let mut named = BTreeSet::new();
        for name in self.names()? {
            let record = self.load(&name)?;
            let releases = self.releases(&name)?;
            let manifests =
                record.iter().map(|record| &record.manifest).chain(releases.iter().map(|one| &one.manifest));
            let containers = manifests.filter_map(Manifest::container);
            named.extend(containers.flat_map(|container| container.blobs()).map(|blob| blob.sha256));
        }
        Ok(named)
    }

    /// Begins a record: the component first, so that a record always has one.
    pub(super) fn begin(&self, record: &Record, wasm: &[u8]) -> Result<(), Fault> {
        self.keep_component(&record.manifest.name, record.release, wasm)?;
        self.store(record)
    }

    pub(super) fn keep_component(&self, name: &str, release: u32, wasm: &[u8]) -> Result<(), Fault> {
        assert!(wasm.len() as u64 <= COMPONENT_BYTES_MAX, "a manifest was made of it");
        let file = format!("{name}.wasm-{release}");
        self.0.write(&file, wasm).map_err(lost(&file))
    }

    /// Writes what changes in an app's life but its orders.
    pub(super) fn store(&self, record: &Record) -> Result<(), Fault> {
        let file = format!("{}.app", record.manifest.name);
        let text = toml::to_string(&File {
            replicas: record.replicas,
            is_spread: record.is_spread,
            since_ms: record.since_ms,
            since_height: record.since_height,
            deploying_until_ms: record.deploying_until_ms,
            release: record.release,
            drain_until_ms: record.drain_until_ms,
            manifest: hex::encode(record.manifest.encode()),
        });
        let text = text.map_err(|error| Fault::Local(format!("{file}: {error}")))?;
        self.0.write(&file, text.as_bytes()).map_err(lost(&file))
    }

    pub(super) fn add_order(&self, name: &str, release: u32, order: u64) -> Result<(), Fault> {
        let file = format!("{name}.order-{order}");
        self.0.write(&file, format!("{release}\n").as_bytes()).map_err(lost(&file))
    }

    /// Wei that calls of a lease cost, as far as it was written down.
    pub(super) fn seen(&self, name: &str, lease: u64) -> Result<Option<u128>, Fault> {
        let file = format!("{name}.seen-{lease}");
        match self.0.read(&file) {
            Ok(bytes) => Ok(std::str::from_utf8(&bytes).ok().and_then(|text| text.trim().parse().ok())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(lost(&file)(error)),
        }
    }

    pub(super) fn keep_seen(&self, name: &str, lease: u64, seen: u128) -> Result<(), Fault> {
        let file = format!("{name}.seen-{lease}");
        self.0.write(&file, format!("{seen}\n").as_bytes()).map_err(lost(&file))
    }

    /// The record goes last: what is cut short can be removed again.
    pub(super) fn remove(&self, record: &Record) -> Result<(), Fault> {
        let name = &record.manifest.name;
        let parts = ["order", "seen", "release", "wasm"].map(|part| format!("{name}.{part}-"));
        let files = self.0.list().map_err(lost("apps"))?.into_iter().map(|(file, _)| file);
        let of_it = files.filter(|file| parts.iter().any(|part| file.starts_with(part)));
        for file in of_it.chain([format!("{name}.app")]) {
            match self.0.remove(&file) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(lost(&file)(error)),
                _ => {}
            }
        }
        Ok(())
    }
}

/// What comes behind `before` in names of files, as far as these are numbers.
pub(super) fn numbers(files: &[(String, u64)], before: &str) -> impl Iterator<Item = u64> {
    files.iter().filter_map(move |(file, _)| file.strip_prefix(before)?.parse().ok())
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use hodei_types::{app::Limits, transport::NodeKey};
    use std::sync::Mutex;

    #[derive(Default)]
    pub(in crate::app) struct InMemory(Mutex<BTreeMap<String, Vec<u8>>>);

    impl Drawer for InMemory {
        fn list(&self) -> io::Result<Vec<(String, u64)>> {
            Ok(self.0.lock().unwrap().iter().map(|(name, bytes)| (name.clone(), bytes.len() as u64)).collect())
        }

        fn read(&self, name: &str) -> io::Result<Vec<u8>> {
            self.0.lock().unwrap().get(name).cloned().ok_or_else(|| io::ErrorKind::NotFound.into())
        }

        fn write(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
            self.0.lock().unwrap().insert(name.into(), bytes.into());
            Ok(())
        }

        fn remove(&self, name: &str) -> io::Result<()> {
            self.0.lock().unwrap().remove(name).map(drop).ok_or_else(|| io::ErrorKind::NotFound.into())
        }
    }

    pub(in crate::app) fn record(name: &str) -> Record {
        let manifest = Manifest::new(name, b"wasm", Limits::default(), NodeKey([7; 32])).unwrap();
        Record {
            manifest,
            replicas: 3,
            is_spread: true,
            since_ms: 9,
            since_height: 3,
            deploying_until_ms: 0,
            release: FIRST,
            drain_until_ms: 0,
            orders: BTreeSet::new(),
            others: BTreeMap::new(),
            staged: None,
        }
    }

    #[test]
    fn a_record_returns_with_its_orders_and_goes_whole() {
        let drawer = Arc::new(InMemory::default());
        let shelf = Shelf(drawer.clone());
        let mut shop = record("shop");
        shelf.begin(&shop, b"wasm").unwrap();
        shelf.begin(&record("shop-2"), b"wasm").unwrap();
        [7, 12].iter().for_each(|order| shelf.add_order("shop", FIRST, *order).unwrap());
        shelf.add_order("shop-2", FIRST, 8).unwrap();
        shop.orders = [7, 12].into();
        assert_eq!(shelf.load("shop").unwrap(), Some(shop.clone()));
        assert_eq!(shelf.names().unwrap(), ["shop", "shop-2"]);
        assert_eq!(shelf.component(&shop.manifest, FIRST).unwrap(), b"wasm");
        shop.replicas = 5;
        shelf.store(&shop).unwrap();
        assert_eq!(shelf.load("shop").unwrap(), Some(shop.clone()), "its orders stay");
        shelf.remove(&shop).unwrap();
        assert_eq!(shelf.names().unwrap(), ["shop-2"]);
        assert_eq!(drawer.list().unwrap().len(), 3, "the other's files stay");
        assert_eq!(shelf.load("shop").unwrap(), None);
    }

    #[test]
    fn a_damaged_record_or_component_is_told() {
        let drawer = Arc::new(InMemory::default());
        let shelf = Shelf(drawer.clone());
        let shop = record("shop");
        shelf.begin(&shop, b"wasm").unwrap();
        drawer.write("shop.wasm-1", b"wasn").unwrap();
        assert!(matches!(shelf.component(&shop.manifest, FIRST), Err(Fault::Local(_))));
        // Another app's record under this name.
        let other = drawer.read("shop.app").unwrap();
        drawer.write("else.app", &other).unwrap();
        assert!(matches!(shelf.load("else"), Err(Fault::Local(_))));
        drawer.write("shop.app", b"replicas = 1").unwrap();
        assert!(matches!(shelf.load("shop"), Err(Fault::Local(_))));
        assert_eq!(shelf.load("../shop").unwrap(), None);
    }
}
