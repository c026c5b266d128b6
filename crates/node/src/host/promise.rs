//! State on the ledger what this host promises, keep its bond, and take it back.

use super::register::RegisterError;
use crate::{config::Promise, provider::register::lacks};
use alloy_primitives::{B256, U256};
use alloy_sol_types::SolCall;
use hodei_ledger::account::{Account, Order};
use hodei_types::{
    abi::{ILevels, LEVELS},
    call::ask,
};

/// A record of two slots.
const PROMISE_GAS: u64 = 500_000;

/// Promises what is configured where the ledger has something else, and brings the bond to what it is to be; a host that
/// is to promise nothing promises nothing more. True if something was to be done.
pub(super) async fn ensure(account: &Account, node: B256, promise: Option<&Promise>) -> Result<bool, RegisterError> {
    let chain = &**account.chain();
    let stated = ask(chain, LEVELS, &ILevels::levelCall { node }).await?;
    let level = promise.map(Promise::level).unwrap_or_default();
    let bond = promise.map_or(U256::ZERO, |promise| U256::from(promise.bond.0));
    let missing = bond.saturating_sub(stated.bond);
    if stated.level == level && missing.is_zero() {
        return Ok(false);
    }
    if let Some((found, needed)) = lacks(account, &chain.head().await?, missing, PROMISE_GAS).await? {
        return Err(RegisterError::Bondless { account: account.address().to_string(), found, needed });
    }
    let call = ILevels::promiseCall { node, level }.abi_encode();
    account.execute(&Order::call(LEVELS, call, PROMISE_GAS).with_value(missing)).await?;
    Ok(true)
}

/// Takes back what no lease binds.
pub(super) async fn release(account: &Account, node: B256) -> Result<(), RegisterError> {
    let stated = ask(&**account.chain(), LEVELS, &ILevels::levelCall { node }).await?;
    if stated.bond > stated.bound {
        let call = ILevels::withdrawCall { node, amount: U256::MAX }.abi_encode();
        account.execute(&Order::call(LEVELS, call, PROMISE_GAS)).await?;
    }
    Ok(())
}
