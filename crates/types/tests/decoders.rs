//! Feed the audit decoders garbage: they refuse or have one encoding, and never panic.

use alloy_primitives::{Address, B256, b256};
use hodei_types::{
    checkpoint::Registration,
    event::{Actor, Event, Kind, Put, Salt, Value},
    merkle,
    network::NetworkKey,
    receipt::{Anchored, Checkpointed, Path, Receipt},
    tab::{Chain, GWEI, Leaf, Opening, TabError, Tree, step, tab_id},
    transport::NodeKey,
};

/// SplitMix64: the same bytes on each run, and each failure printed with its seed.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound.max(1) as u64) as usize
    }

    /// Mostly what it was: flips, cuts, doubled runs, and bytes that CBOR takes for lengths.
    fn mutate(&mut self, bytes: &mut Vec<u8>) {
        for _ in 0..=self.below(4) {
            let at = self.below(bytes.len());
            match self.below(6) {
                0 if !bytes.is_empty() => bytes[at] ^= 1 << self.below(8),
                1 if !bytes.is_empty() => bytes[at] = [0, 0x17, 0x18, 0x1b, 0x5b, 0x9b, 0xbb, 0xff][self.below(8)],
                2 => bytes.truncate(at),
                3 => bytes.insert(at.min(bytes.len()), self.next() as u8),
                4 if !bytes.is_empty() => drop(bytes.remove(at)),
                _ => {
                    let end = (at + self.below(40)).min(bytes.len());
                    let run = bytes[at.min(end)..end].to_vec();
                    let to = self.below(bytes.len());
                    bytes.splice(to..to, run);
                }
            }
        }
    }
}

fn event() -> Event {
    let put = Put {
        pieces: vec![(5 << 20, 3), (9, 1)],
        bucket: B256::repeat_byte(1),
        content: Salt([1; 16]).content(&[2; 32]),
        manifest: B256::repeat_byte(3),
        k: 16,
        n: 32,
        deals: (0..32).map(|deal| deal << 20).collect(),
        acks: B256::repeat_byte(4),
    };
    let fields = put.to_fields().text("note", "größer").list("mixed", vec![Value::Uint(1), Value::Text("x".into())]);
    Event { sequence: 7, time_ms: 1 << 40, kind: Kind::Put, actor: Actor::Account(Address::repeat_byte(9)), fields }
}

fn receipt() -> Receipt {
    let anchored = Anchored {
        data: vec![1; 32],
        path: Path { sides: 2, hashes: vec![B256::repeat_byte(2); 3] },
        preimage: vec![3; 250],
        headers: vec![vec![4; 60], vec![5; 60]],
        finalization: vec![6; 170],
    };
    Receipt {
        genesis: B256::repeat_byte(1),
        event: event().encode().unwrap(),
        salt: Salt([7; 16]),
        log: NodeKey([8; 32]),
        checkpoint: Checkpointed {
            size: 9,
            root: B256::repeat_byte(9),
            path: vec![B256::repeat_byte(10); 4],
            signature: [11; 64],
        },
        cohort: Path::default(),
        anchor: anchored.clone(),
        acks: vec![vec![12; 90], vec![13; 90]],
        providers: vec![anchored],
    }
}

#[test]
fn mutated_events_are_refused_or_have_one_encoding() {
    let good = event().encode().unwrap();
    let mut accepted = 0;
    for seed in 0..60_000 {
        let mut bytes = good.clone();
        Numbers(seed).mutate(&mut bytes);
        if let Ok(event) = Event::decode(&bytes) {
            assert_eq!(event.encode().as_ref(), Ok(&bytes), "seed {seed}");
            let _ = Put::from_event(&event);
            accepted += 1;
        }
    }
    assert!(accepted > 100, "mutations that change only a value are events: {accepted}");
}

#[test]
fn mutated_receipts_are_refused_or_have_one_encoding() {
    let good = receipt().encode();
    let mut accepted = 0;
    for seed in 0..40_000 {
        let mut bytes = good.clone();
        Numbers(seed).mutate(&mut bytes);
        if let Ok(receipt) = Receipt::decode(&bytes) {
            assert_eq!(receipt.encode(), bytes, "seed {seed}");
            let Path { sides, hashes } = &receipt.cohort;
            let _ = merkle::root_from_sides(B256::ZERO, *sides, hashes);
            let checkpoint = &receipt.checkpoint;
            let _ = merkle::root_from_path(B256::ZERO, sides ^ 5, checkpoint.size, &checkpoint.path);
            accepted += 1;
        }
    }
    assert!(accepted > 100, "{accepted}");
}

#[test]
fn noise_is_refused_without_a_panic() {
    for seed in 0..20_000 {
        let mut numbers = Numbers(seed);
        let bytes: Vec<u8> = (0..numbers.below(300)).map(|_| numbers.next() as u8).collect();
        assert!(Receipt::decode(&bytes).is_err());
        if let Ok(event) = Event::decode(&bytes) {
            panic!("seed {seed} is {event:?}");
        }
        let _ = Registration::decode(&bytes);
        assert!(String::from_utf8_lossy(&bytes).parse::<NetworkKey>().is_err());
    }
}

#[test]
fn mutated_network_keys_are_refused() {
    let good = NetworkKey { genesis: B256::repeat_byte(3), group: [5; 96] }.to_string();
    for seed in 0..40_000 {
        let mut bytes = good.clone().into_bytes();
        Numbers(seed).mutate(&mut bytes);
        if bytes == good.as_bytes() {
            continue;
        }
        assert!(String::from_utf8_lossy(&bytes).parse::<NetworkKey>().is_err(), "seed {seed}");
    }
}

#[test]
fn paths_of_any_shape_do_not_panic() {
    for seed in 0..50_000 {
        let mut numbers = Numbers(seed);
        let shrink = |numbers: &mut Numbers| numbers.next() >> numbers.below(64);
        let (index, size) = (shrink(&mut numbers), shrink(&mut numbers));
        let path = vec![B256::ZERO; numbers.below(70)];
        if let Ok(root) = merkle::root_from_path(B256::ZERO, index, size, &path) {
            let sides = merkle::sides(index, size).expect("a path that fits has sides");
            assert_eq!(merkle::root_from_sides(B256::ZERO, sides, &path), Ok(root), "{index} of {size}");
        }
        let _ = merkle::verify_consistency(index, size, &path, B256::ZERO, B256::ZERO);
    }
}

#[test]
fn mutated_openings_are_refused_or_have_one_encoding_and_prove_nothing_else() {
    let leaf = |i: u8| Leaf {
        provider: B256::repeat_byte(i),
        anchor: B256::repeat_byte(i ^ 0x55),
        ticks: 1 + u32::from(i),
        price: GWEI * 7 + u128::from(i),
    };
    let tree = Tree::build((0..11).map(leaf).collect()).unwrap();
    let (root, gwei) = (tree.root(), tree.gwei());
    let (mut accepted, mut proven) = (0, 0);
    for seed in 0..40_000 {
        let mut numbers = Numbers(seed);
        let good = tree.opening(numbers.below(11) as u32).unwrap();
        let mut bytes = good.to_bytes();
        numbers.mutate(&mut bytes);
        let number = if numbers.below(4) == 0 { numbers.next() as u32 >> numbers.below(32) } else { good.number };
        let Ok(read) = Opening::from_bytes(number, good.leaf.provider, &bytes) else { continue };
        assert_eq!(read.to_bytes(), bytes, "seed {seed}");
        accepted += 1;
        match read.check(root, gwei) {
            Ok(()) => {
                assert_eq!(read, good, "seed {seed}");
                proven += 1;
            }
            Err(error) => assert!(matches!(error, TabError::Root | TabError::Sum), "seed {seed}: {error}"),
        }
    }
    assert!(accepted > 1_000 && proven > 0 && proven < accepted, "{accepted} read, {proven} of them unchanged");
    for seed in 0..20_000 {
        let mut numbers = Numbers(seed);
        let bytes: Vec<u8> = (0..numbers.below(Opening::BYTES_MAX + 90)).map(|_| numbers.next() as u8).collect();
        if let Ok(read) = Opening::from_bytes(0, B256::ZERO, &bytes) {
            assert!(read.check(root, gwei).is_err());
        }
    }
}

#[test]
fn hashes_of_a_tab_are_frozen() {
    // Computed apart from this code, from keccak's definition and the layouts stated in `tab`.
    let [one, two, three] = [1, 2, 3].map(B256::repeat_byte);
    let id = b256!("9f4fac9e000509e85644e093fc76af3eb6ddb8500f32d5c4ae7307b2fcf3a24c");
    assert_eq!(tab_id(7, Address::repeat_byte(1), two), id);
    let before = b256!("d06c0c45845644708f635b48779d40319756df8807c53b3f2c428c5cb79ef781");
    assert_eq!(step(one, two, three), before);
    let leaf = |i: u8| Leaf {
        provider: B256::repeat_byte(i),
        anchor: B256::repeat_byte(i + 8),
        ticks: 10 + u32::from(i),
        price: 1_500_000_000 + u128::from(i),
    };
    let tree = Tree::build((0..3).map(leaf).collect()).unwrap();
    let root = b256!("a84451654379e39ea17fb308b47d54a9693c2d571138b0a2d32ee10cbc01360a");
    assert_eq!((tree.root(), tree.gwei()), (root, 51));
    // The seed is BLAKE3's, which no ledger sees: who opened a tab must find its chains again.
    let seed = blake3::derive_key("hodei 2026 tick chain seed v1", &[&[9; 32][..], &two[..], &[0, 0, 0, 4]].concat());
    let last = Chain::prepare(&[9; 32], one, two, 4, 3).unwrap().tick(3).unwrap();
    assert_eq!((last.index, last.value), (3, B256::from(seed)));
}
