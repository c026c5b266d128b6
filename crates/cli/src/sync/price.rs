//! Say what it costs to keep what will be carried, and whether there is room for it.

use crate::{
    args::Class,
    fault::{self, Fault, Result},
    money,
    out::bytes,
    session::sdk_fault,
};
use alloy_primitives::U256;
use hodei_sdk::{
    Local,
    plan::{Plan, Wish},
    storage::reserve_bytes,
};
use hodei_types::{abi::LEAF_BYTES, code};

const GIB: u64 = 1 << 30;
/// Room of a bucket made for what is carried, beyond its bytes: later puts, and what is replaced.
const SPARE: u64 = 4;
/// What an object takes on all providers beside its bytes: its place in a pack, filled up to whole leaves on each, and
/// in the index. Measured with a thousand of 50 bytes at 3 of 6.
const OBJECT_BYTES: u64 = 14 << 10;

/// What carrying into a bucket costs.
pub(super) struct Price {
    /// A bucket that is to be made first.
    pub(super) plan: Option<Plan>,
    /// Wei for each window, paid from the bucket's escrow.
    pub(super) window: U256,
}

impl Price {
    pub(super) fn escrow(&self) -> U256 {
        self.plan.as_ref().map_or(U256::ZERO, Plan::escrow)
    }
}

pub(super) fn class(class: Class) -> code::Class {
    match class {
        Class::Small => code::Class::Small,
        Class::DataCentre => code::Class::Datacentre,
        Class::Home => code::Class::Home,
        Class::Phone => code::Class::Phone,
    }
}

/// What `count` objects of `more` bytes in all cost in a bucket; refused where they do not fit what was bought.
pub(super) async fn price(
    cloud: &Local,
    bucket: &str,
    (count, more): (usize, u64),
    class: code::Class,
) -> Result<Price> {
    let beside = OBJECT_BYTES.saturating_mul(count as u64);
    let Some(record) = cloud.bucket(bucket).await.map_err(sdk_fault)? else {
        let wanted = (more + more / SPARE + beside).next_multiple_of(GIB).max(GIB);
        let plan = cloud
            .plan(&Wish { class, losses: None, capacity_bytes: wanted, ..Wish::default() })
            .await
            .map_err(sdk_fault)?;
        let prices = plan.parts.iter().map(|part| part.offer.price_store);
        let window = wei(coded(more, plan.shape.k(), plan.shape.n()).saturating_add(beside), prices);
        return Ok(Price { plan: Some(plan), window });
    };
    let deals = cloud.deals(bucket).await.map_err(sdk_fault)?;
    let stored = coded(more, record.shape.k(), record.shape.n()).saturating_add(beside);
    let left = deals.iter().map(|deal| {
        let capacity = deal.state.capacityBytes;
        (capacity - reserve_bytes(capacity)).saturating_sub(deal.state.leaves.saturating_mul(LEAF_BYTES))
    });
    let free: u64 = left.sum();
    if stored > free {
        return Err(Fault::new(
            &fault::FULL,
            "the bucket's deals have no room for it",
            format!("enlarge it: hodei data redundancy {bucket} --capacity SIZE; or remove something from it first"),
        )
        .at(format!("hodei://{bucket}"))
        .between(format!("{} with parity", bytes(stored)), format!("{} free", bytes(free))));
    }
    let prices = deals.iter().map(|deal| deal.state.price);
    Ok(Price { plan: None, window: wei(stored, prices) })
}

/// Bytes that become so many of all shards.
fn coded(more: u64, k: u8, n: u8) -> u64 {
    (u128::from(more) * u128::from(n)).div_ceil(u128::from(k)) as u64
}

/// Shares fall evenly on the deals: their mean price counts.
fn wei(stored: u64, prices: impl Iterator<Item = u128>) -> U256 {
    let (mut sum, mut count) = (U256::ZERO, 0u64);
    for price in prices {
        sum += U256::from(price);
        count += 1;
    }
    if count == 0 {
        return U256::ZERO;
    }
    sum * U256::from(stored) / U256::from(count) / U256::from(GIB)
}

/// For people.
pub(super) fn line(price: &Price) -> String {
    format!("about {} a window from the bucket's escrow", money::show(price.window))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_is_paid_with_its_parity() {
        let prices = [100u128, 200, 300];
        assert_eq!(wei(coded(GIB, 3, 6), prices.into_iter()), U256::from(400), "two GiB at 200");
        assert_eq!(wei(GIB, std::iter::empty()), U256::ZERO);
        assert_eq!(coded(10, 3, 6), 20);
        assert_eq!(coded(u64::MAX / 2, 16, 24), (u128::from(u64::MAX / 2) * 24 / 16) as u64 + 1);
    }
}
