//! Say what a pass's tab paid: to its reader when it is used up, and to its owner at any time.

use super::Share;
use crate::{
    bucket::AT_ONCE,
    cloud::{Cloud, Runtime},
    fault::Fault,
};
use alloy_primitives::{B256, U256};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use hodei_storage::engine::{GetError, Provider};
use hodei_types::{
    abi::ITabs,
    slice::ShardId,
    tab::{GWEI, tab_id},
    transport::{NodeKey, Transport},
};

/// State of a tab from which providers claim.
const OPEN: u8 = 1;

/// What one reader's pass binds and paid, as the ledger says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Purchase {
    pub tab: B256,
    /// Wei that were bound, and that providers claimed so far: they claim when it is worth the fee, and before the end.
    pub bound: U256,
    pub claimed: U256,
    /// In milliseconds since 1970: claims end then, and what is left returns.
    pub until_ms: u64,
    /// What is left is still bound.
    pub is_open: bool,
}

/// Whether what is used up at some providers leaves fewer than a read needs, by whether it is at each. Of the others it is not
/// known why they gave nothing: who is away, busy, or cannot check the tab without the ledger gives later.
fn is_used_up(needs: usize, dry: impl IntoIterator<Item = bool>) -> bool {
    let (dry, others): (Vec<bool>, Vec<bool>) = dry.into_iter().partition(|is_dry| *is_dry);
    !dry.is_empty() && others.len() < needs
}

impl<E: Runtime, T: Transport> Cloud<E, T> {
    /// Whether a read failed because its pass pays for no more of it: then it will fail again, and says so.
    pub(super) fn or_spent(&self, error: Fault, roster: &[Provider]) -> Fault {
        let needs = match &error {
            Fault::Get(GetError::Shards { want, .. }) => *want,
            Fault::Get(GetError::Page { .. }) => 1,
            _ => return error,
        };
        let meters = || roster.iter().filter_map(|provider| Some((provider.peer.key, provider.meter.as_ref()?)));
        let is_dry = |provider: &Provider| provider.meter.as_ref().is_some_and(|meter| meter.is_dry());
        if !is_used_up(needs, roster.iter().map(is_dry)) {
            return error;
        }
        let (mut paid_mib, mut bound_mib, mut wei) = (0, 0, 0u128);
        // A provider of several deals counts once.
        let mut seen: Vec<NodeKey> = Vec::new();
        for (node, meter) in meters() {
            if !seen.contains(&node) {
                seen.push(node);
                let (ticks, worth) = meter.paid();
                (paid_mib, bound_mib) = (paid_mib + ticks, bound_mib + u64::from(meter.ticks()));
                wei = wei.saturating_add(worth);
            }
        }
        Fault::Spent { paid_mib, bound_mib, wei: U256::from(wei) }
    }

    /// The salt of a pass's tab, by its place among the passes of its share: so its owner finds it again by the share alone.
    pub(super) fn tab_salt(&self, record: &ShardId, at: usize) -> B256 {
        let mut hasher = blake3::Hasher::new_derive_key("hodei 2026 salt of a pass's tab v1");
        hasher.update(self.0.wallet.data().bytes()).update(&record.0).update(&(at as u64).to_be_bytes());
        B256::from(*hasher.finalize().as_bytes())
    }

    /// What passes of a share bind and paid, in the order of its readers; none where their reads are not paid for.
    pub async fn purchases(&self, share: &Share) -> Result<Vec<Purchase>, Fault> {
        if share.price.is_none() {
            return Ok(Vec::new());
        }
        let (chain_id, owner) = (self.0.chain_id, self.0.wallet.owner());
        let tab = |at: usize| self.0.buckets.tab(tab_id(chain_id, owner, self.tab_salt(&share.record, at)));
        let asked = (0..share.readers.len()).map(tab);
        let tabs: Vec<Option<ITabs::Tab>> = stream::iter(asked).buffered(AT_ONCE).try_collect().await?;
        // They are opened one after another, and none behind one that could not be.
        let opened = tabs.into_iter().map_while(|tab| tab);
        let purchase = |tab: ITabs::Tab| Purchase {
            tab: tab.id,
            bound: U256::from(tab.gwei) * U256::from(GWEI),
            claimed: U256::from(tab.claimed),
            until_ms: tab.untilMs,
            is_open: tab.state == OPEN,
        };
        Ok(opened.map(purchase).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pass_is_used_up_where_too_few_are_left_that_could_give() {
        let of = |needs: usize, dry: usize, others: usize| is_used_up(needs, (0..dry + others).map(|at| at < dry));
        assert!(of(3, 6, 0) && of(3, 4, 2) && of(1, 6, 0));
        // A small one that is used up says nothing of those that are busy.
        assert!(!of(3, 1, 5) && !of(3, 3, 3) && !of(1, 5, 1));
        assert!(!of(3, 0, 2), "too few, and none for want of coins");
    }
}
