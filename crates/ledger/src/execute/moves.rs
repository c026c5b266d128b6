//! Run transactions so that each move of coin leaves a log.
//!
//! Where a transaction, a call, a creation, a SELFDESTRUCT or a module moves coin from one account to another, the
//! journal writes a log as EIP-7708 gives it: address `SYSTEM`, topics `Transfer(address,address,uint256)`, payer and
//! payee, data the amount in wei. Whatever undoes the move drops its log. Fees are no transfers: receipts tell them.
//!
//! Everything but the journal stays Osaka: opcodes, gas, precompiles and limits follow the configuration. The
//! journal's own rules of Amsterdam are EIP-7708 and EIP-8246: a contract that is destroyed in the transaction that
//! made it, with itself as heir, leaves its coin at its address. Osaka destroys that coin, which no log would tell.

use alloy_evm::{
    eth::{EthEvm, EthEvmContext},
    precompiles::PrecompilesMap,
};
use revm::{
    ExecuteEvm as _, SystemCallEvm as _,
    context::{Evm, TxEnv},
    context_interface::result::{EVMError, HaltReason, ResultAndState},
    handler::{EthFrame, Handler, instructions::EthInstructions, pre_execution},
    inspector::NoOpInspector,
    interpreter::interpreter::EthInterpreter,
    primitives::{Address, Bytes, hardfork::SpecId},
};
use std::marker::PhantomData;

use super::state::{Corrupt, Reads};

type Context<'a> = EthEvmContext<Reads<'a>>;
type Inner<'a> =
    Evm<Context<'a>, NoOpInspector, EthInstructions<EthInterpreter, Context<'a>>, PrecompilesMap, EthFrame>;
pub(super) type Ran = Result<ResultAndState, EVMError<Corrupt>>;

/// An EVM whose journal logs what it moves.
pub(super) struct Telling<'a>(Inner<'a>);

impl<'a> Telling<'a> {
    pub(super) fn new(evm: EthEvm<Reads<'a>, NoOpInspector, PrecompilesMap>) -> Self {
        let mut inner = evm.into_inner();
        tell(&mut inner);
        Self(inner)
    }

    /// Runs a transaction with its checks and its fee.
    pub(super) fn transact(&mut self, tx: TxEnv) -> Ran {
        self.0.ctx.tx = tx;
        let result = Steps(PhantomData).run(&mut self.0);
        let state = self.0.finalize();
        Ok(ResultAndState::new(result?, state))
    }

    /// Calls outside of gas, fee and nonce.
    pub(super) fn system_call(&mut self, caller: Address, to: Address, data: Bytes) -> Ran {
        // No step before the call sets the journal's rules again.
        self.0.system_call_with_caller(caller, to, data)
    }

    pub(super) fn reads(&mut self) -> &mut Reads<'a> {
        &mut self.0.ctx.journaled_state.database
    }

    /// Drops what a run that is not to be trusted loaded.
    pub(super) fn forget(&mut self) {
        self.0.finalize();
    }
}

fn tell(evm: &mut Inner<'_>) {
    evm.ctx.journaled_state.inner.set_spec_id(SpecId::AMSTERDAM);
}

/// Mainnet's steps; after the one that gives the journal its rules it gets those that log.
struct Steps<'a>(PhantomData<Inner<'a>>);

impl<'a> Handler for Steps<'a> {
    type Evm = Inner<'a>;
    type Error = EVMError<Corrupt>;
    type HaltReason = HaltReason;

    fn load_accounts(&self, evm: &mut Inner<'a>) -> Result<(), EVMError<Corrupt>> {
        pre_execution::load_accounts::<_, EVMError<Corrupt>>(evm)?;
        tell(evm);
        Ok(())
    }
}
