//! Run providers in memory that keep, lose, corrupt or ignore what they are given.

mod tab;

pub(crate) use tab::Tab;

use bytes::Bytes;
use commonware_runtime::{Clock as _, Spawner as _, Supervisor as _, deterministic::Context, mocks};
use hodei_storage::{
    engine::{Engine, Pool, Provider},
    wire::{self, Answer, Held, LIST_BYTES_MAX, Reason, Request},
};
use hodei_types::{
    ack::{Signer, Statement},
    decline::{Decline, Ground},
    holding::{self, Node},
    slice::{self, CHUNK_BYTES, ShardId},
    transport::{NodeKey, Peer, Protocol, Transport, TransportError},
};
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

pub(crate) const CHAIN_ID: u64 = 77;
/// The grant of who pays.
pub(crate) const METERED: &[u8] = b"metered";

/// How a provider behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    Up,
    /// Refuses connections.
    Down,
    /// Accepts streams and never answers.
    Mute,
    /// Begins to answer a read, and stops in the middle of its bytes.
    Stall,
    /// Flips a bit in all it serves.
    Corrupt,
    /// Acks with another key's signature.
    Forge,
    /// Acks, and keeps nothing.
    Forget,
    /// Answers after this many milliseconds.
    Slow(u64),
    /// Says that it is busy for so many milliseconds.
    Busy(u32),
    /// The same to who greets it or brings something; it gives what it has.
    Rests(u32),
    /// Has no room.
    Full,
    /// Has none under this deal.
    DealFull,
    /// Declines each shard it is asked about, by its signed word.
    Decline,
    /// The same under another key's signature.
    Excuse,
}

struct Store {
    mode: Mode,
    shards: BTreeMap<ShardId, Bytes>,
    /// (id, leaves) in ack order.
    entries: Vec<(ShardId, u64)>,
    /// What pays for reads under a metered grant.
    tab: Option<Tab>,
}

pub(crate) struct Host {
    signer: Signer,
    store: Mutex<Store>,
}

/// All providers, and the wire between them and the client.
#[derive(Clone)]
pub(crate) struct Fleet {
    context: Arc<Context>,
    hosts: Arc<Vec<Host>>,
}

impl Fleet {
    pub(crate) fn new(context: &Context, count: u8) -> Self {
        let host = |i: u8| Host {
            signer: Signer::new(&[i + 1; 32]),
            store: Mutex::new(Store { mode: Mode::Up, shards: BTreeMap::new(), entries: Vec::new(), tab: None }),
        };
        Self { context: Arc::new(context.child("fleet")), hosts: Arc::new((0..count).map(host).collect()) }
    }

    pub(crate) fn set(&self, host: usize, mode: Mode) {
        self.hosts[host].store.lock().unwrap().mode = mode;
    }

    /// Gives to who has the metered grant only as this tab pays.
    pub(crate) fn meter(&self, host: usize, tab: Tab) {
        self.hosts[host].store.lock().unwrap().tab = Some(tab);
    }

    pub(crate) fn tab(&self, host: usize, change: impl FnOnce(&mut Tab)) {
        change(self.hosts[host].store.lock().unwrap().tab.as_mut().unwrap());
    }

    /// Bytes a host gave under its tab, ticks it has for them, and reads it refused.
    pub(crate) fn counted(&self, host: usize) -> (u64, u32, u32) {
        let store = self.hosts[host].store.lock().unwrap();
        store.tab.as_ref().map_or((0, 0, 0), |tab| (tab.served, tab.tick.index, tab.refused))
    }

    /// Shards kept by all together.
    pub(crate) fn shards(&self) -> usize {
        self.hosts.iter().map(|host| host.store.lock().unwrap().shards.len()).sum()
    }

    /// All that anybody keeps.
    pub(crate) fn all(&self) -> BTreeMap<ShardId, Bytes> {
        self.hosts.iter().flat_map(|host| host.store.lock().unwrap().shards.clone()).collect()
    }

    pub(crate) fn node(&self, host: usize) -> NodeKey {
        self.hosts[host].signer.node()
    }

    /// One operator each, in three zones that are also the networks.
    pub(crate) fn roster(&self) -> Arc<Vec<Provider>> {
        let provider = |(i, host): (usize, &Host)| Provider {
            peer: Peer::at(host.signer.node(), vec![]),
            deal: i as u64 + 1,
            operator: [i as u8; 20],
            network: format!("zone {}", i % 3),
            zone: format!("{}", i % 3),
            grant: b"granted".to_vec(),
            meter: None,
        };
        Arc::new(self.hosts.iter().enumerate().map(provider).collect())
    }

    pub(crate) fn engine(&self, context: &Context, pool: Pool) -> Engine<Context, Self> {
        Engine::new(context.child("engine"), self.clone(), CHAIN_ID, pool)
    }
}

impl Transport for Fleet {
    type Sink = mocks::Sink;
    type Stream = mocks::Stream;

    async fn open(&self, peer: &Peer, _: Protocol) -> Result<(mocks::Sink, mocks::Stream), TransportError> {
        let at = self.hosts.iter().position(|host| host.signer.node() == peer.key).unwrap();
        let mode = self.hosts[at].store.lock().unwrap().mode;
        if mode == Mode::Down {
            return Err(TransportError::Unreachable(peer.key, "refused".into()));
        }
        let (client_sink, stream) = mocks::Channel::init();
        let (sink, client_stream) = mocks::Channel::init();
        let hosts = self.hosts.clone();
        self.context.child("host").spawn(move |context| async move {
            // A client that goes away in the middle is nobody's fault.
            let _ = serve(&context, &hosts[at], mode, at as u64 + 1, sink, stream).await;
        });
        Ok((client_sink, client_stream))
    }
}

async fn serve(
    context: &Context,
    host: &Host,
    mode: Mode,
    deal_here: u64,
    mut sink: mocks::Sink,
    mut stream: mocks::Stream,
) -> Result<(), wire::WireError> {
    let request = Request::decode(&wire::receive(&mut stream, LIST_BYTES_MAX).await?)?;
    match mode {
        Mode::Mute => return std::future::pending().await,
        Mode::Slow(ms) => context.sleep(Duration::from_millis(ms)).await,
        _ => {}
    }
    let mut after = Bytes::new();
    if let Mode::Busy(retry_after_ms) = mode {
        return wire::send(&mut sink, Answer::Busy { retry_after_ms }.encode(), Bytes::new()).await;
    }
    let rests = if let Mode::Rests(retry_after_ms) = mode { Some(retry_after_ms) } else { None };
    let declined = |deal, id| {
        let signer = if mode == Mode::Excuse { &Signer::new(&[200; 32]) } else { &host.signer };
        Answer::Declined(Decline { deal, id, time_ms: 5, ground: Ground::Report }.sign(CHAIN_ID, signer))
    };
    let answer = match request {
        Request::Put { deal, id, .. } | Request::Get { deal, id, .. }
            if matches!(mode, Mode::Decline | Mode::Excuse) =>
        {
            declined(deal, id)
        }
        Request::Has { ids, .. } if matches!(mode, Mode::Decline | Mode::Excuse) => {
            let bytes = ids.len().div_ceil(8);
            let all = (0..bytes).map(|at| 0xffu16 >> (8 - (ids.len() - 8 * at).min(8)));
            Answer::Known { held: vec![0; bytes], declined: all.map(|bits| bits as u8).collect() }
        }
        Request::Hello { .. } | Request::Put { .. } if rests.is_some() => {
            Answer::Busy { retry_after_ms: rests.unwrap_or_default() }
        }
        Request::Hello { version } => {
            let free_bytes = if mode == Mode::Full { 0 } else { 1 << 40 };
            Answer::Hello { version, free_bytes, queued_bytes: 0 }
        }
        Request::Put { .. } if mode == Mode::Full => Answer::Full { free_bytes: 0 },
        Request::Put { .. } if mode == Mode::DealFull => {
            Answer::Refused { reason: Reason::DealFull, text: "the deal is for 0 bytes".into() }
        }
        Request::Put { deal, id, len, grant, .. } => {
            assert_eq!((deal, grant.as_slice()), (deal_here, &b"granted"[..]));
            let body = wire::body(&mut stream, len as usize).await?;
            // A disk takes its time.
            context.sleep(Duration::from_millis(3)).await;
            if ShardId::of(&body) != id {
                Answer::Refused { reason: Reason::WrongBytes, text: "bytes".into() }
            } else {
                Answer::Held(hold(host, mode, deal, id, body))
            }
        }
        Request::Tick { tick, .. } => host.store.lock().unwrap().tab.as_mut().unwrap().take(&tick),
        Request::Get { id, offset, len, grant, .. } => {
            let mut store = host.store.lock().unwrap();
            let found = store.shards.get(&id).cloned();
            let payer = store.tab.as_mut().filter(|_| found.is_some() && grant == METERED);
            let refusal = payer.and_then(|tab| tab.give(len.into()));
            drop(store);
            match found {
                _ if refusal.is_some() => refusal.unwrap(),
                None => Answer::Gone,
                Some(shard) => {
                    let (from, to) = (offset as usize, (offset + len) as usize);
                    let hashes = slice::prove(&shard, from / CHUNK_BYTES..to / CHUNK_BYTES).concat();
                    let mut body = shard[from..to].to_vec();
                    if mode == Mode::Corrupt {
                        body[0] ^= 1;
                    }
                    after = body.into();
                    Answer::Slice { shard_bytes: shard.len() as u32, offset, len, hashes }
                }
            }
        }
        Request::Has { ids, .. } => {
            let store = host.store.lock().unwrap();
            let mut bits = vec![0u8; ids.len().div_ceil(8)];
            for (i, id) in ids.iter().enumerate() {
                bits[i / 8] |= u8::from(store.shards.contains_key(id)) << (i % 8);
            }
            Answer::Bitmap(bits)
        }
        Request::Release { deal, ids, .. } => {
            let mut store = host.store.lock().unwrap();
            store.shards.retain(|id, _| !ids.contains(id));
            let sequence = store.entries.len() as u64 + ids.len() as u64;
            let statement = Statement { deal, sequence, position: 0, root: [0; 32], leaves: 0 };
            let signer = if mode == Mode::Forge { &Signer::new(&[200; 32]) } else { &host.signer };
            Answer::State { ack: Some(signer.ack(CHAIN_ID, statement)), shards: store.entries.len() as u64 }
        }
        other => Answer::Refused { reason: Reason::Malformed, text: format!("{other:?}") },
    };
    if mode == Mode::Stall {
        let half = after.len() / 2;
        wire::send(&mut sink, answer.encode(), after.slice(..half)).await?;
        return std::future::pending().await;
    }
    wire::send(&mut sink, answer.encode(), after).await
}

fn hold(host: &Host, mode: Mode, deal: u64, id: ShardId, body: Bytes) -> Held {
    let mut store = host.store.lock().unwrap();
    let leaves = (body.len() / CHUNK_BYTES) as u64;
    let position = match store.entries.iter().position(|(known, _)| *known == id) {
        Some(position) => position,
        None => {
            store.entries.push((id, leaves));
            store.entries.len() - 1
        }
    };
    if mode != Mode::Forget {
        store.shards.insert(id, body);
    }
    let mut level: Vec<Node> = store.entries.iter().map(|(id, leaves)| holding::leaf(id, *leaves)).collect();
    let (mut at, mut path) = (position, Vec::new());
    while level.len() > 1 {
        if let Some(beside) = level.get(at ^ 1) {
            path.extend_from_slice(&beside.to_bytes());
        }
        at /= 2;
        level = level
            .chunks(2)
            .map(|pair| match pair {
                [left, right] => holding::join(left, right).unwrap(),
                _ => pair[0],
            })
            .collect();
    }
    let shards = store.entries.len() as u64;
    let statement = Statement {
        deal,
        sequence: shards,
        position: position as u64,
        root: holding::root(level.first(), shards),
        leaves: level[0].leaves,
    };
    let signer = if mode == Mode::Forge { &Signer::new(&[200; 32]) } else { &host.signer };
    Held { ack: signer.ack(CHAIN_ID, statement), shards, path }
}
