//! Count one tab's bytes against its ticks, and write that down.
//!
//! ```text
//! GET   served ≤ paid + credit → served += bytes; else it is refused
//! TICK  a value further along the leaf's chain → paid += ticks
//! ```
//! What was served is counted when it is given, whatever its reader does with it. Nothing here waits or asks anybody.

use super::book::Key;
use alloy_primitives::B256;
use hodei_types::{
    cbor::{CborError, Reader, Writer},
    tab::{Opening, TICK_BYTES, TabError, Tick, TickError, follows},
};
use std::collections::BTreeMap;

/// Given before a tick is missed: a shard under way in each of a reader's four slots.
pub const CREDIT_BYTES: u64 = 4 * TICK_BYTES;
/// Hashes one TICK may cost: one that comes after an hour apart comes in steps.
pub(super) const STEPS_MAX: u32 = 64;
/// Ticks after which an account is written down.
const WRITE_TICKS: u32 = 16;
/// Leaves of one tab that are this provider's: 256 GiB.
const LEAVES_MAX: usize = 64;
/// Of a record.
const VERSION: u64 = 2;
/// Of one whose account was named by its tab alone.
const BY_TAB: u64 = 1;

/// A leaf that was shown to be of its tab, and the last tick of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Paid {
    pub(super) opening: Opening,
    pub(super) tick: Tick,
    /// Ticks the ledger paid for.
    pub(super) claimed: u32,
}

impl Paid {
    /// Begins where the ledger's claims of it are.
    fn new(opening: Opening, claimed: Tick) -> Self {
        let tick = if claimed.index == 0 { Tick { index: 0, value: opening.leaf.anchor } } else { claimed };
        Self { opening, tick, claimed: claimed.index }
    }

    pub(super) fn owed_wei(&self) -> u128 {
        u128::from(self.tick.index.saturating_sub(self.claimed)).saturating_mul(self.opening.leaf.price)
    }

    pub(super) fn is_full(&self) -> bool {
        self.tick.index >= self.opening.leaf.ticks
    }
}

/// One tab for one bucket, as this provider counts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Account {
    pub(super) tab: B256,
    pub(super) served_bytes: u64,
    /// Ledger's times: no ticks are taken from the first on, no claims from the second; zero if it was not read.
    pub(super) last_ms: u64,
    pub(super) until_ms: u64,
    pub(super) leaves: BTreeMap<u32, Paid>,
    /// Ticks that are not on disk.
    unwritten: u32,
    /// It changed since it was written.
    is_changed: bool,
}

/// Why more is not given.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("served {} MiB of this tab, {ticks} ticks came; {} MiB are given on credit", .served_bytes >> 20, CREDIT_BYTES >> 20)]
pub struct Unpaid {
    pub served_bytes: u64,
    pub ticks: u64,
}

/// Why a tick was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Untaken {
    #[error("leaf {0} of this tab is not known here: send its opening")]
    Unknown(u32),
    #[error("a tab has at most {LEAVES_MAX} leaves here")]
    Leaves,
    #[error("the leaf has {most} ticks, found tick {found}")]
    Beyond { most: u32, found: u32 },
    #[error(transparent)]
    Tick(#[from] TickError),
}

/// Why a record of an account is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum BadRecord {
    #[error(transparent)]
    Cbor(#[from] CborError),
    #[error(transparent)]
    Leaf(#[from] TabError),
    #[error("expected 32 bits, found {0}")]
    Number(u64),
    #[error("expected version {BY_TAB} or {VERSION}, found {0}: a newer program wrote it")]
    Version(u64),
}

impl Account {
    /// Of which nothing was served.
    pub(super) fn of(tab: B256) -> Self {
        Self { tab, ..Self::default() }
    }

    /// It is to be written as it is.
    pub(super) fn changed(&mut self) {
        self.is_changed = true;
    }

    pub(super) fn is_changed(&self) -> bool {
        self.is_changed
    }

    /// It is about to be written.
    pub(super) fn written(&mut self) {
        (self.unwritten, self.is_changed) = (0, false);
    }

    /// It was not: it is with the next tick.
    pub(super) fn unwritten(&mut self) {
        (self.unwritten, self.is_changed) = (WRITE_TICKS, true);
    }

    /// What a record says of an account that is gone.
    pub(super) fn is_nothing(&self) -> bool {
        self.served_bytes == 0 && self.until_ms == 0 && self.leaves.is_empty()
    }

    pub(super) fn ticks(&self) -> u64 {
        self.leaves.values().map(|paid| u64::from(paid.tick.index)).sum()
    }

    /// Refuses who is behind by more than the credit.
    pub(super) fn check(&self) -> Result<(), Unpaid> {
        let ticks = self.ticks();
        let paid_bytes = ticks.saturating_mul(TICK_BYTES).saturating_add(CREDIT_BYTES);
        if self.served_bytes <= paid_bytes { Ok(()) } else { Err(Unpaid { served_bytes: self.served_bytes, ticks }) }
    }

    /// What of it no other leaf's ticks paid: what this leaf's are held against.
    pub(super) fn served_of(&self, leaf: u32) -> u64 {
        let others = self.leaves.iter().filter(|(number, _)| **number != leaf);
        let others: u64 = others.map(|(_, paid)| u64::from(paid.tick.index) * TICK_BYTES).sum();
        self.served_bytes.saturating_sub(others)
    }

    /// Takes a leaf that was checked against its tab, of which the ledger paid so much: that was served, and is not
    /// known here any more.
    pub(super) fn open(&mut self, opening: Opening, claimed: Tick) -> Result<(), Untaken> {
        if self.leaves.contains_key(&opening.number) {
            return Ok(());
        }
        if self.leaves.len() >= LEAVES_MAX {
            return Err(Untaken::Leaves);
        }
        self.served_bytes = self.served_bytes.saturating_add(u64::from(claimed.index) * TICK_BYTES);
        self.leaves.insert(opening.number, Paid::new(opening, claimed));
        Ok(())
    }

    /// Takes a tick, unless as many are known; gives the leaf's last, and whether the account is to be written.
    pub(super) fn take(&mut self, node: B256, leaf: u32, tick: &Tick) -> Result<(Tick, bool), Untaken> {
        let tab = self.tab;
        let paid = self.leaves.get_mut(&leaf).ok_or(Untaken::Unknown(leaf))?;
        if tick.index > paid.opening.leaf.ticks {
            return Err(Untaken::Beyond { most: paid.opening.leaf.ticks, found: tick.index });
        }
        if tick.index > paid.tick.index {
            follows(tab, node, &paid.tick, tick, STEPS_MAX)?;
            self.unwritten += tick.index - paid.tick.index;
            paid.tick = *tick;
        }
        Ok((paid.tick, self.unwritten >= WRITE_TICKS))
    }

    pub(super) fn owed_wei(&self) -> u128 {
        self.leaves.values().fold(0, |sum, paid| sum.saturating_add(paid.owed_wei()))
    }

    pub(super) fn encode(&self, Key(key): Key) -> Vec<u8> {
        let mut out = Writer::new();
        out.array(6 + self.leaves.len() * 5).uint(VERSION).bytes(key.as_slice()).bytes(self.tab.as_slice());
        out.uint(self.served_bytes).uint(self.last_ms).uint(self.until_ms);
        for (number, paid) in &self.leaves {
            out.uint((*number).into()).bytes(&paid.opening.to_bytes()).uint(paid.tick.index.into());
            out.bytes(paid.tick.value.as_slice()).uint(paid.claimed.into());
        }
        out.finish()
    }

    /// What [`Self::encode`] wrote, at the provider `node`. Of the version before, which knew no buckets, what is owed
    /// is claimed, and nobody reads on.
    pub(super) fn decode(bytes: &[u8], node: B256) -> Result<(Key, Self), BadRecord> {
        let mut input = Reader::new(bytes);
        let values = input.array(6 + LEAVES_MAX * 5)?;
        let version = input.uint()?;
        if !(BY_TAB..=VERSION).contains(&version) {
            return Err(BadRecord::Version(version));
        }
        let key = B256::new(input.fixed()?);
        let (tab, head) = if version == BY_TAB { (key, 5) } else { (B256::new(input.fixed()?), 6) };
        let (served_bytes, last_ms, until_ms) = (input.uint()?, input.uint()?, input.uint()?);
        let mut account = Self { tab, served_bytes, last_ms, until_ms, ..Self::default() };
        for _ in 0..values.saturating_sub(head) / 5 {
            let number = small(&mut input)?;
            let opening = Opening::from_bytes(number, node, input.bytes(Opening::BYTES_MAX)?)?;
            let (index, value) = (small(&mut input)?, B256::new(input.fixed()?));
            let (tick, claimed) = (Tick { index, value }, small(&mut input)?);
            account.leaves.insert(number, Paid { opening, tick, claimed });
        }
        input.end()?;
        Ok((Key(key), account))
    }
}

fn small(input: &mut Reader<'_>) -> Result<u32, BadRecord> {
    let value = input.uint()?;
    u32::try_from(value).map_err(|_| BadRecord::Number(value))
}

#[cfg(test)]
mod tests {
    use super::*;
    use hodei_types::tab::{Chain, Leaf, Tree};

    const TAB: B256 = B256::repeat_byte(1);
    const NODE: B256 = B256::repeat_byte(2);
    const KEY: Key = Key(B256::repeat_byte(9));
    /// Of a leaf that nobody claimed from.
    const NONE: Tick = Tick { index: 0, value: B256::ZERO };

    fn leaf(number: u32, ticks: u32) -> (Chain, Opening) {
        let chain = Chain::prepare(&[3; 32], TAB, NODE, number, ticks).unwrap();
        let leaf = Leaf { provider: NODE, anchor: chain.anchor(), ticks, price: 7 };
        let tree = Tree::build(vec![leaf; number as usize + 2]).unwrap();
        (chain, tree.opening(number).unwrap())
    }

    #[test]
    fn who_stops_paying_is_given_the_credit_and_one_answer_more() {
        let (chain, opening) = leaf(0, 100);
        let mut account = Account::of(TAB);
        account.open(opening, NONE).unwrap();
        let mut given = 0;
        while account.check().is_ok() {
            account.served_bytes += TICK_BYTES;
            given += 1;
        }
        assert_eq!(given, 5);
        assert_eq!(account.check(), Err(Unpaid { served_bytes: 5 * TICK_BYTES, ticks: 0 }));
        account.take(NODE, 0, &chain.tick(1).unwrap()).unwrap();
        assert!(account.check().is_ok());
    }

    #[test]
    fn a_tick_counts_once_and_only_along_its_chain() {
        let (chain, opening) = leaf(0, 100);
        let (other, second) = leaf(1, 100);
        let mut account = Account::of(TAB);
        let take = |account: &mut Account, leaf, tick: Tick| account.take(NODE, leaf, &tick);
        assert_eq!(take(&mut account, 0, chain.tick(1).unwrap()), Err(Untaken::Unknown(0)));
        account.open(opening.clone(), NONE).unwrap();
        assert_eq!(take(&mut account, 0, chain.tick(0).unwrap()), Ok((chain.tick(0).unwrap(), false)));
        for _ in 0..2 {
            assert_eq!(take(&mut account, 0, chain.tick(15).unwrap()), Ok((chain.tick(15).unwrap(), false)));
            assert_eq!(account.ticks(), 15);
        }
        assert_eq!(
            take(&mut account, 0, chain.tick(3).unwrap()),
            Ok((chain.tick(15).unwrap(), false)),
            "none goes back"
        );
        assert_eq!(take(&mut account, 0, chain.tick(16).unwrap()), Ok((chain.tick(16).unwrap(), true)), "to disk");
        let error = take(&mut account, 0, other.tick(17).unwrap()).unwrap_err();
        assert_eq!(error, Untaken::Tick(TickError::Value(17)));
        let error = take(&mut account, 0, chain.tick(81).unwrap()).unwrap_err();
        assert_eq!(error, Untaken::Tick(TickError::Far { known: 16, given: 81, most: 64 }));
        let beyond = Tick { index: 101, value: B256::ZERO };
        assert_eq!(take(&mut account, 0, beyond), Err(Untaken::Beyond { most: 100, found: 101 }));
        // Opened again it starts nowhere else.
        account.open(opening, NONE).unwrap();
        assert_eq!(account.ticks(), 16);
        account.open(second, NONE).unwrap();
        account.served_bytes = 30 * TICK_BYTES;
        take(&mut account, 1, other.tick(4).unwrap()).unwrap();
        assert_eq!((account.ticks(), account.owed_wei()), (20, 140));
        assert_eq!((account.served_of(0), account.served_of(1)), (26 * TICK_BYTES, 14 * TICK_BYTES));
        let back = Account::decode(&account.encode(KEY), NODE).unwrap();
        assert_eq!(back, (KEY, Account { unwritten: 0, is_changed: false, ..account }));
    }

    #[test]
    fn a_record_of_the_version_before_is_read_and_one_of_the_next_is_not() {
        let (chain, opening) = leaf(0, 100);
        let (tick, until_ms) = (chain.tick(9).unwrap(), 12);
        let record = |version| {
            let mut out = Writer::new();
            out.array(10).uint(version).bytes(TAB.as_slice()).uint(5).uint(11).uint(until_ms);
            out.uint(0).bytes(&opening.to_bytes()).uint(9).bytes(tick.value.as_slice()).uint(4);
            out.finish()
        };
        let (key, account) = Account::decode(&record(BY_TAB), NODE).unwrap();
        assert_eq!((key, account.tab, account.served_bytes), (Key(TAB), TAB, 5));
        assert_eq!((account.last_ms, account.until_ms, account.owed_wei()), (11, until_ms, 35));
        assert_eq!(Account::decode(&account.encode(key), NODE), Ok((key, account)));
        assert_eq!(Account::decode(&record(3), NODE), Err(BadRecord::Version(3)));
    }
}
