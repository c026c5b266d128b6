//! Say what a pass's tab paid: to its reader when it is used up, and to its owner at any time.

use super::{Share, brief};
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
use std::fmt;

/// Providers that are named one by one.
const NAMED_MAX: usize = 4;
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

/// What a pass binds at providers that do not answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Held {
    pub mib: u64,
    pub away: Vec<NodeKey>,
    /// With them back the read goes on: there are enough then.
    pub may_return: bool,
    /// The end of the pass, in milliseconds since 1970: until then it is read from them, and what nobody claimed goes back
    /// to the owner two windows after it.
    pub until_ms: u64,
}

impl fmt::Display for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.away.is_empty() {
            return Ok(());
        }
        let named: Vec<String> = self.away.iter().take(NAMED_MAX).map(brief).collect();
        let more = if self.away.len() > NAMED_MAX { " …" } else { "" };
        let then = if self.may_return { ", and can be read once these are back" } else { "" };
        let (mib, named) = (self.mib, named.join(", "));
        write!(f, "; {mib} MiB of them are bound at providers that do not answer ({named}{more}){then}")
    }
}

/// How one provider stands to a read that failed.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stand {
    /// What the tab pays there is used up.
    Dry,
    /// It does not answer.
    Away,
    /// It is not known why it gave nothing: who is busy, or cannot check the tab without the ledger, gives later.
    There,
}

/// Whether what is used up at some providers leaves fewer who answer than a read needs; and if so, whether those who do not
/// would do.
fn is_used_up(needs: usize, stands: impl IntoIterator<Item = Stand>) -> Option<bool> {
    let (mut dry, mut away, mut there) = (0, 0, 0);
    for stand in stands {
        match stand {
            Stand::Dry => dry += 1,
            Stand::Away => away += 1,
            Stand::There => there += 1,
        }
    }
    (dry > 0 && there < needs).then_some(there + away >= needs)
}

impl<E: Runtime, T: Transport> Cloud<E, T> {
    /// Whether a read failed because its pass, which ends then, pays for no more of it: it says so, and what is held up at
    /// whom. Where nobody who is away could help, it will fail again.
    pub(super) fn or_spent(&self, error: Fault, roster: &[Provider], until_ms: u64) -> Fault {
        let needs = match &error {
            Fault::Get(GetError::Shards { want, .. }) => *want,
            // A page is not coded but copied: any one copy is the whole of it. Who of the bucket's providers have one is not
            // known here, so as long as one is not used up it may be the one, and gives later.
            Fault::Get(GetError::Page { .. }) => 1,
            _ => return error,
        };
        let now = self.0.context.current();
        let stand = |provider: &Provider| match &provider.meter {
            Some(meter) if meter.is_dry() => Stand::Dry,
            _ if self.0.engine.peers().is_late(&provider.peer.key, now) => Stand::Away,
            _ => Stand::There,
        };
        let Some(may_return) = is_used_up(needs, roster.iter().map(stand)) else { return error };
        let (mut paid_mib, mut bound_mib, mut wei) = (0, 0, 0u128);
        let mut held = Held { may_return, until_ms, ..Held::default() };
        // A provider of several deals counts once.
        let mut seen: Vec<NodeKey> = Vec::new();
        for provider in roster {
            let (node, Some(meter)) = (provider.peer.key, &provider.meter) else { continue };
            if !seen.contains(&node) {
                seen.push(node);
                let ((ticks, worth), all) = (meter.paid(), u64::from(meter.ticks()));
                (paid_mib, bound_mib) = (paid_mib + ticks, bound_mib + all);
                wei = wei.saturating_add(worth);
                if stand(provider) == Stand::Away && all > ticks {
                    held.mib += all - ticks;
                    held.away.push(node);
                }
            }
        }
        Fault::Spent { paid_mib, bound_mib, wei: U256::from(wei), held }
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
        let of = |needs: usize, dry: usize, away: usize, there: usize| {
            let all = [(Stand::Dry, dry), (Stand::Away, away), (Stand::There, there)];
            is_used_up(needs, all.into_iter().flat_map(|(stand, count)| std::iter::repeat_n(stand, count)))
        };
        assert_eq!([of(3, 6, 0, 0), of(3, 4, 0, 2), of(1, 6, 0, 0), of(3, 4, 1, 1)], [Some(false); 4]);
        // A small one that is used up says nothing of those that are busy.
        assert_eq!([of(3, 1, 0, 5), of(3, 3, 0, 3), of(1, 5, 0, 1)], [None; 3]);
        assert_eq!([of(3, 0, 0, 2), of(3, 0, 4, 2)], [None; 2], "too few, and none for want of coins");
        assert_eq!([of(3, 3, 1, 2), of(3, 3, 3, 0)], [Some(true); 2], "they would do, were they back");
    }

    #[test]
    fn what_is_held_up_is_told_with_where() {
        let away = vec![NodeKey([0xab; 32]), NodeKey([0xcd; 32])];
        let held = Held { mib: 7, away, may_return: true, until_ms: 1 };
        let text = held.to_string();
        assert!(
            text.contains("; 7 MiB of them are bound") && text.contains("(abab") && text.contains(", cdcd"),
            "{text}"
        );
        assert!(text.ends_with("once these are back"), "{text}");
        assert!(Held { may_return: false, ..held }.to_string().ends_with("cd)"));
        assert_eq!(Held::default().to_string(), "");
    }
}
