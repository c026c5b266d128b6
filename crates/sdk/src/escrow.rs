//! Say how long a bucket is paid for, and pay for longer.

use crate::{
    bucket::{Buckets, OPEN},
    fault::Fault,
    market::Offer,
    plan::RESERVE_WINDOWS,
};
use alloy_primitives::{B256, U256};
use alloy_sol_types::SolCall as _;
use hodei_types::{
    abi::{DEALS, IDeals, LEAF_BYTES},
    call::ask,
    transport::NodeKey,
};

/// Prices are per GiB.
const GIB: u64 = 1 << 30;
/// A third of the windows that are kept in reserve: a daily one leaves ten days to act.
const LOW_WINDOWS: u64 = RESERVE_WINDOWS / 3;
/// Gas of one top-up.
const TOP_UP_GAS: u64 = 1_000_000;

/// What a bucket's deals hold by the ledger's word, and how long they are paid for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holding {
    /// On providers, parity included.
    pub held_bytes: u64,
    /// Wei left in all escrows.
    pub escrow: U256,
    /// With whom the deals are, one each.
    pub providers: Vec<NodeKey>,
    /// Windows until the first deal's escrow is used up; `None` while nothing is held.
    pub windows: Option<u64>,
}

/// When windows end: they stand still through a halt of the ledger.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Calendar {
    now_ms: u64,
    /// Of the running window.
    left_ms: u64,
    window_ms: u64,
}

impl Calendar {
    pub(crate) fn of(now_ms: u64, running: &IDeals::Window) -> Self {
        let left_ms = running.endsMs.saturating_sub(running.clockMs);
        Self { now_ms, left_ms, window_ms: running.endsMs.saturating_sub(running.openedMs) }
    }

    /// How long a window is, in whole seconds, at least one.
    pub fn window_secs(&self) -> u64 {
        (self.window_ms / 1_000).max(1)
    }

    /// When so many windows are over, about, in milliseconds since 1970; the running one counts as none.
    pub fn ends_ms(&self, windows: u64) -> u64 {
        self.now_ms.saturating_add(self.left_ms).saturating_add(self.window_ms.saturating_mul(windows))
    }
}

/// Wei of a deal's escrow that its provider did not earn yet.
pub(crate) fn left(deal: &IDeals::Deal) -> U256 {
    U256::from(deal.escrow).saturating_sub(deal.owed)
}

impl Holding {
    /// Whether it should be topped up, so that data does not outlive its pay.
    pub fn runs_low(&self) -> bool {
        self.windows.is_some_and(|windows| windows < LOW_WINDOWS)
    }

    /// Deals with providers that take nothing new: the ledger closed them for missed proofs, or they leave.
    pub fn shut(&self, offers: &[Offer]) -> usize {
        let takes = |node: &NodeKey| offers.iter().any(|offer| offer.open && offer.node == *node);
        self.providers.iter().filter(|node| !takes(node)).count()
    }
}

impl Buckets {
    /// What its deals hold and have left.
    pub async fn holding(&self, bucket: B256) -> Result<Holding, Fault> {
        let states = self.states(bucket).await?;
        Ok(Holding {
            providers: states.iter().map(|deal| NodeKey(deal.provider.0)).collect(),
            held_bytes: states.iter().map(|deal| deal.leaves * LEAF_BYTES).sum(),
            escrow: states.iter().map(left).sum(),
            windows: states
                .iter()
                .filter(|deal| deal.leaves > 0)
                .map(|deal| windows(left(deal), deal, deal.leaves))
                .min(),
        })
    }

    pub(crate) async fn calendar(&self) -> Result<Calendar, Fault> {
        let running = ask(&**self.wallet.chain(), DEALS, &IDeals::windowCall {}).await?;
        Ok(Calendar::of(self.wallet.chain().head().await?.time_ms, &running))
    }

    /// What it takes for each deal to last so many windows, were it full: (deal, wei).
    pub async fn missing(&self, bucket: B256, wanted: u64) -> Result<Vec<(u64, U256)>, Fault> {
        let states = self.states(bucket).await?;
        let missing = states.iter().filter(|deal| deal.state == OPEN).map(|deal| {
            let leaves = (deal.capacityBytes / LEAF_BYTES).max(deal.leaves);
            let needs = U256::from(deal.price) * U256::from(leaves * LEAF_BYTES) * U256::from(wanted);
            (deal.id, needs.div_ceil(U256::from(GIB)).saturating_sub(left(deal)))
        });
        Ok(missing.filter(|(_, wei)| !wei.is_zero()).collect())
    }

    /// Adds to deals' escrow.
    pub async fn top_up(&self, deals: &[(u64, U256)]) -> Result<(), Fault> {
        self.afford(deals.iter().map(|(_, wei)| *wei).sum()).await?;
        for (deal, wei) in deals {
            self.run(DEALS, IDeals::topUpCall { deal: *deal }.abi_encode(), *wei, TOP_UP_GAS).await?;
        }
        Ok(())
    }
}

/// Windows that so many wei pay for so many leaves.
fn windows(wei: U256, deal: &IDeals::Deal, leaves: u64) -> u64 {
    let window = U256::from(deal.price) * U256::from(leaves * LEAF_BYTES);
    if window.is_zero() { u64::MAX } else { (wei * U256::from(GIB) / window).saturating_to() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn deal(price: u128, escrow: u128, leaves: u64) -> IDeals::Deal {
        IDeals::Deal {
            id: 1,
            bucket: B256::ZERO,
            provider: B256::ZERO,
            owner: Default::default(),
            state: OPEN,
            capacityBytes: GIB,
            pledgedBytes: GIB,
            price,
            escrow,
            sequence: 0,
            root: B256::ZERO,
            leaves,
            paidWindows: 0,
            missedWindows: 0,
            paid: U256::ZERO,
            owed: U256::ZERO,
        }
    }

    #[test]
    fn windows_end_by_the_running_one() {
        let running = IDeals::Window {
            index: 7,
            clockMs: 9_400,
            openedMs: 9_000,
            endsMs: 10_000,
            height: 1,
            seed: Default::default(),
        };
        let calendar = Calendar::of(50_000, &running);
        assert_eq!(calendar.ends_ms(0), 50_600);
        assert_eq!(calendar.ends_ms(30), 80_600);
        assert_eq!(calendar.ends_ms(u64::MAX), u64::MAX);
    }

    #[test]
    fn windows_follow_from_price_and_what_is_held() {
        let full = GIB / LEAF_BYTES;
        assert_eq!(windows(U256::from(600), &deal(10, 600, full), full), 60);
        assert_eq!(windows(U256::from(600), &deal(10, 600, full / 2), full / 2), 120);
        assert_eq!(windows(U256::from(9), &deal(10, 9, full), full), 0);
        assert_eq!(windows(U256::ZERO, &deal(0, 0, full), full), u64::MAX, "free of charge");
        let low = |windows| Holding { held_bytes: 1, escrow: U256::ZERO, providers: Vec::new(), windows }.runs_low();
        assert_eq!([low(None), low(Some(9)), low(Some(10))], [false, true, false]);
    }
}
