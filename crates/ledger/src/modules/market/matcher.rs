//! Find hosts for an order: the cheapest that can, then the tightest, then the lowest key; all replicas, or none.
//!
//! The same state gives the same placements, as the order of the book changes nothing but which offers are looked at when
//! there are more than an order looks at. A replica raises its host's utilisation, and may raise what the next one costs
//! there. Each offer is taken or left as it comes and none is given back: under limits by operator and by network at once
//! an order may be refused that another choice would have placed. An order that asks for availability is placed where as much
//! is promised, as far as the bonds there back its leases.

use alloy_primitives::{Address, B256, U256};
use hodei_types::{
    abi::IMarket::{self, Order, Placement},
    market::{BP, Class, rate},
};
use std::{
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap},
};

use super::{
    super::{
        ctx::{Ctx, Stop, revert},
        levels::{Backing, backing},
    },
    book,
    card::Card,
    offer::{collateral, markup_with, sides},
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

/// Where the replicas of an order go; how many would, if not all.
pub(super) fn place(
    ctx: &mut Ctx<'_, '_>,
    order: &Order,
    beside: Beside<'_>,
) -> Result<Result<Vec<Placement>, u64>, Stop> {
    let (mut cards, mut backings) = (BTreeMap::new(), BTreeMap::new());
    // The cheapest on top, then the one that holds the fewest more, then the lowest key.
    let mut best = BinaryHeap::new();
    for (_, node) in book::walk(ctx, order.regions, order.runtime)? {
        ctx.charge(GAS_PROBE)?;
        if order.exclude.contains(&node) || beside.lost.contains(&node) {
            continue;
        }
        let card = Card::load(ctx, node)?;
        if serves(&card, order)
            && let Some(bid) = bid(node, &card, order)
            && is_backed(ctx, node, order)?
            && promises(ctx, node, order, &mut backings)?
        {
            cards.insert(node, card);
            best.push(Reverse(bid));
        }
    }
    let mut counts = Counts::default();
    for node in beside.living {
        counts.of(ctx, *node)?.into_iter().for_each(|count| *count += 1);
    }
    let mut placed: Vec<Placement> = Vec::new();
    while placed.len() < usize::from(order.replicas)
        && let Some(Reverse((rate, _, node))) = best.pop()
    {
        // What no bond backs any more, or is full by the order's own limits, stays so: it does not come back.
        let bound = backings.get(&node).map_or(0, |backing| backing.needs(ctx, rate, order.secs));
        if backings.get(&node).is_some_and(|backing| !backing.holds(bound)) || !counts.take(ctx, node, order)? {
            continue;
        }
        if let Some(backing) = backings.get_mut(&node) {
            backing.take(bound);
        }
        placed.push(Placement { node, rate });
        let Some(card) = cards.get_mut(&node) else { continue };
        let Some(free) = card.free.checked_sub(&order.each) else { continue };
        card.free = free;
        if order.perHost != 1 {
            card.markup_bp = markup_with(ctx, node, &free)?;
            best.extend(bid(node, card, order).map(Reverse));
        }
    }
    let all = placed.len() == usize::from(order.replicas);
    Ok(if all { Ok(placed) } else { Err(placed.len() as u64) })
}

/// The refusal of an order that finds no room.
pub(super) fn no_fit(order: &Order, placed: u64) -> Stop {
    revert(IMarket::NoFit { placed, wanted: order.replicas.into() })
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

/// Whether a host promises the availability an order asks for, if it asks for some; its bond is noted.
fn promises(
    ctx: &mut Ctx<'_, '_>,
    node: B256,
    order: &Order,
    backings: &mut BTreeMap<B256, Backing>,
) -> Result<bool, Stop> {
    if order.availabilityMinBp == 0 {
        return Ok(true);
    }
    let found = backing(ctx, node, order.availabilityMinBp)?;
    let is_promised = found.is_some();
    backings.extend(found.map(|backing| (node, backing)));
    Ok(is_promised)
}

/// Rate, how many of the replica the host would hold, and its key; none if it holds none or asks too much.
fn bid(node: B256, card: &Card, order: &Order) -> Option<(u128, u64, B256)> {
    if !order.each.fits_in(&card.free) {
        return None;
    }
    let part_bp = if order.class == Class::Preemptible as u8 { card.preemptible_bp } else { BP as u16 };
    let rate = rate(&order.each, &card.prices, card.markup_bp, part_bp);
    // By what is paid in an hour, to the wei, not by what rounding to seconds hides.
    let is_within = rate.checked_mul(3600)? <= order.priceMax;
    is_within.then(|| (rate, card.free.holds(&order.each), node))
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
