//! Make receipts on a small chain of our own and refuse every altered one.

mod chain;

use alloy_primitives::{Address, B256};
use chain::{TestChain, node_signer};
use commonware_runtime::{Runner as _, Supervisor as _, deterministic};
use hodei_audit::{Config, Log};
use hodei_ledger::account::Account;
use hodei_sdk::{
    receipt::{acks_root, anchor, assemble, with_promises},
    verify::{Refused, Step, hash_content, verify},
};
use hodei_types::{
    ack::Statement,
    event::{Actor, Fields, Kind, Put},
    network::NetworkKey,
    receipt::Receipt,
};
use std::sync::Arc;

const PLAINTEXT: &[u8] = b"what was stored";

struct Made {
    key: NetworkKey,
    plain: Receipt,
    full: Receipt,
}

/// A put with two acks among other events, its checkpoint anchored, `later` blocks before a certificate.
fn make(later: usize) -> Made {
    make_of(later, hash_content(PLAINTEXT).unwrap(), Vec::new())
}

fn make_of(later: usize, content: [u8; 32], pieces: Vec<(u64, u64)>) -> Made {
    deterministic::Runner::default().start(|context| async move {
        let chain = Arc::new(TestChain::new(later));
        let key = chain.key();
        let providers: Vec<_> = (0..2).map(|i| (node_signer(40 + i), Address::repeat_byte(i))).collect();
        providers.iter().for_each(|(signer, operator)| chain.register(signer.node(), *operator));
        let config = Config::new("log", key.genesis, [3; 32]);
        let log = Log::open(context.child("log"), config, node_signer(1)).await.unwrap();
        let account = Account::new(chain.clone(), &[7; 32]).unwrap();
        let actor = Actor::Account(account.address());

        let acks: Vec<_> = providers
            .iter()
            .zip(5..)
            .map(|((signer, _), deal)| {
                let statement = Statement { deal, sequence: 9, position: 8, root: [deal as u8; 32], leaves: 2560 };
                (signer.node(), signer.ack(chain.chain_id(), statement))
            })
            .collect();
        for number in 0..300 {
            log.record(number, Kind::Transfer, actor, |_| Fields::new()).await.unwrap();
        }
        let put = |content| Put {
            bucket: B256::repeat_byte(1),
            content,
            pieces: pieces.clone(),
            manifest: B256::repeat_byte(2),
            k: 3,
            n: 6,
            deals: vec![5, 6],
            acks: acks_root(&acks),
        };
        let put = |salt: &hodei_types::event::Salt| put(salt.content(&content)).to_fields();
        let sequence = log.record(1_800_000_000_000, Kind::Put, actor, put).await.unwrap();
        log.record(0, Kind::Get, actor, |_| Fields::new()).await.unwrap();
        assert!(assemble(&*chain, &log, key.genesis, sequence).await.is_err(), "not anchored yet");
        let (signed, _) = anchor(&account, &log).await.unwrap().expect("it grew");
        assert_eq!(signed.size, 302);
        assert_eq!(anchor(&account, &log).await.unwrap(), None);
        let plain = assemble(&*chain, &log, key.genesis, sequence).await.unwrap();
        let full = with_promises(&*chain, plain.clone(), &acks).await.unwrap();
        Made { key, plain, full }
    })
}

#[test]
fn a_receipt_proves_its_event_and_its_file() {
    for later in [0, 3] {
        let made = make(later);
        let verified = verify(&made.plain.encode(), &made.key).unwrap();
        assert_eq!((verified.event.sequence, verified.event.kind, verified.size), (300, Kind::Put, 302));
        assert_eq!(verified.certified - verified.height, later as u64);
        assert_eq!(verified.log, node_signer(1).node());
        assert!(verified.promises.is_empty());
        verified.check_content(&hash_content(PLAINTEXT).unwrap()).unwrap();
        let other = verified.check_content(&hash_content(&b"something else"[..]).unwrap()).unwrap_err();
        assert_eq!(other.step(), Step::File);

        let verified = verify(&made.full.encode(), &made.key).unwrap();
        let by: Vec<_> = verified.promises.iter().map(|promise| promise.by.unwrap()).collect();
        assert_eq!(by[0], (node_signer(40).node(), Address::repeat_byte(0)));
        assert_eq!(by[1], (node_signer(41).node(), Address::repeat_byte(1)));
    }
}

/// A put whose parts came apart from each other verifies against the plain file, and against no other.
#[test]
fn a_receipt_of_parts_proves_the_plain_file() {
    let plain: Vec<u8> = (0..2500u32).map(|i| (i % 251) as u8).collect();
    let hashes: Vec<u8> = plain.chunks(1000).flat_map(|part| *blake3::hash(part).as_bytes()).collect();
    let content = *blake3::hash(&hashes).as_bytes();
    let pieces = Put::pieces([1000, 1000, 500]).unwrap();
    let made = make_of(0, content, pieces);
    let verified = verify(&made.full.encode(), &made.key).unwrap();
    let check = |file: &[u8]| verified.check_content(&verified.hash(file).unwrap());
    check(&plain).unwrap();
    let (mut bent, longer) = (plain.clone(), [&plain[..], &[0]].concat());
    bent[1500] ^= 1;
    for other in [&bent[..], &longer, &plain[..2499], &plain[..2000], &[]] {
        assert_eq!(check(other).unwrap_err().step(), Step::File, "{} bytes", other.len());
    }
}

#[test]
fn sizes_are_as_promised() {
    let one = make(0).plain.encode().len();
    let four = make(3).plain.encode().len();
    assert!(one <= 3000, "{one} bytes with one header and no acks");
    assert!(four - one <= 3 * 650, "{} bytes a further header", (four - one) / 3);
}

/// A fixed sequence of numbers, the same on each run.
fn numbers(mut state: u64) -> impl FnMut(usize) -> usize {
    move |below| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % below
    }
}

#[test]
fn every_flipped_byte_of_a_receipt_is_refused() {
    let made = make(1);
    let plain = made.plain.encode();
    for at in 0..plain.len() {
        let mut bent = plain.clone();
        bent[at] ^= 1 << (at % 8);
        verify(&bent, &made.key).err().unwrap_or_else(|| panic!("byte {at} of {}", plain.len()));
    }
    let full = made.full.encode();
    let mut number = numbers(1);
    for _ in 0..200 {
        let (at, flip) = (number(full.len()), 1 + number(255) as u8);
        let mut bent = full.clone();
        bent[at] ^= flip;
        verify(&bent, &made.key).err().unwrap_or_else(|| panic!("byte {at} ^ {flip}"));
    }
}

#[test]
fn every_flipped_byte_of_a_key_is_refused() {
    let made = make(0);
    let receipt = made.plain.encode();
    let text = made.key.to_string();
    let mut number = numbers(2);
    for at in 0..text.len() {
        let mut bent = text.clone().into_bytes();
        bent[at] ^= 1 + number(255) as u8;
        let parsed = String::from_utf8(bent).ok().and_then(|text| text.parse::<NetworkKey>().ok());
        assert_eq!(parsed, None, "character {at}");
    }
    // Past the checksum: the key as bytes.
    for at in 0..32 {
        let mut bent = made.key;
        bent.genesis.0[at] ^= 1;
        assert_eq!(verify(&receipt, &bent).unwrap_err().step(), Step::Receipt);
    }
    for at in 0..96 {
        let mut bent = made.key;
        bent.group[at] ^= 1 << (at % 8);
        let refused = verify(&receipt, &bent).unwrap_err();
        assert!(matches!(refused.step(), Step::NetworkKey | Step::Certificate), "{refused}");
    }
}

#[test]
fn every_flipped_byte_of_an_event_is_refused_by_name() {
    let made = make(0);
    for at in 0..made.plain.event.len() {
        let mut bent = made.plain.clone();
        bent.event[at] ^= 1 << (at % 8);
        let refused = verify(&bent.encode(), &made.key).unwrap_err();
        assert!(matches!(refused.step(), Step::Event | Step::Log), "byte {at}: {refused}");
    }
}

#[test]
fn the_first_failing_step_is_named_with_expected_and_found() {
    let made = make(2);
    let step = |bend: &dyn Fn(&mut Receipt)| {
        let mut bent = made.full.clone();
        bend(&mut bent);
        let refused = verify(&bent.encode(), &made.key).unwrap_err();
        assert!(refused.to_string().starts_with(refused.step().name()), "{refused}");
        refused.step()
    };
    assert_eq!(step(&|receipt| receipt.genesis.0[0] ^= 1), Step::Receipt);
    assert_eq!(step(&|receipt| receipt.event.push(0)), Step::Event);
    assert_eq!(step(&|receipt| receipt.salt.0[0] ^= 1), Step::Log);
    assert_eq!(step(&|receipt| receipt.checkpoint.path[3].0[0] ^= 1), Step::Log);
    assert_eq!(step(&|receipt| receipt.checkpoint.root.0[0] ^= 1), Step::Log);
    assert_eq!(step(&|receipt| receipt.checkpoint.size += 1), Step::Log);
    assert_eq!(step(&|receipt| receipt.checkpoint.signature[0] ^= 1), Step::Checkpoint);
    assert_eq!(step(&|receipt| receipt.log = node_signer(2).node()), Step::Checkpoint);
    assert_eq!(step(&|receipt| receipt.cohort.hashes.push(B256::ZERO)), Step::Cohort);
    assert_eq!(step(&|receipt| receipt.cohort.sides = 1), Step::Cohort);
    assert_eq!(step(&|receipt| receipt.anchor.data[0] ^= 1), Step::Cohort);
    assert_eq!(step(&|receipt| receipt.anchor.path.sides ^= 1), Step::Anchor);
    assert_eq!(step(&|receipt| receipt.anchor.path.hashes[0].0[0] ^= 1), Step::Anchor);
    assert_eq!(step(&|receipt| *receipt.anchor.preimage.last_mut().unwrap() ^= 1), Step::Anchor);
    assert_eq!(step(&|receipt| receipt.anchor.preimage[0] ^= 1), Step::Preimage);
    assert_eq!(step(&|receipt| receipt.anchor.headers.swap(0, 1)), Step::Headers);
    assert_eq!(step(&|receipt| receipt.anchor.headers[1][40] ^= 1), Step::Headers);
    assert_eq!(step(&|receipt| drop(receipt.anchor.headers.pop())), Step::Certificate);
    assert_eq!(step(&|receipt| receipt.anchor.finalization[0] ^= 1), Step::Certificate);
    assert_eq!(step(&|receipt| receipt.acks.swap(0, 1)), Step::Acks);
    assert_eq!(step(&|receipt| receipt.providers.swap(0, 1)), Step::Providers);
    assert_eq!(step(&|receipt| drop(receipt.providers.pop())), Step::Providers);
    assert_eq!(step(&|receipt| receipt.providers[1].data[91] ^= 1), Step::Providers);
}

#[test]
fn another_networks_receipt_is_told_apart() {
    let made = make(0);
    let other = NetworkKey { genesis: B256::repeat_byte(9), ..made.key };
    let refused = verify(&made.plain.encode(), &other).unwrap_err();
    assert_eq!(refused, Refused::Network { expected: other.genesis, found: made.key.genesis });
    // Claiming to be of that network does not help: checkpoint and certificate are bound to the genesis.
    let mut bent = made.plain.clone();
    bent.genesis = other.genesis;
    assert_eq!(verify(&bent.encode(), &other).unwrap_err().step(), Step::Checkpoint);
}

#[test]
fn other_encodings_are_refused() {
    let made = make(0);
    let receipt = made.plain.encode();
    let longer = [&receipt[..], &[0]].concat();
    assert_eq!(verify(&longer, &made.key).unwrap_err().step(), Step::Receipt);
    assert_eq!(verify(&receipt[..receipt.len() - 1], &made.key).unwrap_err().step(), Step::Receipt);
    assert_eq!(verify(&[], &made.key).unwrap_err().step(), Step::Receipt);
    // The map's length in two bytes, its first key in two, the genesis' length in three.
    let two = [&[0xb8, 8], &receipt[1..]].concat();
    let key = [&receipt[..1], &[0x18, 0], &receipt[2..]].concat();
    let text = receipt.windows(2).position(|pair| pair == [0x58, 32]).unwrap();
    let length = [&receipt[..text], &[0x59, 0, 32], &receipt[text + 2..]].concat();
    for bent in [two, key, length] {
        assert_eq!(verify(&bent, &made.key).unwrap_err().step(), Step::Receipt);
    }
}
