//! Read Services and Ingresses: by which names and ports workloads are reached, and which answer at the door.

use super::{
    super::{
        at::At,
        broken::{Broken, Note, quote},
        port::{Port, speaks},
        store::Attachment,
    },
    Walk,
    container::tcp,
    keys,
    object::{Object, pairs},
    workload::Workload,
};
use crate::nearest::nearest;
use std::collections::{BTreeMap, BTreeSet};

/// A Service of these files.
struct Front<'a> {
    name: &'a str,
    line: usize,
    /// Which of the workloads it chooses.
    chosen: usize,
    ports: Vec<Heard<'a>>,
    is_published: bool,
}

/// A port of a Service.
struct Heard<'a> {
    at: At<'a>,
    name: Option<&'a str>,
    port: u16,
    target: u16,
    protocol: Option<&'a str>,
}

/// Joins workloads by Services, and publishes those that Ingresses and types tell.
pub(super) fn join(
    (services, ingresses): (&[&Object<'_>], &[&Object<'_>]),
    workloads: &mut [Workload<'_>],
    walk: &mut Walk<'_>,
) -> Result<(), Broken> {
    let mut fronts = Vec::new();
    for object in services {
        fronts.push(service(object, workloads, walk)?);
    }
    for front in &fronts {
        let mut others = workloads.iter().enumerate().filter(|(at, _)| *at != front.chosen);
        if let Some((_, other)) = others.find(|(_, other)| other.service.name == front.name) {
            let name = front.name;
            let rule =
                format!("{}/{name} is called so too, and a name is one workload's: call one otherwise", other.kind);
            let key = format!("Service/{name}");
            return Err(Broken { file: None, line: front.line, key, found: quote(name), rule, nearest: None });
        }
    }
    for front in fronts.iter().filter(|front| front.is_published) {
        for heard in &front.ports {
            publish(&heard.at, heard.protocol, heard.target, &mut workloads[front.chosen])?;
        }
    }
    let mut backed = BTreeSet::new();
    for object in ingresses {
        ingress(object, &fronts, workloads, (&mut backed, &mut *walk))?;
    }
    for front in &fronts {
        let is_alone = workloads.len() == 1;
        let workload = &mut workloads[front.chosen].service;
        for heard in front.ports.iter().filter(|heard| heard.port != heard.target) {
            let words =
                format!("others reach it at {}, the port of the container, not at {}", heard.target, heard.port);
            if !is_alone && !front.is_published && !backed.contains(front.name) {
                let rule = format!("not yet: {words}: say port: {} here and where it is asked", heard.target);
                return Err(Broken { found: heard.port.to_string(), ..heard.at.broken(rule, None) });
            }
            walk.notes.push(heard.at.note(&words));
        }
        let new = front.ports.iter().map(|heard| heard.target);
        workload.expose = workload.expose.iter().copied().chain(new).collect::<BTreeSet<_>>().into_iter().collect();
        if front.name != workload.name {
            let line = front.line;
            if workload.networks.is_empty() {
                workload.networks.push(Attachment { line, network: "default".into(), aliases: Vec::new() });
            }
            workload.networks[0].aliases.push(front.name.to_owned());
        }
    }
    let names: Vec<&str> = fronts.iter().map(|front| front.name).collect();
    dotted(&names, workloads, &mut walk.notes);
    Ok(())
}

/// Tells of names with dots, which nobody answers here.
fn dotted(names: &[&str], workloads: &[Workload<'_>], notes: &mut Vec<Note>) {
    for workload in workloads {
        let service = &workload.service;
        let words = [&service.entrypoint, &service.command].into_iter().flatten().flatten();
        let texts: Vec<&String> = service.environment.values().chain(words).collect();
        let is_said = |name: &&&str| {
            let dotted = format!("{name}.");
            texts.iter().any(|text| {
                text.match_indices(&dotted).any(|(at, _)| {
                    let before = text[..at].chars().next_back();
                    let after = text[at + dotted.len()..]
                        .split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '-');
                    let mut after = after.filter(|part| !part.is_empty());
                    let is_service =
                        after.next().is_some() && after.next() == Some("svc") || text[at..].contains(".svc");
                    is_service
                        && before.is_none_or(|letter| !letter.is_ascii_alphanumeric() && !matches!(letter, '-' | '.'))
                })
            })
        };
        for name in names.iter().filter(is_said) {
            let words =
                format!("{name} is reached by that name alone, not with a namespace or .svc behind it: say {name}");
            notes.push(workload.at.note(&words));
        }
    }
}

fn service<'a>(object: &Object<'a>, workloads: &[Workload<'_>], walk: &mut Walk<'_>) -> Result<Front<'a>, Broken> {
    let spec = object.must_spec(&mut walk.notes)?;
    let (mut selector, mut listed, mut is_published) = (None, None, false);
    for (key, at) in spec.fields_or(&keys::SERVICE, &mut walk.notes, "")? {
        match key {
            "type" if at.scalar() == Some("ExternalName") => {
                return Err(at.broken("nothing outside is reached: remove it", None));
            }
            "type" => {
                is_published = at.one_of(&[("ClusterIP", false), ("NodePort", true), ("LoadBalancer", true)])?;
            }
            "selector" => selector = Some(at),
            "ports" => listed = Some(at),
            _ => _ = at.text()?,
        }
    }
    let selector = selector.ok_or_else(|| spec.broken("a Service chooses a workload by a selector", None))?;
    let wanted = pairs(&selector)?;
    let fits = |workload: &Workload<'_>| wanted.iter().all(|(name, value)| workload.labels.get(name) == Some(value));
    let found: Vec<usize> = (0..workloads.len()).filter(|at| !wanted.is_empty() && fits(&workloads[*at])).collect();
    let [chosen] = found[..] else {
        let labels: Vec<String> = wanted.iter().map(|(name, value)| format!("{name}: {value}")).collect();
        let names: Vec<&str> = found.iter().map(|at| workloads[*at].service.name.as_str()).collect();
        let chosen = if names.is_empty() { "none".into() } else { names.join(", ") };
        let rule = format!("a Service chooses one workload of these files by its pod's labels; this chooses {chosen}");
        return Err(Broken { found: format!("{{{}}}", labels.join(", ")), ..selector.broken(rule, None) });
    };
    let mut ports: Vec<Heard<'a>> = Vec::new();
    for item in listed.as_ref().map(At::items).transpose()?.into_iter().flatten() {
        let heard = heard(&item, &workloads[chosen], &mut walk.notes)?;
        if ports.iter().any(|other| other.port == heard.port || other.name.is_some() && other.name == heard.name) {
            return Err(item.broken("a port of another number and name than those before", None));
        }
        ports.push(heard);
    }
    if ports.is_empty() {
        return Err(spec.broken("a Service has ports", None));
    }
    Ok(Front { name: object.name, line: object.at.line, chosen, ports, is_published })
}

fn heard<'a>(item: &At<'a>, workload: &Workload<'_>, notes: &mut Vec<Note>) -> Result<Heard<'a>, Broken> {
    let (mut name, mut port, mut target, mut protocol) = (None, None, None, None);
    for (key, at) in item.fields_or(&keys::SERVICE_PORT, notes, "")? {
        match key {
            "name" => name = Some(at.said()?),
            "port" => port = Some(at.number(1..=65_535)? as u16),
            "targetPort" => target = Some(at),
            "protocol" => tcp(&at)?,
            _ => protocol = Some(at.said()?),
        }
    }
    let port = port.ok_or_else(|| item.broken("a port of a Service has port", None))?;
    let is_number = |at: &At<'_>| at.scalar().is_some_and(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
    let target = match &target {
        None => port,
        Some(at) if is_number(at) => at.number(1..=65_535)? as u16,
        Some(at) => {
            let said = at.said()?;
            let found = workload.ports.iter().find(|(name, _)| *name == Some(said)).map(|(_, port)| *port);
            let names: Vec<&str> = workload.ports.iter().filter_map(|(name, _)| *name).collect();
            let rule = format!("a port of {}'s container, by number or name", workload.service.name);
            found.ok_or_else(|| at.broken(rule, nearest(said, &names)))?
        }
    };
    Ok(Heard { at: item.clone(), name, port, target, protocol })
}

/// Lets a workload answer HTTP at the door.
fn publish(at: &At<'_>, protocol: Option<&str>, target: u16, workload: &mut Workload<'_>) -> Result<(), Broken> {
    let ports = &mut workload.service.ports;
    if ports.iter().any(|port| port.target == target) {
        return Ok(());
    }
    if let Some(first) = ports.first() {
        let rule = format!(
            "one port of a workload is published, and {} is: keep this one in a Service of type ClusterIP",
            first.target
        );
        return Err(Broken { found: target.to_string(), ..at.broken(rule, None) });
    }
    let other = match protocol {
        None => speaks(target),
        Some("http") => None,
        Some(said) => Some(said),
    };
    if let Some(other) = other {
        let rule =
            "only HTTP is published so far: keep it in a Service of type ClusterIP; or say appProtocol: http, if it is";
        return Err(Broken { found: format!("{target}, {other}"), ..at.broken(rule, None) });
    }
    let app_protocol = protocol.map(str::to_owned);
    ports.push(Port { line: at.line, host: None, published: None, target, name: None, app_protocol });
    Ok(())
}

fn ingress<'a>(
    object: &Object<'_>,
    fronts: &[Front<'a>],
    workloads: &mut [Workload<'_>],
    (backed, walk): (&mut BTreeSet<&'a str>, &mut Walk<'_>),
) -> Result<(), Broken> {
    let spec = object.must_spec(&mut walk.notes)?;
    let mut backends = Vec::new();
    for (key, at) in spec.fields_or(&keys::INGRESS, &mut walk.notes, "")? {
        if key == "defaultBackend" {
            backends.push(at);
            continue;
        }
        for rule in at.items()? {
            for (key, at) in rule.fields_or(&keys::RULE, &mut walk.notes, "")? {
                if key == "host" {
                    at.said()?;
                    continue;
                }
                for (_, at) in at.fields_or(&keys::HTTP, &mut walk.notes, "")? {
                    for item in at.items()? {
                        backends.push(path(&item, &mut walk.notes)?);
                    }
                }
            }
        }
    }
    if backends.is_empty() {
        return Err(spec.broken("an Ingress has a backend", None));
    }
    for at in backends {
        for (_, at) in at.fields_or(&keys::BACKEND, &mut walk.notes, "")? {
            let (front, heard) = backend(&at, fronts, &mut walk.notes)?;
            // What an Ingress leads to speaks HTTP, whatever its port's number is used for elsewhere.
            publish(&at, heard.protocol.or(Some("http")), heard.target, &mut workloads[front.chosen])?;
            backed.insert(front.name);
        }
    }
    Ok(())
}

/// The backend of a path, which must be the whole app.
fn path<'a>(item: &At<'a>, notes: &mut Vec<Note>) -> Result<At<'a>, Broken> {
    let mut backend = None;
    for (key, at) in item.fields_or(&keys::PATH, notes, "")? {
        match key {
            "path" if matches!(at.scalar(), Some("/" | "")) => {}
            "path" => {
                let rule =
                    "an app has a name of its own, and all of its paths: give it a host of its own, with path: /";
                return Err(at.broken(rule, Some("\"/\"".into())));
            }
            "pathType" => at.one_of(&[("Prefix", ()), ("ImplementationSpecific", ())])?,
            _ => backend = Some(at),
        }
    }
    backend.ok_or_else(|| item.broken("a path has a backend", None))
}

fn backend<'f, 'a>(
    at: &At<'_>,
    fronts: &'f [Front<'a>],
    notes: &mut Vec<Note>,
) -> Result<(&'f Front<'a>, &'f Heard<'a>), Broken> {
    let (mut name, mut port) = (None, None);
    for (key, at) in at.fields_or(&keys::BACKEND_SERVICE, notes, "")? {
        match key {
            "name" => name = Some(at),
            _ => port = Some((at.fields_or(&keys::BACKEND_PORT, notes, "")?, at)),
        }
    }
    let (Some(name), Some((port, whole))) = (name, port) else {
        return Err(at.broken("a backend has service.name and service.port", None));
    };
    let by_name: BTreeMap<&str, &Front<'_>> = fronts.iter().map(|front| (front.name, front)).collect();
    let names: Vec<&str> = by_name.keys().copied().collect();
    let unknown = || name.broken("a Service of these files", nearest(name.scalar().unwrap_or_default(), &names));
    let front = fronts.iter().find(|front| Some(front.name) == name.scalar()).ok_or_else(unknown)?;
    let [(key, said)] = port.as_slice() else {
        return Err(whole.broken("one of number and name", None));
    };
    let number = if *key == "number" { Some(said.number(1..=65_535)? as u16) } else { None };
    let found = front.ports.iter().find(|heard| match number {
        Some(number) => heard.port == number,
        None => heard.name.is_some() && heard.name == said.scalar(),
    });
    let first = front.ports.first().map(|heard| heard.port.to_string());
    let heard = found.ok_or_else(|| said.broken(format!("a port of Service/{}", front.name), first))?;
    Ok((front, heard))
}
