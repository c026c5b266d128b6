//! Keep what an app's releases are: the one that runs, some before it, and one on its way.
//!
//! ```text
//! stage ─ NAME.release-3, NAME.wasm-3 ─► orders of 3 ─► gate ─┬─ passed ─► NAME.app says 3
//!                                                            └─ not ────► orders ended, both files removed
//! ```
//! A release above the one that NAME.app names is on its way; who is cut short leaves it so, and nothing of it is forgotten:
//! each order says which release it is of.

use super::record::{FIRST, RECORD_BYTES_MAX, Record, Shelf, lost, numbers};
use super::{Spec, draft::Draft};
use crate::fault::Fault;
use alloy_primitives::hex;
use alloy_sol_types::SolValue as _;
use hodei_types::{abi::IMarket::Order, app::Manifest};
use serde::{Deserialize, Serialize};
use std::{collections::BTreeSet, io};

/// Releases that are kept, with the one that runs.
const KEPT: usize = 5;

/// What an app was, is, or is to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Release {
    pub number: u32,
    /// When it was made, in milliseconds since 1970.
    pub since_ms: u64,
    /// Which one it was taken back to, if it was.
    pub of: Option<u32>,
    /// Of one on its way: until then whoever brings it looks after it.
    pub until_ms: u64,
    pub manifest: Manifest,
    /// Where it may run and for how much, as it was said.
    pub terms: Order,
    /// Its highest price was said.
    pub is_capped: bool,
    /// On call: calls that are paid ahead.
    pub calls: u64,
    /// What it was made of.
    pub draft: Draft,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    since_ms: u64,
    of: Option<u32>,
    until_ms: u64,
    manifest: String,
    terms: String,
    is_capped: bool,
    calls: u64,
    draft: Draft,
}

impl Release {
    /// Of what is to be deployed now.
    pub(super) fn of(number: u32, spec: &Spec, manifest: Manifest, since_ms: u64) -> Self {
        Self {
            number,
            since_ms,
            of: None,
            until_ms: 0,
            manifest,
            terms: spec.terms.clone(),
            is_capped: spec.price_max.is_some(),
            calls: spec.calls,
            draft: spec.draft.clone(),
        }
    }

    fn decode(name: &str, number: u32, text: &str) -> Option<Self> {
        let File { since_ms, of, until_ms, manifest, terms, is_capped, calls, draft } = toml::from_str(text).ok()?;
        let manifest = Manifest::decode(&hex::decode(manifest).ok()?).ok().filter(|manifest| manifest.name == name)?;
        let terms = Order::abi_decode(&hex::decode(terms).ok()?).ok()?;
        Some(Self { number, since_ms, of, until_ms, manifest, terms, is_capped, calls, draft })
    }
}

impl Shelf {
    /// All releases of an app that are kept, the oldest first.
    pub(super) fn releases(&self, name: &str) -> Result<Vec<Release>, Fault> {
        let files = self.0.list().map_err(lost("apps"))?;
        let found: BTreeSet<u64> = numbers(&files, &format!("{name}.release-")).collect();
        let found = found.into_iter().filter_map(|number| u32::try_from(number).ok());
        found.filter_map(|number| self.release(name, number).transpose()).collect()
    }

    /// One of them, if it is kept.
    pub(super) fn release(&self, name: &str, number: u32) -> Result<Option<Release>, Fault> {
        let file = format!("{name}.release-{number}");
        let bytes = match self.0.read(&file) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            read => read.map_err(lost(&file))?,
        };
        let damaged = || Fault::Local(format!("{file} is damaged: put back a copy of it"));
        let text =
            String::from_utf8(bytes).ok().filter(|text| text.len() as u64 <= RECORD_BYTES_MAX).ok_or_else(damaged)?;
        Release::decode(name, number, &text).map(Some).ok_or_else(damaged)
    }

    pub(super) fn keep_release(&self, release: &Release) -> Result<(), Fault> {
        let file = format!("{}.release-{}", release.manifest.name, release.number);
        let text = toml::to_string(&File {
            since_ms: release.since_ms,
            of: release.of,
            until_ms: release.until_ms,
            manifest: hex::encode(release.manifest.encode()),
            terms: hex::encode(release.terms.abi_encode()),
            is_capped: release.is_capped,
            calls: release.calls,
            draft: release.draft.clone(),
        });
        let text = text.map_err(|error| Fault::Local(format!("{file}: {error}")))?;
        self.0.write(&file, text.as_bytes()).map_err(lost(&file))
    }

    /// The component first: what is cut short is still found, and removed then.
    pub(super) fn drop_release(&self, name: &str, number: u32) -> Result<(), Fault> {
        for file in [format!("{name}.wasm-{number}"), format!("{name}.release-{number}")] {
            match self.0.remove(&file) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(lost(&file)(error)),
                _ => {}
            }
        }
        Ok(())
    }

    /// Forgets what is older than the last few.
    pub(super) fn prune(&self, record: &Record) -> Result<(), Fault> {
        let name = &record.manifest.name;
        let mut numbers: Vec<u32> = self.releases(name)?.iter().map(|release| release.number).collect();
        numbers.retain(|number| *number <= record.release);
        let old = numbers.len().saturating_sub(KEPT);
        numbers.drain(..old).try_for_each(|number| self.drop_release(name, number))
    }

    /// The next number that no release and no order has.
    pub(super) fn next_release(&self, record: &Record) -> Result<u32, Fault> {
        let kept = self.releases(&record.manifest.name)?;
        let numbers = kept.iter().map(|release| release.number).chain(record.others.values().copied());
        Ok(numbers.max().unwrap_or(FIRST).max(record.release).saturating_add(1))
    }

    /// An app as it would be, were the release on its way the one that runs.
    pub(super) fn staged(&self, name: &str) -> Result<Option<(Record, Release)>, Fault> {
        let Some(record) = self.load(name)? else { return Ok(None) };
        let Some(number) = record.staged else { return Ok(None) };
        let Some(release) = self.release(name, number)? else { return Ok(None) };
        let orders = record.others.iter().filter(|(_, of)| **of == number).map(|(order, _)| *order).collect();
        let others = record.orders.iter().map(|order| (*order, record.release));
        let others = others.chain(record.others.clone()).filter(|(_, of)| *of != number).collect();
        let staged = Record {
            manifest: release.manifest.clone(),
            replicas: release.terms.replicas,
            is_spread: release.terms.perHost == 1,
            deploying_until_ms: 0,
            release: number,
            orders,
            others,
            staged: None,
            ..record
        };
        Ok(Some((staged, release)))
    }

    /// Makes the release on its way the one that runs, in one write; leases of the one before have until then to end what
    /// they were asked.
    pub(super) fn switch(&self, name: &str, drain_until_ms: u64) -> Result<Record, Fault> {
        let (staged, _) = self.staged(name)?.ok_or_else(|| Fault::NoUpdate(name.to_owned()))?;
        let record = Record { drain_until_ms, ..staged };
        self.store(&record)?;
        Ok(record)
    }
}

#[cfg(test)]
mod tests {
    use super::super::record::tests::{InMemory, record};
    use super::*;
    use crate::share::Drawer as _;
    use std::sync::Arc;

    fn release(number: u32, wasm: &[u8]) -> Release {
        let (draft, lines) = Draft::parse("component = \"a.wasm\"\nname = \"shop\"\nreplicas = 2\n").unwrap();
        let spec = draft.check(&lines).unwrap();
        let viewer = record("shop").manifest.viewer;
        Release::of(number, &spec, Manifest::new("shop", wasm, spec.limits, viewer).unwrap(), u64::from(number))
    }

    fn shelf() -> (Arc<InMemory>, Shelf) {
        let drawer = Arc::new(InMemory::default());
        let shelf = Shelf(drawer.clone());
        shelf.begin(&record("shop"), b"wasm").unwrap();
        shelf.keep_release(&release(1, b"wasm")).unwrap();
        shelf.add_order("shop", 1, 7).unwrap();
        (drawer, shelf)
    }

    #[test]
    fn a_release_on_its_way_changes_nothing_until_it_is_switched_to_in_one_write() {
        let (_, shelf) = shelf();
        let before = shelf.load("shop").unwrap().unwrap();
        assert_eq!((before.staged, shelf.next_release(&before).unwrap()), (None, 2));
        shelf.keep_component("shop", 2, b"other").unwrap();
        shelf.keep_release(&release(2, b"other")).unwrap();
        shelf.add_order("shop", 2, 9).unwrap();
        let now = shelf.load("shop").unwrap().unwrap();
        assert_eq!((&now.manifest, &now.orders, now.staged), (&before.manifest, &before.orders, Some(2)));
        assert_eq!(now.retired().count(), 0, "what is on its way is not ended");
        assert_eq!(now.all_orders().collect::<Vec<_>>(), [7, 9]);
        let (staged, kept) = shelf.staged("shop").unwrap().unwrap();
        assert_eq!((kept, staged.replicas, &staged.orders), (release(2, b"other"), 2, &[9].into()));
        shelf.switch("shop", 50).unwrap();
        let after = shelf.load("shop").unwrap().unwrap();
        assert_eq!((after.release, after.drain_until_ms, after.staged), (2, 50, None));
        assert_eq!((&after.orders, after.retired().collect::<Vec<_>>()), (&[9].into(), vec![7]));
        assert_eq!(shelf.component(&after.manifest, after.release).unwrap(), b"other");
        assert!(matches!(shelf.switch("shop", 60), Err(Fault::NoUpdate(_))), "once");
    }

    #[test]
    fn a_release_that_was_broken_off_leaves_its_orders_to_be_ended_and_its_number_used() {
        let (_, shelf) = shelf();
        shelf.keep_release(&release(2, b"other")).unwrap();
        shelf.add_order("shop", 2, 9).unwrap();
        shelf.drop_release("shop", 2).unwrap();
        let record = shelf.load("shop").unwrap().unwrap();
        assert_eq!((record.release, record.staged, record.retired().collect::<Vec<_>>()), (1, None, vec![9]));
        assert_eq!(shelf.next_release(&record).unwrap(), 3);
        assert!(shelf.staged("shop").unwrap().is_none());
    }

    #[test]
    fn the_last_five_releases_are_kept_and_all_go_with_their_app() {
        let (drawer, shelf) = shelf();
        for number in 2..=8 {
            shelf.keep_component("shop", number, &[number as u8]).unwrap();
            shelf.keep_release(&release(number, &[number as u8])).unwrap();
            let record = shelf.switch("shop", 0).unwrap();
            shelf.prune(&record).unwrap();
        }
        let kept = shelf.releases("shop").unwrap();
        assert_eq!(kept.iter().map(|one| one.number).collect::<Vec<_>>(), [4, 5, 6, 7, 8]);
        assert_eq!(shelf.component(&kept[0].manifest, 4).unwrap(), [4]);
        shelf.remove(&shelf.load("shop").unwrap().unwrap()).unwrap();
        assert!(drawer.list().unwrap().is_empty(), "{:?}", drawer.list());
    }

    #[test]
    fn a_damaged_release_is_told() {
        let (drawer, shelf) = shelf();
        drawer.write("shop.release-1", b"since_ms = 3").unwrap();
        assert!(matches!(shelf.releases("shop"), Err(Fault::Local(_))));
    }
}
