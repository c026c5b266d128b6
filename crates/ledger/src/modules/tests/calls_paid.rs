//! Let a lease on call run: what keeping it costs, what vouchers pay, and whose are worth nothing.

use alloy_primitives::{Bytes, TxKind, U256};
use alloy_sol_types::{SolCall, SolError};
use hodei_types::{
    abi::{
        self, BUDGETS, IBudgets, ILeases,
        IMarket::{self, Capacity, Offer, Order},
        LEASES, MARKET,
    },
    ethereum::GAS_PER_TX_MAX,
    market::{ON_CALL_LEASES_MAX, call_price},
};

use super::{
    market::{Fair, offer, register, terms},
    world::{CHAIN, COIN, Host, Person, World, events, limit_gas},
};
use crate::execute::Applied;

/// Half a CPU costs 500,000 wei a second at the cheapest host, and a thousandth of that to keep.
const RATE: u128 = 500_000;
const KEEP: u128 = 500;
/// Keeping for ten minutes, to the wei.
const ESCROW: u128 = 300_000;

fn fair() -> Fair {
    Fair::new([offer(1000), offer(2000), offer(3000)])
}

fn on_call(replicas: u8) -> Order {
    Order { class: 3, ..terms(replicas) }
}

fn voucher(signer: &Person, lease: u64, total: u128) -> Vec<u8> {
    let signature = signer.sign(&abi::voucher_statement(CHAIN, lease, total));
    ILeases::claimCall { lease, total, signature }.abi_encode()
}

impl Fair {
    /// Somebody who is no side of it sends a voucher.
    fn claim(&mut self, signer: &Person, lease: u64, total: u128) -> Applied {
        let stranger = self.hosts[2].operator.address;
        let applied = self.world.send(stranger, LEASES, 0, voucher(signer, lease, total));
        self.world.audit();
        applied
    }
}

fn paid(applied: &Applied) -> U256 {
    assert!(applied.success, "reverted with {}", applied.output);
    ILeases::claimCall::abi_decode_returns(&applied.output).unwrap()
}

#[test]
fn what_is_on_call_takes_no_room_and_streams_a_thousandth() {
    let mut fair = fair();
    // Two CPUs are on offer; of what runs four replicas would fill them, and here are five.
    fair.must(on_call(5), 5 * ESCROW);
    assert_eq!((fair.host(0).leases, fair.host(0).free), (5, offer(1000).capacity));
    let lease = fair.lease(1);
    assert_eq!((lease.rate, lease.callRate, lease.left, lease.claimed), (KEEP, RATE, ESCROW, 0));
    assert_eq!(lease.untilMs, lease.begunMs + 600_000);
    assert_eq!(fair.world.view(MARKET, IMarket::placedCall { id: 1 }).order.class, 3);
    let quoted = fair.world.view(MARKET, IMarket::quoteCall { terms: on_call(1) });
    assert_eq!(quoted[0].rate, RATE, "priced as what runs now");
    // It is there where a replica that runs would find no room, but not where none ever could.
    let most = Capacity { cpuMilli: 1900, ..terms(1).each };
    fair.must(Order { each: most, ..terms(1) }, 1_900_000 * 600);
    let quoted = fair.world.view(MARKET, IMarket::quoteCall { terms: on_call(1) });
    assert_eq!(quoted[0].node, fair.hosts[0].node);
    let huge = Order { each: Capacity { cpuMilli: 2001, ..terms(1).each }, ..on_call(1) };
    let refused = fair.order(huge, COIN);
    assert_eq!(refused.output[..], IMarket::NoFit { placed: 0, wanted: 1 }.abi_encode()[..]);
    // Its end gives back no room that it never took.
    let owner = fair.tenant.address;
    let free = fair.host(0).free;
    fair.world.must(owner, LEASES, 0, ILeases::endCall { leases: vec![1, 2] }.abi_encode());
    assert_eq!((fair.host(0).leases, fair.host(0).free), (4, free));
    fair.world.audit();
}

#[test]
fn a_host_keeps_only_so_many_leases_on_call() {
    let mut fair = fair();
    let cheapest = |fair: &Fair, terms| fair.world.view(MARKET, IMarket::quoteCall { terms })[0].node;
    for _ in 0..ON_CALL_LEASES_MAX / 32 - 1 {
        fair.must(on_call(32), 32 * ESCROW);
    }
    // All but one of what it may have; the next order finds one place there, and goes on elsewhere.
    fair.must(on_call(31), 31 * ESCROW);
    assert_eq!((fair.host(0).leases, cheapest(&fair, on_call(1))), (ON_CALL_LEASES_MAX - 1, fair.hosts[0].node));
    fair.must(on_call(2), 2 * 3 * ESCROW);
    assert_eq!((fair.host(0).leases, fair.host(1).leases), (ON_CALL_LEASES_MAX, 1));
    assert_eq!(cheapest(&fair, on_call(1)), fair.hosts[1].node);
    assert_eq!(cheapest(&fair, terms(1)), fair.hosts[0].node, "what runs always has its room still");
}

#[test]
fn a_voucher_pays_what_is_new_in_it_out_of_what_keeping_leaves() {
    let mut fair = fair();
    let (tenant, operator) = (fair.tenant, fair.hosts[0].operator.address);
    fair.must(on_call(1), ESCROW);
    let before = fair.world.balance(operator);
    fair.world.idle(9);
    // Ten calls, in the tenth second.
    let calls = 10 * call_price(RATE, 0);
    assert_eq!(calls, 10_000);
    let applied = fair.claim(&tenant, 1, calls);
    assert_eq!(paid(&applied), U256::from(calls));
    let claimed = &events::<ILeases::Claimed>(&applied.logs)[0];
    assert_eq!((claimed.claimed, claimed.amount, claimed.burned), (calls, U256::from(9_900), U256::from(100)));
    assert_eq!((claimed.operator, claimed.owner, claimed.node), (operator, tenant.address, fair.hosts[0].node));
    assert_eq!(fair.world.balance(operator), before + U256::from(9_900 + 4_950), "and what keeping costs");
    assert_eq!((fair.lease(1).left, fair.lease(1).claimed), (ESCROW - calls - 10 * KEEP, calls));
    // Again it pays nothing but what keeping costs since.
    assert_eq!(paid(&fair.claim(&tenant, 1, calls)), U256::ZERO);
    assert_eq!((fair.lease(1).left, fair.lease(1).claimed), (ESCROW - calls - 11 * KEEP, calls));
    let less = fair.claim(&tenant, 1, calls - 1);
    let stale = ILeases::StaleVoucher { total: calls - 1, claimed: calls };
    assert_eq!(less.output[..], stale.abi_encode()[..]);
    assert_eq!(paid(&fair.claim(&tenant, 1, calls + 1)), U256::from(1), "of one wei nothing is left to the host");
    assert_eq!(fair.world.balance(LEASES), U256::from(fair.lease(1).left));
}

#[test]
fn whose_voucher_it_is_not_pays_nothing() {
    let mut fair = fair();
    let (owner, spender) = (fair.tenant, Person::new(30));
    fair.must(on_call(1), ESCROW);
    fair.must(terms(1), RATE * 600);
    let refused = |applied: Applied, error: Vec<u8>| assert_eq!(applied.output[..], error[..]);
    let bad = ILeases::BadVoucher { owner: owner.address }.abi_encode();
    let host = fair.hosts[0].operator;
    refused(fair.claim(&host, 1, 1000), bad.clone());
    refused(fair.claim(&spender, 1, 1000), bad.clone());
    refused(fair.claim(&owner, 2, 1000), ILeases::NotOnCall { lease: 2 }.abi_encode());
    refused(fair.claim(&owner, 3, 1000), ILeases::UnknownLease { lease: 3 }.abi_encode());
    // One for another lease, and none.
    let other = owner.sign(&abi::voucher_statement(CHAIN, 2, 1000));
    for signature in [other, Bytes::new(), vec![27; 65].into()] {
        let call = ILeases::claimCall { lease: 1, total: 1000, signature }.abi_encode();
        refused(fair.world.send(host.address, LEASES, 0, call), bad.clone());
    }
    assert_eq!(fair.lease(1).claimed, 0);
    // A budget signs for its owner as long as it is his.
    let consent = spender.sign(&abi::spender_consent(CHAIN, owner.address, spender.address));
    let call = IBudgets::registerCall { spender: spender.address, consent }.abi_encode();
    fair.world.must(owner.address, BUDGETS, COIN, call);
    assert_eq!(paid(&fair.claim(&spender, 1, 1000)), U256::from(1000));
    let release = IBudgets::releaseCall { spender: spender.address }.abi_encode();
    fair.world.must(owner.address, BUDGETS, 0, release);
    refused(fair.claim(&spender, 1, 2000), bad);
    // After the end there is nothing to claim, whoever signed.
    fair.world.must(owner.address, LEASES, 0, ILeases::endCall { leases: vec![1] }.abi_encode());
    refused(fair.claim(&owner, 1, 2000), ILeases::NotRunning { lease: 1 }.abi_encode());
}

#[test]
fn calls_and_keeping_share_an_escrow_that_neither_overdraws() {
    let mut fair = fair();
    let tenant = fair.tenant;
    let operator = fair.hosts[0].operator.address;
    fair.must(on_call(1), ESCROW);
    let before = fair.world.balance(operator);
    // In the first second: keeping is paid first, and all that is left goes to calls.
    let rest = ESCROW - KEEP;
    assert_eq!(paid(&fair.claim(&tenant, 1, u128::MAX)), U256::from(rest));
    let lease = fair.lease(1);
    assert_eq!((lease.left, lease.claimed, lease.owed, lease.state), (0, rest, 0, 1));
    assert_eq!(fair.world.balance(LEASES), U256::ZERO);
    // 5 wei of keeping were burned, and 2,995 of calls.
    assert_eq!(fair.world.balance(operator), before + U256::from(ESCROW - 5 - 2_995));
    assert_eq!(paid(&fair.claim(&tenant, 1, u128::MAX)), U256::ZERO);
    let ended = events::<ILeases::Ended>(&fair.touched(1).logs);
    assert_eq!((ended[0].by, ended[0].refund), (3, U256::ZERO));
    // What calls took, keeping has no more: its end comes earlier, and its last part of a second goes back.
    fair.must(on_call(1), ESCROW);
    assert_eq!(paid(&fair.claim(&tenant, 2, ESCROW - 2 * KEEP - 7)), U256::from(ESCROW - 2 * KEEP - 7));
    assert_eq!(fair.lease(2).untilMs, fair.lease(2).begunMs + 2_000);
    fair.world.idle(5);
    let ended = events::<ILeases::Ended>(&fair.touched(2).logs);
    assert_eq!((ended[0].by, ended[0].refund), (3, U256::from(7)));
    assert_eq!(fair.world.balance(LEASES), U256::ZERO);
}

#[test]
fn a_host_that_ends_what_it_keeps_loses_an_hour_of_keeping_at_most() {
    let mut fair = fair();
    let tenant = fair.tenant;
    fair.must(on_call(1), ESCROW);
    assert_eq!(paid(&fair.claim(&tenant, 1, 10_000)), U256::from(10_000));
    // Renewed it pays for whole seconds of keeping, of which calls take what they cost.
    let renew = ILeases::renewCall { lease: 1 }.abi_encode();
    fair.world.must(tenant.address, LEASES, 10 * KEEP, renew);
    let lease = fair.lease(1);
    assert_eq!(lease.left, ESCROW - 10_000 - KEEP + 10 * KEEP);
    // Its host ends it: an hour of keeping is what it loses at most, and room it had none.
    let quit = ILeases::quitCall { leases: vec![1] }.abi_encode();
    let operator = fair.hosts[0].operator.address;
    let ended = &events::<ILeases::Ended>(&fair.world.must(operator, LEASES, 0, quit).logs)[0];
    assert_eq!((ended.by, ended.penalty), (2, ended.refund), "less than an hour was left");
    assert_eq!((fair.host(0).leases, fair.host(0).free), (0, offer(1000).capacity));
    fair.world.audit();
}

#[test]
fn the_largest_order_on_call_fits_one_transaction() {
    let people = [1, 2, 3, 4].map(Person::new);
    let mut world = World::new(&people.map(|person| person.address));
    let tenant = people[0].address;
    for n in 1..=80 {
        let host = Host::new(n, people[usize::from(n) % 3 + 1]);
        let offer = Offer { network: format!("as{n}"), ..offer(1000) };
        let mut tx =
            world.tx(host.operator.address, TxKind::Call(MARKET), U256::from(2 * COIN), register(&host, offer));
        limit_gas(&mut tx, 2_000_000);
        assert!(world.block_after(1000, &[tx]).remove(0).unwrap().success);
    }
    for per_host in [1, 0] {
        let terms = Order { perHost: per_host, perNetwork: 64, perOperator: 64, collateralMin: COIN, ..on_call(64) };
        let data = IMarket::orderCall { terms }.abi_encode();
        let mut tx = world.tx(tenant, TxKind::Call(MARKET), U256::from(COIN), data);
        limit_gas(&mut tx, GAS_PER_TX_MAX);
        let applied = world.block_after(1000, &[tx]).remove(0).unwrap();
        assert!(applied.success, "{} gas: {}", applied.gas_used, applied.output);
        assert!(applied.gas_used < GAS_PER_TX_MAX * 9 / 10, "{} gas leave no margin", applied.gas_used);
    }
    world.audit();
    assert_eq!(world.view(LEASES, ILeases::countCall {}), 128);
}
