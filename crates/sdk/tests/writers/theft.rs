//! Steal a gateway with its spending key and all it knows, and try to alter or erase what is bound.
//!
//! The thief asks the providers and the ledger itself: nothing of the client stands between. The owner then reads on a
//! machine that was never there.

use crate::{
    BUCKET, SECOND, Scene,
    fleet::Wire,
    ledger::{CHAIN_ID, Door},
    machine::Mood,
    process::{Ours, Payer, content, spender_key},
};
use alloy_primitives::{Address, B256};
use alloy_sol_types::{SolCall, SolInterface as _};
use commonware_runtime::{
    Clock as _, Runner as _, Supervisor as _,
    deterministic::{Context, Runner},
};
use futures::{TryStreamExt as _, future::join_all, stream};
use hodei_ledger::account::{Account, AccountError, Order};
use hodei_sdk::{
    Entry, Fault,
    change::{Edit, Removal},
    index::{Lock, Mode, Retention, Version},
    upload::Options,
};
use hodei_storage::engine::{Engine, Pool, Provider, STRIPES_BYTES};
use hodei_types::{
    abi::{BUCKETS, BUDGETS, DEALS, IBuckets, IBudgets, IDeals},
    grant::{Grant, Rights},
    slice::ShardId,
};
use std::{collections::BTreeMap, convert::Infallible, sync::Arc, time::UNIX_EPOCH};

/// How long it is bound here.
const BOUND_MS: u64 = 15 * 60 * 1000;

fn now_ms(context: &Context) -> u64 {
    context.current().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as u64
}

fn bound(until_ms: u64) -> Option<Lock> {
    Some(Lock { retention: Some(Retention { mode: Mode::Compliance, until_ms }), hold: None })
}

async fn put(cloud: &Ours, key: &str, number: usize, len: u64, lock: Option<Lock>) {
    let source = stream::iter([Ok::<_, Infallible>(content(number, len))]);
    let options = Options { lock, ..Options::default() };
    cloud.put(BUCKET, key, source, options).await.unwrap_or_else(|error| panic!("{key}: {error}"));
}

async fn read(cloud: &Ours, key: &str, entry: &Entry) -> Result<Vec<u8>, Fault> {
    let body = cloud.bytes(BUCKET, key, entry, None, None).await?;
    body.map_ok(|piece| piece.to_vec()).try_concat().await
}

/// All versions with bytes that a fresh reader finds.
async fn versions(cloud: &Ours) -> BTreeMap<(String, String), Entry> {
    let page = cloud.list_versions(BUCKET, "", None, None, 1000).await.expect("the bucket can be listed");
    let entries = page.entries.into_iter().filter(|one| !one.entry.marker);
    entries.map(|one| ((one.key, one.entry.version.to_string()), one.entry)).collect()
}

/// Who took the gateway's machine along.
struct Thief {
    account: Account,
    engine: Engine<Context, Wire>,
    roster: Vec<Provider>,
    scene: Arc<Scene>,
    id: B256,
}

impl Thief {
    async fn new(scene: &Arc<Scene>, stolen: &Ours) -> Self {
        let context = &scene.context;
        let wire = scene.wire(51);
        let door = Door::new(&scene.world.ledger, context.child("door"), &scene.world.dice, &Mood::default(), 0);
        let key = spender_key(0);
        let deals = stolen.deals(BUCKET).await.unwrap();
        let id = deals[0].state.bucket;
        let until_ms = now_ms(context) + 100 * BOUND_MS;
        let grant = Grant::sign(key.bytes(), CHAIN_ID, id, &wire.me, Rights::ALL, until_ms).unwrap();
        let roster = deals.into_iter().map(|deal| Provider {
            peer: deal.offer.peer(),
            deal: deal.id,
            operator: deal.offer.operator.into_array(),
            network: String::new(),
            zone: String::new(),
            grant: grant.encode(),
            meter: None,
        });
        Self {
            account: Account::new(Arc::new(door), key.bytes()).unwrap(),
            engine: Engine::new(context.child("thief"), wire, CHAIN_ID, Pool::new(STRIPES_BYTES)),
            roster: roster.collect(),
            scene: scene.clone(),
            id,
        }
    }

    fn record(&self) -> IBuckets::Bucket {
        self.scene.world.ledger.view(BUCKETS, &IBuckets::getCall { id: self.id })
    }

    /// What the ledger made of it.
    async fn send(&self, to: Address, call: &impl SolCall) -> Result<(), Vec<u8>> {
        loop {
            return match self.account.execute(&Order::call(to, call.abi_encode(), 3_000_000)).await {
                Ok(_) => Ok(()),
                Err(AccountError::Reverted(receipt)) => Err(receipt.output.to_vec()),
                // The stolen gateway's last words have the same account.
                Err(AccountError::Displaced(_)) => continue,
                Err(error) => panic!("{error}"),
            };
        }
    }

    async fn swap(&self, root: B256) -> Result<(), Vec<u8>> {
        let id = self.id;
        self.send(BUCKETS, &IBuckets::claimCall { id, blocks: 60 }).await.expect("it is the owner's budget");
        let now = self.record();
        self.send(BUCKETS, &IBuckets::commitCall { id, term: now.term, expected: now.root, root, sizeBytes: 0 }).await
    }

    /// Asks all providers to let go of all of these.
    async fn release(&self, entries: impl Iterator<Item = &Entry>, copies: &[B256]) -> usize {
        let mut shards = Vec::new();
        for part in entries.flat_map(|entry| &entry.parts) {
            // What is gone already is gone.
            shards.extend(self.engine.shards(&self.roster, part.page(), |_| ()).await.unwrap_or_default());
        }
        let all = |id: &B256| self.roster.iter().map(|provider| (provider.deal, ShardId(id.0))).collect::<Vec<_>>();
        shards.extend(copies.iter().flat_map(all));
        shards.sort_unstable();
        shards.dedup();
        self.engine.release(&self.roster, shards).await.kept
    }

    fn leaves(&self) -> Vec<B256> {
        let listed = self.scene.world.ledger.view(BUCKETS, &IBuckets::keptCall { id: self.id, first: 0, most: 64 });
        listed.iter().map(|one| one.leaf).collect()
    }

    async fn end_on_the_ledger(&self) {
        let id = self.id;
        let locked = |output: Vec<u8>, what: &str| {
            let by_deals = matches!(IDeals::IDealsErrors::abi_decode(&output), Ok(IDeals::IDealsErrors::Locked(_)));
            let by_bucket =
                matches!(IBuckets::IBucketsErrors::abi_decode(&output), Ok(IBuckets::IBucketsErrors::Locked(_)));
            assert!(by_deals || by_bucket, "{what}: {output:?}");
        };
        for provider in &self.roster {
            let deal = provider.deal;
            let close = IDeals::closeCall { deals: vec![deal] };
            locked(self.send(DEALS, &close).await.expect_err("a deal was closed"), "close");
            for (capacity, what) in [(0, "shrink"), (1 << 39, "grow")] {
                let one = IDeals::Resize { deal, capacityBytes: capacity, priceMax: u128::MAX };
                let resize = IDeals::resizeCall { deals: vec![one] };
                locked(self.send(DEALS, &resize).await.expect_err("a deal was resized"), what);
            }
        }
        locked(self.send(BUCKETS, &IBuckets::removeCall { id }).await.expect_err("it was removed"), "remove");
        let lapse = IBuckets::lapseCall { id, leaves: self.leaves() };
        locked(self.send(BUCKETS, &lapse).await.expect_err("leaves were taken off"), "lapse");
        locked(self.swap(B256::ZERO).await.expect_err("the bucket lost its root"), "root");
        let release = IBudgets::releaseCall { spender: self.account.address() };
        self.send(BUDGETS, &release).await.expect_err("only the owner ends a budget");
    }
}

#[test]
fn with_the_gateway_and_its_key_stolen_what_is_bound_is_neither_altered_nor_erased() {
    Runner::seeded(5).start(|context| async move {
        let scene = Arc::new(Scene::new(context).await);
        let context = &scene.context;
        let gateway = scene.cloud(&scene.process(0, Payer::Spender(0))).await;
        let on = |name: &str, document: &str| (name.to_owned(), Some(document.to_owned()));
        gateway.set_all(BUCKET, vec![on("versioning", "Enabled"), on("object-lock", "on")]).await.unwrap();
        let before = gateway.deals(BUCKET).await.unwrap()[0].state.bucket;
        let before = scene.world.ledger.view(BUCKETS, &IBuckets::getCall { id: before }).root;
        let until_ms = now_ms(context) + BOUND_MS;
        // Large, small ones that share a pack, and one that is bound only afterwards and then for longer.
        put(&gateway, "large", 1, 900_000, bound(until_ms)).await;
        let names: Vec<String> = (0..6).map(|at| format!("small/{at}")).collect();
        let small = |at: usize| (&names[at], at + 10, if at == 5 { None } else { bound(until_ms) });
        join_all((0..6).map(|at| {
            let ((name, number, lock), gateway) = (small(at), &gateway);
            async move { put(gateway, name, number, 2000, lock).await }
        }))
        .await;
        put(&gateway, "later", 3, 5000, None).await;
        put(&gateway, "loose", 4, 70_000, None).await;
        for longer in [0, 60_000] {
            let retention = Some(Retention { mode: Mode::Compliance, until_ms: until_ms + longer });
            let edit = Edit::Retention { retention, bypass: false };
            gateway.edit(BUCKET, "later", None, edit).await.unwrap();
        }
        let put_there = versions(&gateway).await;
        let is_bound = |entry: &Entry| entry.lock.is_some_and(|lock| lock.retention.is_some());
        assert_eq!((put_there.len(), put_there.values().filter(|entry| is_bound(entry)).count()), (9, 7));

        // The thief uses the gateway as it is meant to be used,
        for ((key, version), entry) in put_there.iter().filter(|(_, entry)| is_bound(entry)) {
            let version: Version = version.parse().unwrap();
            let removal = Removal { version: Some(version), bypass: true, ..Removal::default() };
            let refused = gateway.remove_as(BUCKET, key, removal).await;
            assert!(matches!(refused, Err(Fault::Locked { .. })), "{refused:?}");
            let edit = Edit::Retention { retention: None, bypass: true };
            let refused = gateway.edit(BUCKET, key, Some(entry.version), edit).await;
            assert!(matches!(refused, Err(Fault::Locked { .. })), "{refused:?}");
        }
        put(&gateway, "large", 99, 1000, None).await;
        // then without it,
        let thief = Thief::new(&scene, &gateway).await;
        drop(gateway);
        // What it was about to say on the ledger, with the same account, is said; nothing old was let go of yet.
        context.sleep(SECOND * 3).await;
        thief.end_on_the_ledger().await;
        let now = thief.record().root;
        thief.swap(before).await.expect("a root is whatever its author says");
        let kept = thief.release(put_there.values(), &[thief.leaves(), vec![now]].concat()).await;
        assert!(kept > 30, "only {kept} shards were kept");
        // and the owner reads each version that is bound, from an index that names none of them.
        let owner = scene.cloud(&scene.process(1, Payer::Owner)).await;
        let judge = async |owner: &Ours, others: usize| {
            let found = versions(owner).await;
            for ((key, version), entry) in put_there.iter().filter(|(_, entry)| is_bound(entry)) {
                let now = &found[&(key.clone(), version.clone())];
                assert_eq!((now.etag.as_str(), now.lock), (entry.etag.as_str(), entry.lock), "{key}");
                let number = match key.as_str() {
                    "large" => 1,
                    "later" => 3,
                    key => 10 + key.rsplit('/').next().unwrap().parse::<usize>().unwrap(),
                };
                let bytes = read(owner, key, now).await.unwrap_or_else(|error| panic!("{key}: {error}"));
                assert!(bytes == content(number, entry.size_bytes()), "{key} came back as something else");
            }
            assert_eq!(found.len(), 7 + others, "what is not bound went with its index");
        };
        judge(&owner, 0).await;
        let loose = &put_there.iter().find(|((key, _), _)| key == "loose").unwrap().1;
        assert!(read(&owner, "loose", loose).await.is_err(), "its shards were released");
        // The next write heals the index: then it names them by itself.
        put(&owner, "after", 7, 3000, None).await;
        judge(&scene.cloud(&scene.process(2, Payer::Owner)).await, 1).await;
        // A root that nobody has hides nothing either; but nothing is written over it.
        context.sleep(SECOND * 90).await;
        thief.swap(B256::repeat_byte(9)).await.expect("a root is whatever its author says");
        let reader = scene.cloud(&scene.process(3, Payer::Owner)).await;
        judge(&reader, 0).await;
        let source = stream::iter([Ok::<_, Infallible>(content(1, 10))]);
        assert!(reader.put(BUCKET, "more", source, Options::default()).await.is_err());
        assert!(scene.world.ledger.law(|law| law.broken.is_empty()));
        // Once the time is over, what was bound goes like everything.
        while now_ms(context) < until_ms + 70_000 {
            context.sleep(SECOND * 10).await;
        }
        let leaves = thief.leaves();
        thief.send(BUCKETS, &IBuckets::lapseCall { id: thief.id, leaves }).await.expect("their time is over");
        assert_eq!(thief.release(put_there.values(), &[]).await, 0);
        let large = &put_there.iter().find(|((key, _), _)| key == "large").unwrap().1;
        assert!(read(&reader, "large", large).await.is_err(), "its shards were released");
    });
}
