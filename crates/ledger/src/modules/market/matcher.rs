//! Find hosts for an order: the cheapest that can, then the tightest, then the lowest key; all replicas, or none.
//!
//! The same state gives the same placements, as the order of the book changes nothing but which offers are looked at when
//! there are more than an order looks at. A replica raises its host's utilisation, and may raise what the next one costs
//! there. Each offer is taken or left as it comes and none is given back: under limits by operator and by network at once
//! an order may be refused that another choice would have placed. An order that asks for availability is placed where as much
//! is promised, as far as the bonds there back its leases.
//!
//! What a lease holds is looked at as if it were a host of its own, with its host's attributes: one that is lent at what
//! its holder asks, in the open book; and those of one reservation for the orders within it. None takes what would not
//! last there for as long as the order asks.

use alloy_primitives::{Address, B256, U256};
use hodei_types::{
    abi::IMarket::{self, Order, Placement},
    market::{BP, Class, ON_CALL_LEASES_MAX, WITHIN_RATE, rate},
};
use std::{
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap},
};

use super::{
    super::{
        ctx::{Ctx, Stop, revert},
        leases,
        levels::{Backing, backing},
    },
    book::{self, Side},
    card::Card,
    held::Held,
    offer::{self, collateral, markup_with, sides, total},
    order::Standing,
};

/// Comparing one offer, beside reading it: about what the EVM takes for as many words.
const GAS_PROBE: u64 = 200;

/// What an order has already.
#[derive(Default)]
pub(super) struct Beside<'a> {
    /// Hosts of its leases that run, each as often as it has one.
    pub(super) living: &'a [B256],
    /// Hosts it lost.
    pub(super) lost: &'a [B256],
}

/// Why an order finds no room.
#[derive(Clone, Copy, Debug)]
pub(super) struct Short {
    /// Replicas that would.
    placed: u64,
    /// The most seconds that what is held within its reservation lasts, where that is what was missed; else 0.
    secs: u64,
}

/// A host, or what the lease of that id holds there.
type Room = (B256, u64);

/// Where the replicas of an order go; what is missing, if not all find a place.
pub(super) fn place(
    ctx: &mut Ctx<'_, '_>,
    order: &Order,
    beside: Beside<'_>,
) -> Result<Result<Vec<Placement>, Short>, Stop> {
    let mut secs = 0;
    let mut found = match order.within {
        0 => open(ctx, order, &beside)?,
        id => within(ctx, id, order, &beside, &mut secs)?,
    };
    let mut backings = backed(ctx, order, &mut found)?;
    // The cheapest on top, then the one that holds the fewest more, then the lowest key, there the host itself first.
    let mut best: BinaryHeap<_> =
        found.iter().filter_map(|(room, card)| bid(*room, card, order).map(Reverse)).collect();
    let mut cards: BTreeMap<Room, Card> = found.into_iter().collect();
    let mut counts = Counts::default();
    for node in beside.living {
        counts.of(ctx, *node)?.into_iter().for_each(|count| *count += 1);
    }
    let mut placed: Vec<Placement> = Vec::new();
    while placed.len() < usize::from(order.replicas)
        && let Some(Reverse((rate, _, room))) = best.pop()
    {
        let (node, via) = room;
        // What no bond backs any more, or is full by the order's own limits, stays so: it does not come back.
        let bound = backings.get(&node).map_or(0, |backing| backing.needs(ctx, rate, order.secs));
        if backings.get(&node).is_some_and(|backing| !backing.holds(bound)) || !counts.take(ctx, node, order)? {
            continue;
        }
        if let Some(backing) = backings.get_mut(&node) {
            backing.take(bound);
        }
        placed.push(Placement { node, rate, via });
        let Some(card) = cards.get_mut(&room) else { continue };
        if order.is_on_call() {
            // It takes nothing but a place among the host's leases.
            card.leases += 1;
            if order.perHost != 1 && card.leases < ON_CALL_LEASES_MAX {
                best.extend(bid(room, card, order).map(Reverse));
            }
            continue;
        }
        let Some(free) = card.free.checked_sub(&order.each) else { continue };
        card.free = free;
        if order.perHost != 1 && order.each.fits_in(&free) {
            if via == 0 {
                card.markup_bp = markup_with(ctx, node, &free)?;
            }
            best.extend(bid(room, card, order).map(Reverse));
        }
    }
    let all = placed.len() == usize::from(order.replicas);
    Ok(if all { Ok(placed) } else { Err(Short { placed: placed.len() as u64, secs }) })
}

/// Offers of the open book that take a replica: hosts, and held leases that are lent.
fn open(ctx: &mut Ctx<'_, '_>, order: &Order, beside: &Beside<'_>) -> Result<Vec<(Room, Card)>, Stop> {
    let mut found = Vec::new();
    for (_, node) in book::walk(ctx, Side::Hosts, order.regions, order.runtime)? {
        ctx.charge(GAS_PROBE)?;
        let room = (node.into(), 0);
        if !is_away(room.0, order, beside) {
            let card = Card::load(ctx, room.0)?;
            found.extend(takes(ctx, room, card, order)?);
        }
    }
    // What holds room, what takes none, and what a bond backs is its host's affair alone.
    if order.is_reservation() || order.is_on_call() || order.availabilityMinBp > 0 {
        return Ok(found);
    }
    for (_, lease) in book::walk(ctx, Side::Lent, order.regions, order.runtime)? {
        ctx.charge(GAS_PROBE)?;
        let lease: u64 = lease.saturating_to();
        let (Some(holding), Some(held)) = (leases::holding(ctx, lease)?, Held::find(ctx, lease)?) else { continue };
        let lasts = !holding.is_suspect && holding.rest_secs >= order.secs;
        if !lasts || is_away(holding.node, order, beside) || !offer::is_open(ctx, holding.node)? {
            continue;
        }
        let card = held.card(&Card::load(ctx, holding.node)?);
        found.extend(takes(ctx, (holding.node, lease), card, order)?);
    }
    Ok(found)
}

/// Held leases of a reservation that take a replica; the longest any of those lasts that end too soon for it, in seconds.
/// Their hosts may have retired, or be short of collateral: what is held is its holder's until it ends.
fn within(
    ctx: &mut Ctx<'_, '_>,
    id: u64,
    order: &Order,
    beside: &Beside<'_>,
    short_secs: &mut u64,
) -> Result<Vec<(Room, Card)>, Stop> {
    let mut found = Vec::new();
    for lease in Standing::known(ctx, id)?.last_leases(ctx)? {
        ctx.charge(GAS_PROBE)?;
        let (Some(holding), Some(held)) = (leases::holding(ctx, lease)?, Held::find(ctx, lease)?) else { continue };
        let (region, runtime) = offer::place(ctx, holding.node)?;
        let is_there = runtime == order.runtime && order.regions >> region.min(63) & 1 == 1;
        if holding.order != id || holding.is_suspect || !is_there || is_away(holding.node, order, beside) {
            continue;
        }
        let card = held.card(&Card::load(ctx, holding.node)?);
        let Some(seat) = takes(ctx, (holding.node, lease), card, order)? else { continue };
        if holding.rest_secs >= order.secs {
            found.push(seat);
        } else {
            *short_secs = holding.rest_secs.max(*short_secs);
        }
    }
    Ok(found)
}

/// Whether an order keeps away from a host, or lost it.
fn is_away(node: B256, order: &Order, beside: &Beside<'_>) -> bool {
    order.exclude.contains(&node) || beside.lost.contains(&node)
}

/// One that takes a replica of the order.
fn takes(ctx: &mut Ctx<'_, '_>, room: Room, card: Card, order: &Order) -> Result<Option<(Room, Card)>, Stop> {
    let is_met = serves(&card, order)
        && has_room(ctx, room.0, &card, order)?
        && bid(room, &card, order).is_some()
        && is_backed(ctx, room.0, order)?;
    Ok(is_met.then_some((room, card)))
}

/// The refusal of an order that finds no room.
pub(super) fn no_fit(order: &Order, short: &Short) -> Stop {
    match *short {
        Short { placed, secs: 0 } => revert(IMarket::NoFit { placed, wanted: order.replicas.into() }),
        Short { secs, .. } => revert(IMarket::HeldTooShort { secs }),
    }
}

fn serves(card: &Card, order: &Order) -> bool {
    (order.country.is_zero() || card.country == u16::from_be_bytes(order.country.0))
        && card.tier >= order.tierMin
        && card.attestation >= order.attestationMin
        && card.renewable >= order.renewableMin
}

/// Whether a host has the collateral an order asks for. All it has counts, whatever runs there: leases do not use it up,
/// as each puts an hour of its own pay at stake and no more, and while one runs it leaves by slashing alone. What the
/// order asks for is a price on being a host at all, and who would be many must have it many times.
fn is_backed(ctx: &mut Ctx<'_, '_>, node: B256, order: &Order) -> Result<bool, Stop> {
    Ok(order.collateralMin == 0 || collateral(ctx, node)? >= U256::from(order.collateralMin))
}

/// Leaves those that promise the availability an order asks for, if it asks for some; what their bonds have yet.
fn backed(
    ctx: &mut Ctx<'_, '_>,
    order: &Order,
    found: &mut Vec<(Room, Card)>,
) -> Result<BTreeMap<B256, Backing>, Stop> {
    let mut backings = BTreeMap::new();
    if order.availabilityMinBp == 0 {
        return Ok(backings);
    }
    for ((node, _), _) in found.iter() {
        backings.extend(backing(ctx, *node, order.availabilityMinBp)?.map(|backing| (*node, backing)));
    }
    found.retain(|((node, _), _)| backings.contains_key(node));
    Ok(backings)
}

/// Whether there is room for a replica; for one on call, whether its host could have it if it held nothing, and has not too
/// many leases.
fn has_room(ctx: &mut Ctx<'_, '_>, node: B256, card: &Card, order: &Order) -> Result<bool, Stop> {
    if order.is_on_call() {
        return Ok(card.leases < ON_CALL_LEASES_MAX && order.each.fits_in(&total(ctx, node)?));
    }
    Ok(order.each.fits_in(&card.free))
}

/// Rate, how many more of the replica it would hold, and which it is; none if it asks too much.
fn bid(room: Room, card: &Card, order: &Order) -> Option<(u128, u64, Room)> {
    let part_bp = if order.class == Class::Preemptible as u8 { card.preemptible_bp } else { BP as u16 };
    let rate = match order.within {
        0 => rate(&order.each, &card.prices, card.markup_bp, part_bp),
        _ => WITHIN_RATE,
    };
    // By what is paid in an hour, to the wei, not by what rounding to seconds hides.
    let is_within = rate.checked_mul(3600)? <= order.priceMax;
    is_within.then(|| (rate, card.free.holds(&order.each), room))
}

/// Replicas by host, operator and network.
#[derive(Default)]
struct Counts {
    hosts: BTreeMap<B256, u8>,
    operators: BTreeMap<Address, u8>,
    networks: BTreeMap<U256, u8>,
}

impl Counts {
    /// Counts one more at `node` if the order's limits allow it.
    fn take(&mut self, ctx: &mut Ctx<'_, '_>, node: B256, order: &Order) -> Result<bool, Stop> {
        let counts = self.of(ctx, node)?;
        let most = [order.perHost, order.perOperator, order.perNetwork];
        if counts.iter().zip(most).any(|(count, most)| most > 0 && **count >= most) {
            return Ok(false);
        }
        counts.into_iter().for_each(|count| *count += 1);
        Ok(true)
    }

    /// Those of a host, of its operator and of its network: of at most 64 replicas, they fit 8 bits.
    fn of(&mut self, ctx: &mut Ctx<'_, '_>, node: B256) -> Result<[&mut u8; 3], Stop> {
        let (operator, network) = sides(ctx, node)?;
        Ok([
            self.hosts.entry(node).or_default(),
            self.operators.entry(operator).or_default(),
            self.networks.entry(network).or_default(),
        ])
    }
}
