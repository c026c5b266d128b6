//! Hold what every request needs: the ledger's door, the wire, the keys, the log.
//!
//! One `Cloud` per identity and process; clones share it. Beside the requests one task, *keeper*, posts the
//! roots of deals, anchors the log when it grew, and records who failed.

mod keeper;
#[cfg(test)]
mod tests;
mod waits;

pub use waits::PARTITION as UNPOSTED;

use crate::{
    bucket::{AT_ONCE, Buckets, Deal, Record},
    catalog::Catalogs,
    change::Change,
    crowd::Crowd,
    custody::Overlays,
    escrow::{Calendar, Holding},
    fault::Fault,
    intent::Orphans,
    keep::Leaves,
    market,
    plan::{Plan, Wish, plan},
    repair::Absences,
    rounds::Rounds,
    share::{kept::Kept, meter::Meters},
    wallet::Wallet,
};
use alloy_primitives::{B256, U256};
use commonware_runtime::{Clock, Spawner, Storage};
use futures::{FutureExt as _, StreamExt as _, TryStreamExt as _, stream};
use hodei_audit::Log;
use hodei_storage::{
    engine::{Engine, Pool, Provider, STRIPES_BYTES, Verdict},
    index::Settings,
    seal::Secret,
};
use hodei_types::{
    ack::Ack,
    code::Shape,
    event::{Actor, Fields, Kind},
    grant::{Grant, Rights},
    transport::{NodeKey, Transport},
};
use rand::CryptoRng;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, OnceLock},
    time::{Duration, SystemTime},
};
use waits::Waits;

/// A bucket's deals and providers are read from the ledger again after this.
const ROSTER_AGE: Duration = Duration::from_secs(60);
/// Grants outlive rosters, so that a long transfer ends under the grant it began with.
const GRANT_AGE: Duration = Duration::from_secs(12 * 3600);
/// Verdicts kept until the keeper records them; more are dropped, they repeat.
const VERDICTS_MAX: usize = 1024;
/// How far the ledger's clock may be behind: a block comes every fifteen seconds at least.
const BEHIND_MS: u64 = 20_000;

/// What a runtime must give.
pub trait Runtime: Clock + Spawner + Storage + CryptoRng {}
impl<E: Clock + Spawner + Storage + CryptoRng> Runtime for E {}

/// The cloud of this machine's user: a tokio runtime and iroh.
pub type Local = Cloud<commonware_runtime::tokio::Context, hodei_link::Link>;

/// A bucket's providers as they were read.
struct Roster {
    until: SystemTime,
    /// What the bucket's record said then: where that is another by now, so are they.
    shape: Shape,
    deals: u64,
    /// All of them.
    all: Arc<Vec<Provider>>,
    /// Those whose deals take new shards.
    takers: Arc<Vec<Provider>>,
}

pub(crate) struct Inner<E: Runtime, T> {
    pub(crate) context: E,
    pub(crate) engine: Engine<E, T>,
    pub(crate) wallet: Wallet,
    pub(crate) buckets: Buckets,
    /// Genesis hash.
    pub(crate) network: B256,
    pub(crate) chain_id: u64,
    /// This client's key on the wire: grants are for it.
    pub(crate) client: NodeKey,
    pub(crate) log: Option<Log<E>>,
    rosters: Mutex<BTreeMap<B256, Roster>>,
    /// Providers that are to be sent nothing new, whatever their deals say.
    shunned: Mutex<BTreeSet<NodeKey>>,
    pub(crate) absences: Absences,
    pub(crate) catalogs: Catalogs,
    pub(crate) rounds: Rounds,
    pub(crate) leaves: Leaves,
    pub(crate) overlays: Overlays,
    /// What pays for reads by passes.
    pub(crate) meters: Meters,
    unposted: Mutex<BTreeMap<u64, Ack>>,
    /// Those of them that wait for a proof.
    waits: Waits,
    posting: futures::lock::Mutex<()>,
    verdicts: Mutex<Vec<Verdict>>,
    /// Buckets that were removed and whose deals have not ended.
    going: Mutex<BTreeSet<B256>>,
    pub(crate) orphans: Orphans,
    pub(crate) sweeping: futures::lock::Mutex<()>,
    /// Who failed a check in this process, as recorded.
    blamed: Mutex<Vec<Blamed>>,
    /// Readers that keep and serve, once this one joined them.
    pub(crate) crowd: OnceLock<Crowd<E, T>>,
    /// Where what passes need without the ledger is kept, once somebody said so.
    pub(crate) kept: OnceLock<Arc<Kept>>,
}

/// A provider that failed, and where that is recorded.
#[derive(Clone, Debug)]
pub struct Blamed {
    /// What it failed first.
    pub verdict: Verdict,
    pub times: u64,
    /// Sequence of the first such event in this identity's log, if one is kept.
    pub event: Option<u64>,
}

/// See the module.
pub struct Cloud<E: Runtime, T>(pub(crate) Arc<Inner<E, T>>);

impl<E: Runtime, T> Clone for Cloud<E, T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<E: Runtime, T: Transport> Cloud<E, T> {
    /// Opens the cloud for `wallet`; `client` is the transport's own key. With a log, what is done is
    /// recorded and anchored. Spawns the keeper.
    pub async fn open(
        context: E,
        transport: T,
        client: NodeKey,
        wallet: Wallet,
        log: Option<Log<E>>,
    ) -> Result<Self, Fault> {
        let head = wallet.chain().head().await?;
        Self::open_on(context, transport, client, wallet, log, (head.genesis, head.chain_id)).await
    }

    /// The same on the network of that genesis hash and chain id, whether or not its ledger is in reach: asks it nothing.
    pub async fn open_on(
        context: E,
        transport: T,
        client: NodeKey,
        wallet: Wallet,
        log: Option<Log<E>>,
        (network, chain_id): (B256, u64),
    ) -> Result<Self, Fault> {
        let engine = Engine::new(context.child("engine"), transport, chain_id, Pool::new(STRIPES_BYTES));
        let keeper = context.child("keeper");
        let cloud = Self(Arc::new(Inner {
            context,
            engine,
            buckets: Buckets::new(wallet.clone()),
            wallet,
            network,
            chain_id,
            client,
            log,
            rosters: Mutex::default(),
            shunned: Mutex::default(),
            absences: Absences::default(),
            catalogs: Catalogs::default(),
            rounds: Rounds::default(),
            leaves: Leaves::default(),
            overlays: Overlays::default(),
            meters: Meters::default(),
            unposted: Mutex::default(),
            waits: Waits::default(),
            posting: futures::lock::Mutex::new(()),
            verdicts: Mutex::default(),
            going: Mutex::default(),
            orphans: Orphans::default(),
            sweeping: futures::lock::Mutex::new(()),
            blamed: Mutex::default(),
            crowd: OnceLock::new(),
            kept: OnceLock::new(),
        }));
        cloud.find_orphans().await?;
        cloud.owe(&cloud.0.waits.find(&cloud.0.context, &network).await?);
        cloud.keep(keeper);
        Ok(cloud)
    }

    pub fn wallet(&self) -> &Wallet {
        &self.0.wallet
    }

    /// Genesis hash of the network.
    pub fn network(&self) -> B256 {
        self.0.network
    }

    /// Offers on the market.
    pub async fn offers(&self) -> Result<Vec<market::Offer>, Fault> {
        Ok(market::offers(&**self.0.wallet.chain()).await?)
    }

    /// What a bucket would cost and survive, with providers that answer; changes nothing. Where only those are missing who
    /// may return by themselves, the fault says so, and is temporary.
    pub async fn plan(&self, wish: &Wish) -> Result<Plan, Fault> {
        let offers = self.offers().await?;
        self.plan_among(wish, offers, &BTreeSet::new(), |offers| plan(wish, offers)).await
    }

    /// Whether there may be more room within windows without anybody offering more: deals of a bucket that this owner
    /// removed end with a proof to come.
    pub async fn is_room_due(&self) -> Result<bool, Fault> {
        // Those that this process knows of, and others only where none of these is.
        let known = self.0.going.lock().expect("no panic under this lock").clone();
        if self.is_any_going(known.iter().copied().collect()).await? {
            return Ok(true);
        }
        let mut ids = self.0.buckets.ids().await?;
        ids.retain(|id| !known.contains(id));
        self.is_any_going(ids).await
    }

    /// Whether one of these buckets is being removed; none is read beyond the first few that tell.
    async fn is_any_going(&self, ids: Vec<B256>) -> Result<bool, Fault> {
        let reads: Vec<_> = ids.into_iter().map(|id| async move { self.0.buckets.read(id).await }.boxed()).collect();
        let mut records = stream::iter(reads).buffer_unordered(AT_ONCE);
        while let Some(record) = records.try_next().await? {
            if record.is_some_and(|record| record.is_going()) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Creates a bucket as planned and names it in its first index.
    pub async fn create_bucket(&self, name: &str, plan: &Plan) -> Result<Record, Fault> {
        let record = self.0.buckets.create(name, plan).await?;
        // Deals of a bucket that had this name before are over.
        self.forget_roster(record.id);
        self.change(name, None).await?;
        self.note(Kind::Deal, |fields| fields.uint("deals", plan.parts.len() as u64)).await;
        Ok(record)
    }

    /// `None` if there is none of this name, or one that is half made or half gone.
    pub async fn bucket(&self, name: &str) -> Result<Option<Record>, Fault> {
        Ok(self.record(name).await?.filter(|record| record.state.root != B256::ZERO))
    }

    pub(crate) async fn live(&self, name: &str) -> Result<Record, Fault> {
        self.bucket(name).await?.ok_or_else(|| Fault::NoBucket(name.into()))
    }

    /// Names and records of all buckets of the owner.
    pub async fn buckets(&self) -> Result<Vec<Record>, Fault> {
        Ok(self.buckets_with_settings().await?.into_iter().map(|(record, _)| record).collect())
    }

    /// The same, by name, with what each is set to.
    pub async fn buckets_with_settings(&self) -> Result<Vec<(Record, Arc<Settings>)>, Fault> {
        let ids = self.0.buckets.ids().await?;
        let named = ids.into_iter().map(|id| async move {
            let record = self.0.buckets.read(id).await?;
            let Some(mut record) = record.filter(|record| record.state.root != B256::ZERO) else { return Ok(None) };
            let run = match self.run(&record).await {
                Ok(run) => run,
                // Removed meanwhile, and its index with it.
                Err(error) => match self.0.buckets.read(id).await? {
                    Some(now) if now.state.root == record.state.root => return Err(error),
                    Some(now) if now.state.root != B256::ZERO => self.run(&now).await?,
                    _ => return Ok(None),
                },
            };
            record.name = run.bucket.clone();
            Ok::<_, Fault>(Some((record, run.settings.clone())))
        });
        let named: Vec<Option<_>> = stream::iter(named).buffered(AT_ONCE).try_collect().await?;
        let mut found: Vec<(Record, _)> = named.into_iter().flatten().collect();
        found.sort_by(|(a, _), (b, _)| a.name.cmp(&b.name));
        Ok(found)
    }

    /// Removes an empty bucket: from now on there is none of this name. `Ok(false)` if some deals end only
    /// with a proof that their providers owe; the keeper, here or in a later process, then ends the rest.
    pub async fn delete_bucket(&self, name: &str) -> Result<bool, Fault> {
        let id = self.live(name).await?.id;
        self.end_bucket(name).await?;
        self.forget_roster(id);
        let is_gone = self.0.buckets.remove(id).await;
        if !matches!(is_gone, Ok(true)) {
            self.0.going.lock().expect("no panic under this lock").insert(id);
        }
        self.note(Kind::Deal, |fields| fields.text("what", "bucket removed")).await;
        is_gone
    }

    /// Ends a bucket by the ledger's clock, whose blocks tell the second only: a lock that is over by ours is waited for.
    async fn end_bucket(&self, name: &str) -> Result<(), Fault> {
        let chain = self.0.wallet.chain();
        loop {
            let height = chain.head().await?.height;
            match self.change(name, Some(Change::End)).await {
                Err(Fault::Kept { until_ms }) if (until_ms..until_ms + BEHIND_MS).contains(&self.now_ms()) => {
                    chain.wait(height).await?;
                }
                ended => return ended.map(drop),
            }
        }
    }

    /// A bucket's deals: what is stored where, paid and owed.
    pub async fn deals(&self, name: &str) -> Result<Vec<Deal>, Fault> {
        let record = self.live(name).await?;
        self.0.buckets.deals(record.id).await
    }

    /// What a bucket's deals hold, and how long they are paid for.
    pub async fn holding(&self, record: &Record) -> Result<Holding, Fault> {
        self.0.buckets.holding(record.id).await
    }

    /// When windows from now on end.
    pub async fn calendar(&self) -> Result<Calendar, Fault> {
        self.0.buckets.calendar().await
    }

    /// Wei that it takes for a bucket to last `windows` more, were it full.
    pub async fn missing(&self, name: &str, windows: u64) -> Result<U256, Fault> {
        let id = self.live(name).await?.id;
        Ok(self.0.buckets.missing(id, windows).await?.iter().map(|(_, wei)| *wei).sum())
    }

    /// Pays for a bucket so that it lasts `windows` more, were it full; gives the wei added.
    pub async fn extend(&self, name: &str, windows: u64) -> Result<U256, Fault> {
        let id = self.live(name).await?.id;
        let missing = self.0.buckets.missing(id, windows).await?;
        self.0.buckets.top_up(&missing).await?;
        self.note(Kind::Deal, |fields| fields.text("what", "extended").uint("windows", windows)).await;
        Ok(missing.iter().map(|(_, wei)| *wei).sum())
    }

    pub(crate) fn now_ms(&self) -> u64 {
        let now = self.0.context.current().duration_since(SystemTime::UNIX_EPOCH);
        now.map_or(0, |since| since.as_millis() as u64)
    }

    pub(crate) fn secret(&self, bucket: B256) -> Secret {
        Secret::new(self.0.buckets.key(bucket))
    }

    /// The providers a bucket has open deals with, and the right to act there.
    pub(crate) async fn roster(&self, record: &Record) -> Result<Arc<Vec<Provider>>, Fault> {
        Ok(self.providers(record).await?.0)
    }

    /// Those of them that take new shards.
    pub(crate) async fn takers(&self, record: &Record) -> Result<Arc<Vec<Provider>>, Fault> {
        Ok(self.providers(record).await?.1)
    }

    /// Sends these nothing new from now on, and others again.
    pub(crate) fn shun(&self, nodes: BTreeSet<NodeKey>) {
        *self.0.shunned.lock().expect("no panic under this lock") = nodes;
    }

    /// What was read of a bucket's deals is read again when it is next needed.
    pub(crate) fn forget_roster(&self, bucket: B256) {
        self.0.rosters.lock().expect("no panic under this lock").remove(&bucket);
    }

    async fn providers(&self, record: &Record) -> Result<(Arc<Vec<Provider>>, Arc<Vec<Provider>>), Fault> {
        let now = self.0.context.current();
        if let Some(roster) = self.0.rosters.lock().expect("no panic under this lock").get(&record.id)
            && roster.until > now
            && (roster.shape, roster.deals) == (record.shape, record.state.deals)
        {
            return Ok((roster.all.clone(), roster.takers.clone()));
        }
        let signer = &self.0.wallet;
        let expires_ms = self.now_ms() + GRANT_AGE.as_millis() as u64;
        let grant =
            Grant::sign(signer.signing().bytes(), self.0.chain_id, record.id, &self.0.client, Rights::ALL, expires_ms)
                .map_err(|_| Fault::Key("the account's secret is not a secp256k1 key"))?
                .encode();
        let deals = self.0.buckets.deals(record.id).await?;
        let shunned = self.0.shunned.lock().expect("no panic under this lock").clone();
        let takes = |deal: &Deal| deal.state.capacityBytes > 0 && !shunned.contains(&deal.offer.node);
        let takes: Vec<bool> = deals.iter().map(takes).collect();
        let all: Vec<Provider> = deals.into_iter().map(|deal| deal.provider(grant.clone())).collect();
        let takers = all.iter().zip(takes).filter(|(_, takes)| *takes).map(|(provider, _)| provider.clone());
        let (takers, all) = (Arc::new(takers.collect::<Vec<_>>()), Arc::new(all));
        let read = Roster {
            until: now + ROSTER_AGE,
            shape: record.shape,
            deals: record.state.deals,
            all: all.clone(),
            takers: takers.clone(),
        };
        self.0.rosters.lock().expect("no panic under this lock").insert(record.id, read);
        Ok((all, takers))
    }

    /// Takes acks whose roots shall be posted.
    pub(crate) fn owe(&self, acks: &BTreeMap<u64, Ack>) {
        let mut unposted = self.0.unposted.lock().expect("no panic under this lock");
        for (deal, ack) in acks {
            let newest = unposted.entry(*deal).or_insert(*ack);
            if newest.statement.sequence < ack.statement.sequence {
                *newest = *ack;
            }
        }
    }

    /// The ack of a deal whose root shall be posted.
    pub(crate) fn owed(&self, deal: u64) -> Option<Ack> {
        self.0.unposted.lock().expect("no panic under this lock").get(&deal).copied()
    }

    /// Remembers who failed; the keeper records it.
    pub(crate) fn blame(&self, verdict: Verdict) {
        tracing::warn!(%verdict, "a provider failed a check");
        let mut verdicts = self.0.verdicts.lock().expect("no panic under this lock");
        if verdicts.len() < VERDICTS_MAX {
            verdicts.push(verdict);
        }
    }

    /// Records an event of this identity, where there is a log; gives its sequence. That it could not be
    /// recorded stops no request, but is told.
    pub(crate) async fn note(&self, kind: Kind, fields: impl FnOnce(Fields) -> Fields) -> Option<u64> {
        let log = self.0.log.as_ref()?;
        let actor = Actor::Account(self.0.wallet.owner());
        match log.record(self.now_ms(), kind, actor, |_| fields(Fields::new())).await {
            Ok(sequence) => Some(sequence),
            Err(error) => {
                tracing::error!(%error, "an event could not be recorded");
                None
            }
        }
    }
}
