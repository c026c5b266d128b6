//! Make a cap a balance: spending accounts whose owner can always take the coin back.
//!
//! A spending account is an ordinary account whose holder consented, by signature, to an owner. What it may
//! spend is its own balance, so no program checks a limit. Buckets and deals it opens belong to its owner.
//!
//! Invariants: an account has at most one owner, which it consented to; owners are nobody's budget; this module's
//! own account keeps no coin it was sent.

use alloy_primitives::{Address, U256};
use alloy_sol_types::SolCall as _;
use hodei_types::abi::{BUDGETS, IBudgets, MODULES, SYSTEM, spender_consent};

use super::{
    ctx::{Ctx, Stop, returns, revert},
    list::List,
    slots::{base, pack_address, unpack_address},
};

const TAG_OWNER: u8 = 1;
const TAG_SPENDERS: u8 = 2;
const PAYABLE: &[[u8; 4]] = &[IBudgets::registerCall::SELECTOR, IBudgets::fundCall::SELECTOR];

pub(super) fn call(ctx: &mut Ctx<'_, '_>) -> Result<Vec<u8>, Stop> {
    match ctx.decode::<IBudgets::IBudgetsCalls>(PAYABLE)? {
        IBudgets::IBudgetsCalls::register(call) => {
            ctx.writes()?;
            register(ctx, call.spender, &call.consent)?;
            Ok(Vec::new())
        }
        IBudgets::IBudgetsCalls::fund(call) => {
            ctx.writes()?;
            let owner = registered(ctx, call.spender)?;
            fund(ctx, owner, call.spender)?;
            Ok(Vec::new())
        }
        IBudgets::IBudgetsCalls::reclaim(call) => {
            ctx.writes()?;
            check_owner(ctx, call.spender)?;
            returns(reclaim(ctx, call.spender, call.amount)?)
        }
        IBudgets::IBudgetsCalls::release(call) => {
            ctx.writes()?;
            check_owner(ctx, call.spender)?;
            release(ctx, call.spender)?;
            Ok(Vec::new())
        }
        IBudgets::IBudgetsCalls::ownerOf(call) => returns(owner_of(ctx, call.spender)?),
        IBudgets::IBudgetsCalls::count(call) => {
            let count = spenders(call.owner).len(ctx)?;
            returns(count)
        }
        IBudgets::IBudgetsCalls::at(call) => {
            let spender = spenders(call.owner).at(ctx, call.i)?;
            returns(unpack_address(spender).0)
        }
    }
}

/// The owner of a spending account; zero if it is none.
pub(super) fn owner_of(ctx: &mut Ctx<'_, '_>, spender: Address) -> Result<Address, Stop> {
    Ok(unpack_address(ctx.load(BUDGETS, owner_slot(spender))?).0)
}

/// On whose behalf an account acts: its owner if it is a budget, else itself.
pub(super) fn principal(ctx: &mut Ctx<'_, '_>, account: Address) -> Result<Address, Stop> {
    let owner = owner_of(ctx, account)?;
    Ok(if owner.is_zero() { account } else { owner })
}

fn register(ctx: &mut Ctx<'_, '_>, spender: Address, consent: &[u8]) -> Result<(), Stop> {
    let owner = ctx.caller;
    let current = owner_of(ctx, spender)?;
    if !current.is_zero() {
        return Err(revert(IBudgets::AlreadyRegistered { owner: current }));
    }
    let nested = spender == owner || !owner_of(ctx, owner)?.is_zero() || spenders(spender).len(ctx)? > 0;
    if nested || MODULES.contains(&spender) || spender == SYSTEM || spender.is_zero() {
        return Err(revert(IBudgets::Nested {}));
    }
    let statement = spender_consent(ctx.params.chain_id, owner, spender);
    if ctx.account_signed(&statement, consent)? != Some(spender) {
        return Err(revert(IBudgets::BadConsent {}));
    }
    ctx.store(BUDGETS, owner_slot(spender), pack_address(owner, 0))?;
    spenders(owner).push(ctx, pack_address(spender, 0))?;
    ctx.emit(BUDGETS, &IBudgets::Registered { owner, spender })?;
    fund(ctx, owner, spender)
}

fn fund(ctx: &mut Ctx<'_, '_>, owner: Address, spender: Address) -> Result<(), Stop> {
    if ctx.value.is_zero() {
        return Ok(());
    }
    let amount = ctx.value;
    ctx.transfer(BUDGETS, spender, amount)?;
    ctx.emit(BUDGETS, &IBudgets::Funded { owner, spender, amount })
}

fn reclaim(ctx: &mut Ctx<'_, '_>, spender: Address, amount: U256) -> Result<U256, Stop> {
    let balance = ctx.balance(spender)?;
    let amount = if amount == U256::MAX { balance } else { amount };
    let owner = ctx.caller;
    if !ctx.try_transfer(spender, owner, amount)? {
        return Err(revert(IBudgets::InsufficientBalance { balance }));
    }
    ctx.emit(BUDGETS, &IBudgets::Reclaimed { owner, spender, amount })?;
    Ok(amount)
}

fn release(ctx: &mut Ctx<'_, '_>, spender: Address) -> Result<(), Stop> {
    let owner = ctx.caller;
    reclaim(ctx, spender, U256::MAX)?;
    spenders(owner).remove(ctx, pack_address(spender, 0))?;
    ctx.store(BUDGETS, owner_slot(spender), U256::ZERO)?;
    ctx.emit(BUDGETS, &IBudgets::Released { owner, spender })
}

fn registered(ctx: &mut Ctx<'_, '_>, spender: Address) -> Result<Address, Stop> {
    let owner = owner_of(ctx, spender)?;
    if owner.is_zero() {
        return Err(revert(IBudgets::NotRegistered { spender }));
    }
    Ok(owner)
}

fn check_owner(ctx: &mut Ctx<'_, '_>, spender: Address) -> Result<(), Stop> {
    let owner = registered(ctx, spender)?;
    if owner != ctx.caller {
        return Err(revert(IBudgets::NotOwner { owner }));
    }
    Ok(())
}

fn owner_slot(spender: Address) -> U256 {
    base(TAG_OWNER, &[spender.as_slice()])
}

fn spenders(owner: Address) -> List {
    List::new(BUDGETS, base(TAG_SPENDERS, &[owner.as_slice()]))
}
