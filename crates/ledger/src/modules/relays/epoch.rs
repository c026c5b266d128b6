//! Keep the last epochs: what each one's price was, what it was made of, and what was redeemed in it.

use alloy_primitives::U256;
use hodei_types::{
    abi::{
        IRelays::{self, Epoch},
        RELAYS,
    },
    market::{Clearing, clear, demand_mib},
};

use super::{
    super::{
        ctx::{Ctx, Stop},
        queue,
        slots::{at, base, pack, unpack},
    },
    offer,
};

const TAG_NOW: u8 = 10;
const TAG_EPOCH: u8 = 11;

/// Epochs that are kept.
const KEPT: u64 = 64;

/// Whether windows open epochs: from the first offer on.
pub(in super::super) fn is_kept(ctx: &mut Ctx<'_, '_>) -> Result<bool, Stop> {
    Ok(!ctx.load(RELAYS, now_slot())?.is_zero() || offer::nodes().len(ctx)? > 0)
}

/// Opens the epoch of the window that is open. Once a window.
pub(in super::super) fn open(ctx: &mut Ctx<'_, '_>) -> Result<(), Stop> {
    let number = queue::window(ctx)?.index;
    let before = now(ctx)?;
    if before.number == number {
        return Ok(());
    }
    let offers = offer::standing(ctx)?;
    let (count, demand) = (offers.len() as u64, demand_mib(before.redeemedMib));
    let Clearing { price, below, supply_mib } = clear(offers, demand);
    let epoch = Epoch { number, price, offers: count, below, supplyMib: supply_mib, demandMib: demand, redeemedMib: 0 };
    store(ctx, &epoch)?;
    ctx.store(RELAYS, now_slot(), U256::from(number))?;
    let Epoch { offers, supplyMib, demandMib, .. } = epoch;
    ctx.emit(RELAYS, &IRelays::Cleared { epoch: number, price, offers, below, supplyMib, demandMib })
}

/// The epoch that runs; all zero before the first.
pub(super) fn now(ctx: &mut Ctx<'_, '_>) -> Result<Epoch, Stop> {
    let number = ctx.load(RELAYS, now_slot())?.saturating_to();
    of(ctx, number)
}

/// That epoch, if it is kept.
pub(super) fn of(ctx: &mut Ctx<'_, '_>, number: u64) -> Result<Epoch, Stop> {
    let slots = epoch_slot(number);
    let [kept, price, offers, below] = unpack(ctx.load(RELAYS, slots)?);
    if kept != number {
        return Ok(Epoch::default());
    }
    let [supply, demand, redeemed, _] = unpack(ctx.load(RELAYS, at(slots, 1))?);
    Ok(Epoch { number, price, offers, below, supplyMib: supply, demandMib: demand, redeemedMib: redeemed })
}

/// Wei a MiB in the epoch that runs.
pub(super) fn price(ctx: &mut Ctx<'_, '_>) -> Result<u64, Stop> {
    Ok(now(ctx)?.price)
}

/// Counts what was redeemed of the pool.
pub(super) fn redeem(ctx: &mut Ctx<'_, '_>, mib: u32) -> Result<(), Stop> {
    let mut epoch = now(ctx)?;
    epoch.redeemedMib = epoch.redeemedMib.saturating_add(mib.into());
    store(ctx, &epoch)
}

fn store(ctx: &mut Ctx<'_, '_>, epoch: &Epoch) -> Result<(), Stop> {
    let slots = epoch_slot(epoch.number);
    ctx.store(RELAYS, slots, pack([epoch.number, epoch.price, epoch.offers, epoch.below]))?;
    ctx.store(RELAYS, at(slots, 1), pack([epoch.supplyMib, epoch.demandMib, epoch.redeemedMib, 0]))
}

fn now_slot() -> U256 {
    base(TAG_NOW, &[])
}

fn epoch_slot(number: u64) -> U256 {
    base(TAG_EPOCH, &[&(number % KEPT).to_be_bytes()])
}
