//! Keep storage deals: escrow, content agreed by both sides, proofs, pay and the slashing ladder.
//!
//! ```text
//! open → (post → [window: challenge → prove] → pay when touched)* → close → ended
//!                          └ no proof: miss → suspended → slashed → closed
//! ```
//! Upon a window's second block its seed is known: each provider with leaves is asked for 20 of them, drawn
//! over all its deals. Until it proves or the window ends, no root of it moves, and a deal that is closed
//! stays in the draw. A proof that does not verify reverts and counts as nothing, so nobody can frame a
//! provider; a window without a proof pays nothing and counts as a miss. Windows run on the active clock.
//!
//! A bucket's custodians open deals of it too, with their own coin or its repair reserve's, and post what grows; they
//! shrink and resize none, and end those with providers that retired where the owner allows it ([`release`]). For what
//! grows they may have a wage out of the reserve. See [`wage`].
//!
//! Pay is lazy: the provider counts its proven windows, a deal remembers the count of its last touch. Slashing
//! is lazy too: an index of wei per leaf, of which half goes to the repair reserve of the buckets that were
//! held, and half is burned.
//!
//! While the bucket keeps versions under retention its side can neither end a deal nor shrink it; the operator still
//! may where the escrow is used up, so what is kept is kept for as long as is paid ahead.
//!
//! Invariants: this module's account holds all escrows, and all that slashing and others gave for repair and nobody
//! took; a deal's leaves are those both sides signed; a provider's tree sums its open and closing deals; pay is the
//! same however often it is taken, and never exceeds the escrow; who answers each challenge is never slashed; a
//! window without a proof is a miss, and pays nothing.

mod post;
mod prove;
mod record;
mod release;
mod reserve;
mod resize;
mod standing;
mod tree;
mod wage;

use alloy_primitives::{B256, U256};
use alloy_sol_types::SolCall as _;
use hodei_types::abi::{BATCH_MAX, DEALS, IDeals, IModule, PAGE_MAX};

use super::{
    buckets, budgets,
    ctx::{Ctx, Stop, broken, returns, revert},
    providers, queue,
};
use record::{CLOSING, Deal, ENDED, OPEN};
use standing::Standing;

pub(super) use reserve::close as close_reserve;
pub(super) use standing::check_due;

const PAYABLE: &[[u8; 4]] = &[IDeals::openCall::SELECTOR, IDeals::topUpCall::SELECTOR, IDeals::fundCall::SELECTOR];
/// Deals of one bucket: a shard a provider at n = 255, and as many again while they are replaced.
const BUCKET_DEALS_MAX: u64 = 512;

pub(super) fn call(ctx: &mut Ctx<'_, '_>) -> Result<Vec<u8>, Stop> {
    use IDeals::IDealsCalls as Calls;
    match ctx.decode::<Calls>(PAYABLE)? {
        Calls::open(call) => {
            ctx.writes()?;
            returns(open(ctx, call.bucket, &call.terms)?)
        }
        Calls::post(call) => {
            ctx.writes()?;
            batch(call.posts.len())?;
            call.posts.iter().try_for_each(|entry| post::post(ctx, entry))?;
            Ok(Vec::new())
        }
        Calls::prove(call) => {
            ctx.writes()?;
            prove::prove(ctx, call.provider, call.window, &call.proof)?;
            Ok(Vec::new())
        }
        Calls::touch(call) => {
            ctx.writes()?;
            batch(call.deals.len())?;
            call.deals.iter().try_for_each(|id| touch(ctx, *id))?;
            Ok(Vec::new())
        }
        Calls::topUp(call) => {
            ctx.writes()?;
            top_up(ctx, call.deal)?;
            Ok(Vec::new())
        }
        Calls::resize(call) => {
            ctx.writes()?;
            batch(call.deals.len())?;
            call.deals.iter().try_for_each(|entry| resize::resize(ctx, entry))?;
            Ok(Vec::new())
        }
        Calls::close(call) => {
            ctx.writes()?;
            batch(call.deals.len())?;
            call.deals.iter().try_for_each(|id| close(ctx, *id))?;
            Ok(Vec::new())
        }
        Calls::fund(call) => {
            ctx.writes()?;
            reserve::fund(ctx, call.bucket)?;
            Ok(Vec::new())
        }
        Calls::withdraw(call) => {
            ctx.writes()?;
            returns(reserve::withdraw(ctx, call.bucket, call.amount)?)
        }
        Calls::setWage(call) => {
            ctx.writes()?;
            wage::set(ctx, call.bucket, call.perGib, call.perDay)?;
            Ok(Vec::new())
        }
        Calls::setRelease(call) => {
            ctx.writes()?;
            release::set(ctx, call.bucket, call.allowed)?;
            Ok(Vec::new())
        }
        Calls::get(call) => returns(show(ctx, call.deal)?),
        Calls::many(call) => {
            batch(call.deals.len())?;
            let deals = call.deals.iter().map(|id| show(ctx, *id)).collect::<Result<Vec<_>, _>>()?;
            returns(deals)
        }
        Calls::find(call) => {
            let id = record::find(ctx, call.bucket, call.provider)?;
            returns(id)
        }
        Calls::ofBucket(call) => {
            let deals = record::of_bucket(call.bucket).page(ctx, 0, BUCKET_DEALS_MAX)?;
            returns(ids(deals))
        }
        Calls::ofProvider(call) => {
            if call.most > PAGE_MAX {
                return Err(too_many(call.most, PAGE_MAX));
            }
            let deals = record::of_provider(call.provider).page(ctx, call.first, call.most)?;
            returns(ids(deals))
        }
        Calls::reserve(call) => returns(reserve::of(ctx, call.bucket)?),
        Calls::wage(call) => returns(wage::of(ctx, call.bucket)?),
        Calls::release(call) => returns(release::of(ctx, call.bucket)?),
        Calls::earned(call) => returns(wage::earned(ctx, call.bucket, call.custodian)?),
        Calls::window(_) => {
            let window = queue::window(ctx)?;
            returns(IDeals::Window {
                index: window.index,
                clockMs: window.clock_ms,
                openedMs: window.opened_ms,
                endsMs: window.opened_ms.saturating_add(ctx.params.window_ms),
                height: window.height,
                seed: window.seed,
            })
        }
        Calls::challenge(call) => returns(prove::challenge(ctx, call.provider)?),
        Calls::standing(call) => {
            let standing = Standing::load(ctx, call.provider)?;
            let deals = record::of_provider(call.provider).len(ctx)?;
            returns(standing.show(deals))
        }
    }
}

/// Whether a provider missed its last challenge, and whether slashing closed it.
pub(super) fn flags(ctx: &mut Ctx<'_, '_>, node: B256) -> Result<(bool, bool), Stop> {
    let standing = Standing::load(ctx, node)?;
    Ok((standing.suspended, standing.closed))
}

pub(super) fn is_closed(ctx: &mut Ctx<'_, '_>, node: B256) -> Result<bool, Stop> {
    Ok(flags(ctx, node)?.1)
}

fn open(ctx: &mut Ctx<'_, '_>, id: B256, terms: &[IDeals::Terms]) -> Result<Vec<u64>, Stop> {
    batch(terms.len())?;
    let bucket = buckets::find(ctx, id)?.ok_or_else(|| revert(IDeals::UnknownBucket { bucket: id }))?;
    let needed: U256 = terms.iter().map(|terms| U256::from(terms.escrow)).fold(U256::ZERO, U256::saturating_add);
    let (value, caller) = (ctx.value, ctx.caller);
    let is_side = budgets::principal(ctx, caller)? == bucket.owner;
    let is_custodian = (!is_side || value != needed) && buckets::is_custodian(ctx, id, caller)?;
    if !is_side && !is_custodian {
        return Err(revert(IDeals::NotOwner { owner: bucket.owner }));
    }
    let is_escrowed = value == needed || (is_custodian && reserve::draw(ctx, id, needed)?);
    if !is_escrowed {
        return Err(revert(IDeals::WrongEscrow { value, needed }));
    }
    terms.iter().map(|terms| open_one(ctx, &bucket, terms)).collect()
}

fn open_one(ctx: &mut Ctx<'_, '_>, bucket: &buckets::Record, terms: &IDeals::Terms) -> Result<u64, Stop> {
    let node = terms.provider;
    let mut standing = standing::roll(ctx, node)?;
    let mut provider = providers::find(ctx, node)?.ok_or_else(|| revert(IDeals::UnknownProvider { provider: node }))?;
    if provider.retired || standing.suspended || standing.closed {
        return Err(revert(IDeals::ProviderUnavailable { provider: node }));
    }
    let existing = record::find(ctx, bucket.id, node)?;
    if existing != 0 {
        return Err(revert(IDeals::AlreadyOpen { deal: existing }));
    }
    if record::of_bucket(bucket.id).len(ctx)? >= BUCKET_DEALS_MAX {
        return Err(too_many(BUCKET_DEALS_MAX + 1, BUCKET_DEALS_MAX));
    }
    let free = provider.capacity_bytes.saturating_sub(provider.used_bytes);
    if terms.capacityBytes > free {
        return Err(revert(IDeals::CapacityExceeded { freeBytes: free }));
    }
    if provider.price_store > terms.priceMax {
        return Err(revert(IDeals::PriceAboveMax { price: provider.price_store }));
    }
    provider.used_bytes += terms.capacityBytes;
    provider.deals += 1;
    providers::store(ctx, &provider)?;
    buckets::count_deal(ctx, bucket.id, true)?;
    let id = record::next_id(ctx)?;
    let slot = tree::take_slot(ctx, &mut standing, id)?;
    standing.store(ctx)?;
    let deal = Deal::new(id, bucket, &provider, terms, slot, &standing);
    deal.store_new(ctx)?;
    ctx.emit(
        DEALS,
        &IDeals::Opened {
            deal: id,
            bucket: bucket.id,
            provider: node,
            owner: bucket.owner,
            capacityBytes: terms.capacityBytes,
            price: deal.price,
            escrow: deal.escrow,
        },
    )?;
    Ok(id)
}

fn touch(ctx: &mut Ctx<'_, '_>, id: u64) -> Result<(), Stop> {
    let mut deal = Deal::live(ctx, id)?;
    let mut standing = standing::roll(ctx, deal.provider)?;
    let window = queue::window(ctx)?;
    if standing.closed || (deal.state == CLOSING && !standing.owes_proof(&window)) {
        return end(ctx, &mut deal, &mut standing);
    }
    settle(ctx, &mut deal, &standing)?;
    deal.store(ctx)
}

fn top_up(ctx: &mut Ctx<'_, '_>, id: u64) -> Result<(), Stop> {
    let mut deal = Deal::live(ctx, id)?;
    if deal.state != OPEN {
        return Err(revert(IDeals::NotOpen { deal: id }));
    }
    let amount = ctx.value;
    // What was proven on an empty escrow stays unpaid: the provider was free to end the deal.
    let standing = standing::roll(ctx, deal.provider)?;
    settle(ctx, &mut deal, &standing)?;
    let added = u128::try_from(amount).ok().and_then(|amount| deal.escrow.checked_add(amount));
    deal.escrow = added.ok_or_else(|| broken("more coin than there is"))?;
    deal.store(ctx)?;
    ctx.emit(DEALS, &IDeals::ToppedUp { deal: id, amount, escrow: deal.escrow })
}

fn close(ctx: &mut Ctx<'_, '_>, id: u64) -> Result<(), Stop> {
    let mut deal = Deal::live(ctx, id)?;
    if deal.state != OPEN {
        return Err(revert(IDeals::NotOpen { deal: id }));
    }
    let mut standing = standing::roll(ctx, deal.provider)?;
    settle(ctx, &mut deal, &standing)?;
    let is_owner = budgets::principal(ctx, ctx.caller)? == deal.owner;
    deal.to_reserve = !is_owner && release::may_end(ctx, &deal)?;
    if !is_owner && !deal.to_reserve {
        let operator = providers::find(ctx, deal.provider)?.map(|provider| provider.operator);
        let unfunded = U256::from(deal.escrow) < deal.pay(1).0 || deal.leaves == 0;
        if operator != Some(ctx.caller) || !unfunded {
            return Err(revert(IDeals::NotParty { deal: id }));
        }
    } else if let Some(until_ms) = locked_ms(ctx, deal.bucket)? {
        return Err(revert(IDeals::Locked { untilMs: until_ms }));
    }
    let window = queue::window(ctx)?;
    if !standing.owes_proof(&window) {
        return end(ctx, &mut deal, &mut standing);
    }
    deal.state = CLOSING;
    deal.store(ctx)?;
    tree::defer(ctx, &mut standing, id)?;
    standing.store(ctx)?;
    ctx.emit(DEALS, &IDeals::Closing { deal: id, provider: deal.provider, window: window.index })
}

/// Until when the bucket keeps versions that nobody may end.
fn locked_ms(ctx: &mut Ctx<'_, '_>, bucket: B256) -> Result<Option<u64>, Stop> {
    let bucket = buckets::find(ctx, bucket)?.ok_or_else(|| broken("a deal without a bucket"))?;
    Ok(bucket.locked_ms(ctx))
}

/// Pays what proven windows earned since the last touch, and takes in the slash index. Stores nothing.
fn settle(ctx: &mut Ctx<'_, '_>, deal: &mut Deal, standing: &Standing) -> Result<(), Stop> {
    let credit = standing.slash_index.saturating_sub(deal.slash_index);
    deal.slash_index = standing.slash_index;
    let credit: U256 = credit.saturating_mul(U256::from(deal.leaves)) >> 64usize;
    if !credit.is_zero() {
        reserve::add(ctx, deal.bucket, credit)?;
    }
    let windows = standing.proven.saturating_sub(deal.proven_at);
    if windows == 0 {
        return Ok(());
    }
    deal.proven_at = standing.proven;
    let (due, remainder) = deal.pay(windows);
    let escrow = U256::from(deal.escrow);
    let amount = due.min(escrow);
    deal.remainder = if due <= escrow { remainder } else { 0 };
    deal.escrow = (escrow - amount).saturating_to();
    if deal.leaves > 0 {
        deal.paid_windows += windows;
    }
    deal.paid = deal.paid.saturating_add(amount);
    if amount.is_zero() {
        return Ok(());
    }
    let operator = providers::find(ctx, deal.provider)?.ok_or_else(|| broken("a deal without a provider"))?.operator;
    ctx.transfer(DEALS, operator, amount)?;
    ctx.emit(
        DEALS,
        &IDeals::Paid { deal: deal.id, provider: deal.provider, operator, windows, amount, escrowLeft: deal.escrow },
    )
}

/// Settles and ends a deal whose leaves nobody is asked for: gives everything back, to the bucket's reserve where a
/// custodian closed it. Stores both.
fn end(ctx: &mut Ctx<'_, '_>, deal: &mut Deal, standing: &mut Standing) -> Result<(), Stop> {
    settle(ctx, deal, standing)?;
    tree::add(ctx, standing, deal.slot, deal.leaves, 0)?;
    tree::give_slot(ctx, standing, deal.slot)?;
    standing.store(ctx)?;
    let mut provider = providers::find(ctx, deal.provider)?.ok_or_else(|| broken("a deal without a provider"))?;
    let counted = provider.used_bytes.checked_sub(deal.pledged_bytes).zip(provider.deals.checked_sub(1));
    (provider.used_bytes, provider.deals) = counted.ok_or_else(|| broken("a provider's deals are miscounted"))?;
    providers::store(ctx, &provider)?;
    buckets::count_deal(ctx, deal.bucket, false)?;
    let refund = U256::from(deal.escrow);
    deal.missed_at = deal.missed(standing);
    deal.state = ENDED;
    deal.escrow = 0;
    deal.store(ctx)?;
    deal.forget(ctx)?;
    let ended = |refund| IDeals::Ended { deal: deal.id, bucket: deal.bucket, provider: deal.provider, refund };
    if !deal.to_reserve {
        ctx.transfer(DEALS, deal.owner, refund)?;
        return ctx.emit(DEALS, &ended(refund));
    }
    ctx.emit(DEALS, &ended(U256::ZERO))?;
    let reserve = reserve::add(ctx, deal.bucket, refund)?;
    ctx.emit(DEALS, &IDeals::Funded { bucket: deal.bucket, amount: refund, reserve })
}

fn show(ctx: &mut Ctx<'_, '_>, id: u64) -> Result<IDeals::Deal, Stop> {
    let deal = Deal::load(ctx, id)?.ok_or_else(|| revert(IDeals::UnknownDeal { deal: id }))?;
    let standing = Standing::load(ctx, deal.provider)?;
    let windows = if deal.state == ENDED { 0 } else { standing.proven.saturating_sub(deal.proven_at) };
    let owed = deal.pay(windows).0.min(U256::from(deal.escrow));
    Ok(deal.show(owed, deal.missed(&standing)))
}

fn batch(len: usize) -> Result<(), Stop> {
    if len > BATCH_MAX { Err(too_many(len as u64, BATCH_MAX as u64)) } else { Ok(()) }
}

fn too_many(given: u64, most: u64) -> Stop {
    revert(IModule::TooMany { given: U256::from(given), most: U256::from(most) })
}

fn ids(words: Vec<U256>) -> Vec<u64> {
    words.into_iter().map(|word| word.saturating_to()).collect()
}
