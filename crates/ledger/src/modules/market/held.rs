//! Keep what stands in leases that hold room, and what of them is lent in the book.
//!
//! A lease of an order that runs nothing holds room. It is a shelf of its own: leases of its holder's further orders stand
//! in it, and, once it is lent, those of anybody's. What they take is counted here and not at the host again, which has
//! given that room to the held lease as a whole. Nothing is held within what is held: one level, and no more.

use alloy_primitives::{Address, B256, U256};
use hodei_types::{
    abi::{
        IMarket::{self, Prices},
        MARKET,
    },
    market::{BP, CAPACITY_MIN, Capacity, OFFER_MIN},
};

use super::{
    super::{
        budgets,
        ctx::{Ctx, Stop, broken, revert},
        leases,
        list::List,
        queue,
        slots::{at, base, pack, unpack},
    },
    book::{self, Shelf, Side},
    card::Card,
    offer,
    order::{self, Standing},
};

const TAG_HELD: u8 = 20;
const TAG_LENT: u8 = 21;

// Slots of a record, from its base.
const FREE: u64 = 0;
const REST: u64 = 1;
const PRICES: u64 = 2;

const THERE: u64 = 1;
const LENT: u64 = 2;
const LISTED: u64 = 4;

/// What one lease holds.
#[derive(Clone, Debug)]
pub(crate) struct Held {
    lease: u64,
    pub(super) free: Capacity,
    /// Leases that stand in it.
    pub(crate) leases: u64,
    prices: Prices,
    preemptible_bp: u16,
    shelf: Shelf,
    pub(crate) lent: bool,
    /// It is in the book: lent, and with room for the smallest replica.
    listed: bool,
}

impl Held {
    /// What a lease holds; none if it holds nothing, or ended.
    pub(crate) fn find(ctx: &mut Ctx<'_, '_>, lease: u64) -> Result<Option<Self>, Stop> {
        let slots = held_slot(lease);
        let [transfer, leases, bits, price] = unpack(ctx.load(MARKET, at(slots, REST))?);
        let [cpu, memory, disk, bandwidth] = unpack(ctx.load(MARKET, at(slots, FREE))?);
        let prices = unpack(ctx.load(MARKET, at(slots, PRICES))?);
        let held = Self {
            lease,
            free: Capacity::of_dims([cpu, memory, disk, bandwidth, transfer]),
            leases,
            prices: Prices::of_dims([prices[0], prices[1], prices[2], prices[3], price]),
            preemptible_bp: (bits >> 8) as u16,
            shelf: Shelf { region: (bits >> 24) as u8, runtime: (bits >> 32) as u8, step: (bits >> 40) as u8 },
            lent: bits & LENT != 0,
            listed: bits & LISTED != 0,
        };
        Ok((bits & THERE != 0).then_some(held))
    }

    fn store(&self, ctx: &mut Ctx<'_, '_>) -> Result<(), Stop> {
        let slots = held_slot(self.lease);
        let [cpu, memory, disk, bandwidth, transfer] = self.free.dims();
        let flags = [(self.lent, LENT), (self.listed, LISTED)];
        let flags: u64 = flags.into_iter().filter(|(is_set, _)| *is_set).map(|(_, bit)| bit).sum();
        let Shelf { region, runtime, step } = self.shelf;
        let place = u64::from(region) << 24 | u64::from(runtime) << 32 | u64::from(step) << 40;
        let bits = THERE | flags | u64::from(self.preemptible_bp) << 8 | place;
        ctx.store(MARKET, at(slots, FREE), pack([cpu, memory, disk, bandwidth]))?;
        ctx.store(MARKET, at(slots, REST), pack([transfer, self.leases, bits, self.prices.transferMib]))
    }

    /// Notes what a lease holds that begins.
    pub(crate) fn begin(ctx: &mut Ctx<'_, '_>, lease: u64, node: B256, each: &Capacity) -> Result<(), Stop> {
        let (region, runtime) = offer::place(ctx, node)?;
        let shelf = Shelf { region, runtime, step: 0 };
        let prices = Prices::default();
        Self { lease, free: *each, leases: 0, prices, preemptible_bp: 0, shelf, lent: false, listed: false }.store(ctx)
    }

    /// Puts it into the book or takes it out, as it now should be. Written by who calls.
    fn list(&mut self, ctx: &mut Ctx<'_, '_>) -> Result<(), Stop> {
        let was = self.listed;
        self.listed = self.lent && CAPACITY_MIN.fits_in(&self.free);
        match (was, self.listed) {
            (false, true) => self.shelf.put(ctx, Side::Lent, U256::from(self.lease)),
            (true, false) => self.shelf.remove(ctx, Side::Lent, U256::from(self.lease)),
            _ => Ok(()),
        }
    }

    fn keep(mut self, ctx: &mut Ctx<'_, '_>) -> Result<(), Stop> {
        self.list(ctx)?;
        self.store(ctx)
    }

    /// Takes the room of one replica.
    pub(super) fn take(mut self, ctx: &mut Ctx<'_, '_>, each: &Capacity) -> Result<(), Stop> {
        self.free = self.free.checked_sub(each).ok_or_else(|| broken("a match without room"))?;
        self.leases += 1;
        self.keep(ctx)
    }

    /// Gives the room of one replica back.
    pub(crate) fn give(mut self, ctx: &mut Ctx<'_, '_>, each: &Capacity) -> Result<(), Stop> {
        let (free, leases) = (self.free.checked_add(each), self.leases.checked_sub(1));
        let (Some(free), Some(leases)) = (free, leases) else { return Err(broken("held room is miscounted")) };
        (self.free, self.leases) = (free, leases);
        self.keep(ctx)
    }

    /// Puts it into the book at these prices, be it there or not.
    fn lend(mut self, ctx: &mut Ctx<'_, '_>, prices: &Prices, preemptible_bp: u16) -> Result<(), Stop> {
        // Out at the old prices, and in again at the new.
        let was_lent = self.unlist(ctx)?;
        (self.lent, self.prices, self.preemptible_bp) = (true, *prices, preemptible_bp);
        self.shelf.step = book::step(prices);
        let [cpu, memory, disk, bandwidth, _] = prices.dims();
        ctx.store(MARKET, at(held_slot(self.lease), PRICES), pack([cpu, memory, disk, bandwidth]))?;
        if !was_lent {
            lent().push(ctx, U256::from(self.lease))?;
        }
        self.keep(ctx)
    }

    /// Takes it out of the book, if it is there; whether it is lent. Not written yet.
    fn unlist(&mut self, ctx: &mut Ctx<'_, '_>) -> Result<bool, Stop> {
        let was_lent = std::mem::replace(&mut self.lent, false);
        self.list(ctx)?;
        Ok(was_lent)
    }

    /// Lends what a lost lease's replica now holds elsewhere, as it was lent before.
    pub(crate) fn go_on(&self, ctx: &mut Ctx<'_, '_>, holder: Address, next: u64) -> Result<(), Stop> {
        let Some(held) = Self::find(ctx, next)?.filter(|_| self.lent) else { return Ok(()) };
        held.lend(ctx, &self.prices, self.preemptible_bp)?;
        let (prices, preemptible) = (self.prices, self.preemptible_bp);
        ctx.emit(MARKET, &IMarket::Lent { lease: next, holder, prices, preemptibleBp: preemptible })
    }

    /// Forgets it with its lease; what of it nothing stands in.
    pub(crate) fn end(mut self, ctx: &mut Ctx<'_, '_>) -> Result<Capacity, Stop> {
        if self.unlist(ctx)? {
            lent().remove(ctx, U256::from(self.lease))?;
        }
        for slot in [FREE, REST, PRICES] {
            ctx.store(MARKET, at(held_slot(self.lease), slot), U256::ZERO)?;
        }
        Ok(self.free)
    }

    /// What the matcher looks at, of a host's.
    pub(super) fn card(&self, host: &Card) -> Card {
        Card {
            free: self.free,
            prices: self.prices,
            markup_bp: 0,
            preemptible_bp: self.preemptible_bp,
            leases: self.leases,
            ..*host
        }
    }
}

pub(super) fn lend(ctx: &mut Ctx<'_, '_>, lease: u64, prices: &Prices, preemptible_bp: u16) -> Result<(), Stop> {
    let field = |is_good: bool, field: &str| {
        if is_good { Ok(()) } else { Err(revert(IMarket::BadOffer { field: field.to_owned() })) }
    };
    field(prices.are_within(), "prices")?;
    field((1..=BP).contains(&u64::from(preemptible_bp)), "preemptibleBp")?;
    let (held, order) = of_holder(ctx, lease)?;
    // As of a host: who would fill the book has room that orders find.
    field(OFFER_MIN.fits_in(&order.terms.each), "capacity")?;
    held.lend(ctx, prices, preemptible_bp)?;
    let (holder, prices) = (order.owner, *prices);
    ctx.emit(MARKET, &IMarket::Lent { lease, holder, prices, preemptibleBp: preemptible_bp })
}

pub(super) fn recall(ctx: &mut Ctx<'_, '_>, lease: u64) -> Result<(), Stop> {
    let (mut held, order) = of_holder(ctx, lease)?;
    if !held.unlist(ctx)? {
        return Err(revert(IMarket::NotLent { lease }));
    }
    lent().remove(ctx, U256::from(lease))?;
    held.store(ctx)?;
    ctx.emit(MARKET, &IMarket::Recalled { lease, holder: order.owner })
}

/// What an order holds room with, and what others paid for standing in it.
pub(super) fn reserved(ctx: &mut Ctx<'_, '_>, id: u64) -> Result<(Vec<IMarket::Held>, U256), Stop> {
    let order = Standing::known(ctx, id)?;
    let mut shown = Vec::new();
    for lease in order.last_leases(ctx)? {
        shown.extend(show(ctx, lease)?);
    }
    Ok((shown, order::earned(ctx, id)?))
}

/// Held leases that are lent.
pub(super) fn page(ctx: &mut Ctx<'_, '_>, first: u64, most: u64) -> Result<Vec<IMarket::Held>, Stop> {
    let mut shown = Vec::new();
    for lease in lent().page(ctx, first, most)? {
        shown.extend(show(ctx, lease.saturating_to())?);
    }
    Ok(shown)
}

fn show(ctx: &mut Ctx<'_, '_>, lease: u64) -> Result<Option<IMarket::Held>, Stop> {
    let (Some(held), Some(holding)) = (Held::find(ctx, lease)?, leases::holding(ctx, lease)?) else { return Ok(None) };
    let order = Standing::known(ctx, holding.order)?;
    Ok(Some(IMarket::Held {
        lease,
        order: order.id,
        holder: order.owner,
        node: holding.node,
        capacity: order.terms.each,
        free: held.free,
        leases: held.leases,
        untilMs: queue::wall_ms(ctx, holding.ends_ms)?,
        lent: held.lent,
        prices: held.prices,
        preemptibleBp: held.preemptible_bp,
    }))
}

/// A held lease of the caller, or of the owner whose budget it is.
fn of_holder(ctx: &mut Ctx<'_, '_>, lease: u64) -> Result<(Held, Standing), Stop> {
    let (Some(held), Some(holding)) = (Held::find(ctx, lease)?, leases::holding(ctx, lease)?) else {
        return Err(revert(IMarket::NotHeld { lease }));
    };
    let order = Standing::known(ctx, holding.order)?;
    if budgets::principal(ctx, ctx.caller)? != order.owner {
        return Err(revert(IMarket::NotOwner { owner: order.owner }));
    }
    Ok((held, order))
}

/// Every held lease that is lent.
fn lent() -> List {
    List::new(MARKET, base(TAG_LENT, &[]))
}

fn held_slot(lease: u64) -> U256 {
    base(TAG_HELD, &[&lease.to_be_bytes()])
}
