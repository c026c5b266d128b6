//! List a layer's packs once, for all its entries that lie in them.
//!
//! The table stands before the entries, in the order in which these first name a pack; each pack is named. So a
//! layer has one encoding, and needs no other layer to find its members.

use super::{ENTRIES_MAX, Entry, Home, IndexError, Part};
use hodei_types::cbor::{Reader, Writer};
use std::{collections::BTreeMap, sync::Arc};

/// The packs of a layer that is written, and where each stands.
#[derive(Default)]
pub(super) struct Writing<'a> {
    list: Vec<&'a Part>,
    at: BTreeMap<[u8; 16], u64>,
}

impl<'a> Writing<'a> {
    pub(super) fn of(entries: impl Iterator<Item = &'a Entry>) -> Self {
        let mut packs = Self::default();
        for part in entries.flat_map(|entry| &entry.parts) {
            if let Home::Pack { pack, .. } = &part.home {
                packs.at.entry(pack.object).or_insert_with(|| {
                    packs.list.push(pack);
                    packs.list.len() as u64 - 1
                });
            }
        }
        packs
    }

    pub(super) fn at(&self, pack: &Part) -> u64 {
        self.at[&pack.object]
    }

    pub(super) fn write(&self, out: &mut Writer) {
        out.array(self.list.len());
        self.list.iter().for_each(|pack| pack.write_own(out));
    }
}

/// The packs of a layer that is read, and how many were named so far.
#[derive(Default)]
pub(super) struct Reading {
    list: Vec<Arc<Part>>,
    named: usize,
}

impl Reading {
    pub(super) fn read(input: &mut Reader<'_>) -> Result<Self, IndexError> {
        let count = input.array(ENTRIES_MAX)?;
        let mut packs = Self::default();
        for _ in 0..count {
            let pack = Part::read_own(input)?;
            if !pack.is_pack() {
                return Err(IndexError::Shape("a part among the packs that is none"));
            }
            packs.list.push(Arc::new(pack));
        }
        Ok(packs)
    }

    pub(super) fn get(&mut self, at: u64) -> Result<Arc<Part>, IndexError> {
        let at = usize::try_from(at).ok().filter(|at| *at <= self.named);
        let (at, pack) =
            at.and_then(|at| Some((at, self.list.get(at)?))).ok_or(IndexError::Shape("packs out of order"))?;
        self.named = self.named.max(at + 1);
        Ok(pack.clone())
    }

    pub(super) fn end(&self) -> Result<(), IndexError> {
        if self.named == self.list.len() { Ok(()) } else { Err(IndexError::Shape("a pack that no entry names")) }
    }
}
