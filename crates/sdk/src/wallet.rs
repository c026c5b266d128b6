//! Spend from an account that its owner can cap.
//!
//! The main key stays in its sealed file; everyday work is paid by a *spending account* that the main
//! account funds through the `budgets` module. The cap is that account's balance on the ledger, not a check
//! in this program. A wallet without the main key can spend up to the cap and do nothing else with it.

use crate::fault::Fault;
use alloy_primitives::{Address, B256, U256, keccak256};
use alloy_sol_types::SolCall;
use hodei_ledger::account::{Account, Order, TIP};
use hodei_types::{
    abi::{BUDGETS, IBudgets, spender_consent},
    call::ask,
    chain::{Chain, TxReceipt},
    key::{KeyKind, SecretKey},
};
use std::sync::{Arc, RwLock};
use zeroize::Zeroizing;

/// Gas of one `budgets` call: a handful of slots; what is left is not paid.
const BUDGET_GAS: u64 = 500_000;
/// Digits after the point of a coin.
pub const DECIMALS: u32 = 18;

/// The keys of one identity on one network; clones share the nonce lock, and what they spend from.
#[derive(Clone)]
pub struct Wallet {
    chain: Arc<dyn Chain>,
    owner: Address,
    /// Absent where only the spending account is known.
    main: Option<Account>,
    spender: Arc<RwLock<Account>>,
    /// Signs grants: the main key's where it is known, else the spending account's.
    signing: SecretKey,
    data: SecretKey,
}

/// A spending account and what it has left.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Budget {
    pub owner: Address,
    pub spender: Address,
    /// Wei.
    pub left: U256,
}

impl Wallet {
    /// Pays everything from the main account itself: no cap.
    pub fn open(chain: Arc<dyn Chain>, account: &SecretKey) -> Result<Self, Fault> {
        let main = key(chain.clone(), account)?;
        let (owner, spender, signing) = (main.address(), Arc::new(RwLock::new(main.clone())), account.clone());
        Ok(Self { chain, owner, spender, main: Some(main), signing, data: account.data_root() })
    }

    /// Pays from `spender`, for the identity `owner`; `data` opens that identity's buckets.
    pub fn capped(chain: Arc<dyn Chain>, owner: Address, spender: &SecretKey, data: &SecretKey) -> Result<Self, Fault> {
        if data.kind != KeyKind::Data {
            return Err(Fault::Key("the data root is a key of another kind"));
        }
        let account = Arc::new(RwLock::new(key(chain.clone(), spender)?));
        Ok(Self { chain, owner, main: None, spender: account, signing: spender.clone(), data: data.clone() })
    }

    /// Both: everyday work is capped, the owner's acts are possible.
    pub fn with_spender(mut self, spender: &SecretKey) -> Result<Self, Fault> {
        self.spender = Arc::new(RwLock::new(key(self.chain.clone(), spender)?));
        Ok(self)
    }

    /// From now on this wallet and its clones spend from `spender`, once the ledger says that it is a budget of the
    /// owner. Tells whether they do.
    pub async fn spend_from(&self, spender: &SecretKey) -> Result<bool, Fault> {
        let account = key(self.chain.clone(), spender)?;
        if account.address() == self.spender().address() {
            return Ok(true);
        }
        let owner = ask(&*self.chain, BUDGETS, &IBudgets::ownerOfCall { spender: account.address() }).await?;
        if owner != self.owner {
            return Ok(false);
        }
        *self.spender.write().expect("no panic under this lock") = account;
        Ok(true)
    }

    /// Whose buckets and deals these are.
    pub fn owner(&self) -> Address {
        self.owner
    }

    /// The account everyday work is paid from.
    pub fn spender(&self) -> Account {
        self.spender.read().expect("no panic under this lock").clone()
    }

    pub fn main(&self) -> Option<&Account> {
        self.main.as_ref()
    }

    pub fn chain(&self) -> &Arc<dyn Chain> {
        &self.chain
    }

    /// Signs what lets a client act on the owner's shards.
    pub(crate) fn signing(&self) -> &SecretKey {
        &self.signing
    }

    pub(crate) fn data(&self) -> &SecretKey {
        &self.data
    }

    /// The Ed25519 seed of the key by which this identity reads under passes, on the network of that genesis: one for
    /// all its commands and machines, so that what a pass names outlives any of them.
    pub fn reader_seed(&self, genesis: &B256) -> Zeroizing<[u8; 32]> {
        let mut hasher = blake3::Hasher::new_derive_key("hodei 2026 reader's key on the wire v1");
        hasher.update(self.data.bytes());
        hasher.update(genesis.as_slice());
        Zeroizing::new(*hasher.finalize().as_bytes())
    }

    /// The Ed25519 seed of the key by which this identity reads what its app of that name prints.
    pub(crate) fn viewer_seed(&self, genesis: &B256, app: &str) -> Zeroizing<[u8; 32]> {
        let mut hasher = blake3::Hasher::new_derive_key("hodei 2026 viewer's key of an app v1");
        hasher.update(self.data.bytes());
        hasher.update(genesis.as_slice());
        hasher.update(app.as_bytes());
        Zeroizing::new(*hasher.finalize().as_bytes())
    }

    /// Wei of the owner's main account.
    pub async fn balance(&self) -> Result<U256, Fault> {
        Ok(self.chain().account(self.owner).await?.balance)
    }

    /// What the spending account has left.
    pub async fn budget(&self) -> Result<Budget, Fault> {
        let spender = self.spender().address();
        Ok(Budget { owner: self.owner, spender, left: self.chain().account(spender).await?.balance })
    }

    /// Sends wei from the main account; returns once final.
    pub async fn send(&self, to: Address, amount: U256) -> Result<TxReceipt, Fault> {
        let main = self.main.as_ref().ok_or(Fault::NeedsOwner)?;
        let has = self.balance().await?;
        if has < amount {
            return Err(Fault::Funds { has, needs: amount, is_budget: false });
        }
        Ok(main.execute(&Order::transfer(to, amount)).await?)
    }

    /// Makes the spending account's balance `cap`: registers it if it is nobody's yet, adds or takes back
    /// the difference. Needs the main key.
    pub async fn set_budget(&self, cap: U256) -> Result<Budget, Fault> {
        let main = self.main.as_ref().ok_or(Fault::NeedsOwner)?;
        let spender = self.spender().address();
        if spender == self.owner {
            return Err(Fault::Key("a budget needs a spending account of its own"));
        }
        let chain = self.chain();
        let owner = ask(&**chain, BUDGETS, &IBudgets::ownerOfCall { spender }).await?;
        let left = chain.account(spender).await?.balance;
        let missing = cap.saturating_sub(left);
        if missing > U256::ZERO {
            let has = self.balance().await?;
            if has < missing {
                return Err(Fault::Funds { has, needs: missing, is_budget: false });
            }
        }
        let order = if owner == Address::ZERO {
            let head = chain.head().await?;
            let statement = keccak256(spender_consent(head.chain_id, self.owner, spender));
            let consent = self.spender().sign_hash(statement).into();
            Order::call(BUDGETS, IBudgets::registerCall { spender, consent }.abi_encode(), BUDGET_GAS)
                .with_value(missing)
        } else if owner != self.owner {
            return Err(Fault::Key("the spending account belongs to somebody else"));
        } else if missing > U256::ZERO {
            Order::call(BUDGETS, IBudgets::fundCall { spender }.abi_encode(), BUDGET_GAS).with_value(missing)
        } else if left > cap {
            // Doors may spend of it at this moment.
            let amount = if cap.is_zero() { U256::MAX } else { left - cap };
            Order::call(BUDGETS, IBudgets::reclaimCall { spender, amount }.abi_encode(), BUDGET_GAS)
        } else {
            return self.budget().await;
        };
        main.execute(&order).await?;
        self.budget().await
    }
}

/// The account behind a secret; `None` when it is no account's.
pub fn address(secret: &SecretKey) -> Option<Address> {
    (secret.kind == KeyKind::Account).then(|| hodei_ledger::account::address_of(secret.bytes())).flatten()
}

fn key(chain: Arc<dyn Chain>, secret: &SecretKey) -> Result<Account, Fault> {
    if secret.kind != KeyKind::Account {
        return Err(Fault::Key("an account needs a key of kind account"));
    }
    Ok(Account::new(chain, secret.bytes())?)
}

/// Wei that so much gas costs at a base fee, with the tip this process gives.
pub fn fee(gas: u64, base_fee: u64) -> U256 {
    U256::from(gas) * (U256::from(base_fee) + U256::from(TIP))
}

/// Wei as coins, without trailing zeros: `1.5`.
pub fn format_coins(wei: U256) -> String {
    let text = format!("{wei:0>19}");
    let (whole, part) = text.split_at(text.len() - DECIMALS as usize);
    let part = part.trim_end_matches('0');
    if part.is_empty() { whole.into() } else { format!("{whole}.{part}") }
}

/// Coins as wei; `None` if it is not a number, or has more than 18 digits after the point.
pub fn parse_coins(text: &str) -> Option<U256> {
    let (whole, part) = text.split_once('.').unwrap_or((text, ""));
    let digits = |s: &str| s.bytes().all(|b| b.is_ascii_digit());
    if whole.is_empty() || !digits(whole) || !digits(part) || part.len() > DECIMALS as usize {
        return None;
    }
    if text.ends_with('.') || whole.len() > 40 {
        return None;
    }
    U256::from_str_radix(&format!("{whole}{part:0<18}"), 10).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn coins_round_trip_as_text() {
        for (text, wei) in [
            ("0", 0u128),
            ("1", 1_000_000_000_000_000_000),
            ("1.5", 1_500_000_000_000_000_000),
            ("0.000000000000000001", 1),
            ("123.000001", 123_000_001_000_000_000_000),
        ] {
            assert_eq!(parse_coins(text), Some(U256::from(wei)), "{text}");
            assert_eq!(format_coins(U256::from(wei)), text);
        }
        for text in ["", ".5", "1.", "-1", "1e3", "0.0000000000000000001", "１"] {
            assert_eq!(parse_coins(text), None, "{text}");
        }
    }
}
