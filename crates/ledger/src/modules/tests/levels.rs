//! Promise a service level: what a lease binds, what breaks it, and whom it pays.

use alloy_primitives::{Bytes, U256};
use alloy_sol_types::{SolCall, SolError};
use hodei_types::{
    abi::{
        ILeases,
        ILevels::{self, Level},
        IMarket::{self, Order},
        LEASES, LEVELS,
    },
    market::Breach,
};

use super::{
    market::{Fair, offer, terms},
    world::{COIN, events, params},
};
use crate::execute::{Applied, Params};

/// Escrow of two hours at the first host.
const DEPOSIT: u128 = 500 * 7200;
/// A tenth of ten minutes at the first host.
const PAY: u128 = 500 * 600 / 10;

/// Three nines of a day, in which 86.4 seconds may be missing.
fn level() -> Level {
    Level { availabilityBp: 9_990, startSecs: 30, restoreSecs: 300, payBp: 1_000 }
}

/// A replica of which three nines are asked.
fn asks(replicas: u8) -> Order {
    Order { availabilityMinBp: 9_990, ..terms(replicas) }
}

/// Three hosts at 500, 1,000 and 1,500 wei a second, windows of a day, and these levels with a coin of bond each.
fn fair(levels: &[Level]) -> Fair {
    let mut fair = Fair::with(Params { window_ms: 86_400_000, ..params() }, [offer(1), offer(2), offer(3)]);
    for (host, level) in levels.iter().enumerate() {
        fair.promise(host, *level, COIN);
    }
    fair
}

impl Fair {
    fn promise(&mut self, host: usize, level: Level, bond: u128) {
        let (node, operator) = (self.hosts[host].node, self.hosts[host].operator.address);
        self.world.must(operator, LEVELS, bond, ILevels::promiseCall { node, level }.abi_encode());
        self.world.audit();
    }

    fn bond(&self, host: usize) -> ILevels::Promise {
        self.world.view(LEVELS, ILevels::levelCall { node: self.hosts[host].node })
    }

    fn held(&self, lease: u64) -> ILevels::Held {
        self.world.view(LEVELS, ILevels::ofCall { leases: vec![lease] }).remove(0)
    }

    fn started(&mut self, host: usize, lease: u64) -> Applied {
        let operator = self.hosts[host].operator.address;
        let applied = self.world.send(operator, LEVELS, 0, ILevels::startedCall { leases: vec![lease] }.abi_encode());
        self.world.audit();
        applied
    }

    fn withdraw(&mut self, host: usize, amount: U256) -> Applied {
        let (node, operator) = (self.hosts[host].node, self.hosts[host].operator.address);
        self.world.send(operator, LEVELS, 0, ILevels::withdrawCall { node, amount }.abi_encode())
    }

    fn end_by_owner(&mut self, lease: u64) -> Applied {
        let call = ILeases::endCall { leases: vec![lease] }.abi_encode();
        self.world.must(self.tenant.address, LEASES, 0, call)
    }
}

/// Of each breach its lease, kind, seconds and wei.
fn breaches(applied: &Applied) -> Vec<(u64, Breach, u64, u128)> {
    let told = events::<ILevels::Breached>(&applied.logs).into_iter();
    told.map(|one| (one.lease, Breach::of(one.kind).unwrap(), one.secs, one.amount.saturating_to())).collect()
}

#[test]
fn a_lease_that_asks_goes_where_it_is_promised_and_binds_its_part_of_the_bond_until_it_ends() {
    let mut fair = fair(&[]);
    let refused = fair.order(asks(1), DEPOSIT);
    assert_eq!(refused.output[..], IMarket::NoFit { placed: 0, wanted: 1 }.abi_encode()[..], "nobody promises");
    fair.promise(1, Level { availabilityBp: 9_989, ..level() }, COIN);
    assert!(!fair.order(asks(1), DEPOSIT).success, "less is promised than asked");
    fair.promise(1, level(), 0);
    assert_eq!((fair.bond(1).bond, fair.bond(1).bound), (U256::from(COIN), U256::ZERO));
    fair.must(asks(1), DEPOSIT);
    assert_eq!(fair.lease(1).node, fair.hosts[1].node, "not the cheapest, who promises nothing");
    let held = fair.held(1);
    assert_eq!((held.level, held.bound, held.startedMs), (level(), U256::from(2 * PAY), 0));
    assert_eq!(held.startUntilMs, fair.lease(1).begunMs + 30_000);
    assert_eq!(fair.bond(1).bound, U256::from(2 * PAY));
    // What is promised later is of later leases.
    fair.promise(1, Level { payBp: 1, ..level() }, 0);
    assert_eq!((fair.held(1).level, fair.held(1).bound), (level(), U256::from(2 * PAY)));
    let free = U256::from(COIN - 2 * PAY);
    let refused = fair.withdraw(1, free + U256::ONE);
    assert_eq!(refused.output[..], ILevels::BondBound { free }.abi_encode()[..]);
    assert!(fair.withdraw(1, U256::MAX).success);
    assert_eq!((fair.bond(1).bond, fair.world.balance(LEVELS)), (U256::from(2 * PAY), U256::from(2 * PAY)));
    assert!(breaches(&fair.started(1, 1)).is_empty());
    assert!(breaches(&fair.end_by_owner(1)).is_empty());
    assert_eq!((fair.bond(1).bound, fair.held(1).bound), (U256::ZERO, U256::ZERO));
    assert!(fair.withdraw(1, U256::MAX).success);
    assert_eq!(fair.world.balance(LEVELS), U256::ZERO);
    fair.world.audit();
    // Who promises nothing more gets no lease that asks.
    fair.promise(1, Level::default(), COIN);
    assert!(!fair.order(asks(1), DEPOSIT).success);
    // Who asks for nothing has no level, and binds nothing.
    fair.must(terms(1), DEPOSIT);
    assert_eq!(fair.held(2).level, Level::default());
    assert_eq!(fair.started(0, 2).output[..], ILevels::NoLevel { lease: 2 }.abi_encode()[..]);
}

#[test]
fn a_bond_backs_no_lease_beyond_itself() {
    let mut fair = fair(&[]);
    fair.promise(0, level(), 2 * PAY - 1);
    let refused = fair.order(asks(2), 2 * DEPOSIT);
    assert_eq!(refused.output[..], IMarket::NoFit { placed: 1, wanted: 2 }.abi_encode()[..]);
    fair.must(asks(1), DEPOSIT);
    assert!(!fair.order(asks(1), DEPOSIT).success);
    // Anybody may add to it.
    let node = fair.hosts[0].node;
    fair.world.must(fair.tenant.address, LEVELS, 1, ILevels::bondCall { node }.abi_encode());
    fair.must(asks(1), DEPOSIT);
    assert_eq!((fair.bond(0).bond, fair.bond(0).bound), (U256::from(2 * PAY), U256::from(2 * PAY)));
    fair.end_by_owner(1);
    assert_eq!(fair.bond(0).bound, U256::from(PAY));
}

#[test]
fn a_lost_lease_pays_its_owner_once_its_replica_is_up_elsewhere() {
    let mut fair = fair(&[level(), level()]);
    fair.must(asks(1), DEPOSIT);
    fair.started(0, 1);
    let lost = fair.lose(1);
    assert!(breaches(&lost).is_empty(), "how long it is down is not known yet");
    assert_eq!(fair.lease(2).node, fair.hosts[1].node);
    assert_eq!((fair.bond(0).bound, fair.bond(1).bound), (U256::from(PAY), U256::from(2 * PAY)));
    let before = fair.world.balance(fair.tenant.address);
    // Accused, 120 seconds, the touch that lost it, and this.
    let up = fair.started(1, 2);
    assert_eq!(breaches(&up), [(1, Breach::Availability, 122, PAY)], "three nines of a day are 86 seconds");
    assert_eq!(fair.world.balance(fair.tenant.address) - before, U256::from(PAY));
    assert_eq!((fair.bond(0).bond, fair.bond(0).bound), (U256::from(COIN - PAY), U256::ZERO));
    assert_eq!((fair.bond(1).bond, fair.bond(1).bound), (U256::from(COIN), U256::from(2 * PAY)), "not the next host's");
    assert_eq!(fair.world.balance(LEVELS), U256::from(2 * COIN - PAY));
    assert!(breaches(&fair.end_by_owner(2)).is_empty());
}

#[test]
fn what_is_restored_too_late_is_told_and_what_is_bound_is_paid_once() {
    let mut fair = fair(&[Level { restoreSecs: 121, ..level() }, level()]);
    fair.must(asks(1), DEPOSIT);
    fair.started(0, 1);
    fair.lose(1);
    let up = fair.started(1, 2);
    assert_eq!(breaches(&up), [(1, Breach::Availability, 122, PAY), (1, Breach::Restore, 122, 0)]);
    // With ten percent to spare of the day, only the time to restore counts.
    let mut fair = self::fair(&[Level { availabilityBp: 9_000, restoreSecs: 121, ..level() }, level()]);
    fair.must(Order { availabilityMinBp: 9_000, ..terms(1) }, DEPOSIT);
    fair.started(0, 1);
    fair.lose(1);
    assert_eq!(breaches(&fair.started(1, 2)), [(1, Breach::Restore, 122, PAY)]);
    let mut fair = self::fair(&[Level { availabilityBp: 9_000, restoreSecs: 122, ..level() }, level()]);
    fair.must(Order { availabilityMinBp: 9_000, ..terms(1) }, DEPOSIT);
    fair.started(0, 1);
    fair.lose(1);
    assert!(breaches(&fair.started(1, 2)).is_empty(), "in time to the second");
    assert_eq!(fair.bond(0).bound, U256::ZERO);
}

#[test]
fn what_the_next_host_takes_beyond_its_own_promise_is_its_own_breach() {
    let mut fair = fair(&[Level { availabilityBp: 9_990, restoreSecs: 151, ..level() }, level()]);
    fair.must(asks(1), DEPOSIT);
    fair.started(0, 1);
    fair.lose(1);
    fair.world.idle(98);
    let before = fair.world.balance(fair.tenant.address);
    // The lost host's 121 seconds, and the 30 that the next one promised.
    let touched = fair.touched(2);
    assert_eq!(breaches(&touched), [(2, Breach::Start, 99, 2 * PAY), (1, Breach::Availability, 151, PAY)]);
    assert_eq!(fair.world.balance(fair.tenant.address) - before, U256::from(3 * PAY));
    assert!(breaches(&fair.started(1, 2)).is_empty(), "told once");
    assert!(breaches(&fair.touched(2)).is_empty());
}

#[test]
fn where_no_other_host_fits_it_is_judged_when_it_is_lost() {
    let mut fair = fair(&[level()]);
    fair.must(asks(1), DEPOSIT);
    fair.started(0, 1);
    let lost = fair.lose(1);
    assert_eq!(breaches(&lost), [(1, Breach::Availability, 121, PAY)]);
    assert!(events::<ILeases::Replaced>(&lost.logs).is_empty(), "nobody else promises");
    assert_eq!((fair.bond(0).bond, fair.bond(0).bound), (U256::from(COIN - PAY), U256::ZERO));
}

#[test]
fn a_bond_that_backs_a_minute_and_not_the_term_takes_over_nothing() {
    let mut fair = fair(&[level()]);
    // A wei less than the order's term asks for; the minute it would take over for asks for a tenth of that.
    fair.promise(1, level(), 2 * PAY - 1);
    fair.must(asks(1), DEPOSIT);
    let lost = fair.lose(1);
    assert!(lost.success && events::<ILeases::Replaced>(&lost.logs).is_empty());
    assert_eq!(events::<ILeases::Ended>(&lost.logs)[0].by, 4);
    assert_eq!((fair.bond(1).bond, fair.bond(1).bound), (U256::from(2 * PAY - 1), U256::ZERO));
    fair.world.audit();
}

#[test]
fn who_shows_itself_within_the_grace_loses_nothing_and_who_answers_late_was_down() {
    // Nine seconds of a day may be missing.
    let mut fair = fair(&[Level { availabilityBp: 9_999, ..level() }]);
    fair.must(asks(1), DEPOSIT);
    fair.started(0, 1);
    for generation in 0..3 {
        let round = fair.round();
        assert!(fair.accuse(1, generation, round, &[1, 2]).success);
        fair.world.idle(29);
        assert!(breaches(&fair.alive(1, generation + 1, 0, Bytes::new())).is_empty(), "as much as two liars can do");
    }
    let round = fair.round();
    assert!(fair.accuse(1, 3, round, &[1, 2]).success);
    fair.world.idle(36);
    let shown = fair.alive(1, 4, 0, Bytes::new());
    assert!(shown.success && breaches(&shown).is_empty());
    assert_eq!(fair.held(1).downMs, 7_000, "beyond the grace");
    let round = fair.round();
    assert!(fair.accuse(1, 4, round, &[1, 2]).success);
    fair.world.idle(31);
    let shown = fair.alive(1, 5, 0, Bytes::new());
    assert_eq!(breaches(&shown), [(1, Breach::Availability, 9, PAY)], "seven and two of one window");
    // Ending it while it is accused is showing itself too.
    let mut fair = self::fair(&[Level { availabilityBp: 9_999, ..level() }]);
    fair.must(asks(1), DEPOSIT);
    fair.started(0, 1);
    let round = fair.round();
    assert!(fair.accuse(1, 0, round, &[1, 2]).success);
    fair.world.idle(99);
    let operator = fair.hosts[0].operator.address;
    let quit = fair.world.must(operator, LEASES, 0, ILeases::quitCall { leases: vec![1] }.abi_encode());
    assert_eq!(breaches(&quit), [(1, Breach::Availability, 70, PAY)]);
    fair.world.audit();
}

#[test]
fn who_takes_a_lease_up_late_or_not_at_all_pays_once() {
    let mut fair = fair(&[level()]);
    for lease in 1..=3 {
        fair.must(asks(1), DEPOSIT);
        assert_eq!(fair.held(lease).bound, U256::from(PAY));
        match lease {
            1 => {
                fair.world.idle(29);
                let started = fair.started(0, 1);
                assert!(breaches(&started).is_empty(), "in its last second");
                assert_eq!(events::<ILevels::Started>(&started.logs)[0].secs, 30);
                let again = fair.started(0, 1);
                assert!(again.success && events::<ILevels::Started>(&again.logs).is_empty());
            }
            2 => {
                fair.world.idle(30);
                let started = fair.started(0, 2);
                assert_eq!(breaches(&started), [(2, Breach::Start, 31, PAY)]);
            }
            _ => {
                fair.world.idle(29);
                assert!(breaches(&fair.touched(3)).is_empty());
                let before = fair.world.balance(fair.tenant.address);
                assert_eq!(breaches(&fair.touched(3)), [(3, Breach::Start, 31, PAY)]);
                assert_eq!(fair.world.balance(fair.tenant.address) - before, U256::from(PAY));
                assert!(breaches(&fair.started(0, 3)).is_empty());
            }
        }
        fair.end_by_owner(lease);
    }
    assert_eq!((fair.bond(0).bond, fair.bond(0).bound), (U256::from(COIN - 2 * PAY), U256::ZERO));
    fair.must(asks(1), DEPOSIT);
    fair.world.idle(30);
    assert_eq!(breaches(&fair.end_by_owner(4)), [(4, Breach::Start, 31, PAY)], "the end judges it too");
}

#[test]
fn an_operator_gets_nothing_for_breaches_of_its_own_leases() {
    let mut fair = fair(&[level()]);
    let operator = fair.hosts[0].operator.address;
    let order = IMarket::orderCall { terms: asks(1) }.abi_encode();
    fair.world.must(operator, hodei_types::abi::MARKET, DEPOSIT, order);
    fair.world.idle(40);
    let touched = fair.touched(1);
    assert_eq!(breaches(&touched), [(1, Breach::Start, 41, 0)]);
    assert_eq!((fair.bond(0).bond, fair.bond(0).bound), (U256::from(COIN), U256::from(PAY)), "it stays where it is");
    fair.world.must(operator, LEASES, 0, ILeases::endCall { leases: vec![1] }.abi_encode());
    assert_eq!((fair.bond(0).bond, fair.bond(0).bound), (U256::from(COIN), U256::ZERO));
    fair.world.audit();
}

#[test]
fn what_its_owner_ends_while_the_host_is_accused_is_not_judged() {
    let mut fair = fair(&[level(), level()]);
    fair.must(asks(1), DEPOSIT);
    fair.started(0, 1);
    let round = fair.round();
    assert!(fair.accuse(1, 0, round, &[1, 2]).success);
    fair.world.idle(118);
    assert!(breaches(&fair.end_by_owner(1)).is_empty());
    assert_eq!((fair.bond(0).bond, fair.bond(0).bound), (U256::from(COIN), U256::ZERO));
    // A second later it is lost, whether or not anybody said so.
    fair.must(asks(1), DEPOSIT);
    fair.started(0, 2);
    let round = fair.round();
    assert!(fair.accuse(2, 0, round, &[1, 2]).success);
    fair.world.idle(119);
    assert_eq!(breaches(&fair.end_by_owner(2)), [(2, Breach::Availability, 120, PAY)]);
    assert_eq!((fair.bond(0).bond, fair.bond(0).bound), (U256::from(COIN - PAY), U256::ZERO));
}

#[test]
fn a_promise_is_its_operators_and_within_the_limits() {
    let mut fair = fair(&[level()]);
    let (node, operator) = (fair.hosts[0].node, fair.hosts[0].operator.address);
    let stranger = fair.hosts[1].operator.address;
    let promise = |level| ILevels::promiseCall { node, level }.abi_encode();
    let refused = fair.world.send(stranger, LEVELS, 0, promise(level()));
    assert_eq!(refused.output[..], ILevels::NotOperator { operator }.abi_encode()[..]);
    let refused = fair.world.send(operator, LEVELS, 0, promise(Level { payBp: 0, ..level() }));
    assert_eq!(refused.output[..], ILevels::BadLevel { field: "payBp".to_owned() }.abi_encode()[..]);
    let refused = fair.world.send(stranger, LEVELS, 0, ILevels::withdrawCall { node, amount: U256::ONE }.abi_encode());
    assert_eq!(refused.output[..], ILevels::BondBound { free: U256::ZERO }.abi_encode()[..], "it has none of it");
    fair.must(asks(1), DEPOSIT);
    assert_eq!(fair.started(1, 1).output[..], ILevels::NotOperator { operator }.abi_encode()[..]);
    let nowhere = ILevels::bondCall { node: alloy_primitives::B256::repeat_byte(9) }.abi_encode();
    let refused = fair.world.send(stranger, LEVELS, 1, nowhere);
    assert_eq!(refused.output[..4], ILevels::NotOperator::SELECTOR);
    assert_eq!(fair.world.balance(LEVELS), U256::from(COIN));
    fair.world.audit();
}
