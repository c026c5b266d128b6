//! Run the node of a folder until it is stopped.

use crate::{
    args::Process,
    fault::{self, Fault, Result},
    out::Out,
};
use commonware_runtime::tokio::Context;
use hodei_gateway::rpc;
use hodei_node::{
    NodeError,
    caps::Caps,
    config::{Config, ConfigError},
    home::{Home, HomeError},
    logs,
    provider::when::Prove,
};
use serde_json::json;
use std::{
    io::Read as _,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};
use tokio::signal::unix::{SignalKind, signal};

/// A relay that is there has a node within a second or two.
const RELAY_PATIENCE: Duration = Duration::from_secs(5);
/// A process that stops, or just began to, lets go of its folder within this; one that is ready still after a moment runs
/// on.
const STOPPING: Duration = Duration::from_secs(10);
const RUNNING: Duration = Duration::from_secs(1);
/// The folder is tried again so often.
const TRY_EVERY: Duration = Duration::from_millis(100);

/// A node's folder and configuration, checked before anything starts.
pub(crate) struct Checked {
    pub(crate) home: Home,
    pub(crate) config: Config,
}

/// Refuses a folder without a node, before anything is made in it.
pub(crate) fn check_present(folder: &Path) -> Result<PathBuf> {
    let path = folder.join("node.toml");
    if path.exists() {
        return Ok(path);
    }
    let help = "name the folder that holds node.toml: `hodei net create` and `hodei net join` make one";
    Err(Fault::new(&fault::NO_FILE, "there is no node in this folder", help).at(path.display()))
}

/// Reads `node.toml` of a folder.
pub(crate) fn check(folder: &Path) -> Result<Checked> {
    let path = check_present(folder)?;
    let config = Config::read(&path).map_err(|error| settings(&error).at(path.display()))?;
    let home = Home::create(folder).map_err(home_fault)?;
    logs::install(&home, &config.log, false).map_err(|error| {
        Fault::new(&fault::SETTINGS, error, "correct `log.level` or the folder `logs`").at(path.display())
    })?;
    Ok(Checked { home, config })
}

/// The same for a validator. With `typed`, the node's name, it shall vote although its journal is lost.
pub(crate) fn check_validator(folder: &Path, typed: Option<&str>) -> Result<Checked> {
    let mut checked = check(folder)?;
    let Some(validator) = &mut checked.config.validator else {
        return Err(Fault::new(
            &fault::SETTINGS,
            "this node is no validator",
            "name a validator's folder, or use `hodei node run`",
        )
        .at(folder.join("node.toml").display()));
    };
    if let Some(typed) = typed {
        if typed != checked.config.name {
            return Err(Fault::new(
                &fault::CONFIRM,
                "that is not this node's name",
                "type its name from node.toml: --confirm=NAME",
            )
            .between(&checked.config.name, typed));
        }
        validator.after_loss = true;
    }
    Ok(checked)
}

/// Waits until another process that stops lets go of the folder: who restarts a node starts the new one as the old one says
/// goodbye. Told soon where that one runs.
pub(crate) fn freed(home: &Home, out: Out) -> Result<()> {
    let (begun, mut is_told) = (Instant::now(), false);
    loop {
        let error = match home.lock() {
            Ok(lock) => {
                drop(lock);
                return Ok(());
            }
            Err(error) => error,
        };
        // It is withdrawn at once by who stops.
        let runs = home.read_ready().is_some();
        let patience = if runs { RUNNING } else { STOPPING };
        if !matches!(error, HomeError::Locked { .. }) || begun.elapsed() >= patience {
            return Err(home_fault(error));
        }
        if !runs && !is_told {
            out.say(format!("{error}: waiting until it stopped, {} s at most", STOPPING.as_secs()));
            is_told = true;
        }
        std::thread::sleep(TRY_EVERY);
    }
}

/// Starts the node, says so once it answers, and runs it until a signal, or until standard input closes.
pub(crate) async fn run(context: Context, checked: Checked, process: Process, out: Out) -> Result<()> {
    let Checked { home, config } = checked;
    let mut stop = std::pin::pin!(stopped(process.until_stdin_closes)?);
    let running = hodei_node::start(context, home.clone(), config.clone()).await.map_err(node_fault)?;
    // The node knows no foreign protocol: its JSON-RPC door is opened here, beside it.
    let rpc = match (config.doors.rpc, running.member()) {
        (Some(listen), Some(member)) => {
            let door = rpc::serve(rpc::Config { listen, hosts: Vec::new() }, member.ethereum()).await;
            Some(door.map_err(|error| Fault::new(&fault::NODE, error, "choose another port for `doors.rpc`"))?)
        }
        _ => None,
    };
    let rpc_address = rpc.as_ref().map(rpc::Door::address);
    running.publish(rpc_address).map_err(node_fault)?;
    let ready = running.ready();
    let (mut at, mut relays) = (vec![reached_at(&ready.link)], Vec::new());
    if let Some(reached) = running.reached() {
        tokio::select! {
            // Told to stop before that, it does so at once.
            () = &mut stop => return running.until(std::future::ready(())).await.map_err(node_fault),
            _ = reached.wait(RELAY_PATIENCE) => {}
        }
        let (named, connected) = (join(&config.link.relays), reached.connected());
        relays = reached.relays();
        if connected.is_empty() {
            at.push(format!("through a relay of {named} once one answers"));
            // Who has an address besides is offered without.
            let is_held_back =
                config.link.advertise.is_empty() && config.provider.as_ref().is_some_and(|its| its.register);
            let offered = match is_held_back {
                true => "; its offer is stated once one does, if it is not on the ledger yet",
                false => "",
            };
            out.say(format!("warning: no relay of {named} answers: nobody reaches this node through it{offered}"));
        } else {
            at.push(format!("through the relay {}", join(&connected)));
        }
    }
    at.retain(|at| !at.is_empty());
    out.result(
        format!("node {} answers {}", ready.node, at.join(", or ")),
        &json!({
            "schema": "hodei.node.ready/1", "node": ready.node, "account": ready.account, "link": ready.link,
            "status": ready.status, "rpc": rpc_address, "folder": home.path(), "relays": relays,
            "caps": config.caps.as_ref().map(Caps::told), "prove": config.prove.as_ref().map(Prove::told),
        }),
    );
    if let Some(caps) = config.caps.as_ref().map(Caps::told).filter(|caps| !caps.is_empty()) {
        out.say(format!("caps: {}", caps.join(", ")));
    }
    if let Some(prove) = &config.prove {
        out.say(format!("proves {}", prove.told()));
    }
    out.say(format!("log: {}", home.logs().join("node.log").display()));
    running.until(stop).await.map_err(node_fault)
}

/// `at 192.0.2.1:4433`; nothing where it has no address of its own.
fn reached_at(addresses: &[std::net::SocketAddr]) -> String {
    if addresses.is_empty() { String::new() } else { format!("at {}", join(addresses)) }
}

/// Resolves upon SIGTERM, SIGINT, or the end of standard input where asked for.
pub(crate) fn stopped(until_stdin_closes: bool) -> Result<impl Future<Output = ()>> {
    let listen =
        |kind| signal(kind).map_err(|error| Fault::new(&fault::INTERNAL, error, "the system refused a signal handler"));
    let (mut term, mut int) = (listen(SignalKind::terminate())?, listen(SignalKind::interrupt())?);
    let (closed, stdin) = tokio::sync::oneshot::channel::<()>();
    if until_stdin_closes {
        // A thread of its own: a read that never returns must not keep the runtime from ending.
        std::thread::spawn(move || {
            let mut buffer = [0; 64];
            while matches!(std::io::stdin().lock().read(&mut buffer), Ok(count) if count > 0) {}
            let _ = closed.send(());
        });
    }
    Ok(async move {
        let stdin = async {
            // Not asked for: the sender is gone, and this never resolves.
            if !until_stdin_closes || stdin.await.is_err() {
                std::future::pending::<()>().await;
            }
        };
        tokio::select! {
            _ = term.recv() => {}
            _ = int.recv() => {}
            () = stdin => {}
        }
    })
}

/// The folder a command means: named, or the context's.
pub(crate) fn folder(named: Option<&PathBuf>, of_context: impl FnOnce() -> Result<Option<PathBuf>>) -> Result<PathBuf> {
    if let Some(folder) = named {
        return Ok(folder.clone());
    }
    of_context()?.ok_or_else(|| {
        Fault::new(
            &fault::FOLDER,
            "no node's folder was named, and the context has none",
            "name it with --folder FOLDER or HODEI_NODE",
        )
    })
}

pub(crate) fn home_fault(error: HomeError) -> Fault {
    match &error {
        HomeError::Locked { .. } => {
            Fault::new(&fault::LOCKED, &error, "stop that process first, or name another folder")
        }
        HomeError::Foreign { .. } => Fault::new(
            &fault::GENESIS,
            &error,
            "name the folder of this network's node, or give it its own genesis file back",
        ),
        HomeError::Io { source, .. } if source.kind() == std::io::ErrorKind::NotFound => {
            Fault::new(&fault::NO_FILE, &error, "check the folder's name")
        }
        HomeError::Io { .. } => Fault::new(&fault::FOLDER, &error, "check the disk and the folder's permissions"),
    }
}

pub(crate) fn settings(error: &ConfigError) -> Fault {
    match error {
        ConfigError::Value { key, found, expected } => {
            Fault::new(&fault::SETTINGS, format!("`{key}` cannot be used"), "correct it and run the command again")
                .between(expected, found)
        }
        _ => Fault::new(&fault::SETTINGS, error.to_string().trim_end(), "correct that line and run the command again"),
    }
}

pub(crate) fn node_fault(error: NodeError) -> Fault {
    match error {
        NodeError::Config(error) => settings(&error),
        NodeError::Home(error) => home_fault(error),
        NodeError::Keys(error) => Fault::new(&fault::WALLET, error, "put the right key file there, with mode 600"),
        NodeError::Genesis { ref path, .. } => {
            let path = path.display().to_string();
            Fault::new(&fault::GENESIS, error, "copy genesis.cbor from another member of the network").at(path)
        }
        NodeError::OtherNetwork { .. } => {
            Fault::new(&fault::GENESIS, error, "correct `network_key` in node.toml, or remove the genesis file")
        }
        error if error.is_other_network() => {
            Fault::new(&fault::GENESIS, error, "put back that network's genesis.cbor, or use an empty folder")
        }
        error => Fault::new(&fault::NODE, error, "see logs/node.log in the node's folder, then start it again"),
    }
}

fn join(addresses: &[std::net::SocketAddr]) -> String {
    addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_has_no_address_answers_at_none() {
        assert_eq!(reached_at(&[]), "");
        assert_eq!(
            reached_at(&["192.0.2.1:7".parse().unwrap(), "[::1]:8".parse().unwrap()]),
            "at 192.0.2.1:7, [::1]:8"
        );
    }

    #[test]
    fn a_node_that_stops_is_waited_for_and_one_that_runs_is_told() {
        let folder = std::env::temp_dir().join(format!("hodei-freed-{}", std::process::id()));
        let (home, out) = (Home::create(&folder).unwrap(), Out { json: true });
        let lock = home.lock().unwrap();
        let stops = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(1500));
            drop(lock);
        });
        freed(&home, out).unwrap();
        stops.join().unwrap();
        let _runs = home.lock().unwrap();
        let ready = json!({ "process": 1, "node": "", "account": "", "link": [], "status": null, "rpc": null });
        std::fs::write(folder.join("ready.json"), ready.to_string()).unwrap();
        assert!(home.read_ready().is_some());
        let fault = freed(&home, out).unwrap_err();
        assert_eq!(fault.code.id, fault::LOCKED.id);
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
