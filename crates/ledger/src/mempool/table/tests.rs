//! Show what the table takes, orders and gives up.

use super::*;
use crate::mempool::recover;
use alloy_consensus::{SignableTransaction as _, TxEip1559, TxEnvelope};
use alloy_primitives::{Signature, TxKind, U256, keccak256};
use std::collections::BTreeMap;

const GAS: u64 = 21_000;

fn tx(sender: u8, nonce: u64, tip: u128, cap: u128) -> Arc<Signed> {
    let tx = TxEip1559 {
        chain_id: 7,
        nonce,
        gas_limit: GAS,
        max_fee_per_gas: cap,
        max_priority_fee_per_gas: tip,
        to: TxKind::Call(Address::repeat_byte(0xaa)),
        ..TxEip1559::default()
    };
    // The table never looks at signatures: any will do.
    let envelope = TxEnvelope::Eip1559(tx.into_signed(Signature::test_signature()));
    let hash = keccak256([envelope.encoded_2718().as_slice(), &[sender]].concat());
    Arc::new(Signed { envelope, sender: Address::repeat_byte(sender), hash })
}

fn account(nonce: u64) -> Account {
    Account { nonce, balance: U256::from(u128::MAX), ..Account::default() }
}

fn nonces(chosen: &[Arc<Signed>]) -> Vec<(u8, u64)> {
    chosen.iter().map(|tx| (tx.sender[0], tx.envelope.nonce())).collect()
}

#[test]
fn best_tip_first_each_sender_in_order_gaps_kept_back() {
    let mut table = Table::new(Caps::default());
    for (sender, nonce, tip) in [(1, 0, 5), (1, 1, 50), (2, 0, 20), (3, 1, 99), (3, 2, 99)] {
        table.insert(tx(sender, nonce, tip, 100), account(0)).unwrap();
    }
    assert_eq!(nonces(&table.choose(0, 10, 1 << 20)), [(2, 0), (1, 0), (1, 1)]);
    assert_eq!(table.next_nonce(Address::repeat_byte(1)), Some(2));
    assert_eq!(table.next_nonce(Address::repeat_byte(3)), None);
    table.insert(tx(3, 0, 1, 100), account(0)).unwrap();
    assert_eq!(nonces(&table.choose(0, 2, 1 << 20)), [(2, 0), (1, 0)]);
    assert_eq!(table.choose(0, 10, 1 << 20).len(), 6);
    // At a base fee of 90 only ten of each tip remain; above 100 nothing fits.
    assert_eq!(nonces(&table.choose(90, 1, 1 << 20)), [(2, 0)]);
    assert!(table.choose(101, 10, 1 << 20).is_empty());
}

#[test]
fn a_replacement_raises_both_fees_by_a_tenth() {
    let mut table = Table::new(Caps::default());
    let first = tx(1, 0, 100, 1000);
    table.insert(first.clone(), account(0)).unwrap();
    assert_eq!(table.insert(first.clone(), account(0)), Err(Refused::Known));
    for (tip, cap) in [(109, 1100), (110, 1099), (200, 1000)] {
        assert_eq!(table.insert(tx(1, 0, tip, cap), account(0)), Err(Refused::Replacement));
    }
    let inserted = table.insert(tx(1, 0, 110, 1100), account(0)).unwrap();
    assert_eq!(inserted.replaced, Some(first.hash));
    assert_eq!(table.len(), 1);
    assert!(table.get(&first.hash).is_none());
}

#[test]
fn stale_distant_and_unaffordable_ones_are_refused_or_dropped() {
    let mut table = Table::new(Caps::default());
    assert_eq!(table.insert(tx(1, 2, 1, 10), account(3)), Err(Refused::NonceTooLow { next: 3, nonce: 2 }));
    assert_eq!(table.insert(tx(1, 67, 1, 10), account(3)), Err(Refused::NonceTooHigh { next: 3, nonce: 67 }));
    let poor = Account { balance: U256::from(10 * GAS - 1), ..account(0) };
    assert!(matches!(table.insert(tx(1, 0, 1, 10), poor), Err(Refused::Funds { .. })));
    for nonce in 0..3 {
        table.insert(tx(1, nonce, 1, 10 + u128::from(nonce)), account(0)).unwrap();
    }
    let (kept, dear) = (tx(1, 1, 1, 11), tx(1, 2, 1, 12));
    let poorer = Account { balance: U256::from(11 * GAS), ..account(1) };
    assert_eq!(table.revalidate(kept.sender, poorer), [tx(1, 0, 1, 10).hash, dear.hash]);
    assert_eq!(nonces(&table.choose(0, 9, 1 << 20)), [(1, 1)]);
    // An older answer about the account does not reopen the past.
    table.revalidate(kept.sender, account(0));
    assert!(matches!(table.insert(tx(1, 0, 5, 50), account(1)), Err(Refused::NonceTooLow { .. })));
    assert_eq!(table.len(), 1);
}

#[test]
fn a_full_table_gives_up_gapped_then_lowest_tails() {
    let mut table = Table::new(Caps { txs_max: 4, ..Caps::default() });
    for (sender, nonce, tip) in [(1, 0, 90), (1, 1, 3), (2, 0, 7), (3, 5, 80)] {
        table.insert(tx(sender, nonce, tip, 100), account(0)).unwrap();
    }
    assert_eq!(table.insert(tx(4, 0, 5, 100), account(0)).unwrap().evicted, [tx(3, 5, 80, 100).hash]);
    assert_eq!(table.insert(tx(5, 0, 4, 100), account(0)).unwrap().evicted, [tx(1, 1, 3, 100).hash]);
    assert_eq!(table.insert(tx(6, 0, 4, 100), account(0)), Err(Refused::Full));
    assert_eq!(table.len(), 4);
}

#[test]
fn what_pays_no_tip_wakes_nobody_unless_one_behind_it_pays() {
    let mut table = Table::new(Caps::default());
    table.insert(tx(1, 0, 0, 100), account(0)).unwrap();
    assert!(!table.has_work(), "it waits for the heartbeat");
    assert_eq!(nonces(&table.choose(0, 9, 1 << 20)), [(1, 0)], "which takes it along");
    table.insert(tx(1, 2, 7, 100), account(0)).unwrap();
    assert!(!table.has_work(), "behind a gap nothing can go");
    table.insert(tx(1, 1, 0, 100), account(0)).unwrap();
    assert!(table.has_work(), "the third pays for those before it");
    table.remove(&tx(1, 2, 7, 100).hash);
    assert!(!table.has_work());
}

#[test]
fn what_is_never_included_stops_waking_the_proposer() {
    let mut table = Table::new(Caps::default());
    table.insert(tx(1, 0, 1, 10), account(0)).unwrap();
    assert!(table.has_work());
    for _ in 0..OFFERS_MAX {
        assert_eq!(table.choose(0, 9, 1 << 20).len(), 1);
    }
    assert!(!table.has_work());
    table.insert(tx(2, 0, 1, 10), account(0)).unwrap();
    assert!(table.has_work());
}

/// A model as plain as can be: a list, and every rule by looking at all of it.
#[derive(Default)]
struct Model {
    held: BTreeMap<(Address, u64), Arc<Signed>>,
    nonce: BTreeMap<Address, u64>,
}

impl Model {
    fn offered(&self, base_fee: u64) -> Vec<B256> {
        let mut out = Vec::new();
        let mut next = self.nonce.clone();
        loop {
            let heads = next.iter().filter_map(|(sender, nonce)| {
                let tx = self.held.get(&(*sender, *nonce))?;
                Some((tip_at(&tx.envelope, base_fee)?, *sender, tx.hash))
            });
            let Some((_, sender, hash)) = heads.max_by_key(|(tip, sender, _)| (*tip, *sender)) else { return out };
            *next.get_mut(&sender).unwrap() += 1;
            out.push(hash);
        }
    }
}

#[test]
fn random_histories_agree_with_a_list() {
    for seed in 0..200u64 {
        let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        let mut random = move |below: u64| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state % below
        };
        let caps = Caps { txs_max: 12, bytes_max: 4096, sender_txs_max: 4 };
        let mut table = Table::new(caps);
        let mut model = Model::default();
        for _ in 0..120 {
            let sender = random(5) as u8 + 1;
            let address = Address::repeat_byte(sender);
            let nonce = *model.nonce.entry(address).or_default();
            match random(5) {
                0..=3 => {
                    let tip = u128::from(random(40));
                    let new = tx(sender, nonce + random(5), tip, tip + u128::from(random(40)));
                    let key = (address, new.envelope.nonce());
                    if let Ok(inserted) = table.insert(new.clone(), account(nonce)) {
                        assert_eq!(inserted.replaced, model.held.get(&key).map(|old| old.hash));
                        model.held.retain(|_, tx| !inserted.evicted.contains(&tx.hash));
                        model.held.insert(key, new);
                    }
                }
                _ => {
                    let nonce = nonce + random(3);
                    model.nonce.insert(address, nonce);
                    model.held.retain(|(a, n), _| *a != address || *n >= nonce);
                    table.revalidate(address, account(nonce));
                }
            }
            assert!(table.len() <= caps.txs_max && table.bytes() <= caps.bytes_max, "seed {seed}");
            assert_eq!(table.len(), model.held.len(), "seed {seed}");
            let bytes: usize = model.held.values().map(|tx| tx.envelope.encode_2718_len()).sum();
            assert_eq!(table.bytes(), bytes, "seed {seed}");
            let base_fee = random(60);
            let chosen: Vec<_> = table.choose(base_fee, 100, 1 << 20).iter().map(|tx| tx.hash).collect();
            assert_eq!(chosen, model.offered(base_fee), "seed {seed}");
        }
    }
}

#[test]
fn arbitrary_bytes_never_become_a_transaction_with_two_spellings() {
    let mut bytes = tx(1, 3, 1, 10).envelope.encoded_2718();
    let original = recover(&bytes).expect("a well-formed signature").hash;
    for at in 0..bytes.len() {
        for bit in 0..8 {
            bytes[at] ^= 1 << bit;
            if let Ok(other) = recover(&bytes) {
                assert_ne!(other.hash, original);
                assert_eq!(other.envelope.encoded_2718(), bytes);
            }
            bytes[at] ^= 1 << bit;
        }
    }
    assert!(recover(&bytes[..bytes.len() - 1]).is_err());
    assert!(recover(&[bytes.clone(), vec![0]].concat()).is_err());
}

#[test]
fn what_a_block_holds_wakes_nobody_until_its_height_is_final() {
    let mut table = Table::new(Caps::default());
    let (first, second, other) = (tx(1, 0, 5, 100), tx(1, 1, 5, 100), tx(2, 0, 1, 100));
    for waiting in [&first, &second, &other] {
        table.insert(waiting.clone(), account(0)).unwrap();
    }
    table.carry(7, &[first.hash, other.hash]);
    assert!(table.has_work());
    assert_eq!(nonces(&table.choose(0, 10, 1 << 20)), [(1, 1)]);
    table.carry(8, &[second.hash]);
    assert!(!table.has_work());
    assert!(table.choose(0, 10, 1 << 20).is_empty());
    // Height 7 became final with a block that held only the first: the other waits again.
    table.remove(&first.hash);
    table.revalidate(first.sender, account(1));
    table.release(7);
    assert!(table.has_work());
    assert_eq!(nonces(&table.choose(0, 10, 1 << 20)), [(2, 0)]);
    // Nothing of height 8 became final.
    table.release(8);
    assert_eq!(nonces(&table.choose(0, 10, 1 << 20)), [(1, 1), (2, 0)]);
    // A newcomer after a carried one is offered.
    table.carry(9, &[second.hash, other.hash]);
    table.insert(tx(1, 2, 5, 100), account(1)).unwrap();
    assert_eq!(nonces(&table.choose(0, 10, 1 << 20)), [(1, 2)]);
}
