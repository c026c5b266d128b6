//! Keep coin for what is read, and pay it out by the values of hash chains.
//!
//! ```text
//! open (deposit, root of leaves) → claim (leaf, path, value)* → [the end, on the active clock] → close → the rest
//! ```
//! A tab's root commits to leaves of the form `types::tab` fixes: a provider, the anchor of its chain, ticks, a price.
//! Upon a claim the leaf is folded to the root, and its value hashed back to the last one that was claimed: only what is
//! new costs hashes, and is paid. The coin goes to the provider's operator, whoever sends the claim; a provider that
//! takes no new deals is paid as before, one that was forgotten is not.
//!
//! A tab opened by a budget is its owner's, who gets back what is left, as of deals. Ended tabs stay as records, so that
//! an id is never used again: values revealed under it are known.
//!
//! Invariants: this module's account holds what is left of all tabs; what was claimed, is left and was paid back of a tab
//! is its deposit; a claim given twice pays once, and claims in any order pay the same; only operators of a tab's leaves
//! and its payer receive any of it; before the end nobody takes the rest.

mod claim;
mod record;

use alloy_primitives::{Address, B256, U256};
use alloy_sol_types::SolCall as _;
use hodei_types::{
    abi::{BATCH_MAX, IModule, ITabs, PAGE_MAX, TABS},
    tab::{GWEI, tab_id},
};

use super::{
    budgets,
    ctx::{Ctx, Stop, returns, revert},
    providers, queue,
};
use record::{ENDED, Tab};

const PAYABLE: &[[u8; 4]] = &[ITabs::openCall::SELECTOR];
/// A tab is open so many windows at least: one in which ticks are taken, and one in which they are claimed.
const WINDOWS_MIN: u64 = 2;
/// And no longer than that where windows are long: what two of a day come to.
const LEAST_MS_MAX: u64 = 2 * 24 * 3600 * 1000;
/// Coin is bound so long at most: a year, and a month to renew in.
const TERM_MS_MAX: u64 = 400 * 24 * 3600 * 1000;

pub(super) fn call(ctx: &mut Ctx<'_, '_>) -> Result<Vec<u8>, Stop> {
    use ITabs::ITabsCalls as Calls;
    match ctx.decode::<Calls>(PAYABLE)? {
        Calls::open(call) => {
            ctx.writes()?;
            returns(open(ctx, &call)?)
        }
        Calls::claim(call) => {
            ctx.writes()?;
            batch(call.claims.len())?;
            let mut amount = U256::ZERO;
            for one in &call.claims {
                amount = amount.saturating_add(claim::claim(ctx, one)?);
            }
            returns(amount)
        }
        Calls::close(call) => {
            ctx.writes()?;
            batch(call.tabs.len())?;
            call.tabs.iter().try_for_each(|id| close(ctx, *id))?;
            Ok(Vec::new())
        }
        Calls::get(call) => {
            let tab = Tab::load(ctx, call.tab)?.ok_or_else(|| revert(ITabs::UnknownTab { tab: call.tab }))?;
            let until_ms = until_ms(ctx, &tab)?;
            returns(tab.show(until_ms))
        }
        Calls::claimed(call) => {
            let tick = record::claimed(ctx, call.tab, call.leaf)?;
            Ok(ITabs::claimedCall::abi_encode_returns(&ITabs::claimedReturn { index: tick.index, value: tick.value }))
        }
        Calls::ofPayer(call) => {
            if call.most > PAGE_MAX {
                return Err(too_many(call.most, PAGE_MAX));
            }
            let tabs = record::of_payer(call.payer).page(ctx, call.first, call.most)?;
            returns(tabs.into_iter().map(B256::from).collect::<Vec<_>>())
        }
    }
}

fn open(ctx: &mut Ctx<'_, '_>, call: &ITabs::openCall) -> Result<B256, Stop> {
    let deposit = u128::from(call.gwei) * GWEI;
    if ctx.value != U256::from(deposit) || deposit == 0 {
        return Err(revert(ITabs::WrongDeposit { value: ctx.value, needed: U256::from(deposit) }));
    }
    let least_ms = ctx.params.window_ms.saturating_mul(WINDOWS_MIN).min(LEAST_MS_MAX);
    if call.termMs < least_ms || call.termMs > TERM_MS_MAX {
        return Err(revert(ITabs::BadTerm { leastMs: least_ms, mostMs: TERM_MS_MAX }));
    }
    let payer = payer(ctx)?;
    let id = tab_id(ctx.params.chain_id, payer, call.salt);
    if Tab::load(ctx, id)?.is_some() {
        return Err(revert(ITabs::TabExists { tab: id }));
    }
    let ends_ms = queue::window(ctx)?.clock_ms.saturating_add(call.termMs);
    let tab = Tab::new(id, payer, call, ends_ms, deposit);
    tab.store_new(ctx)?;
    let until_ms = until_ms(ctx, &tab)?;
    ctx.emit(TABS, &ITabs::Opened { tab: id, payer, bucket: call.bucket, deposit, untilMs: until_ms })?;
    Ok(id)
}

/// Whose tab it is: the owner's, where a budget opens it.
fn payer(ctx: &mut Ctx<'_, '_>) -> Result<Address, Stop> {
    budgets::principal(ctx, ctx.caller)
}

fn close(ctx: &mut Ctx<'_, '_>, id: B256) -> Result<(), Stop> {
    let mut tab = Tab::live(ctx, id)?;
    if !tab.is_over(queue::window(ctx)?.clock_ms) {
        let until_ms = until_ms(ctx, &tab)?;
        return Err(revert(ITabs::TooEarly { tab: id, untilMs: until_ms }));
    }
    let (payer, refund) = (tab.payer, U256::from(tab.left));
    tab.left = 0;
    tab.state = ENDED;
    tab.store(ctx)?;
    record::of_payer(payer).remove(ctx, id.into())?;
    ctx.transfer(TABS, payer, refund)?;
    ctx.emit(TABS, &ITabs::Ended { tab: id, payer, refund })
}

/// When claims of a tab end by the ledger's time, should blocks go on being made.
fn until_ms(ctx: &mut Ctx<'_, '_>, tab: &Tab) -> Result<u64, Stop> {
    queue::wall_ms(ctx, tab.ends_ms)
}

fn batch(len: usize) -> Result<(), Stop> {
    if len > BATCH_MAX { Err(too_many(len as u64, BATCH_MAX as u64)) } else { Ok(()) }
}

fn too_many(given: u64, most: u64) -> Stop {
    revert(IModule::TooMany { given: U256::from(given), most: U256::from(most) })
}
