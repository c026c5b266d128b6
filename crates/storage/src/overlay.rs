//! Say where shards are that custodians restored, until their owner writes pages anew.
//!
//! Pages never change: they are named by their hash. A custodian that restored a shard with another provider says so in
//! an overlay, which the ledger names for the bucket: pairs of shard and deal, on a sheet that is itself a shard and names
//! the sheet before. They say nothing that the providers don't know.

use crate::manifest::{ManifestError, pad, unpad};
use hodei_types::{
    cbor::{Reader, Writer},
    slice::ShardId,
};
use std::collections::BTreeMap;

const VERSION: u64 = 1;
/// Pairs of one sheet.
pub const PAIRS_MAX: usize = 1500;
/// Sheets that one replaced and names, so that its bucket's owner can let go of them.
pub const STALE_MAX: usize = 64;
/// Of these the newest, which are not let go of yet.
const STALE_KEPT: usize = 8;
/// Bytes of a sheet at most.
pub const SHEET_BYTES_MAX: u32 = 72 * 1024;
/// Sheets that are followed: three quarters of a million shards, 190 GiB of them.
pub const SHEETS_MAX: usize = 512;

/// One shard of an overlay.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sheet {
    /// The one before.
    pub before: Option<ShardId>,
    /// Those whose pairs are here now, the newest last.
    pub stale: Vec<ShardId>,
    /// Which shards are in which deals beside what pages say.
    pub pairs: Vec<(ShardId, u64)>,
}

/// All of an overlay: deals by shard, and the sheets that others replaced.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Overlay {
    deals: BTreeMap<ShardId, Vec<u64>>,
    stale: Vec<ShardId>,
}

impl Sheet {
    /// The same with these besides, in the place of sheet `id`; behind it where that is full.
    pub fn with(&self, id: ShardId, pairs: &[(ShardId, u64)]) -> Self {
        if self.pairs.len() + pairs.len() > PAIRS_MAX {
            return Self { before: Some(id), stale: Vec::new(), pairs: pairs.to_vec() };
        }
        let stale = self.stale.iter().copied().chain([id]).collect::<Vec<_>>();
        let known = stale.len().saturating_sub(STALE_MAX);
        Self { before: self.before, stale: stale[known..].to_vec(), pairs: [&self.pairs, pairs].concat() }
    }

    /// The sheet as a shard, and its id. Panics with more than [`PAIRS_MAX`] pairs.
    pub fn seal(&self) -> (Vec<u8>, ShardId) {
        assert!(self.pairs.len() <= PAIRS_MAX && self.stale.len() <= STALE_MAX, "a full sheet is followed by another");
        let mut out = Writer::with_capacity(self.pairs.len() * 43 + self.stale.len() * 34 + 64);
        out.array(4).uint(VERSION).array(usize::from(self.before.is_some()));
        self.before.iter().for_each(|id| _ = out.bytes(&id.0));
        out.array(self.stale.len());
        self.stale.iter().for_each(|id| _ = out.bytes(&id.0));
        out.array(self.pairs.len() * 2);
        for (id, deal) in &self.pairs {
            out.bytes(&id.0).uint(*deal);
        }
        pad(out.finish())
    }

    pub fn open(id: &ShardId, shard: &[u8]) -> Result<Self, ManifestError> {
        let mut input = Reader::new(unpad(id, shard)?);
        input.tuple(4)?;
        input.exactly("version", VERSION)?;
        let before = if input.array(1)? == 1 { Some(ShardId(input.fixed()?)) } else { None };
        let stale = input.array(STALE_MAX)?;
        let stale = (0..stale).map(|_| Ok(ShardId(input.fixed()?))).collect::<Result<_, ManifestError>>()?;
        let values = input.array(PAIRS_MAX * 2)?;
        if !values.is_multiple_of(2) {
            return Err(ManifestError::Shape("a shard without a deal"));
        }
        let pairs = (0..values / 2).map(|_| Ok((ShardId(input.fixed()?), input.uint()?)));
        let pairs = pairs.collect::<Result<_, ManifestError>>()?;
        input.end()?;
        Ok(Self { before, stale, pairs })
    }
}

impl Overlay {
    pub fn is_empty(&self) -> bool {
        self.deals.is_empty()
    }

    /// Takes in what a sheet says, the newest sheet first; gives the one before it.
    pub fn take(&mut self, sheet: Sheet) -> Option<ShardId> {
        for (id, deal) in sheet.pairs.into_iter().rev() {
            let deals = self.deals.entry(id).or_default();
            if !deals.contains(&deal) {
                deals.insert(0, deal);
            }
        }
        // Who read the ledger a moment ago may be asking for the newest of them.
        let old = sheet.stale.len().saturating_sub(STALE_KEPT);
        self.stale.extend(&sheet.stale[..old]);
        sheet.before
    }

    /// Sheets that nobody asks for any more.
    pub fn stale(&self) -> &[ShardId] {
        &self.stale
    }

    pub fn add(&mut self, id: ShardId, deal: u64) {
        let deals = self.deals.entry(id).or_default();
        if !deals.contains(&deal) {
            deals.push(deal);
        }
    }

    /// Deals that have a shard besides the one its page names; the last of them took it last.
    pub fn deals(&self, id: &ShardId) -> impl DoubleEndedIterator<Item = u64> + '_ {
        self.deals.get(id).into_iter().flatten().copied()
    }

    /// Every pair, by shard.
    pub fn pairs(&self) -> impl Iterator<Item = (ShardId, u64)> + '_ {
        self.deals.iter().flat_map(|(id, deals)| deals.iter().map(|deal| (*id, *deal)))
    }
}

impl Extend<(ShardId, u64)> for Overlay {
    fn extend<I: IntoIterator<Item = (ShardId, u64)>>(&mut self, pairs: I) {
        pairs.into_iter().for_each(|(id, deal)| self.add(id, deal));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(count: usize) -> Vec<(ShardId, u64)> {
        (0..count).map(|at| (ShardId([at as u8; 32]), 1 << 40)).collect()
    }

    #[test]
    fn a_sheet_is_a_shard_and_reads_back() {
        let stale = |count: usize| vec![ShardId([8; 32]); count];
        for (before, stale, count) in
            [(None, stale(0), 0), (None, stale(1), 3), (Some(ShardId([9; 32])), stale(STALE_MAX), PAIRS_MAX)]
        {
            let sheet = Sheet { before, stale, pairs: pairs(count) };
            let (shard, id) = sheet.seal();
            assert!(shard.len() <= SHEET_BYTES_MAX as usize);
            assert_eq!(Sheet::open(&id, &shard), Ok(sheet));
            let mut bent = shard.clone();
            bent[5] ^= 1;
            assert!(Sheet::open(&ShardId::of(&bent), &bent).is_err());
        }
    }

    #[test]
    fn a_sheet_grows_until_it_is_full_and_then_another_follows() {
        let id = |at: u8| ShardId([at; 32]);
        let mut sheet = Sheet { pairs: pairs(10), ..Sheet::default() };
        for at in 0..100 {
            sheet = sheet.with(id(at), &pairs(14));
        }
        assert_eq!((sheet.before, sheet.pairs.len(), sheet.stale.len()), (None, 1410, STALE_MAX));
        assert_eq!(sheet.stale.last(), Some(&id(99)));
        let next = sheet.with(id(100), &pairs(91));
        assert_eq!(next, Sheet { before: Some(id(100)), stale: Vec::new(), pairs: pairs(91) });
        let mut overlay = Overlay::default();
        assert_eq!((overlay.take(next), overlay.take(sheet)), (Some(id(100)), None));
        let old: Vec<ShardId> = (36..92).map(id).collect();
        assert_eq!(overlay.stale(), old, "but the newest eight");
    }

    #[test]
    fn an_overlay_names_each_deal_once() {
        let mut overlay = Overlay::default();
        let (a, b) = (ShardId([1; 32]), ShardId([2; 32]));
        overlay.extend([(a, 7), (b, 8), (a, 7), (a, 9)]);
        assert_eq!(overlay.deals(&a).collect::<Vec<_>>(), [7, 9]);
        assert_eq!(overlay.deals(&ShardId([3; 32])).count(), 0);
        assert_eq!(overlay.pairs().collect::<Vec<_>>(), [(a, 7), (a, 9), (b, 8)]);
    }

    #[test]
    fn who_took_a_shard_last_is_named_last_however_often_it_went() {
        let (a, b) = (ShardId([1; 32]), ShardId([2; 32]));
        let sheet = |pairs: &[(ShardId, u64)]| Sheet { pairs: pairs.to_vec(), ..Sheet::default() };
        let mut overlay = Overlay::default();
        // It went to 7, 8 and 9, then back to 8.
        overlay.take(sheet(&[(a, 9), (b, 5), (a, 8)]));
        overlay.take(sheet(&[(a, 7), (a, 8), (b, 6), (b, 5)]));
        assert_eq!(overlay.deals(&a).collect::<Vec<_>>(), [7, 9, 8]);
        assert_eq!(overlay.deals(&b).collect::<Vec<_>>(), [6, 5]);
    }
}
