//! Have another host run what a suspect one is paid for, until it is known which of the two goes on.
//!
//! ```text
//! suspect ─► deputy, elsewhere, with some minutes of the escrow ─┬ alive: it ends, its rest goes back into the escrow
//!                                                                └ lost, or ended: it goes on with the rest of the escrow
//! ```
//! Two may run for two minutes, so that nobody waits two minutes where one is gone; requests go to who answers. The host
//! that is suspect is not paid meanwhile, the deputy is. A deputy has none itself. Reservations, what stands in one, what is
//! on call and what has a service level have none: nothing of the first runs, and the others' hosts are bound otherwise.

use alloy_primitives::U256;
use hodei_types::{
    abi::{ILeases, LEASES},
    market::{DEPUTY_SECS, LEASE_SECS_MIN, TERM_SECS_MAX, WATCHER_SECS, WATCHERS},
};

use super::{
    super::{
        ctx::{Ctx, Stop},
        queue,
    },
    begin, escrow,
    lease::{Lease, RUNNING},
    stream::{By, Running},
    stream_rate,
    within::Within,
};

impl Running {
    /// Begins a deputy of it, if a host within the order's terms has room, and its escrow lasts for that.
    pub(super) fn depute(mut self, ctx: &mut Ctx<'_, '_>) -> Result<(), Stop> {
        let Lease { id, node, replica, rate, via, deputy_of, .. } = self.lease;
        let terms = &self.order.terms;
        let is_bound = terms.is_reservation() || terms.within > 0 || self.order.is_on_call() || self.order.has_level();
        if is_bound || via > 0 || deputy_of > 0 || !self.order.may_lose() {
            return Ok(());
        }
        let Some(placement) = self.order.place_again(ctx, replica, &[node])? else { return Ok(()) };
        let price = stream_rate(false, &placement);
        // What those are owed who may yet tell of its loss stays.
        let told = rate.saturating_mul(u128::from(WATCHER_SECS) * WATCHERS as u128);
        let most = self.lease.left.saturating_sub(told).checked_div(price).unwrap_or(0);
        let secs = most.min(DEPUTY_SECS.into());
        let amount = escrow(ctx, price, placement.via, secs)?.min(self.lease.left);
        if amount.checked_div(price).unwrap_or(0) < LEASE_SECS_MIN.into() {
            return Ok(());
        }
        let deputy = begin(ctx, &self.order, &[placement], replica, secs)?;
        self.order.depute(ctx, replica, &placement, deputy)?;
        let mut standing = Lease::known(ctx, deputy)?;
        standing.deputy_of = id;
        standing.store(ctx)?;
        self.lease.left -= amount;
        self.lease.deputy = deputy;
        self.lease.store(ctx)?;
        let (owner, escrow) = (self.order.owner, U256::from(amount));
        ctx.emit(LEASES, &ILeases::Deputed { lease: id, deputy, owner, escrow })
    }

    /// Whether another stands in for it now.
    pub(super) fn has_deputy(&self, ctx: &mut Ctx<'_, '_>) -> Result<bool, Stop> {
        Ok(deputy(ctx, &self.lease)?.is_some())
    }

    /// Gives what is left of a deputy's escrow back to whom it stands in for; false if it is no deputy any more. Not written
    /// yet but for the other.
    pub(super) fn give_back(&mut self, ctx: &mut Ctx<'_, '_>) -> Result<bool, Stop> {
        let Lease { id, deputy_of, left, .. } = self.lease;
        let principal = if deputy_of > 0 { Lease::find(ctx, deputy_of)? } else { None };
        let Some(mut principal) = principal.filter(|principal| principal.state == RUNNING) else { return Ok(false) };
        principal.left += left;
        principal.store(ctx)?;
        self.lease.left = 0;
        let (owner, rest) = (self.order.owner, U256::from(left));
        ctx.emit(LEASES, &ILeases::Dismissed { lease: deputy_of, deputy: id, owner, rest })?;
        Ok(true)
    }

    /// Lets its deputy go on in its place, with what is left of its escrow in seconds of the deputy's. Not written yet but
    /// for the deputy.
    pub(super) fn hand_over(&mut self, ctx: &mut Ctx<'_, '_>) -> Result<(), Stop> {
        let Some(mut next) = deputy(ctx, &self.lease)? else { return Ok(()) };
        let owner = self.order.owner;
        let most = match Within::of(ctx, &next)? {
            Some(within) => within.renewal_secs(&next, owner),
            None => TERM_SECS_MAX.saturating_sub(next.funded_secs()),
        };
        let secs = self.lease.left.checked_div(next.rate).unwrap_or(0).min(most.into());
        // At most what is left: so many seconds fit.
        let escrow = next.rate.saturating_mul(secs).min(self.lease.left);
        next.left += escrow;
        next.deputy_of = 0;
        next.store(ctx)?;
        self.lease.left -= escrow;
        self.order.succeed(ctx, self.lease.replica, next.id)?;
        let (lease, next) = (self.lease.id, next.id);
        ctx.emit(LEASES, &ILeases::Replaced { lease, next, owner, escrow: U256::from(escrow) })
    }
}

/// Ends the deputy of a lease whose host showed itself; wei that are left of what it had. It is paid as if its owner had
/// ended it.
pub(super) fn dismiss(ctx: &mut Ctx<'_, '_>, lease: &Lease) -> Result<u128, Stop> {
    let Some(deputy) = deputy(ctx, lease)? else { return Ok(0) };
    let clock_ms = queue::window(ctx)?.clock_ms;
    let mut running = Running::load(ctx, deputy.id)?;
    let age_secs = running.lease.age_secs(clock_ms).max(LEASE_SECS_MIN);
    running.settle(ctx, age_secs)?;
    let rest = running.lease.left;
    running.give_back(ctx)?;
    running.end(ctx, By::Return, U256::ZERO)?;
    Ok(rest)
}

/// Who stands in for a lease now.
fn deputy(ctx: &mut Ctx<'_, '_>, lease: &Lease) -> Result<Option<Lease>, Stop> {
    if lease.deputy == 0 {
        return Ok(None);
    }
    let deputy = Lease::find(ctx, lease.deputy)?;
    Ok(deputy.filter(|deputy| deputy.state == RUNNING && deputy.deputy_of == lease.id))
}
