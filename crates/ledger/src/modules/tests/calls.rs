//! Execute as Ethereum does, and keep modules to the journal.

use alloy_consensus::{Signed as AlloySigned, TxEip1559, TxEnvelope, TxLegacy};
use alloy_primitives::{Address, B256, Bytes, TxKind, U256, hex};
use alloy_sol_types::{SolCall, SolError};
use hodei_types::abi::{
    ANCHORS, BUCKETS, BUDGETS, DEALS, IAnchors, IBuckets, IModule, IQueue, MODULES, PROVIDERS, QUEUE, SYSTEM, bucket_id,
};

use super::world::{BASE_FEE, CHAIN, COIN, LEADER, Person, World, any_signature, drive, signed};
use crate::execute::{Call, Executor, Fault, Invalid, is_system, system_transaction};

pub(super) const CALL: u8 = 0xf1;
pub(super) const CALLCODE: u8 = 0xf2;
pub(super) const DELEGATECALL: u8 = 0xf4;
pub(super) const STATICCALL: u8 = 0xfa;

/// Init code for a contract that calls `to` with its own calldata by `op`, then reverts if `reverts`, else
/// returns whether the call succeeded and its output.
pub(super) fn relay(to: Address, op: u8, reverts: bool) -> Vec<u8> {
    let mut code = hex!("36 5f 5f 37").to_vec(); // calldatacopy(0, 0, calldatasize)
    code.extend(hex!("5f 5f 36 5f")); // out 0 0, in size, in 0
    if op == CALL || op == CALLCODE {
        code.push(0x5f); // value
    }
    code.push(0x73); // push20
    code.extend_from_slice(to.as_slice());
    code.extend([0x5a, op]); // gas
    code.extend(hex!("5f 52")); // mstore(0, success)
    code.extend(hex!("3d 5f 60 20 3e")); // returndatacopy(32, 0, returndatasize)
    code.extend(hex!("3d 60 20 01 5f")); // returndatasize + 32, 0
    code.push(if reverts { 0xfd } else { 0xf3 });
    let mut init = vec![0x60, code.len() as u8, 0x80, 0x60, 0x0b, 0x5f, 0x39, 0x5f, 0xf3, 0, 0];
    init.extend(code);
    init
}

pub(super) fn deploy(world: &mut World, from: Address, init: Vec<u8>) -> Address {
    let tx = world.tx(from, TxKind::Create, U256::ZERO, init);
    let applied = world.block_after(1000, &[tx]).remove(0).unwrap();
    assert!(applied.success, "{applied:?}");
    applied.contract.unwrap()
}

pub(super) fn create(salt: u8) -> Vec<u8> {
    let shape = IBuckets::Shape { k: 3, n: 6, t: 1, operators: 0, networks: 0, zones: 0, shardBytes: 4096, codeId: 1 };
    IBuckets::createCall { salt: B256::repeat_byte(salt), shape, blocks: 10 }.abi_encode()
}

#[test]
fn a_transfer_pays_the_receiver_the_leader_and_the_fire() {
    let (a, b) = (Person::new(1).address, Person::new(2).address);
    let mut world = World::new(&[a]);
    let before = world.balance(a);
    let applied = world.must(a, b, COIN, Vec::new());
    assert_eq!(applied.gas_used, 21_000);
    assert_eq!(world.balance(b), U256::from(COIN));
    assert_eq!(world.balance(LEADER), U256::from(21_000 * 7));
    let paid = U256::from(COIN + 21_000 * (u128::from(BASE_FEE) + 7));
    assert_eq!(before - world.balance(a), paid);
    assert_eq!(world.last.receipts.len(), 1);
    world.audit();
}

#[test]
fn a_contract_calls_a_module_and_its_revert_undoes_what_the_module_wrote() {
    let a = Person::new(1).address;
    let mut world = World::new(&[a]);
    for (reverts, count) in [(false, 1), (true, 0)] {
        let contract = deploy(&mut world, a, relay(BUCKETS, CALL, reverts));
        let applied = world.send(a, contract, 0, create(1));
        assert_eq!(applied.success, !reverts);
        assert_eq!(applied.output[31], 1, "the module itself succeeded");
        assert_eq!(world.view(BUCKETS, IBuckets::countCall { owner: contract }), count);
        assert_eq!(applied.logs.len(), if reverts { 0 } else { 2 });
        let id = bucket_id(contract, B256::repeat_byte(1));
        let get = IBuckets::getCall { id }.abi_encode();
        let found = world.simulate(&Call { to: Some(BUCKETS), data: get.into(), ..Call::default() });
        assert_eq!(found.success, !reverts);
    }
    // The same through the anchor root: a reverted call leaves no leaf.
    let contract = deploy(&mut world, a, relay(ANCHORS, CALL, true));
    world.send(a, contract, 0, IAnchors::anchorCall { leaf: b"x".into() }.abi_encode());
    assert!(world.last.anchors.is_empty());
}

#[test]
fn modules_refuse_calls_of_the_wrong_form() {
    let a = Person::new(1).address;
    let mut world = World::new(&[a]);
    let delegate = deploy(&mut world, a, relay(BUCKETS, DELEGATECALL, false));
    let inner = world.must(a, delegate, 0, create(1)).output;
    assert_eq!((inner[31], &inner[32..36]), (0, &IModule::IndirectCall::SELECTOR[..]));
    let fixed = deploy(&mut world, a, relay(BUCKETS, STATICCALL, false));
    let inner = world.must(a, fixed, 0, create(1)).output;
    assert_eq!((inner[31], &inner[32..36]), (0, &IModule::StaticCall::SELECTOR[..]));
    let inner = world.must(a, fixed, 0, IBuckets::countCall { owner: a }.abi_encode()).output;
    assert_eq!(inner[31], 1, "views are welcome under staticcall");
    let stray = world.send(a, BUCKETS, 5, create(1));
    assert_eq!(stray.output, Bytes::from(IModule::StrayValue {}.abi_encode()));
    for module in MODULES {
        assert_eq!(world.send(a, module, 5, Vec::new()).output[..4], IModule::UnknownSelector::SELECTOR);
        assert_eq!(world.balance(module), U256::ZERO);
        let unknown = world.send(a, module, 0, vec![1, 2, 3, 4, 5]);
        assert_eq!(unknown.output[..4], IModule::UnknownSelector::SELECTOR);
        assert_eq!(world.account(module).nonce, 1);
    }
    let mut short = create(1);
    short.truncate(40);
    assert_eq!(world.send(a, BUCKETS, 0, short).output[..4], IModule::MalformedInput::SELECTOR);
    world.audit();
}

#[test]
fn only_the_ledger_runs_the_queue() {
    let a = Person::new(1).address;
    let mut world = World::new(&[a]);
    let refused = world.send(a, QUEUE, 0, IQueue::runCall {}.abi_encode());
    assert_eq!(refused.output, Bytes::from(IQueue::NotSystem {}.abi_encode()));
    let begin = crate::modules::queue::beginCall { elapsedMs: 3000, parentHash: B256::ZERO }.abi_encode();
    assert_eq!(world.send(a, QUEUE, 0, begin).output[..4], IModule::UnknownSelector::SELECTOR);

    // Neither by signing with nothing, nor by naming its account.
    let system = system_transaction(CHAIN, 9);
    assert!(is_system(&system));
    for sender in [SYSTEM, a] {
        let tx = signed(system.clone(), sender);
        let refused = world.block_after(1000, &[tx]).remove(0);
        assert!(matches!(refused, Err(Fault::Invalid(Invalid::System))));
    }
    let tx = world.tx(SYSTEM, TxKind::Call(QUEUE), U256::ZERO, IQueue::runCall {}.abi_encode());
    assert!(!is_system(&tx.envelope));
    assert!(matches!(world.block_after(1000, &[tx]).remove(0), Err(Fault::Invalid(Invalid::System))));
}

#[test]
fn what_ethereum_refuses_is_refused_with_its_words() {
    let (a, poor) = (Person::new(1).address, Person::new(2).address);
    let mut world = World::new(&[a]);
    world.must(a, poor, 1000, Vec::new());
    let base = TxEip1559 {
        chain_id: CHAIN,
        nonce: 1,
        gas_limit: 21_000,
        max_fee_per_gas: u128::from(BASE_FEE),
        to: TxKind::Call(poor),
        ..TxEip1559::default()
    };
    let tx = |change: &dyn Fn(&mut TxEip1559), sender| {
        let mut tx = base.clone();
        change(&mut tx);
        signed(TxEnvelope::Eip1559(AlloySigned::new_unhashed(tx, any_signature())), sender)
    };
    let cases = [
        (tx(&|tx| tx.nonce = 0, a), Invalid::NonceTooLow),
        (tx(&|tx| tx.nonce = 9, a), Invalid::NonceTooHigh),
        (tx(&|tx| tx.nonce = 0, poor), Invalid::Funds),
        (tx(&|tx| tx.max_fee_per_gas -= 1, a), Invalid::FeeTooLow),
        (tx(&|tx| tx.chain_id = 1, a), Invalid::ChainId),
        (tx(&|tx| tx.gas_limit = 17_000_000, a), Invalid::GasLimit),
    ];
    for (tx, expected) in cases {
        match world.block_after(1000, &[tx]).remove(0) {
            Err(Fault::Invalid(found)) => assert_eq!(found, expected),
            other => panic!("{expected}: {other:?}"),
        }
    }
    let legacy = TxLegacy { nonce: 1, gas_limit: 21_000, to: TxKind::Call(poor), ..TxLegacy::default() };
    let unprotected = signed(TxEnvelope::Legacy(AlloySigned::new_unhashed(legacy, any_signature())), a);
    assert!(matches!(world.block_after(1000, &[unprotected]).remove(0), Err(Fault::Invalid(Invalid::ChainId))));
    assert_eq!(world.account(a).nonce, 1, "what is refused leaves no trace");
    world.audit();
}

#[test]
fn a_block_takes_no_more_than_its_gas() {
    let (a, b) = (Person::new(1).address, Person::new(2).address);
    let mut world = World::new(&[a]);
    world.env.gas_limit = 25_000_000;
    let txs: Vec<_> = (0..3).map(|_| world.tx(a, TxKind::Call(b), U256::from(1), Vec::new())).collect();
    // Each asks for 12,000,000 and uses 21,000: what is used counts, what is asked must fit.
    let done = world.block_after(1000, &txs);
    assert!(done.iter().all(Result::is_ok));
    world.env.gas_limit = 12_010_000;
    let txs: Vec<_> = (0..2).map(|_| world.tx(a, TxKind::Call(b), U256::from(1), Vec::new())).collect();
    let done = world.block_after(1000, &txs);
    assert!(done[0].is_ok());
    assert!(matches!(done[1], Err(Fault::Invalid(Invalid::BlockFull))));
    assert_eq!(world.last.gas_used, 21_000);
}

#[test]
fn blockhash_and_prevrandao_come_from_the_chain() {
    let a = Person::new(1).address;
    let mut world = World::new(&[a]);
    world.idle(3);
    // mstore(0, blockhash(number - 2)); mstore(32, prevrandao); return(0, 64)
    let code = hex!("60 02 43 03 40 5f 52 44 60 20 52 60 40 5f f3");
    let mut init = vec![0x60, code.len() as u8, 0x80, 0x60, 0x0b, 0x5f, 0x39, 0x5f, 0xf3, 0, 0];
    init.extend(code);
    let contract = deploy(&mut world, a, init);
    let parent = world.env.parent_hash; // of the block that deployed it: two before the next one
    let output = world.must(a, contract, 0, Vec::new()).output;
    assert_eq!(output[..32], parent[..]);
    assert_eq!(output[32..], world.env.mix_hash[..]);
}

#[test]
fn simulation_needs_no_nonce_and_leaves_nothing() {
    let a = Person::new(1).address;
    let mut world = World::new(&[a]);
    world.must(a, Address::repeat_byte(5), 1, Vec::new());
    let before = world.fingerprint;
    let call = Call { from: a, to: Some(BUCKETS), data: create(1).into(), ..Call::default() };
    let outcome = world.simulate(&call);
    assert!(outcome.success && outcome.logs.len() == 2);
    assert_eq!(world.view(BUCKETS, IBuckets::countCall { owner: a }), 0);
    assert_eq!(world.fingerprint, before);
    // The gas it names is enough, and a little less is not.
    let enough = world.simulate(&Call { gas: outcome.gas_peak, ..call.clone() });
    assert!(enough.success);
    assert!(!world.simulate(&Call { gas: outcome.gas_peak - 1, ..call }).success);
    let mut executor = Executor::new(world.params, world.env, Default::default());
    let poor = Call { from: Address::repeat_byte(9), to: Some(a), value: U256::from(1), ..Call::default() };
    let refused = drive(&world, &mut executor, |executor| executor.simulate(&poor));
    assert!(matches!(refused, Err(Fault::Invalid(_))));
}

#[test]
fn touching_a_module_account_keeps_its_state() {
    let a = Person::new(1).address;
    let mut world = World::new(&[a]);
    world.must(a, BUCKETS, 0, create(1));
    for module in [BUDGETS, PROVIDERS, BUCKETS, DEALS] {
        let forced = world.send(a, module, 0, Vec::new());
        assert!(!forced.success);
    }
    assert_eq!(world.view(BUCKETS, IBuckets::countCall { owner: a }), 1);
}
