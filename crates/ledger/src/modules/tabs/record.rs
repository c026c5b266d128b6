//! Lay a tab out in slots, with what was claimed of its leaves, and list it under its payer.

use alloy_primitives::{Address, B256, U256};
use hodei_types::{
    abi::{ITabs, TABS},
    tab::Tick,
};

use super::super::{
    ctx::{Ctx, Stop, revert},
    list::List,
    slots::{at, base, pack, pack_address, pack_wide, unpack, unpack_address, unpack_wide},
};

pub(super) const OPEN: u8 = 1;
pub(super) const ENDED: u8 = 2;

const TAG_TAB: u8 = 1;
const TAG_LEAF: u8 = 2;
const TAG_PAYER: u8 = 3;

// Slots of a record, from its base.
const PAYER: u64 = 0;
const BUCKET: u64 = 1;
const ROOT: u64 = 2;
const TERMS: u64 = 3;
const COIN: u64 = 4;

/// One tab.
#[derive(Clone, Debug)]
pub(super) struct Tab {
    id: B256,
    pub(super) payer: Address,
    pub(super) state: u8,
    bucket: B256,
    pub(super) root: B256,
    /// What its leaves may draw in all.
    pub(super) gwei: u64,
    /// The active clock when claims end.
    pub(super) ends_ms: u64,
    /// Wei.
    pub(super) left: u128,
    pub(super) claimed: u128,
}

impl Tab {
    pub(super) fn new(id: B256, payer: Address, call: &ITabs::openCall, ends_ms: u64, deposit: u128) -> Self {
        let ITabs::openCall { bucket, root, gwei, .. } = *call;
        Self { id, payer, state: OPEN, bucket, root, gwei, ends_ms, left: deposit, claimed: 0 }
    }

    /// The tab of that id, be it over; none if there never was one.
    pub(super) fn load(ctx: &mut Ctx<'_, '_>, id: B256) -> Result<Option<Self>, Stop> {
        let slots = tab_slot(id);
        let (payer, state) = unpack_address(ctx.load(TABS, at(slots, PAYER))?);
        if state == 0 {
            return Ok(None);
        }
        let bucket = ctx.load(TABS, at(slots, BUCKET))?.into();
        let root = ctx.load(TABS, at(slots, ROOT))?.into();
        let [gwei, ends_ms, ..] = unpack(ctx.load(TABS, at(slots, TERMS))?);
        let (left, claimed) = unpack_wide(ctx.load(TABS, at(slots, COIN))?);
        let state = state as u8;
        Ok(Some(Self { id, payer, state, bucket, root, gwei, ends_ms, left, claimed }))
    }

    /// A tab that was not paid back.
    pub(super) fn live(ctx: &mut Ctx<'_, '_>, id: B256) -> Result<Self, Stop> {
        let tab = Self::load(ctx, id)?.ok_or_else(|| revert(ITabs::UnknownTab { tab: id }))?;
        if tab.state == ENDED { Err(revert(ITabs::NotOpen { tab: id })) } else { Ok(tab) }
    }

    /// Whether claims ended, at that value of the active clock.
    pub(super) fn is_over(&self, clock_ms: u64) -> bool {
        clock_ms > self.ends_ms
    }

    /// Writes what changes in a tab's life.
    pub(super) fn store(&self, ctx: &mut Ctx<'_, '_>) -> Result<(), Stop> {
        let slots = tab_slot(self.id);
        ctx.store(TABS, at(slots, PAYER), pack_address(self.payer, u64::from(self.state)))?;
        ctx.store(TABS, at(slots, COIN), pack_wide(self.left, self.claimed))
    }

    /// Writes a tab that did not exist, and its place in its payer's list.
    pub(super) fn store_new(&self, ctx: &mut Ctx<'_, '_>) -> Result<(), Stop> {
        let slots = tab_slot(self.id);
        ctx.store(TABS, at(slots, BUCKET), self.bucket.into())?;
        ctx.store(TABS, at(slots, ROOT), self.root.into())?;
        ctx.store(TABS, at(slots, TERMS), pack([self.gwei, self.ends_ms, 0, 0]))?;
        self.store(ctx)?;
        of_payer(self.payer).push(ctx, self.id.into())
    }

    pub(super) fn show(&self, until_ms: u64) -> ITabs::Tab {
        ITabs::Tab {
            id: self.id,
            payer: self.payer,
            state: self.state,
            bucket: self.bucket,
            root: self.root,
            gwei: self.gwei,
            left: self.left,
            claimed: self.claimed,
            untilMs: until_ms,
        }
    }
}

/// What was claimed of a leaf last; zero if nothing was.
pub(super) fn claimed(ctx: &mut Ctx<'_, '_>, tab: B256, leaf: u32) -> Result<Tick, Stop> {
    let slots = leaf_slot(tab, leaf);
    let index = ctx.load(TABS, slots)?.saturating_to();
    let value = ctx.load(TABS, at(slots, 1))?.into();
    Ok(Tick { index, value })
}

pub(super) fn store_claimed(ctx: &mut Ctx<'_, '_>, tab: B256, leaf: u32, tick: &Tick) -> Result<(), Stop> {
    let slots = leaf_slot(tab, leaf);
    ctx.store(TABS, slots, U256::from(tick.index))?;
    ctx.store(TABS, at(slots, 1), tick.value.into())
}

/// Open tabs of an account.
pub(super) fn of_payer(payer: Address) -> List {
    List::new(TABS, base(TAG_PAYER, &[payer.as_slice()]))
}

fn tab_slot(id: B256) -> U256 {
    base(TAG_TAB, &[id.as_slice()])
}

fn leaf_slot(tab: B256, leaf: u32) -> U256 {
    base(TAG_LEAF, &[tab.as_slice(), &leaf.to_be_bytes()])
}
