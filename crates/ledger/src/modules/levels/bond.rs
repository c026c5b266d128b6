//! Lay a host's promise and its bond out in slots, and count what of it is bound.
//!
//! Both are an operator's for a node: who registers a node after another has a bond of its own.

use alloy_primitives::{Address, B256, U256};
use hodei_types::{
    abi::{ILevels, LEVELS},
    market::Level,
};

use super::super::{
    ctx::{Ctx, Stop, broken, revert},
    market::offer,
    slots::{at, base, pack_wide, unpack_wide},
};

const TAG_BOND: u8 = 1;

// Slots of a record, from its base.
const LEVEL: u64 = 0;
const COIN: u64 = 1;

/// What an operator promises of a node, and what answers for it.
#[derive(Clone, Debug)]
pub(super) struct Bond {
    slots: U256,
    pub(super) level: Level,
    /// Wei.
    pub(super) bond: u128,
    /// Wei of it that leases bind.
    pub(super) bound: u128,
}

impl Bond {
    /// It is all zero where nothing was promised or bonded.
    pub(super) fn load(ctx: &mut Ctx<'_, '_>, node: B256, operator: Address) -> Result<Self, Stop> {
        let slots = base(TAG_BOND, &[node.as_slice(), operator.as_slice()]);
        let level = unpack_level(ctx.load(LEVELS, at(slots, LEVEL))?.saturating_to());
        let (bond, bound) = unpack_wide(ctx.load(LEVELS, at(slots, COIN))?);
        Ok(Self { slots, level, bond, bound })
    }

    pub(super) fn store_level(&self, ctx: &mut Ctx<'_, '_>) -> Result<(), Stop> {
        ctx.store(LEVELS, at(self.slots, LEVEL), U256::from(pack_level(&self.level)))
    }

    pub(super) fn store(&self, ctx: &mut Ctx<'_, '_>) -> Result<(), Stop> {
        ctx.store(LEVELS, at(self.slots, COIN), pack_wide(self.bond, self.bound))
    }

    /// Adds coin that came in.
    pub(super) fn add(&mut self, amount: U256) -> Result<(), Stop> {
        let sum = u128::try_from(amount).ok().and_then(|amount| self.bond.checked_add(amount));
        self.bond = sum.ok_or_else(|| revert(ILevels::BadLevel { field: "value".to_owned() }))?;
        Ok(())
    }

    pub(super) fn free(&self) -> u128 {
        self.bond.saturating_sub(self.bound)
    }

    /// Binds so much of what is free.
    pub(super) fn bind(&mut self, amount: u128) -> Result<(), Stop> {
        let bound = self.bound.checked_add(amount).filter(|bound| *bound <= self.bond);
        self.bound = bound.ok_or_else(|| broken("a match without a bond"))?;
        Ok(())
    }

    /// Unbinds so much.
    pub(super) fn unbind(&mut self, amount: u128) -> Result<(), Stop> {
        self.bound = self.bound.checked_sub(amount).ok_or_else(|| broken("a bond is miscounted"))?;
        Ok(())
    }
}

/// What a host's bond can still back.
pub(in super::super) struct Backing {
    level: Level,
    free: u128,
}

impl Backing {
    /// What a lease at that rate would bind.
    pub(in super::super) fn needs(&self, ctx: &Ctx<'_, '_>, rate: u128, term_secs: u64) -> u128 {
        self.level.pay(rate, ctx.params.window_ms, term_secs)
    }

    pub(in super::super) fn holds(&self, amount: u128) -> bool {
        amount <= self.free
    }

    pub(in super::super) fn take(&mut self, amount: u128) {
        self.free = self.free.saturating_sub(amount);
    }
}

/// What backs leases of a host, if it promises at least so much availability.
pub(in super::super) fn backing(
    ctx: &mut Ctx<'_, '_>,
    node: B256,
    availability_min_bp: u16,
) -> Result<Option<Backing>, Stop> {
    let operator = offer::operator(ctx, node)?;
    let bond = Bond::load(ctx, node, operator)?;
    let is_promised = bond.level.availabilityBp >= availability_min_bp;
    Ok(is_promised.then(|| Backing { level: bond.level, free: bond.free() }))
}

pub(super) fn pack_level(level: &Level) -> u64 {
    u64::from(level.availabilityBp)
        | u64::from(level.startSecs) << 16
        | u64::from(level.restoreSecs) << 32
        | u64::from(level.payBp) << 48
}

pub(super) fn unpack_level(bits: u64) -> Level {
    Level {
        availabilityBp: bits as u16,
        startSecs: (bits >> 16) as u16,
        restoreSecs: (bits >> 32) as u16,
        payBp: (bits >> 48) as u16,
    }
}
