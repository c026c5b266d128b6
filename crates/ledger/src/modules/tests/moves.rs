//! Tell each move of coin by one log, and nothing that did not happen.

use alloy_primitives::{Address, B256, TxKind, U256, hex, keccak256};
use alloy_sol_types::{SolCall, SolEvent};
use hodei_types::abi::{BUDGETS, DEALS, IBudgets, ICoin, IProviders, PROVIDERS, SYSTEM, spender_consent};

use super::{
    calls::deploy,
    nested::pay_relay,
    scene::{pair, scene},
    world::{CHAIN, COIN, Person, World, moves, params},
};

fn moved(from: Address, to: Address, coins: u128) -> ICoin::Transfer {
    ICoin::Transfer { from, to, amount: U256::from(coins * COIN) }
}

/// Runs init code that `value` coins are sent to.
fn init(world: &mut World, from: Address, value: u128, code: &[u8]) -> crate::execute::Applied {
    let tx = world.tx(from, TxKind::Create, U256::from(value * COIN), code.to_vec());
    world.block_after(1000, &[tx]).remove(0).unwrap()
}

#[test]
fn a_send_leaves_the_log_that_eip_7708_gives_it() {
    let (a, b) = (Person::new(1).address, Person::new(2).address);
    let mut world = World::new(&[a]);
    let applied = world.must(a, b, 3 * COIN, Vec::new());
    assert_eq!((applied.gas_used, applied.logs.len()), (21_000, 1), "the log costs no gas");
    let log = &applied.logs[0];
    assert_eq!(log.address, SYSTEM);
    let topics = [
        keccak256("Transfer(address,address,uint256)"),
        B256::left_padding_from(a.as_slice()),
        B256::left_padding_from(b.as_slice()),
    ];
    assert_eq!(log.topics(), topics);
    assert_eq!(ICoin::Transfer::SIGNATURE_HASH, topics[0]);
    assert_eq!(log.data.data[..], U256::from(3 * COIN).to_be_bytes::<32>());
    assert_eq!(world.last.receipts[0].logs(), applied.logs);
    assert!(world.last.bloom.contains_log(log), "whoever looks for it by the bloom finds it");
    assert!(world.must(a, b, 0, Vec::new()).logs.is_empty(), "nothing moved");
    assert!(world.must(a, a, COIN, Vec::new()).logs.is_empty(), "nothing moved either");
    world.audit();
}

#[test]
fn what_is_undone_leaves_no_log_however_deep_it_was() {
    let (mut world, owner, host) = pair(params());
    let a = owner.address;
    let deposit = IProviders::depositCall { node: host.node }.abi_encode();
    let [reverts, works] = [true, false].map(|reverts| deploy(&mut world, a, pay_relay(PROVIDERS, reverts)));
    assert!(world.send(a, reverts, 5 * COIN, deposit.clone()).logs.is_empty());
    let applied = world.must(a, works, 5 * COIN, deposit.clone());
    assert_eq!(moves(&applied.logs), [moved(a, works, 5), moved(works, PROVIDERS, 5)]);
    // The inner call reverts, the outer one keeps the coin.
    let outer = deploy(&mut world, a, pay_relay(reverts, false));
    assert_eq!(moves(&world.must(a, outer, 5 * COIN, deposit.clone()).logs), [moved(a, outer, 5)]);
    // And where the gas runs out.
    let mut tx = world.tx(a, TxKind::Call(works), U256::from(COIN), deposit);
    super::world::limit_gas(&mut tx, 30_000);
    let applied = world.block_after(1000, &[tx]).remove(0).unwrap();
    assert!(!applied.success && applied.logs.is_empty());
    world.audit();
}

#[test]
fn modules_tell_what_they_pay_out() {
    let mut scene = scene(64);
    let (owner, spender) = (scene.owner, Person::new(9));
    let me = owner.address;
    let consent = spender.sign(&spender_consent(CHAIN, me, spender.address));
    let register = IBudgets::registerCall { spender: spender.address, consent }.abi_encode();
    let applied = scene.world.must(me, BUDGETS, 2 * COIN, register);
    assert_eq!(moves(&applied.logs), [moved(me, BUDGETS, 2), moved(BUDGETS, spender.address, 2)]);
    let release = IBudgets::releaseCall { spender: spender.address }.abi_encode();
    let applied = scene.world.must(me, BUDGETS, 0, release);
    assert_eq!(moves(&applied.logs), [moved(spender.address, me, 2)]);
    // Pay goes to the operator, what is left of the escrow to the owner, in whichever transaction ends the deal.
    scene.world.prove(&scene.host);
    let mut told = moves(&scene.close().logs);
    for _ in 0..60 {
        if scene.deal().state == 3 {
            break;
        }
        scene.world.idle(1);
        told.extend(scene.world.last.receipts.iter().flat_map(|receipt| moves(receipt.logs())));
    }
    assert_eq!(scene.deal().state, 3, "the deal is over");
    assert!(told.iter().any(|moved| moved.from == DEALS && moved.to == me), "the refund is told: {told:?}");
    scene.world.audit();
}

#[test]
fn coin_of_a_contract_that_destroys_itself_is_told_or_stays() {
    let (a, b) = (Person::new(1).address, Person::new(2).address);
    let mut world = World::new(&[a]);
    // Heir is another: push20 b, selfdestruct.
    let code = [&hex!("73")[..], b.as_slice(), &hex!("ff")].concat();
    let applied = init(&mut world, a, 4, &code);
    let made = applied.contract.unwrap();
    assert_eq!(moves(&applied.logs), [moved(a, made, 4), moved(made, b, 4)]);
    // Heir is itself: address, selfdestruct. The coin stays, without code and nonce.
    let applied = init(&mut world, a, 4, &hex!("30 ff"));
    let made = applied.contract.unwrap();
    assert_eq!(moves(&applied.logs), [moved(a, made, 4)]);
    let account = world.account(made);
    assert_eq!((account.balance, account.nonce), (U256::from(4 * COIN), 0));
    assert_eq!(account.code_hash, alloy_primitives::KECCAK256_EMPTY);
    world.audit();
}

#[test]
fn everything_but_the_journal_is_osaka() {
    let a = Person::new(1).address;
    let mut world = World::new(&[a]);
    // clz is Osaka's, slotnum and dupn would be Amsterdam's.
    assert!(init(&mut world, a, 0, &hex!("60 01 1e 50 00")).success);
    assert!(!init(&mut world, a, 0, &hex!("4b 50 00")).success);
    assert!(!init(&mut world, a, 0, &hex!("5f 5f e6 80 50 00")).success);
    // A transfer to an account that is not there yet costs what it always did.
    assert_eq!(world.must(a, Address::repeat_byte(0x77), COIN, Vec::new()).gas_used, 21_000);
}
