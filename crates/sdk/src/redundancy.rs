//! Give a living bucket another redundancy: say what that costs, then bring it about.
//!
//! ```text
//! plan → wish noted in the index → deals opened, enlarged → the ledger's shape → deals that are not needed take
//!        nothing new → parts stored again (recode) → old shards released → empty deals closed, the rest shrunk
//! ```
//! From the ledger's new shape on everything new is put that way, by every process; what was put before is read as
//! it was put. Each step finds what an earlier, interrupted run of the same has done, so that running it again goes
//! on. A deal is closed only when its provider says that it holds nothing.

use crate::{
    bucket::{Buckets, Closed, Deal, OPEN, Record},
    change::Amendment,
    cloud::{Cloud, Runtime},
    escrow::left,
    fault::Fault,
    market::Offer,
    plan::{HEADROOM, Part, Plan, Wish, losses, plan_beside},
    recode::Work,
};
use alloy_primitives::{B256, U256};
use hodei_storage::index::Settings;
use hodei_types::{
    abi::{IDeals, LEAF_BYTES},
    code::{OPERATORS_FOR_TWO, Shape, Spread},
    event::Kind,
    transport::{NodeKey, Transport},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

/// The bucket's setting that says how much it shall hold, and where.
const SETTING: &str = "redundancy";

/// Looks whether the ledger has taken the roots of deals that let everything go, and the rest between them.
const POST_TRIES: u32 = 20;
const POST_REST: Duration = Duration::from_secs(1);

/// What shall be otherwise; `None` leaves it as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    pub code: Option<(u8, u8)>,
    pub losses: Option<u8>,
    pub operators: Option<u8>,
    pub networks: Option<u8>,
    pub zones: Option<u8>,
    pub regions: Option<Vec<String>>,
    pub capacity_bytes: Option<u64>,
    /// Windows that deals are paid ahead for.
    pub windows: u64,
}

/// Another capacity for a deal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resize {
    pub deal: u64,
    pub capacity_bytes: u64,
    pub price_max: u128,
    /// Wei added to its escrow.
    pub added: u128,
}

impl Resize {
    /// A deal that grows at an offer's price; `escrow` is what it then shall have.
    pub(crate) fn of(deal: &Deal, offer: &Offer, capacity_bytes: u64, escrow: u128) -> Self {
        let left: u128 = left(&deal.state).saturating_to();
        Self { deal: deal.id, capacity_bytes, price_max: offer.price_store, added: escrow.saturating_sub(left) }
    }
}

/// Wei that opening and enlarging these sets aside.
pub(crate) fn set_aside(open: &[Part], enlarge: &[Resize]) -> U256 {
    let opened = open.iter().map(|part| U256::from(part.escrow));
    let added = enlarge.iter().map(|one| U256::from(one.added));
    opened.chain(added).fold(U256::ZERO, |sum, wei| sum.saturating_add(wei))
}

/// What bringing a bucket there will do.
#[derive(Clone, Debug)]
pub struct Redundancy {
    pub from: Shape,
    /// The bucket as it then is.
    pub plan: Plan,
    /// Deals to open.
    pub open: Vec<Part>,
    /// Deals to enlarge.
    pub enlarge: Vec<Resize>,
    /// Deals that are not needed any more.
    pub drain: Vec<u64>,
    /// What these hold, which moves too.
    pub drained_bytes: u64,
    /// What is stored again.
    pub work: Work,
    /// Wei per window for what is stored, as it is and as it will be.
    pub window_now: U256,
    pub window_then: U256,
    capacity_bytes: u64,
    regions: Vec<String>,
}

impl Redundancy {
    /// Wei to set aside.
    pub fn escrow(&self) -> U256 {
        set_aside(&self.open, &self.enlarge)
    }

    /// Whether the bucket is so already, with all its data.
    pub fn is_done(&self) -> bool {
        let idle = self.open.is_empty() && self.enlarge.is_empty() && self.drain.is_empty();
        idle && self.from == self.plan.shape && self.work.parts == 0
    }
}

/// What is left to do when all is stored again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ended {
    pub closed: Closed,
    /// Deals that are not needed and still hold something, such as an upload in progress: run it again later.
    pub holding_deals: u64,
}

/// The setting: how much the bucket shall hold, and in which regions.
fn document(capacity_bytes: u64, regions: &[String]) -> String {
    format!("capacity_bytes {capacity_bytes}\nregions {}\n", regions.join(" "))
}

pub(crate) fn noted(settings: &Settings) -> (Option<u64>, Vec<String>) {
    let (mut capacity_bytes, mut regions) = (None, Vec::new());
    for line in settings.get(SETTING).map_or("", String::as_str).lines() {
        match line.split_once(' ') {
            Some(("capacity_bytes", bytes)) => capacity_bytes = bytes.parse().ok(),
            Some(("regions", names)) => regions = names.split_whitespace().map(Into::into).collect(),
            // A later version's.
            _ => {}
        }
    }
    (capacity_bytes, regions)
}

/// User data that the deals were opened for.
pub(crate) fn bought_bytes(deals: &[Deal], shape: &Shape) -> u64 {
    let room: u128 = deals.iter().map(|deal| u128::from(deal.state.capacityBytes)).sum();
    let bytes = room * u128::from(shape.k()) / u128::from(shape.n()) / u128::from(HEADROOM);
    u64::try_from(bytes).unwrap_or(u64::MAX)
}

/// Wei per window for so many bytes of user data, at the mean of these prices.
pub(crate) fn window(bytes: u64, shape: &Shape, prices: &[u128]) -> U256 {
    let sum = prices.iter().fold(U256::ZERO, |sum, price| sum + U256::from(*price));
    let stored = U256::from(bytes) * U256::from(shape.n()) / U256::from(shape.k());
    let count = U256::from(prices.len().max(1));
    (stored * sum).div_ceil(count * U256::from(1u64 << 30))
}

impl Buckets {
    /// Whether there is the coin, and the right: where a bucket keeps locked versions, only the owner's own account may
    /// use up sooner what its deals were paid ahead.
    pub(crate) async fn may_enlarge(
        &self,
        kept_until_ms: Option<u64>,
        open: &[Part],
        enlarge: &[Resize],
    ) -> Result<(), Fault> {
        self.afford(set_aside(open, enlarge)).await?;
        let is_capped = self.wallet.spender().address() != self.wallet.owner();
        match kept_until_ms.filter(|_| is_capped && !enlarge.is_empty()) {
            Some(until_ms) => Err(Fault::Kept { until_ms }),
            None => Ok(()),
        }
    }

    /// Opens deals, and gives others more room.
    pub(crate) async fn enlarge(&self, bucket: B256, open: &[Part], enlarge: &[Resize]) -> Result<(), Fault> {
        self.open(bucket, open.to_vec()).await?;
        // The escrow first: a deal is never larger than what was paid ahead for it.
        let added = enlarge.iter().map(|one| (one.deal, U256::from(one.added)));
        self.top_up(&added.filter(|(_, wei)| !wei.is_zero()).collect::<Vec<_>>()).await?;
        let resize = |one: &Resize| IDeals::Resize {
            deal: one.deal,
            capacityBytes: one.capacity_bytes,
            priceMax: one.price_max,
        };
        self.resize(&enlarge.iter().map(resize).collect::<Vec<_>>()).await
    }

    /// Lets deals take nothing new.
    pub(crate) async fn drain(&self, bucket: B256, deals: &[u64]) -> Result<(), Fault> {
        let taking = self.states(bucket).await?;
        let drained = taking.iter().filter(|deal| deals.contains(&deal.id) && deal.state == OPEN);
        let drained = drained.filter(|deal| deal.capacityBytes > 0);
        let nothing = |deal: &IDeals::Deal| IDeals::Resize { deal: deal.id, capacityBytes: 0, priceMax: 0 };
        self.resize(&drained.map(nothing).collect::<Vec<_>>()).await
    }
}

impl<E: Runtime, T: Transport> Cloud<E, T> {
    /// Notes where a new bucket's providers must be, for whenever its redundancy is changed.
    pub async fn note_regions(&self, bucket: &str, wish: &Wish) -> Result<(), Fault> {
        self.set(bucket, SETTING, Some(document(wish.capacity_bytes, &wish.regions))).await
    }

    /// What another redundancy of a bucket would cost and survive; changes nothing.
    pub async fn plan_redundancy(&self, bucket: &str, wanted: &Wanted) -> Result<Redundancy, Fault> {
        let record = self.live(bucket).await?;
        let deals = self.0.buckets.deals(record.id).await?;
        let offers = self.offers().await?;
        let settings = self.run(&record).await?.settings.clone();
        let wish = wish(&record, &deals, &offers, &settings, wanted);
        let open: Vec<&Deal> = deals.iter().filter(|deal| deal.state.state == OPEN).collect();
        let pledged: BTreeMap<_, _> = open.iter().map(|deal| (deal.offer.node, deal.state.pledgedBytes)).collect();
        let known: BTreeSet<NodeKey> = open.iter().map(|deal| deal.offer.node).collect();
        let plan = self.plan_among(&wish, offers, &known, |offers| plan_beside(&wish, offers, &pledged)).await?;
        let by_node: BTreeMap<NodeKey, &Deal> = open.iter().map(|deal| (deal.offer.node, *deal)).collect();
        let chosen: BTreeSet<NodeKey> = plan.parts.iter().map(|part| part.offer.node).collect();
        let mut enlarge = Vec::new();
        for part in &plan.parts {
            let Some(deal) = by_node.get(&part.offer.node) else { continue };
            if deal.state.capacityBytes < part.capacity_bytes {
                enlarge.push(Resize::of(deal, &part.offer, part.capacity_bytes, part.escrow));
            }
        }
        // A provider that only missed its last proof keeps what it has.
        // So does each where the bucket keeps locked versions: the ledger lets no deal of it end.
        let may_end = record.kept_until_ms(self.now_ms()).is_none();
        let leaves = |deal: &&&Deal| may_end && !chosen.contains(&deal.offer.node) && !deal.offer.suspended;
        let drained = open.iter().filter(leaves);
        let drained_bytes = drained.clone().map(|deal| deal.state.leaves * LEAF_BYTES).sum();
        let drain = drained.map(|deal| deal.id).collect();
        let prices = |deals: &mut dyn Iterator<Item = u128>| deals.collect::<Vec<_>>();
        let now = prices(&mut open.iter().map(|deal| deal.state.price));
        let then = prices(&mut plan.parts.iter().map(|part| part.offer.price_store));
        let held = record.state.sizeBytes;
        Ok(Redundancy {
            from: record.shape,
            open: plan.parts.iter().filter(|part| !by_node.contains_key(&part.offer.node)).cloned().collect(),
            enlarge,
            drain,
            drained_bytes,
            work: self.work(&record, &plan.shape).await?,
            window_now: window(held, &record.shape, &now),
            window_then: window(held, &plan.shape, &then),
            capacity_bytes: wish.capacity_bytes,
            regions: wish.regions,
            plan,
        })
    }

    /// Buys what the plan needs and gives the bucket its new shape: from now on everything is put that way. Then
    /// [`Cloud::recode`] what it holds, and [`Cloud::end_redundancy`].
    pub async fn begin_redundancy(&self, bucket: &str, planned: &Redundancy) -> Result<(), Fault> {
        let record = self.live(bucket).await?;
        let kept_until_ms = record.kept_until_ms(self.now_ms());
        self.0.buckets.may_enlarge(kept_until_ms, &planned.open, &planned.enlarge).await?;
        let document = document(planned.capacity_bytes, &planned.regions);
        let edit: Amendment = Arc::new(move |_| Ok(Some(document.clone())));
        self.amend(bucket, SETTING, edit).await?;
        self.0.buckets.enlarge(record.id, &planned.open, &planned.enlarge).await?;
        if record.shape != planned.plan.shape {
            self.0.buckets.reshape(record.id, &planned.plan.terms()).await?;
        }
        self.0.buckets.drain(record.id, &planned.drain).await?;
        self.forget_roster(record.id);
        let (k, n) = (planned.plan.shape.k(), planned.plan.shape.n());
        self.note(Kind::Deal, |fields| fields.text("what", "reshaped").uint("k", k.into()).uint("n", n.into())).await;
        Ok(())
    }

    /// Closes deals that take nothing any more and hold nothing, and gives back room that the others do not need.
    pub async fn end_redundancy(&self, bucket: &str, planned: &Redundancy) -> Result<Ended, Fault> {
        let record = self.live(bucket).await?;
        if record.kept_until_ms(self.now_ms()).is_some() {
            return Ok(Ended::default());
        }
        self.forget_roster(record.id);
        let roster = self.roster(&record).await?;
        let mut states = self.0.buckets.states(record.id).await?;
        // What was let go of is paid until its deal's root says so, which a running challenge keeps out for a while.
        for _ in 0..POST_TRIES {
            let is_late = |deal: &IDeals::Deal| deal.state == OPEN && deal.capacityBytes == 0 && deal.leaves > 0;
            if !states.iter().any(is_late) {
                break;
            }
            self.flush().await?;
            self.0.context.sleep(POST_REST).await;
            states = self.0.buckets.states(record.id).await?;
        }
        let (mut ended, mut empty, mut shrink) = (Ended::default(), Vec::new(), Vec::new());
        for deal in states.iter().filter(|deal| deal.state == OPEN) {
            let node = NodeKey(deal.provider.0);
            let wanted = planned.plan.parts.iter().find(|part| part.offer.node == node);
            if let Some(part) = wanted.filter(|part| deal.capacityBytes > part.capacity_bytes) {
                let holds = deal.leaves * LEAF_BYTES;
                if holds < part.capacity_bytes / 2 {
                    let capacity = part.capacity_bytes;
                    shrink.push(IDeals::Resize { deal: deal.id, capacityBytes: capacity, priceMax: 0 });
                }
            }
            if deal.capacityBytes > 0 {
                continue;
            }
            // Its provider knows better than the ledger, which learns of what is put a little later.
            let provider = roster.iter().find(|provider| provider.deal == deal.id);
            let is_empty = match provider {
                Some(provider) => match self.0.engine.state(provider).await {
                    Ok(said) => said.is_none_or(|ack| ack.statement.leaves == 0),
                    Err(error) => {
                        tracing::warn!(%node, %error, "a provider does not say whether its deal is empty");
                        false
                    }
                },
                None => false,
            };
            if is_empty {
                empty.push(deal.id);
            } else {
                ended.holding_deals += 1;
            }
        }
        self.0.buckets.resize(&shrink).await?;
        ended.closed = self.0.buckets.close(&empty).await?;
        self.forget_roster(record.id);
        Ok(ended)
    }
}

/// All that the bucket shall be: what is wanted, and otherwise what it is.
fn wish(record: &Record, deals: &[Deal], offers: &[Offer], settings: &Settings, wanted: &Wanted) -> Wish {
    let shape = record.shape;
    let code = wanted.code.unwrap_or((shape.k(), shape.n()));
    let (capacity_bytes, regions) = noted(settings);
    let kept = |count: u8, kept: Option<u8>| kept.unwrap_or(count.min(code.1));
    let spread = Spread {
        operators: kept(shape.spread().operators, wanted.operators),
        networks: kept(shape.spread().networks, wanted.networks),
        zones: kept(shape.spread().zones, wanted.zones),
    };
    let operators: BTreeSet<_> = offers.iter().filter(|offer| offer.open).map(|offer| offer.operator).collect();
    let default = match wanted.code {
        Some((k, n)) if (k, n) != (shape.k(), shape.n()) => losses(k, n, operators.len().min(OPERATORS_FOR_TWO)),
        _ => shape.t(),
    };
    let capacity_bytes = wanted.capacity_bytes.or(capacity_bytes).unwrap_or_else(|| bought_bytes(deals, &shape));
    Wish {
        code: Some(code),
        losses: Some(wanted.losses.unwrap_or(default)),
        spread,
        regions: wanted.regions.clone().unwrap_or(regions),
        capacity_bytes: capacity_bytes.max(record.state.sizeBytes),
        windows: wanted.windows,
        ..Wish::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_noted_is_read_again_and_later_lines_are_left_alone() {
        let read = |text: &str| noted(&Settings::from([(SETTING.to_owned(), text.to_owned())]));
        let regions = ["eu".to_owned(), "us-east".to_owned()];
        assert_eq!(read(&document(7 << 30, &regions)), (Some(7 << 30), regions.to_vec()));
        assert_eq!(read(&document(1, &[])), (Some(1), vec![]));
        assert_eq!(read("colour blue\ncapacity_bytes x\nregions\n"), (None, vec![]));
        assert_eq!(noted(&Settings::new()), (None, vec![]));
    }

    #[test]
    fn a_window_costs_what_is_stored() {
        let shape = |k, n| Shape::new(k, n, 1).unwrap();
        assert_eq!(window(1 << 30, &shape(3, 6), &[10, 20]), U256::from(30));
        assert_eq!(window(1 << 30, &shape(1, 3), &[10]), U256::from(30));
        assert_eq!(window(1, &shape(1, 2), &[10]), U256::from(1), "rounded up");
        assert_eq!(window(1 << 40, &shape(3, 6), &[]), U256::ZERO);
    }
}
