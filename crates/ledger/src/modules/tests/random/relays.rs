//! Throw relays, tickets and ticks in, by dice of their own, so that the rest of a game stays what it was.

use hodei_types::{
    abi::{IRelays, RELAYS},
    market::{chain_id, prepare_chain},
    tab::Chain,
};

use super::*;
use crate::modules::tests::{
    relays::{offer, terms},
    world,
};

/// What was seen of the pool.
pub(super) struct Seen {
    dice: Dice,
    /// By chain: wei that came in, and that were paid or burned.
    coin: BTreeMap<B256, [U256; 2]>,
    /// Chains that were not closed, oldest first.
    open: Vec<B256>,
    /// By relay that is in the list.
    collateral: BTreeMap<B256, U256>,
    /// Epochs that opened.
    opened: BTreeSet<u64>,
    pub(super) prices: BTreeSet<u64>,
    pub(super) claims: u32,
    pub(super) refunds: u32,
}

impl Seen {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            dice: Dice(seed.wrapping_mul(0xbf58_476d_1ce4_e5b9) | 1),
            coin: BTreeMap::new(),
            open: Vec::new(),
            collateral: BTreeMap::new(),
            opened: BTreeSet::new(),
            prices: BTreeSet::new(),
            claims: 0,
            refunds: 0,
        }
    }
}

impl Game {
    /// One random call about relays; often a wrong one.
    pub(super) fn relay(&mut self) -> (Address, Address, u128, Vec<u8>) {
        let dice = &mut self.relays.dice;
        let from = self.people[dice.below(4) as usize].address;
        let host = &self.hosts[dice.below(3) as usize];
        let (node, operator) = (host.node, host.operator.address);
        let terms = terms(100 + dice.below(5) * 100, 1 + dice.below(40));
        match dice.below(20) {
            0..=2 => {
                let least = self.world.view(RELAYS, IRelays::collateralMinCall { bandwidthBits: terms.bandwidthBits });
                // Some with a little less than is needed, or a little more.
                (operator, RELAYS, least.to::<u128>() + u128::from(dice.below(100)) - 10, offer(host, terms))
            }
            3 | 4 => (operator, RELAYS, 0, IRelays::updateCall { node, terms }.abi_encode()),
            5 => (from, RELAYS, u128::from(dice.below(1000)), IRelays::depositCall { node }.abi_encode()),
            6 if dice.below(6) == 0 => (operator, RELAYS, 0, IRelays::retireCall { node }.abi_encode()),
            6 => (operator, RELAYS, 0, IRelays::withdrawCall { node }.abi_encode()),
            7..=10 => self.ticket(from, node, operator),
            11 => self.direct(from),
            12..=17 => self.tick(from),
            _ => {
                let oldest = self.relays.open.first().copied().unwrap_or_default();
                (from, RELAYS, 0, IRelays::closeCall { chains: vec![oldest] }.abi_encode())
            }
        }
    }

    /// One ticket at the epoch's price, or a little less, or a size that is none.
    fn ticket(&mut self, payer: Address, node: B256, payee: Address) -> (Address, Address, u128, Vec<u8>) {
        let price = self.world.view(RELAYS, IRelays::epochCall {}).price;
        let next = self.world.view(RELAYS, IRelays::nextNumberCall { payer });
        let dice = &mut self.relays.dice;
        let number = (next + dice.below(3)).saturating_sub(u64::from(dice.below(10) == 0));
        let ticks = dice.pick(&[1, 8, 8, 64, 64, 3]);
        let anchor = words(chain_id(CHAIN, payer, payee, number), payee, ticks).anchor();
        let tickets = vec![IRelays::Ticket { relay: node, number, anchor, ticks }];
        let value = (u128::from(ticks) * u128::from(price) + u128::from(dice.below(20))).saturating_sub(1);
        (payer, RELAYS, value, IRelays::buyCall { tickets, priceMax: 100 + 100 * dice.below(6) }.abi_encode())
    }

    /// A chain to somebody.
    fn direct(&mut self, payer: Address) -> (Address, Address, u128, Vec<u8>) {
        let number = self.world.view(RELAYS, IRelays::nextNumberCall { payer });
        let dice = &mut self.relays.dice;
        let payee = self.people[dice.below(4) as usize].address;
        let (ticks, price) = (1 + dice.below(64) as u32, dice.below(50));
        let anchor = words(chain_id(CHAIN, payer, payee, number), payee, ticks).anchor();
        let wants = vec![IRelays::Direct { payee, number, anchor, ticks, price }];
        (payer, RELAYS, u128::from(ticks) * u128::from(price), IRelays::openCall { wants }.abi_encode())
    }

    /// A claim on one of the newest chains: right, old, bent or too late.
    fn tick(&mut self, from: Address) -> (Address, Address, u128, Vec<u8>) {
        let newest = self.relays.open.len().saturating_sub(6);
        let open = &self.relays.open[newest..];
        if open.is_empty() {
            return (from, RELAYS, 0, IRelays::claimCall { claims: Vec::new() }.abi_encode());
        }
        let dice = &mut self.relays.dice;
        let chain = dice.pick(open);
        let shown = self.world.view(RELAYS, IRelays::chainCall { id: chain });
        let index = (shown.claimed + dice.below(20) as u32).min(shown.ticks);
        let tick = words(chain, shown.payee, shown.ticks).tick(index).unwrap();
        let index = if dice.below(10) == 0 { index + 1 } else { index };
        let claims = vec![IRelays::Claim { chain, index, word: tick.value }];
        (from, RELAYS, 0, IRelays::claimCall { claims }.abi_encode())
    }

    /// Books what a transaction did to relays and chains.
    pub(super) fn learn_relays(&mut self, logs: &[alloy_primitives::Log]) {
        // Other modules have events of the same signatures.
        let logs: Vec<_> = logs.iter().filter(|log| log.address == RELAYS).cloned().collect();
        let seen = &mut self.relays;
        for one in world::events::<IRelays::Offered>(&logs) {
            seen.collateral.insert(one.node, one.collateral);
        }
        for one in world::events::<IRelays::Deposited>(&logs) {
            seen.collateral.insert(one.node, one.collateral);
        }
        for one in world::events::<IRelays::Withdrawn>(&logs) {
            assert_eq!(seen.collateral.remove(&one.node), Some(one.amount));
        }
        for one in world::events::<IRelays::Opened>(&logs) {
            let came = U256::from(one.ticks) * U256::from(one.price);
            assert!(seen.coin.insert(one.chain, [came, U256::ZERO]).is_none(), "a chain is opened once");
            seen.open.push(one.chain);
        }
        for one in world::events::<IRelays::Claimed>(&logs) {
            seen.coin.get_mut(&one.chain).unwrap()[1] += one.amount + one.burned;
            seen.claims += 1;
        }
        for one in world::events::<IRelays::Closed>(&logs) {
            let [came, paid] = seen.coin[&one.chain];
            assert_eq!(one.refund, came - paid);
            seen.open.retain(|id| *id != one.chain);
            seen.refunds += 1;
        }
    }

    /// Books the epochs that blocks opened.
    pub(super) fn learn_cleared(&mut self, logs: &[alloy_primitives::Log]) {
        for one in world::events::<IRelays::Cleared>(logs) {
            assert!(self.relays.opened.insert(one.epoch), "an epoch opens once");
            self.relays.prices.insert(one.price);
        }
    }

    /// Collateral and what is left of chains are there to the wei.
    pub(super) fn check_relays(&self) {
        let world = &self.world;
        let mut held: U256 = self.relays.collateral.values().copied().sum();
        for id in &self.relays.open {
            let [came, paid] = self.relays.coin[id];
            assert_eq!(world.view(RELAYS, IRelays::chainCall { id: *id }).left, came - paid);
            held += came - paid;
        }
        assert_eq!(world.balance(RELAYS), held);
        assert_eq!(world.view(RELAYS, IRelays::countCall {}), self.relays.collateral.len() as u64);
    }
}

fn words(id: B256, payee: Address, ticks: u32) -> Chain {
    prepare_chain(&[5; 32], id, payee, ticks).unwrap()
}
