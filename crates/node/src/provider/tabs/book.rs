//! Keep the accounts of all tabs, a bucket's apart from another's.
//!
//! Whose bucket it is lets somebody read, and names any tab as what pays: counted by the tab alone, a stranger's would be
//! used up so. A tab that has shown a leaf is on the ledger, with coin; one that has not may be nothing, and takes room
//! among its like alone.

use super::account::{Account, Untaken};
use alloy_primitives::{B256, keccak256};
use hodei_types::tab::{Opening, Tick};
use std::collections::{BTreeMap, VecDeque};

/// Tabs remembered that showed a leaf; one more forgets who is owed least, and was served least.
const ACCOUNTS_MAX: usize = 65_536;
/// Tabs that showed none: one more forgets the first that came.
const BARE_MAX: usize = 4_096;

/// Which account: keccak of bucket 32 ‖ tab 32.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Key(pub(super) B256);

impl Key {
    pub(super) fn of(bucket: B256, tab: B256) -> Self {
        Self(keccak256([bucket.0, tab.0].concat()))
    }
}

/// All tabs.
#[derive(Debug, Default)]
pub(super) struct Book {
    accounts: BTreeMap<Key, Account>,
    /// Of tabs that showed no leaf: they read on credit alone, and are not written down.
    bare: BTreeMap<Key, Account>,
    /// Those, as they came.
    came: VecDeque<Key>,
}

impl Book {
    pub(super) fn get(&self, key: &Key) -> Option<&Account> {
        self.accounts.get(key).or_else(|| self.bare.get(key))
    }

    /// The account of a tab, to change it; a new one is empty.
    pub(super) fn of(&mut self, key: Key, tab: B256) -> &mut Account {
        if self.accounts.contains_key(&key) {
            let account = self.accounts.entry(key).or_default();
            account.changed();
            return account;
        }
        if !self.bare.contains_key(&key) {
            if self.bare.len() >= BARE_MAX
                && let Some(first) = self.came.pop_front()
            {
                self.bare.remove(&first);
            }
            self.came.push_back(key);
        }
        self.bare.entry(key).or_insert_with(|| Account::of(tab))
    }

    /// Takes a leaf of a tab that was checked against it, and the last tick that the ledger paid of it.
    pub(super) fn open(&mut self, key: Key, tab: B256, opening: Opening, claimed: Tick) -> Result<(), Untaken> {
        if !self.accounts.contains_key(&key) {
            let bare = self.bare.remove(&key);
            self.came.retain(|came| *came != key);
            self.set(key, bare.unwrap_or_else(|| Account::of(tab)));
        }
        self.of(key, tab).open(opening, claimed)
    }

    /// Puts an account that showed a leaf.
    pub(super) fn set(&mut self, key: Key, account: Account) {
        if self.accounts.len() >= ACCOUNTS_MAX && !self.accounts.contains_key(&key) {
            let least = self.accounts.iter().min_by_key(|(_, account)| (account.owed_wei(), account.served_bytes));
            let least = least.map(|(key, _)| *key);
            least.and_then(|key| self.accounts.remove(&key));
        }
        self.accounts.insert(key, account);
    }

    /// Notes that the ledger paid so many ticks of a leaf.
    pub(super) fn claimed(&mut self, key: &Key, leaf: u32, index: u32) {
        if let Some(account) = self.accounts.get_mut(key)
            && let Some(paid) = account.leaves.get_mut(&leaf)
        {
            paid.claimed = paid.claimed.max(index);
            account.changed();
        }
    }

    pub(super) fn remove(&mut self, key: &Key) {
        self.accounts.remove(key);
    }

    /// Those that showed a leaf.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&Key, &Account)> {
        self.accounts.iter()
    }

    /// Accounts that are not on disk as they are.
    pub(super) fn changed(&self) -> Vec<Key> {
        self.accounts.iter().filter(|(_, account)| account.is_changed()).map(|(key, _)| *key).collect()
    }

    /// An account's record, which is about to be written.
    pub(super) fn record(&mut self, key: &Key) -> Option<Vec<u8>> {
        let account = self.accounts.get_mut(key)?;
        account.written();
        Some(account.encode(*key))
    }

    /// These were not written: they are with the next tick.
    pub(super) fn unwritten(&mut self, keys: &[Key]) {
        for key in keys {
            if let Some(account) = self.accounts.get_mut(key) {
                account.unwritten();
            }
        }
    }

    pub(super) fn owed_wei(&self) -> u128 {
        self.accounts.values().fold(0, |sum, account| sum.saturating_add(account.owed_wei()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloy_primitives::U256;
    use hodei_types::tab::{Chain, Leaf, TICK_BYTES, Tree};

    const TAB: B256 = B256::repeat_byte(1);
    const NODE: B256 = B256::repeat_byte(2);
    /// Of a leaf that nobody claimed from.
    const NONE: Tick = Tick { index: 0, value: B256::ZERO };

    fn key(at: u64) -> Key {
        Key(B256::from(U256::from(at)))
    }

    fn leaf() -> (Chain, Opening) {
        let chain = Chain::prepare(&[3; 32], TAB, NODE, 0, 100).unwrap();
        let leaf = Leaf { provider: NODE, anchor: chain.anchor(), ticks: 100, price: 7 };
        (chain, Tree::build(vec![leaf; 2]).unwrap().opening(0).unwrap())
    }

    #[test]
    fn what_the_ledger_paid_of_a_forgotten_leaf_is_taken_no_second_time() {
        let (chain, opening) = leaf();
        let mut book = Book::default();
        book.of(key(1), TAB).served_bytes = TICK_BYTES;
        book.open(key(1), TAB, opening.clone(), chain.tick(40).unwrap()).unwrap();
        let account = book.of(key(1), TAB);
        assert_eq!((account.ticks(), account.served_bytes, account.owed_wei()), (40, 41 * TICK_BYTES, 0));
        assert_eq!(account.take(NODE, 0, &chain.tick(7).unwrap()), Ok((chain.tick(40).unwrap(), false)));
        account.take(NODE, 0, &chain.tick(42).unwrap()).unwrap();
        assert_eq!(account.owed_wei(), 14);
        // What is known here counts, not what the ledger knew when it was asked again.
        book.open(key(1), TAB, opening, chain.tick(41).unwrap()).unwrap();
        assert_eq!(book.of(key(1), TAB).served_bytes, 41 * TICK_BYTES);
        assert_eq!(book.owed_wei(), 14);
    }

    #[test]
    fn two_buckets_count_one_tab_apart() {
        let [mine, strangers] = [3, 4].map(|bucket| Key::of(B256::repeat_byte(bucket), TAB));
        let mut book = Book::default();
        book.of(strangers, TAB).served_bytes = 9 * TICK_BYTES;
        assert!(book.get(&mine).is_none() && book.get(&strangers).unwrap().check().is_err());
    }

    #[test]
    fn a_full_book_forgets_who_is_owed_nothing_and_who_showed_no_leaf_pushes_out_only_such() {
        let mut book = Book::default();
        let (chain, opening) = leaf();
        book.open(key(0), TAB, opening, NONE).unwrap();
        book.of(key(0), TAB).take(NODE, 0, &chain.tick(1).unwrap()).unwrap();
        for at in 1..=BARE_MAX as u64 + 1 {
            book.of(key(at), TAB).served_bytes = 1;
        }
        assert!(book.get(&key(1)).is_none(), "the first that came");
        assert!(book.get(&key(2)).is_some() && book.get(&key(BARE_MAX as u64 + 1)).is_some());
        assert_eq!((book.iter().count(), book.changed()), (1, vec![key(0)]), "nothing of them is written");
        for at in 1..=ACCOUNTS_MAX as u64 {
            let mut account = Account::of(TAB);
            account.served_bytes = 1;
            book.set(key(at), account);
        }
        assert_eq!((book.iter().count(), book.owed_wei()), (ACCOUNTS_MAX, 7));
        assert!(book.get(&key(0)).is_some());
    }

    #[test]
    fn what_could_not_be_written_is_still_to_be() {
        let mut book = Book::default();
        let (chain, opening) = leaf();
        book.open(key(0), TAB, opening, NONE).unwrap();
        book.of(key(0), TAB).take(NODE, 0, &chain.tick(16).unwrap()).unwrap();
        assert!(book.record(&key(0)).is_some() && book.changed().is_empty());
        book.unwritten(&[key(0), key(1)]);
        assert_eq!(book.changed(), [key(0)]);
        let last = chain.tick(16).unwrap();
        assert_eq!(book.of(key(0), TAB).take(NODE, 0, &last), Ok((last, true)), "with the next tick");
    }
}
