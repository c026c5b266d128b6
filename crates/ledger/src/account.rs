//! Sign and submit one account's transactions, in order.
//!
//! Nonces are handed out under one lock, so that concurrent callers of one process never collide; when another
//! process used the nonce first, in a block or in a mempool, the transaction is signed again with a fresh one.
//! Clones share the lock. What a mempool lost is sent again; what another validator's block displaced is told.

use alloy_consensus::{SignableTransaction, TxEip1559, TxEnvelope};
use alloy_eips::eip2718::Encodable2718;
use alloy_primitives::{Address, B256, Bytes, Signature, TxKind, U256, keccak256};
use futures::lock::Mutex;
use hodei_types::{
    chain::{Chain, ChainError, TxReceipt},
    ethereum::TRANSFER_GAS,
};
use secp256k1::{Message, SECP256K1, SecretKey};
use std::sync::Arc;

/// Paid to the leader per gas, in wei: above every mempool's floor, small against the base fee.
pub const TIP: u128 = 1_000_000_000;
/// Times a transaction is signed again: each needs another process that was faster in between.
const TRIES: u32 = 8;

/// Blocks without a receipt after which a transaction is sent again, and after which a displaced one is given up.
const AGAIN_BLOCKS: u64 = 16;
/// What a mempool says of what an account cannot pay, and how often it must say so in a row.
const UNFUNDED: &str = "insufficient funds";
const UNFUNDED_MAX: u32 = 2;

/// Most wei per gas a transaction offers at a base fee: twice of it rides out the blocks until inclusion; what is above
/// is not paid.
pub fn max_fee_per_gas(base_fee: u64) -> u128 {
    u128::from(base_fee) * 2 + TIP
}

/// Why a transaction did not do what was asked.
#[derive(Clone, Debug, thiserror::Error)]
pub enum AccountError {
    #[error("the account's secret is not a secp256k1 key")]
    Secret,
    #[error(transparent)]
    Chain(#[from] ChainError),
    /// It is in a block and reverted; the receipt's `output` holds the typed error.
    #[error("transaction {} reverted: 0x{}", .0.tx, hex(&.0.output))]
    Reverted(Box<TxReceipt>),
    /// It was handed in, and nobody could say since whether it is final: it may be executed yet.
    #[error("transaction {tx} was handed in and may be executed yet: {error}")]
    Pending { tx: B256, error: ChainError },
    /// Two processes of one account told two validators of one nonce, and the other's was taken.
    #[error("transaction {0} is in no block: another one of this account has its nonce")]
    Displaced(B256),
}

/// A transaction before it is signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Order {
    /// `None` creates a contract.
    pub to: Option<Address>,
    /// Wei.
    pub value: U256,
    pub data: Bytes,
    /// What is not used is not paid, but the account must be able to pay it.
    pub gas_limit: u64,
    /// Pays no tip, and so wakes no proposer: it rides in the next block, a second later at most.
    pub patient: bool,
}

impl Order {
    /// A call without value.
    pub fn call(to: Address, data: impl Into<Bytes>, gas_limit: u64) -> Self {
        Self { to: Some(to), value: U256::ZERO, data: data.into(), gas_limit, patient: false }
    }

    /// Coins to an account.
    pub fn transfer(to: Address, value: U256) -> Self {
        Self::call(to, Bytes::new(), TRANSFER_GAS).with_value(value)
    }

    pub fn patient(mut self) -> Self {
        self.patient = true;
        self
    }

    pub fn with_value(mut self, value: U256) -> Self {
        self.value = value;
        self
    }
}

/// An account this process signs for.
#[derive(Clone)]
pub struct Account {
    chain: Arc<dyn Chain>,
    secret: SecretKey,
    address: Address,
    /// The next nonce, once known.
    next: Arc<Mutex<Option<u64>>>,
}

impl Account {
    /// An account by its 32 byte secret.
    pub fn new(chain: Arc<dyn Chain>, secret: &[u8; 32]) -> Result<Self, AccountError> {
        let secret = SecretKey::from_byte_array(*secret).map_err(|_| AccountError::Secret)?;
        let address = address(&secret);
        Ok(Self { chain, secret, address, next: Arc::default() })
    }

    pub fn address(&self) -> Address {
        self.address
    }

    pub fn chain(&self) -> &Arc<dyn Chain> {
        &self.chain
    }

    /// Signs and submits; returns the hash once a mempool holds it.
    pub async fn submit(&self, order: &Order) -> Result<B256, AccountError> {
        Ok(self.send(order).await?.0)
    }

    /// The same, with what was sent.
    async fn send(&self, order: &Order) -> Result<(B256, Bytes), AccountError> {
        let mut head = self.chain.head().await?;
        let mut next = self.next.lock().await;
        let mut tries = 0;
        loop {
            let nonce = match *next {
                Some(nonce) => nonce,
                None => self.chain.account(self.address).await?.pending_nonce,
            };
            let raw = self.sign(order, head.chain_id, head.base_fee, nonce);
            let tx = keccak256(&raw);
            match self.chain.submit(raw.clone()).await {
                Ok(hash) => {
                    *next = Some(nonce + 1);
                    return Ok((hash, raw));
                }
                Err(ChainError::Refused(reason)) if is_taken(&reason) && tries < TRIES => {
                    // What took it may be in one mempool only: the next block tells everybody.
                    if tries > 0 {
                        head = self.chain.wait(head.height).await?;
                    }
                    *next = None;
                    tries += 1;
                }
                Err(error) => {
                    // Whether it arrived is unknown: ask for the nonce before the next one.
                    *next = None;
                    return Err(match error {
                        ChainError::Unavailable(_) => AccountError::Pending { tx, error },
                        error => error.into(),
                    });
                }
            }
        }
    }

    /// Submits and waits until it is finalized; a revert is an error. The wait has no end of its own.
    pub async fn execute(&self, order: &Order) -> Result<TxReceipt, AccountError> {
        let (hash, raw) = self.send(order).await?;
        self.settled(hash, raw).await.map_err(|error| match error {
            AccountError::Chain(error @ ChainError::Unavailable(_)) => AccountError::Pending { tx: hash, error },
            error => error,
        })
    }

    async fn settled(&self, hash: B256, raw: Bytes) -> Result<TxReceipt, AccountError> {
        let mut height = self.chain.head().await?.height;
        let mut again = height.saturating_add(AGAIN_BLOCKS);
        let (mut is_displaced, mut unfunded) = (false, 0);
        loop {
            match self.chain.receipt(hash).await? {
                Some(receipt) if receipt.success => return Ok(receipt),
                Some(receipt) => return Err(AccountError::Reverted(Box::new(receipt))),
                None if is_displaced && height >= again => {
                    *self.next.lock().await = None;
                    return Err(AccountError::Displaced(hash));
                }
                None => height = self.chain.wait(height).await?.height,
            }
            if !is_displaced && height >= again {
                again = height.saturating_add(AGAIN_BLOCKS);
                match self.chain.submit(raw.clone()).await {
                    // The nonce may be used by this very transaction, whose receipt then follows within some blocks.
                    Err(ChainError::Refused(reason)) if reason.contains("nonce too low") => is_displaced = true,
                    // Another transaction of the account spent what this one sends: no block takes it as things are.
                    Err(error @ ChainError::Refused(_)) if error.to_string().contains(UNFUNDED) => {
                        unfunded += 1;
                        if unfunded == UNFUNDED_MAX {
                            *self.next.lock().await = None;
                            return Err(AccountError::Pending { tx: hash, error });
                        }
                    }
                    _ => unfunded = 0,
                }
            }
        }
    }

    /// A recoverable signature over a hash, r ‖ s ‖ v with v 27 or 28: what modules take as consent.
    pub fn sign_hash(&self, hash: B256) -> [u8; 65] {
        let (recovery, bytes) =
            SECP256K1.sign_ecdsa_recoverable(Message::from_digest(hash.0), &self.secret).serialize_compact();
        let mut signature = [0; 65];
        signature[..64].copy_from_slice(&bytes);
        signature[64] = 27 + i32::from(recovery) as u8;
        signature
    }

    fn sign(&self, order: &Order, chain_id: u64, base_fee: u64, nonce: u64) -> Bytes {
        let tip = if order.patient { 0 } else { TIP };
        let transaction = TxEip1559 {
            chain_id,
            nonce,
            gas_limit: order.gas_limit,
            max_fee_per_gas: max_fee_per_gas(base_fee),
            max_priority_fee_per_gas: tip,
            to: order.to.map_or(TxKind::Create, TxKind::Call),
            value: order.value,
            access_list: Default::default(),
            input: order.data.clone(),
        };
        let message = Message::from_digest(transaction.signature_hash().0);
        let (recovery, bytes) = SECP256K1.sign_ecdsa_recoverable(message, &self.secret).serialize_compact();
        let signature = Signature::from_bytes_and_parity(&bytes, i32::from(recovery) & 1 == 1);
        TxEnvelope::from(transaction.into_signed(signature)).encoded_2718().into()
    }
}

/// Whether a refusal says that another transaction of the account has the nonce.
fn is_taken(reason: &str) -> bool {
    reason.contains("nonce too low") || reason.contains("replacement transaction underpriced")
}

impl std::fmt::Debug for Account {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Account({})", self.address)
    }
}

/// Who signed a message's keccak with 65 bytes, as modules see it; `None` where it is no signature, or has a high s.
pub fn signer_of(message: &[u8], signature: &[u8; 65]) -> Option<Address> {
    let signature = Signature::from_raw(signature).ok().filter(|signature| signature.normalize_s().is_none())?;
    alloy_consensus::crypto::secp256k1::recover_signer(&signature, keccak256(message)).ok()
}

/// The account behind a secret; `None` when the bytes are no secp256k1 key.
pub fn address_of(secret: &[u8; 32]) -> Option<Address> {
    SecretKey::from_byte_array(*secret).ok().map(|secret| address(&secret))
}

fn address(secret: &SecretKey) -> Address {
    let public = secret.public_key(SECP256K1).serialize_uncompressed();
    Address::from_slice(&keccak256(&public[1..])[12..])
}

fn hex(bytes: &[u8]) -> String {
    alloy_primitives::hex::encode(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloy_consensus::{Transaction, transaction::SignerRecoverable};
    use alloy_eips::eip2718::Decodable2718;
    use futures::{FutureExt, executor::block_on, future::BoxFuture};
    use hodei_types::chain::{AnchorProof, Head, Log, LogFilter};
    use std::sync::Mutex as Plain;

    /// Takes transactions in nonce order, and finalizes each at once.
    #[derive(Default)]
    struct OneAccount {
        taken: Plain<Vec<TxEnvelope>>,
        stolen: Plain<u64>,
        /// Times another's transaction is in the mempool already.
        busy: Plain<u32>,
    }

    impl OneAccount {
        fn nonce(&self) -> u64 {
            self.taken.lock().unwrap().len() as u64 + *self.stolen.lock().unwrap()
        }
    }

    impl Chain for OneAccount {
        fn head(&self) -> BoxFuture<'_, Result<Head, ChainError>> {
            let head = Head { height: 1, hash: B256::ZERO, time_ms: 0, base_fee: 7, chain_id: 5, genesis: B256::ZERO };
            async { Ok(head) }.boxed()
        }

        fn wait(&self, _: u64) -> BoxFuture<'_, Result<Head, ChainError>> {
            self.head()
        }

        fn certificate(&self, _: u64) -> BoxFuture<'_, Result<hodei_types::chain::Certificate, ChainError>> {
            unreachable!("an account signs, it proves nothing")
        }

        fn account(&self, _: Address) -> BoxFuture<'_, Result<hodei_types::chain::Account, ChainError>> {
            let nonce = self.nonce();
            async move { Ok(hodei_types::chain::Account { balance: U256::MAX, nonce, pending_nonce: nonce }) }.boxed()
        }

        fn submit(&self, raw: Bytes) -> BoxFuture<'_, Result<B256, ChainError>> {
            let transaction = TxEnvelope::decode_2718(&mut &raw[..]).expect("well formed");
            let mut busy = self.busy.lock().unwrap();
            let taken = if *busy > 0 {
                *busy -= 1;
                Err(ChainError::Refused("replacement transaction underpriced".into()))
            } else if transaction.nonce() < self.nonce() {
                Err(ChainError::Refused("nonce too low: next nonce 1, tx nonce 0".into()))
            } else {
                assert_eq!(transaction.nonce(), self.nonce(), "no gap");
                let hash = *transaction.tx_hash();
                self.taken.lock().unwrap().push(transaction);
                Ok(hash)
            };
            async { taken }.boxed()
        }

        fn receipt(&self, tx: B256) -> BoxFuture<'_, Result<Option<TxReceipt>, ChainError>> {
            let taken = self.taken.lock().unwrap();
            let found = taken.iter().find(|transaction| *transaction.tx_hash() == tx);
            let receipt = found.map(|transaction| TxReceipt {
                tx,
                height: 1,
                success: transaction.input().is_empty(),
                gas_used: 21_000,
                logs: vec![],
                output: transaction.input().clone(),
            });
            async { Ok(receipt) }.boxed()
        }

        fn call(&self, _: Address, _: Address, _: Bytes) -> BoxFuture<'_, Result<Bytes, ChainError>> {
            unreachable!("not asked")
        }

        fn logs(&self, _: LogFilter) -> BoxFuture<'_, Result<Vec<Log>, ChainError>> {
            unreachable!("not asked")
        }

        fn anchor(&self, _: u64, _: Bytes) -> BoxFuture<'_, Result<AnchorProof, ChainError>> {
            unreachable!("not asked")
        }
    }

    #[test]
    fn signatures_recover_to_the_account_and_nonces_follow() {
        let chain = Arc::new(OneAccount::default());
        // The address of secret 1 is known to everybody.
        let mut secret = [0; 32];
        secret[31] = 1;
        let account = Account::new(chain.clone(), &secret).unwrap();
        assert_eq!(account.address().to_string(), "0x7E5F4552091A69125d5DfCb7b8C2659029395Bdf");
        let order = Order::call(Address::ZERO, vec![], 21_000).with_value(U256::from(3));
        for _ in 0..3 {
            block_on(account.execute(&order)).unwrap();
        }
        for transaction in chain.taken.lock().unwrap().iter() {
            assert_eq!(transaction.recover_signer().unwrap(), account.address());
            assert_eq!(transaction.chain_id(), Some(5));
        }
    }

    /// Two validators' mempools: the one that is asked first loses what it is told, or is told too late.
    #[derive(Default)]
    struct Unlucky {
        height: Plain<u64>,
        told: Plain<Vec<Bytes>>,
        /// Another process's transaction is in a block.
        is_displaced: bool,
        /// It spent what was to be sent.
        is_spent: bool,
    }

    impl Chain for Unlucky {
        fn head(&self) -> BoxFuture<'_, Result<Head, ChainError>> {
            self.wait(0)
        }

        fn wait(&self, _: u64) -> BoxFuture<'_, Result<Head, ChainError>> {
            let mut height = self.height.lock().unwrap();
            *height += 1;
            let (hash, genesis) = (B256::ZERO, B256::ZERO);
            let head = Head { height: *height, hash, time_ms: 0, base_fee: 7, chain_id: 5, genesis };
            async { Ok(head) }.boxed()
        }

        fn certificate(&self, _: u64) -> BoxFuture<'_, Result<hodei_types::chain::Certificate, ChainError>> {
            unreachable!("an account signs, it proves nothing")
        }

        fn account(&self, _: Address) -> BoxFuture<'_, Result<hodei_types::chain::Account, ChainError>> {
            async { Ok(hodei_types::chain::Account::default()) }.boxed()
        }

        fn submit(&self, raw: Bytes) -> BoxFuture<'_, Result<B256, ChainError>> {
            let hash = keccak256(&raw);
            let mut told = self.told.lock().unwrap();
            told.push(raw);
            let refusal = match (told.len(), self.is_displaced, self.is_spent) {
                (2.., true, _) => Some("nonce too low"),
                (2.., _, true) => Some("insufficient funds for gas * price + value: balance 1, tx cost 2"),
                _ => None,
            };
            let taken = refusal.map_or(Ok(hash), |refusal| Err(ChainError::Refused(refusal.into())));
            async { taken }.boxed()
        }

        fn receipt(&self, tx: B256) -> BoxFuture<'_, Result<Option<TxReceipt>, ChainError>> {
            let is_there = !self.is_displaced && !self.is_spent && self.told.lock().unwrap().len() > 1;
            let receipt = TxReceipt { tx, height: 9, success: true, gas_used: 0, logs: vec![], output: Bytes::new() };
            async move { Ok(is_there.then_some(receipt)) }.boxed()
        }

        fn call(&self, _: Address, _: Address, _: Bytes) -> BoxFuture<'_, Result<Bytes, ChainError>> {
            unreachable!("not asked")
        }

        fn logs(&self, _: LogFilter) -> BoxFuture<'_, Result<Vec<Log>, ChainError>> {
            unreachable!("not asked")
        }

        fn anchor(&self, _: u64, _: Bytes) -> BoxFuture<'_, Result<AnchorProof, ChainError>> {
            unreachable!("not asked")
        }
    }

    #[test]
    fn what_a_mempool_lost_is_sent_again_and_what_was_displaced_is_told() {
        let order = Order::call(Address::ZERO, vec![], 21_000);
        let lost = Arc::new(Unlucky::default());
        block_on(Account::new(lost.clone(), &[9; 32]).unwrap().execute(&order)).expect("the second time it is kept");
        let told = lost.told.lock().unwrap();
        assert_eq!((told.len(), &told[0]), (2, &told[1]), "the very same, which can happen once only");

        let displaced = Arc::new(Unlucky { is_displaced: true, ..Unlucky::default() });
        let error = block_on(Account::new(displaced.clone(), &[9; 32]).unwrap().execute(&order)).unwrap_err();
        assert!(matches!(error, AccountError::Displaced(_)), "{error}");
        assert_eq!(displaced.told.lock().unwrap().len(), 2, "and nothing else was signed");

        // What another transaction of the account spent meanwhile is waited for no longer.
        let spent = Arc::new(Unlucky { is_spent: true, ..Unlucky::default() });
        let error = block_on(Account::new(spent.clone(), &[9; 32]).unwrap().execute(&order)).unwrap_err();
        assert!(matches!(&error, AccountError::Pending { error: ChainError::Refused(_), .. }), "{error}");
        assert_eq!(spent.told.lock().unwrap().len() as u32, 1 + UNFUNDED_MAX);
    }

    #[test]
    fn a_nonce_used_elsewhere_is_signed_again_and_a_revert_is_an_error() {
        let chain = Arc::new(OneAccount::default());
        let account = Account::new(chain.clone(), &[9; 32]).unwrap();
        let order = Order::call(Address::ZERO, vec![], 21_000);
        block_on(account.execute(&order)).unwrap();
        *chain.stolen.lock().unwrap() = 2;
        block_on(account.execute(&order)).expect("signed again with the next free nonce");
        assert_eq!(chain.taken.lock().unwrap().last().unwrap().nonce(), 3);
        *chain.busy.lock().unwrap() = TRIES;
        block_on(account.execute(&order)).expect("another's is in the mempool, and then no more");
        *chain.busy.lock().unwrap() = TRIES + 1;
        assert!(matches!(block_on(account.execute(&order)), Err(AccountError::Chain(ChainError::Refused(_)))));

        let revert = Order::call(Address::ZERO, vec![1, 2], 21_000);
        assert!(matches!(block_on(account.execute(&revert)), Err(AccountError::Reverted(_))));
        assert!(matches!(Account::new(chain, &[0; 32]), Err(AccountError::Secret)));
    }
}
