//! Open a tab for what is read, pay providers out of it, and take back what is left.
//!
//! A tab is drawn here first, from a salt and a seed: leaves, chains and root follow from those and from what each provider
//! is promised, so that whoever knows the three makes the same tab again. Nothing of it is secret but the seed. Coin is
//! bound when the ledger opens it, out of the wallet's budget, and returns to the wallet's owner.

use crate::{bucket::Buckets, fault::Fault, moves::event};
use alloy_primitives::{Address, B256, U256};
use alloy_sol_types::SolCall as _;
use hodei_ledger::account::Order;
use hodei_types::{
    abi::{ITabs, PAGE_MAX, TABS},
    call::{ask, revert},
    chain::ChainError,
    tab::{Chain, GWEI, LEAVES_MAX, Leaf, Opening, TICKS_MAX, TabError, Tree, tab_id},
    transport::NodeKey,
};
use zeroize::Zeroizing;

/// Gas of opening one: its five slots, and its place in the payer's list.
const OPEN_GAS: u64 = 600_000;
/// Gas of one claim: a path, a leaf's slots, and the hashes of a whole chain.
const CLAIM_GAS: u64 = 600_000;
const CLOSE_GAS: u64 = 300_000;
/// Entries of one batch, so that it stays below what a transaction may ask (2²⁴ gas).
const BATCH: usize = 16;

/// What one provider may draw.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Promise {
    pub provider: NodeKey,
    /// MiB in all.
    pub ticks: u32,
    /// Wei per MiB.
    pub price: u128,
}

/// A tab as those know it who can pay with it.
#[derive(Clone)]
pub struct Tab {
    id: B256,
    salt: B256,
    seed: Zeroizing<[u8; 32]>,
    tree: Tree,
}

impl std::fmt::Debug for Tab {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Tab({}, {} leaves)", self.id, self.tree.leaves().len())
    }
}

impl Tab {
    /// Draws the tab of `payer` by these promises, on the network of that chain id. One hash a tick: 3 ms for 4,096.
    ///
    /// A promise of more ticks than a leaf has becomes several leaves. Salt and seed are to be random, and new for each
    /// tab: the salt names it, and who knows the seed pays with it.
    pub fn draw(
        chain_id: u64,
        payer: Address,
        salt: B256,
        seed: &[u8; 32],
        promises: &[Promise],
    ) -> Result<Self, TabError> {
        let id = tab_id(chain_id, payer, salt);
        let mut leaves = Vec::new();
        for Promise { provider, ticks, price } in promises {
            let provider = B256::from(provider.0);
            for done in (0..*ticks).step_by(TICKS_MAX as usize) {
                let ticks = (ticks - done).min(TICKS_MAX);
                let number = leaves.len() as u32;
                // Before its hashes are spent.
                if leaves.len() >= LEAVES_MAX {
                    return Err(TabError::Leaves(leaves.len() + 1));
                }
                let chain = Chain::prepare(seed, id, provider, number, ticks).ok_or(TabError::Ticks(ticks))?;
                leaves.push(Leaf { provider, anchor: chain.anchor(), ticks, price: *price });
            }
        }
        Ok(Self { id, salt, seed: Zeroizing::new(*seed), tree: Tree::build(leaves)? })
    }

    pub fn id(&self) -> B256 {
        self.id
    }

    pub fn salt(&self) -> B256 {
        self.salt
    }

    /// Who knows it pays with the tab: it goes to its reader alone.
    pub fn seed(&self) -> &[u8; 32] {
        &self.seed
    }

    pub fn tree(&self) -> &Tree {
        &self.tree
    }

    /// What opening it binds, in wei.
    pub fn deposit(&self) -> U256 {
        U256::from(self.tree.gwei()) * U256::from(GWEI)
    }

    /// Leaf `number` with its path, as its provider asks for it; `None` where no leaf stands.
    pub fn opening(&self, number: u32) -> Option<Opening> {
        self.tree.opening(number)
    }

    /// The chain of leaf `number`, from which its ticks are revealed; as many hashes as it has ticks.
    pub fn chain(&self, number: u32) -> Option<Chain> {
        let leaf = self.tree.leaves().get(number as usize)?;
        Chain::prepare(&self.seed, self.id, leaf.provider, number, leaf.ticks)
    }

    /// The leaves of one provider, by number.
    pub fn of(&self, provider: &NodeKey) -> Vec<u32> {
        let is_its = |leaf: &Leaf| leaf.provider.0 == provider.0;
        (0..).zip(self.tree.leaves()).filter(|(_, leaf)| is_its(leaf)).map(|(number, _)| number).collect()
    }
}

impl Buckets {
    /// Opens a tab of this wallet's owner for reads of `bucket`, for `term_ms` from now on; claims are taken till then.
    /// Pays its deposit. One that is open already, by an answer that was lost, is not paid twice.
    pub async fn open_tab(&self, tab: &Tab, bucket: B256, term_ms: u64) -> Result<ITabs::Tab, Fault> {
        let (root, gwei) = (tab.tree.root(), tab.tree.gwei());
        if let Some(known) = self.tab(tab.id).await? {
            return if known.root == root { Ok(known) } else { Err(Fault::Key("the tab's salt was used before")) };
        }
        let call = ITabs::openCall { salt: tab.salt, bucket, root, gwei, termMs: term_ms };
        self.run(TABS, call.abi_encode(), tab.deposit(), OPEN_GAS).await?;
        let opened = self.tab(tab.id).await?;
        opened.ok_or(Fault::Key("the tab was drawn for another payer or network than opened it"))
    }

    /// What the ledger says of a tab; `None` where there never was one.
    pub async fn tab(&self, id: B256) -> Result<Option<ITabs::Tab>, Fault> {
        match ask(&**self.wallet.chain(), TABS, &ITabs::getCall { tab: id }).await {
            Ok(tab) => Ok(Some(tab)),
            Err(error) => match revert(&error) {
                Some(ITabs::ITabsErrors::UnknownTab(_)) => Ok(None),
                _ => Err(error.into()),
            },
        }
    }

    /// Ticks of a leaf that were claimed so far.
    pub async fn claimed(&self, tab: B256, leaf: u32) -> Result<u32, Fault> {
        Ok(ask(&**self.wallet.chain(), TABS, &ITabs::claimedCall { tab, leaf }).await?.index)
    }

    /// The owner's open tabs, also those whose claims ended.
    pub async fn tabs(&self) -> Result<Vec<ITabs::Tab>, Fault> {
        let (chain, payer) = (&**self.wallet.chain(), self.wallet.owner());
        let (mut tabs, mut first) = (Vec::new(), 0);
        loop {
            let page = ask(chain, TABS, &ITabs::ofPayerCall { payer, first, most: PAGE_MAX }).await?;
            for id in &page {
                tabs.extend(self.tab(*id).await?);
            }
            first += PAGE_MAX;
            if (page.len() as u64) < PAGE_MAX {
                return Ok(tabs);
            }
        }
    }

    /// Pays ticks to their providers' operators, in batches that are all or none; what was paid, by the ledger's receipts.
    pub async fn claim(&self, claims: &[ITabs::Claim]) -> Result<U256, Fault> {
        let mut paid = U256::ZERO;
        for batch in claims.chunks(BATCH) {
            let call = ITabs::claimCall { claims: batch.to_vec() };
            let order = Order::call(TABS, call.abi_encode(), CLAIM_GAS * (batch.len() as u64 + 1));
            let logs = self.attempt(&order).await?;
            paid += logs.iter().filter_map(event::<ITabs::Claimed>).map(|claimed| claimed.amount).sum::<U256>();
        }
        Ok(paid)
    }

    /// Takes back what is left of tabs whose claims ended; what each gave back, by the ledger's receipts. One that
    /// somebody else closed meanwhile is not among them. One that the ledger does not close keeps no other back: the first
    /// such is the error, once all were tried.
    pub async fn close_tabs(&self, tabs: &[B256]) -> Result<Vec<U256>, Fault> {
        let (mut refunds, mut failed) = (Vec::new(), None);
        for tab in tabs {
            let call = ITabs::closeCall { tabs: vec![*tab] };
            match self.attempt(&Order::call(TABS, call.abi_encode(), CLOSE_GAS)).await {
                Ok(logs) => refunds.extend(logs.iter().filter_map(event::<ITabs::Ended>).map(|ended| ended.refund)),
                Err(error) => match revert(&error) {
                    Some(ITabs::ITabsErrors::NotOpen(_)) => {}
                    _ if matches!(error, ChainError::Reverted(_)) => failed = failed.or(Some(error)),
                    _ => return Err(error.into()),
                },
            }
        }
        failed.map_or(Ok(refunds), |error| Err(error.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hodei_types::tab::{Tick, follows};

    fn promise(node: u8, ticks: u32) -> Promise {
        Promise { provider: NodeKey([node; 32]), ticks, price: 1_000_000_000 }
    }

    fn draw(seed: u8, promises: &[Promise]) -> Result<Tab, TabError> {
        Tab::draw(7, Address::repeat_byte(1), B256::repeat_byte(2), &[seed; 32], promises)
    }

    #[test]
    fn a_tab_is_the_same_for_all_who_know_its_seed_and_promises() {
        let promises = [promise(1, 10), promise(2, TICKS_MAX * 2 + 5), promise(3, 1)];
        let (tab, again) = (draw(9, &promises).unwrap(), draw(9, &promises).unwrap());
        assert_eq!((tab.id(), tab.tree().root(), tab.salt()), (again.id(), again.tree().root(), again.salt()));
        assert_ne!(tab.tree().root(), draw(8, &promises).unwrap().tree().root());
        assert_eq!(tab.of(&NodeKey([2; 32])), [1, 2, 3], "more than a leaf holds is several");
        let ticks: Vec<_> = tab.tree().leaves().iter().map(|leaf| leaf.ticks).collect();
        assert_eq!(ticks, [10, TICKS_MAX, TICKS_MAX, 5, 1]);
        assert_eq!(tab.deposit(), U256::from(2 * TICKS_MAX + 16) * U256::from(GWEI));
        for number in 0..5 {
            let (opening, chain) = (tab.opening(number).unwrap(), tab.chain(number).unwrap());
            assert_eq!(opening.check(tab.tree().root(), tab.tree().gwei()), Ok(()));
            let anchor = Tick { index: 0, value: opening.leaf.anchor };
            let last = chain.tick(opening.leaf.ticks).unwrap();
            assert_eq!(follows(tab.id(), opening.leaf.provider, &anchor, &last, TICKS_MAX), Ok(()));
        }
        assert!(tab.opening(5).is_none() && tab.chain(5).is_none());
    }

    #[test]
    fn what_is_no_tab_is_refused_before_it_is_worked_on() {
        assert_eq!(draw(9, &[]).unwrap_err(), TabError::Leaves(0));
        assert_eq!(draw(9, &[promise(1, 0)]).unwrap_err(), TabError::Leaves(0));
        let many: Vec<_> = (0..=LEAVES_MAX).map(|_| promise(1, 1)).collect();
        assert_eq!(draw(9, &many).unwrap_err(), TabError::Leaves(LEAVES_MAX + 1));
        let dear = Promise { price: u128::MAX, ..promise(1, 2) };
        assert_eq!(draw(9, &[dear]).unwrap_err(), TabError::Sum);
        assert!(!format!("{:?}", draw(9, &[promise(1, 2)]).unwrap()).contains("9, 9"), "the seed is not printed");
    }
}
