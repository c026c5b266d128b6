//! Watch the leases of other hosts that this one is drawn for, and show oneself when others miss this one.
//!
//! ```text
//! round ─► the book's hosts, their leases ─► watchersOf ─► duties       once a minute
//! Ping to each host ─► misses                                           every two seconds
//! Concur to fellow watchers ─► two signatures ─► unreachable            a host that is missed
//! its time is over ─► touch: placed again                               a suspect lease
//! a lease of this host is suspect ─► alive                              at once
//! ```
//! The node's account pays the fees; who accused gets its part of what was left of a lost lease from the ledger.

use super::{
    Host,
    follow::MANY_MAX,
    misses::{Counts, Duty, EVERY_MS},
    register, serve,
};
use crate::{provider::lock, tasks::Task};
use alloy_primitives::{B256, Bytes};
use alloy_sol_types::SolCall;
use commonware_runtime::Storage;
use futures::{StreamExt as _, future::join_all, stream};
use hodei_ledger::{
    account::{AccountError, Order},
    wire::{receive, send},
};
use hodei_types::{
    abi::{ILeases, IMarket, LEASES, MARKET, PAGE_MAX, alive_statement, unpack_reach, unreachable_statement},
    ack::is_signed,
    app::wire::{Answer, FRAME_BYTES_MAX, Request},
    call::ask,
    chain::{ChainError, Head},
    event::{Fields, Kind},
    market::WATCHERS_NEEDED,
    transport::{APP, NodeKey, Peer, Transport as _},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};
use tokio::sync::watch;

/// No answer until then is a miss: dialling through a relay fits.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(3);
/// Between two looks at least.
const REST: Duration = Duration::from_millis(100);
/// A ledger without a block for so long is not heard.
const LEDGER_QUIET: Duration = Duration::from_secs(15);
/// A transaction in no block by then is given up; the next attempt makes it good.
const SEND_TIMEOUT: Duration = Duration::from_secs(30);
/// Hosts whose leases are looked through in a round, and leases: where there are more, each round begins elsewhere.
const HOSTS_MAX: u64 = 4096;
const LEASES_MAX: usize = 4096;
/// Hosts asked at a time, and leases accused or touched in one pass.
const AT_ONCE: usize = 32;
const SENT_MAX: usize = 16;
/// A round is asked for so often until it is drawn, which its second block does.
const DRAWN_TRIES: u32 = 4;
/// Two signatures checked, two dozen hosts looked at, a lease written; its deputy costs what placing it again does.
const UNREACHABLE_GAS: u64 = 2_000_000;
const ALIVE_GAS: u64 = 1_000_000;
/// Ending a lease and matching another beside what is held and lent, and what each host of the book adds; a
/// transaction's most.
const TOUCH_GAS: u64 = 4_000_000;
const PROBE_GAS: u64 = 20_000;
const GAS_MAX: u64 = 1 << 24;

/// Why a pass did not do all it should.
#[derive(Debug, thiserror::Error)]
pub(super) enum WatchError {
    #[error(transparent)]
    Chain(#[from] ChainError),
    #[error(transparent)]
    Account(#[from] AccountError),
    #[error("the transaction is in no block after {} s", SEND_TIMEOUT.as_secs())]
    Late,
}

/// What a watcher keeps from pass to pass.
#[derive(Default)]
struct Post {
    /// Where those are whom it asks.
    peers: BTreeMap<NodeKey, Peer>,
    /// Hosts in the book.
    hosts: u64,
    /// Asked in vain who watches in the round that came.
    tries: u32,
    height: u64,
    /// When the ledger went on last.
    advanced: Option<Instant>,
}

/// A round as the ledger drew it.
struct Drawn {
    hosts: u64,
    peers: BTreeMap<NodeKey, Peer>,
    duties: Vec<Duty>,
    /// Somebody watches something in it, or there is nothing to watch.
    is_drawn: bool,
}

impl<E: Storage> Host<E> {
    /// Watches until `stop`.
    pub(super) async fn watch(self, task: Task, mut stop: watch::Receiver<bool>) {
        let mut post = Post::default();
        let mut begun = Instant::now();
        loop {
            // Who does not answer makes a look longer than that, and the next no later.
            let rest = Duration::from_millis(EVERY_MS).saturating_sub(begun.elapsed()).max(REST);
            let wait = tokio::time::sleep(rest + task.delay().unwrap_or_default());
            tokio::select! {
                () = wait => {}
                _ = stop.wait_for(|stop| *stop) => return,
            }
            begun = Instant::now();
            if task.delay().is_none() {
                continue;
            }
            let passed = tokio::select! {
                passed = self.look(&mut post) => passed,
                _ = stop.wait_for(|stop| *stop) => return,
            };
            match passed {
                Ok(()) => {
                    let Counts { leases, hosts, missed, .. } = self.watched();
                    task.doing(format!("watching {leases} leases on {hosts} hosts, {missed} of them not reached"));
                    task.passed();
                }
                Err(error) => task.failed(&error),
            }
        }
    }

    /// What it watches, for people.
    pub(super) fn watched(&self) -> Counts {
        lock(&self.0.misses).counts(self.clock_ms())
    }

    fn clock_ms(&self) -> u64 {
        u64::try_from(self.0.begun.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    async fn look(&self, post: &mut Post) -> Result<(), WatchError> {
        let followed = self.follow_round(post).await;
        let is_ledger_heard = post.advanced.is_some_and(|advanced| advanced.elapsed() < LEDGER_QUIET);
        let asked = self.ping(post).await;
        lock(&self.0.misses).heard(self.clock_ms(), &asked, is_ledger_heard);
        // Without the ledger nothing more can be said.
        let head = followed?;
        self.learn().await?;
        let due = lock(&self.0.misses).due(self.clock_ms(), head.time_ms);
        for duty in due.into_iter().take(SENT_MAX) {
            self.accuse(post, &duty).await?;
        }
        let lost = lock(&self.0.misses).lost(self.clock_ms(), head.time_ms);
        for lease in lost.into_iter().take(SENT_MAX) {
            self.touch_lost(post, lease).await?;
        }
        Ok(())
    }

    /// Looks whether the ledger goes on, and takes up a new round's duties.
    async fn follow_round(&self, post: &mut Post) -> Result<Head, ChainError> {
        let head = self.chain().head().await?;
        if head.height > post.height {
            (post.height, post.advanced) = (head.height, Some(Instant::now()));
        }
        let round = ask(self.chain(), LEASES, &ILeases::roundCall {}).await?.index;
        if round != lock(&self.0.misses).round() {
            let drawn = self.find_watched(round).await?;
            post.tries += 1;
            // Until it is drawn, the round before goes on.
            if drawn.is_drawn || post.tries >= DRAWN_TRIES {
                (post.tries, post.hosts, post.peers) = (0, drawn.hosts, drawn.peers);
                lock(&self.0.misses).begin(self.clock_ms(), round, drawn.duties);
            }
        }
        Ok(head)
    }

    /// Reads what this host watches in a round.
    async fn find_watched(&self, round: u64) -> Result<Drawn, ChainError> {
        let hosts = ask(self.chain(), MARKET, &IMarket::countCall {}).await?;
        let pages = hosts.div_ceil(PAGE_MAX);
        let (mut peers, mut ids) = (BTreeMap::new(), Vec::new());
        for at in 0..pages.min(HOSTS_MAX / PAGE_MAX) {
            // All who watch a lease look at the same hosts in the same round.
            let first = round.wrapping_add(at).checked_rem(pages).unwrap_or(0) * PAGE_MAX;
            for host in ask(self.chain(), MARKET, &IMarket::pageCall { first, most: PAGE_MAX }).await? {
                let key = NodeKey(host.node.0);
                if key != self.0.id && host.leases > 0 && ids.len() < LEASES_MAX {
                    ids.extend(register::leases_of(self.chain(), host.node, LEASES_MAX - ids.len()).await?);
                }
                if let Some(peer) = peer(&host) {
                    peers.insert(key, peer);
                }
            }
        }
        ids.truncate(LEASES_MAX);
        let (mut mine, mut is_drawn) = (BTreeMap::new(), ids.is_empty());
        for leases in ids.chunks(MANY_MAX) {
            let call = ILeases::watchersOfCall { leases: leases.to_vec(), round };
            let drawn = ask(self.chain(), LEASES, &call).await?;
            for (lease, nodes) in leases.iter().zip(drawn) {
                is_drawn |= !nodes.is_empty();
                if nodes.len() >= WATCHERS_NEEDED && nodes.contains(&self.id()) {
                    mine.insert(*lease, nodes.iter().map(|node| NodeKey(node.0)).collect::<Vec<_>>());
                }
            }
        }
        let mut duties = Vec::new();
        let ids: Vec<u64> = mine.keys().copied().collect();
        for lease in self.many(&ids).await? {
            if let Some(watchers) = mine.remove(&lease.id) {
                duties.push(Duty::new(&lease, watchers));
            }
        }
        let needed: BTreeSet<NodeKey> =
            duties.iter().flat_map(|duty| duty.watchers.iter().copied().chain([duty.host])).collect();
        peers.retain(|key, _| needed.contains(key));
        for key in needed {
            if key == self.0.id || peers.contains_key(&key) {
                continue;
            }
            let record = register::record(self.chain(), B256::from(key.0)).await?;
            if let Some(peer) = record.as_ref().and_then(peer) {
                peers.insert(key, peer);
            }
        }
        Ok(Drawn { hosts, peers, duties, is_drawn })
    }

    async fn many(&self, ids: &[u64]) -> Result<Vec<ILeases::Lease>, ChainError> {
        let mut leases = Vec::new();
        for batch in ids.chunks(MANY_MAX) {
            leases.extend(ask(self.chain(), LEASES, &ILeases::manyCall { leases: batch.to_vec() }).await?);
        }
        Ok(leases)
    }

    /// Asks each host that is watched, and says who answered anything. One whose address nobody knows is not asked.
    async fn ping(&self, post: &Post) -> Vec<(NodeKey, bool)> {
        let hosts = lock(&self.0.misses).hosts();
        let known = hosts.into_iter().filter_map(|(key, lease)| Some((post.peers.get(&key)?.clone(), lease)));
        let asked: Vec<_> = known.map(|(peer, lease)| self.is_there(peer, lease)).collect();
        stream::iter(asked).buffer_unordered(AT_ONCE).collect().await
    }

    async fn is_there(&self, peer: Peer, lease: u64) -> (NodeKey, bool) {
        (peer.key, self.said(&peer, Request::Ping { lease }).await.is_some())
    }

    /// What another host answers, if it does in time.
    async fn said(&self, peer: &Peer, request: Request) -> Option<Answer> {
        let exchange = async {
            let (mut sink, mut stream) = self.0.parts.link.open(peer, APP).await.ok()?;
            send(&mut sink, request.encode()).await.ok()?;
            Answer::decode(&receive(&mut stream, FRAME_BYTES_MAX).await.ok()?).ok()
        };
        tokio::time::timeout(ANSWER_TIMEOUT, exchange).await.ok().flatten()
    }

    /// Reads the leases that matter as they are now.
    async fn learn(&self) -> Result<(), ChainError> {
        let open = lock(&self.0.misses).open(self.clock_ms());
        for lease in self.many(&open).await? {
            let shown = lock(&self.0.misses).learn(self.clock_ms(), &lease);
            if let Some(host) = shown {
                tracing::warn!(lease = lease.id, %host, "a host that was not reached from here showed itself: it is left alone for an hour");
            }
        }
        Ok(())
    }

    /// Asks the other watchers of a lease whether they miss its host too, and tells the ledger if enough do.
    async fn accuse(&self, post: &Post, duty: &Duty) -> Result<(), WatchError> {
        let (lease, generation, round) = (duty.lease, duty.generation, lock(&self.0.misses).round());
        let message = unreachable_statement(self.0.parts.chain_id, lease, generation, round);
        let words = join_all(duty.watchers.iter().map(|watcher| self.word(post, *watcher, duty, round, &message)));
        let signatures = words.await;
        if signatures.iter().filter(|signature| !signature.is_empty()).count() < WATCHERS_NEEDED {
            return Ok(());
        }
        {
            let (mut misses, now_ms) = (lock(&self.0.misses), self.clock_ms());
            misses.accuse(now_ms, lease);
            misses.sent(now_ms, lease);
        }
        let call = ILeases::unreachableCall { lease, round, signatures };
        let gas = UNREACHABLE_GAS.saturating_add(placing_gas(post.hosts)).min(GAS_MAX);
        if self.execute(Order::call(LEASES, call.abi_encode(), gas)).await? {
            tracing::warn!(lease, host = %duty.host, "two watchers do not reach a host: its lease is suspect");
            let fields = Fields::new().text("what", "accused").uint("lease", lease).uint("generation", generation);
            self.note(Kind::Lease, fields.uint("round", round).bytes("node", &duty.host.0)).await;
        }
        Ok(())
    }

    /// A watcher's signature, this node's own among them; empty where it does not give it.
    async fn word(&self, post: &Post, watcher: NodeKey, duty: &Duty, round: u64, message: &[u8]) -> Bytes {
        if watcher == self.0.id {
            return self.0.parts.signer.sign(message).to_vec().into();
        }
        let Some(peer) = post.peers.get(&watcher) else { return Bytes::new() };
        let request = Request::Concur { lease: duty.lease, generation: duty.generation, round };
        match self.said(peer, request).await {
            Some(Answer::Signature(signature)) if is_signed(&watcher, message, &signature) => signature.to_vec().into(),
            _ => Bytes::new(),
        }
    }

    /// Signs for a fellow watcher, if this node misses that host too.
    pub(super) fn concur(&self, from: NodeKey, lease: u64, generation: u64, round: u64) -> Answer {
        let concurred = lock(&self.0.misses).concur(self.clock_ms(), &from, (lease, generation, round));
        match concurred {
            Ok(()) => {
                let message = unreachable_statement(self.0.parts.chain_id, lease, generation, round);
                Answer::Signature(self.0.parts.signer.sign(&message))
            }
            Err(words) => serve::refused(words),
        }
    }

    /// Ends a suspect lease whose time is over, so that it goes on with another host.
    async fn touch_lost(&self, post: &Post, lease: u64) -> Result<(), WatchError> {
        lock(&self.0.misses).sent(self.clock_ms(), lease);
        let gas = placing_gas(post.hosts).min(GAS_MAX);
        let call = ILeases::touchCall { leases: vec![lease] };
        if self.execute(Order::call(LEASES, call.abi_encode(), gas)).await? {
            tracing::info!(lease, "a lease whose host did not show itself was ended");
            self.note(Kind::Lease, Fields::new().text("what", "lost").uint("lease", lease)).await;
        }
        Ok(())
    }

    /// Sends one transaction; false where another watcher was faster.
    pub(super) async fn execute(&self, order: Order) -> Result<bool, WatchError> {
        let sent = tokio::time::timeout(SEND_TIMEOUT, self.0.parts.account.execute(&order));
        match sent.await.map_err(|_| WatchError::Late)? {
            Ok(_) => Ok(true),
            Err(AccountError::Reverted(_)) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Shows this host for each of its leases that is suspect, once for each time it is.
    pub(super) fn show(&self, leases: &[ILeases::Lease], ledger_ms: u64) {
        let suspect: BTreeMap<u64, u64> =
            leases.iter().filter(|lease| lease.lostMs > ledger_ms).map(|lease| (lease.id, lease.generation)).collect();
        let mut shown = lock(&self.0.shown);
        shown.retain(|lease, generation| suspect.get(lease) == Some(generation));
        for (lease, generation) in suspect {
            if shown.insert(lease, generation).is_none() {
                tokio::spawn(self.clone().show_one(lease, generation));
            }
        }
    }

    async fn show_one(self, lease: u64, generation: u64) {
        let message = alive_statement(self.0.parts.chain_id, lease, generation);
        let signature = self.0.parts.signer.sign(&message).to_vec().into();
        let call = ILeases::aliveCall { lease, generation, signature };
        match self.execute(Order::call(LEASES, call.abi_encode(), ALIVE_GAS)).await {
            Ok(true) => {
                tracing::warn!(lease, "watchers did not reach this host, and it showed itself: is its address right?");
                let fields = Fields::new().text("what", "shown").uint("lease", lease);
                self.note(Kind::Lease, fields.uint("generation", generation)).await;
            }
            Ok(false) => {
                tracing::error!(lease, "watchers did not reach this host, and the ledger did not take its word")
            }
            Err(error) => {
                tracing::error!(lease, %error, "watchers did not reach this host, and the ledger does not know better yet");
                // The next look at the leases tries again.
                lock(&self.0.shown).remove(&lease);
            }
        }
    }
}

/// Gas of ending a lease and matching another in a book of so many hosts.
fn placing_gas(hosts: u64) -> u64 {
    TOUCH_GAS.saturating_add(hosts.saturating_mul(PROBE_GAS))
}

/// Where a host is reached, by its offer.
pub(super) fn peer(host: &IMarket::Host) -> Option<Peer> {
    let reach = unpack_reach(&host.offer.addresses)?;
    Some(Peer { key: NodeKey(host.node.0), addresses: reach.addresses, relays: reach.relays })
}
