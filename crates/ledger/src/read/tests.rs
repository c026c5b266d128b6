//! A reader over a disk in memory: what it says of older states, and when it says that it cannot.

use super::*;
use crate::{
    block::{Context, Digest, Draft, Member},
    execute::{encode_slot, slot_key},
    genesis::{Validator, deal},
    mempool::{Caps, Rules},
};
use alloy_primitives::{Bloom, U256, hex};
use commonware_consensus::types::{Epoch, Round, View};
use commonware_cryptography::{Signer as _, ed25519};
use commonware_utils::test_rng;
use futures::executor::block_on;
use hodei_types::{chain::Chain as _, ethereum::Ethereum as _};
use std::collections::BTreeMap;

const RICH: Address = Address::repeat_byte(1);
const CONTRACT: Address = Address::repeat_byte(2);
/// mstore(0, sload(0)); mstore(32, number); return(0, 64)
const CODE: [u8; 14] = hex!("5f 54 5f 52 43 60 20 52 60 40 5f f3 00 00");

/// A state in memory that moves when told to.
#[derive(Default)]
struct Disk(Mutex<(B256, BTreeMap<B256, Vec<u8>>)>);

impl Source for Disk {
    fn values(&self, keys: Vec<B256>) -> BoxFuture<'_, Option<(B256, Vec<Option<Vec<u8>>>)>> {
        let disk = self.0.lock().unwrap();
        let values = keys.iter().map(|key| disk.1.get(key).cloned()).collect();
        Box::pin(std::future::ready(Some((disk.0, values))))
    }

    fn codes(&self, hashes: Vec<B256>) -> BoxFuture<'_, Option<Vec<Option<Vec<u8>>>>> {
        let code = |hash: &B256| (*hash == keccak256(CODE)).then(|| CODE.to_vec());
        Box::pin(std::future::ready(Some(hashes.iter().map(code).collect())))
    }

    fn prove(&self, _: B256) -> BoxFuture<'_, Option<Proven>> {
        Box::pin(std::future::ready(None))
    }
}

impl Finality for Disk {
    fn finalization(&self, _: u64) -> BoxFuture<'_, Option<Vec<u8>>> {
        Box::pin(std::future::ready(None))
    }

    fn block(&self, _: u64) -> BoxFuture<'_, Option<Block>> {
        Box::pin(std::future::ready(None))
    }
}

/// What a node that restarted finds on its disk.
struct Shelf(Vec<Entry>);

impl Keep for Shelf {
    fn restore(&self, _: usize) -> BoxFuture<'_, Vec<Entry>> {
        Box::pin(std::future::ready(self.0.clone()))
    }

    fn put<'a>(&'a self, _: u64, _: &'a Entry) -> BoxFuture<'a, ()> {
        Box::pin(std::future::ready(()))
    }

    fn prune(&self, _: u64) -> BoxFuture<'_, ()> {
        Box::pin(std::future::ready(()))
    }
}

fn reader(disk: &Arc<Disk>) -> Reader {
    let keys: Vec<_> = (0..4).map(|seed| ed25519::PrivateKey::from_seed(seed).public_key()).collect();
    let dealt = deal(test_rng(), &keys).unwrap();
    let validator = |key| Validator { key, address: "127.0.0.1:9".into(), fees: Address::repeat_byte(4) };
    let validators = keys.into_iter().map(validator).collect();
    let genesis = Genesis::new("test".into(), 1_700_000_000, dealt.output, validators, Vec::new());
    let rules = Rules { chain_id: genesis.chain_id(), block_gas: 30_000_000, fee_floor: 1, tx_bytes_max: 1 << 17 };
    let reader = Reader::new(Arc::new(genesis), Pool::new(rules, Caps::default()), Kept::default());
    reader.attach(disk.clone(), disk.clone());
    reader
}

fn root(height: u64) -> B256 {
    keccak256(height.to_be_bytes())
}

/// In block n, everybody's balance, nonce and first slot become n.
fn writes(height: u64) -> BTreeMap<B256, Option<Vec<u8>>> {
    let account = |code_hash| Account { nonce: height, balance: U256::from(height), code_hash }.encode();
    BTreeMap::from([
        (account_key(RICH), Some(account(alloy_primitives::KECCAK256_EMPTY))),
        (account_key(CONTRACT), Some(account(keccak256(CODE)))),
        (slot_key(CONTRACT, U256::ZERO), encode_slot(U256::from(height))),
    ])
}

fn block(height: u64) -> (Block, Effects) {
    let member = Member { ops_root: B256::ZERO, start: 0, end: 1 };
    let block = Draft {
        context: Context {
            round: Round::new(Epoch::zero(), View::new(height + 1)),
            leader: ed25519::PrivateKey::from_seed(1).public_key(),
            parent: (View::new(height), Digest::from([5; 32])),
        },
        number: height,
        time_ms: 1_700_000_000_000 + height,
        beneficiary: Address::repeat_byte(4),
        state_root: root(height),
        receipts_root: B256::ZERO,
        logs_bloom: Bloom::ZERO,
        gas_limit: 30_000_000,
        gas_used: 0,
        base_fee: 7,
        seed: None,
        mix_hash: B256::ZERO,
        txs: Vec::new(),
        members: [member, member],
        anchors: B256::ZERO,
    };
    let before = if height == 1 { BTreeMap::new() } else { writes(height - 1) };
    let undo = writes(height).into_keys().map(|key| (key, before.get(&key).cloned().flatten())).collect();
    (block.seal(), Effects { undo: Arc::new(undo), ..Effects::default() })
}

fn apply(disk: &Disk, height: u64) {
    let mut disk = disk.0.lock().unwrap();
    disk.0 = root(height);
    for (key, value) in writes(height) {
        disk.1.insert(key, value.unwrap());
    }
}

fn advance(disk: &Disk, reader: &Reader, height: u64) {
    apply(disk, height);
    let (block, effects) = block(height);
    block_on(reader.push(&block, &effects));
}

fn call(reader: &Reader, at: At) -> Result<(u64, u64), ChainError> {
    let call = hodei_types::ethereum::Call { to: Some(CONTRACT), ..Default::default() };
    let outcome = block_on(reader.simulate(call, at))?;
    assert!(outcome.success, "{outcome:?}");
    let word = |at: usize| U256::from_be_slice(&outcome.output[at..at + 32]).to::<u64>();
    Ok((word(0), word(32)))
}

fn refusal<T: std::fmt::Debug>(answer: Result<T, ChainError>) -> String {
    match answer.unwrap_err() {
        ChainError::Refused(reason) => reason,
        other => panic!("{other}"),
    }
}

#[test]
fn an_older_block_is_answered_with_its_own_state_or_not_at_all() {
    let disk = Arc::new(Disk::default());
    let reader = reader(&disk);
    for height in 1..=1100 {
        advance(&disk, &reader, height);
    }
    for height in (76..=1100).step_by(32) {
        let hash = reader.model().at(height).unwrap().record.hash;
        for at in [At::Height(height), At::Hash(hash)] {
            assert_eq!(block_on(reader.balance(RICH, at)).unwrap(), U256::from(height));
            assert_eq!(block_on(reader.nonce(RICH, at)).unwrap(), height);
            assert_eq!(block_on(reader.slot(CONTRACT, U256::ZERO, at)).unwrap(), U256::from(height));
            assert_eq!(call(&reader, at).unwrap(), (height, height), "state and block of one height");
        }
    }
    assert_eq!(call(&reader, At::Latest).unwrap(), (1100, 1100));
    assert_eq!(block_on(reader.balance(RICH, At::Latest)).unwrap(), U256::from(1100));
    let gone = "missing trie node: historical state of block 75 is not available, this node keeps blocks 76 to 1100";
    assert_eq!(refusal(block_on(reader.balance(RICH, At::Height(75)))), gone);
    assert_eq!(refusal(block_on(reader.code(CONTRACT, At::Height(75)))), gone);
    assert_eq!(refusal(call(&reader, At::Height(75))), gone);
    for at in [At::Height(1101), At::Hash(B256::repeat_byte(9))] {
        assert_eq!(refusal(block_on(reader.balance(RICH, at))), "header not found");
    }
}

#[test]
fn a_node_that_begins_does_not_call_an_account_empty() {
    let disk = Arc::new(Disk::default());
    let reader = reader(&disk);
    assert!(matches!(block_on(reader.balance(RICH, At::Latest)), Err(ChainError::Unavailable(_))));
    assert!(matches!(block_on(reader.account(RICH)), Err(ChainError::Unavailable(_))));
    advance(&disk, &reader, 1);
    assert_eq!(block_on(reader.account(RICH)).unwrap().balance, U256::from(1));
}

#[test]
fn before_the_first_block_there_is_no_state_to_tell() {
    let disk = Arc::new(Disk::default());
    let reader = reader(&disk);
    for height in 1..=5 {
        advance(&disk, &reader, height);
    }
    assert_eq!(block_on(reader.code(CONTRACT, At::Height(1))).unwrap(), Bytes::from_static(&CODE));
    let refused = "block 0 has no state of its own: ask for block 1 or later";
    assert_eq!(refusal(block_on(reader.code(CONTRACT, At::Height(0)))), refused);
    assert_eq!(refusal(block_on(reader.balance(RICH, At::Height(0)))), refused);
}

#[test]
fn while_a_block_is_applied_the_answer_waits_or_is_of_the_newest() {
    let disk = Arc::new(Disk::default());
    let reader = reader(&disk);
    for height in 1..=3 {
        advance(&disk, &reader, height);
    }
    // The disk has block 4; the reader has not been told.
    apply(&disk, 4);
    assert_eq!(block_on(reader.balance(RICH, At::Latest)).unwrap(), U256::from(4));
    let (block, effects) = block(4);
    let told = async { reader.push(&block, &effects).await };
    let (balance, ()) = block_on(futures::future::join(reader.balance(RICH, At::Height(3)), told));
    assert_eq!(balance.unwrap(), U256::from(3), "not what block 4 made of it");
    // A block that is told of before it is applied, as the engine does, is waited for by nobody.
    let (block, effects) = super::tests::block(5);
    block_on(reader.keep(&block, &effects));
    for _ in 0..2 {
        assert_eq!(block_on(reader.balance(RICH, At::Height(4))).unwrap(), U256::from(4));
        assert_eq!(block_on(reader.slot(CONTRACT, U256::ZERO, At::Height(2))).unwrap(), U256::from(2));
        apply(&disk, 5);
    }
    assert_eq!(refusal(block_on(reader.balance(RICH, At::Height(5)))), "header not found", "it is not final here yet");
}

#[test]
fn after_a_restart_the_head_is_answered_and_what_is_older_refused() {
    let disk = Arc::new(Disk::default());
    let before = reader(&disk);
    for height in 1..=5 {
        advance(&disk, &before, height);
    }
    let kept = (1..=5).map(|height| before.model().at(height).unwrap().clone()).collect();
    let again = reader(&disk);
    block_on(again.restore(Arc::new(Shelf(kept))));
    assert_eq!(block_on(again.balance(RICH, At::Height(5))).unwrap(), U256::from(5));
    assert_eq!(call(&again, At::Latest).unwrap(), (5, 5));
    let gone = "missing trie node: historical state of block 4 is not available, this node keeps blocks 5 to 5";
    assert_eq!(refusal(block_on(again.balance(RICH, At::Height(4)))), gone);
    assert_eq!(block_on(again.head()).unwrap().height, 5);
    advance(&disk, &again, 6);
    assert_eq!(block_on(again.balance(RICH, At::Height(5))).unwrap(), U256::from(5));
}
