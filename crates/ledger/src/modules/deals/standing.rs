//! Follow a provider through its windows: proven, missed, suspended, slashed, closed.

use alloy_primitives::{B256, U256};
use hodei_types::abi::{DEALS, IDeals, PROVIDERS};

use super::{
    super::{
        ctx::{Ctx, Stop, broken},
        providers,
        queue::{self, Kind, Window},
        slots::{at, base, pack, unpack},
    },
    record::{CLOSING, Deal},
    tree,
};

const TAG_STANDING: u8 = 7;
/// Closed deals that leave a provider's tree in one call.
const REAP_MAX: u64 = 16;
const SUSPENDED: u64 = 1;
const CLOSED: u64 = 2;
const SCHEDULED: u64 = 4;

/// What a provider did so far, and the sizes of its tree.
#[derive(Clone, Debug)]
pub(super) struct Standing {
    pub(super) node: B256,
    /// Windows proven, ever: what deals are paid by.
    pub(super) proven: u64,
    pub(super) last_proven: u64,
    misses_in_row: u64,
    pub(super) misses: u64,
    /// Places ever made in the tree, and how many of them wait to be used again.
    pub(super) places: u64,
    pub(super) free: u64,
    pub(super) total_leaves: u64,
    /// First window it is asked in.
    from: u64,
    /// Wei per leaf × 2^64.
    pub(super) slash_index: U256,
    slashed: U256,
    /// Last window that was judged.
    checked: u64,
    pub(super) suspended: bool,
    pub(super) closed: bool,
    /// An item for it is in the queue.
    scheduled: bool,
    /// Closing deals waiting to leave the tree.
    pub(super) pending: u64,
}

impl Standing {
    pub(super) fn load(ctx: &mut Ctx<'_, '_>, node: B256) -> Result<Self, Stop> {
        let slots = standing_slot(node);
        let [proven, last_proven, misses_in_row, misses] = unpack(ctx.load(DEALS, slots)?);
        let [places, free, total_leaves, from] = unpack(ctx.load(DEALS, at(slots, 1))?);
        let slash_index = ctx.load(DEALS, at(slots, 2))?;
        let slashed = ctx.load(DEALS, at(slots, 3))?;
        let [checked, flags, pending, _] = unpack(ctx.load(DEALS, at(slots, 4))?);
        Ok(Self {
            node,
            proven,
            last_proven,
            misses_in_row,
            misses,
            places,
            free,
            total_leaves,
            from,
            slash_index,
            slashed,
            checked,
            suspended: flags & SUSPENDED != 0,
            closed: flags & CLOSED != 0,
            scheduled: flags & SCHEDULED != 0,
            pending,
        })
    }

    pub(super) fn store(&self, ctx: &mut Ctx<'_, '_>) -> Result<(), Stop> {
        let slots = standing_slot(self.node);
        ctx.store(DEALS, slots, pack([self.proven, self.last_proven, self.misses_in_row, self.misses]))?;
        ctx.store(DEALS, at(slots, 1), pack([self.places, self.free, self.total_leaves, self.from]))?;
        ctx.store(DEALS, at(slots, 2), self.slash_index)?;
        ctx.store(DEALS, at(slots, 3), self.slashed)?;
        let mut flags = 0;
        for (set, flag) in [(self.suspended, SUSPENDED), (self.closed, CLOSED), (self.scheduled, SCHEDULED)] {
            flags |= if set { flag } else { 0 };
        }
        ctx.store(DEALS, at(slots, 4), pack([self.checked, flags, self.pending, 0]))
    }

    /// Whether it is asked for a proof in `window` at all.
    pub(super) fn is_asked(&self, window: u64) -> bool {
        self.total_leaves > 0 && self.from <= window && !self.closed
    }

    /// Whether the seed is known and the proof is not there: nothing it holds may change.
    pub(super) fn owes_proof(&self, window: &Window) -> bool {
        self.is_asked(window.index) && !window.seed.is_zero() && self.last_proven != window.index
    }

    /// Takes an accepted proof.
    pub(super) fn accept(&mut self, window: u64) {
        self.proven += 1;
        self.last_proven = window;
        self.misses_in_row = 0;
        self.suspended = false;
    }

    /// Takes what it holds now. Who holds nothing is asked for nothing and could never end a suspension by a proof;
    /// its misses in a row stay.
    pub(super) fn hold(&mut self, total_leaves: u64) {
        self.total_leaves = total_leaves;
        self.suspended &= total_leaves > 0;
    }

    /// Starts asking from the next window on; queues the first look at the end of this one.
    pub(super) fn begin_asking(&mut self, ctx: &mut Ctx<'_, '_>, window: &Window) -> Result<(), Stop> {
        self.from = window.index + 1;
        self.schedule(ctx, window)
    }

    fn schedule(&mut self, ctx: &mut Ctx<'_, '_>, window: &Window) -> Result<(), Stop> {
        if !self.scheduled {
            self.scheduled = true;
            let ends_ms = window.opened_ms.saturating_add(ctx.params.window_ms);
            // A window may outlast its time; an item is never due in the run that queues it.
            queue::push(ctx, ends_ms.max(window.clock_ms + 1), Kind::Provider, self.node.into())?;
        }
        Ok(())
    }

    pub(super) fn show(&self, deals: u64) -> IDeals::Standing {
        IDeals::Standing {
            suspended: self.suspended,
            closed: self.closed,
            missesInRow: self.misses_in_row,
            misses: self.misses,
            proven: self.proven,
            lastProven: self.last_proven,
            slashed: self.slashed,
            slashIndex: self.slash_index,
            totalLeaves: self.total_leaves,
            deals,
        }
    }
}

/// Judges the windows that ended since the last look; the caller stores what comes back, if a window was
/// judged it is stored already.
///
/// Every function that changes what a provider holds calls this first, so a window is always judged by what was
/// held in it.
pub(super) fn roll(ctx: &mut Ctx<'_, '_>, node: B256) -> Result<Standing, Stop> {
    let mut standing = Standing::load(ctx, node)?;
    let last = queue::window(ctx)?.index.saturating_sub(1);
    if standing.checked >= last {
        return Ok(standing);
    }
    // A provider that is closed or holds nothing is asked in none, nor before what it holds was agreed; one that
    // misses all is closed after ten.
    let mut window = standing.from.max(standing.checked + 1);
    while window <= last && standing.is_asked(window) {
        if standing.last_proven != window {
            miss(ctx, &mut standing, window)?;
        }
        window += 1;
        ctx.charge(GAS_JUDGE)?;
    }
    standing.checked = last;
    standing.store(ctx)?;
    Ok(standing)
}

const GAS_JUDGE: u64 = 100;

/// Upon the end of a window, from the queue: judge it, let closed deals go, and come again.
pub(in super::super) fn check_due(ctx: &mut Ctx<'_, '_>, node: B256) -> Result<(), Stop> {
    let mut standing = roll(ctx, node)?;
    let window = queue::window(ctx)?;
    standing.scheduled = false;
    if !standing.owes_proof(&window) {
        reap(ctx, &mut standing)?;
    }
    if standing.is_asked(u64::MAX) || standing.pending > 0 {
        standing.schedule(ctx, &window)?;
    }
    standing.store(ctx)
}

/// Ends deals that were closed while a proof was owed.
pub(super) fn reap(ctx: &mut Ctx<'_, '_>, standing: &mut Standing) -> Result<(), Stop> {
    for _ in 0..REAP_MAX {
        let Some(id) = tree::undefer(ctx, standing)? else { break };
        let mut deal = Deal::load(ctx, id)?.ok_or_else(|| broken("a closing deal is gone"))?;
        // A deal of a closed provider may have ended by a touch.
        if deal.state == CLOSING {
            super::end(ctx, &mut deal, standing)?;
        }
    }
    Ok(())
}

fn miss(ctx: &mut Ctx<'_, '_>, standing: &mut Standing, window: u64) -> Result<(), Stop> {
    let rules = ctx.params.slashing;
    standing.misses += 1;
    standing.misses_in_row += 1;
    let (node, in_row) = (standing.node, standing.misses_in_row);
    ctx.emit(DEALS, &IDeals::Missed { provider: node, window, inRow: in_row })?;
    if in_row >= u64::from(rules.suspend_misses.max(1)) {
        standing.suspended = true;
    }
    if in_row == u64::from(rules.part_misses) {
        slash(ctx, standing, window, rules.part_bp)?;
    }
    if in_row == u64::from(rules.all_misses) {
        slash(ctx, standing, window, 10_000)?;
        standing.closed = true;
        ctx.emit(DEALS, &IDeals::Closed { provider: node, window })?;
    }
    Ok(())
}

/// Takes a part of the collateral: a share to the repair reserves of what it held, the rest is burned.
fn slash(ctx: &mut Ctx<'_, '_>, standing: &mut Standing, window: u64, part_bp: u32) -> Result<(), Stop> {
    let part = |amount: U256, bp: u32| amount.saturating_mul(U256::from(bp.min(10_000))) / U256::from(10_000);
    let node = standing.node;
    let mut provider = providers::find(ctx, node)?.ok_or_else(|| broken("a challenge without a provider"))?;
    let amount = part(provider.collateral, part_bp);
    if amount.is_zero() {
        return Ok(());
    }
    // What is reserved is a whole number of index steps; below that it is burned.
    let leaves = U256::from(standing.total_leaves);
    let wanted = part(amount, ctx.params.slashing.repair_bp).min(U256::MAX >> 64);
    let step = if leaves.is_zero() { U256::ZERO } else { (wanted << 64) / leaves };
    let reserved = if step.is_zero() { U256::ZERO } else { wanted };
    standing.slash_index += step;
    standing.slashed += amount;
    provider.collateral -= amount;
    providers::store(ctx, &provider)?;
    ctx.transfer(PROVIDERS, DEALS, reserved)?;
    ctx.burn(PROVIDERS, amount - reserved)?;
    ctx.emit(DEALS, &IDeals::Slashed { provider: node, window, amount, burned: amount - reserved, reserved })
}

fn standing_slot(node: B256) -> U256 {
    base(TAG_STANDING, &[node.as_slice()])
}
