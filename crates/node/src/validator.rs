//! Take part in agreement, or watch it, and answer from one's own copy of the ledger.
//!
//! ```text
//! share ─► beacon ─► engine ◄─ pool ◄─ gossip          reader ─► chain server, JSON-RPC, provider
//!                      └───── finalized ─────────────────┘
//! ```
//! A share is used only beside the journal of what it signed: `keys/share.used` says on which machine it
//! was, and a journal that is missing, or a machine that is another one, makes the node follow as a verifier
//! until its operator says with `after_loss` that this key signed nothing since. Two processes with one
//! share could sign two histories; nothing on this machine alone can exclude a second copy elsewhere.

use crate::{
    config,
    home::{Home, HomeError, replace},
    keys::{self, KeyError, Keys},
};
use commonware_codec::{Copying, Decode as _, DecodeExt as _};
use commonware_cryptography::{Signer as _, bls12381::primitives::group::Share, ed25519};
use commonware_parallel::Sequential;
use commonware_runtime::{Handle, Spawner as _, Supervisor as _, tokio::Context};
use hodei_ledger::{
    beacon::Threshold,
    block::PublicKey,
    genesis::Genesis,
    mempool::{Caps, Gossip, Pool, Rules},
    net,
    read::{Archived, Kept, Live, Reader, Records},
    validator,
};
use hodei_types::{chain::Chain, ethereum::Ethereum};
use std::{path::PathBuf, sync::Arc};

/// Begins the name of every partition of the engine.
const PREFIX: &str = "ledger";

/// Why a member of the ledger did not start.
#[derive(Debug, thiserror::Error)]
pub enum ValidatorError {
    #[error(transparent)]
    Key(#[from] KeyError),
    #[error(transparent)]
    Home(#[from] HomeError),
    #[error("keys/share.key is missing: this node is in the genesis file as a validator; or set `validator.observer`")]
    NoShare,
    #[error("keys/share.key is not a share of this network's key")]
    WrongShare,
    #[error(transparent)]
    Net(#[from] net::NetError),
}

/// A running validator or observer.
pub struct Member {
    reader: Reader,
    engine: Handle<()>,
    votes: bool,
    _stations: [Handle<()>; 2],
}

impl Member {
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
        self.votes
    }

    /// Resolves when consensus stops, which it does only by a failure.
    pub async fn ended(&mut self) {
        if let Err(error) = (&mut self.engine).await {
            tracing::error!(%error, "consensus failed");
        }
    }
}

/// Opens the network and starts every station.
pub(crate) async fn start(
    context: Context,
    home: &Home,
    config: &config::Validator,
    keys: &Keys,
    genesis: &Arc<Genesis>,
) -> Result<Member, ValidatorError> {
    let signer = ed25519::PrivateKey::decode(Copying(keys.node.bytes().as_slice())).expect("32 bytes are a seed");
    let me = signer.public_key();
    let listed = genesis.participants().position(&me).is_some();
    let share = if config.observer { None } else { usable_share(home, config.after_loss)? };
    if listed && share.is_none() && !config.observer && keys::share(home)?.is_none() {
        return Err(ValidatorError::NoShare);
    }
    let votes = share.is_some();
    let beacon = Threshold::new(genesis, &me, share).ok_or(ValidatorError::WrongShare)?;
    if votes {
        mark_used(home)?;
    }

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
    let observers = config.observers.iter().filter_map(|(key, address)| {
        let key = hex::decode(key).ok()?;
        Some(net::Peer { key: PublicKey::decode_cfg(Copying(key.as_slice()), &()).ok()?, address: address.clone() })
    });
    let network = net::Config {
        signer,
        listen: config.listen,
        observers: observers.collect(),
        message_bytes_max: net::message_bytes_max::<
            <Threshold as hodei_ledger::beacon::Beacon>::Scheme,
        >(genesis),
    };
    let links = net::open(context.child("net"), genesis, network)?;
    let mut settings = validator::Config::new(genesis.clone(), me, beacon);
    settings.prefix = PREFIX.into();
    settings.sync = config.sync;
    let running =
        validator::start(context.child("engine"), settings, links, reader.clone(), |mailbox| mailbox).await;
    let gossip = Gossip::new(context.child("gossip"), pool, Sequential).start(running.gossip.0, running.gossip.1);
    // A member that fetches its state has none for a while: until then the reader says so.
    let attach = context.child("attach").spawn({
        let (reader, state, archive) = (reader.clone(), running.state, running.archive);
        move |_| async move {
            let databases = state.subscribe_databases().await;
            reader.attach(Arc::new(Live(databases)), Arc::new(Archived(archive))).await;
        }
    });
    Ok(Member { reader, engine: running.handle, votes, _stations: [gossip, attach] })
}

/// The share, unless it was used without the journal that is here now.
fn usable_share(home: &Home, after_loss: bool) -> Result<Option<Share>, ValidatorError> {
    let Some(bytes) = keys::share(home)? else { return Ok(None) };
    let share = Share::decode(Copying(bytes.as_slice())).map_err(|_| ValidatorError::WrongShare)?;
    // The same text lies beside the journal: whoever empties or replaces the store takes it away too.
    let beside = std::fs::read_to_string(beside_file(home)).unwrap_or_default();
    match std::fs::read_to_string(used_file(home)) {
        Err(_) => Ok(Some(share)),
        Ok(host) if host == beside && host.trim() == this_host() => Ok(Some(share)),
        Ok(_) if after_loss => {
            tracing::warn!("the share is used again without its journal, as `after_loss` says");
            Ok(Some(share))
        }
        Ok(_) => {
            tracing::error!(
                "the journal of what this share signed is not here: following without a vote. \
                 If this key signed nothing since, set `validator.after_loss`"
            );
            Ok(None)
        }
    }
}

/// Before the first vote, and beside the journal first: a start that fails in between leaves a usable share.
fn mark_used(home: &Home) -> Result<(), ValidatorError> {
    let beside = beside_file(home);
    if let Some(folder) = beside.parent() {
        std::fs::create_dir_all(folder).map_err(|source| HomeError::Io { path: folder.into(), source })?;
    }
    let text = format!("{}\n", this_host());
    replace(&beside, text.as_bytes(), 0o600)?;
    Ok(replace(&used_file(home), text.as_bytes(), 0o600)?)
}

fn beside_file(home: &Home) -> PathBuf {
    home.store().join(format!("{PREFIX}-share")).join("used")
}

fn used_file(home: &Home) -> PathBuf {
    home.keys().join("share.used")
}

/// The machine's id, or its name where it has none.
fn this_host() -> String {
    let read = |path: &str| std::fs::read_to_string(path).ok().map(|text| text.trim().to_owned());
    let known = |text: &String| !text.is_empty();
    read("/etc/machine-id")
        .filter(known)
        .or_else(|| read("/etc/hostname").filter(known))
        .unwrap_or_else(|| "unknown".into())
}
