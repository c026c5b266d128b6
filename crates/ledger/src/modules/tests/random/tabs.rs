//! Throw tabs in, and claims that are right, old, bent or too late.

use hodei_types::{
    abi::{ITabs, TABS},
    tab::{Chain, GWEI, Tree, tab_id},
};

use super::*;
use crate::modules::tests::{tabs::tree, world};

/// What was seen of all tabs.
#[derive(Default)]
pub(super) struct Seen {
    /// Tried, be it or not: whose, and which of theirs.
    tried: Vec<(Address, u8)>,
    /// Opened, in order.
    pub(super) opened: Vec<B256>,
    /// By tab: deposited, claimed, paid back.
    coin: BTreeMap<B256, [U256; 3]>,
    pub(super) claims: u32,
    pub(super) refunds: u32,
}

impl Game {
    /// A payer's tab of that number, the same each time.
    fn tab(&self, payer: Address, number: u8) -> (B256, B256, Tree, Vec<Chain>) {
        let salt = B256::repeat_byte(number);
        let id = tab_id(CHAIN, payer, salt);
        let leaf =
            |i: usize| (self.hosts[i % 3].node, 10 + i as u32, COIN / 500 + u128::from(number) * GWEI + i as u128);
        let (tree, chains) = tree(id, number, &[0, 1, 2, 3].map(leaf));
        (id, salt, tree, chains)
    }

    /// One random call about tabs.
    pub(super) fn reading(&mut self, from: Address, stray: u128) -> (Address, Address, u128, Vec<u8>) {
        let step = if self.tabs.tried.is_empty() { 0 } else { self.dice.below(10) };
        if step < 2 {
            // Now and then by a budget, for its owner.
            let from =
                if self.dice.below(3) == 0 { self.people[4 + self.dice.below(2) as usize].address } else { from };
            let owner = self.world.view(BUDGETS, IBudgets::ownerOfCall { spender: from });
            let payer = if owner.is_zero() { from } else { owner };
            let number = self.dice.below(40) as u8;
            let (_, salt, tree, _) = self.tab(payer, number);
            self.tabs.tried.push((payer, number));
            let (root, gwei, term) = (tree.root(), tree.gwei(), 20_000 + self.dice.below(40_000));
            let call = ITabs::openCall { salt, bucket: self.dice.pick(&self.buckets), root, gwei, termMs: term };
            return (from, TABS, u128::from(gwei) * GWEI + stray, call.abi_encode());
        }
        if step == 9 {
            let tab = if self.tabs.opened.is_empty() { B256::ZERO } else { self.dice.pick(&self.tabs.opened) };
            let oldest =
                self.tabs.opened.iter().find(|id| self.world.view(TABS, ITabs::getCall { tab: **id }).state == 1);
            let tabs = vec![*oldest.filter(|_| self.dice.below(4) > 0).unwrap_or(&tab)];
            return (from, TABS, stray, ITabs::closeCall { tabs }.abi_encode());
        }
        let claims = (0..1 + self.dice.below(3)).map(|_| self.claim()).collect();
        (from, TABS, stray, ITabs::claimCall { claims }.abi_encode())
    }

    fn claim(&mut self) -> ITabs::Claim {
        // Mostly of one that is open.
        let is_open = |id: &B256| {
            self.tabs.coin.contains_key(id) && self.world.view(TABS, ITabs::getCall { tab: *id }).state == 1
        };
        let salt = |number| B256::repeat_byte(number);
        let is_claimable = |tab: &&(Address, u8)| is_open(&tab_id(CHAIN, tab.0, salt(tab.1)));
        let mut tabs: Vec<_> = self.tabs.tried.iter().filter(is_claimable).copied().collect();
        if tabs.is_empty() || self.dice.below(8) == 0 {
            tabs.clone_from(&self.tabs.tried);
        }
        let (payer, number) = self.dice.pick(&tabs);
        let (id, _, tree, chains) = self.tab(payer, number);
        let leaf = self.dice.below(4) as u32;
        let chain = &chains[leaf as usize];
        let known = self.world.view(TABS, ITabs::claimedCall { tab: id, leaf }).index;
        let index = match self.dice.below(5) {
            0 => self.dice.below(u64::from(chain.ticks()) + 1) as u32,
            _ => (known + 1 + self.dice.below(3) as u32).min(chain.ticks()),
        };
        let mut claim = tree.opening(leaf).unwrap().claim(id, &chain.tick(index).unwrap());
        match self.dice.below(40) {
            0 => claim.index += 1,
            1 => claim.price += 1,
            2 => claim.leaf ^= 1,
            3 => claim.provider = self.hosts[self.dice.below(3) as usize].node,
            4 => claim.value = claim.anchor,
            5 => claim.path = self.dice.bytes(80).into(),
            _ => {}
        }
        claim
    }

    /// Books what a transaction did to tabs, and who got coin of them.
    pub(super) fn learn_tabs(&mut self, logs: &[alloy_primitives::Log]) {
        let mut paid: Vec<(Address, U256)> = Vec::new();
        for opened in world::events::<ITabs::Opened>(logs) {
            let new = self.tabs.coin.insert(opened.tab, [U256::from(opened.deposit), U256::ZERO, U256::ZERO]);
            assert!(new.is_none(), "a tab is opened once");
            self.tabs.opened.push(opened.tab);
        }
        for claimed in world::events::<ITabs::Claimed>(logs) {
            let host = self.hosts.iter().find(|host| host.node == claimed.provider).unwrap();
            assert_eq!(claimed.operator, host.operator.address);
            self.tabs.coin.get_mut(&claimed.tab).unwrap()[1] += claimed.amount;
            self.tabs.claims += 1;
            paid.push((claimed.operator, claimed.amount));
        }
        for ended in world::events::<ITabs::Ended>(logs) {
            let coin = self.tabs.coin.get_mut(&ended.tab).unwrap();
            assert_eq!(coin[2], U256::ZERO, "a tab is paid back once");
            coin[2] = ended.refund;
            self.tabs.refunds += 1;
            paid.push((ended.payer, ended.refund));
        }
        let moved = world::moves(logs).into_iter().filter(|moved| moved.from == TABS);
        let mut moved: Vec<_> = moved.map(|moved| (moved.to, moved.amount)).collect();
        paid.retain(|(_, amount)| !amount.is_zero());
        moved.sort();
        paid.sort();
        assert_eq!(moved, paid, "nobody else got coin of a tab");
    }

    /// What is left of all tabs is there, and each tab's coin adds up to its deposit and its leaves.
    pub(super) fn check_tabs(&self) {
        let mut held = U256::ZERO;
        for (id, [deposit, claimed, refund]) in &self.tabs.coin {
            let tab = self.world.view(TABS, ITabs::getCall { tab: *id });
            let left = U256::from(tab.left);
            held += left;
            assert_eq!(U256::from(tab.claimed), *claimed);
            assert_eq!(left + *claimed + *refund, *deposit);
            let listed = ITabs::ofPayerCall { payer: tab.payer, first: 0, most: 64 };
            assert_eq!(self.world.view(TABS, listed).contains(id), tab.state == 1);
        }
        assert_eq!(self.world.balance(TABS), held);
        for (payer, number) in &self.tabs.tried {
            let (id, _, tree, _) = self.tab(*payer, *number);
            let Some([_, claimed, _]) = self.tabs.coin.get(&id) else { continue };
            let index = |leaf| self.world.view(TABS, ITabs::claimedCall { tab: id, leaf }).index;
            let due = |(leaf, shown): (usize, &hodei_types::tab::Leaf)| u128::from(index(leaf as u32)) * shown.price;
            assert_eq!(U256::from(tree.leaves().iter().enumerate().map(due).sum::<u128>()), *claimed);
        }
    }
}
