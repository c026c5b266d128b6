//! Lose a host: who says so, what it costs whom, and where its replica goes.

use alloy_primitives::{B256, Bytes, U256};
use alloy_sol_types::{SolCall, SolError};
use hodei_types::{
    abi::{
        self, ILeases,
        IMarket::{self, Order},
        LEASES, MARKET,
    },
    market::{DEPUTY_SECS, LEASE_SECS_MIN, SUSPECT_MS},
};

use super::{
    market::{Fair, offer, register, terms},
    world::{CHAIN, COIN, Host, events, params},
};
use crate::execute::{Applied, Params};

pub(super) const SUSPECT_SECS: u64 = SUSPECT_MS / 1000;

/// Three hosts at 500, 1,000 and 1,500 wei a second, and windows of a day.
fn fair() -> Fair {
    Fair::with(Params { window_ms: 86_400_000, ..params() }, [offer(1), offer(2), offer(3)])
}

impl Fair {
    /// Waits for the next round, and until its watchers are known.
    pub(super) fn round(&mut self) -> u64 {
        let first = self.world.view(LEASES, ILeases::roundCall {}).index;
        while self.world.view(LEASES, ILeases::roundCall {}).index == first {
            self.world.idle(1);
        }
        self.world.idle(1);
        first + 1
    }

    fn watchers(&self, lease: u64, round: u64) -> Vec<B256> {
        self.world.view(LEASES, ILeases::watchersCall { lease, round })
    }

    /// Sends what those of these hosts sign that watch the lease, as of that generation.
    pub(super) fn accuse(&mut self, lease: u64, generation: u64, round: u64, hosts: &[usize]) -> Applied {
        let statement = abi::unreachable_statement(CHAIN, lease, generation, round);
        let sign = |node: B256| {
            let signs = hosts.iter().map(|i| &self.hosts[*i]).find(|host| host.node == node);
            signs.map(|host| host.sign(&statement)).unwrap_or_default()
        };
        let signatures = self.watchers(lease, round).into_iter().map(sign).collect();
        let call = ILeases::unreachableCall { lease, round, signatures };
        let applied = self.world.send(self.tenant.address, LEASES, 0, call.abi_encode());
        self.world.audit();
        applied
    }

    /// Has the host of a lease shown as lost by its two watchers, and waits until it is.
    pub(super) fn lose(&mut self, lease: u64) -> Applied {
        let round = self.round();
        let accused = self.accuse(lease, 0, round, &[0, 1, 2]);
        assert!(accused.success, "reverted with {}", accused.output);
        self.world.idle(SUSPECT_SECS);
        self.touched(lease)
    }

    pub(super) fn alive(&mut self, lease: u64, generation: u64, from: usize, signature: Bytes) -> Applied {
        let from = self.hosts[from].operator.address;
        let call = ILeases::aliveCall { lease, generation, signature };
        let applied = self.world.send(from, LEASES, 0, call.abi_encode());
        self.world.audit();
        applied
    }
}

#[test]
fn an_unreachable_host_is_paid_no_further_and_its_replica_goes_on_with_another() {
    let mut fair = fair();
    let escrow = 500 * 7200;
    let order = fair.must(terms(1), escrow);
    let round = fair.round();
    let accused = fair.accuse(1, 0, round, &[1]);
    assert_eq!(accused.output[..], ILeases::BadSignatures { right: 1, needed: 2 }.abi_encode()[..]);
    let accused = fair.accuse(1, 0, round, &[1, 2]);
    let suspected = &events::<ILeases::Suspected>(&accused.logs)[0];
    let now_ms = fair.world.env.time_ms / 1000 * 1000;
    assert_eq!((suspected.generation, suspected.watchers.len()), (1, 2));
    let lease = fair.lease(1);
    assert_eq!((lease.lostMs, suspected.lostMs), (now_ms + SUSPECT_MS, now_ms + SUSPECT_MS));
    // Another runs the same at once, out of the same escrow.
    let deputed = &events::<ILeases::Deputed>(&accused.logs)[0];
    let part = 1000 * u128::from(DEPUTY_SECS);
    assert_eq!((deputed.deputy, deputed.escrow, lease.left), (2, U256::from(part), escrow - part));
    let deputy = fair.lease(2);
    assert_eq!((deputy.deputyOf, deputy.node, deputy.rate, deputy.left), (1, fair.hosts[1].node, 1000, part));
    assert_eq!(fair.world.view(MARKET, IMarket::placedCall { id: order }).leases, [1, 2]);
    let again = fair.accuse(1, 1, round, &[1, 2]);
    assert_eq!(again.output[..], ILeases::AlreadySuspect { lease: 1 }.abi_encode()[..]);
    // What it is owed stands still, and is paid once.
    fair.world.idle(50);
    assert_eq!(fair.lease(1).owed, lease.owed);
    let before = fair.world.balance(fair.hosts[0].operator.address);
    fair.touched(1);
    let paid = lease.owed - lease.owed / 100;
    assert_eq!(fair.world.balance(fair.hosts[0].operator.address), before + U256::from(paid));
    assert_eq!((fair.lease(1).state, fair.lease(1).left), (1, escrow - part - lease.owed));
    fair.world.idle(SUSPECT_SECS - 54);
    fair.touched(1);
    assert_eq!(fair.lease(1).state, 1, "a second is left");

    let late = fair.alive(1, 1, 0, Bytes::new());
    assert_eq!(late.output[..4], ILeases::TooLate::SELECTOR);
    let before = fair.world.balance(fair.hosts[0].operator.address);
    let lost = fair.touched(1);
    assert_eq!(fair.world.balance(fair.hosts[0].operator.address), before, "not a second more");
    let watched = events::<ILeases::Watched>(&lost.logs);
    assert_eq!(watched.iter().map(|one| one.amount).collect::<Vec<_>>(), [U256::from(5000); 2]);
    let left = escrow - part - lease.owed - 10_000;
    let ended = &events::<ILeases::Ended>(&lost.logs)[0];
    assert_eq!((ended.by, ended.refund, ended.penalty), (4, U256::from(left % 1000), U256::ZERO));
    let replaced = &events::<ILeases::Replaced>(&lost.logs)[0];
    assert_eq!((replaced.next, replaced.escrow), (2, U256::from(left - left % 1000)));
    let next = fair.lease(2);
    assert_eq!((next.node, next.rate, next.left), (fair.hosts[1].node, 1000, part + left - left % 1000));
    assert_eq!((next.deputyOf, next.paidSecs), (0, 0));
    assert!(next.owed >= 1000 * u128::from(SUSPECT_SECS), "it ran all the time");
    assert_eq!((next.order, next.replica, next.state, next.lostMs, next.workload), (order, 0, 1, 0, lease.workload));
    let placed = fair.world.view(MARKET, IMarket::placedCall { id: order });
    assert_eq!((placed.state, placed.leases, placed.lost), (2, vec![2], vec![fair.hosts[0].node]));
    assert_eq!((fair.host(0).leases, fair.host(0).free, fair.host(1).leases), (0, offer(1).capacity, 1));
    // The owner ends what goes on, and nothing is left.
    fair.world.must(fair.tenant.address, LEASES, 0, ILeases::endCall { leases: vec![2] }.abi_encode());
    assert_eq!(fair.world.balance(LEASES), U256::ZERO);
    assert_eq!(fair.world.view(MARKET, IMarket::placedCall { id: order }).state, 4);
    fair.world.audit();
}

#[test]
fn a_host_that_shows_itself_is_paid_on_and_the_third_refuted_accusation_costs_its_watchers() {
    let mut fair = fair();
    fair.must(terms(1), 500 * 7200);
    let signed =
        |fair: &Fair, host: usize, generation| fair.hosts[host].sign(&abi::alive_statement(CHAIN, 1, generation));
    let early = fair.alive(1, 0, 0, Bytes::new());
    assert_eq!(early.output[..], ILeases::NotSuspect { lease: 1 }.abi_encode()[..]);
    for generation in 1..=3 {
        let round = fair.round();
        assert!(fair.accuse(1, generation - 1, round, &[1, 2]).success);
        let wrong = fair.alive(1, generation - 1, 0, Bytes::new());
        assert_eq!(wrong.output[..4], ILeases::BadGeneration::SELECTOR);
        let other = signed(&fair, 1, generation);
        for (from, signature) in [(1, Bytes::new()), (0, other), (0, vec![1].into())] {
            let wrong = fair.alive(1, generation, from, signature);
            assert_eq!(wrong.output[..], ILeases::BadAlive {}.abi_encode()[..]);
        }
        assert_eq!(fair.host(1).collateral, U256::from(10 * COIN));
        // By its operator's account, or by anybody with the node's word.
        let (from, signature) = if generation == 2 { (1, signed(&fair, 0, 2)) } else { (0, Bytes::new()) };
        let shown = fair.alive(1, generation, from, signature);
        let refuted = &events::<ILeases::Refuted>(&shown.logs)[0];
        assert_eq!((refuted.generation, refuted.watchers.len()), (generation, 2));
        for host in [1, 2] {
            let node = fair.hosts[host].node;
            assert_eq!(fair.world.view(LEASES, ILeases::refutedCall { node }), generation);
        }
        // What they had signed is of no use again.
        let replayed = fair.accuse(1, generation - 1, round, &[1, 2]);
        assert_eq!(replayed.output[..], ILeases::BadSignatures { right: 0, needed: 2 }.abi_encode()[..]);
    }
    for host in [1, 2] {
        assert_eq!(fair.host(host).collateral, U256::from(10 * COIN - COIN / 10));
    }
    let lease = fair.lease(1);
    let age_secs = (fair.world.env.time_ms / 1000 * 1000 - lease.begunMs) / 1000;
    assert_eq!((lease.lostMs, lease.owed), (0, 500 * u128::from(age_secs)), "as if nobody had said anything");
    fair.world.idle(SUSPECT_SECS);
    fair.touched(1);
    assert_eq!(fair.lease(1).state, 1);
}

#[test]
fn a_deputy_ends_when_the_host_it_stands_in_for_returns_and_is_paid_for_a_minute_at_least() {
    let mut fair = fair();
    let escrow = 500 * 7200;
    let order = fair.must(terms(1), escrow);
    let round = fair.round();
    assert!(fair.accuse(1, 0, round, &[1, 2]).success);
    fair.world.idle(5);
    let shown = fair.alive(1, 1, 0, Bytes::new());
    let minute = 1000 * u128::from(LEASE_SECS_MIN);
    let rest = U256::from(1000 * u128::from(DEPUTY_SECS) - minute);
    let dismissed = &events::<ILeases::Dismissed>(&shown.logs)[0];
    assert_eq!((dismissed.lease, dismissed.deputy, dismissed.rest), (1, 2, rest));
    let ended = &events::<ILeases::Ended>(&shown.logs)[0];
    assert_eq!((ended.lease, ended.by, ended.refund), (2, 5, U256::ZERO));
    assert_eq!((fair.lease(1).left, fair.lease(2).state, fair.lease(2).deputyOf), (escrow - minute, 2, 0));
    assert_eq!((fair.host(1).leases, fair.host(1).free), (0, offer(2).capacity));
    // Its owner finds it among the order's leases, to see what it cost.
    let placed = fair.world.view(MARKET, IMarket::placedCall { id: order });
    assert_eq!((placed.leases, placed.lost), (vec![1, 2], Vec::new()));
    // The next time another stands in, and goes on when the owner ends what is suspect.
    let round = fair.round();
    assert!(fair.accuse(1, 1, round, &[1, 2]).success);
    assert_eq!(fair.lease(3).deputyOf, 1);
    let end = ILeases::endCall { leases: vec![1] }.abi_encode();
    let ended = fair.world.must(fair.tenant.address, LEASES, 0, end);
    assert_eq!(events::<ILeases::Replaced>(&ended.logs)[0].next, 3);
    assert_eq!((fair.lease(1).state, fair.lease(3).state, fair.lease(3).deputyOf), (2, 1, 0));
    assert_eq!(fair.world.view(MARKET, IMarket::placedCall { id: order }).leases, [3]);
    let end = ILeases::endCall { leases: vec![3] }.abi_encode();
    fair.world.must(fair.tenant.address, LEASES, 0, end);
    assert_eq!(fair.world.balance(LEASES), U256::ZERO);
    assert_eq!(fair.world.view(MARKET, IMarket::placedCall { id: order }).state, 4);
    fair.world.audit();
}

#[test]
fn a_deputy_that_is_lost_itself_leaves_its_part_to_whom_it_stood_in_for() {
    let mut fair = fair();
    let escrow = 500 * 7200;
    fair.must(terms(1), escrow);
    let round = fair.round();
    assert!(fair.accuse(1, 0, round, &[1, 2]).success);
    let round = fair.round();
    assert!(fair.accuse(2, 0, round, &[0, 2]).success);
    assert_eq!(fair.lease(2).deputyOf, 1, "a deputy has none itself");
    assert_eq!(fair.world.view(LEASES, ILeases::countCall {}), 2);
    // Whoever touches the deputy first has the other judged: it is lost, and the deputy goes on until it is lost too.
    fair.world.idle(SUSPECT_SECS);
    let lost = fair.touched(2);
    let replaced: Vec<_> = events::<ILeases::Replaced>(&lost.logs).iter().map(|one| (one.lease, one.next)).collect();
    assert_eq!(replaced, [(1, 2), (2, 3)]);
    assert_eq!((fair.lease(1).state, fair.lease(2).state, fair.lease(3).state), (2, 2, 1));
    assert_eq!(fair.lease(3).node, fair.hosts[2].node);
    fair.world.audit();
}

#[test]
fn what_fits_no_other_host_within_the_terms_goes_back_to_its_owner() {
    let mut fair = fair();
    let spread = Order { perHost: 1, priceMax: 1000 * 3600, ..terms(2) };
    let order = fair.must(spread, 1500 * 3600);
    let placed = |fair: &Fair| fair.world.view(MARKET, IMarket::placedCall { id: order });
    assert_eq!(placed(&fair).leases, [1, 2]);
    let lost = fair.lose(1);
    let ended = &events::<ILeases::Ended>(&lost.logs)[0];
    assert!(events::<ILeases::Replaced>(&lost.logs).is_empty(), "one has one already, the other asks more");
    assert_eq!((ended.by, fair.lease(1).state, fair.lease(2).state), (4, 2, 1));
    assert!(ended.refund > U256::from(500 * 3000));
    assert_eq!((placed(&fair).state, placed(&fair).leases), (2, vec![1, 2]));
    // The first was lost once: it does not get what the second loses.
    let lost = fair.lose(2);
    assert!(events::<ILeases::Replaced>(&lost.logs).is_empty());
    assert_eq!(placed(&fair).lost, [fair.hosts[0].node, fair.hosts[1].node]);
    assert_eq!((placed(&fair).state, fair.world.balance(LEASES)), (4, U256::ZERO));
}

#[test]
fn watchers_are_of_other_operators_and_nobody_who_comes_in_a_round_changes_them() {
    let mut fair = fair();
    // Three more of the second operator.
    let more: Vec<_> = (4..=6).map(|n| Host::new(n, fair.hosts[1].operator)).collect();
    for host in &more {
        fair.world.must(host.operator.address, MARKET, 2 * COIN, register(host, offer(9)));
    }
    fair.must(terms(1), 500 * 7200);
    let node = fair.hosts[2].node;
    let seconds: Vec<B256> = more.iter().map(|host| host.node).chain([fair.hosts[1].node]).collect();
    let mut seen = Vec::new();
    for _ in 0..12 {
        let round = fair.round();
        let nodes = fair.watchers(1, round);
        assert_eq!(nodes.len(), 2, "of two other operators");
        assert_eq!(nodes.iter().filter(|one| seconds.contains(one)).count(), 1);
        assert!(nodes.contains(&node));
        seen.extend(nodes);
    }
    assert!(seconds.iter().filter(|one| seen.contains(one)).count() > 1, "it is drawn");
    let round = fair.round();
    let nodes = fair.watchers(1, round);
    let of_all = fair.world.view(LEASES, ILeases::watchersOfCall { leases: vec![1], round });
    assert_eq!(of_all, std::slice::from_ref(&nodes));
    let late = Host::new(7, fair.hosts[1].operator);
    fair.world.must(late.operator.address, MARKET, 2 * COIN, register(&late, offer(9)));
    assert_eq!(fair.watchers(1, round), nodes);
    // An owner's hosts watch none of its leases, and a lease that began in a round has no watchers in it.
    let owner = fair.hosts[2].operator.address;
    let own = IMarket::orderCall { terms: terms(1) }.abi_encode();
    fair.world.must(owner, MARKET, 500 * 7200, own);
    assert!(fair.watchers(2, round).is_empty());
    let next = fair.round();
    let nodes = fair.watchers(2, next);
    assert!(nodes.len() == 1 && nodes[0] != node);
    let accused = fair.accuse(2, 0, next, &[0, 1, 2]);
    assert_eq!(accused.output[..4], ILeases::BadSignatures::SELECTOR, "one is not enough");
    for given in [next + 1, next - 2] {
        let call = ILeases::unreachableCall { lease: 1, round: given, signatures: Vec::new() };
        let refused = fair.world.send(owner, LEASES, 0, call.abi_encode());
        assert_eq!(refused.output[..], ILeases::BadRound { given, now: next }.abi_encode()[..]);
    }
    // Who retired watches nobody; what was seen in the round before is still told.
    fair.world.must(owner, MARKET, 0, IMarket::retireCall { node }.abi_encode());
    assert!(!fair.watchers(1, next).contains(&node));
    assert!(!fair.watchers(1, next - 1).is_empty());
    fair.world.audit();
}
