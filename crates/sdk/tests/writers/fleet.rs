//! Run providers with the real shard store on disks of their own, one of which forgets.

use crate::{
    ledger::{CHAIN_ID, Ledger},
    machine::{Dice, Disk, Mood},
};
use alloy_primitives::{Address, B256};
use bytes::Bytes;
use commonware_runtime::{Clock as _, Handle, Spawner as _, Supervisor as _, deterministic::Context, mocks};
use futures::future::BoxFuture;
use hodei_storage::{
    crowd::Book,
    shard::{Config, Store, StoreError},
    wire::{self, Answer, LIST_BYTES_MAX, Reason, Request, WireError},
};
use hodei_types::{
    abi::{BUCKETS, BUDGETS, DEALS, IBuckets, IBudgets, IDeals},
    ack::Signer,
    grant::{Grant, Rights},
    index::Ordered,
    transport::{CROWD, Incoming, NodeKey, Peer, Protocol, Transport, TransportError},
};
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

pub(crate) const HOSTS: usize = 6;
/// Of which the store lays out segments of 8 MiB.
const PLEDGE_BYTES: u64 = 512 << 20;

type Shards = Store<Disk, Ordered>;

struct Running {
    disk: Disk,
    store: Option<Shards>,
    writer: Option<Handle<()>>,
    /// Until then each answer takes longer.
    slow_until: SystemTime,
    /// It takes what is sent, and answers nothing.
    is_silent: bool,
    /// It says that it has whatever it is asked for.
    boasts: bool,
    /// It takes no shard, and says so to who greets it or not.
    rests: Option<Rests>,
    /// Questions that it still answers.
    answers: Option<usize>,
}

/// How a provider rests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rests {
    /// It says so to who greets it.
    Says,
    /// It greets as one that takes.
    Hides,
    /// It says so, and gives nothing either.
    Shut,
}

/// How long it says that it will.
pub(crate) const REST_MS: u32 = 5_000;

struct Host {
    signer: Arc<Signer>,
    running: Mutex<Running>,
    /// Readers that keep and serve, as they said to it.
    book: Mutex<Book>,
}

/// Answers a stream that another reader opened.
pub(crate) type ReaderDoor = Arc<dyn Fn(Incoming<mocks::Sink, mocks::Stream>) -> BoxFuture<'static, ()> + Send + Sync>;

/// All providers.
pub(crate) struct Fleet {
    context: Context,
    dice: Dice,
    ledger: Arc<Ledger>,
    hosts: Vec<Host>,
    readers: Mutex<BTreeMap<NodeKey, ReaderDoor>>,
    buckets: Mutex<BTreeMap<u64, B256>>,
    signers: Mutex<BTreeMap<(NodeKey, B256, Vec<u8>), Option<Address>>>,
}

impl Fleet {
    pub(crate) async fn start(context: &Context, dice: &Dice, ledger: &Arc<Ledger>) -> Arc<Self> {
        let epoch = UNIX_EPOCH;
        let running = || Running {
            disk: Disk::default(),
            store: None,
            writer: None,
            slow_until: epoch,
            is_silent: false,
            boasts: false,
            rests: None,
            answers: None,
        };
        let host = |seed| Host {
            signer: Arc::new(Signer::new(&[seed; 32])),
            running: Mutex::new(running()),
            book: Mutex::default(),
        };
        let fleet = Arc::new(Self {
            context: context.child("fleet"),
            dice: dice.clone(),
            ledger: ledger.clone(),
            hosts: (0..HOSTS as u8).map(|index| host(100 + index)).collect(),
            readers: Mutex::default(),
            buckets: Mutex::default(),
            signers: Mutex::default(),
        });
        for host in 0..HOSTS {
            fleet.power_on(host).await;
        }
        fleet
    }

    pub(crate) fn signer(&self, host: usize) -> &Signer {
        &self.hosts[host].signer
    }

    /// What is on its disk now.
    pub(crate) fn image(&self, host: usize) -> Disk {
        self.hosts[host].running.lock().unwrap().disk.image()
    }

    pub(crate) async fn power_on(&self, host: usize) {
        let signer = self.hosts[host].signer.clone();
        let disk = self.hosts[host].running.lock().unwrap().disk.clone();
        let config = Config { segment_bytes: 8 << 20, ..Config::new("shards", PLEDGE_BYTES, CHAIN_ID) };
        // The index is a cache: it is made anew of what the disk says.
        let (store, writer) = Store::open(disk, config, signer, Ordered::default()).await.expect("its own disk");
        let writer = self.context.child("writer").spawn(move |_| writer.run());
        let mut running = self.hosts[host].running.lock().unwrap();
        (running.store, running.writer) = (Some(store), Some(writer));
    }

    /// Sequence and leaves of the newest statement that a running provider signed of a deal.
    pub(crate) async fn stands(&self, host: usize, deal: u64) -> Option<(u64, u64)> {
        let store = self.hosts[host].running.lock().unwrap().store.clone()?;
        let (ack, _) = store.state(deal).await.ok()?;
        ack.map(|ack| (ack.statement.sequence, ack.statement.leaves))
    }

    pub(crate) fn power_off(&self, host: usize) {
        let mut running = self.hosts[host].running.lock().unwrap();
        running.store = None;
        if let Some(writer) = running.writer.take() {
            writer.abort();
        }
    }

    /// From now on it accepts whatever is opened to it, and says nothing, as one that is stopped does.
    pub(crate) fn silence(&self, host: usize) {
        self.hosts[host].running.lock().unwrap().is_silent = true;
    }

    /// From now on it says that it has whatever it is asked for, and gives what it has.
    pub(crate) fn boast(&self, host: usize) {
        self.hosts[host].running.lock().unwrap().boasts = true;
    }

    /// From now on it takes nothing new.
    pub(crate) fn rest(&self, host: usize, rests: Rests) {
        self.hosts[host].running.lock().unwrap().rests = Some(rests);
    }

    /// It answers so many questions more, and then none.
    pub(crate) fn silence_after(&self, host: usize, questions: usize) {
        self.hosts[host].running.lock().unwrap().answers = Some(questions);
    }

    /// Goes on from an older image of its disk: whatever it signed since is forgotten.
    pub(crate) async fn roll_back(&self, host: usize, image: &Disk) {
        self.power_off(host);
        self.hosts[host].running.lock().unwrap().disk = image.image();
        self.power_on(host).await;
    }

    /// From now on a reader answers others.
    pub(crate) fn reached(&self, reader: NodeKey, door: ReaderDoor) {
        self.readers.lock().unwrap().insert(reader, door);
    }

    /// Readers hold the fleet, and it held them.
    pub(crate) fn forget_readers(&self) {
        let readers = std::mem::take(&mut *self.readers.lock().unwrap());
        drop(readers);
    }

    pub(crate) fn slow(&self, host: usize, until: SystemTime) {
        self.hosts[host].running.lock().unwrap().slow_until = until;
    }

    /// Whether a client may do any of `rights` to a deal, as a provider's door-keeper judges.
    fn may(&self, client: NodeKey, deal: u64, grant: &[u8], rights: Rights) -> bool {
        // Asked so before there is a deal: whether it is there.
        if deal == 0 {
            return false;
        }
        let bucket = *self
            .buckets
            .lock()
            .unwrap()
            .entry(deal)
            .or_insert_with(|| self.ledger.view(DEALS, &IDeals::getCall { deal }).bucket);
        let Some(told) = Grant::decode(grant).filter(|told| told.rights.intersects(rights)) else { return false };
        let key = (client, bucket, grant.to_vec());
        let mut signers = self.signers.lock().unwrap();
        let signer = *signers.entry(key).or_insert_with(|| told.signer(CHAIN_ID, bucket, &client));
        let held = self.ledger.law(|law| law.buckets.get(&bucket).copied());
        let owner_of = |spender| self.ledger.view(BUDGETS, &IBudgets::ownerOfCall { spender });
        let is_custodian = |account| self.ledger.view(BUCKETS, &IBuckets::isCustodianCall { id: bucket, account });
        held.zip(signer).is_some_and(|(held, signer)| {
            let is_side = signer == held.owner || signer == held.holder || owner_of(signer) == held.owner;
            is_side || (!rights.contains(Rights::RELEASE) && is_custodian(signer))
        })
    }

    async fn serve(
        &self,
        clock: &Context,
        host: usize,
        client: &Wire,
        (mut sink, mut stream): (mocks::Sink, mocks::Stream),
    ) -> Result<(), WireError> {
        let request = Request::decode(&wire::receive(&mut stream, LIST_BYTES_MAX).await?)?;
        clock.sleep(self.dice.ms(1..8)).await;
        let (store, slow_until, boasts, rests) = {
            let running = self.hosts[host].running.lock().unwrap();
            (running.store.clone(), running.slow_until, running.boasts, running.rests)
        };
        let Some(store) = store else { return Ok(()) };
        let is_busy = match &request {
            Request::Hello { .. } => matches!(rests, Some(Rests::Says | Rests::Shut)),
            Request::Put { .. } => rests.is_some(),
            Request::Get { .. } => rests == Some(Rests::Shut),
            _ => false,
        };
        if is_busy {
            return wire::send(&mut sink, Answer::Busy { retry_after_ms: REST_MS }.encode(), Bytes::new()).await;
        }
        if let Request::Hello { version } = request {
            let hello = Answer::Hello { version, free_bytes: store.free_bytes(), queued_bytes: 0 };
            return wire::send(&mut sink, hello.encode(), Bytes::new()).await;
        }
        let (deal, grant, rights) = match &request {
            Request::Put { deal, grant, .. } => (*deal, grant, Rights::WRITE),
            Request::Get { deal, grant, .. } => (*deal, grant, Rights::READ),
            Request::Has { deal, grant, .. } => (*deal, grant, Rights::READ | Rights::WRITE),
            Request::Release { deal, grant, .. } => (*deal, grant, Rights::RELEASE),
            Request::Keep { deal, grant, .. } => (*deal, grant, Rights::WRITE),
            Request::State { deal, grant } => (*deal, grant, Rights::READ | Rights::WRITE),
            Request::List { deal, grant, .. } => (*deal, grant, Rights::READ),
            Request::Announce { deal, grant, .. } | Request::Who { deal, grant, .. } => (*deal, grant, Rights::READ),
            other => panic!("no client here asks {other:?}"),
        };
        let mut body = Bytes::new();
        let answer = if self.may(client.me, deal, grant, rights) {
            let done = match request {
                Request::Put { id, len, upload, .. } => {
                    let shard = wire::body(&mut stream, len as usize).await?;
                    store.put(deal, id, upload, shard).await.map(Answer::Held)
                }
                Request::Get { id, offset, len, .. } => {
                    store.get(deal, id, offset, len).await.map(|slice| match slice {
                        Some(slice) => {
                            body = slice.bytes;
                            let len = body.len() as u32;
                            Answer::Slice { shard_bytes: slice.shard_bytes, offset, len, hashes: slice.hashes }
                        }
                        None => Answer::Gone,
                    })
                }
                Request::Has { ids, .. } if boasts => Ok(bitmap(&vec![true; ids.len()])),
                Request::Has { ids, .. } => store.has(deal, &ids).await.map(|held| bitmap(&held)),
                Request::Keep { ids, until_ms, .. } => store.keep(deal, &ids, until_ms).await.map(|held| bitmap(&held)),
                Request::State { .. } => state(&store, deal).await,
                Request::List { from, .. } => {
                    let listed = store.list(deal, from).await;
                    listed.map(|(shards, next, end)| Answer::Listed { next, end, shards })
                }
                Request::Announce { ids, addresses, secs, .. } => {
                    let (bucket, kept) = (self.buckets.lock().unwrap()[&deal].0, ids.len() as u64);
                    let mut book = self.hosts[host].book.lock().unwrap();
                    let secs = book.remember(bucket, client.me, (addresses, ids), secs, clock.current());
                    Ok(Answer::Announced { kept, secs })
                }
                Request::Who { ids, .. } => {
                    let (bucket, chance) = (self.buckets.lock().unwrap()[&deal].0, self.dice.within(0..1000) as usize);
                    let book = self.hosts[host].book.lock().unwrap();
                    Ok(Answer::Keepers(book.who(bucket, client.me, &ids, chance, clock.current())))
                }
                Request::Release { ids, .. } => {
                    let now_ms = self.ledger.head().time_ms;
                    store.tell(now_ms);
                    let kept = store.kept(deal, &ids).await.unwrap_or_default();
                    match store.release(deal, &ids).await {
                        Ok(_) if kept.iter().any(|until_ms| *until_ms > now_ms) => {
                            Ok(Answer::Refused { reason: Reason::Kept, text: "kept".into() })
                        }
                        Ok(_) => state(&store, deal).await,
                        Err(error) => Err(error),
                    }
                }
                _ => unreachable!("looked at above"),
            };
            done.unwrap_or_else(|error| match error {
                StoreError::Full { free_bytes } => Answer::Full { free_bytes },
                StoreError::Busy { .. } => Answer::Busy { retry_after_ms: 100 },
                other => Answer::Refused { reason: Reason::Broken, text: other.to_string() },
            })
        } else {
            Answer::Refused {
                reason: Reason::NotGranted,
                text: "not the word of the owner, a budget of the owner's or the holder".into(),
            }
        };
        if slow_until > clock.current() {
            clock.sleep(self.dice.ms(100..1500)).await;
        }
        clock.sleep(self.dice.ms(1..8)).await;
        // Who stands still takes no answer.
        client.mood.moves(clock).await;
        wire::send(&mut sink, answer.encode(), body).await
    }
}

fn bitmap(held: &[bool]) -> Answer {
    let mut bits = vec![0u8; held.len().div_ceil(8)];
    held.iter().enumerate().for_each(|(at, held)| bits[at / 8] |= u8::from(*held) << (at % 8));
    Answer::Bitmap(bits)
}

async fn state(store: &Shards, deal: u64) -> Result<Answer, StoreError> {
    store.state(deal).await.map(|(ack, shards)| Answer::State { ack, shards })
}

/// A client's way to the providers.
#[derive(Clone)]
pub(crate) struct Wire {
    pub(crate) fleet: Arc<Fleet>,
    pub(crate) me: NodeKey,
    pub(crate) mood: Mood,
}

impl Transport for Wire {
    type Sink = mocks::Sink;
    type Stream = mocks::Stream;

    async fn open(&self, peer: &Peer, protocol: Protocol) -> Result<(mocks::Sink, mocks::Stream), TransportError> {
        let fleet = &self.fleet;
        if protocol == CROWD {
            let door = fleet.readers.lock().unwrap().get(&peer.key).cloned();
            let door = door.ok_or(TransportError::Unreachable(peer.key, "no reader is there".into()))?;
            fleet.context.sleep(Duration::from_millis(1)).await;
            let (client_sink, stream) = mocks::Channel::init();
            let (sink, client_stream) = mocks::Channel::init();
            fleet.context.child("reader").spawn({
                let from = self.me;
                move |_| async move { door(Incoming { from, protocol, sink, stream }).await }
            });
            return Ok((client_sink, client_stream));
        }
        let host = fleet.hosts.iter().position(|host| host.signer.node() == peer.key).expect("one of ours");
        self.mood.moves(&fleet.context).await;
        fleet.context.sleep(Duration::from_millis(1)).await;
        if fleet.hosts[host].running.lock().unwrap().store.is_none() {
            return Err(TransportError::Unreachable(peer.key, "it is off".into()));
        }
        let (client_sink, stream) = mocks::Channel::init();
        let (sink, client_stream) = mocks::Channel::init();
        let is_silent = {
            let mut running = fleet.hosts[host].running.lock().unwrap();
            if let Some(left) = &mut running.answers {
                match left.checked_sub(1) {
                    Some(fewer) => *left = fewer,
                    None => running.is_silent = true,
                }
            }
            running.is_silent
        };
        if is_silent {
            fleet.context.child("silent").spawn(move |_| async move {
                let _held = (sink, stream);
                std::future::pending::<()>().await;
            });
            return Ok((client_sink, client_stream));
        }
        let (client, serving) = (self.clone(), fleet.clone());
        fleet.context.child("request").spawn(move |clock| async move {
            // A client that goes away in the middle is nobody's fault.
            let _ = serving.serve(&clock, host, &client, (sink, stream)).await;
        });
        Ok((client_sink, client_stream))
    }
}
