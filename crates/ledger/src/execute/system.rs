//! Recognise the ledger's own transaction.
//!
//! Work that fell due runs as body index 0: a legacy transaction from an account without a key, nonce =
//! height, price 0, r = s = 0, to the module `queue`. Any other place or content makes a block invalid.

use alloy_consensus::{Signed as AlloySigned, TxEnvelope, TxLegacy};
use alloy_primitives::{Signature, TxKind, U256};
use alloy_sol_types::SolCall as _;
use hodei_types::abi::{IQueue, QUEUE};

/// The system transaction of a block; the same bytes for everybody.
pub fn system_transaction(chain_id: u64, height: u64) -> TxEnvelope {
    let tx = TxLegacy {
        chain_id: Some(chain_id),
        nonce: height,
        gas_price: 0,
        gas_limit: 0,
        to: TxKind::Call(QUEUE),
        value: U256::ZERO,
        input: IQueue::runCall {}.abi_encode().into(),
    };
    TxEnvelope::Legacy(AlloySigned::new_unhashed(tx, Signature::new(U256::ZERO, U256::ZERO, false)))
}

/// Whether nobody signed it: only the system's transaction looks so.
pub fn is_system(tx: &TxEnvelope) -> bool {
    let signature = tx.signature();
    signature.r().is_zero() && signature.s().is_zero()
}
