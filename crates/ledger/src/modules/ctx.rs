//! Stand between a module and the EVM: charge gas, refuse calls of the wrong form, move coin.

use alloy_evm::{EvmInternals, EvmInternalsError, precompiles::PrecompileInput};
use alloy_primitives::{Address, B256, Bytes, Log, U256, keccak256};
use alloy_sol_types::{SolError, SolEvent, SolInterface, SolValue};
use hodei_types::abi::{IModule, SYSTEM};
use revm::precompile::{PrecompileError, PrecompileHalt, PrecompileOutput, PrecompileResult};

use super::Entry;
use crate::execute::Params;

/// Bytes of one call's input: a proof of 20 leaves takes about 40 kB, a batch of 64 posts 25 kB.
const INPUT_BYTES_MAX: usize = 128 << 10;
/// Decoding and dispatch, before any access.
const GAS_CALL: u64 = 400;
const GAS_INPUT_WORD: u64 = 6;
// Storage is priced as EIP-2929 and EIP-2200 price it, without refunds.
const GAS_WARM: u64 = 100;
const GAS_COLD_SLOT: u64 = 2_100;
const GAS_COLD_ACCOUNT: u64 = 2_600;
const GAS_SET: u64 = 20_000;
const GAS_RESET: u64 = 2_900;
const GAS_TRANSFER: u64 = 9_000;
const GAS_LOG: u64 = 375;
const GAS_LOG_BYTE: u64 = 8;
/// An Ed25519 check costs about a recovery, which the EVM prices at 3,000.
pub(super) const GAS_SIGNATURE: u64 = 3_000;
/// A hash of a chain or path: as the EVM prices keccak of up to 128 bytes.
pub(super) const GAS_HASH: u64 = 60;
/// Hashing 1 KiB leaves and their paths: as keccak per byte.
pub(super) const GAS_PROOF_BYTE: u64 = 2;

/// Why a call did not go through.
#[derive(Debug)]
pub(crate) enum Stop {
    /// The caller's fault: a typed error.
    Revert(Bytes),
    OutOfGas,
    /// The state contradicts itself; no block on it can be right. Also what a run on missing values may meet.
    Broken(String),
}

impl From<EvmInternalsError> for Stop {
    fn from(error: EvmInternalsError) -> Self {
        Self::Broken(error.to_string())
    }
}

/// A typed error as a stop.
pub(crate) fn revert<E: SolError>(error: E) -> Stop {
    Stop::Revert(error.abi_encode().into())
}

/// A broken invariant as a stop.
pub(crate) fn broken(what: &str) -> Stop {
    Stop::Broken(what.to_owned())
}

/// One call of one module.
pub(crate) struct Ctx<'a, 'b> {
    internals: &'b mut EvmInternals<'a>,
    pub(crate) params: Params,
    /// The module's account.
    pub(crate) me: Address,
    pub(crate) caller: Address,
    pub(crate) value: U256,
    data: &'b [u8],
    is_static: bool,
    gas_left: u64,
    gas_used: u64,
}

/// Runs `entry` as the precompile at `me`.
pub(super) fn run(params: Params, me: Address, entry: Entry, mut input: PrecompileInput<'_>) -> PrecompileResult {
    let reservoir = input.reservoir;
    let gas = input.gas;
    let direct = input.is_direct_call();
    let data = input.data;
    let mut ctx = Ctx {
        params,
        me,
        caller: input.caller,
        value: input.value,
        data,
        is_static: input.is_static,
        // The system's own call is outside of gas.
        gas_left: if input.caller == SYSTEM { u64::MAX } else { gas },
        gas_used: 0,
        internals: &mut input.internals,
    };
    let result = ctx.enter(direct).and_then(|()| entry(&mut ctx));
    let gas_used = if ctx.caller == SYSTEM { 0 } else { ctx.gas_used };
    match result {
        Ok(output) => Ok(PrecompileOutput::new(gas_used, output.into(), reservoir)),
        Err(Stop::Revert(output)) => Ok(PrecompileOutput::revert(gas_used, output, reservoir)),
        Err(Stop::OutOfGas) => Ok(PrecompileOutput::halt(PrecompileHalt::OutOfGas, reservoir)),
        Err(Stop::Broken(what)) => Err(PrecompileError::Fatal(what)),
    }
}

impl Ctx<'_, '_> {
    fn enter(&mut self, direct: bool) -> Result<(), Stop> {
        self.charge(GAS_CALL + GAS_INPUT_WORD * self.data.len().div_ceil(32) as u64)?;
        if !direct {
            return Err(revert(IModule::IndirectCall {}));
        }
        if self.data.len() > INPUT_BYTES_MAX {
            return Err(revert(IModule::MalformedInput {}));
        }
        Ok(())
    }

    /// The call, decoded; refused when unknown, malformed, or with value the function does not take.
    pub(crate) fn decode<C: SolInterface>(&self, payable: &[[u8; 4]]) -> Result<C, Stop> {
        let Some(selector) = self.data.first_chunk::<4>() else {
            return Err(revert(IModule::UnknownSelector { selector: Default::default() }));
        };
        if !C::valid_selector(*selector) {
            return Err(revert(IModule::UnknownSelector { selector: (*selector).into() }));
        }
        if !self.value.is_zero() && !payable.contains(selector) {
            return Err(revert(IModule::StrayValue {}));
        }
        C::abi_decode_validate(self.data).map_err(|_| revert(IModule::MalformedInput {}))
    }

    pub(crate) fn selector(&self) -> [u8; 4] {
        self.data.first_chunk::<4>().copied().unwrap_or_default()
    }

    pub(crate) fn input(&self) -> &[u8] {
        self.data
    }

    /// Refuses under staticcall: the first line of every function that writes.
    pub(crate) fn writes(&self) -> Result<(), Stop> {
        if self.is_static { Err(revert(IModule::StaticCall {})) } else { Ok(()) }
    }

    pub(crate) fn charge(&mut self, gas: u64) -> Result<(), Stop> {
        self.gas_left = self.gas_left.checked_sub(gas).ok_or(Stop::OutOfGas)?;
        self.gas_used = self.gas_used.saturating_add(gas);
        Ok(())
    }

    pub(crate) fn height(&self) -> u64 {
        self.internals.block_number().saturating_to()
    }

    /// The block's time, in milliseconds since 1970, down to the second.
    pub(crate) fn time_ms(&self) -> u64 {
        self.internals.block_timestamp().saturating_to::<u64>().saturating_mul(1000)
    }

    /// The randomness the header carries: keccak of the seed of its parent's round.
    pub(crate) fn mix_hash(&self) -> B256 {
        self.internals.block_env().prevrandao().unwrap_or_default()
    }

    /// Reads a slot of a module's account.
    pub(crate) fn load(&mut self, account: Address, slot: U256) -> Result<U256, Stop> {
        // Charged before the access, so that nobody reads for free what he cannot pay.
        self.charge(GAS_WARM)?;
        let loaded = self.internals.sload(account, slot)?;
        if loaded.is_cold {
            self.charge(GAS_COLD_SLOT - GAS_WARM)?;
        }
        Ok(loaded.data)
    }

    /// Writes a slot of a module's account.
    pub(crate) fn store(&mut self, account: Address, slot: U256, value: U256) -> Result<(), Stop> {
        self.writes()?;
        self.charge(GAS_WARM)?;
        let stored = self.internals.sstore(account, slot, value)?;
        if stored.is_cold {
            self.charge(GAS_COLD_SLOT)?;
        }
        let result = &stored.data;
        if result.present_value != result.new_value && result.original_value == result.present_value {
            self.charge(if result.original_value.is_zero() { GAS_SET } else { GAS_RESET })?;
        }
        Ok(())
    }

    pub(crate) fn balance(&mut self, account: Address) -> Result<U256, Stop> {
        self.charge(GAS_COLD_ACCOUNT)?;
        Ok(self.internals.load_account(account)?.data.info.balance)
    }

    /// Moves coin a module answers for; false if `from` has less.
    pub(crate) fn try_transfer(&mut self, from: Address, to: Address, amount: U256) -> Result<bool, Stop> {
        self.writes()?;
        self.charge(GAS_TRANSFER)?;
        if amount.is_zero() || from == to {
            return Ok(true);
        }
        Ok(self.internals.transfer(from, to, amount)?.is_none())
    }

    /// Moves coin out of an account that must have it.
    pub(crate) fn transfer(&mut self, from: Address, to: Address, amount: U256) -> Result<(), Stop> {
        if self.try_transfer(from, to, amount)? { Ok(()) } else { Err(broken("a module owes more than it has")) }
    }

    /// Destroys coin of a module's account, and counts it.
    pub(crate) fn burn(&mut self, from: Address, amount: U256) -> Result<(), Stop> {
        self.writes()?;
        self.charge(GAS_TRANSFER)?;
        let balance = self.internals.load_account(from)?.data.info.balance;
        let rest = balance.checked_sub(amount).ok_or_else(|| broken("a module burns more than it has"))?;
        self.internals.set_balance(from, rest)?;
        super::queue::count_burned(self, amount)
    }

    /// Emits an event of `account`.
    pub(crate) fn emit<E: SolEvent>(&mut self, account: Address, event: &E) -> Result<(), Stop> {
        self.writes()?;
        let data = event.encode_log_data();
        self.charge(GAS_LOG * (1 + data.topics().len() as u64) + GAS_LOG_BYTE * data.data.len() as u64)?;
        self.internals.log(Log { address: account, data });
        Ok(())
    }

    /// Checks an Ed25519 signature by a node key.
    pub(crate) fn node_signed(&mut self, node: B256, message: &[u8], signature: &[u8]) -> Result<bool, Stop> {
        self.charge(GAS_SIGNATURE)?;
        let key = aws_lc_rs::signature::UnparsedPublicKey::new(&aws_lc_rs::signature::ED25519, node.as_slice());
        Ok(signature.len() == 64 && key.verify(message, signature).is_ok())
    }

    /// The account that signed keccak(message) with 65 bytes (r, s, parity 0/1 or 27/28); none if malformed or
    /// with a high s.
    pub(crate) fn account_signed(&mut self, message: &[u8], signature: &[u8]) -> Result<Option<Address>, Stop> {
        self.charge(GAS_SIGNATURE)?;
        let Ok(signature) = alloy_primitives::Signature::from_raw(signature) else { return Ok(None) };
        if signature.normalize_s().is_some() {
            return Ok(None);
        }
        Ok(alloy_consensus::crypto::secp256k1::recover_signer(&signature, keccak256(message)).ok())
    }
}

/// The return data of a function with one value.
pub(crate) fn returns<T: SolValue>(value: T) -> Result<Vec<u8>, Stop> {
    Ok(value.abi_encode())
}
