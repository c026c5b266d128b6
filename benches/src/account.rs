//! Sign transactions as a wallet does.

use alloy_consensus::{SignableTransaction as _, TxEip1559, TxEnvelope};
use alloy_eips::eip2718::Encodable2718 as _;
use alloy_primitives::{Address, B256, Bytes, Signature, TxKind, U256, keccak256};
use anyhow::Result;
use secp256k1::{Message, PublicKey, SECP256K1, SecretKey};

/// A transaction before it is signed.
#[derive(Clone)]
pub(crate) struct Call {
    pub(crate) to: Address,
    pub(crate) value: U256,
    pub(crate) data: Bytes,
    pub(crate) gas_limit: u64,
    /// Wei of gas at most, the tip in it.
    pub(crate) fee_max: u128,
}

/// Of each gas, to whoever leads.
const TIP: u128 = 1_000_000_000;

/// The transaction as a door takes it.
pub(crate) fn sign(from: &SecretKey, chain_id: u64, nonce: u64, call: &Call) -> String {
    let tx = TxEip1559 {
        chain_id,
        nonce,
        gas_limit: call.gas_limit,
        max_fee_per_gas: call.fee_max,
        max_priority_fee_per_gas: TIP,
        to: TxKind::Call(call.to),
        value: call.value,
        input: call.data.clone(),
        ..TxEip1559::default()
    };
    let message = Message::from_digest(tx.signature_hash().0);
    let (parity, bytes) = SECP256K1.sign_ecdsa_recoverable(message, from).serialize_compact();
    let signature = Signature::new(
        U256::from_be_slice(&bytes[..32]),
        U256::from_be_slice(&bytes[32..]),
        i32::from(parity) & 1 == 1,
    );
    format!("0x{}", hex::encode(TxEnvelope::from(tx.into_signed(signature)).encoded_2718()))
}

/// Wei to an account.
pub(crate) fn transfer(from: &SecretKey, chain_id: u64, nonce: u64, to: Address, value: u64) -> String {
    let (data, gas_limit, fee_max) = (Bytes::new(), 21_000, 100_000_000_000);
    sign(from, chain_id, nonce, &Call { to, value: U256::from(value), data, gas_limit, fee_max })
}

/// So many accounts of a bench.
pub(crate) fn senders(count: usize) -> Result<Vec<SecretKey>> {
    (0..count).map(|i| Ok(SecretKey::from_byte_array(keccak256(format!("bench sender {i}")).0)?)).collect()
}

pub(crate) fn address(secret: &SecretKey) -> Address {
    let key = PublicKey::from_secret_key(SECP256K1, secret).serialize_uncompressed();
    Address::from_slice(&keccak256(&key[1..]).0[12..])
}

pub(crate) fn secret(text: &str) -> Result<SecretKey> {
    let bytes = hex::decode(text.trim_start_matches("0x"))?;
    Ok(SecretKey::from_byte_array(B256::try_from(bytes.as_slice())?.0)?)
}
