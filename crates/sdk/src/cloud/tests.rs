//! Show what a client owes to the ledger, on a ledger that takes one thing and not the other.

mod waits;

use super::*;
use crate::{
    change::{Edit, Removal},
    complete::Source,
    intent::{Cause, Journal},
    object::Entry,
    recode,
    redundancy::{Redundancy, Wanted},
    repair::{Ask, Repair, Survey},
    upload::{Judged, Options},
};
use alloy_primitives::{Address, Bytes, U256, keccak256};
use commonware_runtime::{Runner as _, Supervisor as _, deterministic, mocks};
use futures::{
    FutureExt as _,
    future::{BoxFuture, pending, ready},
    stream,
};
use hodei_audit::Config;
use hodei_types::{
    abi::DEALS,
    ack::{Signer, Statement},
    chain::{Account, AnchorProof, Certificate, Chain, ChainError, Head, Log as Logged, LogFilter, TxReceipt},
    key::{KeyKind, SecretKey},
    transport::{Peer, Protocol, TransportError},
};

fn is_send<T: Send>(_: T) {}

/// Every request can be spawned: servers need it. That this compiles is the test.
#[expect(dead_code)]
fn requests_are_send(cloud: &Local, plan: &Plan) {
    is_send(cloud.plan(&Wish::default()));
    is_send(cloud.is_room_due());
    is_send(cloud.create_bucket("", plan));
    is_send(cloud.buckets());
    is_send(cloud.bucket(""));
    is_send(cloud.delete_bucket(""));
    is_send(cloud.deals(""));
    is_send(cloud.flush());
    is_send(cloud.put("", "", stream::empty::<Result<bytes::Bytes, String>>(), Options::default()));
    is_send(cloud.put_again("", "", |_| stream::empty::<Result<bytes::Bytes, String>>(), Options::default()));
    is_send(cloud.close());
    is_send(cloud.close_read());
    is_send(cloud.extend("", 1));
    is_send(cloud.sweep(0));
    is_send(cloud.part("", 1, stream::empty::<Result<bytes::Bytes, String>>(), Default::default(), None, None));
    is_send(cloud.complete("", "", vec![], Judged::default(), None, Options::default()));
    is_send(cloud.copy(
        Source { bucket: "", key: "", entry: &Entry::default(), customer: None },
        "",
        "",
        Options::default(),
    ));
    is_send(cloud.look("", "", None));
    is_send(cloud.bytes("", "", &Entry::default(), None, None));
    is_send(cloud.list_versions("", "", None, None, 1));
    is_send(cloud.remove_as("", "", Removal::default()));
    is_send(cloud.edit("", "", None, Edit::Hold(true)));
    is_send(cloud.settings(""));
    is_send(cloud.set("", "", None));
    is_send(cloud.head("", ""));
    is_send(cloud.get("", "", None));
    is_send(cloud.list("", "", None, None, 1));
    is_send(cloud.remove("", ""));
    is_send(cloud.locate("", "", None));
    is_send(cloud.stripes("", "", None));
    is_send(cloud.plan_redundancy("", &Wanted::default()));
    is_send(cloud.recode("", recode::Options::default()));
    is_send(cloud.await_release());
}

/// The rest of a change of redundancy.
#[expect(dead_code)]
fn changes_are_send(cloud: &Local, planned: &Redundancy) {
    is_send(cloud.begin_redundancy("", planned));
    is_send(cloud.end_redundancy("", planned));
}

/// A repair.
#[expect(dead_code)]
fn repairs_are_send(cloud: &Local, found: &Survey, planned: &Repair) {
    is_send(cloud.survey("", &Ask::default(), |_, _| {}));
    is_send(cloud.plan_repair("", found.clone(), &Ask::default(), 1));
    is_send(cloud.begin_repair("", planned));
    is_send(cloud.repair("", planned, recode::Options::default()));
    is_send(cloud.end_repair("", planned, found));
}

/// Takes every transaction at once, but cannot be asked about deals, and is not done with other questions ever; nor, where
/// it is mute, with those.
#[derive(Default)]
struct Deaf(Mutex<Vec<B256>>, bool);

fn told<T: Send + 'static>(value: T) -> BoxFuture<'static, Result<T, ChainError>> {
    ready(Ok(value)).boxed()
}

impl Deaf {
    fn tip(&self) -> Head {
        let height = 1 + self.0.lock().unwrap().len() as u64;
        Head { height, hash: B256::ZERO, time_ms: 0, base_fee: 1, chain_id: 5, genesis: B256::ZERO }
    }
}

impl Chain for Deaf {
    fn head(&self) -> BoxFuture<'_, Result<Head, ChainError>> {
        told(self.tip())
    }

    fn wait(&self, _: u64) -> BoxFuture<'_, Result<Head, ChainError>> {
        told(self.tip())
    }

    fn certificate(&self, _: u64) -> BoxFuture<'_, Result<Certificate, ChainError>> {
        unreachable!()
    }

    fn account(&self, _: Address) -> BoxFuture<'_, Result<Account, ChainError>> {
        told(Account { balance: U256::MAX, nonce: 0, pending_nonce: 0 })
    }

    fn submit(&self, raw: Bytes) -> BoxFuture<'_, Result<B256, ChainError>> {
        let hash = keccak256(&raw);
        self.0.lock().unwrap().push(hash);
        told(hash)
    }

    fn receipt(&self, tx: B256) -> BoxFuture<'_, Result<Option<TxReceipt>, ChainError>> {
        told(Some(TxReceipt { tx, height: 2, success: true, gas_used: 0, logs: vec![], output: Bytes::new() }))
    }

    fn call(&self, _: Address, to: Address, _: Bytes) -> BoxFuture<'_, Result<Bytes, ChainError>> {
        if self.1 || to != DEALS {
            return pending().boxed();
        }
        ready(Err(ChainError::Unavailable("nobody knows deals".into()))).boxed()
    }

    fn logs(&self, _: LogFilter) -> BoxFuture<'_, Result<Vec<Logged>, ChainError>> {
        told(Vec::new())
    }

    fn anchor(&self, _: u64, _: Bytes) -> BoxFuture<'_, Result<AnchorProof, ChainError>> {
        unreachable!()
    }
}

#[derive(Clone)]
struct NoWire;

impl Transport for NoWire {
    type Sink = mocks::Sink;
    type Stream = mocks::Stream;

    async fn open(&self, peer: &Peer, _: Protocol) -> Result<(mocks::Sink, mocks::Stream), TransportError> {
        Err(TransportError::Unreachable(peer.key, "no wire".into()))
    }
}

#[test]
fn what_was_done_is_anchored_although_roots_cannot_be_posted() {
    deterministic::Runner::default().start(|context| async move {
        let chain = Arc::new(Deaf::default());
        let wallet = Wallet::open(chain.clone(), &SecretKey::new(KeyKind::Account, [7; 32])).unwrap();
        let signer = Signer::new(&[1; 32]);
        let (node, ack) =
            (signer.node(), signer.ack(5, Statement { deal: 3, sequence: 1, position: 0, root: [0; 32], leaves: 1 }));
        let log = Log::open(context.child("log"), Config::new("log", B256::ZERO, [3; 32]), signer).await.unwrap();
        let cloud = Cloud::open(context.child("cloud"), NoWire, node, wallet, Some(log)).await.unwrap();
        cloud.owe(&[(3, ack)].into());
        cloud.note(Kind::Get, |fields| fields).await.unwrap();
        let error = cloud.flush().await.unwrap_err();
        assert!(error.is_temporary(), "{error}");
        assert_eq!(chain.0.lock().unwrap().len(), 1, "the anchor");
        assert_eq!(cloud.0.log.as_ref().unwrap().anchor_of(0).await.unwrap().map(|(signed, _)| signed.size), Some(1));
        assert_eq!(cloud.0.unposted.lock().unwrap().keys().collect::<Vec<_>>(), [&3], "still owed");
    });
}

/// What is to be released may wait for somebody who is away: neither an upload that goes on nor a process that ends
/// waits with it.
#[test]
fn a_sweep_that_waits_keeps_nobody_waiting() {
    deterministic::Runner::timed(Duration::from_secs(600)).start(|context| async move {
        let wallet = Wallet::open(Arc::new(Deaf::default()), &SecretKey::new(KeyKind::Account, [7; 32])).unwrap();
        let orphans = Orphans::default();
        let bucket = B256::repeat_byte(9);
        let now_ms = context.current().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_millis() as u64;
        // As two killed processes left them: one may be gone on with, the other is of use to nobody.
        let store = context.child("cloud");
        for (name, cause) in [([1; 16], Cause::Once), ([2; 16], Cause::Again)] {
            let journal =
                Journal::begin(&store, &orphans, name, cause, (bucket, "photos", "a/b"), now_ms).await.unwrap();
            journal.sync().await;
        }
        let cloud = Cloud::open(store, NoWire, NodeKey([1; 32]), wallet, None).await.unwrap();
        // The sweeper has begun, and asks about the bucket.
        context.sleep(Duration::from_secs(5)).await;
        assert!(cloud.0.sweeping.try_lock().is_none(), "it waits for an answer");
        let found = cloud.interrupted(bucket, "a/b").now_or_never();
        assert_eq!(found.expect("at once").map(|(name, _)| name), Some([2; 16]));
        assert!(cloud.interrupted(bucket, "a/b").await.is_none(), "it is somebody's by now");

        let begun = context.current();
        cloud.close().await.unwrap();
        let took = context.current().duration_since(begun).unwrap();
        assert!(took < Duration::from_secs(15), "{took:?}");
    });
}

#[test]
fn a_process_that_read_waits_some_seconds_for_a_mute_ledger_and_leaves_what_it_owes_on_disk() {
    deterministic::Runner::timed(Duration::from_secs(600)).start(|context| async move {
        let chain = Arc::new(Deaf(Mutex::default(), true));
        let wallet = Wallet::open(chain, &SecretKey::new(KeyKind::Account, [7; 32])).unwrap();
        let signer = Signer::new(&[1; 32]);
        let ack =
            |sequence| signer.ack(5, Statement { deal: 3, sequence, position: 0, root: [0; 32], leaves: sequence });
        let cloud = Cloud::open(context.child("cloud"), NoWire, signer.node(), wallet, None).await.unwrap();
        cloud.owe(&[(3, ack(1))].into());
        // The keeper has begun to post it, and waits for an answer; then there is more.
        context.sleep(Duration::from_secs(5)).await;
        assert!(cloud.0.posting.try_lock().is_none(), "it waits for an answer");
        cloud.owe(&[(3, ack(2))].into());
        let begun = context.current();
        let error = cloud.close_read().await.unwrap_err();
        assert!(error.is_temporary(), "{error}");
        let took = context.current().duration_since(begun).unwrap();
        assert!(took < Duration::from_secs(15), "{took:?}");
        let kept = super::waits::Waits::default().find(&context, &B256::ZERO).await.unwrap();
        assert_eq!(kept, BTreeMap::from([(3, ack(2))]));
    });
}

#[test]
fn a_reader_is_one_by_any_key_of_its_identity_and_another_on_each_network() {
    let account = |secret| SecretKey::new(KeyKind::Account, [secret; 32]);
    let open = |secret| Wallet::open(Arc::new(Deaf::default()), &account(secret)).unwrap();
    let (whole, other) = (open(7), open(9));
    let data = account(7).data_root();
    let capped = Wallet::capped(Arc::new(Deaf::default()), whole.owner(), &account(8), &data).unwrap();
    let (here, there) = (B256::repeat_byte(1), B256::repeat_byte(2));
    assert_eq!(*whole.reader_seed(&here), *capped.reader_seed(&here));
    assert_ne!(*whole.reader_seed(&here), *whole.reader_seed(&there));
    assert_ne!(*whole.reader_seed(&here), *other.reader_seed(&here));
}
