//! Read a compose file: what of it is deployed, what is only noted, and what is refused, each with its line.
//!
//! ```text
//! text ─ tree ─► nodes with lines ─ fill ─► variables ─ extend ─► services ─ walk ─► Compose, in the order of beginning
//! ```
//! Nothing is opened here: the text, the environment and a way to read further files are given. No key is passed over in
//! silence: it is honoured, noted or refused, as docs/compose.md lists them, and one that is none of these is an error
//! with the nearest that is. Whatever the text, reading it ends soon: its length, depth, aliases and variables are
//! bounded.
//!
//! ```
//! use hodei_sdk::compose::{Given, read};
//! let text = "services:\n  web:\n    image: nginx:1.27\n    ports: [\"8080:80\"]\n";
//! let given = Given { text, ..Given::default() };
//! let compose = read(&given, &mut |_| Ok(None)).unwrap();
//! assert_eq!(compose.services[0].ports[0].target, 80);
//! let error = read(&Given { text: "services:\n  web:\n    imag: nginx\n", ..given }, &mut |_| Ok(None)).unwrap_err();
//! assert_eq!((error.line, error.nearest.as_deref()), (3, Some("\"image\"")));
//! ```

mod amount;
mod at;
mod broken;
mod deploy;
mod dotenv;
mod extend;
mod fill;
mod health;
mod keys;
pub mod kube;
mod mount;
mod order;
mod place;
mod port;
mod service;
mod store;
#[cfg(test)]
mod tests;
mod tree;
mod words;

pub use broken::{Broken, Note};
pub use deploy::{Again, FailureAction, PIDS_MAX, Update, UpdateOrder};
pub use health::{Health, Probe, Restart};
pub use mount::{Mount, Source};
pub use order::{Condition, Depends};
pub use place::{Hodei, Standby};
pub(crate) use port::speaks;
pub use port::{PORTS_MAX, Port};
pub use store::{Attachment, Bytes, Content, DECLARED_MAX, Grant, Network, Volume};
pub use tree::{DEPTH_MAX, FILE_BYTES_MAX, NODES_MAX, TEXT_BYTES_MAX};

use crate::nearest::nearest;
use at::At;
use fill::Fill;
use std::{collections::BTreeMap, net::IpAddr};
use tree::{Entry, Node, Value};

/// Services a file may have.
pub const SERVICES_MAX: usize = 64;

/// The file variables are read from, where it is there; the process's environment wins over it.
const VARIABLES: &str = ".env";

/// What is read.
#[derive(Clone, Copy, Debug, Default)]
pub struct Given<'a> {
    /// The compose file.
    pub text: &'a str,
    /// The process's environment; none without it.
    pub environment: Option<&'a BTreeMap<String, String>>,
    /// Profiles that are chosen, `*` for all.
    pub profiles: &'a [String],
    /// Services that are named, with what they wait for; all that are of no profile or a chosen one without it.
    pub services: &'a [String],
}

/// What a file, by its path relative to the compose file, holds; none where it is not there.
pub type Files<'a> = &'a mut dyn FnMut(&str) -> Result<Option<String>, String>;

/// What is deployed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Compose {
    /// A label of DNS, where one is said.
    pub name: Option<String>,
    /// Those that others wait for first.
    pub services: Vec<Service>,
    pub volumes: BTreeMap<String, Volume>,
    pub networks: BTreeMap<String, Network>,
    pub secrets: BTreeMap<String, Content>,
    pub configs: BTreeMap<String, Content>,
    /// What is not done, or done otherwise than docker does, in the order of lines.
    pub notes: Vec<Note>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Service {
    pub name: String,
    pub line: usize,
    /// What runs; where there is a build, the name of what is built.
    pub image: Option<String>,
    pub build: Option<Build>,
    pub entrypoint: Option<Vec<String>>,
    pub command: Option<Vec<String>>,
    pub environment: BTreeMap<String, String>,
    pub working_dir: Option<String>,
    pub user: Option<String>,
    pub hostname: Option<String>,
    pub ports: Vec<Port>,
    pub expose: Vec<u16>,
    pub mounts: Vec<Mount>,
    pub secrets: Vec<Grant>,
    pub configs: Vec<Grant>,
    /// The default one where this is empty.
    pub networks: Vec<Attachment>,
    /// Those that are deployed too.
    pub depends_on: Vec<Depends>,
    /// As its image says without it.
    pub health: Option<Health>,
    pub restart: Again,
    pub replicas: u64,
    /// Of each replica, where it is said.
    pub cpu_milli: Option<u64>,
    pub memory_bytes: Option<u64>,
    pub pids: Option<u64>,
    pub update: Option<Update>,
    pub is_read_only: bool,
    pub has_init: bool,
    /// As `SIGINT`, or a number; as its image says without it.
    pub stop_signal: Option<String>,
    /// From that signal until it is killed.
    pub stop_ms: Option<u64>,
    pub extra_hosts: Vec<(String, IpAddr)>,
    pub profiles: Vec<String>,
    pub hodei: Hodei,
}

/// How an image is built before it is deployed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Build {
    pub line: usize,
    /// The folder, relative to the compose file.
    pub context: String,
    pub dockerfile: Option<String>,
    pub dockerfile_inline: Option<String>,
    pub args: BTreeMap<String, String>,
    pub target: Option<String>,
}

/// What is needed while services are read.
struct Walk<'a> {
    environment: &'a BTreeMap<String, String>,
    file: Files<'a>,
    /// Bytes that variables may still bring.
    room: usize,
}

/// What a file and its environment say; or the first rule that is not kept.
pub fn read(given: &Given<'_>, file: Files<'_>) -> Result<Compose, Broken> {
    let mut root = tree::parse(given.text)?;
    let mut room = TEXT_BYTES_MAX;
    let mut notes = Vec::new();
    let environment = environment(given, file, &mut room)?;
    filled(&mut root, "", &mut |text, key, line| {
        let mut unset = Vec::new();
        let mut fill = Fill { environment: &environment, room: &mut room, unset: &mut unset };
        let text = fill.fill(text).map_err(|fault| fault.at(None, line, key))?;
        let words =
            |name: String| Note { line, words: format!("{key}: {name} is not set, and empty here"), is_later: false };
        notes.extend(unset.into_iter().map(words));
        Ok(text)
    })?;
    let mut walk = Walk { environment: &environment, file, room };
    let at = At::root(&root);
    if !at.is_map() {
        return Err(at.broken("a compose file is a mapping with services", None));
    }
    compose(&at, given, &mut walk, notes)
}

/// The process's, over that of the project's file.
fn environment(given: &Given<'_>, file: Files<'_>, room: &mut usize) -> Result<BTreeMap<String, String>, Broken> {
    let own = given.environment.cloned().unwrap_or_default();
    let text = file(VARIABLES).map_err(|why| {
        let fault = broken::Fault { found: "not readable".into(), rule: format!("a file that can be read ({why})") };
        fault.at(Some(VARIABLES), 1, "the file")
    })?;
    let Some(text) = text else { return Ok(own) };
    let said = dotenv::read(VARIABLES, &text, &own, room)?;
    let mut all: BTreeMap<String, String> = said.into_iter().filter_map(|(name, value)| Some((name, value?))).collect();
    all.extend(own);
    Ok(all)
}

/// Fills in the variables of all values; keys have none.
fn filled(
    node: &mut Node,
    path: &str,
    fill: &mut impl FnMut(&str, &str, usize) -> Result<String, Broken>,
) -> Result<(), Broken> {
    match &mut node.value {
        Value::Scalar(text) if text.contains('$') => *text = fill(text, path, node.line)?,
        Value::Null | Value::Scalar(_) => {}
        Value::List(nodes) => nodes.iter_mut().try_for_each(|node| filled(node, path, fill))?,
        Value::Map(entries) => {
            for entry in entries {
                let path = if path.is_empty() { entry.key.clone() } else { format!("{path}.{}", entry.key) };
                filled(&mut entry.node, &path, fill)?;
            }
        }
    }
    Ok(())
}

fn compose(at: &At<'_>, given: &Given<'_>, walk: &mut Walk<'_>, mut notes: Vec<Note>) -> Result<Compose, Broken> {
    let mut compose = Compose::default();
    let mut whole = Hodei::default();
    let mut services = None;
    for (key, at) in at.fields(&keys::FILE, &mut notes)? {
        match key {
            "name" => compose.name = Some(name(&at)?),
            "services" => services = Some(at),
            "volumes" => compose.volumes = store::declared(&at, &mut notes, store::volume)?,
            "networks" => compose.networks = store::declared(&at, &mut notes, store::network)?,
            "secrets" => {
                let read =
                    |at: &At<'_>, notes: &mut Vec<Note>| store::content(at, &keys::SECRET, walk.environment, notes);
                compose.secrets = store::declared(&at, &mut notes, read)?;
            }
            "configs" => {
                let read =
                    |at: &At<'_>, notes: &mut Vec<Note>| store::content(at, &keys::CONFIG, walk.environment, notes);
                compose.configs = store::declared(&at, &mut notes, read)?;
            }
            _ => whole = place::hodei(&at, &mut notes)?,
        }
    }
    let services = services.ok_or_else(|| at.broken("a compose file has services", None))?;
    let extended = extend::extend(&services, &mut notes)?;
    let found = found(&services, &extended, &compose, &whole, walk)?;
    let (services, noted) = order::choose(found, given.profiles, given.services)?;
    notes.extend(noted);
    doors(&services)?;
    notes.sort();
    notes.dedup();
    Ok(Compose { services, notes, ..compose })
}

fn name(at: &At<'_>) -> Result<String, Broken> {
    let text = at.said()?;
    if hodei_types::app::is_name(text) {
        return Ok(text.to_owned());
    }
    let nearest = text.to_ascii_lowercase().replace(['_', '.', ' '], "-");
    let nearest = nearest.trim_matches('-');
    let nearest = hodei_types::app::is_name(nearest).then(|| format!("{nearest:?}"));
    Err(at.broken("1 to 63 of a-z, 0-9 and -, with no - first or last", nearest))
}

/// Each service as far as it can be read: only those that are deployed must be within the subset.
fn found(
    services: &At<'_>,
    extended: &[Entry],
    compose: &Compose,
    whole: &Hodei,
    walk: &mut Walk<'_>,
) -> Result<Vec<order::Found>, Broken> {
    if extended.is_empty() || extended.len() > SERVICES_MAX {
        return Err(services.broken(format!("1 to {SERVICES_MAX} services"), None));
    }
    let mut all = Vec::new();
    for entry in extended.iter().filter(|entry| !entry.key.starts_with("x-")) {
        let path = format!("{}.{}", services.path, entry.key);
        let at = At { node: &entry.node, line: entry.line, path };
        let profiles = match at.entries()?.into_iter().find(|(key, _)| *key == "profiles") {
            Some((_, at)) => at.texts()?,
            None => Vec::new(),
        };
        let mut notes = Vec::new();
        let read = service::service(&entry.key, &at, walk, &mut notes);
        let service = read.and_then(|mut service| {
            declared(&service, &at, compose)?;
            service.profiles.clone_from(&profiles);
            service.hodei = std::mem::take(&mut service.hodei).or(whole);
            Ok(service)
        });
        all.push(order::Found { name: entry.key.clone(), profiles, service, notes });
    }
    Ok(all)
}

/// Refuses what a service names and the file does not declare.
fn declared(service: &Service, at: &At<'_>, compose: &Compose) -> Result<(), Broken> {
    fn check<T>(at: &At<'_>, kind: &str, line: usize, name: &str, all: &BTreeMap<String, T>) -> Result<(), Broken> {
        if all.contains_key(name) {
            return Ok(());
        }
        let names: Vec<&str> = all.keys().map(String::as_str).collect();
        let rule = format!("what a service names is declared in the file's own {kind}: add it there");
        let fault = broken::Fault::new(name, rule);
        Err(Broken { nearest: nearest(name, &names), ..fault.at(None, line, &format!("{}.{kind}", at.path)) })
    }
    for mount in &service.mounts {
        if let Source::Volume(name) = &mount.source {
            check(at, "volumes", mount.line, name, &compose.volumes)?;
        }
    }
    for grant in &service.secrets {
        check(at, "secrets", grant.line, &grant.source, &compose.secrets)?;
    }
    for grant in &service.configs {
        check(at, "configs", grant.line, &grant.source, &compose.configs)?;
    }
    for on in service.networks.iter().filter(|on| on.network != "default") {
        check(at, "networks", on.line, &on.network, &compose.networks)?;
    }
    Ok(())
}

/// Refuses two services at one door.
fn doors(services: &[Service]) -> Result<(), Broken> {
    let mut taken: BTreeMap<u16, Vec<(&str, &Port)>> = BTreeMap::new();
    for service in services {
        for port in &service.ports {
            let Some(number) = port.published else { continue };
            let others = taken.entry(number).or_default();
            if let Some((name, other)) = others.iter().find(|(_, other)| port.meets(other)) {
                let rule = format!("line {} publishes it for {name} already: publish it at another", other.line);
                let key = format!("services.{}.ports", service.name);
                return Err(broken::Fault::new(&number.to_string(), rule).at(None, port.line, &key));
            }
            others.push((&service.name, port));
        }
    }
    Ok(())
}
