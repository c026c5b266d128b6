//! Live a day of orders that budgets pay for, and account for every wei by events alone.
//!
//! One execution engine makes the blocks here, each three seconds after the last, as consensus would add nothing to
//! what is counted. Users open a budget in the first minutes and reclaim it in the last; between them their own
//! accounts send nothing.

use alloy_primitives::{Address, B256, Bytes, U256};
use alloy_sol_types::{SolCall, SolEvent};
use hodei_ledger::execute::Applied;
use hodei_sim::world::{CHAIN, COIN, World};
use hodei_types::{
    abi::{BUDGETS, IBudgets, ILeases, IMarket, IQueue, LEASES, MARKET, QUEUE, alive_statement, unreachable_statement},
    market::{BP, FEE_BP, SUSPECT_MS, collateral_min},
};
use rand::{SeedableRng as _, rngs::StdRng};
use std::collections::BTreeMap;

use crate::{
    cast::{Host, deposit, die, offer, order},
    payer::{STEP_MS, events, gas, open_budget, pass},
};

const USERS: u8 = 4;
const OPERATORS: u8 = 6;
const DAY_MS: u64 = 24 * 3600 * 1000;
/// Wei of a budget: less than some of them would spend in a day, so that calls are refused at the cap too.
const CAP: u128 = COIN * 3 / 4;

/// What an account had, and what came and went since, by events and by what it signed.
#[derive(Default)]
struct Purse {
    had: U256,
    came: U256,
    went: U256,
}

/// What streams and waiting orders took in and gave, in wei.
#[derive(Debug, Default)]
struct Sums {
    /// Sent with orders and renewals that were taken.
    sent: U256,
    earned: U256,
    burned: U256,
    watched: U256,
    /// Beyond whole seconds, out of cancelled orders, and out of leases that ended.
    change: U256,
    cancelled: U256,
    refunded: U256,
    /// Collateral: put in, taken out, burned of what was slashed, and given to owners.
    pledged: U256,
    withdrawn: U256,
    slashed: U256,
    compensated: U256,
    gas: U256,
}

/// A day, and its books.
struct Day {
    world: World,
    dice: StdRng,
    hosts: Vec<Host>,
    users: Vec<Address>,
    budgets: Vec<Address>,
    purses: BTreeMap<Address, Purse>,
    /// Owners of leases.
    owners: BTreeMap<u64, Address>,
    sums: Sums,
    refused: u32,
    reverted: u32,
    lost: u32,
}

pub(crate) fn live(seed: u64) {
    let mut day = Day::begin(seed);
    let (starts_ms, mut hour) = (day.world.time_ms(), 0);
    let asleep: Vec<U256> = day.users.iter().map(|user| day.purses[user].went).collect();
    while day.world.time_ms() < starts_ms + DAY_MS {
        let wait_ms = STEP_MS * (1 + die(&mut day.dice, 60));
        pass(&mut day.world, wait_ms);
        day.act();
        let now = (day.world.time_ms() - starts_ms) / 3_600_000;
        if now > hour {
            hour = now;
            day.touch_all();
            day.check();
        }
    }
    let spent: Vec<U256> = day.users.iter().map(|user| day.purses[user].went).collect();
    assert_eq!(asleep, spent, "nothing was sent by those who sleep");
    day.end();
}

impl Day {
    /// Registers hosts, and opens everybody's budget.
    fn begin(seed: u64) -> Self {
        let users: Vec<Address> = (0..USERS).map(|user| Address::repeat_byte(0x10 + user)).collect();
        let operators: Vec<Address> = (0..OPERATORS).map(|operator| Address::repeat_byte(0x20 + operator)).collect();
        let rich: Vec<Address> = users.iter().chain(&operators).copied().collect();
        let hosts = (0..2 * OPERATORS).map(|at| Host::new(1 + at, operators[usize::from(at / 2)])).collect();
        let world = World::new(&rich, seed);
        let purse = |address: &Address| (*address, Purse { had: world.balance(*address), ..Purse::default() });
        let mut day = Self {
            purses: rich.iter().map(purse).collect(),
            dice: StdRng::seed_from_u64(seed),
            world,
            hosts,
            users: users.clone(),
            budgets: Vec::new(),
            owners: BTreeMap::new(),
            sums: Sums::default(),
            refused: 0,
            reverted: 0,
            lost: 0,
        };
        for at in 0..day.hosts.len() {
            let mut offer = offer(&mut day.dice);
            // Dear enough that a budget comes to its end.
            offer.prices.cpuMilli = offer.prices.cpuMilli.saturating_mul(1 << 31);
            offer.prices.memoryMib = 0;
            let value = collateral_min(&offer.capacity) + COIN;
            let call = day.hosts[at].register(CHAIN, offer);
            assert!(day.send(day.hosts[at].operator, MARKET, value, call), "a host registers");
        }
        for (user, secret) in users.into_iter().zip(0x50..) {
            let (budget, call) = open_budget(user, secret);
            day.purses.insert(budget, Purse::default());
            day.budgets.push(budget);
            assert!(day.send(user, BUDGETS, CAP, call), "a budget is opened");
        }
        day
    }

    /// One random call about compute; often a wrong one.
    fn act(&mut self) {
        let at = die(&mut self.dice, u64::from(USERS)) as usize;
        let budget = self.budgets[at];
        let host = die(&mut self.dice, self.hosts.len() as u64) as usize;
        let (node, operator) = (self.hosts[host].node, self.hosts[host].operator);
        let running = self.world.view(LEASES, ILeases::ofHostCall { node, first: 0, most: 64 });
        let lease = running.get(die(&mut self.dice, running.len() as u64) as usize).copied();
        // Else any that there ever was, or none.
        let lease = lease.unwrap_or(1 + die(&mut self.dice, self.owners.len() as u64 + 1));
        match die(&mut self.dice, 20) {
            0..=7 => {
                let secs = 60 + die(&mut self.dice, 7_200);
                let mut terms = order(&mut self.dice, secs, &[]);
                terms.runtime = 0;
                terms.priceMax <<= 31;
                let value = deposit(&terms) * u128::from(1 + die(&mut self.dice, 4)) / 2;
                self.send(budget, MARKET, value, IMarket::orderCall { terms }.abi_encode());
            }
            what @ (8 | 9) => {
                let call = IMarket::ofOwnerCall { owner: self.users[at], first: 0, most: 64 };
                let orders = self.world.view(MARKET, call);
                let id = orders.get(die(&mut self.dice, orders.len() as u64) as usize).copied().unwrap_or(lease);
                let fill = IMarket::fillCall { id }.abi_encode();
                let call = if what == 8 { fill } else { IMarket::cancelCall { id }.abi_encode() };
                self.send(budget, MARKET, 0, call);
            }
            10 | 11 => _ = self.send(budget, LEASES, 0, ILeases::endCall { leases: vec![lease] }.abi_encode()),
            12 => _ = self.send(operator, LEASES, 0, ILeases::quitCall { leases: vec![lease] }.abi_encode()),
            13 | 14 => {
                let known = self.owners.contains_key(&lease);
                let rate = if known { self.world.view(LEASES, ILeases::getCall { lease }).rate } else { 1 };
                let secs = u128::from(60 + die(&mut self.dice, 3_600));
                self.send(budget, LEASES, rate * secs, ILeases::renewCall { lease }.abi_encode());
            }
            15 => self.watch(host),
            _ => _ = self.send(operator, LEASES, 0, ILeases::touchCall { leases: vec![lease] }.abi_encode()),
        }
    }

    /// A host is said to be gone; every other time it shows itself, else what ran there goes on elsewhere.
    fn watch(&mut self, host: usize) {
        let (node, operator) = (self.hosts[host].node, self.hosts[host].operator);
        let call = ILeases::ofHostCall { node, first: 0, most: 1 };
        let Some(id) = self.world.view(LEASES, call).first().copied() else { return };
        let lease = self.world.view(LEASES, ILeases::getCall { lease: id });
        let round = self.world.view(LEASES, ILeases::roundCall {}).index;
        let watchers = self.world.view(LEASES, ILeases::watchersCall { lease: id, round });
        let statement = unreachable_statement(CHAIN, id, lease.generation, round);
        let sign = |node: &B256| -> Bytes {
            let host = self.hosts.iter().find(|host| host.node == *node).expect("a registered host");
            host.sign(&statement)
        };
        let signatures: Vec<Bytes> = watchers.iter().map(sign).collect();
        let call = ILeases::unreachableCall { lease: id, round, signatures }.abi_encode();
        if !self.send(operator, LEASES, 0, call) {
            return;
        }
        if die(&mut self.dice, 2) == 0 {
            let generation = lease.generation + 1;
            let signature = self.hosts[host].sign(&alive_statement(CHAIN, id, generation));
            let call = ILeases::aliveCall { lease: id, generation, signature };
            assert!(self.send(operator, LEASES, 0, call.abi_encode()), "a host shows itself in time");
        } else {
            pass(&mut self.world, SUSPECT_MS);
            let call = ILeases::touchCall { leases: vec![id] }.abi_encode();
            assert!(self.send(operator, LEASES, 0, call), "a lost lease is ended");
            self.lost += 1;
        }
    }

    /// Hosts are paid for all that runs with them, by the hour.
    fn touch_all(&mut self) {
        for at in 0..self.hosts.len() {
            let (node, operator) = (self.hosts[at].node, self.hosts[at].operator);
            let leases = self.world.view(LEASES, ILeases::ofHostCall { node, first: 0, most: 64 });
            if !leases.is_empty() {
                assert!(self.send(operator, LEASES, 0, ILeases::touchCall { leases }.abi_encode()), "a host is paid");
            }
        }
    }

    /// Sends a call and books what it did; false if it reverted, or its sender could not pay for it.
    fn send(&mut self, from: Address, to: Address, value: u128, data: Vec<u8>) -> bool {
        let fills = data.starts_with(&IMarket::fillCall::SELECTOR);
        let Ok(applied) = self.world.attempt(from, to, value, data) else {
            self.refused += 1;
            return false;
        };
        let cost = gas(&applied);
        self.sums.gas += cost;
        self.purse(from).went += cost;
        if !applied.success {
            self.reverted += 1;
            return false;
        }
        self.learn_worked();
        let value = U256::from(value);
        self.purse(from).went += value;
        if events::<IMarket::Offered>(&applied).is_empty() && to != BUDGETS {
            self.sums.sent += value;
        } else if to == MARKET {
            self.sums.pledged += value;
        }
        self.learn(&applied, from, fills);
        true
    }

    fn purse(&mut self, address: Address) -> &mut Purse {
        self.purses.get_mut(&address).expect("everybody who sends is known")
    }

    fn learn(&mut self, applied: &Applied, sender: Address, fills: bool) {
        for begun in events::<ILeases::Begun>(applied) {
            self.owners.insert(begun.lease, begun.owner);
        }
        self.each::<IBudgets::Funded>(applied, |day, one| day.purse(one.spender).came += one.amount);
        self.each::<IBudgets::Reclaimed>(applied, |day, one| {
            day.purse(one.spender).went += one.amount;
            day.purse(one.owner).came += one.amount;
        });
        self.each::<IMarket::Filled>(applied, |day, one| {
            // What waited was paid for once: its change goes to its owner, not to who had it filled.
            day.purse(if fills { one.owner } else { sender }).came += one.change;
            day.sums.change += one.change;
        });
        self.each::<IMarket::Cancelled>(applied, |day, one| {
            day.purse(one.owner).came += one.refund;
            day.sums.cancelled += one.refund;
        });
        self.each::<ILeases::Settled>(applied, |day, one| {
            let paid = one.amount + one.burned;
            let part = (paid * U256::from(FEE_BP)).div_ceil(U256::from(BP));
            assert_eq!(one.burned, part, "a hundredth is burned, rounded up: {one:?}");
            day.purse(one.operator).came += one.amount;
            day.sums.earned += one.amount;
            day.sums.burned += one.burned;
        });
        self.each::<ILeases::Watched>(applied, |day, one| {
            day.purse(one.operator).came += one.amount;
            day.sums.watched += one.amount;
        });
        self.each::<ILeases::Ended>(applied, |day, one| {
            day.purse(one.owner).came += one.refund;
            day.sums.refunded += one.refund;
        });
        self.each::<IMarket::Slashed>(applied, |day, one| {
            let (owner, half) = (day.owners[&one.lease], one.amount - one.burned);
            day.purse(owner).came += half;
            day.sums.slashed += one.burned;
            day.sums.compensated += half;
        });
        self.each::<IMarket::Withdrawn>(applied, |day, one| {
            day.purse(sender).came += one.amount;
            day.sums.withdrawn += one.amount;
        });
    }

    /// Books what the ledger did of itself: orders that waited are filled, or given back.
    fn learn_worked(&mut self) {
        for applied in self.world.take_worked() {
            self.learn(&applied, Address::ZERO, true);
        }
    }

    fn each<E: SolEvent>(&mut self, applied: &Applied, mut book: impl FnMut(&mut Self, E)) {
        events::<E>(applied).into_iter().for_each(|event| book(self, event));
    }

    /// Each balance is what events say, and what is in escrow is what came in less what went out.
    fn check(&mut self) {
        self.learn_worked();
        for (address, purse) in &self.purses {
            assert_eq!(self.world.balance(*address), purse.had + purse.came - purse.went, "coin of {address}");
        }
        for budget in &self.budgets {
            // Whatever came back to it was change of what it had sent.
            assert!(self.purses[budget].went <= self.purses[budget].came, "a budget spends what it was given");
        }
        let sums = &self.sums;
        let out = sums.earned + sums.burned + sums.watched + sums.change + sums.cancelled + sums.refunded;
        let pledged = sums.pledged - sums.withdrawn - sums.slashed - sums.compensated;
        let held = self.world.balance(LEASES) + self.world.balance(MARKET);
        assert_eq!(held + out, sums.sent + pledged, "{sums:?}");
        let burned = self.world.view(QUEUE, IQueue::burnedCall {});
        assert_eq!(burned, self.sums.burned + self.sums.slashed);
        self.world.audit();
    }

    /// Everything ends, the budgets go back, and the day is told to the wei.
    fn end(mut self) {
        self.touch_all();
        for at in 0..self.users.len() {
            let (user, budget) = (self.users[at], self.budgets[at]);
            self.end_all(user);
            let call = IBudgets::releaseCall { spender: budget };
            assert!(self.send(user, BUDGETS, 0, call.abi_encode()), "a budget comes back");
            assert_eq!(self.world.balance(budget), U256::ZERO);
        }
        self.check();
        assert_eq!(self.world.balance(LEASES), U256::ZERO, "nothing is left in escrow");
        let sums = &self.sums;
        let back = sums.change + sums.cancelled + sums.refunded;
        assert_eq!(sums.sent, sums.earned + sums.burned + sums.watched + back, "what was sent went somewhere");
        let (refused, reverted, lost) = (self.refused, self.reverted, self.lost);
        println!("{} leases, {lost} lost; {reverted} calls reverted, {refused} unpaid; {sums:?}", self.owners.len());
        let happened = [sums.earned, sums.burned, sums.watched, sums.change, sums.refunded, sums.slashed];
        assert!(happened.iter().all(|sum| !sum.is_zero()), "something never happened: {sums:?}");
        assert!(refused > 0 && reverted > 0, "nobody came to a cap");
    }

    /// An owner cancels what waits and ends what runs.
    fn end_all(&mut self, owner: Address) {
        loop {
            let orders = self.world.view(MARKET, IMarket::ofOwnerCall { owner, first: 0, most: 64 });
            if orders.is_empty() {
                return;
            }
            for id in orders {
                let placed = self.world.view(MARKET, IMarket::placedCall { id });
                let mut leases = self.world.view(LEASES, ILeases::manyCall { leases: placed.leases });
                leases.retain(|lease| lease.state == 1);
                let leases = leases.iter().map(|lease| lease.id).collect();
                let (to, call) = match placed.state {
                    1 => (MARKET, IMarket::cancelCall { id }.abi_encode()),
                    _ => (LEASES, ILeases::endCall { leases }.abi_encode()),
                };
                assert!(self.send(owner, to, 0, call), "an owner ends order {id}");
            }
        }
    }
}
