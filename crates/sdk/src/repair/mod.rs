//! Put back what was lost with providers: look what is left, say what putting it back costs, then do it.
//!
//! ```text
//! survey → plan → deals opened in place of those that are gone, which take nothing new → due parts stored again
//!        (recode) → old shards released → deals of those that are gone ended
//! ```
//! This is the owner's repair: it reads with the owner's keys and runs while the owner's program does, and nobody
//! repairs meanwhile. Each step finds what an earlier, interrupted run of the same has done. A deal ends only when
//! nothing needs what its provider may still have: whatever the owner says of it, none does while something cannot be
//! read.

mod absence;
mod choice;
mod rebalance;
mod seat;
mod survey;
mod tally;

pub(crate) use absence::Absences;
pub use absence::{PARTITION as ABSENCES, UNREACHED_WINDOWS};
pub use hodei_storage::repair::{Margins, least};
pub use rebalance::{Rebalance, Rebalanced, Share};
pub use seat::{Rest, Seat, State};
pub use survey::{Ask, NAMED_MAX, Survey, Unreadable};

use crate::{
    bucket::{Closed, OPEN},
    change::Change,
    cloud::{Cloud, Runtime},
    deal::may_hold,
    fault::Fault,
    market::Offer,
    plan::{DEAL_BYTES_MIN, HEADROOM, Part, Plan, RESERVE_WINDOWS, escrow, usable},
    recode::{Options, Recoded},
    redundancy::{Resize, bought_bytes, noted, set_aside, window},
};
use alloy_primitives::U256;
pub(crate) use choice::choose;
use futures::{FutureExt as _, StreamExt as _, stream};
use hodei_storage::{engine::Provider, place::PlaceError};
use hodei_types::{
    event::Kind,
    transport::{NodeKey, Transport},
};
use std::collections::BTreeSet;
pub(crate) use tally::Voices;

/// Providers asked for their newest statement at once.
const STATES_AT_ONCE: usize = 4;

/// What repairing a bucket will do.
#[derive(Clone, Debug)]
pub struct Repair {
    pub survey: Survey,
    /// Deals in whose place others are wanted.
    pub lost: usize,
    /// Deals to open.
    pub open: Vec<Part>,
    /// Deals to enlarge, since fewer share the bucket.
    pub enlarge: Vec<Resize>,
    /// Deals that take nothing more from now on, and end.
    pub gone: Vec<u64>,
    /// The bucket as it then is: its living providers and the new ones.
    pub plan: Plan,
    /// Why nothing can be stored: the living providers and all on offer are too few.
    pub short: Option<PlaceError>,
    /// Sent to providers, parity included.
    pub sent_bytes: u64,
    /// Until when locked versions keep all deals from ending.
    pub kept_until_ms: Option<u64>,
    /// Wei per window for what is stored, as it is and as it will be.
    pub window_now: U256,
    pub window_then: U256,
}

impl Repair {
    /// Wei to set aside.
    pub fn escrow(&self) -> U256 {
        set_aside(&self.open, &self.enlarge)
    }

    /// Providers that were given up, answer all the same, and may have what cannot be read without them.
    pub fn needed(&self) -> Vec<NodeKey> {
        let given_up = |seat: &&Seat| seat.state == State::GivenUp && seat.answers;
        let seats = self.survey.seats.iter().filter(given_up).filter(|_| self.survey.lost() > 0);
        seats.map(Seat::node).collect()
    }

    /// Whether there is nothing to do.
    pub fn is_done(&self) -> bool {
        self.survey.is_well() && self.open.is_empty() && self.enlarge.is_empty() && self.gone.is_empty()
    }
}

/// What became of the deals of those that are gone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ended {
    pub closed: Closed,
    /// Deals that stay: what their providers may still have is needed, or locked versions keep them.
    pub kept_deals: u64,
}

/// Deals that others replace: those of who is gone that still were to take something, less what was opened and never
/// used, as an interrupted run leaves it. Where locked versions keep all deals none is.
fn lost(seats: &[Seat], is_locked: bool) -> usize {
    let gone = seats.iter().filter(|seat| seat.is_gone() && seat.deal.state.capacityBytes > 0);
    let gone = gone.filter(|seat| seat.state != State::Ending).count();
    let unused = seats.iter().filter(|seat| seat.stays() && seat.deal.state.sequence == 0).count();
    if is_locked { 0 } else { gone.saturating_sub(unused) }
}

/// An even share of all that a bucket stores, for each of so many providers.
fn share(capacity_bytes: u64, plan: (u8, u8), providers: usize) -> u64 {
    let stored = u128::from(capacity_bytes) * u128::from(plan.1) / u128::from(plan.0);
    u64::try_from(stored / providers.max(1) as u128).unwrap_or(u64::MAX)
}

/// What a deal must grow to so that it takes its share: nothing while it has a quarter more than that.
fn grown(has_bytes: u64, share: u64) -> Option<u64> {
    (has_bytes < share.saturating_add(share / 4)).then(|| share.saturating_mul(HEADROOM).max(has_bytes))
}

impl<E: Runtime, T: Transport> Cloud<E, T> {
    /// What repairing what a survey found would cost; changes nothing. `windows` are paid ahead.
    pub async fn plan_repair(&self, bucket: &str, survey: Survey, ask: &Ask, windows: u64) -> Result<Repair, Fault> {
        let record = self.live(bucket).await?;
        let offers = self.offers().await?;
        let settings = self.run(&record).await?.settings.clone();
        let (noted_bytes, regions) = noted(&settings);
        let deals: Vec<_> = survey.seats.iter().map(|seat| seat.deal.clone()).collect();
        let capacity_bytes = noted_bytes.unwrap_or_else(|| bought_bytes(&deals, &record.shape));
        let capacity_bytes = capacity_bytes.max(record.state.sizeBytes);
        let kept_until_ms = record.kept_until_ms(self.now_ms());
        let lost = lost(&survey.seats, kept_until_ms.is_some());
        let living: Vec<&Seat> = survey.seats.iter().filter(|seat| seat.takes()).collect();

        let code = (record.shape.k(), record.shape.n());
        let room = share(capacity_bytes, code, living.len() + lost).saturating_mul(HEADROOM).max(DEAL_BYTES_MIN);
        let known: BTreeSet<NodeKey> = deals.iter().map(|deal| deal.offer.node).chain(ask.without.clone()).collect();
        let is_there = |offer: &&Offer| regions.is_empty() || regions.iter().any(|region| offer.is_of(region));
        let mut offered: Vec<&Offer> = offers.iter().filter(usable).filter(is_there).collect();
        offered.retain(|offer| !known.contains(&offer.node) && offer.free_bytes() >= room);
        // Where nothing is stored now, those who may return are as good as those who are there.
        let is_well = survey.is_well();
        let stays = |seat: &&Seat| seat.takes() || (is_well && !seat.is_gone() && !seat.is_leaving());
        let staying: Vec<&Offer> = survey.seats.iter().filter(stays).map(|seat| &seat.deal.offer).collect();
        let offered = match choose(&record.shape, &staying, &[], lost) {
            Ok(_) if lost == 0 => Vec::new(),
            _ => self.present(&record, offered, lost).await?,
        };
        let (chosen, short) = match choose(&record.shape, &staying, &offered, lost) {
            Ok(chosen) => (chosen, None),
            Err(error) => (Vec::new(), Some(error).filter(|_| !is_well)),
        };

        let windows = windows.saturating_add(RESERVE_WINDOWS);
        let providers = staying.len() + chosen.len();
        let each = share(capacity_bytes, code, providers);
        let capacity = each.saturating_mul(HEADROOM).max(DEAL_BYTES_MIN);
        let part = |offer: &Offer| Part {
            offer: offer.clone(),
            capacity_bytes: capacity,
            escrow: escrow(offer, capacity, windows),
        };
        let open: Vec<Part> = chosen.iter().map(|offer| part(offer)).collect();
        let mut parts = open.clone();
        let mut enlarge = Vec::new();
        for seat in &living {
            let (offer, state) = (&seat.deal.offer, &seat.deal.state);
            let mut capacity_bytes = state.capacityBytes;
            let more = grown(capacity_bytes, each).filter(|_| usable(&offer) && !is_well && short.is_none());
            if let Some(more) = more.filter(|more| offer.free_bytes() >= more - capacity_bytes) {
                enlarge.push(Resize::of(&seat.deal, offer, more, escrow(offer, more, windows)));
                capacity_bytes = more;
            }
            parts.push(Part { offer: (*offer).clone(), capacity_bytes, escrow: 0 });
        }
        let may_end = kept_until_ms.is_none();
        let gone = survey.seats.iter().filter(|seat| seat.is_gone() && seat.state != State::Ending && may_end);
        let gone = gone.map(|seat| seat.deal.id).collect();
        let prices = |seats: &mut dyn Iterator<Item = u128>| seats.collect::<Vec<_>>();
        let held = record.state.sizeBytes;
        let now = prices(&mut survey.seats.iter().map(|seat| seat.deal.state.price));
        let kept = living.iter().map(|seat| seat.deal.state.price);
        let then = prices(&mut kept.chain(open.iter().map(|part| part.offer.price_store)));
        let sent = u128::from(survey.due_bytes) * u128::from(code.1) / u128::from(code.0);
        Ok(Repair {
            lost,
            open,
            enlarge,
            gone,
            plan: Plan { shape: record.shape, parts, windows },
            short,
            sent_bytes: u64::try_from(sent).unwrap_or(u64::MAX),
            kept_until_ms,
            window_now: window(held, &record.shape, &now),
            window_then: window(held, &record.shape, &then),
            survey,
        })
    }

    /// Opens and enlarges deals, and lets those of who is gone take nothing more. Then [`Cloud::repair`].
    pub async fn begin_repair(&self, bucket: &str, planned: &Repair) -> Result<(), Fault> {
        let record = self.live(bucket).await?;
        self.0.buckets.may_enlarge(planned.kept_until_ms, &planned.open, &planned.enlarge).await?;
        self.0.buckets.enlarge(record.id, &planned.open, &planned.enlarge).await?;
        self.0.buckets.drain(record.id, &planned.gone).await?;
        // A put would wait for those that are away or rest, stripe by stripe.
        self.shun(planned.survey.seats.iter().filter(|seat| !seat.takes()).map(Seat::node).collect());
        self.forget_roster(record.id);
        let (opened, gone) = (planned.open.len() as u64, planned.gone.len() as u64);
        self.note(Kind::Deal, |fields| fields.text("what", "repair").uint("opened", opened).uint("gone", gone)).await;
        Ok(())
    }

    /// Stores again what is due, and the index where it is. Run again after an interruption, with a new survey, it goes
    /// on.
    pub async fn repair(&self, bucket: &str, planned: &Repair, options: Options) -> Result<Recoded, Fault> {
        self.owe_declined(bucket, &planned.survey).await?;
        // Where shards lie that no page names must not be lost with who leaves.
        if let Err(error) = self.copy_sheets(&self.live(bucket).await?).await {
            tracing::warn!(%error, "the overlay may have too few copies");
        }
        let mut recoded = self.store_again(bucket, options, Some(&planned.survey.due)).await?;
        // Every swap leaves a new root.
        if planned.survey.is_root_due && recoded.swaps == 0 {
            self.change(bucket, Some(Change::Rewrite)).await?;
            recoded.swaps += 1;
        }
        Ok(recoded)
    }

    /// Takes the newest statement of each deal whose provider declined something, to be posted: from then on what it
    /// refuses is neither proven nor paid. A repair does so too; where there is none to do, this alone does.
    pub async fn owe_declined(&self, bucket: &str, survey: &Survey) -> Result<(), Fault> {
        if survey.seats.iter().any(|seat| seat.declined > 0) {
            let roster = self.roster(&self.live(bucket).await?).await?;
            self.owe_newest(&roster, &survey.seats, |seat| seat.declined > 0).await;
        }
        Ok(())
    }

    /// Takes the newest statements of some seats, where the ledger has an older one, to be posted: in another owner's place
    /// only those by which a deal holds no less, as the ledger takes no others.
    pub(crate) async fn owe_newest(&self, roster: &[Provider], seats: &[Seat], is_asked: impl Fn(&Seat) -> bool) {
        let asked = seats.iter().filter(|seat| is_asked(seat)).filter_map(|seat| {
            let provider = roster.iter().find(|provider| provider.deal == seat.deal.id)?.clone();
            let (cloud, state) = (self.clone(), &seat.deal.state);
            let least = if state.owner == self.0.wallet.owner() { 0 } else { state.leaves };
            let (known, pledged_bytes) = (state.sequence, state.pledgedBytes);
            let newest = async move {
                match cloud.0.engine.state(&provider).await {
                    Ok(ack) => ack
                        .filter(|ack| ack.statement.sequence > known && ack.statement.leaves >= least)
                        .filter(|ack| may_hold(pledged_bytes, ack.statement.leaves))
                        .map(|ack| (provider.deal, ack)),
                    Err(error) => {
                        tracing::warn!(node = %provider.peer.key, %error, "what it holds now is not posted yet");
                        None
                    }
                }
            };
            Some(newest.boxed())
        });
        let newest: Vec<_> = stream::iter(asked.collect::<Vec<_>>()).buffer_unordered(STATES_AT_ONCE).collect().await;
        self.owe(&newest.into_iter().flatten().collect());
    }

    /// Ends the deals of those that are gone, if nothing needs them any more by what was found `now`.
    pub async fn end_repair(&self, bucket: &str, planned: &Repair, now: &Survey) -> Result<Ended, Fault> {
        let record = self.live(bucket).await?;
        let mut ended = Ended::default();
        self.shun(BTreeSet::new());
        self.forget_roster(record.id);
        if record.kept_until_ms(self.now_ms()).is_some() {
            ended.kept_deals = now.seats.iter().filter(|seat| seat.is_gone()).count() as u64;
            return Ok(ended);
        }
        let gone = || now.seats.iter().filter(|seat| planned.gone.contains(&seat.deal.id) && seat.is_gone());
        let ending: BTreeSet<u64> = gone().filter(|seat| now.may_end(seat)).map(|seat| seat.deal.id).collect();
        ended.kept_deals = gone().count() as u64 - ending.len() as u64;
        let states = self.0.buckets.states(record.id).await?;
        let ending: Vec<_> = states.iter().filter(|deal| ending.contains(&deal.id) && deal.state == OPEN).collect();
        ended.closed = self.0.buckets.close(&ending.iter().map(|deal| deal.id).collect::<Vec<_>>()).await?;
        self.forget_roster(record.id);
        Ok(ended)
    }
}

#[cfg(test)]
mod tests {
    use super::seat::tests::seat;
    use super::*;

    #[test]
    fn each_that_is_gone_is_replaced_once_however_often_it_is_run() {
        let mut seats: Vec<Seat> = (0..4).map(|node| seat(node, State::Answers, 1 << 20, 9)).collect();
        assert_eq!(lost(&seats, false), 0);
        seats.push(seat(4, State::Away, 1 << 20, 9));
        seats.push(seat(5, State::Missing, 1 << 20, 9));
        assert_eq!(lost(&seats, false), 0, "they may return");
        seats.push(seat(6, State::Closed, 1 << 20, 9));
        seats.push(seat(7, State::GivenUp, 1 << 20, 9));
        assert_eq!((lost(&seats, false), lost(&seats, true)), (2, 0));
        seats[6].state = State::Unreached;
        assert_eq!(lost(&seats, false), 2, "who proves and is never reached is replaced too");
        // Killed between opening and draining, then after it.
        seats.push(seat(8, State::Answers, 1 << 20, 0));
        assert_eq!(lost(&seats, false), 1);
        seats[6].deal.state.capacityBytes = 0;
        seats[7].deal.state.capacityBytes = 0;
        assert_eq!(lost(&seats, false), 0);
    }

    #[test]
    fn deals_grow_only_where_fewer_share_the_bucket() {
        let gib = 1u64 << 30;
        let (six, five, three) = (share(gib, (3, 6), 6), share(gib, (3, 6), 5), share(gib, (3, 6), 3));
        let has = six * HEADROOM;
        assert_eq!([six, five].map(|share| grown(has, share)), [None, None]);
        assert_eq!(grown(has, three), Some(three * HEADROOM));
        assert_eq!(share(u64::MAX, (1, 255), 0), u64::MAX);
    }
}
