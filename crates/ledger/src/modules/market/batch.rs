//! Try orders that wait, some every ten seconds, without anybody's call.
//!
//! The first order that waits queues a batch for the next ten seconds of the active clock that are whole; each batch queues
//! the next while any waits. Orders stand in a ring. A batch goes on where the last one ended, and ends orders whose time is
//! over; what comes stands behind all that wait. So of n that wait each is tried within n/8 batches, rounded up, however
//! many come and go meanwhile.

use alloy_primitives::U256;
use hodei_types::abi::MARKET;

use super::{
    super::{
        ctx::{Ctx, Stop, broken},
        queue::{self, Kind},
        slots::{base, pack, unpack},
    },
    matcher::{self, Beside},
    order::Standing,
};

const TAG_WAITING: u8 = 30;
const TAG_BATCH: u8 = 31;

const BATCH_MS: u64 = 10_000;
/// Orders of one batch: each may look at as many offers as an order that is sent, which is about a fifth of what a block
/// has room for.
const TRIES_MAX: u64 = 8;

/// The ring of orders that wait.
#[derive(Clone, Copy, Debug)]
struct Ring {
    is_queued: bool,
    /// The order that is tried next, 0 where none waits.
    next: u64,
    count: u64,
}

impl Ring {
    fn load(ctx: &mut Ctx<'_, '_>) -> Result<Self, Stop> {
        let [is_queued, next, count, _] = unpack(ctx.load(MARKET, state_slot())?);
        Ok(Self { is_queued: is_queued > 0, next, count })
    }

    fn store(self, ctx: &mut Ctx<'_, '_>) -> Result<(), Stop> {
        ctx.store(MARKET, state_slot(), pack([self.is_queued.into(), self.next, self.count, 0]))
    }
}

/// What stands before and behind an order.
fn beside(ctx: &mut Ctx<'_, '_>, id: u64) -> Result<(u64, u64), Stop> {
    let [before, behind, ..] = unpack(ctx.load(MARKET, waiting_slot(id))?);
    Ok((before, behind))
}

/// Has one order stand right before another.
fn join(ctx: &mut Ctx<'_, '_>, before: u64, behind: u64) -> Result<(), Stop> {
    let (first, _) = beside(ctx, before)?;
    ctx.store(MARKET, waiting_slot(before), pack([first, behind, 0, 0]))?;
    let (_, last) = beside(ctx, behind)?;
    ctx.store(MARKET, waiting_slot(behind), pack([before, last, 0, 0]))
}

/// Puts an order behind those that wait: right before the one that is tried next.
pub(super) fn enter(ctx: &mut Ctx<'_, '_>, id: u64) -> Result<(), Stop> {
    let mut ring = Ring::load(ctx)?;
    if ring.count == 0 {
        join(ctx, id, id)?;
        ring.next = id;
    } else {
        let (last, _) = beside(ctx, ring.next)?;
        join(ctx, last, id)?;
        join(ctx, id, ring.next)?;
    }
    ring.count += 1;
    ring.store(ctx)?;
    if ring.is_queued { Ok(()) } else { queue_next(ctx) }
}

/// Takes one out that waits no more.
pub(super) fn leave(ctx: &mut Ctx<'_, '_>, id: u64) -> Result<(), Stop> {
    let mut ring = Ring::load(ctx)?;
    let (before, behind) = beside(ctx, id)?;
    if before == 0 || ring.count == 0 {
        return Err(broken("the ring lost an order that waits"));
    }
    join(ctx, before, behind)?;
    ctx.store(MARKET, waiting_slot(id), U256::ZERO)?;
    ring.count -= 1;
    if ring.count == 0 {
        ring.next = 0;
    } else if ring.next == id {
        ring.next = behind;
    }
    ring.store(ctx)
}

/// Tries what comes next, each order once at most.
pub(in super::super) fn run(ctx: &mut Ctx<'_, '_>) -> Result<(), Stop> {
    let clock_ms = queue::window(ctx)?.clock_ms;
    for _ in 0..TRIES_MAX.min(Ring::load(ctx)?.count) {
        let ring = Ring::load(ctx)?;
        let (id, (_, next)) = (ring.next, beside(ctx, ring.next)?);
        // Moved on before, as it may leave.
        Ring { next, ..ring }.store(ctx)?;
        settle(ctx, id, clock_ms)?;
    }
    let ring = Ring { is_queued: false, ..Ring::load(ctx)? };
    ring.store(ctx)?;
    if ring.count > 0 { queue_next(ctx) } else { Ok(()) }
}

/// Fills an order that waits if there is room now, or ends it if its time is over.
fn settle(ctx: &mut Ctx<'_, '_>, id: u64, clock_ms: u64) -> Result<(), Stop> {
    let mut order = Standing::known(ctx, id)?;
    if clock_ms > order.until_ms {
        return order.cancel(ctx);
    }
    let Ok(placements) = matcher::place(ctx, &order.terms, Beside::default())? else { return Ok(()) };
    match order.fill(ctx, &placements) {
        // Refused before anything was written: it goes on waiting.
        Err(Stop::Revert(_)) => Ok(()),
        filled => filled,
    }
}

fn queue_next(ctx: &mut Ctx<'_, '_>) -> Result<(), Stop> {
    let clock_ms = queue::window(ctx)?.clock_ms;
    let due_ms = (clock_ms / BATCH_MS + 1) * BATCH_MS;
    queue::push(ctx, due_ms, Kind::Batch, U256::ZERO)?;
    let ring = Ring::load(ctx)?;
    Ring { is_queued: true, ..ring }.store(ctx)
}

/// Whether a batch is queued, which order it goes on with, and how many wait.
fn state_slot() -> U256 {
    base(TAG_BATCH, &[])
}

/// Between which others an order waits.
fn waiting_slot(id: u64) -> U256 {
    base(TAG_WAITING, &[&id.to_be_bytes()])
}
