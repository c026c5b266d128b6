//! Run a member of the ledger on this machine.
//!
//! ```text
//! share ─► beacon ─► member ◄─ pool ◄─ gossip          reader ─► chain server, JSON-RPC, provider
//!                      └───── finalized ─────────────────┘
//! ```
//! Here the ledger's stations, generic over their runtime and network, meet the real ones. They are a room of
//! their own, behind a door that is no generic, so that they are compiled once and not by each who starts them.

mod import;

use commonware_cryptography::{Signer as _, bls12381::primitives::group::Share, ed25519};
use commonware_parallel::Sequential;
use commonware_runtime::{Handle, Spawner as _, Supervisor as _, tokio::Context};
use hodei_ledger::{
    beacon::{Beacon, Threshold},
    genesis::Genesis,
    hold::Hold,
    member,
    mempool::{Caps, Gossip, Pool, Rules},
    net,
    read::{Archived, Kept, Live, Reader, Records},
    store,
};
use hodei_types::{chain::Chain, ethereum::Ethereum};
use std::{net::SocketAddr, pin::Pin, sync::Arc};

pub use hodei_ledger::{
    import::{ImportError, Imported},
    net::{NetError, Peer},
    store::StoreError,
};
pub use import::{Importing, SCRATCH, import};

/// Begins the name of every partition a member keeps.
pub const PREFIX: &str = "ledger";

/// Why a member did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("this share is not one of this network's key for this node")]
    Share,
    #[error(transparent)]
    Net(#[from] NetError),
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What a member needs.
pub struct Config {
    pub genesis: Arc<Genesis>,
    /// Identity on the wire; a validator's, or an observer's.
    pub signer: ed25519::PrivateKey,
    /// What it votes with; `None` follows without a vote.
    pub share: Option<Share>,
    /// Whether the journal of what the share signed was lost: it is used only once that is past.
    pub held: bool,
    pub listen: SocketAddr,
    /// Nodes beside the validators that may connect.
    pub observers: Vec<Peer>,
    /// Whether to fetch state from peers when there is none, instead of replaying the chain.
    pub sync: bool,
}

/// A running validator or observer.
pub struct Validator {
    reader: Reader,
    engine: Handle<()>,
    votes: bool,
    hold: Hold,
    _stations: [Handle<()>; 2],
}

impl Validator {
    /// This node's own copy of the ledger.
    pub fn chain(&self) -> Arc<dyn Chain> {
        Arc::new(self.reader.clone())
    }

    /// The same for Ethereum's questions.
    pub fn ethereum(&self) -> Arc<dyn Ethereum> {
        Arc::new(self.reader.clone())
    }

    pub fn reader(&self) -> &Reader {
        &self.reader
    }

    /// Whether it signs, or only follows.
    pub fn votes(&self) -> bool {
        self.votes && self.hold.is_free()
    }

    /// Whether its share may be used yet.
    pub fn hold(&self) -> &Hold {
        &self.hold
    }

    /// Resolves when consensus stops, which it does only by a failure.
    pub async fn ended(&mut self) {
        if let Err(error) = (&mut self.engine).await {
            tracing::error!(%error, "consensus failed");
        }
    }
}

/// A start under way.
pub type Starting = Pin<Box<dyn Future<Output = Result<Validator, StartError>> + Send>>;

/// Opens the network and starts every station.
pub fn start(context: Context, config: Config) -> Starting {
    Box::pin(run(context, config))
}

async fn run(context: Context, config: Config) -> Result<Validator, StartError> {
    let Config { genesis, signer, share, held, listen, observers, sync } = config;
    store::bind(&context, PREFIX, &genesis).await?;
    let me = signer.public_key();
    let votes = share.is_some();
    let beacon = Threshold::new(&genesis, &me, share).ok_or(StartError::Share)?;
    let beacon = if held { beacon.held() } else { beacon };
    let hold = beacon.hold().clone();

    let pool = Pool::new(
        Rules {
            chain_id: genesis.chain_id(),
            block_gas: genesis.fees.gas_limit,
            fee_floor: genesis.fees.base_fee_min,
            tx_bytes_max: genesis.limits.tx_bytes_max as usize,
        },
        Caps::default(),
    );
    let reader = Reader::new(genesis.clone(), pool.clone(), Kept::default());
    // Receipts of before this start, so that explorers and wallets find them again.
    let records = Records::open(context.child("records"), PREFIX, &genesis.disk).await;
    reader.restore(Arc::new(records)).await;

    let message_bytes_max = net::message_bytes_max::<<Threshold as Beacon>::Scheme>(&genesis);
    let network = net::Config { signer, listen, observers, message_bytes_max };
    let links = net::open(context.child("net"), &genesis, network)?;
    let mut settings = member::Config::new(genesis, me, beacon);
    settings.prefix = PREFIX.into();
    settings.sync = sync;
    let running = member::start(context.child("engine"), settings, links, reader.clone(), |mailbox| mailbox).await;
    let gossip = Gossip::new(context.child("gossip"), pool, Sequential).start(running.gossip.0, running.gossip.1);
    // A member that fetches its state has none for a while: until then the reader says so.
    let attach = context.child("attach").spawn({
        let (reader, state, archive) = (reader.clone(), running.state, running.archive);
        move |_| async move {
            let databases = state.subscribe_databases().await;
            reader.attach(Arc::new(Live(databases)), Arc::new(Archived(archive)));
        }
    });
    Ok(Validator { reader, engine: running.handle, votes, hold, _stations: [gossip, attach] })
}
