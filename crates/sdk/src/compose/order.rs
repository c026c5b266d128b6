//! Choose which services are deployed, and which begin before which.

use super::{
    Service,
    at::At,
    broken::{Broken, Fault, Note},
    keys,
};
use crate::nearest::nearest;
use std::collections::{BTreeMap, BTreeSet};

/// A service that is waited for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Depends {
    pub line: usize,
    pub service: String,
    pub condition: Condition,
    /// Whether it must be there at all.
    pub is_required: bool,
}

/// What is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Condition {
    Started,
    Healthy,
    Completed,
}

pub(super) fn depends(at: &At<'_>, notes: &mut Vec<Note>) -> Result<Vec<Depends>, Broken> {
    let new = |at: &At<'_>, service: &str| Depends {
        line: at.line,
        service: service.to_owned(),
        condition: Condition::Started,
        is_required: true,
    };
    if !at.is_map() {
        return at.items()?.iter().map(|at| Ok(new(at, at.said()?))).collect();
    }
    let mut all = Vec::new();
    for (name, at) in at.entries()? {
        let mut depends = new(&at, name);
        for (key, at) in at.fields(&keys::DEPENDS, notes)? {
            match key {
                "condition" => {
                    depends.condition = at.one_of(&[
                        ("service_started", Condition::Started),
                        ("service_healthy", Condition::Healthy),
                        ("service_completed_successfully", Condition::Completed),
                    ])?;
                }
                _ => depends.is_required = at.flag()?,
            }
        }
        all.push(depends);
    }
    Ok(all)
}

/// A service as far as it could be read: one that is not deployed may be beyond the subset.
pub(super) struct Found {
    pub(super) name: String,
    pub(super) profiles: Vec<String>,
    pub(super) service: Result<Service, Broken>,
    pub(super) notes: Vec<Note>,
}

/// The services that are deployed, those that others wait for first, and what is noted of them.
pub(super) fn choose(
    found: Vec<Found>,
    profiles: &[String],
    named: &[String],
) -> Result<(Vec<Service>, Vec<Note>), Broken> {
    let names: Vec<String> = found.iter().map(|found| found.name.clone()).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    if let Some(name) = named.iter().find(|name| !names.contains(&name.as_str())) {
        let mut broken = Fault::new(name, "a service of this file").at(None, 1, "services");
        broken.nearest = nearest(name, &names);
        return Err(broken);
    }
    let is_active = |found: &Found| {
        let is_chosen = |profile: &String| profiles.iter().any(|chosen| chosen == profile || chosen == "*");
        found.profiles.is_empty() || found.profiles.iter().any(is_chosen)
    };
    let active: BTreeSet<String> =
        found.iter().filter(|found| is_active(found)).map(|found| found.name.clone()).collect();
    let first: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let first =
        first.into_iter().filter(|name| if named.is_empty() { active.contains(name) } else { named.contains(name) });
    let mut wanted: Vec<String> = first.collect();
    let mut by_name: BTreeMap<String, Found> = found.into_iter().map(|found| (found.name.clone(), found)).collect();
    let (mut services, mut notes) = (Vec::new(), Vec::new());
    let mut met: BTreeSet<String> = wanted.iter().cloned().collect();
    let mut at = 0;
    while let Some(found) = wanted.get(at).and_then(|name| by_name.remove(name)) {
        at += 1;
        let mut service = found.service?;
        let mut depends = Vec::new();
        for on in std::mem::take(&mut service.depends_on) {
            let key = format!("services.{}.depends_on", service.name);
            if !names.contains(&on.service.as_str()) && on.is_required {
                let mut broken = Fault::new(&on.service, "a service of this file").at(None, on.line, &key);
                broken.nearest = nearest(&on.service, &names);
                return Err(broken);
            }
            let is_known = names.contains(&on.service.as_str());
            let is_active = met.contains(&on.service) || active.contains(&on.service);
            if is_known && (is_active || on.is_required && !named.is_empty()) {
                if met.insert(on.service.clone()) {
                    wanted.push(on.service.clone());
                }
                depends.push(on);
            } else if on.is_required {
                let rule = "it is of a profile that is not chosen: choose its profile, or say required: false";
                return Err(Fault::new(&on.service, rule).at(None, on.line, &key));
            }
        }
        service.depends_on = depends;
        notes.extend(found.notes);
        services.push(service);
    }
    // Of services that could begin at the same time the one that stands first in the file.
    services.sort_by_key(|service| service.line);
    Ok((sorted(services)?, notes))
}

/// Those that others wait for first.
fn sorted(services: Vec<Service>) -> Result<Vec<Service>, Broken> {
    let mut rest = services;
    let mut done: BTreeSet<String> = BTreeSet::new();
    let mut sorted = Vec::new();
    while !rest.is_empty() {
        let is_free = |service: &Service| service.depends_on.iter().all(|on| done.contains(&on.service));
        let Some(place) = rest.iter().position(is_free) else { return Err(circle(&rest, &done)) };
        let service = rest.remove(place);
        done.insert(service.name.clone());
        sorted.push(service);
    }
    Ok(sorted)
}

/// A circle of services each of which waits for the next: there is one, for each waits for one that is left.
fn circle(rest: &[Service], done: &BTreeSet<String>) -> Broken {
    let next = |name: &str| {
        let service = rest.iter().find(|service| service.name == name)?;
        let on = service.depends_on.iter().find(|on| !done.contains(&on.service))?;
        Some((on.service.as_str(), on.line))
    };
    let mut path: Vec<(&str, usize)> = Vec::new();
    let mut name = rest.first().map_or("", |service| service.name.as_str());
    while !path.iter().any(|(met, _)| *met == name) {
        let Some((on, line)) = next(name) else { break };
        path.push((name, line));
        name = on;
    }
    let from = path.iter().position(|(met, _)| *met == name).unwrap_or(0);
    let words: Vec<String> = path[from..].iter().map(|(name, line)| format!("{name} (line {line})")).collect();
    let line = path.get(from).map_or(1, |(_, line)| *line);
    let found = format!("a circle, {} → {name}", words.join(" → "));
    Fault { found, rule: "some service begins without waiting for the others: remove one of these".into() }.at(
        None,
        line,
        &format!("services.{name}.depends_on"),
    )
}
