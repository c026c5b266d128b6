//! Buy the bandwidth of relays at one price an epoch, and pay it by the tick.

use alloy_primitives::{Address, B256, U256};
use alloy_sol_types::{SolCall, SolError};
use hodei_types::{
    abi::{self, IRelays, RELAYS},
    market::{Clearing, NOTICE_WINDOWS, RelayOffer, chain_id, clear, demand_mib, fee, prepare_chain},
    tab::{Chain, Tick},
};

use super::world::{CHAIN, COIN, Host, Person, WINDOW_MS, World};
use crate::execute::Applied;

const SEED: [u8; 32] = [7; 32];
/// Price and MiB an epoch of each.
const OFFERS: [(u64, u64); 3] = [(300, 10), (500, 20), (900, 100)];

pub(super) fn terms(price: u64, mib: u64) -> RelayOffer {
    RelayOffer {
        price,
        bandwidthBits: 1_000_000_000,
        transferBytes: mib << 20,
        region: 1,
        network: "as64500".into(),
        zone: "a".into(),
        addresses: abi::pack_addresses(&["127.0.0.1:4000".parse().unwrap()]),
    }
}

pub(super) fn offer(host: &Host, terms: RelayOffer) -> Vec<u8> {
    let possession = host.sign(&abi::operator_consent(CHAIN, host.operator.address, host.node));
    IRelays::offerCall { node: host.node, terms, possession }.abi_encode()
}

/// A buyer, who has nothing to do with three relays of three operators.
struct Pool {
    world: World,
    buyer: Person,
    stranger: Person,
    relays: [Host; 3],
}

impl Pool {
    /// With an epoch that was opened by the offers.
    fn new() -> Self {
        let [buyer, stranger, one, two, three] = [1, 2, 3, 4, 5].map(Person::new);
        let rich = [buyer, stranger, one, two, three].map(|person| person.address);
        let mut world = World::new(&rich);
        let relays = [Host::new(1, one), Host::new(2, two), Host::new(3, three)];
        for (relay, (price, mib)) in relays.iter().zip(OFFERS) {
            world.must(relay.operator.address, RELAYS, 2 * COIN, offer(relay, terms(price, mib)));
        }
        let mut this = Self { world, buyer, stranger, relays };
        this.next_epoch();
        this
    }

    fn epoch(&self) -> IRelays::Epoch {
        self.world.view(RELAYS, IRelays::epochCall {})
    }

    /// Waits until the next epoch opened.
    fn next_epoch(&mut self) -> IRelays::Epoch {
        let before = self.epoch().number;
        for _ in 0..30 {
            self.world.idle(1);
            if self.epoch().number != before {
                return self.epoch();
            }
        }
        panic!("no epoch in 30 blocks");
    }

    fn operator(&self, relay: usize) -> Address {
        self.relays[relay].operator.address
    }

    fn chain(&self, payee: Address, number: u64, ticks: u32) -> (B256, Chain) {
        let id = chain_id(CHAIN, self.buyer.address, payee, number);
        (id, prepare_chain(&SEED, id, payee, ticks).unwrap())
    }

    fn ticket(&self, relay: usize, number: u64, ticks: u32) -> IRelays::Ticket {
        // What is no ticket has no chain, but may be tried.
        let (_, chain) = self.chain(self.operator(relay), number, ticks.clamp(1, 64));
        IRelays::Ticket { relay: self.relays[relay].node, number, anchor: chain.anchor(), ticks }
    }

    fn buy(&mut self, value: u128, tickets: Vec<IRelays::Ticket>) -> Applied {
        let call = IRelays::buyCall { tickets, priceMax: 1000 };
        self.world.send(self.buyer.address, RELAYS, value, call.abi_encode())
    }

    /// A ticket that is bought at the epoch's price; its id and words.
    fn bought(&mut self, relay: usize, number: u64, ticks: u32) -> (B256, Chain) {
        let value = u128::from(ticks) * u128::from(self.epoch().price);
        let applied = self.buy(value, vec![self.ticket(relay, number, ticks)]);
        assert!(applied.success, "reverted with {}", applied.output);
        let (id, chain) = self.chain(self.operator(relay), number, ticks);
        assert_eq!(IRelays::buyCall::abi_decode_returns(&applied.output), Ok(vec![id]));
        (id, chain)
    }

    /// Sent by somebody who has no part in it.
    fn claim(&mut self, chain: B256, tick: Tick) -> Applied {
        let claims = vec![IRelays::Claim { chain, index: tick.index, word: tick.value }];
        self.world.send(self.stranger.address, RELAYS, 0, IRelays::claimCall { claims }.abi_encode())
    }

    fn claimed(&mut self, chain: B256, tick: Tick) {
        let applied = self.claim(chain, tick);
        assert!(applied.success, "reverted with {}", applied.output);
        self.world.audit();
    }

    fn close(&mut self, chain: B256) -> Applied {
        let call = IRelays::closeCall { chains: vec![chain] };
        self.world.send(self.stranger.address, RELAYS, 0, call.abi_encode())
    }

    fn by(&mut self, relay: usize, call: impl SolCall) -> Applied {
        self.world.send(self.operator(relay), RELAYS, 0, call.abi_encode())
    }

    /// What the list and what was redeemed before come to.
    fn rebuilt(&self, redeemed_mib: u64) -> (Clearing, u64) {
        let relays = self.world.view(RELAYS, IRelays::pageCall { first: 0, most: 64 });
        let standing = relays.iter().filter(|relay| !relay.retired).map(|relay| relay.offer.standing()).collect();
        let demand = demand_mib(redeemed_mib);
        (clear(standing, demand), demand)
    }

    fn in_pool(&self) -> Vec<B256> {
        let pool = self.world.view(RELAYS, IRelays::offersAtOrBelowCall { first: 0, most: 64 });
        pool.into_iter().map(|relay| relay.node).collect()
    }
}

fn refused(applied: &Applied, error: impl SolError) {
    assert_eq!((applied.success, &applied.output), (false, &error.abi_encode().into()));
}

/// Refused with this error, of whatever time.
fn refused_by<E: SolError>(applied: &Applied) {
    assert_eq!((applied.success, applied.output.get(..4)), (false, Some(&E::SELECTOR[..])));
}

#[test]
fn the_price_rises_with_what_was_redeemed_and_falls_when_nothing_was() {
    let mut it = Pool::new();
    let first = it.epoch();
    assert_eq!((first.price, first.offers, first.below), (300, 3, 1), "nothing is expected yet: the cheapest");
    let tickets = [it.bought(0, 0, 8), it.bought(0, 1, 8)];
    for (id, chain) in tickets {
        it.claimed(id, chain.tick(8).unwrap());
    }
    assert_eq!((it.epoch().redeemedMib, it.epoch().price), (16, 300));
    let second = it.next_epoch();
    assert_eq!((second.number, second.demandMib), (first.number + 1, 20));
    assert_eq!((second.price, second.below, second.supplyMib), (500, 2, 30));
    assert_eq!(it.in_pool(), [it.relays[0].node, it.relays[1].node], "who asks more is not in the pool");
    let dear = it.ticket(2, 2, 1);
    refused(&it.buy(500, vec![dear]), IRelays::NotInPool { node: it.relays[2].node, price: 500 });
    it.bought(0, 2, 1);
    it.bought(1, 3, 1);
    assert_eq!(it.next_epoch().price, 300);
    let price = |number| it.world.view(RELAYS, IRelays::priceOfCall { number });
    assert_eq!([first.number - 1, first.number, second.number].map(price), [0, 300, 500], "as they were");
}

#[test]
fn an_epochs_price_is_what_its_offers_come_to_and_does_not_move_before_the_next() {
    let mut it = Pool::new();
    let mut redeemed = 0;
    for round in 0..4 {
        let epoch = it.epoch();
        let (cleared, demand) = it.rebuilt(redeemed);
        let stored = Clearing { price: epoch.price, below: epoch.below, supply_mib: epoch.supplyMib };
        assert_eq!((stored, epoch.demandMib, epoch.offers), (cleared, demand, 3));
        let (id, chain) = it.bought(0, round, 64);
        it.claimed(id, chain.tick(8 * (round as u32 + 1)).unwrap());
        redeemed = it.epoch().redeemedMib;
        assert_eq!(redeemed, 8 * (round + 1));
        it.next_epoch();
    }
    let before = it.epoch();
    assert_eq!(before.price, 900, "40 MiB expected, and 30 carried below");
    let (node, other) = (it.relays[0].node, it.relays[1].node);
    assert!(it.by(0, IRelays::updateCall { node, terms: terms(950, 10) }).success);
    assert!(it.by(1, IRelays::updateCall { node: other, terms: terms(100, 20) }).success);
    assert_eq!(it.epoch(), before);
    let dearer = it.ticket(0, 10, 1);
    refused(&it.buy(900, vec![dearer]), IRelays::NotInPool { node, price: 900 });
    // A chain is paid as it was bought, whatever later epochs cost.
    let (id, chain) = it.bought(1, 10, 8);
    assert_eq!(it.next_epoch().price, 100);
    let had = it.world.balance(it.operator(1));
    it.claimed(id, chain.tick(8).unwrap());
    assert_eq!(it.world.balance(it.operator(1)) - had, U256::from(8 * 900 - 72));
}

#[test]
fn claims_pay_to_the_tick_and_given_twice_pay_once() {
    let mut it = Pool::new();
    let (id, chain) = it.bought(0, 0, 64);
    let (other, _) = it.bought(0, 1, 64);
    let (operator, collateral) = (it.operator(0), U256::from(6 * COIN));
    let held = |it: &Pool| it.world.balance(RELAYS) - collateral;
    assert_eq!(held(&it), U256::from(2 * 64 * 300));
    let had = it.world.balance(operator);
    it.claimed(id, chain.tick(5).unwrap());
    assert_eq!(it.world.balance(operator) - had, U256::from(1500) - fee(U256::from(1500)));
    assert_eq!(held(&it), U256::from((59 + 64) * 300));

    let five = chain.tick(5).unwrap();
    refused(&it.claim(id, five), IRelays::NothingNew { chain: id, index: 5 });
    refused(&it.claim(id, chain.tick(4).unwrap()), IRelays::NothingNew { chain: id, index: 5 });
    refused(&it.claim(id, Tick { index: 6, ..five }), IRelays::BadWord { chain: id, index: 6 });
    let beyond = Tick { index: 65, ..chain.tick(64).unwrap() };
    refused(&it.claim(id, beyond), IRelays::BadWord { chain: id, index: 65 });
    refused(&it.claim(other, chain.tick(6).unwrap()), IRelays::BadWord { chain: other, index: 6 });
    refused(&it.claim(B256::ZERO, five), IRelays::UnknownChain { chain: B256::ZERO });

    it.claimed(id, chain.tick(64).unwrap());
    let (rest, first) = (U256::from(59 * 300), U256::from(1500));
    assert_eq!(it.world.balance(operator) - had, first - fee(first) + rest - fee(rest));
    let shown = it.world.view(RELAYS, IRelays::chainCall { id });
    assert_eq!((shown.claimed, shown.left, shown.word), (64, U256::ZERO, chain.tick(64).unwrap().value));
}

#[test]
fn what_is_not_claimed_comes_back_after_two_windows_and_its_number_is_used_once() {
    let mut it = Pool::new();
    let (id, chain) = it.bought(0, 4, 8);
    let payer = it.buyer.address;
    let open = |it: &Pool| it.world.view(RELAYS, IRelays::ofPayerCall { payer, first: 0, most: 64 });
    it.claimed(id, chain.tick(3).unwrap());
    refused_by::<IRelays::TooEarly>(&it.close(id));
    assert_eq!(open(&it), [id]);
    it.world.idle(2 * WINDOW_MS / 1000 + 1);
    refused_by::<IRelays::Over>(&it.claim(id, chain.tick(8).unwrap()));
    let had = it.world.balance(payer);
    assert!(it.close(id).success);
    assert_eq!(it.world.balance(payer) - had, U256::from(5 * 300));
    assert_eq!((open(&it), it.world.balance(RELAYS)), (Vec::new(), U256::from(6 * COIN)));
    refused(&it.close(id), IRelays::UnknownChain { chain: id });
    it.world.audit();
    // Whoever saw its words must not find them worth anything again.
    let again = it.ticket(0, 4, 8);
    refused(&it.buy(8 * 300, vec![again]), IRelays::NumberUsed { number: 4, next: 5 });
    let below = it.ticket(0, 3, 8);
    refused(&it.buy(8 * 300, vec![below]), IRelays::NumberUsed { number: 3, next: 5 });
    assert_eq!(it.world.view(RELAYS, IRelays::nextNumberCall { payer }), 5);
}

#[test]
fn who_retires_sells_nothing_more_is_paid_what_it_earned_and_gets_its_collateral_after_its_notice() {
    let mut it = Pool::new();
    let (id, chain) = it.bought(0, 0, 8);
    let node = it.relays[0].node;
    refused(&it.by(0, IRelays::withdrawCall { node }), IRelays::NotRetired {});
    refused(&it.by(1, IRelays::retireCall { node }), IRelays::NotOperator { operator: it.operator(0) });
    assert!(it.by(0, IRelays::retireCall { node }).success);
    refused(&it.by(0, IRelays::retireCall { node }), IRelays::IsRetired {});
    refused(&it.by(0, IRelays::updateCall { node, terms: terms(1, 10) }), IRelays::IsRetired {});
    assert_eq!(it.epoch().price, 300, "the epoch goes on as it opened");
    let late = it.ticket(0, 1, 1);
    refused(&it.buy(300, vec![late]), IRelays::NotInPool { node, price: 300 });
    it.claimed(id, chain.tick(8).unwrap());
    let next = it.next_epoch();
    assert_eq!((next.offers, next.price), (2, 500), "without it");
    refused_by::<IRelays::NoticeRuns>(&it.by(0, IRelays::withdrawCall { node }));
    it.world.idle(NOTICE_WINDOWS * WINDOW_MS / 1000);
    let held = it.world.balance(RELAYS);
    assert!(it.by(0, IRelays::withdrawCall { node }).success);
    assert_eq!(held - it.world.balance(RELAYS), U256::from(2 * COIN));
    assert_eq!(it.world.view(RELAYS, IRelays::countCall {}), 2);
    it.world.audit();
    // It may come back.
    let again = offer(&it.relays[0], terms(200, 10));
    it.world.must(it.operator(0), RELAYS, 2 * COIN, again);
    assert_eq!(it.next_epoch().price, 200);
}

#[test]
fn a_chain_to_any_account_pays_at_the_price_both_know_and_is_no_demand_of_the_pool() {
    let mut it = Pool::new();
    let host = Person::new(9).address;
    let (id, chain) = it.chain(host, 0, 30);
    let want = IRelays::Direct { payee: host, number: 0, anchor: chain.anchor(), ticks: 30, price: 7 };
    let open = |want: &IRelays::Direct| IRelays::openCall { wants: vec![*want] }.abi_encode();
    let buyer = it.buyer.address;
    it.world.must(buyer, RELAYS, 210, open(&want));
    it.claimed(id, chain.tick(30).unwrap());
    assert_eq!((it.world.balance(host), it.epoch().redeemedMib), (U256::from(210 - 3), 0));

    let next = IRelays::Direct { number: 1, ..want };
    let wrong = it.world.send(buyer, RELAYS, 209, open(&next));
    refused(&wrong, IRelays::WrongDeposit { value: U256::from(209), needed: U256::from(210) });
    let module = IRelays::Direct { payee: RELAYS, ..next };
    refused(&it.world.send(buyer, RELAYS, 210, open(&module)), IRelays::BadPayee {});
    let long = IRelays::Direct { ticks: 65, ..next };
    refused(&it.world.send(buyer, RELAYS, 65 * 7, open(&long)), IRelays::BadTicks { ticks: 65 });
    let free = IRelays::Direct { price: 0, ..next };
    refused(&it.world.send(buyer, RELAYS, 0, open(&free)), IRelays::BadPrice {});
}

#[test]
fn what_one_redeems_from_oneself_is_no_demand() {
    let mut it = Pool::new();
    let operator = it.operator(0);
    let id = chain_id(CHAIN, operator, operator, 0);
    let chain = prepare_chain(&SEED, id, operator, 8).unwrap();
    let ticket = IRelays::Ticket { relay: it.relays[0].node, number: 0, anchor: chain.anchor(), ticks: 8 };
    let call = IRelays::buyCall { tickets: vec![ticket], priceMax: 300 };
    it.world.must(operator, RELAYS, 8 * 300, call.abi_encode());
    it.claimed(id, chain.tick(8).unwrap());
    assert_eq!((it.epoch().redeemedMib, it.next_epoch().price), (0, 300));
}

#[test]
fn a_buyer_pays_the_price_and_gets_back_what_it_sent_beyond() {
    let mut it = Pool::new();
    let held = it.world.balance(RELAYS);
    let ticket = it.ticket(0, 0, 8);
    let short = it.buy(8 * 300 - 1, vec![ticket]);
    refused(&short, IRelays::WrongDeposit { value: U256::from(2399), needed: U256::from(2400) });
    let call = IRelays::buyCall { tickets: vec![ticket], priceMax: 299 };
    let capped = it.world.send(it.buyer.address, RELAYS, 2400, call.abi_encode());
    refused(&capped, IRelays::PriceAbove { price: 300, most: 299 });
    let odd = it.ticket(0, 0, 2);
    refused(&it.buy(600, vec![odd]), IRelays::BadTicks { ticks: 2 });
    assert_eq!(it.world.balance(RELAYS), held);
    let next = it.ticket(0, 1, 1);
    assert!(it.buy(5000, vec![ticket, next]).success);
    assert_eq!(it.world.balance(RELAYS) - held, U256::from(9 * 300));
    it.world.audit();
}

#[test]
fn an_offer_needs_its_key_its_collateral_and_room_in_an_epoch() {
    let mut it = Pool::new();
    let person = it.stranger;
    let fresh = Host::new(9, person);
    let least = it.world.view(RELAYS, IRelays::collateralMinCall { bandwidthBits: 1_000_000_000 });
    let given: u128 = least.to::<u128>() - 1;
    let low = it.world.send(person.address, RELAYS, given, offer(&fresh, terms(5, 5)));
    refused(&low, IRelays::CollateralTooSmall { given: U256::from(given), least });
    // More than a Gbit/s carries in ten seconds.
    let much = it.world.send(person.address, RELAYS, 2 * COIN, offer(&fresh, terms(5, 1193)));
    refused(&much, IRelays::BadOffer { field: "transferBytes".to_owned() });
    let foreign = IRelays::offerCall {
        node: fresh.node,
        terms: terms(5, 5),
        possession: it.relays[0].sign(&abi::operator_consent(CHAIN, person.address, fresh.node)),
    };
    refused(&it.world.send(person.address, RELAYS, 2 * COIN, foreign.abi_encode()), IRelays::BadPossession {});
    let twice = offer(&it.relays[0], terms(5, 5));
    let node = it.relays[0].node;
    refused(&it.world.send(it.operator(0), RELAYS, 2 * COIN, twice), IRelays::AlreadyOffered { node });
    it.world.must(person.address, RELAYS, 2 * COIN, offer(&fresh, terms(5, 1192)));
    it.world.must(person.address, RELAYS, 7, IRelays::depositCall { node: fresh.node }.abi_encode());
    let shown = it.world.view(RELAYS, IRelays::getCall { node: fresh.node });
    assert_eq!((shown.collateral, shown.inPool, shown.offer), (U256::from(2 * COIN + 7), true, terms(5, 1192)));
    it.world.audit();
}

#[test]
fn an_epoch_whose_block_had_no_room_for_it_opens_in_the_next_and_once() {
    let mut it = Pool::new();
    let before = it.epoch();
    // Up to a block before the window's end, by the test's ten blocks of a second.
    let mut waited = 0;
    while it.world.window() == before.number {
        it.world.unworked_block(1000, &[]);
        waited += 1;
        assert!(waited < 30, "no window in 30 blocks");
    }
    assert_eq!(it.epoch(), before, "the old price stands until then");
    it.world.idle(1);
    let next = it.epoch();
    assert_eq!((next.number, it.world.window()), (before.number + 1, before.number + 1));
    let opened = super::world::events::<IRelays::Cleared>(&it.world.worked);
    assert_eq!(opened.iter().filter(|cleared| cleared.epoch == next.number).count(), 1);
}
