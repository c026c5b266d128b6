//! Throw offers, orders and ends of leases in, by dice of their own, so that the rest of a game stays what it was.

use hodei_types::{
    abi::{
        ILeases, ILevels,
        IMarket::{self, Capacity, Order, Prices},
        LEASES, LEVELS, MARKET,
    },
    market::collateral_min,
};

use super::*;
use crate::modules::tests::{
    market::{offer, register, terms},
    world,
};

/// What was seen of all leases.
pub(super) struct Seen {
    dice: Dice,
    /// Of levels, so that the rest of a game stays what it was.
    levels: Dice,
    /// By host.
    bonds: BTreeMap<B256, U256>,
    pub(super) breaches: u32,
    pub(super) indemnity: U256,
    /// By lease: came in, paid and burned, given back.
    coin: BTreeMap<u64, [U256; 3]>,
    pub(super) ended: BTreeMap<u8, u32>,
    pub(super) waited: u32,
    /// Leases that became suspect, were shown to run, and went on elsewhere.
    pub(super) watched: [u32; 3],
    /// Leases that stood in for suspect ones; how many were paid off, and how many went on in their place.
    deputies: BTreeSet<u64>,
    pub(super) deputed: [u32; 3],
    /// Dice of what is on call, and vouchers that paid.
    calls: Dice,
    pub(super) claims: u32,
    /// What calls about held room are made by.
    holding: Dice,
    /// Reservations, and whose they are.
    reservations: Vec<(u64, Address)>,
    /// Of each order, within which it was to be placed.
    within: BTreeMap<u64, u64>,
    /// Leases that began within their owner's reservation, and in what somebody lent.
    pub(super) stood: [u32; 2],
}

impl Seen {
    pub(super) fn new(seed: u64) -> Self {
        let dice = Dice(seed.wrapping_mul(0xd134_2543_de82_ef95) | 1);
        let calls = Dice(seed.wrapping_mul(0xa076_1d64_78bd_642f) | 1);
        let holding = Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        Self {
            dice,
            levels: Dice(seed.wrapping_mul(0xd6e8_feb8_6659_fd93) | 1),
            bonds: BTreeMap::new(),
            breaches: 0,
            indemnity: U256::ZERO,
            coin: BTreeMap::new(),
            ended: BTreeMap::new(),
            waited: 0,
            watched: [0; 3],
            deputies: BTreeSet::new(),
            deputed: [0; 3],
            calls,
            claims: 0,
            holding,
            reservations: Vec::new(),
            within: BTreeMap::new(),
            stood: [0; 2],
        }
    }
}

impl Game {
    /// One random call about compute; often a wrong one.
    pub(super) fn trade(&mut self) -> (Address, Address, u128, Vec<u8>) {
        let Seen { dice, levels, coin, calls, .. } = &mut self.market;
        let from = self.people[dice.below(4) as usize].address;
        let host = &self.hosts[dice.below(3) as usize];
        let (node, operator) = (host.node, host.operator.address);
        let mut offer = offer(1 + dice.below(4));
        offer.capacity.cpuMilli = 500 + dice.below(4) * 500;
        let leases: Vec<u64> = (0..1 + dice.below(2)).map(|_| 1 + dice.below(coin.len() as u64 + 1)).collect();
        let least = collateral_min(&offer.capacity);
        match dice.below(20) {
            // Some with a little less than is needed, or a little more.
            0..=2 => (operator, MARKET, least + u128::from(dice.below(1_000_000)) - 100_000, register(host, offer)),
            3 => (operator, MARKET, 0, IMarket::updateCall { node, offer }.abi_encode()),
            4 => (from, MARKET, u128::from(dice.below(1_000_000)), IMarket::depositCall { node }.abi_encode()),
            5 if dice.below(3) == 0 => (operator, MARKET, 0, IMarket::retireCall { node }.abi_encode()),
            5 | 6 => (operator, MARKET, 0, IMarket::withdrawCall { node }.abi_encode()),
            7..=12 => {
                let class = dice.below(3) as u8;
                let mut terms = terms(1 + dice.below(3) as u8);
                (terms.class, terms.secs, terms.perHost) = (class, 60, dice.below(3) as u8);
                terms.priceMax = u128::from(1 + dice.below(4)) * 500 * 3600;
                terms.exclude.extend((dice.below(4) == 0).then_some(node));
                // One in four asks for a level.
                let availability_bp = 9_000 + levels.below(300) as u16;
                terms.availabilityMinBp = if levels.below(4) == 0 && class != 2 { availability_bp } else { 0 };
                terms.patienceMs = if class == 1 { 1 + dice.below(30_000) } else { 0 };
                if class == 0 && calls.below(3) == 0 {
                    (terms.class, terms.availabilityMinBp) = (3, 0);
                }
                let deposit = u128::from(dice.below(600_000));
                // Keeping costs a thousandth: so that it ends within the game, too.
                let deposit = if terms.class == 3 { deposit % 1500 } else { deposit };
                (from, MARKET, deposit, IMarket::orderCall { terms }.abi_encode())
            }
            13 => (from, MARKET, 0, IMarket::fillCall { id: 1 + dice.below(60) }.abi_encode()),
            14 => (from, MARKET, 0, IMarket::cancelCall { id: 1 + dice.below(60) }.abi_encode()),
            15 | 16 => (from, LEASES, 0, ILeases::touchCall { leases }.abi_encode()),
            17 => (from, LEASES, 0, ILeases::endCall { leases }.abi_encode()),
            18 => (operator, LEASES, 0, ILeases::quitCall { leases }.abi_encode()),
            _ => {
                let value = 500 * u128::from(dice.below(40));
                (from, LEASES, value, ILeases::renewCall { lease: leases[0] }.abi_encode())
            }
        }
    }

    /// A voucher for one of the last leases: often of one that is not on call, or over, or by who may not sign it.
    pub(super) fn voucher(&mut self) -> (Address, Address, u128, Vec<u8>) {
        let ids: Vec<u64> = self.market.coin.keys().rev().take(16).copied().collect();
        let leases = self.world.view(LEASES, ILeases::manyCall { leases: ids });
        let dice = &mut self.market.calls;
        let from = self.people[dice.below(4) as usize].address;
        let called: Vec<_> = leases.iter().filter(|lease| lease.callRate > 0 || dice.below(8) == 0).collect();
        let Some(lease) = called.get(dice.below(called.len().max(1) as u64) as usize) else {
            let call = ILeases::claimCall { lease: dice.below(3), total: 1, signature: Bytes::new() };
            return (from, LEASES, 0, call.abi_encode());
        };
        // The same again, less, a little more, and more than there is.
        let more = [0, 1, 1000, lease.left / 3, lease.left, u128::from(u64::MAX)][dice.below(6) as usize];
        let total = if dice.below(6) == 0 { lease.claimed / 2 } else { lease.claimed + more };
        let owner = self.people.iter().find(|person| person.address == lease.owner);
        let signer = owner.filter(|_| dice.below(6) > 0).unwrap_or(&self.people[0]);
        let signature = signer.sign(&abi::voucher_statement(CHAIN, lease.id, total));
        (from, LEASES, 0, ILeases::claimCall { lease: lease.id, total, signature }.abi_encode())
    }

    /// One random call about held room; often a wrong one.
    pub(super) fn hold(&mut self) -> (Address, Address, u128, Vec<u8>) {
        let dice = &mut self.market.holding;
        let stranger = self.people[dice.below(4) as usize].address;
        let known = &self.market.reservations;
        let newest = known.len().saturating_sub(1 + dice.below(4) as usize);
        let (order, owner) = known.get(newest).copied().unwrap_or((1, stranger));
        let from = if dice.below(8) == 0 { stranger } else { owner };
        let held = match known.is_empty() {
            true => Vec::new(),
            false => self.world.view(MARKET, IMarket::reservedCall { order }).held,
        };
        let lease = held.first().map_or(1 + dice.below(9), |held| held.lease);
        match dice.below(10) {
            0 | 1 => {
                let n = 1 + dice.below(2);
                let each = Capacity { cpuMilli: 500 * n, memoryBytes: n << 30, ..Capacity::default() };
                let replicas = 1 + dice.below(2) as u8;
                let terms = Order { each, workload: B256::ZERO, secs: 60, ..terms(replicas) };
                (stranger, MARKET, u128::from(dice.below(2_000_000)), IMarket::orderCall { terms }.abi_encode())
            }
            2..=4 => {
                let terms = Order { within: order, secs: 60, ..terms(1 + dice.below(2) as u8) };
                (from, MARKET, u128::from(dice.below(1000)), IMarket::orderCall { terms }.abi_encode())
            }
            5..=7 => {
                let prices = Prices { cpuMilli: 900 * (1 + dice.below(4)), ..Prices::default() };
                (from, MARKET, 0, IMarket::lendCall { lease, prices, preemptibleBp: 5_000 }.abi_encode())
            }
            8 => (from, MARKET, 0, IMarket::recallCall { lease }.abi_encode()),
            _ => (from, LEASES, 0, ILeases::endCall { leases: vec![lease] }.abi_encode()),
        }
    }

    /// One random call about service levels.
    pub(super) fn pledge(&mut self) -> (Address, Address, u128, Vec<u8>) {
        let Seen { levels: dice, coin, .. } = &mut self.market;
        let from = self.people[dice.below(4) as usize].address;
        let host = &self.hosts[dice.below(3) as usize];
        let (node, operator) = (host.node, host.operator.address);
        match dice.below(8) {
            0..=2 => {
                let level = ILevels::Level {
                    availabilityBp: 9_000 + dice.below(1_001) as u16,
                    startSecs: 1 + dice.below(20) as u16,
                    restoreSecs: 1 + dice.below(200) as u16,
                    payBp: 1 + dice.below(10_000) as u16,
                };
                (operator, LEVELS, dice.below(60_000).into(), ILevels::promiseCall { node, level }.abi_encode())
            }
            3 => (from, LEVELS, dice.below(20_000).into(), ILevels::bondCall { node }.abi_encode()),
            4 => {
                let amount = if dice.below(4) == 0 { U256::MAX } else { U256::from(dice.below(60_000)) };
                (operator, LEVELS, 0, ILevels::withdrawCall { node, amount }.abi_encode())
            }
            _ => {
                let last = coin.len() as u64;
                let leases = vec![last.saturating_sub(dice.below(6))];
                (operator, LEVELS, 0, ILevels::startedCall { leases }.abi_encode())
            }
        }
    }

    /// One random call about a host that is not reached, be it true or not.
    pub(super) fn watch(&mut self) -> (Address, Address, u128, Vec<u8>) {
        let from = self.people[self.market.dice.below(4) as usize].address;
        let ids: Vec<u64> = self.market.coin.keys().rev().take(64).copied().collect();
        let mut leases = self.world.view(LEASES, ILeases::manyCall { leases: ids });
        leases.retain(|lease| lease.state == 1);
        let dice = &mut self.market.dice;
        if leases.is_empty() {
            return (from, LEASES, 0, ILeases::touchCall { leases: vec![dice.below(3)] }.abi_encode());
        }
        let lease = &leases[dice.below(leases.len() as u64) as usize];
        let (id, generation) = (lease.id, lease.generation);
        let host = self.hosts.iter().find(|host| host.node == lease.node).unwrap();
        if lease.lostMs == 0 {
            let round = self.world.view(LEASES, ILeases::roundCall {}).index - dice.below(2).min(generation);
            let nodes = self.world.view(LEASES, ILeases::watchersCall { lease: id, round });
            let statement = abi::unreachable_statement(CHAIN, id, generation, round);
            let sign = |node: B256| self.hosts.iter().find(|host| host.node == node).unwrap().sign(&statement);
            let mut signatures: Vec<Bytes> = nodes.into_iter().map(sign).collect();
            if dice.below(8) == 0 {
                signatures.pop();
            }
            return (from, LEASES, 0, ILeases::unreachableCall { lease: id, round, signatures }.abi_encode());
        }
        match dice.below(80) {
            0 => {
                let signature = host.sign(&abi::alive_statement(CHAIN, id, generation));
                (from, LEASES, 0, ILeases::aliveCall { lease: id, generation, signature }.abi_encode())
            }
            1 => {
                let generation = generation - dice.below(2);
                let call = ILeases::aliveCall { lease: id, generation, signature: Bytes::new() };
                (host.operator.address, LEASES, 0, call.abi_encode())
            }
            _ => (from, LEASES, 0, ILeases::touchCall { leases: vec![id] }.abi_encode()),
        }
    }

    /// Books what the ledger did of itself in blocks since.
    pub(super) fn learn_worked(&mut self) {
        let worked = std::mem::take(&mut self.world.worked);
        self.learn_market(&worked);
        self.learn_cleared(&worked);
    }

    /// Books what a transaction did to leases.
    pub(super) fn learn_market(&mut self, logs: &[alloy_primitives::Log]) {
        let seen = &mut self.market;
        for begun in world::events::<ILeases::Begun>(logs) {
            let new = seen.coin.insert(begun.lease, [U256::from(begun.escrow), U256::ZERO, U256::ZERO]);
            assert!(new.is_none(), "a lease begins once");
        }
        for settled in world::events::<ILeases::Settled>(logs) {
            seen.coin.get_mut(&settled.lease).unwrap()[1] += settled.amount + settled.burned;
        }
        for claimed in world::events::<ILeases::Claimed>(logs) {
            seen.coin.get_mut(&claimed.lease).unwrap()[1] += claimed.amount + claimed.burned;
            seen.claims += 1;
        }
        for renewed in world::events::<ILeases::Renewed>(logs) {
            seen.coin.get_mut(&renewed.lease).unwrap()[0] += renewed.amount;
        }
        for watched in world::events::<ILeases::Watched>(logs) {
            seen.coin.get_mut(&watched.lease).unwrap()[1] += watched.amount;
        }
        for deputed in world::events::<ILeases::Deputed>(logs) {
            seen.coin.get_mut(&deputed.lease).unwrap()[2] += deputed.escrow;
            assert_eq!(seen.coin[&deputed.deputy][0], deputed.escrow);
            seen.deputies.insert(deputed.deputy);
            seen.deputed[0] += 1;
        }
        for dismissed in world::events::<ILeases::Dismissed>(logs) {
            seen.coin.get_mut(&dismissed.deputy).unwrap()[2] += dismissed.rest;
            seen.coin.get_mut(&dismissed.lease).unwrap()[0] += dismissed.rest;
            seen.deputed[1] += 1;
        }
        for replaced in world::events::<ILeases::Replaced>(logs) {
            seen.coin.get_mut(&replaced.lease).unwrap()[2] += replaced.escrow;
            if seen.deputies.contains(&replaced.next) {
                seen.coin.get_mut(&replaced.next).unwrap()[0] += replaced.escrow;
                seen.deputed[2] += 1;
            } else {
                assert_eq!(seen.coin[&replaced.next][0], replaced.escrow);
            }
            seen.watched[2] += 1;
        }
        seen.watched[0] += world::events::<ILeases::Suspected>(logs).len() as u32;
        seen.watched[1] += world::events::<ILeases::Refuted>(logs).len() as u32;
        for ended in world::events::<ILeases::Ended>(logs) {
            seen.coin.get_mut(&ended.lease).unwrap()[2] += ended.refund;
            *seen.ended.entry(ended.by).or_default() += 1;
        }
        for ordered in world::events::<IMarket::Ordered>(logs) {
            seen.within.insert(ordered.order, ordered.terms.within);
            if ordered.terms.workload.is_zero() {
                seen.reservations.push((ordered.order, ordered.owner));
            }
        }
        for one in world::events::<ILevels::Promised>(logs) {
            seen.bonds.insert(one.node, one.bond);
        }
        for one in world::events::<ILevels::Bonded>(logs) {
            seen.bonds.insert(one.node, one.bond);
        }
        for one in world::events::<ILevels::Unbonded>(logs) {
            seen.bonds.insert(one.node, one.bond);
        }
        for one in world::events::<ILevels::Breached>(logs) {
            *seen.bonds.get_mut(&one.node).unwrap() -= one.amount;
            seen.breaches += 1;
            seen.indemnity += one.amount;
        }
        seen.waited += world::events::<IMarket::Ordered>(logs).iter().filter(|one| one.state == 1).count() as u32;
    }

    /// Bonds are there to the wei, and hold what their leases bind.
    fn check_levels(&self) {
        let world = &self.world;
        assert_eq!(world.balance(LEVELS), self.market.bonds.values().copied().sum::<U256>());
        let ids: Vec<u64> = self.market.coin.keys().copied().collect();
        let all = |leases: &[u64]| world.view(LEVELS, ILevels::ofCall { leases: leases.to_vec() });
        let mut bound = BTreeMap::<B256, U256>::new();
        for held in ids.chunks(64).flat_map(all) {
            *bound.entry(held.node).or_default() += held.bound;
        }
        let nodes: Vec<B256> = self.hosts.iter().map(|host| host.node).collect();
        for promise in world.view(LEVELS, ILevels::levelsCall { nodes }) {
            let bound = bound.get(&promise.node).copied().unwrap_or_default();
            let bond = self.market.bonds.get(&promise.node).copied().unwrap_or_default();
            assert!(bound <= bond, "a bond backs more than it is");
            // Who left the market has its bond still.
            assert!(promise.operator.is_zero() || (promise.bond, promise.bound) == (bond, bound));
        }
    }

    /// Collateral, deposits and escrow are there to the wei; no lease paid more than it had; rooms and lists agree.
    pub(super) fn check_market(&mut self) {
        self.learn_worked();
        self.check_levels();
        let world = &self.world;
        let mut escrow = U256::ZERO;
        let ids: Vec<u64> = self.market.coin.keys().copied().collect();
        let all = |leases: &[u64]| world.view(LEASES, ILeases::manyCall { leases: leases.to_vec() });
        let mut leases: Vec<_> = ids.chunks(64).flat_map(all).collect();
        for lease in &leases {
            let [came, paid, back] = self.market.coin[&lease.id];
            assert_eq!(U256::from(lease.left) + paid + back, came, "lease {}", lease.id);
            assert!(lease.owed <= lease.left);
            escrow += U256::from(lease.left);
        }
        let orders: BTreeMap<u64, u64> = leases.iter().map(|lease| (lease.id, lease.order)).collect();
        let own = leases.iter().filter(|lease| lease.via > 0);
        let within = |lease: &&ILeases::Lease| {
            let within = self.market.within[&lease.order];
            assert!(within == 0 || within == orders[&lease.via], "it stands where it was ordered to");
            within > 0
        };
        let (inside, lent): (Vec<_>, Vec<_>) = own.partition(within);
        let stood = [inside.len() as u32, lent.len() as u32];
        leases.retain(|lease| lease.state == 1);
        let holding: BTreeMap<u64, u64> =
            leases.iter().filter(|lease| lease.workload.is_zero()).map(|lease| (lease.id, lease.untilMs)).collect();
        // What stands in a held lease takes its room, and of its host a place in the list alone; so does what is on call.
        let (mut used, mut stands) = (BTreeMap::<B256, (u64, u64)>::new(), BTreeMap::<u64, (u64, u64)>::new());
        for lease in &leases {
            let used = used.entry(lease.node).or_default();
            used.0 += 1;
            match holding.get(&lease.via) {
                Some(until_ms) => {
                    assert!(lease.untilMs <= *until_ms, "it is paid for beyond what it stands in");
                    let stands = stands.entry(lease.via).or_default();
                    *stands = (stands.0 + 1, stands.1 + lease.capacity.cpuMilli);
                }
                None if lease.callRate > 0 => {}
                None => used.1 += lease.capacity.cpuMilli,
            }
        }
        let mut listed_lent = 0;
        let reservations: BTreeSet<u64> = holding.keys().map(|lease| orders[lease]).collect();
        for order in &reservations {
            for held in world.view(MARKET, IMarket::reservedCall { order: *order }).held {
                let (count, cpu) = stands.remove(&held.lease).unwrap_or_default();
                assert_eq!((held.leases, held.capacity.cpuMilli - held.free.cpuMilli), (count, cpu));
                assert!(holding.contains_key(&held.lease));
                listed_lent += u64::from(held.lent && held.free.cpuMilli >= 10);
            }
        }
        assert!(stands.is_empty(), "a lease in nothing held");
        assert_eq!(world.balance(LEASES), escrow);
        assert_eq!(world.view(LEASES, ILeases::countCall {}), self.market.coin.len() as u64);
        let mut held = U256::ZERO;
        let mut open = listed_lent;
        for host in world.view(MARKET, IMarket::pageCall { first: 0, most: 64 }) {
            held += host.collateral;
            let (leases, cpu) = used.remove(&host.node).unwrap_or_default();
            assert_eq!((host.leases, host.offer.capacity.cpuMilli - host.free.cpuMilli), (leases, cpu));
            let listed = world.view(LEASES, ILeases::ofHostCall { node: host.node, first: 0, most: 64 });
            assert_eq!(listed.len() as u64, leases.min(64));
            let is_short = host.collateral < host.collateralMin;
            open += u64::from(!host.retired && !is_short && host.free.cpuMilli >= 10);
        }
        assert!(used.is_empty(), "a lease without its host");
        let depth = world.view(MARKET, IMarket::depthCall { region: 16, runtime: 0 });
        assert_eq!(depth.iter().map(|step| step.offers).sum::<u64>(), open);
        for person in &self.people {
            let owner = person.address;
            for id in world.view(MARKET, IMarket::ofOwnerCall { owner, first: 0, most: 64 }) {
                let placed = world.view(MARKET, IMarket::placedCall { id });
                assert!(placed.owner == owner && (placed.state == 1 || placed.state == 2));
                held += U256::from(placed.deposit);
                let replicas = if placed.state == 2 { placed.order.replicas } else { 0 };
                let mut leases = world.view(LEASES, ILeases::manyCall { leases: placed.leases });
                let deputies = leases.split_off(usize::from(replicas));
                assert!((0..).zip(&leases).all(|(replica, lease)| (lease.order, lease.replica) == (id, replica)));
                for deputy in &deputies {
                    let principal = &leases[usize::from(deputy.replica)];
                    assert!(self.market.deputies.contains(&deputy.id) && deputy.order == id);
                    assert!(deputy.state == 2 || deputy.deputyOf == principal.id && principal.lostMs > 0);
                }
                leases.extend(deputies);
                assert_eq!(leases.is_empty(), leases.iter().all(|lease| lease.state == 2), "it is over");
            }
        }
        assert_eq!(world.balance(MARKET), held);
        self.market.stood = stood;
    }
}
