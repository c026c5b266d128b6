//! Measure what a plain transfer costs a validator, station by station, on one thread and a disk in memory.
//!
//! Usage: cargo run --release -p hodei-ledger --features full --example transfer [BLOCKS] [TRANSFERS]
//!
//! Each block holds a transfer from each of TRANSFERS senders to a new account. Figures are CPU time a transfer.
#![recursion_limit = "256"]
#![allow(clippy::disallowed_methods, reason = "an example that measures has a clock and arguments")]

use alloy_consensus::{SignableTransaction as _, TxEip1559, TxEnvelope, proofs};
use alloy_eips::Encodable2718 as _;
use alloy_primitives::{Address, B256, Bytes, Signature, TxKind, U256, keccak256};
use commonware_cryptography::keccak256::Digest;
use commonware_glue::stateful::db::{DatabaseSet as _, Unmerkleized as _};
use commonware_parallel::Sequential;
use commonware_runtime::{Runner as _, Supervisor as _, buffer::paged::CacheRef, deterministic};
use commonware_utils::{NZU16, NZUsize};
use futures::future::BoxFuture;
use hodei_ledger::{
    execute::{Account, Env, Executor, Fault, Need, Params, Signed, View, hints},
    genesis::{Disk, Slashing},
    mempool::{Accounts, Caps, Pool, Rules, recover},
    state::{self, Databases, pack, unpack},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::{Duration, Instant},
};

const CHAIN: u64 = 7;

struct Key {
    secret: secp256k1::SecretKey,
    address: Address,
}

impl Key {
    fn new(n: usize) -> Self {
        let secret = secp256k1::SecretKey::from_byte_array(keccak256(n.to_be_bytes()).0).expect("a hash is a key");
        let public = secret.public_key(secp256k1::SECP256K1).serialize_uncompressed();
        Self { address: Address::from_slice(&keccak256(&public[1..])[12..]), secret }
    }

    fn transfer(&self, nonce: u64, to: Address) -> Bytes {
        let tx = TxEip1559 {
            chain_id: CHAIN,
            nonce,
            gas_limit: 21_000,
            max_fee_per_gas: 10,
            max_priority_fee_per_gas: 1,
            to: TxKind::Call(to),
            value: U256::from(1),
            ..TxEip1559::default()
        };
        let message = secp256k1::Message::from_digest(tx.signature_hash().0);
        let (id, bytes) = secp256k1::SECP256K1.sign_ecdsa_recoverable(message, &self.secret).serialize_compact();
        let signature = Signature::from_bytes_and_parity(&bytes, i32::from(id) == 1);
        TxEnvelope::Eip1559(tx.into_signed(signature)).encoded_2718().into()
    }
}

/// Finalized accounts: everybody is rich, and has sent this many.
struct Rich(u64);

impl Accounts for Rich {
    fn accounts(&self, addresses: Vec<Address>) -> BoxFuture<'_, Option<Vec<Account>>> {
        let account = Account { nonce: self.0, balance: U256::MAX, ..Account::default() };
        Box::pin(std::future::ready(Some(vec![account; addresses.len()])))
    }
}

/// Sums what each station took.
#[derive(Default)]
struct Bill(BTreeMap<&'static str, Duration>);

impl Bill {
    fn pay<T>(&mut self, station: &'static str, work: impl FnOnce() -> T) -> T {
        let start = Instant::now();
        let done = work();
        self.add(station, start);
        done
    }

    fn add(&mut self, station: &'static str, start: Instant) {
        *self.0.entry(station).or_default() += start.elapsed();
    }
}

fn env(height: u64, count: usize) -> Env {
    Env {
        height,
        time_ms: 1_000_000 + height * 1000,
        parent_time_ms: 1_000_000 + height.saturating_sub(1) * 1000,
        beneficiary: Address::repeat_byte(9),
        base_fee: 1,
        gas_limit: 21_000 * count as u64 + 30_000_000,
        mix_hash: B256::repeat_byte(1),
        parent_hash: B256::repeat_byte(2),
    }
}

fn main() {
    let mut args = std::env::args().skip(1).map(|arg| arg.parse::<usize>().expect("a number"));
    let (blocks, count) = (args.next().unwrap_or(8), args.next().unwrap_or(1000));
    let params = Params {
        chain_id: CHAIN,
        window_ms: 86_400_000,
        slashing: Slashing::default(),
        settlement: Default::default(),
    };
    let keys: Vec<Key> = (0..count).map(Key::new).collect();
    let rich: Vec<_> = keys.iter().map(|key| (key.address, U256::from(u64::MAX))).collect();
    deterministic::Runner::default().start(|context| async move {
        let cache = CacheRef::new(NZU16!(4084), NZUsize!(4096));
        let disk = Disk { page_bytes: 4084, section_items: 4096 };
        type E = deterministic::Context;
        let databases =
            Databases::<E>::init(context.child("state"), state::config::<E>("t", &disk, &cache), None).await;
        let mut bill = Bill::default();
        for height in 1..=blocks as u64 + 1 {
            let raws: Vec<Bytes> = match height {
                1 => Vec::new(),
                _ => keys
                    .iter()
                    .enumerate()
                    .map(|(n, key)| key.transfer(height - 2, Key::new(1 << 20 | (n + count * height as usize)).address))
                    .collect(),
            };
            let mut bill_of_block = Bill::default();
            let bill = if height <= 2 { &mut bill_of_block } else { &mut bill };
            let rules = Rules { chain_id: CHAIN, block_gas: 60_000_000, fee_floor: 1, tx_bytes_max: 1 << 17 };
            let pool = Pool::new(rules, Caps::default());
            let accounts: Arc<dyn Accounts> = Arc::new(Rich(height.saturating_sub(2)));
            pool.attach(Arc::downgrade(&accounts));
            let senders = pool.senders().clone();
            bill.pay("recover one signature", || raws.iter().for_each(|raw| drop(recover(raw))));
            senders.all(&raws, &Sequential).into_iter().for_each(drop);
            let txs: Vec<Arc<Signed>> = bill.pay("recognise what was recovered", || {
                senders.all(&raws, &Sequential).into_iter().map(Result::unwrap).collect()
            });

            let start = Instant::now();
            assert_eq!(pool.receive(&raws, &Sequential).await, raws.len());
            bill.add("admit to the pool", start);
            bill.pay("choose from the pool, by the leader alone", || pool.choose(1, count, 1 << 24));
            let start = Instant::now();
            pool.finalized(height, &txs.iter().map(|tx| tx.hash).collect::<Vec<_>>()).await;
            bill.add("drop from the pool", start);

            let (mut state, code) = databases.new_batches().await;
            let mut executor = Executor::new(params, env(height, count), View::new());
            let start = Instant::now();
            let wanted: BTreeSet<Need> = txs.iter().flat_map(|tx| hints(tx, Address::repeat_byte(9))).collect();
            let keys: Vec<Digest> = wanted
                .iter()
                .filter_map(|need| if let Need::Key(key) = need { Some(Digest::from(key.0)) } else { None })
                .collect();
            let values = state.get_many(&keys.iter().collect::<Vec<_>>()).await.expect("memory does not fail");
            for (key, value) in keys.iter().zip(values) {
                executor.view().load(B256::from(key.0), value.map(|record| unpack(&record)));
            }
            bill.add("load accounts", start);
            let mut index = 0;
            let mut stage = usize::from(height > 1);
            let start = Instant::now();
            let mut waiting = Duration::ZERO;
            loop {
                let ran = (|| {
                    if stage == 0 {
                        executor.genesis(&rich)?;
                        stage = 1;
                    }
                    if stage == 1 {
                        executor.begin()?;
                        stage = 2;
                    }
                    let mut run = executor.start();
                    while let Some(tx) = txs.get(index) {
                        run.apply(tx)?;
                        index += 1;
                    }
                    Ok(())
                })();
                match ran {
                    Ok(()) => break,
                    Err(Fault::Missing(needs)) => {
                        let start = Instant::now();
                        for need in needs {
                            let Need::Key(key) = need else { panic!("no code is called") };
                            let value = state.get(&Digest::from(key.0)).await.expect("memory does not fail");
                            executor.view().load(key, value.map(|record| unpack(&record)));
                        }
                        waiting += start.elapsed();
                    }
                    Err(fault) => panic!("{fault}"),
                }
            }
            *bill.0.entry("execute").or_default() += start.elapsed() - waiting;
            let outcome = bill.pay("gather what changed", || executor.finish());
            bill.pay("root of receipts", || proofs::calculate_receipt_root(&outcome.receipts));
            bill.pay("root of transactions", || {
                proofs::ordered_trie_root_with_encoder(&raws, |raw, out| {
                    out.extend_from_slice(raw);
                })
            });
            let start = Instant::now();
            for (key, value) in outcome.writes {
                state = state.write(Digest::from(key.0), value.map(|bytes| pack(&bytes)));
            }
            let sealed = (state.merkleize().await.expect("memory"), code.merkleize().await.expect("memory"));
            bill.add("merkleize", start);
            let start = Instant::now();
            databases.apply(sealed).await;
            databases.finalize().await.durable().await;
            bill.add("apply and persist", start);
        }
        let transfers = ((blocks - 1) * count) as u32;
        for (station, took) in &bill.0 {
            println!("{:>8.2} µs  {station}", (*took / transfers).as_nanos() as f64 / 1000.0);
        }
        let all: Duration = bill.0.values().sum();
        println!("{:>8.2} µs  in all", (all / transfers).as_nanos() as f64 / 1000.0);
    });
}
