//! Say what evening out a bucket would move, and cost, before anything is paid.
//!
//! All stripes are looked at once, and kept as small numbers: 50 bytes for one of six shards. On these it is tried who
//! gives what to whom, with others that could join; whoever would get nothing is not paid.

use super::{
    Rebalance, Share, choose,
    even::{Fleet, Place},
    look::{Ground, Lying, Seen},
};
use crate::{
    cloud::{Cloud, Runtime},
    fault::Fault,
    market::Offer,
    plan::{DEAL_BYTES_MIN, HEADROOM, PROVIDERS_PER_SHARD, Part, RESERVE_WINDOWS, escrow, usable},
    redundancy::{bought_bytes, noted},
    repair::{
        share,
        tally::{cut, objects, wave},
    },
};
use alloy_primitives::U256;
use hodei_storage::place::Candidate;
use hodei_types::transport::Transport;
use std::collections::{BTreeMap, BTreeSet};

/// A stripe in few bytes: of each shard its place, and whether it may go.
struct Thin {
    shard_bytes: u32,
    slots: Box<[u16]>,
}

/// A ledger's bucket has 510 deals at most.
const NOWHERE: u16 = (1 << 15) - 1;
const MAY_GO: u16 = 1 << 15;

impl Thin {
    fn of(stripe: &Lying) -> Self {
        let slot = |(at, may_go): (&Option<usize>, &bool)| {
            let at = at.and_then(|at| u16::try_from(at).ok()).filter(|at| *at < NOWHERE);
            at.unwrap_or(NOWHERE) | if *may_go && at.is_some() { MAY_GO } else { 0 }
        };
        Self { shard_bytes: stripe.shard_bytes, slots: stripe.slots.iter().zip(&stripe.may_go).map(slot).collect() }
    }

    /// As [`Fleet::steps`] takes it.
    fn lie(&self) -> (Vec<Option<usize>>, Vec<bool>) {
        let at = |slot: &u16| Some(slot & !MAY_GO).filter(|at| *at != NOWHERE).map(usize::from);
        (self.slots.iter().map(at).collect(), self.slots.iter().map(|slot| slot & MAY_GO != 0).collect())
    }
}

/// Tries it on these stripes: the places as they then are, and the shards and bytes that went.
fn tried(mut fleet: Fleet, stripes: &[Thin]) -> (Fleet, u64, u64) {
    let (mut shards, mut bytes) = (0, 0);
    for stripe in stripes {
        let (mut slots, may_go) = stripe.lie();
        let steps = fleet.steps(&mut slots, &may_go, stripe.shard_bytes.into()).len() as u64;
        shards += steps;
        bytes += steps * u64::from(stripe.shard_bytes);
    }
    (fleet, shards, bytes)
}

/// How many others may join of `wanted`: no more than a bucket made now would deal with, and whoever is still being
/// filled is one of them. `held_bytes` lie with each that takes shards, of stripes of `n`.
fn newcomers(wanted: Option<u16>, held_bytes: &[u64], n: u8) -> usize {
    let living = held_bytes.len();
    let part = held_bytes.iter().sum::<u64>() / living.max(1) as u64;
    let begun = held_bytes.iter().filter(|held| **held < part / 2).count();
    let room = (usize::from(n) * PROVIDERS_PER_SHARD).saturating_sub(living);
    wanted.map_or(room, |wanted| usize::from(wanted).saturating_sub(begun)).min(room)
}

/// Wei per window for so many bytes each at its price per GiB.
fn window(held: impl Iterator<Item = (u64, u128)>) -> U256 {
    let sum = held.fold(U256::ZERO, |sum, (bytes, price)| sum + U256::from(bytes) * U256::from(price));
    sum.div_ceil(U256::from(1u64 << 30))
}

impl<E: Runtime, T: Transport> Cloud<E, T> {
    /// What evening out a bucket would move and cost; changes nothing. Of who joined since at most `wanted` get a deal,
    /// by default as many as a bucket made now would have, paid `windows` ahead. Tells how many bytes of user data of
    /// how many were looked at.
    pub async fn plan_rebalance(
        &self,
        bucket: &str,
        wanted: Option<u16>,
        windows: u64,
        told: impl Fn(u64, u64) + Send + Sync,
    ) -> Result<Rebalance, Fault> {
        let mut ground = self.ground(bucket).await?;
        let (mut todo, total) = objects(&ground.known.run, self.now_ms());
        let (mut stripes, mut held) = (Vec::new(), vec![0u64; ground.roster.len()]);
        let (mut twins, mut astray, mut lacking_stripes, mut unread_parts, mut looked) = (0, 0, 0, 0, 0);
        let (mut declined, mut declined_elsewhere) = (BTreeMap::new(), 0);
        let (run, mut after) = (ground.known.run.clone(), None::<String>);
        loop {
            let (plots, last) = wave(&run, after.as_deref(), &mut todo);
            for plots in cut(plots) {
                looked += plots.iter().map(|plot| plot.part.size_bytes).sum::<u64>();
                let seen = self.see(&mut ground, plots).await;
                held.iter_mut().zip(&seen.held_bytes).for_each(|(held, bytes)| *held += bytes);
                stripes.extend(seen.stripes.iter().map(Thin::of));
                twins += seen.twins.len() as u64;
                astray += seen.stripes.iter().map(|stripe| stripe.astray.len() as u64).sum::<u64>();
                lacking_stripes += seen.lacking;
                unread_parts += seen.unread_parts;
                count_declined(&mut declined, &seen);
                declined_elsewhere += seen.declined_elsewhere;
                told(looked, total);
            }
            after = last;
            if after.is_none() {
                break;
            }
        }
        let held = ground.roster.iter().map(|provider| provider.deal).zip(held).collect();
        let mut open = self.joining(&ground, &held, wanted, windows).await?;
        let (places, steps_left) = (ground.places(&held), ground.steps_left());
        // Who would get nothing does not join, and then others may get more.
        let (fleet, move_shards, move_bytes) = loop {
            let joining = open.iter().map(|part| Place {
                candidate: candidate(&part.offer),
                held_bytes: 0,
                free_bytes: part.capacity_bytes,
                takes: true,
            });
            let fleet = Fleet::new(ground.record.shape, places.iter().cloned().chain(joining).collect(), steps_left);
            let (fleet, shards, bytes) = tried(fleet, &stripes);
            let before = open.len();
            let mut gets = fleet.places()[places.len()..].iter().map(|place| place.held_bytes > 0);
            open.retain(|_| gets.next().unwrap_or(false));
            if open.len() == before {
                break (fleet, shards, bytes);
            }
        };
        let then: Vec<u64> = fleet.places().iter().map(|place| place.held_bytes).collect();
        let mut shares = shares(&ground, &held, &declined);
        shares.extend(open.iter().map(|part| Share {
            node: part.offer.node,
            zone: part.offer.zone.clone(),
            deal: None,
            bytes: 0,
            bytes_then: 0,
            takes: true,
            leaves: false,
            declined: 0,
        }));
        shares.iter_mut().zip(&then).for_each(|(share, then)| share.bytes_then = *then);
        let prices = ground.roster.iter().map(|one| ground.seat(one.deal).map_or(0, |seat| seat.deal.state.price));
        let prices: Vec<u128> = prices.chain(open.iter().map(|part| part.offer.price_store)).collect();
        let cost = |bytes: fn(&Share) -> u64| window(shares.iter().map(bytes).zip(prices.iter().copied()));
        Ok(Rebalance {
            window_now: cost(|share| share.bytes),
            window_then: cost(|share| share.bytes_then),
            fair_bytes: fleet.fair_bytes(),
            shares,
            open,
            move_shards,
            move_bytes,
            twins,
            astray,
            declined_elsewhere,
            lacking_stripes,
            unread_parts,
            steps_left,
        })
    }

    /// Deals that could be opened with others: operators that the bucket has none with, who answer.
    async fn joining(
        &self,
        ground: &Ground,
        held: &BTreeMap<u64, u64>,
        wanted: Option<u16>,
        windows: u64,
    ) -> Result<Vec<Part>, Fault> {
        let (record, shape) = (&ground.record, &ground.record.shape);
        let living: Vec<_> = ground.seats.iter().filter(|seat| seat.takes()).collect();
        let filled: Vec<u64> = living.iter().map(|seat| held.get(&seat.deal.id).copied().unwrap_or(0)).collect();
        let wanted = newcomers(wanted, &filled, shape.n());
        if wanted == 0 {
            return Ok(Vec::new());
        }
        let (noted_bytes, regions) = noted(&ground.known.run.settings);
        let deals: Vec<_> = ground.seats.iter().map(|seat| seat.deal.clone()).collect();
        let capacity_bytes = noted_bytes.unwrap_or_else(|| bought_bytes(&deals, shape)).max(record.state.sizeBytes);
        let room = |providers: usize| {
            let each = share(capacity_bytes, (shape.k(), shape.n()), providers);
            each.saturating_mul(HEADROOM).max(DEAL_BYTES_MIN)
        };
        let capacity_bytes = room(living.len() + wanted);
        // Another deal with an operator that the bucket has takes nothing off what may be lost with it.
        let operators: BTreeSet<_> = deals.iter().map(|deal| deal.offer.operator).collect();
        let is_there = |offer: &&Offer| regions.is_empty() || regions.iter().any(|region| offer.is_of(region));
        let offers = self.offers().await?;
        let mut offered: Vec<&Offer> = offers.iter().filter(usable).filter(is_there).collect();
        offered.retain(|offer| !operators.contains(&offer.operator) && offer.free_bytes() >= capacity_bytes);
        let offered = self.present(record, offered, wanted).await?;
        let living: Vec<&Offer> = living.iter().map(|seat| &seat.deal.offer).collect();
        // Where the living alone hold no stripe as it must lie, that is for repair.
        let mut chosen = choose(shape, &living, &offered, wanted.min(offered.len())).unwrap_or_default();
        chosen.truncate(wanted);
        let capacity_bytes = room(living.len() + chosen.len());
        chosen.retain(|offer| offer.free_bytes() >= capacity_bytes);
        let windows = windows.saturating_add(RESERVE_WINDOWS);
        let part = |offer: &&Offer| Part {
            offer: (*offer).clone(),
            capacity_bytes,
            escrow: escrow(offer, capacity_bytes, windows),
        };
        Ok(chosen.iter().map(part).collect())
    }
}

/// Adds what was seen to be declined, by deal.
pub(super) fn count_declined(declined: &mut BTreeMap<u64, u64>, seen: &Seen) {
    seen.declined.iter().for_each(|(deal, count)| *declined.entry(*deal).or_default() += count);
}

/// What lies with each of the roster.
pub(super) fn shares(ground: &Ground, held: &BTreeMap<u64, u64>, declined: &BTreeMap<u64, u64>) -> Vec<Share> {
    let share = |provider: &hodei_storage::engine::Provider| {
        let bytes = held.get(&provider.deal).copied().unwrap_or(0);
        Share {
            node: provider.peer.key,
            zone: provider.zone.clone(),
            deal: Some(provider.deal),
            bytes,
            bytes_then: bytes,
            takes: ground.seat(provider.deal).is_some_and(|seat| seat.takes()),
            leaves: ground.seat(provider.deal).is_some_and(|seat| seat.is_gone()),
            declined: declined.get(&provider.deal).copied().unwrap_or(0),
        }
    };
    ground.roster.iter().map(share).collect()
}

fn candidate(offer: &Offer) -> Candidate {
    Candidate {
        node: offer.node,
        operator: offer.operator.into_array(),
        network: offer.network(),
        zone: offer.zone.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hodei_types::{code::Shape, slice::ShardId, transport::NodeKey};

    #[test]
    fn a_stripe_is_kept_in_few_bytes_and_tried_as_it_lies() {
        let stripe = Lying {
            object: [0; 16],
            ids: vec![ShardId([0; 32]); 4],
            shard_bytes: 4096,
            slots: vec![Some(0), Some(509), None, Some(3)],
            may_go: vec![true, true, true, false],
            astray: Vec::new(),
        };
        let thin = Thin::of(&stripe);
        assert_eq!(thin.lie(), (stripe.slots, vec![true, true, false, false]), "what is nowhere goes nowhere");
        // Six hold 2 MiB each of 48 stripes, a seventh joins.
        let place = |at: u8| Place {
            candidate: Candidate {
                node: NodeKey([at; 32]),
                operator: [at; 20],
                network: at.to_string(),
                zone: "a".into(),
            },
            held_bytes: if at < 6 { 12 << 20 } else { 0 },
            free_bytes: 1 << 30,
            takes: true,
        };
        let slots: Box<[u16]> = (0..6).map(|at| at | MAY_GO).collect();
        let stripes: Vec<Thin> = (0..48).map(|_| Thin { shard_bytes: 256 << 10, slots: slots.clone() }).collect();
        let fleet = Fleet::new(Shape::new(3, 6, 1).unwrap(), (0..7).map(place).collect(), 1000);
        let (fleet, shards, bytes) = tried(fleet, &stripes);
        assert_eq!((shards, bytes), (41, 41 * (256 << 10)));
        let then = fleet.places().iter().map(|place| place.held_bytes);
        assert!(then.clone().max().unwrap() - then.min().unwrap() <= 256 << 10);
    }

    #[test]
    fn no_more_join_than_a_new_bucket_would_have_and_who_is_being_filled_is_one() {
        assert_eq!(newcomers(None, &[100; 6], 6), 6);
        assert_eq!(newcomers(Some(2), &[100; 6], 6), 2);
        assert_eq!(newcomers(Some(2), &[100, 100, 100, 100, 100, 100, 10], 6), 1, "killed on the way");
        assert_eq!(newcomers(Some(9), &[100; 11], 6), 1);
        assert_eq!((newcomers(Some(0), &[100; 6], 6), newcomers(None, &[100; 40], 6)), (0, 0));
    }

    #[test]
    fn a_window_costs_what_lies_with_each_at_its_price() {
        let gib = 1 << 30;
        assert_eq!(window([(gib, 10), (2 * gib, 20), (0, 99)].into_iter()), U256::from(50));
        assert_eq!((window([(1, 1)].into_iter()), window(std::iter::empty())), (U256::from(1), U256::ZERO));
    }
}
