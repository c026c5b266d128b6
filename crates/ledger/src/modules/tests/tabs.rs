//! Pay for reads by ticks: who gets how much, once, and who gets the rest.

use alloy_primitives::{Address, B256, U256};
use alloy_sol_types::{SolCall, SolError, SolEvent as _};
use hodei_types::{
    abi::{self, BUDGETS, IBudgets, IModule, IProviders, ITabs, PROVIDERS, TABS},
    tab::{Chain, GWEI, Leaf, Tick, Tree, tab_id},
};

use super::world::{CHAIN, COIN, Host, Person, WINDOW_MS, World, events, params};
use crate::execute::{Applied, Call, Params};

const SALT: B256 = B256::repeat_byte(9);
const BUCKET: B256 = B256::repeat_byte(8);
/// Of the leaves: provider, ticks, and wei a tick, which are no whole gwei.
const LEAVES: [(usize, u32, u128); 4] =
    [(0, 100, 3 * GWEI + 1), (0, 10, GWEI), (1, 50, COIN / 1000), (2, 4096, GWEI / 2)];

/// One payer, two providers and one node that is none, and a tab over them.
struct Reading {
    world: World,
    payer: Person,
    stranger: Person,
    hosts: [Host; 3],
    id: B256,
    tree: Tree,
    chains: Vec<Chain>,
}

/// A tab's tree for `hosts`, and the chains behind it.
pub(super) fn tree(id: B256, seed: u8, leaves: &[(B256, u32, u128)]) -> (Tree, Vec<Chain>) {
    let chains: Vec<_> = leaves
        .iter()
        .enumerate()
        .map(|(number, (node, ticks, _))| Chain::prepare(&[seed; 32], id, *node, number as u32, *ticks).unwrap())
        .collect();
    let leaf = |((node, ticks, price), chain): (&(B256, u32, u128), &Chain)| Leaf {
        provider: *node,
        anchor: chain.anchor(),
        ticks: *ticks,
        price: *price,
    };
    (Tree::build(leaves.iter().zip(&chains).map(leaf).collect()).unwrap(), chains)
}

impl Reading {
    fn new() -> Self {
        let [payer, stranger, one, two, three] = [1, 2, 3, 4, 5].map(Person::new);
        let world = World::new(&[payer.address, stranger.address, one.address, two.address]);
        Self::with(world, payer, stranger, [Host::new(1, one), Host::new(2, two), Host::new(3, three)])
    }

    fn with(mut world: World, payer: Person, stranger: Person, hosts: [Host; 3]) -> Self {
        hosts[..2].iter().for_each(|host| world.register(host));
        let id = tab_id(CHAIN, payer.address, SALT);
        let leaves = LEAVES.map(|(host, ticks, price)| (hosts[host].node, ticks, price));
        let (tree, chains) = tree(id, 7, &leaves);
        Self { world, payer, stranger, hosts, id, tree, chains }
    }

    /// The same, with the tab open for three windows.
    fn opened() -> Self {
        let mut this = Self::new();
        let (value, call) = (this.deposit(), this.open_call());
        let applied = this.world.must(this.payer.address, TABS, value, call.abi_encode());
        assert_eq!(ITabs::openCall::abi_decode_returns(&applied.output), Ok(this.id));
        this
    }

    fn deposit(&self) -> u128 {
        u128::from(self.tree.gwei()) * GWEI
    }

    fn open_call(&self) -> ITabs::openCall {
        let (root, gwei) = (self.tree.root(), self.tree.gwei());
        ITabs::openCall { salt: SALT, bucket: BUCKET, root, gwei, termMs: 3 * WINDOW_MS }
    }

    fn tick(&self, leaf: u32, index: u32) -> Tick {
        self.chains[leaf as usize].tick(index).unwrap()
    }

    fn claim(&self, leaf: u32, index: u32) -> ITabs::Claim {
        self.tree.opening(leaf).unwrap().claim(self.id, &self.tick(leaf, index))
    }

    /// Sent by somebody who has no part in it.
    fn send(&mut self, claims: Vec<ITabs::Claim>) -> Applied {
        self.world.send(self.stranger.address, TABS, 0, ITabs::claimCall { claims }.abi_encode())
    }

    fn must(&mut self, leaf: u32, index: u32) -> U256 {
        let applied = self.send(vec![self.claim(leaf, index)]);
        assert!(applied.success, "reverted with {}", applied.output);
        self.world.audit();
        ITabs::claimCall::abi_decode_returns(&applied.output).unwrap()
    }

    fn refused(&mut self, claim: ITabs::Claim, error: impl SolError) {
        let before = (self.tab(), self.world.balance(TABS));
        let applied = self.send(vec![claim]);
        assert_eq!((applied.success, applied.output), (false, error.abi_encode().into()));
        assert_eq!((self.tab(), self.world.balance(TABS)), before);
    }

    fn close(&mut self) -> Applied {
        let call = ITabs::closeCall { tabs: vec![self.id] };
        self.world.send(self.stranger.address, TABS, 0, call.abi_encode())
    }

    fn tab(&self) -> ITabs::Tab {
        let tab = self.world.view(TABS, ITabs::getCall { tab: self.id });
        // When it ends is told from now on: a second's part comes and goes.
        ITabs::Tab { untilMs: 0, ..tab }
    }

    fn until_ms(&self) -> u64 {
        self.world.view(TABS, ITabs::getCall { tab: self.id }).untilMs
    }

    fn open_tabs(&self, payer: Address) -> Vec<B256> {
        self.world.view(TABS, ITabs::ofPayerCall { payer, first: 0, most: 64 })
    }

    fn wait(&mut self) {
        self.world.idle(3 * WINDOW_MS / 1000 + 1);
    }
}

#[test]
fn a_claim_pays_what_is_new_to_the_operator_and_given_twice_pays_once() {
    let mut it = Reading::opened();
    let operator = it.hosts[0].operator.address;
    let (before, price) = (it.world.balance(operator), LEAVES[0].2);
    assert_eq!(it.must(0, 3), U256::from(3 * price));
    it.refused(it.claim(0, 3), ITabs::NothingNew { tab: it.id, leaf: 0, index: 3 });
    it.refused(it.claim(0, 2), ITabs::NothingNew { tab: it.id, leaf: 0, index: 3 });
    assert_eq!(it.must(0, 100), U256::from(97 * price));
    assert_eq!(it.world.balance(operator) - before, U256::from(100 * price));
    // Another leaf of the same provider is another chain.
    assert_eq!(it.must(1, 10), U256::from(10 * LEAVES[1].2));
    let claimed = it.world.view(TABS, ITabs::claimedCall { tab: it.id, leaf: 0 });
    assert_eq!((claimed.index, claimed.value), (100, it.tick(0, 100).value));
    let nothing = it.world.view(TABS, ITabs::claimedCall { tab: it.id, leaf: 2 });
    assert_eq!((nothing.index, nothing.value), (0, B256::ZERO));
    let tab = it.tab();
    assert_eq!(tab.claimed, 100 * price + 10 * LEAVES[1].2);
    assert_eq!((tab.left + tab.claimed, U256::from(tab.left)), (it.deposit(), it.world.balance(TABS)));
    assert_eq!((tab.payer, tab.bucket, tab.state), (it.payer.address, BUCKET, 1));
}

#[test]
fn claims_in_any_order_pay_the_same() {
    let steps = [(0, 3), (0, 40), (1, 10), (2, 7)];
    let mut orders = vec![Vec::new()];
    for _ in steps {
        let longer = |order: &Vec<(u32, u32)>| {
            let rest = steps.iter().filter(|step| !order.contains(step)).copied().collect::<Vec<_>>();
            rest.into_iter().map(|step| [order.clone(), vec![step]].concat()).collect::<Vec<_>>()
        };
        orders = orders.iter().flat_map(longer).collect();
    }
    assert_eq!(orders.len(), 24);
    let ends: Vec<_> = orders
        .into_iter()
        .map(|order| {
            let mut it = Reading::opened();
            for (leaf, index) in order {
                let late = leaf == 0 && it.world.view(TABS, ITabs::claimedCall { tab: it.id, leaf }).index > index;
                assert_eq!(it.send(vec![it.claim(leaf, index)]).success, !late);
            }
            it.world.audit();
            (it.tab(), [0, 1].map(|host| it.world.balance(it.hosts[host].operator.address)))
        })
        .collect();
    assert!(ends.iter().all(|end| *end == ends[0]));
    assert_eq!(ends[0].0.claimed, 40 * LEAVES[0].2 + 10 * LEAVES[1].2 + 7 * LEAVES[2].2);
}

#[test]
fn what_is_left_returns_to_the_payer_after_the_end_and_not_before() {
    let mut it = Reading::opened();
    it.must(2, 50);
    let early = it.close();
    assert!(!early.success);
    assert_eq!(early.output[..4], ITabs::TooEarly::SELECTOR);
    let until_ms = it.until_ms();
    it.wait();
    let late = it.send(vec![it.claim(0, 1)]);
    assert_eq!((late.success, &late.output[..4]), (false, &ITabs::Over::SELECTOR[..]));
    assert!(it.world.env.time_ms > until_ms);
    let (before, left) = (it.world.balance(it.payer.address), it.tab().left);
    assert!(left > 0 && it.open_tabs(it.payer.address) == [it.id]);
    let closed = it.close();
    assert!(closed.success);
    let [ended] = &events::<ITabs::Ended>(&closed.logs)[..] else { panic!("one end") };
    assert_eq!((ended.tab, ended.payer, ended.refund), (it.id, it.payer.address, U256::from(left)));
    assert_eq!(it.world.balance(it.payer.address) - before, U256::from(left));
    let tab = it.tab();
    assert_eq!((tab.state, tab.left, tab.claimed + left), (2, 0, it.deposit()));
    assert_eq!((it.world.balance(TABS), it.open_tabs(it.payer.address)), (U256::ZERO, Vec::new()));
    // Once: and its id, whose values are known, is never used again.
    assert_eq!(it.close().output[..4], ITabs::NotOpen::SELECTOR);
    it.refused(it.claim(0, 1), ITabs::NotOpen { tab: it.id });
    let (value, again) = (it.deposit(), it.open_call().abi_encode());
    let again = it.world.send(it.payer.address, TABS, value, again);
    assert_eq!(again.output, ITabs::TabExists { tab: it.id }.abi_encode());
    it.world.audit();
}

#[test]
fn all_leaves_drawn_to_their_ends_leave_the_rounding_alone() {
    let mut it = Reading::opened();
    // The last leaf's node becomes a provider only now.
    it.world.must(it.payer.address, it.hosts[2].operator.address, 200 * COIN, Vec::new());
    it.world.register(&it.hosts[2]);
    let claims = (0..4).map(|leaf| it.claim(leaf, LEAVES[leaf as usize].1)).collect();
    assert!(it.send(claims).success);
    let drawn: u128 = LEAVES.iter().map(|(_, ticks, price)| u128::from(*ticks) * price).sum();
    assert_eq!((it.tab().claimed, it.tab().left), (drawn, it.deposit() - drawn));
    assert!(it.tab().left < LEAVES.len() as u128 * GWEI);
    it.world.audit();
}

#[test]
fn a_halt_takes_no_time_from_whoever_has_to_claim() {
    let mut it = Reading::opened();
    let until_ms = it.until_ms();
    it.world.block_after(86_400_000, &[]);
    it.world.idle(2);
    assert!(it.world.env.time_ms > until_ms + WINDOW_MS, "by the wall the tab would be over");
    assert!(it.until_ms() >= until_ms + 86_000_000, "its end moved by the halt");
    it.must(0, 5);
    assert_eq!(it.close().output[..4], ITabs::TooEarly::SELECTOR);
    it.world.idle(2 * 3 * WINDOW_MS / 1000);
    assert!(it.close().success);
}

#[test]
fn a_budget_opens_a_tab_for_its_owner_who_gets_the_rest() {
    let mut it = Reading::new();
    let spender = Person::new(7);
    let consent = spender.sign(&abi::spender_consent(CHAIN, it.payer.address, spender.address));
    let register = IBudgets::registerCall { spender: spender.address, consent }.abi_encode();
    it.world.must(it.payer.address, BUDGETS, it.deposit() + COIN, register);
    let (value, call) = (it.deposit(), it.open_call().abi_encode());
    it.world.must(spender.address, TABS, value, call);
    assert_eq!(it.tab().payer, it.payer.address);
    assert_eq!((it.open_tabs(it.payer.address), it.open_tabs(spender.address)), (vec![it.id], Vec::new()));
    it.must(0, 1);
    it.wait();
    let before = [it.payer, spender].map(|person| it.world.balance(person.address));
    assert!(it.close().success);
    let after = [it.payer, spender].map(|person| it.world.balance(person.address));
    assert_eq!([after[0] - before[0], after[1] - before[1]], [U256::from(it.deposit() - LEAVES[0].2), U256::ZERO]);
    it.world.audit();
}

#[test]
fn a_claim_of_another_leaf_value_or_tab_is_refused_and_takes_a_batch_with_it() {
    let mut it = Reading::opened();
    let id = it.id;
    let good = it.claim(0, 5);
    let path = ITabs::BadPath { tab: id, leaf: 0 };
    for bent in [
        ITabs::Claim { price: good.price + 1, ..good.clone() },
        ITabs::Claim { ticks: 4096, ..good.clone() },
        ITabs::Claim { ticks: 0, ..good.clone() },
        ITabs::Claim { ticks: u32::MAX, ..good.clone() },
        ITabs::Claim { anchor: it.chains[1].anchor(), ..good.clone() },
        ITabs::Claim { provider: it.hosts[1].node, ..good.clone() },
        ITabs::Claim { path: good.path[..40].to_vec().into(), ..good.clone() },
        ITabs::Claim { path: vec![0; 100_000].into(), ..good.clone() },
    ] {
        it.refused(bent, path.clone());
    }
    for leaf in [1, 4, u32::MAX] {
        it.refused(ITabs::Claim { leaf, ..good.clone() }, ITabs::BadPath { tab: id, leaf });
    }
    for (index, value) in [(5, it.tick(0, 4).value), (4, good.value), (101, good.value), (u32::MAX, good.value)] {
        it.refused(ITabs::Claim { index, value, ..good.clone() }, ITabs::BadValue { tab: id, leaf: 0, index });
    }
    let none = ITabs::Claim { index: 0, value: good.anchor, ..good.clone() };
    it.refused(none, ITabs::NothingNew { tab: id, leaf: 0, index: 0 });
    let elsewhere = B256::repeat_byte(1);
    it.refused(ITabs::Claim { tab: elsewhere, ..good.clone() }, ITabs::UnknownTab { tab: elsewhere });
    let unknown = it.claim(3, 1);
    it.refused(unknown.clone(), ITabs::UnknownProvider { provider: it.hosts[2].node });
    // All or none.
    assert!(!it.send(vec![good.clone(), unknown]).success);
    assert_eq!(it.tab().claimed, 0);
    let many = it.send(vec![good.clone(); 65]);
    let too_many = IModule::TooMany { given: U256::from(65), most: U256::from(64) };
    assert_eq!(many.output, too_many.abi_encode());
    assert!(it.send(vec![good, it.claim(0, 6)]).success, "one after another in one batch");
    assert_eq!(it.tab().claimed, 6 * LEAVES[0].2);
    it.world.audit();
}

#[test]
fn a_tab_opens_with_its_whole_sum_and_for_a_bounded_time() {
    let mut it = Reading::new();
    let (payer, deposit, good) = (it.payer.address, it.deposit(), it.open_call());
    let mut refused = |value: u128, call: ITabs::openCall, error: Vec<u8>| {
        let applied = it.world.send(payer, TABS, value, call.abi_encode());
        assert_eq!((applied.success, applied.output), (false, error.into()));
    };
    for value in [0, deposit - 1, deposit + 1] {
        let needed = U256::from(deposit);
        refused(value, good.clone(), ITabs::WrongDeposit { value: U256::from(value), needed }.abi_encode());
    }
    let nothing = ITabs::openCall { gwei: 0, ..good.clone() };
    refused(0, nothing, ITabs::WrongDeposit { value: U256::ZERO, needed: U256::ZERO }.abi_encode());
    let (least, most) = (2 * WINDOW_MS, 400 * 86_400_000);
    for term in [0, least - 1, most + 1, u64::MAX] {
        let call = ITabs::openCall { termMs: term, ..good.clone() };
        refused(deposit, call, ITabs::BadTerm { leastMs: least, mostMs: most }.abi_encode());
    }
    assert_eq!(it.world.balance(TABS), U256::ZERO);
    assert!(it.world.send(payer, TABS, deposit, good.abi_encode()).success);
    let long = Params { window_ms: 100 * 86_400_000, ..params() };
    let mut slow = World::with(long, &[payer]);
    let call = ITabs::openCall { termMs: 2 * 86_400_000, ..good.clone() };
    slow.must(payer, TABS, deposit, call.abi_encode());
    // The same salt is another's own.
    let stranger = it.stranger.address;
    assert!(it.world.send(stranger, TABS, deposit, good.abi_encode()).success);
    assert_eq!(it.open_tabs(stranger), [tab_id(CHAIN, stranger, SALT)]);
    it.world.audit();
}

#[test]
fn a_provider_that_retired_is_paid_and_each_hash_costs_gas() {
    let mut it = Reading::opened();
    let (operator, node) = (it.hosts[0].operator.address, it.hosts[0].node);
    it.world.must(operator, PROVIDERS, 0, IProviders::retireCall { node }.abi_encode());
    it.must(0, 1);
    let gas = |it: &Reading, index| {
        let claims = vec![it.claim(0, index)];
        let data = ITabs::claimCall { claims }.abi_encode().into();
        let call = Call { from: operator, to: Some(TABS), data, ..Call::default() };
        it.world.simulate(&call).gas_used
    };
    // What its bytes cost in calldata differs from value to value.
    assert!(gas(&it, 100) > gas(&it, 2) + 98 * 60 - 2_000);
    let mut tx = {
        let data = ITabs::claimCall { claims: vec![it.claim(0, 100)] }.abi_encode();
        it.world.tx(operator, alloy_primitives::TxKind::Call(TABS), U256::ZERO, data)
    };
    super::world::limit_gas(&mut tx, 60_000);
    let dry = it.world.block_after(1000, &[tx]).remove(0).unwrap();
    assert!(!dry.success);
    assert_eq!(it.tab().claimed, LEAVES[0].2);
    it.must(0, 100);
    assert_eq!(ITabs::Claimed::SIGNATURE, "Claimed(address,bytes32,bytes32,address,uint32,uint32,uint32,uint256)");
}
