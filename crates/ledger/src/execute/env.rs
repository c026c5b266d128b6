//! State what a block and a network fix for every transaction in them.

use alloy_primitives::{Address, B256, U256};
use hodei_types::{ethereum::GAS_PER_TX_MAX, settlement::Settlement};
use revm::{
    context::{BlockEnv, CfgEnv},
    context_interface::block::BlobExcessGasAndPrice,
    primitives::hardfork::SpecId,
};

use crate::genesis::{Genesis, Slashing};

/// What the genesis fixes for execution.
#[derive(Clone, Copy, Debug)]
pub struct Params {
    pub chain_id: u64,
    /// Milliseconds of a proof window on the active clock.
    pub window_ms: u64,
    pub slashing: Slashing,
    pub settlement: Settlement,
}

impl Params {
    pub fn new(genesis: &Genesis) -> Self {
        Self {
            chain_id: genesis.chain_id(),
            window_ms: genesis.window_secs.saturating_mul(1000),
            slashing: genesis.slashing,
            settlement: genesis.settlement,
        }
    }
}

/// What a header fixes for its body.
#[derive(Clone, Copy, Debug)]
pub struct Env {
    pub height: u64,
    /// Milliseconds since 1970.
    pub time_ms: u64,
    pub parent_time_ms: u64,
    /// Receives the tips.
    pub beneficiary: Address,
    /// Wei of gas, burned.
    pub base_fee: u64,
    pub gas_limit: u64,
    /// keccak of the seed of the parent's round.
    pub mix_hash: B256,
    pub parent_hash: B256,
}

impl Env {
    pub(super) fn block(&self) -> BlockEnv {
        BlockEnv {
            number: U256::from(self.height),
            beneficiary: self.beneficiary,
            timestamp: U256::from(self.time_ms / 1000),
            gas_limit: self.gas_limit,
            basefee: self.base_fee,
            difficulty: U256::ZERO,
            prevrandao: Some(self.mix_hash),
            blob_excess_gas_and_price: Some(BlobExcessGasAndPrice { excess_blob_gas: 0, blob_gasprice: 1 }),
            slot_num: 0,
        }
    }
}

impl Params {
    pub(super) fn cfg(&self) -> CfgEnv {
        let mut cfg = CfgEnv::new_with_spec(SpecId::OSAKA);
        cfg.chain_id = self.chain_id;
        cfg.tx_gas_limit_cap = Some(GAS_PER_TX_MAX);
        cfg
    }
}
