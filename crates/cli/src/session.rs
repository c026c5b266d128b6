//! Reach the cloud of a context.
//!
//! One wire, one light client over it that believes certificates under the context's network key, one
//! wallet. Nothing is started here that outlives the command.

use crate::{
    context::{Context, Contexts},
    fault::{self, Fault, Result},
    purse::{self, Purse},
    share::{PASSES, Passes},
    slot::Slot,
};
use alloy_primitives::B256;
use commonware_runtime::{Supervisor as _, tokio::Context as Runtime};
use hodei_sdk::{
    Cloud, Local,
    chain::{Client, Verifier, chain_id},
    link::{Config, Link, Listener},
    log::{self, Log},
    storage::PutError,
    wallet::{Budget, Wallet},
};
use hodei_types::{
    ack::Signer,
    chain::{Chain, ChainError},
    network::{NetworkKey, mark},
    share::Reader,
    transport::{CROWD, NodeKey, Peer, Protocol},
};
use std::{
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    sync::Arc,
};
use zeroize::Zeroizing;

/// Digits shown of a key or hash, which has at least so many; amounts have fewer.
const KEY_SHOWN: usize = 12;
const KEY_DIGITS: usize = 40;

/// A context that answers.
pub(crate) struct Session {
    pub(crate) name: String,
    pub(crate) context: Context,
    pub(crate) network_key: NetworkKey,
    pub(crate) link: Link,
    pub(crate) chain: Arc<dyn Chain>,
    pub(crate) purse: Purse,
    pub(crate) runtime: Runtime,
    /// Where further links listen, any port.
    bind: SocketAddr,
    peers: Vec<Peer>,
    passphrase_file: Option<PathBuf>,
    slot: Slot,
}

impl Session {
    /// Opens the context that holds.
    pub(crate) async fn open(
        runtime: Runtime,
        contexts: &Contexts,
        asked: Option<&str>,
        passphrase_file: Option<PathBuf>,
        slot: Slot,
    ) -> Result<Self> {
        let (name, context) = contexts.open(asked)?;
        Self::reach(runtime, name, context, passphrase_file, slot).await
    }

    /// Opens a context that need not be saved.
    pub(crate) async fn reach(
        runtime: Runtime,
        name: String,
        context: Context,
        passphrase_file: Option<PathBuf>,
        slot: Slot,
    ) -> Result<Self> {
        let network_key: NetworkKey = context.network_key.parse().map_err(|error| {
            Fault::new(&fault::NETWORK_KEY, error, "correct `network_key` in the context's file")
                .at(format!("context {name}"))
        })?;
        let peers = peers(&name, &context)?;
        let verifier = Verifier::new(&network_key).map_err(|error| {
            Fault::new(&fault::NETWORK_KEY, error, "correct `network_key` in the context's file")
                .at(format!("context {name}"))
        })?;
        let loopback = peers.iter().flat_map(|peer| &peer.addresses).all(|address| address.ip().is_loopback());
        let ip = if loopback { Ipv4Addr::LOCALHOST } else { Ipv4Addr::UNSPECIFIED };
        let bind = SocketAddr::new(ip.into(), 0);
        let link = dialler(*slot.keys.node.bytes(), bind).await?;
        let chain: Arc<dyn Chain> =
            Arc::new(Client::new(link.clone(), runtime.child("follow"), peers.clone(), verifier));
        let purse = Purse::at(&context.wallet);
        Ok(Self { name, context, network_key, link, chain, purse, runtime, bind, peers, passphrase_file, slot })
    }

    /// Where what survives this command is.
    pub(crate) fn folder(&self) -> &Path {
        self.slot.home.path()
    }

    /// The ledger through one member alone, to see whether that one answers.
    pub(crate) fn only(&self, member: usize) -> Client<Link, Runtime> {
        let verifier = Verifier::new(&self.network_key).expect("checked when the session was opened");
        Client::new(self.link.clone(), self.runtime.child("member"), vec![self.peers[member].clone()], verifier)
    }

    /// Buckets and objects, with a log of what is done.
    pub(crate) async fn cloud(&self) -> Result<Local> {
        self.cloud_of(self.wallet()?).await
    }

    /// The same for the owner's acts.
    pub(crate) async fn owner_cloud(&self) -> Result<Local> {
        self.cloud_of(self.owner_wallet()?).await
    }

    async fn cloud_of(&self, wallet: Wallet) -> Result<Local> {
        self.cloud_over(wallet, self.link.clone()).await
    }

    /// The same as the reader whom passes name: providers see the key that `hodei share reader` tells, whichever command
    /// of this identity asks. The link is to be closed in the end.
    pub(crate) async fn reader_cloud(&self) -> Result<(Local, Link)> {
        let (cloud, link, _) = self.reader_cloud_at(None).await?;
        Ok((cloud, link))
    }

    /// The same, reached by other readers: at that port, or any.
    pub(crate) async fn reader_cloud_at(&self, port: Option<u16>) -> Result<(Local, Link, Listener)> {
        let wallet = self.wallet()?;
        let (seed, protocols) = (*wallet.reader_seed(&self.network_key.genesis), vec![CROWD]);
        let bind = SocketAddr::new(self.bind.ip(), port.unwrap_or(0));
        let (link, listener) = listen(seed, bind, protocols).await?;
        match self.reading_over(wallet, link.clone()).await {
            Ok(cloud) => Ok((cloud, link, listener)),
            Err(fault) => {
                link.close().await;
                Err(fault)
            }
        }
    }

    /// This machine's address towards the network, for a link that is bound to `bound`.
    pub(crate) fn own_address(&self, bound: SocketAddr) -> Option<SocketAddr> {
        if !bound.ip().is_unspecified() {
            return Some(bound);
        }
        // No packet is sent: the system only says which way it would go.
        let member = self.peers.iter().flat_map(|peer| &peer.addresses).find(|member| member.is_ipv4())?;
        let socket = std::net::UdpSocket::bind(SocketAddr::new(bound.ip(), 0)).ok()?;
        socket.connect(member).ok()?;
        Some(SocketAddr::new(socket.local_addr().ok()?.ip().to_canonical(), bound.port()))
    }

    /// Who this identity is to owners who make passes.
    pub(crate) fn reader(&self) -> Result<Reader> {
        let genesis = &self.network_key.genesis;
        let key = Signer::new(&self.wallet()?.reader_seed(genesis)).node();
        Ok(Reader { network: mark(genesis), key })
    }

    async fn cloud_over(&self, wallet: Wallet, link: Link) -> Result<Local> {
        let (key, log) = (link.key(), self.own_log().await?);
        Cloud::open(self.runtime.child("cloud"), link, key, wallet, Some(log)).await.map_err(sdk_fault)
    }

    /// The same for who reads: the ledger may be out of reach, for what is kept of passes in the wallet's folder opens them.
    async fn reading_over(&self, wallet: Wallet, link: Link) -> Result<Local> {
        let (key, log) = (link.key(), self.own_log().await?);
        let genesis = self.network_key.genesis;
        let network = (genesis, chain_id(&genesis));
        let cloud = Cloud::open_on(self.runtime.child("cloud"), link, key, wallet, Some(log), network).await;
        let cloud = cloud.map_err(sdk_fault)?;
        cloud.keep_links(Arc::new(Passes::at(self.purse.folder().join(PASSES))));
        Ok(cloud)
    }

    /// What opens the same cloud when it is needed.
    pub(crate) fn later(&self, wallet: Wallet) -> Later {
        let (runtime, link) = (self.runtime.child("later"), self.link.clone());
        let seed = Zeroizing::new(*self.slot.keys.node.bytes());
        Later { runtime, link, wallet, seed, genesis: self.network_key.genesis }
    }

    async fn own_log(&self) -> Result<Log<Runtime>> {
        let seed = self.slot.keys.node.bytes();
        let salt_key = log::salt_key(seed);
        let config = log::Config::new("audit", self.network_key.genesis, salt_key);
        Log::open(self.runtime.child("audit"), config, Signer::new(seed)).await.map_err(|error| {
            Fault::new(
                &fault::FOLDER,
                format!("this identity's log: {error}"),
                "move that folder away: it holds no money and no data",
            )
            .at(self.slot.home.path().display())
        })
    }

    /// For everyday work: capped where a budget is set. Where none is, the main key does it, if its passphrase is
    /// at hand.
    pub(crate) fn wallet(&self) -> Result<Wallet> {
        match &self.passphrase_file {
            Some(file) if self.purse.is_sealed() && self.purse.budget_key()?.is_none() => {
                self.purse.open(self.chain.clone(), || purse::passphrase(Some(file)))
            }
            _ => self.purse.everyday(self.chain.clone()),
        }
    }

    /// What everyday work may still spend; none where it is not capped.
    pub(crate) async fn budget(&self) -> Result<Option<Budget>> {
        let owner = self.purse.owner()?;
        match self.wallet() {
            Ok(wallet) if wallet.spender().address() != owner => Ok(Some(wallet.budget().await.map_err(sdk_fault)?)),
            _ => Ok(None),
        }
    }

    /// For the owner's acts; a sealed main key asks for its passphrase.
    pub(crate) fn owner_wallet(&self) -> Result<Wallet> {
        self.purse.open(self.chain.clone(), || self.passphrase())
    }

    pub(crate) fn passphrase(&self) -> Result<Zeroizing<String>> {
        purse::passphrase(self.passphrase_file.as_deref())
    }

    /// Says goodbye to peers, so that they need not wait for a timeout.
    pub(crate) async fn close(self) {
        self.link.close().await;
    }
}

/// A cloud that is opened when it is needed, and by one who outlives the session.
pub(crate) struct Later {
    runtime: Runtime,
    link: Link,
    wallet: Wallet,
    seed: Zeroizing<[u8; 32]>,
    genesis: B256,
}

impl Later {
    pub(crate) async fn open(&self) -> std::result::Result<Local, hodei_sdk::Fault> {
        let config = log::Config::new("audit", self.genesis, log::salt_key(&self.seed));
        let log = Log::open(self.runtime.child("audit"), config, Signer::new(&self.seed)).await;
        let log = log.map_err(|error| hodei_sdk::Fault::Local(format!("this identity's log: {error}")))?;
        let (key, wallet) = (self.link.key(), self.wallet.clone());
        Cloud::open(self.runtime.child("cloud"), self.link.clone(), key, wallet, Some(log)).await
    }
}

/// Whether others can dial the address found for what is bound to `bound`: on a machine that has all of its network on
/// itself, the way to the network goes nowhere else.
pub(crate) fn is_dialable(own: SocketAddr, bound: SocketAddr) -> bool {
    let is_inner = |address: SocketAddr| address.ip().to_canonical().is_loopback();
    !is_inner(own) || is_inner(bound)
}

/// A link that dials and answers nobody.
async fn dialler(secret: [u8; 32], bind: SocketAddr) -> Result<Link> {
    listen(secret, bind, Vec::new()).await.map(|(link, _)| link)
}

async fn listen(secret: [u8; 32], bind: SocketAddr, protocols: Vec<Protocol>) -> Result<(Link, Listener)> {
    let bound = Link::bind(Config { secret, bind, protocols, relays: Vec::new() }).await;
    bound.map_err(|error| Fault::new(&fault::UNREACHABLE, error, "allow this user to open a UDP socket"))
}

pub(crate) fn peers(name: &str, context: &Context) -> Result<Vec<Peer>> {
    let wrong = |message: String| {
        Fault::new(&fault::SETTINGS, message, "correct the context's file, or join again").at(format!("context {name}"))
    };
    let peers: Vec<Peer> = context
        .member
        .iter()
        .map(|member| {
            let mut key = [0; 32];
            hex::decode_to_slice(&member.key, &mut key)
                .map_err(|_| wrong(format!("member key {:?} is not 64 hex digits", member.key)))?;
            Ok(Peer::at(NodeKey(key), member.addresses.clone()))
        })
        .collect::<Result<_>>()?;
    if peers.is_empty() {
        return Err(wrong("the context names no member to ask".into()));
    }
    Ok(peers)
}

/// What the ledger's door said, as a fault.
pub(crate) fn chain_fault(error: ChainError) -> Fault {
    match error {
        ChainError::Unavailable(_) => {
            let message = brief(&error.to_string());
            Fault::new(&fault::UNREACHABLE, message, "`hodei doctor` tells who is missing; then run it again")
        }
        ChainError::Invalid(_) => Fault::new(&fault::LIED, error, "reach the network through other members"),
        ChainError::Refused(_) | ChainError::Reverted(_) => {
            Fault::new(&fault::TX_REFUSED, error, "the reason is the ledger's; correct it and run the command again")
        }
    }
}

/// The same with keys and hashes cut to what tells them apart on a screen.
pub(crate) fn brief(text: &str) -> String {
    let is_digit = |letter: char| letter.is_ascii_hexdigit();
    let mut brief = String::new();
    for run in text.split_inclusive(|letter| !is_digit(letter)) {
        let digits = run.trim_end_matches(|letter| !is_digit(letter));
        if digits.len() >= KEY_DIGITS {
            brief.push_str(&digits[..KEY_SHOWN]);
            brief.push('…');
            brief.push_str(&run[digits.len()..]);
        } else {
            brief.push_str(run);
        }
    }
    brief
}

/// The same of a transfer: what may still be executed must not be done once more.
pub(crate) fn transfer_fault(error: hodei_sdk::Fault) -> Fault {
    let hodei_sdk::Fault::Pending { tx, error } = error else { return sdk_fault(error) };
    Fault::new(
        &fault::PAYMENT,
        format!("whether transaction {tx} will send the coins is not known yet: {}", brief(&error.to_string())),
        format!("wait, then `hodei chain show {tx}` tells; send again only if it never comes"),
    )
}

/// What the sdk said, as a fault.
pub(crate) fn sdk_fault(error: hodei_sdk::Fault) -> Fault {
    use hodei_sdk::Fault as Sdk;
    match error {
        Sdk::Chain(error) => chain_fault(error),
        Sdk::Funds { has, needs, is_budget } => {
            let (code, message, help) = match is_budget {
                true => (&fault::BUDGET, "the budget is spent", "raise it: hodei wallet budget set AMOUNT"),
                false => (
                    &fault::FUNDS,
                    "the account holds too little",
                    "add coins: `hodei wallet balance` shows the account",
                ),
            };
            Fault::new(code, message, help).between(crate::money::show(needs), crate::money::show(has))
        }
        Sdk::Pending { tx, error } => Fault::new(
            &fault::PENDING,
            format!("whether transaction {tx} will be executed is not known yet: {}", brief(&error.to_string())),
            format!("`hodei chain show {tx}` tells once it is final; run the command again and it may be done twice"),
        ),
        Sdk::NeedsOwner => Fault::new(&fault::WALLET, error, "restore the main key: hodei key restore"),
        Sdk::Key(_) => Fault::new(&fault::WALLET, error, "restore it from its backup: hodei key restore"),
        Sdk::NoBucket(_) => {
            Fault::new(&fault::NO_BUCKET, error, "`hodei data list` shows the buckets, `hodei data create` makes one")
        }
        Sdk::BucketExists(_) => Fault::new(&fault::EXISTS, error, "choose another name, or remove what is there"),
        Sdk::NotEmpty(ref bucket) => {
            let help =
                format!("`hodei data list hodei://{bucket} --versions` shows all that is there; remove it first");
            Fault::new(&fault::EXISTS, error, help)
        }
        Sdk::NoObject { ref bucket, .. } => {
            let help = format!("`hodei data list hodei://{bucket}` shows what it holds");
            Fault::new(&fault::NO_OBJECT, error, help)
        }
        Sdk::NoVersion { ref bucket, ref key, .. } | Sdk::Marker { ref bucket, ref key, .. } => {
            let help = format!("`hodei data list hodei://{bucket}/{key} --versions` shows all there are");
            Fault::new(&fault::NO_OBJECT, error, help)
        }
        Sdk::Customer(_) => Fault::new(&fault::SEALED, error, "read it through the S3 door, with that key"),
        Sdk::Name(..) => Fault::new(&fault::REFERENCE, error, "choose another name"),
        Sdk::TooFew { .. } => {
            Fault::new(&fault::PLACEMENT, error, "ask for fewer, or wait for offers: `hodei status` shows them")
        }
        Sdk::NoRegion { .. } => Fault::new(&fault::PLACEMENT, error, "name a zone, or what its name begins with"),
        Sdk::Shape(_) | Sdk::NoRoom { .. } => {
            Fault::new(&fault::PLACEMENT, error, "ask for less, or wait for more providers: `hodei status` counts them")
        }
        Sdk::RoomAway(_) => {
            Fault::new(&fault::PLACEMENT, error, "wait until they are back, or ask for less: `hodei status` shows them")
        }
        Sdk::NotCustodian { .. } => {
            let help = "its owner appoints: hodei data care appoint BUCKET ACCOUNT";
            Fault::new(&fault::CUSTODIAN, error, help)
        }
        Sdk::Pass { .. } => {
            let help = "ask the owner for a pass of your own: `hodei share reader` prints the word to give";
            Fault::new(&fault::PASS, error, help)
        }
        Sdk::Spent { ref held, .. } => {
            let end = crate::time::minute(held.until_ms);
            let help = match held.may_return {
                true => format!(
                    "run the same command again once they are back, before {end}, or ask the owner for another pass: what \
                     nobody claimed returns to the owner after that"
                ),
                false => format!(
                    "ask the owner for another pass: what is left of this one returns to the owner after its end, {end}"
                ),
            };
            Fault::new(&fault::SPENT, error, help)
        }
        Sdk::Link(_) | Sdk::Share(_) => Fault::new(&fault::LINK, error, "ask whoever gave it to you for a new one"),
        Sdk::Put(PutError::Full { .. }) => Fault::new(
            &fault::FULL,
            error,
            "remove something: its room is free a minute later; or enlarge the bucket: hodei data redundancy BUCKET --capacity SIZE",
        ),
        Sdk::Put(_) => {
            Fault::new(&fault::PUT_SHORT, error, "run the same command again; `hodei status` shows the providers")
        }
        Sdk::Get(_) => {
            Fault::new(&fault::GET_SHORT, error, "run the same command again; `hodei data where` shows who holds it")
        }
        Sdk::Market(_) => {
            Fault::new(&fault::OFFER, error, "run the same command again: it plans with the offers of now")
        }
        Sdk::Kept { until_ms } => Fault::new(
            &fault::BOUND,
            format!(
                "the bucket keeps locked versions until {}: until then its deals stay, and only the owner's own account \
                 lets them grow",
                crate::time::minute(until_ms)
            ),
            "wait until then, or use another bucket: it was locked to stay",
        ),
        Sdk::Locked { .. } | Sdk::KeptFull(_) => {
            Fault::new(&fault::BOUND, error, "wait until its date, or use another bucket: it was locked to stay")
        }
        Sdk::Setting(_) => Fault::new(&fault::USAGE, error, "say it otherwise: `--help` shows how, with examples"),
        Sdk::PayTooLow { least, found } => {
            let help =
                "pay so much for each reader, or less per GiB: `hodei status` shows what providers ask for reads";
            let least = format!("at least {}", crate::money::exact(least));
            Fault::new(&fault::USAGE, error, help).between(least, crate::money::exact(found))
        }
        Sdk::ReadPriceTooLow { least, found } => {
            let help = "`hodei status` shows what providers ask for reads; without a price each is paid what it asks";
            let least = format!("at least {} per GiB", crate::money::exact(least));
            Fault::new(&fault::USAGE, error, help).between(least, crate::money::exact(found))
        }
        Sdk::Reverted(_) => {
            Fault::new(&fault::TX_REFUSED, error, "the reason is the ledger's; correct it and run the command again")
        }
        Sdk::Unread(_) => Fault::new(&fault::SETTINGS, error, "docs/deploy.md lists what app.toml may say"),
        Sdk::Spec(_) | Sdk::Manifest(_) => {
            Fault::new(&fault::APP_SPEC, error, "correct it; `hodei deploy --help` and docs/deploy.md list the rules")
        }
        Sdk::NoOffer(ref none) => {
            let help = match (none.is_priceless, none.key) {
                (true, _) => format!("raise price_max first, no offer can be that cheap: {}", none.command),
                (_, Some("price_max")) => {
                    format!("raise price_max, or have somebody offer it for that: {}", none.command)
                }
                _ => format!("ask for less, or have somebody offer it: {}", none.command),
            };
            Fault::new(&fault::NO_OFFER, error, help)
        }
        Sdk::NoReservation(_) => Fault::new(&fault::NO_RESERVATION, error, "`hodei market reserved` lists them"),
        Sdk::PoolFull { .. } => Fault::new(
            &fault::HELD_ROOM,
            error,
            "`hodei market reserved` shows what is free; ask for less, or hold more",
        ),
        Sdk::PoolEnds { .. } => Fault::new(&fault::HELD_ROOM, error, "ask for a shorter term, as --term 1h"),
        Sdk::PoolUsed { order, .. } => {
            let help =
                format!("end its apps (hodei app list), or hodei market recall {order} and wait for others' leases");
            Fault::new(&fault::HELD_USED, error, help)
        }
        Sdk::Component(..) => {
            Fault::new(&fault::COMPONENT, error, "build a component of wasm32-wasip2; examples/hello.wat is one")
        }
        Sdk::Image(ref of) if of.is_temporary() => Fault::new(&fault::IMAGE_AWAY, error, "run it again"),
        Sdk::Image(_) => Fault::new(
            &fault::IMAGE,
            error,
            "name another image, or log in to its registry: docker login, podman login",
        ),
        Sdk::NoApp(_) => Fault::new(&fault::NO_APP, error, "`hodei app list` shows what there is"),
        Sdk::AppExists(ref name) => {
            let help =
                format!("bring it there as a release: hodei app update {name}; or choose another name with --name");
            Fault::new(&fault::EXISTS, error, help)
        }
        Sdk::NotUpdated { ref app, left: Some(ref left), .. } => {
            let help = format!("what was begun could not be ended ({left}): hodei app update {app} --abort");
            Fault::new(&fault::NOT_UPDATED, error, help)
        }
        Sdk::NotUpdated { .. } => {
            Fault::new(&fault::NOT_UPDATED, error, "correct it, and update again; its leases ended")
        }
        Sdk::UpdateOpen { ref app, .. } => {
            let help =
                format!("go on with it: hodei app update {app} --resume; or end it: hodei app update {app} --abort");
            Fault::new(&fault::UPDATE_OPEN, error, help)
        }
        Sdk::NoUpdate(ref app) | Sdk::NoRelease { ref app, .. } => {
            let help = format!("`hodei app releases {app}` lists what there is");
            Fault::new(&fault::NO_RELEASE, error, help)
        }
        Sdk::ReleaseGone { ref app, ref image, .. } => {
            let help = format!("take it from its registry again: hodei app update {app} {image}");
            Fault::new(&fault::IMAGE, error, help)
        }
        Sdk::AppFailed { .. } => Fault::new(&fault::APP_FAILED, error, "correct it and deploy it again"),
        Sdk::AppAway(..) => Fault::new(&fault::APP_AWAY, error, "`hodei app show` tells how its replicas are"),
        Sdk::NotEntered(..) => {
            let help = "`hodei app show` tells what runs; of a component `hodei app ask` and `app logs` tell more";
            Fault::new(&fault::NOT_ENTERED, error, help)
        }
        Sdk::NoReplica { app: ref name, .. } => {
            let help = format!("hodei app show {name}");
            Fault::new(&fault::APP_AWAY, error, help)
        }
        Sdk::NoVolume { ref app, .. } | Sdk::NotStored { ref app, .. } => {
            let help = format!("`hodei app volume list {app}` shows what there is");
            Fault::new(&fault::NO_VOLUME, error, help)
        }
        Sdk::VolumeTaken { ref app, .. } => {
            let help = format!("`hodei app show {app}` tells which lease runs, and whether it waits for its volumes");
            Fault::new(&fault::VOLUME_TAKEN, error, help)
        }
        Sdk::HasVolumes { ref app, .. } => {
            let help =
                format!("end it and deploy it again, which goes on with what is stored then: hodei app delete {app}");
            Fault::new(&fault::HAS_VOLUMES, error, help)
        }
        Sdk::Archive(_) => Fault::new(
            &fault::ARCHIVE,
            error,
            "give it a tar of files, folders and links, as `app volume backup` writes it",
        ),
        Sdk::AppLied { ref expected, ref found, .. } => {
            let (expected, found) = (expected.clone(), found.clone());
            let help = "do not rely on that host: end the app's lease there, and keep what it answered";
            Fault::new(&fault::TRANSCRIPT_FALSE, error, help).between(expected, found)
        }
        Sdk::AppLate { .. } => Fault::new(&fault::APP_LATE, error, "run the same command again, or name other regions"),
        Sdk::Contended | Sdk::Held { .. } => Fault::new(&fault::CONTENDED, error, "run the same command again"),
        error if error.is_temporary() => Fault::new(&fault::UNREACHABLE, error, "run the same command again"),
        error => Fault::new(&fault::INTERNAL, error, "run the same command again; if it stays, report it"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn others_are_not_sent_to_themselves() {
        let is_dialable = |own: &str, bound: &str| is_dialable(own.parse().unwrap(), bound.parse().unwrap());
        assert!(is_dialable("192.0.2.7:9000", "0.0.0.0:9000") && is_dialable("127.0.0.1:9000", "127.0.0.1:9000"));
        assert!(!is_dialable("127.0.0.1:9000", "0.0.0.0:9000") && !is_dialable("[::1]:9000", "[::]:9000"));
        assert!(!is_dialable("[::ffff:127.0.0.1]:9000", "[::]:9000"));
    }

    #[test]
    fn a_lock_s_end_is_told_as_a_date() {
        let fault = sdk_fault(hodei_sdk::Fault::Kept { until_ms: 1_792_000_000_000 });
        assert!(fault.code.id == "HD3014" && fault.message.contains("until 2026-10-14 "), "{}", fault.message);
    }

    #[test]
    fn keys_are_cut_and_words_are_not() {
        let text = format!("peer {} could not be reached: no answer within 3 s", "2e69d46c1603".repeat(5));
        assert_eq!(brief(&text), "peer 2e69d46c1603… could not be reached: no answer within 3 s");
        let whole = "a faded facade, 1000000000000000000 wei";
        assert_eq!(brief(whole), whole);
    }
}
