//! Start what the configuration switches on, and stop it in the opposite order.
//!
//! ```text
//! folder lock ─► keys ─► genesis ─► link ─► ledger (own, or followed) ─► log ─► provider, host ─► doors ─► ready
//! ```
//! Upon the stop signal: no stream is accepted any more, those being served end or are given [`STOP_TIMEOUT`], who waits
//! for a block is let go, the log is anchored a last time, the link says goodbye. What was acknowledged before is on disk
//! whichever way the process ends.

use crate::{
    caps, chain,
    config::Config,
    disk, door,
    home::{Home, Lock, Ready},
    journal::Journal,
    keys::Keys,
    provider::{self, Provider},
    reached::Reached,
    relay, streams,
    tasks::Tasks,
    views,
};
use alloy_primitives::B256;
use commonware_runtime::{Spawner as _, Supervisor as _, tokio::Context};
use futures::future::BoxFuture;
use hodei_audit::Log;
use hodei_ledger::{
    account::Account,
    genesis::{self, Genesis},
};
use hodei_link::Link;
use hodei_types::{
    ack::Signer,
    chain::Chain,
    event::{Fields, Kind},
    network::NetworkKey,
    transport::{APP, CHAIN, NodeKey, Protocol, Reach, SHARD},
};
use std::{net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};
use tokio::{sync::watch, task::JoinSet};

/// What is still being served when the stop signal comes gets so long.
pub const STOP_TIMEOUT: Duration = Duration::from_secs(5);

/// Why a node did not start, or ended by itself.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    #[error(transparent)]
    Config(#[from] crate::config::ConfigError),
    #[error(transparent)]
    Home(#[from] crate::home::HomeError),
    #[error(transparent)]
    Keys(#[from] crate::keys::KeyError),
    #[error("genesis {path}: {reason}")]
    Genesis { path: PathBuf, reason: String },
    #[error("`network_key` is of network {key}, genesis {path} of {found}")]
    OtherNetwork { key: B256, path: PathBuf, found: B256 },
    #[error(transparent)]
    Link(#[from] hodei_link::LinkError),
    #[error(transparent)]
    Account(#[from] hodei_ledger::account::AccountError),
    #[error("log: {0}")]
    Log(#[from] hodei_audit::LogError),
    #[error(transparent)]
    Chain(#[from] chain::ChainStartError),
    #[error(transparent)]
    Provider(#[from] provider::ProviderError),
    #[cfg(feature = "host")]
    #[error(transparent)]
    Host(#[from] crate::host::HostError),
    #[cfg(not(feature = "host"))]
    #[error("this program was built without feature `host`: take [compute] out of node.toml, or build it with that")]
    NoHost,
    #[error("status door {address}: {source}")]
    Door { address: SocketAddr, source: std::io::Error },
    #[error("{0} ended: the node cannot go on without it")]
    Ended(&'static str),
}

/// The network a node is of.
#[derive(Clone)]
pub struct Network {
    pub key: NetworkKey,
    /// Absent where the key is all the node was given.
    pub genesis: Option<Arc<Genesis>>,
}

impl Network {
    pub fn chain_id(&self) -> u64 {
        genesis::chain_id(&self.key.genesis)
    }
}

impl NodeError {
    /// Whether the folder holds another network than the genesis file's.
    pub fn is_other_network(&self) -> bool {
        #[cfg(feature = "full")]
        if let Self::Chain(chain::ChainStartError::Validator(crate::validator::ValidatorError::Start(error))) = self {
            return matches!(
                error,
                hodei_validator::StartError::Store(hodei_validator::StoreError::OtherNetwork { .. })
            );
        }
        false
    }
}

/// A node that answers.
pub struct Running {
    home: Home,
    ready: Ready,
    key: NodeKey,
    network: Network,
    chain: chain::Started,
    account: Account,
    journal: Journal<Context>,
    tasks: Tasks,
    link: Link,
    reached: Option<Arc<Reached>>,
    provider: Option<Provider<Context>>,
    #[cfg(feature = "host")]
    host: Option<crate::host::Host<Context>>,
    stop: watch::Sender<bool>,
    /// Loops a node cannot do without; each ends with its name.
    loops: JoinSet<&'static str>,
    context: Context,
    _lock: Lock,
}

/// Starts a node and runs it until `stop` resolves.
pub async fn run(
    context: Context,
    home: Home,
    config: Config,
    stop: impl Future<Output = ()>,
) -> Result<(), NodeError> {
    let running = start(context, home, config).await?;
    running.publish(None)?;
    running.until(stop).await
}

/// Starts a node. It serves when this returns, but tools do not find it before [`Running::publish`].
pub async fn start(context: Context, home: Home, config: Config) -> Result<Running, NodeError> {
    config.check()?;
    let lock = home.lock()?;
    home.remove_ready();
    let keys = Keys::open(&home)?;
    let network = read_network(&config)?;
    home.belong(&network.key.genesis.to_string())?;
    // What is scraped says whose it is.
    let context = context.child("hodei");
    let signer = Arc::new(Signer::new(keys.node.bytes()));
    let key = signer.node();
    let tasks = Tasks::default();
    let (stop, stopping) = watch::channel(false);
    let mut loops = JoinSet::new();

    let (link, listener) = Link::bind(hodei_link::Config {
        secret: *keys.node.bytes(),
        bind: kept_port(&home, config.link.listen),
        protocols: protocols(&config),
        relays: config.link.relays.clone(),
    })
    .await?;
    let bound = link.address().unwrap_or(config.link.listen);
    keep_port(&home, bound)?;
    let relays = config.link.relays.clone();
    let addresses = match config.link.advertise.is_empty() && relays.is_empty() {
        true => vec![bound],
        false => config.link.advertise.clone(),
    };

    let chain = chain::start(context.child("ledger"), &home, &config, &keys, &network, &link).await?;
    let account = Account::new(chain.door.clone(), keys.account.bytes())?;

    let salt_key = blake3::derive_key("hodei node log salts v1", keys.node.bytes());
    let log = hodei_audit::log::Config::new("audit", network.key.genesis, salt_key);
    let log = Log::open(context.child("audit"), log, Signer::new(keys.node.bytes())).await?;
    let journal = Journal::new(log);
    journal.record(Kind::Start, Fields::new().text("version", env!("CARGO_PKG_VERSION"))).await?;
    {
        let (journal, account, task) = (journal.clone(), account.clone(), tasks.enter("anchor"));
        let stopping = stopping.clone();
        loops.spawn(async move {
            let stopped = stopping.clone();
            let error = journal.anchor(account, task, stopping).await;
            if !*stopped.borrow() {
                tracing::error!(%error, "the log stopped");
            }
            "the log"
        });
    }

    let provider = match &config.provider {
        Some(offer) => {
            let parts = provider::Parts {
                chain: chain.door.clone(),
                account: account.clone(),
                signer: signer.clone(),
                journal: journal.clone(),
                tasks: tasks.clone(),
                stop: stopping.clone(),
                chain_id: network.chain_id(),
                reach: Reach { addresses: addresses.clone(), relays: relays.clone() },
                probe: provider::crowd::probe(bound.ip()),
            };
            let provider = Provider::start(context.child("provider"), &home, offer.clone(), parts).await?;
            let own = config.caps.clone().unwrap_or_default();
            provider.obey(&own, &config.prove.clone().unwrap_or_default());
            if config.caps.is_some() || config.prove.is_some() {
                let work = caps::keep::keep(provider.clone(), own, home.clone(), tasks.enter("caps"), stopping.clone());
                loops.spawn(async move {
                    work.await;
                    "the caps"
                });
            }
            provider.set_reached(relays.is_empty() || !addresses.is_empty());
            begin(&mut loops, provider.loops());
            Some(provider)
        }
        None => None,
    };

    #[cfg(feature = "host")]
    let host = match &config.compute {
        Some(offer) => {
            let parts = crate::host::Parts {
                chain: chain.door.clone(),
                account: account.clone(),
                signer: signer.clone(),
                journal: journal.clone(),
                tasks: tasks.clone(),
                stop: stopping.clone(),
                chain_id: network.chain_id(),
                reach: Reach { addresses: addresses.clone(), relays: relays.clone() },
                link: link.clone(),
                program: crate::host::program()?,
                code_key: blake3::derive_key("hodei node compiled code v1", keys.node.bytes()),
            };
            let host = crate::host::Host::start(&home, offer.clone(), parts)?;
            begin(&mut loops, host.loops());
            Some(host)
        }
        None => None,
    };
    #[cfg(not(feature = "host"))]
    if config.compute.is_some() {
        return Err(NodeError::NoHost);
    }

    let reached = (!relays.is_empty()).then(|| Reached::new(link.clone(), relays.clone()));
    if let Some(reached) = &reached {
        // Who has an address besides may be offered without.
        let offered = provider.clone().filter(|_| addresses.is_empty());
        let work = reached.clone().follow(offered, tasks.enter("relays"), stopping.clone());
        loops.spawn(async move {
            work.await;
            "the relays it names"
        });
    }

    let relay = match &config.relay {
        Some(config) => {
            let relay = relay::open(config, chain.door.clone()).await?;
            let hall = relay.hall();
            let mut stopping = stopping.clone();
            loops.spawn(async move {
                tokio::select! {
                    () = relay.run() => {}
                    _ = stopping.wait_for(|stop| *stop) => {}
                }
                "the relay"
            });
            Some(hall)
        }
        None => None,
    };

    {
        let task = tasks.enter("streams");
        let (door, stopping) = (chain.door.clone(), stopping.clone());
        let served = streams::Served {
            provider: provider.clone(),
            #[cfg(feature = "host")]
            host: host.clone(),
        };
        loops.spawn(async move {
            streams::serve(listener, door, served, task, stopping).await;
            "the wire"
        });
    }

    let mut ready = Ready {
        process: std::process::id(),
        node: key.to_string(),
        account: account.address().to_string(),
        link: addresses,
        status: None,
        rpc: None,
    };
    if let Some(address) = config.doors.status {
        let views = views::views(
            &context,
            &config,
            &ready,
            &network,
            &journal,
            &tasks,
            provider.clone(),
            relay,
            reached.clone(),
        );
        #[cfg(feature = "host")]
        let views = views::with_host(views, host.clone());
        let (bound, work) = door::serve(address, views).await.map_err(|source| NodeError::Door { address, source })?;
        ready.status = Some(bound);
        let mut stopping = stopping.clone();
        loops.spawn(async move {
            tokio::select! {
                error = work => tracing::error!(%error, "the status door failed"),
                // It would listen for ever, and the node's end would wait for it.
                _ = stopping.wait_for(|stop| *stop) => {}
            }
            "the status door"
        });
    }
    tracing::info!(node = %key, account = %ready.account, link = ?ready.link, "node started");
    Ok(Running {
        home,
        ready,
        key,
        network,
        chain,
        account,
        journal,
        tasks,
        link,
        reached,
        provider,
        #[cfg(feature = "host")]
        host,
        stop,
        loops,
        context,
        _lock: lock,
    })
}

impl Running {
    /// This node's key.
    pub fn key(&self) -> NodeKey {
        self.key
    }

    pub fn network(&self) -> &Network {
        &self.network
    }

    /// The ledger as this node sees it: its own state, or validators' answers checked against certificates.
    pub fn chain(&self) -> Arc<dyn Chain> {
        self.chain.door.clone()
    }

    /// What a validator or observer knows besides, for the JSON-RPC door.
    #[cfg(feature = "full")]
    pub fn member(&self) -> Option<&hodei_validator::Validator> {
        self.chain.member.as_ref()
    }

    pub fn account(&self) -> &Account {
        &self.account
    }

    pub fn tasks(&self) -> &Tasks {
        &self.tasks
    }

    /// The wire, to dial others from this node.
    pub fn link(&self) -> &Link {
        &self.link
    }

    /// The relays this node names, if it is reached through one.
    pub fn reached(&self) -> Option<&Reached> {
        self.reached.as_deref()
    }

    /// What is offered, if anything is.
    pub fn provider(&self) -> Option<&Provider<Context>> {
        self.provider.as_ref()
    }

    /// What is run for others, if anything is.
    #[cfg(feature = "host")]
    pub fn host(&self) -> Option<&crate::host::Host<Context>> {
        self.host.as_ref()
    }

    /// What [`Running::publish`] writes.
    pub fn ready(&self) -> &Ready {
        &self.ready
    }

    /// Lets tools find this node; `rpc` is the JSON-RPC door's address if one was opened beside it.
    pub fn publish(&self, rpc: Option<SocketAddr>) -> Result<(), NodeError> {
        Ok(self.home.write_ready(&Ready { rpc, ..self.ready.clone() })?)
    }

    /// Runs until `stop` resolves, then stops in order; an error means it ended by itself.
    pub async fn until(mut self, stop: impl Future<Output = ()>) -> Result<(), NodeError> {
        let ended = tokio::select! {
            () = stop => None,
            ended = self.loops.join_next() => {
                // A loop that panicked has no name; the panic itself is in the log.
                Some(ended.and_then(Result::ok).unwrap_or("a background loop"))
            }
            () = self.chain.ended() => Some("the ledger"),
        };
        self.end().await;
        match ended {
            None => Ok(()),
            Some(what) => Err(NodeError::Ended(what)),
        }
    }

    async fn end(mut self) {
        tracing::info!("stopping");
        self.home.remove_ready();
        // Into the log before the last checkpoint, which the stop signal triggers.
        if let Err(error) = self.journal.note(Kind::Stop, Fields::new()).await {
            tracing::warn!(%error, "the stop is not in the log");
        }
        self.stop.send_replace(true);
        // The shard store's writer ends with its last user, and is waited for.
        drop(self.provider.take());
        let all = async { while self.loops.join_next().await.is_some() {} };
        if tokio::time::timeout(STOP_TIMEOUT, all).await.is_err() {
            let under_way = self.tasks.list().into_iter().filter(|(_, task)| !task.ended).map(|(name, _)| name);
            let under_way = under_way.collect::<Vec<_>>().join(", ");
            tracing::warn!(%under_way, "some work was cut off: what was acknowledged is on disk");
        }
        self.loops.shutdown().await;
        if let Err(error) = self.journal.log().sync().await {
            tracing::warn!(%error, "the log's last events may be lost");
        }
        self.link.close().await;
        if let Err(error) = self.context.stop(0, Some(STOP_TIMEOUT)).await {
            tracing::warn!(%error, "the runtime's tasks did not end in time");
        }
    }
}

/// Starts loops that end with their names.
fn begin(loops: &mut JoinSet<&'static str>, works: Vec<(&'static str, BoxFuture<'static, ()>)>) {
    for (name, work) in works {
        loops.spawn(async move {
            work.await;
            name
        });
    }
}

/// By the genesis file, the key in the configuration, or both where they agree.
pub(crate) fn read_network(config: &Config) -> Result<Network, NodeError> {
    let given = config.network_key.as_ref().and_then(|key| key.parse::<NetworkKey>().ok());
    let path = &config.genesis;
    if let Some(key) = given
        && !path.exists()
    {
        return Ok(Network { key, genesis: None });
    }
    let refused = |reason: String| NodeError::Genesis { path: path.clone(), reason };
    let file = std::fs::read(path).map_err(|error| refused(error.to_string()))?;
    let genesis = Genesis::decode(&file).map_err(|error| refused(error.to_string()))?;
    let key = NetworkKey { genesis: genesis.hash(), group: genesis.group_key() };
    match given {
        Some(given) if given != key => {
            Err(NodeError::OtherNetwork { key: given.genesis, path: path.clone(), found: key.genesis })
        }
        _ => Ok(Network { key, genesis: Some(Arc::new(genesis)) }),
    }
}

/// A free port once taken is kept, so that peers find a restarted node where the ledger says it is.
fn kept_port(home: &Home, listen: SocketAddr) -> SocketAddr {
    let file = home.path().join("link.port");
    if listen.port() != 0 {
        return listen;
    }
    let kept: Option<u16> = std::fs::read_to_string(file).ok().and_then(|text| text.trim().parse().ok());
    let again = SocketAddr::new(listen.ip(), kept.unwrap_or(0));
    // Somebody else may have it by now.
    if std::net::UdpSocket::bind(again).is_ok() { again } else { listen }
}

fn keep_port(home: &Home, bound: SocketAddr) -> Result<(), NodeError> {
    let file = home.path().join("link.port");
    Ok(crate::home::replace(&file, format!("{}\n", bound.port()).as_bytes(), 0o600)?)
}

/// What is spoken here, for the link to refuse the rest.
fn protocols(config: &Config) -> Vec<Protocol> {
    let spoken = [
        config.validator.as_ref().map(|_| CHAIN),
        config.provider.as_ref().map(|_| SHARD),
        config.compute.as_ref().map(|_| APP),
    ];
    spoken.into_iter().flatten().collect()
}

/// Bytes the file system under a node's folder has; 0 when it cannot be asked.
pub(crate) fn total_bytes(home: &Home) -> u64 {
    disk::total_bytes(home.path()).unwrap_or(0)
}

/// Bytes left on the file system under a node's folder; 0 when it cannot be asked.
pub(crate) fn free_bytes(home: &Home) -> u64 {
    disk::free_bytes(home.path()).unwrap_or(0)
}
