//! Let hosts watch each other over a wire that fails, and one execution engine make the ledger's blocks.

use alloy_primitives::{Address, B256, Bytes};
use alloy_sol_types::{SolCall, SolEvent};
use hodei_ledger::execute::Applied;
use hodei_node::host::misses::{Duty, EVERY_MS, Misses};
use hodei_sim::world::{CHAIN, COIN, World};
use hodei_types::{
    abi::{ILeases, IMarket, LEASES, MARKET, alive_statement, operator_consent, pack_addresses, unreachable_statement},
    ack::Signer,
    market::{Capacity, Offer, Order, Prices, WATCHERS_NEEDED, collateral_min, region, region_mask},
    transport::NodeKey,
};
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use std::collections::BTreeMap;

const GIB: u64 = 1 << 30;
const RUNNING: u8 = 1;
const OWNER: Address = Address::repeat_byte(0xaa);
/// Two hosts each.
const OPERATORS: usize = 5;
/// The clock of all this goes in steps of so much.
const TICK_MS: u64 = 50;
/// No answer until then is a miss, as hosts have it.
const ANSWER_MS: u64 = 3_000;
/// Without anything to do blocks are so far apart; with something they come within this, at random.
const IDLE_MS: u64 = 2_500;
const BLOCK_MS: u64 = 1_200;
/// Between two looks at others at least.
const REST_MS: u64 = 100;
/// Hosts look at their own leases so often.
const FOLLOW_MS: u64 = 1_000;
/// A program that is started anew is away for so long.
const RESTART_MS: u64 = 4_000;

/// What happens to a host of the app.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    Gone,
    /// It runs on, reaches nobody, and does not hear the ledger.
    Cut,
    /// All hosts of its operator are gone.
    Operator,
    /// No other host reaches it; it hears the ledger.
    Aside,
    Restart,
    /// One of its watchers is cut off instead.
    BlindWatcher,
}

struct Host {
    node: NodeKey,
    operator: Address,
    signer: Signer,
    misses: Misses,
    /// When its next look begins, or the one under way ends, with who answered.
    at_ms: u64,
    begun_ms: u64,
    asked: Option<Vec<(NodeKey, bool)>>,
    heard_ms: u64,
    /// Of leases it showed itself for, the generation.
    shown: BTreeMap<u64, u64>,
    down_until_ms: u64,
    is_cut: bool,
    is_deaf: bool,
}

impl Host {
    fn is_up(&self, now_ms: u64) -> bool {
        now_ms >= self.down_until_ms
    }
}

/// Ten hosts, a ledger, and one app whose owner is away.
pub(crate) struct Cloud {
    world: World,
    dice: StdRng,
    hosts: Vec<Host>,
    now_ms: u64,
    block_ms: u64,
    /// Calls on their way into a block, and when that comes.
    pending: Vec<(Address, Vec<u8>)>,
    due_ms: Option<u64>,
    order: u64,
    replicas: usize,
    hurt_ms: u64,
    events: Vec<Applied>,
}

impl Cloud {
    /// Hosts that offer, an app of one to three replicas with operators of their own, and watchers that are drawn.
    pub(crate) fn new(seed: u64) -> Self {
        let mut dice = StdRng::seed_from_u64(seed);
        let operators: Vec<Address> = (0..OPERATORS as u8).map(|at| Address::repeat_byte(0x20 + at)).collect();
        let rich: Vec<Address> = operators.iter().copied().chain([OWNER]).collect();
        let mut world = World::new(&rich, seed);
        let mut hosts = Vec::new();
        for at in 0..2 * OPERATORS {
            let (signer, operator) = (Signer::new(&[1 + at as u8; 32]), operators[at / 2]);
            let (node, offer) = (signer.node(), offer(&mut dice));
            let possession = signer.sign(&operator_consent(CHAIN, operator, node.0.into())).to_vec().into();
            let value = collateral_min(&offer.capacity) + COIN;
            let call = IMarket::registerCall { node: node.0.into(), offer, possession };
            world.must(operator, MARKET, value, call.abi_encode());
            hosts.push(Host {
                node,
                operator,
                signer,
                misses: Misses::new(node),
                at_ms: 0,
                begun_ms: 0,
                asked: None,
                heard_ms: 0,
                shown: BTreeMap::new(),
                down_until_ms: 0,
                is_cut: false,
                is_deaf: false,
            });
        }
        let replicas = dice.random_range(1..=3);
        let order = order(replicas);
        let value = order.priceMax * u128::from(order.secs) * u128::from(replicas) / 3600;
        let ordered = world.must(OWNER, MARKET, value, IMarket::orderCall { terms: order }.abi_encode());
        let order = events::<IMarket::Filled>(&ordered)[0].order;
        let now_ms = world.time_ms();
        let mut cloud = Self {
            world,
            dice,
            hosts,
            now_ms,
            block_ms: now_ms,
            pending: Vec::new(),
            due_ms: None,
            order,
            replicas: usize::from(replicas),
            hurt_ms: 0,
            events: Vec::new(),
        };
        for host in &mut cloud.hosts {
            host.at_ms = now_ms + cloud.dice.random_range(0..EVERY_MS);
        }
        // The app began in a round that has no watchers for it.
        while !cloud.is_watched() {
            cloud.pass(1_000);
        }
        let calm_ms = cloud.dice.random_range(5_000..30_000);
        cloud.pass(calm_ms);
        cloud.judge_untouched();
        cloud
    }

    pub(crate) fn replicas(&self) -> usize {
        self.replicas
    }

    /// Each of the app's leases has as many hosts that look for it as are needed.
    fn is_watched(&mut self) -> bool {
        let leases = self.leases();
        let watch = |lease: &ILeases::Lease| {
            let duty = |host: &&Host| host.misses.hosts().contains_key(&NodeKey(lease.node.0));
            self.hosts.iter().filter(duty).count() >= WATCHERS_NEEDED
        };
        leases.iter().all(watch)
    }

    /// The app's leases that run.
    fn leases(&mut self) -> Vec<ILeases::Lease> {
        let placed = self.world.view(MARKET, IMarket::placedCall { id: self.order });
        let mut leases = self.world.view(LEASES, ILeases::manyCall { leases: placed.leases });
        leases.retain(|lease| lease.state == RUNNING);
        leases
    }

    fn host(&self, node: B256) -> usize {
        self.hosts.iter().position(|host| host.node.0 == node.0).expect("a registered host")
    }

    /// Hurts a host of the app; which replicas it ran.
    pub(crate) fn hurt(&mut self, fault: Fault) -> Vec<u8> {
        let leases = self.leases();
        let lease = &leases[self.dice.random_range(0..leases.len())];
        let at = self.host(lease.node);
        self.hurt_ms = self.now_ms;
        let mut hurt = vec![at];
        match fault {
            Fault::Gone => self.hosts[at].down_until_ms = u64::MAX,
            Fault::Cut => (self.hosts[at].is_cut, self.hosts[at].is_deaf) = (true, true),
            Fault::Operator => {
                hurt =
                    (0..self.hosts.len()).filter(|one| self.hosts[*one].operator == self.hosts[at].operator).collect();
                hurt.iter().for_each(|one| self.hosts[*one].down_until_ms = u64::MAX);
            }
            Fault::Aside => self.hosts[at].is_cut = true,
            Fault::Restart => self.hosts[at].down_until_ms = self.now_ms + RESTART_MS,
            Fault::BlindWatcher => {
                let node = NodeKey(lease.node.0);
                // One that runs nothing of the app: else what it runs is lost to the others, and rightly.
                let runs = |host: &Host| leases.iter().any(|lease| lease.node.0 == host.node.0);
                let watches = |host: &Host| host.misses.hosts().contains_key(&node) && !runs(host);
                if let Some(watcher) = self.hosts.iter_mut().find(|host| watches(host)) {
                    (watcher.is_cut, watcher.is_deaf) = (true, true);
                }
            }
        }
        let nodes: Vec<B256> = hurt.iter().map(|one| self.hosts[*one].node.0.into()).collect();
        leases.iter().filter(|lease| nodes.contains(&lease.node)).map(|lease| lease.replica).collect()
    }

    /// Waits until each of these replicas has a lease with a host that is there; how long it took each.
    pub(crate) fn until_deputies(&mut self, replicas: &[u8], most_ms: u64) -> Vec<u64> {
        let mut waiting = replicas.to_vec();
        let mut took = Vec::new();
        while !waiting.is_empty() {
            let since_ms = self.now_ms - self.hurt_ms;
            assert!(since_ms <= most_ms, "after {since_ms} ms nobody runs replicas {waiting:?}");
            self.pass(TICK_MS);
            let leases = self.leases();
            let now_ms = self.now_ms;
            waiting.retain(|replica| {
                let of_it = |lease: &&ILeases::Lease| lease.replica == *replica;
                let runs = leases.iter().filter(of_it).any(|lease| {
                    let host = self.hosts.iter().find(|host| host.node.0 == lease.node.0).expect("a registered host");
                    host.is_up(now_ms) && !host.is_cut
                });
                if runs {
                    took.push(now_ms - self.hurt_ms);
                }
                !runs
            });
        }
        took
    }

    /// Lets time go by.
    pub(crate) fn pass(&mut self, ms: u64) {
        let until_ms = self.now_ms + ms;
        while self.now_ms < until_ms {
            self.now_ms += TICK_MS;
            for at in 0..self.hosts.len() {
                self.live(at);
            }
            self.chain();
        }
    }

    /// A block, if it is time for one.
    fn chain(&mut self) {
        let idle_ms = self.block_ms + IDLE_MS;
        if self.due_ms.unwrap_or(idle_ms) > self.now_ms {
            return;
        }
        let mut txs = Vec::new();
        for (from, call) in std::mem::take(&mut self.pending) {
            txs.push(self.world.tx(from, LEASES, 0, call));
        }
        let elapsed_ms = self.now_ms - self.block_ms;
        (self.due_ms, self.block_ms) = (None, self.now_ms);
        let done = self.world.block(elapsed_ms, &txs);
        self.events.extend(done.into_iter().filter(|applied| applied.success));
        self.judge_heads();
    }

    fn submit(&mut self, from: Address, call: Vec<u8>) {
        self.pending.push((from, call));
        let wait_ms = self.dice.random_range(200..BLOCK_MS);
        self.due_ms.get_or_insert(self.now_ms + wait_ms);
    }

    fn reaches(&self, from: usize, to: usize) -> bool {
        let (one, other) = (&self.hosts[from], &self.hosts[to]);
        one.is_up(self.now_ms) && other.is_up(self.now_ms) && !one.is_cut && !other.is_cut
    }

    /// What a host's program does now: its look at others, and at its own leases.
    fn live(&mut self, at: usize) {
        let now_ms = self.now_ms;
        if !self.hosts[at].is_up(now_ms) {
            // It forgets what it saw, and begins with a look.
            let me = self.hosts[at].node;
            self.hosts[at].misses = Misses::new(me);
            (self.hosts[at].asked, self.hosts[at].at_ms) = (None, now_ms + TICK_MS);
            return;
        }
        if !self.hosts[at].is_deaf {
            self.hosts[at].heard_ms = now_ms;
            if (now_ms / TICK_MS).is_multiple_of(FOLLOW_MS / TICK_MS) {
                self.show(at);
            }
        }
        if now_ms < self.hosts[at].at_ms {
            return;
        }
        match self.hosts[at].asked.take() {
            None => self.ask(at),
            Some(asked) => {
                self.judge(at, &asked);
                self.hosts[at].at_ms = (self.hosts[at].begun_ms + EVERY_MS).max(now_ms + REST_MS);
            }
        }
    }

    /// Takes up a round's duties, and asks whom they name; the answers are there after the slowest.
    fn ask(&mut self, at: usize) {
        let (now_ms, me) = (self.now_ms, self.hosts[at].node);
        self.hosts[at].begun_ms = now_ms;
        if !self.hosts[at].is_deaf {
            let round = self.world.view(LEASES, ILeases::roundCall {}).index;
            if round != self.hosts[at].misses.round() {
                let leases = self.leases();
                let ids: Vec<u64> = leases.iter().map(|lease| lease.id).collect();
                let drawn = self.world.view(LEASES, ILeases::watchersOfCall { leases: ids, round });
                // Until they are drawn the round before goes on.
                if drawn.iter().any(|nodes| !nodes.is_empty()) {
                    let nodes = |nodes: &Vec<B256>| nodes.iter().map(|node| NodeKey(node.0)).collect::<Vec<_>>();
                    let duties = leases.iter().zip(&drawn).map(|(lease, drawn)| Duty::new(lease, nodes(drawn)));
                    let mine = duties.filter(|duty| duty.watchers.contains(&me)).collect();
                    self.hosts[at].misses.begin(now_ms, round, mine);
                }
            }
        }
        let (mut asked, mut wait_ms) = (Vec::new(), TICK_MS);
        for node in self.hosts[at].misses.hosts().into_keys() {
            let is_heard = self.reaches(at, self.host(node.0.into()));
            wait_ms = wait_ms.max(if is_heard { self.dice.random_range(1..400) } else { ANSWER_MS });
            asked.push((node, is_heard));
        }
        (self.hosts[at].asked, self.hosts[at].at_ms) = (Some(asked), now_ms + wait_ms);
    }

    /// Says what it makes of the answers.
    fn judge(&mut self, at: usize, asked: &[(NodeKey, bool)]) {
        let now_ms = self.now_ms;
        let is_ledger_heard = now_ms - self.hosts[at].heard_ms < 15_000;
        self.hosts[at].misses.heard(now_ms, asked, is_ledger_heard);
        if self.hosts[at].is_deaf {
            return;
        }
        let open = self.hosts[at].misses.open(now_ms);
        for lease in self.world.view(LEASES, ILeases::manyCall { leases: open }) {
            self.hosts[at].misses.learn(now_ms, &lease);
        }
        let ledger_ms = self.world.time_ms();
        for duty in self.hosts[at].misses.due(now_ms, ledger_ms) {
            self.accuse(at, &duty);
        }
        for lease in self.hosts[at].misses.lost(now_ms, ledger_ms) {
            self.hosts[at].misses.sent(now_ms, lease);
            self.submit(self.hosts[at].operator, ILeases::touchCall { leases: vec![lease] }.abi_encode());
        }
    }

    fn accuse(&mut self, at: usize, duty: &Duty) {
        let (now_ms, round, me) = (self.now_ms, self.hosts[at].misses.round(), self.hosts[at].node);
        let message = unreachable_statement(CHAIN, duty.lease, duty.generation, round);
        let mut signatures: Vec<Bytes> = Vec::new();
        for watcher in &duty.watchers {
            let other = self.host(watcher.0.into());
            let says = *watcher == me
                || self.reaches(at, other) && {
                    let asked = (duty.lease, duty.generation, round);
                    self.hosts[other].misses.concur(now_ms, &me, asked).is_ok()
                };
            let sign = || self.hosts[other].signer.sign(&message).to_vec().into();
            signatures.push(if says { sign() } else { Bytes::new() });
        }
        if signatures.iter().filter(|signature| !signature.is_empty()).count() < WATCHERS_NEEDED {
            return;
        }
        self.hosts[at].misses.accuse(now_ms, duty.lease);
        self.hosts[at].misses.sent(now_ms, duty.lease);
        let call = ILeases::unreachableCall { lease: duty.lease, round, signatures };
        self.submit(self.hosts[at].operator, call.abi_encode());
    }

    /// Shows a host for each of its leases that is suspect, once for each time.
    fn show(&mut self, at: usize) {
        let (node, ledger_ms) = (B256::from(self.hosts[at].node.0), self.world.time_ms());
        for lease in self.leases().into_iter().filter(|lease| lease.node == node && lease.lostMs > ledger_ms) {
            let generation = lease.generation;
            if self.hosts[at].shown.insert(lease.id, generation) == Some(generation) {
                continue;
            }
            let statement = alive_statement(CHAIN, lease.id, generation);
            let signature = self.hosts[at].signer.sign(&statement).to_vec().into();
            let call = ILeases::aliveCall { lease: lease.id, generation, signature };
            self.submit(self.hosts[at].operator, call.abi_encode());
        }
    }

    /// No replica has two leases that are no deputies, nor two deputies.
    fn judge_heads(&mut self) {
        let mut heads = BTreeMap::<(u8, bool), u32>::new();
        for lease in self.leases() {
            *heads.entry((lease.replica, lease.deputyOf > 0)).or_default() += 1;
        }
        assert!(heads.values().all(|count| *count == 1), "heads and deputies of replicas: {heads:?}");
    }

    /// Nothing was ever said about anybody.
    pub(crate) fn judge_untouched(&mut self) {
        let leases = self.leases();
        assert_eq!(leases.len(), self.replicas);
        assert!(leases.iter().all(|lease| lease.generation == 0 && lease.lostMs == 0), "{leases:?}");
        self.world.audit();
    }

    /// Each replica runs once, on hosts that are there; these were replaced once each, if it is said which.
    pub(crate) fn judge_replaced(&mut self, replicas: Option<&[u8]>) {
        let leases = self.leases();
        assert_eq!(leases.len(), self.replicas, "{leases:?}");
        let replaced: usize = self.events.iter().map(|applied| events::<ILeases::Replaced>(applied).len()).sum();
        assert!(
            replicas.is_none_or(|replicas| replaced == replicas.len()),
            "each is replaced once, and {replaced} were"
        );
        for lease in &leases {
            let host = &self.hosts[self.host(lease.node)];
            assert!(host.is_up(self.now_ms) && !host.is_cut && lease.lostMs == 0, "{lease:?}");
        }
        self.world.audit();
    }

    /// How many deputies ended since their hosts showed themselves, and how many leases run.
    pub(crate) fn judge_returned(&mut self) -> (usize, usize) {
        let deputed: usize = self.events.iter().map(|applied| events::<ILeases::Deputed>(applied).len()).sum();
        let dismissed: usize = self.events.iter().map(|applied| events::<ILeases::Dismissed>(applied).len()).sum();
        let replaced = self.events.iter().any(|applied| !events::<ILeases::Replaced>(applied).is_empty());
        assert!(deputed == dismissed && !replaced, "{deputed} began and {dismissed} ended");
        self.world.audit();
        (dismissed, self.leases().len())
    }
}

fn events<E: SolEvent>(applied: &Applied) -> Vec<E> {
    applied.logs.iter().filter_map(|log| E::decode_log_data(&log.data).ok()).collect()
}

/// Two CPUs at some price.
fn offer(dice: &mut StdRng) -> Offer {
    Offer {
        capacity: Capacity::of_dims([2000, 8 * GIB, 100 * GIB, 1_000_000_000, GIB]),
        prices: Prices { cpuMilli: 3600 * dice.random_range(1..5), ..Prices::default() },
        curve: Vec::new(),
        preemptibleBp: 5_000,
        region: region("eu-west").expect("a region of the list"),
        country: [b'E', b'S'].into(),
        runtime: 1,
        tier: 0,
        attestation: 0,
        renewable: 0,
        network: "as64500".into(),
        zone: "a".into(),
        hardware: String::new(),
        addresses: pack_addresses(&["127.0.0.1:4000".parse().expect("an address")]),
    }
}

/// Replicas of half a CPU with an operator each, for an hour.
fn order(replicas: u8) -> Order {
    Order {
        each: Capacity { cpuMilli: 500, memoryBytes: GIB, ..Capacity::default() },
        replicas,
        regions: region_mask(["eu-west"]).expect("a region of the list"),
        country: Default::default(),
        runtime: 1,
        tierMin: 0,
        attestationMin: 0,
        renewableMin: 0,
        priceMax: 10_000 * 3600,
        perHost: 1,
        perOperator: 1,
        perNetwork: 0,
        class: 0,
        secs: 3600,
        patienceMs: 0,
        workload: B256::repeat_byte(7),
        collateralMin: 0,
        availabilityMinBp: 0,
        within: 0,
        exclude: Vec::new(),
    }
}
