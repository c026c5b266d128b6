//! Name every value of the state, and fix its bytes.
//!
//! One ordered keyspace holds accounts and slots: key = keccak(tag ‖ address ‖ slot). An account is 72 bytes
//! (nonce, balance, code hash, big-endian), a slot's value its big-endian bytes without leading zeros; an empty
//! account and a zero slot are absent.

use alloy_primitives::{Address, B256, KECCAK256_EMPTY, U256, keccak256};

/// Where a value is in the state's database.
pub type Key = B256;

const TAG_ACCOUNT: u8 = 1;
const TAG_SLOT: u8 = 2;
const ACCOUNT_BYTES: usize = 8 + 32 + 32;

/// Coin, nonce and code of one address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Account {
    pub nonce: u64,
    /// Wei.
    pub balance: U256,
    pub code_hash: B256,
}

impl Default for Account {
    fn default() -> Self {
        Self { nonce: 0, balance: U256::ZERO, code_hash: KECCAK256_EMPTY }
    }
}

impl Account {
    /// Absent from the state, as EIP-161 wants it.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(ACCOUNT_BYTES);
        out.extend_from_slice(&self.nonce.to_be_bytes());
        out.extend_from_slice(&self.balance.to_be_bytes::<32>());
        out.extend_from_slice(self.code_hash.as_slice());
        out
    }

    /// `None` unless these are the 72 bytes of an account.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let bytes: &[u8; ACCOUNT_BYTES] = bytes.try_into().ok()?;
        Some(Self {
            nonce: u64::from_be_bytes(bytes[..8].try_into().ok()?),
            balance: U256::from_be_slice(&bytes[8..40]),
            code_hash: B256::from_slice(&bytes[40..]),
        })
    }
}

/// Where an account stands.
pub fn account_key(address: Address) -> Key {
    let mut input = [0; 21];
    input[0] = TAG_ACCOUNT;
    input[1..].copy_from_slice(address.as_slice());
    keccak256(input)
}

/// Where a storage slot of an account stands.
pub fn slot_key(address: Address, slot: U256) -> Key {
    let mut input = [0; 53];
    input[0] = TAG_SLOT;
    input[1..21].copy_from_slice(address.as_slice());
    input[21..].copy_from_slice(&slot.to_be_bytes::<32>());
    keccak256(input)
}

/// A slot's value as stored; `None` deletes.
pub fn encode_slot(value: U256) -> Option<Vec<u8>> {
    (!value.is_zero()).then(|| value.to_be_bytes_trimmed_vec())
}

/// `None` if longer than 32 bytes, or with a leading zero.
pub fn decode_slot(bytes: &[u8]) -> Option<U256> {
    if bytes.len() > 32 || bytes.first() == Some(&0) {
        return None;
    }
    Some(U256::from_be_slice(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_survive_and_garbage_is_refused() {
        let account = Account { nonce: 7, balance: U256::from(1u128 << 90), code_hash: B256::repeat_byte(3) };
        assert_eq!(Account::decode(&account.encode()), Some(account));
        assert_eq!(Account::decode(&account.encode()[1..]), None);
        for value in [U256::from(1), U256::MAX, U256::from(256)] {
            assert_eq!(decode_slot(&encode_slot(value).unwrap()), Some(value));
        }
        assert_eq!(encode_slot(U256::ZERO), None);
        assert_eq!(decode_slot(&[0, 1]), None);
        assert_eq!(decode_slot(&[1; 33]), None);
    }

    #[test]
    fn accounts_and_slots_never_share_a_key() {
        let address = Address::repeat_byte(1);
        assert_ne!(account_key(address), slot_key(address, U256::ZERO));
        assert_ne!(slot_key(address, U256::ZERO), slot_key(address, U256::from(1)));
    }
}
