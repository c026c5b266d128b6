//! Show that limits hold and that no wei is counted twice.

use super::*;

const SECRET: [u8; 16] = [7; 16];
const NOW: u64 = 1_000_000;

fn wei(amount: u64) -> U256 {
    U256::from(amount)
}

fn node(byte: u8) -> B256 {
    B256::repeat_byte(byte)
}

fn pool(mode: Mode) -> Pool {
    let terms = Terms {
        mode,
        devices_max: 3,
        joins_per_minute: 2,
        space_bytes_max: 1000,
        collateral: wei(50),
        gas: wei(100),
        gas_per_day_max: wei(150),
        price_keep: wei(1),
        price_read: wei(1),
    };
    Pool::new("app".into(), Address::repeat_byte(9), SECRET, terms, 5)
}

fn join(pool: &mut Pool, byte: u8, now_s: u64) -> Result<(), Reason> {
    pool.join(node(byte), Address::repeat_byte(byte), &SECRET, 1000, now_s).map_err(|refusal| refusal.reason)
}

#[test]
fn who_has_the_word_joins_up_to_the_limits() {
    let mut pool = pool(Mode::Coins);
    let wrong = pool.join(node(1), Address::ZERO, &[8; 16], 10, NOW).unwrap_err();
    assert_eq!(wrong.reason, Reason::Secret);
    assert_eq!(pool.join(node(1), Address::ZERO, &SECRET, 1001, NOW).unwrap_err().reason, Reason::Limit);
    join(&mut pool, 1, NOW).unwrap();
    join(&mut pool, 2, NOW + 59).unwrap();
    assert_eq!(join(&mut pool, 3, NOW + 59), Err(Reason::Late));
    join(&mut pool, 2, NOW + 59).expect("it goes on where it broke off");
    join(&mut pool, 3, NOW + 60).expect("a minute later");
    assert_eq!(join(&mut pool, 4, NOW + 600), Err(Reason::Full));
    assert_eq!(pool.present(), 3);
    pool.not_enrolled(node(3));
    join(&mut pool, 4, NOW + 600).expect("the ledger refused another, which left no trace");
    assert_eq!(pool.devices.len(), 3);
}

#[test]
fn a_device_whose_join_broke_off_goes_on_with_the_new_word_and_not_with_the_old() {
    let mut pool = pool(Mode::Coins);
    join(&mut pool, 1, NOW).unwrap();
    pool.secret = [8; 16];
    let old = pool.join(node(1), Address::repeat_byte(1), &SECRET, 1000, NOW + 1).unwrap_err();
    assert!(old.reason == Reason::Secret && old.text.contains("the new one"), "{old}");
    pool.join(node(1), Address::repeat_byte(1), &[8; 16], 1000, NOW + 2).unwrap();
    assert_eq!((pool.devices.len(), pool.devices[&node(1)].joined_s), (1, NOW), "it is the device that it was");
}

#[test]
fn a_device_leaves_comes_back_and_keeps_its_credit_unless_it_was_removed() {
    let mut pool = pool(Mode::Coins);
    join(&mut pool, 1, NOW).unwrap();
    pool.enrolled(node(1));
    pool.paid(node(1), wei(11));
    pool.leave(node(1), false, NOW).unwrap();
    assert_eq!(join(&mut pool, 1, NOW), Err(Reason::Stranger), "deals are open still");
    pool.left(node(1));
    join(&mut pool, 1, NOW + 100).unwrap();
    assert_eq!(pool.devices[&node(1)].credit(), wei(11));
    pool.leave(node(1), true, NOW).unwrap();
    pool.left(node(1));
    assert_eq!(join(&mut pool, 1, NOW + 200), Err(Reason::Stranger));
    assert!(!pool.standing(node(1)).unwrap().is_member);
}

#[test]
fn gas_is_filled_up_within_a_day_s_allowance() {
    let mut pool = pool(Mode::Coins);
    join(&mut pool, 1, NOW).unwrap();
    assert_eq!(pool.fill(node(1), wei(0), NOW), wei(100));
    assert_eq!(pool.fill(node(1), wei(50), NOW), wei(0), "half is enough");
    assert_eq!(pool.fill(node(1), wei(10), NOW), wei(50), "what is left of today");
    assert_eq!(pool.fill(node(1), wei(0), NOW), wei(0));
    assert_eq!(pool.fill(node(1), wei(0), NOW - DAY_S), wei(0), "a clock set back opens nothing");
    assert_eq!(pool.fill(node(1), wei(0), NOW + DAY_S), wei(100));
    assert_eq!(pool.devices[&node(1)].gas, wei(250));
    assert_eq!(pool.fill(node(2), wei(0), NOW), wei(0), "a stranger");
}

#[test]
fn credit_is_given_once_in_coins() {
    let mut pool = pool(Mode::Coins);
    join(&mut pool, 1, NOW).unwrap();
    pool.paid(node(1), wei(30));
    pool.paid(node(2), wei(99));
    let to = Some(Address::repeat_byte(4));
    let ask = |pool: &mut Pool, amount| pool.redeem(node(1), amount, to, String::new(), NOW);
    assert_eq!(ask(&mut pool, Some(wei(31))).unwrap_err().reason, Reason::Credit);
    let (amount, payout) = ask(&mut pool, Some(wei(10))).unwrap();
    assert_eq!((amount, pool.devices[&node(1)].credit()), (wei(10), wei(20)));
    pool.settled(payout.unwrap().id, B256::ZERO);
    let lost = ask(&mut pool, None).unwrap().1.unwrap();
    assert_eq!(pool.devices[&node(1)].credit(), wei(0));
    pool.failed(lost.id);
    pool.failed(lost.id);
    assert_eq!(pool.devices[&node(1)].credit(), wei(20), "given back, once");
    pool.failed(1);
    assert_eq!(pool.devices[&node(1)].redeemed, wei(10), "what is settled stays");
    let nowhere = pool.redeem(node(1), None, None, String::new(), NOW).unwrap_err();
    assert_eq!(nowhere.reason, Reason::Malformed);
}

#[test]
fn claims_wait_for_the_publisher_and_are_settled_oldest_first() {
    let mut pool = pool(Mode::Credit);
    join(&mut pool, 1, NOW).unwrap();
    pool.paid(node(1), wei(30));
    let claim = |pool: &mut Pool, amount| pool.redeem(node(1), Some(wei(amount)), None, "a".into(), NOW);
    claim(&mut pool, 10).unwrap();
    claim(&mut pool, 15).unwrap();
    assert_eq!(claim(&mut pool, 6).unwrap_err().reason, Reason::Credit, "claimed once already");
    pool.settle(node(1), wei(12)).unwrap();
    let device = &pool.devices[&node(1)];
    assert_eq!((device.redeemed, device.claimed(), device.claims.len()), (wei(12), wei(13), 1));
    assert_eq!(pool.settle(node(1), wei(19)).unwrap_err().reason, Reason::Credit);
    assert_eq!(pool.settle(node(7), wei(1)).unwrap_err().reason, Reason::Stranger);
}

#[test]
fn offers_change_so_often_a_day_and_no_more() {
    let mut pool = pool(Mode::Coins);
    join(&mut pool, 1, NOW).unwrap();
    assert_eq!(pool.moved(node(1), 10, NOW).unwrap_err().reason, Reason::Stranger, "not registered yet");
    pool.enrolled(node(1));
    for _ in 0..MOVES_A_DAY {
        pool.moved(node(1), 10, NOW).unwrap();
    }
    assert_eq!(pool.moved(node(1), 10, NOW).unwrap_err().reason, Reason::Limit);
    pool.moved(node(1), 10, NOW + DAY_S).unwrap();
}

#[test]
fn the_file_holds_all_of_it_and_another_version_is_refused() {
    let mut pool = pool(Mode::Credit);
    join(&mut pool, 1, NOW).unwrap();
    pool.paid(node(1), U256::MAX);
    pool.redeem(node(1), Some(wei(3)), None, "order 7".into(), NOW).unwrap();
    let text = pool.text();
    assert_eq!(read(&text), Ok(pool.clone()));
    let newer = Pool { version: 2, ..pool };
    assert!(read(&newer.text()).unwrap_err().contains("expected version 1"));
    assert!(read(&text[..text.len() - 1]).is_err());
}
