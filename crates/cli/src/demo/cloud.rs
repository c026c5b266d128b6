//! Start four validators, six providers in three zones, and four hosts, here, on free ports.

use super::child::Child;
use crate::{
    context::{Context, Member},
    fault::{self, Fault, Result},
    net::deal_fault,
    purse::Purse,
    serve::home_fault,
};
use alloy_primitives::{Address, U256};
use hodei_node::{
    config::{Coins, Compute, Config, Doors, Followed, Link, Provider},
    deal::{Dealt, GENESIS_FILE, Plan, Seat, deal},
    home::{Home, Ready, replace},
    keys::{Keys, Secret},
};
use hodei_sdk::wallet;
use hodei_types::{
    key::{KeyKind, SecretKey},
    settlement::Settlement,
};
use std::{
    net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket},
    path::{Path, PathBuf},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

pub(crate) const VALIDATORS: usize = 4;
pub(crate) const PROVIDERS: usize = 6;
/// One more than an app of three replicas needs, so that one may go.
pub(crate) const HOSTS: usize = 4;
pub(crate) const ZONES: [&str; 3] = ["attic", "cellar", "office"];
/// Seconds of a window: long enough for a proof on a busy laptop, short enough to watch.
pub(crate) const WINDOW_SECS: u64 = 10;
/// Coins of the wallet, of each provider for its fees and collateral, of each validator for its anchors.
const WALLET_COINS: u64 = 1_000_000;
const PROVIDER_COINS: u64 = 1_000;
const VALIDATOR_COINS: u64 = 100;
const HOST_COINS: u64 = 100;
const PLEDGE_BYTES: u64 = 8 << 30;
/// A node that has not answered by then will not.
const START_TIMEOUT: Duration = Duration::from_secs(60);

/// The demo's machines.
pub(crate) struct Cloud {
    pub(crate) folder: PathBuf,
    pub(crate) dealt: Dealt,
    pub(crate) purse: Purse,
    pub(crate) wallet_secret: SecretKey,
    pub(crate) validators: Vec<Child>,
    pub(crate) providers: Vec<Child>,
    /// Not started before an app is to run.
    pub(crate) hosts: Vec<Child>,
    host_ports: Vec<u16>,
    do_hosts_run: bool,
    /// Operators' accounts and zones, in the providers' order.
    pub(crate) operators: Vec<(Address, &'static str)>,
    pub(crate) context: Context,
    pub(crate) rpc: Option<SocketAddr>,
}

impl Cloud {
    /// Deals the network and writes every folder; nothing runs yet.
    pub(crate) fn prepare(folder: &Path) -> Result<Self> {
        let main = Purse::fresh()?;
        let owner = wallet::address(&main).expect("a fresh key is an account's");
        let purse = Purse::create(folder.join("wallet"), &main, None)?;
        let fresh = || Secret::generate().map_err(|error| Fault::new(&fault::INTERNAL, error, "try again"));
        let pair = || Ok::<_, Fault>(Keys { node: fresh()?, account: fresh()? });
        let keys: Vec<Keys> = (0..PROVIDERS).map(|_| pair()).collect::<Result<_>>()?;
        let host_keys: Vec<Keys> = (0..HOSTS).map(|_| pair()).collect::<Result<_>>()?;
        let account = |keys: &Keys| {
            wallet::address(&SecretKey::new(KeyKind::Account, *keys.account.bytes()))
                .expect("a fresh key is an account's")
        };
        let coins = |count: u64| U256::from(count) * U256::from(10u64).pow(U256::from(18));
        let mut allocations = vec![(owner, coins(WALLET_COINS))];
        allocations.extend(keys.iter().map(|keys| (account(keys), coins(PROVIDER_COINS))));
        allocations.extend(host_keys.iter().map(|keys| (account(keys), coins(HOST_COINS))));

        let ports = free_ports(VALIDATORS)?;
        let loopback = |port| SocketAddr::new(Ipv4Addr::LOCALHOST.into(), port);
        let seat = |(index, port): (usize, &u16)| Seat {
            consensus: loopback(*port),
            link: loopback(0),
            // One JSON-RPC door is enough for one machine.
            rpc: (index == 0).then(|| loopback(0)),
            status: Some(loopback(0)),
        };
        let timestamp = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let plan = Plan {
            name: "demo".into(),
            timestamp,
            validators: ports.iter().enumerate().map(seat).collect(),
            allocations,
            validator_coins: coins(VALIDATOR_COINS),
            window_secs: WINDOW_SECS,
            slashing: None,
            settlement: Settlement::default(),
        };
        let dealt = deal(&plan, folder.join("network"), rand::rng()).map_err(deal_fault)?;
        let child = |(index, home): (usize, &Home)| {
            Child::new(format!("validator {}", index + 1), home.clone(), &["chain", "validator", "run"])
        };
        let validators = dealt.homes.iter().enumerate().map(child).collect();
        let operators =
            keys.iter().enumerate().map(|(index, keys)| (account(keys), ZONES[index % ZONES.len()])).collect();
        let node = |kind: &str, (index, keys): (usize, &Keys)| {
            let home = Home::create(folder.join(format!("{kind}-{index}"))).map_err(home_fault)?;
            keys.write(&home).map_err(|error| Fault::new(&fault::FOLDER, error, "check the disk"))?;
            Ok(Child::new(format!("{kind} {}", index + 1), home, &["node", "run"]))
        };
        let providers = keys.iter().enumerate().map(|keys| node("provider", keys)).collect::<Result<_>>()?;
        let hosts = host_keys.iter().enumerate().map(|keys| node("host", keys)).collect::<Result<_>>()?;
        let context = Context {
            network_key: dealt.network_key.to_string(),
            wallet: purse.folder().into(),
            doors: Default::default(),
            node: None,
            genesis: Some(folder.join("network").join(GENESIS_FILE)),
            demo: true,
            member: Vec::new(),
        };
        Ok(Self {
            folder: folder.into(),
            dealt,
            purse,
            wallet_secret: main,
            validators,
            providers,
            hosts,
            host_ports: Vec::new(),
            do_hosts_run: false,
            operators,
            context,
            rpc: None,
        })
    }

    /// Starts the validators, and remembers where they answer.
    pub(crate) async fn start_validators(&mut self) -> Result<()> {
        for child in &mut self.validators {
            child.start()?;
        }
        let mut members = Vec::new();
        for child in &mut self.validators {
            let ready = child.ready(START_TIMEOUT).await?;
            self.rpc = self.rpc.or(ready.rpc);
            members.push(member(&ready));
        }
        self.context.member = members;
        Ok(())
    }

    /// Configures the providers to follow the validators, and starts them.
    pub(crate) async fn start_providers(&mut self) -> Result<()> {
        let genesis = self.dealt.genesis.encode();
        // Fixed, so that a node that was killed comes back where the ledger says it is; and chosen at once, so that
        // nobody gets the port of one that is dead at that moment.
        let mut ports = lasting_ports(PROVIDERS + HOSTS)?;
        self.host_ports = ports.split_off(PROVIDERS);
        for (index, child) in self.providers.iter_mut().enumerate() {
            let config = Config {
                provider: Some(Provider {
                    pledge_bytes: PLEDGE_BYTES,
                    // Six providers share this disk: each leaves only a little of it alone.
                    keep_free_bytes: 64 << 20,
                    zone: self.operators[index].1.into(),
                    price_keep: Coins(1_000_000_000_000_000 + index as u128),
                    ..Provider::default()
                }),
                ..follower(format!("demo-provider-{index}"), ports[index], &self.context.member)
            };
            begin(child, &genesis, &config)?;
        }
        for child in &mut self.providers {
            child.ready(START_TIMEOUT).await?;
        }
        Ok(())
    }

    /// Configures the hosts to follow the validators too, and starts them.
    pub(crate) async fn start_hosts(&mut self) -> Result<()> {
        let genesis = self.dealt.genesis.encode();
        self.do_hosts_run = true;
        for (index, child) in self.hosts.iter_mut().enumerate() {
            let config = Config {
                compute: Some(Compute {
                    memory_bytes: 512 << 20,
                    disk_bytes: 512 << 20,
                    zone: ZONES[index % ZONES.len()].into(),
                    collateral: Coins(10u128.pow(18)),
                    ..Compute::default()
                }),
                ..follower(format!("demo-host-{index}"), self.host_ports[index], &self.context.member)
            };
            begin(child, &genesis, &config)?;
        }
        for child in &mut self.hosts {
            child.ready(START_TIMEOUT).await?;
        }
        Ok(())
    }

    /// Ends the hosts: nobody needs them any more.
    pub(crate) async fn kill_hosts(&mut self) {
        futures::future::join_all(self.hosts.iter_mut().map(Child::kill)).await;
        self.do_hosts_run = false;
    }

    /// Starts again whatever does not run; how many that were.
    pub(crate) async fn restart_dead(&mut self) -> Result<usize> {
        let mut dead: Vec<&mut Child> = self.children().filter(|child| !child.is_started()).collect();
        for child in &mut dead {
            child.start()?;
        }
        for child in &mut dead {
            child.ready(START_TIMEOUT).await?;
        }
        Ok(dead.len())
    }

    /// Every node of the demo.
    pub(crate) fn children(&mut self) -> impl Iterator<Item = &mut Child> {
        // Validators last: the others follow them.
        let hosts = self.hosts.iter_mut().filter(|_| self.do_hosts_run);
        hosts.chain(&mut self.providers).chain(&mut self.validators)
    }

    /// Ends all of them at once: nobody will look at what they leave.
    pub(crate) async fn kill(&mut self) {
        futures::future::join_all(self.children().map(Child::kill)).await;
    }

    /// Stops all of them in order.
    pub(crate) async fn stop(&mut self) {
        let hosts = self.hosts.iter_mut().filter(|_| self.do_hosts_run);
        futures::future::join_all(hosts.chain(&mut self.providers).map(Child::stop)).await;
        futures::future::join_all(self.validators.iter_mut().map(Child::stop)).await;
    }
}

/// What nodes that follow the validators have in common.
fn follower(name: String, port: u16, members: &[Member]) -> Config {
    let loopback = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), 0);
    let followed = |member: &Member| Followed { key: member.key.clone(), addresses: member.addresses.clone() };
    Config {
        name,
        genesis: GENESIS_FILE.into(),
        link: Link { listen: SocketAddr::new(loopback.ip(), port), ..Link::default() },
        doors: Doors { status: Some(loopback), rpc: None },
        follow: members.iter().map(followed).collect(),
        ..Config::default()
    }
}

/// Writes a node's folder, and starts it.
fn begin(child: &mut Child, genesis: &[u8], config: &Config) -> Result<()> {
    replace(&child.home.path().join(GENESIS_FILE), genesis, 0o644).map_err(home_fault)?;
    replace(&child.home.config(), config.text().as_bytes(), 0o600).map_err(home_fault)?;
    child.start()
}

fn member(ready: &Ready) -> Member {
    Member { key: ready.node.clone(), addresses: ready.link.clone() }
}

/// UDP ports nobody uses now, and nobody will be given who asks for any: what systems give so begins at 32768.
fn lasting_ports(count: usize) -> Result<Vec<u16>> {
    let first = 20_000 + (std::process::id() % 1_000) as u16 * 12;
    let is_free = |port: &u16| UdpSocket::bind((Ipv4Addr::LOCALHOST, *port)).is_ok();
    let ports: Vec<u16> = (first..32_768).chain(20_000..first).filter(is_free).take(count).collect();
    if ports.len() < count {
        return Err(Fault::new(&fault::NODE, "no free UDP port on loopback", "allow this user to listen on 127.0.0.1"));
    }
    Ok(ports)
}

/// Ports nobody listens on now. All are held together, so that they differ.
fn free_ports(count: usize) -> Result<Vec<u16>> {
    let bind = || {
        TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|listener| Ok((listener.local_addr()?.port(), listener)))
    };
    let held: std::io::Result<Vec<_>> = (0..count).map(|_| bind()).collect();
    match held {
        Ok(held) => Ok(held.into_iter().map(|(port, _)| port).collect()),
        Err(error) => Err(Fault::new(
            &fault::NODE,
            format!("no free port on loopback: {error}"),
            "allow this user to listen on 127.0.0.1",
        )),
    }
}
