//! Let drawn hosts say that another is not reached, and let that one show itself.
//!
//! ```text
//! round (seed) → watchers of a lease → unreachable (two signatures) → suspect ─ two minutes → touch: lost
//!                                                                        └ alive → counts against who signed
//! ```
//! Watchers are hosts of three operators, none of them the lease's host's or its owner's, nor the holder's of what it
//! stands in. Each is drawn on its own: from a
//! place the seed names in the list of hosts as long as it was when the round began, the next that may watch, within a few
//! steps. Who would be drawn twice for one lease must be two operators, and stand at two places.
//!
//! A statement names the lease's generation, which the statement itself ends: none is of use twice.

use alloy_primitives::{Address, B256, Bytes, U256, keccak256};
use hodei_types::{
    abi::{ILeases, LEASES, alive_statement, unreachable_statement},
    market::{REFUTED_BP, REFUTED_MAX, ROUND_MS, WATCHERS, WATCHERS_NEEDED},
};

use super::{
    super::{
        ctx::{Ctx, Stop, revert},
        levels,
        market::offer,
        market::order::Standing,
        queue, rounds,
        slots::{base, pack, unpack},
    },
    deputy,
    lease::{Lease, RUNNING},
    stream::Running,
    within::Within,
};

const TAG_REFUTED: u8 = 4;

/// Hosts that are looked at for one watcher: retired ones and those of the same operators are passed by.
const STEPS_MAX: u64 = 8;

/// Who watches a lease in this round or the one before; nobody, if it does not run or began in that round.
pub(super) fn watchers(ctx: &mut Ctx<'_, '_>, id: u64, round: u64) -> Result<Vec<B256>, Stop> {
    let lease = Lease::known(ctx, id)?;
    let owner = Standing::known(ctx, lease.order)?.owner;
    let operator = offer::operator(ctx, lease.node)?;
    let within = Within::of(ctx, &lease)?;
    draw(ctx, &lease, sides(owner, operator, within.as_ref()), round)
}

/// Who has a part in a lease.
fn sides(owner: Address, operator: Address, within: Option<&Within>) -> Vec<Address> {
    [Some(owner), Some(operator), within.map(|within| within.holder)].into_iter().flatten().collect()
}

fn draw(ctx: &mut Ctx<'_, '_>, lease: &Lease, sides: Vec<Address>, number: u64) -> Result<Vec<B256>, Stop> {
    let Some(round) = rounds::round(ctx, number)? else {
        return Err(revert(ILeases::BadRound { given: number, now: rounds::now(ctx)? }));
    };
    let is_watched = lease.state == RUNNING && lease.begun_ms / ROUND_MS < number;
    if !is_watched || round.seed.is_zero() || round.hosts == 0 {
        return Ok(Vec::new());
    }
    let (mut nodes, mut operators) = (Vec::new(), sides);
    for i in 0..WATCHERS as u8 {
        let drawn: U256 = keccak256([round.seed.as_slice(), &lease.id.to_be_bytes(), &[i]].concat()).into();
        let first: u64 = drawn.checked_rem(U256::from(round.hosts)).unwrap_or_default().saturating_to();
        for step in 0..STEPS_MAX.min(round.hosts) {
            let place = (first + step).checked_rem(round.hosts).unwrap_or(0);
            let node: B256 = offer::nodes().at(ctx, place)?.into();
            let found = offer::watcher(ctx, node)?.filter(|operator| !operators.contains(operator));
            if let Some(operator) = found {
                operators.push(operator);
                nodes.push(node);
                break;
            }
        }
    }
    Ok(nodes)
}

/// Makes a lease suspect, if enough of its watchers signed.
pub(super) fn unreachable(ctx: &mut Ctx<'_, '_>, id: u64, round: u64, signatures: &[Bytes]) -> Result<(), Stop> {
    let mut running = Running::load(ctx, id)?;
    let Running { lease, order, host, within } = &mut running;
    let clock_ms = queue::window(ctx)?.clock_ms;
    if clock_ms >= lease.ends_ms() {
        return Err(revert(ILeases::NotRunning { lease: id }));
    }
    if lease.lost_ms().is_some() {
        return Err(revert(ILeases::AlreadySuspect { lease: id }));
    }
    let nodes = draw(ctx, lease, sides(order.owner, host.operator, within.as_ref()), round)?;
    let message = unreachable_statement(ctx.params.chain_id, id, lease.generation.into(), round);
    let mut accusers = Vec::new();
    // At most one signature a watcher is looked at.
    for (node, signature) in nodes.into_iter().zip(signatures) {
        if !signature.is_empty() && ctx.node_signed(node, &message, signature)? {
            accusers.push(node);
        }
    }
    if accusers.len() < WATCHERS_NEEDED {
        let (right, needed) = (accusers.len() as u64, WATCHERS_NEEDED as u64);
        return Err(revert(ILeases::BadSignatures { right, needed }));
    }
    lease.suspect(ctx, clock_ms, &accusers)?;
    lease.store(ctx)?;
    let lost_ms = queue::wall_ms(ctx, lease.lost_ms().unwrap_or(clock_ms))?;
    let (node, owner, generation) = (lease.node, order.owner, lease.generation.into());
    ctx.emit(LEASES, &ILeases::Suspected { lease: id, node, owner, generation, lostMs: lost_ms, watchers: accusers })?;
    running.depute(ctx)
}

/// Takes it back for a host that shows itself in time; it counts against who signed.
pub(super) fn alive(ctx: &mut Ctx<'_, '_>, id: u64, generation: u64, signature: &[u8]) -> Result<(), Stop> {
    let Running { mut lease, order, host, .. } = Running::load(ctx, id)?;
    let Some(lost_ms) = lease.lost_ms() else { return Err(revert(ILeases::NotSuspect { lease: id })) };
    let found = lease.generation.into();
    if generation != found {
        return Err(revert(ILeases::BadGeneration { given: generation, found }));
    }
    if queue::window(ctx)?.clock_ms >= lost_ms {
        let lost_ms = queue::wall_ms(ctx, lost_ms)?;
        return Err(revert(ILeases::TooLate { lostMs: lost_ms }));
    }
    let speaks = if signature.is_empty() {
        ctx.caller == host.operator
    } else {
        ctx.node_signed(lease.node, &alive_statement(ctx.params.chain_id, id, generation), signature)?
    };
    if !speaks {
        return Err(revert(ILeases::BadAlive {}));
    }
    let accused_ms = lease.suspect_ms().unwrap_or(lost_ms);
    let watchers = lease.clear(ctx)?;
    lease.left += deputy::dismiss(ctx, &lease)?;
    lease.store(ctx)?;
    for node in &watchers {
        count_refuted(ctx, *node, id)?;
    }
    if order.has_level() {
        levels::shown(ctx, id, accused_ms)?;
    }
    let (node, owner) = (lease.node, order.owner);
    ctx.emit(LEASES, &ILeases::Refuted { lease: id, node, owner, generation, watchers })
}

/// Accusations of a watcher that were refuted in the open window.
pub(super) fn refuted(ctx: &mut Ctx<'_, '_>, node: B256) -> Result<u64, Stop> {
    let now = queue::window(ctx)?.index;
    let [window, count, ..] = unpack(ctx.load(LEASES, base(TAG_REFUTED, &[node.as_slice()]))?);
    Ok(if window == now { count } else { 0 })
}

/// Counts one more; each third of a window takes collateral. Who left has none here, and begins anew when it comes again
/// but for this count.
fn count_refuted(ctx: &mut Ctx<'_, '_>, node: B256, lease: u64) -> Result<(), Stop> {
    let count = refuted(ctx, node)?.saturating_add(1);
    let window = queue::window(ctx)?.index;
    ctx.store(LEASES, base(TAG_REFUTED, &[node.as_slice()]), pack([window, count, 0, 0]))?;
    if count.is_multiple_of(REFUTED_MAX) { offer::fine(ctx, node, lease, REFUTED_BP) } else { Ok(()) }
}
