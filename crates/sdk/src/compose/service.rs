//! Read one service.

use super::{
    Build, Service, Walk,
    amount::{CPUS, DURATION, SIZE, cpu_milli, duration_ms, size_bytes},
    at::At,
    broken::{Broken, Note, quote},
    deploy, dotenv, health, keys, mount,
    order::{Condition, Depends, depends},
    place, port,
    store::{self, is_name},
    words,
};
use crate::nearest::nearest;
use std::{collections::BTreeMap, net::IpAddr};

/// Files of variables a service may have.
const ENV_FILES_MAX: usize = 16;

const SIGNALS: [&str; 15] = [
    "SIGTERM", "SIGINT", "SIGQUIT", "SIGHUP", "SIGKILL", "SIGUSR1", "SIGUSR2", "SIGWINCH", "SIGABRT", "SIGALRM",
    "SIGCONT", "SIGSTOP", "SIGTSTP", "SIGPIPE", "SIGPWR",
];

/// What every container has: what a server needs to open its port and become another user.
const CAPABILITIES: [&str; 8] =
    ["CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "NET_BIND_SERVICE", "SETGID", "SETUID"];

/// Where two keys say the same thing.
#[derive(Default)]
struct Twice {
    replicas: Option<u64>,
    cpu_milli: Option<u64>,
    memory_bytes: Option<u64>,
    pids: Option<u64>,
}

pub(super) fn service(name: &str, at: &At<'_>, walk: &mut Walk<'_>, notes: &mut Vec<Note>) -> Result<Service, Broken> {
    if !is_name(name) {
        return Err(at.broken("names are 1 to 63 of a-z, A-Z, 0-9, _, . and -, a letter or digit first", None));
    }
    let mut service = Service { name: name.to_owned(), line: at.line, ..Service::default() };
    let mut of_files = BTreeMap::new();
    let mut own = BTreeMap::new();
    let mut said = Twice::default();
    let mut deployed = None;
    for (key, at) in at.fields(&keys::SERVICE, notes)? {
        match key {
            "image" => service.image = Some(at.read(image, "an image, as \"nginx:1.27\"")?),
            "build" => service.build = Some(build(&at, walk, notes)?),
            "entrypoint" => service.entrypoint = Some(command(&at)?),
            "command" => service.command = Some(command(&at)?),
            "environment" => own = variables(&at, walk)?,
            "env_file" => of_files = files(&at, walk, notes)?,
            "working_dir" => {
                let rule = "a path inside of the container that begins with /";
                service.working_dir = Some(at.read(|text| text.starts_with('/').then(|| text.to_owned()), rule)?);
            }
            "user" => {
                let is_user = |text: &str| (1..=64).contains(&text.len()) && !text.contains(char::is_whitespace);
                service.user = Some(at.read(|text| is_user(text).then(|| text.to_owned()), "USER or UID[:GID]")?);
            }
            "hostname" => {
                let rule = "1 to 63 letters, digits, _, . and -";
                service.hostname = Some(at.read(|text| is_name(text).then(|| text.to_owned()), rule)?);
            }
            "ports" => service.ports = port::ports(&at, notes)?,
            "expose" => service.expose = port::expose(&at)?,
            "volumes" => service.mounts.extend(mount::mounts(&at, notes)?),
            "tmpfs" => service.mounts.extend(mount::scratch(&at)?),
            "secrets" => service.secrets = store::grants(&at, "/run/secrets/", notes)?,
            "configs" => service.configs = store::grants(&at, "/", notes)?,
            "networks" => service.networks = store::attachments(&at, notes)?,
            "depends_on" => service.depends_on.extend(depends(&at, notes)?),
            "links" => links(&at, &mut service.depends_on)?,
            "healthcheck" => service.health = Some(health::health(&at, notes)?),
            "restart" => service.restart.when = health::restart(&at)?,
            "deploy" => deployed = Some((deploy::deploy(&at, notes)?, at)),
            "scale" => said.replicas = Some(deploy::replicas(&at)?),
            "cpus" => said.cpu_milli = Some(at.read(cpu_milli, CPUS)?),
            "mem_limit" => said.memory_bytes = Some(at.read(size_bytes, SIZE)?),
            "pids_limit" => said.pids = Some(deploy::pids(&at)?),
            "read_only" => service.is_read_only = at.flag()?,
            "init" => service.has_init = at.flag()?,
            "stop_signal" => service.stop_signal = Some(signal(&at)?),
            "stop_grace_period" => service.stop_ms = Some(at.read(duration_ms, DURATION)?),
            "extra_hosts" => service.extra_hosts = hosts(&at)?,
            "platform" => platform(&at, notes)?,
            "cap_add" => capabilities(&at)?,
            "security_opt" => security(&at, notes)?,
            "x-hodei" => service.hodei = place::hodei(&at, notes)?,
            // Read ahead of this.
            _ => {}
        }
    }
    of_files.extend(own);
    let is_broken =
        |(name, value): &(&String, &String)| name.is_empty() || name.contains(['\0', '=']) || value.contains('\0');
    if let Some((name, _)) = of_files.iter().find(is_broken) {
        return Err(at.broken(format!("variables are NAME=value, and no zero bytes: {} is not", quote(name)), None));
    }
    service.environment = of_files;
    let deploy = deployed.as_ref().map(|(deploy, _)| deploy.clone()).unwrap_or_default();
    let of = deployed.as_ref().map_or(at, |(_, at)| at);
    service.replicas = one(of, "scale and deploy.replicas", said.replicas, deploy.replicas)?.unwrap_or(1);
    service.cpu_milli = one(of, "cpus and deploy.resources.limits.cpus", said.cpu_milli, deploy.cpu_milli)?;
    let limits = "mem_limit and deploy.resources.limits.memory";
    service.memory_bytes = one(of, limits, said.memory_bytes, deploy.memory_bytes)?;
    service.pids = one(of, "pids_limit and deploy.resources.limits.pids", said.pids, deploy.pids)?;
    service.restart = deploy.again.unwrap_or(service.restart);
    service.update = deploy.update;
    if service.image.is_none() && service.build.is_none() {
        return Err(at.broken("a service has an image or a build", None));
    }
    Ok(service)
}

/// What one of two keys says, or both alike.
fn one(at: &At<'_>, keys: &str, one: Option<u64>, other: Option<u64>) -> Result<Option<u64>, Broken> {
    match (one, other) {
        (Some(one), Some(other)) if one != other => {
            let rule = format!("{keys} say the same thing, and here {one} and {other}: say it once");
            Err(at.broken(rule, None))
        }
        _ => Ok(one.or(other)),
    }
}

pub(super) fn image(text: &str) -> Option<String> {
    let is_image = (1..=512).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic());
    is_image.then(|| text.to_owned())
}

fn command(at: &At<'_>) -> Result<Vec<String>, Broken> {
    match at.scalar() {
        Some(text) => {
            let rule = "a command whose quotes are closed, or a list of its words";
            words::split(text).ok_or_else(|| at.broken(rule, None))
        }
        None => at.texts(),
    }
}

fn build(at: &At<'_>, walk: &Walk<'_>, notes: &mut Vec<Note>) -> Result<Build, Broken> {
    let mut build = Build { line: at.line, context: ".".into(), ..Build::default() };
    if at.scalar().is_some() {
        at.said()?.clone_into(&mut build.context);
        return Ok(build);
    }
    for (key, at) in at.fields(&keys::BUILD, notes)? {
        match key {
            "context" => at.said()?.clone_into(&mut build.context),
            "dockerfile" => build.dockerfile = Some(at.said()?.to_owned()),
            "dockerfile_inline" => build.dockerfile_inline = Some(at.said()?.to_owned()),
            "args" => build.args = variables(&at, walk)?,
            _ => build.target = Some(at.said()?.to_owned()),
        }
    }
    if build.dockerfile.is_some() && build.dockerfile_inline.is_some() {
        return Err(at.broken("dockerfile or dockerfile_inline", None));
    }
    Ok(build)
}

/// Variables with their values; what has none is taken from the environment, and left out where that has none either.
fn variables(at: &At<'_>, walk: &Walk<'_>) -> Result<BTreeMap<String, String>, Broken> {
    let mut all = BTreeMap::new();
    for (name, value, at) in at.pairs(&['='])? {
        if name.is_empty() || name.contains(['\0', '=']) || value.is_some_and(|value| value.contains('\0')) {
            return Err(at.broken("NAME=value", None));
        }
        if let Some(value) = value.or_else(|| walk.environment.get(name).map(String::as_str)) {
            all.insert(name.to_owned(), value.to_owned());
        }
    }
    Ok(all)
}

fn files(at: &At<'_>, walk: &mut Walk<'_>, notes: &mut Vec<Note>) -> Result<BTreeMap<String, String>, Broken> {
    let mut all = BTreeMap::new();
    let items = at.one_or_more()?;
    if items.len() > ENV_FILES_MAX {
        return Err(at.broken(format!("at most {ENV_FILES_MAX} files"), None));
    }
    for item in items {
        let (mut path, mut is_required, mut is_raw) = (item.scalar().map(str::to_owned), true, false);
        if path.is_none() {
            for (key, at) in item.fields(&keys::ENV_FILE, notes)? {
                match key {
                    "path" => path = Some(at.said()?.to_owned()),
                    "required" => is_required = at.flag()?,
                    _ => is_raw = at.one_of(&[("raw", true)])?,
                }
            }
        }
        let path = path.filter(|path| !path.is_empty()).ok_or_else(|| item.broken("path: ./file", None))?;
        let read = (walk.file)(&path).map_err(|why| item.broken(format!("a file that can be read ({why})"), None))?;
        let Some(text) = read else {
            if is_required {
                return Err(item.broken("a file that is there; or required: false", None));
            }
            continue;
        };
        if is_raw {
            let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
            let pairs = lines.filter_map(|line| line.split_once('='));
            all.extend(pairs.map(|(name, value)| (name.trim().to_owned(), value.to_owned())));
            continue;
        }
        for (name, value) in dotenv::read(&path, &text, walk.environment, &mut walk.room)? {
            if let Some(value) = value.or_else(|| walk.environment.get(&name).cloned()) {
                all.insert(name, value);
            }
        }
    }
    Ok(all)
}

/// Links are waited for; services reach each other by name anyway.
fn links(at: &At<'_>, depends: &mut Vec<Depends>) -> Result<(), Broken> {
    for item in at.items()? {
        let text = item.said()?;
        let (service, alias) = text.split_once(':').unwrap_or((text, text));
        if alias != service {
            let rule = "services reach each other by name: give it the further name as networks.NAME.aliases";
            return Err(item.broken(rule, Some(format!("{service:?}"))));
        }
        if !depends.iter().any(|on| on.service == service) {
            let (line, service) = (item.line, service.to_owned());
            depends.push(Depends { line, service, condition: Condition::Started, is_required: true });
        }
    }
    Ok(())
}

fn signal(at: &At<'_>) -> Result<String, Broken> {
    let text = at.said()?.to_ascii_uppercase();
    if text.parse::<u8>().is_ok_and(|number| (1..=64).contains(&number)) && text.bytes().all(|b| b.is_ascii_digit()) {
        return Ok(text);
    }
    let name = if text.starts_with("SIG") { text } else { format!("SIG{text}") };
    if SIGNALS.contains(&name.as_str()) || name.starts_with("SIGRTMIN") {
        return Ok(name);
    }
    Err(at.broken("a signal, as SIGTERM, or its number, 1 to 64", nearest(&name, &SIGNALS)))
}

fn hosts(at: &At<'_>) -> Result<Vec<(String, IpAddr)>, Broken> {
    let rule = "NAME=ADDRESS with an address that is reached from everywhere; a host's own is not given";
    let mut all = Vec::new();
    for (name, address, at) in at.pairs(&['=', ':'])? {
        let address = address.unwrap_or_default();
        let address = address.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(address);
        let address: IpAddr = address.parse().map_err(|_| at.broken(rule, None))?;
        if !is_name(name) {
            return Err(at.broken(rule, None));
        }
        all.push((name.to_owned(), address));
    }
    Ok(all)
}

fn platform(at: &At<'_>, notes: &mut Vec<Note>) -> Result<(), Broken> {
    match at.said()?.split('/').next() {
        Some("linux") => {
            notes.push(at.note("an image runs on what it is built for"));
            Ok(())
        }
        Some("wasi") => {
            Err(at.broken("components are deployed by app.toml: remove the service, and deploy it beside", None))
        }
        _ => Err(at.broken("hosts run linux", Some("\"linux/amd64\"".into()))),
    }
}

pub(super) fn capabilities(at: &At<'_>) -> Result<(), Broken> {
    for item in at.items()? {
        let text = item.said()?.to_ascii_uppercase();
        if !CAPABILITIES.contains(&text.strip_prefix("CAP_").unwrap_or(&text)) {
            let rule = format!("a container has {}, and no more are given: remove it", CAPABILITIES.join(", "));
            return Err(item.broken(rule, None));
        }
    }
    Ok(())
}

fn security(at: &At<'_>, notes: &mut Vec<Note>) -> Result<(), Broken> {
    for item in at.items()? {
        match item.said()? {
            "no-new-privileges" | "no-new-privileges:true" | "no-new-privileges=true" => {
                notes.push(item.note("so it is with all containers"));
            }
            _ => {
                let rule = "what confines a container is the same for all: remove it";
                return Err(item.broken(rule, Some("\"no-new-privileges:true\"".into())));
            }
        }
    }
    Ok(())
}
