//! Be a process that writes: one wallet, one cloud, several requests at once, until it is killed or told to end.

use crate::{
    fleet::Wire,
    ledger::{Door, Ledger},
    machine::{Dice, Disk, Machine, Mood},
    tale::{Digest, Fate, Tale},
};
use alloy_primitives::Address;
use bytes::Bytes;
use commonware_runtime::{Clock as _, Handle, Spawner as _, Supervisor as _, deterministic::Context};
use futures::{
    TryStreamExt as _,
    channel::mpsc,
    future::{Either, select},
    stream,
};
use hodei_sdk::{
    Cloud, Fault,
    change::Removal,
    condition::{Condition, Tag},
    share::{Opened, Told},
    upload::Options,
    wallet::Wallet,
};
use hodei_types::{
    chain::Chain,
    key::{KeyKind, SecretKey},
};
use std::{
    convert::Infallible,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

pub(crate) const BUCKET: &str = "shared-bucket";
/// Requests of one process at once.
const LANES: usize = 2;
/// Chance in percent that a question to the ledger, or its answer, is lost.
const LOSSES: u64 = 2;

pub(crate) type Ours = Cloud<Machine, Wire>;

/// Whose account pays and signs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Payer {
    /// A spending account of the owner's, by number.
    Spender(u8),
    /// The owner itself, who may take a term from anybody.
    Owner,
    /// Somebody else, who looks after the bucket where its owner appoints them.
    Custodian,
}

pub(crate) fn main_key() -> SecretKey {
    SecretKey::new(KeyKind::Account, [1; 32])
}

pub(crate) fn spender_key(number: u8) -> SecretKey {
    SecretKey::new(KeyKind::Account, [10 + number; 32])
}

fn custodian_key() -> SecretKey {
    SecretKey::new(KeyKind::Account, [30; 32])
}

impl Payer {
    pub(crate) fn address(self) -> Address {
        let key = match self {
            Self::Spender(number) => spender_key(number),
            Self::Owner => main_key(),
            Self::Custodian => custodian_key(),
        };
        hodei_sdk::wallet::address(&key).expect("small numbers are secrets")
    }

    pub(crate) fn wallet(self, chain: Arc<dyn Chain>) -> Wallet {
        match self {
            Self::Owner => Wallet::open(chain, &main_key()),
            Self::Custodian => Wallet::open(chain, &custodian_key()),
            Self::Spender(number) => {
                let owner = Self::Owner.address();
                Wallet::capped(chain, owner, &spender_key(number), &main_key().data_root())
            }
        }
        .expect("keys of the right kind")
    }
}

/// What all processes of a run share.
#[derive(Clone)]
pub(crate) struct World {
    pub(crate) ledger: Arc<Ledger>,
    pub(crate) dice: Dice,
    pub(crate) tale: Arc<Tale>,
    pub(crate) is_ending: Arc<AtomicBool>,
}

/// A machine, and the process on it while it runs.
pub(crate) struct Process {
    pub(crate) number: u64,
    pub(crate) payer: Payer,
    pub(crate) disk: Disk,
    pub(crate) mood: Mood,
    pub(crate) wire: Wire,
    pub(crate) running: Option<Handle<()>>,
}

/// A cloud on a machine, within the task whose context this is.
pub(crate) async fn open(context: Context, world: &World, payer: Payer, disk: Disk, wire: Wire) -> Ours {
    let machine = Machine::new(context.child("machine"), disk, wire.mood.clone());
    let door = Door::new(&world.ledger, context.child("door"), &world.dice, &wire.mood, LOSSES);
    let wallet = payer.wallet(Arc::new(door));
    loop {
        match Cloud::open(machine.child("cloud"), wire.clone(), wire.me, wallet.clone(), None).await {
            Ok(cloud) => return cloud,
            Err(_) => context.sleep(Duration::from_secs(1)).await,
        }
    }
}

impl Process {
    pub(crate) fn start(&mut self, context: &Context, world: &World, done: &mpsc::UnboundedSender<u64>) {
        let (world, payer, disk, wire) = (world.clone(), self.payer, self.disk.clone(), self.wire.clone());
        let (number, done) = (self.number, done.clone());
        self.mood.calm();
        self.running = Some(context.child("process").spawn(move |context| async move {
            let cloud = open(context.child("opening"), &world, payer, disk, wire).await;
            let lanes: Vec<_> = (0..LANES)
                .map(|lane| {
                    let lane = Lane { cloud: cloud.clone(), world: world.clone(), name: format!("{number}-{lane}") };
                    let done = done.clone();
                    context.child("lane").spawn(move |context| async move {
                        while !lane.world.is_ending.load(Ordering::Relaxed) {
                            if lane.act(&context).await == Some(Fate::Done) {
                                let _ = done.unbounded_send(number);
                            }
                            context.sleep(lane.world.dice.ms(1..400)).await;
                        }
                    })
                })
                .collect();
            for lane in lanes {
                lane.await.expect("a lane ends by itself");
            }
            // What is left undone the next process on this machine does.
            let _ = cloud.close().await;
        }));
    }

    /// Without a word to anybody, wherever it was.
    pub(crate) fn kill(&mut self) {
        if let Some(running) = self.running.take() {
            running.abort();
        }
    }
}

/// One line of requests, each after the other.
struct Lane {
    cloud: Ours,
    world: World,
    name: String,
}

pub(crate) fn content(number: usize, len: u64) -> Bytes {
    let mut bytes = vec![0u8; len as usize];
    blake3::Hasher::new().update(&number.to_le_bytes()).finalize_xof().fill(&mut bytes);
    bytes.into()
}

pub(crate) fn digest(bytes: &[u8]) -> Digest {
    *blake3::hash(bytes).as_bytes()
}

pub(crate) async fn put(cloud: &Ours, key: &str, bytes: Bytes, condition: Condition) -> Result<(), Fault> {
    let source = stream::iter([Ok::<_, Infallible>(bytes)]);
    let options = Options { condition, ..Options::default() };
    cloud.put(BUCKET, key, source, options).await.map(drop)
}

/// What a key holds, and the etag it had; none if it is free.
pub(crate) async fn get(cloud: &Ours, key: &str) -> Result<Option<(Vec<u8>, String)>, Fault> {
    let Some(entry) = cloud.head(BUCKET, key).await? else { return Ok(None) };
    let body = cloud.bytes(BUCKET, key, &entry, None, None).await?;
    let bytes = body.map_ok(|piece| piece.to_vec()).try_concat().await?;
    Ok(Some((bytes, entry.etag)))
}

/// Whether an error says that nothing was done.
fn fate(result: &Result<(), Fault>) -> Fate {
    match result {
        Ok(()) => Fate::Done,
        Err(Fault::Chain(_) | Fault::Pending { .. } | Fault::Contended | Fault::Local(_)) => Fate::Unknown,
        Err(_) => Fate::Refused,
    }
}

impl Lane {
    /// One request, begun, and ended if nothing comes between.
    async fn act(&self, context: &Context) -> Option<Fate> {
        let Self { cloud, world: World { dice, tale, .. }, name } = self;
        let len = if dice.chance(10) { dice.within(1..900_000) } else { dice.within(0..3000) };
        let number = dice.within(0..u64::MAX) as usize;
        let bytes = content(number, len);
        let any = Condition::default();
        match dice.within(0..100) {
            // Its own keys: what they hold is known exactly.
            0..40 => {
                let key = format!("own/{name}/{}", dice.within(0..3));
                let deed = tale.begin(&key, Some(digest(&bytes)));
                let fate = self.patiently(context, deed, put(cloud, &key, bytes.clone(), any)).await;
                if fate == Fate::Done && dice.chance(30) {
                    match get(cloud, &key).await {
                        Ok(Some((found, _))) => assert!(found == bytes, "{key}: another's bytes right after its put"),
                        Ok(None) => panic!("{key} is gone right after its put"),
                        Err(error) => assert!(error.is_temporary(), "{key} right after its put: {error}"),
                    }
                }
                Some(fate)
            }
            40..52 => {
                let key = format!("own/{name}/{}", dice.within(0..3));
                let deed = tale.begin(&key, None);
                let removal = cloud.remove_as(BUCKET, &key, Removal::default());
                Some(self.patiently(context, deed, async { removal.await.map(drop) }).await)
            }
            // Everybody's keys.
            52..67 => {
                let key = format!("all/{}", dice.within(0..3));
                let deed = tale.begin(&key, Some(digest(&bytes)));
                Some(self.patiently(context, deed, put(cloud, &key, bytes, any)).await)
            }
            67..92 => {
                let key = format!("count/{}", dice.within(0..2));
                let (before, condition) = match get(cloud, &key).await.ok()? {
                    None => (Vec::new(), Condition::absent()),
                    Some((bytes, etag)) => (bytes, Condition { matches: Some(Tag::Is(etag)), ..any }),
                };
                // Its own number is part of what it writes: begun first, told then.
                let next = |deed: usize| [&before[..], format!("{deed}\n").as_bytes()].concat();
                let deed = tale.begin(&key, None);
                tale.hold(deed, digest(&next(deed)));
                Some(self.patiently(context, deed, put(cloud, &key, next(deed).into(), condition)).await)
            }
            _ => {
                let key = format!("once/{}", dice.within(0..30));
                let deed = tale.begin(&key, Some(digest(&bytes)));
                Some(self.patiently(context, deed, put(cloud, &key, bytes, Condition::absent())).await)
            }
        }
    }

    /// Waits for the end, or, as clients do, only for a while.
    async fn patiently(
        &self,
        context: &Context,
        deed: usize,
        request: impl Future<Output = Result<(), Fault>>,
    ) -> Fate {
        let dice = &self.world.dice;
        let patience = if dice.chance(6) { dice.ms(1..700) } else { Duration::from_secs(3600) };
        let fate = match select(pin!(request), pin!(context.sleep(patience))).await {
            Either::Left((result, _)) => fate(&result),
            Either::Right(_) => Fate::Unknown,
        };
        self.world.tale.end(deed, fate);
        fate
    }
}

/// An object of that content, put at once.
pub(crate) async fn put_whole(cloud: &Ours, key: &str, number: usize, len: u64) {
    let source = stream::iter([Ok::<_, Infallible>(content(number, len))]);
    cloud.put(BUCKET, key, source, Options::default()).await.unwrap_or_else(|error| panic!("{key}: {error}"));
}

/// The bytes behind what was opened; of a folder, those at a path.
pub(crate) async fn read(cloud: &Ours, opened: &Opened, path: &str) -> Vec<u8> {
    let object = match &opened.told {
        Told::One(object) => object,
        Told::Many(folder) => folder.file(path).expect("it is in the folder"),
    };
    let body = cloud.fetch(opened, object, None).unwrap();
    body.map_ok(|piece| piece.to_vec()).try_concat().await.unwrap_or_else(|error| panic!("{path}: {error}"))
}
