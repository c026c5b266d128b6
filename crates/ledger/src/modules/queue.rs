//! Keep the active clock and the proof window, and run what falls due.
//!
//! Upon each block (`begin`): the clock advances by the time since the parent, at most 3 s; the parent's hash is
//! remembered for BLOCKHASH. When the clock reaches a window's end the next opens in this block; its seed is
//! fixed one block later, from the randomness of this block's round, which nobody could know when the block was
//! made, and from its parent's hash.
//!
//! Upon a block 10 s or more after its parent the chain has halted, or its time is catching up with the world's
//! in steps as long as one block may take, at whatever pace blocks come: the clock stands still, for eight blocks
//! more, and the open window's time begins anew, so that who answers late, because nobody took the answer, is in
//! time. Upon a lesser gap the window does not end in that very block, which brings the answers that waited.
//!
//! Upon work being due (`run`, body index 0): at most 512 items, oldest first; the rest in the next block.
//! Items are a binary heap in slots, so that time, not order of insertion, decides.
//!
//! Invariants: the clock never runs faster than 3 s a block, nor during a halt; a window is open for at least one
//! block after its seed is known, and ends once; each queued item is taken once, the oldest first.

use alloy_primitives::{Address, B256, U256, keccak256};
use alloy_sol_types::{SolCall, sol};
use hodei_types::abi::{IModule, IQueue, QUEUE, SYSTEM};

use super::{
    ctx::{Ctx, Stop, broken, returns, revert},
    deals, market, relays, rounds,
    slots::{at, base, pack, unpack},
};

sol! {
    /// Only the executor calls this, before a block's first transaction.
    function begin(uint64 elapsedMs, bytes32 parentHash) external returns (bool due);
}

/// The clock does not run faster than this through a gap between blocks.
const STEP_MS_MAX: u64 = 3_000;
/// A gap as long as this is a halt: it takes several leaders in a row that do not answer.
const HALT_MS: u64 = 10_000;
/// Blocks after a halt in which the clock stands still: a leader who states a time that catches up in steps short
/// of a halt moves nothing unless this many follow him who do the same.
const STILL_BLOCKS: u64 = 8;
/// A window opens, learns its seed, and takes an answer: each in a block of its own.
const WINDOW_BLOCKS_MIN: u64 = 3;
/// Items of one block.
const ITEMS_MAX: u64 = 512;
/// The EVM shows this many ancestors.
const HASHES: u64 = 256;

const CLOCK: U256 = U256::from_limbs([0, 0, 0, 0]);
const SEED: U256 = U256::from_limbs([1, 0, 0, 0]);
const OPENED_ON: U256 = U256::from_limbs([2, 0, 0, 0]);
const BURNED: U256 = U256::from_limbs([3, 0, 0, 0]);
const HEAP: U256 = U256::from_limbs([4, 0, 0, 0]);
/// Height up to which the clock stands still.
const STILL_UNTIL: U256 = U256::from_limbs([5, 0, 0, 0]);
const RING: U256 = U256::from_limbs([1 << 16, 0, 0, 0]);
const TAG_ITEM: u8 = 1;
const TAG_PAYLOAD: u8 = 2;

/// What a queued item is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub(super) enum Kind {
    /// A provider's last window is over.
    Provider = 1,
    /// Orders of compute wait.
    Batch = 2,
    /// The pool of relays has a new price.
    Epoch = 3,
}

impl Kind {
    fn of(number: u64) -> Option<Self> {
        [Self::Provider, Self::Batch, Self::Epoch].into_iter().find(|kind| *kind as u64 == number)
    }
}

/// The window that is open, on the active clock.
#[derive(Clone, Copy, Debug)]
pub(super) struct Window {
    pub(super) clock_ms: u64,
    /// From 1.
    pub(super) index: u64,
    pub(super) opened_ms: u64,
    pub(super) height: u64,
    /// Zero in the block it opened in.
    pub(super) seed: B256,
}

/// Where the hash of an ancestor is kept.
pub(crate) fn block_hash_slot(number: u64) -> (Address, U256) {
    (QUEUE, at(RING, number % HASHES))
}

pub(super) fn call(ctx: &mut Ctx<'_, '_>) -> Result<Vec<u8>, Stop> {
    if ctx.selector() == beginCall::SELECTOR && ctx.caller == SYSTEM {
        let call = beginCall::abi_decode(ctx.input()).map_err(|_| revert(IModule::MalformedInput {}))?;
        return returns(begin(ctx, &call)?);
    }
    match ctx.decode::<IQueue::IQueueCalls>(&[])? {
        IQueue::IQueueCalls::run(_) => {
            if ctx.caller != SYSTEM {
                return Err(revert(IQueue::NotSystem {}));
            }
            run(ctx)?;
            Ok(Vec::new())
        }
        IQueue::IQueueCalls::clockMs(_) => returns(window(ctx)?.clock_ms),
        IQueue::IQueueCalls::waiting(_) => {
            let len = unpack(ctx.load(QUEUE, HEAP)?)[0];
            returns(len)
        }
        IQueue::IQueueCalls::burned(_) => {
            let burned = ctx.load(QUEUE, BURNED)?;
            returns(burned)
        }
    }
}

/// The window as of this block.
pub(super) fn window(ctx: &mut Ctx<'_, '_>) -> Result<Window, Stop> {
    let [clock_ms, index, opened_ms, height] = unpack(ctx.load(QUEUE, CLOCK)?);
    let seed = ctx.load(QUEUE, SEED)?.into();
    Ok(Window { clock_ms, index, opened_ms, height, seed })
}

/// When the active clock shows `clock_ms`, by the ledger's time, should blocks go on being made.
pub(super) fn wall_ms(ctx: &mut Ctx<'_, '_>, clock_ms: u64) -> Result<u64, Stop> {
    let now_ms = window(ctx)?.clock_ms;
    Ok(ctx.time_ms().saturating_add(clock_ms).saturating_sub(now_ms))
}

/// Adds to the coin destroyed by modules.
pub(super) fn count_burned(ctx: &mut Ctx<'_, '_>, amount: U256) -> Result<(), Stop> {
    let burned = ctx.load(QUEUE, BURNED)?;
    ctx.store(QUEUE, BURNED, burned.saturating_add(amount))
}

fn begin(ctx: &mut Ctx<'_, '_>, call: &beginCall) -> Result<bool, Stop> {
    let height = ctx.height();
    if let Some(parent) = height.checked_sub(1) {
        ctx.store(QUEUE, block_hash_slot(parent).1, call.parentHash.into())?;
    }
    let mut window = window(ctx)?;
    let was_ms = window.clock_ms;
    let is_halt = call.elapsedMs >= HALT_MS && window.index > 0;
    if is_halt {
        ctx.store(QUEUE, STILL_UNTIL, U256::from(height + STILL_BLOCKS))?;
        window.opened_ms = window.clock_ms;
    } else if height > ctx.load(QUEUE, STILL_UNTIL)?.saturating_to::<u64>() {
        window.clock_ms += call.elapsedMs.min(STEP_MS_MAX);
    }
    let is_late = call.elapsedMs > STEP_MS_MAX && was_ms < window.opened_ms.saturating_add(ctx.params.window_ms);
    let may_end = !is_late && height >= window.height + WINDOW_BLOCKS_MIN;
    let ends_ms = window.opened_ms.saturating_add(ctx.params.window_ms);
    if window.index == 0 || (may_end && window.clock_ms >= ends_ms) {
        // A window longer than a step never falls behind; a shorter one opens late rather than twice.
        let behind = window.index == 0 || window.clock_ms >= ends_ms.saturating_add(ctx.params.window_ms);
        window.opened_ms = if behind { window.clock_ms } else { ends_ms };
        window.index += 1;
        window.height = height;
        ctx.store(QUEUE, SEED, U256::ZERO)?;
        ctx.store(QUEUE, OPENED_ON, call.parentHash.into())?;
        if relays::epoch::is_kept(ctx)? {
            push(ctx, window.clock_ms, Kind::Epoch, U256::ZERO)?;
        }
    } else if window.seed.is_zero() {
        let parent = ctx.load(QUEUE, OPENED_ON)?;
        let mix = ctx.mix_hash();
        let seed = keccak256([&b"hodei-challenge1"[..], mix.as_slice(), &parent.to_be_bytes::<32>()].concat());
        ctx.store(QUEUE, SEED, seed.into())?;
    }
    ctx.store(QUEUE, CLOCK, pack([window.clock_ms, window.index, window.opened_ms, window.height]))?;
    rounds::begin(ctx, window.clock_ms)?;
    let [len, _, _, _] = unpack(ctx.load(QUEUE, HEAP)?);
    Ok(len > 0 && due_ms(ctx.load(QUEUE, item_slot(0))?) <= window.clock_ms)
}

fn run(ctx: &mut Ctx<'_, '_>) -> Result<(), Stop> {
    let clock_ms = window(ctx)?.clock_ms;
    let mut items = 0;
    while items < ITEMS_MAX
        && let Some((kind, payload)) = pop(ctx, clock_ms)?
    {
        items += 1;
        match kind {
            Kind::Provider => deals::check_due(ctx, payload.into())?,
            Kind::Batch => market::batch::run(ctx)?,
            Kind::Epoch => relays::epoch::open(ctx)?,
        }
    }
    let left = unpack(ctx.load(QUEUE, HEAP)?)[0];
    ctx.emit(QUEUE, &IQueue::Ran { items, left })
}

fn item_slot(i: u64) -> U256 {
    at(base(TAG_ITEM, &[]), i)
}

fn payload_slot(sequence: u64) -> U256 {
    base(TAG_PAYLOAD, &[&sequence.to_be_bytes()])
}

/// An item orders by time, then by when it was queued: due ‖ sequence ‖ kind ‖ 0, from the highest limb.
fn item(due_ms: u64, sequence: u64, kind: Kind) -> U256 {
    pack([0, kind as u64, sequence, due_ms])
}

fn due_ms(item: U256) -> u64 {
    unpack(item)[3]
}

/// Queues an item for when the active clock reaches `due_ms`.
pub(super) fn push(ctx: &mut Ctx<'_, '_>, due_ms: u64, kind: Kind, payload: U256) -> Result<(), Stop> {
    let [len, sequence, _, _] = unpack(ctx.load(QUEUE, HEAP)?);
    ctx.store(QUEUE, payload_slot(sequence), payload)?;
    let new = item(due_ms, sequence, kind);
    let mut hole = len;
    while hole > 0 {
        let parent = (hole - 1) / 2;
        let above = ctx.load(QUEUE, item_slot(parent))?;
        if above <= new {
            break;
        }
        ctx.store(QUEUE, item_slot(hole), above)?;
        hole = parent;
    }
    ctx.store(QUEUE, item_slot(hole), new)?;
    ctx.store(QUEUE, HEAP, pack([len + 1, sequence + 1, 0, 0]))
}

/// Takes the oldest item if it is due.
fn pop(ctx: &mut Ctx<'_, '_>, clock_ms: u64) -> Result<Option<(Kind, U256)>, Stop> {
    let [len, sequence, _, _] = unpack(ctx.load(QUEUE, HEAP)?);
    if len == 0 {
        return Ok(None);
    }
    let top = ctx.load(QUEUE, item_slot(0))?;
    if due_ms(top) > clock_ms {
        return Ok(None);
    }
    let last = ctx.load(QUEUE, item_slot(len - 1))?;
    ctx.store(QUEUE, item_slot(len - 1), U256::ZERO)?;
    let len = len - 1;
    let mut hole = 0;
    loop {
        let left = 2 * hole + 1;
        if left >= len {
            break;
        }
        let mut child = (left, ctx.load(QUEUE, item_slot(left))?);
        if left + 1 < len {
            let right = ctx.load(QUEUE, item_slot(left + 1))?;
            if right < child.1 {
                child = (left + 1, right);
            }
        }
        if last <= child.1 {
            break;
        }
        ctx.store(QUEUE, item_slot(hole), child.1)?;
        hole = child.0;
    }
    if len > 0 {
        ctx.store(QUEUE, item_slot(hole), last)?;
    }
    ctx.store(QUEUE, HEAP, pack([len, sequence, 0, 0]))?;
    let [_, kind, sequence, _] = unpack(top);
    let payload = ctx.load(QUEUE, payload_slot(sequence))?;
    ctx.store(QUEUE, payload_slot(sequence), U256::ZERO)?;
    let kind = Kind::of(kind).ok_or_else(|| broken("an unknown item in the queue"))?;
    Ok(Some((kind, payload)))
}
