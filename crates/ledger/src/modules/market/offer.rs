//! Record who offers compute at what terms, what of it is free, and hold their collateral.

use alloy_primitives::{Address, B256, U256};
use hodei_types::{
    abi::{
        IMarket::{self, Host, Offer},
        MARKET, operator_consent,
    },
    market::{BP, CAPACITY_MIN, Capacity, NOTICE_WINDOWS, collateral_min, markup_bp, pack_curve, unpack_curve},
};

use super::{
    super::{
        ctx::{Ctx, Stop, broken, revert},
        list::List,
        queue,
        slots::{
            at, base, load_bytes, pack, pack_address, pack_text, pack_wide, store_bytes, unpack, unpack_address,
            unpack_text, unpack_wide,
        },
    },
    book::{self, Shelf, Side},
    card::Card,
};

const TAG_RECORD: u8 = 1;
const TAG_NODES: u8 = 2;

// Slots of a record, from its base; between the first two are the card's.
const OPERATOR: u64 = 0;
const TOTAL: u64 = 4;
const REST: u64 = 5;
const CURVE: u64 = 6;
const COLLATERAL: u64 = 7;
const NETWORK: u64 = 8;
const ZONE: u64 = 9;
const HARDWARE: u64 = 10;
const ADDRESSES: u64 = 11;

// Beside the operator.
const RETIRED: u64 = 1;
const LISTED: u64 = 2;
const SHORT: u64 = 4;

/// What a record has beside its card and texts.
#[derive(Clone, Debug)]
pub(crate) struct Record {
    pub(super) node: B256,
    pub(crate) operator: Address,
    pub(crate) retired: bool,
    listed: bool,
    /// It has less collateral than its offer needs.
    short: bool,
    card: Card,
    total: Capacity,
    /// If retired: the active clock from which on ending leases costs nothing.
    pub(crate) quits_free_ms: u64,
    version: u64,
    shelf: Shelf,
    curve: u128,
    pub(crate) collateral: U256,
}

impl Record {
    fn find(ctx: &mut Ctx<'_, '_>, node: B256) -> Result<Option<Self>, Stop> {
        let slots = record_slot(node);
        let (operator, bits) = unpack_address(ctx.load(MARKET, at(slots, OPERATOR))?);
        if operator.is_zero() {
            return Ok(None);
        }
        let card = Card::load(ctx, node)?;
        let [cpu, memory, disk, bandwidth] = unpack(ctx.load(MARKET, at(slots, TOTAL))?);
        let [transfer, quits_free_ms, version, place] = unpack(ctx.load(MARKET, at(slots, REST))?);
        let curve = unpack_wide(ctx.load(MARKET, at(slots, CURVE))?).0;
        let collateral = ctx.load(MARKET, at(slots, COLLATERAL))?;
        Ok(Some(Self {
            node,
            operator,
            retired: bits & RETIRED != 0,
            listed: bits & LISTED != 0,
            short: bits & SHORT != 0,
            card,
            total: Capacity::of_dims([cpu, memory, disk, bandwidth, transfer]),
            quits_free_ms,
            version,
            shelf: Shelf { region: place as u8, runtime: (place >> 8) as u8, step: (place >> 16) as u8 },
            curve,
            collateral,
        }))
    }

    /// The record of a host that must be there.
    pub(crate) fn known(ctx: &mut Ctx<'_, '_>, node: B256) -> Result<Self, Stop> {
        Self::find(ctx, node)?.ok_or_else(|| revert(IMarket::UnknownHost { node }))
    }

    fn operated(ctx: &mut Ctx<'_, '_>, node: B256) -> Result<Self, Stop> {
        let record = Self::known(ctx, node)?;
        if record.operator != ctx.caller {
            return Err(revert(IMarket::NotOperator { operator: record.operator }));
        }
        Ok(record)
    }

    /// Region and runtime: which index its leases count in.
    pub(crate) fn place(&self) -> (u8, u8) {
        (self.shelf.region, self.shelf.runtime)
    }

    fn store_flags(&self, ctx: &mut Ctx<'_, '_>) -> Result<(), Stop> {
        let bits = [(self.retired, RETIRED), (self.listed, LISTED), (self.short, SHORT)];
        let bits = bits.into_iter().filter(|(is_set, _)| *is_set).map(|(_, bit)| bit).sum();
        ctx.store(MARKET, at(record_slot(self.node), OPERATOR), pack_address(self.operator, bits))
    }

    fn store_rest(&self, ctx: &mut Ctx<'_, '_>) -> Result<(), Stop> {
        let Shelf { region, runtime, step } = self.shelf;
        let place = u64::from(region) | u64::from(runtime) << 8 | u64::from(step) << 16;
        let rest = pack([self.total.transferBytes, self.quits_free_ms, self.version, place]);
        ctx.store(MARKET, at(record_slot(self.node), REST), rest)
    }

    fn store_collateral(&self, ctx: &mut Ctx<'_, '_>) -> Result<(), Stop> {
        ctx.store(MARKET, at(record_slot(self.node), COLLATERAL), self.collateral)
    }

    /// The collateral without which it is not in the book.
    pub(crate) fn least(&self, ctx: &Ctx<'_, '_>) -> U256 {
        least(ctx, &self.total)
    }

    /// Puts it into the book or takes it out, as it now should be.
    fn list(&mut self, ctx: &mut Ctx<'_, '_>) -> Result<(), Stop> {
        let was = (self.listed, self.short);
        self.short = self.collateral < self.least(ctx);
        self.listed = !self.retired && !self.short && CAPACITY_MIN.fits_in(&self.card.free);
        match (was.0, self.listed) {
            (false, true) => self.shelf.put(ctx, Side::Hosts, self.node.into())?,
            (true, false) => self.shelf.remove(ctx, Side::Hosts, self.node.into())?,
            _ => {}
        }
        if was == (self.listed, self.short) { Ok(()) } else { self.store_flags(ctx) }
    }

    /// Writes what a lease changed of it.
    fn keep(mut self, ctx: &mut Ctx<'_, '_>, free: Capacity) -> Result<(), Stop> {
        self.card.free = free;
        self.card.markup_bp = markup_bp(&unpack_curve(self.curve), self.total.used_bp(&free));
        self.card.store(ctx, self.node)?;
        self.list(ctx)
    }

    /// Takes the room of one replica; none, of one that stands in what another holds.
    pub(super) fn take(mut self, ctx: &mut Ctx<'_, '_>, each: &Capacity) -> Result<(), Stop> {
        let free = self.card.free.checked_sub(each).ok_or_else(|| broken("a match without room"))?;
        self.card.leases += 1;
        self.keep(ctx, free)
    }

    /// Gives room back upon the end of a lease.
    pub(crate) fn give(mut self, ctx: &mut Ctx<'_, '_>, each: &Capacity) -> Result<(), Stop> {
        let free = self.card.free.checked_add(each).filter(|free| free.fits_in(&self.total));
        let leases = self.card.leases.checked_sub(1);
        let (Some(free), Some(leases)) = (free, leases) else { return Err(broken("a host's room is miscounted")) };
        self.card.leases = leases;
        self.keep(ctx, free)
    }

    /// Takes collateral, at most what there is: half to `owner`, the rest is burned. What was taken.
    pub(crate) fn slash(
        &mut self,
        ctx: &mut Ctx<'_, '_>,
        lease: u64,
        most: U256,
        owner: Address,
    ) -> Result<U256, Stop> {
        let amount = most.min(self.collateral);
        if amount.is_zero() {
            return Ok(amount);
        }
        let to_owner = amount / U256::from(2);
        self.lose(ctx, lease, amount, amount - to_owner)?;
        ctx.transfer(MARKET, owner, to_owner)?;
        Ok(amount)
    }

    /// Takes collateral that is there, and burns so much of it.
    fn lose(&mut self, ctx: &mut Ctx<'_, '_>, lease: u64, amount: U256, burned: U256) -> Result<(), Stop> {
        self.collateral -= amount;
        self.store_collateral(ctx)?;
        self.list(ctx)?;
        ctx.burn(MARKET, burned)?;
        ctx.emit(MARKET, &IMarket::Slashed { node: self.node, lease, amount, burned })
    }
}

pub(super) fn register(ctx: &mut Ctx<'_, '_>, node: B256, offer: &Offer, possession: &[u8]) -> Result<(), Stop> {
    if node.is_zero() || Record::find(ctx, node)?.is_some() {
        return Err(revert(IMarket::AlreadyOffered { node }));
    }
    check(offer)?;
    let (operator, collateral) = (ctx.caller, ctx.value);
    let least = least(ctx, &offer.capacity);
    if collateral < least {
        return Err(revert(IMarket::CollateralTooSmall { given: collateral, least }));
    }
    if !ctx.node_signed(node, &operator_consent(ctx.params.chain_id, operator, node), possession)? {
        return Err(revert(IMarket::BadPossession {}));
    }
    nodes().push(ctx, node.into())?;
    let mut record = Record {
        node,
        operator,
        retired: false,
        listed: false,
        short: false,
        card: Card::of(offer, offer.capacity, 0),
        total: offer.capacity,
        quits_free_ms: 0,
        version: 1,
        shelf: shelf(offer),
        curve: pack_curve(&offer.curve),
        collateral,
    };
    record.store_collateral(ctx)?;
    write(ctx, &mut record, offer)?;
    ctx.emit(MARKET, &IMarket::Offered { node, operator, offer: offer.clone(), collateral })
}

pub(super) fn update(ctx: &mut Ctx<'_, '_>, node: B256, offer: &Offer) -> Result<(), Stop> {
    let mut record = Record::operated(ctx, node)?;
    if record.retired {
        return Err(revert(IMarket::IsRetired {}));
    }
    check(offer)?;
    let used = record.total.checked_sub(&record.card.free).ok_or_else(|| broken("a host's room is miscounted"))?;
    let free = offer.capacity.checked_sub(&used);
    let free = free.ok_or_else(|| revert(IMarket::BadOffer { field: "capacity".to_owned() }))?;
    let (old, least) = (record.least(ctx), least(ctx, &offer.capacity));
    if least > old && least > record.collateral {
        return Err(revert(IMarket::CollateralTooSmall { given: record.collateral, least }));
    }
    let leases = record.card.leases;
    if leases > 0 && !is_same_place(&show(ctx, &record)?.offer, offer) {
        return Err(revert(IMarket::LeasesOpen { leases }));
    }
    // Out of the book at the old prices, and in again at the new.
    if record.listed {
        record.shelf.remove(ctx, Side::Hosts, node.into())?;
        record.listed = false;
    }
    record.card = Card::of(offer, free, leases);
    record.total = offer.capacity;
    record.version += 1;
    record.shelf = shelf(offer);
    record.curve = pack_curve(&offer.curve);
    write(ctx, &mut record, offer)?;
    let (operator, version) = (record.operator, record.version);
    ctx.emit(MARKET, &IMarket::Updated { node, operator, offer: offer.clone(), version })
}

pub(super) fn deposit(ctx: &mut Ctx<'_, '_>, node: B256) -> Result<(), Stop> {
    let mut record = Record::known(ctx, node)?;
    let amount = ctx.value;
    record.collateral = record.collateral.saturating_add(amount);
    record.store_collateral(ctx)?;
    record.list(ctx)?;
    ctx.emit(MARKET, &IMarket::Deposited { node, amount, collateral: record.collateral })
}

pub(super) fn retire(ctx: &mut Ctx<'_, '_>, node: B256) -> Result<(), Stop> {
    let mut record = Record::operated(ctx, node)?;
    if record.retired {
        return Err(revert(IMarket::IsRetired {}));
    }
    record.retired = true;
    let notice_ms = ctx.params.window_ms.saturating_mul(NOTICE_WINDOWS);
    record.quits_free_ms = queue::window(ctx)?.clock_ms.saturating_add(notice_ms);
    record.list(ctx)?;
    record.store_flags(ctx)?;
    record.store_rest(ctx)?;
    let quits_free_ms = queue::wall_ms(ctx, record.quits_free_ms)?;
    ctx.emit(MARKET, &IMarket::Retired { node, quitsFreeMs: quits_free_ms })
}

pub(super) fn withdraw(ctx: &mut Ctx<'_, '_>, node: B256) -> Result<(), Stop> {
    let record = Record::operated(ctx, node)?;
    if !record.retired {
        return Err(revert(IMarket::NotRetired {}));
    }
    if record.card.leases > 0 {
        return Err(revert(IMarket::LeasesOpen { leases: record.card.leases }));
    }
    nodes().remove(ctx, node.into())?;
    let slots = record_slot(node);
    store_bytes(ctx, at(slots, ADDRESSES), &[])?;
    for slot in OPERATOR..ADDRESSES {
        ctx.store(MARKET, at(slots, slot), U256::ZERO)?;
    }
    ctx.transfer(MARKET, record.operator, record.collateral)?;
    ctx.emit(MARKET, &IMarket::Withdrawn { node, amount: record.collateral })
}

pub(super) fn get(ctx: &mut Ctx<'_, '_>, node: B256) -> Result<Host, Stop> {
    let record = Record::known(ctx, node)?;
    show(ctx, &record)
}

fn show(ctx: &mut Ctx<'_, '_>, record: &Record) -> Result<Host, Stop> {
    let Record { node, card, .. } = *record;
    let slots = record_slot(node);
    let offer = Offer {
        capacity: record.total,
        prices: card.prices,
        curve: unpack_curve(record.curve),
        preemptibleBp: card.preemptible_bp,
        region: record.shelf.region,
        country: card.country.to_be_bytes().into(),
        runtime: record.shelf.runtime,
        tier: card.tier,
        attestation: card.attestation,
        renewable: card.renewable,
        network: unpack_text(ctx.load(MARKET, at(slots, NETWORK))?),
        zone: unpack_text(ctx.load(MARKET, at(slots, ZONE))?),
        hardware: unpack_text(ctx.load(MARKET, at(slots, HARDWARE))?),
        addresses: load_bytes(ctx, MARKET, at(slots, ADDRESSES))?.into(),
    };
    let quits_free_ms = if record.retired { queue::wall_ms(ctx, record.quits_free_ms)? } else { 0 };
    Ok(Host {
        node,
        operator: record.operator,
        offer,
        collateral: record.collateral,
        collateralMin: record.least(ctx),
        free: card.free,
        markupBp: card.markup_bp,
        leases: card.leases,
        retired: record.retired,
        quitsFreeMs: quits_free_ms,
        version: record.version,
    })
}

/// The collateral without which so much is not offered: what all networks ask that stake coins, or what this one
/// does.
pub(crate) fn least(ctx: &Ctx<'_, '_>, capacity: &Capacity) -> U256 {
    if !ctx.params.settlement.stakes() {
        return U256::ZERO;
    }
    U256::from(collateral_min(capacity)).max(ctx.params.slashing.collateral_min)
}

/// The collateral of a host.
pub(super) fn collateral(ctx: &mut Ctx<'_, '_>, node: B256) -> Result<U256, Stop> {
    ctx.load(MARKET, at(record_slot(node), COLLATERAL))
}

/// Burns a part of a host's collateral, in hundredths of a percent, for what it said of a lease. Nothing, if it left.
pub(crate) fn fine(ctx: &mut Ctx<'_, '_>, node: B256, lease: u64, part_bp: u64) -> Result<(), Stop> {
    let Some(mut record) = Record::find(ctx, node)? else { return Ok(()) };
    let all = record.collateral;
    let amount = (all / U256::from(BP) * U256::from(part_bp)).min(all);
    if amount.is_zero() { Ok(()) } else { record.lose(ctx, lease, amount, amount) }
}

/// Who operates a host that may watch others: it is there, did not retire and has the collateral its offer needs.
pub(crate) fn watcher(ctx: &mut Ctx<'_, '_>, node: B256) -> Result<Option<Address>, Stop> {
    let (operator, bits) = unpack_address(ctx.load(MARKET, at(record_slot(node), OPERATOR))?);
    Ok((!operator.is_zero() && bits & (RETIRED | SHORT) == 0).then_some(operator))
}

/// Whether a host takes new leases, as far as it has room.
pub(super) fn is_open(ctx: &mut Ctx<'_, '_>, node: B256) -> Result<bool, Stop> {
    Ok(watcher(ctx, node)?.is_some())
}

/// Who operates a host, zero if nobody does.
pub(crate) fn operator(ctx: &mut Ctx<'_, '_>, node: B256) -> Result<Address, Stop> {
    Ok(unpack_address(ctx.load(MARKET, at(record_slot(node), OPERATOR))?).0)
}

/// Region and runtime of a host.
pub(super) fn place(ctx: &mut Ctx<'_, '_>, node: B256) -> Result<(u8, u8), Stop> {
    let [.., place] = unpack(ctx.load(MARKET, at(record_slot(node), REST))?);
    Ok((place as u8, (place >> 8) as u8))
}

/// What a host offers in all.
pub(super) fn total(ctx: &mut Ctx<'_, '_>, node: B256) -> Result<Capacity, Stop> {
    let slots = record_slot(node);
    let [cpu, memory, disk, bandwidth] = unpack(ctx.load(MARKET, at(slots, TOTAL))?);
    let [transfer, ..] = unpack(ctx.load(MARKET, at(slots, REST))?);
    Ok(Capacity::of_dims([cpu, memory, disk, bandwidth, transfer]))
}

/// What a host's prices would be higher by with so much free. It reads no more than that takes, and whether the host is
/// there its card told: what execution misses of many hosts is then fetched at once.
pub(super) fn markup_with(ctx: &mut Ctx<'_, '_>, node: B256, free: &Capacity) -> Result<u16, Stop> {
    let total = total(ctx, node)?;
    let curve = unpack_wide(ctx.load(MARKET, at(record_slot(node), CURVE))?).0;
    Ok(markup_bp(&unpack_curve(curve), total.used_bp(free)))
}

/// Who operates a host, zero if nobody does; and the word of its network.
pub(super) fn sides(ctx: &mut Ctx<'_, '_>, node: B256) -> Result<(Address, U256), Stop> {
    Ok((operator(ctx, node)?, ctx.load(MARKET, at(record_slot(node), NETWORK))?))
}

fn check(offer: &Offer) -> Result<(), Stop> {
    offer.check().map_err(|error| revert(IMarket::BadOffer { field: super::field(error) }))
}

/// What leases rely on.
fn is_same_place(old: &Offer, new: &Offer) -> bool {
    let place = |offer: &Offer| (offer.region, offer.country, offer.runtime, offer.tier, offer.attestation);
    place(old) == place(new) && old.renewable <= new.renewable && (&old.network, &old.zone) == (&new.network, &new.zone)
}

fn shelf(offer: &Offer) -> Shelf {
    Shelf { region: offer.region, runtime: offer.runtime, step: book::step(&offer.prices) }
}

/// Writes all of a record that an offer states, and its place in the book.
fn write(ctx: &mut Ctx<'_, '_>, record: &mut Record, offer: &Offer) -> Result<(), Stop> {
    let slots = record_slot(record.node);
    let [cpu, memory, disk, bandwidth, _] = record.total.dims();
    record.card.store(ctx, record.node)?;
    record.card.store_prices(ctx, record.node)?;
    ctx.store(MARKET, at(slots, TOTAL), pack([cpu, memory, disk, bandwidth]))?;
    record.store_rest(ctx)?;
    ctx.store(MARKET, at(slots, CURVE), pack_wide(record.curve, 0))?;
    ctx.store(MARKET, at(slots, NETWORK), pack_text(&offer.network))?;
    ctx.store(MARKET, at(slots, ZONE), pack_text(&offer.zone))?;
    ctx.store(MARKET, at(slots, HARDWARE), pack_text(&offer.hardware))?;
    store_bytes(ctx, at(slots, ADDRESSES), &offer.addresses)?;
    record.list(ctx)?;
    record.store_flags(ctx)
}

pub(super) fn record_slot(node: B256) -> U256 {
    base(TAG_RECORD, &[node.as_slice()])
}

/// Every host there is.
pub(crate) fn nodes() -> List {
    List::new(MARKET, base(TAG_NODES, &[]))
}
