//! Pay hosts by the second, out of escrow, and end what is over.

use alloy_primitives::{Address, U256};
use hodei_types::{
    abi::{ILeases, IMarket::Placement, LEASES},
    market::{Capacity, Class, LEASE_SECS_MIN, QUIT_SECS, TERM_SECS_MAX, WATCHER_SECS, size_milli},
};

use super::{
    super::{
        budgets,
        ctx::{Ctx, Stop, revert},
        levels,
        market::{
            self,
            held::Held,
            offer::{self, Record},
            order::{self, Standing},
        },
        queue,
    },
    begin, escrow,
    lease::{ENDED, Lease, RUNNING, of_host},
    pay, stream_rate,
    within::Within,
};

const HOUR_SECS: u64 = 3600;
/// Hours one settlement tells the price index of: what was paid longer ago is no news.
const SAMPLE_HOURS_MAX: u64 = 24;

/// Who ended a lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum By {
    Owner = 1,
    Host = 2,
    Escrow = 3,
    Loss = 4,
    Return = 5,
}

/// A lease with what it belongs to.
pub(super) struct Running {
    pub(super) lease: Lease,
    pub(super) order: Standing,
    pub(super) host: Record,
    pub(super) within: Option<Within>,
}

impl Running {
    pub(super) fn load(ctx: &mut Ctx<'_, '_>, id: u64) -> Result<Self, Stop> {
        let lease = Lease::running(ctx, id)?;
        let order = Standing::known(ctx, lease.order)?;
        let host = Record::known(ctx, lease.node)?;
        let within = Within::of(ctx, &lease)?;
        Ok(Self { lease, order, host, within })
    }

    fn is_preemptible(&self) -> bool {
        self.order.terms.class == Class::Preemptible as u8
    }

    /// Whom it pays, and the reservation it stands in: its holder there, else its host.
    fn payee(&self) -> (Address, Option<u64>) {
        match &self.within {
            Some(within) => (within.holder, Some(within.order)),
            None => (self.host.operator, None),
        }
    }

    /// Refuses an end while others stand in what it holds.
    fn check_empty(&self, ctx: &mut Ctx<'_, '_>) -> Result<(), Stop> {
        match self.standing(ctx)? {
            0 => Ok(()),
            leases => Err(revert(ILeases::HoldsLeases { lease: self.lease.id, leases })),
        }
    }

    /// How many leases stand in what it holds.
    fn standing(&self, ctx: &mut Ctx<'_, '_>) -> Result<u64, Stop> {
        if !self.order.terms.is_reservation() {
            return Ok(0);
        }
        Ok(Held::find(ctx, self.lease.id)?.map_or(0, |held| held.leases))
    }

    /// Pays the seconds up to `age_secs` that are not paid yet, as far as the escrow goes; the wei it paid, with what was
    /// burned of them.
    pub(super) fn settle(&mut self, ctx: &mut Ctx<'_, '_>, age_secs: u64) -> Result<U256, Stop> {
        let (operator, reservation) = self.payee();
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
        let Lease { id, node, paid_secs, rate, .. } = *lease;
        let owner = self.order.owner;
        let (amount, burned) = pay(ctx, operator, paid)?;
        ctx.emit(LEASES, &ILeases::Settled { lease: id, node, owner, operator, secs, amount, burned })?;
        // What one pays oneself is neither earned nor a price.
        let is_own = operator == owner && reservation.is_some();
        if let Some(id) = reservation.filter(|_| !is_own) {
            order::earn(ctx, id, amount)?;
        }
        let hours = (paid_secs / HOUR_SECS - before / HOUR_SECS).min(SAMPLE_HOURS_MAX);
        // What is on call has no room, and what it pays is no price of any.
        let is_price = !self.is_preemptible() && !self.order.is_on_call() && !is_own && self.order.terms.within == 0;
        if hours > 0 && is_price {
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

    /// Ends it as settled: the rest goes to its deputy if it has one, else back to its owner; the room to its host.
    pub(super) fn end(mut self, ctx: &mut Ctx<'_, '_>, by: By, penalty: U256) -> Result<(), Stop> {
        self.hand_over(ctx)?;
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
        let may_go_on = self.order.may_lose();
        self.order.note_lost(ctx, node)?;
        if self.has_deputy(ctx)? || self.give_back(ctx)? {
            return self.end(ctx, By::Loss, U256::ZERO);
        }
        let found = if may_go_on { self.order.place_again(ctx, replica, &[])? } else { None };
        let is_on_call = self.order.is_on_call();
        let rate_of = |placement: &Placement| stream_rate(is_on_call, placement);
        let most = |placement: &Placement| self.lease.left.checked_div(rate_of(placement)).unwrap_or(0);
        let Some(placement) = found.filter(|placement| most(placement) >= LEASE_SECS_MIN.into()) else {
            if self.order.has_level() {
                levels::lost(ctx, id, reached_ms, None)?;
            }
            return self.end(ctx, By::Loss, U256::ZERO);
        };
        let secs = most(&placement).min(TERM_SECS_MAX.into());
        // At most what is left: so many seconds fit.
        let escrow = escrow(ctx, rate_of(&placement), placement.via, secs)?.min(self.lease.left);
        let next = begin(ctx, &self.order, &[placement], replica, secs)?;
        self.order.go_on(ctx, replica, &placement, next)?;
        if self.order.has_level() {
            levels::lost(ctx, id, reached_ms, Some(next))?;
        }
        self.lease.left -= escrow;
        let owner = self.order.owner;
        if let Some(held) = Held::find(ctx, id)? {
            held.go_on(ctx, owner, next)?;
        }
        ctx.emit(LEASES, &ILeases::Replaced { lease: id, next, owner, escrow: U256::from(escrow) })?;
        self.close(ctx, By::Loss, U256::ZERO)
    }

    /// Gives back what it took of a held lease, or forgets what it holds itself; the room that is its host's again. What
    /// stands in a lease that is lost takes its room of the host from here on.
    fn release(&self, ctx: &mut Ctx<'_, '_>) -> Result<Capacity, Stop> {
        let (lease, each) = (&self.lease, self.order.room());
        if self.order.terms.is_reservation() {
            let held = Held::find(ctx, lease.id)?;
            return held.map_or(Ok(each), |held| held.end(ctx));
        }
        let held = if lease.via > 0 { Held::find(ctx, lease.via)? } else { None };
        let Some(held) = held else { return Ok(each) };
        held.give(ctx, &each)?;
        Ok(Capacity::default())
    }

    fn close(mut self, ctx: &mut Ctx<'_, '_>, by: By, penalty: U256) -> Result<(), Stop> {
        if self.order.has_level() && by != By::Loss {
            levels::end(ctx, self.lease.id)?;
        }
        let refund = U256::from(self.lease.left);
        self.lease.clear(ctx)?;
        self.lease.left = 0;
        self.lease.state = ENDED;
        self.lease.deputy_of = 0;
        self.lease.store(ctx)?;
        let Lease { id, node, .. } = self.lease;
        let owner = self.order.owner;
        of_host(node).remove(ctx, U256::from(id))?;
        let room = self.release(ctx)?;
        self.host.give(ctx, &room)?;
        ctx.transfer(LEASES, owner, refund)?;
        ctx.emit(LEASES, &ILeases::Ended { lease: id, node, owner, by: by as u8, refund, penalty })
    }
}

/// Pays what is owed of a lease, and ends it if its escrow is over or its host lost; what it paid.
pub(super) fn touch(ctx: &mut Ctx<'_, '_>, id: u64) -> Result<U256, Stop> {
    let clock_ms = queue::window(ctx)?.clock_ms;
    // What it stands in goes on first, if that was lost, so that there is where to go on. That stands in nothing itself.
    let Lease { via, deputy_of, .. } = Lease::running(ctx, id)?;
    let held = if via > 0 { Lease::find(ctx, via)?.filter(|held| held.state == RUNNING) } else { None };
    if held.and_then(|held| held.lost_ms()).is_some_and(|lost_ms| clock_ms >= lost_ms) {
        touch(ctx, via)?;
    }
    // Whose place it takes: that it is lost may not have been said yet.
    let principal = if deputy_of > 0 { Lease::find(ctx, deputy_of)? } else { None };
    let principal = principal.filter(|principal| principal.state == RUNNING);
    if principal.and_then(|principal| principal.lost_ms()).is_some_and(|lost_ms| clock_ms >= lost_ms) {
        touch(ctx, deputy_of)?;
    }
    let mut running = Running::load(ctx, id)?;
    let age_secs = running.lease.age_secs(clock_ms);
    let paid = running.settle(ctx, age_secs)?;
    if running.order.has_level() {
        levels::look(ctx, id)?;
    }
    if running.lease.funded_secs() == 0 {
        // What stands in it is over too, and ends first.
        if running.standing(ctx)? == 0 {
            running.end(ctx, By::Escrow, U256::ZERO)?;
        }
    } else if running.lease.lost_ms().is_some_and(|lost_ms| clock_ms >= lost_ms) {
        running.lose(ctx)?;
    }
    Ok(paid)
}

/// Ends a lease for its owner.
pub(super) fn end(ctx: &mut Ctx<'_, '_>, id: u64) -> Result<(), Stop> {
    let mut running = Running::load(ctx, id)?;
    check_owner(ctx, running.order.owner)?;
    running.check_empty(ctx)?;
    let clock_ms = queue::window(ctx)?.clock_ms;
    let age_secs = running.lease.age_secs(clock_ms).max(LEASE_SECS_MIN);
    running.settle(ctx, age_secs)?;
    running.judge_lost(ctx, clock_ms)?;
    running.end(ctx, By::Owner, U256::ZERO)
}

/// Ends a lease for its host; or a preemptible one for the holder of what it stands in, who sold it as such.
pub(super) fn quit(ctx: &mut Ctx<'_, '_>, id: u64) -> Result<(), Stop> {
    let mut running = Running::load(ctx, id)?;
    let operator = running.host.operator;
    let is_holder = match &running.within {
        Some(within) if running.is_preemptible() => budgets::principal(ctx, ctx.caller)? == within.holder,
        _ => false,
    };
    if !is_holder && operator != ctx.caller {
        return Err(revert(ILeases::NotOperator { operator }));
    }
    running.check_empty(ctx)?;
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
    // What was sold as preemptible by its holder was not by its host; what lost its holder nobody pays the host's rent for.
    let is_free = match &running.within {
        Some(_) => is_holder,
        None => running.is_preemptible() || running.lease.via > 0,
    };
    let penalty = if is_free || gave_notice {
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
