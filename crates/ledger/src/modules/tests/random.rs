//! Throw seeded random transactions at the ledger; nothing may be made, lost or decided differently.

mod custody;
mod market;
mod relays;
mod tabs;

use alloy_primitives::{Address, B256, Bytes, TxKind, U256};
use alloy_sol_types::SolCall;
use hodei_types::abi::{
    self, ANCHORS, BUCKETS, BUDGETS, DEALS, IAnchors, IBuckets, IBudgets, IDeals, ILeases, ILevels, IMarket,
    IProviders, IRelays, ITabs, LEASES, LEVELS, MARKET, MODULES, PROVIDERS, RELAYS, TABS,
};
use std::collections::{BTreeMap, BTreeSet};

use super::world::{CHAIN, COIN, Host, Person, World};
use crate::execute::{Account, Executor, Fault, decode_slot};

/// xorshift64*: the same numbers for the same seed, everywhere.
struct Dice(u64);

impl Dice {
    fn roll(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    fn below(&mut self, n: u64) -> u64 {
        (self.roll() >> 33) % n
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len() as u64) as usize]
    }

    fn bytes(&mut self, len: u64) -> Vec<u8> {
        (0..len).map(|_| self.roll() as u8).collect()
    }
}

struct Game {
    world: World,
    dice: Dice,
    people: Vec<Person>,
    hosts: Vec<Host>,
    buckets: Vec<B256>,
    deals: Vec<(u64, usize, usize)>,
    /// Whether the first host answers each challenge; what else is done to it is as random as to the others.
    honest: bool,
    /// Which hosts do not answer at the moment.
    asleep: [bool; 3],
    /// The last term and version of each bucket that was seen.
    seen: BTreeMap<B256, (u64, u64)>,
    /// By bucket and leaf: until when it must be listed.
    kept: BTreeMap<(B256, B256), u64>,
    tabs: tabs::Seen,
    market: market::Seen,
    relays: relays::Seen,
    wages: custody::Wages,
    /// Buckets whose custodians may end deals with who retired.
    allowed: BTreeSet<B256>,
    retired: BTreeSet<B256>,
    /// Deals that custodians ended, as such.
    released: usize,
}

impl Game {
    fn new(seed: u64) -> Self {
        let people: Vec<_> = (1..=6).map(Person::new).collect();
        let rich: Vec<_> = people[..4].iter().map(|person| person.address).collect();
        let mut hosts: Vec<_> = (0..3).map(|n| Host::new(n + 1, people[usize::from(n)])).collect();
        let mut world = World::new(&rich);
        hosts.iter().for_each(|host| world.register(host));
        // Three owners have something with each host from the start.
        let (mut buckets, mut deals) = (Vec::new(), Vec::new());
        for (n, owner) in people[..3].iter().enumerate() {
            let (bucket, ids) = world.deals(owner, 50 + n as u8, &hosts.iter().collect::<Vec<_>>(), 5 * COIN);
            buckets.push(bucket);
            deals.extend(ids.into_iter().enumerate().map(|(host, id)| (id, host, n)));
        }
        let owned: Vec<_> = people.iter().map(|owner| owner.address).zip(buckets.iter().copied()).collect();
        let wages = custody::Wages::begin(&mut world, &owned, people[3].address);
        // With these as many blocks as a window has: what follows begins where in its window it always did.
        world.idle(1);
        let posts = deals.iter().map(|(id, host, owner)| hosts[*host].add(*id, 8, &people[*owner])).collect();
        world.must(people[0].address, DEALS, 0, IDeals::postCall { posts }.abi_encode());
        Self {
            world,
            dice: Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1),
            people,
            hosts,
            buckets,
            deals,
            honest: false,
            asleep: [false; 3],
            seen: BTreeMap::new(),
            kept: BTreeMap::new(),
            tabs: tabs::Seen::default(),
            market: market::Seen::new(seed),
            relays: relays::Seen::new(seed),
            wages,
            allowed: BTreeSet::new(),
            retired: BTreeSet::new(),
            released: 0,
        }
    }

    fn deal_ids(&mut self) -> Vec<u64> {
        let n = 1 + self.dice.below(3);
        (0..n)
            .map(|_| {
                if self.deals.is_empty() { 1 } else { self.deals[self.dice.below(self.deals.len() as u64) as usize].0 }
            })
            .collect()
    }

    /// One random call: who, what, with how much; often a wrong one.
    fn call(&mut self) -> (Address, Address, u128, Vec<u8>) {
        let who = self.dice.below(4) as usize;
        let from = self.people[who].address;
        let host = self.dice.below(3) as usize;
        let node = self.hosts[host].node;
        let other = self.dice.pick(&self.people);
        let amount = u128::from(self.dice.below(1000)) * COIN / 100;
        let stray = if self.dice.below(20) == 0 { 3 } else { 0 };
        match self.dice.below(36) {
            0 => (from, other.address, amount, Vec::new()),
            1 => (self.hosts[host].operator.address, PROVIDERS, amount, self.hosts[host].register()),
            2 => (from, PROVIDERS, amount, IProviders::depositCall { node }.abi_encode()),
            3 if self.dice.below(6) == 0 => {
                (self.hosts[host].operator.address, PROVIDERS, stray, IProviders::retireCall { node }.abi_encode())
            }
            3 => (self.hosts[host].operator.address, PROVIDERS, stray, IProviders::withdrawCall { node }.abi_encode()),
            4 => {
                let salt = B256::repeat_byte(self.dice.below(3) as u8);
                self.buckets.push(abi::bucket_id(from, salt));
                let shape = IBuckets::Shape {
                    k: 3,
                    n: 6,
                    t: 1,
                    operators: 0,
                    networks: 0,
                    zones: 0,
                    shardBytes: 4096,
                    codeId: 1,
                };
                (from, BUCKETS, stray, IBuckets::createCall { salt, shape, blocks: 20 }.abi_encode())
            }
            5..=6 if !self.buckets.is_empty() => {
                let bucket = self.dice.pick(&self.buckets);
                let escrow = amount / 3;
                let terms = vec![IDeals::Terms { provider: node, capacityBytes: 1 << 20, priceMax: COIN, escrow }];
                (from, DEALS, escrow + stray, IDeals::openCall { bucket, terms }.abi_encode())
            }
            7..=9 if !self.deals.is_empty() => {
                let (deal, host, owner) = self.dice.pick(&self.deals);
                let leaves = 4 * (1 + self.dice.below(8)) as usize;
                let owner = self.people[owner];
                let post = self.hosts[host].add(deal, leaves, &owner);
                (owner.address, DEALS, stray, IDeals::postCall { posts: vec![post] }.abi_encode())
            }
            10 => (from, DEALS, stray, IDeals::touchCall { deals: self.deal_ids() }.abi_encode()),
            11 => (from, DEALS, amount, IDeals::topUpCall { deal: self.deal_ids()[0] }.abi_encode()),
            12 => (from, DEALS, stray, IDeals::closeCall { deals: self.deal_ids() }.abi_encode()),
            13 => {
                let spender = self.people[4 + self.dice.below(2) as usize];
                let consent = spender.sign(&abi::spender_consent(CHAIN, from, spender.address));
                (from, BUDGETS, amount, IBudgets::registerCall { spender: spender.address, consent }.abi_encode())
            }
            14 => {
                let spender = self.people[4 + self.dice.below(2) as usize].address;
                let amount = if self.dice.below(2) == 0 { U256::MAX } else { U256::from(amount) };
                (from, BUDGETS, stray, IBudgets::reclaimCall { spender, amount }.abi_encode())
            }
            15 => {
                let spender = self.people[4 + self.dice.below(2) as usize].address;
                (from, BUDGETS, stray, IBudgets::releaseCall { spender }.abi_encode())
            }
            16 => {
                let len = self.dice.below(40);
                (from, ANCHORS, stray, IAnchors::anchorCall { leaf: self.dice.bytes(len).into() }.abi_encode())
            }
            17..=19 if !self.buckets.is_empty() => {
                let id = self.dice.pick(&self.buckets);
                let (term, root) = (1 + self.dice.below(3), |n: u64| B256::from(U256::from(n)));
                let (expected, root) = (root(self.dice.below(3)), root(self.dice.below(3)));
                let call = match self.dice.below(8) {
                    0 => IBuckets::removeCall { id }.abi_encode(),
                    1..=3 => IBuckets::claimCall { id, blocks: 1 + self.dice.below(20) }.abi_encode(),
                    _ => IBuckets::commitCall { id, term, expected, root, sizeBytes: 1 }.abi_encode(),
                };
                (from, BUCKETS, stray, call)
            }
            20 => {
                let resize = |deal, capacity| IDeals::Resize { deal, capacityBytes: capacity, priceMax: COIN };
                let capacity = self.dice.pick(&[0, 1 << 10, 1 << 14, 1 << 20, 1 << 24, 1 << 40]);
                let deals = self.deal_ids().into_iter().map(|deal| resize(deal, capacity)).collect();
                (from, DEALS, stray, IDeals::resizeCall { deals }.abi_encode())
            }
            21 if !self.buckets.is_empty() => {
                let (id, term) = (self.dice.pick(&self.buckets), 1 + self.dice.below(3));
                let (k, n) = (self.dice.below(4) as u8, 1 + self.dice.below(7) as u8);
                let shape = IBuckets::Shape {
                    k,
                    n,
                    t: 1,
                    operators: self.dice.below(8) as u8,
                    networks: 0,
                    zones: 0,
                    shardBytes: 4096,
                    codeId: 1,
                };
                (from, BUCKETS, stray, IBuckets::reshapeCall { id, term, shape }.abi_encode())
            }
            22..=24 if !self.buckets.is_empty() => {
                let id = self.dice.pick(&self.buckets);
                let bucket = self.bucket(id);
                // Mostly its holder, in its term.
                let holder = bucket.as_ref().filter(|_| self.dice.below(4) > 0).map(|now| (now.holder, now.term));
                let (from, term) = holder.unwrap_or((from, 1 + self.dice.below(3)));
                let leaf = B256::from(U256::from(1 + self.dice.below(4)));
                if self.dice.below(4) == 0 {
                    return (from, BUCKETS, stray, IBuckets::lapseCall { id, leaves: vec![leaf] }.abi_encode());
                }
                let until_ms = self.world.env.time_ms + self.dice.below(20_000);
                let kept = vec![IBuckets::Kept { leaf, untilMs: until_ms, number: 0 }];
                let expected = bucket.map_or(B256::ZERO, |now| now.root);
                let root = B256::from(U256::from(self.dice.below(3)));
                let call = IBuckets::commitKeptCall { id, term, expected, root, sizeBytes: 1, kept };
                (from, BUCKETS, stray, call.abi_encode())
            }
            25..=30 => self.custody(from, node, amount),
            31..=34 => self.reading(from, stray),
            _ => {
                let len = self.dice.below(200);
                (from, self.dice.pick(&MODULES), stray, self.dice.bytes(len))
            }
        }
    }

    /// A contract around the call: forwards calldata (minus the last byte) to the module it was made for, and
    /// reverts if the last byte is odd.
    fn nested(to: Address) -> Vec<u8> {
        let mut code = vec![0x36, 0x5f, 0x5f, 0x37]; // calldatacopy(0, 0, size)
        code.extend([0x5f, 0x5f, 0x60, 0x01, 0x36, 0x03, 0x5f, 0x34, 0x73]); // 0 0 size-1 0 callvalue
        code.extend_from_slice(to.as_slice());
        code.extend([0x5a, 0xf1, 0x50]); // call, pop
        code.extend([0x60, 0x20, 0x36, 0x03, 0x51, 0x60, 0x01, 0x16]); // mload(size - 32) & 1
        code.extend([0x60, 0, 0x57, 0x00]); // jumpi(revert) else stop
        let target = code.len() as u8;
        let at = code.len() - 3;
        code[at] = target;
        code.extend([0x5b, 0x5f, 0x5f, 0xfd]);
        let mut init = vec![0x60, code.len() as u8, 0x80, 0x60, 0x0b, 0x5f, 0x39, 0x5f, 0xf3, 0, 0];
        init.extend(code);
        init
    }

    fn play(&mut self, blocks: u64) {
        let mut relays = Vec::new();
        // Seven blocks, so that what follows begins where in its window it always did.
        let (first, rest) = MODULES.split_at(6);
        for modules in first.chunks(1).chain([rest]) {
            let from = self.people[0].address;
            let make = |to: &Address| self.world.tx(from, TxKind::Create, U256::ZERO, Self::nested(*to));
            let txs: Vec<_> = modules.iter().map(make).collect();
            let made = self.world.block_after(1000, &txs).into_iter().map(|done| done.unwrap().contract.unwrap());
            relays.extend(modules.iter().copied().zip(made));
        }
        for block in 0..blocks {
            let mut txs = Vec::new();
            for _ in 0..self.dice.below(4) {
                let (from, mut to, value, mut data) = self.call();
                let relay = relays.iter().find(|(module, _)| *module == to);
                if let Some((_, relay)) = relay.filter(|_| self.dice.below(5) == 0) {
                    to = *relay;
                    data.push(self.dice.below(2) as u8);
                }
                txs.push(self.world.tx(from, TxKind::Call(to), U256::from(value), data));
            }
            for call in [Self::trade, Self::trade, Self::watch, Self::voucher, Self::hold, Self::pledge, Self::relay] {
                let (from, to, value, data) = call(self);
                txs.push(self.world.tx(from, TxKind::Call(to), U256::from(value), data));
            }
            // Now and then a hiccup, a halt, or a chain that catches up in long steps.
            let elapsed = match self.dice.below(300) {
                0 => 100_000,
                1 => 15_000,
                2..=5 => 5_000,
                _ => self.dice.below(2000),
            };
            for (from, data) in self.releases(block) {
                txs.push(self.world.tx(from, TxKind::Call(DEALS), U256::ZERO, data));
            }
            let results = self.world.block_after(elapsed, &txs);
            self.learn_worked();
            for (tx, done) in txs.iter().zip(results) {
                match done {
                    Ok(applied) => {
                        self.learn(tx.sender, &applied);
                        self.learn_ends(tx, &applied);
                    }
                    Err(Fault::Invalid(_)) => self.world.forget_nonce(tx.sender),
                    Err(fault) => panic!("{fault}"),
                }
            }
            // Hosts fall asleep for some windows, and wake again.
            let host = self.dice.below(3) as usize;
            self.asleep[host] ^= self.dice.below(20) == 0;
            for host in 0..3 {
                if !self.asleep[host] || (self.honest && host == 0) {
                    self.answer(host);
                }
            }
            self.world.audit();
            if block % 5 == 0 {
                self.check();
            }
        }
    }

    /// Keeps what the test's own hosts must know in step with what was accepted.
    fn learn(&mut self, sender: Address, applied: &crate::execute::Applied) {
        for opened in super::world::events::<IDeals::Opened>(&applied.logs) {
            let host = self.hosts.iter().position(|host| host.node == opened.provider).unwrap();
            if let Some(owner) = self.people.iter().position(|person| person.address == opened.owner) {
                self.deals.push((opened.deal, host, owner));
            }
        }
        for kept in super::world::events::<IBuckets::LeafKept>(&applied.logs) {
            self.kept.insert((kept.id, kept.leaf), kept.untilMs);
        }
        self.learn_tabs(&applied.logs);
        self.learn_market(&applied.logs);
        self.learn_relays(&applied.logs);
        self.learn_wages(sender, &applied.logs);
        // What was refused was not agreed: forget shards the ledger does not know.
        for (deal, host, _) in &self.deals {
            let sequence = self.world.view(DEALS, IDeals::getCall { deal: *deal }).sequence as usize;
            if let Some(shards) = self.hosts[*host].shards.get_mut(deal) {
                shards.truncate(sequence);
            }
        }
    }

    /// A host answers its challenge, if one is open.
    fn answer(&mut self, host: usize) {
        let host = &self.hosts[host];
        let challenge = self.world.view(DEALS, IDeals::challengeCall { provider: host.node });
        if !challenge.open {
            return;
        }
        let proof = Bytes::from(host.prove(&challenge.samples));
        let call = IDeals::proveCall { provider: host.node, window: challenge.window, proof }.abi_encode();
        let (from, node) = (host.operator.address, host.node);
        let before = self.world.standing(node).proven;
        let applied = self.world.send(from, DEALS, 0, call);
        let over = self.world.window() != challenge.window;
        // An answer sent in a window's last block finds the next one open.
        assert!(applied.success || over, "an honest proof was refused: {}", applied.output);
        assert!(over || self.world.standing(node).proven == before + 1);
    }

    /// What modules owe they have, and their indices agree with their records.
    fn check(&mut self) {
        let world = &self.world;
        let mut collateral = U256::ZERO;
        let count = world.view(PROVIDERS, IProviders::countCall {});
        for provider in world.view(PROVIDERS, IProviders::pageCall { first: 0, most: 64 }) {
            collateral += provider.collateral;
            let ids = world.view(DEALS, IDeals::ofProviderCall { provider: provider.node, first: 0, most: 64 });
            assert_eq!(ids.len() as u64, provider.deals);
            let deals = world.view(DEALS, IDeals::manyCall { deals: ids });
            assert!(deals.iter().all(|deal| deal.state == 1 || deal.state == 2));
            assert_eq!(deals.iter().map(|deal| deal.pledgedBytes).sum::<u64>(), provider.usedBytes);
            assert!(deals.iter().all(|deal| deal.pledgedBytes >= deal.capacityBytes));
            let leaves: u64 = deals.iter().map(|deal| deal.leaves).sum();
            assert_eq!(leaves, world.standing(provider.node).totalLeaves);
        }
        assert!(count <= 3);
        assert_eq!(world.balance(PROVIDERS), collateral);
        let mut owed = U256::ZERO;
        for (deal, ..) in &self.deals {
            owed += U256::from(world.view(DEALS, IDeals::getCall { deal: *deal }).escrow);
        }
        let mut buckets = self.buckets.clone();
        buckets.sort();
        buckets.dedup();
        for bucket in buckets {
            owed += world.view(DEALS, IDeals::reserveCall { bucket });
        }
        assert!(world.balance(DEALS) >= owed);
        // To the wei: escrows, and what was kept of slashings or given, be it in a reserve yet or not.
        let escrows: U256 = self.deals.iter().map(|(deal, ..)| U256::from(self.deal(*deal).escrow)).sum();
        assert_eq!(world.balance(DEALS), escrows + world.reserved);
        for person in &self.people {
            let owner = world.view(BUDGETS, IBudgets::ownerOfCall { spender: person.address });
            let above = world.view(BUDGETS, IBudgets::ownerOfCall { spender: owner });
            assert!(above.is_zero(), "owners are nobody's budget");
        }
        self.check_buckets();
        self.check_kept();
        self.check_custody();
        self.check_tabs();
        self.check_market();
        self.check_relays();
    }

    fn deal(&self, id: u64) -> IDeals::Deal {
        self.world.view(DEALS, IDeals::getCall { deal: id })
    }

    /// The bucket as it is, if there is one.
    fn bucket(&self, id: B256) -> Option<IBuckets::Bucket> {
        let call = crate::execute::Call {
            to: Some(BUCKETS),
            data: IBuckets::getCall { id }.abi_encode().into(),
            ..Default::default()
        };
        let outcome = self.world.simulate(&call);
        IBuckets::getCall::abi_decode_returns(&outcome.output).ok()
    }

    /// What is kept is listed for as long, and its bucket is there.
    fn check_kept(&self) {
        let now_ms = self.world.env.time_ms / 1000 * 1000;
        for ((id, leaf), until_ms) in self.kept.iter().filter(|(_, until_ms)| **until_ms > now_ms) {
            let listed = self.world.view(BUCKETS, IBuckets::keptCall { id: *id, first: 0, most: 64 });
            assert!(listed.iter().any(|one| one.leaf == *leaf && one.untilMs >= *until_ms), "{leaf} of {id}");
            let bucket = self.world.view(BUCKETS, IBuckets::getCall { id: *id });
            assert!(!bucket.root.is_zero() && bucket.keptUntilMs >= *until_ms);
        }
    }

    /// Terms only grow, versions within them, and a bucket counts its deals.
    fn check_buckets(&mut self) {
        for person in &self.people {
            let owner = person.address;
            for i in 0..self.world.view(BUCKETS, IBuckets::countCall { owner }) {
                let id = self.world.view(BUCKETS, IBuckets::atCall { owner, i });
                let bucket = self.world.view(BUCKETS, IBuckets::getCall { id });
                let deals = self.world.view(DEALS, IDeals::ofBucketCall { bucket: id });
                assert_eq!((bucket.owner, bucket.deals), (owner, deals.len() as u64));
                let (term, version) = self.seen.insert(id, (bucket.term, bucket.version)).unwrap_or_default();
                assert!((bucket.term, bucket.version) >= (term, version));
                let IBuckets::Shape { k, n, operators, .. } = bucket.shape;
                assert!(1 <= k && k < n && operators <= n);
            }
        }
    }
}

#[test]
fn no_coin_is_made_or_lost_and_the_same_seed_writes_the_same() {
    let (mut proven, mut kept) = (0, 0);
    let (mut slashed, mut drawn) = (U256::ZERO, 0);
    let (mut claims, mut refunds, mut wages, mut released) = (0, 0, 0, 0);
    let (mut breaches, mut indemnity) = (0, U256::ZERO);
    let (mut ended, mut waited, mut watched, mut called) = (BTreeMap::<u8, u32>::new(), 0, [0; 3], 0);
    let (mut stood, mut deputed) = ([0; 2], [0; 3]);
    let (mut ticked, mut returned, mut prices) = (0, 0, BTreeSet::new());
    for seed in 1..=12 {
        let run = |seed| {
            let mut game = Game::new(seed);
            game.play(200);
            game.check();
            game
        };
        let game = run(seed);
        kept += game.kept.len();
        (claims, refunds) = (claims + game.tabs.claims, refunds + game.tabs.refunds);
        drawn += u32::from(!game.world.drawn.is_zero());
        wages += game.wages.count;
        released += game.released;
        (ticked, returned) = (ticked + game.relays.claims, returned + game.relays.refunds);
        prices.extend(game.relays.prices.iter().copied());
        game.market.ended.iter().for_each(|(by, count)| *ended.entry(*by).or_default() += count);
        waited += game.market.waited;
        called += game.market.claims;
        watched.iter_mut().zip(game.market.watched).for_each(|(all, some)| *all += some);
        deputed.iter_mut().zip(game.market.deputed).for_each(|(all, some)| *all += some);
        stood.iter_mut().zip(game.market.stood).for_each(|(all, some)| *all += some);
        (breaches, indemnity) = (breaches + game.market.breaches, indemnity + game.market.indemnity);
        for host in &game.hosts {
            let standing = game.world.standing(host.node);
            proven += standing.proven;
            slashed += standing.slashed;
        }
        if seed <= 3 {
            assert_eq!(game.world.fingerprint, run(seed).world.fingerprint);
        }
    }
    assert!(kept > 20, "only {kept} leaves");
    assert!((1..=4).all(|by| ended.get(&by).is_some_and(|count| *count > 2)), "leases ended by {ended:?}");
    // What goes on elsewhere is told, not asked for: in most games the other hosts are full, or dear.
    assert!(watched[..2].iter().all(|count| *count > 2), "suspect, refuted, replaced: {watched:?}");
    // As rare, and for the same reason; what becomes of them is played in the simulator.
    assert!(deputed[0] > 0, "deputies that began, ended, and went on: {deputed:?}");
    assert!(stood.iter().all(|count| *count > 0), "leases in what is held, and in what is lent: {stood:?}");
    assert!(breaches > 2 && !indemnity.is_zero(), "{breaches} breaches paid {indemnity}");
    assert!(waited > 5, "only {waited} orders waited");
    assert!(called > 5, "only {called} vouchers paid");
    assert!(claims > 20 && refunds > 5, "only {claims} claims and {refunds} tabs paid back");
    assert!(drawn > 2, "a reserve was drawn upon in {drawn} games only");
    assert!(wages > 5, "only {wages} wages paid");
    assert!(ticked > 20 && returned > 5, "only {ticked} claims of ticks, and {returned} chains given back");
    assert!(prices.len() > 3, "epochs cost only {prices:?}");
    assert!(released > 0, "custodians ended no deal with who retired");
    // A test that never reaches pay and slashing would show nothing.
    assert!(proven > 20, "only {proven} proofs");
    assert!(!slashed.is_zero());
}

#[test]
fn a_provider_that_answers_is_never_slashed_whatever_the_others_do() {
    let (mut proven, mut slashed) = (0, U256::ZERO);
    for seed in 100..108 {
        let mut game = Game::new(seed);
        game.honest = true;
        game.play(200);
        let standing = game.world.standing(game.hosts[0].node);
        assert_eq!((standing.misses, standing.slashed), (0, U256::ZERO), "seed {seed}");
        proven += standing.proven;
        slashed += game.hosts[1..].iter().map(|host| game.world.standing(host.node).slashed).sum::<U256>();
    }
    assert!(proven > 40, "only {proven} proofs");
    assert!(!slashed.is_zero(), "the others were to be slashed");
}

#[test]
fn preloading_changes_nothing() {
    // The same block executed on an empty view and on one that holds everything writes the same.
    let mut game = Game::new(77);
    game.play(40);
    let from = game.people[0].address;
    let tx = game.world.tx(from, TxKind::Call(BUCKETS), U256::ZERO, {
        let shape =
            IBuckets::Shape { k: 3, n: 6, t: 1, operators: 0, networks: 0, zones: 0, shardBytes: 4096, codeId: 1 };
        IBuckets::createCall { salt: B256::repeat_byte(99), shape, blocks: 20 }.abi_encode()
    });
    let run = |again: bool| {
        let mut executor = Executor::new(game.world.params, game.world.env, Default::default());
        super::world::drive(&game.world, &mut executor, |executor| executor.simulate(&Default::default())).unwrap();
        let mut warm = executor.clone();
        let first = super::world::drive(&game.world, &mut executor, |executor| executor.apply(&tx)).unwrap();
        if !again {
            return (first, executor.finish().writes);
        }
        for need in crate::execute::hints(&tx, game.world.env.beneficiary) {
            assert!(!matches!(need, crate::execute::Need::Code(_)));
        }
        *warm.view() = executor.view().clone();
        let second = warm.apply(&tx).expect("everything is loaded");
        (second, warm.finish().writes)
    };
    assert_eq!(run(false), run(true));
}

#[test]
fn decoders_survive_anything() {
    let mut dice = Dice(5);
    for _ in 0..20_000 {
        let len = dice.below(100);
        let bytes = dice.bytes(len);
        if let Some(account) = Account::decode(&bytes) {
            assert_eq!(account.encode(), bytes);
        }
        if let Some(value) = decode_slot(&bytes) {
            assert_eq!(crate::execute::encode_slot(value).unwrap_or_default(), bytes);
        }
    }
    // Every function of every module with a random tail: an answer or a typed error, never a broken block.
    let mut world = World::new(&[Person::new(1).address]);
    let selectors: Vec<(Address, [u8; 4])> = [
        (BUDGETS, IBudgets::IBudgetsCalls::SELECTORS),
        (PROVIDERS, IProviders::IProvidersCalls::SELECTORS),
        (BUCKETS, IBuckets::IBucketsCalls::SELECTORS),
        (DEALS, IDeals::IDealsCalls::SELECTORS),
        (ANCHORS, IAnchors::IAnchorsCalls::SELECTORS),
        (TABS, ITabs::ITabsCalls::SELECTORS),
        (MARKET, IMarket::IMarketCalls::SELECTORS),
        (LEASES, ILeases::ILeasesCalls::SELECTORS),
        (LEVELS, ILevels::ILevelsCalls::SELECTORS),
        (RELAYS, IRelays::IRelaysCalls::SELECTORS),
    ]
    .into_iter()
    .flat_map(|(to, all)| all.iter().map(move |selector| (to, *selector)))
    .collect();
    for (to, selector) in selectors {
        for _ in 0..40 {
            let words = dice.below(12);
            let mut data = selector.to_vec();
            for _ in 0..words {
                // Small words look like offsets and lengths: they lead deeper into the decoder.
                let mut word = if dice.below(2) == 0 { vec![0; 32] } else { dice.bytes(32) };
                if word[0] == 0 {
                    word[31] = (dice.below(8) * 32) as u8;
                }
                data.extend(word);
            }
            let tx = world.tx(Person::new(1).address, TxKind::Call(to), U256::ZERO, data);
            if let Err(fault) = world.block_after(10, &[tx]).remove(0) {
                panic!("{fault}");
            }
        }
    }
    world.audit();
}
