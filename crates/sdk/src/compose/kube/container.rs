//! Read the one container of a pod.

use super::{
    super::{
        Compose, Service,
        at::At,
        broken::{Broken, Note},
        service::{capabilities, image},
    },
    Walk,
    env::variables,
    fill::fill,
    keys, probe, quantity,
    volume::{Kept, mounts},
};
use crate::app::size;
use std::collections::BTreeMap;

const MIB: u64 = 1 << 20;
/// Ports a container may list.
const PORTS_MAX: usize = 64;

/// Who a process runs as.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct User {
    pub(super) user: Option<u64>,
    pub(super) group: Option<u64>,
    pub(super) is_not_root: Option<bool>,
}

impl User {
    /// What a key of both kinds of securityContext says.
    pub(super) fn take(&mut self, key: &str, at: &At<'_>, notes: &mut Vec<Note>) -> Result<(), Broken> {
        match key {
            "runAsUser" => self.user = Some(at.number(0..=u64::from(u32::MAX - 1))?),
            "runAsGroup" => self.group = Some(at.number(0..=u64::from(u32::MAX - 1))?),
            "runAsNonRoot" => self.is_not_root = Some(at.flag()?),
            _ => {
                for (_, at) in at.fields_or(&keys::SECCOMP, notes, "")? {
                    if at.scalar() != Some("RuntimeDefault") {
                        let rule = "what confines a container is the same for all: remove it";
                        return Err(at.broken(rule, Some("\"RuntimeDefault\"".into())));
                    }
                    notes.push(at.note("so it is with all containers"));
                }
            }
        }
        Ok(())
    }

    /// As `UID` or `UID:GID`.
    fn text(self, at: &At<'_>, notes: &mut Vec<Note>) -> Result<Option<String>, Broken> {
        let refuse = |found: String, rule: &str| Err(Broken { found, ..at.broken(rule, None) });
        match (self.user, self.group) {
            (Some(0), _) if self.is_not_root == Some(true) => {
                refuse("runAsUser: 0".into(), "runAsNonRoot is said: say another user")
            }
            (Some(user), Some(group)) => Ok(Some(format!("{user}:{group}"))),
            (Some(user), None) => Ok(Some(user.to_string())),
            (None, Some(group)) => refuse(format!("runAsGroup: {group}"), "a group goes with runAsUser: say both"),
            (None, None) => {
                if self.is_not_root == Some(true) {
                    notes.push(at.note("nobody looks which user the image names: say runAsUser to be sure"));
                }
                Ok(None)
            }
        }
    }
}

/// A container's ports by name, in their order.
pub(super) type Ports<'a> = Vec<(Option<&'a str>, u16)>;

/// Reads it into a service, and gives its ports.
pub(super) fn container<'a>(
    at: &At<'a>,
    mut user: User,
    volumes: &BTreeMap<String, Kept<'_>>,
    (compose, service): (&mut Compose, &mut Service),
    walk: &mut Walk<'_>,
) -> Result<Ports<'a>, Broken> {
    let (mut ports, mut secured) = (Vec::new(), None);
    let (mut command, mut args, mut env, mut from, mut probes) = (None, None, None, None, [None, None, None]);
    for (key, at) in at.fields_or(&keys::CONTAINER, &mut walk.notes, "")? {
        match key {
            "image" => service.image = Some(at.read(image, "an image, as \"nginx:1.27\"")?),
            "command" => command = Some(at),
            "args" => args = Some(at),
            "env" => env = Some(at),
            "envFrom" => from = Some(at),
            "ports" => ports = listed(&at, &mut walk.notes)?,
            "resources" => resources(&at, service, &mut walk.notes)?,
            "livenessProbe" => probes[0] = Some(at),
            "readinessProbe" => probes[1] = Some(at),
            "startupProbe" => probes[2] = Some(at),
            "securityContext" => {
                security(&at, &mut user, service, &mut walk.notes)?;
                secured = Some(at);
            }
            "workingDir" => {
                let rule = "a path inside of the container that begins with /";
                service.working_dir = Some(at.read(|text| text.starts_with('/').then(|| text.to_owned()), rule)?);
            }
            "volumeMounts" => mounts(&at, volumes, walk.stores, (&mut *compose, &mut *service), &mut walk.notes)?,
            _ => _ = at.said()?,
        }
    }
    if service.image.is_none() {
        return Err(at.broken("a container has an image", None));
    }
    service.user = user.text(secured.as_ref().unwrap_or(at), &mut walk.notes)?;
    let (stores, room, notes) = (walk.stores, &mut walk.room, &mut walk.notes);
    service.environment = variables(env.as_ref(), from.as_ref(), stores, (&mut *room, &mut *notes))?;
    service.entrypoint = words(command.as_ref(), service, room)?;
    service.command = words(args.as_ref(), service, room)?;
    service.health = probe::health(probes.each_ref().map(Option::as_ref), notes)?;
    Ok(ports)
}

/// Words with the container's variables.
fn words(at: Option<&At<'_>>, service: &Service, room: &mut usize) -> Result<Option<Vec<String>>, Broken> {
    let Some(at) = at else { return Ok(None) };
    let word =
        |text: String| fill(&text, &service.environment, room).map_err(|fault| fault.at(None, at.line, &at.path));
    let words = at.texts()?.into_iter().map(word).collect::<Result<Vec<_>, _>>()?;
    // No words are as none said, as they are to Kubernetes.
    Ok(Some(words).filter(|words| !words.is_empty()))
}

fn listed<'a>(at: &At<'a>, notes: &mut Vec<Note>) -> Result<Ports<'a>, Broken> {
    let mut ports: Ports<'a> = Vec::new();
    for item in at.items()? {
        let (mut name, mut port) = (None, None);
        for (key, at) in item.fields_or(&keys::PORT, notes, "")? {
            match key {
                "name" => name = Some(at.said()?),
                "containerPort" => port = Some(at.number(1..=65_535)? as u16),
                _ => tcp(&at)?,
            }
        }
        let port = port.ok_or_else(|| item.broken("a port has a containerPort", None))?;
        if name.is_some() && ports.iter().any(|(other, _)| *other == name) {
            return Err(item.broken("there is a port of that name before: call one of them otherwise", None));
        }
        if ports.len() >= PORTS_MAX {
            return Err(item.broken(format!("at most {PORTS_MAX} ports"), None));
        }
        ports.push((name, port));
    }
    Ok(ports)
}

pub(super) fn tcp(at: &At<'_>) -> Result<(), Broken> {
    if at.scalar() == Some("TCP") {
        return Ok(());
    }
    let rule = "streams are carried to a container, so its ports are TCP: remove it where the workload does without";
    Err(at.broken(rule, None))
}

fn resources(at: &At<'_>, service: &mut Service, notes: &mut Vec<Note>) -> Result<(), Broken> {
    let (mut limits, mut requests) = (None, None);
    for (key, at) in at.fields_or(&keys::RESOURCES, notes, "")? {
        match key {
            "limits" => limits = Some(at),
            _ => requests = Some(at),
        }
    }
    // Where both are said the limit is what a replica has, and is paid for.
    for at in [requests, limits].into_iter().flatten() {
        for (key, at) in at.fields_or(&keys::AMOUNTS, notes, "")? {
            let word = match key {
                "cpu" => {
                    service.cpu_milli = Some(at.read(quantity::milli, quantity::CPU)?).filter(|milli| *milli > 0);
                    "cpu"
                }
                "memory" => {
                    service.memory_bytes = memory(&at)?;
                    "memory"
                }
                _ => {
                    let bytes = at.read(quantity::bytes, quantity::SIZE)?;
                    let whole = bytes.div_ceil(MIB).checked_mul(MIB).ok_or_else(|| at.broken(quantity::SIZE, None))?;
                    service.hodei.terms.disk = (bytes > 0).then(|| size(whole));
                    "disk"
                }
            };
            service.hodei.lines.insert(word.into(), at.line);
        }
    }
    Ok(())
}

fn memory(at: &At<'_>) -> Result<Option<u64>, Broken> {
    let bytes = at.read(quantity::bytes, quantity::SIZE)?;
    // 128m is an eighth of a byte: 128M was meant.
    if bytes > 0 && bytes < MIB || bytes > u64::MAX - MIB {
        let nearest = at.scalar().and_then(|text| text.strip_suffix('m')).map(|number| format!("\"{number}Mi\""));
        return Err(at.broken("bytes, from 1Mi", nearest));
    }
    Ok(Some(bytes).filter(|bytes| *bytes > 0))
}

fn security(at: &At<'_>, user: &mut User, service: &mut Service, notes: &mut Vec<Note>) -> Result<(), Broken> {
    for (key, at) in at.fields_or(&keys::SECURITY, notes, "")? {
        match key {
            "readOnlyRootFilesystem" => service.is_read_only = at.flag()?,
            "capabilities" => {
                for (_, at) in at.fields_or(&keys::CAPABILITIES, notes, "")? {
                    capabilities(&at)?;
                }
            }
            "allowPrivilegeEscalation" => _ = at.flag()?,
            _ => user.take(key, &at, notes)?,
        }
    }
    Ok(())
}
