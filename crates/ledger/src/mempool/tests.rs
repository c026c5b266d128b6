//! Pools that gossip over a simulated network.

use super::*;
use alloy_consensus::{SignableTransaction as _, TxEip1559, TxEip7702, TxEnvelope};
use alloy_eips::eip7702::Authorization;
use alloy_primitives::{Signature, TxKind, U256};
use commonware_cryptography::{Signer as _, ed25519};
use commonware_p2p::simulated::{Config, Link, Network};
use commonware_parallel::Sequential;
use commonware_runtime::{Clock as _, Quota, Runner as _, Supervisor as _, deterministic};
use commonware_utils::{NZU32, NZUsize, probability};
use std::time::Duration;

const RULES: Rules = Rules { chain_id: 7, block_gas: 30_000_000, fee_floor: 5, tx_bytes_max: 128 << 10 };

/// Everybody is rich, and has sent `nonce` transactions.
struct World {
    nonce: Mutex<u64>,
}

impl Accounts for World {
    fn accounts(&self, addresses: Vec<Address>) -> BoxFuture<'_, Option<Vec<Account>>> {
        let account = Account { nonce: *self.nonce.lock().unwrap(), balance: U256::MAX, ..Account::default() };
        Box::pin(std::future::ready(Some(vec![account; addresses.len()])))
    }
}

fn pool() -> (Pool, Arc<World>) {
    let (pool, world) = (Pool::new(RULES, Caps::default()), Arc::new(World { nonce: Mutex::new(0) }));
    let accounts: Weak<World> = Arc::downgrade(&world);
    pool.attach(accounts);
    (pool, world)
}

fn base() -> TxEip1559 {
    TxEip1559 {
        chain_id: RULES.chain_id,
        gas_limit: 30_000,
        max_fee_per_gas: 10,
        max_priority_fee_per_gas: 1,
        to: TxKind::Call(Address::repeat_byte(1)),
        ..TxEip1559::default()
    }
}

/// Signed by the key 0x01…01.
fn sign(tx: TxEip1559) -> Bytes {
    let secret = secp256k1::SecretKey::from_byte_array([1; 32]).unwrap();
    let message = secp256k1::Message::from_digest(tx.signature_hash().0);
    let (id, bytes) = secp256k1::SECP256K1.sign_ecdsa_recoverable(message, &secret).serialize_compact();
    let signature = Signature::from_bytes_and_parity(&bytes, i32::from(id) == 1);
    TxEnvelope::Eip1559(tx.into_signed(signature)).encoded_2718().into()
}

#[test]
fn refusals_speak_geths_words() {
    deterministic::Runner::default().start(|_| async move {
        let (pool, world) = pool();
        *world.nonce.lock().unwrap() = 3;
        let refusal = |tx: TxEip1559| {
            let pool = pool.clone();
            async move { pool.insert(sign(tx)).await.unwrap_err().to_string() }
        };
        let cases = [
            (TxEip1559 { nonce: 2, ..base() }, "nonce too low: next nonce 3, tx nonce 2"),
            (TxEip1559 { chain_id: 8, nonce: 3, ..base() }, "invalid chain id for signer: have 8 want 7"),
            (
                TxEip1559 { gas_limit: 20_999, nonce: 3, ..base() },
                "intrinsic gas too low: gas 20999, minimum needed 21000",
            ),
            (
                TxEip1559 { max_fee_per_gas: 4, nonce: 3, ..base() },
                "transaction underpriced: gas fee cap 4, minimum needed 5",
            ),
            (
                TxEip1559 { max_priority_fee_per_gas: 11, nonce: 3, ..base() },
                "max priority fee per gas higher than max fee per gas: maxPriorityFeePerGas: 11, maxFeePerGas: 10",
            ),
            (
                TxEip1559 { gas_limit: 16_777_217, nonce: 3, ..base() },
                "transaction gas limit too high (cap: 16777216, tx: 16777217)",
            ),
        ];
        for (tx, words) in cases {
            assert_eq!(refusal(tx).await, words);
        }
        let good = sign(TxEip1559 { nonce: 3, ..base() });
        pool.insert(good.clone()).await.unwrap();
        assert_eq!(pool.insert(good).await.unwrap_err().to_string(), "already known");
        let dearer = TxEip1559 { nonce: 3, max_fee_per_gas: 11, ..base() };
        assert_eq!(refusal(dearer).await, "replacement transaction underpriced");
        let blob = Bytes::from_static(&[3, 0xc0]);
        assert_eq!(pool.insert(blob).await.unwrap_err().to_string(), "transaction type not supported");
    });
}

/// One that were taken and never executed would hold back all that follow it.
#[test]
fn kinds_that_are_never_executed_are_refused() {
    deterministic::Runner::default().start(|_| async move {
        let (pool, _world) = pool();
        let authorization = Authorization { chain_id: U256::ZERO, address: Address::repeat_byte(2), nonce: 1 };
        let tx = TxEip7702 {
            chain_id: RULES.chain_id,
            gas_limit: 200_000,
            max_fee_per_gas: 10,
            max_priority_fee_per_gas: 1,
            to: Address::repeat_byte(1),
            authorization_list: vec![authorization.into_signed(Signature::test_signature())],
            ..TxEip7702::default()
        };
        let raw = TxEnvelope::Eip7702(tx.into_signed(Signature::test_signature())).encoded_2718();
        for raw in [raw, vec![3, 0xc0], vec![4, 0xc0]] {
            let refused = pool.insert(raw.into()).await.unwrap_err();
            assert_eq!(refused.to_string(), "transaction type not supported");
        }
    });
}

#[test]
fn a_submission_reaches_the_other_pool_even_over_a_lossy_link() {
    deterministic::Runner::timed(Duration::from_secs(60)).start(|context| async move {
        let keys: Vec<_> = (1..3).map(|seed| ed25519::PrivateKey::from_seed(seed).public_key()).collect();
        let config = Config {
            max_size: MESSAGE_BYTES_MAX as u32,
            max_peers_per_set: NZUsize!(2),
            disconnect_on_block: false,
            tracked_peer_sets: NZUsize!(1),
        };
        let (network, oracle) = Network::new_with_peers(context.child("network"), config, keys.clone()).await;
        network.start();
        let mut pools = Vec::new();
        for (index, key) in keys.iter().enumerate() {
            let (sender, receiver) =
                oracle.control(key.clone()).register(7, Quota::per_second(NZU32!(1000))).await.unwrap();
            let (pool, world) = pool();
            let label = ["first", "second"][index];
            Gossip::new(context.child(label), pool.clone(), Sequential).start(sender, receiver);
            pools.push((pool, world));
        }
        // Three of four messages are lost: only announcing again gets it through.
        let link = Link { latency: Duration::from_millis(5), jitter: Duration::ZERO, success_rate: probability!(0.25) };
        oracle.add_link(keys[0].clone(), keys[1].clone(), link.clone()).await.unwrap();
        oracle.add_link(keys[1].clone(), keys[0].clone(), link).await.unwrap();

        let (first, _) = &pools[0];
        let (second, world) = &pools[1];
        let hash = first.insert(sign(base())).await.unwrap();
        second.arrived().await;
        assert_eq!(second.choose(0, 10, 1 << 20)[0].hash, hash);
        assert_eq!(second.news(0), (1, vec![hash]));

        // Upon its inclusion, the pool forgets it and the proposer waits again.
        *world.nonce.lock().unwrap() = 1;
        second.finalized(1, &[hash]).await;
        assert_eq!(second.size(), (0, 0));
        let waited = commonware_macros::select! {
            _ = second.arrived() => false,
            _ = context.sleep(Duration::from_millis(500)) => true,
        };
        assert!(waited, "nothing waits");
        // What another announces again after its inclusion is stale.
        context.sleep(Duration::from_secs(8)).await;
        assert_eq!(second.size(), (0, 0));
    });
}

#[test]
fn a_signature_is_recovered_once_on_its_way_from_gossip_to_a_block() {
    deterministic::Runner::default().start(|_| async move {
        let (pool, _world) = pool();
        let raw = sign(base());
        assert_eq!(pool.receive(std::slice::from_ref(&raw), &Sequential).await, 1);
        let pooled = pool.get(&alloy_primitives::keccak256(&raw)).unwrap();
        // What a block's verification takes is the very one that gossip recovered, whatever buffer it came in.
        let again = Bytes::copy_from_slice(&raw);
        let verified = pool.senders().all(std::slice::from_ref(&again), &Sequential).remove(0).unwrap();
        assert!(Arc::ptr_eq(&pooled, &verified));
        assert!(Arc::ptr_eq(&pooled, &pool.choose(0, 10, 1 << 20)[0]));
        // And a transaction first seen in a block is not recovered again when it is announced.
        let raw = sign(TxEip1559 { nonce: 1, ..base() });
        let verified = pool.senders().all(std::slice::from_ref(&raw), &Sequential).remove(0).unwrap();
        pool.receive(&[raw], &Sequential).await;
        assert!(Arc::ptr_eq(&pool.get(&verified.hash).unwrap(), &verified));
    });
}
