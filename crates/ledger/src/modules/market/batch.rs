//! Try orders that wait, some every ten seconds, without anybody's call.
//!
//! The first order that waits queues a batch for the next ten seconds of the active clock that are whole; each batch queues
//! the next while any waits. A batch goes on where the last one ended, and ends orders whose time is over.

use alloy_primitives::U256;
use hodei_types::abi::MARKET;

use super::{
    super::{
        ctx::{Ctx, Stop},
        list::List,
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

/// Orders that wait.
fn waiting() -> List {
    List::new(MARKET, base(TAG_WAITING, &[]))
}

/// Puts an order among those that wait.
pub(super) fn enter(ctx: &mut Ctx<'_, '_>, id: u64) -> Result<(), Stop> {
    waiting().push(ctx, U256::from(id))?;
    let [is_queued, cursor, ..] = unpack(ctx.load(MARKET, state_slot())?);
    if is_queued == 0 { queue_next(ctx, cursor) } else { Ok(()) }
}

/// Takes one out that waits no more.
pub(super) fn leave(ctx: &mut Ctx<'_, '_>, id: u64) -> Result<(), Stop> {
    waiting().remove(ctx, U256::from(id))
}

/// Tries what comes next.
pub(in super::super) fn run(ctx: &mut Ctx<'_, '_>) -> Result<(), Stop> {
    let cursor = unpack(ctx.load(MARKET, state_slot())?)[1];
    let count = waiting().len(ctx)?;
    let first = if cursor < count { cursor } else { 0 };
    let mut ids = waiting().page(ctx, first, TRIES_MAX)?;
    let more = TRIES_MAX.min(count) - ids.len() as u64;
    ids.extend(waiting().page(ctx, 0, more.min(first))?);
    let clock_ms = queue::window(ctx)?.clock_ms;
    let mut stay = 0;
    for id in ids {
        if !settle(ctx, id.saturating_to(), clock_ms)? {
            stay += 1;
        }
    }
    let cursor = first.saturating_add(stay);
    if waiting().len(ctx)? > 0 { queue_next(ctx, cursor) } else { ctx.store(MARKET, state_slot(), U256::ZERO) }
}

/// Fills an order that waits, or ends it if its time is over; whether it waits no more.
fn settle(ctx: &mut Ctx<'_, '_>, id: u64, clock_ms: u64) -> Result<bool, Stop> {
    let mut order = Standing::known(ctx, id)?;
    if clock_ms > order.until_ms {
        order.cancel(ctx)?;
        return Ok(true);
    }
    let Ok(placements) = matcher::place(ctx, &order.terms, Beside::default())? else { return Ok(false) };
    match order.fill(ctx, &placements) {
        // Refused before anything was written: it goes on waiting.
        Err(Stop::Revert(_)) => Ok(false),
        filled => filled.map(|()| true),
    }
}

fn queue_next(ctx: &mut Ctx<'_, '_>, cursor: u64) -> Result<(), Stop> {
    let clock_ms = queue::window(ctx)?.clock_ms;
    let due_ms = (clock_ms / BATCH_MS + 1) * BATCH_MS;
    queue::push(ctx, due_ms, Kind::Batch, U256::ZERO)?;
    ctx.store(MARKET, state_slot(), pack([1, cursor, 0, 0]))
}

/// Whether a batch is queued, and where it goes on.
fn state_slot() -> U256 {
    base(TAG_BATCH, &[])
}
