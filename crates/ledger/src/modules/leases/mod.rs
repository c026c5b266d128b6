//! Pay for compute by the second, while its payer sleeps.
//!
//! ```text
//! begin (escrow) → touch* → the last second it pays for ─┐
//!                  renew*   end by owner, or host ───────┴→ the rest to the owner, the room to the host
//! ```
//! A lease pays its rate for each whole second of the active clock since it began, whoever touches it; a halt costs
//! nothing. The host's operator gets it, less the hundredth that is burned. Upon the last second its escrow pays for it
//! owes nothing more: it ends when anybody touches it, and until then holds its host's room, which is the host's reason to.
//!
//! Upon an end by the owner at least the first minute is owed. Upon an end by the host its collateral loses what the next
//! hour would have paid, half to the owner; not if the lease is preemptible, if the host retired seven windows ago, or of
//! what the collateral has not.
//!
//! A host that is not reached is not paid: drawn watchers say so, and it may show itself for two minutes (`watch`). Another
//! runs the same replica from then on (`deputy`), out of the same escrow. A lease whose host did not show itself is ended by
//! anybody's touch, and what is left of its escrow pays for its deputy, or without one for the same replica elsewhere. What
//! a host promised beyond that, and what breaking it costs, `levels` keeps.
//! Whether a host that is reached runs what it is paid for nobody here knows: the owner ends what does not answer.
//!
//! What is on call streams a thousandth of its rate, takes no room of its host, and pays its calls by vouchers out of the
//! same escrow (`calls`): what it owes for keeping comes first, and nothing is paid that is not there.
//!
//! A lease of a reservation holds room and runs nothing; others stand in it (`within`). Their pay is its holder's. None is
//! funded beyond its end, and it does not end before they do, but by the loss of its host: then those that stand in it are
//! their host's, as if they had been placed there, until they end or are lost themselves.
//!
//! Invariants: this module's account holds what is in escrow of all leases; what was paid for seconds and for calls, burned,
//! is left, went to watchers, went on and was paid back of a lease is what came in; no lease pays beyond its escrow, nor a
//! second twice, nor one after its host was last known to be there, nor a voucher twice.

mod calls;
mod deputy;
mod lease;
mod stream;
mod watch;
mod within;

use alloy_primitives::{Address, B256, U256};
use alloy_sol_types::SolCall as _;
use hodei_types::{
    abi::{BATCH_MAX, ILeases, IMarket::Placement, IModule, LEASES, PAGE_MAX},
    market::{Class, ROUND_MS, TERM_SECS_MAX, fee, keep_rate},
};

use super::{
    ctx::{Ctx, Stop, returns, revert},
    levels::{self, Fresh},
    market::{held::Held, offer::Record, order::Standing},
    queue, rounds,
};
use lease::{Lease, RUNNING};
use within::Within;
pub(super) use within::holding;

const PAYABLE: &[[u8; 4]] = &[ILeases::renewCall::SELECTOR];

pub(super) fn call(ctx: &mut Ctx<'_, '_>) -> Result<Vec<u8>, Stop> {
    use ILeases::ILeasesCalls as Calls;
    match ctx.decode::<Calls>(PAYABLE)? {
        Calls::touch(call) => {
            ctx.writes()?;
            at_most(call.leases.len() as u64, BATCH_MAX as u64)?;
            let mut paid = U256::ZERO;
            for id in call.leases {
                paid = paid.saturating_add(stream::touch(ctx, id)?);
            }
            returns(paid)
        }
        Calls::end(call) => {
            ctx.writes()?;
            at_most(call.leases.len() as u64, BATCH_MAX as u64)?;
            call.leases.into_iter().try_for_each(|id| stream::end(ctx, id))?;
            Ok(Vec::new())
        }
        Calls::quit(call) => {
            ctx.writes()?;
            at_most(call.leases.len() as u64, BATCH_MAX as u64)?;
            call.leases.into_iter().try_for_each(|id| stream::quit(ctx, id))?;
            Ok(Vec::new())
        }
        Calls::renew(call) => {
            ctx.writes()?;
            renew(ctx, call.lease)?;
            Ok(Vec::new())
        }
        Calls::unreachable(call) => {
            ctx.writes()?;
            watch::unreachable(ctx, call.lease, call.round, &call.signatures)?;
            Ok(Vec::new())
        }
        Calls::alive(call) => {
            ctx.writes()?;
            watch::alive(ctx, call.lease, call.generation, &call.signature)?;
            Ok(Vec::new())
        }
        Calls::claim(call) => {
            ctx.writes()?;
            returns(calls::claim(ctx, call.lease, call.total, &call.signature)?)
        }
        Calls::round(_) => {
            let number = rounds::now(ctx)?;
            let ends_ms = queue::wall_ms(ctx, number.saturating_add(1).saturating_mul(ROUND_MS))?;
            returns((number, ends_ms))
        }
        Calls::watchers(call) => returns(watch::watchers(ctx, call.lease, call.round)?),
        Calls::watchersOf(call) => {
            at_most(call.leases.len() as u64, BATCH_MAX as u64)?;
            let leases = call.leases.into_iter();
            let nodes: Vec<_> = leases.map(|id| watch::watchers(ctx, id, call.round)).collect::<Result<_, _>>()?;
            returns(nodes)
        }
        Calls::refuted(call) => returns(watch::refuted(ctx, call.node)?),
        Calls::get(call) => returns(show(ctx, call.lease)?),
        Calls::many(call) => {
            at_most(call.leases.len() as u64, BATCH_MAX as u64)?;
            let leases: Vec<_> = call.leases.into_iter().map(|id| show(ctx, id)).collect::<Result<_, _>>()?;
            returns(leases)
        }
        Calls::ofHost(call) => {
            at_most(call.most, PAGE_MAX)?;
            let leases = lease::of_host(call.node).page(ctx, call.first, call.most)?;
            returns(leases.into_iter().map(|id| id.saturating_to::<u64>()).collect::<Vec<_>>())
        }
        Calls::count(_) => {
            let count = lease::count(ctx)?;
            returns(count)
        }
    }
}

/// Makes a lease of each placement, with escrow for so many seconds, or as long as what it stands in lasts, of this replica
/// and the next; the first one's id. The caller brings the coin.
pub(super) fn begin(
    ctx: &mut Ctx<'_, '_>,
    order: &Standing,
    placements: &[Placement],
    replica: u8,
    secs: u128,
) -> Result<u64, Stop> {
    let begun_ms = queue::window(ctx)?.clock_ms;
    let first = lease::count(ctx)? + 1;
    let (has_level, is_on_call) = (order.has_level(), order.is_on_call());
    let (terms, order, owner) = (&order.terms, order.id, order.owner);
    let workload = terms.workload;
    for ((id, replica), placement) in (first..).zip(replica..).zip(placements) {
        let Placement { node, via, .. } = *placement;
        let rate = stream_rate(is_on_call, placement);
        let left = escrow(ctx, rate, via, secs)?;
        if terms.is_reservation() {
            Held::begin(ctx, id, node, &terms.each)?;
        }
        let (call_rate, claimed) = (if is_on_call { placement.rate } else { 0 }, 0);
        let (state, generation, suspect_secs, paid_secs, deputy, deputy_of) = (RUNNING, 0, 0, 0, 0, 0);
        let lease = Lease {
            id,
            order,
            node,
            via,
            deputy,
            deputy_of,
            state,
            replica,
            generation,
            suspect_secs,
            begun_ms,
            paid_secs,
            rate,
            left,
            call_rate,
            claimed,
        };
        lease.store_new(ctx)?;
        ctx.emit(LEASES, &ILeases::Begun { lease: id, node, owner, order, rate, escrow: left, workload })?;
        if has_level {
            let term_secs = u64::try_from(secs).unwrap_or(u64::MAX).min(terms.secs);
            levels::begin(ctx, &Fresh { id, node, owner, rate, term_secs, begun_ms })?;
        }
    }
    lease::store_count(ctx, first - 1 + placements.len() as u64)?;
    Ok(first)
}

/// Pays wei of a lease's escrow: what came to `operator`, and what was burned.
pub(super) fn pay(ctx: &mut Ctx<'_, '_>, operator: Address, paid: U256) -> Result<(U256, U256), Stop> {
    let burned = fee(paid);
    let amount = paid - burned;
    ctx.transfer(LEASES, operator, amount)?;
    ctx.burn(LEASES, burned)?;
    Ok((amount, burned))
}

/// What a placement is paid by the second.
pub(super) fn stream_rate(is_on_call: bool, placement: &Placement) -> u128 {
    if is_on_call { keep_rate(placement.rate) } else { placement.rate }
}

/// Wei that a lease is funded with at this rate, for so many seconds or as long as what it stands in lasts.
pub(super) fn escrow(ctx: &mut Ctx<'_, '_>, rate: u128, via: u64, secs: u128) -> Result<u128, Stop> {
    let most = match via {
        0 => TERM_SECS_MAX,
        via => holding(ctx, via)?.map_or(0, |holding| holding.rest_secs),
    };
    // Below 2^119: a rate of 2^93, for seconds of 2^26.
    Ok(rate.saturating_mul(secs.min(most.into())))
}

/// Where a lease is, if it runs.
pub(super) fn living(ctx: &mut Ctx<'_, '_>, id: u64) -> Result<Option<B256>, Stop> {
    let lease = Lease::known(ctx, id)?;
    Ok((lease.state == RUNNING).then_some(lease.node))
}

fn renew(ctx: &mut Ctx<'_, '_>, id: u64) -> Result<(), Stop> {
    let mut lease = Lease::running(ctx, id)?;
    let clock_ms = queue::window(ctx)?.clock_ms;
    if clock_ms >= lease.ends_ms() {
        return Err(revert(ILeases::NotRunning { lease: id }));
    }
    let owner = Standing::known(ctx, lease.order)?.owner;
    let mut most = TERM_SECS_MAX.saturating_sub(lease.funded_secs());
    if lease.via > 0 {
        // The room is its holder's until the end of what he holds: his own renewals are the host's to refuse.
        most = Within::of(ctx, &lease)?.map_or(0, |within| within.renewal_secs(&lease, owner)).min(most);
    } else {
        check_renews(ctx, lease.node)?;
    }
    let (amount, rate) = (ctx.value, U256::from(lease.rate));
    if amount.is_zero() || amount % rate != U256::ZERO || amount / rate > U256::from(most) {
        return Err(revert(ILeases::BadRenewal { rate, secsMax: most }));
    }
    lease.left = lease.left.saturating_add(amount.saturating_to());
    lease.store(ctx)?;
    ctx.emit(LEASES, &ILeases::Renewed { lease: id, owner, amount, left: lease.left })
}

/// Refuses a renewal for a host that takes none.
fn check_renews(ctx: &mut Ctx<'_, '_>, node: B256) -> Result<(), Stop> {
    let host = Record::known(ctx, node)?;
    if host.retired {
        return Err(revert(ILeases::HostRetired { node }));
    }
    let (collateral, least) = (host.collateral, host.least(ctx));
    if collateral < least { Err(revert(ILeases::HostShort { node, collateral, least })) } else { Ok(()) }
}

fn show(ctx: &mut Ctx<'_, '_>, id: u64) -> Result<ILeases::Lease, Stop> {
    let lease = Lease::known(ctx, id)?;
    let order = Standing::known(ctx, lease.order)?;
    let clock_ms = queue::window(ctx)?.clock_ms;
    let is_running = lease.state == RUNNING;
    let owed_secs =
        lease.payable_secs(lease.age_secs(clock_ms)).saturating_sub(lease.paid_secs).min(lease.funded_secs());
    let owed = if is_running { lease.rate.saturating_mul(owed_secs.into()) } else { 0 };
    let begun_ms = queue::wall_ms(ctx, lease.begun_ms)?;
    let until_ms = queue::wall_ms(ctx, lease.ends_ms())?;
    let lost_ms = lease.lost_ms().map(|lost_ms| queue::wall_ms(ctx, lost_ms)).transpose()?;
    Ok(ILeases::Lease {
        id,
        order: lease.order,
        owner: order.owner,
        node: lease.node,
        state: lease.state,
        preemptible: order.terms.class == Class::Preemptible as u8,
        capacity: order.terms.each,
        rate: lease.rate,
        left: lease.left,
        owed,
        paidSecs: lease.paid_secs,
        begunMs: begun_ms,
        untilMs: until_ms,
        workload: order.terms.workload,
        replica: lease.replica,
        generation: lease.generation.into(),
        lostMs: lost_ms.unwrap_or(0),
        callRate: lease.call_rate,
        claimed: lease.claimed,
        via: lease.via,
        deputyOf: lease.deputy_of,
    })
}

fn at_most(given: u64, most: u64) -> Result<(), Stop> {
    let too_many = || revert(IModule::TooMany { given: U256::from(given), most: U256::from(most) });
    if given > most { Err(too_many()) } else { Ok(()) }
}
