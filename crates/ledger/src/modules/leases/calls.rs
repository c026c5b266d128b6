//! Pay for calls by vouchers: one signature over all that a lease's calls cost so far.
//!
//! ```text
//! calls, by the hundred, beside the ledger ─► voucher (lease, total) ─► claim: what it is beyond what was claimed
//! ```
//! Upon a claim what the lease owes for keeping is paid first. Both share one escrow; where it does not suffice for the
//! voucher, what there is is paid, and the same voucher pays the rest once the escrow was renewed. Without escrow the
//! lease ends by the next touch, as any other. Once it ended no voucher is worth anything: a host claims before.

use alloy_primitives::U256;
use hodei_types::abi::{ILeases, LEASES, voucher_statement};

use super::{
    super::{
        budgets,
        ctx::{Ctx, Stop, revert},
        queue,
    },
    lease::Lease,
    pay,
    stream::Running,
};

/// Pays what a voucher is beyond what was claimed of a lease, as far as the escrow goes; the wei, with what was burned.
pub(super) fn claim(ctx: &mut Ctx<'_, '_>, id: u64, total: u128, signature: &[u8]) -> Result<U256, Stop> {
    let mut running = Running::load(ctx, id)?;
    if running.lease.call_rate == 0 {
        return Err(revert(ILeases::NotOnCall { lease: id }));
    }
    let owner = running.order.owner;
    let signer = ctx.account_signed(&voucher_statement(ctx.params.chain_id, id, total), signature)?;
    let is_his = match signer {
        Some(signer) => budgets::principal(ctx, signer)? == owner,
        None => false,
    };
    if !is_his {
        return Err(revert(ILeases::BadVoucher { owner }));
    }
    let claimed = running.lease.claimed;
    let wanted = total.checked_sub(claimed).ok_or_else(|| revert(ILeases::StaleVoucher { total, claimed }))?;
    let clock_ms = queue::window(ctx)?.clock_ms;
    let age_secs = running.lease.age_secs(clock_ms);
    running.settle(ctx, age_secs)?;
    let amount = wanted.min(running.lease.left);
    if amount == 0 {
        return Ok(U256::ZERO);
    }
    running.lease.left -= amount;
    running.lease.claimed += amount;
    running.lease.store(ctx)?;
    let paid = U256::from(amount);
    let Lease { id, node, claimed, .. } = running.lease;
    let operator = running.host.operator;
    let (amount, burned) = pay(ctx, operator, paid)?;
    ctx.emit(LEASES, &ILeases::Claimed { lease: id, node, owner, operator, claimed, amount, burned })?;
    Ok(paid)
}
