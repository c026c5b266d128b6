//! Pay hosts by the second, out of escrow, and end what is over.

use alloy_primitives::{Address, U256};
use hodei_types::{
    abi::{ILeases, IMarket::Placement, LEASES},
    market::{BP, Class, FEE_BP, LEASE_SECS_MIN, QUIT_SECS, TERM_SECS_MAX, WATCHER_SECS, size_milli},
};

use super::{
    super::{
        budgets,
        ctx::{Ctx, Stop, revert},
        levels,
        market::{
            self,
            offer::{self, Record},
            order::Standing,
        },
        queue,
    },
    begin,
    lease::{ENDED, Lease, of_host},
};

const HOUR_SECS: u64 = 3600;
/// Hours one settlement tells the price index of: what was paid longer ago is no news.
const SAMPLE_HOURS_MAX: u64 = 24;

/// Who ended a lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
enum By {
    Owner = 1,
    Host = 2,
    Escrow = 3,
    Loss = 4,
}

/// A lease with what it belongs to.
pub(super) struct Running {
    pub(super) lease: Lease,
    pub(super) order: Standing,
    pub(super) host: Record,
}

impl Running {
    pub(super) fn load(ctx: &mut Ctx<'_, '_>, id: u64) -> Result<Self, Stop> {
        let lease = Lease::running(ctx, id)?;
        let order = Standing::known(ctx, lease.order)?;
        let host = Record::known(ctx, lease.node)?;
        Ok(Self { lease, order, host })
    }

    fn is_preemptible(&self) -> bool {
        self.order.terms.class == Class::Preemptible as u8
    }

    /// Pays the seconds up to `age_secs` that are not paid yet, as far as the escrow goes; the wei it paid, with what was
    /// burned of them.
    fn settle(&mut self, ctx: &mut Ctx<'_, '_>, age_secs: u64) -> Result<U256, Stop> {
        let lease = &mut self.lease;
        let secs = lease.payable_secs(age_secs).saturating_sub(lease.paid_secs).min(lease.funded_secs());
        if secs == 0 {
            return Ok(U256::ZERO);
        }
        // At most what is left: so many seconds are funded.
        let paid = lease.rate.saturating_mul(secs.into()).min(lease.left);
        let before = lease.paid_secs;
        lease.left -= paid;
        lease.paid_secs += secs;
        lease.store(ctx)?;
        let paid = U256::from(paid);
        let burned = (paid * U256::from(FEE_BP)).div_ceil(U256::from(BP));
        let amount = paid - burned;
        let Lease { id, node, paid_secs, rate, .. } = *lease;
        let (owner, operator) = (self.order.owner, self.host.operator);
        ctx.transfer(LEASES, operator, amount)?;
        ctx.burn(LEASES, burned)?;
        ctx.emit(LEASES, &ILeases::Settled { lease: id, node, owner, operator, secs, amount, burned })?;
        let hours = (paid_secs / HOUR_SECS - before / HOUR_SECS).min(SAMPLE_HOURS_MAX);
        if hours > 0 && !self.is_preemptible() {
            let hour = rate.saturating_mul(HOUR_SECS.into());
            let size = u128::from(size_milli(&self.order.terms.each).max(1));
            let price = hour.saturating_mul(1000).div_ceil(size);
            market::sample(ctx, self.host.place(), owner, price, hour.saturating_mul(hours.into()))?;
        }
        Ok(paid)
    }

    /// Judges its level if it is lost, though nobody touched it since; whether it is.
    fn judge_lost(&self, ctx: &mut Ctx<'_, '_>, clock_ms: u64) -> Result<bool, Stop> {
        let (lost_ms, accused_ms) = (self.lease.lost_ms(), self.lease.suspect_ms());
        let Some(accused_ms) = accused_ms.filter(|_| lost_ms.is_some_and(|lost_ms| clock_ms >= lost_ms)) else {
            return Ok(false);
        };
        if self.order.has_level() {
            levels::lost(ctx, self.lease.id, accused_ms, None)?;
        }
        Ok(true)
    }

    /// Ends it as settled: the rest goes back to its owner, the room to its host.
    fn end(mut self, ctx: &mut Ctx<'_, '_>, by: By, penalty: U256) -> Result<(), Stop> {
        self.order.count_ended(ctx)?;
        self.close(ctx, by, penalty)
    }

    /// Ends it as lost: who told of it is paid, and the rest pays for another lease of the same replica, if a host within
    /// the order's terms has room for it and it lasts for a minute; else it goes back.
    fn lose(mut self, ctx: &mut Ctx<'_, '_>) -> Result<(), Stop> {
        let Lease { id, node, replica, rate, .. } = self.lease;
        let reached_ms = self.lease.suspect_ms().unwrap_or(self.lease.begun_ms);
        for watcher in self.lease.clear(ctx)? {
            let operator = offer::operator(ctx, watcher)?;
            let amount = rate.saturating_mul(WATCHER_SECS.into()).min(self.lease.left);
            if amount == 0 || operator.is_zero() {
                continue;
            }
            self.lease.left -= amount;
            let amount = U256::from(amount);
            ctx.transfer(LEASES, operator, amount)?;
            ctx.emit(LEASES, &ILeases::Watched { lease: id, watcher, operator, amount })?;
        }
        let found = self.order.place_again(ctx, replica, node)?;
        let most = |placement: &Placement| self.lease.left.checked_div(placement.rate).unwrap_or(0);
        let Some(placement) = found.filter(|placement| most(placement) >= LEASE_SECS_MIN.into()) else {
            if self.order.has_level() {
                levels::lost(ctx, id, reached_ms, None)?;
            }
            return self.end(ctx, By::Loss, U256::ZERO);
        };
        let secs = most(&placement).min(TERM_SECS_MAX.into());
        let next = begin(ctx, &self.order, &[placement], replica, secs)?;
        self.order.go_on(ctx, replica, &placement, next)?;
        if self.order.has_level() {
            levels::lost(ctx, id, reached_ms, Some(next))?;
        }
        // At most what is left: so many seconds fit.
        let escrow = placement.rate.saturating_mul(secs).min(self.lease.left);
        self.lease.left -= escrow;
        let owner = self.order.owner;
        ctx.emit(LEASES, &ILeases::Replaced { lease: id, next, owner, escrow: U256::from(escrow) })?;
        self.close(ctx, By::Loss, U256::ZERO)
    }

    fn close(mut self, ctx: &mut Ctx<'_, '_>, by: By, penalty: U256) -> Result<(), Stop> {
        if self.order.has_level() && by != By::Loss {
            levels::end(ctx, self.lease.id)?;
        }
        let refund = U256::from(self.lease.left);
        self.lease.clear(ctx)?;
        self.lease.left = 0;
        self.lease.state = ENDED;
        self.lease.store(ctx)?;
        let Lease { id, node, .. } = self.lease;
        let owner = self.order.owner;
        of_host(node).remove(ctx, U256::from(id))?;
        self.host.give(ctx, &self.order.terms.each)?;
        ctx.transfer(LEASES, owner, refund)?;
        ctx.emit(LEASES, &ILeases::Ended { lease: id, node, owner, by: by as u8, refund, penalty })
    }
}

/// Pays what is owed of a lease, and ends it if its escrow is over or its host lost; what it paid.
pub(super) fn touch(ctx: &mut Ctx<'_, '_>, id: u64) -> Result<U256, Stop> {
    let mut running = Running::load(ctx, id)?;
    let clock_ms = queue::window(ctx)?.clock_ms;
    let age_secs = running.lease.age_secs(clock_ms);
    let paid = running.settle(ctx, age_secs)?;
    if running.order.has_level() {
        levels::look(ctx, id)?;
    }
    if running.lease.funded_secs() == 0 {
        running.end(ctx, By::Escrow, U256::ZERO)?;
    } else if running.lease.lost_ms().is_some_and(|lost_ms| clock_ms >= lost_ms) {
        running.lose(ctx)?;
    }
    Ok(paid)
}

/// Ends a lease for its owner.
pub(super) fn end(ctx: &mut Ctx<'_, '_>, id: u64) -> Result<(), Stop> {
    let mut running = Running::load(ctx, id)?;
    check_owner(ctx, running.order.owner)?;
    let clock_ms = queue::window(ctx)?.clock_ms;
    let age_secs = running.lease.age_secs(clock_ms).max(LEASE_SECS_MIN);
    running.settle(ctx, age_secs)?;
    running.judge_lost(ctx, clock_ms)?;
    running.end(ctx, By::Owner, U256::ZERO)
}

/// Ends a lease for its host.
pub(super) fn quit(ctx: &mut Ctx<'_, '_>, id: u64) -> Result<(), Stop> {
    let mut running = Running::load(ctx, id)?;
    let operator = running.host.operator;
    if operator != ctx.caller {
        return Err(revert(ILeases::NotOperator { operator }));
    }
    let clock_ms = queue::window(ctx)?.clock_ms;
    let age_secs = running.lease.age_secs(clock_ms);
    running.settle(ctx, age_secs)?;
    if running.order.has_level()
        && let Some(accused_ms) = running.lease.suspect_ms()
        && !running.judge_lost(ctx, clock_ms)?
    {
        levels::shown(ctx, id, accused_ms)?;
    }
    let (owner, rest_secs) = (running.order.owner, running.lease.funded_secs());
    let gave_notice = running.host.retired && clock_ms >= running.host.quits_free_ms;
    let penalty = if running.is_preemptible() || gave_notice {
        U256::ZERO
    } else {
        let most = U256::from(running.lease.rate) * U256::from(rest_secs.min(QUIT_SECS));
        running.host.slash(ctx, id, most, owner)?
    };
    let by = if rest_secs == 0 { By::Escrow } else { By::Host };
    running.end(ctx, by, penalty)
}

fn check_owner(ctx: &mut Ctx<'_, '_>, owner: Address) -> Result<(), Stop> {
    if budgets::principal(ctx, ctx.caller)? == owner { Ok(()) } else { Err(revert(ILeases::NotOwner { owner })) }
}
