//! Keep the level of one lease, judge it, and pay a breach of it.

use alloy_primitives::{Address, B256, U256};
use hodei_types::{
    abi::{ILevels, LEVELS},
    market::{Breach, GRACE_MS, Level},
};

use super::{
    super::{
        budgets,
        ctx::{Ctx, Stop, broken, revert},
        market::offer,
        queue,
        slots::{at, base, pack, pack_address, pack_wide, unpack, unpack_address, unpack_wide},
    },
    bond::{Bond, pack_level, unpack_level},
};

const TAG_HELD: u8 = 2;

// Slots of a record, from its base.
const TIMES: u64 = 0;
const COIN: u64 = 1;
const NODE: u64 = 2;
const OWNER: u64 = 3;
const OPERATOR: u64 = 4;

const RUNNING: u8 = 1;
/// Lost: what becomes of it is known when the lease it goes on as is up.
const LOST: u8 = 2;
const OVER: u8 = 3;

/// A lease that begins.
#[derive(Clone, Copy, Debug)]
pub(in super::super) struct Fresh {
    pub(in super::super) id: u64,
    pub(in super::super) node: B256,
    pub(in super::super) owner: Address,
    /// Wei a second.
    pub(in super::super) rate: u128,
    /// Seconds it is to last: its order's, or what its escrow pays for where that is less.
    pub(in super::super) term_secs: u64,
    pub(in super::super) begun_ms: u64,
}

/// The level of one lease. Times are of the active clock.
#[derive(Clone, Debug)]
struct Held {
    id: u64,
    node: B256,
    owner: Address,
    /// Whose bond it binds.
    operator: Address,
    level: Level,
    state: u8,
    /// Its late start was told.
    is_late: bool,
    begun_ms: u64,
    /// 0 until its host says so.
    started_ms: u64,
    /// Wei.
    bound: u128,
    /// The last window in which it was down, and how much it was.
    window: u64,
    down_ms: u64,
    /// The lost lease it goes on from, while that one is not judged; 0 if there is none.
    before: u64,
    /// If it was lost: when its host was last reached.
    reached_ms: u64,
}

impl Held {
    fn find(ctx: &mut Ctx<'_, '_>, id: u64) -> Result<Option<Self>, Stop> {
        let slots = held_slot(id);
        let [level, begun_ms, started_ms, bits] = unpack(ctx.load(LEVELS, at(slots, TIMES))?);
        if bits == 0 {
            return Ok(None);
        }
        let (bound, down) = unpack_wide(ctx.load(LEVELS, at(slots, COIN))?);
        let node = ctx.load(LEVELS, at(slots, NODE))?.into();
        let (owner, before) = unpack_address(ctx.load(LEVELS, at(slots, OWNER))?);
        let (operator, reached_ms) = unpack_address(ctx.load(LEVELS, at(slots, OPERATOR))?);
        let (state, is_late, level) = (bits as u8, bits >> 8 & 1 == 1, unpack_level(level));
        let (window, down_ms) = ((down >> 64) as u64, down as u64);
        Ok(Some(Self {
            id,
            node,
            owner,
            operator,
            level,
            state,
            is_late,
            begun_ms,
            started_ms,
            bound,
            window,
            down_ms,
            before,
            reached_ms,
        }))
    }

    fn known(ctx: &mut Ctx<'_, '_>, id: u64) -> Result<Self, Stop> {
        Self::find(ctx, id)?.ok_or_else(|| broken("a lease lost its level"))
    }

    fn store(&self, ctx: &mut Ctx<'_, '_>) -> Result<(), Stop> {
        let slots = held_slot(self.id);
        let bits = u64::from(self.state) | u64::from(self.is_late) << 8;
        let down = u128::from(self.window) << 64 | u128::from(self.down_ms);
        let times = pack([pack_level(&self.level), self.begun_ms, self.started_ms, bits]);
        ctx.store(LEVELS, at(slots, TIMES), times)?;
        ctx.store(LEVELS, at(slots, COIN), pack_wide(self.bound, down))?;
        ctx.store(LEVELS, at(slots, OWNER), pack_address(self.owner, self.before))?;
        ctx.store(LEVELS, at(slots, OPERATOR), pack_address(self.operator, self.reached_ms))
    }

    /// Until then its host is to take it up.
    fn start_until_ms(&self) -> u64 {
        self.begun_ms.saturating_add(u64::from(self.level.startSecs) * 1000)
    }

    /// Pays what is bound to its owner, and tells it. Not written yet.
    fn breach(&mut self, ctx: &mut Ctx<'_, '_>, breach: Breach, of_ms: u64) -> Result<(), Stop> {
        let is_own = budgets::principal(ctx, self.owner)? == budgets::principal(ctx, self.operator)?;
        let amount = if is_own { 0 } else { self.bound };
        if amount > 0 {
            let mut bond = Bond::load(ctx, self.node, self.operator)?;
            bond.unbind(amount)?;
            // What is bound is there.
            bond.bond = bond.bond.checked_sub(amount).ok_or_else(|| broken("a bond is miscounted"))?;
            bond.store(ctx)?;
            self.bound = 0;
            ctx.transfer(LEVELS, self.owner, U256::from(amount))?;
        }
        let Self { id, node, owner, .. } = *self;
        let (kind, secs, amount) = (breach as u8, of_ms / 1000, U256::from(amount));
        ctx.emit(LEVELS, &ILevels::Breached { lease: id, node, owner, kind, secs, amount })
    }

    /// Judges whether it was taken up in time, as far as that is known. Not written yet.
    fn judge_start(&mut self, ctx: &mut Ctx<'_, '_>, now_ms: u64) -> Result<(), Stop> {
        let at_ms = if self.started_ms > 0 { self.started_ms } else { now_ms };
        if self.is_late || at_ms <= self.start_until_ms() {
            return Ok(());
        }
        self.is_late = true;
        self.breach(ctx, Breach::Start, at_ms - self.begun_ms)
    }

    /// Counts the time until `to_ms` as down, and judges it. Not written yet.
    fn judge_outage(&mut self, ctx: &mut Ctx<'_, '_>, from_ms: u64, to_ms: u64) -> Result<(), Stop> {
        let window_ms = ctx.params.window_ms;
        let window = to_ms.saturating_sub(self.begun_ms).checked_div(window_ms).unwrap_or(0);
        if window != self.window {
            (self.window, self.down_ms) = (window, 0);
        }
        self.down_ms = self.down_ms.saturating_add(to_ms.saturating_sub(from_ms));
        if self.down_ms > self.level.down_ms_max(window_ms) {
            self.breach(ctx, Breach::Availability, self.down_ms)?;
        }
        Ok(())
    }

    /// Judges a lost one as up again elsewhere from then on, and ends it.
    fn judge_loss(mut self, ctx: &mut Ctx<'_, '_>, up_ms: u64) -> Result<(), Stop> {
        let (reached_ms, bound_ms) = (self.reached_ms, u64::from(self.level.restoreSecs) * 1000);
        self.judge_outage(ctx, reached_ms, up_ms)?;
        let took_ms = up_ms.saturating_sub(reached_ms);
        if took_ms > bound_ms {
            self.breach(ctx, Breach::Restore, took_ms)?;
        }
        self.free(ctx)
    }

    /// Judges the lost one before it, once it is known when this one was up. What its host takes beyond its own promise is
    /// its own breach. Not written yet but for that one.
    fn judge_before(&mut self, ctx: &mut Ctx<'_, '_>, now_ms: u64, is_last: bool) -> Result<(), Stop> {
        let until_ms = self.start_until_ms();
        if self.before == 0 || (self.started_ms == 0 && now_ms < until_ms && !is_last) {
            return Ok(());
        }
        let up_ms = if self.started_ms > 0 { self.started_ms } else { now_ms };
        let before = Self::known(ctx, self.before)?;
        self.before = 0;
        before.judge_loss(ctx, up_ms.min(until_ms))
    }

    /// Frees what it binds, and ends it.
    fn free(mut self, ctx: &mut Ctx<'_, '_>) -> Result<(), Stop> {
        if self.bound > 0 {
            let mut bond = Bond::load(ctx, self.node, self.operator)?;
            bond.unbind(self.bound)?;
            bond.store(ctx)?;
            self.bound = 0;
        }
        self.state = OVER;
        self.store(ctx)
    }
}

/// Gives a lease the level its host promises now, and binds what answers for it.
pub(in super::super) fn begin(ctx: &mut Ctx<'_, '_>, lease: &Fresh) -> Result<(), Stop> {
    let Fresh { id, node, owner, rate, term_secs, begun_ms } = *lease;
    let operator = offer::operator(ctx, node)?;
    let mut bond = Bond::load(ctx, node, operator)?;
    let level = bond.level;
    let bound = level.pay(rate, ctx.params.window_ms, term_secs);
    bond.bind(bound)?;
    bond.store(ctx)?;
    ctx.store(LEVELS, at(held_slot(id), NODE), node.into())?;
    let (state, is_late, started_ms) = (RUNNING, false, 0);
    let (window, down_ms, before, reached_ms) = (0, 0, 0, 0);
    let held = Held {
        id,
        node,
        owner,
        operator,
        level,
        state,
        is_late,
        begun_ms,
        started_ms,
        bound,
        window,
        down_ms,
        before,
        reached_ms,
    };
    held.store(ctx)
}

/// Takes a host's word that it took a lease up.
pub(super) fn started(ctx: &mut Ctx<'_, '_>, id: u64) -> Result<(), Stop> {
    let Some(mut held) = Held::find(ctx, id)? else { return Err(revert(ILevels::NoLevel { lease: id })) };
    if held.operator != ctx.caller {
        return Err(revert(ILevels::NotOperator { operator: held.operator }));
    }
    if held.state != RUNNING || held.started_ms > 0 {
        return Ok(());
    }
    let now_ms = queue::window(ctx)?.clock_ms;
    held.started_ms = now_ms;
    held.judge_start(ctx, now_ms)?;
    held.judge_before(ctx, now_ms, false)?;
    held.store(ctx)?;
    let secs = now_ms.saturating_sub(held.begun_ms) / 1000;
    ctx.emit(LEVELS, &ILevels::Started { lease: id, node: held.node, secs })
}

/// Judges what is known of a lease that has a level.
pub(in super::super) fn look(ctx: &mut Ctx<'_, '_>, id: u64) -> Result<(), Stop> {
    let now_ms = queue::window(ctx)?.clock_ms;
    let mut held = Held::known(ctx, id)?;
    held.judge_start(ctx, now_ms)?;
    held.judge_before(ctx, now_ms, false)?;
    held.store(ctx)
}

/// Judges that a host showed itself so long after it was accused.
pub(in super::super) fn shown(ctx: &mut Ctx<'_, '_>, id: u64, accused_ms: u64) -> Result<(), Stop> {
    let now_ms = queue::window(ctx)?.clock_ms;
    let away_ms = accused_ms.saturating_add(GRACE_MS);
    if now_ms <= away_ms {
        return Ok(());
    }
    let mut held = Held::known(ctx, id)?;
    held.judge_outage(ctx, away_ms, now_ms)?;
    held.store(ctx)
}

/// Judges what is known of a lease that ends otherwise than by loss, and frees what it binds.
pub(in super::super) fn end(ctx: &mut Ctx<'_, '_>, id: u64) -> Result<(), Stop> {
    let now_ms = queue::window(ctx)?.clock_ms;
    let mut held = Held::known(ctx, id)?;
    held.judge_start(ctx, now_ms)?;
    held.judge_before(ctx, now_ms, true)?;
    held.free(ctx)
}

/// Judges a lease whose host is lost, and was last reached then; what it goes on as must have a level.
pub(in super::super) fn lost(ctx: &mut Ctx<'_, '_>, id: u64, reached_ms: u64, next: Option<u64>) -> Result<(), Stop> {
    let now_ms = queue::window(ctx)?.clock_ms;
    let mut held = Held::known(ctx, id)?;
    held.judge_start(ctx, now_ms)?;
    held.judge_before(ctx, now_ms, true)?;
    held.reached_ms = reached_ms;
    let Some(next) = next else { return held.judge_loss(ctx, now_ms) };
    held.state = LOST;
    held.store(ctx)?;
    let mut next = Held::known(ctx, next)?;
    next.before = id;
    next.store(ctx)
}

/// What a lease has; all zero but its number, if it has none.
pub(super) fn show(ctx: &mut Ctx<'_, '_>, id: u64) -> Result<ILevels::Held, Stop> {
    let Some(held) = Held::find(ctx, id)? else {
        return Ok(ILevels::Held {
            lease: id,
            node: B256::ZERO,
            level: Level::default(),
            bound: U256::ZERO,
            startUntilMs: 0,
            startedMs: 0,
            downMs: 0,
        });
    };
    let start_until_ms = queue::wall_ms(ctx, held.start_until_ms())?;
    let started_ms = if held.started_ms > 0 { queue::wall_ms(ctx, held.started_ms)? } else { 0 };
    Ok(ILevels::Held {
        lease: id,
        node: held.node,
        level: held.level,
        bound: U256::from(held.bound),
        startUntilMs: start_until_ms,
        startedMs: started_ms,
        downMs: held.down_ms,
    })
}

fn held_slot(id: u64) -> U256 {
    base(TAG_HELD, &[&id.to_be_bytes()])
}
