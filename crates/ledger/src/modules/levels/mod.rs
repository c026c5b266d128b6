//! Hold hosts to what they promise, by what the ledger was told anyway.
//!
//! ```text
//! promise (level, bond) ─► matcher, for orders that ask for availability ─► a lease binds its part of the bond
//! started · alive · lost · replaced ─► judged ─► breach: that part goes to the lease's owner
//!                                              └ none: it is free again with the lease's end
//! ```
//! A lease's level is the one that stood when it began. It binds the promised part of what it pays in a window, or in its
//! order's term where that is shorter, wholly: a bond backs no lease beyond itself. What is bound answers for the lease's
//! first breach, and is all that its breaches pay together. Windows are as long as those of proofs, and are counted from the
//! lease's beginning. Nothing is judged by what a tenant, or a watcher alone, says:
//!
//! - **Availability.** A lease is down from when its host was last reached until its replica is up elsewhere, if it was lost;
//!   else from [`GRACE_MS`](hodei_types::market::GRACE_MS) after an accusation until its host showed itself. Who is there
//!   answers well within the grace, so that two watchers who lie take nothing; who answers later shows by its own word
//!   that it was away. More than the window's part that may be missing is a breach; what spans windows counts in the one
//!   in which it ends.
//! - **Start.** Its host says `started`; later than promised, or not by when the lease is touched, is a breach.
//! - **Restore.** From when a lost lease's host was last reached until the next host's `started`, at most until that host
//!   is late itself, which is its own breach; until the loss is noted, where no other host fits.
//!
//! Nothing is judged of what its owner ended before it was lost, or whose escrow was over: who no longer pays is owed nothing.
//! What a host ends early costs it what `leases` says, and while it is accused that counts as showing itself.
//!
//! Between an owner and an operator who are one account, or budgets of one, a breach is told and moves nothing. Where they
//! hide that they are one, it moves their own coin: a lie gains an event, and cost the fees of a lease.
//!
//! Invariants: this module's account holds the sum of bonds; what is bound of a bond is what its leases bind together, and
//! never more than the bond; what a lease pays for breaches was bound by it.

mod bond;
mod held;

use alloy_primitives::{B256, U256};
use alloy_sol_types::SolCall as _;
use hodei_types::{
    abi::{BATCH_MAX, ILevels, IModule, LEVELS},
    market::TermsError,
};

use super::{
    ctx::{Ctx, Stop, returns, revert},
    market::offer,
};
use bond::Bond;
pub(super) use bond::{Backing, backing};
pub(super) use held::{Fresh, begin, end, look, lost, shown};

const PAYABLE: &[[u8; 4]] = &[ILevels::promiseCall::SELECTOR, ILevels::bondCall::SELECTOR];

pub(super) fn call(ctx: &mut Ctx<'_, '_>) -> Result<Vec<u8>, Stop> {
    use ILevels::ILevelsCalls as Calls;
    match ctx.decode::<Calls>(PAYABLE)? {
        Calls::promise(call) => {
            ctx.writes()?;
            promise(ctx, call.node, &call.level)?;
            Ok(Vec::new())
        }
        Calls::bond(call) => {
            ctx.writes()?;
            add(ctx, call.node)?;
            Ok(Vec::new())
        }
        Calls::withdraw(call) => {
            ctx.writes()?;
            returns(withdraw(ctx, call.node, call.amount)?)
        }
        Calls::started(call) => {
            ctx.writes()?;
            at_most(call.leases.len())?;
            call.leases.into_iter().try_for_each(|id| held::started(ctx, id))?;
            Ok(Vec::new())
        }
        Calls::level(call) => returns(show(ctx, call.node)?),
        Calls::levels(call) => {
            at_most(call.nodes.len())?;
            let promises: Vec<_> = call.nodes.into_iter().map(|node| show(ctx, node)).collect::<Result<_, _>>()?;
            returns(promises)
        }
        Calls::of(call) => {
            at_most(call.leases.len())?;
            let held: Vec<_> = call.leases.into_iter().map(|id| held::show(ctx, id)).collect::<Result<_, _>>()?;
            returns(held)
        }
    }
}

fn promise(ctx: &mut Ctx<'_, '_>, node: B256, level: &ILevels::Level) -> Result<(), Stop> {
    let operator = offer::operator(ctx, node)?;
    if operator != ctx.caller {
        return Err(revert(ILevels::NotOperator { operator }));
    }
    let bad = |error| match error {
        TermsError::Field(field) => revert(ILevels::BadLevel { field: field.to_owned() }),
        other => revert(ILevels::BadLevel { field: other.to_string() }),
    };
    // All zero promises nothing more.
    if *level != ILevels::Level::default() {
        level.check().map_err(bad)?;
    }
    let mut bond = Bond::load(ctx, node, operator)?;
    bond.add(ctx.value)?;
    bond.level = *level;
    bond.store_level(ctx)?;
    bond.store(ctx)?;
    ctx.emit(LEVELS, &ILevels::Promised { node, operator, level: *level, bond: U256::from(bond.bond) })
}

fn add(ctx: &mut Ctx<'_, '_>, node: B256) -> Result<(), Stop> {
    let operator = offer::operator(ctx, node)?;
    if operator.is_zero() {
        // What nobody could withdraw is not taken.
        return Err(revert(ILevels::NotOperator { operator }));
    }
    let (mut bond, amount) = (Bond::load(ctx, node, operator)?, ctx.value);
    bond.add(amount)?;
    bond.store(ctx)?;
    ctx.emit(LEVELS, &ILevels::Bonded { node, operator, amount, bond: U256::from(bond.bond) })
}

fn withdraw(ctx: &mut Ctx<'_, '_>, node: B256, amount: U256) -> Result<U256, Stop> {
    let operator = ctx.caller;
    let mut bond = Bond::load(ctx, node, operator)?;
    let free = U256::from(bond.free());
    let amount = if amount == U256::MAX { free } else { amount };
    if amount > free {
        return Err(revert(ILevels::BondBound { free }));
    }
    bond.bond -= amount.saturating_to::<u128>();
    bond.store(ctx)?;
    ctx.transfer(LEVELS, operator, amount)?;
    ctx.emit(LEVELS, &ILevels::Unbonded { node, operator, amount, bond: U256::from(bond.bond) })?;
    Ok(amount)
}

fn show(ctx: &mut Ctx<'_, '_>, node: B256) -> Result<ILevels::Promise, Stop> {
    let operator = offer::operator(ctx, node)?;
    let Bond { level, bond, bound, .. } = Bond::load(ctx, node, operator)?;
    Ok(ILevels::Promise { node, operator, level, bond: U256::from(bond), bound: U256::from(bound) })
}

fn at_most(given: usize) -> Result<(), Stop> {
    let too_many = || revert(IModule::TooMany { given: U256::from(given), most: U256::from(BATCH_MAX) });
    if given > BATCH_MAX { Err(too_many()) } else { Ok(()) }
}
