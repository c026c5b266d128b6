//! Hold what was loaded and what was written, and note what a run missed.

use alloy_primitives::{Address, B256, Bytes, KECCAK256_EMPTY, U256, keccak256};
use revm::{
    Database as RevmDatabase,
    primitives::AddressMap,
    state::{Account as EvmAccount, AccountInfo, Bytecode},
};
use std::collections::{BTreeMap, BTreeSet};

use super::key::{Account, Key, account_key, decode_slot, encode_slot, slot_key};
use crate::modules;

/// What must be loaded before a run can be trusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Need {
    /// A value of the state, or its absence.
    Key(Key),
    /// Code by its keccak.
    Code(B256),
}

/// The part of the parent's state that was loaded.
#[derive(Clone, Debug, Default)]
pub struct View {
    values: BTreeMap<Key, Option<Vec<u8>>>,
    codes: BTreeMap<B256, Bytes>,
}

impl View {
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the parent's value of `key`; `None` if absent.
    pub fn load(&mut self, key: Key, value: Option<Vec<u8>>) {
        self.values.insert(key, value);
    }

    /// Takes code by its keccak.
    pub fn load_code(&mut self, hash: B256, code: Bytes) {
        self.codes.insert(hash, code);
    }

    /// Takes everything another block wrote on top of what was loaded.
    pub fn advance(&mut self, writes: &BTreeMap<Key, Option<Vec<u8>>>, codes: &[(B256, Bytes)]) {
        self.values.extend(writes.iter().map(|(key, value)| (*key, value.clone())));
        self.codes.extend(codes.iter().cloned());
    }

    /// Whether `need` was loaded.
    pub fn has(&self, need: &Need) -> bool {
        match need {
            Need::Key(key) => self.values.contains_key(key),
            Need::Code(hash) => self.codes.contains_key(hash),
        }
    }
}

/// What a block's writes replaced, in the order of keys; `None` where nothing was.
pub type Undo = Vec<(Key, Option<Vec<u8>>)>;

/// The view with a block's writes over it.
#[derive(Clone, Debug, Default)]
pub(super) struct State {
    pub(super) view: View,
    writes: BTreeMap<Key, Option<Vec<u8>>>,
    codes: BTreeMap<B256, Bytes>,
}

/// A value of the state does not decode: the database is damaged, or written by another program.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("state value at {0} does not decode")]
pub(super) struct Corrupt(Key);

impl revm::context::DBErrorMarker for Corrupt {}

impl State {
    pub(super) fn new(view: View) -> Self {
        Self { view, ..Self::default() }
    }

    /// `None`: not loaded. `Some(None)`: absent.
    fn read(&self, key: &Key) -> Option<Option<&[u8]>> {
        self.writes.get(key).or_else(|| self.view.values.get(key)).map(|value| value.as_deref())
    }

    /// Writes an account; `None` if what it replaces was never loaded.
    pub(super) fn put_account(&mut self, address: Address, account: &Account) {
        self.put(account_key(address), (!account.is_empty()).then(|| account.encode()));
    }

    pub(super) fn put_code(&mut self, hash: B256, code: Bytes) {
        self.codes.entry(hash).or_insert(code);
    }

    fn put(&mut self, key: Key, value: Option<Vec<u8>>) {
        self.writes.insert(key, value);
    }

    /// Takes what a finished transaction changed.
    pub(super) fn commit(&mut self, changes: AddressMap<EvmAccount>) {
        let sorted: BTreeMap<Address, EvmAccount> = changes.into_iter().filter(|(_, a)| a.is_touched()).collect();
        for (address, account) in sorted {
            if account.is_selfdestructed() {
                // Only contracts created in this very transaction go: they have nothing in the state but what
                // a sender gave them before.
                self.put_account(address, &Account::default());
                continue;
            }
            let info = &account.info;
            let code_hash = if info.code_hash.is_zero() { KECCAK256_EMPTY } else { info.code_hash };
            if account.is_created()
                && code_hash != KECCAK256_EMPTY
                && let Some(code) = &info.code
            {
                self.put_code(code_hash, code.original_bytes());
            }
            self.put_account(address, &Account { nonce: info.nonce, balance: info.balance, code_hash });
            for (slot, value) in account.changed_storage_slots() {
                self.put(slot_key(address, *slot), encode_slot(value.present_value()));
            }
        }
    }

    /// What changed against the view, what that replaced, and new code.
    pub(super) fn into_writes(self) -> (BTreeMap<Key, Option<Vec<u8>>>, Undo, Vec<(B256, Bytes)>) {
        let Self { mut view, mut writes, codes } = self;
        let mut undo = Undo::new();
        writes.retain(|key, value| {
            // What was written unread is a slot of a contract made in this block: nothing was there.
            let before = view.values.remove(key);
            let changed = before.as_ref() != Some(value);
            if changed {
                undo.push((*key, before.flatten()));
            }
            changed
        });
        (writes, undo, codes.into_iter().collect())
    }
}

/// What the EVM reads from: misses read as nothing and are noted, their run is thrown away.
#[derive(Debug)]
pub(super) struct Reads<'a> {
    pub(super) state: &'a mut State,
    pub(super) missing: BTreeSet<Need>,
}

impl<'a> Reads<'a> {
    pub(super) fn new(state: &'a mut State) -> Self {
        Self { state, missing: BTreeSet::new() }
    }

    fn get(&mut self, key: Key) -> Option<&[u8]> {
        match self.state.read(&key) {
            Some(value) => value,
            None => {
                self.missing.insert(Need::Key(key));
                None
            }
        }
    }

    pub(super) fn account(&mut self, address: Address) -> Result<Option<Account>, Corrupt> {
        let key = account_key(address);
        self.get(key).map(|bytes| Account::decode(bytes).ok_or(Corrupt(key))).transpose()
    }

    pub(super) fn slot(&mut self, address: Address, slot: U256) -> Result<U256, Corrupt> {
        let key = slot_key(address, slot);
        self.get(key).map_or(Ok(U256::ZERO), |bytes| decode_slot(bytes).ok_or(Corrupt(key)))
    }
}

impl RevmDatabase for Reads<'_> {
    type Error = Corrupt;

    fn basic(&mut self, address: Address) -> Result<Option<AccountInfo>, Corrupt> {
        Ok(self.account(address)?.map(|account| AccountInfo {
            balance: account.balance,
            nonce: account.nonce,
            code_hash: account.code_hash,
            ..AccountInfo::default().without_code()
        }))
    }

    fn code_by_hash(&mut self, hash: B256) -> Result<Bytecode, Corrupt> {
        if hash == KECCAK256_EMPTY || hash.is_zero() {
            return Ok(Bytecode::new());
        }
        if hash == keccak256(modules::CODE) {
            return Ok(Bytecode::new_legacy(Bytes::from_static(&modules::CODE)));
        }
        match self.state.codes.get(&hash).or_else(|| self.state.view.codes.get(&hash)) {
            Some(code) => Ok(Bytecode::new_legacy(code.clone())),
            None => {
                self.missing.insert(Need::Code(hash));
                Ok(Bytecode::new())
            }
        }
    }

    fn storage(&mut self, address: Address, slot: U256) -> Result<U256, Corrupt> {
        self.slot(address, slot)
    }

    fn block_hash(&mut self, number: u64) -> Result<B256, Corrupt> {
        let (address, slot) = modules::queue::block_hash_slot(number);
        Ok(B256::from(self.slot(address, slot)?))
    }
}
