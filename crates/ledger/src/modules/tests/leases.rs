//! Let leases run: what hosts are paid, when it stops, and what ends them early.

use alloy_primitives::U256;
use alloy_sol_types::{SolCall, SolError};
use hodei_types::{
    abi::{
        self, BUDGETS, IBudgets, ILeases,
        IMarket::{self, Order},
        LEASES, MARKET,
    },
    market::NOTICE_WINDOWS,
};

use super::{
    market::{Fair, offer, terms},
    world::{CHAIN, COIN, Person, WINDOW_MS, events},
};
use crate::execute::Applied;

/// One lease of 500 wei a second, for 600 seconds.
const ESCROW: u128 = 300_000;

fn fair() -> Fair {
    Fair::new([offer(1), offer(2), offer(3)])
}

impl Fair {
    pub(super) fn lease(&self, lease: u64) -> ILeases::Lease {
        self.world.view(LEASES, ILeases::getCall { lease })
    }

    /// What a touch by nobody in particular paid.
    fn touch(&mut self, lease: u64) -> U256 {
        ILeases::touchCall::abi_decode_returns(&self.touched(lease).output).unwrap()
    }

    /// What a touch by nobody in particular did.
    pub(super) fn touched(&mut self, lease: u64) -> Applied {
        let stranger = self.hosts[2].operator.address;
        let touch = ILeases::touchCall { leases: vec![lease] }.abi_encode();
        let applied = self.world.must(stranger, LEASES, 0, touch);
        self.world.audit();
        applied
    }

    pub(super) fn quit(&mut self, host: usize, lease: u64) -> Applied {
        let from = self.hosts[host].operator.address;
        let applied = self.world.send(from, LEASES, 0, ILeases::quitCall { leases: vec![lease] }.abi_encode());
        self.world.audit();
        applied
    }

    pub(super) fn end(&mut self, lease: u64) -> Applied {
        let applied =
            self.world.send(self.tenant.address, LEASES, 0, ILeases::endCall { leases: vec![lease] }.abi_encode());
        self.world.audit();
        applied
    }
}

#[test]
fn a_host_is_paid_by_the_second_and_a_hundredth_is_burned() {
    let mut fair = fair();
    fair.must(terms(1), ESCROW + 499);
    let lease = fair.lease(1);
    assert_eq!((lease.rate, lease.left, lease.state), (500, ESCROW, 1), "beyond whole seconds it came back");
    assert_eq!(lease.untilMs, lease.begunMs + 600_000);
    let burned = |fair: &Fair| fair.world.view(abi::QUEUE, abi::IQueue::burnedCall {});
    let before = fair.world.balance(fair.hosts[0].operator.address);
    fair.world.idle(9);
    assert_eq!(fair.lease(1).owed, 4_500);
    // In the tenth second.
    assert_eq!(fair.touch(1), U256::from(5_000));
    assert_eq!(fair.world.balance(fair.hosts[0].operator.address), before + U256::from(4_950));
    assert_eq!((burned(&fair), fair.lease(1).left, fair.lease(1).paidSecs), (U256::from(50), ESCROW - 5_000, 10));
    assert_eq!(fair.touch(1), U256::from(500));
    assert_eq!(fair.world.balance(LEASES), U256::from(ESCROW - 5_500));
}

#[test]
fn it_stops_at_the_last_full_second_and_gives_the_room_back() {
    let mut fair = fair();
    fair.must(terms(1), ESCROW);
    let before = fair.world.balance(fair.hosts[0].operator.address);
    for _ in 0..220 {
        fair.world.block_after(3000, &[]);
    }
    assert_eq!((fair.lease(1).owed, fair.lease(1).state, fair.host(0).leases), (ESCROW, 1, 1));
    assert_eq!(fair.touch(1), U256::from(ESCROW));
    assert_eq!(fair.world.balance(fair.hosts[0].operator.address), before + U256::from(ESCROW - ESCROW / 100));
    assert_eq!((fair.lease(1).left, fair.lease(1).state, fair.host(0).leases), (0, 2, 0));
    assert_eq!(fair.host(0).free, offer(1).capacity);
    assert_eq!(fair.world.balance(LEASES), U256::ZERO);
    let owner = fair.tenant.address;
    assert!(fair.world.view(MARKET, IMarket::ofOwnerCall { owner, first: 0, most: 64 }).is_empty());
    let again = ILeases::touchCall { leases: vec![1] }.abi_encode();
    let refused = fair.world.send(owner, LEASES, 0, again);
    assert_eq!(refused.output[..], ILeases::NotRunning { lease: 1 }.abi_encode()[..]);
    assert_eq!(fair.end(2).output[..], ILeases::UnknownLease { lease: 2 }.abi_encode()[..]);
}

#[test]
fn an_owner_ends_a_lease_for_a_minute_at_least_and_gets_the_rest() {
    let mut fair = fair();
    fair.must(terms(2), 2 * ESCROW);
    let owner = fair.tenant.address;
    let refused =
        fair.world.send(fair.hosts[1].operator.address, LEASES, 0, ILeases::endCall { leases: vec![1] }.abi_encode());
    assert_eq!(refused.output[..], ILeases::NotOwner { owner }.abi_encode()[..]);
    let ended = events::<ILeases::Ended>(&fair.end(1).logs);
    assert_eq!((ended[0].by, ended[0].refund), (1, U256::from(ESCROW - 60 * 500)));
    fair.world.idle(100);
    let ended = events::<ILeases::Ended>(&fair.end(2).logs);
    // The order's block, a refusal, an end, 100 more, and this one.
    assert_eq!(ended[0].refund, U256::from(ESCROW - 103 * 500));
    assert_eq!(fair.world.balance(LEASES), U256::ZERO);
    assert_eq!(fair.world.view(MARKET, IMarket::placedCall { id: 1 }).state, 4);
}

#[test]
fn a_host_that_ends_a_lease_early_loses_what_an_hour_would_have_paid() {
    let mut fair = fair();
    let owner = fair.tenant.address;
    let hours = 500 * 7200;
    fair.must(Order { secs: 7200, ..terms(1) }, hours);
    let operator = fair.hosts[0].operator.address;
    assert_eq!(fair.quit(1, 1).output[..], ILeases::NotOperator { operator }.abi_encode()[..]);
    let before = fair.world.balance(owner);
    let applied = fair.quit(0, 1);
    // Two seconds are paid: the refusal's and this block's. Of the hour's pay half is the owner's.
    let penalty = 500 * 3600;
    let ended = &events::<ILeases::Ended>(&applied.logs)[0];
    assert_eq!((ended.by, ended.refund, ended.penalty), (2, U256::from(hours - 1000), U256::from(penalty)));
    assert_eq!(fair.world.balance(owner), before + U256::from(hours - 1000 + penalty / 2));
    assert_eq!(fair.host(0).collateral, U256::from(10 * COIN - penalty));
    // A preemptible one is ended at no cost.
    fair.must(Order { class: 2, ..terms(1) }, ESCROW);
    let ended = events::<ILeases::Ended>(&fair.quit(0, 2).logs);
    assert_eq!((ended[0].by, ended[0].penalty), (2, U256::ZERO));
    // Near the end of its escrow a lease costs what is left of it.
    fair.must(terms(1), ESCROW);
    fair.world.idle(499);
    let ended = events::<ILeases::Ended>(&fair.quit(0, 3).logs);
    assert_eq!((ended[0].refund, ended[0].penalty), (U256::from(50_000), U256::from(50_000)));
}

#[test]
fn who_retired_takes_no_renewal_and_leaves_freely_after_its_notice() {
    let mut fair = fair();
    let notice_ms = NOTICE_WINDOWS * WINDOW_MS;
    let secs = notice_ms / 1000 + 7200;
    fair.must(Order { secs, ..terms(2) }, 2 * 500 * u128::from(secs));
    let renew = ILeases::renewCall { lease: 1 }.abi_encode();
    let (payer, node) = (fair.hosts[2].operator.address, fair.hosts[0].node);
    for wrong in [0, 499, 501] {
        let refused = fair.world.send(payer, LEASES, wrong, renew.clone());
        assert_eq!(refused.output[..4], ILeases::BadRenewal::SELECTOR);
    }
    let left = fair.lease(1).left;
    fair.world.must(payer, LEASES, 5_000, renew.clone());
    assert_eq!(fair.lease(1).left, left + 5_000);
    let retired = fair.world.must(fair.hosts[0].operator.address, MARKET, 0, IMarket::retireCall { node }.abi_encode());
    let quits_free_ms = events::<IMarket::Retired>(&retired.logs)[0].quitsFreeMs;
    assert_eq!(quits_free_ms, fair.world.env.time_ms / 1000 * 1000 + notice_ms);
    let refused = fair.world.send(payer, LEASES, 500, renew);
    assert_eq!(refused.output[..], ILeases::HostRetired { node }.abi_encode()[..]);
    let early = events::<ILeases::Ended>(&fair.quit(0, 1).logs);
    assert_eq!(early[0].penalty, U256::from(500 * 3600));
    fair.world.idle(notice_ms / 1000);
    let free = events::<ILeases::Ended>(&fair.quit(0, 2).logs);
    assert_eq!((free[0].by, free[0].penalty), (2, U256::ZERO));
    fair.world.must(fair.hosts[0].operator.address, MARKET, 0, IMarket::withdrawCall { node }.abi_encode());
    fair.world.audit();
}

#[test]
fn a_budget_orders_for_its_owner_and_a_halt_costs_nothing() {
    let mut fair = fair();
    let (owner, spender) = (fair.tenant, Person::new(30));
    let consent = spender.sign(&abi::spender_consent(CHAIN, owner.address, spender.address));
    let call = IBudgets::registerCall { spender: spender.address, consent }.abi_encode();
    fair.world.must(owner.address, BUDGETS, COIN, call);
    let order = IMarket::orderCall { terms: terms(1) }.abi_encode();
    fair.world.must(spender.address, MARKET, ESCROW, order);
    assert_eq!(fair.lease(1).owner, owner.address);
    fair.world.idle(99);
    fair.world.block_after(1_000_000, &[]);
    assert_eq!(fair.lease(1).owed, 99 * 500, "nobody pays for a halt");
    // The budget may end it; the rest is its owner's.
    let before = fair.world.balance(owner.address);
    fair.world.must(spender.address, LEASES, 0, ILeases::endCall { leases: vec![1] }.abi_encode());
    let back = fair.world.balance(owner.address) - before;
    assert_eq!(back, U256::from(ESCROW - 99 * 500));
    fair.world.audit();
}

#[test]
fn an_hour_that_was_paid_is_in_the_index_and_one_account_weighs_no_more_than_another() {
    let mut fair = fair();
    let index = |fair: &Fair| fair.world.view(MARKET, IMarket::indexCall { region: 16, runtime: 0 });
    assert_eq!((index(&fair).price, index(&fair).accounts), (0, 0));
    let long = Order { secs: 7200, ..terms(1) };
    fair.must(long.clone(), 500 * 7200);
    // Somebody who trades with itself, at a thousand times the price.
    let washer = fair.hosts[1].operator.address;
    let node = fair.hosts[1].node;
    let dear = IMarket::updateCall { node, offer: IMarket::Offer { region: 0, ..offer(1000) } }.abi_encode();
    fair.world.must(washer, MARKET, 0, dear);
    let to_itself = Order { regions: 1, ..long };
    let call = IMarket::orderCall { terms: to_itself }.abi_encode();
    fair.world.must(washer, MARKET, 500_000 * 7200, call);
    for _ in 0..1201 {
        fair.world.block_after(3000, &[]);
    }
    fair.touch(1);
    // Half a CPU and a GiB are 628 thousandths of a unit.
    let price = (500_u128 * 3600 * 1000).div_ceil(628);
    let own = index(&fair);
    assert_eq!((own.price, own.accounts, own.weight), (price, 1, U256::from(500 * 3600)));
    assert!(own.moveAccounts >= 1 && !own.moveBurned.is_zero());
    fair.touch(2);
    assert_eq!(index(&fair).price, price, "another region's leases are none of this one's");
    let other = fair.world.view(MARKET, IMarket::indexCall { region: 0, runtime: 0 });
    assert_eq!((other.price, other.accounts), ((500_000_u128 * 3600 * 1000).div_ceil(628), 1));
}
